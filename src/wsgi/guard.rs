//! Request smuggling: what two servers in a row may read differently is refused before hyper sees it.
//!
//! hyper takes a line feed alone for the end of a line, and a head with both a length and an encoding. The guard follows
//! the bytes of a connection from request to request, as strictly as RFC 9112 allows a server to be, and says stop at the
//! first that is ambiguous. It changes nothing and keeps nothing but the line it is in.

use memchr::{memchr, memchr2, memchr3};

/// The longest line that is looked at; hyper's own limit on heads stops those that are shorter, and says so.
const LINE: usize = 4 << 20;

/// Headers that are remembered are no longer than that.
const USUAL: usize = 2 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the request line; empty lines may stand there.
    Before,
    /// In the headers.
    Headers,
    /// Bytes of a body that are left.
    Body(u64),
    /// In the line that says how long the next chunk is.
    ChunkSize,
    /// Bytes of a chunk that are left, with the line's end behind it.
    Chunk(u64),
    /// In the lines behind the last chunk.
    Trailers,
    /// Another protocol: not looked at.
    Blind,
}

/// Follows the bytes that a client sends.
#[derive(Debug)]
pub struct Guard {
    state: State,
    line: Vec<u8>,
    length: Option<u64>,
    chunked: bool,
    /// The headers of the last request, if it had no body, from the end of the request line to the empty line: most
    /// clients send the same each time.
    usual: Vec<u8>,
}

/// The client's bytes are ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambiguous;

impl Default for Guard {
    fn default() -> Guard {
        Guard {
            state: State::Before,
            line: Vec::new(),
            length: None,
            chunked: false,
            usual: Vec::new(),
        }
    }
}

impl Guard {
    /// From here on the connection speaks something else.
    pub fn look_away(&mut self) {
        self.state = State::Blind;
        self.line = Vec::new();
    }

    /// Looks at what has come.
    ///
    /// # Errors
    /// It is ambiguous.
    pub fn look(&mut self, mut bytes: &[u8]) -> Result<(), Ambiguous> {
        // where the headers of this request begin, if they do here
        let mut headers = None;
        while !bytes.is_empty() {
            match self.state {
                State::Blind => return Ok(()),
                State::Body(left) | State::Chunk(left) => {
                    let taken = left.min(bytes.len() as u64);
                    bytes = &bytes[taken as usize..];
                    let left = left - taken;
                    self.state = match self.state {
                        State::Chunk(_) if left == 0 => State::ChunkSize,
                        State::Chunk(_) => State::Chunk(left),
                        _ if left == 0 => State::Before,
                        _ => State::Body(left),
                    };
                }
                _ => {
                    if !self.line.is_empty() {
                        let Some(end) = memchr(b'\n', bytes) else {
                            return self.keep(bytes);
                        };
                        let (line, rest) = bytes.split_at(end + 1);
                        bytes = rest;
                        self.keep(line)?;
                        let whole = std::mem::take(&mut self.line);
                        self.line_ends(line_of(&whole)?)?;
                        continue;
                    }
                    let Some(end) = memchr3(b'\r', b'\n', 0, bytes) else {
                        return self.keep(bytes);
                    };
                    let (line, behind) = bytes.split_at(end);
                    let begins = self.state == State::Before && !line.is_empty();
                    if begins
                        && !self.usual.is_empty()
                        && let Some(rest) = behind.strip_prefix(self.usual.as_slice())
                    {
                        bytes = rest;
                        continue;
                    }
                    match behind {
                        [b'\r', b'\n', rest @ ..] => {
                            self.line_ends(line)?;
                            bytes = rest;
                            if begins {
                                headers = Some(behind);
                            } else if self.state == State::Before
                                && let Some(all) = headers.take()
                            {
                                self.remember(&all[..all.len() - rest.len()]);
                            }
                        }
                        [b'\r'] => return self.keep(bytes),
                        _ => return Err(Ambiguous),
                    }
                }
            }
        }
        Ok(())
    }

