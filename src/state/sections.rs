//! Desired × observed for the sections that are no watchers: `[circus]`, `[env]`, sockets and plugins. Pure.
//!
//! No command changes these in a daemon: it reads them from its file again. So what differs there is repaired by a
//! reload of just these sections, and only what the daemon tells can be found to differ: a socket's address and
//! backlog, the endpoints and the check delay of `[circus]`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::desired::{DesiredSection, SectionKind, Wanted};
use super::plan::FileEdit;
use super::secrets;
use super::values::show;
use crate::config::keys::{CIRCUS_KEYS, KeySpec, SOCKET_KEYS};
use crate::options::to_bool;

/// What is there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SectionSeen {
    /// The file's name for messages; none if no file is managed.
    pub path: Option<String>,
    /// The file's keys and texts; none if it has no such section.
    pub file: Option<BTreeMap<String, String>>,
    /// What the daemon tells.
    pub live: SectionLive,
}

/// What the daemon tells of a section.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum SectionLive {
    /// It was not asked, or does not tell.
    #[default]
    Unknown,
    /// It has none.
    Missing,
    /// These keys have these values.
    Told(Map<String, Value>),
}

/// What is to be done about one section, and how it will be told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SectionPlan {
    /// Edits of the file.
    pub edits: Vec<FileEdit>,
    /// The daemon is to read the section again.
    pub reload: bool,
    /// `key -> {"old", "new"}` over both sides.
    pub changes: Map<String, Value>,
    /// One short text a change, for the message.
    pub lines: Vec<String>,
    /// One line a change of the daemon, for the diff.
    pub daemon_lines: Vec<String>,
    /// What needs a new start of the daemon, and the like.
    pub warnings: Vec<String>,
}

impl SectionPlan {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && !self.reload
    }
}

/// Keys of `[circus]` that a running daemon does not take over.
const NEEDS_START: &[&str] = &[
    "endpoint",
    "pubsub_endpoint",
    "stats_endpoint",
    "multicast_endpoint",
    "pidfile",
    "umask",
];

/// Plans what is to be done. Fails if only the daemon is managed and it differs: nothing but a file can change a section.
pub fn plan(desired: &DesiredSection, seen: &SectionSeen) -> Result<SectionPlan, String> {
    let mut plan = SectionPlan::default();
    let section = desired.section();
    if seen.path.is_none() {
        return match is_so_in_the_daemon(desired, &seen.live) {
            true => Ok(plan),
            false => Err(format!(
                "[{section}] is not so in the daemon, and only a configuration file can change it: give --config (and \
                 no --no-persist)"
            )),
        };
    }
    if desired.present {
        plan_present(&mut plan, desired, seen);
    } else if seen.file.is_some() {
        plan.edits.push(FileEdit::RemoveSection);
        tell_presence(&mut plan, &section, "present", "absent");
    }
    if !desired.present && matches!(seen.live, SectionLive::Told(_)) {
        plan.reload = true;
        if plan.lines.is_empty() {
            tell_presence(&mut plan, &section, "present", "absent");
            place(&mut plan, " (from the daemon; the file did not have it)");
        }
        plan.daemon_lines.push("removed".to_string());
    }
    Ok(plan)
}

/// As far as the daemon tells, the section is as desired.
fn is_so_in_the_daemon(desired: &DesiredSection, live: &SectionLive) -> bool {
    match live {
        SectionLive::Unknown => false,
        SectionLive::Missing => !desired.present,
        SectionLive::Told(told) => {
            let same = |wanted: &Wanted| {
                let live = told.get(&wanted.key);
                live.is_none_or(|live| same_live(&wanted.key, live, &wanted.text))
            };
            desired.present && desired.options.iter().all(same)
        }
    }
}

