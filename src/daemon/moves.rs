//! What moves with the endpoints of a changed `[circus]` section: binding the new ones beside everything that is there, and
//! what else wants their addresses.

use super::binding::{self, Around, BindError, Bound, Held};
use super::claims::{Claim, Who};
use super::prepare::{of_socket, placed};
use super::sockets::{self, ListenSocket, Place, Yielding};
use crate::config::{CircusOptions, Config};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Endpoints that have been bound.
pub(super) struct Moved {
    pub control: Option<Bound>,
    pub events: Option<Bound>,
    pub stats: Option<Option<Bound>>,
}

/// Binds the endpoints that move. An error comes with its key.
pub(super) fn bind(
    moving: &[Moving<'_>],
    owner: Option<u32>,
    around: &Around<'_>,
    room: &mut Vec<Yielding>,
) -> Result<Moved, (&'static str, BindError)> {
    let mut bound: Vec<Bound> = Vec::new();
    for (key, _, text) in moving {
        let owner = owner.filter(|_| *key == CONTROL);
        let kept: Vec<&Bound> = bound.iter().collect();
        let other = text.map(|text| Bound::beside(key, text, owner, around, &kept, room));
        bound.extend(other.transpose().map_err(|error| (*key, error))?.flatten());
    }
    let ended = moving
        .iter()
        .any(|(key, _, text)| *key == STATS && text.is_none());
    let mut take = |role: &str| {
        let at = bound.iter().position(|bound| bound.role() == role)?;
        Some(bound.swap_remove(at))
    };
    Ok(Moved {
        control: take(CONTROL),
        events: take(EVENTS),
        stats: if ended {
            Some(None)
        } else {
            take(STATS).map(Some)
        },
    })
}

const CONTROL: &str = "endpoint";
const EVENTS: &str = "pubsub_endpoint";
const STATS: &str = "stats_endpoint";

/// The endpoints of a configuration, if they are there.
fn endpoints(circus: &CircusOptions) -> [(&'static str, Option<&str>); 3] {
    let stats = circus.statsd.then_some(circus.stats_endpoint.as_str());
    [
        (CONTROL, Some(circus.endpoint.as_str())),
        (EVENTS, Some(circus.pubsub_endpoint.as_str())),
        (STATS, stats),
    ]
}

/// An endpoint that changes: key, what is and what shall be, if it is there.
pub(super) type Moving<'a> = (&'static str, Option<&'a str>, Option<&'a str>);

pub(super) fn moving<'a>(old: &'a CircusOptions, new: &'a CircusOptions) -> Vec<Moving<'a>> {
    let all = endpoints(old).into_iter().zip(endpoints(new));
    all.map(|((key, old), (_, new))| (key, old, new))
        .filter(|(_, old, new)| old != new)
        .collect()
}

/// What the endpoints want. An error comes with its key.
pub(super) fn of_endpoints(
    moving: &[Moving<'_>],
    new: &CircusOptions,
    held: &[Held],
) -> Result<Vec<Claim<'static>>, (&'static str, BindError)> {
    let mut claims = Vec::new();
    for (key, text) in endpoints(new) {
        let Some(text) = text else { continue };
        let moves = moving.iter().any(|(moving, ..)| *moving == key);
        let there = held.iter().find(|held| held.role() == key && !moves);
        let place = match there.and_then(Held::address) {
            Some(address) => Place::Net(address),
            None => binding::place_of(key, text).map_err(|error| (key, error))?,
        };
        let who = Who::Endpoint(key);
        let new = moves;
        claims.push(Claim { who, place, new });
    }
    Ok(claims)
}

/// The sockets that nobody wants any more and that endpoints take the addresses of.
pub(super) fn given(claims: &[Claim<'_>], nobodys: &[Arc<ListenSocket>]) -> BTreeSet<String> {
    let taken = |socket: &&Arc<ListenSocket>| {
        let new = claims.iter().filter(|claim| claim.new);
        let mut endpoints = new.filter(|claim| matches!(claim.who, Who::Endpoint(_)));
        endpoints.any(|claim| socket.is_in_the_way_of(&claim.place))
    };
    let given = nobodys.iter().filter(taken);
    given.map(|socket| socket.name().to_string()).collect()
}

/// Whether an address could be bound.
pub(super) fn try_out(
    config: &Config,
    new: &CircusOptions,
    claim: &Claim<'_>,
    around: &Around<'_>,
) -> Result<(), String> {
    match claim.who {
        Who::Endpoint(key) => {
            let text = text_of(new, key);
            binding::try_out(key, text, &claim.place, around)
                .map_err(|error| placed(config, "circus", key, error))
        }
        Who::Socket(socket) => sockets::try_out(socket, &claim.place, around.leaves(&claim.place))
            .map_err(|error| of_socket(config, &socket.name, error)),
    }
}

pub(super) fn refused(
    config: &Config,
    new: &CircusOptions,
    claim: &Claim<'_>,
    why: &str,
) -> String {
    match claim.who {
        Who::Endpoint(key) => {
            let error = binding::error(key, text_of(new, key), why);
            placed(config, "circus", key, error)
        }
        Who::Socket(socket) => {
            let (name, place) = (&socket.name, &claim.place);
            let error = format!("cannot bind socket {name} to {place}: {why}");
            of_socket(config, name, error)
        }
    }
}

fn text_of<'a>(circus: &'a CircusOptions, key: &str) -> &'a str {
    let mut all = endpoints(circus).into_iter();
    all.find(|(role, _)| *role == key)
        .and_then(|(_, text)| text)
        .unwrap_or_default()
}
