//! What comes with a request, read strictly: what nobody knows is an error and not passed over. Pure.

use super::problem::Problem;
use super::routes::{Param, Values};
use crate::wire::command::{CommandSpec, Shape};
use serde_json::{Map, Value};

/// A property that a command takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Property {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub shape: Shape,
    /// What it means.
    pub doc: &'static str,
    /// It has to be there.
    pub required: bool,
}

/// The properties that a command takes, from the table of commands.
pub fn properties(spec: &'static CommandSpec) -> Vec<Property> {
    let words = spec.words.iter().map(|w| (w.property, w.shape, w.doc));
    let switches = spec.switches.iter().map(|s| (s.property, s.shape, s.doc));
    let mut all: Vec<Property> = Vec::new();
    let waiting = (
        "waiting",
        Shape::Present,
        "Answer only when the work is done",
    );
    for (name, shape, doc) in words.chain(switches).chain([waiting]) {
        if !all.iter().any(|known| known.name == name) {
            all.push(Property {
                name,
                shape,
                doc,
                required: spec.required.contains(&name),
            });
        }
    }
    all
}

/// The type of a property, as a JSON Schema has it.
pub fn schema_of(property: &Property) -> Value {
    let number_or_text = ["signum"].contains(&property.name);
    let mut schema = match property.shape {
        Shape::Text if number_or_text => serde_json::json!({"type": ["string", "integer"]}),
        Shape::Text | Shape::Rest => serde_json::json!({"type": "string"}),
        Shape::Integer => serde_json::json!({"type": "integer"}),
        Shape::Seconds => serde_json::json!({"type": "number"}),
        Shape::List => serde_json::json!({"type": "array", "items": {"type": "string"}}),
        Shape::Options => serde_json::json!({"type": "object"}),
        Shape::Present | Shape::Absent => serde_json::json!({"type": "boolean"}),
        Shape::Method => serde_json::json!({"type": "string", "enum": ["simple", "glob", "regex"]}),
    };
    schema["description"] = Value::from(property.doc);
    schema
}

/// The body of a request, which has to be JSON.
///
/// # Errors
/// It is not, or is no object.
pub fn object(content_type: Option<&str>, body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let kind = content_type.and_then(|kind| kind.split(';').next());
    if !kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Problem::new(
            http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body has to be JSON, with Content-Type: application/json",
        ));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Problem::bad_request("the body has to be a JSON object")),
        Err(error) => Err(Problem::bad_request(format!(
            "the body is no JSON: {error}"
        ))),
    }
}

/// The properties of a command.
///
/// # Errors
/// One that it does not take, one of another type, one that is missing.
pub fn command(spec: &'static CommandSpec, body: &Map<String, Value>) -> Result<(), Problem> {
    let known = properties(spec);
    for (key, value) in body {
        let Some(property) = known.iter().find(|property| property.name == key) else {
            let names: Vec<&str> = known.iter().map(|property| property.name).collect();
            return Err(Problem::bad_request(format!(
                "`{}` has no property {key:?}; it has {}",
                spec.name,
                names.join(", ")
            )));
        };
        if !fits(property, value) {
            let schema = schema_of(property);
            return Err(Problem::bad_request(format!(
                "`{}`: {key} is not of type {}",
                spec.name, schema["type"]
            )));
        }
    }
    match spec.required.iter().find(|key| !body.contains_key(**key)) {
        Some(missing) => Err(Problem::bad_request(format!(
            "`{}`: the property {missing:?} is missing",
            spec.name
        ))),
        None => Ok(()),
    }
}

fn fits(property: &Property, value: &Value) -> bool {
    match property.shape {
        Shape::Text if property.name == "signum" => value.is_string() || is_integer(value),
        Shape::Text | Shape::Rest => value.is_string(),
        Shape::Integer => is_integer(value),
        Shape::Seconds => value.is_number(),
        Shape::List => value
            .as_array()
            .is_some_and(|items| items.iter().all(Value::is_string)),
        Shape::Options => value.is_object(),
        Shape::Present | Shape::Absent => value.is_boolean(),
        Shape::Method => {
            matches!(value.as_str(), Some("simple" | "glob" | "regex"))
        }
    }
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64()
}

/// A change of a watcher's options.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Options with their new values.
    pub options: Map<String, Value>,
    /// Options that are to go.
    pub unset: Vec<String>,
}

/// The body of a change.
///
/// # Errors
/// A key that nobody knows, or a value of another type.
pub fn change(body: Map<String, Value>) -> Result<Change, Problem> {
    let mut change = Change {
        options: Map::new(),
        unset: Vec::new(),
    };
    for (key, value) in body {
        match (key.as_str(), value) {
            ("options", Value::Object(options)) => change.options = options,
            ("unset", Value::Array(keys)) => {
                for key in keys {
                    let Value::String(key) = key else {
                        return Err(Problem::bad_request("unset: names of options are expected"));
                    };
                    change.unset.push(key);
                }
            }
            ("options", _) => return Err(Problem::bad_request("options: an object is expected")),
            ("unset", _) => return Err(Problem::bad_request("unset: a list is expected")),
            (other, _) => {
                return Err(Problem::bad_request(format!(
                    "there is no key {other:?}; there are options and unset"
                )));
            }
        }
    }
    Ok(change)
}

/// The password of a login.
///
/// # Errors
/// There is none.
pub fn password(body: &Map<String, Value>) -> Result<&str, Problem> {
    match (body.get("password"), body.len()) {
        (Some(Value::String(password)), 1) => Ok(password),
        _ => Err(Problem::bad_request(
            "an object with the one key password is expected",
        )),
    }
}

