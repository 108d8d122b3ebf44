//! The front: clients, their requests, and the end of both.

use super::access::Log;
use super::answering::Answering;
use super::asgi::SocketLimits;
use super::counts::Shown;
use super::environ::{self, Ends, Last, Site};
use super::job::{Job, RequestBody};
use super::listen::{Listener, Stream, descriptors_for};
use super::marshal::Writer;
use super::pool::Pool;
use super::reply::{Answer, Refusal, ReplyBody, TOO_LARGE, fit};
use super::sendfile::Outgoing;
use bytes::{Bytes, BytesMut};
use http::header;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// A body that is longer goes to a file.
pub(super) const IN_MEMORY: usize = 64 * 1024;
/// What is written to that file at once.
const FILE_BLOCK: usize = 256 * 1024;
/// How long a connection may be silent between two requests once the server is ending; clients that come back get their
/// answer, and are told that it is the last.
const LINGER: Duration = Duration::from_secs(1);
/// What hyper allows if it is not told; a limit of another size costs it time with each request.
const USUAL_HEADERS: usize = 100;

/// What clients may do.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long the head of a request may take.
    pub head_time: Duration,
    /// How long nothing of a body may come.
    pub body_time: Duration,
    /// How long a client may take nothing of an answer.
    pub write_time: Duration,
    /// Bytes of the head.
    pub head_bytes: usize,
    /// Headers of it.
    pub headers: usize,
    /// Bytes of a body; none: any number.
    pub body: Option<u64>,
    /// How long a request may take from its first byte on to the beginning of its answer.
    pub request_time: Option<Duration>,
    /// Connections at once.
    pub connections: usize,
    /// For those that have a WebSocket.
    pub sockets: SocketLimits,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_time: Duration::from_secs(30),
            body_time: Duration::from_secs(30),
            write_time: Duration::from_secs(30),
            head_bytes: 64 * 1024,
            headers: USUAL_HEADERS,
            body: None,
            request_time: None,
            connections: 10_000,
            sockets: SocketLimits::default(),
        }
    }
}

/// What all connections share.
pub struct Front {
    /// The workers.
    pub pool: Arc<Pool>,
    /// What the environ says of the server.
    pub site: Site,
    /// What clients may do.
    pub limits: Limits,
    /// What is written down.
    pub records: Records,
    /// What is counted.
    pub shown: Arc<Shown>,
    closing: AtomicBool,
    connections: Arc<AtomicUsize>,
}

/// A connection that counts as long as this is kept.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who is at the other end of a connection.
pub(super) struct Client {
    /// Between whom it is.
    pub(super) ends: Ends,
    /// Where the connection finds files that are to be sent.
    pub(super) outgoing: Outgoing,
    last: Mutex<Last>,
}

impl Client {
    /// The environ (or scope) of a request, which `write` makes if it is not that of the last one.
    pub(super) fn environ(&self, head: &Parts, write: impl FnOnce(&mut Writer)) -> Bytes {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.environ(head, write)
    }
}

/// What is written down of requests.
#[derive(Debug, Default)]
pub struct Records {
    /// The access log.
    pub log: Option<Arc<Log>>,
    /// The client is told how long it took (`Server-Timing`).
    pub timing: bool,
}

impl Front {
    /// For this pool.
    pub fn new(pool: Arc<Pool>, site: Site, limits: Limits, records: Records) -> Arc<Front> {
        Arc::new(Front {
            pool,
            site,
            limits,
            records,
            shown: Arc::default(),
            closing: AtomicBool::new(false),
            connections: Arc::default(),
        })
    }

    /// True when it takes nothing new any more.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// One connection more.
    pub(super) fn count(&self) -> Counted {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Counted(self.connections.clone())
    }

