//! Writes a desired state as a document that reads back to it.

use serde_json::{Map, Number, Value};
use toml_edit::{Array, DocumentMut, Item, Key, Table};

use super::shape::Shape;
use super::vocabulary::OWN_KEYS;
use super::{DocumentError, DocumentProblem, Format, Place, SCHEMA};
use crate::config::Document;
use crate::config::keys::{CIRCUS_KEYS, SOCKET_KEYS};
use crate::options::{self, Key as OptionKey, RETIRED_OPTIONS, to_bool};
use crate::state::desired::{
    Desired, DesiredSection, DesiredState, OnChange, Running, SectionKind, Wanted,
};

/// The document of a state. [`super::read`] makes the same state of it, but for the order of keys.
///
/// # Errors
/// With [`Format::Ini`]: what a circus.ini has no words for (a watcher that is absent or stopped, a key that must not be
/// stated, `prune`), and texts that it cannot hold. TOML and JSON can say everything.
pub fn write(state: &DesiredState, format: Format) -> Result<String, DocumentError> {
    match format {
        Format::Json => Ok(format!("{:#}\n", Value::Object(tree(state)))),
        Format::Toml => Ok(toml(&tree(state))),
        Format::Ini => ini(state),
    }
}

/// The state in the shape of TOML and JSON, without a null.
fn tree(state: &DesiredState) -> Map<String, Value> {
    let mut top = Map::new();
    top.insert("schema".to_string(), Value::from(SCHEMA));
    if state.prune {
        top.insert("prune".to_string(), Value::from(true));
    }
    let sections = |kind: SectionKind| state.sections.iter().filter(move |s| s.kind == kind);
    let global = [(SectionKind::Circus, "circus"), (SectionKind::Env, "env")];
    let unset: Vec<Value> = global
        .iter()
        .flat_map(|(kind, word)| {
            let keys = sections(*kind).flat_map(|section| &section.unset);
            keys.map(move |key| Value::from(format!("{word}.{key}")))
        })
        .collect();
    put_list(&mut top, "unset", unset);
    for (kind, word) in global {
        let mut table = Map::new();
        for wanted in sections(kind).flat_map(|section| &section.options) {
            table.insert(wanted.key.clone(), key_value(kind, wanted));
        }
        put_table(&mut top, word, table);
    }
    let watchers = state.watchers.iter();
    let watchers =
        watchers.map(|watcher| (watcher.name.clone(), Value::Object(self::watcher(watcher))));
    put_table(&mut top, "watcher", watchers.collect());
    for (kind, word) in [
        (SectionKind::Socket, "socket"),
        (SectionKind::Plugin, "plugin"),
    ] {
        let named = sections(kind).map(|s| (s.name.clone(), Value::Object(section(s))));
        put_table(&mut top, word, named.collect());
    }
    top
}

fn put_table(top: &mut Map<String, Value>, key: &str, table: Map<String, Value>) {
    if !table.is_empty() {
        top.insert(key.to_string(), Value::Object(table));
    }
}

fn put_list(top: &mut Map<String, Value>, key: &str, list: Vec<Value>) {
    if !list.is_empty() {
        top.insert(key.to_string(), Value::Array(list));
    }
}

/// A watcher's table in a document.
pub fn watcher(watcher: &Desired) -> Map<String, Value> {
    let mut table = Map::new();
    if !watcher.present {
        table.insert("state".to_string(), Value::from("absent"));
        for (key, flag) in [
            ("with_env", watcher.with_env),
            ("with_socket", watcher.with_socket),
        ] {
            if flag {
                table.insert(key.to_string(), Value::from(true));
            }
        }
        return table;
    }
    let mut groups: Map<String, Value> = Map::new();
    for wanted in &watcher.options {
        let value = option_value(wanted);
        let group = match options::find(&wanted.key) {
            Some((spec, OptionKey::Entry(entry))) if wanted.key.contains('.') => {
                Some((spec.name, entry))
            }
            None if !may_stand_alone(&wanted.key) => Some(("extra", wanted.key.as_str())),
            _ => None,
        };
        match group {
            None => {
                table.insert(wanted.key.clone(), value);
            }
            Some((group, entry)) => {
                let group = groups
                    .entry(group)
                    .or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(group) = group {
                    group.insert(entry.to_string(), value);
                }
            }
        }
    }
    let autostart = watcher
        .options
        .iter()
        .find(|wanted| wanted.key == "autostart");
    let starts = autostart.and_then(|wanted| to_bool(&wanted.text).ok()) != Some(false);
    let state = match watcher.running {
        Running::No => Some("stopped"),
        Running::Yes if !starts => Some("running"),
        Running::Any if starts => Some("present"),
        Running::Yes | Running::Any => None,
    };
    if let Some(state) = state {
        table.insert("state".to_string(), Value::from(state));
    }
    let on_change = match watcher.on_change {
        OnChange::Auto => None,
        OnChange::Never => Some("never"),
        OnChange::Always => Some("always"),
    };
    if let Some(word) = on_change {
        table.insert("restart_on_change".to_string(), Value::from(word));
    }
    let mut unset: Vec<Value> = watcher
        .unset
        .iter()
        .map(|key| Value::from(key.as_str()))
        .collect();
    let mut env = Map::new();
    for (name, value) in &watcher.env {
        match value {
            Some(value) => {
                env.insert(name.clone(), Value::from(value.as_str()));
            }
            None => unset.push(Value::from(format!("env.{name}"))),
        }
    }
    put_list(&mut table, "unset", unset);
    table.extend(groups);
    put_table(&mut table, "env", env);
    table
}

