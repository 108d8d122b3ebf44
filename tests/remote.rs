//! A daemon on another host, through ssh: `--ssh`. The other host is an sshd of the test's own on loopback.

#[path = "remote/host.rs"]
mod host;
mod support;
#[path = "top/tmux.rs"]
mod tmux;
#[path = "remote/watched.rs"]
mod watched;

use host::{Host, text};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use support::{Program, TempSite, need, wait_for};

/// Whether any process has both texts in its command line.
fn mentioned_with(one: &str, other: &str) -> bool {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .any(|line| line.contains(one) && line.contains(other))
}

const WEB: &str = "[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\n";

#[test]
fn a_daemon_is_driven_through_ssh() {
    let desk = TempSite::ipc();
    let Some(host) = Host::start(&desk) else {
        return;
    };
    // A Unix socket over there, or a port that only that host reaches; circusd as well.
    for (site, program) in [
        (TempSite::ipc(), Program::Circ),
        (TempSite::new(), Program::Circ),
        (TempSite::new(), Program::Circusd),
    ] {
        site.ini(WEB);
        let daemon = site.start(program);
        let pids = daemon.wait_pids("web", 2);
        let name = host.name();
        let told = host.run(&[
            "list",
            "web",
            "--ssh",
            &name,
            "--endpoint",
            &site.endpoint,
            "--json",
        ]);
        assert!(told.status.success(), "{}", text(&told.stderr));
        let reply: Value = serde_json::from_slice(&told.stdout).expect("JSON");
        assert_eq!(reply["pids"], json!(pids));
        // The words of the file, and the options before the command.
        let config = site.path("circus.ini").display().to_string();
        let told = host.run(&["--ssh", &name, "--config", &config, "incr", "web"]);
        assert!(told.status.success(), "{}", text(&told.stderr));
        daemon.wait_pids("web", 3);
        if program == Program::Circ && site.endpoint.starts_with("tcp") {
            // control, events and statistics, each on its own way
            let endpoint = ["--endpoint", &site.endpoint];
            let told = host.run(&["top", "--once", "--ssh", &name, endpoint[0], endpoint[1]]);
            assert!(told.status.success(), "{}", text(&told.stderr));
            let shown = text(&told.stdout);
            assert!(shown.contains("3/3") && shown.contains(&name), "{shown}");
            for pid in daemon.pids("web") {
                assert!(shown.contains(&format!("    {pid} ")), "{shown}");
            }
        }
        let told = host.run(&[
            "circusctl",
            "--ssh",
            &name,
            "--endpoint",
            &site.endpoint,
            "status",
            "web",
        ]);
        assert_eq!(
            (text(&told.stdout).trim(), told.status.code()),
            ("active", Some(0)),
            "{}",
            text(&told.stderr)
        );
        // Events come from the endpoint that the daemon names.
        let mut listening = host
            .command(&[
                "listen",
                "watcher.web",
                "--ssh",
                &name,
                "--endpoint",
                &site.endpoint,
            ])
            .stdout(Stdio::piped())
            .spawn()
            .expect("circ runs");
        let (sender, lines) = std::sync::mpsc::channel();
        let out = BufReader::new(listening.stdout.take().expect("a pipe"));
        let reader = std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let line = wait_for("an event", || {
            daemon.ok("incr", json!({"name": "web", "waiting": true}));
            daemon.ok("decr", json!({"name": "web", "waiting": true}));
            lines.try_recv().ok()
        });
        assert!(line.contains(" watcher.web."), "{line}");
        // However it ends, nothing stays.
        listening.kill().expect("it runs");
        listening.wait().expect("it ran");
        reader.join().expect("the reader ends");
        host.assert_clean();
    }
}

