//! What goes into the core and what comes out of it.

use crate::options::{Value, WatcherOptions};
use std::time::Duration;

/// A moment on a clock that never goes back, in microseconds from an arbitrary start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    /// Later than everything.
    pub const NEVER: Time = Time(u64::MAX);

    /// This moment and `seconds` more; negative and absurd values are cut off.
    pub fn plus_seconds(self, seconds: f64) -> Time {
        let micros = (seconds.max(0.0) * 1e6).min(9e18) as u64;
        Time(self.0.saturating_add(micros))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A process id.
pub type Pid = i32;
/// A worker id: the number of a worker within its watcher, from 1.
pub type Wid = u32;
/// Names the caller who waits for an answer.
pub type Ticket = u64;
/// Names one request to start a worker.
pub type SpawnId = u64;

/// Names one call of a hook.
pub type HookId = u64;

/// Names a watcher for its whole life; a removed watcher's name may be taken again, its id never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatcherId(pub u64);

/// What the shell tells the core.
#[derive(Debug, Clone)]
pub enum Input {
    /// A worker runs: the answer to [`Effect::Spawn`].
    Started {
        /// Which request.
        spawn: SpawnId,
        /// Its process.
        pid: Pid,
    },
    /// A worker could not be started: the other answer to [`Effect::Spawn`].
    StartFailed {
        /// Which request.
        spawn: SpawnId,
        /// Why, as a sentence for the user.
        reason: String,
    },
    /// A process has exited and has been reaped.
    Exited {
        /// Which process.
        pid: Pid,
        /// Its exit code, or minus the number of the signal that killed it.
        code: i32,
    },
    /// There is something to read on a socket of a watcher that waits for it; see [`Effect::Await`].
    Demand {
        /// The watcher.
        watcher: WatcherId,
    },
    /// A hook that was called is at it now; its time limit counts from here.
    HookBegun {
        /// Which call.
        call: HookId,
    },
    /// A hook has answered: the answer to [`Effect::Hook`]. One that comes after [`Effect::HookExpired`] does nothing.
    HookDone {
        /// Which call.
        call: HookId,
        /// What it said, or why it failed, as a sentence for the user.
        answer: Result<bool, String>,
    },
    /// A hook has given a watcher other options, as circus's hooks do by assigning to attributes: the workers that are
    /// started from now on get them. What does not fit is passed over.
    Assign {
        /// The watcher.
        watcher: WatcherId,
        /// Keys and their values.
        changes: Vec<(String, Value)>,
    },
    /// Time has passed; see [`Supervisor::deadline`].
    Tick,
    /// Somebody asks for something.
    Command {
        /// Who; gets exactly one [`Effect::Reply`].
        ticket: Ticket,
        /// What.
        command: Command,
    },
}

/// What can be asked for. Names are found in any case; options have passed `options::check_wire`.
#[derive(Debug, Clone)]
pub enum Command {
    /// Add a watcher, and start it.
    Add {
        /// Its options.
        options: Box<WatcherOptions>,
        /// Start it as well.
        start: bool,
    },
    /// Remove a watcher.
    Remove {
        /// Its name.
        name: String,
        /// Let its workers go on without a watcher.
        nostop: bool,
    },
    /// Start one watcher.
    Start(String),
    /// Stop one watcher.
    Stop(String),
    /// Stop and start one watcher.
    Restart(String),
    /// Replace the workers of one watcher.
    Reload {
        /// Its name.
        name: String,
        /// Start the new workers before the old ones stop; otherwise it is a restart.
        graceful: bool,
        /// One worker after the other.
        sequential: bool,
    },
    /// Replace the workers of one watcher, because something they were started with is no more what it was (a socket).
    /// One that is stopped stays so, and a SIGHUP (`send_hup`) does not do.
    Renew(String),
    /// Change the number of workers by so many.
    Count {
        /// Name of the watcher.
        name: String,
        /// How many more; negative: fewer.
        change: i64,
    },
    /// Set options.
    Set {
        /// Name of the watcher.
        name: String,
        /// Keys and their values.
        changes: Vec<(String, Value)>,
    },
    /// Give a watcher a whole new set of options (its file has changed).
    Replace(Box<WatcherOptions>),
    /// Stop workers of a watcher; they are replaced once they are gone.
    Kill {
        /// Name of the watcher.
        name: String,
        /// This one only.
        pid: Option<Pid>,
        /// In place of the stop signal.
        signum: Option<i32>,
        /// In place of the graceful timeout, in seconds.
        graceful_timeout: Option<f64>,
    },
    /// Send a signal to workers of a watcher.
    Signal {
        /// Name of the watcher.
        name: String,
        /// Which workers.
        pids: Vec<Pid>,
        /// The signal.
        signum: i32,
        /// Who gets it beside each.
        scope: Scope,
    },
    /// Start these watchers (those with autostart), highest priority first.
    StartMany(Vec<String>),
    /// Stop these watchers, lowest priority first.
    StopMany(Vec<String>),
    /// Stop these watchers, then start them.
    RestartMany(Vec<String>),
    /// Reload these watchers, highest priority first, one after the other.
    ReloadMany {
        /// Their names.
        names: Vec<String>,
        /// See [`Command::Reload`].
        graceful: bool,
        /// See [`Command::Reload`].
        sequential: bool,
    },
    /// Stop everything for good; nothing is started any more.
    Close,
    /// Change the pause between starting two watchers, in seconds.
    WarmupDelay(f64),
}

/// What the core tells the shell to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Start a worker; answer with [`Input::Started`] or [`Input::StartFailed`].
    Spawn {
        /// Names the request.
        spawn: SpawnId,
        /// The watcher.
        watcher: WatcherId,
        /// The worker's id.
        wid: Wid,
        /// It may not live long: hear what it says on its standard error, for whoever asks why.
        listen: bool,
    },
    /// Call a hook; answer with [`Input::HookBegun`] when somebody is at it, and with [`Input::HookDone`].
    Hook {
        /// Names the call.
        call: HookId,
        /// The watcher.
        watcher: WatcherId,
        /// Which hook, and what it is told.
        hook: HookCall,
    },
    /// The time of a hook is up; nobody waits for its answer any more.
    HookExpired {
        /// Which call.
        call: HookId,
    },
    /// A worker has gone by itself, or could not be started; nobody had told it to.
    Lost {
        /// The watcher.
        watcher: WatcherId,
        /// How.
        loss: Loss,
    },
    /// Send a signal, and publish a `kill` event for each process it goes to.
    Signal {
        /// The watcher.
        watcher: WatcherId,
        /// The worker.
        pid: Pid,
        /// The signal.
        signum: i32,
        /// Who gets it beside the worker.
        scope: Scope,
        /// Whether `kill` events are published.
        announce: bool,
    },
    /// A worker is gone; end what is left of its process group.
    Sweep {
        /// The worker that led the group.
        pid: Pid,
    },
    /// The worker is no longer watched (`rm --nostop`); leave it alone.
    Release {
        /// The worker.
        pid: Pid,
    },
    /// Answer a ticket.
    Reply {
        /// Whose.
        ticket: Ticket,
        /// The answer.
        outcome: Outcome,
    },
    /// Publish an event of a watcher.
    Publish {
        /// The watcher's configured name.
        name: String,
        /// The event.
        event: Event,
    },
    /// Write to the log.
    Log {
        /// How bad it is.
        level: Level,
        /// What happened, in a sentence.
        text: String,
        /// The same for programs.
        about: About,
    },
    /// The watcher has begun or ceased to wait for a connection ([`super::View::waits`]): tell it by [`Input::Demand`] when
    /// there is something to read on one of its sockets.
    Await(WatcherId),
    /// The watcher is gone with all its workers; what the shell kept for it can be dropped.
    Dropped(WatcherId),
}

