//! A site with two watchers, `circ state` in it, and its reports: for the tests of its verbs.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::run::{Run, finish, settling};
use super::support::{Daemon, Program, TempSite};

/// Two workers of `web`, and a watcher that is never touched.
pub const BODY: &str = "\
check_delay = 0.5

; the site
[watcher:web]
cmd = sleep 1000
numprocesses = 2   ; two of them

[watcher:other]
cmd = sleep 2000
";

pub fn started(program: Program, test: impl FnOnce(&TempSite, &Daemon)) {
    let site = TempSite::new();
    site.ini(BODY);
    let daemon = site.start(program);
    daemon.wait_pids("web", 2);
    daemon.wait_pids("other", 1);
    test(&site, &daemon);
}

pub fn ini(site: &TempSite) -> String {
    fs::read_to_string(site.path("circus.ini")).expect("the file is there")
}

/// `circ ARGS` in the site's directory.
#[track_caller]
pub fn circ(site: &TempSite, args: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    command
        .args(args)
        .current_dir(site.dir())
        .env_remove("CIRCUSCTL_ENDPOINT")
        .stdin(Stdio::null());
    finish(command)
}

/// `circ state ARGS --config circus.ini --json`; the run must end with this code.
#[track_caller]
pub fn state(site: &TempSite, args: &[&str], code: i32) -> Value {
    let mut all = vec!["state"];
    match args.first() {
        Some(&("ensure" | "apply" | "absent" | "restarted" | "reloaded")) => {
            all.extend(settling(args));
        }
        _ => all.extend(args),
    }
    all.extend(["--config", "circus.ini", "--json"]);
    let run = circ(site, &all);
    let report = run.report();
    assert_eq!(run.code, code, "{args:?}: {report}");
    report
}

/// The entry of one resource in a report over several.
#[track_caller]
pub fn entry<'a>(report: &'a Value, name: &str) -> &'a Value {
    let resources = report["resources"].as_array();
    resources
        .and_then(|all| all.iter().find(|resource| resource["name"] == name))
        .unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[track_caller]
pub fn same_pids(daemon: &Daemon, watcher: &str, pids: &[i32]) {
    assert_eq!(daemon.pids(watcher), pids, "{watcher} was touched");
}

/// The value that a running worker has of a variable.
pub fn variable(daemon: &Daemon, watcher: &str, name: &str) -> Option<String> {
    let pid = *daemon.pids(watcher).last()?;
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let prefix = format!("{name}=");
    environ.split(|byte| *byte == 0).find_map(|pair| {
        Some(
            String::from_utf8_lossy(pair)
                .strip_prefix(&prefix)?
                .to_string(),
        )
    })
}
