//! Text as Python sees it. circus.ini is read by Python in the field, so white space, integers and
//! floats must mean here what they mean to `str.strip`, `int` and `float` there.

use crate::options::Value;
/// `repr` of a Python text.
pub use crate::options::py_repr as repr;

/// White space of Python's `str.isspace`: Unicode's, and the four ASCII separators that Unicode's
/// `White_Space` property leaves out.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.split()`: words between runs of white space.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `int(text)`: surrounding white space, a sign and single underscores between digits are allowed.
/// `None` where Python raises, and for numbers beyond 64 bits, which no option can use.
pub fn int(text: &str) -> Option<i64> {
    int_radix(text, 10)
}

/// `int(text, 8)`, as the umask is read: an `0o` prefix is allowed.
pub fn octal(text: &str) -> Option<i64> {
    int_radix(text, 8)
}

fn int_radix(text: &str, radix: u32) -> Option<i64> {
    let text = strip(text);
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = match radix {
        8 => match digits
            .strip_prefix("0o")
            .or_else(|| digits.strip_prefix("0O"))
        {
            // int("0o_7", 8) is allowed: the prefix counts as a digit for the underscore.
            Some(rest) => rest.strip_prefix('_').unwrap_or(rest),
            None => digits,
        },
        _ => digits,
    };
    let plain = without_underscores(digits)?;
    if plain.is_empty() || !plain.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let magnitude = i64::from_str_radix(&plain, radix).ok()?;
    Some(if negative { -magnitude } else { magnitude })
}

/// `float(text)`. `None` where Python raises.
pub fn float(text: &str) -> Option<f64> {
    let text = strip(text);
    let unsigned = text.trim_start_matches(['+', '-']);
    if text.len() - unsigned.len() > 1 {
        return None;
    }
    let lower = unsigned.to_ascii_lowercase();
    if matches!(lower.as_str(), "inf" | "infinity" | "nan") {
        return text.to_ascii_lowercase().parse().ok();
    }
    if !unsigned
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-' | '_'))
    {
        return None;
    }
    without_underscores(text)?.parse().ok()
}

/// Drops underscores that stand singly between digits; `None` if one stands anywhere else.
fn without_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        if byte == b'_' {
            let digit = |b: Option<&u8>| b.is_some_and(u8::is_ascii_digit);
            if at == 0 || !digit(bytes.get(at - 1)) || !digit(bytes.get(at + 1)) {
                return None;
            }
        }
    }
    Some(text.replace('_', ""))
}

/// `repr` of a Python float, which is also `str` of it: shortest digits that read back, an exponent
/// below 1e-4 and from 1e16.
pub fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((mantissa, exponent)) => {
                let (sign, digits) = match exponent.strip_prefix('-') {
                    Some(digits) => ('-', digits),
                    None => ('+', exponent),
                };
                format!("{mantissa}e{sign}{digits:0>2}")
            }
            None => text,
        };
    }
    let text = format!("{value}");
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}

/// `str` of the Python value that a JSON value stands for.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr_of(other),
    }
}

/// `repr` of the Python value that a JSON value stands for.
pub fn repr_of(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => match (number.is_f64(), number.as_f64()) {
            (true, Some(float)) => float_repr(float),
            _ => number.to_string(),
        },
        Value::String(text) => repr(text),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(repr_of).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let pairs: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{}: {}", repr(key), repr_of(value)))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_as_python_reads_them() {
        for (text, want) in [
            ("5", Some(5)),
            (" +5\t", Some(5)),
            ("-07", Some(-7)),
            ("1_000", Some(1000)),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("", None),
            ("5.0", None),
            ("+-5", None),
            ("0x10", None),
        ] {
            assert_eq!(int(text), want, "{text:?}");
        }
        assert_eq!(octal("022"), Some(18));
        assert_eq!(octal("0o22"), Some(18));
        assert_eq!(octal("8"), None);
    }

    #[test]
    fn values_print_as_in_python() {
        let value = serde_json::json!(["a", "it's", 1, 2.0, null, true, {"k": "v\n"}]);
        assert_eq!(
            text_of(&value),
            r#"['a', "it's", 1, 2.0, None, True, {'k': 'v\n'}]"#
        );
        assert_eq!(text_of(&Value::from("a'b")), "a'b");
    }

    #[test]
    fn floats_as_python_reads_and_prints_them() {
        assert_eq!(float(" 1_0.5e1 "), Some(105.0));
        assert_eq!(float("inf"), Some(f64::INFINITY));
        assert_eq!(float("-Infinity"), Some(f64::NEG_INFINITY));
        assert!(float("nan").is_some_and(f64::is_nan));
        for bad in ["", "1e", "--1", "0x1", "1_.0", "infinit", "1 2"] {
            assert_eq!(float(bad), None, "{bad:?}");
        }
        for (value, want) in [
            (30.0, "30.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1e-5, "1e-05"),
            (1.5e300, "1.5e+300"),
            (-0.0, "-0.0"),
            (123456789012345.0, "123456789012345.0"),
        ] {
            assert_eq!(float_repr(value), want);
        }
    }
}
