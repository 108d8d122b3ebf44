//! Real applications: Starlette and FastAPI, from a Python environment of their own.

use std::fs;
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::client::Server;
use crate::marks;
use crate::support::{TempSite, Venv, venv_of};

fn environment() -> Venv {
    venv_of("tests/requirements-asgi.txt")
}

fn real(site: &TempSite, application: &str, args: &[&str]) -> Server {
    site.write("real.py", include_str!("real.py"));
    let python = environment().python();
    let mut all = vec!["--python", python.to_str().expect("a path in UTF-8")];
    all.extend(args);
    Server::with(site, &format!("real:{application}"), &all, |_| {})
}

/// What `websockets` hears.
#[track_caller]
fn talk(site: &TempSite, server: &Server, path: &str, messages: &[&str]) -> Vec<String> {
    let script = site.write("talker.py", include_str!("talker.py"));
    let output = Command::new(environment().python())
        .arg(script)
        .args([&server.port.to_string(), path])
        .args(messages)
        .output()
        .expect("python runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{}", server.log());
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(str::to_string).collect()
}

#[test]
fn starlette_runs_as_it_is() {
    let site = TempSite::new();
    let mut server = real(&site, "starlette", &["--loop", "uvloop"]);
    let mut connection = server.open();
    let answer = connection.ask("GET", "/?a=1", "", b"");
    assert_eq!(answer.text(), "http://example.org/?a=1 connected");
    assert!(answer.header("x-took").is_some());
    let body = vec![b'x'; 1_000_000];
    let answer = connection.ask("POST", "/upload", "", &body);
    assert_eq!(answer.text(), r#"{"size":1000000,"parts":true}"#);
    assert_eq!(connection.ask("GET", "/nothing", "", b"").status, 404);
    let answer = connection.ask("PUT", "/upload", "", b"");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert!(
        connection
            .ask("GET", "/threaded", "", b"")
            .text()
            .starts_with("AnyIO worker")
    );
    assert_eq!(connection.ask("GET", "/broken", "", b"").status, 500);
    assert!(
        server.log().contains("ValueError: broken on purpose"),
        "{}",
        server.log()
    );
    assert_eq!(
        connection.ask("GET", "/background", "", b"").text(),
        "at once"
    );
    assert_eq!(marks(&site, &server, 2), ["startup", "background"]);
    // files: whole, their head, a part
    let content: Vec<u8> = (0..500_000u32).map(|n| (n % 251) as u8).collect();
    site.write("mark.file", &content);
    assert!(connection.ask("GET", "/file", "", b"").body == content);
    let head = connection.ask("HEAD", "/file", "", b"");
    assert_eq!(head.header("content-length"), Some("500000"));
    let part = connection.ask("GET", "/file", "Range: bytes=1000-1009\r\n", b"");
    assert_eq!((part.status, &part.body[..]), (206, &content[1000..1010]));
    let script = connection.ask("GET", "/static/real.py", "", b"");
    assert_eq!(script.text(), include_str!("real.py"));
    let tag = format!("If-None-Match: {}\r\n", script.header("etag").unwrap());
    assert_eq!(
        connection.ask("GET", "/static/real.py", &tag, b"").status,
        304
    );
    // server-sent events come one by one; a client that goes ends them
    connection.send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(connection.head().unwrap().status, 200);
    for number in 0..3 {
        let event = connection.chunk().unwrap();
        assert_eq!(event, format!("data: {number}\n\n").into_bytes());
    }
    drop(connection);
    assert_eq!(marks(&site, &server, 3)[2], "cancelled");
    let heard = talk(&site, &server, "/chat", &["hallo", "caf\u{e9}"]);
    assert_eq!(
        heard,
        ["chat", "you said hallo", "you said caf\u{e9}", "1000"]
    );
    assert_eq!(marks(&site, &server, 4)[3], "left 1000");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_eq!(marks(&site, &server, 5)[4], "shutdown");
}

#[test]
fn fastapi_runs_as_it_is() {
    let site = TempSite::new();
    let mut server = real(&site, "create_app()", &["--loop", "asyncio"]);
    let mut connection = server.open();
    let mut ask = |method: &str, path: &str, body: &[u8]| {
        let more = "Content-Type: application/json\r\nToken: t\r\n";
        let answer = connection.ask(method, path, more, body);
        let value: Value = serde_json::from_slice(&answer.body).expect("JSON");
        (answer.status, value)
    };
    let read = json!({"number": 7, "q": "x y", "token": "t"});
    assert_eq!(ask("GET", "/items/7?q=x%20y", b""), (200, read));
    let missing = json!({"detail": "no such item"});
    assert_eq!(ask("GET", "/items/404", b""), (404, missing));
    let (status, wrong) = ask("GET", "/items/seven", b"");
    assert_eq!(
        (status, &wrong["detail"][0]["type"]),
        (422, &json!("int_parsing"))
    );
    let made = json!({"item": {"name": "pen", "price": 1.5, "tags": []}, "with": "session"});
    assert_eq!(
        ask("POST", "/items", br#"{"name": "pen", "price": 1.5}"#),
        (201, made)
    );
    assert_eq!(ask("POST", "/items", br#"{"name": "pen"}"#).0, 422);
    let (status, schema) = ask("GET", "/openapi.json", b"");
    assert_eq!((status, schema["paths"]["/items"].is_object()), (200, true));
    let written = marks(&site, &server, 4);
    assert!(written.contains(&"created pen".to_string()), "{written:?}");
    // what blocks is in threads: eight at once take no longer than a few one after the other
    let began = Instant::now();
    let mut several: Vec<_> = (0..8).map(|_| server.open()).collect();
    for connection in &mut several {
        connection.send("GET /blocking HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for connection in &mut several {
        assert_eq!(
            connection.answer("GET").unwrap().text(),
            r#"{"thread":true}"#
        );
    }
    println!("eight times 0.2 s at once: {:?}", began.elapsed());
    // a client that goes before its answer
    let mut waiting = server.open();
    waiting.send("GET /waiting HTTP/1.1\r\nHost: x\r\n\r\n");
    let has_written = |line: &'static str| {
        server.wait_for(line, || {
            let text = fs::read_to_string(site.path("mark")).unwrap_or_default();
            text.lines().any(|other| other == line).then_some(())
        });
    };
    has_written("waiting");
    drop(waiting);
    has_written("disconnected");
    let heard = talk(&site, &server, "/ws/one", &[r#"{"a": [1, 2]}"#, "[]"]);
    assert_eq!(heard[0], "None");
    assert_eq!(
        serde_json::from_str::<Value>(&heard[1]).expect("JSON"),
        json!({"room": "one", "data": {"a": [1, 2]}})
    );
    has_written("left one");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_exit().code(), Some(0));
    let written = fs::read_to_string(site.path("mark")).unwrap();
    assert!(written.ends_with("shutdown\n"), "{written}");
    let log = server.log();
    assert!(!log.contains("Traceback"), "{log}");
}
