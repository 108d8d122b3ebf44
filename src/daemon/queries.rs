//! Requests that only look: answered from the core at once, or by the sampling thread.

use super::control::{Answer, Trouble, not_a_worker, one};
use super::sampling::{Work, Worker};
use super::shell::Shell;
use super::streams::Which;
use crate::options::{Map, Value};
use crate::supervisor::{Pid, Status, View};
use crate::wire::brief;
use crate::wire::command::{Command, GLOBAL_OPTIONS};
use serde_json::json;
use std::path::Path;

impl Shell {
    /// Answers what only looks; `None` for what does something.
    pub(super) fn query(&self, command: &Command) -> Option<Answer> {
        Some(match command {
            Command::List { name: None } => {
                let mut names: Vec<String> = self
                    .core
                    .watchers()
                    .map(|watcher| watcher.options().name.to_lowercase())
                    .collect();
                names.sort();
                Ok(one("watchers", names))
            }
            Command::List { name: Some(name) } => self.view(name).map(|watcher| {
                let pids: Vec<Pid> = watcher.workers().iter().map(|w| w.pid).collect();
                one("pids", pids)
            }),
            Command::Status {
                name: None,
                details,
            } => {
                let statuses: Map<String, Value> = self
                    .core
                    .watchers()
                    .map(|w| (w.options().name.clone(), w.status().as_str().into()))
                    .collect();
                let troubles: Map<String, Value> = self
                    .core
                    .watchers()
                    .filter_map(|w| Some((w.options().name.clone(), w.trouble()?.into())))
                    .collect();
                let mut answer = one("statuses", statuses);
                if !troubles.is_empty() {
                    answer.insert("troubles".to_string(), Value::Object(troubles));
                }
                let waiting: Vec<String> = self
                    .core
                    .watchers()
                    .filter(|w| w.status() == Status::Waiting)
                    .map(|w| w.options().name.clone())
                    .collect();
                if !waiting.is_empty() {
                    answer.insert("waiting".to_string(), json!(waiting));
                }
                if *details {
                    let watchers: Map<String, Value> = self
                        .core
                        .watchers()
                        .map(|w| {
                            let mut told = self.told_of(&w);
                            told.extend(self.detailed(&w));
                            (w.options().name.clone(), Value::Object(told))
                        })
                        .collect();
                    answer.insert("watchers".to_string(), Value::Object(watchers));
                }
                Ok(answer)
            }
            Command::Status {
                name: Some(name),
                details,
            } => self.view(name).map(|watcher| {
                let mut told = self.told_of(&watcher);
                if *details {
                    told.extend(self.detailed(&watcher));
                    told.insert("events".to_string(), self.last_events(watcher.id()));
                }
                told
            }),
            Command::NumProcesses { name: None } => {
                let all: usize = self.core.watchers().map(|w| w.workers().len()).sum();
                Ok(one("numprocesses", all))
            }
            Command::NumProcesses { name: Some(name) } => self.view(name).map(|watcher| {
                let mut answer = one("numprocesses", watcher.workers().len());
                answer.insert("watcher_name".to_string(), name.as_str().into());
                answer
            }),
            Command::LogTail {
                name,
                stream,
                bytes,
                after,
            } => self.view(name).map(|watcher| {
                let which = match stream.as_str() {
                    "stderr" => Which::Stderr,
                    _ => Which::Stdout,
                };
                let mut answer = one("stream", which.name());
                answer.extend(match self.streams.get(watcher.id(), which) {
                    Some(outlet) => outlet.last(*bytes, *after),
                    None => one("class", Value::Null),
                });
                answer
            }),
            Command::ReopenLogs { name: None } => {
                self.streams.reopen(None);
                self.log.reopen();
                Ok(Map::new())
            }
            Command::ReopenLogs { name: Some(name) } => self.view(name).map(|watcher| {
                self.streams.reopen(Some(watcher.id()));
                Map::new()
            }),
            Command::NumWatchers => Ok(one("numwatchers", self.core.watchers().count())),
            Command::Options { name } => self
                .view(name)
                .map(|watcher| one("options", watcher.options().listed())),
            Command::Get { name, keys } => self.view(name).and_then(|watcher| {
                let mut values = Map::new();
                for key in keys {
                    let value = watcher.options().get(key).ok_or_else(|| {
                        Trouble::message(format!("'{}' option not found", brief(key)))
                    })?;
                    values.insert(key.clone(), value.clone());
                }
                Ok(one("options", values))
            }),
            Command::GlobalOptions { option } => {
                let wanted: Vec<&str> = match option {
                    Some(option) => vec![option.as_str()],
                    None => GLOBAL_OPTIONS.to_vec(),
                };
                let values: Map<String, Value> = wanted
                    .into_iter()
                    .map(|key| (key.to_string(), self.global_option(key)))
                    .collect();
                Ok(one("options", values))
            }
            Command::ListSockets { .. } => {
                let mut sockets: Vec<_> = self.sockets.values().collect();
                sockets.sort_by_key(|socket| socket.fd());
                let infos: Vec<Value> = sockets
                    .into_iter()
                    .map(|socket| Value::Object(socket.info()))
                    .collect();
                Ok(one("sockets", infos))
            }
            Command::Identity => Ok(self.identity()),
            Command::Ipython => {
                let mut answer = one("shell", false);
                answer.insert("msg".to_string(), "circ has no Python inside".into());
                Ok(answer)
            }
            Command::Listen => Err(Trouble::message("invalid message. use a pub/sub socket")),
            Command::Incr { name, .. } | Command::Decr { name, .. } => match self.view(name) {
                Ok(watcher) if watcher.options().singleton() => {
                    let mut answer = one("numprocesses", watcher.options().numprocesses());
                    answer.insert("singleton".to_string(), true.into());
                    Ok(answer)
                }
                Ok(_) => return None,
                Err(trouble) => Err(trouble),
            },
            _ => return None,
        })
    }

