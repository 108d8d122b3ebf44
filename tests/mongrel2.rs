//! `circ m2wsgi` behind a real Mongrel2: the third document that circ grew from, and each thing that goes over the wire.

#[path = "wsgi/client.rs"]
mod client;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use client::{Answer, Connection, numbers};
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use serde_json::json;
use support::{Program, Running, TempSite, asking_meanwhile, is_alive, need};

const SERVER: &str = "31bf6b07-a147-466c-87b5-961481b99201";

const APP: &str = r#"
import os, time

MARK = os.environ["MARK"]

def told(text):
    with open(MARK, "a") as mark:
        mark.write(text + "\n")

def app(environ, start_response):
    path = environ["PATH_INFO"]
    def answer(body, *more):
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))] + list(more))
        return [body]
    if path == "/pid":
        time.sleep(0.002)
        return answer(b"pid %d" % os.getpid())
    if path == "/environ":
        lines = ["%s=%r" % pair for pair in sorted(environ.items()) if isinstance(pair[1], (str, bool))]
        return answer("\n".join(lines).encode(), ("X-Caf", "caf\xe9"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))
    if path == "/body":
        size = 0
        while True:
            part = environ["wsgi.input"].read(65536)
            if not part:
                break
            size += len(part)
        return answer(b"%s %d" % (environ.get("CONTENT_LENGTH", "none").encode(), size))
    if path == "/large":
        return answer(b"x" * 3000000)
    if path == "/file":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    if path == "/empty":
        start_response("204 No Content", [])
        return []
    if path == "/parts":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (b"part %d\n" % number for number in range(3))
    if path == "/broken":
        def parts():
            yield b"begun"
            time.sleep(0.05)
            raise RuntimeError("in the middle")
        start_response("200 OK", [("Content-Length", "100")])
        return parts()
    if path == "/endless":
        def parts():
            try:
                while True:
                    yield b"again\n"
                    time.sleep(0.01)
            finally:
                told("closed")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return parts()
    if path == "/stuck":
        time.sleep(3600)
    if path == "/slow":
        told("begun")
        time.sleep(1)
        return answer(b"slept")
    start_response("404 Not Found", [("Content-Length", "0")])
    return []
"#;

/// Mongrel2 and what is told of it.
struct Setup {
    site: TempSite,
    mongrel2: PathBuf,
    port: u16,
    send: String,
    recv: String,
}

impl Setup {
    /// None if there is no Mongrel2 here.
    fn new(protocol: &str) -> Option<Setup> {
        let mongrel2 = need("mongrel2", "mongrel2-core")?;
        let m2sh = need("m2sh", "mongrel2-core")?;
        let site = TempSite::new();
        let (port, send, recv) = (site.port(), site.port(), site.port());
        let (send, recv) = (
            format!("tcp://127.0.0.1:{send}"),
            format!("tcp://127.0.0.1:{recv}"),
        );
        for directory in ["run", "logs", "tmp"] {
            fs::create_dir(site.path(directory)).unwrap();
        }
        // as root it goes to a chroot, and sees its files there
        let (root, temporary) = match Uid::effective().is_root() {
            true => ("./", "/tmp".to_string()),
            false => ("./", site.path("tmp").display().to_string()),
        };
        let logs = if Uid::effective().is_root() {
            "/logs".to_string()
        } else {
            site.path("logs").display().to_string()
        };
        site.write(
            "m2.conf",
            format!(
                "wsgi_handler = Handler(send_spec='{send}', send_ident='9a2d', recv_spec='{recv}', recv_ident='', protocol='{protocol}')\n\
                 localhost = Host(name='localhost', routes={{'/': wsgi_handler, '/mounted/': wsgi_handler}})\n\
                 main = Server(uuid='{SERVER}', access_log='{logs}/access.log', error_log='{logs}/error.log', chroot='{root}', \
                 default_host='localhost', name='main', pid_file='/run/mongrel2.pid', port={port}, bind_addr='127.0.0.1', \
                 hosts=[localhost])\n\
                 settings = {{'zeromq.threads': 1, 'server.daemonize': 0, 'upload.temp_store': '{temporary}/upload.XXXXXX'}}\n\
                 servers = [main]\n"
            ),
        );
        let loaded = Command::new(m2sh)
            .args(["load", "-config", "m2.conf", "-db", "config.sqlite"])
            .current_dir(site.dir())
            .output()
            .unwrap();
        assert!(loaded.status.success(), "{loaded:?}");
        site.write("app.py", APP);
        symlink(env!("CARGO_BIN_EXE_circ"), site.path("m2wsgi")).unwrap();
        Some(Setup {
            site,
            mongrel2,
            port,
            send,
            recv,
        })
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command
            .current_dir(self.site.dir())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("LOGNAME", "root")
            .env("MARK", self.site.path("mark"));
        command
    }

