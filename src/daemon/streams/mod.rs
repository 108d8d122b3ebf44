//! Output streams: what workers say, from their pipes to where their watcher's options want it.
//!
//! # Theory of operation
//!
//! A worker whose watcher configures `stdout_stream` or `stderr_stream` writes into a pipe; without a stream it writes
//! where the daemon writes, and nobody stands in between. [`pump`] empties all pipes, each a [`source`]. On the way, an [`outlet`] (one output
//! of one watcher) knows where it goes at the moment, in which shape ([`format`]), and counts. Its destination is a
//! [`sink`], shared by all who name the same file, and behind it a [`target`]: a file with its rotation ([`file`]), the
//! daemon's own outputs, the system log.
//!
//! What is promised:
//!
//! * Bytes arrive as they were written, and in the order of their worker. Lines of several workers in one file are never
//!   torn: each is written whole, once its end is there. (A line longer than [`source::LONGEST_LINE`] passes in pieces.)
//!   A line that nobody else can tear is written before its end if that takes long: a prompt is seen.
//! * A file is rotated between two lines, and nothing is lost then, nor when a worker, a watcher or the daemon stops: a
//!   pipe is read until nobody has its other end. The daemon's own end waits a limited time for that.
//! * A destination that does not take more holds only those who write to it (`overflow = block`) or nobody (`overflow =
//!   drop`); never the daemon. See [`sink`].
//!
//! For `circ logs`: what is in a file is read from the file; `logtail` answers the path. What goes elsewhere is kept in
//! part, and `logtail` answers the last of it as text, with the number `end` of bytes that were ever said; asking again
//! with `after = end` follows it.

pub(crate) mod clock;
mod compress;
mod file;
mod foreign;
mod format;
mod outlet;
mod pump;
mod rotation;
mod sink;
mod source;
mod standard;
mod syslog;
mod tail;
mod target;

pub use file::{FileTarget, Rules};
pub use format::{Origin, Which};
pub use outlet::Outlet;
pub use pump::Pump;
pub use source::Words;
pub use target::Target;

use crate::options::{Map, Value, WatcherOptions};
use crate::python::interpreter::{interpreter, python_path};
use crate::supervisor::WatcherId;
use foreign::Python;
use nix::fcntl::{FcntlArg, fcntl};
use outlet::Destinations;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, PipeReader, PipeWriter};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// The size of a pipe. What the kernel counts against a user who is not root (64 MiB of all their pipes) is not to be used
/// up by a few workers.
fn pipe_size() -> i32 {
    if nix::unistd::geteuid().is_root() {
        1 << 20
    } else {
        1 << 18
    }
}

/// A pipe for one output of a worker: the daemon's end and the worker's.
///
/// # Errors
/// There is no descriptor to be had.
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let ends = io::pipe()?;
    // one that stays smaller only has to be read more often
    let _ = fcntl(&ends.0, FcntlArg::F_SETPIPE_SZ(pipe_size()));
    Ok(ends)
}

/// All output streams, as the supervision thread sees them.
pub struct Streams {
    /// The threads; made with the first stream.
    pump: Option<Arc<Pump>>,
    cwd: PathBuf,
    destinations: Destinations,
    outlets: BTreeMap<(WatcherId, Which), Arc<Outlet>>,
    unconfigured: Option<Arc<Outlet>>,
    warned: HashSet<(WatcherId, Which)>,
    /// The Python of `[circus] python`, and where classes of the user's own are looked for at last.
    python: (Option<String>, Vec<String>),
    /// When to look whether a thread is held by its destination.
    pub look_at: Option<Instant>,
}

impl Streams {
    /// Nothing is there yet. File names start from `cwd`; classes of the user's own are looked for in these directories at
    /// last.
    pub fn new(cwd: PathBuf, directories: Vec<String>) -> Streams {
        Streams {
            pump: None,
            cwd,
            destinations: Destinations::default(),
            outlets: BTreeMap::new(),
            unconfigured: None,
            warned: HashSet::new(),
            python: (None, directories),
            look_at: None,
        }
    }

    /// The threads.
    ///
    /// # Errors
    /// There is no descriptor to be had.
    pub fn pump(&mut self) -> Result<Arc<Pump>, String> {
        if let Some(pump) = &self.pump {
            return Ok(pump.clone());
        }
        let pump =
            Pump::new().map_err(|why| format!("cannot watch the output of workers: {why}"))?;
        self.pump = Some(pump.clone());
        Ok(pump)
    }

