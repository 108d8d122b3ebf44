//! Kills workers that do not send a heartbeat. Source: `circus.plugins.watchdog`. Different here: which workers there are
//! is asked from the start and at every look, so that none is missed and none that is gone is killed; and if heartbeats
//! cannot be received, the plugin ends rather than killing everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use regex::Regex;
use serde_json::Value;

use super::Surroundings;
use super::settings::{BadSetting, Settings};
use super::step::{Beat, Call, Effect, Event, Input, Level, Plugin, Wants};
use crate::wire::event::resource_name;

/// Strangers that are remembered as told of.
const STRANGERS: usize = 100;
/// Workers that are remembered as told to go.
const LEAVING: usize = 1000;

/// The plugin.
pub struct WatchDog {
    beat: Beat,
    /// Seconds without a heartbeat.
    patience: f64,
    watchers: Regex,
    heartbeat: Regex,
    place: SocketAddr,
    signal: Option<i32>,
    graceful: Option<f64>,
    /// When each worker was last heard of.
    monitored: BTreeMap<i64, Monitored>,
    /// Workers that were told to go, and may still be listed.
    leaving: BTreeSet<i64>,
    /// The daemon's names of watchers by those of their topics.
    names: BTreeMap<String, String>,
    strangers: BTreeSet<String>,
}

#[derive(Debug, PartialEq)]
struct Monitored {
    watcher: String,
    heard: f64,
}

impl WatchDog {
    pub(super) fn new(settings: &Settings<'_>, around: Surroundings) -> Result<Self, BadSetting> {
        let heartbeat = settings.regex("msg_regex")?;
        if !heartbeat
            .capture_names()
            .flatten()
            .any(|name| name == "pid")
        {
            return Err(BadSetting::Unusable {
                key: "msg_regex",
                why: "it has no group for the pid: (?P<pid>…)".to_owned(),
            });
        }
        let ip = settings
            .text("ip")
            .parse()
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let period = settings.number("loop_rate");
        Ok(WatchDog {
            beat: Beat::new(around.now, period),
            patience: period * settings.whole("max_count") as f64,
            watchers: settings.regex("watchers_regex")?,
            heartbeat,
            place: SocketAddr::new(ip, settings.port("port")),
            signal: settings.signal("watchers_stop_signal"),
            graceful: settings.number_if_any("watchers_graceful_timeout"),
            monitored: BTreeMap::new(),
            leaving: BTreeSet::new(),
            names: BTreeMap::new(),
            strangers: BTreeSet::new(),
        })
    }

