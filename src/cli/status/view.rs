//! What a person has chosen with keys while `circ status --watch` runs: the order, how far down, whether it stands still. Pure.

use std::cmp::Ordering;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::picture::Watcher;
use crate::cli::paint::Tone;

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    #[default]
    Name,
    Trouble,
    Cpu,
    Memory,
    Restarts,
    Uptime,
}

impl Order {
    const ALL: [Order; 6] = [
        Order::Name,
        Order::Trouble,
        Order::Cpu,
        Order::Memory,
        Order::Restarts,
        Order::Uptime,
    ];

    fn next(self) -> Order {
        let at = Order::ALL.iter().position(|order| *order == self);
        let next = at.map_or(0, |at| (at + 1) % Order::ALL.len());
        Order::ALL[next]
    }

    /// As it is told.
    pub fn words(self) -> &'static str {
        match self {
            Order::Name => "by name",
            Order::Trouble => "by trouble",
            Order::Cpu => "by CPU",
            Order::Memory => "by memory",
            Order::Restarts => "by restarts",
            Order::Uptime => "by uptime",
        }
    }

    /// Numbers begin with the greatest, uptimes with the youngest.
    fn compare(self, a: &Watcher, b: &Watcher) -> Ordering {
        let number = |a: Option<f64>, b: Option<f64>| {
            let (a, b) = (a.unwrap_or(-1.0), b.unwrap_or(-1.0));
            b.total_cmp(&a)
        };
        match self {
            Order::Name => a.name.cmp(&b.name),
            Order::Trouble => badness(a).cmp(&badness(b)),
            Order::Cpu => number(a.cpu, b.cpu),
            Order::Memory => number(a.memory, b.memory),
            Order::Restarts => b.restarts.cmp(&a.restarts),
            Order::Uptime => {
                let age = |watcher: &Watcher| watcher.uptime.unwrap_or(f64::INFINITY);
                age(a).total_cmp(&age(b))
            }
        }
    }
}

fn badness(watcher: &Watcher) -> u8 {
    match watcher.tone {
        Tone::Bad => 0,
        Tone::Busy => 1,
        Tone::Faint => 3,
        _ => 2,
    }
}

/// What to do about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Paint again.
    Paint,
    /// Ask the daemon at once.
    Look,
    /// End.
    End,
    /// It is none of ours.
    Nothing,
}

/// The choices.
#[derive(Debug, Default)]
pub struct View {
    pub order: Order,
    pub reversed: bool,
    /// It stands still.
    pub paused: bool,
    /// Lines that have gone at the top.
    pub down: usize,
}

