//! `circ agent` as a person runs it: the real program, on circ's daemon and on the real circusd.

mod support;

#[path = "agent/agent.rs"]
mod agent;
#[path = "agent/directing.rs"]
mod directing;
#[path = "agent/inside.rs"]
mod inside;

use std::fs;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use agent::{Agent, at_rest, direct, run};
use support::{Daemon, Program, TempSite};

/// Each test against each daemon.
macro_rules! for_each_daemon {
    ($($name:ident),* $(,)?) => {
        mod on_circusd {
            $(#[test] fn $name() { super::$name(super::Program::Circusd); })*
        }
        mod on_circ {
            $(#[test] fn $name() { super::$name(super::Program::Circ); })*
        }
    };
}

for_each_daemon!(
    a_decr_is_undone,
    a_changed_desired_state_is_applied,
    audit_reports_and_changes_nothing,
    a_daemon_that_was_away_is_caught_up_with,
    whatever_hands_do_is_undone,
    a_restart_of_everything_goes_on,
    it_does_not_stop_the_watcher_it_runs_in,
);

const BODY: &str = "\
check_delay = 0.5
[watcher:web]
cmd = sleep 1000
numprocesses = 2
[watcher:other]
cmd = sleep 2000
";

const STATE: &str = "\
[watcher.web]
cmd = \"sleep 1000\"
numprocesses = 2
[watcher.other]
cmd = \"sleep 2000\"
";

fn site() -> TempSite {
    let site = TempSite::new();
    site.ini(BODY);
    site.write("state.toml", STATE);
    site
}

fn started(program: Program, test: impl FnOnce(&TempSite, &Daemon)) {
    let site = site();
    let daemon = site.start(program);
    daemon.wait_pids("web", 2);
    daemon.wait_pids("other", 1);
    test(&site, &daemon);
}

/// Written beside its place and moved there, as careful tools do it.
fn replace(site: &TempSite, name: &str, text: &str) {
    let beside = site.write(&format!(".{name}.new"), text);
    fs::rename(beside, site.path(name)).expect("the file is replaced");
}

fn decr(daemon: &Daemon, watcher: &str) {
    daemon.ok("decr", json!({"name": watcher, "waiting": true}));
}

fn a_decr_is_undone(program: Program) {
    started(program, |site, daemon| {
        let agent = Agent::start(site, &[]);
        let first = agent.first();
        assert_eq!(
            (&first["trigger"], &first["changed"], &first["failed"]),
            (&json!("start"), &json!(false), &json!(false))
        );
        assert_eq!(first["schema"], "circ.agent/1");
        assert_eq!(first["report"]["schema"], "circ.state/1");
        at_rest(site, &agent);
        let seen = agent.lines().len();
        let before = daemon.pids("web");
        let since = Instant::now();
        decr(daemon, "web");
        daemon.wait_for("another worker", || {
            let pids = daemon.wait_pids("web", 2);
            pids.iter().any(|pid| !before.contains(pid)).then_some(())
        });
        println!(
            "a decr on {program:?} was undone after {:?}",
            since.elapsed()
        );
        let (_, line) = agent.line_after(seen, "the repair", |line| line["changed"] == true);
        assert_eq!(line["trigger"], "event");
        assert_eq!(line["mode"], "enforce");
        let cause = line["cause"].as_str().unwrap_or_default();
        assert!(cause.starts_with("watcher.web."), "{line}");
        // The repair is looked at once more, and that is all.
        let status = at_rest(site, &agent);
        let after = agent.lines().split_off(seen);
        let repairs = after.iter().filter(|line| line["changed"] == true).count();
        let looks = after.len() - repairs;
        assert_eq!(repairs, 1, "{after:?}");
        // circusd tells of a decr's end only afterwards.
        assert!(looks <= 2, "{after:?}");
        assert_eq!(status["drift"], 1);
        assert_eq!(status["daemon"], "connected");
        assert!(agent.stop().success());
    });
}

fn a_changed_desired_state_is_applied(program: Program) {
    started(program, |site, daemon| {
        let agent = Agent::start(site, &[]);
        at_rest(site, &agent);
        let seen = agent.lines().len();
        replace(site, "state.toml", &STATE.replace("= 2\n", "= 3\n"));
        daemon.wait_pids("web", 3);
        let (_, line) = agent.line_after(seen, "the change", |line| line["changed"] == true);
        assert_eq!(line["trigger"], "file");
        let ini = fs::read_to_string(site.path("circus.ini")).unwrap();
        assert!(ini.contains("numprocesses = 3"), "{ini}");
        // What cannot be read is told, and the last good state stays in force.
        at_rest(site, &agent);
        let seen = agent.lines().len();
        replace(site, "state.toml", "[watcher.web]\nnumprocesses = ");
        let (seen, line) = agent.line_after(seen, "the complaint", |line| line["failed"] == true);
        let told = line["desired_error"].as_str().unwrap_or_default();
        assert!(told.contains("state.toml:2"), "{line}");
        assert_eq!(line["report"]["failed"], false);
        decr(daemon, "web");
        daemon.wait_pids("web", 3);
        agent.line_after(seen, "a repair", |line| line["changed"] == true);
        // Likewise one that is refused as a whole.
        at_rest(site, &agent);
        let seen = agent.lines().len();
        let three = STATE.replace("= 2\n", "= 3\n");
        let incomplete = format!("{three}[watcher.incomplete]\nnumprocesses = 1\n");
        replace(site, "state.toml", &incomplete);
        let (seen, line) = agent.line_after(seen, "the complaint", |line| line["failed"] == true);
        let told = line["msg"].as_str().unwrap_or_default();
        assert!(told.contains("incomplete"), "{line}");
        decr(daemon, "web");
        daemon.wait_pids("web", 3);
        agent.line_after(seen, "a repair", |line| line["changed"] == true);
        // A file that is written bit by bit is not taken before it is whole.
        let seen = agent.lines().len();
        let mut text = String::new();
        for part in STATE.replace("= 2\n", "= 1\n").split_inclusive(['=', '"']) {
            text.push_str(part);
            site.write("state.toml", &text);
        }
        daemon.wait_pids("web", 1);
        let (_, line) = agent.line_after(seen, "the change", |line| line["changed"] == true);
        assert_eq!(
            (&line["trigger"], &line["failed"]),
            (&json!("file"), &json!(false))
        );
        assert_eq!(line.get("desired_error"), None, "{line}");
    });
}

fn audit_reports_and_changes_nothing(program: Program) {
    started(program, |site, daemon| {
        let before = fs::read_to_string(site.path("circus.ini")).unwrap();
        site.write("state.toml", STATE.replace("= 2\n", "= 4\n"));
        let agent = Agent::start(site, &["--mode", "audit"]);
        let first = agent.first();
        assert_eq!(
            (&first["mode"], &first["changed"], &first["report"]["check"]),
            (&json!("audit"), &json!(true), &json!(true))
        );
        at_rest(site, &agent);
        let seen = agent.lines().len();
        decr(daemon, "web");
        agent.line_after(seen, "the drift", |line| line["changed"] == true);
        at_rest(site, &agent);
        assert_eq!(daemon.pids("web").len(), 1);
        let after = fs::read_to_string(site.path("circus.ini")).unwrap();
        assert_eq!(before, after);
    });
}

fn a_daemon_that_was_away_is_caught_up_with(program: Program) {
    let site = site();
    let agent = Agent::start(&site, &[]);
    let first = agent.first();
    assert_eq!(first["failed"], true);
    let told = first["msg"].as_str().unwrap_or_default();
    assert!(told.contains("nobody listens"), "{first}");
    site.ini(&BODY.replace("= 2\n", "= 1\n"));
    let daemon = site.start(program);
    daemon.wait_pids("web", 2);
    agent.line_after(1, "a run without failure", |line| line["failed"] == false);
    at_rest(&site, &agent);
    // Not dropped: that would end everything in this directory, the agent too.
    daemon.signal(Signal::SIGTERM);
    daemon.wait_exit();
    agent.wait_for("an agent that misses its daemon", || {
        let status = direct(&site, &["status"]);
        (status["daemon"] != "connected").then_some(())
    });
    let seen = agent.lines().len();
    site.ini(&BODY.replace("= 2\n", "= 1\n"));
    let second = site.start(program);
    second.wait_pids("web", 2);
    agent.line_after(seen, "a run without failure", |line| {
        line["failed"] == false
    });
    at_rest(&site, &agent);
    let status = direct(&site, &["status"]);
    assert_eq!(status["failures"], 0);
}

fn it_does_not_stop_the_watcher_it_runs_in(program: Program) {
    let site = site();
    let binary = env!("CARGO_BIN_EXE_circ");
    site.ini(&format!(
        "{BODY}[watcher:agent]\ncmd = {binary} agent --desired {} --config {} --prune --interval 1h --settle 0.2\n\
         working_dir = {}\n[watcher:stray]\ncmd = sleep 3000\n",
        site.path("state.toml").display(),
        site.path("circus.ini").display(),
        site.dir().display(),
    ));
    let daemon = site.start(program);
    let own = daemon.wait_for("the agent at work", || {
        let status = run(
            &site,
            &["agent", "status", "--config", "circus.ini", "--json"],
        );
        let status: Value = serde_json::from_str(&status.1).ok()?;
        (status["last"]["failed"] == false).then(|| status["pid"].as_i64())
    });
    daemon.wait_for("the stray watcher's end", || {
        let listed = daemon.ok("list", json!({}));
        (!listed["watchers"].to_string().contains("stray")).then_some(())
    });
    assert_eq!(
        daemon
            .pids("agent")
            .iter()
            .map(|pid| i64::from(*pid))
            .collect::<Vec<_>>(),
        own.into_iter().collect::<Vec<_>>(),
        "the agent still runs"
    );
    let ini = fs::read_to_string(site.path("circus.ini")).unwrap();
    assert!(
        ini.contains("[watcher:agent]") && !ini.contains("stray"),
        "{ini}"
    );
    decr(&daemon, "web");
    daemon.wait_pids("web", 2);
    // The daemon can be ended with the agent in it; circusd loses a SIGTERM that comes while it carries out a command.
    if program == Program::Circ {
        assert!(daemon.stop().success());
    }
}

fn whatever_hands_do_is_undone(program: Program) {
    started(program, |site, daemon| {
        // circusd refuses some of many hands' commands: what is not named would stay as they leave it
        let all_named = STATE.replace("2000\"", "2000\"\nnumprocesses = 1");
        site.write("state.toml", &all_named);
        let agent = Agent::start(site, &["--prune"]);
        at_rest(site, &agent);
        let set = |options: Value| {
            (
                "set",
                json!({"name": "web", "options": options, "waiting": true}),
            )
        };
        for (command, properties) in [
            ("decr", json!({"name": "web", "waiting": true})),
            ("incr", json!({"name": "web", "nb": 3, "waiting": true})),
            ("stop", json!({"name": "web", "waiting": true})),
            ("rm", json!({"name": "web", "waiting": true})),
            set(json!({"cmd": "sleep 1001"})),
            set(json!({"numprocesses": 5})),
            (
                "add",
                json!({"name": "stray", "cmd": "sleep 3000", "start": true, "waiting": true}),
            ),
        ] {
            // That what was done before is not taken for a fight.
            direct(site, &["run-now"]);
            let seen = agent.lines().len();
            daemon.ok(command, properties);
            let (_, line) = agent.line_after(seen, command, |line| {
                line["changed"] == true && line["failed"] == false
            });
            assert_eq!(line["trigger"], "event", "{command}: {line}");
            at_rest(site, &agent);
            assert_eq!(daemon.wait_pids("web", 2).len(), 2);
            let options = daemon.ok("options", json!({"name": "web"}));
            assert_eq!(options["options"]["cmd"], "sleep 1000", "{command}");
            let listed = daemon.ok("list", json!({}));
            assert_eq!(
                listed["watchers"].as_array().map(Vec::len),
                Some(2),
                "{listed}"
            );
        }
        // Several hands at once, at any time: in the end it is as desired.
        for round in 0..30 {
            let command = ["decr", "incr", "stop", "start", "restart"][round % 5];
            let name = ["web", "other"][round % 2];
            daemon.call(command, json!({ "name": name }));
        }
        direct(site, &["resume"]);
        agent.wait_for("peace", || {
            direct(site, &["run-now"]);
            let good = daemon.pids("web").len() == 2 && daemon.pids("other").len() == 1;
            let last = agent.lines().pop()?;
            (good && last["failed"] == false && last["changed"] == false).then_some(())
        });
    });
}

fn a_restart_of_everything_goes_on(program: Program) {
    started(program, |site, daemon| {
        let agent = Agent::start(site, &[]);
        at_rest(site, &agent);
        let before = daemon.pids("web");
        // Without `waiting`, because circusd then answers nobody.
        daemon.call("restart", json!({"name": "*", "match": "glob"}));
        daemon.wait_for("new workers", || {
            let pids = daemon.wait_pids("web", 2);
            (!pids.iter().any(|pid| before.contains(pid))).then_some(())
        });
        let status = at_rest(site, &agent);
        assert_eq!(status["last"]["failed"], false, "{status}");
        daemon.wait_pids("web", 2);
        daemon.wait_pids("other", 1);
    });
}

#[test]
fn a_daemon_that_does_not_answer_does_not_stop_the_agent() {
    started(Program::Circ, |site, daemon| {
        let agent = Agent::start(site, &["--timeout", "2s"]);
        at_rest(site, &agent);
        let seen = agent.lines().len();
        daemon.signal(Signal::SIGSTOP);
        agent.signal(Signal::SIGHUP);
        let (seen, line) = agent.line_after(seen, "a failure", |line| line["failed"] == true);
        let told = line["msg"].as_str().unwrap_or_default();
        assert!(
            told.contains("did not answer") || told.contains("said nothing"),
            "{told}"
        );
        let (code, ..) = run(site, &["agent", "status", "--config", "circus.ini"]);
        assert_eq!(code, 0);
        daemon.signal(Signal::SIGCONT);
        agent.line_after(seen, "a run without failure", |line| {
            line["failed"] == false
        });
    });
}

#[test]
fn a_maintenance_window_holds_it_back() {
    started(Program::Circ, |site, daemon| {
        let agent = Agent::start(site, &["--window", "window"]);
        at_rest(site, &agent);
        site.write("window", "");
        agent.wait_for("the window", || {
            (direct(site, &["status"])["window_hold"] == "audit").then_some(())
        });
        let seen = agent.lines().len();
        decr(daemon, "web");
        let (_, line) = agent.line_after(seen, "the drift", |line| line["changed"] == true);
        assert_eq!(
            (&line["mode"], &line["window"]),
            (&json!("audit"), &json!(true))
        );
        at_rest(site, &agent);
        assert_eq!(daemon.pids("web").len(), 1);
        replace(site, "window", "always off # the builders are in\n");
        agent.wait_for("the other window", || {
            (direct(site, &["status"])["window_hold"] == "off").then_some(())
        });
        let (code, _, told) = run(site, &["agent", "run-now", "--config", "circus.ini"]);
        assert_eq!(code, 3);
        assert!(told.contains("maintenance window"), "{told}");
        // What makes no sense holds back as well, and is told.
        replace(site, "window", "sometimes\n");
        let status = agent.wait_for("the complaint", || {
            let status = direct(site, &["status"]);
            (!status["window"]["error"].is_null()).then_some(status)
        });
        assert_eq!(status["window_hold"], "audit");
        assert_eq!(daemon.pids("web").len(), 1);
        let seen = agent.lines().len();
        fs::remove_file(site.path("window")).unwrap();
        daemon.wait_pids("web", 2);
        let (_, line) = agent.line_after(seen, "the repair", |line| {
            line["changed"] == true && line["mode"] == "enforce"
        });
        assert_eq!(line["trigger"], "window");
    });
}

#[test]
fn failures_are_repeated_at_growing_distances_and_hold_up_nobody_else() {
    started(Program::Circ, |site, daemon| {
        let broken =
            format!("{STATE}[watcher.broken]\ncmd = \"sh -c 'echo no luck >&2; exit 3'\"\n");
        site.write("state.toml", &broken);
        let agent = Agent::start(site, &["--timeout", "20"]);
        let (_, _) = agent.line_after(0, "a third failure", |line| {
            line["failed"] == true && line["run"].as_u64() >= Some(4)
        });
        let failed: Vec<Value> = agent.lines();
        let at =
            |line: &Value| -> jiff::Timestamp { line["time"].as_str().unwrap().parse().unwrap() };
        let pauses: Vec<f64> = failed
            .windows(2)
            .filter(|pair| pair[1]["trigger"] == "retry")
            .map(|pair| {
                let began = at(&pair[1]).duration_since(at(&pair[0])).as_secs_f64();
                began - pair[0]["duration"].as_f64().unwrap()
            })
            .collect();
        assert!(pauses.len() >= 2, "{pauses:?}");
        for (step, pause) in pauses.iter().enumerate() {
            let least = 0.75 * f64::from(1 << step) - 0.01;
            assert!(*pause >= least, "{step}: {pauses:?}");
        }
        let status = direct(site, &["status"]);
        assert!(status["failures"].as_u64() >= Some(3), "{status}");
        decr(daemon, "web");
        daemon.wait_pids("web", 2);
        // Mended, it is at peace again.
        replace(
            site,
            "state.toml",
            &broken.replace("sh -c 'echo no luck >&2; exit 3'", "sleep 4000"),
        );
        daemon.wait_pids("broken", 1);
        let status = at_rest(site, &agent);
        assert_eq!(status["failures"], 0);
    });
}

#[test]
fn a_fight_is_seen_and_left() {
    started(Program::Circ, |site, daemon| {
        let agent = Agent::start(site, &[]);
        at_rest(site, &agent);
        let mut seen = agent.lines().len();
        let mut line = Value::Null;
        // The other side: whatever was repaired is undone.
        for _ in 0..5 {
            decr(daemon, "web");
            let repaired = agent.line_after(seen, "a repair", |line| line["changed"] == true);
            (seen, line) = (repaired.0 + 1, repaired.1);
        }
        assert_eq!(line["fights"][0]["name"], "web");
        assert_eq!(line["fights"][0]["repairs"], 5);
        let status = direct(site, &["status"]);
        assert_eq!(status["fights"], 1);
        assert_eq!(status["left_alone"][0]["name"], "web");
        assert!(agent.log().contains("somebody fights over web"));
        // Left alone; the others are not.
        decr(daemon, "web");
        daemon.ok("stop", json!({"name": "other", "waiting": true}));
        daemon.wait_pids("other", 1);
        at_rest_but_for_the_fight(site, &agent);
        assert_eq!(daemon.pids("web").len(), 1);
        // Whoever asks for a run means it.
        assert_eq!(direct(site, &["run-now"])["line"]["changed"], true);
        daemon.wait_pids("web", 2);
    });
}

fn at_rest_but_for_the_fight(site: &TempSite, agent: &Agent) {
    agent.wait_for("an agent at rest", || {
        let status = direct(site, &["status"]);
        let left = agent.lines().pop()?["left_alone"].clone();
        (status["running"] == false && left == json!(["web"])).then_some(())
    });
}

#[test]
fn a_hand_in_the_configuration_is_seen() {
    started(Program::Circ, |site, _| {
        let agent = Agent::start(site, &[]);
        at_rest(site, &agent);
        let seen = agent.lines().len();
        let ini = fs::read_to_string(site.path("circus.ini")).unwrap();
        replace(
            site,
            "circus.ini",
            &ini.replace("numprocesses = 2", "numprocesses = 7"),
        );
        let (_, line) = agent.line_after(seen, "the repair", |line| line["changed"] == true);
        assert_eq!(line["trigger"], "config");
        assert_eq!(fs::read_to_string(site.path("circus.ini")).unwrap(), ini);
    });
}

#[test]
fn a_daemon_that_quits_is_not_held_up() {
    started(Program::Circ, |site, daemon| {
        let agent = Agent::start(site, &[]);
        at_rest(site, &agent);
        daemon.ok("quit", json!({}));
        assert!(daemon.wait_exit().success());
        agent.wait_for("an agent that misses its daemon", || {
            (direct(site, &["status"])["daemon"] != "connected").then_some(())
        });
        assert!(agent.stop().success());
    });
}

/// Ends the daemon that an agent has started, also if the test fails.
struct Quit<'a>(&'a TempSite);

impl Drop for Quit<'_> {
    fn drop(&mut self) {
        run(self.0, &["quit", "--waiting", "--config", "circus.ini"]);
    }
}

