//! `--since`: a moment in a person's words, and the time that a line of a log tells. Pure.

use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Span, Timestamp, Zoned};
use serde_json::Value;

use crate::daemon::streams::clock::translated;

/// How much of a line is looked at, in bytes.
pub const HEAD: usize = 64 * 1024;

/// Where in a line a date may begin that no format announces, in bytes.
const BEFORE_DATE: usize = 64;

/// Keys under which a line of JSON tells its time.
const KEYS: [&str; 5] = ["time", "timestamp", "@timestamp", "ts", "asctime"];

/// Reads a moment: a time ago (`10m`, `1h30m`, `2 days ago`), `today`, `yesterday`, a date, a time of today, both, or
/// `@SECONDS` since 1970. Without an offset it is local time.
///
/// # Errors
/// A sentence with the forms there are.
pub fn moment(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let text = text.trim();
    let none = || {
        format!(
            "{text:?} is no time: 10m, \"2 days ago\", today, yesterday, 15:04, 2026-01-02, \"2026-01-02 15:04:05\", an \
             RFC 3339 time or @SECONDS is expected"
        )
    };
    let ago = text.strip_suffix("ago").unwrap_or(text).trim();
    let seconds = ago.parse::<f64>().ok();
    let span = match seconds.and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok()) {
        Some(seconds) => Span::try_from(seconds).ok(),
        // 01:30 is a time of the day
        None if ago.contains(':') => None,
        None => ago.parse::<Span>().ok(),
    };
    if let Some(span) = span.filter(|span| !span.is_negative()) {
        let moment = now.checked_sub(span).map_err(|error| error.to_string())?;
        return Ok(moment.timestamp());
    }
    if let Some(seconds) = text.strip_prefix('@') {
        let seconds = seconds.parse::<f64>().ok().filter(|s| s.is_finite());
        return seconds.and_then(epoch).ok_or_else(none);
    }
    let midnight = DateTime::from_parts(now.date(), Time::midnight());
    let local = match text {
        "now" => return Ok(now.timestamp()),
        "today" => Some(midnight),
        "yesterday" => midnight.yesterday().ok(),
        _ => {
            if let Ok(moment) = text.parse::<Timestamp>() {
                return Ok(moment);
            }
            let date = text.parse::<Date>();
            let time = text.parse::<Time>();
            // What has both parses as either, less the other.
            let both = text.len() > 10 && text.contains(':');
            match (date, time) {
                _ if both => text.parse::<DateTime>().ok(),
                (Ok(date), _) => Some(DateTime::from_parts(date, Time::midnight())),
                (_, Ok(time)) => Some(DateTime::from_parts(now.date(), time)),
                _ => None,
            }
        }
    };
    local
        .and_then(|local| local.to_zoned(now.time_zone().clone()).ok())
        .map(|moment| moment.timestamp())
        .ok_or_else(none)
}

fn epoch(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_microsecond((seconds * 1e6) as i64).ok()
}

/// Reads the times of the lines of one output.
#[derive(Debug, Clone)]
pub struct LineClock {
    /// The stream's own `time_format`, in the library's words.
    format: Option<String>,
    zone: TimeZone,
}

impl LineClock {
    /// For lines that begin with a time of this format of Python's, if one is given; other forms are tried as well.
    pub fn new(format: Option<&str>, zone: TimeZone) -> LineClock {
        LineClock {
            format: format.map(translated),
            zone,
        }
    }

    /// When the line was written, if it says so.
    pub fn time_of(&self, line: &[u8]) -> Option<Timestamp> {
        let head = &line[..line.len().min(HEAD)];
        let text = String::from_utf8_lossy(head);
        let text = uncoloured(&text);
        if text.starts_with('{') {
            return of_json(text, &self.zone);
        }
        if let Some(format) = &self.format
            && let Ok((time, _)) = BrokenDownTime::parse_prefix(format, text)
        {
            if let Ok(moment) = time.to_timestamp() {
                return Some(moment);
            }
            if let Ok(local) = time.to_datetime() {
                return self.local(local);
            }
        }
        dated(text, &self.zone).or_else(|| common_log(text))
    }

