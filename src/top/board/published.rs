//! Published statistics: one message a process and one a watcher each second, of circ or of circusd-stats.

use serde_json::{Map, Value};

use super::{Board, Process, born, usage};

/// What the topic begins with.
const TOPIC: &str = "stat.";
/// The name under which the daemon's own processes are told of.
const CIRCUS: &str = "circus";

impl Board {
    /// Takes a message of a statistics publisher; false for what is none.
    pub fn take_published(&mut self, topic: &[u8], payload: &[u8], now: f64) -> bool {
        let topic = std::str::from_utf8(topic).ok();
        let Some(name) = topic.and_then(|topic| topic.strip_prefix(TOPIC)) else {
            return false;
        };
        let Ok(Value::Object(info)) = serde_json::from_slice(payload) else {
            return false;
        };
        self.published = Some(now);
        self.changes += 1;
        if info.contains_key("reads") {
            self.take_reads(&info);
            return true;
        }
        // the message of a whole watcher has a list in its place, and says nothing that the others do not
        if let Some(pid) = info.get("pid").and_then(Value::as_i64)
            && let Ok(pid) = i32::try_from(pid)
        {
            // the pid is the last part, whatever the watcher's name has in it
            let name = name.rsplit_once('.').map_or(name, |(name, _)| name);
            self.take_process(name, pid, &info, now);
        }
        true
    }

    fn take_process(&mut self, name: &str, pid: i32, info: &Map<String, Value>, now: f64) {
        // the daemon's own processes have a name; that of statistics is a watcher with circusd
        let own = info.get("name").and_then(Value::as_str);
        let name = match own {
            Some("circusd") if name == CIRCUS => {
                self.daemon.usage = usage(info);
                self.daemon.born = born(info, now);
                self.daemon.pid = Some(pid.into());
                return;
            }
            Some(own) if name == CIRCUS => own,
            _ => name,
        };
        if let Some(watcher) = self.watchers.get_mut(name) {
            let process = watcher.processes.entry(pid);
            process.or_insert_with(|| Process::new(now)).take(info, now);
        }
    }

    fn take_reads(&mut self, info: &Map<String, Value>) {
        let number = |key: &str| info.get(key).and_then(Value::as_i64);
        // that of all sockets has no descriptor
        if let Some(fd) = number("fd")
            && let Some(socket) = self.sockets.iter_mut().find(|socket| socket.fd == fd)
        {
            socket.reads = number("reads").and_then(|reads| reads.try_into().ok());
        }
    }
}
