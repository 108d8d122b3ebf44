//! The server side of ZMTP 3 (rfc.zeromq.org/spec/23) for the daemon's sockets: greeting, NULL handshake, frames.
//!
//! The client side uses the `zeromq` crate. The server side does not, for three measured reasons: its ROUTER buffers a
//! 50 MB message whole before anybody can refuse it, one client that does not read its replies stops the replies to all,
//! and it cannot say how many bytes wait for whom. Here a message is capped while it arrives and every connection has a
//! bounded queue of its own.

use bytes::{Buf, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest message that is taken, all frames together, in bytes. Longer ones are read past and answered with an error.
pub const MAX_MESSAGE: usize = 1 << 20;
/// A frame that claims to be longer than this, in bytes, is no frame: the connection is closed.
const MAX_CLAIM: u64 = 1 << 30;
/// Frames a message may have.
const MAX_FRAMES: usize = 16;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// What came in.
#[derive(Debug, PartialEq)]
pub enum Received {
    /// A message, frame by frame.
    Message(Vec<Bytes>),
    /// A message that was longer than [`MAX_MESSAGE`]; it has been thrown away.
    TooLarge(u64),
    /// A command: its name and its data.
    Command(Bytes, Bytes),
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads messages from one connection. Dropping a pending [`Reader::next`] loses nothing.
pub struct Reader<R> {
    stream: R,
    /// The largest message that is taken.
    limit: usize,
    buffer: BytesMut,
    frames: Vec<Bytes>,
    /// Bytes of the message so far.
    size: u64,
    /// Bytes of a frame that is being thrown away.
    discard: u64,
    discard_more: bool,
    too_large: bool,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// A reader on a connection that has just been opened.
    pub fn new(stream: R) -> Self {
        Reader::with_limit(stream, MAX_MESSAGE)
    }

    /// One that takes messages of up to so many bytes.
    pub fn with_limit(stream: R, limit: usize) -> Self {
        Reader {
            stream,
            limit,
            buffer: BytesMut::new(),
            frames: Vec::new(),
            size: 0,
            discard: 0,
            discard_more: false,
            too_large: false,
        }
    }

    /// True if nothing of an unfinished message is held.
    async fn fill(&mut self) -> io::Result<bool> {
        if self.buffer.capacity() - self.buffer.len() < 1024 {
            self.buffer
                .reserve(if self.discard > 0 { 65_536 } else { 4096 });
        }
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    async fn exactly(&mut self, count: usize) -> io::Result<BytesMut> {
        while self.buffer.len() < count {
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.split_to(count))
    }

    /// The next message or command; `None` when the peer has closed.
    pub async fn next(&mut self) -> io::Result<Option<Received>> {
        loop {
            if let Some(received) = self.parse()? {
                return Ok(Some(received));
            }
            if self.buffer.is_empty() && self.buffer.capacity() > 65_536 {
                self.buffer = BytesMut::new();
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    fn parse(&mut self) -> io::Result<Option<Received>> {
        loop {
            if self.discard > 0 {
                let now = usize::try_from(self.discard)
                    .unwrap_or(usize::MAX)
                    .min(self.buffer.len());
                self.buffer.advance(now);
                self.discard -= now as u64;
                if self.discard > 0 {
                    return Ok(None);
                }
                if let Some(done) = self.frame_done(self.discard_more) {
                    return Ok(Some(done));
                }
                continue;
            }
            let Some(&flags) = self.buffer.first() else {
                return Ok(None);
            };
            if flags & !(MORE | LONG | COMMAND) != 0 {
                return Err(broken("reserved flag in a ZMTP frame"));
            }
            let header = if flags & LONG != 0 { 9 } else { 2 };
            if self.buffer.len() < header {
                return Ok(None);
            }
            let length = if flags & LONG != 0 {
                let mut bytes = [0u8; 8];
                bytes.copy_from_slice(&self.buffer[1..9]);
                u64::from_be_bytes(bytes)
            } else {
                u64::from(self.buffer[1])
            };
            if length > MAX_CLAIM {
                return Err(broken("a ZMTP frame of absurd length"));
            }
            let more = flags & MORE != 0;
            let command = flags & COMMAND != 0;
            let too_large = self.size + length > self.limit as u64
                || self.frames.len() >= MAX_FRAMES
                || self.too_large;
            if !command && too_large {
                self.buffer.advance(header);
                self.too_large = true;
                self.frames.clear();
                self.size += length;
                self.discard = length;
                self.discard_more = more;
                if length == 0
                    && let Some(done) = self.frame_done(more)
                {
                    return Ok(Some(done));
                }
                continue;
            }
            if command && length > MAX_MESSAGE as u64 {
                return Err(broken("a ZMTP command of absurd length"));
            }
            let total = header + length as usize;
            if self.buffer.len() < total {
                self.buffer.reserve(total - self.buffer.len());
                return Ok(None);
            }
            self.buffer.advance(header);
            let body = self.buffer.split_to(length as usize).freeze();
            if command {
                let name_len = body.first().copied().map(usize::from);
                return match name_len {
                    Some(n) if body.len() > n => Ok(Some(Received::Command(
                        body.slice(1..=n),
                        body.slice(n + 1..),
                    ))),
                    _ => Err(broken("a ZMTP command without a name")),
                };
            }
            self.size += length;
            self.frames.push(body);
            if let Some(done) = self.frame_done(more) {
                return Ok(Some(done));
            }
        }
    }

    fn frame_done(&mut self, more: bool) -> Option<Received> {
        if more {
            return None;
        }
        let size = std::mem::take(&mut self.size);
        let frames = std::mem::take(&mut self.frames);
        if std::mem::take(&mut self.too_large) {
            return Some(Received::TooLarge(size));
        }
        Some(Received::Message(frames))
    }
}

/// Greets the peer and agrees on the NULL mechanism. `own` is our socket type, `accepted` are the types that may connect.
///
/// # Errors
/// Whatever is not ZMTP 3 with the NULL mechanism, and a socket type that does not fit.
pub async fn handshake<R, W>(
    reader: &mut Reader<R>,
    writer: &mut W,
    own: &str,
    accepted: &[&str],
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut greeting = [0u8; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    writer.write_all(&greeting).await?;
    writer.flush().await?;

    let signature = reader.exactly(10).await?;
    if signature[0] != 0xff || signature[9] & 1 != 1 {
        return Err(broken("not a ZeroMQ peer"));
    }
    let rest = reader.exactly(54).await?;
    if rest[0] < 3 {
        return Err(broken("a ZeroMQ peer older than ZMTP 3"));
    }
    if &rest[2..22] != b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" {
        return Err(broken("a ZeroMQ peer that wants a security mechanism"));
    }

    let mut ready = BytesMut::from(&b"\x05READY"[..]);
    property(&mut ready, "Socket-Type", own.as_bytes());
    if own == "ROUTER" {
        property(&mut ready, "Identity", b"");
    }
    let mut frame = BytesMut::from(&[COMMAND, ready.len() as u8][..]);
    frame.extend_from_slice(&ready);
    writer.write_all(&frame).await?;
    writer.flush().await?;

    match reader.next().await? {
        Some(Received::Command(name, data)) if &name[..] == b"READY" => {
            let kind = property_of(&data, "socket-type")
                .ok_or_else(|| broken("a READY without a socket type"))?;
            if accepted.iter().any(|fits| fits.as_bytes() == kind) {
                Ok(())
            } else {
                Err(broken("a socket type that does not fit"))
            }
        }
        _ => Err(broken("no READY where one was due")),
    }
}

fn property(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.extend_from_slice(&[name.len() as u8]);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}

fn property_of<'a>(mut data: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    while let Some((&name_len, rest)) = data.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(name_len))?;
        let (length, rest) = rest.split_at_checked(4)?;
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        let (value, rest) = rest.split_at_checked(length)?;
        if name.eq_ignore_ascii_case(wanted.as_bytes()) {
            return Some(value);
        }
        data = rest;
    }
    None
}

/// A message as bytes on the wire.
pub fn encode(frames: &[&[u8]]) -> Bytes {
    let size: usize = frames.iter().map(|frame| frame.len() + 9).sum();
    let mut out = BytesMut::with_capacity(size);
    for (index, frame) in frames.iter().enumerate() {
        let more = if index + 1 < frames.len() { MORE } else { 0 };
        match u8::try_from(frame.len()) {
            Ok(length) => out.extend_from_slice(&[more, length]),
            Err(_) => {
                out.extend_from_slice(&[more | LONG]);
                out.extend_from_slice(&(frame.len() as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(frame);
    }
    out.freeze()
}

/// The answer to a PING with this data (TTL and context), which newer peers may send.
pub fn pong(data: &[u8]) -> Bytes {
    let context = data.get(2..).unwrap_or_default();
    let context = &context[..context.len().min(16)];
    let mut out = BytesMut::from(&[COMMAND, 5 + context.len() as u8][..]);
    out.extend_from_slice(b"\x04PONG");
    out.extend_from_slice(context);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let long = vec![b'x'; 70_000];
        let wire = [encode(&[b"a", b"", &long]), encode(&[b"b"])].concat();
        block_on(async {
            let mut reader = Reader::new(&wire[..]);
            let Some(Received::Message(frames)) = reader.next().await.unwrap() else {
                panic!("no message")
            };
            assert_eq!(frames.len(), 3);
            assert_eq!(frames[2], long);
            assert_eq!(
                reader.next().await.unwrap(),
                Some(Received::Message(vec![Bytes::from_static(b"b")]))
            );
            assert_eq!(reader.next().await.unwrap(), None);
        });
    }

    #[test]
    fn a_message_too_large_is_read_past_and_the_next_one_is_fine() {
        let huge = vec![b'x'; MAX_MESSAGE + 1];
        let half = vec![b'x'; MAX_MESSAGE / 2 + 1];
        let wire = [
            encode(&[&huge]),
            encode(&[&half, &half, b"tail"]),
            encode(&[b"b"]),
        ]
        .concat();
        block_on(async {
            let mut reader = Reader::new(&wire[..]);
            assert_eq!(
                reader.next().await.unwrap(),
                Some(Received::TooLarge(MAX_MESSAGE as u64 + 1))
            );
            assert!(matches!(
                reader.next().await.unwrap(),
                Some(Received::TooLarge(_))
            ));
            assert_eq!(
                reader.next().await.unwrap(),
                Some(Received::Message(vec![Bytes::from_static(b"b")]))
            );
        });
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_panic() {
        block_on(async {
            for wire in [
                &b"\x08\x01a"[..],
                &b"\x02\xff\xff\xff\xff\xff\xff\xff\xff"[..],
                &b"\x04\x00"[..],
                &b"\x04\x02\x09x"[..],
            ] {
                assert!(Reader::new(wire).next().await.is_err(), "{wire:?}");
            }
        });
    }
}
