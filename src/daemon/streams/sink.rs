//! A destination with all who write to it: one at a time, and nobody waits for it who does not have to.
//!
//! Whoever has [`Sink::enter`]ed it writes. Meanwhile others are parked: their pipes stay full and their workers wait, or,
//! if their stream says `overflow = drop`, what they say is put aside, up to [`ASIDE`] bytes; more is thrown away and
//! counted. A destination that fails is tried again each second. For [`GRACE`] everybody waits for it; from then on
//! nobody does, because a full disk is not to stop a service.

use super::target::{Target, Trouble};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that are put aside for a destination that is busy or fails.
pub const ASIDE: usize = 1 << 20;
/// How long workers wait for a destination that fails.
pub const GRACE: Duration = Duration::from_secs(10);
/// When a destination that fails is tried again.
pub const AGAIN: Duration = Duration::from_secs(1);

/// A destination.
pub struct Sink {
    /// As messages call it.
    pub label: String,
    state: Mutex<State>,
    held: Mutex<Held>,
    users: AtomicUsize,
}

#[derive(Default)]
struct State {
    busy: bool,
    parked: Vec<u64>,
    aside: Vec<u8>,
    failing: Option<Failing>,
    reopen: bool,
}

struct Failing {
    since: Instant,
    what: String,
    dropped: u64,
}

/// What only the one who writes touches.
struct Held {
    target: Box<dyn Target>,
    /// Who has begun a line and not ended it.
    open: Option<u64>,
    /// It takes frames, not lines.
    framed: bool,
    /// What the target did not take.
    pending: Vec<u8>,
}

/// What to do with something that was said.
#[derive(Debug, PartialEq, Eq)]
pub enum Entered {
    /// Write it, and leave.
    Write,
    /// Put it aside.
    PutAside,
    /// Leave it where it is: the source will be woken.
    Parked,
}

/// Who is to be looked at again.
#[derive(Debug, Default)]
pub struct Left {
    /// Sources that were parked.
    pub woken: Vec<u64>,
    /// The destination has to be tried again.
    pub failing: bool,
}

