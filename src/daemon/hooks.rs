//! Hooks, as the shell sees to them: what the core asks for goes to who runs it ([`pool`]), what comes of it goes back, and
//! what hooks want of the daemon meanwhile is done.

mod extended;
mod pool;
mod processes;
pub mod trial;
mod view;

use super::answers::{Then, send};
use super::reload::Reload;
use super::router::Client;
use super::shell::{Shell, wall_clock};
use crate::options::{self, Hook, Map, Value, WatcherOptions};
use crate::python::hooks::Question;
use crate::python::interpreter::{interpreter, python_path};
use crate::supervisor::{HookCall, HookId, Input, WatcherId};
use crate::wire::command::Command;
use crate::wire::event;
use crate::wire::reply::{self, Errno};
use crate::wire::request::{Request, parse_request};
use pool::{Call, Event, Hooks, Owner, Target};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A request that waits until its hooks have been found.
struct Held {
    client: Client,
    request: Request,
    left: usize,
}

/// Why the shell itself has a hook looked for.
enum Errand {
    /// The daemon has started: whoever reads the log should know early.
    Start {
        /// Where it stands.
        place: String,
    },
    /// A request names it.
    Request {
        /// Which.
        number: u64,
        /// Its key.
        key: String,
    },
    /// Statistics are to be extended.
    Stats {
        /// For which request.
        number: u64,
        /// Those of this worker; of all, if not given.
        pid: Option<String>,
    },
}

/// What comes to the desk.
pub(super) enum News {
    /// Something has become of a process.
    Process(processes::News),
    /// Statistics that a hook may add to.
    Measured(Measured),
}

/// Statistics that a hook may add to.
pub(super) struct Measured {
    watcher: WatcherId,
    client: (Client, Value),
    properties: Result<Map<String, Value>, String>,
}

/// Everything about hooks that the shell keeps.
pub(super) struct Desk {
    pool: Hooks,
    /// What each call of the shell's own is for, how long it may take, and until when it may.
    errands: BTreeMap<u64, (Errand, Option<f64>, Option<Instant>)>,
    extensions: BTreeMap<u64, extended::Extension>,
    measurements: mpsc::UnboundedSender<Measured>,
    measured: mpsc::UnboundedReceiver<Measured>,
    held: BTreeMap<u64, Held>,
    /// How often each callable was set while the daemon ran: its module is read again then.
    generations: HashMap<String, u64>,
}

impl Desk {
    /// Nothing to do yet. Hooks are looked for in these directories after where Python looks by itself.
    pub fn new(environ: &BTreeMap<String, String>, paths: Vec<String>) -> Desk {
        let (measurements, measured) = mpsc::unbounded_channel();
        Desk {
            pool: Hooks::new(environ, paths),
            errands: BTreeMap::new(),
            extensions: BTreeMap::new(),
            measurements,
            measured,
            held: BTreeMap::new(),
            generations: HashMap::new(),
        }
    }

    /// What has happened; see [`Shell::hook_news`].
    pub async fn news(&mut self) -> Option<News> {
        tokio::select! {
            Some(news) = self.pool.news() => Some(News::Process(news)),
            Some(measured) = self.measured.recv() => Some(News::Measured(measured)),
            else => None,
        }
    }

