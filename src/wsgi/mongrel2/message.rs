//! What Mongrel2 sends to a handler and expects from it, as bytes. Source: the manual of Mongrel2, and version 1.12.2 on
//! the wire.

use bytes::Bytes;
use serde_json::Value;

/// A request, or a notice about a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The server that it came from: answers begin with that.
    pub server: Bytes,
    /// The client's connection, a number in digits.
    pub client: Bytes,
    /// Mongrel2's own words in capitals, and headers in lower case; each with its value, the same name several times
    /// where it was several times there.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Bytes,
}

impl Message {
    /// Reads one, with headers in either form: JSON or a tnetstring.
    ///
    /// # Errors
    /// What in it cannot be read.
    pub fn parse(bytes: &Bytes) -> Result<Message, String> {
        let mut rest = bytes.clone();
        let mut word = |what: &str| {
            let end = memchr::memchr(b' ', &rest).ok_or_else(|| format!("there is no {what}"))?;
            let word = rest.split_to(end);
            bytes::Buf::advance(&mut rest, 1);
            Ok::<_, String>(word)
        };
        let server = word("server")?;
        let client = word("number of a client")?;
        // the path is among the headers as well
        word("path")?;
        if client.is_empty() || !client.iter().all(u8::is_ascii_digit) {
            return Err("the number of its client is none".to_string());
        }
        let (kind, headers, rest) = element(rest).ok_or("its headers are broken off")?;
        let (_, body, _) = element(rest).ok_or("its body is broken off")?;
        let headers = match kind {
            b',' => from_json(&headers)?,
            b'}' => from_dictionary(headers)?,
            _ => return Err("its headers are neither JSON nor a dictionary".to_string()),
        };
        Ok(Message {
            server,
            client,
            headers,
            body,
        })
    }

    /// The first value of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_slice())
    }

    /// Whether Mongrel2 says that the client has gone.
    pub fn is_disconnect(&self) -> bool {
        let said = |value: Value| value.get("type")?.as_str().map(|kind| kind == "disconnect");
        self.header("METHOD") == Some(b"JSON")
            && serde_json::from_slice(&self.body).ok().and_then(said) == Some(true)
    }
}

/// An answer, or a part of one, for a client of a server; nothing: the connection is to be closed.
pub fn answer(server: &[u8], client: &[u8], http: &[u8]) -> Vec<u8> {
    let length = client.len().to_string();
    let mut out = Vec::with_capacity(server.len() + client.len() + http.len() + length.len() + 4);
    for part in [
        server,
        b" ",
        length.as_bytes(),
        b":",
        client,
        b", ".as_slice(),
        http,
    ] {
        out.extend_from_slice(part);
    }
    out
}

/// The next element of a sequence of tnetstrings: its kind, its data, and what follows.
fn element(mut bytes: Bytes) -> Option<(u8, Bytes, Bytes)> {
    let colon = bytes.iter().take(12).position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    bytes::Buf::advance(&mut bytes, colon + 1);
    if bytes.len() <= length {
        return None;
    }
    let data = bytes.split_to(length);
    let kind = bytes.split_to(1)[0];
    Some((kind, data, bytes))
}

fn from_dictionary(mut bytes: Bytes) -> Result<Vec<(String, Vec<u8>)>, String> {
    let broken = "its headers are no dictionary of texts";
    let mut headers = Vec::new();
    while !bytes.is_empty() {
        let (kind, name, rest) = element(bytes).ok_or(broken)?;
        let (form, value, rest) = element(rest).ok_or(broken)?;
        bytes = rest;
        if kind != b',' {
            return Err(broken.to_string());
        }
        let name = String::from_utf8_lossy(&name).into_owned();
        if form == b']' {
            let mut values = value;
            while !values.is_empty() {
                let (_, value, rest) = element(values).ok_or(broken)?;
                values = rest;
                headers.push((name.clone(), value.to_vec()));
            }
        } else {
            headers.push((name, value.to_vec()));
        }
    }
    Ok(headers)
}

/// Mongrel2 copies the bytes of a header into its JSON as they are: each is taken for a character of its own.
fn from_json(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let values: serde_json::Map<String, Value> = serde_json::from_str(&text)
        .map_err(|why| format!("its headers are no JSON object: {why}"))?;
    let mut headers = Vec::with_capacity(values.len());
    for (name, value) in values {
        match value {
            Value::Array(values) => {
                for value in values {
                    headers.push((name.clone(), plain(&value)));
                }
            }
            value => headers.push((name, plain(&value))),
        }
    }
    Ok(headers)
}

fn plain(value: &Value) -> Vec<u8> {
    let Value::String(text) = value else {
        return value.to_string().into_bytes();
    };
    let mut out = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u8::try_from(u32::from(character)) {
            Ok(byte) => out.push(byte),
            Err(_) => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Result<Message, String> {
        Message::parse(&Bytes::copy_from_slice(text))
    }

    #[test]
    fn both_forms_of_headers_mean_the_same() {
        let json = r#"{"METHOD":"POST","cookie":["a=1","b=2"],"x":"y"}"#;
        let json = format!("server 7 /a {}:{json},3:a b,", json.len());
        let json = parse(json.as_bytes()).unwrap();
        let tnet = b"server 7 /a 49:6:METHOD,4:POST,6:cookie,12:3:a=1,3:b=2,]1:x,1:y,}3:a b,";
        assert_eq!(parse(tnet).unwrap(), json);
        assert_eq!(&json.body[..], b"a b");
        let cookies = json.headers.iter().filter(|(name, _)| name == "cookie");
        assert_eq!(cookies.count(), 2);
    }

    #[test]
    fn bytes_of_headers_stay_what_they_are() {
        let message = parse(b"s 7 / 14:{\"x\":\"caf\xe9\xc3\xa9\"},0:,").unwrap();
        assert_eq!(message.header("x"), Some(&b"caf\xe9\xc3\xa9"[..]));
    }

    #[test]
    fn a_client_that_has_gone_is_told_of() {
        let notice = br#"s 12 @* 17:{"METHOD":"JSON"},21:{"type":"disconnect"},"#;
        assert!(parse(notice).unwrap().is_disconnect());
        let notice = br#"s 12 @* 16:6:METHOD,4:JSON,}21:{"type":"disconnect"},"#;
        assert!(parse(notice).unwrap().is_disconnect());
        // a client cannot say so in a request
        let request = br#"s 12 / 16:{"METHOD":"PUT"},21:{"type":"disconnect"},"#;
        assert!(!parse(request).unwrap().is_disconnect());
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for text in [
            &b""[..],
            b"s",
            b"s 7 /",
            b"s x / 2:{},0:,",
            b"s 7 / 2:{},",
            b"s 7 / 9:{},0:,",
            b"s 7 / 2:[],0:,",
            b"s 7 / 2:{}]0:,",
            b"s 7 / 99999999999999999999:{},0:,",
            b"s 7 / 6:6:METH}0:,",
            b"s 7 / -1:{},0:,",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_answer_names_its_client() {
        assert_eq!(answer(b"s", b"12", b"HTTP"), b"s 2:12, HTTP");
        assert_eq!(answer(b"s", b"1", b""), b"s 1:1, ");
    }
}
