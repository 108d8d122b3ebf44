//! What can follow on a line of the shell: commands, their options, names of watchers and pids, keys of options,
//! names of signals.

use std::time::Duration;

use serde_json::{Value, json};

use super::Settings;
use super::messages::{CTLS, NAMES};
use crate::config::shlex;
use crate::options::{self, WATCHER_OPTIONS};
use crate::wire::Client;
use crate::wire::client::Patience;

/// How long a key press may wait for the daemon.
const PATIENCE: Duration = Duration::from_secs(1);

/// The commands whose first word is the name of a watcher.
const OF_A_WATCHER: &[&str] = &[
    "decr",
    "get",
    "incr",
    "kill",
    "list",
    "numprocesses",
    "options",
    "reload",
    "restart",
    "rm",
    "set",
    "signal",
    "start",
    "stats",
    "status",
    "stop",
];

/// Completes lines, asking the daemon for what only it knows.
pub struct Completer {
    endpoint: crate::wire::Endpoint,
    timeout: Duration,
}

impl Completer {
    /// A completer that asks the daemon of these settings.
    pub fn new(settings: &Settings) -> Self {
        Self {
            endpoint: settings.endpoint.clone(),
            timeout: settings.timeout.min(PATIENCE),
        }
    }

    /// Where the word at the end of `line` begins, and what it can become.
    pub fn complete(&self, line: &str) -> (usize, Vec<String>) {
        let begin = last_word(line);
        let begun = line[begin..].trim_start_matches(['\'', '"']);
        let before = shlex::split(&line[..begin]).unwrap_or_default();
        let mut words = before.iter().map(String::as_str);
        let candidates = match words.next() {
            None => commands(),
            Some("help" | "?") => NAMES.map(String::from).to_vec(),
            Some(command) => {
                let words: Vec<&str> = words.filter(|word| !word.starts_with('-')).collect();
                self.arguments(command, &words, begun)
            }
        };
        let mut candidates: Vec<String> = candidates
            .into_iter()
            .filter(|candidate| candidate.starts_with(begun))
            .map(|candidate| shlex::quote(&candidate) + " ")
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        (begin, candidates)
    }

    /// What can stand behind `words` of a command.
    fn arguments(&self, command: &str, words: &[&str], begun: &str) -> Vec<String> {
        if begun.starts_with('-') {
            let ctl = CTLS.iter().find(|ctl| ctl.name == command);
            return ctl
                .into_iter()
                .flat_map(|ctl| ctl.opts)
                .flat_map(|opt| opt.strings)
                .filter(|string| string.starts_with("--"))
                .map(ToString::to_string)
                .collect();
        }
        match (command, words) {
            (_, []) if OF_A_WATCHER.contains(&command) => self.watchers(),
            ("get", [_, ..]) => keys(),
            // Keys and values take turns.
            ("set", [_, pairs @ ..]) if pairs.len() % 2 == 0 => keys(),
            ("kill" | "stats", [watcher]) => self.pids(watcher),
            ("signal", [watcher]) => [self.pids(watcher), signals()].concat(),
            ("signal", [_, _]) => signals(),
            ("listen", _) => self.watchers().iter().map(|name| topic(name)).collect(),
            _ => Vec::new(),
        }
    }

    fn watchers(&self) -> Vec<String> {
        let reply = self.ask("status", json!({}));
        let statuses = reply
            .as_ref()
            .and_then(|reply| reply["statuses"].as_object());
        let names = statuses.into_iter().flat_map(|statuses| statuses.keys());
        names.cloned().collect()
    }

    fn pids(&self, watcher: &str) -> Vec<String> {
        let reply = self.ask("list", json!({"name": watcher}));
        let pids = reply.as_ref().and_then(|reply| reply["pids"].as_array());
        pids.into_iter().flatten().map(Value::to_string).collect()
    }

    fn ask(&self, command: &str, properties: Value) -> Option<Value> {
        let mut client =
            Client::connect_with(&self.endpoint, self.timeout, Patience::WaitForListener).ok()?;
        let message = json!({"command": command, "properties": properties});
        client.call_within(message, self.timeout).ok()
    }
}

/// Where the last word of the line begins, which may be in quotes that are still open.
fn last_word(line: &str) -> usize {
    let (mut begin, mut open) = (0, None);
    for (at, c) in line.char_indices() {
        match open {
            Some(quote) if c == quote => open = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => open = Some(c),
            None if c.is_whitespace() => begin = at + c.len_utf8(),
            None => {}
        }
    }
    begin
}

fn commands() -> Vec<String> {
    NAMES
        .iter()
        .chain(&["help"])
        .map(ToString::to_string)
        .collect()
}

fn keys() -> Vec<String> {
    let known = WATCHER_OPTIONS.iter().filter(|spec| spec.circus_settable);
    known.map(|spec| spec.name.to_string()).collect()
}

fn signals() -> Vec<String> {
    let names = options::signal_names();
    names
        .into_iter()
        .map(|name| name.trim_start_matches("SIG").to_string())
        .collect()
}

/// The topic of a watcher's events.
fn topic(name: &str) -> String {
    format!("watcher.{}.", name.to_lowercase().replace(' ', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> Completer {
        Completer {
            endpoint: "ipc:///nobody/here".parse().unwrap(),
            timeout: Duration::from_millis(1),
        }
    }

    #[test]
    fn without_a_daemon() {
        let completer = nobody();
        let complete = |line: &str| completer.complete(line);
        assert_eq!(complete("sto"), (0, vec!["stop ".into()]));
        assert_eq!(complete("help st").1.len(), 4);
        assert_eq!(
            complete("reload --"),
            (
                7,
                ["help", "sequential", "terminate", "waiting"]
                    .map(|o| format!("--{o} "))
                    .to_vec()
            )
        );
        assert_eq!(
            complete("set web grace"),
            (8, vec!["graceful_timeout ".into()])
        );
        assert_eq!(
            complete("set web graceful_timeout 3").1,
            Vec::<String>::new()
        );
        assert!(
            complete("set web priority 3 ")
                .1
                .contains(&"cmd ".to_string())
        );
        assert_eq!(complete("signal web 5 HU"), (13, vec!["HUP ".into()]));
        assert_eq!(complete("nonsense x"), (9, vec![]));
        assert_eq!(complete("status w"), (7, vec![]));
    }

    #[test]
    fn words_in_quotes() {
        assert_eq!(last_word("status 'a b"), 7);
        assert_eq!(last_word("status 'a b' c"), 13);
        assert_eq!(last_word("status \"it's "), 7);
    }
}
