//! The thread that starts workers. The kernel holds the caller of a spawn until the new program has been read from its
//! disk: that may not hold the supervision thread.
//!
//! One thread, so that workers come up in order. When a start takes very long while others wait, another thread is added.

use super::shell::wall_clock;
use super::sockets::ListenSocket;
use super::spawn::{self, SpawnSpec, Stdio};
use super::streams::{self, Origin, Outlet, Pump, Which, Words};
use crate::supervisor::{Pid, SpawnId, Wid};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A start that takes longer than this makes the others go past it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Threads at the most.
const MOST_THREADS: usize = 32;
/// Starts that are handed over ahead of time, so that the thread never waits for the next.
pub const AHEAD: usize = 4;

/// A worker to be started.
pub struct Job {
    /// Names the request.
    pub spawn: SpawnId,
    /// How to start it.
    pub spec: SpawnSpec,
    /// The streams that take its output.
    pub outputs: Option<Outputs>,
    /// Sockets bound for this worker alone; held until it has them.
    pub _own_sockets: Vec<OwnedFd>,
    /// The daemon's sockets it gets; held so that their numbers stay what they are.
    pub _sockets: Vec<Arc<ListenSocket>>,
}

/// The streams that take a worker's output.
pub struct Outputs {
    /// What reads the pipes.
    pub pump: Arc<Pump>,
    /// Whose worker it is.
    pub watcher: String,
    /// The worker's id.
    pub wid: Wid,
    /// For standard output.
    pub stdout: Option<Arc<Outlet>>,
    /// For standard error.
    pub stderr: Option<Arc<Outlet>>,
}

/// What became of a job.
pub struct Done {
    /// Names the request.
    pub spawn: SpawnId,
    /// When it was started, in seconds since the epoch.
    pub born: f64,
    /// Its process, or a sentence that says why there is none.
    pub result: Result<Pid, String>,
    /// What it says on its standard error, if that goes through a pipe.
    pub words: Option<Arc<Words>>,
    /// It was abandoned meanwhile: whoever takes the outcome ends the process.
    pub abandoned: bool,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// The thread that is at it, and since when.
    busy: BTreeMap<usize, Instant>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to the thread, which starts with the first job.
pub struct Spawner {
    shared: Arc<Shared>,
    threads: usize,
    /// Since when each job is in hand.
    in_hand: BTreeMap<SpawnId, Instant>,
    /// Jobs in hand whose worker nobody wants any more.
    abandoned: BTreeSet<SpawnId>,
    sender: mpsc::UnboundedSender<Done>,
    outcomes: mpsc::UnboundedReceiver<Done>,
}

impl Spawner {
    /// No thread yet.
    pub fn new() -> Spawner {
        let (sender, outcomes) = mpsc::unbounded_channel();
        Spawner {
            shared: Arc::default(),
            threads: 0,
            in_hand: BTreeMap::new(),
            abandoned: BTreeSet::new(),
            sender,
            outcomes,
        }
    }

    /// Jobs whose outcome has not been taken yet.
    pub fn in_flight(&self) -> usize {
        self.in_hand.len()
    }

    /// Jobs that nobody has abandoned, and since when they are in hand.
    pub fn in_hand(&self) -> impl Iterator<Item = (SpawnId, Instant)> {
        let kept = |(spawn, _): &(&SpawnId, &Instant)| !self.abandoned.contains(*spawn);
        let jobs = self.in_hand.iter().filter(kept);
        jobs.map(|(spawn, since)| (*spawn, *since))
    }

    /// Nobody waits for this job any more; see [`Done::abandoned`].
    pub fn abandon(&mut self, spawn: SpawnId) {
        self.abandoned.insert(spawn);
    }

    /// True if another job would not wait long.
    pub fn has_room(&self) -> bool {
        self.in_flight() < AHEAD * self.threads.max(1)
    }

    /// Hands a job over.
    pub fn submit(&mut self, job: Job) {
        self.in_hand.insert(job.spawn, Instant::now());
        if self.threads == 0 {
            self.add_thread();
        }
        if self.threads == 0 {
            // no thread to be had: then here
            // the receiver is ours
            let _ = self.sender.send(carry_out(job));
            return;
        }
        self.shared.lock().jobs.push_back(job);
        self.shared.news.notify_one();
    }

