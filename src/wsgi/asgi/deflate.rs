//! Compressed messages (permessage-deflate, RFC 7692): what is agreed with a client, and messages to it.
//!
//! Each message is compressed by itself (`no_context_takeover` both ways): a WebSocket that says nothing keeps no window, so a
//! thousand of them cost no memory. What clients send is [`super::inflate`]'s business.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use http::header::{self, HeaderMap, HeaderValue};
use std::cell::RefCell;

/// Shorter messages are not worth it.
const SHORTEST: usize = 128;
/// Longer ones would hold the other clients up for too long.
const LONGEST: usize = 512 * 1024;
/// What ends each flushed part; not sent at the end of a message.
pub(super) const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

thread_local! {
    /// 300 KB, made for the first message that is compressed.
    static COMPRESS: RefCell<Option<Compress>> = const { RefCell::new(None) };
}

/// What was agreed with a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// How far back our messages may refer, as a power of two; none: any way.
    window: Option<u8>,
}

impl Agreed {
    /// The first of a client's offers that can be met; none if it wants no compression, or one we do not have.
    pub fn with(headers: &HeaderMap) -> Option<Agreed> {
        headers
            .get_all(header::SEC_WEBSOCKET_EXTENSIONS)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .find_map(Agreed::offer)
    }

    fn offer(offer: &str) -> Option<Agreed> {
        let mut words = offer.split(';').map(str::trim);
        if !words.next()?.eq_ignore_ascii_case("permessage-deflate") {
            return None;
        }
        let mut agreed = Agreed { window: None };
        let mut seen = Vec::new();
        for word in words {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start()))),
                None => (word, None),
            };
            let name = name.to_ascii_lowercase();
            match (name.as_str(), value) {
                ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
                // it may use less than it can
                ("client_max_window_bits", None) => {}
                ("client_max_window_bits", Some(bits)) => {
                    window(bits)?;
                }
                ("server_max_window_bits", Some(bits)) => agreed.window = Some(window(bits)?),
                _ => return None,
            }
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
        }
        Some(agreed)
    }

    /// What the client is answered.
    pub fn answer(&self) -> Option<HeaderValue> {
        let mut text = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
            .to_string();
        if let Some(bits) = self.window {
            text.push_str(&format!("; server_max_window_bits={bits}"));
        }
        HeaderValue::from_str(&text).ok()
    }

    /// The message, compressed; none if it is better sent as it is.
    pub fn compress(&self, message: &[u8]) -> Option<Bytes> {
        if !(SHORTEST..=LONGEST).contains(&message.len()) {
            return None;
        }
        // nothing refers to what is in another part, whatever the compressor's own window is
        let part = 1 << self.window.unwrap_or(15);
        COMPRESS.with_borrow_mut(|compress| {
            let compress =
                compress.get_or_insert_with(|| Compress::new(Compression::fast(), false));
            let mut out = Vec::with_capacity(message.len() / 2);
            if self.window.is_none() {
                append(compress, message, &mut out)?;
            } else {
                for part in message.chunks(part) {
                    append(compress, part, &mut out)?;
                }
            }
            out.truncate(out.len().checked_sub(TAIL.len())?);
            (out.len() < message.len()).then(|| out.into())
        })
    }
}

/// Appends bytes, compressed by themselves, up to a byte's end; none if that fails.
fn append(compress: &mut Compress, mut bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    compress.reset();
    loop {
        if out.capacity() - out.len() < 64 {
            out.reserve(bytes.len() / 2 + 1024);
        }
        let before = compress.total_in();
        let status = compress
            .compress_vec(bytes, out, FlushCompress::Sync)
            .ok()?;
        let taken = usize::try_from(compress.total_in() - before).ok()?;
        bytes = bytes.get(taken..)?;
        // there was room for more: that was all
        if bytes.is_empty() && out.len() < out.capacity() {
            return (status == Status::Ok && out.ends_with(&TAIL)).then_some(());
        }
    }
}

fn unquoted(value: &str) -> &str {
    let inner = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    inner.unwrap_or(value)
}

/// A number of bits, from 8 to 15.
fn window(bits: &str) -> Option<u8> {
    let plain = !bits.starts_with('0') && bits.bytes().all(|byte| byte.is_ascii_digit());
    let bits = bits.parse().ok().filter(|_| plain)?;
    (8..=15).contains(&bits).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Decompress, FlushDecompress};

    fn agreed(offers: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for offer in offers {
            let value = HeaderValue::from_static(offer);
            headers.append(header::SEC_WEBSOCKET_EXTENSIONS, value);
        }
        let answer = Agreed::with(&headers)?.answer().unwrap();
        let answer = answer.to_str().unwrap();
        let rest = answer.strip_prefix("permessage-deflate; server_no_context_takeover; ");
        Some(rest.unwrap().to_string())
    }

    #[test]
    fn the_first_offer_that_can_be_met_is_taken() {
        let usual = Some("client_no_context_takeover".to_string());
        let twelve = "client_no_context_takeover; server_max_window_bits=12".to_string();
        for offers in [
            vec!["permessage-deflate"],
            vec!["permessage-deflate; client_max_window_bits"],
            vec![
                "x-webkit-deflate-frame",
                "Permessage-Deflate;client_max_window_bits=15",
            ],
            vec!["permessage-deflate; server_max_window_bits=7, permessage-deflate"],
            vec!["permessage-deflate; server_no_context_takeover; client_no_context_takeover"],
        ] {
            assert_eq!(agreed(&offers), usual, "{offers:?}");
        }
        let offer = "permessage-deflate; server_max_window_bits=\"12\"; client_max_window_bits";
        assert_eq!(agreed(&[offer]), Some(twelve));
    }

    #[test]
    fn what_we_do_not_know_is_declined() {
        for offer in [
            "",
            "permessage-bzip2",
            "permessage-deflate; strange",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; client_max_window_bits=+9",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
        ] {
            assert_eq!(agreed(&[offer]), None, "{offer:?}");
        }
    }

    /// Takes no more room at once than a window of so many bits has.
    fn plain(compressed: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity(4 << 20);
        let whole = [compressed, &TAIL].concat();
        Decompress::new(false)
            .decompress_vec(&whole, &mut plain, FlushDecompress::Sync)
            .unwrap();
        plain
    }

    #[test]
    fn messages_are_compressed_by_themselves() {
        let text: Vec<u8> = (0..60_000)
            .map(|n: u32| b"abcdefgh \n"[(n * n / 7 % 10) as usize])
            .collect();
        for window in [None, Some(8), Some(12), Some(15)] {
            let agreed = Agreed { window };
            for length in [128, 129, 4096, 32_768, 60_000] {
                let compressed = agreed.compress(&text[..length]).unwrap();
                assert!(compressed.len() < length, "{window:?}");
                assert!(plain(&compressed) == text[..length], "{window:?} {length}");
                assert_eq!(agreed.compress(&text[..length]), Some(compressed));
            }
        }
    }

    #[test]
    fn what_gains_nothing_is_sent_as_it_is() {
        let agreed = Agreed { window: None };
        let mut state = 1u64;
        let noise: Vec<u8> = (0..10_000)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        assert_eq!(agreed.compress(&noise), None);
        assert_eq!(agreed.compress(b"short"), None);
        assert_eq!(agreed.compress(&vec![0; LONGEST + 1]), None);
    }
}
