//! The classes of output streams: what each makes of what workers say. Where the real circusd has the class, the same test
//! asks it too.

mod support;

use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use support::{Daemon, Program, TempSite};

const BOTH: [Program; 2] = [Program::Circ, Program::Circusd];

/// A worker that runs this shell script and then stays.
fn worker(site: &TempSite, name: &str, body: &str) -> String {
    let path = site.write(&format!("{name}.sh"), format!("{body}\nexec sleep 1000\n"));
    format!("/bin/sh {}", path.display())
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The files beside `path` that have its name and more.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let prefix = format!("{}.", path.display());
    let directory = path.parent().expect("a file is somewhere");
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|other| other.to_string_lossy().starts_with(&prefix))
        .collect();
    all.sort();
    all
}

#[track_caller]
fn wait_text(daemon: &Daemon, path: &Path, done: impl Fn(&str) -> bool) -> String {
    daemon.wait_for(&format!("{} to be complete", path.display()), || {
        Some(text(path)).filter(|text| done(text))
    })
}

fn logtail(daemon: &Daemon, name: &str, stream: &str) -> Value {
    daemon.ok("logtail", json!({"name": name, "stream": stream}))
}

/// Time and pid before each line, by both daemons.
#[test]
fn time_format_is_before_each_line() {
    for program in BOTH {
        let site = TempSite::new();
        let talk = worker(
            &site,
            "talk",
            "printf 'one\\ntwo\\n'; sleep 0.3; echo three",
        );
        let mut ini = String::new();
        for class in ["FileStream", "WatchedFileStream", "TimedRotatingFileStream"] {
            ini += &format!(
                "[watcher:{class}]\ncmd = {talk}\nstdout_stream.class = {class}\nstdout_stream.filename = {}/{class}\n\
                 stdout_stream.time_format = at %Y-%m-%d %H:%M:%S\nstdout_stream.rotate_when = H\n",
                site.dir().display()
            );
        }
        site.ini(&ini);
        let daemon = site.start(program);
        for class in ["FileStream", "WatchedFileStream", "TimedRotatingFileStream"] {
            let pid = daemon.wait_pids(class, 1)[0];
            let log = wait_text(&daemon, &site.path(class), |text| text.lines().count() >= 3);
            let head = regex::Regex::new(&format!(
                r"^at \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d \[{pid}\] \| (one|two|three)$"
            ));
            let head = head.expect("an expression");
            assert!(
                log.lines().all(|line| head.is_match(line)),
                "{program:?} {class}: {log}"
            );
        }
    }
}

/// `StdoutStream` and `FancyStdoutStream` go to the daemon's standard output, whichever output they come from.
#[test]
fn standard_output_plain_and_fancy() {
    for program in BOTH {
        let site = TempSite::new();
        let talk = worker(&site, "talk", "echo plain-out; echo plain-err >&2");
        let fancy = worker(&site, "fancy", "echo fancy-out; echo fancy-err >&2");
        site.ini(&format!(
            "[watcher:plain]\ncmd = {talk}\nstdout_stream.class = StdoutStream\nstderr_stream.class = circus.stream.StdoutStream\n\
             [watcher:fancy]\ncmd = {fancy}\nstdout_stream.class = FancyStdoutStream\nstdout_stream.color = green\n\
             stdout_stream.time_format = T%H\nstderr_stream.class = FancyStdoutStream\n"
        ));
        let daemon = site.start(program);
        let pid = daemon.wait_pids("fancy", 1)[0];
        let log = daemon.wait_for("the lines", || {
            let log = daemon.log();
            let all = ["plain-out", "plain-err", "fancy-out", "fancy-err"];
            all.iter().all(|line| log.contains(line)).then_some(log)
        });
        let green = regex::Regex::new(&format!(
            "(?m)^\x1b\\[0;32;40mT\\d\\d \\[{pid}\\] \\| fancy-out\x1b\\[0m$"
        ));
        assert!(
            green.expect("an expression").is_match(&log),
            "{program:?}: {log:?}"
        );
        let any = regex::Regex::new(&format!(
            "(?m)^\x1b\\[0;3[1-7];40m\\d{{4}}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d \\[{pid}\\] \\| fancy-err\x1b\\[0m$"
        ));
        assert!(
            any.expect("an expression").is_match(&log),
            "{program:?}: {log:?}"
        );
        if program == Program::Circ {
            // what is in no file can be asked for
            let told = logtail(&daemon, "plain", "stderr");
            assert_eq!(
                (&told["text"], &told["end"]),
                (&json!("plain-err\n"), &json!(10))
            );
            assert_eq!(told["class"], "circus.stream.StdoutStream");
        }
    }
}

