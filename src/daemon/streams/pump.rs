//! The threads that carry what workers say to its destination.
//!
//! All pipes are in one epoll set, each armed for one event (`EPOLLONESHOT`): a thread takes one, reads a block, hands its
//! lines to the sink and arms the pipe again. Usually there is one thread. A destination may hang (a disk that does not
//! answer, a terminal that is held, a named pipe that nobody reads) and hold the thread that writes there; then the
//! supervision thread, which looks at it from time to time while there is output, adds another, and everything else
//! flows on. An idle thread sleeps in the kernel.

use super::format::Origin;
use super::outlet::{Outlet, Plan};
use super::sink::{AGAIN, Entered, Left, Sink};
use super::source::{Buffers, QUIET, Source, Words};
use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, PipeReader};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A line that has no end yet is written as it is after this, if nobody else writes to its destination.
const PROMPT: Duration = Duration::from_millis(200);
/// A destination that holds its thread for longer gets it for itself.
const PATIENCE: Duration = Duration::from_millis(250);
/// A thread that is not needed any more goes after this.
const SPARE: Duration = Duration::from_secs(10);
/// Threads at the most.
const MOST_THREADS: usize = 32;
/// Which event is no pipe.
const NEWS: u64 = 0;

/// Something for any thread to do.
enum Job {
    Open(Arc<Sink>),
    Reopen(Arc<Sink>),
    /// A line that has no end yet is written as it is, if nobody can tear it or if there is no more time (true).
    Flush(u64, bool),
    Retry(Arc<Sink>),
}

/// What the threads share.
pub struct Pump {
    epoll: Epoll,
    news: EventFd,
    sources: Mutex<HashMap<u64, Arc<Source>>>,
    next: AtomicU64,
    jobs: Mutex<VecDeque<Job>>,
    timers: Mutex<BTreeMap<(Instant, u64), Job>>,
    threads: Mutex<Threads>,
    /// Blocks in hand.
    active: AtomicUsize,
    /// The supervision thread looks whether a thread is held.
    watched: AtomicBool,
    /// Tells it that it should.
    pub notice: Notify,
}

