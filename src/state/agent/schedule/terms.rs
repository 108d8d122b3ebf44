//! The words of the schedule: what can happen, what is to be done, and the rules in between.

use std::collections::BTreeSet;

/// Milliseconds on a clock that never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// This much later.
    pub fn after(self, milliseconds: u64) -> Time {
        Time(self.0.saturating_add(milliseconds))
    }

    /// Milliseconds from `earlier` to here.
    pub fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Whether a run may change anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Drift is repaired.
    Enforce,
    /// Drift is reported.
    Audit,
}

impl Mode {
    /// `enforce` or `audit`.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Audit => "audit",
        }
    }
}

/// What a maintenance window asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// No window: the agent works as it was told.
    Free,
    /// Look and report, change nothing.
    Audit,
    /// Do not even look.
    Off,
}

/// What made a run happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// Somebody asked for it.
    RunNow,
    /// The desired state has changed.
    File,
    /// The agent has started.
    Start,
    /// A pause has ended.
    Resume,
    /// A maintenance window has ended.
    Window,
    /// The daemon told of a change, or is back.
    Event,
    /// The managed configuration file was changed by somebody.
    Config,
    /// After a failure, or after a watcher was left alone.
    Retry,
    /// It was time.
    Interval,
}

impl Trigger {
    /// As it stands in a run's line.
    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::RunNow => "run-now",
            Trigger::File => "file",
            Trigger::Start => "start",
            Trigger::Resume => "resume",
            Trigger::Window => "window",
            Trigger::Event => "event",
            Trigger::Config => "config",
            Trigger::Retry => "retry",
            Trigger::Interval => "interval",
        }
    }

    /// Nobody asked for this run: what it repairs has drifted.
    pub(super) fn is_automatic(self) -> bool {
        self >= Trigger::Event
    }
}

/// The agent's habits. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// From the end of a run to the next one, if nothing happens.
    pub interval: u64,
    /// At most this much is added to each interval, by chance.
    pub splay: u64,
    /// What runs do outside of maintenance windows.
    pub mode: Mode,
    /// A burst of events is over after this much silence …
    pub quiet: u64,
    /// … or this long after its first.
    pub patience: u64,
    /// The pause after a first failure; doubled by each further one.
    pub retry: u64,
    /// The longest pause after a failure, before a quarter of it is added or taken away by chance.
    pub retry_cap: u64,
    /// So many repairs of one watcher …
    pub fight_repairs: usize,
    /// … within so much time are a fight.
    pub fight_within: u64,
    /// The first time that a watcher is left alone; doubled by each further fight.
    pub fight_hold: u64,
    /// The longest time that a watcher is left alone.
    pub fight_cap: u64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            interval: 60_000,
            splay: 10_000,
            mode: Mode::Enforce,
            quiet: 100,
            patience: 400,
            retry: 1_000,
            retry_cap: 300_000,
            fight_repairs: 5,
            fight_within: 600_000,
            fight_hold: 60_000,
            fight_cap: 3_600_000,
        }
    }
}

/// Names whoever waits for a run.
pub type Ticket = u64;

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Everything is set up: the first run may start.
    Start,
    /// The daemon told of something.
    Heard(News),
    /// The daemon is (again) there to be listened to; what happened before is not known.
    Connected,
    /// It is gone, and a run may start it.
    Gone,
    /// The desired state has changed and is fit to be read.
    Desired,
    /// The managed configuration file has changed at this time.
    Config(Time),
    /// Somebody wants a run now and waits for it.
    RunNow(Ticket),
    /// No more runs, until this time or until told otherwise.
    Pause(Option<Time>),
    /// Runs again.
    Resume,
    /// A maintenance window begins or ends.
    Hold(Hold),
    /// The run is over.
    Ended(Outcome),
    /// It is time; see [`Schedule::next_wake`].
    Wake,
    /// No further runs; the agent ends when none is under way.
    Stop,
}

/// An event of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// When it happened.
    pub at: Time,
    /// The watcher's name, as topics have it.
    pub about: String,
    /// Somebody's order, rather than a worker that came or went.
    pub order: bool,
}

/// How a run went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The desired state is not reached.
    pub failed: bool,
    /// The watchers that are to blame, as topics have them; none if it is everything.
    pub troubled: BTreeSet<String>,
    /// The watchers that were changed, likewise.
    pub repaired: BTreeSet<String>,
}

/// A run to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The run's number, from 1.
    pub run: u64,
    /// Why.
    pub trigger: Trigger,
    /// How.
    pub mode: Mode,
    /// Watchers that are fought over and left alone.
    pub leave: BTreeSet<String>,
}

/// Why nobody runs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Paused until then, or until told otherwise.
    Paused(Option<Time>),
    /// In a maintenance window.
    Window,
    /// On the way out.
    Stopping,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start this run; [`Input::Ended`] is expected.
    Run(Order),
    /// The run that this ticket waited for is over.
    Answer(Ticket),
    /// There will be no run for this ticket.
    Refuse(Ticket, Refusal),
    /// A watcher is fought over; it is left alone until then.
    Fight {
        /// The watcher.
        name: String,
        /// How often it was repaired.
        repairs: usize,
        /// Until when it is left alone.
        until: Time,
    },
    /// No run is under way and none will follow.
    Exit,
}
