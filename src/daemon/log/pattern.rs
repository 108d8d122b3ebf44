//! What a formatter of Python's `logging` says a line should look like: `%(asctime)s %(name)s …`, and the same in the
//! styles `{` and `$`.

use super::format::{LOGGER, Writer, level_name, tame};
use super::record::Record;
use jiff::fmt::strtime;
use tracing::Level;

/// A formatter's format and date format, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    parts: Vec<Part>,
    /// A format of strftime; Python's own form with milliseconds if there is none.
    date: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Attribute(Attribute, Shape),
}

/// How a value is set: `%-8.3s`, `{:>8}`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Shape {
    width: usize,
    side: Side,
    zeros: bool,
    precision: Option<usize>,
}

/// Where a value stands in its width.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Side {
    Left,
    #[default]
    Right,
    Middle,
}

/// What a record has (Python's LogRecord attributes).
#[derive(Debug, Clone, Copy, PartialEq)]
enum Attribute {
    Time,
    Name,
    Level,
    LevelNumber,
    Message,
    Process,
    Created,
    Milliseconds,
    /// The source file and line: of circ's source, as circusd's lines have those of its own.
    Path,
    File,
    Module,
    Line,
    /// What one thread and one Python process always answer.
    Constant(&'static str),
}

fn attribute(name: &str) -> Option<Attribute> {
    Some(match name {
        "asctime" => Attribute::Time,
        "name" => Attribute::Name,
        "levelname" => Attribute::Level,
        "levelno" => Attribute::LevelNumber,
        "message" | "msg" => Attribute::Message,
        "process" => Attribute::Process,
        "created" => Attribute::Created,
        "msecs" => Attribute::Milliseconds,
        "pathname" => Attribute::Path,
        "filename" => Attribute::File,
        "module" => Attribute::Module,
        "lineno" => Attribute::Line,
        "processName" => Attribute::Constant("MainProcess"),
        "threadName" => Attribute::Constant("MainThread"),
        "thread" | "relativeCreated" => Attribute::Constant("0"),
        "funcName" => Attribute::Constant("-"),
        "taskName" | "exc_info" | "exc_text" | "stack_info" => Attribute::Constant("None"),
        _ => return None,
    })
}

impl Pattern {
    /// From a formatter's `format`, `datefmt` and `style` (`%`, `{` or `$`).
    ///
    /// # Errors
    /// What in it is no format, or names no attribute of a record.
    pub fn parse(format: &str, date: Option<&str>, style: &str) -> Result<Pattern, String> {
        let parts = match style {
            "%" => percent(format),
            "{" => braces(format),
            "$" => dollars(format),
            _ => return Err(format!("style '{style}' is not known; use %, {{ or $")),
        }?;
        if let Some(date) = date {
            strftime(date, &jiff::Zoned::now())
                .ok_or_else(|| format!("datefmt '{date}' cannot be used"))?;
        }
        let date = date.map(str::to_string);
        Ok(Pattern { parts, date })
    }

    /// The record as the pattern says, without an end.
    pub fn render(&self, record: &Record, writer: &Writer) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Attribute(attribute, shape) => {
                    shape.set(&self.value(*attribute, record, writer), &mut text);
                }
            }
        }
        text
    }

    fn value(&self, attribute: Attribute, record: &Record, writer: &Writer) -> String {
        let (path, line) = record.source.unwrap_or(("circ", 0));
        let file = path.rsplit('/').next().unwrap_or(path);
        match attribute {
            Attribute::Time => {
                let time = record.time.to_zoned(writer.zone.clone());
                match &self.date {
                    Some(date) => strftime(date, &time).unwrap_or_default(),
                    None => time.strftime("%Y-%m-%d %H:%M:%S,%3f").to_string(),
                }
            }
            Attribute::Name => LOGGER.to_string(),
            Attribute::Level => level_name(record.level).to_string(),
            Attribute::LevelNumber => level_number(record.level).to_string(),
            Attribute::Message => tame(&record.message),
            Attribute::Process => writer.pid.to_string(),
            Attribute::Created => {
                let micros = record.time.as_microsecond();
                format!(
                    "{}.{:06}",
                    micros.div_euclid(1_000_000),
                    micros.rem_euclid(1_000_000)
                )
            }
            Attribute::Milliseconds => record.time.subsec_millisecond().to_string(),
            Attribute::Path => path.to_string(),
            Attribute::File => file.to_string(),
            Attribute::Module => file.strip_suffix(".rs").unwrap_or(file).to_string(),
            Attribute::Line => line.to_string(),
            Attribute::Constant(value) => value.to_string(),
        }
    }
}