#[derive(Default)]
struct Threads {
    next: usize,
    /// Since when each is at one destination; `None`: it waits for events.
    busy: BTreeMap<usize, Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pump {
    /// No thread yet.
    ///
    /// # Errors
    /// There is no descriptor to be had.
    pub fn new() -> io::Result<Arc<Pump>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let news = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&news, EpollEvent::new(edge, NEWS))?;
        Ok(Arc::new(Pump {
            epoll,
            news,
            sources: Mutex::default(),
            next: AtomicU64::new(NEWS + 1),
            jobs: Mutex::default(),
            timers: Mutex::default(),
            threads: Mutex::default(),
            active: AtomicUsize::new(0),
            watched: AtomicBool::new(false),
            notice: Notify::new(),
        }))
    }

    /// Makes sure that somebody will read.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn ready(self: &Arc<Pump>) -> io::Result<()> {
        let none = lock(&self.threads).busy.is_empty();
        if none { self.add_thread() } else { Ok(()) }
    }

    fn add_thread(self: &Arc<Pump>) -> io::Result<()> {
        let number = {
            let mut threads = lock(&self.threads);
            threads.next += 1;
            let number = threads.next;
            threads.busy.insert(number, None);
            number
        };
        let pump = self.clone();
        let thread = std::thread::Builder::new()
            .name(format!("streams-{number}"))
            .stack_size(256 * 1024)
            .spawn(move || pump.run(number));
        if thread.is_err() {
            lock(&self.threads).busy.remove(&number);
        }
        thread.map(|_| ())
    }

    /// Reads a pipe from now on, until nobody has its other end any more. What is said last on standard error is kept.
    ///
    /// # Errors
    /// The kernel does not take another pipe.
    pub fn attach(
        &self,
        reader: PipeReader,
        outlet: &Arc<Outlet>,
        origin: Origin,
    ) -> io::Result<Arc<Words>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (source, words) = Source::new(id, reader, outlet, origin);
        let sink = source.lock().plan.sink.clone();
        let source = Arc::new(source);
        sink.join();
        lock(&self.sources).insert(id, source.clone());
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, id);
        if let Err(error) = self.epoll.add(&source.reader, event) {
            lock(&self.sources).remove(&id);
            sink.part();
            return Err(error.into());
        }
        self.order(Job::Open(sink));
        Ok(words)
    }

    /// Opens a destination anew.
    pub fn reopen(self: &Arc<Pump>, sink: Arc<Sink>) {
        self.order(Job::Reopen(sink));
    }

    /// What has been said and has no end of line yet is written as it is.
    pub fn flush(&self) {
        let all: Vec<u64> = lock(&self.sources).keys().copied().collect();
        for id in all {
            self.order(Job::Flush(id, true));
        }
    }

    fn order(&self, job: Job) {
        lock(&self.jobs).push_back(job);
        // it overflows after 2^64 jobs that nobody has looked at
        let _ = self.news.write(1);
    }

    fn later(&self, after: Duration, job: Job) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let at = Instant::now() + after;
        let mut timers = lock(&self.timers);
        let first = timers
            .first_key_value()
            .is_none_or(|((first, _), _)| at < *first);
        timers.insert((at, number), job);
        drop(timers);
        if first {
            // another thread may sleep for longer
            let _ = self.news.write(1);
        }
    }

    /// True while something that was said is not where it belongs.
    pub fn unfinished(&self) -> bool {
        let sources: Vec<Arc<Source>> = lock(&self.sources).values().cloned().collect();
        let mut fds: Vec<PollFd<'_>> = sources
            .iter()
            .map(|source| PollFd::new(source.reader.as_fd(), PollFlags::POLLIN))
            .collect();
        // the order counts: a block is in hand before it has left its pipe
        poll(&mut fds, PollTimeout::ZERO).unwrap_or(0) > 0
            || self.active.load(Ordering::SeqCst) > 0
            || !lock(&self.jobs).is_empty()
            || sources
                .iter()
                .any(|source| source.outlet.plan().sink.is_busy())
    }

    /// Adds a thread if all are held. True while it is worth looking again.
    pub fn relieve(self: &Arc<Pump>) -> bool {
        let (held, all, idle) = {
            let threads = lock(&self.threads);
            let busy = || threads.busy.values().flatten();
            (
                busy().filter(|since| since.elapsed() >= PATIENCE).count(),
                threads.busy.len(),
                busy().count() == 0,
            )
        };
        if held > 0
            && held == all
            && all < MOST_THREADS
            && let Err(error) = self.add_thread()
        {
            tracing::warn!("cannot start another thread for the output of workers: {error}");
        }
        if idle {
            self.watched.store(false, Ordering::SeqCst);
            // one may have begun in this moment, and found itself watched
            let busy = lock(&self.threads).busy.values().flatten().count() > 0;
            if !busy {
                return false;
            }
            self.watched.store(true, Ordering::SeqCst);
        }
        true
    }

    /// When to look again after [`Pump::notice`] or [`Pump::relieve`].
    pub fn look_after() -> Duration {
        PATIENCE
    }

    fn begin(&self, number: usize) {
        lock(&self.threads)
            .busy
            .insert(number, Some(Instant::now()));
        if !self.watched.swap(true, Ordering::SeqCst) {
            self.notice.notify_one();
        }
    }

    fn end(&self, number: usize) {
        lock(&self.threads).busy.insert(number, None);
    }

    /// True if this thread is one too many.
    fn is_spare(&self, number: usize) -> bool {
        let mut threads = lock(&self.threads);
        let free = threads.busy.values().filter(|since| since.is_none());
        let spare = free.count() > 1;
        if spare {
            threads.busy.remove(&number);
        }
        spare
    }

    fn run(self: Arc<Pump>, number: usize) {
        let mut buffers = Buffers::new();
        let mut events = [EpollEvent::empty()];
        let mut since = Instant::now();
        loop {
            let due = self.due_in();
            let several = lock(&self.threads).busy.len() > 1;
            let wait = match (due, several, buffers.is_small()) {
                (Some(due), _, _) => Some(due),
                (None, true, _) => Some(SPARE),
                (None, false, false) => Some(QUIET),
                (None, false, true) => None,
            };
            let timeout = match wait {
                None => EpollTimeout::NONE,
                Some(wait) => {
                    let millis = u16::try_from(wait.as_millis() + 1).unwrap_or(u16::MAX);
                    EpollTimeout::from(millis)
                }
            };
            match self.epoll.wait(&mut events, timeout) {
                Ok(0) | Err(Errno::EINTR) => {
                    buffers.settle();
                    if several && since.elapsed() >= SPARE && self.is_spare(number) {
                        return;
                    }
                }
                Ok(_) => {
                    self.active.fetch_add(1, Ordering::SeqCst);
                    self.begin(number);
                    match events[0].data() {
                        NEWS => self.work(),
                        id => self.serve(id, &mut buffers),
                    }
                    self.end(number);
                    self.active.fetch_sub(1, Ordering::SeqCst);
                    since = Instant::now();
                }
                Err(error) => {
                    tracing::error!("cannot wait for the output of workers: {error}");
                    std::thread::sleep(AGAIN);
                }
            }
            while let Some(job) = self.take_due() {
                self.active.fetch_add(1, Ordering::SeqCst);
                self.begin(number);
                self.carry_out(job);
                self.end(number);
                self.active.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    fn due_in(&self) -> Option<Duration> {
        let timers = lock(&self.timers);
        let ((at, _), _) = timers.first_key_value()?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    fn take_due(&self) -> Option<Job> {
        let mut timers = lock(&self.timers);
        let entry = timers.first_entry()?;
        (entry.key().0 <= Instant::now()).then(|| entry.remove())
    }

    fn work(&self) {
        while let Some(job) = {
            let mut jobs = lock(&self.jobs);
            let job = jobs.pop_front();
            if !jobs.is_empty() {
                // this one may hang: the next is for another thread
                let _ = self.news.write(1);
            }
            job
        } {
            self.carry_out(job);
        }
    }

    fn carry_out(&self, job: Job) {
        match job {
            Job::Open(sink) => {
                if sink.try_enter() {
                    sink.open();
                    let left = sink.leave();
                    self.after(&sink, left);
                }
            }
            Job::Reopen(sink) => {
                if sink.reopen() {
                    let left = sink.leave();
                    self.after(&sink, left);
                }
            }
            Job::Flush(id, last) => self.flush_one(id, last),
            Job::Retry(sink) => {
                let left = sink.retry();
                self.after(&sink, left);
            }
        }
    }

    /// A destination was left: who waited for it goes on.
    fn after(&self, sink: &Arc<Sink>, left: Left) {
        for id in left.woken {
            let source = lock(&self.sources).get(&id).cloned();
            if let Some(source) = source {
                self.arm(&source);
            }
        }
        if left.failing {
            self.later(AGAIN, Job::Retry(sink.clone()));
        }
    }

    fn arm(&self, source: &Source) {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT;
        let mut event = EpollEvent::new(flags, source.id);
        if let Err(error) = self.epoll.modify(&source.reader, &mut event) {
            let Origin { watcher, pid, .. } = &source.origin;
            tracing::error!("cannot read on what process {pid} of {watcher} says: {error}");
        }
    }

    /// One pipe has something to read, or nobody has its other end any more.
    fn serve(&self, id: u64, buffers: &mut Buffers) {
        let Some(source) = lock(&self.sources).get(&id).cloned() else {
            return;
        };
        let mut inner = source.lock();
        inner.keep_up(&source.outlet);
        let plan = inner.plan.clone();
        let entered = plan.sink.enter(id, plan.drops);
        if entered == Entered::Parked {
            return;
        }
        let whole = entered == Entered::PutAside || plan.drops;
        let said = source.read(&mut inner, buffers, whole);
        let ended = said.ended;
        let mut inner = Some(inner);
        if plan.drops && !ended {
            // whoever does not wait is read on by another thread, should this one be held
            inner = None;
            self.arm(&source);
        }
        match entered {
            Entered::Write => {
                plan.sink.write(id, said.bytes);
                let left = plan.sink.leave();
                self.after(&plan.sink, left);
            }
            _ => self.put_aside(&source, &plan, said.bytes),
        }
        let Some(mut inner) = inner else { return };
        if ended {
            drop(inner);
            self.finish(&source, &plan);
            return;
        }
        if !inner.begun.is_empty() && !whole && !inner.prompt && inner.shape.is_plain() {
            inner.prompt = true;
            self.later(PROMPT, Job::Flush(id, false));
        }
        drop(inner);
        self.arm(&source);
    }

    fn put_aside(&self, source: &Source, plan: &Plan, records: &[u8]) {
        if !plan.sink.put_aside(records) {
            let lost = records.len() as u64;
            source.outlet.dropped.fetch_add(lost, Ordering::Relaxed);
        }
        if plan.sink.try_enter() {
            let left = plan.sink.leave();
            self.after(&plan.sink, left);
        }
    }

    fn flush_one(&self, id: u64, last: bool) {
        let Some(source) = lock(&self.sources).get(&id).cloned() else {
            return;
        };
        // somebody is at it and looks after it
        let Some(mut inner) = source.try_lock() else {
            return;
        };
        inner.prompt = false;
        let sink = inner.plan.sink.clone();
        let alone = sink.is_sole() && inner.shape.is_plain();
        if inner.begun.is_empty() || !(alone || last) || !sink.try_enter() {
            return;
        }
        let begun = std::mem::take(&mut inner.begun);
        if inner.shape.is_plain() {
            sink.write(id, &begun);
        } else {
            let mut shaped = Vec::new();
            let now = Timestamp::now();
            inner.shape.put(&mut shaped, &begun, &source.origin, now);
            sink.write(id, &shaped);
        }
        let left = sink.leave();
        drop(inner);
        self.after(&sink, left);
    }

    /// Nobody has the other end of the pipe any more.
    fn finish(&self, source: &Source, plan: &Plan) {
        lock(&self.sources).remove(&source.id);
        // the reader may live on for a moment in another thread's hands
        let _ = self.epoll.delete(&source.reader);
        source.done();
        plan.sink.part();
        if plan.sink.try_enter() {
            let left = plan.sink.leave();
            self.after(&plan.sink, left);
        }
    }
}
