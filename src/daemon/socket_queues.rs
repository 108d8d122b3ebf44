//! The answer to `listsockets` with details: how many connections wait at each socket to be accepted, and how many may.

use super::shell::Shell;
use super::sockets::{ListenSocket, Place};
use crate::config::SocketType;
use crate::options::{Map, Value};
use crate::stats::queues::{self, Queue};
use serde_json::json;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The reads of sockets are counted after a question for some time, so that whoever asks regularly misses none: for this
/// many times as long as the pause before it was,
const AGAIN: f64 = 2.5;
/// but so long at least,
const SHORTEST: Duration = Duration::from_secs(3);
/// and at most. A longer pause is none: somebody has asked once.
const LONGEST: Duration = Duration::from_secs(150);

/// A socket of which something is to be told.
#[derive(Debug)]
pub struct Waiting {
    /// What is told of it anyway.
    info: Map<String, Value>,
    queue: Whose,
}

/// Where its connections wait.
#[derive(Debug)]
enum Whose {
    /// At itself: its inode.
    Own(u64),
    /// At one socket for each worker, all at this address.
    Workers(SocketAddr),
    /// Nowhere.
    Nobodys,
}

impl Shell {
    /// The sockets, to be given to [`measure`].
    pub(super) fn sockets_to_measure(&mut self) -> Vec<Waiting> {
        let now = Instant::now();
        let pause = self.sockets_asked.replace(now);
        let pause = pause.map(|last| now.duration_since(last).mul_f64(AGAIN));
        let regular = pause.filter(|time| *time <= LONGEST);
        self.count_reads(regular.unwrap_or_default().max(SHORTEST));
        let mut sockets: Vec<&ListenSocket> = self.sockets.values().map(AsRef::as_ref).collect();
        sockets.sort_by_key(|socket| socket.fd());
        let waiting = |socket: &ListenSocket| {
            let mut info = socket.info();
            if !socket.reuses_port() {
                let reads = self.socket_reads.of(socket.name());
                info.insert("reads".to_string(), json!(reads));
            }
            Waiting {
                info,
                queue: Whose::of(socket),
            }
        };
        sockets.into_iter().map(waiting).collect()
    }
}

impl Whose {
    fn of(socket: &ListenSocket) -> Whose {
        match socket.place() {
            _ if !matches!(
                socket.config().kind,
                SocketType::Stream | SocketType::SeqPacket
            ) =>
            {
                Whose::Nobodys
            }
            Place::Net(address) if socket.reuses_port() => Whose::Workers(*address),
            // asks the kernel, not a disk
            _ => match rustix::fs::fstat(socket.as_fd()) {
                Ok(stat) => Whose::Own(stat.st_ino),
                Err(_) => Whose::Nobodys,
            },
        }
    }
}

/// Asks the kernel. For the sampling thread.
pub fn measure(sockets: Vec<Waiting>) -> Vec<Value> {
    let asked = sockets
        .iter()
        .any(|one| !matches!(one.queue, Whose::Nobodys));
    let queues = if asked {
        queues::listening()
    } else {
        queues::Queues::default()
    };
    let told = sockets.into_iter().map(|Waiting { mut info, queue }| {
        let queue: Option<Queue> = match queue {
            Whose::Own(inode) => queues.of_inode(inode),
            Whose::Workers(address) => queues.at(address),
            Whose::Nobodys => None,
        };
        if let Some(queue) = queue {
            info.insert("waiting".to_string(), json!(queue.waiting));
            info.insert("limit".to_string(), json!(queue.limit));
            info.insert("full".to_string(), json!(queue.is_full()));
        }
        Value::Object(info)
    });
    told.collect()
}
