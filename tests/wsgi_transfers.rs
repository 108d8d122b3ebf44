//! What goes through `circ chaussette` when there is much of it, when clients leave in the middle, and over Unix sockets: the
//! same for WSGI and for ASGI.

#[path = "wsgi/client.rs"]
mod client;
mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use client::{Answer, Server};
use nix::sys::signal::Signal;
use support::{TempSite, children, wait_for};

/// 64 MiB, in KiB and in blocks of the application.
const MUCH: u64 = 64 << 10;
const BLOCKS: usize = 1024;

fn start(site: &TempSite, interface: &str, args: &[&str]) -> Server {
    site.write("transfers.py", include_str!("wsgi_transfers/transfers.py"));
    let application = format!("transfers:{interface}");
    Server::with(site, &application, args, |command| {
        command
            .env("PYTHONNOUSERSITE", "1")
            .env("FILE", site.path("file"));
    })
}

/// The most memory that a process has had, in KiB.
fn peak(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.unwrap_or_default().split_whitespace().next();
    words.and_then(|number| number.parse().ok()).unwrap()
}

fn marks(site: &TempSite, word: &str) -> usize {
    let text = fs::read_to_string(site.path("mark")).unwrap_or_default();
    text.lines().filter(|line| *line == word).count()
}

#[test]
fn long_bodies_and_answers_take_no_memory() {
    for interface in ["wsgi", "asgi"] {
        let site = TempSite::new();
        let server = start(&site, interface, &[]);
        let block: Vec<u8> = (0..=255).cycle().take(1 << 16).collect();
        let file = fs::File::create(site.path("file")).unwrap();
        for _ in 0..BLOCKS {
            (&file).write_all(&block).unwrap();
        }
        assert_eq!(server.get("/").status, 200);
        let processes = [server.pid(), children(server.pid())[0].pid];
        let before = processes.map(peak);

        let mut connection = server.open();
        let length = BLOCKS * block.len();
        connection.send(format!(
            "POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
        ));
        for _ in 0..BLOCKS {
            connection.send(&block);
        }
        let whole = format!("{length}\n");
        assert_eq!(connection.answer("POST").unwrap().text(), whole);

        connection.send("POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..BLOCKS {
            connection.send(b"10000\r\n");
            connection.send(&block);
            connection.send(b"\r\n");
        }
        connection.send(b"0\r\n\r\n");
        assert_eq!(connection.answer("POST").unwrap().text(), whole);

        for path in [&format!("/down?{BLOCKS}"), "/file"] {
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(connection.head().unwrap().status, 200);
            // a bit at a time: what is not taken is nobody's memory either
            let mut part = vec![0; block.len()];
            for _ in 0..BLOCKS {
                connection.read(&mut part);
                assert!(part == block, "{path}");
            }
        }
        for (pid, before) in processes.into_iter().zip(before) {
            let more = peak(pid) - before;
            assert!(more < MUCH / 4, "{interface}: {more} KiB more");
        }
    }
}

#[test]
fn clients_that_leave_during_their_upload_are_told_of_or_never_seen() {
    for interface in ["wsgi", "asgi"] {
        let site = TempSite::new();
        let server = start(&site, interface, &[]);
        for head in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
            let begun = marks(&site, "begun");
            let mut connection = server.open();
            connection.send(format!("POST /up HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n"));
            connection.send(b"10\r\n0123456789abcdef\r\n");
            // an ASGI application is at it while the body comes, a WSGI one has not heard of it
            if interface == "asgi" {
                wait_for("it to begin", || {
                    (marks(&site, "begun") > begun).then_some(())
                });
            }
            drop(connection);
        }
        if interface == "asgi" {
            wait_for("both to be gone", || {
                (marks(&site, "gone") == 2).then_some(())
            });
        }
        assert_eq!(server.get("/").status, 200);
        assert!(interface == "asgi" || marks(&site, "begun") == 0);
        assert!(!server.log().contains("Traceback"), "{}", server.log());
    }
}

#[test]
fn a_client_of_events_that_leaves_ends_them() {
    for interface in ["wsgi", "asgi"] {
        let site = TempSite::new();
        let server = start(&site, interface, &[]);
        for times in 1..3 {
            let mut connection = server.open();
            connection.send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(connection.head().unwrap().status, 200);
            for number in 0..3 {
                let event = format!("data: {number}\n\n").into_bytes();
                assert_eq!(connection.chunk(), Some(event));
            }
            drop(connection);
            wait_for("the end", || {
                (marks(&site, "closed") == times).then_some(())
            });
        }
        assert_eq!(server.get("/").status, 200);
        assert!(!server.log().contains("Traceback"), "{}", server.log());
    }
}

