//! `loggerconfig`: what a configuration of Python's `logging` asks for, as far as it means something here.
//!
//! circusd logs everything under the logger `circus`, so that its level and handlers count, and those of the root if it
//! propagates. Handlers that write to a stream, a file or a syslog daemon are here too; others, and filters, are warned of. If no
//! handler is left, the log goes to standard error.

mod ini;
mod literal;
mod yaml;

use super::format::{Format, LOGGER};
use super::output::{Address, Output, Syslog, facility};
use super::pattern::Pattern;
use super::sink::Destination;
use super::{Setup, parse_level};
use crate::options::streams::StreamSpec;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use tracing_subscriber::filter::LevelFilter;

/// Reads the text of such a file; its name says which of the three formats it has.
///
/// # Errors
/// It is no such configuration; the text says where and why, not the name of the file.
pub fn read(file: &str, text: &str) -> Result<Setup, String> {
    let name = file.to_lowercase();
    let config = if name.ends_with(".ini") {
        ini::read(text, file)?
    } else if name.ends_with(".json") {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else if name.ends_with(".yaml") {
        yaml::read(text)?
    } else {
        return Err("its name must end in .ini, .json or .yaml".to_string());
    };
    Reading {
        config: config.as_object().ok_or("it is no dictionary")?,
        warnings: Vec::new(),
    }
    .setup()
}

struct Reading<'a> {
    config: &'a Map<String, Value>,
    warnings: Vec<String>,
}

impl<'a> Reading<'a> {
    fn setup(mut self) -> Result<Setup, String> {
        if self
            .config
            .get("version")
            .is_some_and(|v| v.as_i64() != Some(1))
        {
            return Err("version: 1 is expected".to_string());
        }
        let root = self.config.get("root").and_then(Value::as_object);
        let circus = self.entry("loggers", LOGGER)?;
        let level_of = |logger: Option<&Map<String, Value>>, name: &str| {
            let level = logger.and_then(|logger| logger.get("level"));
            level.map_or(Ok(None), |level| {
                threshold(level).map_err(|why| format!("{name}: {why}"))
            })
        };
        // the root logs from WARNING upwards if nothing is said
        let level = level_of(circus, "loggers.circus")?
            .or(level_of(root, "root")?)
            .unwrap_or(LevelFilter::WARN);
        let propagate = circus.and_then(|c| c.get("propagate")).is_none_or(truth);
        let mut names = handlers_of(circus);
        names.extend(propagate.then(|| handlers_of(root)).into_iter().flatten());
        let mut destinations = Vec::new();
        for name in &names {
            let handler = self
                .entry("handlers", name)?
                .ok_or_else(|| format!("there is no handler '{name}'"))?;
            destinations.extend(
                self.handler(name, handler)
                    .map_err(|why| format!("handlers.{name}: {why}"))?,
            );
        }
        if destinations.is_empty() {
            // Python's handler of last resort writes the bare message from WARNING upwards
            self.warnings
                .push("no handler of it can be used: the log goes to standard error".to_string());
            destinations.push(Destination::plain(Output::Stderr, Format::Text));
        }
        Ok(Setup {
            level,
            fixed: true,
            destinations,
            warnings: self.warnings,
        })
    }

    /// `SECTION: {NAME: …}`.
    fn entry(&self, section: &str, name: &str) -> Result<Option<&'a Map<String, Value>>, String> {
        let Some(entry) = self.config.get(section).and_then(|s| s.get(name)) else {
            return Ok(None);
        };
        let wrong = || format!("{section}.{name} is no dictionary");
        entry.as_object().map(Some).ok_or_else(wrong)
    }

    /// Where a handler writes; `None`, with a warning, if that is something that only Python can do.
    fn handler(
        &mut self,
        name: &str,
        handler: &Map<String, Value>,
    ) -> Result<Option<Destination>, String> {
        let class = handler.get("class").or(handler.get("()"));
        let class = class.and_then(Value::as_str).ok_or("it has no class")?;
        let kind = class.strip_prefix("logging.").unwrap_or(class);
        let kind = kind.strip_prefix("handlers.").unwrap_or(kind);
        let text = |key: &str| handler.get(key).and_then(Value::as_str);
        let file = || {
            let path = text("filename").filter(|path| !path.is_empty());
            path.map(PathBuf::from).ok_or("it has no filename")
        };
        let mut rotation = None;
        let output = match kind {
            "StreamHandler" => match text("stream").unwrap_or("ext://sys.stderr") {
                "ext://sys.stdout" | "sys.stdout" => Output::Stdout,
                "ext://sys.stderr" | "sys.stderr" => Output::Stderr,
                other => {
                    return Err(format!(
                        "stream '{other}' is neither sys.stdout nor sys.stderr"
                    ));
                }
            },
            "FileHandler" | "WatchedFileHandler" => Output::File(file()?),
            "RotatingFileHandler" | "TimedRotatingFileHandler" => {
                rotation = Some(rotated(kind, handler)?);
                Output::File(file()?)
            }
            "SysLogHandler" => Output::Syslog(syslog(handler)?),
            "NullHandler" => Output::Nowhere,
            _ => {
                self.warnings.push(format!(
                    "handlers.{name}: {class} is Python's alone and is left out"
                ));
                return Ok(None);
            }
        };
        if handler.get("filters").is_some_and(truth) {
            self.warnings.push(format!(
                "handlers.{name}: its filters are Python's alone and are left out"
            ));
        }
        let level = handler.get("level").map(threshold).transpose()?.flatten();
        let format = match text("formatter").filter(|formatter| !formatter.is_empty()) {
            Some(formatter) => self.formatter(formatter)?,
            None => Format::Pattern(Pattern::parse("%(message)s", None, "%")?),
        };
        Ok(Some(Destination {
            output,
            level: level.unwrap_or(LevelFilter::TRACE),
            format,
            afresh: kind == "FileHandler" && text("mode").is_some_and(|mode| mode.starts_with('w')),
            rotation,
        }))
    }

    fn formatter(&mut self, name: &str) -> Result<Format, String> {
        let wrong = |why: String| format!("formatters.{name}: {why}");
        let formatter = self
            .entry("formatters", name)?
            .ok_or_else(|| format!("there is no formatter '{name}'"))?;
        let text = |key: &str| formatter.get(key).and_then(Value::as_str);
        let class = text("class").or(text("()")).unwrap_or("logging.Formatter");
        if class.ends_with("JsonFormatter") || class.ends_with("JSONFormatter") {
            return Ok(Format::Json);
        }
        if !class.is_empty() && class != "logging.Formatter" {
            self.warnings.push(wrong(format!(
                "{class} is Python's alone; its format is used with Python's own formatter"
            )));
        }
        let style = text("style").unwrap_or("%");
        let simple = match style {
            "{" => "{message}",
            "$" => "${message}",
            _ => "%(message)s",
        };
        let format = text("format").filter(|f| !f.is_empty()).or(text("fmt"));
        let date = text("datefmt").filter(|date| !date.is_empty());
        Pattern::parse(format.unwrap_or(simple), date, style)
            .map(Format::Pattern)
            .map_err(wrong)
    }
}