fn plan_present(plan: &mut SectionPlan, desired: &DesiredSection, seen: &SectionSeen) {
    let section = desired.section();
    let empty = BTreeMap::new();
    let there = seen.file.as_ref();
    let current = there.unwrap_or(&empty);
    let mut changed: Vec<(&str, Value, Value)> = Vec::new();
    if there.is_none() {
        plan.edits
            .push(FileEdit::AddSection(desired.options.clone()));
    }
    for wanted in &desired.options {
        let old = effective(desired.kind, current, &wanted.key);
        if old.is_some_and(|old| same_text(old, &wanted.text)) && there.is_some() {
            continue;
        }
        if there.is_some() {
            plan.edits.push(FileEdit::Set {
                key: wanted.key.clone(),
                text: wanted.text.clone(),
            });
        }
        let old = old
            .filter(|_| there.is_some())
            .map_or(Value::Null, Value::from);
        changed.push((&wanted.key, old, Value::from(wanted.text.as_str())));
    }
    for key in desired
        .unset
        .iter()
        .filter(|key| current.contains_key(*key))
    {
        plan.edits.push(FileEdit::Unset { key: key.clone() });
        let new = default_of(desired.kind, key).map_or(Value::Null, Value::from);
        changed.push((key, Value::from(current[key].as_str()), new));
    }
    if there.is_none() {
        tell_presence(plan, &section, "absent", "present");
    }
    for (key, old, new) in &changed {
        tell_key(plan, desired, key, old, new, there.is_some());
        if desired.kind == SectionKind::Circus && NEEDS_START.contains(key) {
            plan.warnings.push(format!(
                "[circus] {key} takes effect when the daemon is started anew"
            ));
        }
    }
    match desired.kind {
        // Variables reach the daemon with each watcher that has them.
        SectionKind::Env => {}
        SectionKind::Circus | SectionKind::Socket | SectionKind::Plugin => {
            plan_live(plan, desired, seen);
        }
    }
}

/// What the daemon has otherwise than the file is going to have it.
fn plan_live(plan: &mut SectionPlan, desired: &DesiredSection, seen: &SectionSeen) {
    let section = desired.section();
    match &seen.live {
        SectionLive::Unknown => {
            let only_at_start = plan.changes.keys().all(|key| {
                desired.kind == SectionKind::Circus
                    && NEEDS_START.iter().any(|fixed| key.ends_with(fixed))
            });
            plan.reload = !plan.edits.is_empty() && !only_at_start;
        }
        SectionLive::Missing => {
            plan.reload = true;
            if plan.lines.is_empty() {
                tell_presence(plan, &section, "absent", "present");
                place(plan, " (to the daemon; the file had it)");
            }
            plan.daemon_lines.push("added".to_string());
        }
        SectionLive::Told(told) => {
            for wanted in &desired.options {
                let Some(live) = told.get(&wanted.key) else {
                    continue;
                };
                if same_live(&wanted.key, live, &wanted.text) {
                    continue;
                }
                let fixed = desired.kind == SectionKind::Circus
                    && NEEDS_START.contains(&wanted.key.as_str());
                if fixed {
                    let text = format!(
                        "[circus] {} is {} in the running daemon until it is started anew",
                        wanted.key,
                        show(Some(live))
                    );
                    let said = |w: &String| w.contains(&format!("[circus] {} takes", wanted.key));
                    if !plan.warnings.iter().any(said) {
                        plan.warnings.push(text);
                    }
                    continue;
                }
                plan.reload = true;
                let new = Value::from(wanted.text.as_str());
                plan.daemon_lines.push(format!(
                    "{} {} -> {}",
                    wanted.key,
                    show(Some(live)),
                    show(Some(&new))
                ));
                if !plan.changes.contains_key(&wanted.key) {
                    tell_key(plan, desired, &wanted.key, live, &new, true);
                    place(plan, " (in the daemon; the file was right)");
                }
            }
            // What the daemon does not tell follows the file.
            let fixed = |key: &String| {
                desired.kind == SectionKind::Circus && NEEDS_START.contains(&key.as_str())
            };
            plan.reload |= plan.edits.iter().any(|edit| match edit {
                FileEdit::Set { key, .. } | FileEdit::Unset { key } => !fixed(key),
                _ => true,
            });
        }
    }
}

