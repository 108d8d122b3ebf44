//! Running `circ state ensure` in a site, and looking at what it did to the file.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::TempSite;

/// The output of one run.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The report; the run must have printed one JSON object and nothing else.
    #[track_caller]
    pub fn report(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e}: {:?} {:?}", self.stdout, self.stderr))
    }
}

/// A command that will run `circ state ensure ARGS` in the site's directory.
pub fn command(site: &TempSite, args: &[&str]) -> Command {
    let mut command = verb(site, "ensure");
    command.args(args);
    command
}

/// A command that will run `circ state VERB` in the site's directory.
pub fn verb(site: &TempSite, verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    command
        .args(["state", verb])
        .current_dir(site.dir())
        .env_remove("CIRCUSCTL_ENDPOINT")
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end.
#[track_caller]
pub fn finish(mut command: Command) -> Run {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `circ state ensure ARGS` as a person calls it.
#[track_caller]
pub fn plain(site: &TempSite, args: &[&str]) -> Run {
    finish(command(site, args))
}

/// The arguments of a run, which waits only so long to see that workers stay if the test does not say how long: workers of
/// these tests stay, or are gone at once.
pub fn settling<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let mut all = args.to_vec();
    if !all.contains(&"--settle") {
        all.extend(["--settle", "0.2"]);
    }
    all
}

/// `circ state ensure ARGS --config circus.ini --json`.
#[track_caller]
pub fn ensure(site: &TempSite, args: &[&str]) -> Run {
    let mut all = settling(args);
    all.extend(["--config", "circus.ini", "--json"]);
    plain(site, &all)
}

/// As [`ensure`]; the run must succeed and say whether it changed anything.
#[track_caller]
pub fn expect(site: &TempSite, args: &[&str], changed: bool) -> Value {
    let run = ensure(site, args);
    let report = run.report();
    assert_eq!(
        (run.code, &report["failed"], &report["changed"]),
        (0, &Value::Bool(false), &Value::Bool(changed)),
        "{args:?}: {report}"
    );
    report
}

/// As [`ensure`]; the run must fail, having changed nothing, and say `why`.
#[track_caller]
pub fn refused(site: &TempSite, args: &[&str], why: &str) -> Value {
    let run = ensure(site, args);
    let report = run.report();
    assert_eq!(
        (run.code, &report["failed"], &report["changed"]),
        (1, &Value::Bool(true), &Value::Bool(false)),
        "{args:?}: {report}"
    );
    assert_eq!(
        report["error"],
        report["msg"].as_str().map_or(Value::Null, |msg| {
            Value::from(msg.split_once(": ").map_or(msg, |(_, error)| error))
        })
    );
    let error = report["error"].as_str().unwrap_or_default();
    assert!(error.contains(why), "{args:?}: {error}");
    report
}

/// What tells whether a file was touched: inode, time of the last change, content.
#[derive(Debug, PartialEq)]
pub struct Fingerprint {
    inode: u64,
    modified: (i64, i64),
    content: Vec<u8>,
}

/// Looks at a file.
#[track_caller]
pub fn fingerprint(path: &Path) -> Fingerprint {
    let metadata = std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Fingerprint {
        inode: metadata.ino(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        content: std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
    }
}
