//! What can be wrong with a configuration, told so that it can be put right: every problem names
//! its file and line, what stands there and what was expected, and all of them are told at once.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use super::document::Format;
use super::toml;

/// What sort of trouble a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// A file could not be read.
    Unreadable,
    /// The text is not circus.ini (Circus's own parser rejects it too), or not TOML.
    Syntax,
    /// A value cannot be converted to what its key needs.
    Value,
    /// Each value is right by itself, but together they describe nothing that can run.
    Rule,
    /// An edit asked for something this file format cannot express.
    Edit,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The sort of trouble.
    pub kind: ProblemKind,
    /// The file, spelled as the user spelled it where that is known.
    pub file: PathBuf,
    /// The line, counted from 1, when one line is to blame.
    pub line: Option<usize>,
    /// The section, when one is to blame, under its name in circus.ini.
    pub section: Option<String>,
    /// The key, when one is to blame.
    pub key: Option<String>,
    /// What stands there, what was expected, and what to do.
    pub what: String,
}

impl Problem {
    /// A problem of a whole file.
    pub fn new(kind: ProblemKind, file: impl AsRef<Path>, what: impl Into<String>) -> Self {
        Self {
            kind,
            file: file.as_ref().to_owned(),
            line: None,
            section: None,
            key: None,
            what: what.into(),
        }
    }

    /// Names the line (counted from 1).
    pub fn at(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }

    /// Names the section.
    pub fn section(mut self, section: &str) -> Self {
        self.section = Some(section.to_owned());
        self
    }

    /// Names the key.
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": ")?;
        let section = self
            .section
            .as_deref()
            .map(|section| match Format::of(&self.file) {
                Format::Ini => Cow::Borrowed(section),
                Format::Toml => Cow::Owned(toml::spelled(section)),
            });
        match (section, &self.key) {
            (Some(section), Some(key)) => write!(f, "[{section}] {key}: ")?,
            (Some(section), None) => write!(f, "[{section}]: ")?,
            (None, Some(key)) => write!(f, "{key}: ")?,
            (None, None) => {}
        }
        write!(f, "{}", self.what)
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems in the order of the files.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// `Ok` when there is nothing to complain about.
    pub fn check(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Self { problems })
        }
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// `text` as an error message quotes it: shortened, and with control characters escaped.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    if text.chars().count() > LONGEST {
        let head: String = text.chars().take(LONGEST).collect();
        format!("{head:?}…")
    } else {
        format!("{text:?}")
    }
}

/// How an error message calls the value of a key: quoted, but for a variable, which may be a secret.
pub(crate) fn value_named(section: &str, value: &str) -> String {
    if section == "env" || section.starts_with("env:") {
        "the value".to_owned()
    } else {
        format!("the value {}", quoted(value))
    }
}
