//! Hooks: called when circusd calls them, with what it tells them, and with the same consequences; and what bad ones do to
//! nobody else.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{Daemon, Driver, Program, TempSite, is_alive, venv};

const MARK: &str = "[watcher:mark]\ncmd = sleep 1000\nautostart = False\n";
const BOTH: [Program; 2] = [Program::Circusd, Program::Circ];

/// A site with the tests' hooks in it; `body` is its circus.ini.
fn site(body: &str) -> TempSite {
    let site = TempSite::new();
    site.write("told.py", include_str!("hooks/told.py"));
    // circ finds the module in the directory of the file as well; circusd needs this
    let path = site.dir().display().to_string();
    site.ini(&format!(
        "check_delay = 0.3\n[env]\nPYTHONPATH = {path}\n{body}{MARK}"
    ));
    site
}

fn start<'a>(site: &'a TempSite, program: Program) -> Daemon<'a> {
    site.start_with(program, |command| {
        // the library that hooks may import is that of the environment
        command.env("PATH", venv().path());
    })
}

/// What the hooks wrote down.
fn notes(site: &TempSite) -> Vec<Value> {
    let text = fs::read_to_string(site.path("notes")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a note"))
        .collect()
}

/// The reply to `status` of one watcher, whose key of that name is the watcher's.
fn status_of(daemon: &Daemon, name: &str) -> Value {
    call(daemon, "status", json!({"name": name}))
}

#[track_caller]
fn wait_status(daemon: &Daemon, name: &str, wanted: &str) {
    daemon.wait_for(&format!("{name} to be {wanted}"), || {
        (status_of(daemon, name)["status"] == wanted).then_some(())
    });
}

fn call(daemon: &Daemon, command: &str, properties: Value) -> Value {
    daemon
        .driver()
        .call(daemon.endpoint(), command, properties, 60.0)
        .expect("an answer")
}

/// Waits for what a command brings about; circusd refuses it while it does something else.
#[track_caller]
fn wait(daemon: &Daemon, command: &str, name: &str) -> Value {
    daemon.wait_for(&format!("{command} {name} to be taken"), || {
        let reply = call(daemon, command, json!({"name": name, "waiting": true}));
        let busy = reply["reason"]
            .as_str()
            .unwrap_or("")
            .contains("already running");
        (!busy).then_some(reply)
    })
}

/// Events as lines, without what differs from run to run.
fn told(events: Vec<(String, Value)>) -> Vec<String> {
    events
        .into_iter()
        .filter(|(topic, _)| !topic.starts_with("watcher.mark"))
        .map(|(topic, payload)| {
            let more: Vec<String> = ["name", "error", "exit_code"]
                .iter()
                .filter_map(|key| Some(format!("{key}={}", payload.get(*key)?)))
                .collect();
            format!("{topic} {}", more.join(" "))
        })
        .collect()
}

const ALL: [&str; 10] = [
    "before_start",
    "after_start",
    "before_stop",
    "after_stop",
    "before_spawn",
    "after_spawn",
    "before_signal",
    "after_signal",
    "before_reap",
    "after_reap",
];

#[test]
fn hooks_are_called_as_circusd_calls_them() {
    let hooks: String = ALL
        .iter()
        .map(|h| format!("hooks.{h} = told.yes\n"))
        .collect();
    let body =
        format!("[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\ncopy_env = True\n{hooks}");
    let mut seen = Vec::new();
    for program in BOTH {
        let site = site(&body);
        let daemon = start(&site, program);
        let driver = Driver::start();
        let events = driver.subscribe(&site.pubsub, &["watcher."]);
        let dealer = driver.dealer(daemon.endpoint());
        driver.events_until(events, dealer, "mark");
        let pids = daemon.wait_pids("web", 2);
        wait_status(&daemon, "web", "active");
        kill(Pid::from_raw(pids[0]), Signal::SIGKILL).expect("it lives");
        daemon.wait_for("another worker", || {
            let now = daemon.pids("web");
            (now.len() == 2 && !now.contains(&pids[0])).then_some(())
        });
        daemon.wait_for("its hooks", || {
            let last = notes(&site).pop()?;
            (last["hook"] == "after_spawn").then_some(())
        });
        wait(&daemon, "incr", "web");
        wait(&daemon, "decr", "web");
        wait(&daemon, "reload", "web");
        wait(&daemon, "restart", "web");
        // neither of the two tells a signal that does nothing
        call(&daemon, "signal", json!({"name": "web", "signum": 18}));
        wait(&daemon, "stop", "web");
        // the worker that died was there before anybody listened to events
        let events = told(driver.events_until(events, dealer, "mark"));
        seen.push((notes(&site), events));
    }
    let [circusd, circ] = &seen[..] else {
        unreachable!()
    };
    assert!(circusd.0.len() > 40, "{:#?}", circusd.0);
    let lines = |notes: &[Value]| -> Vec<String> { notes.iter().map(Value::to_string).collect() };
    assert_eq!(lines(&circ.0), lines(&circusd.0));
    assert_eq!(circ.1, circusd.1);
}

#[test]
fn each_answer_has_the_consequences_it_has_in_circusd() {
    let answers = ["no", "nothing", "text", "bad", "bad,True", "no,True"];
    let mut body = String::new();
    let mut names = Vec::new();
    for hook in ALL {
        for answer in answers {
            let name = format!("{hook}-{}", answer.replace(',', "-")).to_lowercase();
            body.push_str(&format!(
                "[watcher:{name}]\ncmd = sleep 1000\nautostart = False\ngraceful_timeout = 0.3\ncopy_env = True\n\
                 hooks.{hook} = told.{answer}\n"
            ));
            names.push(name);
        }
    }
    let mut seen = Vec::new();
    for program in BOTH {
        let site = site(&body);
        let daemon = start(&site, program);
        let driver = Driver::start();
        let events = driver.subscribe(&site.pubsub, &["watcher."]);
        let dealer = driver.dealer(daemon.endpoint());
        driver.events_until(events, dealer, "mark");
        let mut all: Vec<(String, Vec<String>)> = Vec::new();
        for name in &names {
            let mut replies = Vec::new();
            let started = wait(&daemon, "start", name);
            let status = status_of(&daemon, name)["status"].clone();
            let count = |reply: &Value, key: &str| reply["info"][key].as_array().map(Vec::len);
            replies.push(format!(
                "{name}: start: {} started {:?}, kept {:?}; {status}",
                started["status"],
                count(&started, "started"),
                count(&started, "kept"),
            ));
            let stopped = wait(&daemon, "stop", name);
            let status = status_of(&daemon, name)["status"].clone();
            replies.push(format!("{name}: stop: {} {status}", stopped["status"]));
            let mut events = told(driver.events_until(events, dealer, "mark"));
            if name.starts_with("after_spawn")
                && !name.ends_with("text")
                && !name.contains("bad-true")
            {
                // circusd lets go of the refused worker at once, and may have stopped before it has gone
                events.retain(|event| !event.contains(".kill "));
            }
            // now and then circusd reaps before it tells of the signal; the order is another test's matter
            events.sort();
            all.push((name.clone(), [replies, events].concat()));
        }
        seen.push(all);
    }
    let differing: Vec<_> = seen[0]
        .iter()
        .zip(&seen[1])
        .filter(|(a, b)| a != b)
        .collect();
    assert!(differing.is_empty(), "circusd, circ: {differing:#?}");
    assert_eq!(seen[1].len(), names.len());
}

#[test]
fn a_signal_that_is_held_back_is_not_sent_unless_it_kills() {
    for program in BOTH {
        let site = site(
            "[watcher:web]\ncmd = sleep 1000\ngraceful_timeout = 0.5\ncopy_env = True\nhooks.before_signal = told.no\n",
        );
        let daemon = start(&site, program);
        let pid = daemon.wait_pids("web", 1)[0];
        let hup = call(&daemon, "signal", json!({"name": "web", "signum": 1}));
        assert_eq!(hup["status"], "ok");
        assert_eq!(notes(&site).len(), 1, "{program:?}");
        assert!(is_alive(pid), "{program:?}");
        let since = Instant::now();
        wait(&daemon, "stop", "web");
        assert!(since.elapsed() >= Duration::from_millis(400), "{program:?}");
        assert!(!is_alive(pid));
        let signals: Vec<Value> = notes(&site)
            .iter()
            .map(|note| note["kwargs"]["signum"].clone())
            .collect();
        assert_eq!(signals, [json!(1), json!(15), json!(9)], "{program:?}");
    }
}

#[test]
fn what_a_hook_assigns_reaches_the_workers() {
    for program in BOTH {
        for hook in ["before_start", "before_spawn"] {
            let out = "sh -c 'echo $FROM_HOOK $0 $1 > $OUT.tmp; mv $OUT.tmp $OUT; sleep 1000'";
            let site = site(&format!(
                "[watcher:web]\ncmd = {out}\ncopy_env = True\nhooks.{hook} = told.assigning\n"
            ));
            let file = site.path("out");
            let daemon = site.start_with(program, |command| {
                command.env("OUT", &file);
                command.env("PATH", venv().path());
            });
            let text = daemon.wait_for("the worker's words", || fs::read_to_string(&file).ok());
            assert_eq!(text, format!("{hook} from {hook}\n"), "{program:?}");
        }
    }
}

#[test]
fn a_hook_sees_the_watcher_and_the_others() {
    let mut seen = Vec::new();
    for program in BOTH {
        let site = site(
            "[watcher:web]\ncmd = sleep 1000\ncopy_env = True\nmy_option = 7\npriority = 3\n\
             hooks.after_spawn = told.looking\n[watcher:Other]\ncmd = sleep 1000\nnumprocesses = 4\nautostart = False\n",
        );
        let daemon = start(&site, program);
        let text = daemon.wait_for("what it saw", || {
            let text = fs::read_to_string(site.path("seen")).ok()?;
            serde_json::from_str::<Value>(&text).ok()
        });
        let mut text = text;
        assert_eq!(text["endpoint"], json!(site.endpoint));
        text["endpoint"] = Value::Null;
        seen.push(text);
    }
    assert_eq!(seen[1], seen[0]);
    assert_eq!(seen[0]["nobody"], true);
}

#[test]
fn extended_stats_are_added_to_the_answer() {
    for program in BOTH {
        let site = site(
            "[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\ncopy_env = True\nhooks.extended_stats = told.more_stats\n",
        );
        let daemon = start(&site, program);
        let pids = daemon.wait_pids("web", 2);
        let ours = json!({"by": "extended_stats", "same": true});
        let plain = call(&daemon, "stats", json!({"name": "web"}));
        assert_eq!(plain["info"][pids[0].to_string()].get("answered"), None);
        let all = call(&daemon, "stats", json!({"name": "web", "extended": true}));
        for pid in &pids {
            let info = &all["info"][pid.to_string()];
            assert_eq!(info["answered"], ours, "{program:?} {all}");
            assert!(info.get("cpu").is_some());
        }
        let one = call(
            &daemon,
            "stats",
            json!({"name": "web", "process": pids[1], "extended": true}),
        );
        assert_eq!(one["info"]["answered"], ours, "{program:?} {one}");
        // the hook of one watcher has no part in the answer about all
        let every = call(&daemon, "stats", json!({"extended": true}));
        assert_eq!(
            every["infos"]["web"][pids[0].to_string()].get("answered"),
            None
        );
    }
}

#[test]
fn hooks_are_set_while_the_daemon_runs() {
    for program in BOTH {
        let site = site("[watcher:web]\ncmd = sleep 1000\nautostart = False\ncopy_env = True\n");
        let daemon = start(&site, program);
        let set = |key: &str, value: Value| {
            call(
                &daemon,
                "set",
                json!({"name": "web", "options": {key: value}, "waiting": true}),
            )
        };
        let active = || {
            wait(&daemon, "start", "web");
            let status = status_of(&daemon, "web")["status"].clone();
            wait(&daemon, "stop", "web");
            status == "active"
        };
        assert_eq!(set("hooks.before_start", json!("told.no"))["status"], "ok");
        assert!(!active(), "{program:?}");
        for missing in ["told.nobody", "nowhere.no"] {
            let refused = set("hooks.before_start", json!(missing));
            assert_eq!(refused["status"], "error", "{program:?} {refused}");
            assert!(!active(), "{program:?}: the one from before stays");
        }
        assert_eq!(
            set("hooks.before_start", json!("told.bad,True"))["status"],
            "ok"
        );
        assert!(active(), "{program:?}");
        assert_eq!(
            set("hooks", json!({"after_start": "told.no"}))["status"],
            "ok"
        );
        assert!(!active(), "{program:?}");
        // a module that has changed is read again
        assert_eq!(set("hooks.after_start", json!("told.yes"))["status"], "ok");
        assert!(active(), "{program:?}");
        site.write(
            "told.py",
            include_str!("hooks/told.py").replace("return True", "return False"),
        );
        assert_eq!(set("hooks.after_start", json!("told.yes"))["status"], "ok");
        assert!(!active(), "{program:?}");
        let unknown = set("hooks.never", json!("told.yes"));
        // circusd takes it, and never calls it
        let wanted = if program == Program::Circ {
            "error"
        } else {
            "ok"
        };
        assert_eq!(unknown["status"], wanted, "{program:?} {unknown}");
    }
}

/// Every kind of bad hook: its own watcher goes on as after a failure, the others do not notice.
#[test]
fn a_bad_hook_harms_no_other_watcher() {
    let bad = [
        "hanging",
        "exiting",
        "vanishing",
        "killed",
        "garbage",
        "forking",
        "chatty",
        "closing",
    ];
    let mut body = String::from(
        "[watcher:good]\ncmd = sleep 1000\nautostart = False\ncopy_env = True\nhooks.before_start = told.yes\n",
    );
    for hook in bad {
        body.push_str(&format!(
            "[watcher:{hook}]\ncmd = sleep 1000\nautostart = False\nhook_timeout = 2\nhooks.before_start = told.{hook}\n"
        ));
    }
    let site = site(&body);
    let daemon = start(&site, Program::Circ);
    let pid = daemon.pid();
    for hook in bad {
        let dealer = daemon.driver().dealer(daemon.endpoint());
        let message =
            json!({"id": hook, "command": "start", "properties": {"name": hook, "waiting": true}});
        daemon
            .driver()
            .send(dealer, &[message.to_string().as_bytes()]);
        let since = Instant::now();
        assert_eq!(wait(&daemon, "start", "good")["status"], "ok", "{hook}");
        assert_eq!(daemon.pids("good").len(), 1, "{hook}");
        wait(&daemon, "stop", "good");
        if hook == "hanging" {
            assert!(
                since.elapsed() < Duration::from_secs(2),
                "{:?}",
                since.elapsed()
            );
        }
        let frames = daemon.driver().recv(dealer, 30.0).expect("an answer");
        let reply: Value = serde_json::from_str(frames.last().expect("a frame")).expect("JSON");
        let fine = matches!(hook, "forking" | "chatty");
        let status = status_of(&daemon, hook);
        let (wanted, started) = if fine { ("active", 1) } else { ("stopped", 0) };
        assert_eq!(status["status"], wanted, "{hook} {status}");
        assert_eq!(
            reply["info"]["started"].as_array().map(Vec::len),
            Some(started),
            "{hook} {reply}"
        );
        if !fine {
            let trouble = status["trouble"].as_str().unwrap_or("");
            assert!(
                trouble.starts_with("before_start failed: "),
                "{hook}: {trouble}"
            );
            let word = match hook {
                "hanging" | "closing" => "",
                "exiting" => "SystemExit: 3",
                "vanishing" => "exit code 3",
                "killed" => "signal 9",
                _ => "no message",
            };
            assert!(trouble.contains(word), "{hook}: {trouble}");
        }
    }
    assert_eq!(daemon.pid(), pid);
    // what hung is gone, with what it had started
    let text = fs::read_to_string(site.path("hanging")).expect("it was called");
    for gone in text.split(' ').map(|pid| pid.parse().expect("a pid")) {
        daemon.wait_for("what hung to be gone", || (!is_alive(gone)).then_some(()));
    }
    assert!(daemon.log().contains("forking") || daemon.log().contains("line 19999 of very many"));
}

#[test]
fn what_an_earlier_hook_has_started_stays_when_a_later_one_hangs() {
    let site = site(
        "[watcher:web]\ncmd = sleep 1000\nautostart = False\nhook_timeout = 1\nhooks.before_start = told.left_behind\n\
         [watcher:other]\ncmd = sleep 1000\nautostart = False\nhook_timeout = 1\nhooks.before_start = told.hanging\n",
    );
    let daemon = start(&site, Program::Circ);
    wait(&daemon, "start", "web");
    let left: i32 = fs::read_to_string(site.path("left"))
        .expect("called")
        .parse()
        .expect("a pid");
    wait(&daemon, "start", "other");
    let text = fs::read_to_string(site.path("hanging")).expect("it was called");
    for gone in text.split(' ').map(|pid| pid.parse().expect("a pid")) {
        daemon.wait_for("what hung to be gone", || (!is_alive(gone)).then_some(()));
    }
    assert!(is_alive(left));
    kill(Pid::from_raw(left), Signal::SIGKILL).expect("it lives");
}

#[test]
fn programs_are_hooks_as_well() {
    let site = site("");
    let tell = site.write(
        "tell",
        "#!/bin/sh\ncat > \"$1.json\"\necho \"$CIRCUS_HOOK $CIRCUS_WATCHER $CIRCUS_PID $CIRCUS_SIGNUM\" > \"$1.env\"\n\
         echo to the log\nexit ${2:-0}\n",
    );
    let stats = site.write(
        "stats",
        "#!/bin/sh\necho \"{\\\"extra\\\": $CIRCUS_PID}\"\n",
    );
    let hang = site.write("hang", "#!/bin/sh\nsleep 1000\n");
    for file in [&tell, &stats, &hang] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("mode");
    }
    let (tell, dir) = (tell.display(), site.dir().display());
    let watcher = |name: &str, more: &str| {
        format!("[watcher:{name}]\ncmd = sleep 1000\nautostart = False\nhook_timeout = 2\n{more}\n")
    };
    let body = [
        watcher(
            "web",
            &format!(
                "hooks.before_start = exec:{tell} {dir}/start\nhooks.after_spawn = exec:{tell} '{dir}/spawn'\n\
            hooks.extended_stats = exec:{}\nhooks.before_signal = exec:{tell} {dir}/signal",
                stats.display()
            ),
        ),
        watcher(
            "no",
            &format!("hooks.before_start = exec:{tell} {dir}/no 1"),
        ),
        watcher(
            "ignored_no",
            &format!("hooks.before_start = exec:{tell} {dir}/no 1,True"),
        ),
        watcher(
            "failing",
            &format!("hooks.before_start = exec:{tell} {dir}/no 7"),
        ),
        watcher(
            "ignored",
            &format!("hooks.before_start = exec:{tell} {dir}/no 7,True"),
        ),
        watcher("missing", "hooks.before_start = exec:/no/such/program"),
        watcher(
            "hanging",
            &format!("hooks.before_start = exec:{}", hang.display()),
        ),
    ];
    site.ini(&format!("{}{MARK}", body.concat()));
    let daemon = site.start(Program::Circ);
    let trouble = |name: &str| {
        wait(&daemon, "start", name);
        let status = status_of(&daemon, name);
        let trouble = status["trouble"].as_str().unwrap_or("").to_string();
        (status["status"] == "active", trouble)
    };
    assert_eq!(trouble("web"), (true, String::new()));
    let pid = daemon.pids("web")[0];
    let read = |name: &str| fs::read_to_string(site.path(name)).unwrap_or_default();
    assert_eq!(read("start.env"), "before_start web  \n");
    assert_eq!(read("spawn.env"), format!("after_spawn web {pid} \n"));
    let told: Value = serde_json::from_str(&read("spawn.json")).expect("JSON on standard input");
    assert_eq!(told["kwargs"]["pid"], pid);
    assert_eq!(told["watcher"]["processes"][0]["pid"], pid);
    let stats = call(&daemon, "stats", json!({"name": "web", "extended": true}));
    assert_eq!(stats["info"][pid.to_string()]["extra"], pid, "{stats}");
    wait(&daemon, "stop", "web");
    assert_eq!(read("signal.env"), format!("before_signal web {pid} 15\n"));
    assert!(daemon.log().contains("web after_spawn: to the log"));

    assert_eq!(trouble("no"), (false, "before_start said no".to_string()));
    assert!(!trouble("ignored_no").0);
    let (active, why) = trouble("failing");
    assert!(!active && why.contains("exit code 7"), "{why}");
    assert!(trouble("ignored").0);
    let (active, why) = trouble("missing");
    assert!(!active && why.contains("/no/such/program"), "{why}");
    let (active, why) = trouble("hanging");
    assert!(!active && why.contains("no answer within 2 s"), "{why}");
}

