//! Making sockets as their sections want them, and the words for what goes wrong.

use super::place::{Place, abstract_name, type_of};
use crate::config::{SocketConfig, SocketType};
use crate::daemon::holder;
use nix::unistd::AccessFlags;
use socket2::{Domain, Protocol, SockAddr, Socket};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// A socket that could not be made, bound or listened on. Its text says which, where, why, and who
/// holds the address if that can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketError {
    /// The name of the socket.
    pub name: String,
    /// The errno, 0 where the system was not the one to refuse.
    pub errno: i32,
    text: String,
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for SocketError {}

impl SocketError {
    /// Another socket or endpoint, which is about to go, does not make room.
    pub fn in_the_way(config: &SocketConfig, old: &str, error: &io::Error) -> SocketError {
        let to = format!(" where {old} is");
        fail(config, "cannot bind", &to, error)
    }

    /// Where the system was not the one to refuse.
    pub(crate) fn refused(config: &SocketConfig, text: String) -> SocketError {
        SocketError {
            name: config.name.clone(),
            errno: 0,
            text,
        }
    }
}

/// Makes the socket with its options, not bound yet. It is closed on exec unless passed on.
pub(super) fn new_socket(config: &SocketConfig, place: &Place) -> Result<Socket, SocketError> {
    let domain = match place {
        Place::File(_) => Domain::UNIX,
        Place::Net(address) => Domain::for_address(*address),
    };
    let kind = type_of(config.kind);
    let protocol = match &config.proto {
        None => None,
        Some(name) => Some(protocol(config, name)?),
    };
    let socket = Socket::new(domain, kind, protocol).map_err(|error| {
        fail(
            config,
            "cannot make",
            &format!(" ({:?})", config.kind),
            &error,
        )
    })?;
    let setup = || -> io::Result<()> {
        if let Place::Net(_) = place {
            if config.so_reuseport {
                socket.set_reuse_port(true)?;
            }
            if config.kind == SocketType::Stream {
                // Accepted connections inherit it: servers that write head and body apart would
                // wait for delayed acknowledgements. Other stream protocols may not know it.
                let _ = socket.set_tcp_nodelay(true);
            }
        }
        socket.set_reuse_address(true)
    };
    setup().map_err(|error| fail(config, "cannot set the options of", "", &error))?;
    if let (Place::Net(_), Some(interface)) = (place, &config.interface) {
        let bound = socket.bind_device(Some(interface.as_bytes()));
        bound.map_err(|error| {
            let to = format!(" to the interface {interface}");
            fail(config, "cannot bind", &to, &error)
        })?;
    }
    Ok(socket)
}

/// Moves a descriptor away from 0, 1 and 2, where a worker has its standard streams.
pub(super) fn above_standard_streams(
    config: &SocketConfig,
    socket: Socket,
) -> Result<OwnedFd, SocketError> {
    let fd = OwnedFd::from(socket);
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    // A duplicate made by the standard library is always above them.
    fd.try_clone()
        .map_err(|error| fail(config, "cannot open", "", &error))
}

pub(super) fn bind_and_listen(
    config: &SocketConfig,
    socket: &Socket,
    place: &Place,
) -> Result<(), SocketError> {
    bind(config, socket, place)?;
    let to = format!(" to {place}");
    settle(config, socket).map_err(|error| fail(config, "cannot listen on", &to, &error))
}

fn bind(config: &SocketConfig, socket: &Socket, place: &Place) -> Result<(), SocketError> {
    let to = format!(" to {place}");
    let address = match place {
        Place::Net(address) => SockAddr::from(*address),
        Place::File(path) => {
            let name = abstract_name(path).map(|name| format!("\0{name}"));
            SockAddr::unix(name.as_deref().unwrap_or(path))
                .map_err(|error| fail(config, "cannot bind", &to, &error))?
        }
    };
    let bound = match place {
        Place::Net(_) => socket.bind(&address),
        Place::File(_) => {
            // The mask belongs to the process, not to the thread; it is changed for this one call.
            let bits = nix::sys::stat::Mode::from_bits_truncate(config.umask);
            let before = nix::sys::stat::umask(bits);
            let bound = socket.bind(&address);
            nix::sys::stat::umask(before);
            bound
        }
    };
    bound.map_err(|error| {
        let mut failure = fail(config, "cannot bind", &to, &error);
        if let (nix::libc::EADDRINUSE, Place::Net(address)) = (failure.errno, place)
            && let Some(holder) = holder::of_address(*address)
        {
            failure.text = format!("{}; held by {holder}", failure.text);
        }
        failure
    })
}

