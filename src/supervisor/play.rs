//! A core with one watcher, and the world around it, in which every start succeeds at once: for the tests of this room.

use super::{Command, Effect, Event, Input, Outcome, Pid, Supervisor, Time};
use crate::options::{Value, WatcherOptions};

pub(super) struct Play {
    pub core: Supervisor,
    /// In microseconds.
    pub now: u64,
    pub next_pid: Pid,
    pub replies: Vec<Outcome>,
    pub events: Vec<Event>,
    /// Who was sent a signal, in order.
    pub asked_to_go: Vec<Pid>,
    /// How often it was told to wait for connections, or not any more.
    pub awaits: usize,
}

impl Play {
    /// The watcher `web` with these options is started.
    pub fn new(numprocesses: u64, more: &[(&str, Value)]) -> Play {
        let mut options = WatcherOptions::ini_defaults("web");
        let pairs = [
            ("cmd", Value::from("x")),
            ("numprocesses", Value::from(numprocesses)),
        ];
        for (key, value) in pairs.iter().chain(more) {
            options.put(key, value.clone()).unwrap();
        }
        let mut core = Supervisor::new(0.0, 1);
        core.load(options).unwrap();
        let mut play = Play {
            core,
            now: 0,
            next_pid: 1,
            replies: Vec::new(),
            events: Vec::new(),
            asked_to_go: Vec::new(),
            awaits: 0,
        };
        play.command(Command::Start("web".to_string()));
        play
    }

    pub fn command(&mut self, command: Command) {
        self.step(Input::Command { ticket: 1, command });
    }

    pub fn set(&mut self, key: &str, value: Value) {
        self.command(Command::Set {
            name: "web".to_string(),
            changes: vec![(key.to_string(), value)],
        });
    }

    pub fn step(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for effect in self.core.step(Time(self.now), input) {
                match effect {
                    Effect::Spawn { spawn, .. } => {
                        let pid = self.next_pid;
                        self.next_pid += 1;
                        inputs.push(Input::Started { spawn, pid });
                    }
                    Effect::Signal { pid, .. } => self.asked_to_go.push(pid),
                    Effect::Reply { outcome, .. } => self.replies.push(outcome),
                    Effect::Publish { event, .. } => self.events.push(event),
                    Effect::Await(_) => self.awaits += 1,
                    _ => {}
                }
            }
        }
    }

    pub fn after(&mut self, micros: u64) {
        self.now += micros;
        self.step(Input::Tick);
    }
}
