//! The daemon while it runs: one loop that takes what the kernel and the clients say, feeds the core, and carries out
//! its effects. Nothing in here waits for a disk, a client or a worker; `/proc` is read by a thread of its own.

use super::answers::{Shape, Then, Waiting};
use super::companion::Companion;
use super::demand::Demand;
use super::discovery::Discovery;
use super::handed::{HandedSockets, Watchdog};
use super::hooks::Desk;
use super::last_words::LastExit;
use super::launch::{Launcher, Start};
use super::log;
use super::lookups::Lookups;
use super::memory::Rest;
use super::metrics::Counters;
use super::orders::Reloads;
use super::pidfile::Pidfile;
use super::publisher::Publisher;
use super::records::Records;
use super::reload::{Gathering, Reload};
use super::router::{Call, Router};
use super::sakes::Sakes;
use super::sampling::{Fate, Sampling};
use super::socket_reads::SocketReads;
use super::sockets::ListenSocket;
use super::spawn;
use super::spawner::Spawner;
use super::stats_feed::{self, Feed};
use super::streams::{Streams, Words};
use crate::config::{CircusOptions, Config};
use crate::notify::Notifier;
use crate::options::WatcherOptions;
use crate::stats;
use crate::supervisor::{
    self, About, Command, Effect, Input, Level, Loss, Outcome, Pid, Scope, Supervisor, Ticket,
    Time, WatcherId,
};
use crate::wire::event;
use nix::sys::signal::{self, Signal};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{SignalKind, signal as listen};
use tokio::sync::mpsc;

/// How long the last replies and events may take to leave when the daemon ends.
const FAREWELL: Duration = Duration::from_millis(500);

/// How long the last lines of the workers may take to their files: a disk may be slow.
const LAST_LINES: Duration = Duration::from_secs(3);

/// The running daemon.
pub struct Shell {
    pub(super) core: Supervisor,
    /// The configuration as far as it has been taken over.
    pub(super) config: Config,
    /// The watchers, in lower case, that would not run with what it says of them and go on with what they had: the next
    /// reload tries again.
    pub(super) untaken: BTreeSet<String>,
    /// What watchers, in lower case, will become once they have done what they are at, and by which reload.
    pub(super) replacing: HashMap<String, (u64, WatcherOptions)>,
    pub(super) reloads: Reloads,
    /// The options of its `[circus]` section that the daemon goes by: those it cannot change while it runs are as they were
    /// at its start.
    pub(super) effective: CircusOptions,
    /// Those of them that the command line has the say over.
    pub(super) settled: Vec<&'static str>,
    pub(super) log: log::Control,
    /// Its name in the network.
    pub(super) fqdn: String,
    /// Tells those who look for daemons where this one is. Held for its drop.
    pub(super) discovery: Option<Discovery>,
    /// Held for its drop.
    pub(super) pidfile: Option<Pidfile>,
    /// The umask that the daemon was started with, which it has without the option.
    pub(super) caller_umask: u32,
    pub(super) companion: Box<dyn Companion>,
    /// The main file, absolute.
    pub(super) config_path: PathBuf,
    pub(super) environ: BTreeMap<String, String>,
    pub(super) cwd: PathBuf,
    pub(super) sockets: BTreeMap<String, Arc<ListenSocket>>,
    pub(super) socket_reads: SocketReads,
    /// When somebody last asked for what waits at them.
    pub(super) sockets_asked: Option<Instant>,
    /// The sockets that the service manager gave.
    pub(super) handed: Arc<HandedSockets>,
    /// Tells it how the daemon is.
    pub(super) notifier: Notifier,
    pub(super) watchdog: Option<Watchdog>,
    /// The sockets that a watcher waits for.
    pub(super) demand: Demand,
    pub(super) router: Router,
    /// For another router.
    pub(super) calls: mpsc::Sender<Call>,
    pub(super) publisher: Publisher,
    /// Publishes statistics, if that is wanted.
    pub(super) feed: Option<Feed>,
    pub(super) sampling: Sampling,
    pub(super) launcher: Launcher,
    pub(super) spawner: Spawner,
    pub(super) streams: Streams,
    /// Exits of processes that nobody knows, while starts are under way: code by pid.
    pub(super) early_exits: HashMap<Pid, i32>,
    /// There may be children that have ended and have not been taken.
    pub(super) more_exits: bool,
    pub(super) spawns: VecDeque<Start>,
    /// Workers that wait until their user and group have been looked up.
    pub(super) parked: HashMap<WatcherId, Vec<Start>>,
    /// What those workers say on their standard error that have a pipe there.
    pub(super) words: HashMap<Pid, Arc<Words>>,
    /// How each watcher last lost a worker.
    pub(super) last_exits: HashMap<WatcherId, LastExit>,
    pub(super) records: Records,
    pub(super) sakes: Sakes,
    pub(super) counters: Counters,
    pub(super) lookups: Lookups,
    pub(super) hooks: Desk,
    pub(super) waiting: HashMap<Ticket, Waiting>,
    pub(super) gatherings: HashMap<u64, Gathering>,
    pub(super) next_number: u64,
    /// When each worker was started, in seconds since the epoch.
    pub(super) births: HashMap<Pid, f64>,
    /// The ticket whose command is being given to the core right now, and whether it was refused there.
    pub(super) asking: Option<(Ticket, bool)>,
    /// Gives memory back when nothing happens.
    pub(super) rest: Rest,
    pub(super) clock: Instant,
    /// When the daemon was started, in seconds since the epoch.
    pub(super) born: f64,
    pub(super) done: bool,
}

