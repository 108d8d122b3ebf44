//! The talk with the daemon: asks what the screen shows, hears events and published statistics, sends commands. Everything
//! goes to the painter through one bounded queue; a daemon that goes away is looked for until it is there again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::sync::{Notify, mpsc};

use super::Input;
use crate::cli::connection::Route;
use crate::stats::queues;
use crate::top::News;
use crate::top::happenings::Weight;
use crate::top::keys::Call;
use crate::top::screen::Source;
use crate::wire::event::resource_name;
use crate::wire::session::{News as Heard, listen};
use crate::wire::{CallError, Session};

/// From one look to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// How often the daemon is asked how its watchers are although no event says that something has changed.
const REGULARLY: Duration = Duration::from_secs(5);
/// How often is asked what hardly ever changes, one question a watcher.
const SELDOM: Duration = Duration::from_secs(30);
/// Events come in swarms: so long is waited for the rest of one.
const SWARM: Duration = Duration::from_millis(200);
/// So long after the last published statistics they are asked for.
const SILENCE: Duration = Duration::from_millis(3500);
/// Between two tries to find a daemon that is away.
const AGAIN: Duration = Duration::from_millis(500);

/// The ways to a daemon.
pub struct Ways {
    /// To its control endpoint.
    pub control: Arc<Route>,
    /// To where it publishes events.
    pub events: Option<Arc<Route>>,
    /// To where it may publish statistics.
    pub statistics: Option<Arc<Route>>,
    /// It runs on this machine, as far as can be told from the address.
    pub local: bool,
    /// How long each answer may take.
    pub timeout: Duration,
}

/// What the parts of the talk know together.
struct Shared {
    start: Instant,
    /// The daemon's process.
    pid: AtomicI64,
    /// When its statistics were heard last, in milliseconds after the start, and 1; 0 is never.
    heard: AtomicU64,
    /// Something has changed.
    poke: Notify,
    /// Watchers that events were about, as topics have them.
    touched: Mutex<BTreeSet<String>>,
}

impl Shared {
    fn published(&self) -> bool {
        let heard = self.heard.load(Ordering::Relaxed);
        let now = self.start.elapsed().as_millis() as u64;
        heard > 0 && now.saturating_sub(heard - 1) < SILENCE.as_millis() as u64
    }
}

/// Starts the talk in tasks of the current runtime. What is sent into the result is sent to the daemon.
pub fn talk(ways: &Ways, news: &mpsc::Sender<Input>) -> mpsc::Sender<Call> {
    let shared = Arc::new(Shared {
        start: Instant::now(),
        pid: AtomicI64::new(0),
        heard: AtomicU64::new(0),
        poke: Notify::new(),
        touched: Mutex::default(),
    });
    let session = || Session::new(ways.control.endpoint.clone(), ways.timeout);
    match &ways.events {
        Some(way) => drop(tokio::spawn(hear_events(
            way.clone(),
            news.clone(),
            shared.clone(),
        ))),
        None => {
            let why = "there is no way to where the daemon publishes them".to_string();
            // the queue is empty yet
            let _ = news.try_send(Input::News(News::Deaf(Some(why))));
        }
    }
    if let Some(way) = &ways.statistics {
        tokio::spawn(hear_statistics(way.clone(), news.clone(), shared.clone()));
    }
    let asking = Asking {
        session: session(),
        way: ways.control.clone(),
        local: ways.local,
        news: news.clone(),
        shared: shared.clone(),
        untold: Vec::new(),
        told: false,
        wanted: BTreeMap::new(),
        source: Source::Unknown,
        due: Due::default(),
    };
    tokio::spawn(asking.run());
    let (sender, calls) = mpsc::channel(8);
    tokio::spawn(act(session(), calls, news.clone(), shared));
    sender
}

/// Whether a wish was taken by [`talk`]'s queue, which is short: who asks for more has to wait.
pub fn send(calls: &mpsc::Sender<Call>, call: Call) -> Option<News> {
    let words = call.words.clone();
    match calls.try_send(call) {
        Ok(()) => None,
        Err(_) => Some(News::Answer(
            format!("{words}: not sent, the daemon has not answered the last ones yet"),
            Weight::Bad,
        )),
    }
}

async fn hear_events(way: Arc<Route>, news: mpsc::Sender<Input>, shared: Arc<Shared>) {
    let mut events = listen(way.endpoint.clone(), "watcher.");
    while let Some(heard) = events.recv().await {
        let told = match heard {
            Heard::Connected => News::Deaf(None),
            Heard::Lost(why) => News::Deaf(Some(why)),
            Heard::Event(topic, payload) => {
                let watcher = std::str::from_utf8(&topic).ok();
                let watcher = watcher.and_then(|topic| topic.strip_prefix("watcher."));
                if let Some((watcher, _)) = watcher.and_then(|topic| topic.rsplit_once('.')) {
                    let mut touched = shared
                        .touched
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    touched.insert(watcher.to_string());
                }
                News::Event(topic, payload)
            }
        };
        if news.send(Input::News(told)).await.is_err() {
            return;
        }
        shared.poke.notify_one();
    }
}

