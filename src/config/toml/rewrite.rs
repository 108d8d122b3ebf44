//! What a circus.toml becomes by one change: the texts that edits try.

use std::ops::Range;

use toml_edit::{InlineTable, Item, TableLike, Value};

use super::TomlDocument;
use super::literal::{canonical, literals};
use super::read::{Layout, TableSpot, Within, shown_key, shown_path};

impl TomlDocument {
    /// The text without one entry, be it a line or a part of a table in braces.
    pub(super) fn without(
        &self,
        path: &[String],
        key: usize,
        end: usize,
        within: &Within,
    ) -> Option<String> {
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
    pub(super) fn braces_with(
        &self,
        span: &Range<usize>,
        path: &[String],
        literal: &str,
    ) -> Option<String> {
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
    pub(super) fn braces_edited(
        &self,
        span: &Range<usize>,
        parent: &[String],
        change: impl Fn(&mut dyn TableLike),
    ) -> Option<String> {
        let mut whole = self.text.get(span.clone())?.parse::<Value>().ok()?;
        let mut table: &mut dyn TableLike = whole.as_inline_table_mut()?;
        for part in parent {
            if table.get(part).is_none() {
                let mut inner = InlineTable::new();
                inner.set_dotted(true);
                table.insert(part, Item::Value(Value::InlineTable(inner)));
            }
            table = table.get_mut(part)?.as_table_like_mut()?;
        }
        change(table);
        whole.decor_mut().clear();
        Some(self.spliced(span.clone(), &whole.to_string()))
    }

    /// The text with a new table under a header at byte `at`; its keys with dots are tables (`dotted`) or are quoted.
    pub(super) fn with_table(
        &self,
        section: &str,
        path: &[String],
        options: &[(&str, &str)],
        dotted: bool,
        at: usize,
    ) -> String {
        let eol = self.usual_eol();
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
    pub(super) fn with_braces(
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
    pub(super) fn without_section(&self, layout: &Layout) -> (String, Vec<String>) {
        let mut gone: Vec<Range<usize>> = Vec::new();
        let mut shorter = None;
        for table in &layout.tables {
            match &table.braces {
                None => gone.push(self.header_lines(layout, table)),
                Some((key, Within::Lines(_))) => {
                    gone.push(self.line_start(key.start)..self.line_end(table.span.end));
                }
                Some((key, within)) => {
                    // What is inside other braces of the section goes with them.
                    let outer = |other: &TableSpot| {
                        other.braces.is_some() && other.span.contains(&key.start)
                    };
                    if !layout.tables.iter().any(outer) {
                        shorter = self.without(&table.path, key.start, table.span.end, within);
                    }
                }
            }
        }
        for spot in layout.spots.values() {
            match &spot.within {
                Within::Lines(_) => {
                    gone.push(self.line_start(spot.key.start)..self.line_end(spot.value.end));
                }
                // Keys that name the section's tables themselves, inside braces around it.
                Within::Braces(depth, span) if shorter.is_none() => {
                    let rest = layout.path.get(*depth..).and_then(|rest| rest.split_last());
                    shorter = rest.and_then(|(name, parent)| {
                        self.braces_edited(span, parent, |table| {
                            table.remove(name);
                        })
                    });
                }
                Within::Braces(..) => {}
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
                || other
                    .spots
                    .values()
                    .any(|spot| spot.within.depth() <= layout.path.len())
                || other.tables.iter().any(|table| {
                    let braces = table.braces.as_ref();
                    braces.is_some_and(|(_, within)| within.depth() <= layout.path.len())
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
