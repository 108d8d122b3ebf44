//! The settings of a plugin, read by its table of keys.

use std::collections::BTreeMap;

use crate::config::plugin_keys::{Amount, PluginSpec, amount, expected};
use crate::config::{BETWEEN, pytext};
use crate::options::{Value, to_bool, to_signum};

/// Why a plugin cannot be made of its settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSetting {
    /// A value that cannot be used.
    #[error("{key}: {value:?} is not {expected}")]
    Value {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What was expected.
        expected: String,
    },
    /// A key that must be there.
    #[error("{key} is missing: {what}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What it is for.
        what: &'static str,
    },
    /// A value that is understood and cannot be served.
    #[error("{key}: {why}")]
    Unusable {
        /// The key.
        key: &'static str,
        /// Why not, and what to do.
        why: String,
    },
    /// `active = False`.
    #[error("it is not active (active = False), so it is not started")]
    Inactive,
    /// The table names a plugin that nobody wrote.
    #[error("there is no plugin {0}")]
    Unwritten(&'static str),
}

/// Reads `key:value:::key:value`, what Circus hands a plugin as `--config`; pieces without a colon are passed over.
pub fn parse_settings(text: &str) -> BTreeMap<String, String> {
    text.split(BETWEEN)
        .filter_map(|piece| piece.split_once(':'))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// The settings of a plugin, each a text that its key can have; an empty one is none.
pub struct Settings<'a> {
    spec: &'static PluginSpec,
    given: &'a BTreeMap<String, String>,
}

impl<'a> Settings<'a> {
    /// Checks everything that was given for a key of this plugin.
    pub(super) fn new(
        spec: &'static PluginSpec,
        given: &'a BTreeMap<String, String>,
    ) -> Result<Self, BadSetting> {
        for key in spec.keys() {
            let text = given.get(key.name).map_or("", String::as_str);
            if let Some(expected) = expected(key, text).filter(|_| !text.is_empty()) {
                return Err(BadSetting::Value {
                    key: key.name.to_owned(),
                    value: text.to_owned(),
                    expected,
                });
            }
        }
        Ok(Settings { spec, given })
    }

    /// The text of a key or its default; empty if there is none.
    pub(super) fn text(&self, key: &str) -> &str {
        let given = self.given.get(key).filter(|text| !text.is_empty());
        debug_assert!(
            self.spec.key(key).is_some(),
            "{} has no key {key}",
            self.spec.name
        );
        match given {
            Some(text) => text,
            None => self.spec.key(key).map_or("", |spec| spec.default),
        }
    }

    /// The text of a key, if there is one.
    pub(super) fn filled(&self, key: &str) -> Option<String> {
        Some(self.text(key).to_owned()).filter(|text| !text.is_empty())
    }

    pub(super) fn boolean(&self, key: &str) -> bool {
        to_bool(self.text(key)).unwrap_or_default()
    }

    pub(super) fn number(&self, key: &str) -> f64 {
        self.number_if_any(key).unwrap_or_default()
    }

    pub(super) fn number_if_any(&self, key: &str) -> Option<f64> {
        pytext::float(self.text(key))
    }

    pub(super) fn whole(&self, key: &str) -> i64 {
        pytext::int(self.text(key)).unwrap_or_default()
    }

    pub(super) fn port(&self, key: &str) -> u16 {
        u16::try_from(self.whole(key)).unwrap_or_default()
    }

    pub(super) fn amount(&self, key: &str) -> Option<Amount> {
        amount(self.text(key))
    }

    pub(super) fn signal(&self, key: &str) -> Option<i32> {
        to_signum(&Value::from(self.text(key).trim())).ok()
    }

    /// A regular expression that matches from the start of a text, as Python's `re.match`.
    pub(super) fn regex(&self, key: &'static str) -> Result<regex::Regex, BadSetting> {
        let text = self.text(key);
        regex::Regex::new(&format!("^(?:{text})")).map_err(|why| BadSetting::Unusable {
            key,
            why: why.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plugin_keys::PLUGINS;

    #[test]
    fn settings_as_circus_hands_them_over() {
        let text =
            "attempts:3:::name:plugin:flap:::check_url: http://h:1/:::junk:::window:::retry_in:";
        let settings = parse_settings(text);
        let told: Vec<(&str, &str)> = settings
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("attempts", "3"),
                ("check_url", "http://h:1/"),
                ("name", "plugin:flap"),
                ("retry_in", "")
            ]
        );
        assert!(parse_settings("").is_empty());
    }

    #[test]
    fn what_is_not_given_is_what_the_table_says() {
        let flapping = PLUGINS.iter().find(|spec| spec.name == "flapping").unwrap();
        let given = parse_settings("attempts:3:::retry_in:");
        let settings = Settings::new(flapping, &given).unwrap();
        assert_eq!(settings.whole("attempts"), 3);
        assert_eq!(settings.number("retry_in"), 7.0);
        assert_eq!(settings.whole("max_retry"), 5);
        let given = parse_settings("attempts:many");
        let why = Settings::new(flapping, &given).err().unwrap().to_string();
        assert_eq!(why, r#"attempts: "many" is not a whole number"#);
    }
}
