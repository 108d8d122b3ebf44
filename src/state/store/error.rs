//! Why the disk refused, in words that say what to do about it.

use std::io;
use std::path::Path;

use rustix::io::Errno;

/// Why a file could not be read, locked or written: what was tried, on which file, why it failed, what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}{}", advice(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Writing would not leave the file as its owner knows it, or is not wanted by whoever protected it.
    #[error("cannot write {path}: {reason}")]
    Refused {
        /// The file.
        path: String,
        /// What stands against it, and what to do.
        reason: String,
    },
    /// Another run holds the lock and did not let go in time.
    #[error(
        "another state run{holder} holds the lock on {what} and did not finish within {seconds} s; \
         wait for it or give more --timeout"
    )]
    Locked {
        /// The directory or endpoint that is locked.
        what: String,
        /// How long this run waited.
        seconds: f64,
        /// Who holds it, as far as that can be told: empty, or ` (process 12, circ)`.
        holder: String,
    },
    /// The run was asked to end while it waited for the lock.
    #[error("interrupted by {by} while another run held the lock on {what}")]
    Interrupted {
        /// Who asked.
        by: String,
        /// The directory or endpoint that is locked.
        what: String,
    },
    /// Somebody else wrote the file between our reading and our writing.
    #[error("{path} was changed by someone else while this run was looking at it; run again")]
    Changed {
        /// The file.
        path: String,
    },
    /// Several files belonged together, one could not be written, and not all of the others could be put back.
    #[error("{cause}; could not be undone: {}", left.join("; "))]
    NotUndone {
        /// Why the write failed.
        cause: Box<StoreError>,
        /// What stays changed, and why.
        left: Vec<String>,
    },
}

impl StoreError {
    pub(super) fn refused(path: &Path, reason: impl Into<String>) -> StoreError {
        StoreError::Refused {
            path: path.display().to_string(),
            reason: reason.into(),
        }
    }

    pub(super) fn changed(path: &Path) -> StoreError {
        StoreError::Changed {
            path: path.display().to_string(),
        }
    }
}

/// For `map_err`: this was tried on that file.
pub(super) fn failed<E: Into<io::Error>>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> StoreError {
    let path = path.display().to_string();
    move |source| StoreError::Io {
        action,
        path,
        source: source.into(),
    }
}

/// The error's number, if it is one of the system's.
pub(super) fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

/// What to do about it, for the end of a message.
fn advice(error: &io::Error) -> &'static str {
    match errno(error) {
        Some(Errno::NOSPC) => "; the file system is full: free some space and run again",
        Some(Errno::DQUOT) => "; free some of the quota and run again",
        Some(Errno::ROFS) => {
            "; mount the file system writable, or edit the file where it comes from"
        }
        Some(Errno::ACCESS | Errno::PERM) => "; run as a user who may do that",
        _ => "",
    }
}
