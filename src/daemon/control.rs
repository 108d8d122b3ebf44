//! Requests of clients: queries are answered from the core at once, commands are given to it.

use super::answers::{Shape, Then, Waiting, send};
use super::lookups::Question;
use super::reload::Reload;
use super::router::{Call, Client, Content};
use super::sampling::Work;
use super::shell::{Shell, wall_clock};
use super::spawn;
use crate::config::enter_virtualenv;
use crate::options::{ListenFds, Map, Value};
use crate::stats;
use crate::supervisor::{self, Input, Pid, Scope, View};
use crate::wire::brief;
use crate::wire::command::Command;
use crate::wire::matching::{Match, Selection};
use crate::wire::reply::{self, Errno};
use crate::wire::request::{Request, parse_request};

/// A query that cannot be answered.
pub(super) struct Trouble {
    pub errno: Errno,
    pub reason: String,
}

impl Trouble {
    pub fn message(reason: impl Into<String>) -> Trouble {
        Trouble {
            errno: Errno::Message,
            reason: reason.into(),
        }
    }
    pub fn command(reason: impl Into<String>) -> Trouble {
        Trouble {
            errno: Errno::Command,
            reason: reason.into(),
        }
    }
}

/// The answer to a query: properties of the reply.
pub(super) type Answer = Result<Map<String, Value>, Trouble>;

pub(super) fn one(key: &str, value: impl Into<Value>) -> Map<String, Value> {
    Map::from_iter([(key.to_string(), value.into())])
}

impl Shell {
    /// Takes one message from a client.
    pub(super) fn call(&mut self, call: Call) {
        self.rest.disturb();
        let Call { content, client } = call;
        let request = match content {
            Content::Unusable(reason) => {
                self.counters.rejected();
                let errno = Errno::InvalidJson;
                send(
                    &client,
                    &reply::error(&Value::Null, wall_clock(), errno, &reason),
                );
                return;
            }
            Content::Request(bytes) => parse_request(&bytes),
        };
        match request {
            Ok(request) => {
                self.counters.asked(&request.command);
                if let Some((client, request)) = self.hold_for_hooks(client, request) {
                    self.fulfil(client, request);
                }
            }
            Err(rejection) => {
                self.counters.rejected();
                if !rejection.cast {
                    let reply = reply::error(
                        &rejection.id,
                        wall_clock(),
                        rejection.errno,
                        &rejection.reason,
                    );
                    send(&client, &reply);
                }
            }
        }
    }

