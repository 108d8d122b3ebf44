//! The commands of the control socket as subcommands of `circ`, made from the table of
//! [`crate::wire::command`]: the words become a message, the reply becomes text.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Args, Command};
use serde_json::{Map, Value};

use crate::cli::connection::RouteError;
use crate::cli::{EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, connection, events, output, status};
use crate::options;
use crate::wire::command::{self, COMMANDS, CommandSpec, Shape};
use crate::wire::{Client, parse_request};

/// Every command of the wire as clap sees it, but for `metrics`: what a command line says of that is in another file.
pub fn subcommands() -> Vec<Command> {
    let own = COMMANDS.iter().filter(|spec| spec.name != "metrics");
    own.map(subcommand).collect()
}

fn subcommand(spec: &'static CommandSpec) -> Command {
    let mut command = Command::new(spec.name)
        // `signal NAME [PID] SIGNAL` leaves out the middle; elsewhere the end is what may lack.
        .allow_missing_positional(
            // Only then: with it, all that follows `--` would be taken for the last word.
            spec.words.last().is_some_and(|word| word.required)
                && spec.words.iter().any(|word| !word.required),
        );
    if let Some(examples) = examples(spec.name) {
        command = command.after_help(format!("Examples:\n{examples}"));
    }
    for word in spec.words {
        // Words and switches may share a property; their ids in clap must differ, so words go by
        // their name in the help, which is in capitals.
        let arg = Arg::new(word.metavar)
            .value_name(word.metavar)
            .help(word.doc)
            .required(word.required);
        command = command.arg(match word.shape {
            Shape::Rest => arg
                .num_args(1..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true),
            Shape::List | Shape::Options => arg.num_args(1..),
            Shape::Integer => arg.allow_negative_numbers(true),
            _ => arg,
        });
    }
    for switch in spec.switches {
        let arg = Arg::new(switch.name).long(switch.name).help(switch.doc);
        command = command.arg(match switch.shape {
            Shape::Present | Shape::Absent => arg.action(ArgAction::SetTrue),
            Shape::Options => arg.action(ArgAction::Append).value_name("KEY=VALUE"),
            Shape::List => arg
                .action(ArgAction::Append)
                .num_args(1..)
                .value_name("SECTION"),
            Shape::Method => arg.value_parser(["simple", "glob", "regex"]),
            Shape::Seconds => arg.value_name("SECONDS"),
            Shape::Integer => arg.value_name("PID"),
            _ => arg.value_name("SIGNAL"),
        });
    }
    if spec.name == "status" {
        command = status::augment(command);
    }
    // The doc comment of the derived arguments would otherwise be the help of the command.
    connection::Args::augment_args(command)
        .about(spec.doc)
        .long_about(None)
}

fn examples(command: &str) -> Option<&'static str> {
    Some(match command {
        "add" => {
            "  circ add --start web 'python3 -m http.server 8000'\n  \
             circ add --start --set numprocesses=2 --set stop_signal=INT web sleep 1000"
        }
        "get" => "  circ get web numprocesses cmd",
        "incr" => "  circ incr web\n  circ incr --waiting web 3",
        "kill" => "  circ kill web\n  circ kill --signum INT --graceful_timeout 2 web 4711",
        "listen" => "  circ listen\n  circ listen watcher.web. --json",
        "reloadconfig" => {
            "  circ reloadconfig --check\n  circ reloadconfig --waiting --only socket:web watcher:web"
        }
        "restart" => "  circ restart web\n  circ restart --waiting --match regex 'web|api'",
        "set" => "  circ set web numprocesses 4\n  circ set web graceful_timeout=5 send_hup=true",
        "signal" => "  circ signal web HUP\n  circ signal web 4711 USR1 --recursive",
        "stop" => "  circ stop 'worker-*'",
        _ => return None,
    })
}

/// Runs one command of the wire and prints its result.
pub fn run(name: &str, matches: &ArgMatches, connection: &connection::Args) -> ExitCode {
    match name {
        "status" => status::run(matches, connection),
        _ => call(name, matches, connection),
    }
}

