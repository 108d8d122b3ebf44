//! The sockets of a changed configuration: new ones are bound before old ones go, and on any error everything is as before.

use super::binding::Held;
use super::prepare::of_socket;
use super::shell::Shell;
use super::sockets::{ListenSocket, Place, SocketError, Yielding, place_of};
use super::succession::{Way, succession};
use crate::config::{Config, SocketConfig};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Shell {
    /// Opens, changes, hands on and lets go of sockets, so that they are those of `config`. Returns the sockets from before
    /// that nobody has taken over. `places` tells where new ones go, so that no name has to be looked up here; `left` are the
    /// endpoints of the daemon that are about to go.
    ///
    /// # Errors
    /// One cannot be had; then all are as they were.
    pub(super) fn rebind(
        &mut self,
        config: &Config,
        places: &BTreeMap<String, Place>,
        left: &[Held],
    ) -> Result<Vec<Arc<ListenSocket>>, String> {
        let plan = succession(&self.sockets, &config.sockets, places);
        let mut room: Vec<Yielding> = Vec::new();
        let mut next: BTreeMap<String, Arc<ListenSocket>> = BTreeMap::new();
        // what may fail comes before what changes a socket that is in use
        let (opened, others): (Vec<_>, Vec<_>) = config
            .sockets
            .iter()
            .filter_map(|new| Some((new, plan.ways.get(&new.name)?)))
            .partition(|(_, way)| **way == Way::Open);
        let leaving = || {
            let names = plan.leaving.iter();
            names.filter_map(|name| self.sockets.get(name))
        };
        for (new, _) in opened {
            let opened = self.open(new, places.get(&new.name), leaving(), left, &mut room);
            let socket = opened.map_err(|error| of_socket(config, &new.name, error))?;
            next.insert(new.name.clone(), Arc::new(socket));
        }
        for (new, way) in others {
            let from = match way {
                Way::Inherit(name) => name,
                Way::Keep | Way::Adapt | Way::Open => &new.name,
            };
            let Some(old) = self.sockets.get(from) else {
                continue;
            };
            let socket = match way {
                Way::Keep => old.clone(),
                _ => {
                    let changed = old.succeeded_by(new);
                    Arc::new(changed.map_err(|error| of_socket(config, &new.name, error))?)
                }
            };
            next.insert(new.name.clone(), socket);
        }
        room.into_iter().for_each(Yielding::for_good);
        let retired = leaving().cloned().collect();
        // what is watched from now on is under other names
        self.demand.let_go();
        self.sockets = next;
        self.socket_reads.changed();
        Ok(retired)
    }

    /// Opens a socket; those that leave make room for it.
    fn open<'a>(
        &self,
        new: &SocketConfig,
        place: Option<&Place>,
        leaving: impl Iterator<Item = &'a Arc<ListenSocket>>,
        left: &[Held],
        room: &mut Vec<Yielding>,
    ) -> Result<ListenSocket, SocketError> {
        let place = match place {
            Some(place) => place.clone(),
            None => place_of(new)?,
        };
        let before = room.len();
        for old in leaving {
            let yielding = Yielding::of(old, &place);
            room.extend(yielding.map_err(|error| {
                SocketError::in_the_way(new, &format!("the socket {}", old.name()), &error)
            })?);
        }
        for endpoint in left {
            let role = endpoint.role();
            let yielding = endpoint.yields(&place);
            room.extend(yielding.map_err(|error| SocketError::in_the_way(new, role, &error))?);
        }
        self.handed.open_at(new, place, room.len() > before)
    }

    /// The sockets that are new or changed.
    pub(super) fn sockets_to_change(&self, config: &Config) -> Vec<SocketConfig> {
        let unchanged = |new: &&SocketConfig| {
            let old = self.sockets.get(&new.name);
            !old.is_some_and(|old| old.is_same(new))
        };
        config.sockets.iter().filter(unchanged).cloned().collect()
    }
}
