//! The daemon's log, written by a thread of its own.
//!
//! Whoever logs only puts a record into a bounded queue. If the disk hangs or nobody reads the pipe the
//! log goes to, supervision goes on: records that find the queue full are counted, and the count is
//! logged when there is room again. An idle daemon has an idle log thread.

mod format;
mod output;
mod pattern;
mod python;
mod record;
mod sink;
mod syslog;
mod thread;

pub use format::Format;
pub use output::Output;
pub use sink::Destination;
pub use thread::LogGuard;

use record::Record;
use sink::Sink;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use thread::Queue;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// The level that a `--log-level` names: debug, info, warning, error or critical, in any case.
pub fn parse_level(text: &str) -> Option<LevelFilter> {
    Some(match text.to_ascii_lowercase().as_str() {
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warning" => LevelFilter::WARN,
        "error" => LevelFilter::ERROR,
        // Nothing in Circus or here is logged as critical.
        "critical" => LevelFilter::OFF,
        _ => return None,
    })
}

/// The level that the option `loglevel` asks for; info if it is not set.
///
/// # Errors
/// There is no such level.
pub fn level_of(text: Option<&str>) -> Result<LevelFilter, String> {
    let text = text.unwrap_or("info");
    parse_level(text).ok_or_else(|| {
        format!("log level '{text}' is not known; use debug, info, warning, error or critical")
    })
}

/// What is said of the log, on the command line or in `[circus]`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// `--log-level`, `loglevel`.
    pub level: Option<&'a str>,
    /// `--log-output`, `logoutput`.
    pub output: Option<&'a str>,
    /// `--log-format`, `log_format`.
    pub format: Option<&'a str>,
    /// `--logger-config`, `loggerconfig`.
    pub config: Option<&'a str>,
}

/// What is logged, and where and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// The least level of anything.
    pub level: LevelFilter,
    /// A `loggerconfig` says so: `loglevel` has no say.
    pub fixed: bool,
    /// The places it goes to.
    pub destinations: Vec<Destination>,
    /// What of the wish has no effect, in sentences.
    pub warnings: Vec<String>,
}

impl Setup {
    /// What these wishes come to. Reads the `loggerconfig`: may wait for a disk.
    ///
    /// # Errors
    /// What in them cannot be.
    pub fn of(wish: Wish<'_>) -> Result<Setup, String> {
        let default = |file: &&str| file.trim().eq_ignore_ascii_case("default");
        if let Some(file) = wish.config.filter(|file| !default(file)) {
            let named = |why: &str| format!("loggerconfig {file}: {why}");
            let text = std::fs::read_to_string(file).map_err(|why| named(&why.to_string()))?;
            let mut setup = python::read(file, &text).map_err(|why| named(&why))?;
            setup
                .warnings
                .iter_mut()
                .for_each(|text| *text = named(text));
            return Ok(setup);
        }
        let level = level_of(wish.level)?;
        let (output, warning) = Output::parse(wish.output.unwrap_or("-"))?;
        let format = Format::parse(wish.format.unwrap_or("text"))?;
        Ok(Setup {
            level,
            fixed: false,
            destinations: vec![Destination::plain(output, format)],
            warnings: warning.into_iter().collect(),
        })
    }

    /// Opens the places. May wait for a disk: not for the supervision thread.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(self) -> io::Result<Opened> {
        let sinks = self.destinations.into_iter().map(Sink::open);
        Ok(Opened {
            level: self.level,
            fixed: self.fixed,
            sinks: sinks.collect::<io::Result<_>>()?,
        })
    }
}

/// A log that is ready to be written.
pub struct Opened {
    level: LevelFilter,
    fixed: bool,
    sinks: Vec<Sink>,
}

/// Directs a running log. Nothing in here waits for anything.
pub struct Control {
    level: Box<dyn Fn(LevelFilter) + Send + Sync>,
    /// A `loggerconfig` says the level.
    fixed: AtomicBool,
    queue: Queue,
}

impl Control {
    /// From now on only this level and what is worse is logged; unless a `loggerconfig` says what is.
    pub fn set(&self, level: LevelFilter) {
        if !self.fixed.load(Ordering::Relaxed) {
            (self.level)(level);
        }
    }

    /// Opens its files again: for whoever has moved them and wants the new ones to be there.
    pub fn reopen(&self) {
        self.queue.reopen();
    }

    /// From now on the log goes where `opened` says.
    pub fn replace(&self, opened: Opened) {
        (self.level)(opened.level);
        self.fixed.store(opened.fixed, Ordering::Relaxed);
        self.queue.replace(opened.sinks);
    }
}

