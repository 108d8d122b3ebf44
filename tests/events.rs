//! `circ events`: followed over a daemon's restart, given to commands, and told to listeners that were written for
//! supervisor.

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{Daemon, Program, TempSite, is_alive, venv, wait_for};

/// A `circ events` that runs, and what it wrote.
struct Follower {
    child: Child,
    out: std::path::PathBuf,
    notes: std::path::PathBuf,
}

impl Follower {
    /// Not in the site's directory: what runs there is ended with the site's daemon.
    fn start(site: &TempSite, args: &[&str], change: impl FnOnce(&mut Command)) -> Follower {
        let (out, notes) = (site.path("events.out"), site.path("events.err"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
        command
            .arg("events")
            .args(args)
            .env("CIRCUSCTL_ENDPOINT", &site.endpoint)
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&notes).unwrap());
        change(&mut command);
        let child = command.spawn().unwrap();
        Follower { child, out, notes }
    }

    fn lines(&self) -> Vec<String> {
        lines(&self.out)
    }

    fn notes(&self) -> String {
        fs::read_to_string(&self.notes).unwrap_or_default()
    }

    /// Nobody says when a subscription has arrived: something harmless is done until it is heard.
    #[track_caller]
    fn wait_heard(&self, daemon: &Daemon, watcher: &str, heard: impl Fn(&Follower) -> bool) {
        // What is set has to differ from what was: otherwise it is none.
        let mut seconds = 5;
        daemon.wait_for("the first event", || {
            seconds += 1;
            set(daemon, watcher, seconds);
            heard(self).then_some(())
        });
    }

    #[track_caller]
    fn ended(&mut self) -> Option<i32> {
        wait_for(&format!("its end; notes: {}", self.notes()), || {
            self.child.try_wait().unwrap()
        })
        .code()
    }

    fn interrupt(&mut self) -> Option<i32> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        self.ended()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Those it runs end with it.
            let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

fn set(daemon: &Daemon, watcher: &str, graceful_timeout: u32) {
    let options = json!({"graceful_timeout": graceful_timeout});
    daemon.ok(
        "set",
        json!({"name": watcher, "options": options, "waiting": true}),
    );
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last line may not be whole yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_string).collect()
}

fn objects(path: &Path) -> Vec<Value> {
    let parsed = |line: &String| serde_json::from_str(line).unwrap();
    lines(path).iter().map(parsed).collect()
}

#[test]
fn events_are_followed_over_a_restart() {
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\n[watcher:other]\ncmd = sleep 1001\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let mut all = Follower::start(&site, &["--json"], |_| {});
    all.wait_heard(&daemon, "web", |all| !all.lines().is_empty());
    assert!(daemon.stop().success());
    wait_for("the loss", || {
        all.lines()
            .iter()
            .any(|line| line.contains("circ.lost"))
            .then_some(())
    });
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    all.wait_heard(&daemon, "other", |all| {
        let lines = all.lines();
        let back = lines.iter().position(|line| line.contains("circ.back"));
        back.is_some_and(|at| {
            lines[at..]
                .iter()
                .any(|line| line.contains("other.updated"))
        })
    });
    let told = objects(&all.out);
    let lost = told
        .iter()
        .position(|one| one["topic"] == "circ.lost")
        .unwrap();
    let back = told
        .iter()
        .position(|one| one["topic"] == "circ.back")
        .unwrap();
    assert!(lost < back, "{told:?}");
    assert!(told[lost]["payload"]["reason"].is_string(), "{told:?}");
    assert!(
        told[back]["payload"]["gap"].as_f64() > Some(0.0),
        "{told:?}"
    );
    let times = |topic: &str| told.iter().filter(|one| one["topic"] == topic).count();
    assert_eq!((times("circ.lost"), times("circ.back")), (1, 1));
    assert_eq!(all.interrupt(), None);
}

