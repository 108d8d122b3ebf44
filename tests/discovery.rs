//! Finding daemons by multicast, without a packet on any network: on loopback, or in a network namespace that has nothing
//! else.

mod support;

use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Output};
use support::{Program, TempSite, need, skip, wait_for, wait_for_within};

/// A group with a port of this site's own, on loopback alone.
fn group(site: &TempSite) -> String {
    format!("udp://127.0.0.1;239.255.77.1:{}", site.port())
}

/// Writes circus.ini with this group and more keys and sections.
fn ini(site: &TempSite, group: &str, body: &str) {
    let text = site.circus_section();
    let text = text.replace(
        "multicast_endpoint =",
        &format!("multicast_endpoint = {group}"),
    );
    site.write("circus.ini", format!("{text}{body}"));
}

fn circ(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_circ"))
        .args(args)
        .output()
        .expect("circ runs")
}

/// The daemons that are found; at once, if there are some.
fn found(group: &str) -> Vec<Value> {
    let told = circ(&[
        "discover",
        "--multicast-endpoint",
        group,
        "--timeout",
        "0.3",
        "--json",
    ]);
    let found: Vec<Value> = serde_json::from_slice(&told.stdout).expect("JSON");
    assert_eq!(told.status.code(), Some(i32::from(found.is_empty())));
    found
}

#[test]
fn daemons_are_found_and_what_they_tell_follows_the_file() {
    let (one, two) = (TempSite::new(), TempSite::ipc());
    let (first, second) = (group(&one), group(&one));
    ini(
        &one,
        &first,
        "fqdn_prefix = blue\n[watcher:w]\ncmd = sleep 1000\n",
    );
    ini(&two, &first, "");
    let a = one.start(Program::Circ);
    let b = two.start(Program::Circ);
    let seen = wait_for("both", || {
        Some(found(&first)).filter(|found| found.len() == 2)
    });
    let of = |pid: i32, seen: &[Value]| seen.iter().find(|one| one["pid"] == pid).cloned();
    let name = a.ok("identity", json!({}))["fqdn"].clone();
    let host = name
        .as_str()
        .and_then(|name| name.strip_prefix("blue@"))
        .expect("the prefix");
    assert_eq!(
        of(a.pid(), &seen),
        Some(
            json!({"endpoint": one.endpoint, "connect": one.endpoint, "from": "127.0.0.1", "fqdn": name, "pid": a.pid()})
        )
    );
    let other = of(b.pid(), &seen).expect("the other");
    assert_eq!(
        (&other["fqdn"], &other["connect"]),
        (&json!(host), &json!(two.endpoint))
    );
    // For a person; the file names the group.
    let told = circ(&[
        "discover",
        "--config",
        &one.path("circus.ini").to_string_lossy(),
    ]);
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(
        text.starts_with("NAME") && text.contains(&format!("blue@{host}")),
        "{text}"
    );
    assert!(
        text.contains(&a.pid().to_string()) && text.contains(&two.endpoint),
        "{text}"
    );
    // Another group, another name, another endpoint; then none.
    let web = a.wait_pids("w", 1);
    ini(
        &one,
        &second,
        "fqdn_prefix = green\n[watcher:w]\ncmd = sleep 1000\n",
    );
    let told = a.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(
        (&told["changed"], &told["restart_needed"]),
        (&json!(["circus"]), &json!([]))
    );
    assert_eq!(
        a.ok("identity", json!({}))["fqdn"],
        json!(format!("green@{host}"))
    );
    let seen = wait_for("the one that moved", || {
        Some(found(&second)).filter(|found| !found.is_empty())
    });
    assert_eq!(
        (seen.len(), &seen[0]["fqdn"]),
        (1, &json!(format!("green@{host}")))
    );
    assert_eq!(found(&first).len(), 1);
    ini(&one, "", "[watcher:w]\ncmd = sleep 1000\n");
    a.ok("reloadconfig", json!({"waiting": true}));
    wait_for("it to be silent", || {
        found(&second).is_empty().then_some(())
    });
    assert_eq!(a.pids("w"), web);
    let told = circ(&[
        "discover",
        "--multicast-endpoint",
        &second,
        "--timeout",
        "0.2",
    ]);
    assert_eq!(told.status.code(), Some(1));
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(text.contains("no daemon has answered"), "{text}");
}

/// A group that cannot be joined is a warning; the daemon does its work.
#[test]
fn a_group_that_cannot_be_joined_stops_nobody() {
    let site = TempSite::new();
    for (group, what) in [
        ("udp://10.0.0.1:5", "outside 224.0.0.0"),
        ("tcp://239.0.0.1:5", "udp://"),
        ("udp://203.0.113.9;239.255.77.1:5", "cannot join"),
    ] {
        ini(&site, group, "[watcher:w]\ncmd = sleep 1000\n");
        let daemon = site.start(Program::Circ);
        daemon.wait_pids("w", 1);
        let log = daemon.log();
        assert!(
            log.contains("[WARNING] this daemon will not be found") && log.contains(what),
            "{log}"
        );
        assert!(daemon.stop().success());
    }
    let told = circ(&["discover", "--multicast-endpoint", "udp://10.0.0.1:5"]);
    assert_eq!(told.status.code(), Some(64));
}

