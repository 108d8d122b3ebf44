//! The older format, that of `logging.config.fileConfig`, in the shape of the newer one.

use super::literal;
use crate::config::{Document, Format};
use serde_json::{Map, Value, json};

/// The names of the arguments that stand in `args` by their place.
fn positions(class: &str) -> &'static [&'static str] {
    match class.rsplit('.').next().unwrap_or(class) {
        "StreamHandler" => &["stream"],
        "FileHandler" | "WatchedFileHandler" => &["filename", "mode"],
        "RotatingFileHandler" => &["filename", "mode", "maxBytes", "backupCount"],
        "TimedRotatingFileHandler" => &[
            "filename",
            "when",
            "interval",
            "backupCount",
            "encoding",
            "delay",
            "utc",
        ],
        "SysLogHandler" => &["address", "facility", "socktype"],
        _ => &[],
    }
}

/// Reads it; `file` is for errors.
///
/// # Errors
/// It is no ini file, or a section that it names is missing.
pub fn read(text: &str, file: &str) -> Result<Value, String> {
    let document = Document::parse_as(Format::Ini, text.as_bytes(), file)
        .map_err(|error| error.to_string())?;
    let get = |section: &str, key: &str| document.get(section, key).map(str::trim);
    let keys = |section: &str| -> Vec<String> {
        let list = get(section, "keys").unwrap_or_default();
        let names = list
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        names.map(String::from).collect()
    };
    let section = |kind: &str, name: &str| {
        let section = format!("{kind}_{name}");
        match document.has_section(&section) {
            true => Ok(section),
            false => Err(format!("there is no section [{section}]")),
        }
    };
    if !document.has_section("loggers") {
        return Err("there is no section [loggers]".to_string());
    }
    let mut formatters = Map::new();
    for name in keys("formatters") {
        let section = section("formatter", &name)?;
        let mut formatter = Map::new();
        for key in ["format", "datefmt", "style", "class"] {
            formatter.extend(get(&section, key).map(|text| (key.to_string(), json!(text))));
        }
        formatters.insert(name, Value::Object(formatter));
    }
    let mut handlers = Map::new();
    for name in keys("handlers") {
        let section = section("handler", &name)?;
        let class = get(&section, "class").unwrap_or_default();
        let mut handler = Map::from_iter([("class".to_string(), json!(class))]);
        for key in ["level", "formatter"] {
            handler.extend(get(&section, key).map(|text| (key.to_string(), json!(text))));
        }
        let wrong = |key: &str, why: String| format!("[{section}] {key}: {why}");
        let args = get(&section, "args").unwrap_or("()");
        let args = literal::read(args).map_err(|why| wrong("args", why))?;
        let args = args.as_array().cloned().unwrap_or_else(|| vec![args]);
        for (name, value) in positions(class).iter().zip(args) {
            handler.insert(name.to_string(), value);
        }
        if let Some(kwargs) = get(&section, "kwargs") {
            match literal::read(kwargs).map_err(|why| wrong("kwargs", why))? {
                Value::Object(more) => handler.extend(more),
                _ => return Err(wrong("kwargs", "it is no dictionary".to_string())),
            }
        }
        handlers.insert(name, Value::Object(handler));
    }
    let mut loggers = Map::new();
    let mut root = Value::Null;
    for name in keys("loggers") {
        let section = section("logger", &name)?;
        let list = get(&section, "handlers").unwrap_or_default();
        let list: Vec<&str> = list
            .split(',')
            .map(str::trim)
            .filter(|n| !n.is_empty())
            .collect();
        let logger = json!({
            "level": get(&section, "level").unwrap_or("NOTSET"),
            "handlers": list,
            "propagate": get(&section, "propagate").is_none_or(|text| text != "0"),
        });
        match name.as_str() {
            "root" => root = logger,
            name => {
                let name = get(&section, "qualname").unwrap_or(name).to_string();
                loggers.insert(name, logger);
            }
        }
    }
    Ok(json!({"formatters": formatters, "handlers": handlers, "loggers": loggers, "root": root}))
}
