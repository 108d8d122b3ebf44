//! The words of a TOML or JSON document: which keys there are, and what is said of others.

use super::shape::Shape;
use crate::options::{self, HOOKS, Key, Kind, RETIRED_OPTIONS, RLIMITS, WATCHER_OPTIONS};

/// The keys at the top of a document.
pub const TOP: [&str; 9] = [
    "$schema", "schema", "prune", "unset", "circus", "env", "watcher", "socket", "plugin",
];
/// The keys of a watcher that are not options of the daemon.
pub const WATCHER_EXTRAS: [&str; 7] = [
    "name",
    "state",
    "restart_on_change",
    "unset",
    "extra",
    "with_env",
    "with_socket",
];
/// What `state` of a watcher may say.
pub const WATCHER_STATES: [&str; 4] = ["running", "stopped", "present", "absent"];
/// What `state` of a socket or plugin may say.
pub const SECTION_STATES: [&str; 2] = ["present", "absent"];
/// What `restart_on_change` may say.
pub const ON_CHANGE: [&str; 3] = ["auto", "never", "always"];
/// How a watcher's key begins that the options table need not know.
pub const OWN_KEYS: [&str; 2] = ["x_", "x-"];

/// The shape of a watcher's key, or what is wrong with the key.
pub fn shape_of(key: &str) -> Result<Shape, String> {
    if OWN_KEYS.iter().any(|prefix| key.starts_with(prefix)) {
        check_name_of_key(key)?;
        return Ok(Shape::Scalar);
    }
    if key == "retry_in" {
        return Ok(Shape::Scalar);
    }
    if RETIRED_OPTIONS.iter().any(|(name, _)| *name == key) {
        return Ok(Shape::Truth);
    }
    match options::find(key) {
        Some((spec, Key::Entry(limit)))
            if spec.kind == Kind::Limits && !RLIMITS.contains(&limit) =>
        {
            Err(format!("no such limit; limits are {}", RLIMITS.join(", ")))
        }
        Some((spec, Key::Entry(hook))) if spec.kind == Kind::Hooks && !HOOKS.contains(&hook) => {
            Err(format!("no such hook; hooks are {}", HOOKS.join(", ")))
        }
        Some((_, Key::Entry(""))) => Err("a name after the dot is expected".to_string()),
        // How circus calls the groups in its replies.
        Some((spec, Key::Whole)) if spec.name != key => Err(format!("write {}", spec.name)),
        Some((spec, Key::Entry(entry))) if spec.kind == Kind::Stream => {
            check_name_of_key(entry)?;
            Shape::of_option(key).ok_or_else(|| "unknown option".to_string())
        }
        _ => Shape::of_option(key).ok_or_else(|| match options::spec(key) {
            Some(_) => format!("{key} is a group of settings; name one of them"),
            None => {
                let names = WATCHER_OPTIONS.iter().map(|spec| spec.name);
                let mut what = unknown("option", key, names.chain(WATCHER_EXTRAS));
                what.push_str(" (a key of your own begins with x_, or stands in `extra`)");
                what
            }
        }),
    }
}

/// What to say of a key that nobody knows.
pub fn unknown(what: &str, key: &str, known: impl Iterator<Item = &'static str>) -> String {
    match options::nearest_of(key, known) {
        Some(nearest) => format!("unknown {what}; did you mean {nearest}?"),
        None => format!("unknown {what}"),
    }
}

/// The name of a variable, or of a key of one's own, that a circus.ini can carry.
pub fn check_name_of_key(name: &str) -> Result<(), String> {
    let bad = |c: char| c.is_control() || matches!(c, '=' | ':');
    if name.is_empty() {
        Err("the name is empty".to_string())
    } else if name != name.trim() || name.contains(bad) || name.starts_with(['#', ';', '[']) {
        Err(
            "a circus.ini cannot hold a key of this name: no '=', ':' or control characters, no white space at its ends, \
             no '#', ';' or '[' at its start"
                .to_string(),
        )
    } else {
        Ok(())
    }
}
