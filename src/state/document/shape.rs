//! What a value of a key may look like. The reader of documents turns it into the text of a circus.ini.

use serde_json::{Number, Value};

use super::tree::{Data, Node};
use crate::config::keys::{self, KeySpec};
use crate::config::{Variables, ini_text, pytext, quoted};
use crate::options::{self, Key, Kind};

/// The form of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A whole number between two bounds.
    Whole(i64, i64),
    /// A number of seconds from 0 up.
    Seconds,
    /// Any finite number.
    Number,
    /// A truth value.
    Truth,
    /// Text, also empty text.
    Text,
    /// Text that says something.
    Filled,
    /// Where a socket of ZeroMQ is: `tcp://HOST:PORT`, `ipc://PATH`; empty for none.
    Endpoint,
    /// Text, or a list of words.
    Words,
    /// A user or group, by name or number.
    Account,
    /// A signal, by name or number.
    Signal,
    /// A resource limit: a whole number, -1 for unlimited.
    Limit,
    /// A hook: `module.function`, or `module.function,True`.
    Hook,
    /// A umask in octal digits.
    Octal,
    /// One of some words, in any case.
    OneOf(Vec<&'static str>),
    /// Text, a number or a truth value, for those who take what they get.
    Scalar,
}

/// The words that are truth values.
pub const TRUTHS: [&str; 8] = ["yes", "true", "on", "1", "no", "false", "off", "0"];

impl Shape {
    /// The shape of an option of a watcher, or of an entry of a group (`rlimit_nofile`); `None` for keys that the table
    /// does not have, and for groups as a whole.
    pub fn of_option(key: &str) -> Option<Shape> {
        let (spec, part) = options::find(key)?;
        Some(match (spec.kind, part) {
            (Kind::Int, _) => Shape::Whole(i64::MIN, i64::MAX),
            (Kind::Count, _) => Shape::Whole(0, i64::from(i32::MAX)),
            (Kind::Seconds, _) => Shape::Seconds,
            (Kind::Bool, _) => Shape::Truth,
            (Kind::Text, _) if spec.name == "cmd" => Shape::Filled,
            (Kind::Text, _) => Shape::Text,
            (Kind::TextOrList, _) => Shape::Words,
            (Kind::Sockets, _) => Shape::Scalar,
            (Kind::Account, _) => Shape::Account,
            (Kind::Signal, _) => Shape::Signal,
            (Kind::Limits, Key::Entry(_)) => Shape::Limit,
            (Kind::Hooks, Key::Entry(_)) => Shape::Hook,
            (Kind::Stream, Key::Entry("max_bytes" | "backup_count")) => Shape::Whole(0, i64::MAX),
            (Kind::Stream, Key::Entry(_)) => Shape::Scalar,
            (Kind::Env | Kind::Stream | Kind::Hooks | Kind::Limits, _) => return None,
        })
    }

    /// The shape of a key of `[circus]`, `[socket:NAME]` or `[plugin:NAME]`, from what the table says of its form.
    pub fn of_key(spec: &KeySpec) -> Shape {
        match spec.form {
            "seconds" => Shape::Seconds,
            "seconds, may be negative" => Shape::Number,
            "truth value" => Shape::Truth,
            "whole number" if spec.name == "backlog" => {
                Shape::Whole(i64::from(i32::MIN), i64::from(i32::MAX))
            }
            "whole number" => Shape::Whole(i64::MIN, i64::MAX),
            "whole number from 0 up" => Shape::Whole(0, i64::MAX),
            "enforce or audit" => Shape::OneOf(vec!["enforce", "audit"]),
            // in any case
            "text or json" => Shape::Filled,
            "0 to 65535" => Shape::Whole(0, 65535),
            "decimal digits" => Shape::Whole(0, i64::from(u32::MAX)),
            "octal digits" => Shape::Octal,
            "user" => Shape::Account,
            "Python class" => Shape::Filled,
            // Circus takes an empty endpoint as none: `multicast_endpoint =` is how discovery is turned off.
            "endpoint" => Shape::Endpoint,
            "patterns of files" | "directories" | "host names" => Shape::Words,
            "file" if spec.name == "path" => Shape::Filled,
            form if form.contains(" or ") && form.contains(", ") => Shape::OneOf(
                form.split(", ")
                    .flat_map(|part| part.split(" or "))
                    .collect(),
            ),
            _ => Shape::Text,
        }
    }