#[test]
fn a_daemon_that_has_gone_is_started_again() {
    let site = site();
    let _quit = Quit(&site);
    let agent = Agent::start(&site, &["--start-daemon"]);
    let (seen, line) = agent.line_after(0, "the daemon's start", |line| line["changed"] == true);
    assert_eq!(line["trigger"], "start", "{line}");
    // Heard, and looked at once more: from now on there is nothing left to do.
    agent.line_after(seen + 1, "the run after it", |_| true);
    let lines = agent.lines().len();
    // It ends without a word.
    let mut pids = vec![asked(&site, &["identity"])["pid"].as_i64()];
    for watcher in ["web", "other"] {
        let list = asked(&site, &["list", watcher]);
        pids.extend(
            list["pids"]
                .as_array()
                .expect("pids")
                .iter()
                .map(Value::as_i64),
        );
    }
    for pid in pids {
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is there");
    }
    let (_, line) = agent.line_after(lines, "the second start", |line| line["changed"] == true);
    assert_eq!(line["trigger"], "event", "{line}");
    assert_eq!(line["failed"], false, "{line}");
    let list = asked(&site, &["list", "web"]);
    assert_eq!(list["pids"].as_array().map(Vec::len), Some(2), "{list}");
}

/// What `circ` prints as JSON for a question to the site's daemon.
#[track_caller]
fn asked(site: &TempSite, question: &[&str]) -> Value {
    let mut all = question.to_vec();
    all.extend(["--config", "circus.ini", "--json"]);
    let (code, text, error) = run(site, &all);
    assert_eq!(code, 0, "{text}{error}");
    serde_json::from_str(&text).expect("JSON")
}
