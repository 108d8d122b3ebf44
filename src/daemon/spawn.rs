//! Starts one child process, and holds every `unsafe` block of the crate.
//!
//! # Theory of operation
//!
//! The daemon may hold thousands of descriptors and be large; copying its page tables for every
//! child (`fork`) would cost more than everything else. So the child runs on a stack of its own in
//! the daemon's memory (`clone(CLONE_VM | CLONE_VFORK)`, what glibc's `posix_spawn` does), while the
//! calling thread sleeps until the child has executed its program or given up. Two rules follow:
//!
//! * everything that allocates, looks something up or may fail for a reason of ours happens before
//!   the clone, in [`plan`]; the child only makes system calls on prepared pointers;
//! * no signal handler of the daemon may run in the child: all signals are blocked around the clone,
//!   and the child puts caught signals back to their default before it opens its mask.
//!
//! `posix_spawn` itself cannot change the user, set limits, or say *which* step failed. Here the
//! child writes the step and its errno into the shared plan, and the caller gets a [`SpawnError`].
//!
//! The steps and their order are those of Circus (`circus.process.Process.spawn` inside Python's
//! `subprocess`): streams, directory, umask, SIGPIPE and SIGXFSZ to default, new session, limits,
//! group, supplementary groups, user, descriptors, program. The program is searched in the `PATH` of
//! the *child's* environment.

mod error;
mod plan;

pub use error::{SpawnError, Stage};
pub use plan::{LISTEN, RLIM_INFINITY, SpawnSpec, Stdio, rlimit_resource};

use super::memory::code_of;
use plan::Plan;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::raw::{c_int, c_long, c_void};
use std::sync::OnceLock;

// 32-bit kernels take 16-bit ids under the system call numbers used here: refuse to be built there.
#[cfg(not(target_pointer_width = "64"))]
compile_error!("spawn.rs makes the raw user and group id system calls of 64-bit Linux");

/// Starts the child that `spec` describes and returns its pid.
///
/// Blocks only until the child has executed its program (or failed to). The child leads its own
/// session and process group, so its pid is also its session and process group id. It is a normal
/// child of this process: somebody has to `waitpid` for it. A child that failed before its program
/// ran is reaped here; a SIGCHLD for it may still be seen by the caller.
///
/// # Errors
/// The first step that failed, with its errno and what was tried.
pub fn spawn(spec: &SpawnSpec) -> Result<i32, SpawnError> {
    spawn_with(spec, close_range_works())
}

fn spawn_with(spec: &SpawnSpec, close_range: bool) -> Result<i32, SpawnError> {
    let plan = Plan::new(spec, caught_signals(), close_range)?;
    let cloned = CHILD_STACK.with(|stack| match stack {
        Ok(stack) => clone_child(&plan, stack),
        Err(errno) => Err(*errno),
    });
    let pid = match cloned {
        Ok(pid) => pid,
        Err(errno) => {
            return Err(SpawnError {
                stage: Stage::Clone,
                errno,
                what: format!("cannot start a process for {}", spec.program()),
            });
        }
    };
    match plan.failure() {
        None => Ok(pid),
        Some((stage, errno, index)) => {
            // The failed child is a zombie or about to be one; somebody else may have reaped it.
            while nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None)
                == Err(nix::errno::Errno::EINTR)
            {}
            Err(error::describe(spec, stage, errno, index))
        }
    }
}

/// The memory a child runs on until it executes its program. One a thread, used again and again:
/// the thread sleeps while its child uses it.
struct ChildStack {
    base: *mut c_void,
}

const GUARD: usize = 64 * 1024; // at least one page with every page size Linux has
const STACK: usize = 64 * 1024;

impl ChildStack {
    fn new() -> Result<ChildStack, i32> {
        // SAFETY: a fresh private anonymous mapping at an address of the kernel's choice touches no
        // memory that anything else uses.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                GUARD + STACK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(last_errno());
        }
        // SAFETY: the range is the low part of the mapping just made; nothing refers to it. Without
        // the guard (on failure) everything still works, so the result needs no check.
        unsafe { libc::mprotect(base, GUARD, libc::PROT_NONE) };
        Ok(ChildStack { base })
    }

    /// The address the child's stack starts at: it grows downwards from the end of the mapping.
    fn top(&self) -> *mut c_void {
        self.base.wrapping_byte_add(GUARD + STACK)
    }
}

impl Drop for ChildStack {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this length, and no child runs on it: the
        // thread that owns it is here, so it does not sleep in `clone_child`.
        unsafe { libc::munmap(self.base, GUARD + STACK) };
    }
}

thread_local! {
    static CHILD_STACK: Result<ChildStack, i32> = ChildStack::new();
}

