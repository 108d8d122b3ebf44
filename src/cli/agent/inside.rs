//! The agent inside the daemon: `[circus] agent_desired`. It has a thread of its own and speaks to the daemon over its
//! control socket, as every other client does; whatever becomes of it, the daemon goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{milliseconds, seed, work};
use crate::cli::state::{current_directory, environ};
use crate::config::{AgentOptions, CircusOptions};
use crate::daemon::companion::Companion;
use crate::notify::Notifier;
use crate::state::Settings;
use crate::state::agent::reports::Reports;
use crate::state::agent::schedule::{Mode, Rules};
use crate::state::agent::{Handle, Inbox, Setup, channels, shell};

/// How long the daemon waits at its end for a run under way.
const LAST_RUN: Duration = Duration::from_secs(5);
/// When there is no place for the agent (another one keeps the daemon), it looks again after this time.
const AGAIN: Duration = Duration::from_secs(60);

/// The daemon's side of it.
#[derive(Debug)]
pub struct Inside {
    /// The configuration file, as it was given.
    path: PathBuf,
    agent: Option<Agent>,
    ending: bool,
}

#[derive(Debug)]
struct Agent {
    options: AgentOptions,
    /// Where the daemon listened and published when the agent was started.
    endpoints: [String; 2],
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Inside {
    /// For the daemon on this configuration file. Nothing is started before the daemon is ready, and nothing at all if
    /// no agent is configured.
    pub fn new(path: &Path) -> Inside {
        Inside {
            path: path.to_path_buf(),
            agent: None,
            ending: false,
        }
    }

    fn start(&mut self, circus: &CircusOptions, before: Option<JoinHandle<()>>) {
        let options = circus.agent.clone();
        if options.desired.is_none() {
            return;
        }
        let settings = Settings {
            config: Some(self.path.clone()),
            // Where it listens now, whatever the file says by then.
            endpoint: Some(circus.endpoint.clone()),
            ..Settings::new(current_directory(), environ())
        };
        let (handle, inbox) = channels();
        let (own, asked) = (handle.clone(), options.clone());
        let body = move || {
            // Two of them would be in each other's way.
            let _ = before.map(JoinHandle::join);
            let held = catch_unwind(AssertUnwindSafe(|| hold(&asked, &settings, &own, &inbox)));
            if held.is_err() {
                tracing::error!(
                    "the agent has ended by a mistake in the program; the daemon goes on without it"
                );
            }
        };
        let started = std::thread::Builder::new().name("agent".into()).spawn(body);
        match started {
            Ok(thread) => {
                self.agent = Some(Agent {
                    options,
                    endpoints: endpoints(circus),
                    handle,
                    thread,
                });
            }
            Err(error) => tracing::error!("the agent cannot be started: {error}"),
        }
    }
}

fn endpoints(circus: &CircusOptions) -> [String; 2] {
    [circus.endpoint.clone(), circus.pubsub_endpoint.clone()]
}

impl Companion for Inside {
    fn ready(&mut self, circus: &CircusOptions) {
        self.start(circus, None);
    }

    fn reloaded(&mut self, circus: &CircusOptions) {
        let same = match &self.agent {
            Some(agent) => agent.options == circus.agent && agent.endpoints == endpoints(circus),
            None => circus.agent.desired.is_none(),
        };
        if same || self.ending {
            return;
        }
        let before = self.agent.take().map(|agent| {
            agent
                .handle
                .stop("its options or the daemon's endpoints have changed");
            agent.thread
        });
        self.start(circus, before);
    }

    fn ending(&mut self) {
        self.ending = true;
        if let Some(agent) = &self.agent {
            agent.handle.stop("the daemon is stopping");
        }
    }

    fn leave(&mut self) {
        let Some(agent) = self.agent.take() else {
            return;
        };
        let end = Instant::now() + LAST_RUN;
        while !agent.thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Holds the desired state until it is told to stop.
fn hold(options: &AgentOptions, settings: &Settings, handle: &Handle, inbox: &Inbox) {
    let Some(desired) = &options.desired else {
        return;
    };
    loop {
        let outcome = setup(options, settings).and_then(|setup| {
            let work = work(PathBuf::from(desired), settings.clone(), options.prune);
            shell::run(setup, work, handle, inbox, &mut |_| {}).map_err(|error| error.to_string())
        });
        match outcome {
            Ok(_) => return,
            Err(reason) => tracing::error!("the agent inside the daemon: {reason}"),
        }
        if inbox.stops_within(AGAIN) {
            return;
        }
    }
}

fn setup(options: &AgentOptions, settings: &Settings) -> Result<Setup, String> {
    let place = |path: &String| settings.cwd.join(path);
    let reports = options
        .report_dir
        .as_ref()
        .map(|directory| Reports::open(place(directory), options.reports))
        .transpose()
        .map_err(|error| error.to_string())?;
    let seconds =
        |seconds| milliseconds(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    Ok(Setup {
        rules: Rules {
            interval: seconds(options.interval),
            splay: seconds(options.splay),
            mode: if options.audit {
                Mode::Audit
            } else {
                Mode::Enforce
            },
            ..Rules::default()
        },
        seed: seed(),
        once: false,
        reports,
        window: options.window.as_ref().map(place),
        listen: None,
        home: Some("inside the daemon"),
        grace: LAST_RUN,
        notifier: Notifier::new(None),
    })
}
