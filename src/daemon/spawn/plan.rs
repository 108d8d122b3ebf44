//! What a child shall be, and everything worked out for it before it exists.

use super::error::{SpawnError, Stage};
use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::raw::c_char;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicUsize, Ordering};

/// "No limit" as a value of [`SpawnSpec::rlimits`].
pub const RLIM_INFINITY: u64 = libc::RLIM64_INFINITY;

/// Where one of the standard streams of a child leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stdio {
    /// To where this process's own leads.
    #[default]
    Inherit,
    /// To /dev/null (Circus's `close_child_stdin` and its brothers).
    Null,
    /// To what this descriptor of this process leads to. It stays open here.
    Fd(RawFd),
}

/// One child process, described in full. Nothing is looked up when it is spawned: names of users and
/// groups are resolved before (`daemon::accounts`).
#[derive(Debug, Clone, Default)]
pub struct SpawnSpec {
    /// The arguments, the program's name first.
    pub argv: Vec<OsString>,
    /// The program to execute, if it is not `argv[0]`.
    pub executable: Option<OsString>,
    /// The directory to start in; `None` is the daemon's own.
    pub working_dir: Option<OsString>,
    /// The whole environment; nothing is added to it.
    pub env: Vec<(OsString, OsString)>,
    /// The user to become.
    pub uid: Option<u32>,
    /// The group to become.
    pub gid: Option<u32>,
    /// The supplementary groups to have; `None` keeps the daemon's. A daemon without privileges
    /// cannot set them, and goes on without, as Circus does.
    pub groups: Option<Vec<u32>>,
    /// Limits (kind from [`rlimit_resource`]; soft and hard value), set in this order.
    pub rlimits: Vec<(u32, u64)>,
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
    /// Descriptors that the child has too, under the same numbers. All others above 2 are closed.
    pub keep_fds: Vec<RawFd>,
    /// Descriptors that the child has under another number: (number here, number there, above 2). There nothing of
    /// `keep_fds` must have such a number.
    pub places: Vec<(RawFd, RawFd)>,
    /// The names of the sockets that `places` puts at 3, 4, ...: the child is told of them as systemd tells it
    /// (`LISTEN_FDS`, `LISTEN_FDNAMES`, and `LISTEN_PID`, which only the child knows).
    pub listen_names: Vec<String>,
    /// The file mode mask; `None` is the daemon's own.
    pub umask: Option<u32>,
}

impl SpawnSpec {
    /// The program as an error message names it.
    pub(super) fn program(&self) -> String {
        let program = self.executable.as_ref().or(self.argv.first());
        match program {
            Some(text) => text.to_string_lossy().into_owned(),
            None => "(no command)".to_owned(),
        }
    }

    /// The text of PATH in the child's environment.
    pub(super) fn path(&self) -> &[u8] {
        self.env
            .iter()
            .rfind(|(key, _)| key == "PATH")
            .map_or(b"/bin:/usr/bin", |(_, value)| value.as_bytes())
    }

    /// The files that may be the program, in the order they are tried (`os.get_exec_path`).
    pub(super) fn candidates(&self) -> Vec<Vec<u8>> {
        let program = match self.executable.as_ref().or(self.argv.first()) {
            Some(program) => program.as_bytes(),
            None => return Vec::new(),
        };
        if program.contains(&b'/') {
            return vec![program.to_vec()];
        }
        self.path()
            .split(|byte| *byte == b':')
            .map(|directory| {
                let mut file = directory.to_vec();
                if !file.is_empty() && !file.ends_with(b"/") {
                    file.push(b'/');
                }
                file.extend_from_slice(program);
                file
            })
            .collect()
    }
}

/// The kind of limit that Circus's `rlimit_NAME` means (`nofile`, `AS`, …; any case), as Python's
/// `resource` module knows them; `None` for a name it does not have.
pub fn rlimit_resource(name: &str) -> Option<u32> {
    Some(match name.to_ascii_uppercase().as_str() {
        "AS" => libc::RLIMIT_AS,
        "CORE" => libc::RLIMIT_CORE,
        "CPU" => libc::RLIMIT_CPU,
        "DATA" => libc::RLIMIT_DATA,
        "FSIZE" => libc::RLIMIT_FSIZE,
        "MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "NICE" => libc::RLIMIT_NICE,
        "NOFILE" | "OFILE" => libc::RLIMIT_NOFILE,
        "NPROC" => libc::RLIMIT_NPROC,
        "RSS" => libc::RLIMIT_RSS,
        "RTPRIO" => libc::RLIMIT_RTPRIO,
        "RTTIME" => libc::RLIMIT_RTTIME,
        "SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "STACK" => libc::RLIMIT_STACK,
        _ => return None,
    })
}

