//! The loop around a plugin: the clock, the sockets, the log. It decides nothing.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::statsd::{Sender, Target};
use super::step::{Effect, Event, Input, Level, Look, Looked, Plugin};
use super::{files, http, redis};
use crate::wire::session::listen;
use crate::wire::{CallError, Endpoint, News, Session};

/// How long the daemon may take to answer a call.
const ANSWER: Duration = Duration::from_secs(30);
/// For how long a port that is in use is tried again: the plugin that is being replaced may still have it.
const PORT_IN_USE: Duration = Duration::from_secs(15);
/// The longest datagram that is read; Circus's number.
const DATAGRAM: usize = 1024;

/// What a plugin runs with.
pub struct Setup {
    /// What its lines in the log begin with.
    pub name: String,
    /// The control socket of the daemon.
    pub endpoint: Endpoint,
    /// Where the daemon publishes events.
    pub pubsub: Endpoint,
    /// Where numbers go, if the plugin has any.
    pub statsd: Option<Target>,
    /// End when the process that started this one has ended: it was the daemon.
    pub with_parent: bool,
}

/// A clock for plugins: seconds since it was made.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at 0.
    #[expect(
        clippy::new_without_default,
        reason = "a clock is started, not defaulted"
    )]
    pub fn new() -> Self {
        Clock(Instant::now())
    }

    /// Seconds since it was made.
    pub fn now(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    fn instant(self, at: f64) -> tokio::time::Instant {
        let since = Duration::try_from_secs_f64(at.max(0.0)).unwrap_or(Duration::MAX);
        let instant = self.0.checked_add(since);
        instant
            .unwrap_or(self.0 + Duration::from_secs(1 << 30))
            .into()
    }
}

/// Runs a plugin until it is interrupted, or its daemon is gone. `ready` is called when everything is there.
///
/// # Errors
/// It cannot receive what it needs to; in words.
pub fn run(
    plugin: Box<dyn Plugin>,
    setup: Setup,
    clock: Clock,
    ready: impl FnOnce() + 'static,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|why| format!("cannot start the event loop: {why}"))?;
    runtime.block_on(async move {
        let wants = plugin.wants();
        let datagrams = match wants.datagrams {
            Some(place) => Some(bind(place, &setup.name).await?),
            None => None,
        };
        let news = wants
            .events
            .then(|| listen(setup.pubsub.clone(), "watcher."));
        let shell = Shell {
            plugin,
            clock,
            session: Session::new(setup.endpoint, ANSWER),
            statsd: setup.statsd.map(Sender::new),
            name: setup.name,
            parent: setup.with_parent.then(nix::unistd::getppid),
            away: false,
            seed: seed(),
        };
        ready();
        shell.run(news, datagrams).await
    })
}

