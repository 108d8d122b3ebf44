//! `listen_fds`: workers get their sockets as systemd hands them over (sd_listen_fds(3)).

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Daemon, Program, TempSite, venv};

/// A site with the worker that tells what it got; `@TOLD@` in the body is its command up to the file.
fn site(body: &str) -> TempSite {
    let site = TempSite::new();
    rewrite(&site, body);
    site
}

fn rewrite(site: &TempSite, body: &str) {
    let script = site.write("told.py", include_str!("sockets_listen_fds/told.py"));
    let told = format!("{} -IS {}", venv().python().display(), script.display());
    let body = body.replace("@TOLD@", &told);
    site.ini(&body.replace("@SITE@", &site.dir().to_string_lossy()));
}

/// What the worker with this pid has written.
#[track_caller]
fn told(daemon: &Daemon, site: &TempSite, file: &str, pid: i32) -> Value {
    daemon.wait_for(&format!("what {pid} was told"), || {
        let text = std::fs::read_to_string(site.path(file)).ok()?;
        let told: Value = serde_json::from_str(&text).ok()?;
        let own = told["pid"].as_str().and_then(|own| own.parse().ok());
        (own == Some(pid)).then_some(told)
    })
}

/// The port of each socket, or its path.
fn places(daemon: &Daemon) -> BTreeMap<String, Value> {
    let reply = daemon.ok("listsockets", json!({}));
    let list = reply["sockets"].as_array().cloned().unwrap_or_default();
    let place = |s: &Value| {
        let place = if s["path"].is_null() {
            &s["port"]
        } else {
            &s["path"]
        };
        (
            s["name"].as_str().unwrap_or_default().to_string(),
            place.clone(),
        )
    };
    list.iter().map(place).collect()
}

#[track_caller]
fn ask(port: &Value) -> String {
    let port = port
        .as_u64()
        .and_then(|p| u16::try_from(p).ok())
        .expect("a port");
    let mut stream =
        TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).expect("connected");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a time limit");
    stream.write_all(b"x").expect("a question");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

const SOCKETS: &str = "
[socket:a]
host = 127.0.0.1
port = 0
[socket:b]
host = 127.0.0.1
port = 0
[socket:c]
path = @SITE@/c.sock
";

/// Names in the order that was asked for, from descriptor 3 on, and nothing else is open.
#[test]
fn sockets_are_handed_over_by_name_and_in_order() {
    let site = site(&format!(
        "{SOCKETS}[watcher:w]\ncmd = @TOLD@ @SITE@/w $(circus.sockets.b) $(circus.sockets.c)\nlisten_fds = c, B\n"
    ));
    let daemon = site.start(Program::Circ);
    let pid = daemon.wait_pids("w", 1)[0];
    let told = told(&daemon, &site, "w", pid);
    let places = places(&daemon);
    assert_eq!(told["LISTEN_FDS"], "2", "{told}");
    assert_eq!(told["LISTEN_FDNAMES"], "c:b", "{told}");
    assert_eq!(told["LISTEN_PID"], pid.to_string(), "{told}");
    assert_eq!(told["words"], json!(["4", "3"]), "{told}");
    assert_eq!(
        told["sockets"],
        json!({"3": places["c"], "4": places["b"]}),
        "{told}"
    );
}

/// True: those that the command names, or all.
#[test]
fn true_means_the_sockets_of_the_watcher() {
    let site = site(&format!(
        "{SOCKETS}[watcher:named]\ncmd = @TOLD@ @SITE@/named $(circus.sockets.b)\nlisten_fds = True\n\
         [watcher:all]\ncmd = @TOLD@ @SITE@/all\nlisten_fds = yes\n\
         [watcher:none]\ncmd = @TOLD@ @SITE@/none\nenv.X = 1\n"
    ));
    let daemon = site.start(Program::Circ);
    let places = places(&daemon);
    let of = |name: &str| told(&daemon, &site, name, daemon.wait_pids(name, 1)[0]);
    let named = of("named");
    assert_eq!(named["sockets"], json!({"3": places["b"]}));
    assert_eq!(named["LISTEN_FDNAMES"], "b");
    let all = of("all");
    assert_eq!(all["LISTEN_FDNAMES"], "a:b:c");
    let expected = json!({"3": places["a"], "4": places["b"], "5": places["c"]});
    assert_eq!(all["sockets"], expected);
    let none = of("none");
    assert_eq!(
        (&none["sockets"], &none["LISTEN_FDS"]),
        (&json!({}), &Value::Null)
    );
}