/// The end of a worker that nobody asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Loss {
    /// It has exited.
    Exited {
        /// Its process.
        pid: Pid,
        /// Its exit code, or minus the number of the signal that killed it.
        code: i32,
        /// Seconds.
        lived: f64,
    },
    /// It never ran; why, as a sentence for the user.
    NotStarted(String),
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The worker alone.
    Worker,
    /// The worker and everything it has started.
    Tree,
    /// What it has started, without the worker.
    Below,
}

/// A hook and what it is told, as circus names and tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookCall {
    /// The watcher is about to start. Refused: it does not.
    BeforeStart,
    /// Its workers run. Refused: it stops.
    AfterStart,
    /// Its workers are about to be told to go.
    BeforeStop,
    /// They are gone.
    AfterStop,
    /// A worker is about to be started. Refused: the watcher stops.
    BeforeSpawn,
    /// A worker runs. Refused: it goes, and the watcher stops.
    AfterSpawn {
        /// Its process.
        pid: Pid,
    },
    /// A signal is about to be sent. Refused: it is not, unless it is SIGKILL.
    BeforeSignal {
        /// To whom.
        pid: Pid,
        /// Which.
        signum: i32,
    },
    /// A signal has been sent.
    AfterSignal {
        /// To whom.
        pid: Pid,
        /// Which.
        signum: i32,
    },
    /// A worker has exited.
    BeforeReap {
        /// Its process.
        pid: Pid,
        /// Its id.
        wid: Wid,
        /// When it was started.
        started: Time,
    },
    /// The exit of a worker has been told.
    AfterReap {
        /// Its process.
        pid: Pid,
        /// Its exit code, or minus the number of the signal that killed it.
        code: i32,
        /// Nobody had told it to go.
        by_itself: bool,
    },
}

