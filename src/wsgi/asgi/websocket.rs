//! WebSockets (RFC 6455): the handshake, and the conversation between a client and a worker.
//!
//! The frames are tungstenite's business. This file moves messages: what the client says goes to the worker as far as the
//! application keeps up, what the application says goes to the client as far as that does. Pings keep the line open and
//! find clients that are gone without a word.

use super::SocketLimits;
use super::deflate::Agreed;
use super::inflate::Plain;
use super::link::{Order, PART, Say, Window};
use crate::wsgi::listen::Stream;
use crate::wsgi::pool::Pool;
use crate::wsgi::reply::{ReplyBody, own};
use bytes::Bytes;
use futures_util::{Sink, Stream as _};
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

/// How long a client may take to answer that the WebSocket is closed.
const FAREWELL: Duration = Duration::from_secs(5);
/// Messages are gathered until they are so long together, then written.
const GATHER: u64 = 64 * 1024;
/// What a connection reads at once.
const READ_BUFFER: usize = 8 * 1024;
/// Close codes: the client went without a word, the server is at fault, it restarts.
const ABNORMAL: u16 = 1006;
const FAULT: u16 = 1011;
const RESTART: u16 = 1012;
/// A close frame without a code.
const NO_CODE: u16 = 1005;

fn has_word(headers: &HeaderMap, name: &header::HeaderName, word: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|other| other.trim().eq_ignore_ascii_case(word))
}

/// True if a client asks for a WebSocket.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    has_word(headers, &header::UPGRADE, "websocket")
        && has_word(headers, &header::CONNECTION, "upgrade")
}

/// The answer to the key of a handshake.
///
/// # Errors
/// The answer to a client that does not ask as RFC 6455 says.
pub fn check(head: &Parts) -> Result<HeaderValue, Box<Response<ReplyBody>>> {
    let bad = |code, text| Err(Box::new(own(code, text)));
    if head.method != Method::GET || head.version != Version::HTTP_11 {
        return bad(
            StatusCode::BAD_REQUEST,
            "A WebSocket begins with a GET in HTTP/1.1.",
        );
    }
    if head
        .headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .map(HeaderValue::as_bytes)
        != Some(b"13")
    {
        let mut answer = own(
            StatusCode::UPGRADE_REQUIRED,
            "Only version 13 of the WebSocket protocol is spoken here.",
        );
        let version = HeaderValue::from_static("13");
        answer
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_VERSION, version);
        return Err(Box::new(answer));
    }
    let mut keys = head.headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key.as_bytes()) => key,
        _ => return bad(StatusCode::BAD_REQUEST, "The key of the WebSocket is none."),
    };
    let accept = derive_accept_key(key.as_bytes());
    HeaderValue::from_str(&accept).or_else(|_| {
        bad(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The key of the WebSocket has no answer.",
        )
    })
}

/// Sixteen bytes in base64.
fn is_key(key: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match key.strip_suffix(b"==") {
        Some(digits) => digits.len() == 22 && digits.iter().all(digit),
        None => false,
    }
}

/// Turns the application's acceptance into the answer that switches protocols.
pub fn accepted(
    response: &mut Response<ReplyBody>,
    accept: HeaderValue,
    compression: Option<Agreed>,
) {
    let headers = response.headers_mut();
    let subprotocol = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let subprotocol = subprotocol.iter().next_back().cloned();
    let own: Vec<_> = headers
        .keys()
        .filter(|name| {
            name.as_str().starts_with("sec-websocket-") || *name == header::CONTENT_LENGTH
        })
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(subprotocol) = subprotocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    if let Some(answer) = compression.and_then(|agreed| agreed.answer()) {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, answer);
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
}

/// One WebSocket: what it takes to serve it.
pub struct Call {
    /// Whose worker has it.
    pub pool: Arc<Pool>,
    /// Its request.
    pub number: u32,
    /// How much of what the client says may go to the worker.
    pub window: Window,
    /// What the application says.
    pub said: mpsc::UnboundedReceiver<Say>,
    /// What the client may do.
    pub limits: SocketLimits,
    /// How messages may be compressed.
    pub compression: Option<Agreed>,
}

