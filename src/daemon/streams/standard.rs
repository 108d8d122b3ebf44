//! The daemon's own standard output and standard error as destinations.

use super::target::{Target, Trouble};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

/// One of the daemon's own outputs.
#[derive(Debug, Clone, Copy)]
pub enum Standard {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl Standard {
    /// As messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Standard::Output => "the daemon's standard output",
            Standard::Error => "the daemon's standard error",
        }
    }

    fn on<T>(self, act: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match self {
            Standard::Output => act(io::stdout().as_fd()),
            Standard::Error => act(io::stderr().as_fd()),
        }
    }
}

impl Target for Standard {
    fn open(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let mut done = 0;
        while done < bytes.len() {
            // not through the buffer of the standard library, and without its lock: the log writes there too
            let written = self.on(|fd| nix::unistd::write(fd, &bytes[done..]));
            let error = match written {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(count) => {
                    done += count;
                    continue;
                }
                Err(nix::Error::EINTR) => continue,
                // somebody has made it non-blocking, for all who share it
                Err(nix::Error::EAGAIN) => {
                    // whatever it says, the write is tried again
                    let _ = self.on(|fd| {
                        let fds = &mut [PollFd::new(fd, PollFlags::POLLOUT)];
                        poll(fds, PollTimeout::NONE)
                    });
                    continue;
                }
                Err(error) => io::Error::from(error),
            };
            let what = format!("cannot write to {}", self.name());
            return Err(Trouble::new(done, &what, &error));
        }
        Ok(())
    }

    fn reopen(&mut self) {}

    fn close(&mut self) {}
}
