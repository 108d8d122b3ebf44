//! Replies as circusctl prints them.

use serde_json::Value;

use crate::wire::pytext;

/// What circusctl prints for the reply to `command`, errors included.
pub fn reply(command: &str, reply: &Value) -> String {
    let ok = status(reply) == "ok";
    let shown = match command {
        "incr" | "decr" if ok => Some(if reply.get("singleton").is_some() {
            "This watcher is a Singleton - not changing the number of processes".to_string()
        } else {
            field(reply, "numprocesses").unwrap_or_else(|| "ok".into())
        }),
        "dstats" if ok => reply.get("info").map(daemon),
        "get" | "options" | "globaloptions" if ok => Some(options(reply)),
        "globaloptions" => field(reply, "reason"),
        "ipython" if ok => Some(match reply.get("shell") {
            Some(shell) if pytext::truthy(shell) => pytext::text_of(shell),
            _ => "error: Could not start ipython kernel".to_string(),
        }),
        "list" => Some(list(reply)),
        "listsockets" => reply.get("sockets").map(sockets),
        "numprocesses" | "numwatchers" if ok => {
            Some(field(reply, command).unwrap_or_else(|| "None".into()))
        }
        "stats" if ok => Some(stats(reply)),
        "status" => Some(statuses(reply)),
        _ if ok => Some("ok".to_string()),
        _ => None,
    };
    shown.unwrap_or_else(|| error(reply))
}

/// The `status` of a reply.
pub fn status(reply: &Value) -> &str {
    reply.get("status").and_then(Value::as_str).unwrap_or("")
}

fn error(reply: &Value) -> String {
    let reason = field(reply, "reason").unwrap_or_else(|| "None".into());
    format!("error: {reason}")
}

fn field(value: &Value, key: &str) -> Option<String> {
    value.get(key).map(pytext::text_of)
}

fn joined(values: &Value) -> String {
    let texts: Vec<String> = values
        .as_array()
        .into_iter()
        .flatten()
        .map(pytext::text_of)
        .collect();
    texts.join(",")
}

fn list(reply: &Value) -> String {
    if let Some(pids) = reply.get("pids") {
        joined(pids)
    } else if let Some(watchers) = reply.get("watchers") {
        joined(watchers)
    } else if reply.get("reason").is_some() {
        error(reply)
    } else {
        "error: Response doesn't contain 'pids' nor 'watchers'.".to_string()
    }
}

/// One `key: value` line an option; the environment as `A=b,C=d`.
fn options(reply: &Value) -> String {
    let options = reply.get("options").and_then(Value::as_object);
    let lines: Vec<String> = options
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            let text = match (key.as_str(), value) {
                ("env", Value::Object(map)) => {
                    let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
                    pairs.sort_by_key(|(name, _)| *name);
                    let pairs: Vec<String> = pairs
                        .into_iter()
                        .map(|(name, value)| format!("{name}={}", pytext::text_of(value)))
                        .collect();
                    pairs.join(",")
                }
                (_, Value::Null) => String::new(),
                (_, value) => pytext::text_of(value),
            };
            format!("{key}: {text}")
        })
        .collect();
    lines.join("\n")
}

fn sockets(sockets: &Value) -> String {
    let lines: Vec<String> = sockets
        .as_array()
        .into_iter()
        .flatten()
        .map(|socket| {
            let part = |key: &str| field(socket, key).unwrap_or_default();
            let place = match socket.get("path") {
                Some(path) => pytext::text_of(path),
                None => format!("{}:{}", part("host"), part("port")),
            };
            format!("{}:socket '{}' at {place}", part("fd"), part("name"))
        })
        .collect();
    lines.join("\n")
}

fn statuses(reply: &Value) -> String {
    let Some(statuses) = reply.get("statuses").and_then(Value::as_object) else {
        return field(reply, "status").unwrap_or_default();
    };
    let mut pairs: Vec<(&String, &Value)> = statuses.iter().collect();
    pairs.sort_by_key(|(name, _)| *name);
    let lines: Vec<String> = pairs
        .into_iter()
        .map(|(name, status)| format!("{name}: {}", pytext::text_of(status)))
        .collect();
    lines.join("\n")
}

