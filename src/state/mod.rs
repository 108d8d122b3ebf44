//! The state room: a watcher is described, and the file and the running daemon are brought to match.
//!
//! One run is a straight line through the files of this room:
//!
//! 1. [`desired`]: what is wanted, as told on a command line, checked against the options table. Pure.
//! 2. [`observed`]: what is there, as data; [`files`] reads the file's side (through [`crate::config`]), [`live`] the
//!    daemon's (through [`crate::wire`]).
//! 3. [`plan`]: desired × observed → the smallest list of actions. Pure; an empty plan is what idempotent means.
//! 4. [`apply`]: the only file with effects: it writes the file (through [`store`]), sends the commands, waits until
//!    the workers really run ([`verify`]), and undoes what it did when the daemon refuses.
//! 5. [`report`]: what a caller gets: the state report and the table of exit codes. Pure.
//!
//! [`ensure`] strings them together ([`prepare`] up to the plan). The file and the daemon are two truths: each is compared with what is wanted on
//! its own, and drift of either is named and repaired.

pub mod accounts;
pub mod agent;
pub mod apply;
pub mod desired;
pub mod document;
pub mod ensure;
pub mod files;
pub mod live;
pub mod observed;
pub mod plan;
mod prepare;
pub mod report;
pub mod store;
pub mod values;
pub mod verify;
mod wording;