/// A file that somebody else moves is made anew, by both daemons.
#[test]
fn a_watched_file_is_made_anew() {
    for program in BOTH {
        let site = TempSite::new();
        let ticks = worker(&site, "ticks", "while :; do echo tick; sleep 0.05; done");
        let log = site.path("log");
        site.ini(&format!(
            "[watcher:web]\ncmd = {ticks}\nstdout_stream.class = WatchedFileStream\nstdout_stream.filename = {}\n",
            log.display()
        ));
        let daemon = site.start(program);
        wait_text(&daemon, &log, |text| !text.is_empty());
        fs::rename(&log, site.path("moved")).expect("our own file");
        wait_text(&daemon, &log, |text| text.starts_with("tick\n"));
        // a line that was on its way when the file was moved
        let moved = text(&site.path("moved"));
        assert!(moved.lines().all(|line| line == "tick"), "{moved}");
    }
}

/// A rotated file by date, as Circus names it; the number of them is kept.
#[test]
fn a_file_is_rotated_by_time() {
    let name = regex::Regex::new(r"/log\.\d{14}$").expect("an expression");
    for program in BOTH {
        let site = TempSite::new();
        let ticks = worker(
            &site,
            "ticks",
            "n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done",
        );
        let log = site.path("log");
        // circusd knows the capital only
        let when = if program == Program::Circ { "s" } else { "S" };
        site.ini(&format!(
            "[watcher:web]\ncmd = {ticks}\nstdout_stream.class = TimedRotatingFileStream\nstdout_stream.filename = {}\n\
             stdout_stream.rotate_when = {when}\nstdout_stream.rotate_interval = 1\nstdout_stream.backup_count = 2\n",
            log.display()
        ));
        let daemon = site.start(program);
        daemon.wait_for("three rotations", || {
            let first = rotated(&log).first().map(|file| text(file));
            // the first file is gone
            first
                .filter(|first| !first.starts_with("0\n"))
                .filter(|first| !first.is_empty())
        });
        daemon.ok("stop", json!({"name": "web", "waiting": true}));
        let files = rotated(&log);
        assert_eq!(files.len(), 2, "{program:?}: {files:?}");
        for file in &files {
            assert!(name.is_match(&file.to_string_lossy()), "{}", file.display());
        }
        let mut all = String::new();
        for file in files.iter().chain([&log]) {
            all += &text(file);
        }
        let numbers: Vec<u64> = all
            .lines()
            .map(|line| line.parse().expect("a number"))
            .collect();
        let first = numbers[0];
        if program == Program::Circ {
            assert!(
                numbers
                    .iter()
                    .copied()
                    .eq(first..first + numbers.len() as u64),
                "{numbers:?}"
            );
        }
    }
}

