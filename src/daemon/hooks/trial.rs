//! Whether the hooks of a configuration can be found, before anybody counts on them: Python callables by a process that
//! lives no longer than that, so that what runs the hooks of the daemon is left alone; programs in the file system. It
//! waits, and is for threads that may.

use super::view::{exec_argv, hooks_of};
use crate::daemon::spawn::{self, SpawnSpec, Stdio};
use crate::options::WatcherOptions;
use crate::python::hooks::{LONGEST, Said, answer, greeting};
use crate::python::interpreter::{bootstrap, interpreter, python_path};
use crate::stats;
use crate::supervisor::Pid;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// So long all the modules of a configuration may take to be imported.
const MOST: Duration = Duration::from_secs(30);
/// Where a program is looked for if the environment has no PATH.
const NO_PATH: &str = "/bin:/usr/bin";

/// A hook that is looked for.
#[derive(Debug, Clone)]
pub struct Sought {
    /// The hook, such as `before_start`.
    pub name: &'static str,
    /// What it calls, as its option says.
    pub target: String,
    /// It does not matter if it fails.
    pub ignored: bool,
    runner: Result<Runner, String>,
    limit: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Runner {
    /// An interpreter, and where it looks for modules at first.
    Python(String, Vec<String>),
    /// A program.
    Program(String),
}

impl Sought {
    /// The hooks of a watcher. `python` is what `[circus] python` says, `cwd` the directory of the daemon.
    pub fn of(options: &WatcherOptions, python: Option<&str>, cwd: &Path) -> Vec<Sought> {
        let limit = options.hook_timeout();
        let limit = limit.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let sought = hooks_of(options).map(|(name, hook)| Sought {
            name,
            target: hook.target.to_string(),
            ignored: hook.ignore_failure,
            limit,
            runner: exec_argv(&hook).map(|argv| {
                match argv.and_then(|argv| argv.into_iter().next()) {
                    Some(program) => Runner::Program(program),
                    None => Runner::Python(interpreter(options, python, cwd), python_path(options)),
                }
            }),
        });
        sought.collect()
    }

    /// Whether it is found if the other one is.
    pub fn is_found_with(&self, other: &Sought) -> bool {
        (&self.target, &self.runner) == (&other.target, &other.runner)
    }

    /// Whether it is a Python callable.
    pub fn is_python(&self) -> bool {
        matches!(self.runner, Ok(Runner::Python(..)))
    }
}

/// Looks for hooks: for each why it cannot be called, if it cannot. `env` is what the processes get, `paths` is where Python
/// looks for modules at last.
pub fn look_for<'a>(
    sought: impl IntoIterator<Item = &'a Sought>,
    env: &[(OsString, OsString)],
    paths: &[String],
) -> Vec<Result<(), String>> {
    let end = Instant::now() + MOST;
    let mut sessions: BTreeMap<&str, Session> = BTreeMap::new();
    let mut look = |one: &'a Sought| -> Result<(), String> {
        let (program, path) = match one.runner.as_ref().map_err(String::clone)? {
            Runner::Program(program) => return find_program(program, env),
            Runner::Python(program, path) => (program.as_str(), path),
        };
        let mut session = match sessions.remove(program) {
            Some(session) => session,
            None => Session::start(program, env, paths)?,
        };
        let most = end.saturating_duration_since(Instant::now());
        let limit = one.limit.map_or(most, |limit| limit.min(most));
        let found = session.resolve(&one.target, path, limit)?;
        // it can be asked for more
        sessions.insert(program, session);
        found
    };
    sought.into_iter().map(&mut look).collect()
}