#[test]
fn what_ssh_says_is_told() {
    let desk = TempSite::ipc();
    let Some(host) = Host::start(&desk) else {
        return;
    };
    let name = host.name();
    let nobody = format!("tcp://127.0.0.1:{}", desk.port());
    let gone = format!("ipc://{}", desk.path("gone").display());
    let closed = format!("root@127.0.0.1:{}", desk.port());
    for (server, endpoint, code, what) in [
        (name.as_str(), nobody.as_str(), 1, "Connection refused"),
        (&name, &gone, 1, "is not reached through ssh"),
        (&closed, &nobody, 1, "Connection refused"),
        (
            &format!("nobody@127.0.0.1:{}", host.port),
            &nobody,
            1,
            "Permission denied",
        ),
        (&name, "ipc://relative", 1, "has to be absolute"),
        ("-oProxyCommand=x", &nobody, 64, "names no host"),
    ] {
        let server = format!("--ssh={server}");
        let told = host.run(&["status", &server, "--endpoint", endpoint]);
        let said = text(&told.stderr);
        assert_eq!(
            told.status.code(),
            Some(code),
            "{server} {endpoint}: {said}"
        );
        assert!(said.contains(what), "{server} {endpoint}: {said}");
        let told = host.run(&[
            "circusctl",
            &server,
            "--endpoint",
            endpoint,
            "--timeout",
            "2",
            "status",
        ]);
        assert_eq!(told.status.code(), Some(1), "{}", text(&told.stderr));
        assert!(text(&told.stderr).contains(what), "{}", text(&told.stderr));
    }
    host.assert_clean();
    // No ssh at all.
    fs::remove_file(host.bin.join("ssh")).expect("ours");
    for program in ["sh", "cat", "kill", "rm"] {
        let real = need(program, "coreutils").expect("there is one");
        std::os::unix::fs::symlink(real, host.bin.join(program)).expect("ours");
    }
    let told = host
        .command(&["status", "--ssh", &name])
        .env("PATH", &host.bin)
        .output()
        .expect("circ runs");
    assert_eq!(told.status.code(), Some(1));
    assert!(text(&told.stderr).contains("ssh"), "{}", text(&told.stderr));
}

#[test]
fn the_programs_of_circus_go_through_ssh_as_well() {
    let desk = TempSite::ipc();
    let Some(host) = Host::start(&desk) else {
        return;
    };
    // The key comes from the command line here.
    let config = desk.path("ssh_config");
    let own = fs::read_to_string(&config).expect("our own file");
    let without = own.lines().filter(|line| !line.starts_with("IdentityFile"));
    let without: Vec<&str> = without.collect();
    fs::write(&config, without.join("\n")).expect("our own file");
    let site = TempSite::new();
    site.ini(&format!("statsd = True\n{WEB}"));
    let daemon = site.start(Program::Circ);
    let pid = daemon.wait_pids("web", 2)[0];
    let (name, key) = (host.name(), desk.path("user_key").display().to_string());
    let status = |more: &[&str]| {
        let mut args = vec!["circusctl", "--ssh", &name, "--endpoint", &site.endpoint];
        args.extend(more);
        args.extend(["status", "web"]);
        host.run(&args)
    };
    let told = status(&["--timeout", "2"]);
    assert!(text(&told.stderr).contains("Permission denied"), "{told:?}");
    let told = status(&["--ssh_keyfile", &key]);
    assert_eq!(text(&told.stdout).trim(), "active", "{told:?}");
    host.assert_clean();

    fs::write(&config, own).expect("our own file");
    let seen = |args: &[&str]| {
        let mut child = host
            .command(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("circ runs");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut lines = out.lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains(&format!(" {pid} ")));
        let _ = child.kill();
        let _ = child.wait();
        assert!(line.is_some(), "{args:?} does not show {pid}");
    };
    seen(&["circus-top", "--ssh", &name, "--endpoint", &site.endpoint]);
    host.assert_clean();

    let here = format!("tcp://127.0.0.1:{}", desk.port());
    let mut program = host
        .command(&["circusd-stats", "--ssh", &name, "--statspoint", &here])
        .args(["--endpoint", &site.endpoint, "--pubsub", &site.pubsub])
        .stderr(Stdio::null())
        .spawn()
        .expect("circ runs");
    seen(&["circus-top", "--endpoint", &here]);
    let _ = program.kill();
    let _ = program.wait();
    host.assert_clean();
}

