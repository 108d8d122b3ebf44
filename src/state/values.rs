//! Values of options: when two mean the same, how `set` takes them, how a person reads them. Pure.

use serde_json::Value;

use crate::options::{self, Key, Kind, WatcherOptions};

/// The value of an option, of an entry of a mapping option, or of a variable of the environment (`env.NAME`).
pub(super) fn option(options: &WatcherOptions, key: &str) -> Option<Value> {
    match key.strip_prefix("env.") {
        Some(name) => options.env()?.get(name).cloned(),
        None => options.get(key).cloned(),
    }
}

/// An unlimited limit is null on the wire.
pub(super) fn limit_value(number: &Value) -> Value {
    if number.as_i64() == Some(-1) {
        Value::Null
    } else {
        number.clone()
    }
}

/// A value as `set` takes it.
pub(super) fn wire_value(key: &str, value: Option<&Value>) -> Value {
    let value = value.cloned().unwrap_or(Value::Null);
    match options::find(key) {
        Some((spec, Key::Entry(entry))) => match (spec.kind, &value) {
            (Kind::Limits, number) => limit_value(number),
            (Kind::Hooks, Value::Array(pair)) => {
                let callable = pair.first().and_then(Value::as_str).unwrap_or_default();
                match pair.get(1).and_then(Value::as_bool) {
                    Some(true) => Value::from(format!("{callable},True")),
                    _ => Value::from(callable),
                }
            }
            (Kind::Stream, Value::String(text))
                if entry == "max_bytes" || entry == "backup_count" =>
            {
                text.trim().parse::<i64>().map_or(value, Value::from)
            }
            _ => value,
        },
        _ => value,
    }
}

/// Two values of an option mean the same: numbers by value, null as the empty text, a signal by its number. A variable
/// of the environment that is empty is not one that is not there.
pub fn same(key: &str, a: Option<&Value>, b: Option<&Value>) -> bool {
    let a = a.unwrap_or(&Value::Null);
    let b = b.unwrap_or(&Value::Null);
    let variable = key.starts_with("env.");
    if a == b || !variable && is_unset(a) && is_unset(b) {
        return true;
    }
    if let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) {
        return a == b;
    }
    match options::find(key) {
        Some((spec, Key::Whole)) if spec.kind == Kind::Signal => {
            matches!((options::to_signum(a), options::to_signum(b)), (Ok(a), Ok(b)) if a == b)
        }
        // A stream keeps numbers that arrived as text from a file as text.
        Some((spec, Key::Entry(_))) if matches!(spec.kind, Kind::Stream | Kind::Limits) => {
            plain(a) == plain(b)
        }
        // Environment variables are text, whatever a caller's JSON made of them.
        _ if variable => plain(a) == plain(b) && !a.is_null() && !b.is_null(),
        _ => false,
    }
}

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim().to_string(),
        other => other.to_string(),
    }
}

/// A value for a person: compact JSON, `unset` for null.
pub fn show(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "unset".to_string(),
        Some(value) => value.to_string(),
    }
}
