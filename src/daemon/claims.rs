//! Which addresses the daemon's endpoints and sockets want after a reload, and whether they can all be had. Decides with
//! nothing but names and addresses; `/proc` and the network are for others.

use super::sockets::{ListenSocket, Place, collide};
use super::succession::{Succession, Way};
use crate::config::{SocketConfig, SocketType};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who wants an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who<'a> {
    /// An endpoint: its key in `[circus]`.
    Endpoint(&'static str),
    /// A socket.
    Socket(&'a SocketConfig),
}

impl Who<'_> {
    /// As messages call it.
    pub fn name(&self) -> String {
        match self {
            Who::Endpoint(key) => format!("[circus] {key}"),
            Who::Socket(config) => format!("[socket:{}]", config.name),
        }
    }

    fn is_endpoint(&self) -> bool {
        matches!(self, Who::Endpoint(_))
    }
}

/// An address that somebody wants.
#[derive(Debug, Clone)]
pub(super) struct Claim<'a> {
    pub who: Who<'a>,
    pub place: Place,
    /// It has to be bound for that.
    pub new: bool,
}

/// What the sockets want. `places` tells where those go that are opened.
pub(super) fn of_sockets<'a>(
    plan: &Succession,
    sockets: &BTreeMap<String, Arc<ListenSocket>>,
    wanted: &'a [SocketConfig],
    places: &BTreeMap<String, Place>,
) -> Vec<Claim<'a>> {
    let claim = |config: &'a SocketConfig| {
        let there = |name: &String| sockets.get(name).map(|socket| socket.place().clone());
        let (place, new) = match plan.ways.get(&config.name)? {
            Way::Keep | Way::Adapt => (there(&config.name)?, false),
            Way::Inherit(from) => (there(from)?, false),
            Way::Open => (places.get(&config.name)?.clone(), true),
        };
        let who = Who::Socket(config);
        Some(Claim { who, place, new })
    };
    wanted.iter().filter_map(claim).collect()
}

/// Two who want the same address: the one that would have to be bound there, and the other. Unless this is about `all` of
/// them one is an endpoint and one a socket: binding tells of the others.
pub(super) fn conflict<'a, 'b>(
    claims: &'b [Claim<'a>],
    all: bool,
) -> Option<(&'b Claim<'a>, &'b Claim<'a>)> {
    let mut pairs = claims
        .iter()
        .enumerate()
        .flat_map(|(at, one)| claims[..at].iter().map(move |other| (other, one)));
    let (first, second) =
        pairs.find(|(one, other)| (all || mixed(one, other)) && exclude(one, other))?;
    Some(if second.new {
        (second, first)
    } else {
        (first, second)
    })
}

fn exclude(one: &Claim<'_>, other: &Claim<'_>) -> bool {
    let stream = |claim: &Claim<'_>| match claim.who {
        Who::Endpoint(_) => SocketType::Stream,
        Who::Socket(config) => config.kind,
    };
    let interface = |claim: &Claim<'_>| match claim.who {
        Who::Endpoint(_) => None,
        Who::Socket(config) => config.interface.clone(),
    };
    let shares =
        |claim: &Claim<'_>| matches!(claim.who, Who::Socket(config) if config.so_reuseport);
    let replaces =
        |claim: &Claim<'_>| matches!(claim.who, Who::Socket(config) if claim.new && config.replace);
    (one.new || other.new)
        && match (&one.place, &other.place) {
            (Place::Net(a), Place::Net(b)) => {
                collide(*a, *b)
                    && stream(one) == stream(other)
                    && interface(one) == interface(other)
                    && !(shares(one) && shares(other))
            }
            // what replaces a file does so with that of another section as well
            (Place::File(a), Place::File(b)) => {
                a == b && (has_endpoint(one, other) || !replaces(one) && !replaces(other))
            }
            _ => false,
        }
}

fn mixed(one: &Claim<'_>, other: &Claim<'_>) -> bool {
    one.who.is_endpoint() != other.who.is_endpoint()
}

fn has_endpoint(one: &Claim<'_>, other: &Claim<'_>) -> bool {
    one.who.is_endpoint() || other.who.is_endpoint()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &str) -> SocketConfig {
        SocketConfig::stream(name, "127.0.0.1", 80)
    }

    fn net(text: &str) -> Place {
        Place::Net(text.parse().unwrap())
    }

    fn endpoint(key: &'static str, place: Place, new: bool) -> Claim<'static> {
        let who = Who::Endpoint(key);
        Claim { who, place, new }
    }

    fn socket(config: &SocketConfig, place: Place, new: bool) -> Claim<'_> {
        let who = Who::Socket(config);
        Claim { who, place, new }
    }

    /// The names of those who cannot both have what they want.
    fn told(claims: &[Claim<'_>], all: bool) -> Option<(String, String)> {
        conflict(claims, all).map(|(one, other)| (one.who.name(), other.who.name()))
    }

    fn pair(one: &str, other: &str) -> Option<(String, String)> {
        Some((one.to_string(), other.to_string()))
    }

    #[test]
    fn who_has_to_be_bound_is_told_of() {
        let (web, other) = (section("web"), section("other"));
        let here = || net("127.0.0.1:80");
        let there = [
            endpoint("endpoint", here(), true),
            socket(&web, here(), false),
        ];
        let expected = pair("[circus] endpoint", "[socket:web]");
        assert_eq!(told(&there, false), expected);
        let there = [
            endpoint("endpoint", here(), false),
            socket(&web, here(), true),
        ];
        let expected = pair("[socket:web]", "[circus] endpoint");
        assert_eq!(told(&there, false), expected);
        // what is there already is there
        let there = [
            endpoint("endpoint", here(), false),
            socket(&web, here(), false),
        ];
        assert_eq!(told(&there, true), None);
        let sockets = [socket(&web, here(), false), socket(&other, here(), true)];
        assert_eq!(told(&sockets, false), None);
        assert_eq!(told(&sockets, true), pair("[socket:other]", "[socket:web]"));
    }

    #[test]
    fn who_can_share_is_not() {
        let here = || net("127.0.0.1:80");
        let beside = |change: fn(&mut SocketConfig), both: bool| {
            let (mut web, mut other) = (section("web"), section("other"));
            change(&mut web);
            if both {
                change(&mut other);
            }
            let claims = [socket(&web, here(), true), socket(&other, here(), true)];
            told(&claims, true).is_none()
        };
        assert!(!beside(|_| {}, true));
        assert!(beside(|socket| socket.so_reuseport = true, true));
        assert!(!beside(|socket| socket.so_reuseport = true, false));
        assert!(beside(|socket| socket.kind = SocketType::Datagram, false));
        assert!(!beside(|socket| socket.kind = SocketType::Datagram, true));
        assert!(beside(|socket| socket.interface = Some("lo".into()), false));
    }

    #[test]
    fn files_are_replaced_only_if_that_is_wished() {
        let file = || Place::File("/run/s".into());
        let plain = section("plain");
        let replacing = SocketConfig {
            replace: true,
            ..section("replacing")
        };
        let two = [
            socket(&plain, file(), false),
            socket(&replacing, file(), true),
        ];
        assert_eq!(told(&two, true), None);
        let two = [
            socket(&replacing, file(), false),
            socket(&plain, file(), true),
        ];
        assert_eq!(
            told(&two, true),
            pair("[socket:plain]", "[socket:replacing]")
        );
        // never the daemon's own
        let two = [
            endpoint("endpoint", file(), false),
            socket(&replacing, file(), true),
        ];
        assert_eq!(
            told(&two, false),
            pair("[socket:replacing]", "[circus] endpoint")
        );
    }
}
