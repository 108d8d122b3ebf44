//! From the bytes of a client to a typed request, or to the error that it deserves.
//!
//! What circus answers cleanly is answered with its errno and its text. Where it answers with a
//! traceback, the errno is the same and the text is one sentence; where it does not answer at all
//! (no JSON object, no command, a wrong `nb`), there is an answer here.

use serde_json::{Map, Value};

use crate::wire::command::{self, Command, GLOBAL_OPTIONS};
use crate::wire::matching::{Match, Selection};
use crate::wire::properties::{Fault, Properties, brief, missing, wrong};
use crate::wire::pytext;
use crate::wire::reply::Errno;

/// A message that can be executed.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// To be given back in the reply; any JSON value.
    pub id: Value,
    /// The client wants no reply.
    pub cast: bool,
    /// The reply is wanted when the work is done, not when it has begun.
    pub waiting: bool,
    /// For whose sake watchers are stopped or started.
    pub sake: Option<Sake>,
    /// What to do.
    pub command: Command,
}

/// A program in whose name watchers are stopped and started, and why: the properties `by` and `because` of `start`,
/// `stop` and `restart`. circ's own; a circusd passes over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sake {
    /// The program.
    pub by: String,
    /// Why.
    pub because: String,
}

/// A message that cannot be executed, with the makings of its error reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// The id of the message; null when it could not be read.
    pub id: Value,
    /// The client wants no reply, not even this one.
    pub cast: bool,
    /// A sentence for the client; never more than about 300 bytes.
    pub reason: String,
    /// The kind of error.
    pub errno: Errno,
}

/// Reads one message of the control socket.
///
/// # Errors
/// A [`Rejection`] for everything that is not a known command with usable properties. Whether a
/// named watcher exists is not known here.
pub fn parse_request(bytes: &[u8]) -> Result<Request, Rejection> {
    let reject = |errno, reason: &str| Rejection {
        id: Value::Null,
        cast: false,
        reason: reason.to_string(),
        errno,
    };
    let bytes = bytes.trim_ascii();
    if bytes.is_empty() {
        return Err(reject(Errno::InvalidJson, "error: empty command"));
    }
    // Nesting deeper than 128 is refused by the parser, so nothing here can exhaust the stack.
    let message: Value =
        serde_json::from_slice(bytes).map_err(|_| reject(Errno::InvalidJson, "json invalid"))?;
    let Value::Object(mut message) = message else {
        return Err(reject(
            Errno::Message,
            "message invalid, it should be an object",
        ));
    };

    let id = message.remove("id").unwrap_or(Value::Null);
    let cast = message.get("msg_type").and_then(Value::as_str) == Some("cast");
    match parse_message(&message) {
        Ok((command, waiting)) => Ok(Request {
            sake: sake(&message),
            id,
            cast,
            waiting,
            command,
        }),
        Err(Fault { errno, reason }) => Err(Rejection {
            id,
            cast,
            reason,
            errno,
        }),
    }
}

fn parse_message(message: &Map<String, Value>) -> Result<(Command, bool), Fault> {
    let name = match message.get("command") {
        Some(Value::String(name)) => name,
        Some(_) => return Err(Fault::message("'command' should be a string")),
        None => return Err(missing("command")),
    };
    let Some(spec) = command::find(name) else {
        // Cut before quoting, so that a huge name costs nothing and the quotes stay whole.
        return Err(Fault {
            errno: Errno::UnknownCommand,
            reason: format!("unknown command: {}", pytext::repr(&brief(name))),
        });
    };

    let empty = Map::new();
    let properties = match message.get("properties") {
        None => &empty,
        Some(Value::Object(map)) => map,
        Some(other) => {
            check_odd_properties(spec, other)?;
            &empty
        }
    };
    if let Some(key) = spec
        .required
        .iter()
        .find(|key| !properties.contains_key(**key))
    {
        return Err(missing(key));
    }
    let properties = Properties(properties);
    Ok((
        parse_command(spec.name, &properties)?,
        properties.flag("waiting"),
    ))
}

