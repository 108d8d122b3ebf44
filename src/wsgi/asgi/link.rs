//! What goes between the front and an ASGI worker after a request was handed over: orders to the worker, messages and
//! credit from it.

use crate::wsgi::marshal::Writer;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{Semaphore, TryAcquireError, mpsc};

/// Bytes that may be on their way to an application that has not taken them. The worker's text knows the half of it.
pub const WINDOW: usize = 1 << 18;
/// A part or message counts for so many bytes more than it has: empty ones are not for nothing.
pub const OVERHEAD: usize = 64;
/// The longest part of a body or message in one order.
pub const PART: usize = 1 << 16;

/// Something a worker is to be told about one of its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// The client has taken so many bytes.
    Credit(u64),
    /// Nobody wants the rest.
    Gone,
    /// A part of the request's body or of a WebSocket's message; more follow.
    Part(Bytes),
    /// The last part of the body.
    Last(Bytes),
    /// A message of a WebSocket (or the last part of one), in UTF-8.
    Text(Bytes),
    /// A message of a WebSocket, or the last part of one.
    Binary(Bytes),
    /// The WebSocket is closed: the code and the reason.
    Left(u16, String),
}

impl Order {
    /// Writes it as the worker reads it: (kind, number, what).
    pub fn write(&self, out: &mut Writer, number: u32) {
        out.tuple(3);
        let kind = match self {
            Order::Credit(_) => 0,
            Order::Gone => 1,
            Order::Part(_) => 2,
            Order::Last(_) => 3,
            Order::Text(_) => 4,
            Order::Binary(_) => 5,
            Order::Left(..) => 6,
        };
        out.int(kind);
        out.int(i64::from(number));
        match self {
            Order::Credit(amount) => out.int(i64::try_from(*amount).unwrap_or(i64::MAX)),
            Order::Gone => out.int(0),
            Order::Part(bytes) | Order::Last(bytes) | Order::Binary(bytes) => out.bytes(bytes),
            // the end of a longer one may begin in the middle of a character
            Order::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => out.text(text),
                Err(_) => out.bytes(bytes),
            },
            Order::Left(code, reason) => {
                out.tuple(2);
                out.int(i64::from(*code));
                out.text(reason);
            }
        }
    }
}

/// How much more may be sent to an application; closed when its request is over.
#[derive(Debug, Clone)]
pub struct Window(Arc<Semaphore>);

impl Default for Window {
    /// One with no room: it is opened when a worker has the request.
    fn default() -> Window {
        Window(Arc::new(Semaphore::new(0)))
    }
}

impl Window {
    /// What so many bytes count for; never more than half of the window, so that it can always come.
    pub fn cost(bytes: usize) -> u32 {
        bytes.saturating_add(OVERHEAD).min(WINDOW / 2) as u32
    }

    /// Makes room for so many bytes.
    pub fn grant(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(WINDOW);
        let most = WINDOW.saturating_sub(self.0.available_permits());
        self.0.add_permits(bytes.min(most));
    }

    /// Waits for room; false if nobody will take anything any more.
    pub async fn room(&self, cost: u32) -> bool {
        match self.0.acquire_many(cost).await {
            Ok(taken) => {
                taken.forget();
                true
            }
            Err(_) => false,
        }
    }

    /// Takes room if there is some; `None` if nobody will take anything any more.
    pub fn try_room(&self, cost: u32) -> Option<bool> {
        match self.0.try_acquire_many(cost) {
            Ok(taken) => {
                taken.forget();
                Some(true)
            }
            Err(TryAcquireError::NoPermits) => Some(false),
            Err(TryAcquireError::Closed) => None,
        }
    }

    fn close(&self) {
        self.0.close();
    }
}

/// What an application says to the client of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Say {
    /// A text.
    Text(Bytes),
    /// Bytes.
    Binary(Bytes),
    /// That it closes, with this code and reason.
    Close(u16, Bytes),
    /// Not the application, the server: it ends, or takes a newer application.
    Restart,
}

/// The front's end of a request that an ASGI worker has; its window is closed when it is dropped.
#[derive(Debug, Default)]
pub struct Link {
    /// How much of the request may be sent.
    pub window: Option<Window>,
    /// Who speaks to the client of a WebSocket.
    pub say: Option<mpsc::UnboundedSender<Say>>,
    partial: Vec<u8>,
}

impl Link {
    /// A worker has the request now.
    pub fn opened(window: Option<Window>) -> Link {
        if let Some(window) = &window {
            window.grant(WINDOW as u64);
        }
        Link {
            window,
            say: None,
            partial: Vec::new(),
        }
    }

    /// A part of a message; true if there is a WebSocket.
    pub fn part(&mut self, bytes: &[u8]) -> bool {
        if self.say.is_some() {
            self.partial.extend_from_slice(bytes);
        }
        self.say.is_some()
    }

    /// A message, or the last part of one.
    pub fn message(&mut self, bytes: &[u8], kind: impl FnOnce(Bytes) -> Say) {
        let bytes = if self.partial.is_empty() {
            Bytes::copy_from_slice(bytes)
        } else {
            self.partial.extend_from_slice(bytes);
            std::mem::take(&mut self.partial).into()
        };
        self.say(kind(bytes));
    }

    /// Says something to the client of the WebSocket, if there is one.
    pub fn say(&self, what: Say) {
        if let Some(say) = &self.say {
            // one that has gone is heard of
            let _ = say.send(what);
        }
    }

    /// The worker tells how much the application has taken.
    pub fn credit(&self, amount: &[u8]) {
        let amount = std::str::from_utf8(amount)
            .ok()
            .and_then(|n| n.parse().ok());
        if let (Some(window), Some(amount)) = (&self.window, amount) {
            window.grant(amount);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(window) = &self.window {
            window.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_gives_room_as_it_is_taken() {
        let link = Link::opened(Some(Window::default()));
        let window = link.window.clone().unwrap();
        let half = Window::cost(10 << 20);
        assert_eq!(half as usize, WINDOW / 2);
        assert_eq!(window.try_room(half), Some(true));
        assert_eq!(window.try_room(half), Some(true));
        assert_eq!(window.try_room(Window::cost(0)), Some(false));
        link.credit(b"64");
        assert_eq!(window.try_room(Window::cost(0)), Some(true));
        // a worker that tells nonsense does not make it larger than it was
        link.credit(b"99999999999999999999");
        link.credit(b"x");
        link.credit(b"999999999");
        assert_eq!(window.0.available_permits(), WINDOW);
        drop(link);
        assert_eq!(window.try_room(1), None);
    }

    #[test]
    fn messages_come_together_from_their_parts() {
        let (say, mut said) = mpsc::unbounded_channel();
        let mut link = Link::opened(None);
        link.say = Some(say);
        assert!(link.part(b"ab"));
        assert!(link.part(b"cd"));
        link.message(b"e", Say::Text);
        link.message(b"f", Say::Binary);
        assert_eq!(said.try_recv(), Ok(Say::Text("abcde".into())));
        assert_eq!(said.try_recv(), Ok(Say::Binary("f".into())));
        assert!(!Link::default().part(b"x"));
    }
}
