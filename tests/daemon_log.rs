//! The daemon's own log: where it goes, in which form, and that nothing ever waits for it.

mod support;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use regex::Regex;
use serde_json::{Value, json};
use support::{Daemon, Program, TempSite, wait_for};

const WEB: &str = "[watcher:web]\ncmd = sleep 1000\n";

/// Takes messages until one of them contains `wanted`; returns that one.
fn message_with(wanted: &str, mut next: impl FnMut(&mut [u8]) -> std::io::Result<usize>) -> String {
    let mut buffer = [0; 64 * 1024];
    wait_for(wanted, || {
        let length = next(&mut buffer).ok()?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        text.contains(wanted).then_some(text)
    })
}

/// Time and pid of a line, masked.
fn masked(line: &str) -> String {
    let time = Regex::new(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
        .expect("a pattern");
    let pid = Regex::new(r"circus\[\d+\]").expect("a pattern");
    let line = time.replace(line, "TIME");
    pid.replace(&line, "circus[PID]").into_owned()
}

fn text_of(site: &TempSite, name: &str) -> String {
    fs::read_to_string(site.path(name)).unwrap_or_default()
}

fn wait_text(daemon: &Daemon<'_>, name: &str, wanted: &str) -> String {
    let path = daemon_path(daemon, name);
    daemon.wait_for(&format!("{wanted:?} in {name}"), || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        text.contains(wanted).then_some(text)
    })
}

fn daemon_path(daemon: &Daemon<'_>, name: &str) -> std::path::PathBuf {
    fs::read_link(format!("/proc/{}/cwd", daemon.pid()))
        .expect("a working directory")
        .join(name)
}

/// What arrives at a syslog daemon is what circusd sends, but for the NUL that Python ends it with.
#[test]
fn syslog_on_a_socket_and_on_the_network_as_circusd() {
    for program in [Program::Circusd, Program::Circ] {
        let site = TempSite::ipc();
        let socket = UnixDatagram::bind(site.path("log")).expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a timeout");
        let path = site.path("log");
        site.ini(&format!(
            "logoutput = syslog://{}?local3\n{WEB}",
            path.display()
        ));
        let daemon = site.start(program);
        let told = message_with("web started", |buffer| socket.recv(buffer));
        assert_eq!(
            masked(told.trim_end_matches('\0')),
            "<158>TIME circus[PID] [INFO] web started",
            "{program:?}"
        );
        drop(daemon);

        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a timeout");
        let port = socket.local_addr().expect("bound").port();
        let daemon = site.start_with(program, |command| {
            command.args([
                "--log-output",
                &format!("syslog://127.0.0.1:{port}?no-such-facility"),
            ]);
        });
        let told = message_with("web started", |buffer| socket.recv(buffer));
        assert_eq!(
            masked(told.trim_end_matches('\0')),
            "<14>TIME circus[PID] [INFO] web started",
            "{program:?}"
        );
        drop(daemon);
    }
}

#[test]
fn a_syslog_daemon_that_comes_later() {
    let site = TempSite::ipc();
    let path = site.path("log");
    site.ini(&format!("logoutput = syslog://{}\n{WEB}", path.display()));
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a timeout");
    let told = message_with("log lines lost", |buffer| {
        daemon.ok("restart", json!({"name": "web"}));
        socket.recv(buffer)
    });
    assert!(
        told.contains("[WARNING]") && told.contains("No such file"),
        "{told}"
    );
}

/// Both daemons write what a configuration of Python's logging says, in its formats and at its levels.
#[test]
fn loggerconfig_as_circusd() {
    let config = json!({
        "version": 1,
        "formatters": {"simple": {"format": "%(asctime)s|%(name)s|%(levelname)-8s|%(message)s", "datefmt": "%Y-%m-%d %H:%M:%S"}},
        "handlers": {
            "all": {"class": "logging.FileHandler", "filename": "all.txt", "formatter": "simple"},
            "bad": {"class": "logging.handlers.WatchedFileHandler", "filename": "bad.txt", "level": "ERROR"},
            "rotated": {"class": "logging.handlers.RotatingFileHandler", "filename": "rotated.txt", "maxBytes": 100, "backupCount": 2},
        },
        "loggers": {"circus": {"level": "INFO", "handlers": ["all", "bad"]}},
        "root": {"level": "ERROR", "handlers": ["rotated"]},
    });
    for program in [Program::Circusd, Program::Circ] {
        let site = TempSite::ipc();
        site.write("log.json", config.to_string());
        site.ini(&format!(
            "loggerconfig = log.json\nloglevel = error\nlogoutput = not.this\n{WEB}"
        ));
        let daemon = site.start(program);
        let all = wait_text(&daemon, "all.txt", "web started");
        let line = all
            .lines()
            .find(|line| line.contains("web started"))
            .expect("a line");
        assert_eq!(
            masked(line),
            "TIME|circus|INFO    |web started",
            "{program:?}"
        );
        daemon.ok("reload", json!({"name": "web", "waiting": true}));
        daemon.wait_for("rotation", || {
            site.path("rotated.txt.1").exists().then_some(())
        });
        assert!(text_of(&site, "rotated.txt").len() <= 100, "{program:?}");
        assert!(!site.path("not.this").exists());
        assert_eq!(text_of(&site, "bad.txt"), "");
    }
}

