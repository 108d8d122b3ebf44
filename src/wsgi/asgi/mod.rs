//! ASGI 3: applications that run on an event loop, many requests at once, and WebSockets.
//!
//! The worker is the same process with a second text (`asgi.py`), the framing is that of [`super::worker`]; the pool gives a
//! worker as many requests as it may have in flight. What is new:
//!
//! * A request begins while its body is still coming, if that is long: its parts follow as orders, and the worker tells
//!   how much of them the application has taken ([`link`]). So neither side keeps more than a window of them.
//! * A client that goes away is told to the application at once (`http.disconnect`).
//! * WebSockets are spoken here, frames and all ([`websocket`], compressed ones with [`deflate`] and [`inflate`]): the worker
//!   sees whole messages. Slow clients, pings and masks cost no Python.

pub mod deflate;
pub mod inflate;
pub mod link;
pub mod scope;
pub mod serving;
pub mod websocket;

use std::time::Duration;

/// The Python text that a worker runs in addition if its application is ASGI.
pub const PROGRAM: &str = include_str!("asgi.py");

/// Which interface an application has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interface {
    /// What it looks like: a coroutine function, or an object that is called as one, is ASGI.
    #[default]
    Auto,
    /// PEP 3333.
    Wsgi,
    /// ASGI 3.
    Asgi,
}

impl Interface {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Interface::Auto => "auto",
            Interface::Wsgi => "wsgi",
            Interface::Asgi => "asgi",
        }
    }
}

/// What the worker is told about running an ASGI application.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the application is.
    pub interface: Interface,
    /// Whether its lifespan is run: `auto`, `on` or `off`.
    pub lifespan: &'static str,
    /// Which event loop: `auto`, `asyncio` or `uvloop`.
    pub event_loop: &'static str,
    /// Requests and WebSockets that one process has at once; the rest waits.
    pub concurrency: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            interface: Interface::Auto,
            lifespan: "auto",
            event_loop: "auto",
            concurrency: 100_000,
        }
    }
}

/// What clients of WebSockets may do.
#[derive(Debug, Clone, Copy)]
pub struct SocketLimits {
    /// Bytes of a message.
    pub message: usize,
    /// How long after the last ping the next is sent; none: there are no pings.
    pub ping_interval: Option<Duration>,
    /// How long the answer to a ping may take; none: any time.
    pub ping_timeout: Option<Duration>,
    /// Messages may be compressed if the client offers it.
    pub compressed: bool,
}

impl Default for SocketLimits {
    fn default() -> SocketLimits {
        let usual = Some(Duration::from_secs(20));
        SocketLimits {
            message: 16 << 20,
            ping_interval: usual,
            ping_timeout: usual,
            compressed: true,
        }
    }
}
