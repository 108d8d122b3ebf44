//! New versions of files before they take their names, and what dead runs left of such.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::error::{StoreError, failed};

/// In the middle of every temporary name: `.circus.ini.circ-PID-N`.
const MARK: &[u8] = b".circ-";

/// A file name holds 255 bytes: so much of the real name leaves room for the rest.
const MOST_OF_NAME: usize = 200;

/// A file that is not yet what it is to be; removed if it is dropped before.
pub(super) struct Temporary {
    /// Locked as long as it is open: that is how others know that it is in use.
    pub file: File,
    pub path: PathBuf,
    named: bool,
}

impl Temporary {
    /// Creates an empty one beside `real`, with this mode less the umask.
    pub fn beside(real: &Path, mode: u32) -> Result<Temporary, StoreError> {
        let mut attempt = 0;
        loop {
            let path = real.with_file_name(name(real, attempt));
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&path);
            match opened {
                Ok(file) => {
                    // Where files cannot be locked, nobody can find this one unlocked either.
                    let _ = file.try_lock();
                    return Ok(Temporary {
                        file,
                        path,
                        named: false,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => {
                    attempt += 1;
                }
                Err(error) => return Err(failed("create a new file beside", real)(error)),
            }
        }
    }

    /// Takes the name, whatever had it before.
    pub fn replace(mut self, real: &Path) -> Result<(), StoreError> {
        fs::rename(&self.path, real).map_err(failed("replace", real))?;
        self.named = true;
        Ok(())
    }

    /// Takes a name that nobody has; `Ok(false)` if somebody has it.
    pub fn take(&mut self, name: &Path) -> Result<bool, StoreError> {
        let result = match renameat_with(CWD, &self.path, CWD, name, RenameFlags::NOREPLACE) {
            // Not every file system can do that in one step.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                fs::hard_link(&self.path, name).and_then(|()| fs::remove_file(&self.path))
            }
            other => other.map_err(io::Error::from),
        };
        match result {
            Ok(()) => {
                self.named = true;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(failed("create", name)(error)),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.named {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn name(real: &Path, attempt: u32) -> OsString {
    let base = real.file_name().unwrap_or(OsStr::new("file")).as_bytes();
    let base = &base[..base.len().min(MOST_OF_NAME)];
    let rest = format!("{}-{attempt}", std::process::id());
    OsString::from_vec([b".", base, MARK, rest.as_bytes()].concat())
}

/// Is this one of our names?
fn is_ours(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let Some(at) = name.windows(MARK.len()).rposition(|part| part == MARK) else {
        return false;
    };
    let number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let mut numbers = name[at + MARK.len()..].split(|byte| *byte == b'-');
    let both = numbers.next().is_some_and(number) && numbers.next().is_some_and(number);
    at > 1 && name[0] == b'.' && both && numbers.next().is_none()
}

/// Removes what runs that were killed left in a directory. The caller holds the directory's lock; a file that a process
/// still uses is locked and stays. What cannot be removed stays too: it is in nobody's way.
pub(super) fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if is_ours(&entry.file_name()) {
            let _ = remove_unused(&entry.path());
        }
    }
}

fn remove_unused(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(());
    }
    // For writing, because a network file system locks only those.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)?;
    if file.try_lock().is_err() {
        return Ok(());
    }
    let (opened, named) = (file.metadata()?, fs::symlink_metadata(path)?);
    if (opened.dev(), opened.ino()) == (named.dev(), named.ino()) {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_ours() {
        assert!(is_ours(&name(Path::new("/etc/circus.ini"), 7)));
        assert!(is_ours(&name(Path::new("a.circ-1-2"), 0)));
        for other in [
            "circus.ini",
            ".circus.ini",
            ".circus.ini.circ-",
            ".circus.ini.circ-1",
            ".circus.ini.circ-1-",
            ".circus.ini.circ-1-2-3",
            ".circus.ini.circ-1-2~",
            ".circus.ini.circ-x-2",
            "circus.ini.circ-1-2",
            ".circ-1-2",
        ] {
            assert!(!is_ours(OsStr::new(other)), "{other}");
        }
    }

    #[test]
    fn what_a_dead_run_left_goes_and_what_is_in_use_stays() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("circus.ini");
        let used = Temporary::beside(&real, 0o600).unwrap();
        let left = directory.path().join(".circus.ini.circ-1-0");
        let theirs = directory.path().join(".circus.ini.swp");
        for path in [&left, &theirs] {
            fs::write(path, b"x").unwrap();
        }
        sweep(directory.path());
        assert!(used.path.exists() && theirs.exists() && !left.exists());
        let path = used.path.clone();
        drop(used);
        assert!(!path.exists());
    }

    #[test]
    fn a_long_name_still_gets_a_temporary_one() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("é".repeat(127));
        fs::write(&real, b"x").unwrap();
        let temporary = Temporary::beside(&real, 0o600).unwrap();
        assert!(is_ours(temporary.path.file_name().unwrap()));
    }
}
