//! What the running agent answers to people, and the pauses they make.

use std::sync::mpsc::Sender;
use std::time::Duration;

use serde_json::{Value, json};

use super::control::Request;
use super::schedule::{Input, Refusal};
use super::shell::Shell;
use super::telling::{self, moment};

/// A pause longer than this is one without an end.
const LONGEST_PAUSE: f64 = 10.0 * 366.0 * 86_400.0;

impl Shell<'_> {
    pub(super) fn asked(&mut self, request: Request, answer: Sender<Value>) {
        // Whoever has gone away meanwhile does not want the answer any more.
        let reply = match request {
            Request::Status => self.status(),
            Request::Pause(seconds) => self.pause(seconds),
            Request::Resume => self.resume(),
            Request::RunNow => {
                let ticket = self.ticket();
                self.waiting.insert(ticket, answer);
                self.step(Input::RunNow(ticket));
                return;
            }
        };
        let _ = answer.send(reply);
    }

    fn pause(&mut self, seconds: Option<f64>) -> Value {
        let clock = self.clock();
        let until = seconds
            .filter(|seconds| *seconds < LONGEST_PAUSE)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(|pause| {
                clock
                    .now
                    .after(u64::try_from(pause.as_millis()).unwrap_or(0))
            });
        self.step(Input::Pause(until));
        let until = until.map(|until| clock.at(until));
        let mut reply = json!({"status": "ok", "paused": true, "paused_until": until.map(moment)});
        match self.memory.remember(Some(until)) {
            Err(problem) => {
                tracing::warn!("{problem}");
                reply["warning"] = problem.into();
            }
            Ok(()) if !self.memory.lasts() => {
                reply["warning"] =
                    "without --report-dir the pause is forgotten when the agent ends".into();
            }
            Ok(()) => {}
        }
        tracing::info!(
            "agent: paused{}",
            until.map_or(String::new(), |until| format!(" until {}", moment(until)))
        );
        reply
    }

    fn resume(&mut self) -> Value {
        let was = self.schedule.paused().is_some();
        if was {
            tracing::info!("agent: resumed");
        }
        self.step(Input::Resume);
        json!({"status": "ok", "paused": false, "was_paused": was})
    }

    /// A pause from before the agent's start.
    pub(super) fn recall(&mut self) {
        let clock = self.clock();
        if let Some(until) = self.memory.recall(clock.wall) {
            let left = until.map(|until| until.duration_since(clock.wall).as_millis());
            let until = left.map(|left| clock.now.after(u64::try_from(left).unwrap_or(0)));
            tracing::warn!("agent: still paused; `circ agent resume` ends that");
            self.step(Input::Pause(until));
        }
    }

    fn status(&self) -> Value {
        let clock = self.clock();
        let zoned = clock.wall.to_zoned(jiff::tz::TimeZone::system());
        let mut status = json!({"status": "ok", "schema": telling::STATUS});
        let Some(map) = status.as_object_mut() else {
            return status;
        };
        if let Value::Object(about) = self.about.clone() {
            map.extend(about);
        }
        map.extend(telling::schedule(&self.schedule, clock));
        map.insert("window".into(), self.window.to_json(&zoned));
        map.insert(
            "daemon".into(),
            match &self.daemon {
                Some(Ok(())) => "connected".into(),
                Some(Err(reason)) => reason.as_str().into(),
                None => Value::Null,
            },
        );
        map.insert("drift".into(), self.drift.into());
        map.insert("last".into(), telling::summary(&self.last_line));
        status
    }

    pub(super) fn why_not(&self, why: Refusal) -> String {
        match why {
            Refusal::Paused(None) => "the agent is paused; `circ agent resume` ends that".into(),
            Refusal::Paused(Some(until)) => format!(
                "the agent is paused until {}; `circ agent resume` ends that",
                moment(self.clock().at(until))
            ),
            Refusal::Window => "a maintenance window is in force that allows no runs".into(),
            Refusal::Stopping => "the agent is ending".into(),
        }
    }
}
