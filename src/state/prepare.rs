//! Before anything is changed: both sides are read, the targets are worked out and known to be valid, and the plan is
//! made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::{Map, Value};

use super::desired::{Desired, DesiredSection, DesiredState, SectionKind};
use super::files::{Edited, Files, Home, Reading};
use super::live::{Live, LiveError};
use super::observed::{DaemonSide, Observed};
use super::plan::{self, DaemonAction, FileEdit, Plan};
use super::report::Standing;
use super::sections::{self, SectionLive, SectionPlan, SectionSeen};
use super::settings::Settings;
use super::targets::{self, align};
use super::{expand, store};
use crate::options::WatcherOptions;
use crate::wire::Endpoint;
use crate::wire::endpoint::DEFAULT_CONTROL;

/// One watcher of a run.
pub(super) struct WatcherRun {
    pub desired: Desired,
    pub target: WatcherOptions,
    pub seen: Observed,
    pub plan: Plan,
}

/// One other section of a run.
pub(super) struct SectionRun {
    pub desired: DesiredSection,
    pub seen: SectionSeen,
    pub plan: SectionPlan,
}

/// A run that has looked at everything and knows what to do.
pub(super) struct Prepared {
    pub sections: Vec<SectionRun>,
    pub watchers: Vec<WatcherRun>,
    pub edited: Vec<Edited>,
    pub files: Option<Files>,
    /// The files are edited, not only read.
    pub persisted: bool,
    pub live: Option<Live>,
    /// No daemon listens, and one is to be started.
    pub starts_daemon: bool,
    /// circ's daemon, on the managed file: it takes over single sections of it.
    pub rereads: bool,
    pub deadline: Instant,
    _locks: store::Locks,
}

impl Prepared {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.starts_daemon
            && self.watchers.iter().all(|run| run.plan.is_empty())
            && self.sections.iter().all(|run| run.plan.is_empty())
    }
}

/// Why a run cannot begin: the resource that is to blame, if one is, and the reason.
#[derive(Debug)]
pub(super) struct Refusal {
    pub name: Option<String>,
    pub reason: String,
    /// What it says of the desired state.
    pub standing: Standing,
}

impl Refusal {
    pub fn of(name: &str, reason: impl ToString) -> Refusal {
        Refusal {
            name: Some(name.to_string()),
            reason: reason.to_string(),
            standing: Standing::Refused,
        }
    }

    /// The state is not to blame: there is no daemon, or somebody else has the lock.
    fn for_now(reason: impl ToString) -> Refusal {
        Refusal {
            name: None,
            reason: reason.to_string(),
            standing: Standing::Untried,
        }
    }
}

impl<E: std::fmt::Display> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        Refusal {
            name: None,
            reason: error.to_string(),
            standing: Standing::Refused,
        }
    }
}

