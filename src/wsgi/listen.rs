//! Where clients come in: an inherited descriptor, an address, or a Unix socket.

use crate::daemon::spawn::duplicate;

use super::counts::Counts;
use super::environ::Ends;
use super::guard::Guard;
use super::sendfile::{Outgoing, stands_in};
use socket2::{Domain, SockAddr, Socket, Type};
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::Sleep;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A descriptor that this process was started with.
    Descriptor(i32),
    /// A host and a port, and which of the host's addresses, if it has both kinds.
    Host(String, u16, Option<Family>),
    /// A path.
    Unix(PathBuf),
}

/// A kind of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Place {
    /// As Chaussette's start-up line has it.
    pub fn shown(&self) -> String {
        match self {
            Place::Descriptor(number) => format!("fd://{number}"),
            Place::Host(host, port, _) => format!("{host}:{port}"),
            Place::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Accepting,
    server: String,
    port: String,
}

#[derive(Debug)]
enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Accepting {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Accepting::Tcp(socket) => socket.as_fd(),
            Accepting::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Listener {
    /// Opens the place.
    ///
    /// # Errors
    /// It cannot be opened; the text says which and why.
    pub fn open(place: &Place, backlog: i32) -> Result<Listener, String> {
        let fail = |what: &str, why: io::Error| format!("{what} {}: {why}", place.shown());
        let socket = match place {
            Place::Descriptor(number) => inherited(*number)?,
            Place::Host(host, port, family) => {
                let addresses = (host.as_str(), *port)
                    .to_socket_addrs()
                    .map_err(|why| fail("cannot find", why))?;
                let address = addresses
                    .into_iter()
                    .filter(|address| family.is_none_or(|f| (f == Family::V6) == address.is_ipv6()))
                    .min_by_key(SocketAddr::is_ipv6)
                    .ok_or_else(|| {
                        let kind = match family {
                            Some(Family::V4) => "IPv4 ",
                            Some(Family::V6) => "IPv6 ",
                            None => "",
                        };
                        format!("{} has no {kind}address", place.shown())
                    })?;
                let bind = || {
                    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
                    socket.set_reuse_address(true)?;
                    socket.bind(&address.into())?;
                    socket.listen(backlog)?;
                    Ok(socket)
                };
                bind().map_err(|why| fail("cannot listen on", why))?.into()
            }
            Place::Unix(path) => {
                let bind = || {
                    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                    // one that nobody listens on is left from before
                    if path.exists() && socket.connect(&SockAddr::unix(path)?).is_err() {
                        std::fs::remove_file(path)?;
                    }
                    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                    socket.bind(&SockAddr::unix(path)?)?;
                    socket.listen(backlog)?;
                    Ok(socket)
                };
                bind().map_err(|why| fail("cannot listen on", why))?.into()
            }
        };
        let look = Socket::from(socket);
        look.set_nonblocking(true)
            .map_err(|why| fail("cannot use", why))?;
        let local = look.local_addr().map_err(|why| fail("cannot use", why))?;
        let (server, port) = match local.as_socket() {
            Some(address) => (
                address.ip().to_canonical().to_string(),
                address.port().to_string(),
            ),
            None => {
                let path = local.as_pathname().map(|path| path.display().to_string());
                (path.unwrap_or_default(), String::new())
            }
        };
        let tcp = local.as_socket().is_some();
        let socket = OwnedFd::from(look);
        let socket = if tcp {
            TcpListener::from_std(socket.into()).map(Accepting::Tcp)
        } else {
            UnixListener::from_std(socket.into()).map(Accepting::Unix)
        };
        Ok(Listener {
            socket: socket.map_err(|why| fail("cannot use", why))?,
            server,
            port,
        })
    }

    /// The next client.
    ///
    /// # Errors
    /// There are no descriptors left, or the socket is gone.
    pub async fn accept(&self) -> io::Result<(Stream, Ends)> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Stream, Ends)>> {
        // a server that shares the socket may have made it blocking, for all
        let listener = self.socket.fd();
        if !rustix::fs::fcntl_getfl(listener)?.contains(rustix::fs::OFlags::NONBLOCK) {
            rustix::io::ioctl_fionbio(listener, true)?;
        }
        let mut ends = Ends {
            remote: None,
            port: None,
            server: self.server.clone(),
            server_port: self.port.clone(),
            secure: false,
        };
        match &self.socket {
            Accepting::Tcp(socket) => socket.poll_accept(context).map(|accepted| {
                let (stream, peer) = accepted?;
                stream.set_nodelay(true)?;
                ends.remote = Some(peer.ip().to_canonical());
                ends.port = Some(peer.port());
                Ok((Stream::new(Socketlike::Tcp(stream)), ends))
            }),
            Accepting::Unix(socket) => socket.poll_accept(context).map(|accepted| {
                let (stream, _) = accepted?;
                Ok((Stream::new(Socketlike::Unix(stream)), ends))
            }),
        }
    }
}

/// A descriptor that this process was started with; it must be a socket that listens.
fn inherited(number: i32) -> Result<OwnedFd, String> {
    let text = format!("descriptor {number}");
    let copy = duplicate(number)
        .map_err(|why| format!("{text} is not open here: {why} (is use_sockets = True set?)"))?;
    let listens = rustix::net::sockopt::socket_acceptconn(copy.as_fd());
    match listens {
        Ok(true) => Ok(copy),
        Ok(false) => Err(format!("{text} is a socket that does not listen")),
        Err(_) => Err(format!("{text} is no socket")),
    }
}

/// What this process may open beyond its connections.
const OTHERS: u64 = 64;

/// Sees to it that this process may have so many connections, as far as the system allows.
///
/// # Errors
/// The system refuses.
pub fn descriptors_for(connections: usize) -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = connections as u64 + OTHERS;
    // none is no limit
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |most| most.min(wanted)));
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(())
}

