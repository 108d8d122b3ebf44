//! A program that is no daemon of a site, with what it says in a file; told to end when its test is over.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::{deadline, wait_for_within};

/// A started program.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it with standard error in the file `log`.
    pub fn start(mut command: Command, log: PathBuf) -> Running {
        command.stderr(File::create(&log).expect("a log file"));
        Running::of(command, log)
    }

    /// As [`Running::start`], with standard output in the same file.
    pub fn start_logging_both(mut command: Command, log: PathBuf) -> Running {
        let file = File::create(&log).expect("a log file");
        command.stdout(file.try_clone().expect("the log file twice"));
        command.stderr(file);
        Running::of(command, log)
    }

    fn of(mut command: Command, log: PathBuf) -> Running {
        let child = command.spawn();
        Running {
            child: child.unwrap_or_else(|e| panic!("cannot start {command:?}: {e}")),
            log,
        }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        wait_for_within(deadline(), probe)
            .unwrap_or_else(|| panic!("waited in vain for {what}\n{}", self.log()))
    }

    /// Waits until it has said this.
    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        self.wait_log_times(text, 1);
    }

    /// Waits until it has said this so many times.
    #[track_caller]
    pub fn wait_log_times(&self, text: &str, times: usize) {
        self.wait_for(text, || {
            (self.log().matches(text).count() >= times).then_some(())
        });
    }

    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid()), signal);
    }

    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let ended = wait_for_within(deadline(), || child.try_wait().ok().flatten());
        ended.unwrap_or_else(|| panic!("it does not end\n{}", self.log()))
    }

    /// Tells it to end, and waits until it has.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_exit()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGTERM);
            let child = &mut self.child;
            let limit = Duration::from_secs(10);
            if wait_for_within(limit, || child.try_wait().ok().flatten()).is_none() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
