//! The handler: requests in, answers out, and the end.

use super::http1::{self, Framing, Head};
use super::link;
use super::message::{self, Message};
use super::uploads::{self, Upload, Uploads};
use crate::wire::Endpoint;
use crate::wsgi::counts::{Counts, Shown};
use crate::wsgi::environ::{self, Site};
use crate::wsgi::front::Limits;
use crate::wsgi::job::{Job, RequestBody};
use crate::wsgi::marshal::Writer;
use crate::wsgi::pool::Pool;
use crate::wsgi::reply::{Refusal, ReplyBody, TOO_LARGE, own};
use bytes::Bytes;
use hashbrown::HashMap;
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Body;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Answers that may wait for a Mongrel2; an application whose answers do not go out is held.
const WAITING: usize = 256;
/// Requests at once. Mongrel2 deals them out whatever a handler has to do: this only bounds memory.
const REQUESTS: usize = 16_384;
/// What a stream gives within this time goes out as one message: Mongrel2 closes the connection of a client for whom more
/// than 16 wait.
const GATHERING: Duration = Duration::from_millis(10);
/// Bytes of one message of a stream at the most.
const PART: usize = 1 << 20;

/// Where a Mongrel2 is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Its `send_spec`: requests come from there.
    pub send: Endpoint,
    /// Its `recv_spec`: answers go there.
    pub recv: Endpoint,
}

/// The application as a handler.
pub struct Handler {
    /// The workers.
    pub pool: Arc<Pool>,
    /// What the environ says of the server; its mount point is that of each request's route.
    pub site: Site,
    /// What clients may do: the body and the time of a request.
    pub limits: Limits,
    /// Where Mongrel2 puts bodies, if it does.
    pub uploads: Option<Uploads>,
    /// What is counted; connections are Mongrel2's.
    pub shown: Arc<Shown>,
    clients: Mutex<HashMap<Client, Vec<AbortHandle>>>,
    at_work: watch::Sender<usize>,
}

/// A connection of a client: its server and its number there.
type Client = (Bytes, Bytes);

/// One request that is being handled.
struct AtWork<'a>(&'a watch::Sender<usize>);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Handler {
    /// For this pool.
    pub fn new(
        pool: Arc<Pool>,
        site: Site,
        limits: Limits,
        uploads: Option<Uploads>,
    ) -> Arc<Handler> {
        Arc::new(Handler {
            pool,
            site,
            limits,
            uploads,
            shown: Arc::default(),
            clients: Mutex::default(),
            at_work: watch::Sender::new(0),
        })
    }

    /// Handles the requests of these servers until `end` says so; then those that are under way, within `patience`.
    /// `connected` is called whenever a server has taken this handler on.
    pub async fn serve(
        self: &Arc<Handler>,
        places: &[Places],
        end: watch::Receiver<bool>,
        patience: Duration,
        connected: impl Fn(&Places) + Send + Sync + Clone + 'static,
    ) {
        self.shown.changed(&self.pool);
        let mut pulls = Vec::new();
        let mut publishers = Vec::new();
        for place in places {
            let (answers, queue) = mpsc::channel(WAITING);
            let subscribed = watch::Sender::new(false);
            let news = subscribed.subscribe();
            let handler = self.clone();
            let take = async move |bytes: Bytes| handler.take(bytes, &answers).await;
            publishers.push(tokio::spawn(link::publish(
                place.recv.clone(),
                queue,
                subscribed,
            )));
            let (connected, place) = (connected.clone(), place.clone());
            let pull = link::pull(place.send.clone(), news, take, end.clone(), move || {
                connected(&place);
            });
            pulls.push(tokio::spawn(pull));
        }
        for pull in pulls {
            // it has ended by itself
            let _ = pull.await;
        }
        let deadline = Instant::now() + patience;
        let mut at_work = self.at_work.subscribe();
        let done = at_work.wait_for(|count| *count == 0);
        if tokio::time::timeout_at(deadline, done).await.is_err() {
            let left = *self.at_work.borrow();
            tracing::warn!("{left} requests were not done in time");
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            let tasks = clients.drain().flat_map(|(_, tasks)| tasks);
            tasks.for_each(|task| task.abort());
        }
        for publisher in publishers {
            // a server that is not there takes no answers
            let late = deadline.max(Instant::now() + Duration::from_millis(500));
            let _ = tokio::time::timeout_at(late, publisher).await;
        }
        // the last numbers, for whoever holds on to them
        self.shown.write(&self.pool);
    }

