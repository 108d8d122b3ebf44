//! One layout for every configuration file: what [`Document::formatted`] changes is the layout only, never a value or a
//! comment. The formatted text is read again before it is given out, and must say the same.
//!
//! * one space on both sides of `=`, no white space at the ends of lines, a line break at the end of the file;
//! * one blank line before a section and the comment right above it, none below its header, never two together;
//! * lines that continue a value are indented by four spaces (circus.ini), keys and headers not at all (circus.toml);
//! * one kind of line break, the one that most lines have.
//!
//! The order of everything stays, but for dotted keys of a circus.toml: `hooks.before_start` comes to stand beside
//! `hooks.after_stop`.

mod ini;
mod toml;

use super::document::{Body, Document, Format};
use super::error::{ConfigError, Problem, ProblemKind};

impl Document {
    /// The same document, well laid out. A document that is so already is given back as it is.
    ///
    /// # Errors
    /// The formatted text would not say the same, which no file is known to bring about.
    pub fn formatted(&self) -> Result<Self, ConfigError> {
        let text = match &self.body {
            Body::Ini(document) => ini::formatted(document),
            Body::Toml(document) => toml::formatted(&document.to_string()),
        };
        let format = self.format();
        let again = text
            .and_then(|text| Self::parse_as(format, text.as_bytes(), self.name()).ok())
            .filter(|again| says_the_same(self, again));
        again.ok_or_else(|| {
            Problem::new(
                ProblemKind::Edit,
                self.name(),
                "the file cannot be formatted without changing what it says; it is left as it is",
            )
            .into()
        })
    }
}

/// Do both have the same sections in the same order, with the same keys and values?
fn says_the_same(a: &Document, b: &Document) -> bool {
    let values = |document: &Document| -> Vec<(String, Vec<(String, String)>)> {
        document
            .sections()
            .map(|section| {
                let entries = document.entries(section).into_iter().flatten();
                let pairs = entries.map(|(key, entry)| (key.clone(), entry.value.clone()));
                let mut pairs: Vec<(String, String)> = pairs.collect();
                if document.format() == Format::Toml {
                    pairs.sort();
                }
                (section.to_owned(), pairs)
            })
            .collect()
    };
    values(a) == values(b)
}

/// No line of blanks at either end, and never two of them together.
fn without_double_blanks<T>(lines: Vec<T>, is_blank: impl Fn(&T) -> bool) -> Vec<T> {
    let mut out: Vec<T> = Vec::with_capacity(lines.len());
    for line in lines {
        let after_blank = out.last().is_none_or(&is_blank);
        if !(is_blank(&line) && after_blank) {
            out.push(line);
        }
    }
    if out.last().is_some_and(is_blank) {
        out.pop();
    }
    out
}
