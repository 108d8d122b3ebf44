//! A line to another host: one ssh that forwards Unix sockets in a directory of our own, which nobody else can enter, to
//! endpoints as that host sees them. An ssh that ends is started again, and listens at the same places; so who has lost a
//! connection just connects again.
//!
//! The first ssh may ask for a password. Those after it may not: there is somebody else's picture on the terminal.

use super::{KEEPER_OF_A_DIRECTORY, Server, directory};
use crate::wire::Endpoint;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(5);
/// So long ssh may take to say why it closed a connection.
const SOON: Duration = Duration::from_millis(300);
/// So long what ssh has complained of is the reason for what fails next.
const FRESH: Duration = Duration::from_secs(5);
/// From the end of one ssh to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// An ssh that lived so long was a good one.
const GOOD: Duration = Duration::from_secs(30);
/// So long ssh may take to end.
const ENDING: Duration = Duration::from_secs(2);
/// Complaints that are kept.
const COMPLAINTS: u64 = 64 * 1024;

/// A line. Dropping it closes it.
#[derive(Debug)]
pub struct Line {
    inner: Arc<Inner>,
    /// Removes the directory at the end of its input.
    keeper: Child,
    /// Closed with this process, however it ends.
    alive: Option<ChildStdin>,
}

#[derive(Debug)]
struct Inner {
    server: Server,
    dir: PathBuf,
    timeout: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What is forwarded: the name in our directory is its number.
    forwards: Vec<Endpoint>,
    /// What the ssh that runs is held by; none runs without it.
    current: Option<Current>,
    /// Why none runs.
    trouble: Option<String>,
    /// What it complained of last.
    complaint: Option<(Instant, String)>,
    /// Nobody needs it any more.
    over: bool,
    /// So is the thread.
    left: bool,
}

#[derive(Debug)]
struct Current {
    /// ssh ends at the end of this.
    _alive: Option<ChildStdin>,
    errors: File,
    /// How much of them was read.
    read: u64,
    /// The socket by which it takes orders.
    orders: PathBuf,
}

/// Whether ssh may ask somebody.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Questions {
    Asked,
    Never,
}

impl Line {
    /// Logs in and forwards to `target`; ssh may ask for a password on the terminal. Where nobody answers, ssh gives up after
    /// `timeout`.
    ///
    /// # Errors
    /// An endpoint that cannot be reached this way, no ssh program, or what ssh says.
    pub fn open(
        server: &Server,
        target: &Endpoint,
        timeout: Duration,
    ) -> Result<(Line, Endpoint), String> {
        let line = Line::prepare(server, timeout)?;
        let local = line.to(target)?;
        let first = line.inner.start(0, Questions::Asked)?;
        line.keep(Some(first))?;
        Ok((line, local))
    }

    /// As [`Line::open`], for one that goes on trying: what keeps it from coming about is told by [`Line::explain`]. With
    /// `ask` the first try is over when this returns.
    ///
    /// # Errors
    /// An endpoint that cannot be reached this way, or no directory or thread of our own.
    pub fn lasting(
        server: &Server,
        target: &Endpoint,
        timeout: Duration,
        ask: bool,
    ) -> Result<(Line, Endpoint), String> {
        let line = Line::prepare(server, timeout)?;
        let local = line.to(target)?;
        let first = match ask.then(|| line.inner.start(0, Questions::Asked)) {
            Some(Ok(first)) => Some(first),
            Some(Err(why)) => {
                line.inner.lock().trouble = Some(why);
                None
            }
            None => {
                line.inner.lock().trouble = Some(format!("ssh {}: not yet", server.host));
                None
            }
        };
        line.keep(first)?;
        Ok((line, local))
    }

