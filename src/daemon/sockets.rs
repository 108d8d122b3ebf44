//! The listening sockets of `[socket:NAME]` sections: opened once by the daemon, inherited by the
//! workers under the same descriptor number. What the options mean is `circus.sockets`'s.

mod making;
mod place;
mod yielding;

pub use making::{SocketError, can_make_file, try_out};
pub use place::{Place, collide, is_bound_at, overlap, place_of};
pub use yielding::Yielding;

use crate::config::{SocketConfig, SocketFamily};
use making::{above_standard_streams, bind_and_listen, clear_path, fail, new_socket, settle};
use place::{abstract_name, bound_place, type_of};
use serde_json::{Map, Value};
use socket2::{SockRef, Socket};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};

/// An open socket of the daemon, under the name and with the options of a section.
#[derive(Debug)]
pub struct ListenSocket {
    config: SocketConfig,
    /// Sections may change while the socket stays: see [`ListenSocket::succeeded_by`].
    open: Arc<OpenSocket>,
}

/// The socket itself. Dropping it closes it and removes its file, if the file is still the one it made.
#[derive(Debug)]
struct OpenSocket {
    fd: OwnedFd,
    place: Place,
    /// Device and inode of the file a Unix socket made.
    file: Option<(u64, u64)>,
    /// A service manager has bound it, and has it as well.
    handed: bool,
    /// A socket of so_reuseport that waits for the first connection, and then for the worker that gets it.
    standby: Mutex<Option<OwnedFd>>,
}

impl ListenSocket {
    /// Opens the socket of a section: resolves, binds and listens.
    ///
    /// With `so_reuseport` the daemon's own socket stays unbound, because it would get a share of the
    /// connections that nobody accepts; [`ListenSocket::bind_reuseport`] makes one for each worker.
    /// (A Unix socket has no such sharing: there the option has no effect.)
    ///
    /// # Errors
    /// A host that does not resolve, an unknown protocol, an address or file in use, no permission.
    pub fn open(config: &SocketConfig) -> Result<ListenSocket, SocketError> {
        ListenSocket::open_at(config, place_of(config)?, false)
    }

    /// As [`ListenSocket::open`], at a place that [`place_of`] has found before: nothing has to be resolved. `beside`
    /// says that sockets of the daemon which are about to go are in the way, see [`Yielding`].
    ///
    /// # Errors
    /// As [`ListenSocket::open`].
    pub fn open_at(
        config: &SocketConfig,
        place: Place,
        beside: bool,
    ) -> Result<ListenSocket, SocketError> {
        let socket = above_standard_streams(config, new_socket(config, &place)?)?;
        let mut open = OpenSocket {
            fd: socket,
            place,
            file: None,
            handed: false,
            standby: Mutex::default(),
        };
        if !shares_port(config, &open) {
            open.bind(config, beside)?;
        }
        Ok(ListenSocket {
            config: config.clone(),
            open: Arc::new(open),
        })
    }

    /// Takes a socket that a service manager has bound as the socket of a section. Its address is what it is; the queue
    /// and the blocking mode become the section's.
    ///
    /// # Errors
    /// It is of another family or type than the section says.
    pub fn adopt(
        config: &SocketConfig,
        wanted: &Place,
        socket: &OwnedFd,
    ) -> Result<ListenSocket, SocketError> {
        let refuse = |what: &str| {
            let name = &config.name;
            let text = format!("the socket {name} that the service manager has handed over {what}");
            SocketError::refused(config, text)
        };
        let borrowed = SockRef::from(socket);
        let kind = borrowed.r#type().ok();
        if kind != Some(type_of(config.kind)) {
            return Err(refuse("is not of the type that its section says"));
        }
        let place =
            bound_place(&borrowed).ok_or_else(|| refuse("has no address that is known here"))?;
        let family = match &place {
            Place::Net(SocketAddr::V4(_)) => SocketFamily::Inet,
            Place::Net(SocketAddr::V6(_)) => SocketFamily::Inet6,
            Place::File(_) => SocketFamily::Unix,
        };
        if family != config.family {
            return Err(refuse("is not of the family that its section says"));
        }
        if !is_bound_at(socket, config.kind, wanted) {
            tracing::warn!(
                "socket {} is the one that the service manager has handed over, at {place}, and not what its section says",
                config.name
            );
        }
        let duplicate = socket
            .try_clone()
            .map_err(|error| fail(config, "cannot take over", "", &error))?;
        settle(config, &SockRef::from(&duplicate))
            .map_err(|error| fail(config, "cannot listen on", "", &error))?;
        Ok(ListenSocket {
            config: config.clone(),
            open: Arc::new(OpenSocket {
                fd: duplicate,
                place,
                file: None,
                handed: true,
                standby: Mutex::default(),
            }),
        })
    }

