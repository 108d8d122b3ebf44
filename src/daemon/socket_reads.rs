//! How busy the listening sockets are, in the measure of circusd-stats: how many of the 10 ms pieces of a second found
//! something to read (a connection that waits to be accepted, a datagram). Nothing is taken from a socket, and its flags
//! stay as they are. circusd-stats asks every 10 ms; here the kernel is waited for, so that a socket on which nothing
//! happens costs nothing. A worker that is faster than the look may still empty the socket first: it is a lower bound,
//! as the real one's.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A socket is counted once in this time.
const PIECE: Duration = Duration::from_millis(10);
/// How long the thread goes on at most when nobody wants the counts any more.
const LINGER: Duration = Duration::from_secs(1);
/// Sockets that are asked about at once.
const AT_ONCE: usize = 64;

/// What was counted on each socket, by its name; it only grows. Counted on a thread of its own, which is there while
/// somebody wants to know.
#[derive(Debug, Default)]
pub struct SocketReads {
    /// Of the sockets as they are now.
    counting: Option<Counting>,
    /// What was counted before.
    past: HashMap<String, u64>,
}

#[derive(Debug)]
struct Counting {
    counts: Vec<(String, Arc<AtomicU64>)>,
    term: Arc<Term>,
}

/// How long is counted: none when the thread has ended.
#[derive(Debug)]
struct Term(Mutex<Option<Instant>>);

impl SocketReads {
    /// Counts on these sockets from now on, and for so long. They stay their owner's.
    ///
    /// # Errors
    /// The kernel gives no epoll instance or thread, or knows no readiness of such a descriptor.
    pub fn want<'a, S: AsFd + 'a>(
        &mut self,
        sockets: impl Iterator<Item = (&'a str, &'a S)>,
        time: Duration,
    ) -> io::Result<()> {
        let until = Instant::now() + time;
        if let Some(counting) = &self.counting
            && counting.term.prolong(until)
        {
            return Ok(());
        }
        self.changed();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut counts = Vec::new();
        for (name, socket) in sockets {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, counts.len() as u64);
            epoll.add(socket, event)?;
            counts.push((name.to_string(), Arc::default()));
        }
        let term = Arc::new(Term(Mutex::new(Some(until))));
        let shared: Vec<_> = counts.iter().map(|(_, count)| Arc::clone(count)).collect();
        let counting = Counting {
            counts,
            term: term.clone(),
        };
        std::thread::Builder::new()
            .name("stats-sockets".to_string())
            .stack_size(64 * 1024)
            .spawn(move || watch(&epoll, &shared, &term))?;
        self.counting = Some(counting);
        Ok(())
    }

    /// The sockets are others than they were: what counts on the old ones ends.
    pub fn changed(&mut self) {
        let Some(counting) = self.counting.take() else {
            return;
        };
        counting.term.end();
        for (name, count) in &counting.counts {
            *self.past.entry(name.clone()).or_default() += count.load(Ordering::Relaxed);
        }
    }

    /// What was counted on the socket of this name so far.
    pub fn of(&self, name: &str) -> u64 {
        let counts = self.counting.iter().flat_map(|now| &now.counts);
        let now = counts.filter(|(known, _)| known == name);
        let now: u64 = now.map(|(_, count)| count.load(Ordering::Relaxed)).sum();
        now + self.past.get(name).copied().unwrap_or(0)
    }
}

/// What was counted since the last look of one who looks regularly.
#[derive(Debug, Default)]
pub struct Since(HashMap<String, u64>);

impl Since {
    /// What was counted on the socket of this name since the last call; 0 at the first.
    pub fn take(&mut self, reads: &SocketReads, name: &str) -> u64 {
        let now = reads.of(name);
        let last = self.0.insert(name.to_string(), now);
        now.saturating_sub(last.unwrap_or(now))
    }

    /// The next look is the first one again.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

impl Drop for SocketReads {
    fn drop(&mut self) {
        self.changed();
    }
}

impl Term {
    fn until(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Not before this moment; false if it is too late.
    fn prolong(&self, until: Instant) -> bool {
        let mut term = self.until();
        *term = term.map(|known| known.max(until));
        term.is_some()
    }

    fn end(&self) {
        *self.until() = None;
    }

    /// How long to wait for news; none if it is over, and then for good.
    fn wait(&self) -> Option<Duration> {
        let mut term = self.until();
        let left = (*term)?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            *term = None;
        }
        // a wait of nothing would not sleep at all
        (!left.is_zero()).then(|| left.clamp(PIECE, LINGER))
    }
}

fn watch(epoll: &Epoll, counts: &[Arc<AtomicU64>], term: &Term) {
    let mut events = [EpollEvent::empty(); AT_ONCE];
    while let Some(wait) = term.wait() {
        let wait = EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::ZERO);
        let found = match epoll.wait(&mut events, wait) {
            Ok(found) => found,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => {
                tracing::warn!("the reads of sockets are not counted any more: {error}");
                return term.end();
            }
        };
        for event in events.iter().take(found) {
            // a socket that only hung up has nothing to read
            if event.events().contains(EpollFlags::EPOLLIN)
                && let Some(count) = counts.get(event.data() as usize)
            {
                count.fetch_add(1, Ordering::Relaxed);
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

    const LONG: Duration = Duration::from_secs(60);

    /// Waits until `probe` says yes.
    fn soon(mut probe: impl FnMut() -> bool) {
        let end = Instant::now() + LONG;
        while !probe() {
            assert!(Instant::now() < end, "it did not happen");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_connection_that_waits_is_counted_and_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let quiet = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reads = SocketReads::default();
        let sockets = [("busy", &listener), ("quiet", &quiet)];
        reads.want(sockets.into_iter(), LONG).unwrap();
        assert_eq!((reads.of("busy"), reads.of("other")), (0, 0));
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        soon(|| reads.of("busy") >= 2); // it waits on, so it is found again
        let _accepted = listener.accept().unwrap(); // still there
        let mut last = (reads.of("busy"), Instant::now());
        soon(|| {
            let now = reads.of("busy");
            if now != last.0 {
                last = (now, Instant::now());
            }
            last.1.elapsed() > PIECE * 20
        });
        assert_eq!(reads.of("quiet"), 0);
        // what was counted stays when other sockets are counted
        reads.changed();
        assert_eq!(reads.of("busy"), last.0);
        reads.want(sockets.into_iter(), LONG).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        soon(|| reads.of("busy") > last.0);
    }

    #[test]
    fn a_busy_socket_is_counted_a_hundred_times_a_second_at_most() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let start = Instant::now();
        let mut reads = SocketReads::default();
        reads.want([("x", &socket)].into_iter(), LONG).unwrap();
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        soon(|| reads.of("x") >= 5);
        assert!(reads.of("x") as f64 <= 1.0 + start.elapsed().as_secs_f64() * 100.0);
    }

    #[test]
    fn it_ends_when_nobody_wants_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reads = SocketReads::default();
        let term = |reads: &SocketReads| Arc::downgrade(&reads.counting.as_ref().unwrap().term);
        let sockets = || [("x", &listener)].into_iter();
        reads.want(sockets(), Duration::ZERO).unwrap();
        let first = term(&reads);
        soon(|| first.upgrade().is_none_or(|term| term.until().is_none()));
        // too late: another thread goes on
        reads.want(sockets(), LONG).unwrap();
        let second = term(&reads);
        assert!(first.upgrade().is_none() && second.upgrade().is_some());
        reads.want(sockets(), LONG).unwrap();
        assert!(second.ptr_eq(&term(&reads)));
        drop(reads);
        soon(|| second.strong_count() == 0);
    }
}
