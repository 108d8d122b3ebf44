//! The daemons of a console: calls to each, and what many viewers watch together.

use super::feeds::{Feed, Told};
use super::snapshot::{CircusReplies, Identity, Snapshot};
use super::usage::Looks;
use super::way::Way;
use crate::wire::{Endpoint, News, Session, session};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, broadcast};

/// How long a daemon may take to answer, if nobody says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long the list of daemons waits for one of them.
const GLANCE: Duration = Duration::from_secs(2);
/// Calls to one daemon at a time.
const CALLS: usize = 32;
/// Connections to one daemon that are kept for the next call.
const KEPT: usize = 4;
/// From one sample to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// From one look for a daemon's events to the next, while there are none to be had.
const AGAIN: Duration = Duration::from_secs(1);

/// The daemons.
#[derive(Default)]
pub struct Hub(Mutex<Vec<Arc<Daemon>>>);

/// One daemon. It is there for good, whether or not anybody answers.
pub struct Daemon {
    /// What it is called in paths.
    pub id: String,
    /// Its control endpoint as a person names it, with the machine if it is another.
    pub address: String,
    /// Where its control endpoint is reached from here.
    pub endpoint: Endpoint,
    /// The way to its machine, if there has to be one.
    way: Option<Arc<dyn Way>>,
    idle: Mutex<Vec<Session>>,
    calls: Semaphore,
    looks: Mutex<Looks>,
    events: Feed<Value>,
    stats: Feed<Snapshot>,
}

/// How a daemon is.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// It answers; this is who it is.
    Up(Box<Identity>),
    /// It does not; why.
    Down(String),
}

/// Why a daemon has not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It cannot be reached.
    #[error("{0}")]
    Away(String),
    /// It did not answer in time.
    #[error("{0}")]
    Late(String),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since the epoch.
pub fn wall_clock() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

impl Hub {
    /// Adds a daemon, if it is not there already.
    pub fn add(&self, endpoint: Endpoint) {
        self.insert(id_of(&endpoint), endpoint.to_string(), endpoint, None);
    }

    /// Adds a daemon of another machine, whose control endpoint is `endpoint` there and is reached at `local`.
    pub fn add_through(&self, way: Arc<dyn Way>, endpoint: &Endpoint, local: Endpoint) {
        let host = way.host();
        let name = host.rsplit_once('@').map_or(host, |(_, name)| name);
        let id = plain(&format!("{name}-{}", id_of(endpoint)));
        self.insert(id, format!("{host} {endpoint}"), local, Some(way));
    }

    fn insert(&self, id: String, address: String, endpoint: Endpoint, way: Option<Arc<dyn Way>>) {
        let mut daemons = lock(&self.0);
        if daemons.iter().any(|daemon| daemon.address == address) {
            return;
        }
        let taken = |id: &str| daemons.iter().any(|daemon| daemon.id == id);
        let mut one = id.clone();
        let mut number = 2;
        while taken(&one) {
            one = format!("{id}-{number}");
            number += 1;
        }
        daemons.push(Arc::new(Daemon {
            id: one,
            address,
            endpoint,
            way,
            idle: Mutex::default(),
            calls: Semaphore::new(CALLS),
            looks: Mutex::default(),
            events: Feed::default(),
            stats: Feed::default(),
        }));
    }

    /// All of them.
    pub fn daemons(&self) -> Vec<Arc<Daemon>> {
        lock(&self.0).clone()
    }

    /// The one of this id.
    pub fn find(&self, id: &str) -> Option<Arc<Daemon>> {
        lock(&self.0).iter().find(|daemon| daemon.id == id).cloned()
    }
}

/// A short text that stands for an endpoint in paths.
fn id_of(endpoint: &Endpoint) -> String {
    let text = match endpoint {
        Endpoint::Tcp { host, port } if is_loopback(host) => port.to_string(),
        Endpoint::Tcp { host, port } => format!("{host}-{port}"),
        Endpoint::Ipc(path) => path.display().to_string(),
    };
    plain(&text)
}

