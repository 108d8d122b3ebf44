//! How a text is written as a TOML value: with the type that its key asks for, if that reads back as the same text.

use toml_edit::{Array, Value};

use super::super::document::DEFAULT_SECTION;
use super::super::shlex;
use super::value::{Wants, wants};
use crate::options::to_bool;

/// The text that a value reads back as once it is written. All spellings of a truth value become one.
pub(in super::super) fn canonical(section: &str, key: &str, text: &str) -> String {
    match (wants(section, key), to_bool(text)) {
        // What DEFAULT says may be the value of anything.
        _ if section == DEFAULT_SECTION => text.to_owned(),
        (Wants::Truth, Ok(true)) => "True".to_owned(),
        (Wants::Truth, Ok(false)) => "False".to_owned(),
        _ => text.to_owned(),
    }
}

/// The ways to write a text, the most natural first. `before` is the value that it replaces.
pub(in super::super) fn literals(
    section: &str,
    key: &str,
    text: &str,
    before: Option<&str>,
) -> Vec<String> {
    let mut ways = Vec::new();
    match wants(section, key) {
        Wants::Truth => match canonical(section, key, text).as_str() {
            "True" => ways.push("true".to_owned()),
            "False" => ways.push("false".to_owned()),
            _ => {}
        },
        Wants::Number | Wants::NumberOrName if is_plain_number(text) => ways.push(text.to_owned()),
        // Who wrote a list wants a list.
        Wants::Words if before.is_some_and(|before| before.starts_with('[')) => {
            ways.extend(shlex::split(text).ok().map(list));
        }
        Wants::Patterns if before.is_some_and(|before| before.starts_with('[')) => {
            ways.push(list(
                super::super::pytext::words(text)
                    .map(str::to_owned)
                    .collect(),
            ));
        }
        _ => {}
    }
    ways.push(quoted(text));
    ways
}

/// A text in quotes.
pub(in super::super) fn quoted(text: &str) -> String {
    let value = Value::from(text).to_string();
    if !text.contains('\n') || value.starts_with("\"\"\"\n") || value.starts_with("'''\n") {
        return value;
    }
    // The lines of a text begin below its quotes.
    for quotes in ["\"\"\"", "'''"] {
        if let Some(rest) = value.strip_prefix(quotes) {
            return format!("{quotes}\n{rest}");
        }
    }
    value
}

fn list(words: Vec<String>) -> String {
    Value::Array(words.into_iter().collect::<Array>()).to_string()
}

/// Digits that TOML reads and that are written back as they are: `4`, `-1`, `0.5`, but not `04`, `+4` or `1e3`.
fn is_plain_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (unsigned, None),
    };
    let whole_fits = digits(whole) && (whole == "0" || !whole.starts_with('0'));
    match fraction {
        Some(fraction) => whole_fits && digits(fraction),
        None => whole_fits && text != "-0" && text.parse::<i64>().is_ok(),
    }
}
