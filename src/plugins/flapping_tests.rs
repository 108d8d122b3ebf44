use super::*;
use crate::config::plugin_keys::native;
use crate::plugins::parse_settings;
use serde_json::json;

/// A daemon that answers the plugin, and remembers what it was told.
struct Play {
    plugin: Flapping,
    now: f64,
    status: &'static str,
    options: Value,
    orders: Vec<String>,
    refuse_start: bool,
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

impl Play {
    fn new(settings: &str) -> Play {
        let spec = native("circus.plugins.flapping.Flapping").unwrap();
        let settings = parse_settings(settings);
        let settings = Settings::new(spec, &settings).unwrap();
        let around = Surroundings {
            check_delay: 0.0,
            now: 0.0,
        };
        Play {
            plugin: Flapping::new(&settings, around),
            now: 0.0,
            status: "active",
            options: json!({}),
            orders: Vec::new(),
            refuse_start: false,
        }
    }

    fn feed(&mut self, input: Input) {
        let mut todo = self.plugin.step(self.now, input);
        while !todo.is_empty() {
            let Effect::Call(call) = todo.remove(0) else {
                continue;
            };
            let reply = match call.command {
                "options" if call.watcher() == Some("my_app") => {
                    Err(CallError::Refused("program my_app not found".into()))
                }
                "options" => Ok(object(json!({ "options": self.options }))),
                "status" => Ok(object(json!({ "status": self.status }))),
                "list" => Ok(object(json!({"watchers": ["my app", "web"]}))),
                order => {
                    self.orders
                        .push(format!("{order} {}", call.watcher().unwrap_or("?")));
                    assert_eq!(call.properties["by"], "flapping");
                    match order {
                        "start" if self.refuse_start => {
                            Err(CallError::Refused("somebody stopped it".into()))
                        }
                        _ => Ok(Map::new()),
                    }
                }
            };
            let more = self.plugin.step(self.now, Input::Reply(call, reply));
            todo.splice(0..0, more);
        }
    }

    fn event(&mut self, watcher: &str, action: &str, pid: i64) {
        self.feed(Input::Event(Event {
            watcher: watcher.to_owned(),
            action: action.to_owned(),
            payload: json!({"process_pid": pid, "time": 0}),
        }));
    }

    /// A worker of `web` lives this long and is replaced after a pause.
    fn life(&mut self, pid: i64, seconds: f64, pause: f64) {
        self.event("web", "spawn", pid);
        self.now += seconds;
        self.event("web", "reap", pid);
        self.now += pause;
    }

    fn wait(&mut self) {
        self.now = self.plugin.wake().expect("it waits for something");
        self.feed(Input::Tick);
    }

