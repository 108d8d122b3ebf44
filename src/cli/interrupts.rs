//! Signals as news for a program that has something to put in order before it ends.

use nix::sys::signal::{SigSet, Signal};

/// Keeps these signals from doing what they do, in this thread and those it starts from now on, and tells of each, until
/// `tell` answers false. Without success they go on doing what they do.
pub fn hear(signals: &[Signal], mut tell: impl FnMut(Signal) -> bool + Send + 'static) {
    let mut set = SigSet::empty();
    set.extend(signals.iter().copied());
    if set.thread_block().is_err() {
        return;
    }
    std::thread::spawn(move || {
        while let Ok(signal) = set.wait() {
            if !tell(signal) {
                return;
            }
        }
    });
}
