//! Maintenance windows: a file of a few plain lines that says when the agent holds its hands. Pure; times are local.
//!
//! ```text
//! # While this file is there and empty, drift is reported and nothing is repaired.
//! Sat 02:00-04:00                       # every Saturday night
//! Mon-Fri 22:00-06:00 off               # over midnight; `off`: do not even look
//! 2026-12-24 - 2026-12-27               # whole days, both included
//! 2026-12-31 18:00 - 2027-01-01 06:00
//! always                                # until the line or the file is gone
//! only Tue,Thu 09:00-11:30              # the other way round: repairs only then
//! ```
//!
//! A line is one window: `always`, or days (`daily`, `Sat`, `Mon-Fri`, `Tue,Thu`) and times, or a date or two. `audit`
//! at its end is the default: look, report, change nothing. Where windows overlap, `off` wins. With `only` lines, all
//! other times are a window. A file that cannot be understood holds back as well: nobody asked for changes then.

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Weekday};

use super::schedule::Hold;

/// The windows of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Windows(Vec<Window>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    when: When,
    hold: Hold,
    /// Everything outside of it is the window.
    only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum When {
    Always,
    /// Minutes of the day; an end that is not after the start is on the next day.
    Weekly {
        days: [bool; 7],
        from: i32,
        to: i32,
    },
    /// From the first moment to before the second.
    Span(DateTime, DateTime),
}

/// What is wrong with a file of windows, all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct WindowError(Vec<String>);

const DAY: i32 = 24 * 60;

impl Windows {
    /// Reads the text of a file; `name` is what messages call it.
    ///
    /// # Errors
    /// Every line that is not understood.
    pub fn parse(text: &str, name: &str) -> Result<Windows, WindowError> {
        let mut windows = Vec::new();
        let mut problems = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.is_empty() {
                continue;
            }
            match Window::parse(&words) {
                Ok(window) => windows.push(window),
                Err(what) => problems.push(format!("{name}:{}: {what}", index + 1)),
            }
        }
        if problems.is_empty() {
            Ok(Windows(windows))
        } else {
            Err(WindowError(problems))
        }
    }

    /// What is asked for at this moment. A file that names no time means always.
    pub fn at(&self, now: DateTime) -> Hold {
        if self.0.is_empty() {
            return Hold::Audit;
        }
        let plain = self.0.iter().filter(|window| !window.only);
        let holds = plain
            .filter(|window| window.when.contains(now))
            .map(|window| window.hold);
        let only: Vec<&Window> = self.0.iter().filter(|window| window.only).collect();
        let outside = !only.iter().any(|window| window.when.contains(now));
        let others = only
            .iter()
            .filter(|_| outside)
            .map(|window| window.hold)
            .max_by_key(|hold| strength(*hold));
        holds
            .chain(others)
            .max_by_key(|hold| strength(*hold))
            .unwrap_or(Hold::Free)
    }

    /// The next moment after `now` at which a window begins or ends, if there is one.
    pub fn next_change(&self, now: DateTime) -> Option<DateTime> {
        let edges = self.0.iter().flat_map(|window| window.when.edges(now));
        edges.filter(|edge| *edge > now).min()
    }
}

fn strength(hold: Hold) -> u8 {
    match hold {
        Hold::Free => 0,
        Hold::Audit => 1,
        Hold::Off => 2,
    }
}

impl When {
    fn contains(&self, now: DateTime) -> bool {
        match self {
            When::Always => true,
            When::Span(from, to) => *from <= now && now < *to,
            When::Weekly { days, from, to } => {
                let minute = i32::from(now.hour()) * 60 + i32::from(now.minute());
                let today = day(now.weekday());
                let yesterday = (today + 6) % 7;
                if from < to {
                    days[today] && (*from..*to).contains(&minute)
                } else {
                    days[today] && minute >= *from || days[yesterday] && minute < *to
                }
            }
        }
    }

    /// Where it begins and ends, in the week around `now`.
    fn edges(&self, now: DateTime) -> Vec<DateTime> {
        match self {
            When::Always => Vec::new(),
            When::Span(from, to) => vec![*from, *to],
            When::Weekly { days, from, to } => {
                let dates = (-1_i64..=8).filter_map(|offset| {
                    let date = now.date().checked_add(offset.days()).ok()?;
                    days[day(date.weekday())].then_some(date)
                });
                let end = if from < to { *to } else { *to + DAY };
                dates
                    .flat_map(|date| [minute_of(date, *from), minute_of(date, end)])
                    .flatten()
                    .collect()
            }
        }
    }
}

fn day(weekday: Weekday) -> usize {
    usize::try_from(weekday.to_monday_zero_offset()).unwrap_or(0)
}

fn minute_of(date: Date, minute: i32) -> Option<DateTime> {
    date.at(0, 0, 0, 0)
        .checked_add(i64::from(minute).minutes())
        .ok()
}

