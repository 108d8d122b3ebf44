//! What differs between the configuration the daemon has taken over and another one, and what is to be done about it.
//! Decides only: [`super::reload`] does it, or tells it (`check`).

use super::sockets::{ListenSocket, Place};
use super::succession::{Way, succession};
use crate::config::{CircusOptions, Config, uses_socket};
use crate::options::{Value, WatcherOptions, renews};
use crate::supervisor::{Command, Status, Supervisor, View};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What becomes of a section's watcher, socket or values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// It is new.
    Add,
    /// It goes.
    Remove,
    /// Other workers, or another socket, take its place.
    Replace,
    /// Its values change in place; no worker is replaced for them.
    Set,
    /// Nothing.
    None,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Action::Add => "add",
            Action::Remove => "remove",
            Action::Replace => "replace",
            Action::Set => "set",
            Action::None => "none",
        }
    }
}

/// What is to be done about one section.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub section: String,
    pub action: Action,
    /// The keys whose values differ.
    pub keys: Vec<String>,
    /// The socket sections that are the reason.
    pub because: Vec<String>,
}

/// Everything that is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub entries: Vec<Entry>,
    /// The watchers whose workers are replaced.
    pub reloaded: Vec<String>,
    /// `circus.KEY` for what the daemon goes on doing by the old value until it is started anew; there is no such key at
    /// present.
    pub restart_needed: Vec<String>,
    /// What else somebody should know.
    pub notes: Vec<String>,
    /// What the core is to do.
    pub commands: Vec<Command>,
}

impl Plan {
    /// What `check` answers.
    pub fn as_checked(&self) -> serde_json::Map<String, Value> {
        let entry = |entry: &Entry| {
            let mut told = json!({
                "section": entry.section, "action": entry.action.as_str(), "keys": entry.keys,
            });
            if let (false, Value::Object(told)) = (entry.because.is_empty(), &mut told) {
                told.insert("because".to_string(), json!(entry.because));
            }
            told
        };
        let entries: Vec<Value> = self.entries.iter().map(entry).collect();
        let mut told = serde_json::Map::from_iter([("plan".to_string(), Value::from(entries))]);
        self.tell(&mut told);
        told
    }

    /// What is answered when it is done.
    pub fn as_done(&self) -> serde_json::Map<String, Value> {
        let changed = self.entries.iter().filter(|e| e.action != Action::None);
        let changed: Vec<&str> = changed.map(|e| e.section.as_str()).collect();
        let mut told = serde_json::Map::from_iter([("changed".to_string(), json!(changed))]);
        self.tell(&mut told);
        told
    }

    fn tell(&self, told: &mut serde_json::Map<String, Value>) {
        told.insert("reloaded".to_string(), json!(self.reloaded));
        told.insert("restart_needed".to_string(), json!(self.restart_needed));
        if !self.notes.is_empty() {
            told.insert("notes".to_string(), json!(self.notes));
        }
    }
}

/// How far a configuration is taken over.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extent<'a> {
    /// All of it.
    Whole,
    /// These sections; what was changed by hand elsewhere stays.
    Only(&'a BTreeSet<String>),
    /// All of it, while nothing runs: what was changed by hand goes back to what the files say.
    Afresh,
}

impl Extent<'_> {
    fn names(&self, section: &str) -> bool {
        matches!(self, Extent::Only(sections) if sections.contains(section))
    }
}

/// The daemon as it is, and what it shall become.
pub(super) struct Situation<'a> {
    pub old: &'a Config,
    pub new: &'a Config,
    pub core: &'a Supervisor,
    pub sockets: &'a BTreeMap<String, Arc<ListenSocket>>,
    /// What the hosts of changed sockets stand for, by name.
    pub places: &'a BTreeMap<String, Place>,
    /// The options of `[circus]` that the command line has settled.
    pub settled: &'a [&'static str],
    /// The watchers, in lower case, that have not become what the old configuration says.
    pub untaken: &'a BTreeSet<String>,
    /// What watchers, in lower case, will become once they have done what they are at.
    pub replacing: &'a HashMap<String, (u64, WatcherOptions)>,
    pub extent: Extent<'a>,
}

