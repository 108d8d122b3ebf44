//! Editing a circus.ini in place. An edit touches the line that counts and nothing else, and it is
//! proven before it is done: the edited text is read again, and unless the reader finds exactly the
//! intended values in every section the document stays as it was.

use indexmap::IndexMap;

use super::super::document::Entries;
use super::super::error::{ConfigError, Problem, ProblemKind, quoted, value_named};
use super::super::pytext::is_space;
use super::{IniDocument, Kind, Line, header_name, option_span};

/// Every section's values, as they are to be read after an edit.
type Values = IndexMap<String, IndexMap<String, String>>;

impl IniDocument {
    /// Gives `key` the value `value`. The occurrence that counts is replaced together with the lines
    /// that continue it; its separator, inline comment and line break stay. A key that the section
    /// lacks is put after the section's last one. Returns whether the document changed.
    ///
    /// # Errors
    /// No such section, or the dialect cannot express this key or value (for instance ` ;` inside).
    pub fn set(&mut self, section: &str, key: &str, value: &str) -> Result<bool, ConfigError> {
        if !self.sections.contains_key(section) {
            return Err(self
                .refusal(format!(
                    "there is no section [{section}] to set {key} in; add the section first"
                ))
                .into());
        }
        if self.get(section, key) == Some(value) {
            return Ok(false);
        }
        let mut wanted = self.values();
        wanted
            .entry(section.to_owned())
            .or_default()
            .insert(key.to_owned(), value.to_owned());
        let candidates = match self.sections.get(section).and_then(|keys| keys.get(key)) {
            Some(entry) => self.replacements(section, key, value, entry.line - 1),
            None => self.additions(section, key, value),
        };
        for candidate in candidates {
            if self.adopt(candidate, &wanted) {
                return Ok(true);
            }
        }
        Err(self
            .refusal(inexpressible(section, key, value))
            .section(section)
            .key(key)
            .into())
    }

    /// Removes every occurrence of `key`, with the lines that continue it. Returns whether there was
    /// one.
    ///
    /// # Errors
    /// Only if the rest of the file would read differently: an indented key below a key without a
    /// name would become part of the value above.
    pub fn unset(&mut self, section: &str, key: &str) -> Result<bool, ConfigError> {
        if self.get(section, key).is_none() {
            return Ok(false);
        }
        let mut wanted = self.values();
        if let Some(keys) = wanted.get_mut(section) {
            keys.shift_remove(key);
        }
        let belongs = |kind: &Kind| match kind {
            Kind::Option {
                section: s, key: k, ..
            }
            | Kind::Continuation { section: s, key: k } => s == section && k == key,
            _ => false,
        };
        let kept = self
            .lines
            .iter()
            .zip(&self.kinds)
            .filter(|(_, kind)| !belongs(kind))
            .map(|(line, _)| line.clone())
            .collect();
        self.must_adopt(kept, &wanted, || format!("cannot remove {key}"))
    }

