//! Shell patterns with the meaning of Python's `fnmatch` and `glob`, which Circus uses for
//! `[env:PATTERN]`, `include` and `include_dir`.

use std::path::{Path, PathBuf};

/// One element of a pattern.
enum Element {
    /// `*`: any run of characters.
    Run,
    /// `?`: any one character.
    Any,
    /// A character that stands for itself.
    One(char),
    /// `[…]`: ranges, and whether they are negated.
    Set(bool, Vec<(char, char)>),
}

/// Does the pattern fit nothing but itself?
pub fn is_plain(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '['])
}

/// `fnmatch.fnmatchcase(name, pattern)`: the whole name must match, case counts.
pub fn matches(pattern: &str, name: &str) -> bool {
    if is_plain(pattern) {
        return pattern == name;
    }
    let elements = parse(pattern);
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut from) = (0, 0);
    // The last `*` and where its run ended so far: the only place to come back to.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match elements.get(at) {
            Some(Element::Run) => {
                retry = Some((at, from));
                at += 1;
                continue;
            }
            Some(element) if name.get(from).is_some_and(|&c| element.fits(c)) => {
                at += 1;
                from += 1;
                continue;
            }
            None if from == name.len() => return true,
            _ => {}
        }
        match retry {
            Some((star, end)) if end < name.len() => {
                retry = Some((star, end + 1));
                at = star + 1;
                from = end + 1;
            }
            _ => return false,
        }
    }
}

impl Element {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::Run => false,
            Self::Any => true,
            Self::One(one) => *one == c,
            Self::Set(negated, ranges) => {
                ranges.iter().any(|&(low, high)| (low..=high).contains(&c)) != *negated
            }
        }
    }
}

fn parse(pattern: &str) -> Vec<Element> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut elements = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        at += 1;
        elements.push(match c {
            '*' => Element::Run,
            '?' => Element::Any,
            '[' => match set_end(&chars, at) {
                Some(end) => {
                    let inner = &chars[at..end];
                    at = end + 1;
                    set(inner)
                }
                None => Element::One('['),
            },
            other => Element::One(other),
        });
    }
    elements
}

/// Where the `]` stands that closes a set opened before `start`; one directly after `[` or `[!` is a
/// member.
fn set_end(chars: &[char], start: usize) -> Option<usize> {
    let mut at = start;
    if chars.get(at) == Some(&'!') {
        at += 1;
    }
    if chars.get(at) == Some(&']') {
        at += 1;
    }
    let rest = chars.get(at..)?;
    Some(at + rest.iter().position(|&c| c == ']')?)
}

fn set(inner: &[char]) -> Element {
    let (negated, members) = match inner {
        ['!', members @ ..] => (true, members),
        members => (false, members),
    };
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(&low) = members.get(at) {
        match (members.get(at + 1), members.get(at + 2)) {
            (Some('-'), Some(&high)) => {
                // A backward range is empty, as in Python.
                ranges.push((low, high));
                at += 3;
            }
            _ => {
                ranges.push((low, low));
                at += 1;
            }
        }
    }
    Element::Set(negated, ranges)
}

/// `glob.glob(pattern)` with the result sorted, so that the same files always give the same
/// configuration (Python leaves the directory's own order). Relative patterns are looked up below
/// `cwd` and answered as they were asked.
pub fn glob(pattern: &Path, cwd: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = part.as_os_str();
        found = match part.to_str() {
            Some(text) if text.contains(['*', '?', '[']) => found
                .iter()
                .flat_map(|dir| matching_names(dir, text, cwd))
                .collect(),
            _ => found.into_iter().map(|dir| dir.join(part)).collect(),
        };
    }
    found.retain(|path| cwd.join(path).symlink_metadata().is_ok());
    found.sort();
    found
}

fn matching_names(dir: &Path, pattern: &str, cwd: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(cwd.join(dir)) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.') || pattern.starts_with('.'))
        .filter(|name| matches(pattern, name))
        .map(|name| dir.join(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_python() {
        for (pattern, name, want) in [
            ("*", "", true),
            ("a*c*", "abcabc", true),
            ("a*c", "abcab", false),
            ("?b", "ab", true),
            ("[ab]x", "bx", true),
            ("[!ab]x", "bx", false),
            ("[]x]", "]", true),
            ("[!]x]", "]", false),
            ("[a-c]", "b", true),
            ("[c-a]", "b", false),
            ("[a-]", "-", true),
            ("[-a]", "-", true),
            ("[ab", "[ab", true),
            ("Web", "web", false),
            ("a.c", "abc", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }
}
