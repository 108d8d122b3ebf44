//! From a watcher's options to what the spawning thread needs to start a worker.

use super::accounts::Credentials;
use super::sockets::ListenSocket;
use super::spawn::{self, SpawnSpec, Stdio};
use super::spawner::{Job, Outputs};
use super::streams::{Outlet, Streams, Which};
use crate::config::{hands_over, names_socket, worker_argv};
use crate::options::{ListenFds, Value, WatcherOptions};
use crate::supervisor::{SpawnId, WatcherId, Wid};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// What does not change from one worker of a watcher to the next.
struct Prepared {
    options: WatcherOptions,
    env: Vec<(OsString, OsString)>,
    credentials: Credentials,
    rlimits: Vec<(u32, u64)>,
}

/// A worker that the core wants to have started.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// Names the request.
    pub spawn: SpawnId,
    /// The watcher.
    pub watcher: WatcherId,
    /// The worker's id.
    pub wid: Wid,
    /// Hear what it says on its standard error.
    pub listen: bool,
}

/// Why a worker was not started.
#[derive(Debug)]
pub enum LaunchError {
    /// Its user and group have to be looked up first; see [`Launcher::found`].
    WhoIs,
    /// It cannot be started; a sentence for the user.
    Failed(String),
}

impl From<String> for LaunchError {
    fn from(reason: String) -> Self {
        LaunchError::Failed(reason)
    }
}

/// Plans starts, and remembers what was worked out for each watcher.
#[derive(Default)]
pub struct Launcher {
    prepared: HashMap<WatcherId, Prepared>,
    /// Users and groups that were looked up, for the options they were looked up for.
    found: HashMap<WatcherId, (Value, Value, Result<Credentials, String>)>,
    warned: HashSet<(WatcherId, String)>,
}

impl Launcher {
    /// Works out how one worker is to be started.
    ///
    /// # Errors
    /// See [`LaunchError`].
    pub fn plan(
        &mut self,
        id: WatcherId,
        options: &WatcherOptions,
        start: Start,
        sockets: &BTreeMap<String, Arc<ListenSocket>>,
        streams: &mut Streams,
    ) -> Result<Job, LaunchError> {
        let Start {
            spawn, wid, listen, ..
        } = start;
        if self
            .prepared
            .get(&id)
            .is_none_or(|prepared| prepared.options != *options)
        {
            let credentials = self.credentials(id, options)?;
            self.prepared.insert(id, prepare(options, credentials)?);
        }
        let Passed {
            own,
            numbers,
            keep,
            places,
            listen_names,
        } = passed(options, sockets)?;
        let command = worker_argv(options, wid, &numbers)?;
        for warning in command.warnings {
            if self.warned.insert((id, warning.clone())) {
                tracing::warn!(watcher = options.name, "{}: {warning}", options.name);
            }
        }
        let Some(prepared) = self.prepared.get(&id) else {
            return Err("the watcher is gone".to_string().into());
        };
        let stdin = stdin(options, sockets)?;
        let (stdout, outlet) = output(id, options, Which::Stdout, streams)?;
        let (stderr, mut error_outlet) = output(id, options, Which::Stderr, streams)?;
        if listen && error_outlet.is_none() && stderr != Stdio::Null {
            error_outlet = Some(streams.unconfigured());
        }
        let outputs = match (outlet, error_outlet) {
            (None, None) => None,
            (stdout, stderr) => Some(Outputs {
                pump: streams.pump()?,
                watcher: options.name.clone(),
                wid,
                stdout,
                stderr,
            }),
        };
        let executable = options.executable();
        let spec = SpawnSpec {
            argv: command.argv.into_iter().map(OsString::from).collect(),
            executable: (!executable.is_empty()).then(|| executable.into()),
            working_dir: match options.working_dir() {
                "" => None,
                directory => Some(directory.into()),
            },
            env: prepared.env.clone(),
            uid: prepared.credentials.uid,
            gid: prepared.credentials.gid,
            groups: prepared.credentials.groups.clone(),
            rlimits: prepared.rlimits.clone(),
            stdin,
            stdout,
            stderr,
            keep_fds: keep,
            places,
            listen_names,
            umask: None,
        };
        Ok(Job {
            spawn,
            spec,
            outputs,
            _own_sockets: own,
            _sockets: sockets.values().cloned().collect(),
        })
    }

    /// The answer to [`LaunchError::WhoIs`]; the launch can be tried again.
    pub fn found(
        &mut self,
        id: WatcherId,
        uid: Value,
        gid: Value,
        result: Result<Credentials, String>,
    ) {
        self.found.insert(id, (uid, gid, result));
    }

    fn credentials(
        &mut self,
        id: WatcherId,
        options: &WatcherOptions,
    ) -> Result<Credentials, LaunchError> {
        let (uid, gid) = (options.uid(), options.gid());
        if uid.is_null() && gid.is_null() {
            return Ok(Credentials::default());
        }
        // used once: the next time the options change, or the start fails, everything is looked up anew
        match self.found.remove(&id) {
            Some((for_uid, for_gid, result)) if for_uid == *uid && for_gid == *gid => {
                result.map_err(LaunchError::Failed)
            }
            _ => Err(LaunchError::WhoIs),
        }
    }

