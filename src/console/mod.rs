//! The web console: pages, an API and metrics over HTTP, for a browser, a program, Prometheus. A process of its own, and a
//! client of daemons as any other: it knows them through [`crate::wire`], and edits through [`crate::state`].
//!
//! From the outside in:
//!
//! * [`server`]: connections, and the way of a request through the rest;
//! * [`access`] decides who may do what (pure), [`credentials`] reads passwords and tokens, [`guesses`] slows down who tries;
//! * [`routes`] is the table of everything that can be asked for; [`openapi`] is made from it and from the table of commands;
//! * [`handlers`] answers; [`bodies`] reads what came with a request, strictly; [`problem`] says what went wrong (RFC 9457);
//! * [`hub`] holds the daemons; [`snapshot`] is one of them at a moment; [`feeds`] shares what many viewers watch;
//! * [`logs`] follows what workers say; [`edits`] changes options by way of the state room;
//! * [`scrape`] gathers what [`exposition`] makes the text of `/metrics` of;
//! * [`page`] holds the files of the page, which are part of the program.

pub mod access;
mod bodies;
pub mod credentials;
mod edits;
pub mod exposition;
mod feeds;
mod guesses;
mod handlers;
mod http;
pub mod hub;
pub mod logs;
pub mod openapi;
mod page;
mod problem;
pub mod routes;
pub mod scrape;
pub mod server;
pub mod snapshot;
mod usage;
pub mod way;
