//! What the daemon counts and tells by `metrics`.

mod support;

use serde_json::{Value, json};
use support::{Program, TempSite};

/// Starts, ends by reason, losses, reloads, signals and requests are counted from the start of the daemon on, and told
/// together with the state of every watcher.
#[test]
fn what_was_counted_is_told() {
    let site = TempSite::new();
    site.ini(
        "[watcher:Web]\ncmd = sleep 1000\nnumprocesses = 2\n[watcher:once]\ncmd = sh -c 'exit 7'\nrespawn = False\n\
         [watcher:never]\ncmd = /no/such/program\nmax_retry = 1\n",
    );
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    let metrics = |properties: Value| daemon.ok("metrics", properties);
    let told = daemon.wait_for("all ends to be counted", || {
        let told = metrics(json!({}));
        let watchers = &told["watchers"];
        let ended = watchers["once"]["exits"]["7"] == 1;
        (ended && watchers["never"]["not_started"].as_u64() >= Some(1)).then_some(told)
    });
    let web = &told["watchers"]["Web"];
    assert_eq!(web["status"], "active");
    assert_eq!(
        (&web["wanted"], &web["started"], &web["lost"]),
        (&json!(2), &json!(2), &json!(0))
    );
    let workers: Vec<i64> = web["workers"]
        .as_array()
        .map(|all| all.iter().filter_map(|one| one["pid"].as_i64()).collect())
        .unwrap_or_default();
    assert_eq!(
        workers,
        pids.iter().map(|pid| i64::from(*pid)).collect::<Vec<_>>()
    );
    assert_eq!(web["workers"][0].get("rss"), None);
    assert_eq!(told["watchers"]["once"]["lost"], 1);
    assert_eq!(told["watchers"]["once"]["last_exit"]["code"], 7);
    assert_eq!(told["watchers"]["never"]["started"], 0);

    daemon.ok(
        "signal",
        json!({"name": "web", "pid": pids[0], "signum": "KILL"}),
    );
    let told = daemon.wait_for("the lost worker to be replaced", || {
        let told = metrics(json!({"name": "web"}));
        (told["watchers"]["Web"]["started"] == 3).then_some(told)
    });
    let web = &told["watchers"]["Web"];
    assert_eq!((&web["exits"]["-9"], &web["lost"]), (&json!(1), &json!(1)));
    assert_eq!(told["watchers"].as_object().map(|all| all.len()), Some(1));

    // asked for: no loss
    daemon.ok("decr", json!({"name": "web", "waiting": true}));
    daemon.ok("reload", json!({"name": "web", "waiting": true}));
    daemon.call("nonsense", json!({}));
    let told = daemon.wait_for("the asked ends", || {
        let told = metrics(json!({"processes": true}));
        (told["watchers"]["Web"]["exits"]["-15"] == 2).then_some(told)
    });
    let web = &told["watchers"]["Web"];
    assert_eq!((&web["lost"], &web["reloads"]), (&json!(1), &json!(1)));
    assert!(web["kills"].as_u64() >= Some(2), "{web}");
    let worker = &web["workers"][0];
    for key in ["rss", "vms", "threads", "fds"] {
        assert!(worker[key].as_u64() >= Some(1), "{key}: {worker}");
        assert!(told["daemon"][key].as_u64() >= Some(1), "{key}: {told}");
    }
    assert!(worker["cpu_seconds"].is_f64(), "{worker}");
    let asked = &told["daemon"]["commands"];
    assert_eq!((&asked["decr"], &asked["reload"]), (&json!(1), &json!(1)));
    assert_eq!(told["daemon"]["rejected"], 1);
    assert_eq!(told["daemon"]["program"], "circ");

    let unknown = daemon.call("metrics", json!({"name": "other"}));
    assert_eq!(unknown["errno"], 3);
}
