//! Hundreds of children, good and bad: nothing of them stays behind. A test program of its own, so
//! that it can count all descriptors and children of its process.

use circ::daemon::spawn::{SpawnSpec, Stdio, spawn};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

fn count(directory: &str) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

fn command(program: &str) -> SpawnSpec {
    SpawnSpec {
        argv: vec![program.into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        stdin: Stdio::Null,
        ..SpawnSpec::default()
    }
}

#[test]
fn five_hundred_children_leave_nothing() {
    let good = command("true");
    let mut bad_directory = good.clone();
    bad_directory.working_dir = Some("/no/such/directory".into());
    // What is kept for the whole life (/dev/null, the child's stack) is there after the first one.
    waitpid(Pid::from_raw(spawn(&good).unwrap()), None).unwrap();
    let (fds, maps) = (count("/proc/self/fd"), maps());

    for _ in 0..100 {
        let pids: Vec<i32> = (0..5).map(|_| spawn(&good).unwrap()).collect();
        for pid in pids {
            let pid = Pid::from_raw(pid);
            assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)));
        }
        assert!(spawn(&command("no-such-program")).is_err());
        assert!(spawn(&bad_directory).is_err());
    }

    assert_eq!(count("/proc/self/fd"), fds);
    assert!(
        self::maps() <= maps + 8,
        "memory maps grew: {maps} {}",
        self::maps()
    );
    // The children that failed have been waited for already.
    let left = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG));
    assert_eq!(left, Err(nix::errno::Errno::ECHILD));

    // Threads spawn side by side, each on a stack of its own that goes with the thread.
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..50 {
                    let pid = Pid::from_raw(spawn(&command("true")).unwrap());
                    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(count("/proc/self/fd"), fds);
}

fn maps() -> usize {
    std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count()
}