#[test]
fn what_does_not_end_is_given_up_at_the_end() {
    for interface in ["wsgi", "asgi"] {
        let site = TempSite::new();
        let mut server = start(&site, interface, &["--graceful-timeout", "0.3"]);
        let mut events = server.open();
        events.send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(events.head().unwrap().status, 200);
        let mut upload = server.open();
        upload.send("POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx");
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait_exit().code(), Some(0), "{}", server.log());
        assert!(
            server.log().contains("not done in time"),
            "{}",
            server.log()
        );
    }
}

#[test]
fn a_status_that_is_no_answer_is_refused() {
    for interface in ["wsgi", "asgi"] {
        let site = TempSite::new();
        let server = start(&site, interface, &[]);
        let mut connection = server.open();
        for code in [100, 101, 103] {
            let answer = connection.ask("GET", &format!("/status/{code}"), "", b"");
            assert_eq!(answer.status, 500, "{interface} {code}");
            let said = format!("{code}");
            server.wait_for("the reason", || {
                let log = server.log();
                let mut lines = log.lines();
                let found = lines.any(|l| l.contains(&said) && l.contains("not that of an answer"));
                found.then_some(())
            });
        }
        for code in [200, 299, 451, 599] {
            let answer = connection.ask("GET", &format!("/status/{code}"), "", b"");
            assert_eq!(answer.status, code);
        }
    }
}

/// wsgiref's validator around applications of all kinds. (It forbids `read()` without a size; those that do are not here.)
#[test]
fn wsgiref_validates_applications_of_all_kinds() {
    let site = TempSite::new();
    let text = "from wsgiref.validate import validator\n\
                import applications\n\
                def app(environ, start_response):\n    \
                    name = environ['PATH_INFO'].strip('/')\n    \
                    environ['PATH_INFO'] = '/parts'\n    \
                    return validator(getattr(applications, name))(environ, start_response)\n";
    site.write("checked.py", text);
    let server = Server::with(&site, "checked:app", &["--threads", "2"], |command| {
        command.env("FILE", site.path("checked.py"));
    });
    let mut connection = server.open();
    for name in [
        "hello",
        "seed",
        "environ_of",
        "echo_path",
        "measured",
        "late",
        "writing",
        "changing_its_mind",
        "closing",
        "large",
        "streaming_much",
        "file",
        "blocking",
        "empty",
        "version",
    ] {
        for (method, body) in [("GET", &b""[..]), ("HEAD", b""), ("POST", b"one\ntwo")] {
            let query = if name == "file" { "" } else { "?1" };
            let answer = connection.ask(method, &format!("/{name}{query}"), "", body);
            let wanted = if name == "changing_its_mind" {
                503
            } else {
                200
            };
            assert_eq!(answer.status, wanted, "{method} {name}\n{}", server.log());
        }
    }
    assert!(!server.log().contains("Traceback"), "{}", server.log());
}

/// Else the client would take the beginning of the next answer for the end of this one, or the reverse.
#[test]
fn answers_have_the_length_that_they_say() {
    for interface in ["wsgi", "asgi"] {
        let site = TempSite::new();
        site.write("file", "hello");
        let server = start(&site, interface, &[]);
        for (path, status, body) in [
            ("whole/5", 200, "hello"),
            ("whole/5/5", 200, "hello"),
            ("whole/3", 200, "hel"),
            ("whole/10", 500, "Internal Server Error\n"),
            ("whole/5/6", 500, "Internal Server Error\n"),
            ("whole/abc", 500, "Internal Server Error\n"),
            ("whole/+5", 500, "Internal Server Error\n"),
            ("parts/5", 200, "hello"),
            ("parts/3", 200, "hel"),
            ("parts/abc", 500, "Internal Server Error\n"),
            ("file/5", 200, "hello"),
            ("file/3", 200, "hel"),
            ("file/10", 500, "Internal Server Error\n"),
        ] {
            let mut connection = server.open();
            let answer = connection.ask("GET", &format!("/length/{path}"), "", b"");
            assert_eq!(
                (answer.status, &*answer.text()),
                (status, body),
                "{interface} {path}"
            );
            assert_eq!(answer.all("content-length").len(), 1, "{interface} {path}");
            // what comes next is the next answer
            if answer.header("connection") != Some("close") {
                assert_eq!(connection.ask("GET", "/", "", b"").status, 200, "{path}");
            }
        }
        let mut connection = server.open();
        let answer = connection.ask("GET", "/length/parts/10", "", b"");
        assert_eq!(
            (answer.status, answer.whole, &*answer.text()),
            (200, false, "hello")
        );
        assert!(connection.answer("GET").is_none());
        server.wait_for("the reason", || {
            server
                .log()
                .contains("5 bytes shorter than its Content-Length")
                .then_some(())
        });
        for path in ["whole/10", "parts/10", "whole/3", "file/10"] {
            let path = format!("/length/{path}");
            assert_eq!(
                server.open().ask("HEAD", &path, "", b"").status,
                200,
                "{path}"
            );
        }
    }
}

