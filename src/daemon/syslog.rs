//! The way to a syslog daemon, for the daemon's own log and for what workers say: one message at a time.

use nix::libc;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a connection over TCP may take to be made.
const PATIENCE: Duration = Duration::from_secs(5);
/// A message that is too long for its datagram is not cut to less than this, in bytes.
const SHORTEST: usize = 512;

/// Where a syslog daemon listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A Unix socket: of datagrams, or if it takes none, of a stream.
    Unix(PathBuf),
    /// A host and a port, by UDP.
    Udp(String, u16),
    /// A host and a port, by TCP.
    Tcp(String, u16),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "syslog://{}", path.display()),
            Address::Udp(host, port) | Address::Tcp(host, port) if host.contains(':') => {
                write!(f, "syslog://[{host}]:{port}")
            }
            Address::Udp(host, port) | Address::Tcp(host, port) => {
                write!(f, "syslog://{host}:{port}")
            }
        }
    }
}

/// Sends messages there.
pub struct Sender {
    address: Address,
    /// How long a message may take to leave; `None`: for ever.
    patience: Option<Duration>,
    way: Option<Way>,
}

enum Way {
    Unix(UnixDatagram),
    UnixStream(UnixStream),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Sender {
    /// Connects with the first message. A message that has not left after `patience` is an error.
    pub fn new(address: Address, patience: Option<Duration>) -> Sender {
        Sender {
            address,
            patience,
            way: None,
        }
    }

    /// Where the messages go.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// True if somebody has been found there, and no message has failed since.
    pub fn is_open(&self) -> bool {
        self.way.is_some()
    }

    /// Looks for the daemon anew with the next message.
    pub fn close(&mut self) {
        self.way = None;
    }

    /// Sends one message. One that is too long for a datagram is cut until it fits: its beginning says most.
    ///
    /// # Errors
    /// Nobody takes it, or the name of the host is unknown. The message is lost.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        if let Some(way) = &mut self.way {
            match way.send_what_fits(message) {
                Ok(()) => return Ok(()),
                // nobody has taken it in time
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.way = None;
                    return Err(error);
                }
                // the daemon has been started anew, or says by ICMP that it is not there
                Err(_) => self.way = None,
            }
        }
        let mut way = self.connect()?;
        way.send_what_fits(message)?;
        self.way = Some(way);
        Ok(())
    }

    fn connect(&self) -> io::Result<Way> {
        match &self.address {
            Address::Unix(path) => unix(path, self.patience),
            Address::Udp(host, port) => udp(host, *port),
            Address::Tcp(host, port) => tcp(host, *port, self.patience),
        }
    }
}

fn unix(path: &Path, patience: Option<Duration>) -> io::Result<Way> {
    let socket = UnixDatagram::unbound()?;
    match socket.connect(path) {
        Ok(()) => {
            socket.set_write_timeout(patience)?;
            Ok(Way::Unix(socket))
        }
        // EPROTOTYPE: the socket is one of a stream; it has no ErrorKind
        Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => {
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(patience)?;
            Ok(Way::UnixStream(stream))
        }
        Err(error) => Err(error),
    }
}

fn udp(host: &str, port: u16) -> io::Result<Way> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        let any = if address.is_ipv6() {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let connected = UdpSocket::bind(any).and_then(|socket| {
            socket.connect(address)?;
            Ok(socket)
        });
        match connected {
            Ok(socket) => return Ok(Way::Udp(socket)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn tcp(host: &str, port: u16, patience: Option<Duration>) -> io::Result<Way> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_write_timeout(patience)?;
                return Ok(Way::Tcp(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Way {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Way::Unix(socket) => socket.send(message).map(drop),
            Way::Udp(socket) => socket.send(message).map(drop),
            Way::UnixStream(stream) => stream.write_all(&framed(message)),
            Way::Tcp(stream) => stream.write_all(&framed(message)),
        }
    }

    fn send_what_fits(&mut self, message: &[u8]) -> io::Result<()> {
        let mut message = message;
        loop {
            match self.send(message) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::ENOBUFS))
                        && message.len() > SHORTEST =>
                {
                    message = &message[..message.len() / 2];
                }
                other => return other,
            }
        }
    }
}

/// In a stream a line feed ends the message (RFC 6587, 3.4.2), so that none may be within.
fn framed(message: &[u8]) -> Vec<u8> {
    let one_line = message.iter().map(|byte| match byte {
        b'\n' => b' ',
        byte => *byte,
    });
    one_line.chain([b'\n']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_stream_gets_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let listener = UnixListener::bind(&path).unwrap();
        let mut sender = Sender::new(Address::Unix(path), None);
        sender.send(b"one\n  more").unwrap();
        sender.send(b"two").unwrap();
        drop(sender);
        let text = io::read_to_string(listener.accept().unwrap().0).unwrap();
        assert_eq!(text, "one   more\ntwo\n");
    }

    #[test]
    fn a_daemon_that_is_started_anew_gets_the_next_message() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut sender = Sender::new(Address::Unix(path.clone()), None);
        assert!(sender.send(b"lost").is_err() && !sender.is_open());
        let mut buffer = [0; 100];
        for _ in 0..2 {
            let daemon = UnixDatagram::bind(&path).unwrap();
            sender.send(b"here").unwrap();
            assert_eq!(daemon.recv(&mut buffer).unwrap(), 4);
            assert!(sender.is_open());
            drop(daemon);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_who_is_not_there_is_found_later() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = receiver.local_addr().unwrap();
        let mut sender = Sender::new(Address::Udp("127.0.0.1".into(), address.port()), None);
        let mut buffer = vec![0; 200_000];
        sender.send(&[b'x'; 100_000]).unwrap();
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 50_000);
        drop(receiver);
        // the kernel tells of the first with the second, which is sent once more
        sender.send(b"nobody").unwrap();
        sender.send(b"nobody").unwrap();
        let receiver = UdpSocket::bind(address).unwrap();
        sender.send(b"somebody").unwrap();
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 8);
    }

    #[test]
    fn who_takes_nothing_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let _daemon = UnixDatagram::bind(&path).unwrap();
        let mut sender = Sender::new(Address::Unix(path), Some(Duration::from_millis(10)));
        let full = (0..100_000).find_map(|_| sender.send(&[b'x'; 1000]).err());
        assert_eq!(full.unwrap().kind(), ErrorKind::WouldBlock);
        assert!(!sender.is_open());
    }
}
