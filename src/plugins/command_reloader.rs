//! Restarts a watcher when the program it runs is changed. Source: `circus.plugins.command_reloader`, which looks at
//! nothing but a `cmd` that is one whole path, and stops looking at all watchers when one of them is anything else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Surroundings;
use super::files::{Command, Stamps};
use super::restarts::Restarts;
use super::settings::Settings;
use super::step::{Beat, Call, Effect, Input, Look, Looked, Plugin, Wants};
use crate::wire::event::resource_name;

/// Seconds after which a watcher's command is asked for again, though no event says that it may have changed.
const ASK_AGAIN: f64 = 30.0;

/// The plugin.
pub struct CommandReloader {
    beat: Beat,
    watchers: BTreeMap<String, Known>,
    restarts: Restarts,
}

#[derive(Default)]
struct Known {
    /// Its command, and when it was told.
    command: Option<(Command, f64)>,
    /// Its files when they were last seen; those that are away for a moment are kept.
    stamps: Option<Stamps>,
}

impl CommandReloader {
    pub(super) fn new(settings: &Settings<'_>, around: Surroundings) -> Self {
        CommandReloader {
            beat: Beat::at_once(around.now, settings.number("loop_rate")),
            watchers: BTreeMap::new(),
            restarts: Restarts::default(),
        }
    }

    fn listed(&mut self, now: f64, names: &[&str]) -> Vec<Effect> {
        let names: BTreeSet<&str> = names
            .iter()
            .copied()
            .filter(|name| !name.starts_with("plugin:"))
            .collect();
        self.watchers
            .retain(|name, _| names.contains(name.as_str()));
        let mut effects = Vec::new();
        for name in names {
            let known = self.watchers.entry(name.to_owned()).or_default();
            match &known.command {
                Some((command, told)) if now - told < ASK_AGAIN => {
                    effects.push(look(name, command));
                }
                _ => {
                    let keys = ["cmd", "working_dir", "env"].map(Value::from);
                    let call = Call::about("get", name).with("keys", keys.to_vec());
                    effects.push(Effect::Call(call));
                }
            }
        }
        effects
    }

    fn told(&mut self, now: f64, watcher: &str, options: &Value) -> Vec<Effect> {
        let Some(known) = self.watchers.get_mut(watcher) else {
            return Vec::new();
        };
        let text = |pointer: &str| {
            let value = options.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let path = match text("/env/PATH") {
            none if none.is_empty() => "/usr/local/bin:/usr/bin:/bin".to_owned(),
            path => path,
        };
        let command = Command {
            cmd: text("/cmd"),
            working_dir: text("/working_dir"),
            path,
        };
        let effect = look(watcher, &command);
        known.command = Some((command, now));
        vec![effect]
    }

    fn looked(&mut self, watcher: &str, seen: Stamps) -> Vec<Effect> {
        let Some(known) = self.watchers.get_mut(watcher) else {
            return Vec::new();
        };
        if seen.is_empty() {
            // being replaced at this moment, or nothing that is a file
            return Vec::new();
        }
        let before = match known.stamps.take() {
            None => {
                known.stamps = Some(seen);
                return Vec::new();
            }
            Some(before) => before,
        };
        let changed = seen
            .iter()
            .find(|(path, stamp)| before.get(*path) != Some(stamp))
            .map(|(path, _)| path.clone());
        // A file of this command that is not there now is remembered, to see whether it comes back as another one.
        let mut stamps = seen;
        if changed.is_none() {
            for (path, stamp) in before {
                stamps.entry(path).or_insert(stamp);
            }
        }
        known.stamps = Some(stamps);
        changed
            .map(|path| {
                let reason = format!("{} is another one now", path.display());
                self.restarts.ask(watcher, "restart", reason)
            })
            .into_iter()
            .collect()
    }
}

fn look(watcher: &str, command: &Command) -> Effect {
    Effect::Look(Look::Files {
        watcher: watcher.to_owned(),
        command: command.clone(),
    })
}

impl Plugin for CommandReloader {
    fn wants(&self) -> Wants {
        Wants {
            events: true,
            ..Wants::default()
        }
    }