#[test]
fn loggerconfig_in_its_other_formats_and_wrong() {
    let site = TempSite::ipc();
    let yaml = "version: 1\nhandlers:\n  file:\n    class: logging.FileHandler\n    filename: yaml.txt\n  mail:\n    \
                class: logging.handlers.SMTPHandler\nroot:\n  level: INFO\n  handlers: [file, mail]\n";
    site.write("log.yaml", yaml);
    site.write(
        "log.ini",
        "[loggers]\nkeys=root\n[handlers]\nkeys=file\n[formatters]\nkeys=\n[logger_root]\nlevel=INFO\nhandlers=file\n\
         [handler_file]\nclass=FileHandler\nargs=('ini.txt', 'w')\n",
    );
    site.write("bad.json", "{\"handlers\":\n oops");
    site.ini(WEB);
    for (config, file) in [("log.yaml", "yaml.txt"), ("log.ini", "ini.txt")] {
        let daemon = site.start_with(Program::Circ, |command| {
            command.args(["--logger-config", config]);
        });
        wait_text(&daemon, file, "web started");
    }
    let told = text_of(&site, "yaml.txt");
    assert!(
        told.contains("log.yaml: handlers.mail: logging.handlers.SMTPHandler is Python's alone"),
        "{told}"
    );
    for (config, reason) in [
        ("bad.json", "line 2"),
        ("none.json", "No such file"),
        ("log.xml", "log.xml"),
    ] {
        let daemon = site.spawn(Program::Circ, |command| {
            command.args(["--logger-config", config]);
        });
        assert_eq!(daemon.wait_exit().code(), Some(1));
        assert!(
            daemon.log().contains(reason) && daemon.log().contains(config),
            "{}",
            daemon.log()
        );
    }
    // circusd's word for what happens without it
    let daemon = site.start_with(Program::Circ, |command| {
        command.args(["--logger-config", "default", "--log-output", "plain.txt"]);
    });
    wait_text(&daemon, "plain.txt", "[INFO] web started");
}

#[test]
fn json_lines_have_what_they_are_about() {
    let site = TempSite::ipc();
    site.write("dies.sh", "kill -9 $$\n");
    site.ini(
        "log_format = json\nlogoutput = log.json\n\
         [watcher:Ends]\ncmd = exit 3\nshell = True\n[watcher:Dies]\ncmd = sh dies.sh\n",
    );
    let daemon = site.start(Program::Circ);
    let found = |watcher: &str, field: &str, value: i64| {
        daemon.wait_for(&format!("{watcher} {field}"), || {
            text_of(&site, "log.json").lines().find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                (line["watcher"] == watcher && line[field] == value).then_some(line)
            })
        })
    };
    let line = found("Ends", "exit_code", 3);
    assert_eq!(
        (&line["level"], &line["wid"], &line["process"]),
        (&json!("info"), &json!(1), &json!(daemon.pid()))
    );
    assert!(
        line["message"]
            .as_str()
            .is_some_and(|m| m.contains("exited with code 3")),
        "{line}"
    );
    assert!(
        line["pid"].is_i64() && line.get("signal").is_none(),
        "{line}"
    );
    assert_eq!(found("Dies", "signal", 9).get("exit_code"), None);
    assert!(
        text_of(&site, "log.json")
            .lines()
            .all(|l| serde_json::from_str::<Value>(l).is_ok())
    );
    let wrong = site.spawn(Program::Circ, |command| {
        command.args(["--log-format", "xml"]);
    });
    assert_eq!(wrong.wait_exit().code(), Some(64));
}

