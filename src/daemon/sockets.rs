//! The listening sockets of `[socket:NAME]` sections: opened once by the daemon, inherited by the
//! workers under the same descriptor number. What the options mean is `circus.sockets`'s.

use super::holder;
use crate::config::{SocketConfig, SocketFamily, SocketType};
use serde_json::{Map, Value};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A socket that could not be made, bound or listened on. Its text says which, where, why, and who
/// holds the address if that can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketError {
    /// The name of the socket.
    pub name: String,
    /// The errno, 0 where the system was not the one to refuse.
    pub errno: i32,
    text: String,
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for SocketError {}

/// An open socket of the daemon.
///
/// Dropping it closes it and removes its file, if the file is still the one it made.
#[derive(Debug)]
pub struct ListenSocket {
    config: SocketConfig,
    socket: OwnedFd,
    place: Place,
    /// Device and inode of the file a Unix socket made.
    file: Option<(u64, u64)>,
    /// A service manager has bound it, and has it as well.
    handed: bool,
    /// A socket of so_reuseport that waits for the first connection, and then for the worker that gets it.
    standby: Mutex<Option<OwnedFd>>,
}

/// Where a socket goes, with its host resolved.
#[derive(Debug, Clone)]
pub enum Place {
    /// An address.
    Net(SocketAddr),
    /// The path of a Unix socket.
    File(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Net(address) => address.fmt(f),
            Place::File(path) => path.fmt(f),
        }
    }
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
        ListenSocket::open_at(config, place_of(config)?)
    }

    /// As [`ListenSocket::open`], at a place that [`place_of`] has found before: nothing has to be resolved.
    ///
    /// # Errors
    /// As [`ListenSocket::open`].
    pub fn open_at(config: &SocketConfig, place: Place) -> Result<ListenSocket, SocketError> {
        let socket = new_socket(config, &place)?;
        let mut opened = ListenSocket {
            config: config.clone(),
            socket: above_standard_streams(config, socket)?,
            place,
            file: None,
            handed: false,
            standby: Mutex::default(),
        };
        if !opened.reuses_port() {
            opened.bind()?;
        }
        Ok(opened)
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
        let refuse = |what: &str| SocketError {
            name: config.name.clone(),
            errno: 0,
            text: format!(
                "the socket {} that the service manager has handed over {what}",
                config.name
            ),
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
            socket: duplicate,
            place,
            file: None,
            handed: true,
            standby: Mutex::default(),
        })
    }

    /// Whether this is that very socket of the service manager.
    pub fn is_of(&self, handed: &OwnedFd) -> bool {
        self.handed && is_bound_at(handed, self.config.kind, &self.place)
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
        self.socket.as_raw_fd()
    }

    /// Whether each worker needs a socket of its own from [`ListenSocket::bind_reuseport`].
    pub fn reuses_port(&self) -> bool {
        self.config.so_reuseport && !self.handed && matches!(self.place, Place::Net(_))
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
        self.standby.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A duplicate that becomes readable when somebody connects. With so_reuseport a socket is bound for it, which the
    /// next [`ListenSocket::bind_reuseport`] hands out with the connections that have come meanwhile.
    ///
    /// # Errors
    /// As [`ListenSocket::open`].
    pub fn watchable(&self) -> io::Result<OwnedFd> {
        if !self.reuses_port() {
            return self.socket.try_clone();
        }
        let mut standby = self.standby();
        if standby.is_none() {
            *standby = Some(self.bind_another().map_err(io::Error::other)?);
        }
        standby
            .as_ref()
            .map_or_else(|| self.socket.try_clone(), OwnedFd::try_clone)
    }

    /// Nobody waits for a connection any more: what [`ListenSocket::watchable`] has bound is closed.
    pub fn stand_down(&self) {
        self.standby().take();
    }

    fn bind_another(&self) -> Result<OwnedFd, SocketError> {
        let socket = new_socket(&self.config, &self.place)?;
        let socket = above_standard_streams(&self.config, socket)?;
        let socket = Socket::from(socket);
        bind_and_listen(&self.config, &socket, &self.place)?;
        Ok(socket.into())
    }

    /// Whether a section read again asks for exactly this socket: then it can stay open.
    pub fn is_same(&self, config: &SocketConfig) -> bool {
        self.config.raw == config.raw && self.config == *config
    }

    /// Whether a section asks for this very address, so that its socket cannot be bound beside this one.
    pub fn is_in_the_way_of(&self, config: &SocketConfig) -> bool {
        let old = &self.config;
        !self.reuses_port()
            && !self.handed
            && (&old.host, old.port, &old.path) == (&config.host, config.port, &config.path)
            && (old.family, old.kind, &old.proto) == (config.family, config.kind, &config.proto)
    }

    /// Whether this socket can be changed into what a section asks for while workers use it.
    pub fn can_become(&self, config: &SocketConfig) -> bool {
        let with_its_own = SocketConfig {
            backlog: self.config.backlog,
            blocking: self.config.blocking,
            replace: self.config.replace,
            raw: self.config.raw.clone(),
            ..config.clone()
        };
        self.is_in_the_way_of(config) && with_its_own == self.config
    }

    /// Changes this socket into what a section asks for; see [`ListenSocket::can_become`]. The workers that have it
    /// share the change.
    ///
    /// # Errors
    /// The system does not do it; the socket stays as it is as far as possible.
    pub fn change_into(&mut self, config: SocketConfig) -> Result<(), SocketError> {
        settle(&config, &SockRef::from(&self.socket))
            .map_err(|error| fail(&config, "cannot change", "", &error))?;
        self.config = config;
        Ok(())
    }

    /// Ends this socket for everybody who has it: connections are refused from now on, and do not wait in the queue of
    /// a worker that inherited the socket and never looks at it.
    pub fn retire(&self) {
        if self.handed {
            return; // the service manager goes on listening
        }
        // a datagram socket is not connected and says so; it has no queue to wait in
        let _ = SockRef::from(&self.socket).shutdown(std::net::Shutdown::Both);
    }

    /// The reply of Circus's `listsockets` for this socket. Host and port are the real ones.
    pub fn info(&self) -> Map<String, Value> {
        let mut info = Map::new();
        info.insert("fd".into(), self.fd().into());
        info.insert("name".into(), self.name().into());
        info.insert("backlog".into(), self.config.backlog.into());
        match &self.place {
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
        match &self.place {
            Place::Net(address) => format!("{}:{}", address.ip(), address.port()),
            Place::File(path) => path.clone(),
        }
    }

    /// Where it is bound.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where it is bound: `127.0.0.1:8000` or a path.
    pub fn location(&self) -> String {
        self.place.to_string()
    }

    fn bind(&mut self) -> Result<(), SocketError> {
        let socket = self.socket.try_clone();
        let socket = socket.map_err(|error| fail(&self.config, "cannot open", "", &error))?;
        let socket = Socket::from(socket);
        if let Place::File(path) = &self.place
            && abstract_name(path).is_none()
        {
            clear_path(&self.config, path)?;
        }
        bind_and_listen(&self.config, &socket, &self.place)?;
        match &self.place {
            Place::File(path) if abstract_name(path).is_some() => {}
            Place::File(path) => {
                let made = std::fs::symlink_metadata(path);
                self.file = made.ok().map(|made| (made.dev(), made.ino()));
            }
            Place::Net(_) => {
                let bound = socket.local_addr().ok().and_then(|bound| bound.as_socket());
                if let Some(bound) = bound {
                    self.place = Place::Net(bound);
                }
            }
        }
        Ok(())
    }
}

impl AsFd for ListenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for ListenSocket {
    fn drop(&mut self) {
        let (Place::File(path), Some(made)) = (&self.place, self.file) else {
            return;
        };
        // Another program may have put its own socket there meanwhile.
        if let Ok(now) = std::fs::symlink_metadata(path)
            && (now.dev(), now.ino()) == made
        {
            let _ = std::fs::remove_file(path); // nobody to tell
        }
    }
}

/// Resolves where the socket of a section goes. May wait for a name server.
///
/// # Errors
/// A host that does not resolve, or has no address of the family.
pub fn place_of(config: &SocketConfig) -> Result<Place, SocketError> {
    if let Some(path) = &config.path {
        return Ok(Place::File(path.clone()));
    }
    let wants_v6 = match config.family {
        SocketFamily::Inet => false,
        SocketFamily::Inet6 => true,
        SocketFamily::Unix => {
            let text = format!("socket {} has family AF_UNIX but no path", config.name);
            return Err(SocketError {
                name: config.name.clone(),
                errno: 0,
                text,
            });
        }
    };
    let (host, port) = (config.host.as_str(), config.port);
    let found = match (host, port).to_socket_addrs() {
        Ok(mut found) => found.find(|address| address.is_ipv6() == wants_v6),
        // A system without /etc/hosts (a bare chroot) still has a loopback interface.
        Err(_) if host == "localhost" => Some(match wants_v6 {
            false => SocketAddr::from(([127, 0, 0, 1], port)),
            true => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port)),
        }),
        Err(error) => {
            let what = format!("cannot find the host {host:?} of");
            return Err(fail(config, &what, "", &error));
        }
    };
    match found {
        Some(address) => Ok(Place::Net(address)),
        None => {
            let kind = if wants_v6 { "AF_INET6" } else { "AF_INET" };
            let text = format!(
                "socket {}: the host {host:?} has no address of family {kind}",
                config.name
            );
            Err(SocketError {
                name: config.name.clone(),
                errno: 0,
                text,
            })
        }
    }
}

