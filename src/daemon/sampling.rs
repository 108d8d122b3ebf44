//! The thread that reads `/proc` for `stats`, `dstats` and the statistics publisher, so that the supervision thread never
//! does.

use super::metrics::{self, Asked};
use super::shell::wall_clock;
use super::socket_queues::{self, Waiting};
use super::stats_feed::Turn;
use crate::options::{Map, Value};
use crate::stats::{Fronts, ProcStat, Round, Sampler, Seen, front};
use crate::supervisor::{Pid, WatcherId, Wid};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

/// Questions that may wait. One takes some milliseconds, so that the last of so many waits for seconds.
const QUESTIONS: usize = 4096;

/// A worker to be measured.
#[derive(Debug, Clone, Copy)]
pub struct Worker {
    /// Its process.
    pub pid: Pid,
    /// Its worker id.
    pub wid: Wid,
    /// When it was started, in seconds since the epoch.
    pub started: f64,
}

/// What a `stats` request is about.
#[derive(Debug)]
pub enum Work {
    /// Every watcher.
    All(Vec<(String, Vec<Worker>)>),
    /// The workers of one watcher, by the name the client gave.
    Watcher(String, Vec<Worker>),
    /// One worker.
    Process(Worker),
    /// The daemon itself.
    Daemon,
    /// The processes in an answer to `metrics`.
    Metrics(Box<Asked>),
    /// What waits at the sockets.
    Sockets(Vec<Waiting>),
}

/// Takes the properties of the answer on the sampling thread, or the reason why there is none on the asking one. What is
/// to be added to the answer (by a hook, say) is added here, and not by waiting.
pub type Done = Box<dyn FnOnce(Result<Map<String, Value>, String>) + Send>;

enum Job {
    Question { work: Work, done: Done },
    Round { turn: Turn, round: Round },
    Web(u64, News),
}

/// What the thread hears of a web server of a watcher.
enum News {
    /// It may end; its start time and its memory file.
    Held(Pid, u64, File),
    Ended(Pid),
    Dropped,
}

/// What happens to who may be a web server, whose numbers are kept.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    /// This worker gets a signal, and may end.
    Signalled(Pid),
    /// This worker has ended.
    Ended(Pid),
    /// The watcher has gone.
    Dropped,
}

/// The way to the sampling thread, which starts with the first question.
#[derive(Default)]
pub struct Sampling {
    jobs: Option<mpsc::Sender<Job>>,
    waiting: Arc<AtomicUsize>,
    /// Web servers among the workers that have been seen.
    web: Seen,
}

impl Sampling {
    /// Measures workers and hands the answer to `done`.
    pub fn ask(&mut self, work: Work, done: Done) {
        if let Err((Job::Question { done, .. }, reason)) = self.submit(Job::Question { work, done })
        {
            done(Err(reason));
        }
    }

    /// Measures and publishes a round of statistics.
    pub fn feed(&mut self, turn: Turn, round: Round) {
        if let Err((_, reason)) = self.submit(Job::Round { turn, round }) {
            tracing::warn!("a round of statistics is left out: {reason}");
        }
    }

    /// Tells what happens to a worker or watcher, as far as that is of any use.
    pub fn fate(&mut self, WatcherId(watcher): WatcherId, fate: Fate) {
        if !self.web.has(watcher) {
            return;
        }
        let news = match fate {
            // Its numbers would be lost if it had ended before the other thread could look. Few are not known there yet.
            Fate::Signalled(pid) if self.web.holds(pid) => return,
            Fate::Signalled(pid) => {
                let stat = ProcStat::read(pid);
                let file = front::find(pid).ok().flatten();
                let (Some(stat), Some(file)) = (stat, file) else {
                    return;
                };
                News::Held(pid, stat.starttime, file)
            }
            Fate::Ended(pid) => News::Ended(pid),
            Fate::Dropped => News::Dropped,
        };
        if let Err((_, reason)) = self.submit(Job::Web(watcher, news)) {
            tracing::warn!("what a web server has counted may be lost: {reason}");
        }
    }

