//! `circ logs`: what the workers say, read where it is kept: in the files of their streams, or in the daemon's memory.

pub(super) mod file;
pub(super) mod outlets;
mod printer;
mod remote;
mod since;

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Map, Value};

use super::{EXIT_REFUSED, EXIT_UNREACHABLE, connection, output};
use crate::wire::{Client, command};
pub(super) use file::Reader as LogReader;

use file::Reader;
use outlets::{Asked, Outlet, Place, Which};
use printer::Printer;
use since::{LineClock, moment};

/// How often is looked for news that nobody announces: a file on another machine's disk, the daemon's memory.
const PAUSE: Duration = Duration::from_millis(500);

/// Arguments of `circ logs`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[group(skip)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Watchers, or patterns of their names; all of them if none is given
    #[arg(value_name = "NAME", conflicts_with = "all")]
    names: Vec<String>,
    /// Go on as more is said, over the rotation of files, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// How many of the last lines of each output to begin with, or all [default: 10, with --since all]
    #[arg(short = 'n', long, value_name = "LINES", value_parser = tail)]
    tail: Option<Tail>,
    /// Only what was said since then, by the times in the lines: 10m (ago), today, 15:04, 2026-01-02, "2026-01-02 15:04"
    #[arg(long, value_name = "TIME|AGO", value_parser = since)]
    since: Option<Timestamp>,
    /// Only the standard output
    #[arg(long, overrides_with = "stderr")]
    stdout: bool,
    /// Only the standard error
    #[arg(long, overrides_with = "stdout")]
    stderr: bool,
    /// All watchers, as without a name
    #[arg(short, long)]
    all: bool,
    /// Put no names before the lines
    #[arg(long)]
    no_prefix: bool,
    #[command(flatten)]
    connection: connection::Args,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Let the daemon open its files of output streams, and its own log, anew, after somebody has moved them away
    Reopen {
        /// The watcher; all, and the daemon's own log, if none is given
        #[arg(value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        connection: connection::Args,
    },
}

/// How many of the last lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    Lines(usize),
    All,
}

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail::All),
        number => number
            .parse()
            .map(Tail::Lines)
            .map_err(|_| "a number of lines, or all, is expected".to_string()),
    }
}

fn since(text: &str) -> Result<Timestamp, String> {
    moment(text, &Zoned::now())
}

/// Shows what is there, and what comes if asked to; the result is the exit code.
pub fn run(args: Args, before: connection::Args) -> ExitCode {
    let code = match args.verb {
        Some(Verb::Reopen { name, connection }) => reopen(name, &connection.or(before)),
        None => show(args, before),
    };
    ExitCode::from(code)
}

fn reopen(name: Option<String>, connection: &connection::Args) -> u8 {
    let route = match connection.route() {
        Ok(route) => route,
        Err(error) => {
            output::error(&error.to_string());
            return error.code();
        }
    };
    let mut properties = Map::new();
    properties.extend(name.map(|name| ("name".to_string(), Value::from(name))));
    let reply = Client::connect(&route.endpoint, connection.timeout())
        .and_then(|mut client| client.call(command::message("reopenlogs", properties)));
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => {
            output::error(&route.explain(&error));
            return EXIT_UNREACHABLE;
        }
    };
    let refused = reply.get("status").and_then(Value::as_str) == Some("error");
    if connection.json {
        output::line(&reply.to_string());
    } else if refused && reply.get("errno").and_then(Value::as_i64) == Some(2) {
        output::error(
            "this daemon cannot open its files anew: it is a circusd, or an older circ. Restart the watcher, or let \
             logrotate copy and truncate",
        );
    } else if refused {
        output::error(&output::refusal(&reply));
    } else {
        output::line("ok");
    }
    if refused { EXIT_REFUSED } else { 0 }
}

/// One output that is shown.
struct Shown {
    outlet: Outlet,
    source: Source,
}

enum Source {
    File(Reader),
    /// The daemon keeps the end of it; this many bytes of it have been shown.
    Memory(u64),
}

