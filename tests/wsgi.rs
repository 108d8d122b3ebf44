//! `circ chaussette` as a WSGI server: PEP 3333, HTTP, and what it does when things go wrong.

#[path = "wsgi/client.rs"]
mod client;
mod support;

use std::fs;
use std::process::Command;

use client::{Connection, Server, numbers};
use nix::sys::signal::Signal;
use support::{TempSite, children, wait_for};

fn served(application: &str, args: &[&str], test: impl FnOnce(&TempSite, &Server)) {
    let site = TempSite::new();
    let server = Server::start(&site, &format!("applications:{application}"), args);
    test(&site, &server);
}

#[test]
fn the_seeds_application_is_served() {
    served(
        "seed",
        &["--backend", "gevent", "--no-monkey"],
        |_, server| {
            let answer = server.get("/");
            assert_eq!((answer.status, &*answer.reason), (200, "OK"));
            assert_eq!(answer.header("content-type"), Some("text/plain"));
            assert_eq!(answer.text(), "Hello, World!\n");
            assert!(answer.header("date").is_some());
        },
    );
}

#[test]
fn the_environ_is_that_of_pep_3333() {
    served("environ_of", &[], |_, server| {
        let mut connection = server.open();
        let more = "Content-Type: a/b\r\nX-One: 1\r\nCookie: a=1\r\nX-One: 2\r\nCookie: b=2\r\n\
                    X_Spoofed: no\r\nProxy: evil\r\nX-Latin: caf\u{e9}\r\n"
            .chars()
            .map(|c| c as u8)
            .collect::<Vec<u8>>();
        let mut request =
            b"POST /a%20b%2Fc/%e9?x=%20&y HTTP/1.1\r\nHost: example.org:99\r\n".to_vec();
        request.extend(more);
        request.extend(b"Content-Length: 3\r\n\r\nabc");
        connection.send(request);
        let answer = connection.answer("POST").unwrap();
        let text: String = answer.body.iter().map(|byte| char::from(*byte)).collect();
        for line in [
            "REQUEST_METHOD='POST'",
            "SCRIPT_NAME=''",
            "PATH_INFO='/a b/c/\u{e9}'",
            "QUERY_STRING='x=%20&y'",
            "CONTENT_TYPE='a/b'",
            "CONTENT_LENGTH='3'",
            "SERVER_NAME='127.0.0.1'",
            &format!("SERVER_PORT='{}'", server.port),
            "SERVER_PROTOCOL='HTTP/1.1'",
            "REMOTE_ADDR='127.0.0.1'",
            "HTTP_HOST='example.org:99'",
            "HTTP_X_ONE='1,2'",
            "HTTP_COOKIE='a=1; b=2'",
            "HTTP_X_LATIN='caf\u{e9}'",
            "wsgi.version=(1, 0)",
            "wsgi.url_scheme='http'",
            "wsgi.multithread=False",
            "wsgi.multiprocess=False",
            "wsgi.run_once=False",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
        for name in ["X_SPOOFED", "HTTP_PROXY", "HTTP_CONTENT", "TRANSFER"] {
            assert!(!text.contains(name), "{name} in\n{text}");
        }
        let port = connection.stream().local_addr().unwrap().port();
        assert!(text.contains(&format!("REMOTE_PORT='{port}'")), "{text}");
        // Again and again on one connection: what the worker keeps of the environ is nobody else's.
        for round in 0..5 {
            let more = format!("X-Round: {}\r\n", round / 3);
            let path = format!("/{round}?q={round}");
            let text = connection.ask("GET", &path, &more, b"").text();
            for line in [
                format!("PATH_INFO='/{round}'"),
                format!("QUERY_STRING='q={round}'"),
                format!("RAW_URI='/{round}?q={round}'"),
                format!("HTTP_X_ROUND='{}'", round / 3),
            ] {
                assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
            }
            assert!(
                !text.contains("CONTENT_LENGTH") && !text.contains("COOKIE"),
                "{text}"
            );
        }
    });
}

#[test]
fn the_mount_point_is_taken_off_the_path() {
    let site = TempSite::new();
    let server = Server::with(&site, "applications:environ_of", &[], |command| {
        command.env("SCRIPT_NAME", "/app");
    });
    let text = server.get("/app/x").text();
    assert!(
        text.contains("SCRIPT_NAME='/app'") && text.contains("PATH_INFO='/x'"),
        "{text}"
    );
    let text = server.get("/application").text();
    assert!(text.contains("PATH_INFO='/application'"), "{text}");
}

#[test]
fn forwarded_headers_are_believed_from_trusted_peers_only() {
    let more = "X-Forwarded-For: 6.6.6.6, 10.0.0.9\r\nX-Forwarded-Proto: https\r\n";
    served(
        "environ_of",
        &["--forwarded-allow-ips", "127.0.0.1,10.0.0.9"],
        |_, server| {
            let text = server.open().ask("GET", "/", more, b"").text();
            assert!(text.contains("wsgi.url_scheme='https'"), "{text}");
            assert!(text.contains("REMOTE_ADDR='6.6.6.6'"), "{text}");
        },
    );
    served(
        "environ_of",
        &["--forwarded-allow-ips", "10.0.0.9"],
        |_, server| {
            let text = server.open().ask("GET", "/", more, b"").text();
            assert!(text.contains("wsgi.url_scheme='http'"), "{text}");
            assert!(text.contains("REMOTE_ADDR='127.0.0.1'"), "{text}");
            assert!(!text.contains("FORWARDED"), "{text}");
        },
    );
}

#[test]
fn the_body_can_be_read_in_every_way() {
    served("reading", &[], |_, server| {
        let body = b"one\ntwo\nthree\nfour";
        let answer = server.open().ask("POST", "/", "", body);
        let all = "[b'on', b'e\\n', b'tw', [b'o\\n'], [b'three\\n', b'four'], b'']";
        assert_eq!(answer.text(), all);
    });
    served("echo", &[], |_, server| {
        let mut connection = server.open();
        let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.send(format!("{chunked}5\r\nhallo\r\n1\r\n!\r\n0\r\n\r\n"));
        assert_eq!(connection.answer("POST").unwrap().text(), "hallo!");
        // A client that waits for the go-ahead gets it.
        let expecting =
            "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        connection.send(expecting);
        assert_eq!(connection.head().unwrap().status, 100);
        connection.send("body");
        assert_eq!(connection.answer("POST").unwrap().text(), "body");
        assert_eq!(connection.ask("GET", "/", "", b"").text(), "");
    });
}

#[test]
fn a_large_body_arrives() {
    served("measured", &[], |_, server| {
        let mut connection = server.open();
        for size in [65_535, 65_536, 65_537, 300_000, 20_000_000] {
            let body: Vec<u8> = (0..size).map(|n| (n * 7 % 251) as u8).collect();
            let answer = connection.ask("POST", "/", "", &body);
            let check = crc32(&body);
            assert_eq!(answer.text(), format!("{size} {check} {size}"));
        }
    });
}

/// As zlib's.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    })
}

