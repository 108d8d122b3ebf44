//! The state room.
