//! `circ doctor`: each way in which a daemon is not reached, what of one is not well, and what is dangerous in its file.

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{Daemon, Program, TempSite};

/// What the doctor finds: the report and the exit code.
fn doctor(site: &TempSite, args: &[&str]) -> (Value, Option<i32>) {
    let output = command(site, args).arg("--json").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(report["schema"], "circ.doctor/1");
    (report, output.status.code())
}

fn command(site: &TempSite, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    command
        .args(["doctor", "--timeout", "1"])
        .args(args)
        .current_dir(site.dir())
        .env("CIRCUSCTL_ENDPOINT", &site.endpoint);
    command
}

fn ids(report: &Value) -> Vec<&str> {
    let all = report["findings"].as_array().unwrap();
    all.iter().filter_map(|one| one["id"].as_str()).collect()
}

/// The finding of this kind; all its words are there.
#[track_caller]
fn one<'a>(report: &'a Value, id: &str) -> &'a Value {
    let all = report["findings"].as_array().unwrap();
    let found = all.iter().find(|one| one["id"] == id);
    let found = found.unwrap_or_else(|| panic!("{id} in {report}"));
    assert!(found["what"].is_string(), "{found}");
    found
}

fn place(finding: &Value) -> &str {
    finding["where"].as_str().unwrap_or_default()
}

#[test]
fn each_reason_for_silence_is_told_apart() {
    let site = TempSite::ipc();
    let at = |endpoint: &str| {
        let (report, code) = doctor(&site, &["--endpoint", endpoint]);
        assert_eq!(
            (code, &report["reached"]),
            (Some(1), &json!(false)),
            "{report}"
        );
        report
    };
    let path = site.path("control");
    let ipc = format!("ipc://{}", path.display());
    assert!(ids(&at(&ipc)).contains(&"endpoint-missing"));
    let nowhere = at(&format!("ipc://{}/none/control", site.dir().display()));
    let why = one(&nowhere, "endpoint-missing");
    assert!(
        why["what"].as_str().unwrap().contains("no directory"),
        "{why}"
    );
    let listener = UnixListener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let removed = at(&ipc);
    let what = one(&removed, "endpoint-removed")["what"].to_string();
    assert!(
        what.contains(&format!("pid {}", std::process::id())),
        "{what}"
    );
    drop(listener);
    drop(UnixListener::bind(&path).unwrap());
    assert!(ids(&at(&ipc)).contains(&"endpoint-stale"));
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    assert!(ids(&at(&ipc)).contains(&"endpoint-no-socket"));
    let port = site.port();
    assert!(ids(&at(&format!("tcp://127.0.0.1:{port}"))).contains(&"nobody-listens"));
    // Something that says nothing: who it is, is told.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let report = at(&format!("tcp://{}", silent.local_addr().unwrap()));
    let told = one(&report, "timeout")["what"]
        .as_str()
        .unwrap()
        .to_string();
    assert!(
        told.contains(&format!("pid {}", std::process::id())),
        "{told}"
    );
    // Something that speaks another protocol.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::Write;
        for mut stream in other.incoming().flatten() {
            let _ = stream.write_all(
                b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n padding, and more of it",
            );
        }
    });
    assert!(ids(&at(&format!("tcp://{address}"))).contains(&"other-program"));
    // A file that nobody can read as a configuration.
    site.write("bad.ini", "[watcher:x]\nnumprocesses = many\n[circus\n");
    let (report, code) = doctor(&site, &["--config", "bad.ini"]);
    assert_eq!(code, Some(1), "{report}");
    assert!(
        place(one(&report, "config")).starts_with("bad.ini"),
        "{report}"
    );
    let usage = command(&site, &["--endpoint", "localhost"])
        .output()
        .unwrap();
    assert_eq!(usage.status.code(), Some(64));
}

#[test]
fn a_daemon_that_stands_still_is_told_with_its_state() {
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    daemon.signal(Signal::SIGSTOP);
    let (report, code) = doctor(&site, &[]);
    daemon.signal(Signal::SIGCONT);
    assert_eq!(code, Some(1));
    let found = one(&report, "timeout");
    let what = found["what"].as_str().unwrap();
    assert!(what.contains(&format!("pid {}", daemon.pid())), "{what}");
    assert_eq!(found["fix"], format!("kill -CONT {}", daemon.pid()));
    if nix::unistd::geteuid().is_root() {
        // Another user: as root this is no obstacle, so somebody else asks.
        daemon.wait_ready();
        fs::set_permissions(site.dir(), fs::Permissions::from_mode(0o711)).unwrap();
        let binary = site.path("circ");
        fs::copy(env!("CARGO_BIN_EXE_circ"), &binary).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--clear-groups"])
            .arg(&binary)
            .args(["doctor", "--json", "--endpoint", &site.endpoint])
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let what = one(&report, "permission")["what"].as_str().unwrap();
        assert!(
            what.contains("the socket belongs to root (mode 600)"),
            "{what}"
        );
    }
}

/// Waits until the doctor finds this.
#[track_caller]
fn wait_found(site: &TempSite, daemon: &Daemon, id: &str) -> Value {
    daemon.wait_for(id, || {
        let (report, _) = doctor(site, &[]);
        ids(&report).contains(&id).then_some(report)
    })
}

