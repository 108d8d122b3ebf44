//! circus.ini to circus.toml.

use indexmap::IndexMap;

use super::super::document::{DEFAULT_SECTION, Format};
use super::super::error::{ConfigError, quoted};
use super::super::ini::{IniDocument, Kind, header_name, option_span};
use super::super::pattern;
use super::super::toml::{canonical, escaped, holds_options, literals, shown_key, shown_path};
use super::{Converted, Notes, Values, proven};

/// A table of the result.
#[derive(Default)]
struct Block {
    /// The lines above its header.
    lead: Vec<String>,
    header: String,
    body: Vec<String>,
}

pub(super) fn convert(bytes: &[u8], name: &str) -> Result<Converted, ConfigError> {
    let ini = IniDocument::parse(bytes, name)?;
    let mut writer = Writer {
        ini: &ini,
        blocks: IndexMap::new(),
        wanted: Values::new(),
        notes: Notes::default(),
    };
    let rest = writer.lines();
    let mut lines: Vec<String> = Vec::new();
    for block in std::mem::take(&mut writer.blocks).into_values() {
        lines.extend(block.lead);
        lines.push(block.header);
        lines.extend(block.body);
    }
    lines.extend(rest);
    let eol = match ini.usual_eol() {
        "\r\n" => "\r\n",
        _ => "\n",
    };
    let text: String = lines
        .iter()
        .flat_map(|line| [line.replace('\n', eol), eol.to_owned()])
        .collect();
    proven(text, Format::Toml, name, &writer.wanted, writer.notes)
}

struct Writer<'a> {
    ini: &'a IniDocument,
    blocks: IndexMap<String, Block>,
    /// What the result must say.
    wanted: Values,
    notes: Notes,
}

