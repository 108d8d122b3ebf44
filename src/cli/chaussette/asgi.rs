//! Options of `circ chaussette` for ASGI applications.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::wsgi::asgi::{Interface, Settings, SocketLimits};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Auto,
    Wsgi,
    Asgi,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Lifespan {
    Auto,
    On,
    Off,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EventLoop {
    Auto,
    Asyncio,
    Uvloop,
}

/// What only ASGI has, and which of the interfaces it is.
#[derive(Debug, Clone, Args)]
pub struct AsgiArgs {
    /// What the application is; auto: a coroutine function, or an object called as one, is ASGI
    #[arg(long, value_enum, default_value_t = Kind::Auto)]
    interface: Kind,
    /// The path that the application is mounted at; default: $SCRIPT_NAME
    #[arg(long, value_name = "PATH")]
    root_path: Option<String>,
    /// ASGI: whether startup and shutdown are told; auto: unless the application does not know them
    #[arg(long, value_enum, default_value_t = Lifespan::Auto)]
    lifespan: Lifespan,
    /// ASGI: the event loop; auto: uvloop if it is installed
    #[arg(long = "loop", value_enum, default_value_t = EventLoop::Auto)]
    event_loop: EventLoop,
    /// ASGI: requests and WebSockets that one process has at once, the rest waits; 0: any number
    #[arg(long, default_value_t = 0, value_name = "N")]
    limit_concurrency: usize,
    /// Bytes of a message of a WebSocket
    #[arg(long, default_value_t = 16 << 20, value_name = "BYTES")]
    ws_max_size: usize,
    /// Seconds between pings to a WebSocket's client; 0: none
    #[arg(long, default_value_t = 20.0, value_name = "SECONDS")]
    ws_ping_interval: f64,
    /// Seconds that the answer to a ping may take; 0: any time
    #[arg(long, default_value_t = 20.0, value_name = "SECONDS")]
    ws_ping_timeout: f64,
    /// Whether messages of WebSockets are compressed if the client offers it
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    ws_per_message_deflate: bool,
}

impl AsgiArgs {
    /// For the worker.
    pub fn settings(&self) -> Settings {
        Settings {
            interface: match self.interface {
                Kind::Auto => Interface::Auto,
                Kind::Wsgi => Interface::Wsgi,
                Kind::Asgi => Interface::Asgi,
            },
            lifespan: match self.lifespan {
                Lifespan::Auto => "auto",
                Lifespan::On => "on",
                Lifespan::Off => "off",
            },
            event_loop: match self.event_loop {
                EventLoop::Auto => "auto",
                EventLoop::Asyncio => "asyncio",
                EventLoop::Uvloop => "uvloop",
            },
            concurrency: match self.limit_concurrency {
                0 => Settings::default().concurrency,
                limit => limit,
            },
        }
    }

    /// For clients of WebSockets.
    pub fn sockets(&self) -> SocketLimits {
        let seconds = |number: f64| {
            let time = Duration::try_from_secs_f64(number).ok();
            time.filter(|time| !time.is_zero())
        };
        SocketLimits {
            message: self.ws_max_size,
            ping_interval: seconds(self.ws_ping_interval),
            ping_timeout: seconds(self.ws_ping_timeout),
            compressed: self.ws_per_message_deflate,
        }
    }

    /// The mount point, without a slash at its end.
    pub fn root_path(&self) -> String {
        let path = match &self.root_path {
            Some(path) => path.clone(),
            None => std::env::var("SCRIPT_NAME").unwrap_or_default(),
        };
        path.trim_end_matches('/').to_string()
    }
}
