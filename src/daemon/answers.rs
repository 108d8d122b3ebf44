//! Who waits for what, and what they are told.

use super::router::Client;
use super::shell::{Shell, wall_clock};
use crate::options::{Map, Value};
use crate::supervisor::{Outcome, Pid, Refusal, Ticket};
use crate::wire::brief;
use crate::wire::reply::{self, Errno};

/// Who is told about the outcome of a command, and in which shape.
pub(super) struct Waiting {
    /// Who; nobody for what the daemon itself asks for.
    pub client: Option<(Client, Value)>,
    /// The client waits for the outcome. Otherwise it hears at once that the command was taken, unless it is refused.
    pub patient: bool,
    /// How the outcome is told.
    pub shape: Shape,
    /// What follows in the daemon.
    pub then: Then,
}

/// The shape of a reply to a client that has waited.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shape {
    /// Nothing but ok.
    Plain,
    /// Under the key `info`.
    Info,
    /// At the top level.
    Bare,
}

/// What the daemon does once a command is done.
pub(super) enum Then {
    /// Nothing.
    Nothing,
    /// It ends.
    Exit,
    /// All watchers have stopped: read the configuration anew and start them.
    StartAfresh,
    /// One part of a larger command is done.
    Part {
        /// Which command.
        number: u64,
        /// The watcher, in lower case, whose options it was to replace.
        replaces: Option<String>,
    },
}

impl Shell {
    /// The core has answered a ticket.
    pub(super) fn answered(&mut self, ticket: Ticket, outcome: Outcome) {
        let Some(waiting) = self.waiting.remove(&ticket) else {
            return;
        };
        let refused = matches!(outcome, Outcome::Refused(_));
        if let Some((asking, was_refused)) = &mut self.asking
            && *asking == ticket
        {
            *was_refused = refused;
        } else if refused
            && !waiting.patient
            && let Outcome::Refused(refusal) = &outcome
        {
            tracing::warn!("a command nobody waits for was not carried out: {refusal}");
        }
        let now = self.asking.is_some_and(|(asking, _)| asking == ticket);
        // a fresh start is answered once the watchers run again, not when they have stopped
        let done = !matches!(waiting.then, Then::StartAfresh);
        if let Some((client, id)) = &waiting.client
            && ((waiting.patient && done) || (refused && now))
        {
            send(client, &reply_to(id, waiting.shape, &outcome));
        }
        match waiting.then {
            Then::Nothing => {}
            Then::Exit => self.done = !refused,
            Then::StartAfresh => {
                let client = waiting.client.filter(|_| waiting.patient);
                self.start_afresh(client);
            }
            Then::Part { number, replaces } => {
                if let Some(name) = replaces {
                    if self.replacing.get(&name).is_some_and(|(n, _)| *n == number) {
                        self.replacing.remove(&name);
                    }
                    if refused {
                        self.untaken.insert(name);
                    } else {
                        self.untaken.remove(&name);
                    }
                }
                self.part_done(number, outcome);
            }
        }
    }
}

/// The reply that tells an outcome.
fn reply_to(id: &Value, shape: Shape, outcome: &Outcome) -> Value {
    let pids = |pids: &[Pid]| Value::from(pids.to_vec());
    let mut details = Map::new();
    match outcome {
        Outcome::Refused(refusal) => {
            let errno = match refusal {
                Refusal::NotFound(_) => Errno::Message,
                _ => Errno::Command,
            };
            let text = match refusal {
                // the client's own words come back in these, and may be long
                Refusal::NotFound(_) | Refusal::Exists(_) => brief(&refusal.to_string()),
                _ => refusal.to_string(),
            };
            return reply::error(id, wall_clock(), errno, &text);
        }
        Outcome::Done => {}
        Outcome::Started { started, kept } => {
            details.insert("started".into(), pids(started));
            details.insert("kept".into(), pids(kept));
        }
        Outcome::Replaced {
            stopped,
            started,
            kept,
        } => {
            details.insert("stopped".into(), pids(stopped));
            details.insert("started".into(), pids(started));
            details.insert("kept".into(), pids(kept));
        }
        Outcome::Count(number) => {
            details.insert("numprocesses".into(), Value::from(*number));
        }
    }
    let properties = match shape {
        Shape::Plain => Map::new(),
        Shape::Bare => details,
        Shape::Info => {
            let info = if details.is_empty() {
                Value::Null
            } else {
                Value::Object(details)
            };
            Map::from_iter([("info".to_string(), info)])
        }
    };
    reply::ok(id, wall_clock(), properties)
}

pub(super) fn send(client: &Client, reply: &Value) {
    client.send(reply.to_string().as_bytes());
}
