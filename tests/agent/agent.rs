//! A running `circ agent`, what it says, and the commands that direct it.

use std::fs::{self, File};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;

use crate::support::{Running, TempSite, deadline, wait_for_within};

/// An agent that a test started; dropping it ends it.
pub struct Agent {
    running: Running,
    out: PathBuf,
}

impl Deref for Agent {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl DerefMut for Agent {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}

/// `circ ARGS` in the site's directory.
pub fn circ(site: &TempSite, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    command
        .args(args)
        .current_dir(site.dir())
        .env_remove("CIRCUSCTL_ENDPOINT")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null());
    command
}

/// Runs `circ ARGS` to its end: exit code, standard output, standard error.
#[track_caller]
pub fn run(site: &TempSite, args: &[&str]) -> (i32, String, String) {
    let mut command = circ(site, args);
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

impl Agent {
    /// Starts `circ agent --desired state.toml --config circus.ini ARGS`; unless told otherwise its interval is so long
    /// that nothing in a test happens because of it.
    #[track_caller]
    pub fn start(site: &TempSite, args: &[&str]) -> Agent {
        Agent::start_with(site, args, |_| {})
    }

    #[track_caller]
    pub fn start_with(site: &TempSite, args: &[&str], change: impl FnOnce(&mut Command)) -> Agent {
        let mut all = vec!["agent", "--config", "circus.ini"];
        for (option, value) in [
            ("--desired", "state.toml"),
            ("--interval", "1h"),
            ("--settle", "0.2"),
            ("--log-level", "debug"),
        ] {
            if !args.contains(&option) {
                all.extend([option, value]);
            }
        }
        all.extend(args);
        let mut command = circ(site, &all);
        let number = fs::read_dir(site.dir()).map_or(0, |entries| entries.count());
        let (out, err) = (
            site.path(&format!("agent-{number}.out")),
            site.path(&format!("agent-{number}.err")),
        );
        command.stdout(File::create(&out).expect("a file for the output"));
        change(&mut command);
        let running = Running::start(command, err);
        Agent { running, out }
    }

    /// The lines of all runs so far.
    pub fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.out).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// Waits for the first line after `seen` others that is as wanted; its place and itself.
    #[track_caller]
    pub fn line_after(
        &self,
        seen: usize,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> (usize, Value) {
        self.wait_for(what, || {
            let lines = self.lines();
            let found = lines.into_iter().enumerate().skip(seen);
            found.into_iter().find(|(_, line)| wanted(line))
        })
    }

    /// Waits for the line of the first run.
    #[track_caller]
    pub fn first(&self) -> Value {
        self.line_after(0, "the first run", |_| true).1
    }

    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        wait_for_within(deadline(), probe).unwrap_or_else(|| {
            let lines: Vec<String> = self.lines().iter().map(short).collect();
            panic!(
                "waited in vain for: {what}\n{}\n{}",
                lines.join("\n"),
                self.log()
            )
        })
    }

    /// Ends it with SIGTERM.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        self.end()
    }
}

/// A line without its report.
pub fn short(line: &Value) -> String {
    let mut line = line.clone();
    if let Some(map) = line.as_object_mut() {
        map.remove("report");
    }
    line.to_string()
}

/// `circ agent VERB … --config circus.ini --json`, which must be obeyed; the answer.
#[track_caller]
pub fn direct(site: &TempSite, args: &[&str]) -> Value {
    let mut all = vec!["agent"];
    all.extend(args);
    all.extend(["--config", "circus.ini", "--json"]);
    let (code, out, err) = run(site, &all);
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

/// The status of the site's agent, if it has one.
pub fn status(site: &TempSite) -> Option<Value> {
    let (code, out, _) = run(
        site,
        &["agent", "status", "--config", "circus.ini", "--json"],
    );
    (code == 0)
        .then(|| serde_json::from_str(&out).ok())
        .flatten()
}

/// Waits until the agent has nothing to do before its interval is over.
#[track_caller]
pub fn at_rest(site: &TempSite, agent: &Agent) -> Value {
    agent.wait_for("an agent at rest", || {
        let status = status(site)?;
        let next = status["next_run"]
            .as_str()?
            .parse::<jiff::Timestamp>()
            .ok()?;
        let far = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(10);
        (status["running"] == false && next > far).then_some(status)
    })
}