    fn local(&self, local: DateTime) -> Option<Timestamp> {
        Some(local.to_zoned(self.zone.clone()).ok()?.timestamp())
    }
}

/// Without a code for colours before it.
fn uncoloured(text: &str) -> &str {
    match text
        .strip_prefix("\x1b[")
        .and_then(|rest| rest.split_once('m'))
    {
        Some((code, rest)) if code.bytes().all(|b| b.is_ascii_digit() || b == b';') => rest,
        _ => text,
    }
}

fn of_json(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let object = serde_json::from_str::<Value>(text).ok()?;
    let time = KEYS.iter().find_map(|key| object.get(key))?;
    match time {
        Value::String(text) => text.parse().ok().or_else(|| dated(text, zone)),
        // Milliseconds, if that would be thousands of years otherwise.
        Value::Number(number) => number
            .as_f64()
            .and_then(|n| epoch(if n > 1e11 { n / 1e3 } else { n })),
        _ => None,
    }
}

/// `2026-01-02 03:04:05`, with `T`, slashes, parts of a second and an offset or without them, near the beginning.
fn dated(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let digits = |from: usize, count: usize| {
        let part = bytes.get(from..from + count)?;
        part.iter().all(u8::is_ascii_digit).then_some(())?;
        std::str::from_utf8(part).ok()?.parse::<i16>().ok()
    };
    let last = bytes.len().saturating_sub(19).min(BEFORE_DATE);
    (0..=last).find_map(|at| {
        if at > 0 && bytes[at - 1].is_ascii_digit() {
            return None;
        }
        let year = digits(at, 4)?;
        let sign =
            |offset: usize, signs: &[u8]| signs.contains(bytes.get(at + offset)?).then_some(());
        sign(4, b"-/")?;
        let month = digits(at + 5, 2)?;
        sign(7, b"-/")?;
        let day = digits(at + 8, 2)?;
        sign(10, b"T ")?;
        let hour = digits(at + 11, 2)?;
        sign(13, b":")?;
        let minute = digits(at + 14, 2)?;
        sign(16, b":")?;
        let second = digits(at + 17, 2)?;
        let small = |number: i16| i8::try_from(number).ok();
        let date = Date::new(year, small(month)?, small(day)?).ok()?;
        let time = Time::new(small(hour)?, small(minute)?, small(second)?, 0).ok()?;
        let rest = &text[at + 19..];
        let rest = match rest.strip_prefix(['.', ',']) {
            Some(more) => more.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => rest,
        };
        let spaced = rest.strip_prefix(' ').unwrap_or(rest);
        let zone = offset(spaced).map_or_else(|| zone.clone(), Offset::to_time_zone);
        let moment = DateTime::from_parts(date, time).to_zoned(zone).ok()?;
        Some(moment.timestamp())
    })
}