/// For whose sake, if the message says so.
fn sake(message: &Map<String, Value>) -> Option<Sake> {
    let text = |key: &str| message.get("properties")?.get(key)?.as_str();
    let kept = |text: &str| text.chars().take(200).collect();
    Some(Sake {
        by: kept(text("by")?),
        because: kept(text("because").unwrap_or_default()),
    })
}

/// Properties that are no object: circus never looks at them in some commands, and in others asks
/// only whether `name` is in them, which Python can ask of a list or text.
fn check_odd_properties(spec: &command::CommandSpec, properties: &Value) -> Result<(), Fault> {
    let holds = |key: &str| match properties {
        Value::Array(items) => Some(items.iter().any(|item| item.as_str() == Some(key))),
        Value::String(text) => Some(text.contains(key)),
        _ => None,
    };
    match spec.name {
        "dstats" | "identity" | "ipython" | "listen" | "listsockets" | "numwatchers" => {
            return Ok(());
        }
        "list" | "metrics" | "numprocesses" | "reopenlogs" | "stats" | "status"
            if holds("name") == Some(false) =>
        {
            return Ok(());
        }
        _ => {}
    }
    for key in spec.required {
        if holds(key) == Some(false) {
            return Err(missing(key));
        }
    }
    Err(wrong("properties", "an object"))
}

fn parse_command(name: &str, properties: &Properties) -> Result<Command, Fault> {
    Ok(match name {
        "add" => {
            let options = properties.options()?;
            let name = properties.text("name")?;
            if name.is_empty() {
                return Err(Fault::message("'name' should not be empty"));
            }
            let args = properties.0.get("args").cloned().unwrap_or_default();
            if !(args.is_null() || args.is_string() || args.is_array()) {
                return Err(wrong("args", "a string or a list"));
            }
            Command::Add {
                name,
                cmd: properties.text("cmd")?,
                args,
                options,
                start: properties.flag("start"),
            }
        }
        "decr" => Command::Decr {
            name: properties.text("name")?,
            nb: properties.integer("nb", 1)?,
        },
        "dstats" => Command::Dstats,
        "get" => Command::Get {
            name: properties.text("name")?,
            keys: properties.keys()?,
        },
        "globaloptions" => Command::GlobalOptions {
            option: global_option(properties)?,
        },
        "identity" => Command::Identity,
        "incr" => Command::Incr {
            name: properties.text("name")?,
            nb: properties.integer("nb", 1)?,
        },
        "ipython" => Command::Ipython,
        "kill" => Command::Kill {
            // A pid of zero counts as none.
            pid: properties.process_id("pid")?.filter(|pid| *pid != 0),
            signum: if properties.has("signum") {
                Some(properties.signal("signum")?)
            } else {
                None
            },
            graceful_timeout: properties.seconds("graceful_timeout")?,
            name: properties.text("name")?,
        },
        "list" => Command::List {
            name: properties.text_if_any("name")?,
        },
        "listen" => {
            return Err(Fault::message("invalid message. use a pub/sub socket"));
        }
        "listsockets" => Command::ListSockets {
            details: properties.flag("details"),
        },
        "logtail" => log_tail(properties)?,
        "metrics" => Command::Metrics {
            name: properties.text_if_any("name")?,
            processes: properties.flag("processes"),
        },
        "numprocesses" => Command::NumProcesses {
            name: properties.text_if_any("name")?,
        },
        "numwatchers" => Command::NumWatchers,
        "options" => Command::Options {
            name: properties.text("name")?,
        },
        "quit" => Command::Quit,
        "reload" => Command::Reload {
            name: properties.text_if_any("name")?,
            graceful: !properties.has("graceful") || properties.flag("graceful"),
            sequential: properties.flag("sequential"),
        },
        "reloadconfig" => Command::ReloadConfig {
            only: properties.texts("only")?,
            check: properties.flag("check"),
        },
        "reopenlogs" => Command::ReopenLogs {
            name: properties.text_if_any("name")?,
        },
        "restart" => Command::Restart(selection(properties)?),
        "rm" => Command::Rm {
            name: properties.text("name")?,
            nostop: properties.flag("nostop"),
        },
        "set" => Command::Set {
            options: properties.options()?,
            name: properties.text("name")?,
        },
        "signal" => signal(properties)?,
        "start" => Command::Start(selection(properties)?),
        "stats" => stats(properties)?,
        "status" => Command::Status {
            name: properties.text_if_any("name")?,
            details: properties.flag("details"),
        },
        "stop" => Command::Stop(selection(properties)?),
        // The caller looked the name up in the table; a row without an arm here is caught by the
        // test that walks the table.
        other => {
            return Err(Fault::command(format!(
                "command {other} cannot be executed"
            )));
        }
    })
}

