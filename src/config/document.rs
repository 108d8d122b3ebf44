//! A configuration file as a text that is never lost: every byte of it is kept, and on top of it stands the reading
//! that counts. There are two spellings, circus.ini ([`super::ini`]) and circus.toml ([`super::toml`]); both say the
//! same thing, sections of keys with texts, and both are edited in place.
//!
//! This file is pure: it reads and writes no file.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use indexmap::IndexMap;

use super::error::{ConfigError, Problem, ProblemKind};
use super::ini::IniDocument;
use super::toml::TomlDocument;

/// The section whose keys stand in for missing ones everywhere.
pub const DEFAULT_SECTION: &str = "DEFAULT";

/// The key that Circus's parser puts into every section by itself: its name. A file cannot set it.
pub const NAME_KEY: &str = "__name__";

/// A value as the reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value as circus.ini would say it; continuation lines are joined with line feeds.
    pub value: String,
    /// The line of its key, counted from 1.
    pub line: usize,
    /// The first line that continues it, if any; never in a circus.toml.
    pub continued_at: Option<usize>,
}

/// The keys of one section in the order in which the reader meets them.
pub type Entries = IndexMap<String, Entry>;

/// How a file is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// circus.ini
    Ini,
    /// circus.toml
    Toml,
}

impl Format {
    /// The format that a file's name stands for: TOML if it ends in `.toml`, else ini.
    pub fn of(name: impl AsRef<Path>) -> Self {
        let extension = name.as_ref().extension();
        if extension.is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
            Self::Toml
        } else {
            Self::Ini
        }
    }
}

/// A configuration file: its bytes and its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub(super) body: Body,
}

/// The two backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    Ini(IniDocument),
    Toml(TomlDocument),
}

/// The same words for both backends.
macro_rules! either {
    ($document:expr, $inner:ident => $result:expr) => {
        match $document {
            Body::Ini($inner) => $result,
            Body::Toml($inner) => $result,
        }
    };
}

impl Document {
    /// Reads the bytes of a file; `name` is what errors call it, and its ending tells the format.
    ///
    /// # Errors
    /// Everything that is no configuration in this format, with its line.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, ConfigError> {
        Self::parse_as(Format::of(name), bytes, name)
    }

    /// As [`Document::parse`], in a format that the name does not tell.
    ///
    /// # Errors
    /// As [`Document::parse`].
    pub fn parse_as(format: Format, bytes: &[u8], name: &str) -> Result<Self, ConfigError> {
        let body = match format {
            Format::Ini => Body::Ini(IniDocument::parse(bytes, name)?),
            Format::Toml => Body::Toml(TomlDocument::parse(bytes, name)?),
        };
        Ok(Self { body })
    }

    /// An empty document in the format that the name tells, to be filled with [`Document::add_section`].
    pub fn empty(name: &str) -> Self {
        let body = match Format::of(name) {
            Format::Ini => Body::Ini(IniDocument::empty(name)),
            Format::Toml => Body::Toml(TomlDocument::empty(name)),
        };
        Self { body }
    }

    /// Which spelling this is.
    pub fn format(&self) -> Format {
        match self.body {
            Body::Ini(_) => Format::Ini,
            Body::Toml(_) => Format::Toml,
        }
    }

    /// What errors call this file.
    pub fn name(&self) -> &str {
        either!(&self.body, inner => inner.name())
    }

    /// The file's bytes; those that were parsed if nothing was edited.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    fn all(&self) -> &IndexMap<String, Entries> {
        either!(&self.body, inner => inner.sections())
    }

    /// The names of the sections, `watcher:web` and the like in either format, in the order of their first headers;
    /// `DEFAULT` is among them if the file has it.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.all().keys().map(String::as_str)
    }

    /// Is there a section of this name?
    pub fn has_section(&self, section: &str) -> bool {
        self.all().contains_key(section)
    }

    /// The keys and values of one section, without those of `DEFAULT`.
    pub fn entries(&self, section: &str) -> Option<&Entries> {
        self.all().get(section)
    }

    /// The value that counts, without a look at `DEFAULT`.
    pub fn get(&self, section: &str, key: &str) -> Option<&str> {
        let entry = self.entries(section)?.get(key)?;
        Some(&entry.value)
    }

    /// The line (from 1) that holds the value that counts.
    pub fn line_of(&self, section: &str, key: &str) -> Option<usize> {
        Some(self.entries(section)?.get(key)?.line)
    }

    /// The line (from 1) of the first header of this section.
    pub fn section_line(&self, section: &str) -> Option<usize> {
        self.section_lines().get(section).copied()
    }

    /// The line (from 1) of the first header of every section.
    pub(super) fn section_lines(&self) -> HashMap<&str, usize> {
        match &self.body {
            // Backwards, so that the first header of a section is the one that stays.
            Body::Ini(ini) => ini
                .headers()
                .rev()
                .map(|(line, name)| (name, line))
                .collect(),
            Body::Toml(toml) => toml.section_lines().collect(),
        }
    }

    /// Does the section hold the variables of one watcher, written with it (`[watcher.NAME.env]`)? Such a section
    /// comes after every `[env:PATTERN]`. Only a circus.toml has them.
    pub(super) fn is_of_watcher(&self, section: &str) -> bool {
        match &self.body {
            Body::Ini(_) => false,
            Body::Toml(toml) => toml.is_of_watcher(section),
        }
    }

    /// Gives `key` the value `value`, the text that circus.ini would hold. The occurrence that counts is replaced, and
    /// nothing else: its comment, the space around it and its line break stay. A key that the section lacks is put
    /// after the section's last one. In a circus.toml the value gets the type that the key asks for, as in
    /// `numprocesses = 4`. Returns whether the document changed.
    ///
    /// # Errors
    /// No such section, or the format cannot express this key or value.
    pub fn set(&mut self, section: &str, key: &str, value: &str) -> Result<bool, ConfigError> {
        either!(&mut self.body, inner => inner.set(section, key, value))
    }

    /// Removes every occurrence of `key`. Returns whether there was one.
    ///
    /// # Errors
    /// Only if the rest of the file would read differently.
    pub fn unset(&mut self, section: &str, key: &str) -> Result<bool, ConfigError> {
        either!(&mut self.body, inner => inner.unset(section, key))
    }

    /// Adds a section with its keys after the last section of the same kind (`watcher:`, `socket:` …), or at the end
    /// of the file.
    ///
    /// # Errors
    /// The section exists, or the format cannot express a name, key or value.
    pub fn add_section(
        &mut self,
        section: &str,
        options: &[(&str, &str)],
    ) -> Result<(), ConfigError> {
        either!(&mut self.body, inner => inner.add_section(section, options))
    }

    /// Removes every part of a section. Comments around it stay. Returns whether there was one.
    ///
    /// # Errors
    /// Only if the rest of the file would read differently.
    pub fn remove_section(&mut self, section: &str) -> Result<bool, ConfigError> {
        either!(&mut self.body, inner => inner.remove_section(section))
    }
}

/// The file's text; byte for byte what was parsed if nothing was edited.
impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        either!(&self.body, inner => inner.fmt(f))
    }
}

/// The complaint about bytes that are no text.
pub(super) fn not_utf8(bytes: &[u8], error: &std::str::Utf8Error, name: &str) -> Problem {
    let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
    let kind = match Format::of(name) {
        Format::Ini => "circus.ini",
        Format::Toml => "circus.toml",
    };
    Problem::new(
        ProblemKind::Syntax,
        name,
        format!(
            "byte 0x{byte:02x} is not UTF-8 here; {kind} is read as UTF-8 text, save the file in that encoding"
        ),
    )
}
