//! `circ config get`: what counts, and where it stands.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::keys;
use super::opened::Opened;
use crate::cli::output;
use crate::config::{DEFAULT_SECTION, Stated};
use crate::options;

/// Arguments of `circ config get`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file; - for standard input
    file: PathBuf,
    /// A section, such as circus or watcher:web; watcher.web means the same, and web where nothing else is called so. All sections if left out
    section: Option<String>,
    /// A key of the section. All keys if left out
    key: Option<String>,
    /// Replace the variables that are known before anything runs: those of the environment
    #[arg(long)]
    expand: bool,
    /// Show the file and the line of each value
    #[arg(long)]
    origin: bool,
    /// Print JSON: a text for one key, else an object
    #[arg(long)]
    json: bool,
    /// Print this if the key has no value
    #[arg(
        long,
        value_name = "VALUE",
        requires = "key",
        allow_hyphen_values = true
    )]
    default: Option<String>,
}

/// Runs `circ config get`.
pub fn run(args: &Args) -> ExitCode {
    let opened = Opened::open(&args.file).map_err(String::from);
    let text = opened.and_then(|opened| match (&args.section, &args.key) {
        (Some(section), Some(key)) => one(&opened, section, key, args),
        (Some(section), None) => {
            let section = opened.section(section, &[])?;
            Ok(if args.json {
                section_json(&opened, &section, args).to_string()
            } else {
                lines(&opened, &section, args).join("\n")
            })
        }
        _ => Ok(all(&opened, args)),
    });
    match text {
        Ok(text) => {
            // A single value that is empty is a line of its own.
            if args.key.is_some() {
                output::line(&text);
            } else {
                output::text(&text);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn one(opened: &Opened, section: &str, key: &str, args: &Args) -> Result<String, String> {
    let section = match (opened.section(section, &[key]), &args.default) {
        (Ok(section), _) => section,
        (Err(_), Some(default)) => return Ok(default_text(default, args)),
        (Err(error), None) => return Err(error),
    };
    let Some(stated) = opened.effective.get(&section, key) else {
        return match &args.default {
            Some(default) => Ok(default_text(default, args)),
            None => Err(missing(opened, &section, key)),
        };
    };
    let value = value_of(opened, &section, key, &stated, args);
    Ok(if args.json {
        as_json(&stated, &value, args).to_string()
    } else if args.origin {
        format!("{}:{}\t{value}", stated.file.display(), stated.line)
    } else {
        value
    })
}

fn default_text(default: &str, args: &Args) -> String {
    if args.json {
        Value::from(default).to_string()
    } else {
        default.to_owned()
    }
}

/// Why a key has no value, and which one may have been meant.
fn missing(opened: &Opened, section: &str, key: &str) -> String {
    let items = opened.effective.items(section);
    let own: Vec<&str> = items.keys().map(String::as_str).collect();
    let known = keys::names(section);
    let near = options::nearest_of(key, own.iter().copied())
        .or_else(|| options::nearest_of(key, known.iter().copied()));
    let hint = if keys::known(section, key) == keys::Known::Yes {
        match default(section, key) {
            Some(default) => format!("; without it, it is {default}"),
            None => String::new(),
        }
    } else {
        match near {
            Some(near) => format!("; did you mean {near}?"),
            None if own.is_empty() => "; it has no keys at all".to_owned(),
            None if own.len() <= 12 => format!("; it has {}", own.join(", ")),
            None => String::new(),
        }
    };
    format!(
        "{}: [{section}] has no key {key}{hint}",
        opened.shown.display()
    )
}

/// What a key means that is not given.
fn default(section: &str, key: &str) -> Option<String> {
    if keys::kind(section) == keys::SectionKind::Watcher {
        let defaults = options::WatcherOptions::ini_defaults("");
        let value = defaults.get(key).filter(|value| !value.is_null())?;
        let text = crate::config::ini_text(value).ok()??;
        return Some(text).filter(|text| !text.is_empty());
    }
    keys::specs(section)
        .iter()
        .find(|spec| spec.name == key && !spec.default.is_empty())
        .map(|spec| spec.default.to_owned())
}

fn value_of(opened: &Opened, section: &str, key: &str, stated: &Stated, args: &Args) -> String {
    if args.expand {
        opened.effective.expand(section, key, &stated.value)
    } else {
        stated.value.clone()
    }
}

fn as_json(stated: &Stated, value: &str, args: &Args) -> Value {
    if args.origin {
        json!({"value": value, "file": stated.path, "line": stated.line})
    } else {
        Value::from(value)
    }
}

fn section_json(opened: &Opened, section: &str, args: &Args) -> Value {
    let pairs = opened.effective.items(section).into_iter();
    let object: Map<String, Value> = pairs
        .map(|(key, stated)| {
            let value = value_of(opened, section, &key, &stated, args);
            (key, as_json(&stated, &value, args))
        })
        .collect();
    Value::Object(object)
}

/// The keys of a section, each as a file would say it.
fn lines(opened: &Opened, section: &str, args: &Args) -> Vec<String> {
    let pairs = opened.effective.items(section).into_iter();
    pairs
        .map(|(key, stated)| {
            let value = value_of(opened, section, &key, &stated, args);
            let mut text = key;
            text.push_str(" =");
            for (at, piece) in value.split('\n').enumerate() {
                match at {
                    0 if piece.is_empty() => {}
                    0 => text.push_str(&format!(" {piece}")),
                    _ => text.push_str(&format!("\n    {piece}")),
                }
            }
            if args.origin {
                format!("{}:{}\t{text}", stated.file.display(), stated.line)
            } else {
                text
            }
        })
        .collect()
}

fn all(opened: &Opened, args: &Args) -> String {
    let sections = opened.effective.sections().map(str::to_owned);
    // The sections below hold the defaults already; by itself DEFAULT says where they come from.
    let defaults = Some(DEFAULT_SECTION.to_owned())
        .filter(|_| opened.effective.has_section(DEFAULT_SECTION) && args.origin);
    let sections: Vec<String> = defaults.into_iter().chain(sections).collect();
    if args.json {
        let object: Map<String, Value> = sections
            .iter()
            .map(|section| (section.clone(), section_json(opened, section, args)))
            .collect();
        return Value::Object(object).to_string();
    }
    let blocks: Vec<String> = sections
        .iter()
        .map(|section| {
            let mut block = vec![format!("[{section}]")];
            block.extend(lines(opened, section, args));
            block.join("\n")
        })
        .collect();
    blocks.join("\n\n")
}
