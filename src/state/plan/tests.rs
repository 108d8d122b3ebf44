//! The plan: chosen cases, and the property that a carried-out plan leaves nothing to plan.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::state::desired::{OnChange, Request};
use crate::state::observed::{DaemonSide, FileSide};

fn desired(procs: Option<&str>, cmd: Option<&str>, set: &[&str]) -> Desired {
    Desired::new(&Request {
        name: "web".into(),
        procs: procs.map(str::to_string),
        cmd: cmd.map(str::to_string),
        set: set.iter().map(|pair| pair.to_string()).collect(),
        ..Request::default()
    })
    .unwrap()
    .0
}

fn options(pairs: &[(&str, &str)]) -> WatcherOptions {
    let mut options = WatcherOptions::ini_defaults("web");
    for (key, text) in pairs {
        options.set_ini(key, text).unwrap();
    }
    options
}

fn file(pairs: &[(&str, &str)]) -> FileSide {
    FileSide {
        path: "circus.ini".into(),
        section: "watcher:web".into(),
        watcher: Some(options(pairs)),
        stated: pairs.iter().map(|(key, _)| key.to_string()).collect(),
        environment: Map::new(),
        own_env: None,
    }
}

fn no_section() -> FileSide {
    FileSide {
        watcher: None,
        stated: Vec::new(),
        ..file(&[])
    }
}

fn live(pairs: &[(&str, &str)]) -> LiveWatcher {
    let options = options(pairs);
    LiveWatcher {
        pids: (1..=i64::from(options.numprocesses())).collect(),
        options: options.listed(),
        status: "active".into(),
        ..LiveWatcher::default()
    }
}

/// What a daemon tells of a watcher: what `options` lists, or also what it does not list.
fn told(options: &WatcherOptions, all: bool) -> Map<String, Value> {
    let mut told = options.listed();
    if all {
        for (key, value) in options.values() {
            if crate::options::spec(key).is_some_and(|spec| !spec.listed) {
                told.insert(key.clone(), value.clone());
            }
        }
    }
    told
}

fn daemon(watcher: Option<LiveWatcher>) -> Option<DaemonSide> {
    Some(DaemonSide {
        endpoint: "tcp://127.0.0.1:1".into(),
        watcher,
        rereads: false,
    })
}

fn target(desired: &Desired, seen: &Observed) -> WatcherOptions {
    let defaults = WatcherOptions::ini_defaults("web");
    let base = match (&seen.file, &seen.daemon) {
        (Some(file), _) => file.watcher.clone().unwrap_or(defaults),
        (
            None,
            Some(DaemonSide {
                watcher: Some(live),
                ..
            }),
        ) => live.as_options(&defaults),
        _ => defaults,
    };
    let mut target = desired.applied_to(&base, str::to_string).unwrap();
    for key in &desired.unset {
        take_away(&mut target, key);
    }
    for (name, text) in &desired.env {
        set_variable(&mut target, name, text.as_deref());
    }
    target
}

/// The option is at its default again.
fn take_away(options: &mut WatcherOptions, key: &str) {
    match options::find(key) {
        Some((spec, Key::Entry(entry))) => {
            let whole = options.get(spec.name).and_then(Value::as_object).cloned();
            let mut whole = whole.unwrap_or_default();
            whole.remove(entry);
            options.put(spec.name, Value::Object(whole)).unwrap();
        }
        _ => {
            let defaults = WatcherOptions::ini_defaults("web");
            let default = defaults.get(key).cloned().unwrap_or_default();
            options.put(key, default).unwrap();
        }
    }
}

fn set_variable(options: &mut WatcherOptions, name: &str, text: Option<&str>) {
    let mut env = options.env().cloned().unwrap_or_default();
    match text {
        Some(text) => env.insert(name.to_string(), Value::from(text)),
        None => env.remove(name),
    };
    options.put("env", Value::Object(env)).unwrap();
}

fn planned(desired: &Desired, seen: &Observed) -> Plan {
    plan(desired, &target(desired, seen), seen).unwrap()
}

const SLEEP: (&str, &str) = ("cmd", "sleep 1");

