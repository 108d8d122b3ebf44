//! The effective configuration as one text: includes merged, the first value of a key kept, defaults of `DEFAULT` put
//! where they count, variables of the environment replaced. Pure.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::document::Document;
use super::effective::{Effective, Stated};
use super::error::ConfigError;
use super::keys::{self, KeySpec};
use super::model::Config;
use super::{pytext, text};
use crate::options::{self, Key, Kind, WATCHER_OPTIONS, WatcherOptions};

/// How a configuration is to be rendered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rendering {
    /// Replace the variables of the environment.
    pub expand: bool,
    /// Say above each key where it comes from.
    pub origin: bool,
    /// Write the defaults of the keys that are not given, as far as they can be written.
    pub defaults: bool,
}

/// One key as it is rendered.
struct Line {
    key: String,
    value: String,
    /// File and line; nothing for a default.
    origin: Option<(PathBuf, usize)>,
}

/// The keys that say which other files belong to the configuration; they are in the rendering already.
const INCLUDES: [&str; 2] = ["include", "include_dir"];

/// Keys of `[circus]` whose default is what the command line says, so that writing it would change the meaning.
const LEFT_TO_COMMAND_LINE: [&str; 3] = ["loglevel", "logoutput", "log_format"];

/// Renders as a circus.ini.
///
/// # Errors
/// A value that the dialect has no spelling for.
pub fn ini(effective: &Effective, how: Rendering) -> Result<String, ConfigError> {
    let mut out = String::new();
    for (section, lines) in sections(effective, how) {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("[{section}]\n"));
        for line in lines {
            if how.origin {
                match &line.origin {
                    Some((file, number)) => {
                        out.push_str(&format!("# from {}:{number}\n", file.display()));
                    }
                    None => out.push_str("# default\n"),
                }
            }
            out.push_str(&spelled(&line.key, &line.value));
        }
    }
    // Reads back, or says which line does not.
    Document::parse(out.as_bytes(), "rendering.ini")?;
    Ok(out)
}

/// Renders as JSON, in the shape of a circus.toml.
pub fn json(effective: &Effective, how: Rendering) -> Value {
    let mut top = Map::new();
    for (section, lines) in sections(effective, how) {
        let mut own = Map::new();
        for line in lines {
            let value = typed(&section, &line.key, &line.value);
            let value = match &line.origin {
                _ if !how.origin => value,
                Some((file, number)) => {
                    serde_json::json!({"value": value, "file": file, "line": number})
                }
                None => serde_json::json!({"value": value, "file": null, "line": null}),
            };
            insert(&mut own, &section, &line.key, value);
        }
        let (kind, name) = match section.split_once(':') {
            Some((kind, name)) => (kind, Some(name)),
            None => (section.as_str(), None),
        };
        let slot = top.entry(kind).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(table) = slot {
            match name {
                Some(name) => {
                    table.insert(name.to_owned(), Value::Object(own));
                }
                None => table.extend(own),
            }
        }
    }
    Value::Object(top)
}

/// Do two configurations mean the same? With `defaults`, one of them may write out what the other leaves out.
pub fn same(a: &Config, b: &Config, defaults: bool) -> bool {
    let sockets = |config: &Config| {
        let mut sockets = config.sockets.clone();
        for socket in &mut sockets {
            let known = |key: &str| keys::SOCKET_KEYS.iter().any(|spec| spec.name == key);
            socket.raw.retain(|key, _| !defaults && known(key));
        }
        sockets
    };
    a.circus == b.circus
        && a.watchers == b.watchers
        && sockets(a) == sockets(b)
        && a.plugins == b.plugins
}

fn sections(effective: &Effective, how: Rendering) -> Vec<(String, Vec<Line>)> {
    let mut all: Vec<(String, Vec<Line>)> = effective
        .sections()
        .map(|section| (section.to_owned(), lines(effective, section, how)))
        // It may have held nothing but the names of the included files.
        .filter(|(section, lines)| section != "circus" || !lines.is_empty())
        .collect();
    // In a circus.ini the order of the [env:…] sections counts.
    all.sort_by_key(|(section, _)| effective.comes_last(section));
    if how.defaults && !all.iter().any(|(section, _)| section == "circus") {
        let mut lines = Vec::new();
        add_defaults("circus", &mut lines);
        all.insert(0, ("circus".to_owned(), lines));
    }
    all
}

