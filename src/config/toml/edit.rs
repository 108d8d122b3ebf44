//! Editing a circus.toml in place. An edit replaces the bytes of the value it is about and no others, and it is proven
//! before it is done: the edited text is read again, and unless every section holds exactly the intended values the
//! document stays as it was.

use std::ops::Range;

use indexmap::IndexMap;
use toml_edit::{InlineTable, Item, Value};

use super::super::error::{ConfigError, Problem, ProblemKind, value_named};
use super::TomlDocument;
use super::literal::{canonical, literals};
use super::place::HomeKind;
use super::read::{Layout, Within, shown_path};

/// Every section's values, as they are to be read after an edit.
type Values = IndexMap<String, IndexMap<String, String>>;

impl TomlDocument {
    /// Gives `key` the value that circus.ini would write as `value`.
    ///
    /// # Errors
    /// No such section, or there is no way to write it.
    pub fn set(&mut self, section: &str, key: &str, value: &str) -> Result<bool, ConfigError> {
        let Some(layout) = self.layouts.get(section) else {
            return Err(self
                .refusal(format!(
                    "there is no section [{section}] to set {key} in; add the section first"
                ))
                .into());
        };
        let value = canonical(section, key, value);
        if self.sections[section]
            .get(key)
            .is_some_and(|entry| entry.value == value)
        {
            return Ok(false);
        }
        let mut wanted = self.values();
        wanted
            .entry(section.to_owned())
            .or_default()
            .insert(key.to_owned(), value.clone());
        let candidates: Vec<String> = match layout.spots.get(key) {
            Some(spot) => {
                let before = self.text.get(spot.value.clone());
                literals(section, key, &value, before)
                    .into_iter()
                    .map(|literal| self.spliced(spot.value.clone(), &literal))
                    .collect()
            }
            None => self.additions(section, layout, key, &literals(section, key, &value, None)),
        };
        if self.adopt_first(&candidates, &wanted) {
            return Ok(true);
        }
        Err(self
            .refusal(format!(
                "{} cannot be written for this key in a circus.toml",
                value_named(section, &value)
            ))
            .section(section)
            .key(key)
            .into())
    }

    /// Removes `key`. Returns whether it was there.
    ///
    /// # Errors
    /// There is no way to remove it alone.
    pub fn unset(&mut self, section: &str, key: &str) -> Result<bool, ConfigError> {
        let Some(spot) = self
            .layouts
            .get(section)
            .and_then(|layout| layout.spots.get(key))
        else {
            return Ok(false);
        };
        let mut wanted = self.values();
        if let Some(keys) = wanted.get_mut(section) {
            keys.shift_remove(key);
        }
        let mut candidates =
            vec![self.without(&spot.path, spot.key.start, spot.value.end, &spot.within)];
        // The last of the keys that alone made the section: the section stays, empty.
        let path = &self.layouts[section].path;
        candidates.push(match &spot.within {
            Within::Lines(depth) => path.get(*depth..).map(|rest| {
                let line = self.line_start(spot.key.start)..spot.value.end;
                self.spliced(line, &format!("{} = {{}}", shown_path(rest)))
            }),
            Within::Braces(depth, span) => {
                let rest = path.get(*depth..).and_then(|rest| rest.split_last());
                rest.and_then(|(name, parent)| {
                    self.braces_edited(span, parent, |table| {
                        table.insert(name, Item::Value(Value::InlineTable(InlineTable::new())));
                    })
                })
            }
        });
        if let Within::Lines(_) = spot.within {
            let headers = self.layouts.values().flat_map(|layout| &layout.tables);
            let headers = headers.filter(|table| table.braces.is_none());
            let starts = headers.map(|table| self.line_start(table.span.start));
            let next = starts.filter(|start| *start > spot.key.start).min();
            let end = self.line_end(spot.value.end);
            let between = &self.text[end..next.unwrap_or(self.text.len())];
            let eol = self.usual_eol();
            let lines = self.line_start(spot.key.start)..end + between.len();
            candidates.push(Some(
                self.spliced(lines, &format!("{between}[{}]{eol}", shown_path(path))),
            ));
        }
        let candidates: Vec<String> = candidates.into_iter().flatten().collect();
        if self.adopt_first(&candidates, &wanted) {
            return Ok(true);
        }
        // Where an empty section cannot be written it goes, which means the same.
        if wanted.get(section).is_some_and(IndexMap::is_empty) {
            wanted.shift_remove(section);
        }
        self.must_adopt(&candidates, &wanted, || format!("cannot remove {key}"))
    }

