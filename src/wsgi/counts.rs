//! What a front counts about itself; see [`crate::stats::front`] for who reads it, and how.

use super::pool::Pool;
use crate::stats::front;
use http::StatusCode;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The numbers are written at most this often, and only when they have changed.
const PAUSE: Duration = Duration::from_millis(200);

/// Upper bounds of the times that are counted, in microseconds, and as they are written.
const BOUNDS: [(u64, &str); 13] = [
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
];

/// The numbers.
#[derive(Debug, Default)]
pub struct Counts {
    classes: [AtomicU64; 5],
    refused: AtomicU64,
    times: [AtomicU64; BOUNDS.len()],
    time: AtomicU64,
    connections: AtomicU64,
    open: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    serial: AtomicU64,
    /// They have changed, and will be written.
    due: AtomicBool,
}

impl Counts {
    /// A request was answered, so long after its head had come.
    pub fn answered(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.classes[class].fetch_add(1, Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.time.fetch_add(micros, Relaxed);
        if let Some(bucket) = BOUNDS.iter().position(|(most, _)| micros <= *most) {
            self.times[bucket].fetch_add(1, Relaxed);
        }
    }

    /// A connection was closed because of what came.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// A connection was accepted.
    pub fn opened(&self) {
        self.connections.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
    }

    /// A connection has ended.
    pub fn closed(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    /// Bytes came from a client.
    pub fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Relaxed);
    }

    /// Bytes went to a client.
    pub fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
    }

    fn text(&self, pool: &Pool) -> String {
        let serial = self.serial.fetch_add(1, Relaxed);
        let state = pool.state();
        front::text(serial, |out| self.samples(out, &state))
    }

    fn samples(&self, out: &mut String, state: &State) {
        let of = |number: &AtomicU64| number.load(Relaxed);
        // a String takes everything
        let mut line = |name: &str, value: f64| {
            let _ = writeln!(out, "circ_front_{name} {value}");
        };
        for (at, class) in self.classes.iter().enumerate() {
            let name = format!("requests_total{{class=\"{}xx\"}}", at + 1);
            line(&name, of(class) as f64);
        }
        line("refused_total", of(&self.refused) as f64);
        let mut sum = 0;
        for (count, (_, bound)) in self.times.iter().zip(BOUNDS) {
            sum += of(count);
            let name = format!("request_duration_seconds_bucket{{le=\"{bound}\"}}");
            line(&name, sum as f64);
        }
        let all: u64 = self.classes.iter().map(of).sum();
        let all = all as f64;
        line("request_duration_seconds_bucket{le=\"+Inf\"}", all);
        line("request_duration_seconds_sum", of(&self.time) as f64 / 1e6);
        line("request_duration_seconds_count", all);
        line("requests_in_flight", state.in_flight as f64);
        line("requests_queued", state.queued as f64);
        line("connections", of(&self.open) as f64);
        line("accepted_connections_total", of(&self.connections) as f64);
        line("received_bytes_total", of(&self.received) as f64);
        line("sent_bytes_total", of(&self.sent) as f64);
        line("workers", state.workers as f64);
        line("worker_deaths_total", state.deaths as f64);
        line("python_seconds_total", state.busy as f64 / 1e9);
    }
}

/// How it goes with the workers.
#[derive(Debug, Clone, Copy, Default)]
pub struct State {
    /// Requests that wait or are being handled.
    pub in_flight: usize,
    /// Those that wait.
    pub queued: usize,
    /// Ready processes.
    pub workers: usize,
    /// Processes that have died.
    pub deaths: u64,
    /// Nanoseconds in which applications were at work.
    pub busy: u64,
}

/// The numbers, and the memory file in which they are shown.
#[derive(Debug)]
pub struct Shown {
    /// The numbers.
    pub counts: Arc<Counts>,
    file: Option<File>,
}

impl Shown {
    /// All of them 0. Without a memory file they are not shown.
    pub fn new() -> Shown {
        let file = memfd_create(front::NAME, MemfdFlags::CLOEXEC);
        Shown {
            counts: Arc::default(),
            file: file.ok().map(File::from),
        }
    }

    /// Writes them now; if there is no memory for them, they stay as they were.
    pub fn write(&self, pool: &Pool) {
        if let Some(file) = &self.file
            && let Err(error) = file.write_all_at(self.counts.text(pool).as_bytes(), 0)
        {
            tracing::debug!("cannot show the numbers: {error}");
        }
    }

    /// Something has changed: writes it soon. Costs next to nothing when that is to come anyway.
    pub fn changed(self: &Arc<Shown>, pool: &Arc<Pool>) {
        if self.counts.due.load(Relaxed) || self.counts.due.swap(true, Relaxed) {
            return;
        }
        let (shown, pool) = (self.clone(), pool.clone());
        tokio::spawn(async move {
            tokio::time::sleep(PAUSE).await;
            shown.counts.due.store(false, Relaxed);
            shown.write(&pool);
        });
    }
}

impl Default for Shown {
    fn default() -> Shown {
        Shown::new()
    }
}