/// A [`SpawnSpec`] as the child needs it: pointers and numbers only. The pointers lead into `owned`.
pub(super) struct Plan {
    pub argv: Vec<*const c_char>,
    pub envp: Vec<*const c_char>,
    pub candidates: Vec<*const c_char>,
    /// Null: stay where we are.
    pub cwd: *const c_char,
    /// (source, target) for each stream that is not inherited.
    pub moves: [Option<(RawFd, RawFd)>; 3],
    pub keep_fds: Vec<RawFd>,
    /// (source, target); every source is a duplicate above every target.
    pub places: Vec<(OwnedFd, RawFd)>,
    /// Where the child writes its pid into its environment; ends with NUL, filled with NUL.
    pub listen_pid: Option<Box<[AtomicU8]>>,
    /// Open descriptors above 2, where the kernel cannot mark them all in one call.
    pub open_fds: Option<Vec<RawFd>>,
    /// Bit n-1: signal n becomes default.
    pub default_signals: u64,
    pub rlimits: Vec<(u32, u64)>,
    pub gid: Option<u32>,
    pub groups: Option<Vec<u32>>,
    pub uid: Option<u32>,
    pub umask: Option<u32>,
    /// This process is not root: it may not set supplementary groups.
    pub unprivileged: bool,
    failed_stage: AtomicU32,
    failed_errno: AtomicI32,
    failed_index: AtomicUsize,
    _owned: Vec<CString>,
    _null: Option<OwnedFd>,
}

impl Plan {
    pub fn new(spec: &SpawnSpec, caught: u64, close_range: bool) -> Result<Plan, SpawnError> {
        if spec.argv.is_empty() {
            return Err(SpawnError::new(
                Stage::Exec,
                libc::EINVAL,
                "cannot execute an empty command",
            ));
        }
        let mut owned = Vec::with_capacity(spec.argv.len() + spec.env.len() + 8);
        let mut own = |bytes: Vec<u8>, what: &str| -> Result<*const c_char, SpawnError> {
            let text = CString::new(bytes).map_err(|_| {
                let what = format!("cannot execute {}: NUL byte in {what}", spec.program());
                SpawnError::new(Stage::Exec, libc::EINVAL, what)
            })?;
            // The pointer is to the heap: it stays valid when the CString moves into the vector.
            let pointer = text.as_ptr();
            owned.push(text);
            Ok(pointer)
        };
        let mut argv = Vec::with_capacity(spec.argv.len() + 1);
        for argument in &spec.argv {
            argv.push(own(argument.as_bytes().to_vec(), "an argument")?);
        }
        argv.push(std::ptr::null());
        let mut envp = Vec::with_capacity(spec.env.len() + 1);
        let told = |key: &OsString| {
            !spec.listen_names.is_empty() && LISTEN.iter().any(|name| *key == **name)
        };
        for (key, value) in spec.env.iter().filter(|(key, _)| !told(key)) {
            let mut text = Vec::with_capacity(key.len() + value.len() + 1);
            text.extend_from_slice(key.as_bytes());
            if key.is_empty() || text.contains(&b'=') {
                let what = format!(
                    "cannot execute {}: {:?} is no name for an environment variable",
                    spec.program(),
                    key
                );
                return Err(SpawnError::new(Stage::Exec, libc::EINVAL, what));
            }
            text.push(b'=');
            text.extend_from_slice(value.as_bytes());
            envp.push(own(text, "the environment")?);
        }
        let listen_pid = (!spec.listen_names.is_empty()).then(listen_pid);
        if let Some(text) = &listen_pid {
            let count = format!("LISTEN_FDS={}", spec.listen_names.len());
            envp.push(own(count.into_bytes(), "the environment")?);
            let names: Vec<String> = spec
                .listen_names
                .iter()
                .map(|n| n.replace(':', "_"))
                .collect();
            let names = format!("LISTEN_FDNAMES={}", names.join(":"));
            envp.push(own(names.into_bytes(), "a name of a socket")?);
            // the child writes its pid through the atomics before the kernel reads the text
            envp.push(text.as_ptr().cast::<c_char>());
        }
        envp.push(std::ptr::null());
        let mut candidates = Vec::new();
        for file in spec.candidates() {
            candidates.push(own(file, "the program's name")?);
        }
        let cwd = match &spec.working_dir {
            None => std::ptr::null(),
            Some(directory) => own(directory.as_bytes().to_vec(), "working_dir")?,
        };
        let (moves, null) = streams(spec)?;
        let places = lifted(spec)?;
        Ok(Plan {
            argv,
            envp,
            candidates,
            cwd,
            moves,
            keep_fds: spec.keep_fds.iter().copied().filter(|fd| *fd > 2).collect(),
            places,
            listen_pid,
            open_fds: if close_range { None } else { Some(open_fds()) },
            default_signals: caught | bit(libc::SIGPIPE) | bit(libc::SIGXFSZ),
            rlimits: spec.rlimits.clone(),
            gid: spec.gid,
            groups: spec.groups.clone(),
            uid: spec.uid,
            umask: spec.umask,
            unprivileged: !nix::unistd::geteuid().is_root(),
            failed_stage: AtomicU32::new(u32::MAX),
            failed_errno: AtomicI32::new(0),
            failed_index: AtomicUsize::new(0),
            _owned: owned,
            _null: null,
        })
    }

