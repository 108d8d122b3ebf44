//! Workers come and go: starts are handed to who makes processes, and what comes of them, and of those that end, is told to
//! the core.

use super::launch::LaunchError;
use super::lookups::{self, Question};
use super::sampling::Fate;
use super::shell::{Shell, send_signal};
use super::spawner::Done;
use crate::supervisor::{Input, Pid};
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};
use std::io;

/// Ended children that are taken before everybody else gets a turn.
const EXITS_A_TURN: usize = 16;

impl Shell {
    /// Hands the workers that have waited longest to the spawning thread.
    pub(super) fn spawn_more(&mut self) {
        while self.spawner.has_room() {
            let Some(start) = self.spawns.pop_front() else {
                return;
            };
            let (spawn, id) = (start.spawn, start.watcher);
            if !self.core.wants(spawn) {
                let reason = "it is not wanted any more".to_string();
                self.step(Input::StartFailed { spawn, reason });
                continue;
            }
            let plan = match self.core.watcher_by_id(id) {
                Some(view) => {
                    let options = view.options();
                    let (sockets, streams) = (&self.sockets, &mut self.streams);
                    self.launcher.plan(id, options, start, sockets, streams)
                }
                None => Err("the watcher is gone".to_string().into()),
            };
            match plan {
                Ok(job) => self.spawner.submit(job),
                Err(LaunchError::Failed(reason)) => {
                    self.step(Input::StartFailed { spawn, reason });
                }
                Err(LaunchError::WhoIs) => {
                    let Some(view) = self.core.watcher_by_id(id) else {
                        return;
                    };
                    let (uid, gid) = (view.options().uid().clone(), view.options().gid().clone());
                    let parked = self.parked.entry(id).or_default();
                    parked.push(start);
                    if parked.len() == 1 {
                        self.lookups.ask(Question::Launch { id, uid, gid });
                    }
                }
            }
        }
    }

    pub(super) fn spawned(&mut self, done: Done) {
        let Done {
            spawn,
            born,
            result,
            words,
            abandoned,
        } = done;
        match result {
            Ok(pid) if abandoned => {
                tracing::warn!(pid, "process {pid} came up too late and is killed");
                // one that has been reaped may have given its pid to somebody else
                if self.early_exits.remove(&pid).is_none() {
                    send_signal(pid, 9);
                }
            }
            Err(_) if abandoned => {}
            Ok(pid) => {
                self.births.insert(pid, born);
                self.words.extend(words.map(|words| (pid, words)));
                self.step(Input::Started { spawn, pid });
                if let Some(watcher) = self.core.owner(pid) {
                    self.counters.started(watcher);
                }
                if let Some(code) = self.early_exits.remove(&pid) {
                    self.exited(pid, code);
                }
            }
            Err(reason) => self.step(Input::StartFailed { spawn, reason }),
        }
        if self.spawner.in_flight() == 0 {
            self.early_exits.clear();
        }
    }

    pub(super) fn looked_up(&mut self, answer: lookups::Answer) {
        match answer {
            lookups::Answer::Launch {
                id,
                uid,
                gid,
                result,
            } => {
                self.launcher.found(id, uid, gid, result);
                let parked = self.parked.remove(&id).unwrap_or_default();
                for waiting in parked.into_iter().rev() {
                    self.spawns.push_front(waiting);
                }
            }
            lookups::Answer::Set {
                client,
                patient,
                name,
                changes,
            } => self.set_resolved(client, patient, name, changes),
        }
    }

    /// Takes the children that have ended, a few at a time: when hundreds do at once, clients get their turn in between.
    pub(super) fn reap(&mut self) {
        self.more_exits = true;
        for _ in 0..EXITS_A_TURN {
            let (pid, code) = match ended_child() {
                Ok(Some(ended)) => ended,
                Ok(None) => {
                    self.more_exits = false;
                    return;
                }
                Err(error) => {
                    tracing::error!("cannot wait for workers: {error}");
                    self.more_exits = false;
                    return;
                }
            };
            if self.hooks.exited(pid, code) {
                continue;
            }
            if self.core.owner(pid).is_none() && self.spawner.in_flight() > 0 {
                // gone before the spawning thread could say that it was there
                self.early_exits.insert(pid, code);
            } else {
                self.exited(pid, code);
            }
        }
    }

    fn exited(&mut self, pid: Pid, code: i32) {
        if let Some(watcher) = self.core.owner(pid) {
            self.counters.ended(watcher, code);
            self.sampling.fate(watcher, Fate::Ended(pid));
        }
        self.step(Input::Exited { pid, code });
        self.births.remove(&pid);
        self.words.remove(&pid);
    }
}

/// Takes one child that has ended: its pid, and its exit code or minus the number of the signal that killed it. `None` if
/// there is none right now.
///
/// nix's `waitpid` is not used: it takes a child that a real-time signal has killed, and then cannot say which it was.
///
/// # Errors
/// What waitpid(2) says, except for "no child" and "interrupted".
fn ended_child() -> io::Result<Option<(Pid, i32)>> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(None) | Err(Errno::CHILD) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(Some((pid, status))) => {
                let killed = status.terminating_signal().map(|signal| -signal);
                if let Some(code) = killed.or(status.exit_status()) {
                    return Ok(Some((pid.as_raw_nonzero().get(), code)));
                }
                // stopped or continued, which nobody asked to hear of
            }
        }
    }
}
