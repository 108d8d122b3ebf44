//! Conversions between text, JSON and what an option means.

use super::{HOOKS, Key, Kind, RETIRED_OPTIONS, RLIMITS, Value, find};
use serde_json::Map;

/// Reads a truth value as circus.util.to_bool does.
pub fn to_bool(text: &str) -> Result<bool, String> {
    match text.trim().to_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err(format!("{} is not a boolean", py_repr(text))),
    }
}

/// The signals of Linux by name, without `SIG` (signal(7)); `RTMIN` and `RTMAX` as glibc gives them out.
static SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", 34),
    ("RTMAX", 64),
];

/// The names of the signals, without `SIG`.
pub fn signal_names() -> Vec<&'static str> {
    SIGNALS.iter().map(|(name, _)| *name).collect()
}

/// Reads a signal: a number, `15`, `TERM`, `SIGTERM`, `sigterm`, `SIGRTMIN+1`.
pub fn to_signum(value: &Value) -> Result<i32, String> {
    let invalid = || "signal invalid".to_string();
    match value {
        Value::Number(number) => number
            .as_i64()
            .and_then(|n| i32::try_from(n).ok())
            .filter(|n| (1..=64).contains(n))
            .ok_or_else(invalid),
        Value::String(text) => {
            if let Ok(number) = text.trim().parse::<i32>() {
                return to_signum(&Value::from(number));
            }
            let upper = text.to_uppercase();
            let (name, offset) = match upper.split_once('+') {
                Some((name, offset)) => (name, offset.parse::<i32>().map_err(|_| invalid())?),
                None => (upper.as_str(), 0),
            };
            let bare = name.strip_prefix("SIG").unwrap_or(name);
            SIGNALS
                .iter()
                .find(|(known, _)| *known == bare)
                .map(|(_, number)| number + offset)
                .filter(|number| (1..=64).contains(number))
                .ok_or_else(invalid)
        }
        _ => Err(invalid()),
    }
}

/// Turns the text of `circusctl set NAME KEY TEXT` into the JSON that goes over the wire.
pub fn parse_text(key: &str, text: &str) -> Result<Value, String> {
    let kind = match find(key) {
        Some((spec, Key::Whole)) => spec.kind,
        Some((spec, Key::Entry(entry))) => return parse_entry(spec.kind, key, entry, text),
        None => RETIRED_OPTIONS
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, kind)| *kind)
            .ok_or_else(|| format!("unknown key {}", py_repr(key)))?,
    };
    parse_kind(kind, key, text)
}

fn parse_entry(kind: Kind, key: &str, entry: &str, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Limits if text.is_empty() => Ok(Value::Null),
        Kind::Limits => parse_int(key, text),
        Kind::Stream if matches!(entry, "max_bytes" | "backup_count") => parse_int(key, text),
        Kind::Hooks if !HOOKS.contains(&entry) => Err(format!(
            "{entry}: no such hook; hooks are {}",
            HOOKS.join(", ")
        )),
        _ => Ok(Value::from(text)),
    }
}

pub(super) fn parse_kind(kind: Kind, key: &str, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Int | Kind::Count => parse_int(key, text),
        Kind::Seconds => text
            .trim()
            .parse::<f64>()
            .ok()
            .filter(|n| n.is_finite())
            .map(Value::from)
            .ok_or_else(|| format!("{key}: {} is not a number", py_repr(text))),
        Kind::Bool => to_bool(text).map(Value::from),
        Kind::Text | Kind::TextOrList | Kind::Account => Ok(Value::from(text)),
        Kind::Sockets => Ok(match to_bool(text) {
            Ok(flag) => Value::from(flag),
            Err(_) if text.trim().is_empty() => Value::from(false),
            Err(_) => Value::from(text.trim()),
        }),
        Kind::Signal => to_signum(&Value::from(text)).map(Value::from),
        Kind::Env => {
            let mut env = Map::new();
            for pair in text.split(',') {
                let (name, value) = pair
                    .split_once('=')
                    .ok_or_else(|| format!("{key}: {} is not NAME=VALUE", py_repr(pair)))?;
                env.insert(name.trim().to_string(), Value::from(value.trim()));
            }
            Ok(Value::Object(env))
        }
        Kind::Hooks => {
            let mut hooks = Map::new();
            for pair in text.split(',').filter(|pair| !pair.is_empty()) {
                let (name, callable) = pair
                    .split_once(':')
                    .filter(|(name, _)| HOOKS.contains(name))
                    .ok_or_else(|| format!("{key}: {} is not HOOK:CALLABLE", py_repr(pair)))?;
                hooks.insert(name.to_string(), Value::from(callable));
            }
            Ok(Value::Object(hooks))
        }
        Kind::Stream | Kind::Limits => Err(format!(
            "{key} is a group of settings; set one of them, such as {}",
            if kind == Kind::Limits {
                "rlimit_nofile".to_string()
            } else {
                format!("{key}.class")
            }
        )),
    }
}

