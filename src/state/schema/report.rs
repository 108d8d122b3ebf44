//! The JSON Schema of the state report. Its keys are a contract: there may be more of them one day, never fewer.

use serde_json::{Value, json};

use super::DIALECT;
use crate::state::report::SCHEMA;

/// The schema of the report that every verb of `circ state` prints with `--json`.
pub fn report() -> Value {
    let texts =
        |what: &str| json!({"type": "array", "items": {"type": "string"}, "description": what});
    let flag = |what: &str| json!({"type": "boolean", "description": what});
    let sides = |what: &str| {
        json!({
            "type": "object",
            "properties": {"file": {"type": ["object", "null"]}, "daemon": {"type": ["object", "null"]}},
            "description": what,
        })
    };
    json!({
        "$schema": DIALECT,
        "title": "The report of circ state",
        "type": "object",
        "required": [
            "schema", "resource", "name", "check", "changed", "failed", "msg", "comment", "changes", "diff",
            "before", "after", "restarted", "actions", "warnings", "error",
        ],
        "properties": {
            "schema": {"const": SCHEMA},
            "resource": {
                "enum": ["watcher", "socket", "plugin", "circus", "env", "state"],
                "description": "What it is about; state: a whole desired state, with one entry a resource in resources",
            },
            "name": {"type": "string", "description": "The name of what it is about"},
            "check": flag("Nothing was changed; changes says what would be"),
            "changed": flag("Something was changed, or would be, and stays changed"),
            "failed": flag("The wanted state was not reached"),
            "msg": {"type": "string", "description": "One line for a person"},
            "comment": {"type": "string", "description": "The same as msg, under the name that Salt has for it"},
            "changes": {
                "type": "object",
                "additionalProperties": {"type": "object"},
                "description": "What changed: {KEY: {old, new}}, or the same by resource",
            },
            "diff": {
                "type": "array",
                "description": "Before and after of files, and prepared text for the daemon; filled on request",
                "items": {"anyOf": [
                    {
                        "type": "object",
                        "required": ["before_header", "after_header", "before", "after"],
                        "properties": {
                            "before_header": {"type": "string"},
                            "after_header": {"type": "string"},
                            "before": {"type": "string"},
                            "after": {"type": "string"},
                        },
                    },
                    {
                        "type": "object",
                        "required": ["prepared"],
                        "properties": {"prepared": {"type": "string"}},
                    },
                ]},
            },
            "before": sides("What was found: the managed options of each side that was looked at"),
            "after": sides("What is there now, in the same shape"),
            "restarted": flag("The daemon replaced running workers because of an option"),
            "actions": {
                "type": "array",
                "description": "What was done, in order",
                "items": {
                    "type": "object",
                    "required": ["target", "op", "key", "status"],
                    "properties": {
                        "target": {"enum": ["file", "daemon"]},
                        "op": {"type": "string", "description": "set, unset, add, remove, incr, decr, start, stop, restart, reload …"},
                        "key": {"type": ["string", "null"], "description": "The option it is about, if it is about one"},
                        "status": {"enum": ["planned", "done", "failed", "unfinished", "undone"]},
                        "name": {"type": "string", "description": "The resource, in a report about several"},
                    },
                },
            },
            "warnings": texts("What the caller should know but need not act on"),
            "error": {"type": ["string", "null"], "description": "Why it failed"},
            "backups": texts("Copies that were kept of files before they were written"),
            "resources": {
                "type": "array",
                "items": {"$ref": "#"},
                "description": "With resource state: a report for each resource",
            },
        },
        "if": {"properties": {"failed": {"const": true}}},
        "then": {"properties": {"error": {"type": "string"}}},
    })
}
