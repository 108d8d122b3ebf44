//! What `circ chaussette` and `circ m2wsgi` have in common: the application, its processes, and their life.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::daemon::log;
use crate::notify::Notifier;
use crate::wsgi::asgi;
use crate::wsgi::forwarded::Trusted;
use crate::wsgi::front::Limits;
use crate::wsgi::pool::{Health, Pool};
use crate::wsgi::worker::{Patch, Setting, Settings};

/// The application cannot be imported: gunicorn's code for it. A supervisor waits before it tries again.
pub const EXIT_NO_APPLICATION: u8 = 4;
/// Something else keeps it from serving.
pub const EXIT_FAILED: u8 = 1;
/// Requests that a process handles at once if its library switches between them.
const COOPERATIVE: usize = 256;
/// Chaussette's lines.
const LINE: &str = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s";
const LINE_TIME: &str = "%Y-%m-%d %H:%M:%S";

/// An exit code and what is said about it.
pub type Failure = (u8, String);

/// Options of the application and its processes.
#[derive(Debug, clap::Args)]
pub struct ApplicationArgs {
    /// The application: module:object, module.object, or paste:FILE
    #[arg(default_value = "chaussette.util.hello_app")]
    pub application: String,
    /// For the application, as its sys.argv
    #[arg(trailing_var_arg = true)]
    pub arguments: Vec<String>,
    /// Processes of Python
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,
    /// Requests that one process handles at once; default 1, with gevent and eventlet 256
    #[arg(long, visible_alias = "num-threads", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Do not make the process cooperative for gevent and eventlet
    #[arg(long)]
    pub no_monkey: bool,
    /// The interpreter; default: that of $VIRTUAL_ENV, or python3
    #[arg(long)]
    pub python: Option<PathBuf>,
    /// Added to Python's search path; several with colons between
    #[arg(long, value_name = "DIRS")]
    pub python_path: Option<String>,
    /// Called before the application serves, in its process: module.object
    #[arg(long, value_name = "CALLABLE")]
    pub pre_hook: Option<String>,
    /// Called when the application's process ends
    #[arg(long, value_name = "CALLABLE")]
    pub post_hook: Option<String>,
    /// Start the application anew when a module it has imported changes
    #[arg(long, visible_alias = "use-reloader")]
    pub reload: bool,
    /// Seconds that requests under way may take after SIGTERM
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub graceful_timeout: f64,
    /// Seconds that an answer may take to begin; 0: any time
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    pub request_timeout: f64,
    /// Bytes of a request's body; 0: any number
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    pub limit_body: u64,
    /// Whose X-Forwarded-* headers are believed: addresses, networks (10.0.0.0/8), "unix" and "*", with commas between
    #[arg(long, default_value = "127.0.0.1,::1,unix", value_parser = Trusted::parse, value_name = "PEERS")]
    pub forwarded_allow_ips: Trusted,
    /// How much to log: debug, info, warning, error or critical
    #[arg(long, default_value = "info", value_parser = level)]
    pub log_level: String,
    /// Where to log: a file, or - for standard error
    #[arg(long, default_value = "-")]
    pub log_output: String,
}

fn level(text: &str) -> Result<String, String> {
    log::level_of(Some(text)).map(|_| text.to_lowercase())
}

/// A number of seconds as a duration; nonsense is none.
pub fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or_default()
}

