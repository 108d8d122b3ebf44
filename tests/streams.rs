//! Output streams into files: what workers say arrives, whole and in order, whatever happens to files, workers and daemon.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use support::{Daemon, Program, TempSite, is_alive};

/// A Python worker; gives its command.
fn python(site: &TempSite, name: &str, body: &str) -> String {
    let head = "import os, signal, sys, time\n\
                def say(data, fd=1):\n    \
                    while data:\n        data = data[os.write(fd, data):]\n";
    let path = site.write(name, format!("{head}{body}"));
    format!("python3 -S -E {}", path.display())
}

/// Says numbered lines of many lengths in odd pieces, as fast as it can, and leaves `done.WID`.
const TALKER: &str = "
wid, count = sys.argv[1], int(sys.argv[2])
data = b''.join(b'<%s %06d %s>\\n' % (wid.encode(), n, b'x' * (n * 7 % 300)) for n in range(count))
size = 1 + 4093 * int(wid)
for at in range(0, len(data), size):
    say(data[at:at + size])
open(os.path.join(os.path.dirname(__file__), 'done.' + wid), 'w').close()
time.sleep(1000)
";

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// `path` and its rotated files, the oldest first.
fn with_rotated(path: &Path) -> Vec<PathBuf> {
    let mut number = 1;
    let mut all = vec![path.to_path_buf()];
    loop {
        let old = PathBuf::from(format!("{}.{number}", path.display()));
        if !old.exists() {
            break;
        }
        all.push(old);
        number += 1;
    }
    all.reverse();
    all
}

/// The numbers of each talker, in the order of the files. Fails on anything that is no whole line.
#[track_caller]
fn numbers(files: &[PathBuf]) -> BTreeMap<String, Vec<usize>> {
    let mut all: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for file in files {
        for line in text(file).lines() {
            let parts: Vec<&str> = line
                .trim_start_matches('<')
                .trim_end_matches('>')
                .split(' ')
                .collect();
            let number: usize = parts[1]
                .parse()
                .unwrap_or_else(|_| panic!("torn: {line:?}"));
            assert!(
                line.starts_with('<') && line.ends_with('>'),
                "torn: {line:?}"
            );
            assert_eq!(parts[2].len(), number * 7 % 300, "torn: {line:?}");
            all.entry(parts[0].to_string()).or_default().push(number);
        }
    }
    all
}

fn stream_of(daemon: &Daemon, watcher: &str, stream: &str) -> Value {
    daemon.call("status", json!({"name": watcher}))["streams"][stream].clone()
}

/// Four workers and one file that is rotated all the time.
#[test]
fn lines_of_several_workers_are_whole_and_none_is_lost_over_rotation() {
    let site = TempSite::new();
    let talk = python(&site, "talk.py", TALKER);
    let log = site.path("log");
    site.ini(&format!(
        "[watcher:talk]\ncmd = {talk} $(circus.wid) 5000\nnumprocesses = 4\nstdout_stream.class = FileStream\n\
         stdout_stream.filename = {}\nstdout_stream.max_bytes = 100000\nstdout_stream.backup_count = 1000\n",
        log.display()
    ));
    let daemon = site.start(Program::Circ);
    daemon.wait_for("all to be said", || {
        (1..=4)
            .all(|wid| site.path(&format!("done.{wid}")).exists())
            .then_some(())
    });
    let complete =
        |all: &BTreeMap<String, Vec<usize>>| all.values().map(Vec::len).sum::<usize>() == 20_000;
    daemon.wait_for("all to be written", || {
        let bytes: u64 = with_rotated(&log)
            .iter()
            .filter_map(|f| Some(f.metadata().ok()?.len()))
            .sum();
        (Some(bytes) == stream_of(&daemon, "talk", "stdout")["bytes"].as_u64()).then_some(())
    });
    let files = with_rotated(&log);
    let all = numbers(&files);
    assert!(
        complete(&all),
        "{:?}",
        all.iter().map(|(k, v)| (k, v.len())).collect::<Vec<_>>()
    );
    for (wid, numbers) in &all {
        assert!(numbers.iter().copied().eq(0..5000), "{wid} is out of order");
    }
    assert!(files.len() > 20, "{}", files.len());
    for file in &files {
        let size = file.metadata().expect("it is there").len();
        assert!(size < 100_000, "{}: {size}", file.display());
    }
    assert_eq!(stream_of(&daemon, "talk", "stdout")["dropped"], 0);
}

