//! The whole of what is shown: what is known of the daemon, and what the person at the keyboard has chosen so far.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::board::Board;
use super::happenings::{Happening, Happenings, Weight, parse};
use super::keys::Call;
use super::log::{Log, Voice};
use super::rows::{Choice, Row, arrange};

/// Seconds for which the outcome of a wish is shown.
const SAID: f64 = 8.0;

/// What the daemon says, and what becomes of the connection to it.
#[derive(Debug)]
pub enum News {
    /// The daemon answers; the reply to `identity`, which a circusd does not know.
    Here(Option<Map<String, Value>>),
    /// It does not; why.
    Away(String),
    /// The reply to `status`.
    Status(Map<String, Value>),
    /// How many processes a watcher shall have.
    Wanted(String, i64),
    /// The `infos` of a reply to `stats`.
    Stats(Map<String, Value>),
    /// The `info` of a reply to `dstats`.
    Daemon(Map<String, Value>),
    /// The `sockets` of a reply to `listsockets`.
    Sockets(Vec<Value>),
    /// How many connections wait at the socket with this descriptor.
    Waiting(i64, Option<u32>),
    /// A message of published statistics.
    Published(Vec<u8>, Vec<u8>),
    /// Where statistics come from from now on.
    Source(Source),
    /// An event.
    Event(Vec<u8>, Vec<u8>),
    /// Events may be missing from here on, and why; or nothing is missed any more.
    Deaf(Option<String>),
    /// What became of a wish.
    Answer(String, Weight),
    /// Lines of the log that is followed.
    Said(Vec<(Voice, String)>),
}

/// Where statistics come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nobody knows yet.
    Unknown,
    /// They are published.
    Published,
    /// The daemon does not publish them: it is asked every second.
    Asked,
}

/// The connection to the daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Link {
    /// No answer yet.
    Coming,
    /// It answers.
    Here,
    /// It does not: why, and since when.
    Away(String, f64),
}

/// What the keys are for at the moment.
#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    /// The table.
    Table,
    /// A text is typed that lines are chosen by; what was there before.
    Filter(String),
    /// The list of the keys, from this line on.
    Help(usize),
    /// What the lines are ordered by.
    Order,
    /// Which signal; for this line.
    Signal(Row, usize),
    /// Whether it is to be done.
    Sure(Call),
    /// The log of a watcher.
    Log,
}

/// What the arrow keys move in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Focus {
    /// Watchers and processes.
    Table,
    /// Sockets.
    Sockets,
    /// Events.
    Events,
}

/// How it may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// With colours.
    pub colour: bool,
    /// With characters beyond ASCII.
    pub unicode: bool,
    /// No cursor and no hint at keys: nobody types.
    pub still: bool,
    /// What changes anything is left out.
    pub read_only: bool,
    /// Seconds that the clock on the wall is ahead of Greenwich.
    pub east: i64,
}

/// Work that was done, for tests: it must not grow with what is not seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// How often the lines were put in order.
    pub arranged: usize,
    /// Lines that were made, of the table and the panes.
    pub lines: usize,
}

/// Everything that is shown and chosen.
#[derive(Debug)]
pub struct Screen {
    /// What is known of the daemon.
    pub board: Board,
    /// Its events.
    pub happenings: Happenings,
    /// The connection.
    pub link: Link,
    /// Where statistics come from.
    pub source: Source,
    /// Why events may be missing.
    pub deaf: Option<String>,
    /// Which lines are shown.
    pub choice: Choice,
    /// What the keys are for.
    pub mode: Mode,
    /// What the arrow keys move in.
    pub focus: Focus,
    /// The log that is followed.
    pub log: Option<Log>,
    /// The daemon's address, as it is shown.
    pub address: String,
    /// How it may look.
    pub look: Look,
    /// The first line of the sockets that is seen.
    pub sockets_from: usize,
    /// How many newer events are above those that are seen.
    pub events_from: usize,
    /// What has been done for all frames so far.
    pub work: Work,
    rows: Vec<Row>,
    arranged: Option<(u64, Choice)>,
    cursor: usize,
    cursor_row: Option<Row>,
    /// The cursor has been moved.
    moved: bool,
    /// The first line of the table that is seen.
    from: usize,
    /// Lines of the table that there was room for.
    pub(super) page: usize,
    said: Option<(String, Weight, f64)>,
    /// Events have been heard before.
    listened: bool,
    now: f64,
}

