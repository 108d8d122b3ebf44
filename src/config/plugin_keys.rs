//! The plugins that circ has of its own, and the keys of their `[plugin:NAME]` sections: one row a key. The check of a
//! configuration, what a plugin takes when nothing is given, and the reference are made from these tables.
//! Source of the meanings: `circus/plugins/*.py` of circus 0.19 and its manual.

use super::keys::{KeySpec, key};
use super::pytext;
use crate::options::{self, Value, to_bool, to_signum};

/// A plugin that circ has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PluginSpec {
    /// Its short name, which is also the prefix of watcher options such as `flapping.attempts`.
    pub name: &'static str,
    /// The values of `use` that mean it, circus's class first.
    pub classes: &'static [&'static str],
    /// One line of help.
    pub doc: &'static str,
    /// Whether it sends its numbers to statsd and so has the keys [`STATSD_KEYS`] as well.
    pub statsd: bool,
    /// Its own keys.
    pub keys: &'static [KeySpec],
}

impl PluginSpec {
    /// All its keys.
    pub fn keys(&self) -> impl Iterator<Item = &'static KeySpec> + use<> {
        let statsd: &[KeySpec] = if self.statsd { STATSD_KEYS } else { &[] };
        self.keys.iter().chain(statsd).chain(EVERY_PLUGIN)
    }

    /// The row of a key.
    pub fn key(&self, name: &str) -> Option<&'static KeySpec> {
        self.keys().find(|spec| spec.name == name)
    }
}

/// The plugins, in the order of the manual.
#[rustfmt::skip]
pub static PLUGINS: &[PluginSpec] = &[
    PluginSpec {
        name: "flapping",
        classes: &["circus.plugins.flapping.Flapping"],
        doc: "Stops a watcher one of whose workers exits again and again, and tries again later",
        statsd: false,
        keys: &[
            key("attempts", "whole number", "2", "How many times one worker may exit by itself within `window` before it counts as flapping; 0 turns it off"),
            key("window", "seconds", "1", "The time in which these exits count; pauses before a restart are not part of it"),
            key("retry_in", "seconds", "7", "How long a flapping watcher stays stopped before it is started again"),
            key("max_retry", "whole number", "5", "How often it is started again before it stays stopped; -1 means for ever"),
        ],
    },
    PluginSpec {
        name: "statsd",
        classes: &["circus.plugins.statsd.StatsdEmitter", "circus.plugins._statsd.StatsdEmitter"],
        doc: "Counts every event of every watcher in statsd",
        statsd: true,
        keys: &[],
    },
    PluginSpec {
        name: "full_stats",
        classes: &["circus.plugins.statsd.FullStats"],
        doc: "Sends the statistics of all watchers to statsd",
        statsd: true,
        keys: &[LOOP_RATE],
    },
    PluginSpec {
        name: "redis_observer",
        classes: &["circus.plugins.redis_observer.RedisObserver"],
        doc: "Sends a Redis server's own numbers to statsd; restarts a watcher if it does not answer",
        statsd: true,
        keys: &[
            LOOP_RATE,
            key("redis_url", "redis://[USER:PASSWORD@]HOST:PORT/DB or unix://PATH", "redis://localhost:6379/0", "The server"),
            key("timeout", "seconds", "5", "How long it may take to answer"),
            key("restart_on_timeout", "watcher", "", "The watcher to restart if it does not answer"),
        ],
    },
    PluginSpec {
        name: "http_observer",
        classes: &["circus.plugins.http_observer.HttpObserver"],
        doc: "Gets a page again and again and sends the time it takes to statsd; restarts a watcher if it fails",
        statsd: true,
        keys: &[
            LOOP_RATE,
            key("check_url", "URL", "http://localhost/", "The page; https is fetched by the program curl"),
            key("timeout", "seconds", "10", "How long it may take"),
            key("restart_on_error", "watcher", "", "The watcher to restart if the page cannot be had or its status is 400 or more"),
        ],
    },
    PluginSpec {
        name: "resource_watcher",
        classes: &["circus.plugins.resource_watcher.ResourceWatcher"],
        doc: "Restarts a watcher that uses too much, or too little, processor or memory",
        statsd: true,
        keys: &[
            LOOP_RATE,
            key("watcher", "watcher", "", "The watcher to look at"),
            key("service", "watcher", "", "An older name of the key watcher"),
            key("max_cpu", "percent", "90", "Most processor time that one worker may use; 0 means any"),
            key("min_cpu", "percent", "", "Least processor time that each worker is to use; 0 is reached by a worker that uses none"),
            key("max_mem", "percent or size", "90", "Most memory that one worker may use: percent of the machine's, or a size such as 250M"),
            key("min_mem", "percent or size", "", "Least memory that each worker is to use"),
            key("health_threshold", "percent", "75", "Most that the mean of processor and memory may be; 0 means any"),
            key("max_count", "whole number", "3", "How many times in a row a limit may be passed before something is done"),
            key("process_children", "truth value", "False", "Look at the children of the workers as well, each by itself"),
            key("child_signal", "signal", "TERM", "What such a child is sent"),
            key("action", "restart or reload", "restart", "What is done with the watcher. circ's own key"),
        ],
    },
    PluginSpec {
        name: "watchdog",
        classes: &["circus.plugins.watchdog.WatchDog"],
        doc: "Kills workers that do not send a heartbeat by UDP",
        statsd: false,
        keys: &[
            LOOP_RATE,
            key("watchers_regex", "regular expression", ".*", "The watchers whose workers send heartbeats; matches from the start of the name in lower case"),
            key("msg_regex", "regular expression", "^(?P<pid>.*);(?P<timestamp>.*)$", "What a heartbeat looks like; the group pid is the worker's"),
            key("max_count", "whole number", "3", "A worker that was not heard of for loop_rate times this many seconds is killed"),
            key("ip", "address", "127.0.0.1", "Where heartbeats are received"),
            key("port", "0 to 65535", "1664", "Port of it"),
            key("watchers_stop_signal", "signal", "", "The signal to kill with, if not the watcher's stop_signal"),
            key("watchers_graceful_timeout", "seconds", "", "How long a worker gets to end, if not the watcher's graceful_timeout"),
        ],
    },
    PluginSpec {
        name: "command_reloader",
        classes: &["circus.plugins.command_reloader.CommandReloader"],
        doc: "Restarts a watcher when the program it runs is changed",
        statsd: false,
        keys: &[
            key("loop_rate", "seconds", "1", "How often it looks"),
        ],
    },
];