/// What can be changed on a bound socket as well.
pub(super) fn settle(config: &SocketConfig, socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(!config.blocking)?;
    match config.kind {
        SocketType::Stream | SocketType::SeqPacket => socket.listen(config.backlog),
        _ => Ok(()),
    }
}

/// Whether a socket could be opened there, as far as that can be found out without listening; see
/// [`super::ListenSocket::open_at`]. Files are not touched. If it `becomes_free`, what is there now does not count.
///
/// # Errors
/// As when it is opened.
pub fn try_out(
    config: &SocketConfig,
    place: &Place,
    becomes_free: bool,
) -> Result<(), SocketError> {
    let socket = new_socket(config, place)?;
    match place {
        // it is not bound before there is a worker
        Place::Net(_) if config.so_reuseport => Ok(()),
        Place::Net(address) if becomes_free => {
            let mut address = *address;
            address.set_port(0);
            bind(config, &socket, &Place::Net(address))
        }
        Place::File(path) if abstract_name(path).is_none() => {
            if !becomes_free {
                obstacle(config, path)?;
            }
            let path = Path::new(path);
            can_make_file(path).map_err(|error| {
                let to = format!(" to {}", path.display());
                fail(config, "cannot bind", &to, &error)
            })
        }
        Place::File(_) if becomes_free => Ok(()),
        _ => bind(config, &socket, place),
    }
}

/// Whether the file of a Unix socket could be made there, whatever is there now.
///
/// # Errors
/// Its name is too long, its directory is not there, or may not be written.
pub fn can_make_file(path: &Path) -> io::Result<()> {
    SockAddr::unix(path)?;
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(io::ErrorKind::AlreadyExists.into()),
    };
    if !std::fs::metadata(directory)?.is_dir() {
        return Err(io::Error::from_raw_os_error(nix::libc::ENOTDIR));
    }
    let writable = AccessFlags::W_OK | AccessFlags::X_OK;
    nix::unistd::eaccess(directory, writable).map_err(io::Error::from)
}

/// Deals with a file that is where a Unix socket shall be.
pub(super) fn clear_path(config: &SocketConfig, path: &str) -> Result<(), SocketError> {
    if obstacle(config, path)? {
        return std::fs::remove_file(path)
            .map_err(|error| fail(config, "cannot replace the file of", "", &error));
    }
    Ok(())
}

/// Whether a socket file is there that may be replaced.
fn obstacle(config: &SocketConfig, path: &str) -> Result<bool, SocketError> {
    let Ok(there) = std::fs::symlink_metadata(path) else {
        return Ok(false); // if it is another problem than absence, bind will say so
    };
    let refuse = |hint: String| SocketError {
        name: config.name.clone(),
        errno: nix::libc::EADDRINUSE,
        text: format!("cannot bind socket {} to {path}: {hint}", config.name),
    };
    if !there.file_type().is_socket() {
        return Err(refuse("a file that is no socket is there".into()));
    }
    if config.replace {
        return Ok(true);
    }
    Err(refuse(match holder::of_path(Path::new(path)) {
        Some(holder) => format!("the file is there already; held by {holder}"),
        None => "the file is there already and no process seems to use it; remove it, or set \
                 replace = True in its section"
            .into(),
    }))
}

/// `getprotobyname`.
fn protocol(config: &SocketConfig, name: &str) -> Result<Protocol, SocketError> {
    let known = match name {
        "ip" => Some(0),
        "icmp" => Some(1),
        "tcp" => Some(6),
        "udp" => Some(17),
        "ipv6-icmp" => Some(58),
        "sctp" => Some(132),
        "udplite" => Some(136),
        _ => None,
    };
    let listed = || {
        let text = std::fs::read_to_string("/etc/protocols").ok()?;
        text.lines().find_map(|line| {
            let line = line.split('#').next()?;
            let mut words = line.split_whitespace();
            let (first, number) = (words.next()?, words.next()?);
            (first == name || words.any(|alias| alias == name)).then(|| number.parse().ok())?
        })
    };
    let number: Option<i32> = known.or_else(listed);
    number.map(Protocol::from).ok_or_else(|| {
        let text = format!("socket {}: no protocol is named {name:?}", config.name);
        SocketError::refused(config, text)
    })
}

pub(super) fn fail(config: &SocketConfig, tried: &str, to: &str, error: &io::Error) -> SocketError {
    let errno = error.raw_os_error().unwrap_or(0);
    let why = match errno {
        0 => error.to_string(),
        errno => nix::errno::Errno::from_raw(errno).desc().to_owned(),
    };
    SocketError {
        name: config.name.clone(),
        errno,
        text: format!("{tried} socket {}{to}: {why}", config.name),
    }
}
