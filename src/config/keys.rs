//! The keys of the sections that have no options table of their own: `[circus]`, `[socket:NAME]` and
//! `[plugin:NAME]`. A key of the first two that is not listed is warned of, and the reference is made
//! from these tables; the tests hold the defaults to what [`Config::load`](super::Config::load) takes.

use crate::options::Kind;

use super::model::{DEFAULT_ENDPOINT, DEFAULT_MULTICAST_ENDPOINT, DEFAULT_PUBSUB_ENDPOINT};

/// One key of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpec {
    /// The key, as it is written.
    pub name: &'static str,
    /// What the text of its value must be, in a few words.
    pub form: &'static str,
    /// The text that means the same as leaving the key out; empty when there is no such text.
    pub default: &'static str,
    /// Whether anything follows from it yet; keys of Circus without effect are still checked and kept.
    pub effective: bool,
    /// One line of help.
    pub doc: &'static str,
}

impl KeySpec {
    /// What its value is, in the terms of the options table.
    pub fn kind(&self) -> Kind {
        match self.form {
            "truth value" => Kind::Bool,
            "whole number" | "whole number from 0 up" | "0 to 65535" | "decimal digits" => {
                Kind::Int
            }
            form if form.starts_with("seconds") => Kind::Seconds,
            _ => Kind::Text,
        }
    }
}

pub(super) const fn key(
    name: &'static str,
    form: &'static str,
    default: &'static str,
    doc: &'static str,
) -> KeySpec {
    KeySpec {
        name,
        form,
        default,
        effective: true,
        doc,
    }
}

const fn kept(
    name: &'static str,
    form: &'static str,
    default: &'static str,
    doc: &'static str,
) -> KeySpec {
    KeySpec {
        name,
        form,
        default,
        effective: false,
        doc,
    }
}

/// The keys of `[circus]`.
#[rustfmt::skip]
pub static CIRCUS_KEYS: &[KeySpec] = &[
    key("endpoint", "endpoint", DEFAULT_ENDPOINT, "Where commands are received: tcp://HOST:PORT or ipc://PATH"),
    key("pubsub_endpoint", "endpoint", DEFAULT_PUBSUB_ENDPOINT, "Where events are published"),
    key("endpoint_owner", "user", "", "With an ipc endpoint: the user who owns its file, and the only uid that an added watcher may have"),
    key("stats_endpoint", "endpoint", "", "Where statistics are published (tcp://127.0.0.1:5557 if not given); naming it turns statsd on"),
    key("multicast_endpoint", "endpoint", DEFAULT_MULTICAST_ENDPOINT, "The group in which `circ discover` finds this daemon: udp://GROUP:PORT, or udp://INTERFACE;GROUP:PORT for one network alone; empty: it is not found"),
    key("warmup_delay", "seconds", "0", "Pause between starting two watchers"),
    kept("check_delay", "seconds, may be negative", "5", "Pause between two checks of everything; workers that exit are noticed at once whatever it says"),
    key("umask", "octal digits", "", "The daemon's umask, which the workers inherit; that of the caller if not given"),
    key("pidfile", "file", "", "File for the daemon's pid"),
    key("loglevel", "debug, info, warning, error or critical", "info", "How much to log"),
    key("logoutput", "file", "-", "Where to log: a file, - for standard error, syslog://HOST[:PORT][?FACILITY] or syslog:///PATH[?FACILITY]"),
    key("log_format", "text or json", "text", "How to write the log: Circus's lines, or a JSON object a line; circ's own key"),
    key("include", "patterns of files", "", "Further files to read, separated by spaces; relative ones start from the directory of this file"),
    key("include_dir", "directories", "", "Directories whose *.ini files are read (and *.toml, in a circus.toml), separated by spaces"),
    key("statsd", "truth value", "False", "Publish statistics"),
    key("httpd", "truth value", "False", "Run the web console: the watcher and the socket circushttpd; see circ-web(1)"),
    key("httpd_host", "host", "localhost", "Host of the web console"),
    key("httpd_port", "whole number", "8080", "Port of the web console"),
    key("httpd_password_file", "file", "", "The file with the password for the web console; circ's own, as the following three"),
    key("httpd_token_file", "file", "", "The file with the tokens for its API"),
    key("httpd_read_only", "truth value", "False", "Nobody may change anything by the web console"),
    key("httpd_allow_hosts", "host names", "", "Names under which the web console is reached, as that of a proxy in front of it, separated by spaces"),
    kept("debug", "truth value", "False", "Trace the daemon"),
    kept("debug_gc", "truth value", "False", "Trace Python's garbage collector"),
    key("loggerconfig", "file", "", "A configuration of Python's logging (.ini, .json or .yaml): what of it means something here stands for loglevel, logoutput and log_format; 'default' is as if it were not given"),
    key("python", "program", "", "The Python that runs hooks and other code that you bring, for watchers without a virtualenv; python3 on the PATH if not given. circ's own"),
    key("fqdn_prefix", "text", "", "What stands before the host in the name under which the daemon is found: PREFIX@HOST"),
    key("agent_desired", "file", "", "A desired state, a file or a directory: an agent inside the daemon brings it about and holds it; see circ-agent(1). circ's own, as all agent_ keys"),
    key("agent_interval", "seconds", "60", "From the end of a run of the agent to the next one, if nothing happens"),
    key("agent_splay", "seconds", "10", "At most this much is added to each interval by chance"),
    key("agent_mode", "enforce or audit", "enforce", "audit: drift is reported and nothing is changed"),
    key("agent_prune", "truth value", "False", "Watchers, sockets and plugins that the desired state does not name are removed"),
    key("agent_report_dir", "file", "", "The directory where the agent keeps its last reports, and remembers a pause"),
    key("agent_reports", "whole number from 0 up", "20", "How many reports the agent keeps"),
    key("agent_window", "file", "", "The agent's maintenance windows; while one asks for it, nothing is changed"),
];

