//! A whole configuration as circ has it, against what the real Circus makes of it.

use std::path::Path;

use circ::config::{CONSOLE, Config, SocketConfig, SocketFamily, SocketType};
use circ::options::WatcherOptions;
use serde_json::{Map, Value, json};

use crate::oracle::Oracle;
use crate::site;

/// Where circ refuses on purpose what Circus accepts: the words of the refusal, and the reason.
const STRICTER: &[(&str, &str)] = &[
    (
        "no command to run",
        "Circus starts such a watcher and fails at each try",
    ),
    ("collides with", "commands could reach only one of the two"),
    (
        "do not distinguish case",
        "only one of the two sockets would be bound",
    ),
    (
        "there is no section [socket:",
        "Circus fails at each start of a worker",
    ),
];

/// Both agree on this configuration; answers whether both accept it.
pub fn same_config(oracle: &mut Oracle, dir: &Path, main: &str, what: &str) -> bool {
    let environ = site::environ();
    let path = dir.join(main);
    let theirs = oracle.ask(&json!({"op": "config", "path": path, "cwd": dir, "environ": environ}));
    let shown = || format!("{what}: {}\n{theirs:#}", dir.display());
    let unmade = |list: &str| {
        let all = theirs[list].as_array().into_iter().flatten();
        all.filter_map(|each| each["error"].as_str())
            .collect::<Vec<_>>()
    };
    let refusals: Vec<&str> = theirs["error"]
        .as_str()
        .into_iter()
        .chain(unmade("watchers"))
        .chain(unmade("sockets"))
        .collect();
    match Config::load(&path, &environ, dir) {
        Ok(ours) => {
            assert!(
                refusals.is_empty(),
                "only Circus refuses: {refusals:?} {}",
                shown()
            );
            compare(&ours, &theirs, &shown);
            true
        }
        Err(error) => {
            for problem in &error.problems {
                let text = problem.to_string();
                assert!(
                    !refusals.is_empty() || STRICTER.iter().any(|(words, _)| text.contains(words)),
                    "only circ refuses: {error}\n{}",
                    shown()
                );
                assert!(problem.line.is_some(), "{text} names no line");
            }
            false
        }
    }
}

fn compare(ours: &Config, theirs: &Value, shown: &dyn Fn() -> String) {
    for section in ours.sections() {
        let items: Vec<Value> = ours
            .raw_items(section)
            .into_iter()
            .map(|(key, value)| json!([key, value]))
            .collect();
        same(&json!(items), &theirs["sections"][section], section, shown);
    }
    same(
        &json!(ours.sections().count()),
        &json!(size(&theirs["sections"])),
        "sections",
        shown,
    );
    same(&json!(ours.files), &theirs["files"], "files", shown);
    same(&circus(ours), &theirs["circus"], "[circus]", shown);
    let plugins: Vec<Value> = ours
        .plugins
        .iter()
        .map(|plugin| {
            let mut all = object(&plugin.raw);
            all["name"] = json!(plugin.name);
            if let Some(priority) = plugin.priority {
                all["priority"] = json!(priority);
            }
            all
        })
        .collect();
    same(&json!(plugins), &theirs["plugins"], "plugins", shown);
    // Circus makes the web console's socket later
    let sockets = || ours.sockets.iter().filter(|socket| socket.name != CONSOLE);
    same(
        &json!(sockets().count()),
        &json!(size(&theirs["sockets"])),
        "sockets",
        shown,
    );
    for (at, ours) in sockets().enumerate() {
        let made = &theirs["sockets"][at]["made"];
        for (key, value) in socket(ours) {
            same(&value, &made[key.as_str()], &key, shown);
        }
        let mut raw = object(&ours.raw);
        raw["name"] = json!(ours.name);
        raw["so_reuseport"] = json!(ours.so_reuseport);
        raw["replace"] = json!(ours.replace);
        same(&raw, &theirs["raw_sockets"][at], &ours.name, shown);
    }
    same(
        &json!(ours.watchers.len()),
        &json!(size(&theirs["watchers"])),
        "watchers",
        shown,
    );
    for (at, ours) in ours.watchers.iter().enumerate() {
        let theirs_made = theirs["watchers"][at]["made"]
            .as_object()
            .expect("an object");
        for (key, value) in theirs_made {
            let value_here = &watcher_value(ours, key);
            same(value_here, value, &format!("{} {key}", ours.name), shown);
        }
        let hooks = ours.get("hooks").cloned().unwrap_or_default();
        same(&hooks, &theirs["hooks"][&ours.name], "hooks", shown);
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    }
}

fn watcher_value(ours: &WatcherOptions, key: &str) -> Value {
    match key {
        "name" => json!(ours.name),
        "options" => ours.extra().clone().into(),
        // Circus reads the key and then forgets it: Watcher.__init__ sets None.
        "executable" => Value::Null,
        // Making the stream takes the class out of what Circus keeps.
        "stdout_stream_conf" | "stderr_stream_conf" => {
            let mut stream = ours.get(key).cloned().unwrap_or_default();
            stream.as_object_mut().map(|all| all.remove("class"));
            stream
        }
        key => ours.get(key).cloned().unwrap_or_default(),
    }
}

fn circus(ours: &Config) -> Value {
    let circus = &ours.circus;
    json!({
        "check_delay": circus.check_delay, "endpoint": circus.endpoint,
        "endpoint_owner": circus.endpoint_owner, "pubsub_endpoint": circus.pubsub_endpoint,
        "multicast_endpoint": circus.multicast_endpoint, "stats_endpoint": circus.stats_endpoint,
        "statsd": circus.statsd, "umask": circus.umask, "warmup_delay": circus.warmup_delay,
        "httpd": circus.httpd, "httpd_host": circus.httpd_host, "httpd_port": circus.httpd_port,
        "debug": circus.debug, "debug_gc": circus.debug_gc, "pidfile": circus.pidfile,
        "loglevel": circus.loglevel, "logoutput": circus.logoutput,
        "loggerconfig": circus.loggerconfig, "fqdn_prefix": circus.fqdn_prefix,
    })
}

fn socket(ours: &SocketConfig) -> Map<String, Value> {
    // Circus turns the family into AF_UNIX only later, when there is a path.
    let mut all = json!({
        "name": ours.name, "host": ours.host, "port": ours.port, "path": ours.path,
        "interface": ours.interface,
        "type": match ours.kind {
            SocketType::Stream => 1,
            SocketType::Datagram => 2,
            SocketType::Raw => 3,
            SocketType::Rdm => 4,
            SocketType::SeqPacket => 5,
        },
        "backlog": ours.backlog, "so_reuseport": ours.so_reuseport, "umask": ours.umask,
        "replace": ours.replace, "blocking": ours.blocking,
    });
    if ours.path.is_none() {
        all["family"] = json!(match ours.family {
            SocketFamily::Unix => 1,
            SocketFamily::Inet => 2,
            SocketFamily::Inet6 => 10,
        });
    }
    all.as_object().cloned().unwrap_or_default()
}

/// Equal, where a number equals itself however it is written, and an empty text of `[circus]` is the
/// same as none.
fn same(ours: &Value, theirs: &Value, what: &str, shown: &dyn Fn() -> String) {
    assert!(
        alike(ours, theirs),
        "{what}: circ {ours}\nCircus {theirs}\n{}",
        shown()
    );
}

fn alike(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Null, Value::String(text)) => text.is_empty(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        (a, b) => a == b,
    }
}

fn object<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Value {
    let pairs = pairs.into_iter();
    let map: Map<String, Value> = pairs.map(|(k, v)| (k.clone(), json!(v))).collect();
    Value::Object(map)
}
