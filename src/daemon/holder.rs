//! Who has the address that we cannot bind: read from `/proc`, for error messages only.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// A process that has a socket bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its pid.
    pub pid: u32,
    /// Its command line, shortened.
    pub command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} ({})", self.pid, self.command)
    }
}

/// The process that listens on (or, for datagrams, is bound to) an address that collides with
/// `address`. `None` if nobody is found, which without root includes other users' processes.
pub fn of_address(address: SocketAddr) -> Option<Holder> {
    let tables = ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"];
    tables.iter().find_map(|table| {
        let text = std::fs::read_to_string(format!("/proc/net/{table}")).ok()?;
        let inode = text.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (bound, state) = (parse_address(fields.get(1)?)?, *fields.get(3)?);
            // 0A is LISTEN; a connection that merely uses the port is not in the way.
            let listens = !table.starts_with("tcp") || state == "0A";
            let inode = fields.get(9)?;
            (listens && collides(bound, address)).then(|| (*inode).to_owned())
        })?;
        of_inode(&inode)
    })
}

/// The process that has a Unix socket bound to this path.
pub fn of_path(path: &Path) -> Option<Holder> {
    let path = path.to_str()?;
    let text = std::fs::read_to_string("/proc/net/unix").ok()?;
    text.lines().skip(1).find_map(|line| {
        // Num RefCount Protocol Flags Type St Inode Path; the path may hold spaces.
        let mut fields = line.splitn(8, ' ').filter(|field| !field.is_empty());
        let (inode, bound) = (fields.nth(6)?, fields.next()?);
        let (inode, bound) = match inode.parse::<u64>() {
            Ok(_) => (inode, bound),
            Err(_) => return None,
        };
        if bound == path { of_inode(inode) } else { None }
    })
}

/// The command line of a process in one line of at most 60 characters; its name for kernel threads
/// and zombies, which have none.
pub fn command_of(pid: u32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    let text = match text.trim() {
        "" => std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?,
        some => some.to_owned(),
    };
    let text: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    Some(match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    })
}

/// The first process that has a descriptor of this socket.
fn of_inode(inode: &str) -> Option<Holder> {
    let wanted = format!("socket:[{inode}]");
    let mut pids: Vec<u32> = std::fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.into_iter().find_map(|pid| {
        let mut fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let has = |entry: std::io::Result<std::fs::DirEntry>| {
            let link = std::fs::read_link(entry.ok()?.path()).ok()?;
            (link.to_str()? == wanted).then_some(())
        };
        fds.find_map(has)?;
        Some(Holder {
            pid,
            command: command_of(pid).unwrap_or_default(),
        })
    })
}

/// `0100007F:1F40` or its IPv6 form: words as the kernel has them in memory, in hexadecimal.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for word in host.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let host = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        Err(_) => {
            let sixteen = <[u8; 16]>::try_from(bytes.as_slice()).ok()?;
            IpAddr::V6(Ipv6Addr::from(sixteen))
        }
    };
    Some(SocketAddr::new(host, port))
}

/// Same port, and the same host or a wildcard on either side.
fn collides(bound: SocketAddr, wanted: SocketAddr) -> bool {
    let (a, b) = (bound.ip().to_canonical(), wanted.ip().to_canonical());
    bound.port() == wanted.port() && (a == b || a.is_unspecified() || b.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let holder = of_address(address).unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.command.is_empty());
        let any = SocketAddr::from(([0, 0, 0, 0], address.port()));
        assert_eq!(of_address(any).map(|holder| holder.pid), Some(holder.pid));
        let other = SocketAddr::from(([127, 0, 0, 2], address.port()));
        assert_eq!(of_address(other), None);
    }

    #[test]
    fn the_holder_of_a_path_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a socket");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(of_path(&path).unwrap().pid, std::process::id());
        assert_eq!(of_path(&directory.path().join("none")), None);
    }

    #[test]
    fn kernel_addresses_are_read() {
        #[cfg(target_endian = "little")]
        assert_eq!(
            parse_address("0100007F:1F40"),
            Some(SocketAddr::from(([127, 0, 0, 1], 8000)))
        );
        assert_eq!(parse_address("nonsense"), None);
        let six = parse_address("00000000000000000000000000000000:0050").unwrap();
        assert!(six.ip().is_unspecified() && six.is_ipv6());
    }
}
