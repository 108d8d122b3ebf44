//! How many connections wait at the sockets of a daemon on this machine: the kernel tells it to whoever asks for the
//! listening sockets, as `ss -l` does.
//!
//! A socket is found by its inode, which the daemon's own descriptor leads to: so it is never another one at the same
//! address. Where the daemon's descriptors cannot be looked at (another user's, another machine), nothing is said.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use nix::sys::time::TimeVal;
use std::os::fd::{AsRawFd, OwnedFd};

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// TCP's and Unix sockets' state `LISTEN`, as a mask.
const LISTENING: u32 = 1 << 10;
/// Unix sockets: the length of the queue is to be told (`UDIAG_SHOW_RQLEN`), and comes under this number
/// (`UNIX_DIAG_RQLEN`).
const SHOW_QUEUE: u32 = 0x10;
const QUEUE: u16 = 4;

const INET: u8 = 2;
const INET6: u8 = 10;
const UNIX: u8 = 1;
const TCP: u8 = 6;

/// How it is at a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queue {
    /// Connections that wait to be accepted.
    pub waiting: u32,
    /// How many may, as the kernel has it: the backlog, but `net.core.somaxconn` at most.
    pub limit: u32,
}

impl Queue {
    /// Whether the kernel takes no more connections for it. It takes one more than the limit says.
    pub fn is_full(self) -> bool {
        self.waiting > self.limit
    }
}

/// The queues of all listening sockets.
#[derive(Debug, Default)]
pub struct Queues {
    by_inode: HashMap<u32, Queue>,
    by_address: HashMap<SocketAddr, Queue>,
}

impl Queues {
    /// That of the socket with this inode.
    pub fn of_inode(&self, inode: u64) -> Option<Queue> {
        self.by_inode.get(&u32::try_from(inode).ok()?).copied()
    }

    /// Those of all sockets at a TCP address together.
    pub fn at(&self, address: SocketAddr) -> Option<Queue> {
        self.by_address.get(&plain(address)).copied()
    }
}

/// Without what an address has besides host and port.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

/// For each of these descriptors of the process the connections that wait, where that is known.
pub fn waiting(pid: i64, fds: &[i64]) -> Vec<(i64, Option<Queue>)> {
    let inode = |fd: &i64| {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
        let name = link.to_str()?.strip_prefix("socket:[")?;
        name.strip_suffix(']')?.parse::<u64>().ok()
    };
    let inodes: Vec<(i64, Option<u64>)> = fds.iter().map(|fd| (*fd, inode(fd))).collect();
    let queues = match inodes.iter().any(|(_, inode)| inode.is_some()) {
        true => listening(),
        false => Queues::default(),
    };
    inodes
        .into_iter()
        .map(|(fd, inode)| (fd, inode.and_then(|inode| queues.of_inode(inode))))
        .collect()
}

/// Asks for the queues of all listening sockets. Those that the kernel does not tell are left out.
pub fn listening() -> Queues {
    let mut found = Queues::default();
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkSockDiag;
    let Ok(kernel) = socket(AddressFamily::Netlink, SockType::Datagram, flags, protocol) else {
        return found;
    };
    // the kernel answers at once or never
    let limit = TimeVal::new(1, 0);
    let _ =
        nix::sys::socket::setsockopt(&kernel, nix::sys::socket::sockopt::ReceiveTimeout, &limit);
    for request in [inet(INET), inet(INET6), unix()] {
        if let Some(()) = ask(&kernel, &request) {
            collect(&kernel, &mut found);
        }
    }
    found
}

