//! The program `chaussette`: the command line of Chaussette 1.3, its texts and exit codes.
//!
//! What it does not know is read as `circ chaussette` reads it, so that `--threads 4` can be added to an old line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Command, FromArgMatches};

use super::backends;
use crate::cli::argparse::{EXIT_WRONG, Kind, Opt, Parsed, Program, opt};

const FAMILIES: &[&str] = &["AF_INET", "AF_INET6", "AF_UNIX"];
const TYPES: &[&str] = &[
    "SOCK_DGRAM",
    "SOCK_RAW",
    "SOCK_RDM",
    "SOCK_SEQPACKET",
    "SOCK_STREAM",
];
const LEVELS: &[&str] = &[
    "CRITICAL", "DEBUG", "ERROR", "INFO", "WARNING", "critical", "debug", "error", "info",
    "warning",
];

/// The command line of chaussette.
pub const PROGRAM: Program = Program {
    name: "chaussette",
    about: "Serve a WSGI application",
    opts: OPTS,
    word: Some((
        "application",
        "module.object, module:object or paste:FILE; an application that says hello if there is none",
    )),
    more: Some(("arguments", "what the application finds in sys.argv")),
};

const OPTS: &[Opt] = &[
    opt(&["-h", "--help"], Kind::Help, "print this help and exit"),
    opt(&["--port"], Kind::Int, "the port to listen on; 8080"),
    opt(
        &["--address-family"],
        Kind::Choice(FAMILIES),
        "the family of the address; a descriptor tells its own",
    ),
    opt(
        &["--socket-type"],
        Kind::Choice(TYPES),
        "the kind of socket; only SOCK_STREAM can be served",
    ),
    opt(
        &["--host"],
        Kind::Text,
        "the host to listen on, or unix:PATH; localhost",
    )
    .among(1),
    opt(
        &["--fd"],
        Kind::Int,
        "the descriptor of a socket that is open already",
    )
    .among(1),
    opt(&["--backlog"], Kind::Int, "connections that may wait; 2048").among(1),
    opt(
        &["--backend"],
        Kind::Choice(&backends::NAMES),
        "all are served by circ; gevent and eventlet make the process of the application cooperative",
    ),
    opt(
        &["--use-reloader"],
        Kind::Flag,
        "start the application anew when a module it has imported changes",
    ),
    opt(
        &["--spawn"],
        Kind::Int,
        "requests at once, with gevent and eventlet",
    ),
    opt(
        &["--graceful-timeout"],
        Kind::Int,
        "seconds that requests under way may take at the end; 30",
    ),
    opt(
        &["--pre-hook"],
        Kind::Text,
        "called before the application serves",
    ),
    opt(&["--post-hook"], Kind::Text, "called when it ends"),
    opt(
        &["--python-path"],
        Kind::Text,
        "added to Python's search path",
    ),
    opt(&["--log-level"], Kind::Choice(LEVELS), "how much to log"),
    opt(
        &["--log-output"],
        Kind::Text,
        "where to log: a file, or - for the standard error stream",
    )
    .of("logoutput"),
];

/// Runs under the name `chaussette` (`args[0]` is the program's name).
pub fn run(args: Vec<OsString>) -> ExitCode {
    let command = || super::command().no_binary_name(true);
    let parsed = match PROGRAM.parse(&args) {
        Ok(parsed) => parsed,
        Err(stop) => {
            // what is circ's own is not known to Chaussette
            let own = command().try_get_matches_from(args.iter().skip(1));
            return match own.and_then(|own| super::Args::from_arg_matches(&own)) {
                Ok(own) => super::run(&own),
                Err(_) => PROGRAM.stop(stop),
            };
        }
    };
    match read(command(), &parsed) {
        Ok(args) => super::run(&args),
        Err(error) => {
            // a closed standard error leaves nobody to tell
            let _ = error.print();
            ExitCode::from(EXIT_WRONG)
        }
    }
}

/// The same as `circ chaussette` would have it.
fn read(command: Command, parsed: &Parsed) -> Result<super::Args, clap::Error> {
    let mut line: Vec<String> = parsed
        .flags
        .iter()
        .map(|flag| format!("--{flag}"))
        .collect();
    line.extend(
        parsed
            .values
            .iter()
            .map(|(name, value)| format!("--{name}={value}")),
    );
    line.push("--".to_string());
    line.extend(parsed.words.iter().cloned());
    super::Args::from_arg_matches(&command.try_get_matches_from(line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(line: &[&str]) -> super::super::Args {
        let args: Vec<OsString> = ["chaussette"]
            .iter()
            .chain(line)
            .map(OsString::from)
            .collect();
        let parsed = PROGRAM.parse(&args).unwrap();
        read(super::super::command().no_binary_name(true), &parsed).unwrap()
    }

    #[test]
    fn every_option_of_chaussette_is_one_of_circs() {
        let args = understood(&[
            "--port=81",
            "--address-family",
            "AF_INET6",
            "--socket-type=SOCK_STREAM",
            "--host=::1",
            "--backend=gevent",
            "--use-reloader",
            "--spawn=7",
            "--graceful-timeout=9",
            "--pre-hook=a.b",
            "--post-hook=c.d",
            "--python-path=/x",
            "--log-level=DEBUG",
            "--log-output=/dev/null",
            "m.app",
            "--",
            "--port",
        ]);
        assert_eq!((args.port, args.spawn), (Some(81), Some(7)));
        assert_eq!(args.host.as_deref(), Some("::1"));
        assert_eq!(args.backend, "gevent");
        let app = &args.application;
        assert!(app.reload);
        assert_eq!(app.graceful_timeout, 9.0);
        assert_eq!(app.log_level, "debug");
        assert_eq!(app.application, "m.app");
        assert_eq!(app.arguments, ["--port"]);
        assert_eq!(understood(&["--fd=-1"]).fd, Some(-1));
        assert_eq!(understood(&["--fd", "7"]).fd, Some(7));
    }
}