    /// The next outcome.
    pub async fn next(&mut self) -> Option<Done> {
        let mut done = self.outcomes.recv().await?;
        self.in_hand.remove(&done.spawn);
        done.abandoned = self.abandoned.remove(&done.spawn);
        Some(done)
    }

    /// When to look whether a job is stuck while others wait.
    pub fn stuck_at(&self) -> Option<Instant> {
        if self.in_flight() == 0 || self.threads == 0 || self.threads >= MOST_THREADS {
            return None;
        }
        let queue = self.shared.lock();
        if queue.jobs.is_empty() || queue.busy.len() < self.threads {
            return None;
        }
        queue.busy.values().max().map(|since| *since + PATIENCE)
    }

    /// Adds a thread if all are stuck.
    pub fn relieve(&mut self) {
        if self.stuck_at().is_some_and(|time| time <= Instant::now()) {
            tracing::warn!("starting a worker takes more than {PATIENCE:?}; others go past it");
            self.add_thread();
        }
    }

    fn add_thread(&mut self) {
        let shared = self.shared.clone();
        let sender = self.sender.clone();
        let number = self.threads;
        let thread = std::thread::Builder::new()
            .name(format!("spawn-{number}"))
            .stack_size(256 * 1024)
            .spawn(move || {
                loop {
                    let mut queue = shared.lock();
                    let job = loop {
                        if queue.closed {
                            return;
                        }
                        if let Some(job) = queue.jobs.pop_front() {
                            break job;
                        }
                        queue = shared
                            .news
                            .wait(queue)
                            .unwrap_or_else(PoisonError::into_inner);
                    };
                    queue.busy.insert(number, Instant::now());
                    drop(queue);
                    let done = carry_out(job);
                    shared.lock().busy.remove(&number);
                    if sender.send(done).is_err() {
                        return;
                    }
                }
            });
        match thread {
            Ok(_) => self.threads += 1,
            Err(error) => tracing::warn!("cannot start a thread for spawning: {error}"),
        }
    }
}

impl Default for Spawner {
    fn default() -> Self {
        Spawner::new()
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.news.notify_all();
    }
}

fn carry_out(mut job: Job) -> Done {
    let born = wall_clock();
    let mut words = None;
    let result = start(&mut job, &mut words);
    Done {
        spawn: job.spawn,
        born,
        words,
        result,
        abandoned: false,
    }
}

/// The daemon's end of a pipe and what is to come of it.
struct Output {
    reader: PipeReader,
    outlet: Arc<Outlet>,
    /// The worker's end: closed here when the worker has it. Then only the worker, and whom it starts, can speak.
    writer: PipeWriter,
}

fn start(job: &mut Job, words: &mut Option<Arc<Words>>) -> Result<Pid, String> {
    let Some(outputs) = job.outputs.take() else {
        return spawn::spawn(&job.spec).map_err(|error| error.to_string());
    };
    let Outputs {
        pump,
        watcher,
        wid,
        stdout,
        stderr,
    } = outputs;
    let pipe = |outlet: Option<Arc<Outlet>>, stdio: &mut Stdio| -> Result<Option<Output>, String> {
        let Some(outlet) = outlet else {
            return Ok(None);
        };
        let (reader, writer) = streams::pipe()
            .map_err(|why| format!("cannot make a pipe for {}: {why}", outlet.which.option()))?;
        *stdio = Stdio::Fd(writer.as_raw_fd());
        Ok(Some(Output {
            reader,
            outlet,
            writer,
        }))
    };
    let stdout = pipe(stdout, &mut job.spec.stdout)?;
    let stderr = pipe(stderr, &mut job.spec.stderr)?;
    pump.ready()
        .map_err(|why| format!("cannot start a thread for its output: {why}"))?;
    let pid = spawn::spawn(&job.spec).map_err(|error| error.to_string())?;
    for output in [stdout, stderr].into_iter().flatten() {
        drop(output.writer);
        let which = output.outlet.which;
        let origin = Origin {
            watcher: watcher.clone(),
            wid,
            pid,
            which,
        };
        match pump.attach(output.reader, &output.outlet, origin) {
            Ok(heard) if which == Which::Stderr => *words = Some(heard),
            Ok(_) => {}
            // its pipe is closed: the worker ends when it speaks, and why stands in the log
            Err(why) => tracing::error!(
                "{watcher}: what process {pid} says on its {} cannot be read: {why}",
                which.name()
            ),
        }
    }
    Ok(pid)
}
