//! The terminal that circus-top paints on: a screen of its own while it runs, and the old one again afterwards. Where
//! standard output is no terminal, one screen follows the other as plain lines.

use std::env;
use std::io::{self, IsTerminal, Write};

use nix::sys::termios::{self, LocalFlags, SetArg, Termios};

/// Another screen, and no cursor on it.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Columns and lines where nothing tells them.
const USUAL: (usize, usize) = (80, 24);

/// Where to paint. Dropping it leaves the terminal as it was.
pub struct Terminal {
    painting: bool,
    /// What the keyboard was set to.
    keys: Option<Termios>,
}

/// Whether there is a screen to paint on.
pub fn is_painted() -> bool {
    let dumb = env::var("TERM").is_ok_and(|term| term == "dumb");
    io::stdout().is_terminal() && !dumb
}

impl Terminal {
    /// Takes the terminal over.
    pub fn enter() -> Self {
        let painting = is_painted();
        let mut terminal = Self {
            painting,
            keys: None,
        };
        if painting {
            // Keys come one by one and are not shown; where that cannot be had, `q` needs a return behind it.
            if let Ok(before) = termios::tcgetattr(io::stdin()) {
                let mut keys = before.clone();
                keys.local_flags
                    .remove(LocalFlags::ICANON | LocalFlags::ECHO);
                if termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &keys).is_ok() {
                    terminal.keys = Some(before);
                }
            }
            // a terminal that has gone shows itself when it is painted on
            let _ = write(ENTER);
        }
        terminal
    }

    /// Columns, as far as anybody knows.
    pub fn width(&self) -> usize {
        self.size().0
    }

    fn size(&self) -> (usize, usize) {
        let told = terminal_size::terminal_size_of(io::stdout())
            .map(|(width, height)| (width.0.into(), height.0.into()))
            .filter(|(width, height)| *width > 0 && *height > 0);
        let set = |name: &str| {
            let number = env::var(name).ok()?.parse::<usize>().ok()?;
            (number > 0).then_some(number)
        };
        let (width, height) = told.unwrap_or(USUAL);
        match told {
            Some(told) => told,
            None => (
                set("COLUMNS").unwrap_or(width),
                set("LINES").unwrap_or(height),
            ),
        }
    }

    /// Shows these lines, as many as there is room for.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn show(&self, lines: &[String]) -> io::Result<()> {
        if !self.painting {
            return write(&format!("{}\n", lines.join("\n")));
        }
        let height = self.size().1;
        let mut screen = String::from("\x1b[H");
        for (number, line) in lines.iter().take(height).enumerate() {
            if number > 0 {
                screen.push_str("\r\n");
            }
            // the rest of the line goes before the line comes: nothing flickers
            screen.push_str("\x1b[K");
            screen.push_str(line);
        }
        if lines.len() < height {
            screen.push_str("\r\n\x1b[J");
        }
        write(&screen)
    }

    fn leave(&mut self) {
        if self.painting {
            let _ = write(LEAVE); // as in `enter`
        }
        if let Some(before) = self.keys.take() {
            let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &before);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.leave();
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
