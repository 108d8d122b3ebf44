//! The one bridge to Python code that users bring. circ has no Python inside: such code runs in a process of the user's
//! own python3, which is given the text it needs to speak with the daemon, and starts only when there is a need.
//!
//! This room knows which interpreter that is, the text, and the messages; who starts processes is `daemon`.

pub mod hooks;
pub mod interpreter;
pub mod stream;
