//! The few Python expressions that stand in the `args` and `kwargs` of a `fileConfig` file: tuples, lists, texts,
//! numbers, True, False, None and names such as `sys.stdout`, which become their own text.

use serde_json::{Map, Value};

/// An expression.
///
/// # Errors
/// It is something else.
pub fn read(text: &str) -> Result<Value, String> {
    let mut reader = Reader { rest: text.trim() };
    let value = reader.value(0);
    match value {
        Some(value) if reader.rest.trim().is_empty() => Ok(value),
        _ => Err(format!("'{text}' is no list of plain Python values")),
    }
}

/// Nested deeper than that it is nothing that somebody wrote for a log.
const DEEPEST: usize = 20;

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn take(&mut self, token: char) -> bool {
        let trimmed = self.rest.trim_start();
        match trimmed.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            '(' => self.list('(', ')', depth),
            '[' => self.list('[', ']', depth),
            '{' => self.map(depth),
            '\'' | '"' => self.text().map(Value::from),
            _ => self.word(),
        }
    }

    /// A parenthesis around one value without a comma is that value.
    fn list(&mut self, open: char, close: char, depth: usize) -> Option<Value> {
        self.take(open);
        let mut list = Vec::new();
        let mut commas = 0;
        while !self.take(close) {
            if !list.is_empty() && commas < list.len() {
                return None;
            }
            list.push(self.value(depth + 1)?);
            commas += usize::from(self.take(','));
        }
        match open {
            '(' if commas == 0 && list.len() == 1 => list.pop(),
            _ => Some(Value::from(list)),
        }
    }

    fn map(&mut self, depth: usize) -> Option<Value> {
        self.take('{');
        let mut map = Map::new();
        while !self.take('}') {
            self.rest = self.rest.trim_start();
            let key = self.text()?;
            if !self.take(':') {
                return None;
            }
            map.insert(key, self.value(depth + 1)?);
            if !self.take(',') && !self.rest.trim_start().starts_with('}') {
                return None;
            }
        }
        Some(Value::Object(map))
    }

    fn text(&mut self) -> Option<String> {
        let quote = self.rest.chars().next().filter(|c| "'\"".contains(*c))?;
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    other => text.push(other),
                },
                c if c == quote => {
                    self.rest = &self.rest[at + 1..]; // quotes are one byte
                    return Some(text);
                }
                c => text.push(c),
            }
        }
        None
    }

    fn word(&mut self) -> Option<Value> {
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric() && !"_.+-".contains(c))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(match word {
            "" => return None,
            "True" => Value::Bool(true),
            "False" => Value::Bool(false),
            "None" => Value::Null,
            word => match (word.parse::<i64>(), word.parse::<f64>()) {
                (Ok(number), _) => Value::from(number),
                (_, Ok(number)) => Value::from(number),
                _ if word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {
                    Value::from(word)
                }
                _ => return None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_values() {
        for (text, expected) in [
            ("()", json!([])),
            ("(sys.stdout,)", json!(["sys.stdout"])),
            (
                "('a\\'b.log', \"w\", 10, True, None)",
                json!(["a'b.log", "w", 10, true, null]),
            ),
            (
                "(('localhost', 514), handlers.SysLogHandler.LOG_USER)",
                json!([["localhost", 514], "handlers.SysLogHandler.LOG_USER"]),
            ),
            (
                "{'maxBytes': 100, 'x': [1.5]}",
                json!({"maxBytes": 100, "x": [1.5]}),
            ),
            ("('only')", json!("only")),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "(",
            "('a'",
            "(1 2)",
            "os.open('x')",
            "'a' + 'b'",
            "(,)",
            "{1: 2}",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read(&"(".repeat(100_000)).is_err());
    }
}