fn parse_int(key: &str, text: &str) -> Result<Value, String> {
    text.trim()
        .parse::<i64>()
        .map(Value::from)
        .map_err(|_| format!("{key}: {} is not a whole number", py_repr(text)))
}

pub(super) fn check_wire(key: &str, value: &Value) -> Result<(), String> {
    let (kind, entry) = match find(key) {
        // circus knows the limits one by one only, and the stream mapping under its own name
        Some((spec, Key::Whole)) if spec.kind == Kind::Limits || key.ends_with("_conf") => {
            return Err(format!("unknown key {} ({})", py_repr(key), spec.name));
        }
        Some((spec, Key::Whole)) => (spec.kind, None),
        Some((spec, Key::Entry(entry))) => (spec.kind, Some(entry)),
        None => match RETIRED_OPTIONS.iter().find(|(name, _)| *name == key) {
            Some((_, kind)) if key == "retry_in" => (*kind, None),
            _ => return Err(format!("unknown key {}", py_repr(key))),
        },
    };
    let quoted = py_repr(key);
    let negative = value.as_f64().is_some_and(|n| n < 0.0);
    match (kind, entry) {
        (Kind::Limits, Some(limit)) => {
            if !RLIMITS.contains(&limit) {
                return Err(format!("{quoted} isn't a valid rlimit setting"));
            }
            if !value.is_null() && !value.is_i64() && !value.is_u64() {
                let shown = value.as_str().map_or_else(|| value.to_string(), py_repr);
                return Err(format!("{shown} rlimit value isn't a valid int"));
            }
        }
        (Kind::Hooks, Some(hook)) => {
            if !HOOKS.contains(&hook) {
                return Err(format!("Unknown hook {}", py_repr(hook)));
            }
            if !value.is_string() {
                return Err(format!("{quoted} isn't a string"));
            }
        }
        (Kind::Stream, Some(_)) => {
            if value.is_object() || value.is_array() {
                return Err(format!("{quoted} isn't a text or a number"));
            }
        }
        (Kind::Int, _) => {
            if !value.is_i64() && !value.is_u64() {
                return Err(format!("{quoted} isn't an integer"));
            }
        }
        (Kind::Count, _) => {
            if !value.is_i64() && !value.is_u64() {
                return Err(format!("{quoted} isn't an integer"));
            }
            if negative || value.as_u64().is_some_and(|n| n > i32::MAX as u64) {
                return Err(format!("{quoted} must be between 0 and {}", i32::MAX));
            }
        }
        (Kind::Signal, _) => {
            if !value.is_i64() && !value.is_u64() {
                return Err(format!("{quoted} isn't an integer"));
            }
            to_signum(value)?;
        }
        (Kind::Seconds, _) => {
            if !value.is_number() {
                return Err(format!("{quoted} isn't a number"));
            }
            if negative {
                return Err(format!("{quoted} must not be negative"));
            }
        }
        (Kind::Account, _) => {
            if !value.is_i64() && !value.is_u64() && !value.is_string() {
                return Err(format!("{quoted} isn't an integer or string"));
            }
        }
        (Kind::Bool, _) => {
            if !value.is_boolean() {
                return Err(format!("{quoted} isn't a valid boolean"));
            }
        }
        (Kind::Sockets, _) => {
            if !value.is_boolean() && !value.is_string() && !value.is_null() {
                return Err(format!("{quoted} isn't a boolean or names of sockets"));
            }
        }
        (Kind::Env, _) => {
            let Value::Object(env) = value else {
                return Err(format!("{quoted} isn't a valid object"));
            };
            if let Some((name, _)) = env.iter().find(|(_, v)| !v.is_string()) {
                return Err(format!("{} isn't a string", py_repr(name)));
            }
        }
        (Kind::Hooks, None) => {
            let Value::Object(hooks) = value else {
                let shown = value.as_str().map_or_else(|| value.to_string(), py_repr);
                return Err(format!("{shown} isn't a valid hook dict"));
            };
            if let Some(name) = hooks.keys().find(|name| !HOOKS.contains(&name.as_str())) {
                return Err(format!("Unknown hook {}", py_repr(name)));
            }
        }
        (Kind::Stream, None) => {
            let Value::Object(stream) = value else {
                return Err(format!("{quoted} isn't a valid object"));
            };
            if !stream.contains_key("class") {
                return Err(format!("{quoted} must have a 'class' key"));
            }
        }
        (Kind::Text, _) => {
            if !value.is_string() && (key == "cmd" || !value.is_null()) {
                return Err(format!("{quoted} isn't a string"));
            }
        }
        (Kind::TextOrList, _) => {
            let fine = match value {
                Value::Null | Value::String(_) => true,
                Value::Array(items) => items.iter().all(Value::is_string),
                _ => false,
            };
            if !fine {
                return Err(format!("{quoted} isn't a string or a list of strings"));
            }
        }
        (Kind::Limits, None) => return Err(format!("unknown key {quoted}")),
    }
    Ok(())
}

