//! Between Mongrel2's words and HTTP: the head of a request, and the bytes of an answer.

use super::message::Message;
use crate::wsgi::environ::{Ends, named};
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use std::time::SystemTime;

/// The head of a request.
#[derive(Debug)]
pub struct Head {
    /// As HTTP has it.
    pub parts: Parts,
    /// Between whom it is.
    pub ends: Ends,
    /// The mount point: Mongrel2's route up to its first variable part, as m2wsgi has it.
    pub script_name: String,
    /// The connection is to be closed after the answer.
    pub close: bool,
}

/// The head of the request in a message.
///
/// # Errors
/// What in it is no HTTP.
pub fn head(message: &Message) -> Result<Head, String> {
    let text = |name: &str| -> Result<String, String> {
        let value = message.header(name).unwrap_or_default();
        String::from_utf8(value.to_vec()).map_err(|_| format!("its {name} is no text"))
    };
    let method = text("METHOD")?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| "its METHOD is none")?;
    let uri = match text("URI")? {
        uri if uri.is_empty() => match text("QUERY")? {
            query if query.is_empty() => text("PATH")?,
            query => format!("{}?{query}", text("PATH")?),
        },
        uri => uri,
    };
    let uri: Uri = uri.parse().map_err(|_| "its URI is none")?;
    let version = match text("VERSION")?.as_str() {
        "HTTP/1.0" => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version) = (method, uri, version);
    for (name, value) in &message.headers {
        // what is in capitals is Mongrel2's own
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            parts.headers.append(name, value);
        }
    }
    let secure = message.header("URL_SCHEME") == Some(b"https");
    let remote = match text("REMOTE_ADDR")? {
        address if address.is_empty() => text("x-forwarded-for")?,
        address => address,
    };
    // Mongrel2 does not say where it was reached, but the client does
    let (server, server_port) = named(&parts.headers, secure);
    let pattern = text("PATTERN")?;
    let mount = pattern.split('(').next().unwrap_or_default();
    let says = |wanted: &str| {
        let values = parts.headers.get_all(header::CONNECTION).iter();
        let mut words = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        words.any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    let close = says("close") || version == Version::HTTP_10;
    Ok(Head {
        ends: Ends {
            remote: remote.trim().parse().ok(),
            server,
            server_port,
            secure,
            ..Ends::default()
        },
        script_name: mount.trim_end_matches('/').to_string(),
        close,
        parts,
    })
}

/// How the end of an answer's body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Bare,
    /// By its length.
    Length(u64),
    /// Chunk by chunk.
    Chunked,
    /// By closing the connection.
    Close,
}

/// How an answer ends whose length is known or not.
pub fn framing(head: &Parts, status: StatusCode, length: Option<u64>) -> Framing {
    let bare = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match length {
        _ if bare || head.method == Method::HEAD => Framing::Bare,
        Some(length) => Framing::Length(length),
        None if head.version == Version::HTTP_10 => Framing::Close,
        None => Framing::Chunked,
    }
}