/// The keys of `[socket:NAME]`.
#[rustfmt::skip]
pub static SOCKET_KEYS: &[KeySpec] = &[
    key("host", "host name or address", "localhost", "Address to bind"),
    key("port", "0 to 65535", "8080", "Port to bind; 0 takes any free one"),
    key("path", "file", "", "File of a Unix socket; makes family AF_UNIX"),
    key("family", "AF_INET, AF_INET6 or AF_UNIX", "AF_INET", "Address family"),
    key("type", "SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM or SOCK_SEQPACKET", "SOCK_STREAM", "Type of the socket"),
    key("proto", "name from /etc/protocols", "", "Protocol"),
    key("backlog", "whole number", "2048", "How many connections may wait to be accepted"),
    key("umask", "decimal digits", "8", "Umask while a Unix socket is bound; decimal, as Circus reads it (8 is 010)"),
    key("replace", "truth value", "False", "Replace the file in the way of a Unix socket"),
    key("interface", "name", "", "Network interface to bind to"),
    key("so_reuseport", "truth value", "False", "Each worker whose command names the socket gets one of its own on the same port"),
    key("blocking", "truth value", "False", "The workers get a blocking socket"),
];

/// The keys of `[plugin:NAME]` that have a meaning here; a plugin has others of its own.
#[rustfmt::skip]
pub static PLUGIN_KEYS: &[KeySpec] = &[
    key("use", "Python class", "", "The class of the plugin: one of circus's own, which circ has too, or any other, which is run with Python"),
    key("priority", "whole number", "1", "Priority of the watcher that runs the plugin"),
];

/// The keys of a section, if they are listed here.
pub(super) fn of_section(section: &str) -> Option<&'static [KeySpec]> {
    match section {
        "circus" => Some(CIRCUS_KEYS),
        name if name.starts_with("socket:") => Some(SOCKET_KEYS),
        _ => None,
    }
}

