//! The terminal of `circ status --watch`: its second screen, and keys without Enter. Given back however it ends.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use ratatui::crossterm::event::{self, Event, KeyEvent};

use crate::cli::output;

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// A terminal that is ours. Dropping it gives it back, also by a panic.
pub struct Taken {
    /// How it was, if there are keys.
    before: Option<Termios>,
}

impl Taken {
    /// Takes it. Keys come at once and are not shown; those that are signals (ctrl-C, ctrl-Z) stay so.
    pub fn take() -> Taken {
        let before = reads_keys()
            .then(|| termios::tcgetattr(io::stdin().as_fd()).ok())
            .flatten();
        if let Some(before) = &before {
            let mut quiet = before.clone();
            quiet
                .local_flags
                .remove(LocalFlags::ICANON | LocalFlags::ECHO);
            // without it keys want Enter
            let _ = termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &quiet);
        }
        output::bytes(ENTER.as_bytes());
        Taken { before }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        output::bytes(LEAVE.as_bytes());
        if let Some(before) = &self.before {
            // what was typed meanwhile was for us
            let _ = termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSAFLUSH, before);
        }
    }
}

/// Whether somebody can type.
pub fn reads_keys() -> bool {
    io::stdin().is_terminal()
}

/// Tells of keys from a thread of its own, until `tell` answers false or nobody can type any more.
pub fn hear_keys(mut tell: impl FnMut(KeyEvent) -> bool + Send + 'static) {
    if !reads_keys() {
        return;
    }
    std::thread::spawn(move || {
        loop {
            match event::read() {
                Ok(Event::Key(key)) if !tell(key) => return,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
}
