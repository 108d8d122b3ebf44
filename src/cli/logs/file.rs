//! A log file that is read from near its end, and followed over rotation: by renaming, by copying and truncating, by
//! removing.

use std::collections::VecDeque;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How much is read at once, in bytes.
const BLOCK: usize = 64 * 1024;

/// How long a file that was moved away is still read: whoever writes to it may not have noticed yet.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// What tells one file from another, whatever its name.
type Identity = (u64, u64);

/// When a file was changed last: seconds and nanoseconds.
type Changed = (i64, i64);

fn identity(of: &Metadata) -> Identity {
    (of.dev(), of.ino())
}

/// A log file and those it was before.
pub struct Reader {
    path: PathBuf,
    /// What is to be read, the oldest first; the last is the one that grows.
    parts: VecDeque<Part>,
    buffer: Vec<u8>,
}

struct Part {
    file: File,
    identity: Identity,
    /// How far it was read, in bytes.
    position: u64,
    /// Since when another file has its place.
    replaced: Option<Instant>,
}

impl Part {
    fn open(path: &Path) -> io::Result<Part> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        if about.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !about.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(Part {
            identity: identity(&about),
            file,
            position: 0,
            replaced: None,
        })
    }

    /// When it was changed last.
    fn changed(&self) -> Option<Changed> {
        let about = self.file.metadata().ok()?;
        Some((about.mtime(), about.mtime_nsec()))
    }
}

impl Reader {
    /// Opens it; it may also come later.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn open(path: &Path) -> io::Result<Reader> {
        let mut reader = Reader {
            path: path.to_owned(),
            parts: VecDeque::new(),
            buffer: Vec::new(),
        };
        match open_regular(path) {
            Ok(part) => reader.parts.push_back(part),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(reader)
    }

    /// Whether there is a file at all.
    pub fn is_there(&self) -> bool {
        !self.parts.is_empty()
    }

    /// The directory in which something happens when the file is rotated or grows.
    pub fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Goes back so that this many lines from the end come next, those of rotated files among them.
    pub fn rewind(&mut self, lines: usize) {
        let Some(current) = self.parts.back_mut() else {
            return;
        };
        let (own, changed) = (current.identity, current.changed());
        let mut left = lines - go_back(current, lines);
        if left == 0 {
            return;
        }
        // what was changed later has been rotated in this very moment; `look` finds it
        let older = rotated(&self.path, |at| {
            changed.is_some_and(|changed| at <= changed)
        });
        for mut part in older.into_iter().rev().filter(|part| part.identity != own) {
            left -= go_back(&mut part, left);
            part.replaced = Some(Instant::now());
            self.parts.push_front(part);
            if left == 0 {
                return;
            }
        }
    }

    /// More of it; `None` if that is all for now.
    ///
    /// # Errors
    /// A sentence; the file is left.
    pub fn next(&mut self) -> Result<Option<&[u8]>, String> {
        self.buffer.resize(BLOCK, 0);
        for index in 0..self.parts.len() {
            let Some(part) = self.parts.get_mut(index) else {
                break;
            };
            match part.file.read_at(&mut self.buffer, part.position) {
                Ok(0) => {}
                Ok(read) => {
                    part.position += read as u64;
                    return Ok(Some(&self.buffer[..read]));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.parts.remove(index);
                    return Err(format!("cannot read {}: {error}", self.path.display()));
                }
            }
        }
        Ok(None)
    }

