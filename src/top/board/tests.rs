use super::*;
use serde_json::json;

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn event(board: &mut Board, action: &str, payload: Value, now: f64) -> Option<String> {
    let told = board.take_event("my_app", action, &map(payload), now);
    told.map(|name| name.to_string())
}

/// A daemon that tells no details, as circusd.
fn plain() -> Board {
    let mut board = Board::default();
    let status = json!({"statuses": {"My App": "active", "b.c": "stopped"}});
    board.take_status(&map(status), 100.0);
    board
}

#[test]
fn a_status_with_details_says_all_of_a_watcher() {
    let mut board = Board::default();
    let exit =
        json!({"pid": 8, "time": 90.0, "code": null, "signal": 9, "lived": 1.0, "stderr": []});
    let details = json!({
        "My App": {
            "status": "active", "numprocesses": 3, "restarts": 7, "last_exit": exit,
            "workers": [{"pid": 10, "wid": 1, "started": 1.0, "leaving": false},
                        {"pid": 11, "wid": 2, "started": 1.0, "leaving": true}],
        },
        "bad": {"trouble": "worker 1 died", "last_exit": {"reason": "no such file", "time": 1.0}},
        "odd": [],
    });
    let status = json!({
        "statuses": {"My App": "active", "bad": "starting", "odd": "active", "idle": "stopped"},
        "waiting": ["idle"], "watchers": details,
    });
    board.take_status(&map(status), 100.0);
    let watcher = &board.watchers["my app"];
    assert_eq!(&*watcher.name, "My App");
    assert_eq!((watcher.wanted, watcher.restarts), (Some(3), 7));
    assert_eq!(watcher.last_exit.as_ref().unwrap().words, "by SIGKILL");
    let told: Vec<_> = watcher
        .processes
        .iter()
        .map(|(pid, process)| (*pid, process.wid, process.leaving))
        .collect();
    assert_eq!(told, [(10, Some(1), false), (11, Some(2), true)]);
    let bad = &board.watchers["bad"];
    assert_eq!(bad.trouble.as_deref(), Some("worker 1 died"));
    assert_eq!(
        bad.last_exit.as_ref().unwrap().words,
        "not started: no such file"
    );
    assert_eq!(board.watchers["idle"].state, "waiting");
    // the daemon counts: an event does not
    event(
        &mut board,
        "reap",
        json!({"process_pid": 10, "exit_code": 1}),
        101.0,
    );
    let watcher = &board.watchers["my app"];
    assert_eq!((watcher.restarts, watcher.processes.len()), (7, 1));
    // what is told of no more is gone
    board.take_status(&map(json!({"statuses": {"bad": "active"}})), 102.0);
    assert_eq!(board.watchers.keys().collect::<Vec<_>>(), ["bad"]);
    // no status at all changes nothing
    board.take_status(&map(json!({"statuses": 7})), 102.0);
    assert_eq!(board.watchers.len(), 1);
}

#[test]
fn events_are_believed_at_once() {
    let mut board = plain();
    let spawn = json!({"process_pid": 7, "time": 1.0});
    assert_eq!(
        event(&mut board, "spawn", spawn, 100.0).as_deref(),
        Some("My App")
    );
    assert_eq!(board.count(), 1);
    assert_eq!(board.watchers["my app"].born(), Some(100.0));
    event(&mut board, "kill", json!({"process_pid": 7}), 101.0);
    assert!(board.watchers["my app"].processes[&7].leaving);
    event(
        &mut board,
        "reap",
        json!({"process_pid": 7, "exit_code": -15}),
        102.0,
    );
    let watcher = &board.watchers["my app"];
    assert_eq!((watcher.processes.len(), watcher.restarts), (0, 1));
    assert_eq!(watcher.last_exit.as_ref().unwrap().words, "by SIGTERM");
    let other = board.take_event("nobody", "spawn", &Map::new(), 1.0);
    assert_eq!(other, None);
    event(&mut board, "spawn", json!({"process_pid": 1e30}), 102.0);
    assert_eq!(board.count(), 0);
}

#[test]
fn statistics_that_were_asked_for_are_the_whole_truth() {
    let mut board = plain();
    let info = |cpu: f64, age: f64| {
        json!({"cpu": cpu, "mem": 1.5, "mem_info1": "20.00M", "age": age, "wid": 3,
               "username": "www", "cmdline": "python3"})
    };
    let gone = "No such process (stopped?)";
    let stats =
        json!({"My App": {"7": info(10.0, 5.0), "8": info(20.0, 50.0), "9": gone}, "new": {}});
    board.take_stats(&map(stats), 100.0);
    let watcher = &board.watchers["my app"];
    let usage = Usage {
        cpu: Some(30.0),
        mem: Some(3.0),
        rss: Some(40 << 20),
    };
    assert_eq!((watcher.usage(), watcher.born()), (usage, Some(50.0)));
    assert_eq!(board.usage(), usage);
    let process = &watcher.processes[&7];
    assert_eq!((process.wid, process.user.as_str()), (Some(3), "www"));
    board.take_stats(&map(json!({"My App": {"8": info(1.0, 51.0)}})), 101.0);
    assert_eq!(board.count(), 1);
    // a stopped watcher uses nothing; of an active one nothing may be known
    assert_eq!(board.watchers["b.c"].usage().cpu, Some(0.0));
    board.take_stats(&map(json!({"My App": {}})), 102.0);
    assert_eq!(board.watchers["my app"].usage().cpu, None);
}