/// Whether a socket of this type is bound there.
pub(super) fn is_bound_at(socket: &OwnedFd, kind: SocketType, place: &Place) -> bool {
    let socket = SockRef::from(socket);
    socket.r#type().ok() == Some(type_of(kind))
        && match (bound_place(&socket), place) {
            (Some(Place::File(bound)), Place::File(wanted)) => bound == *wanted,
            (Some(Place::Net(bound)), Place::Net(wanted)) => bound == *wanted,
            _ => false,
        }
}

/// Where a socket is bound; `None` for a family that has no place here.
fn bound_place(socket: &SockRef<'_>) -> Option<Place> {
    let address = socket.local_addr().ok()?;
    match address.as_socket() {
        Some(net) => Some(Place::Net(net)),
        None => match address.as_abstract_namespace() {
            Some(name) => Some(Place::File(format!("@{}", std::str::from_utf8(name).ok()?))),
            None => Some(Place::File(address.as_pathname()?.to_str()?.to_string())),
        },
    }
}

/// The name in Linux's abstract space that a path like `@name` stands for: there is no file, and it vanishes with its last
/// user. (circus takes it for a file of that name.)
fn abstract_name(path: &str) -> Option<&str> {
    path.strip_prefix('@')
}

fn type_of(kind: SocketType) -> Type {
    match kind {
        SocketType::Stream => Type::STREAM,
        SocketType::Datagram => Type::DGRAM,
        SocketType::Raw => Type::from(nix::libc::SOCK_RAW),
        SocketType::Rdm => Type::from(nix::libc::SOCK_RDM),
        SocketType::SeqPacket => Type::SEQPACKET,
    }
}