impl Situation<'_> {
    /// Works out what is to be done.
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        self.circus(&mut plan);
        let moved = self.sockets(&mut plan);
        self.others(&mut plan);
        self.watchers(&mut plan, &moved);
        if matches!(self.extent, Extent::Only(_)) {
            let named = |entry: &Entry| self.extent.names(&entry.section);
            plan.entries
                .retain(|entry| entry.action != Action::None || named(entry));
        } else {
            plan.entries.retain(|entry| entry.action != Action::None);
        }
        plan
    }

    fn circus(&self, plan: &mut Plan) {
        let keys = self.raw_keys("circus");
        if !keys.is_empty() || self.extent.names("circus") {
            plan.entries.push(Entry {
                section: "circus".to_string(),
                action: if keys.is_empty() {
                    Action::None
                } else {
                    Action::Set
                },
                keys,
                because: Vec::new(),
            });
        }
        if self.old.circus.warmup_delay != self.new.circus.warmup_delay {
            let delay = self.new.circus.warmup_delay;
            plan.commands.push(Command::WarmupDelay(delay));
        }
        let (old, new) = (by_key(&self.old.circus), by_key(&self.new.circus));
        for ((key, old), (_, new)) in old.into_iter().zip(new) {
            if old != new && self.settled.contains(&key) {
                let option = match key {
                    "loglevel" => "log-level",
                    "logoutput" => "log-output",
                    "log_format" => "log-format",
                    "loggerconfig" => "logger-config",
                    key => key,
                };
                plan.notes.push(format!(
                    "circus.{key} has no effect: the daemon was started with --{option}"
                ));
            }
        }
    }

    /// Returns the names of the sockets that get another descriptor, or none, and their sections.
    fn sockets(&self, plan: &mut Plan) -> BTreeMap<String, String> {
        let mut moved = BTreeMap::new();
        let section = |name: &str| {
            let mut sections = self.new.sections().chain(self.old.sections());
            let found = sections.find(|section| {
                section
                    .strip_prefix("socket:")
                    .is_some_and(|rest| rest.to_lowercase() == name)
            });
            found.map_or_else(|| format!("socket:{name}"), String::from)
        };
        let next = succession(self.sockets, &self.new.sockets, self.places);
        let names: BTreeSet<&String> = self.sockets.keys().chain(next.ways.keys()).collect();
        for name in names {
            let section = section(name);
            let action = match next.ways.get(name) {
                Some(Way::Keep) => Action::None,
                Some(Way::Adapt) => Action::Set,
                Some(Way::Inherit(_) | Way::Open) if self.sockets.contains_key(name) => {
                    Action::Replace
                }
                Some(Way::Inherit(_) | Way::Open) => Action::Add,
                None => Action::Remove,
            };
            if !matches!(action, Action::None | Action::Set) {
                moved.insert(name.clone(), section.clone());
            }
            let keys = match action {
                Action::Replace | Action::Set => self.raw_keys(&section),
                _ => Vec::new(),
            };
            plan.entries.push(Entry {
                section,
                action,
                keys,
                because: Vec::new(),
            });
        }
        moved
    }

    /// Sections that only other sections draw on: `[env]`, `[env:…]`.
    fn others(&self, plan: &mut Plan) {
        let own = |section: &&str| *section == "env" || section.starts_with("env:");
        let old: BTreeSet<&str> = self.old.sections().filter(own).collect();
        let new: BTreeSet<&str> = self.new.sections().filter(own).collect();
        for section in old.union(&new) {
            let keys = self.raw_keys(section);
            let action = match (old.contains(section), new.contains(section)) {
                (false, _) => Action::Add,
                (_, false) => Action::Remove,
                _ if keys.is_empty() => Action::None,
                _ => Action::Set,
            };
            plan.entries.push(Entry {
                section: (*section).to_string(),
                action,
                keys: if action == Action::Set {
                    keys
                } else {
                    Vec::new()
                },
                because: Vec::new(),
            });
        }
    }

    fn watchers(&self, plan: &mut Plan, moved: &BTreeMap<String, String>) {
        let by_name = |config: &'_ Config| -> HashMap<String, (String, WatcherOptions)> {
            let all = config.services_by_section();
            all.map(|(section, options)| {
                let value = (section.to_string(), options.clone());
                (options.name.to_lowercase(), value)
            })
            .collect()
        };
        let (old, new) = (by_name(self.old), by_name(self.new));
        for view in self.core.watchers() {
            let name = &view.options().name;
            let key = name.to_lowercase();
            if new.contains_key(&key) {
                continue;
            }
            let before = old.get(&key);
            if before.is_none() && matches!(self.extent, Extent::Only(_)) {
                // added by hand, and nobody speaks of it; it may use what has moved
                self.renew(plan, &view, view.options(), moved, None);
                continue;
            }
            plan.entries.push(Entry {
                section: before.map_or_else(|| format!("watcher:{name}"), |(s, _)| s.clone()),
                action: Action::Remove,
                keys: Vec::new(),
                because: Vec::new(),
            });
            plan.commands.push(Command::Remove {
                name: name.clone(),
                nostop: false,
            });
        }
        for (section, options) in self.new.services_by_section() {
            let before = old.get(&options.name.to_lowercase()).map(|(_, o)| o);
            self.watcher(plan, section, options, before, moved);
        }
    }

    fn watcher(
        &self,
        plan: &mut Plan,
        section: &str,
        options: &WatcherOptions,
        before: Option<&WatcherOptions>,
        moved: &BTreeMap<String, String>,
    ) {
        let named = self.extent.names(section);
        let mut entry = Entry {
            section: section.to_string(),
            action: Action::None,
            keys: Vec::new(),
            because: Vec::new(),
        };
        let Some(view) = self.core.watcher(&options.name) else {
            // removed by hand: back only for somebody who speaks of it, or of everything
            if named || before.is_none() || !matches!(self.extent, Extent::Only(_)) {
                entry.action = Action::Add;
                plan.entries.push(entry);
                plan.commands.push(Command::Add {
                    options: Box::new(options.clone()),
                    start: options.autostart() && !matches!(self.extent, Extent::Afresh),
                });
            }
            return;
        };
        let pending = self.replacing.get(&options.name.to_lowercase());
        let running = pending.map_or(view.options(), |(_, options)| options);
        let untaken = self.untaken.contains(&options.name.to_lowercase());
        let next = match (self.extent, before) {
            (Extent::Afresh, _) => options.clone(),
            (Extent::Only(_), Some(before)) if !named => overlaid(running, before, options),
            (_, before) if named || untaken || before != Some(options) => {
                let mut next = options.clone();
                // a number of workers that was changed by hand stays until the file changes it
                let same = before.is_some_and(|b| b.numprocesses() == options.numprocesses());
                if same && !untaken {
                    let number = running.numprocesses();
                    if next.put("numprocesses", number.into()).is_err() {
                        next = options.clone();
                    }
                }
                next
            }
            _ => running.clone(),
        };
        entry.keys = running.differing(&next);
        if running.name != next.name {
            entry.keys.push("name".to_string());
        }
        let replaces = entry.keys.iter().any(|key| renews(key, running, &next));
        if !entry.keys.is_empty() {
            entry.action = if replaces {
                Action::Replace
            } else {
                Action::Set
            };
            let command = Command::Replace(Box::new(next.clone()));
            plan.commands.push(command);
        }
        if replaces && serves(&view) {
            plan.reloaded.push(next.name.clone());
            plan.entries.push(entry);
        } else if matches!(self.extent, Extent::Afresh) {
            plan.entries.push(entry);
        } else {
            self.renew(plan, &view, &next, moved, Some(entry));
        }
    }

    /// The workers of a watcher that has not changed are replaced if a socket they use has.
    fn renew(
        &self,
        plan: &mut Plan,
        view: &View<'_>,
        options: &WatcherOptions,
        moved: &BTreeMap<String, String>,
        entry: Option<Entry>,
    ) {
        let used = moved
            .iter()
            .filter(|(socket, _)| uses_socket(options, socket));
        let because: Vec<String> = used.map(|(_, section)| section.clone()).collect();
        let entry = entry.unwrap_or_else(|| Entry {
            section: format!("watcher:{}", options.name),
            action: Action::None,
            keys: Vec::new(),
            because: Vec::new(),
        });
        if because.is_empty() || !serves(view) {
            plan.entries.push(entry);
            return;
        }
        plan.reloaded.push(options.name.clone());
        plan.commands.push(Command::Renew(options.name.clone()));
        plan.entries.push(Entry {
            action: Action::Replace,
            because,
            ..entry
        });
    }

    /// The keys of a section whose texts differ.
    fn raw_keys(&self, section: &str) -> Vec<String> {
        let old: BTreeMap<String, String> = self.old.raw_items(section).into_iter().collect();
        let new: BTreeMap<String, String> = self.new.raw_items(section).into_iter().collect();
        let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        all.into_iter()
            .filter(|key| old.get(*key) != new.get(*key) && *key != crate::config::NAME_KEY)
            .cloned()
            .collect()
    }
}