#[test]
fn published_statistics_are_taken_from_both_daemons() {
    let mut board = plain();
    let sockets = [json!({"fd": 6, "name": "web", "backlog": 128, "host": "::1", "port": 80})];
    board.take_sockets(&sockets, 100.0);
    let status =
        json!({"statuses": {"My App": "active", "b.c": "active", "circusd-stats": "active"}});
    board.take_status(&map(status), 100.0);
    let mut take = |topic: &str, payload: Value, now: f64| {
        board.take_published(topic.as_bytes(), payload.to_string().as_bytes(), now)
    };
    let process = |pid: i32, name: Value| {
        json!({"pid": pid, "cpu": 2.0, "mem": "N/A", "mem_info1": "1M", "age": 9.0, "subtopic": pid,
               "name": name})
    };
    assert!(take("stat.my app.7", process(7, Value::Null), 100.0));
    assert!(take("stat.b.c.8", process(8, Value::Null), 100.0));
    assert!(take("stat.my app", json!({"pid": [7], "cpu": 2.0}), 100.0));
    assert!(take("stat.circus.1", process(1, "circusd".into()), 100.0));
    assert!(take(
        "stat.circus.2",
        process(2, "circusd-stats".into()),
        100.0
    ));
    assert!(take("stat.sockets.6", json!({"fd": 6, "reads": 44}), 100.0));
    assert!(take(
        "stat.sockets",
        json!({"addresses": [], "reads": 44}),
        100.0
    ));
    assert!(!take("watcher.web.spawn", json!({}), 100.0));
    assert!(!take("stat.web", json!([]), 100.0));
    assert!(take("stat.unknown.5", process(5, Value::Null), 100.0));
    let count = |name: &str| board.watchers[name].processes.len();
    assert_eq!(
        [count("my app"), count("b.c"), count("circusd-stats")],
        [1; 3]
    );
    assert_eq!(board.daemon.pid, Some(1));
    assert_eq!(board.sockets[0].reads, Some(44));
    assert_eq!(board.sockets[0].address, "[::1]:80");
    // the list of sockets comes again, and what was known of them stays
    board.take_waiting(6, Some(3));
    board.take_sockets(&sockets, 100.0);
    assert_eq!(
        (board.sockets[0].reads, board.sockets[0].waiting),
        (Some(44), Some(3))
    );
}

#[test]
fn what_waits_at_sockets_is_told_by_circ() {
    let mut board = plain();
    let socket = |reads: u64| {
        json!({"fd": 6, "name": "web", "backlog": 9000, "limit": 4096, "waiting": 5, "full": false, "reads": reads,
               "path": "/run/s"})
    };
    board.take_sockets(&[socket(1000)], 100.0);
    let seen = |board: &Board| {
        let socket = &board.sockets[0];
        (socket.reads, socket.waiting, socket.backlog)
    };
    // the first look only begins to count
    assert_eq!(seen(&board), (None, Some(5), Some(4096)));
    board.take_sockets(&[socket(1060)], 102.0);
    assert_eq!(seen(&board), (Some(30), Some(5), Some(4096)));
    // the daemon was started anew
    board.take_sockets(&[socket(3)], 103.0);
    assert_eq!(seen(&board).0, Some(0));
    // what is published says it better
    let payload = json!({"fd": 6, "reads": 44}).to_string();
    board.take_published(b"stat.sockets.6", payload.as_bytes(), 103.5);
    board.take_sockets(&[socket(10)], 104.0);
    assert_eq!(seen(&board).0, Some(44));
    board.take_sockets(&[socket(20)], 109.0);
    assert_eq!(seen(&board).0, Some(2));
}

#[test]
fn who_is_told_of_no_more_goes_only_while_others_are() {
    let mut board = plain();
    let told = |board: &mut Board, pid: i32, now: f64| {
        let payload = json!({"pid": pid, "cpu": 1.0, "age": 1.0});
        let topic = format!("stat.my app.{pid}");
        board.take_published(topic.as_bytes(), payload.to_string().as_bytes(), now);
    };
    told(&mut board, 7, 100.0);
    told(&mut board, 8, 100.0);
    board.tick(104.0);
    // nothing has come for anybody: they may all be there
    assert_eq!(board.count(), 2);
    told(&mut board, 8, 104.5);
    board.tick(105.0);
    assert_eq!(
        board.watchers["my app"]
            .processes
            .keys()
            .collect::<Vec<_>>(),
        [&8]
    );
    assert_eq!(board.cpu.peak(), 2.0);
}
