//! The WSGI server: `circ chaussette`.
//!
//! # Theory of operation
//!
//! One process speaks HTTP (the *front*, hyper on one event loop), one or more processes of Python run the application
//! (the *workers*, `worker.py`, a text in this binary). A client costs no Python until its request is whole.
//!
//! * The front makes the environ of PEP 3333 in the form of Python's `marshal`, which the worker loads in one call. Most
//!   requests of a client have the same environ but for path and query: the worker keeps such environs ([`templates`]),
//!   and copies them.
//! * Requests go to a worker in packets on a SOCK_SEQPACKET pair: a fast application gets many in one packet, a slow
//!   one gets one at a time, so that nobody waits behind it while another worker is idle ([`pool`]). When there is only one
//!   client, and it is quick, the front does not sleep between its requests (`awake`).
//! * Answers come in a ring of memory that both share; a packet says how far it is filled. What a worker has finished is
//!   therefore there even if it dies before it can say so: its death costs the request it was at, and no other.
//! * Large bodies of requests are in a file without a name, passed by descriptor. Bodies of answers that are long or come
//!   bit by bit are streams, with a window: an application does not run ahead of its client.

pub mod access;
mod answering;
pub mod asgi;
mod awake;
pub mod counts;
pub mod environ;
pub mod forwarded;
pub mod front;
pub mod guard;
pub mod job;
pub mod listen;
pub mod marshal;
pub mod mongrel2;
pub mod pool;
pub mod record;
pub mod reply;
pub mod sendfile;
mod slot;
mod taking;
pub mod templates;
pub mod worker;
