//! `circ state` and `circ config` killed with SIGKILL at every one of its system calls: each file is then the old one or the new one,
//! whole, no other file has changed, and the next run brings the wanted state and removes what the killed one left.

mod support;

#[path = "state/run.rs"]
#[allow(dead_code)] // Other test programs use the rest.
mod run;
#[path = "state/traced.rs"]
mod traced;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use run::{command, expect, finish, verb};
use support::{Program, TempSite};

/// At most so many points of a run on files alone are tried; of a longer one, as many, evenly spread.
const MOST_POINTS: usize = 1500;

/// Likewise of a long run with a daemon, where each point takes several runs that wait for workers.
const MOST_POINTS_LIVE: usize = 300;

/// So many runs on files alone may be through before their turn: how often the thread that waits for signals and the
/// others wait for one another is not the same in every run.
const FEW: usize = 5;

/// A file as it is on disk, but for the times.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    content: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
}

/// Every file of a directory, those below it too.
fn look(directory: &Path) -> BTreeMap<String, Seen> {
    let mut all = BTreeMap::new();
    let mut left = vec![directory.to_path_buf()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(&at).expect("a directory").flatten() {
            let path = entry.path();
            let metadata = fs::symlink_metadata(&path).expect("it is there");
            if metadata.is_dir() {
                left.push(path);
                continue;
            }
            // The daemon's socket; a run of circ makes none.
            if metadata.file_type().is_socket() {
                continue;
            }
            let name = path.strip_prefix(directory).expect("below").display();
            let seen = Seen {
                content: fs::read(&path).unwrap_or_default(),
                mode: metadata.mode(),
                owner: (metadata.uid(), metadata.gid()),
            };
            all.insert(name.to_string(), seen);
        }
    }
    // The daemon may write to its log at any time.
    all.retain(|name, _| !name.starts_with("daemon-"));
    all
}

/// Takes the backups out of what was seen; each must be one of the old files, whole.
fn without_backups(
    seen: &mut BTreeMap<String, Seen>,
    old: &BTreeMap<String, Seen>,
    shown: &dyn Fn() -> String,
) {
    seen.retain(|name, seen| {
        let Some(stem) = name.strip_suffix('~') else {
            return true;
        };
        let original = old.iter().find(|(name, _)| {
            let rest = stem.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.starts_with('.'))
        });
        assert_eq!(
            Some(&*seen),
            original.map(|(_, seen)| seen),
            "{}: {name}",
            shown()
        );
        false
    });
}

/// `.NAME.circ-PID-N`: what a killed run may leave.
fn is_temporary(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.starts_with('.') && name.contains(".circ-")
}

/// How often each outcome came up.
#[derive(Debug, Default)]
struct Tally {
    calls: usize,
    points: usize,
    old: usize,
    new: usize,
    mixed: usize,
    leftovers: usize,
    to_the_end: usize,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.calls = self.calls.max(other.calls);
        self.points += other.points;
        self.old += other.old;
        self.new += other.new;
        self.mixed += other.mixed;
        self.leftovers += other.leftovers;
        self.to_the_end += other.to_the_end;
    }

    /// Not eprintln: the test harness swallows that for a test that passes.
    fn tell(&self, what: &str) {
        use std::io::Write;
        let _ = writeln!(
            std::io::stderr(),
            "{what}: {} system calls, killed at {} of them: {} times the old files, {} times the new, {} times some of \
             each; {} times a temporary file was left and then removed; {} runs ended before their turn",
            self.calls,
            self.points,
            self.old,
            self.new,
            self.mixed,
            self.leftovers,
            self.to_the_end
        );
    }
}

/// One of several sites that share the points of a run, so that waits of one are used by the others.
#[derive(Debug, Clone, Copy)]
struct Lane {
    number: usize,
    of: usize,
    most: usize,
}

