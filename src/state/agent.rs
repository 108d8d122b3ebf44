//! The agent: brings the machine to its desired state, and holds it there.
//!
//! * [`schedule`]: when to run, and how: the pure core. `step(now, Input) -> Effects`.
//! * [`window`]: maintenance windows. Pure.
//! * [`hearing`]: the daemon's events; [`watch`]: files that change; [`control`]: people, by the socket that is also the
//!   lock against a second agent, found by its [`address`].
//! * [`work`]: one run: the desired state is read and applied.
//! * [`shell`]: the loop that strings these together; [`telling`]: what it says.
//! * [`reports`], [`memory`]: what is left behind and kept.

pub mod address;
mod answers;
pub mod control;
mod ears;
pub mod hearing;
mod holding;
pub mod memory;
pub mod own;
mod random;
pub mod reports;
pub mod schedule;
pub mod shell;
pub mod telling;
pub mod watch;
pub mod window;
pub mod work;

pub use shell::{AgentError, Handle, Inbox, Setup, channels, run};