#[test]
fn a_body_is_asked_for_when_the_client_waits() {
    for interface in ["wsgi", "asgi"] {
        let site = TempSite::new();
        let server = start(&site, interface, &[]);
        let mut connection = server.open();
        for length in [3, 200_000] {
            connection.send(format!(
                "POST /up HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
            ));
            assert_eq!(connection.head().unwrap().status, 100);
            connection.send(vec![b'x'; length]);
            let answer: Answer = connection.answer("POST").unwrap();
            assert_eq!(answer.text(), format!("{length}\n"));
        }
    }
}

#[test]
fn clients_come_through_a_unix_socket() {
    for (interface, asked, said) in [
        (
            "wsgi",
            "Host: example.org:99",
            "'' 'example.org' '99' 'http'",
        ),
        (
            "wsgi",
            "Host: example.org\r\nX-Forwarded-Proto: https",
            "'' 'example.org' '443' 'https'",
        ),
        (
            "wsgi",
            "Host: x\r\nX-Forwarded-For: 10.0.0.7, 127.0.0.1",
            "'10.0.0.7' 'x' '80' 'http'",
        ),
        ("wsgi", "Host:", "'' 'localhost' '80' 'http'"),
        (
            "asgi",
            "Host: example.org:99",
            "[None, ('PATH', None), 'http']",
        ),
        (
            "asgi",
            "Host: x\r\nX-Forwarded-For: 10.0.0.7\r\nX-Forwarded-Proto: https",
            "[('10.0.0.7', 0), ('PATH', None), 'https']",
        ),
    ] {
        let site = TempSite::new();
        let path = site.path("web.sock");
        let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
        site.write("transfers.py", include_str!("wsgi_transfers/transfers.py"));
        let host = format!("unix:{}", path.display());
        command
            .args([
                "chaussette",
                "--host",
                &host,
                &format!("transfers:{interface}"),
            ])
            .current_dir(site.dir())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("MARK", site.path("mark"))
            .stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stream = wait_for("the socket", || UnixStream::connect(&path).ok());
        let request = format!("GET / HTTP/1.1\r\nConnection: close\r\n{asked}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        let ended = child.wait().unwrap();
        read.unwrap();
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        assert_eq!(body.replace(&path.display().to_string(), "PATH"), said);
        assert!(ended.success());
    }
}

#[test]
fn a_target_with_a_host_of_its_own_must_be_of_that_host() {
    let site = TempSite::new();
    let server = start(&site, "wsgi", &[]);
    for (target, host, status) in [
        ("http://example.org/", "example.org", 200),
        ("http://Example.org:80/", "example.org:80", 200),
        ("http://example.org/", "other.org", 400),
        ("http://example.org:81/", "example.org", 400),
        ("*", "example.org", 200),
    ] {
        let mut connection = server.open();
        connection.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let answer = connection.answer("OPTIONS").unwrap();
        assert_eq!(answer.status, status, "{target} {host}");
    }
}

/// Ends the clients, also when a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_hangup_under_load_fails_no_request() {
    for interface in ["wsgi", "asgi"] {
        let site = TempSite::new();
        let server = start(&site, interface, &["--workers", "2"]);
        server.wait_for("both processes", || {
            assert_eq!(server.get("/").status, 200);
            (children(server.pid()).len() == 2).then_some(())
        });
        let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
        let client = |kept: bool| {
            let (server, stop, served) = (&server, &stop, &served);
            move || {
                let mut connection = server.open();
                while !stop.load(Relaxed) {
                    if !kept {
                        connection = server.open();
                    }
                    let answer = connection.ask("GET", "/", "", b"");
                    assert_eq!((answer.status, answer.whole), (200, true));
                    served.fetch_add(1, Relaxed);
                }
            }
        };
        let ended: Vec<_> = std::thread::scope(|scope| {
            let clients = [true, true, false].map(|kept| scope.spawn(client(kept)));
            let stopping = Stop(&stop);
            for _ in 0..3 {
                let before = children(server.pid())
                    .iter()
                    .map(|child| child.pid)
                    .collect::<Vec<_>>();
                let count = served.load(Relaxed);
                server.signal(Signal::SIGHUP);
                server.wait_for("other processes, and requests that they answer", || {
                    let now = children(server.pid());
                    let new =
                        now.len() == 2 && now.iter().all(|child| !before.contains(&child.pid));
                    (new && served.load(Relaxed) > count + 50).then_some(())
                });
            }
            drop(stopping);
            clients.into_iter().map(|client| client.join()).collect()
        });
        assert!(
            ended.iter().all(Result::is_ok),
            "{interface}: {}",
            server.log()
        );
    }
}
