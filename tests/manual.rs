//! The manual pages and the reference are what the program's own tables say, and `man` takes them.
//!
//! After a change of a command, an option or a text of the manual: `UPDATE=1 cargo test --test manual`
//! writes the files anew.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use circ::cli::manual::{REPLIES, STATISTICS, pages};
use circ::config::keys::{CIRCUS_KEYS, PLUGIN_KEYS, SOCKET_KEYS};
use circ::config::plugin_keys::{PLUGINS, STATSD_KEYS};
use circ::options::WATCHER_OPTIONS;
use circ::wire::{COMMANDS, Client, Endpoint};

const HINT: &str = "`UPDATE=1 cargo test --test manual` writes the manual anew";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    pages()
        .unwrap()
        .into_iter()
        .find_map(|(path, text)| (path == name).then_some(text))
        .unwrap_or_else(|| panic!("{name} is not made"))
}

/// The files that are in the directories the manual owns.
fn committed() -> BTreeSet<PathBuf> {
    ["man", "docs/reference"]
        .iter()
        .flat_map(|dir| std::fs::read_dir(root().join(dir)).into_iter().flatten())
        .map(|entry| {
            let path = entry.unwrap().path();
            path.strip_prefix(root()).unwrap().to_owned()
        })
        .collect()
}

#[test]
fn the_committed_files_are_what_the_tables_say() {
    let pages = pages().unwrap();
    let made: BTreeSet<PathBuf> = pages.iter().map(|(path, _)| path.into()).collect();
    if std::env::var_os("UPDATE").is_some() {
        for (path, text) in &pages {
            let path = root().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        for stale in committed().difference(&made) {
            std::fs::remove_file(root().join(stale)).unwrap();
        }
    }
    for (path, text) in &pages {
        let committed = std::fs::read_to_string(root().join(path))
            .unwrap_or_else(|error| panic!("{path}: {error}; {HINT}"));
        let differs = committed
            .lines()
            .zip(text.lines())
            .position(|(a, b)| a != b)
            .map_or(committed.lines().count(), |at| at)
            + 1;
        assert!(
            committed == *text,
            "{path} differs from what the tables say, from line {differs} on; {HINT}"
        );
    }
    assert_eq!(committed(), made, "files nobody makes; {HINT}");
}

#[test]
fn every_option_key_and_command_is_described() {
    let man = page("man/circus.ini.5");
    let reference = page("docs/reference/options.md");
    let keys = [CIRCUS_KEYS, SOCKET_KEYS, PLUGIN_KEYS, STATSD_KEYS]
        .into_iter()
        .chain(PLUGINS.iter().map(|plugin| plugin.keys))
        .flatten();
    let names: Vec<&str> = WATCHER_OPTIONS
        .iter()
        .map(|spec| spec.name)
        .chain(keys.map(|key| key.name))
        .collect();
    for name in &names {
        // A key like umask stands in several tables.
        let wanted = names.iter().filter(|other| *other == name).count();
        let rows = reference.matches(&format!("\n| `{name}` |")).count();
        assert_eq!(rows, wanted, "{name}");
        let entries = man.matches(&format!("\n.TP\n\\fB{name}\\fR\n")).count();
        assert!(entries >= wanted, "{name}");
    }
    let commands = page("docs/reference/commands.md");
    let overview = page("man/circ.1");
    for spec in COMMANDS {
        assert!(
            commands.contains(&format!("\n## `{}`\n", spec.name)),
            "{}",
            spec.name
        );
        assert!(
            overview.contains(&format!("\\fBcirc {}\\fR\n", spec.name)),
            "{}",
            spec.name
        );
        // what a person gets of it is more than an answer to that message
        if spec.name == "metrics" {
            continue;
        }
        let own = page(&format!("man/circ-{}.1", spec.name));
        for switch in spec.switches {
            let written = switch.name.replace('-', "\\-");
            assert!(
                own.contains(&format!("\\fB\\-\\-{written}\\fR")),
                "{} {written}",
                spec.name
            );
        }
    }
}

/// groff finds what is wrong with a page and what does not fit its lines.
#[test]
fn man_has_nothing_to_complain_about() {
    if Command::new("groff").arg("--version").output().is_err() {
        support::skip("groff is not installed: the man pages have not been formatted");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in pages().unwrap() {
        if !path.starts_with("man/") {
            continue;
        }
        let file = dir.path().join(Path::new(&path).file_name().unwrap());
        std::fs::write(&file, text).unwrap();
        let formatted = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-rLL=80n"])
            .arg(&file)
            .output()
            .unwrap();
        let complaints = String::from_utf8_lossy(&formatted.stderr);
        assert!(
            formatted.status.success() && complaints.is_empty(),
            "{path}: {complaints}"
        );
        let shown = String::from_utf8_lossy(&formatted.stdout).into_owned();
        assert!(shown.contains("circ"), "{path} shows nothing");
        assert!(!shown.contains('`'), "{path}: a backtick is left");
    }
}

/// A daemon that is killed, with its workers, when the test is over.
struct Daemon {
    process: std::process::Child,
    home: tempfile::TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(Some(_))) {
            return; // it has stopped its workers itself
        }
        let workers = support::descendants(self.process.id() as i32);
        let _ = self.process.kill();
        let _ = self.process.wait();
        support::kill_tree(workers, self.home.path(), &[]);
    }
}