/// Two watchers, standard output and standard error: one file.
#[test]
fn all_who_name_a_file_share_it() {
    let site = TempSite::new();
    let talk = python(
        &site,
        "talk.py",
        &TALKER.replace(
            "say(data[at:at + size])",
            "say(data[at:at + size], at // size % 2 + 1)",
        ),
    );
    let both = python(&site, "both.py", TALKER);
    let log = site.path("log");
    site.ini(&format!(
        "[watcher:talk]\ncmd = {both} 1 5000\nstdout_stream.class = FileStream\nstdout_stream.filename = {0}\n\
         [watcher:other]\ncmd = {both} 2 5000\nstderr_stream.filename = x\nstdout_stream.filename = {1}/./log\n\
         [watcher:third]\ncmd = {talk} 3 2000\nstdout_stream.filename = {1}/out\nstderr_stream.filename = {1}/out\n",
        log.display(),
        site.dir().display()
    ));
    let daemon = site.start(Program::Circ);
    daemon.wait_for("all to be said", || {
        (1..=3)
            .all(|wid| site.path(&format!("done.{wid}")).exists())
            .then_some(())
    });
    daemon.wait_for("all to be written", || {
        let bytes = |name| stream_of(&daemon, name, "stdout")["bytes"].as_u64();
        (Some(text(&log).len() as u64) == Some(bytes("talk")? + bytes("other")?)).then_some(())
    });
    let all = numbers(&[log]);
    for wid in ["1", "2"] {
        assert!(all[wid].iter().copied().eq(0..5000));
    }
    // a relative name starts from the daemon's directory
    assert!(site.path("x").exists());
}

/// Every byte there is, in a file with no line in it.
#[test]
fn bytes_arrive_as_they_were_said() {
    let site = TempSite::new();
    let worker = python(
        &site,
        "bytes.py",
        "say(bytes(range(256)) * 4000)\nsay('\\u20ac\\u6f22'.encode() * 100000)\nsay(b'no end')\ntime.sleep(1000)\n",
    );
    let log = site.path("log");
    site.ini(&format!(
        "[watcher:bytes]\ncmd = {worker}\nstdout_stream.class = circus.stream.FileStream\nstdout_stream.filename = {}\n",
        log.display()
    ));
    let daemon = site.start(Program::Circ);
    let mut wanted = (0..=255u8).collect::<Vec<u8>>().repeat(4000);
    wanted.extend("\u{20ac}\u{6f22}".repeat(100_000).bytes());
    wanted.extend(b"no end");
    // the last line has no end, and is there all the same
    let got = daemon.wait_for("all bytes", || {
        fs::read(&log).ok().filter(|got| got.len() >= wanted.len())
    });
    assert!(got == wanted, "{} bytes, not {}", got.len(), wanted.len());
}

