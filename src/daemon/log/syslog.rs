//! The way to a syslog daemon. One that is not there, or goes away, is tried again with a later line.

use super::output::Address;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest message in one datagram, in bytes: what every receiver of today takes (rsyslog's default).
const LONGEST: usize = 8 * 1024;

/// How long after a failed attempt to connect the next one is made.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a connection may take to be made, and a message to leave.
const PATIENCE: Duration = Duration::from_secs(5);

/// A syslog daemon.
pub struct Connection {
    address: Address,
    way: Option<Way>,
    /// When connecting failed last, and how.
    failed: Option<(Instant, ErrorKind, String)>,
}

enum Way {
    Unix(UnixDatagram),
    UnixStream(UnixStream),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Connection {
    /// Connects with the first message.
    pub fn new(address: Address) -> Connection {
        Connection {
            address,
            way: None,
            failed: None,
        }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// Nobody takes it, or the name of the host is unknown. The message is lost.
    pub fn send(&mut self, message: &str) -> io::Result<()> {
        let message = &message[..message.floor_char_boundary(LONGEST)];
        if let Some(way) = &mut self.way {
            match way.send(message) {
                Ok(()) => return Ok(()),
                // the daemon has been started anew, or says by ICMP that it is not there
                Err(_) => self.way = None,
            }
        }
        let mut way = self.connect()?;
        way.send(message)?;
        self.way = Some(way);
        Ok(())
    }

    fn connect(&mut self) -> io::Result<Way> {
        if let Some((at, kind, why)) = &self.failed
            && at.elapsed() < PAUSE
        {
            return Err(io::Error::new(*kind, why.clone()));
        }
        let way = match &self.address {
            Address::Unix(path) => unix(path),
            Address::Udp(host, port) => udp(host, *port),
            Address::Tcp(host, port) => tcp(host, *port),
        };
        self.failed = way
            .as_ref()
            .err()
            .map(|error| (Instant::now(), error.kind(), error.to_string()));
        way
    }
}

fn unix(path: &Path) -> io::Result<Way> {
    let socket = UnixDatagram::unbound()?;
    match socket.connect(path) {
        Ok(()) => {
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(Way::Unix(socket))
        }
        // EPROTOTYPE: the socket is one of a stream; it has no ErrorKind
        Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => {
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(PATIENCE))?;
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

fn tcp(host: &str, port: u16) -> io::Result<Way> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(Way::Tcp(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Way {
    fn send(&mut self, message: &str) -> io::Result<()> {
        // in a stream a line feed ends the message (RFC 6587, 3.4.2), so that none may be within
        let framed = || format!("{}\n", message.replace('\n', " "));
        match self {
            Way::Unix(socket) => socket.send(message.as_bytes()).map(drop),
            Way::Udp(socket) => socket.send(message.as_bytes()).map(drop),
            Way::UnixStream(stream) => stream.write_all(framed().as_bytes()),
            Way::Tcp(stream) => stream.write_all(framed().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_daemon_that_comes_later_or_again_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut connection = Connection::new(Address::Unix(path.clone()));
        assert!(connection.send("lost").is_err());
        connection.failed = None; // as if the pause were over
        let daemon = UnixDatagram::bind(&path).unwrap();
        connection.send("one").unwrap();
        let mut buffer = [0; 100];
        assert_eq!(daemon.recv(&mut buffer).unwrap(), 3);
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        let daemon = UnixDatagram::bind(&path).unwrap();
        connection.send("two").unwrap();
        assert_eq!(daemon.recv(&mut buffer).unwrap(), 3);
    }

    #[test]
    fn a_stream_gets_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let listener = UnixListener::bind(&path).unwrap();
        let mut connection = Connection::new(Address::Unix(path));
        connection.send("one\n  more").unwrap();
        connection.send("two").unwrap();
        drop(connection);
        let text = io::read_to_string(listener.accept().unwrap().0).unwrap();
        assert_eq!(text, "one   more\ntwo\n");
    }

    #[test]
    fn over_the_network() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = receiver.local_addr().unwrap().port();
        let mut connection = Connection::new(Address::Udp("127.0.0.1".into(), port));
        connection.send(&"é".repeat(LONGEST)).unwrap();
        let mut buffer = [0; 2 * LONGEST];
        assert_eq!(receiver.recv(&mut buffer).unwrap(), LONGEST);
    }
}
