//! JSON values as Python prints them.
//!
//! Circus builds many of its texts with `%r` and `str()`; clients match on some of them, and
//! `circusctl` prints replies that way.

use serde_json::Value;

/// `repr(value)` of the Python value that the JSON text loads as.
pub fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_string(),
        Value::Bool(true) => "True".to_string(),
        Value::Bool(false) => "False".to_string(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => repr_float(float),
            _ => number.to_string(),
        },
        Value::String(text) => repr_str(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(repr).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let items: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{}: {}", repr_str(key), repr(value)))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
    }
}

/// `str(value)`: as [`repr`], but a text is itself.
pub fn str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `repr` of a float: the shortest text that reads back, with an exponent below 1e-4 and from 1e16 on.
pub fn repr_float(float: f64) -> String {
    if float.is_nan() {
        return "nan".to_string();
    }
    if float.is_infinite() {
        return if float > 0.0 { "inf" } else { "-inf" }.to_string();
    }
    let scientific = format!("{float:e}");
    let Some((digits, exponent)) = scientific
        .split_once('e')
        .and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?)))
    else {
        return scientific;
    };
    if float != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{float}");
    if plain.contains('.') {
        plain
    } else {
        format!("{plain}.0")
    }
}

/// `repr` of a text: single quotes unless it holds one and no double quote; what is not printable is escaped.
pub fn repr_str(text: &str) -> String {
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
        '\'' | '"' | '\\' => true,
        c => {
            let mut escaped = ['a', c]
                .iter()
                .collect::<String>()
                .escape_debug()
                .to_string();
            escaped.remove(0);
            escaped.chars().eq([c])
        }
    }
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
            assert_eq!(repr(&value), want);
        }
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