fn tell_presence(plan: &mut SectionPlan, section: &str, old: &str, new: &str) {
    plan.changes
        .insert("section".into(), json!({"old": old, "new": new}));
    let verb = if new == "present" { "added" } else { "removed" };
    plan.lines.push(format!("[{section}] {verb}"));
}

fn tell_key(
    plan: &mut SectionPlan,
    desired: &DesiredSection,
    key: &str,
    old: &Value,
    new: &Value,
    line: bool,
) {
    let name = match desired.kind {
        SectionKind::Env => format!("env.{key}"),
        _ => key.to_string(),
    };
    plan.changes
        .insert(name.clone(), json!({"old": old, "new": new}));
    if line {
        let shown = secrets::masked_change(&name, &json!({"old": old, "new": new}));
        plan.lines.push(format!(
            "[{}] {key} {} -> {}",
            desired.section(),
            show(shown.get("old")),
            show(shown.get("new"))
        ));
    }
}

/// Says of the last line where it applies.
fn place(plan: &mut SectionPlan, text: &str) {
    if let Some(line) = plan.lines.last_mut() {
        line.push_str(text);
    }
}

fn table(kind: SectionKind) -> &'static [KeySpec] {
    match kind {
        SectionKind::Circus => CIRCUS_KEYS,
        SectionKind::Socket => SOCKET_KEYS,
        SectionKind::Env | SectionKind::Plugin => &[],
    }
}

fn default_of(kind: SectionKind, key: &str) -> Option<&'static str> {
    table(kind)
        .iter()
        .find(|spec| spec.name == key)
        .map(|spec| spec.default)
        .filter(|default| !default.is_empty())
}

fn effective<'a>(
    kind: SectionKind,
    stated: &'a BTreeMap<String, String>,
    key: &str,
) -> Option<&'a str> {
    match stated.get(key) {
        Some(text) => Some(text),
        None => default_of(kind, key),
    }
}

/// Two texts of a key mean the same: numbers and truth values by what they mean.
pub(super) fn same_text(a: &str, b: &str) -> bool {
    let (a, b) = (a.trim(), b.trim());
    if a == b {
        return true;
    }
    if let (Ok(a), Ok(b)) = (a.parse::<f64>(), b.parse::<f64>()) {
        return a == b;
    }
    // 0 and 1 are numbers first.
    let word = |text: &str| text.parse::<f64>().is_err();
    matches!((to_bool(a), to_bool(b)), (Ok(x), Ok(y)) if x == y && (word(a) || word(b)))
}

