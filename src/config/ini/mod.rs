//! circus.ini as a text that is never lost: every byte of the file is kept, and on top of it stands
//! the reading that Circus's own parser has of it.
//!
//! Source of the dialect: `circus.util.StrictConfigParser` of circus 0.19.0 on top of the
//! `configparser.RawConfigParser` of Python 3.11, and Python's text mode (UTF-8, universal newlines).
//! It differs from every other ini dialect:
//!
//! * a comment is a line with `#` or `;` in its first column, or whose first word is `rem`;
//! * a line that starts with white space continues the value before it, also after blank lines and
//!   comments, and is joined with a line feed; directly after a header it is an option whose
//!   name starts with white space;
//! * a section that comes again goes on where it stopped, a key that comes again is ignored, but
//!   lines that continue the ignored one are added to the value that counts;
//! * the first `=` or `:` ends the key; ` ;` starts a comment only if the first `;` of the value
//!   follows white space (a `;` at the start of the value counts if the line ends in white space);
//! * `""` is the empty value; a header ends at the last `]` of its line.
//!
//! This file is pure: it reads and writes no file.

mod edit;
mod layout;

use std::fmt;

use indexmap::IndexMap;

use super::document::{DEFAULT_SECTION, Entries, Entry, NAME_KEY, not_utf8};
use super::error::{ConfigError, Problem, ProblemKind, quoted};
use super::pytext::{is_space, strip, words};

/// One line of the file: its text and the line break that was really there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub text: String,
    pub eol: &'static str,
}

/// What a line is to the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Blank,
    Comment,
    Header(String),
    /// An option line. `counts` is false for a repetition, which the reader ignores.
    Option {
        section: String,
        key: String,
        counts: bool,
    },
    /// A line that continues the value of `section`.`key`.
    Continuation {
        section: String,
        key: String,
    },
}

/// Where the parts of an option line stand, as byte offsets into its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OptionSpan {
    /// The key is `text[..key_end]`.
    pub key_end: usize,
    /// The separator with the white space around it is `text[key_end..value_start]`.
    pub value_start: usize,
    /// The value is `text[value_start..value_end]`.
    pub value_end: usize,
    /// Where the `;` of an inline comment stands.
    pub comment: Option<usize>,
}

/// A circus.ini file: its bytes and its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IniDocument {
    name: String,
    pub(super) lines: Vec<Line>,
    pub(super) kinds: Vec<Kind>,
    pub(super) sections: IndexMap<String, Entries>,
}

impl IniDocument {
    /// Reads the bytes of a file; `name` is what errors call it.
    ///
    /// # Errors
    /// Every line that Circus's parser would refuse, all at once.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, ConfigError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let upto = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let ends_line = upto.is_empty() || upto.ends_with(['\n', '\r']);
            let line = split_lines(&upto).len() + usize::from(ends_line);
            not_utf8(bytes, &error, name).at(line)
        })?;
        Self::from_lines(split_lines(text), name)
    }

    /// An empty document, to be filled with [`IniDocument::add_section`].
    pub fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            lines: Vec::new(),
            kinds: Vec::new(),
            sections: IndexMap::new(),
        }
    }

    pub(super) fn from_lines(lines: Vec<Line>, name: &str) -> Result<Self, ConfigError> {
        let reading = Reader::new(name).read(&lines)?;
        Ok(Self {
            name: name.to_owned(),
            lines,
            kinds: reading.kinds,
            sections: reading
                .sections
                .into_iter()
                .map(|(section, keys)| (section, join_values(keys)))
                .collect(),
        })
    }

    /// What errors call this file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sections in the order of their first headers.
    pub fn sections(&self) -> &IndexMap<String, Entries> {
        &self.sections
    }

    /// The value that counts.
    pub fn get(&self, section: &str, key: &str) -> Option<&str> {
        let entry = self.sections.get(section)?.get(key)?;
        Some(&entry.value)
    }

    /// Every header with its line (from 1).
    pub fn headers(&self) -> impl DoubleEndedIterator<Item = (usize, &str)> {
        self.kinds
            .iter()
            .enumerate()
            .filter_map(|(at, kind)| match kind {
                Kind::Header(name) => Some((at + 1, name.as_str())),
                _ => None,
            })
    }
}

/// The file's text; byte for byte what was parsed if nothing was edited.
impl fmt::Display for IniDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            f.write_str(&line.text)?;
            f.write_str(line.eol)?;
        }
        Ok(())
    }
}

