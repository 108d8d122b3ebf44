//! For whose sake a watcher was stopped. A program that stops a watcher and means to start it again later (the plugin
//! Flapping) says its name with the order, `by`, and why, `because`. What it then wants to start in that name is started
//! only if nobody else has stopped or started it since: what a person has stopped stays stopped.

use super::control::{Chosen, Trouble};
use super::shell::Shell;
use crate::options::{Map, Value};
use crate::supervisor::{Status, WatcherId};
use crate::wire::command::Command;
use crate::wire::request::Sake;
use crate::wire::{Selection, brief};
use serde_json::json;
use std::collections::HashMap;

/// Who has stopped which watcher, and why.
#[derive(Debug, Default)]
pub(super) struct Sakes(HashMap<WatcherId, Sake>);

impl Sakes {
    /// Drops what was kept for a watcher that is gone.
    pub fn forget(&mut self, id: WatcherId) {
        self.0.remove(&id);
    }

    /// What `status` tells of a watcher.
    pub fn told(&self, id: WatcherId) -> Option<Map<String, Value>> {
        let sake = self.0.get(&id)?;
        let told = json!({"by": sake.by, "because": sake.because});
        told.as_object().cloned()
    }
}

impl Shell {
    /// Takes note of an order that stops or starts watchers.
    ///
    /// # Errors
    /// It wants to start in a name what was not stopped in that name.
    pub(super) fn mind_sake(
        &mut self,
        command: &Command,
        sake: Option<&Sake>,
    ) -> Result<(), Trouble> {
        let ids = match command {
            Command::Start(selection) | Command::Stop(selection) | Command::Restart(selection) => {
                self.selected(selection)
            }
            _ => return Ok(()),
        };
        for id in ids {
            let kept = self.sakes.0.get(&id);
            match (command, sake) {
                (Command::Start(_), Some(sake)) if kept.is_none_or(|kept| kept.by != sake.by) => {
                    let name = self.core.watcher_by_id(id);
                    let name = name.map_or(String::new(), |view| view.options().name.clone());
                    return Err(Trouble::command(format!(
                        "{name} is not started: it was not {} that stopped it, or somebody else has stopped or started it \
                         since",
                        brief(&sake.by)
                    )));
                }
                (Command::Stop(_), Some(sake)) => {
                    let view = self.core.watcher_by_id(id);
                    let runs = |status| matches!(status, Status::Active | Status::Starting);
                    if let Some(view) = view.filter(|view| runs(view.status())) {
                        let (by, because) = (brief(&sake.by), brief(&sake.because));
                        tracing::info!("{}: stopped by {by}: {because}", view.options().name);
                        self.sakes.0.insert(id, sake.clone());
                    }
                }
                _ => self.sakes.forget(id),
            }
        }
        Ok(())
    }

    fn selected(&self, selection: &Selection) -> Vec<WatcherId> {
        let names = match self.select(selection) {
            Ok(Chosen::One(name)) => vec![name],
            Ok(Chosen::Several(names) | Chosen::All(names)) => names,
            Err(_) => Vec::new(),
        };
        let ids = names.iter().filter_map(|name| self.core.watcher(name));
        ids.map(|view| view.id()).collect()
    }
}
