//! The two connections to a Mongrel2: one that requests come from, one that answers go to.
//!
//! Both are made here and made anew when they break. They speak ZMTP themselves: the order of the end matters (see
//! [`pull`]), and so does knowing when Mongrel2 has subscribed (see [`publish`]).

use crate::daemon::zmtp::{self, Reader, Received};
use crate::wire::Endpoint;
use bytes::{Bytes, BytesMut};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// The longest message from Mongrel2, in bytes; its own `limits.content_length` is 20 KiB if not told otherwise.
const LONGEST: usize = 256 << 20;
/// The pauses before a connection is tried again grow from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long the greeting may take.
const GREETING: Duration = Duration::from_secs(5);
/// A handler that leaves waits so long for a last request.
const QUIET: Duration = Duration::from_millis(200);
/// How long the other side may take to close once we have.
const FAREWELL: Duration = Duration::from_secs(3);

struct Peer {
    reader: Reader<Box<dyn AsyncRead + Send + Unpin>>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
}

async fn connect(endpoint: &Endpoint, own: &str, other: &str) -> io::Result<Peer> {
    type Halves = (
        Box<dyn AsyncRead + Send + Unpin>,
        Box<dyn AsyncWrite + Send + Unpin>,
    );
    let (read, mut writer): Halves = match endpoint {
        Endpoint::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            let (read, write) = stream.into_split();
            (Box::new(read), Box::new(write))
        }
        Endpoint::Ipc(path) => {
            let (read, write) = UnixStream::connect(path).await?.into_split();
            (Box::new(read), Box::new(write))
        }
    };
    let mut reader = Reader::with_limit(read, LONGEST);
    let others = [other];
    let greeting = zmtp::handshake(&mut reader, &mut writer, own, &others);
    match timeout(GREETING, greeting).await {
        Ok(done) => done?,
        Err(_) => return Err(io::Error::other("it does not greet as ZeroMQ does")),
    }
    Ok(Peer { reader, writer })
}

