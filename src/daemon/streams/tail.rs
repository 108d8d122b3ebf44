//! The end of what was said: a bounded ring of bytes.

use std::collections::VecDeque;

/// Bytes that are kept of what a worker said on its standard error.
pub const LAST_WORDS: usize = 4096;
/// Lines that are told of it.
const MOST_LINES: usize = 20;

/// The last bytes of a stream, and how many there were.
#[derive(Debug)]
pub struct Tail {
    most: usize,
    kept: VecDeque<u8>,
    total: u64,
}

impl Tail {
    /// Keeps up to `most` bytes; takes memory only for what is said.
    pub fn new(most: usize) -> Tail {
        Tail {
            most,
            kept: VecDeque::new(),
            total: 0,
        }
    }

    /// Something was said.
    pub fn keep(&mut self, said: &[u8]) {
        self.total = self.total.saturating_add(said.len() as u64);
        let said = &said[said.len().saturating_sub(self.most)..];
        let surplus = (self.kept.len() + said.len()).saturating_sub(self.most);
        self.kept.drain(..surplus);
        self.kept.extend(said);
    }

    /// Nothing more will be said: what is spare is given back.
    pub fn done(&mut self) {
        self.kept.shrink_to_fit();
    }

    /// How many bytes were said in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The last bytes, at most so many of those that came after the first `after`.
    pub fn last(&self, most: usize, after: u64) -> Vec<u8> {
        let new = usize::try_from(self.total.saturating_sub(after)).unwrap_or(usize::MAX);
        let skip = self.kept.len().saturating_sub(most.min(new));
        self.kept.iter().skip(skip).copied().collect()
    }

    /// The last lines, whole ones if there are; what is no UTF-8 is replaced.
    pub fn lines(&self) -> Vec<String> {
        let cut = self.total > self.kept.len() as u64;
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        let mut told = bytes.as_slice();
        if cut {
            // the beginning is missing: go on with the next whole line, if there is one
            told = match told.iter().position(|byte| *byte == b'\n') {
                Some(end) if end + 1 < told.len() => &told[end + 1..],
                _ => told,
            };
        }
        let text = String::from_utf8_lossy(told);
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.len().saturating_sub(MOST_LINES);
        let last = lines[first..].iter();
        last.map(|line| (*line).to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(said: &[u8]) -> Vec<String> {
        let mut tail = Tail::new(LAST_WORDS);
        tail.keep(said);
        tail.lines()
    }

    #[test]
    fn the_last_whole_lines_are_told() {
        assert_eq!(lines(b""), [""; 0]);
        assert_eq!(lines(b"one\ntwo"), ["one", "two"]);
        assert_eq!(lines(b"\xff\xfe\n"), ["\u{fffd}\u{fffd}"]);
        let many: String = (0..50).map(|n| format!("{n}\n")).collect();
        let told = lines(many.as_bytes());
        assert_eq!((told.len(), told[0].as_str()), (20, "30"));
        let mut long = vec![b'x'; LAST_WORDS - 1];
        long.extend(b"\nz\n");
        assert_eq!(lines(&long), ["z"]);
        let much = vec![b'x'; LAST_WORDS + 1];
        assert_eq!(lines(&much), ["x".repeat(LAST_WORDS)]);
    }

    #[test]
    fn only_the_end_is_kept_and_can_be_followed() {
        let mut tail = Tail::new(10);
        for piece in ["abc", "defgh", "ijklmnopqrstuvwxyz", "1", "23"] {
            tail.keep(piece.as_bytes());
        }
        assert_eq!(tail.total(), 29);
        assert_eq!(tail.last(100, 0), b"tuvwxyz123");
        assert_eq!(tail.last(2, 0), b"23");
        assert_eq!(tail.last(100, 26), b"123");
        assert_eq!(tail.last(100, 29), b"");
        assert_eq!(tail.last(100, 99), b"");
    }
}
