//! circ: runs and watches processes and the sockets they share, answers Circus's protocol, and is an
//! idempotent state module for configuration management. One static binary.
//!
//! The rooms of the house, from the top. A room may name rooms below it, never one above
//! (`tests/architecture.rs` checks it):
//!
//! * [`cli`]: one file a command family: parse, call, print.
//! * [`console`]: the web console: pages, HTTP API, metrics; a client of daemons as any other.
//! * [`top`]: the terminal view: what is known, what a key does, how it looks. Reaches a daemon through nothing: `cli` does.
//! * [`state`]: desired, observed, plan, apply, report. Reaches a daemon through [`wire`], a file through [`config`].
//! * [`plugins`]: Circus's plugins, each a client of a daemon; reaches it through [`wire`].
//! * [`wsgi`]: the WSGI server: an HTTP front and the Python workers behind it.
//! * [`daemon`]: the imperative shell: spawns, signals, sockets, control endpoint, events.
//! * [`python`]: the bridge to Python code that users bring: which interpreter, its program, the messages.
//! * [`stats`]: `/proc` sampling.
//! * [`supervisor`]: the pure core: `step(now, Input) -> Effects`. No clock, runtime, file or system call.
//! * [`wire`]: the Circus protocol as data, and its ZeroMQ client.
//! * [`config`]: circus.ini: lossless document, typed model, includes, environment, variables.
//! * [`notify`]: the one-way line to a service manager (`sd_notify`).
//! * [`options`]: the table of watcher options, from which the rest is derived.

pub mod cli;
pub mod config;
pub mod console;
pub mod daemon;
pub mod notify;
pub mod options;
pub mod plugins;
pub mod python;
pub mod state;
pub mod stats;
pub mod supervisor;
pub mod top;
pub mod wire;
pub mod wsgi;
