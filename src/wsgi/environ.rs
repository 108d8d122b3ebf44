//! From the head of an HTTP request to the environ of PEP 3333, in the form that the worker loads.

use super::forwarded::{Forwarded, Trusted};
use super::marshal::Writer;
use bytes::Bytes;
use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, Method, Version};
use std::net::IpAddr;

/// What does not change while the server runs.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// The path under which the application is mounted (`SCRIPT_NAME`), without a slash at its end.
    pub script_name: String,
    /// Several requests at once in one process.
    pub multithread: bool,
    /// Several processes.
    pub multiprocess: bool,
    /// Whose `X-Forwarded-*` headers are believed.
    pub trusted: Trusted,
}

/// Between whom a connection is.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    /// The client's address; none through a Unix socket.
    pub remote: Option<IpAddr>,
    /// Its port.
    pub port: Option<u16>,
    /// What stands for this server: an address, or a path.
    pub server: String,
    /// Its port; empty for a path.
    pub server_port: String,
    /// The client came over TLS, which somebody before us has taken off.
    pub secure: bool,
}

/// What differs from one request to the next of the same client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// `PATH_INFO`, unquoted.
    pub path: Vec<u8>,
    /// `QUERY_STRING`.
    pub query: Vec<u8>,
    /// The target as the client wrote it; none if that is the path, and the query behind a question mark.
    pub uri: Option<Vec<u8>>,
}

/// What the last request of a connection said. Most clients say the same in each: method and headers need not be written
/// again then.
#[derive(Debug, Default)]
pub struct Last {
    /// This is not the first request. What comes alone is not kept.
    again: bool,
    method: Method,
    version: Version,
    /// Names and values, one after the other.
    headers: Vec<u8>,
    environ: Bytes,
}

/// Stands between names and values, where HTTP allows it in neither.
const END: u8 = 0;

impl Last {
    /// What `write` writes for this head, which depends on nothing else that changes.
    pub fn environ(&mut self, head: &Parts, write: impl FnOnce(&mut Writer)) -> Bytes {
        if self.is(head) {
            return self.environ.clone();
        }
        let mut out = Writer::new();
        write(&mut out);
        let environ = Bytes::from(out.into_bytes());
        if self.again {
            self.method.clone_from(&head.method);
            self.version = head.version;
            self.headers.clear();
            for (name, value) in &head.headers {
                for part in [name.as_str().as_bytes(), value.as_bytes()] {
                    self.headers.extend_from_slice(part);
                    self.headers.push(END);
                }
            }
            self.environ = environ.clone();
        }
        self.again = true;
        environ
    }

    fn is(&self, head: &Parts) -> bool {
        if self.environ.is_empty() || self.method != head.method || self.version != head.version {
            return false;
        }
        let mut rest: &[u8] = &self.headers;
        let mut next = |part: &[u8]| match rest.split_at_checked(part.len()) {
            Some((this, [END, behind @ ..])) if this == part => {
                rest = behind;
                true
            }
            _ => false,
        };
        let headers = &mut head.headers.iter();
        headers.all(|(name, value)| next(name.as_str().as_bytes()) && next(value.as_bytes()))
            && rest.is_empty()
    }
}

/// The target of a request; the script name is taken off its path.
pub fn target(head: &Parts, site: &Site) -> Target {
    let whole = head.uri.path_and_query();
    let whole = whole.map_or(&b""[..], |whole| whole.as_str().as_bytes());
    let (path, query) = (head.uri.path().as_bytes(), head.uri.query());
    let query = query.unwrap_or_default().as_bytes().to_vec();
    // a question mark without a query would be lost
    let length = path.len() + query.len() + usize::from(!query.is_empty());
    let same = site.script_name.is_empty() && !path.contains(&b'%') && whole.len() == length;
    let uri = (!same).then(|| whole.to_vec());
    let path = unquote(path);
    let path = match path.strip_prefix(site.script_name.as_bytes()) {
        _ if same => path,
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => rest.to_vec(),
        _ => path,
    };
    Target { path, query, uri }
}