/// `Z`, `+01:00`, `+0100`, at the beginning.
fn offset(text: &str) -> Option<Offset> {
    if text.starts_with('Z') {
        return Some(Offset::UTC);
    }
    let sign = match text.bytes().next()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let number = |part: Option<&str>| {
        let digits = part.filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<i32>().ok()
    };
    let hours = number(text.get(1..3))?;
    let rest = text.get(3..)?;
    let minutes = number(rest.strip_prefix(':').unwrap_or(rest).get(..2))?;
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

/// `… [02/Jan/2026:03:04:05 +0000] …`, as web servers write it.
fn common_log(text: &str) -> Option<Timestamp> {
    let (_, rest) = text.split_once('[')?;
    let (time, _) = BrokenDownTime::parse_prefix("%d/%b/%Y:%H:%M:%S %z", rest).ok()?;
    time.to_timestamp().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-01-02T03:04:05+01:00[+01:00]".parse().unwrap()
    }

    #[test]
    fn moments_are_read() {
        for (text, utc) in [
            ("10m", "2026-01-02T01:54:05Z"),
            ("90", "2026-01-02T02:02:35Z"),
            ("1h30m", "2026-01-02T00:34:05Z"),
            ("2 days ago", "2025-12-31T02:04:05Z"),
            ("2 months", "2025-11-02T02:04:05Z"),
            ("now", "2026-01-02T02:04:05Z"),
            ("today", "2026-01-01T23:00:00Z"),
            ("yesterday", "2025-12-31T23:00:00Z"),
            ("01:30", "2026-01-02T00:30:00Z"),
            ("01:30:15", "2026-01-02T00:30:15Z"),
            ("2025-12-01", "2025-11-30T23:00:00Z"),
            ("2025-12-01 10:00", "2025-12-01T09:00:00Z"),
            ("2025-12-01T10:00:05.5", "2025-12-01T09:00:05.5Z"),
            ("2025-12-01T10:00:05Z", "2025-12-01T10:00:05Z"),
            ("2025-12-01 10:00:05+02:00", "2025-12-01T08:00:05Z"),
            ("@1767323045", "2026-01-02T03:04:05Z"),
        ] {
            let read = moment(text, &now());
            assert_eq!(read, Ok(utc.parse().unwrap()), "{text}");
        }
        for bad in ["", "soon", "25:00", "2026-13-01", "@x", "-5m"] {
            assert!(moment(bad, &now()).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_tell_their_time() {
        let clock =
            |format| LineClock::new(format, TimeZone::fixed(Offset::from_hours(1).unwrap()));
        for (format, line, utc) in [
            (
                None,
                "2026-01-02 03:04:05 [12] | hello",
                "2026-01-02T02:04:05Z",
            ),
            (
                None,
                "[2026-01-02 03:04:05 +0000] [12] [INFO] Booting",
                "2026-01-02T03:04:05Z",
            ),
            (None, "[2026-01-02 03:04:05,123] x", "2026-01-02T02:04:05Z"),
            (None, "INFO 2026/01/02 03:04:05 x", "2026-01-02T02:04:05Z"),
            (
                None,
                "2026-01-02T03:04:05.678901Z x",
                "2026-01-02T03:04:05Z",
            ),
            (
                None,
                "1.2.3.4 - - [02/Jan/2026:03:04:05 +0000] \"GET /\"",
                "2026-01-02T03:04:05Z",
            ),
            (
                None,
                r#"{"time": "2026-01-02T03:04:05Z", "line": "x"}"#,
                "2026-01-02T03:04:05Z",
            ),
            (None, r#"{"ts": 1767323045}"#, "2026-01-02T03:04:05Z"),
            (None, r#"{"ts": 1767323045000}"#, "2026-01-02T03:04:05Z"),
            (
                Some("%d.%m.%Y|%H:%M:%S"),
                "02.01.2026|03:04:05 [1] | x",
                "2026-01-02T02:04:05Z",
            ),
            (Some("%s"), "1767323045 [1] | x", "2026-01-02T03:04:05Z"),
            (
                Some("%d.%m.%Y"),
                "\x1b[0;31;40m2026-01-02 03:04:05 x",
                "2026-01-02T02:04:05Z",
            ),
        ] {
            let read = clock(format).time_of(line.as_bytes());
            assert_eq!(read, Some(utc.parse().unwrap()), "{line}");
        }
        for none in [
            "",
            "hello",
            "{",
            "{}",
            "2026-01-02",
            "12026-01-02 03:04:05",
            "2026-99-02 03:04:05",
            "\u{e9}[x",
        ] {
            assert_eq!(clock(None).time_of(none.as_bytes()), None, "{none}");
        }
    }
}