impl ApplicationArgs {
    /// Starts the log: Chaussette's lines.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn log(&self) -> Result<log::LogGuard, Failure> {
        let fail = |why: String| (EXIT_FAILED, why);
        let wish = log::Wish {
            level: Some(&self.log_level),
            output: Some(&self.log_output),
            ..log::Wish::default()
        };
        let mut setup = log::Setup::of(wish).map_err(fail)?;
        let form = log::Format::pattern(LINE, LINE_TIME).map_err(fail)?;
        for place in &mut setup.destinations {
            place.format = form.clone();
        }
        let (guard, _) = log::start(setup).map_err(|why| {
            let output = &self.log_output;
            fail(format!("cannot log to {output}: {why}"))
        })?;
        Ok(guard)
    }

    /// What is patched into the application's process for this library.
    pub fn patch(&self, wanted: Option<Patch>) -> Option<Patch> {
        wanted.filter(|_| !self.no_monkey)
    }

    /// Requests that one process handles at once.
    pub fn threads(&self, patch: Option<Patch>, spawn: Option<u16>) -> usize {
        let cooperative = patch.is_some();
        match (self.threads, spawn) {
            (Some(threads), _) => threads.into(),
            (None, Some(spawn)) if cooperative && spawn > 0 => spawn.into(),
            (None, _) if cooperative => COOPERATIVE,
            (None, _) => 1,
        }
    }

    /// What clients may do, as far as it concerns their requests.
    pub fn limits(&self) -> Limits {
        Limits {
            request_time: (self.request_timeout > 0.0).then(|| seconds(self.request_timeout)),
            body: (self.limit_body > 0).then_some(self.limit_body),
            ..Limits::default()
        }
    }

    /// How its processes are started. `own` is what the hooks are told beside these options.
    pub fn settings(
        &self,
        program: &'static str,
        patch: Option<Patch>,
        threads: usize,
        own: Vec<(&'static str, Setting)>,
    ) -> Settings {
        let text = |text: &Option<String>| text.clone().map_or(Setting::None, Setting::Text);
        let mut told = own;
        told.extend([
            ("application", Setting::Text(self.application.clone())),
            ("arguments", Setting::List(self.arguments.clone())),
            ("pre_hook", text(&self.pre_hook)),
            ("post_hook", text(&self.post_hook)),
            ("python_path", text(&self.python_path)),
            ("use_reloader", Setting::Bool(self.reload)),
            ("loglevel", Setting::Text(self.log_level.clone())),
            ("logoutput", Setting::Text(self.log_output.clone())),
        ]);
        let paths = self.python_path.iter().flat_map(|paths| paths.split(':'));
        Settings {
            python: self.python.clone().unwrap_or_else(interpreter),
            program,
            application: self.application.clone(),
            arguments: self.arguments.clone(),
            paths: paths.filter(|p| !p.is_empty()).map(String::from).collect(),
            threads,
            patch,
            reload: self.reload,
            told,
            // an ASGI application has no other front than that of `circ chaussette`
            asgi: asgi::Settings {
                interface: asgi::Interface::Wsgi,
                ..asgi::Settings::default()
            },
        }
    }
}

fn interpreter() -> PathBuf {
    let own = std::env::var_os("VIRTUAL_ENV").map(|venv| Path::new(&venv).join("bin/python3"));
    own.filter(|python| python.exists())
        .unwrap_or_else(|| PathBuf::from("python3"))
}

/// The signals that end it or start the application anew.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy)]
enum Asked {
    End,
    Renew,
}

impl Signals {
    /// From now on.
    ///
    /// # Errors
    /// The system gives none.
    pub fn new() -> Result<Signals, Failure> {
        let hear = |kind| {
            signal(kind).map_err(|why| (EXIT_FAILED, format!("cannot listen to signals: {why}")))
        };
        Ok(Signals {
            term: hear(SignalKind::terminate())?,
            int: hear(SignalKind::interrupt())?,
            hup: hear(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        let (term, int) = (&mut self.term, &mut self.int);
        tokio::select! {
            () = either(term, int) => Asked::End,
            _ = self.hup.recv() => Asked::Renew,
        }
    }

    /// Waits for one that ends it; a SIGHUP is left for [`Signals::next`].
    async fn end(&mut self) {
        either(&mut self.term, &mut self.int).await;
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Starts the processes and waits until the application serves; `false`: it was told to end before that.
///
/// # Errors
/// No process can be started, or the application cannot be imported and nobody waits for it to be mended.
pub async fn ready(
    args: &ApplicationArgs,
    pool: &Arc<Pool>,
    signals: &mut Signals,
) -> Result<bool, Failure> {
    let mut health = pool.health();
    pool.start().map_err(|why| (EXIT_FAILED, why.to_string()))?;
    loop {
        let state = health.borrow_and_update().clone();
        match state {
            Health::Ready(application) => {
                tracing::info!("Application is {application}");
                return Ok(true);
            }
            Health::Failed(why) if !args.reload => {
                pool.close().await;
                return Err((EXIT_NO_APPLICATION, format!("{}: {why}", args.application)));
            }
            Health::Failed(_) | Health::Starting => {}
        }
        tokio::select! {
            changed = health.changed() => if changed.is_err() {
                return Ok(false);
            },
            () = signals.end() => {
                pool.close().await;
                return Ok(false);
            }
        }
    }
}

/// Serves until a signal says that it is to end and it has; a SIGHUP starts the application anew.
pub async fn attend(
    pool: &Arc<Pool>,
    signals: &mut Signals,
    end: &watch::Sender<bool>,
    serving: impl Future<Output = ()>,
) {
    let notifier = Notifier::new(std::env::var_os("NOTIFY_SOCKET"));
    let mut serving = std::pin::pin!(serving);
    loop {
        tokio::select! {
            () = &mut serving => break,
            asked = signals.next() => match asked {
                Asked::End => {
                    notifier.tell("STOPPING=1");
                    end.send_replace(true);
                }
                Asked::Renew => {
                    tracing::info!("got SIGHUP, starting the application anew");
                    if let Err(error) = pool.renew() {
                        tracing::error!("cannot start a worker: {error}");
                    }
                }
            },
        }
    }
    pool.close().await;
}

/// Tells a service manager that requests are answered.
pub fn tell_ready() {
    Notifier::new(std::env::var_os("NOTIFY_SOCKET")).tell("READY=1");
}
