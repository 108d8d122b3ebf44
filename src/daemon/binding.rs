//! Binding the daemon's own ZeroMQ endpoints, also beside and in the place of what it listens on already.

use super::holder;
use super::sockets::{self, ListenSocket, Yielding, overlap};
use crate::config::SocketType;
use crate::wire::endpoint::Endpoint;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// An endpoint that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind {role} {endpoint}: {reason}")]
pub struct BindError {
    role: &'static str,
    endpoint: String,
    reason: String,
}

pub(super) fn error(role: &'static str, text: &str, reason: impl Into<String>) -> BindError {
    BindError {
        role,
        endpoint: text.to_string(),
        reason: reason.into(),
    }
}

/// An endpoint that has been bound and listens, before anybody accepts. It can be made on any thread.
#[derive(Debug)]
pub struct Bound {
    pub(super) role: &'static str,
    pub(super) socket: Socket,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) enum Place {
    Tcp(SocketAddr),
    Unix(SocketFile),
}

/// The file of a unix socket; removed with it, unless somebody else has put another in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    pub path: PathBuf,
    pub identity: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // gone already is as good
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// An endpoint of the daemon: another one may have to be bound beside it or may be the same.
#[derive(Debug)]
pub struct Held {
    pub(super) role: &'static str,
    pub(super) socket: OwnedFd,
    pub(super) place: HeldPlace,
}

#[derive(Debug)]
pub(super) enum HeldPlace {
    Tcp(SocketAddr),
    /// The identity of its file.
    Unix(Option<(u64, u64)>),
}

impl Held {
    /// What it is called in messages.
    pub fn role(&self) -> &'static str {
        self.role
    }

    /// Its address, if it has one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.place {
            HeldPlace::Tcp(address) => Some(address),
            HeldPlace::Unix(_) => None,
        }
    }

    /// Whether it is in the way of a socket at this place.
    pub fn is_in_the_way_of(&self, place: &sockets::Place) -> bool {
        match (&self.place, place) {
            (HeldPlace::Tcp(there), sockets::Place::Net(wanted)) => overlap(*there, *wanted),
            (HeldPlace::Unix(own), sockets::Place::File(path)) => {
                own.is_some() && identity(Path::new(path)) == *own
            }
            _ => false,
        }
    }

    /// Makes room for a socket at this place, if it is in its way; for one that is about to go.
    ///
    /// # Errors
    /// The system does not allow it.
    pub fn yields(&self, place: &sockets::Place) -> io::Result<Option<Yielding>> {
        if !self.is_in_the_way_of(place) {
            return Ok(None);
        }
        let room = match place {
            sockets::Place::Net(_) => Yielding::share(&self.socket)?,
            sockets::Place::File(path) => Yielding::move_away(Path::new(path))?,
        };
        Ok(Some(room))
    }
}

/// What the daemon listens on when another endpoint is to be bound.
pub struct Around<'a> {
    /// Its endpoints.
    pub held: &'a [Held],
    /// The roles of those of them that will be closed.
    pub leaving: &'a [&'a str],
    /// Its sockets that nobody wants any more.
    pub sockets: &'a [Arc<ListenSocket>],
}

impl Around<'_> {
    /// A daemon that listens on nothing yet.
    pub const NOTHING: Around<'static> = Around {
        held: &[],
        leaving: &[],
        sockets: &[],
    };

    /// Whether something that is about to go is there.
    pub fn leaves(&self, place: &sockets::Place) -> bool {
        let leaving = |held: &&Held| self.leaving.contains(&held.role);
        let mut held = self.held.iter().filter(leaving);
        held.any(|held| held.is_in_the_way_of(place))
            || self
                .sockets
                .iter()
                .any(|socket| socket.is_in_the_way_of(place))
    }
}

impl Bound {
    /// Binds `text`; `role` is what it is called in messages. A unix socket belongs to `owner` if one is given, and
    /// nobody else may connect. May wait for a name server.
    ///
    /// # Errors
    /// An address that cannot be understood or resolved, is in use (by whom, if `/proc` tells), or is not allowed.
    pub fn open(role: &'static str, text: &str, owner: Option<u32>) -> Result<Bound, BindError> {
        match Bound::beside(role, text, owner, &Around::NOTHING, &[], &mut Vec::new()) {
            Ok(Some(bound)) => Ok(bound),
            // only what is held can be the same
            Ok(None) => Err(error(role, text, "it is bound already")),
            Err(error) => Err(error),
        }
    }

