//! `circ daemon --daemon`, `--pidfile` and `--log-output`, as an init script uses them.

mod support;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::unistd::pipe2;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use support::{Process, TempSite, wait_for};

fn start(site: &TempSite, ini: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_circ"))
        .args(["daemon", "--daemon"])
        .arg(ini)
        .args(more)
        .current_dir(site.dir())
        .stdin(Stdio::null())
        .output()
        .expect("circ starts")
}

/// The daemon that left its pid in this file.
struct Background(Process);

impl Background {
    fn of(pidfile: &Path) -> Background {
        let pid = std::fs::read_to_string(pidfile).expect("the daemon has written its pid file");
        let process = Process::find(pid.trim().parse().unwrap());
        Background(process.expect("the daemon is running"))
    }

    fn stop(&self) {
        self.0.signal(Signal::SIGTERM);
        wait_for("the daemon to end", || (!self.0.is_running()).then_some(()));
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.signal(Signal::SIGTERM);
        let _ = support::wait_for_within(std::time::Duration::from_secs(20), || {
            (!self.0.is_running()).then_some(())
        });
        self.0.signal(Signal::SIGKILL);
    }
}

#[test]
fn the_invoked_process_returns_when_the_daemon_is_ready() {
    let site = TempSite::ipc();
    let ini = site.ini("[watcher:w]\ncmd = sleep 1000\n");
    let (pidfile, log) = (site.path("pid"), site.path("log"));
    let options = ["--pidfile", "pid", "--log-output", "log"];
    let out = start(&site, &ini, &options);
    let daemon = Background::of(&pidfile);
    // The invoked process's output has ended: the daemon holds on to none of its streams.
    assert!(out.status.success(), "{out:?}");
    assert!(out.stdout.is_empty() && out.stderr.is_empty(), "{out:?}");

    // No terminal to get: in a session of its own that it does not lead.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.0.pid)).unwrap();
    let session = stat.rsplit(')').next().unwrap().split_whitespace().nth(3);
    let session: i32 = session.unwrap().parse().unwrap();
    assert_ne!(session, daemon.0.pid);
    assert_ne!(session, nix::unistd::getsid(None).unwrap().as_raw());
    for fd in 0..3 {
        let link = std::fs::read_link(format!("/proc/{}/fd/{fd}", daemon.0.pid)).unwrap();
        assert_eq!(link, Path::new("/dev/null"));
    }
    wait_for("its worker", || {
        let workers = support::children(daemon.0.pid);
        workers
            .iter()
            .any(|worker| worker.comm == "sleep")
            .then_some(())
    });

    // A second one on the same pid file is refused on the terminal, by name, and harms nothing.
    let other = TempSite::ipc();
    let second = start(
        &other,
        &other.ini(""),
        &["--pidfile", pidfile.to_str().unwrap()],
    );
    let text = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(
        text.contains(&format!("running process {} (", daemon.0.pid)),
        "{text}"
    );
    assert!(daemon.0.is_running() && pidfile.exists());

    // logrotate moves the file away; the next line goes to a new one.
    std::fs::rename(&log, site.path("log.1")).unwrap();
    daemon.stop();
    assert!(!pidfile.exists());
    let text = std::fs::read_to_string(&log).expect("the log was opened again");
    assert!(
        text.contains(&format!(" circus[{}] [INFO] stopped", daemon.0.pid)),
        "{text}"
    );
}

#[test]
fn a_start_that_fails_in_the_background_is_told_to_the_terminal() {
    let site = TempSite::ipc();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ini = site.ini(&format!("[socket:web]\nhost = 127.0.0.1\nport = {port}\n"));
    let out = start(&site, &ini, &["--pidfile", "pid"]);
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(
        text.contains(&format!("socket web to 127.0.0.1:{port}")),
        "{text}"
    );
    assert!(text.contains("Address already in use"), "{text}");
    assert!(!site.path("pid").exists());
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let site = TempSite::ipc();
    let ini = site.ini("[watcher:w]\ncmd = sleep 1000\n");
    // Standard error is a pipe that is full before the daemon writes its first line.
    let (mut reader, writer) = pipe2(OFlag::O_CLOEXEC)
        .map(|(r, w)| (File::from(r), w))
        .unwrap();
    let size = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut filler = File::from(writer.try_clone().unwrap());
    filler
        .write_all(&vec![b'x'; usize::try_from(size).unwrap()])
        .unwrap();
    drop(filler);
    let mut child = Command::new(env!("CARGO_BIN_EXE_circ"))
        .args(["daemon", "--log-level", "debug", "--pidfile", "pid"])
        .arg(&ini)
        .current_dir(site.dir())
        .stdin(Stdio::null())
        .stderr(writer)
        .spawn()
        .expect("circ starts");
    let pidfile = site.path("pid");
    wait_for("the pid file", || {
        let text = std::fs::read_to_string(&pidfile).ok()?;
        text.ends_with('\n').then_some(())
    });
    let daemon = Background::of(&pidfile);
    let worker = wait_for("its worker", || {
        let mut workers = support::children(daemon.0.pid).into_iter();
        workers.find(|worker| worker.comm == "sleep")
    });
    // It still supervises, and ends, although its last words find no way out either.
    worker.signal(Signal::SIGKILL);
    wait_for("a new worker", || {
        let workers = support::children(daemon.0.pid);
        workers
            .iter()
            .any(|now| now.comm == "sleep" && now.pid != worker.pid)
            .then_some(())
    });
    daemon.0.signal(Signal::SIGTERM);
    let status = wait_for("the daemon to end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(!text.contains("circus["), "the pipe was not full: {text}");
}
