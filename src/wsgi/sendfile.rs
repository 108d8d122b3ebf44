//! Files go from the disk to the client without passing through this process (`sendfile`).
//!
//! hyper writes bytes, and knows no files. So a body of a file hands out bytes of [`STAND_IN`], which nobody else uses,
//! and the connection puts the file's own bytes in their place: it knows them by where they are in memory.

use bytes::Bytes;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that stand for those of a file.
static STAND_IN: [u8; 1 << 20] = [0; 1 << 20];

/// The most that is sent at once.
pub const MOST: u64 = STAND_IN.len() as u64;

/// So many bytes that stand for those of a file; at most [`MOST`].
pub fn stand_in(length: u64) -> Bytes {
    let length = length.min(MOST) as usize;
    Bytes::from_static(STAND_IN.get(..length).unwrap_or_default())
}

/// True if these bytes stand for those of a file.
pub fn stands_in(bytes: &[u8]) -> bool {
    STAND_IN.as_ptr_range().contains(&bytes.as_ptr()) && !bytes.is_empty()
}

/// The parts of files that a connection has yet to send, in order.
#[derive(Debug, Default, Clone)]
pub struct Outgoing(Arc<Mutex<VecDeque<Part>>>);

#[derive(Debug)]
struct Part {
    file: File,
    at: u64,
    left: u64,
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file whose bytes are the next that are stood in for.
    pub fn push(&self, file: File, at: u64, left: u64) {
        self.lock().push_back(Part { file, at, left });
    }

    /// Sends up to `length` bytes of the file that is next; how many.
    ///
    /// # Errors
    /// The socket takes none now, or the file is shorter than it was.
    pub fn send(&self, socket: BorrowedFd<'_>, length: usize) -> io::Result<usize> {
        let mut parts = self.lock();
        let part = parts.front_mut().ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = part.left.min(length as u64) as usize;
        let sent = rustix::fs::sendfile(socket, &part.file, Some(&mut part.at), length)?;
        if sent == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        part.left = part.left.saturating_sub(sent as u64);
        if part.left == 0 {
            parts.pop_front();
        }
        Ok(sent)
    }
}
