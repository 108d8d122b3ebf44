//! Something that lives in the daemon's process beside it and speaks to it as any client does: an agent. The daemon
//! knows no more of it than when to tell it what.

use crate::config::CircusOptions;

/// Lives beside the daemon. Nothing in here may block or panic: it is called by the supervision thread, except for
/// [`Companion::leave`].
pub trait Companion: Send {
    /// The daemon listens and is about to start its watchers. These are the options of `[circus]` that it goes by.
    fn ready(&mut self, circus: &CircusOptions);
    /// The configuration, or a part of it, was read anew and holds. Its endpoints may have moved; what the daemon cannot
    /// change while it runs is as before.
    fn reloaded(&mut self, circus: &CircusOptions);
    /// The daemon begins to stop its watchers: nobody must start them again.
    fn ending(&mut self);
    /// The daemon has stopped its watchers and waits a moment for what is half done.
    fn leave(&mut self);
}
