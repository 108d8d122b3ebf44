//! `circ status --watch`: the picture again with each event and every second, over the daemon's absences.
//!
//! Elsewhere than on a terminal it is printed when it has changed: a block of lines and an empty one, or a line of JSON.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use ratatui::crossterm::event::KeyEvent;
use serde_json::{Map, Value};

use super::asking::{self, Failure};
use super::picture::Watcher;
use super::terminal::{self, Taken};
use super::view::{Told, View};
use super::{Trouble, Wish, connect, explained, for_script, lines, table};
use crate::cli::connection::{self, Route};
use crate::cli::paint::{Paint, Tone, cut, span};
use crate::cli::{interrupts, output};
use crate::wire::{Client, follow};

/// From one look to the next when nothing happens.
const PERIOD: Duration = Duration::from_secs(1);
/// Events that come together are one.
const TOGETHER: Duration = Duration::from_millis(50);
/// Between two attempts to listen to events.
const PAUSE: Duration = Duration::from_secs(1);

/// Why to look again.
enum Wake {
    Event,
    Signal(Signal),
    Key(KeyEvent),
}

/// Shows it until a signal ends it, or nobody reads it any more.
pub fn run(wish: &Wish, connection: &connection::Args) -> ExitCode {
    let first = connect(connection).and_then(|(route, mut client)| {
        match look(wish, connection, &mut client) {
            Ok(seen) => Ok((Link { route, client }, seen)),
            Err(failure) => Err(explained(&route, failure)),
        }
    });
    let (link, seen) = match first {
        Ok(first) => first,
        Err((code, why)) => {
            output::error(&why);
            return ExitCode::from(code);
        }
    };
    let (sender, wakes) = mpsc::channel();
    hear_signals(sender.clone());
    hear_events(connection.clone(), sender.clone());
    let terminal = wish.rich && std::io::stdout().is_terminal();
    let mut screen = Screen {
        taken: terminal.then(Taken::take),
        terminal,
        view: View::default(),
        looked: Instant::now(),
        title: match &wish.name {
            Some(name) => format!("circ status {name}"),
            None => "circ status".to_string(),
        },
        seen,
        shown: None,
        lost: None,
    };
    if terminal {
        terminal::hear_keys(move |key| sender.send(Wake::Key(key)).is_ok());
    }
    screen.keep_on(wish, connection, link, &wakes)
}

/// A connection, with what keeps it open.
struct Link {
    route: Route,
    client: Client,
}

/// What was seen last.
enum Seen {
    Watchers(Vec<Watcher>),
    Lines(Vec<String>),
    Reply(Value),
}

fn look(wish: &Wish, connection: &connection::Args, client: &mut Client) -> Result<Seen, Failure> {
    if wish.rich {
        if wish.name.is_none() {
            return asking::watchers(client).map(Seen::Watchers);
        }
        let paint = Paint::for_stdout();
        return lines(wish, client, super::width(), paint).map(Seen::Lines);
    }
    let mut asked = Map::new();
    asked.extend(
        wish.name
            .iter()
            .map(|name| ("name".to_string(), name.as_str().into())),
    );
    let mut reply = asking::call(client, "status", asked)?;
    if connection.json {
        reply.remove("id");
    }
    Ok(Seen::Reply(Value::Object(reply)))
}

struct Screen {
    terminal: bool,
    /// None where it is no terminal, and while we are stopped.
    taken: Option<Taken>,
    view: View,
    /// When the daemon was asked last.
    looked: Instant,
    title: String,
    seen: Seen,
    /// The last text, where it is printed when it has changed.
    shown: Option<String>,
    /// Since when the daemon has been away, and why.
    lost: Option<(Instant, String)>,
}