#[test]
fn close_is_always_called() {
    let site = TempSite::new();
    let server = Server::start(&site, "applications:closing", &[]);
    let mark = site.path("mark");
    let closed = |times: usize| {
        let text = wait_for("close() to be called", || {
            let text = fs::read_to_string(&mark).unwrap_or_default();
            (text.lines().count() >= times).then_some(text)
        });
        assert_eq!(text.lines().count(), times);
    };
    assert_eq!(server.get("/parts").text(), "ab");
    closed(1);
    let answer = server.get("/none");
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    closed(2);
    let answer = server.get("/fails");
    assert_eq!((answer.status, answer.whole), (200, false));
    closed(3);
    assert_eq!(server.get("/fails-at-once").status, 500);
    closed(4);
    // A client that goes away in the middle of an endless answer.
    let mut connection = server.open();
    connection.send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(connection.head().unwrap().status, 200);
    assert_eq!(connection.chunk().unwrap().len(), 65_536);
    drop(connection);
    closed(5);
    assert_eq!(server.get("/parts").text(), "ab");
}

#[test]
fn start_response_does_what_pep_3333_says() {
    let site = TempSite::new();
    for (application, status, body, whole) in [
        ("late", 200, "late\n", true),
        ("writing", 200, "written and returned\n", true),
        ("changing_its_mind", 503, "sorry\n", true),
        ("too_late", 200, "begun\n", false),
    ] {
        let server = Server::start(&site, &format!("applications.{application}"), &[]);
        let answer = server.get("/");
        assert_eq!(
            (answer.status, answer.text().as_str(), answer.whole),
            (status, body, whole),
            "{application}"
        );
        if application == "changing_its_mind" {
            assert_eq!(answer.reason, "Out Of Order");
        }
    }
}