    /// What it is called in messages.
    pub fn role(&self) -> &'static str {
        self.role
    }

    /// As [`Bound::open`], in the place of the endpoint of the same role `around`, while that and the others still
    /// listen. `None` means that it listens there already, be it under another spelling. Those in `kept` have just been
    /// bound. The `room` that was made for it is to be kept until it is settled that it stays.
    ///
    /// # Errors
    /// As [`Bound::open`].
    pub fn beside(
        role: &'static str,
        text: &str,
        owner: Option<u32>,
        around: &Around<'_>,
        kept: &[&Bound],
        room: &mut Vec<Yielding>,
    ) -> Result<Option<Bound>, BindError> {
        let error = |reason: String| error(role, text, reason);
        let endpoint: Endpoint = text
            .parse()
            .map_err(|why: crate::wire::endpoint::EndpointError| error(why.to_string()))?;
        let before = room.len();
        let make_room = |place: &sockets::Place, room: &mut Vec<Yielding>| {
            for socket in around.sockets {
                let stream = socket.config().kind == SocketType::Stream;
                let made = match place {
                    sockets::Place::Net(_) if !stream => continue,
                    _ => Yielding::of(socket, place),
                };
                let name = socket.name();
                room.extend(
                    made.map_err(|why| error(format!("where the socket {name} is: {why}")))?,
                );
            }
            Ok(())
        };
        match endpoint {
            Endpoint::Tcp { host, port } => {
                let address = resolve(&host, port).map_err(error)?;
                let held = around.held;
                let own = |held: &&Held| matches!(held.place, HeldPlace::Tcp(there) if overlap(there, address));
                let mine =
                    |held: &Held| matches!(held.place, HeldPlace::Tcp(there) if there == address);
                if held.iter().any(|held| held.role == role && mine(held)) {
                    return Ok(None);
                }
                let taken = |bound: &&Bound| matches!(bound.place, Place::Tcp(there) if overlap(there, address));
                let in_the_way: Vec<&Held> = held.iter().filter(own).collect();
                let stays = in_the_way.iter().map(|held| held.role);
                let stays = stays.filter(|role| !around.leaving.contains(role));
                let bound = kept.iter().copied().filter(taken).map(|bound| bound.role);
                if let Some(other) = bound.chain(stays).next() {
                    return Err(error(format!("that is where {other} is")));
                }
                make_room(&sockets::Place::Net(address), room)?;
                let socket = bind_tcp(address, &in_the_way, room.len() > before)
                    .map_err(|why| error(why_not(address, &why)))?;
                let bound = socket.local_addr().ok().and_then(|bound| bound.as_socket());
                Ok(Some(Bound {
                    role,
                    socket,
                    place: Place::Tcp(bound.unwrap_or(address)),
                }))
            }
            Endpoint::Ipc(path) => {
                let there = identity(&path);
                let mine = |held: &Held| {
                    held.role == role
                        && there.is_some()
                        && matches!(held.place, HeldPlace::Unix(own) if own == there)
                };
                if around.held.iter().any(mine) {
                    return Ok(None);
                }
                make_room(
                    &sockets::Place::File(path.to_string_lossy().into_owned()),
                    room,
                )?;
                let (socket, file) = bind_unix(&path, owner).map_err(error)?;
                Ok(Some(Bound {
                    role,
                    socket,
                    place: Place::Unix(file),
                }))
            }
        }
    }
}

/// Where an endpoint goes; may wait for a name server.
///
/// # Errors
/// It cannot be understood, or its host is not known.
pub fn place_of(role: &'static str, text: &str) -> Result<sockets::Place, BindError> {
    let endpoint: Endpoint = text
        .parse()
        .map_err(|why: crate::wire::endpoint::EndpointError| error(role, text, why.to_string()))?;
    match endpoint {
        Endpoint::Tcp { host, port } => resolve(&host, port)
            .map(sockets::Place::Net)
            .map_err(|why| error(role, text, why)),
        Endpoint::Ipc(path) => Ok(sockets::Place::File(path.to_string_lossy().into_owned())),
    }
}

