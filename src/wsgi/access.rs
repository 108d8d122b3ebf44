//! The access log: a line for each request, when the last of its answer has been handed over or its client has gone.
//!
//! A thread writes it, so that no disk holds up a request. What it does not manage to write is counted and told of in the
//! log; no request waits for it. A file that was moved away (by logrotate) is made anew.

use super::environ::Ends;
use http::Request;
use http::header::{self, HeaderName};
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Lines that may wait to be written.
const WAITING: usize = 8192;
/// How often a file is looked for under its name, while there are lines.
const LOOK: Duration = Duration::from_secs(1);

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The Common Log Format.
    Common,
    /// The same, with where the client came from and what it is.
    Combined,
    /// An object in JSON.
    Json,
}

impl Form {
    /// Their names.
    pub const NAMES: [&str; 3] = ["common", "combined", "json"];

    /// The form of this name.
    pub fn named(name: &str) -> Option<Form> {
        Some(match name {
            "common" => Form::Common,
            "combined" => Form::Combined,
            "json" => Form::Json,
            _ => return None,
        })
    }
}

/// What a line tells.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When the head of the request had come.
    pub at: SystemTime,
    /// The peer; empty through a Unix socket. For whom it speaks is the application's to judge.
    pub remote: String,
    /// The method.
    pub method: String,
    /// The target, as it was written.
    pub uri: String,
    /// `HTTP/1.1`, for example.
    pub protocol: String,
    /// The headers `Host`, `Referer` and `User-Agent`.
    pub host: String,
    /// See there.
    pub referer: String,
    /// See there.
    pub agent: String,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of its body.
    pub bytes: u64,
    /// From the head of the request to the end of the answer.
    pub took: Duration,
    /// All of it was handed over.
    pub whole: bool,
}

impl Entry {
    /// What is known when the head of the request is there.
    pub fn begin<B>(request: &Request<B>, ends: &Ends) -> Entry {
        let text = |name: HeaderName| {
            let value = request.headers().get(name);
            value.map_or_else(String::new, |value| {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            })
        };
        Entry {
            at: SystemTime::now(),
            remote: ends
                .remote
                .map_or_else(String::new, |a| a.to_canonical().to_string()),
            method: request.method().to_string(),
            uri: request.uri().to_string(),
            protocol: format!("{:?}", request.version()),
            host: text(header::HOST),
            referer: text(header::REFERER),
            agent: text(header::USER_AGENT),
            status: 0,
            bytes: 0,
            took: Duration::ZERO,
            whole: false,
        }
    }

    /// Its line, with the line's end.
    pub fn line(&self, form: Form) -> String {
        let zoned = jiff::Timestamp::try_from(self.at)
            .unwrap_or_default()
            .to_zoned(jiff::tz::TimeZone::system());
        if form == Form::Json {
            let object = json!({
                "time": zoned.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string(),
                "remote": self.remote,
                "method": self.method,
                "uri": self.uri,
                "protocol": self.protocol,
                "host": self.host,
                "referer": self.referer,
                "agent": self.agent,
                "status": self.status,
                "bytes": self.bytes,
                "seconds": self.took.as_secs_f64(),
                "whole": self.whole,
            });
            return format!("{object}\n");
        }
        let dash = |text: &str| match text {
            "" => "-".to_string(),
            text => quoted(text),
        };
        let mut line = format!(
            "{} - - [{}] \"{} {} {}\" {} {}",
            dash(&self.remote),
            zoned.strftime("%d/%b/%Y:%H:%M:%S %z"),
            quoted(&self.method),
            quoted(&self.uri),
            self.protocol,
            self.status,
            match self.bytes {
                0 => "-".to_string(),
                bytes => bytes.to_string(),
            },
        );
        if form == Form::Combined {
            let (referer, agent) = (dash(&self.referer), dash(&self.agent));
            line.push_str(&format!(" \"{referer}\" \"{agent}\""));
        }
        line.push('\n');
        line
    }
}

/// What a client has sent must not make lines of its own.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            char if char.is_control() => out.extend(char.escape_default()),
            char => out.push(char),
        }
    }
    out
}