/// Clones, with all signals blocked; returns the child's pid when the child is past its exec.
fn clone_child(plan: &Plan, stack: &ChildStack) -> Result<i32, i32> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let before = block_all_signals();
    // SAFETY: the child runs `child_main` on memory reserved for it, reads `plan`, which outlives the
    // call because CLONE_VFORK keeps this thread asleep until the child has left this memory (exec
    // or exit), and writes only to the plan's atomics.
    let pid = unsafe {
        libc::clone(
            child_main,
            stack.top(),
            flags,
            std::ptr::from_ref(plan).cast_mut().cast::<c_void>(),
        )
    };
    let errno = if pid < 0 { last_errno() } else { 0 };
    restore_signals(before);
    if pid < 0 { Err(errno) } else { Ok(pid) }
}

/// The life of the child up to its program. Runs in the parent's memory: no allocation, no lock, no
/// panic, nothing but system calls.
extern "C" fn child_main(arg: *mut c_void) -> c_int {
    // SAFETY: `arg` is the plan that `clone_child` passed; it lives until this function has ended.
    let plan: &Plan = unsafe { &*arg.cast::<Plan>() };
    let (stage, errno, index) = prepare_and_exec(plan);
    plan.fail(stage, errno, index);
    // SAFETY: ends this child without running anything of the parent's (no atexit, no destructors).
    unsafe { libc::_exit(127) }
}

type Failure = (Stage, i32, usize);

/// Does all steps; returns only if one failed: which, its errno, and the index of the item in it.
fn prepare_and_exec(plan: &Plan) -> Failure {
    match prepare(plan) {
        Err(failure) => failure,
        Ok(()) => exec(plan),
    }
}

fn prepare(plan: &Plan) -> Result<(), Failure> {
    streams(plan)?;
    if !plan.cwd.is_null() {
        call(Stage::Chdir, 0, || {
            // SAFETY: the plan keeps the string alive; chdir only reads it.
            unsafe { libc::syscall(libc::SYS_chdir, plan.cwd) }
        })?;
    }
    if let Some(mask) = plan.umask {
        // SAFETY: sets this process's own file mode mask; cannot fail.
        unsafe { libc::syscall(libc::SYS_umask, mask) };
    }
    default_signals(plan);
    call(Stage::Session, 0, || {
        // SAFETY: no memory involved.
        unsafe { libc::syscall(libc::SYS_setsid) }
    })?;
    for (index, (resource, value)) in plan.rlimits.iter().enumerate() {
        set_limit(*resource, *value).map_err(|errno| (Stage::Rlimit, errno, index))?;
    }
    if let Some(gid) = plan.gid {
        call(Stage::Setgid, 0, || {
            // SAFETY: the raw call changes only this process; glibc's wrapper would try to signal
            // the parent's other threads.
            unsafe { libc::syscall(libc::SYS_setgid, gid) }
        })?;
    }
    if let Some(groups) = &plan.groups {
        let set = call(Stage::Setgroups, 0, || {
            // SAFETY: the plan keeps the array alive; raw for the same reason as setgid.
            unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }
        });
        match set {
            Err((_, libc::EPERM, _)) if plan.unprivileged => {}
            other => {
                other?;
            }
        }
    }
    if let Some(uid) = plan.uid {
        call(Stage::Setuid, 0, || {
            // SAFETY: as setgid.
            unsafe { libc::syscall(libc::SYS_setuid, uid) }
        })?;
    }
    close_others(plan)
}

/// Puts the planned descriptors on 0, 1 and 2.
fn streams(plan: &Plan) -> Result<(), Failure> {
    // A source that is itself 0, 1 or 2 could be overwritten by an earlier move: lift it first.
    let mut moves = plan.moves;
    for (source, target) in moves.iter_mut().flatten() {
        if (0..3).contains(source) && source != target {
            let lifted = call(Stage::Dup, *target as usize, || {
                fcntl(*source, libc::F_DUPFD_CLOEXEC, 3)
            })?;
            *source = lifted as RawFd;
        }
    }
    for (source, target) in moves.iter().flatten() {
        call(Stage::Dup, *target as usize, || {
            if source == target {
                return fcntl(*source, libc::F_SETFD, 0);
            }
            // SAFETY: descriptors of this process only (the table is the child's own copy).
            unsafe { libc::syscall(libc::SYS_dup3, *source, *target, 0) }
        })?;
    }
    Ok(())
}

