//! The programs of the Circus family under their own names: command lines, usage texts, versions and exit codes beside
//! the real ones, and the links that make the names.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use support::{Program, TempSite, is_alive, venv, wait_for};

/// The programs that circ is under their names.
const PROGRAMS: &[&str] = &[
    "circus-plugin",
    "circus-top",
    "circusctl",
    "circusd",
    "circusd-stats",
];

/// Names that are no program of Circus.
const OTHERS: &[&str] = &["chaussette", "m2wsgi"];

/// Lines that end by themselves: the program, its words.
const LINES: &[(&str, &[&str])] = &[
    ("circusd", &[]),
    ("circusd", &["--version"]),
    ("circusd", &["--vers"]),
    ("circusd", &["--version", "circus.ini"]),
    ("circusd", &["--nope"]),
    ("circusd", &["a", "b"]),
    ("circusd", &["a", "--daemon", "b"]),
    ("circusd", &["-x", "a", "--yes=1"]),
    ("circusd", &["--log"]),
    ("circusd", &["--log-l=loud", "a"]),
    ("circusd", &["--log-level", "Info", "a"]),
    ("circusd", &["--log-level"]),
    ("circusd", &["--log-output"]),
    ("circusd", &["--log-output", "--daemon"]),
    ("circusd", &["--daemon=yes", "a"]),
    ("circusd", &["--pidfile"]),
    ("circusd", &["-h=1"]),
    ("circusd", &["-ha"]),
    ("circusd", &["--"]),
    ("circus-top", &["--version"]),
    ("circus-top", &["--endpoint", "x", "--vers"]),
    ("circus-top", &["word"]),
    ("circus-top", &["--process-timeout"]),
    ("circus-top", &["--ss"]),
    ("circusd-stats", &["--version"]),
    ("circusd-stats", &["--log-l", "x", "--vers"]),
    ("circusd-stats", &["--log"]),
    ("circusd-stats", &["--statspoint"]),
    ("circusd-stats", &["word", "--pubsub=x"]),
    ("circus-plugin", &[]),
    ("circus-plugin", &["--version"]),
    ("circus-plugin", &["--vers"]),
    ("circus-plugin", &["--nope"]),
    ("circus-plugin", &["a", "b"]),
    ("circus-plugin", &["--check-delay", "x", "a.B"]),
    ("circus-plugin", &["--check-delay"]),
    ("circus-plugin", &["--con"]),
    ("circus-plugin", &["--config"]),
    ("circusctl", &["--version"]),
    ("circusctl", &["--nope"]),
    ("circusctl", &["nope"]),
    ("circusctl", &["--timeout", "x"]),
    ("circusctl", &["incr", "--nope"]),
    ("circusctl", &["kill", "--signum"]),
    ("circusctl", &["kill", "--grace"]),
    ("chaussette", &["--nope"]),
    ("chaussette", &["--port", "x"]),
    ("chaussette", &["--port"]),
    ("chaussette", &["--fd", "3", "--host", "x"]),
    ("chaussette", &["--ho", "x", "--fd=3", "app"]),
    ("chaussette", &["--host", "x", "--backend", "gunicorn"]),
    ("chaussette", &["--address-family", "AF_X25"]),
    ("chaussette", &["--log-level", "loud", "app"]),
    ("chaussette", &["--use-reloader=1"]),
    ("chaussette", &["--p", "1"]),
];

/// A directory with a link to circ under each name.
struct Names {
    dir: tempfile::TempDir,
}

impl Names {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for program in PROGRAMS.iter().chain(OTHERS) {
            symlink(env!("CARGO_BIN_EXE_circ"), dir.path().join(program)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, program: &str) -> PathBuf {
        self.dir.path().join(program)
    }

