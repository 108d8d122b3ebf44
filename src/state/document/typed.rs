//! A TOML or JSON tree as a draft: every key is known, every value has its form.

mod sections;
mod watcher;

use super::draft::{Draft, Keys, PatternDraft, Stated};
use super::shape::Shape;
use super::tree::{Data, Node};
use super::vocabulary::{TOP, check_name_of_key, unknown};
use super::{DocumentError, DocumentProblem, Place, SCHEMA};
use crate::config::DEFAULT_SECTION;
use crate::state::desired::SectionKind;

/// The draft of a tree; `name` is what errors call the document.
pub fn draft(tree: &Node, name: &str) -> Result<Draft, DocumentError> {
    let mut reader = Reader {
        file: name,
        draft: Draft::default(),
        problems: Vec::new(),
    };
    match &tree.data {
        Data::Table(pairs) => {
            for (key, node) in pairs {
                reader.top(key, node);
            }
        }
        _ => reader.problem(
            tree.line,
            "",
            format!(
                "{} is not a desired state: a table is expected",
                tree.shown()
            ),
        ),
    }
    DocumentError::check(reader.problems)?;
    Ok(reader.draft)
}

struct Reader<'a> {
    file: &'a str,
    draft: Draft,
    problems: Vec<DocumentProblem>,
}

type Pairs = [(String, Node)];

impl Reader<'_> {
    fn place(&self, line: usize) -> Place {
        Place::new(self.file, line)
    }

    fn problem(&mut self, line: usize, path: &str, what: impl Into<String>) {
        let place = self.place(line);
        self.problems.push(DocumentProblem {
            place,
            path: path.to_string(),
            what: what.into(),
        });
    }

    /// The pairs of a table; anything else is a problem.
    fn table<'n>(&mut self, node: &'n Node, path: &str) -> &'n Pairs {
        match &node.data {
            Data::Table(pairs) => pairs,
            _ => {
                let what = format!("{} stands here, but a table is expected", node.shown());
                self.problem(node.line, path, what);
                &[]
            }
        }
    }

    fn top(&mut self, key: &str, node: &Node) {
        match key {
            "$schema" => {
                if !matches!(node.data, Data::Text(_)) {
                    self.problem(
                        node.line,
                        key,
                        "the address of a schema is expected, as text",
                    );
                }
            }
            "schema" => {
                if !matches!(&node.data, Data::Text(text) if text == SCHEMA) {
                    let what = format!(
                        "{} is not \"{SCHEMA}\", which this version reads",
                        node.shown()
                    );
                    self.problem(node.line, key, what);
                }
            }
            "prune" => {
                if let Some(flag) = self.flag(key, node) {
                    self.draft.prune = Some((flag, self.place(node.line)));
                }
            }
            "unset" => self.unset_at_top(node),
            "circus" => self.circus(node),
            "env" => self.env(node),
            "watcher" | "socket" | "plugin" => {
                for (name, inner) in self.table(node, key) {
                    self.named(key, name, inner);
                }
            }
            DEFAULT_SECTION => {
                let values = self.variables(self.table_of(node), node, key);
                self.draft.defaults = values;
            }
            _ => match key.split_once(':') {
                // The spelling of circus.ini.
                Some((kind @ ("watcher" | "socket" | "plugin"), name)) => {
                    self.named(kind, name, node)
                }
                Some(("env", patterns)) => {
                    let values = self.variables(self.table_of(node), node, key);
                    self.draft.patterns.push(PatternDraft {
                        patterns: patterns.to_string(),
                        values,
                    });
                }
                _ => {
                    let what = unknown("key", key, TOP.into_iter().skip(1));
                    self.problem(node.line, key, what);
                }
            },
        }
    }

    fn table_of<'n>(&self, node: &'n Node) -> &'n Pairs {
        match &node.data {
            Data::Table(pairs) => pairs,
            _ => &[],
        }
    }

    fn named(&mut self, kind: &str, name: &str, node: &Node) {
        let path = format!("{kind}.{name}");
        if !matches!(node.data, Data::Table(_)) {
            self.table(node, &path);
            return;
        }
        match kind {
            "watcher" => self.watcher(name, node, &path),
            "socket" => self.section(SectionKind::Socket, name, node, &path),
            _ => self.section(SectionKind::Plugin, name, node, &path),
        }
    }

    /// The texts of a list.
    fn names<'n>(&mut self, node: &'n Node, path: &str) -> Vec<(&'n str, usize)> {
        let Data::List(items) = &node.data else {
            let what = format!("{} is not a list of names", node.shown());
            self.problem(node.line, path, what);
            return Vec::new();
        };
        let mut names = Vec::new();
        for item in items {
            match &item.data {
                Data::Text(name) => names.push((name.as_str(), item.line)),
                _ => {
                    let what = format!("{} is not a name", item.shown());
                    self.problem(item.line, path, what);
                }
            }
        }
        names
    }

    fn variables(&mut self, pairs: &Pairs, node: &Node, path: &str) -> Keys {
        let mut keys = Keys::new();
        if !matches!(node.data, Data::Table(_)) {
            self.table(node, path);
        }
        for (name, value) in pairs {
            let path = format!("{path}.{name}");
            if let Err(what) = check_name_of_key(name) {
                self.problem(value.line, &path, what);
                continue;
            }
            self.state_key(&mut keys, name, value, &Shape::Scalar, &path);
        }
        keys
    }

    /// Takes one value; null means that the key is not to be stated.
    fn state_key(&mut self, keys: &mut Keys, key: &str, node: &Node, shape: &Shape, path: &str) {
        let text = match node.data {
            Data::Null => None,
            _ => match shape.text_of(node) {
                Ok(text) => Some(text),
                Err(what) => return self.problem(node.line, path, what),
            },
        };
        let place = self.place(node.line);
        self.put(keys, key, Stated { text, place }, path);
    }

    fn put(&mut self, keys: &mut Keys, key: &str, stated: Stated, path: &str) {
        match keys.get(key) {
            Some(known) => self.problems.push(DocumentProblem {
                path: path.to_string(),
                what: format!("{} says something of {key} already", known.place),
                place: stated.place,
            }),
            None => {
                keys.insert(key.to_string(), stated);
            }
        }
    }

    fn flag(&mut self, path: &str, node: &Node) -> Option<bool> {
        match node.data {
            Data::Bool(flag) => Some(flag),
            _ => {
                self.problem(
                    node.line,
                    path,
                    format!("{} is not true or false", node.shown()),
                );
                None
            }
        }
    }

    /// Which of the words it is.
    fn word(&mut self, node: &Node, words: &[&str], path: &str) -> Option<usize> {
        let at = match &node.data {
            Data::Text(text) => words.iter().position(|word| word == text),
            _ => None,
        };
        if at.is_none() {
            let what = format!("{} is not one of {}", node.shown(), words.join(", "));
            self.problem(node.line, path, what);
        }
        at
    }
}
