//! The agent inside the daemon.

use std::fs;

use serde_json::{Value, json};

use crate::agent::{direct, run};
use crate::support::Program;
use crate::{BODY, decr, site};

#[test]
fn it_lives_inside_the_daemon() {
    let site = site();
    let body = format!("agent_desired = state.toml\nagent_report_dir = reports\n{BODY}");
    site.ini(&body.replace("= 2\n", "= 1\n"));
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    let status = || direct(&site, &["status"]);
    let state = daemon.wait_for("the first run's end", || {
        let status = status();
        (status["last"]["failed"] == false && status["running"] == false).then_some(status)
    });
    assert_eq!(state["home"], "inside the daemon");
    assert_eq!(state["pid"], daemon.pid());
    decr(&daemon, "web");
    daemon.wait_pids("web", 2);
    let (code, _, told) = run(
        &site,
        &["agent", "--desired", "state.toml", "--config", "circus.ini"],
    );
    assert_eq!(code, 1);
    assert!(told.contains("inside the daemon"), "{told}");
    // Its options change with the configuration, and with it alone.
    daemon.wait_for("rest", || (status()["running"] == false).then_some(()));
    let ini = fs::read_to_string(site.path("circus.ini")).unwrap();
    site.write(
        "circus.ini",
        ini.replace("agent_desired", "agent_mode = audit\nagent_desired"),
    );
    daemon.ok("reloadconfig", json!({"waiting": true}));
    daemon.wait_for("an agent that only looks", || {
        let answer = run(
            &site,
            &["agent", "status", "--config", "circus.ini", "--json"],
        );
        let status: Value = serde_json::from_str(&answer.1).ok()?;
        (status["mode"] == "audit" && status["running"] == false && !status["last"].is_null())
            .then_some(())
    });
    decr(&daemon, "web");
    daemon.wait_for("the drift in a report", || {
        let last = fs::read_to_string(site.path("reports/last.json")).ok()?;
        let last: Value = serde_json::from_str(&last).ok()?;
        (last["changed"] == true && last["mode"] == "audit").then_some(())
    });
    assert_eq!(daemon.pids("web").len(), 1);
    site.write(
        "circus.ini",
        ini.replace("agent_desired", "; agent_desired"),
    );
    daemon.ok("reloadconfig", json!({"waiting": true}));
    daemon.wait_for("no agent", || {
        let (code, ..) = run(&site, &["agent", "status", "--config", "circus.ini"]);
        (code == 1).then_some(())
    });
    site.write("circus.ini", ini);
    daemon.ok("reloadconfig", json!({"waiting": true}));
    daemon.wait_pids("web", 2);
    // It does not start again what the daemon stops at its end.
    assert!(daemon.stop().success());
}

#[test]
fn an_agent_inside_that_cannot_work_is_no_harm_to_the_daemon() {
    let site = site();
    site.ini(&format!(
        "agent_desired = /no/such/state.toml\nagent_report_dir = /proc/no/reports\n{BODY}"
    ));
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    daemon.wait_for("the complaint", || {
        daemon
            .log()
            .contains("cannot keep reports in /proc/no/reports")
            .then_some(())
    });
    assert!(daemon.stop().success());
}
