//! What a configuration asks of this machine that it does not have: programs, directories, users, rights. Looks, and
//! changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::finding::{Finding, Severity};
use crate::cli::config::opened::Opened;
use crate::config::{Config, worker_argv};
use crate::daemon::accounts;
use crate::daemon::hooks::trial::{Sought, look_for};
use crate::options::{Value, WatcherOptions};
use crate::python::interpreter::last_directories;
use crate::wire::endpoint::Endpoint;

/// Words that a shell knows by itself.
const SHELL_WORDS: &[&str] = &[
    ".", ":", "[", "cd", "case", "command", "eval", "exec", "exit", "export", "false", "for", "if",
    "read", "set", "source", "test", "times", "trap", "true", "type", "ulimit", "umask", "unset",
    "until", "wait", "while", "{",
];

/// What this machine lacks for a configuration whose values are right, and what the daemon lacks.
pub fn of_config(opened: &Opened, config: &Config) -> Vec<Finding> {
    let mut looking = Looking {
        opened,
        found: Vec::new(),
        root: nix::unistd::geteuid().is_root(),
        first_port: first_unprivileged_port(),
    };
    looking.circus(config);
    for section in opened.effective.sections() {
        looking.socket(config, section);
    }
    let sockets: BTreeMap<String, i32> = config
        .sockets
        .iter()
        .map(|socket| (socket.name.clone(), 3))
        .collect();
    for (section, watcher) in config.watchers_by_section() {
        looking.command(section, watcher, &sockets);
        looking.places(section, watcher);
        looking.accounts(section, watcher);
    }
    looking.hooks(config);
    looking.found
}

struct Looking<'a> {
    opened: &'a Opened,
    found: Vec<Finding>,
    root: bool,
    first_port: u16,
}

