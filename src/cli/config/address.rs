//! Which section somebody means who writes `watcher:web`, `watcher.web` or just `web`. Pure.

use super::keys::{self, Known};
use crate::options;

/// A section as it exists, and the further name by which people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The section.
    pub section: String,
    /// What the key `name` of a watcher says.
    pub alias: Option<String>,
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// One section.
    Found(String),
    /// Several; the user has to say which.
    Ambiguous(Vec<String>),
    /// None; the one that it resembles.
    Missing(Option<String>),
}

/// Prefixes of the sections that have names.
const NAMED: [&str; 4] = ["watcher", "socket", "plugin", "env"];

/// `watcher.web` as it stands in a file, `watcher:web`; anything else as it is.
pub fn canonical(given: &str) -> String {
    match given.split_once('.') {
        Some((kind, name)) if NAMED.contains(&kind) && !name.is_empty() => format!("{kind}:{name}"),
        _ => given.to_owned(),
    }
}

/// Finds the section that is meant. Where a bare name leads to several, those remain that hold one of `keys`, or else
/// whose table knows one of them.
pub fn resolve(
    given: &str,
    keys: &[&str],
    sections: &[Candidate],
    holds: impl Fn(&str, &str) -> bool,
) -> Lookup {
    if sections.iter().any(|one| one.section == given) {
        return Lookup::Found(given.to_owned());
    }
    let wanted = canonical(given);
    if sections.iter().any(|one| one.section == wanted) {
        return Lookup::Found(wanted);
    }
    let lower = wanted.to_lowercase();
    let full = sections
        .iter()
        .filter(|one| one.section.to_lowercase() == lower)
        .map(|one| one.section.clone());
    let mut found: Vec<String> = full.collect();
    if found.is_empty() {
        found = sections
            .iter()
            .filter(|one| is_called(one, &lower))
            .map(|one| one.section.clone())
            .collect();
    }
    for fits in [
        &|section: &str, key: &str| holds(section, key),
        &|section: &str, key: &str| keys::known(section, key) == Known::Yes,
    ] as [&dyn Fn(&str, &str) -> bool; 2]
    {
        let fitting: Vec<String> = found
            .iter()
            .filter(|section| keys.iter().any(|key| fits(section, key)))
            .cloned()
            .collect();
        if found.len() > 1 && !fitting.is_empty() {
            found = fitting;
        }
    }
    match found.len() {
        0 => Lookup::Missing(nearest(&wanted, sections)),
        1 => Lookup::Found(found.remove(0)),
        _ => Lookup::Ambiguous(found),
    }
}

/// Is this the name after the colon, or the watcher's own, or `watcher:` with its own name?
fn is_called(one: &Candidate, lower: &str) -> bool {
    let own = one.section.split_once(':').map(|(_, name)| name);
    let alias = one.alias.as_deref();
    own.into_iter()
        .chain(alias)
        .any(|name| name.to_lowercase() == lower)
        || alias.is_some_and(|name| format!("watcher:{}", name.to_lowercase()) == lower)
}

fn nearest(wanted: &str, sections: &[Candidate]) -> Option<String> {
    let full = sections.iter().map(|one| one.section.as_str());
    if let Some(section) = options::nearest_of(wanted, full) {
        return Some(section.to_owned());
    }
    let bare = |section: &str| section.split_once(':').map(|(_, name)| name.to_owned());
    let names: Vec<(String, &str)> = sections
        .iter()
        .filter_map(|one| Some((bare(&one.section)?, one.section.as_str())))
        .collect();
    let name = options::nearest_of(wanted, names.iter().map(|(name, _)| name.as_str()))?;
    let (_, section) = names.iter().find(|(own, _)| own == name)?;
    Some((*section).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(given: &str, key: &str) -> Lookup {
        let sections: Vec<Candidate> = [
            ("circus", None),
            ("watcher:web", None),
            ("watcher:old", Some("New")),
            ("socket:web", None),
            ("socket:db", None),
            ("env:web", None),
            ("watcher:a.b", None),
        ]
        .into_iter()
        .map(|(section, alias)| Candidate {
            section: section.to_owned(),
            alias: alias.map(str::to_owned),
        })
        .collect();
        let holds = |section: &str, key: &str| section == "env:web" && key == "TOKEN";
        let keys: Vec<&str> = [key].into_iter().filter(|key| !key.is_empty()).collect();
        resolve(given, &keys, &sections, holds)
    }

    #[test]
    fn every_spelling_leads_to_the_section() {
        let found = |section: &str| Lookup::Found(section.to_owned());
        for (given, key, want) in [
            ("circus", "", found("circus")),
            ("watcher:web", "", found("watcher:web")),
            ("watcher.web", "", found("watcher:web")),
            ("Watcher:WEB", "", found("watcher:web")),
            ("db", "", found("socket:db")),
            ("new", "", found("watcher:old")),
            ("watcher:new", "", found("watcher:old")),
            ("watcher.a.b", "", found("watcher:a.b")),
            ("a.b", "", found("watcher:a.b")),
            ("web", "numprocesses", found("watcher:web")),
            ("web", "port", found("socket:web")),
            ("web", "TOKEN", found("env:web")),
            ("wob", "", Lookup::Missing(Some("watcher:web".to_owned()))),
            (
                "watcher:wen",
                "",
                Lookup::Missing(Some("watcher:web".to_owned())),
            ),
            ("qqqqqqqqqq", "", Lookup::Missing(None)),
        ] {
            assert_eq!(look(given, key), want, "{given} {key}");
        }
        assert!(matches!(look("web", ""), Lookup::Ambiguous(all) if all.len() == 3));
    }
}