/// The time in the way of strftime; unknown directives stay as they are, as in Python. `None` if nothing can be made
/// of it.
fn strftime(format: &str, time: &jiff::Zoned) -> Option<String> {
    let config = strtime::Config::new().lenient(true);
    let mut text = String::new();
    strtime::BrokenDownTime::from(time)
        .format_with_config(&config, format, &mut text)
        .ok()?;
    Some(text)
}

fn level_number(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG | Level::TRACE => 10,
    }
}

impl Shape {
    fn set(self, value: &str, text: &mut String) {
        let value = match self.precision {
            Some(most) => value.chars().take(most).collect(),
            None => value.to_string(),
        };
        let missing = self.width.saturating_sub(value.chars().count());
        let before = match self.side {
            Side::Left => 0,
            Side::Right => missing,
            Side::Middle => missing / 2,
        };
        let fill = if self.zeros { '0' } else { ' ' };
        text.extend(std::iter::repeat_n(fill, before));
        text.push_str(&value);
        text.extend(std::iter::repeat_n(' ', missing - before));
    }
}

/// The widest field that is set: a typing mistake must not fill the disk.
const WIDEST: usize = 1000;

fn named(name: &str) -> Result<Attribute, String> {
    attribute(name).ok_or_else(|| format!("'{name}' is no attribute of a log record"))
}

fn literal(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(before)) => before.push_str(text),
        _ if text.is_empty() => {}
        _ => parts.push(Part::Text(text.to_string())),
    }
}

/// `%(name)-8s`, `%%`.
fn percent(format: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        literal(&mut parts, before);
        if let Some(after) = after.strip_prefix('%') {
            literal(&mut parts, "%");
            rest = after;
            continue;
        }
        let (name, after) = after
            .strip_prefix('(')
            .and_then(|after| after.split_once(')'))
            .ok_or_else(|| format!("'%{}' is no %(attribute)s", brief(after)))?;
        let end = after
            .find(|c: char| c.is_ascii_alphabetic())
            .ok_or_else(|| format!("%({name}) has no type, such as s"))?;
        let (flags, after) = after.split_at(end);
        // the first is an ASCII letter
        let (kind, after) = after.split_at(1);
        if !"sdifFeEgGr".contains(kind) {
            return Err(format!(
                "%({name}){flags}{kind}: type '{kind}' is not known"
            ));
        }
        let mut shape = shape(flags, name)?;
        if kind != "s" && kind != "r" {
            // of numbers, which here have no digits to cut
            shape.precision = None;
        }
        parts.push(Part::Attribute(named(name)?, shape));
        rest = after;
    }
    literal(&mut parts, rest);
    Ok(parts)
}

/// Flags, width and precision: `-8`, `05`, `8.3`, `<8`, `^20`.
fn shape(text: &str, name: &str) -> Result<Shape, String> {
    let wrong = || format!("the form '{text}' of {name} is not known");
    let mut shape = Shape::default();
    let mut rest = text;
    while let Some(flag) = rest.chars().next() {
        match flag {
            '-' | '<' => shape.side = Side::Left,
            '^' => shape.side = Side::Middle,
            '0' => shape.zeros = true,
            '>' | ' ' | '+' | '#' => {}
            _ => break,
        }
        rest = &rest[1..]; // each of them is one byte
    }
    shape.zeros &= shape.side == Side::Right;
    let (width, precision) = match rest.split_once('.') {
        Some((width, precision)) => (width, Some(precision)),
        None => (rest, None),
    };
    let number = |text: &str| -> Result<usize, String> {
        match text {
            "" => Ok(0),
            text => text.parse().map_err(|_| wrong()),
        }
    };
    shape.width = number(width)?.min(WIDEST);
    shape.precision = precision.map(number).transpose()?;
    Ok(shape)
}

