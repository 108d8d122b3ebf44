//! A TOML or JSON document as one kind of tree that knows its lines.

use serde_json::Number;

/// A value and the line it stands on, counted from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The line of the value, or of its key.
    pub line: usize,
    /// The value.
    pub data: Data,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Only JSON has it.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number that is finite, and its text: as it is written if that is plain digits (3.10 may be a version).
    Number(Number, String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A table: its keys are unique and in the order of the file.
    Table(Vec<(String, Node)>),
    /// What has no meaning in a desired state, with a word for it.
    Other(&'static str),
}

impl Node {
    /// The value in a few words, for messages.
    pub fn shown(&self) -> String {
        match &self.data {
            Data::Null => "null".to_string(),
            Data::Bool(flag) => flag.to_string(),
            Data::Number(_, written) => written.clone(),
            Data::Text(text) => crate::config::quoted(text),
            Data::List(_) => "a list".to_string(),
            Data::Table(_) => "a table".to_string(),
            Data::Other(word) => (*word).to_string(),
        }
    }
}

/// `[+-]?digits.digits`: a fraction that is kept as it is written.
pub fn is_plain_fraction(written: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    written
        .strip_prefix(['+', '-'])
        .unwrap_or(written)
        .split_once('.')
        .is_some_and(|(whole, fraction)| digits(whole) && digits(fraction))
}

/// Where the lines of a text begin.
pub struct Lines(Vec<usize>);

impl Lines {
    /// Looks at a text once.
    pub fn of(text: &str) -> Lines {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Lines(breaks.map(|(at, _)| at + 1).collect())
    }

    /// The line, counted from 1, of the byte at `offset`.
    pub fn at(&self, offset: usize) -> usize {
        1 + self.0.partition_point(|start| *start <= offset)
    }
}