/// Whether an endpoint could be bound there, as far as that can be found out without listening. Files are not touched. A
/// place that is about to become free is taken for free.
///
/// # Errors
/// As [`Bound::open`].
pub fn try_out(
    role: &'static str,
    text: &str,
    place: &sockets::Place,
    around: &Around<'_>,
) -> Result<(), BindError> {
    let leaves = around.leaves(place);
    match place {
        sockets::Place::Net(address) => {
            let mut address = *address;
            if leaves {
                address.set_port(0);
            }
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
            let bound = socket.and_then(|socket| {
                socket.set_reuse_address(true)?;
                socket.bind(&SockAddr::from(address))
            });
            bound.map_err(|why| error(role, text, why_not(address, &why)))
        }
        sockets::Place::File(path) => {
            let path = Path::new(path);
            if !leaves {
                obstacle(path).map_err(|why| error(role, text, why))?;
            }
            sockets::can_make_file(path).map_err(|why| error(role, text, why.to_string()))
        }
    }
}

/// Why an address cannot be bound, and by whom it is used if `/proc` tells.
fn why_not(address: SocketAddr, why: &io::Error) -> String {
    let holder = (why.kind() == io::ErrorKind::AddrInUse)
        .then(|| holder::of_address(address))
        .flatten();
    match holder {
        Some(holder) => {
            format!("{holder} is listening there; stop it or choose another endpoint")
        }
        None => why.to_string(),
    }
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let host = if host == "*" { "0.0.0.0" } else { host };
    let addresses: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|why| format!("{host} is not known: {why}"))?
        .collect();
    addresses
        .iter()
        .find(|a| a.is_ipv4())
        .or(addresses.first())
        .copied()
        .ok_or_else(|| format!("{host} has no address"))
}

/// Binds an address that only our own endpoints may be in the way of, and sockets that have agreed to share it.
fn bind_tcp(address: SocketAddr, in_the_way: &[&Held], shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    // both sides have to agree to share; whoever comes later finds the address taken as ever
    for held in in_the_way {
        SockRef::from(&held.socket).set_reuse_port(true)?;
    }
    socket.set_reuse_port(shared || !in_the_way.is_empty())?;
    let bound = socket
        .bind(&SockAddr::from(address))
        .and_then(|()| socket.listen(BACKLOG));
    for held in in_the_way {
        SockRef::from(&held.socket).set_reuse_port(false)?;
    }
    bound?;
    socket.set_reuse_port(false)?;
    Ok(socket)
}

/// Whether a socket file is there that nobody uses any more.
///
/// # Errors
/// Something else is there, or somebody uses it.
fn obstacle(path: &Path) -> Result<bool, String> {
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        return Ok(false);
    };
    if !meta.file_type().is_socket() {
        return Err(format!(
            "{} exists and is not a socket; move it away or choose another endpoint",
            path.display()
        ));
    }
    // left over by a daemon that was killed, unless somebody answers
    if somebody_listens(path) {
        let who = holder::of_path(path).map_or_else(
            || "another process".to_string(),
            |holder| holder.to_string(),
        );
        return Err(format!(
            "{who} is listening there; stop it or choose another endpoint"
        ));
    }
    Ok(true)
}

fn bind_unix(path: &Path, owner: Option<u32>) -> Result<(Socket, SocketFile), String> {
    if obstacle(path)? {
        std::fs::remove_file(path).map_err(|why| format!("a stale socket is in the way: {why}"))?;
    }
    let address = SockAddr::unix(path).map_err(|why| why.to_string())?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(|why| why.to_string())?;
    // the file is made with the mode of the socket: it is never open to others, not even for a moment
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::sys::stat::fchmod(&socket, mode)
        .map_err(|why| format!("cannot keep others out of it: {}", why.desc()))?;
    socket.bind(&address).map_err(|why| why.to_string())?;
    let file = SocketFile {
        path: path.to_path_buf(),
        identity: identity(path),
    };
    // whatever the umask has taken away from the owner
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|why| format!("cannot keep others out of it: {why}"))?;
    if let Some(owner) = owner {
        std::os::unix::fs::chown(path, Some(owner), None)
            .map_err(|why| format!("cannot give it to user {owner}: {why}"))?;
    }
    socket.listen(BACKLOG).map_err(|why| why.to_string())?;
    Ok((socket, file))
}

/// Whether anybody would accept a connection; never waits for a queue that is full.
fn somebody_listens(path: &Path) -> bool {
    let connected = || -> io::Result<()> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    match connected() {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}
