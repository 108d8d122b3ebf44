//! `circ chaussette` as an ASGI server: http and lifespan here, WebSockets and real applications in modules.

#[path = "asgi/applications.rs"]
mod applications;
#[path = "wsgi/client.rs"]
mod client;
#[path = "asgi/sockets.rs"]
mod sockets;
mod support;

use std::fs;
use std::io::Read;

use client::{Connection, Server};
use nix::sys::signal::Signal;
use support::{TempSite, children};

/// Starts one of the applications of `asgi/applications.py`.
fn start(site: &TempSite, application: &str, args: &[&str]) -> Server {
    let text = include_str!("asgi/applications.py");
    site.write("asgi_applications.py", text);
    Server::with(
        site,
        &format!("asgi_applications:{application}"),
        args,
        |command| {
            // what is on this machine is not what is tested
            command.env("PYTHONNOUSERSITE", "1");
        },
    )
}

fn served(application: &str, args: &[&str], test: impl FnOnce(&TempSite, &Server)) {
    let site = TempSite::new();
    let server = start(&site, application, args);
    test(&site, &server);
}

/// What the application has written down, when it is so many lines.
#[track_caller]
fn marks(site: &TempSite, server: &Server, count: usize) -> Vec<String> {
    let mark = site.path("mark");
    server.wait_for(&format!("{count} lines in the mark"), || {
        let text = fs::read_to_string(&mark).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_string).collect();
        (lines.len() >= count).then_some(lines)
    })
}

#[test]
fn which_interface_it_is_is_seen_from_the_application() {
    for (application, args, body) in [
        ("hello", &[][..], "hello\n"),
        ("instance", &[], "hello\n"),
        ("partial", &[], "hello\n"),
        ("method", &[], "hello\n"),
        ("Awaited", &[], "hello\n"),
        ("handing_out", &[], "hello\n"),
        ("wsgi", &[], "wsgi\n"),
        ("asgi_by_word", &["--interface", "asgi"], "hello\n"),
    ] {
        served(application, args, |_, server| {
            let mut connection = server.open();
            for _ in 0..3 {
                assert_eq!(
                    connection.ask("GET", "/", "", b"").text(),
                    body,
                    "{application}"
                );
            }
        });
    }
}

#[test]
fn the_scope_is_that_of_the_specification() {
    served(
        "scope_of",
        &["--forwarded-allow-ips", "10.0.0.1"],
        |_, server| {
            let mut connection = server.open();
            let port = connection.stream().local_addr().unwrap().port();
            let more = "X-One: 1\r\nX-Latin: caf\u{e9}\r\nX-One: 2\r\nX_Under: score\r\nX-Forwarded-For: 6.6.6.6\r\n"
            .chars()
            .map(|c| c as u8)
            .collect::<Vec<u8>>();
            // again and again: what an application does to its scope is nobody else's
            for round in 0..4 {
                let mut request =
                format!("GET /{round}/a%20b/%C3%A9/%ff?q=%20&{round} HTTP/1.1\r\nHost: example.org:99\r\n").into_bytes();
                request.extend(&more);
                request.extend(b"\r\n");
                connection.send(request);
                let text = connection.answer("GET").unwrap().text();
                for line in [
                    "asgi={'version': '3.0', 'spec_version': '2.3'}",
                    "extensions={'http.response.pathsend': {}}",
                    "http_version='1.1'",
                    "method='GET'",
                    &format!("path='/{round}/a b/\u{e9}/\u{fffd}'"),
                    &format!("raw_path=b'/{round}/a%20b/%C3%A9/%ff'"),
                    &format!("query_string=b'q=%20&{round}'"),
                    "root_path=''",
                    "scheme='http'",
                    &format!("server=('127.0.0.1', {})", server.port),
                    &format!("client=('127.0.0.1', {port})"),
                    "headers=[(b'host', b'example.org:99'), (b'x-one', b'1'), (b'x-one', b'2'), \
                 (b'x-latin', b'caf\\xe9'), (b'x_under', b'score')]",
                    "state={}",
                    "type='http'",
                ] {
                    assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
                }
                assert_eq!(text.lines().count(), 14, "{text}");
            }
        },
    );
}