/// `{name:<8}`, `{{`.
fn braces(format: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, after) = rest.split_at(at);
        literal(&mut parts, before);
        let (brace, after) = after.split_at(1);
        if let Some(after) = after.strip_prefix(brace) {
            literal(&mut parts, brace);
            rest = after;
            continue;
        }
        let (inside, after) = match brace {
            "{" => after.split_once('}'),
            _ => None,
        }
        .ok_or_else(|| format!("a single '{brace}'"))?;
        let (name, spec) = inside.split_once(':').unwrap_or((inside, ""));
        let name = name.split('!').next().unwrap_or(name);
        let spec = spec.trim_end_matches(['s', 'd', 'f']);
        let mut shape = shape(spec, name)?;
        // texts stand on the left, numbers on the right, unless it is said
        let number = ["levelno", "process", "created", "msecs", "lineno"].contains(&name);
        if !number && !spec.contains(['<', '>', '^']) {
            shape.side = Side::Left;
        }
        if number {
            shape.precision = None;
        }
        parts.push(Part::Attribute(named(name)?, shape));
        rest = after;
    }
    literal(&mut parts, rest);
    Ok(parts)
}

/// `$name`, `${name}`, `$$`.
fn dollars(format: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('$') {
        literal(&mut parts, before);
        if let Some(after) = after.strip_prefix('$') {
            literal(&mut parts, "$");
            rest = after;
            continue;
        }
        let (name, after) = match after.strip_prefix('{') {
            Some(inside) => inside.split_once('}'),
            None => {
                let end = after
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(after.len());
                Some(after.split_at(end))
            }
        }
        .ok_or_else(|| format!("'${}' is no ${{attribute}}", brief(after)))?;
        parts.push(Part::Attribute(named(name)?, Shape::default()));
        rest = after;
    }
    literal(&mut parts, rest);
    Ok(parts)
}

fn brief(text: &str) -> String {
    text.chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    fn render(format: &str, date: Option<&str>, style: &str) -> String {
        let mut record = Record::new(Level::INFO, "web started".into());
        record.time = "2026-01-02T03:04:05.067Z".parse().unwrap();
        record.source = Some(("src/daemon/shell.rs", 12));
        let writer = Writer {
            pid: 42,
            zone: TimeZone::UTC,
        };
        Pattern::parse(format, date, style)
            .unwrap_or_else(|why| panic!("{format}: {why}"))
            .render(&record, &writer)
    }

    /// What Python 3.11 makes of the same records.
    #[test]
    fn as_python_renders_it() {
        for (format, date, style, expected) in [
            (
                "%(asctime)s - %(name)s - [%(levelname)s] %(message)s",
                None,
                "%",
                "2026-01-02 03:04:05,067 - circus - [INFO] web started",
            ),
            ("%(asctime)s", Some("%d/%b %H:%M"), "%", "02/Jan 03:04"),
            (
                "%(levelname)-8s|%(levelname)8s|",
                None,
                "%",
                "INFO    |    INFO|",
            ),
            (
                "%(process)06d %(levelno)s 100%%",
                None,
                "%",
                "000042 20 100%",
            ),
            ("%(levelname).1s %(message).3s", None, "%", "I web"),
            (
                "%(filename)s:%(lineno)d %(module)s",
                None,
                "%",
                "shell.rs:12 shell",
            ),
            ("%(msecs)03d", None, "%", "067"),
            (
                "{levelname:<8}|{process:>6}|{levelname:^8}|{{x}}",
                None,
                "{",
                "INFO    |    42|  INFO  |{x}",
            ),
            ("$levelname ${name}s $$", None, "$", "INFO circuss $"),
            ("no attribute", None, "%", "no attribute"),
        ] {
            assert_eq!(render(format, date, style), expected, "{format}");
        }
    }

    #[test]
    fn what_is_no_format_is_refused() {
        for (format, style, reason) in [
            ("%(nothing)s", "%", "'nothing' is no attribute"),
            ("%s", "%", "no %(attribute)s"),
            ("%(name)", "%", "no type"),
            ("%(name)q", "%", "type 'q'"),
            ("%(name)xs", "%", "type 'x'"),
            ("{name", "{", "single '{'"),
            ("name}", "{", "single '}'"),
            ("$nothing", "$", "'nothing'"),
            ("x", "!", "style '!'"),
        ] {
            let error = Pattern::parse(format, None, style).unwrap_err();
            assert!(error.contains(reason), "{format}: {error}");
        }
    }
}
