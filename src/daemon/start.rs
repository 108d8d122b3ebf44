//! From a configuration file to a running daemon, and what can go wrong on the way.

use super::companion::Companion;
use super::demand::Demand;
use super::detach;
use super::discovery::{Discovery, Joined, fqdn};
use super::endpoint::Listener;
use super::handed::Handed;
use super::hooks::Desk;
use super::launch::Launcher;
use super::log::{self, Setup};
use super::lookups::Lookups;
use super::memory::Rest;
use super::orders::{self, Reloads};
use super::pidfile::Pidfile;
use super::prepare::{log_wish, of_socket, owner, placed};
use super::publisher::Publisher;
use super::router::Router;
use super::sampling::Sampling;
use super::shell::{Shell, wall_clock};
use super::socket_reads::SocketReads;
use super::spawn::share_heaps;
use super::spawner::Spawner;
use super::stats_feed::Feed;
use super::streams::Streams;
use crate::config::{CircusOptions, Config};
use crate::notify::Notifier;
use crate::python::interpreter::last_directories;
use crate::supervisor::Supervisor;
use nix::sys::signal::{SigSet, Signal};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Requests that may wait for the supervision thread.
const CALLS: usize = 256;

/// How to start, from the command line. What is not given there comes from the configuration.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The name that messages of a start that fails begin with.
    pub program: &'static str,
    /// The configuration file.
    pub config: PathBuf,
    /// Go to the background.
    pub background: bool,
    /// File for the pid.
    pub pidfile: Option<PathBuf>,
    /// debug, info, warning, error or critical.
    pub log_level: Option<String>,
    /// A file, `-`, or a `syslog://`.
    pub log_output: Option<String>,
    /// text or json.
    pub log_format: Option<String>,
    /// A configuration of Python's logging.
    pub logger_config: Option<String>,
}

/// Runs the daemon until it is told to end; returns the exit code. Errors of the start go to standard error.
/// `companion` lives beside it, in its process.
pub fn run(options: &Options, companion: Box<dyn Companion>) -> u8 {
    let mut ready = None;
    // the configuration is checked before going to the background: its errors belong on the terminal
    let outcome = prepare(options).and_then(|prepared| {
        if options.background {
            match detach::detach().map_err(|why| format!("cannot go to the background: {why}"))? {
                detach::Detached::Invoker { code } => return Ok(code),
                detach::Detached::Daemon(report) => ready = Some(report),
            }
        }
        serve(options, prepared, &mut ready, companion).map(|()| 0)
    });
    match outcome {
        Ok(code) => code,
        Err(message) => {
            match ready.take() {
                Some(report) => report.fail(1, &message),
                None => eprintln!("{}: {message}", options.program),
            }
            1
        }
    }
}

struct Prepared {
    config: Config,
    path: PathBuf,
    environ: BTreeMap<String, String>,
    cwd: PathBuf,
    handed: Handed,
    /// How long a reload may take to read, resolve and look for things.
    patience: Duration,
}

fn prepare(options: &Options) -> Result<Prepared, String> {
    let cwd = std::env::current_dir()
        .map_err(|why| format!("the working directory cannot be used: {why}"))?;
    // what is not UTF-8 cannot be named in a circus.ini; circus could not start with it at all
    let mut environ: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let handed = Handed::take(&mut environ);
    let patience = orders::patience(&mut environ);
    let path = cwd.join(&options.config);
    let config =
        Config::load(&options.config, &environ, &cwd).map_err(|error| error.to_string())?;
    Ok(Prepared {
        config,
        path,
        environ,
        cwd,
        handed,
        patience,
    })
}

fn serve(
    options: &Options,
    prepared: Prepared,
    ready: &mut Option<detach::Ready>,
    companion: Box<dyn Companion>,
) -> Result<(), String> {
    let config = &prepared.config;
    let circus = &config.circus;
    share_heaps();
    // A file that may not grow any more (RLIMIT_FSIZE) is an error to whoever writes to it, not the end of the daemon.
    // Threads inherit this, workers do not.
    let too_large = SigSet::from(Signal::SIGXFSZ);
    too_large
        .thread_block()
        .map_err(|why| format!("cannot block SIGXFSZ: {why}"))?;
    let goes_by = effective(options, circus);
    let setup = Setup::of(log_wish(&goes_by))?;
    let (_log, control) = log::start(setup).map_err(|why| why.to_string())?;
    // the only way to learn it is to change it
    let caller_umask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let umask = circus.umask.unwrap_or(caller_umask.bits());
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
    let pidfile = goes_by.pidfile.as_ref().map(PathBuf::from);
    let pidfile = pidfile
        .map(|path| Pidfile::create(Path::new(&path)))
        .transpose()
        .map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|why| format!("cannot start the event loop: {why}"))?;
    runtime.block_on(async {
        let settled = settled(options);
        let given = Given {
            log: control,
            effective: goes_by,
            settled,
            pidfile,
            caller_umask: caller_umask.bits(),
            companion,
        };
        let (mut shell, calls) = assemble(prepared, given)?;
        if let Some(report) = ready.take() {
            report.succeed();
        }
        shell
            .run(calls)
            .await
            .map_err(|why| format!("cannot listen to signals: {why}"))?;
        shell.companion.leave();
        tracing::info!("stopped");
        Ok(())
    })
}

