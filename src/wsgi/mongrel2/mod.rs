//! The application as a handler of a Mongrel2 web server: `circ m2wsgi`.
//!
//! # Theory of operation
//!
//! Mongrel2 speaks HTTP with the clients. It hands requests out in turn to whoever is connected to its PUSH socket, and
//! sends to its clients whatever is published to its SUB socket: the bytes of HTTP answers, with the client's number before
//! them. So a handler is added by starting it, anywhere, and nothing has to be told to anybody.
//!
//! * The workers are those of the front ([`super::pool`]); only how a request comes in and how its answer goes out differs.
//! * ZeroMQ has no acknowledgement here, and a subscriber that is not known yet gets nothing. So a handler first waits until
//!   Mongrel2 has subscribed to it, and only then asks for requests ([`link`]).
//! * A handler that leaves closes its half of the connection: Mongrel2 gives it no more, and what was on its way still
//!   arrives and is answered.
//! * Requests are taken in as they come: Mongrel2 deals them out in turn, whatever each handler has to do, and what would
//!   stay in the kernel's buffers would be no use to another handler.

mod http1;
mod link;
mod message;
mod serve;
mod uploads;

pub use serve::{Handler, Places};
pub use uploads::Uploads;
