//! `reloadconfig`, SIGHUP, and `restart` without a name: the running daemon takes over a changed configuration, all of it
//! or some sections.
//!
//! The new configuration is read and checked as a whole, then new endpoints and sockets are bound, then watchers are changed;
//! if anything fails up to there, nothing has changed and the answer says why. What may hang (a disk, a name server) is done
//! by a thread ([`super::prepare`]); commands are answered meanwhile, and further reloads wait. What is the same in the configuration that was
//! taken over last and the new one is not touched. With `only`, the configuration that is taken over is the last one with
//! these sections from the new one: so a later reload still sees what else has changed in the files.

use super::answers::{Then, send};
use super::binding::{Bound, Held};
use super::differences::{Extent, Plan, Situation, adopted};
use super::discovery::Discovery;
use super::endpoint::Listener;
use super::hooks::trial::Sought;
use super::log;
use super::orders::{Order, Purpose, Unfulfilled};
use super::prepare::{Needs, Prepared, Target, Wanted};
use super::router::Client;
use super::shell::{Shell, wall_clock};
use super::sockets::{ListenSocket, Yielding};
use super::stats_feed::Feed;
use crate::config::{CircusOptions, Config, uses_socket};
use crate::options::{Map, Value};
use crate::python::interpreter::default_interpreter;
use crate::supervisor::{Command, Outcome, Status};
use crate::wire::brief;
use crate::wire::reply::{self, Errno};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// A command of several parts that a client waits for.
pub(super) struct Gathering {
    client: Option<(Client, Value)>,
    left: usize,
    problems: Vec<String>,
    /// Sockets that are no more once all is done; until then the workers from before serve them.
    retired: Vec<Arc<ListenSocket>>,
    /// What the reply tells.
    report: Map<String, Value>,
}

/// The parts of such a command.
#[derive(Default)]
struct Gathered {
    commands: Vec<Command>,
    retired: Vec<Arc<ListenSocket>>,
    report: Map<String, Value>,
}

/// How a configuration is to be read again.
#[derive(Debug, Default)]
pub(super) struct Reload {
    /// These sections alone.
    pub only: Option<Vec<String>>,
    /// Only tell what would be done.
    pub check: bool,
    /// The client waits until it is done.
    pub patient: bool,
}

impl Shell {
    pub(super) fn wanted(&self, target: Target, check: bool) -> Result<Wanted, String> {
        let listeners = [self.router.listener(), self.publisher.listener()];
        let listeners = listeners
            .into_iter()
            .chain(self.feed.as_ref().map(Feed::listener));
        let held = listeners.map(|listener| listener.held());
        let held = held
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(|error| format!("cannot duplicate an endpoint: {error}"))?;
        Ok(Wanted {
            check,
            sockets: self.sockets_to_change(&target.config),
            listening: self.sockets.clone(),
            handed: self.handed.clone(),
            watchers: self.watchers_to_look_at(&target.config),
            surroundings: self.hooks.surroundings(),
            target,
            effective: self.effective.clone(),
            settled: self.settled.clone(),
            held,
            control_file: self.router.listener().path().map(PathBuf::from),
        })
    }

    /// What the new and changed watchers of a configuration count on: users, groups and hooks that those from before did
    /// not name.
    fn watchers_to_look_at(&self, config: &Config) -> Vec<Needs> {
        let sought = |options, circus: &CircusOptions| {
            Sought::of(options, circus.python.as_deref(), &self.cwd)
        };
        let mut all = Vec::new();
        for (section, options) in config.watchers_by_section() {
            let before = self
                .config
                .watcher(&options.name)
                .map(|(options, _)| options);
            let known = before.map(|before| sought(before, &self.config.circus));
            let known = known.unwrap_or_default();
            let mut hooks = sought(options, &config.circus);
            hooks.retain(|hook| !known.iter().any(|known| hook.is_found_with(known)));
            let same_account =
                before.is_some_and(|b| (b.uid(), b.gid()) == (options.uid(), options.gid()));
            let account = (!same_account).then(|| (options.uid().clone(), options.gid().clone()));
            if account.is_some() || !hooks.is_empty() {
                all.push(Needs {
                    section: section.to_string(),
                    account,
                    hooks,
                });
            }
        }
        all
    }

