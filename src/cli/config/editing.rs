//! Edits of a configuration as data: which file changes how, proven before anything is written. Writes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::address::{self, Lookup};
use super::keys::{self, Known, SectionKind};
use super::opened::{self, Opened};
use super::shadows;
use crate::config::{ConfigError, DEFAULT_SECTION, Document, Problem};

/// A key and the value it is to have.
pub type Pair = (String, String);

/// What is wanted.
#[derive(Debug, Clone)]
pub enum Wish {
    /// Keys have these values.
    Set(Vec<Pair>),
    /// Keys have no value.
    Unset(Vec<String>),
    /// Keys have these values, and others have none.
    Change(Vec<Pair>, Vec<String>),
    /// The section is not there.
    Remove,
}

/// How far an edit may go.
#[derive(Debug, Clone, Copy, Default)]
pub struct Leave {
    /// A section that does not exist is added.
    pub create: bool,
    /// Keys and sections that nobody reads may be written.
    pub force: bool,
}

/// A file that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// As the user spelled it.
    pub shown: PathBuf,
    /// Its absolute path.
    pub path: PathBuf,
    /// Its bytes before.
    pub before: Vec<u8>,
    /// Its bytes after.
    pub after: Vec<u8>,
}

/// A value that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The key.
    pub key: String,
    /// What counted before.
    pub old: Option<String>,
    /// What counts afterwards.
    pub new: Option<String>,
}

/// An edit that is proven: the files read back as wanted, and nothing new is wrong with the configuration.
pub struct Outcome {
    /// The section.
    pub section: String,
    /// The section is new.
    pub created: bool,
    /// The section is gone.
    pub removed: bool,
    /// What changes in meaning.
    pub changes: Vec<Changed>,
    /// What changes on disk; empty if everything is as wanted.
    pub files: Vec<Edited>,
    /// The configuration afterwards.
    pub after: Opened,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Works out an edit.
///
/// # Errors
/// What is wrong with the wish, or with the configuration as it would be.
pub fn edit(opened: &Opened, given: &str, wish: &Wish, leave: Leave) -> Result<Outcome, String> {
    let keys: Vec<&str> = match wish {
        Wish::Set(pairs) | Wish::Change(pairs, _) => {
            pairs.iter().map(|(key, _)| key.as_str()).collect()
        }
        Wish::Unset(keys) => keys.iter().map(String::as_str).collect(),
        Wish::Remove => Vec::new(),
    };
    let mut work = Work::new(opened);
    let (section, created) = match opened.find(given, &keys) {
        Lookup::Found(section) => (section, false),
        Lookup::Ambiguous(all) => return Err(opened::ambiguous(given, &all)),
        Lookup::Missing(near) => match wish {
            Wish::Set(_) | Wish::Change(..) if leave.create => (new_section(given, leave)?, true),
            Wish::Set(_) | Wish::Change(..) => return Err(no_section(opened, given, near)),
            // What is not there is as it is wanted; a slip of the pen is worth a word.
            Wish::Unset(_) | Wish::Remove => {
                if let Some(near) = near {
                    work.warnings.push(format!(
                        "there is no section [{}]; there is {near}",
                        address::canonical(given)
                    ));
                }
                (address::canonical(given), false)
            }
        },
    };
    match wish {
        Wish::Set(pairs) | Wish::Change(pairs, _) => {
            if !leave.force {
                pairs
                    .iter()
                    .try_for_each(|(key, _)| check_key(&section, key))?;
            }
            if created {
                work.add(&section, pairs)?;
            } else {
                pairs
                    .iter()
                    .try_for_each(|(key, value)| work.set(&section, key, value))?;
            }
        }
        Wish::Unset(keys) => keys.iter().try_for_each(|key| work.unset(&section, key))?,
        Wish::Remove => work.remove(&section)?,
    }
    if let Wish::Change(_, keys) = wish {
        keys.iter().try_for_each(|key| work.unset(&section, key))?;
    }
    finish(work, section, created)
}

/// The documents while they are being edited.
struct Work<'a> {
    opened: &'a Opened,
    documents: Vec<Document>,
    warnings: Vec<String>,
    /// What the keys that were set are read as: a circus.toml says `true` for `True`.
    wanted: Vec<Pair>,
}