/// The replies that the reference describes are those a daemon gives.
#[test]
fn a_daemon_answers_as_the_reference_says() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("ipc://{}", home.path().join(name).display());
    let config = home.path().join("circus.ini");
    let text = format!(
        "[circus]\nendpoint = {}\npubsub_endpoint = {}\n[watcher:web]\ncmd = sleep 1000\n",
        at("control"),
        at("events")
    );
    std::fs::write(&config, text).unwrap();
    let endpoint: Endpoint = at("control").parse().unwrap();
    let process = Command::new(env!("CARGO_BIN_EXE_circ"))
        .args(["daemon", "--log-level", "error"])
        .arg(&config)
        .current_dir(home.path())
        .spawn()
        .unwrap();
    let mut daemon = Daemon { process, home };
    let connect = || Client::connect(&endpoint, support::deadline());
    support::wait_for("the worker", || {
        let list = json!({"command": "list", "properties": {"name": "web"}});
        let reply = connect().and_then(|mut client| client.call(list)).ok()?;
        (!reply["pids"].as_array()?.is_empty()).then_some(())
    });
    let mut client = connect().unwrap();
    let list = json!({"command": "list", "properties": {"name": "web"}});
    let pid = client.call(list).unwrap()["pids"][0].to_string();
    let stats = json!({"command": "stats", "properties": {"name": "web"}});
    let stats = client.call(stats).unwrap();
    let keys: Vec<&String> = stats["info"][&pid].as_object().unwrap().keys().collect();
    let said: Vec<&str> = STATISTICS.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, said);
    for form in REPLIES {
        let properties: Value = serde_json::from_str(&form.request.replace("PID", &pid)).unwrap();
        let message = json!({"command": form.command, "properties": properties});
        let reply = client.call(message).unwrap();
        let own: BTreeSet<&str> = reply
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .filter(|key| !["status", "time", "id"].contains(key))
            .collect();
        let said: BTreeSet<&str> = form.keys.iter().copied().collect();
        assert_eq!(own, said, "{} {}: {reply}", form.command, form.request);
        let named_status = form.command == "status" && form.request.contains("name");
        assert_eq!(
            reply["status"],
            if named_status { "active" } else { "ok" },
            "{} {}: {reply}",
            form.command,
            form.request
        );
    }
    support::wait_for("the end after quit", || {
        daemon.process.try_wait().ok().flatten()
    });
}