impl Writer<'_> {
    /// Writes all blocks, and answers what stands below the last one.
    fn lines(&mut self) -> Vec<String> {
        let mut pending: Vec<String> = Vec::new();
        let mut section = String::new();
        for (at, (line, kind)) in self.ini.lines.iter().zip(&self.ini.kinds).enumerate() {
            let number = at + 1;
            match kind {
                Kind::Blank => pending.push(String::new()),
                Kind::Comment => pending.push(self.comment(&line.text, number)),
                Kind::Header(name) => {
                    section.clone_from(name);
                    self.header(name, &line.text, number, &mut pending);
                }
                Kind::Option { key, counts, .. } => {
                    let written = if *counts {
                        self.option(&section, key, &line.text, number)
                    } else {
                        self.repetition(&section, key, &line.text, number)
                    };
                    let body = &mut self.blocks.entry(section.clone()).or_default().body;
                    body.append(&mut pending);
                    body.extend(written);
                }
                // The value was written with its first line.
                Kind::Continuation { .. } => {}
            }
        }
        pending
    }

    fn header(&mut self, name: &str, text: &str, line: usize, pending: &mut Vec<String>) {
        if let Some(block) = self.blocks.get_mut(name) {
            self.notes.add(
                line,
                format!("[{name}] goes on here; its keys were put to the others of the section"),
            );
            block.body.append(pending);
        } else {
            let header = match self.table(name) {
                Some(path) => {
                    self.wanted.entry(name.to_owned()).or_default();
                    format!("[{}]", shown_path(&path))
                }
                None => {
                    self.notes.add(
                        line,
                        format!(
                            "[{name}] has no meaning in a circus.ini, and no name that a table can carry; it was made \
                             a comment with its keys"
                        ),
                    );
                    format!("# [{}]", one_line(name))
                }
            };
            let block = self.blocks.entry(name.to_owned()).or_default();
            block.lead.append(pending);
            block.header = header;
        }
        // What stands behind the header is not read.
        let behind = header_name(text)
            .map_or("", |name| &text[name.len() + 2..])
            .trim();
        if !behind.is_empty() {
            let comment = self.comment(behind, line);
            if let Some(block) = self.blocks.get_mut(name) {
                block.body.push(comment);
            }
        }
    }

    /// The tables from the top that a section becomes; none if there is no way to write it.
    fn table(&self, section: &str) -> Option<Vec<String>> {
        let path = |parts: &[&str]| Some(parts.iter().map(|part| (*part).to_owned()).collect());
        match section.split_once(':') {
            Some(("env", watcher)) if self.stands_with_its_watcher(section, watcher) => {
                path(&["watcher", watcher, "env"])
            }
            // A variable of that name has the place already.
            Some(("env", name))
                if self
                    .ini
                    .sections()
                    .get("env")
                    .is_some_and(|keys| keys.contains_key(name)) =>
            {
                path(&[section])
            }
            Some((kind @ ("watcher" | "socket" | "plugin" | "env"), name)) => path(&[kind, name]),
            None if matches!(section, "watcher" | "socket" | "plugin") => None,
            _ => path(&[section]),
        }
    }

    /// Can `[env:NAME]` be a table of its watcher? Such a table comes after all patterns.
    fn stands_with_its_watcher(&self, section: &str, watcher: &str) -> bool {
        let sections = self.ini.sections();
        let Some(own) = sections.get(&format!("watcher:{watcher}")) else {
            return false;
        };
        let place = sections.get_index_of(section).unwrap_or_default();
        let later = sections.keys().skip(place + 1);
        let includes = |section: &str| {
            let keys = sections.get(section);
            keys.is_some_and(|keys| {
                keys.contains_key("include") || keys.contains_key("include_dir")
            })
        };
        escaped(watcher) == watcher
            && !watcher.contains(',')
            && watcher.trim() == watcher
            && !watcher.is_empty()
            && !own.contains_key("env")
            && !own.contains_key("name")
            && !sections
                .get(DEFAULT_SECTION)
                .is_some_and(|keys| keys.contains_key("name"))
            && !includes("circus")
            && !includes(DEFAULT_SECTION)
            && later
                .filter_map(|section| section.strip_prefix("env:"))
                .flat_map(|patterns| patterns.split(','))
                .all(|wanted| !pattern::matches(wanted.trim(), watcher))
    }

    fn option(&mut self, section: &str, key: &str, text: &str, line: usize) -> Vec<String> {
        let Some(entry) = self
            .ini
            .sections()
            .get(section)
            .and_then(|keys| keys.get(key))
        else {
            return Vec::new();
        };
        let comment = option_span(text)
            .and_then(|span| span.comment)
            .map(|from| self.comment(&text[from..], line));
        if self.table(section).is_none() {
            let mut lines: Vec<String> = comment.into_iter().collect();
            let written = format!("{key} = {}", entry.value);
            lines.extend(
                written
                    .split('\n')
                    .map(|piece| self.comment(&format!("# {piece}"), line)),
            );
            return lines;
        }
        if section == "circus" && matches!(key, "include" | "include_dir") {
            self.notes.add(
                line,
                format!("{key}: the files that are included here stay as they are, and are read as they are"),
            );
        }
        let value = canonical(section, key, &entry.value);
        self.wanted
            .entry(section.to_owned())
            .or_default()
            .insert(key.to_owned(), value.clone());
        let literal = literals(section, key, &value, None).swap_remove(0);
        let written = format!("{} = {literal}", self.key(section, key));
        match comment {
            // A comment inside a text over several lines would be text.
            Some(comment) if !literal.contains('\n') => vec![format!("{written} {comment}")],
            Some(comment) => vec![comment, written],
            None => vec![written],
        }
    }

    /// A line that Circus does not read, because the key has a value already.
    fn repetition(&mut self, section: &str, key: &str, text: &str, line: usize) -> Vec<String> {
        let first = self
            .ini
            .sections()
            .get(section)
            .and_then(|keys| keys.get(key));
        let what = match first {
            Some(first) => format!(
                "[{section}] {key} was set on line {} already, so this line was not read; it was made a comment",
                first.line
            ),
            None => format!(
                "[{section}] {key} cannot be set; this line was not read, and was made a comment"
            ),
        };
        self.notes.add(line, what);
        vec![self.comment(&format!("# {text}"), line)]
    }

    /// A key as the table holds it: hooks and streams are tables, a dot elsewhere is a part of the key.
    fn key(&self, section: &str, key: &str) -> String {
        if let Some((head, tail)) = key.split_once('.')
            && matches!(head, "hooks" | "stdout_stream" | "stderr_stream")
            && holds_options(section)
            && shown_key(tail) == tail
            && !self
                .ini
                .sections()
                .get(section)
                .is_some_and(|keys| keys.contains_key(head))
        {
            return key.to_owned();
        }
        shown_key(key)
    }

    /// A comment line, or what stands behind a value, as TOML writes it.
    fn comment(&mut self, text: &str, line: usize) -> String {
        let text = text.trim_end_matches(super::super::pytext::is_space);
        let written = match text.strip_prefix(';') {
            Some(rest) => format!("#{rest}"),
            None if text.starts_with('#') => text.to_owned(),
            None => format!("# {text}"),
        };
        let clean = one_line(&written);
        if clean != written {
            self.notes.add(
                line,
                format!(
                    "the comment {} holds characters that TOML does not allow; they were replaced",
                    quoted(text)
                ),
            );
        }
        clean
    }
}

/// The text without characters that may not stand in a TOML comment.
fn one_line(text: &str) -> String {
    let forbidden = |c: char| c != '\t' && c.is_ascii_control();
    text.replace(forbidden, " ")
}