/// Starts logging for the whole process. Keep the guard it returns: dropping it writes the last lines.
///
/// # Errors
/// A file cannot be opened, the thread cannot be started, or logging has been started before.
pub fn start(setup: Setup) -> io::Result<(LogGuard, Control)> {
    let warnings = setup.warnings.clone();
    let opened = setup.open()?;
    let (queue, guard) = thread::start(opened.sinks)?;
    let (subscriber, control) = subscriber(opened.level, queue);
    control.fixed.store(opened.fixed, Ordering::Relaxed);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_| io::Error::other("the log has already been started"))?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok((guard, control))
}

/// Makes records of what is logged, and queues them.
struct ToQueue(Queue);

impl<S: Subscriber> Layer<S> for ToQueue {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.put(Record::of(event));
    }
}

fn subscriber(level: LevelFilter, queue: Queue) -> (impl Subscriber + Send + Sync, Control) {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(level);
    let subscriber = tracing_subscriber::registry()
        .with(filter)
        .with(ToQueue(queue.clone()));
    let level = Box::new(move |level| {
        // fails only when there is no log any more
        let _ = handle.reload(level);
    });
    let control = Control {
        level,
        fixed: AtomicBool::new(false),
        queue,
    };
    (subscriber, control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn setup(level: &str, path: &Path) -> Setup {
        Setup::of(Wish {
            level: Some(level),
            output: path.to_str(),
            ..Wish::default()
        })
        .unwrap()
    }

    /// Logs what `body` logs, with the control in its hand.
    fn log_to(setup: Setup, body: impl FnOnce(&Control)) {
        let opened = setup.open().unwrap();
        let (queue, guard) = thread::start(opened.sinks).unwrap();
        let (subscriber, control) = subscriber(opened.level, queue);
        tracing::subscriber::with_default(subscriber, || body(&control));
        drop(guard);
    }

    #[test]
    fn lines_look_like_circus_and_respect_the_level() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        log_to(setup("info", &path), |_| {
            tracing::info!("web started");
            tracing::warn!(pid = 7, "odd");
            tracing::debug!("hidden");
        });
        let text = std::fs::read_to_string(&path).unwrap();
        let line = regex::Regex::new(
            r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d circus\[\d+\] \[(INFO|WARNING)\] (web started|odd)$",
        )
        .unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.lines().all(|found| line.is_match(found)), "{text}");
    }

    #[test]
    fn fields_are_for_programs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut setup = setup("info", &path);
        setup.destinations[0].format = Format::Json;
        log_to(setup, |_| {
            let (watcher, nobody) = ("web", None::<i32>);
            tracing::warn!(
                watcher,
                pid = 7,
                code = nobody,
                ok = true,
                share = 0.5,
                "odd {}",
                1
            );
        });
        let text = std::fs::read_to_string(&path).unwrap();
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        let told = |key: &str| object[key].to_string();
        assert_eq!(told("message"), "\"odd 1\"");
        assert_eq!(told("watcher"), "\"web\"");
        assert_eq!(told("pid"), "7");
        assert_eq!(told("ok"), "true");
        assert_eq!(told("share"), "0.5");
        assert_eq!(object.get("code"), None, "{object}");
    }

    #[test]
    fn the_level_can_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        log_to(setup("warning", &path), |control| {
            for (level, text) in [
                (None, "one"),
                (Some("debug"), "two"),
                (Some("error"), "three"),
            ] {
                if let Some(level) = level {
                    control.set(parse_level(level).unwrap());
                }
                tracing::debug!("{text}");
                tracing::error!("{text}");
            }
        });
        let text = std::fs::read_to_string(&path).unwrap();
        let told: Vec<&str> = text
            .lines()
            .filter_map(|l| l.split_once("] ["))
            .map(|l| l.1)
            .collect();
        assert_eq!(
            told,
            ["ERROR] one", "DEBUG] two", "ERROR] two", "ERROR] three"]
        );
    }

    #[test]
    fn the_log_can_go_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        log_to(setup("info", &one), |control| {
            tracing::info!("first");
            control.replace(setup("error", &two).open().unwrap());
            tracing::info!("not this");
            tracing::error!("second");
        });
        let text = |path| std::fs::read_to_string(path).unwrap();
        assert!(text(&one).ends_with("[INFO] first\n"), "{}", text(&one));
        assert!(text(&two).ends_with("[ERROR] second\n"), "{}", text(&two));
        assert_eq!(text(&two).lines().count(), 1);
    }

    #[test]
    fn options_are_parsed_as_circusd_does() {
        assert_eq!(parse_level("WARNING"), Some(LevelFilter::WARN));
        assert_eq!(parse_level("debug"), Some(LevelFilter::DEBUG));
        assert_eq!(parse_level("loud"), None);
        let wish = |output| Wish {
            output: Some(output),
            ..Wish::default()
        };
        assert!(Setup::of(wish("syslog://")).is_err());
        let warned = Setup::of(wish("syslog:///dev/log?nothing")).unwrap();
        assert_eq!(warned.warnings.len(), 1);
    }
}
