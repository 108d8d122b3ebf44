//! Looking at processes through `/proc`, and ending exactly those a test started.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::wait::wait_for_within;

/// One process, told from a later one with the same pid by its start time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub comm: String,
    /// `R`, `S`, `Z` … as in `/proc/PID/stat`.
    pub state: char,
    /// Clock ticks since the machine's start.
    pub start: u64,
}

impl Process {
    /// The process with this pid, if there is one (a zombie is one).
    pub fn find(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (open, close) = (text.find('(')?, text.rfind(')')?);
        let rest: Vec<&str> = text[close + 1..].split_whitespace().collect();
        Some(Self {
            pid,
            parent: rest.get(1)?.parse().ok()?,
            comm: text[open + 1..close].to_string(),
            state: rest.first()?.chars().next()?,
            start: rest.get(19)?.parse().ok()?,
        })
    }

    /// Is this very process still running? A zombie is not.
    pub fn is_running(&self) -> bool {
        Self::find(self.pid)
            .is_some_and(|now| now.start == self.start && !matches!(now.state, 'Z' | 'X'))
    }

    /// Sends a signal to this very process; nothing happens if it is gone.
    pub fn signal(&self, signal: Signal) {
        if self.is_running() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// The words of its command line.
    pub fn cmdline(&self) -> Vec<String> {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        bytes
            .split(|b| *b == 0)
            .map(|w| String::from_utf8_lossy(w).into_owned())
            .filter(|w| !w.is_empty())
            .collect()
    }

    /// Its working directory.
    pub fn cwd(&self) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/cwd", self.pid)).ok()
    }

    /// The environment it was started with, as `NAME=value`.
    pub fn environ(&self) -> Vec<String> {
        let bytes = fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        bytes
            .split(|b| *b == 0)
            .map(|w| String::from_utf8_lossy(w).into_owned())
            .filter(|w| !w.is_empty())
            .collect()
    }
}

/// Does a process with this pid run (and is no zombie)?
pub fn is_alive(pid: i32) -> bool {
    Process::find(pid).is_some_and(|p| !matches!(p.state, 'Z' | 'X'))
}

/// Every process of the machine.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|e| Process::find(e.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// The running direct children of `pid`.
pub fn children(pid: i32) -> Vec<Process> {
    all()
        .into_iter()
        .filter(|p| p.parent == pid && !matches!(p.state, 'Z' | 'X'))
        .collect()
}

/// The running descendants of `pid`, at any depth.
pub fn descendants(pid: i32) -> Vec<Process> {
    let everybody = all();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for p in everybody.iter().filter(|p| p.parent == parent) {
            parents.push(p.pid);
            found.push(p.clone());
        }
    }
    found.retain(|p| !matches!(p.state, 'Z' | 'X'));
    found
}

/// Kills what a daemon with the working directory `home` left behind.
///
/// `known` are descendants seen before the daemon ended. Orphans that were not seen come to this process
/// (see [`adopt_orphans`]) and are recognised by their working directory or by `home` in their command line.
/// `spare` are pids that are somebody's to end: other daemons with the same home.
pub fn kill_tree(known: Vec<Process>, home: &Path, spare: &[i32]) {
    let ours = |p: &Process| {
        p.cwd().is_some_and(|d| d.starts_with(home))
            || p.cmdline()
                .iter()
                .any(|w| w.contains(&*home.to_string_lossy()))
    };
    let me = std::process::id() as i32;
    let ours = |p: &Process| ours(p) && !spare.contains(&p.pid);
    let orphans = || children(me).into_iter().filter(ours).collect::<Vec<_>>();
    let mut left = known;
    left.extend(orphans());
    for p in &left {
        p.signal(Signal::SIGKILL);
    }
    let gone = wait_for_within(Duration::from_secs(10), || {
        for p in orphans() {
            p.signal(Signal::SIGKILL);
            left.push(p);
        }
        for p in &left {
            // Reaps those that became our children; for the others it fails, and somebody else does it.
            let _ = waitpid(Pid::from_raw(p.pid), Some(WaitPidFlag::WNOHANG));
        }
        left.iter().all(|p| !p.is_running()).then_some(())
    });
    if gone.is_none() {
        eprintln!("could not end: {left:?}");
    }
}

/// Makes orphans of what the tests start come to the test process instead of PID 1.
pub fn adopt_orphans() {
    let _ = nix::sys::prctl::set_child_subreaper(true);
}
