//! `circ status --watch`: the picture again with each event and every second, over the daemon's absences.
//!
//! Elsewhere than on a terminal it is printed when it has changed: a block of lines and an empty one, or a line of JSON.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use serde_json::{Map, Value};

use super::asking::{self, Failure};
use super::{Trouble, Wish, connect, explained, for_script, lines};
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

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Why to look again.
enum Wake {
    Event,
    Signal(Signal),
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
    hear_events(connection.clone(), sender);
    let mut screen = Screen {
        terminal: wish.rich && std::io::stdout().is_terminal(),
        title: match &wish.name {
            Some(name) => format!("circ status {name}"),
            None => "circ status".to_string(),
        },
        seen,
        shown: None,
        lost: None,
    };
    if screen.terminal {
        output::bytes(ENTER.as_bytes());
    }
    let end = screen.keep_on(wish, connection, link, &wakes);
    if screen.terminal {
        output::bytes(LEAVE.as_bytes());
    }
    end
}

/// A connection, with what keeps it open.
struct Link {
    route: Route,
    client: Client,
}

/// What was seen last.
enum Seen {
    Lines(Vec<String>),
    Reply(Value),
}

fn look(wish: &Wish, connection: &connection::Args, client: &mut Client) -> Result<Seen, Failure> {
    if wish.rich {
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
            match wakes.recv_timeout(PERIOD) {
                Ok(Wake::Signal(Signal::SIGTSTP)) if self.terminal => {
                    output::bytes(LEAVE.as_bytes());
                    // It goes on here when it is told to.
                    let _ = raise(Signal::SIGSTOP);
                    output::bytes(ENTER.as_bytes());
                }
                Ok(Wake::Signal(Signal::SIGWINCH)) => {}
                Ok(Wake::Signal(_)) => return ExitCode::SUCCESS,
                Ok(Wake::Event) => {
                    let end = Instant::now() + TOGETHER;
                    while let Some(left) = end.checked_duration_since(Instant::now()) {
                        match wakes.recv_timeout(left) {
                            Ok(Wake::Signal(Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP)) => {
                                return ExitCode::SUCCESS;
                            }
                            Ok(_) => {}
                            Err(_) => break,
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody is left who wakes; the clock does.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(PERIOD),
            }
            match again(wish, connection, &mut link) {
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

    /// False when nobody looks any more.
    fn paint(&mut self, json: bool) -> bool {
        if self.terminal {
            return output::bytes(self.frame().as_bytes());
        }
        let text = match &self.seen {
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
            Seen::Lines(_) => text.clone(),
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

    fn frame(&self) -> String {
        let (columns, rows) = terminal_size::terminal_size().map_or((80, 24), |(width, height)| {
            (usize::from(width.0), usize::from(height.0))
        });
        let paint = Paint::for_stdout();
        let mut top = vec![match &self.lost {
            None => {
                let now = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
                paint.tone(
                    Tone::Faint,
                    &cut(&format!("{}  {now}", self.title), columns),
                )
            }
            Some((since, why)) => {
                let away = span(since.elapsed().as_secs_f64());
                let text = format!("lost the daemon {away} ago, trying again: {why}");
                paint.tone(Tone::Bad, &cut(&text, columns))
            }
        }];
        let Seen::Lines(lines) = &self.seen else {
            return String::new();
        };
        let room = rows.saturating_sub(top.len());
        if lines.len() > room {
            let kept = room.saturating_sub(1);
            top.extend(lines.iter().take(kept).cloned());
            let more = format!("… and {} lines more", lines.len() - kept);
            top.push(paint.tone(Tone::Faint, &cut(&more, columns)));
        } else {
            top.extend(lines.iter().cloned());
        }
        top.truncate(rows.max(1));
        format!("\x1b[H{}\x1b[K\x1b[J", top.join("\x1b[K\r\n"))
    }
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
