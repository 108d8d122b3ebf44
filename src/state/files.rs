//! The file's side: what the configuration says, and what it would say after an edit. Reads files through
//! [`crate::config`]; writes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::desired::Desired;
use super::observed::FileSide;
use super::plan::FileEdit;
use super::store::{self, StoreError};
use crate::config::{Config, ConfigError, Document, NAME_KEY};
use crate::options::WatcherOptions;

/// Why the configuration could not be read or edited.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// It does not read as a configuration, before or after the edit.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The disk refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The edited configuration would not hold the watcher.
    #[error("{0}")]
    Edit(String),
}

/// The configuration file with all that it includes.
pub struct Files {
    /// As the caller named it.
    shown: PathBuf,
    environ: BTreeMap<String, String>,
    cwd: PathBuf,
    config: Config,
    parts: Vec<Part>,
}

/// One file of the configuration.
#[derive(Clone)]
struct Part {
    path: PathBuf,
    bytes: Vec<u8>,
    document: Document,
}

/// A file that an edit changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The file.
    pub path: PathBuf,
    /// Its bytes before.
    pub before: Vec<u8>,
    /// Its bytes after.
    pub after: Vec<u8>,
}

/// What the watcher is after an edit.
pub struct Outcome {
    /// Its options.
    pub watcher: WatcherOptions,
    /// The variables that `[env]` and `[env:…]` give it.
    pub environment: Map<String, Value>,
}

impl Files {
    /// Reads the configuration as a daemon with this environment and directory would.
    pub fn load(
        path: &Path,
        environ: BTreeMap<String, String>,
        cwd: PathBuf,
    ) -> Result<Files, FilesError> {
        let config = Config::load(path, &environ, &cwd)?;
        let parts = config
            .files
            .iter()
            .map(|path| {
                let bytes = store::read(path)?;
                let document = Document::parse(&bytes, &path.to_string_lossy())?;
                Ok(Part {
                    path: path.clone(),
                    bytes,
                    document,
                })
            })
            .collect::<Result<Vec<Part>, FilesError>>()?;
        Ok(Files {
            shown: path.to_path_buf(),
            environ,
            cwd,
            config,
            parts,
        })
    }

    /// The control endpoint that `[circus]` names, or the default.
    pub fn endpoint(&self) -> &str {
        &self.config.circus.endpoint
    }

    /// What the configuration says of a watcher.
    pub fn side(&self, name: &str) -> FileSide {
        let found = self.config.watcher(name);
        let stated = found
            .map(|(_, section)| self.stated(section))
            .unwrap_or_default();
        let watcher = found.map(|(watcher, _)| without_default_directory(watcher, &stated));
        FileSide {
            path: self.shown.display().to_string(),
            watcher,
            environment: found
                .map(|(watcher, _)| self.given_environment(watcher, &BTreeMap::new()))
                .unwrap_or_default(),
            stated,
        }
    }

