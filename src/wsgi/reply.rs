//! What goes back to a client.

use super::asgi::link::Say;
use super::marshal::to_latin1;
use super::pool::Pool;
use super::record::{Kind, Record};
use super::sendfile::{self, Outgoing};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use hyper::ext::ReasonPhrase;
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{mpsc, oneshot};

/// Told to the worker when so much has been taken.
const CREDIT: u64 = 64 * 1024;

/// Why a request is not handled: what the server answers itself.
pub type Refusal = (StatusCode, &'static str);

/// An answer, or why there is none from the application.
pub type Answer = Result<Response<ReplyBody>, Refusal>;

/// Longer than a body may be.
pub const TOO_LARGE: Refusal = (
    StatusCode::PAYLOAD_TOO_LARGE,
    "The request's body is too large.",
);

/// The body of an answer.
pub enum ReplyBody {
    /// All of it.
    Whole(Bytes),
    /// It comes bit by bit.
    Stream(Stream),
    /// None: the connection becomes a WebSocket, and this is what is said on it.
    Socket(mpsc::UnboundedReceiver<Say>),
    /// A part of a file.
    File {
        /// The file.
        file: File,
        /// Where to go on.
        at: u64,
        /// Bytes that are left.
        left: u64,
        /// Where the connection finds it, once that is known.
        outgoing: Option<Outgoing>,
    },
}

/// A body that comes bit by bit.
pub struct Stream {
    /// The bits; an error if the application has failed in the middle.
    pub parts: mpsc::UnboundedReceiver<io::Result<Bytes>>,
    /// Where to tell that some was taken.
    pub pool: Arc<Pool>,
    /// The request.
    pub number: u32,
    /// Bytes that were taken and not told of.
    pub taken: u64,
    /// Nothing more is to come.
    pub ended: bool,
    /// The error that is the end of it.
    pub broken: Option<io::Error>,
    /// What is left of it by what the application has said.
    pub length: Option<u64>,
}

impl Stream {
    /// The next part. An error comes one turn later than it could: hyper throws away what it has not yet written when it
    /// hears of one, and writes in between.
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let error = match self.parts.poll_recv(context) {
            Poll::Ready(Some(Err(error))) => error,
            Poll::Ready(None) if self.length.is_some_and(|left| left > 0) => {
                let left = self.length.unwrap_or_default();
                let text = format!("the answer is {left} bytes shorter than its Content-Length");
                tracing::error!("{text}");
                io::Error::other(text)
            }
            other => return other,
        };
        self.broken = Some(error);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.ended {
            self.pool.gone(self.number);
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            ReplyBody::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            ReplyBody::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            ReplyBody::Stream(stream) => match stream.poll_part(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(Ok(part))) => {
                    stream.taken += part.len() as u64;
                    if let Some(left) = &mut stream.length {
                        *left = left.saturating_sub(part.len() as u64);
                    }
                    if stream.taken >= CREDIT {
                        stream.pool.credit(stream.number, stream.taken);
                        stream.taken = 0;
                    }
                    Poll::Ready(Some(Ok(Frame::data(part))))
                }
                Poll::Ready(end) => {
                    stream.ended = true;
                    Poll::Ready(end.map(|error| error.map(Frame::data)))
                }
            },
            ReplyBody::Socket(_) | ReplyBody::File { left: 0, .. } => Poll::Ready(None),
            ReplyBody::File {
                file,
                at,
                left,
                outgoing,
            } => {
                if let Some(outgoing) = outgoing.take() {
                    match file.try_clone() {
                        Ok(file) => outgoing.push(file, *at, *left),
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    }
                }
                let part = sendfile::stand_in(*left);
                *left -= part.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(part))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Whole(bytes) => bytes.is_empty(),
            ReplyBody::Stream(stream) => stream.ended,
            ReplyBody::Socket(_) => true,
            ReplyBody::File { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ReplyBody::Stream(stream) => stream
                .length
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            ReplyBody::Socket(_) => SizeHint::with_exact(0),
            ReplyBody::File { left, .. } => SizeHint::with_exact(*left),
        }
    }
}