/// Up to so many bytes are cheaper copied together than written from several places.
const SHORT: usize = 512;

/// A connection.
#[derive(Debug)]
pub struct Stream {
    socket: Socketlike,
    /// How long the other side may take nothing.
    patience: Duration,
    /// Where bytes are counted.
    counts: Option<Arc<Counts>>,
    stalled: Option<Pin<Box<Sleep>>>,
    guard: Guard,
    outgoing: Outgoing,
}

#[derive(Debug)]
enum Socketlike {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.socket {
            Socketlike::Tcp($stream) => $call,
            Socketlike::Unix($stream) => $call,
        }
    };
}

impl Stream {
    fn new(socket: Socketlike) -> Stream {
        Stream {
            socket,
            patience: Duration::MAX,
            counts: None,
            stalled: None,
            guard: Guard::default(),
            outgoing: Outgoing::default(),
        }
    }

    /// Gives the client up when it takes nothing for so long.
    pub fn give_up_after(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Counts the bytes that come and go.
    pub fn count(&mut self, counts: Arc<Counts>) {
        self.counts = Some(counts);
    }

    /// What was written; an error if nothing was for too long.
    fn stalling(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(bytes)), Some(counts)) = (&written, &self.counts) {
            counts.sent(*bytes);
        }
        if written.is_ready() {
            if self.stalled.is_some() {
                self.stalled = None;
            }
            return written;
        }
        let patience = self.patience;
        let sleep = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(sleep.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// From here on it is no longer HTTP.
    pub fn look_away(&mut self) {
        self.guard.look_away();
    }

    /// Where files are put that are to be sent.
    pub fn outgoing(&self) -> Outgoing {
        self.outgoing.clone()
    }

    /// Sends bytes of a file in place of those that stand for them.
    fn poll_send_file(&self, context: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        loop {
            let sent = match &self.socket {
                Socketlike::Tcp(stream) => {
                    ready!(stream.poll_write_ready(context))?;
                    stream.try_io(Interest::WRITABLE, || {
                        self.outgoing.send(stream.as_fd(), length)
                    })
                }
                Socketlike::Unix(stream) => {
                    ready!(stream.poll_write_ready(context))?;
                    stream.try_io(Interest::WRITABLE, || {
                        self.outgoing.send(stream.as_fd(), length)
                    })
                }
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        let read = match &mut this.socket {
            Socketlike::Tcp(stream) => Pin::new(stream).poll_read(context, into),
            Socketlike::Unix(stream) => Pin::new(stream).poll_read(context, into),
        };
        let new = into.filled_mut().get_mut(before..).unwrap_or_default();
        if let Some(counts) = &this.counts {
            counts.received(new.len());
        }
        if this.guard.look(new).is_err() {
            // hyper answers that with 400 and closes the connection
            new.fill(0);
            this.guard.look_away();
        }
        read
    }
}

/// Short parts, one behind the other; none if they are longer than that.
fn together<'a>(parts: &[io::IoSlice<'_>], into: &'a mut [u8; SHORT]) -> Option<&'a [u8]> {
    let mut length = 0;
    for part in parts {
        let end = length + part.len();
        into.get_mut(length..end)?.copy_from_slice(part);
        length = end;
    }
    into.get(..length)
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = if stands_in(bytes) {
            this.poll_send_file(context, bytes.len())
        } else {
            either!(this, stream => Pin::new(stream).poll_write(context, bytes))
        };
        this.stalling(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = parts.iter().position(|part| !part.is_empty()).unwrap_or(0);
        let parts = parts.get(first..).unwrap_or_default();
        let this = self.get_mut();
        // what comes before the first stand-in, or that one
        let written = match parts.iter().position(|part| stands_in(part)) {
            Some(0) => this.poll_send_file(context, parts[0].len()),
            place => {
                let plain = &parts[..place.unwrap_or(parts.len())];
                match together(plain, &mut [0; SHORT]) {
                    Some(bytes) => {
                        either!(this, stream => Pin::new(stream).poll_write(context, bytes))
                    }
                    None => {
                        either!(this, stream => Pin::new(stream).poll_write_vectored(context, plain))
                    }
                }
            }
        };
        this.stalling(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        either!(this, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        either!(this, stream => Pin::new(stream).poll_shutdown(context))
    }
}
