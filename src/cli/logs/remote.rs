//! `circ logs --ssh`: the files are on the other host, and so is a circ that reads them.

use std::io::IsTerminal;

use super::{Args, Tail};
use crate::cli::connection;
use crate::cli::output;
use crate::cli::{EXIT_UNREACHABLE, EXIT_USAGE};

/// ssh's own exit code for its own trouble, and a shell's where a program is not found.
const SSH_FAILED: i32 = 255;
const NOT_FOUND: i32 = 127;

/// Finds circ over there, and becomes it: on the PATH, or as the daemon that runs.
const FIND: &str = "\
if command -v circ >/dev/null 2>&1; then exec circ \"$@\"; fi
for exe in /proc/[0-9]*/exe; do
    case $(readlink \"$exe\" 2>/dev/null) in */circ|*/circ\\ *) exec \"$exe\" \"$@\" ;; esac
done
echo \"there is no circ on the PATH of $(hostname 2>/dev/null || echo that host), and none runs there: the files of \
output are read over there\" >&2
exit 127";

/// Runs the same command there; the result is the exit code.
pub fn show(args: &Args, connection: &connection::Args) -> u8 {
    let (server, endpoint) = match connection.server() {
        Ok(Some(found)) => found,
        Ok(None) => return EXIT_USAGE,
        Err(reason) => {
            output::error(&reason);
            return EXIT_USAGE;
        }
    };
    let mut words: Vec<String> = vec!["env".into()];
    if std::io::stdout().is_terminal() {
        words.push("CLICOLOR_FORCE=1".into());
    }
    words.extend(["sh", "-c", FIND, "sh", "logs", "--endpoint"].map(String::from));
    words.push(endpoint.to_string());
    words.extend(flags(args, connection));
    match server.run(&words, connection.timeout()) {
        // Ended by a signal: whoever sent it knows.
        Ok(status) => match status.code() {
            Some(SSH_FAILED | NOT_FOUND) | None => EXIT_UNREACHABLE,
            Some(code) => u8::try_from(code).unwrap_or(EXIT_UNREACHABLE),
        },
        Err(reason) => {
            output::error(&reason);
            EXIT_UNREACHABLE
        }
    }
}

/// The same options, but for those that say where the daemon is.
fn flags(args: &Args, connection: &connection::Args) -> Vec<String> {
    let mut flags = vec![format!("--timeout={}", connection.timeout().as_secs_f64())];
    let given = [
        (args.follow, "--follow"),
        (args.stdout, "--stdout"),
        (args.stderr, "--stderr"),
        (args.all, "--all"),
        (args.no_prefix, "--no-prefix"),
        (connection.json, "--json"),
    ];
    let given = given.into_iter().filter(|(given, _)| *given);
    flags.extend(given.map(|(_, flag)| flag.to_string()));
    match args.tail {
        Some(Tail::All) => flags.push("--tail=all".into()),
        Some(Tail::Lines(lines)) => flags.push(format!("--tail={lines}")),
        None => {}
    }
    // As a moment: the zone of that host may be another one.
    flags.extend(args.since.map(|since| format!("--since={since}")));
    flags.push("--".into());
    flags.extend(args.names.iter().cloned());
    flags
}
