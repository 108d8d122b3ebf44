//! The JSON Schema of a watcher as Microsoft's DSC passes it.

use serde_json::{Map, Value, json};

use super::{DIALECT, NAME, env, watcher_body, watcher_properties};

/// The keys that say which watcher it is about, and where.
pub const ADDRESS: [&str; 5] = ["name", "config", "endpoint", "live", "start_daemon"];
/// The keys that only DSC has a meaning for.
pub const DSC_ONLY: [&str; 3] = ["_exist", "_inDesiredState", "_metadata"];

/// The schema of an instance of the resource type `Circ/Watcher`.
pub fn instance() -> Value {
    let mut schema = json!({
        "$schema": DIALECT,
        "title": "Circ/Watcher",
        "description": "A watcher of circ or of Circus: a command and how many workers of it run",
    });
    let mut properties = Map::new();
    for (key, property) in [
        (
            "name",
            json!({
                "type": "string",
                "pattern": format!("^{NAME}$"),
                "description": "The watcher's name",
            }),
        ),
        (
            "config",
            json!({
                "type": ["string", "null"],
                "minLength": 1,
                "description": "The circus.ini or circus.toml to edit; its endpoint is where the daemon is. Without it only the daemon is managed",
            }),
        ),
        (
            "endpoint",
            json!({
                "type": ["string", "null"],
                "minLength": 1,
                "description": "The daemon's endpoint; wins over the configuration's",
            }),
        ),
        (
            "live",
            json!({
                "type": ["boolean", "null"],
                "default": true,
                "writeOnly": true,
                "description": "false: the file alone is looked at and edited; no daemon is needed",
            }),
        ),
        (
            "start_daemon",
            json!({
                "type": ["boolean", "null"],
                "default": false,
                "writeOnly": true,
                "description": "If no daemon listens, start one on the configuration file",
            }),
        ),
        (
            "_exist",
            json!({
                "type": ["boolean", "null"],
                "default": true,
                "description": "Whether the watcher is there",
            }),
        ),
        (
            "_inDesiredState",
            json!({
                "type": ["boolean", "null"],
                "readOnly": true,
                "description": "Whether file and daemon are as desired",
            }),
        ),
    ] {
        properties.insert(key.to_string(), property);
    }
    for (key, mut property) in watcher_properties() {
        match key.as_str() {
            "name" => continue,
            // Absence is said by _exist.
            "state" => property["enum"] = json!(["running", "stopped", "present"]),
            "with_env" | "with_socket" => {
                let what = property["description"].as_str().unwrap_or_default();
                property["description"] =
                    Value::from(what.replace("With state absent", "With _exist false"));
            }
            _ => {}
        }
        properties.insert(key, property);
    }
    let mut env = env();
    env["additionalProperties"] = json!({"anyOf": [
        {"type": ["string", "number", "boolean", "null"]},
        {
            "type": "object",
            "description": "A secret, as DSC wraps it",
            "required": ["secureString"],
            "properties": {"secureString": {"type": "string"}},
            "additionalProperties": false,
        },
    ]});
    if let (Value::Object(schema), Value::Object(body)) = (&mut schema, watcher_body()) {
        schema.insert("type".into(), Value::from("object"));
        schema.insert("required".into(), json!(["name"]));
        schema.insert("properties".into(), Value::Object(properties));
        for key in ["patternProperties", "additionalProperties"] {
            schema.insert(key.into(), body.get(key).cloned().unwrap_or_default());
        }
        schema.insert("$defs".into(), json!({"env": env}));
    }
    schema
}