/// Whether a watcher's workers shall run: then they may have to be replaced.
fn serves(view: &View<'_>) -> bool {
    matches!(view.status(), Status::Active | Status::Starting)
}

/// What runs, with those values of the file that have changed there.
fn overlaid(
    running: &WatcherOptions,
    before: &WatcherOptions,
    after: &WatcherOptions,
) -> WatcherOptions {
    let mut next = running.clone();
    for key in before.differing(after) {
        let value = after.get(&key).cloned().unwrap_or(Value::Null);
        if next.put(&key, value).is_err() {
            // the file's own values belong together
            return after.clone();
        }
    }
    next
}

/// The options of `[circus]` that the daemon goes by when it takes over `new`: those in `settled` stay.
pub(super) fn adopted(
    before: &CircusOptions,
    new: &CircusOptions,
    settled: &[&str],
) -> CircusOptions {
    let mut next = new.clone();
    let stays = |key: &str| settled.contains(&key);
    for (key, next, before) in [
        ("pidfile", &mut next.pidfile, &before.pidfile),
        ("loglevel", &mut next.loglevel, &before.loglevel),
        ("logoutput", &mut next.logoutput, &before.logoutput),
        ("log_format", &mut next.log_format, &before.log_format),
        ("loggerconfig", &mut next.loggerconfig, &before.loggerconfig),
    ] {
        if stays(key) {
            next.clone_from(before);
        }
    }
    next
}