impl Window {
    fn parse(words: &[&str]) -> Result<Window, String> {
        let (only, words) = match words.split_first() {
            Some((first, rest)) if first.eq_ignore_ascii_case("only") => (true, rest),
            _ => (false, words),
        };
        let (hold, words) = match words.split_last() {
            Some((last, rest)) if last.eq_ignore_ascii_case("off") => (Hold::Off, rest),
            Some((last, rest)) if last.eq_ignore_ascii_case("audit") => (Hold::Audit, rest),
            _ => (Hold::Audit, words),
        };
        let when = When::parse(words).ok_or_else(|| {
            format!(
                "{:?} is no window; write something like `Sat 02:00-04:00`, `2026-12-24 - 2026-12-27` or `always`, \
                 and `audit` or `off` after it",
                words.join(" ")
            )
        })?;
        if matches!(&when, When::Span(from, to) if from >= to) {
            return Err("the end is not after the beginning".to_string());
        }
        Ok(Window { when, hold, only })
    }
}

impl When {
    fn parse(words: &[&str]) -> Option<When> {
        let whole_day = |days| When::Weekly {
            days,
            from: 0,
            to: DAY,
        };
        let ends = words
            .iter()
            .position(|word| matches!(*word, "-" | "to" | ".."));
        match (words, ends) {
            ([word], _) if word.eq_ignore_ascii_case("always") => Some(When::Always),
            ([word], _) => {
                if let Some((from, to)) = times(word) {
                    let days = [true; 7];
                    return Some(When::Weekly { days, from, to });
                }
                if let Some(date) = date(word) {
                    return Some(When::Span(minute_of(date, 0)?, minute_of(date, DAY)?));
                }
                days(word).map(whole_day)
            }
            ([first, second], None) => {
                let (from, to) = times(second)?;
                if let Some(date) = date(first) {
                    let end = if from < to { to } else { to + DAY };
                    return Some(When::Span(minute_of(date, from)?, minute_of(date, end)?));
                }
                let days = days(first)?;
                Some(When::Weekly { days, from, to })
            }
            (words, Some(at)) => {
                let (first, last) = (&words[..at], &words[at + 1..]);
                // `Sat 02:00 - 04:00`, with spaces.
                if let ([.., from], [to]) = (first, last)
                    && let (Some(_), Some(_)) = (time(from), time(to))
                {
                    let joined = format!("{from}-{to}");
                    let mut words = first[..first.len() - 1].to_vec();
                    words.push(&joined);
                    return When::parse(&words);
                }
                Some(When::Span(moment(first, 0)?, moment(last, DAY)?))
            }
            _ => None,
        }
    }
}

/// `DATE` or `DATE TIME`; without a time it is the given minute of the day.
fn moment(words: &[&str], minute: i32) -> Option<DateTime> {
    match words {
        [day] => minute_of(date(day)?, minute),
        [day, at] => minute_of(date(day)?, time(at)?),
        _ => None,
    }
}

fn date(word: &str) -> Option<Date> {
    (word.len() == 10).then(|| word.parse().ok()).flatten()
}

/// `HH:MM` as minutes; `24:00` is the end of the day.
fn time(word: &str) -> Option<i32> {
    let (hour, minute) = word.split_once(':')?;
    let digits =
        |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour) || minute.len() != 2 || !digits(minute) {
        return None;
    }
    let (hour, minute): (i32, i32) = (hour.parse().ok()?, minute.parse().ok()?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= DAY).then_some(total)
}

/// `HH:MM-HH:MM`
fn times(word: &str) -> Option<(i32, i32)> {
    let (from, to) = word.split_once('-')?;
    let (from, to) = (time(from)?, time(to)?);
    (from < DAY).then_some((from, to))
}

/// `Sat`, `Mon-Fri`, `Tue,Thu`, `daily`.
fn days(word: &str) -> Option<[bool; 7]> {
    let mut found = [false; 7];
    for part in word.split(',') {
        let part = part.to_ascii_lowercase();
        if matches!(part.as_str(), "daily" | "*") {
            return Some([true; 7]);
        }
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (weekday(first)?, weekday(last)?),
            None => (weekday(&part)?, weekday(&part)?),
        };
        let mut at = first;
        loop {
            found[at] = true;
            if at == last {
                break;
            }
            at = (at + 1) % 7;
        }
    }
    Some(found)
}