#[test]
fn output_is_read_over_there() {
    let desk = TempSite::ipc();
    let Some(host) = Host::start(&desk) else {
        return;
    };
    let name = host.name();
    for program in [Program::Circ, Program::Circusd] {
        let site = TempSite::new();
        site.ini(
            "[watcher:web]\ncmd = sleep 1000\nstdout_stream.class = FileStream\nstdout_stream.filename = web.log\n",
        );
        let said = "2026-02-01 10:00:00 it's one\n2026-02-02 10:00:00 two\n";
        fs::write(site.path("web.log"), said).expect("ours");
        let daemon = site.start(program);
        daemon.wait_pids("web", 1);
        let logs = |more: &[&str]| {
            let mut args = vec!["logs", "--ssh", &name, "--endpoint", &site.endpoint];
            args.extend(more);
            host.run(&args)
        };
        // Over there it is found by the daemon that runs, or on the PATH.
        let there = desk.path("there").join("circ");
        if program == Program::Circ {
            assert_eq!(text(&logs(&["w*", "--stdout"]).stdout), said);
        }
        let _ = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_circ"), &there);
        assert_eq!(text(&logs(&["web", "--stdout"]).stdout), said);
        let told = logs(&["web", "--stdout", "--json", "--since", "2026-02-02"]);
        let line: Value = serde_json::from_slice(&told.stdout).expect("one line of JSON");
        assert_eq!(line["line"], "2026-02-02 10:00:00 two");
        let told = logs(&["nobody's"]);
        assert_eq!(told.status.code(), Some(3), "{told:?}");
        assert!(
            text(&told.stderr).contains("there is no watcher nobody's"),
            "{told:?}"
        );
        let told = host.run(&[
            "logs",
            "reopen",
            "--ssh",
            &name,
            "--endpoint",
            &site.endpoint,
        ]);
        let code = if program == Program::Circ { 0 } else { 3 };
        assert_eq!(told.status.code(), Some(code), "{told:?}");

        let mut following = host
            .command(&["logs", "--ssh", &name, "--endpoint", &site.endpoint])
            .args(["--follow", "-n1", "web", "--stdout"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("circ runs");
        let mut out = BufReader::new(following.stdout.take().expect("a pipe"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        assert_eq!(line, "2026-02-02 10:00:00 two\n");
        use std::io::Write;
        let mut file = fs::File::options()
            .append(true)
            .open(site.path("web.log"))
            .expect("ours");
        file.write_all(b"more\n").expect("ours");
        line.clear();
        out.read_line(&mut line).expect("a line");
        assert_eq!(line, "more\n");
        following.kill().expect("it runs");
        following.wait().expect("it ran");
        host.assert_clean();
        // And the circ over there has ended as well.
        wait_for("nobody to follow any more", || {
            (!mentioned_with(&site.endpoint, "--follow")).then_some(())
        });
    }
    let closed = format!("root@127.0.0.1:{}", desk.port());
    let told = host.run(&["logs", "--ssh", &closed]);
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    assert!(
        text(&told.stderr).contains("Connection refused"),
        "{told:?}"
    );
    host.assert_clean();
}

#[test]
fn a_native_plugin_reaches_its_daemon_through_ssh() {
    let desk = TempSite::ipc();
    let Some(host) = Host::start(&desk) else {
        return;
    };
    let site = TempSite::new();
    site.ini(WEB);
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    let name = host.name();
    let plugin = |class: &str| {
        let mut command = host.command(&["circus-plugin", "--ssh", &name]);
        command
            .args(["--endpoint", &site.endpoint, "--pubsub", &site.pubsub])
            .args(["--config", "attempts:2:::window:60:::retry_in:1000", class])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    };
    let mut flapping = plugin("circus.plugins.flapping.Flapping")
        .spawn()
        .expect("circ runs");
    daemon.wait_for("the watcher that flaps to be stopped", || {
        let reply = daemon.call("status", json!({"name": "web"}));
        if !reply["stopped_by"].is_null() {
            return Some(());
        }
        for pid in daemon.pids("web") {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        None
    });
    flapping.kill().expect("it runs");
    flapping.wait().expect("it ran");
    host.assert_clean();
    let refused = plugin("circus.plugins.command_reloader.CommandReloader")
        .output()
        .expect("circ runs");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("the programs of this machine"),
        "{refused:?}"
    );
}
