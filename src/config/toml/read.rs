//! From the tables of a TOML file to the sections of circus.ini, with the place of each in the file.

use std::ops::Range;

use indexmap::IndexMap;
use toml_edit::{Item, Key, Value};

use super::super::document::{DEFAULT_SECTION, Entries, Entry, NAME_KEY};
use super::super::error::{ConfigError, Problem, ProblemKind, quoted};
use super::super::pytext;
use super::value::{holds_options, text_of};
use crate::options::{self, Kind};

/// Where a section stands in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Its tables from the top, such as `watcher` and `web`.
    pub path: Vec<String>,
    /// The line (from 1) where it begins.
    pub line: usize,
    /// It is `[watcher.NAME.env]`.
    pub of_watcher: bool,
    /// Where each key stands; the same keys as in its [`Entries`].
    pub spots: IndexMap<String, Spot>,
    /// Its tables that are written as such, and those inside it.
    pub tables: Vec<TableSpot>,
}

/// Where a key and its value stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    /// The tables from the top, and the key itself.
    pub path: Vec<String>,
    /// The last part of its key.
    pub key: Range<usize>,
    /// Its value.
    pub value: Range<usize>,
    /// What it stands in.
    pub within: Within,
}

/// A table that is written as one: `[header]` or `{ … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableSpot {
    /// The tables from the top.
    pub path: Vec<String>,
    /// The header's or the braces' place.
    pub span: Range<usize>,
    /// For braces: where their key is, and what it stands in. `None` for a header.
    pub braces: Option<(Range<usize>, Within)>,
}

/// What surrounds a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Within {
    /// The lines below a header (or the top of the file), whose tables from the top are so many.
    Lines(usize),
    /// A table in braces, whose own tables from the top are so many, with its place.
    Braces(usize, Range<usize>),
}

impl Within {
    /// How many tables from the top a key there need not name.
    pub fn depth(&self) -> usize {
        match self {
            Self::Lines(depth) | Self::Braces(depth, _) => *depth,
        }
    }
}

/// Where the lines of a text begin.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub fn of(text: &str) -> Self {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(breaks).collect())
    }

    /// The line (from 1) of a byte.
    pub fn number(&self, at: usize) -> usize {
        self.0.partition_point(|start| *start <= at)
    }
}

/// A key with what it holds, and where.
#[derive(Clone)]
struct Node<'a> {
    name: &'a str,
    key: Range<usize>,
    item: &'a Item,
    path: Vec<String>,
    within: Within,
}

impl<'a> Node<'a> {
    /// What the table holds; nothing if it is none.
    fn children(&self) -> Vec<Node<'a>> {
        let depth = self.path.len();
        let within = match self.item {
            Item::Table(table) if !table.is_dotted() => Within::Lines(depth),
            Item::Value(Value::InlineTable(table)) if !table.is_dotted() => {
                Within::Braces(depth, table.span().unwrap_or_default())
            }
            _ => self.within.clone(),
        };
        let Some(table) = self.item.as_table_like() else {
            return Vec::new();
        };
        table
            .iter()
            .map(|(name, item)| {
                let mut path = self.path.clone();
                path.push(name.to_owned());
                Node {
                    name,
                    key: table.key(name).and_then(Key::span).unwrap_or_default(),
                    item,
                    path,
                    within: within.clone(),
                }
            })
            .collect()
    }

    fn is_table(&self) -> bool {
        self.item.is_table_like()
    }

    /// The place of the table itself if it is written as one.
    fn table_spot(&self) -> Option<TableSpot> {
        let (span, braces) = match self.item {
            Item::Table(table) if !table.is_dotted() && !table.is_implicit() => {
                (table.span()?, None)
            }
            Item::Value(Value::InlineTable(table)) if !table.is_dotted() => {
                (table.span()?, Some((self.key.clone(), self.within.clone())))
            }
            _ => return None,
        };
        Some(TableSpot {
            path: self.path.clone(),
            span,
            braces,
        })
    }
}

type Read = (IndexMap<String, Entries>, IndexMap<String, Layout>);

