//! `circ chaussette`: a WSGI server on an inherited socket, an address or a Unix socket.

use std::process::ExitCode;

use tokio::sync::watch;

use crate::cli::output;
use crate::wsgi::environ::Site;
use crate::wsgi::front::{Front, Limits};
use crate::wsgi::listen::{Family, Listener, Place};
use crate::wsgi::pool::Pool;
use crate::wsgi::worker::{Setting, Settings};
use application::{ApplicationArgs, EXIT_FAILED, Failure, Signals, seconds};

pub mod application;
mod asgi;
mod backends;
mod front;
pub mod program;

/// Where a service manager's sockets begin (sd_listen_fds(3)).
const FIRST_PASSED: i32 = 3;

/// The command line.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  circ chaussette app:application\n  circ chaussette --host 0.0.0.0 --port 80 --workers 4 app:application\n  \
    circ chaussette --fd $(circus.sockets.web) --backend gevent app:application\n  circ chaussette --host unix:/run/app.sock --reload app"
)]
pub struct Args {
    #[command(flatten)]
    pub(crate) application: ApplicationArgs,
    /// Port to listen on [default: 8080]
    #[arg(long)]
    port: Option<u16>,
    /// Host to listen on, or unix:PATH [default: localhost]
    #[arg(long, conflicts_with = "fd")]
    host: Option<String>,
    /// Listen on this descriptor, which a supervisor has opened; without it and without an address, on the one that systemd
    /// has passed
    #[arg(long, allow_hyphen_values = true)]
    fd: Option<i32>,
    /// Connections that may wait to be accepted
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(i32).range(1..))]
    backlog: i32,
    /// A name of Chaussette's back ends; gevent and eventlet make the application's process cooperative
    #[arg(long, default_value = "wsgiref", value_parser = backends::NAMES, value_name = "NAME")]
    backend: String,
    /// The family of the address, if the host has several
    #[arg(long, value_parser = ["AF_UNIX", "AF_INET", "AF_INET6"], value_name = "FAMILY")]
    address_family: Option<String>,
    /// Taken for Chaussette's sake
    #[arg(long, hide = true, value_parser = ["SOCK_STREAM", "SOCK_DGRAM", "SOCK_RAW", "SOCK_RDM", "SOCK_SEQPACKET"])]
    socket_type: Option<String>,
    /// Requests at once with gevent and eventlet; the same as --threads
    #[arg(long, hide = true)]
    spawn: Option<u16>,
    /// Seconds that the head of a request may take
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    header_timeout: f64,
    #[command(flatten)]
    front: front::FrontArgs,
    #[command(flatten)]
    asgi: asgi::AsgiArgs,
}

/// The command line alone.
fn command() -> clap::Command {
    <Args as clap::Args>::augment_args(clap::Command::new("chaussette"))
}

/// Serves until a signal ends it.
pub fn run(args: &Args) -> ExitCode {
    ended("chaussette", attend(args))
}

