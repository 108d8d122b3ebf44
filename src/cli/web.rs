//! `circ web`: the web console. Opens the socket, reads the secrets, finds the daemons; the console room serves.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::logs::LogReader;
use super::ssh::{Server, Tunnel};
use super::{EXIT_UNREACHABLE, EXIT_USAGE, connection, discover, output};
use crate::config::DEFAULT_MULTICAST_ENDPOINT;
use crate::console::access::Rules;
use crate::console::credentials::{self, Credentials};
use crate::console::hub::Hub;
use crate::console::logs::LogFile;
use crate::console::server::{Listener, Site, serve};
use crate::console::way::Way;
use crate::daemon::{log, spawn};
use crate::wire::Endpoint;
use crate::wire::multicast::Multicast;

/// Threads for what may block: a disk, a password, an agent.
const BLOCKING: usize = 8;
/// From one look for daemons in the network to the next.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How long a host may take to answer ssh.
const LOGIN: Duration = Duration::from_secs(10);
/// How long daemons may take to answer to that.
const LOOK: Duration = Duration::from_secs(1);

/// Arguments of `circ web`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without a password or a token the console is served on this machine alone, to every user of it.\n\
    Examples:\n  circ web\n  circ web --config circus.ini --port 9000\n  \
    circ web --endpoint tcp://127.0.0.1:5555 --endpoint ipc:///run/other.sock\n  \
    circ web --ssh ops@web1 --ssh ops@web2=ipc:///run/circ.sock\n  \
    circ web --hash-password > password\n  \
    circ web --host 0.0.0.0 --password-file password --token-file tokens"
)]
pub struct Args {
    /// Control endpoint of a daemon: tcp://HOST:PORT or ipc://PATH; may be repeated
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Vec<String>,
    /// Take an endpoint from the [circus] section of this circus.ini; may be repeated
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Log in to this host with ssh and reach the endpoints from there, or this one alone if it is named; may be repeated
    #[arg(long, value_name = "USER@HOST[:PORT][=ENDPOINT]")]
    ssh: Vec<String>,
    /// Find further daemons in the network, in this group: udp://GROUP:PORT
    #[arg(long, value_name = "ENDPOINT", num_args = 0..=1, default_missing_value = DEFAULT_MULTICAST_ENDPOINT)]
    multicast: Option<Multicast>,
    /// Address to serve
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    host: String,
    /// Port to serve; 0 takes a free one, which the log tells
    #[arg(long, value_name = "PORT", default_value = "8080")]
    port: u16,
    /// Serve the listening socket that this process was started with under this number
    #[arg(long, value_name = "N", conflicts_with_all = ["host", "port"])]
    fd: Option<i32>,
    /// Nobody may change anything
    #[arg(long)]
    read_only: bool,
    /// A file with the password for browsers, or with what --hash-password has made of it; mode 0600
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A file with tokens for programs, one a line, each perhaps followed by read-only; mode 0600
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A name under which the console is reached, as that of a proxy in front of it; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Read a password from standard input, print its hash for --password-file, and end
    #[arg(long)]
    hash_password: bool,
    /// How much to log: debug, info, warning, error or critical
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Where to log: a file, - for standard error, or syslog://
    #[arg(long, value_name = "OUTPUT")]
    log_output: Option<String>,
    /// How to write the log: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// End when the process that has started this one ends
    #[arg(long, hide = true)]
    with_daemon: bool,
}

/// Why there is no console: the exit code, and a sentence.
type Failure = (u8, String);

/// Serves until it is told to end.
pub fn run(args: &Args) -> ExitCode {
    let outcome = if args.hash_password {
        hash_password()
    } else {
        console(args)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, reason)) => {
            output::error(&reason);
            ExitCode::from(code)
        }
    }
}

fn failed(reason: impl ToString) -> Failure {
    (EXIT_UNREACHABLE, reason.to_string())
}

fn misused(reason: impl ToString) -> Failure {
    (EXIT_USAGE, reason.to_string())
}

fn hash_password() -> Result<(), Failure> {
    let mut password = String::new();
    let read = io::stdin().read_line(&mut password);
    read.map_err(|why| failed(format!("cannot read the password: {why}")))?;
    match password.trim_end_matches(['\n', '\r']) {
        "" => Err(misused("the password is empty")),
        password => {
            output::line(&credentials::hash(password).map_err(failed)?);
            Ok(())
        }
    }
}