/// Reads all sections.
///
/// # Errors
/// Everything that circus.ini could not say.
pub(super) fn sections(
    document: &toml_edit::Document<&str>,
    name: &str,
) -> Result<Read, ConfigError> {
    let mut reader = Reader {
        name,
        text: document.raw(),
        lines: Lines::of(document.raw()),
        sections: IndexMap::new(),
        layouts: IndexMap::new(),
        problems: Vec::new(),
    };
    reader.top(document);
    reader.finish()
}

struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    lines: Lines,
    sections: IndexMap<String, Entries>,
    layouts: IndexMap<String, Layout>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn top(&mut self, document: &toml_edit::Document<&str>) {
        let top = Node {
            name: "",
            key: 0..0,
            item: document.as_item(),
            path: Vec::new(),
            within: Within::Lines(0),
        };
        for node in top.children() {
            match node.name {
                "$schema" if node.item.is_str() => {}
                "env" => self.environment(&node),
                "watcher" | "socket" | "plugin" => {
                    if !node.is_table() {
                        self.no_table(&node, &format!("[{}.NAME]", node.name));
                    }
                    for named in node.children() {
                        let section = format!("{}:{}", node.name, named.name);
                        self.section(&section, &named);
                    }
                }
                section => self.section(section, &node),
            }
        }
    }

    fn environment(&mut self, node: &Node) {
        if !node.is_table() {
            self.no_table(node, "[env]");
        }
        if let Some(spot) = node.table_spot() {
            self.enter("env", node, false).tables.push(spot);
        }
        for child in node.children() {
            if child.is_table() {
                self.section(&format!("env:{}", child.name), &child);
            } else {
                self.enter("env", node, false);
                self.value("env", child.name, &child);
            }
        }
    }

    fn section(&mut self, section: &str, node: &Node) {
        if !node.is_table() {
            let expected = match node.path.as_slice() {
                [kind, name] => format!("[{kind}.{}]", shown_key(name)),
                _ => "a section such as [circus], [watcher.NAME], [socket.NAME], [plugin.NAME] or [env]".to_owned(),
            };
            self.no_table(node, &expected);
            return;
        }
        self.keys(section, node, "", node);
    }

    /// Reads what a table of a section holds; `prefix` goes before its keys.
    fn keys(&mut self, section: &str, top: &Node, prefix: &str, node: &Node) {
        if let Some(spot) = node.table_spot() {
            let layout = self.enter(section, top, false);
            layout.tables.push(spot);
        }
        for child in node.children() {
            let key = format!("{prefix}{}", child.name);
            if holds_options(section) && prefix == "hooks." && child.item.is_inline_table() {
                self.enter(section, top, false);
                self.hook(section, &key, &child);
            } else if !child.is_table() {
                self.enter(section, top, false);
                self.value(section, &key, &child);
            } else if section.starts_with("watcher:") && key == "env" {
                self.environment_of(section, node, &child);
            } else {
                match nested(section, prefix, child.name) {
                    Ok(prefix) => self.keys(section, top, &prefix, &child),
                    Err(what) => self.complain(child.key.clone(), section, &key, what),
                }
            }
        }
    }

    /// `[watcher.NAME.env]`
    fn environment_of(&mut self, watcher: &str, node: &Node, env: &Node) {
        // A watcher may carry another name than its section, and patterns are held against that.
        let children = node.children();
        let given = children.iter().find(|child| child.name == "name");
        let name = given
            .and_then(|child| child.item.as_str())
            .or(watcher.strip_prefix("watcher:"))
            .unwrap_or(watcher);
        if name.contains(',') || pytext::strip(name) != name || name.is_empty() {
            let what = format!(
                "variables of a watcher are found by its name, and {} cannot stand for itself in [env.\"PATTERN\"]: \
                 write such a table with a pattern in place of this one",
                quoted(name)
            );
            self.complain(env.key.clone(), watcher, "env", what);
            return;
        }
        let section = format!("env:{}", escaped(name));
        if let Some(spot) = env.table_spot() {
            self.enter(&section, env, true).tables.push(spot);
        }
        for child in env.children() {
            if child.is_table() {
                let what = "a variable has one value, not a table; a name that holds a dot is put in quotes";
                self.complain(child.key.clone(), &section, child.name, what.to_owned());
            } else {
                self.enter(&section, env, true);
                self.value(&section, child.name, &child);
            }
        }
    }

    /// The layout of a section that is found (again) at `node`.
    fn enter(&mut self, section: &str, node: &Node, of_watcher: bool) -> &mut Layout {
        self.sections.entry(section.to_owned()).or_default();
        let layout = self
            .layouts
            .entry(section.to_owned())
            .or_insert_with(|| Layout {
                path: node.path.clone(),
                line: usize::MAX,
                of_watcher,
                ..Layout::default()
            });
        if layout.path != node.path {
            let problem = Problem::new(
                ProblemKind::Syntax,
                self.name,
                format!(
                    "[{}] and [{}] are two spellings of one section; put all of it into one of them",
                    shown_path(&layout.path),
                    shown_path(&node.path)
                ),
            )
            .at(self.lines.number(node.key.start));
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
        layout
    }

    fn hook(&mut self, section: &str, key: &str, node: &Node) {
        let mut call = None;
        let mut ignore = false;
        let mut wrong = node.children().is_empty();
        for child in node.children() {
            match (child.name, child.item) {
                ("call", Item::Value(Value::String(text))) => call = Some(text.value().as_str()),
                ("ignore_failure", Item::Value(Value::Boolean(truth))) => ignore = *truth.value(),
                _ => wrong = true,
            }
        }
        match call {
            Some(call) if !wrong && !call.contains(',') => {
                let text = if ignore {
                    format!("{call},True")
                } else {
                    call.to_owned()
                };
                self.take(section, key, text, node);
            }
            _ => {
                let what = "a hook is \"module.function\" or { call = \"module.function\", ignore_failure = true }";
                self.complain(node.key.clone(), section, key, what.to_owned());
            }
        }
    }

    fn value(&mut self, section: &str, key: &str, node: &Node) {
        let text = match node.item {
            Item::Value(value) => {
                let source = value.span().and_then(|span| self.text.get(span));
                text_of(section, key, value, source.unwrap_or_default())
            }
            Item::ArrayOfTables(_) => Err(format!(
                "[[…]] makes a list of tables, which nothing takes here; write [{}]",
                shown_path(&node.path)
            )),
            Item::None | Item::Table(_) => Err("this is a table".to_owned()),
        };
        match text {
            Ok(_) if key == NAME_KEY && section != DEFAULT_SECTION => {
                let what = "Circus sets this key itself; remove it".to_owned();
                self.complain(node.key.clone(), section, key, what);
            }
            Ok(text) => self.take(section, key, text, node),
            Err(what) => self.complain(node.key.clone(), section, key, what),
        }
    }

    fn take(&mut self, section: &str, key: &str, text: String, node: &Node) {
        let line = self.lines.number(node.key.start);
        let (Some(entries), Some(layout)) = (
            self.sections.get_mut(section),
            self.layouts.get_mut(section),
        ) else {
            return;
        };
        if let Some(first) = entries.get(key) {
            let what = format!(
                "the key stands on line {} too, in another spelling; remove one of them",
                first.line
            );
            self.complain(node.key.clone(), section, key, what);
            return;
        }
        let entry = Entry {
            value: text,
            line,
            continued_at: None,
        };
        entries.insert(key.to_owned(), entry);
        let spot = Spot {
            path: node.path.clone(),
            key: node.key.clone(),
            value: node.item.span().unwrap_or_default(),
            within: node.within.clone(),
        };
        layout.spots.insert(key.to_owned(), spot);
    }

    fn no_table(&mut self, node: &Node, expected: &str) {
        let what = match node.item {
            Item::ArrayOfTables(_) => format!("[[…]] makes a list of tables; expected {expected}"),
            _ => format!("a value stands outside any section; expected {expected}"),
        };
        let problem = Problem::new(ProblemKind::Syntax, self.name, what)
            .at(self.lines.number(node.key.start))
            .key(&shown_path(&node.path));
        self.problems.push(problem);
    }

    fn complain(&mut self, at: Range<usize>, section: &str, key: &str, what: String) {
        self.problems.push(
            Problem::new(ProblemKind::Value, self.name, what)
                .at(self.lines.number(at.start))
                .section(section)
                .key(key),
        );
    }

    /// Sections and keys in the order of the file.
    fn finish(mut self) -> Result<Read, ConfigError> {
        self.problems.sort_by_key(|problem| problem.line);
        ConfigError::check(self.problems)?;
        for (section, layout) in &mut self.layouts {
            layout
                .spots
                .sort_by(|_, a, _, b| a.key.start.cmp(&b.key.start));
            layout.tables.sort_by_key(|table| table.span.start);
            let table = layout.tables.first().map(|table| table.span.start);
            let first = layout.spots.first().map(|(_, spot)| spot.key.start);
            let start = table.into_iter().chain(first).min().unwrap_or_default();
            layout.line = self.lines.number(start);
            if let Some(entries) = self.sections.get_mut(section) {
                let at = |key: &String| layout.spots.get(key).map(|spot| spot.key.start);
                entries.sort_by(|a, _, b, _| at(a).cmp(&at(b)));
            }
        }
        self.layouts
            .sort_by(|_, a, _, b| (a.of_watcher, a.line).cmp(&(b.of_watcher, b.line)));
        let order = |section: &String| self.layouts.get_index_of(section);
        self.sections.sort_by(|a, _, b, _| order(a).cmp(&order(b)));
        Ok((self.sections, self.layouts))
    }
}

