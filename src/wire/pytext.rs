//! JSON values as Python prints them.
//!
//! Circus builds many of its texts with `%r` and `str()`; clients match on some of them, and
//! `circusctl` prints replies that way.

use serde_json::Value;

pub use crate::config::pytext::{float_repr, int, repr, repr_of, text_of};

/// `json.dumps(value)`: ASCII only, a space after commas and colons.
pub fn dumps(value: &Value) -> String {
    let mut out = String::new();
    dump(value, None, &mut out);
    out
}

/// `json.dumps(value, indent=2, sort_keys=True)`.
pub fn dumps_pretty(value: &Value) -> String {
    let mut out = String::new();
    dump(value, Some(0), &mut out);
    out
}

/// Appends `value`; with a `depth` it is spread over lines and its keys are sorted.
fn dump(value: &Value, depth: Option<usize>, out: &mut String) {
    let inner = depth.map(|depth| depth + 1);
    let open = |bracket: char, first: bool, out: &mut String| {
        match (first, inner) {
            (true, _) => out.push(bracket),
            (false, None) => out.push_str(", "),
            (false, Some(_)) => out.push(','),
        }
        if let Some(inner) = inner {
            out.push('\n');
            out.push_str(&"  ".repeat(inner));
        }
    };
    let close = |bracket: char, out: &mut String| {
        if let Some(depth) = depth {
            out.push('\n');
            out.push_str(&"  ".repeat(depth));
        }
        out.push(bracket);
    };
    match value {
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Object(map) if map.is_empty() => out.push_str("{}"),
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                open('[', at == 0, out);
                dump(item, inner, out);
            }
            close(']', out);
        }
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            if depth.is_some() {
                pairs.sort_by_key(|(key, _)| *key);
            }
            for (at, (key, value)) in pairs.into_iter().enumerate() {
                open('{', at == 0, out);
                dump_str(key, out);
                out.push_str(": ");
                dump(value, inner, out);
            }
            close('}', out);
        }
        Value::String(text) => dump_str(text, out),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => out.push_str(&float_repr(float)),
            _ => out.push_str(&number.to_string()),
        },
        Value::Null | Value::Bool(_) => out.push_str(&value.to_string()),
    }
}

fn dump_str(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}

/// `repr` of bytes: `b'…'`, everything that is not printable ASCII escaped.
pub fn repr_bytes(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') {
        '"'
    } else {
        '\''
    };
    let mut out = format!("b{quote}");
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b' '..=b'~' => {
                let c = char::from(*byte);
                if c == quote {
                    out.push('\\');
                }
                out.push(c);
            }
            other => out.push_str(&format!("\\x{other:02x}")),
        }
    }
    out.push(quote);
    out
}

/// Python's truth of a JSON value: `None`, `False`, zero and everything empty are false.
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_print_as_python_prints_them() {
        for (value, want) in [
            (json!(null), "None"),
            (json!(true), "True"),
            (json!(-3), "-3"),
            (json!(1.0), "1.0"),
            (json!(0.0), "0.0"),
            (json!(-0.0), "-0.0"),
            (json!(1e16), "1e+16"),
            (json!(1e15), "1000000000000000.0"),
            (json!(1.5e-5), "1.5e-05"),
            (json!(0.0001), "0.0001"),
            (json!(1795247906.519413), "1795247906.519413"),
            (json!("a'b"), "\"a'b\""),
            (json!("a'b\"c"), "'a\\'b\"c'"),
            (json!("é\u{1}\u{ad}\n\\"), "'é\\x01\\xad\\n\\\\'"),
            (json!("\u{200b}e\u{301}"), "'\\u200be\u{301}'"),
            (json!({"a": [1, "x"], "b": {}}), "{'a': [1, 'x'], 'b': {}}"),
        ] {
            assert_eq!(repr_of(&value), want);
        }
    }

    #[test]
    fn json_as_python_writes_it() {
        let value = json!({"b": [1, 2.0, "é😀\u{7f}\"\n"], "a": {}, "c": [], "d": {"x": null}});
        assert_eq!(
            dumps(&value),
            r#"{"b": [1, 2.0, "\u00e9\ud83d\ude00\u007f\"\n"], "a": {}, "c": [], "d": {"x": null}}"#
        );
        assert_eq!(
            dumps_pretty(&value),
            "{\n  \"a\": {},\n  \"b\": [\n    1,\n    2.0,\n    \"\\u00e9\\ud83d\\ude00\\u007f\\\"\\n\"\n  ],\n  \"c\": [],\n  \"d\": {\n    \"x\": null\n  }\n}"
        );
        assert_eq!(repr_bytes(b"a'\xff\n\\"), r#"b"a'\xff\n\\""#);
        assert_eq!(repr_bytes(b"{\"a\": '1'}"), r#"b'{"a": \'1\'}'"#);
    }

    #[test]
    fn truth_is_pythons() {
        for value in [
            json!(null),
            json!(0),
            json!(0.0),
            json!(""),
            json!([]),
            json!({}),
        ] {
            assert!(!truthy(&value), "{value}");
        }
        for value in [json!(true), json!(-1), json!("0"), json!([0])] {
            assert!(truthy(&value), "{value}");
        }
    }
}
