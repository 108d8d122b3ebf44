//! Why a child could not be started, in words a user can act on.

use super::plan::SpawnSpec;
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The step at which starting a child failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// Making the process at all (too many processes, no memory).
    Clone,
    /// A standard stream.
    Dup,
    /// Entering the working directory.
    Chdir,
    /// Making the session.
    Session,
    /// A resource limit.
    Rlimit,
    /// The group.
    Setgid,
    /// The supplementary groups.
    Setgroups,
    /// The user.
    Setuid,
    /// Closing descriptors that are not the child's.
    Close,
    /// A descriptor that the child should have.
    Keep,
    /// A descriptor that the child should have under another number.
    Place,
    /// Executing the program.
    Exec,
}

impl Stage {
    pub(super) fn from_number(number: u32) -> Option<Stage> {
        use Stage::*;
        [
            Clone, Dup, Chdir, Session, Rlimit, Setgid, Setgroups, Setuid, Close, Keep, Place, Exec,
        ]
        .into_iter()
        .find(|stage| *stage as u32 == number)
    }
}

/// A child that could not be started. Its text is a sentence without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnError {
    /// The step that failed.
    pub stage: Stage,
    /// The errno of that step, 0 if it has none.
    pub errno: i32,
    /// What was tried on what, and a hint where there is one.
    pub what: String,
}

impl SpawnError {
    pub(super) fn new(stage: Stage, errno: i32, what: impl Into<String>) -> SpawnError {
        SpawnError {
            stage,
            errno,
            what: what.into(),
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match self.errno {
            0 => Ok(()),
            errno => write!(f, ": {}", nix::errno::Errno::from_raw(errno).desc()),
        }
    }
}

impl std::error::Error for SpawnError {}

/// Puts the child's report into words. `index` is the item within the step (which limit, stream …).
pub(super) fn describe(spec: &SpawnSpec, stage: Stage, errno: i32, index: usize) -> SpawnError {
    let what = match stage {
        Stage::Clone => format!("cannot start a process for {}", spec.program()),
        Stage::Dup => {
            let name = ["stdin", "stdout", "stderr"]
                .get(index)
                .unwrap_or(&"stream");
            format!("cannot connect {name} of {}", spec.program())
        }
        Stage::Chdir => {
            let directory = spec.working_dir.clone().unwrap_or_default();
            format!("cannot enter working_dir {}", directory.to_string_lossy())
        }
        Stage::Session => format!("cannot make a session for {}", spec.program()),
        Stage::Rlimit => {
            let (kind, value) = spec.rlimits.get(index).copied().unwrap_or_default();
            let hint = if errno == libc::EPERM {
                " (above the hard limit of the daemon)"
            } else {
                ""
            };
            format!("cannot set {} to {value}{hint}", rlimit_name(kind))
        }
        Stage::Setgid => format!("cannot become group {}", spec.gid.unwrap_or_default()),
        Stage::Setgroups => format!(
            "cannot take the supplementary groups {:?}",
            spec.groups.clone().unwrap_or_default()
        ),
        Stage::Setuid => format!("cannot become user {}", spec.uid.unwrap_or_default()),
        Stage::Close => format!("cannot close inherited descriptors of {}", spec.program()),
        Stage::Keep => {
            let fd = spec.keep_fds.iter().filter(|fd| **fd > 2).nth(index);
            format!("cannot pass on descriptor {}", fd.copied().unwrap_or(-1))
        }
        Stage::Place => format!("cannot pass on a socket as descriptor {index}"),
        Stage::Exec => return describe_exec(spec, errno),
    };
    SpawnError::new(stage, errno, what)
}

fn describe_exec(spec: &SpawnSpec, errno: i32) -> SpawnError {
    let program = spec.program();
    let mut what = format!("cannot execute {program}");
    if errno == libc::ENOENT && !program.contains('/') {
        let path = String::from_utf8_lossy(spec.path()).into_owned();
        what = format!("cannot execute {program} (searched in PATH {path})");
    } else if errno == libc::ENOENT {
        // The file may well be there, and what it names in its first line is not.
        let file = match &spec.working_dir {
            Some(directory) => Path::new(directory).join(&program),
            None => Path::new(&program).to_owned(),
        };
        if file.exists() {
            what = match interpreter(&file) {
                Some(name) => format!("cannot execute {program}: its interpreter {name}"),
                None => format!("cannot execute {program}: the file is there, its loader"),
            };
        }
    } else if errno == libc::ENOEXEC {
        what = format!("cannot execute {program} (a script needs #! and an interpreter first)");
    } else if errno == libc::EACCES {
        what = format!("cannot execute {program} (is it executable for this user?)");
    }
    SpawnError::new(Stage::Exec, errno, what)
}

/// What the `#!` line of a script names.
fn interpreter(file: &Path) -> Option<String> {
    let mut head = [0u8; 256];
    let length = std::fs::File::open(file).ok()?.read(&mut head).ok()?;
    let line = head.get(..length)?.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let line = std::ffi::OsStr::from_bytes(line).to_string_lossy();
    line.split_whitespace().next().map(str::to_owned)
}

/// The watcher option that sets this kind of limit.
fn rlimit_name(kind: u32) -> String {
    const NAMES: [&str; 15] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    NAMES
        .into_iter()
        .find(|name| super::rlimit_resource(name) == Some(kind))
        .map_or_else(|| format!("limit {kind}"), |name| format!("rlimit_{name}"))
}
