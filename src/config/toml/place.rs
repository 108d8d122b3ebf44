//! How a circus.toml is laid out: where a new key or table belongs, and how its author indents and breaks lines.

use std::ops::Range;

use super::TomlDocument;
use super::read::{Layout, TableSpot, Within, escaped, shown_key, shown_path};
use super::value::holds_options;

/// A place where keys of a section can be added.
pub(super) struct Home {
    /// The tables from the top that a key there need not repeat.
    pub path: Vec<String>,
    pub kind: HomeKind,
}

pub(super) enum HomeKind {
    /// A line of its own at this byte, indented like this.
    Line(usize, String),
    /// Inside these braces.
    Braces(Range<usize>),
}

impl TomlDocument {
    /// The line break that most lines have.
    pub(in super::super) fn usual_eol(&self) -> &'static str {
        let all = self.text.matches('\n').count();
        let crlf = self.text.matches("\r\n").count();
        if crlf * 2 > all { "\r\n" } else { "\n" }
    }

    /// The byte after the line (with its break) that holds the byte `at`.
    pub(in super::super) fn line_end(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        rest.find('\n')
            .map_or(self.text.len(), |length| at + length + 1)
    }

    /// The first byte of the line that holds the byte `at`.
    pub(super) fn line_start(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or_default();
        before.rfind('\n').map_or(0, |at| at + 1)
    }

    /// The line (without its break) that begins at this byte.
    pub(super) fn line_at(&self, start: usize) -> &str {
        let line = self
            .text
            .get(start..self.line_end(start))
            .unwrap_or_default();
        line.trim_end_matches(['\n', '\r'])
    }

    fn indent_at(&self, at: usize) -> String {
        let line = self.line_at(self.line_start(at));
        line[..line.len() - line.trim_start().len()].to_owned()
    }

    /// Where keys of this section can be added, the innermost tables first.
    pub(super) fn homes(&self, layout: &Layout) -> Vec<Home> {
        let own = anchors(layout);
        let mut homes: Vec<Home> = Vec::new();
        for table in &layout.tables {
            let kind = match &table.braces {
                Some(_) => HomeKind::Braces(table.span.clone()),
                None => {
                    let lines = Within::Lines(table.path.len());
                    let here = |anchor: &&Anchor| {
                        *anchor.within == lines && anchor.path.starts_with(&table.path)
                    };
                    let last = own.iter().filter(here).max_by_key(|anchor| anchor.end);
                    let after = last.map_or(table.span.end, |anchor| anchor.end);
                    let like = last.map_or(table.span.start, |anchor| anchor.start);
                    HomeKind::Line(self.line_end(after), self.indent_at(like))
                }
            };
            homes.push(Home {
                path: table.path.clone(),
                kind,
            });
        }
        // Keys that name their tables themselves, as in `watcher.web.cmd = "x"`; the last of them first. Where none
        // is the section's own, those of the tables around it.
        let around = self.layouts.values().flat_map(anchors);
        let around: Vec<Anchor> = around
            .filter(|anchor| {
                layout
                    .path
                    .starts_with(&anchor.path[..anchor.within.depth()])
            })
            .collect();
        for anchor in own.iter().rev().chain(around.iter().rev()) {
            let (depth, kind) = match anchor.within {
                Within::Lines(depth) => {
                    let at = self.line_end(anchor.end);
                    (*depth, HomeKind::Line(at, self.indent_at(anchor.start)))
                }
                Within::Braces(depth, span) => (*depth, HomeKind::Braces(span.clone())),
            };
            let path = &anchor.path[..depth];
            if homes.iter().all(|home| home.path != path) {
                homes.push(Home {
                    path: path.to_vec(),
                    kind,
                });
            }
        }
        homes.sort_by_key(|home| std::cmp::Reverse(home.path.len()));
        homes
    }

    /// The tables from the top that a new key of a section can stand in, with the key; the usual way first.
    pub(super) fn key_paths(&self, section: &str, layout: &Layout, key: &str) -> Vec<Vec<String>> {
        let below = |parts: &[&str]| {
            let parts = parts.iter().map(|part| (*part).to_owned());
            layout.path.iter().cloned().chain(parts).collect::<Vec<_>>()
        };
        let mut ways = Vec::new();
        if holds_options(section) || section.starts_with("plugin:") {
            if let Some(limit) = key.strip_prefix("rlimit_") {
                let limits = below(&["rlimits"]);
                let spots = layout.spots.values().map(|spot| &spot.path);
                let mut known = spots.chain(layout.tables.iter().map(|table| &table.path));
                if known.any(|path| path.starts_with(&limits)) {
                    ways.push(below(&["rlimits", limit]));
                }
            } else if key.contains('.') && key.split('.').all(|part| shown_key(part) == part) {
                ways.push(below(&key.split('.').collect::<Vec<_>>()));
            }
        }
        ways.push(below(&[key]));
        ways
    }

    /// The tables from the top that a new section can be, the usual way first.
    pub(super) fn section_paths(&self, section: &str) -> Vec<Vec<String>> {
        let path = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
        let mut ways: Vec<Vec<String>> = Vec::new();
        match section.split_once(':') {
            Some(("env", pattern)) => {
                let watcher = self.layouts.get(&format!("watcher:{pattern}"));
                if let Some(watcher) = watcher.filter(|_| escaped(pattern) == pattern) {
                    let mut with_it = watcher.path.clone();
                    with_it.push("env".to_owned());
                    ways.push(with_it);
                }
                ways.push(path(&["env", pattern]));
            }
            Some((kind @ ("watcher" | "socket" | "plugin"), name)) => {
                ways.push(path(&[kind, name]))
            }
            _ => {}
        }
        ways.push(path(&[section]));
        ways
    }

    /// Where a new table goes: after the watcher that it belongs to, else after the last section of its kind, else at
    /// the end.
    pub(super) fn place_for(&self, section: &str, path: &[String]) -> usize {
        let parent = &path[..path.len().saturating_sub(1)];
        let same_kind = |name: &str| match section.split_once(':') {
            Some((kind, _)) => name.split_once(':').is_some_and(|(other, _)| other == kind),
            None => false,
        };
        let beside = parent.len() > 1;
        let fits = |name: &str, layout: &Layout| {
            if beside {
                layout.path == parent
            } else {
                // What stands with a watcher is a part of it here.
                same_kind(name) && !layout.of_watcher
                    || section.starts_with("watcher:") && layout.of_watcher
            }
        };
        let ends = self
            .layouts
            .iter()
            .filter(|(name, layout)| fits(name, layout))
            .flat_map(|(_, layout)| ends_of(layout));
        let Some(end) = ends.max() else {
            return self.text.len();
        };
        let end = self.end_of_body(self.line_end(end));
        // A comment right below the last key belongs to it, unless it stands right above something else.
        let mut after = end;
        while after < self.text.len() && self.line_at(after).trim_start().starts_with('#') {
            after = self.line_end(after);
        }
        if self.line_at(after).trim().is_empty() {
            after
        } else {
            end
        }
    }

    /// The end of the last key that stands below the same header as what ends here.
    fn end_of_body(&self, end: usize) -> usize {
        let headers = self.layouts.values().flat_map(|layout| &layout.tables);
        let headers = headers.filter(|table| table.braces.is_none());
        let starts = headers.map(|table| table.span.start);
        let next = starts.filter(|start| *start >= end).min();
        let keys = self.layouts.values().flat_map(anchors);
        let here = keys.filter(|key| {
            matches!(key.within, Within::Lines(_))
                && key.start >= end
                && next.is_none_or(|next| key.start < next)
        });
        here.map(|key| self.line_end(key.end)).max().unwrap_or(end)
    }

    /// The text of a key below `home`, with its dots and quotes.
    pub(super) fn key_below(home: &Home, path: &[String]) -> Option<String> {
        let rest = path.strip_prefix(home.path.as_slice())?;
        (!rest.is_empty()).then(|| shown_path(rest))
    }
}

/// A key of a section, be its value a table in braces or not.
struct Anchor<'a> {
    path: &'a [String],
    start: usize,
    end: usize,
    within: &'a Within,
}

/// The keys of a section in the order of the file.
fn anchors(layout: &Layout) -> Vec<Anchor<'_>> {
    let spots = layout.spots.values().map(|spot| Anchor {
        path: &spot.path,
        start: spot.key.start,
        end: spot.value.end,
        within: &spot.within,
    });
    let tables = layout.tables.iter().filter_map(|table| {
        let (key, within) = table.braces.as_ref()?;
        Some(Anchor {
            path: &table.path,
            start: key.start,
            end: table.span.end,
            within,
        })
    });
    let mut all: Vec<Anchor> = spots.chain(tables).collect();
    all.sort_by_key(|anchor| anchor.start);
    all
}

/// Where the parts of a section end.
fn ends_of(layout: &Layout) -> impl Iterator<Item = usize> {
    let tables = layout.tables.iter().map(|table: &TableSpot| table.span.end);
    tables.chain(layout.spots.values().map(|spot| spot.value.end))
}