    fn run(&self, program: &str, words: &[&str], columns: usize) -> Outcome {
        let mut command = Command::new(self.path(program));
        command.args(words).env("COLUMNS", columns.to_string());
        outcome(command)
    }
}

#[derive(Debug, PartialEq)]
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

fn outcome(mut command: Command) -> Outcome {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .env_remove("CIRCUSCTL_ENDPOINT")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Outcome {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// What the real programs make of these lines.
fn real(jobs: &[(&str, Vec<&str>, usize)]) -> Vec<Outcome> {
    let jobs: Vec<Value> = jobs.iter().map(|job| json!(job)).collect();
    let mut python = Command::new(venv().python())
        .args(["-B", "-c", include_str!("programs/lines.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    serde_json::to_writer(python.stdin.take().unwrap(), &jobs).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let outcomes: Vec<(i32, String, String)> = serde_json::from_slice(&output.stdout).unwrap();
    outcomes
        .into_iter()
        .map(|(code, stdout, stderr)| Outcome {
            code,
            stdout,
            stderr,
        })
        .collect()
}

#[test]
fn command_lines_are_read_as_the_real_programs_read_them() {
    let names = Names::new();
    let mut jobs = Vec::new();
    for (program, words) in LINES {
        // Narrow, usual and wide terminals break the usage lines at other places.
        for columns in [20, 40, 80, 200] {
            jobs.push((*program, words.to_vec(), columns));
        }
    }
    let mut differences = Vec::new();
    for ((program, words, columns), theirs) in jobs.iter().zip(real(&jobs)) {
        let ours = names.run(program, words, *columns);
        if ours != theirs {
            differences.push(format!(
                "{program} {words:?} on {columns} columns\n  real: {theirs:?}\n  ours: {ours:?}"
            ));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {} lines differ:\n{}",
        differences.len(),
        jobs.len(),
        differences.join("\n")
    );
}

/// The help has the real one's usage and rows; the explanations are our own.
#[test]
fn help_has_the_options_and_the_layout_of_the_real_programs() {
    let names = Names::new();
    let mut jobs = Vec::new();
    for program in PROGRAMS.iter().chain(&OTHERS[..1]) {
        for columns in [60, 80, 120] {
            jobs.push((*program, vec!["--help"], columns));
        }
    }
    for ((program, _, columns), theirs) in jobs.iter().zip(real(&jobs)) {
        let ours = names.run(program, &["--help"], *columns);
        assert_eq!((ours.code, &*ours.stderr), (0, ""), "{program}");
        let usage = |text: &str| text.split("\n\n").next().unwrap_or("").to_string();
        assert_eq!(usage(&ours.stdout), usage(&theirs.stdout), "{program}");
        assert_eq!(rows(&ours.stdout), rows(&theirs.stdout), "{program}");
        for line in ours.stdout.lines() {
            let fits = line.len() <= columns - 2 || !line.trim().contains("  ");
            assert!(fits, "{program} on {columns} columns: {line}");
        }
    }
}

/// What stands at the left of the rows of a help page.
fn rows(help: &str) -> Vec<String> {
    help.lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.trim().split("  ").next().unwrap_or("").to_string())
        .collect()
}

#[test]
fn the_name_may_be_a_link_or_the_first_word() {
    let names = Names::new();
    let circ = env!("CARGO_BIN_EXE_circ");
    for program in PROGRAMS {
        let linked = names.run(program, &["--version"], 80);
        let mut command = Command::new(circ);
        command.args([program, "--version"]);
        assert_eq!(outcome(command), linked, "{program}");
        assert!(linked.stdout.contains("0.19.0"), "{linked:?}");
    }
    // Where circ has a command of that name, the first word is that one, and its line another.
    let refused = |mut command: Command| {
        command.arg("--nope");
        outcome(command)
    };
    assert_eq!(refused(Command::new(names.path("chaussette"))).code, 2);
    for name in OTHERS {
        let mut command = Command::new(circ);
        command.arg(name);
        assert_eq!(refused(command).code, 64, "{name}");
    }
    let told = refused(Command::new(names.path("m2wsgi")));
    assert_eq!(told.code, 64);
    assert!(told.stderr.contains("circ m2wsgi"), "{told:?}");
    // Any other name is circ.
    symlink(circ, names.path("circus")).unwrap();
    let mut command = Command::new(names.path("circus"));
    command.arg("--version");
    assert!(outcome(command).stdout.starts_with("circ "));
}

#[test]
fn circusd_runs_with_all_its_options() {
    let names = Names::new();
    for program in [Program::Circusd, Program::Circ] {
        let site = TempSite::ipc();
        site.ini("[watcher:web]\ncmd = sleep 1000\n");
        let mut command = match program {
            Program::Circusd => Command::new(venv().circusd()),
            Program::Circ => Command::new(names.path("circusd")),
        };
        command
            .current_dir(site.dir())
            .args(["--daemon", "--pidfile", "pid", "--log-level", "DEBUG"])
            .args(["--log-output", "log", "circus.ini"]);
        support::adopt_orphans();
        let started = outcome(command);
        assert_eq!(started.code, 0, "{started:?}");
        let pid: i32 = wait_for("the pid file", || {
            let text = fs::read_to_string(site.path("pid")).ok()?;
            text.trim().parse().ok()
        });
        let driver = support::Driver::start();
        let list = || {
            driver
                .call(&site.endpoint, "list", json!({"name": "web"}), 1.0)
                .ok()
                .filter(|reply| {
                    reply["pids"]
                        .as_array()
                        .is_some_and(|pids| !pids.is_empty())
                })
        };
        let workers = support::descendants(pid);
        wait_for("the worker", list);
        assert!(!fs::read_to_string(site.path("log")).unwrap().is_empty());
        // It leads no terminal and holds none of the starter's.
        let output = fs::read_link(format!("/proc/{pid}/fd/1")).unwrap();
        assert_eq!(output, Path::new("/dev/null"), "{program:?}");
        let reply = driver.call(&site.endpoint, "quit", json!({"waiting": true}), 30.0);
        assert_eq!(reply.unwrap()["status"], "ok");
        wait_for("the end", || (!is_alive(pid)).then_some(()));
        wait_for("the pid file to go", || {
            (!site.path("pid").exists()).then_some(())
        });
        support::kill_tree(workers, site.dir(), &[]);
    }
}

/// The real one goes to the background first: its errors are lost, and its exit code is 0.
#[test]
fn circusd_tells_what_is_wrong_also_when_it_shall_go_to_the_background() {
    let names = Names::new();
    let site = TempSite::ipc();
    site.ini("[watcher:web]\nnumprocesses = many\n");
    for words in [
        &["circus.ini"] as &[&str],
        &["--daemon", "circus.ini"],
        &["--daemon", "/no/such/file.ini"],
    ] {
        let mut command = Command::new(names.path("circusd"));
        command.args(words).current_dir(site.dir());
        let told = outcome(command);
        assert_eq!((told.code, &*told.stdout), (1, ""), "{told:?}");
        let expected = if words.contains(&"circus.ini") {
            "numprocesses"
        } else {
            "/no/such/file.ini"
        };
        assert!(told.stderr.starts_with("circusd: "), "{told:?}");
        assert!(told.stderr.contains(expected), "{told:?}");
    }
}

/// `circ install-links` as an installed circ would run it: from a directory of its own.
struct Installed {
    home: tempfile::TempDir,
}

impl Installed {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        for dir in ["opt", "bin"] {
            fs::create_dir(home.path().join(dir)).unwrap();
        }
        fs::hard_link(env!("CARGO_BIN_EXE_circ"), home.path().join("opt/circ"))
            .or_else(|_| {
                fs::copy(env!("CARGO_BIN_EXE_circ"), home.path().join("opt/circ")).map(|_| ())
            })
            .unwrap();
        Self { home }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.home.path().canonicalize().unwrap().join(path)
    }

    fn links(&self, words: &[&str]) -> Outcome {
        let mut command = Command::new(self.at("opt/circ"));
        command
            .arg("install-links")
            .args(words)
            .current_dir(self.home.path())
            .env("PATH", self.at("bin"));
        outcome(command)
    }
}

#[test]
fn links_are_made_once() {
    let there = Installed::new();
    let before = there.links(&["--check", "bin"]);
    assert_eq!(before.code, 2, "{before:?}");
    assert_eq!(fs::read_dir(there.at("bin")).unwrap().count(), 0);
    let made = there.links(&["bin"]);
    assert_eq!((made.code, &*made.stderr), (0, ""), "{made:?}");
    for program in PROGRAMS {
        let link = there.at("bin").join(program);
        assert_eq!(fs::read_link(&link).unwrap(), there.at("opt/circ"));
        let mut command = Command::new(&link);
        command.arg("--version");
        assert!(outcome(command).stdout.contains("0.19.0"));
    }
    for words in [&["bin"] as &[&str], &["--check", "bin"]] {
        let again = there.links(words);
        assert_eq!(again.code, 0, "{again:?}");
        assert!(again.stdout.lines().all(|line| line.starts_with("ok ")));
    }
}

#[test]
fn links_beside_the_program_are_relative() {
    let there = Installed::new();
    let made = there.links(&["opt"]);
    assert_eq!(made.code, 0, "{made:?}");
    let link = fs::read_link(there.at("opt/circusd")).unwrap();
    assert_eq!(link, Path::new("circ"));
    assert!(made.stderr.contains("not on the PATH"), "{made:?}");
}

#[test]
fn links_replace_nothing_that_circ_did_not_make() {
    let there = Installed::new();
    fs::write(there.at("bin/circusd"), "#!/usr/bin/python3\n").unwrap();
    let refused = there.links(&["bin"]);
    assert_eq!((refused.code, &*refused.stdout), (1, ""), "{refused:?}");
    assert!(
        refused.stderr.contains("bin/circusd is a file"),
        "{refused:?}"
    );
    assert_eq!(fs::read_dir(there.at("bin")).unwrap().count(), 1);

    let forced = there.links(&["--force", "bin"]);
    assert_eq!(forced.code, 0, "{forced:?}");
    assert_eq!(
        fs::read_link(there.at("bin/circusd")).unwrap(),
        there.at("opt/circ")
    );
    assert_eq!(
        fs::read_dir(there.at("bin")).unwrap().count(),
        PROGRAMS.len() + OTHERS.len()
    );

    fs::remove_file(there.at("bin/circusd")).unwrap();
    fs::create_dir(there.at("bin/circusd")).unwrap();
    let refused = there.links(&["--force", "bin"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(there.at("bin/circusd").is_dir());
}

#[test]
fn links_of_an_older_circ_are_updated() {
    let there = Installed::new();
    symlink("/opt/circ-0.0.1/circ", there.at("bin/circusctl")).unwrap();
    symlink("/usr/lib/circus/circusd.py", there.at("bin/circusd")).unwrap();
    let refused = there.links(&["bin"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(!refused.stderr.contains("circusctl"), "{refused:?}");
    fs::remove_file(there.at("bin/circusd")).unwrap();
    let updated = there.links(&["bin"]);
    assert_eq!(updated.code, 0, "{updated:?}");
    assert!(
        updated.stdout.contains("/opt/circ-0.0.1/circ"),
        "{updated:?}"
    );
    assert_eq!(
        fs::read_link(there.at("bin/circusctl")).unwrap(),
        there.at("opt/circ")
    );
}

#[test]
fn links_need_a_directory() {
    let there = Installed::new();
    let refused = there.links(&["nowhere"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("nowhere is no directory"),
        "{refused:?}"
    );
}