    fn stated(&self, section: &str) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        for part in &self.parts {
            for key in part
                .document
                .entries(section)
                .into_iter()
                .flat_map(|entries| entries.keys())
            {
                if key != NAME_KEY && !keys.contains(key) {
                    keys.push(key.clone());
                }
            }
        }
        keys
    }

    /// The files that change if every wanted option is written, whether it has to be or not.
    pub fn all_edits(&self, desired: &Desired) -> Vec<FileEdit> {
        if self.config.watcher(&desired.name).is_none() {
            return vec![FileEdit::AddSection(desired.options.clone())];
        }
        desired
            .options
            .iter()
            .map(|wanted| FileEdit::Set {
                key: wanted.key.clone(),
                text: wanted.text.clone(),
            })
            .collect()
    }

    /// The changed files after these edits. The file that holds the value that counts is the one that is edited.
    pub fn edited(&self, name: &str, edits: &[FileEdit]) -> Result<Vec<Edited>, FilesError> {
        let mut parts = self.parts.clone();
        for edit in edits {
            match edit {
                FileEdit::AddSection(options) => {
                    let pairs: Vec<(&str, &str)> = options
                        .iter()
                        .map(|wanted| (wanted.key.as_str(), wanted.text.as_str()))
                        .collect();
                    if let Some(main) = parts.first_mut() {
                        main.document
                            .add_section(&format!("watcher:{name}"), &pairs)?;
                    }
                }
                FileEdit::Set { key, text } => {
                    let section = self.config.watcher(name).map(|(_, section)| section);
                    let section = section.ok_or_else(|| gone(name))?;
                    let home = self.home(section, key);
                    let part = parts
                        .iter_mut()
                        .find(|part| Some(&part.path) == home.as_ref())
                        .ok_or_else(|| gone(name))?;
                    part.document.set(section, key, text)?;
                }
            }
        }
        Ok(parts
            .into_iter()
            .filter_map(|part| {
                let after = part.document.to_bytes();
                (after != part.bytes).then_some(Edited {
                    path: part.path,
                    before: part.bytes,
                    after,
                })
            })
            .collect())
    }

    /// The file to edit for a key: where it stands in the watcher's own section, else where that section begins.
    fn home(&self, section: &str, key: &str) -> Option<PathBuf> {
        self.parts
            .iter()
            .find(|part| part.document.get(section, key).is_some())
            .map(|part| part.path.clone())
            .or_else(|| self.config.section_source(section).map(|(path, _)| path))
    }

    /// Reads the configuration as it would be after an edit; fails if it would not be a configuration any more.
    pub fn after(&self, name: &str, edited: &[Edited]) -> Result<Outcome, FilesError> {
        let overlay: BTreeMap<PathBuf, Vec<u8>> = edited
            .iter()
            .map(|edited| (edited.path.clone(), edited.after.clone()))
            .collect();
        let config = Config::load_edited(&self.shown, &self.environ, &self.cwd, &overlay)?;
        let (watcher, section) = config.watcher(name).ok_or_else(|| gone(name))?;
        let stated: Vec<String> = ["working_dir"]
            .into_iter()
            .filter(|key| config.raw(section, key).is_some())
            .map(str::to_string)
            .collect();
        Ok(Outcome {
            environment: self.given_environment(watcher, &overlay),
            watcher: without_default_directory(watcher, &stated),
        })
    }

    /// What the sections give the watcher, without what `copy_env` would copy from this process: the daemon copies its
    /// own environment.
    fn given_environment(
        &self,
        watcher: &WatcherOptions,
        overlay: &BTreeMap<PathBuf, Vec<u8>>,
    ) -> Map<String, Value> {
        let full = watcher.env().cloned().unwrap_or_default();
        if !watcher.copy_env() {
            return full;
        }
        let bare = Config::load_edited(&self.shown, &BTreeMap::new(), &self.cwd, overlay).ok();
        let given = bare
            .as_ref()
            .and_then(|config| config.watcher(&watcher.name))
            .and_then(|(watcher, _)| watcher.env());
        full.into_iter()
            .filter(|(key, value)| match given {
                Some(given) => given.contains_key(key),
                // A configuration that needs the environment to be read: what differs from it was given.
                None => self.environ.get(key).map(String::as_str) != value.as_str(),
            })
            .collect()
    }
}

/// The directory of a watcher that states none is the daemon's own, which is not known here.
fn without_default_directory(watcher: &WatcherOptions, stated: &[String]) -> WatcherOptions {
    let mut watcher = watcher.clone();
    if !stated.iter().any(|key| key == "working_dir") {
        // Null fits every option of this kind.
        let _ = watcher.put("working_dir", Value::Null);
    }
    watcher
}

fn gone(name: &str) -> FilesError {
    FilesError::Edit(format!(
        "[watcher:{name}] would not be part of the configuration after the edit: is it an included file that is not \
         read?"
    ))
}