    fn prepare(server: &Server, timeout: Duration) -> Result<Line, String> {
        let dir =
            directory().map_err(|error| format!("--ssh: no directory of our own: {error}"))?;
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER_OF_A_DIRECTORY, "sh"]).arg(&dir);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut keeper = keeper.spawn().map_err(|error| {
            // it is empty
            let _ = std::fs::remove_dir_all(&dir);
            format!("--ssh: cannot run sh: {error}")
        })?;
        Ok(Line {
            alive: keeper.stdin.take(),
            keeper,
            inner: Arc::new(Inner {
                server: server.clone(),
                dir,
                timeout,
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
        })
    }

    /// Starts the thread that waits for the end of ssh, and for the next one.
    fn keep(&self, first: Option<Child>) -> Result<(), String> {
        let inner = self.inner.clone();
        let thread = std::thread::Builder::new().name("ssh".to_string());
        let started = thread.spawn(move || inner.keep(first));
        started.map(drop).map_err(|error| {
            self.inner.lock().left = true;
            format!("--ssh: cannot start a thread: {error}")
        })
    }

    /// Where a client connects to for an endpoint as the other host sees it. May take a moment.
    ///
    /// # Errors
    /// An endpoint that cannot be reached this way, or what ssh says.
    pub fn to(&self, target: &Endpoint) -> Result<Endpoint, String> {
        let remote = remote(target)?;
        let mut state = self.inner.lock();
        let known = state.forwards.iter().position(|known| known == target);
        let number = known.unwrap_or(state.forwards.len());
        let local = self.inner.local(number);
        if known.is_none() {
            if let Some(current) = &state.current {
                self.inner.order(&current.orders, &local, &remote)?;
            }
            state.forwards.push(target.clone());
        }
        Ok(Endpoint::Ipc(local))
    }

    /// An error of a call to `target` through this line, in terms of the other host.
    pub fn explain(&self, target: &Endpoint, error: &str) -> String {
        let host = &self.inner.server.host;
        // ssh tells on a thread of its own
        let end = Instant::now() + SOON;
        let why = loop {
            let mut state = self.inner.lock();
            if let Some(trouble) = &state.trouble {
                return trouble.clone();
            }
            let why = state.complains();
            drop(state);
            if why.is_some() || Instant::now() > end {
                break why;
            }
            std::thread::sleep(LOOK);
        };
        let known = self.inner.lock().forwards.iter().position(|f| f == target);
        match (why, known) {
            (Some(why), _) => format!("{target} of {host} is not reached through ssh: {why}"),
            (None, Some(number)) => {
                let local = Endpoint::Ipc(self.inner.local(number)).to_string();
                error.replace(&local, &format!("{target} of {host}"))
            }
            (None, None) => error.to_string(),
        }
    }
}

impl Line {
    /// Why no ssh runs, if none does.
    pub fn trouble(&self) -> Option<String> {
        self.inner.lock().trouble.clone()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        state.over = true;
        // its keeper ends ssh at the end of its input, and then itself
        state.current = None;
        self.inner.changed.notify_all();
        let waiting = self
            .inner
            .changed
            .wait_timeout_while(state, ENDING, |state| !state.left);
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
        self.alive = None;
        let end = Instant::now() + ENDING;
        while matches!(self.keeper.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = self.keeper.kill();
                let _ = self.keeper.wait();
                break;
            }
            std::thread::sleep(LOOK);
        }
        // the keeper has done so already, unless it was killed
        let _ = std::fs::remove_dir_all(&self.inner.dir);
    }
}

impl State {
    /// What the ssh that runs has complained of just now.
    fn complains(&mut self) -> Option<String> {
        if let Some(text) = self.current.as_mut().and_then(Current::says) {
            self.complaint = Some((Instant::now(), text));
        }
        let (when, text) = self.complaint.as_ref()?;
        (when.elapsed() < FRESH).then(|| text.clone())
    }
}

