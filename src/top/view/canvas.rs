//! A part of the screen that nothing is drawn outside of.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// Where to draw: columns and rows count from its corner, and what does not fit is left out.
pub struct Canvas<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
}

impl<'a> Canvas<'a> {
    /// This part of the buffer.
    pub fn new(buffer: &'a mut Buffer, area: Rect) -> Self {
        let area = area.intersection(buffer.area);
        Self { buffer, area }
    }

    /// Some of its rows: the first, and how many.
    pub fn part(&mut self, (from, height): (u16, u16)) -> Canvas<'_> {
        self.cut(0, from, self.area.width, height)
    }

    /// A piece of it.
    pub fn cut(&mut self, x: u16, y: u16, width: u16, height: u16) -> Canvas<'_> {
        let (x, y) = (x.min(self.area.width), y.min(self.area.height));
        let area = Rect {
            x: self.area.x + x,
            y: self.area.y + y,
            width: width.min(self.area.width - x),
            height: height.min(self.area.height - y),
        };
        Canvas {
            buffer: self.buffer,
            area,
        }
    }

    /// Columns.
    pub fn width(&self) -> u16 {
        self.area.width
    }

    /// Rows.
    pub fn height(&self) -> u16 {
        self.area.height
    }

    /// Empties it.
    pub fn clear(&mut self) {
        for position in self.area.positions() {
            if let Some(cell) = self.buffer.cell_mut(position) {
                cell.reset();
            }
        }
    }

    /// Writes a text; gives the column behind it.
    pub fn put(&mut self, x: u16, y: u16, text: &str, style: Style) -> u16 {
        self.put_within(x, y, text, u16::MAX, style)
    }

    /// Writes as much of a text as `width` columns hold; gives the column behind it.
    pub fn put_within(&mut self, x: u16, y: u16, text: &str, width: u16, style: Style) -> u16 {
        if x >= self.area.width || y >= self.area.height {
            return x;
        }
        let width = width.min(self.area.width - x);
        let (x, y) = (self.area.x + x, self.area.y + y);
        let end = self.buffer.set_stringn(x, y, text, width.into(), style).0;
        end - self.area.x
    }

    /// Writes a text so that it ends before column `end`.
    pub fn put_right(&mut self, end: u16, y: u16, text: &str, style: Style) {
        let length = u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
        self.put(end.saturating_sub(length), y, text, style);
    }

    /// Changes how a row looks.
    pub fn style_row(&mut self, y: u16, style: Style) {
        if y < self.area.height {
            let row = Rect {
                y: self.area.y + y,
                height: 1,
                ..self.area
            };
            self.buffer.set_style(row, style);
        }
    }

    /// Changes how all of it looks.
    pub fn restyle(self, style: Style) {
        self.buffer.set_style(self.area, style);
    }
}