const LOOP_RATE: KeySpec = key("loop_rate", "seconds", "60", "How often it looks");

/// What every plugin has that sends numbers to statsd.
#[rustfmt::skip]
pub static STATSD_KEYS: &[KeySpec] = &[
    key("application_name", "text", "", "Every name begins with circus.APPLICATION_NAME.watcher; app if not given (redis_observer, http_observer: that word)"),
    key("host", "host", "localhost", "Where statsd listens"),
    key("port", "0 to 65535", "8125", "Port of it (UDP)"),
    key("sample_rate", "number above 0 up to 1", "1", "This share of the counts and times is sent, marked as such; gauges are all sent"),
];

/// What every plugin of circ's own has.
static EVERY_PLUGIN: &[KeySpec] = &[key(
    "active",
    "truth value",
    "True",
    "False: the plugin is not started",
)];

/// The plugin that this value of `use` means, if circ has it.
pub fn native(class: &str) -> Option<&'static PluginSpec> {
    PLUGINS.iter().find(|spec| spec.classes.contains(&class))
}

/// The class nearest to a mistyped one of circus's own.
pub fn nearest_class(class: &str) -> Option<&'static str> {
    let all = PLUGINS.iter().flat_map(|spec| spec.classes.iter().copied());
    options::nearest_of(class, all)
}

/// A number of something, or a share of all of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// Percent.
    Percent(f64),
    /// Bytes.
    Bytes(f64),
}

/// Reads `50` (percent) or `250M`, `1.5 Gi`, `2kilo` (bytes).
pub fn amount(text: &str) -> Option<Amount> {
    match pytext::float(text) {
        Some(number) => Some(Amount::Percent(number)),
        None => size(text).map(Amount::Bytes),
    }
}

/// Reads a size with a unit as `circus.util.human2bytes` does; all units are powers of 1024.
pub fn size(text: &str) -> Option<f64> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit = pytext::strip(&text[end..]);
    let families: [&[&str]; 4] = [
        &["B", "K", "M", "G", "T", "P", "E", "Z", "Y"],
        &[
            "byte", "kilo", "mega", "giga", "tera", "peta", "exa", "zetta", "iotta",
        ],
        &["Bi", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"],
        &[
            "byte", "kibi", "mebi", "gibi", "tebi", "pebi", "exbi", "zebi", "yobi",
        ],
    ];
    let unit = if unit == "k" { "K" } else { unit };
    let power = families
        .iter()
        .find_map(|family| family.iter().position(|name| *name == unit))?;
    Some((number * 1024f64.powi(i32::try_from(power).ok()?)).trunc())
}

