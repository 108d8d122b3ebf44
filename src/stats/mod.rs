//! What the kernel and the system say about processes and users: `/proc` sampling in the words of
//! Circus's `stats`, once for everybody, and the user database it needs.

pub mod names;
