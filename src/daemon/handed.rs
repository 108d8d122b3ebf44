//! What a service manager gives the daemon at its start: sockets it has opened (sd_listen_fds(3)), and how often it wants
//! to hear that the daemon is alive (sd_watchdog_enabled(3)).

use super::sockets::{ListenSocket, Place, SocketError, is_bound_at, place_of};
use super::spawn::{LISTEN, inherited};
use crate::config::SocketConfig;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where the service manager listens (sd_notify(3)).
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG: [&str; 2] = ["WATCHDOG_USEC", "WATCHDOG_PID"];

/// Everything that the service manager gave, as it was found in the environment.
pub struct Handed {
    /// The sockets, open for as long as the daemon runs: whatever is reloaded, they can be had again.
    pub sockets: HandedSockets,
    /// The socket where it listens.
    pub notify: Option<String>,
    /// When it wants to hear of the daemon.
    pub watchdog: Option<Watchdog>,
}

impl Handed {
    /// Takes it out of the environment: workers do not inherit it. To be called once, before the process goes to the
    /// background, because all of it is meant for this very process.
    pub fn take(environ: &mut BTreeMap<String, String>) -> Handed {
        let [count, names, pid] = LISTEN.map(|name| environ.remove(name));
        let [period, watched] = WATCHDOG.map(|name| environ.remove(name));
        let own = std::process::id();
        let mine = |pid: &String| pid.parse() == Ok(own);
        let count: usize = match (count, pid.as_ref().is_some_and(mine)) {
            (Some(count), true) => count.parse().unwrap_or(0),
            _ => 0,
        };
        let period = period.filter(|_| watched.as_ref().is_none_or(mine));
        Handed {
            sockets: HandedSockets::take(count, names.unwrap_or_default().as_str()),
            notify: environ.remove(NOTIFY_SOCKET),
            watchdog: period.and_then(|text| Watchdog::new(text.parse().ok()?)),
        }
    }
}

/// Sockets from the service manager.
#[derive(Default)]
pub struct HandedSockets(Vec<(String, OwnedFd)>);

impl HandedSockets {
    fn take(count: usize, names: &str) -> HandedSockets {
        let mut names = names.split(':');
        let mut all = Vec::new();
        for number in (3..).take(count) {
            let name = names.next().unwrap_or_default();
            // systemd calls a socket after its unit unless it is told a name
            let name = name.strip_suffix(".socket").unwrap_or(name).to_lowercase();
            match inherited(number) {
                Ok(socket) => all.push((name, socket)),
                Err(error) => eprintln!(
                    "circ daemon: descriptor {number} ({name:?}), which LISTEN_FDS speaks of, cannot be used: {error}"
                ),
            }
        }
        HandedSockets(all)
    }

    /// Whether one of them becomes the socket of a section that goes there.
    pub fn has(&self, config: &SocketConfig, place: &Place) -> bool {
        let fits = |(name, socket): &(String, OwnedFd)| {
            *name == config.name || is_bound_at(socket, config.kind, place)
        };
        self.0.iter().any(fits)
    }

    /// As [`HandedSockets::open_at`], where the section says.
    ///
    /// # Errors
    /// As there; or its host cannot be found.
    pub fn open(&self, config: &SocketConfig) -> Result<ListenSocket, SocketError> {
        self.open_at(config, place_of(config)?, false)
    }

    /// The socket of a section: the one that was handed over under its name or with its address, or a new one. `beside` is for that, see
    /// [`ListenSocket::open_at`].
    ///
    /// # Errors
    /// What was handed over under its name is of another kind; or as [`ListenSocket::open`].
    pub fn open_at(
        &self,
        config: &SocketConfig,
        place: Place,
        beside: bool,
    ) -> Result<ListenSocket, SocketError> {
        let of_name = || self.0.iter().filter(|(name, _)| *name == config.name);
        let there = |(_, socket): &&(String, OwnedFd)| is_bound_at(socket, config.kind, &place);
        let named = match of_name().count() {
            0 => None,
            1 => of_name().next(),
            _ => of_name().find(there),
        };
        match named.or_else(|| self.0.iter().find(there)) {
            Some((_, socket)) => ListenSocket::adopt(config, &place, socket),
            None => ListenSocket::open_at(config, place, beside),
        }
    }

    /// The names of those that are none of these.
    pub fn unused<'a>(&'a self, sockets: &BTreeMap<String, Arc<ListenSocket>>) -> Vec<&'a str> {
        let used = |handed: &OwnedFd| sockets.values().any(|socket| socket.is_of(handed));
        let unused = self.0.iter().filter(|(_, handed)| !used(handed));
        unused.map(|(name, _)| name.as_str()).collect()
    }
}

/// Tells the service manager at regular times that the supervision thread is alive.
pub struct Watchdog {
    pause: Duration,
    /// When it is told next.
    pub due: Instant,
}

impl Watchdog {
    /// It waits this many microseconds at most.
    fn new(period: u64) -> Option<Watchdog> {
        let pause = Duration::from_micros(period / 2);
        (period > 1).then(|| Watchdog {
            pause,
            due: Instant::now(),
        })
    }

    /// True if it is time; then the next time is set.
    pub fn rings(&mut self) -> bool {
        let now = Instant::now();
        let rings = self.due <= now;
        if rings {
            self.due = now + self.pause;
        }
        rings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environ(pairs: &[(&str, String)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs.map(|(k, v)| (k.to_string(), v.clone())).collect()
    }

    #[test]
    fn what_was_meant_for_another_process_is_not_taken_and_not_passed_on() {
        let other = (std::process::id() + 1).to_string();
        let mut environ = environ(&[
            ("LISTEN_FDS", "2".into()),
            ("LISTEN_PID", other.clone()),
            ("LISTEN_FDNAMES", "a:b".into()),
            ("WATCHDOG_USEC", "1000".into()),
            ("WATCHDOG_PID", other),
            ("NOTIFY_SOCKET", "/x".into()),
            ("HOME", "/".into()),
        ]);
        let handed = Handed::take(&mut environ);
        assert!(handed.sockets.0.is_empty() && handed.watchdog.is_none());
        assert_eq!(handed.notify.as_deref(), Some("/x"));
        assert_eq!(Vec::from_iter(environ.keys()), ["HOME"]);
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_it_asks() {
        let own = std::process::id().to_string();
        let mut environ = environ(&[("WATCHDOG_USEC", "60000000".into()), ("WATCHDOG_PID", own)]);
        let mut watchdog = Handed::take(&mut environ).watchdog.unwrap();
        assert!(watchdog.rings());
        assert!(!watchdog.rings());
        let left = watchdog.due - Instant::now();
        assert!((25..=30).contains(&left.as_secs()), "{left:?}");
    }
}
