//! Numbers as a table shows them, and as the daemon writes them.

/// A percentage; 100 is one whole processor.
pub fn percent(value: Option<f64>) -> String {
    match value {
        None => "-".to_string(),
        Some(value) if value >= 1000.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.1}"),
    }
}

/// Bytes in at most six characters.
pub fn bytes(value: Option<u64>) -> String {
    let Some(value) = value else {
        return "-".to_string();
    };
    let mut size = value as f64;
    for unit in ["", "K", "M", "G", "T", "P"] {
        if size < 1000.0 || unit == "P" {
            return match unit {
                "" => format!("{size:.0}"),
                _ if size < 10.0 => format!("{size:.2}{unit}"),
                _ if size < 100.0 => format!("{size:.1}{unit}"),
                _ => format!("{size:.0}{unit}"),
            };
        }
        size /= 1024.0;
    }
    value.to_string()
}

/// Bytes as the daemon writes them, such as `20.02M`.
pub fn read_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let exponent = match text.get(digits.len()..)?.chars().next() {
        None | Some('B') => 0,
        Some(unit) => 1 + "KMGTPEZY".find(unit.to_ascii_uppercase())?,
    };
    let size = digits.parse::<f64>().ok().filter(|size| *size >= 0.0)?;
    Some((size * 1024f64.powi(exponent as i32)) as u64)
}

/// Seconds in at most six characters.
pub fn span(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else {
        return "-".to_string();
    };
    let seconds = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (hours, days) {
        (0, _) => format!("{minutes}:{:02}", seconds % 60),
        (_, 0) => format!("{hours}h{:02}m", minutes % 60),
        (_, 1..100) => format!("{days}d{:02}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// The time of day, `offset` seconds east of Greenwich.
pub fn clock(time: f64, offset: i64) -> String {
    let seconds = (time as i64).saturating_add(offset).rem_euclid(86_400);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let percents = [0.0, 12.345, 999.9, 1234.5].map(|value| percent(Some(value)));
        assert_eq!(percents, ["0.0", "12.3", "999.9", "1234"]);
        let sizes = [0, 999, 1000, 20_992_492, 3 << 30, 900 << 30].map(|size| bytes(Some(size)));
        assert_eq!(sizes, ["0", "999", "0.98K", "20.0M", "3.00G", "900G"]);
        let spans = [0.4, 61.0, 3600.0, 90_000.0, 9_000_000.0].map(|time| span(Some(time)));
        assert_eq!(spans, ["0:00", "1:01", "1h00m", "1d01h", "104d"]);
        assert_eq!(
            [percent(None), bytes(None), span(None)],
            ["-", "-", "-"].map(String::from)
        );
        assert_eq!(clock(1_795_280_908.9, 3600), "18:08:28");
        assert_eq!(clock(-1.0, 0), "23:59:59");
    }

    #[test]
    fn sizes_of_the_daemon_are_read() {
        let sizes = ["20.50M", "0B", "1", "2K", "1.5G", "-1M", "M", "", "3X"].map(read_bytes);
        let expected = [
            Some(21_495_808),
            Some(0),
            Some(1),
            Some(2048),
            Some(1_610_612_736),
            None,
            None,
            None,
            None,
        ];
        assert_eq!(sizes, expected);
    }
}
