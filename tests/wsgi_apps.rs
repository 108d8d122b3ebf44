//! Real applications served by circ: the usual frameworks, each alone and as workers of a daemon on its socket; the
//! libraries that make a process cooperative; the lines of the documents that circ grew from.

#[path = "wsgi/client.rs"]
mod client;
#[path = "seeds/documents.rs"]
mod documents;
mod support;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::{Answer, Connection};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use support::{Program, TempSite, Venv, deadline, venv_of, wait_for_within};

fn applications() -> Venv {
    venv_of("tests/requirements-applications.txt")
}

/// A site with all applications, and with links to circ under the old names.
fn site() -> TempSite {
    let site = TempSite::new();
    for (name, text) in [
        ("flask_app.py", include_str!("wsgi_apps/flask_app.py")),
        ("bottle_app.py", include_str!("wsgi_apps/bottle_app.py")),
        ("pyramid_app.py", include_str!("wsgi_apps/pyramid_app.py")),
        ("django_app.py", include_str!("wsgi_apps/django_app.py")),
        ("green.py", include_str!("wsgi_apps/green.py")),
        ("paste.ini", include_str!("wsgi_apps/paste.ini")),
    ] {
        site.write(name, text);
    }
    let linked = Command::new(env!("CARGO_BIN_EXE_circ"))
        .args(["install-links", "."])
        .current_dir(site.dir())
        .output()
        .expect("circ runs");
    assert!(linked.status.success(), "{linked:?}");
    site
}

/// A server of its own.
struct Alone {
    child: Child,
    log: std::path::PathBuf,
}

