//! Editing a circus.toml in place. An edit replaces the bytes of the value it is about and no others, and it is proven
//! before it is done: the edited text is read again, and unless every section holds exactly the intended values the
//! document stays as it was.

use std::ops::Range;

use indexmap::IndexMap;
use toml_edit::{Item, TableLike, Value};

use super::super::error::{ConfigError, Problem, ProblemKind, quoted};
use super::TomlDocument;
use super::literal::{canonical, literals};
use super::place::HomeKind;
use super::read::{Layout, TableSpot, Within, shown_key, shown_path};

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
        let candidates = match layout.spots.get(key) {
            Some(spot) => {
                let before = self.text.get(spot.value.clone());
                literals(section, key, &value, before)
                    .into_iter()
                    .map(|literal| self.spliced(spot.value.clone(), &literal))
                    .collect()
            }
            None => self.additions(section, layout, key, &literals(section, key, &value, None)),
        };
        if self.adopt_first(candidates, &wanted) {
            return Ok(true);
        }
        Err(self
            .refusal(format!(
                "the value {} cannot be written for this key in a circus.toml",
                quoted(&value)
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
        if let Within::Lines(depth) = spot.within
            && let Some(rest) = self.layouts[section].path.get(depth..)
        {
            let lines = self.line_start(spot.key.start)..spot.value.end;
            candidates.push(Some(
                self.spliced(lines, &format!("{} = {{}}", shown_path(rest))),
            ));
        }
        let candidates = candidates.into_iter().flatten().collect();
        self.must_adopt(candidates, &wanted, || format!("cannot remove {key}"))
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
            for dotted in [true, false] {
                candidates.push(self.with_table(section, &path, options, dotted));
            }
            candidates.extend(self.with_braces(section, &path, options));
        }
        self.must_adopt(candidates, &wanted, || {
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

    fn spliced(&self, span: Range<usize>, with: &str) -> String {
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

    fn adopt_first(&mut self, candidates: Vec<String>, wanted: &Values) -> bool {
        candidates
            .iter()
            .any(|candidate| self.adopt(candidate, wanted))
    }

    fn must_adopt(
        &mut self,
        candidates: Vec<String>,
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

    /// The text without one entry, be it a line or a part of a table in braces.
    fn without(&self, path: &[String], key: usize, end: usize, within: &Within) -> Option<String> {
        match within {
            Within::Lines(_) => Some(self.spliced(self.line_start(key)..self.line_end(end), "")),
            Within::Braces(depth, span) => {
                let (parent, name) = (path.get(*depth..path.len() - 1)?, path.last()?);
                self.braces_edited(span, parent, |table| {
                    table.remove(name);
                })
            }
        }
    }

    /// The text with one more entry in a table in braces.
    fn braces_with(&self, span: &Range<usize>, path: &[String], literal: &str) -> Option<String> {
        let (name, parent) = path.split_last()?;
        let value: Value = literal.parse().ok()?;
        self.braces_edited(span, parent, |table| {
            // The space before the closing brace belongs to the last value.
            let mut space = String::new();
            let last = table.iter().last().map(|(name, _)| name.to_owned());
            if let Some(Item::Value(last)) = last.and_then(|last| table.get_mut(&last)) {
                let decor = last.decor_mut();
                space = decor
                    .suffix()
                    .and_then(|s| s.as_str())
                    .unwrap_or(" ")
                    .to_owned();
                decor.set_suffix("");
            } else {
                space.push(' ');
            }
            let mut value = value.clone();
            value.decor_mut().set_prefix(" ");
            value.decor_mut().set_suffix(space);
            table.insert(name, Item::Value(value));
        })
    }

    /// The text with a table in braces changed; `parent` are the tables inside it that its keys name themselves.
    fn braces_edited(
        &self,
        span: &Range<usize>,
        parent: &[String],
        change: impl Fn(&mut dyn TableLike),
    ) -> Option<String> {
        let mut whole = self.text.get(span.clone())?.parse::<Value>().ok()?;
        let mut table: &mut dyn TableLike = whole.as_inline_table_mut()?;
        for part in parent {
            if table.get(part).is_none() {
                let mut inner = toml_edit::InlineTable::new();
                inner.set_dotted(true);
                table.insert(part, Item::Value(Value::InlineTable(inner)));
            }
            table = table.get_mut(part)?.as_table_like_mut()?;
        }
        change(table);
        whole.decor_mut().clear();
        Some(self.spliced(span.clone(), &whole.to_string()))
    }

    /// The text with a new table under a header; its keys with dots are tables (`dotted`) or are quoted.
    fn with_table(
        &self,
        section: &str,
        path: &[String],
        options: &[(&str, &str)],
        dotted: bool,
    ) -> String {
        let eol = self.usual_eol();
        let at = self.place_for(section, path);
        let before = &self.text[..at];
        let mut block = String::new();
        if !before.is_empty() {
            if !before.ends_with('\n') {
                block.push_str(eol);
            }
            if !self
                .line_at(self.line_start(at.saturating_sub(1)))
                .trim()
                .is_empty()
            {
                block.push_str(eol);
            }
        }
        block.push_str(&format!("[{}]{eol}", shown_path(path)));
        for (key, value) in options {
            block.push_str(&self.option_line(section, path, key, value, dotted));
        }
        if at < self.text.len() && !self.line_at(at).trim().is_empty() {
            block.push_str(eol);
        }
        self.spliced(at..at, &block)
    }

    fn option_line(
        &self,
        section: &str,
        path: &[String],
        key: &str,
        value: &str,
        dotted: bool,
    ) -> String {
        let eol = self.usual_eol();
        let layout = Layout {
            path: path.to_vec(),
            ..Layout::default()
        };
        let written = match self.key_paths(section, &layout, key).first() {
            Some(whole) if dotted => shown_path(&whole[path.len()..]),
            _ => shown_key(key),
        };
        let value = canonical(section, key, value);
        let literal = literals(section, key, &value, None).swap_remove(0);
        format!("{written} = {}{eol}", literal.replace('\n', eol))
    }

    /// The text with a new table in braces, where the tables around it are in braces themselves.
    fn with_braces(
        &self,
        section: &str,
        path: &[String],
        options: &[(&str, &str)],
    ) -> Option<String> {
        let tables = self.layouts.values().flat_map(|layout| &layout.tables);
        let within = tables
            .filter_map(|table| table.braces.as_ref())
            .filter_map(|(_, within)| match within {
                Within::Braces(depth, span) => Some((*depth, span)),
                Within::Lines(_) => None,
            });
        let own = self.layouts.values().flat_map(|layout| &layout.tables);
        let own = own
            .filter(|table| table.braces.is_some())
            .map(|table| (table.path.len(), &table.span));
        let (depth, span) = own.chain(within).find(|(depth, span)| {
            *depth + 1 == path.len() && self.is_path_of_braces(&path[..*depth], span)
        })?;
        let entries: Vec<String> = options
            .iter()
            .map(|(key, value)| {
                self.option_line(section, path, key, value, true)
                    .trim_end()
                    .to_owned()
            })
            .collect();
        let literal = format!("{{ {} }}", entries.join(", "));
        self.braces_with(span, &path[depth..], &literal)
    }

    /// Are the braces at `span` the table of this path?
    fn is_path_of_braces(&self, path: &[String], span: &Range<usize>) -> bool {
        self.layouts.values().any(|layout| {
            let own = layout.tables.iter().any(|table| table.span == *span && table.path == path);
            let around = layout.tables.iter().any(|table| {
                matches!(&table.braces, Some((_, Within::Braces(depth, s))) if s == span && table.path.get(..*depth) == Some(path))
            });
            own || around
        })
    }

    /// The text without a section, and the sections that stood inside its tables and are lost with them.
    fn without_section(&self, layout: &Layout) -> (String, Vec<String>) {
        let mut gone: Vec<Range<usize>> = Vec::new();
        let mut shorter = None;
        for table in &layout.tables {
            match &table.braces {
                None => gone.push(self.header_lines(layout, table)),
                Some((key, within @ Within::Lines(_))) => {
                    let _ = within;
                    gone.push(self.line_start(key.start)..self.line_end(table.span.end));
                }
                Some((key, within)) => {
                    shorter = self.without(&table.path, key.start, table.span.end, within);
                }
            }
        }
        for spot in layout.spots.values() {
            if let Within::Lines(_) = spot.within {
                gone.push(self.line_start(spot.key.start)..self.line_end(spot.value.end));
            }
        }
        let inside = |other: &Layout| {
            other.path.len() > layout.path.len() && other.path.starts_with(&layout.path)
        };
        let touched = |other: &Layout| {
            other
                .spots
                .values()
                .any(|spot| gone.iter().any(|range| range.contains(&spot.key.start)))
                || shorter.is_some()
                || other.spots.values().any(|spot| match &spot.within {
                    Within::Lines(depth) => *depth <= layout.path.len(),
                    Within::Braces(depth, _) => *depth <= layout.path.len(),
                })
                || other.tables.iter().any(|table| match &table.braces {
                    Some((_, Within::Lines(depth) | Within::Braces(depth, _))) => {
                        *depth <= layout.path.len()
                    }
                    None => false,
                })
        };
        let lost: Vec<String> = self
            .layouts
            .iter()
            .filter(|(_, other)| inside(other) && touched(other))
            .map(|(name, _)| name.clone())
            .collect();
        // Their lines go with the tables that held them.
        for name in &lost {
            let other = &self.layouts[name];
            for spot in other.spots.values() {
                if let Within::Lines(_) = spot.within {
                    gone.push(self.line_start(spot.key.start)..self.line_end(spot.value.end));
                }
            }
            for table in &other.tables {
                if let Some((key, Within::Lines(_))) = &table.braces {
                    gone.push(self.line_start(key.start)..self.line_end(table.span.end));
                }
            }
        }
        if let Some(text) = shorter {
            return (text, lost);
        }
        (self.cut(gone), lost)
    }

    /// The lines from a header to the last key of the section below it.
    fn header_lines(&self, layout: &Layout, table: &TableSpot) -> Range<usize> {
        let lines = Within::Lines(table.path.len());
        let last = layout
            .spots
            .values()
            .filter(|spot| spot.within == lines && spot.path.starts_with(&table.path))
            .map(|spot| spot.value.end)
            .max();
        let start = self.line_start(table.span.start);
        start..self.line_end(last.unwrap_or(table.span.end))
    }

    /// The text without these lines. Of the blank lines on both sides of a gap, one side is enough.
    fn cut(&self, mut gone: Vec<Range<usize>>) -> String {
        gone.sort_by_key(|range| range.start);
        let mut joined: Vec<Range<usize>> = Vec::new();
        for range in gone {
            match joined.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        let mut text = String::new();
        let mut from = 0;
        for range in joined {
            text.push_str(self.text.get(from..range.start).unwrap_or_default());
            from = range.end;
            let before = range.start == 0
                || self
                    .line_at(self.line_start(range.start - 1))
                    .trim()
                    .is_empty();
            if before && from < self.text.len() && self.line_at(from).trim().is_empty() {
                from = self.line_end(from);
            }
        }
        text.push_str(self.text.get(from..).unwrap_or_default());
        text
    }
}
