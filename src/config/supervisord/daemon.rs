//! `[supervisord]` and its control socket as the `[circus]` and `[env]` sections.

use super::Work;
use super::values::{self, Known};

/// The keys of `[supervisord]` that are taken over below.
const TAKEN: &[&str] = &[
    "logfile",
    "loglevel",
    "pidfile",
    "umask",
    "environment",
    "user",
    "directory",
    "nodaemon",
];

/// Keys that have no counterpart, and why.
const LEFT: &[(&str, &str)] = &[
    (
        "logfile_maxbytes",
        "the daemon's own log is not rotated by size",
    ),
    (
        "logfile_backups",
        "the daemon's own log is not rotated by size",
    ),
    (
        "minfds",
        "set the daemon's limit from outside (ulimit -n), or rlimit_nofile in a watcher",
    ),
    (
        "minprocs",
        "set the daemon's limit from outside (ulimit -u), or rlimit_nproc in a watcher",
    ),
    (
        "childlogdir",
        "output without a file goes where the daemon's own goes",
    ),
    ("nocleanup", "there are no automatic log files to clean up"),
    ("strip_ansi", "output is kept as it is"),
    ("identifier", "a daemon is known by its endpoint"),
    ("silent", "redirect the daemon's output to silence it"),
];

impl Work<'_> {
    pub(super) fn daemon(&mut self) {
        const DAEMON: &str = "supervisord";
        let mut pairs: Vec<(String, String)> = Vec::new();
        self.endpoints(&mut pairs);
        let keys: Vec<String> = self
            .source
            .sections
            .get(DAEMON)
            .map_or(Vec::new(), |own| own.settings.keys().cloned().collect());
        for key in &keys {
            if let Some((_, why)) = LEFT.iter().find(|(name, _)| name == key) {
                self.note(DAEMON, Some(key), *why);
            } else if !TAKEN.contains(&key.as_str()) {
                self.note(DAEMON, Some(key), "nothing is known of this key");
            }
        }
        if let Some(file) = self.daemon_text("logfile") {
            match file.to_lowercase().as_str() {
                "syslog" => self.note(
                    DAEMON,
                    Some("logfile"),
                    "logging to syslog is not there yet",
                ),
                "/dev/null" => pairs.push(("logoutput".into(), file)),
                "/dev/stdout" | "/dev/stderr" | "/dev/fd/1" | "/dev/fd/2" => {}
                _ => pairs.push(("logoutput".into(), file)),
            }
        }
        if let Some(level) = self.daemon_text("loglevel") {
            let level = level.to_lowercase();
            let known = match level.as_str() {
                "critical" | "error" | "info" | "debug" => level.as_str(),
                "warn" | "warning" => "warning",
                "trace" | "blather" | "trac" | "blat" => {
                    self.note(DAEMON, Some("loglevel"), "debug is the lowest level");
                    "debug"
                }
                _ => {
                    self.problem(
                        DAEMON,
                        "loglevel",
                        format!("{level:?} is no level of a log"),
                    );
                    "info"
                }
            };
            pairs.push(("loglevel".into(), known.into()));
        }
        if let Some(file) = self.daemon_text("pidfile") {
            pairs.push(("pidfile".into(), file));
        }
        if let Some(umask) = self.daemon_text("umask") {
            pairs.push(("umask".into(), umask));
        }
        if let Some(user) = self.daemon_text("user") {
            self.note(
                DAEMON,
                Some("user"),
                format!("the daemon keeps its user; the programs without a user of their own run as {user}"),
            );
        }
        let in_front = self
            .daemon_text("nodaemon")
            .is_some_and(|text| values::boolean(&text) == Some(true));
        if !in_front && self.source.sections.contains_key(DAEMON) {
            self.note(
                DAEMON,
                Some("nodaemon").filter(|key| self.source.get(DAEMON, key).is_some()),
                "supervisord goes to the background by itself; `circ daemon` does with --daemon",
            );
        }
        if !pairs.is_empty() {
            self.sections.push(("circus".into(), pairs));
        }
        self.environment();
    }

    /// A text of `[supervisord]` with its names replaced.
    pub(super) fn daemon_text(&mut self, key: &str) -> Option<String> {
        let setting = self.source.get("supervisord", key)?;
        let host = self.around.host;
        let names = |name: &str| match name {
            "host_node_name" => Some(Known::Text(host.to_owned())),
            name => Some(values::later(name.strip_prefix("ENV_")?)),
        };
        match values::expand(&setting.value, &names) {
            Ok(text) if key == "environment" => Some(text),
            Ok(text) => Some(values::as_variable(&text)),
            Err(error) => {
                self.problem("supervisord", key, error);
                None
            }
        }
    }

    fn environment(&mut self) {
        let Some(text) = self.daemon_text("environment") else {
            return;
        };
        match values::pairs(&text) {
            Ok(pairs) => {
                self.dollars("supervisord", &pairs);
                if !pairs.is_empty() {
                    let spelled = pairs
                        .iter()
                        .map(|(name, value)| (name.clone(), values::as_variable(value)));
                    self.sections.push(("env".into(), spelled.collect()));
                }
                self.global_env = pairs;
            }
            Err(error) => self.problem("supervisord", "environment", error),
        }
    }

    /// circ replaces `$NAME` in environments, and there is no way to write it otherwise.
    pub(super) fn dollars(&mut self, section: &str, pairs: &[(String, String)]) {
        for (name, value) in pairs {
            let hit = value
                .match_indices('$')
                .any(|(at, _)| value[at + 1..].starts_with(|c: char| c.is_ascii_uppercase()));
            if hit {
                self.note(
                    section,
                    Some("environment"),
                    format!(
                        "{name} holds a $NAME, which is replaced from the daemon's environment here"
                    ),
                );
            }
        }
    }

    /// The control socket: beside supervisord's own, and as private.
    fn endpoints(&mut self, pairs: &mut Vec<(String, String)>) {
        let sections: Vec<String> = self
            .source
            .sections
            .keys()
            .filter(|name| name.split(':').next() == Some("unix_http_server"))
            .cloned()
            .collect();
        for (at, section) in sections.iter().enumerate() {
            let file = self
                .source
                .get(section, "file")
                .map(|file| file.value.clone());
            let Some(file) = file.filter(|_| at == 0) else {
                self.note(
                    section,
                    None,
                    "there is one control socket, [circus] endpoint",
                );
                continue;
            };
            let stem = file.strip_suffix(".sock").unwrap_or(&file);
            let host = self.around.host;
            let names = |name: &str| match name {
                "host_node_name" => Some(Known::Text(host.to_owned())),
                name => Some(values::later(name.strip_prefix("ENV_")?)),
            };
            match values::expand(stem, &names) {
                Ok(stem) => {
                    let stem = values::as_variable(&stem);
                    pairs.push(("endpoint".into(), format!("ipc://{stem}.circ")));
                    pairs.push((
                        "pubsub_endpoint".into(),
                        format!("ipc://{stem}.circ-events"),
                    ));
                }
                Err(error) => self.problem(section, "file", error),
            }
            self.note(
                section,
                Some("file"),
                "circ's own protocol is spoken on [circus] endpoint, in a file beside this one; XML-RPC is not",
            );
            for (key, what) in [
                (
                    "chmod",
                    "the endpoint's file can be used by its owner alone",
                ),
                ("chown", "[circus] endpoint_owner takes a user"),
                (
                    "username",
                    "the rights of the endpoint's file decide who may connect",
                ),
                (
                    "password",
                    "the rights of the endpoint's file decide who may connect",
                ),
            ] {
                if self.source.get(section, key).is_some() {
                    self.note(section, Some(key), what);
                }
            }
        }
    }
}