/// A key without a row in the options table that needs no `extra` around it.
fn may_stand_alone(key: &str) -> bool {
    OWN_KEYS.iter().any(|prefix| key.starts_with(prefix))
        || RETIRED_OPTIONS.iter().any(|(name, _)| *name == key)
}

fn section(section: &DesiredSection) -> Map<String, Value> {
    let mut table = Map::new();
    if !section.present {
        table.insert("state".to_string(), Value::from("absent"));
        return table;
    }
    let states = |key: &str| section.options.iter().any(|wanted| wanted.key == key);
    let socket = section.kind == SectionKind::Socket;
    for wanted in &section.options {
        // Beside a path they have no effect in a circus.ini, and no place in a document.
        if socket && states("path") && matches!(wanted.key.as_str(), "host" | "port") {
            continue;
        }
        table.insert(wanted.key.clone(), key_value(section.kind, wanted));
    }
    if socket && !["host", "port", "path"].into_iter().any(states) {
        for spec in SOCKET_KEYS
            .iter()
            .filter(|spec| matches!(spec.name, "host" | "port"))
        {
            let key = spec.name.to_string();
            let text = spec.default.to_string();
            let value = natural(&Shape::of_key(spec), &text);
            table.insert(key, value);
        }
    }
    let unset = section.unset.iter().map(|key| Value::from(key.as_str()));
    put_list(&mut table, "unset", unset.collect());
    table
}

fn option_value(wanted: &Wanted) -> Value {
    match Shape::of_option(&wanted.key) {
        Some(shape) => natural(&shape, &wanted.text),
        None => Value::from(wanted.text.as_str()),
    }
}

fn key_value(kind: SectionKind, wanted: &Wanted) -> Value {
    let shape = match kind {
        SectionKind::Env => return Value::from(wanted.text.as_str()),
        SectionKind::Plugin => Some(Shape::of_plugin_key(&wanted.key)),
        SectionKind::Circus | SectionKind::Socket => {
            let known = match kind {
                SectionKind::Circus => CIRCUS_KEYS,
                _ => SOCKET_KEYS,
            };
            let spec = known.iter().find(|spec| spec.name == wanted.key);
            spec.map(Shape::of_key)
        }
    };
    match shape {
        Some(shape) => natural(&shape, &wanted.text),
        None => Value::from(wanted.text.as_str()),
    }
}

/// The value that a person would write, if it reads back to the very text.
fn natural(shape: &Shape, text: &str) -> Value {
    let whole = || text.parse::<i64>().ok().filter(|n| n.to_string() == text);
    let number = || {
        let number = text.parse::<f64>().ok().and_then(Number::from_f64)?;
        (number.to_string() == text).then_some(number)
    };
    let truth = || match text {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    };
    let value = match shape {
        Shape::Whole(..) | Shape::Limit | Shape::Account | Shape::Signal => {
            whole().map(Value::from)
        }
        Shape::Seconds | Shape::Number => whole()
            .map(Value::from)
            .or_else(|| number().map(Value::Number)),
        Shape::Truth => truth().map(Value::from),
        Shape::Scalar => whole()
            .map(Value::from)
            .or_else(|| truth().map(Value::from)),
        _ => None,
    };
    value.unwrap_or_else(|| Value::from(text))
}

/// What the configuration is called that a state is written as; the ending tells its format.
const INI: &str = "circus.ini";

/// Tables that stand under a header of their own; the others are short enough for dotted keys.
const HEADED: [&str; 2] = ["env", "extra"];

fn toml(top: &Map<String, Value>) -> String {
    let mut document = DocumentMut::new();
    let root = document.as_table_mut();
    for (key, value) in top {
        let item = match (key.as_str(), value) {
            ("watcher" | "socket" | "plugin", Value::Object(named)) => {
                let mut outer = Table::new();
                outer.set_implicit(true);
                for (name, inner) in named {
                    if let Value::Object(inner) = inner {
                        outer.insert_formatted(&Key::new(name), Item::Table(table(inner)));
                    }
                }
                Item::Table(outer)
            }
            (_, Value::Object(inner)) => Item::Table(table(inner)),
            (_, value) => item(value),
        };
        root.insert(key, item);
    }
    document.to_string()
}

