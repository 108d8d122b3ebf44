//! The messages of a statistics publisher, and what of them can be compared.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::support::{Daemon, Handle, deadline};

/// One message: topic and payload.
pub type Message = (String, Value);

/// The next message.
#[track_caller]
pub fn next(daemon: &Daemon, events: Handle) -> Message {
    let frames = daemon.driver().recv(events, deadline().as_secs_f64());
    let frames = frames.unwrap_or_else(|| panic!("no statistics come\n{}", daemon.tail()));
    let [topic, payload] = &frames[..] else {
        panic!("a message of {} frames: {frames:?}", frames.len());
    };
    let payload = serde_json::from_str(payload)
        .unwrap_or_else(|error| panic!("{topic}: {payload} is no JSON: {error}"));
    (topic.clone(), payload)
}

/// Every message up to and with the first that `last` likes.
#[track_caller]
pub fn until(
    daemon: &Daemon,
    events: Handle,
    mut last: impl FnMut(&Message) -> bool,
) -> Vec<Message> {
    let start = Instant::now();
    let mut all = Vec::new();
    while start.elapsed() < deadline() {
        let message = next(daemon, events);
        let done = last(&message);
        all.push(message);
        if done {
            return all;
        }
    }
    panic!("the message that is waited for does not come: {all:?}");
}

/// The last message under each topic at `endpoint`, once one has come for each of these watchers, the daemon and its
/// sockets. In topics, pids are `WATCHER-NUMBER` and descriptors the names of sockets. The process of circusd-stats, which
/// circ does not have, is left out.
pub fn everything(daemon: &Daemon, endpoint: &str, watchers: &[&str]) -> BTreeMap<String, Value> {
    let mut pids: Map<String, Value> = Map::new();
    for name in watchers {
        for (number, pid) in daemon.pids(name).into_iter().enumerate() {
            pids.insert(pid.to_string(), format!("{name}-{number}").into());
        }
    }
    pids.insert(daemon.pid().to_string(), "daemon".into());
    let sockets = daemon.ok("listsockets", json!({}))["sockets"].clone();
    for socket in sockets.as_array().unwrap() {
        pids.insert(socket["fd"].to_string(), socket["name"].clone());
    }
    let events = daemon.driver().subscribe(endpoint, &["stat."]);
    let own = ["circus", "sockets"];
    let wanted = watchers
        .iter()
        .chain(&own)
        .map(|name| format!("stat.{name}"));
    let wanted: Vec<String> = wanted.collect();
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    until(daemon, events, |(topic, payload)| {
        let parts: Vec<&str> = topic.split('.').collect();
        let topic = match parts.get(2) {
            Some(number) if !pids.contains_key(*number) => return false,
            Some(number) => format!("stat.{}.{}", parts[1], pids[*number].as_str().unwrap()),
            None => topic.clone(),
        };
        found.insert(topic, payload.clone());
        // the last of a group comes behind its processes
        wanted.iter().all(|topic| found.contains_key(topic))
    });
    daemon.driver().close(events);
    found
}

/// A payload without what differs from one process and one second to the next, and between the two daemons.
pub fn masked(topic: &str, payload: &Value) -> String {
    let mut payload = payload.as_object().unwrap().clone();
    let own = ["stat.circus", "stat.ours"]
        .iter()
        .any(|own| topic.starts_with(own));
    for (key, value) in &mut payload {
        *value = match (key.as_str(), &value) {
            ("cmdline" | "mem_info1" | "mem_info2" | "ctime", Value::String(_)) if own => {
                "text".into()
            }
            ("mem_info1" | "ctime", Value::String(_)) => "text".into(),
            ("pid", Value::Array(pids)) if own => (!pids.is_empty()).into(),
            ("pid", Value::Array(pids)) => pids.len().into(),
            ("addresses", Value::Array(addresses)) => addresses.len().into(),
            ("nice", _) => value.clone(),
            (_, Value::Number(number)) => match number.is_f64() {
                true => "float".into(),
                false => "integer".into(),
            },
            _ => value.clone(),
        };
    }
    Value::Object(payload).to_string()
}
