//! Where a socket goes.

use super::making::{SocketError, fail};
use crate::config::{SocketConfig, SocketFamily, SocketType};
use socket2::{SockRef, Type};
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;

/// Where a socket goes, with its host resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
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
            return Err(SocketError::refused(config, text));
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
            Err(SocketError::refused(config, text))
        }
    }
}

/// Whether a socket of this type is bound there.
pub fn is_bound_at(socket: &OwnedFd, kind: SocketType, place: &Place) -> bool {
    let socket = SockRef::from(socket);
    socket.r#type().ok() == Some(type_of(kind))
        && match (bound_place(&socket), place) {
            (Some(Place::File(bound)), Place::File(wanted)) => bound == *wanted,
            (Some(Place::Net(bound)), Place::Net(wanted)) => bound == *wanted,
            _ => false,
        }
}

/// Where a socket is bound; `None` for a family that has no place here.
pub(super) fn bound_place(socket: &SockRef<'_>) -> Option<Place> {
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
pub(super) fn abstract_name(path: &str) -> Option<&str> {
    path.strip_prefix('@')
}

pub(super) fn type_of(kind: SocketType) -> Type {
    match kind {
        SocketType::Stream => Type::STREAM,
        SocketType::Datagram => Type::DGRAM,
        SocketType::Raw => Type::from(nix::libc::SOCK_RAW),
        SocketType::Rdm => Type::from(nix::libc::SOCK_RDM),
        SocketType::SeqPacket => Type::SEQPACKET,
    }
}

/// Whether one of two addresses keeps the other from being bound.
pub fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let (one, other) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() != 0
        && a.port() == b.port()
        && (one == other || one.is_unspecified() || other.is_unspecified())
}

/// Whether two sockets that listen at these addresses, neither of them ready to share, cannot both be. Unlike [`overlap`] it is
/// not true where one only might keep the other out.
pub fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let (one, other) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() != 0
        && a.port() == b.port()
        && (one == other
            || a.is_ipv4() == b.is_ipv4() && (one.is_unspecified() || other.is_unspecified()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_collide() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (a, b, same) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.2:80", "127.0.0.1:80", false),
            ("[::]:80", "[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
        ] {
            assert_eq!(collide(at(a), at(b)), same, "{a} {b}");
            assert_eq!(collide(at(b), at(a)), same, "{b} {a}");
        }
    }
}
