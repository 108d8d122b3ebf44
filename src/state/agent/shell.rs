//! The agent while it runs: one loop that takes in what the daemon, the files, people and the run under way have to
//! say, feeds the [`schedule`](super::schedule), and carries out what it decides. Runs are done by a thread of their
//! own, so that the agent can be asked at any time.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::address;
use super::control::{Control, ControlError, Request, refusal};
use super::ears::{self, Ears};
use super::hearing::{Heard, Sign};
use super::holding::WindowFile;
use super::memory::Memory;
use super::reports::Reports;
use super::schedule::{Effect, Hold, Input, News, Order, Rules, Schedule, Ticket, Time};
use super::telling::{self, Clock, moment};
use super::watch::{Change, Kind};
use super::work::{Done, Work};
use crate::notify::Notifier;

/// How long the first run waits for the daemon to be listened to: a run covers what happened before it began.
const FIRST_CONTACT: Duration = Duration::from_secs(1);
/// So many vain attempts in a row to hear the daemon, after it was heard, and it is gone rather than being started anew
/// by whoever looks after it: about a second.
const GONE: u32 = 5;
/// The schedule's clock begins here, so that what happened shortly before has a time too.
const BEGINNING: u64 = 1_000_000;

/// What an agent is told when it is made.
#[derive(Debug)]
pub struct Setup {
    /// Its habits.
    pub rules: Rules,
    /// What chance starts from.
    pub seed: u64,
    /// One run, then the end.
    pub once: bool,
    /// Where the last reports are kept.
    pub reports: Option<Reports>,
    /// The file of maintenance windows.
    pub window: Option<PathBuf>,
    /// A socket file to be asked at, besides the name in the abstract namespace.
    pub listen: Option<PathBuf>,
    /// Where it lives, if that is worth telling: `inside the daemon`.
    pub home: Option<&'static str>,
    /// How long the run under way may take once the agent is told to end.
    pub grace: Duration,
    /// Tells a service manager.
    pub notifier: Notifier,
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Another one is there, or the socket cannot be had.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Which daemon it is about cannot be told.
    #[error("{0}")]
    Endpoint(String),
    /// The system has no more threads or descriptors to give.
    #[error("cannot start the agent: {0}")]
    System(#[from] std::io::Error),
    /// It was told to end, and the run under way did not end in time.
    #[error("the run under way has not ended {0} s after the agent was told to; it was left")]
    Stuck(u64),
}

/// What is said to the agent, by whomever.
#[derive(Debug)]
pub(super) enum Message {
    Heard(Heard),
    Changed(Change),
    Asked(Request, Sender<Value>),
    Done(Box<Done>),
    RunNow,
    Stop(String),
}

/// Directs an agent from the same process.
#[derive(Debug, Clone)]
pub struct Handle(Sender<Message>);

/// What an agent hears.
#[derive(Debug)]
pub struct Inbox(Receiver<Message>);

/// The two ends of the way to an agent.
pub fn channels() -> (Handle, Inbox) {
    let (sender, receiver) = channel();
    (Handle(sender), Inbox(receiver))
}

impl Inbox {
    /// Waits for so long; true if the agent is told to end meanwhile, or nobody is left to tell it.
    pub fn stops_within(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            match self
                .0
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(Message::Stop(_)) | Err(RecvTimeoutError::Disconnected) => return true,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }
}

impl Handle {
    /// Ends the agent after the run under way; told twice, at once.
    pub fn stop(&self, why: &str) {
        self.send(Message::Stop(why.to_string()));
    }

    /// A run as soon as one may start.
    pub fn run_now(&self) {
        self.send(Message::RunNow);
    }