#[test]
fn an_application_that_does_wrong_is_told_of_in_the_log() {
    served("wrong", &[], |_, server| {
        let mut connection = server.open();
        for (path, said) in [
            ("/raises", "RuntimeError: a mistake"),
            ("/exits", "SystemExit: 3"),
            ("/twice", "start_response was called twice"),
            ("/no-start", "start_response"),
            ("/text", "a body consists of bytes"),
            ("/injects", "control characters"),
            ("/status", "no status"),
            ("/nothing", "NoneType"),
        ] {
            let answer = connection.ask("GET", path, "", b"");
            assert_eq!(answer.status, 500, "{path}");
            assert!(!answer.text().contains("Traceback"));
            server.wait_for(said, || server.log().contains(said).then_some(()));
        }
        assert_eq!(connection.ask("GET", "/", "", b"").text(), "good\n");
    });
}

#[test]
fn heads_and_empty_answers() {
    served("empty", &[], |_, server| {
        let mut connection = server.open();
        let answer = connection.ask("HEAD", "/", "", b"");
        assert_eq!(
            (answer.status, answer.header("content-length")),
            (200, Some("12"))
        );
        assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
        for path in ["/204", "/304"] {
            let answer = connection.ask("GET", path, "", b"");
            assert_eq!(answer.header("content-length"), None);
            assert_eq!(answer.header("transfer-encoding"), None);
        }
        assert_eq!(connection.ask("GET", "/", "", b"").text(), "twelve bytes");
    });
    served("subclasses", &[], |_, server| {
        assert_eq!(server.get("/").header("x-a"), Some("caf\u{e9}"));
    });
}

#[test]
fn each_answer_has_its_own_head() {
    for args in [&[][..], &["--threads", "2"]] {
        served("heads", args, |_, server| {
            let mut connection = server.open();
            for round in 0..3 {
                for path in ["/plain", "/changed", "/grown"] {
                    for number in ["0a", "0b", "1c", "1d"] {
                        let target = format!("{path}?{number}");
                        let answer = connection.ask("GET", &target, "", b"");
                        assert_eq!(answer.text(), number, "{target}");
                        let (status, header) = match path {
                            "/changed" => (200, number),
                            "/grown" => (200, &number[..1]),
                            _ if number.starts_with('1') => (201, "1"),
                            _ => (200, "0"),
                        };
                        assert_eq!(answer.status, status, "{target} {round}");
                        assert_eq!(answer.all("x-n"), [header], "{target} {round}");
                        let more = (path == "/grown").then_some(number);
                        assert_eq!(answer.header("x-more"), more, "{target} {round}");
                    }
                }
            }
        });
    }
}

#[test]
fn answers_of_all_sizes_come_whole() {
    for args in [&[][..], &["--threads", "3"]] {
        served("sized", args, |_, server| {
            std::thread::scope(|scope| {
                for client in 0..8usize {
                    scope.spawn(move || {
                        let mut connection = server.open();
                        let mut length = client * 1000;
                        for turn in 0..120 {
                            // many small ones, some that are told whole, some in parts
                            length = (length * 7919 + 13 * turn) % 90_001;
                            let length = if turn % 3 == 0 { length % 300 } else { length };
                            let seed = format!("{client}x{turn}");
                            let target = format!("/?{length}-{seed}");
                            let answer = connection.ask("GET", &target, "", b"");
                            let unit = format!("{seed}.");
                            let wanted = unit.repeat(length / unit.len() + 1);
                            assert!(answer.text() == wanted[..length], "{target}");
                        }
                    });
                }
            });
        });
    }
}

