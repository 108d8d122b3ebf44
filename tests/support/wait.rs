//! Waiting for conditions instead of sleeping.

use std::time::{Duration, Instant};

/// How long a test waits for something that should happen at once. Generous, because a test machine may
/// be busy with other things; only a failing test ever waits that long.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// [`DEADLINE`], or what `CIRC_TEST_DEADLINE` says in seconds: who writes a test does not want to wait for its failure.
pub fn deadline() -> Duration {
    let set = std::env::var("CIRC_TEST_DEADLINE")
        .ok()
        .and_then(|s| s.parse().ok());
    set.map_or(DEADLINE, Duration::from_secs)
}

/// Polls `probe` until it gives a value and returns it; after [`DEADLINE`] the test fails, naming `what`.
#[track_caller]
pub fn wait_for<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    match wait_for_within(deadline(), probe) {
        Some(value) => value,
        None => panic!("waited {:?} in vain for: {what}", deadline()),
    }
}

/// Polls `probe` until it gives a value, or gives `None` after `deadline`.
pub fn wait_for_within<T>(deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