/// Sends one command of the wire and prints the reply.
pub fn call(name: &str, matches: &ArgMatches, connection: &connection::Args) -> ExitCode {
    let Some(spec) = command::find(name) else {
        output::error(&format!("unknown command {name:?}"));
        return ExitCode::from(EXIT_USAGE);
    };
    if spec.name == "listen" {
        let topics = matches.get_many::<String>("TOPIC");
        let topics = topics.map(|words| words.cloned().collect());
        return events::listen(topics.unwrap_or_default(), connection);
    }
    let message = match message(spec, matches) {
        Ok(message) => message,
        Err(reason) => return usage(spec, &reason),
    };
    let route = match connection.route() {
        Ok(route) => route,
        Err(RouteError::Usage(reason)) => return usage(spec, &reason),
        Err(error) => {
            output::error(&error.to_string());
            return ExitCode::from(error.code());
        }
    };
    let reply = Client::connect(&route.endpoint, connection.timeout())
        .and_then(|mut client| client.call(message));
    match reply {
        Ok(reply) => report(spec.name, &reply, connection.json),
        Err(error) => {
            output::error(&route.explain(&error));
            ExitCode::from(EXIT_UNREACHABLE)
        }
    }
}

/// Prints a reply: to standard output, or to standard error when it is an error in text form.
fn report(command: &str, reply: &Value, json: bool) -> ExitCode {
    let refused = reply.get("status").and_then(Value::as_str) == Some("error");
    if json {
        output::line(&reply.to_string());
    } else if refused {
        output::error(&output::refusal(reply));
    } else {
        output::text(&output::reply(command, reply));
    }
    if refused {
        ExitCode::from(EXIT_REFUSED)
    } else {
        ExitCode::SUCCESS
    }
}

fn usage(spec: &CommandSpec, reason: &str) -> ExitCode {
    output::error(&format!(
        "{reason}\n\nFor more information, try `circ {} --help`.",
        spec.name
    ));
    ExitCode::from(EXIT_USAGE)
}

/// The message that the words and switches ask for, checked as the daemon will check it.
fn message(spec: &CommandSpec, matches: &ArgMatches) -> Result<Value, String> {
    let mut properties = Map::new();
    for word in spec.words {
        if let Some(texts) = matches.get_many::<String>(word.metavar) {
            let texts: Vec<&str> = texts.map(String::as_str).collect();
            properties.insert(word.property.into(), words_value(word.shape, &texts)?);
        }
    }
    for switch in spec.switches {
        match switch.shape {
            Shape::Present | Shape::Absent => {
                if matches.get_flag(switch.name) {
                    let value = Value::from(switch.shape == Shape::Present);
                    properties.insert(switch.property.into(), value);
                }
            }
            shape => {
                if let Some(texts) = matches.get_many::<String>(switch.name) {
                    let texts: Vec<&str> = texts.map(String::as_str).collect();
                    let value = words_value(shape, &texts)?;
                    properties.insert(switch.property.into(), value);
                }
            }
        }
    }
    let message = command::message(spec.name, properties);
    match parse_request(message.to_string().as_bytes()) {
        Ok(_) => Ok(message),
        Err(rejection) => Err(rejection.reason),
    }
}

fn words_value(shape: Shape, texts: &[&str]) -> Result<Value, String> {
    let only = texts.first().copied().unwrap_or_default();
    Ok(match shape {
        Shape::Integer => Value::from(
            only.parse::<i64>()
                .map_err(|_| format!("{only:?} is not an integer"))?,
        ),
        Shape::Seconds => Value::from(
            only.parse::<f64>()
                .map_err(|_| format!("{only:?} is not a number of seconds"))?,
        ),
        Shape::Rest => Value::from(texts.join(" ")),
        Shape::List => Value::from(texts.to_vec()),
        Shape::Options => Value::Object(options_value(texts)?),
        Shape::Text | Shape::Method | Shape::Present | Shape::Absent => Value::from(only),
    })
}