    /// Called in the child: notes why it gives up.
    pub fn fail(&self, stage: Stage, errno: i32, index: usize) {
        self.failed_errno.store(errno, Ordering::Relaxed);
        self.failed_index.store(index, Ordering::Relaxed);
        self.failed_stage.store(stage as u32, Ordering::Release);
    }

    /// What the child noted, if it gave up.
    pub fn failure(&self) -> Option<(Stage, i32, usize)> {
        let stage = Stage::from_number(self.failed_stage.load(Ordering::Acquire))?;
        Some((
            stage,
            self.failed_errno.load(Ordering::Relaxed),
            self.failed_index.load(Ordering::Relaxed),
        ))
    }
}

/// What tells a program of the sockets it was handed (sd_listen_fds(3)).
pub const LISTEN: [&str; 3] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];

const LISTEN_PID: &[u8] = b"LISTEN_PID=";

/// `LISTEN_PID=` with room for every pid, and a NUL behind it.
fn listen_pid() -> Box<[AtomicU8]> {
    let room = [0; i32::MAX.ilog10() as usize + 2];
    let text = LISTEN_PID.iter().copied().chain(room);
    text.map(AtomicU8::new).collect()
}

impl Plan {
    /// Called in the child: completes `LISTEN_PID=`.
    pub fn tell_pid(&self, pid: u32) {
        let Some(text) = &self.listen_pid else {
            return;
        };
        let digits = pid.checked_ilog10().unwrap_or(0);
        let mut rest = pid;
        for index in (0..=digits as usize).rev() {
            if let Some(byte) = text.get(LISTEN_PID.len() + index) {
                byte.store(b'0' + (rest % 10) as u8, Ordering::Relaxed);
            }
            rest /= 10;
        }
    }
}

/// Duplicates of what has a place, above all places, so that no place is taken before its turn.
fn lifted(spec: &SpawnSpec) -> Result<Vec<(OwnedFd, RawFd)>, SpawnError> {
    let above = spec.places.iter().map(|(_, target)| target + 1).max();
    let above = above.unwrap_or(3).max(3);
    let duplicate = |source: RawFd| {
        super::duplicate_above(source, above).map_err(|errno| {
            let what = format!(
                "cannot duplicate descriptor {source} for {}",
                spec.program()
            );
            SpawnError::new(Stage::Keep, errno, what)
        })
    };
    let places = spec.places.iter();
    places
        .map(|(source, target)| Ok((duplicate(*source)?, *target)))
        .collect()
}

fn bit(signal: i32) -> u64 {
    1u64 << (signal - 1)
}

type Moves = [Option<(RawFd, RawFd)>; 3];

