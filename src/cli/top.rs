//! `circ top`: watchers and processes, their use of the machine over time, sockets and events on a terminal, with keys that
//! act. The screen is made by the room `top`; here is what it needs of the world: the terminal, the daemon, the clock.
//!
//! It is a client as any other: of circ's daemon or a circusd, over ipc, tcp or ssh. Where statistics are published it
//! subscribes to them, elsewhere it asks once a second.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::unistd::Pid;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyEvent};
use ratatui::layout::Rect;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::cli::connection::{self, RouteError};
use crate::cli::{EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, output};
use crate::top::happenings::Weight;
use crate::top::rows::By;
use crate::top::screen::{Link, Look, Mode, Source};
use crate::top::{News, Screen, Wish, view};
use crate::wire::{Client, Endpoint, command};

mod daemon;
mod follow;
mod terminal;

use daemon::Ways;
use follow::Following;
use terminal::Taken;

/// News that may wait for the painter; who has more waits.
const WAITING: usize = 4096;
/// Between two paintings when nobody presses a key.
const CALM: Duration = Duration::from_millis(200);
/// News come in swarms: so long is waited for the rest of one.
const SWARM: Duration = Duration::from_millis(30);
/// From one value of a history to the next.
const TICK: Duration = Duration::from_secs(1);
/// News that are taken before the next painting at the most.
const BATCH: usize = 2 * WAITING;
/// Columns where nothing tells them.
const USUAL: u16 = 120;

/// Arguments of `circ top`.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// What comes first
    #[arg(long, value_name = "COLUMN", default_value = "cpu")]
    sort: Sort,
    /// Only watchers and processes with this text in their names, numbers, commands or users
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    filter: String,
    /// Print one screen as text, of the use of one second, and end
    #[arg(long)]
    once: bool,
    /// Only look: no key sends the daemon a command
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    connection: connection::Args,
}

/// What `--sort` takes.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    Cpu,
    Mem,
    Name,
    Restarts,
    Uptime,
}

impl Sort {
    fn by(self) -> By {
        match self {
            Sort::Cpu => By::Cpu,
            Sort::Mem => By::Memory,
            Sort::Name => By::Name,
            Sort::Restarts => By::Restarts,
            Sort::Uptime => By::Uptime,
        }
    }
}

/// What the painter hears.
pub enum Input {
    /// Of the daemon.
    News(News),
    /// A key was pressed.
    Key(KeyEvent),
    /// The terminal has another size, or wants to be painted.
    Resized,
    /// Nobody can type any more; why.
    NoKeys(String),
    /// A signal.
    Signal(Signal),
}

/// How the screen was left.
enum End {
    /// By a key.
    Wished,
    /// This signal is to be died of.
    Signal(Signal),
    /// It could not go on.
    Failed(String),
}

/// Shows the screen until it is left.
pub fn run(args: Args, before: connection::Args) -> ExitCode {
    let connection = args.connection.clone().or(before);
    if connection.json {
        output::error("circ top prints no JSON; `circ stats --json` and `circ status --json` do");
        return ExitCode::from(EXIT_USAGE);
    }
    if !args.once
        && let Some(why) = terminal::unfit()
    {
        output::error(why);
        return ExitCode::from(EXIT_USAGE);
    }
    // all that may fail, or ask for a password, comes before the screen is taken
    let (ways, address) = match ways(&connection) {
        Ok(found) => found,
        Err((code, reason)) => {
            output::error(&reason);
            return ExitCode::from(code);
        }
    };
    let look = Look {
        colour: !args.once && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        unicode: speaks_unicode(),
        still: args.once,
        read_only: args.read_only,
        east: east(),
    };
    let mut screen = Screen::new(address, look, now());
    screen.choice.by = args.sort.by();
    screen.choice.filter = args.filter;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            output::error(&format!("cannot wait for anything: {error}"));
            return ExitCode::from(EXIT_UNREACHABLE);
        }
    };
    let end = match args.once {
        true => {
            let code = runtime.block_on(once(&ways, screen));
            runtime.shutdown_background();
            return code;
        }
        false => show(&runtime, &ways, screen),
    };
    runtime.shutdown_background();
    match end {
        End::Wished => ExitCode::SUCCESS,
        End::Signal(signal) => {
            // the tunnels of ssh end first
            drop(ways);
            // it ends as if it had not been caught
            let _ = SigSet::all().thread_unblock();
            let _ = raise(signal);
            ExitCode::FAILURE
        }
        End::Failed(reason) => {
            output::error(&reason);
            ExitCode::from(EXIT_UNREACHABLE)
        }
    }
}

