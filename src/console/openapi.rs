//! The document of the API (OpenAPI 3.1), made from the table of routes and the table of commands. Pure.

use super::bodies::{properties, schema_of};
use super::routes::{Action, Param, ROUTES, Reply, Route, Values, Who};
use crate::wire::command::{COMMANDS, CommandSpec};
use serde_json::{Map, Value, json};

/// Statuses that any request may be answered with.
const EVERYWHERE: [u16; 2] = [400, 403];

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        if route.action == Action::Command {
            for spec in COMMANDS.iter().filter(|spec| spec.name != "listen") {
                let path = route.path.replace("{command}", spec.name);
                add(&mut paths, &path, route, Some(spec));
            }
        } else {
            add(&mut paths, route.path, route, None);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "circ",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Watchers and processes of circ's and Circus's daemons. See docs/web.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas(), "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": "circ_session_PORT",
                "description": "PORT is that of the console. What is not a GET needs the header X-Circ-Csrf as well."},
        }},
        "security": [{}, {"token": []}, {"session": []}],
    })
}

fn add(
    paths: &mut Map<String, Value>,
    path: &str,
    route: &Route,
    command: Option<&'static CommandSpec>,
) {
    let item = paths.entry(path.to_owned()).or_insert_with(|| json!({}));
    item[route.method.to_lowercase()] = operation(path, route, command);
}

fn operation(path: &str, route: &Route, command: Option<&'static CommandSpec>) -> Value {
    let mut parameters: Vec<Value> = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}))
        .collect();
    parameters.extend(route.query.iter().map(parameter));
    let mut responses = Map::new();
    responses.insert("200".into(), success(route.reply));
    let login = (route.who != Who::Anybody).then_some(401);
    for status in EVERYWHERE.iter().chain(&login).chain(route.problems) {
        responses.insert(status.to_string(), problem(*status, route.reply));
    }
    let (id, doc) = match command {
        Some(spec) => (format!("command_{}", spec.name), spec.doc),
        None => (format!("{:?}", route.action).to_lowercase(), route.doc),
    };
    let mut operation = json!({
        "operationId": id,
        "summary": doc,
        "parameters": parameters,
        "responses": responses,
    });
    let schema = match (command, route.body) {
        (Some(spec), _) => Some(body_of(spec)),
        (None, Some(name)) => Some(reference(name)),
        (None, None) => None,
    };
    if let Some(schema) = schema {
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    if route.who == Who::Anybody {
        operation["security"] = json!([]);
    }
    operation
}

fn parameter(param: &Param) -> Value {
    let schema = match param.values {
        Values::Flag => json!({"type": "boolean"}),
        Values::Number(from, to) => json!({"type": "integer", "minimum": from, "maximum": to}),
        Values::Seconds(from, to) => json!({"type": "number", "minimum": from, "maximum": to}),
        Values::OneOf(words) => json!({"type": "string", "enum": words}),
    };
    json!({"name": param.name, "in": "query", "description": param.doc, "schema": schema})
}

fn success(reply: Reply) -> Value {
    let content = match reply {
        Reply::Json(name) => json!({"application/json": {"schema": reference(name)}}),
        Reply::Events => json!({"text/event-stream": {"schema": {"type": "string"}}}),
        Reply::Text("text/plain") => json!({
            "text/plain": {"schema": {"type": "string"}},
            "application/openmetrics-text": {"schema": {"type": "string"}},
        }),
        Reply::Text(kind) => json!({kind: {"schema": {"type": "string"}}}),
    };
    json!({"description": "As it should be", "content": content})
}

