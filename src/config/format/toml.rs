//! The layout of a circus.toml. What stands inside a value, such as a list over several lines, is left as it is.

use toml_edit::{Decor, DocumentMut, Item, RawString, Table};

use super::without_double_blanks;

/// The document's text in its layout; nothing if it is no TOML.
pub fn formatted(text: &str) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    let first = first_table(document.as_table());
    let bare = has_values(document.as_table());
    lay_out(document.as_table_mut(), true);
    tables(document.as_table_mut(), &mut |table| {
        let top = !bare && table.position() == first;
        header(table.decor_mut(), top);
        lay_out(table, true);
    });
    let trailing = comment_lines(document.trailing(), false);
    document.set_trailing(trailing);
    let out = document.to_string().replace("\r\n", "\n");
    let out = match out.trim_end_matches('\n') {
        "" => String::new(),
        out => format!("{out}\n"),
    };
    let crlf = text.matches("\r\n").count();
    Some(if crlf * 2 > text.matches('\n').count() {
        out.replace('\n', "\r\n")
    } else {
        out
    })
}

/// The position of the table that comes first in the text.
fn first_table(root: &Table) -> Option<isize> {
    fn visit(table: &Table, first: &mut Option<isize>) {
        for (_, item) in table {
            if let Item::Table(inner) = item {
                if !inner.is_implicit() && !inner.is_dotted() {
                    *first = match (*first, inner.position()) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    };
                }
                visit(inner, first);
            }
        }
    }
    let mut first = None;
    visit(root, &mut first);
    first
}

/// Does the table itself hold a value?
fn has_values(table: &Table) -> bool {
    table.iter().any(|(_, item)| match item {
        Item::Value(_) => true,
        Item::Table(inner) => inner.is_dotted() && has_values(inner),
        _ => false,
    })
}

/// Every table with a header, below this one.
fn tables(table: &mut Table, change: &mut impl FnMut(&mut Table)) {
    for (_, item) in table.iter_mut() {
        if let Item::Table(inner) = item {
            if !inner.is_dotted() && !inner.is_implicit() {
                change(inner);
            }
            tables(inner, change);
        }
    }
}

/// The values of a table, those with dotted keys included. `first`: nothing stands between them and the header.
fn lay_out(table: &mut Table, first: bool) -> bool {
    let mut first = first;
    for (mut key, item) in table.iter_mut() {
        match item {
            Item::Value(value) => {
                let decor = key.leaf_decor_mut();
                let above = comment_lines(text_of(decor.prefix()), !first);
                decor.set_prefix(above);
                decor.set_suffix(" ");
                value.decor_mut().set_prefix(" ");
                let suffix = text_of(value.decor().suffix()).trim_end().to_owned();
                value.decor_mut().set_suffix(suffix);
                first = false;
            }
            Item::Table(inner) if inner.is_dotted() => first = lay_out(inner, first),
            _ => {}
        }
    }
    first
}

fn header(decor: &mut Decor, top: bool) {
    let above = comment_lines(text_of(decor.prefix()), false);
    decor.set_prefix(if top { above } else { format!("\n{above}") });
    let behind = text_of(decor.suffix()).trim_end().to_owned();
    decor.set_suffix(behind);
}

fn text_of(raw: Option<&RawString>) -> &str {
    raw.and_then(RawString::as_str).unwrap_or_default()
}

trait AsText {
    fn text(&self) -> &str;
}

impl AsText for &str {
    fn text(&self) -> &str {
        self
    }
}

impl AsText for &RawString {
    fn text(&self) -> &str {
        self.as_str().unwrap_or_default()
    }
}

/// Comments and blank lines, each blank line alone; `blank_first` keeps one at the beginning. The white space after the
/// last line break, which indents what follows, goes.
fn comment_lines(raw: impl AsText, blank_first: bool) -> String {
    let raw = raw.text();
    let begins_blank = raw.starts_with(['\n', '\r']);
    let lines: Vec<&str> = raw.lines().map(str::trim).collect();
    let ends_blank = raw.ends_with("\n\n") || raw.ends_with("\n\r\n");
    let kept = without_double_blanks(lines, |line| line.is_empty());
    let mut out = String::new();
    if begins_blank && blank_first {
        out.push('\n');
    }
    for line in &kept {
        out.push_str(line);
        out.push('\n');
    }
    if ends_blank && !kept.is_empty() {
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::config::Document;

    fn format(text: &str) -> String {
        Document::parse(text.as_bytes(), "t.toml")
            .and_then(|document| document.formatted())
            .map_or_else(|error| panic!("{error}"), |document| document.to_string())
    }

    #[test]
    fn the_layout() {
        for (text, want) in [
            ("", ""),
            (
                "# top  \n\n\n\n[circus]\n\nendpoint='x'   # why  \n   loglevel   =  \"info\"\n\n\n# of web\n[watcher.web]  # c \n\
                 cmd=\"a\"\nargs = [\n  \"x\",   \"y\" ]\n\n\n\n# about copy\ncopy_env=true\nhooks.before_start=\"m.f\"\n[watcher.web.env]\nA=\"1\"",
                "# top\n\n[circus]\nendpoint = 'x'   # why\nloglevel = \"info\"\n\n# of web\n[watcher.web]  # c\n\
                 cmd = \"a\"\nargs = [\n  \"x\",   \"y\" ]\n\n# about copy\ncopy_env = true\nhooks.before_start = \"m.f\"\n\n\
                 [watcher.web.env]\nA = \"1\"\n",
            ),
            (
                "\"$schema\"='x'\n[watcher.a]\ncmd='''\nx\n  y  \n'''\r\n# end\n\n\n",
                "\"$schema\" = 'x'\n\n[watcher.a]\ncmd = '''\nx\n  y  \n'''\n# end\n",
            ),
            (
                "[watcher.a]\r\ncmd='x'\r\n\r\n\r\n",
                "[watcher.a]\r\ncmd = 'x'\r\n",
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
            lines in proptest::collection::vec(
                proptest::sample::select(vec![
                    "", "", "  ", "# c", "  # indented  ", "cmd='x'", "  args = [ 'a',", "'b' ]", "numprocesses=1 # n",
                    "numprocesses=2", "copy_env  =  true", "hooks.before_start='m.f'", "hooks . after_stop = 'm.g'",
                    "[watcher.a]", "  [watcher.b] # b", "[ watcher . c ]", "[env]", "[circus]", "endpoint='y'", "A='''",
                    "text '''", "[watcher.a.env]", "B = \"1\"",
                ]),
                0..16,
            ),
            eol in proptest::sample::select(vec!["\n", "\r\n"]),
        ) {
            let text = lines.join(eol);
            let Ok(document) = Document::parse(text.as_bytes(), "t.toml") else {
                return Ok(());
            };
            let Ok(once) = document.formatted() else {
                return Err(proptest::test_runner::TestCaseError::fail(format!("{text:?} is refused")));
            };
            let twice = once.formatted().map(|document| document.to_string());
            proptest::prop_assert_eq!(twice.ok(), Some(once.to_string()), "{:?}", text);
            let comments = |text: &str| text.matches('#').count();
            proptest::prop_assert_eq!(comments(&once.to_string()), comments(&text));
        }
    }
}