async fn hear_statistics(way: Arc<Route>, news: mpsc::Sender<Input>, shared: Arc<Shared>) {
    let mut statistics = listen(way.endpoint.clone(), "stat.");
    // whose they are: an endpoint that nobody has set may be another daemon's
    let mut known = 0;
    while let Some(heard) = statistics.recv().await {
        let (topic, payload) = match heard {
            Heard::Event(topic, payload) => (topic, payload),
            Heard::Connected | Heard::Lost(_) => {
                known = 0;
                continue;
            }
        };
        let pid = shared.pid.load(Ordering::Relaxed);
        if known == 0 || known != pid {
            if pid == 0 || topic != format!("stat.circus.{pid}").as_bytes() {
                continue;
            }
            known = pid;
        }
        let now = shared.start.elapsed().as_millis() as u64;
        shared.heard.store(now + 1, Ordering::Relaxed);
        if news
            .send(Input::News(News::Published(topic, payload)))
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn act(
    mut session: Session,
    mut calls: mpsc::Receiver<Call>,
    news: mpsc::Sender<Input>,
    shared: Arc<Shared>,
) {
    while let Some(call) = calls.recv().await {
        let (words, weight) = match session.call(call.command, call.properties).await {
            Ok(reply) => match reply.get("numprocesses").and_then(Value::as_i64) {
                Some(count) if reply.get("singleton") == Some(&Value::Bool(true)) => (
                    format!("{}: it is a singleton and stays at {count}", call.words),
                    Weight::Bad,
                ),
                Some(count) => (format!("{}: {count} processes", call.words), Weight::Good),
                None => (format!("{}: accepted", call.words), Weight::Good),
            },
            Err(CallError::Refused(reason)) => {
                (format!("{}: refused: {reason}", call.words), Weight::Bad)
            }
            Err(CallError::Unreachable(why)) => (format!("{}: {why}", call.words), Weight::Bad),
        };
        if news
            .send(Input::News(News::Answer(words, weight)))
            .await
            .is_err()
        {
            return;
        }
        shared.poke.notify_one();
    }
}

/// When which question is to be asked again; at once if there is no time.
#[derive(Default)]
struct Due {
    status: Option<Instant>,
    statistics: Option<Instant>,
    wanted: Option<Instant>,
}

/// Who asks.
struct Asking {
    session: Session,
    way: Arc<Route>,
    local: bool,
    news: mpsc::Sender<Input>,
    shared: Arc<Shared>,
    /// Descriptors of the daemon's sockets of which it does not say how many connections wait.
    untold: Vec<i64>,
    /// Of others it does.
    told: bool,
    /// Watchers whose number of processes is known, of a daemon that does not tell it with the status.
    wanted: BTreeMap<String, i64>,
    source: Source,
    due: Due,
}

/// Why it does not go on.
enum Stop {
    /// The painter has ended.
    Over,
    /// The daemon does not answer; why.
    Away(String),
}

impl Asking {
    async fn run(mut self) {
        let mut here = false;
        loop {
            let now = Instant::now();
            match self.round(&mut here).await {
                Ok(()) => {}
                Err(Stop::Over) => return,
                Err(Stop::Away(why)) => {
                    here = false;
                    let way = self.way.clone();
                    // it may wait for what ssh has to say
                    let explained = tokio::task::spawn_blocking(move || way.explain(&why)).await;
                    let why = explained.unwrap_or_else(|error| error.to_string());
                    if self.tell(News::Away(why)).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            }
            let next = now + PERIOD;
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = self.shared.poke.notified() => {
                    tokio::time::sleep(SWARM).await;
                    self.due.status = None;
                }
            }
        }
    }

    /// Asks everything that is due.
    async fn round(&mut self, here: &mut bool) -> Result<(), Stop> {
        if !*here {
            self.greet().await?;
            *here = true;
        }
        let now = Instant::now();
        let due = |time: &Option<Instant>| time.is_none_or(|time| time <= now);
        if due(&self.due.status) {
            self.status().await?;
            self.due.status = Some(now + REGULARLY);
        }
        let published = self.shared.published();
        let source = match published {
            true => Source::Published,
            false => Source::Asked,
        };
        // at the beginning nobody knows whether they will be published
        let young = self.shared.start.elapsed() < SILENCE / 2;
        if source != self.source && (published || !young) {
            self.source = source;
            self.tell(News::Source(source)).await?;
        }
        if !published && due(&self.due.statistics) {
            let began = Instant::now();
            self.statistics().await?;
            // a circusd with many processes needs long for them, and does nothing else meanwhile
            self.due.statistics = Some(began + PERIOD.max(began.elapsed() * 5) - SWARM / 2);
        }
        self.queues().await
    }

    /// A daemon that is new to us.
    async fn greet(&mut self) -> Result<(), Stop> {
        let identity = self.ask("identity", Map::new()).await?;
        let usage = self.ask("dstats", Map::new()).await?;
        let usage = usage.and_then(|mut reply| match reply.remove("info") {
            Some(Value::Object(info)) => Some(info),
            _ => None,
        });
        let pid = |reply: &Option<Map<String, Value>>| reply.as_ref()?.get("pid")?.as_i64();
        let pid = pid(&identity).or_else(|| pid(&usage)).unwrap_or(0);
        self.shared.pid.store(pid, Ordering::Relaxed);
        self.wanted.clear();
        self.due = Due::default();
        self.tell(News::Here(identity)).await?;
        if let Some(usage) = usage {
            self.tell(News::Daemon(usage)).await?;
        }
        Ok(())
    }

    async fn status(&mut self) -> Result<(), Stop> {
        let details = Map::from_iter([("details".to_string(), Value::Bool(true))]);
        let Some(reply) = self.ask("status", details).await? else {
            return Ok(());
        };
        let names: Vec<String> = reply
            .get("statuses")
            .and_then(Value::as_object)
            .map(|statuses| statuses.keys().cloned().collect())
            .unwrap_or_default();
        let told = reply.contains_key("watchers");
        self.tell(News::Status(reply)).await?;
        if !told {
            self.ask_wanted(&names).await?;
        }
        self.sockets().await
    }

    async fn sockets(&mut self) -> Result<(), Stop> {
        let details = Map::from_iter([("details".to_string(), Value::Bool(true))]);
        let Some(mut reply) = self.ask("listsockets", details).await? else {
            return Ok(());
        };
        if let Some(Value::Array(sockets)) = reply.remove("sockets") {
            // what the daemon itself tells need not be looked for
            let untold = sockets
                .iter()
                .filter(|socket| socket.get("waiting").is_none());
            self.untold = untold
                .filter_map(|socket| socket.get("fd")?.as_i64())
                .collect();
            self.told = self.untold.len() < sockets.len();
            self.tell(News::Sockets(sockets)).await?;
        }
        Ok(())
    }

    /// How many processes each watcher shall have: only of those that may have changed.
    async fn ask_wanted(&mut self, names: &[String]) -> Result<(), Stop> {
        let now = Instant::now();
        let touched = {
            let mut touched = self
                .shared
                .touched
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *touched)
        };
        let all = self.due.wanted.is_none_or(|time| time <= now);
        if all {
            self.due.wanted = Some(now + SELDOM);
        }
        self.wanted.retain(|name, _| names.contains(name));
        for name in names {
            if !all && self.wanted.contains_key(name) && !touched.contains(&resource_name(name)) {
                continue;
            }
            let properties = Map::from_iter([
                ("name".to_string(), Value::from(name.as_str())),
                ("keys".to_string(), Value::from(vec!["numprocesses"])),
            ]);
            let reply = self.ask("get", properties).await?;
            let wanted = reply.as_ref().and_then(|reply| {
                let options = reply.get("options")?;
                options.get("numprocesses")?.as_i64()
            });
            if let Some(wanted) = wanted {
                self.wanted.insert(name.clone(), wanted);
                self.tell(News::Wanted(name.clone(), wanted)).await?;
            }
        }
        Ok(())
    }

    async fn statistics(&mut self) -> Result<(), Stop> {
        if let Some(mut reply) = self.ask("stats", Map::new()).await?
            && let Some(Value::Object(infos)) = reply.remove("infos")
        {
            self.tell(News::Stats(infos)).await?;
        }
        if let Some(mut reply) = self.ask("dstats", Map::new()).await?
            && let Some(Value::Object(info)) = reply.remove("info")
        {
            self.tell(News::Daemon(info)).await?;
        }
        Ok(())
    }

    /// How many connections wait at each socket: the daemon is asked, or the kernel, if that can be seen from here.
    async fn queues(&mut self) -> Result<(), Stop> {
        if self.told {
            self.sockets().await?;
        }
        let pid = self.shared.pid.load(Ordering::Relaxed);
        if !self.local || self.untold.is_empty() || pid == 0 {
            return Ok(());
        }
        for (fd, queue) in queues::waiting(pid, &self.untold) {
            let waiting = queue.map(|queue| queue.waiting);
            self.tell(News::Waiting(fd, waiting)).await?;
        }
        Ok(())
    }

    /// A reply; none if the daemon refuses.
    async fn ask(
        &mut self,
        command: &str,
        properties: Map<String, Value>,
    ) -> Result<Option<Map<String, Value>>, Stop> {
        match self.session.call(command, properties).await {
            Ok(reply) => Ok(Some(reply)),
            Err(CallError::Refused(_)) => Ok(None),
            Err(CallError::Unreachable(why)) => Err(Stop::Away(why)),
        }
    }

    async fn tell(&self, news: News) -> Result<(), Stop> {
        let sent = self.news.send(Input::News(news)).await;
        sent.map_err(|_| Stop::Over)
    }
}
