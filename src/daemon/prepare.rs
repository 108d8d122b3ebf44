//! What a reload needs of disks and name servers: reading the files, resolving hosts and users, binding the daemon's own
//! endpoints, writing the pid file. A thread does it that lives no longer than that, because each of these may hang; the
//! daemon goes on meanwhile. Nothing here changes what the daemon has: what was prepared and is dropped is undone.

use super::accounts;
use super::binding::{Around, Bound, Held};
use super::claims::{Who, conflict, of_sockets};
use super::differences::adopted;
use super::discovery::{Joined, fqdn};
use super::handed::HandedSockets;
use super::hooks::trial::{Sought, look_for};
use super::log::{self, Opened, Setup, Wish};
use super::moves::{bind, given, moving, of_endpoints, refused, try_out};
use super::pidfile::Pidfile;
use super::sockets::{self, ListenSocket, Place, Yielding};
use super::succession::succession;
use crate::config::{CircusOptions, Config, SocketConfig};
use crate::options::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// A configuration that is to be taken over.
pub(super) struct Target {
    pub config: Config,
    /// The sections that were named, if any were.
    pub sections: Option<BTreeSet<String>>,
}

/// What is to be done.
pub(super) enum Errand {
    /// The files are to be read.
    Read {
        path: PathBuf,
        environ: BTreeMap<String, String>,
        cwd: PathBuf,
    },
    /// Everything that the target needs is to be got.
    Prepare(Box<Wanted>),
}

/// What a target needs, and what there is.
pub(super) struct Wanted {
    pub target: Target,
    /// Only find out; bind and write nothing.
    pub check: bool,
    /// What new and changed watchers count on.
    pub watchers: Vec<Needs>,
    /// What the processes that run hooks get as their environment, and where Python looks for modules at last.
    pub surroundings: (Vec<(OsString, OsString)>, Vec<String>),
    /// The sockets that are opened or changed.
    pub sockets: Vec<SocketConfig>,
    /// The sockets that there are.
    pub listening: BTreeMap<String, Arc<ListenSocket>>,
    /// Those that the service manager gave.
    pub handed: Arc<HandedSockets>,
    /// The options that the daemon goes by.
    pub effective: CircusOptions,
    /// The keys of `[circus]` that the command line has the say over.
    pub settled: Vec<&'static str>,
    /// The endpoints that the daemon has.
    pub held: Vec<Held>,
    /// The file of the control endpoint, if it is a unix socket.
    pub control_file: Option<PathBuf>,
}

/// What a watcher counts on and those from before did not name.
pub(super) struct Needs {
    /// Its section.
    pub section: String,
    /// Its user and group.
    pub account: Option<(Value, Value)>,
    /// Its hooks.
    pub hooks: Vec<Sought>,
}

/// What came of it.
pub(super) enum Finding {
    Read(Result<Box<Config>, String>),
    Prepared(Result<Box<Prepared>, String>),
}

/// Everything that the target needs. What is not taken out of it is given back when it is dropped.
pub(super) struct Prepared {
    pub target: Target,
    /// The Python hooks that are named for the first time.
    pub new_callables: Vec<String>,
    /// Where the sockets go, by name.
    pub places: BTreeMap<String, Place>,
    /// Another control endpoint.
    pub control: Option<Bound>,
    /// Another endpoint for the events.
    pub events: Option<Bound>,
    /// Another endpoint for statistics, or none any more.
    pub stats: Option<Option<Bound>>,
    /// The name of the daemon in the network.
    pub fqdn: String,
    /// Those who look for daemons are told something else, or elsewhere, or nothing any more.
    pub discovery: Option<Option<Joined>>,
    /// The log goes elsewhere.
    pub log: Option<Opened>,
    /// Another pid file, or none any more.
    pub pidfile: Option<Option<Pidfile>>,
    /// The file of the control endpoint belongs to somebody else.
    pub chowned: Option<Chowned>,
    /// What made room for the endpoints.
    pub room: Vec<Yielding>,
    /// The sockets that nobody wants any more and where an endpoint is now.
    pub given: BTreeSet<String>,
}

impl Prepared {
    fn nothing(target: Target, places: BTreeMap<String, Place>) -> Prepared {
        Prepared {
            target,
            new_callables: Vec::new(),
            places,
            control: None,
            events: None,
            stats: None,
            fqdn: String::new(),
            discovery: None,
            log: None,
            pidfile: None,
            chowned: None,
            room: Vec::new(),
            given: BTreeSet::new(),
        }
    }
}

/// A file that was given to another user; it goes back when this is dropped without [`Chowned::keep`].
pub(super) struct Chowned {
    path: PathBuf,
    before: Option<u32>,
}

impl Chowned {
    fn new(path: PathBuf, owner: u32) -> std::io::Result<Chowned> {
        let before = std::fs::symlink_metadata(&path)?.uid();
        std::os::unix::fs::chown(&path, Some(owner), None)?;
        let before = Some(before);
        Ok(Chowned { path, before })
    }

    /// It stays with its new owner.
    pub fn keep(mut self) {
        self.before = None;
    }
}

