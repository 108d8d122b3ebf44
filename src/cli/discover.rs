//! `circ discover`: which daemons there are, on this machine and in its network.

use crate::cli::connection::seconds;
use crate::cli::{EXIT_UNREACHABLE, EXIT_USAGE, output};
use crate::config::Config;
use crate::config::DEFAULT_MULTICAST_ENDPOINT as DEFAULT_MULTICAST;
use crate::wire::Endpoint;
use crate::wire::multicast::{Answer, MAX_DATAGRAM, Multicast};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Arguments of `circ discover`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Daemons answer if their [circus] section has a multicast_endpoint, which is the default.\n\
    Examples:\n  circ discover\n  circ discover --timeout 3 --json"
)]
pub struct Args {
    /// The group in which daemons are asked: udp://GROUP:PORT [default: udp://237.219.251.97:12027]
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "config")]
    multicast_endpoint: Option<Multicast>,
    /// Take the group from the [circus] section of this circus.ini
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask only on the network in which this machine has this address; 127.0.0.1 is this machine alone
    #[arg(long, value_name = "ADDRESS")]
    interface: Option<Ipv4Addr>,
    /// Seconds to wait for answers
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "1")]
    timeout: Duration,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

/// A daemon that has answered.
struct Found {
    answer: Answer,
    from: IpAddr,
}

impl Found {
    /// Where a client connects to; `None` for what only its own machine can reach.
    fn connect(&self) -> Option<Endpoint> {
        let endpoint: Endpoint = self.answer.endpoint.parse().ok()?;
        let here = self.from.is_loopback() || is_ours(self.from);
        match endpoint {
            Endpoint::Tcp { host, port } if ["*", "0.0.0.0"].contains(&host.as_str()) => {
                let host = if here {
                    IpAddr::from(Ipv4Addr::LOCALHOST)
                } else {
                    self.from
                };
                Some(Endpoint::Tcp {
                    host: host.to_string(),
                    port,
                })
            }
            Endpoint::Tcp { host, port } => {
                let own =
                    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
                (here || !own).then_some(Endpoint::Tcp { host, port })
            }
            Endpoint::Ipc(path) => (here && path.is_absolute()).then_some(Endpoint::Ipc(path)),
        }
    }

    fn told(&self) -> Value {
        json!({
            "endpoint": self.answer.endpoint,
            "connect": self.connect().map(|endpoint| endpoint.to_string()),
            "from": self.from,
            "fqdn": self.answer.fqdn,
            "pid": self.answer.pid,
        })
    }
}