/// One JSON object a line, in a file that is rotated by size and by whole objects; compressed after that.
#[test]
fn json_lines_rotated_and_compressed() {
    let site = TempSite::new();
    let talk = worker(
        &site,
        "talk",
        "seq 1 2000; printf '\\377\"\\n'; echo done >&2",
    );
    let log = site.path("log");
    site.ini(&format!(
        "[watcher:web]\ncmd = {talk}\nstdout_stream.class = JsonStream\nstdout_stream.filename = {0}\nstderr_stream.class = JsonStream\n\
         stderr_stream.filename = {0}\nstdout_stream.max_bytes = 20KB\nstdout_stream.backup_count = 1000\n\
         stdout_stream.compress = gzip\nstderr_stream.max_bytes = 20KB\nstderr_stream.backup_count = 1000\n\
         stderr_stream.compress = gzip\n",
        log.display()
    ));
    let daemon = site.start(Program::Circ);
    let pid = daemon.wait_pids("web", 1)[0];
    let lines = daemon.wait_for("all lines", || {
        let mut lines = Vec::new();
        let mut files = rotated(&log);
        // the oldest first: the highest number
        let number = |file: &PathBuf| -> u32 {
            let name = file.to_string_lossy().replace(".gz", "");
            name.rsplit('.')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0)
        };
        files.sort_by_key(|file| std::cmp::Reverse(number(file)));
        for file in &files {
            if file.extension()? != "gz" {
                return None;
            }
            let mut text = String::new();
            flate2::read::GzDecoder::new(fs::File::open(file).ok()?)
                .read_to_string(&mut text)
                .ok()?;
            assert!(
                text.len() < 20 << 10 && text.ends_with("}\n"),
                "{}",
                text.len()
            );
            lines.extend(text.lines().map(str::to_string));
        }
        lines.extend(text(&log).lines().map(str::to_string));
        (lines.len() == 2002).then_some(lines)
    });
    let mut said = Vec::new();
    for line in lines {
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            (&line["watcher"], &line["wid"], &line["pid"]),
            (&json!("web"), &json!(1), &json!(pid))
        );
        assert!(
            line["time"]
                .as_str()
                .is_some_and(|time| time.ends_with('Z')),
            "{line}"
        );
        if line["stream"] == "stdout" {
            said.push(line["line"].as_str().expect("a text").to_string());
        } else {
            assert_eq!(line["line"], "done");
        }
    }
    let mut wanted: Vec<String> = (1..=2000).map(|n| n.to_string()).collect();
    wanted.push("\u{fffd}\"".to_string());
    assert_eq!(said, wanted);
}

/// One message a line, to a socket in the file system and over the network.
#[test]
fn syslog_gets_a_message_for_each_line() {
    let site = TempSite::new();
    let unix = UnixDatagram::bind(site.path("log.sock")).expect("a socket");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = udp.local_addr().expect("its address").port();
    let wait = Some(support::deadline());
    unix.set_read_timeout(wait).expect("a limit");
    udp.set_read_timeout(wait).expect("a limit");
    let talk = worker(&site, "talk", "printf 'one\\ntwo\\n'; echo bad >&2");
    site.ini(&format!(
        "[watcher:web]\ncmd = {talk}\nstdout_stream.class = SyslogStream\nstdout_stream.address = {}/log.sock\n\
         stdout_stream.facility = local3\nstdout_stream.tag = shop\nstderr_stream.class = SyslogStream\n\
         stderr_stream.address = udp://127.0.0.1:{port}\n",
        site.dir().display()
    ));
    let daemon = site.start(Program::Circ);
    let pid = daemon.wait_pids("web", 1)[0];
    let time = r"[A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d";
    let mut buffer = [0u8; 2048];
    for line in ["one", "two"] {
        let count = unix.recv(&mut buffer).expect("a message");
        let message = String::from_utf8_lossy(&buffer[..count]);
        // local3 is 19, info is 6
        let wanted = regex::Regex::new(&format!(r"^<158>{time} shop\[{pid}\]: {line}$"));
        assert!(
            wanted.expect("an expression").is_match(&message),
            "{message}"
        );
    }
    let count = udp.recv(&mut buffer).expect("a message");
    let message = String::from_utf8_lossy(&buffer[..count]);
    let wanted = regex::Regex::new(&format!(r"^<27>{time} [^ ]+ web\[{pid}\]: bad$"));
    assert!(
        wanted.expect("an expression").is_match(&message),
        "{message}"
    );
}

/// A system log that is away for a while loses nothing.
#[test]
fn syslog_that_comes_back_gets_what_was_said() {
    let site = TempSite::new();
    let talk = worker(&site, "talk", "seq 1 100");
    site.ini(&format!(
        "[watcher:web]\ncmd = {talk}\nstdout_stream.class = SyslogStream\nstdout_stream.address = {}/log.sock\n",
        site.dir().display()
    ));
    let daemon = site.start(Program::Circ);
    daemon.wait_for("the trouble", || {
        let status = daemon.call("status", json!({"name": "web"}));
        status["streams"]["stdout"]["trouble"]
            .as_str()
            .map(str::to_string)
    });
    let unix = UnixDatagram::bind(site.path("log.sock")).expect("a socket");
    unix.set_read_timeout(Some(support::deadline()))
        .expect("a limit");
    let mut buffer = [0u8; 2048];
    for number in 1..=100 {
        let count = unix.recv(&mut buffer).expect("a message");
        let message = String::from_utf8_lossy(&buffer[..count]);
        assert!(message.ends_with(&format!("]: {number}")), "{message}");
    }
}