    /// Adds a section with its keys after the last section of the same kind (`watcher:`, `socket:`
    /// …), or at the end of the file.
    ///
    /// # Errors
    /// The section exists, or the dialect cannot express a name, key or value.
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
            keys.insert((*key).to_owned(), (*value).to_owned());
        }
        let eol = self.usual_eol();
        let plain = |text: String| Line { text, eol };
        let at = self.place_for(section);
        let mut block = Vec::new();
        if at > 0 && self.kinds.get(at - 1) != Some(&Kind::Blank) {
            block.push(plain(String::new()));
        }
        block.push(plain(format!("[{section}]")));
        for (key, value) in options {
            let prefix = if value.is_empty() || value.starts_with('\n') {
                format!("{key} =")
            } else {
                format!("{key} = ")
            };
            block.extend(value_lines(&prefix, value, "", "    ", eol));
        }
        if self.kinds.get(at).is_some_and(|kind| *kind != Kind::Blank) {
            block.push(plain(String::new()));
        }
        let mut lines = self.lines.clone();
        lines.splice(at..at, block);
        self.must_adopt(lines, &wanted, || {
            options
                .iter()
                .find(|(_, value)| !expressible(value))
                .map_or_else(
                    || format!("a section [{section}] with these keys cannot be written"),
                    |(key, value)| inexpressible(section, key, value),
                )
        })?;
        Ok(())
    }

    /// Removes every part of a section, from its header to its last key. Comments around it stay.
    /// Returns whether there was one.
    ///
    /// # Errors
    /// Only if the rest of the file would read differently, which no file is known to do.
    pub fn remove_section(&mut self, section: &str) -> Result<bool, ConfigError> {
        if !self.sections.contains_key(section) {
            return Ok(false);
        }
        let mut wanted = self.values();
        wanted.shift_remove(section);
        let mut gone = vec![false; self.lines.len()];
        for header in self.headers_of(|name| name == section) {
            let end = self.content_end(header);
            gone[header..end].fill(true);
            // Of the blank lines on both sides, one side is enough.
            let blank = |at: usize| self.kinds.get(at) == Some(&Kind::Blank);
            if blank(end) && (header == 0 || blank(header - 1)) {
                gone[end] = true;
            }
            // Nothing comes after it that would need to be set off.
            if end == self.lines.len() && header > 0 && blank(header - 1) {
                gone[header - 1] = true;
            }
        }
        let mut keep = gone.iter().map(|gone| !gone);
        let mut lines = self.lines.clone();
        lines.retain(|_| keep.next().unwrap_or(true));
        self.must_adopt(lines, &wanted, || format!("cannot remove [{section}]"))
    }

    fn refusal(&self, what: String) -> Problem {
        Problem::new(ProblemKind::Edit, self.name(), what)
    }

    fn values(&self) -> Values {
        let text = |keys: &Entries| {
            keys.iter()
                .map(|(key, entry)| (key.clone(), entry.value.clone()))
                .collect()
        };
        self.sections
            .iter()
            .map(|(section, keys)| (section.clone(), text(keys)))
            .collect()
    }

    /// Takes the new lines over if they read as intended.
    fn adopt(&mut self, mut lines: Vec<Line>, wanted: &Values) -> bool {
        let ended = self.lines.last().is_none_or(|line| !line.eol.is_empty());
        let eol = self.usual_eol();
        for line in &mut lines {
            if line.eol.is_empty() {
                line.eol = eol;
            }
        }
        if let (false, Some(last)) = (ended, lines.last_mut()) {
            last.eol = "";
        }
        let text: String = lines
            .iter()
            .flat_map(|line| [line.text.as_str(), line.eol])
            .collect();
        match Self::parse(text.as_bytes(), self.name()) {
            Ok(edited) if edited.values() == *wanted => {
                *self = edited;
                true
            }
            _ => false,
        }
    }

    fn must_adopt(
        &mut self,
        lines: Vec<Line>,
        wanted: &Values,
        why_not: impl Fn() -> String,
    ) -> Result<bool, ConfigError> {
        if self.adopt(lines, wanted) {
            Ok(true)
        } else {
            Err(self.refusal(why_not()).into())
        }
    }

    /// The ways to write a new value over the one on line `at` (from 0), the most faithful first.
    fn replacements(&self, section: &str, key: &str, value: &str, at: usize) -> Vec<Vec<Line>> {
        let Some(span) = self.lines.get(at).and_then(|l| option_span(&l.text)) else {
            return Vec::new();
        };
        let line = &self.lines[at];
        let eol = if line.eol.is_empty() {
            self.usual_eol()
        } else {
            line.eol
        };
        let continues = |kind: &Kind| matches!(kind, Kind::Continuation { section: s, key: k } if s == section && k == key);
        let indent = self
            .kinds
            .iter()
            .position(continues)
            .map_or("    ", |first| {
                let text = &self.lines[first].text;
                &text[..text.len() - text.trim_start_matches(is_space).len()]
            });
        let mut prefix = line.text[..span.value_start].to_owned();
        // "key =" was written with space around the separator that only the empty value hid.
        if span.value_start == line.text.len()
            && prefix.ends_with(['=', ':'])
            && prefix[..prefix.len() - 1].ends_with(' ')
        {
            prefix.push(' ');
        }
        let tail = &line.text[span.value_end..];
        let spaced_tail = if span.comment.is_some() && !tail.starts_with(is_space) {
            format!(" {tail}")
        } else {
            tail.to_owned()
        };
        let comment = span.comment.map(|from| &line.text[from..]);
        let mut spellings = vec![value];
        if value.is_empty() {
            spellings.push("\"\"");
        }
        let mut ways = Vec::new();
        for keep_tail in [true, false] {
            for spelling in &spellings {
                let mut block = Vec::new();
                let bare_prefix;
                let (prefix, tail) = if keep_tail && !(spelling.is_empty() && comment.is_none()) {
                    (prefix.as_str(), spaced_tail.as_str())
                } else {
                    // The comment cannot stay behind this value, so it goes above it.
                    if let Some(text) = comment {
                        block.push(Line {
                            text: text.to_owned(),
                            eol,
                        });
                    }
                    bare_prefix = prefix.trim_end_matches(is_space);
                    let bare = spelling.is_empty() || spelling.starts_with('\n');
                    (if bare { bare_prefix } else { prefix.as_str() }, "")
                };
                block.extend(value_lines(prefix, spelling, tail, indent, eol));
                let mut lines = Vec::new();
                for (number, (old, kind)) in self.lines.iter().zip(&self.kinds).enumerate() {
                    if number == at {
                        lines.append(&mut block);
                    } else if !continues(kind) {
                        lines.push(old.clone());
                    }
                }
                ways.push(lines);
            }
        }
        ways
    }

    /// The ways to add a key to a section that has it not.
    fn additions(&self, section: &str, key: &str, value: &str) -> Vec<Vec<Line>> {
        let of_section = |kind: &Kind| matches!(kind, Kind::Option { section: s, .. } | Kind::Continuation { section: s, .. } if s == section);
        let last = self.kinds.iter().rposition(of_section);
        let Some(after) = last.or_else(|| self.headers_of(|name| name == section).next()) else {
            return Vec::new();
        };
        let neighbour = &self.lines[after];
        let eol = if neighbour.eol.is_empty() {
            self.usual_eol()
        } else {
            neighbour.eol
        };
        let mut ways = Vec::new();
        for separator in [self.separator_style(section), " = "] {
            let bare = value.is_empty() || value.starts_with('\n');
            let separator = if bare {
                separator.trim_end()
            } else {
                separator
            };
            let mut lines = self.lines.clone();
            // The neighbour may be the file's last line and have no break of its own.
            lines[after].eol = eol;
            let block = value_lines(&format!("{key}{separator}"), value, "", "    ", eol);
            lines.splice(after + 1..after + 1, block);
            ways.push(lines);
        }
        ways
    }
}

