//! What the workers of a watcher say, as server-sent events: from the daemon's memory, or from the file that it goes to.

use super::handlers::Viewer;
use super::hub::{Daemon, object};
use super::problem::Problem;
use serde_json::{Map, Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// From one look for news to the next.
const PAUSE: Duration = Duration::from_millis(500);

/// A log file that is read on from some place, over its rotation.
pub trait LogFile: Send {
    /// More of it; empty if that is all for now. May block on a disk.
    ///
    /// # Errors
    /// A sentence; reading goes on elsewhere.
    fn more(&mut self) -> Result<Vec<u8>, String>;
}

/// Opens a log file so many lines before its end.
pub type OpenLog = fn(&Path, usize) -> io::Result<Box<dyn LogFile>>;

/// What somebody wants to read.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The watcher.
    pub watcher: String,
    /// stdout or stderr.
    pub stream: String,
    /// Lines from before.
    pub tail: usize,
    /// Go on.
    pub follow: bool,
}

/// Where an output can be read.
pub enum Source {
    /// In the daemon's memory: what is there, and how many bytes were ever said.
    Memory(String, u64),
    /// In a file.
    File(PathBuf),
    /// Nowhere; why.
    Nowhere(String),
}

/// Finds where an output can be read.
///
/// # Errors
/// There is no such watcher, or no daemon.
pub async fn source(daemon: &Daemon, wish: &Wish) -> Result<Source, Problem> {
    let reply = daemon.ask("logtail", question(wish, 0)).await;
    let reply = reply.map_err(super::handlers::unreachable)?;
    if reply.get("status").and_then(Value::as_str) != Some("ok") {
        return match reply.get("errno").and_then(Value::as_i64) {
            // a circusd
            Some(2) => of_circus(daemon, wish).await,
            _ => Err(super::handlers::refused(&reply)),
        };
    }
    let text = |key: &str| reply.get(key).and_then(Value::as_str);
    if let Some(file) = text("file") {
        return Ok(Source::File(file.into()));
    }
    Ok(match (text("text"), text("class")) {
        (Some(text), _) => Source::Memory(text.to_owned(), end_of(&reply)),
        (None, Some(class)) => Source::Nowhere(format!(
            "the output goes through a {class}: it can be read where that puts it"
        )),
        (None, None) => Source::Nowhere(format!(
            "the output goes where the daemon's own goes; with {}_stream.class = FileStream, for example, it could be read here",
            wish.stream
        )),
    })
}

async fn of_circus(daemon: &Daemon, wish: &Wish) -> Result<Source, Problem> {
    let name = object(json!({"name": wish.watcher}));
    let reply = daemon.ask("options", name).await;
    let reply = reply.map_err(super::handlers::unreachable)?;
    let options = reply.get("options").and_then(Value::as_object);
    let options = options.ok_or_else(|| super::handlers::refused(&reply))?;
    let conf = options.get(&format!("{}_stream_conf", wish.stream));
    let file = conf
        .and_then(|conf| conf.get("filename"))
        .and_then(Value::as_str);
    Ok(match file.filter(|file| file.starts_with('/')) {
        Some(file) => Source::File(file.into()),
        None => {
            Source::Nowhere("the output goes to no file that this console knows the path of".into())
        }
    })
}

fn question(wish: &Wish, after: u64) -> Map<String, Value> {
    object(json!({"name": wish.watcher, "stream": wish.stream, "after": after}))
}

fn end_of(reply: &Map<String, Value>) -> u64 {
    reply.get("end").and_then(Value::as_u64).unwrap_or(0)
}

/// Tells a viewer what is said, until it leaves or there is no more.
pub async fn tell(daemon: Arc<Daemon>, wish: Wish, source: Source, open: OpenLog, viewer: Viewer) {
    let reason = match source {
        Source::Nowhere(reason) => reason,
        Source::Memory(text, end) => of_memory(&daemon, &wish, &text, end, &viewer).await,
        Source::File(path) if !daemon.is_local() => format!(
            "the output goes to {} on the daemon's machine: it can be read there",
            path.display()
        ),
        Source::File(path) => of_file(&wish, path, open, &viewer).await,
    };
    viewer.tell("end", &json!({"reason": reason})).await;
}

