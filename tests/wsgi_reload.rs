//! `circ chaussette` ends, and is replaced by its daemon, without a request that fails.

#[path = "wsgi/client.rs"]
mod client;
mod support;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use client::{Connection, Server};
use nix::sys::signal::Signal;
use serde_json::json;
use support::{Program, TempSite, asking_meanwhile, wait_for};

/// How often the daemon's workers are replaced under load; `CIRC_WSGI_RELOADS=20` for more.
fn reloads() -> usize {
    let given = std::env::var("CIRC_WSGI_RELOADS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// A client that keeps its connection as long as the server does; what it was answered, or why it was not.
struct Client {
    port: u16,
    connection: Option<Connection>,
}

impl Client {
    fn new(port: u16) -> Client {
        Client {
            port,
            connection: None,
        }
    }

    fn ask(&mut self) -> Result<String, String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::try_open(self.port).map_err(|why| format!("refused: {why}"))?,
        };
        connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = connection.answer("GET").ok_or("no answer")?;
        if answer.status != 200 || !answer.whole {
            return Err(format!("{answer:?}"));
        }
        if answer.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(answer.text())
    }
}

#[test]
fn four_processes_on_one_socket_are_reloaded_under_load_and_no_request_fails() {
    let site = TempSite::new();
    site.write("applications.py", include_str!("wsgi/applications.py"));
    site.ini(&format!(
        "\n[socket:web]\nhost = 127.0.0.1\nport = 0\n\
         [watcher:web]\ncmd = {} chaussette --fd $(circus.sockets.web) applications:dying\nnumprocesses = 4\n\
         use_sockets = True\ncopy_env = True\nworking_dir = {}\n",
        env!("CARGO_BIN_EXE_circ"),
        site.dir().display(),
    ));
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 4);
    let reply = daemon.ok("listsockets", json!({}));
    let port = reply["sockets"][0]["port"].as_u64().unwrap() as u16;
    let client = |number: usize| {
        let mut client = Client::new(port);
        move || {
            let answer = client.ask();
            // Every other one comes anew each time.
            if number % 2 == 1 {
                client.connection = None;
            }
            answer.map(|_| true)
        }
    };
    let (count, failures) = asking_meanwhile(6, client, |served| {
        let mut seen = BTreeSet::new();
        for _ in 0..reloads() {
            daemon.ok("reload", json!({"name": "web", "waiting": true}));
            let before = seen.clone();
            daemon.wait_for("answers of new processes", || {
                let pid = Client::new(port).ask().ok()?;
                seen.insert(pid.clone());
                (!before.contains(&pid)).then_some(())
            });
        }
        let before = served.load(Relaxed);
        daemon.wait_for("more answers", || {
            (served.load(Relaxed) > before + 100).then_some(())
        });
    });
    println!(
        "{} reloads, {count} answered, {} failed",
        reloads(),
        failures.len()
    );
    assert!(
        failures.is_empty(),
        "{} of {count}: {failures:?}\n{}",
        failures.len(),
        daemon.tail()
    );
}

#[test]
fn an_application_that_takes_too_long_is_not_waited_for() {
    let site = TempSite::new();
    let args = ["--graceful-timeout", "0.3"];
    let mut server = Server::start(&site, "applications:blocking", &args);
    let mut busy = server.open();
    busy.send("GET /mark?600 HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_for("the request to be begun", || {
        site.path("mark").exists().then_some(())
    });
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(
        server.log().contains("were not done in time"),
        "{}",
        server.log()
    );
    assert!(busy.answer("GET").is_none());
}
