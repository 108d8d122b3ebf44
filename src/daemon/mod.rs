//! The imperative shell: carries out what the core decides, and tells it what the kernel says.

pub mod accounts;
mod answers;
pub mod companion;
mod control;
pub mod detach;
mod differences;
pub mod endpoint;
mod hanging;
pub mod holder;
mod last_words;
mod launch;
pub mod log;
mod lookups;
pub mod not_yet;
pub mod pidfile;
pub mod publisher;
mod queries;
mod rebind;
mod reload;
pub mod router;
mod sampling;
mod shell;
pub mod sockets;
pub mod spawn;
mod spawner;
pub mod start;
pub mod zmtp;
