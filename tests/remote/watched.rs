//! Who looks for long, through ssh: a line that breaks is laid again, and meanwhile it is said why there is none.

use crate::host::Host;
use crate::support::{Daemon, Program, TempSite, wait_for};
use crate::tmux::Tmux;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

const WEB: &str = "[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\n";

/// A console. It ends with this value.
struct Console {
    child: Child,
    base: String,
}

impl Console {
    fn start(host: &Host, site: &TempSite, with: &[&str]) -> Console {
        let port = site.port();
        let text = port.to_string();
        let child = host
            .command(&["web", "--host", "127.0.0.1", "--port", &text])
            .args(with)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let console = Console {
            child: child.expect("circ runs"),
            base: format!("http://127.0.0.1:{port}/api/v1/daemons"),
        };
        wait_for("the console to answer", || console.get("").ok());
        console
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        let reply = ureq::get(format!("{}{path}", self.base)).call();
        let text = reply.and_then(|mut reply| reply.body_mut().read_to_string());
        let text = text.map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// What is told of the daemon of this id.
    fn daemon(&self, id: &str) -> Value {
        let told = self.get("").expect("the console answers");
        let daemons = told["daemons"].as_array().expect("a list").clone();
        let found = daemons.into_iter().find(|daemon| daemon["id"] == id);
        found.unwrap_or_else(|| panic!("no {id} in {told}"))
    }

    /// Waits until a daemon is `up` or `down`.
    #[track_caller]
    fn wait(&self, id: &str, state: &str) -> Value {
        wait_for(&format!("{id} to be {state}"), || {
            let told = self.daemon(id);
            (told["state"] == state).then_some(told)
        })
    }

    /// Waits for an event of the watcher `web`, which `daemon` is given reason for.
    #[track_caller]
    fn hears(&self, id: &str, daemon: &Daemon) {
        let reply = ureq::get(format!("{}/{id}/events", self.base)).call();
        let reply = reply.expect("the console answers").into_body();
        let (sender, lines) = std::sync::mpsc::channel();
        // it ends with the console
        std::thread::spawn(move || {
            for line in BufReader::new(reply.into_reader()).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        wait_for("an event", || {
            daemon.ok("incr", json!({"name": "web", "waiting": true}));
            daemon.ok("decr", json!({"name": "web", "waiting": true}));
            let mut heard = lines.try_iter();
            heard
                .any(|line| line.contains("watcher.web."))
                .then_some(())
        });
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

#[test]
fn a_console_at_home_shows_daemons_elsewhere_and_survives_a_line_that_breaks() {
    let desk = TempSite::ipc();
    let Some(mut host) = Host::start(&desk) else {
        return;
    };
    let (here, there, circus) = (TempSite::new(), TempSite::ipc(), TempSite::new());
    for site in [&here, &there, &circus] {
        site.ini(WEB);
    }
    let near = here.start(Program::Circ);
    let far = there.start(Program::Circ);
    let real = circus.start(Program::Circusd);
    for daemon in [&near, &far, &real] {
        daemon.wait_pids("web", 2);
    }
    let name = host.name();
    let named = |site: &TempSite| format!("--ssh={name}={}", site.endpoint);
    let nobody = format!("--ssh=nobody@127.0.0.1:{}={}", host.port, there.endpoint);
    let (first, second) = (named(&there), named(&circus));
    let console = Console::start(
        &host,
        &desk,
        &["--endpoint", &here.endpoint, &first, &second, &nobody],
    );
    let told = console.get("").expect("the console answers");
    let ids: Vec<&str> = told["daemons"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|daemon| daemon["id"].as_str())
        .collect();
    let [local, far_id, real_id, refused] = ids[..] else {
        panic!("{told}");
    };
    assert_eq!(console.wait(local, "up")["local"], true);
    for (id, site, daemon) in [(far_id, &there, &far), (real_id, &circus, &real)] {
        let told = console.wait(id, "up");
        assert_eq!(told["pid"], daemon.pid(), "{told}");
        assert_eq!(told["local"], false, "{told}");
        assert_eq!(told["endpoint"], format!("{name} {}", site.endpoint));
        let told = console.get(&format!("/{id}/watchers")).expect("an answer");
        assert_eq!(told["watchers"][0]["running"], 2, "{told}");
        console.hears(id, daemon);
    }
    wait_for("ssh's own words", || {
        let told = console.wait(refused, "down");
        let reason = told["reason"].as_str().unwrap_or_default();
        reason.contains("Permission denied").then_some(())
    });

    // the network breaks, and the host is away for a while
    host.stop();
    wait_for("the lines to be cut", || {
        (host.cut(console.child.id() as i32) > 0).then_some(())
    });
    wait_for("the reason", || {
        let told = console.wait(far_id, "down");
        let reason = told["reason"].as_str().unwrap_or_default();
        reason.contains("Connection refused").then_some(())
    });
    console.wait(local, "up");
    host.listen();
    for (id, daemon) in [(far_id, &far), (real_id, &real)] {
        console.wait(id, "up");
        console.hears(id, daemon);
    }
    drop(console);
    host.assert_clean();
}

#[test]
fn circ_top_lays_a_line_again_and_says_why_there_is_none() {
    let desk = TempSite::ipc();
    let Some(mut host) = Host::start(&desk) else {
        return;
    };
    let Some(tmux) = Tmux::start(140, 20) else {
        return;
    };
    let site = TempSite::ipc();
    site.ini(WEB);
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    let name = host.name();
    tmux.line(&format!(
        "PATH={}:$PATH TMPDIR={} exec {} top --ssh {name} --endpoint {}",
        host.bin.display(),
        host.tmp.display(),
        env!("CARGO_BIN_EXE_circ"),
        site.endpoint
    ));
    tmux.sees(&[&pids[0].to_string(), &name]);
    let shell = tmux.process();
    // one log-in for all of it
    assert_eq!(host.cut(shell), 1);
    tmux.sees(&["away for"]);
    let back = |tmux: &Tmux| {
        tmux.wait("the daemon again", |screen| {
            screen.contains(&pids[0].to_string()) && !screen.contains("away for")
        });
    };
    back(&tmux);
    host.stop();
    wait_for("the line to be cut", || {
        (host.cut(shell) == 1).then_some(())
    });
    tmux.sees(&["away for", "Connection refused"]);
    host.listen();
    back(&tmux);
    daemon.ok("incr", json!({"name": "web", "waiting": true}));
    tmux.sees(&["3/3"]);
    tmux.text("q");
    host.assert_clean();
}
