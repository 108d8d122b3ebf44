//! A file that takes output, and its rotation.
//!
//! A file is changed for the next only between two lines, and nothing is written twice or left out: what could not be
//! written is brought again by the caller.

use super::compress::{self, Names};
use super::rotation::Times;
use super::target::{Target, Trouble};
use crate::options::streams::{StreamClass, StreamSpec};
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A rotation that failed is tried again after this; the file takes the lines until then.
const AGAIN: Duration = Duration::from_secs(10);

/// When and how a file is rotated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    max_bytes: u64,
    backup_count: u32,
    schedule: Option<crate::options::streams::Schedule>,
    watched: bool,
    gzip: bool,
}

impl Rules {
    /// What the configuration of a stream says.
    pub fn of(spec: &StreamSpec) -> Rules {
        Rules {
            max_bytes: spec.max_bytes,
            backup_count: spec.backup_count,
            schedule: spec.schedule,
            watched: spec.class == StreamClass::WatchedFile,
            gzip: spec.gzip,
        }
    }
}

/// The rules of a file, which streams that share it may change while it is written.
pub type SharedRules = Arc<Mutex<Rules>>;

/// A file that is written.
pub struct FileTarget {
    path: PathBuf,
    rules: SharedRules,
    names: Arc<Names>,
    open: Option<Open>,
    /// A rotation has failed; when to try it again.
    rotate_after: Option<Instant>,
}

struct Open {
    file: File,
    /// It can be rotated: no terminal and no pipe.
    regular: bool,
    size: u64,
    /// The last byte was the end of a line.
    between_lines: bool,
    /// When to rotate, in seconds since the epoch.
    due: Option<i64>,
    by: Rules,
}

impl FileTarget {
    /// Nothing is opened yet.
    pub fn new(path: PathBuf, rules: SharedRules) -> FileTarget {
        FileTarget {
            path,
            rules,
            names: Arc::default(),
            open: None,
            rotate_after: None,
        }
    }

    fn rules(&self) -> Rules {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.clone()
    }

    fn trouble(&self, done: usize, what: &str, error: &io::Error) -> Trouble {
        Trouble::new(
            done,
            &format!("cannot {what} {}", self.path.display()),
            error,
        )
    }

    fn opened(&mut self, done: usize) -> Result<&mut Open, Trouble> {
        let rules = self.rules();
        if self.open.as_ref().is_some_and(|open| open.by != rules) {
            self.open = None;
        }
        let there = match self.open.take() {
            Some(open) => open,
            None => {
                let open = open(&self.path, &rules).map_err(|e| self.trouble(done, "open", &e))?;
                if rules.gzip && open.regular {
                    compress::left_over(&self.path, &rules_times(&rules), &self.names);
                }
                open
            }
        };
        Ok(self.open.insert(there))
    }

    /// True if the path leads elsewhere by now: the file has been removed, or (if somebody else rotates it) moved.
    fn is_gone(&mut self) -> bool {
        let Some(open) = &mut self.open else {
            return false;
        };
        let Ok(now) = open.file.metadata() else {
            return false;
        };
        // somebody may have truncated it
        open.size = now.len();
        if now.nlink() == 0 {
            return open.regular;
        }
        open.by.watched && !fs::metadata(&self.path).is_ok_and(|there| same(&there, &now))
    }

    fn is_due(&self) -> bool {
        let Some(open) = &self.open else { return false };
        open.between_lines
            && open.regular
            && open
                .due
                .is_some_and(|due| seconds(SystemTime::now()) >= due)
            && self.may_rotate()
    }

    fn may_rotate(&self) -> bool {
        self.rotate_after
            .is_none_or(|after| Instant::now() >= after)
    }

