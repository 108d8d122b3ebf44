//! The workers, the queue of requests before them, and who gets what when.

use super::asgi::Interface;
use super::asgi::link::{Link, Order, Say, Window};
use super::counts::State;
use super::environ::Target;
use super::marshal::Writer;
use super::reply::{self, ReplyBody, Stream};
use super::templates::{Sending, Templates};
use super::worker::{Kind, News, Record, Settings, Worker};
use bytes::Bytes;
use hashbrown::HashMap;
use http::{Response, StatusCode};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// A batch is to keep a worker busy for about so many nanoseconds.
const BATCH_TIME: u64 = 500_000;
/// Requests in one batch at the most.
const BATCH: usize = 64;
/// Requests that take longer than so many nanoseconds are handed out one at a time.
const SLOW: u64 = 1_000_000;
/// A packet is sent when it has become so long.
const PACKET: usize = 96 * 1024;
/// How long a worker may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// A worker that dies younger than this is replaced after a pause.
const YOUNG: Duration = Duration::from_secs(1);

/// The body of a request.
#[derive(Debug)]
pub enum RequestBody {
    /// There is none.
    Empty,
    /// In memory.
    Bytes(Bytes),
    /// In a file of this length.
    File(File, u64),
    /// It comes bit by bit, when a worker has the request (ASGI).
    Coming(Window),
    /// The request is for a WebSocket (ASGI).
    Socket(Window),
}

/// A request that a worker is to handle.
pub struct Job {
    /// Names and values of its environ, marshalled; see [`super::environ::write`].
    pub environ: Bytes,
    /// Where it goes.
    pub target: Target,
    /// The client's port.
    pub port: Option<u16>,
    /// Its body.
    pub body: RequestBody,
    /// Who waits for the answer.
    pub reply: oneshot::Sender<Response<ReplyBody>>,
    /// Its environ is a scope.
    pub asgi: bool,
}

impl Job {
    /// Writes what differs from one request to the next of the same client.
    fn write_target(&self, out: &mut Writer) {
        let Target { path, query, uri } = &self.target;
        if self.asgi {
            out.text(&String::from_utf8_lossy(path));
            out.bytes(query);
            out.bytes(uri.as_deref().unwrap_or_default());
            match self.port {
                Some(port) => out.int(i64::from(port)),
                None => out.none(),
            }
        } else {
            out.latin1(path);
            out.latin1(query);
            match uri {
                Some(uri) => out.latin1(uri),
                None => out.none(),
            }
            match self.port {
                Some(port) => out.text(&port.to_string()),
                None => out.none(),
            }
        }
    }
}

/// A request that a worker has.
struct Exchange {
    /// Kept until the first of its answer comes: it may have to be given to another worker.
    job: Option<Job>,
    stream: Option<mpsc::UnboundedSender<io::Result<Bytes>>>,
    slot: u64,
    link: Link,
}

struct Slot {
    id: u64,
    worker: Worker,
    ready: bool,
    retiring: bool,
    since: Instant,
    /// Its requests, in the order in which they were sent.
    outstanding: VecDeque<u32>,
    /// Nanoseconds a request takes.
    average: Option<u64>,
    templates: Templates,
    /// What it is to be told of its requests.
    orders: VecDeque<(u32, Order)>,
    /// How much of its ring it knows to be free again.
    told: u64,
    unsent: Option<Vec<u8>>,
    /// Status and headers of its last whole answer.
    last_head: Result<Response<()>, String>,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<(u32, Job)>,
    slots: Vec<Slot>,
    exchanges: HashMap<u32, Exchange>,
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
    dismissed: bool,
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
    work: Notify,
    health: watch::Sender<Health>,
    interface: OnceLock<Interface>,
}

/// How many requests more a worker is to get, if so many wait. Pure.
pub fn room(average: Option<u64>, threads: usize, outstanding: usize, waiting: usize) -> usize {
    let most = match average {
        // not known yet, or slow: nobody is to wait behind another
        None => threads,
        Some(average) if average > SLOW => threads,
        Some(average) => {
            let batch = usize::try_from(BATCH_TIME / average.max(1)).unwrap_or(BATCH);
            let batch = batch.clamp(1, BATCH);
            // two batches: while it is at one, the next is there already
            if outstanding > batch {
                return 0;
            }
            return batch.min(waiting);
        }
    };
    most.saturating_sub(outstanding).min(waiting)
}