/// What a worker says at its end, whoever ends it, and what its children say later.
#[test]
fn last_words_are_not_lost() {
    let site = TempSite::new();
    let bye = python(
        &site,
        "bye.py",
        "def bye(*_):\n    say(b''.join(b'%s %03d bye\\n' % (sys.argv[1].encode(), n) for n in range(600)))\n    os._exit(0)\n\
         signal.signal(signal.SIGTERM, bye)\nsay(b'%s hello\\n' % sys.argv[1].encode())\n\
         while True:\n    time.sleep(1000)\n",
    );
    let log = site.path("log");
    site.ini(&format!(
        "[watcher:bye]\ncmd = {bye} $(circus.wid)\nnumprocesses = 5\nstdout_stream.class = FileStream\nstdout_stream.filename = {}\n\
         stdout_stream.max_bytes = 20000\nstdout_stream.backup_count = 1000\n",
        log.display()
    ));
    let daemon = site.start(Program::Circ);
    let count = |word: &str| -> usize {
        let files = with_rotated(&log);
        files
            .iter()
            .map(|file| {
                text(file)
                    .lines()
                    .filter(|line| line.ends_with(word))
                    .count()
            })
            .sum()
    };
    let wait = |word: &str, wanted: usize| {
        daemon.wait_for(&format!("{wanted} times {word}"), || {
            (count(word) >= wanted).then_some(())
        });
        assert_eq!(count(word), wanted, "{word}");
    };
    wait("hello", 5);
    daemon.ok("stop", json!({"name": "bye", "waiting": true}));
    wait("bye", 3000);
    daemon.ok("start", json!({"name": "bye", "waiting": true}));
    wait("hello", 10);
    daemon.ok("reload", json!({"name": "bye", "waiting": true}));
    wait("hello", 15);
    wait("bye", 6000);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    assert_eq!(count("bye"), 9000);
}

/// A worker that has ended, and its child that has not.
#[test]
fn a_grandchild_that_goes_on_is_heard() {
    let site = TempSite::new();
    let parent = python(
        &site,
        "parent.py",
        "if os.fork() == 0:\n    os.setsid()\n    open('grandchild', 'w').write(str(os.getpid()))\n    \
             while not os.path.exists('go'):\n        time.sleep(0.01)\n    say(b'grandchild\\n')\n    os._exit(0)\n\
         while not os.path.exists('grandchild'):\n    time.sleep(0.01)\n\
         say(b'parent\\n')\n",
    );
    site.ini(&format!(
        "[watcher:family]\ncmd = {parent}\nrespawn = False\nworking_dir = {0}\nstdout_stream.class = FileStream\n\
         stdout_stream.filename = {0}/log\n",
        site.dir().display()
    ));
    let daemon = site.start(Program::Circ);
    let log = site.path("log");
    daemon.wait_for("the parent", || (text(&log) == "parent\n").then_some(()));
    daemon.wait_for("its end", || {
        (daemon.call("status", json!({"name": "family"}))["status"] == "stopped").then_some(())
    });
    site.write("go", "");
    daemon.wait_for("the grandchild", || {
        (text(&log) == "parent\ngrandchild\n").then_some(())
    });
}

/// `set` changes a stream under running workers; so does a changed file. A stream that was not there needs new workers.
#[test]
fn a_stream_is_changed_live() {
    let site = TempSite::new();
    let ticks = python(
        &site,
        "ticks.py",
        "n = 0\nwhile True:\n    say(b'%d\\n' % n)\n    n += 1\n    time.sleep(0.01)\n",
    );
    let ini = |name: &str| {
        site.ini(&format!(
            "[watcher:web]\ncmd = {ticks}\nstdout_stream.class = FileStream\nstdout_stream.filename = {0}/{name}\n\
             [watcher:plain]\ncmd = sleep 1000\n",
            site.dir().display()
        ));
    };
    ini("one");
    let daemon = site.start(Program::Circ);
    let pid = daemon.wait_pids("web", 1)[0];
    let wait_line = |name: &str, starts: &dyn Fn(&str) -> bool| {
        let path = site.path(name);
        daemon.wait_for(name, || text(&path).lines().any(starts).then_some(()));
    };
    wait_line("one", &|_| true);
    let set = |options: Value| {
        daemon.ok(
            "set",
            json!({"name": "web", "options": options, "waiting": true}),
        )
    };
    let two = site.path("two");
    set(json!({"stdout_stream.filename": two}));
    wait_line("two", &|_| true);
    set(json!({"stdout_stream.time_format": "%Y at"}));
    let head = format!("at [{pid}] | ");
    wait_line("two", &|line| line.contains(&head));
    ini("three");
    daemon.ok("reloadconfig", json!({"waiting": true}));
    wait_line("three", &|_| true);
    assert_eq!(daemon.pids("web"), [pid]);
    // nothing was left out on the way
    let mut said: Vec<u64> = Vec::new();
    for name in ["one", "two", "three"] {
        let all = text(&site.path(name));
        let lines = all
            .lines()
            .map(|line| line.rsplit(' ').next().unwrap_or(line));
        said.extend(lines.filter_map(|line| line.parse::<u64>().ok()));
    }
    assert!(said.iter().copied().eq(0..said.len() as u64), "{said:?}");
    let bad = json!({"name": "web", "options": {"stdout_stream.class": "FileSteam"}});
    let reply = daemon.call("set", bad);
    assert!(
        reply["reason"]
            .as_str()
            .is_some_and(|why| why.contains("did you mean FileStream?")),
        "{reply}"
    );
    let old = daemon.wait_pids("plain", 1)[0];
    let options = json!({"stdout_stream": {"class": "FileStream", "filename": site.path("plain")}});
    daemon.ok(
        "set",
        json!({"name": "plain", "options": options, "waiting": true}),
    );
    assert_ne!(daemon.wait_pids("plain", 1)[0], old);
    assert!(!is_alive(old));
}

