//! Plays a scenario against one daemon and writes down what came back.

use std::thread;

use serde_json::{Value, json};

use super::masking::Mask;
use super::scenarios::{Does, Scenario, Step};
use crate::support::{Daemon, Handle, Process, Program, TempSite, children, wait_for_within};

/// What one step brought, masked.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub label: String,
    /// The reply, or `null` if there was none.
    pub reply: Value,
    /// Topic and payload of every event the step caused.
    pub events: Vec<(String, Value)>,
}

/// Plays the scenario against two daemons at the same time.
pub fn play(scenario: &Scenario, programs: [Program; 2]) -> [Vec<Outcome>; 2] {
    thread::scope(|scope| {
        let runs = programs.map(|p| scope.spawn(move || Run::play(scenario, p)));
        runs.map(|r| {
            r.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

/// The watcher that exists only so that its `updated` events mark a place in the stream of events.
const MARK: &str = "mark";

struct Run<'a> {
    site: &'a TempSite,
    daemon: &'a Daemon<'a>,
    program: Program,
    dealer: Handle,
    events: Handle,
    mask: Mask,
    often_checked: bool,
    /// The processes that ran when the step began.
    running: Vec<i64>,
}

impl Run<'_> {
    fn play(scenario: &Scenario, program: Program) -> Vec<Outcome> {
        let site = TempSite::new();
        let port = site.port();
        let ini = |body: &str| {
            body.replace("@CHECK@", if scenario.often_checked { "0.5" } else { "60" })
                .replace("@PORT@", &port.to_string())
                .replace("@SITE@", &site.dir().to_string_lossy())
        };
        site.ini(&ini(scenario.ini));
        let path = std::env::var("PATH").unwrap_or_default();
        let daemon = site.start_with(program, |command| {
            // What copy_env copies must be the same for both.
            command
                .env_clear()
                .env("PATH", path)
                .env("HOME", "/nonexistent")
                .env("LANG", "C.UTF-8")
                .env("USER", "tester");
        });
        let mut mask = Mask::new(daemon.pid());
        mask.text(site.dir().to_string_lossy(), "<site>");
        mask.number(port, "<port>");
        for (endpoint, name) in [
            (&site.endpoint, "<control>"),
            (&site.pubsub, "<events>"),
            (&site.stats, "<stats>"),
        ] {
            mask.text(endpoint.as_str(), name);
        }
        let driver = daemon.driver();
        let (dealer, events) = (
            driver.dealer(&site.endpoint),
            driver.subscribe(&site.pubsub, &["watcher."]),
        );
        let mut run = Run {
            site: &site,
            daemon: &daemon,
            program,
            dealer,
            events,
            mask,
            often_checked: scenario.often_checked,
            running: Vec::new(),
        };
        run.settle();
        run.events();
        run.know_pids();
        scenario
            .steps
            .iter()
            .map(|step| run.step(step, &ini))
            .collect()
    }

    /// Plays one step, waits until everything it set going has ended, and collects its events.
    fn step(&mut self, step: &Step, ini: &dyn Fn(&str) -> String) -> Outcome {
        if tracing() {
            eprintln!(
                "{:?} {:?} {}",
                std::time::SystemTime::now(),
                self.program,
                step.label
            );
        }
        let reply = match &step.does {
            Does::Edit(body) => {
                self.site.ini(&ini(body));
                json!("edited")
            }
            Does::Command(command, properties) => {
                let properties = self.resolve(properties);
                let waiting = properties["waiting"] == true && !step.silent;
                let message =
                    json!({"id": "question", "command": command, "properties": properties});
                self.exchange(message.to_string().as_bytes(), waiting)
            }
            Does::Raw(bytes) => self.exchange(bytes, false),
        };
        if step.last {
            let ended = self.daemon.wait_exit().code();
            let reply = json!({"reply": self.mask.value(&reply), "the daemon's exit code": ended});
            return Outcome {
                label: step.label.clone(),
                reply,
                events: Vec::new(),
            };
        }
        if let Does::Command(command, properties) = &step.does
            && self.goes_on(command, properties, &reply)
        {
            self.outwait(command, properties);
        }
        self.settle();
        if !matches!(&step.does, Does::Command(_, properties) if properties["nostop"] == true) {
            self.daemon
                .wait_for("removed watchers' processes to end", || {
                    self.strays().is_empty().then_some(())
                });
        }
        let mut events = self.events();
        if !matches!(&step.does, Does::Command("set", _)) {
            // Those are of the waiting itself.
            events.retain(|(topic, _)| !topic.ends_with(".updated"));
        }
        if self.often_checked {
            events.retain(|(topic, _)| !topic.ends_with(".reap"));
        }
        let reply = self.mask.value(&reply);
        let events = events
            .iter()
            .map(|(topic, payload)| (topic.clone(), self.mask.value(payload)))
            .collect();
        self.know_pids();
        Outcome {
            label: step.label.clone(),
            reply,
            events,
        }
    }

    /// Sends a message; circusd's refusals while it is busy with its own periodic check are tried again.
    fn exchange(&self, bytes: &[u8], waiting: bool) -> Value {
        // circusd answers in the order of the questions; circ may measure on another thread.
        let patience = std::env::var("CIRC_TEST_PATIENCE")
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(60.0);
        let grace = if self.program == Program::Circusd {
            0.0
        } else {
            5.0
        };
        let answered = wait_for_within(crate::support::deadline(), || {
            let replies =
                self.daemon
                    .driver()
                    .exchange(self.dealer, bytes, !waiting, patience, grace);
            let busy = self.program == Program::Circusd
                && replies
                    .iter()
                    .any(|r| r.contains("arbiter is already running"));
            (!busy).then_some(replies)
        });
        let replies: Vec<Value> = answered
            .expect("the daemon is not busy for ever")
            .iter()
            .map(|text| {
                serde_json::from_str(text)
                    .unwrap_or_else(|_| json!({"not JSON": without_time(text)}))
            })
            .collect();
        match replies.as_slice() {
            [] => Value::Null,
            [one] => one.clone(),
            several => json!({ "several": several }),
        }
    }

    /// `"$pid web 0"` in a request stands for the pid of the first process of `web`.
    fn resolve(&self, value: &Value) -> Value {
        match value {
            Value::String(text) if text.starts_with("$child ") => {
                let parent = self.pids(&text["$child ".len()..])[0];
                json!(children(parent as i32)[0].pid)
            }
            Value::String(text) if text.starts_with("$pid ") => {
                let mut words = text.split(' ').skip(1);
                let watcher = words.next().expect("a watcher's name after $pid");
                let index: usize = words
                    .next()
                    .and_then(|w| w.parse().ok())
                    .expect("an index after $pid NAME");
                json!(self.pids(watcher)[index])
            }
            Value::String(text) if text.contains("@SITE@") => {
                json!(text.replace("@SITE@", &self.site.dir().to_string_lossy()))
            }
            Value::Array(list) => list.iter().map(|v| self.resolve(v)).collect(),
            Value::Object(map) => Value::Object(
                map.iter()
                    .map(|(k, v)| (k.clone(), self.resolve(v)))
                    .collect(),
            ),
            other => other.clone(),
        }
    }

    fn ask(&self, command: &str, properties: Value) -> Value {
        // Asked again and again: after some bad messages circusd stops looking at its queue until the next one comes.
        self.daemon.wait_for(command, || {
            self.daemon
                .driver()
                .request(self.dealer, command, properties.clone(), 1.0)
                .ok()
        })
    }

    fn pids(&self, watcher: &str) -> Vec<i64> {
        let reply = self.ask("list", json!({"name": watcher}));
        reply["pids"]
            .as_array()
            .map(|l| l.iter().filter_map(Value::as_i64).collect())
            .unwrap_or_default()
    }

    /// Does the daemon still work on this command after its reply?
    fn goes_on(&self, command: &str, properties: &Value, reply: &Value) -> bool {
        let slow = [
            "start",
            "stop",
            "restart",
            "reload",
            "incr",
            "decr",
            "set",
            "reloadconfig",
        ];
        slow.contains(&command) && properties["waiting"] != true && reply["status"] == "ok"
    }

    /// Waits until a command that was not waited for has been carried out, by one that queues behind it.
    fn outwait(&self, command: &str, properties: &Value) {
        if properties.get("name").is_none() && command != "set" {
            // All watchers: the same once more changes nothing.
            self.queue(command, json!({"waiting": true}));
            return;
        }
        for watcher in self.ask("list", json!({}))["watchers"]
            .as_array()
            .cloned()
            .unwrap_or_default()
        {
            if watcher == MARK {
                // Its event means something else.
                continue;
            }
            self.queue(
                "set",
                json!({"name": watcher, "options": {"warmup_delay": 0}, "waiting": true}),
            );
        }
    }

    fn queue(&self, command: &str, properties: Value) {
        let message = json!({"id": "behind", "command": command, "properties": properties});
        let reply = self.exchange(message.to_string().as_bytes(), true);
        assert_eq!(reply["status"], "ok", "{message}: {reply}");
    }

    /// Processes of the step's beginning that no watcher has any more and that have not ended.
    fn strays(&self) -> Vec<i64> {
        // circusd buries the dead at its next periodic check, circ at once and tells of it.
        let buries_late = self.program == Program::Circusd;
        let watchers = self.ask("list", json!({}))["watchers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let listed: Vec<i64> = watchers
            .iter()
            .flat_map(|w| self.pids(w.as_str().unwrap_or("")))
            .collect();
        let stray = |pid: &&i64| {
            !listed.contains(pid)
                && Process::find(**pid as i32)
                    .is_some_and(|p| p.comm == "sleep" && !(p.state == 'Z' && buries_late))
        };
        self.running.iter().filter(stray).copied().collect()
    }

    /// Names the processes that run now: `web[0]` is the oldest of web, whatever order `list` gives.
    fn know_pids(&mut self) {
        let mut running = Vec::new();
        for watcher in self.ask("list", json!({}))["watchers"]
            .as_array()
            .cloned()
            .unwrap_or_default()
        {
            let watcher = watcher.as_str().unwrap_or("");
            let mut pids = self.pids(watcher);
            pids.sort_by_key(|pid| (Process::find(*pid as i32).map(|p| p.start), *pid));
            running.extend(
                pids.into_iter()
                    .enumerate()
                    .map(|(i, pid)| (pid, format!("{watcher}[{i}]"))),
            );
        }
        self.running = running.iter().map(|(pid, _)| *pid).collect();
        self.mask.begin(running);
    }

    /// Waits until nothing moves: no watcher is starting or stopping, each active one has its number of processes,
    /// and every process runs its program.
    fn settle(&self) {
        self.daemon.wait_for("the daemon to come to rest", || {
            let statuses = self.ask("status", json!({}));
            let moving = statuses["statuses"]
                .as_object()?
                .iter()
                .find(|(name, status)| !self.rests(name, status));
            if let (Some(moving), true) = (moving, tracing()) {
                eprintln!("not at rest: {moving:?}");
            }
            moving.is_none().then_some(())
        });
    }

    fn rests(&self, name: &str, status: &Value) -> bool {
        if status == "stopped" {
            return true;
        }
        let wanted = self.ask("get", json!({"name": name, "keys": ["numprocesses"]}))["options"]["numprocesses"].as_u64();
        let pids = self.pids(name);
        status == "active"
            && wanted == Some(pids.len() as u64)
            && pids.iter().all(|pid| {
                let below = children(*pid as i32);
                // A shell that runs sleep for us, or sleep itself; whatever else was started has got there too.
                (sleeps(*pid as i32) || !below.is_empty()) && below.iter().all(|c| sleeps(c.pid))
            })
    }

    fn events(&self) -> Vec<(String, Value)> {
        self.daemon
            .driver()
            .events_until(self.events, self.dealer, MARK)
    }
}

/// Has this process got as far as running `sleep`?
fn sleeps(pid: i32) -> bool {
    Process::find(pid).is_some_and(|p| p.comm == "sleep" && p.state != 'Z')
}

/// `CIRC_TEST_TRACE` tells each step as it is played.
fn tracing() -> bool {
    std::env::var_os("CIRC_TEST_TRACE").is_some()
}

/// A reply that is no JSON for us (Python writes NaN and half surrogate pairs), without the time in it.
fn without_time(text: &str) -> String {
    match text.split_once("\"time\": ") {
        Some((before, after)) => format!(
            "{before}\"time\": {}",
            after.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
        ),
        None => text.to_string(),
    }
}