/// Makes the socket with its options, not bound yet. It is closed on exec unless passed on.
fn new_socket(config: &SocketConfig, place: &Place) -> Result<Socket, SocketError> {
    let domain = match place {
        Place::File(_) => Domain::UNIX,
        Place::Net(address) => Domain::for_address(*address),
    };
    let kind = type_of(config.kind);
    let protocol = match &config.proto {
        None => None,
        Some(name) => Some(protocol(config, name)?),
    };
    let socket = Socket::new(domain, kind, protocol).map_err(|error| {
        fail(
            config,
            "cannot make",
            &format!(" ({:?})", config.kind),
            &error,
        )
    })?;
    let setup = || -> io::Result<()> {
        if let Place::Net(_) = place {
            if config.so_reuseport {
                socket.set_reuse_port(true)?;
            }
            if config.kind == SocketType::Stream {
                // Accepted connections inherit it: servers that write head and body apart would
                // wait for delayed acknowledgements. Other stream protocols may not know it.
                let _ = socket.set_tcp_nodelay(true);
            }
        }
        socket.set_reuse_address(true)
    };
    setup().map_err(|error| fail(config, "cannot set the options of", "", &error))?;
    if let (Place::Net(_), Some(interface)) = (place, &config.interface) {
        let bound = socket.bind_device(Some(interface.as_bytes()));
        bound.map_err(|error| {
            let to = format!(" to the interface {interface}");
            fail(config, "cannot bind", &to, &error)
        })?;
    }
    Ok(socket)
}

