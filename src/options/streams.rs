//! The classes of output streams and their keys: THE table behind `stdout_stream.KEY` and `stderr_stream.KEY`.
//!
//! Classes and meanings are those of `circus.stream` in circus 0.19; what only circ has is said in the row. Reading a
//! stream's configuration, the errors and warnings of a configuration file, and the reference are driven from here.

use super::{Map, Value, nearest_of, py_repr, to_bool};

/// What takes the output of a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamClass {
    /// A file that may be rotated by size.
    File,
    /// A file that somebody else rotates.
    WatchedFile,
    /// A file that is rotated by time.
    TimedFile,
    /// A file of one JSON object a line.
    Json,
    /// The standard output of the daemon.
    Stdout,
    /// The same, with colour, time and pid.
    FancyStdout,
    /// The system log.
    Syslog,
    /// systemd's journal.
    Journald,
    /// The memory of the daemon.
    Queue,
    /// A class that the user brings, in Python.
    Foreign,
}

use StreamClass::{
    FancyStdout, File, Foreign, Journald, Json, Queue, Stdout, Syslog, TimedFile, WatchedFile,
};

/// One class.
#[derive(Debug, Clone, Copy)]
pub struct ClassSpec {
    /// The name, without `circus.stream.` before it.
    pub name: &'static str,
    /// Which it is.
    pub class: StreamClass,
    /// circus 0.19 has it too.
    pub circus: bool,
    /// One line for the reference.
    pub doc: &'static str,
}

const fn class(
    name: &'static str,
    class: StreamClass,
    circus: bool,
    doc: &'static str,
) -> ClassSpec {
    ClassSpec {
        name,
        class,
        circus,
        doc,
    }
}

/// Every class that has a name. A class with a dot in it that is not here is the user's own, in Python.
#[rustfmt::skip]
pub static STREAM_CLASSES: &[ClassSpec] = &[
    class("FileStream", File, true, "Appends to a file; rotates it by size"),
    class("WatchedFileStream", WatchedFile, true, "Appends to a file that somebody else rotates: opened again when it was moved or removed"),
    class("TimedRotatingFileStream", TimedFile, true, "Appends to a file; rotates it by time"),
    class("JsonStream", Json, false, "One JSON object for each line, to a file (or to the daemon's standard output), rotated by size or time"),
    class("StdoutStream", Stdout, true, "To the daemon's standard output"),
    class("FancyStdoutStream", FancyStdout, true, "To the daemon's standard output, in colour, with time and pid"),
    class("SyslogStream", Syslog, false, "To the system log, one message for each line"),
    class("JournaldStream", Journald, false, "To systemd's journal, one entry for each line"),
    class("QueueStream", Queue, true, "Nowhere; the last of it stays in the daemon's memory for `circ logs`"),
];

/// What the value of a key looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Free text.
    Text,
    /// A number of bytes; `KB`, `MB` and `GB` may follow it.
    Bytes,
    /// A whole number.
    Count,
    /// A whole number from 1.
    Positive,
    /// A truth value.
    Flag,
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct StreamKey {
    /// The name, as it follows `stdout_stream.`.
    pub name: &'static str,
    /// The classes that take it; empty: all.
    pub classes: &'static [StreamClass],
    /// What its value looks like.
    pub kind: StreamKind,
    /// circus 0.19 has it too.
    pub circus: bool,
    /// One line for the reference.
    pub doc: &'static str,
}

const fn key(
    name: &'static str,
    classes: &'static [StreamClass],
    kind: StreamKind,
    circus: bool,
    doc: &'static str,
) -> StreamKey {
    StreamKey {
        name,
        classes,
        kind,
        circus,
        doc,
    }
}

/// The periods of `rotate_when`.
pub static ROTATE_WHEN: &[&str] = &[
    "S", "M", "H", "D", "MIDNIGHT", "W0", "W1", "W2", "W3", "W4", "W5", "W6",
];

/// The colours of `FancyStdoutStream`, in the order of their terminal codes from 31.
pub static COLORS: &[&str] = &["red", "green", "yellow", "blue", "magenta", "cyan", "white"];