impl Lane {
    /// Runs the test on so many sites at once and adds up what they saw.
    fn together(of: usize, most: usize, test: impl Fn(Lane) -> Tally + Sync) -> Tally {
        let test = &test;
        std::thread::scope(|scope| {
            let lanes: Vec<_> = (0..of)
                .map(|number| scope.spawn(move || test(Lane { number, of, most })))
                .collect();
            let mut all = Tally::default();
            for lane in lanes {
                match lane.join() {
                    Ok(tally) => all.add(&tally),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            all
        })
    }

    /// The points to try in a run of so many system calls.
    fn points(self, calls: usize) -> impl Iterator<Item = usize> {
        let count = calls.min(self.most);
        (self.number..count)
            .step_by(self.of)
            .map(move |at| 1 + at * calls / count)
    }
}

/// Kills the run at every system call. `edited` are the files it changes; `again` undoes it (for a daemon; the files
/// are put back anyway).
fn kill_everywhere(
    what: &str,
    site: &TempSite,
    run: &dyn Fn() -> Command,
    edited: &[&str],
    again: &dyn Fn(),
    lane: Lane,
) -> Tally {
    let old = look(site.dir());
    let whole = traced::run(&run(), None);
    assert_eq!(whole.code, Some(0), "{what}: the undisturbed run");
    let mut new = look(site.dir());
    without_backups(&mut new, &old, &|| what.to_string());
    remove_backups(site.dir());
    let changed: Vec<&str> = new
        .iter()
        .filter(|(name, seen)| old.get(*name) != Some(seen))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(changed, edited, "{what}");
    let mut tally = Tally {
        calls: whole.calls,
        ..Tally::default()
    };
    // A run that talks to a daemon is not always equally long: past its end there is nothing to kill.
    for at in lane.points(whole.calls) {
        restore(site, &old, edited);
        again();
        assert_eq!(look(site.dir()), old);
        let killed = traced::run(&run(), Some(at));
        tally.points += 1;
        tally.to_the_end += usize::from(killed.code.is_some());
        let shown = || format!("{what}: killed at system call {at} of {}", whole.calls);

        let mut now = look(site.dir());
        let before = now.len();
        now.retain(|name, _| !is_temporary(name));
        tally.leftovers += usize::from(now.len() < before);
        without_backups(&mut now, &old, &shown);
        let (mut as_old, mut as_new) = (0, 0);
        for name in edited {
            let seen = now.get(*name).cloned();
            as_old += usize::from(seen.as_ref() == old.get(*name));
            as_new += usize::from(seen.as_ref() == new.get(*name));
            assert!(
                seen.as_ref() == old.get(*name) || seen.as_ref() == new.get(*name),
                "{}: {name} is neither the old nor the new one: {seen:?}",
                shown()
            );
            if let Some(new) = new.get(*name) {
                now.insert(name.to_string(), new.clone());
            }
        }
        match (as_old, as_new) {
            (_, 0) => tally.old += 1,
            (0, _) => tally.new += 1,
            _ => tally.mixed += 1,
        }
        assert_eq!(now, new, "{}: another file changed", shown());

        let healed = finish(run());
        assert_eq!(
            healed.code,
            0,
            "{}: {}{}",
            shown(),
            healed.stdout,
            healed.stderr
        );
        remove_backups(site.dir());
        assert_eq!(look(site.dir()), new, "{}: after the next run", shown());
        let third = finish(run());
        assert_eq!(
            (third.code, &third.report()["changed"]),
            (0, &Value::Bool(false)),
            "{}: the run after the next: {}",
            shown(),
            third.stdout
        );
        assert_eq!(look(site.dir()), new);
    }
    tally
}

fn remove_backups(directory: &Path) {
    for name in look(directory).keys().filter(|name| name.ends_with('~')) {
        fs::remove_file(directory.join(name)).expect("removed");
    }
}

/// Puts the edited files back as a person would: in place.
fn restore(site: &TempSite, old: &BTreeMap<String, Seen>, edited: &[&str]) {
    for name in edited {
        match old.get(*name) {
            Some(seen) => fs::write(site.path(name), &seen.content).expect("written"),
            None => fs::remove_file(site.path(name)).expect("removed"),
        }
    }
}

fn state(site: &TempSite, args: &[&str]) -> Command {
    let mut command = command(site, args);
    command.args(["--config", "circus.ini", "--json"]);
    command
}

const BODY: &str = "\
; the site
[watcher:web]
cmd = sleep 1000
numprocesses = 2   ; two of them
graceful_timeout=3

[watcher:other]
cmd = sleep 2000
";

/// A mode and (for root) an owner that no new file gets by itself.
fn make_special(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("ours");
    // Only root can give files away.
    let _ = std::os::unix::fs::chown(path, Some(12), Some(34));
}

#[test]
fn one_file() {
    let tally = Lane::together(2, MOST_POINTS, |lane| {
        let site = TempSite::new();
        make_special(&site.ini(BODY));
        site.write("unrelated.ini", "[watcher:no]\n");
        let args = ["web", "--procs", "3", "--set", "max_age=100", "--no-live"];
        let run = || state(&site, &args);
        kill_everywhere("ensure", &site, &run, &["circus.ini"], &|| {}, lane)
    });
    tally.tell("ensure");
    assert!(
        tally.old > 0 && tally.new > 0 && tally.leftovers > 0,
        "{tally:?}"
    );
    assert_eq!(tally.mixed, 0);
    assert!(tally.to_the_end <= FEW, "{tally:?}");
}

#[test]
fn a_file_and_one_that_it_includes() {
    let tally = Lane::together(2, MOST_POINTS, |lane| {
        let site = TempSite::new();
        make_special(&site.ini(&format!("include = conf/*.ini\n{BODY}")));
        fs::create_dir(site.path("conf")).expect("made");
        make_special(&site.write(
            "conf/more.ini",
            "# included\r\n[watcher:web]\r\nmax_age = 3\r\n\r\n[watcher:z]\r\ncmd = z\r\n",
        ));
        let args = ["web", "--procs", "3", "--set", "max_age=100", "--no-live"];
        let run = || state(&site, &args);
        let edited = ["circus.ini", "conf/more.ini"];
        kill_everywhere("ensure, two files", &site, &run, &edited, &|| {}, lane)
    });
    tally.tell("ensure, two files");
    assert!(
        tally.old > 0 && tally.new > 0 && tally.leftovers > 0,
        "{tally:?}"
    );
    assert!(tally.to_the_end <= FEW, "{tally:?}");
}

#[test]
fn an_edit_of_an_included_file_alone() {
    let tally = Lane::together(2, MOST_POINTS, |lane| {
        let site = TempSite::new();
        site.ini(&format!("include = conf/*.ini\n{BODY}"));
        fs::create_dir(site.path("conf")).expect("made");
        make_special(&site.write("conf/more.ini", "[watcher:web]\nmax_age = 3\n"));
        let run = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
            command
                .args(["config", "set", "circus.ini", "watcher:web"])
                .args(["max_age", "100", "--json"])
                .current_dir(site.dir());
            command
        };
        kill_everywhere("config set", &site, &run, &["conf/more.ini"], &|| {}, lane)
    });
    tally.tell("config set, an included file");
    assert!(
        tally.old > 0 && tally.new > 0 && tally.leftovers > 0,
        "{tally:?}"
    );
    assert_eq!(tally.mixed, 0);
    assert!(tally.to_the_end <= FEW, "{tally:?}");
}

#[test]
fn with_a_daemon() {
    let tally = Lane::together(6, MOST_POINTS, |lane| {
        let site = TempSite::new();
        make_special(&site.ini(BODY));
        let daemon = site.start(Program::Circ);
        daemon.wait_pids("web", 2);
        let other = daemon.wait_pids("other", 1);
        let wanted = [
            "web",
            "--procs",
            "3",
            "--set",
            "max_age=100",
            "--settle",
            "0",
        ];
        let before = ["web", "--procs", "2", "--set", "max_age=0", "--settle", "0"];
        let run = || state(&site, &wanted);
        let again = || {
            // The file is as it was: back to the daemon's start.
            let mut back = state(&site, &before);
            back.arg("--no-persist");
            let back = finish(back);
            assert_eq!(back.code, 0, "{}", back.stdout);
        };
        let what = "ensure, with a daemon";
        let tally = kill_everywhere(what, &site, &run, &["circus.ini"], &again, lane);
        let last = expect(&site, &wanted, false);
        assert_eq!(last["after"]["daemon"]["running"], json!(3));
        assert_eq!(daemon.pids("other"), other);
        tally
    });
    tally.tell("ensure, with a daemon");
    assert!(tally.old > 0 && tally.new > 0, "{tally:?}");
}

/// A state that changes, adds and removes in the main file and in an included one.
const DESIRED: &str = r#"
prune = true

[circus]
warmup_delay = 0

[env]
LANG = "C.UTF-8"

[watcher.web]
numprocesses = 3
max_age = 100
unset = ["graceful_timeout"]
env.TOKEN = "x"

[watcher.new]
cmd = "sleep 3000"
numprocesses = 2

[watcher.z]
cmd = "sleep 9000"

[watcher.other]
state = "absent"

[socket.s]
path = "s.sock"
"#;

/// The main file, the included one, and what is to be.
fn wide(site: &TempSite) {
    make_special(&site.ini(&format!("include = conf/*.ini\n{BODY}")));
    fs::create_dir(site.path("conf")).expect("made");
    make_special(&site.write(
        "conf/more.ini",
        "# included\r\n[watcher:web]\r\nmax_age = 3\r\n\r\n[watcher:z]\r\ncmd = sleep 8000\r\n\r\n[watcher:gone]\r\ncmd = sleep 7000\r\n",
    ));
    site.write("desired.toml", DESIRED);
}

fn apply(site: &TempSite, more: &[&str]) -> Command {
    let mut command = verb(site, "apply");
    command
        .args(["desired.toml", "--config", "circus.ini", "--json"])
        .args(more);
    command
}

#[test]
fn a_whole_desired_state_with_backups() {
    let tally = Lane::together(2, MOST_POINTS, |lane| {
        let site = TempSite::new();
        wide(&site);
        let run = || apply(&site, &["--no-live", "--backup"]);
        let edited = ["circus.ini", "conf/more.ini"];
        let what = "apply, two files with backups";
        kill_everywhere(what, &site, &run, &edited, &|| {}, lane)
    });
    tally.tell("apply, two files with backups");
    assert!(
        tally.old > 0 && tally.new > 0 && tally.leftovers > 0,
        "{tally:?}"
    );
    assert!(tally.to_the_end <= FEW, "{tally:?}");
}

#[test]
fn a_whole_desired_state_with_a_daemon() {
    let tally = Lane::together(6, MOST_POINTS_LIVE, |lane| {
        let site = TempSite::new();
        wide(&site);
        let daemon = site.start(Program::Circ);
        daemon.wait_pids("web", 2);
        let run = || apply(&site, &["--settle", "0"]);
        let again = || {
            // The files are as they were: the daemon is to be as they say.
            let mut back = verb(&site, "apply");
            back.args(["circus.ini", "--prune", "--json", "--settle", "0"]);
            let back = finish(back);
            assert_eq!(back.code, 0, "{}", back.stdout);
        };
        let edited = ["circus.ini", "conf/more.ini"];
        let what = "apply, with a daemon";
        let tally = kill_everywhere(what, &site, &run, &edited, &again, lane);
        assert_eq!(daemon.wait_pids("web", 3).len(), 3);
        assert_eq!(daemon.wait_pids("new", 2).len(), 2);
        assert_eq!(
            daemon.ok("list", json!({}))["watchers"],
            json!(["new", "web", "z"])
        );
        tally
    });
    tally.tell("apply, with a daemon");
    assert!(tally.old > 0 && tally.new > 0, "{tally:?}");
}