    /// Serves clients until `end` says so; then finishes what is under way, within `patience`.
    pub async fn serve(
        self: &Arc<Front>,
        listener: Listener,
        mut end: watch::Receiver<bool>,
        patience: Duration,
    ) {
        if let Err(error) = descriptors_for(self.limits.connections) {
            tracing::warn!("cannot have more descriptors: {error}");
        }
        self.shown.changed(&self.pool);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_time)
            .max_buf_size(self.limits.head_bytes.max(8192))
            // ASGI tells the application when its client has gone
            .half_close(!self.pool.is_asgi());
        if self.limits.headers != USUAL_HEADERS {
            http.max_headers(self.limits.headers);
        }
        let (hurry, _) = watch::channel(false);
        loop {
            let full = self.connections.load(Ordering::Relaxed) >= self.limits.connections;
            tokio::select! {
                accepted = listener.accept(), if !full => match accepted {
                    Ok((mut stream, ends)) => {
                        stream.give_up_after(self.limits.write_time);
                        stream.count(self.shown.counts.clone());
                        self.shown.counts.opened();
                        self.shown.changed(&self.pool);
                        self.connection(&http, stream, ends, hurry.subscribe());
                    }
                    Err(error) => {
                        // no descriptors: those who are there go first
                        tracing::warn!("cannot accept a client: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                () = tokio::time::sleep(Duration::from_millis(20)), if full => {}
                _ = end.wait_for(|end| *end) => break,
            }
        }
        drop(listener);
        self.closing.store(true, Ordering::Relaxed);
        self.pool.dismiss();
        let deadline = tokio::time::Instant::now() + patience;
        let linger = tokio::time::Instant::now() + LINGER.min(patience);
        loop {
            let open = self.connections.load(Ordering::Relaxed);
            if open == 0 {
                break;
            }
            let now = tokio::time::Instant::now();
            if now >= deadline {
                tracing::warn!("{open} requests were not done in time");
                break;
            }
            if now >= linger {
                hurry.send_replace(true);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // the last numbers, for whoever holds on to them
        self.shown.write(&self.pool);
    }

    fn connection(
        self: &Arc<Front>,
        http: &http1::Builder,
        stream: Stream,
        ends: Ends,
        mut hurry: watch::Receiver<bool>,
    ) {
        let (front, counted) = (self.clone(), self.count());
        let client = Arc::new(Client {
            ends,
            outgoing: stream.outgoing(),
            last: Mutex::default(),
        });
        let service = {
            let front = self.clone();
            service_fn(move |request| Answering::begin(&front, &client, request))
        };
        let connection = http
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => Some(ended),
                _ = hurry.wait_for(|hurry| *hurry) => None,
            };
            let ended = match ended {
                Some(ended) => ended,
                None => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!("connection: {error}");
                if error.is_parse() {
                    front.shown.counts.refused();
                }
            }
            front.shown.counts.closed();
            front.shown.changed(&front.pool);
            drop(counted);
        });
    }

    /// Lets a WSGI application answer a request with a body.
    ///
    /// # Errors
    /// Why the server answers itself.
    pub(super) async fn handle(
        self: Arc<Front>,
        request: Request<Incoming>,
        client: Arc<Client>,
    ) -> Answer {
        let (head, body) = request.into_parts();
        let body = self.collect(body).await?;
        let answer = self.ask(&head, &client, body);
        let response = self.pool.in_time(answer, self.limits.request_time).await?;
        Ok(self.without_body(&head.method, response))
    }

    /// Gives a request to the workers of a WSGI application; its answer comes here.
    pub(super) fn ask(
        &self,
        head: &Parts,
        client: &Client,
        body: RequestBody,
    ) -> oneshot::Receiver<Response<ReplyBody>> {
        let environ = client.environ(head, |out| {
            environ::write(out, head, &client.ends, &self.site);
        });
        let (reply, answer) = oneshot::channel();
        self.pool.submit(Job {
            environ,
            target: environ::target(head, &self.site),
            port: client.ends.port,
            body,
            reply,
            asgi: false,
        });
        answer
    }

    /// The answer, without its body if there must not be one, and not longer than it says.
    pub(super) fn without_body(
        &self,
        method: &Method,
        mut response: Response<ReplyBody>,
    ) -> Response<ReplyBody> {
        let bare = matches!(
            response.status(),
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        if *method == Method::HEAD || bare {
            // an application may send a body all the same; the client must not see it
            let length = match response.body() {
                ReplyBody::Whole(bytes) if !bare => Some(bytes.len() as u64),
                ReplyBody::File { left, .. } if !bare => Some(*left),
                _ => None,
            };
            *response.body_mut() = ReplyBody::Whole(Bytes::new());
            let headers = response.headers_mut();
            if let Some(length) = length.filter(|length| *length > 0)
                && !headers.contains_key(header::CONTENT_LENGTH)
            {
                headers.insert(header::CONTENT_LENGTH, length.into());
            }
            return response;
        }
        fit(response)
    }

    /// Waits for the whole body.
    pub(super) async fn collect(&self, mut body: Incoming) -> Result<RequestBody, Refusal> {
        if body.is_end_stream() {
            return Ok(RequestBody::Empty);
        }
        let limit = self.limits.body.unwrap_or(u64::MAX);
        if body.size_hint().lower() > limit {
            return Err(TOO_LARGE);
        }
        let mut gathered = BytesMut::new();
        let mut length = 0u64;
        let mut file = None;
        loop {
            let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
            let frame = tokio::time::timeout(self.limits.body_time, frame).await;
            let frame = frame.map_err(|_| {
                let text = "The request's body has not come.";
                (StatusCode::REQUEST_TIMEOUT, text)
            })?;
            let Some(frame) = frame else { break };
            let frame =
                frame.map_err(|_| (StatusCode::BAD_REQUEST, "The request's body is broken."))?;
            // trailers are not for WSGI
            let Ok(data) = frame.into_data() else {
                continue;
            };
            length += data.len() as u64;
            if length > limit {
                return Err(TOO_LARGE);
            }
            gathered.extend_from_slice(&data);
            let most = if file.is_some() {
                FILE_BLOCK
            } else {
                IN_MEMORY
            };
            if gathered.len() > most {
                let block = gathered.split();
                file = Some(spool(file, block).await?);
            }
        }
        Ok(match file {
            None if gathered.is_empty() => RequestBody::Empty,
            None => RequestBody::Bytes(gathered.freeze()),
            Some(file) => {
                let file = spool(Some(file), gathered).await?;
                io::Seek::rewind(&mut &file).map_err(|_| NO_SPOOL)?;
                RequestBody::File(file, length)
            }
        })
    }
}

const NO_SPOOL: Refusal = (
    StatusCode::INSUFFICIENT_STORAGE,
    "There is no room for the request's body.",
);

/// Appends a block to a file without a name, on a thread: a disk may be slow.
async fn spool(file: Option<File>, block: BytesMut) -> Result<File, Refusal> {
    let written = tokio::task::spawn_blocking(move || -> io::Result<File> {
        let mut file = match file {
            Some(file) => file,
            None => nameless()?,
        };
        file.write_all(&block)?;
        Ok(file)
    });
    match written.await {
        Ok(Ok(file)) => Ok(file),
        Ok(Err(error)) => {
            tracing::error!(
                "a request's body cannot be kept in {}: {error}",
                std::env::temp_dir().display()
            );
            Err(NO_SPOOL)
        }
        Err(_) => Err(NO_SPOOL),
    }
}

fn nameless() -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)?;
    Ok(file.into())
}

/// What hyper lets through and two servers in a row could understand differently (request smuggling).
pub(super) fn strict<B>(request: &Request<B>) -> Result<(), Refusal> {
    let headers = request.headers();
    let bad = |text| Err((StatusCode::BAD_REQUEST, text));
    if headers.contains_key(header::TRANSFER_ENCODING) {
        if headers.contains_key(header::CONTENT_LENGTH) {
            return bad("Both a Content-Length and a Transfer-Encoding.");
        }
        if request.version() < Version::HTTP_11 {
            return bad("A Transfer-Encoding in HTTP/1.0.");
        }
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return bad("More than one Host."),
        (None, _) if request.version() >= Version::HTTP_11 => return bad("No Host."),
        // a target with a host of its own says the same again
        (Some(host), None) => {
            if let Some(authority) = request.uri().authority()
                && !host
                    .as_bytes()
                    .eq_ignore_ascii_case(authority.as_str().as_bytes())
            {
                return bad("The target is of another host than Host says.");
            }
        }
        _ => {}
    }
    if request.method() == Method::CONNECT {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "This is no proxy."));
    }
    Ok(())
}
