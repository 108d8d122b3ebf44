//! The program `circusd-stats`: publishes the statistics of another daemon's processes, as the one of Circus does as a
//! watcher of circusd. A daemon of circ needs no such process: it publishes by itself.
//!
//! Better than there: it measures only what somebody has subscribed to, waits for a daemon that is not there yet, and is
//! not misled by the order of events.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::cli::argparse::{Kind, Opt, Program, opt};
use crate::cli::output;
use crate::cli::ssh::{Server, Tunnel};
use crate::daemon::endpoint::Listener;
use crate::daemon::log;
use crate::daemon::socket_reads::{Since, SocketReads};
use crate::daemon::stats_feed::{self, Feed, Turn};
use crate::stats::{self, Interest, Round, Sampler};
use crate::wire::client::{Followed, follow};
use crate::wire::endpoint::{DEFAULT_CONTROL, DEFAULT_PUBSUB, DEFAULT_STATS, Endpoint};

mod source;

use source::{News, Socket, Source};

/// The command line of circusd-stats.
pub const PROGRAM: Program = Program {
    name: "circusd-stats",
    about: "Publish the statistics of the processes of a daemon",
    opts: OPTS,
    word: None,
    more: None,
};

const OPTS: &[Opt] = &[
    opt(&["-h", "--help"], Kind::Help, "print this help and exit"),
    opt(
        &["--endpoint"],
        Kind::Text,
        "control endpoint of the daemon",
    ),
    opt(
        &["--pubsub"],
        Kind::Text,
        "where the daemon publishes events",
    ),
    opt(&["--statspoint"], Kind::Text, "where to publish statistics"),
    opt(&["--log-level"], Kind::Text, "how much to log").of("loglevel"),
    opt(
        &["--log-output"],
        Kind::Text,
        "where to log: a file, or - for the standard error stream, which is the default",
    )
    .of("logoutput"),
    opt(&["--version"], Kind::Flag, "print the version and exit"),
    opt(
        &["--ssh"],
        Kind::Text,
        "log in to USER@HOST[:PORT] with ssh and reach the daemon from there",
    ),
];

/// Pause before a daemon that does not listen is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long the daemon may take to greet.
const GREETING: Duration = Duration::from_secs(5);
/// Without a round for so long nobody wants to hear of sockets any more.
const FORGOTTEN: Duration = Duration::from_secs(3);

/// Runs under the name `circusd-stats` (`args[0]` is the program's name).
pub fn run(args: Vec<OsString>) -> ExitCode {
    let line = match PROGRAM.read(&args) {
        Ok(line) => line,
        Err(code) => return code,
    };
    let result = || -> Result<(), String> {
        let endpoint = |name: &str, usual: &str| {
            let text = line.value(name).unwrap_or(usual);
            let endpoint = text.parse::<Endpoint>();
            endpoint
                .map(Endpoint::reachable)
                .map_err(|error| format!("--{name}: {error}"))
        };
        let control = endpoint("endpoint", DEFAULT_CONTROL)?;
        let events = endpoint("pubsub", DEFAULT_PUBSUB)?;
        let server = line.value("ssh").map(|text| Server::parse(text, None));
        let server = server.transpose()?;
        let tunnel = |to: &Endpoint| {
            let server = server.as_ref();
            let tunnel = server.map(|server| Tunnel::open(server, to, GREETING));
            tunnel.transpose()
        };
        let (to_control, to_events) = (tunnel(&control)?, tunnel(&events)?);
        let control = to_control.as_ref().map_or(control, Tunnel::endpoint);
        let events = to_events.as_ref().map_or(events, Tunnel::endpoint);
        let _log = start_log(line.value("log-level"), line.value("log-output"))?;
        let statspoint = line.value("statspoint").unwrap_or(DEFAULT_STATS);
        serve(control, events, statspoint)
    };
    match result() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            output::plain_error(&format!("circusd-stats: {reason}"));
            ExitCode::FAILURE
        }
    }
}

