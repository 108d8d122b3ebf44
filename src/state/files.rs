//! The file's side: what the configuration says, and what it would say after an edit. Reads files through
//! [`crate::config`]; writes nothing.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

mod variables;

use super::desired::{Desired, Wanted};
use super::observed::FileSide;
use super::plan::FileEdit;
use super::store::{self, StoreError};
use crate::config::{Config, ConfigError, Document, Format, NAME_KEY};
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

/// What some edits are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home<'a> {
    /// A watcher, by its name.
    Watcher(&'a str),
    /// Another section, by its whole name.
    Section(&'a str),
}

/// What the watcher is after an edit.
pub struct Outcome {
    /// Its options.
    pub watcher: WatcherOptions,
    /// The variables that `[env]` and `[env:…]` give it.
    pub environment: Map<String, Value>,
}

/// The configuration as it would be with some files edited.
pub struct Reading<'a> {
    files: &'a Files,
    overlay: BTreeMap<PathBuf, Vec<u8>>,
    config: Config,
    /// The same in an empty environment; what it gives a watcher is given by the file.
    bare: OnceCell<Option<Config>>,
}

impl Reading<'_> {
    /// What it makes of a watcher; none if it has none of that name.
    pub fn outcome(&self, name: &str) -> Option<Outcome> {
        let (watcher, section) = self.config.watcher(name)?;
        let stated: Vec<String> = ["working_dir"]
            .into_iter()
            .filter(|key| self.config.raw(section, key).is_some())
            .map(str::to_string)
            .collect();
        Some(Outcome {
            environment: self.given_environment(watcher),
            watcher: without_default_directory(watcher, &stated),
        })
    }

    /// The configuration itself.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the sections give the watcher, without what `copy_env` would copy from this process: the daemon copies its
    /// own environment.
    fn given_environment(&self, watcher: &WatcherOptions) -> Map<String, Value> {
        let full = watcher.env().cloned().unwrap_or_default();
        if !watcher.copy_env() {
            return full;
        }
        let files = self.files;
        let load =
            || Config::load_edited(&files.shown, &BTreeMap::new(), &files.cwd, &self.overlay).ok();
        let given = self
            .bare
            .get_or_init(load)
            .as_ref()
            .and_then(|config| config.watcher(&watcher.name))
            .and_then(|(watcher, _)| watcher.env());
        full.into_iter()
            .filter(|(key, value)| match given {
                Some(given) => given.contains_key(key),
                // A configuration that needs the environment to be read: what differs from it was given.
                None => files.environ.get(key).map(String::as_str) != value.as_str(),
            })
            .collect()
    }
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

    /// The configuration as it is.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The main file, absolute.
    pub fn main(&self) -> PathBuf {
        self.cwd.join(&self.shown)
    }

    /// The main file as the caller named it.
    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// All files that make up the configuration, the main one first.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| part.path.as_path())
    }

    /// The first of these files, written since, that the configuration takes in by an `include` pattern.
    pub fn takes_in<'a>(&self, written: &'a [PathBuf]) -> Option<&'a PathBuf> {
        let first = written.first()?;
        let Ok(now) = Config::load(&self.shown, &self.environ, &self.cwd) else {
            // It was one without them.
            return Some(first);
        };
        let known: Vec<PathBuf> = now
            .files
            .iter()
            .filter_map(|path| std::fs::canonicalize(self.cwd.join(path)).ok())
            .collect();
        written.iter().find(|path| known.contains(path))
    }

    /// The configuration as it is, to be asked about watchers.
    pub fn now(&self) -> Reading<'_> {
        Reading {
            files: self,
            overlay: BTreeMap::new(),
            config: self.config.clone(),
            bare: OnceCell::new(),
        }
    }

    /// What the configuration says of a watcher; `now` is [`Files::now`].
    pub fn side(&self, now: &Reading<'_>, name: &str) -> FileSide {
        let found = self.config.watcher(name);
        let stated = found
            .map(|(_, section)| self.stated(section))
            .unwrap_or_default();
        let outcome = now.outcome(name);
        let own_env = self.env_section(name);
        FileSide {
            path: self.shown.display().to_string(),
            section: self.section_of(Home::Watcher(name)),
            environment: outcome
                .as_ref()
                .map(|outcome| outcome.environment.clone())
                .unwrap_or_default(),
            watcher: outcome.map(|outcome| outcome.watcher),
            own_env: self
                .parts
                .iter()
                .any(|part| part.document.has_section(&own_env))
                .then(|| self.stated(&own_env)),
            stated,
        }
    }

    /// What the configuration says of another section: its keys and their texts before any variable is replaced. None
    /// if there is no such section.
    pub fn section(&self, section: &str) -> Option<BTreeMap<String, String>> {
        let there = self
            .parts
            .iter()
            .any(|part| part.document.has_section(section));
        there.then(|| {
            self.config
                .raw_items(section)
                .into_iter()
                .filter(|(key, _)| key != NAME_KEY)
                .collect()
        })
    }

    /// The name of the section of a watcher's own variables.
    fn env_section(&self, name: &str) -> String {
        let known = self.config.watcher(name).map(|(watcher, _)| &watcher.name);
        format!("env:{}", known.map_or(name, String::as_str))
    }

    /// Values that an edit of this key leaves behind without effect, because the one that counts stands elsewhere.
    pub fn shadowed(&self, home: Home<'_>, key: &str) -> Vec<String> {
        let section = self.section_of(home);
        let mut first = true;
        let mut told = Vec::new();
        for part in &self.parts {
            let mut lines: Vec<usize> = part
                .document
                .shadowed()
                .into_iter()
                .filter(|one| one.section == section && one.key == key)
                .map(|one| one.line)
                .collect();
            if let Some(line) = part.document.line_of(&section, key) {
                if !first {
                    lines.insert(0, line);
                }
                first = false;
            }
            told.extend(lines.into_iter().map(|line| {
                format!(
                    "{}:{line}: {key} of [{section}] stands here as well and has no effect: the first one counts",
                    part.path.display()
                )
            }));
        }
        told
    }

    fn section_of(&self, home: Home<'_>) -> String {
        match home {
            Home::Section(section) => section.to_string(),
            Home::Watcher(name) => self.config.watcher(name).map_or_else(
                || format!("watcher:{name}"),
                |(_, section)| section.to_string(),
            ),
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

    /// Every edit that a wish could need, whether it has to be made or not.
    pub fn all_edits(&self, desired: &Desired) -> Vec<FileEdit> {
        if !desired.present {
            let mut edits = Vec::new();
            if self.config.watcher(&desired.name).is_some() {
                edits.push(FileEdit::RemoveSection);
            }
            if desired.with_env {
                edits.push(FileEdit::RemoveEnv);
            }
            return edits;
        }
        let mut edits: Vec<FileEdit> = if self.config.watcher(&desired.name).is_none() {
            vec![FileEdit::AddSection(desired.options.clone())]
        } else {
            let set = desired.options.iter().map(|wanted| FileEdit::Set {
                key: wanted.key.clone(),
                text: wanted.text.clone(),
            });
            let unset = desired
                .unset
                .iter()
                .map(|key| FileEdit::Unset { key: key.clone() });
            set.chain(unset).collect()
        };
        edits.extend(desired.env.iter().map(|(name, text)| FileEdit::Env {
            name: name.clone(),
            text: text.clone(),
        }));
        edits
    }

    /// The changed files after these edits. The file that holds the value that counts is the one that is edited.
    pub fn edited(&self, edits: &[(Home<'_>, &[FileEdit])]) -> Result<Vec<Edited>, FilesError> {
        let mut parts = self.parts.clone();
        for (home, edits) in edits {
            for edit in *edits {
                self.edit(&mut parts, *home, edit)?;
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

    fn edit(&self, parts: &mut [Part], home: Home<'_>, edit: &FileEdit) -> Result<(), FilesError> {
        let section = self.section_of(home);
        match (edit, home) {
            (FileEdit::AddSection(options), _) => self.add(parts, &section, None, options)?,
            (FileEdit::Set { key, text }, _) => self.set(parts, &section, key, text)?,
            (FileEdit::Unset { key }, _) => {
                for part in parts {
                    part.document.unset(&section, key)?;
                }
            }
            (FileEdit::RemoveSection, _) => remove(parts, &section)?,
            (FileEdit::Env { name, text }, Home::Watcher(watcher)) => {
                let own = self.env_section(watcher);
                if !self.gives(watcher, name, text.as_deref()) {
                    variables::check_own(watcher)?;
                }
                match text {
                    None => {
                        for part in parts {
                            if part.document.unset(&own, name)? && is_bare(&part.document, &own) {
                                part.document.remove_section(&own)?;
                            }
                        }
                    }
                    Some(text) if parts.iter().any(|part| part.document.has_section(&own)) => {
                        self.set(parts, &own, name, text)?;
                    }
                    Some(text) => {
                        let wanted = Wanted {
                            key: name.clone(),
                            text: text.clone(),
                        };
                        self.add(parts, &own, Some(&section), &[wanted])?;
                    }
                }
            }
            (FileEdit::RemoveEnv, Home::Watcher(watcher)) => {
                let own = self.env_section(watcher);
                if parts.iter().any(|part| part.document.has_section(&own)) {
                    variables::check_own(watcher)?;
                }
                remove(parts, &own)?;
            }
            (FileEdit::Env { .. } | FileEdit::RemoveEnv, Home::Section(_)) => {}
        }
        Ok(())
    }

    /// The section of a watcher's own variables that these edits leave without any, and that stays for what somebody
    /// wrote into it; told with its file.
    pub fn left_empty(
        &self,
        home: Home<'_>,
        edits: &[FileEdit],
        edited: &[Edited],
    ) -> Option<String> {
        let takes_away = |edit: &FileEdit| matches!(edit, FileEdit::Env { text: None, .. });
        let (Home::Watcher(watcher), true) = (home, edits.iter().any(takes_away)) else {
            return None;
        };
        let own = self.env_section(watcher);
        let part = edited.iter().find(|file| {
            let name = file.path.to_string_lossy();
            let document = |bytes| Document::parse(bytes, &name).ok();
            document(&file.after).is_some_and(|after| is_empty(&after, &own))
                && document(&file.before).is_some_and(|before| !is_empty(&before, &own))
        })?;
        Some(format!(
            "[{own}] in {} has no variable any more; it stays because there are comments in it",
            part.path.display()
        ))
    }

    /// The watcher has this variable (or has it not) already.
    fn gives(&self, watcher: &str, variable: &str, text: Option<&str>) -> bool {
        let env = self
            .config
            .watcher(watcher)
            .and_then(|(watcher, _)| watcher.env());
        env.and_then(|env| env.get(variable))
            .and_then(Value::as_str)
            == text
    }

    /// The watcher that has the section which one of this name would get.
    pub fn other_in_section(&self, name: &str) -> Option<&str> {
        let section = format!("watcher:{name}");
        let mut others = self.config.watchers.iter();
        let is_there = |watcher: &&WatcherOptions| {
            let found = self.config.watcher(&watcher.name);
            found.is_some_and(|(_, of)| of == section)
        };
        let other = others.find(is_there)?.name.as_str();
        self.config.watcher(name).is_none().then_some(other)
    }

    /// Adds a section to the file that `beside` stands in, else to the main file. One that is there without keys gets
    /// the keys.
    fn add(
        &self,
        parts: &mut [Part],
        section: &str,
        beside: Option<&str>,
        options: &[Wanted],
    ) -> Result<(), FilesError> {
        let empty = |part: &&mut Part| {
            let entries = part.document.entries(section);
            entries.is_some_and(|entries| entries.is_empty())
        };
        if let Some(part) = parts.iter_mut().find(empty) {
            for wanted in options {
                part.document.set(section, &wanted.key, &wanted.text)?;
            }
            return Ok(());
        }
        let pairs: Vec<(&str, &str)> = options
            .iter()
            .map(|wanted| (wanted.key.as_str(), wanted.text.as_str()))
            .collect();
        let place = beside
            .and_then(|beside| {
                parts
                    .iter()
                    .position(|part| part.document.has_section(beside))
            })
            .unwrap_or(0);
        if let Some(part) = parts.get_mut(place) {
            part.document.add_section(section, &pairs)?;
        }
        Ok(())
    }

    fn set(
        &self,
        parts: &mut [Part],
        section: &str,
        key: &str,
        text: &str,
    ) -> Result<(), FilesError> {
        // Where the key stands, else where the section begins; edits before this one may have moved both.
        let place = parts
            .iter()
            .position(|part| part.document.get(section, key).is_some())
            .or_else(|| {
                parts
                    .iter()
                    .position(|part| part.document.has_section(section))
            });
        let Some(part) = place.and_then(|place| parts.get_mut(place)) else {
            return Err(gone(section));
        };
        part.document.set(section, key, text)?;
        Ok(())
    }

    /// Reads the configuration as it would be after an edit; fails if it would not be a configuration any more.
    pub fn after(&self, edited: &[Edited]) -> Result<Reading<'_>, FilesError> {
        let overlay: BTreeMap<PathBuf, Vec<u8>> = edited
            .iter()
            .map(|edited| (edited.path.clone(), edited.after.clone()))
            .collect();
        let config = Config::load_edited(&self.shown, &self.environ, &self.cwd, &overlay)?;
        Ok(Reading {
            files: self,
            overlay,
            config,
            bare: OnceCell::new(),
        })
    }
}

fn remove(parts: &mut [Part], section: &str) -> Result<(), FilesError> {
    for part in parts {
        part.document.remove_section(section)?;
    }
    Ok(())
}

/// Whether no variable is left in a section.
fn is_empty(document: &Document, section: &str) -> bool {
    let keys = document.entries(section);
    keys.is_some_and(|keys| keys.keys().all(|key| key == NAME_KEY))
}

/// Whether nothing is left of a section but its header: no key, and no comment that somebody wrote.
fn is_bare(document: &Document, section: &str) -> bool {
    if !is_empty(document, section) {
        return false;
    }
    let bytes = document.to_bytes();
    let text = String::from_utf8_lossy(&bytes);
    let Some(line) = document.section_line(section) else {
        return false;
    };
    let mut lines = text.lines().skip(line.saturating_sub(1));
    let Some(header) = lines.next().map(str::trim) else {
        return false;
    };
    if document.format() == Format::Toml && !header.starts_with('[') {
        // `env = {}` among a watcher's keys.
        return !header.contains('#');
    }
    header.starts_with('[')
        && header.ends_with(']')
        && text.lines().filter(|line| line.trim() == header).count() == 1
        && lines
            .take_while(|line| !line.trim_start().starts_with('['))
            .all(|line| line.trim().is_empty())
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

/// The section is not part of the configuration after all.
pub(super) fn gone(section: &str) -> FilesError {
    FilesError::Edit(format!(
        "[{section}] would not be part of the configuration after the edit: is it an included file that is not read?"
    ))
}
