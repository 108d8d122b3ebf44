//! The JSON of a reply. Python writes a byte that is no UTF-8 (of a path, of a variable) as half of a surrogate pair,
//! `"\udcff"`, which is no text anywhere else: the mark for what cannot be shown stands in its place here.

use std::borrow::Cow;

use serde_json::Value;

/// Reads a reply.
///
/// # Errors
/// It is no JSON, whatever stands for what is no text.
pub fn parse(bytes: &[u8]) -> serde_json::Result<Value> {
    let error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    match mended(bytes) {
        Cow::Owned(mended) => serde_json::from_slice(&mended),
        Cow::Borrowed(_) => Err(error),
    }
}

/// Every half of a pair that stands alone is replaced by U+FFFD.
fn mended(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut mended: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let half = unit(bytes, at).filter(|unit| (0xD800..0xE000).contains(unit));
        let length = match (byte, half) {
            (b'\\', None) => 2,
            (_, None) => 1,
            (_, Some(half)) => {
                let low = unit(bytes, at + 6).is_some_and(|low| (0xDC00..0xE000).contains(&low));
                if half < 0xDC00 && low {
                    12
                } else {
                    let copy = mended.get_or_insert_with(|| bytes.to_vec());
                    if let Some(place) = copy.get_mut(at..at + 6) {
                        place.copy_from_slice(b"\\ufffd");
                    }
                    6
                }
            }
        };
        at += length;
    }
    mended.map_or(Cow::Borrowed(bytes), Cow::Owned)
}

/// The value of the escape `\uXXXX` that begins here.
fn unit(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_no_text_is_marked_and_nothing_else_is_touched() {
        let read = |text: &str| parse(text.as_bytes()).unwrap();
        assert_eq!(read(r#"{"a": "/x\udcff/y"}"#), json!({"a": "/x\u{FFFD}/y"}));
        let halves =
            r#"["\ud83d\ude00", "\ud83d", "\ud83dx", "\ude00\ud83d", "\ud83d\ud83d\ude00"]"#;
        assert_eq!(
            read(halves),
            json!([
                "😀",
                "\u{FFFD}",
                "\u{FFFD}x",
                "\u{FFFD}\u{FFFD}",
                "\u{FFFD}😀"
            ])
        );
        // A backslash that is said to be one begins no escape.
        assert_eq!(
            read(r#"["\\udcff", "\\\udcff"]"#),
            json!([r"\udcff", "\\\u{FFFD}"])
        );
        for wrong in ["{", r#"{"a": "\udcff}"#, r#"["\u+123"]"#, "\\u"] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
