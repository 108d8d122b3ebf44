//! The daemon's own log as messages to a syslog daemon. One that is not there, or goes away, is tried again with a later
//! line.

use crate::daemon::syslog::{Address, Sender};
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

/// The longest message in one datagram, in bytes: what every receiver of today takes (rsyslog's default).
const LONGEST: usize = 8 * 1024;

/// How long after a failed attempt to connect the next one is made.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a message may take to leave.
const PATIENCE: Duration = Duration::from_secs(5);

/// A syslog daemon.
pub struct Connection {
    sender: Sender,
    /// When it was not to be had last, and why.
    failed: Option<(Instant, ErrorKind, String)>,
}

impl Connection {
    /// Connects with the first message.
    pub fn new(address: Address) -> Connection {
        Connection {
            sender: Sender::new(address, Some(PATIENCE)),
            failed: None,
        }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// Nobody takes it, or the name of the host is unknown. The message is lost.
    pub fn send(&mut self, message: &str) -> io::Result<()> {
        let message = &message[..message.floor_char_boundary(LONGEST)];
        if let Some((at, kind, why)) = &self.failed
            && !self.sender.is_open()
            && at.elapsed() < PAUSE
        {
            return Err(io::Error::new(*kind, why.clone()));
        }
        let sent = self.sender.send(message.as_bytes());
        let failed = sent.as_ref().err();
        self.failed = failed.map(|error| (Instant::now(), error.kind(), error.to_string()));
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;

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
    fn over_the_network() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = receiver.local_addr().unwrap().port();
        let mut connection = Connection::new(Address::Udp("127.0.0.1".into(), port));
        connection.send(&"é".repeat(LONGEST)).unwrap();
        let mut buffer = [0; 2 * LONGEST];
        assert_eq!(receiver.recv(&mut buffer).unwrap(), LONGEST);
    }
}
