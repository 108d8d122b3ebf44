//! Runs a program under ptrace, counts its system calls, and kills it at one of them.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How a traced program went.
#[derive(Debug)]
pub struct Traced {
    /// System calls that were entered, by all its threads together, from its first one on. Where it was killed, the
    /// last of them was entered and not carried out.
    pub calls: usize,
    /// Its exit code; `None` if it was killed.
    pub code: Option<i32>,
}

/// Runs `program` with the command's directory and environment, and kills it (all threads, SIGKILL) on entry of the
/// `kill_at`th system call, counted from 1. Its output goes nowhere.
pub fn run(program: &Command, kill_at: Option<usize>) -> Traced {
    // Tracing belongs to a thread, and the thread must have no other children: it waits for all it has.
    std::thread::scope(|scope| {
        scope
            .spawn(|| trace(&mut waiting(program), kill_at))
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A shell that waits for a line and then becomes the program: so it can be attached to before its first system call.
fn waiting(program: &Command) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "read go; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(program.get_args())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    if let Some(directory) = program.get_current_dir() {
        command.current_dir(directory);
    }
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

// It is waited for: below, with all the others it may have.
#[allow(clippy::zombie_processes)]
fn trace(command: &mut Command, kill_at: Option<usize>) -> Traced {
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let main = Pid::from_raw(child.id() as i32);
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(main, options)
        .unwrap_or_else(|e| panic!("cannot trace process {main} ({e}); may this user use ptrace?"));
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    stdin.write_all(b"\n").expect("the shell reads its input");
    drop(stdin);
    ptrace::interrupt(main).expect("it can be stopped");

    let mut traced = Traced {
        calls: 0,
        code: None,
    };
    let mut counting = false;
    let mut alive = BTreeSet::from([main]);
    let mut inside = BTreeSet::new();
    while !alive.is_empty() {
        let all = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let status = waitpid(Pid::from_raw(-1), Some(all)).expect("a traced process to wait for");
        let (pid, signal) = match status {
            WaitStatus::Exited(pid, code) => {
                if pid == main {
                    traced.code = Some(code);
                }
                alive.remove(&pid);
                continue;
            }
            WaitStatus::Signaled(pid, ..) => {
                alive.remove(&pid);
                continue;
            }
            WaitStatus::PtraceSyscall(pid) => {
                // The stops alternate; a new thread's first one is an entry.
                let entered = inside.insert(pid);
                if !entered {
                    inside.remove(&pid);
                }
                if entered {
                    traced.calls += 1;
                    if Some(traced.calls) == kill_at {
                        kill(main, Signal::SIGKILL).expect("it is there");
                    }
                }
                (pid, None)
            }
            WaitStatus::PtraceEvent(pid, _, event) => {
                if pid == main && event == libc::PTRACE_EVENT_EXEC {
                    counting = true;
                    // Of the exec itself, only the exit is still to come.
                    inside.insert(pid);
                }
                (pid, None)
            }
            WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
            _ => continue,
        };
        alive.insert(pid);
        // A killed one is gone already.
        let _ = match counting {
            true => ptrace::syscall(pid, signal),
            false => ptrace::cont(pid, signal),
        };
    }
    traced
}
