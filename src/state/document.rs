//! Reads a desired state: one file, a directory of them, or standard input; TOML, JSON, or a circus.ini itself.
//!
//! TOML and JSON have one shape (`schema = "circ.desired/1"` may say so):
//!
//! ```toml
//! prune = false                    # true: watchers, sockets and plugins that are not named here go
//!
//! [circus]                         # options of the daemon
//! warmup_delay = 1
//!
//! [env]                            # variables of all watchers
//! LANG = "C.UTF-8"
//!
//! [env."web*"]                     # variables of the watchers that the patterns match
//! PORT = 8080
//!
//! [watcher.web]
//! cmd = "python3 worker.py"
//! numprocesses = 4
//! rlimits.nofile = 4096
//! env.TOKEN = "x"
//! state = "running"                # stopped, present (running or not is left alone), absent
//! restart_on_change = "auto"       # never, always
//! unset = ["max_age", "env.DEBUG"] # the same as a null in JSON
//! x_owner = "blue"                 # a key of one's own; others stand in a table `extra`
//!
//! [socket.web]
//! host = "127.0.0.1"
//! port = 8000
//! state = "present"                # absent
//! ```
//!
//! So every circus.toml is a desired state; and so is every circus.ini, whose values are taken as they are written:
//! variables are replaced by the configuration that the state is applied to. `include` and `include_dir` name further
//! files of the document, as in a configuration: they are read, first come first served, and not passed on.
//!
//! Everything that is wrong is told at once, each with its file, line and key.

mod draft;
mod files;
mod finish;
mod ini;
mod json;
pub(super) mod shape;
mod toml;
mod tree;
mod typed;
pub(super) mod vocabulary;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};

use super::desired::DesiredState;
use draft::Draft;
pub(super) use write::watcher as watcher_table;
pub use write::write;

/// What the `schema` key of a document says, if it is there.
pub const SCHEMA: &str = "circ.desired/1";

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// TOML, as circus.toml.
    Toml,
    /// JSON of the same shape.
    Json,
    /// The dialect of circus.ini.
    Ini,
}

impl Format {
    /// The format that a file's name tells: `.toml`, `.json`, `.ini`, `.conf`.
    pub fn of_name(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()? {
            "toml" => Some(Format::Toml),
            "json" => Some(Format::Json),
            "ini" | "conf" => Some(Format::Ini),
            _ => None,
        }
    }

    /// The format that a text looks like. Where TOML and ini both fit they mean the same.
    pub fn of_text(text: &str) -> Format {
        let start = text.trim_start_matches('\u{feff}').trim_start();
        let colon = |line: &str| {
            line.starts_with('[')
                && line
                    .split(['"', '\'', ']'])
                    .next()
                    .unwrap_or("")
                    .contains(':')
        };
        if start.starts_with('{') {
            Format::Json
        } else if text.lines().any(colon) {
            Format::Ini
        } else if toml::parses(text) || draft::Draft::of_ini(text.as_bytes(), "-").is_err() {
            Format::Toml
        } else {
            Format::Ini
        }
    }
}

/// Where a document is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, or a directory: all `*.toml`, `*.json`, `*.ini` and `*.conf` in it, sorted by name, as one document.
    Path(PathBuf),
    /// Standard input; the format is told by the text if it is not given.
    Stdin(Option<Format>),
}

impl Source {
    /// The source that an argument names: `-` is standard input.
    pub fn of_argument(argument: &Path) -> Source {
        if argument.as_os_str() == "-" {
            Source::Stdin(None)
        } else {
            Source::Path(argument.to_owned())
        }
    }
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, spelled as the user spelled it; `-` for standard input.
    pub file: String,
    /// The line, counted from 1, if one is to blame.
    pub line: Option<usize>,
}

impl Place {
    fn new(file: &str, line: usize) -> Place {
        Place {
            file: file.to_string(),
            line: Some(line),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match self.line {
            Some(line) => write!(f, ":{line}"),
            None => Ok(()),
        }
    }
}

/// One thing that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentProblem {
    /// Where.
    pub place: Place,
    /// The key, from the top of the document: `watcher.web.numprocesses`; empty if none is to blame.
    pub path: String,
    /// What stands there, what was expected, what to do.
    pub what: String,
}

impl fmt::Display for DocumentProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "{}: {}", self.place, self.what)
        } else {
            write!(f, "{}: {}: {}", self.place, self.path, self.what)
        }
    }
}

/// Everything that is wrong with a document; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DocumentError {
    /// The problems in the order of the files.
    pub problems: Vec<DocumentProblem>,
}

impl DocumentError {
    fn check(problems: Vec<DocumentProblem>) -> Result<(), DocumentError> {
        if problems.is_empty() {
            Ok(())
        } else {
            Err(DocumentError { problems })
        }
    }

    fn one(place: Place, what: impl Into<String>) -> DocumentError {
        DocumentError {
            problems: vec![DocumentProblem {
                place,
                path: String::new(),
                what: what.into(),
            }],
        }
    }
}

impl fmt::Display for DocumentError {
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

/// Reads a whole desired state. Relative paths start from `cwd`.
///
/// # Errors
/// A file that cannot be read, and everything that is wrong in any of them.
pub fn read(source: &Source, cwd: &Path) -> Result<DesiredState, DocumentError> {
    let (origin, draft) = files::read(source, cwd)?;
    finish::finish(draft, origin)
}

/// The source is a file that a daemon could run as it stands: a circus.ini, or a circus.toml by that name's end.
pub fn is_configuration(source: &Source, cwd: &Path) -> bool {
    let Source::Path(path) = source else {
        return false;
    };
    let path = cwd.join(path);
    let named = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().ends_with("circus.toml"));
    path.is_file() && (named || Format::of_name(&path) == Some(Format::Ini))
}

/// Reads a desired state from the bytes of one document, which must not name further files. Pure.
///
/// # Errors
/// Everything that is wrong in it; `name` is what errors call it.
pub fn parse(bytes: &[u8], name: &str, format: Format) -> Result<DesiredState, DocumentError> {
    let draft = Draft::of_bytes(bytes, name, Some(format))?;
    if let Some(include) = draft.includes.first() {
        return Err(DocumentError::one(
            include.place.clone(),
            "include and include_dir have a meaning in files only",
        ));
    }
    finish::finish(draft, name.to_string())
}