fn lines(effective: &Effective, section: &str, how: Rendering) -> Vec<Line> {
    let mut items = effective.items(section);
    // What DEFAULT says to others is of no use here.
    let useless = |key: &str, stated: &Stated| {
        stated.by_default
            && keys::of_section(section)
                .is_some_and(|specs| !specs.iter().any(|spec| spec.name == key))
    };
    if items.iter().any(|(key, stated)| !useless(key, stated)) {
        items.retain(|key, stated| !useless(key, stated));
    }
    let mut lines: Vec<Line> = items
        .into_iter()
        .filter(|(key, _)| section != "circus" || !INCLUDES.contains(&key.as_str()))
        .map(|(key, stated)| Line {
            value: replaced(effective, section, &key, &stated.value, how),
            key,
            origin: Some((stated.file, stated.line)),
        })
        .collect();
    // An empty section is none to the daemon, and is to stay so.
    if how.defaults && (section == "circus" || !lines.is_empty()) {
        add_defaults(section, &mut lines);
    }
    lines
}

/// The value with its variables replaced, unless what comes out would be replaced once more or cannot be written.
fn replaced(
    effective: &Effective,
    section: &str,
    key: &str,
    value: &str,
    how: Rendering,
) -> String {
    if !how.expand {
        return value.to_owned();
    }
    let text = effective.expand(section, key, value);
    let stable = effective.expand(section, key, &text) == text;
    if stable && reads_back(key, &text) {
        text
    } else {
        value.to_owned()
    }
}

fn reads_back(key: &str, value: &str) -> bool {
    let text = format!("[x]\n{}", spelled(key, value));
    Document::parse(text.as_bytes(), "rendering.ini")
        .is_ok_and(|document| document.get("x", key) == Some(value))
}

/// The lines of one option.
fn spelled(key: &str, value: &str) -> String {
    let mut out = format!("{key} =");
    for (at, piece) in value.split('\n').enumerate() {
        match at {
            0 if piece.is_empty() => {}
            0 => out.push_str(&format!(" {piece}")),
            _ => out.push_str(&format!("\n    {piece}")),
        }
    }
    out.push('\n');
    out
}

fn add_defaults(section: &str, lines: &mut Vec<Line>) {
    let mut add = |key: &str, value: String| {
        if !value.is_empty() && !lines.iter().any(|line| line.key == key) {
            lines.push(Line {
                key: key.to_owned(),
                value,
                origin: None,
            });
        }
    };
    if section.starts_with("watcher:") {
        let defaults = WatcherOptions::ini_defaults("");
        for spec in WATCHER_OPTIONS {
            let value = defaults.get(spec.name);
            if let Some(Ok(Some(text))) = value.map(text::ini_text) {
                add(spec.name, text);
            }
        }
        return;
    }
    let specs: &[KeySpec] = keys::of_section(section).unwrap_or_default();
    for spec in specs {
        if section != "circus" || !LEFT_TO_COMMAND_LINE.contains(&spec.name) {
            add(spec.name, spec.default.to_owned());
        }
    }
}

/// Puts a value where a circus.toml has it: hooks and streams are tables of their own.
fn insert(map: &mut Map<String, Value>, section: &str, key: &str, value: Value) {
    let nested = key
        .split_once('.')
        .filter(|_| section.starts_with("watcher:"));
    let nested = nested
        .filter(|(head, _)| matches!(*head, "hooks" | "stdout_stream" | "stderr_stream"))
        .filter(|(head, _)| map.get(*head).is_none_or(Value::is_object));
    match nested {
        Some((head, tail)) => {
            let slot = map.entry(head).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = slot {
                inner.insert(tail.to_owned(), value);
            }
        }
        None => {
            map.insert(key.to_owned(), value);
        }
    }
}

