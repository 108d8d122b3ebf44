//! The drawing of a screen. It fits whatever room there is, and makes no line that is not seen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::screen::{Focus, Link, Mode, Screen};

mod boxes;
mod canvas;
mod columns;
mod head;
mod paint;
mod panes;
mod table;

use canvas::Canvas;
use paint::Paint;

/// Rows of the screen from which on there is more than the table.
const ROOMY: u16 = 16;

/// Draws the screen into this part of the buffer.
pub fn draw(screen: &mut Screen, area: Rect, buffer: &mut Buffer) {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return;
    }
    let paint = Paint::new(screen.look);
    let mut canvas = Canvas::new(buffer, area);
    canvas.clear();
    let rooms = Rooms::of(screen, area.height);
    let mut top = 0;
    let mut next = |height: u16| {
        let from = top;
        top += height;
        (from, height)
    };
    head::draw(screen, &paint, &mut canvas.part(next(rooms.head)));
    match screen.mode {
        Mode::Log => panes::log(screen, &paint, &mut canvas.part(next(rooms.table))),
        _ => table::draw(screen, &paint, &mut canvas.part(next(rooms.table))),
    }
    panes::sockets(screen, &paint, &mut canvas.part(next(rooms.sockets)));
    panes::events(screen, &paint, &mut canvas.part(next(rooms.events)));
    if let Link::Away(..) = screen.link {
        // the last picture, and that it is the last
        let body = canvas.part((0, rooms.before_foot()));
        body.restyle(paint.gone());
    }
    head::foot(screen, &paint, &mut canvas.part(next(rooms.foot)));
    boxes::draw(screen, &paint, &mut canvas.part((0, rooms.before_foot())));
}

/// How many rows each part has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rooms {
    head: u16,
    table: u16,
    sockets: u16,
    events: u16,
    foot: u16,
}

impl Rooms {
    fn of(screen: &Screen, height: u16) -> Rooms {
        let foot = match screen.look.still {
            true => 0,
            false => u16::from(height > 2),
        };
        let head = match height {
            0..=7 => 1.min(height),
            _ => 2,
        };
        let left = height.saturating_sub(head + foot);
        let mut rooms = Rooms {
            head,
            table: left,
            sockets: 0,
            events: 0,
            foot,
        };
        let many = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let focus = match screen.mode {
            Mode::Log => return rooms,
            _ => screen.focus,
        };
        if screen.look.still {
            // as high as it takes: every line is shown
            let sockets = screen.board.sockets.len();
            rooms.sockets = if sockets > 0 {
                many(sockets).saturating_add(2)
            } else {
                0
            };
            rooms.table = left.saturating_sub(rooms.sockets);
            return rooms;
        }
        if height < ROOMY {
            // what is looked at takes the place of the table
            match focus {
                Focus::Table => {}
                Focus::Sockets => (rooms.table, rooms.sockets) = (0, left),
                Focus::Events => (rooms.table, rooms.events) = (0, left),
            }
            return rooms;
        }
        let share = |wanted: bool, usual: u16| if wanted { left / 2 } else { usual };
        if !screen.board.sockets.is_empty() {
            let most = share(focus == Focus::Sockets, left / 5);
            rooms.sockets = (many(screen.board.sockets.len()).saturating_add(2)).min(most.max(3));
        }
        rooms.events = share(focus == Focus::Events, (left / 4).clamp(3, 10));
        rooms.table = left.saturating_sub(rooms.sockets + rooms.events);
        rooms
    }

    fn before_foot(self) -> u16 {
        self.head + self.table + self.sockets + self.events
    }
}

/// How many rows it takes to show everything to nobody who types.
pub fn full_height(screen: &mut Screen) -> u16 {
    let sockets = match screen.board.sockets.len() {
        0 => 0,
        count => count + 2,
    };
    let rows = screen.rows().len().max(1) + 1;
    u16::try_from((2 + rows + sockets).max(8)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