    /// An agent that has ended needs no messages.
    pub(super) fn send(&self, message: Message) {
        let _ = self.0.send(message);
    }
}

/// Runs an agent until it is told to end; `output` gets the line of every run. The last run's result is returned.
///
/// # Errors
/// See [`AgentError`]. Whatever goes wrong in a run is in its line instead.
pub fn run(
    setup: Setup,
    work: Work,
    handle: &Handle,
    inbox: &Inbox,
    output: &mut dyn FnMut(&Value),
) -> Result<Option<Done>, AgentError> {
    let settings = work.settings.clone();
    let daemon = address::endpoint(&settings).map_err(AgentError::Endpoint)?;
    let normalized = address::normalized(&daemon, &settings.cwd);
    let requests = handle.clone();
    let (mut control, door) = Control::claim(
        &address::socket_name(&normalized),
        &normalized,
        move |request, answer| requests.send(Message::Asked(request, answer)),
    )?;
    if let Some(path) = &setup.listen {
        control.also_at(path, &door)?;
    }
    let (orders, worker_orders) = channel();
    let about = json!({
        "pid": std::process::id(),
        "uid": nix::unistd::geteuid().as_raw(),
        "version": env!("CARGO_PKG_VERSION"),
        "home": setup.home,
        "since": moment(jiff::Timestamp::now()),
        "endpoint": normalized,
        "desired": settings.cwd.join(&work.desired).display().to_string(),
        "config": settings.config.as_ref().map(|path| settings.cwd.join(path).display().to_string()),
    });
    let ears = Ears::open(&setup, &work, handle)?;
    ears::spawn_worker(work, worker_orders, handle.clone())?;
    let memory = Memory::new(setup.reports.as_ref().map(|r| r.directory().to_path_buf()));
    let mut shell = Shell {
        schedule: Schedule::new(setup.rules.clone(), setup.seed),
        window: WindowFile::open(setup.window.as_ref().map(|path| settings.cwd.join(path))),
        origin: Instant::now(),
        about,
        memory,
        orders,
        waiting: HashMap::new(),
        next_ticket: 1,
        current: None,
        cause: None,
        last: None,
        last_line: Value::Null,
        drift: 0,
        daemon: None,
        starts_daemon: settings.start_daemon,
        vain: None,
        stopping: None,
        over: false,
        complained: false,
        setup,
        output,
    };
    let result = shell.run(&inbox.0);
    ears.close();
    drop(control);
    result.map(|()| shell.last)
}

/// A run under way.
struct Current {
    order: Order,
    began: jiff::Timestamp,
    started: Instant,
    cause: Option<String>,
    hold: Hold,
}

pub(super) struct Shell<'a> {
    pub(super) setup: Setup,
    pub(super) schedule: Schedule,
    pub(super) window: WindowFile,
    pub(super) memory: Memory,
    origin: Instant,
    /// What never changes, for the status.
    pub(super) about: Value,
    orders: Sender<Order>,
    /// Who waits for a run's line.
    pub(super) waiting: HashMap<Ticket, Sender<Value>>,
    next_ticket: Ticket,
    current: Option<Current>,
    /// The first event since the last run began.
    cause: Option<String>,
    last: Option<Done>,
    pub(super) last_line: Value,
    /// Runs that found drift.
    pub(super) drift: u64,
    /// Listening to the daemon, or why not; nothing is known yet.
    pub(super) daemon: Option<Result<(), String>>,
    /// A run starts the daemon if there is none.
    starts_daemon: bool,
    /// Vain attempts to hear the daemon since it was heard.
    vain: Option<u32>,
    /// When the run under way is left.
    stopping: Option<Instant>,
    over: bool,
    /// That reports cannot be kept was said.
    complained: bool,
    output: &'a mut dyn FnMut(&Value),
}