/// The facilities of syslog by name, with their numbers (RFC 5424, 6.2.1).
pub static FACILITIES: &[(&str, u8)] = &[
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// The levels of a system log message, from 0.
pub static LEVELS: &[&str] = &[
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

const FILES: &[StreamClass] = &[File, WatchedFile, TimedFile, Json];
const ROTATED: &[StreamClass] = &[File, TimedFile, Json];
const TIMED: &[StreamClass] = &[TimedFile, Json];
const LOGS: &[StreamClass] = &[Syslog, Journald];

/// Every key. A stream without `class` that has a `filename` is a `FileStream`.
#[rustfmt::skip]
pub static STREAM_KEYS: &[StreamKey] = &[
    key("class", &[], StreamKind::Text, true, "What takes the output"),
    key("filename", FILES, StreamKind::Text, true, "The file, relative to the daemon's directory"),
    key("time_format", &[File, WatchedFile, TimedFile, FancyStdout], StreamKind::Text, true, "Puts `TIME [PID] | ` before each line, the time in this strftime format"),
    key("max_bytes", &[File, Json], StreamKind::Bytes, true, "Rotate the file before it gets this large; needs backup_count; 0 means never"),
    key("backup_count", ROTATED, StreamKind::Count, true, "How many rotated files are kept"),
    key("rotate_when", TIMED, StreamKind::Choice(ROTATE_WHEN), true, "Rotate each second, minute, hour, day, at midnight, or on a weekday (W0 is Monday), in any case"),
    key("rotate_interval", TIMED, StreamKind::Positive, true, "That many of these periods between two rotations; 1 if not given"),
    key("utc", TIMED, StreamKind::Flag, true, "The times of rotation and the names of rotated files are in UTC"),
    key("compress", ROTATED, StreamKind::Choice(&["none", "gzip"]), false, "`gzip`: rotated files are compressed, in the background"),
    key("color", &[FancyStdout], StreamKind::Text, true, "red, green, yellow, blue, magenta, cyan or white; one is chosen if not given"),
    key("address", &[Syslog], StreamKind::Text, false, "A socket's path, or `udp://HOST:PORT`; /dev/log if not given"),
    key("facility", &[Syslog], StreamKind::Text, false, "The facility, by name or number; daemon if not given"),
    key("level", LOGS, StreamKind::Choice(LEVELS), false, "The level of each line; info for standard output and err for standard error if not given"),
    key("tag", LOGS, StreamKind::Text, false, "Who says it; the watcher's name if not given"),
    key("path", &[Journald], StreamKind::Text, false, "The journal's socket; /run/systemd/journal/socket if not given"),
    key("overflow", &[], StreamKind::Choice(&["block", "drop"]), false, "When the destination does not take more: `block` lets the workers wait, `drop` throws lines away and counts them"),
];

/// Keys that once meant something in Circus and that it still takes.
static RETIRED: &[&str] = &["refresh_time", "stream"];

/// When a file is rotated by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The period.
    pub every: Period,
    /// How many of them; only the lengths of seconds to days are multiplied, as in Circus.
    pub interval: u32,
    /// In UTC, not in local time.
    pub utc: bool,
}

/// A period of `rotate_when`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// 24 hours.
    Day,
    /// Until midnight.
    Midnight,
    /// Until a weekday has ended; 0 is Monday.
    Week(u8),
}

/// A stream's configuration, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSpec {
    /// What takes the output.
    pub class: StreamClass,
    /// The name of the class as it was given.
    pub class_name: String,
    /// The file, if the class has one.
    pub filename: Option<String>,
    /// Time before each line.
    pub time_format: Option<String>,
    /// Size before which the file is rotated; 0 means never.
    pub max_bytes: u64,
    /// Rotated files that are kept.
    pub backup_count: u32,
    /// Rotation by time.
    pub schedule: Option<Schedule>,
    /// Rotated files are compressed with gzip.
    pub gzip: bool,
    /// The colour's place in [`COLORS`].
    pub color: Option<usize>,
    /// Where the system log or the journal is.
    pub address: Option<String>,
    /// The facility's number.
    pub facility: u8,
    /// The level's number.
    pub level: Option<u8>,
    /// Who says it.
    pub tag: Option<String>,
    /// What is too much is thrown away.
    pub drops: bool,
}

/// Why a stream's configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamError {
    /// The key after `stdout_stream.`.
    pub key: String,
    /// What is wrong, and what was expected.
    pub reason: String,
}