    fn start(&self, name: &str, mut command: Command) -> Running {
        command.stdin(Stdio::null());
        Running::start_logging_both(command, self.site.path(&format!("{name}.log")))
    }

    fn server(&self) -> Running {
        let mut command = self.command(self.mongrel2.to_str().unwrap());
        command.args(["config.sqlite", SERVER]);
        self.start("server", command)
    }

    fn handler(&self, name: &str, args: &[&str]) -> Running {
        let mut command = self.command(self.site.path("m2wsgi").to_str().unwrap());
        command
            .args(["--send", &self.send, "--recv", &self.recv])
            .args(args)
            .arg("app:app");
        self.start(name, command)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", b"")
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, more: &str, body: &[u8]) -> Answer {
        Connection::open(self.port).ask(method, path, more, body)
    }

    fn mark(&self) -> String {
        fs::read_to_string(self.site.path("mark")).unwrap_or_default()
    }

    fn uploads(&self) -> Vec<String> {
        let files = fs::read_dir(self.site.path("tmp")).unwrap();
        files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

const HANDLING: &str = "Handling requests from";

/// Both forms in which Mongrel2 writes headers.
#[test]
fn requests_and_answers_go_through_mongrel2_whole() {
    for protocol in ["json", "tnetstring"] {
        let Some(setup) = Setup::new(protocol) else {
            return;
        };
        let _server = setup.server();
        let uploads = setup.site.path("tmp").display().to_string();
        let mut handler = setup.handler("handler", &["--upload-dir", &uploads]);
        handler.wait_log(HANDLING);

        let mut connection = Connection::open(setup.port);
        let more = "X-One: 1\r\nCookie: a=1\r\nX-One: 2\r\nX-Latin: caf\u{e9}\r\nX-Forwarded-For: 6.6.6.6\r\n";
        let request = format!(
            "GET /mounted/environ?x=%20&y HTTP/1.1\r\nHost: localhost:{}\r\n{more}\r\n",
            setup.port
        );
        connection.send(request.chars().map(|c| c as u8).collect::<Vec<u8>>());
        let answer = connection.answer("GET").unwrap();
        let text = answer.text();
        for line in [
            "REQUEST_METHOD='GET'",
            "SCRIPT_NAME='/mounted'",
            "PATH_INFO='/environ'",
            "QUERY_STRING='x=%20&y'",
            "SERVER_NAME='localhost'",
            &format!("SERVER_PORT='{}'", setup.port),
            "SERVER_PROTOCOL='HTTP/1.1'",
            "REMOTE_ADDR='127.0.0.1'",
            "HTTP_COOKIE='a=1'",
            "HTTP_X_ONE='1,2'",
            "HTTP_X_LATIN='caf\u{e9}'",
            "wsgi.url_scheme='http'",
            "wsgi.multiprocess=True",
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "{protocol}: {line} in\n{text}"
            );
        }
        assert!(
            !text.contains("6.6.6.6") && !text.contains("PATTERN"),
            "{text}"
        );
        assert_eq!(answer.header("x-caf"), Some("caf\u{e9}"));
        assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
        assert!(answer.header("date").is_some());

        // Again and again on the same connection.
        for path in ["/parts", "/body", "/empty", "/file", "/large"] {
            let answer = connection.ask("GET", path, "", b"");
            let expected = match path {
                "/parts" => "part 0\npart 1\npart 2\n".to_string(),
                "/body" => "none 0".to_string(),
                "/empty" => String::new(),
                "/file" => APP.to_string(),
                _ => "x".repeat(3_000_000),
            };
            assert!(
                answer.whole && answer.text() == expected,
                "{protocol} {path}"
            );
            let chunked = answer.header("transfer-encoding") == Some("chunked");
            assert_eq!(chunked, path == "/parts", "{protocol} {path}");
        }
        let head = connection.ask("HEAD", "/large", "", b"");
        assert_eq!(head.header("content-length"), Some("3000000"));
        assert_eq!(connection.ask("POST", "/body", "", b"abc").text(), "3 3");
        // A body that is too long for a message is in a file, which goes.
        for size in [30_000, 3_000_000] {
            let answer = connection.ask("POST", "/body", "", &vec![b'x'; size]);
            assert_eq!(answer.text(), format!("{size} {size}"), "{}", handler.log());
        }
        assert_eq!(setup.uploads(), Vec::<String>::new());
        assert_eq!(connection.ask("GET", "/nowhere", "", b"").status, 404);

        // The end of an answer is the end of the connection where HTTP says so.
        let closing = connection.ask("GET", "/parts", "Connection: close\r\n", b"");
        assert_eq!(closing.header("connection"), Some("close"));
        assert!(closing.whole && connection.head().is_none());
        let mut old = Connection::open(setup.port);
        old.send("GET /parts HTTP/1.0\r\nHost: localhost\r\n\r\n");
        let answer = old.answer("GET").unwrap();
        assert!(
            answer.whole && answer.text().ends_with("part 2\n"),
            "{answer:?}"
        );
        assert_eq!(answer.header("transfer-encoding"), None);

        // One that breaks off is seen to have broken off.
        let broken = setup.get("/broken");
        assert!(!broken.whole && broken.text() == "begun", "{broken:?}");
        // Nobody works for a client that has gone.
        let mut gone = Connection::open(setup.port);
        gone.send("GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n");
        gone.head().unwrap();
        gone.chunk().unwrap();
        drop(gone);
        handler.wait_for("the stream to be closed", || {
            setup.mark().contains("closed").then_some(())
        });
        assert_eq!(setup.get("/body").text(), "none 0");
        let is = |name: &str, value: &str| {
            let line = format!("circ_front_{name} {value}");
            numbers(handler.pid()).lines().any(|other| other == line)
        };
        handler.wait_for("all to be counted", || {
            (is("requests_total{class=\"2xx\"}", "15")
                && is("requests_total{class=\"4xx\"}", "1")
                && is("requests_in_flight", "0")
                && is("workers", "1"))
            .then_some(())
        });
        assert!(!is("sent_bytes_total", "0") && !is("received_bytes_total", "0"));
        assert_eq!(handler.end().code(), Some(0), "{}", handler.log());
    }
}

/// A request that never ends does not take the process with it for good.
#[test]
fn a_process_that_is_stuck_is_replaced() {
    let Some(setup) = Setup::new("json") else {
        return;
    };
    let _server = setup.server();
    let mut handler = setup.handler("handler", &["--request-timeout", "1"]);
    handler.wait_log(HANDLING);
    let pid = setup.get("/pid").text();
    assert_eq!(setup.get("/stuck").status, 504);
    handler.wait_log("requests took longer than 1 s");
    let other = setup.get("/pid").text();
    assert!(other.starts_with("pid ") && other != pid, "{pid} {other}");
    assert_eq!(handler.end().code(), Some(0), "{}", handler.log());
}

#[test]
fn bodies_in_files_are_taken_only_from_mongrel2_and_its_directory() {
    let Some(setup) = Setup::new("json") else {
        return;
    };
    let _server = setup.server();
    let secret = setup.site.write("secret", "secret");
    let asking = format!(
        "x-mongrel2-upload-start: {0}\r\nx-mongrel2-upload-done: {0}\r\n",
        secret.display()
    );
    {
        // Without the directory they are refused, in words.
        let handler = setup.handler("first", &[]);
        handler.wait_log(HANDLING);
        assert_eq!(setup.ask("POST", "/body", "", &[b'x'; 30_000]).status, 413);
        handler.wait_log("--upload-dir");
        assert_eq!(setup.ask("GET", "/body", &asking, b"").status, 413);
    }
    let uploads = setup.site.path("tmp").display().to_string();
    let handler = setup.handler(
        "second",
        &["--upload-dir", &uploads, "--limit-body", "50000"],
    );
    handler.wait_log(HANDLING);
    assert_eq!(setup.ask("GET", "/body", &asking, b"").status, 400);
    assert_eq!(setup.ask("POST", "/body", &asking, b"x").status, 400);
    assert!(secret.exists());
    assert_eq!(
        setup.ask("POST", "/body", "", &[b'x'; 30_000]).text(),
        "30000 30000"
    );
    assert_eq!(setup.ask("POST", "/body", "", &[b'x'; 60_000]).status, 413);
}

/// Either may come first, and either may come again.
#[test]
fn handler_and_server_find_each_other_again() {
    let Some(setup) = Setup::new("json") else {
        return;
    };
    let mut handler = setup.handler("handler", &[]);
    handler.wait_log("cannot connect to");
    let mut server = setup.server();
    handler.wait_log(HANDLING);
    assert_eq!(setup.get("/body").text(), "none 0");
    server.signal(Signal::SIGKILL);
    server.wait_exit();
    handler.wait_log("has ended");
    let _again = setup.server();
    handler.wait_log_times(HANDLING, 2);
    assert_eq!(setup.get("/body").text(), "none 0");
    // What it has begun is finished before it goes.
    let mut slow = Connection::open(setup.port);
    slow.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n");
    handler.wait_for("the request to begin", || {
        setup.mark().contains("begun").then_some(())
    });
    assert_eq!(handler.end().code(), Some(0));
    assert_eq!(slow.answer("GET").unwrap().text(), "slept");
}

/// The circus.ini of the third document, with the parts that were lost in it filled in.
fn third(setup: &Setup) -> PathBuf {
    let site = &setup.site;
    let home = site.dir().display();
    site.write(
        "circus.ini",
        format!(
            "[circus]\ncheck_delay = 5\nendpoint = {}\npubsub_endpoint = {}\nstats_endpoint = {}\nmulticast_endpoint =\n\
             \n[watcher:mongrel2]\ncmd = mongrel2 config.sqlite {SERVER}\nwarmup_delay = 0\nnumprocesses = 1\n\
             working_dir = {home}\nstdout_stream.class = StdoutStream\nstderr_stream.class = StdoutStream\n\
             copy_env = True\n\
             \n[watcher:m2wsgi]\ncmd = m2wsgi --send {} --recv {} app.app\nnumprocesses = 2\nworking_dir = {home}\n\
             copy_env = True\n",
            site.endpoint, site.pubsub, site.stats, setup.send, setup.recv
        ),
    )
}

/// "circusctl, circus-top and circushttpd give me a full control on my stack, live".
#[test]
fn the_third_seeds_stack_is_controlled_live_and_loses_nothing_under_load() {
    let Some(setup) = Setup::new("json") else {
        return;
    };
    third(&setup);
    let site = &setup.site;
    fs::remove_file(site.path("m2wsgi")).unwrap();
    let linked = setup
        .command(env!("CARGO_BIN_EXE_circ"))
        .args(["install-links", "."])
        .output();
    assert!(linked.unwrap().status.success());
    let path = format!(
        "{}:{}:/usr/bin:/bin",
        site.dir().display(),
        setup.mongrel2.parent().unwrap().display()
    );
    let mut circusd = setup.command("env");
    circusd.args(["circusd", "circus.ini"]).env("PATH", &path);
    let daemon = site.spawn_command(Program::Circ, circusd);
    daemon.wait_ready();
    let ctl = |words: &[&str]| -> String {
        let mut command = setup.command("env");
        command
            .arg("circusctl")
            .args(words)
            .env("PATH", &path)
            .env("CIRCUSCTL_ENDPOINT", &site.endpoint);
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        let text = String::from_utf8_lossy(&stdout).into_owned();
        assert!(
            status.success(),
            "{words:?}: {text}{}",
            String::from_utf8_lossy(&stderr)
        );
        text
    };
    assert_eq!(ctl(&["list"]).trim(), "m2wsgi,mongrel2");
    let handling = |count: usize| {
        daemon.wait_for("every handler to be at work", || {
            (daemon.log().matches(HANDLING).count() >= count).then_some(())
        });
    };
    handling(2);
    let pids = daemon.wait_pids("m2wsgi", 2);
    assert_eq!(
        ctl(&["list", "m2wsgi"]).trim(),
        format!("{},{}", pids[0], pids[1])
    );
    // Mongrel2 deals requests out to both in turn.
    let both_answer = || {
        daemon.wait_for("both handlers to answer", || {
            // on one connection: the notice that a client has gone is dealt out in turn as well
            let mut connection = Connection::open(setup.port);
            let answers = (0..6).map(|_| connection.ask("GET", "/pid", "", b"").text());
            let answers: BTreeSet<String> = answers.collect();
            assert!(
                answers.iter().all(|answer| answer.starts_with("pid ")),
                "{answers:?}"
            );
            (answers.len() == 2).then_some(())
        });
    };
    both_answer();
    let stats = ctl(&["stats", "m2wsgi"]);
    assert_eq!(stats.matches("m2wsgi").count(), 3, "{stats}");

    let client = |_: usize| {
        let mut open: Option<(Connection, usize)> = None;
        move || {
            let (mut connection, times) = open.take().unwrap_or_else(|| {
                let connection = Connection::open(setup.port);
                let limit = Some(Duration::from_secs(20));
                connection.stream().set_read_timeout(limit).unwrap();
                (connection, 0)
            });
            connection.send("GET /pid HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let answer = connection.answer("GET");
            if !answer.is_some_and(|answer| answer.text().starts_with("pid ")) {
                return Err(());
            }
            open = (times < 49).then_some((connection, times + 1));
            Ok(true)
        }
    };
    let mut departures = 0;
    let (done, lost) = asking_meanwhile(4, client, |done| {
        let enough = |more: usize| {
            let before = done.load(Ordering::Relaxed);
            daemon.wait_for("requests", || {
                (done.load(Ordering::Relaxed) >= before + more).then_some(())
            });
        };
        let mut expected = 2;
        for _ in 0..4 {
            enough(100);
            ctl(&["incr", "m2wsgi"]);
            expected += 1;
            handling(expected);
            enough(100);
            let all = daemon.wait_pids("m2wsgi", 3);
            ctl(&["decr", "m2wsgi"]);
            let left = daemon.wait_pids("m2wsgi", 2);
            let gone = all.iter().find(|pid| !left.contains(pid)).copied().unwrap();
            daemon.wait_for("a handler to leave", || (!is_alive(gone)).then_some(()));
            departures += 1;
        }
    });
    let lost = lost.len();
    println!("{done} requests answered, {lost} lost, {departures} handlers left under load");
    // A request that Mongrel2 gives to a handler in the instant in which that leaves has no way back.
    assert!(
        lost <= departures,
        "{lost} lost of {done}\n{}",
        daemon.tail()
    );
    both_answer();
    assert_eq!(
        daemon.ok("numprocesses", json!({"name": "m2wsgi"}))["numprocesses"],
        2
    );
}