fn weekday(word: &str) -> Option<usize> {
    const NAMES: [&str; 7] = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    (word.len() >= 3)
        .then(|| NAMES.iter().position(|name| name.starts_with(word)))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, moment: &str) -> Hold {
        Windows::parse(text, "w")
            .unwrap()
            .at(moment.parse().unwrap())
    }

    // 2026-11-21 is a Saturday.
    #[test]
    fn lines_mean_what_they_say() {
        use Hold::{Audit, Free, Off};
        for (text, moment, hold) in [
            ("", "2026-11-21T12:00", Audit),
            ("# nothing\n\n", "2026-11-21T12:00", Audit),
            ("always", "2026-11-21T12:00", Audit),
            ("always off", "2026-11-21T12:00", Off),
            ("Sat 02:00-04:00", "2026-11-21T01:59:59", Free),
            ("Sat 02:00-04:00", "2026-11-21T02:00", Audit),
            ("Sat 02:00-04:00 # night", "2026-11-21T03:59:59", Audit),
            ("Sat 02:00-04:00", "2026-11-21T04:00", Free),
            ("Sat 02:00-04:00", "2026-11-22T03:00", Free),
            ("saturday 2:00 - 4:00 off", "2026-11-21T03:00", Off),
            ("02:00-04:00", "2026-11-22T03:00", Audit),
            ("Fri 22:00-06:00", "2026-11-21T05:59", Audit),
            ("Fri 22:00-06:00", "2026-11-20T05:59", Free),
            ("Fri 22:00-06:00", "2026-11-21T22:00", Free),
            ("Fri 00:00-24:00", "2026-11-20T23:59", Audit),
            ("Fri-Mon 10:00-11:00", "2026-11-22T10:30", Audit),
            ("Fri-Mon 10:00-11:00", "2026-11-24T10:30", Free),
            ("Tue,Sat 10:00-11:00", "2026-11-21T10:30", Audit),
            ("Sat,Sun", "2026-11-21T23:59", Audit),
            ("2026-11-21", "2026-11-21T23:59", Audit),
            ("2026-11-21", "2026-11-22T00:00", Free),
            ("2026-11-21 22:00-02:00", "2026-11-22T01:00", Audit),
            ("2026-11-20 - 2026-11-21", "2026-11-21T23:59", Audit),
            (
                "2026-11-20 18:00 to 2026-11-21 06:00",
                "2026-11-21T05:00",
                Audit,
            ),
            (
                "2026-11-20 18:00 to 2026-11-21 06:00",
                "2026-11-21T06:00",
                Free,
            ),
            ("only Sat 10:00-12:00", "2026-11-21T11:00", Free),
            ("only Sat 10:00-12:00", "2026-11-21T12:00", Audit),
            ("only Sat 10:00-12:00 off", "2026-11-21T12:00", Off),
            ("only Sat\nonly Sun", "2026-11-22T12:00", Free),
            ("only Sat\n2026-11-21 off", "2026-11-21T12:00", Off),
            ("Sat\nSat 10:00-11:00 off", "2026-11-21T10:00", Off),
        ] {
            assert_eq!(at(text, moment), hold, "{text:?} at {moment}");
        }
    }

    #[test]
    fn the_next_edge_is_known() {
        for (text, moment, next) in [
            ("", "2026-11-21T12:00", None),
            ("always", "2026-11-21T12:00", None),
            (
                "Sat 02:00-04:00",
                "2026-11-21T03:00",
                Some("2026-11-21T04:00"),
            ),
            (
                "Sat 02:00-04:00",
                "2026-11-21T04:00",
                Some("2026-11-28T02:00"),
            ),
            (
                "Fri 22:00-06:00",
                "2026-11-21T03:00",
                Some("2026-11-21T06:00"),
            ),
            ("2026-12-24", "2026-11-21T03:00", Some("2026-12-24T00:00")),
            ("2026-11-20", "2026-11-21T03:00", None),
            (
                "daily 10:00-24:00",
                "2026-11-21T12:00",
                Some("2026-11-22T00:00"),
            ),
        ] {
            let windows = Windows::parse(text, "w").unwrap();
            assert_eq!(
                windows.next_change(moment.parse().unwrap()),
                next.map(|next| next.parse().unwrap()),
                "{text:?} at {moment}"
            );
        }
    }

    #[test]
    fn the_manuals_examples_are_understood() {
        let manual = include_str!("../../../docs/agent.md");
        let example = manual.split("```text\n").nth(1).unwrap();
        let example = example.split("```").next().unwrap();
        assert_eq!(Windows::parse(example, "manual").unwrap().0.len(), 6);
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_line() {
        for text in [
            "sometimes",
            "Sat 25:00-26:00",
            "Sat 2-4",
            "Sat 02:60-04:00",
            "2026-13-01",
            "2026-11-21 - 2026-11-20",
            "only",
            "off",
            "Mo 10:00-11:00",
            "always now",
            "2026-11-21 10:00",
            "- -",
        ] {
            let error = Windows::parse(&format!("# one\n{text}\n"), "w.txt").unwrap_err();
            assert!(
                error.to_string().starts_with("w.txt:2: "),
                "{text}: {error}"
            );
        }
        let error = Windows::parse("x\nalways\ny", "w").unwrap_err().to_string();
        assert!(
            error.contains("w:1: ") && error.contains("w:3: "),
            "{error}"
        );
    }
}