impl Drop for Chowned {
    fn drop(&mut self) {
        if let Some(before) = self.before
            && let Err(error) = std::os::unix::fs::chown(&self.path, Some(before), None)
        {
            let path = self.path.display();
            tracing::error!("cannot give {path} back to user {before}: {error}");
        }
    }
}

/// Starts a thread for the errand; the finding comes to `findings` under this number.
pub(super) fn send_out(
    errand: Errand,
    number: u64,
    findings: &mpsc::UnboundedSender<(u64, Finding)>,
) -> Result<(), String> {
    let findings = findings.clone();
    std::thread::Builder::new()
        .name("reload".to_string())
        .stack_size(512 * 1024)
        .spawn(move || {
            let finding = match errand {
                Errand::Read { path, environ, cwd } => {
                    Finding::Read(read(&path, &environ, &cwd).map(Box::new))
                }
                Errand::Prepare(wanted) => Finding::Prepared(prepare(*wanted).map(Box::new)),
            };
            // the daemon has ended, and needs it no more
            let _ = findings.send((number, finding));
        })
        .map(|_| ())
        .map_err(|error| format!("cannot start a thread for the reload: {error}"))
}

fn read(path: &Path, environ: &BTreeMap<String, String>, cwd: &Path) -> Result<Config, String> {
    let config = Config::load(path, environ, cwd).map_err(|error| error.to_string())?;
    log::level_of(config.circus.loglevel.as_deref())
        .map_err(|reason| placed(&config, "circus", "loglevel", reason))?;
    Ok(config)
}

fn prepare(wanted: Wanted) -> Result<Prepared, String> {
    let Wanted {
        target,
        check,
        watchers,
        surroundings,
        sockets,
        listening,
        handed,
        effective,
        settled,
        held,
        control_file,
    } = wanted;
    let config = &target.config;
    let new = &adopted(&effective, &config.circus, &settled);
    let circus = |key: &str, why: &dyn std::fmt::Display| placed(config, "circus", key, why);
    let mut places = BTreeMap::new();
    for socket in &sockets {
        let place =
            sockets::place_of(socket).map_err(|error| of_socket(config, &socket.name, error))?;
        places.insert(socket.name.clone(), place);
    }
    for watcher in &watchers {
        watcher.have_an_account(config)?;
    }
    let new_callables = find_hooks(config, &watchers, &surroundings)?;
    let owner = owner(new).map_err(|why| circus("endpoint_owner", &why))?;
    let plan = succession(&listening, &config.sockets, &places);
    let nobodys = plan.leaving.iter().filter_map(|name| listening.get(name));
    let nobodys: Vec<_> = nobodys.cloned().collect();
    let moving = moving(&effective, new);
    let leaving: Vec<&str> = moving.iter().map(|(key, ..)| *key).collect();
    let around = Around {
        held: &held,
        leaving: &leaving,
        sockets: &nobodys,
    };
    let mut claims =
        of_endpoints(&moving, new, &held).map_err(|(key, error)| circus(key, &error))?;
    claims.extend(of_sockets(&plan, &listening, &config.sockets, &places));
    for claim in &mut claims {
        if matches!(claim.who, Who::Socket(socket) if handed.has(socket, &claim.place)) {
            claim.new = false;
        }
    }
    if let Some((claim, other)) = conflict(&claims, check) {
        let other = format!("Address already in use by {}", other.who.name());
        return Err(refused(config, new, claim, &other));
    }
    if check {
        for claim in claims.iter().filter(|claim| claim.new) {
            try_out(config, new, claim, &around)?;
        }
        Setup::of(log_wish(new)).map_err(|why| circus("logoutput", &why))?;
        return Ok(Prepared::nothing(target, places));
    }
    let mut room = Vec::new();
    let moved = bind(&moving, owner, &around, &mut room)
        .map_err(|(key, error)| placed(config, "circus", key, error))?;
    let name = fqdn(new.fqdn_prefix.as_deref());
    let log = other_log(&effective, new).map_err(|(key, why)| circus(key, &why))?;
    let pidfile = other_pidfile(effective.pidfile.as_deref(), new.pidfile.as_deref())
        .transpose()
        .map_err(|error| circus("pidfile", &error))?;
    // without an owner it is the daemon's own again
    let owner = owner.unwrap_or_else(|| nix::unistd::geteuid().as_raw());
    let chowned = match control_file {
        Some(path) if moved.control.is_none() && effective.endpoint_owner != new.endpoint_owner => {
            let shown = path.display().to_string();
            let given = Chowned::new(path, owner).map_err(|error| {
                let why = format!("cannot give {shown} to user {owner}: {error}");
                circus("endpoint_owner", &why)
            })?;
            Some(given)
        }
        _ => None,
    };
    Ok(Prepared {
        control: moved.control,
        events: moved.events,
        stats: moved.stats,
        discovery: (found_by(&effective) != found_by(new)).then(|| Joined::new(new, &name)),
        fqdn: name,
        log,
        pidfile,
        chowned,
        new_callables,
        given: given(&claims, &nobodys),
        room,
        ..Prepared::nothing(target, places)
    })
}

