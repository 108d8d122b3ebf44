//! A command for one watcher while it waits in the queue or is carried out.

use super::{Pid, Ticket, Time};
use crate::options::{Value, WatcherOptions};
use std::collections::{BTreeSet, VecDeque};

/// Who wants to know when a job is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiter {
    /// A caller.
    Ticket(Ticket),
    /// A command over several watchers.
    Campaign(u64),
}

/// What a job does.
#[derive(Debug, Clone)]
pub enum Work {
    /// Start, or fill up what is missing.
    Start,
    /// Start who is missing, because somebody has connected.
    Wake,
    /// Stop.
    Stop,
    /// Stop, then start.
    Restart,
    /// Replace the workers.
    Reload {
        /// New ones first; otherwise a restart.
        graceful: bool,
        /// One after the other.
        sequential: bool,
    },
    /// Replace the workers, if there are any.
    Renew,
    /// Change the number of workers.
    Count(i64),
    /// Set options.
    Set(Vec<(String, Value)>),
    /// Take over a whole set of options.
    Replace(Box<WatcherOptions>),
    /// Stop, or let go, and vanish.
    Remove {
        /// Let go.
        nostop: bool,
    },
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// In the queue.
    Queued,
    /// All workers are leaving.
    Stopping,
    /// Slots are being filled.
    Starting,
    /// New workers are being started beside the old ones.
    Replacing {
        /// All new ones run; if they still do at this moment the old ones go.
        proven_at: Option<Time>,
    },
    /// One worker after the other is replaced: those still to go, and the one that is going.
    OneByOne {
        /// Still to be replaced.
        todo: VecDeque<Pid>,
        /// On its way out.
        going: Option<Pid>,
    },
    /// What has been told to leave is leaving, and what is missing is being started.
    Settling,
}

/// A command for one watcher.
#[derive(Debug, Clone)]
pub struct Job {
    /// Who wants to know.
    pub waiters: Vec<Waiter>,
    /// What is to be done.
    pub work: Work,
    /// How far it is.
    pub phase: Phase,
    /// The workers there were when it began.
    pub before: BTreeSet<Pid>,
    /// Publish `reload` at the end.
    pub announce_reload: bool,
    /// The watcher stops again (a hook has refused, or no worker is wanted): that is where this ends as well.
    pub gives_up: bool,
    /// The options from before, which come back if workers with the new ones do not stay.
    pub undo: Option<WatcherOptions>,
}

impl Job {
    /// A job that has not begun.
    pub fn new(waiter: Waiter, work: Work) -> Self {
        Job {
            waiters: vec![waiter],
            work,
            phase: Phase::Queued,
            before: BTreeSet::new(),
            announce_reload: false,
            gives_up: false,
            undo: None,
        }
    }

    /// A job nobody waits for.
    pub fn internal(work: Work) -> Self {
        let mut job = Job::new(Waiter::Ticket(0), work);
        job.waiters.clear();
        job
    }

    /// The name of the command, for messages.
    pub fn verb(&self) -> &'static str {
        match self.work {
            Work::Start | Work::Wake => "start",
            Work::Stop => "stop",
            Work::Restart => "restart",
            Work::Reload { .. } | Work::Renew => "reload",
            Work::Count(_) => "change of numprocesses",
            Work::Set(_) => "set",
            Work::Replace(_) => "change of configuration",
            Work::Remove { .. } => "rm",
        }
    }

    /// True if somebody who wants `other` gets just that by waiting for this one, which has not begun or has only begun
    /// to stop workers.
    pub fn serves(&self, other: &Work) -> bool {
        let unspent = matches!(self.phase, Phase::Queued | Phase::Stopping);
        match (&self.work, other) {
            (Work::Start, Work::Start) | (Work::Stop, Work::Stop) => true,
            (Work::Restart, Work::Restart) => unspent,
            (
                Work::Reload {
                    graceful,
                    sequential,
                },
                Work::Reload {
                    graceful: g,
                    sequential: s,
                },
            ) => self.phase == Phase::Queued && graceful == g && sequential == s,
            _ => false,
        }
    }
}
