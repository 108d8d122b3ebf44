//! The thread that reads `/proc` for `stats` and `dstats`, so that the supervision thread never does.

use super::answers::send;
use super::router::Client;
use super::shell::wall_clock;
use crate::options::{Map, Value};
use crate::stats::Sampler;
use crate::supervisor::{Pid, Wid};
use crate::wire::reply;
use std::io;
use std::sync::mpsc;

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
}

struct Job {
    work: Work,
    client: Client,
    id: Value,
}

/// The way to the sampling thread, which starts with the first question.
#[derive(Default)]
pub struct Sampling {
    jobs: Option<mpsc::Sender<Job>>,
}

impl Sampling {
    /// Measures workers and answers the client.
    pub fn ask(&mut self, work: Work, client: Client, id: Value) {
        let mut job = Job { work, client, id };
        for _ in 0..2 {
            let jobs = match &self.jobs {
                Some(jobs) => jobs.clone(),
                None => match start() {
                    Ok(jobs) => self.jobs.insert(jobs).clone(),
                    Err(error) => {
                        let reason = format!("cannot start the sampling thread: {error}");
                        let errno = reply::Errno::Os;
                        let reply = reply::error(&job.id, wall_clock(), errno, &reason);
                        send(&job.client, &reply);
                        return;
                    }
                },
            };
            match jobs.send(job) {
                Ok(()) => return,
                // the thread is gone; another one is started
                Err(mpsc::SendError(back)) => {
                    self.jobs = None;
                    job = back;
                }
            }
        }
    }
}

fn start() -> io::Result<mpsc::Sender<Job>> {
    let (jobs, queue) = mpsc::channel::<Job>();
    std::thread::Builder::new()
        .name("stats".to_string())
        .stack_size(512 * 1024)
        .spawn(move || {
            let mut sampler = Sampler::new();
            for job in queue {
                let properties = measure(&mut sampler, &job.work);
                let reply = reply::ok(&job.id, wall_clock(), properties);
                send(&job.client, &reply);
            }
        })?;
    Ok(jobs)
}

fn measure(sampler: &mut Sampler, work: &Work) -> Map<String, Value> {
    let mut answer = Map::new();
    match work {
        Work::All(watchers) => {
            let all: Vec<Worker> = watchers.iter().flat_map(|(_, w)| w.clone()).collect();
            let mut infos = sample(sampler, &all).into_iter();
            let mut by_watcher = Map::new();
            for (name, workers) in watchers {
                let own: Map<String, Value> = infos.by_ref().take(workers.len()).collect();
                by_watcher.insert(name.clone(), Value::Object(own));
            }
            answer.insert("infos".to_string(), Value::Object(by_watcher));
        }
        Work::Watcher(name, workers) => {
            let infos = sample(sampler, workers).into_iter().collect();
            answer.insert("name".to_string(), Value::from(name.as_str()));
            answer.insert("info".to_string(), Value::Object(infos));
        }
        Work::Process(worker) => {
            let info = sample(sampler, &[*worker]).pop().map(|(_, info)| info);
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