    /// Keeps headers that were looked at and say nothing of a body.
    fn remember(&mut self, headers: &[u8]) {
        self.usual.clear();
        if headers.len() <= USUAL {
            self.usual.extend_from_slice(headers);
        }
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), Ambiguous> {
        if self.line.len() + part.len() > LINE {
            return Err(Ambiguous);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    /// A line has ended; it is here without its end.
    fn line_ends(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        match self.state {
            State::Before if line.is_empty() => {}
            State::Before => {
                (self.length, self.chunked) = (None, false);
                self.state = State::Headers;
            }
            State::Headers if line.is_empty() => {
                self.state = match (self.chunked, self.length) {
                    (true, Some(_)) => return Err(Ambiguous),
                    (true, None) => State::ChunkSize,
                    (false, Some(length)) if length > 0 => State::Body(length),
                    (false, _) => State::Before,
                };
            }
            State::Headers => self.header(line)?,
            State::ChunkSize => {
                let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let size = std::str::from_utf8(digits)
                    .ok()
                    .map(str::trim_end)
                    .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
                    .and_then(|digits| u64::from_str_radix(digits, 16).ok())
                    .ok_or(Ambiguous)?;
                self.state = match size {
                    0 => State::Trailers,
                    size => State::Chunk(size.checked_add(2).ok_or(Ambiguous)?),
                };
            }
            State::Trailers if line.is_empty() => self.state = State::Before,
            State::Trailers => {}
            State::Body(_) | State::Chunk(_) | State::Blind => {}
        }
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        let colon = memchr(b':', line).ok_or(Ambiguous)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value)
                .ok()
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .ok_or(Ambiguous)?;
            if self.length.is_some_and(|other| other != length) {
                return Err(Ambiguous);
            }
            self.length = Some(length);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // only the last word says that there are chunks; anything else we do not know
            if !value.eq_ignore_ascii_case(b"chunked") || self.chunked {
                return Err(Ambiguous);
            }
            self.chunked = true;
        }
        Ok(())
    }
}

/// A line that came in parts, without its end.
fn line_of(whole: &[u8]) -> Result<&[u8], Ambiguous> {
    let line = whole.strip_suffix(b"\r\n").ok_or(Ambiguous)?;
    match memchr2(b'\r', 0, line) {
        Some(_) => Err(Ambiguous),
        None => Ok(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever way the bytes come in pieces.
    fn look(bytes: &str) -> Result<(), Ambiguous> {
        let whole = Guard::default().look(bytes.as_bytes());
        for size in [1, 2, 7] {
            let mut guard = Guard::default();
            let mut pieces = bytes.as_bytes().chunks(size);
            assert_eq!(
                pieces.try_for_each(|piece| guard.look(piece)),
                whole,
                "{bytes:?}"
            );
        }
        whole
    }

    #[test]
    fn proper_requests_pass() {
        for bytes in [
            "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\na\nb\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n\n\n\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n\n",
            "\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(look(bytes), Ok(()), "{bytes:?}");
        }
    }

    #[test]
    fn headers_that_come_again_are_no_way_around() {
        let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut guard = Guard::default();
        guard.look(get.as_bytes()).unwrap();
        assert_eq!(guard.usual, b"\r\nHost: x\r\n\r\n");
        // the same, in one piece and in two, and others
        guard.look(format!("{get}{get}").as_bytes()).unwrap();
        for at in 1..get.len() {
            let (first, rest) = get.split_at(at);
            guard.look(first.as_bytes()).unwrap();
            guard.look(rest.as_bytes()).unwrap();
            assert_eq!(guard.state, State::Before, "{at}");
            guard.look(get.as_bytes()).unwrap();
        }
        for bad in [
            "GET / HTTP/1.1\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\rHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n\n",
        ] {
            for before in ["", get] {
                let mut guard = Guard::default();
                let bytes = format!("{get}{before}{bad}");
                assert_eq!(guard.look(bytes.as_bytes()), Err(Ambiguous), "{bytes:?}");
            }
        }
        // a body is not headers, even if it looks like them
        let body = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n";
        let mut guard = Guard::default();
        guard.look(get.as_bytes()).unwrap();
        guard.look(format!("{body}{get}").as_bytes()).unwrap();
        assert_eq!(guard.state, State::Body(30 - get.len() as u64));
        // and headers with one are not remembered: the next body has another length
        assert_eq!(guard.usual, b"\r\nHost: x\r\n\r\n");
    }

    #[test]
    fn ambiguous_ones_do_not() {
        for bytes in [
            "GET / HTTP/1.1\nHost: x\n\n",
            "GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +4\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4, 4\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nab\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\nab\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        ] {
            assert_eq!(look(bytes), Err(Ambiguous), "{bytes:?}");
        }
    }
}
