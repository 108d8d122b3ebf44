//! The daemon room.
pub mod spawn;