impl Screen {
    fn keep_on(
        &mut self,
        wish: &Wish,
        connection: &connection::Args,
        link: Link,
        wakes: &Receiver<Wake>,
    ) -> ExitCode {
        let mut link = Some(link);
        loop {
            if !self.paint(connection.json) {
                return ExitCode::SUCCESS;
            }
            match wakes.recv_timeout(PERIOD.saturating_sub(self.looked.elapsed())) {
                Ok(Wake::Key(key)) => match self.view.press(key, height()) {
                    Told::End => return ExitCode::SUCCESS,
                    Told::Look => {}
                    Told::Paint | Told::Nothing => continue,
                },
                Ok(Wake::Signal(Signal::SIGTSTP)) => self.stop(),
                Ok(Wake::Signal(Signal::SIGWINCH)) if wish.name.is_none() => continue,
                Ok(Wake::Signal(Signal::SIGWINCH)) => {}
                Ok(Wake::Signal(_)) => return ExitCode::SUCCESS,
                Ok(Wake::Event) => {
                    let end = Instant::now() + TOGETHER;
                    while let Some(left) = end.checked_duration_since(Instant::now()) {
                        match wakes.recv_timeout(left) {
                            Ok(Wake::Event | Wake::Signal(Signal::SIGWINCH)) => {}
                            Ok(Wake::Signal(Signal::SIGTSTP)) => self.stop(),
                            Ok(Wake::Signal(_)) => return ExitCode::SUCCESS,
                            Ok(Wake::Key(key)) => {
                                if self.view.press(key, height()) == Told::End {
                                    return ExitCode::SUCCESS;
                                }
                            }
                            Err(_) => break,
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody is left who wakes; the clock does.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(PERIOD),
            }
            if self.view.paused {
                self.looked = Instant::now();
                continue;
            }
            let seen = again(wish, connection, &mut link);
            self.looked = Instant::now();
            match seen {
                Ok(seen) => {
                    if let Some((since, _)) = self.lost.take()
                        && !self.terminal
                    {
                        let away = span(since.elapsed().as_secs_f64());
                        output::plain_error(&format!("the daemon is there again, after {away}"));
                    }
                    self.seen = seen;
                }
                Err((_, why)) => {
                    if self.lost.is_none() && !self.terminal {
                        output::plain_error(&format!("lost the daemon: {why}; trying again"));
                    }
                    let since = self
                        .lost
                        .take()
                        .map_or_else(Instant::now, |(since, _)| since);
                    self.lost = Some((since, why));
                }
            }
        }
    }

    /// Gives the terminal back, stops, and takes it again.
    fn stop(&mut self) {
        self.taken = None;
        // It goes on here when it is told to.
        let _ = raise(Signal::SIGSTOP);
        self.taken = self.terminal.then(Taken::take);
    }

    /// False when nobody looks any more.
    fn paint(&mut self, json: bool) -> bool {
        if self.terminal {
            return output::bytes(self.frame().as_bytes());
        }
        let text = match &self.seen {
            Seen::Watchers(watchers) => {
                table::lines(watchers, super::width(), Paint::for_stdout()).join("\n")
            }
            Seen::Lines(lines) => lines.join("\n"),
            Seen::Reply(reply) => for_script(reply, json),
        };
        // When the daemon said it changes always and is no news.
        let compared = match &self.seen {
            Seen::Reply(reply) => {
                let mut reply = reply.clone();
                reply.as_object_mut().map(|reply| reply.remove("time"));
                reply.to_string()
            }
            Seen::Watchers(_) | Seen::Lines(_) => text.clone(),
        };
        if self.shown.as_ref() == Some(&compared) {
            return true;
        }
        self.shown = Some(compared);
        match json {
            true => output::line(&text),
            false => output::line(&format!("{text}\n")),
        }
    }

    fn frame(&mut self) -> String {
        let (columns, rows) = size();
        let paint = Paint::for_stdout();
        let top = self.top(columns, paint);
        let room = rows.saturating_sub(1);
        // the head of a table stays
        let (lines, kept) = match &mut self.seen {
            Seen::Watchers(watchers) => {
                self.view.sort(watchers);
                (table::lines(watchers, Some(columns), paint), 1)
            }
            Seen::Lines(lines) => (lines.clone(), 0),
            Seen::Reply(_) => return String::new(),
        };
        let (seen, before, after) = self.view.part(&lines, kept, room);
        let mut all: Vec<String> = std::iter::once(&top).chain(seen).cloned().collect();
        if before + after > 0 {
            let more = match (before, after) {
                (0, after) => format!("… and {after} lines more"),
                (before, 0) => format!("… {before} lines before"),
                (before, after) => format!("… {before} lines before, {after} after"),
            };
            all.push(paint.tone(Tone::Faint, &cut(&more, columns)));
        }
        all.truncate(rows.max(1));
        format!("\x1b[H{}\x1b[K\x1b[J", all.join("\x1b[K\r\n"))
    }

    /// The top line.
    fn top(&self, columns: usize, paint: Paint) -> String {
        if let Some((since, why)) = &self.lost {
            let away = span(since.elapsed().as_secs_f64());
            let text = format!("lost the daemon {away} ago, trying again: {why}");
            return paint.tone(Tone::Bad, &cut(&text, columns));
        }
        let mut text = self.title.clone();
        if self.view.paused {
            text.push_str("  stands still, space goes on");
            return paint.tone(Tone::Busy, &cut(&text, columns));
        }
        let now = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
        text = format!("{text}  {now}");
        let table = matches!(self.seen, Seen::Watchers(_));
        if table {
            let reversed = if self.view.reversed { ", reversed" } else { "" };
            text = format!("{text}  {}{reversed}", self.view.order.words());
        }
        let keys = match (terminal::reads_keys(), table) {
            (false, _) => "",
            (true, true) => "s order  r reverse  space pause  q end",
            (true, false) => "space pause  q end",
        };
        let free = columns.saturating_sub(text.chars().count() + keys.len());
        if !keys.is_empty() && free > 1 {
            text = format!("{text}{}{keys}", " ".repeat(free));
        }
        paint.tone(Tone::Faint, &cut(&text, columns))
    }
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    let size = terminal_size::terminal_size();
    size.map_or((80, 24), |(width, height)| {
        (usize::from(width.0), usize::from(height.0))
    })
}

/// Rows for what is shown, below the top line.
fn height() -> usize {
    size().1.saturating_sub(1)
}

/// Looks again, on a new connection if the last was lost.
fn again(
    wish: &Wish,
    connection: &connection::Args,
    link: &mut Option<Link>,
) -> Result<Seen, Trouble> {
    let open = match link.take() {
        Some(open) => open,
        None => {
            let (route, client) = connect(connection)?;
            Link { route, client }
        }
    };
    let Link { route, mut client } = open;
    match look(wish, connection, &mut client) {
        Ok(seen) => {
            *link = Some(Link { route, client });
            Ok(seen)
        }
        Err(Failure::Refused(reply)) => {
            *link = Some(Link { route, client });
            Err((0, output::refusal(&reply)))
        }
        Err(failure) => Err(explained(&route, failure)),
    }
}

/// Signals come to a thread: the screen has to be given back before the end.
fn hear_signals(sender: Sender<Wake>) {
    let signals = [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGWINCH,
        Signal::SIGTSTP,
    ];
    interrupts::hear(&signals, move |signal| {
        sender.send(Wake::Signal(signal)).is_ok()
    });
}

/// Events wake; without them there is a look every second all the same.
fn hear_events(connection: connection::Args, sender: Sender<Wake>) {
    std::thread::spawn(move || {
        loop {
            let publisher = connect(&connection).ok().and_then(|(route, mut client)| {
                let endpoint = asking::publisher(&mut client).ok()?;
                route.beside(endpoint).ok()
            });
            if let Some(route) = publisher {
                let stop = tokio::sync::Notify::new();
                let tell = |_: crate::wire::Followed<'_>| {
                    // Nobody takes it any more at the very end only.
                    let _ = sender.send(Wake::Event);
                };
                let _ = follow(&route.endpoint, connection.timeout(), &stop, tell);
            }
            std::thread::sleep(PAUSE);
        }
    });
}
