//! A long talk with a daemon, for programs that have an event loop of their own: calls one after the other, and events.
//! Both find a daemon again that was away.

use std::io;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use zeromq::{DealerSocket, Socket, SocketEvent, SocketRecv, SocketSend, SubSocket, ZmqMessage};

use super::command;
use super::endpoint::Endpoint;
use super::text;

/// Events that may wait for their reader; what comes after them waits in the connection.
const EVENTS: usize = 1024;
/// How long a connection for events may take to come about.
const CONNECTING: Duration = Duration::from_secs(10);
/// Pauses between two attempts to find the daemon.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why a call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The daemon answered with an error; its reason.
    #[error("{0}")]
    Refused(String),
    /// There was no answer; why.
    #[error("{0}")]
    Unreachable(String),
}

/// A control connection that is made at the first call, and again after it was lost.
pub struct Session {
    endpoint: Endpoint,
    timeout: Duration,
    socket: Option<DealerSocket>,
    calls: u64,
}

impl Session {
    /// For the daemon at `endpoint`; each call may take `timeout`. Nothing is connected yet.
    pub fn new(endpoint: Endpoint, timeout: Duration) -> Self {
        Session {
            endpoint,
            timeout,
            socket: None,
            calls: 0,
        }
    }

    /// Sends a command and gives the reply's properties.
    ///
    /// # Errors
    /// See [`CallError`]; after `Unreachable` the next call connects anew.
    pub async fn call(
        &mut self,
        command: &str,
        properties: Map<String, Value>,
    ) -> Result<Map<String, Value>, CallError> {
        let reply = self.ask(command, properties).await?;
        if reply.get("status").and_then(Value::as_str) == Some("error") {
            let reason = reply.get("reason").and_then(Value::as_str);
            return Err(CallError::Refused(
                reason.unwrap_or("no reason given").to_owned(),
            ));
        }
        Ok(reply)
    }

    /// Sends a command and gives the reply as it came, be it an error of the daemon's.
    ///
    /// # Errors
    /// [`CallError::Unreachable`] only; after it the next call connects anew.
    pub async fn ask(
        &mut self,
        command: &str,
        properties: Map<String, Value>,
    ) -> Result<Map<String, Value>, CallError> {
        let timeout = self.timeout;
        let outcome = tokio::time::timeout(timeout, self.exchange(command, properties)).await;
        match outcome {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(why)) => {
                self.socket = None;
                Err(CallError::Unreachable(why))
            }
            Err(_) => {
                // A late reply would be taken for that to the next call.
                self.socket = None;
                Err(CallError::Unreachable(format!(
                    "{} did not answer `{command}` within {} s",
                    self.endpoint,
                    timeout.as_secs_f64()
                )))
            }
        }
    }

    async fn exchange(
        &mut self,
        command: &str,
        properties: Map<String, Value>,
    ) -> Result<Map<String, Value>, String> {
        let endpoint = &self.endpoint;
        let socket = match &mut self.socket {
            Some(socket) => socket,
            empty => {
                let mut socket = DealerSocket::new();
                connect(&mut socket, endpoint).await?;
                empty.insert(socket)
            }
        };
        self.calls += 1;
        let id = Value::from(format!("{:x}-{:x}", std::process::id(), self.calls));
        let mut message = command::message(command, properties);
        if let Some(message) = message.as_object_mut() {
            message.insert("id".to_owned(), id.clone());
        }
        let lost = || format!("{endpoint} closed the connection before it answered `{command}`");
        let mut monitor = socket.monitor();
        let message = ZmqMessage::from(message.to_string());
        socket.send(message).await.map_err(|_| lost())?;
        loop {
            let message = tokio::select! {
                biased;
                message = socket.recv() => message.map_err(|_| lost())?,
                event = monitor.recv() => match event {
                    Ok(SocketEvent::Disconnected(_)) | Err(_) => return Err(lost()),
                    Ok(_) => continue,
                },
            };
            let frame = message.into_vec().pop().unwrap_or_default();
            match text::parse(&frame) {
                Ok(Value::Object(reply)) if reply.get("id") == Some(&id) => return Ok(reply),
                Ok(Value::Object(_)) => {}
                _ => return Err(format!("{endpoint} answered something that is no reply")),
            }
        }
    }
}

/// What is heard of a daemon's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// They are listened to from here on.
    Connected,
    /// They are not any more, or not yet; why.
    Lost(String),
    /// An event: the frames of topic and payload.
    Event(Vec<u8>, Vec<u8>),
}

/// Listens to all events that begin with `topic`, in a task of the current runtime, until nobody takes them any more.
pub fn listen(endpoint: Endpoint, topic: &str) -> mpsc::Receiver<News> {
    let (sender, receiver) = mpsc::channel(EVENTS);
    let topic = topic.to_owned();
    tokio::spawn(async move {
        let mut pause = FIRST_PAUSE;
        loop {
            let lost = match follow(&endpoint, &topic, &sender).await {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    format!("{endpoint} closed the connection")
                }
                Err(why) => why,
            };
            if sender.send(News::Lost(lost)).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    });
    receiver
}

/// One connection, to its end.
async fn follow(
    endpoint: &Endpoint,
    topic: &str,
    sender: &mpsc::Sender<News>,
) -> Result<(), String> {
    let mut socket = SubSocket::new();
    let mut monitor = socket.monitor();
    match tokio::time::timeout(CONNECTING, connect(&mut socket, endpoint)).await {
        Ok(connected) => connected?,
        Err(_) => return Err(format!("{endpoint} accepts connections but says nothing")),
    }
    if socket.subscribe(topic).await.is_err() || sender.send(News::Connected).await.is_err() {
        return Ok(());
    }
    loop {
        tokio::select! {
            biased;
            message = socket.recv() => {
                let Ok(message) = message else { return Ok(()) };
                let mut frames = message.into_vec().into_iter();
                if let (Some(topic), Some(payload)) = (frames.next(), frames.next()) {
                    let news = News::Event(topic.to_vec(), payload.to_vec());
                    if sender.send(news).await.is_err() {
                        return Ok(());
                    }
                }
            }
            event = monitor.recv() => match event {
                Ok(SocketEvent::Disconnected(_)) | Err(_) => return Ok(()),
                Ok(_) => {}
            },
        }
    }
}

/// A connection, or in words why there is none: ZeroMQ by itself would try for ever when nobody listens.
async fn connect(socket: &mut impl Socket, endpoint: &Endpoint) -> Result<(), String> {
    let refused = |why: io::Error| format!("nobody listens on {endpoint}: {why}");
    match endpoint {
        Endpoint::Ipc(path) => drop(UnixStream::connect(path).await.map_err(refused)?),
        Endpoint::Tcp { host, port } => {
            drop(
                TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(refused)?,
            );
        }
    }
    let address = endpoint.to_string();
    socket
        .connect(&address)
        .await
        .map_err(|why| format!("{endpoint} cannot be talked to: {why}"))
}
