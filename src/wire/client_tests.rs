//! Tests of the client against peers of every kind, each in a thread of its own.

use std::io::Write;
use std::net::TcpListener;
use std::thread;

use serde_json::json;
use zeromq::RouterSocket;

use super::*;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);

fn tcp(listener: &TcpListener) -> Endpoint {
    Endpoint::Tcp {
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
    }
}

/// A daemon that answers `numwatchers` and `echo`, answers `late` with someone else's id first, and
/// leaves everything else unanswered. It ends with the test process.
fn fake_daemon() -> (Endpoint, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl.sock");
    let endpoint = Endpoint::Ipc(path);
    let address = endpoint.to_string();
    let (ready, bound) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut router = RouterSocket::new();
            router.bind(&address).await.unwrap();
            ready.send(()).unwrap();
            while let Ok(message) = router.recv().await {
                let frames = message.into_vec();
                let request: Value = serde_json::from_slice(&frames[1]).unwrap();
                let mut replies = Vec::new();
                match request["command"].as_str().unwrap() {
                    "late" => {
                        replies.push(json!({"id": "another's", "status": "ok"}).to_string());
                        replies.push(json!({"id": request["id"], "status": "ok"}).to_string());
                    }
                    "garbage" => replies.push("]".to_string()),
                    "numwatchers" | "echo" => replies.push(
                        json!({"id": request["id"], "status": "ok", "got": request}).to_string(),
                    ),
                    "die" => return,
                    _ => {}
                }
                for reply in replies {
                    let mut message = ZmqMessage::from(frames[0].clone());
                    message.push_back(reply.into());
                    router.send(message).await.unwrap();
                }
            }
        });
    });
    bound.recv().unwrap();
    (endpoint, directory)
}

#[test]
fn calls_and_their_deadlines() {
    let (endpoint, _directory) = fake_daemon();
    let mut client = Client::connect(&endpoint, LONG).unwrap();
    let mut properties = Map::new();
    properties.insert("name".into(), json!("web"));
    let reply = client.call(command::message("echo", properties)).unwrap();
    assert_eq!(reply["got"]["properties"], json!({"name": "web"}));
    let first = reply["id"].clone();

    let reply = client.call(command::message("late", Map::new())).unwrap();
    assert_eq!(reply["status"], json!("ok"));
    assert_ne!(reply["id"], first);

    let error = client
        .call_within(command::message("mute", Map::new()), SHORT)
        .unwrap_err();
    assert!(matches!(error, ClientError::NoAnswer { .. }), "{error}");
    assert!(error.is_timeout());

    let mut properties = Map::new();
    properties.insert("waiting".into(), json!(true));
    let error = client
        .call_within(command::message("slow", properties), SHORT)
        .unwrap_err();
    assert!(matches!(error, ClientError::StillRunning { .. }), "{error}");
    assert!(error.to_string().starts_with("`slow` is still running"));

    let error = client
        .call(command::message("garbage", Map::new()))
        .unwrap_err();
    assert!(matches!(error, ClientError::BadReply { .. }), "{error}");
    // The connection is as good as before.
    client.call(command::message("echo", Map::new())).unwrap();

    let error = client
        .call(command::message("die", Map::new()))
        .unwrap_err();
    assert!(matches!(error, ClientError::Closed { .. }), "{error}");
}

#[test]
fn nobody_listens() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Endpoint::Ipc(directory.path().join("no.sock"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = tcp(&listener);
    drop(listener);
    for endpoint in [missing, refused] {
        let error = Client::connect(&endpoint, LONG).err().unwrap();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(&endpoint.to_string()));
        // A patient client finds nobody either, but only at the deadline.
        let error = Client::connect_with(&endpoint, SHORT, Patience::WaitForListener)
            .err()
            .unwrap();
        assert!(error.is_timeout(), "{error}");
    }
}

#[test]
fn a_listener_that_never_speaks() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = Client::connect(&tcp(&listener), SHORT).err().unwrap();
    assert!(matches!(error, ClientError::Silent { .. }), "{error}");
}

#[test]
fn a_listener_that_speaks_something_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = tcp(&listener);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The prober is gone by now; only the second connection reads this.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n and more text than a greeting holds");
        }
    });
    let error = Client::connect(&endpoint, LONG).err().unwrap();
    assert!(
        matches!(
            error,
            ClientError::NotZeroMq { .. } | ClientError::Unreachable { .. }
        ),
        "{error}"
    );
}

#[test]
fn ids_differ() {
    let ids: std::collections::HashSet<String> = (0..1000).map(|_| fresh_id()).collect();
    assert_eq!(ids.len(), 1000);
}

#[test]
fn a_socket_of_another_user_is_not_taken_for_a_missing_daemon() {
    let endpoint: Endpoint = "ipc:///run/circ.sock".parse().unwrap();
    let error = super::unreachable(&endpoint, io::ErrorKind::PermissionDenied.into());
    assert!(matches!(error, ClientError::Forbidden { .. }));
    assert!(error.to_string().contains("may not connect"), "{error}");
}