fn start_log(level: Option<&str>, output: Option<&str>) -> Result<log::LogGuard, String> {
    let setup = log::Setup::of(log::Wish {
        level,
        output,
        ..log::Wish::default()
    })?;
    let (guard, _control) = log::start(setup).map_err(|error| error.to_string())?;
    Ok(guard)
}

/// Publishes until a signal ends it.
fn serve(control: Endpoint, events: Endpoint, statspoint: &str) -> Result<(), String> {
    let news = News::default();
    let told = news.clone();
    let (turns, queue) = mpsc::sync_channel::<Turn>(1);
    spawn("events", move || hear(&events, &told))?;
    spawn("stats", move || measure(Source::new(control, news), &queue))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| format!("cannot start the event loop: {error}"))?;
    runtime.block_on(async {
        let listener = Listener::bind("--statspoint", statspoint, None);
        let mut feed = Some(Feed::serve(listener.map_err(|error| error.to_string())?));
        let on = |kind| signal(kind).map_err(|error| format!("cannot listen to signals: {error}"));
        let mut term = on(SignalKind::terminate())?;
        let mut int = on(SignalKind::interrupt())?;
        let mut quit = on(SignalKind::quit())?;
        let mut hup = on(SignalKind::hangup())?;
        tracing::info!("Starting the stats streamer");
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = int.recv() => break,
                _ = quit.recv() => break,
                _ = hup.recv() => break,
                () = stats_feed::due(&mut feed) => {
                    if let Some(turn) = feed.as_mut().and_then(Feed::begin) {
                        // there is room, as there is only one turn at a time
                        let _ = turns.try_send(turn);
                    }
                }
            }
        }
        tracing::info!("Stats streamer stopped");
        Ok(())
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = thread::Builder::new().name(name.to_string()).spawn(work);
    let failed = |error: io::Error| format!("cannot start a thread: {error}");
    thread.map(drop).map_err(failed)
}

/// Tells of every event, for ever.
fn hear(events: &Endpoint, news: &News) {
    let never = Notify::new();
    let mut complained = false;
    loop {
        let heard = follow(events, GREETING, &never, |followed| match followed {
            // what happened before is not known
            Followed::Connected => news.everything(),
            Followed::Event(topic, _) => news.event(topic),
        });
        match heard {
            Ok(()) => complained = false,
            Err(error) if !complained => {
                tracing::warn!("no events: {error}");
                complained = true;
            }
            Err(_) => {}
        }
        thread::sleep(AGAIN);
    }
}

/// Measures and publishes a round whenever it is its turn.
fn measure(mut source: Source, turns: &Receiver<Turn>) {
    let mut sampler = Sampler::new();
    let mut reads = None;
    loop {
        let turn = match reads {
            None => turns.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(_) => turns.recv_timeout(FORGOTTEN),
        };
        let turn = match turn {
            Ok(turn) => turn,
            Err(RecvTimeoutError::Timeout) => {
                reads = None;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        source.refresh();
        let round = Round {
            groups: source.groups(&turn.interest),
            sockets: socket_reads(&source, &turn.interest, &mut reads),
        };
        turn.publish(&round, &mut sampler);
    }
}

fn socket_reads(
    source: &Source,
    interest: &Interest,
    reads: &mut Option<(SocketReads, Since)>,
) -> Vec<stats::SocketReads> {
    let sockets = source.sockets();
    if sockets.is_empty() || !interest.in_or_under(&Round::topic(Round::SOCKETS)) {
        *reads = None;
        return Vec::new();
    }
    let (counted, since) = reads.get_or_insert_default();
    let names: Vec<String> = sockets.iter().map(|one| one.fd.to_string()).collect();
    let owns = sockets.iter().map(|socket| &socket.own);
    let counting = counted.want(names.iter().map(String::as_str).zip(owns), FORGOTTEN);
    if let Err(error) = counting {
        tracing::warn!("cannot count the reads of sockets: {error}");
    }
    let told = |(socket, name): (&Socket, &String)| stats::SocketReads {
        fd: socket.fd,
        address: socket.address.clone(),
        reads: since.take(counted, name),
    };
    sockets.iter().zip(&names).map(told).collect()
}
