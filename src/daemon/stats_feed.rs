//! The statistics publisher: what the circusd-stats of Circus is as a process of its own, without the process.
//!
//! A round a second, measured once for all subscribers on the sampling thread, and only of what somebody has subscribed
//! to. With no subscriber nothing is measured, and nothing wakes up.

use super::endpoint::Listener;
use super::publisher::Publisher;
use super::shell::Shell;
use super::socket_reads::Since;
use super::sockets::ListenSocket;
use super::spawn::give_back;
use crate::stats::{self, Group, Interest, Member, Round};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// From one round to the next, as in circusd-stats.
const PERIOD: Duration = Duration::from_secs(1);

/// Watchers that circusd-stats does not take for the user's.
const OWN: [&str; 3] = ["circusd", "circushttpd", "circusd-stats"];

/// The publisher of one stats endpoint.
pub struct Feed {
    publisher: Arc<Publisher>,
    /// The earliest moment of the next round.
    next: Instant,
    /// A round is being measured.
    busy: Arc<AtomicBool>,
    /// The reads of the sockets from round to round, while somebody wants them.
    reads: Since,
    /// The last round has left things behind in memory that nobody needs while nobody listens.
    warm: bool,
}

/// The leave to measure and publish one round. There is only one at a time.
pub struct Turn {
    /// What is wanted.
    pub interest: Interest,
    publisher: Arc<Publisher>,
    busy: Busy,
}

/// Says that a round is over, however it ends.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Turn {
    /// Measures and publishes.
    pub fn publish(self, round: &Round, sampler: &mut stats::Sampler) {
        round.tell(sampler, |topic, payload| {
            self.publisher
                .publish(topic, payload.to_string().as_bytes());
        });
        drop(self.busy);
    }
}

impl Feed {
    /// Serves a bound stats endpoint.
    pub fn serve(listener: Listener) -> Feed {
        Feed {
            publisher: Arc::new(Publisher::serve(listener)),
            next: Instant::now(),
            busy: Arc::default(),
            reads: Since::default(),
            warm: false,
        }
    }

    /// Where it listens.
    pub fn listener(&self) -> &Listener {
        self.publisher.listener()
    }

    /// Messages that subscribers were too slow for.
    pub fn dropped(&self) -> u64 {
        self.publisher.dropped()
    }

    /// Messages that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.publisher.waiting()
    }

    /// Begins a round; `None` if the last one is still being measured.
    pub fn begin(&mut self) -> Option<Turn> {
        // an even pace, which begins anew after a time in which nobody listened
        let now = Instant::now();
        let late = now.saturating_duration_since(self.next);
        let late = if late < PERIOD / 2 {
            late
        } else {
            Duration::ZERO
        };
        self.next = now + PERIOD - late;
        self.warm = true;
        let busy = self.busy.swap(true, Ordering::Acquire);
        (!busy).then(|| Turn {
            interest: self.interest(),
            publisher: self.publisher.clone(),
            busy: Busy(self.busy.clone()),
        })
    }

    fn interest(&self) -> Interest {
        self.publisher.topics().into_iter().collect()
    }
}

/// Waits until a round is due: there is somebody to publish to, and the last round is long enough ago. For ever if there
/// is no feed. Dropping it loses nothing.
pub async fn due(feed: &mut Option<Feed>) {
    let Some(feed) = feed else {
        return std::future::pending().await;
    };
    loop {
        if feed.interest().in_or_under(Round::TOPIC) {
            return tokio::time::sleep_until(feed.next.into()).await;
        }
        feed.reads.forget();
        if feed.warm {
            tokio::select! {
                biased;
                () = feed.publisher.changed() => {}
                // somebody who only connects anew is back by then
                () = tokio::time::sleep_until(feed.next.into()) => {
                    feed.warm = false;
                    give_back();
                }
            }
        } else {
            feed.publisher.changed().await;
        }
    }
}

impl Shell {
    /// Has a round measured and published.
    pub(super) fn stats_round(&mut self) {
        let Some(turn) = self.feed.as_mut().and_then(Feed::begin) else {
            return;
        };
        let round = Round {
            groups: self.groups(&turn.interest),
            sockets: self.socket_reads(&turn.interest),
        };
        if !round.is_empty() {
            self.sampling.feed(turn, round);
        }
    }

    /// The processes that somebody wants to hear of.
    fn groups(&self, interest: &Interest) -> Vec<Group> {
        let mut groups = Vec::new();
        let mut own = vec![Member {
            pid: nix::unistd::getpid().as_raw(),
            name: Some("circusd"),
        }];
        for watcher in self.core.watchers() {
            // topics have the name that `list` gives
            let name = watcher.options().name.to_lowercase();
            let pids: Vec<i32> = watcher.workers().iter().map(|worker| worker.pid).collect();
            if OWN.contains(&name.as_str()) {
                if let ("circushttpd", [pid]) = (name.as_str(), pids.as_slice()) {
                    own.push(Member {
                        pid: *pid,
                        name: Some("circushttpd"),
                    });
                }
                continue;
            }
            if !pids.is_empty() && interest.in_or_under(&Round::topic(&name)) {
                let member = |pid| Member { pid, name: None };
                let members = pids.into_iter().map(member).collect();
                groups.push(Group { name, members });
            }
        }
        if interest.in_or_under(&Round::topic(Round::CIRCUS)) {
            groups.push(Group {
                name: Round::CIRCUS.to_string(),
                members: own,
            });
        }
        groups
    }

    /// What was counted on the sockets since the last round, if somebody wants to hear of it.
    fn socket_reads(&mut self, interest: &Interest) -> Vec<stats::SocketReads> {
        let wanted = interest.in_or_under(&Round::topic(Round::SOCKETS));
        if wanted {
            self.count_reads(PERIOD * 2);
        }
        let Some(feed) = &mut self.feed else {
            return Vec::new();
        };
        if !wanted {
            feed.reads.forget();
            return Vec::new();
        }
        let counted = &self.socket_reads;
        let told = |(name, socket): (&String, &Arc<ListenSocket>)| stats::SocketReads {
            fd: socket.fd(),
            address: socket.plain_location(),
            reads: feed.reads.take(counted, name),
        };
        let mut sockets: Vec<stats::SocketReads> = self.sockets.iter().map(told).collect();
        sockets.sort_by_key(|socket| socket.fd);
        sockets
    }

    /// Has the reads of the sockets counted for so long.
    pub(super) fn count_reads(&mut self, time: Duration) {
        // nobody listens on a socket of which each worker has its own
        let counted = self
            .sockets
            .iter()
            .filter(|(_, socket)| !socket.reuses_port());
        let counted = counted.map(|(name, socket)| (name.as_str(), socket.as_ref()));
        if !self.sockets.is_empty()
            && let Err(error) = self.socket_reads.want(counted, time)
        {
            tracing::warn!("cannot count the reads of sockets: {error}");
        }
    }
}