pub(super) fn unquote(quoted: &[u8]) -> Vec<u8> {
    if !quoted.contains(&b'%') {
        return quoted.to_vec();
    }
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut plain = Vec::with_capacity(quoted.len());
    let mut at = 0;
    while let Some(byte) = quoted.get(at) {
        match (byte, digit(quoted.get(at + 1)), digit(quoted.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                plain.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    plain
}

/// Writes the environ without what [`Target`] and the body say: the same for most requests of a client.
pub fn write(out: &mut Writer, head: &Parts, ends: &Ends, site: &Site) {
    let trusted = site.trusted.has(ends.remote);
    let mut pair = |name: &[u8], value: &[u8]| {
        out.latin1(name);
        out.latin1(value);
    };
    pair(b"REQUEST_METHOD", head.method.as_str().as_bytes());
    pair(b"SCRIPT_NAME", site.script_name.as_bytes());
    let forwarded = trusted.then(|| Forwarded::of(&head.headers, &site.trusted));
    let forwarded = forwarded.unwrap_or_default();
    let secure = forwarded.https || ends.secure;
    if ends.server_port.is_empty() {
        let (name, port) = named(&head.headers, secure);
        pair(b"SERVER_NAME", name.as_bytes());
        pair(b"SERVER_PORT", port.as_bytes());
    } else {
        pair(b"SERVER_NAME", ends.server.as_bytes());
        pair(b"SERVER_PORT", ends.server_port.as_bytes());
    }
    pair(
        b"SERVER_PROTOCOL",
        match head.version {
            http::Version::HTTP_10 => b"HTTP/1.0",
            _ => b"HTTP/1.1",
        },
    );
    pair(
        b"SERVER_SOFTWARE",
        concat!("circ/", env!("CARGO_PKG_VERSION")).as_bytes(),
    );
    let remote = match (forwarded.remote, ends.remote) {
        (Some(said), _) => said.to_string(),
        (None, Some(address)) => address.to_canonical().to_string(),
        (None, None) => String::new(),
    };
    pair(b"REMOTE_ADDR", remote.as_bytes());
    pair(b"wsgi.url_scheme", if secure { b"https" } else { b"http" });
    headers(out, &head.headers, trusted);
    for (name, value) in [
        ("wsgi.multithread", site.multithread),
        ("wsgi.multiprocess", site.multiprocess),
        ("wsgi.run_once", false),
        ("wsgi.input_terminated", true),
    ] {
        out.latin1(name.as_bytes());
        out.bool(value);
    }
}

/// Name and port of a server that does not know them, as the client says; never empty, as PEP 3333 wants it.
pub(super) fn named(headers: &HeaderMap, secure: bool) -> (String, String) {
    let usual = if secure { "443" } else { "80" };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .filter(|host| !host.is_empty());
    let host = host.unwrap_or("localhost");
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (name.to_string(), port.to_string())
        }
        _ => (host.to_string(), usual.to_string()),
    }
}

/// Headers of the connection to the peer, or that stand under another name in the environ.
fn is_no_http_variable(name: &HeaderName) -> bool {
    *name == header::CONTENT_LENGTH || *name == header::TRANSFER_ENCODING || *name == "proxy"
}

fn headers(out: &mut Writer, headers: &HeaderMap, trusted: bool) {
    let mut rest = headers.iter().peekable();
    let mut joined = Vec::new();
    while let Some((name, value)) = rest.next() {
        let text = name.as_str().as_bytes();
        let forged = !trusted && text.starts_with(b"x-forwarded-");
        joined.clear();
        // values of the same name come one after the other
        while let Some((_, more)) = rest.next_if(|(next, _)| *next == name) {
            if joined.is_empty() {
                joined.extend_from_slice(value.as_bytes());
            }
            let between: &[u8] = if *name == header::COOKIE { b"; " } else { b"," };
            joined.extend_from_slice(between);
            joined.extend_from_slice(more.as_bytes());
        }
        // `X_Y` would become the same variable as `X-Y`
        if forged || text.contains(&b'_') || is_no_http_variable(name) {
            continue;
        }
        if *name == header::CONTENT_TYPE {
            out.latin1(b"CONTENT_TYPE");
        } else {
            let mut variable = [0u8; 128];
            let long;
            let variable: &[u8] = match variable.get_mut(..text.len() + 5) {
                Some(place) => {
                    upper(text, place);
                    place
                }
                None => {
                    let mut place = vec![0; text.len() + 5];
                    upper(text, &mut place);
                    long = place;
                    &long
                }
            };
            out.latin1(variable);
        }
        out.latin1(if joined.is_empty() {
            value.as_bytes()
        } else {
            &joined
        });
    }
}

/// `HTTP_` and the name of a header.
fn upper(name: &[u8], into: &mut [u8]) {
    let (prefix, rest) = into.split_at_mut(5);
    prefix.copy_from_slice(b"HTTP_");
    for (to, from) in rest.iter_mut().zip(name) {
        *to = match from {
            b'-' => b'_',
            other => other.to_ascii_uppercase(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// What this one is told the environ is; true if it was written for this head.
    fn written(last: &mut Last, head: &Parts) -> (Bytes, bool) {
        let mut wrote = false;
        let environ = last.environ(head, |out| {
            wrote = true;
            write(out, head, &Ends::default(), &Site::default());
        });
        let mut fresh = Writer::new();
        write(&mut fresh, head, &Ends::default(), &Site::default());
        assert_eq!(environ, fresh.into_bytes());
        (environ, wrote)
    }

    #[test]
    fn what_a_connection_says_again_is_written_once() {
        let mut last = Last::default();
        let headers = [("host", "a"), ("accept", "*/*"), ("cookie", "b=1")];
        let usual = head("GET", "/", &headers);
        let (_, wrote) = written(&mut last, &usual);
        assert!(wrote);
        // kept from the second on, whatever the target is
        assert!(written(&mut last, &head("GET", "/x", &headers)).1);
        assert!(!written(&mut last, &head("GET", "/x?y=z", &headers)).1);
        assert!(!written(&mut last, &usual).1);
    }

    #[test]
    fn whatever_differs_is_written() {
        let headers = [("host", "a"), ("accept", "*/*")];
        let usual = head("GET", "/", &headers);
        let mut http10 = head("GET", "/", &headers);
        http10.version = Version::HTTP_10;
        for other in [
            head("POST", "/", &headers),
            http10,
            head("GET", "/", &[]),
            head("GET", "/", &headers[..1]),
            head("GET", "/", &[("host", "a"), ("accept", "*/*"), ("x", "")]),
            head("GET", "/", &[("host", "a"), ("accept", "*/")]),
            head("GET", "/", &[("host", "a"), ("accept", "*/**")]),
            head("GET", "/", &[("host", "a"), ("accept-x", "*/*")]),
            head("GET", "/", &[("accept", "*/*"), ("host", "a")]),
            head("GET", "/", &[("host", "aaccept"), ("accept", "*/*")]),
            head(
                "GET",
                "/",
                &[("host", "a"), ("accept", "*/*"), ("accept", "b")],
            ),
        ] {
            let mut last = Last::default();
            for _ in 0..3 {
                written(&mut last, &usual);
            }
            assert!(!written(&mut last, &usual).1);
            assert!(written(&mut last, &other).1, "{:?}", other.headers);
            assert!(written(&mut last, &usual).1);
        }
    }

    #[test]
    fn a_target_that_says_nothing_more_is_not_sent_twice() {
        let site = |script_name: &str| Site {
            script_name: script_name.to_string(),
            ..Site::default()
        };
        let told = |uri: &str, site: &Site| {
            let Target { path, query, uri } = target(&head("GET", uri, &[]), site);
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (text(path), text(query), uri.map(text))
        };
        let plain = |path: &str, query: &str| (path.to_string(), query.to_string(), None);
        let other = |path: &str, query: &str, uri: &str| {
            (path.to_string(), query.to_string(), Some(uri.to_string()))
        };
        assert_eq!(told("/", &site("")), plain("/", ""));
        assert_eq!(told("/a?b=%20", &site("")), plain("/a", "b=%20"));
        assert_eq!(told("/a?", &site("")), other("/a", "", "/a?"));
        assert_eq!(told("/a%20b?c", &site("")), other("/a b", "c", "/a%20b?c"));
        assert_eq!(told("/m/a?c", &site("/m")), other("/a", "c", "/m/a?c"));
        assert_eq!(told("/ma", &site("/m")), other("/ma", "", "/ma"));
    }
}