/// Binds the socket for datagrams, waiting for whoever has the port.
async fn bind(place: SocketAddr, name: &str) -> Result<UdpSocket, String> {
    let end = Instant::now() + PORT_IN_USE;
    let mut told = false;
    loop {
        match UdpSocket::bind(place).await {
            Ok(socket) => {
                tracing::info!("{name}: datagrams are received on {place}");
                return Ok(socket);
            }
            Err(why) if why.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                if !told {
                    told = true;
                    tracing::info!("{name}: {place} is in use; waiting for it");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(why) => return Err(format!("cannot receive datagrams on {place}: {why}")),
        }
    }
}

struct Shell {
    plugin: Box<dyn Plugin>,
    clock: Clock,
    session: Session,
    statsd: Option<Sender>,
    name: String,
    /// The process that started this one, if this one is to end with it.
    parent: Option<nix::unistd::Pid>,
    /// The daemon was not reached the last time.
    away: bool,
    seed: u64,
}

impl Shell {
    async fn run(
        mut self,
        mut news: Option<mpsc::Receiver<News>>,
        datagrams: Option<UdpSocket>,
    ) -> Result<(), String> {
        let kind = tokio::signal::unix::SignalKind::interrupt();
        let mut interrupt = tokio::signal::unix::signal(kind)
            .map_err(|why| format!("cannot listen to signals: {why}"))?;
        let mut bytes = [0; DATAGRAM];
        loop {
            let wake = self.plugin.wake().map(|at| self.clock.instant(at));
            let input = tokio::select! {
                biased;
                _ = interrupt.recv() => return Ok(()),
                // before the clock: who was heard of in time was, even if this process could not run
                input = next_datagram(datagrams.as_ref(), &mut bytes) => input,
                input = next_news(news.as_mut()) => match input {
                    News::Connected => {
                        tracing::debug!("{}: events are heard", self.name);
                        Some(Input::Connected)
                    }
                    News::Event(topic, payload) => Event::read(&topic, &payload).map(Input::Event),
                    News::Lost(why) => {
                        self.unreachable(&why);
                        None
                    }
                },
                () = until(wake) => Some(Input::Tick),
            };
            if self.is_orphan() {
                tracing::info!("{}: the daemon is gone", self.name);
                return Ok(());
            }
            if let Some(input) = input {
                self.feed(input).await;
            }
        }
    }

    fn is_orphan(&self) -> bool {
        self.parent
            .is_some_and(|parent| nix::unistd::getppid() != parent)
    }

    /// Does everything that follows from an input.
    async fn feed(&mut self, input: Input) {
        let mut todo: VecDeque<Effect> = self.plugin.step(self.clock.now(), input).into();
        while let Some(effect) = todo.pop_front() {
            let Some(input) = self.perform(effect).await else {
                continue;
            };
            let more = self.plugin.step(self.clock.now(), input);
            for effect in more.into_iter().rev() {
                todo.push_front(effect);
            }
        }
    }

    async fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Call(call) => {
                let properties = call.properties.clone();
                let reply = self.session.call(call.command, properties).await;
                match &reply {
                    Err(CallError::Unreachable(why)) => self.unreachable(&why.clone()),
                    _ => self.away = false,
                }
                Some(Input::Reply(call, reply))
            }
            Effect::Metric(metric) => {
                let chance = self.chance();
                let now = self.clock.now();
                if let Some(statsd) = &mut self.statsd
                    && let Err(why) = statsd.send(now, &metric, chance)
                {
                    tracing::warn!("{}: {why}", self.name);
                }
                None
            }
            Effect::Look(Look::Page { url, timeout }) => {
                Some(Input::Looked(Looked::Page(http::fetch(&url, timeout))))
            }
            Effect::Look(Look::Redis { url, timeout }) => {
                let told = redis::info(&url, timeout).await;
                Some(Input::Looked(Looked::Redis(told)))
            }
            Effect::Look(Look::Files { watcher, command }) => {
                let stamps = files::look(&command);
                Some(Input::Looked(Looked::Files { watcher, stamps }))
            }
            Effect::Log(level, text) => {
                let name = &self.name;
                match level {
                    Level::Debug => tracing::debug!("{name}: {text}"),
                    Level::Info => tracing::info!("{name}: {text}"),
                    Level::Warning => tracing::warn!("{name}: {text}"),
                }
                None
            }
        }
    }

    /// Said once, until it is there again.
    fn unreachable(&mut self, why: &str) {
        if !self.away && !self.is_orphan() {
            tracing::warn!("{}: the daemon is not reached: {why}", self.name);
        }
        self.away = true;
    }

    /// A number from 0 up to 1 (xorshift): for samples, not for secrets.
    fn chance(&mut self) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as f64 / (1u64 << 53) as f64
    }
}

async fn next_datagram(socket: Option<&UdpSocket>, bytes: &mut [u8]) -> Option<Input> {
    match socket {
        Some(socket) => {
            // what the kernel tells here is of an earlier send, and we send nothing
            let length = socket.recv(bytes).await.ok()?;
            Some(Input::Datagram(bytes[..length].to_vec()))
        }
        None => std::future::pending().await,
    }
}

async fn next_news(news: Option<&mut mpsc::Receiver<News>>) -> News {
    match news {
        Some(news) => match news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn until(wake: Option<tokio::time::Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

fn seed() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    (now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32) | 1
}
