//! JSON Schema (draft 2020-12) of what goes into and comes out of `circ state`: the desired-state document, one watcher
//! of it, and the report. Made from the options table, the key tables and the reader's own description of values, so
//! that an editor and the reader agree. Pure.
//!
//! What a schema rejects the reader rejects too. The reader knows more: two names that differ in case only, a key that
//! is stated twice in two spellings, what `unset` contradicts.

mod instance;
mod report;
mod shapes;

use serde_json::{Map, Value, json};

pub use instance::{ADDRESS, DSC_ONLY, instance};
pub use report::report;
use shapes::of_shape;

use super::document::SCHEMA;
use super::document::shape::Shape;
use super::document::vocabulary::{ON_CHANGE, SECTION_STATES, WATCHER_EXTRAS, WATCHER_STATES};
use crate::config::DEFAULT_SECTION;
use crate::config::keys::{CIRCUS_KEYS, KeySpec, PLUGIN_KEYS, SOCKET_KEYS};
use crate::options::{Default, HOOKS, Kind, OptionSpec, RETIRED_OPTIONS, RLIMITS, WATCHER_OPTIONS};

/// The dialect of the schemas.
pub const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Characters that a name in a section's header may hold, and where it may not begin or end with white space.
const NAME: &str = r"[^\]\s\u0000-\u001f\u007f-\u009f]([^\]\u0000-\u001f\u007f-\u009f]*[^\]\s\u0000-\u001f\u007f-\u009f])?";
/// The same for a key, which may not hold a separator either, nor begin as a comment or a header.
const KEY: &str = r"[^=:#;\[\s\u0000-\u001f\u007f-\u009f]([^=:\u0000-\u001f\u007f-\u009f]*[^=:\s\u0000-\u001f\u007f-\u009f])?";

/// The schema of a desired-state document.
pub fn state() -> Value {
    let prefixed = |word: &str| format!("^{word}:{NAME}$");
    let named = |what: &str, definition: &str| {
        json!({
            "type": "object",
            "description": what,
            "propertyNames": {"pattern": format!("^{NAME}$")},
            "additionalProperties": reference(definition),
        })
    };
    let circus: Vec<&str> = CIRCUS_KEYS.iter().map(|spec| spec.name).collect();
    json!({
        "$schema": DIALECT,
        "title": "A desired state",
        "description": "What circ state apply brings about. An option that is not named is not managed.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "$schema": {"type": "string", "description": "For editors; not read"},
            "schema": {"const": SCHEMA, "description": "The version of this format"},
            "prune": {
                "type": "boolean",
                "default": false,
                "description": "Watchers, sockets and plugins that are not named here go",
            },
            "unset": {
                "type": "array",
                "items": {
                    "type": "string",
                    "pattern": format!(r"^env\.{KEY}$|^circus\.({})$", circus.join("|")),
                },
                "description": "Keys of [env] and [circus] that are not to be stated: env.NAME, circus.KEY",
            },
            "circus": reference("circus"),
            "env": {
                "type": "object",
                "description": "Variables of all watchers; a table in it is named by patterns of watchers and holds theirs",
                "patternProperties": {
                    format!("^{KEY}$"): {"anyOf": [
                        {"type": ["string", "number", "boolean", "null"]},
                        reference("env"),
                    ]},
                },
                "additionalProperties": reference("env"),
            },
            "watcher": named("The watchers by name", "watcher"),
            "socket": named("The sockets by name", "socket"),
            "plugin": named("The plugins by name", "plugin"),
            DEFAULT_SECTION: {
                "allOf": [reference("env")],
                "description": "Keys that stand in for missing ones in every section, as in a circus.ini",
            },
        },
        "patternProperties": {
            prefixed("watcher"): reference("watcher"),
            prefixed("socket"): reference("socket"),
            prefixed("plugin"): reference("plugin"),
            "^env:": reference("env"),
        },
        "$defs": {
            "watcher": watcher_body(),
            "socket": socket(),
            "plugin": plugin(),
            "circus": circus_section(),
            "env": env(),
        },
    })
}

/// The schema of one watcher of a document.
pub fn watcher() -> Value {
    let mut schema = json!({
        "$schema": DIALECT,
        "title": "A watcher in a desired state",
    });
    if let (Value::Object(schema), Value::Object(body)) = (&mut schema, watcher_body()) {
        schema.extend(body);
        schema.insert("$defs".to_string(), json!({"env": env()}));
    }
    schema
}

fn reference(definition: &str) -> Value {
    json!({"$ref": format!("#/$defs/{definition}")})
}

/// Variables of an environment.
fn env() -> Value {
    json!({
        "type": "object",
        "description": "Variables of the environment; null: not to be stated",
        "propertyNames": {"pattern": format!("^{KEY}$")},
        "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
    })
}

