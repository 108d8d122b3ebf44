//! What circusd-stats knows of its circusd: the watchers and their processes, kept up to date by events, and the sockets
//! that it has inherited.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use serde_json::{Map, Value};

use crate::stats::{Group, Interest, Member, Round};
use crate::wire::endpoint::Endpoint;
use crate::wire::event::resource_name;
use crate::wire::{Client, ClientError, command};

/// How long circusd may take for an answer. While it is deaf, what was known before is published.
const ANSWER: Duration = Duration::from_secs(1);

/// What has to be asked anew.
#[derive(Debug, Default)]
pub struct Outdated {
    everything: bool,
    /// Watchers, by their names in topics.
    watchers: BTreeSet<String>,
}

/// What events have made out of date, told by one thread and read by another.
#[derive(Debug, Clone)]
pub struct News(Arc<Mutex<Outdated>>);

impl Default for News {
    /// Nothing is known in the beginning.
    fn default() -> News {
        News(Arc::new(Mutex::new(Outdated {
            everything: true,
            watchers: BTreeSet::new(),
        })))
    }
}

impl News {
    /// Events may have been missed.
    pub fn everything(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .everything = true;
    }

    /// An event has come: something happened to its watcher.
    pub fn event(&self, topic: &[u8]) {
        let topic = String::from_utf8_lossy(topic);
        let watcher = topic
            .strip_prefix("watcher.")
            .and_then(|rest| rest.rsplit_once('.'));
        if let Some((watcher, _)) = watcher {
            let mut outdated = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            outdated.watchers.insert(watcher.to_string());
        }
    }

    fn take(&self) -> Outdated {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self, old: Outdated) {
        let mut outdated = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        outdated.everything |= old.everything;
        outdated.watchers.extend(old.watchers);
    }
}

/// A socket of circusd that this process has as well.
#[derive(Debug)]
pub struct Socket {
    /// Its descriptor in circusd.
    pub fd: RawFd,
    /// `HOST:PORT`, or a path.
    pub address: String,
    /// The same socket once more.
    pub own: OwnedFd,
}

/// Watchers, processes and sockets of one circusd.
pub struct Source {
    endpoint: Endpoint,
    client: Option<Client>,
    news: News,
    /// Processes by watcher, as `list` names it.
    watchers: BTreeMap<String, Vec<i32>>,
    circusd: Option<i32>,
    sockets: Option<Vec<Socket>>,
    /// It has been said that circusd does not answer.
    complained: bool,
}

impl Source {
    /// A circusd that nothing is known of yet. `news` tells what has become out of date.
    pub fn new(endpoint: Endpoint, news: News) -> Source {
        Source {
            endpoint,
            client: None,
            news,
            watchers: BTreeMap::new(),
            circusd: None,
            sockets: None,
            complained: false,
        }
    }

    /// Asks for what has become out of date. What cannot be had stays as it was, and is asked for the next time.
    pub fn refresh(&mut self) {
        let outdated = self.news.take();
        match self.ask(&outdated) {
            Ok(()) => self.complained = false,
            Err(error) => {
                // a connection that was lost unnoticed answers no more than a deaf daemon
                self.client = None;
                self.news.put_back(outdated);
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!("{error}");
                }
            }
        }
    }

    fn ask(&mut self, outdated: &Outdated) -> Result<(), ClientError> {
        let changed = |name: &str| outdated.watchers.contains(&resource_name(name));
        let known: BTreeSet<String> = self
            .watchers
            .keys()
            .map(|name| resource_name(name))
            .collect();
        if outdated.everything || !outdated.watchers.is_subset(&known) {
            let names = self.call("list", Map::new())?;
            let names: BTreeSet<String> = texts(names.get("watchers")).collect();
            self.watchers.retain(|name, _| names.contains(name));
            for name in names {
                if outdated.everything || changed(&name) || !self.watchers.contains_key(&name) {
                    self.list(name)?;
                }
            }
        } else {
            let names: Vec<String> = self
                .watchers
                .keys()
                .filter(|n| changed(n))
                .cloned()
                .collect();
            names.into_iter().try_for_each(|name| self.list(name))?;
        }
        if outdated.everything || self.circusd.is_none() {
            let reply = self.call("dstats", Map::new())?;
            self.circusd = reply.pointer("/info/pid").and_then(pid);
        }
        if self.sockets.is_none() {
            let reply = self.call("listsockets", Map::new())?;
            let told = reply.get("sockets").and_then(Value::as_array);
            self.sockets = Some(told.into_iter().flatten().filter_map(inherited).collect());
        }
        Ok(())
    }

    /// The processes of one watcher; one that is not there any more is forgotten.
    fn list(&mut self, name: String) -> Result<(), ClientError> {
        let properties = Map::from_iter([("name".to_string(), Value::from(name.as_str()))]);
        let reply = self.call("list", properties)?;
        match reply.get("pids").and_then(Value::as_array) {
            Some(pids) => {
                let pids = pids.iter().filter_map(pid).collect();
                self.watchers.insert(name, pids);
            }
            None => {
                self.watchers.remove(&name);
            }
        }
        Ok(())
    }

    fn call(&mut self, name: &str, properties: Map<String, Value>) -> Result<Value, ClientError> {
        let client = match &mut self.client {
            Some(client) => client,
            None => self.client.insert(Client::connect(&self.endpoint, ANSWER)?),
        };
        client.call(command::message(name, properties))
    }

    /// The sockets that are known.
    pub fn sockets(&self) -> &[Socket] {
        self.sockets.as_deref().unwrap_or_default()
    }

    /// The processes that somebody wants to hear of.
    pub fn groups(&self, interest: &Interest) -> Vec<Group> {
        let member = |pid: i32, name| Member { pid, name };
        let mut groups = Vec::new();
        for (name, pids) in &self.watchers {
            let own = ["circusd", "circushttpd", "circusd-stats"].contains(&name.as_str());
            if !own && !pids.is_empty() && interest.in_or_under(&Round::topic(name)) {
                groups.push(Group {
                    name: name.clone(),
                    members: pids.iter().map(|pid| member(*pid, None)).collect(),
                });
            }
        }
        if interest.in_or_under(&Round::topic(Round::CIRCUS)) {
            let own = nix::unistd::getpid().as_raw();
            let mut members = vec![member(own, Some("circusd-stats"))];
            members.extend(self.circusd.map(|pid| member(pid, Some("circusd"))));
            if let Some([pid]) = self.watchers.get("circushttpd").map(Vec::as_slice) {
                members.push(member(*pid, Some("circushttpd")));
            }
            groups.push(Group {
                name: Round::CIRCUS.to_string(),
                members,
            });
        }
        groups
    }
}