/// What the daemon tells means the wanted text.
fn same_live(key: &str, live: &Value, wanted: &str) -> bool {
    if wanted.contains("$(") || wanted.contains("((") || wanted.contains("${") {
        // Its variables are replaced in the daemon, in an environment that is not known here.
        return true;
    }
    match live {
        // Any free port was asked for.
        Value::Number(_) if key == "port" && wanted.trim() == "0" => true,
        Value::Number(number) => wanted.trim().parse::<f64>().ok() == number.as_f64(),
        Value::Bool(flag) => to_bool(wanted.trim()) == Ok(*flag),
        Value::String(text) => {
            // A name and the address that it stands for cannot be told apart without asking a name server.
            let address = |text: &str| text.parse::<std::net::IpAddr>().is_ok();
            text == wanted.trim() || key == "host" && address(text) != address(wanted.trim())
        }
        Value::Null => wanted.trim().is_empty(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(options: &[(&str, &str)]) -> DesiredSection {
        DesiredSection {
            kind: SectionKind::Socket,
            name: "web".into(),
            present: true,
            options: options
                .iter()
                .map(|(key, text)| Wanted {
                    key: key.to_string(),
                    text: text.to_string(),
                })
                .collect(),
            unset: Vec::new(),
        }
    }

    fn seen(file: Option<&[(&str, &str)]>, live: SectionLive) -> SectionSeen {
        SectionSeen {
            path: Some("circus.ini".into()),
            file: file.map(|pairs| {
                pairs
                    .iter()
                    .map(|(key, text)| (key.to_string(), text.to_string()))
                    .collect()
            }),
            live,
        }
    }

    fn told(value: Value) -> SectionLive {
        SectionLive::Told(value.as_object().cloned().unwrap_or_default())
    }

    #[test]
    fn a_socket_is_added_changed_and_left_alone() {
        let wanted = socket(&[("host", "127.0.0.1"), ("port", "8000")]);
        let added = plan(&wanted, &seen(None, SectionLive::Missing)).unwrap();
        assert!(added.reload);
        assert_eq!(added.lines, ["[socket:web] added"]);
        assert_eq!(added.changes["port"], json!({"old": null, "new": "8000"}));

        let right = [("host", "127.0.0.1"), ("port", "8000")];
        let live = told(json!({"host": "127.0.0.1", "port": 8000, "backlog": 2048}));
        assert!(
            plan(&wanted, &seen(Some(&right), live.clone()))
                .unwrap()
                .is_empty()
        );

        let other = [("host", "127.0.0.1"), ("port", "8001")];
        let changed = plan(&wanted, &seen(Some(&other), live)).unwrap();
        assert_eq!(changed.lines, ["[socket:web] port \"8001\" -> \"8000\""]);
        assert!(changed.reload && changed.edits.len() == 1);

        let drifted = told(json!({"host": "127.0.0.1", "port": 8002}));
        let repaired = plan(&wanted, &seen(Some(&right), drifted)).unwrap();
        assert!(repaired.edits.is_empty() && repaired.reload);
        assert_eq!(
            repaired.lines,
            ["[socket:web] port 8002 -> \"8000\" (in the daemon; the file was right)"]
        );
    }

    #[test]
    fn a_default_that_is_not_stated_is_right() {
        let wanted = socket(&[("backlog", "2048"), ("replace", "no")]);
        let live = told(json!({"backlog": 2048}));
        assert!(
            plan(&wanted, &seen(Some(&[("port", "1")]), live))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn what_needs_a_new_start_is_a_warning_and_no_drift() {
        let wanted = DesiredSection {
            kind: SectionKind::Circus,
            name: String::new(),
            ..socket(&[("endpoint", "tcp://127.0.0.1:1")])
        };
        let live = told(json!({"endpoint": "tcp://127.0.0.1:2"}));
        let right = [("endpoint", "tcp://127.0.0.1:1")];
        let again = plan(&wanted, &seen(Some(&right), live.clone())).unwrap();
        assert!(again.is_empty() && again.warnings.len() == 1, "{again:?}");
        let first = plan(&wanted, &seen(Some(&[]), live)).unwrap();
        assert!(!first.reload && first.edits.len() == 1 && first.warnings.len() == 1);
    }

    #[test]
    fn what_is_to_go_goes_from_both_sides() {
        let mut wanted = socket(&[]);
        wanted.present = false;
        let both = plan(&wanted, &seen(Some(&[("port", "1")]), told(json!({})))).unwrap();
        assert_eq!(both.edits, [FileEdit::RemoveSection]);
        assert!(both.reload);
        assert!(
            plan(&wanted, &seen(None, SectionLive::Missing))
                .unwrap()
                .is_empty()
        );
        let mut no_file = SectionSeen::default();
        assert!(plan(&wanted, &no_file).is_err());
        no_file.live = SectionLive::Missing;
        assert!(plan(&wanted, &no_file).unwrap().is_empty());
    }
}
