//! Who runs which hook: one Python process for all of them while all goes well, more while one takes long, a process for
//! each call of an `exec:` hook.
//!
//! A call is given to one process and answered once: by it, or for it when it dies, says what is no message, or has its
//! time. The others that wait are not touched by that. A process that was in the middle of something when its time was
//! up is killed with what it has started for this call; what earlier calls have started stays.

use super::processes::{self, ChildId, Label, Line, News, Talk};
use crate::daemon::spawn;
use crate::options::Value;
use crate::python;
use crate::python::hooks::{Question, Said};
use crate::stats;
use crate::supervisor::{HookId, Pid};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsString;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A Python process that has been at one call for so long gets company if others wait.
const PATIENCE: Duration = Duration::from_millis(250);
/// Python processes at the most.
const MOST_PYTHON: usize = 8;
/// Calls of `exec:` hooks at a time, at the most.
const MOST_EXEC: usize = 32;
/// Bytes that an `exec:` hook may print as statistics.
const MOST_OUTPUT: usize = 1024 * 1024;
/// News that wait for the supervision thread.
const NEWS: usize = 64;
/// What a process said before it ended is heard within this time.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Who asked for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The core.
    Core(HookId),
    /// The shell, under a number of its own.
    Shell(u64),
}

/// What runs a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A Python callable: the interpreter.
    Python(String),
    /// A program with its arguments.
    Exec(Vec<String>),
}

/// A hook to be run.
#[derive(Debug)]
pub struct Call {
    /// Who asked.
    pub owner: Owner,
    /// Who runs it.
    pub target: Target,
    /// The message to the Python process, without the number of the call; or what a program gets on standard input.
    pub message: Value,
    /// More variables for a program.
    pub variables: Vec<(String, String)>,
    /// What it prints are statistics.
    pub wanted: bool,
    /// What its lines in the log begin with.
    pub label: String,
}

/// What the shell has to see to.
#[derive(Debug)]
pub enum Event {
    /// Somebody is at a call now.
    Begun(Owner),
    /// A call is done.
    Answered {
        /// Which.
        owner: Owner,
        /// What the hook said, or why it failed.
        answer: Result<bool, String>,
        /// The statistics: what a Python hook has left of those it was given, or what a program has printed.
        stats: Option<Value>,
    },
    /// A hook wants something; [`Hooks::reply`].
    Asked {
        /// Who.
        child: ChildId,
        /// Under this number.
        number: u64,
        /// What.
        question: Question,
    },
}

#[derive(Debug)]
enum Kind {
    Python {
        interpreter: String,
        label: Label,
    },
    Exec {
        output: Option<Vec<u8>>,
        wanted: bool,
    },
}

#[derive(Debug)]
struct Child {
    kind: Kind,
    /// `None` once nothing is to be sent or heard any more.
    line: Option<Line>,
    pid: Option<Pid>,
    /// The call it is at: whose, its number, and since when.
    work: Option<(Owner, u64, Instant)>,
    /// What its calls have started and left behind.
    left: Vec<Pid>,
    /// It is to be killed as soon as it is known.
    doomed: bool,
    /// How it has ended, and when that was seen.
    ended: Option<(i32, Instant)>,
}

/// The processes that run hooks, and the calls that wait for one.
pub struct Hooks {
    children: BTreeMap<ChildId, Child>,
    waiting: VecDeque<Call>,
    next: u64,
    env: Vec<(OsString, OsString)>,
    /// Directories where Python looks for modules at last.
    paths: Vec<String>,
    sender: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    events: VecDeque<Event>,
    /// Exits of processes whose start has not been heard of yet.
    early: HashMap<Pid, i32>,
}

impl Hooks {
    /// No process yet. `environ` is what they get, `paths` is where Python looks for modules at last.
    pub fn new(environ: &BTreeMap<String, String>, paths: Vec<String>) -> Hooks {
        let (sender, news) = mpsc::channel(NEWS);
        Hooks {
            children: BTreeMap::new(),
            waiting: VecDeque::new(),
            next: 0,
            env: environ
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            paths,
            sender,
            news,
            events: VecDeque::new(),
            early: HashMap::new(),
        }
    }

    /// What the processes get as their environment, and where Python looks for modules at last.
    pub fn surroundings(&self) -> (Vec<(OsString, OsString)>, Vec<String>) {
        (self.env.clone(), self.paths.clone())
    }