/// The ways to the daemon, which has to answer, and its address as it is shown.
fn ways(connection: &connection::Args) -> Result<(Ways, String), (u8, String)> {
    let failed = |error: RouteError| (error.code(), error.to_string());
    let control = connection.route().map_err(failed)?;
    let unreached = |error| (EXIT_UNREACHABLE, control.explain(&error));
    let mut client = Client::connect(&control.endpoint, connection.timeout()).map_err(unreached)?;
    let reply = client
        .call(command::message("globaloptions", Map::new()))
        .map_err(|error| (EXIT_UNREACHABLE, control.explain(&error)))?;
    drop(client);
    if reply.get("status").and_then(Value::as_str) == Some("error") {
        return Err((EXIT_REFUSED, output::refusal(&reply)));
    }
    let named = connection.address().map_err(|why| (EXIT_USAGE, why))?;
    let told = |key: &str| -> Option<Endpoint> {
        let text = reply.pointer(&format!("/options/{key}"))?.as_str()?;
        let told = text.parse::<Endpoint>().ok()?;
        Some(match connection.remote_host().is_some() {
            // as that host sees it
            true => told.reachable(),
            false => seen_from_here(told, &named),
        })
    };
    // a way that cannot be had now is none: the screen says what is missing
    let way = |endpoint: Option<Endpoint>| Some(Arc::new(control.beside(endpoint?).ok()?));
    let local = connection.remote_host().is_none() && is_here(&named);
    let shown = match connection.remote_host() {
        Some(host) => format!("{host} {named}"),
        None => named.to_string(),
    };
    let events = way(told("pubsub_endpoint"));
    let statistics = way(told("stats_endpoint"));
    let ways = Ways {
        events,
        statistics,
        control: Arc::new(control),
        local,
        timeout: connection.timeout(),
    };
    Ok((ways, shown))
}

/// Where a publisher is reached that says it is at `told`, of a daemon whose control endpoint is `control`.
fn seen_from_here(told: Endpoint, control: &Endpoint) -> Endpoint {
    match (told, control) {
        (Endpoint::Tcp { host, port }, Endpoint::Tcp { host: other, .. })
            if matches!(host.as_str(), "*" | "0.0.0.0" | "::") =>
        {
            Endpoint::Tcp {
                host: other.clone(),
                port,
            }
        }
        (told, _) => told.reachable(),
    }
}

/// Whether what listens there runs on this machine.
fn is_here(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Ipc(_) => true,
        Endpoint::Tcp { host, .. } if host == "localhost" => true,
        Endpoint::Tcp { host, .. } => host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
    }
}

/// Seconds since the epoch.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// Seconds that the local time is ahead of Greenwich.
fn east() -> i64 {
    let offset = jiff::tz::TimeZone::system().to_offset(jiff::Timestamp::now());
    offset.seconds().into()
}

