//! Which keys a section may have, from the tables. Pure.

use crate::config::keys::{CIRCUS_KEYS, KeySpec, PLUGIN_KEYS, SOCKET_KEYS};
use crate::config::{DEFAULT_SECTION, NAME_KEY};
use crate::options::{self, HOOKS, Key, Kind, RETIRED_OPTIONS, RLIMITS, WATCHER_OPTIONS};

/// The kinds of sections there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionKind {
    /// `[DEFAULT]`: stands in for missing keys everywhere.
    Defaults,
    /// `[circus]`
    Circus,
    /// `[watcher:NAME]`
    Watcher,
    /// `[socket:NAME]`
    Socket,
    /// `[plugin:NAME]`
    Plugin,
    /// `[env]` and `[env:PATTERN]`
    Env,
    /// Nothing reads it.
    Unread,
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It stands in a table.
    Yes,
    /// The section may have any key.
    Free,
    /// Nobody reads it; the known key that it resembles.
    No(Option<&'static str>),
}

/// The kind of a section.
pub fn kind(section: &str) -> SectionKind {
    let named = |prefix: &str| {
        section
            .strip_prefix(prefix)
            .is_some_and(|name| !name.trim().is_empty())
    };
    match section {
        DEFAULT_SECTION => SectionKind::Defaults,
        "circus" => SectionKind::Circus,
        "env" => SectionKind::Env,
        _ if named("watcher:") => SectionKind::Watcher,
        _ if named("socket:") => SectionKind::Socket,
        _ if named("plugin:") => SectionKind::Plugin,
        _ if named("env:") => SectionKind::Env,
        _ => SectionKind::Unread,
    }
}

/// The keys of a section that have no table of their own: `[circus]`, `[socket:NAME]`, `[plugin:NAME]`.
pub fn specs(section: &str) -> &'static [KeySpec] {
    match kind(section) {
        SectionKind::Circus => CIRCUS_KEYS,
        SectionKind::Socket => SOCKET_KEYS,
        SectionKind::Plugin => PLUGIN_KEYS,
        _ => &[],
    }
}

/// The names of the keys that a section may have; nothing where any name will do.
pub fn names(section: &str) -> Vec<&'static str> {
    match kind(section) {
        SectionKind::Watcher => WATCHER_OPTIONS.iter().map(|spec| spec.name).collect(),
        _ => specs(section).iter().map(|spec| spec.name).collect(),
    }
}

/// What is known of a key in a section.
pub fn known(section: &str, key: &str) -> Known {
    if key == NAME_KEY {
        return Known::No(None);
    }
    match kind(section) {
        SectionKind::Watcher => watcher(key),
        SectionKind::Circus | SectionKind::Socket => {
            let specs = specs(section);
            if specs.iter().any(|spec| spec.name == key) {
                Known::Yes
            } else {
                Known::No(options::nearest_of(key, specs.iter().map(|spec| spec.name)))
            }
        }
        _ => Known::Free,
    }
}

fn watcher(key: &str) -> Known {
    let one_of = |name: &str, names: &'static [&'static str]| {
        if names.contains(&name) {
            Known::Yes
        } else {
            Known::No(None)
        }
    };
    match options::find(key) {
        Some((spec, Key::Entry(name))) if spec.kind == Kind::Hooks => one_of(name, HOOKS),
        Some((spec, Key::Entry(name))) if spec.kind == Kind::Limits => {
            one_of(&name.to_lowercase(), RLIMITS)
        }
        Some(_) => Known::Yes,
        None if key == "name" || RETIRED_OPTIONS.iter().any(|(name, _)| *name == key) => Known::Yes,
        None => Known::No(options::nearest(key)),
    }
}

/// Does nobody but the workers of a section's watchers know what its values are?
pub fn secret(section: &str) -> bool {
    kind(section) == SectionKind::Env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_looked_up_in_the_tables() {
        for (section, key, want) in [
            ("watcher:a", "numprocesses", Known::Yes),
            ("watcher:a", "rlimit_NOFILE", Known::Yes),
            ("watcher:a", "rlimit_x", Known::No(None)),
            ("watcher:a", "hooks.before_start", Known::Yes),
            ("watcher:a", "hooks.before", Known::No(None)),
            ("watcher:a", "stdout_stream.anything", Known::Yes),
            ("watcher:a", "name", Known::Yes),
            ("watcher:a", "retry_in", Known::Yes),
            ("watcher:a", "numproceses", Known::No(Some("numprocesses"))),
            ("watcher:a", "__name__", Known::No(None)),
            ("circus", "endpont", Known::No(Some("endpoint"))),
            ("socket:a", "port", Known::Yes),
            ("plugin:a", "loop_rate", Known::Free),
            ("env:a", "X", Known::Free),
            ("DEFAULT", "X", Known::Free),
        ] {
            assert_eq!(known(section, key), want, "{section} {key}");
        }
        assert_eq!(kind("watcher:"), SectionKind::Unread);
        assert_eq!(kind("watchers"), SectionKind::Unread);
    }
}
