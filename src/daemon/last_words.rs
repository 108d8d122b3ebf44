//! What workers said on their standard error before they died.
//!
//! A worker that runs well writes where its watcher's options say, and nobody stands in between. Only when workers of a
//! watcher have died young (or the watcher has no second try: `respawn = False`) do the next ones get a pipe, which a
//! thread of its own empties into the same destination, keeping the last lines. One thread for each such worker: if the
//! destination does not take more (a terminal that is held, a pipe that is full), that worker waits, as it would without
//! the pipe, and nobody else does. The pipe stays with the worker until it, and whoever inherited it, has closed it.
//!
//! When the daemon itself is killed, such a worker's next line on standard error meets a closed pipe (SIGPIPE, or an error
//! if it ignores that): the same as with every output stream of Circus, whose pipes end in the daemon.

use super::shell::wall_clock;
use crate::options::{Map, Value};
use crate::supervisor::Loss;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Workers that are listened to at once, each with a thread and two descriptors.
const MOST: usize = 64;
/// Bytes that are kept of what a worker said.
const MOST_BYTES: usize = 4096;
/// Lines that are told of it.
const MOST_LINES: usize = 20;

/// Where the standard error of a worker really goes.
pub enum Destination {
    /// Where the daemon's own goes.
    Daemon,
    /// To its file.
    File(File),
}

/// The end of what one worker says.
#[derive(Debug, Default)]
pub struct Words(Mutex<VecDeque<u8>>);

/// The pipes that are listened to; each belongs to its thread.
#[derive(Debug, Default)]
pub struct Listeners(Mutex<Vec<Weak<PipeReader>>>);

impl Listeners {
    /// A pipe for the standard error of a worker that is to be started, and what it says there. Its thread ends when the
    /// pipe has been closed everywhere, so the end that is returned is to be dropped once the worker has it. `None` if too
    /// many are listened to already: then the worker writes to its destination itself, which is given back.
    ///
    /// # Errors
    /// No pipe or no thread can be had; the destination is given back as well.
    pub fn listen(
        &self,
        destination: Destination,
    ) -> Result<(PipeWriter, Arc<Words>), (Destination, Option<io::Error>)> {
        let mut pipes = lock(&self.0);
        pipes.retain(|pipe| pipe.strong_count() > 0);
        if pipes.len() >= MOST {
            return Err((destination, None));
        }
        let (reader, writer) = match io::pipe() {
            Ok(ends) => ends,
            Err(error) => return Err((destination, Some(error))),
        };
        let reader = Arc::new(reader);
        let pipe = Arc::downgrade(&reader);
        let words = Arc::new(Words::default());
        // a thread that cannot be started drops what it was to get
        let handed = Arc::new(Mutex::new(Some(destination)));
        let (to_thread, heard) = (handed.clone(), words.clone());
        let thread = std::thread::Builder::new()
            .name("stderr".to_string())
            .stack_size(64 * 1024)
            .spawn(move || {
                let taken = lock(&to_thread).take();
                if let Some(destination) = taken {
                    heard.pump(&reader, &destination);
                }
            });
        match thread {
            Ok(_) => {
                pipes.push(pipe);
                Ok((writer, words))
            }
            Err(error) => {
                let back = lock(&handed).take();
                Err((back.unwrap_or(Destination::Daemon), Some(error)))
            }
        }
    }

    /// True while something that was said is still to be handed on.
    pub fn unfinished(&self) -> bool {
        let readers: Vec<Arc<PipeReader>> =
            lock(&self.0).iter().filter_map(Weak::upgrade).collect();
        let mut fds: Vec<PollFd<'_>> = readers
            .iter()
            .map(|reader| PollFd::new(reader.as_fd(), PollFlags::POLLIN))
            .collect();
        // one whose workers are all gone (a hang-up) is finished when its thread has dropped it
        poll(&mut fds, PollTimeout::ZERO).unwrap_or(0) > 0
    }
}

impl Words {
    /// Hands on what the worker says until nobody can say anything any more.
    fn pump(&self, mut pipe: &PipeReader, destination: &Destination) {
        let mut buffer = [0u8; 4096];
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    let said = &buffer[..count];
                    self.keep(said);
                    // a destination that has gone has nobody to tell; the worker is not to hang for it
                    let _ = destination.write(said);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        lock(&self.0).shrink_to_fit();
    }

    fn keep(&self, said: &[u8]) {
        let mut tail = lock(&self.0);
        tail.extend(said);
        // one byte more than is told shows whether the first line is whole
        let surplus = tail.len().saturating_sub(MOST_BYTES + 1);
        tail.drain(..surplus);
    }

    /// The last lines; what is no UTF-8 is replaced.
    pub fn lines(&self) -> Vec<String> {
        let bytes: Vec<u8> = lock(&self.0).iter().copied().collect();
        last_lines(&bytes)
    }
}

