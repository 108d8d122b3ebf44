//! What stands in a file more than once: keys whose later lines are not read, sections that come in parts.

use std::collections::HashMap;

use super::document::{Body, Document};
use super::ini::Kind;

/// A line that the reader passes over, because its key has a value already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadowed {
    /// The section.
    pub section: String,
    /// The key.
    pub key: String,
    /// The line that is not read, counted from 1.
    pub line: usize,
}

impl Document {
    /// Every option line that is not read, because an earlier one of this file counts.
    pub fn shadowed(&self) -> Vec<Shadowed> {
        let Body::Ini(ini) = &self.body else {
            // TOML lets nothing stand twice.
            return Vec::new();
        };
        ini.kinds
            .iter()
            .enumerate()
            .filter_map(|(at, kind)| match kind {
                Kind::Option {
                    section,
                    key,
                    counts: false,
                } => Some(Shadowed {
                    section: section.clone(),
                    key: key.clone(),
                    line: at + 1,
                }),
                _ => None,
            })
            .collect()
    }

    /// The headers that go on with a section which began further up: name, line, and the line of the first one, all
    /// lines counted from 1.
    pub fn later_parts(&self) -> Vec<(&str, usize, usize)> {
        let Body::Ini(ini) = &self.body else {
            return Vec::new();
        };
        let mut first: HashMap<&str, usize> = HashMap::new();
        let mut later = Vec::new();
        for (line, name) in ini.headers() {
            let begun = *first.entry(name).or_insert(line);
            if begun != line {
                later.push((name, line, begun));
            }
        }
        later
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_is_found() {
        let text = "[a]\nk = 1\nk = 2\n[b]\nk = 3\n[a]\nk = 4\nx = 5\n";
        let document = match Document::parse(text.as_bytes(), "t.ini") {
            Ok(document) => document,
            Err(error) => panic!("{error}"),
        };
        let lines: Vec<usize> = document.shadowed().iter().map(|s| s.line).collect();
        assert_eq!(lines, [3, 7]);
        assert_eq!(document.later_parts(), [("a", 6, 1)]);
    }
}