    /// Everything that the target needs is there.
    pub(super) fn prepared(
        &mut self,
        order: Box<Order>,
        prepared: Prepared,
    ) -> Result<(), Unfulfilled> {
        if self.core.closing() {
            return Err((order, "the daemon is stopping".to_string()));
        }
        match order.purpose {
            Purpose::Reload(reload) => {
                let plan = self.plan(&prepared);
                let taken = if reload.check {
                    Ok((Gathered::default(), plan.as_checked()))
                } else {
                    let report = plan.as_done();
                    self.take_over(prepared, plan).map(|work| (work, report))
                };
                match taken {
                    Ok((work, report)) => {
                        self.carry_out(order.client, &reload, work, report);
                        Ok(())
                    }
                    Err(reason) => {
                        let purpose = Purpose::Reload(reload);
                        let client = order.client;
                        Err((Box::new(Order { client, purpose }), reason))
                    }
                }
            }
            Purpose::Afresh => {
                let plan = self.situation(&prepared, Extent::Afresh).plan();
                match self.take_over(prepared, plan) {
                    Ok(work) => {
                        self.gather(None, work, None);
                        self.start_again(order.client, None);
                        Ok(())
                    }
                    Err(reason) => Err((order, reason)),
                }
            }
            // it is done with once the files are read
            Purpose::Restart { .. } => Ok(()),
        }
    }

    fn carry_out(
        &mut self,
        client: Option<(Client, Value)>,
        reload: &Reload,
        mut work: Gathered,
        report: Map<String, Value>,
    ) {
        if !reload.check {
            tracing::info!("configuration read again, {} changes", work.commands.len());
        }
        let client = match client {
            Some((client, id)) if !reload.patient => {
                send(&client, &reply::ok(&id, wall_clock(), report.clone()));
                None
            }
            other => other,
        };
        work.report = report;
        self.gather(client, work, None);
    }

    /// All watchers have stopped, and the configuration is as it shall be, or as it was because of a problem.
    pub(super) fn start_again(&mut self, client: Option<(Client, Value)>, problem: Option<String>) {
        let start = Gathered {
            commands: vec![Command::StartMany(self.names())],
            ..Gathered::default()
        };
        self.gather(client, start, problem);
    }

    /// What is to be taken over: the files as they are now, or of them these sections.
    pub(super) fn target(&self, config: Config, only: Option<&[String]>) -> Result<Target, String> {
        let Some(only) = only else {
            return Ok(Target {
                config,
                sections: None,
            });
        };
        let sections = only
            .iter()
            .map(|name| self.section(name, &config))
            .collect::<Result<BTreeSet<String>, String>>()?;
        self.check_removals(&config, &sections)?;
        let config = self
            .config
            .taking(&sections, &config, &self.environ, &self.cwd)
            .map_err(|error| format!("these sections cannot be taken over alone: {error}"))?;
        Ok(Target {
            config,
            sections: Some(sections),
        })
    }

    /// The section that a client names: exactly, or a watcher or socket in any case as in every command.
    fn section(&self, name: &str, new: &Config) -> Result<String, String> {
        let all = || new.sections().chain(self.config.sections());
        if all().any(|section| section == name) || ["circus", "env", "DEFAULT"].contains(&name) {
            return Ok(name.to_string());
        }
        let lower = name.to_lowercase();
        let kind = |prefix| lower.strip_prefix(prefix);
        let watcher = kind("watcher:").and_then(|watcher| {
            let found = new
                .watcher(watcher)
                .or_else(|| self.config.watcher(watcher));
            found.map(|(_, section)| section.to_string())
        });
        let socket = kind("socket:").and_then(|_| {
            let same = |section: &&str| section.to_lowercase() == lower;
            all().find(same).map(String::from)
        });
        watcher.or(socket).ok_or_else(|| {
            format!(
                "there is no section [{}], neither in the files nor in what the daemon runs on",
                brief(name)
            )
        })
    }