/// Reads both sides and plans. Nothing is changed; what is wrong with the request is found here.
pub(super) fn prepare(
    state: &DesiredState,
    settings: &Settings,
    deadline: Instant,
    whole: bool,
    warnings: &mut Vec<String>,
) -> Result<Prepared, Refusal> {
    if !settings.live && settings.config.is_none() {
        return Err(
            "neither a file nor a daemon to work on: give --config, or leave out --no-live".into(),
        );
    }
    if !settings.live && !settings.persist {
        return Err("--no-live and --no-persist together leave nothing to do".into());
    }
    if settings.start_daemon && settings.config.is_none() {
        return Err(
            "--start-daemon needs the configuration file to start it on: give --config".into(),
        );
    }
    let mut locks = store::Locks::of(&settings.interrupt);
    if let Some(path) = &settings.config
        && !settings.check
        && settings.persist
    {
        let path = settings.cwd.join(path);
        locks.file(&path, deadline).map_err(Refusal::for_now)?;
    }
    let files = settings
        .config
        .as_ref()
        .map(|path| Files::load(path, settings.environ.clone(), settings.cwd.clone()))
        .transpose()?;
    let persisted = files.is_some() && settings.persist;
    if let Some(files) = files.as_ref().filter(|_| persisted && !settings.check) {
        // What they include may lie elsewhere. A file that changed since it was read is found when it is written.
        for path in files.paths() {
            locks.file(path, deadline).map_err(Refusal::for_now)?;
        }
    }
    if files.is_none() {
        warnings.push(
            "no --config: only the running daemon is managed, and it will not remember this after a restart"
                .to_string(),
        );
    }
    let mut live = None;
    let mut starts_daemon = false;
    if settings.live {
        let endpoint = endpoint(settings, files.as_ref())?;
        if !settings.check {
            let endpoint = endpoint.to_string();
            locks
                .endpoint(&endpoint, deadline)
                .map_err(Refusal::for_now)?;
        }
        match Live::connect(&endpoint, deadline, &settings.interrupt) {
            Ok(connection) => live = Some(connection),
            Err(error) if settings.start_daemon && error.nobody_listens() => starts_daemon = true,
            Err(error) if persisted => {
                let start = match error.nobody_listens() {
                    true => "; to start a daemon on it, --start-daemon",
                    false => "",
                };
                let mut why = error.to_string();
                // some say with a question what to look at
                why.push_str(if why.ends_with('?') { " To" } else { "; to" });
                let why = format!("{why} change the file alone, give --no-live{start}");
                return Err(Refusal::for_now(why));
            }
            Err(error) => return Err(Refusal::for_now(error)),
        }
    }
    let mut prepared = Prepared {
        sections: Vec::new(),
        watchers: Vec::new(),
        edited: Vec::new(),
        files,
        persisted,
        live,
        starts_daemon,
        rereads: false,
        deadline,
        _locks: locks,
    };
    fill(&mut prepared, state, settings, whole, warnings)?;
    Ok(prepared)
}

/// `--endpoint`, else the configuration's, else the environment's, else the default.
pub(super) fn endpoint(settings: &Settings, files: Option<&Files>) -> Result<Endpoint, String> {
    let text = settings
        .endpoint
        .as_deref()
        .or(files.map(Files::endpoint))
        .or(settings.fallback_endpoint.as_deref())
        .unwrap_or(DEFAULT_CONTROL);
    text.parse::<Endpoint>().map_err(|error| error.to_string())
}

