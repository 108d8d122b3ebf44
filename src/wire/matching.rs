//! Which watchers a `start`, `stop` or `restart` means.
//!
//! Circus compares lower-cased names, by one of three methods: `simple`, `glob` (Python's
//! `fnmatch`, the default) and `regex` (Python's `re.match`, anchored at the start only).

use regex::Regex;

use crate::config::pattern;

/// How the name of a [`Selection`] is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Match {
    /// The name of one watcher.
    Simple,
    /// A shell pattern: `*`, `?`, `[a-z]`, `[!a-z]`.
    #[default]
    Glob,
    /// A regular expression that must match from the start of the name.
    Regex,
}

impl Match {
    /// The word on the wire and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Match::Simple => "simple",
            Match::Glob => "glob",
            Match::Regex => "regex",
        }
    }

    /// The method that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Match::Simple, Match::Glob, Match::Regex]
            .into_iter()
            .find(|method| method.word() == word)
    }
}

/// The watchers that a command is about: all of them, or those whose name matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// The name or pattern as the client wrote it; `None` means every watcher.
    pub name: Option<String>,
    /// How `name` is read.
    pub matching: Match,
}

impl Selection {
    /// Every watcher.
    pub fn all() -> Self {
        Self::default()
    }

    /// The predicate on names.
    ///
    /// # Errors
    /// A text for the client when the regular expression cannot be used.
    pub fn matcher(&self) -> Result<Matcher, String> {
        let Some(name) = &self.name else {
            return Ok(Matcher(How::Everything));
        };
        let name = name.to_lowercase();
        Ok(Matcher(match self.matching {
            Match::Simple => How::Exactly(name),
            Match::Glob => How::Glob(name),
            Match::Regex => {
                // Checked alone first, so that "a)(b" cannot slip through the group around it.
                let bad = |error: regex::Error| {
                    let error = error.to_string();
                    let last = error.lines().last().unwrap_or_default();
                    let last: String = last.chars().take(120).collect();
                    format!("bad regular expression: {}", last.trim())
                };
                Regex::new(&name).map_err(bad)?;
                How::Regex(Regex::new(&format!("^(?:{name})")).map_err(bad)?)
            }
        }))
    }
}

/// A predicate on the names of watchers, from [`Selection::matcher`].
#[derive(Debug, Clone)]
pub struct Matcher(How);

#[derive(Debug, Clone)]
enum How {
    Everything,
    Exactly(String),
    Glob(String),
    Regex(Regex),
}

impl Matcher {
    /// Whether the watcher called `name` (in any case) is meant.
    pub fn matches(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        match &self.0 {
            How::Everything => true,
            How::Exactly(wanted) => *wanted == name,
            How::Glob(pattern) => pattern::matches(pattern, &name),
            How::Regex(regex) => regex.is_match(&name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(matching: Match, pattern: &str, name: &str) -> bool {
        Selection {
            name: Some(pattern.into()),
            matching,
        }
        .matcher()
        .unwrap()
        .matches(name)
    }

    #[test]
    fn globs_are_fnmatch_s() {
        for (pattern, name, want) in [
            ("web", "web", true),
            ("WEB", "Web", true),
            ("we", "web", false),
            ("w*", "web", true),
            ("*", "", true),
            ("*b*d*", "abcd", true),
            ("*b*e*", "abcd", false),
            ("w?b", "web", true),
            ("w?b", "wb", false),
            ("w[a-f]b", "web", true),
            ("w[!a-f]b", "web", false),
            ("w[!a-d]b", "web", true),
            ("w[f-a]b", "web", false),
            ("w[!f-a]b", "web", true),
            ("w[]e]b", "w]b", true),
            ("w[!]]b", "web", true),
            ("w[e", "w[e", true),
            ("w[!", "w[!", true),
            ("w[a-]b", "w-b", true),
            ("w[a-c-e]b", "w-b", true),
            ("w[a-c-e]b", "wdb", false),
            ("w[^e]b", "w^b", true),
            ("w[^e]b", "wxb", false),
            ("w.b", "web", false),
            ("a\nb", "a\nb", true),
            ("*", "a\nb", true),
            ("é*", "É1", true),
        ] {
            assert_eq!(
                matches(Match::Glob, pattern, name),
                want,
                "{pattern:?} {name:?}"
            );
        }
    }

    #[test]
    fn regex_is_anchored_at_the_start_only() {
        assert!(matches(Match::Regex, "w", "web"));
        assert!(!matches(Match::Regex, "e", "web"));
        assert!(matches(Match::Regex, "a|e", "api"));
        assert!(!matches(Match::Regex, "x|e", "web"));
        assert!(matches(Match::Regex, "W.B$", "web"));
        for bad in ["(", "a)(b", "[", "*", "(?=x)"] {
            let selection = Selection {
                name: Some(bad.into()),
                matching: Match::Regex,
            };
            let error = selection.matcher().unwrap_err();
            assert!(error.starts_with("bad regular expression: "), "{error}");
        }
    }

    #[test]
    fn simple_and_everything() {
        assert!(matches(Match::Simple, "A*", "a*"));
        assert!(!matches(Match::Simple, "a*", "ab"));
        assert!(Selection::all().matcher().unwrap().matches("anything"));
    }
}
