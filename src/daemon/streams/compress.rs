//! The names of rotated files, and their compression in the background.
//!
//! A file may get its next number while it is being compressed: whoever renames files and whoever replaces one by its
//! compressed form go by the same [`Names`]. A compressed file appears whole or not at all; if the daemon ends before,
//! the next one that opens the file compresses what is left over.

use super::rotation::Times;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The rotated files of one file that wait to be compressed: by a number of their own, since their names change.
#[derive(Debug, Default)]
pub struct Names(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    files: BTreeMap<u64, PathBuf>,
}

impl Names {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn rename(&mut self, old: &Path, new: &Path) -> io::Result<()> {
        fs::rename(old, new)?;
        for path in self.files.values_mut().filter(|path| *path == old) {
            *path = new.to_path_buf();
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.files.retain(|_, waiting| waiting != path);
        fs::remove_file(path)
    }
}

fn unless_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// `path` becomes `path.1`, `path.1` becomes `path.2` and so on up to `count`; the oldest goes.
///
/// # Errors
/// A file could not be renamed; `path` has kept its name.
pub fn rotate_by_number(path: &Path, count: u32, names: &Names) -> io::Result<PathBuf> {
    let mut waiting = names.lock();
    for number in (1..=count).rev() {
        for end in ["", ".gz"] {
            let old = with(path, &format!(".{number}{end}"));
            unless_missing(if number == count {
                waiting.remove(&old)
            } else {
                waiting.rename(&old, &with(path, &format!(".{}{end}", number + 1)))
            })?;
        }
    }
    let rotated = with(path, ".1");
    waiting.rename(path, &rotated)?;
    Ok(rotated)
}

/// `path` gets the date of the period that has ended at `end`; with a `count`, only so many rotated files stay.
///
/// # Errors
/// The file could not be renamed, and has kept its name.
pub fn rotate_to_date(
    path: &Path,
    times: &Times,
    end: i64,
    count: u32,
    names: &Names,
) -> io::Result<PathBuf> {
    let mut waiting = names.lock();
    let date = times.suffix(end);
    let taken = |suffix: &str| {
        let plain = with(path, suffix);
        fs::symlink_metadata(&plain).is_ok() || fs::symlink_metadata(with(&plain, ".gz")).is_ok()
    };
    // circus removes a file that has the name already, and what is in it is lost
    let mut suffix = format!(".{date}");
    let mut again = 1u32;
    while taken(&suffix) {
        suffix = format!(".{date}-{again}");
        again = again.saturating_add(1);
    }
    let rotated = with(path, &suffix);
    waiting.rename(path, &rotated)?;
    if count > 0 {
        let mut all = dated(path, times);
        all.sort();
        let surplus = all.len().saturating_sub(count as usize);
        for (_, _, old) in all.into_iter().take(surplus) {
            if let Err(error) = unless_missing(waiting.remove(&old)) {
                tracing::warn!("cannot remove the rotated {}: {error}", old.display());
            }
        }
    }
    Ok(rotated)
}

/// The rotated files of `path` with what orders them by age.
fn dated(path: &Path, times: &Times) -> Vec<(String, u32, PathBuf)> {
    beside(path)
        .filter_map(|(rest, file)| {
            let (date, again) = times.age(&rest)?;
            Some((date.to_string(), again, file))
        })
        .collect()
}

/// The files beside `path` that have its name, a dot and more: what follows the dot, and the file.
fn beside(path: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut prefix = path.file_name().unwrap_or(OsStr::new("")).to_os_string();
    prefix.push(".");
    let directory = directory.to_path_buf();
    let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let name = entry.file_name();
        let rest = name.to_str()?.strip_prefix(prefix.to_str()?)?;
        Some((rest.to_string(), directory.join(&name)))
    })
}

/// What an earlier daemon has rotated and not compressed any more is compressed now.
pub fn left_over(path: &Path, times: &Option<Times>, names: &Arc<Names>) {
    let mut all: Vec<(String, u32, PathBuf)> = beside(path)
        .filter_map(|(rest, file)| match times {
            Some(times) => times
                .age(&rest)
                .map(|(date, again)| (date.to_string(), again, file)),
            None => Some((String::new(), rest.parse().ok()?, file)),
        })
        .filter(|(_, _, file)| file.extension() != Some(OsStr::new("gz")))
        .collect();
    all.sort();
    for (_, _, file) in all {
        if !names.lock().files.values().any(|waiting| *waiting == file) {
            later(&file, names);
        }
    }
}

/// One file to be compressed: whose, and its number there.
type Order = (Arc<Names>, u64);

/// What waits; `None`: there is no thread.
static QUEUE: Mutex<Option<VecDeque<Order>>> = Mutex::new(None);