#[test]
fn a_count_changes_by_its_difference_and_nothing_else() {
    let seen = Observed {
        file: Some(file(&[SLEEP, ("numprocesses", "2")])),
        daemon: daemon(Some(live(&[SLEEP, ("numprocesses", "2")]))),
    };
    let plan = planned(&desired(Some("4"), None, &[]), &seen);
    assert_eq!(
        plan.edits,
        [FileEdit::Set {
            key: "numprocesses".into(),
            text: "4".into()
        }]
    );
    assert_eq!(plan.commands, [DaemonAction::Incr(2)]);
    assert_eq!(
        Value::Object(plan.changes),
        json!({"numprocesses": {"old": 2, "new": 4}})
    );
    assert_eq!(plan.lines, ["numprocesses 2 -> 4"]);
    assert!(!plan.restarts);
    let down = planned(&desired(Some("1"), None, &[]), &seen);
    assert_eq!(down.commands, [DaemonAction::Decr(1)]);
    assert!(planned(&desired(Some("2"), None, &[]), &seen).is_empty());
}

#[test]
fn drift_of_one_side_is_repaired_there_and_named() {
    let request = desired(Some("4"), None, &[]);
    let right = [SLEEP, ("numprocesses", "4")];
    let wrong = [SLEEP, ("numprocesses", "3")];
    let daemon_wrong = planned(
        &request,
        &Observed {
            file: Some(file(&right)),
            daemon: daemon(Some(live(&wrong))),
        },
    );
    assert!(daemon_wrong.edits.is_empty());
    assert_eq!(
        daemon_wrong.lines,
        ["numprocesses 3 -> 4 (in the daemon; the file was right)"]
    );
    let file_wrong = planned(
        &request,
        &Observed {
            file: Some(file(&wrong)),
            daemon: daemon(Some(live(&right))),
        },
    );
    assert!(file_wrong.commands.is_empty());
    assert_eq!(
        file_wrong.lines,
        ["numprocesses 3 -> 4 (in the file; the daemon was right)"]
    );
    let both = planned(
        &request,
        &Observed {
            file: Some(file(&[SLEEP, ("numprocesses", "2")])),
            daemon: daemon(Some(live(&wrong))),
        },
    );
    assert_eq!(both.lines, ["numprocesses 3 -> 4 (it was 2 in the file)"]);
}

#[test]
fn only_options_that_need_new_workers_restart() {
    let seen = Observed {
        file: Some(file(&[SLEEP])),
        daemon: daemon(Some(live(&[SLEEP]))),
    };
    assert!(!planned(&desired(None, None, &["graceful_timeout=5"]), &seen).restarts);
    assert!(planned(&desired(None, None, &["working_dir=/srv"]), &seen).restarts);
    let hup = Observed {
        file: Some(file(&[SLEEP, ("send_hup", "1")])),
        daemon: daemon(Some(live(&[SLEEP, ("send_hup", "1")]))),
    };
    assert!(!planned(&desired(None, None, &["working_dir=/srv"]), &hup).restarts);
}

#[test]
fn what_the_daemon_does_not_tell_follows_the_file() {
    let mut seen = Observed {
        file: Some(file(&[SLEEP])),
        daemon: daemon(Some(live(&[SLEEP]))),
    };
    let request = desired(None, None, &["rlimit_nofile=100"]);
    let changed = planned(&request, &seen);
    assert!(matches!(
        changed.commands.as_slice(),
        [DaemonAction::Replace { new, .. }] if new.options.get("rlimit_nofile") == Some(&json!(100))
    ));
    assert!(changed.restarts);
    seen.file = Some(file(&[SLEEP, ("rlimit_nofile", "100")]));
    assert!(planned(&request, &seen).is_empty());
    seen.file = None;
    let error = plan(&request, &target(&request, &seen), &seen).unwrap_err();
    assert!(error.contains("give --config"), "{error}");
}

#[test]
fn an_option_that_set_does_not_change_replaces_the_watcher_as_the_file_has_it() {
    let mut watcher = live(&[SLEEP, ("numprocesses", "3")]);
    watcher.ignores_set.insert("max_retry".into());
    let mut seen = Observed {
        file: Some(file(&[SLEEP, ("hooks.before_start", "m.f")])),
        daemon: daemon(Some(watcher)),
    };
    let request = desired(None, None, &["max_retry=9"]);
    match planned(&request, &seen).commands.as_slice() {
        [DaemonAction::Replace { new, old, keys }] => {
            assert_eq!(keys, &["max_retry"]);
            assert_eq!(new.options.get("max_retry"), Some(&json!(9)));
            assert_eq!(
                new.options.get("hooks"),
                Some(&json!({"before_start": ["m.f", false]}))
            );
            // The count was not asked for: the daemon's own stands.
            assert_eq!(new.options.get("numprocesses"), Some(&json!(3)));
            assert_eq!(old.options.get("max_retry"), None);
        }
        other => panic!("{other:?}"),
    }
    seen.file = None;
    assert!(plan(&request, &target(&request, &seen), &seen).is_err());
}

