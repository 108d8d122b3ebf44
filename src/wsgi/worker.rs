//! One process of Python that runs the application: its start, its channel, and the ring that its answers are in.

use super::asgi;
use super::marshal::Writer;
use super::record::{self, Record};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::net::UnixDatagram;

/// What the worker runs: the text of a Python program.
const PROGRAM: &str = concat!(
    include_str!("reload.py"),
    include_str!("application.py"),
    include_str!("worker.py")
);
/// Reads that text from the channel: it is not to stand in the process list.
const BOOTSTRAP: &str = "import socket;channel=socket.socket(fileno=0);exec(channel.recv(1<<18))";
/// Bytes of the ring that answers come in: it is to stay in the processor's cache.
pub const RING: usize = 1 << 19;
/// So much of it is read at once; what is read is to stay in the processor's cache.
const BLOCK: u64 = 128 << 10;
/// The ring begins with how far it was ever filled.
const RING_START: u64 = 16;
/// Room for packets to the worker.
const SEND_BUFFER: usize = 1 << 20;
/// The longest packet from a worker.
const NEWS: usize = 8192;

/// How many descriptors this process was allowed when it began.
static DESCRIPTORS: LazyLock<rustix::process::Rlimit> =
    LazyLock::new(|| rustix::process::getrlimit(rustix::process::Resource::Nofile));

/// How workers are started.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The interpreter.
    pub python: PathBuf,
    /// The application's `sys.argv[0]`.
    pub program: &'static str,
    /// `module:object`, `module.object` or `paste:FILE`.
    pub application: String,
    /// For the application's `sys.argv`.
    pub arguments: Vec<String>,
    /// Added to the end of `sys.path`.
    pub paths: Vec<String>,
    /// Requests that one process handles at once.
    pub threads: usize,
    /// What makes the standard library cooperative.
    pub patch: Option<Patch>,
    /// It watches the files of the modules it has imported.
    pub reload: bool,
    /// What hooks are told, and which hooks there are (`pre_hook`, `post_hook`): names and values.
    pub told: Vec<(&'static str, Setting)>,
    /// Whether it is ASGI, and what goes for it then.
    pub asgi: asgi::Settings,
}

/// A library that makes the standard library cooperative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// gevent.
    Gevent,
    /// eventlet.
    Eventlet,
}

impl Patch {
    /// Its name.
    pub fn library(self) -> &'static str {
        match self {
            Patch::Gevent => "gevent",
            Patch::Eventlet => "eventlet",
        }
    }
}

/// A value that hooks are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
}

/// What a worker says.
#[derive(Debug)]
pub enum News {
    /// It has imported the application; how Python shows that, and whether it is ASGI.
    Ready(String, bool),
    /// It could not; why.
    Failed(String),
    /// The ring is filled so far; nanoseconds it took for so many requests.
    Answers {
        /// Bytes ever written.
        head: u64,
        /// Nanoseconds.
        busy: u64,
        /// Requests, or 0 in the middle of a batch.
        count: u32,
    },
    /// Something for the log.
    Said(String),
    /// A file that the application consists of has changed.
    Changed(String),
    /// It is gone.
    Gone,
}

/// A worker's process, seen from the front.
#[derive(Debug)]
pub struct Worker {
    process: Child,
    channel: Arc<UnixDatagram>,
    files: OwnedFd,
    ring: File,
    /// How far the ring was read.
    consumed: u64,
    scratch: Vec<u8>,
}

