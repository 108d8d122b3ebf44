//! What workers answer goes to those who wait for it.

use super::asgi::link::{Order, Say};
use super::job::Job;
use super::pool::Pool;
use super::record::{Kind, Record};
use super::reply::{self, Answer, ReplyBody, Stream};
use super::slot::{Exchange, Slot};
use bytes::Bytes;
use hashbrown::HashMap;
use http::{Response, StatusCode};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A worker that has several requests and says nothing for so long may be at a slow one, with quick ones done before it.
const GLANCE: Duration = Duration::from_millis(2);
/// After so many looks in vain, somebody has to say something first.
const GLANCES: u32 = 10;

impl Pool {
    /// Looks into the rings of workers that have several requests and say nothing of them, for as long as the pool lives.
    pub(super) async fn look_into_rings(self: Arc<Pool>) {
        loop {
            self.several.notified().await;
            let mut in_vain = 0;
            while in_vain < GLANCES {
                tokio::time::sleep(GLANCE).await;
                in_vain = if self.glance() { 0 } else { in_vain + 1 };
            }
        }
    }

    /// Takes what quiet workers have finished; true if any worker has finished anything since the last time.
    fn glance(self: &Arc<Pool>) -> bool {
        let inner = &mut *self.lock();
        let mut news = false;
        for slot in &mut inner.slots {
            let quiet = slot.worker.consumed() == slot.glanced;
            if quiet && slot.has_several() {
                let filled = slot.worker.filled();
                self.take(slot, &mut inner.exchanges, filled, inner.dismissed);
            }
            news |= slot.worker.consumed() != slot.glanced;
            slot.glanced = slot.worker.consumed();
        }
        if news {
            self.work.notify_one();
        }
        news
    }

    /// Waits for an answer as long as it may take.
    ///
    /// # Errors
    /// It takes longer, or the server ends.
    pub(super) async fn in_time(
        &self,
        answer: oneshot::Receiver<Response<ReplyBody>>,
        limit: Option<Duration>,
    ) -> Answer {
        let answer = match limit {
            None => answer.await,
            Some(limit) => match tokio::time::timeout(limit, answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    self.expired(limit);
                    let text = "The application took too long.";
                    return Err((StatusCode::GATEWAY_TIMEOUT, text));
                }
            },
        };
        reply::come(answer)
    }

    /// Takes the answers of a worker.
    pub(super) fn take(
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
