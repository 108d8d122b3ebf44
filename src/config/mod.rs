//! The config room: circus.ini and circus.toml as a lossless document, as a typed model, and the
//! variables in it. Reads files; owns no process and no socket.
//!
//! * [`Document`] is one file: every byte of it, the reading that counts (that of Circus's parser,
//!   for a circus.ini), and edits that touch nothing else.
//! * [`Config`] is what a main file and its includes mean together: options, watchers, sockets,
//!   plugins, and where each value stands.
//! * [`Variables`] replaces `$(circus.…)` and its older spellings; [`worker_argv`] makes the
//!   argument list of a worker with them.

mod agent;
mod command;
mod console;
pub mod convert;
mod document;
mod effective;
mod error;
mod expand;
mod format;
mod ini;
pub mod keys;
mod load;
mod merged;
mod model;
pub mod pattern;
pub mod plugin_keys;
mod plugins;
pub mod pytext;
pub mod render;
mod repeats;
pub mod shlex;
pub mod supervisord;
#[cfg(test)]
mod tests;
mod text;
mod toml;
mod virtualenv;
mod watchers;

pub use agent::AgentOptions;
pub use command::{
    WorkerCommand, hands_over, names_socket, names_sockets, uses_socket, worker_argv,
};
pub use console::CONSOLE;
pub use document::{DEFAULT_SECTION, Document, Entries, Entry, Format, NAME_KEY};
pub use effective::{Effective, Stated};
pub(crate) use error::quoted;
pub use error::{ConfigError, Problem, ProblemKind};
pub use expand::Variables;
pub use model::{
    CircusOptions, Config, DEFAULT_ENDPOINT, DEFAULT_MULTICAST_ENDPOINT, DEFAULT_PUBSUB_ENDPOINT,
    DEFAULT_STATS_ENDPOINT, PluginConfig, SocketConfig, SocketFamily, SocketType,
};
pub use plugins::{BETWEEN, PLUGIN_PROGRAM};
pub use repeats::Shadowed;
pub use text::ini_text;
pub use virtualenv::enter_virtualenv;
