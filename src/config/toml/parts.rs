//! A circus.toml cut into lines that say something, for who goes through it from the top.

use std::ops::Range;

use super::TomlDocument;
use super::read::{Lines, Within};

/// Some whole lines of the file, and what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Part {
    /// The bytes of the lines.
    pub lines: Range<usize>,
    /// The first line (from 1).
    pub number: usize,
    /// The section they belong to.
    pub section: String,
    /// Their keys, each with its section, which may be another one inside braces; none for a header.
    pub keys: Vec<(String, String)>,
}

impl TomlDocument {
    /// All headers of sections and all keys in the order of the file.
    pub(in super::super) fn parts(&self) -> Vec<Part> {
        let numbers = Lines::of(&self.text);
        let mut parts = Vec::new();
        for (section, layout) in &self.layouts {
            let mut part = |span: Range<usize>, keys: Vec<(String, String)>| {
                let lines = self.line_start(span.start)..self.line_end(span.end);
                parts.push(Part {
                    number: numbers.number(lines.start),
                    lines,
                    section: section.clone(),
                    keys,
                });
            };
            for table in &layout.tables {
                match &table.braces {
                    None => part(table.span.clone(), Vec::new()),
                    Some((key, Within::Lines(_))) => {
                        part(key.start..table.span.end, self.keys_inside(&table.span));
                    }
                    Some((_, Within::Braces(..))) => {}
                }
            }
            for (key, spot) in &layout.spots {
                if let Within::Lines(_) = spot.within {
                    part(
                        spot.key.start..spot.value.end,
                        vec![(section.clone(), key.clone())],
                    );
                }
            }
        }
        // Braces around several sections are a part of each.
        parts.sort_by_key(|part| part.lines.start);
        parts.dedup_by_key(|part| part.lines.start);
        parts
    }

    fn keys_inside(&self, braces: &Range<usize>) -> Vec<(String, String)> {
        let mut keys: Vec<(usize, String, String)> = Vec::new();
        for (section, layout) in &self.layouts {
            for (key, spot) in &layout.spots {
                if braces.contains(&spot.key.start) {
                    keys.push((spot.key.start, section.clone(), key.clone()));
                }
            }
        }
        keys.sort();
        keys.into_iter()
            .map(|(_, section, key)| (section, key))
            .collect()
    }

    /// The file's text.
    pub(in super::super) fn text(&self) -> &str {
        &self.text
    }
}
