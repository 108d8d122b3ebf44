//! Python's `marshal` format, as much of it as the front and its worker say to each other.
//!
//! What is written is read by every Python from 3.4 on (short ASCII texts came with its version 4); what is read is what
//! `marshal.dumps(value, 2)` makes of numbers, texts, bytes, tuples, lists and None.

/// Builds a marshalled value.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty one.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Everything written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Everything written, without the writer.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// True if nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How long it is.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets what was written.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Forgets what was written after the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// The beginning of a tuple of at most 255 items.
    pub fn tuple(&mut self, items: u8) {
        self.bytes.extend([b')', items]);
    }

    /// The beginning of a list whose length is told later; where to tell it.
    pub fn list(&mut self) -> usize {
        self.bytes.push(b'[');
        self.number(0);
        self.bytes.len() - 4
    }

    /// The length of the list that began `at`.
    pub fn list_length(&mut self, at: usize, items: u32) {
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&items.to_le_bytes());
        }
    }

    /// The beginning of a dictionary; its keys and values follow, then [`Writer::end_dict`].
    pub fn dict(&mut self) {
        self.bytes.push(b'{');
    }

    /// The end of a dictionary.
    pub fn end_dict(&mut self) {
        self.bytes.push(b'0');
    }

    /// None.
    pub fn none(&mut self) {
        self.bytes.push(b'N');
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(if value { b'T' } else { b'F' });
    }

    /// A number.
    pub fn int(&mut self, value: i64) {
        if let Ok(small) = i32::try_from(value) {
            self.bytes.push(b'i');
            self.bytes.extend(small.to_le_bytes());
            return;
        }
        // digits of 15 bits, the sign in their count
        let mut rest = value.unsigned_abs();
        let mut digits = Vec::with_capacity(5);
        while rest > 0 {
            digits.push((rest & 0x7fff) as u16);
            rest >>= 15;
        }
        let count = digits.len() as i32;
        self.bytes.push(b'l');
        self.bytes
            .extend((if value < 0 { -count } else { count }).to_le_bytes());
        for digit in digits {
            self.bytes.extend(digit.to_le_bytes());
        }
    }

    /// Bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        self.bytes.push(b's');
        self.number(value.len());
        self.bytes.extend_from_slice(value);
    }

    /// A text whose characters are these bytes: what PEP 3333 calls a native string.
    pub fn latin1(&mut self, value: &[u8]) {
        if value.is_ascii() {
            match u8::try_from(value.len()) {
                Ok(short) => self.bytes.extend([b'z', short]),
                Err(_) => {
                    self.bytes.push(b'a');
                    self.number(value.len());
                }
            }
            self.bytes.extend_from_slice(value);
            return;
        }
        self.bytes.push(b'u');
        let wide = value.iter().filter(|byte| !byte.is_ascii()).count();
        self.number(value.len() + wide);
        for byte in value {
            if byte.is_ascii() {
                self.bytes.push(*byte);
            } else {
                self.bytes
                    .extend([0xc0 | (byte >> 6), 0x80 | (byte & 0x3f)]);
            }
        }
    }

    /// A text.
    pub fn text(&mut self, value: &str) {
        if value.is_ascii() {
            return self.latin1(value.as_bytes());
        }
        self.bytes.push(b'u');
        self.number(value.len());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// What was marshalled before.
    pub fn raw(&mut self, marshalled: &[u8]) {
        self.bytes.extend_from_slice(marshalled);
    }

    fn number(&mut self, value: usize) {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        self.bytes.extend(value.to_le_bytes());
    }
}

/// What cannot be read: the worker does not speak as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the worker's answer cannot be read at its byte {0}")]
pub struct Unreadable(pub usize);

