//! What the kernel and the system say about processes and users: `/proc` sampling in the words of
//! Circus's `stats`, once for everybody, and the user database it needs.
//!
//! A [`Pass`] is one walk over `/proc`; a [`Sampler`] turns it into the replies Circus gives (which
//! are psutil's numbers in `circus.util.get_info`'s format), remembering what CPU percentages need.
//! Both do blocking reads: they belong on a thread of their own.

pub mod front;
pub mod names;
pub mod queues;

mod fronts;
mod interest;
mod pass;
mod round;
mod sampler;
mod tree;

pub use fronts::{Fronts, Seen};
pub use interest::Interest;
pub use pass::{Pass, ProcStat};
pub use round::{Group, Member, Round, SocketReads};
pub use sampler::{GONE, Sampler, Usage, human_bytes};
pub use tree::descendants;
