//! What runs now, as a desired state that `apply` finds satisfied.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::desired::{Desired, DesiredSection, DesiredState, Running, SectionKind, Wanted};
use super::looking::{Seen, stated_live};
use super::observed::{FileSide, LiveWatcher};
use super::values::{same, wire_value};
use crate::config::keys::CIRCUS_KEYS;
use crate::config::{DEFAULT_STATS_ENDPOINT, NAME_KEY, ini_text};

/// The whole state of the daemon, or of the file if there is no daemon to ask. What cannot be told is in its warnings.
pub fn export(seen: &Seen, origin: &str) -> DesiredState {
    let mut state = DesiredState {
        origin: origin.to_string(),
        ..DesiredState::default()
    };
    let home = Home::of(seen);
    for (name, observed) in &seen.watchers {
        let file = observed.file.as_ref();
        match observed.daemon.as_ref() {
            Some(side) => {
                if let Some(live) = &side.watcher {
                    let desired = of_live(name, live, file, &home, &mut state.warnings);
                    state.watchers.push(desired);
                }
            }
            None => state
                .watchers
                .extend(file.and_then(|file| of_file(name, file))),
        }
    }
    sections(&mut state, seen);
    state
}

/// What the daemon itself was started with, as far as this machine tells.
struct Home {
    environ: Option<BTreeMap<String, String>>,
    cwd: Option<PathBuf>,
}

impl Home {
    fn of(seen: &Seen) -> Home {
        let told = seen.pid.filter(|pid| *pid > 0);
        let environ = told.and_then(|pid| std::fs::read(format!("/proc/{pid}/environ")).ok());
        Home {
            environ: environ.map(|bytes| {
                bytes
                    .split(|byte| *byte == 0)
                    .filter_map(|pair| {
                        let text = String::from_utf8(pair.to_vec()).ok()?;
                        let (name, value) = text.split_once('=')?;
                        Some((name.to_string(), value.to_string()))
                    })
                    .collect()
            }),
            cwd: told.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).ok()),
        }
    }
}

fn of_live(
    name: &str,
    live: &LiveWatcher,
    file: Option<&FileSide>,
    home: &Home,
    warnings: &mut Vec<String>,
) -> Desired {
    let in_file = file.and_then(|file| Some((file, file.watcher.as_ref()?)));
    // A daemon tells names in lower case; the file knows how it is written.
    let mut desired = Desired {
        name: in_file.map_or(name.to_string(), |(_, watcher)| watcher.name.clone()),
        present: true,
        running: match live.is_running() {
            true => Running::Yes,
            false => Running::No,
        },
        ..Desired::default()
    };
    for (key, value) in stated_live(name, live) {
        let stated =
            |key: &str| in_file.is_some_and(|(file, _)| file.stated.iter().any(|k| k == key));
        // The daemon's own directory, which nobody asked for.
        if key == "working_dir"
            && !stated("working_dir")
            && (in_file.is_some()
                || home
                    .cwd
                    .as_ref()
                    .map(|cwd| cwd.display().to_string())
                    .as_deref()
                    == value.as_str())
        {
            continue;
        }
        // The number of an account whose name the file states is that account.
        if let Some((_, watcher)) = in_file
            && super::accounts::same_option(&key, Some(&value), watcher.get(&key))
            && !stated(&key)
            && matches!(key.as_str(), "uid" | "gid")
        {
            continue;
        }
        let value = match value {
            Value::Number(ref number)
                if number.as_f64() == Some(-1.0) && key.starts_with("rlimit_") =>
            {
                Value::from("")
            }
            value => wire_value(&key, Some(&value)),
        };
        match ini_text(&value) {
            Ok(Some(text)) => desired.options.push(Wanted { key, text }),
            Ok(None) if key.starts_with("rlimit_") => desired.options.push(Wanted {
                key,
                text: String::new(),
            }),
            Ok(None) => {}
            Err(reason) => warnings.push(format!("{name}: {key} is left out: {reason}")),
        }
    }
    // What the daemon does not tell, the file does.
    if let Some((file, watcher)) = in_file {
        for key in &file.stated {
            if live.get(key).is_some() || desired.wants(key) {
                continue;
            }
            let value = watcher.get(key).map(|value| wire_value(key, Some(value)));
            if let Some(Ok(Some(text))) = value.map(|value| ini_text(&value)) {
                desired.options.push(Wanted {
                    key: key.clone(),
                    text,
                });
            }
        }
    }
    desired.env = environment(name, live, in_file.map(|(file, _)| file), home, warnings);
    desired
}