/// Watcher options, written `KEY=VALUE` in one word or `KEY VALUE` in two.
fn options_value(texts: &[&str]) -> Result<Map<String, Value>, String> {
    let mut map = Map::new();
    let mut texts = texts.iter();
    while let Some(text) = texts.next() {
        // No key holds an equals sign, so the first one divides.
        let (key, value) = match text.split_once('=') {
            Some(pair) => pair,
            None => match texts.next() {
                Some(value) => (*text, *value),
                None => return Err(format!("option {text:?} has no value")),
            },
        };
        let value = options::parse_text(key, value).map_err(|reason| {
            match options::spec(key).is_none().then(|| options::nearest(key)) {
                Some(Some(near)) => format!("{reason}; did you mean {near}?"),
                _ => reason,
            }
        })?;
        map.insert(key.to_string(), value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn build(line: &str) -> Result<Value, String> {
        let words: Vec<&str> = line.split(' ').collect();
        let spec = command::find(words[0]).unwrap();
        let matches = subcommand(spec)
            .try_get_matches_from(words)
            .map_err(|error| error.kind().to_string())?;
        message(spec, &matches)
    }

    #[test]
    fn lines_become_messages() {
        for (line, properties) in [
            ("list", json!({})),
            (
                "set -- web graceful_timeout 4",
                json!({"name": "web", "options": {"graceful_timeout": 4.0}}),
            ),
            ("list web", json!({"name": "web"})),
            ("incr web", json!({"name": "web"})),
            (
                "incr web -2 --waiting",
                json!({"name": "web", "nb": -2, "waiting": true}),
            ),
            (
                "add --start web sleep -x 5 --waiting",
                json!({"name": "web", "cmd": "sleep -x 5 --waiting", "start": true}),
            ),
            (
                "add --set numprocesses=2 --set shell=true web true",
                json!({"name": "web", "cmd": "true", "options": {"numprocesses": 2, "shell": true}}),
            ),
            (
                "get web cmd args",
                json!({"name": "web", "keys": ["cmd", "args"]}),
            ),
            ("signal web HUP", json!({"name": "web", "signum": "HUP"})),
            (
                "signal web 12 HUP",
                json!({"name": "web", "pid": 12, "signum": "HUP"}),
            ),
            (
                "signal web 12 9 --childpid 13 --recursive",
                json!({"name": "web", "pid": 12, "signum": "9", "childpid": 13, "recursive": true}),
            ),
            (
                "kill web 7 --signum int --graceful_timeout 0.5",
                json!({"name": "web", "pid": 7, "signum": "int", "graceful_timeout": 0.5}),
            ),
            (
                "reload web --terminate",
                json!({"name": "web", "graceful": false}),
            ),
            (
                "set web numprocesses 3 graceful_timeout=1.5",
                json!({"name": "web", "options": {"numprocesses": 3, "graceful_timeout": 1.5}}),
            ),
            (
                "reloadconfig --only socket:web circus --check --only env:a",
                json!({"only": ["socket:web", "circus", "env:a"], "check": true}),
            ),
            ("rm web --nostop", json!({"name": "web", "nostop": true})),
            (
                "stop w* --match glob",
                json!({"name": "w*", "match": "glob"}),
            ),
            (
                "stats web 5 --extended",
                json!({"name": "web", "process": 5, "extended": true}),
            ),
        ] {
            let message = build(line).expect(line);
            assert_eq!(message["properties"], properties, "{line}");
            assert_eq!(
                Some(message["command"].as_str().unwrap()),
                line.split(' ').next()
            );
        }
    }

    #[test]
    fn bad_lines_are_refused_before_anybody_is_called() {
        for (line, reason) in [
            ("incr web x", "\"x\" is not an integer"),
            (
                "kill web --graceful_timeout soon",
                "\"soon\" is not a number of seconds",
            ),
            ("signal web NOPE", "signal invalid"),
            (
                "set web numproceses 3",
                "unknown key 'numproceses'; did you mean numprocesses?",
            ),
            (
                "set web numprocesses",
                "option \"numprocesses\" has no value",
            ),
            (
                "stop ( --match regex",
                "bad regular expression: error: unclosed group",
            ),
        ] {
            assert_eq!(build(line).unwrap_err(), reason, "{line}");
        }
        assert!(build("incr").is_err());
        assert!(build("stop web --match other").is_err());
        assert!(build("list web more").is_err());
    }
}