/// With use_sockets the others come along, under numbers that their names stand for.
#[test]
fn the_other_sockets_make_room() {
    let site = site(&format!(
        "{SOCKETS}[watcher:w]\ncmd = @TOLD@ @SITE@/w $(circus.sockets.a) $(circus.sockets.b) $(circus.sockets.c)\nuse_sockets = True\nlisten_fds = c b\n"
    ));
    let daemon = site.start(Program::Circ);
    let pid = daemon.wait_pids("w", 1)[0];
    let told = told(&daemon, &site, "w", pid);
    let places = places(&daemon);
    let word = |index: usize| {
        told["words"][index]
            .as_str()
            .unwrap_or_default()
            .to_string()
    };
    assert_eq!((word(1).as_str(), word(2).as_str()), ("4", "3"), "{told}");
    for (name, word) in [("a", word(0)), ("b", word(1)), ("c", word(2))] {
        assert_eq!(told["sockets"][&word], places[name], "{name}: {told}");
    }
    assert_eq!(
        told["sockets"].as_object().map(|all| all.len()),
        Some(3),
        "{told}"
    );
    assert_eq!(told["LISTEN_FDS"], "2");
}

/// The worker answers on its descriptor 3, each generation under its own pid; so_reuseport and on_demand go with it.
#[test]
fn workers_serve_what_they_were_handed() {
    let site = TempSite::new();
    let port = site.port();
    rewrite(
        &site,
        &format!(
            "{SOCKETS}[socket:own]\nhost = 127.0.0.1\nport = {port}\nso_reuseport = True\n\
             [watcher:a]\ncmd = @TOLD@ @SITE@/a-$(circus.wid)\nlisten_fds = a\nnumprocesses = 2\n\
             [watcher:own]\ncmd = @TOLD@ @SITE@/own\nlisten_fds = own\non_demand = True\n"
        ),
    );
    let daemon = site.start(Program::Circ);
    let places = places(&daemon);
    let first = daemon.wait_pids("a", 2);
    let answer: i32 = ask(&places["a"]).parse().expect("a pid");
    assert!(first.contains(&answer));
    daemon.ok("reload", json!({"name": "a", "waiting": true}));
    let second = daemon.wait_pids("a", 2);
    assert!(second.iter().all(|pid| !first.contains(pid)));
    let answer: i32 = ask(&places["a"]).parse().expect("a pid");
    assert!(second.contains(&answer));
    assert_eq!(daemon.pids("own"), [0; 0]);
    let answer: i32 = ask(&json!(port)).parse().expect("a pid");
    assert_eq!(daemon.wait_pids("own", 1), [answer]);
    assert_eq!(told(&daemon, &site, "own", answer)["LISTEN_FDNAMES"], "own");
}

/// A name that no section has is a mistake with its line, at the start and at a `set`.
#[test]
fn a_socket_that_is_not_there_is_told() {
    let bad = site("\n[watcher:w]\ncmd = sleep 1000\nlisten_fds = nope\n");
    let daemon = bad.spawn(Program::Circ, |_| {});
    assert!(!daemon.wait_exit().success());
    let log = daemon.log();
    assert!(
        log.contains("listen_fds") && log.contains("[socket:nope]"),
        "{log}"
    );
    let good = site("\n[watcher:w]\ncmd = sleep 1000\n");
    let daemon = good.start(Program::Circ);
    let pids = daemon.wait_pids("w", 1);
    for value in [json!("nope"), json!(5)] {
        let options = json!({"name": "w", "options": {"listen_fds": value}, "waiting": true});
        let reply = daemon.call("set", options);
        assert_eq!(reply["status"], "error", "{reply}");
        assert!(
            reply["reason"]
                .as_str()
                .is_some_and(|r| r.contains("listen_fds")),
            "{reply}"
        );
    }
    assert_eq!(daemon.pids("w"), pids);
}