/// Whether the terminal takes characters beyond ASCII, as far as the locale says.
fn speaks_unicode() -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL")
        .or_else(|| set("LC_CTYPE"))
        .or_else(|| set("LANG"));
    locale.is_some_and(|locale| {
        let locale = locale.to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// One screen of everything, as text, once a second has been measured.
async fn once(ways: &Ways, mut screen: Screen) -> ExitCode {
    let (sender, mut inputs) = mpsc::channel(WAITING);
    let _calls = daemon::talk(ways, &sender);
    let limit = tokio::time::Instant::now() + ways.timeout + 4 * TICK;
    let mut asked = 0;
    // the first topic of all comes once a round
    let mut first: Option<Vec<u8>> = None;
    let mut rounds = 0;
    while rounds < 3 && asked < 2 {
        let input = match tokio::time::timeout_at(limit, inputs.recv()).await {
            Ok(Some(Input::News(news))) => news,
            Ok(Some(_)) => continue,
            Ok(None) | Err(_) => break,
        };
        match &input {
            News::Stats(_) if screen.source == Source::Asked => asked += 1,
            News::Published(topic, _) => {
                let first = first.get_or_insert_with(|| topic.clone());
                rounds += usize::from(first == topic);
            }
            News::Away(why) => {
                output::error(why);
                return ExitCode::from(EXIT_UNREACHABLE);
            }
            _ => {}
        }
        screen.hear(input, now());
    }
    if screen.link == Link::Coming {
        output::error(&format!("{} has not answered", screen.address));
        return ExitCode::from(EXIT_UNREACHABLE);
    }
    screen.tick(now());
    let told = std::env::var("COLUMNS").ok();
    let told = told
        .and_then(|columns| columns.parse().ok())
        .filter(|columns| *columns > 0);
    let real = || terminal_size::terminal_size().map(|(width, _)| width.0);
    let width = told.or_else(real).unwrap_or(USUAL).clamp(1, 1000);
    // a buffer has no more cells than this
    let height = view::full_height(&mut screen).min(u16::MAX / width);
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    view::draw(&mut screen, area, &mut buffer);
    for line in lines(&buffer) {
        if !output::line(&line) {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// The text of a buffer, without the empty lines at its end.
fn lines(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width).max(1);
    let mut lines: Vec<String> = Vec::new();
    for row in buffer.content.chunks(width) {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        lines.push(line.trim_end().to_string());
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// The screen, until it is left.
fn show(runtime: &tokio::runtime::Runtime, ways: &Ways, screen: Screen) -> End {
    let (sender, inputs) = mpsc::channel(WAITING);
    // Threads inherit the mask: from here on only the one that waits for signals gets them.
    let signals: SigSet = [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGTSTP,
        Signal::SIGWINCH,
    ]
    .into_iter()
    .collect();
    if let Err(error) = signals.thread_block() {
        return End::Failed(format!("cannot listen to signals: {error}"));
    }
    terminal::give_back_on_panic();
    let taken = match Taken::take() {
        Ok(taken) => taken,
        Err(error) => return End::Failed(format!("cannot use the terminal: {error}")),
    };
    let (to_painter, from_keys) = (sender.clone(), sender.clone());
    let started = spawn("signals", move || tell_signals(&signals, &to_painter))
        .and_then(|()| spawn("keys", move || tell_keys(&from_keys)));
    if let Err(error) = started {
        return End::Failed(format!("cannot start a thread: {error}"));
    }
    let painter = Painter {
        screen,
        terminal: Some(taken),
        ways,
        news: sender,
        following: None,
    };
    runtime.block_on(painter.run(inputs))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let builder = std::thread::Builder::new().name(name.to_string());
    builder.spawn(work).map(drop)
}

fn tell_signals(signals: &SigSet, painter: &mpsc::Sender<Input>) {
    while let Ok(signal) = signals.wait() {
        if painter.blocking_send(Input::Signal(signal)).is_err() {
            return;
        }
    }
}

fn tell_keys(painter: &mpsc::Sender<Input>) {
    loop {
        let input = match event::read() {
            Ok(Event::Key(key)) => Input::Key(key),
            Ok(Event::Resize(..)) => Input::Resized,
            Ok(_) => continue,
            Err(error) => Input::NoKeys(error.to_string()),
        };
        let last = matches!(input, Input::NoKeys(_));
        if painter.blocking_send(input).is_err() || last {
            return;
        }
    }
}

/// Who paints.
struct Painter<'a> {
    screen: Screen,
    /// None while we are stopped.
    terminal: Option<Taken>,
    ways: &'a Ways,
    news: mpsc::Sender<Input>,
    following: Option<Following>,
}

impl Painter<'_> {
    async fn run(mut self, mut inputs: mpsc::Receiver<Input>) -> End {
        let calls = daemon::talk(self.ways, &self.news);
        let mut tick = Instant::now() + TICK;
        // when to paint, if there is something to paint
        let mut paint = Some(Instant::now());
        let mut painted = Instant::now() - CALM;
        loop {
            let next = paint.map_or(tick, |paint| paint.min(tick));
            let input = tokio::select! {
                biased;
                input = inputs.recv() => input,
                () = tokio::time::sleep_until(next.into()) => None,
            };
            let mut input = input;
            let mut taken = 0;
            while let Some(one) = input.take() {
                // somebody who presses a key wants to see at once what it does
                let soon = match &one {
                    Input::News(News::Answer(..)) | Input::Key(_) => Instant::now(),
                    Input::News(_) => (painted + CALM).max(Instant::now() + SWARM),
                    _ => Instant::now(),
                };
                paint = Some(paint.map_or(soon, |paint| paint.min(soon)));
                if let Some(end) = self.take(one, &calls) {
                    return end;
                }
                taken += 1;
                if taken < BATCH {
                    input = inputs.try_recv().ok();
                }
            }
            let time = Instant::now();
            if time >= tick {
                self.screen.tick(now());
                // after a stop the missed ones are not made up for
                tick = (tick + TICK).max(time);
                paint.get_or_insert((painted + CALM).max(time));
            }
            if terminal::is_lost() {
                return End::Failed("circ top has failed; this is a mistake in circ".to_string());
            }
            if paint.is_some_and(|paint| paint <= Instant::now()) {
                if let Some(terminal) = &mut self.terminal
                    && let Err(error) = terminal.paint(&mut self.screen)
                {
                    return End::Failed(format!("the terminal has gone: {error}"));
                }
                painted = Instant::now();
                paint = None;
            }
        }
    }

    fn take(&mut self, input: Input, calls: &mpsc::Sender<crate::top::keys::Call>) -> Option<End> {
        match input {
            Input::News(news) => {
                self.screen.hear(news, now());
                None
            }
            Input::Resized | Input::Signal(Signal::SIGWINCH) => None,
            Input::NoKeys(why) => Some(End::Failed(format!("nobody can type any more: {why}"))),
            Input::Signal(Signal::SIGTSTP) => self.stop(),
            Input::Signal(Signal::SIGINT) => Some(End::Wished),
            Input::Signal(signal) => Some(End::Signal(signal)),
            Input::Key(key) => {
                #[cfg(debug_assertions)]
                fail_on_purpose(key);
                let wish = self.screen.press(key)?;
                self.fulfil(wish, calls)
            }
        }
    }

    fn fulfil(&mut self, wish: Wish, calls: &mpsc::Sender<crate::top::keys::Call>) -> Option<End> {
        match wish {
            Wish::Quit => return Some(End::Wished),
            Wish::Suspend => {
                // as the terminal itself does it: to all that were started together
                let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
            }
            Wish::Repaint => {
                if let Some(terminal) = &mut self.terminal
                    && let Err(error) = terminal.forget()
                {
                    return Some(End::Failed(format!("the terminal has gone: {error}")));
                }
            }
            Wish::Call(call) => {
                if let Some(news) = daemon::send(calls, call) {
                    self.screen.hear(news, now());
                }
            }
            Wish::Follow(watcher) => {
                let ways = self.ways;
                let started = follow::start(
                    watcher,
                    ways.control.clone(),
                    ways.local,
                    ways.timeout,
                    self.news.clone(),
                );
                match started {
                    Ok(following) => self.following = Some(following),
                    Err(error) => {
                        self.screen.mode = Mode::Table;
                        let words = format!("cannot follow the log: {error}");
                        self.screen.hear(News::Answer(words, Weight::Bad), now());
                    }
                }
            }
            Wish::Unfollow => self.following = None,
        }
        None
    }

    /// Gives the terminal back, stops, and takes it again when somebody says so.
    fn stop(&mut self) -> Option<End> {
        self.terminal = None;
        // As it would have been without us: a shell sees it, and where there is none nothing happens. It is blocked, so
        // it waits for us to let it in.
        let stop = SigSet::from(Signal::SIGTSTP);
        let _ = raise(Signal::SIGTSTP);
        let _ = stop.thread_unblock();
        let _ = stop.thread_block();
        match Taken::take() {
            Ok(taken) => {
                self.terminal = Some(taken);
                None
            }
            Err(error) => Some(End::Failed(format!("the terminal has gone: {error}"))),
        }
    }
}

/// For the test of what a failure leaves behind.
#[cfg(debug_assertions)]
fn fail_on_purpose(key: KeyEvent) {
    let wanted = key.code == event::KeyCode::Char('!');
    if wanted && std::env::var_os("CIRC_TEST_PANIC").is_some() {
        let failed = std::thread::spawn(|| panic!("on purpose")).join();
        debug_assert!(failed.is_err());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_are_found_where_the_daemon_is() {
        let endpoint = |text: &str| text.parse::<Endpoint>().unwrap();
        let far = endpoint("tcp://192.0.2.1:5555");
        for (told, expected) in [
            ("tcp://0.0.0.0:5556", "tcp://192.0.2.1:5556"),
            ("tcp://*:5556", "tcp://192.0.2.1:5556"),
            ("tcp://192.0.2.9:5556", "tcp://192.0.2.9:5556"),
            ("ipc:///run/events", "ipc:///run/events"),
        ] {
            let seen = seen_from_here(endpoint(told), &far);
            assert_eq!(seen, endpoint(expected), "{told}");
        }
        let near = endpoint("ipc:///run/circ");
        let seen = seen_from_here(endpoint("tcp://0.0.0.0:5556"), &near);
        assert_eq!(seen, endpoint("tcp://127.0.0.1:5556"));
        assert!(is_here(&near) && is_here(&endpoint("tcp://127.0.0.2:1")));
        assert!(!is_here(&far));
    }
}