    /// Adds a section with its keys.
    ///
    /// # Errors
    /// The section exists, or there is no way to write it.
    pub fn add_section(
        &mut self,
        section: &str,
        options: &[(&str, &str)],
    ) -> Result<(), ConfigError> {
        if self.sections.contains_key(section) {
            return Err(self
                .refusal(format!("there is already a section [{section}]"))
                .into());
        }
        let mut wanted = self.values();
        let keys = wanted.entry(section.to_owned()).or_default();
        for (key, value) in options {
            keys.insert((*key).to_owned(), canonical(section, key, value));
        }
        let mut candidates = Vec::new();
        for path in self.section_paths(section) {
            // The end of the file is in nobody's way.
            for at in [self.place_for(section, &path), self.text.len()] {
                for dotted in [true, false] {
                    candidates.push(self.with_table(section, &path, options, dotted, at));
                }
            }
            candidates.extend(self.with_braces(section, &path, options));
        }
        self.must_adopt(&candidates, &wanted, || {
            format!("a section [{section}] with these keys cannot be written in this circus.toml")
        })?;
        Ok(())
    }

    /// Removes every part of a section. Returns whether there was one.
    ///
    /// # Errors
    /// There is no way to remove it alone.
    pub fn remove_section(&mut self, section: &str) -> Result<bool, ConfigError> {
        let Some(layout) = self.layouts.get(section) else {
            return Ok(false);
        };
        let mut wanted = self.values();
        wanted.shift_remove(section);
        let (bare, lost) = self.without_section(layout);
        if self.adopt(&bare, &wanted) {
            return Ok(true);
        }
        // What stood inside its tables without being part of it, the variables of a watcher, gets a table of its own.
        let mut rest = self.clone();
        let mut left = wanted.clone();
        left.retain(|name, _| !lost.contains(name));
        if rest.adopt(&bare, &left) {
            for name in &lost {
                let options: Vec<(&str, &str)> = wanted[name]
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_str()))
                    .collect();
                rest.add_section(name, &options)?;
            }
            if rest.values() == wanted {
                *self = rest;
                return Ok(true);
            }
        }
        Err(self.refusal(format!("cannot remove [{section}]")).into())
    }

    fn refusal(&self, what: String) -> Problem {
        Problem::new(ProblemKind::Edit, &self.name, what)
    }

    pub(super) fn values(&self) -> Values {
        self.sections
            .iter()
            .map(|(section, entries)| {
                let texts = entries
                    .iter()
                    .map(|(key, entry)| (key.clone(), entry.value.clone()));
                (section.clone(), texts.collect())
            })
            .collect()
    }

    pub(super) fn spliced(&self, span: Range<usize>, with: &str) -> String {
        let (before, after) = (self.text.get(..span.start), self.text.get(span.end..));
        [before.unwrap_or_default(), with, after.unwrap_or_default()].concat()
    }

    /// Takes the new text over if it reads as intended.
    fn adopt(&mut self, text: &str, wanted: &Values) -> bool {
        let ended = self.text.is_empty() || self.text.ends_with('\n');
        let text = if ended {
            text
        } else {
            text.strip_suffix("\r\n")
                .or(text.strip_suffix('\n'))
                .unwrap_or(text)
        };
        match Self::parse(text.as_bytes(), &self.name) {
            Ok(edited) if edited.values() == *wanted => {
                *self = edited;
                true
            }
            _ => false,
        }
    }

    fn adopt_first(&mut self, candidates: &[String], wanted: &Values) -> bool {
        candidates
            .iter()
            .any(|candidate| self.adopt(candidate, wanted))
    }

    fn must_adopt(
        &mut self,
        candidates: &[String],
        wanted: &Values,
        why_not: impl Fn() -> String,
    ) -> Result<bool, ConfigError> {
        if self.adopt_first(candidates, wanted) {
            Ok(true)
        } else {
            Err(self.refusal(why_not()).into())
        }
    }

    /// The ways to add a key to a section.
    fn additions(
        &self,
        section: &str,
        layout: &Layout,
        key: &str,
        literals: &[String],
    ) -> Vec<String> {
        let eol = self.usual_eol();
        let mut ways = Vec::new();
        let paths = self.key_paths(section, layout, key);
        let homes = self.homes(layout);
        for literal in literals {
            let literal = &literal.replace('\n', eol);
            for path in &paths {
                for home in &homes {
                    let Some(key) = Self::key_below(home, path) else {
                        continue;
                    };
                    match &home.kind {
                        HomeKind::Line(at, indent) => {
                            // The line before may be the last one and have no break of its own.
                            let lead = if self.text[..*at].ends_with('\n') {
                                ""
                            } else {
                                eol
                            };
                            let line = format!("{lead}{indent}{key} = {literal}{eol}");
                            ways.push(self.spliced(*at..*at, &line));
                        }
                        HomeKind::Braces(span) => {
                            let rest = &path[home.path.len()..];
                            ways.extend(self.braces_with(span, rest, literal));
                        }
                    }
                }
            }
            // All there is of the section are tables inside it.
            if let Some(first) = layout.tables.iter().find(|table| table.braces.is_none()) {
                let at = self.line_start(first.span.start);
                for path in &paths {
                    let key = shown_path(&path[layout.path.len()..]);
                    let table = shown_path(&layout.path);
                    let block = format!("[{table}]{eol}{key} = {literal}{eol}{eol}");
                    ways.push(self.spliced(at..at, &block));
                }
            }
        }
        ways
    }
}