/// The head of an answer as the application gave it.
///
/// # Errors
/// What in it HTTP does not allow.
pub fn head(record: &Record<'_>) -> Result<Response<()>, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let status = to_latin1(record.status)
        .ok_or_else(|| format!("the status {:?} is not latin-1", text(record.status)))?;
    let (code, reason) = status.split_at_checked(3).unwrap_or((&status, b""));
    let code = StatusCode::from_bytes(code)
        .ok()
        .filter(|_| reason.is_empty() || reason.starts_with(b" "))
        .ok_or_else(|| format!("{:?} is no status such as \"200 OK\"", text(record.status)))?;
    // these say that the answer comes later, and there is none
    if code.is_informational() && record.kind != Kind::Accept {
        let text = text(record.status);
        return Err(format!("the status {text:?} is not that of an answer"));
    }
    let mut response = Response::new(());
    *response.status_mut() = code;
    let reason = reason.get(1..).unwrap_or_default();
    if !reason.is_empty() && code.canonical_reason().map(str::as_bytes) != Some(reason) {
        let reason = ReasonPhrase::try_from(reason)
            .map_err(|_| format!("{:?} is no reason phrase", text(reason)))?;
        response.extensions_mut().insert(reason);
    }
    let headers = response.headers_mut();
    headers.reserve(record.headers.len() + 1);
    for (name, value) in &record.headers {
        let bad = |what: &str| format!("the header {:?}: {:?} {what}", text(name), text(value));
        let name =
            HeaderName::from_bytes(name).map_err(|_| bad("has a name HTTP does not allow"))?;
        let value = if record.raw {
            HeaderValue::from_bytes(value)
        } else {
            HeaderValue::from_bytes(&to_latin1(value).ok_or_else(|| bad("is not latin-1"))?)
        };
        let value = value.map_err(|_| bad("has control characters"))?;
        if is_hop_by_hop(&name) {
            continue;
        }
        headers.append(name, value);
    }
    one_length(headers)?;
    Ok(response)
}

/// Sees to it that there is one length at most, and that it is a number: clients would not agree where the answer ends.
fn one_length(headers: &mut HeaderMap) -> Result<(), String> {
    let mut all = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = all.next() else {
        return Ok(());
    };
    let mut others = all.peekable();
    let several = others.peek().is_some();
    let digits = length.as_bytes();
    let is_number = declared_length(headers).is_some() && digits.iter().all(u8::is_ascii_digit);
    if !is_number || others.any(|other| other != length) {
        let all: Vec<_> = headers.get_all(header::CONTENT_LENGTH).iter().collect();
        return Err(format!("the Content-Length {all:?} is no length"));
    }
    if several {
        let length = length.clone();
        headers.insert(header::CONTENT_LENGTH, length);
    }
    Ok(())
}

/// Makes an answer that is there as long as its Content-Length says: what is too long is cut off; one that is too short is the
/// application's mistake. What comes bit by bit is looked at when it ends.
pub fn fit(mut response: Response<ReplyBody>) -> Response<ReplyBody> {
    let Some(declared) = declared_length(response.headers()) else {
        return response;
    };
    let there = match response.body() {
        ReplyBody::Whole(bytes) => bytes.len() as u64,
        ReplyBody::File { left, .. } => *left,
        ReplyBody::Stream(_) | ReplyBody::Socket(_) => return response,
    };
    if there < declared {
        tracing::error!(
            "the application's answer cannot be sent: it has {there} bytes, and Content-Length {declared}"
        );
        return own(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
    }
    if there > declared {
        tracing::warn!(
            "the application's answer is cut off: it has {there} bytes, and Content-Length {declared}"
        );
        match response.body_mut() {
            ReplyBody::Whole(bytes) => {
                bytes.truncate(usize::try_from(declared).unwrap_or_default())
            }
            ReplyBody::File { left, .. } => *left = declared,
            ReplyBody::Stream(_) | ReplyBody::Socket(_) => {}
        }
    }
    response
}

/// The server's own business; PEP 3333 forbids them to applications.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ]
    .contains(name)
        || *name == "keep-alive"
}

/// The length that the application has given.
pub fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// What has come from a worker; nothing does when the server ends.
pub fn come(answer: Result<Response<ReplyBody>, oneshot::error::RecvError>) -> Answer {
    answer.map_err(|_| (StatusCode::SERVICE_UNAVAILABLE, "The server is stopping."))
}

/// An answer of the server itself.
pub fn own(code: StatusCode, text: &str) -> Response<ReplyBody> {
    let body = Bytes::from(format!("{text}\n"));
    let mut response = Response::new(ReplyBody::Whole(body));
    *response.status_mut() = code;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
