//! What the integration tests share: the real Circus in a Python environment, daemons in throw-away
//! directories, a Python process that speaks ZeroMQ for the tests, and waiting for conditions.
//!
//! ```ignore
//! mod support;
//! use support::{Program, TempSite};
//!
//! let site = TempSite::new();
//! site.ini("[watcher:web]\ncmd = sleep 1000\n");
//! let daemon = site.start(Program::Circ);          // or Program::Circusd, the real one
//! assert_eq!(daemon.call("list", json!({}))["watchers"], json!(["web"]));
//! ```
//!
//! Nothing outlives its test: a [`Daemon`] that is dropped is stopped, and whatever it left running is
//! killed by pid. Everything binds loopback only.

// Every test program compiles its own copy of this module and uses another part of it.
#![allow(dead_code, unused_imports)]

mod debian;
mod driver;
mod meanwhile;
mod ports;
mod process;
mod running;
mod site;
mod venv;
mod wait;

pub use debian::{need, skip};
pub use driver::{Driver, Handle};
pub use meanwhile::asking_meanwhile;
pub use ports::Port;
pub use process::{Process, adopt_orphans, children, descendants, is_alive, kill_tree};
pub use running::Running;
pub use site::{Daemon, Program, TempSite};
pub use venv::{Venv, venv, venv_of};
pub use wait::{DEADLINE, deadline, wait_for, wait_for_within};