    /// The shape of a key of a plugin, which has keys of its own.
    pub fn of_plugin_key(key: &str) -> Shape {
        match keys::PLUGIN_KEYS.iter().find(|spec| spec.name == key) {
            Some(spec) => Shape::of_key(spec),
            None => Shape::Scalar,
        }
    }

    /// Variables such as `$(circus.env.PORT)` are replaced in a value of this shape.
    pub fn has_variables(&self) -> bool {
        !matches!(self, Shape::Signal | Shape::Limit | Shape::Hook)
    }

    /// The text of a typed value, as a circus.ini holds it; or what was expected.
    pub fn text_of(&self, node: &Node) -> Result<String, String> {
        let refuse = || Err(format!("{} is not {}", node.shown(), self.expected()));
        match (&node.data, self) {
            (Data::Text(text), Shape::Octal) if !Variables::may_be_in(text) => {
                let bare = pytext::strip(text);
                let digits = bare.strip_prefix("0o").unwrap_or(bare);
                let plain = (1..=5).contains(&digits.len())
                    && digits.chars().all(|c| ('0'..='7').contains(&c));
                if plain { self.check(text) } else { refuse() }
            }
            (Data::Text(text), _) => self.check(text),
            (Data::Bool(flag), Shape::Truth | Shape::Scalar) => python_text(Value::from(*flag)),
            (
                Data::Number(number, _),
                Shape::Whole(..) | Shape::Truth | Shape::Account | Shape::Signal | Shape::Limit,
            ) => match whole(number) {
                Some(number) => self.check(&number.to_string()).or_else(|_| refuse()),
                None => refuse(),
            },
            (Data::Number(_, written), Shape::Seconds | Shape::Number) => {
                let plain = plain_number(written);
                self.check(&plain).or_else(|_| refuse())
            }
            (Data::Number(_, written), Shape::Scalar | Shape::Text) => Ok(plain_number(written)),
            (Data::Number(_, written), Shape::Octal) => match written.strip_prefix("0o") {
                Some(digits) => self.check(digits),
                None => refuse(),
            },
            (Data::Number(..), Shape::Filled | Shape::Endpoint) => Err(format!(
                "{} is not {}; put it in quotes if it is meant as text",
                node.shown(),
                self.expected()
            )),
            (Data::List(items), Shape::Words) => {
                let words = items.iter().map(|item| match &item.data {
                    Data::Text(text) => Ok(Value::from(text.as_str())),
                    Data::Number(_, written) => Ok(Value::from(plain_number(written))),
                    _ => Err(format!(
                        "{} cannot stand in a list of words: text is expected",
                        item.shown()
                    )),
                });
                let words: Vec<Value> = words.collect::<Result<_, String>>()?;
                python_text(Value::Array(words))
            }
            (Data::Table(pairs), Shape::Hook) => self.hook(pairs),
            (Data::Table(_), _) => Err(format!(
                "a table cannot stand here: {} is expected",
                self.expected()
            )),
            _ => refuse(),
        }
    }

    /// `{ call = "module.function", ignore_failure = true }`
    fn hook(&self, pairs: &[(String, Node)]) -> Result<String, String> {
        let mut call = None;
        let mut ignore = false;
        for (key, node) in pairs {
            match (key.as_str(), &node.data) {
                ("call", Data::Text(text)) if !text.contains(',') => call = Some(text),
                ("ignore_failure", Data::Bool(flag)) => ignore = *flag,
                _ => {
                    return Err(format!(
                        "{key} = {}: call = \"module.function\" and ignore_failure = true or false are expected",
                        node.shown()
                    ));
                }
            }
        }
        match call {
            Some(call) if ignore => self.check(&format!("{call},True")),
            Some(call) => self.check(call),
            None => Err("call = \"module.function\" is missing".to_string()),
        }
    }

