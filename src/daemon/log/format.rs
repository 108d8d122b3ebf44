//! A record as bytes: Circus's line, a JSON object, or what a pattern of Python's logging says.

use super::pattern::Pattern;
use super::record::Record;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use tracing::Level;

/// The name that all lines are logged under: that of circusd's logger.
pub const LOGGER: &str = "circus";

/// How records are written.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Format {
    /// `2026-01-02 03:04:05 circus[123] [INFO] message`, as circusd writes it, in local time.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// What a formatter in a `loggerconfig` asks for.
    Pattern(Pattern),
}

impl Format {
    /// Lines as a formatter of Python's logging has them (`%(message)s`), the time in a form of strftime.
    ///
    /// # Errors
    /// What in it is no format.
    pub fn pattern(line: &str, time: &str) -> Result<Format, String> {
        Ok(Format::Pattern(Pattern::parse(line, Some(time), "%")?))
    }

    /// The value of `--log-format` and of the option `log_format`: text or json, in any case.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Format, String> {
        match text.to_ascii_lowercase().as_str() {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            _ => Err(format!(
                "log format '{text}' is not known; use text or json"
            )),
        }
    }
}

/// What the daemon is when it writes lines.
#[derive(Debug, Clone)]
pub struct Writer {
    /// Its pid.
    pub pid: u32,
    /// Where it is.
    pub zone: TimeZone,
}

impl Writer {
    /// This process.
    pub fn here() -> Writer {
        Writer {
            pid: std::process::id(),
            zone: TimeZone::system(),
        }
    }

    /// The record as it stands in a file: one line, or several where the message has several; ends with a line feed.
    pub fn line(&self, record: &Record, format: &Format) -> String {
        let mut line = match format {
            Format::Text => {
                let time = record.time.to_zoned(self.zone.clone());
                let time = time.strftime("%Y-%m-%d %H:%M:%S");
                format!("{time} {}", self.text(record))
            }
            Format::Json => self.json(record),
            Format::Pattern(pattern) => pattern.render(record, self),
        };
        line.push('\n');
        line
    }

    /// The record as a message to a syslog daemon (RFC 3164), without an end.
    pub fn syslog(&self, record: &Record, format: &Format, facility: u8) -> String {
        let priority = facility * 8 + severity(record.level);
        let time = record.time.to_zoned(self.zone.clone());
        let time = time.strftime("%b %e %H:%M:%S");
        match format {
            Format::Text => format!("<{priority}>{time} {}", self.text(record)),
            Format::Json => format!(
                "<{priority}>{time} {LOGGER}[{}]: {}",
                self.pid,
                self.json(record)
            ),
            // Python writes what the formatter says, and nothing else
            Format::Pattern(pattern) => {
                format!("<{priority}>{}", pattern.render(record, self))
            }
        }
    }

    fn text(&self, record: &Record) -> String {
        let (pid, level) = (self.pid, level_name(record.level));
        format!("{LOGGER}[{pid}] [{level}] {}", tame(&record.message))
    }

    fn json(&self, record: &Record) -> String {
        let time = record.time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let level = level_name(record.level).to_ascii_lowercase();
        let mut object = Map::new();
        object.insert("time".into(), Value::from(time));
        object.insert("level".into(), Value::from(level));
        object.insert("logger".into(), Value::from(LOGGER));
        object.insert("process".into(), Value::from(self.pid));
        object.insert("message".into(), Value::from(record.message.as_str()));
        for (name, value) in &record.fields {
            object.entry(name).or_insert_with(|| value.clone());
        }
        Value::Object(object).to_string()
    }
}

/// Python's name of a level.
pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}

/// syslog's number of a level.
pub fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// A message as it may stand in a line of text: its own lines after the first are indented, so that none of them can
/// pass for a line of the log, and what steers a terminal is escaped.
pub fn tame(message: &str) -> String {
    if !message.contains(|c: char| c.is_control() && c != '\t') {
        return message.to_string();
    }
    let mut tame = String::with_capacity(message.len() + 16);
    for c in message.trim_end_matches(['\n', '\r']).chars() {
        match c {
            '\n' => tame.push_str("\n    "),
            '\t' => tame.push(c),
            c if c.is_control() => tame.extend(c.escape_default()),
            c => tame.push(c),
        }
    }
    tame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> Writer {
        Writer {
            pid: 42,
            zone: TimeZone::fixed(jiff::tz::offset(2)),
        }
    }

    fn record() -> Record {
        let mut record = Record::new(Level::WARN, "web: worker 1 is \"gone\"".into());
        record.time = "2026-11-05T22:04:05.25Z".parse().unwrap();
        record.fields.insert("watcher".into(), "web".into());
        record.fields.insert("pid".into(), 7.into());
        record.fields.insert("time".into(), "not this one".into());
        record
    }

    #[test]
    fn a_line_of_each_form() {
        let line = |format| writer().line(&record(), &format);
        assert_eq!(
            line(Format::Text),
            "2026-11-06 00:04:05 circus[42] [WARNING] web: worker 1 is \"gone\"\n"
        );
        assert_eq!(
            line(Format::Json),
            concat!(
                r#"{"time":"2026-11-05T22:04:05.250000Z","level":"warning","logger":"circus","process":42,"#,
                r#""message":"web: worker 1 is \"gone\"","watcher":"web","pid":7}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_message_to_syslog() {
        assert_eq!(
            writer().syslog(&record(), &Format::Text, 3),
            "<28>Nov  6 00:04:05 circus[42] [WARNING] web: worker 1 is \"gone\""
        );
        let json = writer().syslog(&record(), &Format::Json, 1);
        assert!(
            json.starts_with("<12>Nov  6 00:04:05 circus[42]: {\"time\""),
            "{json}"
        );
    }

    #[test]
    fn no_message_forges_a_line_or_steers_a_terminal() {
        let mut record = record();
        record.message = "one\n2026-01-01 00:00:00 circus[1] [INFO] forged\x1b[31m\r\n".into();
        assert_eq!(
            writer().line(&record, &Format::Text),
            "2026-11-06 00:04:05 circus[42] [WARNING] one\n    2026-01-01 00:00:00 circus[1] [INFO] forged\\u{1b}[31m\n"
        );
        assert_eq!(writer().line(&record, &Format::Json).lines().count(), 1);
    }

    #[test]
    fn formats_by_name() {
        assert_eq!(Format::parse("JSON"), Ok(Format::Json));
        assert_eq!(Format::parse("text"), Ok(Format::Text));
        assert!(Format::parse("xml").unwrap_err().contains("text or json"));
    }
}
