//! How a circus.ini is laid out: where the parts of a section end, where a new one belongs, and how
//! its author writes separators and line breaks. Edits follow the style they find.

use super::{IniDocument, Kind, option_span};

impl IniDocument {
    /// How this section (or else this file) writes the space around its separators.
    pub(super) fn separator_style(&self, section: &str) -> &'static str {
        const STYLES: [&str; 6] = [" = ", "=", "= ", ": ", ":", " : "];
        let style = |at: usize| {
            let text = &self.lines[at].text;
            let span = option_span(text)?;
            let found = &text[span.key_end..span.value_start];
            STYLES.into_iter().find(|style| *style == found)
        };
        let options = |here: bool| {
            self.kinds
                .iter()
                .enumerate()
                .rev()
                .filter_map(move |(at, kind)| match kind {
                    Kind::Option { section: s, .. } if !here || s == section => Some(at),
                    _ => None,
                })
        };
        options(true)
            .find_map(style)
            .or_else(|| options(false).find_map(style))
            .unwrap_or(" = ")
    }

    /// Where a new section goes: the number of lines before it.
    pub(super) fn place_for(&self, section: &str) -> usize {
        let Some((kind, _)) = section.split_once(':') else {
            return self.lines.len();
        };
        let same_kind = |name: &str| {
            name.split_once(':')
                .is_some_and(|(prefix, _)| prefix == kind)
        };
        let Some(header) = self.headers_of(same_kind).last() else {
            return self.lines.len();
        };
        let end = self.content_end(header);
        // A comment right below the last key belongs to it, unless it stands right above a header.
        let comments = self.kinds[end..]
            .iter()
            .take_while(|kind| **kind == Kind::Comment)
            .count();
        match self.kinds.get(end + comments) {
            Some(Kind::Blank) | None => end + comments,
            _ => end,
        }
    }

    /// The lines (from 0) of the headers whose name fits.
    pub(super) fn headers_of(&self, fits: impl Fn(&str) -> bool) -> impl Iterator<Item = usize> {
        self.headers()
            .filter(move |(_, name)| fits(name))
            .map(|(line, _)| line - 1)
    }

    /// The line after the last key of the section part that starts with this header.
    pub(super) fn content_end(&self, header: usize) -> usize {
        self.kinds[header + 1..]
            .iter()
            .take_while(|kind| !matches!(kind, Kind::Header(_)))
            .enumerate()
            .filter(|(_, kind)| matches!(kind, Kind::Option { .. } | Kind::Continuation { .. }))
            .last()
            .map_or(header + 1, |(at, _)| header + 1 + at + 1)
    }

    /// The line break that most lines have.
    pub(in super::super) fn usual_eol(&self) -> &'static str {
        let count = |eol: &str| self.lines.iter().filter(|line| line.eol == eol).count();
        ["\n", "\r\n", "\r"]
            .into_iter()
            .rev()
            .max_by_key(|eol| count(eol))
            .unwrap_or("\n")
    }
}