/// Runs it to its end, which becomes an exit code.
pub fn ended(program: &str, attend: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(attend),
        Err(why) => Err((EXIT_FAILED, format!("cannot start the event loop: {why}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, text)) => {
            output::plain_error(&format!("{program}: {text}"));
            ExitCode::from(code)
        }
    }
}

impl Args {
    fn place(&self) -> Result<Place, Failure> {
        if let Some(kind) = self
            .socket_type
            .as_deref()
            .filter(|kind| *kind != "SOCK_STREAM")
        {
            let text = format!("HTTP needs a stream: --socket-type {kind} cannot be served");
            return Err((EXIT_FAILED, text));
        }
        let family = match self.address_family.as_deref() {
            Some("AF_INET") => Some(Family::V4),
            Some("AF_INET6") => Some(Family::V6),
            _ => None,
        };
        let host = self.host.as_deref();
        let unix = host.and_then(|host| host.strip_prefix("unix:"));
        Ok(match (self.fd.filter(|fd| *fd >= 0), unix, host) {
            (Some(fd), ..) => Place::Descriptor(fd),
            (_, Some(path), _) => {
                // unix:///a/path is written as well
                let rest = path.strip_prefix("//").filter(|rest| rest.starts_with('/'));
                Place::Unix(rest.unwrap_or(path).into())
            }
            (None, None, None) if self.port.is_none() && passed() > 0 => {
                if passed() > 1 {
                    tracing::warn!(
                        "{} sockets were passed, and the first is served; --fd chooses another",
                        passed()
                    );
                }
                Place::Descriptor(FIRST_PASSED)
            }
            _ if self.address_family.as_deref() == Some("AF_UNIX") => {
                let text = "with --address-family AF_UNIX the host is --host unix:PATH";
                return Err((EXIT_FAILED, text.to_string()));
            }
            (_, _, host) => Place::Host(
                host.unwrap_or("localhost").to_string(),
                self.port.unwrap_or(8080),
                family,
            ),
        })
    }

    /// What hooks are told: the names of Chaussette's options.
    fn told(&self) -> Vec<(&'static str, Setting)> {
        let text = |text: Option<&str>, usual: &str| Setting::Text(text.unwrap_or(usual).into());
        let spawn = self.spawn.map(i64::from);
        vec![
            ("host", text(self.host.as_deref(), "localhost")),
            ("port", Setting::Int(self.port.unwrap_or(8080).into())),
            ("fd", Setting::Int(self.fd.unwrap_or(-1).into())),
            ("backlog", Setting::Int(self.backlog.into())),
            ("backend", Setting::Text(self.backend.clone())),
            (
                "address_family",
                text(self.address_family.as_deref(), "AF_INET"),
            ),
            (
                "socket_type",
                text(self.socket_type.as_deref(), "SOCK_STREAM"),
            ),
            ("spawn", spawn.map_or(Setting::None, Setting::Int)),
            (
                "graceful_timeout",
                Setting::Int(self.application.graceful_timeout as i64),
            ),
        ]
    }
}

/// How many sockets a service manager has passed to this very process (sd_listen_fds(3)).
fn passed() -> i32 {
    let number = |name: &str| -> Option<i64> { std::env::var(name).ok()?.trim().parse().ok() };
    if number("LISTEN_PID") != Some(i64::from(std::process::id())) {
        return 0;
    }
    number("LISTEN_FDS")
        .and_then(|count| i32::try_from(count).ok())
        .unwrap_or(0)
}

async fn attend(args: &Args) -> Result<(), Failure> {
    let app = &args.application;
    let _log = app.log()?;
    // before anybody can reach it: whoever does may send one
    let mut signals = Signals::new()?;
    let place = args.place()?;
    let listener = Listener::open(&place, args.backlog).map_err(|why| (EXIT_FAILED, why))?;
    let backend = backends::named(&args.backend);
    let patch = app.patch(backend.and_then(|backend| backend.patch));
    let threads = app.threads(patch, args.spawn);
    if args.spawn.is_some() && patch.is_none() {
        tracing::warn!(
            "--spawn is for gevent and eventlet; it changes nothing for {:?}",
            args.backend
        );
    }
    let workers = usize::from(app.workers);
    let settings = Settings {
        asgi: args.asgi.settings(),
        ..app.settings("chaussette", patch, threads, args.told())
    };
    let pool = Pool::new(settings, workers);
    let site = Site {
        script_name: args.asgi.root_path(),
        multithread: threads > 1,
        multiprocess: workers > 1 || matches!(place, Place::Descriptor(_)),
        trusted: app.forwarded_allow_ips.clone(),
    };
    let limits = Limits {
        head_time: seconds(args.header_timeout),
        sockets: args.asgi.sockets(),
        ..app.limits()
    };
    let limits = args.front.limit(limits);
    if !application::ready(app, &pool, &mut signals).await? {
        return Ok(());
    }
    tracing::info!("Serving on {}", place.shown());
    let shown = if pool.is_asgi() {
        let many = if workers == 1 { "" } else { "es" };
        format!("It is ASGI: {workers} process{many}, each with an event loop")
    } else {
        backends::shown(&args.backend, patch, workers, threads)
    };
    tracing::info!("{shown}");
    let records = args.front.records().map_err(|why| (EXIT_FAILED, why))?;
    let front = Front::new(pool.clone(), site, limits, records);
    let (end, ending) = watch::channel(false);
    let serving = front.serve(listener, ending, seconds(app.graceful_timeout));
    application::tell_ready();
    application::attend(&pool, &mut signals, &end, serving).await;
    if let Place::Unix(path) = &place {
        // somebody may have removed it
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}
