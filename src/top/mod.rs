//! The terminal view of a daemon: what is known of it, what a key does, and how a screen of it looks. No I/O and no
//! clock: `cli::top` brings what the daemon says and what is typed, asks for what is wished, and gives the frame to draw on.
//!
//! * [`board`]: watchers, processes, sockets and the daemon itself, from replies, statistics and events;
//! * [`happenings`]: the events, in words;
//! * [`rows`]: which lines the table has: order, filter, what is unfolded;
//! * [`screen`]: all of it together, and what has been typed so far;
//! * [`keys`]: what a key does, and the wishes that come of it;
//! * [`view`]: the drawing. Only lines that are seen are made;
//! * [`history`], [`numbers`]: values over time, and as text.

pub mod board;
pub mod happenings;
pub mod history;
pub mod keys;
pub mod log;
pub mod numbers;
pub mod rows;
pub mod screen;
pub mod view;

pub use board::Board;
pub use keys::Wish;
pub use screen::{News, Screen};
