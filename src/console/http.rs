//! Requests and responses as the console has them: bodies that are whole or come piece by piece, paths and queries.

use super::problem::Problem;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use serde_json::Value;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Bytes that the body of a request may have, as a message of the wire.
pub const LARGEST: usize = 1024 * 1024;

/// The body of a response.
#[derive(Debug)]
pub enum Content {
    /// All of it.
    Whole(Option<Bytes>),
    /// What comes through the channel, until it is closed.
    Pieces(mpsc::Receiver<Bytes>),
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Content::Pieces(pieces) => pieces
                .poll_recv(context)
                .map(|piece| piece.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Pieces(_) => SizeHint::default(),
        }
    }
}

/// What the console answers.
pub type Answer = Response<Content>;

/// An answer with a text.
pub fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Content::Whole(Some(body.into())));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// An answer with JSON.
pub fn json(value: &Value) -> Answer {
    text(StatusCode::OK, "application/json", value.to_string())
}

/// An answer that says what went wrong.
pub fn problem(problem: &Problem) -> Answer {
    let body = problem.to_json().to_string();
    let mut answer = text(problem.status, "application/problem+json", body);
    let headers = answer.headers_mut();
    if let Some(seconds) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if problem.status == StatusCode::UNAUTHORIZED {
        let realm = HeaderValue::from_static("Bearer realm=\"circ\"");
        headers.insert(header::WWW_AUTHENTICATE, realm);
    }
    answer
}

/// An answer of server-sent events.
pub fn events(pieces: mpsc::Receiver<Bytes>) -> Answer {
    let mut answer = Response::new(Content::Pieces(pieces));
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    // a proxy in front is to pass on what there is
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}

/// One server-sent event. JSON has no line ends of its own.
pub fn event(name: &str, data: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

/// Says on a stream of events that the connection is alive.
pub fn heartbeat() -> Bytes {
    Bytes::from_static(b":\n\n")
}

/// Reads the body of a request.
///
/// # Errors
/// It is too large, or the client went away.
pub async fn read(mut body: Incoming) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body has more than {LARGEST} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    if body.size_hint().lower() > LARGEST as u64 {
        return Err(too_large());
    }
    let mut read = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|error| Problem::bad_request(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > LARGEST {
                return Err(too_large());
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.into())
}

/// The text behind percent signs; `None` if it is no UTF-8, or the signs are not complete.
pub fn decoded(text: &str, plus: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The parameters of a query, in their order.
///
/// # Errors
/// What is no text.
pub fn query(text: Option<&str>) -> Result<Vec<(String, String)>, Problem> {
    let pairs = text
        .unwrap_or_default()
        .split('&')
        .filter(|p| !p.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            decoded(key, true)
                .zip(decoded(value, true))
                .ok_or_else(|| Problem::bad_request("the query is no UTF-8 text"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_behind_percent_signs() {
        assert_eq!(decoded("a%2Fb+c%C3%A9", false).as_deref(), Some("a/b+cé"));
        assert_eq!(decoded("a+b", true).as_deref(), Some("a b"));
        for bad in ["%", "%4", "%zz", "%ff", "%+1"] {
            assert_eq!(decoded(bad, false), None, "{bad}");
        }
        let pairs = query(Some("a=1&b&&c=%3D")).unwrap();
        let expected = [("a", "1"), ("b", ""), ("c", "=")];
        assert!(
            pairs
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .eq(expected)
        );
    }

    #[test]
    fn events_are_one_line_of_json() {
        let event = event("log", &serde_json::json!({"text": "a\nb"}));
        assert_eq!(&event[..], b"event: log\ndata: {\"text\":\"a\\nb\"}\n\n");
    }
}
