//! The control socket: a ZeroMQ ROUTER that hands each request to the daemon with a way to answer it.

use super::endpoint::{GREETING_TIME, Listener, ReadHalf, WriteHalf, connection_limit};
use super::zmtp::{self, MAX_MESSAGE, Reader, Received};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc};

/// Bytes of replies that may wait for one client that does not read. A client above that is dropped.
const MAX_QUEUED: usize = 16 << 20;

/// A request with the way back.
pub struct Call {
    /// What came in.
    pub content: Content,
    /// Where the answer goes.
    pub client: Client,
}

/// What a client sent.
pub enum Content {
    /// The JSON of a request.
    Request(Bytes),
    /// Something that cannot be a request; why, for the error reply.
    Unusable(String),
}

/// The way back to a client, for one request.
#[derive(Clone)]
pub struct Client {
    turn: Arc<Turn>,
    /// A REQ socket puts an empty frame before its request and wants it back.
    delimiter: bool,
}

/// A request that may still be answered: as long as somebody has it, a connection that is to be closed is not.
struct Turn {
    connection: Arc<Connection>,
}

impl Turn {
    fn new(connection: &Arc<Connection>) -> Turn {
        connection.turns.fetch_add(1, Ordering::Relaxed);
        Turn {
            connection: connection.clone(),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let last = self.connection.turns.fetch_sub(1, Ordering::Relaxed) == 1;
        if last && self.connection.retired.load(Ordering::Relaxed) {
            self.connection.idle.notify_one();
        }
    }
}

struct Connection {
    outgoing: mpsc::UnboundedSender<Bytes>,
    queued: AtomicUsize,
    greeted: AtomicBool,
    /// Requests that have not been answered.
    turns: AtomicUsize,
    /// There is none of them any more.
    idle: Notify,
    /// No further request is taken; it is closed once those it has sent are answered.
    retired: AtomicBool,
    end: Notify,
    all: Arc<AtomicUsize>,
}

impl Client {
    /// Sends a reply. Never blocks; a client that does not read loses its connection at some point.
    pub fn send(&self, reply: &[u8]) {
        let bytes = if self.delimiter {
            zmtp::encode(&[b"", reply])
        } else {
            zmtp::encode(&[reply])
        };
        let connection = &self.turn.connection;
        let size = bytes.len();
        if connection.queued.fetch_add(size, Ordering::Relaxed) + size > MAX_QUEUED {
            connection.queued.fetch_sub(size, Ordering::Relaxed);
            connection.end.notify_one();
            return;
        }
        connection.all.fetch_add(size, Ordering::Relaxed);
        if connection.outgoing.send(bytes).is_err() {
            connection.queued.fetch_sub(size, Ordering::Relaxed);
            connection.all.fetch_sub(size, Ordering::Relaxed);
        }
    }
}

/// The accepting task; dropping it closes the endpoint and its connections.
pub struct Router {
    accepting: tokio::task::JoinHandle<()>,
    listener: Arc<Listener>,
    connections: Arc<Mutex<BTreeMap<u64, Arc<Connection>>>>,
    unsent: Arc<AtomicUsize>,
}

impl Router {
    /// Serves a bound endpoint; requests go to `calls`. What is `unsent` is counted there, together with what other routers
    /// count.
    pub fn serve(
        listener: Listener,
        calls: mpsc::Sender<Call>,
        unsent: Arc<AtomicUsize>,
    ) -> Router {
        let connections: Arc<Mutex<BTreeMap<u64, Arc<Connection>>>> = Arc::default();
        let listener = Arc::new(listener);
        let entrance = listener.clone();
        let table = connections.clone();
        let all = unsent.clone();
        let accepting = tokio::spawn(async move {
            let limit = connection_limit();
            let mut next = 0u64;
            loop {
                let (read, write) = entrance.next().await;
                let (outgoing, queue) = mpsc::unbounded_channel();
                let connection = Arc::new(Connection {
                    outgoing,
                    queued: AtomicUsize::new(0),
                    greeted: AtomicBool::new(false),
                    turns: AtomicUsize::new(0),
                    idle: Notify::new(),
                    retired: AtomicBool::new(false),
                    end: Notify::new(),
                    all: all.clone(),
                });
                {
                    let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
                    if table.len() >= limit {
                        // the oldest that has not even greeted makes room; else the newcomer is not served
                        match table.values().find(|c| !c.greeted.load(Ordering::Relaxed)) {
                            Some(idle) => idle.end.notify_one(),
                            None => continue,
                        }
                    }
                    table.insert(next, connection.clone());
                }
                let (table, calls, number) = (table.clone(), calls.clone(), next);
                next += 1;
                tokio::spawn(async move {
                    tokio::select! {
                        () = converse(&connection, read, write, queue, calls) => {}
                        () = connection.end.notified() => {}
                    }
                    let rest = connection.queued.swap(0, Ordering::Relaxed);
                    connection.all.fetch_sub(rest, Ordering::Relaxed);
                    table
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .remove(&number);
                });
            }
        });
        Router {
            accepting,
            listener,
            connections,
            unsent,
        }
    }