    /// Takes what came from a server.
    async fn take(self: &Arc<Handler>, bytes: Bytes, answers: &mpsc::Sender<Vec<u8>>) {
        let message = match Message::parse(&bytes) {
            Ok(message) => message,
            Err(why) => {
                tracing::error!("a message from Mongrel2 cannot be read: {why}");
                return;
            }
        };
        let client = (message.server.clone(), message.client.clone());
        if message.header("METHOD") == Some(b"JSON") {
            if message.is_disconnect() {
                self.gone(&client);
            }
            return;
        }
        self.shown.counts.received(bytes.len());
        let mut at_work = self.at_work.subscribe();
        // the sender is ours
        let _ = at_work.wait_for(|count| *count < REQUESTS).await;
        self.at_work.send_modify(|count| *count += 1);
        let (handler, answers, of) = (self.clone(), answers.clone(), client.clone());
        let (begin, begun) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let _at_work = AtWork(&handler.at_work);
            // not before it is known to whom it belongs
            let _ = begun.await;
            handler.answer(&message, &answers).await;
            handler.finished(&of);
        });
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks = clients.entry(client).or_default();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.abort_handle());
        // it waits for that
        let _ = begin.send(());
    }

    /// A client has gone: nobody wants its answers. The notice may reach another handler, and then it is of no use.
    fn gone(&self, client: &Client) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        for task in clients.remove(client).into_iter().flatten() {
            task.abort();
        }
    }

    fn finished(&self, client: &Client) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tasks) = clients.get_mut(client) {
            let own = tokio::task::id();
            tasks.retain(|task| task.id() != own && !task.is_finished());
            if tasks.is_empty() {
                clients.remove(client);
            }
        }
    }

    async fn answer(&self, message: &Message, answers: &mpsc::Sender<Vec<u8>>) {
        let counts = &self.shown.counts;
        let outgoing = Outgoing {
            message,
            answers,
            counts,
        };
        let begun = Instant::now();
        let head = match http1::head(message) {
            Ok(head) => head,
            Err(why) => {
                tracing::error!("a request from Mongrel2 cannot be read: {why}");
                counts.refused();
                self.shown.changed(&self.pool);
                outgoing.close().await;
                return;
            }
        };
        let response = match self.body(message, &head).await {
            Ok(Some(body)) => self.ask(&head, body).await,
            Ok(None) => return,
            Err((code, text)) => own(code, text),
        };
        counts.answered(response.status(), begun.elapsed());
        self.shown.changed(&self.pool);
        let refused = response.status() == StatusCode::PAYLOAD_TOO_LARGE;
        if outgoing.send(&head, response, refused).await.is_none() {
            outgoing.close().await;
        }
    }

    /// The body of a request; none: it is still on its way.
    async fn body(&self, message: &Message, head: &Head) -> Result<Option<RequestBody>, Refusal> {
        let bad = |text| Err((StatusCode::BAD_REQUEST, text));
        let too_large = |length: u64| self.limits.body.is_some_and(|limit| length > limit);
        if message.header("UPLOAD_STREAM").is_some() {
            tracing::error!(
                "Mongrel2 streams a body (its upload.stream), which reaches one handler in parts: let it use upload.temp_store"
            );
            let text = "Bodies in parts are not taken.";
            return Err((StatusCode::NOT_IMPLEMENTED, text));
        }
        match uploads::of(message) {
            Upload::None if too_large(message.body.len() as u64) => Err(TOO_LARGE),
            Upload::None if message.body.is_empty() => Ok(Some(RequestBody::Empty)),
            Upload::None => Ok(Some(RequestBody::Bytes(message.body.clone()))),
            Upload::Begun if too_large(declared(&head.parts.headers)) => Err(TOO_LARGE),
            Upload::Begun => Ok(None),
            Upload::Forged => bad("Headers of Mongrel2 from a client."),
            Upload::Done(path) => {
                let Some(uploads) = self.uploads.clone() else {
                    tracing::error!(
                        "a body is in {}: tell with --upload-dir where Mongrel2 puts bodies",
                        String::from_utf8_lossy(path)
                    );
                    return Err(TOO_LARGE);
                };
                let path = path.to_vec();
                let taken = tokio::task::spawn_blocking(move || uploads.take(&path)).await;
                match taken {
                    Ok(Ok((_, length))) if too_large(length) => Err(TOO_LARGE),
                    Ok(Ok((file, length))) => Ok(Some(RequestBody::File(file, length))),
                    Ok(Err(why)) => {
                        tracing::error!("{why}");
                        bad("The request's body is not there.")
                    }
                    Err(_) => bad("The request's body is not there."),
                }
            }
        }
    }

    async fn ask(&self, head: &Head, body: RequestBody) -> Response<ReplyBody> {
        let site = Site {
            script_name: head.script_name.clone(),
            ..self.site.clone()
        };
        let mut out = Writer::new();
        environ::write(&mut out, &head.parts, &head.ends, &site);
        let (reply, answer) = oneshot::channel();
        self.pool.submit(Job {
            environ: out.into_bytes().into(),
            target: environ::target(&head.parts, &site),
            port: None,
            body,
            reply,
            asgi: false,
        });
        let answer = self.pool.in_time(answer, self.limits.request_time).await;
        answer.unwrap_or_else(|(code, text)| own(code, text))
    }
}

