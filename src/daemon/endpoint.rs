//! Accepting connections on the daemon's own ZeroMQ endpoints.

use super::binding::{BindError, Bound, Held, HeldPlace, Place, SocketFile, error};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// Reading half of a connection of either kind.
pub type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// Writing half of a connection of either kind.
pub type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

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
