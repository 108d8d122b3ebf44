//! Watchers that start only when somebody connects (`on_demand`).
//!
//! Such a watcher, once started, *waits*: nobody runs until the shell says that one of its sockets has something to read
//! ([`super::Input::Demand`]). A worker that goes later is replaced at the next connection only, and when the last one has
//! gone the watcher waits again. As in circus a waiting watcher is `stopped` on the wire. Unlike there, a watcher that
//! somebody has stopped stays stopped: it waits again after a start.

use super::job::{Job, Work};
use super::watcher::{Context, Slot, Watcher};
use super::{Level, Status};

impl Watcher {
    /// A connection would bring up who is missing.
    pub fn waits(&self) -> bool {
        self.awaits
            && self.job.is_none()
            && self.queue.is_empty()
            && self.options.numprocesses() > 0
            && self.is_up_or_waiting()
    }

    /// A connection may start somebody.
    pub fn is_up_or_waiting(&self) -> bool {
        matches!(self.status, Status::Waiting | Status::Active)
    }

    /// There is something to read on one of its sockets.
    pub fn demanded(&mut self, cx: &mut Context<'_>) {
        if self.waits() && !cx.closing {
            self.queue.push_back(Job::internal(Work::Wake));
        }
    }

    /// A worker has gone, or is going, and nothing is under way that needs another one now.
    pub fn await_successors(&mut self) {
        self.awaits |= self.options.on_demand() && self.job.is_none();
    }

    /// It has been started, and nobody runs yet.
    pub fn begin_waiting(&mut self, cx: &mut Context<'_>) {
        self.tries = 0;
        self.trouble = None;
        self.outdated = None;
        self.slots.clear();
        self.awaits = true;
        self.now_waiting(cx);
    }

    /// Somebody has connected: brings up who is missing, with the pauses that earlier failures ask for.
    pub fn wake(&mut self, cx: &mut Context<'_>) {
        self.awaits = false;
        if self.status == Status::Waiting {
            self.status = Status::Starting;
            self.pace = cx.now;
        }
        self.fit_slots(cx, true);
    }

    /// Waits again when nobody is left.
    pub fn doze(&mut self, cx: &mut Context<'_>) {
        if !self.options.on_demand() {
            self.awaits = false;
        }
        let up = matches!(self.status, Status::Active | Status::Starting);
        let empty = self.leaving.is_empty()
            && self
                .slots
                .values()
                .all(|slot| matches!(slot, Slot::Vacant { .. }));
        if self.awaits && up && empty && self.job.is_none() && !cx.closing {
            self.now_waiting(cx);
        }
    }

    /// It is not to be woken any more.
    pub fn stop_waiting(&mut self) {
        self.awaits = false;
        if self.status == Status::Waiting {
            self.status = Status::Stopped;
            self.slots.clear();
        }
    }

