//! Runs an event listener that was written for supervisor, and tells it what happens in supervisor's words.

pub mod mapping;
pub mod protocol;
pub mod rpc;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use self::mapping::Notice;
use self::protocol::{Said, State, Talk};
use super::exec::{self, Program};
use crate::cli::output;

/// Before a listener that has ended is started again; doubled each time it does not live for [`STABLE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const STABLE: Duration = Duration::from_secs(10);
/// Before an event that the listener did not want to be done is sent again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a listener wrote: which one (they are numbered), and the bytes; `None` at the end.
pub type Words = (u64, Option<Vec<u8>>);

/// A listener, and the events that wait for it.
pub struct Listener<T> {
    program: Program,
    /// The name that it is told as its pool's, and its variables.
    name: String,
    variables: Vec<(String, String)>,
    wanted: Vec<String>,
    /// Events that may wait; of more the oldest are dropped, as supervisor does it.
    room: usize,
    queue: VecDeque<(u64, u64, Notice)>,
    serial: u64,
    pool_serial: u64,
    dropped: u64,
    /// The one that it is at.
    current: Option<(u64, u64, Notice)>,
    running: Option<Running>,
    number: u64,
    start_at: Instant,
    pause: Duration,
    send_at: Instant,
    news: SyncSender<T>,
}

struct Running {
    child: Child,
    stdin: ChildStdin,
    talk: Talk,
    since: Instant,
}

impl<T: From<Words> + Send + 'static> Listener<T> {
    /// Not yet started: that is done by [`Listener::go_on`]. It is sent events of the `wanted` types.
    pub fn new(
        program: Program,
        wanted: Vec<String>,
        room: usize,
        variables: Vec<(String, String)>,
        news: SyncSender<T>,
    ) -> Self {
        let first = program.shown();
        let first = first.split_whitespace().next().unwrap_or("listener");
        let name = first.rsplit('/').next().unwrap_or("listener").to_string();
        Listener {
            program,
            name,
            variables,
            wanted,
            room,
            queue: VecDeque::new(),
            serial: 0,
            pool_serial: 0,
            dropped: 0,
            current: None,
            running: None,
            number: 0,
            start_at: Instant::now(),
            pause: FIRST_PAUSE,
            send_at: Instant::now(),
            news,
        }
    }

    /// Puts events into the queue.
    pub fn submit(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            self.serial += 1;
            let is_of = |wanted: &String| protocol::is_of(notice.kind, wanted);
            if !self.wanted.iter().any(is_of) {
                continue;
            }
            if self.queue.len() >= self.room {
                self.queue.pop_front();
                self.dropped += 1;
                if self.dropped == 1 {
                    output::plain_error(&format!(
                        "{} is too slow: {} events wait for it, and the oldest are dropped from now on (--buffer)",
                        self.name, self.room
                    ));
                }
            }
            self.pool_serial += 1;
            self.queue
                .push_back((self.serial, self.pool_serial, notice));
        }
    }

    /// Does what is due: starts it, sends the next event.
    pub fn go_on(&mut self) {
        if self.running.is_none() && self.start_at <= Instant::now() {
            self.start();
        }
        if self.send_at > Instant::now() {
            return;
        }
        if let Some(running) = &mut self.running
            && running.talk.state() == State::Ready
            && let Some((serial, pool_serial, notice)) = self.queue.pop_front()
        {
            let message = protocol::message(&notice, &self.name, serial, pool_serial);
            running.talk.sent();
            // It waits for an event and reads. One that ends instead is noticed at the end of its output.
            let _ = running.stdin.write_all(message.as_bytes());
            let _ = running.stdin.flush();
            self.current = Some((serial, pool_serial, notice));
        }
    }

    /// When there is something to do, if nothing happens.
    pub fn due(&self) -> Instant {
        match self.running {
            None => self.start_at,
            Some(_) => self.send_at,
        }
    }

    fn start(&mut self) {
        let spawned = self
            .program
            .command()
            .envs(self.variables.iter().cloned())
            .env("SUPERVISOR_ENABLED", "1")
            .env("SUPERVISOR_PROCESS_NAME", &self.name)
            .env("SUPERVISOR_GROUP_NAME", &self.name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                self.later(&format!("cannot be run: {error}"), Duration::ZERO);
                return;
            }
        };
        let (Some(stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return;
        };
        self.number += 1;
        let (number, news) = (self.number, self.news.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut bytes) {
                let heard = bytes.get(..count).map(<[u8]>::to_vec);
                if news.send((number, heard).into()).is_err() {
                    return;
                }
            }
            let _ = news.send((number, None).into());
        });
        self.running = Some(Running {
            child,
            stdin,
            talk: Talk::new(),
            since: Instant::now(),
        });
    }

    /// It is started again after a pause.
    fn later(&mut self, why: &str, lived: Duration) {
        self.pause = match lived >= STABLE {
            true => FIRST_PAUSE,
            false => self.pause,
        };
        let seconds = self.pause.as_secs();
        output::error(&format!(
            "{}: {why}; it is started again in {seconds} s",
            self.program.shown()
        ));
        self.start_at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        // What it had not done yet is for the next one.
        if let Some(current) = self.current.take() {
            self.queue.push_front(current);
        }
    }

    /// It has written something, or has closed its output.
    pub fn hear(&mut self, (number, bytes): Words) {
        if number != self.number {
            return;
        }
        let Some(mut running) = self.running.take() else {
            return;
        };
        let lived = running.since.elapsed();
        let Some(bytes) = bytes else {
            drop(running.stdin);
            let status = match exec::wait(&mut running.child, Duration::from_secs(1)) {
                Ok(Some(status)) => exec::failure(status),
                _ => {
                    exec::end(&mut running.child);
                    Some("closed its output".to_string())
                }
            };
            let why = status.unwrap_or_else(|| "ended".to_string());
            return self.later(&why, lived);
        };
        for said in running.talk.hear(&bytes) {
            match said {
                Said::Ready => {}
                Said::Done => self.current = None,
                Said::Failed(words) => {
                    let words = words.trim();
                    if words != "FAIL" {
                        output::plain_error(&format!("{}: it answered {words:?}", self.name));
                    }
                    self.send_at = Instant::now() + AGAIN;
                    self.queue.extend(self.current.take());
                    self.queue.rotate_right(1);
                }
                Said::Nonsense(words) => {
                    exec::end(&mut running.child);
                    let why = format!(
                        "does not speak supervisor's protocol for event listeners: it said {words:?}"
                    );
                    return self.later(&why, lived);
                }
            }
        }
        self.running = Some(running);
    }

    /// Ends it.
    pub fn close(self) {
        if let Some(mut running) = self.running {
            drop(running.stdin);
            exec::end(&mut running.child);
        }
    }
}
