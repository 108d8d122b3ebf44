//! The agent: brings the machine to its desired state, and holds it there.

mod random;
pub mod schedule;
