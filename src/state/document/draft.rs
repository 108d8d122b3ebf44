//! What documents state, key by key, before it is put together: files are laid over each other here.

use indexmap::IndexMap;

use super::{DocumentError, DocumentProblem, Format, Place, ini, json, toml, typed};
use crate::config::keys::{CIRCUS_KEYS, SOCKET_KEYS};
use crate::state::desired::{OnChange, SectionKind};

/// A value in the text form of a circus.ini, and where it stands. `None`: the key is not to be stated.
#[derive(Debug, Clone, PartialEq)]
pub struct Stated {
    /// The text.
    pub text: Option<String>,
    /// Where it stands.
    pub place: Place,
}

/// Keys with their values, in the order of the document.
pub type Keys = IndexMap<String, Stated>;

/// What a watcher, socket or plugin is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A watcher: it is there and runs.
    Running,
    /// A watcher: it is there and does not run.
    Stopped,
    /// It is there.
    Present,
    /// It is not there.
    Absent,
}

/// A watcher as a document states it.
#[derive(Debug, Clone, PartialEq)]
pub struct WatcherDraft {
    /// The name in its section's header.
    pub header: String,
    /// Where its section begins.
    pub place: Place,
    /// Its keys, among them `name` if that is given.
    pub options: Keys,
    /// Its own variables.
    pub env: Keys,
    /// `state`.
    pub state: Option<State>,
    /// `restart_on_change`.
    pub on_change: Option<OnChange>,
    /// `with_env`.
    pub with_env: Option<Place>,
    /// `with_socket`.
    pub with_socket: Option<Place>,
}

/// Another section as a document states it.
#[derive(Debug, Clone, PartialEq)]
pub struct SectionDraft {
    /// What it is about.
    pub kind: SectionKind,
    /// The name behind the colon.
    pub name: String,
    /// Where it begins.
    pub place: Place,
    /// `state`.
    pub state: Option<State>,
    /// It must tell what it is about by itself: a circus.ini may leave that to defaults.
    pub strict: bool,
    /// Its keys.
    pub keys: Keys,
}

/// `[env:PATTERN,PATTERN]`
#[derive(Debug, Clone, PartialEq)]
pub struct PatternDraft {
    /// The patterns, separated by commas.
    pub patterns: String,
    /// The variables.
    pub values: Keys,
}

/// A word of `include` or `include_dir`.
#[derive(Debug, Clone, PartialEq)]
pub struct Include {
    /// A pattern of files, or a directory.
    pub word: String,
    /// It is a directory.
    pub directory: bool,
    /// Where it stands.
    pub place: Place,
}

/// Everything that a document states.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    /// The watchers.
    pub watchers: Vec<WatcherDraft>,
    /// The other sections; `[circus]` and `[env]` are there once at most.
    pub sections: Vec<SectionDraft>,
    /// The variables for patterns of watchers.
    pub patterns: Vec<PatternDraft>,
    /// `[DEFAULT]` of a circus.ini.
    pub defaults: Keys,
    /// `prune`.
    pub prune: Option<(bool, Place)>,
    /// Further files.
    pub includes: Vec<Include>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
}