impl Worker {
    /// Starts the process; it says by itself when it is ready. `was`: the interface that workers before it had.
    ///
    /// # Errors
    /// The interpreter is not there, or the system gives no sockets, memory or process.
    pub fn start(settings: &Settings, was: Option<asgi::Interface>) -> io::Result<Worker> {
        let pair = || {
            socketpair(
                AddressFamily::Unix,
                SockType::SeqPacket,
                None,
                SockFlag::SOCK_CLOEXEC,
            )
        };
        let (ours, theirs) = pair()?;
        let (our_files, their_files) = pair()?;
        for end in [&ours, &theirs] {
            // more than the system's limit is cut down to it: batches are then smaller
            let _ = setsockopt(end, sockopt::SndBuf, &SEND_BUFFER);
        }
        let ring = memfd_create(c"circ-answers", MemfdFlags::CLOEXEC)?;
        let ring = File::from(ring);
        ring.set_len(RING_START + RING as u64)?;
        send(ours.as_fd(), PROGRAM.as_bytes(), &[])?;
        let rights = [their_files.as_fd(), ring.as_fd()];
        send(
            ours.as_fd(),
            first_packet(settings, was).as_bytes(),
            &rights,
        )?;
        send(ours.as_fd(), asgi::PROGRAM.as_bytes(), &[])?;
        let process = Command::new(&settings.python)
            .args(["-u", "-c", BOOTSTRAP, "circ-wsgi"])
            .arg(&settings.application)
            .stdin(Stdio::from(theirs))
            .spawn()
            .map_err(|why| {
                let python = settings.python.display();
                io::Error::new(why.kind(), format!("cannot run {python}: {why}"))
            })?;
        if let Some(pid) = rustix::process::Pid::from_raw(process.id() as i32) {
            // the front may have taken more for its clients: a program that uses select() must not
            let limit = *DESCRIPTORS;
            let _ = rustix::process::prlimit(Some(pid), rustix::process::Resource::Nofile, limit);
        }
        for end in [&ours, &our_files] {
            nonblocking(end)?;
        }
        Ok(Worker {
            process,
            channel: Arc::new(UnixDatagram::from_std(ours.into())?),
            files: our_files,
            ring,
            consumed: 0,
            scratch: Vec::new(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Bytes of the ring that were read: the worker may use their room again.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Gives it a packet; false if it has no room for it now.
    ///
    /// # Errors
    /// It is gone.
    pub fn send(&self, packet: &[u8]) -> io::Result<bool> {
        would_block(send(self.channel.as_fd(), packet, &[]))
    }

    /// Gives it the file with the body of the request that is sent next; false if there is no room now.
    ///
    /// # Errors
    /// It is gone.
    pub fn send_file(&self, file: &File) -> io::Result<bool> {
        would_block(send(self.files.as_fd(), b"F", &[file.as_fd()]))
    }

    /// The file of a [`Kind::File`] record.
    ///
    /// # Errors
    /// The worker has sent none.
    pub fn receive_file(&self) -> io::Result<File> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0u8; 1];
        let mut parts = [IoSliceMut::new(&mut byte)];
        recvmsg(
            &self.files,
            &mut parts,
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut rights) = message
                && let Some(descriptor) = rights.next()
            {
                return Ok(descriptor.into());
            }
        }
        Err(io::Error::other("no descriptor came with it"))
    }

    /// The next news, if there are any.
    pub fn news(&self) -> Option<News> {
        let mut packet = [0u8; NEWS];
        // the end of a channel is an empty packet
        let count = match self.channel.try_recv(&mut packet) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => 0,
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
        Some(match packet.get(..count).unwrap_or_default() {
            [b'R', rest @ ..] => News::Ready(text(rest), false),
            [b'A', rest @ ..] => News::Ready(text(rest), true),
            [b'F', rest @ ..] => News::Failed(text(rest)),
            [b'L', rest @ ..] => News::Said(text(rest)),
            [b'C', rest @ ..] => News::Changed(text(rest)),
            [b'N', rest @ ..] if rest.len() == 20 => News::Answers {
                head: number(&rest[..8]),
                busy: number(&rest[8..16]),
                count: number(&rest[16..]) as u32,
            },
            _ => News::Gone,
        })
    }

    /// What to wait on for [`Worker::news`].
    pub fn channel(&self) -> Arc<UnixDatagram> {
        self.channel.clone()
    }

    /// How far the ring is filled, in the worker's own count: what it had finished when it died.
    pub fn filled(&self) -> u64 {
        let mut bytes = [0u8; 8];
        match self.ring.read_exact_at(&mut bytes, 0) {
            Ok(()) => u64::from_le_bytes(bytes),
            Err(_) => self.consumed,
        }
    }

    /// Reads what is new in the ring up to `head`.
    ///
    /// # Errors
    /// The worker has written what cannot be read; what came before has been taken.
    pub fn answers(&mut self, head: u64, mut take: impl FnMut(Record<'_>)) -> io::Result<()> {
        let size = RING as u64;
        if head < self.consumed {
            // of two threads the later one was heard first
            return Ok(());
        }
        if head - self.consumed > size {
            return Err(io::Error::other("the worker's ring makes no sense"));
        }
        let mut most = BLOCK;
        while self.consumed < head {
            let at = self.consumed % size;
            let there = (head - self.consumed).min(size - at);
            let length = there.min(most);
            if self.scratch.len() < length as usize {
                self.scratch.resize(length as usize, 0);
            }
            let block = &mut self.scratch[..length as usize];
            self.ring.read_exact_at(block, RING_START + at)?;
            let mut rest: &[u8] = block;
            loop {
                match rest.first() {
                    None => break,
                    // the rest is left free: the next record is at the beginning
                    Some(0) => {
                        self.consumed += size - self.consumed % size;
                        break;
                    }
                    Some(_) => {}
                }
                match record::read(rest) {
                    Ok((record, used)) => {
                        take(record);
                        rest = &rest[used..];
                        self.consumed += used as u64;
                        most = BLOCK;
                    }
                    Err(error) if length == there => return Err(io::Error::other(error)),
                    // it goes on behind the block, and is read once more, with twice as much if it began with the block
                    Err(_) => {
                        if rest.len() as u64 == length {
                            most *= 2;
                        }
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends the process, whatever it does.
    pub fn kill(&mut self) {
        // it may have gone by itself
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Lets the process end by itself, for so long at the most.
    pub async fn leave(mut self, patience: Duration) {
        // the end of the channel is what tells it; it may still have something to say
        let _ = rustix::net::shutdown(&*self.channel, rustix::net::Shutdown::Write);
        let end = tokio::time::Instant::now() + patience;
        loop {
            let running = matches!(self.process.try_wait(), Ok(None));
            while let Some(news) = self.news() {
                match news {
                    News::Said(text) => tracing::info!("{text}"),
                    News::Gone => break,
                    _ => {}
                }
            }
            if !running {
                return;
            }
            if tokio::time::Instant::now() >= end {
                self.kill();
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn first_packet(settings: &Settings, was: Option<asgi::Interface>) -> Writer {
    let mut out = Writer::new();
    out.dict();
    for (name, value) in [
        ("application", &*settings.application),
        ("program", settings.program),
        ("patch", settings.patch.map_or("", Patch::library)),
        ("interface", settings.asgi.interface.name()),
        ("was", was.map_or("", asgi::Interface::name)),
        ("lifespan", settings.asgi.lifespan),
        ("loop", settings.asgi.event_loop),
    ] {
        out.text(name);
        out.text(value);
    }
    for (name, values) in [
        ("arguments", &settings.arguments),
        ("paths", &settings.paths),
    ] {
        out.text(name);
        let at = out.list();
        values.iter().for_each(|value| out.text(value));
        out.list_length(at, values.len() as u32);
    }
    for (name, value) in [
        ("ring", RING + RING_START as usize),
        ("threads", settings.threads),
    ] {
        out.text(name);
        out.int(value as i64);
    }
    out.text("reload");
    out.bool(settings.reload);
    out.text("told");
    out.dict();
    for (name, value) in &settings.told {
        out.text(name);
        match value {
            Setting::None => out.none(),
            Setting::Bool(value) => out.bool(*value),
            Setting::Int(value) => out.int(*value),
            Setting::Text(value) => out.text(value),
            Setting::List(values) => {
                let at = out.list();
                values.iter().for_each(|value| out.text(value));
                out.list_length(at, values.len() as u32);
            }
        }
    }
    out.end_dict();
    out.end_dict();
    out
}

fn send(
    socket: BorrowedFd<'_>,
    packet: &[u8],
    rights: &[BorrowedFd<'_>],
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !rights.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(rights));
    }
    sendmsg(
        socket,
        &[IoSlice::new(packet)],
        &mut control,
        SendFlags::NOSIGNAL,
    )
}

fn would_block(sent: rustix::io::Result<usize>) -> io::Result<bool> {
    match sent {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn nonblocking(socket: &OwnedFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(socket, true)?)
}