impl HookCall {
    /// circus's name of the hook.
    pub fn name(&self) -> &'static str {
        match self {
            HookCall::BeforeStart => "before_start",
            HookCall::AfterStart => "after_start",
            HookCall::BeforeStop => "before_stop",
            HookCall::AfterStop => "after_stop",
            HookCall::BeforeSpawn => "before_spawn",
            HookCall::AfterSpawn { .. } => "after_spawn",
            HookCall::BeforeSignal { .. } => "before_signal",
            HookCall::AfterSignal { .. } => "after_signal",
            HookCall::BeforeReap { .. } => "before_reap",
            HookCall::AfterReap { .. } => "after_reap",
        }
    }
}

/// What a line of the log is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// The watcher's configured name.
    pub watcher: String,
    /// The worker's id.
    pub wid: Option<Wid>,
    /// The worker's pid.
    pub pid: Option<Pid>,
    /// How it ended: its exit code, or minus the number of the signal that killed it.
    pub code: Option<i32>,
    /// How many of its kind in a row ended by themselves, or could not be started.
    pub failures: Option<u32>,
}

/// How bad a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Normal course.
    Info,
    /// Something the operator should know.
    Warning,
}

/// Events, by the names of circus's pub/sub topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A worker runs.
    Spawn(Pid),
    /// A worker has exited.
    Reap(Pid, i32),
    /// The watcher has started.
    Start,
    /// The watcher has stopped.
    Stop,
    /// The watcher has been reloaded.
    Reload,
    /// An option has changed.
    Updated,
    /// The watcher has been added.
    Add,
    /// The watcher has been removed.
    Remove,
    /// A signal that was to be sent to a worker was held back by a hook, or has been sent: circus makes no difference.
    Kill(Pid),
    /// This hook has answered.
    HookSuccess(&'static str),
    /// This hook has failed, and why.
    HookFailure(&'static str, String),
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done.
    Done,
    /// Done; these workers were started, those were there already.
    Started {
        /// New pids.
        started: Vec<Pid>,
        /// Old pids that stay.
        kept: Vec<Pid>,
    },
    /// Done; with the workers that went, came and stayed.
    Replaced {
        /// Gone pids.
        stopped: Vec<Pid>,
        /// New pids.
        started: Vec<Pid>,
        /// Old pids that stay.
        kept: Vec<Pid>,
    },
    /// Done; so many workers are wanted now.
    Count(u32),
    /// Not done.
    Refused(Refusal),
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such watcher.
    #[error("program {0} not found")]
    NotFound(String),
    /// There is such a watcher already.
    #[error("{0} already exist")]
    Exists(String),
    /// The change is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// A later command took its place.
    #[error("{0}")]
    Interrupted(String),
    /// It was tried and did not work.
    #[error("{0}")]
    Failed(String),
}

/// What a watcher is doing, in circus's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing runs and nothing shall.
    Stopped,
    /// Nothing runs until somebody connects (`on_demand`). circus has no word of its own for it.
    Waiting,
    /// The first workers are being started.
    Starting,
    /// It runs.
    Active,
    /// Its workers are being stopped.
    Stopping,
}

impl Status {
    /// circus's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Stopped | Status::Waiting => "stopped",
            Status::Starting => "starting",
            Status::Active => "active",
            Status::Stopping => "stopping",
        }
    }
}
