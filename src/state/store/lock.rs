//! One run at a time: locks on directories of configuration files and on daemons.

use std::fs::{self, File, TryLockError};
use std::os::linux::fs::MetadataExt;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::io::Errno;

use super::error::{StoreError, errno, failed};
use super::{parent, resolve, temporary};
use crate::state::interrupt::Interrupt;

/// How often a taken lock is tried again.
const POLL: Duration = Duration::from_millis(20);

/// How long a lock is waited for.
struct Wait<'a> {
    deadline: Instant,
    interrupt: &'a Interrupt,
}

/// A lock that ends with the value (or the process).
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] Held);

#[derive(Debug)]
#[allow(dead_code)] // Held for its lifetime only.
enum Held {
    Directory(File),
    Name(UnixListener),
}

/// Locks the directory that holds a configuration file (which need not be there yet) against other state runs, and
/// removes what killed runs left in it.
///
/// The lock is on the directory itself, because the file is replaced by every write, and leaves nothing on the disk. A
/// symbolic link leads to the lock of the file behind it. The directory needs to be readable, not writable. Where it
/// is not even that, or its file system cannot lock directories (NFS), the lock excludes the runs of this machine
/// that find the same.
fn lock_file(path: &Path, wait: &Wait<'_>) -> Result<Lock, StoreError> {
    let directory = parent(&resolve(path)?);
    let held = lock_directory(&directory, wait)?;
    temporary::sweep(&directory);
    Ok(Lock(held))
}

/// The locks of a run over several files, one for each directory.
#[derive(Debug, Default)]
pub struct Locks {
    directories: Vec<(PathBuf, Lock)>,
    endpoints: Vec<Lock>,
    interrupt: Interrupt,
}

impl Locks {
    /// None yet; no lock is waited for once the run is asked to end.
    pub fn of(interrupt: &Interrupt) -> Locks {
        Locks {
            interrupt: interrupt.clone(),
            ..Locks::default()
        }
    }

    /// Locks the directory that holds a configuration file (which need not be there yet) against other state runs, and
    /// removes what killed runs left in it. Nothing if it is locked here already.
    ///
    /// # Errors
    /// It cannot be locked, or another run holds it until the deadline.
    pub fn file(&mut self, path: &Path, deadline: Instant) -> Result<(), StoreError> {
        let directory = parent(&resolve(path)?);
        if self.directories.iter().all(|(held, _)| *held != directory) {
            let wait = Wait {
                deadline,
                interrupt: &self.interrupt,
            };
            let lock = lock_file(path, &wait)?;
            self.directories.push((directory, lock));
        }
        Ok(())
    }

    /// Locks a daemon's endpoint against other state runs on this machine, by a name in the abstract socket space
    /// (which vanishes with its holder).
    ///
    /// # Errors
    /// As [`Locks::file`].
    pub fn endpoint(&mut self, endpoint: &str, deadline: Instant) -> Result<(), StoreError> {
        let wait = Wait {
            deadline,
            interrupt: &self.interrupt,
        };
        let lock = lock_name(endpoint, endpoint, &wait).map(Lock)?;
        self.endpoints.push(lock);
        Ok(())
    }
}

fn lock_directory(directory: &Path, wait: &Wait<'_>) -> Result<Held, StoreError> {
    let started = Instant::now();
    let shown = directory.display().to_string();
    let handle = match File::open(directory) {
        Ok(handle) => handle,
        Err(error) if errno(&error) == Some(Errno::ACCESS) => {
            return lock_place(directory, wait);
        }
        Err(error) => return Err(failed("open", directory)(error)),
    };
    loop {
        match handle.try_lock() {
            Ok(()) => return Ok(Held::Directory(handle)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return match errno(&error) {
                    Some(
                        Errno::BADF | Errno::NOLCK | Errno::NOTSUP | Errno::INVAL | Errno::NOSYS,
                    ) => lock_place(directory, wait),
                    _ => Err(failed("lock", directory)(error)),
                };
            }
        }
        wait.a_moment(&shown, started, || holder_of_file(&handle))?;
    }
}

/// By the directory's place on this machine.
fn lock_place(directory: &Path, wait: &Wait<'_>) -> Result<Held, StoreError> {
    let metadata = fs::metadata(directory).map_err(failed("look at", directory))?;
    let name = format!("directory/{}:{}", metadata.st_dev(), metadata.st_ino());
    lock_name(&name, &directory.display().to_string(), wait)
}

fn lock_name(name: &str, shown: &str, wait: &Wait<'_>) -> Result<Held, StoreError> {
    let started = Instant::now();
    let address = SocketAddr::from_abstract_name(abstract_name(name))
        .map_err(failed("name a lock for", Path::new(shown)))?;
    loop {
        match UnixListener::bind_addr(&address) {
            Ok(listener) => return Ok(Held::Name(listener)),
            Err(error) if errno(&error) == Some(Errno::ADDRINUSE) => {}
            Err(error) => return Err(failed("lock", Path::new(shown))(error)),
        }
        wait.a_moment(shown, started, || holder_of_name(&address))?;
    }
}

