//! A daemon on a circus.toml: what it runs, `circ state ensure` that edits the file without a byte too much, and
//! `reloadconfig` that reads it again; the same as on the circus.ini that it converts to.

mod support;

#[path = "state/run.rs"]
#[allow(dead_code)]
mod run;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use circ::config::Config;
use circ::config::convert::toml_to_ini;
use run::{fingerprint, finish};
use support::{Daemon, Program, TempSite};

/// `[circus]` of a circus.toml in this site.
fn circus_table(site: &TempSite) -> String {
    format!(
        "[circus]\nendpoint = {:?}\npubsub_endpoint = {:?}\nmulticast_endpoint = \"\"\n",
        site.endpoint, site.pubsub
    )
}

/// Starts circ on a file of the site.
#[track_caller]
fn start<'a>(site: &'a TempSite, file: &str) -> Daemon<'a> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    command
        .args(["daemon", file])
        .current_dir(site.dir())
        .env_remove("CIRCUSCTL_ENDPOINT");
    let daemon = site.spawn_command(Program::Circ, command);
    daemon.wait_ready();
    daemon
}

fn circ(site: &TempSite, args: &[&str]) -> run::Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    command
        .args(args)
        .current_dir(site.dir())
        .env_remove("CIRCUSCTL_ENDPOINT");
    finish(command)
}

/// Two workers of `web` on a socket, with variables of every sort, and one watcher of an included file.
fn write_site(site: &TempSite, port: u16) -> String {
    let worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hello/worker.py");
    let text = format!(
        "#:schema none\n{}check_delay = 0.5\ninclude = [\n  \"more.ini\", # an old one\n  \"more.toml\",\n]\n\n\
         # the workers\n[watcher.web]\ncmd = 'python3'\nargs = [\"{}\", \"--fd\", \"$(circus.sockets.web)\"]\n\
         use_sockets = true\ncopy_env = true\nnumprocesses  =  2   # two of them\n\
         graceful_timeout = 3\nenv.OWN = \"its own\"\n\n[watcher.web.rlimits]\nnofile = 200\n\n\
         [env]\nSITE = 7\nOWN = \"of all\"\n[env.\"w*\"]\nOWN = \"of a pattern\"\nTRUTH = true\n\n\
         [socket.web]\nhost = \"127.0.0.1\"\nport = {port}\n",
        circus_table(site),
        worker.display(),
    );
    site.write("circus.toml", &text);
    site.write("more.ini", "[watcher:old]\ncmd = sleep 1000\n");
    site.write(
        "more.toml",
        "[watcher]\nnew = { cmd = \"sleep\", args = [\"1000\"], numprocesses = 1 }\n",
    );
    text
}

/// What a watcher's workers are told, apart from the process itself.
fn environment(pid: i32) -> BTreeMap<String, String> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).expect("a worker's environment");
    String::from_utf8_lossy(&bytes)
        .split('\0')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The answer of a worker on this port.
fn asked(daemon: &Daemon, port: u16) -> String {
    daemon.wait_for("an answer on the socket", || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.contains("This is process").then_some(answer)
    })
}

