//! The configuration as data: what the daemon, the client and the state room work with.

use std::path::PathBuf;

use indexmap::IndexMap;

use super::agent::AgentOptions;
use super::console;
use super::merged::Merged;
use crate::options::WatcherOptions;

/// Where commands are sent by default.
pub const DEFAULT_ENDPOINT: &str = "tcp://127.0.0.1:5555";
/// Where events are published by default.
pub const DEFAULT_PUBSUB_ENDPOINT: &str = "tcp://127.0.0.1:5556";
/// Where statistics are published by default.
pub const DEFAULT_STATS_ENDPOINT: &str = "tcp://127.0.0.1:5557";
/// Where daemons look for each other by default.
pub const DEFAULT_MULTICAST_ENDPOINT: &str = "udp://237.219.251.97:12027";

/// A whole configuration: one file with everything it includes.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The `[circus]` section.
    pub circus: CircusOptions,
    /// The `[watcher:NAME]` sections, sorted by name.
    pub watchers: Vec<WatcherOptions>,
    /// The `[socket:NAME]` sections, sorted by name.
    pub sockets: Vec<SocketConfig>,
    /// The `[plugin:NAME]` sections, sorted by name.
    pub plugins: Vec<PluginConfig>,
    /// The watchers that run the plugins, in the order of `plugins`. A daemon runs them beside [`Config::watchers`].
    pub plugin_watchers: Vec<WatcherOptions>,
    /// The watcher that runs the web console, if it is wanted. Its socket is among [`Config::sockets`].
    pub console_watcher: Option<WatcherOptions>,
    /// The files that were read, absolute, the main file first.
    pub files: Vec<PathBuf>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
    pub(super) merged: Merged,
    /// The section each watcher comes from, in the order of `watchers`.
    pub(super) watcher_sections: Vec<String>,
}

impl Config {
    /// The file (absolute) and the line (from 1) that hold the value of a key that counts, be it in
    /// the section itself or in `DEFAULT`.
    pub fn source(&self, section: &str, key: &str) -> Option<(PathBuf, usize)> {
        let item = self.merged.get(section, key)?;
        Some((self.merged.files.get(item.file)?.path.clone(), item.line))
    }

    /// The file (absolute) and the line (from 1) of the section's first header.
    pub fn section_source(&self, section: &str) -> Option<(PathBuf, usize)> {
        let own = self.merged.sections.get(section)?;
        Some((self.merged.files.get(own.file)?.path.clone(), own.line))
    }

    /// The text of a key that counts, before any variable in it is replaced.
    pub fn raw(&self, section: &str, key: &str) -> Option<&str> {
        Some(&self.merged.get(section, key)?.value)
    }

    /// The names of all sections of all files, without `DEFAULT`, in the order of their headers.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.merged.sections.keys().map(String::as_str)
    }

    /// Every key of a section with its text before any variable is replaced: those of `DEFAULT`
    /// first, then the section's own, among them the `__name__` that Circus's parser adds.
    pub fn raw_items(&self, section: &str) -> Vec<(String, String)> {
        self.merged
            .items(section)
            .into_iter()
            .map(|(key, item)| (key, item.value))
            .collect()
    }

    /// The watchers, each with the name of its section.
    pub fn watchers_by_section(&self) -> impl Iterator<Item = (&str, &WatcherOptions)> {
        self.watcher_sections
            .iter()
            .map(String::as_str)
            .zip(&self.watchers)
    }

    /// All that a daemon runs, each with the name of its section: the watchers, then that of the web console (which has no
    /// section, and a name for one), then those of the plugins.
    pub fn services_by_section(&self) -> impl Iterator<Item = (&str, &WatcherOptions)> {
        let plugins = self.plugins.iter().map(|plugin| plugin.name.as_str());
        let console = self.console_watcher.iter();
        self.watchers_by_section()
            .chain(console.map(|watcher| (console::SECTION, watcher)))
            .chain(plugins.zip(&self.plugin_watchers))
    }

    /// The watcher of this name in any case, and the name of its section.
    pub fn watcher(&self, name: &str) -> Option<(&WatcherOptions, &str)> {
        let wanted = name.to_lowercase();
        self.watchers
            .iter()
            .zip(&self.watcher_sections)
            .find(|(watcher, _)| watcher.name.to_lowercase() == wanted)
            .map(|(watcher, section)| (watcher, section.as_str()))
    }
}