/// The numbers of one process on one line.
fn info_line(info: &Value) -> String {
    let part = |key: &str| field(info, key).unwrap_or_default();
    format!(
        "{}  {} {} {} {} {} {} {} {}",
        part("pid"),
        part("cmdline"),
        part("username"),
        part("nice"),
        part("mem_info1"),
        part("mem_info2"),
        part("cpu"),
        part("mem"),
        part("ctime")
    )
}

fn children(info: &Value) -> impl Iterator<Item = &Value> {
    let children = info.get("children").and_then(Value::as_array);
    children.into_iter().flatten()
}

fn daemon(info: &Value) -> String {
    let mut lines = vec![
        "Main Process:".to_string(),
        format!("    {}", info_line(info)),
    ];
    for (at, child) in children(info).enumerate() {
        if at == 0 {
            lines.push("Children:".to_string());
        }
        lines.push(format!("    {}", info_line(child)));
    }
    lines.join("\n")
}

/// A process with its children, or the text that stands in place of its numbers.
fn process(info: &Value) -> String {
    if !info.is_object() {
        return pytext::text_of(info);
    }
    let mut lines = vec![info_line(info)];
    lines.extend(children(info).map(|child| format!("   {}", info_line(child))));
    lines.join("\n")
}

fn processes(name: &str, infos: &Value, lines: &mut Vec<String>) {
    lines.push(format!("{name}:"));
    for (pid, info) in infos.as_object().into_iter().flatten() {
        lines.push(format!("{pid}: {}", process(info)));
    }
}

fn stats(reply: &Value) -> String {
    let mut lines = Vec::new();
    let info = reply.get("info").unwrap_or(&Value::Null);
    if let Some(name) = field(reply, "name") {
        processes(&name, info, &mut lines);
    } else if let Some(infos) = reply.get("infos") {
        for (name, info) in infos.as_object().into_iter().flatten() {
            processes(name, info, &mut lines);
        }
    } else {
        let pid = field(reply, "process").unwrap_or_default();
        return format!("{pid}: {}\n", process(info));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::reply;
    use serde_json::json;

    #[test]
    fn texts() {
        for (command, value, want) in [
            ("quit", json!({"status": "ok"}), "ok"),
            (
                "rm",
                json!({"status": "error", "reason": "no"}),
                "error: no",
            ),
            (
                "status",
                json!({"status": "error", "reason": "no"}),
                "error",
            ),
            ("status", json!({"status": "active"}), "active"),
            (
                "status",
                json!({"status": "ok", "statuses": {"b": "active", "A": "stopped"}}),
                "A: stopped\nb: active",
            ),
            (
                "globaloptions",
                json!({"status": "error", "reason": "no"}),
                "no",
            ),
            ("incr", json!({"status": "ok"}), "ok"),
            ("incr", json!({"status": "ok", "numprocesses": 3}), "3"),
            ("list", json!({"status": "ok", "pids": [1, 2]}), "1,2"),
            (
                "list",
                json!({"status": "ok"}),
                "error: Response doesn't contain 'pids' nor 'watchers'.",
            ),
            (
                "options",
                json!({"status": "ok", "options": {"env": {"B": "2", "A": "1"}, "uid": null,
                       "shell": false, "stdout_stream": {"class": "X"}, "graceful_timeout": 30.0}}),
                "env: A=1,B=2\nuid: \nshell: False\nstdout_stream: {'class': 'X'}\ngraceful_timeout: 30.0",
            ),
            (
                "listsockets",
                json!({"status": "ok", "sockets": [{"fd": 5, "name": "s", "host": "h", "port": 80},
                                                    {"fd": 6, "name": "t", "path": "/p"}]}),
                "5:socket 's' at h:80\n6:socket 't' at /p",
            ),
        ] {
            assert_eq!(reply(command, &value), want, "{command} {value}");
        }
    }
}
