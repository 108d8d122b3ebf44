//! What stands in the ring: answers, and parts of answers.

use super::marshal::{Reader, Unreadable};

/// Bytes before the body of a repeated answer.
const REPEATED: usize = 9;

/// What an answer in the ring is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Head and body.
    Whole,
    /// The head; chunks follow.
    Start,
    /// A part of the body.
    Chunk,
    /// The end of the body.
    End,
    /// There will be no proper end.
    Broken,
    /// The head; the body is (a part of) a file that comes beside.
    File,
    /// The WebSocket is accepted; headers for its handshake.
    Accept,
    /// A message of a WebSocket (or its last part).
    Text,
    /// A message of a WebSocket (or its last part).
    Binary,
    /// The application closes the WebSocket; the status is the code, the body the reason.
    Close,
    /// The status says how many bytes the application has taken.
    Credit,
}

/// One answer, or a part of it.
#[derive(Debug)]
pub struct Record<'a> {
    /// The request's.
    pub number: u32,
    /// What it is.
    pub kind: Kind,
    /// Status and headers are those of the last [`Kind::Whole`] that had any.
    pub repeated: bool,
    /// Status line without the protocol, in UTF-8.
    pub status: &'a [u8],
    /// Names and values, in UTF-8.
    pub headers: Vec<(&'a [u8], &'a [u8])>,
    /// Names and values are bytes as they are to be sent (ASGI).
    pub raw: bool,
    /// (A part of) the body.
    pub body: &'a [u8],
}

/// A whole answer with the head of the one before: the letter `r`, number and length, the body.
fn read_repeated(bytes: &[u8]) -> Result<(Record<'_>, usize), Unreadable> {
    let number = |at: usize| {
        let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
        four.map(u32::from_le_bytes).ok_or(Unreadable(at))
    };
    let end = REPEATED + number(5)? as usize;
    let record = Record {
        number: number(1)?,
        kind: Kind::Whole,
        repeated: true,
        status: b"",
        headers: Vec::new(),
        raw: false,
        body: bytes.get(REPEATED..end).ok_or(Unreadable(REPEATED))?,
    };
    Ok((record, end))
}

/// The record that bytes begin with, and its length.
///
/// # Errors
/// They are none, or not all of one.
pub fn read(bytes: &[u8]) -> Result<(Record<'_>, usize), Unreadable> {
    if bytes.first() == Some(&b'r') {
        return read_repeated(bytes);
    }
    let mut reader = Reader::new(bytes);
    if reader.tuple()? != 5 {
        return Err(Unreadable(0));
    }
    let number = u32::try_from(reader.count()?).map_err(|_| Unreadable(1))?;
    let kind = match reader.count()? {
        0 => Kind::Whole,
        1 => Kind::Start,
        2 => Kind::Chunk,
        3 => Kind::End,
        4 => Kind::Broken,
        5 => Kind::File,
        6 => Kind::Accept,
        7 => Kind::Text,
        8 => Kind::Binary,
        9 => Kind::Close,
        10 => Kind::Credit,
        _ => return Err(Unreadable(reader.position())),
    };
    let status = reader.text()?.unwrap_or_default();
    let count = reader.sequence()?;
    let mut headers = Vec::with_capacity(count.min(64));
    let mut raw = false;
    for _ in 0..count {
        if reader.sequence()? != 2 {
            return Err(Unreadable(reader.position()));
        }
        raw = reader.is_bytes();
        let name = reader.text()?.unwrap_or_default();
        headers.push((name, reader.text()?.unwrap_or_default()));
    }
    let length = usize::try_from(reader.count()?).map_err(|_| Unreadable(reader.position()))?;
    let start = reader.position();
    let body = start
        .checked_add(length)
        .and_then(|end| bytes.get(start..end))
        .ok_or(Unreadable(start))?;
    let record = Record {
        number,
        kind,
        repeated: false,
        status,
        headers,
        raw,
        body,
    };
    Ok((record, start + length))
}
