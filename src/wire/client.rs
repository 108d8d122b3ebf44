//! The ZeroMQ client: calls to a daemon's control socket, and a subscription to its events.
//!
//! Both block the calling thread and carry their own small runtime, so that a command-line program
//! needs none. Every call has a deadline, and what went wrong is told apart: nobody listens, the
//! peer is no ZeroMQ socket, it listens but does not answer, the operation still runs.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use zeromq::{
    DealerSocket, Socket, SocketEvent, SocketRecv, SocketSend, SubSocket, ZmqError, ZmqMessage,
};

use crate::wire::command;
use crate::wire::endpoint::Endpoint;
use crate::wire::text;

/// How long the question "is anybody there at all?" may take after a call ran into its deadline.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// Why a call brought no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection was refused, the socket file does not exist, the host is unknown.
    #[error(
        "nobody listens on {endpoint}: {source}. Is the daemon running, and is this its endpoint?"
    )]
    Unreachable {
        /// The address tried.
        endpoint: Endpoint,
        /// What the kernel said.
        source: io::Error,
    },
    /// Its Unix socket is not for this user.
    #[error(
        "this user may not connect to {endpoint}: {source}. Run as the daemon's user, or as root"
    )]
    Forbidden {
        /// The address tried.
        endpoint: Endpoint,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something listens, but its bytes are not ZeroMQ's.
    #[error("{endpoint} is not a ZeroMQ socket: {detail}. Check the address")]
    NotZeroMq {
        /// The address tried.
        endpoint: Endpoint,
        /// What was wrong with the handshake.
        detail: String,
    },
    /// Something accepts connections but never speaks.
    #[error(
        "{endpoint} accepts connections but said nothing for {seconds} s: \
         the daemon is stopped or stuck, or this is no ZeroMQ socket"
    )]
    Silent {
        /// The address tried.
        endpoint: Endpoint,
        /// How long it was waited for.
        seconds: f64,
    },
    /// The daemon is connected but answers neither this call nor a simple question.
    #[error(
        "{endpoint} listens but did not answer `{command}` within {seconds} s: \
         the daemon is busy or stuck; try again, or with a longer --timeout"
    )]
    NoAnswer {
        /// The address called.
        endpoint: Endpoint,
        /// The command that got no answer.
        command: String,
        /// How long it was waited for.
        seconds: f64,
    },
    /// The daemon answers other calls: this one is still being worked on.
    #[error(
        "`{command}` is still running after {seconds} s; {endpoint} answers other calls. \
         It goes on without us; wait longer with --timeout"
    )]
    StillRunning {
        /// The address called.
        endpoint: Endpoint,
        /// The command that is still running.
        command: String,
        /// How long it was waited for.
        seconds: f64,
    },
    /// The daemon closed the connection before it answered.
    #[error("{endpoint} closed the connection before it answered `{command}`")]
    Closed {
        /// The address called.
        endpoint: Endpoint,
        /// The command that got no answer.
        command: String,
    },
    /// The caller was told to wait no longer.
    #[error(
        "`{command}` was sent to {endpoint} and not waited for: the daemon may still carry it out"
    )]
    Abandoned {
        /// The address called.
        endpoint: Endpoint,
        /// The command that was not waited for.
        command: String,
    },
    /// The answer is not a JSON object.
    #[error("{endpoint} answered something that is no JSON object: {detail}")]
    BadReply {
        /// The address called.
        endpoint: Endpoint,
        /// What is wrong with it.
        detail: String,
    },
    /// Something failed on our side.
    #[error("cannot call {endpoint}: {detail}")]
    Local {
        /// The address to be called.
        endpoint: Endpoint,
        /// What failed.
        detail: String,
    },
}

impl ClientError {
    /// Whether the reason is that no answer came in time.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            ClientError::Silent { .. }
                | ClientError::NoAnswer { .. }
                | ClientError::StillRunning { .. }
        )
    }

    /// Whether the peer may have got the command, and may carry it out now or later.
    pub fn may_still_happen(&self) -> bool {
        self.is_timeout() || matches!(self, ClientError::Abandoned { .. })
    }
}

/// What to do when nobody listens yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Say so at once.
    FailAtOnce,
    /// Try again until the deadline, as ZeroMQ does.
    WaitForListener,
}

/// A connection to the control socket of a daemon.
pub struct Client {
    endpoint: Endpoint,
    timeout: Duration,
    abandon: Option<watch::Receiver<bool>>,
    // Before the runtime, because closing it needs the runtime.
    socket: DealerSocket,
    runtime: Runtime,
}

impl Client {
    /// Connects; `timeout` is for the connection, and then for each call.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] at once when nobody listens; `Forbidden`, `NotZeroMq`, `Silent`, `Local`.
    pub fn connect(endpoint: &Endpoint, timeout: Duration) -> Result<Self, ClientError> {
        Self::connect_with(endpoint, timeout, Patience::FailAtOnce)
    }