#[test]
fn the_mount_point_and_trusted_proxies_are_in_the_scope() {
    served("scope_of", &["--root-path", "/app/"], |_, server| {
        let more = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n";
        // with a proxy that takes the mount point off, and with one that does not
        for path in ["/x", "/app/x"] {
            let text = server.open().ask("GET", path, more, b"").text();
            for line in [
                "root_path='/app'",
                "path='/app/x'",
                "raw_path=b'/app/x'",
                "scheme='https'",
                "client=('6.6.6.6', 0)",
            ] {
                assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
            }
        }
    });
}

#[test]
fn bodies_come_whole_or_bit_by_bit() {
    served("echo", &[], |_, server| {
        let mut connection = server.open();
        assert_eq!(connection.ask("POST", "/", "", b"short").text(), "short");
        assert_eq!(connection.ask("GET", "/", "", b"").text(), "");
        let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.send(format!("{chunked}5\r\nhallo\r\n1\r\n!\r\n0\r\n\r\n"));
        assert_eq!(connection.answer("POST").unwrap().text(), "hallo!");
        connection.send(format!("{chunked}0\r\n\r\n"));
        assert_eq!(connection.answer("POST").unwrap().text(), "");
        for body in ["Content-Length: 4", "Transfer-Encoding: chunked"] {
            let expecting =
                format!("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{body}\r\n\r\n");
            connection.send(expecting);
            assert_eq!(connection.head().unwrap().status, 100);
            connection.send(if body.starts_with('C') {
                "body"
            } else {
                "4\r\nbody\r\n0\r\n\r\n"
            });
            assert_eq!(connection.answer("POST").unwrap().text(), "body");
        }
    });
    served("measured", &["--limit-body", "6000000"], |_, server| {
        let mut connection = server.open();
        for size in [65_535usize, 65_536, 65_537, 5_000_000] {
            let body: Vec<u8> = (0..size).map(|n| (n * 7 % 251) as u8).collect();
            let text = connection.ask("POST", "/", "", &body).text();
            let words: Vec<&str> = text.split(' ').collect();
            assert_eq!(words[0], size.to_string());
            // in parts, none of them larger than the window
            assert_eq!(
                (words[2], words[3]),
                (if size > 65_536 { "True" } else { "False" }, "True")
            );
        }
        let answer = connection.ask("POST", "/", "Content-Length: 6000001\r\n", b"");
        assert_eq!(answer.status, 413);
        let mut connection = server.open();
        connection.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut sent = 0;
        let block = [b"10000\r\n".to_vec(), vec![b'x'; 65_536], b"\r\n".to_vec()].concat();
        while sent <= 6_000_000 {
            connection.send(&block);
            sent += 65_536;
        }
        assert_eq!(
            connection.answer("POST").map(|answer| answer.status),
            Some(413)
        );
    });
}

#[test]
fn an_answer_may_begin_before_the_body_has_ended() {
    served("duplex", &[], |_, server| {
        let mut connection = server.open();
        connection
            .send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        assert_eq!(connection.head().unwrap().status, 200);
        assert_eq!(connection.chunk().unwrap(), b"ABC");
        connection.send("2\r\nde\r\n");
        assert_eq!(connection.chunk().unwrap(), b"DE");
        connection.send("0\r\n\r\n");
        assert_eq!(connection.chunk().unwrap(), b"");
    });
    served("deaf", &[], |_, server| {
        let mut connection = server.open();
        connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
        let answer = connection.answer("POST").unwrap();
        assert_eq!((answer.status, &*answer.text()), (413, "no, thank you\n"));
    });
}

