//! Connections, and the way of a request: is it for us, who asks, where does it lead.

use super::access::{Client, Role, Rules};
use super::guesses::Guesses;
use super::handlers::{self, Asked};
use super::http::{self as web, Answer};
use super::hub::{Hub, wall_clock};
use super::logs::OpenLog;
use super::page;
use super::problem::Problem;
use super::routes::{self, Found, Who};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Connections at a time; further ones wait to be accepted.
const CONNECTIONS: usize = 512;
/// Streams of events at a time.
const STREAMS: usize = 256;
/// How long a client may take to send the head of a request, and its body.
const SENDING: Duration = Duration::from_secs(30);
/// How long requests that are being answered may take when the console ends.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long a client that has connected may take to say anything when the console ends.
const FIRST_WORDS: Duration = Duration::from_secs(2);
/// After an error of accepting, as when there are no descriptors left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What the page may do: nothing that is not from here.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// Of an address.
    Tcp(TcpListener),
    /// Of a file.
    Unix(UnixListener),
}

/// Everything that requests are answered from.
pub struct Site {
    /// The daemons.
    pub hub: Hub,
    /// Who may do what.
    pub rules: Rules,
    /// How files of logs are opened.
    pub open_log: OpenLog,
    pub(super) guesses: Mutex<Guesses>,
    /// Passwords that are being looked at.
    pub(super) logins: Semaphore,
    /// Changes that are being made.
    pub(super) edits: Semaphore,
    pub(super) streams: Arc<Semaphore>,
    /// The console ends.
    pub(super) ending: watch::Receiver<bool>,
    end: watch::Sender<bool>,
}

impl Site {
    /// A site with these daemons and rules.
    pub fn new(hub: Hub, rules: Rules, open_log: OpenLog) -> Site {
        let (end, ending) = watch::channel(false);
        Site {
            hub,
            rules,
            open_log,
            guesses: Mutex::default(),
            logins: Semaphore::new(1),
            edits: Semaphore::new(1),
            streams: Arc::new(Semaphore::new(STREAMS)),
            ending,
            end,
        }
    }

    pub(super) fn guesses(&self) -> MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends streams and connections.
    pub fn end(&self) {
        self.end.send_replace(true);
    }
}

/// Serves until [`Site::end`]; then requests that have begun are still answered.
pub async fn serve(site: Arc<Site>, listener: Listener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut ending = site.ending.clone();
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (place, accept(&listener).await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            _ = ending.wait_for(|ending| *ending) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let site = site.clone();
                connections.spawn(async move {
                    let _place = place;
                    match stream {
                        Stream::Tcp(stream) => connection(site, stream, peer).await,
                        Stream::Unix(stream) => connection(site, stream, peer).await,
                    }
                });
            }
            Err(error) => {
                tracing::debug!("cannot accept: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    // others serve the socket from now on
    drop(listener);
    let all_done = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(FAREWELL, all_done).await;
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn accept(listener: &Listener) -> io::Result<(Stream, Option<IpAddr>)> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, peer) = listener.accept().await?;
            // events are small and should not wait
            let _ = stream.set_nodelay(true);
            Ok((Stream::Tcp(stream), Some(peer.ip().to_canonical())))
        }
        Listener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            Ok((Stream::Unix(stream), None))
        }
    }
}

async fn connection<S>(site: Arc<Site>, stream: S, peer: Option<IpAddr>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut ending = site.ending.clone();
    let (begun, mut first) = watch::channel(false);
    let service = service_fn(|request| {
        begun.send_replace(true);
        let site = site.clone();
        async move { Ok::<_, Infallible>(respond(site, peer, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(SENDING);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!("a connection ended: {error}");
            }
            return;
        }
        _ = ending.wait_for(|ending| *ending) => {}
    }
    if !*first.borrow() {
        // who has just come has not said yet what it wants, and would find the door shut
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = first.wait_for(|begun| *begun) => {}
            () = tokio::time::sleep(FIRST_WORDS) => {}
        }
    }
    connection.as_mut().graceful_shutdown();
    // whatever was wrong with it, it is over
    let _ = connection.await;
}

async fn respond(site: Arc<Site>, peer: Option<IpAddr>, request: Request<Incoming>) -> Answer {
    let is_page = page::find(request.uri().path()).is_some();
    let mut answer = match lead(&site, peer, request).await {
        Ok(answer) => answer,
        Err(problem) => web::problem(&problem),
    };
    let headers = answer.headers_mut();
    let cache = if is_page { "no-cache" } else { "no-store" };
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", cache),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    answer
}

async fn lead(
    site: &Arc<Site>,
    peer: Option<IpAddr>,
    request: Request<Incoming>,
) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    site.rules.check_place(&head.method, &head.headers)?;
    let path = head.uri.path();
    if let Some(file) = page::find(path) {
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return Ok(other_methods(&["GET"]));
        }
        let bytes = Bytes::from_static(file.bytes);
        return Ok(web::text(StatusCode::OK, file.kind, bytes));
    }
    let (route, parts) = match routes::find(&head.method, path) {
        Found::Route(route, parts) => (route, parts),
        Found::OtherMethods(methods) => return Ok(other_methods(&methods)),
        Found::Nothing => {
            return Err(Problem::not_found(
                "there is no such path; GET /api/v1/openapi.json tells which there are",
            ));
        }
    };
    let client = site
        .rules
        .client(&head.method, &head.headers, wall_clock() as u64);
    let client = match (client, route.who) {
        (Ok(client), _) => client,
        // who logs in may have an old session
        (Err(_), Who::Anybody) => Client {
            role: Role::Nobody,
            csrf: None,
        },
        (Err(problem), _) => return Err(problem),
    };
    if route.who != Who::Anybody && client.role == Role::Nobody {
        let detail = "log in first, or send a token: Authorization: Bearer TOKEN";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
    }
    let command = route.action == routes::Action::Command;
    if route.who == Who::Operator && client.role < Role::Operator && !command {
        return Err(Problem::forbidden("who may only look may not do this"));
    }
    let body = match route.body {
        Some(_) => tokio::time::timeout(SENDING, web::read(body))
            .await
            .map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come"))??,
        None => Bytes::new(),
    };
    let query = web::query(head.uri.query())?;
    let asked = Asked {
        route,
        parts,
        method: head.method,
        headers: head.headers,
        query,
        body,
        client,
        peer,
    };
    handlers::answer(site, asked).await
}

fn other_methods(methods: &[&str]) -> Answer {
    let names = methods.join(", ");
    let problem = Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("this path takes {names}"),
    );
    let mut answer = web::problem(&problem);
    if let Ok(value) = HeaderValue::from_str(&names) {
        answer.headers_mut().insert(header::ALLOW, value);
    }
    answer
}