impl Call {
    /// Serves it until it is closed.
    pub async fn serve(self, upgrade: OnUpgrade) {
        let farewell = Farewell {
            pool: self.pool.clone(),
            number: self.number,
            told: false,
        };
        let Ok(upgraded) = upgrade.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<Stream>>() else {
            return;
        };
        let mut stream = parts.io.into_inner();
        stream.look_away();
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(GATHER as usize)
            .max_message_size(Some(self.limits.message))
            .max_frame_size(Some(self.limits.message));
        let early = parts.read_buf.to_vec();
        let stream = Plain::new(stream, early, self.compression.is_some());
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        let now = Instant::now();
        let mut talk = Talk {
            socket,
            call: self,
            farewell,
            waiting: None,
            unflushed: 0,
            dirty: false,
            ended: false,
            closing: None,
            pinged: None,
            next_ping: now,
        };
        talk.ping_later(now);
        talk.run().await;
    }
}

/// Tells the worker, at the latest when the connection is dropped, that the WebSocket is closed.
struct Farewell {
    pool: Arc<Pool>,
    number: u32,
    told: bool,
}

impl Farewell {
    fn tell(&mut self, code: u16, reason: &str) {
        if !self.told {
            self.told = true;
            self.pool
                .order(self.number, Order::Left(code, reason.to_string()));
        }
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.tell(ABNORMAL, "");
    }
}

/// What comes next.
enum Event {
    Message(Message),
    /// The connection is over, in whatever way.
    Over(Option<Error>),
    /// There is room for the message that waits; false: nobody takes it.
    Room(bool),
    Ping,
    /// The application has closed it: from now on there is a limit to wait for.
    Closing,
    /// The client has not answered, to a ping or to a close.
    Silence,
}

struct Talk {
    socket: WebSocketStream<Plain>,
    call: Call,
    farewell: Farewell,
    /// A message for which the application has no room yet.
    waiting: Option<Message>,
    /// What messages that are not written yet count for.
    unflushed: u64,
    dirty: bool,
    /// The application says nothing more.
    ended: bool,
    /// We have said that it is closed; until then the client may answer.
    closing: Option<Instant>,
    /// A ping was sent; until then the client may answer.
    pinged: Option<Instant>,
    next_ping: Instant,
}

impl Talk {
    async fn run(mut self) {
        loop {
            match self.next().await {
                Event::Message(message) => self.heard(message),
                Event::Room(true) => {
                    if let Some(message) = self.waiting.take() {
                        self.deliver(message);
                    }
                }
                Event::Room(false) => self.waiting = None,
                Event::Closing => {}
                Event::Ping => {
                    let now = Instant::now();
                    self.pinged = self.call.limits.ping_timeout.map(|limit| now + limit);
                    self.ping_later(now);
                    self.send(Message::Ping(Bytes::from_static(b"circ")));
                }
                Event::Silence if self.closing.is_some() => return,
                Event::Silence => {
                    self.farewell.tell(ABNORMAL, "");
                    self.close(FAULT, "keepalive ping timeout");
                    // nobody is there to answer
                    let _ = tokio::time::timeout(FAREWELL, self.written()).await;
                    return;
                }
                Event::Over(why) => return self.over(why).await,
            }
        }
    }

    fn ping_later(&mut self, now: Instant) {
        // none: so far away that nobody waits for it
        let interval = self.call.limits.ping_interval;
        self.next_ping = now + interval.unwrap_or(Duration::from_secs(86_400 * 365));
    }