    /// Connects with a choice of what to do when nobody listens.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_with(
        endpoint: &Endpoint,
        timeout: Duration,
        patience: Patience,
    ) -> Result<Self, ClientError> {
        if patience == Patience::FailAtOnce {
            probe(endpoint, timeout)?;
        }
        let runtime = runtime(endpoint)?;
        let mut socket = DealerSocket::new();
        connect(&runtime, &mut socket, endpoint, timeout)?;
        Ok(Self {
            endpoint: endpoint.clone(),
            timeout,
            abandon: None,
            socket,
            runtime,
        })
    }

    /// From now on no call waits any longer once this is true: it ends with [`ClientError::Abandoned`].
    pub fn abandon_on(&mut self, told: watch::Receiver<bool>) {
        self.abandon = Some(told);
    }

    /// Where this client is connected to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a message (see [`command::message`]) and waits for its reply, which is returned as it
    /// came, be its status ok or error. The message's `id` is set here.
    ///
    /// # Errors
    /// `NoAnswer`, `StillRunning` (only for messages with the property `waiting`), `Closed`,
    /// `BadReply`, `Local`.
    pub fn call(&mut self, message: Value) -> Result<Value, ClientError> {
        self.call_within(message, self.timeout)
    }

    /// As [`Client::call`], with its own deadline.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn call_within(&mut self, message: Value, timeout: Duration) -> Result<Value, ClientError> {
        let name = message
            .get("command")
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_string();
        let waiting = message
            .get("properties")
            .and_then(|properties| properties.get("waiting"))
            .is_some_and(crate::wire::pytext::truthy);
        if let Some(reply) = self.exchange(&name, message, timeout)? {
            return Ok(reply);
        }
        let seconds = timeout.as_secs_f64();
        let question = command::message("numwatchers", Map::new());
        let alive = waiting
            && self
                .exchange("numwatchers", question, PROBE_TIME)?
                .is_some();
        Err(if alive {
            ClientError::StillRunning {
                endpoint: self.endpoint.clone(),
                command: name,
                seconds,
            }
        } else {
            ClientError::NoAnswer {
                endpoint: self.endpoint.clone(),
                command: name,
                seconds,
            }
        })
    }

    /// One message and its reply; `None` when the deadline passed.
    fn exchange(
        &mut self,
        command: &str,
        mut message: Value,
        timeout: Duration,
    ) -> Result<Option<Value>, ClientError> {
        let id = Value::from(fresh_id());
        if let Some(message) = message.as_object_mut() {
            message.insert("id".into(), id.clone());
        }
        let endpoint = &self.endpoint;
        let socket = &mut self.socket;
        let closed = || ClientError::Closed {
            endpoint: endpoint.clone(),
            command: command.to_string(),
        };
        let mut monitor = socket.monitor();
        let abandon = self.abandon.as_mut();
        let talk = async {
            socket
                .send(ZmqMessage::from(message.to_string()))
                .await
                .map_err(|_| closed())?;
            loop {
                // A reply that arrived before the connection closed is in the queue before the
                // notice of that, so it is looked at first.
                let message = tokio::select! {
                    biased;
                    message = socket.recv() => message.map_err(|_| closed())?,
                    event = monitor.recv() => match event {
                        Ok(SocketEvent::Disconnected(_)) | Err(_) => return Err(closed()),
                        Ok(_) => continue,
                    },
                };
                let bad = |detail: String| ClientError::BadReply {
                    endpoint: endpoint.clone(),
                    detail,
                };
                let frame = message
                    .into_vec()
                    .pop()
                    .ok_or_else(|| bad("no frame".into()))?;
                let reply = text::parse(&frame).map_err(|error| bad(error.to_string()))?;
                if !reply.is_object() {
                    return Err(bad("it is another JSON value".into()));
                }
                // Late replies to earlier calls are not ours.
                if reply.get("id") == Some(&id) {
                    return Ok(reply);
                }
            }
        };
        let abandoned = async {
            // A teller that is gone tells nothing.
            if let Some(told) = abandon
                && told.wait_for(|told| *told).await.is_ok()
            {
                return;
            }
            std::future::pending().await
        };
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                result = tokio::time::timeout(timeout, talk) => result.ok().transpose(),
                () = abandoned => Err(ClientError::Abandoned {
                    endpoint: endpoint.clone(),
                    command: command.to_string(),
                }),
            }
        })
    }
}

/// A subscription to the events of a daemon.
pub struct Subscriber {
    socket: SubSocket,
    runtime: Runtime,
}

