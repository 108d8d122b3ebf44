//! TOML as a tree that knows its lines.

use std::ops::Range;

use serde_json::Number;
use toml_edit::{Document, Item, Key, Table, TableLike, Value};

use super::tree::{Data, Lines, Node, is_plain_fraction};

/// The text is TOML.
pub fn parses(text: &str) -> bool {
    Document::parse(text.trim_start_matches('\u{feff}')).is_ok()
}

/// The tree of a TOML text, or the line and what is wrong there.
pub fn parse(text: &str) -> Result<Node, Vec<(usize, String)>> {
    let text = text.trim_start_matches('\u{feff}');
    let lines = Lines::of(text);
    let document = Document::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| lines.at(span.start));
        let what = error.message().trim().replace('\n', ", ");
        vec![(line, format!("this is not TOML: {what}"))]
    })?;
    let reader = Reader { text, lines };
    Ok(Node {
        line: 1,
        data: reader.table(document.as_table(), 1),
    })
}

struct Reader<'a> {
    text: &'a str,
    lines: Lines,
}

impl Reader<'_> {
    fn line(&self, span: Option<Range<usize>>, or: usize) -> usize {
        span.map_or(or, |span| self.lines.at(span.start))
    }

    fn table(&self, table: &dyn TableLike, line: usize) -> Data {
        let pairs = table.iter().filter_map(|(name, item)| {
            let key = table.key(name).and_then(Key::span);
            let line = self.line(key.or_else(|| item.span()), line);
            Some((name.to_string(), self.node(item, line)?))
        });
        Data::Table(pairs.collect())
    }

    fn node(&self, item: &Item, line: usize) -> Option<Node> {
        let data = match item {
            Item::None => return None,
            Item::Value(value) => return Some(self.value(value, line)),
            Item::Table(inner) => self.table(inner, line),
            Item::ArrayOfTables(tables) => {
                let tables = tables.iter().map(|inner: &Table| {
                    let line = self.line(inner.span(), line);
                    Node {
                        line,
                        data: self.table(inner, line),
                    }
                });
                Data::List(tables.collect())
            }
        };
        Some(Node { line, data })
    }

    fn value(&self, value: &Value, line: usize) -> Node {
        let source = value
            .span()
            .and_then(|span| self.text.get(span))
            .unwrap_or_default();
        let data = match value {
            Value::String(text) => Data::Text(with_line_feeds(text.value(), source)),
            Value::Integer(number) => {
                let written = match source.starts_with("0o") {
                    true => format!("0o{:03o}", number.value()),
                    false => number.value().to_string(),
                };
                Data::Number(Number::from(*number.value()), written)
            }
            Value::Float(number) => match Number::from_f64(*number.value()) {
                Some(number) => {
                    let written = match is_plain_fraction(source) {
                        true => source.to_string(),
                        false => number.to_string(),
                    };
                    Data::Number(number, written)
                }
                None => Data::Other("a number without bounds"),
            },
            Value::Boolean(flag) => Data::Bool(*flag.value()),
            Value::Datetime(_) => Data::Other("a date"),
            Value::Array(items) => {
                let items = items.iter().map(|item| {
                    let line = self.line(item.span(), line);
                    self.value(item, line)
                });
                Data::List(items.collect())
            }
            Value::InlineTable(inner) => self.table(inner, line),
        };
        Node { line, data }
    }
}

/// Line breaks inside a text over several lines are line feeds, whatever the file's own are.
fn with_line_feeds(text: &str, source: &str) -> String {
    let over_lines = source.starts_with("\"\"\"") || source.starts_with("'''");
    if !(over_lines && source.contains("\r\n")) {
        return text.to_owned();
    }
    match source.replace("\r\n", "\n").parse::<Value>() {
        Ok(Value::String(unified)) => unified.into_value(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line() {
        let node = parse("a = 1\n\n[b.c]\nd = [\n 1,\n 2]\ne.f = 1979-05-27\n").unwrap();
        let Data::Table(top) = &node.data else {
            panic!("a table")
        };
        assert_eq!(top[0].1.line, 1);
        let Data::Table(b) = &top[1].1.data else {
            panic!("a table")
        };
        assert_eq!(b[0].1.line, 3);
        let Data::Table(c) = &b[0].1.data else {
            panic!("a table")
        };
        assert_eq!((c[0].1.line, c[1].1.line), (4, 7));
        let problems = parse("a = 1\nb = = 2\n").unwrap_err();
        assert_eq!(problems[0].0, 2, "{problems:?}");
        let problems = parse("a = 1\na = 2\n").unwrap_err();
        assert_eq!(problems[0].0, 2, "{problems:?}");
    }
}