    /// Whether this is that very socket of the service manager.
    pub fn is_of(&self, handed: &OwnedFd) -> bool {
        self.open.handed && is_bound_at(handed, self.config.kind, &self.open.place)
    }

    /// The name, as in the section.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The section it was opened from.
    pub fn config(&self) -> &SocketConfig {
        &self.config
    }

    /// The descriptor, the same number here and in the workers; at least 3.
    pub fn fd(&self) -> RawFd {
        self.open.fd.as_raw_fd()
    }

    /// Whether each worker needs a socket of its own from [`ListenSocket::bind_reuseport`].
    pub fn reuses_port(&self) -> bool {
        shares_port(&self.config, &self.open)
    }

    /// A new socket bound to the same address, for one worker. Keep it until the worker has been
    /// spawned, then drop it.
    ///
    /// # Errors
    /// As [`ListenSocket::open`].
    pub fn bind_reuseport(&self) -> Result<OwnedFd, SocketError> {
        match self.standby().take() {
            Some(standby) => Ok(standby),
            None => self.bind_another(),
        }
    }

    fn standby(&self) -> std::sync::MutexGuard<'_, Option<OwnedFd>> {
        self.open
            .standby
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A duplicate that becomes readable when somebody connects. With so_reuseport a socket is bound for it, which the
    /// next [`ListenSocket::bind_reuseport`] hands out with the connections that have come meanwhile.
    ///
    /// # Errors
    /// As [`ListenSocket::open`].
    pub fn watchable(&self) -> io::Result<OwnedFd> {
        if !self.reuses_port() {
            return self.open.fd.try_clone();
        }
        let mut standby = self.standby();
        if standby.is_none() {
            *standby = Some(self.bind_another().map_err(io::Error::other)?);
        }
        standby
            .as_ref()
            .map_or_else(|| self.open.fd.try_clone(), OwnedFd::try_clone)
    }

    /// Nobody waits for a connection any more: what [`ListenSocket::watchable`] has bound is closed.
    pub fn stand_down(&self) {
        self.standby().take();
    }

    fn bind_another(&self) -> Result<OwnedFd, SocketError> {
        let place = &self.open.place;
        let socket = above_standard_streams(&self.config, new_socket(&self.config, place)?)?;
        let socket = Socket::from(socket);
        bind_and_listen(&self.config, &socket, place)?;
        Ok(socket.into())
    }

    /// Whether a section read again asks for exactly this socket: then it can stay open.
    pub fn is_same(&self, config: &SocketConfig) -> bool {
        self.config.raw == config.raw && self.config == *config
    }

    /// Whether this socket is where a section wants one; `place` is what its host stands for, where that was found out.
    fn is_where(&self, config: &SocketConfig, place: Option<&Place>) -> bool {
        let old = &self.config;
        let same_words =
            (&old.host, old.port, &old.path) == (&config.host, config.port, &config.path);
        (same_words || place == Some(&self.open.place))
            && (old.family, old.kind, &old.proto) == (config.family, config.kind, &config.proto)
    }

    /// Whether this socket can be what a section asks for, while workers use it, and with its name and options changed.
    /// `place` is what the host of the section stands for, where that was found out.
    pub fn can_become(&self, config: &SocketConfig, place: Option<&Place>) -> bool {
        if self.open.handed || !self.is_where(config, place) {
            return false;
        }
        let old = &self.config;
        match &self.open.place {
            // each of its workers has a socket of its own
            Place::Net(_) if old.so_reuseport || config.so_reuseport => false,
            Place::Net(_) => old.interface == config.interface,
            Place::File(path) => abstract_name(path).is_some() || old.umask == config.umask,
        }
    }

    /// Whether this socket, or one of those that its workers have, keeps another one from this place.
    pub fn is_in_the_way_of(&self, place: &Place) -> bool {
        match (&self.open.place, place) {
            _ if self.open.handed => false,
            (Place::Net(there), Place::Net(wanted)) => overlap(*there, *wanted),
            (Place::File(_), Place::File(path)) => {
                abstract_name(path).is_none() && self.open.has_its_file(path)
            }
            _ => false,
        }
    }