/// Seconds since the epoch, as circus tells the time.
pub(super) fn wall_clock() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

impl Shell {
    /// Runs until the daemon is asked to end and everything has stopped.
    ///
    /// # Errors
    /// The signals of the process cannot be listened to.
    pub async fn run(&mut self, mut calls: mpsc::Receiver<Call>) -> io::Result<()> {
        let mut term = listen(SignalKind::terminate())?;
        let mut int = listen(SignalKind::interrupt())?;
        let mut quit = listen(SignalKind::quit())?;
        let mut hup = listen(SignalKind::hangup())?;
        let mut usr2 = listen(SignalKind::user_defined2())?;
        let mut child = listen(SignalKind::child())?;
        // a log file that reaches the limit of the daemon is an error to its writer, not the daemon's end
        let _too_large = listen(SignalKind::from_raw(nix::libc::SIGXFSZ))?;
        self.companion.ready(&self.effective);
        self.look_for_hooks();
        self.start_all();
        self.notifier
            .tell(&format!("READY=1\nMAINPID={}", std::process::id()));
        let mut ending = false;
        while !self.done {
            if !ending && self.core.closing() {
                ending = true;
                self.companion.ending();
                self.notifier.tell("STOPPING=1");
            }
            self.spawn_more();
            while self.hook_events() {
                self.spawn_more();
            }
            if self.done {
                break;
            }
            self.watch_sockets();
            let deadline = self.core.deadline();
            let deadline = deadline.map(|time| self.clock + Duration::from_micros(time.0));
            let starts = self.spawner.stuck_at().into_iter().chain(self.hanging_at());
            if self.watchdog.as_mut().is_some_and(Watchdog::rings) {
                self.notifier.tell("WATCHDOG=1");
            }
            let watchdog = self.watchdog.as_ref().map(|watchdog| watchdog.due);
            let late = self.reloads.late_at().into_iter().chain(watchdog);
            let late = late.chain(self.hooks.due());
            let late = late.chain(self.streams.look_at);
            let sleep = deadline.into_iter().chain(starts).chain(late).min();
            tokio::select! {
                // clients come last: however much they ask, exits are seen and deadlines kept
                biased;
                _ = term.recv() => self.exit("SIGTERM"),
                _ = int.recv() => self.exit("SIGINT"),
                _ = quit.recv() => self.exit("SIGQUIT"),
                _ = hup.recv() => {
                    tracing::info!("got SIGHUP, reading the configuration again");
                    self.notifier.reloading();
                    self.reload_config(None, Reload::default());
                    self.notifier.tell("READY=1");
                }
                _ = usr2.recv() => {
                    tracing::info!("got SIGUSR2, opening the log files anew");
                    self.log.reopen();
                    self.streams.reopen(None);
                }
                _ = child.recv() => self.reap(),
                Some(answer) = self.lookups.answer() => self.looked_up(answer),
                Some((number, finding)) = self.reloads.finding() => self.found(number, finding),
                () = until(sleep), if sleep.is_some() => {
                    self.spawner.relieve();
                    self.streams.relieve();
                    self.abandon_hanging();
                    self.give_up_reload();
                    self.hooks.tick();
                    self.step(Input::Tick);
                }
                Some(done) = self.spawner.next() => self.spawned(done),
                Some(news) = self.hooks.news() => self.hook_news(news),
                watchers = self.demand.next(), if !self.demand.is_idle() => self.demanded(watchers),
                () = self.streams.noticed() => self.streams.look_soon(),
                Some(call) = calls.recv() => self.call(call),
                () = stats_feed::due(&mut self.feed) => self.stats_round(),
                () = tokio::task::yield_now(), if self.more_exits => {}
            }
            if self.more_exits {
                self.reap();
            }
        }
        self.farewell().await;
        Ok(())
    }

