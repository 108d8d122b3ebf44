//! Which events somebody wants. Pure.

use super::line::Event;
use crate::config::pattern;
use crate::options;

/// What can happen: the last part of a topic. The last two are said by `circ events` itself.
const ACTIONS: [&str; 13] = [
    "spawn",
    "reap",
    "kill",
    "start",
    "stop",
    "reload",
    "updated",
    "add",
    "remove",
    "hook_success",
    "hook_failure",
    "lost",
    "back",
];

/// An action by its name.
///
/// # Errors
/// There is none of this name; what is near.
pub fn action(text: &str) -> Result<String, String> {
    if ACTIONS.contains(&text) {
        return Ok(text.to_string());
    }
    let near = options::nearest_of(text, ACTIONS)
        .map_or(String::new(), |near| format!("; did you mean {near}?"));
    Err(format!("events are {}{near}", ACTIONS.join(", ")))
}

/// Which events are wanted; each empty list wants all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Beginnings of topics.
    pub topics: Vec<String>,
    /// Patterns of the names of watchers.
    pub watchers: Vec<String>,
    /// What happened.
    pub actions: Vec<String>,
}

impl Filter {
    /// Whether this one is.
    pub fn wants(&self, event: &Event) -> bool {
        let topic = |wanted: &String| event.topic.starts_with(wanted.as_str());
        let named = |wanted: &String| {
            let wanted = wanted.to_lowercase().replace(' ', "_");
            event
                .watcher()
                .is_some_and(|name| pattern::matches(&wanted, name))
        };
        let happened = |wanted: &String| event.action() == wanted;
        (self.topics.is_empty() || self.topics.iter().any(topic))
            && (self.watchers.is_empty() || self.watchers.iter().any(named))
            && (self.actions.is_empty() || self.actions.iter().any(happened))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_narrows() {
        let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let event = |topic: &str| Event::heard(topic.as_bytes(), b"{}");
        let mut filter = Filter::default();
        assert!(filter.wants(&event("watcher.web.reap")) && filter.wants(&Event::lost(0.0, "")));
        filter.watchers = texts(&["We*", "my app"]);
        assert!(filter.wants(&event("watcher.web.reap")));
        assert!(filter.wants(&event("watcher.my_app.spawn")));
        assert!(!filter.wants(&event("watcher.api.reap")) && !filter.wants(&Event::lost(0.0, "")));
        filter.actions = texts(&["reap", "lost"]);
        assert!(!filter.wants(&event("watcher.my_app.spawn")));
        filter.watchers.clear();
        assert!(filter.wants(&Event::lost(0.0, "")));
        filter.topics = texts(&["watcher.web.", "watcher.api."]);
        assert!(
            filter.wants(&event("watcher.api.reap")) && !filter.wants(&event("watcher.x.reap"))
        );
        assert_eq!(
            action("reaped").unwrap_err().split_once("; ").unwrap().1,
            "did you mean reap?"
        );
    }
}
