//! Runs with a stand-in for the engine.

use std::sync::{Arc, Mutex};

use super::super::schedule::Trigger;
use super::*;

/// What the engine was given: the watchers, prune, check and what is protected.
type Given = (Vec<String>, bool, bool, Vec<String>);

struct Site {
    directory: tempfile::TempDir,
    seen: Arc<Mutex<Vec<Given>>>,
}

impl Site {
    fn new() -> Site {
        Site {
            directory: tempfile::tempdir().unwrap(),
            seen: Arc::default(),
        }
    }

    fn write(&self, text: &str) {
        std::fs::write(self.directory.path().join("state.toml"), text).unwrap();
    }

    fn work(&self, prune: bool) -> Work {
        let seen = Arc::clone(&self.seen);
        Work {
            desired: "state.toml".into(),
            settings: Settings::new(self.directory.path().to_path_buf(), Default::default()),
            prune,
            apply: Box::new(move |state, settings| {
                let names = state.watchers.iter().map(|w| w.name.clone()).collect();
                seen.lock().unwrap().push((
                    names,
                    state.prune,
                    settings.check,
                    settings.protect.clone(),
                ));
                assert!(
                    !state.watchers.iter().any(|w| w.name == "panics"),
                    "as told"
                );
                let mut report = Report::new("state", settings.check);
                report.resource = "state";
                if state.watchers.iter().any(|w| w.name == "refused") {
                    report.fail("as told".into());
                    report.standing = Standing::Refused;
                    return report;
                }
                if state.watchers.iter().any(|w| w.name == "unreachable") {
                    report.fail("nobody listens".into());
                    report.standing = Standing::Untried;
                    return report;
                }
                for watcher in &state.watchers {
                    let mut part = Report::new(&watcher.name, settings.check);
                    part.changed = watcher.name.starts_with("Changed");
                    if watcher.name.starts_with("failed") {
                        part.fail("as told".into());
                    }
                    report.changed |= part.changed;
                    report.failed |= part.failed;
                    report.resources.push(part);
                }
                report
            }),
            own_watcher: Box::new(|| Some("agent".to_string())),
            good: None,
            held: None,
        }
    }
}

fn order(run: u64, mode: Mode, leave: &[&str]) -> Order {
    Order {
        run,
        trigger: Trigger::Interval,
        mode,
        leave: leave.iter().map(|name| name.to_string()).collect(),
    }
}

fn watchers(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("[watcher.{name:?}]\ncmd = \"sleep 1\"\n"))
        .collect()
}

#[test]
fn what_cannot_be_read_leaves_the_last_good_state_in_force() {
    let site = Site::new();
    let mut work = site.work(false);
    let done = work.run(&order(1, Mode::Enforce, &[]));
    assert!(done.failed() && done.report.is_none());
    assert!(done.message().contains("state.toml"), "{}", done.message());
    assert_eq!(done.outcome(), Outcome::default());
    site.write(&watchers(&["web"]));
    assert!(!work.run(&order(2, Mode::Enforce, &[])).failed());
    site.write("[watcher.web]\ncmd = ");
    let done = work.run(&order(3, Mode::Enforce, &[]));
    assert!(done.failed() && done.report.is_some());
    assert!(
        done.message().contains("stays in force"),
        "{}",
        done.message()
    );
    assert!(!done.outcome().failed, "there is nothing to try again");
    assert_eq!(site.seen.lock().unwrap().len(), 2);
}

#[test]
fn an_empty_state_prunes_nothing() {
    let site = Site::new();
    let mut work = site.work(true);
    site.write("");
    let done = work.run(&order(1, Mode::Enforce, &[]));
    assert!(
        done.message().contains("every watcher"),
        "{}",
        done.message()
    );
    assert!(site.seen.lock().unwrap().is_empty());
    site.write(&watchers(&["web"]));
    work.run(&order(2, Mode::Audit, &[]));
    assert_eq!(
        site.seen.lock().unwrap()[0],
        (vec!["web".into()], true, true, vec!["agent".into()])
    );
}