    fn now_waiting(&mut self, cx: &mut Context<'_>) {
        self.gave_up = false;
        if self.status != Status::Waiting {
            self.status = Status::Waiting;
            let text = format!("{} waits for a connection", self.options.name);
            cx.effects.push(self.note(Level::Info, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::play::Play;
    use super::super::{Command, Event, Input, Outcome, Pid, Status};
    use crate::options::Value;

    /// A watcher on demand.
    fn on_demand(numprocesses: u64, more: &[(&str, Value)]) -> Play {
        let more = [&[("on_demand", Value::from(true))], more].concat();
        Play::new(numprocesses, &more)
    }

    impl Play {
        fn connect(&mut self) {
            let web = self.core.watcher("web").unwrap().id();
            self.step(Input::Demand { watcher: web });
        }

        fn exit(&mut self, pid: Pid) {
            self.step(Input::Exited { pid, code: 0 });
        }

        fn later(&mut self, seconds: u64) {
            self.after(seconds * 1_000_000);
        }

        fn pids(&self) -> Vec<Pid> {
            let web = self.core.watcher("web").unwrap();
            web.workers().iter().map(|w| w.pid).collect()
        }

        fn state(&self) -> (Status, bool) {
            let web = self.core.watcher("web").unwrap();
            (web.status(), web.waits())
        }
    }

    const NOBODY: [Pid; 0] = [];

    #[test]
    fn nobody_runs_before_the_first_connection() {
        let mut play = on_demand(2, &[]);
        assert_eq!(play.state(), (Status::Waiting, true));
        assert_eq!(Status::Waiting.as_str(), "stopped");
        let nothing = Outcome::Started {
            started: vec![],
            kept: vec![],
        };
        assert_eq!(play.replies, [nothing]);
        play.later(3600);
        assert_eq!(play.pids(), NOBODY);
        play.connect();
        assert_eq!(
            (play.pids(), play.state()),
            (vec![1, 2], (Status::Active, false))
        );
        play.connect();
        assert_eq!(play.pids(), [1, 2]);
        assert_eq!(play.awaits, 2, "it began to wait, and it stopped to wait");
        let starts = play.events.iter().filter(|e| **e == Event::Start);
        assert_eq!(starts.count(), 1);
    }

    #[test]
    fn who_is_gone_comes_back_at_the_next_connection() {
        let mut play = on_demand(2, &[]);
        play.connect();
        play.later(60);
        play.exit(1);
        play.later(60);
        assert_eq!(
            (play.pids(), play.state()),
            (vec![2], (Status::Active, true))
        );
        play.connect();
        assert_eq!(
            (play.pids(), play.state()),
            (vec![2, 3], (Status::Active, false))
        );
        play.later(60);
        play.exit(2);
        play.exit(3);
        play.later(60);
        assert_eq!(
            (play.pids(), play.state()),
            (vec![], (Status::Waiting, true))
        );
        assert!(!play.events.contains(&Event::Stop));
        play.connect();
        assert_eq!(play.pids(), [4, 5]);
    }

    #[test]
    fn workers_that_die_at_once_are_started_with_growing_pauses() {
        let mut play = on_demand(1, &[]);
        for _ in 0..200 {
            play.connect();
            for pid in play.pids() {
                play.exit(pid);
            }
            play.after(10_000);
        }
        assert!(play.next_pid < 12, "{} starts in 2 s", play.next_pid);
        assert!(play.next_pid > 2);
    }

    #[test]
    fn a_stop_stands_until_a_start() {
        let mut play = on_demand(1, &[]);
        play.command(Command::Stop("web".to_string()));
        assert_eq!(play.state(), (Status::Stopped, false));
        play.connect();
        assert_eq!(play.pids(), NOBODY);
        play.command(Command::Start("web".to_string()));
        assert_eq!(play.state(), (Status::Waiting, true));
        play.connect();
        play.command(Command::Stop("web".to_string()));
        play.exit(1);
        play.connect();
        assert_eq!(
            (play.pids(), play.state()),
            (vec![], (Status::Stopped, false))
        );
    }

    #[test]
    fn a_restart_waits_and_a_reload_replaces() {
        let mut play = on_demand(1, &[]);
        play.connect();
        play.command(Command::Reload {
            name: "web".to_string(),
            graceful: true,
            sequential: false,
        });
        play.later(1);
        play.exit(1);
        assert_eq!(
            (play.pids(), play.state()),
            (vec![2], (Status::Active, false))
        );
        play.command(Command::Restart("web".to_string()));
        play.exit(2);
        assert_eq!(
            (play.pids(), play.state()),
            (vec![], (Status::Waiting, true))
        );
        for command in [
            Command::Restart("web".to_string()),
            Command::Renew("web".to_string()),
            Command::Count {
                name: "web".to_string(),
                change: 1,
            },
        ] {
            let answers = play.replies.len();
            play.command(command);
            assert_eq!(
                (play.pids(), play.state()),
                (vec![], (Status::Waiting, true))
            );
            assert_eq!(play.replies.len(), answers + 1);
        }
        play.connect();
        assert_eq!(play.pids(), [3, 4]);
    }

    #[test]
    fn it_can_be_changed_while_it_waits_and_while_it_runs() {
        let mut play = on_demand(1, &[]);
        play.set("cmd", Value::from("other"));
        assert_eq!(play.state(), (Status::Waiting, true));
        play.set("on_demand", Value::from(false));
        assert_eq!(
            (play.pids(), play.state()),
            (vec![1], (Status::Active, false))
        );
        play.set("on_demand", Value::from(true));
        play.later(60);
        play.exit(1);
        assert_eq!(
            (play.pids(), play.state()),
            (vec![], (Status::Waiting, true))
        );
    }

    #[test]
    fn without_respawn_a_connection_still_wakes_it() {
        let mut play = on_demand(1, &[("respawn", Value::from(false))]);
        for pid in 1..4 {
            play.connect();
            assert_eq!(play.pids(), [pid]);
            play.later(60);
            play.exit(pid);
            assert_eq!(play.state(), (Status::Waiting, true));
        }
    }

    #[test]
    fn one_that_is_too_old_waits_for_its_successor() {
        let mut play = on_demand(1, &[("max_age", Value::from(10))]);
        play.connect();
        play.later(60);
        play.exit(1);
        assert_eq!(
            (play.pids(), play.state()),
            (vec![], (Status::Waiting, true))
        );
    }
}
