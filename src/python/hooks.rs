//! The text that calls Python hooks, and the messages to and from it: lines of JSON.

use crate::options::{Map, Value};
use serde_json::json;

/// The program.
pub const TEXT: &str = include_str!("hooks.py");

/// A line that is longer than this is no message, in bytes.
pub const LONGEST: usize = 8 * 1024 * 1024;

/// The lines that a new process is sent first: its program, and the directories where it looks for modules at last.
pub fn greeting(paths: &[String]) -> String {
    format!("{}\n{}\n", json!(TEXT), json!({"paths": paths}))
}

/// The answer to a question.
pub fn answer(number: u64, value: &Value) -> String {
    format!("{}\n", json!({"answer": number, "value": value}))
}

/// What a process says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// It is there; its version of Python.
    Ready(String),
    /// It is done with a call.
    Done {
        /// Which.
        call: u64,
        /// The truth value of what the callable returned, or why it failed.
        answer: Result<bool, String>,
        /// The processes that it, or a call before it, has started and that go on.
        left: Vec<i32>,
        /// The statistics as the hook has left them: pairs of a pid and them.
        stats: Option<Vec<Value>>,
    },
    /// It wants to know or to do something.
    Ask {
        /// The answer is for this question.
        number: u64,
        /// What.
        question: Question,
    },
}

/// What a hook wants of the daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// The names of all watchers.
    Names,
    /// A watcher as hooks see it.
    Watcher(String),
    /// An event is to be published.
    Notify {
        /// The watcher.
        watcher: String,
        /// The last part of the topic.
        topic: String,
        /// Its message.
        message: Value,
    },
    /// Attributes of a watcher were assigned to.
    Assign {
        /// The watcher.
        watcher: String,
        /// Options and their values.
        changes: Map<String, Value>,
    },
    /// A command, as on the control socket.
    Request(Value),
}

impl Said {
    /// Reads a line; `None` if it is no message.
    pub fn parse(line: &[u8]) -> Option<Said> {
        let Value::Object(mut message) = serde_json::from_slice(line).ok()? else {
            return None;
        };
        let text = |message: &Map<String, Value>, key: &str| -> Option<String> {
            Some(message.get(key)?.as_str()?.to_string())
        };
        if let Some(version) = text(&message, "ready") {
            return Some(Said::Ready(version));
        }
        if let Some(call) = message.get("call").and_then(Value::as_u64) {
            let answer = match text(&message, "error") {
                Some(error) => Err(error),
                None => Ok(message.get("result")?.as_bool()?),
            };
            let stats = match message.remove("stats") {
                Some(Value::Array(stats)) => Some(stats),
                _ => None,
            };
            let left = message.get("left").and_then(Value::as_array);
            let left = left.into_iter().flatten().filter_map(Value::as_i64);
            return Some(Said::Done {
                call,
                answer,
                left: left.filter_map(|pid| i32::try_from(pid).ok()).collect(),
                stats,
            });
        }
        let number = message.get("ask")?.as_u64()?;
        let question = match message.get("what")?.as_str()? {
            "names" => Question::Names,
            "watcher" => Question::Watcher(text(&message, "name")?),
            "notify" => Question::Notify {
                watcher: text(&message, "watcher")?,
                topic: text(&message, "topic")?,
                message: message.remove("message")?,
            },
            "assign" => {
                let watcher = text(&message, "watcher")?;
                let Some(Value::Object(changes)) = message.remove("changes") else {
                    return None;
                };
                Question::Assign { watcher, changes }
            }
            "request" => Question::Request(message.remove("request")?),
            _ => return None,
        };
        Some(Said::Ask { number, question })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_says_is_read_or_refused() {
        let said = |text: &str| Said::parse(text.as_bytes());
        assert_eq!(
            said(r#"{"ready": "3.11.2"}"#),
            Some(Said::Ready("3.11.2".to_string()))
        );
        let done = |call, answer| Said::Done {
            call,
            answer,
            left: Vec::new(),
            stats: None,
        };
        assert_eq!(
            said(r#"{"call": 3, "result": true}"#),
            Some(done(3, Ok(true)))
        );
        assert_eq!(
            said(r#"{"call": 3, "error": "no"}"#),
            Some(done(3, Err("no".to_string())))
        );
        assert_eq!(
            said(r#"{"ask": 1, "what": "names"}"#),
            Some(Said::Ask {
                number: 1,
                question: Question::Names
            })
        );
        for bad in [
            "",
            "garbage",
            "[]",
            "{}",
            r#"{"call": 3}"#,
            r#"{"ask": 1, "what": "zzz"}"#,
        ] {
            assert_eq!(said(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_program_is_one_line_whatever_it_holds() {
        let greeting = greeting(&["/srv".to_string()]);
        assert_eq!(greeting.lines().count(), 2);
    }
}