    /// A socket stays while a watcher uses it of which the client does not speak.
    fn check_removals(&self, new: &Config, sections: &BTreeSet<String>) -> Result<(), String> {
        let kept = |name: &str| new.sockets.iter().any(|socket| socket.name == name);
        for socket in self.config.sockets.iter().filter(|s| !kept(&s.name)) {
            let section = |s: &&String| s.to_lowercase() == format!("socket:{}", socket.name);
            let Some(section) = sections.iter().find(section) else {
                continue;
            };
            for view in self.core.watchers() {
                let (options, status) = (view.options(), view.status());
                let own = self.config.watcher(&options.name);
                let spoken_of = own.is_some_and(|(_, section)| sections.contains(section));
                if status != Status::Stopped && uses_socket(options, &socket.name) && !spoken_of {
                    return Err(format!(
                        "[{section}] cannot be removed while the watcher {} uses it: stop or change that first, or name \
                         its section as well",
                        options.name
                    ));
                }
            }
        }
        Ok(())
    }

    fn situation<'a>(&'a self, prepared: &'a Prepared, extent: Extent<'a>) -> Situation<'a> {
        Situation {
            old: &self.config,
            new: &prepared.target.config,
            core: &self.core,
            sockets: &self.sockets,
            places: &prepared.places,
            settled: &self.settled,
            untaken: &self.untaken,
            replacing: &self.replacing,
            extent,
        }
    }

    fn plan(&self, prepared: &Prepared) -> Plan {
        let sections = prepared.target.sections.as_ref();
        let extent = sections.map_or(Extent::Whole, Extent::Only);
        self.situation(prepared, extent).plan()
    }

    /// Swaps sockets and endpoints and makes the configuration that of the daemon; what is left to do is for the core.
    fn take_over(&mut self, prepared: Prepared, plan: Plan) -> Result<Gathered, String> {
        let Prepared {
            target: Target { config, .. },
            new_callables,
            places,
            control,
            events,
            stats,
            fqdn,
            discovery,
            log,
            pidfile,
            chowned,
            room,
            given,
        } = prepared;
        // the last that may fail
        let listener = |bound: Option<Bound>| bound.map(Listener::new).transpose();
        let lost = |error| format!("the event loop does not take an endpoint: {error}");
        let (control, events) = (
            listener(control).map_err(lost)?,
            listener(events).map_err(lost)?,
        );
        let stats = stats.map(listener).transpose().map_err(lost)?;
        let discovery = discovery.map(|joined| joined.map(Discovery::serve).transpose());
        let discovery = discovery.transpose().map_err(lost)?;
        let left = self.leaving_endpoints(&control, &events, &stats);
        let left = left.map_err(|error| format!("cannot duplicate an endpoint: {error}"))?;
        let retired = self.rebind(&config, &places, &left)?;
        room.into_iter().for_each(Yielding::for_good);
        // whoever connects there now wants the endpoint
        let given = retired.iter().filter(|old| given.contains(old.name()));
        given.for_each(|old| old.retire());
        if let Some(listener) = control {
            self.router.move_to(listener, self.calls.clone());
            tracing::info!("control endpoint {}", config.circus.endpoint);
        }
        if let Some(listener) = events {
            self.publisher.move_to(listener);
        }
        if let Some(listener) = stats {
            self.feed = listener.map(Feed::serve);
        }
        self.fqdn = fqdn;
        if let Some(discovery) = discovery {
            self.discovery = discovery;
        }
        if let Some(log) = log {
            self.log.replace(log);
        }
        if let Some(pidfile) = pidfile {
            self.pidfile = pidfile;
        }
        if let Some(chowned) = chowned {
            chowned.keep();
        }
        self.hooks.read_again(&new_callables);
        self.adopt(&config.circus);
        for key in &plan.restart_needed {
            tracing::warn!("{key} has changed; it takes effect when the daemon is started anew");
        }
        self.config = config;
        self.companion.reloaded(&self.effective);
        Ok(Gathered {
            commands: plan.commands,
            retired,
            report: Map::new(),
        })
    }

    /// Other handles on the endpoints that go when these come in their places.
    fn leaving_endpoints(
        &self,
        control: &Option<Listener>,
        events: &Option<Listener>,
        stats: &Option<Option<Listener>>,
    ) -> std::io::Result<Vec<Held>> {
        let leaving = [
            control.as_ref().map(|_| self.router.listener()),
            events.as_ref().map(|_| self.publisher.listener()),
            stats
                .as_ref()
                .and_then(|_| self.feed.as_ref().map(Feed::listener)),
        ];
        leaving.into_iter().flatten().map(Listener::held).collect()
    }

    /// Goes by other options of `[circus]`.
    fn adopt(&mut self, new: &CircusOptions) {
        let before = self.effective.python.clone();
        self.effective = adopted(&self.effective, new, &self.settled);
        match log::level_of(self.effective.loglevel.as_deref()) {
            Ok(level) => self.log.set(level),
            Err(reason) => tracing::error!("[circus] loglevel: {reason}"),
        }
        let python = self.effective.python.clone();
        if python != before {
            // hooks find the new one when they are called
            self.hooks.let_go(&default_interpreter(before.as_deref()));
            self.streams.set_python(python.as_deref());
            for view in self.core.watchers() {
                self.streams.update(view.id(), view.options());
            }
        }
        let umask = new.umask.unwrap_or(self.caller_umask);
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
    }

    /// Gives the core several commands; the client hears once all are done, and of a problem from before.
    fn gather(&mut self, client: Option<(Client, Value)>, work: Gathered, problem: Option<String>) {
        let Gathered {
            commands,
            retired,
            report,
        } = work;
        let number = self.number();
        self.gatherings.insert(
            number,
            Gathering {
                client,
                left: commands.len() + 1,
                problems: problem.into_iter().collect(),
                retired,
                report,
            },
        );
        for command in commands {
            let replaces = match &command {
                Command::Replace(options) => {
                    let name = options.name.to_lowercase();
                    self.replacing
                        .insert(name.clone(), (number, (**options).clone()));
                    Some(name)
                }
                _ => None,
            };
            self.ask(command, Then::Part { number, replaces });
        }
        self.part_done(number, Outcome::Done);
    }

    pub(super) fn part_done(&mut self, number: u64, outcome: Outcome) {
        let Some(gathering) = self.gatherings.get_mut(&number) else {
            return;
        };
        gathering.left -= 1;
        if let Outcome::Refused(refusal) = outcome {
            gathering.problems.push(refusal.to_string());
        }
        if gathering.left > 0 {
            return;
        }
        let Some(done) = self.gatherings.remove(&number) else {
            return;
        };
        // workers that could not be replaced go on with what they have
        if done.problems.is_empty() {
            done.retired.iter().for_each(|socket| socket.retire());
        }
        if let Some((client, id)) = &done.client {
            let time = wall_clock();
            let reply = if done.problems.is_empty() {
                reply::ok(id, time, done.report)
            } else {
                let mut reply = reply::error(id, time, Errno::Command, &done.problems.join("; "));
                // the configuration is taken over all the same
                if let Value::Object(reply) = &mut reply {
                    reply.extend(done.report);
                }
                reply
            };
            send(client, &reply);
        }
    }
}

pub(super) fn refuse(client: Option<&(Client, Value)>, reason: &str) {
    if let Some((client, id)) = client {
        send(
            client,
            &reply::error(id, wall_clock(), Errno::Command, reason),
        );
    }
}
