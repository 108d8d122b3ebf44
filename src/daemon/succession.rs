//! Which socket of a changed configuration comes from which of those that are there. Decides only: [`super::rebind`] does it.

use super::sockets::{ListenSocket, Place};
use crate::config::SocketConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How a socket comes to be what its section says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// It is.
    Keep,
    /// It is changed in place.
    Adapt,
    /// It takes over the socket that this other section does not want any more: a section got another name, or two have
    /// swapped their addresses.
    Inherit(String),
    /// It is opened; what is in its way yields.
    Open,
}

/// What becomes of all sockets.
#[derive(Debug)]
pub(super) struct Succession {
    /// By name, those that are to be there.
    pub ways: BTreeMap<String, Way>,
    /// Those that nobody wants any more, by the names that they have had.
    pub leaving: BTreeSet<String>,
}

/// Works it out. `places` tells what the hosts of changed sections stand for.
pub(super) fn succession(
    sockets: &BTreeMap<String, Arc<ListenSocket>>,
    wanted: &[SocketConfig],
    places: &BTreeMap<String, Place>,
) -> Succession {
    let mut leaving: BTreeSet<String> = sockets.keys().cloned().collect();
    let mut ways = BTreeMap::new();
    for new in wanted {
        let own = sockets.get(&new.name);
        let way = match own {
            Some(own) if own.is_same(new) => Way::Keep,
            Some(own) if own.can_become(new, places.get(&new.name)) => Way::Adapt,
            _ => continue,
        };
        leaving.remove(&new.name);
        ways.insert(new.name.clone(), way);
    }
    for new in wanted {
        if ways.contains_key(&new.name) {
            continue;
        }
        let fits = |name: &&String| {
            sockets.get(*name).is_some_and(|old| {
                old.has_fixed_address() && old.can_become(new, places.get(&new.name))
            })
        };
        let heir = leaving.iter().find(fits).cloned();
        let way = match heir {
            Some(name) => {
                leaving.remove(&name);
                Way::Inherit(name)
            }
            None => Way::Open,
        };
        ways.insert(new.name.clone(), way);
    }
    Succession { ways, leaving }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &str, port: u16) -> SocketConfig {
        SocketConfig {
            raw: [("port".to_string(), port.to_string())].into(),
            ..SocketConfig::stream(name, "127.0.0.1", port)
        }
    }

    /// Sockets on ports that the system has chosen, as if the sections had named them.
    fn there(names: &[&str]) -> (BTreeMap<String, Arc<ListenSocket>>, Vec<u16>) {
        let mut sockets = BTreeMap::new();
        let mut ports = Vec::new();
        for name in names {
            let chosen = ListenSocket::open(&section(name, 0)).unwrap();
            let Place::Net(address) = *chosen.place() else {
                panic!("no port");
            };
            let named = chosen.succeeded_by(&section(name, address.port())).unwrap();
            sockets.insert((*name).to_string(), Arc::new(named));
            ports.push(address.port());
        }
        (sockets, ports)
    }

    fn ways(found: &Succession) -> Vec<(&str, Way)> {
        let all = found.ways.iter();
        all.map(|(name, way)| (name.as_str(), way.clone()))
            .collect()
    }

    #[test]
    fn a_section_that_is_renamed_keeps_its_socket_and_two_can_swap() {
        let (sockets, ports) = there(&["a", "b", "c"]);
        let new = [
            section("a", ports[1]),
            section("b", ports[0]),
            section("d", ports[2]),
        ];
        let found = succession(&sockets, &new, &BTreeMap::new());
        let from = |name: &str| Way::Inherit(name.to_string());
        let expected = [("a", from("b")), ("b", from("a")), ("d", from("c"))];
        assert_eq!(ways(&found), expected);
        assert!(found.leaving.is_empty());
    }

    #[test]
    fn who_stays_gives_nothing_away() {
        let (sockets, ports) = there(&["a", "b"]);
        let backlog = SocketConfig {
            backlog: 5,
            ..section("a", ports[0])
        };
        let new = [
            backlog,
            section("b", ports[1]),
            section("c", ports[0]),
            section("d", ports[1]),
        ];
        let found = succession(&sockets, &new, &BTreeMap::new());
        let expected = [
            ("a", Way::Adapt),
            ("b", Way::Keep),
            ("c", Way::Open),
            ("d", Way::Open),
        ];
        assert_eq!(ways(&found), expected);
    }

    #[test]
    fn a_port_of_the_systems_choice_is_not_handed_on_and_another_name_of_the_host_is_the_same() {
        let chosen = ListenSocket::open(&section("a", 0)).unwrap();
        let place = chosen.place().clone();
        let sockets = BTreeMap::from([("a".to_string(), Arc::new(chosen))]);
        let found = succession(&sockets, &[section("b", 0)], &BTreeMap::new());
        assert_eq!(ways(&found), [("b", Way::Open)]);
        assert_eq!(found.leaving, BTreeSet::from(["a".to_string()]));
        let Place::Net(address) = place else {
            panic!("no port");
        };
        let localhost = SocketConfig {
            host: "localhost".into(),
            ..section("a", address.port())
        };
        let places = BTreeMap::from([("a".to_string(), place)]);
        let found = succession(&sockets, &[localhost], &places);
        assert_eq!(ways(&found), [("a", Way::Adapt)]);
    }
}
