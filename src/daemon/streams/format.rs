//! The shape in which lines are handed to their destination. Pure: time and origin are arguments.

use super::clock::Stamp;
use super::file::first_newline;
use crate::options::streams::{StreamClass, StreamSpec};
use crate::python::stream;
use jiff::Timestamp;
use serde_json::json;

/// Which of its two outputs a worker uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Which {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Which {
    /// As Circus's streams call it.
    pub fn name(self) -> &'static str {
        match self {
            Which::Stdout => "stdout",
            Which::Stderr => "stderr",
        }
    }

    /// The option that configures it.
    pub fn option(self) -> &'static str {
        match self {
            Which::Stdout => "stdout_stream",
            Which::Stderr => "stderr_stream",
        }
    }
}

/// Who says something.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The watcher.
    pub watcher: String,
    /// The worker's id.
    pub wid: u32,
    /// Its process.
    pub pid: i32,
    /// On which output.
    pub which: Which,
}

/// What lines are made into.
///
/// Syslog and journal take messages, not bytes: they get *frames*, each with its length (4 bytes, little end first)
/// before it. [`frames`] takes them apart again.
#[derive(Debug, Clone)]
pub enum Shape {
    /// Bytes, as they are.
    Plain,
    /// `TIME [PID] | LINE`.
    Stamped(Stamp),
    /// The same between terminal codes of this colour, 1 to 7.
    Fancy(Stamp, u8),
    /// One JSON object a line.
    Json,
    /// Frames of RFC 3164.
    Syslog {
        /// Facility and level.
        priority: u8,
        /// Who says it.
        tag: String,
        /// `Mmm dd hh:mm:ss`.
        stamp: Stamp,
        /// The name of this host, for messages that leave it.
        host: Option<String>,
    },
    /// Frames for the process behind a class of the user's own: what was said, as it came.
    Foreign,
    /// Frames of journald's native protocol.
    Journald {
        /// The level.
        priority: u8,
        /// Who says it.
        tag: String,
    },
}

impl Shape {
    /// What the configuration asks for.
    pub fn of(spec: &StreamSpec, watcher: &str, which: Which) -> Shape {
        let level = spec.level.unwrap_or(match which {
            Which::Stdout => 6,
            Which::Stderr => 3,
        });
        let tag = spec.tag.clone().unwrap_or_else(|| watcher.to_string());
        match spec.class {
            StreamClass::Json => Shape::Json,
            StreamClass::Foreign => Shape::Foreign,
            StreamClass::FancyStdout => {
                let format = spec.time_format.as_deref().unwrap_or("%Y-%m-%d %H:%M:%S");
                let any = watcher.bytes().map(usize::from).sum::<usize>();
                let color = spec.color.unwrap_or(any % 7) + 1;
                Shape::Fancy(Stamp::new(format), u8::try_from(color).unwrap_or(7))
            }
            StreamClass::Syslog => Shape::Syslog {
                priority: spec.facility * 8 + level,
                tag,
                stamp: Stamp::new("%b %e %H:%M:%S"),
                host: super::syslog::leaves(spec).then(super::syslog::host),
            },
            StreamClass::Journald => Shape::Journald {
                priority: level,
                tag,
            },
            _ => match &spec.time_format {
                Some(format) => Shape::Stamped(Stamp::new(format)),
                None => Shape::Plain,
            },
        }
    }

    /// Bytes go through as they are.
    pub fn is_plain(&self) -> bool {
        matches!(self, Shape::Plain)
    }