    /// Checks a text as a circus.ini holds it, and gives the one form that equal numbers are kept in.
    pub fn check(&self, text: &str) -> Result<String, String> {
        if self.has_variables() && Variables::may_be_in(text) {
            return Ok(text.to_string());
        }
        let refuse = || Err(format!("{} is not {}", quoted(text), self.expected()));
        let bare = pytext::strip(text);
        let whole = |low: i64, high: i64| match pytext::int(bare) {
            Some(number)
                if (low..=high).contains(&number) && (low < 0 || !bare.starts_with('-')) =>
            {
                Ok(number.to_string())
            }
            _ => refuse(),
        };
        let number = |low: f64| match pytext::float(bare) {
            Some(number)
                if number.is_finite() && number >= low && (low < 0.0 || !bare.starts_with('-')) =>
            {
                Ok(match bare.parse::<f64>() {
                    Ok(_) => bare.to_string(),
                    Err(_) => pytext::float_repr(number),
                })
            }
            _ => refuse(),
        };
        match self {
            Shape::Whole(low, high) => whole(*low, *high),
            Shape::Limit if bare.is_empty() => Ok("-1".to_string()),
            Shape::Limit => whole(-1, i64::MAX),
            Shape::Seconds => number(0.0),
            Shape::Number => number(f64::MIN),
            Shape::Truth => match options::to_bool(bare) {
                Ok(_) => Ok(bare.to_string()),
                Err(_) => refuse(),
            },
            Shape::Signal => match (options::to_signum(&Value::from(bare)), bare.split_once('+')) {
                (Ok(_), None) => Ok(bare.to_string()),
                (Ok(_), Some((base, offset)))
                    if offset.chars().all(|c| c.is_ascii_digit())
                        && (base.is_empty() || base.to_uppercase().ends_with("RTMIN")) =>
                {
                    Ok(bare.to_string())
                }
                _ => refuse(),
            },
            Shape::Hook => match text.split_once(',') {
                None if !bare.is_empty() => Ok(text.to_string()),
                Some((callable, flag))
                    if !pytext::strip(callable).is_empty() && options::to_bool(flag).is_ok() =>
                {
                    Ok(text.to_string())
                }
                _ => refuse(),
            },
            Shape::Octal => match pytext::octal(bare) {
                Some(mask) if (0..=0o7777).contains(&mask) => Ok(bare.to_string()),
                None if bare.is_empty() => Ok(String::new()),
                _ => refuse(),
            },
            Shape::Account => match bare.strip_prefix('-') {
                Some(digits)
                    if !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()) =>
                {
                    refuse()
                }
                _ if bare.is_empty() => refuse(),
                _ => match bare.parse::<u64>() {
                    Ok(number) if number >= u64::from(u32::MAX) => refuse(),
                    _ => Ok(bare.to_string()),
                },
            },
            Shape::OneOf(words) if words.iter().any(|word| word.eq_ignore_ascii_case(bare)) => {
                Ok(bare.to_string())
            }
            Shape::OneOf(_) => refuse(),
            Shape::Endpoint => match bare.split_once("://") {
                Some((transport, rest))
                    if !rest.is_empty()
                        && !transport.is_empty()
                        && transport.chars().all(|c| c.is_ascii_lowercase()) =>
                {
                    Ok(bare.to_string())
                }
                None if bare.is_empty() => Ok(String::new()),
                _ => refuse(),
            },
            Shape::Filled if bare.is_empty() => refuse(),
            Shape::Text | Shape::Filled | Shape::Words | Shape::Scalar => Ok(text.to_string()),
        }
    }

    /// What is expected, in a few words.
    pub fn expected(&self) -> String {
        match self {
            Shape::Whole(i64::MIN, _) => "a whole number".to_string(),
            Shape::Whole(0, i64::MAX) => "a whole number from 0 up".to_string(),
            Shape::Whole(low, high) => format!("a whole number from {low} to {high}"),
            Shape::Seconds => "a number of seconds from 0 up".to_string(),
            Shape::Number => "a number".to_string(),
            Shape::Truth => "a truth value (true or false)".to_string(),
            Shape::Text => "text".to_string(),
            Shape::Filled => "text that is not empty".to_string(),
            Shape::Endpoint => {
                "an endpoint such as tcp://127.0.0.1:5555 or ipc:///run/circus.sock".to_string()
            }
            Shape::Words => "text or a list of texts".to_string(),
            Shape::Account => "a name or a number from 0 up".to_string(),
            Shape::Signal => "a signal: a number from 1 to 64 or a name such as TERM".to_string(),
            Shape::Limit => "a whole number from -1 up (-1 means unlimited)".to_string(),
            Shape::Hook => "a callable: module.function, or module.function,True".to_string(),
            Shape::Octal => "a umask in octal digits, as text such as \"022\"".to_string(),
            Shape::OneOf(words) => format!("one of {}", words.join(", ")),
            Shape::Scalar => "text, a number or a truth value".to_string(),
        }
    }
}

