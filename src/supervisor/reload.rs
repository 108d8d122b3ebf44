//! How a watcher replaces its workers: all at once beside the old ones, or one after the other, and what happens when the
//! new ones are no good.

use super::job::{Job, Phase};
use super::watcher::{Context, Farewell, Leaving, Slot, Watcher};
use super::{Effect, Pid, Scope, Status, Time, Wid};

/// New workers that exit young this often in a row end a reload; the old ones stay.
const RELOAD_PATIENCE: u32 = 3;
/// So long the new workers must have run before the old ones are asked to go, in seconds: what cannot even start up must
/// not take the place of what works.
pub(super) const PROOF: f64 = 0.1;

impl Watcher {
    /// Without `hup_will_do` the workers are replaced even if a reload is a SIGHUP otherwise: the new options need it.
    pub(super) fn begin_reload(
        &mut self,
        cx: &mut Context<'_>,
        job: &mut Job,
        graceful: bool,
        sequential: bool,
        hup_will_do: bool,
    ) {
        let running = self.running_pids();
        if matches!(self.status, Status::Stopped | Status::Waiting) {
            self.begin_starting(cx);
            job.announce_reload = graceful;
            job.phase = Phase::Starting;
            return;
        }
        if !graceful {
            self.begin_stopping(cx);
            job.phase = Phase::Stopping;
            return;
        }
        job.announce_reload = true;
        self.awaits = false;
        if self.options.send_hup() && hup_will_do {
            for pid in running {
                cx.effects.push(Effect::Signal {
                    watcher: self.id,
                    pid,
                    signum: 1,
                    scope: Scope::Worker,
                    announce: false,
                });
            }
            job.phase = Phase::Settling;
            return;
        }
        self.tries = 0;
        self.outdated = None;
        self.refusal = None;
        // a singleton never has two workers, not even while one takes over from the other
        if sequential || self.options.singleton() {
            for slot in self.slots.values_mut() {
                forget_failures(slot);
            }
            // new options may want another number of workers
            self.fit_slots(cx, true);
            let mut order: Vec<_> = self.workers().into_iter().filter(|w| !w.leaving).collect();
            order.sort_by_key(|worker| (worker.started, worker.wid));
            job.phase = Phase::OneByOne {
                todo: order.into_iter().map(|worker| worker.pid).collect(),
                going: None,
            };
            return;
        }
        let wids: Vec<Wid> = self.slots.keys().copied().collect();
        for wid in wids {
            match self.slots.remove(&wid) {
                Some(Slot::Running {
                    pid,
                    started,
                    expires,
                    failures,
                }) => self.leaving.push(Leaving {
                    wid,
                    pid,
                    started,
                    farewell: Farewell::Retiring { expires, failures },
                    announce: false,
                    unheard_of: false,
                }),
                Some(Slot::Spawning { spawn, .. }) => {
                    self.leaving
                        .push(Leaving::unborn(wid, spawn, cx.now, false));
                }
                Some(Slot::Vacant { .. }) | None => {}
            }
        }
        self.fit_slots(cx, true);
        job.phase = Phase::Replacing { proven_at: None };
    }

    /// Why the new workers of a reload are no good, if they are not.
    pub(super) fn reload_failure(&self) -> Option<String> {
        let worst = self.slots.values().map(failures_of).max().unwrap_or(0);
        let exhausted = self
            .options
            .max_retry()
            .is_some_and(|most| self.tries >= most.max(1));
        (worst >= RELOAD_PATIENCE || exhausted || self.refusal.is_some()).then(|| {
            self.trouble
                .clone()
                .unwrap_or_else(|| "they do not stay".to_string())
        })
    }

    /// When all who run now have held out.
    pub(super) fn proven_at(&self) -> Time {
        let starts = self.slots.values().filter_map(|slot| match slot {
            Slot::Running { started, .. } => Some(started.plus_seconds(PROOF)),
            _ => None,
        });
        starts.max().unwrap_or_default()
    }

    pub(super) fn retiring(&self) -> Vec<Pid> {
        let mut all: Vec<&Leaving> = self
            .leaving
            .iter()
            .filter(|l| matches!(l.farewell, Farewell::Retiring { .. }))
            .collect();
        // circus asks the newest of the old ones first
        all.sort_by_key(|l| std::cmp::Reverse((l.started, l.wid)));
        all.into_iter().map(|l| l.pid).collect()
    }

    /// A reload has failed: the old workers stay as far as they are wanted, the new ones go.
    pub(super) fn take_back(&mut self, cx: &mut Context<'_>) {
        let wids: Vec<Wid> = self.slots.keys().copied().collect();
        let wanted = self.options.numprocesses() as usize;
        let mut back: Vec<Leaving> = Vec::new();
        self.leaving.retain(|l| {
            let stays = matches!(l.farewell, Farewell::Retiring { .. });
            if stays {
                back.push(*l);
            }
            !stays
        });
        back.sort_by_key(|l| std::cmp::Reverse(l.started));
        if back.len() >= wanted {
            for wid in wids {
                self.dismiss(cx, wid, false, false, None, None);
            }
        } else {
            // too few old ones: the slots that are over go, those without a worker first
            let spare = (wids.len() + back.len()).saturating_sub(wanted);
            let mut order: Vec<Wid> = wids;
            order.sort_by_key(|wid| match self.slots.get(wid) {
                Some(Slot::Running { .. }) => 2,
                Some(Slot::Spawning { .. }) => 1,
                _ => 0,
            });
            for wid in order.into_iter().take(spare) {
                self.dismiss(cx, wid, false, false, None, None);
            }
        }
        for (index, old) in back.into_iter().enumerate() {
            let Farewell::Retiring { expires, failures } = old.farewell else {
                continue;
            };
            if index < wanted {
                self.slots.insert(
                    old.wid,
                    Slot::Running {
                        pid: old.pid,
                        started: old.started,
                        expires,
                        failures,
                    },
                );
            } else {
                self.leaving.push(old);
                self.ask(cx, old.pid, None, None);
            }
        }
        // the options that have come back may want more workers than were there when the reload began
        self.fit_slots(cx, self.options.respawn());
    }
}