/// The `[circus]` section, with circus's defaults. An empty text counts as not set.
#[derive(Debug, Clone, PartialEq)]
pub struct CircusOptions {
    /// Seconds between two checks of everything; a negative number turns the checks off.
    pub check_delay: f64,
    /// Where commands are received.
    pub endpoint: String,
    /// The user who is to own the endpoint's socket file.
    pub endpoint_owner: Option<String>,
    /// Where events are published.
    pub pubsub_endpoint: String,
    /// Where daemons look for each other.
    pub multicast_endpoint: String,
    /// Where statistics are published; only with `statsd`.
    pub stats_endpoint: String,
    /// Publish statistics. Naming a `stats_endpoint` turns it on.
    pub statsd: bool,
    /// The daemon's umask.
    pub umask: Option<u32>,
    /// Seconds between starting two watchers.
    pub warmup_delay: f64,
    /// Run the web console.
    pub httpd: bool,
    /// The web console's host.
    pub httpd_host: String,
    /// The web console's port.
    pub httpd_port: i64,
    /// The file with the web console's password. circ's own, as the following three.
    pub httpd_password_file: Option<String>,
    /// The file with the web console's tokens.
    pub httpd_token_file: Option<String>,
    /// Nobody may change anything by the web console.
    pub httpd_read_only: bool,
    /// Names under which the web console is reached.
    pub httpd_allow_hosts: Option<String>,
    /// Trace the daemon.
    pub debug: bool,
    /// Trace Python's garbage collector (there is none here).
    pub debug_gc: bool,
    /// The file for the daemon's pid.
    pub pidfile: Option<String>,
    /// The level of the log.
    pub loglevel: Option<String>,
    /// Where the log goes: a file, `-` for standard error, or a `syslog://`.
    pub logoutput: Option<String>,
    /// How the log is written: text or json. circ's own.
    pub log_format: Option<String>,
    /// A file that configures Python's logging.
    pub loggerconfig: Option<String>,
    /// The program that runs Python code for watchers without a virtualenv.
    pub python: Option<String>,
    /// A prefix of the daemon's fully qualified name.
    pub fqdn_prefix: Option<String>,
    /// The agent inside the daemon.
    pub agent: AgentOptions,
}

/// A `[socket:NAME]` section, converted as `circus.sockets.CircusSocket.load_from_config` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketConfig {
    /// The name, in lower case.
    pub name: String,
    /// The host to bind; not for Unix sockets.
    pub host: String,
    /// The port to bind, 0 for any; not for Unix sockets.
    pub port: u16,
    /// The path of a Unix socket; makes `family` Unix.
    pub path: Option<String>,
    /// The address family.
    pub family: SocketFamily,
    /// The socket type.
    pub kind: SocketType,
    /// The protocol's name as /etc/protocols has it.
    pub proto: Option<String>,
    /// How many connections may wait.
    pub backlog: i32,
    /// The umask while a Unix socket is bound. Circus reads decimal text here and takes 8 if nothing
    /// is given.
    pub umask: u32,
    /// Replace a file that is in the way of a Unix socket.
    pub replace: bool,
    /// The network interface to bind to.
    pub interface: Option<String>,
    /// Each worker gets a socket of its own on the same port.
    pub so_reuseport: bool,
    /// The workers get a blocking socket.
    pub blocking: bool,
    /// Every key of the section with variables replaced, to see at a reload whether anything changed.
    pub raw: IndexMap<String, String>,
}

impl SocketConfig {
    /// A TCP socket over IPv4 of this address, and in everything else as one whose section says nothing more.
    pub fn stream(name: &str, host: &str, port: u16) -> SocketConfig {
        SocketConfig {
            name: name.to_owned(),
            host: host.to_owned(),
            port,
            path: None,
            family: SocketFamily::Inet,
            kind: SocketType::Stream,
            proto: None,
            backlog: 2048,
            umask: 8,
            replace: false,
            interface: None,
            so_reuseport: false,
            blocking: false,
            raw: IndexMap::new(),
        }
    }
}

/// Address families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketFamily {
    /// `AF_INET`
    Inet,
    /// `AF_INET6`
    Inet6,
    /// `AF_UNIX`
    Unix,
}

/// Socket types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketType {
    /// `SOCK_STREAM`
    Stream,
    /// `SOCK_DGRAM`
    Datagram,
    /// `SOCK_RAW`
    Raw,
    /// `SOCK_RDM`
    Rdm,
    /// `SOCK_SEQPACKET`
    SeqPacket,
}

/// A `[plugin:NAME]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginConfig {
    /// The whole section name, `plugin:NAME`.
    pub name: String,
    /// The class, the key `use`.
    pub class: Option<String>,
    /// The priority of the watcher that runs the plugin.
    pub priority: Option<i64>,
    /// Every key of the section with variables replaced.
    pub raw: IndexMap<String, String>,
    /// What the plugin is given: every key but `use`, sorted, as one word of a command line each.
    pub settings: IndexMap<String, String>,
}
