//! Where circusd plays dice there is nothing to compare with: circ alone is held to what the command means.

mod support;

use serde_json::{Value, json};
use support::{Process, Program, TempSite, children, is_alive, wait_for};

/// `restart` without a name kills every third circusd. circ is there each time, with new workers.
#[test]
fn restart_without_a_name_always_comes_back() {
    let site = TempSite::new();
    site.ini("\n[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\n");
    let daemon = site.start(Program::Circ);
    let mut pids = daemon.wait_pids("web", 2);
    for round in 0..10 {
        daemon.ok("restart", json!({"waiting": true}));
        let new = daemon.wait_for("new workers", || {
            let now = daemon
                .driver()
                .call(daemon.endpoint(), "list", json!({"name": "web"}), 5.0)
                .ok()?;
            let now: Vec<i32> = now["pids"]
                .as_array()?
                .iter()
                .filter_map(Value::as_i64)
                .map(|p| p as i32)
                .collect();
            (now.len() == 2 && now.iter().all(|p| !pids.contains(p) && is_alive(*p))).then_some(now)
        });
        assert!(daemon.exited().is_none(), "round {round}: the daemon ended");
        assert!(
            pids.iter().all(|p| !is_alive(*p)),
            "round {round}: old workers still run"
        );
        pids = new;
    }
}

/// With `stop_children` the whole family ends, however deep and whoever dies first; without it only the worker does.
/// (circusd signals the worker first and misses the children of one that is dead by then.)
#[test]
fn stop_children_ends_the_whole_family() {
    let site = TempSite::new();
    // The grandchild is started by a child that stays; every one of them is a `sleep` in the end.
    let family = "-c 'sh -c \"sleep 1002 & exec sleep 1001\" & exec sleep 1000'";
    site.ini(&format!(
        "\n[watcher:all]\ncmd = sh\nargs = {family}\nstop_children = True\nnumprocesses = 2\n\n[watcher:one]\ncmd = sh\nargs = {family}\n"
    ));
    let daemon = site.start(Program::Circ);
    let members = |watcher: &str| -> Vec<Process> {
        let mut members = Vec::new();
        for pid in daemon.pids(watcher) {
            members.extend(Process::find(pid));
            members.extend(support::descendants(pid));
        }
        members
    };
    let whole = |watcher: &str, count: usize| {
        daemon.wait_for(&format!("{count} processes below {watcher}"), || {
            let all = members(watcher);
            (all.len() == count && all.iter().all(|p| p.comm == "sleep")).then_some(all)
        })
    };
    for command in ["restart", "reload", "stop"] {
        let before = whole("all", 6);
        daemon.ok(command, json!({"name": "all", "waiting": true}));
        wait_for("every member of the family to end", || {
            before.iter().all(|p| !p.is_running()).then_some(())
        });
    }
    let before = whole("one", 3);
    let child = children(before[0].pid)[0].pid;
    daemon.ok("stop", json!({"name": "one", "waiting": true}));
    assert!(!before[0].is_running(), "the worker itself has ended");
    assert!(
        is_alive(child),
        "without stop_children its children are not touched"
    );
}
