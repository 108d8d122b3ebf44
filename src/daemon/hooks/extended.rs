//! `stats` with `extended`: what has been measured goes through the watcher's `extended_stats` hook before it is answered.

use super::pool::Owner;
use super::{Errand, Measured, view};
use crate::daemon::answers::send;
use crate::daemon::router::Client;
use crate::daemon::sampling::Work;
use crate::daemon::shell::{Shell, wall_clock};
use crate::options::{Map, Value};
use crate::supervisor::WatcherId;
use crate::wire::reply::{self, Errno};
use serde_json::json;

/// The hook's name.
const HOOK: &str = "extended_stats";

/// A `stats` request whose answer is being extended.
pub struct Extension {
    client: (Client, Value),
    properties: Map<String, Value>,
    /// Calls that have not been answered.
    left: usize,
}

impl Shell {
    /// The watcher whose hook extends the statistics of this request, if there is one.
    pub(in crate::daemon) fn extends(&self, name: Option<&str>) -> Option<WatcherId> {
        let view = self.core.watcher(name?)?;
        view.options().hook(HOOK).is_some().then(|| view.id())
    }

    /// Measures, lets the hook of the watcher add to it, and answers.
    pub(in crate::daemon) fn measure_extended(
        &mut self,
        work: Work,
        watcher: WatcherId,
        client: Option<(Client, Value)>,
    ) {
        let Some(client) = client else {
            return;
        };
        let sender = self.hooks.measurements.clone();
        self.sampling.ask(
            work,
            Box::new(move |properties| {
                // the daemon is ending if nobody wants it
                let _ = sender.send(Measured {
                    watcher,
                    client,
                    properties,
                });
            }),
        );
    }

    /// The hook's turn.
    pub(super) fn extend(&mut self, measured: Measured) {
        let Measured {
            watcher,
            client,
            properties,
        } = measured;
        let properties = match properties {
            Ok(properties) => properties,
            Err(reason) => {
                let reply = reply::error(&client.1, wall_clock(), Errno::Os, &reason);
                return send(&client.0, &reply);
            }
        };
        let stats = pairs(&properties);
        let number = self.number();
        let program = self.core.watcher_by_id(watcher).and_then(|view| {
            let hook = view.options().hook(HOOK)?;
            Some(matches!(view::exec_argv(&hook), Ok(Some(_))))
        });
        let (Some(program), false) = (program, stats.is_empty()) else {
            let reply = reply::ok(&client.1, wall_clock(), properties);
            return send(&client.0, &reply);
        };
        // a callable gets all in one message; a program is run for each
        let calls: Vec<Vec<(String, Value)>> = if program {
            stats.into_iter().map(|pair| vec![pair]).collect()
        } else {
            vec![stats]
        };
        self.hooks.extensions.insert(
            number,
            Extension {
                client,
                properties,
                left: calls.len(),
            },
        );
        for stats in calls {
            let errand = self.number();
            let owner = Owner::Shell(errand);
            let mut arguments = Map::new();
            if let (true, [(pid, stats)]) = (program, stats.as_slice()) {
                arguments.insert("pid".to_string(), json!(pid.parse::<i32>().unwrap_or(0)));
                arguments.insert("stats".to_string(), stats.clone());
            }
            let limit = self.core.watcher_by_id(watcher);
            let limit = limit.and_then(|view| view.options().hook_timeout());
            self.hooks.errand(
                errand,
                Errand::Stats {
                    number,
                    pid: program
                        .then(|| stats.first().map(|pair| pair.0.clone()))
                        .flatten(),
                },
                limit,
            );
            match self.hook_message(watcher, HOOK, &arguments) {
                Ok(mut message) => {
                    if !program {
                        let pairs = stats
                            .into_iter()
                            .map(|(pid, stats)| json!([pid.parse::<i32>().unwrap_or(0), stats]));
                        message["stats"] = pairs.collect();
                    }
                    self.submit_hook(owner, watcher, HOOK, message, &arguments, program);
                }
                Err(why) => self.hooks.pool.refuse(owner, why),
            }
        }
    }

    /// The hook has had its turn with all workers, or with `pid`.
    pub(super) fn extended(
        &mut self,
        number: u64,
        pid: Option<&str>,
        answer: Result<bool, String>,
        stats: Option<Value>,
    ) {
        let Some(mut extension) = self.hooks.extensions.remove(&number) else {
            return;
        };
        if let Err(why) = answer {
            let (client, id) = &extension.client;
            let reason = format!("hook {HOOK} failed: {why}");
            tracing::warn!("{reason}");
            return send(
                client,
                &reply::error(id, wall_clock(), Errno::Command, &reason),
            );
        }
        match (pid, stats) {
            (Some(pid), Some(Value::Object(more))) => add(&mut extension.properties, pid, more),
            (None, Some(Value::Array(pairs))) => {
                for pair in pairs {
                    if let [pid, Value::Object(stats)] =
                        pair.as_array().map_or(&[][..], Vec::as_slice)
                    {
                        add(&mut extension.properties, &pid.to_string(), stats.clone());
                    }
                }
            }
            _ => {}
        }
        extension.left -= 1;
        if extension.left > 0 {
            self.hooks.extensions.insert(number, extension);
            return;
        }
        let (client, id) = &extension.client;
        send(client, &reply::ok(id, wall_clock(), extension.properties));
    }
}

/// The statistics in the properties of an answer, by pid: of one process or of a watcher.
fn pairs(properties: &Map<String, Value>) -> Vec<(String, Value)> {
    let info = properties.get("info");
    match (properties.get("process"), info) {
        (Some(pid), Some(info)) if info.is_object() => vec![(pid.to_string(), info.clone())],
        (None, Some(Value::Object(all))) => all
            .iter()
            .filter(|(_, info)| info.is_object())
            .map(|(pid, info)| (pid.clone(), info.clone()))
            .collect(),
        _ => Vec::new(),
    }
}

/// Takes over what a hook has left of the statistics of a process.
fn add(properties: &mut Map<String, Value>, pid: &str, stats: Map<String, Value>) {
    let single = properties.contains_key("process");
    let Some(info) = properties.get_mut("info") else {
        return;
    };
    let place = if single {
        Some(info)
    } else {
        info.get_mut(pid)
    };
    if let Some(Value::Object(known)) = place {
        known.extend(stats);
    }
}
