//! Which daemon an agent is about, and the name under which the agent of a daemon is found: derived from the daemon's
//! endpoint, so that two agents on one daemon meet, and a control command needs no more than the endpoint.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};

use super::control::Place;
use crate::config::{Config, Document};
use crate::state::Settings;
use crate::wire::Endpoint;
use crate::wire::endpoint::DEFAULT_CONTROL;

/// The longest name of a socket in the abstract namespace.
const LONGEST: usize = 107;

/// The control endpoint that runs are about: the caller's, else the configuration's, else the environment's, else the
/// default.
///
/// # Errors
/// The configuration cannot be read, or the endpoint makes no sense.
pub fn endpoint(settings: &Settings) -> Result<Endpoint, String> {
    let text = match (&settings.endpoint, &settings.config) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => match Config::load(path, &settings.environ, &settings.cwd) {
            Ok(config) => config.circus.endpoint,
            // A mistake elsewhere in the file is no reason to lose sight of the daemon.
            Err(error) => {
                plain_endpoint(&settings.cwd.join(path)).ok_or_else(|| error.to_string())?
            }
        },
        (None, None) => settings
            .fallback_endpoint
            .clone()
            .unwrap_or_else(|| DEFAULT_CONTROL.to_string()),
    };
    let endpoint = text
        .parse::<Endpoint>()
        .map_err(|error| error.to_string())?;
    Ok(endpoint.reachable())
}

/// The endpoint that the file itself says in plain text, whatever else is wrong with it.
fn plain_endpoint(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let document = Document::parse(&bytes, &path.display().to_string()).ok()?;
    let endpoint = document.get("circus", "endpoint")?;
    (!endpoint.contains(['(', '{'])).then(|| endpoint.to_string())
}

/// The place at which the agent of this endpoint is asked.
pub fn place(endpoint: &Endpoint, cwd: &Path) -> Place {
    let normalized = normalized(endpoint, cwd);
    Place::Name(socket_name(&normalized))
}

/// The daemon's endpoint in the one spelling that all its spellings have in common: an address instead of a host's
/// name, loopback instead of every interface, the real directory of a socket file.
pub fn normalized(endpoint: &Endpoint, cwd: &Path) -> String {
    match endpoint {
        Endpoint::Ipc(path) => {
            let path = cwd.join(path);
            let real = |directory: &Path| directory.canonicalize().ok();
            // The file itself is there only while the daemon runs.
            let path: PathBuf = match (path.parent().and_then(real), path.file_name()) {
                (Some(directory), Some(name)) => directory.join(name),
                _ => path,
            };
            Endpoint::Ipc(path).to_string()
        }
        Endpoint::Tcp { host, port } => Endpoint::Tcp {
            host: address(host, *port),
            port: *port,
        }
        .to_string(),
    }
}

fn address(host: &str, port: u16) -> String {
    let bare = host.trim_end_matches('.').to_ascii_lowercase();
    let found: Vec<IpAddr> = match bare.as_str() {
        // Whatever a machine's files say of it.
        "localhost" | "*" => return Ipv4Addr::LOCALHOST.to_string(),
        name => match name.parse() {
            Ok(address) => vec![address],
            Err(_) => (name, port)
                .to_socket_addrs()
                .map(|found| found.map(|address| address.ip()).collect())
                .unwrap_or_default(),
        },
    };
    let first = found.iter().find(|ip| ip.is_ipv4()).or(found.first());
    match first.map(IpAddr::to_canonical) {
        // A daemon that listens on every interface is one, by whichever address it is called.
        Some(ip) if is_ours(ip) && listens_everywhere(port) => Ipv4Addr::LOCALHOST.to_string(),
        Some(ip) if ip.is_unspecified() && ip.is_ipv4() => Ipv4Addr::LOCALHOST.to_string(),
        Some(ip) if ip.is_unspecified() => "::1".to_string(),
        Some(ip) => ip.to_string(),
        None => bare,
    }
}

/// An address of this machine.
fn is_ours(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Somebody on this machine listens on the port of every IPv4 address.
fn listens_everywhere(port: u16) -> bool {
    let everywhere = [
        ("/proc/net/tcp", format!("00000000:{port:04X}")),
        ("/proc/net/tcp6", format!("{:032}:{port:04X}", 0)),
    ];
    everywhere.iter().any(|(table, address)| {
        let table = std::fs::read_to_string(table).unwrap_or_default();
        // sl, local address, remote address, state; 0A is LISTEN.
        table.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next() == Some(address) && fields.nth(1) == Some("0A")
        })
    })
}

/// The name of the agent's socket in the abstract namespace.
pub fn socket_name(normalized: &str) -> Vec<u8> {
    let name = format!("circ-agent/{normalized}").into_bytes();
    if name.len() <= LONGEST {
        return name;
    }
    // FNV-1a: the same in every version of the program.
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut short = name[..LONGEST - 17].to_vec();
    short.extend_from_slice(format!("#{hash:016x}").as_bytes());
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, cwd: &Path) -> String {
        normalized(&text.parse().unwrap(), cwd)
    }

    #[test]
    fn spellings_of_one_endpoint_are_one() {
        let cwd = Path::new("/");
        for text in [
            "tcp://127.0.0.1:5555",
            "tcp://localhost:5555",
            "tcp://LocalHost:5555",
            "tcp://0.0.0.0:5555",
            "tcp://*:5555",
            "tcp://[::ffff:127.0.0.1]:5555",
        ] {
            assert_eq!(of(text, cwd), "tcp://127.0.0.1:5555", "{text}");
        }
        assert_eq!(of("tcp://127.0.0.2:5555", cwd), "tcp://127.0.0.2:5555");
        assert_eq!(of("tcp://[::]:1", cwd), "tcp://[::1]:1");
        assert_eq!(
            of("tcp://no.such.host.invalid:1", cwd),
            "tcp://no.such.host.invalid:1"
        );
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("run")).unwrap();
        std::os::unix::fs::symlink("run", real.join("link")).unwrap();
        let wanted = format!("ipc://{}", real.join("run/control").display());
        for text in ["run/control", "link/control", "run/../link/control"] {
            assert_eq!(of(&format!("ipc://{text}"), &real), wanted, "{text}");
        }
        let absolute = format!("ipc://{}", real.join("link/control").display());
        assert_eq!(of(&absolute, cwd), wanted);
    }

    #[test]
    fn a_daemon_on_every_interface_is_one_daemon() {
        let everywhere = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = everywhere.local_addr().unwrap().port();
        let call = |host: &str| of(&format!("tcp://{host}:{port}"), Path::new("/"));
        assert_eq!(call("127.0.0.2"), call("127.0.0.1"));
        drop(everywhere);
        let alone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = alone.local_addr().unwrap().port();
        let call = |host: &str| of(&format!("tcp://{host}:{port}"), Path::new("/"));
        assert_ne!(call("127.0.0.2"), call("127.0.0.1"));
    }

    #[test]
    fn long_names_are_shortened_and_stay_apart() {
        let long = |end: &str| socket_name(&format!("ipc:///{}/{end}", "x".repeat(200)));
        assert_eq!(long("a").len(), LONGEST);
        assert_ne!(long("a"), long("b"));
        assert_eq!(
            socket_name("tcp://127.0.0.1:1"),
            b"circ-agent/tcp://127.0.0.1:1"
        );
    }
}