    fn submit(&mut self, mut job: Job) -> Result<(), (Job, String)> {
        if self.waiting.load(Ordering::Relaxed) >= QUESTIONS {
            let reason = "too many questions for statistics are waiting; ask less often";
            return Err((job, reason.to_string()));
        }
        for _ in 0..2 {
            let jobs = match &self.jobs {
                Some(jobs) => jobs,
                None => match start(&self.waiting, &self.web) {
                    Ok(jobs) => self.jobs.insert(jobs),
                    Err(error) => {
                        return Err((job, format!("cannot start the sampling thread: {error}")));
                    }
                },
            };
            self.waiting.fetch_add(1, Ordering::Relaxed);
            match jobs.send(job) {
                Ok(()) => return Ok(()),
                // the thread is gone with all that waited; another one is started
                Err(mpsc::SendError(back)) => {
                    self.jobs = None;
                    self.waiting = Arc::default();
                    job = back;
                }
            }
        }
        Err((job, "the sampling thread does not stay".to_string()))
    }
}

fn start(waiting: &Arc<AtomicUsize>, web: &Seen) -> io::Result<mpsc::Sender<Job>> {
    let (jobs, queue) = mpsc::channel::<Job>();
    let (waiting, web) = (waiting.clone(), web.clone());
    std::thread::Builder::new()
        .name("stats".to_string())
        .stack_size(512 * 1024)
        .spawn(move || {
            let (mut sampler, mut fronts) = (Sampler::new(), Fronts::new(web));
            for job in queue {
                waiting.fetch_sub(1, Ordering::Relaxed);
                match job {
                    Job::Question { work, done } => {
                        done(Ok(measure(&mut sampler, &mut fronts, work)));
                    }
                    Job::Web(watcher, news) => match news {
                        News::Held(pid, starttime, file) => {
                            fronts.hold(watcher, pid, starttime, file);
                        }
                        News::Ended(pid) => fronts.ended(watcher, pid),
                        News::Dropped => fronts.forget(watcher),
                    },
                    Job::Round { turn, round } => turn.publish(&round, &mut sampler),
                }
            }
        })?;
    Ok(jobs)
}

fn measure(sampler: &mut Sampler, fronts: &mut Fronts, work: Work) -> Map<String, Value> {
    let mut answer = Map::new();
    match work {
        Work::Sockets(sockets) => {
            let told: Vec<Value> = socket_queues::measure(sockets);
            answer.insert("sockets".to_string(), told.into());
        }
        Work::Metrics(asked) => return metrics::measure(sampler, fronts, *asked),
        Work::All(watchers) => {
            let all: Vec<Worker> = watchers.iter().flat_map(|(_, w)| w.clone()).collect();
            let mut infos = sample(sampler, &all).into_iter();
            let mut by_watcher = Map::new();
            for (name, workers) in watchers {
                let own: Map<String, Value> = infos.by_ref().take(workers.len()).collect();
                by_watcher.insert(name, Value::Object(own));
            }
            answer.insert("infos".to_string(), Value::Object(by_watcher));
        }
        Work::Watcher(name, workers) => {
            let infos = sample(sampler, &workers).into_iter().collect();
            answer.insert("name".to_string(), Value::from(name.as_str()));
            answer.insert("info".to_string(), Value::Object(infos));
        }
        Work::Process(worker) => {
            let info = sample(sampler, &[worker]).pop().map(|(_, info)| info);
            answer.insert("process".to_string(), Value::from(worker.pid));
            answer.insert("info".to_string(), info.unwrap_or(Value::Null));
        }
        Work::Daemon => {
            let pid = nix::unistd::getpid().as_raw();
            answer.insert("info".to_string(), sampler.sample_alone(pid));
        }
    }
    answer
}

/// The statistics of workers by pid, with what only the daemon knows of them.
fn sample(sampler: &mut Sampler, workers: &[Worker]) -> Vec<(String, Value)> {
    let pids: Vec<Pid> = workers.iter().map(|worker| worker.pid).collect();
    let now = wall_clock();
    workers
        .iter()
        .zip(sampler.sample(&pids))
        .map(|(worker, mut info)| {
            if let Value::Object(map) = &mut info {
                map.insert("age".to_string(), Value::from(now - worker.started));
                map.insert("started".to_string(), Value::from(worker.started));
                map.insert("wid".to_string(), Value::from(worker.wid));
            }
            (worker.pid.to_string(), info)
        })
        .collect()
}
