//! The terminal: taken over for the screen, and given back however this ends: by a key, a signal, a stop or a panic.

use std::io::{self, IsTerminal, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use crate::top::{Screen, view};

/// A terminal with our screen on it. Dropping it gives it back.
pub struct Taken {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

/// Why there can be no screen, if so.
pub fn unfit() -> Option<&'static str> {
    if !io::stdout().is_terminal() {
        return Some("standard output is no terminal; `circ top --once` prints one screen as text");
    }
    if std::env::var("TERM").is_ok_and(|term| term == "dumb") {
        return Some("TERM=dumb cannot paint; `circ top --once` prints one screen as text");
    }
    None
}

impl Taken {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// There is none, or it has gone.
    pub fn take() -> io::Result<Taken> {
        enable_raw_mode()?;
        OURS.store(true, Ordering::Release);
        let entered = execute!(io::stdout(), EnterAlternateScreen, Hide);
        let terminal = entered.and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        match terminal {
            Ok(terminal) => Ok(Taken { terminal }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    /// Paints.
    ///
    /// # Errors
    /// The terminal has gone.
    pub fn paint(&mut self, screen: &mut Screen) -> io::Result<()> {
        self.terminal.draw(|frame| {
            let area = frame.area();
            view::draw(screen, area, frame.buffer_mut());
        })?;
        Ok(())
    }

    /// Nothing is known of what is on the terminal: the next painting paints all of it.
    ///
    /// # Errors
    /// The terminal has gone.
    pub fn forget(&mut self) -> io::Result<()> {
        // not the terminal's own `clear`: that asks where the cursor is, and the answer would come among the keys
        execute!(io::stdout(), Clear(ClearType::All))?;
        self.terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

/// The terminal is ours.
static OURS: AtomicBool = AtomicBool::new(false);

/// Gives it back if it is ours: a second time would put the cursor where it was before, over what has been said since.
fn give_back() {
    if OURS.swap(false, Ordering::AcqRel) {
        // a terminal that has gone needs nothing
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
        let _ = io::stdout().flush();
    }
}

/// A panic, of whatever thread, has given the terminal back.
static LOST: AtomicBool = AtomicBool::new(false);

/// Whether nothing may be painted any more.
pub fn is_lost() -> bool {
    LOST.load(Ordering::Acquire)
}

/// From here on a panic gives the terminal back before it says what has happened.
pub fn give_back_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        LOST.store(true, Ordering::Release);
        give_back();
        before(info);
    }));
}
