//! The queue of records, and the thread that empties it.

use super::format::Writer;
use super::record::Record;
use super::sink::Sink;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::Level;

/// Records that may wait for the log thread.
const QUEUE: usize = 1024;
/// Records that are written at once.
const BATCH: usize = 256;
/// How long the end of the daemon may wait for its last lines.
const LAST_WORDS: Duration = Duration::from_secs(2);

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

enum Message {
    Record(Box<Record>),
    /// Look at what is [`Shared`].
    Look,
    Flush(SyncSender<()>),
}

/// What must not be lost when the queue is full.
#[derive(Default)]
struct Shared {
    dropped: AtomicU64,
    reopen: AtomicBool,
    replacement: Mutex<Option<Vec<Sink>>>,
}

/// The sending end of the queue.
#[derive(Clone)]
pub struct Queue {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
}

impl Queue {
    /// Queues a record, or counts it.
    pub fn put(&self, record: Record) {
        let message = Message::Record(Box::new(record));
        if self.sender.try_send(message).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// See [`super::Control::reopen`].
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.look();
    }

    /// See [`super::Control::replace`].
    pub fn replace(&self, sinks: Vec<Sink>) {
        let mut place = self.shared.replacement();
        *place = Some(sinks);
        drop(place);
        self.look();
    }

    /// Wakes the thread; when the queue is full it is awake, and looks before it takes from it.
    fn look(&self) {
        let _ = self.sender.try_send(Message::Look);
    }
}

impl Shared {
    fn replacement(&self) -> std::sync::MutexGuard<'_, Option<Vec<Sink>>> {
        // held for an assignment only, which does not panic
        self.replacement
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread that writes to these.
///
/// # Errors
/// There can be no more threads.
pub fn start(sinks: Vec<Sink>) -> io::Result<(Queue, LogGuard)> {
    let (sender, receiver) = sync_channel(QUEUE);
    let queue = Queue {
        sender: sender.clone(),
        shared: Arc::default(),
    };
    let shared = Arc::clone(&queue.shared);
    let writer = Writer::here();
    std::thread::Builder::new()
        .name("log".into())
        .stack_size(1024 * 1024)
        .spawn(move || write_records(&receiver, &shared, sinks, &writer))?;
    Ok((queue, LogGuard { sender }))
}

fn write_records(
    receiver: &Receiver<Message>,
    shared: &Shared,
    mut sinks: Vec<Sink>,
    writer: &Writer,
) {
    while let Ok(first) = receiver.recv() {
        let mut records = Vec::new();
        let mut flushed = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Record(record) => records.push(*record),
                Message::Look => break, // what came before it goes where it was to go
                Message::Flush(done) => flushed.push(done),
            }
            next = match records.len() < BATCH {
                true => receiver.try_recv().ok(),
                false => None,
            };
        }
        let missing = shared.dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let text = format!("{missing} log lines dropped: the log was not written fast enough");
            let mut record = Record::new(Level::WARN, text);
            record.fields.insert("dropped".into(), missing.into());
            records.push(record);
        }
        for sink in &mut sinks {
            sink.write(&records, writer);
        }
        if shared.reopen.swap(false, Ordering::Acquire) {
            sinks.iter_mut().for_each(Sink::reopen);
        }
        if let Some(others) = shared.replacement().take() {
            sinks = others;
        }
        for done in flushed {
            let _ = done.try_send(()); // the waiter may have given up
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Format, Output, sink::Destination};
    use super::*;
    use std::io::{BufRead, BufReader};
    use tracing_subscriber::filter::LevelFilter;

    /// Nobody reads the pipe the log goes to.
    #[test]
    fn a_stuck_sink_drops_lines_and_says_how_many() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // open at both ends, so that opening waits for nobody
        let pipe = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let sink = Sink::open(Destination {
            level: LevelFilter::INFO,
            ..Destination::plain(Output::File(path), Format::Text)
        })
        .unwrap();
        let (queue, guard) = start(vec![sink]).unwrap();
        // Never blocks, although nothing is read: the queue is finite, so lines must drop.
        let mut put = 0;
        while queue.shared.dropped.load(Ordering::Relaxed) < 10 {
            queue.put(Record::new(Level::INFO, "x".repeat(100)));
            put += 1;
        }
        // all that were not dropped, and the line that says how many were
        let lines = BufReader::new(pipe).lines().take(put - 10 + 1);
        let told: Vec<String> = lines
            .filter_map(|line| Some(line.unwrap().split_once("[WARNING] ")?.1.to_string()))
            .collect();
        drop(guard);
        assert_eq!(
            told,
            ["10 log lines dropped: the log was not written fast enough"]
        );
    }
}
