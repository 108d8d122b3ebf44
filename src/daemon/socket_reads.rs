//! How busy the listening sockets are, in the measure of circusd-stats: how many of the 10 ms pieces of a second found
//! something to read (a connection that waits to be accepted, a datagram). Nothing is taken from a socket, and its flags
//! stay as they are. circusd-stats asks every 10 ms; here the kernel is waited for, so that a socket on which nothing
//! happens costs nothing. A worker that is faster than the look may still empty the socket first: it is a lower bound,
//! as the real one's.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A socket is counted once in this time.
const PIECE: Duration = Duration::from_millis(10);
/// How long the thread goes on at most when nobody wants the counts any more, in milliseconds.
const LINGER: u16 = 1000;
/// Sockets that are asked about at once.
const AT_ONCE: usize = 64;

/// Counts on a thread of its own until it is dropped.
pub struct SocketReads {
    counts: HashMap<RawFd, Arc<AtomicU64>>,
    stop: Arc<AtomicBool>,
}

impl SocketReads {
    /// Begins to count on these sockets. They stay their owner's: one that is closed is not counted any more.
    ///
    /// # Errors
    /// The kernel gives no epoll instance or thread, or knows no readiness of such a descriptor.
    pub fn count<'a, S: AsFd + 'a>(
        sockets: impl Iterator<Item = &'a S>,
    ) -> io::Result<SocketReads> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut counts = HashMap::new();
        for socket in sockets {
            let fd = socket.as_fd().as_raw_fd();
            let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::try_from(fd).unwrap_or_default());
            epoll.add(socket, event)?;
            counts.insert(fd, Arc::default());
        }
        let stop: Arc<AtomicBool> = Arc::default();
        let shared = (counts.clone(), stop.clone());
        std::thread::Builder::new()
            .name("stats-sockets".to_string())
            .stack_size(64 * 1024)
            .spawn(move || watch(&epoll, &shared.0, &shared.1))?;
        Ok(SocketReads { counts, stop })
    }

    /// What was counted on a socket since the last call; 0 for one that is not counted.
    pub fn take(&self, fd: RawFd) -> u64 {
        let count = self.counts.get(&fd);
        count.map_or(0, |count| count.swap(0, Ordering::Relaxed))
    }
}

impl Drop for SocketReads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn watch(epoll: &Epoll, counts: &HashMap<RawFd, Arc<AtomicU64>>, stop: &AtomicBool) {
    let mut events = [EpollEvent::empty(); AT_ONCE];
    while !stop.load(Ordering::Relaxed) {
        let found = match epoll.wait(&mut events, EpollTimeout::from(LINGER)) {
            Ok(found) => found,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => {
                tracing::warn!("the reads of sockets are not counted any more: {error}");
                return;
            }
        };
        for event in events.iter().take(found) {
            // a socket that only hung up has nothing to read
            if event.events().contains(EpollFlags::EPOLLIN) {
                let fd = RawFd::try_from(event.data()).unwrap_or(-1);
                if let Some(count) = counts.get(&fd) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if found > 0 {
            std::thread::sleep(PIECE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::time::Instant;

    /// Waits until `probe` says yes.
    fn soon(mut probe: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !probe() {
            assert!(Instant::now() < end, "it did not happen");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_connection_that_waits_is_counted_and_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let quiet = TcpListener::bind("127.0.0.1:0").unwrap();
        let reads = SocketReads::count([&listener, &quiet].into_iter()).unwrap();
        let fd = listener.as_raw_fd();
        assert_eq!((reads.take(fd), reads.take(-5)), (0, 0));
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut seen = 0;
        soon(|| {
            seen += reads.take(fd);
            seen >= 2 // it waits on, so it is found again
        });
        let _accepted = listener.accept().unwrap(); // still there
        soon(|| reads.take(fd) == 0 && reads.take(fd) == 0);
        assert_eq!(reads.take(quiet.as_raw_fd()), 0);
    }

    #[test]
    fn a_busy_socket_is_counted_a_hundred_times_a_second_at_most() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let start = Instant::now();
        let reads = SocketReads::count([&socket].into_iter()).unwrap();
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        let mut seen = 0;
        soon(|| {
            seen += reads.take(socket.as_raw_fd());
            seen >= 5
        });
        assert!(seen as f64 <= 1.0 + start.elapsed().as_secs_f64() * 100.0);
    }

    #[test]
    fn it_ends_when_nobody_wants_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let reads = SocketReads::count([&listener].into_iter()).unwrap();
        let alive = Arc::downgrade(&reads.stop);
        drop(reads);
        soon(|| alive.strong_count() == 0);
    }
}