    /// Gives the file the name of a rotated one; the next writing opens a new one.
    fn rotate(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let rules = open.by.clone();
        let due = open.due;
        let outcome = match rules_times(&rules) {
            Some(times) => {
                let end = due.unwrap_or_else(|| seconds(SystemTime::now()));
                compress::rotate_to_date(&self.path, &times, end, rules.backup_count, &self.names)
            }
            None => compress::rotate_by_number(&self.path, rules.backup_count, &self.names),
        };
        match outcome {
            Ok(rotated) => {
                self.rotate_after = None;
                if rules.gzip {
                    compress::later(&rotated, &self.names);
                }
                Ok(())
            }
            Err(error) => {
                self.rotate_after = Some(Instant::now() + AGAIN);
                self.open = Some(open);
                Err(error)
            }
        }
    }

    fn rotate_or_say(&mut self) {
        let first = self.rotate_after.is_none();
        if let Err(error) = self.rotate()
            && first
        {
            tracing::warn!(
                "cannot rotate {}: {error}; it grows until that is possible",
                self.path.display()
            );
        }
    }
}

/// How many of `bytes` go into the file before the next rotation by size; none: rotate first.
fn room(open: &Open, bytes: &[u8]) -> usize {
    let most = usize::try_from(open.by.max_bytes.saturating_sub(open.size)).unwrap_or(usize::MAX);
    // Python's handlers rotate before the file reaches the size
    if bytes.len() < most {
        return bytes.len();
    }
    let window = &bytes[..most.saturating_sub(1).min(bytes.len())];
    if let Some(end) = last_newline(window) {
        return end + 1;
    }
    if open.between_lines && open.size > 0 {
        return 0;
    }
    // a line that is longer than a file, or has begun in this one, stays whole
    first_newline(bytes).map_or(bytes.len(), |end| end + 1)
}

impl Target for FileTarget {
    fn open(&mut self) -> Result<(), Trouble> {
        self.opened(0).map(|_| ())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        if self.is_gone() {
            self.open = None;
        }
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            self.opened(done)?;
            if self.is_due() {
                self.rotate_or_say();
                continue;
            }
            let may_rotate = self.may_rotate();
            let open = self.opened(done)?;
            let by_size = open.by.max_bytes > 0 && open.by.backup_count > 0 && open.regular;
            let part = if by_size && may_rotate {
                match room(open, rest) {
                    0 => {
                        self.rotate_or_say();
                        continue;
                    }
                    part => part,
                }
            } else {
                rest.len()
            };
            match open.file.write(&rest[..part]) {
                Ok(0) => {
                    return Err(self.trouble(done, "write to", &ErrorKind::WriteZero.into()));
                }
                Ok(count) => {
                    open.size = open.size.saturating_add(count as u64);
                    open.between_lines = rest.get(count - 1) == Some(&b'\n');
                    done += count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.trouble(done, "write to", &error)),
            }
        }
        Ok(())
    }

    fn reopen(&mut self) {
        self.open = None;
    }

    fn close(&mut self) {
        self.open = None;
    }
}

fn open(path: &Path, rules: &Rules) -> io::Result<Open> {
    // as it was before: a file that was left over may be due already
    let before = fs::metadata(path).ok();
    let file = File::options()
        .append(true)
        .create(true)
        .custom_flags(nix::libc::O_NOCTTY)
        .open(path)?;
    let now = file.metadata()?;
    let times = rules_times(rules);
    let since = match &before {
        Some(before) if before.len() > 0 => before.modified().unwrap_or(SystemTime::now()),
        _ => SystemTime::now(),
    };
    Ok(Open {
        regular: now.is_file(),
        size: now.len(),
        between_lines: true,
        due: times.map(|times| times.next(seconds(since))),
        by: rules.clone(),
        file,
    })
}

fn rules_times(rules: &Rules) -> Option<Times> {
    rules.schedule.map(Times::new)
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The place of the first end of a line.
pub fn first_newline(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes)
}

/// The place of the last end of a line.
pub fn last_newline(bytes: &[u8]) -> Option<usize> {
    memchr::memrchr(b'\n', bytes)
}

#[cfg(test)]
mod tests;
