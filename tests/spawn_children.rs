//! Children as `circ::daemon::spawn` makes them: what they have, what they do not have, and what is
//! said when they cannot be made.

mod support;

use circ::daemon::accounts;
use circ::daemon::spawn::{RLIM_INFINITY, SpawnSpec, Stage, Stdio, rlimit_resource, spawn};
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};
use serde_json::json;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A child holds for a moment, until its exec, whatever another thread just has open. A file that this
/// thread has written and executes next would be "busy" then; so the tests take turns.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A command with the environment that most tests need.
fn command(argv: &[&str]) -> SpawnSpec {
    SpawnSpec {
        argv: argv.iter().map(Into::into).collect(),
        env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
        stdin: Stdio::Null,
        ..SpawnSpec::default()
    }
}

/// Runs a child to its end; its pid, how it ended, and what it wrote to stdout.
fn run(mut spec: SpawnSpec) -> (i32, WaitStatus, String) {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    spec.stdout = Stdio::Fd(writer.as_raw_fd());
    let pid = spawn(&spec).unwrap_or_else(|error| panic!("{error}: {spec:?}"));
    drop(writer);
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    (pid, waitpid(Pid::from_raw(pid), None).unwrap(), text)
}

fn output(spec: SpawnSpec) -> String {
    run(spec).2
}