/// Cuts a text at `\n`, `\r\n` and `\r`, as Python's universal newlines do, and keeps which it was.
pub(super) fn split_lines(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\n', '\r']) {
        let eol = match &rest[at..] {
            tail if tail.starts_with("\r\n") => "\r\n",
            tail if tail.starts_with('\r') => "\r",
            _ => "\n",
        };
        lines.push(Line {
            text: rest[..at].to_owned(),
            eol,
        });
        rest = &rest[at + eol.len()..];
    }
    if !rest.is_empty() {
        lines.push(Line {
            text: rest.to_owned(),
            eol: "",
        });
    }
    lines
}

/// The name in a section header, or `None` if the line is not one.
pub(super) fn header_name(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let name = &inner[..inner.rfind(']')?];
    (!name.is_empty()).then_some(name)
}

/// The parts of an option line, or `None` if it has no separator.
pub(super) fn option_span(text: &str) -> Option<OptionSpan> {
    let separator = text.find(['=', ':'])?;
    let key_end = text[..separator].trim_end_matches(is_space).len();
    let value_start = text.len() - text[separator + 1..].trim_start_matches(is_space).len();
    let raw = &text[value_start..];
    let comment = raw.find(';').filter(|&at| {
        // At the start of the value Python's index -1 looks at the last character of the line.
        let before = raw[..at].chars().next_back().or(raw.chars().next_back());
        before.is_some_and(is_space)
    });
    let value = &raw[..comment.unwrap_or(raw.len())];
    Some(OptionSpan {
        key_end,
        value_start,
        value_end: value_start + value.trim_end_matches(is_space).len(),
        comment: comment.map(|at| value_start + at),
    })
}

/// The value on an option line as the reader takes it.
pub(super) fn option_value<'a>(text: &'a str, span: &OptionSpan) -> &'a str {
    match &text[span.value_start..span.value_end] {
        "\"\"" => "",
        value => value,
    }
}

pub(super) fn is_comment(text: &str) -> bool {
    text.starts_with(['#', ';'])
        || (text.starts_with(['r', 'R'])
            && words(text)
                .next()
                .is_some_and(|word| word.eq_ignore_ascii_case("rem")))
}

/// A value while it is being collected: its pieces, and where it and its first continuation stand.
struct Collected {
    pieces: Vec<String>,
    line: usize,
    continued_at: Option<usize>,
}

fn join_values(keys: IndexMap<String, Collected>) -> Entries {
    keys.into_iter()
        .map(|(key, collected)| {
            let entry = Entry {
                value: collected.pieces.join("\n"),
                line: collected.line,
                continued_at: collected.continued_at,
            };
            (key, entry)
        })
        .collect()
}