/// Reads marshalled values from the beginning of bytes.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the first byte.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub fn position(&self) -> usize {
        self.at
    }

    fn fail<T>(&self) -> Result<T, Unreadable> {
        Err(Unreadable(self.at))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let end = self.at.checked_add(count);
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(taken) => {
                self.at += count;
                Ok(taken)
            }
            None => self.fail(),
        }
    }

    fn kind(&mut self) -> Result<u8, Unreadable> {
        // the highest bit says that the value may be referred to; there are no references in version 2
        self.take(1).map(|byte| byte[0] & 0x7f)
    }

    /// True if bytes come next.
    pub fn is_bytes(&self) -> bool {
        self.bytes
            .get(self.at)
            .is_some_and(|kind| kind & 0x7f == b's')
    }

    fn size(&mut self) -> Result<usize, Unreadable> {
        let bytes = self.take(4)?;
        let number = bytes
            .iter()
            .rev()
            .fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
        Ok(number as usize)
    }

    /// The beginning of a tuple; how many items follow.
    pub fn tuple(&mut self) -> Result<usize, Unreadable> {
        match self.kind()? {
            b'(' => self.size(),
            b')' => Ok(usize::from(self.take(1)?[0])),
            _ => self.fail(),
        }
    }

    /// The beginning of a list or tuple; how many items follow. None is an empty one.
    pub fn sequence(&mut self) -> Result<usize, Unreadable> {
        match self.kind()? {
            b'[' | b'(' => self.size(),
            b')' => Ok(usize::from(self.take(1)?[0])),
            b'N' => Ok(0),
            _ => self.fail(),
        }
    }

    /// A number that is not below zero.
    pub fn count(&mut self) -> Result<u64, Unreadable> {
        match self.kind()? {
            b'i' => {
                let bytes = self.take(4)?;
                let number = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                u64::try_from(number).or_else(|_| self.fail())
            }
            b'l' => {
                let digits = self.size()?;
                if digits > 5 {
                    return self.fail();
                }
                let mut sum = 0u64;
                for place in 0..digits {
                    let digit = self.take(2)?;
                    let digit = u64::from(u16::from_le_bytes([digit[0], digit[1]]));
                    sum |= digit.checked_shl(15 * place as u32).unwrap_or(0);
                }
                Ok(sum)
            }
            _ => self.fail(),
        }
    }

    /// A text, in UTF-8; None is none.
    pub fn text(&mut self) -> Result<Option<&'a [u8]>, Unreadable> {
        match self.kind()? {
            b'u' | b't' | b'a' | b'A' => {
                let size = self.size()?;
                self.take(size).map(Some)
            }
            b'z' | b'Z' => {
                let size = usize::from(self.take(1)?[0]);
                self.take(size).map(Some)
            }
            // bytes where a text belongs: taken as they are
            b's' => {
                let size = self.size()?;
                self.take(size).map(Some)
            }
            b'N' => Ok(None),
            _ => self.fail(),
        }
    }
}

/// The bytes of a text whose characters are bytes (latin-1); `None` if it has others.
pub fn to_latin1(utf8: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    if utf8.is_ascii() {
        return Some(utf8.into());
    }
    let text = std::str::from_utf8(utf8).ok()?;
    let bytes: Option<Vec<u8>> = text
        .chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect();
    bytes.map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_python_reads() {
        let mut writer = Writer::new();
        writer.tuple(9);
        writer.int(-7);
        writer.int(1 << 40);
        writer.none();
        writer.bool(true);
        writer.bytes(b"\x00\xff");
        writer.latin1(b"caf\xe9");
        writer.text("grüße ≤");
        writer.latin1(&[b'x'; 300]);
        writer.dict();
        writer.latin1(b"k");
        let at = writer.list();
        writer.int(1);
        writer.int(2);
        writer.list_length(at, 2);
        writer.end_dict();
        let hex: String = writer
            .as_bytes()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let program = "import marshal,sys;v=marshal.loads(bytes.fromhex(sys.argv[1]));\
             assert v==(-7,1<<40,None,True,b'\\x00\\xff','caf\\xe9','gr\\xfc\\xdfe \\u2264','x'*300,{'k':[1,2]}),v";
        let status = std::process::Command::new("python3")
            .args(["-c", program, &hex])
            .status()
            .expect("python3 runs");
        assert!(status.success());
    }

    #[test]
    fn what_python_writes_is_read() {
        let program = "import marshal,sys;sys.stdout.buffer.write(marshal.dumps(\
             (7,1<<33,'200 OK',[('A','caf\\xe9'),('B','x'*300)],None,0x7fffffff),2))";
        let output = std::process::Command::new("python3")
            .args(["-c", program])
            .output()
            .expect("python3 runs");
        let mut reader = Reader::new(&output.stdout);
        assert_eq!(reader.tuple(), Ok(6));
        assert_eq!(reader.count(), Ok(7));
        assert_eq!(reader.count(), Ok(1 << 33));
        assert_eq!(reader.text(), Ok(Some(&b"200 OK"[..])));
        assert_eq!(reader.sequence(), Ok(2));
        assert_eq!(reader.tuple(), Ok(2));
        assert_eq!(reader.text(), Ok(Some(&b"A"[..])));
        let value = reader.text().unwrap().unwrap();
        assert_eq!(to_latin1(value).as_deref(), Some(&b"caf\xe9"[..]));
        assert_eq!(reader.tuple(), Ok(2));
        reader.text().unwrap();
        assert_eq!(reader.text(), Ok(Some(&[b'x'; 300][..])));
        assert_eq!(reader.text(), Ok(None));
        assert_eq!(reader.count(), Ok(0x7fff_ffff));
        assert_eq!(reader.position(), output.stdout.len());
        assert!(reader.tuple().is_err());
    }

    #[test]
    fn garbage_is_refused() {
        for bytes in [
            &b""[..],
            b"(",
            b"(\xff\xff\xff\xff",
            b"u\xff\xff\xff\xffx",
            b"l\x09\0\0\0",
            b"i\xff\xff\xff\xff",
        ] {
            let mut reader = Reader::new(bytes);
            assert!(
                reader.tuple().is_err() || reader.text().is_err(),
                "{bytes:?}"
            );
            assert!(Reader::new(bytes).count().is_err());
        }
        assert_eq!(to_latin1("≤".as_bytes()), None);
    }
}