/// The options of `[circus]`, with those that the command line has the say over.
fn effective(options: &Options, circus: &CircusOptions) -> CircusOptions {
    let first = |line: &Option<String>, file: &Option<String>| line.clone().or(file.clone());
    let pidfile = options.pidfile.as_ref();
    let pidfile = pidfile.map(|path| path.to_string_lossy().into_owned());
    CircusOptions {
        loglevel: first(&options.log_level, &circus.loglevel),
        logoutput: first(&options.log_output, &circus.logoutput),
        log_format: first(&options.log_format, &circus.log_format),
        loggerconfig: first(&options.logger_config, &circus.loggerconfig),
        pidfile: pidfile.or(circus.pidfile.clone()),
        ..circus.clone()
    }
}

/// The options of `[circus]` that the command line has the say over.
fn settled(options: &Options) -> Vec<&'static str> {
    let given = [
        ("pidfile", options.pidfile.is_some()),
        ("loglevel", options.log_level.is_some()),
        ("logoutput", options.log_output.is_some()),
        ("log_format", options.log_format.is_some()),
        ("loggerconfig", options.logger_config.is_some()),
    ];
    let given = given.into_iter().filter(|(_, given)| *given);
    given.map(|(key, _)| key).collect()
}

/// What the daemon has before it binds anything.
struct Given {
    log: log::Control,
    /// The options of `[circus]` that the daemon goes by.
    effective: CircusOptions,
    settled: Vec<&'static str>,
    pidfile: Option<Pidfile>,
    caller_umask: u32,
    companion: Box<dyn Companion>,
}

/// Binds everything and puts the daemon together.
fn assemble(
    prepared: Prepared,
    given: Given,
) -> Result<(Shell, mpsc::Receiver<super::router::Call>), String> {
    let Prepared {
        config,
        path,
        environ,
        cwd,
        handed,
        patience,
    } = prepared;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let circus = &config.circus;
    let told = |key: &str, why: &dyn std::fmt::Display| placed(&config, "circus", key, why);
    let owner = owner(circus).map_err(|error| told("endpoint_owner", &error))?;
    let bind = |role, text: &str, owner| -> Result<Listener, String> {
        Listener::bind(role, text, owner).map_err(|error| told(role, &error))
    };
    let control = bind("endpoint", &circus.endpoint, owner)?;
    let events = bind("pubsub_endpoint", &circus.pubsub_endpoint, None)?;
    let feed = if circus.statsd {
        let listener = bind("stats_endpoint", &circus.stats_endpoint, None)?;
        Some(Feed::serve(listener))
    } else {
        None
    };
    let name = fqdn(circus.fqdn_prefix.as_deref());
    let discovery = Joined::new(&given.effective, &name).map(Discovery::serve);
    let discovery = discovery
        .transpose()
        .map_err(|error| told("multicast_endpoint", &error))?;
    let mut sockets = BTreeMap::new();
    for section in &config.sockets {
        let socket = handed
            .sockets
            .open(section)
            .map_err(|error| of_socket(&config, &section.name, error))?;
        sockets.insert(section.name.clone(), Arc::new(socket));
    }
    for name in handed.sockets.unused(&sockets) {
        tracing::warn!(
            "no [socket:NAME] section takes the socket {name:?} that the service manager has handed over"
        );
    }
    let seed = u64::from(std::process::id());
    let mut core = Supervisor::new(circus.warmup_delay, seed);
    for (_, options) in config.services_by_section() {
        core.load(options.clone())
            .map_err(|refusal| refusal.to_string())?;
    }
    let (sender, calls) = mpsc::channel(CALLS);
    tracing::info!(
        "circ {} on pid {}, control endpoint {}",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        circus.endpoint
    );
    let paths = last_directories(&path, &cwd);
    let mut streams = Streams::new(cwd.clone(), paths.clone());
    streams.set_python(circus.python.as_deref());
    let hooks = Desk::new(&environ, paths);
    let shell = Shell {
        core,
        config_path: path,
        environ,
        sockets,
        socket_reads: SocketReads::default(),
        sockets_asked: None,
        handed: Arc::new(handed.sockets),
        notifier: Notifier::new(handed.notify.map(Into::into)),
        watchdog: handed.watchdog,
        demand: Demand::default(),
        router: Router::serve(control, sender.clone(), Arc::default()),
        calls: sender,
        publisher: Publisher::serve(events),
        feed,
        sampling: Sampling::default(),
        launcher: Launcher::default(),
        spawner: Spawner::new(),
        streams,
        cwd,
        early_exits: HashMap::new(),
        more_exits: false,
        spawns: VecDeque::new(),
        parked: HashMap::new(),
        words: HashMap::new(),
        last_exits: HashMap::new(),
        records: Default::default(),
        sakes: Default::default(),
        counters: Default::default(),
        lookups: Lookups::new(),
        hooks,
        waiting: HashMap::new(),
        gatherings: HashMap::new(),
        next_number: 0,
        births: HashMap::new(),
        asking: None,
        rest: Rest::new(),
        clock: Instant::now(),
        born: wall_clock(),
        companion: given.companion,
        log: given.log,
        settled: given.settled,
        fqdn: name,
        discovery,
        pidfile: given.pidfile,
        caller_umask: given.caller_umask,
        untaken: BTreeSet::new(),
        replacing: HashMap::new(),
        reloads: Reloads::new(patience),
        done: false,
        effective: given.effective,
        config,
    };
    Ok((shell, calls))
}
