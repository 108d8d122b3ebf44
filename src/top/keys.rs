//! What a key does: it changes what is shown, or it is a wish that only the outside can fulfil.

use std::sync::Arc;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::{Map, Value};

use super::happenings::{SIGNALS, Weight};
use super::rows::{By, Row};
use super::screen::{Focus, Link, Mode, Screen};

/// What somebody wants who has pressed a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// Leave.
    Quit,
    /// Stop until the shell goes on with us.
    Suspend,
    /// Paint everything anew.
    Repaint,
    /// Send the daemon a command.
    Call(Call),
    /// Follow what the processes of this watcher say.
    Follow(Arc<str>),
    /// Follow it no longer.
    Unfollow,
}

/// A command for the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Its name on the wire.
    pub command: &'static str,
    /// Its properties.
    pub properties: Map<String, Value>,
    /// What it is, such as `restart web`.
    pub words: String,
    /// What is asked before it is sent.
    pub question: String,
}

/// The keys, for the help: what is pressed, and what it does.
pub const HELP: [(&str, &str); 26] = [
    ("up down j k", "move; PgUp PgDn Home End g G as well"),
    ("Enter Space", "fold or unfold the processes of a watcher"),
    ("left right", "fold, unfold"),
    ("e", "fold or unfold all"),
    ("t", "processes alone, without their watchers"),
    ("o", "order: c CPU, m memory, n name, r restarts, u uptime"),
    ("< >", "order by the next column"),
    ("O", "the other way round"),
    ("/", "only lines with this text; Esc shows all again"),
    ("Tab", "move in the sockets and the events"),
    ("l", "follow the log of the watcher"),
    ("", ""),
    ("+ -", "one process more, one less"),
    ("s x", "start the watcher, stop it"),
    ("r", "restart: stop and start"),
    (
        "R",
        "reload: new processes first, as far as that is possible",
    ),
    (
        "K",
        "send a signal: to the process, or to all of the watcher",
    ),
    ("", "each of these asks before it does anything"),
    ("", ""),
    ("ctrl-L", "paint anew"),
    ("ctrl-Z", "stop until `fg`"),
    ("q ctrl-C", "leave"),
    ("", ""),
    ("CPU%", "100 is one whole processor"),
    (
        "READS",
        "hundredths of the last second in which somebody waited",
    ),
    ("QUEUE", "connections that wait now, of how many may wait"),
];

/// Keys of the table that are wishes for a watcher.
const COMMANDS: [(char, &str); 6] = [
    ('+', "incr"),
    ('-', "decr"),
    ('s', "start"),
    ('x', "stop"),
    ('r', "restart"),
    ('R', "reload"),
];