fn failures_of(slot: &Slot) -> u32 {
    match slot {
        Slot::Vacant { failures, .. }
        | Slot::Spawning { failures, .. }
        | Slot::Running { failures, .. } => *failures,
    }
}

pub(super) fn forget_failures(slot: &mut Slot) {
    match slot {
        Slot::Vacant { failures, .. }
        | Slot::Spawning { failures, .. }
        | Slot::Running { failures, .. } => *failures = 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::play::Play;
    use super::super::{Command, Input, Outcome, Pid};
    use crate::options::Value;

    /// A watcher that runs.
    fn running(numprocesses: u64, singleton: bool) -> Play {
        Play::new(numprocesses, &[("singleton", Value::from(singleton))])
    }

    impl Play {
        fn staying(&self) -> Vec<Pid> {
            let web = self.core.watcher("web").unwrap();
            web.workers()
                .iter()
                .filter(|w| !w.leaving)
                .map(|w| w.pid)
                .collect()
        }
    }

    fn reload() -> Command {
        Command::Reload {
            name: "web".to_string(),
            graceful: true,
            sequential: false,
        }
    }

    #[test]
    fn new_workers_that_die_at_once_do_not_take_the_place_of_the_old() {
        let mut play = running(2, false);
        play.replies.clear();
        play.command(reload());
        for _ in 0..20 {
            play.after(50_000);
            for pid in play.staying().into_iter().filter(|pid| *pid > 2) {
                play.step(Input::Exited { pid, code: 1 });
            }
        }
        assert_eq!(play.staying(), [1, 2]);
        assert!(!play.asked_to_go.contains(&1) && !play.asked_to_go.contains(&2));
        assert!(
            matches!(play.replies[..], [Outcome::Refused(_)]),
            "{:?}",
            play.replies
        );
    }

    #[test]
    fn the_old_workers_go_once_the_new_ones_have_held_out() {
        let mut play = running(2, false);
        play.command(reload());
        play.after(50_000);
        assert_eq!(play.asked_to_go, [] as [Pid; 0]);
        play.after(60_000);
        assert_eq!(play.asked_to_go, [2, 1]);
        assert_eq!(play.staying(), [3, 4]);
    }

    fn set_cmd() -> Command {
        Command::Set {
            name: "web".to_string(),
            changes: vec![("cmd".to_string(), Value::from("new"))],
        }
    }

    fn cmd_of(play: &Play) -> String {
        let web = play.core.watcher("web").unwrap();
        web.options().cmd().to_string()
    }

    #[test]
    fn options_whose_workers_do_not_stay_are_taken_back() {
        for singleton in [false, true] {
            let mut play = running(1, singleton);
            play.replies.clear();
            play.command(set_cmd());
            assert_eq!(cmd_of(&play), "new");
            if singleton {
                play.step(Input::Exited { pid: 1, code: -15 });
            }
            for _ in 0..20 {
                play.after(50_000);
                let bad = cmd_of(&play) == "new";
                for pid in play.staying().into_iter().filter(|pid| bad && *pid > 1) {
                    play.step(Input::Exited { pid, code: 1 });
                }
            }
            assert!(
                matches!(play.replies[..], [Outcome::Refused(_)]),
                "{:?}",
                play.replies
            );
            assert_eq!(cmd_of(&play), "x");
            assert_eq!(play.staying().len(), 1, "{singleton}");
            assert!(singleton || play.staying() == [1]);
        }
    }

    #[test]
    fn options_whose_workers_stay_are_kept() {
        for singleton in [false, true] {
            let mut play = running(1, singleton);
            play.replies.clear();
            play.command(set_cmd());
            if singleton {
                play.step(Input::Exited { pid: 1, code: -15 });
            }
            assert!(play.replies.is_empty(), "not before they have held out");
            play.after(150_000);
            if !singleton {
                play.step(Input::Exited { pid: 1, code: -15 });
            }
            assert_eq!(play.replies, [Outcome::Done]);
            assert_eq!((cmd_of(&play).as_str(), play.staying()), ("new", vec![2]));
        }
    }

    #[test]
    fn a_renewal_replaces_who_runs_and_starts_nobody() {
        let mut play = running(2, false);
        let changes = vec![("send_hup".to_string(), Value::from(true))];
        play.command(Command::Set {
            name: "web".to_string(),
            changes,
        });
        play.command(Command::Renew("web".to_string()));
        play.after(200_000);
        assert_eq!(play.staying(), [3, 4], "a SIGHUP does not do");
        play.command(Command::Stop("web".to_string()));
        for pid in 1..=4 {
            play.step(Input::Exited { pid, code: 0 });
        }
        play.replies.clear();
        play.command(Command::Renew("web".to_string()));
        play.after(200_000);
        assert_eq!(play.staying(), [] as [Pid; 0]);
        assert_eq!(play.replies, [Outcome::Done]);
    }

    #[test]
    fn a_singleton_never_has_two_workers() {
        let mut play = running(1, true);
        play.command(reload());
        play.after(500_000);
        assert_eq!((play.staying(), play.next_pid), (vec![], 2));
        play.step(Input::Exited { pid: 1, code: -15 });
        assert_eq!(play.staying(), [2]);
    }
}