/// The text as the type that its key has; as it is where it holds something else, such as a variable.
fn typed(section: &str, key: &str, text: &str) -> Value {
    let boolean = || options::to_bool(text).map(Value::from).ok();
    let integer = || pytext::int(text).map(Value::from);
    let number = || {
        integer().or_else(|| {
            pytext::float(text)
                .filter(|n| n.is_finite())
                .map(Value::from)
        })
    };
    let value = if section.starts_with("watcher:") {
        match options::find(key) {
            Some((spec, Key::Whole)) => match spec.kind {
                Kind::Bool => boolean(),
                Kind::Int | Kind::Count => integer(),
                Kind::Seconds => number(),
                _ => None,
            },
            Some((spec, Key::Entry(_))) if spec.kind == Kind::Limits => integer(),
            Some((spec, Key::Entry("max_bytes" | "backup_count"))) if spec.kind == Kind::Stream => {
                integer()
            }
            _ => None,
        }
    } else {
        let specs = keys::of_section(section).unwrap_or_default();
        match specs
            .iter()
            .find(|spec| spec.name == key)
            .map(|spec| spec.form)
        {
            Some("truth value") => boolean(),
            Some("whole number" | "0 to 65535" | "decimal digits") => integer(),
            Some("seconds" | "seconds, may be negative") => number(),
            _ => None,
        }
    };
    value.unwrap_or_else(|| Value::from(text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use super::*;

    const MORE: &str = "[watcher:web]\nmax_age = 5\nnumprocesses = 9\n[env:web]\nB = $HOME\n";

    fn surroundings() -> (BTreeMap<String, String>, PathBuf) {
        let environ = BTreeMap::from([
            ("HOME".to_owned(), "/h".to_owned()),
            ("TRICKY".to_owned(), "$(circus.env.HOME) ; x".to_owned()),
        ]);
        (environ, PathBuf::from("/nowhere"))
    }

    fn both(text: &str) -> (Config, Effective) {
        let (environ, cwd) = surroundings();
        let directory = match tempfile::tempdir() {
            Ok(directory) => directory,
            Err(error) => panic!("{error}"),
        };
        let path = directory.path().join("more.ini");
        std::fs::write(&path, MORE).unwrap_or_else(|error| panic!("{error}"));
        let text = text.replace("MORE", &path.to_string_lossy());
        let edited = BTreeMap::from([(cwd.join("c.ini"), text.into_bytes())]);
        let main = Path::new("c.ini");
        let config = Config::load_edited(main, &environ, &cwd, &edited);
        let effective = Effective::read(main, &environ, &cwd, &edited);
        match (config, effective) {
            (Ok(config), Ok(effective)) => (config, effective),
            (Err(error), _) | (_, Err(error)) => panic!("{error}"),
        }
    }

    const TEXT: &str = "[circus]\ninclude = MORE\npidfile = $(circus.env.HOME)/p\n[DEFAULT]\ngraceful_timeout = 7\n\
                        [watcher:web]\ncmd = x $(circus.env.A) $(circus.wid)\nargs = a\n  b\nnumprocesses = 2\n\
                        copy_env = yes\nhooks.before_start = m.f\nstdout_stream.class = FileStream\n\
                        stdout_stream.filename = /x\nrlimit_nofile = 5\n[watcher:empty]\ncmd = y\n\
                        [env]\nA = $(circus.env.HOME)/a\nT = $(circus.env.TRICKY)\n[socket:s]\nport = 0\n\
                        [plugin:p]\nuse = m.P\nloop_rate = 1\n";

    #[test]
    fn a_rendering_means_the_same() {
        let (config, effective) = both(TEXT);
        for expand in [false, true] {
            for origin in [false, true] {
                for defaults in [false, true] {
                    let how = Rendering {
                        expand,
                        origin,
                        defaults,
                    };
                    let text = ini(&effective, how).unwrap_or_else(|error| panic!("{error}"));
                    let (again, _) = both(&text);
                    assert!(same(&config, &again, defaults), "{how:?}\n{text}");
                }
            }
        }
    }

    #[test]
    fn it_reads_well() {
        let (_, effective) = both(TEXT);
        let how = Rendering {
            expand: true,
            origin: true,
            defaults: false,
        };
        let text = ini(&effective, how).unwrap_or_else(|error| panic!("{error}"));
        for part in [
            "[circus]\n# from c.ini:3\npidfile = /h/p\n",
            "[watcher:empty]\n# from c.ini:5\ngraceful_timeout = 7\n",
            "cmd = x /h/a $(circus.wid)\n",
            "args = a\n    b\n",
            ":2\nmax_age = 5\n",
            "B = /h\n",
            // What would be replaced once more stays as it is.
            "T = $(circus.env.TRICKY)\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("include") && !text.contains("numprocesses = 9"));
        let json = json(&effective, Rendering::default());
        assert_eq!(json["watcher"]["web"]["numprocesses"], 2);
        assert_eq!(json["watcher"]["web"]["copy_env"], true);
        assert_eq!(json["watcher"]["web"]["hooks"]["before_start"], "m.f");
        assert_eq!(json["watcher"]["web"]["rlimit_nofile"], 5);
        assert_eq!(json["env"]["web"]["B"], "$HOME");
        assert_eq!(json["socket"]["s"]["port"], 0);
    }
}