/// What may stand in a path as it is.
fn plain(text: &str) -> String {
    let plain = text.replace(
        |c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_',
        "-",
    );
    match plain.trim_matches(['-', '.']) {
        "" => "daemon".to_owned(),
        plain => plain.to_owned(),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl Daemon {
    /// Whether it is on this machine, so that its files are ours.
    pub fn is_local(&self) -> bool {
        let here = match &self.endpoint {
            Endpoint::Ipc(_) => true,
            Endpoint::Tcp { host, .. } => is_loopback(host),
        };
        here && self.way.is_none()
    }

    /// The words for an error of a call.
    async fn explain(&self, error: String) -> String {
        let Some(way) = self.way.clone() else {
            return error;
        };
        let told = error.clone();
        let explained = tokio::task::spawn_blocking(move || way.explain(&told)).await;
        explained.unwrap_or(error)
    }

    /// Sends a command; the reply comes as it is.
    ///
    /// # Errors
    /// There is none.
    pub async fn ask(
        &self,
        command: &str,
        properties: Map<String, Value>,
    ) -> Result<Map<String, Value>, AskError> {
        self.ask_within(command, properties, PATIENCE).await
    }

    /// As [`Daemon::ask`], with another patience.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub async fn ask_within(
        &self,
        command: &str,
        properties: Map<String, Value>,
        timeout: Duration,
    ) -> Result<Map<String, Value>, AskError> {
        let Ok(_turn) = self.calls.acquire().await else {
            return Err(AskError::Away("the console ends".into()));
        };
        let kept = (timeout == PATIENCE)
            .then(|| lock(&self.idle).pop())
            .flatten();
        // its own limit is for those who set none
        let fresh = || Session::new(self.endpoint.clone(), timeout * 2);
        let late = |_| {
            let seconds = timeout.as_secs_f64();
            let address = &self.address;
            AskError::Late(format!(
                "{address} did not answer `{command}` within {seconds} s"
            ))
        };
        let had_one = kept.is_some();
        let mut session = kept.unwrap_or_else(fresh);
        let asking = session.ask(command, properties.clone());
        let mut reply = tokio::time::timeout(timeout, asking).await.map_err(late)?;
        // a kept connection may be one to a daemon that is gone; asking again is harmless for what only looks
        let looks = crate::wire::command::find(command).is_some_and(|spec| spec.only_looks());
        if reply.is_err() && had_one && looks {
            lock(&self.idle).clear();
            session = fresh();
            let asking = session.ask(command, properties);
            reply = tokio::time::timeout(timeout, asking).await.map_err(late)?;
        }
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => return Err(AskError::Away(self.explain(error.to_string()).await)),
        };
        if timeout == PATIENCE {
            let mut idle = lock(&self.idle);
            if idle.len() < KEPT {
                idle.push(session);
            }
        }
        Ok(reply)
    }

    /// Who it is and how all its watchers are.
    ///
    /// # Errors
    /// It does not answer, or refuses to.
    pub async fn look(&self) -> Result<Snapshot, AskError> {
        let reply = self.ask("metrics", one("processes", true)).await?;
        let sockets = self.ask("listsockets", one("details", true)).await?;
        if reply.get("status").and_then(Value::as_str) == Some("ok") {
            let now = Instant::now();
            let mut looks = lock(&self.looks);
            looks.forget_old(now);
            return Ok(Snapshot::of_circ(&reply, &sockets, &mut looks, now));
        }
        self.look_at_circus(&sockets).await
    }

    async fn look_at_circus(&self, sockets: &Map<String, Value>) -> Result<Snapshot, AskError> {
        let mut replies = CircusReplies {
            status: self.ask("status", Map::new()).await?,
            stats: self.ask("stats", Map::new()).await?,
            dstats: self.ask("dstats", Map::new()).await?,
            options: BTreeMap::new(),
        };
        let names = replies.status.get("statuses").and_then(Value::as_object);
        let names: Vec<String> = names.into_iter().flat_map(Map::keys).cloned().collect();
        for name in names {
            let keys = json!({"name": name, "keys": ["numprocesses", "singleton"]});
            let reply = self.ask("get", object(keys)).await?;
            let options = reply.get("options").and_then(Value::as_object);
            replies
                .options
                .insert(name, options.cloned().unwrap_or_default());
        }
        Ok(Snapshot::of_circus(&replies, sockets, wall_clock()))
    }

    /// Who it is, if it answers soon.
    pub async fn state(&self) -> State {
        let glance = async {
            let reply = self.ask("identity", Map::new()).await?;
            if reply.get("status").and_then(Value::as_str) == Some("ok") {
                let all = Map::from_iter([("daemon".to_owned(), Value::Object(reply))]);
                let looked =
                    Snapshot::of_circ(&all, &Map::new(), &mut Looks::default(), Instant::now());
                return Ok(looked.identity);
            }
            let replies = CircusReplies {
                dstats: self.ask("dstats", Map::new()).await?,
                ..CircusReplies::default()
            };
            Ok(Snapshot::of_circus(&replies, &Map::new(), 0.0).identity)
        };
        match tokio::time::timeout(GLANCE, glance).await {
            Ok(Ok(identity)) => State::Up(Box::new(identity)),
            Ok(Err(error)) => State::Down(AskError::to_string(&error)),
            Err(_) => State::Down(format!(
                "{} did not answer within {} s",
                self.address,
                GLANCE.as_secs()
            )),
        }
    }

    /// How the API tells of it.
    pub fn told(&self, state: &State) -> Value {
        let mut told = match state {
            State::Up(identity) => json!(identity),
            State::Down(_) => {
                json!({"program": null, "version": null, "pid": null, "name": null, "config": null,
                "started": null})
            }
        };
        told["id"] = json!(self.id);
        told["endpoint"] = json!(self.address);
        told["local"] = json!(self.is_local());
        told["state"] = json!(if matches!(state, State::Up(_)) {
            "up"
        } else {
            "down"
        });
        told["reason"] = match state {
            State::Up(_) => Value::Null,
            State::Down(reason) => json!(reason),
        };
        told
    }

    /// What it publishes, from now on.
    pub fn events(self: &Arc<Self>) -> broadcast::Receiver<Told<Value>> {
        let daemon = self.clone();
        self.events
            .subscribe(|sender| async move { daemon.publish_events(&sender).await })
    }

    /// A sample a second, from now on.
    pub fn stats(self: &Arc<Self>) -> broadcast::Receiver<Told<Snapshot>> {
        let daemon = self.clone();
        self.stats
            .subscribe(|sender| async move { daemon.publish_stats(&sender).await })
    }

    /// How the stream of [`Daemon::events`] is, as far as somebody has it.
    pub fn events_state(&self) -> Option<Result<(), String>> {
        self.events.state()
    }

    /// How the stream of [`Daemon::stats`] is, as far as somebody has it.
    pub fn stats_state(&self) -> Option<Result<(), String>> {
        self.stats.state()
    }

    async fn publish_stats(&self, sender: &broadcast::Sender<Told<Snapshot>>) {
        let mut due = tokio::time::interval(PERIOD);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            match self.look().await {
                Ok(snapshot) => {
                    self.stats.tell_state(sender, Ok(()));
                    // nobody listens any more: the end is near
                    let _ = sender.send(Told::Item(Arc::new(snapshot)));
                }
                Err(error) => self.stats.tell_state(sender, Err(error.to_string())),
            }
        }
    }

    async fn publish_events(&self, sender: &broadcast::Sender<Told<Value>>) {
        loop {
            match self.publisher().await {
                Ok(endpoint) => self.follow(endpoint, sender).await,
                Err(why) => self.events.tell_state(sender, Err(why)),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Follows one publisher until it is lost.
    async fn follow(&self, endpoint: Endpoint, sender: &broadcast::Sender<Told<Value>>) {
        let mut news = session::listen(endpoint, "watcher.");
        while let Some(news) = news.recv().await {
            match news {
                News::Connected => self.events.tell_state(sender, Ok(())),
                News::Lost(why) => {
                    let why = self.explain(why).await;
                    self.events.tell_state(sender, Err(why));
                    return;
                }
                News::Event(topic, payload) => {
                    if let Some(event) = event(&topic, &payload) {
                        let _ = sender.send(Told::Item(Arc::new(event)));
                    }
                }
            }
        }
    }

    /// Where it publishes its events.
    async fn publisher(&self) -> Result<Endpoint, String> {
        let option = "pubsub_endpoint";
        let reply = self.ask("globaloptions", one("option", option)).await;
        let reply = reply.map_err(|error| error.to_string())?;
        let text = reply.get("options").and_then(|options| options.get(option));
        let text = text.and_then(Value::as_str);
        let text = text.ok_or_else(|| {
            format!(
                "{} does not say where it publishes its events",
                self.address
            )
        })?;
        let endpoint: Endpoint = text.parse().map_err(|error| {
            format!(
                "{} publishes its events at an address of no use: {error}",
                self.address
            )
        })?;
        let Some(way) = self.way.clone() else {
            return Ok(seen_from(&self.endpoint, endpoint));
        };
        // as that machine sees it
        let endpoint = endpoint.reachable();
        let found = tokio::task::spawn_blocking(move || way.to(&endpoint)).await;
        found.unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// What a daemon says of its own address, as its clients have to write it.
fn seen_from(control: &Endpoint, told: Endpoint) -> Endpoint {
    match (control, told) {
        (Endpoint::Tcp { host: known, .. }, Endpoint::Tcp { host, port })
            if !is_loopback(known)
                && (is_loopback(&host) || ["*", "0.0.0.0", "::"].contains(&host.as_str())) =>
        {
            let host = known.clone();
            Endpoint::Tcp { host, port }
        }
        (_, told) => told.reachable(),
    }
}

/// A published message as the API tells it.
fn event(topic: &[u8], payload: &[u8]) -> Option<Value> {
    let topic = String::from_utf8_lossy(topic);
    let (watcher, action) = topic.strip_prefix("watcher.")?.rsplit_once('.')?;
    let payload: Value = serde_json::from_slice(payload).ok()?;
    Some(json!({"topic": topic, "watcher": watcher, "action": action, "payload": payload}))
}

/// One property.
pub fn one(key: &str, value: impl Into<Value>) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), value.into())])
}