#[test]
fn the_environment_is_put_together_when_a_watcher_is_made() {
    let seen = Observed {
        file: Some(file(&[SLEEP])),
        daemon: daemon(Some(live(&[SLEEP]))),
    };
    let request = desired(None, None, &["copy_env=1"]);
    assert!(matches!(
        planned(&request, &seen).commands.as_slice(),
        [DaemonAction::Replace { new, .. }] if new.options.get("copy_env") == Some(&json!(true))
    ));
}

#[test]
fn a_missing_watcher_is_added_where_it_is_missing() {
    let request = desired(Some("2"), Some("sleep 1"), &[]);
    let nowhere = Observed {
        file: Some(no_section()),
        daemon: daemon(None),
    };
    let plan_all = planned(&request, &nowhere);
    assert!(
        matches!(plan_all.edits.as_slice(), [FileEdit::AddSection(options)] if options.len() == 2)
    );
    assert!(matches!(plan_all.commands.as_slice(), [DaemonAction::Add(new)] if new.start));
    assert_eq!(plan_all.lines, ["added"]);

    let in_file = Observed {
        file: Some(file(&[SLEEP, ("numprocesses", "2")])),
        daemon: daemon(None),
    };
    let added = planned(&desired(None, None, &[]), &in_file);
    assert!(added.edits.is_empty());
    assert_eq!(added.lines, ["added (to the daemon; the file had it)"]);

    let in_daemon = Observed {
        file: Some(no_section()),
        daemon: daemon(Some(live(&[SLEEP, ("numprocesses", "2")]))),
    };
    let written = planned(&request, &in_daemon);
    assert!(written.commands.is_empty());
    assert_eq!(written.lines, ["added (to the file; the daemon had it)"]);
    assert!(written.warnings.iter().any(|w| w.contains("daemon only")));

    let request = desired(Some("2"), None, &[]);
    let error = plan(&request, &target(&request, &nowhere), &nowhere).unwrap_err();
    assert!(error.contains("--cmd"), "{error}");
}

#[test]
fn a_stopped_watcher_is_started_and_one_that_waits_for_a_connection_is_not() {
    let mut stopped = live(&[SLEEP]);
    stopped.status = "stopped".into();
    let mut seen = Observed {
        file: Some(file(&[SLEEP])),
        daemon: daemon(Some(stopped.clone())),
    };
    let plan = planned(&desired(Some("1"), None, &[]), &seen);
    assert_eq!(plan.commands, [DaemonAction::Start]);
    stopped.options.insert("on_demand".into(), json!(true));
    seen.daemon = daemon(Some(stopped));
    assert!(planned(&desired(Some("1"), None, &[]), &seen).is_empty());
}

#[test]
fn options_that_were_not_asked_for_stay_and_are_told() {
    let seen = Observed {
        file: Some(file(&[SLEEP, ("max_age", "9"), ("numprocesses", "2")])),
        daemon: daemon(Some(live(&[SLEEP, ("numprocesses", "2")]))),
    };
    let plan = planned(&desired(Some("2"), None, &[]), &seen);
    assert!(plan.is_empty());
    assert!(
        plan.warnings[0].contains("max_age is 0 in the daemon and 9"),
        "{:?}",
        plan.warnings
    );
    // Nothing named: the file's section is what is wanted.
    let plan = planned(&desired(None, None, &[]), &seen);
    assert!(
        matches!(plan.commands.as_slice(), [DaemonAction::Set { new, .. }] if new.contains_key("max_age"))
    );
}

#[test]
fn the_same_meaning_in_another_spelling_is_no_drift() {
    for (key, a, b) in [
        ("warmup_delay", json!(1), json!(1.0)),
        ("args", json!(""), Value::Null),
        ("args", json!([]), json!("")),
        ("stop_signal", json!("SIGINT"), json!(2)),
        ("stdout_stream.max_bytes", json!("100"), json!(100)),
    ] {
        assert!(same(key, Some(&a), Some(&b)), "{key} {a} {b}");
    }
    for (key, a, b) in [
        ("cmd", json!("a"), json!("b")),
        ("shell", json!(true), json!(false)),
        ("stop_signal", json!(15), json!(2)),
        ("max_age", json!(0), Value::Null),
    ] {
        assert!(!same(key, Some(&a), Some(&b)), "{key} {a} {b}");
    }
}