#[test]
fn wsgiref_finds_nothing_to_complain_of() {
    served("validated", &[], |_, server| {
        let mut connection = server.open();
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let body: &[u8] = if matches!(method, "POST" | "PUT" | "PATCH") {
                b"one\ntwo\n"
            } else {
                b""
            };
            let answer = connection.ask(method, "/x?y=z", "Content-Type: text/plain\r\n", body);
            assert_eq!(answer.status, 200, "{method}\n{}", server.log());
            if method != "HEAD" {
                assert_eq!(answer.text(), format!("valid {method}"));
            }
        }
        assert!(!server.log().contains("Traceback"), "{}", server.log());
    });
}

#[test]
fn parts_are_sent_when_they_are_there() {
    let site = TempSite::new();
    fs::create_dir(site.path("mark")).unwrap();
    let server = Server::start(&site, "applications:streaming", &[]);
    let mut connection = server.open();
    connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    for number in 0..3 {
        site.write(&format!("mark/part-{number}"), "");
        if number == 0 {
            assert_eq!(connection.head().unwrap().status, 200);
        }
        let part = connection.chunk().unwrap();
        assert_eq!(part, format!("data: {number}\n\n").into_bytes());
    }
    assert_eq!(connection.chunk().unwrap(), b"");
}

#[test]
fn a_long_answer_takes_no_memory() {
    served("large", &[], |_, server| {
        let pid = server.pid();
        // a process that has just been forked is still called as its parent
        wait_for("the worker's process", || {
            let worker = children(pid).first()?.cmdline();
            worker.iter().any(|word| word == "circ-wsgi").then_some(())
        });
        for path in ["/?128", "/length?128"] {
            let mut connection = server.open();
            connection.send(format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            ));
            // Nobody reads for a while: the application is not asked for more than fits in between.
            let peak = |pid: i32| {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
                let line = status
                    .lines()
                    .find(|line| line.starts_with("VmHWM"))
                    .unwrap();
                line.split_whitespace()
                    .nth(1)
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            };
            let answer = connection.answer("GET").unwrap();
            assert!(answer.whole);
            assert_eq!(answer.body.len(), 128 << 20);
            let block: Vec<u8> = (0..=255).collect();
            assert!(answer.body.chunks(256).all(|part| part == block));
            assert!(peak(pid) < 60_000, "{} KiB", peak(pid));
        }
    });
}

#[test]
fn files_are_sent() {
    let site = TempSite::new();
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n * 31 % 253) as u8).collect();
    let path = site.write("file", &content);
    let server = Server::with(&site, "applications:file", &[], |command| {
        command.env("FILE", &path);
    });
    let mut connection = server.open();
    let answer = connection.ask("GET", "/", "", b"");
    assert!(answer.body == content);
    assert_eq!(answer.header("content-length"), Some("3000000"));
    let answer = connection.ask("GET", "/?1000-2500000", "", b"");
    assert!(answer.body == content[1000..2_501_000]);
    assert_eq!(
        connection
            .ask("HEAD", "/", "", b"")
            .header("content-length"),
        Some("3000000")
    );
    assert_eq!(
        connection.ask("GET", "/?2999999-1", "", b"").body,
        content[2_999_999..]
    );
}

#[test]
fn a_worker_that_dies_fails_its_request_only() {
    served("dying", &[], |_, server| {
        let before = server.get("/").text();
        // The second is at it, the others wait behind.
        let all: Vec<Connection> = ["/slow", "/die", "/", "/", "/"]
            .iter()
            .map(|path| {
                let mut connection = server.open();
                connection.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
                connection
            })
            .collect();
        let answers: Vec<_> = all
            .into_iter()
            .map(|mut c| c.answer("GET").unwrap())
            .collect();
        let codes: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(codes, [200, 502, 200, 200, 200]);
        assert_ne!(answers[4].text(), before);
        assert!(server.log().contains("is replaced"), "{}", server.log());
    });
}