fn declared(headers: &HeaderMap) -> u64 {
    crate::wsgi::reply::declared_length(headers).unwrap_or_default()
}

/// The way to one client.
struct Outgoing<'a> {
    message: &'a Message,
    answers: &'a mpsc::Sender<Vec<u8>>,
    counts: &'a Counts,
}

impl Outgoing<'_> {
    /// Sends bytes of an answer; none: nobody takes them.
    async fn raw(&self, http: &[u8]) -> Option<()> {
        let bytes = message::answer(&self.message.server, &self.message.client, http);
        self.counts.sent(bytes.len());
        self.answers.send(bytes).await.ok()
    }

    async fn close(&self) {
        // nobody is there to close it
        let _ = self.raw(b"").await;
    }

    /// Sends an answer; none: it could not be sent whole, or the connection is to be closed now.
    async fn send(&self, head: &Head, response: Response<ReplyBody>, refused: bool) -> Option<()> {
        let (parts, body) = response.into_parts();
        let length = match &body {
            ReplyBody::Whole(bytes) => Some(bytes.len() as u64),
            ReplyBody::Stream(stream) => stream.length,
            ReplyBody::File { left, .. } => Some(*left),
            // only an ASGI application answers so
            ReplyBody::Socket(_) => Some(0),
        };
        let declared = crate::wsgi::reply::declared_length(&parts.headers);
        let response = Response::from_parts(parts, ());
        let framing = http1::framing(&head.parts, response.status(), length);
        let close = head.close || refused || framing == Framing::Close;
        // to a HEAD, an application says how long a body would be
        let length = match framing {
            Framing::Bare => declared.or(length.filter(|length| *length > 0)),
            _ => length,
        };
        let now = SystemTime::now();
        let mut out = http1::response_head(&response, framing, length, close, now);
        match body {
            _ if framing == Framing::Bare => self.raw(&out).await?,
            ReplyBody::Socket(_) => self.raw(&out).await?,
            ReplyBody::Whole(bytes) => {
                http1::part(&mut out, framing, &bytes);
                if framing == Framing::Chunked {
                    out.extend_from_slice(LAST);
                }
                self.raw(&out).await?;
            }
            ReplyBody::File { file, at, left, .. } => {
                self.file(out, Arc::new(file), at, left).await?
            }
            body => self.stream(out, framing, body).await?,
        }
        (!close).then_some(())
    }

    async fn file(&self, mut out: Vec<u8>, file: Arc<File>, mut at: u64, left: u64) -> Option<()> {
        let end = at + left;
        while at < end {
            let want = (end - at).min(PART as u64) as usize;
            let source = file.clone();
            let read = tokio::task::spawn_blocking(move || -> io::Result<Vec<u8>> {
                let mut block = vec![0; want];
                source.read_exact_at(&mut block, at)?;
                Ok(block)
            });
            match read.await {
                Ok(Ok(block)) => out.extend_from_slice(&block),
                Ok(Err(why)) => {
                    tracing::error!("a file that is to be sent cannot be read: {why}");
                    return None;
                }
                Err(_) => return None,
            }
            at += want as u64;
            self.raw(&out).await?;
            out.clear();
        }
        if !out.is_empty() {
            self.raw(&out).await?;
        }
        Some(())
    }

    /// Sends what comes, gathered a little.
    async fn stream(&self, mut out: Vec<u8>, framing: Framing, mut body: ReplyBody) -> Option<()> {
        let mut left = match framing {
            Framing::Length(length) => length,
            _ => u64::MAX,
        };
        let mut next = async || {
            let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            frame.map(|frame| frame.ok()?.into_data().ok())
        };
        // the head goes with what is there at once
        let mut sent: Option<Instant> = None;
        loop {
            let due = sent.map_or_else(Instant::now, |sent| sent + GATHERING);
            let frame = if out.is_empty() {
                next().await
            } else {
                match tokio::time::timeout_at(due, next()).await {
                    Ok(frame) => frame,
                    Err(_) => {
                        self.raw(&out).await?;
                        out.clear();
                        sent = Some(Instant::now());
                        continue;
                    }
                }
            };
            match frame {
                Some(Some(data)) => {
                    let data = &data[..data.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
                    left -= data.len() as u64;
                    http1::part(&mut out, framing, data);
                    if out.len() >= PART {
                        self.raw(&out).await?;
                        out.clear();
                        sent = Some(Instant::now());
                    }
                }
                // the application has failed in the middle
                Some(None) => {
                    if !out.is_empty() {
                        self.raw(&out).await?;
                    }
                    return None;
                }
                None => break,
            }
        }
        let short = matches!(framing, Framing::Length(_)) && left > 0;
        if framing == Framing::Chunked {
            out.extend_from_slice(LAST);
        }
        if !out.is_empty() {
            self.raw(&out).await?;
        }
        (!short).then_some(())
    }
}

/// The end of a chunked body.
const LAST: &[u8] = b"0\r\n\r\n";
