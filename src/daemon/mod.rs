//! The daemon room.
pub mod accounts;
pub mod detach;
pub mod holder;
pub mod log;
pub mod pidfile;
pub mod sockets;
pub mod spawn;
