//! `reloadconfig`, SIGHUP, and `restart` without a name: the running daemon takes over a changed configuration.
//!
//! The new configuration is read and checked as a whole, then new sockets are bound, then watchers are changed; if
//! anything fails up to there, nothing has changed and the answer says why. Watchers that are the same in the old and the
//! new file are not touched.

use super::router::Client;
use super::shell::{Shell, Then, send, wall_clock};
use super::sockets::ListenSocket;
use crate::config::{Config, SocketConfig, names_socket};
use crate::options::{Map, Value, WatcherOptions};
use crate::supervisor::{Command, Outcome};
use crate::wire::reply::{self, Errno};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A command of several parts that a client waits for.
pub(super) struct Gathering {
    client: Option<(Client, Value)>,
    left: usize,
    problems: Vec<String>,
    /// Sockets that are no more once all is done; until then the workers from before serve them.
    retired: Vec<Arc<ListenSocket>>,
}

/// What [`Shell::take_over`] brings.
struct News {
    config: Config,
    /// The names of the sockets that have another descriptor now, or none.
    moved: BTreeSet<String>,
    /// The sockets these were before.
    retired: Vec<Arc<ListenSocket>>,
}

impl Shell {
    /// Reads the configuration again and changes what has changed.
    pub(super) fn reload_config(&mut self, client: Option<(Client, Value)>, patient: bool) {
        if self.core.closing() {
            refuse(client.as_ref(), "the daemon is stopping");
            return;
        }
        let News {
            config,
            moved,
            retired,
        } = match self.take_over() {
            Ok(news) => news,
            Err(reason) => {
                tracing::error!("the configuration was not taken over: {reason}");
                refuse(client.as_ref(), &reason);
                return;
            }
        };
        let mut commands = self.changes(&config, &moved, false);
        let delay = config.circus.warmup_delay;
        if delay != self.config.circus.warmup_delay {
            commands.push(Command::WarmupDelay(delay));
        }
        self.warn_of_fixed(&config);
        self.config = config;
        let client = match client {
            Some((client, id)) if !patient => {
                send(&client, &reply::ok(&id, wall_clock(), Map::new()));
                None
            }
            other => other,
        };
        tracing::info!("configuration read again, {} changes", commands.len());
        self.gather(client, commands, retired, None);
    }

    /// All watchers have stopped: take over the configuration and start them.
    pub(super) fn start_afresh(&mut self, client: Option<(Client, Value)>) {
        if self.core.closing() {
            refuse(client.as_ref(), "the daemon is stopping");
            return;
        }
        let problem = match self.take_over() {
            Ok(News {
                config,
                moved,
                retired,
            }) => {
                let commands = self.changes(&config, &moved, true);
                self.warn_of_fixed(&config);
                self.config = config;
                self.gather(None, commands, retired, None);
                None
            }
            Err(reason) => {
                let text = format!("restarted with the configuration as it was: {reason}");
                tracing::error!("{text}");
                Some(text)
            }
        };
        let start = vec![Command::StartMany(self.names())];
        self.gather(client, start, Vec::new(), problem);
    }

    /// The configuration as it stands in its files now, or what is wrong with it.
    pub(super) fn read_config(&self) -> Result<Config, String> {
        Config::load(&self.config_path, &self.environ, &self.cwd).map_err(|error| error.to_string())
    }

    /// Reads the new configuration and swaps the sockets.
    fn take_over(&mut self) -> Result<News, String> {
        let config = self.read_config()?;
        let unchanged = |new: &SocketConfig| {
            self.sockets
                .get(&new.name)
                .is_some_and(|old| old.is_same(new))
        };
        let wanted: Vec<SocketConfig> = config
            .sockets
            .iter()
            .filter(|socket| !unchanged(socket))
            .cloned()
            .collect();
        let mut opened: Vec<ListenSocket> = Vec::new();
        let mut adapted: Vec<SocketConfig> = Vec::new();
        let mut closed: Vec<SocketConfig> = Vec::new();
        for new in wanted {
            let old = self.sockets.get(&new.name);
            let result = match old.filter(|old| old.is_in_the_way_of(&new)) {
                None => ListenSocket::open(&new).map_err(|error| error.to_string()),
                Some(old) if Arc::strong_count(old) > 1 => Err(format!(
                    "socket {} cannot be changed while a worker is being started with it; try again",
                    new.name
                )),
                Some(old) if old.can_become(&new) => {
                    adapted.push(new);
                    continue;
                }
                // closed here it would still be open there, and could be neither replaced nor taken back
                Some(_) if new.path.is_none() && self.is_held_by_workers(&new.name) => {
                    Err(format!(
                        "socket {} cannot be changed like this while workers have it open; `restart` without a name \
                         stops them, changes it and starts them",
                        new.name
                    ))
                }
                Some(_) => {
                    closed.extend(self.sockets.remove(&new.name).map(|s| s.config().clone()));
                    ListenSocket::open(&new).map_err(|error| error.to_string())
                }
            };
            match result {
                Ok(socket) => opened.push(socket),
                Err(reason) => {
                    drop(opened);
                    for old in closed {
                        match ListenSocket::open(&old) {
                            Ok(socket) => {
                                self.sockets.insert(old.name.clone(), Arc::new(socket));
                            }
                            Err(error) => tracing::error!("a socket was lost: {error}"),
                        }
                    }
                    return Err(reason);
                }
            }
        }
        for new in adapted {
            if let Some(socket) = self.sockets.get_mut(&new.name).and_then(Arc::get_mut)
                && let Err(error) = socket.change_into(new)
            {
                tracing::error!("{error}");
            }
        }
        let names: BTreeSet<&String> = config.sockets.iter().map(|s| &s.name).collect();
        let mut moved: BTreeSet<String> = opened.iter().map(|s| s.name().to_string()).collect();
        let gone: Vec<String> = self
            .sockets
            .keys()
            .filter(|name| !names.contains(name))
            .cloned()
            .collect();
        let mut retired: Vec<Arc<ListenSocket>> = Vec::new();
        for name in gone {
            retired.extend(self.sockets.remove(&name));
            moved.insert(name);
        }
        for socket in opened {
            retired.extend(
                self.sockets
                    .insert(socket.name().to_string(), Arc::new(socket)),
            );
        }
        Ok(News {
            config,
            moved,
            retired,
        })
    }

