//! circus.toml to circus.ini.

use indexmap::IndexMap;

use super::super::document::{DEFAULT_SECTION, Format};
use super::super::error::ConfigError;
use super::super::ini::IniDocument;
use super::super::pytext;
use super::super::toml::{TomlDocument, canonical};
use super::semicolon::respelled;
use super::{Converted, Notes, Values, proven};
use crate::options::to_bool;

pub(super) fn convert(bytes: &[u8], name: &str) -> Result<Converted, ConfigError> {
    let toml = TomlDocument::parse(bytes, name)?;
    let mut writer = Writer {
        toml: &toml,
        blocks: IndexMap::new(),
        wanted: Values::new(),
        notes: Notes::default(),
    };
    let rest = writer.lines();
    let order = writer.order();
    let mut lines: Vec<String> = Vec::new();
    for section in order {
        let Some(block) = writer.blocks.shift_remove(&section) else {
            continue;
        };
        lines.extend(block.lead);
        lines.push(block.header);
        lines.extend(block.body);
    }
    lines.extend(rest);
    let eol = toml.usual_eol();
    let text: String = lines
        .iter()
        .flat_map(|line| [line.replace('\n', eol), eol.to_owned()])
        .collect();
    proven(text, Format::Ini, name, &writer.wanted, writer.notes)
}

/// A section of the result.
#[derive(Default)]
struct Block {
    /// The lines above its header.
    lead: Vec<String>,
    header: String,
    body: Vec<String>,
}

struct Writer<'a> {
    toml: &'a TomlDocument,
    blocks: IndexMap<String, Block>,
    /// What the result must say.
    wanted: Values,
    notes: Notes,
}