/// A file that cannot be opened or written stops no worker; when it can, what was said is there.
#[test]
fn a_file_that_cannot_be_written_is_tried_again() {
    let site = TempSite::new();
    let talk = python(&site, "talk.py", "say(b'one\\n')\ntime.sleep(1000)\n");
    let flood = python(
        &site,
        "flood.py",
        "while True:\n    say(b'y' * 99 + b'\\n')\n",
    );
    site.ini(&format!(
        "[watcher:late]\ncmd = {talk}\nstdout_stream.class = FileStream\nstdout_stream.filename = {0}/no/log\n\
         [watcher:full]\ncmd = {flood}\nstdout_stream.filename = /dev/full\nstdout_stream.overflow = drop\n\
         [watcher:good]\ncmd = {talk}\nstdout_stream.filename = {0}/good\n",
        site.dir().display()
    ));
    let daemon = site.start(Program::Circ);
    daemon.wait_for("the good one", || {
        (text(&site.path("good")) == "one\n").then_some(())
    });
    let trouble = daemon.wait_for("its trouble", || {
        stream_of(&daemon, "late", "stdout")["trouble"]
            .as_str()
            .map(str::to_string)
    });
    assert!(
        trouble.contains("cannot open") && trouble.contains("no/log"),
        "{trouble}"
    );
    daemon.wait_for("bytes that are dropped", || {
        let full = stream_of(&daemon, "full", "stdout");
        assert!(full["bytes"].as_u64() >= full["dropped"].as_u64());
        (full["dropped"].as_u64()? > 1 << 20).then_some(())
    });
    assert!(
        stream_of(&daemon, "full", "stdout")["trouble"]
            .as_str()
            .is_some_and(|t| t.contains("No space left"))
    );
    let pids = [daemon.wait_pids("late", 1), daemon.wait_pids("full", 1)];
    fs::create_dir(site.path("no")).expect("our own directory");
    daemon.wait_for("the late line", || {
        (text(&site.path("no/log")) == "one\n").then_some(())
    });
    daemon.wait_for("no trouble", || {
        stream_of(&daemon, "late", "stdout")["trouble"]
            .is_null()
            .then_some(())
    });
    assert_eq!([daemon.pids("late"), daemon.pids("full")], pids);
    let log = daemon.log();
    assert_eq!(log.matches("/no/log: No such file").count(), 1, "{log}");
    assert!(log.contains("it works again"), "{log}");
}

