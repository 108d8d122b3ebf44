//! Processes that run hooks: how they are started, fed and heard. Nothing here decides anything.
//!
//! A thread of its own makes each process, because the kernel holds whoever starts a program until it has been read from
//! its disk. What the process prints goes to the daemon's log, line by line and not faster than the log can be written.

use crate::daemon::spawn::{self, SpawnSpec, Stdio};
use crate::supervisor::Pid;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as Pair;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Names a process for as long as the daemon runs.
pub type ChildId = u64;

/// A line in the log is cut off here, in bytes.
const LONGEST_LINE: usize = 4096;
/// So much is logged of one process before it has to wait a moment, in bytes.
const LOGGED_AT_ONCE: usize = 256 * 1024;
/// That moment.
const LOG_PAUSE: Duration = Duration::from_millis(50);

/// What becomes of a process.
#[derive(Debug)]
pub enum News {
    /// It runs, or could not be started: a sentence that says why.
    Born(ChildId, Result<Pid, String>),
    /// It has said this, without the line end.
    Line(ChildId, Vec<u8>),
    /// All that an `exec:` hook has printed.
    Output(ChildId, Vec<u8>),
    /// It will not say anything any more.
    Closed(ChildId),
    /// It has said too much at once.
    TooLong(ChildId),
}

/// What its lines in the log begin with.
#[derive(Debug, Clone, Default)]
pub struct Label(Arc<Mutex<String>>);

impl Label {
    /// A new one.
    pub fn new(text: &str) -> Label {
        let label = Label::default();
        label.set(text);
        label
    }

    /// From now on it is this.
    pub fn set(&self, text: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text.to_string();
    }

