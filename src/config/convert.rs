//! Conversion between circus.ini and circus.toml: the same sections, keys and values in the other spelling, with
//! comments, blank lines and order. Pure: texts in, texts out.
//!
//! The result is read again before it is handed out, and must say what the source says. What the other format cannot
//! say stays in the text as a comment, and is listed.

mod semicolon;
mod to_ini;
mod to_toml;

use indexmap::IndexMap;

use super::document::{Document, Format};
use super::error::{ConfigError, Problem, ProblemKind};
use super::toml::canonical;

/// What came of a conversion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The file in the other format.
    pub text: String,
    /// What was merged or could not be carried over, each with the line of the source, in the order of the lines.
    pub notes: Vec<String>,
}

/// A circus.ini as circus.toml. Truth values and numbers get their types where the option or key is one; every other
/// value is text as it was. Included files are not converted; a circus.toml may include circus.ini files.
///
/// # Errors
/// The bytes are no circus.ini; `name` is what errors call it.
pub fn ini_to_toml(bytes: &[u8], name: &str) -> Result<Converted, ConfigError> {
    to_toml::convert(bytes, name)
}

/// A circus.toml as circus.ini, which Circus reads too.
///
/// # Errors
/// The bytes are no circus.toml; `name` is what errors call it.
pub fn toml_to_ini(bytes: &[u8], name: &str) -> Result<Converted, ConfigError> {
    to_ini::convert(bytes, name)
}

/// Sections with their keys and texts.
type Values = IndexMap<String, IndexMap<String, String>>;

/// The notes while they are collected.
#[derive(Default)]
struct Notes(Vec<(usize, String)>);

impl Notes {
    fn add(&mut self, line: usize, what: String) {
        self.0.push((line, what));
    }

    fn sorted(mut self) -> Vec<String> {
        self.0.sort();
        self.0
            .into_iter()
            .map(|(line, what)| format!("line {line}: {what}"))
            .collect()
    }
}

/// Hands out a text that says what it should.
fn proven(
    text: String,
    format: Format,
    name: &str,
    wanted: &Values,
    notes: Notes,
) -> Result<Converted, ConfigError> {
    let written = Document::parse_as(format, text.as_bytes(), "the converted file")?;
    let values: Values = written
        .sections()
        .map(|section| {
            let entries = written.entries(section).into_iter().flatten();
            let texts =
                entries.map(|(key, entry)| (key.clone(), canonical(section, key, &entry.value)));
            (section.to_owned(), texts.collect())
        })
        .collect();
    // Sections that hold nothing mean nothing.
    let full = |values: &Values| {
        let mut values = values.clone();
        values.retain(|_, keys| !keys.is_empty());
        values
    };
    if full(&values) == full(wanted) {
        return Ok(Converted {
            text,
            notes: notes.sorted(),
        });
    }
    let differing = wanted
        .keys()
        .chain(values.keys())
        .find(|section| values.get(*section) != wanted.get(*section));
    let mut problem = Problem::new(
        ProblemKind::Edit,
        name,
        "the conversion would not say the same; this is a mistake in circ, please report it with the file",
    );
    if let Some(section) = differing {
        problem = problem.section(section);
    }
    Err(problem.into())
}

#[cfg(test)]
mod tests;