/// A destination that takes nothing holds its own workers, and neither others nor the daemon.
#[test]
fn a_destination_that_hangs_holds_nobody_else() {
    let site = TempSite::new();
    let talk = python(&site, "talk.py", TALKER);
    let flood = python(
        &site,
        "flood.py",
        "while True:\n    say(b'y' * 99 + b'\\n')\n",
    );
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    let mut held = Vec::new();
    for name in ["stuck", "stuck-too"] {
        nix::unistd::mkfifo(&site.path(name), mode).expect("a pipe");
        // Somebody has it open, and never reads.
        held.push(
            fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(site.path(name)),
        );
    }
    nix::unistd::mkfifo(&site.path("unread"), mode).expect("a pipe");
    let mut body = String::new();
    for (name, overflow) in [
        ("stuck", "block"),
        ("stuck-too", "drop"),
        ("unread", "block"),
    ] {
        body += &format!(
            "[watcher:{name}]\ncmd = {flood}\ngraceful_timeout = 1\nstdout_stream.filename = {}/{name}\n\
             stdout_stream.overflow = {overflow}\n",
            site.dir().display()
        );
    }
    body += &format!(
        "[watcher:talk]\ncmd = {talk} 1 5000\nstdout_stream.filename = {}\n",
        site.path("log").display()
    );
    site.ini(&body);
    let daemon = site.start(Program::Circ);
    daemon.wait_for("all to be said", || {
        site.path("done.1").exists().then_some(())
    });
    let log = site.path("log");
    daemon.wait_for("all to be written", || {
        (text(&log).lines().count() == 5000).then_some(())
    });
    // who waits stands still, who does not goes on
    let bytes = |name| {
        stream_of(&daemon, name, "stdout")["bytes"]
            .as_u64()
            .unwrap_or(0)
    };
    daemon.wait_for("bytes that are dropped", || {
        let told = stream_of(&daemon, "stuck-too", "stdout");
        (told["dropped"].as_u64()? > 4 << 20).then_some(())
    });
    let (before, other) = (bytes("stuck"), bytes("stuck-too"));
    daemon.wait_for("the one to go on", || {
        (bytes("stuck-too") > other + (1 << 20)).then_some(())
    });
    assert_eq!(bytes("stuck"), before);
    assert_eq!(stream_of(&daemon, "stuck", "stdout")["dropped"], 0);
    for name in ["stuck", "stuck-too", "unread"] {
        daemon.ok("restart", json!({"name": name, "waiting": true}));
    }
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    drop(held);
}

/// A line without its end, in a file that others write: it waits for its end, or for the daemon's.
#[test]
fn a_line_without_an_end_is_written_in_the_end() {
    let site = TempSite::new();
    let half = python(
        &site,
        "half.py",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
         if os.fork() == 0:\n    os.setsid()\n    say(b'half')\n    open('said', 'w').close()\n    time.sleep(1000)\n\
         time.sleep(1000)\n",
    );
    let log = site.path("log");
    site.ini(&format!(
        "[watcher:half]\ncmd = {half}\nworking_dir = {0}\nstdout_stream.filename = {0}/log\nstop_signal = 9\n\
         [watcher:other]\ncmd = sleep 1000\nstdout_stream.filename = {0}/log\n\
         [watcher:json]\ncmd = {half}\nworking_dir = {0}\nstop_signal = 9\nstdout_stream.class = JsonStream\n\
         stdout_stream.filename = {0}/json\n",
        site.dir().display()
    ));
    let daemon = site.start(Program::Circ);
    daemon.wait_for("half a line", || site.path("said").exists().then_some(()));
    for name in ["half", "json"] {
        daemon.wait_for("half a line", || {
            (stream_of(&daemon, name, "stdout")["bytes"] == 4).then_some(())
        });
    }
    assert_eq!(
        (text(&log), text(&site.path("json"))),
        (String::new(), String::new())
    );
    // the children that hold the pipes outlive their workers and the daemon
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    assert_eq!(text(&log), "half");
    let json: Value = serde_json::from_str(&text(&site.path("json"))).expect("one object");
    assert_eq!(json["line"], "half");
}