#[test]
fn answers_come_in_parts_and_with_all_kinds_of_headers() {
    served("parts", &[], |_, server| {
        let mut connection = server.open();
        for _ in 0..2 {
            let answer = connection.ask("GET", "/", "", b"");
            assert!(answer.whole);
            assert_eq!(answer.text(), "onetwothree");
            assert_eq!(answer.header("x-case"), Some("Kept"));
            assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        }
    });
    served("headers", &[], |_, server| {
        let mut connection = server.open();
        for path in ["/", "/generator"] {
            let answer = connection.ask("GET", path, "", b"");
            assert_eq!((answer.status, &*answer.reason), (418, "I'm a teapot"));
            assert_eq!(answer.header("x-list"), Some("a"));
            assert_eq!(answer.header("x-bytes"), Some("b"));
            assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
            assert_eq!(answer.header("x-latin"), Some("caf\u{e9}"));
            assert_eq!(answer.header("x-utf8"), Some("caf\u{c3}\u{a9}"));
        }
    });
    served("heads", &[], |_, server| {
        let mut connection = server.open();
        for _ in 0..2 {
            for path in ["/plain", "/changed", "/mutable", "/grown"] {
                for number in ["0a", "0b", "1c", "1d"] {
                    let target = format!("{path}?{number}");
                    let answer = connection.ask("GET", &target, "", b"");
                    assert_eq!(answer.text(), number, "{target}");
                    let (status, header) = match path {
                        "/changed" | "/mutable" => (200, number),
                        "/plain" if number.starts_with('1') => (201, "1"),
                        _ => (200, &number[..1]),
                    };
                    assert_eq!(answer.status, status, "{target}");
                    assert_eq!(answer.all("x-n"), [header], "{target}");
                    assert_eq!(answer.header("x-more"), None, "{target}");
                }
            }
        }
    });
    served("no_body", &[], |_, server| {
        let mut connection = server.open();
        for status in [204, 304, 200] {
            let answer = connection.ask("GET", &format!("/{status}"), "", b"");
            assert_eq!((answer.status, answer.body.len()), (status, 0));
            let length = (status == 200).then_some("0");
            assert_eq!(answer.header("content-length"), length, "{status}");
        }
    });
    served("many_parts", &[], |site, server| {
        let mut connection = server.open();
        let answer = connection.ask("GET", "/", "", b"");
        assert_eq!(
            (&*answer.text(), answer.header("content-length")),
            ("abcdef", Some("6"))
        );
        let answer = connection.ask("HEAD", "/", "", b"");
        assert_eq!(
            (&*answer.text(), answer.header("content-length")),
            ("", Some("6"))
        );
        assert_eq!(marks(site, server, 2), ["complete", "complete"]);
        assert_eq!(connection.ask("GET", "/", "", b"").text(), "abcdef");
    });
    served("large", &[], |_, server| {
        let mut connection = server.open();
        for size in [65_536, 65_537, 20_000_000] {
            let answer = connection.ask("GET", &format!("/?{size}"), "", b"");
            assert_eq!((answer.body.len(), answer.whole), (size, true));
            assert!(
                answer
                    .body
                    .chunks(16)
                    .all(|part| b"0123456789abcdef".starts_with(part))
            );
        }
    });
}

#[test]
fn files_are_sent_by_the_front() {
    served("file", &[], |site, server| {
        let content: Vec<u8> = (0..3_000_000u32).map(|n| (n * 3 % 253) as u8).collect();
        site.write("mark.file", &content);
        let mut connection = server.open();
        for _ in 0..2 {
            let answer = connection.ask("GET", "/", "", b"");
            assert!(answer.whole && answer.body == content);
            let answer = connection.ask("HEAD", "/", "", b"");
            assert_eq!(answer.header("content-length"), Some("3000000"));
        }
    });
}