/// The properties of a watcher, one for every key that the reader takes.
pub(super) fn watcher_properties() -> Map<String, Value> {
    let mut properties = Map::new();
    properties.insert(
        "name".to_string(),
        json!({
            "type": ["string", "null"],
            "pattern": format!("^{NAME}$"),
            "description": "The watcher's name, if it is not that of its table",
        }),
    );
    properties.insert(
        "state".to_string(),
        json!({
            "enum": WATCHER_STATES,
            "description": "running: it is there and its workers run (the default); stopped: it is there and does not run; \
                present: it is there, running or not is left alone (the default without autostart); absent: it is not there",
        }),
    );
    properties.insert(
        "restart_on_change".to_string(),
        json!({
            "enum": ON_CHANGE,
            "default": "auto",
            "description": "What a changed option does to running workers: auto: what it needs, nothing or a graceful reload; \
                never: no worker is replaced; always: any change but of their number restarts them",
        }),
    );
    properties.insert(
        "unset".to_string(),
        json!({
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "description": "Options that are not to be stated, so that their defaults count; env.NAME for a variable",
        }),
    );
    properties.insert("env".to_string(), reference("env"));
    properties.insert(
        "extra".to_string(),
        json!({
            "type": "object",
            "description": "Keys of the section that are no options: for $(circus.NAME), or for other readers",
            "propertyNames": {
                "pattern": format!("^{KEY}$"),
                "not": {"anyOf": [
                    {"enum": WATCHER_OPTIONS.iter().map(|spec| spec.name).chain(WATCHER_EXTRAS).collect::<Vec<_>>()},
                    {"pattern": r"^rlimit_|^hooks\.|^std(out|err)_stream(\.|_conf$)"},
                ]},
            },
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        }),
    );
    for (key, what) in [
        (
            "with_env",
            "With state absent: its section [env:NAME] goes too",
        ),
        (
            "with_socket",
            "With state absent: the sockets that only it uses go too",
        ),
    ] {
        let property = json!({"type": "boolean", "default": false, "description": what});
        properties.insert(key.to_string(), property);
    }
    for spec in WATCHER_OPTIONS {
        option(&mut properties, spec);
    }
    for (name, _) in RETIRED_OPTIONS {
        let shape = match *name {
            "retry_in" => Shape::Scalar,
            _ => Shape::Truth,
        };
        let mut schema = nullable(of_shape(&shape));
        describe(&mut schema, "Accepted by Circus, without effect");
        insert(&mut schema, "deprecated", Value::from(true));
        properties.insert((*name).to_string(), schema);
    }
    properties
}

fn option(properties: &mut Map<String, Value>, spec: &OptionSpec) {
    let entry = |key: String, what: String| {
        let shape = Shape::of_option(&key).unwrap_or(Shape::Scalar);
        let mut schema = nullable(of_shape(&shape));
        describe(&mut schema, &what);
        (key, schema)
    };
    let group = |words: &[&str], flat: &dyn Fn(&str) -> String, what: &dyn Fn(&str) -> String| {
        let entries: Vec<(String, Value)> = words
            .iter()
            .map(|word| {
                let (_, schema) = entry(flat(word), what(word));
                ((*word).to_string(), schema)
            })
            .collect();
        let inner: Map<String, Value> = entries.into_iter().collect();
        json!({
            "type": "object",
            "description": spec.doc,
            "properties": inner,
            "additionalProperties": false,
        })
    };
    match spec.kind {
        Kind::Env => {}
        Kind::Limits => {
            let flat = |word: &str| format!("rlimit_{word}");
            let what = |word: &str| format!("RLIMIT_{}; -1 is unlimited", word.to_uppercase());
            properties.insert(spec.name.to_string(), group(RLIMITS, &flat, &what));
            properties.extend(RLIMITS.iter().map(|word| entry(flat(word), what(word))));
        }
        Kind::Hooks => {
            let flat = |word: &str| format!("hooks.{word}");
            let what = |word: &str| format!("module.function to call for {word}");
            properties.insert(spec.name.to_string(), group(HOOKS, &flat, &what));
            properties.extend(HOOKS.iter().map(|word| entry(flat(word), what(word))));
        }
        Kind::Stream => {
            let number = |key: &str| {
                let (_, schema) = entry(format!("{}.{key}", spec.name), String::new());
                schema
            };
            let schema = json!({
                "type": "object",
                "description": spec.doc,
                "propertyNames": {"pattern": format!("^{KEY}$")},
                "properties": {
                    "max_bytes": number("max_bytes"),
                    "backup_count": number("backup_count"),
                },
                "additionalProperties": nullable(of_shape(&Shape::Scalar)),
            });
            properties.insert(spec.name.to_string(), schema);
            for key in ["max_bytes", "backup_count"] {
                properties.insert(format!("{}.{key}", spec.name), number(key));
            }
        }
        _ => {
            let (key, mut schema) = entry(spec.name.to_string(), spec.doc.to_string());
            let default = match spec.default {
                Default::Int(number) => Some(Value::from(number)),
                Default::Float(number) => Some(Value::from(number)),
                Default::Bool(flag) => Some(Value::from(flag)),
                Default::Text(text) if !text.is_empty() => Some(Value::from(text)),
                Default::Text(_) | Default::Null | Default::EmptyMap => None,
            };
            if let Some(default) = default {
                insert(&mut schema, "default", default);
            }
            properties.insert(key, schema);
        }
    }
}

