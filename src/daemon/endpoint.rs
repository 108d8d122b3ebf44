//! Binding the daemon's own ZeroMQ endpoints, and accepting connections on them.

use super::holder;
use super::sockets::overlap;
use crate::wire::endpoint::Endpoint;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Reading half of a connection of either kind.
pub type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// Writing half of a connection of either kind.
pub type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// An endpoint that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind {role} {endpoint}: {reason}")]
pub struct BindError {
    role: &'static str,
    endpoint: String,
    reason: String,
}

/// An endpoint that has been bound and listens, before anybody accepts. It can be made on any thread.
#[derive(Debug)]
pub struct Bound {
    role: &'static str,
    socket: Socket,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Tcp(SocketAddr),
    Unix(SocketFile),
}

/// The file of a unix socket; removed with it, unless somebody else has put another in its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
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

/// What the daemon listens on already: another endpoint may have to be bound beside it or may be the same.
#[derive(Debug)]
pub struct Held {
    role: &'static str,
    socket: OwnedFd,
    place: HeldPlace,
}

#[derive(Debug)]
enum HeldPlace {
    Tcp(SocketAddr),
    Unix(Option<(u64, u64)>),
}

impl Bound {
    /// Binds `text`; `role` is what it is called in messages. A unix socket belongs to `owner` if one is given, and
    /// nobody else may connect. May wait for a name server.
    ///
    /// # Errors
    /// An address that cannot be understood or resolved, is in use (by whom, if `/proc` tells), or is not allowed.
    pub fn open(role: &'static str, text: &str, owner: Option<u32>) -> Result<Bound, BindError> {
        match Bound::beside(role, text, owner, &[], &[], &[]) {
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

    /// As [`Bound::open`], in the place of the endpoint of the same role in `held`, while that and the others still
    /// listen. `None` means that it listens there already, be it under another spelling. Of those in `held`, the ones with
    /// the roles in `leaving` will be closed; those in `kept` have just been bound.
    ///
    /// # Errors
    /// As [`Bound::open`].
    pub fn beside(
        role: &'static str,
        text: &str,
        owner: Option<u32>,
        held: &[Held],
        leaving: &[&str],
        kept: &[&Bound],
    ) -> Result<Option<Bound>, BindError> {
        let error = |reason: String| error(role, text, reason);
        let endpoint: Endpoint = text
            .parse()
            .map_err(|why: crate::wire::endpoint::EndpointError| error(why.to_string()))?;
        match endpoint {
            Endpoint::Tcp { host, port } => {
                let address = resolve(&host, port).map_err(error)?;
                let own = |held: &&Held| matches!(held.place, HeldPlace::Tcp(there) if overlap(there, address));
                let mine =
                    |held: &Held| matches!(held.place, HeldPlace::Tcp(there) if there == address);
                if held.iter().any(|held| held.role == role && mine(held)) {
                    return Ok(None);
                }
                let taken = |bound: &&Bound| matches!(bound.place, Place::Tcp(there) if overlap(there, address));
                let in_the_way: Vec<&Held> = held.iter().filter(own).collect();
                let stays = in_the_way.iter().map(|held| held.role);
                let stays = stays.filter(|role| !leaving.contains(role));
                let bound = kept.iter().copied().filter(taken).map(|bound| bound.role);
                if let Some(other) = bound.chain(stays).next() {
                    return Err(error(format!("that is where {other} is")));
                }
                let socket = bind_tcp(address, &in_the_way).map_err(|why| {
                    let holder = (why.kind() == io::ErrorKind::AddrInUse)
                        .then(|| holder::of_address(address))
                        .flatten();
                    error(match holder {
                        Some(holder) => format!(
                            "{holder} is listening there; stop it or choose another endpoint"
                        ),
                        None => why.to_string(),
                    })
                })?;
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
                if held.iter().any(mine) {
                    return Ok(None);
                }
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

/// Whether an endpoint can be understood and its host is known; may wait for a name server.
///
/// # Errors
/// It cannot, or is not.
pub fn check(role: &'static str, text: &str) -> Result<(), BindError> {
    let endpoint: Endpoint = text
        .parse()
        .map_err(|why: crate::wire::endpoint::EndpointError| error(role, text, why.to_string()))?;
    match endpoint {
        Endpoint::Tcp { host, port } => {
            resolve(&host, port).map_err(|why| error(role, text, why))?;
        }
        Endpoint::Ipc(_) => {}
    }
    Ok(())
}

fn error(role: &'static str, text: &str, reason: impl Into<String>) -> BindError {
    BindError {
        role,
        endpoint: text.to_string(),
        reason: reason.into(),
    }
}

/// A bound endpoint that accepts connections.
pub struct Listener {
    role: &'static str,
    kind: Kind,
}

enum Kind {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Binds and accepts, in the event loop in which this is called; see [`Bound::open`].
    ///
    /// # Errors
    /// As [`Bound::open`], or the event loop does not take it.
    pub fn bind(role: &'static str, text: &str, owner: Option<u32>) -> Result<Listener, BindError> {
        let bound = Bound::open(role, text, owner)?;
        Listener::new(bound).map_err(|why| error(role, text, why.to_string()))
    }

    /// Takes the endpoint into the event loop, in which this is called.
    ///
    /// # Errors
    /// The event loop does not take it.
    pub fn new(bound: Bound) -> io::Result<Listener> {
        let Bound {
            role,
            socket,
            place,
        } = bound;
        socket.set_nonblocking(true)?;
        let kind = match place {
            Place::Tcp(address) => Kind::Tcp(TcpListener::from_std(socket.into())?, address),
            Place::Unix(file) => {
                Kind::Unix(UnixListener::from_std(OwnedFd::from(socket).into())?, file)
            }
        };
        Ok(Listener { role, kind })
    }

    /// Another handle on it, for [`Bound::beside`].
    pub fn held(&self) -> io::Result<Held> {
        let (fd, place) = match &self.kind {
            Kind::Tcp(listener, address) => (listener.as_fd(), HeldPlace::Tcp(*address)),
            Kind::Unix(listener, file) => (listener.as_fd(), HeldPlace::Unix(file.identity)),
        };
        Ok(Held {
            role: self.role,
            socket: fd.try_clone_to_owned()?,
            place,
        })
    }

    /// The file of a unix socket.
    pub fn path(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Unix(_, file) => Some(&file.path),
            Kind::Tcp(..) => None,
        }
    }

    /// Waits for the next connection, however long that takes. When accept(2) fails (too many open files, most often)
    /// it is tried again after a pause.
    pub async fn next(&self) -> (ReadHalf, WriteHalf) {
        loop {
            match self.accept().await {
                Ok(halves) => return halves,
                Err(error) => {
                    tracing::warn!("{}: cannot accept a connection: {error}", self.role);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<(ReadHalf, WriteHalf)> {
        match &self.kind {
            Kind::Tcp(listener, _) => {
                let (stream, _) = listener.accept().await?;
                // replies are small and awaited; a socket on which this fails is closing already
                let _ = stream.set_nodelay(true);
                let (read, write) = stream.into_split();
                Ok((Box::new(read), Box::new(write)))
            }
            Kind::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let (read, write) = stream.into_split();
                Ok((Box::new(read), Box::new(write)))
            }
        }
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

/// Binds an address that only our own sockets may be in the way of.
fn bind_tcp(address: SocketAddr, in_the_way: &[&Held]) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    // both sides have to agree to share; whoever comes later finds the address taken as ever
    for held in in_the_way {
        SockRef::from(&held.socket).set_reuse_port(true)?;
    }
    socket.set_reuse_port(!in_the_way.is_empty())?;
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

fn bind_unix(path: &Path, owner: Option<u32>) -> Result<(Socket, SocketFile), String> {
    if let Ok(meta) = std::fs::symlink_metadata(path) {
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

/// How long to wait after accept(2) has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that has not greeted after this time is closed.
pub const GREETING_TIME: Duration = Duration::from_secs(30);

/// How many connections one endpoint keeps: what the limit on open files leaves, with room for workers.
pub fn connection_limit() -> usize {
    let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .unwrap_or((1024, 1024));
    usize::try_from(soft.saturating_sub(96) * 3 / 4)
        .unwrap_or(usize::MAX)
        .max(16)
}
