//! What a configuration says that is probably not meant, told from its text alone. Pure.

use std::collections::HashMap;

use super::finding::{Finding, Severity};
use crate::cli::config::keys::{self, SectionKind};
use crate::cli::config::opened::Opened;
use crate::cli::config::shadows;
use crate::config::{CONSOLE, Config, SocketConfig, SocketFamily, SocketType, pattern};
use crate::options::{self, RETIRED_OPTIONS, WatcherOptions};

/// The names that sections begin with.
const KNOWN_SECTIONS: [&str; 6] = ["circus", "watcher:", "socket:", "plugin:", "env", "env:"];

/// What can be told also if values are wrong.
pub fn of_text(opened: &Opened) -> Vec<Finding> {
    let mut found = Vec::new();
    repeated(opened, &mut found);
    for section in opened.effective.sections() {
        unread_section(opened, section, &mut found);
        for (key, stated) in opened.effective.items(section) {
            let warn = |what: String| Finding::at(Severity::Warning, opened, section, &key, what);
            if stated.value.contains("${socket:") {
                found.push(warn(
                    "${socket:NAME} is the old spelling; write $(circus.sockets.NAME)".to_owned(),
                ));
            }
            let effect = keys::specs(section).iter().find(|spec| spec.name == key);
            // The endpoint of the statistics is told of with the statistics.
            let told = key == "stats_endpoint";
            if effect.is_some_and(|spec| !spec.effective && spec.default != stated.value)
                && !told
                // A plugin is told of as a whole.
                && keys::kind(section) != SectionKind::Plugin
                && !stated.value.is_empty()
            {
                found.push(warn(
                    "is checked and kept, and has no effect yet".to_owned(),
                ));
            }
            let retired = RETIRED_OPTIONS.iter().any(|(name, _)| *name == key);
            if retired && keys::kind(section) == SectionKind::Watcher {
                found.push(warn("has no effect any more; remove it".to_owned()));
            }
            if keys::kind(section) == SectionKind::Env {
                for name in dollar_names(&stated.value) {
                    if !opened.environ.contains_key(name) {
                        found.push(warn(format!(
                            "${name} is not set in this environment and becomes empty"
                        )));
                    }
                }
            }
            let words: Vec<&str> = stated.value.split_whitespace().collect();
            let comment = words.iter().skip(1).any(|word| word.starts_with('#'));
            if comment && matches!(key.as_str(), "cmd" | "args") {
                found.push(warn(
                    "` #` begins no comment here, what follows is an argument; a comment after a value begins with ` ;`"
                        .to_owned(),
                ));
            }
        }
    }
    found
}

/// The names that `$NAME` asks for in an environment section: capital letters, digits and underscores.
fn dollar_names(text: &str) -> Vec<&str> {
    let inside = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    text.match_indices('$')
        .map(|(at, _)| &text[at + 1..])
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|rest| &rest[..rest.find(|c| !inside(c)).unwrap_or(rest.len())])
        .collect()
}

/// Lines that are not read, and sections in several parts.
fn repeated(opened: &Opened, found: &mut Vec<Finding>) {
    for shadow in shadows::all(opened) {
        let first = opened.effective.get(&shadow.section, &shadow.key);
        let counts = first.map_or(String::new(), |first| {
            format!(
                ", because {}:{} comes first",
                first.file.display(),
                first.line
            )
        });
        found.push(Finding {
            severity: Severity::Warning,
            line: Some(shadow.line),
            section: Some(shadow.section),
            key: Some(shadow.key),
            ..Finding::error(&shadow.file, format!("is not read{counts}"))
        });
    }
    for file in &opened.files {
        for (section, line, first) in file.document.later_parts() {
            found.push(Finding {
                severity: Severity::Warning,
                line: Some(line),
                section: Some(section.to_owned()),
                ..Finding::error(
                    &file.shown,
                    format!("goes on with the section of line {first}"),
                )
            });
        }
    }
    for (at, file) in opened.files.iter().enumerate() {
        for section in file.document.sections() {
            let earlier = opened.files[..at]
                .iter()
                .find(|before| before.document.has_section(section));
            let Some(first) = earlier else {
                continue;
            };
            let first_line = first.document.section_line(section).unwrap_or(1);
            found.push(Finding {
                severity: Severity::Warning,
                line: file.document.section_line(section),
                section: Some(section.to_owned()),
                ..Finding::error(
                    &file.shown,
                    format!(
                        "goes on with the section of {}:{first_line}",
                        first.shown.display()
                    ),
                )
            });
        }
    }
}

fn unread_section(opened: &Opened, section: &str, found: &mut Vec<Finding>) {
    if keys::kind(section) != SectionKind::Unread {
        return;
    }
    let (head, name) = match section.split_once([':', '.']) {
        Some((head, name)) => (format!("{head}:"), name),
        None => (section.to_owned(), ""),
    };
    let near = options::nearest_of(&head.to_lowercase(), KNOWN_SECTIONS)
        .map(|near| format!("; did you mean [{near}{name}]?"));
    found.push(Finding::at(
        Severity::Warning,
        opened,
        section,
        "",
        format!("nothing reads this section{}", near.unwrap_or_default()),
    ));
}