    /// Where a watcher's output goes if its options configure a stream for it.
    ///
    /// # Errors
    /// The stream cannot be used as it is configured.
    pub fn outlet(
        &mut self,
        id: WatcherId,
        options: &WatcherOptions,
        which: Which,
    ) -> Result<Option<Arc<Outlet>>, String> {
        let Some(conf) = configured(options, which) else {
            return Ok(None);
        };
        let python = self.python_of(options);
        if let Some(outlet) = self.outlets.get(&(id, which)) {
            if !outlet.is_of(conf, &python) {
                let plan = self
                    .destinations
                    .plan(conf, &options.name, which, &self.cwd, python)?;
                outlet.replace(plan);
            }
            return Ok(Some(outlet.clone()));
        }
        let outlet = self
            .destinations
            .outlet(conf, &options.name, which, &self.cwd, python)?;
        let outlet = Arc::new(outlet);
        self.outlets.insert((id, which), outlet.clone());
        Ok(Some(outlet))
    }

    /// Classes of the user's own run in this Python from now on, for watchers without a virtualenv; see
    /// [`Streams::update`].
    pub fn set_python(&mut self, python: Option<&str>) {
        self.python.0 = python.map(str::to_string);
    }

    fn python_of(&self, options: &WatcherOptions) -> Python {
        let (configured, last) = &self.python;
        let mut paths = python_path(options);
        paths.extend(last.iter().cloned());
        Python {
            interpreter: interpreter(options, configured.as_deref(), &self.cwd),
            paths,
        }
    }

    /// The daemon's own standard error, for a worker that is listened to although it has no stream.
    pub fn unconfigured(&mut self) -> Arc<Outlet> {
        let destinations = &self.destinations;
        let make = || Arc::new(destinations.unconfigured());
        self.unconfigured.get_or_insert_with(make).clone()
    }

    /// The options of a watcher have changed: what its workers say goes elsewhere from now on.
    pub fn update(&mut self, id: WatcherId, options: &WatcherOptions) {
        for which in [Which::Stdout, Which::Stderr] {
            let known = self.outlets.contains_key(&(id, which));
            if known
                && let Err(reason) = self.outlet(id, options, which)
                && self.warned.insert((id, which))
            {
                tracing::warn!("{}: {reason}; it goes on as before", options.name);
            }
        }
    }

    /// A watcher is gone.
    pub fn forget(&mut self, id: WatcherId) {
        for which in [Which::Stdout, Which::Stderr] {
            self.outlets.remove(&(id, which));
            self.warned.remove(&(id, which));
        }
    }

    /// For the reply to `status`: what is known of the outputs of a watcher that have a stream.
    pub fn told(&self, id: WatcherId) -> Map<String, Value> {
        let own = self
            .outlets
            .range((id, Which::Stdout)..=(id, Which::Stderr));
        own.map(|((_, which), outlet)| {
            let name = which.name().to_string();
            (name, Value::Object(outlet.told()))
        })
        .collect()
    }

    /// One output of a watcher, if it has a stream and a worker has been started.
    pub fn get(&self, id: WatcherId, which: Which) -> Option<&Arc<Outlet>> {
        self.outlets.get(&(id, which))
    }

    /// Opens the files of one watcher anew, or of all.
    pub fn reopen(&self, watcher: Option<WatcherId>) {
        let Some(pump) = &self.pump else { return };
        let sinks = match watcher {
            None => self.destinations.all(),
            Some(id) => self
                .own(id)
                .map(|(_, outlet)| outlet.plan().sink.clone())
                .collect(),
        };
        for sink in sinks {
            pump.reopen(sink);
        }
    }

    fn own(&self, id: WatcherId) -> impl Iterator<Item = (Which, &Arc<Outlet>)> {
        let own = self
            .outlets
            .range((id, Which::Stdout)..=(id, Which::Stderr));
        own.map(|((_, which), outlet)| (*which, outlet))
    }

    /// Waits until there is output again after a pause: then [`Streams::relieve`] is to be called after a moment.
    pub async fn noticed(&self) {
        match &self.pump {
            Some(pump) => pump.notice.notified().await,
            None => std::future::pending().await,
        }
    }

    /// There is output: sets the time to look.
    pub fn look_soon(&mut self) {
        self.look_at = Some(Instant::now() + Pump::look_after());
    }

    /// Adds a thread if all are held by their destinations.
    pub fn relieve(&mut self) {
        if self.look_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.look_at = None;
        if self.pump.as_ref().is_some_and(Pump::relieve) {
            self.look_soon();
        }
    }

    /// True while something that was said is still to be handed on.
    pub fn unfinished(&self) -> bool {
        self.pump.as_ref().is_some_and(|pump| pump.unfinished())
    }

    /// What has been said and has no end of line yet is written as it is.
    pub fn flush(&self) {
        if let Some(pump) = &self.pump {
            pump.flush();
        }
    }
}

/// The configuration of an output that leads through a pipe.
fn configured(options: &WatcherOptions, which: Which) -> Option<&Map<String, Value>> {
    match which {
        Which::Stdout => options.stdout_stream(),
        Which::Stderr => options.stderr_stream(),
    }
}
