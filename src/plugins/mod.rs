//! Circus's plugins, native. A plugin is a program of its own beside the daemon: it hears events, asks and orders over the
//! control socket as every client does, and whatever becomes of it harms nobody. So it works with a circusd as well.
//!
//! Each plugin is a pure state machine, [`step::Plugin`]: it is told what happened and when, and answers what is to be
//! done. [`shell`] is the one loop around all of them; it holds the sockets and the clock. What the keys of a plugin are
//! stands in [`crate::config::plugin_keys`].

mod command_reloader;
mod files;
mod flapping;
mod full_stats;
mod http;
mod http_observer;
mod redis;
mod redis_observer;
mod resource_watcher;
mod restarts;
mod settings;
pub mod shell;
pub mod statsd;
mod statsd_emitter;
pub mod step;
mod watchdog;

use std::collections::BTreeMap;

use settings::Settings;
pub use settings::{BadSetting, parse_settings};
use step::Plugin;

use crate::config::plugin_keys::PluginSpec;

/// What a plugin has to know besides its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Surroundings {
    /// Seconds within which a daemon may notice that a worker is gone (`--check-delay`).
    pub check_delay: f64,
    /// The time at the start, as [`step::Plugin::step`] is told it.
    pub now: f64,
}

/// Makes a plugin from its settings; those it does not know are passed over.
///
/// # Errors
/// A setting that cannot be used, one that is missing, or the plugin is not to be active.
pub fn make(
    spec: &'static PluginSpec,
    settings: &BTreeMap<String, String>,
    around: Surroundings,
) -> Result<Box<dyn Plugin>, BadSetting> {
    let settings = Settings::new(spec, settings)?;
    if !settings.boolean("active") {
        return Err(BadSetting::Inactive);
    }
    Ok(match spec.name {
        "flapping" => Box::new(flapping::Flapping::new(&settings, around)),
        "statsd" => Box::new(statsd_emitter::StatsdEmitter),
        "full_stats" => Box::new(full_stats::FullStats::new(&settings, around)),
        "redis_observer" => Box::new(redis_observer::RedisObserver::new(&settings, around)?),
        "http_observer" => Box::new(http_observer::HttpObserver::new(&settings, around)?),
        "resource_watcher" => Box::new(resource_watcher::ResourceWatcher::new(&settings, around)?),
        "watchdog" => Box::new(watchdog::WatchDog::new(&settings, around)?),
        "command_reloader" => Box::new(command_reloader::CommandReloader::new(&settings, around)),
        other => return Err(BadSetting::Unwritten(other)),
    })
}

/// Where and how a plugin sends its numbers, if it sends any.
///
/// # Errors
/// As [`make`].
pub fn statsd(
    spec: &'static PluginSpec,
    settings: &BTreeMap<String, String>,
) -> Result<Option<statsd::Target>, BadSetting> {
    if !spec.statsd {
        return Ok(None);
    }
    let settings = Settings::new(spec, settings)?;
    let application = match settings.text("application_name") {
        "" if matches!(spec.name, "redis_observer" | "http_observer") => spec.name,
        "" => "app",
        given => given,
    };
    Ok(Some(statsd::Target {
        host: settings.text("host").to_owned(),
        port: settings.port("port"),
        prefix: format!("circus.{application}.watcher"),
        sample_rate: settings.number("sample_rate"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plugin_keys::PLUGINS;

    #[test]
    fn every_plugin_of_the_table_can_be_made() {
        let around = Surroundings {
            check_delay: 5.0,
            now: 0.0,
        };
        for spec in PLUGINS {
            let mut settings = BTreeMap::from([("watcher".to_owned(), "web".to_owned())]);
            assert!(make(spec, &settings, around).is_ok(), "{}", spec.name);
            assert!(statsd(spec, &settings).is_ok_and(|target| target.is_some() == spec.statsd));
            settings.insert("active".to_owned(), "no".to_owned());
            assert!(make(spec, &settings, around).is_err(), "{}", spec.name);
        }
    }
}