impl Shell<'_> {
    fn run(&mut self, inbox: &Receiver<Message>) -> Result<(), AgentError> {
        self.recall();
        self.look_at_window();
        if let Some(problem) = self.window.problem() {
            tracing::warn!(
                "agent: maintenance window: {problem}; nothing is changed until that is mended"
            );
        }
        let contact = Instant::now() + FIRST_CONTACT;
        while !self.setup.once && self.daemon.is_none() {
            match inbox.recv_timeout(contact.saturating_duration_since(Instant::now())) {
                Ok(message) => self.take(message),
                Err(_) => break,
            }
        }
        tracing::info!(
            "agent for {} started, desired state {}",
            self.about["endpoint"].as_str().unwrap_or_default(),
            self.about["desired"].as_str().unwrap_or_default()
        );
        self.setup.notifier.tell("READY=1");
        self.step(Input::Start);
        if self.setup.once && self.current.is_none() {
            tracing::warn!("agent: paused, or in a maintenance window: nothing was done");
            return Ok(());
        }
        while !self.over {
            let certain = self.look_at_window();
            match inbox.recv_timeout(self.patience(certain)) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {
                    if self.stopping.is_some_and(|until| until <= Instant::now()) {
                        return Err(AgentError::Stuck(self.setup.grace.as_secs()));
                    }
                    self.step(Input::Wake);
                }
                // This loop holds a handle itself through its threads; without any there is nothing to hear.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        self.setup.notifier.tell("STOPPING=1");
        Ok(())
    }

    pub(super) fn now(&self) -> Time {
        let elapsed = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX / 2);
        Time(BEGINNING + elapsed)
    }

    pub(super) fn clock(&self) -> Clock {
        Clock {
            wall: jiff::Timestamp::now(),
            now: self.now(),
        }
    }

    /// How long nothing is to be done.
    fn patience(&self, certain: Option<Duration>) -> Duration {
        let now = self.now();
        let wake = self
            .schedule
            .next_wake()
            .map(|wake| Duration::from_millis(wake.since(now)));
        let stop = self
            .stopping
            .map(|until| until.saturating_duration_since(Instant::now()));
        wake.into_iter()
            .chain(certain)
            .chain(stop)
            .min()
            .unwrap_or(Duration::from_secs(86_400))
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Heard(heard) => self.heard(heard),
            Message::Changed(change) => self.changed(change),
            Message::Asked(request, answer) => self.asked(request, answer),
            Message::Done(done) => self.done(*done),
            Message::RunNow => {
                let ticket = self.ticket();
                self.step(Input::RunNow(ticket));
            }
            Message::Stop(why) if self.stopping.is_some() => {
                tracing::warn!("agent: {why} again: the run under way is left");
                self.stopping = Some(Instant::now());
            }
            Message::Stop(why) => {
                tracing::info!("agent: {why}, ending");
                self.stopping = Some(Instant::now() + self.setup.grace);
                self.step(Input::Stop);
            }
        }
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Connected => {
                if !matches!(self.daemon, None | Some(Ok(()))) {
                    tracing::info!("agent: the daemon can be heard");
                }
                self.daemon = Some(Ok(()));
                self.vain = Some(0);
                self.cause.get_or_insert("daemon".to_string());
                self.step(Input::Connected);
            }
            Heard::Lost(reason) => {
                if !matches!(self.daemon, Some(Err(_))) {
                    tracing::warn!("agent: the daemon's events cannot be heard: {reason}");
                }
                self.daemon = Some(Err(reason));
                if let Some(vain) = self.vain.as_mut().filter(|_| self.starts_daemon) {
                    *vain += 1;
                    if *vain == GONE {
                        self.vain = None;
                        self.cause.get_or_insert("daemon".to_string());
                        self.step(Input::Gone);
                    }
                }
            }
            Heard::Event(Sign {
                topic,
                about,
                order,
                age,
            }) => {
                self.cause.get_or_insert(topic);
                let age = Duration::try_from_secs_f64(age).unwrap_or_default();
                let at = self.before(age);
                self.step(Input::Heard(News { at, about, order }));
            }
        }
    }

    fn before(&self, age: Duration) -> Time {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Time(self.now().0.saturating_sub(age))
    }

    fn changed(&mut self, change: Change) {
        match change.kind {
            Kind::Desired => self.step(Input::Desired),
            Kind::Config => {
                self.cause.get_or_insert("file".to_string());
                let at = self.before(change.at.elapsed());
                self.step(Input::Config(at));
            }
            Kind::Window => {
                if let Some(problem) = self.window.read() {
                    tracing::warn!(
                        "agent: maintenance window: {problem}; nothing is changed until that is mended"
                    );
                }
                self.look_at_window();
            }
        }
    }

    /// Tells the schedule what the window asks for now; returns how long that is certain.
    fn look_at_window(&mut self) -> Option<Duration> {
        let (hold, certain) = self.window.now(&jiff::Zoned::now());
        if hold != self.schedule.hold() {
            match hold {
                Hold::Free => tracing::info!("agent: the maintenance window is over"),
                Hold::Audit => {
                    tracing::info!("agent: in a maintenance window, drift is only reported")
                }
                Hold::Off => tracing::info!("agent: in a maintenance window, no runs"),
            }
            self.step(Input::Hold(hold));
        }
        certain
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        self.next_ticket
    }

    pub(super) fn step(&mut self, input: Input) {
        let paused = self.schedule.paused().is_some();
        let effects = self.schedule.step(self.now(), input);
        if paused
            && self.schedule.paused().is_none()
            && let Err(problem) = self.memory.remember(None)
        {
            tracing::warn!("{problem}");
        }
        for effect in effects {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Run(order) => {
                let cause = self.cause.take();
                let automatic = order.trigger.as_str() == "event";
                self.current = Some(Current {
                    order: order.clone(),
                    began: jiff::Timestamp::now(),
                    started: Instant::now(),
                    cause: cause.filter(|_| automatic),
                    hold: self.schedule.hold(),
                });
                // The worker ends only with this loop.
                let _ = self.orders.send(order);
            }
            Effect::Answer(ticket) => {
                if let Some(answer) = self.waiting.remove(&ticket) {
                    let _ = answer.send(json!({"status": "ok", "line": self.last_line}));
                }
            }
            Effect::Refuse(ticket, why) => {
                let reason = self.why_not(why);
                match self.waiting.remove(&ticket) {
                    Some(answer) => {
                        let _ = answer.send(refusal(reason));
                    }
                    None => tracing::warn!("agent: no run now: {reason}"),
                }
            }
            Effect::Fight {
                name,
                repairs,
                until,
            } => tracing::warn!(
                "agent: somebody fights over {name}: it was repaired {repairs} times within {} s; it is left alone until {}",
                self.setup.rules.fight_within / 1000,
                moment(self.clock().at(until))
            ),
            Effect::Exit => self.over = true,
        }
    }

    fn done(&mut self, done: Done) {
        let Some(current) = self.current.take() else {
            return;
        };
        self.drift += u64::from(done.changed());
        let effects = self.schedule.step(self.now(), Input::Ended(done.outcome()));
        let run = telling::Run {
            order: &current.order,
            began: current.began,
            duration: current.started.elapsed().as_secs_f64(),
            cause: current.cause.as_deref(),
            hold: current.hold,
            done: &done,
            effects: &effects,
        };
        self.last_line = telling::line(&run, self.clock());
        (self.output)(&telling::brief(&self.last_line));
        self.note(&current, &done);
        self.last = Some(done);
        for effect in effects {
            self.perform(effect);
        }
        if self.setup.once && self.current.is_none() {
            self.step(Input::Stop);
        }
    }

    /// What a run leaves behind besides its line.
    fn note(&mut self, current: &Current, done: &Done) {
        let text = format!(
            "run {} ({}): {}",
            current.order.run,
            current.order.trigger.as_str(),
            done.message()
        );
        self.setup.notifier.status(&text);
        match (done.failed(), done.changed()) {
            (true, _) => tracing::warn!("agent: {text}"),
            (false, true) => tracing::info!("agent: {text}"),
            (false, false) => tracing::debug!("agent: {text}"),
        }
        let Some(reports) = &self.setup.reports else {
            return;
        };
        let stamp = current.began.strftime("%Y%m%dT%H%M%S").to_string();
        let kept = reports.keep(current.order.run, &stamp, &self.last_line.to_string());
        match kept {
            Ok(()) => self.complained = false,
            Err(error) if !self.complained => {
                self.complained = true;
                tracing::warn!("{error}");
            }
            Err(_) => {}
        }
    }
}
