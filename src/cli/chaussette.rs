//! The program `chaussette`, and `circ chaussette`: a WSGI server on an inherited socket, an address or a Unix socket.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::output;
use crate::daemon::log;
use crate::wsgi::environ::{Site, Trusted};
use crate::wsgi::front::{Front, Limits};
use crate::wsgi::listen::{Listener, Place};
use crate::wsgi::pool::{Health, Pool};
use crate::wsgi::worker::Settings;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

mod front;

/// The application cannot be imported: gunicorn's code for it. A supervisor waits before it tries again.
const EXIT_NO_APPLICATION: u8 = 4;

/// Names of Chaussette's back ends: all run on the one front.
const BACKENDS: [&str; 11] = [
    "wsgiref",
    "waitress",
    "gevent",
    "fastgevent",
    "geventwebsocket",
    "geventws4py",
    "socketio",
    "eventlet",
    "meinheld",
    "bjoern",
    "tornado",
];

/// The command line.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The application: module:object, module.object, or paste:FILE
    #[arg(default_value = "chaussette.util.hello_app")]
    application: String,
    /// For the application, as its sys.argv
    #[arg(trailing_var_arg = true)]
    arguments: Vec<String>,
    /// Port to listen on
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Host to listen on, or unix:PATH
    #[arg(long, default_value = "localhost", conflicts_with = "fd")]
    host: String,
    /// Listen on this descriptor, which a supervisor has opened
    #[arg(long, allow_hyphen_values = true)]
    fd: Option<i32>,
    /// Connections that may wait to be accepted
    #[arg(long, default_value_t = 2048)]
    backlog: i32,
    /// A name of Chaussette's back ends; gevent and eventlet make the application's process cooperative
    #[arg(long, default_value = "wsgiref", value_parser = BACKENDS)]
    backend: String,
    /// Taken for Chaussette's sake: the descriptor tells its family by itself
    #[arg(long, value_parser = ["AF_UNIX", "AF_INET", "AF_INET6"], hide = true)]
    address_family: Option<String>,
    /// Taken for Chaussette's sake
    #[arg(long, value_parser = ["SOCK_STREAM"], hide = true)]
    socket_type: Option<String>,
    /// Taken for Chaussette's sake
    #[arg(long, hide = true)]
    spawn: Option<u32>,
    /// Do not make the process cooperative for gevent and eventlet
    #[arg(long)]
    no_monkey: bool,
    /// Seconds that requests under way may take after SIGTERM
    #[arg(long, default_value_t = 30.0)]
    graceful_timeout: f64,
    /// Added to Python's search path
    #[arg(long)]
    python_path: Option<String>,
    /// The interpreter; default: that of $VIRTUAL_ENV, or python3
    #[arg(long)]
    python: Option<PathBuf>,
    /// Processes of Python
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Requests that one process handles at once; default 1, with gevent and eventlet 256
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Whose X-Forwarded-* headers are believed: addresses, "unix" and "*", with commas between
    #[arg(long, default_value = "127.0.0.1,::1,unix", value_parser = Trusted::parse)]
    forwarded_allow_ips: Trusted,
    /// Seconds that the head of a request may take
    #[arg(long, default_value_t = 30.0)]
    header_timeout: f64,
    /// Seconds that an answer may take to begin; 0: any time
    #[arg(long, default_value_t = 0.0)]
    request_timeout: f64,
    /// Bytes of a request's body; 0: any number
    #[arg(long, default_value_t = 0)]
    limit_body: u64,
    #[command(flatten)]
    front: front::FrontArgs,
    /// debug, info, warning, error or critical
    #[arg(long, default_value = "info", ignore_case = true)]
    log_level: String,
    /// A file, or - for standard error
    #[arg(long, default_value = "-")]
    log_output: String,
}

