//! A configuration as it is opened for a command: every file's bytes and document, and what they mean together. Reads
//! files, or standard input; writes nothing.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::address::{self, Candidate, Lookup};
use crate::cli::state::{current_directory, environ};
use crate::config::{Config, ConfigError, DEFAULT_SECTION, Document, Effective, Format};

/// The name of the file that is standard input.
const STDIN: &str = "-";
/// What messages call standard input.
pub const STDIN_SHOWN: &str = "<stdin>";
/// The same where it is a circus.toml: the ending of a name tells the format.
const STDIN_TOML: &str = "<stdin>.toml";

/// One file of a configuration.
#[derive(Debug, Clone)]
pub struct OpenFile {
    /// As the user spelled it.
    pub shown: PathBuf,
    /// Its absolute path.
    pub path: PathBuf,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// The same, understood.
    pub document: Document,
}

/// A configuration with everything it includes.
pub struct Opened {
    /// The main file as the user spelled it.
    pub shown: PathBuf,
    /// All files, the main file first.
    pub files: Vec<OpenFile>,
    /// What they mean together.
    pub effective: Effective,
    /// The environment that variables are taken from.
    pub environ: BTreeMap<String, String>,
    /// The directory that relative paths start from.
    pub cwd: PathBuf,
    overlay: BTreeMap<PathBuf, Vec<u8>>,
}

/// Why a configuration could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file is not in the dialect, or the main file cannot be read.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// Something could not be read.
    #[error("{0}")]
    Read(String),
}

impl From<OpenError> for String {
    fn from(error: OpenError) -> Self {
        error.to_string()
    }
}

/// The bytes of a file, or of standard input for `-`.
///
/// # Errors
/// It cannot be read; the text says why.
pub fn read(source: &Path) -> Result<Vec<u8>, String> {
    if is_stdin(source) {
        let mut bytes = Vec::new();
        return match std::io::stdin().lock().read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(format!("cannot read standard input: {error}")),
        };
    }
    std::fs::read(source).map_err(|error| format!("cannot read {}: {error}", source.display()))
}

/// Is this the name for standard input?
pub fn is_stdin(source: &Path) -> bool {
    source.as_os_str() == STDIN
}

/// What messages call this file that holds these bytes; for standard input the name tells the format, as that of a file
/// does.
pub fn shown(source: &Path, bytes: &[u8]) -> PathBuf {
    if !is_stdin(source) {
        return source.to_owned();
    }
    // What is good TOML is no circus.ini, but for a few texts that mean the same in both.
    let toml = Document::parse_as(Format::Toml, bytes, STDIN_TOML).is_ok();
    PathBuf::from(if toml { STDIN_TOML } else { STDIN_SHOWN })
}

impl Opened {
    /// Opens a configuration file, or standard input for `-`.
    ///
    /// # Errors
    /// A file cannot be read or is not in the dialect; wrong values are no error here.
    pub fn open(source: &Path) -> Result<Self, OpenError> {
        let environ = environ();
        let cwd = current_directory();
        let mut overlay = BTreeMap::new();
        let shown = if is_stdin(source) {
            let bytes = read(source).map_err(OpenError::Read)?;
            let shown = shown(source, &bytes);
            overlay.insert(cwd.join(&shown), bytes);
            shown
        } else {
            source.to_owned()
        };
        let first = Effective::read(&shown, &environ, &cwd, &overlay)?;
        // Every file is read once more, and from then on only what was read here counts.
        let mut files = Vec::new();
        for (shown, path) in first.files() {
            let bytes = match overlay.get(path) {
                Some(bytes) => bytes.clone(),
                None => read(path).map_err(OpenError::Read)?,
            };
            overlay.insert(path.to_owned(), bytes.clone());
            let document = Document::parse(&bytes, &shown.to_string_lossy())?;
            files.push(OpenFile {
                shown: shown.to_owned(),
                path: path.to_owned(),
                bytes,
                document,
            });
        }
        let effective = Effective::read(&shown, &environ, &cwd, &overlay)?;
        Ok(Self {
            shown,
            files,
            effective,
            environ,
            cwd,
            overlay,
        })
    }

    /// The whole configuration, with every value converted.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::load_edited(&self.shown, &self.environ, &self.cwd, &self.overlay)
    }

    /// The same configuration with other bytes in some files (by absolute path).
    ///
    /// # Errors
    /// A file is not in the dialect any more.
    pub fn with(&self, changed: &BTreeMap<PathBuf, Vec<u8>>) -> Result<Self, ConfigError> {
        let mut overlay = self.overlay.clone();
        overlay.extend(changed.clone());
        let effective = Effective::read(&self.shown, &self.environ, &self.cwd, &overlay)?;
        let mut files = Vec::new();
        for (shown, path) in effective.files() {
            let bytes = match overlay.get(path) {
                Some(bytes) => bytes.clone(),
                // A file that an edit of `include` has brought in.
                None => std::fs::read(path).unwrap_or_default(),
            };
            let document = Document::parse(&bytes, &shown.to_string_lossy())?;
            files.push(OpenFile {
                shown: shown.to_owned(),
                path: path.to_owned(),
                bytes,
                document,
            });
        }
        Ok(Self {
            shown: self.shown.clone(),
            files,
            effective,
            environ: self.environ.clone(),
            cwd: self.cwd.clone(),
            overlay,
        })
    }

    /// The section that somebody means, told `keys` that are looked for in it.
    pub fn find(&self, given: &str, keys: &[&str]) -> Lookup {
        let alias = |section: &str| {
            let watcher = section.starts_with("watcher:");
            let name = self.effective.get(section, "name").filter(|_| watcher)?;
            Some(name.value)
        };
        let mut sections: Vec<Candidate> = self
            .effective
            .sections()
            .map(|section| Candidate {
                section: section.to_owned(),
                alias: alias(section),
            })
            .collect();
        if self.effective.has_section(DEFAULT_SECTION) {
            sections.push(Candidate {
                section: DEFAULT_SECTION.to_owned(),
                alias: None,
            });
        }
        address::resolve(given, keys, &sections, |section, key| {
            self.effective.get(section, key).is_some()
        })
    }

    /// As [`Opened::find`], for a section that has to exist.
    ///
    /// # Errors
    /// There is none of this name, or several are meant; the text names what is near.
    pub fn section(&self, given: &str, keys: &[&str]) -> Result<String, String> {
        match self.find(given, keys) {
            Lookup::Found(section) => Ok(section),
            Lookup::Ambiguous(all) => Err(ambiguous(given, &all)),
            Lookup::Missing(near) => Err(format!(
                "{}: there is no section [{}]{}",
                self.shown.display(),
                address::canonical(given),
                match near {
                    Some(near) => format!("; did you mean {near}?"),
                    None => self.all_sections(),
                }
            )),
        }
    }

    fn all_sections(&self) -> String {
        let all: Vec<&str> = self.effective.sections().collect();
        match all.len() {
            0 => "; it has no sections at all".to_owned(),
            1..=12 => format!("; it has {}", all.join(", ")),
            _ => String::new(),
        }
    }
}

/// Several sections have the name that was given.
pub fn ambiguous(given: &str, all: &[String]) -> String {
    format!("{given} may be any of {}: say which", all.join(", "))
}
