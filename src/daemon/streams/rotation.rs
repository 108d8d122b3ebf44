//! When a file is rotated by time, and what rotated files are called. Pure: the time is an argument.
//!
//! Names are those of circus 0.19 (`TimedRotatingFileStream`). Where its arithmetic of weekdays goes wrong (a day of the
//! week that has passed makes it rotate at once), this follows Python's own handler, which it was made from.

use super::clock::Stamp;
use crate::options::streams::{Period, Schedule};
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// A schedule in its time zone.
#[derive(Debug, Clone)]
pub struct Times {
    schedule: Schedule,
    zone: TimeZone,
}

impl Times {
    /// In UTC or in local time, as the schedule says.
    pub fn new(schedule: Schedule) -> Times {
        let zone = if schedule.utc {
            TimeZone::UTC
        } else {
            TimeZone::system()
        };
        Times { schedule, zone }
    }

    /// The length of a period in seconds.
    fn interval(&self) -> i64 {
        let length = match self.schedule.every {
            Period::Second => 1,
            Period::Minute => 60,
            Period::Hour => 3600,
            Period::Day => 86400,
            // these end at a midnight, however many of them are asked for
            Period::Midnight => return 86400,
            Period::Week(_) => return 7 * 86400,
        };
        length * i64::from(self.schedule.interval)
    }

    /// The second at which a file that was begun, or last written, at `since` is to be rotated.
    pub fn next(&self, since: i64) -> i64 {
        match self.schedule.every {
            Period::Second | Period::Minute | Period::Hour | Period::Day => {
                since.saturating_add(self.interval())
            }
            Period::Midnight => self.midnight_after(since, 0),
            Period::Week(day) => {
                let wait = self.local(since).map_or(0, |time| {
                    let today = weekday(time.weekday());
                    (7 + i64::from(day) - today) % 7
                });
                self.midnight_after(since, wait)
            }
        }
    }

    /// The end of the day that comes `days` after this moment's.
    fn midnight_after(&self, since: i64, days: i64) -> i64 {
        let plain = since.saturating_add((days + 1) * 86400);
        let day = self.local(since).and_then(|time| {
            let day = time.date().checked_add((days + 1).days()).ok()?;
            day.to_zoned(self.zone.clone()).ok()
        });
        day.map_or(plain, |time| time.timestamp().as_second())
    }

    fn local(&self, second: i64) -> Option<Zoned> {
        let time = Timestamp::from_second(second).ok()?;
        Some(time.to_zoned(self.zone.clone()))
    }

    /// What follows the name of the file whose period has ended, or would have, at `end`.
    pub fn suffix(&self, end: i64) -> String {
        let start = match self.schedule.every {
            // a day that was changed to or from summer time is not 24 hours long
            Period::Midnight | Period::Week(_) => end.saturating_sub(self.interval() - 2 * 3600),
            _ => end.saturating_sub(self.interval()),
        };
        let format = match self.schedule.every {
            Period::Second => "%Y%m%d%H%M%S",
            Period::Minute => "%Y%m%d%H%M",
            Period::Hour => "%Y%m%d%H",
            Period::Day | Period::Midnight | Period::Week(_) => "%Y%m%d",
        };
        let time = Timestamp::from_second(start).unwrap_or(Timestamp::UNIX_EPOCH);
        Stamp::in_zone(format, self.zone.clone())
            .text(time)
            .to_string()
    }

    /// If `rest` follows a file's name and a dot in the name of one of its rotated files: what orders them by age.
    pub fn age<'a>(&self, rest: &'a str) -> Option<(&'a str, u32)> {
        let digits = match self.schedule.every {
            Period::Second => 14,
            Period::Minute => 12,
            Period::Hour => 10,
            Period::Day | Period::Midnight | Period::Week(_) => 8,
        };
        let rest = rest.strip_suffix(".gz").unwrap_or(rest);
        let (date, again) = match rest.split_once('-') {
            Some((date, number)) => (date, number.parse().ok()?),
            None => (rest, 0),
        };
        (date.len() == digits && date.bytes().all(|byte| byte.is_ascii_digit()))
            .then_some((date, again))
    }
}

fn weekday(day: Weekday) -> i64 {
    i64::from(day.to_monday_zero_offset())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(every: Period, interval: u32) -> Times {
        Times {
            schedule: Schedule {
                every,
                interval,
                utc: false,
            },
            zone: TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::UTC),
        }
    }

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    #[test]
    fn plain_periods_are_counted_from_the_last_writing() {
        let now = at("2026-03-04T10:20:30Z");
        for (every, interval, seconds, name) in [
            (Period::Second, 5, 5, "20260304112030"),
            (Period::Minute, 2, 120, "202603041120"),
            (Period::Hour, 1, 3600, "2026030411"),
            (Period::Day, 3, 3 * 86400, "20260304"),
        ] {
            let times = times(every, interval);
            assert_eq!(times.next(now), now + seconds);
            assert_eq!(times.suffix(now + seconds), name);
        }
    }

    #[test]
    fn days_and_weeks_end_at_midnight() {
        let midnight = times(Period::Midnight, 1);
        // 23:30 in Berlin
        assert_eq!(
            midnight.next(at("2026-03-04T22:30:00Z")),
            at("2026-03-04T23:00:00Z")
        );
        // the clocks go forward in this night: the day has 23 hours
        let end = midnight.next(at("2026-03-29T10:00:00Z"));
        assert_eq!(end, at("2026-03-29T22:00:00Z"));
        assert_eq!(midnight.suffix(end), "20260329");
        // back: 25 hours
        let end = midnight.next(at("2026-10-25T10:00:00Z"));
        assert_eq!(end, at("2026-10-25T23:00:00Z"));
        assert_eq!(midnight.suffix(end), "20261025");
        // 2026-03-04 is a Wednesday
        let now = at("2026-03-04T10:00:00Z");
        for (day, end) in [
            (2, "2026-03-04T23:00:00Z"),
            (3, "2026-03-05T23:00:00Z"),
            (1, "2026-03-10T23:00:00Z"),
        ] {
            assert_eq!(times(Period::Week(day), 1).next(now), at(end), "W{day}");
        }
    }

    #[test]
    fn rotated_files_are_known_by_their_names() {
        let times = times(Period::Hour, 1);
        assert_eq!(times.age("2026030411"), Some(("2026030411", 0)));
        assert_eq!(times.age("2026030411-12.gz"), Some(("2026030411", 12)));
        for other in [
            "1",
            "20260304",
            "2026030411.old",
            "202603041x",
            "2026030411-x",
            "",
        ] {
            assert_eq!(times.age(other), None, "{other}");
        }
    }
}
