//! The daemon room.
pub mod accounts;
pub mod holder;
pub mod sockets;
pub mod spawn;