/// What a daemon that obeys and a file that is written look like after the plan.
fn carried_out(seen: &Observed, plan: &Plan, target: &WatcherOptions, all: bool) -> Observed {
    let mut after = seen.clone();
    if let Some(file) = &mut after.file {
        for edit in &plan.edits {
            match edit {
                FileEdit::RemoveSection => {
                    file.watcher = None;
                    file.stated.clear();
                    continue;
                }
                FileEdit::RemoveEnv => {
                    file.own_env = None;
                    continue;
                }
                _ => {}
            }
            let watcher = file
                .watcher
                .get_or_insert_with(|| WatcherOptions::ini_defaults("web"));
            let pairs: Vec<(String, String)> = match edit {
                FileEdit::RemoveSection | FileEdit::RemoveEnv => Vec::new(),
                FileEdit::Unset { key } => {
                    take_away(watcher, key);
                    file.stated.retain(|stated| stated != key);
                    Vec::new()
                }
                FileEdit::Env { name, text } => {
                    set_variable(watcher, name, text.as_deref());
                    let own = file.own_env.get_or_insert_default();
                    own.retain(|known| known != name);
                    if text.is_some() {
                        own.push(name.clone());
                    }
                    Vec::new()
                }
                FileEdit::Set { key, text } => vec![(key.clone(), text.clone())],
                FileEdit::AddSection(options) => options
                    .iter()
                    .map(|wanted| (wanted.key.clone(), wanted.text.clone()))
                    .collect(),
            };
            for (key, text) in pairs {
                watcher.set_ini(&key, &text).unwrap();
                if !file.stated.contains(&key) {
                    file.stated.push(key);
                }
            }
        }
    }
    for action in &plan.commands {
        let side = after.daemon.as_mut().unwrap();
        match action {
            DaemonAction::Add(new) | DaemonAction::Replace { new, .. } => {
                let mut options = WatcherOptions::from_add(
                    &new.name,
                    &new.cmd,
                    &new.args,
                    &new.options,
                    &Default::default(),
                    "/",
                )
                .unwrap();
                options
                    .put(
                        "working_dir",
                        target.get("working_dir").cloned().unwrap_or_default(),
                    )
                    .unwrap();
                side.watcher = Some(LiveWatcher {
                    options: told(&options, all),
                    status: if new.start { "active" } else { "stopped" }.into(),
                    ..LiveWatcher::default()
                });
            }
            DaemonAction::Set { new, .. } => {
                let watcher = side.watcher.as_mut().unwrap();
                let mut options = watcher.as_options(&WatcherOptions::ini_defaults("web"));
                for (key, value) in new {
                    crate::options::check_wire(key, value).unwrap();
                    options.put(key, value.clone()).unwrap();
                }
                watcher.options = told(&options, all);
            }
            DaemonAction::Start => side.watcher.as_mut().unwrap().status = "active".into(),
            DaemonAction::Stop => side.watcher.as_mut().unwrap().status = "stopped".into(),
            DaemonAction::Restart => {}
            DaemonAction::Remove(_) => side.watcher = None,
            DaemonAction::Reread { .. } => {
                let watcher = side.watcher.as_mut().unwrap();
                let file = after.file.as_ref().unwrap().watcher.as_ref().unwrap();
                let count = watcher.options["numprocesses"].clone();
                watcher.options = told(file, all);
                watcher.options.insert("numprocesses".into(), count);
            }
            DaemonAction::Incr(_) | DaemonAction::Decr(_) | DaemonAction::Count { .. } => {
                let watcher = side.watcher.as_mut().unwrap();
                let now = watcher.numprocesses();
                let then = match action {
                    DaemonAction::Incr(by) => now + by,
                    DaemonAction::Decr(by) => now - by,
                    DaemonAction::Count { new, .. } => *new,
                    _ => now,
                };
                watcher.options.insert("numprocesses".into(), json!(then));
            }
        }
    }
    after
}

/// A few texts for each of some options of every kind.
fn pair() -> impl Strategy<Value = (String, String)> {
    prop::sample::select(vec![
        ("numprocesses", &["0", "1", "3", "7"][..]),
        ("cmd", &["sleep 1", "sleep 2 'a b'"]),
        ("args", &["", "-x", "-y $WID"]),
        ("warmup_delay", &["0", "1", "2"]),
        ("graceful_timeout", &["30", "30.0", "2.5"]),
        ("max_age", &["0", "60"]),
        ("max_retry", &["5", "-1"]),
        ("stop_signal", &["TERM", "SIGTERM", "15", "INT"]),
        ("shell", &["yes", "False", "1"]),
        ("send_hup", &["on", "off"]),
        ("respawn", &["true", "false"]),
        ("copy_env", &["true", "false"]),
        ("on_demand", &["true", "false"]),
        ("working_dir", &["", "/srv"]),
        ("uid", &["0", "root"]),
        ("stdout_stream.class", &["FileStream", "StdoutStream"]),
        ("stdout_stream.max_bytes", &["100", "200"]),
        ("rlimit_nofile", &["", "100"]),
        ("hooks.before_start", &["a.b", "a.b,True"]),
        ("autostart", &["true", "false"]),
        ("use_sockets", &["true", "false"]),
    ])
    .prop_flat_map(|(key, texts)| (Just(key.to_string()), prop::sample::select(texts.to_vec())))
    .prop_map(|(key, text)| (key, text.to_string()))
}

