//! Which workers are listened to although they have no stream: those that may be about to say why they die.
//!
//! Workers that run well are not listened to: that costs a pipe, and a worker keeps its pipe until it ends. So only a few of
//! a watcher are heard at a time while they are young; what one says of many that fail alike is enough.

use super::backoff::STABLE_AFTER;
use super::{Time, Wid};
use std::collections::BTreeMap;

/// A worker that fails within this time, in seconds, makes one curious what the next ones say.
const YOUNG: f64 = 10.0;
/// For so long, in seconds: longer than the longest pause between starts.
const CURIOUS_FOR: f64 = 60.0;
/// Workers of a watcher that are young and listened to, at the most.
const MOST: usize = 4;
/// SIGHUP, SIGINT, SIGKILL and SIGTERM: who is ended by one of these was told to by somebody else, and has no reason to give.
const BY_OTHERS: [i32; 4] = [1, 2, 9, 15];

/// Whom one watcher listens to.
#[derive(Debug, Default)]
pub(super) struct Curiosity {
    until: Time,
    /// Until when each of them is young.
    heard: BTreeMap<Wid, Time>,
}

impl Curiosity {
    /// A worker has ended by itself after so many seconds, with this code or by minus this signal.
    pub fn ended(&mut self, now: Time, code: i32, lived: f64) {
        let by_others = code < 0 && BY_OTHERS.contains(&code.saturating_neg());
        if lived < STABLE_AFTER || (code != 0 && !by_others && lived < YOUNG) {
            self.until = now.plus_seconds(CURIOUS_FOR);
        }
    }

    /// True if the worker that is now started in this place is to be listened to; `lives` tells which others there are.
    pub fn listens(&mut self, now: Time, wid: Wid, lives: impl Fn(Wid) -> bool) -> bool {
        self.heard
            .retain(|other, until| *other != wid && *until > now && lives(*other));
        let listens = self.until > now && self.heard.len() < MOST;
        if listens {
            self.heard.insert(wid, now.plus_seconds(YOUNG));
        }
        listens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_000_000_000);

    fn curious(code: i32, lived: f64) -> bool {
        let mut curiosity = Curiosity::default();
        curiosity.ended(NOW, code, lived);
        curiosity.listens(NOW, 1, |_| true)
    }

    #[test]
    fn who_fails_young_makes_curious() {
        assert!(!Curiosity::default().listens(NOW, 1, |_| true));
        assert!(curious(0, 0.5) && curious(-9, 0.5));
        assert!(curious(1, 5.0) && curious(-11, 5.0));
        assert!(!curious(0, 5.0));
        assert!(!curious(1, 50.0));
    }

    #[test]
    fn who_was_killed_by_others_does_not() {
        for signal in BY_OTHERS {
            assert!(!curious(-signal, 2.0), "{signal}");
        }
    }

    #[test]
    fn a_few_are_enough() {
        let mut curiosity = Curiosity::default();
        curiosity.ended(NOW, 1, 0.0);
        let heard = (1..=50).filter(|wid| curiosity.listens(NOW, *wid, |_| true));
        assert_eq!(heard.count(), MOST);
        // one of them has gone: the one after it is heard, and again no other
        assert!(curiosity.listens(NOW, 2, |_| true));
        assert!(!curiosity.listens(NOW, 9, |_| true));
        assert!(curiosity.listens(NOW, 9, |wid| wid != 3));
        // they are not young any more, and there is still reason to listen
        let later = NOW.plus_seconds(YOUNG);
        assert!(curiosity.listens(later, 30, |_| true));
        let much_later = NOW.plus_seconds(CURIOUS_FOR);
        assert!(!curiosity.listens(much_later, 30, |_| true));
    }
}
