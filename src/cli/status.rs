//! `circ status`: how the watchers are. A table or a page for a person, the same few words as ever for a script: what is
//! printed where standard output is no terminal does not change.

pub mod asking;
mod page;
pub mod picture;
mod table;
mod terminal;
mod view;
mod watch;
mod web;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;

use self::asking::Failure;
use super::connection::{self, Route, RouteError};
use super::paint::Paint;
use super::{EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, control, output};
use crate::wire::Client;

const WATCH: &str = "watch";
const PLAIN: &str = "plain";

const AFTER: &str = "On a terminal it is a table, and all about one watcher if that is named; elsewhere, and with --plain, \
the words that scripts read: a line `NAME  STATE` for each watcher, or the state of the one.\n\n\
Examples:\n  circ status\n  circ status web\n  circ status --watch\n  circ status --details | less\n  \
circ status --details --json";

/// Adds what this command takes beside the table of the wire.
pub fn augment(command: Command) -> Command {
    command
        .arg(
            Arg::new(WATCH)
                .short('w')
                .long("watch")
                .action(ArgAction::SetTrue)
                .help("Go on showing it, anew with each event and every second, until q or ctrl-C"),
        )
        .arg(
            Arg::new(PLAIN)
                .long("plain")
                .action(ArgAction::SetTrue)
                .conflicts_with("details")
                .help("The words for scripts, on a terminal too"),
        )
        .after_help(AFTER)
}

/// What is to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    /// One watcher; all without it.
    name: Option<String>,
    /// In the form for a person.
    rich: bool,
}

/// Shows it; what a script gets comes from [`control::run`].
pub fn run(matches: &ArgMatches, connection: &connection::Args) -> ExitCode {
    let flag = |name: &str| matches.get_flag(name);
    let terminal = std::io::stdout().is_terminal();
    let rich = !connection.json && (flag("details") || terminal && !flag(PLAIN));
    let name = matches.get_one::<String>("NAME").cloned();
    let wish = Wish { name, rich };
    if flag(WATCH) {
        return watch::run(&wish, connection);
    }
    if !rich {
        return control::call("status", matches, connection);
    }
    match connect(connection).and_then(|(route, mut client)| {
        let lines = lines(&wish, &mut client, width(), Paint::for_stdout());
        lines.map_err(|failure| explained(&route, failure))
    }) {
        Ok(lines) => {
            output::text(&lines.join("\n"));
            ExitCode::SUCCESS
        }
        Err((code, why)) => {
            output::error(&why);
            ExitCode::from(code)
        }
    }
}

/// The exit code and the words for a failure.
type Trouble = (u8, String);

fn connect(connection: &connection::Args) -> Result<(Route, Client), Trouble> {
    let route = connection.route().map_err(|error| match error {
        RouteError::Usage(why) => (EXIT_USAGE, why),
        RouteError::Unreachable(why) => (EXIT_UNREACHABLE, why),
    })?;
    match Client::connect(&route.endpoint, connection.timeout()) {
        Ok(client) => Ok((route, client)),
        Err(error) => Err((EXIT_UNREACHABLE, route.explain(&error))),
    }
}

fn explained(route: &Route, failure: Failure) -> Trouble {
    match failure {
        Failure::Unreachable(error) => (EXIT_UNREACHABLE, route.explain(&error)),
        Failure::Refused(reply) => (EXIT_REFUSED, output::refusal(&reply)),
    }
}

fn lines(
    wish: &Wish,
    client: &mut Client,
    width: Option<usize>,
    paint: Paint,
) -> Result<Vec<String>, Failure> {
    Ok(match &wish.name {
        None => table::lines(&asking::watchers(client)?, width, paint),
        Some(name) => asking::watcher(client, name)?.lines(width, paint),
    })
}

/// The columns of the terminal, if it is one.
fn width() -> Option<usize> {
    let terminal = std::io::stdout().is_terminal();
    let size = terminal.then(terminal_size::terminal_size).flatten();
    size.map(|(terminal_size::Width(columns), _)| usize::from(columns))
}

/// The reply as a script gets it, as JSON or in words.
fn for_script(reply: &Value, json: bool) -> String {
    match json {
        true => reply.to_string(),
        false => output::reply("status", reply),
    }
}