fn section() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec(pair(), 0..6).prop_map(|mut pairs| {
        pairs.insert(0, ("cmd".into(), "sleep 9".into()));
        pairs
    })
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs
        .iter()
        .map(|(key, text)| (key.as_str(), text.as_str()))
        .collect()
}

type WholeWish = (
    bool,
    Running,
    OnChange,
    bool,
    Vec<&'static str>,
    std::collections::BTreeMap<&'static str, Option<&'static str>>,
);

fn whole_wish() -> impl Strategy<Value = WholeWish> {
    (
        prop::bool::weighted(0.9),
        prop::sample::select(vec![Running::Yes, Running::Yes, Running::No, Running::Any]),
        prop::sample::select(vec![OnChange::Auto, OnChange::Never, OnChange::Always]),
        any::<bool>(),
        prop::collection::vec(
            prop::sample::select(vec![
                "max_age",
                "rlimit_nofile",
                "working_dir",
                "numprocesses",
            ]),
            0..2,
        ),
        prop::collection::btree_map(
            prop::sample::select(vec!["A", "B"]),
            prop::option::of(prop::sample::select(vec!["", "x", "y z"])),
            0..2,
        ),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_plan_that_was_carried_out_leaves_nothing_to_plan(
        (present, running, on_change, rereads, unset, env) in whole_wish(),
        wanted in prop::collection::vec(pair(), 0..6),
        with_cmd in any::<bool>(),
        in_file in prop::option::weighted(0.8, prop::option::weighted(0.8, section())),
        in_daemon in prop::option::weighted(0.9, section()),
        stopped in any::<bool>(),
        all in any::<bool>(),
        ignored in prop::collection::btree_set(prop::sample::select(vec!["max_retry", "respawn", "on_demand"]), 0..2),
    ) {
        let mut request = Request { name: "web".into(), ..Request::default() };
        let mut named = std::collections::BTreeMap::new();
        if with_cmd {
            named.insert("cmd".to_string(), "sleep 5".to_string());
        }
        for (key, text) in wanted {
            named.entry(key).or_insert(text);
        }
        request.set = named.iter().map(|(key, text)| format!("{key}={text}")).collect();
        request.unset = unset.into_iter().filter(|key| !named.contains_key(*key)).map(str::to_string).collect();
        request.env = env.iter().filter_map(|(name, text)| Some(format!("{name}={}", text.as_ref()?))).collect();
        request.unset.extend(env.iter().filter(|(_, text)| text.is_none()).map(|(name, _)| format!("env.{name}")));
        request.running = running;
        request.on_change = on_change;
        let mut desired = Desired::new(&request).unwrap().0;
        desired.present = present;
        desired.with_env = true;
        let mut seen = Observed {
            file: in_file.map(|watcher| watcher.map_or_else(no_section, |pairs| file(&borrowed(&pairs)))),
            daemon: daemon(in_daemon.map(|pairs| {
                let mut watcher = live(&borrowed(&pairs));
                watcher.options = told(&options(&borrowed(&pairs)), all);
                if stopped {
                    watcher.status = "stopped".into();
                }
                watcher.ignores_set = ignored.iter().map(|key| key.to_string()).collect();
                watcher
            })),
        };
        if let Some(side) = &mut seen.daemon {
            side.rereads = rereads && seen.file.is_some();
        }
        let goal = target(&desired, &seen);
        if let Some(file) = &mut seen.file {
            file.environment = goal.env().cloned().unwrap_or_default();
        }
        // A refusal changes nothing, so there is nothing to show.
        let Ok(first) = plan(&desired, &goal, &seen) else { return Ok(()) };
        let after = carried_out(&seen, &first, &goal, all);
        let second = plan(&desired, &target(&desired, &after), &after).unwrap();
        prop_assert!(second.is_empty(), "first {first:?}\nsecond {second:?}");
        prop_assert!(second.changes.is_empty() && second.lines.is_empty());
        prop_assert_eq!(first.is_empty(), first.changes.is_empty());
    }
}