/// The reader's state between two lines.
struct Reader<'a> {
    name: &'a str,
    kinds: Vec<Kind>,
    sections: IndexMap<String, IndexMap<String, Collected>>,
    section: Option<String>,
    /// The key that a continuation line continues.
    key: Option<String>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn new(name: &'a str) -> Self {
        Self {
            name,
            kinds: Vec::new(),
            sections: IndexMap::new(),
            section: None,
            key: None,
            problems: Vec::new(),
        }
    }

    fn read(mut self, lines: &[Line]) -> Result<Self, ConfigError> {
        let mut headless = false;
        for (at, line) in lines.iter().enumerate() {
            let text = line.text.as_str();
            let kind = if strip(text).is_empty() {
                Kind::Blank
            } else if is_comment(text) {
                Kind::Comment
            } else if let (true, Some(section), Some(key)) =
                (text.starts_with(is_space), &self.section, &self.key)
            {
                let (section, key) = (section.clone(), key.clone());
                self.continuation(section, key, strip(text), at + 1)
            } else if let Some(name) = header_name(text) {
                self.sections.entry(name.to_owned()).or_default();
                self.section = Some(name.to_owned());
                self.key = None;
                Kind::Header(name.to_owned())
            } else if let Some(section) = self.section.clone() {
                self.option(section, text, at + 1)
            } else {
                // One complaint is enough: whatever follows before a header has the same cause.
                if !headless {
                    self.complain(at + 1, before_header(text));
                }
                headless = true;
                Kind::Blank
            };
            self.kinds.push(kind);
        }
        ConfigError::check(std::mem::take(&mut self.problems))?;
        Ok(self)
    }

    fn continuation(&mut self, section: String, key: String, text: &str, line: usize) -> Kind {
        match self
            .sections
            .get_mut(&section)
            .and_then(|keys| keys.get_mut(&key))
        {
            Some(collected) => {
                collected.pieces.push(text.to_owned());
                collected.continued_at.get_or_insert(line);
            }
            None => self.complain(
                line,
                format!(
                    "{} continues the key {NAME_KEY}, which Circus sets itself; remove the key \
                     and this line",
                    quoted(text)
                ),
            ),
        }
        Kind::Continuation { section, key }
    }

    fn option(&mut self, section: String, text: &str, line: usize) -> Kind {
        let Some(span) = option_span(text) else {
            self.complain(
                line,
                format!(
                    "{} is neither `key = value` nor `[section]` nor a comment (`#` or `;` in the \
                     first column)",
                    quoted(text)
                ),
            );
            return Kind::Blank;
        };
        let key = text[..span.key_end].to_owned();
        // An empty key is a key, but nothing can continue it.
        self.key = (!key.is_empty()).then(|| key.clone());
        let keys = self.sections.entry(section.clone()).or_default();
        let own_name = key == NAME_KEY && section != DEFAULT_SECTION;
        let counts = !own_name && !keys.contains_key(&key);
        if counts {
            keys.insert(
                key.clone(),
                Collected {
                    pieces: vec![option_value(text, &span).to_owned()],
                    line,
                    continued_at: None,
                },
            );
        }
        Kind::Option {
            section,
            key,
            counts,
        }
    }

    fn complain(&mut self, line: usize, what: String) {
        self.problems
            .push(Problem::new(ProblemKind::Syntax, self.name, what).at(line));
    }
}

fn before_header(text: &str) -> String {
    if text.starts_with('\u{feff}') {
        return "a byte order mark stands before the first line, which Circus cannot read; save the \
                file as UTF-8 without it"
            .to_owned();
    }
    format!(
        "{} stands before the first section; expected a header like [circus] or [watcher:NAME]",
        quoted(text)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> IniDocument {
        IniDocument::parse(text.as_bytes(), "t.ini").unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_dialect_in_small() {
        let text = "# c\n[a]\nk = v ; note\nurl = x;y\nempty = \"\"\nlong = one\n\n  two\n# c\n\tthree\n\
                    k : again\n  more\n[b] ; ]\n lead = 1\nREM x\n[a]\nlate=2\n";
        let document = read(text);
        let got = |section, key| document.get(section, key);
        assert_eq!(got("a", "k"), Some("v\nmore"));
        assert_eq!(got("a", "url"), Some("x;y"));
        assert_eq!(got("a", "empty"), Some(""));
        assert_eq!(got("a", "long"), Some("one\ntwo\nthree"));
        assert_eq!(got("a", "late"), Some("2"));
        assert_eq!(got("b] ; ", "lead"), None);
        assert_eq!(got("b] ; ", " lead"), Some("1"));
        assert_eq!(document.sections["a"]["k"].line, 3);
        assert_eq!(document.to_string(), text);
    }

    #[test]
    fn bytes_survive() {
        for text in [
            "",
            "\n",
            "[a]",
            "[a]\r\nk=v\rx = 1 \t\n\n",
            "[a]\n\tk\t=\tv\t\n;x",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
    }

    #[test]
    fn every_bad_line_is_named() {
        let parse = |bytes: &[u8]| match IniDocument::parse(bytes, "t.ini") {
            Ok(_) => panic!("{bytes:?} was accepted"),
            Err(error) => error.to_string(),
        };
        let both = parse(b"[a]\nnonsense\nk = 1\nmore nonsense\n");
        assert!(both.contains("t.ini:2: \"nonsense\""), "{both}");
        assert!(both.contains("t.ini:4: \"more nonsense\""), "{both}");
        assert!(
            parse(b"k = 1\n[a]\n")
                .starts_with("t.ini:1: \"k = 1\" stands before the first section")
        );
        assert!(parse(b"\xef\xbb\xbf[a]\n").contains("byte order mark"));
        assert!(parse(b"[a]\nk = \xff\n").starts_with("t.ini:2: byte 0xff is not UTF-8"));
        assert!(parse(b"[a]\n__name__ = b\n  c\n").starts_with("t.ini:3:"));
    }
}
