//! Everything at once, for a while: killed workers, restarts, reloads, changed files, changed numbers, chatty output,
//! clients that misbehave and subscribers that do not read. Every command is answered, and afterwards the daemon is as
//! it was: no descriptor, thread, zombie, worker or memory more.
//!
//! `CIRC_SOAK_SECONDS` says how long (25 without it), `CIRC_SOAK_SEED` repeats one run's choices.

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use circ::wire::{Client, Endpoint};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{Daemon, Driver, Process, Program, TempSite, deadline};

/// The watchers that are there before and after, with their numbers of workers.
const WATCHERS: &[(&str, usize)] = &[
    ("web", 3),
    ("chatty", 2),
    ("stubborn", 1),
    ("family", 1),
    ("alone", 1),
];

/// KiB that the busiest moment may have taken and the allocator keeps, in the heaps of all threads. What is lost a little
/// at a time passes this in a run of an hour.
const BUSY: u64 = 6 * 1024;

/// How many seconds of a long run are played until everything is counted.
const LOOK_EVERY: u64 = 60;

/// `@STEP@` is a number that changes from one file to the next.
const INI: &str = r#"statsd = True

[watcher:web]
cmd = sleep 1000
args = $(circus.sockets.http)000
numprocesses = 3
use_sockets = True
graceful_timeout = 5

[watcher:chatty]
cmd = sh
args = -c 'i=0; while :; do i=$((i+1)); echo "line $i of a worker that has much to say, again and again and again"; [ $((i % 200)) -ne 0 ] || sleep 0.05; done'
numprocesses = 2
stdout_stream.class = FileStream
stdout_stream.filename = @SITE@/chatty.log
stdout_stream.max_bytes = 100000
stdout_stream.backup_count = 2
graceful_timeout = 5

[watcher:stubborn]
cmd = sh
args = -c 'trap "" TERM; while :; do sleep 0.1; done'
graceful_timeout = 0.2

[watcher:family]
cmd = sh
args = -c 'sleep 1000 & sleep 1000 & wait'
stop_children = True
graceful_timeout = 5

[watcher:alone]
cmd = sleep 1000
singleton = True

[socket:http]
host = 127.0.0.1
port = @PORT@
"#;

/// What some of the files have more.
const MORE: &str = r#"
[watcher:sometimes]
cmd = sleep 1000
numprocesses = 2

[watcher:crash]
cmd = sh
args = -c 'sleep 0.05; echo crash >&2; exit 3'
max_retry = -1

[socket:more]
path = @SITE@/more.sock

[env:web,alone]
STEP = @STEP@
"#;

/// A small generator: the choices of a run follow from its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Where the daemon and its file are.
struct Place {
    dir: PathBuf,
    control: Endpoint,
    pubsub: String,
    stats: String,
    /// The head of its file, with the endpoints.
    head: String,
}

impl Place {
    fn of(site: &TempSite) -> Self {
        Self {
            dir: site.dir().to_path_buf(),
            control: site.endpoint.parse().unwrap(),
            pubsub: site.pubsub.clone(),
            stats: site.stats.clone(),
            head: site.circus_section() + &format!("stats_endpoint = {}\n", site.stats),
        }
    }

    fn write(&self, text: &str, step: u32) {
        let text = text
            .replace("@SITE@", self.dir.to_str().unwrap())
            .replace("@STEP@", &step.to_string())
            .replace("@PORT@", "0");
        // In one step, as an editor does it: the daemon reads the old one or the new one.
        let next = self.dir.join("next.ini");
        fs::write(&next, format!("{}{text}", self.head)).unwrap();
        fs::rename(next, self.dir.join("circus.ini")).unwrap();
    }
}

/// What a run did.
#[derive(Default)]
struct Tally {
    commands: AtomicU64,
    refused: AtomicU64,
    kills: AtomicU64,
    files: AtomicU64,
    slowest_ms: AtomicU64,
    /// Every worker that was ever seen, told apart from a later one with its pid.
    workers: Mutex<HashMap<i32, Process>>,
}

/// One client of the daemon that does as the dice say.
struct Player<'a> {
    dice: Dice,
    client: Client,
    place: &'a Place,
    tally: &'a Tally,
    /// One at a time writes the file.
    file: &'a Mutex<u32>,
}

