//! A throw-away directory with a circus.ini, endpoints of its own, and the daemon that runs it.

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::driver::Driver;
use super::ports::Port;
use super::process::{self, Process};
use super::venv::venv;
use super::wait::{deadline, wait_for_within};

/// Which daemon runs a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `circ daemon`, the one under test.
    Circ,
    /// The real circusd 0.19.0.
    Circusd,
}

/// A temporary directory, endpoints on free loopback ports (or ipc sockets), files.
#[derive(Debug)]
pub struct TempSite {
    dir: tempfile::TempDir,
    pub endpoint: String,
    pub pubsub: String,
    pub stats: String,
    ports: RefCell<Vec<Port>>,
    /// Daemons of this site that have not been dropped.
    daemons: RefCell<Vec<i32>>,
}

impl TempSite {
    /// A site whose endpoints are TCP on loopback.
    pub fn new() -> Self {
        let site = Self::empty();
        let [endpoint, pubsub, stats] =
            [(); 3].map(|()| format!("tcp://127.0.0.1:{}", site.port()));
        Self {
            endpoint,
            pubsub,
            stats,
            ..site
        }
    }

    /// A site whose endpoints are Unix sockets in its directory.
    pub fn ipc() -> Self {
        let site = Self::empty();
        let [endpoint, pubsub, stats] =
            ["control", "events", "stats"].map(|n| format!("ipc://{}", site.path(n).display()));
        Self {
            endpoint,
            pubsub,
            stats,
            ..site
        }
    }

    fn empty() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("circ-test-")
            .tempdir()
            .expect("a temporary directory");
        Self {
            dir,
            endpoint: String::new(),
            pubsub: String::new(),
            stats: String::new(),
            ports: RefCell::default(),
            daemons: RefCell::default(),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Reserves another free loopback port, for as long as the site lives.
    pub fn port(&self) -> u16 {
        let port = Port::reserve();
        let number = port.number();
        self.ports.borrow_mut().push(port);
        number
    }

    /// Writes a file in the directory.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
        path
    }

    /// The `[circus]` section of this site: its endpoints, and no multicast (tests stay on loopback).
    ///
    /// Not the `stats_endpoint`: naming it makes circusd start its statistics process as one more watcher.
    pub fn circus_section(&self) -> String {
        format!(
            "[circus]\nendpoint = {}\npubsub_endpoint = {}\nmulticast_endpoint =\n",
            self.endpoint, self.pubsub
        )
    }

    /// Writes circus.ini: the `[circus]` section and then `body`, which may begin with more keys for it.
    pub fn ini(&self, body: &str) -> PathBuf {
        self.write("circus.ini", format!("{}{body}", self.circus_section()))
    }

    /// Starts a daemon on circus.ini and waits until it answers.
    #[track_caller]
    pub fn start(&self, program: Program) -> Daemon<'_> {
        self.start_with(program, |_| {})
    }

    /// As [`TempSite::start`]; `change` may add arguments and environment to the command.
    #[track_caller]
    pub fn start_with(&self, program: Program, change: impl FnOnce(&mut Command)) -> Daemon<'_> {
        let daemon = self.spawn(program, change);
        daemon.wait_ready();
        daemon
    }

    /// Starts a daemon and does not wait; for daemons that shall fail.
    #[track_caller]
    pub fn spawn(&self, program: Program, change: impl FnOnce(&mut Command)) -> Daemon<'_> {
        let mut command = match program {
            // Another daemon in circ's place: an installed circ, or circusd, to see what a test asks of that one.
            Program::Circ if std::env::var_os("CIRC_TEST_DAEMON").is_some() => {
                Command::new(std::env::var_os("CIRC_TEST_DAEMON").unwrap_or_default())
            }
            Program::Circ => {
                let mut c = Command::new(env!("CARGO_BIN_EXE_circ"));
                c.arg("daemon");
                c
            }
            Program::Circusd => Command::new(venv().circusd()),
        };
        command
            .arg(self.path("circus.ini"))
            .current_dir(self.dir())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("CIRCUSCTL_ENDPOINT");
        change(&mut command);
        self.spawn_command(program, command)
    }

    /// Starts this very command as the site's daemon and does not wait.
    #[track_caller]
    pub fn spawn_command(&self, program: Program, mut command: Command) -> Daemon<'_> {
        process::adopt_orphans();
        let log = self.path(&format!("daemon-{}.log", self.count_logs()));
        let file =
            File::create(&log).unwrap_or_else(|e| panic!("cannot write {}: {e}", log.display()));
        let errors = file.try_clone().expect("a log file can be duplicated");
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
        self.daemons.borrow_mut().push(child.id() as i32);
        Daemon {
            site: self,
            program,
            child: RefCell::new(child),
            log,
            driver: OnceLock::new(),
        }
    }

    fn count_logs(&self) -> usize {
        let entries = fs::read_dir(self.dir()).into_iter().flatten().flatten();
        entries
            .filter(|e| e.file_name().to_string_lossy().starts_with("daemon-"))
            .count()
    }
}