impl Draft {
    /// The draft of one document.
    pub fn of_bytes(
        bytes: &[u8],
        name: &str,
        format: Option<Format>,
    ) -> Result<Draft, DocumentError> {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            // The reader of circus.ini says where.
            Err(_) if format == Some(Format::Ini) => return Draft::of_ini(bytes, name),
            Err(error) => {
                let place = Place::new(
                    name,
                    1 + bytes[..error.valid_up_to()]
                        .iter()
                        .filter(|b| **b == b'\n')
                        .count(),
                );
                return Err(DocumentError::one(
                    place,
                    "this is not UTF-8 text; save the file in that encoding",
                ));
            }
        };
        let tree = match format.unwrap_or_else(|| Format::of_text(text)) {
            Format::Ini => return Draft::of_ini(bytes, name),
            Format::Toml => toml::parse(text),
            Format::Json => json::parse(text),
        };
        let tree = tree.map_err(|problems| DocumentError {
            problems: problems
                .into_iter()
                .map(|(line, what)| DocumentProblem {
                    place: Place::new(name, line),
                    path: String::new(),
                    what,
                })
                .collect(),
        })?;
        typed::draft(&tree, name)
    }

    /// The draft of a circus.ini.
    pub fn of_ini(bytes: &[u8], name: &str) -> Result<Draft, DocumentError> {
        ini::draft(bytes, name)
    }

    /// Lays an included file under this one: what is stated already stays.
    pub fn absorb(&mut self, other: Draft) {
        for watcher in other.watchers {
            match self
                .watchers
                .iter_mut()
                .find(|w| w.header == watcher.header)
            {
                Some(known) => {
                    under(&mut known.options, watcher.options);
                    under(&mut known.env, watcher.env);
                    known.state = known.state.or(watcher.state);
                    known.on_change = known.on_change.or(watcher.on_change);
                    known.with_env = known.with_env.take().or(watcher.with_env);
                    known.with_socket = known.with_socket.take().or(watcher.with_socket);
                }
                None => self.watchers.push(watcher),
            }
        }
        for section in other.sections {
            let same = |s: &&mut SectionDraft| s.kind == section.kind && s.name == section.name;
            match self.sections.iter_mut().find(same) {
                Some(known) => {
                    under(&mut known.keys, section.keys);
                    known.state = known.state.or(section.state);
                }
                None => self.sections.push(section),
            }
        }
        for pattern in other.patterns {
            match self
                .patterns
                .iter_mut()
                .find(|p| p.patterns == pattern.patterns)
            {
                Some(known) => under(&mut known.values, pattern.values),
                None => self.patterns.push(pattern),
            }
        }
        under(&mut self.defaults, other.defaults);
        self.prune = self.prune.take().or(other.prune);
        self.warnings.extend(other.warnings);
    }

    /// Puts another document of the same directory beside this one: nothing may stand in both.
    pub fn join(&mut self, mut other: Draft, problems: &mut Vec<DocumentProblem>) {
        other.fill_defaults();
        for watcher in other.watchers {
            let name = watcher.name().to_lowercase();
            match self
                .watchers
                .iter()
                .find(|w| w.name().to_lowercase() == name)
            {
                Some(known) => problems.push(twice(
                    "watcher",
                    watcher.name(),
                    &known.place,
                    &watcher.place,
                )),
                None => self.watchers.push(watcher),
            }
        }
        for section in other.sections {
            let same = |s: &&mut SectionDraft| {
                s.kind == section.kind && s.name.to_lowercase() == section.name.to_lowercase()
            };
            match self.sections.iter_mut().find(same) {
                None => self.sections.push(section),
                Some(known) => match section.kind {
                    SectionKind::Socket => {
                        problems.push(twice("socket", &section.name, &known.place, &section.place))
                    }
                    SectionKind::Plugin => {
                        problems.push(twice("plugin", &section.name, &known.place, &section.place))
                    }
                    SectionKind::Circus => {
                        beside("circus", &mut known.keys, section.keys, problems)
                    }
                    SectionKind::Env => beside("env", &mut known.keys, section.keys, problems),
                },
            }
        }
        self.patterns.extend(other.patterns);
        match (&self.prune, other.prune) {
            (Some((mine, place)), Some((theirs, there))) if *mine != theirs => {
                problems.push(DocumentProblem {
                    path: "prune".to_string(),
                    what: format!("{theirs} here, but {mine} in {place}; say the same in both, or leave one out"),
                    place: there,
                });
            }
            (None, Some(theirs)) => self.prune = Some(theirs),
            _ => {}
        }
        self.warnings.extend(other.warnings);
    }

    /// Gives every section what it does not state itself of the keys of `DEFAULT`.
    pub fn fill_defaults(&mut self) {
        let defaults = std::mem::take(&mut self.defaults);
        if defaults.is_empty() {
            return;
        }
        let watchers = self.watchers.iter_mut().map(|watcher| &mut watcher.options);
        let patterns = self.patterns.iter_mut().map(|pattern| &mut pattern.values);
        for keys in watchers.chain(patterns) {
            under(keys, defaults.clone());
        }
        for section in &mut self.sections {
            let known = match section.kind {
                SectionKind::Circus => Some(CIRCUS_KEYS),
                SectionKind::Socket => Some(SOCKET_KEYS),
                SectionKind::Env | SectionKind::Plugin => None,
            };
            let read =
                |key: &str| known.is_none_or(|known| known.iter().any(|spec| spec.name == key));
            let mut more = defaults.clone();
            more.retain(|key, _| read(key));
            under(&mut section.keys, more);
        }
    }
}

impl WatcherDraft {
    /// An empty one.
    pub fn new(header: &str, place: Place) -> WatcherDraft {
        WatcherDraft {
            header: header.to_string(),
            place,
            options: Keys::new(),
            env: Keys::new(),
            state: None,
            on_change: None,
            with_env: None,
            with_socket: None,
        }
    }

    /// The name: the key `name`, or that of the header.
    pub fn name(&self) -> &str {
        let given = self
            .options
            .get("name")
            .and_then(|name| name.text.as_deref());
        given.unwrap_or(&self.header)
    }
}

fn under(keys: &mut Keys, more: Keys) {
    for (key, stated) in more {
        keys.entry(key).or_insert(stated);
    }
}

fn beside(what: &str, keys: &mut Keys, more: Keys, problems: &mut Vec<DocumentProblem>) {
    for (key, stated) in more {
        match keys.get(&key) {
            Some(known) if known.text != stated.text => problems.push(DocumentProblem {
                path: format!("{what}.{key}"),
                what: format!("{} says otherwise; say it in one file only", known.place),
                place: stated.place,
            }),
            Some(_) => {}
            None => {
                keys.insert(key, stated);
            }
        }
    }
}

fn twice(what: &str, name: &str, first: &Place, second: &Place) -> DocumentProblem {
    DocumentProblem {
        place: second.clone(),
        path: format!("{what}.{name}"),
        what: format!("{first} has this {what} already; describe it in one file only"),
    }
}
