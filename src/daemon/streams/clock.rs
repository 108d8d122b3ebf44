//! Python's `strftime` for time stamps: formats that users wrote for Circus.

use jiff::Timestamp;
use jiff::fmt::strtime::{BrokenDownTime, Config};
use jiff::tz::TimeZone;
use std::fmt::Write;

/// A time format, ready to be used.
#[derive(Debug, Clone)]
pub struct Stamp {
    format: String,
    /// It shows parts of a second.
    fine: bool,
    zone: TimeZone,
    /// The second that was formatted last, and its text.
    last: (i64, String),
}

impl Stamp {
    /// For a format of Python's `datetime.strftime`, in local time.
    pub fn new(format: &str) -> Stamp {
        Stamp::in_zone(format, TimeZone::system())
    }

    /// The same in another time zone.
    pub fn in_zone(format: &str, zone: TimeZone) -> Stamp {
        Stamp {
            format: translated(format),
            fine: format.contains("%f"),
            zone,
            last: (i64::MIN, String::new()),
        }
    }

    /// The text for this moment.
    pub fn text(&mut self, now: Timestamp) -> &str {
        if self.fine || self.last.0 != now.as_second() {
            let time = now.to_zoned(self.zone.clone());
            self.last.0 = now.as_second();
            self.last.1.clear();
            let config = Config::new().lenient(true);
            let time = BrokenDownTime::from(&time);
            match time.to_string_with_config(&config, &self.format) {
                Ok(text) => self.last.1.push_str(&text),
                // what cannot be formatted stands as it was written, as with C's strftime
                Err(_) => self.last.1.push_str(&self.format),
            }
        }
        &self.last.1
    }
}

/// In the words of the library. Python's are those of C in the C locale; a datetime without a zone has no name for it.
pub fn translated(format: &str) -> String {
    let mut out = String::with_capacity(format.len());
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('f') => out.push_str("%6f"),
            Some('c') => out.push_str("%a %b %e %H:%M:%S %Y"),
            Some('x') => out.push_str("%m/%d/%y"),
            Some('X') => out.push_str("%H:%M:%S"),
            Some('Z' | 'z') => {}
            Some(other) => {
                // writing to a String cannot fail
                let _ = write!(out, "%{other}");
            }
            None => out.push_str("%%"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(format: &str) -> String {
        let now: Timestamp = "2026-01-02T03:04:05.000678Z".parse().unwrap();
        Stamp::in_zone(format, TimeZone::UTC).text(now).to_string()
    }

    /// Each right side is what Python 3.11 prints for datetime(2026, 1, 2, 3, 4, 5, 678).
    #[test]
    fn formats_mean_what_python_means() {
        for (format, python) in [
            ("%Y-%m-%d %H:%M:%S", "2026-01-02 03:04:05"),
            ("'%Y/%m/%d | %H:%M:%S'", "'2026/01/02 | 03:04:05'"),
            ("%f|%Z|%z|%%", "000678|||%"),
            ("%c", "Fri Jan  2 03:04:05 2026"),
            ("%x %X %p %I %y %j", "01/02/26 03:04:05 AM 03 26 002"),
            (
                "%a %A %b %B %w %U %W %G-%V %u",
                "Fri Friday Jan January 5 00 00 2026-01 5",
            ),
            ("%D %T %R %e %h %n", "01/02/26 03:04:05 03:04  2 Jan \n"),
            ("%s", "1767323045"),
            ("100%", "100%"),
            ("", ""),
        ] {
            assert_eq!(text(format), python, "{format}");
        }
    }

    #[test]
    fn the_text_follows_the_clock() {
        let mut stamp = Stamp::in_zone("%S", TimeZone::UTC);
        let mut at = |second| {
            let now = Timestamp::from_second(second).unwrap();
            stamp.text(now).to_string()
        };
        assert_eq!([at(1), at(1), at(2), at(1)], ["01", "01", "02", "01"]);
    }
}