/// The variables that were given to the watcher, without those that it only copies from the daemon.
fn environment(
    name: &str,
    live: &LiveWatcher,
    file: Option<&FileSide>,
    home: &Home,
    warnings: &mut Vec<String>,
) -> Vec<(String, Option<String>)> {
    let copies = live.get("copy_env") == Some(Value::Bool(true));
    let all = live.environment();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let given = |name: &String, value: &Value| {
        let in_file = file.is_some_and(|file| file.environment.contains_key(name));
        let own = home.environ.as_ref().and_then(|environ| environ.get(name));
        in_file || !copies || home.environ.is_some() && own != Some(&text(value))
    };
    if copies && home.environ.is_none() && file.is_none() && !all.is_empty() {
        warnings.push(format!(
            "{name}: the environment is left out: which of its variables are copied from the daemon's own cannot be told \
             from here; give --config"
        ));
        return Vec::new();
    }
    all.iter()
        .filter(|(name, value)| *name != NAME_KEY && given(name, value))
        .map(|(name, value)| (name.clone(), Some(text(value))))
        .collect()
}

fn of_file(name: &str, file: &FileSide) -> Option<Desired> {
    let watcher = file.watcher.as_ref()?;
    let mut desired = Desired {
        name: name.to_string(),
        present: true,
        running: match watcher.autostart() {
            true => Running::Yes,
            false => Running::Any,
        },
        ..Desired::default()
    };
    for key in &file.stated {
        let value = watcher.get(key).map(|value| wire_value(key, Some(value)));
        if let Some(Ok(Some(text))) = value.map(|value| ini_text(&value)) {
            desired.options.push(Wanted {
                key: key.clone(),
                text,
            });
        }
    }
    desired.env = file
        .environment
        .iter()
        .filter(|(name, _)| *name != NAME_KEY)
        .filter_map(|(name, value)| Some((name.clone(), Some(value.as_str()?.to_string()))))
        .collect();
    Some(desired)
}

/// `[circus]`, sockets and plugins: the file's words if there is a file, else what the daemon tells.
fn sections(state: &mut DesiredState, seen: &Seen) {
    let push = |state: &mut DesiredState, kind, name: &str, options: Vec<Wanted>| {
        if !options.is_empty() {
            state.sections.push(DesiredSection {
                kind,
                name: name.to_string(),
                present: true,
                options,
                unset: Vec::new(),
            });
        }
    };
    let wanted = |pairs: BTreeMap<String, String>| -> Vec<Wanted> {
        pairs
            .into_iter()
            .filter(|(key, _)| !matches!(key.as_str(), "include" | "include_dir"))
            .map(|(key, text)| Wanted { key, text })
            .collect()
    };
    if let Some(files) = &seen.files {
        for section in files.config().sections() {
            let kinds = [
                (SectionKind::Socket, "socket:"),
                (SectionKind::Plugin, "plugin:"),
            ];
            let found = kinds
                .into_iter()
                .find_map(|(kind, prefix)| Some((kind, section.strip_prefix(prefix)?)));
            let (kind, name) = match (section, found) {
                ("circus", _) => (SectionKind::Circus, ""),
                (_, Some((kind, name))) => (kind, name),
                _ => continue,
            };
            let options = wanted(files.section(section).unwrap_or_default());
            push(state, kind, name, options);
        }
        return;
    }
    let circus = known(&seen.circus, |key| match key {
        // Naming it in a file would turn statistics on.
        "stats_endpoint" => Some(DEFAULT_STATS_ENDPOINT),
        _ => CIRCUS_KEYS
            .iter()
            .find(|spec| spec.name == key)
            .map(|spec| spec.default),
    });
    push(state, SectionKind::Circus, "", circus);
    for socket in &seen.sockets {
        let name = socket
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let keys = ["host", "port", "path", "backlog"];
        let told: Map<String, Value> = socket
            .iter()
            .filter(|(key, _)| keys.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let options = known(&told, |key| match key {
            "backlog" => Some("2048"),
            "host" | "port" | "path" => Some(""),
            _ => None,
        });
        push(state, SectionKind::Socket, name, options);
    }
}

/// The keys of a table that are not at their default.
fn known(told: &Map<String, Value>, default: impl Fn(&str) -> Option<&'static str>) -> Vec<Wanted> {
    told.iter()
        .filter_map(|(key, value)| {
            let default = default(key)?;
            let number = default.parse::<f64>().ok().map(Value::from);
            if same("", Some(value), number.as_ref()) && number.is_some() {
                return None;
            }
            let text = ini_text(value).ok()??;
            (text != default && !text.is_empty()).then(|| Wanted {
                key: key.clone(),
                text,
            })
        })
        .collect()
}