#[test]
fn filters_choose_and_a_count_ends() {
    for program in [Program::Circ, Program::Circusd] {
        let site = TempSite::ipc();
        site.ini("[watcher:web]\ncmd = sleep 1000\n[watcher:other]\ncmd = sleep 1001\n");
        let daemon = site.start(program);
        daemon.wait_pids("web", 1);
        daemon.wait_pids("other", 1);
        let args = ["--watcher", "W*", "--event", "spawn,updated", "-n", "3"];
        let mut chosen = Follower::start(&site, &args, |_| {});
        daemon.wait_for("three events", || {
            for name in ["other", "web"] {
                daemon.ok("restart", json!({"name": name, "waiting": true}));
            }
            chosen.child.try_wait().unwrap()
        });
        let lines = chosen.lines();
        assert_eq!(lines.len(), 3, "{lines:?}");
        for line in &lines {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words[1], "watcher.web.spawn", "{line}");
            assert!(
                words[0].ends_with('Z') && words[2].starts_with("process_pid="),
                "{line}"
            );
        }
    }
    for (args, words) in [
        (&["--event", "reaped"][..], "did you mean reap?"),
        (&["--exec", ""], "there is no command"),
        (&["--jobs", "2"], "--exec"),
        (
            &["--eventlistener", "x", "--events", "PROCESS_LOG"],
            "publishes nothing",
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
        let output = command.arg("events").args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
    // No daemon to begin with is an error; only one that was there is waited for.
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    let nobody = command.args(["events", "--endpoint", "ipc:///nobody/here"]);
    assert_eq!(nobody.output().unwrap().status.code(), Some(1));
}

#[test]
fn a_command_is_run_for_each_event() {
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let told = site.path("told");
    let script = site.write(
        "tell.sh",
        format!(
            "echo \"$CIRC_EVENT|$CIRC_WATCHER|$CIRC_PID|$CIRC_SIGNAL|$CIRC_EXIT_CODE|$CIRC_ENDPOINT|$*|$(cat)\" >> {}\n\
             test $CIRC_EVENT != reap || exit 3\n",
            told.display()
        ),
    );
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 1);
    // What looks like shell is one word and stays so.
    let command = format!("/bin/sh {} '$(id); x'", script.display());
    let mut runner = Follower::start(&site, &["--exec", &command], |_| {});
    runner.wait_heard(&daemon, "web", |_| !lines(&told).is_empty());
    kill(Pid::from_raw(pids[0]), Signal::SIGKILL).unwrap();
    let line = daemon.wait_for("the command's words", || {
        lines(&told)
            .into_iter()
            .find(|line| line.starts_with("reap"))
    });
    let words: Vec<&str> = line.splitn(8, '|').collect();
    let pid = pids[0].to_string();
    let expected = ["reap", "web", &pid, "9", "", &site.endpoint, "$(id); x"];
    assert_eq!(words[..7], expected, "{line}");
    let event: Value = serde_json::from_str(words[7]).unwrap();
    assert_eq!(event["topic"], "watcher.web.reap");
    assert_eq!(event["payload"]["exit_code"], -9);
    wait_for("the failure to be told", || {
        let notes = runner.notes();
        (notes.contains("for watcher.web.reap: ended with exit code 3")).then_some(())
    });
    // In the order of the events: the replacement comes after.
    wait_for("the spawn", || {
        let events: Vec<String> = lines(&told);
        let at = events.iter().position(|line| line.starts_with("reap"))?;
        let after = events[at + 1..].iter();
        after
            .clone()
            .any(|line| line.starts_with("spawn"))
            .then_some(())
    });
    assert!(lines(&runner.out).is_empty());
    assert_eq!(runner.interrupt(), Some(0));
}

#[test]
fn commands_that_hang_are_ended_and_never_too_many() {
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let ran = site.path("ran");
    let command = format!("echo $$ >> {}; sleep 1000", ran.display());
    let args = ["--exec-timeout", "0.3", "--shell", "--exec", &command];
    let mut runner = Follower::start(&site, &args, |_| {});
    runner.wait_heard(&daemon, "web", |_| !lines(&ran).is_empty());
    let mut seconds = 100;
    wait_for("a second one, after the first was ended", || {
        seconds += 1;
        set(&daemon, "web", seconds);
        (lines(&ran).len() > 1).then_some(())
    });
    assert!(
        runner
            .notes()
            .contains("still ran after 0.3 s and was ended"),
        "{}",
        runner.notes()
    );
    let alive = |line: &String| is_alive(line.parse().unwrap());
    assert!(lines(&ran).iter().filter(|line| alive(line)).count() <= 1);
    assert_eq!(runner.interrupt(), Some(0));
    assert_eq!(lines(&ran).iter().filter(|line| alive(line)).count(), 0);
}

/// What a listener was told, without what counts and without ticks.
fn told_to(path: &Path) -> Vec<(String, String)> {
    objects(path)
        .iter()
        .filter(|one| {
            !one["headers"]["eventname"]
                .as_str()
                .unwrap()
                .starts_with("TICK")
        })
        .map(|one| {
            let of = |key: &str| one["payload"][key].as_str().unwrap_or_default().to_string();
            let name = one["headers"]["eventname"].as_str().unwrap();
            let name = name.strip_prefix("PROCESS_STATE_").unwrap_or(name);
            (name.to_string(), of("from_state"))
        })
        .collect()
}