impl Writer<'_> {
    /// Writes all blocks, and answers what stands below the last one.
    fn lines(&mut self) -> Vec<String> {
        let text = self.toml.text();
        let mut pending: Vec<String> = Vec::new();
        let mut at = if text.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        let parts = self.toml.parts();
        let mut parts = parts.iter().peekable();
        while at < text.len() {
            if let Some(part) = parts.next_if(|part| part.lines.start <= at) {
                let comments = comments_in(&text[part.lines.clone()]);
                if part.keys.is_empty() {
                    // A header: what stands behind it comes below it, where nothing is read into the header.
                    self.enter(&part.section, &mut pending, part.number);
                    self.body(&part.section).extend(comments);
                } else {
                    self.keys(
                        &part.section,
                        &part.keys,
                        comments,
                        &mut pending,
                        part.number,
                    );
                }
                at = part.lines.end.max(at + 1);
                continue;
            }
            let end = self.toml.line_end(at);
            let line = text[at..end].trim();
            if line.is_empty() {
                pending.push(String::new());
            } else if line.starts_with('#') {
                pending.push(line.to_owned());
            } else {
                // A header that only leads on, such as [watcher], or a key for editors.
                pending.extend(comments_in(line));
                if line.contains("$schema") {
                    let number = text[..at].matches('\n').count() + 1;
                    self.notes.add(
                        number,
                        "$schema is for editors of TOML; it was left out".to_owned(),
                    );
                }
            }
            at = end;
        }
        pending
    }

    fn body(&mut self, section: &str) -> &mut Vec<String> {
        &mut self.blocks.entry(section.to_owned()).or_default().body
    }

    /// Makes the section's block if it is not there yet; what stood above goes with it.
    fn enter(&mut self, section: &str, pending: &mut Vec<String>, line: usize) {
        if let Some(block) = self.blocks.get_mut(section) {
            block.body.append(pending);
            return;
        }
        let header = match scratch(section, None) {
            Ok(_) => {
                self.wanted.entry(section.to_owned()).or_default();
                format!("[{section}]")
            }
            Err(_) => {
                self.notes.add(
                    line,
                    format!("{section:?} cannot be the name of a section in circus.ini; it was made a comment with its keys"),
                );
                format!("# [{}]", section.escape_debug())
            }
        };
        let block = self.blocks.entry(section.to_owned()).or_default();
        block.lead.append(pending);
        block.header = header;
    }

    fn keys(
        &mut self,
        section: &str,
        keys: &[(String, String)],
        comments: Vec<String>,
        pending: &mut Vec<String>,
        line: usize,
    ) {
        // What stands behind or inside a value that becomes several lines goes above them.
        let single = match keys {
            [(of, _)] if comments.len() == 1 && of == section => comments.first().cloned(),
            _ => None,
        };
        if single.is_none() {
            pending.extend(comments);
        }
        for (section, key) in keys {
            // A section that begins without a header of its own stands apart.
            if !self.blocks.contains_key(section)
                && !self.blocks.is_empty()
                && pending.first().is_none_or(|first| !first.is_empty())
            {
                pending.insert(0, String::new());
            }
            self.enter(section, pending, line);
            let written = self.option(section, key, single.as_deref(), line);
            self.body(section).extend(written);
        }
    }

    fn option(
        &mut self,
        section: &str,
        key: &str,
        comment: Option<&str>,
        line: usize,
    ) -> Vec<String> {
        let Some(entry) = self
            .toml
            .sections()
            .get(section)
            .and_then(|keys| keys.get(key))
        else {
            return Vec::new();
        };
        let mut value = entry.value.clone();
        let mut written = if self.wanted.contains_key(section) {
            scratch(section, Some((key, &value)))
        } else {
            Err("its section cannot be written".to_owned())
        };
        if let Err(why) = &written
            && let Some(spelled) = self.without_comment_sign(section, key, &value)
            && let Ok(line_of) = scratch(section, Some((key, &spelled)))
        {
            self.notes.add(
                line,
                format!("[{section}] {key}: {why}; it is spelled {spelled:?} now, which is cut into the same words"),
            );
            written = Ok(line_of);
            value = spelled;
        }
        let value = value.as_str();
        let written = match written {
            Ok(written) => written,
            Err(why) => {
                self.notes.add(
                    line,
                    format!("[{section}] {key}: {why}; it was made a comment"),
                );
                let mut lines: Vec<String> = comment.map(str::to_owned).into_iter().collect();
                lines.push(format!(
                    "# {} = {}",
                    key.escape_debug(),
                    value.escape_debug()
                ));
                return lines;
            }
        };
        if section == "circus" && matches!(key, "include" | "include_dir") {
            self.note_includes(key, value, line);
        }
        self.wanted
            .entry(section.to_owned())
            .or_default()
            .insert(key.to_owned(), canonical(section, key, value));
        match comment {
            None => vec![written],
            Some(comment) => {
                let inline = format!("{written} ;{}", &comment[1..]);
                if !written.contains('\n') && reads(section, &inline, key, value) {
                    vec![inline]
                } else {
                    vec![comment.to_owned(), written]
                }
            }
        }
    }

    /// Another spelling of a command line that holds what would be the start of a comment.
    fn without_comment_sign(&self, section: &str, key: &str, value: &str) -> Option<String> {
        if !section.starts_with("watcher:") || !matches!(key, "cmd" | "args") {
            return None;
        }
        let sections = self.toml.sections();
        let shell = [section, DEFAULT_SECTION]
            .iter()
            .find_map(|section| sections.get(*section)?.get("shell"));
        let shell = shell
            .map_or(Ok(false), |entry| to_bool(&entry.value))
            .ok()?;
        respelled(value, shell)
    }

    fn note_includes(&mut self, key: &str, value: &str, line: usize) {
        if key == "include" && pytext::words(value).any(|word| Format::of(word) == Format::Toml) {
            let what = "include names a circus.toml, which circ reads and Circus does not";
            self.notes.add(line, what.to_owned());
        }
        let mut own = self.toml.sections().keys();
        if let Some(section) = own.find(|section| self.toml.is_of_watcher(section)) {
            let what = format!(
                "{key}: the variables of [{section}] came after those of all files; now an [env:PATTERN] of an included \
                 file comes after them"
            );
            self.notes.add(line, what);
        }
        if key == "include_dir" {
            let what = "of the directories of include_dir a circus.ini reads the *.ini files, and no *.toml any more";
            self.notes.add(line, what.to_owned());
        }
    }

    /// The sections in the order of the result: variables that stand with their watcher come after every pattern.
    fn order(&self) -> Vec<String> {
        let is_pattern =
            |section: &&String| section.starts_with("env:") && !self.toml.is_of_watcher(section);
        let last_pattern = self.blocks.keys().rposition(|section| is_pattern(&section));
        let (mut order, mut last) = (Vec::new(), Vec::new());
        for (place, section) in self.blocks.keys().enumerate() {
            let early = last_pattern.is_some_and(|pattern| place < pattern);
            if early && self.toml.is_of_watcher(section) {
                last.push(section.clone());
            } else {
                order.push(section.clone());
            }
        }
        // DEFAULT is no section of its own, and stands for itself anywhere.
        debug_assert!(!last.iter().any(|section| section == DEFAULT_SECTION));
        order.extend(last);
        order
    }
}