    /// Drops what was kept for a watcher that is gone.
    pub fn forget(&mut self, id: WatcherId) {
        self.prepared.remove(&id);
        self.found.remove(&id);
        self.warned.retain(|(warned, _)| *warned != id);
    }
}

fn prepare(options: &WatcherOptions, credentials: Credentials) -> Result<Prepared, String> {
    let env = options
        .env()
        .into_iter()
        .flatten()
        .map(|(name, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_string);
            (OsString::from(name), OsString::from(text))
        })
        .collect();
    let mut rlimits = Vec::new();
    for (name, value) in options.rlimits() {
        let resource = spawn::rlimit_resource(&name)
            .ok_or_else(|| format!("rlimit_{name}: this system has no such limit"))?;
        let limit = match value.as_i64() {
            Some(-1) | None => spawn::RLIM_INFINITY,
            Some(number) => u64::try_from(number)
                .map_err(|_| format!("rlimit_{name}: {number} is not a limit"))?,
        };
        rlimits.push((resource, limit));
    }
    Ok(Prepared {
        options: options.clone(),
        env,
        credentials,
        rlimits,
    })
}

/// The sockets of one worker.
#[derive(Default)]
struct Passed {
    /// Those that were bound for it alone (so_reuseport).
    own: Vec<OwnedFd>,
    /// The number of every socket there.
    numbers: BTreeMap<String, RawFd>,
    /// Numbers that are the same there as here.
    keep: Vec<RawFd>,
    /// (number here, number there) of the others.
    places: Vec<(RawFd, RawFd)>,
    /// The names of those that are handed over from 3 on.
    listen_names: Vec<String>,
}

/// The first descriptor that systemd hands over (`SD_LISTEN_FDS_START`).
const LISTEN_FDS_START: RawFd = 3;

fn passed(
    options: &WatcherOptions,
    sockets: &BTreeMap<String, Arc<ListenSocket>>,
) -> Result<Passed, String> {
    let mut passed = Passed {
        listen_names: listen_names(options, sockets)?,
        ..Passed::default()
    };
    for (name, socket) in sockets {
        let mut number = socket.fd();
        let listens = passed.listen_names.contains(name);
        if socket.reuses_port() && (listens || names_socket(options, name)) {
            let bound = socket.bind_reuseport().map_err(|error| error.to_string())?;
            number = bound.as_raw_fd();
            passed.own.push(bound);
        }
        passed.numbers.insert(name.clone(), number);
    }
    let mut free = LISTEN_FDS_START;
    for name in &passed.listen_names {
        if let Some(number) = passed.numbers.get_mut(name) {
            passed.places.push((*number, free));
            *number = free;
            free += 1;
        }
    }
    if !options.use_sockets() {
        return Ok(passed);
    }
    // who has his own number stays there, unless one of those that are handed over is
    let first_free = passed.numbers.values().max().map_or(free, |most| most + 1);
    let mut beyond = first_free.max(free);
    for (name, number) in &mut passed.numbers {
        if passed.listen_names.contains(name) {
            continue;
        }
        if *number >= free {
            passed.keep.push(*number);
        } else {
            passed.places.push((*number, beyond));
            *number = beyond;
            beyond += 1;
        }
    }
    Ok(passed)
}

/// The sockets that are handed over as systemd does it, in their order.
fn listen_names(
    options: &WatcherOptions,
    sockets: &BTreeMap<String, Arc<ListenSocket>>,
) -> Result<Vec<String>, String> {
    let used = |name: &&String| hands_over(options, name);
    match options.listen_fds() {
        ListenFds::Named(names) => {
            if let Some(name) = names.iter().find(|name| !sockets.contains_key(*name)) {
                return Err(format!(
                    "listen_fds names the socket '{name}', which does not exist; add a [socket:{name}] section"
                ));
            }
            // a socket named twice is handed over once
            let mut once: Vec<String> = Vec::new();
            for name in names {
                if !once.contains(&name) {
                    once.push(name);
                }
            }
            Ok(once)
        }
        ListenFds::None => Ok(Vec::new()),
        ListenFds::Used => Ok(sockets.keys().filter(used).cloned().collect()),
    }
}

fn stdin(
    options: &WatcherOptions,
    sockets: &BTreeMap<String, Arc<ListenSocket>>,
) -> Result<Stdio, String> {
    let name = options.stdin_socket();
    if !name.is_empty() {
        return sockets
            .get(&name.to_lowercase())
            .map(|socket| Stdio::Fd(socket.fd()))
            .ok_or_else(|| {
                format!("stdin_socket '{name}' does not exist; add a [socket:{name}] section")
            });
    }
    Ok(if options.close_child_stdin() {
        Stdio::Null
    } else {
        Stdio::Inherit
    })
}

/// Where an output goes: to where the daemon's own goes, nowhere, or into a stream.
fn output(
    id: WatcherId,
    options: &WatcherOptions,
    which: Which,
    streams: &mut Streams,
) -> Result<(Stdio, Option<Arc<Outlet>>), String> {
    let closed = match which {
        Which::Stdout => options.close_child_stdout(),
        Which::Stderr => options.close_child_stderr(),
    };
    if closed {
        return Ok((Stdio::Null, None));
    }
    Ok((Stdio::Inherit, streams.outlet(id, options, which)?))
}