/// The prefix that the keys of a table inside a section get.
fn nested(section: &str, prefix: &str, name: &str) -> Result<String, String> {
    let dotted = Ok(format!("{prefix}{name}."));
    if section.starts_with("plugin:") {
        return dotted;
    }
    if !holds_options(section) {
        return Err(match section {
            _ if section == "circus" || section.starts_with("socket:") || section.starts_with("env:") => {
                "one value is expected, not a table; a key that holds a dot is put in quotes".to_owned()
            }
            _ => "there is no such table; a section is [circus], [watcher.NAME], [socket.NAME], [plugin.NAME], \
                  [env] or [env.\"PATTERN\"]"
                .to_owned(),
        });
    }
    if prefix.is_empty() {
        match options::WATCHER_OPTIONS
            .iter()
            .find(|spec| spec.name == name)
        {
            Some(spec) if spec.kind == Kind::Limits => return Ok("rlimit_".to_owned()),
            Some(spec) if matches!(spec.kind, Kind::Hooks | Kind::Stream) => {}
            Some(spec) => {
                return Err(format!(
                    "{} has one value; a table is not expected",
                    spec.name
                ));
            }
            None => {}
        }
        return dotted;
    }
    match prefix {
        "hooks." => {
            Err("a hook is \"module.function\" or { call = \"module.function\" }".to_owned())
        }
        "rlimit_" => Err("a resource limit is a number".to_owned()),
        _ => dotted,
    }
}

/// A name as a pattern that fits nothing else.
pub(in super::super) fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '*' | '?' | '[') {
            out.extend(['[', c, ']']);
        } else {
            out.push(c);
        }
    }
    out
}

/// A key as it is written: in quotes if it needs them.
pub(in super::super) fn shown_key(key: &str) -> String {
    Key::new(key).display_repr().into_owned()
}

/// A path of tables as it is written.
pub(in super::super) fn shown_path(path: &[String]) -> String {
    let parts: Vec<String> = path.iter().map(|part| shown_key(part)).collect();
    parts.join(".")
}

/// A section as a table is spelled, `watcher.web` for `watcher:web`.
pub(in super::super) fn spelled(section: &str) -> String {
    match section.split_once(':') {
        Some((kind @ ("watcher" | "socket" | "plugin" | "env"), name)) => {
            format!("{kind}.{}", shown_key(name))
        }
        _ => shown_key(section),
    }
}