impl Current {
    /// What ssh has complained of since this was asked the last time.
    fn says(&mut self) -> Option<String> {
        let mut bytes = [0; 4096];
        let size = self.errors.read_at(&mut bytes, self.read).ok()?;
        self.read += size as u64;
        if self.read > COMPLAINTS && size < bytes.len() {
            // it is written to at its end
            let _ = self.errors.set_len(0);
            self.read = 0;
        }
        let text = String::from_utf8_lossy(bytes.get(..size)?).into_owned();
        let lines = text.lines().map(str::trim);
        let mut lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        // each connection is complained of
        lines.dedup();
        Some(lines.join("; ")).filter(|text| !text.is_empty())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the forward of this number listens.
    fn local(&self, number: usize) -> PathBuf {
        self.dir.join(format!("s{number}"))
    }

    /// One ssh after the other.
    fn keep(&self, first: Option<Child>) {
        let (mut child, mut pause, mut number) = (first, FIRST_PAUSE, 0);
        let mut wait = false;
        loop {
            if let Some(mut child) = child.take() {
                let since = Instant::now();
                // it cannot fail for a child of ours that nobody else waits for
                let status = child.wait().ok();
                self.ended(status);
                wait = true;
                if since.elapsed() > GOOD {
                    pause = FIRST_PAUSE;
                }
            }
            let mut state = self.lock();
            if wait && !state.over {
                let waiting = self
                    .changed
                    .wait_timeout_while(state, pause, |state| !state.over);
                state = waiting.unwrap_or_else(PoisonError::into_inner).0;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            if state.over {
                state.left = true;
                self.changed.notify_all();
                return;
            }
            drop(state);
            number += 1;
            match self.start(number, Questions::Never) {
                Ok(started) => child = Some(started),
                Err(why) => self.lock().trouble = Some(why),
            }
            wait = true;
        }
    }

    /// Notes why there is no line any more.
    fn ended(&self, status: Option<ExitStatus>) {
        let mut state = self.lock();
        let said = state.current.as_mut().and_then(Current::says);
        let said = said.or_else(|| state.complaint.take().map(|(_, text)| text));
        state.current = None;
        let host = &self.server.host;
        state.trouble = Some(format!("ssh {host}: {}", why_ended(said, status)));
        for number in 0..state.forwards.len() {
            // that they are there says later that ssh listens
            let _ = std::fs::remove_file(self.local(number));
        }
    }

    /// Starts an ssh, and waits until it listens or ends, however long somebody takes to type a password.
    fn start(&self, number: u32, questions: Questions) -> Result<Child, String> {
        let host = &self.server.host;
        let dir = self.dir.join(number.to_string());
        let fail = |error: io::Error| format!("--ssh: cannot run sh: {error}");
        let made = std::fs::DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(|error| format!("--ssh: no directory of our own: {error}"))?;
        let orders = dir.join("c");
        let mut command = self.server.command(&dir, self.timeout);
        command.arg("-S").arg(&orders);
        command.args(["-N", "-o", "ControlMaster=yes", "-o", "ControlPersist=no"]);
        command.args(["-o", "ExitOnForwardFailure=no"]);
        command.args([
            "-o",
            "StreamLocalBindMask=0177",
            "-o",
            "StreamLocalBindUnlink=yes",
        ]);
        // a host that has gone without a word
        command.args([
            "-o",
            "ServerAliveInterval=10",
            "-o",
            "ServerAliveCountMax=2",
        ]);
        if questions == Questions::Never {
            command.args(["-o", "BatchMode=yes"]);
        }
        let forwards = self.lock().forwards.clone();
        for (number, target) in forwards.iter().enumerate() {
            let to = format!("{}:{}", self.local(number).display(), remote(target)?);
            command.arg("-L").arg(to);
        }
        command.args(["--", host]).stdout(Stdio::null());
        let mut options = File::options();
        let errors = options.read(true).append(true).create_new(true);
        let errors = errors.open(dir.join("errors")).map_err(fail)?;
        let mut child = command
            .stderr(errors.try_clone().map_err(fail)?)
            .spawn()
            .map_err(fail)?;
        let mut current = Current {
            _alive: child.stdin.take(),
            errors,
            read: 0,
            orders,
        };
        let mut said = None;
        loop {
            if self.listens(forwards.len()) {
                break;
            }
            let ended = child.try_wait();
            let more = current.says();
            said = match (said, more) {
                (Some(before), Some(more)) => Some(format!("{before}; {more}")),
                (said, more) => more.or(said),
            };
            match ended {
                Ok(None) if self.lock().over => return Err("it is over".to_string()),
                Ok(None) => std::thread::sleep(LOOK),
                Ok(status) => return Err(format!("ssh {host}: {}", why_ended(said, status))),
                Err(error) => return Err(format!("ssh {host}: {error}")),
            }
        }
        let mut state = self.lock();
        if state.over {
            return Err("it is over".to_string());
        }
        // what was wished for meanwhile
        for (number, target) in state.forwards.iter().enumerate().skip(forwards.len()) {
            let late = remote(target);
            let late = late.and_then(|to| self.order(&current.orders, &self.local(number), &to));
            if let Err(why) = late {
                state.complaint = Some((Instant::now(), why));
                break;
            }
        }
        state.trouble = None;
        state.current = Some(current);
        Ok(child)
    }

    fn listens(&self, forwards: usize) -> bool {
        (0..forwards).all(|number| self.local(number).exists())
    }

    /// Has the ssh that runs forward one more.
    fn order(&self, orders: &Path, local: &Path, remote: &str) -> Result<(), String> {
        let host = &self.server.host;
        let mut command = Command::new("ssh");
        command.arg("-S").arg(orders).args(["-O", "forward"]);
        command.args([
            "-o",
            "StreamLocalBindMask=0177",
            "-o",
            "StreamLocalBindUnlink=yes",
        ]);
        command
            .arg("-L")
            .arg(format!("{}:{remote}", local.display()));
        command.args(["--", host]).stdin(Stdio::null());
        let told = command.output();
        let told = told.map_err(|error| format!("--ssh: cannot run ssh: {error}"))?;
        if told.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&told.stderr);
        let said = Some(said.trim().to_string()).filter(|said| !said.is_empty());
        Err(format!(
            "ssh {host}: {}",
            why_ended(said, Some(told.status))
        ))
    }
}

/// An endpoint as ssh takes it for the other end of a forward.
fn remote(target: &Endpoint) -> Result<String, String> {
    match target {
        Endpoint::Tcp { host, port } if host.contains(':') => Ok(format!("[{host}]:{port}")),
        Endpoint::Tcp { host, port } => Ok(format!("{host}:{port}")),
        Endpoint::Ipc(path) if path.is_absolute() => Ok(path.display().to_string()),
        Endpoint::Ipc(path) => Err(format!(
            "--ssh: the path of ipc://{} has to be absolute, it is on the other host",
            path.display()
        )),
    }
}

fn why_ended(said: Option<String>, status: Option<ExitStatus>) -> String {
    match (said, status) {
        (Some(said), _) => said,
        (None, Some(status)) if status.code() == Some(127) => "there is no ssh program".to_string(),
        (None, Some(status)) => format!("it ended with {status}"),
        (None, None) => "it ended".to_string(),
    }
}