fn table(pairs: &Map<String, Value>) -> Table {
    let mut out = Table::new();
    for (key, value) in pairs {
        let item = match value {
            Value::Object(inner) => {
                let mut inner = table(inner);
                inner.set_dotted(!HEADED.contains(&key.as_str()));
                Item::Table(inner)
            }
            value => item(value),
        };
        out.insert_formatted(&Key::new(key), item);
    }
    out
}

fn item(value: &Value) -> Item {
    match value {
        Value::Bool(flag) => toml_edit::value(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => toml_edit::value(whole),
            (None, Some(fraction)) => toml_edit::value(fraction),
            (None, None) => toml_edit::value(number.to_string()),
        },
        Value::Array(items) => {
            let mut array = Array::new();
            array.extend(items.iter().filter_map(Value::as_str));
            toml_edit::value(array)
        }
        Value::String(text) => toml_edit::value(text.as_str()),
        // Tables are made by the caller, and there is no null.
        Value::Null | Value::Object(_) => Item::None,
    }
}

fn ini(state: &DesiredState) -> Result<String, DocumentError> {
    let mut problems = unsayable(state);
    let mut document = Document::empty(INI);
    let rank = |section: &DesiredSection| match section.kind {
        SectionKind::Circus => 0,
        SectionKind::Env => 1,
        SectionKind::Socket => 3,
        SectionKind::Plugin => 4,
    };
    let sections = |first: bool| {
        let mut some: Vec<&DesiredSection> = state
            .sections
            .iter()
            .filter(|section| section.present && (rank(section) < 2) == first)
            .collect();
        some.sort_by_key(|section| rank(section));
        some
    };
    let pairs = |options: &'_ [Wanted]| -> Vec<(String, String)> {
        let pairs = options.iter();
        pairs.map(|w| (w.key.clone(), w.text.clone())).collect()
    };
    let mut all: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for section in sections(true) {
        all.push((section.section(), pairs(&section.options)));
    }
    for watcher in state.watchers.iter().filter(|watcher| watcher.present) {
        all.push((format!("watcher:{}", watcher.name), pairs(&watcher.options)));
        let env = watcher.env.iter();
        let env: Vec<(String, String)> = env
            .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
            .collect();
        if !env.is_empty() {
            all.push((format!("env:{}", watcher.name), env));
        }
    }
    for section in sections(false) {
        all.push((section.section(), pairs(&section.options)));
    }
    for (section, pairs) in &all {
        let pairs: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(key, text)| (key.as_str(), text.as_str()))
            .collect();
        if let Err(error) = document.add_section(section, &pairs) {
            problems.extend(error.problems.into_iter().map(|told| DocumentProblem {
                place: whole(),
                path: format!("[{section}]"),
                what: told.what,
            }));
        }
    }
    DocumentError::check(problems)?;
    Ok(document.to_string())
}

fn whole() -> Place {
    Place {
        file: INI.to_string(),
        line: None,
    }
}

/// What a circus.ini has no words for.
fn unsayable(state: &DesiredState) -> Vec<DocumentProblem> {
    let mut problems = Vec::new();
    let mut tell = |path: String, what: &str| {
        problems.push(DocumentProblem {
            place: whole(),
            path,
            what: format!("{what}; write TOML or JSON"),
        });
    };
    if state.prune {
        tell(
            "prune".to_string(),
            "a circus.ini cannot say that the rest goes",
        );
    }
    for watcher in &state.watchers {
        let path = || format!("watcher.{}", watcher.name);
        let autostart = watcher
            .options
            .iter()
            .find(|wanted| wanted.key == "autostart");
        let starts = autostart.and_then(|wanted| to_bool(&wanted.text).ok()) != Some(false);
        if !watcher.present {
            tell(path(), "a circus.ini cannot say that a watcher is absent");
        } else if watcher.running == Running::No || (watcher.running == Running::Any) == starts {
            tell(
                path(),
                "a circus.ini cannot say whether a watcher runs, beyond autostart",
            );
        }
        if watcher.on_change != OnChange::Auto {
            tell(path(), "a circus.ini cannot say restart_on_change");
        }
        if !watcher.unset.is_empty() || watcher.env.iter().any(|(_, value)| value.is_none()) {
            tell(path(), "a circus.ini cannot say that a key is not stated");
        }
    }
    for section in &state.sections {
        if !section.present || !section.unset.is_empty() {
            tell(
                section.section(),
                "a circus.ini cannot say that a section or a key is not there",
            );
        }
    }
    problems
}
