//! The last values of something, for a sparkline.

use std::collections::VecDeque;

/// Values one second apart, the newest last; the oldest go.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    values: VecDeque<f32>,
    most: usize,
}

impl History {
    /// Keeps `most` values.
    pub fn new(most: usize) -> Self {
        Self {
            values: VecDeque::new(),
            most: most.max(1),
        }
    }

    /// Takes the next value.
    pub fn push(&mut self, value: f64) {
        if self.values.len() >= self.most {
            self.values.pop_front();
        }
        self.values.push_back(value as f32);
    }

    /// The largest value that is kept.
    pub fn peak(&self) -> f32 {
        self.values.iter().copied().fold(0.0, f32::max)
    }

    /// The last `width` values as heights from 0 to 1, where `full` is 1, or the peak if that is higher. `None` where
    /// nothing was known yet.
    pub fn heights(&self, width: usize, full: f32) -> impl Iterator<Item = Option<f32>> + '_ {
        let full = full.max(self.peak()).max(f32::MIN_POSITIVE);
        let missing = width.saturating_sub(self.values.len());
        let skipped = self.values.len().saturating_sub(width);
        std::iter::repeat_n(None, missing).chain(
            self.values
                .iter()
                .skip(skipped)
                .map(move |value| Some((value / full).clamp(0.0, 1.0))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_values_stay_and_are_measured_by_the_peak() {
        let mut history = History::new(3);
        let heights = |history: &History, full| history.heights(4, full).collect::<Vec<_>>();
        assert_eq!(heights(&history, 1.0), [None; 4]);
        for value in [9.0, 1.0, 2.0, 4.0] {
            history.push(value);
        }
        let all = [None, Some(0.25), Some(0.5), Some(1.0)];
        assert_eq!(heights(&history, 1.0), all);
        assert_eq!(
            history.heights(2, 8.0).collect::<Vec<_>>(),
            [Some(0.25), Some(0.5)]
        );
        assert_eq!(history.peak(), 4.0);
    }
}
