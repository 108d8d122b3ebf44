//! Gets a page again and again; if it fails, a watcher can be restarted. Source: `circus.plugins.http_observer`.

use super::Surroundings;
use super::restarts::Restarts;
use super::settings::{BadSetting, Settings};
use super::statsd::Metric;
use super::step::{Beat, Effect, Input, Look, Looked, Plugin, Wants};

/// What Circus counts as the status of a page that could not be had.
const NO_ANSWER: u16 = 599;

/// The plugin.
pub struct HttpObserver {
    beat: Beat,
    url: String,
    timeout: f64,
    restart: Option<String>,
    restarts: Restarts,
}

impl HttpObserver {
    pub(super) fn new(settings: &Settings<'_>, around: Surroundings) -> Result<Self, BadSetting> {
        let url = settings.text("check_url").to_owned();
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(BadSetting::Unusable {
                key: "check_url",
                why: format!("{url} begins with neither http:// nor https://"),
            });
        }
        Ok(HttpObserver {
            beat: Beat::new(around.now, settings.number("loop_rate")),
            url,
            timeout: settings.number("timeout"),
            restart: settings.filled("restart_on_error"),
            restarts: Restarts::default(),
        })
    }

    fn failed(&mut self, status: u16, why: &str) -> Vec<Effect> {
        let mut effects = vec![
            Effect::Metric(Metric::one("http_stats.error")),
            Effect::Metric(Metric::one(format!("http_stats.error.{status}"))),
            Effect::warning(format!("{}: {why}", self.url)),
        ];
        if let Some(watcher) = &self.restart {
            let reason = format!("{} {why}", self.url);
            effects.push(self.restarts.ask(watcher, "restart", reason));
            effects.push(Effect::Metric(Metric::one("http_stats.restart_on_error")));
        }
        effects
    }
}

impl Plugin for HttpObserver {
    fn wants(&self) -> Wants {
        Wants::default()
    }

    fn step(&mut self, now: f64, input: Input) -> Vec<Effect> {
        match input {
            Input::Tick if self.beat.is_due(now) => vec![Effect::Look(Look::Page {
                url: self.url.clone(),
                timeout: self.timeout,
            })],
            Input::Looked(Looked::Page(Ok((status, millis)))) if status < 400 => {
                let name = "http_stats.request_time".to_owned();
                vec![Effect::Metric(Metric::Time(name, millis))]
            }
            Input::Looked(Looked::Page(Ok((status, _)))) => {
                self.failed(status, &format!("has the status {status}"))
            }
            Input::Looked(Looked::Page(Err(why))) => self.failed(NO_ANSWER, &why),
            Input::Reply(call, reply) => self.restarts.reply(&call, &reply).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    fn wake(&self) -> Option<f64> {
        Some(self.beat.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plugin_keys::native;
    use crate::plugins::parse_settings;
    use crate::plugins::step::Call;

    fn plugin(settings: &str) -> Result<HttpObserver, BadSetting> {
        let spec = native("circus.plugins.http_observer.HttpObserver").unwrap();
        let settings = parse_settings(settings);
        let around = Surroundings {
            check_delay: 5.0,
            now: 0.0,
        };
        HttpObserver::new(&Settings::new(spec, &settings)?, around)
    }

    #[test]
    fn a_page_is_timed_and_a_failure_counted() {
        let mut observer = plugin("check_url:http://h/x:::timeout:2:::loop_rate:1").unwrap();
        assert_eq!(
            observer.step(1.0, Input::Tick),
            [Effect::Look(Look::Page {
                url: "http://h/x".into(),
                timeout: 2.0
            })]
        );
        assert_eq!(
            observer.step(1.0, Input::Looked(Looked::Page(Ok((302, 15))))),
            [Effect::Metric(Metric::Time(
                "http_stats.request_time".into(),
                15
            ))]
        );
        for (outcome, status) in [(Ok((503, 9)), 503), (Err("is away".to_owned()), 599)] {
            let effects = observer.step(2.0, Input::Looked(Looked::Page(outcome)));
            let name = format!("http_stats.error.{status}");
            assert!(effects.contains(&Effect::Metric(Metric::one("http_stats.error"))));
            assert!(effects.contains(&Effect::Metric(Metric::one(name))));
            assert!(!effects.iter().any(|e| matches!(e, Effect::Call(_))));
        }
    }

    #[test]
    fn a_failure_restarts_the_watcher_if_it_is_to() {
        let mut observer = plugin("restart_on_error:web").unwrap();
        let effects = observer.step(2.0, Input::Looked(Looked::Page(Err("is away".into()))));
        assert!(effects.contains(&Effect::Call(Call::about("status", "web"))));
        assert!(effects.contains(&Effect::Metric(Metric::one("http_stats.restart_on_error"))));
        assert!(plugin("check_url:ftp://h/").is_err());
    }
}
