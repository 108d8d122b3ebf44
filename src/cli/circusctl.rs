//! The program `circusctl`: its options, its texts and its exit codes (2 for a wrong command line,
//! 1 when the daemon could not be called, 3 for an error reply, 0 with `--json` always).
//!
//! Where circusctl itself fails with a traceback, there is one sentence here and the same exit code.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::argparse::{self, EXIT_WRONG, Kind, Opt, Parsed, Program, Stop, Words, opt};
use crate::cli::connection::ENDPOINT_VARIABLE;
use crate::cli::output;
use crate::cli::ssh::{Server, Tunnel};
use crate::wire::client::Patience;
use crate::wire::endpoint::{DEFAULT_CONTROL, DEFAULT_PUBSUB, Endpoint};
use crate::wire::{Client, Subscriber, command, pytext};

mod completion;
mod messages;
mod shell;
mod text;

use messages::{CTLS, Ctl, NAMES};

/// The circusctl whose texts these are.
const VERSION: &str = "circusctl 0.19.0";

/// The usage line of the program.
const USAGE: &str = "circusctl [options] command [args]";

/// What follows the words "Timed out." on standard error.
const TIMED_OUT: &str = "
A time out usually happens in one of those cases:

#1 The Circus daemon could not be reached.
#2 The Circus daemon took too long to perform the operation

For #1, make sure you are hitting the right place
by checking your --endpoint option.

For #2, if you are not expecting a result to
come back, increase your timeout option value
(particularly with waiting switches)
";

const OPTS: &[Opt] = &[
    opt(
        &["--endpoint"],
        Kind::Text,
        "control endpoint of the daemon",
    ),
    opt(&["--help"], Kind::Flag, "show this help and exit"),
    opt(&["--json"], Kind::Flag, "print the reply as JSON"),
    opt(&["--prettify"], Kind::Flag, "spread the JSON over lines"),
    opt(
        &["--ssh"],
        Kind::Text,
        "log in to USER@HOST[:PORT] with ssh and reach the endpoint from there",
    ),
    opt(
        &["--ssh_keyfile"],
        Kind::Text,
        "file with a private key for that",
    ),
    opt(&["--timeout"], Kind::Int, "seconds to wait for an answer"),
    opt(&["--version"], Kind::Version, "show the version and exit"),
];

/// The command line of circusctl before its command.
pub const PROGRAM: Program = Program {
    name: "circusctl",
    about: "Control a Circus daemon, by one command or in a shell",
    opts: OPTS,
    word: None,
    more: None,
};