/// A line of /proc/PID/status of a child.
fn status_line(status: &str, key: &str) -> String {
    let line = status.lines().find(|line| line.starts_with(key));
    let line = line.unwrap_or_else(|| panic!("no {key} in {status}"));
    line[key.len()..]
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn it_leads_a_session_and_a_group_of_its_own() {
    let _alone = one_at_a_time();
    let (pid, status, text) = run(command(&["cat", "/proc/self/stat"]));
    assert_eq!(status, WaitStatus::Exited(Pid::from_raw(pid), 0));
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    // state, parent, group, session
    let own = std::process::id().to_string();
    let pid = pid.to_string();
    assert_eq!(fields[1..4], [own.as_str(), pid.as_str(), pid.as_str()]);
}

#[test]
fn its_environment_is_exactly_what_was_given() {
    let _alone = one_at_a_time();
    let mut spec = command(&["/usr/bin/env"]);
    spec.env = vec![("A".into(), "1".into()), ("B".into(), "x = y\u{e9}".into())];
    assert_eq!(output(spec), "A=1\nB=x = y\u{e9}\n");
    let mut spec = command(&["/usr/bin/env"]);
    spec.env.clear();
    assert_eq!(output(spec), "");
}

#[test]
fn its_directory_umask_and_name_are_as_asked() {
    let _alone = one_at_a_time();
    let directory = tempfile::tempdir().unwrap();
    let mut spec = command(&["sh", "-c", "pwd -P; umask; tr '\\0' ' ' < /proc/$$/cmdline"]);
    spec.argv[0] = "my-name".into();
    spec.executable = Some("sh".into()); // searched in PATH, as by Python
    spec.working_dir = Some(directory.path().into());
    spec.umask = Some(0o27);
    let text = output(spec);
    let mut lines = text.lines();
    let real = directory.path().canonicalize().unwrap();
    assert_eq!(lines.next(), real.to_str());
    assert_eq!(lines.next(), Some("0027"));
    assert!(lines.next().unwrap().starts_with("my-name -c "), "{text}");
}

#[test]
fn a_relative_program_is_found_from_the_new_directory() {
    let _alone = one_at_a_time();
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("here");
    std::fs::write(&script, "#!/bin/sh\necho found\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut spec = command(&["./here"]);
    spec.working_dir = Some(directory.path().into());
    assert_eq!(output(spec.clone()), "found\n");
    spec.argv = vec!["here".into()];
    spec.env = vec![("PATH".into(), "/nowhere:".into())]; // an empty part is the directory itself
    assert_eq!(output(spec), "found\n");
}

#[test]
fn only_the_kept_descriptors_are_open_and_under_their_numbers() {
    let _alone = one_at_a_time();
    let open = |flags| pipe2(flags).unwrap();
    let (kept, _a) = open(OFlag::O_CLOEXEC);
    let (leaky, _b) = open(OFlag::empty()); // as a library that forgets close-on-exec
    let mut spec = command(&["sh", "-c", "for fd in /proc/$$/fd/*; do readlink $fd; done"]);
    spec.keep_fds = vec![kept.as_raw_fd()];
    let text = output(spec);
    let link = |fd: i32| {
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        link.to_str().unwrap().to_owned()
    };
    assert!(text.contains(&link(kept.as_raw_fd())), "{text}");
    assert!(!text.contains(&link(leaky.as_raw_fd())), "{text}");
    // Standard input, output and error, the kept one, and nothing else.
    assert_eq!(text.lines().count(), 4, "{text}");
    let mut spec = command(&[
        "sh",
        "-c",
        &format!("readlink /proc/$$/fd/{}", kept.as_raw_fd()),
    ]);
    spec.keep_fds = vec![kept.as_raw_fd()];
    assert_eq!(output(spec).trim(), link(kept.as_raw_fd()));
}

#[test]
fn streams_go_where_they_are_sent() {
    let _alone = one_at_a_time();
    let mut spec = command(&["sh", "-c", "readlink /proc/$$/fd/0 /proc/$$/fd/2; cat"]);
    spec.stderr = Stdio::Null;
    assert_eq!(output(spec), "/dev/null\n/dev/null\n");
    // A socket as standard input, as `stdin_socket` gives it.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut spec = command(&["sh", "-c", "readlink /proc/$$/fd/0"]);
    spec.stdin = Stdio::Fd(socket.as_raw_fd());
    assert!(output(spec).starts_with("socket:"));
    // Streams that trade places must not overwrite each other.
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let script = format!(
        "x=$(readlink /proc/$$/fd/[012]); echo \"$x\" > /proc/$$/fd/{}",
        writer.as_raw_fd()
    );
    let mut spec = command(&["sh", "-c", &script]);
    spec.keep_fds = vec![writer.as_raw_fd()];
    (spec.stdin, spec.stdout, spec.stderr) = (Stdio::Fd(1), Stdio::Fd(2), Stdio::Fd(0));
    let own = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    let expected = [own(1), own(2), own(0)].map(|link| link.to_str().unwrap().to_owned());
    let pid = spawn(&spec).unwrap();
    drop(writer);
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    waitpid(Pid::from_raw(pid), None).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn no_signal_is_blocked_or_ignored_for_it() {
    let _alone = one_at_a_time();
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGUSR1);
    blocked.add(Signal::SIGTERM);
    blocked.thread_block().unwrap();
    let status = output(command(&["cat", "/proc/self/status"]));
    assert_eq!(status_line(&status, "SigBlk:"), "0".repeat(16));
    // Rust programs ignore SIGPIPE; a child that did would not end with its reader.
    let ignored = u64::from_str_radix(&status_line(&status, "SigIgn:"), 16).unwrap();
    assert_eq!(ignored & (1 << (Signal::SIGPIPE as u64 - 1)), 0);
    // The caller's own mask is as it was.
    let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let own = u64::from_str_radix(&status_line(&own, "SigBlk:"), 16).unwrap();
    assert_eq!(own, 1 << (10 - 1) | 1 << (15 - 1));
    blocked.thread_unblock().unwrap();
}

#[test]
fn limits_are_set_soft_and_hard() {
    let _alone = one_at_a_time();
    let mut spec = command(&["sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Ht"]);
    let kind = |name| rlimit_resource(name).unwrap();
    spec.rlimits = vec![(kind("nofile"), 99), (kind("core"), 0), (kind("cpu"), 77)];
    let text = output(spec);
    assert_eq!(text.lines().collect::<Vec<_>>(), ["99", "99", "0", "77"]);
    // "As many files as possible" cannot be had; the most the kernel gives is what is meant.
    let mut spec = command(&["sh", "-c", "ulimit -Sn; ulimit -Hn"]);
    spec.rlimits = vec![(kind("NOFILE"), RLIM_INFINITY)];
    let text = output(spec);
    let (soft, hard) = text.trim().split_once('\n').unwrap();
    assert_eq!(soft, hard);
    assert_ne!(soft, "unlimited");
}

#[test]
fn it_runs_as_its_user_with_that_users_groups() {
    let _alone = one_at_a_time();
    if !is_root() {
        return support::skip("changing the user needs root");
    }
    let ids = accounts::credentials(Some(&json!("nobody")), None).unwrap();
    let mut spec = command(&["cat", "/proc/self/status"]);
    (spec.uid, spec.gid, spec.groups) = (ids.uid, ids.gid, ids.groups);
    let status = output(spec);
    let (uid, gid) = (ids.uid.unwrap(), ids.gid.unwrap());
    assert_eq!(
        status_line(&status, "Uid:"),
        format!("{uid} {uid} {uid} {uid}")
    );
    assert_eq!(
        status_line(&status, "Gid:"),
        format!("{gid} {gid} {gid} {gid}")
    );
    assert_eq!(status_line(&status, "Groups:"), gid.to_string());
    // Chosen groups, as a user with several has them.
    let mut spec = command(&["id", "-G"]);
    (spec.uid, spec.gid, spec.groups) = (Some(12345), Some(54321), Some(vec![54321, 7, 8]));
    assert_eq!(output(spec).trim(), "54321 7 8");
}

#[test]
fn a_daemon_without_privileges_keeps_its_groups() {
    let _alone = one_at_a_time();
    // What an unprivileged daemon sees is tested in an unprivileged process: this test, run again.
    if is_root() {
        let test = std::env::current_exe().unwrap();
        let mut spec = command(&[
            "",
            "--exact",
            "a_daemon_without_privileges_keeps_its_groups",
        ]);
        // The program itself may be in a directory that only root may enter.
        let copy = tempfile::Builder::new()
            .prefix("circ-test-")
            .tempdir_in("/tmp")
            .unwrap();
        let program = copy.path().join("test");
        std::fs::copy(test, &program).unwrap();
        std::fs::set_permissions(copy.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        spec.argv[0] = program.into();
        (spec.uid, spec.gid, spec.groups) = (Some(65534), Some(65534), Some(vec![65534]));
        spec.working_dir = Some("/".into());
        let (pid, status, text) = run(spec);
        assert_eq!(status, WaitStatus::Exited(Pid::from_raw(pid), 0), "{text}");
        assert!(text.contains("1 passed"), "{text}");
        return;
    }
    let (uid, gid) = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    let mut spec = command(&["true"]);
    (spec.uid, spec.gid, spec.groups) = (Some(uid), Some(gid), Some(vec![gid, 4]));
    run(spec.clone());
    spec.uid = Some(0);
    let error = spawn(&spec).unwrap_err();
    assert_eq!(
        (error.stage, error.errno),
        (Stage::Setuid, libc_errno("EPERM"))
    );
    (spec.uid, spec.gid) = (None, Some(0));
    assert_eq!(spawn(&spec).unwrap_err().stage, Stage::Setgid);
}

fn libc_errno(name: &str) -> i32 {
    use nix::errno::Errno;
    let known = [
        Errno::EPERM,
        Errno::ENOENT,
        Errno::EACCES,
        Errno::ENOEXEC,
        Errno::EINVAL,
    ];
    let found = known.into_iter().find(|errno| format!("{errno:?}") == name);
    found.unwrap() as i32
}

/// The error that a spec gives, as (stage, errno name, text).
fn refused(spec: &SpawnSpec) -> (Stage, String, String) {
    let error = spawn(spec).expect_err("it must not start");
    let errno = format!("{:?}", nix::errno::Errno::from_raw(error.errno));
    (error.stage, errno, error.to_string())
}

#[test]
fn each_way_to_fail_says_what_and_why() {
    let _alone = one_at_a_time();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str, mode| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };

    let (stage, errno, text) = refused(&command(&["no-such-program"]));
    assert_eq!((stage, errno.as_str()), (Stage::Exec, "ENOENT"));
    assert_eq!(
        text,
        "cannot execute no-such-program (searched in PATH /usr/local/bin:/usr/bin:/bin): \
         No such file or directory"
    );

    let (stage, _, text) = refused(&command(&["/no/such/program"]));
    assert_eq!(stage, Stage::Exec);
    assert_eq!(
        text,
        "cannot execute /no/such/program: No such file or directory"
    );

    let plain = file("plain", "x", 0o644);
    let (stage, errno, text) = refused(&command(&[&plain]));
    assert_eq!((stage, errno.as_str()), (Stage::Exec, "EACCES"));
    assert!(text.contains("Permission denied"), "{text}");

    let scriptless = file("scriptless", "echo x\n", 0o755);
    let (stage, errno, _) = refused(&command(&[&scriptless]));
    assert_eq!((stage, errno.as_str()), (Stage::Exec, "ENOEXEC"));

    let orphan = file("orphan", "#!/no/interpreter -x\n", 0o755);
    let (_, errno, text) = refused(&command(&[&orphan]));
    assert_eq!(errno, "ENOENT");
    assert!(text.contains("its interpreter /no/interpreter"), "{text}");

    let mut spec = command(&["true"]);
    spec.working_dir = Some("/no/such/directory".into());
    let (stage, _, text) = refused(&spec);
    assert_eq!(stage, Stage::Chdir);
    assert_eq!(
        text,
        "cannot enter working_dir /no/such/directory: No such file or directory"
    );

    let mut spec = command(&["true"]);
    let kind = |name| rlimit_resource(name).unwrap();
    // More open files than any kernel allows, after a limit that is fine.
    spec.rlimits = vec![(kind("core"), 0), (kind("nofile"), 1 << 40)];
    let (stage, _, text) = refused(&spec);
    assert_eq!(stage, Stage::Rlimit);
    assert!(
        text.starts_with("cannot set rlimit_nofile to 1099511627776"),
        "{text}"
    );

    let mut spec = command(&["true"]);
    spec.stdout = Stdio::Fd(987_654);
    let (stage, errno, text) = refused(&spec);
    assert_eq!((stage, errno.as_str()), (Stage::Dup, "EBADF"));
    assert!(text.contains("stdout"), "{text}");

    let mut spec = command(&["true"]);
    spec.keep_fds = vec![987_654];
    let (stage, _, text) = refused(&spec);
    assert_eq!(stage, Stage::Keep);
    assert!(text.contains("987654"), "{text}");

    let (stage, errno, _) = refused(&command(&[]));
    assert_eq!((stage, errno.as_str()), (Stage::Exec, "EINVAL"));
    let (stage, errno, _) = refused(&command(&["a\0b"]));
    assert_eq!((stage, errno.as_str()), (Stage::Exec, "EINVAL"));

    if is_root() {
        let mut spec = command(&["true"]);
        spec.groups = Some(vec![0; 100_000]); // more than the kernel takes
        let (stage, errno, _) = refused(&spec);
        assert_eq!((stage, errno.as_str()), (Stage::Setgroups, "EINVAL"));
    }
}

#[test]
fn a_directory_that_forbids_does_not_hide_a_program_further_on() {
    let _alone = one_at_a_time();
    // Python tries on after EACCES, too, but reports it if nothing is found.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut spec = command(&["echo", "hello"]);
    let first = directory.path().to_str().unwrap();
    spec.env = vec![("PATH".into(), format!("{first}:/usr/bin:/bin").into())];
    assert_eq!(output(spec.clone()), "hello\n");
    spec.env = vec![("PATH".into(), format!("{first}:/nowhere").into())];
    assert_eq!(spawn(&spec).unwrap_err().errno, libc_errno("EACCES"));
}
