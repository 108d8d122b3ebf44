//! The layout of a circus.ini.

use super::without_double_blanks;
use crate::config::ini::{IniDocument, Kind, Line, is_comment, option_span, option_value};
use crate::config::pytext::{is_space, strip};

/// The indentation of lines that continue a value.
const INDENT: &str = "    ";

/// A line of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Blank,
    Comment,
    Header,
    Content,
}

/// The document's text in its layout.
pub fn formatted(document: &IniDocument) -> Option<String> {
    let lines: Vec<(Role, String)> = document
        .lines
        .iter()
        .zip(&document.kinds)
        .map(|(line, kind)| laid_out(line, kind))
        .collect();
    let mut lines = without_double_blanks(lines, |(role, _)| *role == Role::Blank);
    separate(&mut lines);
    let eol = usual_eol(&document.lines);
    let mut out = String::new();
    for (_, text) in lines {
        out.push_str(&text);
        out.push_str(eol);
    }
    Some(out)
}

fn laid_out(line: &Line, kind: &Kind) -> (Role, String) {
    let trimmed = line.text.trim_end_matches(is_space);
    match kind {
        Kind::Blank => (Role::Blank, String::new()),
        Kind::Comment => (Role::Comment, trimmed.to_owned()),
        Kind::Header(_) => (Role::Header, trimmed.to_owned()),
        Kind::Option { .. } => (Role::Content, option(&line.text)),
        Kind::Continuation { .. } => (Role::Content, format!("{INDENT}{}", strip(&line.text))),
    }
}

/// `key = value ; comment`, unless that would not be read as the same.
fn option(text: &str) -> String {
    let Some(span) = option_span(text) else {
        return text.to_owned();
    };
    let key = &text[..span.key_end];
    let value = &text[span.value_start..span.value_end];
    let mut tail = text[span.value_end..].trim_end_matches(is_space);
    // White space before the separator of an empty key would make the line part of the value above.
    let mut out = match key {
        "" => "=".to_owned(),
        key => format!("{key} ="),
    };
    if value.is_empty() {
        // Only a comment can follow, one space after the separator.
        tail = tail.trim_start_matches(is_space);
        if !tail.is_empty() {
            out.push(' ');
        }
    } else {
        out.push(' ');
        out.push_str(value);
    }
    out.push_str(tail);
    let same = option_span(&out).is_some_and(|now| {
        out[..now.key_end] == *key
            && option_value(&out, &now) == option_value(text, &span)
            && now.comment.is_some() == span.comment.is_some()
    });
    // `rem=x` is an option, `rem = x` a remark.
    if same && !is_comment(&out) {
        out
    } else {
        text.to_owned()
    }
}

/// One blank line before each header with the comments right above it, none after it.
fn separate(lines: &mut Vec<(Role, String)>) {
    let mut out: Vec<(Role, String)> = Vec::with_capacity(lines.len());
    for line in lines.drain(..) {
        let last = out.last().map(|(role, _)| *role);
        if line.0 == Role::Blank && last == Some(Role::Header) {
            continue;
        }
        if line.0 == Role::Header {
            let above = out
                .iter()
                .rev()
                .take_while(|(role, _)| *role == Role::Comment)
                .count();
            let at = out.len() - above;
            let before = at.checked_sub(1).and_then(|at| out.get(at));
            if before.is_some_and(|(role, _)| *role != Role::Blank) {
                out.insert(at, (Role::Blank, String::new()));
            }
        }
        out.push(line);
    }
    *lines = out;
}

/// The line break that most lines have.
fn usual_eol(lines: &[Line]) -> &'static str {
    let count = |eol: &str| lines.iter().filter(|line| line.eol == eol).count();
    ["\r", "\r\n", "\n"]
        .into_iter()
        .max_by_key(|eol| count(eol))
        .unwrap_or("\n")
}

#[cfg(test)]
mod tests {
    use crate::config::{Document, Format};

    fn format(text: &str) -> String {
        Document::parse(text.as_bytes(), "t.ini")
            .and_then(|document| document.formatted())
            .map_or_else(|error| panic!("{error}"), |document| document.to_string())
    }

    #[test]
    fn the_layout() {
        for (text, want) in [
            ("", ""),
            ("\n\n", ""),
            (
                "# top  \n\n\n[a]   \n\nk=1\nl  :  2   ; why  \nm =\nn=\n  1\n\t 2\n\n\n# c\n\n[b]\nx=y",
                "# top\n\n[a]\nk = 1\nl = 2   ; why\nm =\nn =\n    1\n    2\n\n# c\n\n[b]\nx = y\n",
            ),
            (
                "[a]\nk=v\n# of b\n[b]\n\n# of c\n[c]\n",
                "[a]\nk = v\n\n# of b\n[b]\n\n# of c\n[c]\n",
            ),
            (
                "[a]\r\nk=1\r\n\r\n\r\nl=2\n",
                "[a]\r\nk = 1\r\n\r\nl = 2\r\n",
            ),
            // A comment right behind the separator; a value that only white space at the end makes a comment.
            (
                "[a]\nk=  ; c\nl=;v \nm=;v\nn=\"\" ;c\n",
                "[a]\nk = ; c\nl=;v \nm = ;v\nn = \"\" ;c\n",
            ),
        ] {
            let once = format(text);
            assert_eq!(once, want, "{text:?}");
            assert_eq!(format(&once), once, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn formatting_keeps_the_meaning_and_is_done_once(
            text in "(\\[[ab]\\]\n)?(\n|# c\n|rem x\n|\\[[abc]\\][ ;x]{0,3}\n|[abc ]{0,2}[=:][ab=: ;\"\t\\[\\]#é\u{a0}]{0,8}\r?\n| [a;=\\[\\]# ]{0,5}\n){0,12}[ab=]{0,3}",
        ) {
            let Ok(document) = Document::parse_as(Format::Ini, text.as_bytes(), "t.ini") else {
                return Ok(());
            };
            let Ok(once) = document.formatted() else {
                return Err(proptest::test_runner::TestCaseError::fail(format!("{text:?} is refused")));
            };
            let twice = once.formatted().map(|document| document.to_string());
            proptest::prop_assert_eq!(twice.ok(), Some(once.to_string()));
            // No comment is lost.
            let comments = |text: &str| {
                text.split(['\n', '\r']).filter(|line| line.starts_with(['#', ';'])).map(|line| line.trim_end().to_owned()).collect::<Vec<_>>()
            };
            proptest::prop_assert_eq!(comments(&once.to_string()), comments(&text));
        }
    }
}