    /// The idle processes of an interpreter go; another one starts at the next need.
    pub fn let_go(&mut self, interpreter: &str) {
        let idle = self
            .pythons(interpreter)
            .filter(|(_, child)| child.work.is_none());
        let idle: Vec<ChildId> = idle.map(|(id, _)| id).collect();
        for id in idle {
            if let Some(child) = self.children.get_mut(&id) {
                child.line = None;
            }
        }
    }

    /// Runs a hook; what comes of it is an [`Event`].
    pub fn submit(&mut self, call: Call) {
        self.waiting.push_back(call);
        self.dispatch();
    }

    /// Answers a call that cannot be made: why.
    pub fn refuse(&mut self, owner: Owner, why: String) {
        self.events.push_back(Event::Answered {
            owner,
            answer: Err(why),
            stats: None,
        });
    }

    /// Answers a call that need not be made.
    pub fn consent(&mut self, owner: Owner) {
        self.events.push_back(Event::Answered {
            owner,
            answer: Ok(true),
            stats: None,
        });
    }

    /// Nobody waits for this call any more.
    pub fn abandon(&mut self, owner: Owner) {
        self.waiting.retain(|call| call.owner != owner);
        let at_it = |child: &Child| child.work.is_some_and(|(whose, ..)| whose == owner);
        let found = self.children.iter().find(|(_, child)| at_it(child));
        if let Some(id) = found.map(|(id, _)| *id) {
            self.end(id);
        }
        self.dispatch();
    }

    /// The next thing to see to, if any.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Waits for news; they are to be given to [`Hooks::hear`].
    pub async fn news(&mut self) -> Option<News> {
        self.news.recv().await
    }

    /// Answers [`Event::Asked`].
    pub fn reply(&self, child: ChildId, number: u64, value: &Value) {
        if let Some(line) = self.children.get(&child).and_then(|c| c.line.as_ref()) {
            line.send(python::hooks::answer(number, value));
        }
    }

    /// Some process is being started: an exit that nobody knows may be its.
    pub fn starting(&self) -> bool {
        let unborn = |child: &Child| child.pid.is_none() && child.ended.is_none();
        self.children.values().any(unborn)
    }

    /// No process is left.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// When [`Hooks::tick`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        let mut due: Option<Instant> = None;
        for child in self.children.values() {
            let at = match (child.ended, child.work) {
                (Some((_, when)), _) => Some(when + LAST_WORDS),
                (None, Some((_, _, since))) if !self.waiting.is_empty() => Some(since + PATIENCE)
                    // there is only one moment at which it has become too long
                    .filter(|moment| *moment > Instant::now()),
                _ => None,
            };
            due = due.into_iter().chain(at).min();
        }
        due
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        let now = Instant::now();
        let mute: Vec<ChildId> = self
            .children
            .iter()
            .filter(|(_, c)| c.ended.is_some_and(|(_, when)| when + LAST_WORDS <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in mute {
            self.finish(id);
        }
        self.dispatch();
    }

    /// Takes news.
    pub fn hear(&mut self, news: News) {
        match news {
            News::Born(id, Ok(pid)) => {
                let Some(child) = self.children.get_mut(&id) else {
                    return;
                };
                child.pid = Some(pid);
                let doomed = child.doomed;
                if let Some(code) = self.early.remove(&pid) {
                    self.ended(id, code);
                } else if doomed {
                    self.end(id);
                }
                if !self.starting() {
                    self.early.clear();
                }
            }
            News::Born(id, Err(why)) => {
                if let Some(child) = self.children.remove(&id) {
                    self.answer(child.work, Err(why), None);
                }
            }
            News::Line(id, line) => self.said(id, &line),
            News::Output(id, bytes) => {
                if let Some(child) = self.children.get_mut(&id)
                    && let Kind::Exec { output, .. } = &mut child.kind
                {
                    *output = Some(bytes);
                    if child.ended.is_some() {
                        self.finish(id);
                    }
                }
            }
            News::TooLong(id) => self.fail(id, "it said more than it may"),
            News::Closed(id) => match self.children.get(&id).map(|child| child.ended) {
                Some(Some(_)) => self.finish(id),
                // it cannot be spoken with any more; how it ends is heard of
                Some(None) => self.end(id),
                None => {}
            },
        }
        self.dispatch();
    }

    /// A process has ended; false if it is none of these.
    pub fn exited(&mut self, pid: Pid, code: i32) -> bool {
        let found = self.children.iter().find(|(_, c)| c.pid == Some(pid));
        let Some(id) = found.map(|(id, _)| *id) else {
            if self.starting() {
                self.early.insert(pid, code);
            }
            return false;
        };
        self.ended(id, code);
        self.dispatch();
        true
    }

    /// The daemon ends: the Python processes are let go.
    pub fn close(&mut self) {
        self.waiting.clear();
        for child in self.children.values_mut() {
            child.line = None;
        }
    }

    /// They have had time to go.
    pub fn kill_all(&mut self) {
        let ids: Vec<ChildId> = self.children.keys().copied().collect();
        for id in ids {
            self.end(id);
        }
    }

    fn ended(&mut self, id: ChildId, code: i32) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        child.ended = Some((code, Instant::now()));
        let heard_out = match &child.kind {
            Kind::Exec { output, wanted } => !wanted || output.is_some(),
            // the last of its lines may still be on its way
            Kind::Python { .. } => child.work.is_none() || child.line.is_none(),
        };
        if heard_out {
            self.finish(id);
        }
    }