fn show(args: Args, before: connection::Args) -> u8 {
    let connection = args.connection.clone().or(before);
    if connection.goes_through_ssh() {
        return remote::show(&args, &connection);
    }
    let mut asked = match Asked::new(&connection) {
        Ok(asked) => asked,
        Err((code, reason)) => {
            output::error(&reason);
            return code;
        }
    };
    let which = match (args.stdout, args.stderr) {
        (true, _) => &[Which::Stdout][..],
        (_, true) => &[Which::Stderr],
        _ => &[Which::Stdout, Which::Stderr],
    };
    let outlets = match asked.outlets(&args.names, which) {
        Ok(outlets) => outlets,
        Err((code, reason)) => {
            output::error(&reason);
            return code;
        }
    };
    let (mut shown, problem) = open(outlets);
    if shown.is_empty() {
        return problem.max(EXIT_REFUSED * u8::from(problem == 0));
    }
    let labels = shown.iter().map(|shown| &shown.outlet);
    let mut printer = Printer::new(labels, connection.json, args.no_prefix);
    let from = From {
        tail: match (args.tail, args.since) {
            (Some(tail), _) => tail,
            (None, Some(_)) => Tail::All,
            (None, None) => Tail::Lines(10),
        },
        since: args.since,
    };
    let began = begin(&mut shown, &from, &mut asked, &mut printer, args.follow);
    if began && args.follow {
        follow(&mut shown, &mut asked, &mut printer);
    }
    printer.finish();
    problem
}

/// Opens what can be shown, and says what cannot; with that the exit code if something is wrong.
fn open(outlets: Vec<Outlet>) -> (Vec<Shown>, u8) {
    let mut shown: Vec<Shown> = Vec::new();
    let mut problem = 0;
    for outlet in outlets {
        let same = |other: &Shown| other.outlet.place == outlet.place;
        match &outlet.place {
            Place::File(path) => {
                if let Some(other) = shown.iter_mut().find(|other| same(other)) {
                    other.outlet.shares(&outlet);
                    continue;
                }
                match Reader::open(path) {
                    Ok(reader) => {
                        if !reader.is_there() {
                            output::plain_error(&format!(
                                "{}: {} is not there (yet): nothing was said, or the daemon runs on another machine",
                                outlet.sentence(),
                                path.display()
                            ));
                        }
                        let source = Source::File(reader);
                        shown.push(Shown { outlet, source });
                    }
                    Err(error) => {
                        output::error(&format!(
                            "{}: cannot read {}: {error}",
                            outlet.sentence(),
                            path.display()
                        ));
                        problem = EXIT_UNREACHABLE;
                    }
                }
            }
            Place::Memory(class) => {
                output::plain_error(&format!(
                    "{} goes to a {class}; this is what the daemon remembers of it",
                    outlet.sentence()
                ));
                let source = Source::Memory(0);
                shown.push(Shown { outlet, source });
            }
            Place::Elsewhere(where_to) => {
                output::plain_error(&format!("{} goes {where_to}", outlet.sentence()));
            }
        }
    }
    (shown, problem)
}

/// Where to begin.
struct From {
    tail: Tail,
    since: Option<Timestamp>,
}

/// Shows the end of what is there; false when nobody reads it.
fn begin(
    shown: &mut [Shown],
    from: &From,
    asked: &mut Asked,
    printer: &mut Printer,
    follow: bool,
) -> bool {
    let most = match from.tail {
        Tail::All => usize::MAX,
        Tail::Lines(lines) => lines,
    };
    for (index, shown) in shown.iter_mut().enumerate() {
        let young = from.since.map(|since| {
            let format = asked.time_format(&shown.outlet);
            (since, LineClock::new(format.as_deref(), TimeZone::system()))
        });
        let alive = match &mut shown.source {
            Source::File(reader) => {
                for notice in reader.rewind_since(most, from.since) {
                    output::error(&notice);
                }
                if let Some((since, clock)) = &young
                    && !reader.skip_to(*since, clock)
                    && reader.has_more()
                {
                    output::plain_error(&format!(
                        "the lines of {} tell no times: this is what is in the files that were written to since then",
                        shown.outlet.sentence()
                    ));
                }
                drain(reader, index, printer)
            }
            Source::Memory(seen) => {
                let text = remembered(asked, &shown.outlet, seen);
                let mut text = last_lines(&text, most);
                if let Some((since, clock)) = &young {
                    text = lines_since(text, *since, clock);
                }
                printer.put(index, text.as_bytes())
            }
        };
        if !alive || (!follow && !printer.end(index)) {
            return false;
        }
    }
    true
}