/// A network namespace with nothing but loopback, over which multicast is routed if `routed`; the rest of the command line
/// runs in it.
const ALONE: &str =
    "ip link set lo up && { [ \"$0\" = none ] || ip route add 224.0.0.0/4 dev lo; } && exec \"$@\"";

/// The default group, with both daemons in it: each of them answers whoever asks, and circ finds both.
#[test]
fn circ_and_circusd_answer_alike() {
    if !nix::unistd::Uid::effective().is_root() {
        skip("a network namespace needs root");
        return;
    }
    if [
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("ip", "iproute2"),
    ]
    .iter()
    .any(|(program, package)| need(program, package).is_none())
    {
        return;
    }
    let (one, two) = (TempSite::ipc(), TempSite::ipc());
    for site in [&one, &two] {
        let text = site.circus_section().replace("multicast_endpoint =\n", "");
        site.write(
            "circus.ini",
            format!("{text}[watcher:w]\ncmd = sleep 1000\n"),
        );
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", ALONE, "routed"]);
    command.args([env!("CARGO_BIN_EXE_circ"), "daemon"]);
    command.arg(one.path("circus.ini")).current_dir(one.dir());
    let circ = one.spawn_command(Program::Circ, command);
    circ.wait_ready();
    let inside = |program: &str| {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &circ.pid().to_string(), program]);
        command
    };
    let mut command = inside(&support::venv().circusd().to_string_lossy());
    command.arg(two.path("circus.ini")).current_dir(two.dir());
    let circusd = two.spawn_command(Program::Circusd, command);
    circusd.wait_ready();
    let answers = || {
        let told = inside(env!("CARGO_BIN_EXE_circ"))
            .args(["discover", "--timeout", "0.5", "--json"])
            .output()
            .expect("nsenter runs");
        serde_json::from_slice::<Vec<Value>>(&told.stdout).unwrap_or_default()
    };
    let seen = wait_for_within(support::deadline(), || {
        Some(answers()).filter(|seen| seen.len() == 2)
    });
    let seen =
        seen.unwrap_or_else(|| panic!("{}\n{}\n{:?}", circ.tail(), circusd.tail(), answers()));
    let endpoints: Vec<&Value> = seen.iter().map(|one| &one["endpoint"]).collect();
    for site in [&one, &two] {
        assert!(endpoints.contains(&&json!(site.endpoint)), "{seen:?}");
    }
    // What the two send, byte for byte JSON: circ adds its name and pid.
    let script = one.write(
        "ask.py",
        "import socket, sys, json\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.settimeout(30)\n\
         s.sendto(b'anything', ('237.219.251.97', 12027))\n\
         print(json.dumps([json.loads(s.recvfrom(1024)[0]) for _ in range(2)]))\n",
    );
    let told = inside(&support::venv().python().to_string_lossy())
        .arg(script)
        .output();
    let told = told.expect("nsenter runs");
    let told: Vec<Value> = serde_json::from_slice(&told.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&told.stderr)));
    assert!(
        told.contains(&json!({"endpoint": two.endpoint})),
        "{told:?}"
    );
    let ours = told
        .iter()
        .find(|told| told["endpoint"] == json!(one.endpoint));
    let ours = ours.expect("an answer of circ's");
    assert_eq!(ours["pid"], circ.pid());
    assert!(ours["fqdn"].is_string());
}

/// Without any route for multicast a daemon starts without a complaint, and is found on its own machine.
#[test]
fn without_a_network_the_machine_itself_finds_its_daemons() {
    if !nix::unistd::Uid::effective().is_root() {
        skip("a network namespace needs root");
        return;
    }
    if need("unshare", "util-linux").is_none() || need("ip", "iproute2").is_none() {
        return;
    }
    let site = TempSite::ipc();
    let text = site.circus_section().replace("multicast_endpoint =\n", "");
    site.write(
        "circus.ini",
        format!("{text}[watcher:w]\ncmd = sleep 1000\n"),
    );
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", ALONE, "none"]);
    command.args([env!("CARGO_BIN_EXE_circ"), "daemon"]);
    command.arg(site.path("circus.ini")).current_dir(site.dir());
    let daemon = site.spawn_command(Program::Circ, command);
    daemon.wait_ready();
    let told = Command::new("nsenter")
        .args(["--net", "--target", &daemon.pid().to_string()])
        .args([
            env!("CARGO_BIN_EXE_circ"),
            "discover",
            "--json",
            "--timeout",
            "2",
        ])
        .output()
        .expect("nsenter runs");
    let seen: Vec<Value> = serde_json::from_slice(&told.stdout).unwrap_or_default();
    assert_eq!(
        seen.len(),
        1,
        "{}{}",
        String::from_utf8_lossy(&told.stderr),
        daemon.tail()
    );
    assert_eq!(seen[0]["pid"], daemon.pid());
    let log = daemon.log();
    assert!(
        !log.contains("WARNING") && log.contains("only this machine can find"),
        "{log}"
    );
    drop(daemon);
    assert!(fs::metadata(site.path("control")).is_err());
}
