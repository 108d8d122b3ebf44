//! What the tables of options and keys say of a value, and the text that a TOML value stands for.

use toml_edit::Value;

use super::super::document::DEFAULT_SECTION;
use super::super::error::quoted;
use super::super::{ini_text, keys, pytext};
use crate::options::{self, Key, Kind, RETIRED_OPTIONS};

/// What a key's value is, so far as its spelling in TOML depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Wants {
    /// A truth value.
    Truth,
    /// A number.
    Number,
    /// A number or a name: a signal, a user.
    NumberOrName,
    /// Text that is cut into words as a shell does.
    Words,
    /// Patterns of files between spaces.
    Patterns,
    /// Octal digits.
    Octal,
    /// A truth value or names.
    Sockets,
    /// Text.
    Text,
    /// Nobody knows: a variable, or a key of the user's own.
    Anything,
}

/// Does a section hold the options of watchers?
pub(in super::super) fn holds_options(section: &str) -> bool {
    section.starts_with("watcher:") || section == DEFAULT_SECTION
}

/// What the tables say of this key of this section.
pub(in super::super) fn wants(section: &str, key: &str) -> Wants {
    if holds_options(section) {
        return match options::find(key) {
            Some((spec, Key::Whole)) => of_kind(spec.kind),
            Some((spec, Key::Entry(entry))) => match spec.kind {
                Kind::Limits => Wants::Number,
                Kind::Stream if matches!(entry, "max_bytes" | "backup_count") => Wants::Number,
                Kind::Hooks => Wants::Text,
                _ => Wants::Anything,
            },
            None => RETIRED_OPTIONS
                .iter()
                .find(|(name, _)| *name == key)
                .map_or(Wants::Anything, |(_, kind)| of_kind(*kind)),
        };
    }
    match (section, key) {
        ("circus", "include" | "include_dir") => Wants::Patterns,
        ("circus", "umask") => Wants::Octal,
        _ => keys::listed(section)
            .iter()
            .find(|spec| spec.name == key)
            .map_or(Wants::Anything, |spec| of_kind(spec.kind())),
    }
}

fn of_kind(kind: Kind) -> Wants {
    match kind {
        Kind::Bool => Wants::Truth,
        Kind::Int | Kind::Count | Kind::Seconds => Wants::Number,
        Kind::Signal | Kind::Account => Wants::NumberOrName,
        Kind::TextOrList => Wants::Words,
        Kind::Text => Wants::Text,
        Kind::Sockets => Wants::Sockets,
        Kind::Env | Kind::Stream | Kind::Hooks | Kind::Limits => Wants::Anything,
    }
}

impl Wants {
    fn expected(self) -> &'static str {
        match self {
            Self::Truth => "true or false is expected",
            Self::Number => "a number is expected",
            Self::NumberOrName => "a number, or a name in quotes, is expected",
            Self::Words => "text in quotes, or a list of words, is expected",
            Self::Patterns => "text in quotes, or a list of patterns, is expected",
            Self::Octal => "octal digits are expected, as in \"022\" or 0o022",
            Self::Sockets => "true, false, or names of sockets in quotes are expected",
            Self::Text => "text in quotes is expected",
            Self::Anything => "a text, a number, or true or false is expected",
        }
    }
}

/// The text that circus.ini would hold for a value; `source` is how the value is written.
///
/// # Errors
/// What stands there and what is expected, where circus.ini has no text for it.
pub(super) fn text_of(
    section: &str,
    key: &str,
    value: &Value,
    source: &str,
) -> Result<String, String> {
    let wants = wants(section, key);
    let wrong = |what: &str| Err(format!("{what}; {}", wants.expected()));
    match value {
        Value::String(text) => Ok(with_line_feeds(text.value(), source)),
        Value::Boolean(truth) => match (wants, *truth.value()) {
            (Wants::Truth | Wants::Sockets | Wants::Anything, true) => Ok("True".to_owned()),
            (Wants::Truth | Wants::Sockets | Wants::Anything, false) => Ok("False".to_owned()),
            (_, truth) => wrong(&format!("{truth} is a truth value")),
        },
        Value::Integer(number) => match wants {
            Wants::Octal if source.starts_with("0o") => Ok(format!("{:03o}", number.value())),
            Wants::Octal => wrong(&format!("{source} is not an octal number")),
            _ => Ok(number.value().to_string()),
        },
        Value::Float(number) => match wants {
            Wants::Octal => wrong(&format!("{source} is not an octal number")),
            // As it is written, because 3.10 may be a version.
            _ if is_plain_fraction(source) => Ok(source.to_owned()),
            _ => Ok(pytext::float_repr(*number.value())),
        },
        Value::Datetime(date) => wrong(&format!("{date} is a date or a time, which no key takes")),
        Value::InlineTable(_) => wrong("this is a table"),
        Value::Array(items) => match wants {
            Wants::Words => {
                let items = items
                    .iter()
                    .map(|item| match item {
                        Value::String(text) => Ok(serde_json::Value::from(text.value().as_str())),
                        Value::Integer(number) => Ok(serde_json::Value::from(*number.value())),
                        other => Err(format!(
                            "{} cannot stand in a list of words: text in quotes is expected",
                            other.to_string().trim()
                        )),
                    })
                    .collect::<Result<Vec<_>, String>>()?;
                Ok(ini_text(&serde_json::Value::Array(items))?.unwrap_or_default())
            }
            Wants::Patterns => {
                let patterns = items
                    .iter()
                    .map(|item| match item.as_str() {
                        Some(text) if pytext::words(text).eq([text]) => Ok(text),
                        Some(text) => Err(format!(
                            "{} cannot stand in a list of patterns: it is empty or holds a space, and spaces separate \
                             patterns; write ? in place of a space",
                            quoted(text)
                        )),
                        None => Err(format!(
                            "{} cannot stand in a list of patterns: text in quotes is expected",
                            item.to_string().trim()
                        )),
                    })
                    .collect::<Result<Vec<&str>, String>>()?;
                Ok(patterns.join(" "))
            }
            _ => wrong("this is a list"),
        },
    }
}

/// Line breaks inside a text over several lines are line feeds, whatever the file's own are.
fn with_line_feeds(text: &str, source: &str) -> String {
    let over_lines = source.starts_with("\"\"\"") || source.starts_with("'''");
    if !(over_lines && source.contains("\r\n")) {
        return text.to_owned();
    }
    match source.replace("\r\n", "\n").parse::<Value>() {
        Ok(Value::String(unified)) => unified.into_value(),
        _ => text.to_owned(),
    }
}

/// `[+-]?digits.digits`
fn is_plain_fraction(source: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    source
        .strip_prefix(['+', '-'])
        .unwrap_or(source)
        .split_once('.')
        .is_some_and(|(whole, fraction)| digits(whole) && digits(fraction))
}
