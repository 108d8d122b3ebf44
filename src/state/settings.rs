//! How a run is to go about it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::interrupt::Interrupt;

/// What every verb of `circ state` takes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The configuration file to edit; without one only the daemon is managed.
    pub config: Option<PathBuf>,
    /// The daemon's endpoint, if the caller named it.
    pub endpoint: Option<String>,
    /// The endpoint of the environment (`CIRCUSCTL_ENDPOINT`), which the configuration overrules.
    pub fallback_endpoint: Option<String>,
    /// Change nothing, say what would change.
    pub check: bool,
    /// Fill in the report's `diff`.
    pub diff: bool,
    /// Talk to the daemon.
    pub live: bool,
    /// Edit the file.
    pub persist: bool,
    /// Time for the whole run.
    pub timeout: Duration,
    /// How long the workers must stay.
    pub settle: Duration,
    /// Keep the file's old bytes beside it.
    pub backup: bool,
    /// If no daemon listens, start one on the configuration file.
    pub start_daemon: bool,
    /// Show the values of environment variables in reports and diffs.
    pub show_secrets: bool,
    /// Watchers that this run must neither stop nor remove, as the one it runs in itself.
    pub protect: Vec<String>,
    /// Somebody may ask the run to end before it is done.
    pub interrupt: Interrupt,
    /// The environment that variables in the configuration are taken from.
    pub environ: BTreeMap<String, String>,
    /// The directory that relative paths start from.
    pub cwd: PathBuf,
}

impl Settings {
    /// The defaults: file and daemon, 60 s for the run, 1 s to settle.
    pub fn new(cwd: PathBuf, environ: BTreeMap<String, String>) -> Settings {
        Settings {
            config: None,
            endpoint: None,
            fallback_endpoint: None,
            check: false,
            diff: false,
            live: true,
            persist: true,
            timeout: Duration::from_secs(60),
            settle: Duration::from_secs(1),
            backup: false,
            start_daemon: false,
            show_secrets: false,
            protect: Vec::new(),
            interrupt: Interrupt::default(),
            environ,
            cwd,
        }
    }
}
