//! The program `circus-top`: the statistics that a daemon publishes, on a screen that is painted anew every second.
//!
//! It works against this daemon, a real circusd with `statsd = True`, and circusd-stats. Better than there: `q` ends it,
//! it says what it waits for, it may be given the control endpoint as well, and it needs no terminal.

use std::ffi::OsString;
use std::io::{self, Read};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, raise};
use serde_json::{Map, Value};

use crate::cli::argparse::{Kind, Opt, Program, opt};
use crate::cli::output;
use crate::cli::ssh::{Server, Tunnel};
use crate::wire::client::Patience;
use crate::wire::endpoint::{DEFAULT_STATS, Endpoint};
use crate::wire::{Client, ClientError, Subscriber, command, pytext};

pub mod board;
mod terminal;

use board::Board;
use terminal::Terminal;

/// The command line of circus-top.
pub const PROGRAM: Program = Program {
    name: "circus-top",
    about: "Show the statistics of the processes of a daemon as they come",
    opts: OPTS,
    word: None,
    more: None,
};

const OPTS: &[Opt] = &[
    opt(&["-h", "--help"], Kind::Help, "print this help and exit"),
    opt(
        &["--endpoint"],
        Kind::Text,
        "where the daemon, or circusd-stats, publishes statistics; its control endpoint will do",
    ),
    opt(&["--version"], Kind::Flag, "print the version and exit"),
    opt(
        &["--ssh"],
        Kind::Text,
        "log in to USER@HOST[:PORT] with ssh and reach the endpoint from there",
    ),
    opt(
        &["--process-timeout"],
        Kind::Text,
        "seconds after which a process that nothing is heard of is removed; 3 if not given",
    ),
];

/// From one painting to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// Messages that may wait to be taken; whoever publishes more than that between two looks has to wait.
const WAITING: usize = 4096;
/// How long a daemon may take to answer where it publishes.
const ANSWER: Duration = Duration::from_secs(5);
/// Seconds without a message after which the screen says so.
const SILENCE: f64 = 3.0;

/// What wakes the painter.
enum News {
    Message(Vec<u8>, Vec<u8>),
    Key(u8),
    Signal(Signal),
    /// Why there will be no messages.
    Failed(String),
}

/// Runs under the name `circus-top` (`args[0]` is the program's name).
pub fn run(args: Vec<OsString>) -> ExitCode {
    let line = match PROGRAM.read(&args) {
        Ok(line) => line,
        Err(code) => return code,
    };
    let fail = |reason: &str| {
        output::plain_error(&format!("circus-top: {reason}"));
        ExitCode::FAILURE
    };
    let keep = line.value("process-timeout").unwrap_or("3");
    let Some(keep) = pytext::int(keep) else {
        return fail(&format!(
            "--process-timeout: {keep:?} is no whole number of seconds"
        ));
    };
    let endpoint = line.value("endpoint").unwrap_or(DEFAULT_STATS);
    let endpoint = match endpoint.parse::<Endpoint>() {
        Ok(endpoint) => endpoint.reachable(),
        Err(error) => return fail(&format!("--endpoint: {error}")),
    };
    let tunnel = line
        .value("ssh")
        .map(|server| Tunnel::open(&Server::parse(server, None)?, &endpoint, LOGIN));
    let tunnel = match tunnel.transpose() {
        Ok(tunnel) => tunnel,
        Err(reason) => return fail(&reason),
    };
    let nearby = tunnel.as_ref().map_or(endpoint.clone(), Tunnel::endpoint);
    let outcome = watch(nearby, &endpoint, keep as f64);
    drop(tunnel);
    match outcome {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(signal)) => {
            // it ends as if it had not been caught
            let _ = SigSet::all().thread_unblock();
            let _ = raise(signal);
            ExitCode::FAILURE
        }
        Err(reason) => fail(&reason),
    }
}

/// So long ssh tries to reach its host.
const LOGIN: Duration = Duration::from_secs(5);