    /// Looks whether the file was truncated, or another one has its place. What is to be said of it comes back.
    pub fn look(&mut self) -> Vec<String> {
        let mut notices = Vec::new();
        let over = |part: &Part| part.replaced.is_some_and(|at| at.elapsed() > AFTERWARDS);
        while self.parts.front().is_some_and(over) {
            self.parts.pop_front();
        }
        let newest = self.parts.back_mut();
        if let Some(part) = newest
            && part
                .file
                .metadata()
                .is_ok_and(|now| now.len() < part.position)
        {
            notices.push(format!("{} was truncated", self.path.display()));
            part.position = 0;
        }
        let there = fs::metadata(&self.path).map(|about| identity(&about));
        let Ok(there) = there else {
            return notices; // it was moved, and the new one is not there yet
        };
        if self.parts.iter().any(|part| part.identity == there) {
            return notices;
        }
        // several rotations may have been made since the last look
        if let Some(known) = self.parts.back().and_then(Part::changed) {
            for part in rotated(&self.path, |at| at >= known) {
                if !self
                    .parts
                    .iter()
                    .any(|other| other.identity == part.identity)
                {
                    self.parts.push_back(part);
                }
            }
        }
        match open_regular(&self.path) {
            Ok(part) => {
                if !self
                    .parts
                    .iter()
                    .any(|other| other.identity == part.identity)
                {
                    self.parts.push_back(part);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => notices.push(format!("cannot read {}: {error}", self.path.display())),
        }
        let last = self.parts.len().saturating_sub(1);
        for part in self.parts.iter_mut().take(last) {
            part.replaced.get_or_insert_with(Instant::now);
        }
        notices
    }
}

/// Opens a regular file, and waits for nobody: opening a named pipe would.
fn open_regular(path: &Path) -> io::Result<Part> {
    let about = fs::metadata(path)?;
    if !about.is_file() && !about.is_dir() {
        return Err(io::Error::other("it is no regular file"));
    }
    Part::open(path)
}

/// Sets the position to the start of this many lines from the end, and says how many of them there are.
fn go_back(part: &mut Part, lines: usize) -> usize {
    let end = part.file.seek(SeekFrom::End(0)).unwrap_or(0);
    if lines == 0 {
        part.position = end;
        return 0;
    }
    if lines == usize::MAX {
        part.position = 0;
        return 0; // never enough
    }
    let mut found = 0;
    let mut at = end;
    let mut block = vec![0; BLOCK];
    while at > 0 {
        let size = at.min(BLOCK as u64);
        let start = at - size;
        let size = usize::try_from(size).unwrap_or(BLOCK);
        let mut read = &part.file;
        if read.seek(SeekFrom::Start(start)).is_err()
            || read.read_exact(&mut block[..size]).is_err()
        {
            break;
        }
        for offset in (0..size).rev() {
            let place = start + offset as u64;
            // the last byte ends the last line and begins none
            if block[offset] == b'\n' && place + 1 < end {
                found += 1;
                if found == lines {
                    part.position = place + 1;
                    return lines;
                }
            }
        }
        at = start;
    }
    part.position = 0;
    if end > 0 { found + 1 } else { 0 }
}

/// How often the names of rotated files are read again because they changed meanwhile.
const ATTEMPTS: usize = 20;

/// The files that this one was before and that were changed at a time that is wanted, the oldest first.
fn rotated(path: &Path, wanted: impl Fn(Changed) -> bool) -> Vec<Part> {
    let mut parts = Vec::new();
    for _ in 0..ATTEMPTS {
        let names = names(path);
        let names: Vec<_> = names
            .into_iter()
            .filter(|old| wanted(old.changed))
            .collect();
        parts = names
            .iter()
            .filter_map(|old| {
                open_regular(&old.path)
                    .ok()
                    .filter(|p| p.identity == old.identity)
            })
            .collect();
        if parts.len() == names.len() {
            break;
        }
        // they have been renamed between the look at the directory and here
    }
    parts
}

struct Old {
    changed: Changed,
    identity: Identity,
    path: PathBuf,
}

/// Rotated files by when they were changed last, the oldest first: `log.1` and `log.20260102`, not `log.old` nor what is
/// compressed.
fn names(path: &Path) -> Vec<Old> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let numbered = |suffix: &str| {
        suffix.starts_with(|c: char| c.is_ascii_digit())
            && suffix
                .chars()
                .all(|c| c.is_ascii_digit() || "-_:".contains(c))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let other = entry.file_name();
        let suffix = other
            .to_str()
            .and_then(|other| other.strip_prefix(name)?.strip_prefix('.'));
        if suffix.is_some_and(numbered)
            && let Ok(about) = entry.metadata()
            && about.is_file()
        {
            let number = suffix.and_then(|s| s.parse::<i64>().ok()).unwrap_or(0);
            let old = Old {
                changed: (about.mtime(), about.mtime_nsec()),
                identity: identity(&about),
                path: entry.path(),
            };
            found.push((-number, old));
        }
    }
    // of two that were changed at the same time the higher number is the older one
    found.sort_by_key(|(number, old)| (old.changed, *number));
    found.into_iter().map(|(_, old)| old).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Log {
        directory: tempfile::TempDir,
    }

    impl Log {
        fn new() -> Log {
            let directory = tempfile::tempdir().unwrap();
            Log { directory }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("log")
        }

        fn say(&self, text: &str) {
            let mut file = File::options()
                .append(true)
                .create(true)
                .open(self.path())
                .unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        /// As RotatingFileHandler does it, with three old files.
        fn rotate(&self) {
            for number in (1..3).rev() {
                let name = |n: i32| self.directory.path().join(format!("log.{n}"));
                let _ = fs::rename(name(number), name(number + 1));
            }
            fs::rename(self.path(), self.directory.path().join("log.1")).unwrap();
        }
    }

    fn read(reader: &mut Reader) -> String {
        let mut all = Vec::new();
        while let Some(bytes) = reader.next().unwrap() {
            all.extend_from_slice(bytes);
        }
        String::from_utf8(all).unwrap()
    }

    fn news(reader: &mut Reader) -> String {
        assert_eq!(reader.look(), [""; 0]);
        read(reader)
    }

    #[test]
    fn the_last_lines_and_then_more() {
        let log = Log::new();
        log.say("one\ntwo\nthree\n");
        let mut reader = Reader::open(&log.path()).unwrap();
        reader.rewind(2);
        assert_eq!(read(&mut reader), "two\nthree\n");
        log.say("four\nfi");
        assert_eq!(news(&mut reader), "four\nfi");
        log.say("ve\n");
        assert_eq!(news(&mut reader), "ve\n");
        reader.rewind(1);
        assert_eq!(read(&mut reader), "five\n");
        reader.rewind(0);
        assert_eq!(read(&mut reader), "");
    }

    #[test]
    fn lines_longer_than_a_block() {
        let log = Log::new();
        let long = "x".repeat(BLOCK + 7);
        log.say(&format!("zero\n{long}\n{long}\n"));
        let mut reader = Reader::open(&log.path()).unwrap();
        reader.rewind(2);
        assert_eq!(read(&mut reader), format!("{long}\n{long}\n"));
        reader.rewind(3);
        assert!(read(&mut reader).starts_with("zero\n"));
    }

    #[test]
    fn rotated_files_are_part_of_it() {
        let log = Log::new();
        log.say("one\ntwo\n");
        log.rotate();
        log.say("three\n");
        log.rotate();
        fs::write(log.directory.path().join("log.old"), "not this\n").unwrap();
        log.say("four\n");
        let lines = |count| {
            let mut reader = Reader::open(&log.path()).unwrap();
            reader.rewind(count);
            read(&mut reader)
        };
        assert_eq!(lines(1), "four\n");
        assert_eq!(lines(2), "three\nfour\n");
        assert_eq!(lines(3), "two\nthree\nfour\n");
        assert_eq!(lines(usize::MAX), "one\ntwo\nthree\nfour\n");
    }

    #[test]
    fn several_rotations_between_two_looks_lose_nothing() {
        let log = Log::new();
        log.say("one\n");
        let mut reader = Reader::open(&log.path()).unwrap();
        assert_eq!(news(&mut reader), "one\n");
        log.say("two\n");
        log.rotate();
        log.say("three\n");
        log.rotate();
        log.say("four\n");
        assert_eq!(news(&mut reader), "two\nthree\nfour\n");
    }

    #[test]
    fn a_late_line_in_the_old_file_is_seen() {
        let log = Log::new();
        log.say("one\n");
        let mut old = File::options().append(true).open(log.path()).unwrap();
        let mut reader = Reader::open(&log.path()).unwrap();
        assert_eq!(news(&mut reader), "one\n");
        log.rotate();
        old.write_all(b"two\n").unwrap();
        assert_eq!(news(&mut reader), "two\n", "there is no new file yet");
        log.say("four\n");
        assert_eq!(news(&mut reader), "four\n");
        old.write_all(b"three\n").unwrap();
        assert_eq!(news(&mut reader), "three\n");
    }

    #[test]
    fn truncated_removed_and_late_files() {
        let log = Log::new();
        let mut reader = Reader::open(&log.path()).unwrap();
        assert!(!reader.is_there());
        assert_eq!(news(&mut reader), "");
        log.say("one\n");
        assert_eq!(news(&mut reader), "one\n");
        fs::write(log.path(), "").unwrap();
        log.say("2\n");
        assert_eq!(
            reader.look(),
            [format!("{} was truncated", log.path().display())]
        );
        assert_eq!(read(&mut reader), "2\n");
        fs::remove_file(log.path()).unwrap();
        assert_eq!(news(&mut reader), "");
        log.say("three\n");
        assert_eq!(news(&mut reader), "three\n");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Reader::open(directory.path()).is_err());
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Reader::open(&pipe).is_err());
    }
}