    /// A process has ended and nothing is heard of it any more.
    fn finish(&mut self, id: ChildId) {
        let Some(child) = self.children.remove(&id) else {
            return;
        };
        let Some((code, _)) = child.ended else {
            return;
        };
        let end = match code {
            code if code < 0 => format!("was killed by signal {}", -code),
            code => format!("ended with exit code {code}"),
        };
        match child.kind {
            Kind::Python { .. } => {
                let why = format!("the Python process that ran it {end}");
                self.answer(child.work, Err(why), None);
            }
            Kind::Exec { output, wanted } => {
                let stats = output.map(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
                let answer = match code {
                    0 if wanted && !matches!(stats, Some(Some(_))) => {
                        Err("it printed no JSON".to_string())
                    }
                    0 => Ok(true),
                    1 => Ok(false),
                    _ => Err(format!("it {end}")),
                };
                self.answer(child.work, answer, stats.flatten());
            }
        }
    }

    fn answer(
        &mut self,
        work: Option<(Owner, u64, Instant)>,
        answer: Result<bool, String>,
        stats: Option<Value>,
    ) {
        if let Some((owner, ..)) = work {
            self.events.push_back(Event::Answered {
                owner,
                answer,
                stats,
            });
        }
    }

    fn said(&mut self, id: ChildId, line: &[u8]) {
        match Said::parse(line) {
            Some(Said::Ready(version)) => {
                tracing::debug!("hooks run in Python {version}");
            }
            Some(Said::Ask { number, question }) => self.events.push_back(Event::Asked {
                child: id,
                number,
                question,
            }),
            Some(Said::Done {
                call,
                answer,
                left,
                stats,
            }) => {
                let Some(child) = self.children.get_mut(&id) else {
                    return;
                };
                child.left = left;
                match child.work.take_if(|(_, number, _)| *number == call) {
                    Some(work) => {
                        self.answer(Some(work), answer, stats.map(Value::Array));
                        self.retire(id);
                    }
                    None => self.fail(id, "it answered what it was not asked"),
                }
            }
            None => self.fail(id, "it wrote what is no message to the daemon"),
        }
    }

    /// Something is wrong with a process: its call fails and it goes.
    fn fail(&mut self, id: ChildId, why: &str) {
        self.end(id);
        if let Some(child) = self.children.get_mut(&id) {
            let work = child.work.take();
            self.answer(work, Err(why.to_string()), None);
        }
    }

    /// Kills a process and what it has started since its call began.
    fn end(&mut self, id: ChildId) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        child.line = None;
        child.doomed = true;
        let (Some(pid), None) = (child.pid, child.ended) else {
            return;
        };
        let spared: Vec<Pid> = match child.left.as_slice() {
            [] => Vec::new(),
            left => [left, &stats::descendants(left, true)].concat(),
        };
        let mut below = stats::descendants(&[pid], true);
        below.retain(|pid| !spared.contains(pid));
        for target in std::iter::once(pid).chain(below) {
            // one that has just gone is no news
            let _ = spawn::send_signal(target, 9);
        }
    }

    /// One idle Python process for each interpreter is enough; the oldest knows most.
    fn retire(&mut self, id: ChildId) {
        let Some(Child {
            kind: Kind::Python { interpreter, .. },
            ..
        }) = self.children.get(&id)
        else {
            return;
        };
        let interpreter = interpreter.clone();
        if self
            .waiting
            .iter()
            .any(|call| call.target == Target::Python(interpreter.clone()))
        {
            return;
        }
        let idle: Vec<ChildId> = self
            .pythons(&interpreter)
            .filter(|(_, child)| child.work.is_none())
            .map(|(id, _)| id)
            .collect();
        for id in idle.into_iter().skip(1) {
            if let Some(child) = self.children.get_mut(&id) {
                child.line = None;
            }
        }
    }

