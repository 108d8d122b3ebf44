//! What becomes of the workers of a watcher: they run, cannot be started, or are gone.

use super::backoff::{self, STABLE_AFTER};
use super::hooks::{Gone, Step};
use super::watcher::{Context, Farewell, Slot, Watcher};
use super::{About, Effect, Event, Level, Loss, Pid, SpawnId, Status, Time, Wid};

impl Watcher {
    /// A requested worker runs.
    pub fn started(&mut self, cx: &mut Context<'_>, spawn: SpawnId, wid: Wid, pid: Pid) {
        self.tries = 0;
        let expires = self.expiry(cx);
        if let Some(failures) = self.spawning(wid, spawn) {
            if failures == 0 {
                self.trouble = None;
            }
            let started = cx.now;
            self.slots.insert(
                wid,
                Slot::Running {
                    pid,
                    started,
                    expires,
                    failures,
                },
            );
            self.take(cx, Step::AfterSpawn { wid, pid });
        } else if let Some(leaving) = self
            .leaving
            .iter_mut()
            .find(|l| l.farewell == Farewell::Unborn(spawn))
        {
            leaving.pid = pid;
            leaving.started = cx.now;
            cx.effects.push(self.publish(Event::Spawn(pid)));
            self.ask(cx, pid, None, None);
        }
    }

    fn expiry(&self, cx: &mut Context<'_>) -> Time {
        match self.options.max_age() {
            0 => Time::NEVER,
            age => {
                let extra = f64::from(self.options.max_age_variance()) * cx.random.unit();
                cx.now.plus_seconds(f64::from(age) + extra)
            }
        }
    }

    /// A requested worker could not be started.
    pub fn start_failed(&mut self, cx: &mut Context<'_>, spawn: SpawnId, wid: Wid, reason: String) {
        self.leaving
            .retain(|l| l.farewell != Farewell::Unborn(spawn));
        let Some(failures) = self.spawning(wid, spawn) else {
            return;
        };
        let failures = failures + 1;
        self.tries = self.tries.saturating_add(1);
        cx.effects.push(self.note_of(
            Level::Warning,
            format!("error in '{}': {reason}", self.options.name),
            About {
                wid: Some(wid),
                failures: Some(failures),
                ..About::default()
            },
        ));
        cx.effects.push(Effect::Lost {
            watcher: self.id,
            loss: Loss::NotStarted(reason.clone()),
        });
        self.trouble = Some(reason);
        let pause = backoff::after_failed_start(self.tries, cx.random);
        let not_before = cx.now.plus_seconds(pause);
        self.slots.insert(wid, Slot::vacant(not_before, failures));
        let exhausted = self
            .options
            .max_retry()
            .is_some_and(|most| self.tries >= most);
        let hopeless = self
            .slots
            .values()
            .all(|slot| matches!(slot, Slot::Vacant { .. }));
        if exhausted && hopeless && !self.is_replacing() {
            cx.effects.push(self.note(
                Level::Warning,
                format!(
                    "{}: giving up after {} failed starts (max_retry)",
                    self.options.name, self.tries
                ),
            ));
            self.give_up(cx);
        }
    }

    /// A process of this watcher is gone.
    pub fn exited(&mut self, cx: &mut Context<'_>, pid: Pid, code: i32) {
        if self.hooks.keeps_quiet_about(pid) {
            // its end must not be heard of before its beginning
            cx.effects.push(self.publish(Event::Spawn(pid)));
        }
        if let Some(index) = self
            .leaving
            .iter()
            .position(|l| l.pid == pid && !matches!(l.farewell, Farewell::Unborn(_)))
        {
            let gone = self.leaving.swap_remove(index);
            let by_itself = matches!(gone.farewell, Farewell::Retiring { .. } | Farewell::Pending);
            if (gone.announce || by_itself) && !gone.unheard_of {
                let (wid, started) = (gone.wid, gone.started);
                self.reap(
                    cx,
                    Gone {
                        pid,
                        wid,
                        started,
                        code,
                        by_itself,
                    },
                );
            }
            if by_itself {
                self.lost(cx, pid, code, gone.started);
            }
            if self.options.stop_children() {
                cx.effects.push(Effect::Sweep { pid });
            }
            for slot in self.slots.values_mut() {
                if let Slot::Vacant { after, .. } = slot
                    && *after == Some(pid)
                {
                    *after = None;
                }
            }
        } else if let Some((wid, started, failures)) =
            self.slots.iter().find_map(|(wid, slot)| match slot {
                Slot::Running {
                    pid: p,
                    started,
                    failures,
                    ..
                } if *p == pid => Some((*wid, *started, *failures)),
                _ => None,
            })
        {
            self.reap(
                cx,
                Gone {
                    pid,
                    wid,
                    started,
                    code,
                    by_itself: true,
                },
            );
            let lived = self.lost(cx, pid, code, started);
            let failures = if lived >= STABLE_AFTER {
                0
            } else {
                failures.saturating_add(1)
            };
            let end = if code < 0 {
                format!("was killed by signal {}", -code)
            } else {
                format!("exited with code {code}")
            };
            let mut text = format!("worker {wid} (pid {pid}) {end} after {lived:.3} s");
            let mut level = Level::Info;
            if failures > 1 {
                text.push_str(&format!(", {failures} times in a row"));
                level = Level::Warning;
                self.trouble = Some(text.clone());
            }
            cx.effects.push(self.note_of(
                level,
                format!("{}: {text}", self.options.name),
                About {
                    wid: Some(wid),
                    pid: Some(pid),
                    code: Some(code),
                    failures: (failures > 0).then_some(failures),
                    ..About::default()
                },
            ));
            self.await_successors();
            if self.options.respawn() {
                let pause = backoff::after_exit(failures, cx.random);
                let not_before = cx.now.plus_seconds(pause);
                self.slots.insert(wid, Slot::vacant(not_before, failures));
            } else {
                self.slots.remove(&wid);
            }
        }
    }

    /// A worker has gone that nobody had told to; returns how long it lived, in seconds.
    fn lost(&mut self, cx: &mut Context<'_>, pid: Pid, code: i32, started: Time) -> f64 {
        let lived = cx.now.since(started).as_secs_f64();
        self.curiosity.ended(cx.now, code, lived);
        let loss = Loss::Exited { pid, code, lived };
        cx.effects.push(Effect::Lost {
            watcher: self.id,
            loss,
        });
        lived
    }

    /// Without respawn a watcher stops once its last worker has gone.
    pub fn is_spent(&self) -> bool {
        !self.options.respawn()
            && !self.options.on_demand()
            && self.slots.is_empty()
            && self.leaving.is_empty()
            && matches!(self.status, Status::Active | Status::Starting)
            && self.options.numprocesses() > 0
    }
}
