//! What the fronts of the WSGI server count about themselves, for whoever wants to know.
//!
//! A front keeps its numbers in a memory file called [`NAME`], which anybody who may look at its descriptors finds as
//! `/proc/PID/fd/N -> /memfd:circ-metrics`. It writes there while there are requests, a few times a second at the most;
//! nothing is sent, and nobody is waited for.
//!
//! The file is text: a line `circ-metrics 1 SERIAL`, a line `NAME{LABELS} VALUE` for each sample, as Prometheus has them,
//! and a line `end SERIAL`. If the serial numbers differ, it was being written and is to be read again; what comes after
//! the last line is left from before.

use std::fmt::Write;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The name of the memory file.
pub const NAME: &str = "circ-metrics";
/// How often a file that is being written is read.
const TRIES: usize = 5;
/// Most files are shorter.
const USUAL: usize = 4096;
/// More than any file is long.
const LONGEST: usize = 64 * 1024;

/// What kind of number a family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It goes up only; its samples end in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Samples that end in `_bucket` (with the label `le`), `_sum` and `_count`.
    Histogram,
}

/// A family of numbers.
#[derive(Debug)]
pub struct Family {
    /// The name, with `_total` if its samples end so.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family {
        name,
        kind,
        labels,
        help,
    }
}

/// Every family that a front has.
#[rustfmt::skip]
pub static FAMILIES: &[Family] = &[
    family("circ_front_requests_total", Kind::Counter, &["class"], "Answered requests by the class of their status"),
    family("circ_front_refused_total", Kind::Counter, &[], "Connections closed because what came was no proper request"),
    family("circ_front_request_duration_seconds", Kind::Histogram, &[], "From the head of a request to the beginning of its answer"),
    family("circ_front_requests_in_flight", Kind::Gauge, &[], "Requests that wait or are being handled"),
    family("circ_front_requests_queued", Kind::Gauge, &[], "Requests that wait for a process"),
    family("circ_front_connections", Kind::Gauge, &[], "Open connections"),
    family("circ_front_accepted_connections_total", Kind::Counter, &[], "Accepted connections"),
    family("circ_front_received_bytes_total", Kind::Counter, &[], "Bytes received from clients"),
    family("circ_front_sent_bytes_total", Kind::Counter, &[], "Bytes sent to clients"),
    family("circ_front_workers", Kind::Gauge, &[], "Processes of Python that are ready"),
    family("circ_front_worker_deaths_total", Kind::Counter, &[], "Processes of Python that have died"),
    family("circ_front_python_seconds_total", Kind::Counter, &[], "Time in which the application was at work, of all threads together"),
];

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name; that of its family, with an ending if that is a histogram.
    pub name: String,
    /// Names and values; the values need no escapes.
    pub labels: Vec<(String, String)>,
    /// The number.
    pub value: f64,
}

/// The file's text, from the lines of its samples.
pub fn text(serial: u64, samples: impl FnOnce(&mut String)) -> String {
    let mut text = format!("{NAME} 1 {serial}\n");
    samples(&mut text);
    // a String takes everything
    let _ = writeln!(text, "end {serial}");
    text
}

/// What the front with this process id counts; none if it is no front.
///
/// # Errors
/// Its descriptors may not be looked at, or it was gone meanwhile.
pub fn samples_of(pid: i32) -> io::Result<Option<Vec<Sample>>> {
    find(pid)?.map(|file| read(&file)).transpose()
}

/// The memory file of the front with this process id; none if it is no front. What is in it can be read for as long as
/// the result is kept, even when the front has ended.
///
/// # Errors
/// As [`samples_of`].
pub fn find(pid: i32) -> io::Result<Option<File>> {
    let wanted = format!("/memfd:{NAME} (deleted)");
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        // one that was closed meanwhile is not it
        if std::fs::read_link(&path).is_ok_and(|target| target.as_os_str() == wanted.as_str()) {
            return File::open(&path).map(Some);
        }
    }
    Ok(None)
}

/// What is in a memory file that [`find`] has found.
///
/// # Errors
/// It is none, or its front died while it was writing.
pub fn read(file: &File) -> io::Result<Vec<Sample>> {
    let mut bytes = vec![0; USUAL];
    for _ in 0..TRIES {
        let mut length = file.read_at(&mut bytes, 0)?;
        if length == bytes.len() {
            bytes.resize(LONGEST, 0);
            length = file.read_at(&mut bytes, 0)?;
        }
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
        if let Some(samples) = parse(&text) {
            return Ok(samples);
        }
    }
    Err(io::Error::other("what is counted there cannot be read"))
}

/// Reads the text; none if it was being written.
fn parse(text: &str) -> Option<Vec<Sample>> {
    let mut lines = text.lines();
    let serial = lines.next()?.strip_prefix(NAME)?.strip_prefix(" 1 ")?;
    let mut samples = Vec::new();
    for line in lines {
        if let Some(end) = line.strip_prefix("end ") {
            return (end == serial).then_some(samples);
        }
        let (key, value) = line.rsplit_once(' ')?;
        let (name, labels) = match key.strip_suffix('}').and_then(|key| key.split_once('{')) {
            Some((name, labels)) => (name, labels),
            None => (key, ""),
        };
        let labels = labels.split(',').filter(|label| !label.is_empty());
        let labels = labels.map(|label| {
            let (name, value) = label.split_once('=')?;
            Some((name.to_string(), value.trim_matches('"').to_string()))
        });
        samples.push(Sample {
            name: name.to_string(),
            labels: labels.collect::<Option<_>>()?,
            value: value.parse().ok()?,
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut text = text(7, |out| {
            out.push_str("a_total{class=\"2xx\",le=\"+Inf\"} 3\nb 0.5\n")
        });
        text.push_str("left from before 9\nend 6\n");
        let samples = parse(&text).unwrap();
        assert_eq!(samples.len(), 2);
        assert_eq!(
            (samples[0].name.as_str(), samples[0].value),
            ("a_total", 3.0)
        );
        let labels: Vec<_> = samples[0]
            .labels
            .iter()
            .map(|(k, v)| (&**k, &**v))
            .collect();
        assert_eq!(labels, [("class", "2xx"), ("le", "+Inf")]);
        assert_eq!((samples[1].name.as_str(), samples[1].value), ("b", 0.5));
    }

    #[test]
    fn half_a_text_is_not_taken() {
        for text in [
            "",
            "circ-metrics 1 7\na 1\n",
            "circ-metrics 1 7\na 1\nend 6\n",
            "nonsense",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn who_is_no_front_has_none() {
        let parent = nix::unistd::getppid().as_raw();
        assert!(samples_of(parent).unwrap().is_none());
        assert!(samples_of(i32::MAX).is_err());
    }
}