impl Player<'_> {
    /// Sends a command. It must be answered; an error is an answer, a collision is none.
    #[track_caller]
    fn call(&mut self, command: &str, properties: Value) -> Value {
        let sent = Instant::now();
        let message = json!({"command": command, "properties": properties});
        let reply = match self.client.call_within(message, deadline()) {
            Ok(reply) => reply,
            Err(error) => panic!("{command} {properties}: {error}"),
        };
        let took = sent.elapsed().as_millis() as u64;
        if properties["waiting"] != true {
            self.tally.slowest_ms.fetch_max(took, Ordering::Relaxed);
        }
        self.tally.commands.fetch_add(1, Ordering::Relaxed);
        if reply["status"] == "error" {
            self.tally.refused.fetch_add(1, Ordering::Relaxed);
            let reason = reply["reason"].as_str().unwrap_or("");
            assert!(!reason.contains("already running"), "{command}: {reply}");
        }
        reply
    }

    fn pids(&mut self, name: &str) -> Vec<i32> {
        let reply = self.call("list", json!({"name": name}));
        let pids = reply["pids"].as_array().into_iter().flatten();
        let pids: Vec<i32> = pids
            .filter_map(Value::as_i64)
            .map(|pid| pid as i32)
            .collect();
        let mut workers = self.tally.workers.lock().unwrap();
        for process in pids.iter().filter_map(|pid| Process::find(*pid)) {
            workers.insert(process.pid, process);
        }
        pids
    }

    fn kill(&mut self, name: &str, all: bool) {
        let mut pids = self.pids(name);
        if !all && !pids.is_empty() {
            pids = vec![*self.dice.pick(&pids)];
        }
        let workers = self.tally.workers.lock().unwrap();
        for process in pids.iter().filter_map(|pid| workers.get(pid)) {
            // The very process that was listed, not a later one with its pid.
            if process.is_running() && process.comm != "circ" {
                let signals = [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGSEGV];
                let _ = kill(Pid::from_raw(process.pid), *self.dice.pick(&signals));
                self.tally.kills.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn change_the_file(&mut self) {
        let mut step = self.file.lock().unwrap();
        *step += 1;
        let step = *step;
        let more = if self.dice.roll(3) == 0 { "" } else { MORE };
        let numbers: [&str; 3] = ["numprocesses = 3", "numprocesses = 2", "numprocesses = 5"];
        let text = format!("{INI}{more}").replacen(
            "numprocesses = 3",
            self.dice.pick::<&str>(&numbers),
            1,
        );
        self.place.write(&text, step);
        self.tally.files.fetch_add(1, Ordering::Relaxed);
        let waiting = self.dice.roll(2) == 0;
        self.call("reloadconfig", json!({"waiting": waiting}));
    }

    fn turn(&mut self) {
        let names: Vec<&str> = WATCHERS.iter().map(|(name, _)| *name).collect();
        let name = *self.dice.pick(&names);
        let waiting = self.dice.roll(3) == 0;
        let temporary = format!("temporary{}", self.dice.roll(3));
        match self.dice.roll(20) {
            0..=3 => self.kill(name, false),
            4 => self.kill(name, true),
            5 => {
                let count = self.dice.roll(6);
                self.call(
                    "set",
                    json!({"name": name, "options": {"numprocesses": count}, "waiting": waiting}),
                );
            }
            6 => drop(self.call("incr", json!({"name": name, "nb": 2, "waiting": waiting}))),
            7 => drop(self.call("decr", json!({"name": name, "waiting": waiting}))),
            8 => drop(self.call("restart", json!({"name": name, "waiting": waiting}))),
            9 => drop(self.call("reload", json!({"name": name, "waiting": waiting}))),
            10 => {
                let sequential = json!({"name": name, "sequential": true});
                self.call("reload", sequential);
            }
            11 => drop(self.call("stop", json!({"name": name, "waiting": waiting}))),
            12 => drop(self.call("start", json!({"name": name, "waiting": waiting}))),
            13 => self.change_the_file(),
            14 => {
                let properties = json!({"name": temporary, "cmd": "sleep 1000", "start": true,
                    "options": {"numprocesses": 2}, "waiting": waiting});
                self.call("add", properties);
            }
            15 => {
                self.pids(&temporary);
                self.call("rm", json!({"name": temporary, "waiting": waiting}));
            }
            16 => {
                let every = *self.dice.pick(&["stats", "dstats", "status", "options"]);
                self.call(every, json!({"name": name}));
            }
            17 => drop(self.call("signal", json!({"name": name, "signum": "CONT"}))),
            18 => {
                let env = json!({"TURN": self.dice.roll(100).to_string()});
                let options = json!({"env": env});
                self.call(
                    "set",
                    json!({"name": name, "options": options, "waiting": waiting}),
                );
            }
            _ => drop(self.call("restart", json!({"name": "*", "waiting": waiting}))),
        }
    }
}

/// Brings everything back to what [`INI`] says and waits until it is so.
#[track_caller]
fn settle(daemon: &Daemon, player: &mut Player) -> BTreeMap<String, Vec<i32>> {
    player.place.write(INI, 0);
    let reply = player.call("reloadconfig", json!({"waiting": true}));
    assert_eq!(reply["status"], "ok", "{reply}");
    let listed = player.call("list", json!({}));
    let listed: Vec<String> = serde_json::from_value(listed["watchers"].clone()).unwrap();
    for name in listed {
        if !WATCHERS.iter().any(|(known, _)| *known == name) {
            player.call("rm", json!({"name": name, "waiting": true}));
        }
    }
    for (name, count) in WATCHERS {
        let options = json!({"numprocesses": count, "env": {}});
        let reply = player.call(
            "set",
            json!({"name": name, "options": options, "waiting": true}),
        );
        assert_eq!(reply["status"], "ok", "{reply}");
        // After that: a start of no workers is none.
        player.call("start", json!({"name": name, "waiting": true}));
    }
    let mut settled = BTreeMap::new();
    for (name, count) in WATCHERS {
        let pids = support::wait_for_within(deadline(), || {
            let pids = player.pids(name);
            let all = pids.len() == *count && pids.iter().all(|pid| support::is_alive(*pid));
            all.then_some(pids)
        });
        let Some(pids) = pids else {
            panic!(
                "not {count} workers of {name}: {} {} {}\n{}",
                player.call("list", json!({"name": name})),
                player.call("status", json!({})),
                player.call("options", json!({"name": name})),
                daemon.tail()
            );
        };
        settled.insert((*name).to_string(), pids);
    }
    // A worker of `family` that was killed left its children behind, and they hold what they inherited.
    support::kill_tree(Vec::new(), &player.place.dir, &[daemon.pid()]);
    settled
}

/// What the daemon holds.
#[derive(Debug, Clone, PartialEq)]
struct Holdings {
    /// Without the pipes of workers that live: how many of them are listened to depends on how the last ones ended.
    descriptors: usize,
    threads: usize,
    /// KiB that are its own and written to.
    memory: u64,
}

/// What the descriptors of a process are.
fn links(pid: i32) -> Vec<PathBuf> {
    let all = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    all.flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect()
}

fn holdings(pid: i32) -> Holdings {
    let workers: HashSet<PathBuf> = children(pid).into_iter().flat_map(links).collect();
    let of_a_worker =
        |link: &PathBuf| link.to_string_lossy().starts_with("pipe:") && workers.contains(link);
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let anonymous = rollup.lines().find(|line| line.starts_with("Anonymous:"));
    Holdings {
        descriptors: links(pid).iter().filter(|link| !of_a_worker(link)).count(),
        threads: count("task"),
        memory: anonymous
            .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap(),
    }
}

/// Its children, zombies too.
fn children(pid: i32) -> HashSet<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            let pids: Vec<i32> = text
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect();
            pids
        })
        .collect()
}

