//! The workers, the queue of requests before them, and who gets what when.

use super::asgi::Interface;
use super::asgi::link::{Order, Say};
use super::awake::Awake;
use super::counts::State;
use super::job::Job;
use super::marshal::Writer;
use super::reply;
use super::slot::{Exchange, Slot};
use super::worker::{News, Settings, Worker};
use hashbrown::HashMap;
use http::StatusCode;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// So many requests are handed to an idle worker at once, without looking whether more come.
const ENOUGH: usize = 16;
/// How long a worker may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// A worker that dies younger than this is replaced after a pause.
const YOUNG: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Inner {
    queue: VecDeque<(u32, Job)>,
    pub(super) slots: Vec<Slot>,
    pub(super) exchanges: HashMap<u32, Exchange>,
    next_number: u32,
    next_slot: u64,
    packet: Writer,
    closing: bool,
    /// Workers before this one have an application that has changed since.
    current: u64,
    /// Workers that have died.
    deaths: u64,
    /// Nanoseconds in which applications were at work.
    busy: u64,
    /// WebSockets are no longer wanted.
    pub(super) dismissed: bool,
    awake: Awake,
}

/// How it goes with the workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// None is there yet.
    Starting,
    /// At least one is ready; how Python shows the application.
    Ready(String),
    /// The first could not import the application; why.
    Failed(String),
}

/// The workers and the queue.
pub struct Pool {
    settings: Settings,
    wanted: usize,
    inner: Mutex<Inner>,
    pub(super) work: Notify,
    /// A worker has several requests.
    pub(super) several: Notify,
    health: watch::Sender<Health>,
    interface: OnceLock<Interface>,
}

