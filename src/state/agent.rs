//! The agent: brings the machine to its desired state, and holds it there.
//!
//! * [`schedule`]: when to run, and how: the pure core. `step(now, Input) -> Effects`.
//! * [`window`]: maintenance windows. Pure.
//! * [`hearing`]: the daemon's events; [`watch`]: files that change; [`control`]: people, by the socket that is also the
//!   lock against a second agent, found by its [`address`].
//! * [`reports`], [`memory`], [`notify`]: what is left behind, kept, and told to a service manager.

pub mod address;
pub mod control;
pub mod hearing;
pub mod memory;
pub mod notify;
mod random;
pub mod reports;
pub mod schedule;
pub mod watch;
pub mod window;
