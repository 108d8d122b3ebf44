//! Sends what a Redis server tells of itself to statsd; if it does not answer, a watcher can be restarted. Source:
//! `circus.plugins.redis_observer`. A number that this version of the server does not have is left out, where Circus
//! ends with a KeyError.

use serde_json::{Number, Value};

use super::Surroundings;
use super::redis::Address;
use super::restarts::Restarts;
use super::settings::{BadSetting, Settings};
use super::statsd::Metric;
use super::step::{Beat, Effect, Input, Look, Looked, Plugin, Wants};
use crate::config::pytext;

/// The numbers that are sent.
const OBSERVED: [&str; 22] = [
    "pubsub_channels",
    "connected_slaves",
    "lru_clock",
    "connected_clients",
    "keyspace_misses",
    "used_memory",
    "used_memory_peak",
    "total_commands_processed",
    "used_memory_rss",
    "total_connections_received",
    "pubsub_patterns",
    "used_cpu_sys",
    "used_cpu_sys_children",
    "blocked_clients",
    "used_cpu_user",
    "client_biggest_input_buf",
    "mem_fragmentation_ratio",
    "expired_keys",
    "evicted_keys",
    "client_longest_output_list",
    "uptime_in_seconds",
    "keyspace_hits",
];

/// The plugin.
pub struct RedisObserver {
    beat: Beat,
    url: String,
    timeout: f64,
    restart: Option<String>,
    restarts: Restarts,
}

impl RedisObserver {
    pub(super) fn new(settings: &Settings<'_>, around: Surroundings) -> Result<Self, BadSetting> {
        let url = settings.text("redis_url").to_owned();
        Address::parse(&url).map_err(|why| BadSetting::Unusable {
            key: "redis_url",
            why,
        })?;
        Ok(RedisObserver {
            beat: Beat::new(around.now, settings.number("loop_rate")),
            url,
            timeout: settings.number("timeout"),
            restart: settings.filled("restart_on_timeout"),
            restarts: Restarts::default(),
        })
    }
}

impl Plugin for RedisObserver {
    fn wants(&self) -> Wants {
        Wants::default()
    }

    fn step(&mut self, now: f64, input: Input) -> Vec<Effect> {
        match input {
            Input::Tick if self.beat.is_due(now) => vec![Effect::Look(Look::Redis {
                url: self.url.clone(),
                timeout: self.timeout,
            })],
            Input::Looked(Looked::Redis(Ok(told))) => OBSERVED
                .iter()
                .filter_map(|key| {
                    let (_, text) = told.iter().find(|(name, _)| name == key)?;
                    let name = format!("redis_stats.{key}");
                    Some(Effect::Metric(Metric::Gauge(name, number(text)?)))
                })
                .collect(),
            Input::Looked(Looked::Redis(Err(why))) => {
                let mut effects = vec![
                    Effect::Metric(Metric::one("redis_stats.error")),
                    Effect::warning(format!("the Redis server does not answer: {why}")),
                ];
                if let Some(watcher) = &self.restart {
                    let reason = format!("its Redis server does not answer: {why}");
                    effects.push(self.restarts.ask(watcher, "restart", reason));
                    effects.push(Effect::Metric(Metric::one("redis_stats.restart_on_error")));
                }
                effects
            }
            Input::Reply(call, reply) => self.restarts.reply(&call, &reply).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    fn wake(&self) -> Option<f64> {
        Some(self.beat.next())
    }
}

/// A number of `INFO`, whole or not, as redis-py reads it.
fn number(text: &str) -> Option<Number> {
    match pytext::int(text) {
        Some(whole) => Some(whole.into()),
        None => match Value::from(pytext::float(text)?) {
            Value::Number(number) => Some(number),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plugin_keys::native;
    use crate::plugins::parse_settings;
    use crate::plugins::step::Call;

    fn plugin(settings: &str) -> Result<RedisObserver, BadSetting> {
        let spec = native("circus.plugins.redis_observer.RedisObserver").unwrap();
        let settings = parse_settings(settings);
        let around = Surroundings {
            check_delay: 5.0,
            now: 0.0,
        };
        RedisObserver::new(&Settings::new(spec, &settings)?, around)
    }

    #[test]
    fn the_numbers_that_are_there_are_sent() {
        let mut observer = plugin("loop_rate:1").unwrap();
        assert!(matches!(
            observer.step(1.0, Input::Tick)[..],
            [Effect::Look(_)]
        ));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let told = vec![
            pair("redis_version", "7.0"),
            pair("used_cpu_user", "0.120000"),
            pair("connected_clients", "1"),
            pair("used_memory", "no number"),
        ];
        let gauge = |key: &str, number| Effect::Metric(Metric::Gauge(key.to_owned(), number));
        assert_eq!(
            observer.step(1.0, Input::Looked(Looked::Redis(Ok(told)))),
            [
                gauge("redis_stats.connected_clients", 1.into()),
                gauge("redis_stats.used_cpu_user", Number::from_f64(0.12).unwrap()),
            ]
        );
    }

    #[test]
    fn a_server_that_is_away_is_counted_and_restarted() {
        let mut observer = plugin("restart_on_timeout:redis").unwrap();
        let effects = observer.step(1.0, Input::Looked(Looked::Redis(Err("refused".into()))));
        assert_eq!(effects[0], Effect::Metric(Metric::one("redis_stats.error")));
        assert!(effects.contains(&Effect::Call(Call::about("status", "redis"))));
        assert!(effects.contains(&Effect::Metric(Metric::one("redis_stats.restart_on_error"))));
        assert!(plugin("redis_url:rediss://h").is_err());
    }
}