    /// Puts each line of `lines` in its shape, at the end of `out`. The last line may lack its end.
    pub fn put(&mut self, out: &mut Vec<u8>, lines: &[u8], origin: &Origin, now: Timestamp) {
        // what stands before each line is the same for all of them
        match self {
            Shape::Foreign => {
                let time = now.as_microsecond() as f64 / 1e6;
                let entry = stream::entry(origin.pid, origin.which.name(), time, lines);
                put_frame(out, &entry);
            }
            Shape::Plain => {
                out.extend_from_slice(lines);
                if lines.last().is_some_and(|last| *last != b'\n') {
                    out.push(b'\n');
                }
            }
            Shape::Stamped(stamp) => {
                let head = format!("{} [{}] | ", stamp.text(now), origin.pid);
                for line in each(lines) {
                    out.extend_from_slice(head.as_bytes());
                    out.extend_from_slice(line);
                    out.push(b'\n');
                }
            }
            Shape::Fancy(stamp, color) => {
                let text = stamp.text(now);
                let head = format!("\x1b[0;3{color};40m{text} [{}] | ", origin.pid);
                // as circus does, an empty line says nothing
                for line in each(lines).filter(|line| !line.is_empty()) {
                    out.extend_from_slice(head.as_bytes());
                    out.extend_from_slice(line);
                    out.extend_from_slice(b"\x1b[0m\n");
                }
            }
            Shape::Json => {
                let time = format!("{now:.6}");
                let head = json!({"time": time, "watcher": origin.watcher, "wid": origin.wid, "pid": origin.pid,
                                  "stream": origin.which.name()});
                let mut head = head.to_string();
                head.pop();
                head.push_str(",\"line\":");
                for line in each(lines) {
                    out.extend_from_slice(head.as_bytes());
                    // writing to memory cannot fail
                    let _ = serde_json::to_writer(&mut *out, &String::from_utf8_lossy(line));
                    out.extend_from_slice(b"}\n");
                }
            }
            Shape::Syslog {
                priority,
                tag,
                stamp,
                host,
            } => {
                let time = stamp.text(now);
                let host = host.as_deref().map(|name| format!("{name} "));
                let host = host.as_deref().unwrap_or("");
                let head = format!("<{priority}>{time} {host}{tag}[{}]: ", origin.pid);
                let mut message = Vec::new();
                for line in each(lines) {
                    message.clear();
                    message.extend_from_slice(head.as_bytes());
                    // a message of syslog has no NUL in it
                    message.extend(line.iter().map(|b| if *b == 0 { b' ' } else { *b }));
                    put_frame(out, &message);
                }
            }
            Shape::Journald { priority, tag } => {
                let mut head = Vec::with_capacity(160);
                let pid = origin.pid.to_string();
                for (field, value) in [
                    ("PRIORITY", priority.to_string().as_str()),
                    ("SYSLOG_IDENTIFIER", tag.as_str()),
                    ("SYSLOG_PID", pid.as_str()),
                    ("OBJECT_PID", pid.as_str()),
                    ("CIRCUS_WATCHER", origin.watcher.as_str()),
                    ("CIRCUS_WID", origin.wid.to_string().as_str()),
                    ("CIRCUS_STREAM", origin.which.name()),
                ] {
                    put_field(&mut head, field, value.as_bytes());
                }
                let mut entry = Vec::new();
                for line in each(lines) {
                    entry.clear();
                    entry.extend_from_slice(&head);
                    put_field(&mut entry, "MESSAGE", line);
                    put_frame(out, &entry);
                }
            }
        }
    }
}

/// The lines without their ends.
fn each(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if lines.is_empty() {
            return None;
        }
        let (line, after) = match first_newline(lines) {
            Some(end) => (&lines[..end], &lines[end + 1..]),
            None => (lines, &lines[lines.len()..]),
        };
        lines = after;
        Some(line)
    })
}

fn put_frame(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&bytes[..length as usize]);
}

/// The length form of a field: it holds any bytes.
fn put_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Takes frames apart: each with the number of bytes up to its end.
pub fn frames(bytes: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let head = bytes.get(at..at + 4)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let frame = bytes.get(at + 4..at + 4 + length)?;
        at += 4 + length;
        Some((frame, at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Value;
    use jiff::tz::TimeZone;

    fn origin() -> Origin {
        Origin {
            watcher: "web".to_string(),
            wid: 2,
            pid: 333,
            which: Which::Stderr,
        }
    }

    fn put(shape: &mut Shape, lines: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let now = "2026-01-02T03:04:05.5Z".parse().unwrap();
        shape.put(&mut out, lines, &origin(), now);
        out
    }

    fn stamp(format: &str) -> Stamp {
        Stamp::in_zone(format, TimeZone::UTC)
    }

    #[test]
    fn each_line_gets_its_head() {
        let mut shape = Shape::Stamped(stamp("%H.%M"));
        assert_eq!(
            put(&mut shape, b"one\n\n\xff two"),
            b"03.04 [333] | one\n03.04 [333] | \n03.04 [333] | \xff two\n"
        );
        let mut shape = Shape::Fancy(stamp("%S"), 1);
        assert_eq!(
            put(&mut shape, b"one\n\ntwo\n"),
            b"\x1b[0;31;40m05 [333] | one\x1b[0m\n\x1b[0;31;40m05 [333] | two\x1b[0m\n"
        );
    }

    #[test]
    fn json_lines_can_be_read() {
        let out = put(&mut Shape::Json, b"a \"b\" \xff\n");
        let value: Value = serde_json::from_slice(&out).unwrap();
        let wanted = json!({"time": "2026-01-02T03:04:05.500000Z", "watcher": "web", "wid": 2, "pid": 333,
                            "stream": "stderr", "line": "a \"b\" \u{fffd}"});
        assert_eq!(value, wanted);
        assert!(out.ends_with(b"}\n"));
    }

    #[test]
    fn messages_are_framed() {
        let mut shape = Shape::Syslog {
            priority: 27,
            tag: "web".to_string(),
            stamp: stamp("%b %e %H:%M:%S"),
            host: None,
        };
        let out = put(&mut shape, b"one\ntwo\0\n");
        let all: Vec<_> = frames(&out).collect();
        assert_eq!(all[0].0, b"<27>Jan  2 03:04:05 web[333]: one");
        assert_eq!(
            all[1],
            (b"<27>Jan  2 03:04:05 web[333]: two ".as_slice(), out.len())
        );
        let mut shape = Shape::Journald {
            priority: 3,
            tag: "t".to_string(),
        };
        let out = put(&mut shape, b"x");
        let (entry, _) = frames(&out).next().unwrap();
        assert!(entry.starts_with(b"PRIORITY\n\x01\0\0\0\0\0\0\x003\n"));
        assert!(entry.ends_with(b"MESSAGE\n\x01\0\0\0\0\0\0\0x\n"));
    }
}