/// The journal's own protocol: every field with its length.
#[test]
fn journald_gets_an_entry_for_each_line() {
    let site = TempSite::new();
    let journal = UnixDatagram::bind(site.path("journal")).expect("a socket");
    journal
        .set_read_timeout(Some(support::deadline()))
        .expect("a limit");
    let talk = worker(&site, "talk", "printf 'one\\n\\377two\\n' >&2");
    site.ini(&format!(
        "[watcher:web]\ncmd = {talk}\nstderr_stream.class = JournaldStream\nstderr_stream.path = {}/journal\n\
         stderr_stream.level = notice\n",
        site.dir().display()
    ));
    let daemon = site.start(Program::Circ);
    let pid = daemon.wait_pids("web", 1)[0].to_string();
    for line in [b"one".as_slice(), b"\xfftwo"] {
        let mut buffer = [0u8; 2048];
        let count = journal.recv(&mut buffer).expect("an entry");
        let fields = fields(&buffer[..count]);
        let get = |name: &str| {
            let field = fields.iter().find(|(field, _)| field == name);
            field.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        assert_eq!(get("MESSAGE"), line);
        for (name, value) in [
            ("PRIORITY", "5"),
            ("SYSLOG_IDENTIFIER", "web"),
            ("SYSLOG_PID", pid.as_str()),
            ("CIRCUS_WATCHER", "web"),
            ("CIRCUS_WID", "1"),
            ("CIRCUS_STREAM", "stderr"),
        ] {
            assert_eq!(get(name), value.as_bytes(), "{name}");
        }
    }
}

fn fields(mut entry: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(end) = entry.iter().position(|byte| *byte == b'\n') {
        let name = String::from_utf8_lossy(&entry[..end]).into_owned();
        let length = entry[end + 1..end + 9].try_into().map(u64::from_le_bytes);
        let length = length.expect("a length") as usize;
        all.push((name, entry[end + 9..end + 9 + length].to_vec()));
        entry = &entry[end + 10 + length..];
    }
    all
}

/// What nobody reads is kept in part, and can be followed.
#[test]
fn the_end_of_a_queue_can_be_followed() {
    let site = TempSite::new();
    let talk = worker(
        &site,
        "talk",
        "seq 1 100000; while ! [ -e go ]; do sleep 0.05; done; echo more",
    );
    site.ini(&format!(
        "[watcher:web]\ncmd = {talk}\nworking_dir = {}\nstdout_stream.class = QueueStream\n[watcher:plain]\ncmd = sleep 1000\n\
         stdout_stream.filename = plain\n",
        site.dir().display()
    ));
    let daemon = site.start(Program::Circ);
    let told = daemon.wait_for("its end", || {
        let told = logtail(&daemon, "web", "stdout");
        told["text"]
            .as_str()?
            .ends_with("\n99999\n100000\n")
            .then_some(told)
    });
    assert_eq!(told["end"], 588_895);
    assert_eq!(told["text"].as_str().map(str::len), Some(64 << 10));
    site.write("go", "");
    let after = json!({"name": "web", "after": told["end"]});
    daemon.wait_for("what follows", || {
        let told = daemon.ok("logtail", after.clone());
        (told["text"] == "more\n").then_some(())
    });
    let few = daemon.ok("logtail", json!({"name": "web", "bytes": 5}));
    assert_eq!(few["text"], "more\n");
    let told = logtail(&daemon, "plain", "stdout");
    let file = site.path("plain");
    assert_eq!((&told["file"], &told["text"]), (&json!(file), &Value::Null));
    assert_eq!(logtail(&daemon, "plain", "stderr")["class"], Value::Null);
    for bad in [
        json!({"name": "none"}),
        json!({"name": "web", "stream": "stdin"}),
        json!({}),
    ] {
        assert_eq!(daemon.call("logtail", bad)["status"], "error");
    }
}

/// A file stream without a name has a file all the same.
#[test]
fn a_file_stream_without_a_name_goes_to_the_temporary_directory() {
    let site = TempSite::new();
    let talk = worker(&site, "talk", "echo hello");
    site.ini(&format!(
        "[watcher:web]\ncmd = {talk}\nstdout_stream.class = FileStream\n"
    ));
    let daemon = site.start_with(Program::Circ, |command| {
        command.env("TMPDIR", site.dir());
    });
    daemon.wait_for("the line in some file", || {
        let entries = fs::read_dir(site.dir()).ok()?.flatten();
        let mut files = entries.map(|entry| entry.path());
        files.find(|file| file.to_string_lossy().contains("circ-") && text(file) == "hello\n")
    });
    assert!(daemon.log().contains("has no filename and goes to"));
}

/// Files that somebody has moved are opened anew on command: one watcher's, all, and by signal.
#[test]
fn files_are_opened_anew_on_command() {
    let site = TempSite::new();
    let ticks = worker(&site, "ticks", "while :; do echo tick; sleep 0.05; done");
    let mut ini = String::new();
    for name in ["a", "b"] {
        ini += &format!(
            "[watcher:{name}]\ncmd = {ticks}\nstdout_stream.filename = {}/{name}.log\n",
            site.dir().display()
        );
    }
    site.ini(&ini);
    let daemon = site.start(Program::Circ);
    let (a, b) = (site.path("a.log"), site.path("b.log"));
    let moved = |round: u32| {
        for log in [&a, &b] {
            wait_text(&daemon, log, |text| !text.is_empty());
            fs::rename(log, format!("{}.{round}", log.display())).expect("our own file");
        }
    };
    moved(1);
    daemon.ok("reopenlogs", json!({"name": "a"}));
    wait_text(&daemon, &a, |text| !text.is_empty());
    assert!(!b.exists());
    daemon.ok("reopenlogs", json!({}));
    moved(2);
    daemon.signal(nix::sys::signal::Signal::SIGUSR2);
    moved(3);
    assert_eq!(
        daemon.call("reopenlogs", json!({"name": "none"}))["status"],
        "error"
    );
    // one that is moved while nobody writes is there again at once
    daemon.ok("reopenlogs", json!({}));
    daemon.ok("stop", json!({"waiting": true}));
    assert_eq!(daemon.exited(), None);
}

/// What cannot be used is an error of the file, with its line, and starts nothing.
#[test]
fn a_stream_that_cannot_be_used_is_an_error_of_the_file() {
    for (keys, words) in [
        (
            "stdout_stream.class = FileSteam",
            ["stdout_stream.class", "did you mean FileStream?"],
        ),
        (
            "stdout_stream.filename = x\nstdout_stream.max_bytes = many",
            ["stdout_stream.max_bytes", "'many' is not a number"],
        ),
        (
            "stderr_stream.class = TimedRotatingFileStream",
            ["rotate_when", "needs it: one of S, M, H"],
        ),
        (
            "stdout_stream.filename = x\nstdout_stream.overflow = spill",
            ["stdout_stream.overflow", "none of block, drop"],
        ),
    ] {
        let site = TempSite::new();
        let ini = site.ini(&format!("[watcher:web]\ncmd = sleep 1000\n{keys}\n"));
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_circ"))
            .args(["config", "check"])
            .arg(&ini)
            .output();
        let out = out.expect("circ runs");
        let told = format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        assert!(!out.status.success(), "{told}");
        for word in words {
            assert!(told.contains(word), "{word} in {told}");
        }
    }
    let site = TempSite::new();
    site.ini(
        "[watcher:web]\ncmd = sleep 1000\nstdout_stream.filename = x\nstdout_stream.max_byte = 1\n\
         stderr_stream.class = TimedRotatingFileStream\nstderr_stream.filename = y\nstderr_stream.rotate_when = D\n\
         stderr_stream.max_bytes = 1\n",
    );
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let log = daemon.log();
    for word in [
        "did you mean max_bytes?",
        "max_bytes: has no effect with TimedRotatingFileStream",
    ] {
        assert!(log.contains(word), "{word} in {log}");
    }
}