fn global_option(properties: &Properties) -> Result<Option<String>, Fault> {
    match properties.0.get("option") {
        None => Ok(None),
        Some(value) if !pytext::truthy(value) => Ok(None),
        Some(Value::String(option)) if GLOBAL_OPTIONS.contains(&option.as_str()) => {
            Ok(Some(option.clone()))
        }
        Some(other) => Err(Fault::message(format!(
            "{} not an existing option",
            brief(&pytext::repr_of(other))
        ))),
    }
}

fn selection(properties: &Properties) -> Result<Selection, Fault> {
    if !properties.has("name") {
        return Ok(Selection::all());
    }
    let matching = match properties.0.get("match") {
        None => Match::default(),
        Some(value) => {
            let known = value.as_str().and_then(Match::from_word);
            known.ok_or_else(|| {
                let word = brief(&pytext::text_of(value));
                Fault::message(format!("unknown match method {word}"))
            })?
        }
    };
    let selection = Selection {
        name: Some(properties.text("name")?),
        matching,
    };
    selection.matcher().map_err(Fault::command)?;
    Ok(selection)
}

fn log_tail(properties: &Properties) -> Result<Command, Fault> {
    let stream = properties.text_if_any("stream")?;
    let stream = stream.unwrap_or_else(|| "stdout".to_string());
    if !matches!(stream.as_str(), "stdout" | "stderr") {
        let word = pytext::repr(&brief(&stream));
        return Err(Fault::message(format!(
            "there is no stream {word}; stdout or stderr is expected"
        )));
    }
    let bytes = properties.integer("bytes", 64 * 1024)?;
    let after = properties.integer("after", 0)?;
    Ok(Command::LogTail {
        name: properties.text("name")?,
        stream,
        bytes: usize::try_from(bytes.max(0)).unwrap_or(usize::MAX),
        after: u64::try_from(after).unwrap_or(0),
    })
}

fn signal(properties: &Properties) -> Result<Command, Fault> {
    if properties.has("childpid") && !properties.has("pid") {
        return Err(Fault::command("cannot specify childpid without pid"));
    }
    Ok(Command::Signal {
        signum: properties.signal("signum")?,
        pid: properties.process_id("pid")?,
        childpid: properties.process_id("childpid")?.filter(|pid| *pid != 0),
        children: properties.flag("children"),
        recursive: properties.flag("recursive"),
        name: properties.text("name")?,
    })
}

fn stats(properties: &Properties) -> Result<Command, Fault> {
    let name = properties.text_if_any("name")?;
    // Without a watcher circus does not look at the process.
    let process = match &name {
        None => None,
        Some(name) => match properties.0.get("process").and_then(Value::as_i64) {
            Some(number) if i32::try_from(number).is_err() => {
                return Err(Fault::message(format!(
                    "process {number} not found in {}",
                    pytext::repr(&brief(name))
                )));
            }
            _ => properties.process_id("process")?,
        },
    };
    Ok(Command::Stats {
        name,
        process,
        extended: properties.flag("extended"),
    })
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
