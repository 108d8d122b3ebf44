//! The threads around the agent's loop: they listen to the daemon, watch the files, and do the runs.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::address::endpoint;
use super::hearing;
use super::schedule::Order;
use super::shell::{Handle, Message, Setup};
use super::watch::{Kind, Targets, Watcher};
use super::work::{self, Work};
use crate::config::Config;
use crate::state::Settings;

/// The threads that listen to the daemon and watch the files.
pub(super) struct Ears {
    hearing: Arc<hearing::Stop>,
    // Closing it ends the watching.
    watching: Option<UnixStream>,
}

impl Ears {
    pub(super) fn open(
        setup: &Setup,
        work: &Work,
        handle: &Handle,
    ) -> Result<Ears, std::io::Error> {
        let mut ears = Ears {
            hearing: Arc::default(),
            watching: None,
        };
        if setup.once {
            return Ok(ears);
        }
        let (ours, theirs) = UnixStream::pair()?;
        ears.watching = Some(ours);
        let settings = work.settings.clone();
        let desired = settings.cwd.join(&work.desired);
        let window = setup.window.as_ref().map(|path| settings.cwd.join(path));
        let (prune, readable_settings) = (work.prune, settings.clone());
        let state = desired.clone();
        let targets_settings = settings.clone();
        let targets = move || targets(&desired, window.as_ref(), &targets_settings);
        let watcher = Watcher::new(targets());
        let changes = handle.clone();
        spawn("agent-files", move || {
            watcher.run(
                &theirs,
                targets,
                || work::read(&state, &readable_settings, prune).is_ok(),
                |change| changes.send(Message::Changed(change)),
            );
        })?;
        let (stop, heard) = (Arc::clone(&ears.hearing), handle.clone());
        spawn("agent-events", move || {
            hearing::listen(
                || endpoint(&settings),
                &stop,
                |news| heard.send(Message::Heard(news)),
            );
        })?;
        Ok(ears)
    }

    pub(super) fn close(self) {
        self.hearing.set();
        drop(self.watching);
    }
}

fn targets(desired: &Path, window: Option<&PathBuf>, settings: &Settings) -> Targets {
    let mut found = vec![(Kind::Desired, desired.to_path_buf())];
    if let Some(window) = window {
        found.push((Kind::Window, window.clone()));
    }
    if let Some(config) = &settings.config {
        let main = settings.cwd.join(config);
        let files = Config::load(&main, &settings.environ, &settings.cwd);
        let files = files.map(|config| config.files).unwrap_or_default();
        let mut files: Vec<PathBuf> = files.into_iter().chain([main]).collect();
        // The configuration itself may be what is desired: one change is not two.
        files.retain(|file| file != desired && file.parent() != Some(desired));
        found.extend(files.into_iter().map(|file| (Kind::Config, file)));
    }
    Targets(found)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), std::io::Error> {
    std::thread::Builder::new().name(name.into()).spawn(body)?;
    Ok(())
}

/// The thread that does the runs; it ends when no more orders can come.
pub(super) fn spawn_worker(
    mut work: Work,
    orders: Receiver<Order>,
    handle: Handle,
) -> Result<(), std::io::Error> {
    spawn("agent-run", move || {
        while let Ok(order) = orders.recv() {
            handle.send(Message::Done(Box::new(work.run(&order))));
        }
    })
}