impl Looking<'_> {
    fn say(&mut self, severity: Severity, section: &str, key: &str, what: String) {
        self.found
            .push(Finding::at(severity, self.opened, section, key, what));
    }

    fn warn(&mut self, section: &str, key: &str, what: String) {
        self.say(Severity::Warning, section, key, what);
    }

    /// The text of a key with its variables replaced, if it is given.
    fn given(&self, section: &str, key: &str) -> Option<String> {
        let text = self.opened.effective.expanded(section, key)?;
        Some(text).filter(|text| !text.is_empty() && !has_variable(text))
    }

    fn circus(&mut self, config: &Config) {
        for key in ["pidfile", "logoutput"] {
            if let Some(path) = self.given("circus", key).filter(|path| path != "-") {
                self.parent("circus", key, &path);
            }
        }
        for (key, text) in [
            ("endpoint", &config.circus.endpoint),
            ("pubsub_endpoint", &config.circus.pubsub_endpoint),
        ] {
            match text.parse::<Endpoint>() {
                Ok(Endpoint::Tcp { port, .. }) => self.port("circus", key, port),
                Ok(Endpoint::Ipc(path)) => self.parent("circus", key, &path.to_string_lossy()),
                Err(error) => self.say(Severity::Error, "circus", key, error.to_string()),
            }
        }
        if let Some(owner) = &config.circus.endpoint_owner
            && let Err(error) = accounts::to_uid(&Value::from(owner.as_str()))
        {
            self.say(
                Severity::Error,
                "circus",
                "endpoint_owner",
                error.to_string(),
            );
        }
    }

    fn socket(&mut self, config: &Config, section: &str) {
        let Some(name) = section.strip_prefix("socket:") else {
            return;
        };
        let wanted = name.to_lowercase();
        let Some(socket) = config.sockets.iter().find(|socket| socket.name == wanted) else {
            return;
        };
        match &socket.path {
            Some(path) => self.parent(section, "path", path),
            None => self.port(section, "port", socket.port),
        }
    }

    fn port(&mut self, section: &str, key: &str, port: u16) {
        if port != 0 && port < self.first_port && !self.root {
            let what = format!("only root may bind ports below {}", self.first_port);
            self.warn(section, key, what);
        }
    }

    fn command(
        &mut self,
        section: &str,
        watcher: &WatcherOptions,
        sockets: &BTreeMap<String, i32>,
    ) {
        let command = match worker_argv(watcher, 1, sockets) {
            Ok(command) => command,
            Err(error) => {
                let error = error.strip_prefix("cmd: ").unwrap_or(&error);
                return self.say(Severity::Error, section, "cmd", error.to_owned());
            }
        };
        for warning in command.warnings {
            // Sockets and the environment are told of by themselves.
            let lower = warning.to_lowercase();
            if !["circus.sockets.", "${socket:", "circus.env."]
                .iter()
                .any(|told| lower.contains(told))
            {
                self.warn(section, "cmd", warning);
            }
        }
        let executable = watcher.executable();
        let program = if !executable.is_empty() {
            executable.to_owned()
        } else if command.shell {
            let words = crate::config::shlex::split(watcher.cmd()).unwrap_or_default();
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-./+".contains(c);
            match words.into_iter().next() {
                Some(word) if word.chars().all(plain) && !SHELL_WORDS.contains(&word.as_str()) => {
                    word
                }
                _ => return,
            }
        } else {
            match command.argv.into_iter().next() {
                Some(program) => program,
                None => return,
            }
        };
        let key = if executable.is_empty() {
            "cmd"
        } else {
            "executable"
        };
        if !has_variable(&program)
            && let Err(what) = self.program(watcher, &program)
        {
            self.warn(section, key, what);
        }
    }

    /// Looks for a program where the daemon would.
    fn program(&self, watcher: &WatcherOptions, program: &str) -> Result<(), String> {
        if program.contains('/') {
            let file = self.in_directory(watcher, program);
            return match fs::metadata(&file) {
                Ok(metadata) if metadata.is_dir() => {
                    Err(format!("{} is a directory", file.display()))
                }
                Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => {
                    Err(format!("{} is not executable; chmod +x it", file.display()))
                }
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{}: {error}", file.display())),
            };
        }
        // What a worker has for a PATH if its environment has none.
        const NO_PATH: &str = "/bin:/usr/bin";
        let own = watcher.env().and_then(|env| env.get("PATH"));
        let path = own.and_then(Value::as_str).unwrap_or(NO_PATH);
        let found = path.split(':').any(|directory| {
            let file = self.in_directory(watcher, directory).join(program);
            fs::metadata(file).is_ok_and(|metadata| {
                metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
            })
        });
        if found {
            return Ok(());
        }
        let hint = match std::env::var("PATH") {
            Ok(ours)
                if own.is_none()
                    && ours
                        .split(':')
                        .any(|directory| Path::new(directory).join(program).is_file()) =>
            {
                "; it is on the PATH of this shell: give its full path, or set copy_env = True"
            }
            _ => "",
        };
        Err(format!(
            "{program} is not found on the worker's PATH {path}{hint}"
        ))
    }

    fn in_directory(&self, watcher: &WatcherOptions, path: &str) -> PathBuf {
        self.opened.cwd.join(watcher.working_dir()).join(path)
    }

    fn places(&mut self, section: &str, watcher: &WatcherOptions) {
        if let Some(directory) = self.given(section, "working_dir") {
            let path = self.opened.cwd.join(&directory);
            if !path.is_dir() {
                let tilde = if directory.starts_with('~') {
                    "; ~ is not replaced here, write $(circus.env.HOME)"
                } else {
                    ""
                };
                let what = format!("there is no directory {}{tilde}", path.display());
                self.warn(section, "working_dir", what);
            }
        }
        for (stream, conf) in [
            ("stdout_stream", watcher.stdout_stream()),
            ("stderr_stream", watcher.stderr_stream()),
        ] {
            let file = conf.and_then(|conf| conf.get("filename"));
            if let Some(file) = file
                .and_then(Value::as_str)
                .filter(|file| !has_variable(file))
            {
                self.parent(section, &format!("{stream}.filename"), file);
            }
        }
    }

    /// The directory that a file is to be made in.
    fn parent(&mut self, section: &str, key: &str, file: &str) {
        let path = self.opened.cwd.join(file);
        if let Some(parent) = path.parent()
            && !parent.is_dir()
        {
            let what = format!("there is no directory {}", parent.display());
            self.warn(section, key, what);
        }
    }

    /// The hooks, looked for as the daemon does: Python's by a Python that imports their modules.
    fn hooks(&mut self, config: &Config) {
        let python = config.circus.python.as_deref();
        let mut all: Vec<(&str, Sought)> = Vec::new();
        for (section, watcher) in config.watchers_by_section() {
            let hooks = Sought::of(watcher, python, &self.opened.cwd);
            all.extend(hooks.into_iter().map(|hook| (section, hook)));
        }
        let env = self.opened.environ.iter();
        let env: Vec<_> = env
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let main = self.opened.cwd.join(&self.opened.shown);
        let paths = last_directories(&main, &self.opened.cwd);
        let found = look_for(all.iter().map(|(_, hook)| hook), &env, &paths);
        for ((section, hook), found) in all.iter().zip(found) {
            if let Err(why) = found {
                let severity = match hook.ignored {
                    true => Severity::Warning,
                    false => Severity::Error,
                };
                let key = format!("hooks.{}", hook.name);
                self.say(
                    severity,
                    section,
                    &key,
                    format!("it cannot be called: {why}"),
                );
            }
        }
    }

    fn accounts(&mut self, section: &str, watcher: &WatcherOptions) {
        let is_set = |value: &Value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            _ => true,
        };
        let (uid, gid) = (watcher.uid(), watcher.gid());
        if is_set(uid) {
            match accounts::to_uid(uid) {
                Err(error) => self.say(Severity::Error, section, "uid", error.to_string()),
                Ok(uid) if !self.root && uid != nix::unistd::geteuid().as_raw() => {
                    self.warn(
                        section,
                        "uid",
                        "only root may run workers as another user".into(),
                    );
                }
                Ok(_) => {}
            }
        }
        if is_set(gid)
            && let Err(error) = accounts::to_gid(gid)
        {
            self.say(Severity::Error, section, "gid", error.to_string());
        }
    }
}

fn has_variable(text: &str) -> bool {
    crate::config::Variables::may_be_in(text) || text.contains("$WID")
}

/// The first port that anybody may bind.
fn first_unprivileged_port() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024)
}