fn last_lines(bytes: &[u8]) -> Vec<String> {
    let mut told = bytes;
    if bytes.len() > MOST_BYTES {
        // the beginning has been cut off: go on with the next whole line, if there is one
        told = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) if end + 1 < bytes.len() => &bytes[end + 1..],
            _ => &bytes[1..],
        };
    }
    let text = String::from_utf8_lossy(told);
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(MOST_LINES);
    lines[first..]
        .iter()
        .map(|line| (*line).to_string())
        .collect()
}

impl Destination {
    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                // not through the buffer of the standard library, and without its lock: the log writes there too
                Destination::Daemon => {
                    nix::unistd::write(io::stderr(), bytes).map_err(io::Error::from)
                }
                Destination::File(file) => (&*file).write(bytes),
            };
            match written {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Somebody has made it non-blocking, for all who share it.
    fn wait(&self) {
        let stderr = io::stderr();
        let fd = match self {
            Destination::Daemon => stderr.as_fd(),
            Destination::File(file) => file.as_fd(),
        };
        // whatever it says, the write is tried again
        let _ = poll(
            &mut [PollFd::new(fd, PollFlags::POLLOUT)],
            PollTimeout::NONE,
        );
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a worker of a watcher was lost the last time.
#[derive(Debug)]
pub(super) struct LastExit {
    /// When, in seconds since the epoch.
    time: f64,
    loss: Loss,
    words: Option<Arc<Words>>,
}

impl LastExit {
    /// It has just happened.
    pub fn now(loss: Loss, words: Option<Arc<Words>>) -> LastExit {
        LastExit {
            time: wall_clock(),
            loss,
            words,
        }
    }

    /// As the reply to `status` has it.
    pub fn told(&self) -> Map<String, Value> {
        let lines = self.words.as_ref().map(|words| words.lines());
        let (pid, code, signal, lived, reason) = match &self.loss {
            Loss::Exited { pid, code, lived } => {
                let signal = (*code < 0).then(|| code.saturating_neg());
                let code = (*code >= 0).then_some(*code);
                (Some(*pid), code, signal, *lived, None)
            }
            Loss::NotStarted(reason) => (None, None, None, 0.0, Some(reason)),
        };
        let mut told = Map::from_iter([
            ("pid".to_string(), json!(pid)),
            ("time".to_string(), json!(self.time)),
            ("code".to_string(), json!(code)),
            ("signal".to_string(), json!(signal)),
            ("lived".to_string(), json!(lived)),
            ("stderr".to_string(), json!(lines.unwrap_or_default())),
        ]);
        if let Some(reason) = reason {
            told.insert("reason".to_string(), reason.as_str().into());
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_lines_are_told() {
        assert_eq!(last_lines(b""), [""; 0]);
        assert_eq!(last_lines(b"one\ntwo"), ["one", "two"]);
        assert_eq!(last_lines(b"\xff\xfe\n"), ["\u{fffd}\u{fffd}"]);
        let many: String = (0..50).map(|n| format!("{n}\n")).collect();
        let told = last_lines(many.as_bytes());
        assert_eq!((told.len(), told[0].as_str()), (20, "30"));
        let mut long = vec![b'x'; MOST_BYTES - 1];
        long.extend(b"\nz\n");
        assert_eq!(last_lines(&long), ["z"]);
        assert_eq!(
            last_lines(&vec![b'x'; MOST_BYTES + 1]),
            ["x".repeat(MOST_BYTES)]
        );
    }

    #[test]
    fn what_is_said_arrives_and_its_end_is_kept() {
        let mut file = tempfile::tempfile().unwrap();
        let listeners = Listeners::default();
        let destination = Destination::File(file.try_clone().unwrap());
        let Ok((mut writer, words)) = listeners.listen(destination) else {
            panic!("a pipe and a thread");
        };
        let mut said = vec![b'a'; 100_000];
        said.extend(b"\nlast\n");
        writer.write_all(&said).unwrap();
        drop(writer);
        while listeners.unfinished() {
            std::thread::yield_now();
        }
        assert_eq!(words.lines(), ["last"]);
        assert!(lock(&words.0).capacity() <= 2 * MOST_BYTES);
        let mut arrived = Vec::new();
        io::Seek::rewind(&mut file).unwrap();
        file.read_to_end(&mut arrived).unwrap();
        assert_eq!(arrived, said);
    }

    #[test]
    fn not_everybody_is_listened_to() {
        let listeners = Listeners::default();
        let listen = || {
            let file = tempfile::tempfile().unwrap();
            listeners.listen(Destination::File(file))
        };
        let all: Vec<_> = (0..MOST).map(|_| listen().ok().expect("room")).collect();
        assert!(matches!(listen(), Err((Destination::File(_), None))));
        drop(all);
        while listeners.unfinished() {
            std::thread::yield_now();
        }
        assert!(listen().is_ok());
    }
}