/// A key as circus.ini writes it, or why it cannot.
fn scratch(section: &str, option: Option<(&str, &str)>) -> Result<String, String> {
    let mut document = IniDocument::empty("");
    let options: Vec<(&str, &str)> = option.into_iter().collect();
    document.add_section(section, &options).map_err(|error| {
        let problem = error.problems.into_iter().next();
        problem.map_or_else(String::new, |problem| problem.what)
    })?;
    let text = document.to_string();
    let below = text.split_once('\n').map_or("", |(_, below)| below);
    let below = below.trim_end_matches('\n');
    match option {
        None => Ok(String::new()),
        Some((key, value)) if reads(section, below, key, value) => Ok(below.to_owned()),
        // A key without a name must not begin with the space before its separator.
        Some(("", value)) if reads(section, below.trim_start(), "", value) => {
            Ok(below.trim_start().to_owned())
        }
        Some((key, _)) => Err(format!("{key:?} cannot be a key in circus.ini")),
    }
}

/// Does this line, below another one, say that?
fn reads(section: &str, line: &str, key: &str, value: &str) -> bool {
    let other = if key == "a" { "b" } else { "a" };
    let text = format!("[{section}]\n{other} = 1\n{line}\n");
    IniDocument::parse(text.as_bytes(), "").is_ok_and(|read| {
        let keys = read.sections().get(section);
        keys.is_some_and(|keys| keys.len() == 2)
            && read.get(section, other) == Some("1")
            && read.get(section, key) == Some(value)
    })
}

/// The comments in a piece of TOML.
fn comments_in(text: &str) -> Vec<String> {
    let mut comments = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['#', '"', '\'']) {
        rest = &rest[at..];
        let length = if rest.starts_with('#') {
            let end = rest.find('\n').unwrap_or(rest.len());
            comments.push(rest[..end].trim_end().to_owned());
            end
        } else {
            quotation(rest)
        };
        rest = &rest[length..];
    }
    comments
}

/// How long the text in quotes is that stands here.
fn quotation(text: &str) -> usize {
    let escapes = text.starts_with('"');
    let quotes = ["\"\"\"", "'''", "\"", "'"]
        .into_iter()
        .find(|quotes| text.starts_with(quotes))
        .unwrap_or("\"");
    let mut at = quotes.len();
    while at < text.len() {
        let rest = &text[at..];
        if escapes && rest.starts_with('\\') {
            at += 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
        } else if rest.starts_with(quotes) {
            at += quotes.len();
            // Up to two quotes more belong to a text over several lines.
            if quotes.len() == 3 {
                at += text[at..]
                    .chars()
                    .take(2)
                    .take_while(|c| quotes.starts_with(*c))
                    .count();
            }
            return at;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}
