//! The config room: circus.ini as a lossless document, as a typed model, and the variables in it.
//! Reads files; owns no process and no socket.

mod document;
mod edit;
mod error;
pub mod pytext;

pub use document::{DEFAULT_SECTION, Document, Entries, Entry, NAME_KEY};
pub use error::{ConfigError, Problem, ProblemKind};
