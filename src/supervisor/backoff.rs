//! How long to wait before a worker is started again, and the randomness that spreads such moments.

/// A worker that lived this long was no failure, in seconds.
pub const STABLE_AFTER: f64 = 1.0;
/// The longest pause, in seconds.
pub const LONGEST: f64 = 8.0;

/// A small random generator (xorshift64*): the jitter needs no more, and a seed replays a schedule.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator for `seed`.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from 0 (included) to 1 (excluded).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Seconds to wait after a worker has exited young `failures` times in a row: nothing after the first, then a tenth of a
/// second doubling up to [`LONGEST`], with a fifth of jitter.
pub fn after_exit(failures: u32, random: &mut Random) -> f64 {
    if failures <= 1 {
        return 0.0;
    }
    jitter(0.1 * 2f64.powi(failures.min(20) as i32 - 2), random)
}

/// Seconds to wait after a worker could not be started `failures` times in a row. The first pauses are short, so that a
/// watcher with circus's five tries decides within a second.
pub fn after_failed_start(failures: u32, random: &mut Random) -> f64 {
    jitter(0.05 * 2f64.powi(failures.min(20) as i32 - 1), random)
}

fn jitter(seconds: f64, random: &mut Random) -> f64 {
    seconds.min(LONGEST) * (0.8 + 0.4 * random.unit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_capped() {
        let mut random = Random::new(1);
        assert_eq!(after_exit(1, &mut random), 0.0);
        let mut last = 0.0;
        for failures in 2..8 {
            let pause = after_exit(failures, &mut random);
            assert!(pause > last, "{failures}: {pause} after {last}");
            last = pause;
        }
        for failures in [9, 30, u32::MAX] {
            assert!(after_exit(failures, &mut random) <= LONGEST * 1.2);
            assert!(after_failed_start(failures, &mut random) <= LONGEST * 1.2);
        }
    }

    #[test]
    fn five_failed_starts_take_about_a_second() {
        let mut random = Random::new(2);
        let total: f64 = (1..5).map(|n| after_failed_start(n, &mut random)).sum();
        assert!(total < 1.0, "{total}");
    }
}