    async fn next(&mut self) -> Event {
        let limit = match (self.closing, self.pinged) {
            (Some(limit), _) => Some(limit),
            // while the client waits for the application, its answer is not read either
            (None, Some(limit)) if self.waiting.is_none() => Some(limit),
            _ => None,
        };
        let ping = self.next_ping;
        let may_ping = self.closing.is_none()
            && self.pinged.is_none()
            && self.call.limits.ping_interval.is_some();
        let room = self.waiting.as_ref().map(|message| {
            let (window, cost) = (self.call.window.clone(), Window::cost(message.len()));
            async move { window.room(cost).await }
        });
        tokio::select! {
            event = poll_fn(|context| self.poll(context)) => event,
            room = async { match room { Some(room) => room.await, None => std::future::pending().await } } => Event::Room(room),
            () = sleep_until(ping), if may_ping => Event::Ping,
            () = async { match limit { Some(limit) => sleep_until(limit).await, None => std::future::pending().await } } => Event::Silence,
        }
    }

    /// Writes what there is to write, and reads.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let was_open = self.closing.is_none();
        loop {
            let mut more = false;
            while self.unflushed < GATHER && !self.ended {
                match self.call.said.poll_recv(context) {
                    Poll::Ready(Some(say)) => {
                        more = true;
                        self.say(say);
                    }
                    Poll::Ready(None) => {
                        more = true;
                        self.ended = true;
                        // it says Close before it ends: it has died
                        if self.closing.is_none() {
                            self.close(FAULT, "");
                        }
                    }
                    Poll::Pending => break,
                }
            }
            if self.dirty {
                match Pin::new(&mut self.socket).poll_flush(context) {
                    Poll::Ready(Ok(())) => {
                        self.dirty = false;
                        let written = std::mem::take(&mut self.unflushed);
                        if written > 0 {
                            self.call.pool.credit(self.call.number, written);
                        }
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Event::Over(Some(error))),
                    Poll::Pending => break,
                }
            }
            if !more {
                break;
            }
        }
        if was_open && self.closing.is_some() {
            return Poll::Ready(Event::Closing);
        }
        // while it closes, what the client has said before is of no use
        if self.waiting.is_some() && self.closing.is_none() {
            return Poll::Pending;
        }
        match Pin::new(&mut self.socket).poll_next(context) {
            Poll::Ready(Some(Ok(message))) => Poll::Ready(Event::Message(message)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Event::Over(Some(error))),
            Poll::Ready(None) => Poll::Ready(Event::Over(None)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// What the application says.
    fn say(&mut self, say: Say) {
        if self.closing.is_some() {
            return;
        }
        let message = match say {
            Say::Text(bytes) => match Utf8Bytes::try_from(bytes) {
                Ok(text) => Message::Text(text),
                Err(_) => return self.close(FAULT, ""),
            },
            Say::Binary(bytes) => Message::Binary(bytes),
            Say::Close(code, reason) => {
                let reason = String::from_utf8_lossy(&reason).into_owned();
                return self.close(code, &reason);
            }
            Say::Restart => {
                self.farewell.tell(RESTART, "");
                return self.close(RESTART, "");
            }
        };
        self.unflushed += (message.len() + super::link::OVERHEAD) as u64;
        self.send(self.packed(message));
    }

    /// The message, compressed if that was agreed and is worth it.
    fn packed(&self, message: Message) -> Message {
        let (bytes, kind) = match &message {
            Message::Text(text) => (text.as_bytes(), Data::Text),
            Message::Binary(bytes) => (&bytes[..], Data::Binary),
            _ => return message,
        };
        let packed = self
            .call
            .compression
            .and_then(|agreed| agreed.compress(bytes));
        match packed {
            Some(packed) => {
                let mut frame = Frame::message(packed, OpCode::Data(kind), true);
                frame.header_mut().rsv1 = true;
                Message::Frame(frame)
            }
            None => message,
        }
    }

    fn send(&mut self, message: Message) {
        self.dirty = true;
        // a connection that is closed says so when it is read
        let _ = Pin::new(&mut self.socket).start_send(message);
    }

    fn close(&mut self, code: u16, reason: &str) {
        if self.closing.is_some() {
            return;
        }
        self.closing = Some(Instant::now() + FAREWELL);
        let mut reason = reason.to_string();
        // a close frame has room for 123 bytes of it
        let end = (0..=123).rev().find(|end| reason.is_char_boundary(*end));
        reason.truncate(end.unwrap_or(0).min(reason.len()));
        let frame = CloseFrame {
            code: code.into(),
            reason: reason.into(),
        };
        self.send(Message::Close((code != NO_CODE).then_some(frame)));
    }

    /// What the client says.
    fn heard(&mut self, message: Message) {
        // whatever it is, somebody is there
        self.pinged = None;
        match message {
            Message::Text(_) | Message::Binary(_) if self.closing.is_some() => {}
            Message::Text(_) | Message::Binary(_) => {
                match self.call.window.try_room(Window::cost(message.len())) {
                    Some(true) => self.deliver(message),
                    Some(false) => self.waiting = Some(message),
                    None => {}
                }
            }
            Message::Close(frame) => {
                let (code, reason) = match &frame {
                    Some(frame) => (frame.code.into(), frame.reason.as_str()),
                    None => (NO_CODE, ""),
                };
                self.farewell.tell(code, reason);
                // the answer is written already, but not sent
                self.dirty = true;
                self.closing.get_or_insert(Instant::now() + FAREWELL);
            }
            // tungstenite has an answer to send
            Message::Ping(_) => self.dirty = true,
            Message::Pong(_) | Message::Frame(_) => {}
        }
    }

    /// Gives a message to the worker, in parts if it is long.
    fn deliver(&self, message: Message) {
        let is_text = message.is_text();
        let mut rest = message.into_data();
        let (pool, number) = (&self.call.pool, self.call.number);
        while rest.len() > PART {
            pool.order(number, Order::Part(rest.split_to(PART)));
        }
        pool.order(
            number,
            if is_text {
                Order::Text(rest)
            } else {
                Order::Binary(rest)
            },
        );
    }

    async fn written(&mut self) {
        // one that does not take it is gone
        let _ = poll_fn(|context| Pin::new(&mut self.socket).poll_flush(context)).await;
    }

    /// The end: a client that has broken the rules is told so.
    async fn over(mut self, why: Option<Error>) {
        let code = match &why {
            Some(Error::Capacity(_)) => Some(1009),
            Some(Error::Utf8(_)) => Some(1007),
            Some(Error::Protocol(
                tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => None,
            Some(Error::Protocol(_)) => Some(1002),
            _ => None,
        };
        let Some(code) = code.filter(|_| self.closing.is_none()) else {
            return;
        };
        let why = why.map(|why| why.to_string()).unwrap_or_default();
        tracing::debug!("WebSocket: {why}");
        let reason = match code {
            1009 => format!("messages may have {} bytes", self.call.limits.message),
            _ => String::new(),
        };
        self.farewell.tell(code, "");
        self.close(code, &reason);
        let _ = tokio::time::timeout(FAREWELL, async {
            self.written().await;
            // what it still sends is read, or the system would throw away what we have said
            let stream = self.socket.get_mut();
            let mut sink = [0u8; 4096];
            if stream.shutdown().await.is_ok() {
                while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn asked(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn checked(head: &Parts) -> Result<HeaderValue, u16> {
        check(head).map_err(|refusal| refusal.status().as_u16())
    }

    const PROPER: [(&str, &str); 4] = [
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn the_handshake_of_the_rfc() {
        let head = asked(&PROPER);
        assert!(is_wanted(&head.headers));
        assert_eq!(checked(&head).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for missing in [0, 1] {
            let mut headers = PROPER.to_vec();
            headers.remove(missing);
            assert!(!is_wanted(&asked(&headers).headers));
        }
    }

    #[test]
    fn a_handshake_that_is_none_is_refused() {
        for (change, code) in [
            (("sec-websocket-version", "8"), 426),
            (("sec-websocket-key", "short"), 400),
            (("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ!="), 400),
        ] {
            let mut headers: Vec<_> = PROPER.to_vec();
            headers.retain(|(name, _)| *name != change.0);
            headers.push(change);
            assert_eq!(checked(&asked(&headers)), Err(code));
        }
        let mut head = asked(&PROPER);
        head.method = Method::POST;
        assert_eq!(checked(&head), Err(400));
    }
}
