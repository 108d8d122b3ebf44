//! An output stream class of the user's own, in Python: each stream has a process that is fed what the workers say.
//!
//! A class that hangs holds up those who write to it, as a full pipe does (`overflow` says what then). A process that ends
//! is started again, after a growing pause; what was on its way to it is lost, what it was not given yet comes to the next.

use super::format::frames;
use super::target::{Target, Trouble};
use crate::daemon::spawn::{self, SpawnSpec, Stdio};
use crate::options::{Map, Value};
use crate::python::{interpreter, stream};
use std::io::{self, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What runs a class of the user's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Python {
    /// The program.
    pub interpreter: String,
    /// Directories where it looks for modules at last.
    pub paths: Vec<String>,
}

/// The process behind such a class.
pub struct Foreign {
    class: String,
    options: Map<String, Value>,
    python: Python,
    feed: Option<PipeWriter>,
    not_before: Option<Instant>,
    pause: Duration,
}

impl Foreign {
    /// Nothing runs yet. `conf` is the configuration of the stream.
    pub fn new(class: &str, conf: &Map<String, Value>, python: Python) -> Foreign {
        let own = ["class", "overflow"];
        let options = conf.iter().filter(|(key, _)| !own.contains(&key.as_str()));
        Foreign {
            class: class.to_string(),
            options: options.map(|(k, v)| (k.clone(), v.clone())).collect(),
            python,
            feed: None,
            not_before: None,
            pause: FIRST_PAUSE,
        }
    }

    fn start(&self) -> io::Result<PipeWriter> {
        let (theirs, mut feed) = io::pipe()?;
        let fd = theirs.as_raw_fd();
        let argv = interpreter::bootstrap(&self.python.interpreter, fd);
        let spec = SpawnSpec {
            argv: argv.into_iter().map(Into::into).collect(),
            env: std::env::vars_os().collect(),
            stdin: Stdio::Null,
            keep_fds: vec![fd],
            ..SpawnSpec::default()
        };
        spawn::spawn(&spec).map_err(|error| io::Error::other(error.to_string()))?;
        drop(theirs);
        let greeting = stream::greeting(&self.class, &self.options, &self.python.paths);
        feed.write_all(greeting.as_bytes())?;
        Ok(feed)
    }

    fn fed(&mut self) -> io::Result<&mut PipeWriter> {
        if self.feed.is_none() {
            if self.not_before.is_some_and(|time| time > Instant::now()) {
                return Err(io::Error::other(
                    "its process has ended; another is started soon",
                ));
            }
            self.feed = Some(self.start()?);
        }
        self.feed
            .as_mut()
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    fn failed(&mut self) {
        self.feed = None;
        self.not_before = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn trouble(&mut self, done: usize, error: &io::Error) -> Trouble {
        if self.feed.is_some() || self.not_before.is_none_or(|time| time <= Instant::now()) {
            self.failed();
        }
        Trouble::new(
            done,
            &format!("cannot give {} what was said", self.class),
            error,
        )
    }
}

impl Target for Foreign {
    fn open(&mut self) -> Result<(), Trouble> {
        match self.fed() {
            Ok(_) => Ok(()),
            Err(error) => Err(self.trouble(0, &error)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let mut done = 0;
        for (_, end) in frames(bytes) {
            let part = &bytes[done..end];
            if let Err(error) = self.fed().and_then(|feed| feed.write_all(part)) {
                return Err(self.trouble(done, &error));
            }
            done = end;
            self.pause = FIRST_PAUSE;
        }
        Ok(())
    }

    fn reopen(&mut self) {
        // a new one opens everything anew
        self.feed = None;
    }

    fn close(&mut self) {
        // it ends when it has read everything
        self.feed = None;
    }
}
