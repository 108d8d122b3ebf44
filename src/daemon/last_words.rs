//! How workers ended, and what they said on their standard error before.
//!
//! Workers with a `stderr_stream` are always heard: their pipe leads through the daemon. Of the others, a worker that runs
//! well writes where the daemon writes, and nobody stands in between. Only when workers of a watcher have died young (or
//! the watcher has no second try: `respawn = False`) do the next ones get a pipe, a few of many, which leads to the same
//! place (see [`super::streams`]). It stays with the worker until it, and whoever inherited it, has closed it.
//!
//! When the daemon itself is killed, a worker with a pipe finds it closed at its next line (SIGPIPE, or an error if it
//! ignores that): as with every output stream of Circus, whose pipes end in the daemon.

use super::shell::wall_clock;
use super::streams::Words;
use crate::options::{Map, Value};
use crate::supervisor::Loss;
use serde_json::json;
use std::sync::Arc;

/// For so long, in seconds, what one worker said counts for those that end alike.
const SOON: f64 = 60.0;

/// How a worker of a watcher was lost the last time.
#[derive(Debug)]
pub(super) struct LastExit {
    /// When, in seconds since the epoch.
    time: f64,
    loss: Loss,
    words: Option<Arc<Words>>,
}

impl LastExit {
    /// It has just happened.
    pub fn now(loss: Loss, words: Option<Arc<Words>>) -> LastExit {
        LastExit {
            time: wall_clock(),
            loss,
            words,
        }
    }

    /// Whether this is what is told on, and not `newer`: that one was not listened to, and ended alike, soon after.
    pub fn tells_more_than(&self, newer: &LastExit) -> bool {
        let end = |loss: &Loss| match loss {
            Loss::Exited { code, .. } => Some(*code),
            Loss::NotStarted(_) => None,
        };
        let said = self.words.as_ref().is_some_and(|words| !words.is_empty());
        said && newer.words.is_none()
            && end(&self.loss) == end(&newer.loss)
            && newer.time - self.time < SOON
    }

    /// As the reply to `status` has it.
    pub fn told(&self) -> Map<String, Value> {
        let lines = self.words.as_ref().map(|words| words.lines());
        let (pid, code, signal, lived, reason) = match &self.loss {
            Loss::Exited { pid, code, lived } => {
                let signal = (*code < 0).then(|| code.saturating_neg());
                let code = (*code >= 0).then_some(*code);
                (Some(*pid), code, signal, *lived, None)
            }
            Loss::NotStarted(reason) => (None, None, None, 0.0, Some(reason)),
        };
        let mut told = Map::from_iter([
            ("pid".to_string(), json!(pid)),
            ("time".to_string(), json!(self.time)),
            ("code".to_string(), json!(code)),
            ("signal".to_string(), json!(signal)),
            ("lived".to_string(), json!(lived)),
            ("stderr".to_string(), json!(lines.unwrap_or_default())),
        ]);
        if let Some(reason) = reason {
            told.insert("reason".to_string(), reason.as_str().into());
        }
        told
    }
}