/// Under systemd each line says its priority; elsewhere, or with another stream, it does not.
#[test]
fn the_journals_priorities() {
    let site = TempSite::ipc();
    site.ini(&format!(
        "{WEB}[watcher:bad]\ncmd = /no/such/program\nmax_retry = 1\n"
    ));
    for (of, prefix) in [("/proc/self/fd/2", "<6>"), ("/", "")] {
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "JOURNAL_STREAM=$(stat -L -c %d:%i $0) exec \"$1\" daemon circus.ini",
                of,
            ])
            .arg(env!("CARGO_BIN_EXE_circ"))
            .current_dir(site.dir());
        let daemon = site.spawn_command(Program::Circ, command);
        daemon.wait_ready();
        let told = daemon.wait_for("both kinds of lines", || {
            let log = daemon.log();
            (log.contains("web started") && log.contains("/no/such/program")).then_some(log)
        });
        for line in told.lines() {
            let prefix = if line.contains("[WARNING]") {
                prefix.replace('6', "4")
            } else {
                prefix.into()
            };
            let rest = line
                .strip_prefix(&prefix)
                .unwrap_or_else(|| panic!("{line}"));
            assert!(rest.starts_with("20"), "{line}");
        }
    }
}

/// Nobody reads the pipe that standard error is: the daemon works on, and ends.
#[test]
fn a_stuck_pipe_stops_nothing() {
    let site = TempSite::ipc();
    let many: String = (0..20)
        .map(|n| format!("[watcher:w{n}]\ncmd = sleep 1000\nsend_hup = True\n"))
        .collect();
    site.ini(&format!("loglevel = debug\n{many}"));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = Command::new("sh");
    // behind a shell, so that the site's own log file is not in the way
    command
        .args(["-c", "exec \"$0\" daemon circus.ini 2>/proc/$1/fd/$2"])
        .arg(env!("CARGO_BIN_EXE_circ"))
        .arg(std::process::id().to_string())
        .arg(std::os::fd::AsRawFd::as_raw_fd(&writer).to_string())
        .current_dir(site.dir())
        .stdin(Stdio::null());
    let daemon = site.spawn_command(Program::Circ, command);
    daemon.wait_ready();
    // each restart logs at least two lines for each of twenty watchers; the pipe holds some 1000 of them, the queue 1024
    for _ in 0..80 {
        daemon.ok("restart", json!({"waiting": true}));
    }
    daemon.wait_pids("w19", 1);
    daemon.ok("quit", json!({"waiting": true}));
    assert!(daemon.wait_exit().success());
    drop(writer);
    let told = std::io::read_to_string(reader).expect("text");
    assert!(told.lines().count() > 100, "{told}");
}

/// A file that may not grow (the disk is full, a limit is reached) costs lines and nothing else.
#[test]
fn a_file_that_cannot_grow_costs_lines_only() {
    let site = TempSite::ipc();
    site.ini(&format!("logoutput = small.log\n{WEB}"));
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -f 2; exec \"$0\" daemon circus.ini"])
        .arg(env!("CARGO_BIN_EXE_circ"))
        .current_dir(site.dir());
    let daemon = site.spawn_command(Program::Circ, command);
    daemon.wait_ready();
    let complaint = "cannot write to small.log: File too large";
    daemon.wait_for("the complaint on standard error", || {
        daemon.ok("restart", json!({"name": "web", "waiting": true}));
        daemon.log().contains(complaint).then_some(())
    });
    daemon.wait_pids("web", 1);
    assert_eq!(
        daemon.log().matches(complaint).count(),
        1,
        "once: {}",
        daemon.log()
    );
    fs::write(site.path("small.log"), "").expect("the file can be emptied");
    daemon.ok("restart", json!({"name": "web", "waiting": true}));
    let told = wait_text(&daemon, "small.log", "log lines lost");
    let first = told
        .lines()
        .find(|line| line.contains("["))
        .expect("a line");
    assert!(
        first.contains("log lines lost: cannot write to small.log"),
        "{told}"
    );
}

#[test]
fn a_log_whose_directory_goes_and_comes() {
    let site = TempSite::ipc();
    fs::create_dir(site.path("logs")).expect("a directory");
    site.ini(&format!("logoutput = logs/d.log\n{WEB}"));
    let daemon = site.start(Program::Circ);
    wait_text(&daemon, "logs/d.log", "web started");
    fs::remove_dir_all(site.path("logs")).expect("it was there");
    daemon.ok("restart", json!({"name": "web", "waiting": true}));
    fs::create_dir(site.path("logs")).expect("a directory");
    daemon.ok("restart", json!({"name": "web", "waiting": true}));
    wait_text(&daemon, "logs/d.log", "web started");
}