/// A text as Python's `repr` shows it: single quotes unless it holds one and no double quote; what is
/// not printable is escaped.
pub fn py_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                out.push_str(&match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                });
            }
        }
    }
    out.push(quote);
    out
}

/// Whether Python's `str.isprintable` holds for `c`. Rust's debug escapes rest on the same Unicode
/// categories; the letter before `c` keeps combining marks from being escaped as well.
fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        c => {
            let text: String = ['a', c].iter().collect();
            text.escape_debug().skip(1).eq([c])
        }
    }
}

/// Edit distance (Levenshtein), for "did you mean".
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn signals_in_every_spelling() {
        for good in [
            json!(15),
            json!("15"),
            json!("TERM"),
            json!("SIGTERM"),
            json!("term"),
        ] {
            assert_eq!(to_signum(&good), Ok(15), "{good}");
        }
        assert_eq!(to_signum(&json!("SIGRTMIN+1")), Ok(35));
        for bad in [
            json!("ZZZ"),
            json!(0),
            json!(65),
            json!(null),
            json!("TERM+99"),
            json!(1.5),
        ] {
            assert!(to_signum(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wire_checks_speak_like_circus() {
        let cases = [
            ("zzz", json!(1), "unknown key 'zzz'"),
            (
                "numprocesses",
                json!("x"),
                "'numprocesses' isn't an integer",
            ),
            (
                "graceful_timeout",
                json!("x"),
                "'graceful_timeout' isn't a number",
            ),
            ("shell", json!(1), "'shell' isn't a valid boolean"),
            ("env", json!([]), "'env' isn't a valid object"),
            ("env", json!({"A": 1}), "'A' isn't a string"),
            (
                "rlimit_zzz",
                json!(1),
                "'rlimit_zzz' isn't a valid rlimit setting",
            ),
            (
                "stdout_stream",
                json!({"filename": "x"}),
                "'stdout_stream' must have a 'class' key",
            ),
        ];
        for (key, value, text) in cases {
            assert_eq!(check_wire(key, &value), Err(text.to_string()));
        }
        assert_eq!(check_wire("rlimit_nofile", &Value::Null), Ok(()));
        assert_eq!(check_wire("numprocesses", &json!(3)), Ok(()));
        assert!(check_wire("numprocesses", &json!(-1)).is_err());
    }

    #[test]
    fn text_becomes_json() {
        assert_eq!(parse_text("numprocesses", "4"), Ok(json!(4)));
        assert_eq!(parse_text("warmup_delay", "1"), Ok(json!(1.0)));
        assert_eq!(
            parse_text("env", "A=1, B=2"),
            Ok(json!({"A": "1", "B": "2"}))
        );
        assert_eq!(parse_text("hooks.before_start", "m.f"), Ok(json!("m.f")));
        assert_eq!(parse_text("zzz", "1"), Err("unknown key 'zzz'".to_string()));
        assert!(parse_text("numprocesses", "x").is_err());
    }

    #[test]
    fn mistyped_keys_find_their_neighbour() {
        assert_eq!(super::super::nearest("numproceses"), Some("numprocesses"));
        assert_eq!(super::super::nearest("qqqqqqqq"), None);
    }
}