    fn start_all(&mut self) {
        let names = self.names();
        self.ask(Command::StartMany(names), Then::Nothing);
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.core
            .watchers()
            .map(|watcher| watcher.options().name.clone())
            .collect()
    }

    /// What is on its way to clients and to log files gets a moment to leave.
    async fn farewell(&mut self) {
        let begin = Instant::now();
        self.hooks.close();
        while begin.elapsed() < FAREWELL && !self.hooks.is_empty() {
            self.reap();
            tokio::select! {
                Some(news) = self.hooks.news() => self.hook_news(news),
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
        }
        self.hooks.kill_all();
        let statistics = || self.feed.as_ref().map_or(0, Feed::waiting);
        let left = || self.router.unsent() + self.publisher.waiting() + statistics() > 0;
        while (begin.elapsed() < FAREWELL && left())
            || (begin.elapsed() < LAST_LINES && self.streams.unfinished())
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.streams.flush();
        while begin.elapsed() < LAST_LINES && self.streams.unfinished() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // the connection tasks have given their bytes to the kernel; let them close in order
        tokio::task::yield_now().await;
    }

    fn exit(&mut self, why: &str) {
        if self.core.closing() {
            tracing::info!("got {why} while stopping");
            return;
        }
        tracing::info!("got {why}, stopping");
        self.ask(Command::Close, Then::Exit);
    }

    pub(super) fn now(&self) -> Time {
        let micros = self.clock.elapsed().as_micros();
        Time(u64::try_from(micros).unwrap_or(u64::MAX - 1))
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Gives the core a command that no client has sent.
    pub(super) fn ask(&mut self, command: Command, then: Then) {
        let ticket = self.number();
        self.waiting.insert(
            ticket,
            Waiting {
                client: None,
                patient: false,
                shape: Shape::Plain,
                then,
            },
        );
        self.step(Input::Command { ticket, command });
    }

    pub(super) fn step(&mut self, input: Input) {
        if !matches!(input, Input::Tick) {
            self.rest.disturb();
        }
        if matches!(input, Input::Command { .. }) {
            // it may have changed the options of one that waits
            self.demand.changed();
        }
        let effects = self.core.step(self.now(), input);
        for effect in effects {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn {
                spawn,
                watcher,
                wid,
                listen,
            } => self.spawns.push_back(Start {
                spawn,
                watcher,
                wid,
                listen,
            }),
            Effect::Hook {
                call,
                watcher,
                hook,
            } => self.call_hook(call, watcher, hook),
            Effect::HookExpired { call } => self.abandon_hook(call),
            Effect::Lost { watcher, loss } => {
                self.counters.lost(watcher, &loss);
                let words = match &loss {
                    Loss::Exited { pid, .. } => self.words.get(pid).cloned(),
                    Loss::NotStarted(_) => None,
                };
                if matches!(loss, Loss::Exited { .. }) {
                    self.records.ended(watcher);
                }
                let exit = LastExit::now(loss, words);
                let last = self.last_exits.get(&watcher);
                if !last.is_some_and(|last| last.tells_more_than(&exit)) {
                    self.last_exits.insert(watcher, exit);
                }
            }
            Effect::Signal {
                watcher,
                pid,
                signum,
                scope,
                announce,
            } => {
                let below = match scope {
                    Scope::Worker => Vec::new(),
                    Scope::Tree | Scope::Below => stats::descendants(&[pid], true),
                };
                let own = (scope != Scope::Below).then_some(pid);
                self.sampling.fate(watcher, Fate::Signalled(pid));
                for target in own.into_iter().chain(below) {
                    let sent = send_signal(target, signum);
                    if sent && announce {
                        self.counters.killed(watcher);
                        self.publish_kill(watcher, target);
                    }
                }
            }
            Effect::Sweep { pid } => {
                if self.core.owner(pid).is_none() {
                    // no such group: nothing was left
                    let _ = signal::killpg(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            Effect::Release { pid } => {
                self.births.remove(&pid);
                self.words.remove(&pid);
                tracing::info!(pid, "process {pid} goes on without a watcher");
            }
            Effect::Reply { ticket, outcome } => {
                self.update_streams(ticket, &outcome);
                self.answered(ticket, outcome);
            }
            Effect::Publish { name, event } => {
                if let Some(view) = self.core.watcher(&name) {
                    self.counters.published(view.id(), &event);
                    self.records.heard(view.id(), &event);
                    if matches!(event, supervisor::Event::Updated) {
                        self.streams.update(view.id(), view.options());
                    }
                }
                self.publish(&name, event);
            }
            Effect::Log { level, text, about } => log_about(level, &text, &about),
            Effect::Await(_) => self.demand.changed(),
            Effect::Dropped(id) => {
                self.launcher.forget(id);
                self.streams.forget(id);
                self.last_exits.remove(&id);
                self.records.forget(id);
                self.sakes.forget(id);
                self.counters.forget(id);
                self.sampling.fate(id, Fate::Dropped);
            }
        }
    }

    /// A changed file, and a change that was taken back, publish nothing.
    fn update_streams(&mut self, ticket: Ticket, outcome: &Outcome) {
        let waiting = self.waiting.get(&ticket);
        let file = waiting.is_some_and(|waiting| matches!(waiting.then, Then::Part { .. }));
        if file || matches!(outcome, Outcome::Refused(_)) {
            for view in self.core.watchers() {
                self.streams.update(view.id(), view.options());
            }
        }
    }

    fn publish(&mut self, name: &str, event: supervisor::Event) {
        use supervisor::Event;
        let time = wall_clock();
        let event = match event {
            Event::Spawn(pid) => event::Event::Spawn {
                pid,
                time: self.births.get(&pid).copied().unwrap_or(time),
            },
            Event::Reap(pid, code) => event::Event::Reap {
                pid,
                time,
                exit_code: Some(code),
            },
            Event::Start => event::Event::Start { time },
            Event::Stop => event::Event::Stop { time },
            Event::Reload => event::Event::Reload { time },
            Event::Updated => event::Event::Updated { time },
            Event::Add => event::Event::Add { time },
            Event::Remove => event::Event::Remove { time },
            Event::Kill(pid) => event::Event::Kill { pid, time },
            Event::HookSuccess(hook) => event::Event::HookSuccess {
                hook: hook.to_string(),
                time,
            },
            Event::HookFailure(hook, error) => event::Event::HookFailure {
                hook: hook.to_string(),
                time,
                error,
            },
        };
        self.publisher
            .publish(&event.topic(name), event.payload().to_string().as_bytes());
    }

    fn publish_kill(&mut self, watcher: WatcherId, pid: Pid) {
        if let Some(view) = self.core.watcher_by_id(watcher) {
            self.records.heard(watcher, &supervisor::Event::Kill(pid));
            let event = event::Event::Kill {
                pid,
                time: wall_clock(),
            };
            self.publisher.publish(
                &event.topic(&view.options().name),
                event.payload().to_string().as_bytes(),
            );
        }
    }
}

/// Logs what the core says, with what it is about for programs.
fn log_about(level: Level, text: &str, about: &About) {
    let About {
        watcher,
        wid,
        pid,
        failures,
        ..
    } = about;
    let exit_code = about.code.filter(|code| *code >= 0);
    let signal = about.code.filter(|code| *code < 0).map(|code| -code);
    match level {
        Level::Info => {
            tracing::info!(watcher, wid, pid, exit_code, signal, failures, "{text}");
        }
        Level::Warning => {
            tracing::warn!(watcher, wid, pid, exit_code, signal, failures, "{text}");
        }
    }
}

/// Sends a signal; false if the process is gone or the kernel does not allow it.
pub(super) fn send_signal(pid: Pid, signum: i32) -> bool {
    match spawn::send_signal(pid, signum) {
        Ok(()) => true,
        Err(error) => {
            // a worker that has just exited is no news
            tracing::debug!(
                pid,
                signal = signum,
                "cannot send signal {signum} to process {pid}: {error}"
            );
            false
        }
    }
}

async fn until(moment: Option<Instant>) {
    if let Some(moment) = moment {
        tokio::time::sleep_until(moment.into()).await;
    }
}