fn problem(status: u16, reply: Reply) -> Value {
    let status = http::StatusCode::from_u16(status).ok();
    let description = status.and_then(|status| status.canonical_reason());
    let mut content = json!({"application/problem+json": {"schema": reference("Problem")}});
    if matches!(reply, Reply::Text(_)) {
        content["text/plain"] = json!({"schema": {"type": "string"}});
    }
    json!({"description": description.unwrap_or("Error"), "content": content})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The properties of a command.
fn body_of(spec: &'static CommandSpec) -> Value {
    let all = properties(spec);
    let known: Map<String, Value> = all
        .iter()
        .map(|property| (property.name.to_owned(), schema_of(property)))
        .collect();
    json!({"type": "object", "properties": known, "required": spec.required, "additionalProperties": false})
}

fn nullable(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

fn list(name: &str) -> Value {
    json!({"type": "array", "items": reference(name)})
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let flag = json!({"type": "boolean"});
    let whole = nullable("integer");
    let number = nullable("number");
    let usage = json!({"cpu": number, "cpu_seconds": number, "rss": whole, "vms": whole, "threads": whole, "fds": whole});
    let mut process =
        json!({"pid": {"type": "integer"}, "wid": whole, "started": number, "leaving": flag});
    merge(&mut process, &usage);
    let watcher = json!({
        "name": text, "status": text, "wanted": whole, "running": {"type": "integer"}, "singleton": flag,
        "waiting": flag, "trouble": nullable("string"), "started": whole, "not_started": whole, "lost": whole,
        "restarts": whole, "reloads": whole, "kills": whole, "hook_failures": whole,
        "exits": {"type": "object", "additionalProperties": {"type": "integer"}},
        "last_exit": nullable("object"), "stopped_by": nullable("object"), "streams": {"type": "object"},
        "front": nullable("object"),
        "cpu": number, "rss": whole, "processes": list("Process"),
    });
    let names: Vec<String> = keys(&watcher)
        .into_iter()
        .filter(|key| key != "processes")
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut with_options = watcher.clone();
    with_options["options"] = json!({"type": "object"});
    let daemon = json!({
        "id": text, "endpoint": text, "state": {"enum": ["up", "down"]}, "reason": nullable("string"),
        "program": nullable("string"), "version": nullable("string"), "pid": whole, "name": nullable("string"),
        "config": nullable("string"), "started": number, "local": flag,
    });
    let all = |properties: &Value| keys(properties);
    let required = |properties: Value| {
        let names = all(&properties);
        json!({"type": "object", "required": names, "properties": properties})
    };
    json!({
        "Problem": object(&["type", "title", "status", "detail"],
            json!({"type": text, "title": text, "status": {"type": "integer"}, "detail": text, "errno": {"type": "integer"}})),
        "Session": required(json!({"login": flag, "authenticated": flag, "read_only": flag,
            "csrf": nullable("string"), "version": text})),
        "Login": {"type": "object", "required": ["password"], "properties": {"password": text},
            "additionalProperties": false},
        "Daemon": required(daemon),
        "Daemons": required(json!({"daemons": list("Daemon")})),
        "Usage": required(usage),
        "Process": required(process),
        "Watcher": object(&names, watcher.clone()),
        "WatcherWithOptions": object(&[&names[..], &["options"]].concat(), with_options),
        "Watchers": required(json!({"daemon": reference("Daemon"), "time": {"type": "number"},
            "usage": reference("Usage"), "watchers": list("Watcher"),
            "sockets": {"type": "array", "items": {"type": "object"}}})),
        "Change": {"type": "object", "additionalProperties": false, "properties": {
            "options": {"type": "object", "description": "Options of the watcher with their new values"},
            "unset": {"type": "array", "items": text, "description": "Options that go back to their default"}}},
        "Report": object(&["schema", "changed", "failed", "changes"],
            json!({"schema": text, "changed": flag, "failed": flag, "msg": text, "changes": {"type": "object"},
                "diff": {"type": "array"}, "warnings": {"type": "array", "items": text}})),
        "Reply": object(&["status", "time"], json!({"status": text, "time": {"type": "number"}})),
        "Document": object(&["openapi"], json!({"openapi": text})),
    })
}

fn keys(properties: &Value) -> Vec<String> {
    let keys = properties.as_object().map(|map| map.keys().cloned());
    keys.into_iter().flatten().collect()
}

fn merge(into: &mut Value, more: &Value) {
    if let (Some(into), Some(more)) = (into.as_object_mut(), more.as_object()) {
        into.extend(more.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::snapshot::{Process, Usage, Watcher};

    #[test]
    fn every_route_and_command_is_in_it() {
        let document = document();
        for route in ROUTES
            .iter()
            .filter(|route| route.action != Action::Command)
        {
            let operation = &document["paths"][route.path][route.method.to_lowercase()];
            assert_eq!(operation["summary"], route.doc, "{}", route.path);
        }
        for spec in COMMANDS.iter().filter(|spec| spec.name != "listen") {
            let path = format!("/api/v1/daemons/{{daemon}}/commands/{}", spec.name);
            let body = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
                ["schema"];
            assert_eq!(body["additionalProperties"], false, "{}", spec.name);
        }
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        fn names(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(name)) = map.get("$ref") {
                        found.push(name.clone());
                    }
                    map.values().for_each(|value| names(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| names(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        names(&document, &mut found);
        assert!(found.len() > 50);
        for name in found {
            let pointer = name.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{name}");
        }
    }

    #[test]
    fn the_schemas_are_what_is_told() {
        let schemas = schemas();
        let properties = |name: &str| {
            let mut keys = keys(&schemas[name]["properties"]);
            keys.sort();
            keys
        };
        let mut watcher = Watcher {
            processes: Some(Vec::new()),
            ..Watcher::default()
        };
        watcher.name = "x".into();
        for (name, value) in [
            ("Watcher", serde_json::to_value(watcher).unwrap()),
            ("Process", serde_json::to_value(Process::default()).unwrap()),
            ("Usage", serde_json::to_value(Usage::default()).unwrap()),
        ] {
            let mut told = keys(&value);
            told.sort();
            assert_eq!(properties(name), told, "{name}");
        }
    }
}