/// Connects, as often as it takes; tells of failures once.
async fn reach(endpoint: &Endpoint, own: &str, other: &str) -> Peer {
    let mut pause = PAUSES.0;
    let mut told = None;
    loop {
        match connect(endpoint, own, other).await {
            Ok(peer) => {
                if told.is_some() {
                    tracing::info!("connected to {endpoint}");
                }
                return peer;
            }
            Err(why) => {
                let why = why.to_string();
                if told.as_ref() != Some(&why) {
                    tracing::warn!("cannot connect to {endpoint}: {why}; trying on");
                    told = Some(why);
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Publishes what is in the queue until that is closed and empty. `subscribed` tells whether Mongrel2 takes it: what is
/// published before would be lost.
pub async fn publish(
    endpoint: Endpoint,
    mut queue: mpsc::Receiver<Vec<u8>>,
    subscribed: watch::Sender<bool>,
) {
    let mut unsent: Option<Bytes> = None;
    loop {
        let mut peer = tokio::select! {
            peer = reach(&endpoint, "PUB", "SUB") => peer,
            // nobody will answer any more, and nobody can be told what was to be said
            () = subscribed.closed() => return,
        };
        let broken = loop {
            let taking = *subscribed.borrow();
            if let Some(bytes) = unsent.take_if(|_| taking) {
                if let Err(why) = peer.writer.write_all(&bytes).await {
                    unsent = Some(bytes);
                    break Some(why);
                }
                continue;
            }
            tokio::select! {
                received = peer.reader.next() => match received {
                    Ok(Some(Received::Message(frames))) => {
                        if frames.first().is_some_and(|frame| frame.first() == Some(&1)) {
                            subscribed.send_replace(true);
                        }
                    }
                    Ok(Some(Received::Command(name, data))) => match &name[..] {
                        b"SUBSCRIBE" => { subscribed.send_replace(true); }
                        b"PING" => if let Err(why) = peer.writer.write_all(&zmtp::pong(&data)).await {
                            break Some(why);
                        },
                        _ => {}
                    },
                    Ok(Some(Received::TooLarge(_))) => {}
                    Ok(None) => break None,
                    Err(why) => break Some(why),
                },
                next = queue.recv(), if taking => match next {
                    Some(message) => unsent = Some(framed(&message)),
                    None => {
                        // closing with something unread would throw away what was written
                        if peer.writer.shutdown().await.is_ok() {
                            let _ = timeout(FAREWELL, async {
                                while let Ok(Some(_)) = peer.reader.next().await {}
                            })
                            .await;
                        }
                        return;
                    }
                },
            }
        };
        subscribed.send_replace(false);
        let why = broken.map_or_else(|| "closed".to_string(), |why| why.to_string());
        tracing::warn!("the connection to {endpoint} has ended: {why}; connecting again");
    }
}

/// Hands over requests until `leave` says so, and then those that are on their way.
///
/// A PULL socket cannot say that it wants no more. But when it closes its half of the connection, Mongrel2 sees the end,
/// gives it no more, and what it had sent by then still arrives.
pub async fn pull(
    endpoint: Endpoint,
    mut subscribed: watch::Receiver<bool>,
    mut take: impl AsyncFnMut(Bytes),
    mut leave: watch::Receiver<bool>,
    connected: impl Fn(),
) {
    loop {
        let mut peer = tokio::select! {
            peer = async {
                told(&mut subscribed).await;
                reach(&endpoint, "PULL", "PUSH").await
            } => peer,
            () = told(&mut leave) => return,
        };
        connected();
        let broken = loop {
            tokio::select! {
                received = peer.reader.next() => match received {
                    Ok(Some(received)) => if let Err(why) = heard(received, &mut peer.writer, &mut take).await {
                        break Some(why);
                    },
                    Ok(None) => break None,
                    Err(why) => break Some(why),
                },
                () = told(&mut leave) => {
                    // Mongrel2 throws away what it has put into its queue for us and not yet sent when it sees the end. It
                    // deals requests out in turn: the queue is empty just after one has come, and when none comes
                    let last = timeout(QUIET, peer.reader.next()).await;
                    // one that is gone gives nothing more anyway
                    let _ = peer.writer.shutdown().await;
                    if let Ok(Ok(Some(received))) = last {
                        // a PING needs no answer any more
                        let _ = heard(received, &mut peer.writer, &mut take).await;
                    }
                    let rest = async {
                        while let Ok(Some(Received::Message(frames))) = peer.reader.next().await {
                            take(joined(frames)).await;
                        }
                    };
                    if timeout(FAREWELL, rest).await.is_err() {
                        tracing::warn!("{endpoint} does not close the connection");
                    }
                    return;
                }
            }
        };
        let why = broken.map_or_else(|| "closed".to_string(), |why| why.to_string());
        tracing::warn!("the connection to {endpoint} has ended: {why}; connecting again");
    }
}

/// Waits until somebody says so, or is not there any more to say it.
async fn told(word: &mut watch::Receiver<bool>) {
    let _ = word.wait_for(|word| *word).await;
}

async fn heard(
    received: Received,
    writer: &mut (impl AsyncWrite + Unpin),
    take: &mut impl AsyncFnMut(Bytes),
) -> io::Result<()> {
    match received {
        Received::Message(frames) => take(joined(frames)).await,
        Received::TooLarge(length) => {
            tracing::error!("a request of {length} bytes is too long and is left out");
        }
        Received::Command(name, data) if &name[..] == b"PING" => {
            writer.write_all(&zmtp::pong(&data)).await?;
        }
        Received::Command(..) => {}
    }
    Ok(())
}

fn joined(frames: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(frames) {
        Ok([frame]) => frame,
        Err(frames) => {
            let mut whole = BytesMut::new();
            frames
                .iter()
                .for_each(|frame| whole.extend_from_slice(frame));
            whole.freeze()
        }
    }
}

fn framed(message: &[u8]) -> Bytes {
    zmtp::encode(&[message])
}