async fn of_memory(daemon: &Daemon, wish: &Wish, text: &str, end: u64, viewer: &Viewer) -> String {
    if !tell_text(viewer, last_lines(text, wish.tail)).await {
        return String::new();
    }
    let (mut end, mut up) = (end, true);
    if !wish.follow {
        return "that was all".to_owned();
    }
    loop {
        tokio::time::sleep(PAUSE).await;
        let reply = daemon.ask("logtail", question(wish, end)).await;
        let reply = match reply {
            Ok(reply) => reply,
            Err(why) => {
                if up && !viewer.state(&Err(why.to_string())).await {
                    return String::new();
                }
                up = false;
                // a daemon that comes back counts anew
                end = 0;
                if !viewer.is_there() {
                    return String::new();
                }
                continue;
            }
        };
        if !up && !viewer.state(&Ok(())).await {
            return String::new();
        }
        up = true;
        let Some(text) = reply.get("text").and_then(Value::as_str) else {
            return "the output goes elsewhere now".to_owned();
        };
        // another daemon, that has said less
        end = end_of(&reply);
        if !tell_text(viewer, text).await {
            return String::new();
        }
    }
}

async fn of_file(wish: &Wish, path: PathBuf, open: OpenLog, viewer: &Viewer) -> String {
    let (shown, lines) = (path.display().to_string(), wish.tail);
    let opened = tokio::task::spawn_blocking(move || open(&path, lines)).await;
    let mut file = match opened {
        Ok(Ok(file)) => file,
        Ok(Err(error)) => return format!("cannot read {shown}: {error}"),
        Err(_) => return format!("cannot read {shown}"),
    };
    let mut left = Vec::new();
    loop {
        // a disk may hang
        let read = tokio::task::spawn_blocking(move || {
            let more = file.more();
            (file, more)
        });
        let Ok((back, more)) = read.await else {
            return format!("cannot read {shown}");
        };
        file = back;
        let bytes = match more {
            Ok(bytes) => bytes,
            Err(why) => return why,
        };
        if bytes.is_empty() {
            if !wish.follow {
                tell_text(viewer, &String::from_utf8_lossy(&left)).await;
                return "that was all".to_owned();
            }
            if !viewer.is_there() {
                return String::new();
            }
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        left.extend_from_slice(&bytes);
        let text = whole_text(&mut left);
        if !tell_text(viewer, &text).await {
            return String::new();
        }
    }
}

/// Tells a piece, if there is one; false if nobody is there any more.
async fn tell_text(viewer: &Viewer, text: &str) -> bool {
    text.is_empty() || viewer.tell("log", &json!({"text": text})).await
}

/// The last lines of a text.
fn last_lines(text: &str, lines: usize) -> &str {
    if lines == 0 {
        return "";
    }
    let body = text.strip_suffix('\n').unwrap_or(text);
    let begin = body.rmatch_indices('\n').nth(lines - 1);
    begin.map_or(text, |(at, _)| text.get(at + 1..).unwrap_or(""))
}

/// Takes the text out of bytes; the beginning of a character stays there until the rest of it comes.
fn whole_text(bytes: &mut Vec<u8>) -> String {
    let end = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Ok(_) | Err(_) => {
            // what is wrong in the middle is replaced; its end may still be the beginning of a character
            let from = bytes.len().saturating_sub(3);
            let tail = bytes.get(from..).unwrap_or_default();
            let cut = tail.iter().rposition(|byte| *byte >= 0xc0);
            match cut.map(|at| (from + at, std::str::from_utf8(&tail[at..]))) {
                Some((at, Err(error)))
                    if error.error_len().is_none() && error.valid_up_to() == 0 =>
                {
                    at
                }
                _ => bytes.len(),
            }
        }
    };
    let rest = bytes.split_off(end);
    let text = String::from_utf8_lossy(bytes).into_owned();
    *bytes = rest;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_from_the_end() {
        let text = "a\nb\nc\n";
        for (lines, want) in [(0, ""), (1, "c\n"), (2, "b\nc\n"), (3, text), (9, text)] {
            assert_eq!(last_lines(text, lines), want, "{lines}");
        }
        assert_eq!(last_lines("a\nb", 1), "b");
        assert_eq!(last_lines("", 3), "");
    }

    #[test]
    fn characters_are_not_torn() {
        let mut bytes = "aé".as_bytes()[..2].to_vec();
        assert_eq!(whole_text(&mut bytes), "a");
        bytes.extend_from_slice(&"é".as_bytes()[1..]);
        assert_eq!(whole_text(&mut bytes), "é");
        let mut bytes = b"x\xff y\xe2\x82".to_vec();
        assert_eq!(whole_text(&mut bytes), "x\u{fffd} y");
        assert_eq!(bytes, b"\xe2\x82");
        let mut bytes = b"\xff\xff".to_vec();
        assert_eq!(whole_text(&mut bytes), "\u{fffd}\u{fffd}");
        assert!(bytes.is_empty());
    }
}