impl View {
    /// What becomes of it by a key, where so many lines have room.
    pub fn press(&mut self, key: KeyEvent, room: usize) -> Told {
        if key.kind == KeyEventKind::Release {
            return Told::Nothing;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let page = room.saturating_sub(1).max(1);
        match key.code {
            KeyCode::Char('c') if control => return Told::End,
            KeyCode::Char(_) if control => return Told::Nothing,
            KeyCode::Char('q') | KeyCode::Esc => return Told::End,
            KeyCode::Char(' ' | 'p') => {
                self.paused = !self.paused;
                if !self.paused {
                    return Told::Look;
                }
            }
            KeyCode::Char('s') => (self.order, self.reversed) = (self.order.next(), false),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Down | KeyCode::Char('j') => self.down = self.down.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.down = self.down.saturating_sub(1),
            KeyCode::PageDown => self.down = self.down.saturating_add(page),
            KeyCode::PageUp => self.down = self.down.saturating_sub(page),
            KeyCode::Home | KeyCode::Char('g') => self.down = 0,
            KeyCode::End | KeyCode::Char('G') => self.down = usize::MAX,
            _ => return Told::Nothing,
        }
        Told::Paint
    }

    /// Puts the watchers in order.
    pub fn sort(&self, watchers: &mut [Watcher]) {
        watchers.sort_by(|a, b| {
            let order = self.order.compare(a, b);
            let order = match self.reversed {
                true => order.reverse(),
                false => order,
            };
            order.then_with(|| a.name.cmp(&b.name))
        });
    }

    /// The lines that are to be seen: the first `kept` of them always, of the others as many as `room` has. The second is how
    /// many there are before and after those.
    pub fn part<'a>(
        &mut self,
        lines: &'a [String],
        kept: usize,
        room: usize,
    ) -> (Vec<&'a String>, usize, usize) {
        let (head, body) = lines.split_at(kept.min(lines.len()));
        let room = room.saturating_sub(head.len());
        if body.len() <= room {
            self.down = 0;
            return (lines.iter().collect(), 0, 0);
        }
        // a line says what there is no room for
        let room = room.saturating_sub(1);
        self.down = self.down.min(body.len() - room);
        let seen = body.iter().skip(self.down).take(room);
        let after = body.len() - room - self.down;
        (head.iter().chain(seen).collect(), self.down, after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    fn key(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    fn watchers() -> Vec<Watcher> {
        let told = [
            (
                "a",
                json!({"status": "active", "restarts": 1, "numprocesses": 0}),
            ),
            (
                "b",
                json!({"status": "active", "failures": 3, "restarts": 9}),
            ),
            ("c", json!({"status": "stopped"})),
        ];
        let made = told.iter().map(|(name, told)| {
            let told = told.as_object().cloned().unwrap_or_else(Map::new);
            super::super::picture::watcher(name, &told, None, 0.0)
        });
        let mut made: Vec<Watcher> = made.collect();
        (made[0].cpu, made[2].cpu) = (Some(1.0), Some(7.0));
        made
    }

    #[test]
    fn keys_choose_the_order() {
        let mut view = View::default();
        let names = |view: &View| {
            let mut all = watchers();
            view.sort(&mut all);
            all.iter().map(|one| one.name.as_str()).collect::<String>()
        };
        let mut seen = vec![names(&view)];
        for _ in 0..4 {
            assert_eq!(view.press(key(KeyCode::Char('s')), 9), Told::Paint);
            seen.push(names(&view));
        }
        assert_eq!(seen, ["abc", "bac", "cab", "abc", "bac"]);
        view.press(key(KeyCode::Char('r')), 9);
        assert_eq!(names(&view), "cab");
        view.press(key(KeyCode::Char('s')), 9);
        view.press(key(KeyCode::Char('s')), 9);
        assert_eq!((view.order, view.reversed), (Order::Name, false));
    }

    #[test]
    fn it_stands_still_goes_on_and_ends() {
        let mut view = View::default();
        assert_eq!(view.press(key(KeyCode::Char(' ')), 9), Told::Paint);
        assert!(view.paused);
        assert_eq!(view.press(key(KeyCode::Char(' ')), 9), Told::Look);
        assert!(!view.paused);
        assert_eq!(view.press(key(KeyCode::Char('z')), 9), Told::Nothing);
        assert_eq!(view.press(key(KeyCode::Char('q')), 9), Told::End);
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.press(control, 9), Told::End);
    }

    #[test]
    fn what_has_no_room_is_a_key_away() {
        let lines: Vec<String> = (0..10).map(|line| line.to_string()).collect();
        let mut view = View::default();
        let seen = |view: &mut View, room| {
            let (lines, before, after) = view.part(&lines, 1, room);
            let text: String = lines.into_iter().map(String::as_str).collect();
            (text, before, after)
        };
        assert_eq!(seen(&mut view, 10), ("0123456789".into(), 0, 0));
        assert_eq!(seen(&mut view, 5), ("0123".into(), 0, 6));
        view.press(key(KeyCode::Down), 5);
        assert_eq!(seen(&mut view, 5), ("0234".into(), 1, 5));
        view.press(key(KeyCode::End), 5);
        assert_eq!(seen(&mut view, 5), ("0789".into(), 6, 0));
        view.press(key(KeyCode::PageUp), 4);
        assert_eq!(seen(&mut view, 5), ("0456".into(), 3, 3));
        for room in [0, 1, 2] {
            let (text, _, _) = seen(&mut view, room);
            assert_eq!(text, "0", "{room}");
        }
        view.press(key(KeyCode::Home), 5);
        assert_eq!(seen(&mut view, 12), ("0123456789".into(), 0, 0));
    }
}