    /// Bytes of replies that have not been handed to the kernel, of this router and of those it shares the count with.
    pub fn unsent(&self) -> usize {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Where it listens.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Serves another endpoint from now on. The one it had is closed; who is connected there hears the replies to what was
    /// asked, and is then disconnected.
    pub fn move_to(&mut self, listener: Listener, calls: mpsc::Sender<Call>) {
        let next = Router::serve(listener, calls, self.unsent.clone());
        let last = std::mem::replace(self, next);
        for connection in std::mem::take(&mut *last.lock()).values() {
            connection.retired.store(true, Ordering::Relaxed);
            connection.idle.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.accepting.abort();
        for connection in self.lock().values() {
            connection.end.notify_one();
        }
    }
}

async fn converse(
    connection: &Arc<Connection>,
    read: ReadHalf,
    mut write: WriteHalf,
    mut queue: mpsc::UnboundedReceiver<Bytes>,
    calls: mpsc::Sender<Call>,
) {
    let mut reader = Reader::new(read);
    let greeting = zmtp::handshake(
        &mut reader,
        &mut write,
        "ROUTER",
        &["DEALER", "REQ", "ROUTER"],
    );
    match tokio::time::timeout(GREETING_TIME, greeting).await {
        Ok(Ok(())) => connection.greeted.store(true, Ordering::Relaxed),
        Ok(Err(error)) => {
            tracing::debug!("control endpoint: connection refused: {error}");
            return;
        }
        Err(_) => return,
    }
    loop {
        let retired = connection.retired.load(Ordering::Relaxed);
        // the replies are in the queue before their requests are forgotten
        if retired && connection.turns.load(Ordering::Relaxed) == 0 && queue.is_empty() {
            return;
        }
        tokio::select! {
            biased;
            Some(bytes) = queue.recv() => {
                let sent = write.write_all(&bytes).await;
                connection.queued.fetch_sub(bytes.len(), Ordering::Relaxed);
                connection.all.fetch_sub(bytes.len(), Ordering::Relaxed);
                if sent.is_err() {
                    return;
                }
            }
            // a look at whether it is time to go
            () = connection.idle.notified() => {}
            received = reader.next(), if !retired => {
                let call = match received {
                    Ok(Some(Received::Message(frames))) => unwrap(frames),
                    Ok(Some(Received::TooLarge(size))) => (Content::Unusable(format!(
                        "message of {size} bytes refused: the limit is {MAX_MESSAGE} bytes"
                    )), false),
                    Ok(Some(Received::Command(name, data))) => {
                        if &name[..] == b"PING" && write.write_all(&zmtp::pong(&data)).await.is_err() {
                            return;
                        }
                        continue;
                    }
                    Ok(None) | Err(_) => return,
                };
                let (content, delimiter) = call;
                let client = Client { turn: Arc::new(Turn::new(connection)), delimiter };
                if calls.send(Call { content, client }).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The request in a message: its only frame, or the one after a REQ socket's empty delimiter.
fn unwrap(mut frames: Vec<Bytes>) -> (Content, bool) {
    let delimiter = frames.len() > 1 && frames.first().is_some_and(Bytes::is_empty);
    if delimiter {
        frames.remove(0);
    }
    let count = frames.len();
    match frames.pop() {
        Some(request) if count == 1 => (Content::Request(request), delimiter),
        _ => (
            Content::Unusable(format!(
                "message of {count} frames refused: one frame with a JSON object is expected"
            )),
            delimiter,
        ),
    }
}