    /// When [`Desk::tick`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        let deadlines = self.errands.values().filter_map(|(.., deadline)| *deadline);
        self.pool.due().into_iter().chain(deadlines).min()
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        let now = Instant::now();
        let late: Vec<(u64, f64)> = self
            .errands
            .iter()
            .filter(|(_, (.., deadline))| deadline.is_some_and(|time| time <= now))
            .map(|(number, (_, limit, _))| (*number, limit.unwrap_or(0.0)))
            .collect();
        for (number, limit) in late {
            let owner = Owner::Shell(number);
            self.pool.abandon(owner);
            let why = format!("no answer within {limit} s (hook_timeout)");
            self.pool.refuse(owner, why);
            if let Some((.., deadline)) = self.errands.get_mut(&number) {
                *deadline = None;
            }
        }
        self.pool.tick();
    }

    /// What the processes get as their environment, and where Python looks for modules at last.
    pub fn surroundings(&self) -> (Vec<(OsString, OsString)>, Vec<String>) {
        self.pool.surroundings()
    }

    /// These callables are new in the configuration: their modules are read again when they are called.
    pub fn read_again(&mut self, targets: &[String]) {
        for target in targets {
            *self.generations.entry(target.clone()).or_default() += 1;
        }
    }

    /// This interpreter is not the usual one any more.
    pub fn let_go(&mut self, interpreter: &str) {
        self.pool.let_go(interpreter);
    }

    fn errand(&mut self, number: u64, errand: Errand, limit: Option<f64>) {
        self.errands.insert(number, (errand, limit, None));
    }

    /// A process has ended; false if it has nothing to do with hooks.
    pub fn exited(&mut self, pid: i32, code: i32) -> bool {
        self.pool.exited(pid, code)
    }

    /// The daemon ends; processes that run hooks are let go.
    pub fn close(&mut self) {
        self.pool.close();
    }

    /// No such process is left.
    pub fn is_empty(&self) -> bool {
        self.pool.is_empty()
    }

    /// They have had time to go.
    pub fn kill_all(&mut self) {
        self.pool.kill_all();
    }
}

impl Shell {
    /// The core wants a hook to be called.
    pub(super) fn call_hook(&mut self, call: HookId, watcher: WatcherId, hook: HookCall) {
        let name = hook.name();
        let arguments = view::arguments(&hook, wall_clock());
        let owner = Owner::Core(call);
        match self.hook_message(watcher, name, &arguments) {
            Ok(mut message) => {
                if let HookCall::BeforeReap { pid, wid, started } = hook
                    && let Some(processes) = message["watcher"]["processes"].as_array_mut()
                {
                    // circus forgets a process only after this hook
                    let ago = self.now().since(started).as_secs_f64();
                    processes.insert(
                        0,
                        json!({
                            "pid": pid, "wid": wid, "started": wall_clock() - ago, "stopping": false}),
                    );
                }
                self.submit_hook(owner, watcher, name, message, &arguments, false)
            }
            Err(why) => self.hooks.pool.refuse(owner, why),
        }
    }

    /// Nobody waits for a hook any more.
    pub(super) fn abandon_hook(&mut self, call: HookId) {
        self.hooks.pool.abandon(Owner::Core(call));
    }

    fn hook_message(
        &self,
        id: WatcherId,
        name: &str,
        arguments: &Map<String, Value>,
    ) -> Result<Value, String> {
        let view = self.core.watcher_by_id(id).ok_or("the watcher is gone")?;
        let watcher = view::watcher(&view, &self.births, name == "before_start");
        Ok(json!({
            "hook": name, "kwargs": arguments, "watcher": watcher,
            "arbiter": view::arbiter(&self.effective)}))
    }

    fn submit_hook(
        &mut self,
        owner: Owner,
        id: WatcherId,
        name: &str,
        mut message: Value,
        arguments: &Map<String, Value>,
        wanted: bool,
    ) {
        let Some(view) = self.core.watcher_by_id(id) else {
            return self
                .hooks
                .pool
                .refuse(owner, "the watcher is gone".to_string());
        };
        let options = view.options();
        let Some(hook) = options.hook(name) else {
            return self
                .hooks
                .pool
                .refuse(owner, "there is no such hook".to_string());
        };
        let target = match self.who_runs(options, &hook) {
            Ok(target) => target,
            Err(why) => return self.hooks.pool.refuse(owner, why),
        };
        let mut variables = Vec::new();
        match &target {
            Target::Python(_) => {
                message["target"] = Value::from(hook.target);
                message["paths"] = python_path(options).into();
                let generation = self.hooks.generations.get(hook.target);
                message["generation"] = Value::from(generation.copied().unwrap_or(0));
            }
            Target::Exec(_) => {
                variables = view::variables(name, options, arguments, &self.effective);
            }
        }
        let label = format!("{} {name}", options.name);
        self.hooks.pool.submit(Call {
            owner,
            target,
            message,
            variables,
            wanted,
            label,
        });
    }

    fn who_runs(&self, options: &WatcherOptions, hook: &Hook<'_>) -> Result<Target, String> {
        Ok(match view::exec_argv(hook)? {
            Some(argv) => Target::Exec(argv),
            None => {
                let python = self.effective.python.as_deref();
                Target::Python(interpreter(options, python, &self.cwd))
            }
        })
    }

