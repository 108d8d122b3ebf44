//! A watcher's table.

use super::Reader;
use crate::options::{self, Key, Kind};
use crate::state::desired::OnChange;
use crate::state::document::draft::{Keys, State, WatcherDraft};
use crate::state::document::shape::Shape;
use crate::state::document::tree::{Data, Node};
use crate::state::document::vocabulary::{
    ON_CHANGE, WATCHER_EXTRAS, WATCHER_STATES, check_name_of_key, shape_of,
};

impl Reader<'_> {
    pub(super) fn watcher(&mut self, header: &str, node: &Node, path: &str) {
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
}