    fn is_held_by_workers(&self, socket: &str) -> bool {
        self.core.watchers().any(|watcher| {
            let options = watcher.options();
            let has = options.use_sockets() || options.stdin_socket().eq_ignore_ascii_case(socket);
            has && !watcher.workers().is_empty()
        })
    }

    /// The commands that turn what runs into what the new configuration says. With `all`, what was changed at run time
    /// goes back to what the file says.
    fn changes(&self, new: &Config, moved: &BTreeSet<String>, all: bool) -> Vec<Command> {
        let mut commands = Vec::new();
        for watcher in self.core.watchers() {
            let name = &watcher.options().name;
            if !new.watchers.iter().any(|w| same(&w.name, name)) {
                commands.push(Command::Remove {
                    name: name.clone(),
                    nostop: false,
                });
            }
        }
        for options in &new.watchers {
            let before = self
                .config
                .watchers
                .iter()
                .find(|w| same(&w.name, &options.name));
            let Some(running) = self.core.watcher(&options.name) else {
                commands.push(Command::Add {
                    options: Box::new(options.clone()),
                    start: options.autostart() && !all,
                });
                continue;
            };
            if all || before != Some(options) {
                let mut next = options.clone();
                // a number of workers that was changed by hand stays until the file changes it
                if !all && before.is_some_and(|b| b.numprocesses() == options.numprocesses()) {
                    let number = running.options().numprocesses();
                    if next.put("numprocesses", number.into()).is_err() {
                        next = options.clone();
                    }
                }
                commands.push(Command::Replace(Box::new(next)));
            }
            if !all && moved.iter().any(|socket| uses(options, socket)) {
                commands.push(Command::Reload {
                    name: options.name.clone(),
                    graceful: true,
                    sequential: false,
                });
            }
        }
        commands
    }

    fn warn_of_fixed(&self, new: &Config) {
        let known = super::not_yet::warnings(&self.config);
        for warning in super::not_yet::warnings(new) {
            if !known.contains(&warning) {
                tracing::warn!("{warning}");
            }
        }
        let (old, new) = (&self.config.circus, &new.circus);
        for (key, changed) in [
            ("endpoint", old.endpoint != new.endpoint),
            (
                "pubsub_endpoint",
                old.pubsub_endpoint != new.pubsub_endpoint,
            ),
            ("pidfile", old.pidfile != new.pidfile),
            ("umask", old.umask != new.umask),
        ] {
            if changed {
                tracing::warn!(
                    "[circus] {key} has changed in the file; it takes effect when the daemon is started anew"
                );
            }
        }
    }

    /// Gives the core several commands; the client hears once all are done, and of a problem from before.
    fn gather(
        &mut self,
        client: Option<(Client, Value)>,
        commands: Vec<Command>,
        retired: Vec<Arc<ListenSocket>>,
        problem: Option<String>,
    ) {
        let number = self.number();
        self.gatherings.insert(
            number,
            Gathering {
                client,
                left: commands.len() + 1,
                problems: problem.into_iter().collect(),
                retired,
            },
        );
        for command in commands {
            self.ask(command, Then::Part(number));
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
                reply::ok(id, time, Map::new())
            } else {
                reply::error(id, time, Errno::Command, &done.problems.join("; "))
            };
            send(client, &reply);
        }
    }
}

fn refuse(client: Option<&(Client, Value)>, reason: &str) {
    if let Some((client, id)) = client {
        send(
            client,
            &reply::error(id, wall_clock(), Errno::Command, reason),
        );
    }
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

fn uses(options: &WatcherOptions, socket: &str) -> bool {
    names_socket(options, socket) || options.stdin_socket().eq_ignore_ascii_case(socket)
}
