//! Several files read one after the other as one configuration: what a section already has stays, so
//! the first file wins. Source: `circus.config.read_config`, where one parser reads them all.

use std::collections::BTreeSet;
use std::path::PathBuf;

use indexmap::IndexMap;

use super::document::{DEFAULT_SECTION, Document, NAME_KEY};
use super::error::{Problem, ProblemKind};

/// A file that took part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceFile {
    /// As the user wrote it, for messages.
    pub shown: PathBuf,
    /// Where it is.
    pub path: PathBuf,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub value: String,
    pub file: usize,
    pub line: usize,
}

/// One section of all files together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub file: usize,
    pub line: usize,
    /// It holds the variables of one watcher, and comes after all patterns.
    pub of_watcher: bool,
    pub items: IndexMap<String, Item>,
}

/// All files together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Merged {
    pub files: Vec<SourceFile>,
    /// Without `DEFAULT`, in the order of their first headers.
    pub sections: IndexMap<String, Section>,
    /// The keys of `DEFAULT`.
    pub defaults: IndexMap<String, Item>,
}

impl Merged {
    /// Reads one more file on top of those read before.
    pub fn add(&mut self, source: SourceFile, document: &Document, problems: &mut Vec<Problem>) {
        let file = self.files.len();
        let lines = document.section_lines();
        for name in document.sections() {
            let items = if name == DEFAULT_SECTION {
                &mut self.defaults
            } else {
                let line = lines.get(name).copied().unwrap_or(1);
                let section = self
                    .sections
                    .entry(name.to_owned())
                    .or_insert_with(|| Section {
                        file,
                        line,
                        ..Section::default()
                    });
                section.of_watcher |= document.is_of_watcher(name);
                &mut section.items
            };
            for (key, entry) in document.entries(name).into_iter().flatten() {
                if let Some(first) = items.get(key) {
                    if let Some(line) = entry.continued_at {
                        let known: &SourceFile = &self.files[first.file];
                        problems.push(
                            Problem::new(
                                ProblemKind::Syntax,
                                &source.shown,
                                format!(
                                    "this line continues a value that {}:{} has set already; \
                                     Circus fails on that: remove the key here or there",
                                    known.shown.display(),
                                    first.line
                                ),
                            )
                            .at(line)
                            .section(name)
                            .key(key),
                        );
                    }
                    continue;
                }
                items.insert(
                    key.clone(),
                    Item {
                        value: entry.value.clone(),
                        file,
                        line: entry.line,
                    },
                );
            }
        }
        self.files.push(source);
    }

    /// These sections as `newer` has them, all others as they are here.
    pub fn taking(&self, names: &BTreeSet<String>, newer: &Merged) -> Merged {
        let mut result = self.clone();
        // the items of both say where they stand by their place in the list of files
        let places: Vec<usize> = newer
            .files
            .iter()
            .map(|file| {
                let known = result.files.iter().position(|known| known == file);
                known.unwrap_or_else(|| {
                    result.files.push(file.clone());
                    result.files.len() - 1
                })
            })
            .collect();
        let place_of = |file: usize| places.get(file).copied().unwrap_or_default();
        let moved = |item: &Item| Item {
            file: place_of(item.file),
            ..item.clone()
        };
        if names.contains(DEFAULT_SECTION) {
            let defaults = newer.defaults.iter();
            result.defaults = defaults.map(|(k, item)| (k.clone(), moved(item))).collect();
        }
        result
            .sections
            .retain(|name, _| !names.contains(name) || newer.sections.contains_key(name));
        let mut place = 0;
        for (name, section) in &newer.sections {
            if names.contains(name) {
                let items = section.items.iter();
                let section = Section {
                    file: place_of(section.file),
                    line: section.line,
                    of_watcher: section.of_watcher,
                    items: items.map(|(k, item)| (k.clone(), moved(item))).collect(),
                };
                match result.sections.get_mut(name) {
                    Some(there) => *there = section,
                    None => {
                        result.sections.shift_insert(place, name.clone(), section);
                    }
                }
            }
            if let Some(index) = result.sections.get_index_of(name) {
                place = index + 1;
            }
        }
        result
    }

    /// The value that counts: the section's own, or else that of `DEFAULT`. `None` also where the
    /// section itself is missing.
    pub fn get(&self, section: &str, key: &str) -> Option<&Item> {
        let own = self.sections.get(section)?;
        own.items.get(key).or_else(|| self.defaults.get(key))
    }

    /// Everything the parser answers for a section: the keys of `DEFAULT` first, then the section's
    /// own, among them the `__name__` that the parser adds.
    pub fn items(&self, section: &str) -> IndexMap<String, Item> {
        let mut items = self.defaults.clone();
        if let Some(own) = self.sections.get(section) {
            let name = Item {
                value: section.to_owned(),
                file: own.file,
                line: own.line,
            };
            items.insert(NAME_KEY.to_owned(), name);
            for (key, item) in &own.items {
                items.insert(key.clone(), item.clone());
            }
        }
        items
    }

    /// Does the section hold nothing but its name?
    pub fn is_empty(&self, section: &str) -> bool {
        let own = self.sections.get(section);
        own.is_none_or(|own| own.items.is_empty())
            && self.defaults.keys().all(|key| key == NAME_KEY)
    }

    /// A problem with one value.
    pub fn problem(
        &self,
        kind: ProblemKind,
        section: &str,
        key: &str,
        item: &Item,
        what: impl Into<String>,
    ) -> Problem {
        let shown = self.shown(item.file);
        Problem::new(kind, shown, what)
            .at(item.line)
            .section(section)
            .key(key)
    }

    /// A problem with a whole section.
    pub fn section_problem(&self, section: &str, what: impl Into<String>) -> Problem {
        let (file, line) = self
            .sections
            .get(section)
            .map_or((0, 1), |own| (own.file, own.line));
        Problem::new(ProblemKind::Rule, self.shown(file), what)
            .at(line)
            .section(section)
    }

    fn shown(&self, file: usize) -> PathBuf {
        self.files
            .get(file)
            .map(|source| source.shown.clone())
            .unwrap_or_default()
    }
}