/// The object that a value is; empty for another.
pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_and_different() {
        let hub = Hub::default();
        for text in [
            "tcp://127.0.0.1:5555",
            "tcp://localhost:5555",
            "tcp://127.0.0.1:5555",
            "tcp://box.example:5555",
            "ipc:///run/a b.sock",
            "ipc:///",
        ] {
            hub.add(text.parse().unwrap());
        }
        let ids: Vec<String> = hub
            .daemons()
            .iter()
            .map(|daemon| daemon.id.clone())
            .collect();
        assert_eq!(
            ids,
            [
                "5555",
                "5555-2",
                "box.example-5555",
                "run-a-b.sock",
                "daemon"
            ]
        );
        assert!(hub.find("5555-2").is_some_and(|daemon| daemon.is_local()));
        assert!(hub.find("x").is_none());
    }

    #[test]
    fn an_address_is_seen_from_where_we_are() {
        let seen = |control: &str, told: &str| {
            seen_from(&control.parse().unwrap(), told.parse().unwrap()).to_string()
        };
        assert_eq!(seen("tcp://h:1", "tcp://0.0.0.0:2"), "tcp://h:2");
        assert_eq!(seen("tcp://h:1", "tcp://127.0.0.1:2"), "tcp://h:2");
        assert_eq!(seen("tcp://h:1", "tcp://o:2"), "tcp://o:2");
        assert_eq!(seen("tcp://127.0.0.1:1", "tcp://*:2"), "tcp://127.0.0.1:2");
    }

    #[test]
    fn events_are_told() {
        let told = event(b"watcher.my.app.reap", br#"{"time": 1.5}"#).unwrap();
        assert_eq!(told["watcher"], "my.app");
        assert_eq!(told["action"], "reap");
        assert_eq!(event(b"x", b"{}"), None);
        assert_eq!(event(b"watcher.a.b", b"{"), None);
    }
}