impl Default for TempSite {
    fn default() -> Self {
        Self::new()
    }
}

/// A running daemon. Dropping it stops it and ends everything it started.
#[derive(Debug)]
pub struct Daemon<'a> {
    site: &'a TempSite,
    pub program: Program,
    child: RefCell<Child>,
    log: PathBuf,
    driver: OnceLock<Driver>,
}

impl Daemon<'_> {
    /// The daemon's pid.
    pub fn pid(&self) -> i32 {
        self.child.borrow().id() as i32
    }

    /// Its control endpoint.
    pub fn endpoint(&self) -> &str {
        &self.site.endpoint
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The Python process that talks to this daemon.
    pub fn driver(&self) -> &Driver {
        self.driver.get_or_init(Driver::start)
    }

    /// Sends a command with Circus's own client and returns the reply, good or bad.
    #[track_caller]
    pub fn call(&self, command: &str, properties: Value) -> Value {
        match self.driver().call(
            self.endpoint(),
            command,
            properties.clone(),
            deadline().as_secs_f64(),
        ) {
            Ok(reply) => reply,
            Err(e) => panic!("{command} {properties}: {e}\n{}", self.tail()),
        }
    }

    /// As [`Daemon::call`], and the reply must be `ok`.
    #[track_caller]
    pub fn ok(&self, command: &str, properties: Value) -> Value {
        let reply = self.call(command, properties.clone());
        assert_eq!(
            reply["status"],
            "ok",
            "{command} {properties}: {reply}\n{}",
            self.tail()
        );
        reply
    }

    /// The pids of a watcher's processes, in the daemon's order.
    #[track_caller]
    pub fn pids(&self, watcher: &str) -> Vec<i32> {
        let reply = self.ok("list", json!({"name": watcher}));
        reply["pids"]
            .as_array()
            .map(|l| {
                l.iter()
                    .filter_map(Value::as_i64)
                    .map(|p| p as i32)
                    .collect()
            })
            .unwrap_or_default()
    }

    /// Waits until the watcher has exactly `count` processes and all of them run; gives their pids.
    #[track_caller]
    pub fn wait_pids(&self, watcher: &str, count: usize) -> Vec<i32> {
        self.wait_for(&format!("{count} running processes of {watcher}"), || {
            let pids = self.pids(watcher);
            (pids.len() == count && pids.iter().all(|p| process::is_alive(*p))).then_some(pids)
        })
    }

    /// Polls `probe`; when the deadline has passed the test fails with the end of the daemon's log.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        match wait_for_within(deadline(), probe) {
            Some(value) => value,
            None => panic!(
                "waited {:?} in vain for: {what}\n{}",
                deadline(),
                self.tail()
            ),
        }
    }

    /// Has the daemon ended? Then how.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child.borrow_mut().try_wait().ok().flatten()
    }

    /// Waits until the daemon has ended by itself.
    #[track_caller]
    pub fn wait_exit(&self) -> ExitStatus {
        self.wait_for("the daemon to end", || self.exited())
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) {
        if self.exited().is_none() {
            let _ = kill(Pid::from_raw(self.pid()), signal);
        }
    }

    /// Stops the daemon with SIGTERM and gives its exit status; what it left running is ended afterwards.
    #[track_caller]
    pub fn stop(self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_exit()
    }

    /// Waits until the daemon answers `numwatchers`.
    #[track_caller]
    pub fn wait_ready(&self) {
        let answered = wait_for_within(deadline(), || {
            if let Some(status) = self.exited() {
                panic!("the daemon ended at once ({status})\n{}", self.tail());
            }
            self.driver()
                .call(self.endpoint(), "numwatchers", json!({}), 0.5)
                .ok()
        });
        assert!(
            answered.is_some(),
            "the daemon does not answer on {}\n{}",
            self.endpoint(),
            self.tail()
        );
    }

    /// The end of the log, for a failing test's message.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(40)..].join("\n");
        format!(
            "--- end of the log of {:?} (pid {}) ---\n{end}\n---",
            self.program,
            self.pid()
        )
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let mut known: Vec<Process> = process::descendants(self.pid());
        let ended = |limit: u64| wait_for_within(Duration::from_secs(limit), || self.exited());
        self.signal(Signal::SIGTERM);
        if ended(5).is_none() {
            known.extend(process::descendants(self.pid()));
            self.signal(Signal::SIGKILL);
            if ended(10).is_none_or(|s| s.signal() != Some(9)) && self.exited().is_none() {
                eprintln!("the daemon {} could not be ended", self.pid());
            }
        }
        let mut daemons = self.site.daemons.borrow_mut();
        daemons.retain(|pid| *pid != self.pid());
        process::kill_tree(known, self.site.dir(), &daemons);
    }
}
