//! Watches the sockets of the watchers that start only when somebody connects (`on_demand`).
//!
//! The sockets are watched only while such a watcher waits: a duplicate of each is in the event loop's epoll set, and
//! nothing is read or accepted from it. circus looks at all sockets of the configuration for any watcher on demand; here
//! a watcher waits for those it uses, and for all only if it names none.

use super::shell::Shell;
use super::sockets::ListenSocket;
use crate::config::uses_socket;
use crate::options::WatcherOptions;
use crate::supervisor::{Input, WatcherId};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The sockets that are watched.
#[derive(Default)]
pub struct Demand {
    watched: BTreeMap<String, Watched>,
    /// Who waits for what may have changed.
    stale: bool,
}

struct Watched {
    ready: AsyncFd<OwnedFd>,
    watchers: BTreeSet<WatcherId>,
}

impl Demand {
    /// Who waits for what may have changed: it is found out again.
    pub fn changed(&mut self) {
        self.stale = true;
    }

    /// Lets go of all sockets, so that they can be closed; they are watched again after the next change.
    pub fn let_go(&mut self) {
        self.watched.clear();
        self.stale = true;
    }

    /// Whether there is anything to wait for.
    pub fn is_idle(&self) -> bool {
        self.watched.is_empty()
    }

    /// The watchers that wait for the next socket with something to read. That socket is not watched any more until the
    /// next [`Shell::watch_sockets`].
    pub async fn next(&mut self) -> BTreeSet<WatcherId> {
        let name = poll_fn(|cx| {
            for (name, watched) in &self.watched {
                // an error is for whoever reads: the worker
                if watched.ready.poll_read_ready(cx).is_ready() {
                    return Poll::Ready(name.clone());
                }
            }
            Poll::Pending
        })
        .await;
        self.stale = true;
        self.watched
            .remove(&name)
            .map(|watched| watched.watchers)
            .unwrap_or_default()
    }
}

impl Shell {
    /// Watches the sockets of the watchers that wait now, and no others.
    pub(super) fn watch_sockets(&mut self) {
        if !std::mem::take(&mut self.demand.stale) {
            return;
        }
        let mut wanted: BTreeMap<&str, BTreeSet<WatcherId>> = BTreeMap::new();
        for watcher in self.core.watchers().filter(|watcher| watcher.waits()) {
            for name in sockets_of(watcher.options(), &self.sockets) {
                wanted.entry(name).or_default().insert(watcher.id());
            }
        }
        let watched = &mut self.demand.watched;
        watched.retain(|name, _| {
            let kept = wanted.contains_key(name.as_str());
            if let Some(socket) = self.sockets.get(name).filter(|_| !kept) {
                socket.stand_down();
            }
            kept
        });
        for (name, watchers) in wanted {
            if let Some(watched) = watched.get_mut(name) {
                watched.watchers = watchers;
                continue;
            }
            let Some(socket) = self.sockets.get(name) else {
                continue;
            };
            match socket.watchable().and_then(readiness) {
                Ok(ready) => {
                    watched.insert(name.to_string(), Watched { ready, watchers });
                }
                Err(error) => {
                    tracing::error!("cannot watch socket {name} for connections: {error}");
                }
            }
        }
    }

    /// Somebody has connected.
    pub(super) fn demanded(&mut self, watchers: BTreeSet<WatcherId>) {
        for watcher in watchers {
            self.step(Input::Demand { watcher });
        }
    }
}

#[expect(
    deprecated,
    reason = "what replaces it is unsafe to call, and asks for what an OwnedFd promises by itself"
)]
fn readiness(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// The sockets that a watcher on demand waits for.
fn sockets_of<'a>(
    options: &WatcherOptions,
    sockets: &'a BTreeMap<String, Arc<ListenSocket>>,
) -> Vec<&'a str> {
    let all = || sockets.keys().map(String::as_str);
    let own: Vec<&str> = all().filter(|name| uses_socket(options, name)).collect();
    if own.is_empty() { all().collect() } else { own }
}
