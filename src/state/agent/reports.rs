//! The last reports, as files: `20261121T102030-7.json` for run 7, and `last.json`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A directory of reports.
#[derive(Debug, Clone)]
pub struct Reports {
    directory: PathBuf,
    keep: usize,
}

/// What went wrong with a report's file.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep reports in {}: {what}: {source}", directory.display())]
pub struct ReportsError {
    directory: PathBuf,
    what: String,
    source: io::Error,
}

impl Reports {
    /// In this directory, which is made if it is not there; the newest `keep` stay.
    ///
    /// # Errors
    /// The directory cannot be made or written to.
    pub fn open(directory: PathBuf, keep: usize) -> Result<Reports, ReportsError> {
        let reports = Reports { directory, keep };
        fs::create_dir_all(&reports.directory)
            .map_err(|source| reports.error("make it", source))?;
        // Better told now than after the first run.
        let probe = reports.directory.join(".probe");
        fs::write(&probe, "")
            .and_then(|()| fs::remove_file(&probe))
            .map_err(|source| reports.error("write a file", source))?;
        Ok(reports)
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Keeps the report of this run. `stamp` is its time as `YYYYmmddTHHMMSS`.
    ///
    /// # Errors
    /// A full disk and the like; the files that were there are whole.
    pub fn keep(&self, run: u64, stamp: &str, report: &str) -> Result<(), ReportsError> {
        let text = format!("{report}\n");
        if self.keep > 0 {
            self.write(&format!("{stamp}-{run}.json"), &text)?;
        }
        self.write("last.json", &text)?;
        self.tidy()
    }

    /// Written beside its place and moved there: a reader finds a whole file or none.
    fn write(&self, name: &str, text: &str) -> Result<(), ReportsError> {
        let path = self.directory.join(name);
        let beside = self.directory.join(format!(".{name}.new"));
        let written = fs::File::create(&beside)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&beside, &path));
        written.map_err(|source| {
            let _ = fs::remove_file(&beside); // it may not be there
            self.error(&format!("write {name}"), source)
        })
    }

    fn tidy(&self) -> Result<(), ReportsError> {
        let entries =
            fs::read_dir(&self.directory).map_err(|source| self.error("list it", source))?;
        let mut found: Vec<((String, u64), PathBuf)> = entries
            .flatten()
            .filter_map(|entry| Some((age_of(entry.file_name().to_str()?)?, entry.path())))
            .collect();
        found.sort();
        let surplus = found.len().saturating_sub(self.keep);
        for (_, path) in found.into_iter().take(surplus) {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(self.error(&format!("remove {}", path.display()), source));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn error(&self, what: &str, source: io::Error) -> ReportsError {
        ReportsError {
            directory: self.directory.clone(),
            what: what.to_string(),
            source,
        }
    }
}

/// The time and the run of a report's file; none for files of others.
fn age_of(name: &str) -> Option<(String, u64)> {
    let (stamp, run) = name.strip_suffix(".json")?.split_once('-')?;
    let (day, time) = stamp.split_once('T')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let right = day.len() == 8 && time.len() == 6 && digits(day) && digits(time);
    right.then_some((stamp.to_string(), run.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_stay_and_nothing_else_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("a/b");
        let reports = Reports::open(place.clone(), 3).unwrap();
        fs::write(place.join("mine.json"), "x").unwrap();
        for run in 8..=12 {
            reports
                .keep(run, "20261121T102030", &format!("{{\"run\":{run}}}"))
                .unwrap();
        }
        let mut names: Vec<String> = fs::read_dir(&place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "20261121T102030-10.json",
                "20261121T102030-11.json",
                "20261121T102030-12.json",
                "last.json",
                "mine.json"
            ]
        );
        let last = fs::read_to_string(place.join("last.json")).unwrap();
        assert_eq!(last, "{\"run\":12}\n");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told() {
        let error = Reports::open("/proc/no/such".into(), 3)
            .unwrap_err()
            .to_string();
        assert!(error.contains("/proc/no/such"), "{error}");
    }
}