/// The class of this name, in short (`FileStream`) or in full (`circus.stream.FileStream`).
///
/// # Errors
/// There is no such class; with the nearest name.
pub fn find_class(name: &str) -> Result<StreamClass, String> {
    let short = name
        .strip_prefix("circus.stream.")
        .map(|rest| rest.strip_prefix("file_stream.").unwrap_or(rest))
        .unwrap_or(name);
    if let Some(spec) = STREAM_CLASSES.iter().find(|spec| spec.name == short) {
        return Ok(spec.class);
    }
    if short.contains('.') {
        return Ok(Foreign);
    }
    let names = || STREAM_CLASSES.iter().map(|spec| spec.name);
    Err(match nearest_of(short, names()) {
        Some(near) => format!(
            "there is no stream class {}; did you mean {near}?",
            py_repr(name)
        ),
        None => format!(
            "there is no stream class {}; there are {}, and your own as module.Class",
            py_repr(name),
            names().collect::<Vec<_>>().join(", ")
        ),
    })
}

impl StreamSpec {
    /// Reads the entries of `stdout_stream` or `stderr_stream`.
    ///
    /// # Errors
    /// The class does not exist, it lacks something, or a value is not what its key takes.
    pub fn read(conf: &Map<String, Value>) -> Result<StreamSpec, StreamError> {
        let error = |key: &str, reason: String| StreamError {
            key: key.to_string(),
            reason,
        };
        let text = |key: &str| conf.get(key).filter(|v| !v.is_null()).map(plain);
        let (class_name, class) = match text("class") {
            Some(name) => {
                let class = find_class(&name).map_err(|reason| error("class", reason))?;
                (name, class)
            }
            None => ("FileStream".to_string(), File),
        };
        // only what the class looks at is checked: Circus ignores the rest
        let of = |name: &str| {
            let row = STREAM_KEYS.iter().find(|row| row.name == name);
            let taken =
                row.is_some_and(|row| row.classes.is_empty() || row.classes.contains(&class));
            text(name).filter(|_| taken)
        };
        let number = |name: &str| -> Result<u64, StreamError> {
            let Some(text) = of(name) else { return Ok(0) };
            bytes(&text).ok_or_else(|| error(name, format!("{} is not a number", py_repr(&text))))
        };
        let word = |name: &str| -> Result<Option<String>, StreamError> {
            let Some(text) = of(name) else {
                return Ok(None);
            };
            let row = STREAM_KEYS.iter().find(|row| row.name == name);
            let words = match row.map(|row| row.kind) {
                Some(StreamKind::Choice(words)) => words,
                _ => return Ok(Some(text)),
            };
            let wanted = text.trim();
            match words.iter().find(|word| word.eq_ignore_ascii_case(wanted)) {
                Some(word) => Ok(Some((*word).to_string())),
                None => Err(error(
                    name,
                    format!("{} is none of {}", py_repr(&text), words.join(", ")),
                )),
            }
        };
        let backup_count = u32::try_from(number("backup_count")?).unwrap_or(u32::MAX);
        let schedule = match word("rotate_when")? {
            None if class == TimedFile => {
                let reason = format!("{class_name} needs it: one of {}", ROTATE_WHEN.join(", "));
                return Err(error("rotate_when", reason));
            }
            None => None,
            Some(when) => {
                let interval = match of("rotate_interval") {
                    None => 1,
                    Some(text) => text.trim().parse().ok().filter(|n| *n > 0).ok_or_else(|| {
                        let reason = format!("{} is no number from 1 upwards", py_repr(&text));
                        error("rotate_interval", reason)
                    })?,
                };
                let utc = match of("utc") {
                    None => false,
                    Some(text) => to_bool(text.trim()).map_err(|reason| error("utc", reason))?,
                };
                Some(Schedule {
                    every: period(&when),
                    interval,
                    utc,
                })
            }
        };
        let facility = match of("facility") {
            None => 3,
            Some(text) => facility(text.trim()).ok_or_else(|| {
                let names: Vec<&str> = FACILITIES.iter().map(|(name, _)| *name).collect();
                let reason = format!("{} is none of {}", py_repr(&text), names.join(", "));
                error("facility", reason)
            })?,
        };
        let level = word("level")?.and_then(|word| {
            let place = LEVELS.iter().position(|level| *level == word)?;
            u8::try_from(place).ok()
        });
        let address = of("address").or_else(|| of("path"));
        if let Some(target) =
            of("address").and_then(|a| a.strip_prefix("udp://").map(str::to_string))
        {
            let port = target.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) {
                let reason = format!("udp://{target} has no port; write udp://HOST:514");
                return Err(error("address", reason));
            }
        }
        Ok(StreamSpec {
            class,
            class_name,
            filename: of("filename").filter(|name| !name.is_empty()),
            time_format: of("time_format"),
            max_bytes: number("max_bytes")?,
            backup_count,
            schedule,
            gzip: word("compress")?.as_deref() == Some("gzip"),
            color: of("color").and_then(|name| COLORS.iter().position(|color| *color == name)),
            address,
            facility,
            level,
            tag: of("tag"),
            drops: word("overflow")?.as_deref() == Some("drop"),
        })
    }

    /// What is allowed in the entries of a stream but probably not meant: the key, and a sentence.
    pub fn doubts(conf: &Map<String, Value>) -> Vec<(String, String)> {
        let Ok(spec) = StreamSpec::read(conf) else {
            return Vec::new();
        };
        let mut doubts = Vec::new();
        if spec.class == Foreign {
            return doubts;
        }
        for name in conf.keys() {
            let row = STREAM_KEYS.iter().find(|row| row.name == name);
            let doubt = match row {
                Some(row) if row.classes.is_empty() || row.classes.contains(&spec.class) => {
                    continue;
                }
                Some(_) => format!("has no effect with {}", spec.class_name),
                None if RETIRED.contains(&name.as_str()) => continue,
                None => match nearest_of(name, STREAM_KEYS.iter().map(|row| row.name)) {
                    Some(near) => format!("is not known and has no effect; did you mean {near}?"),
                    None => "is not known and has no effect".to_string(),
                },
            };
            doubts.push((name.clone(), doubt));
        }
        let mut doubt = |key: &str, text: &str| doubts.push((key.to_string(), text.to_string()));
        if spec.max_bytes > 0 && spec.backup_count == 0 {
            doubt(
                "max_bytes",
                "without backup_count the file is never rotated",
            );
        }
        if spec.gzip && spec.schedule.is_none() && spec.max_bytes == 0 {
            doubt(
                "compress",
                "the file is never rotated, so nothing is compressed",
            );
        }
        if matches!(spec.class, File | WatchedFile | TimedFile) && spec.filename.is_none() {
            doubt(
                "class",
                "there is no filename: a file in the temporary directory is used",
            );
        }
        if spec.class == FancyStdout && spec.color.is_none() && conf.contains_key("color") {
            doubt(
                "color",
                &format!("is none of {}; one is chosen", COLORS.join(", ")),
            );
        }
        doubts
    }
}

