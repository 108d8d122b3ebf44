//! The sockets of a changed configuration: new ones are bound before old ones go, and on any error everything is as before.

use super::handed::HandedSockets;
use super::prepare::of_socket;
use super::shell::Shell;
use super::sockets::{ListenSocket, Place};
use crate::config::{Config, SocketConfig, hands_over};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How a socket comes to be what its section says.
enum Way {
    /// Beside the old one, if there is one.
    Open,
    /// The old one is changed.
    Adapt,
    /// The old one holds the address: it is closed first.
    CloseAndOpen,
}

impl Shell {
    /// Opens, changes and lets go of sockets, so that they are those of `config`. Returns the sockets from before that have
    /// been replaced or are not wanted any more. `places` tells where they go, so that no name has to be looked up here.
    ///
    /// # Errors
    /// One cannot be had; then all are as they were.
    pub(super) fn rebind(
        &mut self,
        config: &Config,
        places: &BTreeMap<String, Place>,
    ) -> Result<Vec<Arc<ListenSocket>>, String> {
        let handed = std::mem::take(&mut self.handed);
        let result = self.rebind_with(config, places, &handed);
        self.handed = handed;
        result
    }

    fn rebind_with(
        &mut self,
        config: &Config,
        places: &BTreeMap<String, Place>,
        handed: &HandedSockets,
    ) -> Result<Vec<Arc<ListenSocket>>, String> {
        let open = |new: &SocketConfig| {
            let opened = match places.get(&new.name) {
                Some(place) => handed.open_at(new, place.clone()),
                None => handed.open(new),
            };
            opened.map_err(|error| of_socket(config, &new.name, error))
        };
        // a duplicate that is watched would keep an address in use
        self.demand.let_go();
        let wanted = self.sockets_to_change(config);
        let mut opened: Vec<ListenSocket> = Vec::new();
        let mut adapted: Vec<SocketConfig> = Vec::new();
        let mut closed: Vec<(SocketConfig, Place)> = Vec::new();
        for new in wanted {
            let result = match self.way_to(&new) {
                Ok(Way::Open) => open(&new),
                Ok(Way::Adapt) => {
                    adapted.push(new);
                    continue;
                }
                Ok(Way::CloseAndOpen) => {
                    let old = self.sockets.remove(&new.name);
                    closed.extend(old.map(|old| (old.config().clone(), old.place().clone())));
                    open(&new)
                }
                Err(reason) => Err(of_socket(config, &new.name, reason)),
            };
            match result {
                Ok(socket) => opened.push(socket),
                Err(reason) => {
                    drop(opened);
                    for (old, place) in closed {
                        match handed.open_at(&old, place) {
                            Ok(socket) => {
                                self.sockets.insert(old.name.clone(), Arc::new(socket));
                            }
                            Err(error) => tracing::error!("a socket was lost: {error}"),
                        }
                    }
                    return Err(reason);
                }
            }
        }
        for new in adapted {
            if let Some(socket) = self.sockets.get_mut(&new.name).and_then(Arc::get_mut)
                && let Err(error) = socket.change_into(new)
            {
                tracing::error!("{error}");
            }
        }
        let names: BTreeSet<&String> = config.sockets.iter().map(|s| &s.name).collect();
        let gone: Vec<String> = self
            .sockets
            .keys()
            .filter(|name| !names.contains(name))
            .cloned()
            .collect();
        let mut retired: Vec<Arc<ListenSocket>> = Vec::new();
        for name in gone {
            retired.extend(self.sockets.remove(&name));
        }
        for socket in opened {
            retired.extend(
                self.sockets
                    .insert(socket.name().to_string(), Arc::new(socket)),
            );
        }
        if let Some(feed) = &mut self.feed {
            feed.sockets_changed();
        }
        Ok(retired)
    }

    /// Says what [`Shell::rebind`] would refuse before it asks the kernel.
    ///
    /// # Errors
    /// A socket cannot be changed while it is in use.
    pub(super) fn check_rebinding(&self, config: &Config) -> Result<(), String> {
        let wanted = self.sockets_to_change(config);
        wanted.iter().try_for_each(|new| {
            let way = self.way_to(new).map(|_| ());
            way.map_err(|reason| of_socket(config, &new.name, reason))
        })
    }

    pub(super) fn sockets_to_change(&self, config: &Config) -> Vec<SocketConfig> {
        let unchanged = |new: &&SocketConfig| {
            let old = self.sockets.get(&new.name);
            !old.is_some_and(|old| old.is_same(new))
        };
        config.sockets.iter().filter(unchanged).cloned().collect()
    }

    fn way_to(&self, new: &SocketConfig) -> Result<Way, String> {
        let old = self.sockets.get(&new.name);
        let Some(old) = old.filter(|old| old.is_in_the_way_of(new)) else {
            return Ok(Way::Open);
        };
        if Arc::strong_count(old) > 1 {
            return Err(format!(
                "socket {} cannot be changed while a worker is being started with it; try again",
                new.name
            ));
        }
        if old.can_become(new) {
            return Ok(Way::Adapt);
        }
        // closed here it would still be open there, and could be neither replaced nor taken back
        if new.path.is_none() && self.is_held_by_workers(&new.name) {
            return Err(format!(
                "socket {} cannot be changed like this while workers have it open; `restart` without a name stops \
                 them, changes it and starts them",
                new.name
            ));
        }
        Ok(Way::CloseAndOpen)
    }

    fn is_held_by_workers(&self, socket: &str) -> bool {
        self.core.watchers().any(|watcher| {
            let options = watcher.options();
            let has = options.use_sockets()
                || options.stdin_socket().eq_ignore_ascii_case(socket)
                || hands_over(options, socket);
            has && !watcher.workers().is_empty()
        })
    }
}
