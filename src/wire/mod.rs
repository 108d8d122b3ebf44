//! The Circus protocol as data, and its ZeroMQ client. Knows nothing of the daemon.
//!
//! * [`command`]: the table of commands and the typed commands themselves;
//! * [`request`]: bytes from a client to a typed [`request::Request`], or the error it deserves;
//! * [`matching`]: which watchers a `start`, `stop` or `restart` means;
//! * [`reply`]: replies and their error numbers;
//! * [`event`]: what is published on the event socket;
//! * [`endpoint`]: addresses and their defaults;
//! * [`client`]: calls to a daemon and subscriptions to its events, each with a deadline;
//! * [`session`]: the same for programs with an event loop of their own, that outlive a daemon;
//! * `text`: replies from JSON, also where Python wrote what is no text;
//! * [`pytext`]: values as Python prints them, for the texts of the protocol and of `circusctl`.

pub mod client;
pub mod command;
pub mod endpoint;
pub mod event;
pub mod matching;
pub mod multicast;
mod properties;
pub mod pytext;
pub mod reply;
pub mod request;
pub mod session;
mod text;

pub use client::{Client, ClientError, Followed, Subscriber, follow};
pub use command::{COMMANDS, Command, CommandSpec};
pub use endpoint::Endpoint;
pub use event::Event;
pub use matching::{Match, Matcher, Selection};
pub use properties::brief;
pub use reply::Errno;
pub use request::{Rejection, Request, parse_request};
pub use session::{CallError, News, Session};
