//! The pid file: one daemon at a time, told apart from files that dead daemons left.
//!
//! Circus's rule (`circus.pidfile`) is that a file with the pid of a live process refuses a second
//! daemon and anything else is overwritten. Here the file is also locked for the daemon's life, so
//! that of two daemons started at the same moment exactly one wins.

use super::holder;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A pid file that could not be taken: a sentence that names the file and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidfileError {
    /// The pid of the live process in the way, if that is the reason.
    pub holder: Option<i32>,
    text: String,
}

impl fmt::Display for PidfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for PidfileError {}

/// A pid file with this process's pid in it. Dropping it removes the file, if it still is ours.
#[derive(Debug)]
pub struct Pidfile {
    path: PathBuf,
    pid: i32,
    lock: Flock<File>,
}

impl Pidfile {
    /// Writes this process's pid to the file (mode 0644), creating or taking it over.
    ///
    /// Call it after the daemon has detached: the pid counts, and the lock belongs to this process.
    ///
    /// # Errors
    /// The file names a live process other than this one; it cannot be created or written.
    pub fn create(path: &Path) -> Result<Pidfile, PidfileError> {
        let pid = nix::unistd::getpid().as_raw();
        // The file may be removed by its owner between our opening and locking it.
        for _ in 0..100 {
            let file = open(path)?;
            let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((mut file, Errno::EWOULDBLOCK)) => {
                    let owner = read_pid(&mut file);
                    return Err(in_use(path, owner));
                }
                Err((_, errno)) => return Err(fail(path, "lock", &errno.into())),
            };
            if !is_at(&lock, path) {
                continue;
            }
            if let Some(owner) = read_pid(&mut lock).filter(|owner| *owner != pid && lives(*owner))
            {
                return Err(in_use(path, Some(owner)));
            }
            write_pid(&mut lock, pid).map_err(|error| fail(path, "write", &error))?;
            return Ok(Pidfile {
                path: path.to_owned(),
                pid,
                lock,
            });
        }
        Err(PidfileError {
            holder: None,
            text: format!("pid file {} keeps being replaced by others", path.display()),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let here = nix::unistd::getpid().as_raw() == self.pid;
        let ours = is_at(&self.lock, &self.path)
            // Garbage that somebody wrote into our file does not make it another's.
            && read_pid(&mut self.lock).is_none_or(|pid| pid == self.pid);
        if here && ours && self.lock.metadata().is_ok_and(|file| file.is_file()) {
            let _ = std::fs::remove_file(&self.path); // nobody to tell
        }
    }
}

fn open(path: &Path) -> Result<File, PidfileError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path);
    opened.map_err(|error| {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        match directory {
            Some(directory) if !directory.is_dir() => PidfileError {
                holder: None,
                text: format!(
                    "cannot create pid file {}: the directory {} does not exist",
                    path.display(),
                    directory.display()
                ),
            },
            _ => fail(path, "open", &error),
        }
    })
}

fn write_pid(file: &mut File, pid: i32) -> io::Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(0)?;
        file.rewind()?;
        // Whatever the umask or an earlier owner left.
        file.set_permissions(Permissions::from_mode(0o644))?;
    }
    writeln!(file, "{pid}")?;
    match file.sync_all() {
        Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => Ok(()), // not a disk file
        result => result,
    }
}

/// The pid in the file; `None` for anything that is not a positive number.
fn read_pid(file: &mut File) -> Option<i32> {
    let mut bytes = Vec::new();
    file.rewind().ok()?;
    // Something else than a pid file may be long, or never end.
    file.take(64).read_to_end(&mut bytes).ok()?;
    let pid = std::str::from_utf8(&bytes).ok()?.trim().parse().ok()?;
    (pid > 0).then_some(pid)
}

fn lives(pid: i32) -> bool {
    match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) {
        Ok(()) => true,
        Err(errno) => errno == Errno::EPERM,
    }
}

/// Whether the path still leads to this open file.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn in_use(path: &Path, owner: Option<i32>) -> PidfileError {
    let command = owner.and_then(|pid| holder::command_of(u32::try_from(pid).ok()?));
    let who = match (owner, command) {
        (Some(pid), Some(command)) => format!("the running process {pid} ({command})"),
        (Some(pid), None) => format!("the running process {pid}"),
        (None, _) => "a daemon that is just starting".to_owned(),
    };
    PidfileError {
        holder: owner,
        text: format!(
            "pid file {} belongs to {who}; stop it, or remove the file if that is no circ daemon",
            path.display()
        ),
    }
}

fn fail(path: &Path, tried: &str, error: &io::Error) -> PidfileError {
    let why = match error.raw_os_error() {
        Some(errno) => Errno::from_raw(errno).desc().to_owned(),
        None => error.to_string(),
    };
    PidfileError {
        holder: None,
        text: format!("cannot {tried} pid file {}: {why}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn content(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn it_is_written_locked_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let pidfile = Pidfile::create(&path).unwrap();
        assert_eq!(content(&path), format!("{}\n", std::process::id()));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        // Locked: even the same process cannot take it twice.
        let second = Pidfile::create(&path).unwrap_err();
        assert_eq!(second.holder, i32::try_from(std::process::id()).ok());
        drop(pidfile);
        assert!(!path.exists());
    }

    #[test]
    fn leavings_are_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let dead = child.id().to_string();
        let long = "9".repeat(100_000);
        for left in [
            dead.as_str(),
            "",
            "garbage",
            "-1",
            "0",
            "\u{fffd}1",
            "1 2",
            &long,
        ] {
            std::fs::write(&path, left).unwrap();
            let pidfile = Pidfile::create(&path).unwrap();
            assert_eq!(content(&path), format!("{}\n", std::process::id()));
            drop(pidfile);
        }
    }

    #[test]
    fn a_live_process_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let mut child = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The kernel lets us go on a moment before the child's new command line can be read.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while holder::command_of(child.id()).as_deref() != Some("sleep 600")
            && std::time::Instant::now() < deadline
        {
            std::thread::yield_now();
        }
        std::fs::write(&path, format!("{}\n", child.id())).unwrap();
        let result = Pidfile::create(&path);
        child.kill().unwrap();
        child.wait().unwrap();
        let text = result.unwrap_err().to_string();
        assert!(
            text.contains(&format!("process {} (sleep 600)", child.id())),
            "{text}"
        );
        assert!(path.exists());
        Pidfile::create(&path).unwrap();
    }

    #[test]
    fn a_file_that_became_anothers_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let pidfile = Pidfile::create(&path).unwrap();
        std::fs::write(&path, "1\n").unwrap();
        drop(pidfile);
        assert_eq!(content(&path), "1\n");
        std::fs::remove_file(&path).unwrap();
        let pidfile = Pidfile::create(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = Pidfile::create(&path).unwrap();
        drop(pidfile);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn bad_places_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let error = Pidfile::create(&directory.path().join("none/pid")).unwrap_err();
        assert!(error.to_string().contains("does not exist"), "{error}");
        let error = Pidfile::create(directory.path()).unwrap_err();
        assert!(error.to_string().contains("directory"), "{error}");
        let null = Path::new("/dev/null");
        drop(Pidfile::create(null).unwrap());
        assert!(null.exists());
    }
}
