//! Questions, and messages that are none.

use serde_json::json;

use super::scenarios::{SMALL, STACK, Scenario, c, raw, scenario};

pub fn questions() -> Scenario {
    let mut steps = vec![
        c("list", json!({})),
        c("list", json!({"name": "web"})),
        c("list", json!({"name": "WEB"})),
        c("list", json!({"name": "back office-2"})),
        c("list", json!({"name": "off"})),
        c("list", json!({"name": "nope"})),
        c("list", json!({"name": 5})),
        c("list", json!({"name": null})),
        c("list", json!({"name": ""})),
        c("status", json!({})),
        c("status", json!({"name": "web"})),
        c("status", json!({"name": "bACK oFFICE-2"})),
        c("status", json!({"name": "off"})),
        c("status", json!({"name": "nope"})),
        c("status", json!({"name": ["web"]})),
        c("numprocesses", json!({})),
        c("numprocesses", json!({"name": "web"})),
        c("numprocesses", json!({"name": "WeB"})),
        c("numprocesses", json!({"name": "nope"})),
        c("numwatchers", json!({})),
        c("NumWatchers", json!({})),
        c("listsockets", json!({})),
        c("globaloptions", json!({})),
        c("globaloptions", json!({"option": "check_delay"})),
        c("globaloptions", json!({"option": "endpoint"})),
        c("globaloptions", json!({"option": "umask"})),
        c("globaloptions", json!({"option": ""})),
        c("globaloptions", json!({"option": 5})),
        c("dstats", json!({})),
        c("stats", json!({})),
        c("stats", json!({"name": "web"})),
        c("stats", json!({"name": "web", "extended": true})),
        c("stats", json!({"name": "off"})),
        c("stats", json!({"name": "nope"})),
        c("stats", json!({"name": "web", "process": "$pid web 0"})),
        c(
            "stats",
            json!({"name": "web", "process": "$pid web 1", "extended": true}),
        ),
        c("stats", json!({"name": "web", "process": 999_999})),
        c("stats", json!({"name": "web", "process": "x"})),
        c("stats", json!({"process": 999_999})),
        c("listen", json!({})),
        c("nope", json!({})),
        c("help", json!({})),
        c("", json!({})),
        c("get", json!({"name": "web"})),
        c("get", json!({"keys": ["cmd"]})),
        c("get", json!({"name": "nope", "keys": ["cmd"]})),
        c("get", json!({"name": "web", "keys": []})),
        c("get", json!({"name": "web", "keys": ["zzz"]})),
        c("get", json!({"name": "web", "keys": "cmd"})),
        c("get", json!({"name": "web", "keys": ["cmd", "zzz"]})),
        c(
            "get",
            json!({"name": "web", "keys": ["numprocesses", "stop_signal", "graceful_timeout", "env", "cmd", "name"]}),
        ),
        c("get", json!({"name": "one", "keys": ["extra_key"]})),
        c(
            "get",
            json!({"name": "Back Office-2", "keys": ["rlimits", "working_dir", "priority", "args"]}),
        ),
        c("options", json!({})),
        c("options", json!({"name": "nope"})),
        c("options", json!({"name": 7})),
    ];
    for name in [
        "web",
        "Back Office-2",
        "one",
        "stubborn",
        "shell",
        "off",
        "mark",
    ] {
        steps.push(c("options", json!({"name": name})));
    }
    scenario("questions", STACK, steps)
}

pub fn malformed() -> Scenario {
    let nines = format!(
        "{{\"command\": \"numwatchers\", \"id\": {}}}",
        "9".repeat(60)
    );
    let steps = vec![
        raw("half an object", r#"{"command": "list""#),
        raw("every byte", (0..=255).collect::<Vec<u8>>()),
        raw(
            "not UTF-8",
            b"{\"command\": \"list\", \"id\": \"\xff\xfe\"}".to_vec(),
        ),
        raw("empty message", ""),
        raw("white space", "  \n "),
        raw("an array", "[]"),
        raw("a number", "42"),
        raw("a string", "\"list\""),
        raw("null", "null"),
        raw("true", "true"),
        raw("empty object", "{}"),
        raw("command null", r#"{"command": null, "id": "X"}"#),
        raw("command number", r#"{"command": 5, "id": "X"}"#),
        raw("command list", r#"{"command": ["list"], "id": "X"}"#),
        raw("unknown command", r#"{"command": "nope", "id": "X"}"#),
        raw(
            "unknown command in upper case",
            r#"{"command": "NOPE", "id": "X"}"#,
        ),
        raw(
            "unknown command with a quote",
            r#"{"command": "it's", "id": "X"}"#,
        ),
        raw(
            "command in upper case",
            r#"{"command": "NUMWATCHERS", "id": "X"}"#,
        ),
        raw("no id", r#"{"command": "numwatchers"}"#),
        raw("id null", r#"{"command": "numwatchers", "id": null}"#),
        raw(
            "id is a number",
            r#"{"command": "numwatchers", "id": 1.50}"#,
        ),
        raw(
            "id is an object",
            r#"{"command": "numwatchers", "id": {"a": [1, "é"]}}"#,
        ),
        raw("id is a big number", nines),
        raw("id is NaN", r#"{"command": "numwatchers", "id": NaN}"#),
        raw(
            "id is escaped",
            r#"{"command": "numwatchers", "id": "\u00e9\ud83d\ude00\n"}"#,
        ),
        raw(
            "id is half a surrogate pair",
            r#"{"command": "numwatchers", "id": "\ud800"}"#,
        ),
        raw("no properties", r#"{"command": "status", "id": "X"}"#),
        raw(
            "properties null",
            r#"{"command": "status", "properties": null, "id": "X"}"#,
        ),
        raw(
            "properties array",
            r#"{"command": "status", "properties": [], "id": "X"}"#,
        ),
        raw(
            "properties string",
            r#"{"command": "status", "properties": "name", "id": "X"}"#,
        ),
        raw(
            "properties number",
            r#"{"command": "status", "properties": 3, "id": "X"}"#,
        ),
        raw(
            "needed properties null",
            r#"{"command": "options", "properties": null, "id": "X"}"#,
        ),
        raw(
            "a cast is not answered",
            r#"{"command": "numwatchers", "msg_type": "cast", "id": "X"}"#,
        ),
        raw(
            "a bad cast is not answered",
            r#"{"command": "nope", "msg_type": "cast", "id": "X"}"#,
        ),
        raw(
            "another message type",
            r#"{"command": "numwatchers", "msg_type": "dealer", "id": "X"}"#,
        ),
        raw(
            "duplicate keys",
            r#"{"command": "nope", "command": "numwatchers", "id": "X"}"#,
        ),
        raw(
            "white space around",
            "\n  {\"command\": \"numwatchers\", \"id\": \"X\"}  \r\n",
        ),
        raw("two objects", r#"{"command": "numwatchers", "id": "X"} {}"#),
        raw(
            "more keys",
            r#"{"command": "numwatchers", "id": "X", "zzz": [1, 2]}"#,
        ),
        raw(
            "deep nesting",
            format!(
                r#"{{"command": "numwatchers", "id": {}{}}}"#,
                "[".repeat(100_000),
                "]".repeat(100_000)
            ),
        ),
    ];
    scenario("malformed", SMALL, steps)
}