fn console(args: &Args) -> Result<(), Failure> {
    // first of all: nothing may have opened this number yet
    let handed = args.fd.map(handed).transpose()?;
    if args.with_daemon {
        // The kernel names a process after the file it was read from, which is the daemon's.
        let _ = nix::sys::prctl::set_name(c"circ-web");
    }
    let credentials = Credentials::read(args.password_file.as_deref(), args.token_file.as_deref());
    let credentials = credentials.map_err(failed)?;
    let socket = match handed {
        Some(socket) => Socket::from(socket),
        None => bind(&args.host, args.port)?,
    };
    let place = place(&socket, credentials.is_open())?;
    let daemons = Daemons::of(args)?;
    let hub = Hub::default();
    for endpoint in daemons.here {
        hub.add(endpoint);
    }
    let mut tunnels: BTreeMap<String, Tunnel> = BTreeMap::new();
    for (host, server, endpoint) in daemons.elsewhere {
        let tunnel = match tunnels.get(&host) {
            Some(tunnel) => tunnel.beside(&endpoint).map_err(failed)?,
            None => reach(&host, &server, &endpoint)?,
        };
        let local = tunnel.endpoint();
        tunnels.insert(host.clone(), tunnel.clone());
        hub.add_through(Arc::new(Through { host, tunnel }), &endpoint, local);
    }
    let wish = log::Wish {
        level: args.log_level.as_deref(),
        output: args.log_output.as_deref(),
        format: args.log_format.as_deref(),
        config: None,
    };
    let setup = log::Setup::of(wish).map_err(misused)?;
    let (_log, _control) = log::start(setup).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING)
        .build()
        .map_err(|why| failed(format!("cannot start the event loop: {why}")))?;
    let rules = Rules {
        credentials,
        read_only: args.read_only,
        hosts: names(&args.allow_host),
    };
    let site = Arc::new(Site::new(hub, rules, open_log));
    let multicast = args.multicast;
    runtime.block_on(async {
        // before anybody is let in: who has been let in gets an answer
        let kinds = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::quit(),
        ];
        let signals: io::Result<Vec<Signal>> = kinds.into_iter().map(signal).collect();
        let signals = signals.map_err(|why| failed(format!("cannot listen to signals: {why}")))?;
        let listener = listener(socket).map_err(failed)?;
        if let Some(multicast) = multicast {
            tokio::spawn(discover(site.clone(), multicast));
        }
        let daemons = site.hub.daemons();
        let daemons: Vec<String> = daemons.iter().map(|d| d.address.clone()).collect();
        tracing::info!("the web console serves {place}, for {}", daemons.join(", "));
        tokio::spawn(end_when_told(site.clone(), signals, args.with_daemon));
        serve(site, listener).await;
        tracing::info!("the web console ends");
        Ok(())
    })
}

/// The socket that this process was started with.
fn handed(number: i32) -> Result<OwnedFd, Failure> {
    let socket = spawn::inherited(number);
    socket.map_err(|why| {
        failed(format!(
            "--fd {number}: there is no socket of this number: {why}"
        ))
    })
}

fn bind(host: &str, port: u16) -> Result<Socket, Failure> {
    let fail = |why: io::Error| failed(format!("cannot listen on {host} port {port}: {why}"));
    let addresses = (host, port).to_socket_addrs().map_err(fail)?;
    let address = addresses.into_iter().min_by_key(SocketAddr::is_ipv6);
    let address = address.ok_or_else(|| failed(format!("{host} has no address")))?;
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        Ok(socket)
    };
    open().map_err(fail)
}

/// Where the socket is, as a URL; it has to be on this machine alone if nobody has to know anything.
fn place(socket: &Socket, open: bool) -> Result<String, Failure> {
    let fail = |why: io::Error| failed(format!("the socket cannot be used: {why}"));
    if !socket.is_listener().map_err(fail)? {
        return Err(failed("the socket is none that listens"));
    }
    let address = socket.local_addr().map_err(fail)?;
    let Some(address) = address.as_socket() else {
        let path = address.as_pathname().map(|path| path.display().to_string());
        return Ok(format!("unix:{}", path.unwrap_or_default()));
    };
    if open && !address.ip().to_canonical().is_loopback() {
        return Err(misused(format!(
            "{address} can be reached from other machines, and whoever reaches the console may run anything: give it a \
             password (--password-file) or a token (--token-file), or serve 127.0.0.1"
        )));
    }
    Ok(format!("http://{address}/"))
}

fn listener(socket: Socket) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    if socket.local_addr()?.is_unix() {
        let socket = std::os::unix::net::UnixListener::from(OwnedFd::from(socket));
        return tokio::net::UnixListener::from_std(socket).map(Listener::Unix);
    }
    let socket = TcpListener::from(OwnedFd::from(socket));
    tokio::net::TcpListener::from_std(socket).map(Listener::Tcp)
}

/// The daemons that were named.
struct Daemons {
    here: Vec<Endpoint>,
    /// The host as it was named, and the endpoint as it is seen there.
    elsewhere: Vec<(String, Server, Endpoint)>,
}

