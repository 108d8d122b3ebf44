//! Typed access to the properties of a message.
//!
//! Circus leaves types to Python: most wrong ones raise somewhere inside a command and are answered
//! with a traceback and errno 5. Here the same errno comes with one clean sentence.

use serde_json::{Map, Value};

use crate::options;
use crate::wire::pytext;
use crate::wire::reply::Errno;

/// Why properties cannot be used.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub errno: Errno,
    pub reason: String,
}

impl Fault {
    pub fn message(reason: impl Into<String>) -> Self {
        Self {
            errno: Errno::Message,
            reason: reason.into(),
        }
    }

    pub fn command(reason: impl Into<String>) -> Self {
        Self {
            errno: Errno::Command,
            reason: reason.into(),
        }
    }
}

/// The properties of one message.
pub(super) struct Properties<'a>(pub &'a Map<String, Value>);

impl Properties<'_> {
    /// Whether the property is there, even as null.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Python's truth of the property; false when it is missing.
    pub fn flag(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(pytext::truthy)
    }

    /// The property as a text.
    pub fn text(&self, key: &str) -> Result<String, Fault> {
        match self.0.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(wrong(key, "a string")),
            None => Err(missing(key)),
        }
    }

    /// The property as a text, `None` when it is missing.
    pub fn text_if_any(&self, key: &str) -> Result<Option<String>, Fault> {
        self.has(key).then(|| self.text(key)).transpose()
    }

    /// A whole number; true and false count as 1 and 0, as in Python.
    pub fn integer(&self, key: &str, default: i64) -> Result<i64, Fault> {
        match self.0.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(i64::from(*flag)),
            Some(value) => value.as_i64().ok_or_else(|| wrong(key, "an integer")),
        }
    }

    /// What Python's `int()` makes of the property, where it fits a process id.
    pub fn process_id(&self, key: &str) -> Result<Option<i32>, Fault> {
        let Some(value) = self.0.get(key) else {
            return Ok(None);
        };
        to_int(value)
            .and_then(|number| i32::try_from(number).ok())
            .map(Some)
            .ok_or_else(|| wrong(key, "an integer"))
    }

    /// A signal: any number, or the name of one.
    pub fn signal(&self, key: &str) -> Result<i32, Fault> {
        let Some(value) = self.0.get(key) else {
            return Err(missing(key));
        };
        if let Some(number) = to_int(value) {
            // Whether the kernel knows the number is the kernel's to say.
            return i32::try_from(number).map_err(|_| Fault::command("signal invalid"));
        }
        match value {
            Value::String(text) => options::to_signum(value).map_err(|_| {
                let named = text
                    .chars()
                    .next()
                    .is_some_and(|c| c.is_alphanumeric() || c == '_');
                // Circus finds that a text is no name at all, but stumbles over an unknown name.
                if named {
                    Fault::command("signal invalid")
                } else {
                    Fault::message("signal invalid")
                }
            }),
            _ => Err(wrong(key, "the number or name of a signal")),
        }
    }

    /// A number of seconds, also as a text (circusctl sends texts); null means none.
    pub fn seconds(&self, key: &str) -> Result<Option<f64>, Fault> {
        let number = match self.0.get(key) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        number
            .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
            .map(Some)
            .ok_or_else(|| wrong(key, "a number of seconds"))
    }

    /// Watcher options, each checked against the table.
    pub fn options(&self) -> Result<Map<String, Value>, Fault> {
        match self.0.get("options") {
            None => Ok(Map::new()),
            Some(Value::Object(map)) => {
                for (key, value) in map {
                    options::check_wire(key, value)
                        .map_err(|reason| Fault::message(brief(&reason)))?;
                }
                Ok(map.clone())
            }
            Some(_) => Err(Fault::message("'options' property should be an object")),
        }
    }

    /// A list of texts; `None` when it is missing or null.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>, Fault> {
        let items = match self.0.get(key) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(wrong(key, "a list of texts")),
        };
        let texts = items.iter().map(|item| item.as_str().map(String::from));
        let texts: Option<Vec<String>> = texts.collect();
        texts.map(Some).ok_or_else(|| wrong(key, "a list of texts"))
    }

    /// The names in `keys`: a list, or whatever else Python can walk through.
    pub fn keys(&self) -> Result<Vec<String>, Fault> {
        match self.0.get("keys") {
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| match item {
                    Value::String(text) => Ok(text.clone()),
                    other => Err(Fault::message(format!(
                        "{} option not found",
                        brief(&pytext::repr_of(other))
                    ))),
                })
                .collect(),
            Some(Value::String(text)) => Ok(text.chars().map(String::from).collect()),
            Some(Value::Object(map)) => Ok(map.keys().cloned().collect()),
            Some(_) => Err(wrong("keys", "a list")),
            None => Err(missing("keys")),
        }
    }
}

/// The refusal of a message that lacks a required property, in circus's words.
pub(super) fn missing(key: &str) -> Fault {
    Fault::message(format!("message invalid {} is missing", pytext::repr(key)))
}

pub(super) fn wrong(key: &str, wanted: &str) -> Fault {
    Fault::command(format!("{} should be {wanted}", pytext::repr(key)))
}

/// At most about 200 bytes of what a client sent: replies must not grow with bad input.
pub fn brief(text: &str) -> String {
    const LIMIT: usize = 200;
    if text.len() <= LIMIT {
        return text.to_string();
    }
    let cut = (0..=LIMIT)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    format!("{}...", &text[..cut])
}

/// Python's `int()` of a JSON value: numbers lose their fraction, texts may have spaces around.
fn to_int(value: &Value) -> Option<i64> {
    match value {
        Value::Bool(flag) => Some(i64::from(*flag)),
        Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64()?.trunc();
            // Below 2^53 the conversion is exact; nothing that is asked for is larger.
            (float.abs() < 9_007_199_254_740_992.0).then_some(float as i64)
        }),
        Value::String(text) => pytext::int(text),
        _ => None,
    }
}
