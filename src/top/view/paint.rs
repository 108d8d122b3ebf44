//! How things look: with colours or without, with all characters or those of ASCII.

use ratatui::style::{Color, Modifier, Style};

use crate::top::happenings::Weight;
use crate::top::history::History;
use crate::top::screen::Look;

/// Styles and characters.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    look: Look,
}

impl Paint {
    /// For this look.
    pub fn new(look: Look) -> Self {
        Self { look }
    }

    fn colour(self, colour: Color, without: Modifier) -> Style {
        match self.look.colour {
            true => Style::new().fg(colour),
            false => Style::new().add_modifier(without),
        }
    }

    /// What is nothing special.
    pub fn plain(self) -> Style {
        Style::new()
    }

    /// What matters.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What matters less.
    pub fn faint(self) -> Style {
        self.colour(Color::DarkGray, Modifier::DIM)
    }

    /// Headings.
    pub fn heading(self) -> Style {
        self.colour(Color::Cyan, Modifier::BOLD)
            .add_modifier(Modifier::BOLD)
    }

    /// What is well.
    pub fn good(self) -> Style {
        self.colour(Color::Green, Modifier::empty())
    }

    /// What changes, or is not as it shall be.
    pub fn warning(self) -> Style {
        self.colour(Color::Yellow, Modifier::BOLD)
    }

    /// What is wrong.
    pub fn bad(self) -> Style {
        self.colour(Color::Red, Modifier::BOLD)
    }

    /// A graph.
    pub fn graph(self) -> Style {
        self.colour(Color::Cyan, Modifier::empty())
    }

    /// The line under the cursor.
    pub fn cursor(self) -> Style {
        Style::reset().add_modifier(Modifier::REVERSED)
    }

    /// What was so when the daemon was last heard of.
    pub fn gone(self) -> Style {
        let style = Style::reset();
        match self.look.colour {
            true => style.fg(Color::DarkGray),
            false => style.add_modifier(Modifier::DIM),
        }
    }

    /// An event or an answer.
    pub fn weight(self, weight: Weight) -> Style {
        match weight {
            Weight::Usual => self.plain(),
            Weight::Good => self.good(),
            Weight::Bad => self.bad(),
        }
    }

    /// A watcher's state.
    pub fn state(self, state: &str) -> Style {
        match state {
            "active" => self.good(),
            "stopped" => self.faint(),
            _ => self.warning(),
        }
    }

    /// Before a watcher: whether it is unfolded.
    pub fn fold(self, unfolded: bool) -> &'static str {
        match (self.look.unicode, unfolded) {
            (true, true) => "▾ ",
            (true, false) => "▸ ",
            (false, true) => "- ",
            (false, false) => "+ ",
        }
    }

    /// A line across.
    pub fn across(self) -> &'static str {
        match self.look.unicode {
            true => "─",
            false => "-",
        }
    }

    /// Before what is going on.
    pub fn dot(self) -> &'static str {
        match self.look.unicode {
            true => "●",
            false => "*",
        }
    }

    /// Between things.
    pub fn between(self) -> &'static str {
        match self.look.unicode {
            true => " · ",
            false => " - ",
        }
    }

    /// The last `width` values of a history; `full` is a whole column, unless more was seen.
    pub fn spark(self, history: &History, width: usize, full: f32) -> String {
        const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        const SIGNS: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];
        let steps = match self.look.unicode {
            true => BLOCKS,
            false => SIGNS,
        };
        let step = |height: f32| {
            let at = (height * steps.len() as f32).ceil() as usize;
            steps.get(at.saturating_sub(1)).copied().unwrap_or(' ')
        };
        history
            .heights(width, full)
            .map(|height| height.map_or(' ', step))
            .collect()
    }
}
