//! When it is worth staying awake for what comes next. Pure.
//!
//! A process that sleeps has to be woken: tens of microseconds in a virtual machine, several times what a short request
//! takes. A client that sends one request after the other, from near by, pays that for each. So the front stays awake for
//! a moment if its last requests came one by one, each hard upon the answer before; if nothing comes in that moment, it
//! sleeps, and such a client has to be seen again first. With many clients there is enough to do without it.

use std::time::{Duration, Instant};

/// As long as this after the last thing that happened.
const MOMENT: Duration = Duration::from_micros(100);
/// When so many requests in a row came like that.
const MANY: u32 = 32;

/// What the last requests were like.
#[derive(Debug, Default)]
pub struct Awake {
    /// When the last request came or was answered.
    last: Option<Instant>,
    /// Requests in a row that came one by one.
    row: u32,
}

impl Awake {
    /// A request comes; `alone`: no other is under way.
    pub fn comes(&mut self, alone: bool) {
        if alone {
            self.comes_alone(Instant::now());
        } else {
            self.row = 0;
        }
    }

    fn comes_alone(&mut self, now: Instant) {
        self.row = match self.last {
            Some(last) if now.duration_since(last) < MOMENT => self.row.saturating_add(1),
            _ => 0,
        };
        self.last = Some(now);
    }

    /// The last request that was under way is answered.
    pub fn answered(&mut self) {
        self.last = Some(Instant::now());
    }

    /// True if it is worth staying awake now.
    pub fn stay(&mut self) -> bool {
        self.row >= MANY && self.stay_at(Instant::now())
    }

    fn stay_at(&mut self, now: Instant) -> bool {
        let stay = self
            .last
            .is_some_and(|last| now.duration_since(last) < MOMENT);
        if !stay {
            self.row = 0;
        }
        stay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_micros(40);

    /// So many requests, each as long after the answer before; when the last was answered.
    fn served(awake: &mut Awake, count: u32, pause: Duration) -> Instant {
        let mut now = Instant::now();
        for _ in 0..count {
            now += pause;
            awake.comes_alone(now);
            now += SOON;
            awake.last = Some(now);
        }
        now
    }

    #[test]
    fn one_client_that_is_quick_keeps_it_awake_for_a_moment() {
        let mut awake = Awake::default();
        let now = served(&mut awake, MANY, SOON);
        assert!(!awake.stay());
        let now = now + SOON;
        awake.comes_alone(now);
        assert!(awake.stay_at(now + SOON) && awake.row >= MANY);
        assert!(!awake.stay_at(now + MOMENT));
        // it has to be seen again
        assert!(!awake.stay());
    }

    #[test]
    fn neither_a_slow_client_nor_many_do() {
        let mut awake = Awake::default();
        served(&mut awake, 10 * MANY, MOMENT);
        assert_eq!(awake.row, 0);
        served(&mut awake, 2 * MANY, SOON);
        awake.comes(false);
        assert_eq!(awake.row, 0);
    }
}
