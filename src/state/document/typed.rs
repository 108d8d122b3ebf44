//! A TOML or JSON tree as a draft: every key is known, every value has its form.

use super::draft::{Draft, Include, Keys, PatternDraft, SectionDraft, State, Stated, WatcherDraft};
use super::shape::Shape;
use super::tree::{Data, Node};
use super::vocabulary::{
    ON_CHANGE, SECTION_STATES, TOP, WATCHER_EXTRAS, WATCHER_STATES, check_name_of_key, shape_of,
    unknown,
};
use super::{DocumentError, DocumentProblem, Place, SCHEMA};
use crate::config::keys::{CIRCUS_KEYS, SOCKET_KEYS};
use crate::config::{DEFAULT_SECTION, pytext};
use crate::options::{self, Key, Kind};
use crate::state::desired::{OnChange, SectionKind};

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

    fn circus(&mut self, node: &Node) {
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

    fn env(&mut self, node: &Node) {
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
    fn unset_at_top(&mut self, node: &Node) {
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

    fn section(&mut self, kind: SectionKind, name: &str, node: &Node, path: &str) {
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

    fn watcher(&mut self, header: &str, node: &Node, path: &str) {
        let mut watcher = WatcherDraft::new(header, self.place(node.line));
        for (key, value) in self.table_of(node) {
            let path = format!("{path}.{key}");
            match key.as_str() {
                "name" => self.state_key(&mut watcher.options, key, value, &Shape::Filled, &path),
                "state" => {
                    let states = [
                        State::Running,
                        State::Stopped,
                        State::Present,
                        State::Absent,
                    ];
                    watcher.state = self
                        .word(value, &WATCHER_STATES, &path)
                        .map(|at| states[at]);
                }
                "restart_on_change" => {
                    let words = [OnChange::Auto, OnChange::Never, OnChange::Always];
                    watcher.on_change = self.word(value, &ON_CHANGE, &path).map(|at| words[at]);
                }
                "with_env" | "with_socket" => {
                    let place = self.place(value.line);
                    let place = self.flag(&path, value).filter(|flag| *flag).map(|_| place);
                    match key.as_str() {
                        "with_env" => watcher.with_env = place,
                        _ => watcher.with_socket = place,
                    }
                }
                "unset" => self.unset(&mut watcher, value, &path),
                "env" => {
                    let env = self.variables(self.table_of(value), value, &path);
                    for (name, stated) in env {
                        self.put(&mut watcher.env, &name, stated, &path);
                    }
                }
                "extra" => self.extra(&mut watcher.options, value, &path),
                _ => self.option(&mut watcher.options, key, value, &path),
            }
        }
        self.draft.watchers.push(watcher);
    }

    fn option(&mut self, keys: &mut Keys, key: &str, node: &Node, path: &str) {
        if let Some((spec, Key::Whole)) = options::find(key)
            && matches!(spec.kind, Kind::Limits | Kind::Hooks | Kind::Stream)
            && spec.name == key
        {
            for (entry, value) in self.table(node, path) {
                let path = format!("{path}.{entry}");
                let full = match spec.kind {
                    Kind::Limits => format!("rlimit_{entry}"),
                    _ => format!("{}.{entry}", spec.name),
                };
                self.plain_option(keys, &full, value, &path);
            }
            return;
        }
        self.plain_option(keys, key, node, path);
    }

    fn plain_option(&mut self, keys: &mut Keys, key: &str, node: &Node, path: &str) {
        match shape_of(key) {
            Ok(shape) => self.state_key(keys, key, node, &shape, path),
            Err(what) => self.problem(node.line, path, what),
        }
    }

    /// `unset = ["max_age", "env.TOKEN"]`
    fn unset(&mut self, watcher: &mut WatcherDraft, node: &Node, path: &str) {
        for (name, line) in self.names(node, path) {
            let null = Node {
                line,
                data: Data::Null,
            };
            let (keys, key, fine) = match name.strip_prefix("env.") {
                Some(variable) => (&mut watcher.env, variable, check_name_of_key(variable)),
                None => (&mut watcher.options, name, self.may_be_unset(name)),
            };
            match fine {
                Ok(()) => self.state_key(keys, key, &null, &Shape::Scalar, path),
                Err(what) => self.problem(line, path, what),
            }
        }
    }

    fn may_be_unset(&self, key: &str) -> Result<(), String> {
        match shape_of(key) {
            Ok(_) => Ok(()),
            // A key that nobody knows may well be in the file; one that is nearly an option is a slip.
            Err(_) if options::find(key).is_none() && options::nearest(key).is_none() => Ok(()),
            Err(what) => Err(what),
        }
    }

    /// `extra`: keys that are no options, for `$(circus.NAME)` or for other readers of the file.
    fn extra(&mut self, keys: &mut Keys, node: &Node, path: &str) {
        for (key, value) in self.table(node, path) {
            let path = format!("{path}.{key}");
            let what = if options::find(key).is_some() || WATCHER_EXTRAS.contains(&key.as_str()) {
                "this has a meaning of its own; state it beside `extra`, not in it".to_string()
            } else if let Err(what) = check_name_of_key(key) {
                what
            } else {
                self.state_key(keys, key, value, &Shape::Scalar, &path);
                continue;
            };
            self.problem(value.line, &path, what);
        }
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