#[test]
fn a_listener_of_supervisor_hears_supervisors_words() {
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\n[watcher:nope]\ncmd = /no/such/program\nautostart = False\nmax_retry = 1\n");
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 1);
    let told = site.path("told");
    let listener = format!(
        "{} {}/tests/events/listener.py {}",
        venv().python().display(),
        env!("CARGO_MANIFEST_DIR"),
        told.display()
    );
    let args = [
        "--startsecs",
        "0.2",
        "--buffer",
        "100",
        "--eventlistener",
        &listener,
    ];
    let mut runner = Follower::start(&site, &args, |command| {
        command
            .env("WANT_AGAIN", "PROCESS_STATE_EXITED")
            .env("DIE_AT", "PROCESS_STATE_FATAL");
    });
    let has = |event: &str| told_to(&told).iter().any(|(name, _)| name == event);
    daemon.wait_for("the listener", || {
        has("SUPERVISOR_STATE_CHANGE_RUNNING").then_some(())
    });
    kill(Pid::from_raw(pids[0]), Signal::SIGKILL).unwrap();
    daemon.wait_for("its replacement to run", || has("RUNNING").then_some(()));
    let new = daemon.wait_pids("web", 1)[0].to_string();
    daemon.ok("stop", json!({"name": "web", "waiting": true}));
    daemon.ok("start", json!({"name": "nope"}));
    // It dies of that one: it is started again, and told again.
    daemon.wait_for("the fatal one, twice", || {
        let all = told_to(&told);
        (all.iter().filter(|(name, _)| name == "FATAL").count() == 2).then_some(())
    });
    let story = told_to(&told);
    let story: Vec<(&str, &str)> = story
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    let expected = vec![
        ("SUPERVISOR_STATE_CHANGE_RUNNING", ""),
        ("EXITED", "RUNNING"),
        ("EXITED", "RUNNING"),
        ("STARTING", "EXITED"),
        ("RUNNING", "STARTING"),
        ("STOPPING", "RUNNING"),
        ("STOPPED", "STOPPING"),
        ("FATAL", "BACKOFF"),
        ("FATAL", "BACKOFF"),
    ];
    assert_eq!(story, expected);
    let all = objects(&told);
    let of = |name: &str| {
        all.iter()
            .find(|one| one["headers"]["eventname"] == name)
            .unwrap()
    };
    let exited = of("PROCESS_STATE_EXITED");
    assert_eq!(
        exited["payload"],
        json!({"processname": "web", "groupname": "web", "from_state": "RUNNING", "expected": "0", "pid": pids[0].to_string()})
    );
    let headers = exited["headers"].as_object().unwrap();
    let keys: Vec<&str> = headers.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "ver",
            "server",
            "serial",
            "pool",
            "poolserial",
            "eventname",
            "len"
        ]
    );
    assert_eq!(
        (&headers["ver"], &headers["server"]),
        (&json!("3.0"), &json!("supervisor"))
    );
    assert_eq!(of("PROCESS_STATE_RUNNING")["payload"]["pid"], new.as_str());
    // Sent again is the same event.
    let serials: Vec<&Value> = all
        .iter()
        .filter(|one| one["headers"]["eventname"] == "PROCESS_STATE_EXITED")
        .map(|one| &one["headers"]["serial"])
        .collect();
    assert_eq!(serials[0], serials[1]);
    assert!(
        runner
            .notes()
            .contains("ended with exit code 7; it is started again in")
    );
    daemon.wait_for("a tick", || {
        let tick = objects(&told)
            .into_iter()
            .find(|one| one["headers"]["eventname"] == "TICK_5")?;
        let when: u64 = tick["payload"]["when"].as_str()?.parse().ok()?;
        assert_eq!(when % 5, 0);
        Some(())
    });
    assert_eq!(runner.interrupt(), Some(0));
}