/// The parameters of a query.
#[derive(Debug)]
pub struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    /// Checks them.
    ///
    /// # Errors
    /// One that is not known, or twice there, or not what it should be.
    pub fn new(known: &[Param], given: &'a [(String, String)]) -> Result<Query<'a>, Problem> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for (key, value) in given {
            let Some(param) = known.iter().find(|param| param.name == key) else {
                return Err(Problem::bad_request(format!(
                    "there is no parameter {key:?} here"
                )));
            };
            if pairs.iter().any(|(known, _)| known == key) {
                return Err(Problem::bad_request(format!(
                    "the parameter {key} is there twice"
                )));
            }
            if let Some(expected) = expected(param.values, value) {
                return Err(Problem::bad_request(format!(
                    "the parameter {key} has to be {expected}"
                )));
            }
            pairs.push((key, value));
        }
        Ok(Query(pairs))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(known, _)| *known == key);
        found.map(|(_, value)| *value)
    }

    /// A truth value.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        self.get(key).map_or(default, |value| value == "true")
    }

    /// A number.
    pub fn number(&self, key: &str, default: u64) -> u64 {
        let number = self.get(key).and_then(|value| value.parse().ok());
        number.unwrap_or(default)
    }

    /// Seconds.
    pub fn seconds(&self, key: &str) -> Option<f64> {
        self.get(key).and_then(|value| value.parse().ok())
    }

    /// A text.
    pub fn text(&self, key: &str, default: &'a str) -> &'a str {
        self.get(key).unwrap_or(default)
    }
}

/// What a value has to be, if it is not.
fn expected(values: Values, given: &str) -> Option<String> {
    match values {
        Values::Flag => (!["true", "false"].contains(&given)).then(|| "true or false".to_owned()),
        Values::Number(from, to) => {
            let digits = !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit());
            let number: Option<u64> = given.parse().ok().filter(|_| digits);
            (!number.is_some_and(|number| (from..=to).contains(&number)))
                .then(|| format!("a whole number from {from} to {to}"))
        }
        Values::Seconds(from, to) => {
            let number: Option<f64> = given.parse().ok();
            (!number.is_some_and(|number| (from..=to).contains(&number)))
                .then(|| format!("a number from {from} to {to}"))
        }
        Values::OneOf(words) => (!words.contains(&given)).then(|| words.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::command::find;
    use serde_json::json;

    fn check(name: &str, body: Value) -> Result<(), String> {
        let body = super::super::hub::object(body);
        command(find(name).unwrap(), &body).map_err(|problem| problem.detail)
    }

    #[test]
    fn properties_are_those_of_the_table() {
        assert_eq!(
            check("incr", json!({"name": "web", "nb": 2, "waiting": true})),
            Ok(())
        );
        assert_eq!(check("signal", json!({"name": "web", "signum": 9})), Ok(()));
        for (name, body, want) in [
            ("incr", json!({}), "\"name\" is missing"),
            ("incr", json!({"name": 5}), "name is not of type \"string\""),
            (
                "incr",
                json!({"name": "web", "nb": 1.5}),
                "nb is not of type",
            ),
            (
                "incr",
                json!({"name": "web", "number": 1}),
                "no property \"number\"; it has name, nb, waiting",
            ),
            ("restart", json!({"match": "fuzzy"}), "match is not of type"),
            (
                "get",
                json!({"name": "web", "keys": [1]}),
                "keys is not of type",
            ),
        ] {
            let told = check(name, body).unwrap_err();
            assert!(told.contains(want), "{told}");
        }
    }

    #[test]
    fn bodies_are_objects_of_json() {
        assert!(object(Some("application/json; charset=utf-8"), b"{}").is_ok());
        for (kind, body, status) in [
            (None, "{}", 415),
            (Some("text/plain"), "{}", 415),
            (Some("application/json"), "[]", 400),
            (Some("application/json"), "{", 400),
        ] {
            let problem = object(kind, body.as_bytes()).unwrap_err();
            assert_eq!(problem.status.as_u16(), status);
        }
        let body = |value| super::super::hub::object(value);
        assert!(change(body(json!({"options": {}, "unset": ["a"]}))).is_ok());
        for bad in [
            json!({"options": 1}),
            json!({"unset": [1]}),
            json!({"more": 1}),
        ] {
            assert!(change(body(bad)).is_err());
        }
        assert!(password(&body(json!({"password": "x", "y": 1}))).is_err());
    }

    #[test]
    fn queries_are_checked() {
        let known = [
            Param {
                name: "tail",
                doc: "",
                values: Values::Number(0, 10),
            },
            Param {
                name: "follow",
                doc: "",
                values: Values::Flag,
            },
            Param {
                name: "timeout",
                doc: "",
                values: Values::Seconds(0.1, 600.0),
            },
        ];
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let given = [pair("tail", "7"), pair("follow", "false")];
        let query = Query::new(&known, &given).unwrap();
        assert_eq!(
            (query.number("tail", 1), query.flag("follow", true)),
            (7, false)
        );
        assert_eq!(query.seconds("timeout"), None);
        for bad in [
            pair("tail", "11"),
            pair("tail", "+1"),
            pair("follow", ""),
            pair("timeout", "nan"),
            pair("x", ""),
        ] {
            assert!(
                Query::new(&known, std::slice::from_ref(&bad)).is_err(),
                "{bad:?}"
            );
        }
        assert!(Query::new(&known, &[pair("tail", "1"), pair("tail", "1")]).is_err());
    }
}
