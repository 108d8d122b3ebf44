//! Slows down who tries passwords: after three wrong ones each client waits, twice as long each time. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Wrong passwords that cost nothing.
const FREE: u32 = 3;
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// After this time without another guess a client begins anew.
const FORGET: Duration = Duration::from_secs(15 * 60);
/// Clients that are remembered.
const CLIENTS: usize = 1024;

/// Who has guessed how often; `None` is a client without an address.
#[derive(Debug, Default)]
pub struct Guesses(HashMap<Option<IpAddr>, (u32, Instant)>);

impl Guesses {
    /// Counts a guess, which [`Guesses::right`] takes back. If it is too early for another one: how long it is to be waited.
    pub fn guess(&mut self, client: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        self.0
            .retain(|_, (_, last)| now.saturating_duration_since(*last) < FORGET);
        if let Some((count, last)) = self.0.get(&client) {
            let since = now.saturating_duration_since(*last);
            let wait = pause(*count).saturating_sub(since);
            if !wait.is_zero() {
                return Err(wait);
            }
        } else if self.0.len() >= CLIENTS {
            let oldest = self.0.iter().min_by_key(|(_, (_, last))| *last);
            if let Some(oldest) = oldest.map(|(client, _)| *client) {
                self.0.remove(&oldest);
            }
        }
        let entry = self.0.entry(client).or_insert((0, now));
        *entry = (entry.0.saturating_add(1), now);
        Ok(())
    }

    /// The last guess was right.
    pub fn right(&mut self, client: Option<IpAddr>) {
        self.0.remove(&client);
    }
}

fn pause(count: u32) -> Duration {
    match count.checked_sub(FREE) {
        None => Duration::ZERO,
        Some(more) => Duration::from_secs(1u64 << more.min(10)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_guesses_waits_longer_and_longer() {
        let mut guesses = Guesses::default();
        let (client, start) = (Some(IpAddr::from([10, 0, 0, 1])), Instant::now());
        for _ in 0..3 {
            assert_eq!(guesses.guess(client, start), Ok(()));
        }
        assert_eq!(guesses.guess(client, start), Err(Duration::from_secs(1)));
        assert_eq!(guesses.guess(None, start), Ok(()));
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..8 {
            if let Err(wait) = guesses.guess(client, now) {
                waits.push(wait.as_secs());
                now += wait;
                assert_eq!(guesses.guess(client, now), Ok(()));
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        guesses.right(client);
        assert_eq!(guesses.guess(client, now), Ok(()));
        for last in 0..5000u32 {
            let _ = guesses.guess(Some(IpAddr::from(last.to_be_bytes())), now);
        }
        assert!(guesses.0.len() <= CLIENTS);
    }
}