impl Alone {
    fn start(site: &TempSite, port: u16, args: &[&str], form: bool) -> Alone {
        let log = site.path(&format!("log-{port}"));
        let child = Command::new(env!("CARGO_BIN_EXE_circ"))
            .args([
                "chaussette",
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
            ])
            .args(args)
            .current_dir(site.dir())
            .env(
                "VIRTUAL_ENV",
                applications().bin().parent().expect("a directory"),
            )
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("WITH_FORM", if form { "1" } else { "0" })
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log"))
            .spawn()
            .expect("circ runs");
        let server = Alone { child, log };
        server.wait_log("as a backend");
        server
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    #[track_caller]
    fn wait_log(&self, text: &str) {
        let found = wait_for_within(deadline(), || self.log().contains(text).then_some(()));
        assert!(found.is_some(), "waited in vain for {text}\n{}", self.log());
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let child = &mut self.child;
        let limit = Duration::from_secs(10);
        if wait_for_within(limit, || child.try_wait().ok().flatten()).is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a test on an application served alone, and as two workers of a daemon on its socket.
fn both_ways(application: &str, form: bool, test: fn(u16)) {
    let site = site();
    let port = site.port();
    {
        let _alone = Alone::start(&site, port, &[application], form);
        test(port);
    }
    let port = site.port();
    site.ini(&format!(
        "\n[env]\nPATH = {}:{}\nPYTHONDONTWRITEBYTECODE = 1\nWITH_FORM = {}\n\
         [socket:web]\nhost = 127.0.0.1\nport = {port}\n\
         [watcher:web]\ncmd = chaussette --fd $(circus.sockets.web) {application}\nnumprocesses = 2\n\
         use_sockets = True\nworking_dir = {}\n",
        site.dir().display(),
        applications().path(),
        u8::from(form),
        site.dir().display(),
    ));
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    daemon.wait_for("both workers to serve", || {
        (daemon.log().matches("as a backend").count() >= 2).then_some(())
    });
    test(port);
    daemon.ok("reload", json!({"name": "web", "waiting": true}));
    test(port);
}

fn get(port: u16, path: &str) -> Answer {
    Connection::open(port).ask("GET", path, "", b"")
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

#[test]
fn flask_is_served() {
    both_ways("flask_app:app", false, |port| {
        assert_eq!(get(port, "/").text(), "Hello from Flask");
        let mut connection = Connection::open(port);
        let more = format!("{FORM}X-Agent: test\r\n");
        let answer = connection.ask("POST", "/greet/J%C3%BCrgen?x=1", &more, b"a=1&b=%20");
        let told: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let expected =
            json!({"name": "J\u{fc}rgen", "form": {"a": "1", "b": " "}, "agent": "test"});
        assert_eq!(told, expected);
        let streamed = connection.ask("GET", "/stream", "", b"");
        assert_eq!(streamed.text(), "part 0\npart 1\npart 2\n");
        assert_eq!(streamed.header("transfer-encoding"), Some("chunked"));
        let source = connection.ask("GET", "/source", "", b"").text();
        assert_eq!(source, include_str!("wsgi_apps/flask_app.py"));
        let mut body =
            b"--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n"
                .to_vec();
        body.extend(vec![b'x'; 500_000]);
        body.extend(b"\r\n--B--\r\n");
        let more = "Content-Type: multipart/form-data; boundary=B\r\n";
        assert_eq!(
            connection.ask("POST", "/upload", more, &body).text(),
            "500000"
        );
        assert_eq!(connection.ask("GET", "/nowhere", "", b"").status, 404);
    });
}

#[test]
fn bottle_is_served() {
    both_ways("bottle_app", false, |port| {
        assert_eq!(get(port, "/").text(), "Hello from Bottle");
        let mut connection = Connection::open(port);
        let answer = connection.ask("POST", "/form", FORM, b"name=J%C3%BCrgen");
        assert_eq!(answer.text(), "name=J\u{fc}rgen");
        let file = connection.ask("GET", "/static", "", b"");
        assert_eq!(file.text(), include_str!("wsgi_apps/bottle_app.py"));
        let part = connection.ask("GET", "/static", "Range: bytes=7-12\r\n", b"");
        assert_eq!((part.status, &*part.text()), (206, "bottle"));
    });
}

#[test]
fn pyramid_is_served() {
    both_ways("pyramid_app.app", false, |port| {
        assert_eq!(get(port, "/").text(), "Hello from Pyramid");
        let answer = Connection::open(port).ask("POST", "/form", FORM, b"name=Ada");
        let told: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(told, json!({"name": "Ada", "path": "/form"}));
    });
}

#[test]
fn djangos_start_page_is_served() {
    both_ways("django_app:application", false, |port| {
        let page = get(port, "/").text();
        assert!(page.contains("The install worked successfully"), "{page}");
    });
}

/// A form with the token against forged requests: the cookie and the field have to fit.
#[test]
fn a_form_of_django_is_posted() {
    both_ways("django_app", true, |port| {
        let mut connection = Connection::open(port);
        let page = connection.ask("GET", "/form", "", b"");
        let cookie = page
            .header("set-cookie")
            .and_then(|cookie| cookie.split(';').next());
        let cookie = cookie.expect("a cookie").to_string();
        let text = page.text();
        let token = text.split("name=\"csrfmiddlewaretoken\" value=\"").nth(1);
        let token = token
            .and_then(|rest| rest.split('"').next())
            .expect("a token");
        let body = format!("csrfmiddlewaretoken={token}&name=Gr%C3%BC%C3%9Fe");
        let more = format!("{FORM}Cookie: {cookie}\r\n");
        let answer = connection.ask("POST", "/form", &more, body.as_bytes());
        assert_eq!(answer.text(), "Hello, Gr\u{fc}\u{df}e");
        assert_eq!(
            connection
                .ask("POST", "/form", FORM, body.as_bytes())
                .status,
            403
        );
        assert_eq!(
            connection.ask("POST", "/form", &more, b"name=x").status,
            403
        );
    });
}

#[test]
fn an_application_of_pastedeploy_is_served() {
    let site = site();
    let port = site.port();
    let _alone = Alone::start(&site, port, &["paste:paste.ini"], false);
    assert_eq!(get(port, "/").text(), "Hello from Pyramid");
}

/// Requests that wait do not keep others waiting, in one process of Python.
#[test]
fn gevent_and_eventlet_make_the_process_cooperative() {
    for (backend, module) in [("gevent", "gevent."), ("eventlet", "eventlet.")] {
        let site = site();
        let port = site.port();
        let server = Alone::start(&site, port, &["--backend", backend, "green:app"], false);
        let said =
            format!("\"{backend}\" means 1 process of Python, made cooperative by {backend}");
        server.wait_log(&said);
        // they wait for half a second each: one after the other that would be ten
        let begun = Instant::now();
        let mut clients: Vec<Connection> = (0..20).map(|_| Connection::open(port)).collect();
        for client in &mut clients {
            client.send("GET /?0.5 HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        for client in &mut clients {
            let answer = client.answer("GET").expect("an answer").text();
            assert!(answer.starts_with(module), "{backend}: {answer}");
        }
        assert!(
            begun.elapsed() < Duration::from_secs(9),
            "{backend}: {:?}",
            begun.elapsed()
        );
        drop(server);
        let port = site.port();
        let _server = Alone::start(&site, port, &["--backend", backend, "green:stream"], false);
        assert_eq!(
            get(port, "/").text(),
            "part 0\npart 1\npart 2\n",
            "{backend}"
        );
        assert_eq!(
            get(port, "/").text(),
            "part 0\npart 1\npart 2\n",
            "{backend}"
        );
    }
}

/// Their circus.ini as they stand there, but for ports and the address, and that the second's programs are not installed; circusd, circusctl and chaussette are circ.
#[test]
fn the_first_two_seeds_run_with_circ_under_all_names() {
    for (ini, module, watcher, count) in [
        (documents::FIRST, "wsgi.py", "myworker", 2),
        (documents::SECOND, "server.py", "web", 5),
    ] {
        let site = site();
        let port = site.port();
        site.write(module, documents::APPLICATION);
        let ini = documents::on(&site, ini, None);
        let ini = ini.replace("@PORT@", &port.to_string());
        site.write("circus.ini", ini);
        let path = format!("{}:{}", site.dir().display(), applications().path());
        let named = |name: &str| {
            let mut command = Command::new("env");
            command
                .arg(name)
                .current_dir(site.dir())
                .env("PATH", &path)
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .env("CIRCUSCTL_ENDPOINT", &site.endpoint);
            command
        };
        let mut circusd = named("circusd");
        circusd.arg("circus.ini");
        let daemon = site.spawn_command(Program::Circ, circusd);
        daemon.wait_ready();
        daemon.wait_pids(watcher, count);
        let serving = |times: usize| {
            daemon.wait_for("every worker to serve", || {
                (daemon.log().matches("as a backend").count() >= times).then_some(())
            });
        };
        serving(count);
        let hello = || assert_eq!(get(port, "/").text(), "Hello, World!\n");
        (0..20).for_each(|_| hello());
        let ctl = |words: &[&str]| {
            let out = named("circusctl").args(words).output().expect("it runs");
            assert!(out.status.success(), "{words:?}: {out:?}");
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        assert_eq!(ctl(&["status"]), format!("{watcher}: active\n"));
        ctl(&["restart", watcher]);
        serving(2 * count);
        hello();
    }
}
