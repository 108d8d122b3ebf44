//! Runs a command for each event: so many at a time and no more, each for so long and no longer, and whatever goes wrong
//! with one is said.

use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};

use super::line::Event;
use crate::cli::output;
use crate::cli::paint::signal;
use crate::config::shlex;

/// Events that may wait for their turn; of more the oldest are dropped.
const WAITING: usize = 1000;
/// How long those that run may go on when this program is ended.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often a thread with a running command looks whether this program is being ended.
const LOOK: Duration = Duration::from_secs(1);
/// What surely fits into a pipe that nobody reads.
const PIPE: usize = 32 * 1024;
/// After SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    words: Vec<String>,
}

impl Program {
    /// The words of a command line, or all of it for `/bin/sh`.
    ///
    /// # Errors
    /// There are no words in it, or a quote is not closed.
    pub fn parse(text: &str, shell: bool) -> Result<Self, String> {
        let words = match shell {
            true => ["/bin/sh", "-c", text].map(String::from).to_vec(),
            false => shlex::split(text).map_err(|why| format!("{why} in {text:?}"))?,
        };
        match words.first().is_some_and(|first| !first.is_empty()) && !text.trim().is_empty() {
            true => Ok(Program { words }),
            false => Err("there is no command".to_string()),
        }
    }

    /// Not yet started, in a process group of its own: ctrl-C is ours to answer.
    pub fn command(&self) -> Command {
        let mut words = self.words.iter();
        let mut command = Command::new(words.next().map_or("", String::as_str));
        command.args(words).process_group(0);
        command
    }

    /// For messages.
    pub fn shown(&self) -> String {
        self.words.join(" ")
    }
}

/// How a child has ended, for a message; `None` if all is well.
pub fn failure(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("ended with exit code {code}")),
        (_, Some(number)) => Some(format!("was killed by {}", signal(number.into()))),
        _ => Some("ended".to_string()),
    }
}

/// Waits for a child, so long and no longer; `None` if it still runs.
///
/// # Errors
/// What the kernel says.
pub fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let Some(pid) = pid else {
        return child.wait().map(Some);
    };
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let millis = nix::poll::PollTimeout::try_from(left.min(Duration::from_secs(60)))
            .unwrap_or(nix::poll::PollTimeout::MAX);
        let mut looked = [nix::poll::PollFd::new(
            std::os::fd::AsFd::as_fd(&pidfd),
            nix::poll::PollFlags::POLLIN,
        )];
        match nix::poll::poll(&mut looked, millis) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
    }
}

/// Ends a child with all of its group.
pub fn end(child: &mut Child) {
    let Ok(pid) = i32::try_from(child.id()) else {
        return;
    };
    // Its pid is its own until it has been waited for, which happens below.
    let group = Pid::from_raw(pid);
    let _ = killpg(group, Signal::SIGTERM);
    if !matches!(wait(child, GRACE), Ok(Some(_))) {
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait();
    }
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    dropped: u64,
    running: usize,
    /// Nothing more comes.
    closing: bool,
    /// What runs is to be ended from this moment on.
    end_at: Option<Instant>,
}

