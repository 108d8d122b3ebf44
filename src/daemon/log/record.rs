//! One thing that is logged, as data.

use jiff::Timestamp;
use serde_json::{Map, Value};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// The longest message, in bytes; what is longer is cut. It bounds what a full queue can hold.
const LONGEST: usize = 16 * 1024;

/// One thing that is logged.
#[derive(Debug, Clone)]
pub struct Record {
    /// When.
    pub time: Timestamp,
    /// How bad.
    pub level: Level,
    /// What, in a sentence.
    pub message: String,
    /// What programs want to know of it: the watcher, the pid, ….
    pub fields: Map<String, Value>,
    /// The file and line of the source that says it.
    pub source: Option<(&'static str, u32)>,
}

impl Record {
    /// What was logged now.
    pub fn of(event: &Event<'_>) -> Record {
        let metadata = event.metadata();
        let mut record = Record {
            source: metadata.file().zip(metadata.line()),
            ..Record::new(*metadata.level(), String::new())
        };
        event.record(&mut record);
        if record.message.len() > LONGEST {
            let cut = record.message.floor_char_boundary(LONGEST);
            let rest = record.message.len() - cut;
            record.message.truncate(cut);
            record.message.push_str(&format!("… ({rest} bytes more)"));
        }
        record
    }

    /// A message without fields.
    pub fn new(level: Level, message: String) -> Record {
        Record {
            time: Timestamp::now(),
            level,
            message,
            fields: Map::new(),
            source: None,
        }
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => self.put(name, Value::from(text)),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_string(),
            name => self.put(name, Value::from(value)),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), Value::from(value));
    }
}

impl Record {
    fn put(&mut self, name: &str, value: Value) {
        self.fields.insert(name.to_string(), value);
    }
}
