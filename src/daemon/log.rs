//! The daemon's log: Circus's lines, written by a thread of their own.
//!
//! Whoever logs only puts a line into a bounded queue. If the disk hangs or nobody reads the pipe the
//! log goes to, supervision goes on: lines that find the queue full are counted, and the count is
//! logged when there is room again. An idle daemon has an idle log thread.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

/// Lines that may wait for the log thread.
const QUEUE: usize = 1024;
/// How long the end of the daemon may wait for its last lines.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Standard error: what Circus's `-` and `stdout` really mean.
    Stderr,
    /// A file that is appended to, and opened again when it has been moved or removed.
    File(PathBuf),
}

impl Output {
    /// The value of `--log-output` and of the option `logoutput`.
    ///
    /// # Errors
    /// `syslog://`, which circusd knows and circ does not have yet.
    pub fn parse(text: &str) -> Result<Output, String> {
        match text {
            "-" | "stdout" => Ok(Output::Stderr),
            url if url.starts_with("syslog://") => Err(format!(
                "cannot log to {url}: syslog is not supported yet; give a file or -"
            )),
            path => Ok(Output::File(PathBuf::from(path))),
        }
    }
}

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

/// Changes the level of a running log.
pub struct Levels(Box<dyn Fn(LevelFilter)>);

impl Levels {
    /// From now on only this level and what is worse is logged.
    pub fn set(&self, level: LevelFilter) {
        (self.0)(level);
    }
}

/// Starts logging for the whole process. Keep the guard it returns: dropping it writes the last lines.
///
/// # Errors
/// The file cannot be opened, the thread cannot be started, or logging has been started before.
pub fn start(level: LevelFilter, output: &Output) -> io::Result<(LogGuard, Levels)> {
    let sink: Box<dyn Write + Send> = match output {
        Output::Stderr => Box::new(io::stderr()),
        Output::File(path) => Box::new(WatchedFile::open(path.clone()).map_err(|error| {
            let text = format!("cannot open log file {}: {error}", path.display());
            io::Error::new(error.kind(), text)
        })?),
    };
    let (queue, guard) = start_thread(sink)?;
    let (subscriber, levels) = subscriber(level, queue);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_| io::Error::other("the log has already been started"))?;
    Ok((guard, levels))
}

/// The end of the log: on drop, waits (a limited time) until everything logged so far is written.
#[derive(Debug)]
pub struct LogGuard {
    sender: SyncSender<Message>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let (done, wait) = sync_channel(1);
        let deadline = Instant::now() + LAST_WORDS;
        let mut message = Message::Flush(done);
        loop {
            match self.sender.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => message = back,
                Err(_) => return,
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let _: Result<(), RecvTimeoutError> = wait.recv_timeout(left); // nothing more can be done
    }
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The sending end of the queue.
#[derive(Debug, Clone)]
struct Queue {
    sender: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Message::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Queue;

    fn make_writer(&'a self) -> Queue {
        self.clone()
    }
}

fn start_thread(sink: Box<dyn Write + Send>) -> io::Result<(Queue, LogGuard)> {
    let (sender, receiver) = sync_channel(QUEUE);
    let queue = Queue {
        sender: sender.clone(),
        dropped: Arc::default(),
    };
    let dropped = Arc::clone(&queue.dropped);
    std::thread::Builder::new()
        .name("log".into())
        .stack_size(128 * 1024)
        .spawn(move || write_lines(&receiver, &dropped, sink))?;
    Ok((queue, LogGuard { sender }))
}

/// The log thread. A sink that fails loses the line: there is no better place to say so.
fn write_lines(receiver: &Receiver<Message>, dropped: &AtomicU64, mut sink: Box<dyn Write + Send>) {
    while let Ok(first) = receiver.recv() {
        let mut text = Vec::new();
        let mut flushed = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => text.extend_from_slice(&line),
                Message::Flush(done) => flushed.push(done),
            }
            next = match text.len() < 64 * 1024 {
                true => receiver.try_recv().ok(),
                false => None,
            };
        }
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let line = format!(
                "circus[{}] [WARNING] {missing} log lines dropped: the log was not written fast enough\n",
                std::process::id()
            );
            text.extend_from_slice(line.as_bytes());
        }
        let _ = sink.write_all(&text).and_then(|()| sink.flush());
        for done in flushed {
            let _ = done.try_send(()); // the waiter may have given up
        }
    }
}

