//! The files on disk: each replaced whole or not at all, several together or none of them, by one run at a time.
//!
//! A new version is written to a temporary file in the same directory, gets everything that the old one has besides its
//! bytes (mode, owner, access list, extended attributes), is flushed, and takes the old one's name in one step; then the
//! directory is flushed. Whoever reads, whenever the process is killed or the power fails, finds the old file or the
//! new one. A symbolic link that leads to the file stays.
//!
//! Everything that can be refused is refused before the first file takes its name: not allowed, read-only, full,
//! immutable, a mount point, an owner that cannot be kept. With several files all new versions are ready by then.
//!
//! What cannot be had in one step is not done: a file of several names (hard links) is taken out of the group, and the
//! caller is warned that the other names keep the old content, because writing through the names would not be atomic.

mod attributes;
mod error;
mod lock;
mod temporary;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};
use rustix::fs::{
    AtFlags as StatAt, CWD, IFlags, StatxAttributes, StatxFlags, ioctl_getflags, statx,
};
use rustix::io::Errno;

use attributes::Attributes;
use error::{errno, failed};
use temporary::Temporary;

pub use error::StoreError;
pub use lock::{Lock, Locks};

/// The mode of a file that was not there before, less the umask.
const NEW_FILE: u32 = 0o666;

/// The mode of a new version until it has the old one's: nobody else reads it meanwhile.
const PRIVATE: u32 = 0o600;

/// So many symbolic links may lead from one to the next, as in the kernel.
const MOST_LINKS: usize = 40;

/// One file as it is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The file, or a symbolic link that leads to it.
    pub path: &'a Path,
    /// What it holds now; `None` if it must not be there yet.
    pub before: Option<&'a [u8]>,
    /// What it is to hold; `None` to remove it.
    pub after: Option<&'a [u8]>,
}

/// How to write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Keep the old version beside the new one, as `FILE.2026-01-31T12-00-00~` (local time).
    pub backup: bool,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The file itself, behind any symbolic link.
    pub path: PathBuf,
    /// Where the old version was kept.
    pub backup: Option<PathBuf>,
    /// What the caller should tell.
    pub warnings: Vec<String>,
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(failed("read", path))
}

/// Replaces `path`'s content `before` with `after`, all or nothing.
///
/// Fails with [`StoreError::Changed`] if the file does not hold `before` any more. Equal contents: nothing is written.
pub fn replace(
    path: &Path,
    before: &[u8],
    after: &[u8],
    options: &Options,
) -> Result<Stored, StoreError> {
    one(path, Some(before), Some(after), options)
}

/// Creates a file that is not there yet; fails with [`StoreError::Changed`] if it is.
pub fn create(path: &Path, content: &[u8]) -> Result<Stored, StoreError> {
    one(path, None, Some(content), &Options::default())
}

/// Removes a file that holds `before`, for taking back a [`create`]. A symbolic link that led to it stays.
pub fn remove(path: &Path, before: &[u8]) -> Result<Stored, StoreError> {
    one(path, Some(before), None, &Options::default())
}

fn one(
    path: &Path,
    before: Option<&[u8]>,
    after: Option<&[u8]>,
    options: &Options,
) -> Result<Stored, StoreError> {
    let change = Change {
        path,
        before,
        after,
    };
    let mut stored = write(&[change], options)?;
    stored.pop().ok_or_else(|| StoreError::changed(path))
}

/// Makes all these changes or none: all new versions are ready before the first one takes its name, and if one cannot
/// (something happened in between), those that have are put back. Each file is whole at every moment; between the
/// first name and the last there is no moment for all of them.
pub fn write(changes: &[Change], options: &Options) -> Result<Vec<Stored>, StoreError> {
    let mut staged = Vec::new();
    for change in changes {
        staged.push(Staged::new(change, options)?);
    }
    let mut stored: Vec<Stored> = Vec::new();
    let mut touched = BTreeSet::new();
    for (at, next) in staged.into_iter().enumerate() {
        let directory = (!next.unchanged).then(|| parent(&next.real));
        match next.commit() {
            Ok(done) => stored.push(done),
            Err(cause) => return Err(put_back(&changes[..at], &stored, cause)),
        }
        touched.extend(directory);
    }
    for directory in touched {
        if let Err(error) = flush(&directory)
            && let Some(last) = stored.last_mut()
        {
            last.warnings.push(format!(
                "{} could not be flushed ({error}): a power cut now may bring the old version back",
                directory.display()
            ));
        }
    }
    Ok(stored)
}

