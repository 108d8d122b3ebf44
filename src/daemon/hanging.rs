//! Starts that hang: the kernel keeps a process that executes a program from a disk that does not answer, and a directory
//! server may never say who a user is. A stop, a removal and the daemon's end do not wait for such a start.

use super::shell::Shell;
use crate::supervisor::{Input, SpawnId};
use std::time::{Duration, Instant};

/// How long a worker that is not wanted any more may take to come up (to be stopped in order then).
const HANGING: Duration = Duration::from_secs(3);

impl Shell {
    /// When to give up a start that hangs and is not wanted any more.
    pub(super) fn hanging_at(&self) -> Option<Instant> {
        let unwanted = |spawn: &SpawnId| !self.core.wants(*spawn);
        let in_hand = self.spawner.in_hand().filter(|(spawn, _)| unwanted(spawn));
        let parked = self.parked.values().flatten();
        let parked = parked.filter(|start| unwanted(&start.spawn));
        in_hand
            .map(|(_, since)| since + HANGING)
            .chain(parked.map(|_| self.clock))
            .min()
    }

    /// A start may hang for ever (a disk that does not answer): a stop does not wait for it.
    pub(super) fn abandon_hanging(&mut self) {
        let now = Instant::now();
        let mut given_up: Vec<SpawnId> = Vec::new();
        for (spawn, since) in self.spawner.in_hand() {
            if since + HANGING <= now && !self.core.wants(spawn) {
                tracing::warn!("a start that nobody wants any more hangs; not waiting for it");
                given_up.push(spawn);
            }
        }
        for spawn in &given_up {
            self.spawner.abandon(*spawn);
        }
        for waiting in self.parked.values_mut() {
            waiting.retain(|start| {
                let wanted = self.core.wants(start.spawn);
                if !wanted {
                    given_up.push(start.spawn);
                }
                wanted
            });
        }
        for spawn in given_up {
            let reason = "its start hangs".to_string();
            self.step(Input::StartFailed { spawn, reason });
        }
    }
}