impl Pool {
    /// A pool that wants so many workers; none is started yet.
    pub fn new(settings: Settings, wanted: usize) -> Arc<Pool> {
        Arc::new(Pool {
            settings,
            wanted,
            inner: Mutex::default(),
            work: Notify::new(),
            health: watch::Sender::new(Health::Starting),
            interface: OnceLock::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
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
            }
        });
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
        inner.slots.push(Slot {
            id,
            worker,
            ready: false,
            retiring: false,
            since: Instant::now(),
            outstanding: VecDeque::new(),
            average: None,
            templates: Templates::default(),
            orders: VecDeque::new(),
            told: 0,
            unsent: None,
            last_head: Err("it has none".to_string()),
        });
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
        inner.queue.push_back((number, job));
        self.work.notify_one();
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

    /// Hands out what waits.
    fn flush(&self) {
        let inner = &mut *self.lock();
        let threads = self.at_once();
        while !inner.queue.is_empty() {
            let waiting = inner.queue.len();
            let free = inner
                .slots
                .iter_mut()
                .filter(|slot| slot.ready && !slot.retiring && slot.unsent.is_none())
                .map(|slot| {
                    (
                        room(slot.average, threads, slot.outstanding.len(), waiting),
                        slot,
                    )
                })
                .filter(|(room, _)| *room > 0)
                .min_by_key(|(_, slot)| slot.outstanding.len());
            let Some((room, slot)) = free else { break };
            let before = slot.outstanding.len();
            slot.speak(&mut inner.packet, |slot, out| {
                slot.requests(out, &mut inner.queue, &mut inner.exchanges, room)
            });
            if slot.outstanding.len() == before {
                break;
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

    /// Takes the answers of a worker.
    fn take(
        self: &Arc<Pool>,
        slot: &mut Slot,
        exchanges: &mut HashMap<u32, Exchange>,
        head: u64,
        dismissed: bool,
    ) {
        let Slot {
            worker,
            outstanding,
            orders,
            retiring,
            last_head,
            ..
        } = slot;
        let mut files = Vec::new();
        let mut finished = |number: u32| {
            // the newest are at the end; streams and WebSockets stay for long
            let place = match outstanding.front() {
                Some(first) if *first == number => Some(0),
                _ => outstanding.iter().rposition(|other| *other == number),
            };
            if let Some(place) = place {
                outstanding.remove(place);
            }
        };
        let read = worker.answers(head, |record| {
            let number = record.number;
            match record.kind {
                Kind::Whole => {
                    finished(number);
                    if !record.repeated {
                        *last_head = reply::head(&record);
                    }
                    let job = exchanges.remove(&number).and_then(|exchange| exchange.job);
                    match (job, &*last_head) {
                        (Some(job), Ok(head)) => {
                            let body = Bytes::copy_from_slice(record.body);
                            send(job, head.clone(), ReplyBody::Whole(body));
                        }
                        (Some(job), Err(why)) => bad_head(job, why),
                        (None, _) => {}
                    }
                }
                Kind::File => {
                    finished(number);
                    let job = exchanges.remove(&number).and_then(|exchange| exchange.job);
                    files.push((job, reply::head(&record), record.body.to_vec()));
                }
                Kind::Start => {
                    let Some(exchange) = exchanges.get_mut(&number) else {
                        return;
                    };
                    let (sender, parts) = mpsc::unbounded_channel();
                    if let Some(job) = exchange.job.take() {
                        exchange.stream = Some(sender);
                        let body = ReplyBody::Stream(Stream {
                            parts,
                            pool: self.clone(),
                            number,
                            taken: 0,
                            // nothing is told back when nobody takes it: see below
                            ended: true,
                            broken: None,
                            length: None,
                        });
                        if !answer(job, &record, body) {
                            exchange.stream = None;
                            orders.push_back((number, Order::Gone));
                        }
                    }
                }
                Kind::Accept => {
                    let Some(exchange) = exchanges.get_mut(&number) else {
                        return;
                    };
                    let (say, said) = mpsc::unbounded_channel();
                    if let Some(job) = exchange.job.take() {
                        exchange.link.say = Some(say);
                        if !answer(job, &record, ReplyBody::Socket(said)) {
                            orders.push_back((number, Order::Gone));
                        } else if dismissed || *retiring {
                            exchange.link.say(Say::Restart);
                        }
                    }
                }
                Kind::Text | Kind::Binary => {
                    let kind = match record.kind {
                        Kind::Text => Say::Text,
                        _ => Say::Binary,
                    };
                    if let Some(exchange) = exchanges.get_mut(&number) {
                        exchange.link.message(record.body, kind);
                    }
                }
                Kind::Close => {
                    if let Some(exchange) = exchanges.get(&number) {
                        let code = std::str::from_utf8(record.status).ok();
                        let code = code.and_then(|code| code.parse().ok()).unwrap_or(1011);
                        let reason = Bytes::copy_from_slice(record.body);
                        exchange.link.say(Say::Close(code, reason));
                    }
                }
                Kind::Credit => {
                    if let Some(exchange) = exchanges.get(&number) {
                        exchange.link.credit(record.status);
                    }
                }
                Kind::Chunk => {
                    if let Some(exchange) = exchanges.get_mut(&number)
                        && !exchange.link.part(record.body)
                        && let Some(stream) = &exchange.stream
                    {
                        let part = Bytes::copy_from_slice(record.body);
                        if stream.send(Ok(part)).is_err() {
                            exchange.stream = None;
                            orders.push_back((number, Order::Gone));
                        }
                    }
                }
                Kind::End | Kind::Broken => {
                    finished(number);
                    if let Some(exchange) = exchanges.remove(&number)
                        && let (Kind::Broken, Some(stream)) = (record.kind, &exchange.stream)
                    {
                        let error = io::Error::other("the application has failed");
                        // a client that has gone hears nothing
                        let _ = stream.send(Err(error));
                    }
                }
            }
        });
        for (job, head, place) in files {
            let file = worker.receive_file();
            if let Some(job) = job {
                give_file(job, head, file, &place);
            }
        }
        if let Err(error) = read {
            tracing::error!("worker {}: {error}; it is replaced", worker.pid());
            worker.kill();
        }
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

impl Slot {
    fn measure(&mut self, busy: u64, count: u32) {
        if count == 0 {
            return;
        }
        let each = busy / u64::from(count);
        self.average = Some(match self.average {
            // much slower than before: that holds at once
            Some(average) if each < average.saturating_mul(4) => (average * 7 + each) / 8,
            _ => each,
        });
    }

    fn has_to_say(&self) -> bool {
        !self.orders.is_empty() || self.worker.consumed() - self.told > 1 << 20
    }

    /// Writes orders, as many as go into a packet.
    fn orders(&mut self, out: &mut Writer) {
        if self.orders.is_empty() {
            return out.none();
        }
        let at = out.list();
        let mut count = 0;
        while out.len() < PACKET
            && let Some((number, order)) = self.orders.pop_front()
        {
            order.write(out, number);
            count += 1;
        }
        out.list_length(at, count);
    }

    /// Sends a packet; `requests` writes the requests in it and says how many.
    fn speak(&mut self, out: &mut Writer, requests: impl FnOnce(&mut Slot, &mut Writer) -> u32) {
        out.clear();
        out.tuple(3);
        self.told = self.worker.consumed();
        out.int(self.told as i64);
        self.orders(out);
        let at = out.list();
        let count = requests(self, out);
        out.list_length(at, count);
        self.send(out.as_bytes());
    }

    fn send(&mut self, packet: &[u8]) {
        // one that is gone is heard of soon
        if matches!(self.worker.send(packet), Ok(false)) {
            self.unsent = Some(packet.to_vec());
        }
    }

    fn send_unsent(&mut self) {
        if let Some(packet) = self.unsent.take() {
            self.send(&packet);
        }
    }

    /// Writes requests from the queue into a packet, `room` at the most; how many.
    fn requests(
        &mut self,
        out: &mut Writer,
        queue: &mut VecDeque<(u32, Job)>,
        exchanges: &mut HashMap<u32, Exchange>,
        room: usize,
    ) -> u32 {
        let mut count = 0;
        while (count as usize) < room && out.len() < PACKET {
            let Some((number, job)) = queue.pop_front() else {
                break;
            };
            if job.reply.is_closed() {
                continue;
            }
            if let RequestBody::File(file, _) = &job.body
                && !self.worker.send_file(file).unwrap_or(true)
            {
                queue.push_front((number, job));
                break;
            }
            out.tuple(8);
            out.int(i64::from(number));
            match self.templates.send(&job.environ) {
                Sending::Slot(slot) => {
                    out.int(i64::from(slot));
                    out.none();
                }
                other => {
                    out.int(match other {
                        Sending::Keep(slot) => i64::from(slot),
                        _ => -1,
                    });
                    out.dict();
                    out.raw(&job.environ);
                    out.end_dict();
                }
            }
            job.write_target(out);
            match &job.body {
                RequestBody::Empty => out.none(),
                RequestBody::Bytes(bytes) => out.bytes(bytes),
                RequestBody::File(_, length) => out.int(*length as i64),
                RequestBody::Coming(_) | RequestBody::Socket(_) => out.bool(true),
            }
            let link = Link::opened(match &job.body {
                RequestBody::Coming(window) | RequestBody::Socket(window) => Some(window.clone()),
                _ => None,
            });
            self.outstanding.push_back(number);
            exchanges.insert(
                number,
                Exchange {
                    job: Some(job),
                    stream: None,
                    slot: self.id,
                    link,
                },
            );
            count += 1;
        }
        count
    }
}

/// Answers a client; false if it has gone.
fn answer(job: Job, record: &Record<'_>, body: ReplyBody) -> bool {
    match reply::head(record) {
        Ok(head) => send(job, head, body),
        Err(why) => {
            bad_head(job, &why);
            false
        }
    }
}

fn send(job: Job, head: Response<()>, mut body: ReplyBody) -> bool {
    let length = reply::declared_length(head.headers());
    match &mut body {
        ReplyBody::Stream(stream) => {
            stream.length = length;
            stream.ended = false;
        }
        ReplyBody::File { left, .. } => *left = length.map_or(*left, |length| length.min(*left)),
        ReplyBody::Whole(_) | ReplyBody::Socket(_) => {}
    }
    let response = head.map(|()| body);
    match job.reply.send(response) {
        Ok(()) => true,
        Err(mut back) => {
            // the pool is locked: the stream is not to call it
            if let ReplyBody::Stream(stream) = back.body_mut() {
                stream.ended = true;
            }
            false
        }
    }
}

fn bad_head(job: Job, why: &str) {
    tracing::error!("the application's answer cannot be sent: {why}");
    let code = StatusCode::INTERNAL_SERVER_ERROR;
    // the client may have gone
    let _ = job.reply.send(reply::own(code, "Internal Server Error"));
}

fn give_file(job: Job, head: Result<Response<()>, String>, file: io::Result<File>, place: &[u8]) {
    let place = std::str::from_utf8(place).unwrap_or_default();
    let numbers = place
        .split_once(' ')
        .and_then(|(at, left)| Some((at.parse().ok()?, left.parse().ok()?)));
    match (head, file, numbers) {
        (Ok(head), Ok(file), Some((at, left))) => {
            send(
                job,
                head,
                ReplyBody::File {
                    file,
                    at,
                    left,
                    outgoing: None,
                },
            );
        }
        (Err(why), _, _) => bad_head(job, &why),
        (_, Err(error), _) => bad_head(job, &format!("its file did not come: {error}")),
        (_, _, None) => bad_head(job, "the place in its file makes no sense"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_applications_get_one_at_a_time() {
        assert_eq!(room(None, 1, 0, 10), 1);
        assert_eq!(room(None, 1, 1, 10), 0);
        assert_eq!(room(Some(10_000_000), 32, 30, 10), 2);
        assert_eq!(room(Some(10_000_000), 32, 32, 10), 0);
    }

    #[test]
    fn fast_ones_get_two_batches() {
        assert_eq!(room(Some(5_000), 1, 0, 1000), 64);
        assert_eq!(room(Some(5_000), 1, 64, 1000), 64);
        assert_eq!(room(Some(5_000), 1, 65, 1000), 0);
        assert_eq!(room(Some(250_000), 1, 0, 1000), 2);
        assert_eq!(room(Some(5_000), 1, 0, 3), 3);
        assert_eq!(room(Some(0), 1, 0, 3), 3);
    }
}