    /// The Python processes of an interpreter that can be spoken with, the oldest first.
    fn pythons(&self, wanted: &str) -> impl Iterator<Item = (ChildId, &Child)> {
        self.children
            .iter()
            .filter_map(move |(id, child)| match &child.kind {
                Kind::Python { interpreter, .. } if interpreter == wanted => {
                    (child.line.is_some() && !child.doomed && child.ended.is_none())
                        .then_some((*id, child))
                }
                _ => None,
            })
    }

    /// Gives the calls that wait to whom can take them.
    fn dispatch(&mut self) {
        let mut rest = VecDeque::new();
        while let Some(call) = self.waiting.pop_front() {
            let taker = match &call.target {
                Target::Python(interpreter) => self.python_for(interpreter),
                Target::Exec(_) => self.exec_has_room().then_some(None),
            };
            match taker {
                Some(Some(id)) => self.give(id, call),
                Some(None) => self.start(call),
                None => rest.push_back(call),
            }
        }
        self.waiting = rest;
    }

    /// An idle process for a call, or `None` in its place if one is to be started; nothing if the call has to wait.
    fn python_for(&self, interpreter: &str) -> Option<Option<ChildId>> {
        let mut busy = 0;
        let now = Instant::now();
        let mut hasty = false;
        for (id, child) in self.pythons(interpreter) {
            match child.work {
                None => return Some(Some(id)),
                Some((_, _, since)) => {
                    busy += 1;
                    hasty |= since + PATIENCE > now;
                }
            }
        }
        let pythons = |child: &&Child| matches!(child.kind, Kind::Python { .. });
        let all = self.children.values().filter(pythons).count();
        let room = all < MOST_PYTHON;
        (busy == 0 && (room || !self.starting()) || room && !hasty).then_some(None)
    }

    fn exec_has_room(&self) -> bool {
        let exec = |child: &&Child| matches!(child.kind, Kind::Exec { .. });
        self.children.values().filter(exec).count() < MOST_EXEC
    }

    fn give(&mut self, id: ChildId, call: Call) {
        self.next += 1;
        let number = self.next;
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        let mut message = call.message;
        message["call"] = Value::from(number);
        if let Kind::Python { label, .. } = &child.kind {
            label.set(&call.label);
        }
        if let Some(line) = &child.line {
            line.send(format!("{message}\n"));
        }
        child.work = Some((call.owner, number, Instant::now()));
        self.events.push_back(Event::Begun(call.owner));
    }

    fn start(&mut self, call: Call) {
        self.next += 1;
        let id = self.next;
        let label = Label::new(&call.label);
        let mut env = self.env.clone();
        let (kind, talk) = match call.target.clone() {
            Target::Python(interpreter) => {
                let program = interpreter.clone();
                let talk = Talk::Lines {
                    argv: Box::new(move |fd| python::interpreter::bootstrap(&program, fd)),
                    longest: python::hooks::LONGEST,
                };
                let label = label.clone();
                (Kind::Python { interpreter, label }, talk)
            }
            Target::Exec(argv) => {
                for (name, value) in &call.variables {
                    env.retain(|(known, _)| known.as_os_str() != name.as_str());
                    env.push((name.into(), value.into()));
                }
                let talk = Talk::Text {
                    argv,
                    input: format!("{}\n", call.message),
                    wanted: call.wanted.then_some(MOST_OUTPUT),
                };
                let kind = Kind::Exec {
                    output: None,
                    wanted: call.wanted,
                };
                (kind, talk)
            }
        };
        let line = match processes::start(id, talk, env, &label, &self.sender) {
            Ok(line) => line,
            Err(error) => {
                let work = (call.owner, 0, Instant::now());
                self.answer(Some(work), Err(format!("no process for it: {error}")), None);
                return;
            }
        };
        let python = matches!(kind, Kind::Python { .. });
        if python {
            line.send(python::hooks::greeting(&self.paths));
        }
        let owner = call.owner;
        self.children.insert(
            id,
            Child {
                kind,
                line: Some(line),
                pid: None,
                work: Some((owner, 0, Instant::now())),
                left: Vec::new(),
                doomed: false,
                ended: None,
            },
        );
        if python {
            self.give(id, call);
        } else {
            self.events.push_back(Event::Begun(owner));
        }
    }
}
