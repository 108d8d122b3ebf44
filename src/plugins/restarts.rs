//! Restarts of a watcher for a reason. A watcher that does not run stays as it is: somebody has stopped it.

use super::step::{Call, Effect};
use crate::wire::CallError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What is asked for and not yet done.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    pending: BTreeMap<String, (&'static str, String)>,
}

impl Restarts {
    /// Restarts a watcher, by this command, if it runs.
    pub fn ask(&mut self, watcher: &str, command: &'static str, reason: String) -> Effect {
        self.pending.insert(watcher.to_owned(), (command, reason));
        Effect::Call(Call::about("status", watcher))
    }

    /// Takes the replies that belong to it; what is to be done next. None if it is of no restart.
    pub fn reply(
        &mut self,
        call: &Call,
        reply: &Result<Map<String, Value>, CallError>,
    ) -> Option<Vec<Effect>> {
        let watcher = call.watcher()?;
        match (call.command, reply) {
            ("status", _) => {
                let (command, reason) = self.pending.remove(watcher)?;
                Some(match reply {
                    Ok(reply) => {
                        let status = reply.get("status").and_then(Value::as_str);
                        let status = status.unwrap_or("unknown");
                        if status == "active" {
                            vec![
                                Effect::info(format!("{watcher}: {command}: {reason}")),
                                Effect::Call(Call::about(command, watcher)),
                            ]
                        } else {
                            vec![Effect::info(format!(
                                "{watcher}: no {command}, it is {status}: {reason}"
                            ))]
                        }
                    }
                    Err(why) => vec![Effect::warning(format!(
                        "{watcher} cannot be restarted ({reason}): {why}"
                    ))],
                })
            }
            ("restart" | "reload", Err(why)) => Some(vec![Effect::warning(format!(
                "{watcher}: {} failed: {why}",
                call.command
            ))]),
            ("restart" | "reload", Ok(_)) => Some(Vec::new()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(text: &str) -> Result<Map<String, Value>, CallError> {
        match json!({ "status": text }) {
            Value::Object(reply) => Ok(reply),
            _ => Ok(Map::new()),
        }
    }

    #[test]
    fn what_somebody_stopped_stays_stopped() {
        for (told, restarted) in [("active", true), ("stopped", false), ("stopping", false)] {
            let mut restarts = Restarts::default();
            let Effect::Call(call) = restarts.ask("web", "reload", "too big".to_owned()) else {
                panic!("no question");
            };
            assert_eq!(call, Call::about("status", "web"));
            let effects = restarts.reply(&call, &status(told)).unwrap();
            let done = effects.contains(&Effect::Call(Call::about("reload", "web")));
            assert_eq!(done, restarted, "{told}: {effects:?}");
            assert_eq!(restarts.reply(&call, &status(told)), None);
        }
    }
}