struct Shared {
    state: Mutex<State>,
    news: Condvar,
    program: Program,
    /// For each event.
    limit: Duration,
    endpoint: String,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that has panicked has left nothing half done: each change of the state is one statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The threads that run commands.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Runs `jobs` at a time.
    pub fn new(program: Program, jobs: usize, limit: Duration, endpoint: String) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            news: Condvar::new(),
            program,
            limit,
            endpoint,
        });
        let work = |_| {
            let shared = shared.clone();
            std::thread::spawn(move || work(&shared))
        };
        let threads = (0..jobs.max(1)).map(work).collect();
        Pool { shared, threads }
    }

    /// Puts an event into the queue.
    pub fn submit(&self, event: Event) {
        let mut state = self.shared.state();
        if state.events.len() >= WAITING {
            state.events.pop_front();
            state.dropped += 1;
            if state.dropped == 1 {
                output::plain_error(&format!(
                    "{} is too slow: {WAITING} events wait for it, and the oldest are dropped from now on; more at a time \
                     run with --jobs",
                    self.shared.program.shown()
                ));
            }
        }
        state.events.push_back(event);
        self.shared.news.notify_all();
    }

    /// Waits until every event that was put in has been dealt with.
    pub fn drain(self) {
        let mut state = self.shared.state();
        state.closing = true;
        self.shared.news.notify_all();
        drop(state);
        for thread in self.threads {
            let _ = thread.join();
        }
        report_dropped(&self.shared.state());
    }

    /// Starts nothing more, and gives those that run a moment; what then still runs is ended.
    pub fn close(self) {
        let mut state = self.shared.state();
        let left = state.events.len();
        state.events.clear();
        state.closing = true;
        state.end_at = Some(Instant::now() + FAREWELL);
        self.shared.news.notify_all();
        let end = Instant::now() + FAREWELL + LOOK + GRACE * 2;
        while state.running > 0 && Instant::now() < end {
            let wait = self
                .shared
                .news
                .wait_timeout(state, Duration::from_millis(100));
            state = wait.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
        report_dropped(&state);
        if left > 0 {
            output::plain_error(&format!("{left} events that waited were dropped"));
        }
    }
}

fn report_dropped(state: &State) {
    if state.dropped > 0 {
        output::plain_error(&format!("{} events were dropped", state.dropped));
    }
}

fn work(shared: &Shared) {
    loop {
        let mut state = shared.state();
        let event = loop {
            if let Some(event) = state.events.pop_front() {
                break event;
            }
            if state.closing {
                return;
            }
            state = shared
                .news
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        };
        state.running += 1;
        drop(state);
        if let Err(why) = run(shared, &event) {
            output::error(&format!(
                "{} for {}: {why}",
                shared.program.shown(),
                event.topic
            ));
        }
        shared.state().running -= 1;
        shared.news.notify_all();
    }
}

/// Runs the command for one event, with the event in its environment and, as JSON, on its standard input.
fn run(shared: &Shared, event: &Event) -> Result<(), String> {
    let mut child = shared
        .program
        .command()
        .envs(event.variables())
        .env("CIRC_ENDPOINT", &shared.endpoint)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot be run: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let text = format!("{}\n", event.to_json());
        // Who does not read it does not want it.
        let mut write = move || drop(stdin.write_all(text.as_bytes()));
        match event.payload.to_string().len() {
            0..PIPE => write(),
            _ => drop(std::thread::spawn(write)),
        }
    }
    let begun = Instant::now();
    loop {
        let left = shared.limit.saturating_sub(begun.elapsed());
        match wait(&mut child, left.min(LOOK)) {
            Ok(Some(status)) => return failure(status).map_or(Ok(()), Err),
            Ok(None) if begun.elapsed() >= shared.limit => {
                end(&mut child);
                let seconds = shared.limit.as_secs_f64();
                return Err(format!(
                    "still ran after {seconds} s and was ended (--exec-timeout)"
                ));
            }
            Ok(None) => {
                let end_at = shared.state().end_at;
                if end_at.is_some_and(|moment| moment <= Instant::now()) {
                    end(&mut child);
                    return Err("was ended with this program".to_string());
                }
            }
            Err(error) => return Err(format!("cannot be waited for: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_words_unless_a_shell_is_asked_for() {
        let words = |text: &str, shell| Program::parse(text, shell).map(|program| program.words);
        assert_eq!(
            words("mail -s 'it died' root", false).unwrap(),
            ["mail", "-s", "it died", "root"]
        );
        assert_eq!(
            words("echo $A | cat", true).unwrap(),
            ["/bin/sh", "-c", "echo $A | cat"]
        );
        for (text, shell) in [("", false), (" ", true), ("'a", false), ("''", false)] {
            assert!(words(text, shell).is_err(), "{text:?}");
        }
    }
}