/// Paints until it is told to end; gives the signal that it is to die of.
fn watch(endpoint: Endpoint, shown: &Endpoint, keep: f64) -> Result<Option<Signal>, String> {
    let (sender, news) = mpsc::sync_channel(WAITING);
    // Threads inherit the mask: from here on only the one that waits for signals gets them.
    let signals: SigSet = [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGTSTP,
        Signal::SIGWINCH,
    ]
    .into_iter()
    .collect();
    signals
        .thread_block()
        .map_err(|error| format!("cannot listen to signals: {error}"))?;
    let threads = || -> io::Result<()> {
        let (to_painter, from) = (sender.clone(), endpoint.clone());
        spawn("signals", move || tell_signals(&signals, &to_painter))?;
        if terminal::is_painted() {
            // elsewhere nobody types, and who reads from a terminal in the background is stopped
            let to_painter = sender.clone();
            spawn("keys", move || tell_keys(&to_painter))?;
        }
        spawn("statistics", move || tell_messages(&from, &sender))
    };
    threads().map_err(|error| format!("cannot start a thread: {error}"))?;

    let clock = Instant::now();
    let seconds = || clock.elapsed().as_secs_f64();
    let mut board = Board::default();
    let mut terminal = Terminal::enter();
    let mut next = clock;
    loop {
        let now = Instant::now();
        if now >= next {
            let lines = screen(&board, shown, seconds(), terminal.width());
            if terminal.show(&lines).is_err() {
                return Ok(None);
            }
            next = (next + PERIOD).max(now);
            continue;
        }
        match news.recv_timeout(next - now) {
            Ok(News::Message(topic, payload)) => board.take(&topic, &payload, seconds(), keep),
            Ok(News::Key(b'q' | b'Q')) | Ok(News::Signal(Signal::SIGINT)) => return Ok(None),
            Ok(News::Key(_)) | Err(RecvTimeoutError::Timeout) => {}
            Ok(News::Signal(Signal::SIGWINCH)) => next = now,
            Ok(News::Signal(Signal::SIGTSTP)) => {
                drop(terminal);
                let _ = raise(Signal::SIGSTOP); // it goes on here, or is not stopped at all
                terminal = Terminal::enter();
                next = Instant::now();
            }
            Ok(News::Signal(signal)) => return Ok(Some(signal)),
            Ok(News::Failed(reason)) => return Err(reason),
            // the thread that waits for signals never ends
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}

/// What is shown now.
fn screen(board: &Board, endpoint: &Endpoint, now: f64, width: usize) -> Vec<String> {
    let Some(silent) = board.silent_for(now) else {
        let mut lines = vec![String::new(), "*** Waiting for data ***".to_string()];
        if now > SILENCE {
            lines.push(format!("from {endpoint}"));
            lines
                .push("A daemon publishes it with `statsd = True` in its [circus] section.".into());
        }
        return lines;
    };
    let mut lines = board.lines(width);
    if silent > SILENCE
        && let Some(title) = lines.first_mut()
    {
        title.push_str(&format!("   nothing has come for {silent:.0} s"));
    }
    lines
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.to_string())
        .spawn(work)
        .map(drop)
}

fn tell_signals(signals: &SigSet, painter: &SyncSender<News>) {
    while let Ok(signal) = signals.wait() {
        if painter.send(News::Signal(signal)).is_err() {
            return;
        }
    }
}

fn tell_keys(painter: &SyncSender<News>) {
    let mut keys = io::stdin().lock().bytes();
    while let Some(Ok(key)) = keys.next() {
        if painter.send(News::Key(key)).is_err() {
            return;
        }
    }
}

fn tell_messages(endpoint: &Endpoint, painter: &SyncSender<News>) {
    let mut subscriber = match subscribe(endpoint) {
        Ok(subscriber) => subscriber,
        Err(reason) => {
            // the painter has ended already if it does not take it
            let _ = painter.send(News::Failed(reason));
            return;
        }
    };
    loop {
        let (topic, payload) = subscriber.next_event();
        if painter.send(News::Message(topic, payload)).is_err() {
            return;
        }
    }
}

/// Subscribes, as soon as somebody listens there.
fn subscribe(endpoint: &Endpoint) -> Result<Subscriber, String> {
    // The real one waits for ever.
    const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
    let topics = ["stat.".to_string()];
    let at = |endpoint: &Endpoint| {
        Subscriber::connect(endpoint, &topics, FOREVER, Patience::WaitForListener)
    };
    match at(endpoint) {
        // it is no publisher: a control endpoint tells where that is
        Err(ClientError::NotZeroMq { .. }) => {
            let published = published_at(endpoint)?;
            at(&published).map_err(|error| error.to_string())
        }
        other => other.map_err(|error| error.to_string()),
    }
}

/// Asks a daemon where it publishes statistics.
fn published_at(control: &Endpoint) -> Result<Endpoint, String> {
    let mut client = Client::connect(control, ANSWER).map_err(|error| error.to_string())?;
    let properties = Map::from_iter([("option".to_string(), Value::from("stats_endpoint"))]);
    let reply = client
        .call(command::message("globaloptions", properties))
        .map_err(|error| error.to_string())?;
    let told = reply
        .pointer("/options/stats_endpoint")
        .and_then(Value::as_str)
        .ok_or_else(|| {
            format!("{control} publishes no statistics, and does not say where that is done")
        })?;
    told.parse::<Endpoint>()
        .map(Endpoint::reachable)
        .map_err(|error| format!("{control} publishes statistics at an unusable address: {error}"))
}
