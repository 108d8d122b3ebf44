//! A pause outlives the agent: whoever paused it before a maintenance must not find it at work again because it was
//! started anew. It is remembered in the directory of the reports.

use std::path::PathBuf;

use serde_json::{Value, json};

/// Where a pause is remembered; nowhere without a directory.
#[derive(Debug, Clone)]
pub struct Memory(Option<PathBuf>);

impl Memory {
    /// In this directory.
    pub fn new(directory: Option<PathBuf>) -> Memory {
        Memory(directory.map(|directory| directory.join("pause")))
    }

    /// Whether anything is remembered at all.
    pub fn lasts(&self) -> bool {
        self.0.is_some()
    }

    /// Remembers a pause and its end, if it has one; or that there is none.
    ///
    /// # Errors
    /// A sentence about the file that could not be written.
    pub fn remember(&self, pause: Option<Option<jiff::Timestamp>>) -> Result<(), String> {
        let Some(path) = &self.0 else { return Ok(()) };
        let done = match pause {
            Some(until) => {
                let until = until.map(|until| until.to_string());
                std::fs::write(path, format!("{}\n", json!({ "until": until })))
            }
            None => match std::fs::remove_file(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                done => done,
            },
        };
        done.map_err(|error| {
            format!(
                "the pause cannot be remembered in {}: {error}",
                path.display()
            )
        })
    }

    /// The pause that was remembered, if it is not over. What cannot be read is a pause: somebody wanted one.
    pub fn recall(&self, now: jiff::Timestamp) -> Option<Option<jiff::Timestamp>> {
        let text = std::fs::read_to_string(self.0.as_ref()?).ok()?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let until = value.get("until").and_then(Value::as_str);
        let until: Option<jiff::Timestamp> = until.and_then(|until| until.parse().ok());
        until.is_none_or(|until| until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_remembered_until_it_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::new(Some(directory.path().to_path_buf()));
        let now: jiff::Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let later: jiff::Timestamp = "2026-11-21T10:30:00Z".parse().unwrap();
        assert_eq!(memory.recall(now), None);
        memory.remember(Some(Some(later))).unwrap();
        assert_eq!(memory.recall(now), Some(Some(later)));
        assert_eq!(memory.recall(later), None);
        memory.remember(Some(None)).unwrap();
        assert_eq!(memory.recall(later), Some(None));
        memory.remember(None).unwrap();
        memory.remember(None).unwrap();
        assert_eq!(memory.recall(now), None);
        let nowhere = Memory::new(None);
        nowhere.remember(Some(None)).unwrap();
        assert!(!nowhere.lasts() && nowhere.recall(now).is_none());
        let lost = Memory::new(Some("/no/such/directory".into()));
        assert!(lost.remember(Some(None)).unwrap_err().contains("/no/such"));
    }
}