    /// Whether its address says which one it is: a port that the system chose is nobody's in particular.
    pub fn has_fixed_address(&self) -> bool {
        self.config.port != 0 || matches!(self.open.place, Place::File(_))
    }

    /// This socket as what another section asks for; see [`ListenSocket::can_become`]. The workers that have it share the
    /// change.
    ///
    /// # Errors
    /// The system does not do it; the socket stays as it is as far as possible.
    pub fn succeeded_by(&self, config: &SocketConfig) -> Result<ListenSocket, SocketError> {
        settle(config, &SockRef::from(&self.open.fd))
            .map_err(|error| fail(config, "cannot change", "", &error))?;
        Ok(ListenSocket {
            config: config.clone(),
            open: self.open.clone(),
        })
    }

    /// Ends this socket for everybody who has it: connections are refused from now on, and do not wait in the queue of
    /// a worker that inherited the socket and never looks at it.
    pub fn retire(&self) {
        if self.open.handed {
            return; // the service manager goes on listening
        }
        // a datagram socket is not connected and says so; it has no queue to wait in
        let _ = SockRef::from(&self.open.fd).shutdown(std::net::Shutdown::Both);
    }

    /// The reply of Circus's `listsockets` for this socket. Host and port are the real ones.
    pub fn info(&self) -> Map<String, Value> {
        let mut info = Map::new();
        info.insert("fd".into(), self.fd().into());
        info.insert("name".into(), self.name().into());
        info.insert("backlog".into(), self.config.backlog.into());
        match &self.open.place {
            Place::Net(address) => {
                info.insert("host".into(), address.ip().to_string().into());
                info.insert("port".into(), address.port().into());
            }
            Place::File(path) => {
                info.insert("path".into(), path.as_str().into());
            }
        }
        info
    }

    /// Where it is bound, as circusd-stats tells it: `HOST:PORT`, without brackets around an IPv6 address, or a path.
    pub fn plain_location(&self) -> String {
        match &self.open.place {
            Place::Net(address) => format!("{}:{}", address.ip(), address.port()),
            Place::File(path) => path.clone(),
        }
    }

    /// Where it is bound.
    pub fn place(&self) -> &Place {
        &self.open.place
    }

    /// Where it is bound: `127.0.0.1:8000` or a path.
    pub fn location(&self) -> String {
        self.open.place.to_string()
    }
}

/// Whether each worker has a socket of its own on the port, and the daemon none.
fn shares_port(config: &SocketConfig, open: &OpenSocket) -> bool {
    config.so_reuseport && !open.handed && matches!(open.place, Place::Net(_))
}

impl OpenSocket {
    fn bind(&mut self, config: &SocketConfig, beside: bool) -> Result<(), SocketError> {
        let socket = self.fd.try_clone();
        let socket = socket.map_err(|error| fail(config, "cannot open", "", &error))?;
        let socket = Socket::from(socket);
        let in_file = matches!(&self.place, Place::File(path) if abstract_name(path).is_none());
        let share = |shared: bool| {
            socket
                .set_reuse_port(shared)
                .map_err(|error| fail(config, "cannot set the options of", "", &error))
        };
        match &self.place {
            Place::File(path) if in_file => clear_path(config, path)?,
            // with those that have agreed to it; whoever comes later finds the address taken as ever
            Place::Net(_) if beside => share(true)?,
            _ => {}
        }
        bind_and_listen(config, &socket, &self.place)?;
        match &self.place {
            Place::File(path) if in_file => {
                let made = std::fs::symlink_metadata(path);
                self.file = made.ok().map(|made| (made.dev(), made.ino()));
            }
            Place::File(_) => {}
            Place::Net(_) => {
                if beside {
                    share(false)?;
                }
                let bound = socket.local_addr().ok().and_then(|bound| bound.as_socket());
                if let Some(bound) = bound {
                    self.place = Place::Net(bound);
                }
            }
        }
        Ok(())
    }

    /// Whether the file at its path is the one it made, and not what another program has put there meanwhile.
    fn has_its_file(&self, path: &str) -> bool {
        let now = std::fs::symlink_metadata(path).ok();
        self.file.is_some() && now.map(|now| (now.dev(), now.ino())) == self.file
    }
}

impl AsFd for ListenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.open.fd.as_fd()
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        if let Place::File(path) = &self.place
            && self.has_its_file(path)
        {
            let _ = std::fs::remove_file(path); // nobody to tell
        }
    }
}

#[cfg(test)]
mod tests;