fn texts(list: Option<&Value>) -> impl Iterator<Item = String> {
    let list = list.and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    texts.map(String::from)
}

fn pid(value: &Value) -> Option<i32> {
    i32::try_from(value.as_i64()?).ok()
}

/// The socket of this entry of `listsockets`, if this process was started with it. circusd-stats is, as a watcher of
/// circusd; started by hand it has none of them.
fn inherited(told: &Value) -> Option<Socket> {
    let fd = pid(told.get("fd")?)?;
    let path = told.get("path").and_then(Value::as_str);
    let address = match path {
        Some(path) => path.to_string(),
        None => format!(
            "{}:{}",
            told.get("host").and_then(Value::as_str)?,
            told.get("port")?
        ),
    };
    // a way to one's own descriptor by its number that is safe whatever the number is
    let own = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|this| pidfd_getfd(&this, fd, PidfdGetfdFlags::empty()));
    let own = match own {
        Ok(own) => own,
        Err(error) => {
            tracing::info!("no reads of {address}: descriptor {fd} is not inherited: {error}");
            return None;
        }
    };
    let bound = socket2::SockRef::from(&own).local_addr().ok()?;
    let same = match path {
        Some(path) => bound
            .as_pathname()
            .is_some_and(|bound| bound.ends_with(path)),
        // the host may be a name
        None => bound.as_socket().is_some_and(|bound| {
            told.get("port").and_then(Value::as_u64) == Some(bound.port().into())
        }),
    };
    if !same {
        tracing::info!("no reads of {address}: descriptor {fd} is something else here");
    }
    same.then_some(Socket { fd, address, own })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::fd::AsRawFd;

    #[test]
    fn events_say_which_watcher_is_out_of_date() {
        let news = News::default();
        assert!(news.take().everything);
        for topic in [
            "watcher.web.spawn",
            "watcher.a.b.reap",
            "other.x.y",
            "watcher.",
            "watcher.x",
        ] {
            news.event(topic.as_bytes());
        }
        let outdated = news.take();
        assert!(!outdated.everything);
        assert_eq!(outdated.watchers, ["a.b", "web"].map(String::from).into());
        news.event(b"watcher.new.spawn");
        news.put_back(outdated);
        assert_eq!(news.take().watchers.len(), 3);
    }

    #[test]
    fn a_socket_is_taken_by_its_number_if_it_is_the_one() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (fd, port) = (listener.as_raw_fd(), listener.local_addr().unwrap().port());
        let told = |fd: RawFd, port: u16| json!({"fd": fd, "host": "localhost", "port": port, "name": "web"});
        let socket = inherited(&told(fd, port)).unwrap();
        assert_eq!(socket.address, format!("localhost:{port}"));
        assert_ne!(socket.own.as_raw_fd(), fd);
        assert!(inherited(&told(fd, port.wrapping_add(1))).is_none());
        assert!(inherited(&told(9999, port)).is_none());
        assert!(inherited(&json!({"fd": fd, "path": "/run/x"})).is_none());
        assert!(inherited(&json!({})).is_none());
    }
}