    fn listed(&mut self, names: &[&str]) -> Vec<Effect> {
        if self.leaving.len() > LEAVING {
            // reaped without a word, most of them
            self.leaving.clear();
        }
        self.names = names
            .iter()
            .map(|name| (resource_name(name), (*name).to_owned()))
            .collect();
        let wanted: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| self.watchers.is_match(name))
            .collect();
        self.monitored
            .retain(|_, worker| wanted.contains(&worker.watcher.as_str()));
        wanted
            .into_iter()
            .map(|name| Effect::Call(Call::about("list", name)))
            .collect()
    }

    fn workers(&mut self, now: f64, watcher: &str, pids: &[i64]) -> Vec<Effect> {
        self.monitored
            .retain(|pid, worker| worker.watcher != watcher || pids.contains(pid));
        let mut effects = Vec::new();
        for pid in pids {
            if !self.monitored.contains_key(pid) && !self.leaving.contains(pid) {
                effects.push(self.monitor(now, watcher, *pid));
            }
        }
        effects
    }

    fn monitor(&mut self, now: f64, watcher: &str, pid: i64) -> Effect {
        let worker = Monitored {
            watcher: watcher.to_owned(),
            heard: now,
        };
        self.monitored.insert(pid, worker);
        Effect::info(format!("{watcher}: heartbeats of {pid} are waited for"))
    }

    fn event(&mut self, now: f64, event: &Event) -> Vec<Effect> {
        let name = self.names.get(&event.watcher).unwrap_or(&event.watcher);
        let (Some(pid), true) = (event.pid(), self.watchers.is_match(name)) else {
            return Vec::new();
        };
        match event.action.as_str() {
            "spawn" => {
                let name = name.clone();
                self.leaving.remove(&pid);
                vec![self.monitor(now, &name, pid)]
            }
            "kill" => {
                self.monitored.remove(&pid);
                self.leaving.insert(pid);
                Vec::new()
            }
            "reap" => {
                self.monitored.remove(&pid);
                self.leaving.remove(&pid);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn datagram(&mut self, now: f64, bytes: &[u8]) -> Vec<Effect> {
        let text = String::from_utf8_lossy(bytes);
        let Some(pid) = self
            .heartbeat
            .captures(&text)
            .and_then(|groups| groups.name("pid"))
        else {
            let text: String = text.chars().take(80).collect();
            return self.stranger(format!("no heartbeat: {text:?}"));
        };
        let worker = pid
            .as_str()
            .trim()
            .parse()
            .ok()
            .and_then(|pid: i64| self.monitored.get_mut(&pid));
        match worker {
            Some(worker) => {
                worker.heard = now;
                Vec::new()
            }
            None => {
                let pid: String = pid.as_str().chars().take(20).collect();
                self.stranger(format!(
                    "a heartbeat of {pid:?}, which is no worker that is waited for"
                ))
            }
        }
    }

    /// Tells of each once.
    fn stranger(&mut self, text: String) -> Vec<Effect> {
        if self.strangers.len() >= STRANGERS {
            self.strangers.clear();
        }
        if self.strangers.insert(text.clone()) {
            vec![Effect::warning(text)]
        } else {
            Vec::new()
        }
    }

    fn look(&mut self, now: f64) -> Vec<Effect> {
        let silent: Vec<i64> = self
            .monitored
            .iter()
            .filter(|(_, worker)| now - worker.heard > self.patience)
            .map(|(pid, _)| *pid)
            .collect();
        let mut effects = Vec::new();
        for pid in silent {
            let Some(worker) = self.monitored.remove(&pid) else {
                continue;
            };
            self.leaving.insert(pid);
            effects.push(Effect::info(format!(
                "{}: {pid} is killed: no heartbeat for {:.1} s",
                worker.watcher,
                now - worker.heard
            )));
            let mut call = Call::about("kill", &worker.watcher).with("pid", pid);
            if let Some(signal) = self.signal {
                call = call.with("signum", signal);
            }
            if let Some(graceful) = self.graceful {
                call = call.with("graceful_timeout", graceful);
            }
            effects.push(Effect::Call(call));
        }
        effects.push(Effect::Call(Call::new("list")));
        effects
    }
}

impl Plugin for WatchDog {
    fn wants(&self) -> Wants {
        Wants {
            events: true,
            datagrams: Some(self.place),
        }
    }

    fn step(&mut self, now: f64, input: Input) -> Vec<Effect> {
        match input {
            Input::Connected => vec![Effect::Call(Call::new("list"))],
            Input::Event(event) => self.event(now, &event),
            Input::Datagram(bytes) => self.datagram(now, &bytes),
            Input::Tick if self.beat.is_due(now) => self.look(now),
            Input::Reply(call, Ok(reply)) => match (call.command, call.watcher()) {
                ("list", None) => {
                    let names = reply.get("watchers").and_then(Value::as_array);
                    let names: Vec<&str> = names
                        .into_iter()
                        .flatten()
                        .filter_map(Value::as_str)
                        .collect();
                    self.listed(&names)
                }
                ("list", Some(watcher)) => {
                    let pids = reply.get("pids").and_then(Value::as_array);
                    let pids: Vec<i64> = pids
                        .into_iter()
                        .flatten()
                        .filter_map(Value::as_i64)
                        .collect();
                    self.workers(now, watcher, &pids)
                }
                _ => Vec::new(),
            },
            // It may have ended meanwhile; the next look tells.
            Input::Reply(call, Err(why)) => vec![Effect::Log(
                Level::Debug,
                format!("{}: {why}", call.command),
            )],
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
    use crate::config::plugin_keys::native;
    use crate::plugins::parse_settings;
    use serde_json::{Map, json};

    fn plugin(settings: &str) -> Result<WatchDog, BadSetting> {
        let spec = native("circus.plugins.watchdog.WatchDog").unwrap();
        let settings = parse_settings(settings);
        let around = Surroundings {
            check_delay: 5.0,
            now: 0.0,
        };
        WatchDog::new(&Settings::new(spec, &settings)?, around)
    }

    fn reply(dog: &mut WatchDog, now: f64, call: Call, reply: Value) -> Vec<Effect> {
        let reply = match reply {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        dog.step(now, Input::Reply(call, Ok(reply)))
    }

    fn event(action: &str, watcher: &str, pid: i64) -> Input {
        Input::Event(Event {
            watcher: watcher.to_owned(),
            action: action.to_owned(),
            payload: json!({"process_pid": pid}),
        })
    }

    fn kills(effects: Vec<Effect>) -> Vec<String> {
        let calls = effects.into_iter().filter_map(|effect| match effect {
            Effect::Call(call) if call.command == "kill" => {
                Some(Value::from(call.properties).to_string())
            }
            _ => None,
        });
        calls.collect()
    }

    #[test]
    fn who_is_silent_is_killed_and_nobody_else() {
        let mut dog = plugin(
            "loop_rate:1:::max_count:2:::watchers_regex:web:::watchers_stop_signal:QUIT:::watchers_graceful_timeout:3",
        )
        .unwrap();
        assert_eq!(
            dog.step(0.0, Input::Connected),
            [Effect::Call(Call::new("list"))]
        );
        let names = json!({"watchers": ["db", "web", "web two"]});
        assert_eq!(
            reply(&mut dog, 0.0, Call::new("list"), names),
            [
                Effect::Call(Call::about("list", "web")),
                Effect::Call(Call::about("list", "web two"))
            ]
        );
        reply(
            &mut dog,
            0.0,
            Call::about("list", "web"),
            json!({"pids": [1, 2, 3]}),
        );
        dog.step(0.5, event("spawn", "web_two", 4));
        dog.step(0.5, event("spawn", "db", 5));
        dog.step(0.6, event("reap", "web", 3));
        for beat in ["1;now", "4; now", " 1 ;x"] {
            assert_eq!(dog.step(1.5, Input::Datagram(beat.into())), []);
        }
        assert_eq!(kills(dog.step(2.0, Input::Tick)), [] as [&str; 0]);
        assert_eq!(
            kills(dog.step(3.0, Input::Tick)),
            [r#"{"name":"web","pid":2,"signum":3,"graceful_timeout":3.0}"#]
        );
        assert_eq!(
            kills(dog.step(4.0, Input::Tick)),
            [
                r#"{"name":"web","pid":1,"signum":3,"graceful_timeout":3.0}"#,
                r#"{"name":"web two","pid":4,"signum":3,"graceful_timeout":3.0}"#
            ]
        );
    }

    #[test]
    fn who_is_gone_without_an_event_is_forgotten() {
        let mut dog = plugin("loop_rate:1:::max_count:1").unwrap();
        reply(
            &mut dog,
            0.0,
            Call::about("list", "web"),
            json!({"pids": [1]}),
        );
        reply(
            &mut dog,
            1.0,
            Call::about("list", "web"),
            json!({"pids": [2]}),
        );
        assert_eq!(
            kills(dog.step(3.0, Input::Tick)),
            [r#"{"name":"web","pid":2}"#]
        );
        reply(
            &mut dog,
            3.0,
            Call::about("list", "web"),
            json!({"pids": [3]}),
        );
        reply(&mut dog, 3.5, Call::new("list"), json!({"watchers": []}));
        assert_eq!(kills(dog.step(9.0, Input::Tick)), [] as [&str; 0]);
    }

    #[test]
    fn strangers_are_told_of_once() {
        let mut dog = plugin("").unwrap();
        let tell = |dog: &mut WatchDog, text: &str| dog.step(0.0, Input::Datagram(text.into()));
        assert_eq!(tell(&mut dog, "7;x").len(), 1);
        assert_eq!(tell(&mut dog, "7;y").len(), 0);
        assert_eq!(tell(&mut dog, "garbage").len(), 1);
        assert_eq!(dog.step(0.0, Input::Datagram(vec![0xff; 1024])).len(), 1);
        for n in 0..1000 {
            tell(&mut dog, &format!("{n};"));
        }
        assert!(dog.strangers.len() <= STRANGERS);
    }

    #[test]
    fn a_heartbeat_must_tell_a_pid() {
        assert!(plugin("msg_regex:^(.*)$").is_err());
        assert!(plugin("msg_regex:^beat (?P<pid>[0-9]+)").is_ok());
        assert!(plugin("msg_regex:^(?=x)(?P<pid>.)").is_err());
    }
}