/// A whole command line: the options before the command, the command, its own line.
struct Line {
    global: Parsed,
    command: Option<(&'static Ctl, Parsed)>,
}

/// Runs under the name `circusctl` (`args[0]` is the program's name).
pub fn run(args: Vec<OsString>) -> ExitCode {
    let args: Vec<String> = args
        .into_iter()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let line = match read(&args) {
        Ok(line) => line,
        Err(code) => return code,
    };
    if env::var_os("AUTO_COMPLETE").is_some() {
        return complete();
    }
    let settings = match Settings::new(&line.global) {
        Ok(settings) => settings,
        Err(reason) => {
            output::plain_error(&reason);
            return ExitCode::FAILURE;
        }
    };
    match &line.command {
        Some((ctl, own)) => execute(ctl, own, &line.global, &settings),
        None if line.global.flags.contains(&"help") => {
            output::line(&overview());
            ExitCode::SUCCESS
        }
        None => shell::run(&line.global, &settings),
    }
}

/// Parses a command line; the error is the exit code after everything has been printed.
fn read(args: &[String]) -> Result<Line, ExitCode> {
    // Without a word that is a command, the real one has no place for words at all.
    let has_command = args.iter().any(|arg| NAMES.contains(&arg.as_str()));
    let words = if has_command {
        Words::Command(&NAMES)
    } else {
        Words::None
    };
    let fail = |text: &str| {
        output::plain_error(&format!("usage: {USAGE}\ncircusctl: error: {text}"));
        ExitCode::from(EXIT_WRONG)
    };
    let mut global = match argparse::parse(OPTS, words, args) {
        Ok(parsed) => parsed,
        Err(Stop::Version | Stop::Help) => {
            output::line(VERSION);
            return Err(ExitCode::SUCCESS);
        }
        Err(Stop::Error(text)) => return Err(fail(&text)),
    };
    let mut extras = std::mem::take(&mut global.extras);
    let mut command = None;
    let mut rest = global.words.iter();
    if let Some(ctl) = rest
        .next()
        .and_then(|name| CTLS.iter().find(|ctl| ctl.name == name))
    {
        let rest: Vec<String> = rest.cloned().collect();
        let mut own = match argparse::parse(ctl.opts, Words::Any, &rest) {
            Ok(parsed) => parsed,
            Err(Stop::Version | Stop::Help) => {
                output::line(&own_help(ctl));
                return Err(ExitCode::SUCCESS);
            }
            Err(Stop::Error(text)) => {
                let usage = command_usage(ctl);
                output::plain_error(&format!("{usage}\n{USAGE} {}: error: {text}", ctl.name));
                return Err(ExitCode::from(EXIT_WRONG));
            }
        };
        extras.append(&mut own.extras);
        command = Some((ctl, own));
    }
    if !extras.is_empty() {
        return Err(fail(&format!(
            "unrecognized arguments: {}",
            extras.join(" ")
        )));
    }
    if has_command && command.is_none() {
        return Err(fail(
            "no command, only the value of an option that is called like one",
        ));
    }
    Ok(Line { global, command })
}

/// Where and how to call.
struct Settings {
    endpoint: Endpoint,
    /// `--endpoint` was given: it also says where to listen for events.
    explicit: bool,
    /// Leads there.
    tunnel: Option<Tunnel>,
    timeout: Duration,
    json: bool,
    pretty: bool,
}

impl Settings {
    fn new(global: &Parsed) -> Result<Self, String> {
        let explicit = global.values.get("endpoint").cloned();
        let text = explicit
            .clone()
            .or_else(|| env::var(ENDPOINT_VARIABLE).ok())
            .unwrap_or_else(|| DEFAULT_CONTROL.to_string());
        let timeout = match global.values.get("timeout").map(|text| pytext::int(text)) {
            // A negative one means for ever; a year is long enough.
            Some(Some(seconds)) => Duration::from_secs(
                u64::try_from(seconds)
                    .unwrap_or(u64::MAX)
                    .min(365 * 24 * 3600),
            ),
            _ => Duration::from_secs(5),
        };
        let keyfile = global.values.get("ssh_keyfile").map(PathBuf::from);
        let server = global.values.get("ssh");
        let server = server
            .map(|text| Server::parse(text, keyfile))
            .transpose()?;
        let mut endpoint = text
            .parse::<Endpoint>()
            .map_err(|error| error.to_string())?;
        let mut tunnel = None;
        if let Some(server) = &server {
            let listens = global.words.first().is_some_and(|name| name == "listen");
            if listens && explicit.is_none() {
                endpoint = DEFAULT_PUBSUB
                    .parse::<Endpoint>()
                    .map_err(|error| error.to_string())?;
            }
            let opened = Tunnel::open(server, &endpoint, timeout)?;
            endpoint = opened.endpoint();
            tunnel = Some(opened);
        }
        Ok(Self {
            endpoint,
            explicit: explicit.is_some() || tunnel.is_some(),
            tunnel,
            timeout,
            json: global.flags.contains(&"json"),
            pretty: global.flags.contains(&"prettify"),
        })
    }
}

fn execute(ctl: &Ctl, own: &Parsed, global: &Parsed, settings: &Settings) -> ExitCode {
    if global.flags.contains(&"help") {
        output::line(&own_help(ctl));
        return ExitCode::SUCCESS;
    }
    if ctl.name == "listen" {
        return listen(&own.words, settings);
    }
    let message = match messages::message(ctl.name, own) {
        Ok(message) => message,
        Err(reason) => {
            output::plain_error(&reason);
            return ExitCode::FAILURE;
        }
    };
    let Some(reply) = call(message, settings) else {
        if let Some(tunnel) = &settings.tunnel {
            output::plain_error(&tunnel.explain(&format!("{}: no answer", settings.endpoint)));
        }
        output::raw_error(&format!("Timed out.{TIMED_OUT}"));
        return ExitCode::FAILURE;
    };
    if settings.json {
        output::line(&if settings.pretty {
            pytext::dumps_pretty(&reply)
        } else {
            pytext::dumps(&reply)
        });
        return ExitCode::SUCCESS;
    }
    let shown = text::reply(ctl.name, &reply);
    if text::status(&reply) == "error" {
        output::plain_error(&shown);
        ExitCode::from(3)
    } else {
        output::line(&shown);
        ExitCode::SUCCESS
    }
}

/// The reply, or nothing: circusctl knows only one reason, that the time is over. It waits for a
/// daemon that is still starting.
fn call(message: Value, settings: &Settings) -> Option<Value> {
    let deadline = Instant::now() + settings.timeout;
    let patience = Patience::WaitForListener;
    let mut client = Client::connect_with(&settings.endpoint, settings.timeout, patience).ok()?;
    let left = deadline.saturating_duration_since(Instant::now());
    client.call_within(message, left).ok()
}

fn listen(topics: &[String], settings: &Settings) -> ExitCode {
    let endpoint = if settings.explicit {
        Ok(settings.endpoint.clone())
    } else {
        DEFAULT_PUBSUB.parse()
    };
    let all = [String::new()];
    let topics = if topics.is_empty() { &all } else { topics };
    // The real one waits for a publisher for ever.
    let forever = Duration::from_secs(365 * 24 * 3600);
    let subscriber = endpoint
        .map_err(|error| error.to_string())
        .and_then(|endpoint| {
            Subscriber::connect(&endpoint, topics, forever, Patience::WaitForListener)
                .map_err(|error| error.to_string())
        });
    let mut subscriber = match subscriber {
        Ok(subscriber) => subscriber,
        Err(reason) => {
            output::plain_error(&reason);
            return ExitCode::FAILURE;
        }
    };
    loop {
        let (topic, payload) = subscriber.next_event();
        let line = format!(
            "{}: {}",
            pytext::repr_bytes(&topic),
            pytext::repr_bytes(&payload)
        );
        if !output::line(&line) {
            return ExitCode::SUCCESS;
        }
    }
}

/// What bash asks for through COMP_WORDS and COMP_CWORD: the commands that begin so.
fn complete() -> ExitCode {
    let words = env::var("COMP_WORDS").unwrap_or_default();
    let at = env::var("COMP_CWORD")
        .ok()
        .and_then(|number| number.parse::<usize>().ok())
        .unwrap_or_default();
    if at == 1 {
        let begun = words.split_whitespace().nth(1).unwrap_or_default();
        let mut names: Vec<&str> = NAMES
            .into_iter()
            .filter(|name| name.starts_with(begun))
            .collect();
        names.sort_unstable();
        output::line(&names.join(" "));
    }
    ExitCode::FAILURE
}

fn overview() -> String {
    let commands = command::COMMANDS
        .iter()
        .filter(|spec| spec.circus)
        .map(|spec| (spec.name.to_string(), spec.doc.to_string()))
        .collect();
    argparse::help(
        &format!("usage: {USAGE}"),
        PROGRAM.about,
        &[
            ("Commands", commands),
            ("options", argparse::option_rows(OPTS)),
        ],
    )
}

fn own_help(ctl: &Ctl) -> String {
    let doc = command::find(ctl.name).map_or("", |spec| spec.doc);
    let options = argparse::option_rows(ctl.opts);
    argparse::help(&command_usage(ctl), doc, &[("options", options)])
}

fn command_usage(ctl: &Ctl) -> String {
    argparse::usage(&format!("{USAGE} {}", ctl.name), ctl.opts, &[])
}