/// Moves a descriptor away from 0, 1 and 2, where a worker has its standard streams.
fn above_standard_streams(config: &SocketConfig, socket: Socket) -> Result<OwnedFd, SocketError> {
    let fd = OwnedFd::from(socket);
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    // A duplicate made by the standard library is always above them.
    fd.try_clone()
        .map_err(|error| fail(config, "cannot open", "", &error))
}

fn bind_and_listen(
    config: &SocketConfig,
    socket: &Socket,
    place: &Place,
) -> Result<(), SocketError> {
    let to = format!(" to {place}");
    let address = match place {
        Place::Net(address) => SockAddr::from(*address),
        Place::File(path) => {
            let name = abstract_name(path).map(|name| format!("\0{name}"));
            SockAddr::unix(name.as_deref().unwrap_or(path))
                .map_err(|error| fail(config, "cannot bind", &to, &error))?
        }
    };
    let bound = match place {
        Place::Net(_) => socket.bind(&address),
        Place::File(_) => {
            // The mask belongs to the process, not to the thread; it is changed for this one call.
            let bits = nix::sys::stat::Mode::from_bits_truncate(config.umask);
            let before = nix::sys::stat::umask(bits);
            let bound = socket.bind(&address);
            nix::sys::stat::umask(before);
            bound
        }
    };
    bound.map_err(|error| {
        let mut failure = fail(config, "cannot bind", &to, &error);
        if let (nix::libc::EADDRINUSE, Place::Net(address)) = (failure.errno, place)
            && let Some(holder) = holder::of_address(*address)
        {
            failure.text = format!("{}; held by {holder}", failure.text);
        }
        failure
    })?;
    settle(config, socket).map_err(|error| fail(config, "cannot listen on", &to, &error))
}

/// What can be changed on a bound socket as well.
fn settle(config: &SocketConfig, socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(!config.blocking)?;
    match config.kind {
        SocketType::Stream | SocketType::SeqPacket => socket.listen(config.backlog),
        _ => Ok(()),
    }
}

/// Deals with a file that is where a Unix socket shall be.
fn clear_path(config: &SocketConfig, path: &str) -> Result<(), SocketError> {
    let Ok(there) = std::fs::symlink_metadata(path) else {
        return Ok(()); // if it is another problem than absence, bind will say so
    };
    let refuse = |hint: String| SocketError {
        name: config.name.clone(),
        errno: nix::libc::EADDRINUSE,
        text: format!("cannot bind socket {} to {path}: {hint}", config.name),
    };
    if !there.file_type().is_socket() {
        return Err(refuse("a file that is no socket is there".into()));
    }
    if config.replace {
        return std::fs::remove_file(path)
            .map_err(|error| fail(config, "cannot replace the file of", "", &error));
    }
    Err(refuse(match holder::of_path(Path::new(path)) {
        Some(holder) => format!("the file is there already; held by {holder}"),
        None => "the file is there already and no process seems to use it; remove it, or set \
                 replace = True in its section"
            .into(),
    }))
}

/// `getprotobyname`.
fn protocol(config: &SocketConfig, name: &str) -> Result<Protocol, SocketError> {
    let known = match name {
        "ip" => Some(0),
        "icmp" => Some(1),
        "tcp" => Some(6),
        "udp" => Some(17),
        "ipv6-icmp" => Some(58),
        "sctp" => Some(132),
        "udplite" => Some(136),
        _ => None,
    };
    let listed = || {
        let text = std::fs::read_to_string("/etc/protocols").ok()?;
        text.lines().find_map(|line| {
            let line = line.split('#').next()?;
            let mut words = line.split_whitespace();
            let (first, number) = (words.next()?, words.next()?);
            (first == name || words.any(|alias| alias == name)).then(|| number.parse().ok())?
        })
    };
    let number: Option<i32> = known.or_else(listed);
    number.map(Protocol::from).ok_or_else(|| SocketError {
        name: config.name.clone(),
        errno: 0,
        text: format!("socket {}: no protocol is named {name:?}", config.name),
    })
}

fn fail(config: &SocketConfig, tried: &str, to: &str, error: &io::Error) -> SocketError {
    let errno = error.raw_os_error().unwrap_or(0);
    let why = match errno {
        0 => error.to_string(),
        errno => nix::errno::Errno::from_raw(errno).desc().to_owned(),
    };
    SocketError {
        name: config.name.clone(),
        errno,
        text: format!("{tried} socket {}{to}: {why}", config.name),
    }
}

#[cfg(test)]
mod tests;
