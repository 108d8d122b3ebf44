//! Binding the daemon's own ZeroMQ endpoints, and accepting connections on them.

use super::holder;
use crate::wire::endpoint::Endpoint;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

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

/// A bound endpoint.
pub struct Listener {
    role: &'static str,
    kind: Kind,
}

enum Kind {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Held for its drop.
        _file: SocketFile,
    },
}

/// The file of a unix socket; removed with it, unless somebody else has put another in its place.
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

impl Listener {
    /// Binds `text`; `role` is what it is called in messages. A unix socket belongs to `owner` if one is given, and
    /// nobody else may connect.
    ///
    /// # Errors
    /// An address that cannot be understood or resolved, is in use (by whom, if `/proc` tells), or is not allowed.
    pub fn bind(role: &'static str, text: &str, owner: Option<u32>) -> Result<Listener, BindError> {
        let error = |reason: String| BindError {
            role,
            endpoint: text.to_string(),
            reason,
        };
        let endpoint: Endpoint = text
            .parse()
            .map_err(|why: crate::wire::endpoint::EndpointError| error(why.to_string()))?;
        let kind = match endpoint {
            Endpoint::Tcp { host, port } => {
                let host = if host == "*" {
                    "0.0.0.0".to_string()
                } else {
                    host
                };
                let addresses: Vec<SocketAddr> = (host.as_str(), port)
                    .to_socket_addrs()
                    .map_err(|why| error(format!("{host} is not known: {why}")))?
                    .collect();
                let address = addresses
                    .iter()
                    .find(|a| a.is_ipv4())
                    .or(addresses.first())
                    .copied()
                    .ok_or_else(|| error(format!("{host} has no address")))?;
                Kind::Tcp(bind_tcp(address).map_err(|why| {
                    let holder = (why.kind() == io::ErrorKind::AddrInUse)
                        .then(|| holder::of_address(address))
                        .flatten();
                    error(match holder {
                        Some(holder) => format!(
                            "{holder} is listening there; stop it or choose another endpoint"
                        ),
                        None => why.to_string(),
                    })
                })?)
            }
            Endpoint::Ipc(path) => bind_unix(&path, owner).map_err(error)?,
        };
        Ok(Listener { role, kind })
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
            Kind::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // replies are small and awaited; a socket on which this fails is closing already
                let _ = stream.set_nodelay(true);
                let (read, write) = stream.into_split();
                Ok((Box::new(read), Box::new(write)))
            }
            Kind::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let (read, write) = stream.into_split();
                Ok((Box::new(read), Box::new(write)))
            }
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn bind_unix(path: &Path, owner: Option<u32>) -> Result<Kind, String> {
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            return Err(format!(
                "{} exists and is not a socket; move it away or choose another endpoint",
                path.display()
            ));
        }
        // left over by a daemon that was killed, unless somebody answers
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
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
    let listener = UnixListener::bind(path).map_err(|why| why.to_string())?;
    let file = SocketFile {
        path: path.to_path_buf(),
        identity: identity(path),
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|why| format!("cannot keep others out of it: {why}"))?;
    if let Some(owner) = owner {
        std::os::unix::fs::chown(path, Some(owner), None)
            .map_err(|why| format!("cannot give it to user {owner}: {why}"))?;
    }
    Ok(Kind::Unix {
        listener,
        _file: file,
    })
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