/// Undoes what was done; returns the error that says all of it.
fn put_back(changes: &[Change], stored: &[Stored], cause: StoreError) -> StoreError {
    let mut left = Vec::new();
    for (change, done) in changes.iter().zip(stored).rev() {
        let back = Change {
            path: &done.path,
            before: change.after,
            after: change.before,
        };
        match write(&[back], &Options::default()) {
            Ok(_) => {
                if let Some(backup) = &done.backup {
                    let _ = fs::remove_file(backup);
                }
            }
            Err(error) => left.push(error.to_string()),
        }
    }
    if left.is_empty() {
        cause
    } else {
        StoreError::NotUndone {
            cause: Box::new(cause),
            left,
        }
    }
}

/// A change that is ready: only names are left to be changed.
struct Staged<'a> {
    real: PathBuf,
    before: Option<&'a [u8]>,
    /// Nothing to take the name: the file is removed, or is as it is to be.
    new: Option<Temporary>,
    unchanged: bool,
    backup: Option<Temporary>,
    warnings: Vec<String>,
}

impl<'a> Staged<'a> {
    fn new(change: &Change<'a>, options: &Options) -> Result<Staged<'a>, StoreError> {
        let real = resolve(change.path)?;
        let mut staged = Staged {
            before: change.before,
            new: None,
            unchanged: change.before == change.after,
            backup: None,
            warnings: Vec::new(),
            real,
        };
        staged.check()?;
        if staged.unchanged {
            return Ok(staged);
        }
        let real = staged.real.as_path();
        may_write_directory(real)?;
        let Some(before) = change.before else {
            if let Some(content) = change.after {
                let mut new = Temporary::beside(real, NEW_FILE)?;
                fill(&mut new, content, real)?;
                staged.new = Some(new);
            }
            return Ok(staged);
        };
        may_replace(real)?;
        let old = File::open(real).map_err(failed("read", real))?;
        let metadata = old.metadata().map_err(failed("look at", real))?;
        if metadata.nlink() > 1 {
            staged.warnings.push(format!(
                "{} has {} names (hard links); only this one gets the new content, the others keep the old",
                real.display(),
                metadata.nlink()
            ));
        }
        let attributes = Attributes::of(&old, real)?;
        if let Some(content) = change.after {
            let mut new = Temporary::beside(real, PRIVATE)?;
            attributes.give(&new.file, real)?;
            fill(&mut new, content, real)?;
            staged.new = Some(new);
        }
        if options.backup {
            let mut backup = Temporary::beside(real, PRIVATE)?;
            attributes.give(&backup.file, real)?;
            fill(&mut backup, before, real)?;
            // A backup is as old as what it holds; that is for people, so nothing fails for it.
            let _ = backup
                .file
                .set_modified(metadata.modified().unwrap_or_else(|_| SystemTime::now()));
            staged.backup = Some(backup);
        }
        Ok(staged)
    }

    /// Is the file what the caller believes it is?
    fn check(&self) -> Result<(), StoreError> {
        let real = self.real.as_path();
        let metadata = match fs::symlink_metadata(real) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("look at", real)(error)),
        };
        match (metadata, self.before) {
            (None, None) => Ok(()),
            (Some(metadata), Some(before)) => {
                if metadata.is_dir() {
                    return Err(StoreError::refused(real, "it is a directory, not a file"));
                }
                if !metadata.is_file() {
                    return Err(StoreError::refused(
                        real,
                        "it is not a regular file; name the file itself",
                    ));
                }
                match read(real)? == before {
                    true => Ok(()),
                    false => Err(StoreError::changed(real)),
                }
            }
            _ => Err(StoreError::changed(real)),
        }
    }

    fn commit(mut self) -> Result<Stored, StoreError> {
        // As late as it can be: who does not know of the lock may have written meanwhile.
        self.check()?;
        let real = self.real.as_path();
        let mut stored = Stored {
            path: real.to_path_buf(),
            backup: None,
            warnings: std::mem::take(&mut self.warnings),
        };
        if self.unchanged {
            return Ok(stored);
        }
        if let Some(backup) = self.backup.as_mut() {
            stored.backup = Some(name_backup(backup, real)?);
        }
        let result = match (self.new.take(), self.before) {
            (Some(new), Some(_)) => new.replace(real),
            (Some(mut new), None) => match new.take(real) {
                Ok(true) => Ok(()),
                Ok(false) => Err(StoreError::changed(real)),
                Err(error) => Err(error),
            },
            (None, _) => fs::remove_file(real).map_err(failed("remove", real)),
        };
        if let (Err(_), Some(backup)) = (&result, &stored.backup) {
            let _ = fs::remove_file(backup);
        }
        result.map(|()| stored)
    }
}

