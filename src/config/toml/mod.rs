//! circus.toml: the second spelling of circus.ini. Whatever one says the other can say, and both are read as the same
//! sections of keys with texts.
//!
//! | circus.toml | circus.ini |
//! |---|---|
//! | `[circus]` | `[circus]` |
//! | `[watcher.web]`, `[socket.web]`, `[plugin.web]`; names with dots or spaces in quotes | `[watcher:web]`, … |
//! | `[env]` with plain values | `[env]` |
//! | `[env."web*,db"]`, a table in it | `[env:web*,db]` |
//! | `[watcher.web.env]` | `[env:web]`, after all other `[env:…]` |
//! | `["watcher:web"]`, or any other table | the section of this very name |
//!
//! Values become the text that circus.ini would hold for them:
//!
//! * text as it is; `true` and `false` as `True` and `False`; numbers in plain digits (`1_000` as `1000`; a fraction as
//!   it is written, so that `3.10` stays `3.10`);
//! * for `args` and `shell_args` a list of words, quoted so that they are cut into the same words again; for `include`
//!   and `include_dir` a list of patterns;
//! * `umask` of `[circus]` as text or as `0o022`: it is octal there, and a plain `22` would mislead;
//! * tables inside a watcher are its keys with a dot, `hooks.before_start` or `stdout_stream.class`, and `rlimits` are
//!   its resource limits: `rlimits.nofile` is `rlimit_nofile`;
//! * a hook may be `{ call = "module.function", ignore_failure = true }`.
//!
//! A key that holds a dot of its own is put in quotes. `"$schema"` at the top is for editors and is not read.

mod edit;
mod literal;
mod parts;
mod place;
mod read;
mod rewrite;
mod value;

use std::fmt;

use indexmap::IndexMap;

use super::document::{Entries, not_utf8};
use super::error::{ConfigError, Problem, ProblemKind, quoted};
pub(super) use literal::{canonical, literals};
use read::{Layout, Lines};
pub(super) use read::{escaped, shown_key, shown_path, spelled};
pub(super) use value::holds_options;

/// A circus.toml file: its bytes and its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TomlDocument {
    name: String,
    text: String,
    sections: IndexMap<String, Entries>,
    layouts: IndexMap<String, Layout>,
}

impl TomlDocument {
    /// Reads the bytes of a file; `name` is what errors call it.
    ///
    /// # Errors
    /// The first thing that is not TOML, or all that circus.ini could not say.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, ConfigError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let lines = bytes[..error.valid_up_to()]
                .iter()
                .filter(|byte| **byte == b'\n');
            not_utf8(bytes, &error, name).at(lines.count() + 1)
        })?;
        let parsed =
            toml_edit::Document::parse(text).map_err(|error| not_toml(&error, text, name))?;
        let (sections, layouts) = read::sections(&parsed, name)?;
        Ok(Self {
            name: name.to_owned(),
            text: text.to_owned(),
            sections,
            layouts,
        })
    }

    /// An empty document, to be filled with [`TomlDocument::add_section`].
    pub fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            text: String::new(),
            sections: IndexMap::new(),
            layouts: IndexMap::new(),
        }
    }

    /// What errors call this file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sections under their names in circus.ini, in the order in which they begin; those of the kind
    /// `[watcher.NAME.env]` come last.
    pub fn sections(&self) -> &IndexMap<String, Entries> {
        &self.sections
    }

    /// The line (from 1) where each section begins.
    pub fn section_lines(&self) -> impl Iterator<Item = (&str, usize)> {
        let layouts = self.layouts.iter();
        layouts.map(|(section, layout)| (section.as_str(), layout.line))
    }

    /// Does the section stand with its watcher, as `[watcher.NAME.env]`?
    pub fn is_of_watcher(&self, section: &str) -> bool {
        self.layouts
            .get(section)
            .is_some_and(|layout| layout.of_watcher)
    }
}

impl fmt::Display for TomlDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
pub(super) mod random_tests;
/// What is wrong with a text that is no TOML: the line, what the parser says of it, and what to do if it is one of the
/// slips of who comes from circus.ini.
fn not_toml(error: &toml_edit::TomlError, text: &str, name: &str) -> Problem {
    let lines = Lines::of(text);
    let number = error.span().map_or(1, |span| lines.number(span.start));
    let line = text.lines().nth(number - 1).unwrap_or_default().trim();
    let what = error.message().trim().replace('\n', "; ");
    let what = what
        .strip_suffix(", expected literal string")
        .unwrap_or(&what);
    let what = what.strip_suffix(", expected nothing").unwrap_or(what);
    let hint = if what == "duplicate key" {
        "the same key or table stands above"
    } else if line.starts_with('[') && line.contains(':') {
        "a section is written with a dot, as in [watcher.web]"
    } else if line.starts_with(';') {
        "a comment begins with #"
    } else if what.starts_with("invalid boolean") {
        "write true or false; text stands in quotes"
    } else if what.starts_with("string values must be quoted") {
        "write key = \"text\""
    } else if what.starts_with("key with no value") && line.contains(':') {
        "write key = value"
    } else if what.contains("leading zero") {
        "leave it out, or put the value in quotes"
    } else {
        ""
    };
    let hint = if hint.is_empty() {
        String::new()
    } else {
        format!("; {hint}")
    };
    Problem::new(
        ProblemKind::Syntax,
        name,
        format!("{}: {what}{hint}", quoted(line)),
    )
    .at(number)
}

#[cfg(test)]
mod tests;