impl Screen {
    /// Nothing is known yet of the daemon at `address`.
    pub fn new(address: String, look: Look, now: f64) -> Self {
        Self {
            board: Board::default(),
            happenings: Happenings::default(),
            link: Link::Coming,
            source: Source::Unknown,
            deaf: Some("not connected yet".to_string()),
            listened: false,
            choice: Choice::default(),
            mode: Mode::Table,
            focus: Focus::Table,
            log: None,
            address,
            look,
            sockets_from: 0,
            events_from: 0,
            work: Work::default(),
            rows: Vec::new(),
            arranged: None,
            cursor: 0,
            cursor_row: None,
            moved: false,
            from: 0,
            page: 1,
            said: None,
            now,
        }
    }

    /// Takes news.
    pub fn hear(&mut self, news: News, now: f64) {
        self.now = now;
        match news {
            News::Here(identity) => {
                self.board.take_identity(identity.as_ref());
                self.link = Link::Here;
            }
            News::Away(why) => {
                let since = match &self.link {
                    Link::Away(_, since) => *since,
                    _ => {
                        self.note("the daemon does not answer".to_string(), Weight::Bad);
                        now
                    }
                };
                self.link = Link::Away(why, since);
                if let Mode::Sure(_) | Mode::Signal(..) = self.mode {
                    self.mode = Mode::Table;
                }
            }
            News::Status(reply) => self.board.take_status(&reply, now),
            News::Wanted(name, wanted) => self.board.take_wanted(&name, wanted),
            News::Stats(infos) => self.board.take_stats(&infos, now),
            News::Daemon(info) => self.board.take_daemon(&info, now),
            News::Sockets(sockets) => self.board.take_sockets(&sockets, now),
            News::Waiting(fd, waiting) => self.board.take_waiting(fd, waiting),
            News::Published(topic, payload) => {
                self.board.take_published(&topic, &payload, now);
            }
            News::Source(source) => self.source = source,
            News::Event(topic, payload) => self.event(&topic, &payload),
            News::Deaf(why) => {
                if self.deaf.is_some() && why.is_none() && self.listened {
                    let words = "events are heard again; some may be missing above".to_string();
                    self.note(words, Weight::Bad);
                }
                self.listened |= why.is_none();
                self.deaf = why;
            }
            News::Answer(words, weight) => self.said = Some((words, weight, now + SAID)),
            News::Said(lines) => {
                for (voice, line) in lines {
                    if let Some(log) = &mut self.log {
                        log.push(voice, &line);
                    }
                }
            }
        }
    }

    /// A second has gone by.
    pub fn tick(&mut self, now: f64) {
        self.now = now;
        if self.link == Link::Here {
            self.board.tick(now);
        }
        if self.said.as_ref().is_some_and(|(.., until)| *until < now) {
            self.said = None;
        }
    }

    /// Seconds since the epoch when something happened last.
    pub fn now(&self) -> f64 {
        self.now
    }

    /// What became of the last wish.
    pub fn said(&self) -> Option<(&str, Weight)> {
        let (words, weight, _) = self.said.as_ref()?;
        Some((words, *weight))
    }

    pub(super) fn say(&mut self, words: &str, weight: Weight) {
        self.said = Some((words.to_string(), weight, self.now + SAID));
    }