#[test]
fn what_is_not_well_is_told_with_its_reason() {
    let site = TempSite::ipc();
    site.write("crash.sh", "echo no database here >&2\nexit 3\n");
    let ini = format!(
        "[watcher:crash]\ncmd = sh {}/crash.sh\n[watcher:nope]\ncmd = /no/such/program\n[watcher:good]\ncmd = sleep 1000\n",
        site.dir().display()
    );
    let file = site.ini(&ini);
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("good", 1);
    wait_found(&site, &daemon, "gave-up");
    let report = daemon.wait_for("the words of what dies", || {
        let (report, code) = doctor(&site, &[]);
        assert_eq!(code, Some(1));
        let all = report["findings"].as_array().unwrap();
        let flapping = all.iter().find(|one| one["id"] == "flapping")?;
        flapping["why"]
            .as_str()?
            .contains("| no database here")
            .then(|| report.clone())
    });
    let flapping = one(&report, "flapping");
    assert_eq!(place(flapping), "watcher crash");
    assert!(
        flapping["why"].as_str().unwrap().contains("exit code 3"),
        "{flapping}"
    );
    let gave_up = one(&report, "gave-up");
    assert_eq!(
        (place(gave_up), &gave_up["severity"]),
        ("watcher nope", &json!("error"))
    );
    // The file is found by what the daemon says, and looked at as well.
    assert_eq!(report["config"], file.display().to_string());
    let missing = one(&report, "config");
    assert_eq!(place(missing), format!("{}:8", file.display()), "{report}");
    assert!(!ids(&report).contains(&"drift"), "{report}");
    // The file is changed: the daemon does not know it yet.
    site.ini(&ini.replace("sleep 1000", "sleep 1001"));
    let report = wait_found(&site, &daemon, "drift");
    let drift = one(&report, "drift")["what"].as_str().unwrap();
    assert!(drift.contains("watcher:good (replace)"), "{drift}");
    site.ini(&format!(
        "{ini}[watcher:bad]\ncmd = sleep 1\nnumprocesses = many\n"
    ));
    let report = wait_found(&site, &daemon, "config-refused");
    assert!(
        place(one(&report, "config")).ends_with("circus.ini:13"),
        "{report}"
    );
    // Mended, there is nothing to say.
    site.ini("[watcher:good]\ncmd = sleep 1000\n");
    daemon.ok("reloadconfig", json!({"waiting": true}));
    let (report, code) = doctor(&site, &[]);
    let wrong: Vec<&Value> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["severity"] != "note" && one["id"] != "config")
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(code, Some(0), "{report}");
    let said = command(&site, &[]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains(&format!("daemon at {} (1 watcher), ", site.endpoint)),
        "{said}"
    );
    // A real circusd is looked at as far as it answers.
    drop(daemon);
    let circusd = site.start(Program::Circusd);
    circusd.wait_pids("good", 1);
    let (report, code) = doctor(&site, &["--config", "circus.ini"]);
    assert_eq!(
        (code, &report["reached"]),
        (Some(0), &json!(true)),
        "{report}"
    );
    assert!(ids(&report).contains(&"circusd"));
}

#[test]
fn what_is_dangerous_in_a_file_is_told() {
    let site = TempSite::ipc();
    let open = site.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    site.write("daemon.pid", "999999999\n");
    let hooked = "[watcher:hooked]\ncmd = sleep 1\nhooks.before_start = nowhere_to_be_found.hook\nhooks.after_stop = exec:/no/such/hook\n";
    let file = site.write(
        "circus.ini",
        format!(
            "[circus]\nendpoint = tcp://0.0.0.0:1\npubsub_endpoint = ipc://{}/events\npidfile = daemon.pid\n\
             [socket:web]\nhost = 127.0.0.1\nport = {port}\n[watcher:many]\ncmd = sleep 1\nnumprocesses = 100000000\n\
             [watcher:many]\nnumprocesses = 2\n{hooked}",
            open.display()
        ),
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let (report, code) = doctor(&site, &["--config", "circus.ini"]);
    assert_eq!(code, Some(1));
    let line = |id: &str| {
        let place = place(one(&report, id)).to_string();
        place
            .strip_prefix(&format!("{}:", file.display()))
            .map(str::to_string)
    };
    assert_eq!(line("endpoint-public").as_deref(), Some("2"));
    assert_eq!(line("directory-open").as_deref(), Some("3"));
    assert_eq!(line("port-taken").as_deref(), Some("7"));
    assert_eq!(line("hook-missing").as_deref(), Some("15"));
    let hooks = ids(&report)
        .iter()
        .filter(|id| **id == "hook-missing")
        .count();
    assert_eq!(hooks, 2, "{report}");
    assert_eq!(place(one(&report, "file-open")), file.display().to_string());
    assert!(place(one(&report, "pidfile-stale")).ends_with("daemon.pid"));
    one(&report, "limit-files");
    // Every one says why it matters or what to do.
    for finding in report["findings"].as_array().unwrap() {
        let helps =
            finding["why"].is_string() || finding["fix"].is_string() || finding["id"] == "config";
        assert!(helps, "{finding}");
    }
    let shadowed =
        report["findings"].as_array().unwrap().iter().any(|one| {
            one["id"] == "config" && one["what"].as_str().unwrap().contains("is not read")
        });
    assert!(shadowed, "{report}");
    drop(taken);
}

#[test]
fn warnings_fail_if_that_is_wanted() {
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\ncmd = sleep 1001\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let (report, code) = doctor(&site, &[]);
    assert_eq!(code, Some(0), "{report}");
    let (report, code) = doctor(&site, &["--strict"]);
    assert_eq!((code, &report["ok"]), (Some(1), &json!(false)), "{report}");
}
