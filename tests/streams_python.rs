//! Output stream classes of the user's own, in Python: what they are told, beside circusd, and what bad ones do.

mod support;

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use support::{Program, TempSite, descendants, is_alive, venv};

const MINE: &str = r#"
import json, os, sys, time

class Mine(object):
    def __init__(self, target=None, **kwargs):
        self.file = open(target, 'a')
        self.kwargs = kwargs

    def __call__(self, data):
        for line in data['data'].decode('utf-8').splitlines():
            self.file.write(json.dumps([data['name'], line, self.kwargs, type(data['pid']).__name__]) + '\n')
            if line == 'raise':
                raise ValueError('it is bad')
            if line == 'exit':
                self.file.flush()
                os._exit(3)
        self.file.flush()

    def close(self):
        self.file.write('closed\n')
        self.file.close()
"#;

fn site(script: &str) -> TempSite {
    let site = TempSite::new();
    site.write("mine.py", MINE);
    site.write("worker", script);
    let dir = site.dir().display();
    site.ini(&format!(
        "[env]\nPYTHONPATH = {dir}\n[watcher:web]\ncmd = sh {dir}/worker\ncopy_env = True\n\
         stdout_stream.class = mine.Mine\nstdout_stream.target = {dir}/out\nstdout_stream.more = 7\n\
         stderr_stream.class = mine.Mine\nstderr_stream.target = {dir}/err\n"
    ));
    site
}

#[test]
fn a_class_in_python_gets_what_it_gets_from_circusd() {
    let mut seen = Vec::new();
    for program in [Program::Circusd, Program::Circ] {
        let site = site("echo one; echo two; echo oops >&2; exec sleep 1000");
        let daemon = site.start_with(program, |command| {
            command
                .env("PATH", venv().path())
                .env("PYTHONPATH", site.dir());
        });
        let read = |name: &str| fs::read_to_string(site.path(name)).unwrap_or_default();
        daemon.wait_for("the lines", || {
            (read("out").lines().count() >= 2 && read("err").lines().count() >= 1).then_some(())
        });
        let below = descendants(daemon.pid());
        daemon.ok("stop", json!({"name": "web", "waiting": true}));
        daemon.wait_for("the streams to be closed", || {
            (read("out").ends_with("closed\n") && read("err").ends_with("closed\n")).then_some(())
        });
        if program == Program::Circ {
            drop(daemon);
            for process in below {
                support::wait_for("it to be gone", || (!is_alive(process.pid)).then_some(()));
            }
        }
        seen.push((read("out"), read("err")));
    }
    assert_eq!(seen[1], seen[0]);
    assert!(
        seen[0]
            .0
            .contains(r#"["stdout", "one", {"more": "7"}, "int"]"#),
        "{seen:?}"
    );
}

#[test]
fn a_class_that_raises_goes_on_and_one_that_dies_is_started_again() {
    let site = site(
        "echo one; echo raise; sleep 0.5; echo two; echo exit; sleep 1; echo three; exec sleep 1000",
    );
    let daemon = site.start_with(Program::Circ, |command| {
        command
            .env("PATH", venv().path())
            .env("PYTHONPATH", site.dir());
    });
    let read = |name: &str| fs::read_to_string(site.path(name)).unwrap_or_default();
    daemon.wait_for("the line after the end", || {
        read("out").contains("\"three\"").then_some(())
    });
    for line in ["one", "raise", "two", "exit"] {
        assert!(
            read("out").contains(&format!("\"{line}\"")),
            "{line}: {}",
            read("out")
        );
    }
    let pid = daemon.pids("web")[0];
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it lives");
    daemon.wait_pids("web", 1);
}
