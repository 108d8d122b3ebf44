//! The event socket: a ZeroMQ PUB. What a slow subscriber does not take is dropped for it, and counted.

use super::endpoint::{GREETING_TIME, Listener, ReadHalf, WriteHalf, connection_limit};
use super::zmtp::{self, Reader, Received};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc};

/// Messages that may wait for one subscriber (libzmq's default high-water mark is 1,000).
const MAX_QUEUED: usize = 10_000;
/// Messages that are written at once when so many wait: one system call in place of many.
const AT_ONCE: usize = 64;
/// Bytes of the buffer for that which a connection keeps at most.
const KEPT: usize = 32 * 1024;

struct Subscriber {
    topics: Mutex<Vec<Bytes>>,
    outgoing: mpsc::Sender<Bytes>,
}

type Table = Arc<Mutex<BTreeMap<u64, Arc<Subscriber>>>>;

/// A PUB socket; dropping it closes the endpoint.
pub struct Publisher {
    accepting: tokio::task::JoinHandle<()>,
    listener: Arc<Listener>,
    subscribers: Table,
    /// Somebody has subscribed, unsubscribed or left.
    changed: Arc<Notify>,
    dropped: AtomicU64,
}

impl Publisher {
    /// Serves a bound endpoint.
    pub fn serve(listener: Listener) -> Publisher {
        let subscribers: Table = Arc::default();
        let table = subscribers.clone();
        let changed: Arc<Notify> = Arc::default();
        let news = changed.clone();
        let listener = Arc::new(listener);
        let entrance = listener.clone();
        let accepting = tokio::spawn(async move {
            let limit = connection_limit();
            let mut next = 0u64;
            loop {
                let (read, write) = entrance.next().await;
                if table.lock().unwrap_or_else(PoisonError::into_inner).len() >= limit {
                    continue;
                }
                let (table, news, number) = (table.clone(), news.clone(), next);
                next += 1;
                tokio::spawn(async move {
                    serve_subscriber(&table, &news, number, read, write).await;
                    table
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .remove(&number);
                    news.notify_one();
                });
            }
        });
        Publisher {
            accepting,
            listener,
            subscribers,
            changed,
            dropped: AtomicU64::new(0),
        }
    }

    /// What subscribers want: the beginnings of topics, each as often as it was asked for.
    pub fn topics(&self) -> Vec<Bytes> {
        let table = self
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let topics = |subscriber: &Arc<Subscriber>| {
            let topics = subscriber.topics.lock();
            topics.unwrap_or_else(PoisonError::into_inner).clone()
        };
        table.values().flat_map(topics).collect()
    }

    /// Waits until [`Publisher::topics`] may be others than at the last call. For one waiter.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Where it listens.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Serves another endpoint from now on. The one it had is closed; who is connected there gets what is on its way, and
    /// is then disconnected.
    pub fn move_to(&mut self, listener: Listener) {
        let next = Publisher::serve(listener);
        next.dropped.store(self.dropped(), Ordering::Relaxed);
        *self = next;
    }

    /// Sends a message to those who want the topic. Never blocks.
    pub fn publish(&self, topic: &str, payload: &[u8]) {
        let table = self
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if table.is_empty() {
            return;
        }
        let bytes = zmtp::encode(&[topic.as_bytes(), payload]);
        for subscriber in table.values() {
            let wanted = subscriber
                .topics
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .any(|prefix| topic.as_bytes().starts_with(prefix));
            if wanted && subscriber.outgoing.try_send(bytes.clone()).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Messages that subscribers were too slow for.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Messages that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .map(|s| s.outgoing.max_capacity() - s.outgoing.capacity())
            .sum()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.accepting.abort();
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

async fn serve_subscriber(
    table: &Table,
    news: &Notify,
    number: u64,
    read: ReadHalf,
    mut write: WriteHalf,
) {
    let mut reader = Reader::new(read);
    let greeting = zmtp::handshake(&mut reader, &mut write, "PUB", &["SUB", "XSUB"]);
    if !matches!(
        tokio::time::timeout(GREETING_TIME, greeting).await,
        Ok(Ok(()))
    ) {
        return;
    }
    let (outgoing, mut queue) = mpsc::channel(MAX_QUEUED);
    let subscriber = Arc::new(Subscriber {
        topics: Mutex::default(),
        outgoing,
    });
    table
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(number, subscriber.clone());
    let weak = Arc::downgrade(&subscriber);
    drop(subscriber);
    let mut waiting = Vec::new();
    let mut together = Vec::new();
    loop {
        tokio::select! {
            biased;
            received = reader.next() => {
                let (subscribe, topic) = match received {
                    // ZMTP 3.0 subscribes by message: 1 or 0, then the topic
                    Ok(Some(Received::Message(frames))) => match frames.first() {
                        Some(frame) if frame.first() == Some(&1) => (true, frame.slice(1..)),
                        Some(frame) if frame.first() == Some(&0) => (false, frame.slice(1..)),
                        _ => continue,
                    },
                    Ok(Some(Received::Command(name, data))) => match &name[..] {
                        b"SUBSCRIBE" => (true, data),
                        b"CANCEL" => (false, data),
                        b"PING" => {
                            if write.write_all(&zmtp::pong(&data)).await.is_err() {
                                return;
                            }
                            continue;
                        }
                        _ => continue,
                    },
                    Ok(Some(Received::TooLarge(_))) => continue,
                    Ok(None) | Err(_) => return,
                };
                let Some(subscriber) = weak.upgrade() else { return };
                let mut topics = subscriber.topics.lock().unwrap_or_else(PoisonError::into_inner);
                if subscribe {
                    topics.push(topic);
                } else if let Some(index) = topics.iter().position(|t| *t == topic) {
                    topics.swap_remove(index);
                }
                drop(topics);
                news.notify_one();
            }
            count = queue.recv_many(&mut waiting, AT_ONCE) => {
                if count == 0 {
                    return;
                }
                together.clear();
                together.shrink_to(KEPT);
                waiting.drain(..).for_each(|bytes: Bytes| together.extend_from_slice(&bytes));
                if write.write_all(&together).await.is_err() {
                    return;
                }
            }
        }
    }
}