impl Daemons {
    /// Without any the one of the environment, or the default.
    fn of(args: &Args) -> Result<Daemons, Failure> {
        let (mut hosts, mut elsewhere) = (Vec::new(), Vec::new());
        for text in &args.ssh {
            match text.split_once('=') {
                Some((host, endpoint)) => {
                    let server = Server::parse(host, None).map_err(misused)?;
                    elsewhere.push((host.to_string(), server, endpoint_from(endpoint, "--ssh")?));
                }
                None => hosts.push((text, Server::parse(text, None).map_err(misused)?)),
            }
        }
        let mut named = Vec::new();
        for text in &args.endpoint {
            named.push(endpoint_from(text, "--endpoint")?);
        }
        for path in &args.config {
            let text = connection::endpoint_of(path).map_err(misused)?;
            named.push(endpoint_from(&text, &path.display().to_string())?);
        }
        let some = args.multicast.is_some() || !elsewhere.is_empty();
        if named.is_empty() && (!some || !hosts.is_empty()) {
            let default = connection::Args::default().control_endpoint();
            named.push(default.map_err(misused)?);
        }
        if hosts.is_empty() {
            let here = named;
            return Ok(Daemons { here, elsewhere });
        }
        for (host, server) in hosts {
            for endpoint in &named {
                elsewhere.push((host.clone(), server.clone(), endpoint.clone()));
            }
        }
        Ok(Daemons {
            here: Vec::new(),
            elsewhere,
        })
    }
}

fn endpoint_from(text: &str, origin: &str) -> Result<Endpoint, Failure> {
    let endpoint: Result<Endpoint, _> = text.parse();
    let endpoint = endpoint.map_err(|error| misused(format!("{origin}: {error}")))?;
    Ok(endpoint.reachable())
}

/// A host that is away is tried again and again, as a daemon is; on a terminal ssh may ask for a password once.
fn reach(host: &str, server: &Server, endpoint: &Endpoint) -> Result<Tunnel, Failure> {
    let ask = io::stdin().is_terminal();
    let tunnel = Tunnel::lasting(server, endpoint, LOGIN, ask).map_err(failed)?;
    if let Some(why) = tunnel.trouble().filter(|_| ask) {
        output::plain_error(&format!("{host} is tried again and again: {why}"));
    }
    Ok(tunnel)
}

/// The way to the daemon of another host.
struct Through {
    host: String,
    tunnel: Tunnel,
}

impl Way for Through {
    fn host(&self) -> &str {
        &self.host
    }

    fn to(&self, endpoint: &Endpoint) -> Result<Endpoint, String> {
        Ok(self.tunnel.beside(endpoint)?.endpoint())
    }

    fn explain(&self, error: &str) -> String {
        self.tunnel.explain(error)
    }
}

/// The names under which this console is reached, in lower case.
fn names(allowed: &[String]) -> Vec<String> {
    let host = nix::unistd::gethostname().ok();
    let host = host.and_then(|host| host.into_string().ok());
    let all = allowed.iter().cloned().chain(host);
    all.map(|name| name.to_ascii_lowercase()).collect()
}

/// Looks for daemons in the network, again and again.
async fn discover(site: Arc<Site>, multicast: Multicast) {
    loop {
        let asking = tokio::task::spawn_blocking(move || discover::endpoints(multicast, LOOK));
        match asking.await {
            Ok(Ok(found)) => {
                for endpoint in found {
                    site.hub.add(endpoint);
                }
            }
            Ok(Err(error)) => tracing::warn!("cannot look for daemons in {multicast}: {error}"),
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Ends the console on a signal, or with the daemon that has started it.
async fn end_when_told(site: Arc<Site>, signals: Vec<Signal>, with_daemon: bool) {
    let mut waiting = tokio::task::JoinSet::new();
    for mut signal in signals {
        waiting.spawn(async move {
            signal.recv().await;
        });
    }
    if with_daemon {
        waiting.spawn(parent_ends());
    }
    // the first of them is enough
    waiting.join_next().await;
    site.end();
}

async fn parent_ends() {
    let parent = rustix::process::getppid();
    let opened =
        parent.map(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK));
    // one that is gone already has left us to another process
    let watched = opened.and_then(Result::ok).map(readiness);
    match watched {
        Some(Ok(parent)) => {
            let _ = parent.readable().await;
        }
        Some(Err(_)) | None => std::future::pending().await,
    }
}

#[expect(
    deprecated,
    reason = "what replaces it is unsafe to call, and asks for what an OwnedFd promises by itself"
)]
fn readiness(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

/// A file of a log, as `circ logs` reads it.
struct Log(LogReader);

impl LogFile for Log {
    fn more(&mut self) -> Result<Vec<u8>, String> {
        if let Some(bytes) = self.0.next()? {
            return Ok(bytes.to_vec());
        }
        // rotated or truncated, perhaps
        self.0.look();
        Ok(self.0.next()?.unwrap_or_default().to_vec())
    }
}

fn open_log(path: &Path, lines: usize) -> io::Result<Box<dyn LogFile>> {
    let mut reader = LogReader::open(path)?;
    reader.rewind(lines);
    Ok(Box::new(Log(reader)))
}
