//! The imperative shell: carries out what the core decides, and tells it what the kernel says.

pub mod accounts;
pub mod detach;
pub mod endpoint;
pub mod holder;
pub mod log;
pub mod pidfile;
pub mod publisher;
pub mod router;
pub mod sockets;
pub mod spawn;
pub mod zmtp;
