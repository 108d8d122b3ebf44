//! Only looking: what the file says and what the daemon says, side by side, without anything wanted.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::expand::is_internal;
use super::files::Files;
use super::live::Live;
use super::observed::{LiveWatcher, Observed};
use super::prepare;
use super::secrets;
use super::settings::Settings;
use crate::config::NAME_KEY;
use crate::options::{self, WATCHER_OPTIONS, WatcherOptions};

/// The version of the shape of [`Seen::to_json`].
pub const SCHEMA: &str = "circ.observed/1";

/// Everything that was looked at.
pub struct Seen {
    /// Where the daemon is, if it was asked.
    pub endpoint: Option<String>,
    /// Who answered there; none for a circusd.
    pub config_of_daemon: Option<std::path::PathBuf>,
    /// The daemon's process, if it tells.
    pub pid: Option<i64>,
    /// The configuration, if one was named.
    pub files: Option<Files>,
    /// The watchers of both sides, by name.
    pub watchers: Vec<(String, Observed)>,
    /// The sockets that the daemon holds.
    pub sockets: Vec<Map<String, Value>>,
    /// The options of the daemon itself.
    pub circus: Map<String, Value>,
}

/// Looks at these watchers, or at all of them.
///
/// # Errors
/// The configuration cannot be read, the daemon cannot be asked, or a named watcher is on neither side.
pub fn look(names: &[String], settings: &Settings) -> Result<Seen, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let deadline = Instant::now() + settings.timeout;
    let files = settings
        .config
        .as_ref()
        .map(|path| Files::load(path, settings.environ.clone(), settings.cwd.clone()))
        .transpose()
        .map_err(|e| text(&e))?;
    if files.is_none() && !settings.live {
        return Err(
            "neither a file nor a daemon to look at: give --config, or leave out --no-live".into(),
        );
    }
    let mut seen = Seen {
        endpoint: None,
        config_of_daemon: None,
        pid: None,
        files,
        watchers: Vec::new(),
        sockets: Vec::new(),
        circus: Map::new(),
    };
    let mut live = None;
    if settings.live {
        let endpoint = prepare::endpoint(settings, seen.files.as_ref())?;
        let mut connection =
            Live::connect(&endpoint, deadline, &settings.interrupt).map_err(|error| match &seen
                .files
            {
                Some(_) => format!("{error}; to look at the file alone, give --no-live"),
                None => error.to_string(),
            })?;
        // What `options` does not list is asked for as well.
        let unlisted: Vec<String> = WATCHER_OPTIONS
            .iter()
            .filter(|spec| !spec.listed && spec.name != "autostart")
            .map(|spec| spec.name.to_string())
            .collect();
        connection.ask_for(&unlisted);
        let identity = connection.identity().map_err(|e| text(&e))?;
        seen.endpoint = Some(connection.endpoint());
        seen.pid = identity.as_ref().map(|identity| identity.pid);
        seen.config_of_daemon = identity.map(|identity| identity.config);
        seen.sockets = connection
            .sockets()
            .map_err(|e| text(&e))?
            .into_values()
            .collect();
        seen.circus = connection.global_options().map_err(|e| text(&e))?;
        live = Some(connection);
    }
    seen.watchers = watchers(names, live.as_mut(), seen.files.as_ref())?;
    Ok(seen)
}

fn watchers(
    names: &[String],
    mut live: Option<&mut Live>,
    files: Option<&Files>,
) -> Result<Vec<(String, Observed)>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let running = match live.as_deref_mut() {
        Some(live) => live.names().map_err(|e| text(&e))?,
        None => BTreeSet::new(),
    };
    let mut all: Vec<String> = files
        .into_iter()
        .flat_map(|files| files.config().watchers.iter().map(|w| w.name.clone()))
        .collect();
    for name in &running {
        if !is_internal(name) && !all.iter().any(|known| known.to_lowercase() == *name) {
            all.push(name.clone());
        }
    }
    let mut wanted = Vec::new();
    for name in names {
        let known = all
            .iter()
            .find(|known| known.to_lowercase() == name.to_lowercase());
        wanted.push(known.cloned().ok_or_else(|| {
            let near = options::nearest_of(name, all.iter().map(String::as_str));
            let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
            format!("{name}: there is no watcher of this name{hint}")
        })?);
    }
    if names.is_empty() {
        wanted = all;
    }
    let now = files.map(Files::now);
    let mut result = Vec::new();
    for name in wanted {
        let daemon = match live.as_deref_mut() {
            Some(live) => {
                let known = running.contains(&name.to_lowercase());
                Some(live.observe_known(&name, known).map_err(|e| text(&e))?)
            }
            None => None,
        };
        let file = files
            .zip(now.as_ref())
            .map(|(files, now)| files.side(now, &name));
        result.push((name, Observed { file, daemon }));
    }
    Ok(result)
}