/// `struct nlmsghdr` before a request.
fn headed(body: &[u8]) -> Vec<u8> {
    let length = 16 + body.len();
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(DUMP.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// `struct inet_diag_req_v2`: all listening TCP sockets of a family.
fn inet(family: u8) -> Vec<u8> {
    let mut body = vec![family, TCP, 0, 0];
    body.extend(LISTENING.to_ne_bytes());
    body.extend([0; 48]);
    headed(&body)
}

/// `struct unix_diag_req`: all listening Unix sockets.
fn unix() -> Vec<u8> {
    let mut body = vec![UNIX, 0, 0, 0];
    body.extend(LISTENING.to_ne_bytes());
    body.extend([0; 4]);
    body.extend(SHOW_QUEUE.to_ne_bytes());
    body.extend([0; 8]);
    headed(&body)
}

fn ask(kernel: &OwnedFd, request: &[u8]) -> Option<()> {
    let sent = send(kernel.as_raw_fd(), request, MsgFlags::empty()).ok()?;
    (sent == request.len()).then_some(())
}

/// Takes the answers up to the last one.
fn collect(kernel: &OwnedFd, found: &mut Queues) {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let Ok(size) = recv(kernel.as_raw_fd(), &mut buffer, MsgFlags::empty()) else {
            return;
        };
        let Some(answers) = buffer.get(..size).filter(|answers| !answers.is_empty()) else {
            return;
        };
        if !take(answers, found) {
            return;
        }
    }
}

/// Takes the answers of one datagram; false after the last one.
fn take(mut answers: &[u8], found: &mut Queues) -> bool {
    while let (Some(length), Some(kind)) = (word(answers, 0), half(answers, 4)) {
        let length = length as usize;
        let Some(answer) = answers.get(16..length) else {
            return false;
        };
        match kind {
            DONE | ERROR => return false,
            BY_FAMILY => {
                let told = match answer.first() {
                    // struct unix_diag_msg, and attributes
                    Some(&UNIX) => word(answer, 4).zip(attribute(answer, 16)),
                    // struct inet_diag_msg: behind its identity expires, rqueue, wqueue, uid, inode
                    _ => word(answer, 68).zip(queue(answer, 56)),
                };
                found.by_inode.extend(told);
                if let (Some(address), Some((_, queue))) = (address(answer), told) {
                    let all = found.by_address.entry(address).or_default();
                    all.waiting = all.waiting.saturating_add(queue.waiting);
                    all.limit = all.limit.saturating_add(queue.limit);
                }
            }
            _ => {}
        }
        answers = answers.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    true
}

/// The length of the queue among the attributes from there on.
fn attribute(answer: &[u8], from: usize) -> Option<Queue> {
    let mut rest = answer.get(from..)?;
    loop {
        let length = usize::from(half(rest, 0)?);
        if half(rest, 2)? == QUEUE {
            return queue(rest, 4);
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}

/// What waits, and the limit behind it.
fn queue(bytes: &[u8], at: usize) -> Option<Queue> {
    let (waiting, limit) = word(bytes, at).zip(word(bytes, at + 4))?;
    Some(Queue { waiting, limit })
}

/// The address of a listening TCP socket: the port and the address at the beginning of `struct inet_diag_sockid`.
fn address(answer: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(answer.get(4..6)?.try_into().ok()?);
    let ip = match *answer.first()? {
        INET => IpAddr::V4(Ipv4Addr::from(
            <[u8; 4]>::try_from(answer.get(8..12)?).ok()?,
        )),
        INET6 => IpAddr::V6(Ipv6Addr::from(
            <[u8; 16]>::try_from(answer.get(8..24)?).ok()?,
        )),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    bytes.try_into().ok().map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn waiting_connections_are_counted_by_the_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind(&path).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let fds = [tcp.as_raw_fd(), unix.as_raw_fd(), file.as_raw_fd(), 9999].map(i64::from);
        let counted = || {
            let pid = i64::from(std::process::id());
            let waiting = waiting(pid, &fds);
            assert!(waiting.iter().map(|(fd, _)| *fd).eq(fds));
            let counts = waiting.into_iter().map(|(_, queue)| Some(queue?.waiting));
            counts.collect::<Vec<Option<u32>>>()
        };
        assert_eq!(counted(), [Some(0), Some(0), None, None]);
        let address = tcp.local_addr().unwrap();
        let clients = [(); 3].map(|()| TcpStream::connect(address).unwrap());
        let client = UnixStream::connect(&path).unwrap();
        assert_eq!(counted(), [Some(3), Some(1), None, None]);
        assert_eq!(listening().at(address).map(|queue| queue.waiting), Some(3));
        drop(tcp.accept().unwrap());
        drop((clients, client));
    }

    #[test]
    fn a_queue_is_full_beyond_its_limit() {
        use socket2::{Domain, Socket, Type};
        let tcp = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        tcp.bind(&any.into()).unwrap();
        tcp.listen(1).unwrap();
        let address = tcp.local_addr().unwrap().as_socket().unwrap();
        let fd = i64::from(tcp.as_raw_fd());
        let queue = || waiting(i64::from(std::process::id()), &[fd])[0].1.unwrap();
        assert_eq!(
            queue(),
            Queue {
                waiting: 0,
                limit: 1
            }
        );
        let one = TcpStream::connect(address).unwrap();
        assert!(!queue().is_full());
        let other = TcpStream::connect(address).unwrap();
        assert_eq!(
            queue(),
            Queue {
                waiting: 2,
                limit: 1
            }
        );
        assert!(queue().is_full());
        drop((one, other));
    }

    #[test]
    fn broken_answers_do_no_harm() {
        let mut found = Queues::default();
        for answers in [
            &b""[..],
            &[1, 0, 0],
            &[255; 40],
            &[16, 0, 0, 0, 20, 0, 0, 0],
        ] {
            take(answers, &mut found);
        }
        // a header of length 0 is no step
        take(&[0; 64], &mut found);
        assert!(found.by_inode.is_empty() && found.by_address.is_empty());
    }
}
