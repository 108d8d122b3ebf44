//! Workers that note what happens to them, and reading their notes.

// Each test program uses another part of it.
#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Daemon, Handle, Program, TempSite};

/// Puts the trapping worker into the site and gives the path of its script.
pub fn traps(site: &TempSite) -> String {
    script(site, "traps.sh", include_str!("traps.sh"))
}

/// Puts an executable script into the site.
pub fn script(site: &TempSite, name: &str, text: &str) -> String {
    let path = site.write(name, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    path.display().to_string()
}

/// The complete lines of a file of the site; none if it is not there.
pub fn notes(site: &TempSite, name: &str) -> Vec<String> {
    let text = fs::read_to_string(site.path(name)).unwrap_or_default();
    let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    whole.lines().map(String::from).collect()
}

/// Waits until a file of the site has as many lines that begin with `what`.
#[track_caller]
pub fn wait_notes(
    site: &TempSite,
    daemon: &Daemon,
    name: &str,
    what: &str,
    count: usize,
) -> Vec<String> {
    daemon.wait_for(&format!("{count} lines of {what} in {name}"), || {
        let mut lines = notes(site, name);
        lines.retain(|l| l.starts_with(what));
        (lines.len() >= count).then_some(lines)
    })
}

/// When a process was started, in clock ticks (hundredths of a second) since the machine was.
#[track_caller]
pub fn birth(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let rest = &text[text.rfind(')').expect("a name") + 1..];
    let field = rest.split_whitespace().nth(19);
    field.and_then(|f| f.parse().ok()).expect("a start time")
}

/// A watcher's status.
#[track_caller]
pub fn status(daemon: &Daemon, name: &str) -> String {
    let reply = daemon.call("status", json!({"name": name}));
    reply["status"].as_str().unwrap_or("").to_string()
}

/// What `status` says is wrong with a watcher.
#[track_caller]
pub fn trouble(daemon: &Daemon, name: &str) -> Option<String> {
    let reply = daemon.call("status", json!({"name": name}));
    reply["trouble"].as_str().map(String::from)
}

/// Waits for a status.
#[track_caller]
pub fn wait_status(daemon: &Daemon, name: &str, wanted: &str) {
    daemon.wait_for(&format!("{name} to be {wanted}"), || {
        (status(daemon, name) == wanted).then_some(())
    });
}

/// Gives an order to either daemon, and it must be carried out. circusd sends orders away while it is at another,
/// be it its own start; then it is asked again. circ never is.
#[track_caller]
pub fn order(daemon: &Daemon, command: &str, properties: Value) -> Value {
    let busy = |reply: &Value| {
        daemon.program == Program::Circusd
            && reply["reason"]
                .as_str()
                .is_some_and(|r| r.contains("already running"))
    };
    let reply = daemon.wait_for(&format!("an answer to {command}"), || {
        Some(daemon.call(command, properties.clone())).filter(|reply| !busy(reply))
    });
    assert_eq!(reply["status"], "ok", "{command} {properties}: {reply}");
    reply
}

/// The events of a site's daemon; needs a watcher `mark` that never runs.
pub struct Events<'a> {
    daemon: &'a Daemon<'a>,
    pub sub: Handle,
    dealer: Handle,
}

impl<'a> Events<'a> {
    /// Subscribes, and knows that the subscription counts.
    #[track_caller]
    pub fn of(site: &TempSite, daemon: &'a Daemon<'a>) -> Self {
        let driver = daemon.driver();
        let events = Self {
            daemon,
            dealer: driver.dealer(&site.endpoint),
            sub: driver.subscribe(&site.pubsub, &["watcher."]),
        };
        events.until_now();
        events
    }

    /// Every event since the last call.
    #[track_caller]
    pub fn until_now(&self) -> Vec<(String, Value)> {
        let driver = self.daemon.driver();
        driver.events_until(self.sub, self.dealer, "mark")
    }

    /// The topics of every event since the last call.
    #[track_caller]
    pub fn topics(&self) -> Vec<String> {
        let events = self.until_now().into_iter();
        events.map(|(topic, _)| topic).collect()
    }
}
