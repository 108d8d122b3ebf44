//! Several hosts: one updated after the other while a client asks and asks, and one whose daemon is down.

use crate::room::{self, Form, Played};
use crate::support::{self, Program, TempSite};
use crate::{hammer, hosts};

/// A fleet of three hosts, each with its sshd and its daemon, whose workers share a socket that is never closed.
fn with_three_hosts(test: impl FnOnce(&Fleet)) {
    let Some(program) = hosts::sshd_program() else {
        return;
    };
    let (desk, sites) = (TempSite::ipc(), [(); 3].map(|()| TempSite::ipc()));
    let keys = hosts::Keys::make(&desk);
    let names = ["a", "b", "c"];
    let mut inventory = String::new();
    let mut sshds = Vec::new();
    let mut ports = Vec::new();
    let mut daemons = Vec::new();
    for (name, site) in names.into_iter().zip(&sites) {
        let port = site.port();
        site.ini(&format!(
            "[watcher:web]\ncmd = {} -B {} $(circus.sockets.web)\nuse_sockets = True\nnumprocesses = 2\n\n\
             [socket:web]\nhost = 127.0.0.1\nport = {port}\n",
            support::venv().python().display(),
            room::source("tests/ansible/worker.py").display(),
        ));
        let (sshd, line) = hosts::start(&program, &keys, name, site);
        inventory.push_str(&line);
        sshds.push(sshd);
        ports.push(port);
        daemons.push(site.start(Program::Circ));
    }
    let fleet = Fleet {
        inventory: desk.write("hosts", inventory),
        keys,
        desk: &desk,
        daemons: std::cell::RefCell::new(daemons),
        ports,
    };
    for port in &fleet.ports {
        assert!(answer(*port).starts_with("version 1"));
    }
    test(&fleet);
}

struct Fleet<'a> {
    inventory: std::path::PathBuf,
    keys: hosts::Keys,
    desk: &'a TempSite,
    daemons: std::cell::RefCell<Vec<support::Daemon<'a>>>,
    ports: Vec<u16>,
}

impl Fleet<'_> {
    fn play(&self, form: Form, text: &str) -> Played {
        room::play_on(
            self.desk,
            form,
            &self.inventory,
            text,
            &[("ANSIBLE_SSH_ARGS", self.keys.ssh_args())],
        )
    }
}

/// What a host's workers say; they may still be starting.
fn answer(port: u16) -> String {
    support::wait_for("an answer of the workers", || hammer::ask(port).ok())
}

const ROLLING: &str = r#"
- hosts: all
  gather_facts: false
  serial: 1
  tasks:
  - name: new version
    MODULE(watcher):
      name: web
      env: {VERSION: NEXT}
      config: "{{ config }}"
      settle: 0.1
"#;

#[test]
fn a_rolling_update_of_three_hosts_fails_no_request() {
    with_three_hosts(|fleet| {
        for (form, version) in [(Form::Python, "2"), (Form::Binary, "3")] {
            let text = ROLLING.replace("NEXT", &format!("\"{version}\""));
            let hammer = hammer::Hammer::start(fleet.ports.clone());
            let played = fleet.play(form, &text);
            let seen = hammer.stop();
            println!("{form:?}: {} requests answered", seen.answered);
            let played = played.fine();
            assert_eq!(played.changed(), 3, "{}", played.output);
            let order: Vec<&str> = played.lines.iter().map(|line| line.host.as_str()).collect();
            assert_eq!(order, ["a", "b", "c"], "one after the other");
            assert!(
                played
                    .lines
                    .iter()
                    .all(|line| line.result["restarted"] == true)
            );
            assert!(seen.answered > 100, "{seen:?}");
            assert_eq!(
                seen.failed,
                Vec::<String>::new(),
                "of {} requests",
                seen.answered
            );
            for port in &fleet.ports {
                let told = answer(*port);
                assert!(told.starts_with(&format!("version {version} ")), "{told}");
            }
            let again = fleet.play(form, &text.replace("  serial: 1\n", "")).fine();
            assert_eq!(again.changed(), 0, "{}", again.output);
        }
        // One daemon is down: its host fails with the reason, the others do not.
        let down = fleet.daemons.borrow_mut().remove(1);
        assert!(down.stop().success());
        let text = ROLLING
            .replace("NEXT", "\"4\"")
            .replace("  serial: 1\n", "");
        let played = fleet.play(Form::Python, &text);
        assert!(!played.success);
        for line in &played.lines {
            let failed = line.host == "b";
            assert_eq!(
                line.kind,
                if failed { "failed" } else { "ok" },
                "{}",
                played.output
            );
            if failed {
                let msg = line.result["msg"].as_str().unwrap_or_default();
                assert!(msg.contains("nobody listens on"), "{msg}");
            }
        }
        assert_eq!(played.lines.len(), 3, "{}", played.output);
    });
}