#[test]
fn what_a_hook_refused_is_tried_again_if_asked_for() {
    let site = site(
        "[watcher:web]\ncmd = sleep 1000\nhook_retry = 0.2\nhooks.before_start = told.twice_no\n\
         [watcher:other]\ncmd = sleep 1000\nhook_retry = 0.2\nhooks.before_start = told.twice_no\nautostart = False\n",
    );
    let daemon = start(&site, Program::Circ);
    daemon.wait_pids("web", 1);
    assert_eq!(notes(&site).len(), 3);
    // one that somebody stops is not tried again
    fs::remove_file(site.path("count")).expect("it counted");
    wait(&daemon, "stop", "web");
    wait(&daemon, "start", "web");
    wait(&daemon, "stop", "web");
    let called = |name: &str| {
        let notes = notes(&site).into_iter();
        notes.filter(|note| note["watcher"] == name).count()
    };
    let before = called("web");
    // another one is tried again twice meanwhile: the time of the first has long passed
    fs::remove_file(site.path("count")).expect("it counted");
    daemon.ok("start", json!({"name": "other"}));
    daemon.wait_pids("other", 1);
    assert_eq!((called("web"), called("other")), (before, 3));
}

#[test]
fn a_worker_that_is_refused_is_tried_again_and_spares_the_others() {
    let site = site("[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\nhook_retry = 0.2\n");
    let daemon = start(&site, Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    let set = call(
        &daemon,
        "set",
        json!({"name": "web", "options": {"hooks.before_spawn": "told.twice_no"}, "waiting": true}),
    );
    assert_eq!(set["status"], "ok");
    kill(Pid::from_raw(pids[0]), Signal::SIGKILL).expect("it lives");
    daemon.wait_for("another worker", || {
        let now = daemon.pids("web");
        (now.len() == 2 && !now.contains(&pids[0])).then_some(())
    });
    assert!(daemon.pids("web").contains(&pids[1]));
    assert_eq!(notes(&site).len(), 3);
}

#[test]
fn a_hook_may_start_another_watcher_and_publish() {
    for program in BOTH {
        let site = site(
            "[watcher:web]\ncmd = sleep 1000\nautostart = False\ncopy_env = True\nhooks.after_start = told.starting_another\n\
             [watcher:other]\ncmd = sleep 1000\nautostart = False\n",
        );
        let daemon = start(&site, program);
        let driver = Driver::start();
        let events = driver.subscribe(&site.pubsub, &["watcher."]);
        let dealer = driver.dealer(daemon.endpoint());
        driver.events_until(events, dealer, "mark");
        wait(&daemon, "start", "web");
        if program == Program::Circ {
            // circusd cannot do two things at a time
            daemon.wait_pids("other", 1);
        }
        let events = driver.events_until(events, dealer, "mark");
        let greeting = events
            .iter()
            .find(|(topic, _)| topic == "watcher.web.greeting");
        assert_eq!(
            greeting.map(|(_, message)| message),
            Some(&json!({"hello": "world"})),
            "{program:?}"
        );
    }
}

#[test]
fn hooks_that_cannot_be_found_are_told_with_their_line_and_take_nobody_down() {
    let site = site(
        "[watcher:web]\ncmd = sleep 1000\nhooks.before_start = nowhere.no\n\
         [watcher:good]\ncmd = sleep 1000\n",
    );
    let daemon = start(&site, Program::Circ);
    daemon.wait_pids("good", 1);
    daemon.wait_for("the reason", || {
        let status = status_of(&daemon, "web");
        let trouble = status["trouble"].as_str()?.to_string();
        trouble.contains("No module named 'nowhere'").then_some(())
    });
    let text = fs::read_to_string(site.path("circus.ini")).expect("the file");
    let line = text
        .lines()
        .position(|line| line.starts_with("hooks."))
        .expect("a hook")
        + 1;
    let log = daemon.log();
    assert!(
        log.contains(&format!(
            "circus.ini line {line}: [watcher:web] hooks.before_start: "
        )),
        "{log}"
    );
    let options = json!({"hooks": {"before_start": "nowhere.no"}});
    let refused = call(
        &daemon,
        "add",
        json!({"name": "new", "cmd": "sleep 1000", "options": options}),
    );
    assert_eq!(refused["status"], "error", "{refused}");
    assert_eq!(daemon.ok("numwatchers", json!({}))["numwatchers"], 3);
}

#[test]
fn no_python_is_there() {
    let site = site("[watcher:web]\ncmd = sleep 1000\nhooks.before_start = told.yes\n");
    let text = fs::read_to_string(site.path("circus.ini")).expect("the file");
    site.write(
        "circus.ini",
        text.replace("[env]", "python = /no/such/python\n[env]"),
    );
    let daemon = start(&site, Program::Circ);
    daemon.wait_for("the reason", || {
        let status = status_of(&daemon, "web");
        let trouble = status["trouble"].as_str()?.to_string();
        trouble.contains("/no/such/python").then_some(())
    });
}

#[test]
fn hooks_without_the_circus_library_find_what_they_import_of_it() {
    let site = site("[watcher:web]\ncmd = sleep 1000\nhooks.before_start = mine.hook\n");
    site.write(
        "mine.py",
        "from circus import logger\nfrom circus.process import UNEXISTING\n\
         def hook(**kwargs):\n    logger.info('the hook speaks')\n    return UNEXISTING == 2\n",
    );
    // an interpreter that has no circus: the one that made the environment
    let text = fs::read_to_string(site.path("circus.ini")).expect("the file");
    site.write(
        "circus.ini",
        text.replace("[env]", "python = /usr/bin/python3\n[env]"),
    );
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    daemon.wait_for("the log", || {
        daemon
            .log()
            .contains("web before_start: INFO: the hook speaks")
            .then_some(())
    });
}
