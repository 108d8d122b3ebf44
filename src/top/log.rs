//! What the processes of a watcher say, as it is followed.

use std::collections::VecDeque;
use std::sync::Arc;

/// Lines that are kept.
const MOST: usize = 5000;
/// Characters of a line that are kept.
const LONGEST: usize = 2000;

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// Standard output, or both into one place.
    Out,
    /// Standard error.
    Err,
    /// Not said by a process: about the log itself.
    Note,
}

/// The lines of a watcher that have come.
#[derive(Debug)]
pub struct Log {
    /// The watcher.
    pub watcher: Arc<str>,
    lines: VecDeque<(Voice, String)>,
    /// How many lines are below the last one that is seen; 0 goes on with what comes.
    pub below: usize,
}

impl Log {
    /// Nothing of this watcher yet.
    pub fn new(watcher: Arc<str>) -> Self {
        Self {
            watcher,
            lines: VecDeque::new(),
            below: 0,
        }
    }

    /// Takes a line.
    pub fn push(&mut self, voice: Voice, line: &str) {
        if self.lines.len() >= MOST {
            self.lines.pop_front();
        }
        self.lines.push_back((voice, clean(line)));
        if self.below > 0 {
            // what is looked at stays where it is
            self.scroll(1);
        }
    }

    /// Goes up by so many lines, down by negative ones.
    pub fn scroll(&mut self, lines: isize) {
        self.below = self
            .below
            .saturating_add_signed(lines)
            .min(self.lines.len().saturating_sub(1));
    }

    /// The lines that `height` has room for, from the top.
    pub fn seen(&self, height: usize) -> impl Iterator<Item = &(Voice, String)> {
        let end = self.lines.len().saturating_sub(self.below);
        // the first page is a whole one
        let end = end.max(height.min(self.lines.len()));
        self.lines.range(end.saturating_sub(height)..end)
    }

    /// Whether no line has come.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// A line without what a terminal would obey: escape sequences and control characters go, tabs become spaces.
pub fn clean(line: &str) -> String {
    let mut text = String::new();
    let mut characters = line.chars().peekable();
    let mut count = 0;
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => match characters.next() {
                // to the final byte of a control sequence
                Some('[') => {
                    let _ = characters.by_ref().find(|c| ('@'..='~').contains(c));
                }
                // to the end of an operating system command
                Some(']') => {
                    while let Some(c) = characters.next() {
                        if c == '\u{7}' || (c == '\u{1b}' && characters.next_if_eq(&'\\').is_some())
                        {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\t' => {
                let spaces = 8 - count % 8;
                text.extend(std::iter::repeat_n(' ', spaces));
                count += spaces;
            }
            character if character.is_control() => {}
            character => {
                text.push(character);
                count += 1;
            }
        }
        if count >= LONGEST {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(log: &Log, height: usize) -> Vec<&str> {
        log.seen(height).map(|(_, line)| line.as_str()).collect()
    }

    #[test]
    fn who_scrolls_back_stays_there() {
        let mut log = Log::new("web".into());
        for line in ["a", "b", "c", "d"] {
            log.push(Voice::Out, line);
        }
        assert_eq!(seen(&log, 2), ["c", "d"]);
        log.scroll(1);
        log.push(Voice::Err, "e");
        assert_eq!(seen(&log, 2), ["b", "c"]);
        log.scroll(-9);
        assert_eq!(seen(&log, 2), ["d", "e"]);
        log.scroll(99);
        assert_eq!(seen(&log, 2), ["a", "b"]);
        assert_eq!(seen(&log, 9), ["a", "b", "c", "d", "e"]);
        assert_eq!(seen(&log, 0), [""; 0]);
        for number in 0..2 * MOST {
            log.push(Voice::Out, &number.to_string());
        }
        log.scroll(-99_999);
        assert_eq!(seen(&log, 1), ["9999"]);
        assert_eq!(log.seen(usize::MAX).count(), MOST);
    }

    #[test]
    fn a_line_cannot_paint() {
        assert_eq!(clean("\u{1b}[31mred\u{1b}[0m\r"), "red");
        assert_eq!(clean("\u{1b}]0;title\u{7}a\u{1b}]0;t\u{1b}\\b\u{1b}"), "ab");
        assert_eq!(clean("a\tb\u{8}\u{9b}c"), "a       bc");
        assert_eq!(clean(&"x".repeat(9000)).len(), LONGEST);
    }
}