/// What the parent catches becomes default, like the two that Python resets; then nothing is blocked.
fn default_signals(plan: &Plan) {
    for signal in 1..=64 {
        if plan.default_signals & (1u64 << (signal - 1)) != 0 {
            // SAFETY: an all-zero sigaction is valid and means SIG_DFL; the child has its own table
            // of handlers (no CLONE_SIGHAND), so the parent's stay.
            unsafe {
                let action: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
    }
    restore_signals(0);
}

/// Soft and hard limit to `value`. If "unlimited" open files is refused, the present hard limit is
/// what the caller gets, as in Circus: the kernel has an upper bound there.
fn set_limit(resource: u32, value: u64) -> Result<(), i32> {
    let prlimit = |new: *const libc::rlimit64, old: *mut libc::rlimit64| {
        // SAFETY: both pointers are null or point to a live rlimit64 of the closure's caller.
        unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, new, old) }
    };
    let limit = |value| libc::rlimit64 {
        rlim_cur: value,
        rlim_max: value,
    };
    if prlimit(&limit(value), std::ptr::null_mut()) == 0 {
        return Ok(());
    }
    let errno = last_errno();
    if resource != libc::RLIMIT_NOFILE || value != RLIM_INFINITY {
        return Err(errno);
    }
    let mut present = limit(0);
    if prlimit(std::ptr::null(), &mut present) == 0
        && prlimit(&limit(present.rlim_max), std::ptr::null_mut()) == 0
    {
        return Ok(());
    }
    Err(last_errno())
}

/// Marks everything above 2 for closing at exec, except what the child is meant to have.
fn close_others(plan: &Plan) -> Result<(), Failure> {
    match &plan.open_fds {
        None => {
            call(Stage::Close, 0, || close_range(3, u32::MAX))?;
        }
        Some(open) => {
            for fd in open {
                // A descriptor that has gone meanwhile needs no closing.
                fcntl(*fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
    for (index, fd) in plan.keep_fds.iter().enumerate() {
        call(Stage::Keep, index, || fcntl(*fd, libc::F_SETFD, 0))?;
    }
    for (source, target) in &plan.places {
        call(Stage::Place, *target as usize, || {
            // SAFETY: descriptors of this process only (the table is the child's own copy).
            unsafe { libc::syscall(libc::SYS_dup3, source.as_raw_fd(), *target, 0) }
        })?;
    }
    // SAFETY: takes and touches nothing; raw because glibc has its own idea of who this is.
    let pid = unsafe { libc::syscall(libc::SYS_getpid) };
    plan.tell_pid(pid as u32);
    Ok(())
}

/// Tries each candidate as Python does: "not there" goes on to the next directory, and of the other
/// errors the first is the one reported.
fn exec(plan: &Plan) -> Failure {
    let mut last = libc::ENOENT;
    let mut first_real = 0;
    for candidate in &plan.candidates {
        // SAFETY: path, argv and envp are null-terminated and owned by the plan; on success this
        // memory is left for good, on failure nothing was written.
        unsafe {
            libc::syscall(
                libc::SYS_execve,
                *candidate,
                plan.argv.as_ptr(),
                plan.envp.as_ptr(),
            )
        };
        last = last_errno();
        if last != libc::ENOENT && last != libc::ENOTDIR && first_real == 0 {
            first_real = last;
        }
    }
    (
        Stage::Exec,
        if first_real != 0 { first_real } else { last },
        0,
    )
}

/// One system call of a step; its error carries the step and the index of the item.
fn call(stage: Stage, index: usize, body: impl FnOnce() -> c_long) -> Result<c_long, Failure> {
    match body() {
        result if result >= 0 => Ok(result),
        _ => Err((stage, last_errno(), index)),
    }
}

fn fcntl(fd: RawFd, command: c_int, value: c_int) -> c_long {
    // SAFETY: the three commands used here (F_DUPFD_CLOEXEC, F_SETFD) take an integer, no pointer.
    unsafe { libc::syscall(libc::SYS_fcntl, fd, command, value) }
}

fn close_range(first: u32, last: u32) -> c_long {
    // SAFETY: with this flag the call closes nothing; it only marks descriptors of this process.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            last,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    }
}

/// A duplicate of a descriptor with a number from `above` on, closed on exec.
fn duplicate_above(fd: RawFd, above: RawFd) -> Result<OwnedFd, i32> {
    match fcntl(fd, libc::F_DUPFD_CLOEXEC, above) {
        // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
        new if new >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(new as RawFd) }),
        _ => Err(last_errno()),
    }
}

/// Takes over a descriptor that this process was started with; from here on it is closed on exec.
///
/// # Errors
/// Nothing is open under this number, or it is one of the standard streams.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    if fd <= 2 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    match fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) {
        // SAFETY: it is open, and the caller takes each number once, before anything of this process has opened one.
        0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A duplicate of a descriptor that this process was started with: whoever speaks of its number may do so again.
///
/// # Errors
/// It is not open.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers, and what it returns is a new descriptor that nobody else knows.
    unsafe {
        match libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) {
            -1 => Err(io::Error::last_os_error()),
            copy => Ok(OwnedFd::from_raw_fd(copy)),
        }
    }
}