/// Observes, works the targets out, and plans.
fn fill(
    prepared: &mut Prepared,
    state: &DesiredState,
    settings: &Settings,
    whole: bool,
    warnings: &mut Vec<String>,
) -> Result<(), Refusal> {
    let names = match prepared.live.as_mut() {
        Some(live) => live.names()?,
        None => BTreeSet::new(),
    };
    let files = prepared.files.as_ref();
    let persisted = files.filter(|_| prepared.persisted);
    let wishes = expand::wishes(state, persisted, &names, settings, warnings)?;
    if whole {
        expand::tell_unmanaged(&wishes, persisted, &names, warnings);
    }
    let now = files.map(Files::now);
    let mut observed: Vec<Observed> = Vec::new();
    for desired in &wishes.watchers {
        let mut seen = Observed {
            file: persisted
                .zip(now.as_ref())
                .map(|(files, now)| files.side(now, &desired.name)),
            daemon: None,
        };
        if let Some(live) = prepared.live.as_mut() {
            live.ask_for(&plan::managed(desired, &seen));
            let known = names.contains(&desired.name.to_lowercase());
            seen.daemon = Some(
                live.observe_at_rest(&desired.name, known)
                    .map_err(|error| Refusal::of(&desired.name, error))?,
            );
        } else if prepared.starts_daemon {
            seen.daemon = Some(DaemonSide {
                endpoint: String::new(),
                watcher: None,
                rereads: false,
            });
        }
        observed.push(seen);
    }

    let mut sections = Vec::new();
    let live_sections = live_sections(prepared.live.as_mut(), &wishes.sections)?;
    for (desired, live) in wishes.sections.into_iter().zip(live_sections) {
        let section = desired.section();
        let seen = SectionSeen {
            path: persisted.map(|files| files.shown().display().to_string()),
            file: persisted.and_then(|files| files.section(&section)),
            live,
        };
        let plan = sections::plan(&desired, &seen).map_err(|e| Refusal::of(&section, e))?;
        sections.push(SectionRun {
            desired,
            seen,
            plan,
        });
    }
    prepared.sections = sections;

    let targets = targets::of(
        &wishes.watchers,
        &prepared.sections,
        persisted,
        now.as_ref(),
        &mut observed,
    )?;
    let mut watchers = Vec::new();
    for ((desired, mut seen), target) in wishes.watchers.into_iter().zip(observed).zip(targets) {
        align(&mut seen, &desired, &target);
        let plan = planned(&desired, &target, &seen)?;
        watchers.push(WatcherRun {
            desired,
            target,
            seen,
            plan,
        });
    }
    prepared.watchers = watchers;
    find_out_how_to_reload(prepared)?;
    let edits = prepared.edits();
    let edited = match prepared.files.as_ref().filter(|_| prepared.persisted) {
        Some(files) => {
            let edits: Vec<(Home<'_>, &[FileEdit])> = edits
                .iter()
                .map(|(home, edits)| (home.as_home(), edits.as_slice()))
                .collect();
            let edited = files.edited(&edits)?;
            // What is written must be a configuration, and hold what is wanted.
            if !edited.is_empty() {
                let after = files.after(&edited)?;
                for run in &prepared.watchers {
                    targets::check_outcome(run, &after)
                        .map_err(|e| Refusal::of(&run.desired.name, e))?;
                }
                check_sections(&prepared.sections, &after)?;
                for (home, edits) in &edits {
                    warnings.extend(shadowed(files, *home, edits));
                    warnings.extend(files.left_empty(*home, edits, &edited));
                }
            }
            edited
        }
        None => Vec::new(),
    };
    prepared.edited = edited;
    Ok(())
}

pub(super) fn planned(
    desired: &Desired,
    target: &WatcherOptions,
    seen: &Observed,
) -> Result<Plan, Refusal> {
    plan::plan(desired, target, seen).map_err(|reason| Refusal::of(&desired.name, reason))
}

/// What some edits are about, by value.
enum OwnHome {
    Watcher(String),
    Section(String),
}

impl OwnHome {
    fn as_home(&self) -> Home<'_> {
        match self {
            OwnHome::Watcher(name) => Home::Watcher(name),
            OwnHome::Section(section) => Home::Section(section),
        }
    }
}

impl Prepared {
    fn edits(&self) -> Vec<(OwnHome, Vec<FileEdit>)> {
        let sections = self.sections.iter().map(|run| {
            let home = OwnHome::Section(run.desired.section());
            (home, run.plan.edits.clone())
        });
        let watchers = self.watchers.iter().map(|run| {
            let home = OwnHome::Watcher(run.desired.name.clone());
            (home, run.plan.edits.clone())
        });
        sections.chain(watchers).collect()
    }
}

fn shadowed(files: &Files, home: Home<'_>, edits: &[FileEdit]) -> Vec<String> {
    edits
        .iter()
        .filter_map(|edit| match edit {
            FileEdit::Set { key, .. } => Some(key),
            _ => None,
        })
        .flat_map(|key| files.shadowed(home, key))
        .collect()
}

/// What the daemon tells of each section.
pub(super) fn live_sections(
    live: Option<&mut Live>,
    wanted: &[DesiredSection],
) -> Result<Vec<SectionLive>, LiveError> {
    let Some(live) = live else {
        return Ok(vec![SectionLive::Unknown; wanted.len()]);
    };
    let asks = |kind: SectionKind| wanted.iter().any(|section| section.kind == kind);
    let sockets = match asks(SectionKind::Socket) {
        true => live.sockets()?,
        false => BTreeMap::new(),
    };
    let circus: Map<String, Value> = match asks(SectionKind::Circus) {
        true => live.global_options()?,
        false => Map::new(),
    };
    let names = match asks(SectionKind::Plugin) {
        true => live.names()?,
        false => BTreeSet::new(),
    };
    Ok(wanted
        .iter()
        .map(|section| match section.kind {
            SectionKind::Socket => match sockets.get(&section.name.to_lowercase()) {
                Some(told) => SectionLive::Told(told.clone()),
                None => SectionLive::Missing,
            },
            SectionKind::Circus => SectionLive::Told(circus.clone()),
            // Its settings follow the file.
            SectionKind::Plugin if names.contains(&section.section().to_lowercase()) => {
                SectionLive::Told(Map::new())
            }
            SectionKind::Plugin => SectionLive::Missing,
            SectionKind::Env => SectionLive::Unknown,
        })
        .collect())
}

