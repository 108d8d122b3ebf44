//! `circ logs`: what a person sees of the output of workers, with both daemons, with none, and over rotation.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use support::{Program, TempSite};

const BOTH: [Program; 2] = [Program::Circusd, Program::Circ];

fn circ(site: &TempSite, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    command
        .args(line.split_whitespace())
        .current_dir("/")
        .env("CIRCUSCTL_ENDPOINT", &site.endpoint)
        .stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(site: &TempSite, line: &str) -> Output {
    circ(site, line).output().expect("circ starts")
}

/// What it prints, standard error after standard output, and the code if it is not 0.
fn shown(site: &TempSite, line: &str) -> String {
    let output = run(site, line);
    let mut shown = text(&output.stdout) + &text(&output.stderr);
    if let Some(code @ 1..) = output.status.code() {
        shown.push_str(&format!("[{code}]\n"));
    }
    shown.replace(&site.dir().display().to_string(), "DIR")
}

/// `circ logs --follow`, and what it has printed so far. Ends with the test.
struct Following(Child, BufReader<std::process::ChildStdout>);

impl Following {
    fn new(site: &TempSite, line: &str) -> Following {
        let mut child = circ(site, line)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("circ starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        Following(child, out)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).expect("a line");
        line
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn append(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = fs::File::options()
        .append(true)
        .create(true)
        .open(path)
        .expect("a log file");
    file.write_all(text.as_bytes()).expect("a line is written");
}

/// Files of several watchers, one of them shared by both outputs; written by the test, so that the times are its own.
const QUIET: &str = "
[watcher:web]
cmd = sleep 1000
stdout_stream.class = FileStream
stdout_stream.filename = logs/web.log
stderr_stream.class = FileStream
stderr_stream.filename = logs/web.err

[watcher:api]
cmd = sleep 1000
stdout_stream.class = FileStream
stdout_stream.filename = logs/api.log
stderr_stream.class = FileStream
stderr_stream.filename = logs/api.log

[watcher:plain]
cmd = sleep 1000
";

fn quiet_site() -> TempSite {
    let site = TempSite::ipc();
    fs::create_dir(site.path("logs")).expect("a directory");
    site.ini(QUIET);
    append(&site.path("logs/web.log"), "web one\nweb two\nweb three\n");
    append(&site.path("logs/web.err"), "web oops\n");
    append(&site.path("logs/api.log"), "api one\napi two");
    site
}

#[test]
fn what_a_person_sees() {
    for program in BOTH {
        let site = quiet_site();
        let daemon = site.start(program);
        assert_eq!(
            shown(&site, "logs web --stdout"),
            "web one\nweb two\nweb three\n"
        );
        assert_eq!(shown(&site, "logs -n 1 WEB --stdout"), "web three\n");
        assert_eq!(
            shown(&site, "logs web --tail 2"),
            "web     | web two\nweb     | web three\nweb err | web oops\n"
        );
        // relative file names are found from anywhere: this client runs in another directory
        assert_eq!(
            shown(&site, "logs -n 1"),
            "api     | api two\nweb     | web three\nweb err | web oops\n\
             plain's standard output goes where the daemon's own does\n\
             plain's standard error goes where the daemon's own does\n"
        );
        assert_eq!(
            shown(&site, "logs w* a* --stdout --no-prefix -n1"),
            "web three\napi two\n"
        );
        assert_eq!(
            shown(&site, "logs plain"),
            "plain's standard output goes where the daemon's own does\n\
             plain's standard error goes where the daemon's own does\n[3]\n"
        );
        assert_eq!(
            shown(&site, "logs wbe"),
            "error: there is no watcher wbe; did you mean web?\n[3]\n"
        );
        let json = shown(&site, "logs --json api");
        assert_eq!(
            json.lines().next().expect("a line"),
            r#"{"watcher":"api","stream":null,"file":"DIR/logs/api.log","line":"api one"}"#
        );
        drop(daemon);
    }
}

#[test]
fn without_a_daemon_the_configuration_tells() {
    let site = quiet_site();
    let mut command = circ(&site, "logs --config circus.ini web --stdout -n 1");
    let output = command
        .current_dir(site.dir())
        .output()
        .expect("circ starts");
    assert_eq!(
        text(&output.stdout),
        "web three\n",
        "{}",
        text(&output.stderr)
    );
    let output = run(&site, "logs web");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("--config FILE"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(run(&site, "logs --tail many").status.code(), Some(64));
    assert_eq!(run(&site, "logs web --all").status.code(), Some(64));
}

#[test]
fn a_file_that_is_missing_or_unreadable() {
    let site = quiet_site();
    fs::remove_file(site.path("logs/api.log")).expect("it was there");
    fs::remove_file(site.path("logs/web.err")).expect("it was there");
    fs::create_dir(site.path("logs/web.err")).expect("a directory in its place");
    let line = "logs --config circus.ini api web";
    let output = circ(&site, line)
        .current_dir(site.dir())
        .output()
        .expect("circ starts");
    let errors = text(&output.stderr);
    assert!(
        errors.contains("logs/api.log is not there (yet)"),
        "{errors}"
    );
    assert!(
        errors.contains("cannot read") && errors.contains("logs/web.err: is a directory"),
        "{errors}"
    );
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(text(&output.stdout).contains("web three"));
}

#[test]
fn following_over_rotation_and_truncation() {
    let site = quiet_site();
    let _daemon = site.start(Program::Circusd);
    let log = site.path("logs/web.log");
    let mut following = Following::new(&site, "logs -f -n 1 web --stdout");
    assert_eq!(following.line(), "web three\n");
    append(&log, "four\n");
    assert_eq!(following.line(), "four\n");
    // twice, as fast as it goes
    fs::rename(&log, site.path("logs/web.log.1")).expect("a rotation");
    append(&log, "five\n");
    fs::rename(site.path("logs/web.log.1"), site.path("logs/web.log.2")).expect("a rotation");
    fs::rename(&log, site.path("logs/web.log.1")).expect("a rotation");
    append(&log, "six\n");
    assert_eq!(following.line(), "five\n");
    assert_eq!(following.line(), "six\n");
    fs::write(&log, "").expect("truncation");
    append(&log, "7\n");
    assert_eq!(following.line(), "7\n");
    fs::remove_file(&log).expect("it was there");
    append(&log, "eight\n");
    assert_eq!(following.line(), "eight\n");
}

/// Whole lines with the right names, whoever writes in between.
#[test]
fn following_several() {
    let site = quiet_site();
    let _daemon = site.start(Program::Circusd);
    let mut following = Following::new(&site, "logs -f -n 1 api web");
    // the last line of api has no end yet
    assert_eq!(following.line(), "web     | web three\n");
    assert_eq!(following.line(), "web err | web oops\n");
    append(&site.path("logs/web.log"), "half a ");
    append(&site.path("logs/api.log"), "\nwhole\n");
    assert_eq!(following.line(), "api     | api two\n");
    assert_eq!(following.line(), "api     | whole\n");
    append(&site.path("logs/web.log"), "line\n");
    assert_eq!(following.line(), "web     | half a line\n");
}

/// Every line of a worker that writes as fast as it can into a file that rotates all the time.
#[test]
fn nothing_is_missed_of_a_fast_writer() {
    for program in BOTH {
        nothing_is_missed_of(program);
    }
}

fn nothing_is_missed_of(program: Program) {
    let site = TempSite::ipc();
    site.ini(
        "[watcher:fast]\ncmd = sh -c 'echo ready; read go < go; i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; sleep 1000'\n\
         shell = True\nstdout_stream.class = FileStream\nstdout_stream.filename = fast.log\n\
         stdout_stream.max_bytes = 8000\nstdout_stream.backup_count = 100\n",
    );
    nix::unistd::mkfifo(&site.path("go"), nix::sys::stat::Mode::S_IRWXU).expect("a named pipe");
    let _daemon = site.start(program);
    let mut following = Following::new(&site, "logs -f -n all fast --stdout");
    assert_eq!(following.line(), "ready\n");
    append(&site.path("go"), "go\n");
    for number in 0..3000 {
        assert_eq!(following.line(), format!("line {number}\n"));
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let site = quiet_site();
    let _daemon = site.start(Program::Circusd);
    let mut child = circ(&site, "logs -f web")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("circ starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    drop(out);
    let mut errors = String::new();
    let mut pipe = child.stderr.take().expect("a pipe");
    pipe.read_to_string(&mut errors).expect("text");
    let status = child.wait().expect("it ends, although no line comes");
    assert!(status.success() && errors.is_empty(), "{status} {errors}");
}

#[test]
fn reopening_with_a_circusd() {
    let site = quiet_site();
    let _daemon = site.start(Program::Circusd);
    let output = run(&site, "logs reopen");
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text(&output.stderr).contains("it is a circusd"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn reopening_after_logrotate() {
    let site = TempSite::ipc();
    site.ini(
        "logoutput = daemon.log\n[watcher:web]\ncmd = sh -c 'read go < one; echo one; read go < two; echo two; sleep 1000'\n\
         shell = True\nstdout_stream.class = FileStream\nstdout_stream.filename = web.log\n",
    );
    // Two of them: whoever opens one again may find it still open.
    for pipe in ["one", "two"] {
        nix::unistd::mkfifo(&site.path(pipe), nix::sys::stat::Mode::S_IRWXU).expect("a named pipe");
    }
    let daemon = site.start(Program::Circ);
    append(&site.path("one"), "\n");
    let whole = |name: &str| fs::read_to_string(site.path(name)).unwrap_or_default();
    daemon.wait_for("the first line", || {
        (whole("web.log") == "one\n").then_some(())
    });
    for name in ["web", "daemon"] {
        let (log, old) = (
            site.path(&format!("{name}.log")),
            site.path(&format!("{name}.old")),
        );
        fs::rename(log, old).expect("logrotate moves it");
    }
    assert_eq!(shown(&site, "logs reopen"), "ok\n");
    daemon.wait_for("the daemon's new log, with nothing to write", || {
        site.path("daemon.log").exists().then_some(())
    });
    append(&site.path("two"), "\n");
    daemon.wait_for("the second line in the new file", || {
        (whole("web.log") == "two\n").then_some(())
    });
    assert_eq!(whole("web.old"), "one\n");
    assert_eq!(shown(&site, "logs reopen web"), "ok\n");
    let unknown = run(&site, "logs reopen nobody");
    assert_eq!(unknown.status.code(), Some(3), "{}", text(&unknown.stderr));
}

/// Output that goes into no file: the daemon remembers the end of it.
#[test]
fn what_is_in_no_file() {
    let site = TempSite::ipc();
    site.ini(
        "[watcher:web]\ncmd = sh -c 'echo one; echo two; read go < go; echo three; sleep 1000'\n\
         shell = True\nstdout_stream.class = QueueStream\n",
    );
    nix::unistd::mkfifo(&site.path("go"), nix::sys::stat::Mode::S_IRWXU).expect("a named pipe");
    let daemon = site.start(Program::Circ);
    daemon.wait_for("both lines", || {
        (shown(&site, "logs web --stdout").starts_with("one\ntwo\n")).then_some(())
    });
    assert_eq!(
        shown(&site, "logs web --stdout -n 1"),
        "two\nweb's standard output goes to a QueueStream; this is what the daemon remembers of it\n"
    );
    let mut following = Following::new(&site, "logs -f web --stdout -n 1");
    assert_eq!(following.line(), "two\n");
    append(&site.path("go"), "\n");
    assert_eq!(following.line(), "three\n");
}

/// `--since` goes by the times in the lines: in the stream's own format, and in those that programs use.
#[test]
fn lines_since_a_moment() {
    for program in BOTH {
        let site = TempSite::ipc();
        site.ini(
            "[watcher:web]\ncmd = sleep 1000\nstdout_stream.class = FileStream\nstdout_stream.filename = web.log\n\
             stdout_stream.time_format = %d.%m.%Y %H:%M:%S\nstderr_stream.class = FileStream\n\
             stderr_stream.filename = web.err\n",
        );
        append(
            &site.path("web.log"),
            "01.02.2026 10:00:00 [1] | one\n01.02.2026 11:00:00 [1] | two\nof two\n02.02.2026 11:00:00 [1] | three\n",
        );
        append(&site.path("web.err"), "no time\n");
        let _daemon = site.start(program);
        let since = |words: &[&str]| {
            let mut command = circ(&site, "logs web");
            let output = command.args(words).output().expect("circ starts");
            assert!(output.status.success(), "{output:?}");
            text(&output.stdout) + &text(&output.stderr)
        };
        let (two, three) = (
            "01.02.2026 11:00:00 [1] | two\nof two\n",
            "02.02.2026 11:00:00 [1] | three\n",
        );
        assert_eq!(
            since(&["--stdout", "--since", "2026-02-01 10:30"]),
            format!("{two}{three}")
        );
        assert_eq!(
            since(&["--stdout", "--since", "2026-02-02", "-n", "5"]),
            three
        );
        assert_eq!(
            since(&["--stdout", "--since", "2026-02-01", "-n", "1"]),
            three
        );
        assert_eq!(since(&["--stdout", "--since", "1m"]), "");
        // A file that was written to just now, whose lines tell no times.
        assert_eq!(
            since(&["--stderr", "--since", "1h"]),
            "no time\nthe lines of web's standard error tell no times: this is what is in the files that were written to \
             since then\n"
        );
        let bad = circ(&site, "logs web --since soon")
            .output()
            .expect("circ starts");
        assert_eq!(bad.status.code(), Some(64));
        assert!(text(&bad.stderr).contains("is no time"), "{bad:?}");
    }
}

/// What circ has rotated and compressed is part of the log.
#[test]
fn compressed_files_are_read() {
    let site = TempSite::ipc();
    site.ini(
        "[watcher:web]\ncmd = sh -c 'i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); done; sleep 1000'\n\
         shell = True\nstdout_stream.class = FileStream\nstdout_stream.filename = web.log\n\
         stdout_stream.max_bytes = 1000\nstdout_stream.backup_count = 20\nstdout_stream.compress = gzip\n",
    );
    let daemon = site.start(Program::Circ);
    let all: String = (0..400).map(|number| format!("line {number}\n")).collect();
    daemon.wait_for("all lines, and all old files compressed", || {
        let names: Vec<String> = fs::read_dir(site.dir())
            .expect("ours")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with("web.log."))
            .collect();
        let packed = !names.is_empty() && names.iter().all(|name| name.ends_with(".gz"));
        let last = fs::read_to_string(site.path("web.log")).ok()?;
        (packed && last.ends_with("line 399\n")).then_some(())
    });
    assert_eq!(shown(&site, "logs web --stdout -n all"), all);
    assert_eq!(
        shown(&site, "logs web --stdout -n 399"),
        all.trim_start_matches("line 0\n")
    );
}
