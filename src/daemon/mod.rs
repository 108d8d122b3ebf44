//! The daemon room.
pub mod accounts;
pub mod spawn;