    fn event(&mut self, topic: &[u8], payload: &[u8]) {
        let Some((watcher, action, payload)) = parse(topic, payload) else {
            return;
        };
        let name = self
            .board
            .take_event(&watcher, &action, &payload, self.now)
            .unwrap_or_else(|| watcher.into());
        let happening = Happening::told(&name, &action, &payload, self.now);
        self.remember(happening);
    }

    fn note(&mut self, words: String, weight: Weight) {
        self.remember(Happening {
            time: self.now,
            watcher: String::new(),
            words,
            weight,
        });
    }

    fn remember(&mut self, happening: Happening) {
        self.happenings.push(happening);
        if self.events_from > 0 {
            // what is looked at stays where it is
            self.events_from = (self.events_from + 1).min(self.happenings.len().saturating_sub(1));
        }
    }

    /// The lines of the table, with the cursor on the line that it was on, wherever that is now.
    pub fn rows(&mut self) -> &[Row] {
        self.put_in_order();
        &self.rows
    }

    pub(super) fn put_in_order(&mut self) {
        let changes = self.board.changes();
        let fresh = self
            .arranged
            .as_ref()
            .is_some_and(|(seen, choice)| *seen == changes && *choice == self.choice);
        if fresh {
            return;
        }
        self.rows = arrange(&self.board, &self.choice);
        self.work.arranged += 1;
        self.arranged = Some((changes, self.choice.clone()));
        let found = self.cursor_row.as_ref().and_then(|row| {
            let exactly = self.rows.iter().position(|other| other == row);
            // a process that has gone leaves the cursor on its watcher only if its line has gone with it
            exactly.or_else(|| {
                let folded = |other: &Row| other.watcher == row.watcher && other.pid.is_none();
                let near = self.rows.get(self.cursor);
                let near = near.is_some_and(|near| near.watcher == row.watcher);
                match near {
                    true => Some(self.cursor),
                    false => self.rows.iter().position(folded),
                }
            })
        });
        let unmoved = if self.moved { self.cursor } else { 0 };
        self.place(found.unwrap_or(unmoved));
    }

    /// The line under the cursor.
    pub fn selected(&mut self) -> Option<Row> {
        self.put_in_order();
        self.rows.get(self.cursor).cloned()
    }

    /// Puts the cursor on this line, or the last one.
    pub(super) fn place(&mut self, line: usize) {
        self.cursor = line.min(self.rows.len().saturating_sub(1));
        // until somebody moves it, it stays at the top, whatever is there
        let row = self.rows.get(self.cursor).filter(|_| self.moved);
        self.cursor_row = row.cloned();
    }

    /// Moves the cursor by so many lines.
    pub(super) fn move_by(&mut self, lines: isize) {
        self.put_in_order();
        self.moved = true;
        self.place(self.cursor.saturating_add_signed(lines));
    }

    /// Which lines of the table are seen where there is room for so many, and which of those the cursor is on.
    pub(super) fn window(&mut self, height: usize) -> (Vec<Row>, Option<usize>) {
        self.put_in_order();
        self.page = height.max(1);
        if self.cursor < self.from {
            self.from = self.cursor;
        }
        if self.cursor >= self.from + height {
            self.from = (self.cursor + 1).saturating_sub(height);
        }
        // no empty lines below while there are some above
        self.from = self.from.min(self.rows.len().saturating_sub(height));
        let rows: Vec<Row> = self
            .rows
            .iter()
            .skip(self.from)
            .take(height)
            .cloned()
            .collect();
        let cursor = (!rows.is_empty()).then(|| self.cursor.saturating_sub(self.from));
        (rows, cursor)
    }

    /// How many lines are above those that are seen, and how many there are.
    pub(super) fn place_of_window(&self) -> (usize, usize) {
        (self.from, self.rows.len())
    }

    /// Follows what this watcher says.
    pub(super) fn open_log(&mut self, watcher: Arc<str>) {
        self.log = Some(Log::new(watcher));
        self.mode = Mode::Log;
    }
}
