//! The state room: what is wanted is described, and the file and the running daemon are brought to match.
//!
//! One run is a straight line through the files of this room:
//!
//! 1. [`desired`]: what is wanted, as told on a command line or in a desired-state file, checked against the options
//!    table. Pure. [`expand`] makes it the list of resources that the run looks at.
//! 2. [`observed`]: what is there, as data; [`files`] reads the file's side (through [`crate::config`]), [`live`] the
//!    daemon's (through [`crate::wire`]).
//! 3. [`targets`]: each watcher as it should be in the end.
//! 4. [`plan`] and [`sections`]: desired × observed → the smallest list of actions. Pure; an empty plan is what
//!    idempotent means.
//! 5. [`apply`]: the only file with effects: it writes the file (through [`store`]), sends the commands, and undoes what
//!    it did when the daemon refuses. [`verify`] waits until the workers really run.
//! 6. [`report`]: what a caller gets: the state report and the table of exit codes; [`telling`] fills it in, [`secrets`]
//!    keeps secrets out of it. Pure.
//!
//! [`prepare`] strings the first four together, [`transaction`] all of them. The file and the daemon are two truths:
//! each is compared with what is wanted on its own, and drift of either is named and repaired.

pub mod accounts;
pub mod agent;
pub mod apply;
pub mod desired;
pub mod document;
mod expand;
pub mod export;
pub mod files;
pub mod handlers;
pub mod instance;
pub mod interrupt;
pub mod live;
pub mod looking;
pub mod observed;
pub mod plan;
mod prepare;
pub mod report;
pub mod schema;
pub mod secrets;
pub mod sections;
pub mod settings;
mod starting;
pub mod store;
mod targets;
mod telling;
pub mod transaction;
pub mod values;
pub mod verify;
mod wording;

pub use settings::Settings;
pub use telling::DAEMON;
pub use transaction::{apply, ensure};