    fn orders(&mut self) -> Vec<String> {
        std::mem::take(&mut self.orders)
    }
}

#[test]
fn a_worker_that_exits_too_often_stops_the_watcher_for_a_while() {
    let mut play = Play::new("attempts:3:::window:1:::retry_in:4:::max_retry:2");
    for round in 0..3 {
        for pid in 0..2 {
            play.life(pid, 0.1, 0.0);
            assert_eq!(play.orders(), [] as [&str; 0]);
        }
        play.life(2, 0.1, 0.0);
        assert_eq!(play.orders(), ["stop web"], "round {round}");
        if round < 2 {
            assert!((play.plugin.wake().unwrap() - play.now - 4.0).abs() < 1e-9);
            play.wait();
            assert_eq!(play.orders(), ["start web"]);
            play.event("web", "start", 0);
        }
    }
    assert_eq!(play.plugin.wake(), None, "it gives up after max_retry");
    // somebody starts it anew: the count begins anew
    for pid in 0..3 {
        play.life(pid, 0.1, 0.0);
    }
    assert_eq!(play.orders(), ["stop web"]);
    assert!(play.plugin.wake().is_some());
}

#[test]
fn two_workers_that_exit_once_are_not_one_that_exits_twice() {
    let mut play = Play::new("attempts:2:::window:5");
    for pid in [1, 2, 3] {
        play.event("web", "spawn", pid);
    }
    for (old, new) in [(1, 11), (2, 12), (3, 13)] {
        play.event("web", "reap", old);
        play.event("web", "spawn", new);
    }
    assert_eq!(play.orders(), [] as [&str; 0]);
    play.event("web", "reap", 12);
    assert_eq!(play.orders(), ["stop web"]);
}

#[test]
fn one_that_waits_long_before_it_is_started_again_keeps_its_account() {
    let mut play = Play::new("attempts:3:::window:1");
    play.event("web", "spawn", 1);
    play.event("web", "spawn", 2);
    for pid in [1, 11] {
        play.now += 0.1;
        play.event("web", "reap", pid);
        play.now += 20.0;
        if pid == 1 {
            play.event("web", "spawn", 11);
        }
    }
    // the other exits meanwhile and is replaced at once
    play.event("web", "reap", 2);
    play.event("web", "spawn", 12);
    play.event("web", "spawn", 21);
    assert_eq!(play.orders(), [] as [&str; 0]);
    play.now += 0.1;
    play.event("web", "reap", 21);
    assert_eq!(play.orders(), ["stop web"], "pauses do not count");
}

#[test]
fn what_was_ordered_does_not_count() {
    let mut play = Play::new("attempts:2:::window:100");
    for pid in 0..20 {
        play.event("web", "spawn", pid);
        play.event("web", "kill", pid);
        play.event("web", "reap", pid);
    }
    assert_eq!(play.orders(), [] as [&str; 0]);
}

#[test]
fn who_lives_long_enough_does_not_flap_and_is_forgiven() {
    let mut play = Play::new("attempts:2:::window:1:::max_retry:1");
    for _ in 0..3 {
        // flaps
        play.life(1, 0.1, 0.0);
        play.life(2, 0.1, 0.0);
        assert_eq!(play.orders(), ["stop web"]);
        play.wait();
        assert_eq!(play.orders(), ["start web"]);
        // and lives, so that the one retry is there again
        play.life(3, 50.0, 0.0);
        play.life(4, 50.0, 0.0);
        play.event("web", "spawn", 5);
        play.event("web", "kill", 5);
    }
}

#[test]
fn a_watcher_that_somebody_stopped_is_left_alone() {
    let mut play = Play::new("attempts:1:::window:1");
    play.status = "stopped";
    play.life(1, 0.1, 0.0);
    assert_eq!((play.orders(), play.plugin.wake()), (vec![], None));

    let mut play = Play::new("attempts:1:::window:1");
    play.life(1, 0.1, 0.0);
    assert_eq!(play.orders(), ["stop web"]);
    play.refuse_start = true;
    play.wait();
    assert_eq!(play.orders(), ["start web"]);
    assert_eq!(play.plugin.wake(), None);
}

#[test]
fn a_watcher_that_somebody_starts_is_not_started_again() {
    let mut play = Play::new("attempts:1:::window:1");
    play.life(1, 0.1, 0.0);
    assert_eq!(play.orders(), ["stop web"]);
    play.event("web", "start", 0);
    assert_eq!(play.plugin.wake(), None);
}

#[test]
fn a_watcher_has_rules_of_its_own() {
    let mut play = Play::new("attempts:2");
    play.options = json!({"flapping.attempts": "4", "flapping.window": 9, "flapping.retry_in": "x", "cmd": "z"});
    for pid in 0..3 {
        play.life(pid, 1.0, 0.0);
    }
    assert_eq!(play.orders(), [] as [&str; 0]);
    play.options = json!({"flapping.active": false});
    play.event("web", "updated", 0);
    for pid in 3..9 {
        play.life(pid, 0.1, 0.0);
    }
    assert_eq!(play.orders(), [] as [&str; 0]);
    play.options = json!({});
    play.event("web", "updated", 0);
    play.life(9, 0.1, 0.0);
    assert_eq!(play.orders(), ["stop web"]);
}

#[test]
fn names_with_spaces_are_found() {
    let mut play = Play::new("attempts:1");
    play.event("my_app", "reap", 1);
    assert_eq!(play.orders(), ["stop my app"]);
    play.wait();
    assert_eq!(play.orders(), ["start my app"]);
}

#[test]
fn a_lost_connection_forgets_exits_and_keeps_promises() {
    let mut play = Play::new("attempts:2:::window:1");
    play.life(1, 0.1, 0.0);
    play.feed(Input::Connected);
    play.life(2, 0.1, 0.0);
    assert_eq!(play.orders(), [] as [&str; 0]);
    play.life(3, 0.1, 0.0);
    assert_eq!(play.orders(), ["stop web"]);
    play.feed(Input::Connected);
    play.wait();
    assert_eq!(play.orders(), ["start web"]);
}

/// Random lives of several workers: the plugin never starts what it did not stop, never stops twice in a row, and every
/// stop is followed by a start as long as there are retries.
#[test]
fn any_course_of_events_keeps_the_promises() {
    for seed in 1..400u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut play = Play::new("attempts:2:::window:1:::retry_in:3:::max_retry:-1");
        let mut stopped = false;
        for _ in 0..200 {
            play.now += random(20) as f64 / 10.0;
            let pid = random(5) as i64;
            match random(8) {
                0..=2 => play.event("web", "spawn", pid),
                3..=4 => play.event("web", "reap", pid),
                5 => play.event("web", "kill", pid),
                6 if play.plugin.wake().is_some_and(|at| at <= play.now) => {
                    play.feed(Input::Tick);
                }
                _ => play.feed(Input::Connected),
            }
            for order in play.orders() {
                let stop = order == "stop web";
                assert_ne!(stop, stopped, "seed {seed}: {order}");
                stopped = stop;
            }
            assert_eq!(stopped, play.plugin.wake().is_some(), "seed {seed}");
        }
    }
}