#[test]
fn what_an_application_does_wrong_is_an_error_of_its_request_alone() {
    served("wrong", &[], |_, server| {
        let mut connection = server.open();
        for what in [
            "nothing",
            "raise",
            "body-first",
            "unknown",
            "bad-header",
            "bad-value",
            "text",
            "twice",
            "start-only",
            "exit",
        ] {
            let answer = connection.ask("GET", &format!("/{what}"), "", b"");
            assert_eq!(answer.status, 500, "{what}");
            assert_eq!(connection.ask("GET", "/", "", b"").status, 200, "{what}");
        }
        for what in ["half", "break"] {
            let answer = server.get(&format!("/{what}"));
            assert_eq!(
                (answer.status, answer.whole, &*answer.text()),
                (200, false, "part"),
                "{what}"
            );
        }
        let log = server.log();
        for line in [
            "ValueError: raised on purpose",
            "ValueError: raised in the middle",
            "the application has returned without an answer",
            "the application has returned before its answer was complete",
            "expected ASGI message 'http.response.start', but got 'http.response.body'",
        ] {
            assert!(log.contains(line), "{line} in\n{log}");
        }
        // the server's own lines are not in what the application's author reads
        assert!(
            !log.contains("circ asgi>\", line") || log.contains("in send"),
            "{log}"
        );
        assert_eq!(server.get("/die").status, 502);
        server.wait_for("a new worker", || {
            (server.get("/").status == 200).then_some(())
        });
    });
}

#[test]
fn a_client_that_goes_is_told_to_the_application() {
    served("waits_for_the_end", &[], |site, server| {
        let mut connection = server.open();
        connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        marks(site, server, 1);
        drop(connection);
        assert_eq!(
            marks(site, server, 3),
            ["http.request", "http.disconnect", "http.disconnect"]
        );
        assert!(!server.log().contains("Traceback"), "{}", server.log());
    });
    served("after", &[], |site, server| {
        assert_eq!(server.get("/").text(), "done\n");
        let marks = marks(site, server, 3);
        // also the first: with the answer, the request is over
        assert_eq!(marks[..2], ["http.disconnect", "http.disconnect"]);
        assert!(marks[2].contains("the answer is complete"), "{marks:?}");
    });
}

#[test]
fn an_application_does_not_run_ahead_of_its_client() {
    served("endless", &[], |site, server| {
        let mut connection = server.open();
        connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let stuck = marks(site, server, 1);
        let sent: u64 = stuck[0].strip_prefix("stuck ").unwrap().parse().unwrap();
        // what the system's buffers hold, and the window
        assert!(sent < 32 << 20, "{sent}");
        // others are answered meanwhile
        let mut other = server.open();
        other.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(other.head().unwrap().status, 200);
        drop(other);
        // it goes on when some is taken
        let mut taken = vec![0; 8 << 20];
        let mut stream = connection.stream();
        stream.read_exact(&mut taken).unwrap();
        drop(connection);
        server.wait_for("both clients to be gone", || {
            let text = fs::read_to_string(site.path("mark")).unwrap_or_default();
            (text.lines().filter(|line| *line == "gone").count() == 2).then_some(())
        });
    });
}

fn all_at_once(server: &Server, count: usize, query: usize) -> Vec<usize> {
    let mut connections: Vec<Connection> = (0..count).map(|_| server.open()).collect();
    for connection in &mut connections {
        connection.send(format!("GET /?{query} HTTP/1.1\r\nHost: x\r\n\r\n"));
    }
    let answers = connections.iter_mut().map(|connection| {
        let answer = connection.answer("GET").expect("an answer");
        answer.text().parse().expect("a number")
    });
    answers.collect()
}

#[test]
fn many_requests_are_handled_at_once() {
    served("slow", &[], |_, server| {
        // each waits for all
        assert!(all_at_once(server, 40, 40).iter().all(|most| *most == 40));
    });
    served("slow", &["--limit-concurrency", "3"], |_, server| {
        let most = all_at_once(server, 20, 3).into_iter().max();
        assert_eq!(most, Some(3));
    });
}

#[test]
fn the_lifespan_is_told_and_its_state_is_given_to_requests() {
    let site = TempSite::new();
    let mut server = start(&site, "lives", &[]);
    assert_eq!(marks(&site, &server, 1), ["startup"]);
    let mut connection = server.open();
    for count in 2..5 {
        // a copy for each request, of a common list
        let text = connection.ask("GET", "/", "", b"").text();
        assert_eq!(text, format!("fresh {count}"));
    }
    server.signal(Signal::SIGHUP);
    server.wait_for("the old worker to end and a new one to serve", || {
        let marks = fs::read_to_string(site.path("mark")).unwrap_or_default();
        let mut words: Vec<&str> = marks.lines().collect();
        words.sort_unstable();
        (words == ["shutdown", "startup", "startup"]).then_some(())
    });
    assert_eq!(connection.ask("GET", "/", "", b"").text(), "fresh 2");
    drop(connection);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_eq!(
        marks(&site, &server, 4).last().map(String::as_str),
        Some("shutdown")
    );
    let log = server.log();
    assert!(!log.contains("Traceback"), "{log}");
}