/// Which descriptor goes to which of 0, 1, 2; and an owner for one that lives only for this spawn.
fn streams(spec: &SpawnSpec) -> Result<(Moves, Option<OwnedFd>), SpawnError> {
    let mut moves = [None; 3];
    let mut temporary = None;
    for (target, stream) in [spec.stdin, spec.stdout, spec.stderr]
        .into_iter()
        .enumerate()
    {
        let source = match stream {
            Stdio::Inherit => continue,
            Stdio::Fd(fd) => fd,
            Stdio::Null => match dev_null() {
                Ok(fd) => fd,
                // No /dev (a bare chroot): a pipe that nobody writes to reads as empty, too.
                Err(_) if target == 0 => {
                    let pipe = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
                    let (reader, _) = pipe.map_err(|errno| {
                        let what = "cannot make an empty standard input";
                        SpawnError::new(Stage::Dup, errno as i32, what)
                    })?;
                    let raw = reader.as_raw_fd();
                    temporary = Some(reader);
                    raw
                }
                Err(errno) => {
                    return Err(SpawnError::new(Stage::Dup, errno, "cannot open /dev/null"));
                }
            },
        };
        moves[target] = Some((source, target as RawFd));
    }
    Ok((moves, temporary))
}

/// /dev/null, opened once for the life of the process.
fn dev_null() -> Result<RawFd, i32> {
    static NULL: OnceLock<File> = OnceLock::new();
    if let Some(file) = NULL.get() {
        return Ok(file.as_raw_fd());
    }
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| error.raw_os_error().unwrap_or(0))?;
    Ok(NULL.get_or_init(|| file).as_raw_fd())
}

/// The descriptors above 2 that this process has open now.
fn open_fds() -> Vec<RawFd> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        // No /proc either: every number that a default limit allows.
        return (3..1024).collect();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(program: &str, path: Option<&str>) -> SpawnSpec {
        SpawnSpec {
            argv: vec![program.into()],
            env: path
                .map(|path| ("PATH".into(), path.into()))
                .into_iter()
                .collect(),
            ..SpawnSpec::default()
        }
    }

    fn candidates(program: &str, path: Option<&str>) -> Vec<String> {
        let spec = spec(program, path);
        spec.candidates()
            .into_iter()
            .map(|file| String::from_utf8(file).unwrap())
            .collect()
    }

    #[test]
    fn the_program_is_searched_where_python_searches_it() {
        assert_eq!(candidates("x", Some("/a:/b/")), ["/a/x", "/b/x"]);
        assert_eq!(candidates("x", None), ["/bin/x", "/usr/bin/x"]);
        assert_eq!(candidates("x", Some("")), ["x"]);
        assert_eq!(candidates("x", Some(":/a")), ["x", "/a/x"]);
        assert_eq!(candidates("./x", Some("/a")), ["./x"]);
    }

    #[test]
    fn bad_text_is_an_error_and_no_panic() {
        let mut bad = spec("a\0b", None);
        assert!(Plan::new(&bad, 0, true).is_err());
        bad = spec("a", None);
        bad.env.push(("A=B".into(), "x".into()));
        assert!(Plan::new(&bad, 0, true).is_err());
        assert!(Plan::new(&SpawnSpec::default(), 0, true).is_err());
    }

    #[test]
    fn a_pid_of_any_length_fits() {
        for pid in [1, 10, 4_194_304, i32::MAX as u32] {
            let mut spec = spec("a", None);
            spec.listen_names = vec!["web".into()];
            let plan = Plan::new(&spec, 0, true).unwrap();
            plan.tell_pid(pid);
            let text: Vec<u8> = plan
                .listen_pid
                .iter()
                .flatten()
                .map(|b| b.load(Ordering::Relaxed))
                .collect();
            let text = String::from_utf8(text).unwrap();
            assert!(text.ends_with('\0'));
            assert_eq!(text.trim_end_matches('\0'), format!("LISTEN_PID={pid}"));
        }
    }

    #[test]
    fn limits_have_the_names_of_pythons_resource_module() {
        assert_eq!(rlimit_resource("nofile"), Some(libc::RLIMIT_NOFILE));
        assert_eq!(rlimit_resource("Stack"), Some(libc::RLIMIT_STACK));
        assert_eq!(rlimit_resource("locks"), None);
    }
}
