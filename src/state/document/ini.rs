//! A circus.ini as a draft: its texts as they are written. Unknown keys are kept, as Circus keeps them.

use super::draft::{Draft, Include, Keys, PatternDraft, SectionDraft, Stated, WatcherDraft};
use super::shape::Shape;
use super::{DocumentError, DocumentProblem, Place};
use crate::config::keys::{CIRCUS_KEYS, KeySpec, SOCKET_KEYS};
use crate::config::{self, ConfigError, DEFAULT_SECTION, Document, pytext};
use crate::options::{self, HOOKS, Key, Kind, RLIMITS};
use crate::state::desired::SectionKind;

/// The draft of the bytes of a circus.ini.
pub fn draft(bytes: &[u8], name: &str) -> Result<Draft, DocumentError> {
    let document = Document::parse_as(config::Format::Ini, bytes, name)
        .map_err(|error| problems_of(&error))?;
    let mut reader = Reader {
        name,
        document: &document,
        draft: Draft::default(),
        problems: Vec::new(),
    };
    for section in document.sections() {
        reader.section(section);
    }
    DocumentError::check(reader.problems)?;
    Ok(reader.draft)
}

/// What is wrong with a configuration, as what is wrong with a document.
fn problems_of(error: &ConfigError) -> DocumentError {
    let problems = error.problems.iter().map(|problem| DocumentProblem {
        place: Place {
            file: problem.file.to_string_lossy().into_owned(),
            line: problem.line,
        },
        path: match (&problem.section, &problem.key) {
            (Some(section), Some(key)) => format!("[{section}] {key}"),
            (Some(section), None) => format!("[{section}]"),
            (None, Some(key)) => key.clone(),
            (None, None) => String::new(),
        },
        what: problem.what.clone(),
    });
    DocumentError {
        problems: problems.collect(),
    }
}

struct Reader<'a> {
    name: &'a str,
    document: &'a Document,
    draft: Draft,
    problems: Vec<DocumentProblem>,
}

impl Reader<'_> {
    fn section(&mut self, section: &str) {
        let place = Place::new(self.name, self.document.section_line(section).unwrap_or(1));
        match section.split_once(':') {
            _ if section == DEFAULT_SECTION => {
                self.draft.defaults = self.keys(section, |_, text| Ok(Some(text.to_string())));
            }
            Some(("watcher", header)) => {
                let mut watcher = WatcherDraft::new(header, place);
                watcher.options = self.keys(section, option);
                if watcher.options.shift_remove("env").is_some() {
                    self.draft.warnings.push(format!(
                        "{}: [{section}] env: Circus does not read this key, it is left out; write a section \
                         [env:{header}]",
                        self.name
                    ));
                }
                self.draft.watchers.push(watcher);
            }
            Some(("socket", name)) => {
                let keys = self.known_keys(section, SOCKET_KEYS);
                self.push(SectionKind::Socket, name, place, keys);
            }
            Some(("plugin", name)) => {
                let keys = self.keys(section, |key, text| {
                    Shape::of_plugin_key(key).check(text).map(Some)
                });
                self.push(SectionKind::Plugin, name, place, keys);
            }
            Some(("env", patterns)) => {
                let values = self.keys(section, |_, text| Ok(Some(text.to_string())));
                self.draft.patterns.push(PatternDraft {
                    patterns: patterns.to_string(),
                    values,
                });
            }
            None if section == "circus" => {
                let mut keys = self.known_keys(section, CIRCUS_KEYS);
                self.includes(&mut keys);
                self.push(SectionKind::Circus, "", place, keys);
            }
            None if section == "env" => {
                let keys = self.keys(section, |_, text| Ok(Some(text.to_string())));
                self.push(SectionKind::Env, "", place, keys);
            }
            _ => self.draft.warnings.push(format!(
                "{place}: [{section}] has no meaning in a desired state; it is left out"
            )),
        }
    }

    fn push(&mut self, kind: SectionKind, name: &str, place: Place, keys: Keys) {
        self.draft.sections.push(SectionDraft {
            kind,
            name: name.to_string(),
            place,
            state: None,
            strict: false,
            keys,
        });
    }

    /// The keys that somebody reads. The others have no effect in a circus.ini, and are not wanted anywhere.
    fn known_keys(&mut self, section: &str, known: &[KeySpec]) -> Keys {
        let mut keys = self.keys(section, |key, text| {
            let spec = known.iter().find(|spec| spec.name == key);
            spec.map_or(Ok(text.to_string()), |spec| Shape::of_key(spec).check(text))
                .map(Some)
        });
        let warnings = &mut self.draft.warnings;
        keys.retain(|key, stated| {
            let read = known.iter().any(|spec| spec.name == key);
            if !read {
                warnings.push(format!(
                    "{}: [{section}] {key}: there is no such key here; it is left out",
                    stated.place
                ));
            }
            read
        });
        keys
    }

    fn keys(
        &mut self,
        section: &str,
        take: impl Fn(&str, &str) -> Result<Option<String>, String>,
    ) -> Keys {
        let mut keys = Keys::new();
        for (key, entry) in self.document.entries(section).into_iter().flatten() {
            let place = Place::new(self.name, entry.line);
            match take(key, &entry.value) {
                Ok(None) => {}
                Ok(text) => {
                    keys.insert(key.clone(), Stated { text, place });
                }
                Err(what) => self.problems.push(DocumentProblem {
                    place,
                    path: format!("[{section}] {key}"),
                    what,
                }),
            }
        }
        keys
    }

    fn includes(&mut self, keys: &mut Keys) {
        for (key, directory) in [("include", false), ("include_dir", true)] {
            let Some(stated) = keys.shift_remove(key) else {
                continue;
            };
            let words = pytext::words(stated.text.as_deref().unwrap_or_default());
            self.draft.includes.extend(words.map(|word| Include {
                word: word.to_string(),
                directory,
                place: stated.place.clone(),
            }));
        }
    }
}

/// A key of a watcher section.
fn option(key: &str, text: &str) -> Result<Option<String>, String> {
    let text = match options::find(key) {
        Some((spec, Key::Whole)) if matches!(spec.kind, Kind::Limits | Kind::Hooks) => {
            return Err(match spec.kind {
                Kind::Limits => {
                    "limits are given one by one, as in rlimit_nofile = 1024".to_string()
                }
                _ => "hooks are given one by one, as in hooks.before_start = module.function"
                    .to_string(),
            });
        }
        Some((spec, Key::Entry(limit)))
            if spec.kind == Kind::Limits && !RLIMITS.contains(&limit) =>
        {
            return Err(format!("no such limit; limits are {}", RLIMITS.join(", ")));
        }
        Some((spec, Key::Entry(hook))) if spec.kind == Kind::Hooks && !HOOKS.contains(&hook) => {
            return Err(format!("no such hook; hooks are {}", HOOKS.join(", ")));
        }
        // A stream takes its entries as they are, and circus keeps what it does not know.
        Some((spec, _)) if matches!(spec.kind, Kind::Stream | Kind::Env) => text.to_string(),
        _ => match Shape::of_option(key) {
            // Circus counts a watcher without a command as wrong; an empty one is told by the rules.
            Some(Shape::Filled) => text.to_string(),
            // An empty account is none.
            Some(Shape::Account) if text.is_empty() => return Ok(None),
            Some(shape) => shape.check(text)?,
            None => text.to_string(),
        },
    };
    Ok(Some(text))
}
