//! The maintenance window's file, read again when it changes, and asked again when a window begins or ends.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::schedule::Hold;
use super::telling::moment;
use super::window::Windows;

/// At least this often the time of day is looked at, in case somebody sets the clock.
const GLANCE: Duration = Duration::from_secs(60);

/// The file, as it was last read.
#[derive(Debug)]
pub struct WindowFile {
    path: Option<PathBuf>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Absent,
    Windows(Windows),
    Bad(String),
}

impl WindowFile {
    /// The file at `path`, which need not be there.
    pub fn open(path: Option<PathBuf>) -> WindowFile {
        let mut file = WindowFile {
            path,
            content: Content::Absent,
        };
        file.read();
        file
    }

    /// Reads it again; what is wrong with it is returned.
    pub fn read(&mut self) -> Option<String> {
        let path = self.path.as_ref()?;
        let name = path.display().to_string();
        self.content = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content::Absent,
            Err(error) => Content::Bad(format!("{name}: {error}")),
            Ok(text) => match Windows::parse(&text, &name) {
                Ok(windows) => Content::Windows(windows),
                Err(error) => Content::Bad(error.to_string()),
            },
        };
        self.problem().map(str::to_string)
    }

    /// What is wrong with it.
    pub fn problem(&self) -> Option<&str> {
        match &self.content {
            Content::Bad(problem) => Some(problem),
            _ => None,
        }
    }

    /// What is asked for now, and how long that is certain.
    pub fn now(&self, now: &jiff::Zoned) -> (Hold, Option<Duration>) {
        match &self.content {
            Content::Absent => (Hold::Free, None),
            Content::Bad(_) => (Hold::Audit, None),
            Content::Windows(windows) => {
                let left = windows.next_change(now.datetime()).map(|_| {
                    let left = self.changes_at(now).map(|at| at.duration_since(now));
                    let left = left.and_then(|left| Duration::try_from(left).ok());
                    // A moment more, so that the edge is behind us then.
                    left.unwrap_or_default().min(GLANCE) + Duration::from_millis(5)
                });
                (windows.at(now.datetime()), left)
            }
        }
    }

    fn changes_at(&self, now: &jiff::Zoned) -> Option<jiff::Zoned> {
        match &self.content {
            Content::Windows(windows) => {
                let at = windows.next_change(now.datetime())?;
                at.to_zoned(now.time_zone().clone()).ok()
            }
            _ => None,
        }
    }

    /// For the status.
    pub fn to_json(&self, now: &jiff::Zoned) -> Value {
        match &self.path {
            None => Value::Null,
            Some(path) => json!({
                "file": path.display().to_string(),
                "there": !matches!(self.content, Content::Absent),
                "next_change": self.changes_at(now).map(|at| moment(at.timestamp())),
                "error": self.problem(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_and_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("window");
        let now: jiff::Zoned = "2026-11-21T03:00[Europe/Berlin]".parse().unwrap();
        let mut file = WindowFile::open(Some(path.clone()));
        assert_eq!(file.now(&now), (Hold::Free, None));
        std::fs::write(&path, "").unwrap();
        assert_eq!(file.read(), None);
        assert_eq!(file.now(&now), (Hold::Audit, None));
        std::fs::write(&path, "Sat 02:00-03:00:30").unwrap();
        assert!(
            file.read()
                .is_some_and(|problem| problem.contains("window:1"))
        );
        assert_eq!(file.now(&now).0, Hold::Audit);
        std::fs::write(&path, "Sat 02:00-04:00 off").unwrap();
        file.read();
        let (hold, left) = file.now(&now);
        assert_eq!(hold, Hold::Off);
        assert!(left.is_some_and(|left| left > Duration::from_secs(59)));
        assert_eq!(
            file.to_json(&now)["next_change"],
            "2026-11-21T03:00:00.000Z"
        );
        std::fs::remove_file(&path).unwrap();
        file.read();
        assert_eq!(file.now(&now), (Hold::Free, None));
        assert_eq!(WindowFile::open(None).now(&now), (Hold::Free, None));
    }
}