#[test]
fn several_requests_at_once() {
    served("blocking", &["--threads", "8"], |_, server| {
        let mut all: Vec<Connection> = (0..32)
            .map(|_| {
                let mut connection = server.open();
                connection.send("GET /?0.05 HTTP/1.1\r\nHost: x\r\n\r\n");
                connection
            })
            .collect();
        let mut names: Vec<String> = all
            .iter_mut()
            .map(|c| c.answer("GET").unwrap().text())
            .collect();
        names.sort();
        names.dedup();
        assert!(names.len() > 1, "{names:?}");
    });
}

#[test]
fn an_application_that_cannot_be_imported() {
    let site = TempSite::new();
    for (name, said) in [
        ("applications:nothing", "has no attribute 'nothing'"),
        ("no_such_module:app", "No module named 'no_such_module'"),
        ("applications:VERSION", "cannot be called"),
        ("applications", "has no application"),
    ] {
        let mut server = Server::start(&site, name, &[]);
        assert_eq!(server.wait_exit().code(), Some(4), "{name}");
        assert!(server.log().contains(said), "{name}: {}", server.log());
    }
    let server = Server::start(&site, "applications:factory()", &[]);
    assert_eq!(server.get("/").text(), "hello\n");
}

#[test]
fn what_is_under_way_is_finished() {
    let site = TempSite::new();
    let mut server = Server::start(&site, "applications:blocking", &[]);
    assert_eq!(server.get("/?0").status, 200);
    let mut idle = server.open();
    assert_eq!(idle.ask("GET", "/?0", "", b"").status, 200);
    let mut busy = server.open();
    busy.send("GET /mark?0.5 HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_for("the request to be begun", || {
        site.path("mark").exists().then_some(())
    });
    server.signal(Signal::SIGTERM);
    let answer = busy.answer("GET").unwrap();
    assert_eq!((answer.status, answer.whole), (200, true));
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(idle.answer("GET").is_none());
}

#[test]
fn a_hangup_brings_the_application_anew() {
    let site = TempSite::new();
    site.write("version", "one");
    let server = Server::start(&site, "applications:version", &["--workers", "2"]);
    assert_eq!(server.get("/").text(), "one");
    site.write("version", "two");
    server.signal(Signal::SIGHUP);
    let mut connection = server.open();
    server.wait_for("the new application", || {
        let answer = connection.ask("GET", "/", "", b"");
        assert_eq!(answer.status, 200);
        (answer.text() == "two").then_some(())
    });
    server.wait_for("the old processes to go", || {
        (children(server.pid()).len() == 2).then_some(())
    });
    // One that cannot be imported leaves the old one in place.
    site.write("applications.py", "1/0");
    server.signal(Signal::SIGHUP);
    server.wait_for("the failure", || {
        server.log().contains("ZeroDivisionError").then_some(())
    });
    server.wait_for("the failed ones to go", || {
        (children(server.pid()).len() == 2).then_some(())
    });
    for _ in 0..20 {
        assert_eq!(connection.ask("GET", "/", "", b"").text(), "two");
    }
}

#[test]
fn what_one_thread_has_heard_no_other_waits_for() {
    let here = |name: &str| format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3")
        .arg(here("tests/wsgi/waits.py"))
        .args([here("src/wsgi/worker.py"), here("src/wsgi/asgi/asgi.py")])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n", "{error}");
}

#[test]
fn a_slow_request_holds_up_no_answer_that_is_done() {
    served("until_seen", &[], |site, server| {
        server.holds_up_no_answer(&site.path("mark"));
    });
}

#[test]
fn requests_that_come_together_go_to_different_processes() {
    served("together", &["--workers", "2"], |_, server| {
        server.wait_for("both processes", || {
            let ready = numbers(server.pid()).contains("circ_front_workers 2");
            // it tells when something happens
            (ready || server.get("/").text().is_empty()).then_some(())
        });
        for mut connection in server.at_once(["/two", "/two"]) {
            assert_eq!(connection.answer("GET").unwrap().text(), "yes");
        }
    });
}