/// The head of an answer; `length` is that of the body it has or, for HEAD, would have.
pub fn response_head<B>(
    response: &Response<B>,
    framing: Framing,
    length: Option<u64>,
    close: bool,
    now: SystemTime,
) -> Vec<u8> {
    let status = response.status();
    let mut out = Vec::with_capacity(256);
    let own = response.extensions().get::<hyper::ext::ReasonPhrase>();
    let reason = match own {
        Some(reason) => reason.as_bytes(),
        None => status.canonical_reason().unwrap_or_default().as_bytes(),
    };
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason);
    let mut line = |name: &[u8], value: &[u8]| {
        out.extend_from_slice(b"\r\n");
        // as they are usually written; HTTP does not mind
        let mut first = true;
        for byte in name {
            out.push(if first {
                byte.to_ascii_uppercase()
            } else {
                *byte
            });
            first = *byte == b'-';
        }
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
    };
    let headers = response.headers();
    for (name, value) in headers {
        if *name != header::CONTENT_LENGTH && *name != header::CONNECTION {
            line(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    if !headers.contains_key(header::DATE) {
        let date = httpdate::fmt_http_date(now);
        line(b"date", date.as_bytes());
    }
    match framing {
        Framing::Length(length) => line(b"content-length", length.to_string().as_bytes()),
        Framing::Chunked => line(b"transfer-encoding", b"chunked"),
        Framing::Bare if status != StatusCode::NO_CONTENT => {
            if let Some(length) = length {
                line(b"content-length", length.to_string().as_bytes());
            }
        }
        Framing::Bare | Framing::Close => {}
    }
    if close || framing == Framing::Close {
        line(b"connection", b"close");
    }
    out.extend_from_slice(b"\r\n\r\n");
    out
}

/// A part of a body as it goes to the client.
pub fn part(out: &mut Vec<u8>, framing: Framing, data: &[u8]) {
    if data.is_empty() || framing == Framing::Bare {
        return;
    }
    if framing == Framing::Chunked {
        out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    } else {
        out.extend_from_slice(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn message(headers: &[(&str, &str)]) -> Message {
        Message {
            server: Bytes::from_static(b"s"),
            client: Bytes::from_static(b"1"),
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                .collect(),
            body: Bytes::new(),
        }
    }

    #[test]
    fn the_head_is_put_together_from_mongrel2s_words() {
        let head = head(&message(&[
            ("METHOD", "GET"),
            ("VERSION", "HTTP/1.1"),
            ("PATH", "/app/a%20b"),
            ("URI", "/app/a%20b?x=1"),
            ("PATTERN", "/app/(.*)"),
            ("URL_SCHEME", "https"),
            ("REMOTE_ADDR", "10.0.0.7"),
            ("host", "example.org:8443"),
            ("x-forwarded-for", "6.6.6.6"),
        ]))
        .unwrap();
        assert_eq!(head.parts.uri, "/app/a%20b?x=1");
        assert_eq!(head.script_name, "/app");
        assert_eq!(head.ends.remote, "10.0.0.7".parse().ok());
        assert_eq!(
            (&*head.ends.server, &*head.ends.server_port),
            ("example.org", "8443")
        );
        assert!(head.ends.secure && !head.close);
        assert!(!head.parts.headers.contains_key("pattern"));
    }

    #[test]
    fn connections_are_closed_when_http_says_so() {
        let close = |version: &str, connection: &str| {
            let words = [
                ("METHOD", "GET"),
                ("URI", "/"),
                ("VERSION", version),
                ("connection", connection),
            ];
            head(&message(&words)).unwrap().close
        };
        assert!(!close("HTTP/1.1", "keep-alive"));
        assert!(close("HTTP/1.1", "x, Close"));
        assert!(close("HTTP/1.0", ""));
    }

    #[test]
    fn answers_say_where_they_end() {
        let (mut parts, ()) = Request::new(()).into_parts();
        let mut response = Response::new(());
        let now = SystemTime::UNIX_EPOCH;
        response
            .headers_mut()
            .insert("x-one", HeaderValue::from_static("1"));
        let told = |framing, length, close| {
            let bytes = response_head(&response, framing, length, close, now);
            String::from_utf8(bytes).unwrap()
        };
        let start = "HTTP/1.1 200 OK\r\nX-One: 1\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
        assert_eq!(
            told(Framing::Length(3), Some(3), false),
            format!("{start}Content-Length: 3\r\n\r\n")
        );
        assert_eq!(
            told(Framing::Chunked, None, true),
            format!("{start}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        );
        assert_eq!(framing(&parts, StatusCode::OK, None), Framing::Chunked);
        parts.version = Version::HTTP_10;
        assert_eq!(framing(&parts, StatusCode::OK, None), Framing::Close);
        parts.method = Method::HEAD;
        assert_eq!(framing(&parts, StatusCode::OK, Some(3)), Framing::Bare);
        let mut out = Vec::new();
        part(&mut out, Framing::Chunked, b"hallo, there, you");
        part(&mut out, Framing::Chunked, b"");
        assert_eq!(out, b"11\r\nhallo, there, you\r\n");
    }
}
