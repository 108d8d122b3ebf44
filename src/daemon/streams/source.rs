//! The daemon's end of one worker's pipe: what has been said there becomes whole lines in the shape of its destination.

use super::file::last_newline;
use super::format::{Origin, Shape, Which};
use super::outlet::{Outlet, Plan};
use super::tail::{LAST_WORDS, Tail};
use jiff::Timestamp;
use std::io::{ErrorKind, PipeReader, Read};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A line that is longer passes in pieces.
pub const LONGEST_LINE: usize = 256 * 1024;
/// Bytes that are read at once where much is said.
const MOST: usize = 256 * 1024;
/// Bytes that are read at once at first.
const FEW: usize = 16 * 1024;
/// Buffers that have not been full for so long are given back.
pub const QUIET: Duration = Duration::from_secs(5);

/// What a worker said last on its standard error.
#[derive(Debug)]
pub struct Words(Mutex<Tail>);

impl Words {
    fn new() -> Words {
        Words(Mutex::new(Tail::new(LAST_WORDS)))
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if it has said nothing yet.
    pub fn is_empty(&self) -> bool {
        self.tail().total() == 0
    }

    /// The last lines; what is no UTF-8 is replaced.
    pub fn lines(&self) -> Vec<String> {
        self.tail().lines()
    }
}

/// A worker's pipe.
pub struct Source {
    /// Its number among all that there ever were.
    pub id: u64,
    /// The daemon's end.
    pub reader: PipeReader,
    /// Where it leads.
    pub outlet: Arc<Outlet>,
    /// Who speaks.
    pub origin: Origin,
    words: Option<Arc<Words>>,
    inner: Mutex<Inner>,
}

/// What changes from block to block.
pub struct Inner {
    /// The line that has no end yet.
    pub begun: Vec<u8>,
    /// It is to be written without its end at some time.
    pub prompt: bool,
    /// Where the next block goes.
    pub plan: Arc<Plan>,
    /// Its shape, with what it remembers from line to line.
    pub shape: Shape,
}

/// What was read, as its destination wants it.
pub struct Said<'a> {
    /// Whole records.
    pub bytes: &'a [u8],
    /// Nothing will follow.
    pub ended: bool,
}

impl Source {
    /// A pipe that leads to this output, and what is kept of it: what is said last on standard error, nothing of standard
    /// output.
    pub fn new(
        id: u64,
        reader: PipeReader,
        outlet: &Arc<Outlet>,
        origin: Origin,
    ) -> (Source, Arc<Words>) {
        let plan = outlet.plan();
        let words = Arc::new(Words::new());
        let source = Source {
            id,
            reader,
            outlet: outlet.clone(),
            words: (origin.which == Which::Stderr).then(|| words.clone()),
            origin,
            inner: Mutex::new(Inner {
                begun: Vec::new(),
                prompt: false,
                shape: plan.shape.clone(),
                plan,
            }),
        };
        (source, words)
    }

    /// Waits until nobody else reads.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Source::lock`], if nobody reads.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, Inner>> {
        self.inner.try_lock().ok()
    }

    /// Nobody has the other end any more.
    pub fn done(&self) {
        if let Some(words) = &self.words {
            words.tail().done();
        }
    }

    /// Reads a block. `whole`: a line without its end waits for it in any case.
    pub fn read<'a>(&self, inner: &mut Inner, buffers: &'a mut Buffers, whole: bool) -> Said<'a> {
        let begun = inner.begun.len();
        let room = buffers.room_behind(&inner.begun);
        let count = loop {
            match (&self.reader).read(room) {
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // a pipe cannot fail otherwise; if it does, nothing comes from it any more
                Err(_) => break 0,
            }
        };
        if count == room.len() {
            buffers.was_full();
        }
        let Buffers { block, shaped, .. } = buffers;
        let new = &block[begun..begun + count];
        self.outlet.bytes.fetch_add(count as u64, Ordering::Relaxed);
        if let Some(words) = &self.words {
            words.tail().keep(new);
        }
        if inner.plan.remembered {
            self.outlet.remember(new);
        }
        let ended = count == 0;
        let all = &block[..begun + count];
        let plain = inner.shape.is_plain();
        let lines = if ended {
            all.len()
        } else {
            match last_newline(new) {
                Some(end) => begun + end + 1,
                None if all.len() >= LONGEST_LINE => all.len(),
                None => 0,
            }
        };
        inner.begun.clear();
        inner.begun.extend_from_slice(&all[lines..]);
        if inner.begun.is_empty() && inner.begun.capacity() > 4096 {
            inner.begun.shrink_to_fit();
        }
        let lines = &all[..lines];
        let ends = lines.last().is_none_or(|last| *last == b'\n');
        if plain && (ends || !whole) {
            return Said {
                bytes: lines,
                ended,
            };
        }
        shaped.clear();
        inner
            .shape
            .put(shaped, lines, &self.origin, Timestamp::now());
        Said {
            bytes: shaped,
            ended,
        }
    }
}

impl Inner {
    /// The stream may have been configured anew.
    pub fn keep_up(&mut self, outlet: &Outlet) {
        let plan = outlet.plan();
        if !Arc::ptr_eq(&plan, &self.plan) {
            plan.sink.join();
            self.plan.sink.part();
            self.shape = plan.shape.clone();
            self.plan = plan;
        }
    }
}

/// What a thread reads into and writes from: small where little is said. It grows with what is said at once.
pub struct Buffers {
    block: Vec<u8>,
    shaped: Vec<u8>,
    /// Bytes that are read at once.
    step: usize,
    /// When that was not enough for what there was.
    full: Instant,
}

impl Buffers {
    /// Nothing is allocated yet.
    pub fn new() -> Buffers {
        Buffers {
            block: Vec::new(),
            shaped: Vec::new(),
            step: FEW,
            full: Instant::now(),
        }
    }

    /// True if it is not worth giving them back.
    pub fn is_small(&self) -> bool {
        self.block.capacity() + self.shaped.capacity() <= 4 * FEW
    }

    /// Gives back what has not been needed for a while.
    pub fn settle(&mut self) {
        if !self.is_small() && self.full.elapsed() >= QUIET {
            *self = Buffers::new();
        }
    }

    /// Where the next bytes go behind a line that was begun.
    fn room_behind(&mut self, begun: &[u8]) -> &mut [u8] {
        self.settle();
        let end = begun.len() + self.step;
        if self.block.len() < end {
            self.block.reserve_exact(end - self.block.len());
            self.block.resize(end, 0);
        }
        self.block[..begun.len()].copy_from_slice(begun);
        &mut self.block[begun.len()..end]
    }

    fn was_full(&mut self) {
        self.full = Instant::now();
        self.step = (self.step * 4).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_grow_with_what_is_said_and_shrink_again() {
        let mut buffers = Buffers::new();
        assert_eq!(buffers.room_behind(b"").len(), FEW);
        assert!(buffers.is_small());
        for _ in 0..5 {
            buffers.was_full();
        }
        assert_eq!(buffers.room_behind(&[b'x'; LONGEST_LINE]).len(), MOST);
        assert!(!buffers.is_small());
        buffers.settle();
        assert!(!buffers.is_small(), "it was full just now");
        if let Some(past) = Instant::now().checked_sub(QUIET) {
            buffers.full = past;
            buffers.settle();
            assert!(buffers.is_small());
        }
        assert_eq!(buffers.room_behind(b"begun").len(), FEW);
        assert_eq!(&buffers.block[..5], b"begun");
    }
}
