//! A log file that is read from near its end, and followed over rotation: by renaming, by copying and truncating, by
//! removing.

use std::collections::VecDeque;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;

use super::since::{HEAD, LineClock};

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
    /// It is compressed, and was not unpacked yet.
    packed: bool,
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
            packed: false,
        })
    }

    /// What is compressed is unpacked into a file without a name, which goes with this.
    fn unpack(&mut self) -> io::Result<()> {
        if !self.packed {
            return Ok(());
        }
        self.packed = false;
        let mut plain = tempfile::tempfile()?;
        let packed = std::mem::replace(&mut self.file, plain.try_clone()?);
        // What comes before a mistake in it can be read all the same.
        let unpacked = io::copy(&mut MultiGzDecoder::new(packed), &mut plain);
        unpacked.map(|_| ())
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

    /// Whether anything is to be read.
    pub fn has_more(&self) -> bool {
        let length = |part: &Part| part.file.metadata().map_or(0, |about| about.len());
        self.parts.iter().any(|part| length(part) > part.position)
    }

    /// The directory in which something happens when the file is rotated or grows.
    pub fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Goes back so that this many lines from the end come next, those of rotated files among them. A compressed file
    /// that cannot be read is left out.
    pub fn rewind(&mut self, lines: usize) {
        self.rewind_since(lines, None);
    }

    /// The same, but not to files that were written last before `since`. What is to be said of it comes back.
    pub fn rewind_since(&mut self, lines: usize, since: Option<Timestamp>) -> Vec<String> {
        let mut notices = Vec::new();
        let Some(current) = self.parts.back_mut() else {
            return notices;
        };
        let (own, changed) = (current.identity, current.changed());
        let mut left = lines - go_back(current, lines);
        if left == 0 {
            return notices;
        }
        // what was changed later has been rotated in this very moment; `look` finds it
        let older = rotated(&self.path, |old| {
            let young = since.is_some_and(|since| old.changed.0 < since.as_second());
            let earlier = changed.is_some_and(|changed| old.changed <= changed);
            !young && (old.packed || earlier)
        });
        for mut part in older.into_iter().rev().filter(|part| part.identity != own) {
            if let Err(error) = part.unpack() {
                notices.push(format!(
                    "cannot unpack all of the compressed files of {}: {error}",
                    self.path.display()
                ));
            }
            left -= go_back(&mut part, left);
            part.replaced = Some(Instant::now());
            self.parts.push_front(part);
            if left == 0 {
                break;
            }
        }
        notices
    }

    /// Goes on to the first line that was written at `since` or later, by the times that lines tell. False if none
    /// tells any: then only whole files are left out.
    pub fn skip_to(&mut self, since: Timestamp, clock: &LineClock) -> bool {
        let mut told = false;
        for part in &mut self.parts {
            let found = find(part, since, clock);
            told |= found.told;
            match found.position {
                Some(position) => {
                    part.position = position;
                    return true;
                }
                None if found.told => part.position = found.end,
                // It may have some lines that are young enough.
                None => {}
            }
        }
        told
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
            for part in rotated(&self.path, |old| !old.packed && old.changed >= known) {
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

/// Where the lines of a file begin that are young enough.
struct Found {
    position: Option<u64>,
    /// Some line told a time.
    told: bool,
    /// Where the file ended.
    end: u64,
}

fn find(part: &Part, since: Timestamp, clock: &LineClock) -> Found {
    let mut found = Found {
        position: None,
        told: false,
        end: part.position,
    };
    // The beginning of the line that is being read, and where that is.
    let (mut head, mut start) = (Vec::new(), part.position);
    let mut block = vec![0; BLOCK];
    let young = |head: &mut Vec<u8>, found: &mut Found| {
        let time = clock.time_of(head);
        head.clear();
        found.told |= time.is_some();
        time.is_some_and(|time| time >= since)
    };
    while let Ok(read @ 1..) = part.file.read_at(&mut block, found.end) {
        let mut rest = &block[..read];
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let line = &rest[..at];
            head.extend_from_slice(&line[..line.len().min(HEAD.saturating_sub(head.len()))]);
            rest = &rest[at + 1..];
            if young(&mut head, &mut found) {
                found.position = Some(start);
                return found;
            }
            start = found.end + (read - rest.len()) as u64;
        }
        head.extend_from_slice(&rest[..rest.len().min(HEAD.saturating_sub(head.len()))]);
        found.end += read as u64;
    }
    if !head.is_empty() && young(&mut head, &mut found) {
        found.position = Some(start);
    }
    found
}

/// How often the names of rotated files are read again because they changed meanwhile.
const ATTEMPTS: usize = 20;

/// The files that this one was before and that were changed at a time that is wanted, the oldest first.
fn rotated(path: &Path, wanted: impl Fn(&Old) -> bool) -> Vec<Part> {
    let mut parts = Vec::new();
    for _ in 0..ATTEMPTS {
        let names = names(path);
        let names: Vec<_> = names.into_iter().filter(|old| wanted(old)).collect();
        parts = names
            .iter()
            .filter_map(|old| {
                let mut part = open_regular(&old.path).ok()?;
                part.packed = old.packed;
                (part.identity == old.identity).then_some(part)
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
    packed: bool,
}

/// Rotated files by when they were changed last, the oldest first: `log.1`, `log.20260102`, `log-20260102`, each also
/// with `.gz`; not `log.old`.
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
            .and_then(|other| other.strip_prefix(name)?.strip_prefix(['.', '-']));
        let plain = suffix.map(|suffix| suffix.strip_suffix(".gz").unwrap_or(suffix));
        let packed = plain != suffix;
        let suffix = plain;
        if suffix.is_some_and(numbered)
            && let Ok(about) = entry.metadata()
            && about.is_file()
        {
            let number = suffix.and_then(|s| s.parse::<i64>().ok()).unwrap_or(0);
            let old = Old {
                changed: (about.mtime(), about.mtime_nsec()),
                identity: identity(&about),
                path: entry.path(),
                packed,
            };
            found.push((-number, old));
        }
    }
    // For a moment a file is there as it was, and compressed.
    let plain: Vec<PathBuf> = found.iter().map(|(_, old)| old.path.clone()).collect();
    found.retain(|(_, old)| !old.packed || !plain.contains(&old.path.with_extension("")));
    // of two that were changed at the same time the higher number is the older one
    found.sort_by_key(|(number, old)| (old.changed, *number));
    found.into_iter().map(|(_, old)| old).collect()
}

#[cfg(test)]
mod tests;