#[test]
fn the_daemon_runs_a_circus_toml_and_the_state_module_edits_it() {
    let site = TempSite::new();
    let port = site.port();
    let text = write_site(&site, port);
    let daemon = start(&site, "circus.toml");
    let pids = daemon.wait_pids("web", 2);
    daemon.wait_pids("old", 1);
    daemon.wait_pids("new", 1);
    assert!(asked(&daemon, port).contains("Hello"));
    daemon.wait_for("the workers to be themselves", || {
        (environment(pids[0]).get("OWN")? == "its own").then_some(())
    });
    let told = environment(pids[0]);
    for (name, value) in [("SITE", "7"), ("TRUTH", "True"), ("OWN", "its own")] {
        assert_eq!(told.get(name).map(String::as_str), Some(value), "{told:?}");
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", pids[0])).expect("readable");
    let nofile = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    assert!(
        nofile.is_some_and(|line| line.split_whitespace().nth(3) == Some("200")),
        "{limits}"
    );

    // One line of the file changes, and nothing of it.
    let ensure = [
        "state",
        "ensure",
        "web",
        "--procs",
        "3",
        "--config",
        "circus.toml",
        "--json",
    ];
    let report = circ(&site, &ensure).report();
    assert_eq!(
        (&report["changed"], &report["failed"]),
        (&json!(true), &json!(false)),
        "{report}"
    );
    assert_eq!(
        daemon
            .wait_pids("web", 3)
            .iter()
            .filter(|pid| pids.contains(pid))
            .count(),
        2
    );
    let wanted = text.replace("numprocesses  =  2 ", "numprocesses  =  3 ");
    assert_eq!(
        std::fs::read_to_string(site.path("circus.toml")).ok(),
        Some(wanted.clone())
    );
    let before = fingerprint(&site.path("circus.toml"));
    let report = circ(&site, &ensure).report();
    assert_eq!(report["changed"], json!(false), "{report}");
    assert_eq!(fingerprint(&site.path("circus.toml")), before);

    // An option of an included file is set there, in its braces.
    let args = [
        "state",
        "ensure",
        "new",
        "--set",
        "graceful_timeout=2.5",
        "--config",
        "circus.toml",
        "--json",
    ];
    let report = circ(&site, &args).report();
    assert_eq!(
        (&report["changed"], &report["failed"]),
        (&json!(true), &json!(false)),
        "{report}"
    );
    assert_eq!(
        std::fs::read_to_string(site.path("more.toml"))
            .ok()
            .as_deref(),
        Some(
            "[watcher]\nnew = { cmd = \"sleep\", args = [\"1000\"], numprocesses = 1, graceful_timeout = 2.5 }\n"
        )
    );

    // A new watcher comes after the last one, with the types that its options have.
    let args = [
        "state",
        "ensure",
        "cron",
        "--cmd",
        "sleep 1000",
        "--set",
        "copy_env=yes",
        "--set",
        "max_retry=-1",
        "--config",
        "circus.toml",
        "--json",
    ];
    let report = circ(&site, &args).report();
    assert_eq!(
        (&report["changed"], &report["failed"]),
        (&json!(true), &json!(false)),
        "{report}"
    );
    let added = "nofile = 200\n\n[watcher.cron]\ncmd = \"sleep 1000\"\ncopy_env = true\nmax_retry = -1\n\n[env]\n";
    let wanted = wanted.replace("nofile = 200\n\n[env]\n", added);
    assert_eq!(
        std::fs::read_to_string(site.path("circus.toml")).ok(),
        Some(wanted.clone())
    );

    // The daemon reads the file again.
    daemon.wait_pids("cron", 1);
    daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(daemon.wait_pids("web", 3).len(), 3);
    site.write(
        "circus.toml",
        wanted.replace("numprocesses  =  3 ", "numprocesses  =  1 "),
    );
    daemon.ok("reloadconfig", json!({"waiting": true}));
    daemon.wait_pids("web", 1);
    site.write(
        "circus.toml",
        wanted.replace("numprocesses  =  3 ", "numprocesses = \"four\" "),
    );
    let reply = daemon.call("reloadconfig", json!({"waiting": true}));
    let reason = reply["reason"].as_str().unwrap_or_default();
    let line = 1 + wanted[..wanted.find("numprocesses").unwrap_or_default()]
        .matches('\n')
        .count();
    let place =
        format!("circus.toml:{line}: [watcher.web] numprocesses: 'four' is not a whole number");
    assert!(reason.contains(&place), "{place}: {reply}");
    assert_eq!(daemon.pids("web").len(), 1);
}

#[test]
fn the_circus_ini_that_it_converts_to_runs_the_same() {
    let site = TempSite::new();
    let text = write_site(&site, site.port());
    let options = |daemon: &Daemon| -> BTreeMap<String, Value> {
        ["web", "old", "new"]
            .into_iter()
            .map(|name| {
                daemon.wait_pids(name, if name == "web" { 2 } else { 1 });
                (
                    name.to_owned(),
                    daemon.ok("options", json!({"name": name}))["options"].clone(),
                )
            })
            .collect()
    };
    let daemon = start(&site, "circus.toml");
    let from_toml = options(&daemon);
    daemon.stop();
    let made =
        toml_to_ini(text.as_bytes(), "circus.toml").unwrap_or_else(|error| panic!("{error}"));
    assert!(
        made.notes
            .iter()
            .any(|note| note.contains("include names a circus.toml")),
        "{:?}",
        made.notes
    );
    site.write("circus.ini", &made.text);
    let daemon = start(&site, "circus.ini");
    assert_eq!(options(&daemon), from_toml);
}

#[test]
fn a_broken_circus_toml_is_told_with_its_line_and_starts_nothing() {
    let site = TempSite::new();
    for (body, wanted) in [
        (
            "[watcher.web]\ncmd = \"sleep 1000\"\ncmd = \"x\"\n",
            "circus.toml:7: \"cmd = \\\"x\\\"\": duplicate key",
        ),
        (
            "[watcher.web]\ncmd = [\"sleep\", \"1000\"]\n",
            "circus.toml:6: [watcher.web] cmd: this is a list; text in quotes",
        ),
        (
            "[watchers.web]\ncmd = \"x\"\n",
            "circus.toml:5: [watchers] web: there is no such table",
        ),
        ("[watcher.web]\ncmd = sleep\n", "circus.toml:6: "),
    ] {
        site.write("circus.toml", format!("{}{body}", circus_table(&site)));
        let run = circ(&site, &["daemon", "circus.toml"]);
        assert_eq!(run.code, 1, "{} {}", run.stdout, run.stderr);
        assert!(run.stderr.contains(wanted), "{wanted:?}: {}", run.stderr);
    }
    site.write("circus.toml", "endpoint = 1\n");
    let run = circ(
        &site,
        &[
            "state",
            "ensure",
            "web",
            "--procs",
            "1",
            "--config",
            "circus.toml",
            "--json",
        ],
    );
    assert_eq!(run.code, 1);
    assert!(
        run.report()["error"]
            .as_str()
            .is_some_and(|error| error.contains("circus.toml:1: endpoint: a value stands outside")),
        "{}",
        run.stdout
    );
}

#[test]
fn the_client_finds_the_endpoint_in_a_circus_toml() {
    let site = TempSite::ipc();
    site.write(
        "circus.toml",
        format!(
            "{}[watcher.web]\ncmd = \"sleep 1000\"\n",
            circus_table(&site)
        ),
    );
    let daemon = start(&site, "circus.toml");
    daemon.wait_pids("web", 1);
    let run = circ(&site, &["status", "--config", "circus.toml"]);
    assert_eq!(
        (run.code, run.stdout.as_str()),
        (0, "web  active\n"),
        "{}",
        run.stderr
    );
    // Also while it is being edited.
    site.write(
        "circus.toml",
        format!("{}[watcher.web]\ncmd = \"\"\n", circus_table(&site)),
    );
    let run = circ(&site, &["status", "--config", "circus.toml"]);
    assert_eq!(
        (run.code, run.stdout.as_str()),
        (0, "web  active\n"),
        "{}",
        run.stderr
    );
}

/// Two files mean the same.
#[track_caller]
fn same_meaning(one: &Path, other: &Path) {
    let load = |path: &Path| {
        Config::load(path, &BTreeMap::new(), Path::new("/"))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let (one, other) = (load(one), load(other));
    assert_eq!(one.circus, other.circus);
    assert_eq!(one.plugins, other.plugins);
    assert_eq!(one.sockets.len(), other.sockets.len());
    for (one, other) in one.watchers.iter().zip(&other.watchers) {
        // An environment is a set, in whatever order it is written.
        let sorted = |watcher: &circ::options::WatcherOptions| {
            let mut watcher = watcher.clone();
            let mut env = watcher.env().cloned().unwrap_or_default();
            env.sort_keys();
            watcher.put("env", Value::Object(env)).map(|()| watcher)
        };
        assert_eq!(sorted(one), sorted(other));
    }
    assert_eq!(one.watchers.len(), other.watchers.len());
}

#[test]
fn the_examples_of_both_spellings_mean_the_same() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let hello = top.join("examples/hello");
    same_meaning(&hello.join("circus.toml"), &hello.join("circus.ini"));

    let site = TempSite::new();
    let page = std::fs::read_to_string(top.join("docs/circus-toml.md")).expect("the page is there");
    for format in ["toml", "ini"] {
        let block = page
            .split_once(&format!("```{format}\n"))
            .expect("an example")
            .1;
        let block = block.split_once("```").expect("its end").0;
        site.write(&format!("circus.{format}"), block);
    }
    same_meaning(&site.path("circus.toml"), &site.path("circus.ini"));
}