fn handlers_of(logger: Option<&Map<String, Value>>) -> Vec<String> {
    let handlers = logger.and_then(|logger| logger.get("handlers"));
    let list = handlers.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(String::from).collect()
}

/// Whether a value is true: in YAML 1.1, which Python reads, `no` and `off` are false.
fn truth(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => *truth,
        Value::String(text) => {
            !["", "no", "off", "false", "0"].contains(&text.to_lowercase().as_str())
        }
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A level by its name or number; `None` for NOTSET.
fn threshold(level: &Value) -> Result<Option<LevelFilter>, String> {
    let unknown = || format!("level {level} is not known");
    if let Some(number) = level.as_i64() {
        return Ok(match number {
            ..=0 => None,
            1..=10 => Some(LevelFilter::DEBUG),
            11..=20 => Some(LevelFilter::INFO),
            21..=30 => Some(LevelFilter::WARN),
            31..=40 => Some(LevelFilter::ERROR),
            41.. => Some(LevelFilter::OFF),
        });
    }
    match level.as_str().ok_or_else(unknown)?.to_lowercase().as_str() {
        "" | "notset" => Ok(None),
        "warn" => Ok(Some(LevelFilter::WARN)),
        "fatal" => Ok(Some(LevelFilter::OFF)),
        name => parse_level(name).map(Some).ok_or_else(unknown),
    }
}

/// A rotating handler in the terms of the output streams, which rotate as it does.
fn rotated(kind: &str, handler: &Map<String, Value>) -> Result<StreamSpec, String> {
    let get = |key: &str| handler.get(key).cloned().filter(|value| !value.is_null());
    let mut conf = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        conf.extend(value.map(|value| (key.to_string(), value)));
    };
    put("filename", get("filename"));
    put("backup_count", get("backupCount"));
    if kind == "RotatingFileHandler" {
        put("class", Some(json!("FileStream")));
        put("max_bytes", get("maxBytes"));
    } else {
        put("class", Some(json!("TimedRotatingFileStream")));
        put("rotate_when", get("when").or(Some(json!("H"))));
        put("rotate_interval", get("interval"));
        put("utc", get("utc"));
    }
    StreamSpec::read(&conf).map_err(|error| format!("{}: {}", error.key, error.reason))
}

/// Python's `SysLogHandler(address=('localhost', 514), facility=LOG_USER, socktype=SOCK_DGRAM)`.
fn syslog(handler: &Map<String, Value>) -> Result<Syslog, String> {
    let tcp = handler
        .get("socktype")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.ends_with("SOCK_STREAM"));
    let network = |host: &str, port: u16| match tcp {
        true => Address::Tcp(host.to_string(), port),
        false => Address::Udp(host.to_string(), port),
    };
    let wrong = "address: a path, or a host and a port, is expected";
    let address = match handler.get("address") {
        None => network("localhost", 514),
        Some(Value::String(path)) => Address::Unix(PathBuf::from(path)),
        Some(Value::Array(pair)) => {
            let [Value::String(host), Value::Number(port)] = &pair[..] else {
                return Err(wrong.to_string());
            };
            let port = port.as_u64().and_then(|port| u16::try_from(port).ok());
            network(host, port.ok_or(wrong)?)
        }
        Some(_) => return Err(wrong.to_string()),
    };
    let facility = match handler.get("facility") {
        None => facility("user"),
        Some(Value::Number(number)) => {
            let number = number.as_u64().and_then(|number| u8::try_from(number).ok());
            number.filter(|number| *number < 24)
        }
        Some(other) => other
            .as_str()
            .and_then(|name| facility(name.rsplit('.').next().unwrap_or(name))),
    };
    let facility = facility.ok_or("facility: it does not exist")?;
    Ok(Syslog { address, facility })
}

#[cfg(test)]
mod tests;
