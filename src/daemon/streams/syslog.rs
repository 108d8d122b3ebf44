//! The system log and systemd's journal: one datagram for each line.

use super::format::frames;
use super::target::{Target, Trouble};
use crate::options::streams::{StreamClass, StreamSpec};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, sendto, socket};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

/// Where the messages go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// A datagram socket in the file system.
    Path(String),
    /// A host and port.
    Host(String),
}

impl Place {
    /// What the configuration says, or where the log usually is.
    pub fn of(spec: &StreamSpec) -> Place {
        let usual = match spec.class {
            StreamClass::Journald => "/run/systemd/journal/socket",
            _ => "/dev/log",
        };
        let text = spec.address.as_deref().unwrap_or(usual);
        match text.strip_prefix("udp://") {
            Some(host) => Place::Host(host.to_string()),
            None => Place::Path(text.to_string()),
        }
    }

    /// As messages call it.
    pub fn name(&self) -> String {
        match self {
            Place::Path(path) => path.clone(),
            Place::Host(host) => format!("udp://{host}"),
        }
    }
}

/// True if the messages leave this host: then they name it.
pub fn leaves(spec: &StreamSpec) -> bool {
    matches!(Place::of(spec), Place::Host(_))
}

/// The name of this host, up to the first dot.
pub fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy();
    name.split('.').next().unwrap_or("-").to_string()
}

/// A socket that takes one message at a time.
pub struct Messages {
    place: Place,
    socket: Option<Socket>,
}

enum Socket {
    Unix(OwnedFd, UnixAddr),
    Udp(UdpSocket, SocketAddr),
}

impl Messages {
    /// Nothing is opened yet.
    pub fn new(place: Place) -> Messages {
        Messages {
            place,
            socket: None,
        }
    }

    fn connect(&self) -> io::Result<Socket> {
        match &self.place {
            Place::Path(path) => {
                let flags = SockFlag::SOCK_CLOEXEC;
                let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
                Ok(Socket::Unix(fd, UnixAddr::new(path.as_str())?))
            }
            Place::Host(host) => {
                let address = host.to_socket_addrs()?.next();
                let address = address.ok_or(ErrorKind::AddrNotAvailable)?;
                let any = if address.is_ipv4() {
                    "0.0.0.0:0"
                } else {
                    "[::]:0"
                };
                Ok(Socket::Udp(UdpSocket::bind(any)?, address))
            }
        }
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        if self.socket.is_none() {
            self.socket = Some(self.connect()?);
        }
        match &self.socket {
            Some(Socket::Unix(fd, address)) => {
                let flags = MsgFlags::MSG_NOSIGNAL;
                sendto(fd.as_raw_fd(), message, address, flags)?;
            }
            Some(Socket::Udp(socket, address)) => {
                socket.send_to(message, address)?;
            }
            None => {}
        }
        Ok(())
    }

    /// A message that is too long for the socket is cut until it fits: its beginning says most.
    fn send_what_fits(&mut self, message: &[u8]) -> io::Result<()> {
        let mut message = message;
        loop {
            match self.send(message) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(nix::libc::EMSGSIZE | nix::libc::ENOBUFS)
                    ) && message.len() > 512 =>
                {
                    message = &message[..message.len() / 2];
                }
                // nobody listens on the other side of the network: the kernel says so of an earlier message
                Err(error) if error.kind() == ErrorKind::ConnectionRefused && self.is_udp() => {
                    return Ok(());
                }
                other => return other,
            }
        }
    }

    fn is_udp(&self) -> bool {
        matches!(self.place, Place::Host(_))
    }
}

impl Target for Messages {
    fn open(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let mut done = 0;
        for (message, end) in frames(bytes) {
            if let Err(error) = self.send_what_fits(message) {
                self.socket = None;
                let what = format!("cannot send to {}", self.place.name());
                return Err(Trouble::new(done, &what, &error));
            }
            done = end;
        }
        Ok(())
    }

    fn reopen(&mut self) {
        self.socket = None;
    }

    fn close(&mut self) {
        self.socket = None;
    }
}