/// Where lines go.
#[derive(Debug)]
pub struct Log {
    form: Form,
    lines: Option<SyncSender<String>>,
    lost: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// To a file, or to standard output if the path is `-`.
    ///
    /// # Errors
    /// It cannot be opened; no thread can be started.
    pub fn open(path: &Path, form: Form) -> io::Result<Log> {
        let (lines, waiting) = sync_channel(WAITING);
        let mut target = Target::open(path)?;
        let lost = Arc::<AtomicU64>::default();
        let thread = {
            let lost = lost.clone();
            let write = move || target.attend(&waiting, &lost);
            std::thread::Builder::new()
                .name("access-log".into())
                .spawn(write)?
        };
        Ok(Log {
            form,
            lines: Some(lines),
            lost,
            thread: Some(thread),
        })
    }

    /// Writes a line soon.
    pub fn write(&self, entry: &Entry) {
        let Some(lines) = &self.lines else { return };
        if lines.try_send(entry.line(self.form)).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // its end is what ends the thread, when it has written all
        self.lines = None;
        if let Some(thread) = self.thread.take() {
            // it has nothing to say
            let _ = thread.join();
        }
    }
}

struct Target {
    /// None: standard output.
    path: Option<PathBuf>,
    file: Option<File>,
    looked: Instant,
    failed: bool,
}

impl Target {
    fn open(path: &Path) -> io::Result<Target> {
        let path = (path != Path::new("-")).then(|| path.to_path_buf());
        Ok(Target {
            file: path.as_deref().map(append).transpose()?,
            path,
            looked: Instant::now(),
            failed: false,
        })
    }

    fn attend(&mut self, waiting: &Receiver<String>, lost: &AtomicU64) {
        while let Ok(line) = waiting.recv() {
            let mut block = line;
            let mut count = 1;
            while block.len() < 1 << 16
                && let Ok(line) = waiting.try_recv()
            {
                block.push_str(&line);
                count += 1;
            }
            self.look();
            let written = match &mut self.file {
                Some(file) => file.write_all(block.as_bytes()),
                None => io::stdout().write_all(block.as_bytes()),
            };
            match written {
                Ok(()) => self.failed = false,
                Err(error) => {
                    lost.fetch_add(count, Relaxed);
                    if !std::mem::replace(&mut self.failed, true) {
                        tracing::error!("cannot write the access log: {error}");
                    }
                }
            }
            let lost = if self.failed {
                0
            } else {
                lost.swap(0, Relaxed)
            };
            if lost > 0 {
                tracing::warn!("{lost} lines of the access log were lost");
            }
        }
    }

    /// Opens the file anew if it is no longer what its name says.
    fn look(&mut self) {
        let (Some(path), Some(file)) = (&self.path, &self.file) else {
            return;
        };
        if self.looked.elapsed() < LOOK && !self.failed {
            return;
        }
        self.looked = Instant::now();
        let same = match (std::fs::metadata(path), file.metadata()) {
            (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
            _ => false,
        };
        if !same && let Ok(new) = append(path) {
            self.file = Some(new);
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            at: SystemTime::UNIX_EPOCH,
            remote: "10.0.0.1".into(),
            method: "GET".into(),
            uri: "/a?b".into(),
            protocol: "HTTP/1.1".into(),
            host: "x".into(),
            referer: String::new(),
            agent: "say \"hi\"\n\u{1b}[2J".into(),
            status: 200,
            bytes: 12,
            took: Duration::from_millis(1500),
            whole: true,
        }
    }

    #[test]
    fn lines_are_as_others_read_them() {
        let common = entry().line(Form::Common);
        assert!(common.starts_with("10.0.0.1 - - ["), "{common}");
        assert!(
            common.ends_with("] \"GET /a?b HTTP/1.1\" 200 12\n"),
            "{common}"
        );
        let combined = entry().line(Form::Combined);
        let end = " 200 12 \"-\" \"say \\\"hi\\\"\\n\\u{1b}[2J\"\n";
        assert!(combined.ends_with(end), "{combined}");
        let json = entry().line(Form::Json);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&value["status"], &value["seconds"]),
            (&json!(200), &json!(1.5))
        );
        assert_eq!(json.lines().count(), 1);
    }
}