/// What can be told of a configuration whose values are right.
pub fn of_config(opened: &Opened, config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    unused_sockets(opened, config, &mut found);
    doubled_addresses(opened, config, &mut found);
    for section in opened.effective.sections() {
        let Some(patterns) = section.strip_prefix("env:") else {
            continue;
        };
        for wanted in patterns.split(',').map(str::trim) {
            let matches = |watcher: &&WatcherOptions| pattern::matches(wanted, &watcher.name);
            if config.watchers.iter().find(matches).is_none() {
                let names = config.watchers.iter().map(|watcher| watcher.name.as_str());
                let near = options::nearest_of(wanted, names)
                    .map(|near| format!("; did you mean {near}?"));
                found.push(Finding::at(
                    Severity::Warning,
                    opened,
                    section,
                    "",
                    format!("no watcher is called {wanted}{}", near.unwrap_or_default()),
                ));
            }
        }
    }
    for (section, _) in config.watchers_by_section() {
        leftovers(opened, section, &mut found);
    }
    found
}

/// Sockets that no watcher uses.
fn unused_sockets(opened: &Opened, config: &Config, found: &mut Vec<Finding>) {
    let names_any = |watcher: &WatcherOptions| {
        config
            .sockets
            .iter()
            .any(|socket| crate::config::names_socket(watcher, &socket.name))
    };
    // A watcher that inherits the sockets and names none may know their numbers from elsewhere.
    let knows_all = config
        .watchers
        .iter()
        .any(|watcher| watcher.use_sockets() && !names_any(watcher));
    // the web console's is its own
    let own = |socket: &&SocketConfig| socket.name != CONSOLE;
    for socket in config.sockets.iter().filter(own) {
        let uses = |watcher: &WatcherOptions| {
            watcher.stdin_socket().to_lowercase() == socket.name
                || crate::config::hands_over(watcher, &socket.name)
                || watcher.use_sockets() && crate::config::names_socket(watcher, &socket.name)
        };
        if !knows_all && !config.watchers.iter().any(uses) {
            let section = section_of_socket(opened, &socket.name);
            found.push(Finding::at(
                Severity::Warning,
                opened,
                &section,
                "",
                format!(
                    "no watcher uses this socket: with use_sockets = True, a command names it as \
                     $(circus.sockets.{})",
                    socket.name
                ),
            ));
        }
    }
}

fn section_of_socket(opened: &Opened, name: &str) -> String {
    let wanted = format!("socket:{name}");
    opened
        .effective
        .sections()
        .find(|section| section.to_lowercase() == wanted)
        .map_or(wanted.clone(), str::to_owned)
}

/// Two sockets on one address cannot both be bound.
fn doubled_addresses(opened: &Opened, config: &Config, found: &mut Vec<Finding>) {
    let mut taken: HashMap<String, String> = HashMap::new();
    let circus = &config.circus;
    for (key, endpoint) in [
        ("endpoint", &circus.endpoint),
        ("pubsub_endpoint", &circus.pubsub_endpoint),
    ] {
        let address = endpoint
            .strip_prefix("tcp://")
            .or(endpoint.strip_prefix("ipc://"))
            .unwrap_or(endpoint);
        if let Some(first) = taken.insert(address.to_owned(), format!("[circus] {key}")) {
            found.push(Finding::at(
                Severity::Error,
                opened,
                "circus",
                key,
                format!("{endpoint} is taken by {first} already"),
            ));
        }
    }
    for socket in &config.sockets {
        let address = match (&socket.path, socket.family) {
            (Some(path), _) => path.clone(),
            (None, SocketFamily::Unix) => continue,
            (None, _) if socket.port == 0 => continue,
            // The same port can be bound once for each type of socket.
            (None, _) if socket.kind != SocketType::Stream => continue,
            (None, _) => format!("{}:{}", socket.host, socket.port),
        };
        let section = section_of_socket(opened, &socket.name);
        if let Some(first) = taken.insert(address.clone(), format!("[{section}]"))
            && !socket.so_reuseport
        {
            found.push(Finding::at(
                Severity::Error,
                opened,
                &section,
                "port",
                format!("{address} is taken by {first} already"),
            ));
        }
    }
}

/// Variables of the environment that are not set, as far as they are left in a watcher's values.
fn leftovers(opened: &Opened, section: &str, found: &mut Vec<Finding>) {
    for (key, stated) in opened.effective.items(section) {
        let text = opened.effective.expand(section, &key, &stated.value);
        for unknown in crate::config::Variables::new().unknown(&text) {
            let lower = unknown.to_lowercase();
            if lower.contains("circus.env.") {
                found.push(Finding::at(
                    Severity::Warning,
                    opened,
                    section,
                    &key,
                    format!("{unknown} is not set in this environment"),
                ));
            }
        }
    }
}