impl Screen {
    /// A key was pressed.
    pub fn press(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c') => return Some(Wish::Quit),
                KeyCode::Char('z') => return Some(Wish::Suspend),
                KeyCode::Char('l') => return Some(Wish::Repaint),
                _ => {}
            }
        }
        match self.mode.clone() {
            Mode::Table => return self.in_table(key),
            Mode::Filter(before) => self.in_filter(key.code, before),
            Mode::Help(from) => self.in_help(key.code, from),
            Mode::Order => self.in_order(key.code),
            Mode::Signal(row, at) => self.in_signals(key.code, row, at),
            Mode::Sure(call) => {
                self.mode = Mode::Table;
                match key.code {
                    KeyCode::Char('y' | 'Y') => return Some(Wish::Call(call)),
                    _ => self.say("nothing was done", Weight::Usual),
                }
            }
            Mode::Log => return self.in_log(key),
        }
        None
    }

    fn in_table(&mut self, key: KeyEvent) -> Option<Wish> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let page = self.page as isize;
        match key.code {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-page),
            KeyCode::PageDown => self.step(page),
            KeyCode::Char('u') if control => self.step(-page / 2),
            KeyCode::Char('d') if control => self.step(page / 2),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Enter | KeyCode::Char(' ') => self.fold(None),
            KeyCode::Left => self.fold(Some(true)),
            KeyCode::Right => self.fold(Some(false)),
            KeyCode::Char('e') => {
                self.choice.unfolded = !self.choice.unfolded;
                self.choice.touched.clear();
            }
            KeyCode::Char('t') => self.choice.flat = !self.choice.flat,
            KeyCode::Char('o') => self.mode = Mode::Order,
            KeyCode::Char('O') => self.choice.reversed = !self.choice.reversed,
            KeyCode::Char('>') => self.order(self.choice.by.step(1)),
            KeyCode::Char('<') => self.order(self.choice.by.step(By::ALL.len() - 1)),
            KeyCode::Char('/') => self.mode = Mode::Filter(self.choice.filter.clone()),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help(0),
            KeyCode::Esc => match self.focus {
                Focus::Table => self.choice.filter.clear(),
                _ => self.focus = Focus::Table,
            },
            KeyCode::Tab => self.look_at(1),
            KeyCode::BackTab => self.look_at(2),
            KeyCode::Char('l') => {
                let row = self.selected()?;
                self.open_log(row.watcher.clone());
                return Some(Wish::Follow(row.watcher));
            }
            KeyCode::Char('K') => {
                if let Some(row) = self.target() {
                    self.mode = Mode::Signal(row, 0);
                }
            }
            KeyCode::Char('=') => self.ask('+'),
            KeyCode::Char(character) => self.ask(character),
            _ => {}
        }
        None
    }

    /// The line that a command is for, if commands can be sent.
    fn target(&mut self) -> Option<Row> {
        if self.look.read_only {
            self.say("this is read-only", Weight::Bad);
            return None;
        }
        if self.link != Link::Here {
            self.say("the daemon does not answer", Weight::Bad);
            return None;
        }
        // what is done to a line keeps the cursor on it
        self.move_by(0);
        self.selected()
    }

    fn ask(&mut self, key: char) {
        let Some((_, command)) = COMMANDS.iter().find(|(character, _)| *character == key) else {
            return;
        };
        let Some(row) = self.target() else {
            return;
        };
        let name = row.watcher.to_string();
        let watcher = self.board.watchers.get(&name.to_lowercase());
        let count = watcher.map_or(0, |watcher| watcher.processes.len());
        let processes = match count {
            0 => "It has no processes".to_string(),
            1 => "Its process is".to_string(),
            count => format!("Its {count} processes are"),
        };
        let question = match (*command, count) {
            ("incr", _) => format!("Run one more process of {name}? It has {count}."),
            ("decr", _) => format!("Run one process of {name} less? It has {count}."),
            ("start", _) => format!("Start {name}?"),
            (_, 0) => format!("{} {name}? {processes}.", capital(command)),
            ("stop", _) => format!("Stop {name}? {processes} ended."),
            ("restart", _) => format!("Restart {name}? {processes} stopped and started."),
            _ => format!("Reload {name}? {processes} replaced by new ones."),
        };
        self.mode = Mode::Sure(Call {
            command,
            properties: properties([("name", name.as_str().into())]),
            words: format!("{command} {name}"),
            question,
        });
    }

    fn in_signals(&mut self, key: KeyCode, row: Row, at: usize) {
        let last = SIGNALS.len() - 1;
        self.mode = match key {
            KeyCode::Up | KeyCode::Char('k') => Mode::Signal(row, at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => Mode::Signal(row, (at + 1).min(last)),
            KeyCode::Home | KeyCode::Char('g') => Mode::Signal(row, 0),
            KeyCode::End | KeyCode::Char('G') => Mode::Signal(row, last),
            KeyCode::Enter | KeyCode::Char(' ') => match SIGNALS.get(at) {
                Some((signal, _)) => Mode::Sure(signal_call(&row, signal)),
                None => Mode::Table,
            },
            KeyCode::Esc | KeyCode::Char('q') => Mode::Table,
            _ => Mode::Signal(row, at),
        };
    }

    fn in_filter(&mut self, key: KeyCode, before: String) {
        match key {
            KeyCode::Enter => self.mode = Mode::Table,
            KeyCode::Esc => {
                self.choice.filter = before;
                self.mode = Mode::Table;
            }
            KeyCode::Backspace => {
                self.choice.filter.pop();
            }
            KeyCode::Char(character) if self.choice.filter.chars().count() < 100 => {
                self.choice.filter.push(character);
            }
            KeyCode::Up => self.step(-1),
            KeyCode::Down => self.step(1),
            _ => {}
        }
    }

    fn in_help(&mut self, key: KeyCode, from: usize) {
        let last = HELP.len() - 1;
        self.mode = match key {
            KeyCode::Up | KeyCode::Char('k') => Mode::Help(from.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => Mode::Help((from + 1).min(last)),
            KeyCode::PageUp => Mode::Help(from.saturating_sub(10)),
            KeyCode::PageDown => Mode::Help((from + 10).min(last)),
            _ => Mode::Table,
        };
    }

    fn in_order(&mut self, key: KeyCode) {
        self.mode = Mode::Table;
        let KeyCode::Char(key) = key else { return };
        if let Some((by, ..)) = By::ALL.iter().find(|(_, character, _)| *character == key) {
            self.order(*by);
        }
    }

    fn in_log(&mut self, key: KeyEvent) -> Option<Wish> {
        let page = self.page as isize;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let lines = match key.code {
            KeyCode::Up | KeyCode::Char('k') => 1,
            KeyCode::Down | KeyCode::Char('j') => -1,
            KeyCode::Char('u') if control => page / 2,
            KeyCode::Char('d') if control => -page / 2,
            KeyCode::PageUp | KeyCode::Char('b') => page,
            KeyCode::PageDown | KeyCode::Char(' ') => -page,
            KeyCode::Home | KeyCode::Char('g') => isize::MAX,
            KeyCode::End | KeyCode::Char('G' | 'F') => isize::MIN,
            KeyCode::Esc | KeyCode::Char('q' | 'l') | KeyCode::Left => {
                self.mode = Mode::Table;
                self.log = None;
                return Some(Wish::Unfollow);
            }
            _ => return None,
        };
        if let Some(log) = &mut self.log {
            log.scroll(lines);
        }
        None
    }

    fn order(&mut self, by: By) {
        self.choice.by = by;
        self.choice.reversed = false;
    }

    /// Moves in what has the focus.
    fn step(&mut self, lines: isize) {
        match self.focus {
            Focus::Table => self.move_by(lines),
            Focus::Sockets => {
                let last = self.board.sockets.len().saturating_sub(1);
                self.sockets_from = self.sockets_from.saturating_add_signed(lines).min(last);
            }
            Focus::Events => {
                let last = self.happenings.len().saturating_sub(1);
                self.events_from = self.events_from.saturating_add_signed(lines).min(last);
            }
        }
    }

    fn look_at(&mut self, places: usize) {
        const PANES: [Focus; 3] = [Focus::Table, Focus::Sockets, Focus::Events];
        let at = PANES.iter().position(|pane| *pane == self.focus);
        let next = (at.unwrap_or(0) + places) % PANES.len();
        self.focus = PANES.get(next).copied().unwrap_or(Focus::Table);
        if self.focus == Focus::Sockets && self.board.sockets.is_empty() {
            self.look_at(places);
        }
    }

    /// Folds or unfolds the watcher under the cursor; the other way without a direction.
    fn fold(&mut self, folded: Option<bool>) {
        self.move_by(0);
        let Some(row) = self.selected() else { return };
        if self.choice.flat {
            return;
        }
        let key = row.watcher.to_lowercase();
        let unfolded = self.choice.is_unfolded(&key);
        if folded == Some(!unfolded) {
            return;
        }
        if !self.choice.touched.remove(&key) {
            self.choice.touched.insert(key);
        }
    }
}

fn signal_call(row: &Row, signal: &str) -> Call {
    let name = row.watcher.to_string();
    let mut properties = properties([
        ("name", name.as_str().into()),
        ("signum", signal.to_lowercase().into()),
    ]);
    let (words, question) = match row.pid {
        Some(pid) => {
            properties.insert("pid".to_string(), pid.into());
            (
                format!("signal {name} {pid} {signal}"),
                format!("Send SIG{signal} to process {pid} of {name}?"),
            )
        }
        None => (
            format!("signal {name} {signal}"),
            format!("Send SIG{signal} to all processes of {name}?"),
        ),
    };
    Call {
        command: "signal",
        properties,
        words,
        question,
    }
}

fn properties<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    let pairs = pairs.into_iter();
    pairs.map(|(key, value)| (key.to_string(), value)).collect()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests;