impl<'a> Work<'a> {
    fn new(opened: &'a Opened) -> Self {
        Self {
            opened,
            documents: opened.files.iter().map(|f| f.document.clone()).collect(),
            warnings: Vec::new(),
            wanted: Vec::new(),
        }
    }

    fn set(&mut self, section: &str, key: &str, value: &str) -> Result<(), String> {
        let effective = &self.opened.effective;
        let stated = effective.get(section, key);
        if stated.is_some_and(|stated| stated.value == value) {
            return Ok(());
        }
        let holder = |document: &Document| document.get(section, key).is_some();
        let home = self.documents.iter().position(holder).or_else(|| {
            self.documents
                .iter()
                .position(|document| document.has_section(section))
        });
        let Some(document) = home.and_then(|home| self.documents.get_mut(home)) else {
            return Err(format!("no file has a section [{section}] to edit"));
        };
        document
            .set(section, key, value)
            .map_err(|error| error.to_string())?;
        let read = document.get(section, key).unwrap_or(value).to_owned();
        self.wanted.push((key.to_owned(), read));
        for shadow in shadows::all(self.opened) {
            if shadow.section == section && shadow.key == key {
                self.warnings.push(format!(
                    "{}:{}: [{section}] {key} stands here too and is not read; the first one counts",
                    shadow.file.display(),
                    shadow.line
                ));
            }
        }
        Ok(())
    }

    fn add(&mut self, section: &str, pairs: &[Pair]) -> Result<(), String> {
        let pairs: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let Some(main) = self.documents.first_mut() else {
            return Err("there is no file to edit".to_owned());
        };
        main.add_section(section, &pairs)
            .map_err(|error| error.to_string())?;
        for (key, value) in pairs {
            let read = main.get(section, key).unwrap_or(value).to_owned();
            self.wanted.push((key.to_owned(), read));
        }
        Ok(())
    }

    fn unset(&mut self, section: &str, key: &str) -> Result<(), String> {
        if self.opened.effective.get(section, key).is_none()
            && let Known::No(Some(near)) = keys::known(section, key)
        {
            let what = format!("[{section}] {key}: there is no such key; did you mean {near}?");
            self.warnings.push(what);
        }
        for document in &mut self.documents {
            document
                .unset(section, key)
                .map_err(|error| error.to_string())?;
        }
        let default = self.opened.effective.get(DEFAULT_SECTION, key);
        if let Some(default) = default.filter(|_| section != DEFAULT_SECTION) {
            self.warnings.push(format!(
                "{}:{}: [{DEFAULT_SECTION}] {key} gives [{section}] a value all the same",
                default.file.display(),
                default.line,
            ));
        }
        Ok(())
    }

    fn remove(&mut self, section: &str) -> Result<(), String> {
        for document in &mut self.documents {
            document
                .remove_section(section)
                .map_err(|error| error.to_string())?;
        }
        if let Some(name) = section.strip_prefix("watcher:") {
            let env = format!("env:{name}");
            if self.opened.effective.has_section(&env) {
                self.warnings
                    .push(format!("[{env}] stays; it has no watcher any more"));
            }
        }
        Ok(())
    }
}

fn changed_files(opened: &Opened, documents: &[Document]) -> Vec<Edited> {
    opened
        .files
        .iter()
        .zip(documents)
        .filter_map(|(file, document)| {
            let after = document.to_bytes();
            (after != file.bytes).then(|| Edited {
                shown: file.shown.clone(),
                path: file.path.clone(),
                before: file.bytes.clone(),
                after,
            })
        })
        .collect()
}

