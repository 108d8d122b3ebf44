//! A request on its way to a worker.

use super::asgi::link::Window;
use super::environ::Target;
use super::marshal::Writer;
use super::reply::ReplyBody;
use bytes::Bytes;
use http::Response;
use std::fs::File;
use tokio::sync::oneshot;

/// The body of a request.
#[derive(Debug)]
pub enum RequestBody {
    /// There is none.
    Empty,
    /// In memory.
    Bytes(Bytes),
    /// In a file of this length.
    File(File, u64),
    /// It comes bit by bit, when a worker has the request (ASGI).
    Coming(Window),
    /// The request is for a WebSocket (ASGI).
    Socket(Window),
}

/// A request that a worker is to handle.
pub struct Job {
    /// Names and values of its environ, marshalled; see [`super::environ::write`].
    pub environ: Bytes,
    /// Where it goes.
    pub target: Target,
    /// The client's port.
    pub port: Option<u16>,
    /// Its body.
    pub body: RequestBody,
    /// Who waits for the answer.
    pub reply: oneshot::Sender<Response<ReplyBody>>,
    /// Its environ is a scope.
    pub asgi: bool,
}

impl Job {
    /// Writes what differs from one request to the next of the same client.
    pub(super) fn write_target(&self, out: &mut Writer) {
        let Target { path, query, uri } = &self.target;
        if self.asgi {
            out.text(&String::from_utf8_lossy(path));
            out.bytes(query);
            out.bytes(uri.as_deref().unwrap_or_default());
            match self.port {
                Some(port) => out.int(i64::from(port)),
                None => out.none(),
            }
        } else {
            out.latin1(path);
            out.latin1(query);
            match uri {
                Some(uri) => out.latin1(uri),
                None => out.none(),
            }
            match self.port {
                Some(port) => out.text(&port.to_string()),
                None => out.none(),
            }
        }
    }
}
