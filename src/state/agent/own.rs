//! Which watcher of the daemon the agent itself runs in: that one it must not stop, whatever is desired.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::wire::{Client, Endpoint, command};

/// How long the daemon may take to answer.
const QUESTION: Duration = Duration::from_secs(5);

/// Asks the daemon until it has answered once; a process does not move into another watcher.
#[derive(Debug, Default)]
pub struct OwnWatcher(Option<Option<String>>);

impl OwnWatcher {
    /// The watcher's name, if there is one.
    pub fn find(&mut self, control: &Endpoint) -> Option<String> {
        if self.0.is_none() {
            self.0 = ask(control, &ancestry(std::process::id()));
        }
        self.0.clone().flatten()
    }
}

/// None if the daemon did not answer.
fn ask(control: &Endpoint, ancestry: &[u64]) -> Option<Option<String>> {
    let mut client = Client::connect(control, QUESTION).ok()?;
    let mut call = |name: &str, about: Option<&str>| {
        let mut properties = Map::new();
        if let Some(about) = about {
            properties.insert("name".into(), about.into());
        }
        client.call(command::message(name, properties)).ok()
    };
    let daemon = call("dstats", None)?
        .pointer("/info/pid")
        .and_then(Value::as_u64);
    // The daemon itself stands first in its own ancestry: the agent inside of it is in no watcher.
    if !ancestry.iter().skip(1).any(|pid| Some(*pid) == daemon) {
        return Some(None);
    }
    let listed = call("list", None)?;
    let names = listed.get("watchers").and_then(Value::as_array)?;
    for name in names.iter().filter_map(Value::as_str) {
        let reply = call("list", Some(name))?;
        let pids = reply.get("pids").and_then(Value::as_array);
        let pids = pids.into_iter().flatten().filter_map(Value::as_u64);
        if pids.into_iter().any(|pid| ancestry.contains(&pid)) {
            return Some(Some(name.to_string()));
        }
    }
    Some(None)
}

/// A process, its parent, and so on: a watcher with a shell has the agent as a grandchild.
fn ancestry(pid: u32) -> Vec<u64> {
    let mut found = vec![u64::from(pid)];
    while let Some(parent) = found.last().and_then(|pid| parent(*pid)) {
        // Only pid 0 is nobody's child.
        if parent == 0 || found.contains(&parent) {
            break;
        }
        found.push(parent);
    }
    found
}

fn parent(pid: u64) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after = &stat[stat.rfind(')')? + 1..];
    after.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_ancestors() {
        let found = ancestry(std::process::id());
        assert_eq!(found[0], u64::from(std::process::id()));
        assert_eq!(found[1], u64::from(std::os::unix::process::parent_id()));
    }
}
