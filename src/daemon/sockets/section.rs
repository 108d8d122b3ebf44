//! A `[socket:NAME]` section as the daemon uses it.

use std::collections::BTreeMap;

/// A `[socket:NAME]` section, converted as `circus.sockets.CircusSocket.load_from_config` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketConfig {
    /// The name, in lower case.
    pub name: String,
    /// The host to bind; not for Unix sockets.
    pub host: String,
    /// The port to bind, 0 for any; not for Unix sockets.
    pub port: u16,
    /// The path of a Unix socket; makes `family` Unix.
    pub path: Option<String>,
    /// The address family.
    pub family: SocketFamily,
    /// The socket type.
    pub kind: SocketType,
    /// The protocol's name as /etc/protocols has it.
    pub proto: Option<String>,
    /// How many connections may wait.
    pub backlog: i32,
    /// The umask while a Unix socket is bound.
    pub umask: u32,
    /// Replace a file that is in the way of a Unix socket.
    pub replace: bool,
    /// The network interface to bind to.
    pub interface: Option<String>,
    /// Each worker gets a socket of its own on the same port.
    pub so_reuseport: bool,
    /// The workers get a blocking socket.
    pub blocking: bool,
    /// Every key of the section, to see at a reload whether anything changed.
    pub raw: BTreeMap<String, String>,
}

/// Address families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketFamily {
    /// `AF_INET`
    Inet,
    /// `AF_INET6`
    Inet6,
    /// `AF_UNIX`
    Unix,
}

/// Socket types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketType {
    /// `SOCK_STREAM`
    Stream,
    /// `SOCK_DGRAM`
    Datagram,
    /// `SOCK_RAW`
    Raw,
    /// `SOCK_RDM`
    Rdm,
    /// `SOCK_SEQPACKET`
    SeqPacket,
}