/// What is wrong with the text of a key, if anything is: the words that were expected.
pub fn expected(spec: &KeySpec, text: &str) -> Option<String> {
    let whole = |text: &str| pytext::int(text);
    let number = |text: &str| pytext::float(text).filter(|number| number.is_finite());
    let fits = match spec.form {
        "whole number" => whole(text).is_some(),
        "0 to 65535" => whole(text).is_some_and(|port| (0..=65535).contains(&port)),
        // None of these can be nothing: they would run all the time.
        "seconds" if spec.name == "loop_rate" => number(text).is_some_and(|n| n > 0.0),
        "seconds" => number(text).is_some_and(|n| n >= 0.0),
        "percent" => number(text).is_some(),
        "number above 0 up to 1" => number(text).is_some_and(|n| n > 0.0 && n <= 1.0),
        "percent or size" => amount(text).is_some(),
        "truth value" => to_bool(text).is_ok(),
        "signal" => to_signum(&Value::from(pytext::strip(text))).is_ok(),
        "regular expression" => {
            return regex::Regex::new(&format!("^(?:{text})")).err().map(|why| {
                let why = why.to_string();
                let last = why.lines().last().unwrap_or_default();
                format!("a regular expression ({last})")
            });
        }
        "restart or reload" => matches!(text, "restart" | "reload"),
        "address" => text.parse::<std::net::IpAddr>().is_ok() || text == "localhost",
        _ => true,
    };
    let form = match spec.form {
        "seconds" if spec.name == "loop_rate" => "a number of seconds above 0",
        "seconds" => "a number of seconds from 0 up",
        "whole number" => "a whole number",
        "truth value" => "a truth value (yes, true, on, 1, no, false, off, 0)",
        "percent" => "a number of percent",
        "percent or size" => "a number of percent, or a size such as 250M",
        "signal" => "a signal: a number or a name such as TERM",
        "number above 0 up to 1" => "a number above 0 up to 1",
        "0 to 65535" => "a port from 0 to 65535",
        "address" => "an IP address",
        other => other,
    };
    (!fits).then(|| form.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_what_its_key_expects() {
        for plugin in PLUGINS {
            for spec in plugin.keys().filter(|spec| !spec.default.is_empty()) {
                assert_eq!(
                    expected(spec, spec.default),
                    None,
                    "{} {}",
                    plugin.name,
                    spec.name
                );
            }
        }
    }

    #[test]
    fn bad_values_are_told_with_what_is_expected() {
        let told = |plugin: &str, key: &str, text: &str| {
            let plugin = PLUGINS.iter().find(|spec| spec.name == plugin)?;
            expected(plugin.key(key)?, text)
        };
        for (plugin, key, text, want) in [
            ("flapping", "attempts", "x", "a whole number"),
            ("flapping", "window", "-1", "seconds from 0 up"),
            ("full_stats", "loop_rate", "0", "above 0"),
            ("watchdog", "msg_regex", "(", "a regular expression ("),
            ("watchdog", "port", "70000", "a port"),
            ("watchdog", "ip", "here", "an IP address"),
            ("resource_watcher", "max_mem", "12 apples", "a size such as"),
            ("resource_watcher", "action", "stop", "restart or reload"),
            ("resource_watcher", "child_signal", "NOPE", "a signal"),
            ("statsd", "sample_rate", "2", "above 0 up to 1"),
            ("statsd", "active", "maybe", "a truth value"),
        ] {
            let told = told(plugin, key, text);
            assert!(
                told.as_deref().is_some_and(|told| told.contains(want)),
                "{plugin} {key} {text}: {told:?}"
            );
        }
    }

    #[test]
    fn sizes_as_circus_reads_them() {
        for (text, bytes) in [
            ("0B", 0.0),
            ("1K", 1024.0),
            ("2k", 2048.0),
            ("1.5M", 1_572_864.0),
            ("250 M", 262_144_000.0),
            ("1Gi", 1_073_741_824.0),
            ("1 kibi", 1024.0),
            ("29.09M", 30_503_075.0),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "M", "1", "1X", "1..2K", "-1K"] {
            assert_eq!(size(text), None, "{text}");
        }
        assert_eq!(amount("50"), Some(Amount::Percent(50.0)));
        assert_eq!(amount("1K"), Some(Amount::Bytes(1024.0)));
    }

    #[test]
    fn the_classes_of_circus_are_known() {
        assert_eq!(
            native("circus.plugins.statsd.FullStats").map(|spec| spec.name),
            Some("full_stats")
        );
        assert_eq!(native("my.module.Plugin"), None);
        assert_eq!(
            nearest_class("circus.plugins.flaping.Flapping"),
            Some("circus.plugins.flapping.Flapping")
        );
    }
}