impl Sink {
    /// A destination that nobody uses yet.
    /// A `framed` one takes frames, not lines.
    pub fn new(label: String, target: Box<dyn Target>, framed: bool) -> Sink {
        Sink {
            label,
            state: Mutex::default(),
            held: Mutex::new(Held {
                target,
                open: None,
                framed,
                pending: Vec::new(),
            }),
            users: AtomicUsize::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another source writes to it.
    pub fn join(&self) {
        self.users.fetch_add(1, Ordering::SeqCst);
    }

    /// One source less writes to it.
    pub fn part(&self) {
        self.users.fetch_sub(1, Ordering::SeqCst);
    }

    /// One source at most writes to it.
    pub fn is_sole(&self) -> bool {
        self.users.load(Ordering::SeqCst) <= 1
    }

    /// Why it fails at the moment.
    pub fn trouble(&self) -> Option<String> {
        let state = self.state();
        state.failing.as_ref().map(|failing| failing.what.clone())
    }

    /// True while something is still to be written.
    pub fn is_busy(&self) -> bool {
        self.state().busy
    }

    /// A source has something to write. `drops`: it does not wait.
    pub fn enter(&self, source: u64, drops: bool) -> Entered {
        let mut state = self.state();
        if !state.busy {
            state.busy = true;
            return Entered::Write;
        }
        let lossy = state
            .failing
            .as_ref()
            .is_some_and(|failing| failing.since.elapsed() >= GRACE);
        if drops || lossy {
            return Entered::PutAside;
        }
        if !state.parked.contains(&source) {
            state.parked.push(source);
        }
        Entered::Parked
    }

    /// As [`Sink::enter`], for who does not insist.
    pub fn try_enter(&self) -> bool {
        let mut state = self.state();
        !std::mem::replace(&mut state.busy, true)
    }

    /// Puts whole records aside; false if they were thrown away. Who writes may have left meanwhile: the caller then tries to
    /// enter, and leaves.
    pub fn put_aside(&self, records: &[u8]) -> bool {
        let mut state = self.state();
        // whoever writes looks here before it leaves
        if state.aside.len() + records.len() <= ASIDE {
            state.aside.extend_from_slice(records);
            return true;
        }
        if let Some(failing) = &mut state.failing {
            failing.dropped = failing.dropped.saturating_add(records.len() as u64);
        }
        false
    }

    /// Opens it, for who has entered.
    pub fn open(&self) {
        let opened = self.held().target.open();
        if let Err(trouble) = opened {
            self.failed(trouble);
        }
    }

    /// Writes what `source` says, for who has entered. If it fails, what was not taken is kept.
    pub fn write(&self, source: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        // what was put aside is older
        let aside = std::mem::take(&mut self.state().aside);
        let mut held = self.held();
        let mut outcome = if aside.is_empty() {
            Ok(())
        } else {
            held.put(0, &aside)
        };
        match outcome {
            Ok(()) => outcome = held.put(source, bytes),
            Err(_) => held.pending.extend_from_slice(bytes),
        }
        drop(held);
        if let Err(trouble) = outcome {
            self.failed(trouble);
        }
    }

    fn failed(&self, trouble: Trouble) {
        let mut state = self.state();
        if let Some(failing) = &mut state.failing {
            failing.what = trouble.what;
            return;
        }
        tracing::warn!(
            "{}; it is tried again each second, workers wait for it {} seconds at most",
            trouble.what,
            GRACE.as_secs()
        );
        state.failing = Some(Failing {
            since: Instant::now(),
            what: trouble.what,
            dropped: 0,
        });
    }

    /// Who has entered is done.
    pub fn leave(&self) -> Left {
        loop {
            let mut state = self.state();
            if state.failing.is_some() {
                return Left {
                    woken: Vec::new(),
                    failing: true,
                };
            }
            if !state.aside.is_empty() {
                let aside = std::mem::take(&mut state.aside);
                drop(state);
                let outcome = self.held().put(0, &aside);
                if let Err(trouble) = outcome {
                    self.failed(trouble);
                }
                continue;
            }
            if std::mem::take(&mut state.reopen) {
                drop(state);
                self.held().target.reopen();
                self.open();
                continue;
            }
            if self.users.load(Ordering::SeqCst) == 0 {
                self.held().close();
            }
            state.busy = false;
            return Left {
                woken: std::mem::take(&mut state.parked),
                failing: false,
            };
        }
    }

    /// Tries a destination that fails once more; then as [`Sink::leave`].
    pub fn retry(&self) -> Left {
        let pending = std::mem::take(&mut self.held().pending);
        let outcome = {
            let mut held = self.held();
            match held.target.open() {
                Ok(()) => held.go_on(&pending),
                Err(trouble) => {
                    held.pending = pending;
                    Err(trouble)
                }
            }
        };
        match outcome {
            Ok(()) => {
                let failed = self.state().failing.take();
                if let Some(failed) = failed {
                    let lost = match failed.dropped {
                        0 => "nothing was lost".to_string(),
                        bytes => format!("{bytes} bytes were lost"),
                    };
                    tracing::info!(
                        "{}: it works again after {:.0} seconds, {lost}",
                        self.label,
                        failed.since.elapsed().as_secs_f64()
                    );
                }
                self.leave()
            }
            Err(trouble) => {
                self.failed(trouble);
                let mut state = self.state();
                let lossy = state
                    .failing
                    .as_ref()
                    .is_some_and(|failing| failing.since.elapsed() >= GRACE);
                if !lossy {
                    return Left {
                        woken: Vec::new(),
                        failing: true,
                    };
                }
                let woken = std::mem::take(&mut state.parked);
                let given_up = woken.is_empty() && self.users.load(Ordering::SeqCst) == 0;
                if given_up && let Some(failed) = state.failing.take() {
                    let lost = std::mem::take(&mut state.aside).len();
                    drop(state);
                    let mut held = self.held();
                    let lost = lost + std::mem::take(&mut held.pending).len();
                    let lost = failed.dropped.saturating_add(lost as u64);
                    held.close();
                    held.open = None;
                    drop(held);
                    tracing::warn!(
                        "{}: nobody writes there any more; {lost} bytes were lost",
                        self.label
                    );
                    return self.leave();
                }
                Left {
                    woken,
                    failing: true,
                }
            }
        }
    }

    /// Opens the destination anew as soon as nobody writes. True if it was free: then [`Sink::leave`] is to be called.
    pub fn reopen(&self) -> bool {
        let mut state = self.state();
        state.reopen = true;
        !std::mem::replace(&mut state.busy, true)
    }
}

impl Held {
    /// Writes what `source` says. What has begun on a line that somebody else has not ended begins a new one.
    fn put(&mut self, source: u64, bytes: &[u8]) -> Result<(), Trouble> {
        if self.framed {
            return self.go_on(bytes);
        }
        if self.open.is_some_and(|open| open != source) {
            self.open = None;
            self.go_on(b"\n")
                .inspect_err(|_| self.pending.extend_from_slice(bytes))?;
        }
        self.open = (bytes.last() != Some(&b'\n')).then_some(source);
        self.go_on(bytes)
    }

    fn go_on(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let outcome = self.target.write(bytes);
        if let Err(trouble) = &outcome {
            let rest = bytes.get(trouble.done..).unwrap_or_default();
            self.pending.extend_from_slice(rest);
        }
        outcome
    }

    fn close(&mut self) {
        self.target.close();
    }
}
