//! Compressed messages of clients (RFC 7692), made plain before the WebSocket library sees them: it knows no extensions.
//!
//! The frames of a compressed message come out as frames of the same message, uncompressed; everything else goes through as it
//! is, mistakes as well: the library says what is wrong with them. A message is never here as a whole, so the library's limit on
//! messages holds for what is inside of a compressed one.

use super::deflate::TAIL;
use crate::wsgi::listen::Stream;
use flate2::{Decompress, FlushDecompress, Status};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

/// A plain frame has at most so many bytes.
const FRAME: usize = 16 * 1024;
/// So many bytes are unmasked, or passed on, at once.
const PIECE: usize = 4 * 1024;

const FINAL: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
/// A head with reserved bits, which the library refuses: the connection fails with 1002.
const NONSENSE: [u8; 6] = [0xf2, MASKED, 0, 0, 0, 0];

/// A frame that is coming.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// Bytes of its payload that are left.
    left: u64,
    mask: [u8; 4],
    /// How many bytes of its payload were seen.
    at: usize,
    /// It is a part of a compressed message; true inside: the last.
    packed: Option<bool>,
}

/// A compressed message that is coming.
struct Message {
    inflate: Box<Decompress>,
    /// Text or binary; 0 when a frame of it has gone out.
    opcode: u8,
    plain: Vec<u8>,
    /// Bytes of [`TAIL`] that were given to `inflate`.
    tail: usize,
}

/// Makes the frames of compressed messages plain.
#[derive(Default)]
struct Unpacker {
    head: Vec<u8>,
    frame: Option<Frame>,
    message: Option<Message>,
    /// It has met something that cannot be inflated.
    broken: bool,
}

impl Unpacker {
    /// Takes some of the input, and appends what comes of it; how much it has taken. Nothing taken and nothing appended: it
    /// needs more.
    fn unpack(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        if self.broken {
            return input.len();
        }
        let Some(mut frame) = self.frame else {
            return self.head(input, out);
        };
        let piece = frame.left.min(input.len().min(PIECE) as u64) as usize;
        let payload = input.get(..piece).unwrap_or_default();
        let taken = match (&mut self.message, frame.packed) {
            (Some(message), Some(last)) => {
                let masks = frame.mask.iter().cycle().skip(frame.at % 4);
                let unmasked: Vec<u8> = payload.iter().zip(masks).map(|(a, b)| a ^ b).collect();
                match message.inflate(&unmasked, last && frame.left == 0, out) {
                    Ok(Inflated::Taken(taken)) => taken,
                    Ok(Inflated::End) => {
                        self.message = None;
                        self.frame = None;
                        return 0;
                    }
                    Err(()) => {
                        self.broken = true;
                        out.extend_from_slice(&NONSENSE);
                        return input.len();
                    }
                }
            }
            _ => {
                out.extend_from_slice(payload);
                piece
            }
        };
        frame.left -= taken as u64;
        frame.at += taken;
        // the end of a compressed message has something to say yet
        let over = frame.left == 0 && frame.packed != Some(true);
        self.frame = (!over).then_some(frame);
        taken
    }

