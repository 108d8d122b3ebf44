//! `circ state` where the disk refuses: a full or read-only file system, an immutable file, a file or directory that the
//! user may not write, an owner that cannot be kept. The report fails with words that help, and nothing is changed.

mod support;

#[path = "state/room.rs"]
mod room;
#[path = "state/run.rs"]
#[allow(dead_code)] // Other test programs use the rest.
mod run;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use serde_json::{Value, json};

use circ::state::store;
use room::Room;
use run::{Run, command, expect, finish};
use support::{Program, TempSite, need, skip};

const BODY: &str = "[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\n";

/// Sets a count in the file.
const SCALE: &[&str] = &["web", "--procs", "3", "--no-live"];

fn file_only(site: &TempSite, more: &[&str]) -> Command {
    let mut command = command(site, SCALE);
    command
        .args(["--config", "circus.ini", "--json"])
        .args(more);
    command
}

/// Everything in a directory, with contents.
fn look(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).unwrap_or_default())
        })
        .collect()
}

/// The run must have failed for this reason, having changed nothing.
#[track_caller]
fn assert_refused(run: &Run, why: &[&str]) {
    let report = run.report();
    assert_eq!(
        (run.code, &report["failed"], &report["changed"]),
        (1, &json!(true), &json!(false)),
        "{report}"
    );
    let error = report["error"].as_str().unwrap_or_default();
    for part in why {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
    assert!(
        report["actions"]
            .as_array()
            .is_some_and(|lines| lines.iter().all(|line| line["status"] != "done")),
        "{report}"
    );
}

#[track_caller]
fn assert_changed(run: &Run) -> Value {
    let report = run.report();
    assert_eq!(
        (run.code, &report["changed"]),
        (0, &json!(true)),
        "{report} {}",
        run.stderr
    );
    report
}

/// What a file system of so many pages does to a run that needs some of them.
#[test]
fn a_full_disk_leaves_everything_as_it_was() {
    let site = TempSite::new();
    let mount = "mount -t tmpfs -o size=16k,nr_inodes=20 tmpfs \"$0\"";
    let Some(room) = Room::new(site.dir(), mount) else {
        return;
    };
    let main = format!("{}include = more.inc\n{BODY}", site.circus_section());
    let args = ["--set", "max_age=7"];
    // Two files of a page each; a new version of both needs two more, and with backups four.
    for (free, backup, works) in [
        (0, false, false),
        (1, false, false),
        (2, false, true),
        (2, true, false),
        (0, true, false),
    ] {
        fs::write(room.path("circus.ini"), &main).expect("written");
        fs::write(room.path("more.inc"), "[watcher:web]\nmax_age = 3\n").expect("written");
        let filler = vec![b'x'; 4096 * (2 - free)];
        fs::write(room.path("filler"), filler).expect("written");
        let before = look(&room.path(""));
        let mut command = room.command(&file_only(&site, &args));
        if backup {
            command.arg("--backup");
        }
        let run = finish(command);
        if works {
            assert_changed(&run);
            assert_ne!(look(&room.path("")), before);
        } else {
            let why = [
                "cannot write a new version of",
                "No space left on device",
                "the file system is full",
            ];
            assert_refused(&run, &why);
            assert_eq!(look(&room.path("")), before);
        }
    }
    // No inode is left for a new file.
    let before = look(&room.path(""));
    for number in 0.. {
        if File::create(room.path(&format!("f{number}"))).is_err() {
            break;
        }
    }
    let command = room.command(&file_only(&site, &["--set", "max_age=9"]));
    assert_refused(
        &finish(command),
        &["cannot create a new file beside", "No space left"],
    );
    for (name, content) in before {
        assert_eq!(fs::read(room.path(&name)).expect("it is there"), content);
    }
}

#[test]
fn a_read_only_file_system_is_named() {
    let site = TempSite::new();
    site.ini(BODY);
    let mount = "mount --bind \"$0\" \"$0\"; mount -o remount,bind,ro \"$0\"";
    let Some(room) = Room::new(site.dir(), mount) else {
        return;
    };
    let before = look(site.dir());
    let run = finish(room.command(&file_only(&site, &[])));
    assert_refused(
        &run,
        &["Read-only file system", "mount the file system writable"],
    );
    assert_eq!(look(site.dir()), before);
    // Nothing to write: nothing to refuse, and the lock needs no writing.
    let mut nothing = command(&site, &["web", "--procs", "2", "--no-live"]);
    nothing.args(["--config", "circus.ini", "--json"]);
    let run = finish(room.command(&nothing));
    assert_eq!((run.code, &run.report()["changed"]), (0, &json!(false)));
}

#[test]
fn a_file_that_is_a_mount_point_is_refused_before_anything_is_written() {
    let site = TempSite::new();
    site.ini(&format!("include = more.inc\n{BODY}"));
    site.write("more.inc", "[watcher:web]\nmax_age = 3\n");
    let mount = "mount --bind \"$0/more.inc\" \"$0/more.inc\"";
    let Some(room) = Room::new(site.dir(), mount) else {
        return;
    };
    let before = look(site.dir());
    let run = finish(room.command(&file_only(&site, &["--set", "max_age=7"])));
    assert_refused(
        &run,
        &[
            "more.inc: it is mounted there by itself",
            "mount its directory instead",
        ],
    );
    assert_eq!(look(site.dir()), before);
}

/// Sets or clears such flags; false where the file system has none, or this user may not.
fn set_flags(path: &Path, flags: IFlags, on: bool) -> bool {
    let file = File::open(path).expect("it can be opened");
    let Ok(now) = ioctl_getflags(&file) else {
        return false;
    };
    let new = if on { now | flags } else { now - flags };
    ioctl_setflags(&file, new).is_ok()
}

#[test]
fn immutable_files_and_directories_are_named() {
    let site = TempSite::new();
    fs::create_dir(site.path("conf")).expect("made");
    site.ini(&format!("include = conf/more.inc\n{BODY}"));
    site.write("conf/more.inc", "[watcher:web]\nmax_age = 3\n");
    let before = look(site.dir());
    for (name, flags, why) in [
        (
            "conf/more.inc",
            IFlags::IMMUTABLE,
            "it is immutable; chattr -i",
        ),
        (
            "conf/more.inc",
            IFlags::APPEND,
            "it can only be appended to; chattr -a",
        ),
        ("conf", IFlags::IMMUTABLE, "conf is immutable"),
        ("conf", IFlags::APPEND, "or can only be added to"),
    ] {
        if !set_flags(&site.path(name), flags, true) {
            return skip("this file system has no immutable files, or this user may not make them");
        }
        let run = finish(file_only(&site, &["--set", "max_age=7"]));
        assert!(set_flags(&site.path(name), flags, false));
        assert_refused(&run, &[why]);
        assert_eq!(look(site.dir()), before);
        assert_eq!(look(&site.path("conf")).len(), 1);
    }
    assert_changed(&finish(file_only(&site, &["--set", "max_age=7"])));
}

/// The same command as a user who is nobody, with a program that such a user can reach. `None`: said why.
fn as_nobody(site: &TempSite, program: &Command) -> Option<Command> {
    let setpriv = need("setpriv", "util-linux")?;
    if !nix::unistd::geteuid().is_root() {
        skip("only root can become another user");
        return None;
    }
    let circ = site.path("circ");
    if !circ.exists() {
        fs::copy(program.get_program(), &circ).expect("copied");
    }
    let mut command = Command::new(setpriv);
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(circ)
        .args(program.get_args())
        .current_dir(program.get_current_dir().expect("a directory"))
        .env_remove("CIRCUSCTL_ENDPOINT")
        .stdin(Stdio::null());
    Some(command)
}

#[test]
fn who_may_not_write_is_told_and_writes_nothing() {
    let site = TempSite::new();
    fs::create_dir(site.path("conf")).expect("made");
    site.write(
        "conf/circus.ini",
        format!("{}{BODY}", site.circus_section()),
    );
    let run = |more: &[&str]| {
        let mut command = command(&site, SCALE);
        command
            .args(["--config", "conf/circus.ini", "--json"])
            .args(more);
        as_nobody(&site, &command).map(finish)
    };
    let set = |name: &str, mode, owner: (u32, u32)| {
        let path = site.path(name);
        // In this order: a change of owner clears mode bits.
        if chown(&path, Some(owner.0), Some(owner.1)).is_ok() {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        }
    };
    fs::set_permissions(site.dir(), fs::Permissions::from_mode(0o755)).expect("set");
    let nobody = (65534, 65534);
    let before = look(&site.path("conf"));
    for (directory, file, why) in [
        // The file itself.
        ((0o777, (0, 0)), (0o644, (0, 0)), "cannot write /"),
        ((0o777, (0, 0)), (0o444, nobody), "cannot write /"),
        // Its directory.
        (
            (0o755, (0, 0)),
            (0o666, (0, 0)),
            "cannot create a new file in /",
        ),
        (
            (0o555, (0, 0)),
            (0o666, nobody),
            "cannot create a new file in /",
        ),
        // Not without losing its owner or group.
        (
            (0o777, (0, 0)),
            (0o666, (0, 0)),
            "lose its owner (user 0, group 0)",
        ),
        (
            (0o777, (0, 0)),
            (0o666, (65534, 0)),
            "lose its owner (user 65534, group 0)",
        ),
        // Not in a directory where everybody keeps their own.
        ((0o1777, (0, 0)), (0o666, (0, 65534)), "lose its owner"),
    ] {
        set("conf", directory.0, directory.1);
        set("conf/circus.ini", file.0, file.1);
        let Some(run) = run(&[]) else { return };
        assert_refused(&run, &[why]);
        assert_eq!(look(&site.path("conf")), before, "{why}");
    }
    // A directory that is only to be passed through is enough where there is nothing to write.
    set("conf", 0o711, (0, 0));
    set("conf/circus.ini", 0o644, (0, 0));
    let mut nothing = command(&site, &["web", "--procs", "2", "--no-live"]);
    nothing.args(["--config", "conf/circus.ini", "--json"]);
    let Some(nothing) = as_nobody(&site, &nothing) else {
        return;
    };
    let nothing = finish(nothing);
    assert_eq!(
        (nothing.code, &nothing.report()["changed"]),
        (0, &json!(false)),
        "{}",
        nothing.stdout
    );
    // And who may, does.
    set("conf", 0o755, nobody);
    set("conf/circus.ini", 0o640, nobody);
    let Some(run) = run(&["--backup"]) else {
        return;
    };
    let report = assert_changed(&run);
    let backup = report["backups"][0].as_str().expect("a backup");
    assert_eq!(fs::read(backup).expect("it is there"), before["circus.ini"]);
}

#[test]
fn a_daemon_is_told_nothing_if_the_file_cannot_be_written() {
    let site = TempSite::new();
    site.ini(BODY);
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    fs::remove_file(site.path("circus.ini")).expect("removed");
    fs::create_dir(site.path("elsewhere")).expect("made");
    fs::write(
        site.path("elsewhere/real.ini"),
        format!("{}{BODY}", site.circus_section()),
    )
    .expect("written");
    symlink("elsewhere/real.ini", site.path("circus.ini")).expect("linked");
    if !set_flags(&site.path("elsewhere/real.ini"), IFlags::IMMUTABLE, true) {
        return skip("this file system has no immutable files, or this user may not make them");
    }
    let run = run::ensure(&site, &["web", "--procs", "3"]);
    assert!(set_flags(
        &site.path("elsewhere/real.ini"),
        IFlags::IMMUTABLE,
        false
    ));
    assert_refused(&run, &["immutable"]);
    assert_eq!(daemon.pids("web"), pids);
    expect(&site, &["web", "--procs", "3"], true);
    assert_eq!(daemon.wait_pids("web", 3).len(), 3);
    assert!(
        fs::symlink_metadata(site.path("circus.ini"))
            .expect("it is there")
            .is_symlink()
    );
}

#[test]
fn backups_and_other_names_are_in_the_report() {
    let site = TempSite::new();
    site.ini(BODY);
    let before = fs::read(site.path("circus.ini")).expect("read");
    fs::hard_link(site.path("circus.ini"), site.path("other.ini")).expect("linked");
    let report = assert_changed(&finish(file_only(&site, &["--backup"])));
    assert!(
        report["warnings"][0]
            .as_str()
            .is_some_and(|text| text.contains("has 2 names (hard links)")),
        "{report}"
    );
    let backups = report["backups"].as_array().expect("a list");
    assert_eq!(backups.len(), 1);
    let kept = backups[0].as_str().expect("a path");
    assert_eq!(fs::read(kept).expect("it is there"), before);
    assert_eq!(fs::read(site.path("other.ini")).expect("read"), before);
    // Nothing to change: nothing to keep.
    let again = finish(file_only(&site, &["--backup"])).report();
    assert_eq!(
        (&again["changed"], &again["backups"]),
        (&json!(false), &Value::Null)
    );
}

#[test]
fn a_backup_that_would_become_part_of_the_configuration_is_not_made() {
    let site = TempSite::new();
    fs::create_dir(site.path("conf.d")).expect("made");
    site.ini("include = conf.d/*\n");
    site.write("conf.d/web.ini", BODY);
    let before = (look(site.dir()), look(&site.path("conf.d")));
    assert_refused(
        &finish(file_only(&site, &["--backup"])),
        &["would be read as part of the configuration"],
    );
    assert_eq!((look(site.dir()), look(&site.path("conf.d"))), before);
    assert_changed(&finish(file_only(&site, &[])));
}

#[test]
fn the_second_run_is_told_who_is_at_it() {
    let site = TempSite::new();
    site.ini(BODY);
    fs::create_dir(site.path("links")).expect("made");
    symlink("../circus.ini", site.path("links/way.ini")).expect("linked");
    let soon = Instant::now() + Duration::from_secs(5);
    let mut locks = store::Locks::default();
    locks.file(&site.path("circus.ini"), soon).expect("free");
    let mut late = command(&site, SCALE);
    late.args(["--config", "links/way.ini", "--json", "--timeout", "0.1"]);
    let run = finish(late);
    assert_refused(
        &run,
        &[&format!(
            "another state run (process {}",
            std::process::id()
        )],
    );
    drop(locks);
}

#[test]
fn runs_through_different_names_of_a_file_do_not_mix() {
    let site = TempSite::new();
    site.ini(BODY);
    fs::create_dir(site.path("links")).expect("made");
    symlink("../circus.ini", site.path("links/way.ini")).expect("linked");
    symlink(site.dir(), site.path("links/here")).expect("linked");
    let names = ["circus.ini", "links/way.ini", "links/here/circus.ini"];
    let runs: Vec<_> = (0..12)
        .map(|number| {
            let mut command = command(&site, &["web", "--no-live"]);
            command
                .args(["--config", names[number % 3], "--json"])
                .args(["--env", &format!("OWN_{number}=x")])
                .stdout(Stdio::null());
            command.spawn().expect("it runs")
        })
        .collect();
    for mut run in runs {
        assert_eq!(run.wait().expect("it ends").code(), Some(0));
    }
    let text = fs::read_to_string(site.path("circus.ini")).expect("read");
    for number in 0..12 {
        assert!(
            text.contains(&format!("OWN_{number} = x\n")),
            "{number}: {text}"
        );
    }
    assert!(
        fs::symlink_metadata(site.path("links/way.ini"))
            .expect("there")
            .is_symlink()
    );
}