/// Has a rotated file compressed by a thread that is there as long as there is something to do.
pub fn later(rotated: &Path, names: &Arc<Names>) {
    let number = {
        let mut waiting = names.lock();
        waiting.next += 1;
        let number = waiting.next;
        waiting.files.insert(number, rotated.to_path_buf());
        number
    };
    let mut queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
    let order = (names.clone(), number);
    match &mut *queue {
        Some(orders) => orders.push_back(order),
        None => {
            let thread = std::thread::Builder::new()
                .name("gzip".to_string())
                .stack_size(2 << 20)
                .spawn(work);
            match thread {
                Ok(_) => *queue = Some(VecDeque::from([order])),
                Err(error) => tracing::warn!(
                    "{} is not compressed: no thread can be started: {error}",
                    rotated.display()
                ),
            }
        }
    }
}

fn work() {
    loop {
        let order = {
            let mut queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
            match queue.as_mut().and_then(VecDeque::pop_front) {
                Some(order) => order,
                None => {
                    *queue = None;
                    return;
                }
            }
        };
        let (names, number) = order;
        let path = names.lock().files.get(&number).cloned();
        if let Some(path) = path
            && let Err(error) = compress(&path, &names, number)
        {
            names.lock().files.remove(&number);
            tracing::warn!("cannot compress {}: {error}", path.display());
        }
    }
}

fn compress(path: &Path, names: &Names, number: u64) -> io::Result<()> {
    let part = with(path, ".gzip-part");
    let outcome = compress_to(path, &part, names, number);
    if outcome.is_err() {
        // it may not be there at all
        let _ = fs::remove_file(&part);
    }
    outcome
}

fn compress_to(path: &Path, part: &Path, names: &Names, number: u64) -> io::Result<()> {
    let from = match File::open(path) {
        Ok(file) => file,
        // renamed or removed in this moment: then it is looked up again, or it is gone
        Err(error) if error.kind() == ErrorKind::NotFound => {
            match names.lock().files.get(&number).cloned() {
                Some(now) if now != path => File::open(now)?,
                _ => return Ok(()),
            }
        }
        Err(error) => return Err(error),
    };
    let about = from.metadata()?;
    let to = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part)?;
    let mut encoder = GzEncoder::new(to, Compression::default());
    let mut from = BufReader::with_capacity(64 * 1024, from).take(u64::MAX);
    io::copy(&mut from, &mut encoder)?;
    let to = encoder.finish()?;
    to.set_permissions(about.permissions())?;
    if let Ok(modified) = about.modified() {
        to.set_modified(modified)?;
    }
    let mut waiting = names.lock();
    match waiting.files.remove(&number) {
        Some(now) => {
            fs::rename(part, with(&now, ".gz"))?;
            unless_missing(fs::remove_file(&now))
        }
        // rotated away meanwhile
        None => fs::remove_file(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::streams::{Period, Schedule};
    use std::io::Read;

    fn names_in(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn wait(names: &Names) {
        while !names.lock().files.is_empty() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn numbers_go_up_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let names = Names::default();
        for round in 1..=5 {
            fs::write(&path, format!("{round}")).unwrap();
            rotate_by_number(&path, 3, &names).unwrap();
        }
        assert_eq!(names_in(directory.path()), ["log.1", "log.2", "log.3"]);
        assert_eq!(fs::read_to_string(with(&path, ".1")).unwrap(), "5");
        assert_eq!(fs::read_to_string(with(&path, ".3")).unwrap(), "3");
    }

    #[test]
    fn what_is_compressed_keeps_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let names = Arc::new(Names::default());
        for round in 1..=4 {
            fs::write(&path, format!("{round}").repeat(100_000)).unwrap();
            let rotated = rotate_by_number(&path, 3, &names).unwrap();
            later(&rotated, &names);
        }
        wait(&names);
        assert_eq!(
            names_in(directory.path()),
            ["log.1.gz", "log.2.gz", "log.3.gz"]
        );
        for (number, round) in [(1, "4"), (2, "3"), (3, "2")] {
            let file = File::open(with(&path, &format!(".{number}.gz"))).unwrap();
            let mut text = String::new();
            flate2::read::GzDecoder::new(file)
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, round.repeat(100_000));
        }
    }

    #[test]
    fn what_was_left_over_is_compressed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for name in ["log.1", "log.2.gz", "log.old", "other.1"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        let names = Arc::new(Names::default());
        left_over(&path, &None, &names);
        wait(&names);
        assert_eq!(
            names_in(directory.path()),
            ["log.1.gz", "log.2.gz", "log.old", "other.1"]
        );
    }

    #[test]
    fn dates_never_collide_and_the_oldest_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let times = Times::new(Schedule {
            every: Period::Hour,
            interval: 1,
            utc: true,
        });
        let names = Names::default();
        fs::write(with(&path, ".2020"), "not ours").unwrap();
        for end in [3600, 3600, 7200, 10800] {
            fs::write(&path, "x").unwrap();
            rotate_to_date(&path, &times, end, 3, &names).unwrap();
        }
        assert_eq!(
            names_in(directory.path()),
            [
                "log.1970010100-1",
                "log.1970010101",
                "log.1970010102",
                "log.2020"
            ]
        );
    }
}