fn subscriber(level: LevelFilter, queue: Queue) -> (impl Subscriber + Send + Sync, Levels) {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(queue)
        .with_ansi(false)
        .event_format(CircusFormat {
            zone: jiff::tz::TimeZone::system(),
        });
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    let levels = Levels(Box::new(move |level| {
        // fails only when there is no log any more
        let _ = handle.reload(level);
    }));
    (subscriber, levels)
}

/// `2026-01-02 03:04:05 circus[123] [INFO] message`, in local time.
struct CircusFormat {
    zone: jiff::tz::TimeZone,
}

impl<S, N> FormatEvent<S, N> for CircusFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let now = jiff::Timestamp::now().to_zoned(self.zone.clone());
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        };
        let pid = std::process::id();
        let time = now.strftime("%Y-%m-%d %H:%M:%S");
        write!(writer, "{time} circus[{pid}] [{level}] ")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Python's `WatchedFileHandler`: looks before each write whether the path still leads to the file.
struct WatchedFile {
    path: PathBuf,
    file: File,
}

impl WatchedFile {
    fn open(path: PathBuf) -> io::Result<WatchedFile> {
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        Ok(WatchedFile { path, file })
    }

    fn is_current(&self) -> bool {
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }
}

impl Write for WatchedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_current()
            && let Ok(again) = WatchedFile::open(self.path.clone())
        {
            // If it cannot be opened (the directory is gone), the old file still takes the lines.
            *self = again;
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    fn log_to(path: &std::path::Path, body: impl FnOnce()) -> LogGuard {
        let sink = WatchedFile::open(path.to_owned()).unwrap();
        let (queue, guard) = start_thread(Box::new(sink)).unwrap();
        tracing::subscriber::with_default(subscriber(LevelFilter::INFO, queue).0, body);
        guard
    }

    #[test]
    fn lines_look_like_circus_and_respect_the_level() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let guard = log_to(&path, || {
            tracing::info!("web started");
            tracing::warn!(pid = 7, "odd");
            tracing::debug!("hidden");
        });
        drop(guard);
        let text = std::fs::read_to_string(&path).unwrap();
        let line = regex::Regex::new(
            r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d circus\[\d+\] \[(INFO|WARNING)\] (web started|odd pid=7)$",
        )
        .unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.lines().all(|found| line.is_match(found)), "{text}");
    }

    #[test]
    fn the_level_can_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let sink = WatchedFile::open(path.clone()).unwrap();
        let (queue, guard) = start_thread(Box::new(sink)).unwrap();
        let (subscriber, levels) = subscriber(LevelFilter::WARN, queue);
        tracing::subscriber::with_default(subscriber, || {
            for (level, text) in [
                (None, "one"),
                (Some("debug"), "two"),
                (Some("error"), "three"),
            ] {
                if let Some(level) = level {
                    levels.set(parse_level(level).unwrap());
                }
                tracing::debug!("{text}");
                tracing::error!("{text}");
            }
        });
        drop(guard);
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
    fn a_moved_file_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old) = (directory.path().join("log"), directory.path().join("log.1"));
        let mut file = WatchedFile::open(path.clone()).unwrap();
        file.write_all(b"one\n").unwrap();
        std::fs::rename(&path, &old).unwrap();
        file.write_all(b"two\n").unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"three\n").unwrap();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }

    /// A sink that blocks until it is told to go on, as a pipe that nobody reads.
    struct Stuck {
        go_on: Receiver<()>,
        written: std::sync::mpsc::Sender<Vec<u8>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go_on.recv();
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_sink_drops_lines_and_says_how_many() {
        let (go, go_on) = channel();
        let (written, seen) = channel();
        let (queue, guard) = start_thread(Box::new(Stuck { go_on, written })).unwrap();
        let dropped = Arc::clone(&queue.dropped);
        tracing::subscriber::with_default(subscriber(LevelFilter::INFO, queue).0, || {
            // Never blocks, although nothing is written: the queue is finite, so lines must drop.
            while dropped.load(Ordering::Relaxed) < 10 {
                tracing::info!("x");
            }
        });
        drop(go); // the sink now takes everything
        drop(guard);
        let text: Vec<u8> = seen.try_iter().flatten().collect();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("10 log lines dropped"), "{text}");
    }

    #[test]
    fn options_are_parsed_as_circusd_does() {
        assert_eq!(parse_level("WARNING"), Some(LevelFilter::WARN));
        assert_eq!(parse_level("debug"), Some(LevelFilter::DEBUG));
        assert_eq!(parse_level("loud"), None);
        assert_eq!(Output::parse("stdout"), Ok(Output::Stderr));
        assert_eq!(Output::parse("x.log"), Ok(Output::File("x.log".into())));
        assert!(Output::parse("syslog:///dev/log").is_err());
    }
}