/// Shows what a file holds beyond what was shown; false when nobody reads it.
fn drain(reader: &mut Reader, index: usize, printer: &mut Printer) -> bool {
    loop {
        match reader.next() {
            Ok(Some(bytes)) => {
                if !printer.put(index, bytes) {
                    return false;
                }
            }
            Ok(None) => return true,
            Err(error) => {
                output::error(&error);
                return true;
            }
        }
    }
}

fn follow(shown: &mut [Shown], asked: &mut Asked, printer: &mut Printer) {
    // without it there is the pause
    let news = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
    let flags = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_ATTRIB;
    if let Some(news) = &news {
        for shown in &*shown {
            if let Source::File(reader) = &shown.source {
                // a directory that is not there yet is looked for after each pause
                let _ = news.add_watch(reader.directory(), flags);
            }
        }
    }
    let out = std::io::stdout();
    loop {
        let mut waited = vec![PollFd::new(out.as_fd(), PollFlags::empty())];
        waited.extend(
            news.as_ref()
                .map(|n| PollFd::new(n.as_fd(), PollFlags::POLLIN)),
        );
        let timeout = PollTimeout::try_from(PAUSE).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut waited, timeout); // interrupted: look all the same
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
        if waited[0].revents().is_some_and(|r| r.intersects(gone)) {
            return; // nobody reads any more
        }
        if let Some(news) = &news {
            let _ = news.read_events(); // which file it was is found by looking
        }
        for (index, shown) in shown.iter_mut().enumerate() {
            let alive = match &mut shown.source {
                Source::File(reader) => {
                    for notice in reader.look() {
                        output::plain_error(&notice);
                    }
                    drain(reader, index, printer)
                }
                Source::Memory(seen) => {
                    let text = remembered(asked, &shown.outlet, seen);
                    printer.put(index, text.as_bytes())
                }
            };
            if !alive {
                return;
            }
        }
    }
}

/// What the daemon remembers beyond what was shown. Nothing while it does not answer: it may come again.
fn remembered(asked: &mut Asked, outlet: &Outlet, seen: &mut u64) -> String {
    let Some((text, end)) = asked.remembered(outlet, *seen) else {
        return String::new();
    };
    if end < *seen {
        // another daemon, which counts anew
        *seen = 0;
        return asked
            .remembered(outlet, 0)
            .map_or(String::new(), |(text, end)| {
                *seen = end;
                text
            });
    }
    *seen = end;
    text
}

fn last_lines(text: &str, most: usize) -> &str {
    let ended = text.strip_suffix('\n').unwrap_or(text);
    if most == 0 {
        return "";
    }
    match ended.rmatch_indices('\n').nth(most - 1) {
        Some((at, _)) => &text[at + 1..],
        None => text,
    }
}

/// From the first line on that was written then or later; all of them if none tells its time.
fn lines_since<'a>(text: &'a str, since: Timestamp, clock: &LineClock) -> &'a str {
    let mut told = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        match clock.time_of(line.as_bytes()) {
            Some(time) if time >= since => return &text[at..],
            time => told |= time.is_some(),
        }
        at += line.len();
    }
    if told { "" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_lines_since_a_moment() {
        let clock = LineClock::new(None, TimeZone::UTC);
        let text = "early\n2026-01-02 03:04:05 one\n2026-01-02 03:04:06 two\nmore\n";
        let since = |at: &str| lines_since(text, at.parse().unwrap(), &clock);
        assert_eq!(
            since("2026-01-02T03:04:06Z"),
            "2026-01-02 03:04:06 two\nmore\n"
        );
        assert_eq!(since("2026-01-02T03:04:07Z"), "");
        let all = lines_since("a\nb", "2026-01-02T03:04:07Z".parse().unwrap(), &clock);
        assert_eq!(all, "a\nb");
    }

    #[test]
    fn lines_from_the_end() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last_lines("a\nb\nc", 2), "b\nc");
        assert_eq!(last_lines("a\n", 5), "a\n");
        assert_eq!(last_lines("a\n", 0), "");
        assert_eq!(tail("all"), Ok(Tail::All));
        assert_eq!(tail("7"), Ok(Tail::Lines(7)));
        assert!(tail("-1").is_err());
    }
}