/// Sections, and options that `set` cannot change, come into the daemon by reading the file again. Whether this daemon
/// can do that for single sections, and of this very file, is asked only when it matters.
fn find_out_how_to_reload(prepared: &mut Prepared) -> Result<(), Refusal> {
    let replaces = |run: &WatcherRun| {
        let replace = |action: &DaemonAction| matches!(action, DaemonAction::Replace { .. });
        run.plan.commands.iter().any(replace)
    };
    let reloads = prepared.sections.iter().any(|run| run.plan.reload);
    let (Some(live), Some(files)) = (
        prepared.live.as_mut(),
        prepared.files.as_ref().filter(|_| prepared.persisted),
    ) else {
        return Ok(());
    };
    if !reloads && !prepared.watchers.iter().any(replaces) {
        return Ok(());
    }
    let same_file = |other: &std::path::Path| {
        let real = |path: &std::path::Path| std::fs::canonicalize(path).ok();
        let (mine, theirs) = (real(&files.main()), real(other));
        // A name that is not UTF-8 arrives with marks in place of what is not.
        let told = other.to_str().filter(|told| told.contains('\u{FFFD}'));
        mine.is_some_and(|mine| match (theirs, told) {
            (Some(theirs), _) => mine == theirs,
            (None, Some(told)) => mine.to_string_lossy() == told,
            (None, None) => false,
        })
    };
    match live.identity()? {
        Some(identity) if same_file(&identity.config) => {
            prepared.rereads = true;
            live.can_reread();
            for run in prepared.watchers.iter_mut().filter(|run| replaces(run)) {
                if let Some(side) = &mut run.seen.daemon {
                    side.rereads = true;
                }
                run.plan = planned(&run.desired, &run.target, &run.seen)?;
            }
        }
        Some(identity) if reloads => {
            return Err(format!(
                "the daemon at {} runs on {}, not on {}: it would not read the sections that are to change; name \
                 that file with --config, or give --no-live",
                live.endpoint(),
                identity.config.display(),
                files.shown().display()
            )
            .into());
        }
        Some(_) => {}
        None if reloads => whole_reload_is_safe(live, files, &prepared.watchers)?,
        None => {}
    }
    Ok(())
}

/// circusd reads its whole file again and drops what only it has: that is done only if nobody else loses by it.
fn whole_reload_is_safe(
    live: &mut Live,
    files: &Files,
    watchers: &[WatcherRun],
) -> Result<(), Refusal> {
    let config = files.config();
    let foreign: Vec<String> = live
        .names()?
        .into_iter()
        .filter(|name| {
            !expand::is_internal(name)
                && config.watcher(name).is_none()
                && !watchers
                    .iter()
                    .any(|run| run.desired.name.to_lowercase() == *name)
        })
        .collect();
    if foreign.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the daemon at {} is a circusd, which can only read its whole file again, and then stops the watchers that are \
         not in it ({}): add them to the file, or give --no-live",
        live.endpoint(),
        foreign.join(", ")
    )
    .into())
}

/// The edited configuration holds the wanted sections.
fn check_sections(sections: &[SectionRun], after: &Reading<'_>) -> Result<(), Refusal> {
    for SectionRun { desired, .. } in sections {
        let section = desired.section();
        for wanted in desired.options.iter().filter(|_| desired.present) {
            let stands = after.config().raw(&section, &wanted.key);
            // A default that is not stated is right as well; the plan compared it.
            if stands
                .is_some_and(|text| text != wanted.text && !sections::same_text(text, &wanted.text))
            {
                return Err(Refusal::of(
                    &section,
                    format!(
                        "{} would still be {:?} after the edit: another file has the last word",
                        wanted.key,
                        stands.unwrap_or_default()
                    ),
                ));
            }
        }
    }
    Ok(())
}