fn by_key(circus: &CircusOptions) -> Vec<(&'static str, Value)> {
    // taken apart, so that a new option is not forgotten here
    let CircusOptions {
        check_delay,
        endpoint,
        endpoint_owner,
        pubsub_endpoint,
        multicast_endpoint,
        stats_endpoint,
        statsd,
        umask,
        warmup_delay,
        httpd,
        httpd_host,
        httpd_port,
        httpd_password_file,
        httpd_token_file,
        httpd_read_only,
        httpd_allow_hosts,
        debug,
        debug_gc,
        pidfile,
        loglevel,
        logoutput,
        log_format,
        loggerconfig,
        python,
        fqdn_prefix,
        // the agent inside the daemon hears of its own options by itself
        agent: _,
    } = circus;
    vec![
        ("check_delay", json!(check_delay)),
        ("endpoint", json!(endpoint)),
        ("endpoint_owner", json!(endpoint_owner)),
        ("pubsub_endpoint", json!(pubsub_endpoint)),
        ("multicast_endpoint", json!(multicast_endpoint)),
        ("stats_endpoint", json!(stats_endpoint)),
        ("statsd", json!(statsd)),
        ("umask", json!(umask)),
        ("warmup_delay", json!(warmup_delay)),
        ("httpd", json!(httpd)),
        ("httpd_host", json!(httpd_host)),
        ("httpd_port", json!(httpd_port)),
        ("httpd_password_file", json!(httpd_password_file)),
        ("httpd_token_file", json!(httpd_token_file)),
        ("httpd_read_only", json!(httpd_read_only)),
        ("httpd_allow_hosts", json!(httpd_allow_hosts)),
        ("debug", json!(debug)),
        ("debug_gc", json!(debug_gc)),
        ("pidfile", json!(pidfile)),
        ("loglevel", json!(loglevel)),
        ("logoutput", json!(logoutput)),
        ("log_format", json!(log_format)),
        ("loggerconfig", json!(loggerconfig)),
        ("python", json!(python)),
        ("fqdn_prefix", json!(fqdn_prefix)),
    ]
}
