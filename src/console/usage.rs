//! How much of a processor a process has used since the last look. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Two looks within this time share their answer: with several viewers there are more looks than news.
const SHORTEST: Duration = Duration::from_millis(400);
/// Processes that nobody has looked at for so long are forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// A process for ever: pids are used again.
type Identity = (i64, u64);

#[derive(Debug, Clone, Copy)]
struct Look {
    used: f64,
    when: Instant,
    percent: f64,
}

/// What was seen of processes.
#[derive(Debug, Default)]
pub struct Looks(HashMap<Identity, Look>);

impl Looks {
    /// Per cent of one processor since the last look, at the first one since the process has started, `age` seconds ago.
    /// `started` tells processes with the same pid apart, `used` is the processor time so far, in seconds.
    pub fn percent(&mut self, pid: i64, started: f64, used: f64, age: f64, now: Instant) -> f64 {
        let identity = (pid, started.to_bits());
        let before = self.0.get(&identity).copied();
        let (used_since, seconds) = match before {
            Some(look) => {
                let since = now.saturating_duration_since(look.when);
                if since < SHORTEST {
                    return look.percent;
                }
                (used - look.used, since.as_secs_f64())
            }
            None => (used, age),
        };
        let percent = if seconds > 0.0 {
            (used_since.max(0.0) / seconds * 1000.0).round() / 10.0
        } else {
            0.0
        };
        let look = Look {
            used,
            when: now,
            percent,
        };
        self.0.insert(identity, look);
        percent
    }

    /// Lets go of processes that are not looked at any more.
    pub fn forget_old(&mut self, now: Instant) {
        self.0
            .retain(|_, look| now.saturating_duration_since(look.when) < FORGET);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_since_the_last_look() {
        let mut looks = Looks::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(looks.percent(7, 1.0, 5.0, 10.0, at(0)), 50.0);
        assert_eq!(looks.percent(7, 1.0, 5.2, 10.1, at(100)), 50.0);
        assert_eq!(looks.percent(7, 1.0, 5.5, 11.0, at(1000)), 50.0);
        assert_eq!(looks.percent(7, 1.0, 5.5, 12.0, at(2000)), 0.0);
        // another process
        assert_eq!(looks.percent(7, 13.0, 0.25, 1.0, at(2100)), 25.0);
        assert_eq!(looks.percent(8, 13.0, 1.0, 0.0, at(2100)), 0.0);
        looks.forget_old(at(100_000));
        assert!(looks.0.is_empty());
    }
}