/// The lines of one option: the first behind `prefix` and before `tail`, the others indented.
fn value_lines(
    prefix: &str,
    value: &str,
    tail: &str,
    indent: &str,
    eol: &'static str,
) -> Vec<Line> {
    let mut pieces = value.split('\n');
    let first = pieces.next().unwrap_or_default();
    let mut lines = vec![Line {
        text: format!("{prefix}{first}{tail}"),
        eol,
    }];
    lines.extend(pieces.map(|piece| Line {
        text: format!("{indent}{piece}"),
        eol,
    }));
    lines
}

/// Can a fresh line carry this value?
fn expressible(value: &str) -> bool {
    let mut document = IniDocument::empty("");
    document
        .add_section("section", &[])
        .and_then(|()| document.set("section", "key", value))
        .is_ok()
}

/// Why a key or value cannot be written.
fn inexpressible(section: &str, key: &str, value: &str) -> String {
    let why = if option_span(&format!("{key}=")).map(|span| span.key_end) != Some(key.len())
        || header_name(&format!("{key}=")).is_some()
        || key.starts_with(is_space)
        || key.starts_with(['#', ';'])
        || key.contains(['\n', '\r'])
    {
        return format!("{} cannot be a key in circus.ini", quoted(key));
    } else if value.contains('\r') {
        "a carriage return always ends a line"
    } else if value.contains('\n') && value.split('\n').skip(1).any(|piece| piece.is_empty()) {
        "an empty line inside a value is not read"
    } else if value.split('\n').any(|p| p.trim_matches(is_space) != p) {
        "white space around a value or around one of its lines is not read"
    } else if value.starts_with("\"\"") {
        "`\"\"` is read as the empty value"
    } else if value.contains(';') {
        "` ;` starts a comment; write it without the space before"
    } else {
        "the file's dialect has no spelling for it here"
    };
    format!("{} cannot be written: {why}", value_named(section, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> IniDocument {
        IniDocument::parse(text.as_bytes(), "t.ini").unwrap_or_else(|error| panic!("{error}"))
    }

    fn after_set(text: &str, key: &str, value: &str) -> String {
        let mut document = read(text);
        match document.set("a", key, value) {
            Ok(_) => document.to_string(),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn set_touches_the_value_that_counts() {
        for (text, value, want) in [
            (
                "[a]\nk  =  1 ; why\nx = y\n",
                "2",
                "[a]\nk  =  2 ; why\nx = y\n",
            ),
            ("[a]\r\nk=1\r\n", "2", "[a]\r\nk=2\r\n"),
            ("[a]\nk = 1", "2", "[a]\nk = 2"),
            (
                "[a]\nk = 1\n  2\n\n# c\n  3\nx = y\n",
                "4",
                "[a]\nk = 4\n\n# c\nx = y\n",
            ),
            ("[a]\nk = 1\n\t2\n", "4\n5", "[a]\nk = 4\n\t5\n"),
            (
                "[a]\nk = 1\nk = 0\n  9\n[a]\nk = 7\n",
                "2",
                "[a]\nk = 2\nk = 0\n[a]\nk = 7\n",
            ),
            ("[a]\nk = 1 ; why\n", "x;y", "[a]\n; why\nk = x;y\n"),
            ("[a]\nk = 1 ; why\n", "", "[a]\nk = \"\" ; why\n"),
            ("[a]\nk =\n", "v", "[a]\nk = v\n"),
            ("[a]\nk = v\n", "", "[a]\nk =\n"),
            ("[a]\nk = v\n", "v", "[a]\nk = v\n"),
            ("[a]\nk = 1\n  2", "3", "[a]\nk = 3"),
        ] {
            assert_eq!(after_set(text, "k", value), want, "{text:?} := {value:?}");
        }
    }

    #[test]
    fn a_new_key_comes_after_the_last_one() {
        for (text, want) in [
            (
                "[a]\nx=1\n  2\n\n# c\n[b]\n",
                "[a]\nx=1\n  2\nk=v\n\n# c\n[b]\n",
            ),
            ("[a]", "[a]\nk = v"),
            ("[a]\n# c\n", "[a]\nk = v\n# c\n"),
            ("[a]\r\nx : 1\r\n", "[a]\r\nx : 1\r\nk : v\r\n"),
        ] {
            assert_eq!(after_set(text, "k", "v"), want, "{text:?}");
        }
    }

    #[test]
    fn what_the_dialect_cannot_say_is_refused_and_nothing_changes() {
        let text = "[a]\nk = 1\n";
        for (key, value) in [
            ("k", "a ; b"),
            ("k", " a"),
            ("k", "a\n\nb"),
            ("k", "a\rb"),
            ("k", "\"\""),
            ("x=y", "1"),
            ("#x", "1"),
            (" x", "1"),
            ("__name__", "1"),
            ("rem x", "1"),
        ] {
            let mut document = read(text);
            let refused = document.set("a", key, value);
            assert!(refused.is_err(), "{key:?} = {value:?}: {document}");
            assert_eq!(document.to_string(), text);
        }
        assert!(read(text).set("nope", "k", "v").is_err());
    }

    #[test]
    fn the_last_section_leaves_no_blank_line_behind() -> Result<(), ConfigError> {
        for (text, after) in [
            ("[a]\nx = 1\n\n[b]\ny = 2\n", "[a]\nx = 1\n"),
            ("[a]\nx = 1\n\n[b]\ny = 2\n\n", "[a]\nx = 1\n\n"),
            ("[a]\nx = 1\n[b]\ny = 2", "[a]\nx = 1"),
            ("[b]\ny = 2\n", ""),
        ] {
            let mut document = read(text);
            assert!(document.remove_section("b")?);
            assert_eq!(document.to_string(), after, "{text:?}");
        }
        Ok(())
    }

    #[test]
    fn sections_come_and_go() -> Result<(), ConfigError> {
        let text = "[circus]\nx = 1\n\n[watcher:a]\ncmd = a\n# end of a\n\n# sockets\n[socket:w]\nport = 1\n";
        let mut document = read(text);
        document.add_section("watcher:b", &[("cmd", "b"), ("args", "")])?;
        let with_b = "[circus]\nx = 1\n\n[watcher:a]\ncmd = a\n# end of a\n\n[watcher:b]\ncmd = b\nargs =\n\n\
                      # sockets\n[socket:w]\nport = 1\n";
        assert_eq!(document.to_string(), with_b);
        assert!(document.add_section("watcher:b", &[]).is_err());
        assert!(document.remove_section("watcher:b")?);
        assert_eq!(document.to_string(), text);
        assert!(!document.remove_section("watcher:b")?);
        document.add_section("plugin:p", &[("use", "x")])?;
        assert_eq!(
            document.to_string(),
            format!("{text}\n[plugin:p]\nuse = x\n")
        );
        assert!(document.unset("circus", "x")?);
        assert!(!document.unset("circus", "x")?);
        assert_eq!(document.get("circus", "x"), None);
        Ok(())
    }

    proptest::proptest! {
        #[test]
        fn an_edit_is_done_as_asked_or_not_at_all(
            text in "(\\[[ab]\\]\n)?([ab=: ;\"\t\r\n\\[\\]#é\u{a0}]|[ab] = |\n ){0,40}",
            section in "[ab]|\\PC{0,4}",
            key in "[ab]|\\PC{0,4}|.{0,3}",
            value in "[ab;\" \n\té]{0,8}|.{0,5}",
        ) {
            let Ok(document) = IniDocument::parse(text.as_bytes(), "t.ini") else {
                return Ok(());
            };
            proptest::prop_assert_eq!(document.to_string(), text);
            let mut edited = document.clone();
            match edited.set(&section, &key, &value) {
                Ok(changed) => {
                    proptest::prop_assert_eq!(edited.get(&section, &key), Some(value.as_str()));
                    proptest::prop_assert_eq!(changed, edited != document);
                }
                Err(_) => proptest::prop_assert_eq!(&edited, &document),
            }
            let mut edited = document.clone();
            match edited.add_section(&section, &[(&key, &value)]) {
                Ok(()) => {
                    proptest::prop_assert_eq!(edited.get(&section, &key), Some(value.as_str()));
                    proptest::prop_assert!(edited.remove_section(&section).is_ok());
                    proptest::prop_assert_eq!(edited.values(), document.values());
                }
                Err(_) => proptest::prop_assert_eq!(&edited, &document),
            }
        }
    }
}
