//! The thread that starts workers. The kernel holds the caller of a spawn until the new program has been read from its
//! disk, and a log file may be on a disk that hangs: neither may hold the supervision thread.
//!
//! One thread, so that workers come up in order. When a start takes very long while others wait, another thread is added.

use super::last_words::{Destination, Listeners, Words};
use super::shell::wall_clock;
use super::sockets::ListenSocket;
use super::spawn::{self, SpawnSpec, Stdio};
use crate::supervisor::{Pid, SpawnId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
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
    /// Files that take its output.
    pub files: OutputFiles,
    /// Hear what it says on its standard error.
    pub listen: bool,
    /// Sockets bound for this worker alone; held until it has them.
    pub _own_sockets: Vec<OwnedFd>,
    /// The daemon's sockets it gets; held so that their numbers stay what they are.
    pub _sockets: Vec<Arc<ListenSocket>>,
}

/// Files that are opened for a worker's output.
#[derive(Debug, Default)]
pub struct OutputFiles {
    /// For standard output.
    pub stdout: Option<PathBuf>,
    /// For standard error.
    pub stderr: Option<PathBuf>,
}

/// What became of a job.
pub struct Done {
    /// Names the request.
    pub spawn: SpawnId,
    /// When it was started, in seconds since the epoch.
    pub born: f64,
    /// Its process, or a sentence that says why there is none.
    pub result: Result<Pid, String>,
    /// What it says on its standard error, if it is listened to.
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
    /// The workers that are listened to.
    pub listeners: Arc<Listeners>,
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
            listeners: Arc::default(),
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
            let _ = self.sender.send(carry_out(job, &self.listeners));
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
        let listeners = self.listeners.clone();
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
                    let done = carry_out(job, &listeners);
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

fn carry_out(mut job: Job, listeners: &Listeners) -> Done {
    let born = wall_clock();
    let mut words = None;
    let result = start(&mut job, listeners, &mut words);
    Done {
        spawn: job.spawn,
        born,
        words: words.filter(|_| result.is_ok()),
        result,
        abandoned: false,
    }
}

fn start(
    job: &mut Job,
    listeners: &Listeners,
    words: &mut Option<Arc<Words>>,
) -> Result<Pid, String> {
    let open = |path: &PathBuf, key: &str| {
        File::options()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|error| format!("cannot open {} ({key}.filename): {error}", path.display()))
    };
    let stdout = job.files.stdout.as_ref();
    let stdout = stdout.map(|path| open(path, "stdout_stream")).transpose()?;
    let stderr = job.files.stderr.as_ref();
    let mut stderr = stderr.map(|path| open(path, "stderr_stream")).transpose()?;
    if let Some(file) = &stdout {
        job.spec.stdout = Stdio::Fd(file.as_raw_fd());
    }
    // closed when the worker has it: then only the worker, and whom it starts, can speak
    let mut pipe = None;
    if job.listen && !matches!(job.spec.stderr, Stdio::Null) {
        let destination = stderr.take().map_or(Destination::Daemon, Destination::File);
        match listeners.listen(destination) {
            Ok((writer, heard)) => {
                job.spec.stderr = Stdio::Fd(writer.as_raw_fd());
                *words = Some(heard);
                pipe = Some(writer);
            }
            Err((destination, error)) => {
                if let Some(error) = error {
                    tracing::warn!("cannot listen to the standard error of a worker: {error}");
                }
                if let Destination::File(file) = destination {
                    stderr = Some(file);
                }
            }
        }
    }
    if let Some(file) = &stderr {
        job.spec.stderr = Stdio::Fd(file.as_raw_fd());
    }
    let result = spawn::spawn(&job.spec).map_err(|error| error.to_string());
    drop(pipe);
    result
}