/// An abstract socket name holds 107 bytes; a longer one keeps its end, where endpoints differ.
fn abstract_name(name: &str) -> Vec<u8> {
    let bytes = name.as_bytes();
    let tail = &bytes[bytes.len().saturating_sub(80)..];
    [b"circ-state/".as_slice(), tail].concat()
}

impl Wait<'_> {
    fn a_moment(
        &self,
        what: &str,
        started: Instant,
        holder: impl FnOnce() -> Option<i32>,
    ) -> Result<(), StoreError> {
        let now = Instant::now();
        if let Some(by) = self.interrupt.asked() {
            return Err(StoreError::Interrupted {
                by: by.to_string(),
                what: what.to_string(),
            });
        }
        if now >= self.deadline {
            return Err(StoreError::Locked {
                what: what.to_string(),
                seconds: (now - started).as_secs_f64().round(),
                holder: holder().map(described).unwrap_or_default(),
            });
        }
        std::thread::sleep(POLL.min(self.deadline - now));
        Ok(())
    }
}

/// ` (process 12, circ)`.
fn described(pid: i32) -> String {
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!(" (process {pid}, {})", name.trim_end()),
        Err(_) => format!(" (process {pid})"),
    }
}

/// From `/proc/locks`, where a line is `1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF`.
fn holder_of_file(handle: &File) -> Option<i32> {
    let inode = handle.metadata().ok()?.st_ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.get(1) == Some(&"FLOCK") && words.get(3) == Some(&"WRITE"))
        .filter(|words| words.get(5).and_then(|place| place.rsplit(':').next()) == Some(&inode))
        .find_map(|words| words.get(4)?.parse().ok().filter(|pid| *pid > 0))
}

fn holder_of_name(address: &SocketAddr) -> Option<i32> {
    let stream = UnixStream::connect_addr(address).ok()?;
    let pid = getsockopt(&stream, PeerCredentials).ok()?.pid();
    (pid > 0).then_some(pid)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static NOBODY: LazyLock<Interrupt> = LazyLock::new(Interrupt::default);

    fn soon() -> Wait<'static> {
        Wait {
            deadline: Instant::now() + Duration::from_millis(50),
            interrupt: &NOBODY,
        }
    }

    fn lock_endpoint(endpoint: &str) -> Result<Locks, StoreError> {
        let mut locks = Locks::default();
        locks.endpoint(endpoint, soon().deadline).map(|()| locks)
    }

    /// It is locked, by this process.
    fn assert_ours<T: std::fmt::Debug>(result: Result<T, StoreError>) {
        match result {
            Err(StoreError::Locked { holder, .. }) => assert!(
                holder.contains(&format!("process {}", std::process::id())),
                "{holder}"
            ),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_second_of_two_locks_waits_until_its_deadline() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("circus.ini");
        let first = lock_file(&path, &soon()).unwrap();
        assert_ours(lock_file(&path, &soon()));
        drop(first);
        lock_file(&path, &soon()).unwrap();

        let endpoint = format!("tcp://test:{}", std::process::id());
        let first = lock_endpoint(&endpoint).unwrap();
        assert_ours(lock_endpoint(&endpoint));
        drop(first);
        lock_endpoint(&endpoint).unwrap();

        let first = lock_place(directory.path(), &soon()).unwrap();
        assert_ours(lock_place(directory.path(), &soon()));
        drop(first);
        lock_place(directory.path(), &soon()).unwrap();
    }

    #[test]
    fn all_ways_to_a_file_lead_to_one_lock() {
        let site = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| site.path().join(name));
        fs::create_dir(&a).unwrap();
        fs::create_dir(&b).unwrap();
        fs::write(a.join("circus.ini"), b"").unwrap();
        std::os::unix::fs::symlink("../a/circus.ini", b.join("link.ini")).unwrap();
        std::os::unix::fs::symlink("../a/later.ini", b.join("dangling.ini")).unwrap();
        std::os::unix::fs::symlink("a", site.path().join("c")).unwrap();

        let first = lock_file(&a.join("circus.ini"), &soon()).unwrap();
        for path in ["b/link.ini", "b/dangling.ini", "c/circus.ini"] {
            assert_ours(lock_file(&site.path().join(path), &soon()));
        }
        let other = lock_file(&b.join("other.ini"), &soon()).unwrap();
        drop((first, other));
        let mut locks = Locks::default();
        for path in ["a/x", "b/y", "c/z"] {
            locks
                .file(&site.path().join(path), soon().deadline)
                .unwrap();
        }
        assert_eq!(locks.directories.len(), 2);
    }

    #[test]
    fn a_run_that_is_asked_to_end_waits_for_no_lock() {
        let endpoint = format!("tcp://asked:{}", std::process::id());
        let first = lock_endpoint(&endpoint).unwrap();
        let (asker, interrupt) = crate::state::interrupt::pair();
        asker.ask("SIGTERM");
        let late = Instant::now() + Duration::from_secs(3600);
        match Locks::of(&interrupt).endpoint(&endpoint, late) {
            Err(StoreError::Interrupted { by, what }) => {
                assert_eq!((by.as_str(), &what), ("SIGTERM", &endpoint));
            }
            other => panic!("{other:?}"),
        }
        drop(first);
    }
}
