//! Files changed in every way that editors and tools change them.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use super::*;

const LONG: Duration = Duration::from_secs(30);

struct Watching {
    changes: Receiver<Change>,
    /// What was said about whether the state can be read, in order.
    asked: Receiver<bool>,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Watching {
    /// Watches `path` as the desired state; it can be read unless it holds "half".
    fn start(path: &Path) -> Watching {
        Watching::start_with(path, |_| {})
    }

    fn start_with(path: &Path, change: impl FnOnce(&mut Watcher)) -> Watching {
        let (tell, changes) = channel();
        let (ask, asked) = channel();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let path = path.to_path_buf();
        let targets = Targets(vec![(Kind::Desired, path.clone())]);
        let mut watcher = Watcher::new(targets.clone());
        change(&mut watcher);
        let thread = std::thread::spawn(move || {
            watcher.run(
                &stopped,
                || targets.clone(),
                || {
                    let text = fs::read_to_string(&path).unwrap_or_default();
                    let readable = !text.contains("half");
                    let _ = ask.send(readable);
                    readable
                },
                |change| {
                    let _ = tell.send(change);
                },
            );
        });
        Watching {
            changes,
            asked,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// There is a change; slow writing may make several of one.
    #[track_caller]
    fn sees(&self) {
        let change = self.changes.recv_timeout(LONG).expect("a change");
        assert_eq!(change.kind, Kind::Desired);
        while self.changes.try_recv().is_ok() {}
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.take();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// As careful editors do it.
fn replace(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, file).unwrap();
}

#[test]
fn a_file_changes_in_every_way() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.toml");
    let watching = Watching::start(&file);
    fs::write(&file, "one").unwrap();
    watching.sees();
    fs::write(&file, "two, in place").unwrap();
    watching.sees();
    replace(&file, "three, renamed over");
    watching.sees();
    fs::remove_file(&file).unwrap();
    watching.sees();
    replace(&file, "four");
    watching.sees();
}

#[test]
fn half_a_file_is_waited_out_but_not_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.toml");
    let watching = Watching::start(&file);
    replace(&file, "half");
    assert_eq!(watching.asked.recv_timeout(LONG), Ok(false));
    assert!(watching.changes.try_recv().is_err(), "told of half a file");
    replace(&file, "whole");
    watching.sees();
    assert_eq!(watching.asked.try_iter().last(), Some(true));
    replace(&file, "half again");
    watching.sees();
    assert_eq!(watching.asked.try_iter().last(), Some(false));
}

#[test]
fn a_directory_counts_with_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("deep/state.d");
    let watching = Watching::start(&place);
    fs::create_dir_all(&place).unwrap();
    watching.sees();
    replace(&place.join("a.toml"), "a");
    watching.sees();
    // The whole directory is replaced, and the new one is watched.
    fs::rename(&place, directory.path().join("deep/old")).unwrap();
    fs::create_dir(&place).unwrap();
    watching.sees();
    replace(&place.join("b.json"), "b");
    watching.sees();
    fs::remove_file(place.join("b.json")).unwrap();
    watching.sees();
}

#[test]
fn files_that_are_not_read_do_not_count() {
    for name in ["a.toml~", ".a.toml.swp", "4913", "README", "a.new", ".toml"] {
        assert!(!counts(Path::new(name)), "{name}");
    }
    for name in ["a.toml", "b.json", "c.ini", "d.conf"] {
        assert!(counts(Path::new(name)), "{name}");
    }
}

#[test]
fn links_are_followed() {
    // As Kubernetes mounts a ConfigMap: state.toml -> ..data/state.toml, ..data -> a directory that is exchanged.
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (version, text) in [("v1", "one"), ("v2", "two")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("state.toml"), text).unwrap();
    }
    symlink("v1", at("..data")).unwrap();
    symlink("..data/state.toml", at("state.toml")).unwrap();
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink("../state.toml", elsewhere.join("link.toml")).unwrap();
    let watching = Watching::start(&elsewhere.join("link.toml"));
    fs::write(at("v1/state.toml"), "one, changed").unwrap();
    watching.sees();
    let direct = Watching::start(&at("state.toml"));
    symlink("v2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    direct.sees();
}

#[test]
fn where_nobody_tells_the_files_are_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.toml");
    replace(&file, "one");
    let watching = Watching::start_with(&file, |watcher| {
        assert!(!watcher.source.polls() || is_remote(directory.path()));
        watcher.source.inotify = None;
        assert!(watcher.source.polls());
    });
    replace(&file, "two");
    watching.sees();
}