/// The keys of a section that are listed here, be it that there may be others.
pub(super) fn listed(section: &str) -> &'static [KeySpec] {
    if section.starts_with("plugin:") {
        PLUGIN_KEYS
    } else {
        of_section(section).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::DEFAULT_STATS_ENDPOINT;
    use super::super::{Config, tests::loaded};
    use super::*;

    fn load(text: &str) -> Config {
        loaded(text, &[], None).unwrap()
    }

    fn defaults(keys: &[KeySpec]) -> String {
        keys.iter()
            .filter(|key| !key.default.is_empty())
            .map(|key| format!("{} = {}\n", key.name, key.default))
            .collect()
    }

    #[test]
    fn the_defaults_are_what_an_empty_section_means() {
        let mut written = load(&format!("[circus]\n{}", defaults(CIRCUS_KEYS))).circus;
        let empty = load("").circus;
        // These say at the point of use what they mean when they are not given.
        assert_eq!(written.loglevel.take().as_deref(), Some("info"));
        assert_eq!(written.logoutput.take().as_deref(), Some("-"));
        assert_eq!(written.log_format.take().as_deref(), Some("text"));
        assert_eq!(written, empty);
        assert_eq!(empty.stats_endpoint, DEFAULT_STATS_ENDPOINT);

        let mut written = load(&format!("[socket:a]\n{}", defaults(SOCKET_KEYS))).sockets;
        let mut empty = load("[socket:a]\nx = 1\n").sockets;
        written[0].raw.clear();
        empty[0].raw.clear();
        assert_eq!(written, empty);
    }

    /// A value that is not the default, for every key but those that name files to read.
    const OTHERS: &[(&str, &str)] = &[
        ("endpoint", "tcp://127.0.0.1:1"),
        ("pubsub_endpoint", "tcp://127.0.0.1:2"),
        ("endpoint_owner", "root"),
        ("stats_endpoint", "tcp://127.0.0.1:3"),
        ("multicast_endpoint", "udp://127.0.0.1:4"),
        ("warmup_delay", "3"),
        ("check_delay", "-1"),
        ("pidfile", "/x"),
        ("loglevel", "debug"),
        ("logoutput", "/y"),
        ("log_format", "json"),
        ("statsd", "yes"),
        ("httpd", "yes"),
        ("httpd_host", "h"),
        ("httpd_port", "1"),
        ("httpd_password_file", "p"),
        ("httpd_token_file", "t"),
        ("httpd_read_only", "yes"),
        ("httpd_allow_hosts", "h"),
        ("debug", "yes"),
        ("debug_gc", "yes"),
        ("loggerconfig", "/z"),
        ("fqdn_prefix", "p"),
        ("python", "python3.9"),
        ("agent_desired", "/d"),
        ("agent_interval", "1"),
        ("agent_splay", "1"),
        ("agent_mode", "audit"),
        ("agent_prune", "yes"),
        ("agent_report_dir", "/r"),
        ("agent_reports", "1"),
        ("agent_window", "/w"),
        ("host", "::1"),
        ("port", "1"),
        ("path", "/s"),
        ("family", "AF_INET6"),
        ("type", "SOCK_DGRAM"),
        ("proto", "tcp"),
        ("backlog", "1"),
        ("umask", "77"),
        ("replace", "yes"),
        ("interface", "lo"),
        ("so_reuseport", "yes"),
        ("blocking", "yes"),
    ];

    #[test]
    fn every_key_is_read() {
        for (section, keys) in [("circus", CIRCUS_KEYS), ("socket:a", SOCKET_KEYS)] {
            for key in keys.iter().filter(|key| !key.name.starts_with("include")) {
                let (_, other) = OTHERS
                    .iter()
                    .find(|(name, _)| *name == key.name)
                    .unwrap_or_else(|| panic!("no other value for {}", key.name));
                let read = |text: &str| {
                    let mut config = load(text);
                    config.sockets.iter_mut().for_each(|s| s.raw.clear());
                    (config.circus, config.sockets)
                };
                assert_ne!(
                    read(&format!("[{section}]\n{} = {other}\n", key.name)),
                    read(&format!("[{section}]\nx = 1\n")),
                    "{section} {}",
                    key.name
                );
            }
        }
    }
}
