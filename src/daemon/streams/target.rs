//! What a destination of output has to do, and how it says that it could not.

use std::io;

/// Where bytes go in the end. Whoever calls it may wait: that is never the supervision thread.
///
/// A Python class that a user brings plugs in here: its target feeds a Python process, its [`super::format::Shape`]
/// makes the records that the process reads.
pub trait Target: Send {
    /// Prepares for writing, so that a file is there before anything is said.
    ///
    /// # Errors
    /// It cannot be opened; writing tries again.
    fn open(&mut self) -> Result<(), Trouble>;

    /// Takes whole records (lines, or frames of [`super::format`]); the beginning of a line may come before its end.
    ///
    /// # Errors
    /// Something was not taken. The caller brings it again, from the first byte that was not.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble>;

    /// Opens the destination anew: somebody may have moved it away.
    fn reopen(&mut self);

    /// Nobody writes any more for now.
    fn close(&mut self);
}

/// Something was not taken.
#[derive(Debug)]
pub struct Trouble {
    /// Bytes that were taken before.
    pub done: usize,
    /// What was tried, and why it failed.
    pub what: String,
}

impl Trouble {
    /// `what` failed with `error` after `done` bytes.
    pub fn new(done: usize, what: &str, error: &io::Error) -> Trouble {
        Trouble {
            done,
            what: format!("{what}: {error}"),
        }
    }
}

/// What it cannot be given back to is gone: output that goes nowhere.
#[derive(Debug)]
pub struct Nowhere;

impl Target for Nowhere {
    fn open(&mut self) -> Result<(), Trouble> {
        Ok(())
    }
    fn write(&mut self, _: &[u8]) -> Result<(), Trouble> {
        Ok(())
    }
    fn reopen(&mut self) {}
    fn close(&mut self) {}
}
