//! Tests of [`super::parse_request`]. The errno and the quoted texts were read off circus 0.19.0.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::wire::command::COMMANDS;

fn command(text: &str) -> Command {
    parse_request(text.as_bytes()).expect(text).command
}

#[test]
fn every_row_of_the_table_parses() {
    for spec in COMMANDS {
        let properties =
            json!({"name": "web", "cmd": "true", "keys": ["cmd"], "options": {}, "signum": "TERM"});
        let message = json!({"command": spec.name.to_uppercase(), "properties": properties});
        let parsed = parse_request(message.to_string().as_bytes());
        if spec.name == "listen" {
            assert_eq!(parsed.unwrap_err().errno, Errno::Message);
        } else {
            parsed.expect(spec.name);
        }
    }
}

#[test]
fn good_messages() {
    let web = || "web".to_string();
    assert_eq!(
        parse_request(br#" {"id": "a", "command": "incr", "properties": {"name": "web", "nb": 2, "waiting": 1}} "#),
        Ok(Request {
            sake: None,
            id: json!("a"),
            cast: false,
            waiting: true,
            command: Command::Incr { name: web(), nb: 2 }
        })
    );
    let cast = parse_request(br#"{"command": "quit", "msg_type": "cast", "id": [1]}"#).unwrap();
    assert!(cast.cast && !cast.waiting);
    assert_eq!(cast.id, json!([1]));
    for (text, want) in [
        (
            r#"{"command":"decr","properties":{"name":"web"}}"#,
            Command::Decr { name: web(), nb: 1 },
        ),
        (
            r#"{"command":"incr","properties":{"name":"web","nb":true}}"#,
            Command::Incr { name: web(), nb: 1 },
        ),
        (
            r#"{"command":"get","properties":{"name":"web","keys":"ab"}}"#,
            Command::Get {
                name: web(),
                keys: vec!["a".into(), "b".into()],
            },
        ),
        (
            r#"{"command":"globaloptions","properties":{"option":[]}}"#,
            Command::GlobalOptions { option: None },
        ),
        (
            r#"{"command":"kill","properties":{"name":"web","pid":"12","signum":"hup","graceful_timeout":"1.5"}}"#,
            Command::Kill {
                name: web(),
                pid: Some(12),
                signum: Some(1),
                graceful_timeout: Some(1.5),
            },
        ),
        (
            r#"{"command":"kill","properties":{"name":"web","pid":0,"graceful_timeout":null}}"#,
            Command::Kill {
                name: web(),
                pid: None,
                signum: None,
                graceful_timeout: None,
            },
        ),
        (
            r#"{"command":"reload","properties":{"graceful":null}}"#,
            Command::Reload {
                name: None,
                graceful: false,
                sequential: false,
            },
        ),
        (
            r#"{"command":"reload"}"#,
            Command::Reload {
                name: None,
                graceful: true,
                sequential: false,
            },
        ),
        (
            r#"{"command":"signal","properties":{"name":"web","signum":0,"pid":7,"childpid":8}}"#,
            Command::Signal {
                name: web(),
                signum: 0,
                pid: Some(7),
                childpid: Some(8),
                children: false,
                recursive: false,
            },
        ),
        (
            r#"{"command":"start","properties":{"match":"nonsense"}}"#,
            Command::Start(Selection::all()),
        ),
        (
            r#"{"command":"stop","properties":{"name":"w.b","match":"regex"}}"#,
            Command::Stop(Selection {
                name: Some("w.b".into()),
                matching: Match::Regex,
            }),
        ),
        (
            r#"{"command":"add","properties":{"name":"a","cmd":"x","args":["1"],"start":"yes"}}"#,
            Command::Add {
                name: "a".into(),
                cmd: "x".into(),
                args: json!(["1"]),
                options: Map::new(),
                start: true,
            },
        ),
        (
            r#"{"command":"numwatchers","properties":null}"#,
            Command::NumWatchers,
        ),
        (
            r#"{"command":"list","properties":[]}"#,
            Command::List { name: None },
        ),
        (
            r#"{"command":"stats","properties":{"process":"x"}}"#,
            Command::Stats {
                name: None,
                process: None,
                extended: false,
            },
        ),
    ] {
        assert_eq!(command(text), want, "{text}");
    }
}

#[test]
fn bad_messages() {
    let deep = "[".repeat(100_000);
    let long = format!(r#"{{"command":"{}"}}"#, "x".repeat(50_000));
    let long_answer = format!("unknown command: '{}...'", "x".repeat(200));
    for (text, errno, reason) in [
        ("", 1, "error: empty command"),
        (" \t\n ", 1, "error: empty command"),
        ("nojson", 1, "json invalid"),
        ("NaN", 1, "json invalid"),
        (deep.as_str(), 1, "json invalid"),
        (r#"{"command":"list","id":"\ud800"}"#, 1, "json invalid"),
        (r#"{"command":"list","id":1e999}"#, 1, "json invalid"),
        ("[]", 3, "message invalid, it should be an object"),
        ("5", 3, "message invalid, it should be an object"),
        ("{}", 3, "message invalid 'command' is missing"),
        (r#"{"command":1}"#, 3, "'command' should be a string"),
        (r#"{"command":null}"#, 3, "'command' should be a string"),
        (r#"{"command":""}"#, 2, "unknown command: ''"),
        (r#"{"command":"NOPE"}"#, 2, "unknown command: 'NOPE'"),
        (
            r#"{"command":"n'op\"é\u0001"}"#,
            2,
            r#"unknown command: 'n\'op"é\x01'"#,
        ),
        (long.as_str(), 2, long_answer.as_str()),
        (
            r#"{"command":"list","properties":null}"#,
            5,
            "'properties' should be an object",
        ),
        (
            r#"{"command":"list","properties":"name"}"#,
            5,
            "'properties' should be an object",
        ),
        (
            r#"{"command":"incr","properties":[]}"#,
            3,
            "message invalid 'name' is missing",
        ),
        (
            r#"{"command":"incr","properties":["name"]}"#,
            5,
            "'properties' should be an object",
        ),
        (
            r#"{"command":"list","properties":{"name":1}}"#,
            5,
            "'name' should be a string",
        ),
        (
            r#"{"command":"list","properties":{"name":null}}"#,
            5,
            "'name' should be a string",
        ),
        (
            r#"{"command":"incr"}"#,
            3,
            "message invalid 'name' is missing",
        ),
        (
            r#"{"command":"incr","properties":{"name":"web","nb":"x"}}"#,
            5,
            "'nb' should be an integer",
        ),
        (
            r#"{"command":"incr","properties":{"name":"web","nb":1.5}}"#,
            5,
            "'nb' should be an integer",
        ),
        (
            r#"{"command":"incr","properties":{"name":"web","nb":1e30}}"#,
            5,
            "'nb' should be an integer",
        ),
        (
            r#"{"command":"decr","properties":{"name":"web","nb":null}}"#,
            5,
            "'nb' should be an integer",
        ),
        (
            r#"{"command":"get","properties":{"name":"web"}}"#,
            3,
            "message invalid 'keys' is missing",
        ),
        (
            r#"{"command":"get","properties":{"name":"web","keys":null}}"#,
            5,
            "'keys' should be a list",
        ),
        (
            r#"{"command":"get","properties":{"name":"web","keys":[[]]}}"#,
            3,
            "[] option not found",
        ),
        (
            r#"{"command":"globaloptions","properties":{"option":"nope"}}"#,
            3,
            "'nope' not an existing option",
        ),
        (
            r#"{"command":"globaloptions","properties":{"option":["x"]}}"#,
            3,
            "['x'] not an existing option",
        ),
        (
            r#"{"command":"kill","properties":{"name":"web","pid":"x"}}"#,
            5,
            "'pid' should be an integer",
        ),
        (
            r#"{"command":"kill","properties":{"name":"web","pid":null}}"#,
            5,
            "'pid' should be an integer",
        ),
        (
            r#"{"command":"kill","properties":{"name":"web","signum":"nope"}}"#,
            5,
            "signal invalid",
        ),
        (
            r#"{"command":"kill","properties":{"name":"web","signum":""}}"#,
            3,
            "signal invalid",
        ),
        (
            r#"{"command":"kill","properties":{"name":"web","signum":null}}"#,
            5,
            "'signum' should be the number or name of a signal",
        ),
        (
            r#"{"command":"kill","properties":{"name":"web","graceful_timeout":-1}}"#,
            5,
            "'graceful_timeout' should be a number of seconds",
        ),
        (
            r#"{"command":"kill","properties":{"name":"web","graceful_timeout":"nan"}}"#,
            5,
            "'graceful_timeout' should be a number of seconds",
        ),
        (
            r#"{"command":"signal","properties":{"name":"web"}}"#,
            3,
            "message invalid 'signum' is missing",
        ),
        (
            r#"{"command":"signal","properties":{"name":"web","signum":"zero"}}"#,
            5,
            "signal invalid",
        ),
        (
            r#"{"command":"signal","properties":{"name":"web","signum":"+"}}"#,
            3,
            "signal invalid",
        ),
        (
            r#"{"command":"signal","properties":{"name":"web","signum":0,"childpid":1}}"#,
            5,
            "cannot specify childpid without pid",
        ),
        (
            r#"{"command":"signal","properties":{"name":"web","signum":0,"pid":[]}}"#,
            5,
            "'pid' should be an integer",
        ),
        (
            r#"{"command":"stats","properties":{"name":"web","process":"x"}}"#,
            5,
            "'process' should be an integer",
        ),
        (
            r#"{"command":"stats","properties":{"name":"web","process":99999999999}}"#,
            3,
            "process 99999999999 not found in 'web'",
        ),
        (
            r#"{"command":"reload","properties":{"name":5}}"#,
            5,
            "'name' should be a string",
        ),
        (
            r#"{"command":"start","properties":{"name":"web","match":"zz"}}"#,
            3,
            "unknown match method zz",
        ),
        (
            r#"{"command":"start","properties":{"name":"web","match":5}}"#,
            3,
            "unknown match method 5",
        ),
        (
            r#"{"command":"start","properties":{"name":"w(","match":"regex"}}"#,
            5,
            "bad regular expression: error: unclosed group",
        ),
        (
            r#"{"command":"start","properties":{"name":null}}"#,
            5,
            "'name' should be a string",
        ),
        (
            r#"{"command":"set","properties":{"name":"web"}}"#,
            3,
            "message invalid 'options' is missing",
        ),
        (
            r#"{"command":"set","properties":{"name":"web","options":[]}}"#,
            3,
            "'options' property should be an object",
        ),
        (
            r#"{"command":"set","properties":{"name":"web","options":{"x":1}}}"#,
            3,
            "unknown key 'x'",
        ),
        (
            r#"{"command":"set","properties":{"name":"web","options":{"numprocesses":"2"}}}"#,
            3,
            "'numprocesses' isn't an integer",
        ),
        (
            r#"{"command":"rm","properties":{"name":null}}"#,
            5,
            "'name' should be a string",
        ),
        (
            r#"{"command":"add","properties":{"name":"x"}}"#,
            3,
            "message invalid 'cmd' is missing",
        ),
        (
            r#"{"command":"add","properties":{"name":"","cmd":"x"}}"#,
            3,
            "'name' should not be empty",
        ),
        (
            r#"{"command":"add","properties":{"name":1,"cmd":"x"}}"#,
            5,
            "'name' should be a string",
        ),
        (
            r#"{"command":"add","properties":{"name":"x","cmd":null}}"#,
            5,
            "'cmd' should be a string",
        ),
        (
            r#"{"command":"add","properties":{"name":"x","cmd":"x","args":5}}"#,
            5,
            "'args' should be a string or a list",
        ),
        (
            r#"{"command":"add","properties":{"name":"x","cmd":"x","options":null}}"#,
            3,
            "'options' property should be an object",
        ),
        (
            r#"{"command":"add","properties":{"name":"x","cmd":"x","options":{"zz":1}}}"#,
            3,
            "unknown key 'zz'",
        ),
        (
            r#"{"command":"listen"}"#,
            3,
            "invalid message. use a pub/sub socket",
        ),
    ] {
        let shown: String = text.chars().take(100).collect();
        let rejection = parse_request(text.as_bytes()).expect_err(&shown);
        assert_eq!(
            (rejection.errno.number(), rejection.reason.as_str()),
            (errno, reason),
            "{shown}"
        );
    }
    assert_eq!(
        parse_request(b"\xff\xfe").unwrap_err().errno,
        Errno::InvalidJson
    );
    let kept = parse_request(br#"{"command":"nope","id":7,"msg_type":"cast"}"#).unwrap_err();
    assert!(kept.cast && kept.id == json!(7));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["web", "*", "[a-", "(", "glob", "regex", "TERM", "12"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,4}", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_request(&bytes);
    }

    #[test]
    fn well_named_messages_never_panic_and_never_echo_much(
        row in 0..COMMANDS.len(),
        values in prop::collection::vec(any_json(), 12),
        present in any::<u16>(),
    ) {
        const KEYS: [&str; 12] = [
            "name", "cmd", "args", "options", "keys", "option", "nb", "pid", "signum", "match",
            "process", "graceful_timeout",
        ];
        let properties: Map<String, Value> = KEYS
            .iter()
            .zip(values)
            .enumerate()
            .filter(|(bit, _)| present & (1 << bit) != 0)
            .map(|(_, (key, value))| (key.to_string(), value))
            .collect();
        let message = command::message(COMMANDS[row].name, properties);
        if let Err(rejection) = parse_request(message.to_string().as_bytes()) {
            prop_assert!(rejection.reason.len() < 700, "{}", rejection.reason);
            prop_assert!(!rejection.reason.is_empty());
        }
    }
}

#[test]
fn a_program_may_say_for_whose_sake() {
    let parsed = |properties: &str| {
        let text = format!(r#"{{"command": "stop", "properties": {properties}}}"#);
        parse_request(text.as_bytes()).unwrap().sake
    };
    let sake = parsed(r#"{"name": "web", "by": "flapping", "because": "it flaps"}"#).unwrap();
    assert_eq!(
        (sake.by.as_str(), sake.because.as_str()),
        ("flapping", "it flaps")
    );
    assert_eq!(parsed(r#"{"name": "web", "by": 3}"#), None);
    assert_eq!(parsed(r#"{"name": "web"}"#), None);
    let long = parsed(&format!(
        r#"{{"name": "web", "by": "{}"}}"#,
        "x".repeat(999)
    ))
    .unwrap();
    assert_eq!(long.by.len(), 200);
}