/// The text of a value, whether it came from a file or over the wire.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A number of bytes; a negative one means none, as for Python's handlers.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let upper = text.to_ascii_uppercase();
    let units = [("KB", 1u64 << 10), ("MB", 1 << 20), ("GB", 1 << 30)];
    let (digits, unit) = units
        .iter()
        .find_map(|(name, unit)| Some((upper.strip_suffix(name)?.trim_end(), *unit)))
        .unwrap_or((&upper, 1));
    let number: i64 = digits.replace('_', "").parse().ok()?;
    u64::try_from(number.max(0)).ok()?.checked_mul(unit)
}

fn period(word: &str) -> Period {
    match word {
        "S" => Period::Second,
        "M" => Period::Minute,
        "H" => Period::Hour,
        "D" => Period::Day,
        "MIDNIGHT" => Period::Midnight,
        week => Period::Week(
            week.bytes()
                .next_back()
                .map_or(0, |day| day.saturating_sub(b'0')),
        ),
    }
}

fn facility(text: &str) -> Option<u8> {
    let by_name = FACILITIES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    by_name
        .map(|(_, number)| *number)
        .or_else(|| text.parse().ok().filter(|number| *number < 24))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(conf: Value) -> Result<StreamSpec, StreamError> {
        StreamSpec::read(conf.as_object().unwrap())
    }

    fn doubts(conf: Value) -> String {
        let doubts = StreamSpec::doubts(conf.as_object().unwrap());
        let texts = doubts
            .into_iter()
            .map(|(key, text)| format!("{key} {text}\n"));
        texts.collect()
    }

    #[test]
    fn classes_in_short_and_in_full() {
        for (name, class) in [
            ("FileStream", File),
            ("circus.stream.FileStream", File),
            ("circus.stream.file_stream.WatchedFileStream", WatchedFile),
            ("circus.stream.FancyStdoutStream", FancyStdout),
            ("mine.MyStream", Foreign),
        ] {
            assert_eq!(find_class(name), Ok(class), "{name}");
        }
        assert!(
            find_class("FileSteam")
                .unwrap_err()
                .contains("did you mean FileStream?")
        );
        assert!(
            find_class("Nonsense")
                .unwrap_err()
                .contains("JournaldStream")
        );
        assert_eq!(read(json!({"filename": "x"})).unwrap().class, File);
    }

    #[test]
    fn values_come_as_text_and_as_json() {
        let spec = read(
            json!({"class": "FileStream", "filename": "x", "max_bytes": "10_000", "backup_count": 5,
                               "compress": "GZIP", "overflow": "drop"}),
        );
        let spec = spec.unwrap();
        assert_eq!((spec.max_bytes, spec.backup_count), (10_000, 5));
        assert!(spec.gzip && spec.drops);
        let spec = read(
            json!({"class": "TimedRotatingFileStream", "filename": "x", "rotate_when": "midnight",
                               "rotate_interval": "2", "utc": "False"}),
        );
        let wanted = Schedule {
            every: Period::Midnight,
            interval: 2,
            utc: false,
        };
        assert_eq!(spec.unwrap().schedule, Some(wanted));
        let spec =
            read(json!({"class": "JsonStream", "max_bytes": "2MB", "rotate_when": "w3"})).unwrap();
        assert_eq!(spec.max_bytes, 2 << 20);
        assert_eq!(spec.schedule.unwrap().every, Period::Week(3));
    }

    #[test]
    fn what_cannot_be_used_names_its_key() {
        for (conf, key) in [
            (json!({"class": "X"}), "class"),
            (json!({"filename": "x", "max_bytes": "many"}), "max_bytes"),
            (
                json!({"filename": "x", "backup_count": "1.5"}),
                "backup_count",
            ),
            (
                json!({"class": "TimedRotatingFileStream", "filename": "x"}),
                "rotate_when",
            ),
            (
                json!({"class": "TimedRotatingFileStream", "rotate_when": "W7"}),
                "rotate_when",
            ),
            (
                json!({"class": "TimedRotatingFileStream", "rotate_when": "S", "rotate_interval": 0}),
                "rotate_interval",
            ),
            (
                json!({"class": "SyslogStream", "facility": "x"}),
                "facility",
            ),
            (
                json!({"class": "SyslogStream", "address": "udp://host"}),
                "address",
            ),
            (json!({"filename": "x", "overflow": "spill"}), "overflow"),
            (json!({"filename": "x", "compress": "zip"}), "compress"),
        ] {
            assert_eq!(read(conf.clone()).unwrap_err().key, key, "{conf}");
        }
    }

    #[test]
    fn what_has_no_effect_is_doubted() {
        assert_eq!(
            doubts(json!({"class": "FileStream", "filename": "x", "refresh_time": 1})),
            ""
        );
        assert_eq!(doubts(json!({"class": "mine.Stream", "anything": 1})), "");
        for (conf, words) in [
            (
                json!({"filename": "x", "max_byte": 1}),
                "max_byte is not known and has no effect; did you mean max_bytes?",
            ),
            (
                json!({"class": "StdoutStream", "filename": "x"}),
                "filename has no effect with StdoutStream",
            ),
            (json!({"filename": "x", "max_bytes": 10}), "never rotated"),
            (
                json!({"filename": "x", "compress": "gzip"}),
                "nothing is compressed",
            ),
            (json!({"class": "FileStream"}), "temporary directory"),
            (
                json!({"class": "FancyStdoutStream", "color": "pink"}),
                "color is none of red",
            ),
        ] {
            let told = doubts(conf.clone());
            assert!(told.contains(words), "{conf}: {told}");
        }
    }
}