/// superlance: crashmail mails what died; memmon looks at memory over XML-RPC and restarts what has too much.
#[test]
fn superlance_runs_unchanged() {
    let site = TempSite::ipc();
    site.ini(
        "[watcher:web]\ncmd = sleep 1000\n[watcher:many]\ncmd = sleep 1001\nnumprocesses = 2\n\
         [watcher:dies]\ncmd = sh -c 'sleep 1.2; exit 1'\n",
    );
    let daemon = site.start(Program::Circ);
    let victim = daemon.wait_pids("web", 1)[0];
    let many = daemon.wait_pids("many", 2);
    let mail = site.path("mail");
    let crashmail = format!(
        "{} -a -m ops@example.com -s 'cat > {}'",
        venv().program("crashmail").display(),
        mail.display()
    );
    // words in words: the command of the mail program is one word of the listener's
    let args = [
        "--eventlistener",
        &crashmail,
        "--events",
        "PROCESS_STATE_EXITED",
        "--startsecs",
        "0",
    ];
    let mut runner = Follower::start(&site, &args, |_| {});
    daemon.wait_for("a mail", || {
        let mail = fs::read_to_string(&mail).ok()?;
        mail.contains("Process dies in group dies exited unexpectedly")
            .then_some(())
    });
    assert_eq!(runner.interrupt(), Some(0));
    let memmon = format!(
        "{} -p web=1KB -g many=1KB -m ops@example.com -s 'cat >> {}'",
        venv().program("memmon").display(),
        mail.display()
    );
    let args = ["--eventlistener", &memmon, "--events", "TICK_5"];
    let mut runner = Follower::start(&site, &args, |_| {});
    daemon.wait_for("new processes", || {
        let now = daemon.pids("web");
        let of_many = daemon.pids("many");
        let replaced = now.len() == 1 && now[0] != victim;
        let others = of_many.len() == 2 && of_many.iter().all(|pid| !many.contains(pid));
        assert!(!runner.notes().contains("Traceback"), "{}", runner.notes());
        (replaced && others).then_some(())
    });
    assert!(!runner.notes().contains("Traceback"), "{}", runner.notes());
    assert_eq!(runner.interrupt(), Some(0));
}

/// superlance: httpok restarts what answers badly; the batch listeners collect, and mail at a tick.
#[test]
fn superlances_other_listeners_run_unchanged() {
    let site = TempSite::ipc();
    site.ini(
        "[watcher:web]\ncmd = sleep 1000\n[watcher:dies]\ncmd = sh -c 'sleep 1.2; exit 1'\nmax_retry = -1\n\
         [watcher:nope]\ncmd = /no/such/program\nmax_retry = 1\nautostart = False\n",
    );
    let daemon = site.start(Program::Circ);
    let victim = daemon.wait_pids("web", 1)[0];
    // nobody listens there
    let sick = format!("http://127.0.0.1:{}/", site.port());
    let program = |name: &str| venv().program(name).display().to_string();
    let batch = "--toEmail=ops@example.com --fromEmail=circ@example.com --smtpHost=127.0.0.1:1 \
                 --interval=0.01 --tickEvent=TICK_5";
    let listeners = [
        format!("{} -p web -t 2 {sick}", program("httpok")),
        format!("{} {batch}", program("crashmailbatch")),
        format!("{} {batch}", program("fatalmailbatch")),
    ];
    let mut runners = Vec::new();
    for (number, listener) in listeners.iter().enumerate() {
        let events = "PROCESS_STATE,TICK_5";
        let args = [
            "--eventlistener",
            listener,
            "--events",
            events,
            "--startsecs",
            "0",
        ];
        let notes = site.path(&format!("notes-{number}"));
        let file = File::create(&notes).unwrap();
        let mut runner = Follower::start(&site, &args, |command| {
            command.stderr(file);
        });
        runner.notes = notes;
        runners.push(runner);
    }
    let notes = |number: usize| {
        let notes = runners[number].notes();
        assert!(!notes.contains("Traceback"), "{notes}");
        notes
    };
    daemon.wait_for("a new process by httpok", || {
        let now = daemon.pids("web");
        (now.len() == 1 && now[0] != victim && notes(0).contains("web restarted")).then_some(())
    });
    daemon.wait_for("a mail of what has died", || {
        let text = "Process dies:dies";
        let told = notes(1).contains(text) && notes(1).contains("died unexpectedly");
        told.then_some(())
    });
    daemon.wait_for("a mail of what cannot be started", || {
        // again until the listener is there to hear it
        daemon.call("start", json!({"name": "nope"}));
        let text = "Process nope:nope failed to start too many times";
        notes(2).contains(text).then_some(())
    });
    for runner in &mut runners {
        assert_eq!(runner.interrupt(), Some(0));
    }
}

#[test]
fn what_is_no_listener_is_told() {
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let mut runner = Follower::start(&site, &["--eventlistener", "echo hello"], |_| {});
    wait_for("the reason", || {
        let notes = runner.notes();
        (notes.contains("does not speak supervisor's protocol") && notes.contains("hello"))
            .then_some(())
    });
    assert_eq!(runner.interrupt(), Some(0));
}