    fn global_option(&self, key: &str) -> Value {
        let circus = &self.effective;
        match key {
            "endpoint" => json!(circus.endpoint),
            "stats_endpoint" => json!(circus.stats_endpoint),
            "pubsub_endpoint" => json!(circus.pubsub_endpoint),
            "check_delay" => json!(circus.check_delay),
            "multicast_endpoint" => json!(circus.multicast_endpoint),
            _ => Value::Null,
        }
    }

    /// Who this is. circusd has no such command, so that a client can tell the two apart by it.
    pub(super) fn identity(&self) -> Map<String, Value> {
        let shown = |path: &Path| Value::from(path.to_string_lossy());
        let files: Vec<Value> = self.config.files.iter().map(|path| shown(path)).collect();
        Map::from_iter([
            ("program".to_string(), "circ".into()),
            ("version".to_string(), env!("CARGO_PKG_VERSION").into()),
            ("pid".to_string(), std::process::id().into()),
            ("config".to_string(), shown(&self.config_path)),
            ("files".to_string(), files.into()),
            ("fqdn".to_string(), self.fqdn.as_str().into()),
            ("cwd".to_string(), shown(&self.cwd)),
            ("started".to_string(), self.born.into()),
            ("uid".to_string(), nix::unistd::geteuid().as_raw().into()),
        ])
    }

    /// Which workers a `stats` request is about.
    pub(super) fn stats_jobs(
        &self,
        name: Option<String>,
        process: Option<Pid>,
    ) -> Result<Work, Trouble> {
        let workers = |view: &View<'_>| -> Vec<Worker> {
            view.workers()
                .iter()
                .map(|w| Worker {
                    pid: w.pid,
                    wid: w.wid,
                    started: self.births.get(&w.pid).copied().unwrap_or(0.0),
                })
                .collect()
        };
        let Some(name) = name else {
            let all = self
                .core
                .watchers()
                .map(|view| (view.options().name.clone(), workers(&view)))
                .collect();
            return Ok(Work::All(all));
        };
        let watcher = self.view(&name)?;
        let mut workers = workers(&watcher);
        match process {
            None => Ok(Work::Watcher(name, workers)),
            Some(pid) => {
                workers.retain(|w| w.pid == pid);
                match workers.pop() {
                    Some(worker) => Ok(Work::Process(worker)),
                    None => Err(not_a_worker(pid, &name)),
                }
            }
        }
    }
}