impl Needs {
    fn have_an_account(&self, config: &Config) -> Result<(), String> {
        let Some((uid, gid)) = &self.account else {
            return Ok(());
        };
        let checked = [("uid", Some(uid), None), ("gid", None, Some(gid))];
        checked.into_iter().try_for_each(|(key, uid, gid)| {
            let found = accounts::credentials(uid, gid).map(|_| ());
            found.map_err(|error| placed(config, &self.section, key, error))
        })
    }
}

/// Looks for the hooks that watchers name for the first time; gives the Python callables among them.
fn find_hooks(
    config: &Config,
    watchers: &[Needs],
    (env, paths): &(Vec<(OsString, OsString)>, Vec<String>),
) -> Result<Vec<String>, String> {
    let mut all: Vec<(&str, &Sought)> = Vec::new();
    for needs in watchers {
        all.extend(
            needs
                .hooks
                .iter()
                .map(|hook| (needs.section.as_str(), hook)),
        );
    }
    let found = look_for(all.iter().map(|(_, hook)| *hook), env, paths);
    for ((section, hook), found) in all.iter().zip(found) {
        let key = format!("hooks.{}", hook.name);
        let told = |why| placed(config, section, &key, format!("it cannot be called: {why}"));
        found.map_err(told)?;
    }
    let callables = all.iter().filter(|(_, hook)| hook.is_python());
    Ok(callables.map(|(_, hook)| hook.target.clone()).collect())
}

/// The user who shall have the file of the control endpoint.
///
/// # Errors
/// There is no such user.
pub(super) fn owner(circus: &CircusOptions) -> Result<Option<u32>, accounts::AccountError> {
    match &circus.endpoint_owner {
        Some(owner) if circus.endpoint.starts_with("ipc://") => {
            accounts::to_uid(&Value::from(owner.as_str())).map(Some)
        }
        _ => Ok(None),
    }
}

/// What those are told who look for daemons, and where.
fn found_by(circus: &CircusOptions) -> (&str, &str, Option<&str>) {
    (
        &circus.multicast_endpoint,
        &circus.endpoint,
        circus.fqdn_prefix.as_deref(),
    )
}

/// What these options say of the log.
pub(super) fn log_wish(circus: &CircusOptions) -> Wish<'_> {
    Wish {
        level: circus.loglevel.as_deref(),
        output: circus.logoutput.as_deref(),
        format: circus.log_format.as_deref(),
        config: circus.loggerconfig.as_deref(),
    }
}

/// The log, if it is not only its level that changes. An error comes with its key.
fn other_log(
    old: &CircusOptions,
    new: &CircusOptions,
) -> Result<Option<Opened>, (&'static str, String)> {
    let of = |circus: &CircusOptions| {
        let CircusOptions {
            logoutput,
            log_format,
            loggerconfig,
            ..
        } = circus.clone();
        [
            ("logoutput", logoutput),
            ("log_format", log_format),
            ("loggerconfig", loggerconfig),
        ]
    };
    let mut differing = of(old).into_iter().zip(of(new));
    let Some((_, (key, _))) = differing.find(|((_, old), (_, new))| old != new) else {
        return Ok(None);
    };
    let setup = Setup::of(log_wish(new)).map_err(|why| (key, why))?;
    for warning in &setup.warnings {
        tracing::warn!("{warning}");
    }
    let opened = setup.open().map_err(|why| (key, why.to_string()))?;
    Ok(Some(opened))
}

/// The new pid file, if there shall be another one than before, or none any more.
fn other_pidfile(
    old: Option<&str>,
    new: Option<&str>,
) -> Option<Result<Option<Pidfile>, super::pidfile::PidfileError>> {
    let file = |path: &str| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    match (old, new) {
        (None, None) => None,
        (Some(_), None) => Some(Ok(None)),
        (Some(old), Some(new)) if old == new || file(old).is_some() && file(old) == file(new) => {
            None
        }
        (_, Some(new)) => Some(Pidfile::create(Path::new(new)).map(Some)),
    }
}

/// A mistake, with the file and line of the value that it is about.
pub(super) fn placed(
    config: &Config,
    section: &str,
    key: &str,
    why: impl std::fmt::Display,
) -> String {
    match config.source(section, key) {
        Some((file, line)) => format!("{}:{line}: [{section}] {key}: {why}", file.display()),
        None => format!("[{section}] {key}: {why}"),
    }
}

/// A mistake, with the file and line of the section of the socket that it is about.
pub(super) fn of_socket(config: &Config, name: &str, why: impl std::fmt::Display) -> String {
    let own = |section: &&str| {
        let rest = section.strip_prefix("socket:");
        rest.is_some_and(|rest| rest.to_lowercase() == name)
    };
    let place = config
        .sections()
        .find(own)
        .and_then(|section| Some((section, config.section_source(section)?)));
    match place {
        Some((section, (file, line))) => {
            format!("{}:{line}: [{section}] {why}", file.display())
        }
        None => why.to_string(),
    }
}
