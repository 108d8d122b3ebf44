//! JSON as a tree that knows its lines. serde_json's raw values are slices of the text, so where each stands is known.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Error, Value};

use super::tree::{Data, Lines, Node, is_plain_fraction};

/// No desired state is nested deeper than a few levels.
const DEEPEST: usize = 16;

/// The tree of a JSON text, or the line and what is wrong there.
pub fn parse(text: &str) -> Result<Node, Vec<(usize, String)>> {
    let text = text.trim_start_matches('\u{feff}');
    let root: &RawValue = serde_json::from_str(text).map_err(|error| vec![syntax(&error)])?;
    let mut reader = Reader {
        text,
        lines: Lines::of(text),
        problems: Vec::new(),
    };
    let node = reader.node(root, 0);
    if reader.problems.is_empty() {
        Ok(node)
    } else {
        Err(reader.problems)
    }
}

fn syntax(error: &Error) -> (usize, String) {
    let told = error.to_string();
    let what = match told.rfind(" at line ") {
        Some(at) => &told[..at],
        None => &told,
    };
    let column = error.column();
    (
        error.line().max(1),
        format!("this is not JSON: {what} (column {column})"),
    )
}

struct Reader<'a> {
    text: &'a str,
    lines: Lines,
    problems: Vec<(usize, String)>,
}

impl<'a> Reader<'a> {
    fn line(&self, raw: &RawValue) -> usize {
        let offset = (raw.get().as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        self.lines.at(offset)
    }

    fn node(&mut self, raw: &'a RawValue, depth: usize) -> Node {
        let line = self.line(raw);
        let data = self.data(raw, line, depth);
        Node { line, data }
    }

    fn data(&mut self, raw: &'a RawValue, line: usize, depth: usize) -> Data {
        let text = raw.get();
        let deep = text.starts_with(['{', '[']) && depth >= DEEPEST;
        if deep {
            self.problems.push((
                line,
                "this is nested too deeply for a desired state".to_string(),
            ));
            return Data::Null;
        }
        match self.try_data(raw, text, depth) {
            Ok(data) => data,
            Err(error) => {
                let (within, what) = syntax(&error);
                self.problems.push((line + within - 1, what));
                Data::Null
            }
        }
    }

    fn try_data(&mut self, raw: &'a RawValue, text: &'a str, depth: usize) -> Result<Data, Error> {
        if text.starts_with('{') {
            let Pairs(pairs) = pairs(raw)?;
            let mut table: Vec<(String, Node)> = Vec::new();
            for (key, value) in pairs {
                let node = self.node(value, depth + 1);
                match table.iter().find(|(known, _)| *known == key) {
                    Some((_, first)) => self.problems.push((
                        node.line,
                        format!("{key} stands here twice, first in line {}", first.line),
                    )),
                    None => table.push((key, node)),
                }
            }
            return Ok(Data::Table(table));
        }
        if text.starts_with('[') {
            let items: Vec<&'a RawValue> = serde_json::from_str(text)?;
            let items = items.into_iter().map(|item| self.node(item, depth + 1));
            return Ok(Data::List(items.collect()));
        }
        Ok(match serde_json::from_str::<Value>(text)? {
            Value::Bool(flag) => Data::Bool(flag),
            Value::Number(number) => {
                let written = match is_plain_fraction(text) {
                    true => text.to_string(),
                    false => number.to_string(),
                };
                Data::Number(number, written)
            }
            Value::String(text) => Data::Text(text),
            _ => Data::Null,
        })
    }
}

/// The pairs of an object, repeated keys and all.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

fn pairs(raw: &RawValue) -> Result<Pairs<'_>, Error> {
    struct Collect;
    impl<'de> Visitor<'de> for Collect {
        type Value = Pairs<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry::<String, &'de RawValue>()? {
                pairs.push(pair);
            }
            Ok(Pairs(pairs))
        }
    }
    serde_json::Deserializer::from_str(raw.get()).deserialize_map(Collect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line() {
        let node = parse("{\n \"a\": {\"b\": [1,\n 2]},\n\n \"c\": null\n}").unwrap();
        let Data::Table(top) = &node.data else {
            panic!("a table")
        };
        assert_eq!((top[0].1.line, top[1].1.line), (2, 5));
        let Data::Table(a) = &top[0].1.data else {
            panic!("a table")
        };
        let Data::List(b) = &a[0].1.data else {
            panic!("a list")
        };
        assert_eq!((b[0].line, b[1].line), (2, 3));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, says) in [
            ("{\n\"a\": 1,\n}", 3, "not JSON"),
            ("", 1, "not JSON"),
            ("{\"a\": 1,\n\"a\": 2}", 2, "first in line 1"),
            ("{} x", 1, "not JSON"),
        ] {
            let problems = parse(text).unwrap_err();
            assert_eq!(problems[0].0, line, "{text}: {problems:?}");
            assert!(problems[0].1.contains(says), "{text}: {problems:?}");
        }
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(&deep).is_err());
    }
}