/// Serves until a signal ends it.
pub fn run(args: &Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(attend(args)),
        Err(why) => Err((1, format!("cannot start the event loop: {why}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, text)) => {
            output::plain_error(&format!("chaussette: {text}"));
            ExitCode::from(code)
        }
    }
}

async fn attend(args: &Args) -> Result<(), (u8, String)> {
    let fail = |text: String| (1, text);
    let place = match (args.fd, args.host.strip_prefix("unix:")) {
        (Some(fd), _) if fd >= 0 => Place::Descriptor(fd),
        (_, Some(path)) => Place::Unix(path.trim_start_matches("//").into()),
        _ => Place::Host(args.host.clone(), args.port),
    };
    let setup = log::Setup::of(log::Wish {
        level: Some(&args.log_level),
        output: Some(&args.log_output),
        ..log::Wish::default()
    })
    .map_err(fail)?;
    let (_log, _) = log::start(setup).map_err(|why| fail(why.to_string()))?;
    let listener = Listener::open(&place, args.backlog).map_err(fail)?;
    let cooperative = match &*args.backend {
        _ if args.no_monkey => None,
        "eventlet" => Some("eventlet"),
        name if name.contains("gevent") || name == "socketio" => Some("gevent"),
        _ => None,
    };
    let threads = args
        .threads
        .map_or(if cooperative.is_some() { 256 } else { 1 }, usize::from);
    let pool = Pool::new(
        Settings {
            python: args.python.clone().unwrap_or_else(interpreter),
            application: args.application.clone(),
            arguments: args.arguments.clone(),
            paths: args.python_path.iter().cloned().collect(),
            threads,
            patch: cooperative,
        },
        usize::from(args.workers),
    );
    let site = Site {
        script_name: std::env::var("SCRIPT_NAME").unwrap_or_default(),
        multithread: threads > 1,
        multiprocess: args.workers > 1 || matches!(place, Place::Descriptor(_)),
        trusted: args.forwarded_allow_ips.clone(),
    };
    let seconds = |number: f64| Duration::try_from_secs_f64(number).unwrap_or_default();
    let limits = Limits {
        head_time: seconds(args.header_timeout),
        request_time: (args.request_timeout > 0.0).then(|| seconds(args.request_timeout)),
        body: (args.limit_body > 0).then_some(args.limit_body),
        ..Limits::default()
    };
    let limits = args.front.limit(limits);
    let mut health = pool.health();
    let hear = |kind| signal(kind).map_err(|why| (1, format!("cannot listen to signals: {why}")));
    let mut term = hear(SignalKind::terminate())?;
    let mut int = hear(SignalKind::interrupt())?;
    let mut hup = hear(SignalKind::hangup())?;
    pool.start().map_err(|why| fail(why.to_string()))?;
    let state = health
        .wait_for(|health| *health != Health::Starting)
        .await
        .map_err(|why| fail(why.to_string()))?
        .clone();
    match state {
        Health::Ready(application) => tracing::info!("Application is {application}"),
        Health::Failed(why) => {
            pool.close().await;
            return Err((EXIT_NO_APPLICATION, format!("{}: {why}", args.application)));
        }
        Health::Starting => {}
    }
    tracing::info!("Serving on {}", place.shown());
    tracing::info!(
        "Using circ {} as a backend (for {:?}), {} process{} with {threads} thread{}",
        env!("CARGO_PKG_VERSION"),
        args.backend,
        args.workers,
        if args.workers == 1 { "" } else { "es" },
        if threads == 1 { "" } else { "s" },
    );
    let front = Front::new(pool.clone(), site, limits);
    let (end, ending) = watch::channel(false);
    let serving = front.serve(listener, ending, seconds(args.graceful_timeout));
    let serving = std::pin::pin!(serving);
    let mut serving = serving;
    loop {
        tokio::select! {
            () = &mut serving => break,
            _ = term.recv() => { end.send_replace(true); }
            _ = int.recv() => { end.send_replace(true); }
            _ = hup.recv() => {
                tracing::info!("got SIGHUP, starting the application anew");
                if let Err(error) = pool.renew() {
                    tracing::error!("cannot start a worker: {error}");
                }
            }
        }
    }
    pool.close().await;
    if let Place::Unix(path) = &place {
        // somebody may have removed it
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

fn interpreter() -> PathBuf {
    let own = std::env::var_os("VIRTUAL_ENV").map(|venv| Path::new(&venv).join("bin/python3"));
    own.filter(|python| python.exists())
        .unwrap_or_else(|| PathBuf::from("python3"))
}