    fn step(&mut self, now: f64, input: Input) -> Vec<Effect> {
        match input {
            Input::Tick if self.beat.is_due(now) => vec![Effect::Call(Call::new("list"))],
            Input::Event(event) => {
                for (name, known) in &mut self.watchers {
                    if resource_name(name) == event.watcher {
                        known.command = None;
                    }
                }
                Vec::new()
            }
            Input::Connected => {
                self.watchers
                    .values_mut()
                    .for_each(|known| known.command = None);
                Vec::new()
            }
            Input::Reply(call, reply) => {
                if let Some(effects) = self.restarts.reply(&call, &reply) {
                    return effects;
                }
                match (call.command, call.watcher(), reply) {
                    ("list", None, Ok(reply)) => {
                        let names = reply.get("watchers").and_then(Value::as_array);
                        let names: Vec<&str> = names
                            .into_iter()
                            .flatten()
                            .filter_map(Value::as_str)
                            .collect();
                        self.listed(now, &names)
                    }
                    ("get", Some(watcher), Ok(reply)) => {
                        let options = reply.get("options").cloned().unwrap_or_default();
                        self.told(now, watcher, &options)
                    }
                    _ => Vec::new(),
                }
            }
            Input::Looked(Looked::Files { watcher, stamps }) => self.looked(&watcher, stamps),
            _ => Vec::new(),
        }
    }

    fn wake(&self) -> Option<f64> {
        Some(self.beat.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::files::Stamp;
    use serde_json::{Map, json};

    struct Play {
        plugin: CommandReloader,
        /// Version of each file that is there.
        files: BTreeMap<&'static str, i64>,
        cmd: &'static str,
        restarted: usize,
        asked: usize,
    }

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    impl Play {
        fn new() -> Play {
            Play {
                plugin: CommandReloader {
                    beat: Beat::at_once(0.0, 1.0),
                    watchers: BTreeMap::new(),
                    restarts: Restarts::default(),
                },
                files: BTreeMap::from([("/a", 1)]),
                cmd: "/a",
                restarted: 0,
                asked: 0,
            }
        }

        fn tick(&mut self, now: f64) {
            let mut todo = self.plugin.step(now, Input::Tick);
            while !todo.is_empty() {
                let input = match todo.remove(0) {
                    Effect::Call(call) => {
                        let reply = match call.command {
                            "list" => json!({"watchers": ["plugin:x", "web"]}),
                            "get" => {
                                self.asked += 1;
                                json!({"options": {"cmd": self.cmd, "working_dir": "/", "env": null}})
                            }
                            "status" => json!({"status": "active"}),
                            "restart" => {
                                self.restarted += 1;
                                json!({})
                            }
                            other => panic!("{other}"),
                        };
                        Input::Reply(call, Ok(object(reply)))
                    }
                    Effect::Look(Look::Files { watcher, command }) => {
                        let found = self
                            .files
                            .iter()
                            .filter(|(path, _)| command.cmd.contains(**path));
                        let stamp = |version: &i64| Stamp {
                            changed: (*version, 0),
                            inode: 1,
                            size: 1,
                        };
                        let stamps = found.map(|(path, v)| (path.into(), stamp(v))).collect();
                        Input::Looked(Looked::Files { watcher, stamps })
                    }
                    Effect::Log(..) => continue,
                    other => panic!("{other:?}"),
                };
                let more = self.plugin.step(now, input);
                todo.splice(0..0, more);
            }
        }
    }

    #[test]
    fn a_changed_file_restarts_once() {
        let mut play = Play::new();
        play.tick(0.0);
        play.tick(1.0);
        assert_eq!(play.restarted, 0);
        play.files.insert("/a", 2);
        play.tick(2.0);
        play.tick(3.0);
        assert_eq!(play.restarted, 1);
    }

    #[test]
    fn a_file_that_was_away_for_a_moment() {
        let mut play = Play::new();
        play.tick(0.0);
        play.files.clear();
        play.tick(1.0);
        assert_eq!(play.restarted, 0);
        play.files.insert("/a", 1);
        play.tick(2.0);
        assert_eq!(play.restarted, 0, "it is the same one");
        play.files.clear();
        play.tick(3.0);
        play.files.insert("/a", 2);
        play.tick(4.0);
        assert_eq!(play.restarted, 1);
    }

    #[test]
    fn another_command_is_noticed_by_its_event() {
        let mut play = Play::new();
        play.tick(0.0);
        play.files.insert("/b", 1);
        play.cmd = "/b";
        play.tick(1.0);
        assert_eq!((play.asked, play.restarted), (1, 0));
        let event = crate::plugins::step::Event {
            watcher: "web".into(),
            action: "updated".into(),
            payload: Value::Null,
        };
        play.plugin.step(1.5, Input::Event(event));
        play.tick(2.0);
        assert_eq!((play.asked, play.restarted), (2, 1));
    }
}
