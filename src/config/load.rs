//! From a path to a [`Config`]: includes, the environment, `[circus]`, sockets and plugins, with
//! every value converted and every problem collected. Source: `circus.config.get_config` and
//! `circus.sockets.CircusSocket.load_from_config`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::document::{Document, Format, NAME_KEY};
use super::error::{ConfigError, Problem, ProblemKind, quoted};
use super::expand::Variables;
use super::merged::{Item, Merged, SourceFile};
use super::model::{
    CircusOptions, Config, DEFAULT_ENDPOINT, DEFAULT_MULTICAST_ENDPOINT, DEFAULT_PUBSUB_ENDPOINT,
    DEFAULT_STATS_ENDPOINT, SocketConfig, SocketFamily, SocketType,
};
use super::{console, keys, pattern, plugins, pytext, watchers};
use crate::options::{self, Value, to_bool};

/// Environment variables in the order in which they were set.
pub(super) type Environ = IndexMap<String, String>;

impl Config {
    /// Reads `path` and the files it includes. `environ` is the environment of the daemon (for
    /// variables and `copy_env`), `cwd` the directory that relative paths start from.
    ///
    /// # Errors
    /// Everything that is wrong in any of the files. Circus drops a watcher or socket it cannot make
    /// and goes on without it; here that is an error, so that nothing goes missing silently.
    pub fn load(
        path: &Path,
        environ: &BTreeMap<String, String>,
        cwd: &Path,
    ) -> Result<Self, ConfigError> {
        Self::load_edited(path, environ, cwd, &BTreeMap::new())
    }

    /// As [`Config::load`], with some files read as if they held other bytes: what the configuration
    /// would be after an edit that is not written yet. The keys of `edited` are absolute paths as in
    /// [`Config::files`].
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_edited(
        path: &Path,
        environ: &BTreeMap<String, String>,
        cwd: &Path,
        edited: &BTreeMap<PathBuf, Vec<u8>>,
    ) -> Result<Self, ConfigError> {
        Loader::read(path, in_order(environ), cwd, edited)?.finish()
    }

    /// This configuration with some of its sections as `newer` has them (or without them, if it does not): what a daemon
    /// runs that takes over only a part of what has changed in the files. Sections that only `newer` has come in where
    /// they stand there, because `[env:…]` sections go over each other in their order.
    ///
    /// `environ` and `cwd` are as in [`Config::load`]; no file is read.
    ///
    /// # Errors
    /// What is wrong with the two taken together: a watcher that needs a socket which is not taken over, say.
    pub fn taking(
        &self,
        sections: &BTreeSet<String>,
        newer: &Config,
        environ: &BTreeMap<String, String>,
        cwd: &Path,
    ) -> Result<Self, ConfigError> {
        let merged = self.merged.taking(sections, &newer.merged);
        let mut config = Loader::new(merged, in_order(environ), cwd).finish()?;
        config.files.clone_from(&newer.files);
        Ok(config)
    }
}

/// What is known while a configuration is being put together.
pub(super) struct Loader {
    pub merged: Merged,
    /// The daemon's environment.
    pub environ: Environ,
    /// The `[env]` section.
    pub local_env: Environ,
    /// The daemon's environment with `[env]` over it.
    pub global_env: Environ,
    /// `global_env` as variables.
    pub variables: Variables,
    pub cwd: PathBuf,
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
}

impl Loader {
    /// The directory of a watcher that states none: the daemon's own. None where its name is no text: a worker is in it
    /// all the same.
    pub(super) fn own_directory(&self) -> Value {
        self.cwd.to_str().map_or(Value::Null, Value::from)
    }