/// Whether an address is one of this machine: only then can it be bound.
fn is_ours(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// Asks, waits and prints; exit code 1 if no daemon has answered.
pub fn run(args: &Args) -> ExitCode {
    let multicast = match group(args) {
        Ok(multicast) => multicast,
        Err(reason) => {
            output::error(&reason);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let found = match ask(multicast, args.timeout) {
        Ok(found) => found,
        Err(error) => {
            output::error(&format!("cannot ask in {multicast}: {error}"));
            return ExitCode::from(EXIT_UNREACHABLE);
        }
    };
    if args.json {
        let told: Vec<Value> = found.iter().map(Found::told).collect();
        output::line(&Value::from(told).to_string());
    } else if found.is_empty() {
        output::error(&format!(
            "no daemon has answered in {multicast} within {} s",
            args.timeout.as_secs_f64()
        ));
    } else {
        output::text(&table(&found));
    }
    if found.is_empty() {
        ExitCode::from(EXIT_UNREACHABLE)
    } else {
        ExitCode::SUCCESS
    }
}

fn table(found: &[Found]) -> String {
    let heads = ["NAME", "PID", "ENDPOINT", "FROM"].map(String::from);
    let mut rows = vec![heads.to_vec()];
    for one in found {
        let connect = one.connect();
        let endpoint = match &connect {
            Some(endpoint) => endpoint.to_string(),
            None => format!("{} (over there only: use --ssh)", one.answer.endpoint),
        };
        rows.push(vec![
            one.answer.fqdn.clone().unwrap_or_else(|| "-".to_string()),
            one.answer
                .pid
                .map_or("-".to_string(), |pid| pid.to_string()),
            endpoint,
            one.from.to_string(),
        ]);
    }
    output::columns(&rows)
}

fn group(args: &Args) -> Result<Multicast, String> {
    let mut multicast = match (&args.multicast_endpoint, &args.config) {
        (Some(multicast), _) => *multicast,
        (None, Some(path)) => of_file(path)?,
        (None, None) => DEFAULT_MULTICAST
            .parse()
            .map_err(|error| format!("{error}"))?,
    };
    multicast.interface = args.interface.or(multicast.interface);
    Ok(multicast)
}

fn of_file(path: &Path) -> Result<Multicast, String> {
    let cwd = std::env::current_dir()
        .map_err(|error| format!("cannot tell the working directory: {error}"))?;
    let config = Config::load(path, &crate::cli::state::environ(), &cwd)
        .map_err(|error| error.to_string())?;
    match config.circus.multicast_endpoint.as_str() {
        "" => Err(format!(
            "{}: this daemon is not to be found: its multicast_endpoint is empty",
            path.display()
        )),
        text => text
            .parse()
            .map_err(|error| format!("{}: {error}", path.display())),
    }
}

/// Where the daemons of a group can be reached from here, as far as they can.
///
/// # Errors
/// Nobody can be asked.
pub fn endpoints(multicast: Multicast, timeout: Duration) -> io::Result<Vec<Endpoint>> {
    let found = ask(multicast, timeout)?;
    Ok(found.iter().filter_map(Found::connect).collect())
}

/// Everybody who answers, in the order of their names.
fn ask(multicast: Multicast, timeout: Duration) -> io::Result<Vec<Found>> {
    let interfaces = match multicast.interface {
        Some(interface) => vec![Some(interface)],
        // this machine may have no network, and no multicast of the network reaches it itself everywhere
        None => vec![None, Some(Ipv4Addr::LOCALHOST)],
    };
    let mut sockets = Vec::new();
    let mut problem = None;
    for interface in interfaces {
        match asking(multicast, interface) {
            Ok(socket) => sockets.push(socket),
            Err(error) => problem = Some(error),
        }
    }
    if let (true, Some(problem)) = (sockets.is_empty(), problem) {
        return Err(problem);
    }
    let end = Instant::now() + timeout;
    // a datagram may be lost
    let mut again = Some(Instant::now() + timeout.min(AGAIN));
    let mut found: Vec<Found> = Vec::new();
    let mut datagram = [0; MAX_DATAGRAM];
    while Instant::now() < end {
        if again.is_some_and(|moment| moment <= Instant::now()) {
            again = None;
            for socket in &sockets {
                // it went out once
                let _ = socket.send_to(QUESTION, multicast.group);
            }
        }
        for socket in &sockets {
            while let Ok((size, from)) = socket.recv_from(&mut datagram) {
                let answer = datagram.get(..size).and_then(Answer::parse);
                let Some(answer) = answer else { continue };
                // one that was asked twice; circusd does not tell its pid
                let same = |known: &Found| {
                    known.answer == answer && (answer.pid.is_some() || known.from == from.ip())
                };
                match found.iter_mut().find(|known| same(known)) {
                    // nearer is better
                    Some(known) if from.ip().is_loopback() => known.from = from.ip(),
                    Some(_) => {}
                    None => found.push(Found {
                        answer,
                        from: from.ip(),
                    }),
                }
            }
        }
        std::thread::sleep(LOOK);
    }
    let order = |one: &Found| {
        (
            one.answer.fqdn.clone(),
            one.answer.pid,
            one.answer.endpoint.clone(),
        )
    };
    found.sort_by_key(order);
    Ok(found)
}

/// What is sent; daemons answer to anything.
const QUESTION: &[u8] = b"{}";
/// When the question is repeated.
const AGAIN: Duration = Duration::from_millis(400);
/// From one look at the sockets to the next.
const LOOK: Duration = Duration::from_millis(5);

/// A socket that has asked.
fn asking(multicast: Multicast, interface: Option<Ipv4Addr>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    if let Some(interface) = interface {
        socket.set_multicast_if_v4(&interface)?;
    }
    // as far as circus lets its own go
    socket.set_multicast_ttl_v4(255)?;
    socket.set_multicast_loop_v4(true)?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from(socket);
    socket.send_to(QUESTION, multicast.group)?;
    Ok(socket)
}
