use super::*;
use crate::config::SocketType;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

fn tcp(port: u16) -> SocketConfig {
    SocketConfig::stream("web", "127.0.0.1", port)
}

fn unix(path: &Path) -> SocketConfig {
    SocketConfig {
        path: path.to_str().map(str::to_owned),
        family: SocketFamily::Unix,
        ..tcp(0)
    }
}

fn port(socket: &ListenSocket) -> u16 {
    match *socket.place() {
        Place::Net(address) => address.port(),
        Place::File(_) => panic!("not a network socket"),
    }
}

#[test]
fn a_tcp_socket_listens_on_a_real_port() {
    let socket = ListenSocket::open(&tcp(0)).unwrap();
    assert_ne!(port(&socket), 0);
    assert!(socket.fd() > 2);
    let info = socket.info();
    let keys: Vec<&String> = info.keys().collect();
    assert_eq!(keys, ["fd", "name", "backlog", "host", "port"]);
    assert_eq!(info["host"], "127.0.0.1");

    let accepting = TcpListener::from(socket.open.fd.try_clone().unwrap());
    // blocking = False in circus means that workers get a non-blocking socket.
    let nothing = accepting.accept().unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    accepting.set_nonblocking(false).unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", port(&socket))).unwrap();
    let (mut server, _) = accepting.accept().unwrap();
    assert!(
        server.nodelay().unwrap(),
        "accepted sockets inherit TCP_NODELAY"
    );
    client.write_all(b"x").unwrap();
    let mut byte = [0];
    server.read_exact(&mut byte).unwrap();
}

#[test]
fn a_port_in_use_names_its_holder() {
    let taken = ListenSocket::open(&tcp(0)).unwrap();
    let error = ListenSocket::open(&tcp(port(&taken))).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.errno, nix::libc::EADDRINUSE);
    let start = format!(
        "cannot bind socket web to 127.0.0.1:{}: Address already in use; held by pid {} (",
        port(&taken),
        std::process::id()
    );
    assert!(text.starts_with(&start), "{text}");
}

#[test]
fn reuseport_sockets_are_bound_for_each_worker() {
    // The daemon's socket is not bound, so the port must be known beforehand: take one and leave it.
    let free = port(&ListenSocket::open(&tcp(0)).unwrap());
    let config = SocketConfig {
        so_reuseport: true,
        ..tcp(free)
    };
    let socket = ListenSocket::open(&config).unwrap();
    assert!(socket.reuses_port());
    // A child that another test just starts may hold the old listener until its exec.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", free)).is_ok() {
        assert!(std::time::Instant::now() < deadline, "something listens");
        std::thread::yield_now();
    }
    let first = socket.bind_reuseport().unwrap();
    let second = socket.bind_reuseport().unwrap();
    assert_ne!(first.as_raw_fd(), second.as_raw_fd());
    assert!(TcpStream::connect(("127.0.0.1", free)).is_ok());
}

#[test]
fn a_unix_socket_has_its_mode_and_goes_with_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let config = SocketConfig {
        umask: 0o77,
        ..unix(&path)
    };
    let socket = ListenSocket::open(&config).unwrap();
    assert_eq!(socket.info()["path"], path.to_str().unwrap());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    UnixStream::connect(&path).unwrap();
    let error = ListenSocket::open(&config).unwrap_err().to_string();
    assert!(error.contains("held by pid"), "{error}");
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn only_our_own_file_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let replacing = SocketConfig {
        replace: true,
        ..unix(&path)
    };
    let old = ListenSocket::open(&replacing).unwrap();
    let new = ListenSocket::open(&replacing).unwrap();
    drop(old);
    assert!(path.exists(), "the file belongs to the new socket");
    drop(new);
    assert!(!path.exists());

    // A file left by a daemon that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = ListenSocket::open(&unix(&path)).unwrap_err().to_string();
    assert!(error.contains("replace = True"), "{error}");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    assert!(ListenSocket::open(&replacing).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn other_kinds_and_bad_ones() {
    let directory = tempfile::tempdir().unwrap();
    let kinds = [
        SocketType::Datagram,
        SocketType::SeqPacket,
        SocketType::Stream,
    ];
    for (number, kind) in kinds.into_iter().enumerate() {
        let path = directory.path().join(number.to_string());
        let config = SocketConfig {
            kind,
            ..unix(&path)
        };
        ListenSocket::open(&config).unwrap();
    }
    let datagram = SocketConfig {
        kind: SocketType::Datagram,
        proto: Some("udp".into()),
        ..tcp(0)
    };
    assert_ne!(port(&ListenSocket::open(&datagram).unwrap()), 0);
    let bad = [
        SocketConfig {
            proto: Some("nonsense".into()),
            ..tcp(0)
        },
        SocketConfig {
            host: "no.such.host.invalid".into(),
            ..tcp(0)
        },
        SocketConfig {
            host: "203.0.113.1".into(),
            ..tcp(0)
        },
        SocketConfig {
            kind: SocketType::Rdm,
            ..tcp(0)
        },
        SocketConfig {
            interface: Some("nosuchif0".into()),
            ..tcp(0)
        },
        SocketConfig {
            family: SocketFamily::Inet6,
            ..tcp(0)
        },
        SocketConfig {
            family: SocketFamily::Unix,
            ..tcp(0)
        },
        unix(&directory.path().join("none/s")),
        unix(&directory.path().join("x".repeat(200))),
    ];
    for config in bad {
        let error = ListenSocket::open(&config).unwrap_err();
        assert!(error.to_string().contains("web"), "{error}");
    }
}

#[test]
fn the_same_section_is_recognised() {
    let socket = ListenSocket::open(&tcp(0)).unwrap();
    assert!(socket.is_same(&tcp(0)));
    assert!(!socket.is_same(&tcp(1)));
    let mut more = tcp(0);
    more.raw.insert("unknown".into(), "x".into());
    assert!(!socket.is_same(&more));
}