/// Reads the configuration as it would be, and compares.
fn finish(work: Work, section: String, created: bool) -> Result<Outcome, String> {
    let Work {
        opened,
        documents,
        mut warnings,
        wanted,
    } = work;
    let files = changed_files(opened, &documents);
    let changed: BTreeMap<PathBuf, Vec<u8>> = files
        .iter()
        .map(|file| (file.path.clone(), file.after.clone()))
        .collect();
    let after = opened.with(&changed).map_err(|error| error.to_string())?;
    let removed = opened.effective.has_section(&section) && !after.effective.has_section(&section);
    let raw = |of: &Opened, key: &str| of.effective.get(&section, key).map(|stated| stated.value);
    let mut keys: Vec<String> = opened.effective.items(&section).into_keys().collect();
    keys.extend(after.effective.items(&section).into_keys());
    for (key, value) in &wanted {
        if raw(&after, key).as_ref() != Some(value) {
            return Err(format!(
                "[{section}] {key} would still not be {value:?} after the edit: another section or file has the last \
                 word"
            ));
        }
    }
    let mut changes: Vec<Changed> = Vec::new();
    for key in keys {
        let (old, new) = (raw(opened, &key), raw(&after, &key));
        if old != new && !changes.iter().any(|known| known.key == key) {
            changes.push(Changed { key, old, new });
        }
    }
    if !files.is_empty() {
        still_loads(opened, &after, &mut warnings)?;
    }
    Ok(Outcome {
        created: created && !files.is_empty(),
        section,
        removed,
        changes,
        files,
        after,
        warnings,
    })
}

/// Nothing may be wrong that was not wrong before.
fn still_loads(before: &Opened, after: &Opened, warnings: &mut Vec<String>) -> Result<(), String> {
    let Err(error) = after.load() else {
        return Ok(());
    };
    let known = before
        .load()
        .err()
        .map_or(Vec::new(), |error| error.problems);
    // Lines move when a file is edited.
    let same = |a: &Problem, b: &Problem| {
        (a.kind, &a.section, &a.key, &a.what) == (b.kind, &b.section, &b.key, &b.what)
    };
    let (old, new): (Vec<Problem>, Vec<Problem>) = error
        .problems
        .into_iter()
        .partition(|problem| known.iter().any(|known| same(known, problem)));
    if !new.is_empty() {
        return Err(ConfigError { problems: new }.to_string());
    }
    warnings.extend(old.iter().map(|problem| format!("still wrong: {problem}")));
    Ok(())
}

fn no_section(opened: &Opened, given: &str, near: Option<String>) -> String {
    let near = near.map_or(String::new(), |near| format!("did you mean {near}? "));
    format!(
        "{}: there is no section [{}]; {near}give --create to add it",
        opened.shown.display(),
        address::canonical(given)
    )
}

fn new_section(given: &str, leave: Leave) -> Result<String, String> {
    let section = address::canonical(given);
    if keys::kind(&section) == SectionKind::Unread && !leave.force {
        return Err(format!(
            "nothing reads a section [{section}]: write watcher:NAME, socket:NAME, plugin:NAME, env, env:PATTERN or \
             circus (or give --force)"
        ));
    }
    Ok(section)
}

fn check_key(section: &str, key: &str) -> Result<(), String> {
    if keys::kind(section) == SectionKind::Watcher && key == "env" {
        let name = section.strip_prefix("watcher:").unwrap_or(section);
        return Err(format!(
            "[{section}] env: the environment of a watcher stands in a section of its own: set env:{name} NAME VALUE"
        ));
    }
    match keys::known(section, key) {
        Known::Yes | Known::Free => Ok(()),
        Known::No(near) => Err(format!(
            "[{section}] {key}: there is no such key{}; --force writes it all the same",
            near.map_or(String::new(), |near| format!(", did you mean {near}?"))
        )),
    }
}
