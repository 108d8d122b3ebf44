//! From the head of an HTTP request to the scope of ASGI, in the form that the worker loads.

use crate::wsgi::environ::{Ends, Site, Target, unquote};
use crate::wsgi::forwarded::Forwarded;
use crate::wsgi::marshal::Writer;
use http::header;
use http::request::Parts;

/// The target of a request: path and query as the scope has them.
pub fn target(head: &Parts, site: &Site) -> Target {
    let raw = head.uri.path().as_bytes();
    let path = unquote(raw);
    let mount = site.script_name.as_bytes();
    let mounted = match path.strip_prefix(mount) {
        Some(rest) => rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    };
    let (path, raw) = if mounted {
        (path, raw.to_vec())
    } else {
        // a proxy has taken it off; in the scope, `path` begins with `root_path`
        ([mount, &path].concat(), [mount, raw].concat())
    };
    Target {
        path,
        query: head.uri.query().unwrap_or_default().as_bytes().to_vec(),
        uri: Some(raw),
    }
}

/// Writes the scope without what [`Target`] and the connection's port say: the same for most requests of a client.
pub fn write(out: &mut Writer, head: &Parts, ends: &Ends, site: &Site, socket: bool) {
    let trusted = site.trusted.has(ends.remote);
    let forwarded = trusted.then(|| Forwarded::of(&head.headers, &site.trusted));
    let forwarded = forwarded.unwrap_or_default();
    let mut pair = |name: &str, value: &str| {
        out.text(name);
        out.text(value);
    };
    pair("type", if socket { "websocket" } else { "http" });
    let version = match head.version {
        http::Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    pair("http_version", version);
    let scheme = match (socket, forwarded.https) {
        (false, false) => "http",
        (false, true) => "https",
        (true, false) => "ws",
        (true, true) => "wss",
    };
    pair("scheme", scheme);
    pair("root_path", &site.script_name);
    if !socket {
        pair("method", head.method.as_str());
    }
    out.text("server");
    out.tuple(2);
    out.text(&ends.server);
    match ends.server_port.parse() {
        Ok(port) => out.int(port),
        Err(_) => out.none(),
    }
    out.text("client");
    match (forwarded.remote, ends.remote) {
        (Some(said), _) => {
            // its port is not known
            out.tuple(2);
            out.text(&said.to_string());
            out.int(0);
        }
        // with its port, which differs from connection to connection, it becomes a pair
        (None, Some(address)) => out.text(&address.to_string()),
        (None, None) => out.none(),
    }
    out.text("headers");
    let at = out.list();
    let mut count = 0;
    for (name, value) in &head.headers {
        let name = name.as_str().as_bytes();
        if !trusted && name.starts_with(b"x-forwarded-") {
            continue;
        }
        out.tuple(2);
        out.bytes(name);
        out.bytes(value.as_bytes());
        count += 1;
    }
    out.list_length(at, count);
    if socket {
        out.text("subprotocols");
        let at = out.list();
        let mut count = 0;
        for word in head
            .headers
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            out.text(word);
            count += 1;
        }
        out.list_length(at, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn head(uri: &str) -> Parts {
        Request::get(uri).body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_path_begins_with_the_root_path() {
        let site = Site {
            script_name: "/app".to_string(),
            ..Site::default()
        };
        let paths = |uri: &str| {
            let target = target(&head(uri), &site);
            let text = |bytes| String::from_utf8(bytes).unwrap();
            let uri = target.uri.unwrap_or_default();
            (text(target.path), text(uri), text(target.query))
        };
        let three = |a: &str, b: &str, c: &str| (a.to_string(), b.to_string(), c.to_string());
        assert_eq!(
            paths("/app/x%20y?q=%20"),
            three("/app/x y", "/app/x%20y", "q=%20")
        );
        assert_eq!(paths("/x%2Fy"), three("/app/x/y", "/app/x%2Fy", ""));
        assert_eq!(
            paths("/application"),
            three("/app/application", "/app/application", "")
        );
        assert_eq!(paths("/app"), three("/app", "/app", ""));
    }
}
