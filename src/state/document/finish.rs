//! From a draft to a desired state: defaults, variables for patterns, and the rules that hold between keys.

use std::collections::HashMap;

use super::draft::{Draft, Keys, PatternDraft, SectionDraft, State, WatcherDraft};
use super::shape::Shape;
use super::{DocumentError, DocumentProblem, Place};
use crate::config::{Variables, pattern, pytext};
use crate::options::to_bool;
use crate::state::desired::{
    Desired, DesiredSection, DesiredState, OnChange, Running, SectionKind, Wanted, check_name,
};

/// The state that a draft describes.
pub fn finish(mut draft: Draft, origin: String) -> Result<DesiredState, DocumentError> {
    let mut problems = Vec::new();
    draft.fill_defaults();
    // A circus.ini's header without a key describes nothing.
    draft
        .sections
        .retain(|section| section.strict || !section.keys.is_empty());
    check_names(&draft, &mut problems);
    let sections = draft
        .sections
        .iter()
        .map(|section| self::section(section, &mut problems))
        .collect();
    let watchers = draft
        .watchers
        .iter()
        .map(|watcher| self::watcher(watcher, &draft.patterns, &mut problems))
        .collect();
    DocumentError::check(problems)?;
    Ok(DesiredState {
        origin,
        watchers,
        sections,
        prune: draft.prune.is_some_and(|(prune, _)| prune),
        warnings: draft.warnings,
    })
}

fn problem(place: &Place, path: String, what: impl Into<String>) -> DocumentProblem {
    DocumentProblem {
        place: place.clone(),
        path,
        what: what.into(),
    }
}

fn check_names(draft: &Draft, problems: &mut Vec<DocumentProblem>) {
    let watchers = draft
        .watchers
        .iter()
        .map(|w| ("watcher", w.name(), &w.place));
    let sections = draft.sections.iter().filter_map(|s| match s.kind {
        SectionKind::Socket => Some(("socket", s.name.as_str(), &s.place)),
        SectionKind::Plugin => Some(("plugin", s.name.as_str(), &s.place)),
        SectionKind::Circus | SectionKind::Env => None,
    });
    let mut seen: HashMap<(&str, String), &Place> = HashMap::new();
    for (what, name, place) in watchers.chain(sections) {
        let path = || format!("{what}.{name}");
        let mut told = Vec::new();
        check_name(name, &mut told);
        problems.extend(told.into_iter().map(|told| problem(place, path(), told)));
        if let Some(first) = seen.insert((what, name.to_lowercase()), place) {
            let told = format!("names do not distinguish case, and {first} has this name already");
            problems.push(problem(place, path(), told));
        }
    }
}

fn section(draft: &SectionDraft, problems: &mut Vec<DocumentProblem>) -> DesiredSection {
    let present = draft.state != Some(State::Absent);
    if present {
        let states = |key: &str| {
            draft
                .keys
                .get(key)
                .is_some_and(|stated| stated.text.is_some())
        };
        match draft.kind {
            SectionKind::Socket if draft.strict => {
                let path = format!("socket.{}", draft.name);
                if !["host", "port", "path"].into_iter().any(states) {
                    let what = "a socket needs a path, or a host or a port";
                    problems.push(problem(&draft.place, path, what));
                } else if states("path") && (states("host") || states("port")) {
                    let what = "a socket has a path, or a host and a port, not both";
                    problems.push(problem(&draft.place, path, what));
                }
            }
            SectionKind::Plugin if !states("use") => {
                let what = "a plugin needs `use`, the name of its class";
                problems.push(problem(
                    &draft.place,
                    format!("plugin.{}", draft.name),
                    what,
                ));
            }
            _ => {}
        }
    }
    let (options, unset) = match present {
        true => split(&draft.keys),
        false => (Vec::new(), Vec::new()),
    };
    DesiredSection {
        kind: draft.kind,
        name: draft.name.clone(),
        present,
        options,
        unset,
    }
}