fn watcher_body() -> Value {
    json!({
        "type": "object",
        "description": "A watcher: a command and how many workers of it run",
        "properties": watcher_properties(),
        "patternProperties": {
            format!("^(?=x[_-]){KEY}$"): {"type": ["string", "number", "boolean", "null"]},
            format!(r"^std(out|err)_stream\.(?!(max_bytes|backup_count)$){KEY}$"):
                {"type": ["string", "number", "boolean", "null"]},
        },
        "additionalProperties": false,
        "allOf": [
            {"not": {
                "required": ["singleton", "numprocesses"],
                "properties": {
                    "singleton": {"enum": [true, 1]},
                    "numprocesses": {"type": "integer", "minimum": 2},
                },
            }},
            {
                "if": {"anyOf": [
                    {"required": ["with_env"], "properties": {"with_env": {"const": true}}},
                    {"required": ["with_socket"], "properties": {"with_socket": {"const": true}}},
                ]},
                "then": {"required": ["state"], "properties": {"state": {"const": "absent"}}},
            },
        ],
    })
}

fn circus_section() -> Value {
    let properties: Map<String, Value> = CIRCUS_KEYS
        .iter()
        .map(|spec| {
            let schema = match spec.name {
                "include" | "include_dir" => {
                    let mut schema = json!({"anyOf": [
                        {"type": "string"},
                        {"type": "array", "items": {"type": "string"}},
                    ]});
                    let what = format!(
                        "{}. They are read as part of this document, and not passed on",
                        spec.doc
                    );
                    describe(&mut schema, &what);
                    schema
                }
                _ => of_key(spec),
            };
            (spec.name.to_string(), schema)
        })
        .collect();
    json!({
        "type": "object",
        "description": "Options of the daemon",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn socket() -> Value {
    let mut properties = section_properties(SOCKET_KEYS);
    let stated =
        |key: &str| json!({"required": [key], "properties": {key: {"not": {"type": "null"}}}});
    properties.extend(common());
    json!({
        "type": "object",
        "description": "A socket that the daemon binds and hands to workers",
        "properties": properties,
        "additionalProperties": false,
        "if": absent(),
        "else": {
            "oneOf": [
                stated("path"),
                {"anyOf": [stated("host"), stated("port")]},
            ],
        },
    })
}

fn plugin() -> Value {
    let mut properties = section_properties(PLUGIN_KEYS);
    properties.extend(common());
    json!({
        "type": "object",
        "description": "A plugin; it has keys of its own",
        "propertyNames": {"pattern": format!("^{KEY}$")},
        "properties": properties,
        "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        "if": absent(),
        "else": {"required": ["use"], "properties": {"use": {"not": {"type": "null"}}}},
    })
}

fn absent() -> Value {
    json!({"required": ["state"], "properties": {"state": {"const": "absent"}}})
}

/// What sockets and plugins have beside the keys of their sections.
fn common() -> Vec<(String, Value)> {
    let state =
        json!({"enum": SECTION_STATES, "default": "present", "description": "Whether it is there"});
    let unset = json!({
        "type": "array",
        "items": {"type": "string"},
        "description": "Keys that are not to be stated, so that their defaults count",
    });
    vec![("state".to_string(), state), ("unset".to_string(), unset)]
}

fn section_properties(keys: &[KeySpec]) -> Map<String, Value> {
    keys.iter()
        .map(|spec| (spec.name.to_string(), of_key(spec)))
        .collect()
}

fn of_key(spec: &KeySpec) -> Value {
    let shape = Shape::of_key(spec);
    let mut schema = nullable(of_shape(&shape));
    describe(&mut schema, spec.doc);
    let default = match shape {
        _ if spec.default.is_empty() => None,
        Shape::Whole(..) | Shape::Seconds | Shape::Number => {
            spec.default.parse::<i64>().ok().map(Value::from)
        }
        Shape::Truth => Some(Value::from(spec.default == "True")),
        _ => Some(Value::from(spec.default)),
    };
    if let Some(default) = default {
        insert(&mut schema, "default", default);
    }
    schema
}

/// The same, or null: the key is not to be stated.
fn nullable(mut schema: Value) -> Value {
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.push(json!({"type": "null"}));
        return schema;
    }
    match schema.get_mut("type") {
        Some(Value::Array(types)) => types.push(Value::from("null")),
        Some(one) => *one = json!([one, "null"]),
        None => {}
    }
    schema
}

fn describe(schema: &mut Value, what: &str) {
    if !what.is_empty() {
        insert(schema, "description", Value::from(what));
    }
}

fn insert(schema: &mut Value, key: &str, value: Value) {
    if let Value::Object(map) = schema {
        map.insert(key.to_string(), value);
    }
}