    fn new(merged: Merged, environ: Environ, cwd: &Path) -> Self {
        Self {
            merged,
            variables: variables_of(&environ),
            global_env: environ.clone(),
            local_env: Environ::new(),
            environ,
            cwd: cwd.to_owned(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Makes the model of everything that was read.
    fn finish(self) -> Result<Config, ConfigError> {
        let mut loader = self;
        loader.read_environment();
        let circus = loader.circus();
        let mut sockets = loader.sockets();
        let console = console::build(&mut loader, &circus, &sockets);
        let (plugins, plugin_watchers) = plugins::build(&mut loader, &circus);
        loader.warn_of_unknown_keys();
        let watchers = watchers::build(&mut loader, &sockets);
        plugins::check_names(&mut loader, &plugins, &watchers);
        let console_watcher = console.map(|(socket, watcher)| {
            console::check_name(&mut loader, &watchers);
            sockets.push(socket);
            watcher
        });
        ConfigError::check(loader.problems)?;
        let (watcher_sections, watchers) = watchers.into_iter().unzip();
        Ok(Config {
            circus,
            watchers,
            sockets,
            plugins,
            plugin_watchers,
            console_watcher,
            files: loader.merged.files.iter().map(|f| f.path.clone()).collect(),
            warnings: loader.warnings,
            merged: loader.merged,
            watcher_sections,
        })
    }

    /// Reads the main file and those it includes, converts nothing.
    pub(super) fn read(
        path: &Path,
        environ: Environ,
        cwd: &Path,
        edited: &BTreeMap<PathBuf, Vec<u8>>,
    ) -> Result<Self, ConfigError> {
        let read = |path: PathBuf| match edited.get(&path) {
            Some(bytes) => Ok(bytes.clone()),
            None => std::fs::read(path),
        };
        let mut loader = Self::new(Merged::default(), environ, cwd);
        let bytes = read(cwd.join(path)).map_err(|error| {
            Problem::new(
                ProblemKind::Unreadable,
                path,
                format!("cannot read the configuration file: {error}"),
            )
        })?;
        loader.add(path, &bytes);
        for included in loader.includes(path) {
            match read(cwd.join(&included)) {
                Ok(bytes) => loader.add(&included, &bytes),
                Err(error) => loader.warnings.push(format!(
                    "{}: cannot read the included file: {error}; going on without it",
                    included.display()
                )),
            }
        }
        // A file that is not understood says nothing reliable about what the others mean.
        ConfigError::check(std::mem::take(&mut loader.problems))?;
        Ok(loader)
    }

    fn add(&mut self, shown: &Path, bytes: &[u8]) {
        let source = SourceFile {
            shown: shown.to_owned(),
            path: self.cwd.join(shown),
        };
        match Document::parse(bytes, &shown.to_string_lossy()) {
            Ok(document) => self.merged.add(source, &document, &mut self.problems),
            Err(error) => self.problems.extend(error.problems),
        }
    }

    /// The files that `include` and `include_dir` of the main file name. Those of a directory come in the order of
    /// their names.
    fn includes(&mut self, main: &Path) -> Vec<PathBuf> {
        let dir = main.parent().unwrap_or(Path::new(""));
        // A circus.ini means what it means to Circus, which knows no other files.
        let suffixes: &[&str] = match Format::of(main) {
            Format::Ini => &["*.ini"],
            Format::Toml => &["*.ini", "*.toml"],
        };
        let mut found = Vec::new();
        for (key, suffixes) in [("include", None), ("include_dir", Some(suffixes))] {
            let value = self.text("circus", key).map_or(String::new(), |(v, _)| v);
            for word in pytext::words(&value) {
                let asked = dir.join(word);
                let mut paths = match suffixes {
                    None => pattern::glob(&asked, &self.cwd),
                    Some(suffixes) => suffixes
                        .iter()
                        .flat_map(|suffix| pattern::glob(&asked.join(suffix), &self.cwd))
                        .collect(),
                };
                paths.sort();
                if paths.is_empty() {
                    self.warnings.push(format!(
                        "{}: [circus] {key}: {} leads to no file; relative paths start from the \
                         directory of this file",
                        main.display(),
                        quoted(word)
                    ));
                }
                found.extend(paths);
            }
        }
        found
    }

    /// Reads `[env]`, whose values may use the daemon's own environment.
    pub(super) fn read_environment(&mut self) {
        if self.merged.sections.contains_key("env") {
            self.local_env = self.expanded_items("env");
            self.global_env.extend(self.local_env.clone());
            self.variables = variables_of(&self.global_env);
        }
    }

    /// A key that nobody reads has no effect, which is rarely what its writer wanted.
    fn warn_of_unknown_keys(&mut self) {
        for (section, own) in &self.merged.sections {
            let Some(known) = keys::of_section(section) else {
                continue;
            };
            let unknown = own.items.keys().filter(|key| {
                *key != NAME_KEY && !known.iter().any(|known| known.name == key.as_str())
            });
            for key in unknown {
                let near = options::nearest_of(key, known.iter().map(|known| known.name))
                    .map_or(String::new(), |near| format!("; did you mean {near}?"));
                self.warnings.push(format!(
                    "[{section}] {key}: there is no such key here; it is ignored{near}"
                ));
            }
        }
    }

    /// The value of a key with variables replaced, and where it stands.
    pub fn text(&self, section: &str, key: &str) -> Option<(String, Item)> {
        debug_assert!(
            keys::of_section(section).is_none_or(|keys| keys.iter().any(|k| k.name == key)),
            "[{section}] {key} is missing in the table of keys"
        );
        let item = self.merged.get(section, key)?;
        Some((self.variables.expand(&item.value), item.clone()))
    }

    /// All keys of a section with variables replaced.
    pub(super) fn expanded_items(&self, section: &str) -> IndexMap<String, String> {
        self.merged
            .items(section)
            .into_iter()
            .map(|(key, item)| (key, self.variables.expand(&item.value)))
            .collect()
    }

    /// A converted value, or the default; a value that cannot be converted is a problem.
    pub fn converted<T>(
        &mut self,
        section: &str,
        key: &str,
        default: T,
        convert: impl Fn(&str) -> Option<T>,
        expected: &str,
    ) -> T {
        let Some((text, item)) = self.text(section, key) else {
            return default;
        };
        convert(&text).unwrap_or_else(|| {
            let what = format!("{} is not {expected}", quoted(&text));
            let problem = self
                .merged
                .problem(ProblemKind::Value, section, key, &item, what);
            self.problems.push(problem);
            default
        })
    }

    pub fn boolean(&mut self, section: &str, key: &str, default: bool) -> bool {
        let convert = |text: &str| to_bool(text).ok();
        self.converted(
            section,
            key,
            default,
            convert,
            "a truth value (yes, true, on, 1, no, false, off, 0)",
        )
    }

    fn number(&mut self, section: &str, key: &str, default: i64) -> i64 {
        self.converted(section, key, default, pytext::int, "a whole number")
    }

    pub(super) fn seconds(&mut self, section: &str, key: &str, default: f64) -> f64 {
        let convert = |text: &str| pytext::float(text).filter(|n| n.is_finite() && *n >= 0.0);
        self.converted(
            section,
            key,
            default,
            convert,
            "a number of seconds from 0 up",
        )
    }

    fn circus(&mut self) -> CircusOptions {
        const CIRCUS: &str = "circus";
        let text = |loader: &Self, key: &str| loader.text(CIRCUS, key).map(|(value, _)| value);
        let filled = |loader: &Self, key: &str| text(loader, key).filter(|v| !v.is_empty());
        let umask = |text: &str| match text {
            "" => Some(None),
            text => pytext::octal(text)
                .filter(|mask| (0..=0o7777).contains(mask))
                .map(|mask| Some(mask as u32)),
        };
        let mut statsd = self.boolean(CIRCUS, "statsd", false);
        let stats_endpoint = text(self, "stats_endpoint");
        if stats_endpoint.is_some() && !statsd {
            self.warnings.push(
                "[circus] names a stats_endpoint without `statsd = True`; statistics are published \
                 all the same"
                    .to_owned(),
            );
            statsd = true;
        }
        CircusOptions {
            check_delay: self.converted(
                CIRCUS,
                "check_delay",
                5.0,
                |text: &str| pytext::float(text).filter(|n| n.is_finite()),
                "a number of seconds",
            ),
            endpoint: text(self, "endpoint").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()),
            endpoint_owner: filled(self, "endpoint_owner"),
            pubsub_endpoint: text(self, "pubsub_endpoint")
                .unwrap_or_else(|| DEFAULT_PUBSUB_ENDPOINT.to_owned()),
            multicast_endpoint: text(self, "multicast_endpoint")
                .unwrap_or_else(|| DEFAULT_MULTICAST_ENDPOINT.to_owned()),
            stats_endpoint: stats_endpoint.unwrap_or_else(|| DEFAULT_STATS_ENDPOINT.to_owned()),
            statsd,
            umask: self.converted(CIRCUS, "umask", None, umask, "an octal umask such as 022"),
            warmup_delay: self.seconds(CIRCUS, "warmup_delay", 0.0),
            httpd: self.boolean(CIRCUS, "httpd", false),
            httpd_host: text(self, "httpd_host").unwrap_or_else(|| "localhost".to_owned()),
            httpd_port: self.number(CIRCUS, "httpd_port", 8080),
            httpd_password_file: text(self, "httpd_password_file"),
            httpd_token_file: text(self, "httpd_token_file"),
            httpd_read_only: self.boolean(CIRCUS, "httpd_read_only", false),
            httpd_allow_hosts: text(self, "httpd_allow_hosts"),
            debug: self.boolean(CIRCUS, "debug", false),
            debug_gc: self.boolean(CIRCUS, "debug_gc", false),
            pidfile: filled(self, "pidfile"),
            loglevel: filled(self, "loglevel"),
            logoutput: filled(self, "logoutput"),
            log_format: filled(self, "log_format"),
            loggerconfig: filled(self, "loggerconfig"),
            python: filled(self, "python"),
            fqdn_prefix: filled(self, "fqdn_prefix"),
            agent: self.agent(),
        }
    }

    /// The names of the sections that begin with `prefix` and hold anything.
    pub fn sections(&self, prefix: &str) -> Vec<String> {
        self.merged
            .sections
            .keys()
            .filter(|name| name.starts_with(prefix) && !self.merged.is_empty(name))
            .cloned()
            .collect()
    }

    fn sockets(&mut self) -> Vec<SocketConfig> {
        let mut sockets: Vec<SocketConfig> = Vec::new();
        let mut seen: HashMap<String, String> = HashMap::new();
        for section in self.sections("socket:") {
            let socket = self.socket(&section);
            if let Some(first) = seen.insert(socket.name.clone(), section.clone()) {
                let what = format!(
                    "socket names do not distinguish case, and [{first}] has this name already"
                );
                self.problems
                    .push(self.merged.section_problem(&section, what));
            }
            sockets.push(socket);
        }
        sockets.sort_by(|a, b| a.name.cmp(&b.name));
        sockets
    }

    fn socket(&mut self, section: &str) -> SocketConfig {
        let raw = self.expanded_items(section);
        let text = |key: &str| raw.get(key).cloned();
        let path = text("path");
        let mut family = self.converted(
            section,
            "family",
            SocketFamily::Inet,
            socket_family,
            "AF_INET, AF_INET6 or AF_UNIX",
        );
        if path.is_some() {
            family = SocketFamily::Unix;
        } else if family == SocketFamily::Unix {
            let what = "a Unix socket needs a path";
            self.problems
                .push(self.merged.section_problem(section, what));
        }
        let port = |text: &str| u16::try_from(pytext::int(text)?).ok();
        let backlog = |text: &str| i32::try_from(pytext::int(text)?).ok();
        // Decimal text and a default of 8, unlike the umask of [circus]: what Circus does.
        let umask = |text: &str| u32::try_from(pytext::int(text)?).ok();
        SocketConfig {
            name: section
                .rsplit("socket:")
                .next()
                .unwrap_or_default()
                .to_lowercase(),
            host: text("host").unwrap_or_else(|| "localhost".to_owned()),
            port: self.converted(section, "port", 8080, port, "a port from 0 to 65535"),
            path,
            family,
            kind: self.converted(
                section,
                "type",
                SocketType::Stream,
                socket_type,
                "SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM or SOCK_SEQPACKET",
            ),
            proto: text("proto"),
            backlog: self.converted(section, "backlog", 2048, backlog, "a whole number"),
            umask: self.converted(section, "umask", 8, umask, "a umask in decimal digits"),
            replace: self.boolean(section, "replace", false),
            interface: text("interface"),
            so_reuseport: self.boolean(section, "so_reuseport", false),
            blocking: self.boolean(section, "blocking", false),
            raw,
        }
    }
}

fn in_order(environ: &BTreeMap<String, String>) -> Environ {
    let pairs = environ.iter();
    pairs.map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// An environment as the variables `circus.env.NAME`.
pub(super) fn variables_of(environ: &Environ) -> Variables {
    let mut variables = Variables::new();
    variables.set_group("env", environ);
    variables
}

fn socket_family(text: &str) -> Option<SocketFamily> {
    match text.to_uppercase().as_str() {
        "AF_INET" => Some(SocketFamily::Inet),
        "AF_INET6" => Some(SocketFamily::Inet6),
        "AF_UNIX" => Some(SocketFamily::Unix),
        _ => None,
    }
}

fn socket_type(text: &str) -> Option<SocketType> {
    match text.to_uppercase().as_str() {
        "SOCK_STREAM" => Some(SocketType::Stream),
        "SOCK_DGRAM" => Some(SocketType::Datagram),
        "SOCK_RAW" => Some(SocketType::Raw),
        "SOCK_RDM" => Some(SocketType::Rdm),
        "SOCK_SEQPACKET" => Some(SocketType::SeqPacket),
        _ => None,
    }
}
