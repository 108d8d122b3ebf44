//! One thing that was found, and where it stands. Pure.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::config::opened::Opened;
use crate::config::Problem;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The daemon will not start, or not start this.
    Error,
    /// It is allowed, but probably not meant.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as the user spelled it.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// The section.
    pub section: Option<String>,
    /// The key.
    pub key: Option<String>,
    /// What it is, and what to do.
    pub what: String,
}

impl Finding {
    /// Something that is wrong with a whole file.
    pub fn error(file: &Path, what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.to_owned(),
            line: None,
            section: None,
            key: None,
            what: what.into(),
        }
    }

    /// Something about a key, or about a section whose key is not there.
    pub fn at(
        severity: Severity,
        opened: &Opened,
        section: &str,
        key: &str,
        what: impl Into<String>,
    ) -> Self {
        let effective = &opened.effective;
        let stated = effective
            .get(section, key)
            .map(|stated| (stated.file, stated.line));
        let known = stated.is_some();
        let place = stated.or_else(|| {
            let (file, _, line) = effective.section_place(section)?;
            Some((file.to_owned(), line))
        });
        let (file, line) = match place {
            Some((file, line)) => (file, Some(line)),
            None => (opened.shown.clone(), None),
        };
        Self {
            severity,
            file,
            line,
            section: Some(section.to_owned()),
            key: known.then(|| key.to_owned()),
            what: what.into(),
        }
    }

    /// The finding as an object.
    pub fn to_json(&self) -> Value {
        json!({
            "severity": self.severity.as_str(),
            "file": self.file,
            "line": self.line,
            "section": self.section,
            "key": self.key,
            "message": self.what,
        })
    }
}

impl From<Problem> for Finding {
    fn from(problem: Problem) -> Self {
        Self {
            severity: Severity::Error,
            file: problem.file,
            line: problem.line,
            section: problem.section,
            key: problem.key,
            what: problem.what,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}: ", self.severity.as_str())?;
        match (&self.section, &self.key) {
            (Some(section), Some(key)) => write!(f, "[{section}] {key}: ")?,
            (Some(section), None) => write!(f, "[{section}]: ")?,
            _ => {}
        }
        f.write_str(&self.what)
    }
}

/// A warning that is only a text, such as `[watcher:web] key: …`, with the place it speaks of.
pub fn located(opened: &Opened, text: &str) -> Finding {
    let prefix = format!("{}: ", opened.shown.display());
    let text = text.strip_prefix(&prefix).unwrap_or(text);
    let parts = text
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .filter(|(section, _)| opened.effective.has_section(section));
    let Some((section, rest)) = parts else {
        return Finding {
            severity: Severity::Warning,
            ..Finding::error(&opened.shown, text)
        };
    };
    let rest = rest.trim_start_matches([' ', ':']);
    let key = rest
        .split_once(':')
        .filter(|(key, _)| opened.effective.get(section, key).is_some());
    match key {
        Some((key, what)) => {
            Finding::at(Severity::Warning, opened, section, key, what.trim_start())
        }
        None => Finding::at(Severity::Warning, opened, section, "", rest),
    }
}

/// In the order of the files and lines.
pub fn sort(findings: &mut [Finding], opened: &Opened) {
    let number = |file: &Path| opened.files.iter().position(|one| one.shown == file);
    findings.sort_by_cached_key(|finding| (number(&finding.file), finding.line, finding.severity));
}