impl Seen {
    /// `{"schema", "endpoint", "watchers": {NAME: {"file": {…}|null, "daemon": {…}|null}}, "sockets", "circus"}`; sides
    /// that were not looked at are left out.
    pub fn to_json(&self, show_secrets: bool) -> Value {
        let shown = |map: Map<String, Value>| match show_secrets {
            true => map,
            false => secrets::masked_map(&map),
        };
        let mut watchers = Map::new();
        for (name, seen) in &self.watchers {
            let mut sides = Map::new();
            if let Some(file) = &seen.file {
                let stated = file.watcher.as_ref().map(|watcher| {
                    let mut map = Map::new();
                    for key in file.stated.iter().filter(|key| *key != NAME_KEY) {
                        map.insert(key.clone(), watcher.get(key).cloned().unwrap_or_default());
                    }
                    let mut env = file.environment.clone();
                    env.shift_remove(NAME_KEY);
                    if !env.is_empty() {
                        map.insert("env".into(), Value::Object(env));
                    }
                    Value::Object(shown(map))
                });
                sides.insert("file".into(), stated.unwrap_or_default());
            }
            if let Some(daemon) = &seen.daemon {
                let told = daemon.watcher.as_ref().map(|watcher| {
                    let mut map = shown(watcher.options.clone());
                    // Limits, hooks and streams by entry, as the file states them.
                    let stated = seen.file.iter().flat_map(|file| &file.stated);
                    for key in stated.filter(|key| *key != NAME_KEY) {
                        if let Some(value) = watcher.get(key) {
                            map.entry(key.clone()).or_insert(value);
                        }
                    }
                    map.insert("status".into(), Value::from(watcher.status.as_str()));
                    map.insert("pids".into(), json!(watcher.pids));
                    Value::Object(map)
                });
                sides.insert("daemon".into(), told.unwrap_or_default());
            }
            watchers.insert(name.clone(), Value::Object(sides));
        }
        let mut json = json!({"schema": SCHEMA, "watchers": watchers});
        if let Some(files) = &self.files {
            json["config"] = Value::from(files.shown().display().to_string());
        }
        if let Some(endpoint) = &self.endpoint {
            json["endpoint"] = Value::from(endpoint.as_str());
            json["sockets"] = json!(self.sockets);
            json["circus"] = Value::Object(self.circus.clone());
        }
        json
    }
}

/// The options of a watcher in the daemon that are not at their default, by key; mapping options by entry.
pub(super) fn stated_live(name: &str, live: &LiveWatcher) -> Vec<(String, Value)> {
    use super::values::same;
    let defaults = WatcherOptions::ini_defaults(name);
    let mut stated = Vec::new();
    for spec in WATCHER_OPTIONS {
        if spec.kind == options::Kind::Env || spec.name == "autostart" {
            continue;
        }
        let Some(value) = live.get(spec.name) else {
            continue;
        };
        match (spec.kind, value) {
            (options::Kind::Stream | options::Kind::Hooks, Value::Object(entries)) => {
                for (entry, value) in entries {
                    stated.push((format!("{}.{entry}", spec.name), value));
                }
            }
            (options::Kind::Limits, Value::Object(entries)) => {
                for (entry, value) in entries {
                    stated.push((format!("rlimit_{entry}"), value));
                }
            }
            (_, value) if same(spec.name, Some(&value), defaults.get(spec.name)) => {}
            (_, value) => stated.push((spec.name.to_string(), value)),
        }
    }
    stated
}