    /// Does what a request says.
    pub(super) fn fulfil(&mut self, client: Client, request: Request) {
        let Request {
            id,
            cast,
            waiting,
            sake,
            command,
        } = request;
        let reply_to = (!cast).then_some((client, id));
        let answer = match command {
            Command::Stats {
                name,
                process,
                extended,
            } => {
                let watcher = self.extends(name.as_deref()).filter(|_| extended);
                match (self.stats_jobs(name, process), watcher) {
                    (Ok(work), Some(watcher)) => {
                        self.measure_extended(work, watcher, reply_to);
                        return;
                    }
                    (Ok(work), None) => {
                        self.measure(work, reply_to);
                        return;
                    }
                    (Err(trouble), _) => Err(trouble),
                }
            }
            Command::Metrics { name, processes } => match self.metrics(name.as_deref()) {
                Ok(answer) if processes => {
                    self.measure(Work::Metrics(Box::new(self.to_measure(answer))), reply_to);
                    return;
                }
                answer => answer,
            },
            Command::ListSockets { details: true } => {
                let sockets = self.sockets_to_measure();
                self.measure(Work::Sockets(sockets), reply_to);
                return;
            }
            Command::Dstats => {
                self.measure(Work::Daemon, reply_to);
                return;
            }
            Command::ReloadConfig { only, check } => {
                let patient = waiting;
                let reload = Reload {
                    only,
                    check,
                    patient,
                };
                self.reload_config(reply_to, reload);
                return;
            }
            Command::Restart(selection) if selection.name.is_none() => {
                self.restart_everything(reply_to, waiting);
                return;
            }
            Command::Set { name, options } if names_account(&options) => {
                match self.view(&name).and_then(|_| self.check_sockets(&options)) {
                    // a directory server may be asked: that is not for this thread
                    Ok(()) => {
                        self.lookups.ask(Question::Set {
                            client: reply_to,
                            patient: waiting,
                            name,
                            options,
                        });
                        return;
                    }
                    Err(trouble) => Err(trouble),
                }
            }
            Command::Signal {
                name,
                signum,
                pid,
                childpid,
                children,
                recursive,
            } => {
                if childpid.is_none() && !children && self.signals_ask_hooks(&name) {
                    let scope = if recursive {
                        Scope::Tree
                    } else {
                        Scope::Worker
                    };
                    match self.signal_by_core(name, signum, pid, scope) {
                        Ok(command) => {
                            self.give(reply_to, true, command, Shape::Plain, Then::Nothing);
                            return;
                        }
                        Err(trouble) => Err(trouble),
                    }
                } else {
                    self.signal(&name, signum, pid, childpid, children, recursive)
                }
            }
            other => match self.query(&other) {
                Some(answer) => answer,
                None => match self
                    .mind_sake(&other, sake.as_ref())
                    .and_then(|()| self.order(other))
                {
                    Ok((command, shape, then)) => {
                        self.give(reply_to, waiting, command, shape, then);
                        return;
                    }
                    Err(trouble) => Err(trouble),
                },
            },
        };
        if let Some((client, id)) = reply_to {
            let time = wall_clock();
            let reply = match answer {
                Ok(properties) => reply::ok(&id, time, properties),
                Err(trouble) => reply::error(&id, time, trouble.errno, &trouble.reason),
            };
            send(&client, &reply);
        }
    }

    /// Has the sampling thread measure and answer.
    fn measure(&mut self, work: Work, client: Option<(Client, Value)>) {
        let Some((client, id)) = client else {
            return;
        };
        let done = move |measured: Result<_, String>| {
            let time = wall_clock();
            let reply = match measured {
                Ok(properties) => reply::ok(&id, time, properties),
                Err(reason) => reply::error(&id, time, Errno::Os, &reason),
            };
            send(&client, &reply);
        };
        self.sampling.ask(work, Box::new(done));
    }

    /// The users and groups of a `set` have been looked up.
    pub(super) fn set_resolved(
        &mut self,
        client: Option<(Client, Value)>,
        patient: bool,
        name: String,
        changes: Result<Vec<(String, Value)>, String>,
    ) {
        match changes {
            Ok(changes) => {
                let command = supervisor::Command::Set { name, changes };
                self.give(client, patient, command, Shape::Plain, Then::Nothing);
            }
            Err(reason) => {
                if let Some((client, id)) = client {
                    let reply = reply::error(&id, wall_clock(), Errno::Command, &reason);
                    send(&client, &reply);
                }
            }
        }
    }

    /// Gives the core a client's command and answers at once if the client does not wait.
    pub(super) fn give(
        &mut self,
        client: Option<(Client, Value)>,
        patient: bool,
        command: supervisor::Command,
        shape: Shape,
        then: Then,
    ) {
        let ticket = self.number();
        self.waiting.insert(
            ticket,
            Waiting {
                client: client.clone(),
                patient,
                shape,
                then,
            },
        );
        let outer = self.asking.replace((ticket, false));
        self.step(Input::Command { ticket, command });
        let refused = self.asking.is_some_and(|(_, refused)| refused);
        self.asking = outer;
        if !patient
            && !refused
            && let Some((client, id)) = client
        {
            send(&client, &reply::ok(&id, wall_clock(), Map::new()));
        }
    }

