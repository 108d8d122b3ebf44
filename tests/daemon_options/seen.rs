//! What a worker saw: the report that `look.sh` writes.

// Each test program uses another part of it.
#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::{Daemon, Process, TempSite};

const LOOK: &str = include_str!("look.sh");

/// Puts the worker into the site, with a directory that any user may write its reports to, and gives the
/// beginning of a command line: what follows it is a label and the worker's arguments.
pub fn look(site: &TempSite) -> String {
    let script = site.write("look.sh", LOOK);
    let reports = site.path("seen");
    fs::create_dir_all(&reports).expect("a directory in the site");
    for (path, mode) in [
        (site.dir().to_path_buf(), 0o755),
        (script.clone(), 0o755),
        (reports.clone(), 0o1777),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
    }
    format!("{} {}", script.display(), reports.display())
}

/// One worker's report.
#[derive(Debug)]
pub struct Seen {
    pub pid: i32,
    text: String,
}

impl Seen {
    /// The lines of one kind, in their order.
    pub fn lines(&self, kind: &str) -> Vec<&str> {
        let kind = format!("{kind} ");
        let lines = self.text.lines();
        lines.filter_map(|l| l.strip_prefix(&kind)).collect()
    }

    /// The only line of a kind.
    #[track_caller]
    pub fn line(&self, kind: &str) -> &str {
        match self.lines(kind)[..] {
            [line] => line,
            _ => panic!("not one line {kind} in\n{}", self.text),
        }
    }

    /// The arguments after the label.
    pub fn args(&self) -> Vec<&str> {
        self.lines("arg")
    }

    /// A variable of the environment.
    pub fn env(&self, name: &str) -> Option<&str> {
        let lines = self.lines("env").into_iter();
        lines
            .filter_map(|l| l.split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The numbers of a line of `/proc/PID/status`.
    #[track_caller]
    pub fn ids(&self, key: &str) -> Vec<u32> {
        let lines = self.lines("status").into_iter();
        let line = lines
            .filter_map(|l| l.split_once(':'))
            .find_map(|(k, v)| (k == key).then_some(v))
            .unwrap_or_else(|| panic!("no {key} in\n{}", self.text));
        line.split_whitespace()
            .map(|n| n.parse().expect("a number"))
            .collect()
    }

    /// Soft and hard limit of a line of `/proc/PID/limits`.
    #[track_caller]
    pub fn limit(&self, name: &str) -> (&str, &str) {
        let lines = self.lines("limit").into_iter();
        let line = lines
            .filter_map(|l| l.strip_prefix(name))
            .next()
            .unwrap_or_else(|| panic!("no limit {name} in\n{}", self.text));
        let mut words = line.split_whitespace();
        (words.next().unwrap_or(""), words.next().unwrap_or(""))
    }

    /// Where descriptor 0, 1 or 2 led.
    #[track_caller]
    pub fn end(&self, fd: u32) -> &str {
        let number = fd.to_string();
        let lines = self.lines("end").into_iter();
        lines
            .filter_map(|l| l.split_once(' '))
            .find_map(|(n, to)| (n == number).then_some(to))
            .unwrap_or_else(|| panic!("no descriptor {fd} in\n{}", self.text))
    }

    /// Parent, process group and session.
    #[track_caller]
    pub fn family(&self) -> [i32; 3] {
        let stat = self.line("stat");
        let rest = &stat[stat.rfind(')').expect("a name in stat") + 1..];
        let words: Vec<&str> = rest.split_whitespace().collect();
        [1, 2, 3].map(|at| words[at].parse().expect("a number in stat"))
    }
}

/// Waits for `count` reports of a label.
#[track_caller]
pub fn all_seen(site: &TempSite, daemon: &Daemon, label: &str, count: usize) -> Vec<Seen> {
    daemon.wait_for(&format!("{count} reports of {label}"), || {
        let found = reports(site, label);
        (found.len() >= count).then_some(found)
    })
}

/// Waits for the only report of a label.
#[track_caller]
pub fn seen(site: &TempSite, daemon: &Daemon, label: &str) -> Seen {
    all_seen(site, daemon, label, 1).remove(0)
}

fn reports(site: &TempSite, label: &str) -> Vec<Seen> {
    let entries = fs::read_dir(site.path("seen"))
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<Seen> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let pid = name.strip_prefix(label)?.strip_prefix('.')?.parse().ok()?;
            let text = fs::read(entry.path()).ok()?;
            let text = String::from_utf8_lossy(&text).into_owned();
            Some(Seen { pid, text })
        })
        .collect();
    found.sort_by_key(|seen| seen.pid);
    found
}

/// What the process has open once it has become `sleep`: number and target, sorted.
#[track_caller]
pub fn open_files(daemon: &Daemon, pid: i32) -> Vec<(i32, String)> {
    daemon.wait_for("the worker to sleep", || {
        Process::find(pid).filter(|p| p.comm == "sleep")
    });
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("the worker's descriptors");
    let mut open: Vec<(i32, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let to: PathBuf = fs::read_link(entry.path()).ok()?;
            Some((number, to.to_string_lossy().into_owned()))
        })
        .collect();
    open.sort();
    open
}
