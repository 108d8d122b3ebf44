//! Colours, and only where a person looks: on a terminal that has them, unless `NO_COLOR` says otherwise. And words for
//! spans of time, signals and cells of a table, as the commands that are made for a person's eyes need them.

use std::io::IsTerminal;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How something is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// It is at something, or not quite as wanted.
    Busy,
    /// Somebody should look.
    Bad,
    /// Of less interest.
    Faint,
    /// A heading.
    Strong,
    /// As it is.
    Plain,
}

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(bool);

impl Paint {
    /// As standard output can take it.
    pub fn for_stdout() -> Self {
        let wished = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let able = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Paint(wished && able && std::io::stdout().is_terminal())
    }

    /// Never.
    #[cfg(test)]
    pub fn none() -> Self {
        Paint(false)
    }

    /// The text in the colour of its tone.
    pub fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            _ if !self.0 || text.is_empty() => return text.to_string(),
            Tone::Good => "32",
            Tone::Busy => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Strong => "1",
            Tone::Plain => return text.to_string(),
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A text and how it is meant.
pub type Cell = (String, Tone);

/// Rows as columns, two spaces apart, cut at `width` places on the screen if there is such a limit.
pub fn table(rows: &[Vec<Cell>], width: Option<usize>, paint: Paint) -> Vec<String> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (at, (cell, _)) in row.iter().enumerate() {
            // What stands in the last column may be long and pushes nobody.
            let wide = if at + 1 < row.len() { cell.width() } else { 0 };
            match widths.get_mut(at) {
                Some(known) => *known = wide.max(*known),
                None => widths.push(wide),
            }
        }
    }
    rows.iter()
        .map(|row| {
            let mut left = width.unwrap_or(usize::MAX);
            let mut line = String::new();
            let mut gap = 0;
            for ((cell, tone), column) in row.iter().zip(&widths) {
                if cell.is_empty() || left <= gap {
                    gap += column + 2;
                    continue;
                }
                line.push_str(&" ".repeat(gap));
                left -= gap;
                let shown = cut(cell, left);
                let used = shown.width();
                line.push_str(&paint.tone(*tone, &shown));
                left -= used;
                gap = column.saturating_sub(used) + 2;
            }
            line
        })
        .collect()
}

/// The text, cut to so many places on the screen.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_string();
    }
    let mut shown = String::new();
    let mut used = 0;
    for character in text.chars() {
        let wide = character.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        shown.push(character);
        used += wide;
    }
    if width > 0 {
        shown.push('…');
    }
    shown
}

/// A span of time in two units: `7s`, `3m07s`, `5h02m`, `3d04h`.
pub fn span(seconds: f64) -> String {
    let all = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (all / 60, all / 3600, all / 86400);
    match all {
        0..60 => format!("{all}s"),
        60..3600 => format!("{minutes}m{:02}s", all % 60),
        3600..86400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// A signal by its number, with its name if it has one.
pub fn signal(number: i64) -> String {
    let known = i32::try_from(number)
        .ok()
        .and_then(|number| nix::sys::signal::Signal::try_from(number).ok());
    known.map_or(format!("signal {number}"), |signal| {
        signal.as_str().to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        for (seconds, want) in [
            (-3.0, "0s"),
            (59.9, "59s"),
            (67.0, "1m07s"),
            (18_120.0, "5h02m"),
            (273_600.0, "3d04h"),
        ] {
            assert_eq!(span(seconds), want);
        }
        assert_eq!(signal(9), "SIGKILL");
        assert_eq!(signal(64), "signal 64");
    }

    #[test]
    fn columns_stand_below_each_other_in_any_script_and_fit() {
        let plain = |text: &str| (text.to_string(), Tone::Plain);
        let rows = [
            vec![plain("NAME"), plain("STATE"), plain("WHY")],
            vec![
                plain("네트워크"),
                ("active".to_string(), Tone::Good),
                plain(""),
            ],
            vec![plain("web"), plain(""), plain("a long reason")],
        ];
        assert_eq!(
            table(&rows, None, Paint::none()),
            [
                "NAME      STATE   WHY",
                "네트워크  active",
                "web               a long reason"
            ]
        );
        assert_eq!(
            table(&rows, Some(22), Paint(true)),
            [
                "NAME      STATE   WHY",
                "네트워크  \x1b[32mactive\x1b[0m",
                "web               a l…"
            ]
        );
        assert_eq!(table(&rows, Some(3), Paint::none()), ["NA…", "네…", "web"]);
    }
}