fn watcher(
    draft: &WatcherDraft,
    patterns: &[PatternDraft],
    problems: &mut Vec<DocumentProblem>,
) -> Desired {
    let name = draft.name().to_string();
    let path = format!("watcher.{name}");
    let mut keys = draft.options.clone();
    keys.shift_remove("name");
    rules(&keys, draft, &path, problems);
    let truth = |key: &str| {
        let text = keys.get(key)?.text.as_deref()?;
        to_bool(text).ok()
    };
    let state = draft.state.unwrap_or(match truth("autostart") {
        Some(false) => State::Present,
        _ => State::Running,
    });
    if state == State::Absent {
        return Desired {
            name,
            present: false,
            running: Running::Any,
            with_env: draft.with_env.is_some(),
            with_socket: draft.with_socket.is_some(),
            ..Desired::default()
        };
    }
    for (key, place) in [
        ("with_env", &draft.with_env),
        ("with_socket", &draft.with_socket),
    ] {
        if let Some(place) = place {
            let what = "this says what goes with a watcher; it needs state = \"absent\"";
            problems.push(problem(place, format!("{path}.{key}"), what));
        }
    }
    let (mut options, unset) = split(&keys);
    options.sort_by_key(|wanted| match wanted.key.as_str() {
        "cmd" => 0,
        "args" => 1,
        _ => 2,
    });
    Desired {
        env: environment(draft, &name, patterns),
        name,
        present: true,
        options,
        unset,
        running: match state {
            State::Running => Running::Yes,
            State::Stopped => Running::No,
            State::Present | State::Absent => Running::Any,
        },
        on_change: draft.on_change.unwrap_or(OnChange::Auto),
        ..Desired::default()
    }
}

/// What must hold between the keys of a watcher, as far as it can be told without the configuration they go into.
fn rules(keys: &Keys, draft: &WatcherDraft, path: &str, problems: &mut Vec<DocumentProblem>) {
    let stated = |key: &str| {
        let stated = keys.get(key)?;
        Some((stated.text.as_deref()?, &stated.place))
    };
    // What DEFAULT says has not been looked at yet.
    for (key, stated) in keys {
        if let (Some(shape), Some(text)) = (Shape::of_option(key), &stated.text)
            && shape != Shape::Filled
            && !(shape == Shape::Account && text.is_empty())
            && let Err(what) = shape.check(text)
        {
            problems.push(problem(&stated.place, format!("{path}.{key}"), what));
        }
    }
    if draft.state != Some(State::Absent)
        && let Some((text, place)) = stated("cmd")
        && pytext::strip(text).is_empty()
    {
        let what = "it is empty: a command to run is expected";
        problems.push(problem(place, format!("{path}.cmd"), what));
    }
    let singleton = stated("singleton").and_then(|(text, _)| to_bool(text).ok());
    if singleton == Some(true)
        && let Some((text, place)) = stated("numprocesses")
        && !Variables::may_be_in(text)
        && pytext::int(text).is_some_and(|number| number > 1)
    {
        let what = format!("{text} workers are wanted of a singleton, which has one at most");
        problems.push(problem(place, format!("{path}.numprocesses"), what));
    }
}

/// The variables of the patterns that the name matches, in their order, then the watcher's own.
fn environment(
    draft: &WatcherDraft,
    name: &str,
    patterns: &[PatternDraft],
) -> Vec<(String, Option<String>)> {
    let mut env: Vec<(String, Option<String>)> = Vec::new();
    let mut lay = |values: &Keys| {
        for (key, stated) in values {
            match env.iter_mut().find(|(known, _)| known == key) {
                Some((_, value)) => *value = stated.text.clone(),
                None => env.push((key.clone(), stated.text.clone())),
            }
        }
    };
    for draft in patterns {
        for wanted in draft.patterns.split(',').map(pytext::strip) {
            if pattern::matches(wanted, name) {
                lay(&draft.values);
            }
        }
    }
    lay(&draft.env);
    env
}

fn split(keys: &Keys) -> (Vec<Wanted>, Vec<String>) {
    let mut options = Vec::new();
    let mut unset = Vec::new();
    for (key, stated) in keys {
        match &stated.text {
            Some(text) => options.push(Wanted {
                key: key.clone(),
                text: text.clone(),
            }),
            None => unset.push(key.clone()),
        }
    }
    (options, unset)
}