#[test]
fn what_is_fought_over_is_neither_changed_nor_pruned() {
    let site = Site::new();
    let mut work = site.work(true);
    site.write(&format!(
        "{}[socket.api]\nport = 1\n",
        watchers(&["My Web", "other"])
    ));
    work.run(&order(1, Mode::Enforce, &["my_web"]));
    work.run(&order(2, Mode::Enforce, &["socket:api"]));
    let seen = site.seen.lock().unwrap();
    let (names, prune, _, protect) = &seen[0];
    assert_eq!((names, prune), (&vec!["other".to_string()], &true));
    assert!(protect.contains(&"My Web".to_string()));
    assert!(!seen[1].1, "a socket that is left alone must not be pruned");
}

#[test]
fn the_outcome_names_who_changed_and_who_failed() {
    let site = Site::new();
    let mut work = site.work(false);
    site.write(&watchers(&["Changed one", "failed", "fine"]));
    let outcome = work.run(&order(1, Mode::Enforce, &[])).outcome();
    assert!(outcome.failed);
    assert_eq!(outcome.troubled, BTreeSet::from(["failed".to_string()]));
    assert_eq!(
        outcome.repaired,
        BTreeSet::from(["changed_one".to_string()])
    );
}

#[test]
fn a_panic_is_a_failed_run() {
    let site = Site::new();
    let mut work = site.work(false);
    site.write(&watchers(&["panics"]));
    let done = work.run(&order(1, Mode::Enforce, &[]));
    assert!(done.failed());
    assert!(done.outcome().failed);
    site.write(&watchers(&["web"]));
    assert!(!work.run(&order(2, Mode::Enforce, &[])).failed());
}

#[test]
fn a_state_that_is_refused_as_a_whole_leaves_the_one_before_in_force() {
    let site = Site::new();
    let mut work = site.work(false);
    site.write(&watchers(&["refused"]));
    let done = work.run(&order(1, Mode::Enforce, &[]));
    assert!(
        done.failed() && done.kept.is_none(),
        "there was none before"
    );
    assert!(done.outcome().troubled.is_empty());
    site.write(&watchers(&["Changed one"]));
    assert!(!work.run(&order(2, Mode::Enforce, &[])).failed());
    site.write(&watchers(&["Changed one", "refused"]));
    let done = work.run(&order(3, Mode::Enforce, &[]));
    assert!(done.failed() && done.changed() && done.kept.is_some());
    assert!(
        done.message().contains("stays in force"),
        "{}",
        done.message()
    );
    let outcome = done.outcome();
    assert!(outcome.failed && !outcome.troubled.contains("changed_one"));
    assert!(
        !outcome.troubled.is_empty(),
        "or everything would wait for the retry"
    );
    assert!(outcome.repaired.contains("changed_one"));
    // What fails after it was changed is in force, broken as it is.
    site.write(&watchers(&["Changed one", "failed"]));
    assert!(work.run(&order(4, Mode::Enforce, &[])).kept.is_none());
    assert_eq!(work.held, work.good);
}

#[test]
fn a_state_that_is_there_and_fails_is_not_taken_for_a_refused_one() {
    let site = Site::new();
    let mut work = site.work(false);
    site.write(&watchers(&["one"]));
    assert!(!work.run(&order(1, Mode::Enforce, &[])).failed());
    // Its workers do not stay, and nothing was to be changed for them.
    site.write(&watchers(&["one", "failed"]));
    let done = work.run(&order(2, Mode::Enforce, &[]));
    assert!(done.failed() && !done.changed() && done.kept.is_none());
    assert!(!done.message().contains("stays in force"));
    assert_eq!(work.held, work.good, "it is what is there now");
    // Without a daemon nobody knows: neither is the state before brought back, nor does this one count as taken.
    site.write(&watchers(&["one", "unreachable"]));
    let done = work.run(&order(3, Mode::Enforce, &[]));
    assert!(done.failed() && done.kept.is_none());
    assert_ne!(work.held, work.good);
}