    /// Takes what has come to the desk.
    pub(super) fn hook_news(&mut self, news: News) {
        match news {
            News::Process(news) => self.hooks.pool.hear(news),
            News::Measured(measured) => self.extend(measured),
        }
    }

    /// Sees to everything that has come of hooks; true if there was anything.
    pub(super) fn hook_events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.hooks.pool.event() {
            any = true;
            match event {
                Event::Begun(Owner::Core(call)) => self.step(Input::HookBegun { call }),
                Event::Begun(Owner::Shell(number)) => {
                    if let Some((_, limit, deadline)) = self.hooks.errands.get_mut(&number) {
                        let time = limit.map(Duration::from_secs_f64);
                        *deadline = time.and_then(|time| Instant::now().checked_add(time));
                    }
                }
                Event::Answered {
                    owner: Owner::Core(call),
                    answer,
                    ..
                } => self.step(Input::HookDone { call, answer }),
                Event::Answered {
                    owner: Owner::Shell(number),
                    answer,
                    stats,
                } => self.errand_done(number, answer, stats),
                Event::Asked {
                    child,
                    number,
                    question,
                } => {
                    let value = self.answer_hook(question);
                    self.hooks.pool.reply(child, number, &value);
                }
            }
        }
        any
    }

    fn answer_hook(&mut self, question: Question) -> Value {
        match question {
            Question::Names => self.names().into(),
            Question::Watcher(name) => match self.core.watcher(&name) {
                Some(view) => view::watcher(&view, &self.births, false),
                None => Value::Null,
            },
            Question::Notify {
                watcher,
                topic,
                message,
            } => {
                let topic = format!("watcher.{}.{topic}", event::resource_name(&watcher));
                self.publisher
                    .publish(&topic, message.to_string().as_bytes());
                Value::Null
            }
            Question::Assign { watcher, changes } => {
                self.assign(&watcher, changes);
                Value::Null
            }
            Question::Request(request) => match self.request_of_hook(&request) {
                Ok(mut properties) => {
                    properties.insert("status".to_string(), "ok".into());
                    Value::Object(properties)
                }
                Err(reason) => json!({"status": "error", "reason": reason}),
            },
        }
    }

    /// A hook has assigned to attributes of a watcher.
    fn assign(&mut self, name: &str, changes: Map<String, Value>) {
        let Some(id) = self.core.watcher(name).map(|view| view.id()) else {
            return;
        };
        let mut good = Vec::new();
        for (key, value) in changes {
            match options::find(&key).map(|_| options::check_wire(&key, &value)) {
                Some(Err(why)) => tracing::warn!("{name}: a hook has assigned to {key}: {why}"),
                _ => good.push((key, value)),
            }
        }
        let changes = good;
        self.step(Input::Assign {
            watcher: id,
            changes,
        });
    }

    /// What a hook asks for as a client would. What takes time goes on after the answer: the hook's own watcher waits for it.
    fn request_of_hook(&mut self, request: &Value) -> Result<Map<String, Value>, String> {
        let request =
            parse_request(request.to_string().as_bytes()).map_err(|rejection| rejection.reason)?;
        match request.command {
            Command::ReloadConfig { .. } => {
                self.reload_config(None, Reload::default());
                Ok(Map::new())
            }
            Command::Signal {
                name,
                signum,
                pid,
                childpid,
                children,
                recursive,
            } => self
                .signal(&name, signum, pid, childpid, children, recursive)
                .map_err(|trouble| trouble.reason),
            command => match self.query(&command) {
                Some(answer) => answer.map_err(|trouble| trouble.reason),
                None => {
                    let (command, _, then) =
                        self.order(command).map_err(|trouble| trouble.reason)?;
                    let then = match then {
                        Then::Exit => Then::Exit,
                        _ => Then::Nothing,
                    };
                    self.ask(command, then);
                    Ok(Map::new())
                }
            },
        }
    }

    /// Looks for every Python hook of the configuration, so that a mistake is told before it matters.
    pub(super) fn look_for_hooks(&mut self) {
        let mut found = Vec::new();
        for (section, watcher) in self.config.watchers_by_section() {
            for (name, hook) in view::hooks_of(watcher) {
                let key = format!("hooks.{name}");
                let place = match self.config.source(section, &key) {
                    Some((file, line)) => {
                        format!("{} line {line}: [{section}] {key}", file.display())
                    }
                    None => format!("[{section}] {key}"),
                };
                found.push((watcher.clone(), hook.target.to_string(), place));
            }
        }
        for (watcher, target, place) in found {
            self.look_for_hook(&watcher, &target, Errand::Start { place });
        }
    }

    fn look_for_hook(&mut self, watcher: &WatcherOptions, target: &str, errand: Errand) {
        let number = self.number();
        self.hooks.errand(number, errand, watcher.hook_timeout());
        let owner = Owner::Shell(number);
        let hook = Hook {
            target,
            ignore_failure: false,
        };
        match self.who_runs(watcher, &hook) {
            Err(why) => self.hooks.pool.refuse(owner, why),
            // whether it can be executed is seen when it is
            Ok(Target::Exec(_)) => self.hooks.pool.consent(owner),
            Ok(python) => {
                let generation = self.hooks.generations.get(target).copied().unwrap_or(0);
                self.hooks.pool.submit(Call {
                    owner,
                    target: python,
                    message: json!({
                        "resolve": true, "target": target, "generation": generation,
                        "paths": python_path(watcher)}),
                    variables: Vec::new(),
                    wanted: false,
                    label: format!("{} hooks", watcher.name),
                });
            }
        }
    }

    /// Holds a request back that names hooks until these have been found; gives back what need not wait.
    pub(super) fn hold_for_hooks(
        &mut self,
        client: Client,
        request: Request,
    ) -> Option<(Client, Request)> {
        let (given, name) = match &request.command {
            Command::Set { name, options } => (options, name),
            Command::Add { name, options, .. } => (options, name),
            _ => return Some((client, request)),
        };
        let mut wanted = WatcherOptions::ini_defaults(name);
        if let Some(view) = self.core.watcher(name) {
            wanted = view.options().clone();
        }
        let before = wanted.clone();
        for (key, value) in given {
            if key == "hooks" || key.starts_with("hooks.") || key == "virtualenv" || key == "env" {
                // one that does not fit is refused where it is carried out
                let _ = wanted.change(key, value.clone());
            }
        }
        let named: Vec<(String, String)> = view::hooks_of(&wanted)
            .filter(|(name, _)| {
                let key = format!("hooks.{name}");
                given.contains_key(&key)
                    || before.hook(name) != wanted.hook(name)
                    || given
                        .get("hooks")
                        .is_some_and(|all| all.get(*name).is_some())
            })
            .map(|(name, hook)| (format!("hooks.{name}"), hook.target.to_string()))
            .collect();
        if named.is_empty() {
            return Some((client, request));
        }
        let number = self.number();
        let left = named.len();
        self.hooks.held.insert(
            number,
            Held {
                client,
                request,
                left,
            },
        );
        for (key, target) in named {
            *self.hooks.generations.entry(target.clone()).or_default() += 1;
            self.look_for_hook(&wanted, &target, Errand::Request { number, key });
        }
        None
    }

    fn errand_done(&mut self, number: u64, answer: Result<bool, String>, stats: Option<Value>) {
        match self
            .hooks
            .errands
            .remove(&number)
            .map(|(errand, ..)| errand)
        {
            None => {}
            Some(Errand::Stats { number, pid }) => {
                self.extended(number, pid.as_deref(), answer, stats);
            }
            Some(Errand::Start { place }) => {
                if let Err(why) = answer {
                    tracing::error!("{place}: it cannot be called: {why}");
                }
            }
            Some(Errand::Request { number, key }) => {
                let Some(mut held) = self.hooks.held.remove(&number) else {
                    return;
                };
                held.left -= 1;
                match answer {
                    Err(why) => {
                        if !held.request.cast {
                            let reason = format!("{key}: it cannot be called: {why}");
                            let id = &held.request.id;
                            let reply = reply::error(id, wall_clock(), Errno::Command, &reason);
                            send(&held.client, &reply);
                        }
                    }
                    Ok(_) if held.left == 0 => self.fulfil(held.client, held.request),
                    Ok(_) => {
                        self.hooks.held.insert(number, held);
                    }
                }
            }
        }
    }
}