#[test]
fn a_rough_life_leaves_nothing_behind() {
    let seconds = setting("CIRC_SOAK_SECONDS").unwrap_or(25);
    let seed =
        setting("CIRC_SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 7919 + 1);
    eprintln!("CIRC_SOAK_SEED={seed} CIRC_SOAK_SECONDS={seconds}");
    let site = TempSite::ipc();
    let place = Place::of(&site);
    place.write(INI, 0);
    let daemon = site.start(Program::Circ);
    let tally = Tally::default();
    let file = Mutex::new(0);
    let player = |number: u64| Player {
        dice: Dice(seed.wrapping_mul(number * 2 + 1) | 1),
        client: Client::connect(&place.control, deadline()).unwrap(),
        place: &place,
        tally: &tally,
        file: &file,
    };
    let mut judge = player(0);

    // Each thing happens once before the counting: what is kept for the whole life is there then.
    let over = AtomicBool::new(false);
    let play = |seconds: u64, players: u64| {
        over.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            for number in 1..=players {
                let (over, mut player) = (&over, player(number));
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        player.turn();
                    }
                });
            }
            scope.spawn(|| annoy(&place, &over, Dice(seed | 1)));
            let end = Instant::now() + Duration::from_secs(seconds);
            while Instant::now() < end && daemon.exited().is_none() {
                std::thread::sleep(Duration::from_millis(50));
            }
            over.store(true, Ordering::Relaxed);
        });
    };
    play((seconds / 5).max(3), 3);
    settle(&daemon, &mut judge);
    let before = holdings(daemon.pid());
    // A long run stops to look now and then.
    let mut left = seconds;
    while left > LOOK_EVERY {
        left -= LOOK_EVERY;
        play(LOOK_EVERY, 3);
        settle(&daemon, &mut judge);
        eprintln!(
            "{:?} after {} commands",
            holdings(daemon.pid()),
            tally.commands.load(Ordering::Relaxed)
        );
    }
    play(left, 3);
    assert!(daemon.exited().is_none(), "{}", daemon.tail());
    let workers = settle(&daemon, &mut judge);

    let wanted: HashSet<i32> = workers.values().flatten().copied().collect();
    let alone = support::wait_for_within(deadline(), || {
        (children(daemon.pid()) == wanted).then_some(())
    });
    assert!(
        alone.is_some(),
        "the workers are {wanted:?}, its children {:?}\n{}",
        children(daemon.pid())
            .into_iter()
            .map(|pid| (Process::find(pid), Process::find(pid).map(|p| p.cmdline())))
            .collect::<Vec<_>>(),
        daemon.tail()
    );
    for process in tally.workers.lock().unwrap().values() {
        assert!(
            wanted.contains(&process.pid) || !process.is_running(),
            "a worker that nobody lists is still there: {process:?} {:?}",
            process.cmdline()
        );
    }
    // Those who were rude are gone, and so is what was kept for them.
    let within = |now: &Holdings| {
        now.descriptors <= before.descriptors
            && now.threads <= before.threads
            && now.memory <= before.memory + BUSY
    };
    let after =
        support::wait_for_within(deadline(), || Some(holdings(daemon.pid())).filter(within));
    let after = after.unwrap_or_else(|| {
        panic!(
            "more than before: {before:?} {:?} {:?}\n{}",
            holdings(daemon.pid()),
            links(daemon.pid()),
            daemon.tail()
        )
    });
    eprintln!(
        "{} commands ({} refused), {} kills, {} changed files; slowest answer {} ms; {before:?} -> {after:?}",
        tally.commands.load(Ordering::Relaxed),
        tally.refused.load(Ordering::Relaxed),
        tally.kills.load(Ordering::Relaxed),
        tally.files.load(Ordering::Relaxed),
        tally.slowest_ms.load(Ordering::Relaxed),
    );
    assert!(tally.commands.load(Ordering::Relaxed) > seconds * 5);
    assert!(daemon.stop().success());
}

/// Clients that vanish, that send what is no message, that ask and never read, and subscribers that never read.
fn annoy(place: &Place, over: &AtomicBool, mut dice: Dice) {
    let driver = Driver::start();
    let endpoint = place.control.to_string();
    let lazy = |endpoint: &str| {
        driver.ask(
            &json!({"op": "open", "kind": "sub", "endpoint": endpoint, "topics": [""],
            "options": {"RCVHWM": 1, "RCVBUF": 4096}}),
        );
    };
    lazy(&place.pubsub);
    lazy(&place.stats);
    while !over.load(Ordering::Relaxed) {
        let dealer = driver.dealer(&endpoint);
        match dice.roll(4) {
            0 => driver.send(dealer, &[b"{\"command\": "]),
            1 => driver.send(dealer, &[b"", b"\xff\xfe", b"[]"]),
            2 => {
                let lazy = driver.lazy_dealer(&endpoint);
                driver.flood(lazy, "options", json!({"name": "web"}), 50);
                driver.close(lazy);
            }
            _ => driver.send(dealer, &[b"{\"command\": \"stats\", \"id\": \"x\"}"]),
        }
        driver.close(dealer);
        std::thread::sleep(Duration::from_millis(20));
    }
}
