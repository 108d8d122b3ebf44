//! Small when nothing happens: what the last burst of work needed, and nobody needs now, is given back.

use super::spawn::give_back;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// When the first workers are up, usually.
const START: Duration = Duration::from_secs(1);
/// Work is over when nothing has happened for so long.
const QUIET: Duration = Duration::from_millis(500);

/// Gives memory back: once after the start, and once after each burst of work (workers that come and go, requests of
/// clients). It is a task of its own, so that nothing else runs, and needs its code again, before the daemon sleeps. A daemon
/// at rest wakes up for nothing.
pub(super) struct Rest {
    work: Arc<Work>,
    task: AbortHandle,
}

struct Work {
    /// When something happened last, in milliseconds since `clock`.
    last: AtomicU64,
    clock: Instant,
    /// Nothing has happened since memory was given back.
    resting: AtomicBool,
    /// Something happens again.
    begun: Notify,
}

impl Rest {
    /// The daemon starts. To be called in its event loop.
    pub fn new() -> Rest {
        let work = Arc::new(Work {
            last: AtomicU64::new(0),
            clock: Instant::now(),
            resting: AtomicBool::new(false),
            begun: Notify::new(),
        });
        let task = tokio::spawn(watch(work.clone(), START, QUIET, give_back)).abort_handle();
        Rest { work, task }
    }

    /// Something happened.
    pub fn disturb(&self) {
        self.work.disturb();
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Work {
    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn disturb(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
        if self.resting.swap(false, Ordering::Relaxed) {
            self.begun.notify_one();
        }
    }

    /// How long it is still too early.
    fn early(&self, quiet: Duration) -> Option<Duration> {
        let since =
            Duration::from_millis(self.now().saturating_sub(self.last.load(Ordering::Relaxed)));
        quiet.checked_sub(since).filter(|early| !early.is_zero())
    }
}

async fn watch(work: Arc<Work>, start: Duration, quiet: Duration, give_back: impl Fn()) {
    // however much happens, what only the start needed goes
    tokio::time::sleep(start).await;
    loop {
        work.resting.store(true, Ordering::Relaxed);
        give_back();
        work.begun.notified().await;
        while let Some(early) = work.early(quiet) {
            tokio::time::sleep(early).await;
        }
    }
}

/// The ranges of a program's machine code, and of the read-only segment at the beginning of its file, in the text of
/// `/proc/PID/maps`. Read-only ranges behind the code are left out: the loader wrote addresses into them before it took the
/// right to write away.
pub(super) fn code_of(maps: &str, program: &str) -> Vec<Range<usize>> {
    let address = |text: &str| usize::from_str_radix(text, 16).ok();
    maps.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (start, end) = words.next()?.split_once('-')?;
            let (rights, offset) = (words.next()?, words.next()?);
            let path = words.nth(2)?;
            let is_code = rights == "r-xp" || rights == "r--p" && address(offset) == Some(0);
            (is_code && path == program).then_some(address(start)?..address(end)?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_ever_wrote_to_is_given_back() {
        let maps = "\
7f0000000000-7f0000196000 r--p 00000000 fe:00 42                         /bin/circ
7f0000196000-7f000069c000 r-xp 00195000 fe:00 42                         /bin/circ
7f000069c000-7f00006d3000 r--p 0069a000 fe:00 42                         /bin/circ
7f00006d4000-7f00006d8000 rw-p 006d1000 fe:00 42                         /bin/circ
7f00006d8000-7f00006df000 rw-p 00000000 00:00 0                          [heap]
7f0000700000-7f0000701000 r-xp 00000000 00:00 0                          [vdso]
7f0000800000-7f0000801000 r-xp 00001000 fe:00 43                         /lib/other.so
";
        assert_eq!(
            code_of(maps, "/bin/circ"),
            [
                0x7f00_0000_0000..0x7f00_0019_6000,
                0x7f00_0019_6000..0x7f00_0069_c000
            ]
        );
        // And this program goes on afterwards.
        give_back();
        assert!(code_of(maps, "/bin/none").is_empty());
    }

    #[tokio::test]
    async fn it_happens_after_the_start_and_after_each_burst_of_work() {
        let work = Arc::new(Work {
            last: AtomicU64::new(0),
            clock: Instant::now(),
            resting: AtomicBool::new(false),
            begun: Notify::new(),
        });
        let (told, mut times) = tokio::sync::mpsc::unbounded_channel();
        let quiet = Duration::from_millis(20);
        let (own, clock) = (work.clone(), work.clone());
        let task = tokio::spawn(watch(own, quiet, quiet, move || {
            let _ = told.send(clock.now());
        }));
        assert!(times.recv().await.unwrap() >= 20);
        for _ in 0..3 {
            for _ in 0..5 {
                work.disturb();
            }
            let last = work.last.load(Ordering::Relaxed);
            assert!(times.recv().await.unwrap() >= last + 20);
        }
        // nobody wakes it up
        tokio::task::yield_now().await;
        assert!(work.resting.load(Ordering::Relaxed) && times.is_empty());
        task.abort();
    }
}