impl Subscriber {
    /// Subscribes to every topic that starts with one of `topics`; to all with an empty text.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect(
        endpoint: &Endpoint,
        topics: &[String],
        timeout: Duration,
        patience: Patience,
    ) -> Result<Self, ClientError> {
        if patience == Patience::FailAtOnce {
            probe(endpoint, timeout)?;
        }
        let runtime = runtime(endpoint)?;
        let mut socket = SubSocket::new();
        connect(&runtime, &mut socket, endpoint, timeout)?;
        for topic in topics {
            runtime
                .block_on(socket.subscribe(topic))
                .map_err(|error| local(endpoint, &error))?;
        }
        Ok(Self { socket, runtime })
    }

    /// Waits for the next event: the frames of topic and payload. A daemon that restarts is
    /// connected to again.
    pub fn next_event(&mut self) -> (Vec<u8>, Vec<u8>) {
        loop {
            match self.runtime.block_on(self.socket.recv()) {
                Ok(message) => {
                    let mut frames = message.into_vec().into_iter();
                    if let (Some(topic), Some(payload)) = (frames.next(), frames.next()) {
                        return (topic.to_vec(), payload.to_vec());
                    }
                }
                // The connection broke; the socket connects again on its own.
                Err(_) => self
                    .runtime
                    .block_on(tokio::time::sleep(Duration::from_millis(50))),
            }
        }
    }
}

/// What a follower of events is told.
#[derive(Debug, Clone, Copy)]
pub enum Followed<'a> {
    /// The subscription is made; from here on nothing is missed.
    Connected,
    /// An event: the frames of topic and payload.
    Event(&'a [u8], &'a [u8]),
}

/// Subscribes to all events and tells of each, until the connection is lost or `stop` is notified. Unlike a
/// [`Subscriber`] it does not connect again by itself: who must not miss anything has to know that something was missed.
///
/// # Errors
/// As [`Client::connect`]; a connection that was made and lost is none.
pub fn follow(
    endpoint: &Endpoint,
    timeout: Duration,
    stop: &tokio::sync::Notify,
    mut tell: impl FnMut(Followed<'_>),
) -> Result<(), ClientError> {
    probe(endpoint, timeout)?;
    let runtime = runtime(endpoint)?;
    let mut socket = SubSocket::new();
    // Before the connection, so that its end is told in any case.
    let mut monitor = socket.monitor();
    connect(&runtime, &mut socket, endpoint, timeout)?;
    runtime.block_on(async {
        if socket.subscribe("").await.is_err() {
            return;
        }
        tell(Followed::Connected);
        loop {
            tokio::select! {
                biased;
                () = stop.notified() => return,
                message = socket.recv() => match message {
                    Ok(message) => {
                        let frames = message.into_vec();
                        if let [topic, payload, ..] = frames.as_slice() {
                            tell(Followed::Event(topic, payload));
                        }
                    }
                    Err(_) => return,
                },
                event = monitor.recv() => match event {
                    Ok(SocketEvent::Disconnected(_)) | Err(_) => return,
                    Ok(_) => {}
                },
            }
        }
    });
    Ok(())
}

fn runtime(endpoint: &Endpoint) -> Result<Runtime, ClientError> {
    Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| local(endpoint, &error))
}

fn local(endpoint: &Endpoint, error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Local {
        endpoint: endpoint.clone(),
        detail: error.to_string(),
    }
}

/// The ZeroMQ handshake, within the deadline.
fn connect(
    runtime: &Runtime,
    socket: &mut impl Socket,
    endpoint: &Endpoint,
    timeout: Duration,
) -> Result<(), ClientError> {
    let address = endpoint.to_string();
    let connecting = async { tokio::time::timeout(timeout, socket.connect(&address)).await };
    match runtime.block_on(connecting) {
        Ok(Ok(())) => Ok(()),
        Err(_) | Ok(Err(ZmqError::ConnectTimeout(_))) => Err(ClientError::Silent {
            endpoint: endpoint.clone(),
            seconds: timeout.as_secs_f64(),
        }),
        Ok(Err(ZmqError::Network(source))) => Err(unreachable(endpoint, source)),
        Ok(Err(error)) => Err(ClientError::NotZeroMq {
            endpoint: endpoint.clone(),
            detail: error.to_string(),
        }),
    }
}

/// A plain connection, closed at once: ZeroMQ itself would try again for ever when nobody listens.
fn probe(endpoint: &Endpoint, timeout: Duration) -> Result<(), ClientError> {
    let result = match endpoint {
        Endpoint::Ipc(path) => UnixStream::connect(path).map(drop),
        Endpoint::Tcp { host, port } => probe_tcp(host, *port, timeout),
    };
    result.map_err(|source| unreachable(endpoint, source))
}

/// Why there is no connection: nobody listens, or not to this user.
fn unreachable(endpoint: &Endpoint, source: io::Error) -> ClientError {
    let endpoint = endpoint.clone();
    match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Forbidden { endpoint, source },
        _ => ClientError::Unreachable { endpoint, source },
    }
}

fn probe_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<()> {
    let deadline = Instant::now() + timeout;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        // A zero timeout is an error of its own, so at least a moment is granted.
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// An id that no other call of this or another client has: process, time and a counter.
fn fresh_id() -> String {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    format!("{:x}-{now:x}-{call:x}", std::process::id())
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