#[test]
fn a_startup_that_fails_ends_the_server() {
    for (application, mode, line) in [
        ("fails", "auto", "no database"),
        ("raises", "on", "no lifespan today"),
        ("unknown", "on", "http only"),
    ] {
        let site = TempSite::new();
        let mut server = start(&site, application, &["--lifespan", mode]);
        assert_eq!(server.wait_exit().code(), Some(4), "{application}");
        let log = server.log();
        assert!(log.contains(line), "{log}");
    }
    for (application, mode) in [("unknown", "auto"), ("raises", "auto"), ("fails", "off")] {
        served(application, &["--lifespan", mode], |_, server| {
            assert_eq!(server.get("/").text(), "no state", "{application}");
        });
    }
}

#[test]
fn it_ends_when_what_is_under_way_is_done() {
    let site = TempSite::new();
    let mut server = start(&site, "slow", &[]);
    // waits until there are two
    let mut first = server.open();
    first.send("GET /?2 HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut second = server.open();
    assert!(second.ask("GET", "/", "", b"").whole);
    let mut third = server.open();
    third.send("GET /?9 HTTP/1.1\r\nHost: x\r\n\r\n");
    server.signal(Signal::SIGTERM);
    assert!(first.answer("GET").unwrap().whole);
    drop(third);
    drop(second);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(children(server.pid()).is_empty());
}

#[test]
fn a_worker_that_dies_takes_only_what_it_was_at_with_it() {
    served("duplex", &[], |_, server| {
        let mut connection = server.open();
        connection
            .send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        assert_eq!(connection.head().unwrap().status, 200);
        assert_eq!(connection.chunk().unwrap(), b"ABC");
        let worker = children(server.pid());
        assert_eq!(worker.len(), 1);
        worker[0].signal(Signal::SIGKILL);
        assert_eq!(connection.chunk(), None);
        server.wait_for("a new worker", || {
            let mut connection = server.open();
            let answer = connection.ask("POST", "/", "", b"again");
            (answer.status == 200 && answer.text() == "AGAIN").then_some(())
        });
    });
}

#[test]
fn an_interface_that_changes_under_way_is_refused() {
    let site = TempSite::new();
    let path = site.write("changing.py", "async def app(scope, receive, send):\n    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n    await send({'type': 'http.response.body', 'body': b'asgi'})\n");
    let server = Server::start(&site, "changing:app", &[]);
    assert_eq!(server.get("/").text(), "asgi");
    fs::write(path, "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'wsgi']\n").unwrap();
    server.signal(Signal::SIGHUP);
    server.wait_for("the refusal", || {
        server
            .log()
            .contains("is WSGI now, and was ASGI before")
            .then_some(())
    });
    assert_eq!(server.get("/").text(), "asgi");
}

#[test]
fn clients_that_come_slowly_cost_nothing() {
    served("echo", &[], |_, server| {
        let mut slow: Vec<Connection> = (0..50).map(|_| server.open()).collect();
        for (place, connection) in slow.iter_mut().enumerate() {
            let half = [
                "GET / HT",
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
            ];
            connection.send(half[place % 2]);
        }
        for _ in 0..10 {
            assert_eq!(server.get("/").status, 200);
        }
        let last = slow.last_mut().unwrap();
        last.send(" done");
        assert_eq!(last.answer("POST").unwrap().text(), "half done");
    });
}

#[test]
fn a_slow_request_holds_up_no_answer_that_is_done() {
    served("until_seen", &[], |site, server| {
        server.holds_up_no_answer(&site.path("mark"));
    });
}
