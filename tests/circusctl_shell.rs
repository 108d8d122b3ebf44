//! The shell of circusctl on a terminal, beside the real one where that does the same.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{Daemon, Program, TempSite, deadline, venv};

const INI: &str = "[watcher:web]
cmd = sleep 1000
numprocesses = 2

[watcher:Api Two]
cmd = sleep 1001
";

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const UP: &str = "\u{1b}[A";

/// The real circusctl, or circ by that name.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Client {
    Real,
    Ours,
}

/// Plays the steps, each a pattern to wait for and the keys to press then; gives what was shown.
#[track_caller]
fn play(client: Client, daemon: &Daemon, options: &[&str], steps: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let program: PathBuf = match client {
        Client::Real => venv().circusctl(),
        Client::Ours => {
            let link = dir.path().join("circusctl");
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_circ"), &link).unwrap();
            link
        }
    };
    let mut argv = vec![program.to_str().unwrap()];
    argv.extend(options);
    let job = json!({
        "argv": argv,
        "environ": {"CIRCUSCTL_ENDPOINT": daemon.endpoint(), "TERM": "xterm", "INPUTRC": "/dev/null"},
        "steps": steps,
        "deadline": deadline().as_secs(),
    });
    let mut python = Command::new(venv().python())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/circusctl_shell/terminal.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    serde_json::to_writer(python.stdin.take().unwrap(), &job).unwrap();
    let output = python.wait_with_output().unwrap();
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcome["problem"], Value::Null, "{client:?}: {outcome:#}");
    assert_eq!(outcome["code"], 0, "{client:?}: {outcome:#}");
    outcome["shown"].as_str().unwrap().to_string()
}

const PROMPT: &str = r"\(circusctl\) ";

fn with_daemon(test: impl Fn(&Daemon)) {
    let site = TempSite::ipc();
    site.ini(INI);
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    test(&daemon);
}

#[test]
fn a_session() {
    with_daemon(|daemon| {
        for client in [Client::Real, Client::Ours] {
            let shown = play(
                client,
                daemon,
                &[],
                &[
                    (PROMPT, "numwatchers\r"),
                    (r"2\r\n.*\(circusctl\) ", "incr --waiting web 1\r"),
                    (r"3\r\n.*\(circusctl\) ", "decr --waiting web 1\r"),
                    (r"2\r\n.*\(circusctl\) ", "nonsense\r"),
                    (
                        r"\*\*\* Unknown syntax: nonsense\r\n.*\(circusctl\) ",
                        CTRL_D,
                    ),
                ],
            );
            assert!(
                shown.starts_with("circusctl 0.19.0\r\nApi Two: active\r\nweb: active\r\n"),
                "{client:?}: {shown}"
            );
        }
    });
}

#[test]
fn lines_are_completed_and_repeated() {
    with_daemon(|daemon| {
        for client in [Client::Real, Client::Ours] {
            play(
                client,
                daemon,
                &[],
                &[
                    (PROMPT, "numw\t\r"),
                    (r"2\r\n.*\(circusctl\) ", "sta\t\t"),
                    (r"start\s+stats\s+status", "\u{15}"),
                    ("", "numwatchers\r"),
                    (r"2\r\n.*\(circusctl\) ", UP),
                    ("numwatchers", "\r"),
                    (r"2\r\n.*\(circusctl\) ", CTRL_D),
                ],
            );
        }
        // Names of watchers only ours knows.
        let shown = play(
            Client::Ours,
            daemon,
            &[],
            &[
                (PROMPT, "numprocesses w\t\r"),
                (r"2\r\n.*\(circusctl\) ", "numprocesses Ap\t\r"),
                (r"1\r\n.*\(circusctl\) ", "get web grace\t\r"),
                (r"graceful_timeout: 30", "reload --seq\tw\t\r"),
                (r"ok\r\n.*\(circusctl\) ", CTRL_D),
            ],
        );
        assert!(shown.contains("numprocesses 'Api Two' "), "{shown}");
    });
}

#[test]
fn ctrl_c_at_the_prompt_leaves() {
    with_daemon(|daemon| {
        // The real one loses a ctrl-C that comes while its readline sets up the terminal, so it is not asked.
        play(Client::Ours, daemon, &[], &[(PROMPT, CTRL_C)]);
    });
}

/// The real shell ends with the command.
#[test]
fn ctrl_c_ends_the_command_and_not_the_shell() {
    with_daemon(|daemon| {
        play(
            Client::Ours,
            daemon,
            &[],
            &[
                (PROMPT, "listen\r"),
                (r"listen[^\n]*\r\n", CTRL_C),
                (PROMPT, "numwatchers\r"),
                (r"2\r\n.*\(circusctl\) ", CTRL_D),
            ],
        );
    });
}

/// There the real one ends with the exit code of its parser, in the middle of somebody's work.
#[test]
fn a_wrong_line_does_not_end_the_shell() {
    with_daemon(|daemon| {
        play(
            Client::Ours,
            daemon,
            &["--json"],
            &[
                (PROMPT, "list --nope\r"),
                (
                    r"unrecognized arguments: --nope\r\n.*\(circusctl\) ",
                    "incr --help\r",
                ),
                (r"--waiting.*\(circusctl\) ", "list 'web\r"),
                (r"No closing quotation\r\n.*\(circusctl\) ", "numwatchers\r"),
                (r#""numwatchers": 2.*\(circusctl\) "#, "EOF\r"),
            ],
        );
    });
}
