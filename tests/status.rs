//! `circ status`: what a person sees, what a script gets, and `--watch` over the absence of a daemon.

mod support;
#[path = "top/tmux.rs"]
mod tmux;

use std::fs::File;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regex::Regex;
use serde_json::{Value, json};
use support::{Daemon, Program, TempSite, is_alive, wait_for};
use tmux::Tmux;

fn circ(daemon: &Daemon, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    command
        .args(args)
        .env("CIRCUSCTL_ENDPOINT", daemon.endpoint())
        .env_remove("NO_COLOR")
        .env("TERM", "xterm");
    command
}

/// What it prints; it has to succeed.
fn said(daemon: &Daemon, args: &[&str]) -> String {
    let output = circ(daemon, args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until a watcher is up with its workers: they run before it says so.
#[track_caller]
fn wait_up(daemon: &Daemon, watcher: &str, count: usize) -> Vec<i32> {
    daemon.wait_for(&format!("{watcher} to be up"), || {
        (daemon.call("status", json!({"name": watcher}))["status"] == "active").then_some(())
    });
    daemon.wait_pids(watcher, count)
}

/// Numbers that differ from run to run, and the widths that follow them, are masked.
fn masked(site: &TempSite, text: &str) -> String {
    let mut text = text.replace(&site.dir().display().to_string(), "SITE");
    for (pattern, with) in [
        (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME"),
        (r"127\.0\.0\.1:\d+", "ADDRESS"),
        (r"\d+\.\d+ s\b", "N s"),
        (r"\b\d+m?\d*s\b", "Ns"),
        (r"\b\d+\.\d+[BKMG]", "MEM"),
        (r"\b\d+\.\d\b", "CPU"),
        (r"\b(pid|process|fd) \d+", "$1 #"),
        (r"(?m)^  \d{2,}  ", "  PID  "),
        (r"  +", "  "),
    ] {
        text = Regex::new(pattern)
            .unwrap()
            .replace_all(&text, with)
            .into_owned();
    }
    text
}

const INI: &str = "[watcher:web]
cmd = sleep 1000
numprocesses = 2
[watcher:네트워크]
cmd = sleep 1001
[watcher:idle]
cmd = sleep 1002
autostart = False
";

#[test]
fn a_person_gets_a_table_of_both_daemons() {
    for program in [Program::Circ, Program::Circusd] {
        let site = TempSite::ipc();
        site.ini(INI);
        let daemon = site.start_with(program, |command| {
            command.env("LC_ALL", "C.UTF-8");
        });
        wait_up(&daemon, "web", 2);
        wait_up(&daemon, "네트워크", 1);
        let table = said(&daemon, &["status", "--details"]);
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[0],
            [
                "NAME", "STATE", "PROCS", "RESTARTS", "UPTIME", "CPU%", "MEM", "LAST", "EXIT"
            ]
        );
        let restarts = if program == Program::Circ { "0" } else { "-" };
        assert_eq!(
            lines[1][..4],
            ["idle", "stopped", "0/1", restarts],
            "{table}"
        );
        assert_eq!(lines[2][..4], ["web", "active", "2/2", restarts], "{table}");
        assert!(
            lines[2][4].ends_with('s') && lines[2][6].ends_with('M'),
            "{table}"
        );
        assert_eq!(lines[3][..3], ["네트워크", "active", "1/1"], "{table}");
        // The page of one: a circusd answers less, and what it answers is there.
        let page = said(&daemon, &["status", "--details", "web"]);
        for words in [
            "web  active  2 of 2 processes",
            "sleep 1000",
            "Processes",
            "Options that are not the default",
            "numprocesses",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert_eq!(page.contains("Last events"), program == Program::Circ);
        // Elsewhere than on a terminal nothing has changed.
        assert_eq!(
            said(&daemon, &["status"]),
            "idle  stopped\nweb   active\n네트워크  active\n"
        );
    }
}

#[test]
fn a_page_says_all_about_a_watcher() {
    let site = TempSite::ipc();
    site.write(
        "crash.sh",
        "echo cannot connect to the database >&2\nexit 3\n",
    );
    let ini = format!(
        "[watcher:web]\ncmd = sleep 1000 $(circus.sockets.web)\nuse_sockets = True\nmax_age = 5000\n\
         stdout_stream.class = FileStream\nstdout_stream.filename = {0}/out.log\n\
         [socket:web]\nhost = 127.0.0.1\nport = 0\n[env:web]\nTOKEN = secret\n\
         [watcher:crash]\ncmd = sh {0}/crash.sh\n[watcher:nope]\ncmd = /no/such/program\n",
        site.dir().display()
    );
    site.ini(&ini);
    let daemon = site.start(Program::Circ);
    wait_up(&daemon, "web", 1);
    insta::assert_snapshot!(
        "page_of_one_that_is_well",
        masked(&site, &said(&daemon, &["status", "--details", "web"]))
    );
    daemon.wait_for("a second failure, with words", || {
        let told = daemon.call("status", json!({"name": "crash", "details": true}));
        let heard = told["last_exit"]["stderr"] == json!(["cannot connect to the database"]);
        (heard && told["failures"].as_u64() > Some(3)).then_some(())
    });
    daemon.wait_for("the end of its tries", || {
        (daemon.call("status", json!({"name": "nope", "details": true}))["gave_up"] == true)
            .then_some(())
    });
    let pausing = |text: &str| text.contains("next try") && text.contains("flapping");
    // It pauses most of the time, but for the moment in which it tries.
    let page = daemon.wait_for("its page while it pauses", || {
        let page = masked(&site, &said(&daemon, &["status", "--details", "crash"]));
        pausing(&page).then_some(page)
    });
    for words in [
        "flapping",
        "times in a row; the next try is in Ns",
        "exited with code 3 after N s (TIME, Ns ago)",
        "| cannot connect to the database",
        "reap  pid #, exit code 3",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let line = |table: &str, name: &str| {
        let line = table.lines().find(|line| line.starts_with(name));
        line.map(str::to_string).unwrap_or_default()
    };
    let table = daemon.wait_for("its line while it pauses", || {
        let table = masked(&site, &said(&daemon, &["status", "--details"]));
        pausing(&line(&table, "crash")).then_some(table)
    });
    let line = |name: &str| line(&table, name);
    assert!(
        line("crash")
            .contains("next try in Ns; exit code 3 Ns ago: cannot connect to the database"),
        "{table}"
    );
    assert!(line("crash").starts_with("crash  flapping  0/1"), "{table}");
    assert!(
        line("nope").starts_with("nope  gave up  0/1")
            && line("nope").contains("not started Ns ago: "),
        "{table}"
    );
    let refused = circ(&daemon, &["status", "--details", "other"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(3));
    assert_eq!(
        String::from_utf8_lossy(&refused.stderr),
        "error: program other not found (errno 3)\n"
    );
}

#[test]
fn details_are_counted_and_told() {
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\n[watcher:idle]\ncmd = sleep 1\nautostart = False\n");
    let daemon = site.start(Program::Circ);
    let pids = wait_up(&daemon, "web", 2);
    let details = |name: &str| daemon.call("status", json!({"name": name, "details": true}));
    let fresh = details("web");
    assert_eq!((&fresh["restarts"], &fresh["ends"]), (&json!(0), &json!(0)));
    assert!(fresh["since"].as_f64() > Some(1e9), "{fresh}");
    assert_eq!(details("idle")["since"], Value::Null);
    kill(Pid::from_raw(pids[0]), Signal::SIGKILL).unwrap();
    let told = daemon.wait_for("the replacement", || {
        Some(details("web")).filter(|told| told["restarts"] == 1)
    });
    assert_eq!(
        (&told["ends"], &told["numprocesses"]),
        (&json!(1), &json!(2))
    );
    let workers = told["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 2);
    assert!(
        workers
            .iter()
            .all(|one| one["started"].as_f64() > Some(1e9))
    );
    let events = told["events"].as_array().unwrap();
    let reap = events
        .iter()
        .find(|event| event["event"] == "reap")
        .unwrap();
    assert_eq!(
        (&reap["pid"], &reap["exit_code"]),
        (&json!(pids[0]), &json!(-9))
    );
    // Workers that come and go by order are no restarts.
    daemon.ok("restart", json!({"name": "web", "waiting": true}));
    daemon.ok("reload", json!({"name": "web", "waiting": true}));
    daemon.ok("incr", json!({"name": "web", "waiting": true}));
    assert_eq!(details("web")["restarts"], 1);
    // However much happens, what is kept stays small.
    for _ in 0..12 {
        daemon.ok("restart", json!({"name": "web", "waiting": true}));
    }
    assert_eq!(details("web")["events"].as_array().map(Vec::len), Some(20));
    // Without a name all are told of, without their events; without `details` nothing is added.
    let all = daemon.ok("status", json!({"details": true}));
    assert_eq!(all["watchers"]["web"]["status"], "active");
    assert_eq!(all["watchers"]["idle"]["workers"], json!([]));
    assert_eq!(all["watchers"]["web"].get("events"), None);
    let bare = daemon.ok("status", json!({}));
    assert_eq!(bare.get("watchers"), None);
    let reply: Value =
        serde_json::from_str(&said(&daemon, &["status", "--details", "--json"])).unwrap();
    assert_eq!(reply["watchers"]["web"]["restarts"], 1);
}

/// A program on a terminal, and what it has shown so far.
struct OnTerminal {
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl OnTerminal {
    fn start(mut command: Command) -> OnTerminal {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::from(pty.slave.try_clone().unwrap()))
            .stderr(Stdio::from(pty.slave))
            .spawn()
            .unwrap();
        // The other end has to close with the program.
        drop(command);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut master, text) = (File::from(pty.master), shown.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = master.read(&mut bytes) {
                text.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        OnTerminal { child, shown }
    }

    fn text(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// Waits for words that come after those before.
    #[track_caller]
    fn wait_shown(&self, after: usize, words: &str) -> usize {
        wait_for(&format!("{words:?} in {:?}", self.text()), || {
            let text = self.text();
            Some(after + text.get(after..)?.find(words)? + words.len())
        })
    }

    fn end(&mut self) -> Option<i32> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn colours_are_for_terminals_only() {
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    wait_up(&daemon, "web", 1);
    let shown = |args: &[&str], no_color: &str| {
        let mut command = circ(&daemon, args);
        command.env("NO_COLOR", no_color);
        let mut program = OnTerminal::start(command);
        let code = program.child.wait().unwrap().code();
        assert_eq!(code, Some(0));
        // The last words may come after the end.
        program.wait_shown(0, "active");
        program.text()
    };
    assert!(shown(&["status"], "").contains("\x1b[32mactive\x1b[0m"));
    let table = shown(&["status"], "1");
    assert!(
        table.contains("RESTARTS") && !table.contains('\x1b'),
        "{table:?}"
    );
    assert!(shown(&["status", "web"], "1").contains("1 of 1 processes"));
    assert_eq!(shown(&["status", "--plain"], ""), "web  active\r\n");
    assert!(!said(&daemon, &["status", "--details"]).contains('\x1b'));
}

#[test]
fn a_watched_daemon_may_go_and_come_back() {
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    let pids = wait_up(&daemon, "web", 1);
    let mut screen = OnTerminal::start(circ(&daemon, &["status", "--watch"]));
    let mut piped = circ(&daemon, &["status", "--watch", "--json"]);
    let lines = site.path("lines");
    piped.stdout(File::create(&lines).unwrap());
    piped.stderr(File::create(site.path("notes")).unwrap());
    let mut piped = piped.spawn().unwrap();
    let at = screen.wait_shown(0, "web   \x1b[32mactive\x1b[0m");
    kill(Pid::from_raw(pids[0]), Signal::SIGKILL).unwrap();
    let at = screen.wait_shown(at, "SIGKILL");
    assert!(daemon.stop().success());
    let at = screen.wait_shown(at, "lost the daemon");
    // The last picture stays.
    let at = screen.wait_shown(at, "web");
    let daemon = site.start(Program::Circ);
    let at = screen.wait_shown(at, "circ status");
    let at = screen.wait_shown(at, "web   \x1b[32mactive\x1b[0m");
    daemon.ok("stop", json!({"name": "web", "waiting": true}));
    screen.wait_shown(at, "stopped");
    assert_eq!(screen.end(), Some(0));
    screen.wait_shown(0, "\x1b[?25h\x1b[?1049l");
    // Where nobody looks it is printed when it has changed, and only then.
    let told = daemon.wait_for("the lines of the other", || {
        let text = std::fs::read_to_string(&lines).ok()?;
        let told: Vec<Value> = text
            .lines()
            .map_while(|line| serde_json::from_str(line).ok())
            .collect();
        (told.last()?["statuses"]["web"] == "stopped").then_some(told)
    });
    let states: Vec<&Value> = told.iter().map(|one| &one["statuses"]["web"]).collect();
    assert_eq!(states[0], "active", "{states:?}");
    let repeated = told.windows(2).find(|pair| {
        let [a, b] = [0, 1].map(|at| {
            let mut reply = pair[at].clone();
            reply.as_object_mut().unwrap().remove("time");
            reply
        });
        a == b
    });
    assert_eq!(repeated, None);
    let notes = std::fs::read_to_string(site.path("notes")).unwrap();
    assert!(
        notes.contains("lost the daemon: ") && notes.contains("the daemon is there again, after "),
        "{notes}"
    );
    kill(Pid::from_raw(piped.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(piped.wait().unwrap().code(), Some(0));
    // Nobody to watch from the start is an error like any other.
    drop(daemon);
    let output = Command::new(env!("CARGO_BIN_EXE_circ"))
        .args(["status", "--watch", "--endpoint", &site.endpoint])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_person_who_watches_has_keys_and_gets_the_terminal_back() {
    let Some(tmux) = Tmux::start(80, 12) else {
        return;
    };
    let site = TempSite::ipc();
    let mut ini =
        String::from("[watcher:crash]\ncmd = sh -c 'sleep 0.01; exit 3'\nmax_retry = -1\n");
    for number in 0..20 {
        ini.push_str(&format!("[watcher:w{number:02}]\ncmd = sleep 1000\n"));
    }
    site.ini(&ini);
    let daemon = site.start(Program::Circ);
    wait_up(&daemon, "w19", 1);
    let line = format!(
        "{} status --watch --endpoint {}",
        env!("CARGO_BIN_EXE_circ"),
        site.endpoint
    );
    tmux.line(&line);
    tmux.sees(&["by name", "q end", "w00", "… and 12 lines more"]);
    assert!(tmux.is_taken());
    // what has no room is a key away; the head stays
    tmux.keys(&["End"]);
    tmux.sees(&["NAME", "w19", "… 12 lines before"]);
    tmux.keys(&["Home", "Down"]);
    tmux.sees(&["w00", "… 1 lines before, 11 after"]);
    tmux.keys(&["Up"]);
    // orders
    tmux.text("rr");
    tmux.text("r");
    tmux.wait("the last first", |screen| {
        screen.contains("reversed") && screen.contains("w19") && !screen.contains("w00")
    });
    tmux.text("s");
    let first = |screen: &str| screen.lines().nth(2).unwrap_or_default().to_string();
    tmux.wait("trouble first", |screen| {
        screen.contains("by trouble") && first(screen).starts_with("crash")
    });
    // it stands still, and goes on
    tmux.text("sssss");
    tmux.sees(&["by name"]);
    tmux.keys(&["Space"]);
    tmux.sees(&["stands still"]);
    daemon.ok("stop", json!({"name": "w00", "waiting": true}));
    tmux.keys(&["Down", "Up"]);
    let still = tmux.sees(&["stands still", "w00"]);
    let line_of = |screen: &str| {
        screen
            .lines()
            .find(|line| line.starts_with("w00 "))
            .map(str::to_string)
    };
    assert!(
        line_of(&still).is_some_and(|line| line.contains("active")),
        "{still}"
    );
    tmux.keys(&["Space"]);
    tmux.wait("what has happened", |screen| {
        line_of(screen).is_some_and(|line| line.contains("stopped"))
    });
    // any size
    tmux.resize(60, 30);
    tmux.wait("all of them", |screen| {
        screen.contains("w19") && !screen.contains("lines more")
    });
    tmux.resize(20, 3);
    tmux.wait("a line", |screen| {
        screen.lines().filter(|line| !line.is_empty()).count() == 3
    });
    tmux.resize(80, 12);
    // a stop gives the terminal back, and so does every end
    tmux.sees(&["lines more"]);
    tmux.keys(&["C-z"]);
    tmux.wait("a prompt", |screen| screen.trim_end().ends_with('$'));
    assert!(!tmux.is_taken());
    tmux.line("fg");
    tmux.sees(&["lines more", "by name"]);
    tmux.text("q");
    back(&tmux, "q");
    for (key, what) in [("C-c", "interrupted"), ("C-\\", "quit")] {
        tmux.line(&line);
        tmux.sees(&["lines more", "by name"]);
        tmux.keys(&[key]);
        back(&tmux, what);
    }
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        tmux.line(&line);
        tmux.sees(&["lines more", "by name"]);
        let children = support::children(tmux.process());
        let pid = children.first().expect("a program in the window").pid;
        kill(Pid::from_raw(pid), signal).unwrap();
        back(&tmux, signal.as_str());
        wait_for("its end", || (!is_alive(pid)).then_some(()));
    }
    // where nobody looks there is nothing of a screen
    let shown = site.path("shown");
    let mut piped = circ(&daemon, &["status", "--watch", "--details"]);
    piped.stdout(File::create(&shown).unwrap());
    let mut piped = piped.spawn().unwrap();
    let text = wait_for("the table", || {
        let text = std::fs::read_to_string(&shown).unwrap();
        text.contains("w19").then_some(text)
    });
    assert!(!text.contains('\x1b'), "{text:?}");
    kill(Pid::from_raw(piped.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(piped.wait().unwrap().code(), Some(0));
}

/// The shell is there again, with its echo and its lines.
#[track_caller]
fn back(tmux: &Tmux, after: &str) {
    let words = format!("after {after}");
    tmux.wait("a prompt", |screen| screen.trim_end().ends_with('$'));
    assert!(!tmux.is_taken(), "{words}");
    tmux.line(&format!("echo {words} | tr a-z A-Z; clear"));
    tmux.line(&format!(
        "stty -a | grep -o ' icanon\\| echo ' | tr -d '\\n '; echo {words}"
    ));
    let told = format!("icanonecho{words}");
    tmux.sees(&[&told]);
    tmux.line("clear");
    tmux.wait("an empty screen", |screen| screen.trim() == "$");
}