impl Pool {
    /// A pool that wants so many workers; none is started yet.
    pub fn new(settings: Settings, wanted: usize) -> Arc<Pool> {
        Arc::new(Pool {
            settings,
            wanted,
            inner: Mutex::default(),
            work: Notify::new(),
            several: Notify::new(),
            health: watch::Sender::new(Health::Starting),
            interface: OnceLock::new(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the application is ASGI; known when it is ready.
    pub fn is_asgi(&self) -> bool {
        self.interface.get() == Some(&Interface::Asgi)
    }

    /// Requests that a worker may have at once.
    fn at_once(&self) -> usize {
        if self.is_asgi() {
            self.settings.asgi.concurrency
        } else {
            self.settings.threads
        }
    }

    /// How it goes.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Starts the workers and hands out requests, for as long as the pool lives.
    ///
    /// # Errors
    /// A worker cannot be started.
    pub fn start(self: &Arc<Pool>) -> io::Result<()> {
        for _ in 0..self.wanted {
            self.add()?;
        }
        let pool = self.clone();
        tokio::spawn(async move {
            loop {
                pool.work.notified().await;
                pool.flush();
                while pool.stays_awake() {
                    // whoever else wants the processor gets it
                    rustix::thread::sched_yield();
                    tokio::task::yield_now().await;
                    pool.flush();
                }
            }
        });
        tokio::spawn(self.clone().look_into_rings());
        Ok(())
    }

    /// Starts workers with the application as it is now; the old ones go when the new are ready.
    ///
    /// # Errors
    /// A worker cannot be started.
    pub fn renew(self: &Arc<Pool>) -> io::Result<()> {
        {
            let inner = &mut *self.lock();
            inner.current = inner.next_slot + 1;
            // those that never came up need not be waited for
            let idle: Vec<Slot> = inner.slots.extract_if(.., |slot| !slot.ready).collect();
            for slot in idle {
                tokio::spawn(slot.worker.leave(PATIENCE));
            }
        }
        for _ in 0..self.wanted {
            self.add()?;
        }
        Ok(())
    }

    fn add(self: &Arc<Pool>) -> io::Result<()> {
        let worker = Worker::start(&self.settings, self.interface.get().copied())?;
        let channel = worker.channel();
        let mut inner = self.lock();
        inner.next_slot += 1;
        let id = inner.next_slot;
        inner.slots.push(Slot::new(id, worker));
        drop(inner);
        let pool = self.clone();
        tokio::spawn(async move {
            while channel.readable().await.is_ok() {
                if !pool.hear(id) {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Puts a request into the queue; its number.
    pub fn submit(&self, job: Job) -> u32 {
        let mut inner = self.lock();
        inner.next_number = (inner.next_number + 1) & 0x7fff_ffff;
        let number = inner.next_number;
        let alone = inner.queue.is_empty() && inner.exchanges.is_empty();
        inner.awake.comes(alone);
        inner.queue.push_back((number, job));
        // a worker that has nothing to do is not to wait until all have been read
        let idle = |slot: &Slot| slot.outstanding.is_empty() && slot.takes_requests();
        if inner.queue.len() >= ENOUGH && inner.slots.iter().any(idle) {
            self.hand_out(&mut inner);
        } else {
            self.work.notify_one();
        }
        number
    }

    /// A client has taken so many bytes of a stream.
    pub fn credit(&self, number: u32, bytes: u64) {
        self.order(number, Order::Credit(bytes));
    }

    /// Nobody wants the rest of a stream.
    pub fn gone(&self, number: u32) {
        self.order(number, Order::Gone);
    }

    /// Tells the worker that has this request, if one has.
    pub fn order(&self, number: u32, order: Order) {
        let mut inner = self.lock();
        let Some(id) = inner.exchanges.get(&number).map(|exchange| exchange.slot) else {
            return;
        };
        if let Some(slot) = inner.slots.iter_mut().find(|slot| slot.id == id) {
            slot.orders.push_back((number, order));
            self.work.notify_one();
        }
    }

    /// A request was given up after so long: a worker that has no thread left for others is replaced.
    pub fn expired(&self, limit: Duration) {
        // an ASGI worker has no end of room; its application is told that the client has gone
        let threads = self.at_once();
        let inner = &mut *self.lock();
        for slot in &mut inner.slots {
            let given_up = |number: &&u32| {
                let exchange = inner.exchanges.get(*number);
                let job = exchange.and_then(|exchange| exchange.job.as_ref());
                job.is_some_and(|job| job.reply.is_closed())
            };
            // they are begun in this order
            let stuck = slot.outstanding.iter().take(threads).filter(given_up);
            if stuck.count() == threads {
                tracing::error!(
                    "requests took longer than {} s: worker {} is killed",
                    limit.as_secs_f64(),
                    slot.worker.pid()
                );
                slot.worker.kill();
            }
        }
    }

    /// Ends all WebSockets, now and from now on: the server is ending.
    pub fn dismiss(&self) {
        let mut inner = self.lock();
        inner.dismissed = true;
        for exchange in inner.exchanges.values() {
            exchange.link.say(Say::Restart);
        }
    }

    /// How it goes with the workers.
    pub fn state(&self) -> State {
        let inner = self.lock();
        State {
            in_flight: inner.queue.len() + inner.exchanges.len(),
            queued: inner.queue.len(),
            workers: inner.slots.iter().filter(|slot| slot.ready).count(),
            deaths: inner.deaths,
            busy: inner.busy,
        }
    }

    /// Lets all workers go.
    pub async fn close(&self) {
        let slots = {
            let mut inner = self.lock();
            inner.closing = true;
            std::mem::take(&mut inner.slots)
        };
        let leaving: Vec<_> = slots
            .into_iter()
            .map(|slot| tokio::spawn(slot.worker.leave(PATIENCE)))
            .collect();
        for task in leaving {
            // it has nothing to say
            let _ = task.await;
        }
    }

    fn stays_awake(&self) -> bool {
        self.lock().awake.stay()
    }

    /// Hands out what waits.
    fn flush(&self) {
        self.hand_out(&mut self.lock());
    }

    fn hand_out(&self, inner: &mut Inner) {
        let threads = self.at_once();
        while !inner.queue.is_empty() {
            let waiting = inner.queue.len();
            let room = |slot: &Slot| slot.room(threads, waiting);
            let takers = inner.slots.iter().filter(|slot| room(slot) > 0).count();
            let free = inner.slots.iter_mut().filter(|slot| room(slot) > 0);
            let Some(slot) = free.min_by_key(|slot| slot.outstanding.len()) else {
                break;
            };
            // one of several workers does not get what the others could begin with
            let room = room(slot).min(waiting.div_ceil(takers));
            let before = slot.outstanding.len();
            slot.speak(&mut inner.packet, |slot, out| {
                slot.requests(out, &mut inner.queue, &mut inner.exchanges, room)
            });
            if slot.outstanding.len() == before {
                break;
            }
            if slot.has_several() {
                self.several.notify_one();
            }
        }
        for slot in &mut inner.slots {
            while slot.ready && slot.unsent.is_none() && slot.has_to_say() {
                slot.speak(&mut inner.packet, |_, _| 0);
            }
        }
    }

    /// Takes what a worker has said; false if it is gone.
    fn hear(self: &Arc<Pool>, id: u64) -> bool {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut alive = true;
        let mut changed = false;
        loop {
            let Some(slot) = inner.slots.iter_mut().find(|slot| slot.id == id) else {
                return false;
            };
            slot.send_unsent();
            let Some(news) = slot.worker.news() else {
                break;
            };
            match news {
                News::Ready(application, asgi) => {
                    slot.ready = true;
                    self.interface.get_or_init(|| {
                        if asgi {
                            Interface::Asgi
                        } else {
                            Interface::Wsgi
                        }
                    });
                    self.ready(inner, id, application);
                }
                News::Failed(why) => {
                    self.health.send_if_modified(|health| {
                        let first = *health == Health::Starting;
                        if first {
                            *health = Health::Failed(why.clone());
                        }
                        first
                    });
                    tracing::error!("the application cannot be imported: {why}");
                    if self.settings.reload {
                        let serving = inner.slots.iter().any(|slot| slot.ready);
                        let meanwhile = if serving {
                            "; the one before goes on serving"
                        } else {
                            ""
                        };
                        tracing::info!("waiting for a change of its files{meanwhile}");
                    }
                }
                News::Said(text) => tracing::info!("{text}"),
                News::Changed(path) => {
                    // every worker sees it
                    if id >= inner.current {
                        inner.current = inner.next_slot + 1;
                        changed = true;
                        tracing::info!("{path} has changed, starting the application anew");
                    }
                }
                News::Answers { head, busy, count } => {
                    slot.measure(busy, count);
                    inner.busy += busy;
                    self.take(slot, &mut inner.exchanges, head, inner.dismissed);
                    if slot.has_several() {
                        self.several.notify_one();
                    }
                }
                News::Gone => {
                    alive = false;
                    break;
                }
            }
        }
        if !alive {
            self.lost(inner, id);
        }
        let retired: Vec<Slot> = inner
            .slots
            .extract_if(.., |slot| slot.retiring && slot.outstanding.is_empty())
            .collect();
        for slot in retired {
            tokio::spawn(slot.worker.leave(PATIENCE));
        }
        if inner.exchanges.is_empty() {
            inner.awake.answered();
        }
        self.work.notify_one();
        drop(guard);
        if changed && let Err(error) = self.renew() {
            tracing::error!("cannot start a worker: {error}");
        }
        alive
    }

    /// A worker is ready: one from before goes, if there are too many.
    fn ready(&self, inner: &mut Inner, id: u64, application: String) {
        let ready = |slot: &&mut Slot| slot.ready && !slot.retiring && slot.id != id;
        let count = inner.slots.iter_mut().filter(ready).count();
        if count >= self.wanted
            && let Some(oldest) = inner
                .slots
                .iter_mut()
                .filter(ready)
                .min_by_key(|slot| slot.id)
        {
            oldest.retiring = true;
            for exchange in inner.exchanges.values() {
                if exchange.slot == oldest.id {
                    exchange.link.say(Say::Restart);
                }
            }
        }
        self.health.send_replace(Health::Ready(application));
    }

    /// A worker is gone: what it had finished is taken, what it was at has failed, the rest goes to others.
    fn lost(self: &Arc<Pool>, inner: &mut Inner, id: u64) {
        let Some(place) = inner.slots.iter().position(|slot| slot.id == id) else {
            return;
        };
        let mut slot = inner.slots.remove(place);
        let filled = slot.worker.filled();
        self.take(&mut slot, &mut inner.exchanges, filled, inner.dismissed);
        slot.worker.kill();
        if !inner.closing && !slot.retiring {
            inner.deaths += 1;
        }
        let mut again = Vec::new();
        // with one thread, only the first was begun
        let begun = match self.at_once() {
            1 => 1,
            _ => slot.outstanding.len(),
        };
        for (place, number) in slot.outstanding.iter().enumerate() {
            let Some(exchange) = inner.exchanges.remove(number) else {
                continue;
            };
            if let Some(stream) = exchange.stream {
                let error = io::Error::other("the worker has died");
                let _ = stream.send(Err(error));
            }
            match exchange.job {
                Some(job) if place >= begun => again.push((*number, job)),
                Some(job) => {
                    let text = "The application's process has died.";
                    // its client may have gone as well
                    let _ = job.reply.send(reply::own(StatusCode::BAD_GATEWAY, text));
                }
                None => {}
            }
        }
        for job in again.into_iter().rev() {
            inner.queue.push_front(job);
        }
        if inner.closing || slot.retiring {
            return;
        }
        if !slot.ready {
            self.health.send_if_modified(|health| {
                let first = *health == Health::Starting;
                if first {
                    *health = Health::Failed("Python has ended before it was ready".to_string());
                }
                first
            });
            let replaced = inner
                .slots
                .iter()
                .filter(|slot| slot.ready && !slot.retiring)
                .count();
            let failed = matches!(*self.health.borrow(), Health::Failed(_));
            if replaced >= self.wanted || failed && !self.settings.reload || id < inner.current {
                // a new application that does not come up leaves the old one running
                return;
            }
        } else {
            tracing::error!("worker {} has died; it is replaced", slot.worker.pid());
        }
        let pause = if slot.since.elapsed() < YOUNG {
            YOUNG
        } else {
            Duration::ZERO
        };
        let pool = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            if pool.lock().closing {
                return;
            }
            if let Err(error) = pool.add() {
                tracing::error!("cannot start a worker: {error}");
            }
        });
    }
}
