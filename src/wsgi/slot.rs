//! One worker as the pool sees it: what it has, what it is to be told, and how much more it is to get.

use super::asgi::link::{Link, Order};
use super::job::{Job, RequestBody};
use super::marshal::Writer;
use super::templates::{Sending, Templates};
use super::worker::{self, Worker};
use bytes::Bytes;
use hashbrown::HashMap;
use http::Response;
use std::collections::VecDeque;
use std::io;
use std::time::Instant;
use tokio::sync::mpsc;

/// A batch is to keep a worker busy for about so many nanoseconds.
const BATCH_TIME: u64 = 500_000;
/// Requests in one batch at the most.
const BATCH: usize = 64;
/// Requests that take longer than so many nanoseconds are handed out one at a time.
const SLOW: u64 = 1_000_000;
/// A packet is sent when it has become so long.
const PACKET: usize = 96 * 1024;

/// A request that a worker has.
pub(super) struct Exchange {
    /// Kept until the first of its answer comes: it may have to be given to another worker.
    pub(super) job: Option<Job>,
    pub(super) stream: Option<mpsc::UnboundedSender<io::Result<Bytes>>>,
    pub(super) slot: u64,
    pub(super) link: Link,
}

pub(super) struct Slot {
    pub(super) id: u64,
    pub(super) worker: Worker,
    pub(super) ready: bool,
    pub(super) retiring: bool,
    pub(super) since: Instant,
    /// Its requests, in the order in which they were sent.
    pub(super) outstanding: VecDeque<u32>,
    /// Nanoseconds a request takes.
    pub(super) average: Option<u64>,
    pub(super) templates: Templates,
    /// What it is to be told of its requests.
    pub(super) orders: VecDeque<(u32, Order)>,
    /// How much of its ring it knows to be free again.
    pub(super) told: u64,
    pub(super) unsent: Option<Vec<u8>>,
    /// How far its ring was read when it was last looked into.
    pub(super) glanced: u64,
    /// Status and headers of its last whole answer.
    pub(super) last_head: Result<Response<()>, String>,
}

/// How many requests more a worker is to get, if so many wait. Pure.
fn room(average: Option<u64>, threads: usize, outstanding: usize, waiting: usize) -> usize {
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

impl Slot {
    /// For a worker that has just been started.
    pub(super) fn new(id: u64, worker: Worker) -> Slot {
        Slot {
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
            glanced: 0,
            last_head: Err("it has none".to_string()),
        }
    }

    /// What the worker says of the time it took.
    pub(super) fn measure(&mut self, busy: u64, count: u32) {
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

    /// How many requests more it is to get, if so many wait.
    pub(super) fn room(&self, threads: usize, waiting: usize) -> usize {
        if self.takes_requests() {
            room(self.average, threads, self.outstanding.len(), waiting)
        } else {
            0
        }
    }

    /// It could be given requests now.
    pub(super) fn takes_requests(&self) -> bool {
        self.ready && !self.retiring && self.unsent.is_none()
    }

    /// It has several requests: some may be done while it is at another.
    pub(super) fn has_several(&self) -> bool {
        self.outstanding.len() > 1
    }

    /// The worker waits to hear something, though it is of no request.
    pub(super) fn has_to_say(&self) -> bool {
        !self.orders.is_empty() || self.worker.consumed() - self.told > worker::RING as u64 / 4
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
    pub(super) fn speak(
        &mut self,
        out: &mut Writer,
        requests: impl FnOnce(&mut Slot, &mut Writer) -> u32,
    ) {
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

    /// Sends what there was no room for before.
    pub(super) fn send_unsent(&mut self) {
        if let Some(packet) = self.unsent.take() {
            self.send(&packet);
        }
    }

    /// Writes requests from the queue into a packet, `room` at the most; how many.
    pub(super) fn requests(
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
