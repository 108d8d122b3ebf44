//! Counts every event of every watcher. Source: `circus.plugins.statsd.StatsdEmitter`.

use super::statsd::Metric;
use super::step::{Effect, Input, Plugin, Wants};

/// The plugin.
pub struct StatsdEmitter;

impl Plugin for StatsdEmitter {
    fn wants(&self) -> Wants {
        Wants {
            events: true,
            ..Wants::default()
        }
    }

    fn step(&mut self, _now: f64, input: Input) -> Vec<Effect> {
        match input {
            Input::Event(event) => {
                let name = format!("{}.{}", event.watcher, event.action);
                vec![Effect::Metric(Metric::one(name))]
            }
            _ => Vec::new(),
        }
    }

    fn wake(&self) -> Option<f64> {
        None
    }
}
