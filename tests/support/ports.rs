//! Free loopback ports that stay ours for a test's whole life.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{Flock, FlockArg};

/// A loopback port nobody listens on, reserved until this is dropped.
///
/// The usual way (bind port 0, close, use the number) races: the kernel soon gives the same number to
/// somebody's outgoing connection or to another test. These ports are below the kernel's range for
/// outgoing connections, and a file lock a port keeps other test programs away.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: Flock<File>,
}

impl Port {
    /// Reserves a free port.
    pub fn reserve() -> Self {
        const FIRST: u32 = 12_000;
        const COUNT: u32 = 18_000;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = std::env::temp_dir().join("circ-test-ports");
        fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("cannot make {}: {e}", dir.display()));
        // Test programs start at different places, so that they rarely meet.
        let start = std::process::id().wrapping_mul(7919);
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = (FIRST + start.wrapping_add(step) % COUNT) as u16;
            let Ok(file) = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(dir.join(number.to_string()))
            else {
                continue;
            };
            let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
                continue;
            };
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self {
                    number,
                    _lock: lock,
                };
            }
        }
        panic!(
            "no free loopback port between {FIRST} and {}",
            FIRST + COUNT
        );
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }
}