/// Whether the kernel (5.11 and later) and a seccomp filter let us mark all descriptors in one call.
fn close_range_works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    // No descriptor has these numbers: the call changes nothing and only says whether it exists.
    *WORKS.get_or_init(|| close_range(u32::MAX - 1, u32::MAX) == 0)
}

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// The signals (bit n-1 for signal n) for which this process has a handler of its own.
fn caught_signals() -> u64 {
    let mut caught = 0;
    for signal in 1..=64 {
        // SAFETY: a null new action only reads the present one into `old`, a valid place for it.
        let (result, old) = unsafe {
            let mut old: libc::sigaction = std::mem::zeroed();
            (libc::sigaction(signal, std::ptr::null(), &mut old), old)
        };
        if result == 0 && old.sa_sigaction != libc::SIG_DFL && old.sa_sigaction != libc::SIG_IGN {
            caught |= 1u64 << (signal - 1);
        }
    }
    caught
}

/// Blocks every signal in this thread, glibc's internal ones too (hence the raw call), and returns
/// the mask from before.
fn block_all_signals() -> u64 {
    let all = u64::MAX;
    let mut before = 0u64;
    // SAFETY: both pointers are to live 8-byte masks, the size the kernel is told.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            &raw mut before,
            8usize,
        )
    };
    before
}

/// Sets this thread's signal mask.
fn restore_signals(mask: u64) {
    // SAFETY: as in `block_all_signals`; the null pointer asks for no old mask.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            std::ptr::null_mut::<u64>(),
            8usize,
        )
    };
}

/// Sends a signal of any number, real-time signals included (which nix's enumeration does not have).
///
/// # Errors
/// What kill(2) says.
pub fn send_signal(pid: i32, signum: i32) -> io::Result<()> {
    // SAFETY: kill takes two numbers and touches no memory of ours.
    match unsafe { libc::kill(pid, signum) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes all threads share two heaps. The allocator would give each thread that starts one of its own, eight for each
/// processor, and what was freed in a heap stays with it: a daemon with threads that come and go would grow until every
/// heap has seen its busiest moment. What is large never goes into a heap: by itself the allocator learns to put it there
/// once it was freed, and keeps it. To be called before the first thread starts.
pub fn share_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes numbers, and no other thread is there yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
    }
}

/// Gives free memory of the heaps back, and lets go of the pages of this program's own code and constants: those that are
/// needed again come back from the page cache by themselves, those that only the last work needed (options, the
/// configuration's parsers) do not. A daemon is counted by what it has mapped. Leaves the code alone where the kernel does
/// not tell where its pages are.
pub fn give_back() {
    static CODE: OnceLock<Vec<Range<usize>>> = OnceLock::new();
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and returns free memory only, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
    let code = CODE.get_or_init(|| {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
        code_of(&maps, &program.to_string_lossy())
    });
    for range in code {
        // SAFETY: the range is a private mapping of this program's file that was never writable (see `code_of`) and stays
        // for the program's life, so no page of it differs from the file: what is read there again is what was there
        // before.
        unsafe {
            libc::madvise(
                range.start as *mut libc::c_void,
                range.len(),
                libc::MADV_DONTNEED,
            );
        }
    }
}

/// Which of the two processes returned from [`fork_detach`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForkSide {
    /// The process that was invoked; it should report and exit.
    Invoker,
    /// The new process: in a session of its own which it does not lead, child of init.
    Daemon,
}

/// The double fork of a daemon: returns once in the invoking process and once in the daemon.
///
/// # Errors
/// A fork that failed, or a process that already has several threads: only the calling one would
/// live on in the daemon, with the locks of the others held for ever.
pub fn fork_detach() -> io::Result<ForkSide> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(io::Error::other(format!(
            "cannot go to the background with {threads} threads running"
        )));
    }
    // SAFETY: this process has one thread, so the child may go on as an ordinary program.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let _ = nix::unistd::setsid(); // fails only for a process group leader: a new child is none
            // SAFETY: as above. The session leader ends at once (without running the invoker's
            // exit handlers), so the daemon can never get a controlling terminal.
            unsafe {
                match libc::fork() {
                    -1 => libc::_exit(last_errno().clamp(1, 255)),
                    0 => Ok(ForkSide::Daemon),
                    _ => libc::_exit(0),
                }
            }
        }
        child => match nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None) {
            Ok(nix::sys::wait::WaitStatus::Exited(_, 0)) | Err(_) => Ok(ForkSide::Invoker),
            Ok(nix::sys::wait::WaitStatus::Exited(_, errno)) => {
                Err(io::Error::from_raw_os_error(errno))
            }
            Ok(other) => Err(io::Error::other(format!(
                "the process on the way to the background ended: {other:?}"
            ))),
        },
    }
}

#[cfg(test)]
mod tests;