/// Writes and flushes a temporary file.
fn fill(temporary: &mut Temporary, content: &[u8], real: &Path) -> Result<(), StoreError> {
    temporary
        .file
        .write_all(content)
        .and_then(|()| temporary.file.sync_all())
        .map_err(failed("write a new version of", real))
}

/// Gives the copy of the old version its name: the time, and a number where that is taken.
fn name_backup(backup: &mut Temporary, real: &Path) -> Result<PathBuf, StoreError> {
    let now = jiff::Zoned::now().strftime("%Y-%m-%dT%H-%M-%S").to_string();
    for number in 1..1000 {
        let number = match number {
            1 => String::new(),
            more => format!(".{more}"),
        };
        let mut name = real.as_os_str().to_owned();
        name.push(format!(".{now}{number}~"));
        let name = PathBuf::from(name);
        if backup.take(&name)? {
            return Ok(name);
        }
    }
    Err(StoreError::refused(
        real,
        "no name is free for a backup; remove some of the old ones",
    ))
}

/// Refuses a file that its protection, its place or its flags keep from being replaced.
fn may_replace(real: &Path) -> Result<(), StoreError> {
    match flags(real) {
        Some(flags) if flags.contains(IFlags::IMMUTABLE) => {
            return Err(StoreError::refused(
                real,
                "it is immutable; chattr -i allows changes",
            ));
        }
        Some(flags) if flags.contains(IFlags::APPEND) => {
            return Err(StoreError::refused(
                real,
                "it can only be appended to; chattr -a allows changes",
            ));
        }
        _ => {}
    }
    // Taking its name would need no right to the file itself, but who took that right away meant it.
    may_access(real, AccessFlags::W_OK).map_err(failed("write", real))?;
    // Unknown to old kernels; they will refuse the rename.
    let is_mount_point = statx(CWD, real, StatAt::empty(), StatxFlags::BASIC_STATS)
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    if is_mount_point {
        return Err(StoreError::refused(
            real,
            "it is mounted there by itself (as containers do it for single files) and cannot be replaced in one step; \
             mount its directory instead",
        ));
    }
    Ok(())
}

fn may_write_directory(real: &Path) -> Result<(), StoreError> {
    let directory = parent(real);
    if let Some(flags) = flags(&directory)
        && flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND)
    {
        return Err(StoreError::refused(
            real,
            format!(
                "its directory {} is immutable or can only be added to; chattr -i -a allows changes",
                directory.display()
            ),
        ));
    }
    may_access(&directory, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(failed("create a new file in", &directory))
}

/// By the rights that this process acts with.
fn may_access(path: &Path, how: AccessFlags) -> Result<(), io::Error> {
    match faccessat(nix::fcntl::AT_FDCWD, path, how, AtFlags::AT_EACCESS) {
        // An old kernel cannot tell; the write itself will.
        Ok(()) | Err(nix::errno::Errno::ENOSYS | nix::errno::Errno::EINVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What `chattr` set, where the file system knows such flags.
fn flags(path: &Path) -> Option<IFlags> {
    ioctl_getflags(File::open(path).ok()?).ok()
}

/// A rename must survive a power cut too. A file system that cannot flush a directory is no failure.
fn flush(directory: &Path) -> Result<(), io::Error> {
    let result = File::open(directory).and_then(|handle| handle.sync_all());
    match &result {
        Err(error) => match errno(error) {
            Some(Errno::ACCESS | Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
            _ => result,
        },
        Ok(()) => Ok(()),
    }
}

/// The file itself, behind all symbolic links; it need not be there yet, its directory must.
fn resolve(path: &Path) -> Result<PathBuf, StoreError> {
    let mut at = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::canonicalize(&at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found.map_err(failed("find", path)),
        }
        let directory = fs::canonicalize(parent(&at)).map_err(failed("find", &parent(&at)))?;
        let name = at
            .file_name()
            .ok_or_else(|| StoreError::refused(path, "this names no file"))?;
        at = directory.join(name);
        match fs::read_link(&at) {
            Ok(target) => at = directory.join(target),
            Err(_) => return Ok(at),
        }
    }
    Err(StoreError::refused(
        path,
        "its symbolic links lead nowhere, or in a circle",
    ))
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
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
mod tests;
