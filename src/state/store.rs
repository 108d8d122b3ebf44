//! The file on disk: replaced whole or not at all, by one run at a time.
//!
//! A write goes to a new file in the same directory, is flushed, and takes the old one's name in one step, so that
//! whoever reads (or a power cut) sees the old file or the new one. Mode, owner and a symbolic link that leads to the
//! file stay as they were.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

/// How often a taken lock is tried again.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Why a file could not be read, locked or written: what was tried, on which file, why it failed, what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Another run holds the lock and did not let go in time.
    #[error(
        "another state run holds the lock on {what} and did not finish within {seconds} s; \
         wait for it or give more --timeout"
    )]
    Locked {
        /// The directory or endpoint that is locked.
        what: String,
        /// How long this run waited.
        seconds: f64,
    },
    /// Somebody else wrote the file between our reading and our writing.
    #[error("{path} was changed by someone else while this run was looking at it; run again")]
    Changed {
        /// The file.
        path: String,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.display().to_string();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(failed("read", path))
}

/// Replaces `path`'s content `before` with `after`, atomically.
///
/// A symbolic link is followed: the file it leads to is replaced and the link stays. Mode and owner are kept; if the
/// owner cannot be kept, nothing is written. Fails with [`StoreError::Changed`] if the file no longer holds `before`.
pub fn replace(path: &Path, before: &[u8], after: &[u8]) -> Result<(), StoreError> {
    let real = fs::canonicalize(path).map_err(failed("find", path))?;
    let old = fs::metadata(&real).map_err(failed("look at", &real))?;
    let directory = parent(&real);
    let (mut temporary, name) = create_beside(&real, &directory)?;
    let guard = RemoveOnDrop(Some(name.clone()));

    temporary.write_all(after).map_err(failed("write", &name))?;
    let new = temporary.metadata().map_err(failed("look at", &name))?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        std::os::unix::fs::fchown(&temporary, Some(old.uid()), Some(old.gid()))
            .map_err(failed("keep the owner of", &real))?;
    }
    // After the owner: changing it may clear mode bits.
    temporary
        .set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))
        .map_err(failed("keep the mode of", &real))?;
    temporary.sync_all().map_err(failed("flush", &name))?;
    drop(temporary);

    if read(&real)? != before {
        return Err(StoreError::Changed {
            path: path.display().to_string(),
        });
    }
    fs::rename(&name, &real).map_err(failed("replace", &real))?;
    guard.keep();
    // The rename itself must survive a power cut too; a file system that cannot flush a directory is no failure.
    if let Ok(handle) = File::open(&directory) {
        let _ = handle.sync_all();
    }
    Ok(())
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Creates a new, empty file beside `real`, readable by its owner only until it gets the old file's mode.
fn create_beside(real: &Path, directory: &Path) -> Result<(File, PathBuf), StoreError> {
    let base = real
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut attempt = 0u32;
    loop {
        let name = directory.join(format!(".{base}.circ-{}-{attempt}", std::process::id()));
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&name)
        {
            Ok(file) => return Ok((file, name)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => {
                attempt += 1
            }
            Err(source) => {
                return Err(StoreError::Io {
                    action: "create a file beside",
                    path: real.display().to_string(),
                    source,
                });
            }
        }
    }
}

/// Removes the temporary file unless it has taken its final name.
struct RemoveOnDrop(Option<PathBuf>);

impl RemoveOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// A lock that ends with the value (or the process).
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] Held);

#[derive(Debug)]
#[allow(dead_code)] // Held for its lifetime only.
enum Held {
    Directory(Flock<OwnedFd>),
    Name(UnixListener),
}

/// Locks the directory that holds the configuration file, against other state runs. Leaves nothing on the disk: the
/// lock is on the directory itself, because the file is replaced by every write.
pub fn lock_file(path: &Path, deadline: Instant) -> Result<Lock, StoreError> {
    let real = fs::canonicalize(path).map_err(failed("find", path))?;
    let directory = parent(&real);
    let started = Instant::now();
    let mut handle: OwnedFd = File::open(&directory)
        .map_err(failed("open", &directory))?
        .into();
    loop {
        match Flock::lock(handle, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Lock(Held::Directory(lock))),
            Err((back, nix::errno::Errno::EWOULDBLOCK)) => handle = back,
            Err((_, error)) => return Err(failed("lock", &directory)(error.into())),
        }
        wait_for_lock(&directory.display().to_string(), started, deadline)?;
    }
}

/// Locks a daemon's endpoint against other state runs on this machine, by a name in the abstract socket space (which
/// vanishes with its holder).
pub fn lock_endpoint(endpoint: &str, deadline: Instant) -> Result<Lock, StoreError> {
    let started = Instant::now();
    let address = SocketAddr::from_abstract_name(lock_name(endpoint))
        .map_err(failed("name a lock for", Path::new(endpoint)))?;
    loop {
        match UnixListener::bind_addr(&address) {
            Ok(listener) => return Ok(Lock(Held::Name(listener))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(failed("lock", Path::new(endpoint))(error)),
        }
        wait_for_lock(endpoint, started, deadline)?;
    }
}

/// An abstract socket name holds 107 bytes; a longer endpoint keeps its end, where endpoints differ.
fn lock_name(endpoint: &str) -> Vec<u8> {
    let bytes = endpoint.as_bytes();
    let tail = &bytes[bytes.len().saturating_sub(80)..];
    [b"circ-state/".as_slice(), tail].concat()
}

fn wait_for_lock(what: &str, started: Instant, deadline: Instant) -> Result<(), StoreError> {
    let now = Instant::now();
    if now >= deadline {
        return Err(StoreError::Locked {
            what: what.to_string(),
            seconds: (now - started).as_secs_f64().round(),
        });
    }
    std::thread::sleep(LOCK_POLL.min(deadline - now));
    Ok(())
}

/// Reads standard text out of a file's bytes for a diff.
pub fn text(bytes: &[u8]) -> String {
    let mut text = String::new();
    match (&*bytes).read_to_string(&mut text) {
        Ok(_) => text,
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_replaced_file_keeps_mode_and_link_and_leaves_no_rest() {
        let directory = directory();
        let real = directory.path().join("real.ini");
        let link = directory.path().join("link.ini");
        fs::write(&real, b"old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.ini", &link).unwrap();

        replace(&link, b"old", b"new").unwrap();

        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_somebody_else_changed_is_left_alone() {
        let directory = directory();
        let path = directory.path().join("circus.ini");
        fs::write(&path, b"theirs").unwrap();
        assert!(matches!(
            replace(&path, b"old", b"new"),
            Err(StoreError::Changed { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_second_of_two_locks_waits_until_its_deadline() {
        let directory = directory();
        let path = directory.path().join("circus.ini");
        fs::write(&path, b"").unwrap();
        let soon = || Instant::now() + Duration::from_millis(50);
        let first = lock_file(&path, soon()).unwrap();
        assert!(matches!(
            lock_file(&path, soon()),
            Err(StoreError::Locked { .. })
        ));
        drop(first);
        lock_file(&path, soon()).unwrap();

        let endpoint = format!("tcp://test:{}", std::process::id());
        let first = lock_endpoint(&endpoint, soon()).unwrap();
        assert!(matches!(
            lock_endpoint(&endpoint, soon()),
            Err(StoreError::Locked { .. })
        ));
        drop(first);
        lock_endpoint(&endpoint, soon()).unwrap();
    }
}
