//! The tables that are not watchers: `circus`, `env`, sockets and plugins.

use super::Reader;
use crate::config::keys::{CIRCUS_KEYS, SOCKET_KEYS};
use crate::config::pytext;
use crate::state::desired::SectionKind;
use crate::state::document::DocumentProblem;
use crate::state::document::draft::{Include, Keys, PatternDraft, SectionDraft, State};
use crate::state::document::shape::Shape;
use crate::state::document::tree::{Data, Node};
use crate::state::document::vocabulary::{SECTION_STATES, check_name_of_key, unknown};

impl Reader<'_> {
    pub(super) fn circus(&mut self, node: &Node) {
        let mut keys = Keys::new();
        for (key, value) in self.table(node, "circus") {
            let path = format!("circus.{key}");
            let Some(spec) = CIRCUS_KEYS.iter().find(|spec| spec.name == key) else {
                let names = CIRCUS_KEYS.iter().map(|spec| spec.name);
                self.problem(
                    value.line,
                    &path,
                    unknown("option of the daemon", key, names),
                );
                continue;
            };
            if matches!(key.as_str(), "include" | "include_dir") {
                self.include(value, key == "include_dir", &path);
                continue;
            }
            self.state_key(&mut keys, key, value, &Shape::of_key(spec), &path);
        }
        self.merge(SectionKind::Circus, node.line, keys, "circus");
    }

    fn include(&mut self, node: &Node, directory: bool, path: &str) {
        let place = self.place(node.line);
        let mut add = |text: &str| {
            self.draft
                .includes
                .extend(pytext::words(text).map(|word| Include {
                    word: word.to_string(),
                    directory,
                    place: place.clone(),
                }));
        };
        let fine = match &node.data {
            Data::Text(text) => {
                add(text);
                true
            }
            Data::List(items) => items.iter().all(|item| match &item.data {
                Data::Text(text) => {
                    add(text);
                    true
                }
                _ => false,
            }),
            _ => false,
        };
        if !fine {
            let what = format!("{} is not text or a list of texts", node.shown());
            self.problem(node.line, path, what);
        }
    }

    pub(super) fn env(&mut self, node: &Node) {
        let mut own: Vec<(String, Node)> = Vec::new();
        for (key, value) in self.table(node, "env") {
            match &value.data {
                Data::Table(pairs) => {
                    let values = self.variables(pairs, value, &format!("env.{key}"));
                    self.draft.patterns.push(PatternDraft {
                        patterns: key.clone(),
                        values,
                    });
                }
                _ => own.push((key.clone(), value.clone())),
            }
        }
        let keys = self.variables(&own, node, "env");
        self.merge(SectionKind::Env, node.line, keys, "env");
    }

    /// `unset = ["env.LANG", "circus.umask"]`: what these two are not to state.
    pub(super) fn unset_at_top(&mut self, node: &Node) {
        for (name, line) in self.names(node, "unset") {
            let null = Node {
                line,
                data: Data::Null,
            };
            let mut keys = Keys::new();
            match name.split_once('.') {
                Some(("env", name)) => {
                    if let Err(what) = check_name_of_key(name) {
                        self.problem(line, "unset", what);
                        continue;
                    }
                    self.state_key(&mut keys, name, &null, &Shape::Scalar, "unset");
                    self.merge(SectionKind::Env, line, keys, "env");
                }
                Some(("circus", key)) => {
                    let mut names = CIRCUS_KEYS.iter().map(|spec| spec.name);
                    if !names.any(|name| name == key) {
                        let names = CIRCUS_KEYS.iter().map(|spec| spec.name);
                        self.problem(line, "unset", unknown("option of the daemon", key, names));
                        continue;
                    }
                    self.state_key(&mut keys, key, &null, &Shape::Scalar, "unset");
                    self.merge(SectionKind::Circus, line, keys, "circus");
                }
                _ => {
                    let what = format!("{name:?} is not env.NAME or circus.KEY");
                    self.problem(line, "unset", what);
                }
            }
        }
    }

    /// Adds keys to `[circus]` or `[env]`, which several keys of a document have a say in.
    fn merge(&mut self, kind: SectionKind, line: usize, keys: Keys, path: &str) {
        if keys.is_empty() {
            return;
        }
        let place = self.place(line);
        let at = self
            .draft
            .sections
            .iter()
            .position(|known| known.kind == kind);
        let Some(known) = at.and_then(|at| self.draft.sections.get_mut(at)) else {
            self.draft.sections.push(SectionDraft {
                kind,
                name: String::new(),
                place,
                state: None,
                strict: true,
                keys,
            });
            return;
        };
        let mut told = Vec::new();
        for (key, stated) in keys {
            match known.keys.get(&key) {
                Some(first) => told.push(DocumentProblem {
                    path: format!("{path}.{key}"),
                    what: format!("{} says something of {key} already", first.place),
                    place: stated.place,
                }),
                None => {
                    known.keys.insert(key, stated);
                }
            }
        }
        self.problems.extend(told);
    }

    pub(super) fn section(&mut self, kind: SectionKind, name: &str, node: &Node, path: &str) {
        let mut keys = Keys::new();
        let mut state = None;
        for (key, value) in self.table_of(node) {
            let path = format!("{path}.{key}");
            if key == "state" {
                state = self
                    .word(value, &SECTION_STATES, &path)
                    .map(|at| [State::Present, State::Absent][at]);
                continue;
            }
            if key == "unset" {
                for (name, line) in self.names(value, &path) {
                    let null = Node {
                        line,
                        data: Data::Null,
                    };
                    self.section_key(kind, &mut keys, name, &null, &path);
                }
                continue;
            }
            self.section_key(kind, &mut keys, key, value, &path);
        }
        let section = SectionDraft {
            kind,
            name: name.to_string(),
            place: self.place(node.line),
            state,
            strict: true,
            keys,
        };
        self.draft.sections.push(section);
    }

    fn section_key(
        &mut self,
        kind: SectionKind,
        keys: &mut Keys,
        key: &str,
        value: &Node,
        path: &str,
    ) {
        let shape = match kind {
            SectionKind::Plugin => match check_name_of_key(key) {
                Ok(()) => Shape::of_plugin_key(key),
                Err(what) => return self.problem(value.line, path, what),
            },
            _ => match SOCKET_KEYS.iter().find(|spec| spec.name == key) {
                Some(spec) => Shape::of_key(spec),
                None => {
                    let names = SOCKET_KEYS.iter().map(|spec| spec.name);
                    let what = unknown("key of a socket", key, names.chain(["state", "unset"]));
                    return self.problem(value.line, path, what);
                }
            },
        };
        self.state_key(keys, key, value, &shape, path);
    }
}
