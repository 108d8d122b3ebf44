//! A program's processes as one watcher, with its environment and its socket.

use super::each::{Each, Output};
use super::{Pairs, Program};
use crate::config::pytext;
use crate::config::supervisord::Work;
use crate::config::supervisord::values::{self, Known};
use crate::options;

/// The default of supervisord's `priority`; 0 here.
const USUAL_PRIORITY: i64 = 999;

impl Work<'_> {
    /// A converted value, if it is given.
    pub(super) fn setting<T>(
        &mut self,
        program: &Program,
        key: &str,
        expected: &str,
        convert: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.source.get(&program.section, key)?.value.clone();
        // The names that stand in numbers and truth values are those of the environment, hardly ever.
        let converted = convert(&text);
        if converted.is_none() {
            self.problem(&program.section, key, format!("{text:?} is not {expected}"));
        }
        converted
    }

    pub(super) fn integer(&mut self, program: &Program, key: &str, default: i64) -> i64 {
        self.setting(program, key, "a whole number", pytext::int)
            .unwrap_or(default)
    }

    pub(super) fn boolean(&mut self, program: &Program, key: &str, default: bool) -> bool {
        self.setting(program, key, "a truth value", values::boolean)
            .unwrap_or(default)
    }

    /// The keys that are the same for all processes of a program.
    pub(super) fn common(&mut self, program: &Program) -> Pairs {
        let section = program.section.as_str();
        let mut pairs: Pairs = Vec::new();
        let mut say = |key: &str, value: String| pairs.push((key.to_owned(), value));
        let user = self
            .source
            .get(section, "user")
            .map(|user| user.value.clone());
        if let Some(user) = user.or_else(|| self.daemon_text("user")) {
            say("uid", user);
        }
        let priority = self.integer(program, "priority", USUAL_PRIORITY);
        if priority != USUAL_PRIORITY {
            say("priority", (USUAL_PRIORITY - priority).to_string());
        }
        if !self.boolean(program, "autostart", true) {
            say("autostart", "False".into());
        }
        let restart = self
            .source
            .get(section, "autorestart")
            .map(|text| text.value.to_lowercase());
        match restart.as_deref() {
            None | Some("unexpected") => {}
            Some(text) => match values::boolean(text) {
                Some(true) => {}
                Some(false) => say("respawn", "False".into()),
                None => self.problem(
                    section,
                    "autorestart",
                    format!("{text:?} is not true, false or unexpected"),
                ),
            },
        }
        if let Some(retries) = self.setting(program, "startretries", "a whole number", pytext::int)
        {
            say("max_retry", retries.to_string());
        }
        let signal = self
            .source
            .get(section, "stopsignal")
            .map(|signal| signal.value.clone());
        if let Some(signal) = signal {
            match options::to_signum(&options::Value::from(signal.as_str())) {
                Ok(_) => say("stop_signal", signal.to_uppercase()),
                Err(_) => self.problem(section, "stopsignal", format!("{signal:?} is no signal")),
            }
        }
        say(
            "graceful_timeout",
            self.integer(program, "stopwaitsecs", 10).to_string(),
        );
        let stop_group = self.boolean(program, "stopasgroup", false);
        if stop_group {
            say("stop_children", "True".into());
        }
        if self.boolean(program, "killasgroup", stop_group) && !stop_group {
            self.note(
                section,
                Some("killasgroup"),
                "has no key of its own; stop_children = True sends both signals to the children",
            );
        }
        for (key, usual, what) in [
            (
                "startsecs",
                "1",
                "a worker counts as running at once; quick deaths are slowed down",
            ),
            (
                "exitcodes",
                "0",
                "no exit code is expected; respawn alone decides",
            ),
        ] {
            let given = self
                .source
                .get(section, key)
                .is_some_and(|setting| setting.value != usual);
            if given {
                self.note(section, Some(key), what);
            }
        }
        if self.source.get(section, "umask").is_some() {
            self.note(
                section,
                Some("umask"),
                "a watcher has no umask of its own; [circus] umask is that of all",
            );
        }
        pairs
    }

    pub(super) fn watcher(
        &mut self,
        program: &Program,
        name: &str,
        count: i64,
        one: Each,
        common: &Pairs,
        socket: Option<&str>,
    ) {
        let section = program.section.as_str();
        let mut pairs: Pairs = vec![("cmd".to_owned(), values::as_variable(&one.command))];
        let mut say = |key: &str, value: String| pairs.push((key.to_owned(), value));
        if count != 1 {
            say("numprocesses", count.to_string());
        }
        let in_front = self
            .daemon_text("nodaemon")
            .is_some_and(|text| values::boolean(&text) == Some(true));
        // In the background supervisord changes its own directory, which its programs inherit.
        let daemon = self.daemon_text("directory").filter(|_| !in_front);
        if let Some(directory) = one.directory.as_deref().map(values::as_variable).or(daemon) {
            say("working_dir", directory);
        }
        say("copy_env", "True".into());
        for (key, value) in common {
            say(key, value.clone());
        }
        if let Some(socket) = socket {
            say("stdin_socket", socket.to_owned());
        }
        for (stream, output) in [("stdout", &one.stdout), ("stderr", &one.stderr)] {
            match output {
                Output::Automatic => {}
                Output::Closed => say(&format!("close_child_{stream}"), "True".into()),
                Output::Daemon => say(&format!("{stream}_stream.class"), "StdoutStream".into()),
                Output::File {
                    name,
                    bytes,
                    backups,
                } => {
                    say(&format!("{stream}_stream.class"), "FileStream".into());
                    say(
                        &format!("{stream}_stream.filename"),
                        values::as_variable(name),
                    );
                    let bytes = bytes.unwrap_or(50 << 20);
                    if bytes > 0 {
                        say(&format!("{stream}_stream.max_bytes"), bytes.to_string());
                        say(
                            &format!("{stream}_stream.backup_count"),
                            backups.unwrap_or(10).to_string(),
                        );
                    }
                }
            }
        }
        self.sections.push((format!("watcher:{name}"), pairs));
        if one.environment.is_empty() {
            return;
        }
        self.dollars(section, &one.environment);
        if name.contains(['*', '?', '[', ',']) {
            self.note(
                section,
                Some("environment"),
                format!("{name} would be a pattern in [env:{name}]"),
            );
            return;
        }
        let mut env = Vec::new();
        for (key, value) in one.environment {
            match values::as_dollar(&value) {
                Ok(value) => env.push((key, value)),
                Err(variable) => self.note(
                    section,
                    Some("environment"),
                    format!(
                        "{key} takes %(ENV_{variable})s, which an [env:…] section cannot spell here"
                    ),
                ),
            }
        }
        if !env.is_empty() {
            self.sections.push((format!("env:{name}"), env));
        }
    }

    /// The socket of a FastCGI program; its name.
    pub(super) fn socket(&mut self, program: &Program) -> Option<String> {
        let section = program.section.as_str();
        let Some(text) = self
            .source
            .get(section, "socket")
            .map(|setting| setting.value.clone())
        else {
            self.problem(section, "socket", "a FastCGI program needs a socket");
            return None;
        };
        let names = |name: &str| self.name(program, name, &Known::Number(0), 1, &[]);
        let text = match values::expand(&text, &names) {
            Ok(text) => values::as_variable(&text),
            Err(error) => {
                self.problem(section, "socket", error);
                return None;
            }
        };
        let mut pairs: Pairs = Vec::new();
        if let Some(path) = text.strip_prefix("unix://") {
            pairs.push(("path".into(), path.to_owned()));
            pairs.push(("replace".into(), "True".into()));
            let mode = self
                .setting(program, "socket_mode", "an octal mode", pytext::octal)
                .unwrap_or(0o700);
            // The umask of a socket section is written in decimal digits.
            pairs.push(("umask".into(), (0o777 & !mode).to_string()));
            if self.source.get(section, "socket_owner").is_some() {
                self.note(
                    section,
                    Some("socket_owner"),
                    "the socket's file belongs to the daemon's user",
                );
            }
        } else if let Some((host, port)) = text
            .strip_prefix("tcp://")
            .and_then(|rest| rest.rsplit_once(':'))
        {
            pairs.push(("host".into(), host.to_lowercase()));
            pairs.push(("port".into(), port.to_owned()));
        } else {
            self.problem(
                section,
                "socket",
                format!("{text:?} is neither unix:///PATH nor tcp://HOST:PORT"),
            );
            return None;
        }
        if let Some(backlog) =
            self.setting(program, "socket_backlog", "a whole number", pytext::int)
        {
            pairs.push(("backlog".into(), backlog.to_string()));
        }
        let name = program.name.to_lowercase();
        self.sections.push((format!("socket:{name}"), pairs));
        Some(name)
    }
}
