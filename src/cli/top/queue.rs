//! How many connections wait at the sockets of a daemon on this machine: the kernel tells it to whoever asks for the
//! listening sockets, as `ss -l` does.
//!
//! A socket is found by its inode, which the daemon's own descriptor leads to: so it is never another one at the same
//! address. Where the daemon's descriptors cannot be looked at (another user's, another machine), nothing is said.

use std::collections::HashMap;

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

/// For each of these descriptors of the process the connections that wait, where that is known.
pub fn waiting(pid: i64, fds: &[i64]) -> Vec<(i64, Option<u32>)> {
    let inode = |fd: &i64| {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
        let name = link.to_str()?.strip_prefix("socket:[")?;
        name.strip_suffix(']')?.parse::<u32>().ok()
    };
    let inodes: Vec<(i64, Option<u32>)> = fds.iter().map(|fd| (*fd, inode(fd))).collect();
    if inodes.iter().all(|(_, inode)| inode.is_none()) {
        return inodes;
    }
    let lengths = queues();
    let length = |inode: u32| lengths.get(&inode).copied();
    inodes
        .into_iter()
        .map(|(fd, inode)| (fd, inode.and_then(length)))
        .collect()
}

/// By the inodes of all listening sockets how many connections wait at each.
fn queues() -> HashMap<u32, u32> {
    let mut found = HashMap::new();
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
fn collect(kernel: &OwnedFd, found: &mut HashMap<u32, u32>) {
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
fn take(mut answers: &[u8], found: &mut HashMap<u32, u32>) -> bool {
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
                    _ => word(answer, 68).zip(word(answer, 56)),
                };
                found.extend(told);
            }
            _ => {}
        }
        answers = answers.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    true
}

/// The length of the queue among the attributes from there on.
fn attribute(answer: &[u8], from: usize) -> Option<u32> {
    let mut rest = answer.get(from..)?;
    loop {
        let length = usize::from(half(rest, 0)?);
        if half(rest, 2)? == QUEUE {
            return word(rest, 4);
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
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
            let counts: Vec<Option<u32>> = waiting.into_iter().map(|(_, count)| count).collect();
            counts
        };
        assert_eq!(counted(), [Some(0), Some(0), None, None]);
        let clients = [(); 3].map(|()| TcpStream::connect(tcp.local_addr().unwrap()).unwrap());
        let client = UnixStream::connect(&path).unwrap();
        assert_eq!(counted(), [Some(3), Some(1), None, None]);
        drop(tcp.accept().unwrap());
        drop((clients, client));
    }

    #[test]
    fn broken_answers_do_no_harm() {
        let mut found = HashMap::new();
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
        assert!(found.is_empty());
    }
}
