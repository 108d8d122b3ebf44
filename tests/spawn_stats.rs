//! The numbers of `circ::stats` against those of the real Circus and psutil, for the same processes.

mod support;

use circ::daemon::spawn::{SpawnSpec, Stdio, spawn};
use circ::stats::{GONE, Sampler};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio as Pipe};
use support::{skip, venv, wait_for};

/// What `circus.process.Process.info` does with a pid, for a program that asks again and again.
const ORACLE: &str = "
import json, sys, psutil
from circus.util import get_info
for line in sys.stdin:
    process = psutil.Process(int(line))
    info = get_info(process)
    info['children'] = [get_info(child) for child in process.children()]
    print(json.dumps(info), flush=True)
";

/// Children that end with the test, whatever happens.
struct Children(Vec<i32>);

impl Children {
    fn start(&mut self, spec: SpawnSpec) -> i32 {
        let pid = spawn(&spec).unwrap_or_else(|error| panic!("{error}"));
        self.0.push(pid);
        pid
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for pid in &self.0 {
            // Each leads a group of its own, in which its children are.
            let _ = kill(Pid::from_raw(-pid), Signal::SIGKILL);
            let _ = waitpid(Pid::from_raw(*pid), None);
        }
    }
}

fn command(argv: &[&str]) -> SpawnSpec {
    SpawnSpec {
        argv: argv.iter().map(Into::into).collect(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        stdin: Stdio::Null,
        stdout: Stdio::Null,
        stderr: Stdio::Null,
        ..SpawnSpec::default()
    }
}

/// Takes the values that change from one moment to the next out of a reply, after a look at them.
fn settle(info: &Value, path: &str) -> Map<String, Value> {
    let mut info = info
        .as_object()
        .unwrap_or_else(|| panic!("{path}: {info}"))
        .clone();
    for key in ["cpu", "age"] {
        let value = info.insert(key.into(), Value::Null);
        let value = value.and_then(|value| value.as_f64());
        assert!(
            value.is_some_and(|value| value >= 0.0),
            "{path}.{key} {value:?}"
        );
    }
    let children = info["children"].as_array().unwrap().iter().enumerate();
    let children: Vec<Value> = children
        .map(|(number, child)| settle(child, &format!("{path}.{number}")).into())
        .collect();
    info.insert("children".into(), children.into());
    info
}

#[test]
fn the_numbers_are_those_of_circus() {
    let python = venv().python();
    let mut children = Children(Vec::new());
    let mut pids = vec![children.start(command(&["/usr/bin/sleep", "1000"]))];
    pids.push(children.start(command(&["sh", "-c", "sleep 1000 & sleep 1001 & wait"])));
    pids.push(children.start(command(&["sh", "-c", "exec nice -n 5 sleep 1000"])));
    let mut titled = command(&["sh", "-c", "sleep 1000 & wait"]);
    titled.argv[0] = "worker: 'idle' process".into();
    titled.executable = Some("sh".into());
    pids.push(children.start(titled));
    // Has used some CPU time, itself and through a child it has waited for.
    let busy = "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'
        i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 1000 & wait";
    pids.push(children.start(command(&["sh", "-c", busy])));
    if nix::unistd::geteuid().is_root() {
        let mut other = command(&["sleep", "1000"]);
        (other.uid, other.gid, other.groups) = (Some(1), Some(1), Some(vec![1]));
        pids.push(children.start(other));
        let mut unnamed = command(&["sleep", "1000"]);
        (unnamed.uid, unnamed.gid) = (Some(54_321), Some(54_321));
        pids.push(children.start(unnamed));
    } else {
        skip("processes of other users need root");
    }

    let mut oracle = Command::new(python)
        .args(["-c", ORACLE])
        .stdin(Pipe::piped())
        .stdout(Pipe::piped())
        .spawn()
        .expect("Python starts");
    let mut questions = oracle.stdin.take().unwrap();
    let mut answers = BufReader::new(oracle.stdout.take().unwrap());
    let mut circus = |pid: i32| -> Value {
        writeln!(questions, "{pid}").unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{pid}: {error} {line:?}"))
    };

    // Until all have come to rest: the sleepers exist, and the busy one has done its work.
    wait_for("the processes to have their children", || {
        let pass = circ::stats::Pass::read().unwrap();
        let sleeps = |pid: &i32| {
            let process = pass.get(*pid);
            process.is_some_and(|process| process.state == 'S')
                && (process.is_some_and(|process| process.comm == "sleep")
                    || pass
                        .children(*pid)
                        .iter()
                        .any(|child| pass.get(*child).is_some_and(|child| child.comm == "sleep")))
        };
        pids.iter().all(sleeps).then_some(())
    });

    let mut sampler = Sampler::new();
    for (number, pid) in pids.iter().enumerate() {
        // The kernel's own memory counters may lag a moment; both must agree in the end.
        let (mut last, mut agreed) = (String::new(), false);
        let _ = support::wait_for_within(std::time::Duration::from_secs(20), || {
            let theirs = circus(*pid);
            let ours = sampler.sample(&[*pid]).remove(0);
            let keys = |info: &Value| -> Vec<String> {
                info.as_object().unwrap().keys().cloned().collect()
            };
            assert_eq!(keys(&ours), keys(&theirs));
            let (ours, theirs) = (settle(&ours, "ours"), settle(&theirs, "theirs"));
            agreed = ours == theirs;
            last = format!("{number}\n{ours:#?}\n{theirs:#?}");
            agreed.then_some(())
        });
        assert!(agreed, "{last}");
    }

    drop(questions); // the oracle ends
    oracle.wait().unwrap();
    drop(children);
    assert!(sampler.sample(&pids).iter().all(|info| info == GONE));
}
