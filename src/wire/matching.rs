//! Which watchers a `start`, `stop` or `restart` means.
//!
//! Circus compares lower-cased names, by one of three methods: `simple`, `glob` (Python's
//! `fnmatch`, the default) and `regex` (Python's `re.match`, anchored at the start only).

use regex::Regex;

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
            Match::Glob => How::Glob(parse_glob(&name)),
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
    Glob(Vec<Piece>),
    Regex(Regex),
}

impl Matcher {
    /// Whether the watcher called `name` (in any case) is meant.
    pub fn matches(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        match &self.0 {
            How::Everything => true,
            How::Exactly(wanted) => *wanted == name,
            How::Glob(pieces) => glob_matches(pieces, &name),
            How::Regex(regex) => regex.is_match(&name),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Star,
    Any,
    Char(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Reads a pattern as `fnmatch.translate` does: a bracket that is never closed is a plain character,
/// `]` right after the opening is a member, ranges from high to low are empty.
fn parse_glob(pattern: &str) -> Vec<Piece> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        at += 1;
        pieces.push(match c {
            '*' if pieces.last() == Some(&Piece::Star) => continue,
            '*' => Piece::Star,
            '?' => Piece::Any,
            '[' => {
                let negated = chars.get(at) == Some(&'!');
                let start = at + usize::from(negated);
                // The first member may be a closing bracket, so the end is looked for after it.
                let end = (start + 1..chars.len()).find(|&i| chars[i] == ']');
                match end {
                    Some(end) => {
                        at = end + 1;
                        Piece::Class {
                            negated,
                            ranges: parse_class(&chars[start..end]),
                        }
                    }
                    None => Piece::Char('['),
                }
            }
            other => Piece::Char(other),
        });
    }
    pieces
}

fn parse_class(members: &[char]) -> Vec<(char, char)> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(&low) = members.get(at) {
        match (members.get(at + 1), members.get(at + 2)) {
            (Some('-'), Some(&high)) => {
                ranges.push((low, high));
                at += 3;
            }
            _ => {
                ranges.push((low, low));
                at += 1;
            }
        }
    }
    ranges
}

/// Matches without recursion: on a mismatch the last star takes one character more, which is
/// enough (an earlier star never needs to give back), so the time is at most pattern × name.
fn glob_matches(pieces: &[Piece], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut piece, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let fits = match (pieces.get(piece), name.get(at)) {
            (None, None) => return true,
            (Some(Piece::Star), _) => {
                retry = Some((piece + 1, at));
                piece += 1;
                continue;
            }
            (Some(Piece::Any), Some(_)) => true,
            (Some(Piece::Char(want)), Some(have)) => want == have,
            (Some(Piece::Class { negated, ranges }), Some(have)) => {
                ranges
                    .iter()
                    .any(|(low, high)| (low..=high).contains(&have))
                    != *negated
            }
            (Some(_), None) => return false,
            (None, Some(_)) => false,
        };
        if fits {
            piece += 1;
            at += 1;
            continue;
        }
        match retry {
            Some((after, taken)) if taken < name.len() => {
                retry = Some((after, taken + 1));
                piece = after;
                at = taken + 1;
            }
            _ => return false,
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