    fn get(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// How a process is spoken with.
pub enum Talk {
    /// Lines in both directions, on a socket; its arguments for a number of it. No line is longer than so many bytes.
    Lines {
        /// The arguments.
        argv: Box<dyn FnOnce(i32) -> Vec<String>>,
        /// Bytes at the most.
        longest: usize,
    },
    /// It gets a text on standard input.
    Text {
        /// The arguments.
        argv: Vec<String>,
        /// The text.
        input: String,
        /// What it prints is wanted up to so many bytes; otherwise it is logged.
        wanted: Option<usize>,
    },
}

/// The way to a process; nothing is sent or heard any more once it is dropped.
#[derive(Debug)]
pub struct Line {
    to: mpsc::UnboundedSender<String>,
    tasks: Vec<AbortHandle>,
}

impl Line {
    /// Sends a text. If the process is gone, that is heard of by [`News::Closed`].
    pub fn send(&self, text: String) {
        // nobody takes it any more: see above
        let _ = self.to.send(text);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Starts a process; whether it runs comes as [`News::Born`].
///
/// # Errors
/// No descriptors or no thread can be had.
pub fn start(
    child: ChildId,
    talk: Talk,
    env: Vec<(OsString, OsString)>,
    label: &Label,
    news: &mpsc::Sender<News>,
) -> io::Result<Line> {
    let (to, texts) = mpsc::unbounded_channel();
    let mut tasks = Vec::new();
    let mut spec = SpawnSpec {
        env,
        stdin: Stdio::Null,
        ..SpawnSpec::default()
    };
    // what the process gets; closed here as soon as it has it
    let mut theirs: Vec<OwnedFd> = Vec::new();
    let (printed, print) = io::pipe()?;
    spec.stdout = Stdio::Fd(print.as_raw_fd());
    spec.stderr = Stdio::Fd(print.as_raw_fd());
    theirs.push(print.into());
    let argv = match talk {
        Talk::Lines { argv, longest } => {
            let (ours, its) = Pair::pair()?;
            ours.set_nonblocking(true)?;
            let (reader, writer) = UnixStream::from_std(ours)?.into_split();
            let argv = argv(its.as_raw_fd());
            spec.keep_fds.push(its.as_raw_fd());
            theirs.push(its.into());
            let reading = tokio::spawn(hear(child, reader, longest, news.clone()));
            let writing = tokio::spawn(tell(writer, texts));
            tasks.extend([reading.abort_handle(), writing.abort_handle()]);
            argv
        }
        Talk::Text {
            argv,
            input,
            wanted,
        } => {
            let (reader, writer) = io::pipe()?;
            spec.stdin = Stdio::Fd(reader.as_raw_fd());
            theirs.push(reader.into());
            let writer = pipe::Sender::from_owned_fd(writer.into())?;
            tokio::spawn(feed(writer, input));
            if let Some(most) = wanted {
                let (reader, writer) = io::pipe()?;
                spec.stdout = Stdio::Fd(writer.as_raw_fd());
                theirs.push(writer.into());
                let reader = pipe::Receiver::from_owned_fd(reader.into())?;
                let collecting = tokio::spawn(collect(child, reader, most, news.clone()));
                tasks.push(collecting.abort_handle());
            }
            argv
        }
    };
    spec.argv = argv.into_iter().map(OsString::from).collect();
    let printed = pipe::Receiver::from_owned_fd(printed.into())?;
    tokio::spawn(log(printed, label.clone()));
    let sender = news.clone();
    std::thread::Builder::new()
        .name("hook".to_string())
        .stack_size(256 * 1024)
        .spawn(move || {
            let result = spawn::spawn(&spec).map_err(|error| error.to_string());
            drop(theirs);
            // the daemon is ending if nobody wants to know
            let _ = sender.blocking_send(News::Born(child, result));
        })?;
    Ok(Line { to, tasks })
}

async fn tell(mut writer: impl AsyncWriteExt + Unpin, mut texts: mpsc::UnboundedReceiver<String>) {
    while let Some(text) = texts.recv().await {
        // it is gone: the reader says so
        if writer.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn feed(mut writer: pipe::Sender, input: String) {
    // a program need not read what it is told
    let _ = writer.write_all(input.as_bytes()).await;
}

/// Splits what comes into lines. `None` for one that is too long.
struct Lines<R> {
    reader: R,
    held: Vec<u8>,
    longest: usize,
}

enum Heard {
    Line(Vec<u8>),
    TooLong,
    End,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    async fn next(&mut self) -> Heard {
        let mut seen = 0;
        loop {
            if let Some(end) = self.held[seen..].iter().position(|byte| *byte == b'\n') {
                let rest = self.held.split_off(seen + end + 1);
                let mut line = std::mem::replace(&mut self.held, rest);
                line.pop();
                return Heard::Line(line);
            }
            seen = self.held.len();
            if seen > self.longest {
                return Heard::TooLong;
            }
            self.held.reserve(4096);
            match self.reader.read_buf(&mut self.held).await {
                Ok(count) if count > 0 => {}
                _ => return Heard::End,
            }
        }
    }
}

async fn hear(
    child: ChildId,
    reader: impl AsyncRead + Unpin,
    longest: usize,
    news: mpsc::Sender<News>,
) {
    let mut lines = Lines {
        reader,
        held: Vec::new(),
        longest,
    };
    loop {
        let (told, last) = match lines.next().await {
            Heard::Line(line) => (News::Line(child, line), false),
            Heard::TooLong => (News::TooLong(child), true),
            Heard::End => (News::Closed(child), true),
        };
        if news.send(told).await.is_err() || last {
            return;
        }
    }
}

async fn collect(
    child: ChildId,
    mut reader: pipe::Receiver,
    most: usize,
    news: mpsc::Sender<News>,
) {
    let mut output = Vec::new();
    let told = loop {
        output.reserve(4096);
        match reader.read_buf(&mut output).await {
            Ok(count) if count > 0 && output.len() > most => break News::TooLong(child),
            Ok(count) if count > 0 => {}
            _ => break News::Output(child, output),
        }
    };
    // the daemon is ending if nobody wants to know
    let _ = news.send(told).await;
}

/// Takes what a process prints to the log until nobody can print any more.
async fn log(mut reader: pipe::Receiver, label: Label) {
    let mut held: Vec<u8> = Vec::new();
    let mut logged = 0;
    let say = |line: &[u8]| {
        let text = String::from_utf8_lossy(line);
        if !text.trim().is_empty() {
            tracing::info!("{}: {}", label.get(), text.trim_end());
        }
    };
    loop {
        held.reserve(1024);
        match reader.read_buf(&mut held).await {
            Ok(count) if count > 0 => logged += count,
            _ => break,
        }
        while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
            let rest = held.split_off(end + 1);
            say(&std::mem::replace(&mut held, rest));
        }
        if held.len() > LONGEST_LINE {
            say(&std::mem::take(&mut held));
        }
        if logged > LOGGED_AT_ONCE {
            logged = 0;
            // whoever prints more meanwhile waits, and the daemon does other things
            tokio::time::sleep(LOG_PAUSE).await;
        }
    }
    say(&held);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn lines_are_split_and_too_long_ones_are_noticed() {
        let bytes: &[u8] = b"one\ntwo\n123456789";
        let mut lines = Lines {
            reader: bytes,
            held: Vec::new(),
            longest: 8,
        };
        block_on(async {
            assert!(matches!(lines.next().await, Heard::Line(line) if line == b"one"));
            assert!(matches!(lines.next().await, Heard::Line(line) if line == b"two"));
            assert!(matches!(lines.next().await, Heard::TooLong));
        });
    }
}