    pub(super) fn view(&self, name: &str) -> Result<View<'_>, Trouble> {
        self.core
            .watcher(name)
            .ok_or_else(|| Trouble::message(format!("program {} not found", brief(name))))
    }

    /// Translates what does something into the core's words.
    pub(super) fn order(
        &self,
        command: Command,
    ) -> Result<(supervisor::Command, Shape, Then), Trouble> {
        use supervisor::Command as Order;
        let order = match command {
            Command::Add {
                name,
                cmd,
                args,
                options,
                start,
            } => {
                self.check_owner(&options)?;
                self.check_sockets(&options)?;
                // None for a directory whose name is no text: its worker is in it all the same.
                let cwd = self.cwd.to_str().unwrap_or_default();
                let mut options = crate::options::WatcherOptions::from_add(
                    &name,
                    &cmd,
                    &args,
                    &options,
                    &self.environ,
                    cwd,
                )
                .map_err(|error| Trouble::command(error.to_string()))?;
                enter_virtualenv(&mut options, &self.cwd)
                    .map_err(|error| Trouble::command(error.to_string()))?;
                let options = Box::new(options);
                return Ok((Order::Add { options, start }, Shape::Bare, Then::Nothing));
            }
            Command::Rm { name, nostop } => Order::Remove { name, nostop },
            Command::Incr { name, nb } => {
                return Ok((
                    Order::Count { name, change: nb },
                    Shape::Bare,
                    Then::Nothing,
                ));
            }
            Command::Decr { name, nb } => {
                let change = nb.saturating_neg();
                return Ok((Order::Count { name, change }, Shape::Bare, Then::Nothing));
            }
            Command::Set { name, options } => {
                self.view(&name)?;
                self.check_sockets(&options)?;
                Order::Set {
                    name,
                    changes: options.into_iter().collect(),
                }
            }
            Command::Kill {
                name,
                pid,
                signum,
                graceful_timeout,
            } => {
                self.view(&name)?;
                Order::Kill {
                    name,
                    pid,
                    signum,
                    graceful_timeout,
                }
            }
            Command::Reload {
                name: Some(name),
                graceful,
                sequential,
            } => {
                let order = Order::Reload {
                    name,
                    graceful,
                    sequential,
                };
                return Ok((order, Shape::Info, Then::Nothing));
            }
            Command::Reload {
                name: None,
                graceful,
                sequential,
            } => Order::ReloadMany {
                names: self.names(),
                graceful,
                sequential,
            },
            Command::Start(selection) => match self.select(&selection)? {
                Chosen::One(name) => return Ok((Order::Start(name), Shape::Info, Then::Nothing)),
                Chosen::Several(names) | Chosen::All(names) => Order::StartMany(names),
            },
            Command::Stop(selection) => match self.select(&selection)? {
                Chosen::One(name) => return Ok((Order::Stop(name), Shape::Info, Then::Nothing)),
                Chosen::Several(names) | Chosen::All(names) => Order::StopMany(names),
            },
            Command::Restart(selection) => match self.select(&selection)? {
                Chosen::One(name) => return Ok((Order::Restart(name), Shape::Info, Then::Nothing)),
                Chosen::Several(names) | Chosen::All(names) => Order::RestartMany(names),
            },
            Command::Quit => return Ok((Order::Close, Shape::Plain, Then::Exit)),
            other => {
                return Err(Trouble::command(format!("{other:?} is not a command here")));
            }
        };
        Ok((order, Shape::Plain, Then::Nothing))
    }

    /// With endpoint_owner on an ipc endpoint, watchers may be added for that user only.
    fn check_owner(&self, options: &Map<String, Value>) -> Result<(), Trouble> {
        let circus = &self.effective;
        match &circus.endpoint_owner {
            Some(owner) if circus.endpoint.starts_with("ipc://") => {
                if options.get("uid").and_then(Value::as_str) == Some(owner) {
                    Ok(())
                } else {
                    Err(Trouble::message("uid does not match endpoint_owner"))
                }
            }
            _ => Ok(()),
        }
    }

    /// The sockets that options name have to be there: workers could not be started without.
    fn check_sockets(&self, options: &Map<String, Value>) -> Result<(), Trouble> {
        let text = |key: &str| options.get(key).and_then(Value::as_str);
        let stdin = text("stdin_socket").filter(|name| !name.is_empty());
        let mut named: Vec<(&str, String)> = Vec::new();
        named.extend(stdin.map(|name| ("stdin_socket", name.to_string())));
        if let ListenFds::Named(names) = text("listen_fds").map_or(ListenFds::None, ListenFds::of) {
            named.extend(names.into_iter().map(|name| ("listen_fds", name)));
        }
        for (key, name) in named {
            if !self.sockets.contains_key(&name.to_lowercase()) {
                let name = brief(&name);
                return Err(Trouble::command(format!(
                    "{key}: there is no socket {name:?}; add a [socket:{name}] section and reload it first"
                )));
            }
        }
        Ok(())
    }

    pub(super) fn select(&self, selection: &Selection) -> Result<Chosen, Trouble> {
        let Some(given) = &selection.name else {
            return Ok(Chosen::All(self.names()));
        };
        if selection.matching == Match::Simple {
            return Ok(Chosen::One(self.view(given)?.options().name.clone()));
        }
        let matcher = selection.matcher().map_err(Trouble::message)?;
        let mut names: Vec<String> = self.names();
        names.retain(|name| matcher.matches(&name.to_lowercase()));
        match names.len() {
            0 => Err(Trouble::message(format!(
                "program {} not found",
                brief(given)
            ))),
            1 => Ok(Chosen::One(names.remove(0))),
            _ => Ok(Chosen::Several(names)),
        }
    }

    /// A signal to a worker of this watcher has to be agreed upon first, or is told.
    fn signals_ask_hooks(&self, name: &str) -> bool {
        self.core.watcher(name).is_some_and(|watcher| {
            let options = watcher.options();
            options.hook("before_signal").is_some() || options.hook("after_signal").is_some()
        })
    }

    fn signal_by_core(
        &self,
        name: String,
        signum: i32,
        pid: Option<Pid>,
        scope: Scope,
    ) -> Result<supervisor::Command, Trouble> {
        let own: Vec<Pid> = self.view(&name)?.workers().iter().map(|w| w.pid).collect();
        let pids = match pid {
            Some(pid) if own.contains(&pid) => vec![pid],
            Some(pid) => return Err(not_a_worker(pid, &name)),
            None => own,
        };
        Ok(supervisor::Command::Signal {
            name,
            pids,
            signum,
            scope,
        })
    }

    pub(super) fn signal(
        &self,
        name: &str,
        signum: i32,
        pid: Option<Pid>,
        child: Option<Pid>,
        children: bool,
        recursive: bool,
    ) -> Answer {
        let watcher = self.view(name)?;
        let own: Vec<Pid> = watcher.workers().iter().map(|w| w.pid).collect();
        let targets = match pid {
            Some(pid) if own.contains(&pid) => vec![pid],
            Some(pid) => {
                return Err(not_a_worker(pid, name));
            }
            None => own,
        };
        for target in targets {
            let receivers = match child {
                Some(child) if stats::descendants(&[target], false).contains(&child) => vec![child],
                Some(child) => {
                    let reason = format!("process {child} is no child of {target}");
                    return Err(Trouble::command(reason));
                }
                None if children => stats::descendants(&[target], false),
                None if recursive => {
                    let mut all = vec![target];
                    all.extend(stats::descendants(&[target], true));
                    all
                }
                None => vec![target],
            };
            for receiver in receivers {
                match spawn::send_signal(receiver, signum) {
                    Ok(()) => {}
                    // it has just exited, as it may at any time
                    Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
                    Err(error) => {
                        // Python's words for an OSError, which circus hands on
                        let number = error.raw_os_error().unwrap_or_default();
                        let text = nix::errno::Errno::from_raw(number).desc();
                        return Err(Trouble {
                            errno: Errno::Os,
                            reason: format!("[Errno {number}] {text}"),
                        });
                    }
                }
            }
        }
        Ok(Map::new())
    }
}

pub(super) fn not_a_worker(pid: Pid, name: &str) -> Trouble {
    Trouble::message(format!("process {pid} not found in '{}'", brief(name)))
}

/// The watchers that a selection means.
pub(super) enum Chosen {
    All(Vec<String>),
    One(String),
    Several(Vec<String>),
}

/// Whether `set` names a user or group, which have to exist and are kept as numbers.
fn names_account(options: &Map<String, Value>) -> bool {
    options.contains_key("uid") || options.contains_key("gid")
}