    /// Takes bytes of a frame's head.
    fn head(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let have = self.head.len();
        let byte = |at: usize| match at.checked_sub(have) {
            Some(at) => input.get(at).copied(),
            None => self.head.get(at).copied(),
        };
        let (Some(first), Some(second)) = (byte(0), byte(1)) else {
            self.head.extend_from_slice(input);
            return input.len();
        };
        let length = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masked = second & MASKED != 0;
        let size = 2 + length + if masked { 4 } else { 0 };
        if have + input.len() < size {
            self.head.extend_from_slice(input);
            return input.len();
        }
        let taken = size - have;
        self.head
            .extend_from_slice(input.get(..taken).unwrap_or_default());
        let head = std::mem::take(&mut self.head);
        let bytes = head.get(2..2 + length).unwrap_or_default();
        let left = match length {
            0 => u64::from(second & !MASKED),
            _ => bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let mask = head.last_chunk().copied().filter(|_| masked);
        let opcode = first & OPCODE;
        let packed = match (&self.message, opcode) {
            (None, 1 | 2) if first & !FINAL == COMPRESSED | opcode && masked => {
                self.message = Some(Message {
                    inflate: Box::new(Decompress::new(false)),
                    opcode,
                    plain: Vec::new(),
                    tail: 0,
                });
                true
            }
            (Some(_), 0) => first & !FINAL == 0 && masked,
            _ => false,
        };
        if !packed {
            // another message in the middle of one: the library is to know that there is one
            if opcode < 8
                && let Some(message) = &mut self.message
            {
                message.send(false, out);
            }
            out.extend_from_slice(&head);
        }
        if packed || left > 0 {
            self.frame = Some(Frame {
                left,
                mask: mask.unwrap_or_default(),
                at: 0,
                packed: packed.then_some(first & FINAL != 0),
            });
            if packed && left == 0 && first & FINAL == 0 {
                self.frame = None;
            }
        }
        taken
    }
}

enum Inflated {
    /// So much was taken.
    Taken(usize),
    /// That was all of the message, and it has gone out.
    End,
}

impl Message {
    /// Inflates bytes; `end`: there are no more. Sends what fills a frame, and what there is at the end.
    fn inflate(&mut self, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> Result<Inflated, ()> {
        if self.plain.capacity() == 0 {
            // most messages are small
            self.plain
                .reserve(bytes.len().saturating_mul(4).clamp(256, FRAME));
        }
        let mut taken = 0;
        loop {
            let input = match end {
                true => TAIL.get(self.tail..).unwrap_or_default(),
                false => bytes.get(taken..).unwrap_or_default(),
            };
            if self.plain.len() == self.plain.capacity() {
                if self.plain.len() >= FRAME {
                    self.send(false, out);
                    return Ok(Inflated::Taken(taken));
                }
                self.plain.reserve_exact(FRAME - self.plain.len());
            }
            let (before, had) = (self.inflate.total_in(), self.plain.len());
            let status = self
                .inflate
                .decompress_vec(input, &mut self.plain, FlushDecompress::None);
            let consumed = usize::try_from(self.inflate.total_in() - before).map_err(drop)?;
            match end {
                true => self.tail += consumed,
                false => taken += consumed,
            }
            match status {
                // there may be more in it, or behind it
                Ok(Status::StreamEnd) => self.inflate.reset(false),
                Ok(_) if consumed == 0 && self.plain.len() == had && !input.is_empty() => {
                    return Err(());
                }
                Ok(_) => {}
                Err(_) => return Err(()),
            }
            let room = self.plain.len() < self.plain.capacity();
            if room && consumed == input.len() {
                if !end {
                    return Ok(Inflated::Taken(taken));
                }
                self.send(true, out);
                return Ok(Inflated::End);
            }
        }
    }

    /// Sends what is plain as a frame.
    fn send(&mut self, last: bool, out: &mut Vec<u8>) {
        let opcode = std::mem::take(&mut self.opcode);
        out.push(if last { FINAL | opcode } else { opcode });
        let length = self.plain.len();
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length @ ..126), _) => out.push(MASKED | length),
            (_, Ok(length)) => {
                out.push(MASKED | 126);
                out.extend_from_slice(&length.to_be_bytes());
            }
            _ => {
                out.push(MASKED | 127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        // a mask that changes nothing
        out.extend_from_slice(&[0; 4]);
        out.append(&mut self.plain);
    }
}

/// A connection whose compressed messages come plain.
pub struct Plain {
    stream: Stream,
    /// None: nothing was agreed, all goes through.
    unpacker: Option<Unpacker>,
    raw: Vec<u8>,
    at: usize,
    out: Vec<u8>,
    given: usize,
}

impl Plain {
    /// With what was read already; `compressed`: compression was agreed.
    pub fn new(stream: Stream, early: Vec<u8>, compressed: bool) -> Plain {
        let (raw, out) = match compressed {
            true => (early, Vec::new()),
            false => (Vec::new(), early),
        };
        Plain {
            stream,
            unpacker: compressed.then(Unpacker::default),
            raw,
            at: 0,
            out,
            given: 0,
        }
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let ready = this.out.get(this.given..).unwrap_or_default();
            if !ready.is_empty() {
                let count = ready.len().min(into.remaining());
                into.put_slice(&ready[..count]);
                this.given += count;
                return Poll::Ready(Ok(()));
            }
            this.given = 0;
            this.out.clear();
            let Some(unpacker) = &mut this.unpacker else {
                return Pin::new(&mut this.stream).poll_read(context, into);
            };
            // much may come of little: others have their turn as well
            let turn = ready!(coop::poll_proceed(context));
            let input = this.raw.get(this.at..).unwrap_or_default();
            let taken = unpacker.unpack(input, &mut this.out);
            if taken > 0 || !this.out.is_empty() {
                turn.made_progress();
                this.at += taken;
                continue;
            }
            drop(turn);
            // one that is silent keeps nothing
            (this.raw, this.out, this.at) = (Vec::new(), Vec::new(), 0);
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut piece))?;
            if piece.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.raw.extend_from_slice(piece.filled());
        }
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};

    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    /// A frame as a client sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ ..126 => frame.push(MASKED | length as u8),
            length => {
                frame.push(MASKED | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(MASK);
        let masked = payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b);
        frame.extend(masked);
        frame
    }

    /// First byte and payload of each frame.
    fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while let [first, second, rest @ ..] = bytes {
            let (length, rest) = match second & !MASKED {
                126 => (u16::from_be_bytes([rest[0], rest[1]]) as usize, &rest[2..]),
                127 => (
                    u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize,
                    &rest[8..],
                ),
                length => (length as usize, rest),
            };
            let (mask, rest) = match second & MASKED {
                0 => (&[0; 4][..], rest),
                _ => rest.split_at(4),
            };
            let (payload, rest) = rest.split_at(length);
            let plain = payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b);
            frames.push((*first, plain.collect()));
            bytes = rest;
        }
        frames
    }

    /// What comes out, in whatever pieces it goes in.
    fn unpacked(input: &[u8]) -> Vec<u8> {
        let mut all = None;
        for size in [usize::MAX, 1, 5, 4000] {
            let (mut unpacker, mut out) = (Unpacker::default(), Vec::new());
            for mut piece in input.chunks(size.min(input.len())) {
                loop {
                    let had = out.len();
                    let taken = unpacker.unpack(piece, &mut out);
                    piece = &piece[taken..];
                    if taken == 0 && out.len() == had {
                        break;
                    }
                }
            }
            let messages = messages(&out);
            let all = all.get_or_insert_with(|| messages.clone());
            assert!(*all == messages, "in pieces of {size}");
            if size == 4000 {
                return out;
            }
        }
        unreachable!()
    }

    /// Frames, those of a message together.
    fn messages(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut messages: Vec<(u8, Vec<u8>)> = Vec::new();
        for (first, payload) in frames(bytes) {
            match messages.last_mut() {
                Some(last) if first & OPCODE == 0 && last.0 & FINAL == 0 => {
                    last.0 |= first;
                    last.1.extend(payload);
                }
                _ => messages.push((first, payload)),
            }
        }
        messages
    }

    fn packed(plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(plain.len() + 100);
        Compress::new(Compression::default(), false)
            .compress_vec(plain, &mut out, FlushCompress::Sync)
            .unwrap();
        out.truncate(out.len() - TAIL.len());
        out
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // 7.2.3.1, in two fragments; without compression; in a final block; in two blocks
        for (frames, plain) in [
            (
                vec![(0xc1, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..])],
                "Hello",
            ),
            (
                vec![
                    (0x41, &[0xf2, 0x48, 0xcd][..]),
                    (0x80, &[0xc9, 0xc9, 0x07, 0x00]),
                ],
                "Hello",
            ),
            (vec![(0xc1, b"\x00\x05\x00\xfa\xffHello\x00")], "Hello"),
            (
                vec![(0xc1, &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00])],
                "Hello",
            ),
            (
                vec![(
                    0xc1,
                    &[
                        0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07,
                        0x00,
                    ],
                )],
                "Hello",
            ),
            (vec![(0xc1, &[0x00])], ""),
            (vec![(0x41, &[][..]), (0, &[]), (0x80, &[0x02, 0x00])], ""),
        ] {
            let input: Vec<u8> = frames
                .iter()
                .flat_map(|(first, p)| frame(*first, p))
                .collect();
            let expected = vec![(0x81, plain.as_bytes().to_vec())];
            assert_eq!(messages(&unpacked(&input)), expected, "{frames:02x?}");
        }
    }

    #[test]
    fn what_is_not_compressed_goes_through_as_it_is() {
        let input = [
            frame(0x81, b"plain"),
            frame(0x89, b"ping"),
            frame(0x02, &[7; 70_000]),
            frame(0x80, b""),
            frame(0x88, &1000u16.to_be_bytes()),
        ];
        assert_eq!(unpacked(&input.concat()), input.concat());
    }

    #[test]
    fn long_messages_come_in_frames_with_others_between() {
        let plain = "much of the same, ".repeat(20_000).into_bytes();
        let packed = packed(&plain);
        let (a, b) = packed.split_at(100);
        let input = [
            frame(0x42, a),
            frame(0x89, b"ping"),
            frame(0x80, b),
            frame(0x81, b"next"),
        ];
        let out = frames(&unpacked(&input.concat()));
        assert!(out.len() > 10);
        assert!(out.iter().all(|(_, payload)| payload.len() <= 2 * FRAME));
        let ping = out
            .iter()
            .position(|frame| *frame == (0x89, b"ping".to_vec()));
        let rest: Vec<u8> = out
            .iter()
            .enumerate()
            .filter(|(at, _)| Some(*at) != ping)
            .flat_map(|(_, (first, payload))| frame(*first, payload))
            .collect();
        assert!(ping.is_some());
        assert!(messages(&rest) == [(0x82, plain), (0x81, b"next".to_vec())]);
    }

    /// The library refuses what comes out.
    #[test]
    fn mistakes_stay_mistakes() {
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        // reserved bits on a control frame, on a continuation; no mask
        let mut bare = vec![0xc1, 7];
        bare.extend(hello);
        for input in [
            frame(0xc9, b"x"),
            frame(0xc0, &hello),
            frame(0xe1, &hello),
            bare,
        ] {
            assert_eq!(unpacked(&input), input);
        }
        // no end of the first message
        let input = [frame(0x41, &hello), frame(0xc1, &hello)].concat();
        let out = frames(&unpacked(&input));
        assert_eq!((out[0].0 & !FINAL, out.last().unwrap().0), (1, 0xc1));
        // nothing that can be inflated
        let out = frames(&unpacked(&frame(0xc1, &[0xff; 40])));
        assert_eq!(out.last().unwrap().0, NONSENSE[0]);
    }
}