fn find_program(program: &str, env: &[(OsString, OsString)]) -> Result<(), String> {
    let runs = |file: &Path| {
        let meta = std::fs::metadata(file)?;
        Ok::<bool, std::io::Error>(meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return match runs(Path::new(program)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{program} is no program: chmod +x it")),
            Err(error) => Err(format!("{program}: {error}")),
        };
    }
    let path = env.iter().find(|(name, _)| name == "PATH");
    let path = path.map_or(NO_PATH.into(), |(_, value)| value.to_string_lossy());
    let mut all = path
        .split(':')
        .map(|directory| Path::new(directory).join(program));
    if all.any(|file| runs(&file).unwrap_or(false)) {
        return Ok(());
    }
    Err(format!("there is no program {program} on the PATH {path}"))
}

/// A Python process that imports what it is told.
struct Session {
    pid: Pid,
    link: BufReader<UnixStream>,
    calls: u64,
}

impl Session {
    fn start(
        program: &str,
        env: &[(OsString, OsString)],
        paths: &[String],
    ) -> Result<Session, String> {
        let io = |error: std::io::Error| format!("no process to look for it: {error}");
        let (ours, theirs) = UnixStream::pair().map_err(io)?;
        let fd = theirs.as_raw_fd();
        let spec = SpawnSpec {
            argv: bootstrap(program, fd).into_iter().map(Into::into).collect(),
            env: env.to_vec(),
            stdin: Stdio::Null,
            // what is wrong is told by what it answers
            stdout: Stdio::Null,
            stderr: Stdio::Null,
            keep_fds: vec![fd],
            ..SpawnSpec::default()
        };
        let pid = spawn::spawn(&spec).map_err(|error| error.to_string())?;
        drop(theirs);
        let mut session = Session {
            pid,
            link: BufReader::new(ours),
            calls: 0,
        };
        session
            .link
            .get_ref()
            .set_write_timeout(Some(MOST))
            .map_err(io)?;
        session.send(&greeting(paths))?;
        Ok(session)
    }

    fn send(&mut self, text: &str) -> Result<(), String> {
        let sent = self.link.get_mut().write_all(text.as_bytes());
        sent.map_err(|error| format!("the Python process does not listen: {error}"))
    }

    /// Whether a callable is found. The outer error means that the process is of no use any more.
    fn resolve(
        &mut self,
        target: &str,
        path: &[String],
        limit: Duration,
    ) -> Result<Result<(), String>, String> {
        self.calls += 1;
        let call = json!({
            "call": self.calls, "resolve": true, "target": target, "generation": 0, "paths": path});
        self.send(&format!("{call}\n"))?;
        let end = Instant::now() + limit;
        loop {
            let line = self.line(end).inspect_err(|_| self.kill())?;
            match Said::parse(&line) {
                Some(Said::Done { call, answer, .. }) if call == self.calls => {
                    return Ok(answer.map(|_| ()));
                }
                Some(Said::Ask { number, .. }) => self.send(&answer(number, &Value::Null))?,
                Some(_) => {}
                None => {
                    self.kill();
                    return Err("its module wrote what is no message to the daemon".to_string());
                }
            }
        }
    }

    fn line(&mut self, end: Instant) -> Result<Vec<u8>, String> {
        let mut line = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("its module was not imported in time".to_string());
            }
            // a time of zero would mean none
            let wait = self.link.get_ref().set_read_timeout(Some(left));
            wait.map_err(|error| error.to_string())?;
            let mut some = (&mut self.link).take(LONGEST as u64);
            match some.read_until(b'\n', &mut line) {
                Ok(0) => return Err("the Python process that looked for it ended".to_string()),
                Ok(_) if line.ends_with(b"\n") => {
                    line.pop();
                    return Ok(line);
                }
                Ok(_) if line.len() > LONGEST => {
                    return Err("its module says too much to the daemon".to_string());
                }
                Ok(_) => {}
                Err(error) if again(&error) => {}
                Err(error) => return Err(format!("the Python process cannot be heard: {error}")),
            }
        }
    }

    /// Ends a process that is in the middle of something, with what it has started.
    fn kill(&self) {
        let below = stats::descendants(&[self.pid], true);
        for pid in std::iter::once(self.pid).chain(below) {
            // one that has just gone is no news
            let _ = spawn::send_signal(pid, 9);
        }
    }
}

fn again(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sought(target: &str, seconds: f64) -> Sought {
        let mut options = WatcherOptions::ini_defaults("w");
        options.set_ini("hooks.before_start", target).unwrap();
        options
            .set_ini("hook_timeout", &seconds.to_string())
            .unwrap();
        let mut all = Sought::of(&options, None, Path::new("/"));
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    #[test]
    fn what_cannot_be_called_is_told_and_the_next_is_looked_for() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).unwrap();
        };
        write(
            "good.py",
            "print('hello')\ndef f(**kwargs): return True\nx = 7\n",
        );
        write("hanging.py", "import time\ntime.sleep(1000)\n");
        write("leaving.py", "import os\nos._exit(3)\n");
        let env: Vec<_> = std::env::vars_os().collect();
        let paths = [directory.path().to_string_lossy().into_owned()];
        let all = [
            ("good.f", ""),
            ("good.g", "no attribute 'g'"),
            ("good.x", "not callable"),
            ("nowhere.f", "nowhere"),
            ("leaving.f", "ended"),
            ("hanging.f", "in time"),
            ("good.f", ""),
            ("exec:/bin/sh -c true", ""),
            ("exec:sh", ""),
            ("exec:/etc/passwd", "no program"),
            ("exec:/no/such/program", "No such file"),
            ("exec:no-such-program", "on the PATH"),
            ("exec:", "needs a program"),
        ];
        let hooks: Vec<Sought> = all
            .iter()
            .map(|(target, _)| sought(target, if *target == "hanging.f" { 2.0 } else { 60.0 }))
            .collect();
        let found = look_for(&hooks, &env, &paths);
        for ((target, what), found) in all.iter().zip(found) {
            match found {
                Ok(()) => assert_eq!(*what, "", "{target}"),
                Err(why) => assert!(!what.is_empty() && why.contains(what), "{target}: {why}"),
            }
        }
    }
}
