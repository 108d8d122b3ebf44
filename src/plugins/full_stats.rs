//! Sends the statistics of all watchers to statsd. Source: `circus.plugins.statsd.FullStats`.

use serde_json::{Map, Number, Value};

use super::Surroundings;
use super::settings::Settings;
use super::statsd::Metric;
use super::step::{Beat, Call, Effect, Input, Plugin, Wants};
use crate::config::plugin_keys::size;
use crate::wire::CallError;

/// The plugin.
pub struct FullStats {
    beat: Beat,
}

impl FullStats {
    pub(super) fn new(settings: &Settings<'_>, around: Surroundings) -> Self {
        FullStats {
            beat: Beat::new(around.now, settings.number("loop_rate")),
        }
    }
}

impl Plugin for FullStats {
    fn wants(&self) -> Wants {
        Wants::default()
    }

    fn step(&mut self, now: f64, input: Input) -> Vec<Effect> {
        match input {
            Input::Tick if self.beat.is_due(now) => vec![Effect::Call(Call::new("stats"))],
            Input::Reply(_, Ok(reply)) => {
                let infos = reply.get("infos").and_then(Value::as_object);
                infos.into_iter().flatten().flat_map(of_watcher).collect()
            }
            Input::Reply(_, Err(CallError::Refused(_))) => {
                vec![Effect::Metric(Metric::one("_stats.error"))]
            }
            _ => Vec::new(),
        }
    }

    fn wake(&self) -> Option<f64> {
        Some(self.beat.next())
    }
}

fn of_watcher((name, info): (&String, &Value)) -> Vec<Effect> {
    let Some(info) = info.as_object().filter(|_| !name.starts_with("plugin:")) else {
        return Vec::new();
    };
    let gauge = |what: &str, number: Number| {
        Effect::Metric(Metric::Gauge(format!("_stats.{name}.{what}"), number))
    };
    let mut effects = Vec::new();
    if let Some(Value::Number(count)) = info.get("spawn_count") {
        effects.push(gauge("spawn_count", count.clone()));
    }
    let workers: Vec<&Map<String, Value>> = info.values().filter_map(Value::as_object).collect();
    effects.push(gauge("watchers_num", workers.len().into()));
    let numbers = |key: &str| -> Vec<Number> {
        let values = workers.iter().filter_map(|worker| worker.get(key));
        values
            .filter_map(|value| match value {
                Value::Number(number) => Some(number.clone()),
                // memory, with its unit; what is not known is no number
                Value::String(text) => size(text).map(|bytes| (bytes as u64).into()),
                _ => None,
            })
            .collect()
    };
    for (key, short) in [("cpu", "cpu"), ("mem", "mem_pct"), ("mem_info1", "mem")] {
        let numbers = numbers(key);
        if let (Some(most), Some(sum)) = (most(&numbers), sum(&numbers)) {
            effects.push(gauge(&format!("{short}_max"), most));
            effects.push(gauge(&format!("{short}_sum"), sum));
        }
    }
    effects
}

fn most(numbers: &[Number]) -> Option<Number> {
    let value = |number: &Number| number.as_f64().unwrap_or_default();
    numbers
        .iter()
        .max_by(|a, b| value(a).total_cmp(&value(b)))
        .cloned()
}

/// As Python adds: whole numbers stay whole.
fn sum(numbers: &[Number]) -> Option<Number> {
    if numbers.is_empty() {
        return None;
    }
    let whole: Option<u64> = numbers
        .iter()
        .map(Number::as_u64)
        .try_fold(0u64, |sum, number| sum.checked_add(number?));
    whole.map(Number::from).or_else(|| {
        Number::from_f64(
            numbers
                .iter()
                .map(|number| number.as_f64().unwrap_or_default())
                .sum(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_numbers_of_every_watcher_but_plugins() {
        let settings = std::collections::BTreeMap::from([("loop_rate".into(), "2".into())]);
        let spec = crate::config::plugin_keys::native("circus.plugins.statsd.FullStats").unwrap();
        let settings = Settings::new(spec, &settings).unwrap();
        let around = Surroundings {
            check_delay: 5.0,
            now: 0.0,
        };
        let mut plugin = FullStats::new(&settings, around);
        assert_eq!(plugin.wake(), Some(2.0));
        assert_eq!(
            plugin.step(2.0, Input::Tick),
            [Effect::Call(Call::new("stats"))]
        );
        let reply = json!({"infos": {
            "plugin:x": {"7": {"cpu": 1, "mem": 1, "mem_info1": "1M"}},
            "idle": {"spawn_count": 2},
            "web": {
                "1": {"cpu": 1.5, "mem": 0.25, "mem_info1": "1K"},
                "2": {"cpu": "N/A", "mem": 0.5, "mem_info1": "2K"},
                "3": "No such process (stopped?)", "spawn_count": 3},
        }});
        let Value::Object(reply) = reply else {
            panic!()
        };
        let effects = plugin.step(2.0, Input::Reply(Call::new("stats"), Ok(reply)));
        let told: Vec<String> = effects
            .iter()
            .map(|effect| match effect {
                Effect::Metric(Metric::Gauge(name, number)) => format!("{name} {number}"),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            told,
            [
                "_stats.idle.spawn_count 2",
                "_stats.idle.watchers_num 0",
                "_stats.web.spawn_count 3",
                "_stats.web.watchers_num 2",
                "_stats.web.cpu_max 1.5",
                "_stats.web.cpu_sum 1.5",
                "_stats.web.mem_pct_max 0.5",
                "_stats.web.mem_pct_sum 0.75",
                "_stats.web.mem_max 2048",
                "_stats.web.mem_sum 3072",
            ]
        );
        let refused = Err(CallError::Refused("no".into()));
        assert_eq!(
            plugin.step(3.0, Input::Reply(Call::new("stats"), refused)),
            [Effect::Metric(Metric::one("_stats.error"))]
        );
    }
}
