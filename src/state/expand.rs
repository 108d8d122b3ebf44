//! From a desired state to the list of resources that a run looks at: pruning, sockets that go with their watcher, and
//! watchers that a variable of `[env]` reaches. Pure but for the names of what is there, which come as arguments.

use std::collections::BTreeSet;

use super::desired::{Desired, DesiredSection, DesiredState, Running, SectionKind};
use super::files::Files;
use super::settings::Settings;
use crate::config::{Config, names_sockets, uses_socket};
use crate::options::{ListenFds, WatcherOptions};

/// All that a run looks at.
pub(super) struct Wishes {
    pub watchers: Vec<Desired>,
    pub sections: Vec<DesiredSection>,
}

/// Watchers that circusd runs for itself.
pub(super) fn is_internal(name: &str) -> bool {
    matches!(name, "circusd-stats" | "circushttpd") || name.starts_with("plugin:")
}

/// All resources of a run. `files` is the managed configuration; `names` are the daemon's watchers in lower case.
pub(super) fn wishes(
    state: &DesiredState,
    files: Option<&Files>,
    names: &BTreeSet<String>,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<Wishes, String> {
    let mut wishes = Wishes {
        watchers: Vec::new(),
        sections: state.sections.clone(),
    };
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for desired in &state.watchers {
        if !seen.insert(desired.name.to_lowercase()) {
            return Err(format!(
                "{}: the watcher {} is described twice (names do not distinguish case)",
                state.origin, desired.name
            ));
        }
        if is_protected(settings, &desired.name)
            && (!desired.present || desired.running == Running::No)
        {
            warnings.push(format!(
                "{} is left alone: this run is part of it",
                desired.name
            ));
            continue;
        }
        wishes.watchers.push(desired.clone());
    }
    let config = files.map(Files::config);
    if state.prune {
        prune(&mut wishes, config, names, settings, warnings);
    }
    if let Some(config) = config {
        take_sockets_along(&mut wishes, config, warnings);
        reach_by_env(&mut wishes, state, config, names);
    }
    Ok(wishes)
}

fn is_protected(settings: &Settings, name: &str) -> bool {
    settings
        .protect
        .iter()
        .any(|own| own.eq_ignore_ascii_case(name))
}

fn is_named(wishes: &Wishes, name: &str) -> bool {
    wishes
        .watchers
        .iter()
        .any(|wish| wish.name.to_lowercase() == name.to_lowercase())
}

/// Everything that is there and not named is to go.
fn prune(
    wishes: &mut Wishes,
    config: Option<&Config>,
    names: &BTreeSet<String>,
    settings: &Settings,
    warnings: &mut Vec<String>,
) {
    let in_file = config
        .into_iter()
        .flat_map(|config| config.watchers.iter().map(|watcher| watcher.name.clone()));
    let all: Vec<String> = in_file.chain(names.iter().cloned()).collect();
    for name in all {
        if is_named(wishes, &name) || is_internal(&name) {
            continue;
        }
        if is_protected(settings, &name) {
            let text = format!("{name} is not removed: this run is part of it");
            if !warnings.contains(&text) {
                warnings.push(text);
            }
            continue;
        }
        wishes.watchers.push(Desired {
            name,
            present: false,
            with_env: true,
            ..Desired::default()
        });
    }
    let Some(config) = config else { return };
    for section in config.sections() {
        let found = [
            (SectionKind::Socket, "socket:"),
            (SectionKind::Plugin, "plugin:"),
        ]
        .into_iter()
        .find_map(|(kind, prefix)| Some((kind, section.strip_prefix(prefix)?)));
        let Some((kind, name)) = found else { continue };
        let named = wishes
            .sections
            .iter()
            .any(|known| known.kind == kind && known.name.eq_ignore_ascii_case(name));
        if !named {
            wishes.sections.push(absent(kind, name));
        }
    }
}

fn absent(kind: SectionKind, name: &str) -> DesiredSection {
    DesiredSection {
        kind,
        name: name.to_string(),
        present: false,
        options: Vec::new(),
        unset: Vec::new(),
    }
}

/// A watcher of only one side that nobody asked for is not this run's business, but it is told.
pub(super) fn tell_unmanaged(
    wishes: &Wishes,
    files: Option<&Files>,
    names: &BTreeSet<String>,
    warnings: &mut Vec<String>,
) {
    let Some(config) = files.map(Files::config) else {
        return;
    };
    for name in names {
        if !is_internal(name) && config.watcher(name).is_none() && !is_named(wishes, name) {
            warnings.push(format!(
                "the watcher {name} exists in the daemon only; it is not part of this desired state"
            ));
        }
    }
}

/// With `--with-socket`, the sockets that nobody has any more when this watcher is gone go with it. One that stays for
/// another watcher is told.
fn take_sockets_along(wishes: &mut Wishes, config: &Config, warnings: &mut Vec<String>) {
    let going: Vec<String> = wishes
        .watchers
        .iter()
        .filter(|wish| !wish.present)
        .map(|wish| wish.name.to_lowercase())
        .collect();
    let is_going = |watcher: &WatcherOptions| going.contains(&watcher.name.to_lowercase());
    for wish in &wishes.watchers {
        if wish.present || !wish.with_socket {
            continue;
        }
        let Some((watcher, _)) = config.watcher(&wish.name) else {
            continue;
        };
        for socket in &config.sockets {
            let known = wishes.sections.iter().any(|section| {
                section.kind == SectionKind::Socket
                    && section.name.eq_ignore_ascii_case(&socket.name)
            });
            let named = uses_socket(watcher, &socket.name);
            if known || !named && !has_all_sockets(watcher) {
                continue;
            }
            let uses = |other: &&WatcherOptions| {
                uses_socket(other, &socket.name) || !named && has_all_sockets(other)
            };
            let mut staying = config.watchers.iter().filter(|other| !is_going(other));
            if let Some(other) = staying.find(uses) {
                warnings.push(format!(
                    "[socket:{}] stays: {} uses it as well",
                    socket.name, other.name
                ));
                continue;
            }
            let section = config
                .sections()
                .filter_map(|section| section.strip_prefix("socket:"))
                .find(|name| name.eq_ignore_ascii_case(&socket.name))
                .unwrap_or(&socket.name)
                .to_string();
            wishes.sections.push(absent(SectionKind::Socket, &section));
        }
    }
}

/// The watcher is handed all sockets and does not say which of them it uses.
fn has_all_sockets(watcher: &WatcherOptions) -> bool {
    watcher.use_sockets()
        && !names_sockets(watcher)
        && watcher.stdin_socket().is_empty()
        && watcher.listen_fds() == ListenFds::None
}

/// A variable of `[env]` is part of every watcher's environment: those that run get it too.
fn reach_by_env(
    wishes: &mut Wishes,
    state: &DesiredState,
    config: &Config,
    names: &BTreeSet<String>,
) {
    let variables: Vec<String> = state
        .sections
        .iter()
        .filter(|section| section.kind == SectionKind::Env && section.present)
        .flat_map(|section| {
            let set = section.options.iter().map(|wanted| wanted.key.clone());
            set.chain(section.unset.iter().cloned())
        })
        .collect();
    if variables.is_empty() {
        return;
    }
    for watcher in &config.watchers {
        let known = wishes
            .watchers
            .iter_mut()
            .find(|wish| wish.name.to_lowercase() == watcher.name.to_lowercase());
        match known {
            Some(wish) if wish.present => {
                wish.reached_by.extend(variables.iter().cloned());
            }
            Some(_) => {}
            None if names.contains(&watcher.name.to_lowercase()) => {
                wishes.watchers.push(Desired {
                    name: watcher.name.clone(),
                    present: true,
                    running: Running::Any,
                    reached_by: variables.clone(),
                    implicit: true,
                    ..Desired::default()
                });
            }
            None => {}
        }
    }
}