/// The text of a number: TOML's octal numbers in decimal digits.
fn plain_number(written: &str) -> String {
    let octal = written.strip_prefix("0o");
    match octal.and_then(|digits| i64::from_str_radix(digits, 8).ok()) {
        Some(number) => number.to_string(),
        None => written.to_string(),
    }
}

/// A number without a fraction; JSON does not tell 4 from 4.0.
fn whole(number: &Number) -> Option<i64> {
    match number.as_i64() {
        Some(number) => Some(number),
        None if number.is_u64() => None,
        None => number
            .as_f64()
            .filter(|n| n.fract() == 0.0 && n.abs() < 9.223372036854775e18)
            .map(|n| n as i64),
    }
}

fn python_text(value: Value) -> Result<String, String> {
    ini_text(&value).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_key_tables_is_known() {
        let known = [
            "endpoint",
            "user",
            "seconds",
            "seconds, may be negative",
            "octal digits",
            "file",
            "debug, info, warning, error or critical",
            "patterns of files",
            "directories",
            "host names",
            "truth value",
            "host",
            "whole number",
            "whole number from 0 up",
            "enforce or audit",
            "text or json",
            "program",
            "text",
            "host name or address",
            "0 to 65535",
            "AF_INET, AF_INET6 or AF_UNIX",
            "SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM or SOCK_SEQPACKET",
            "name from /etc/protocols",
            "decimal digits",
            "name",
            "Python class",
        ];
        for table in [keys::CIRCUS_KEYS, keys::SOCKET_KEYS, keys::PLUGIN_KEYS] {
            for spec in table {
                assert!(known.contains(&spec.form), "{}: {:?}", spec.name, spec.form);
                // What the table calls the default must be a value.
                if !spec.default.is_empty() {
                    let shape = Shape::of_key(spec);
                    assert!(
                        shape.check(spec.default).is_ok(),
                        "{}: {shape:?}",
                        spec.name
                    );
                }
            }
        }
        assert_eq!(
            Shape::of_key(&keys::SOCKET_KEYS[3]),
            Shape::OneOf(vec!["AF_INET", "AF_INET6", "AF_UNIX"])
        );
    }

    #[test]
    fn texts_are_kept_in_one_form() {
        for (key, text, want) in [
            ("numprocesses", " 0_4 ", Some("4")),
            ("numprocesses", "-1", None),
            ("numprocesses", "$(circus.env.N)", Some("$(circus.env.N)")),
            ("graceful_timeout", "1_0.5", Some("10.5")),
            ("graceful_timeout", "30.0", Some("30.0")),
            ("graceful_timeout", "-1", None),
            ("graceful_timeout", "nan", None),
            ("copy_env", "Yes ", Some("Yes")),
            ("copy_env", "perhaps", None),
            ("stop_signal", "sigrtmin+3", Some("sigrtmin+3")),
            ("stop_signal", "TERM+1", None),
            ("stop_signal", "$(circus.env.S)", None),
            ("rlimit_nofile", "", Some("-1")),
            ("rlimit_nofile", "many", None),
            ("hooks.before_start", "m.f, maybe", None),
            ("hooks.before_start", "m.f,True", Some("m.f,True")),
            ("uid", "-3", None),
            ("uid", "www-data", Some("www-data")),
            ("cmd", " ", None),
        ] {
            let told = Shape::of_option(key).unwrap().check(text);
            assert_eq!(told.as_deref().ok(), want, "{key} {text:?}: {told:?}");
        }
    }
}
