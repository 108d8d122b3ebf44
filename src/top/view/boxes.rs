//! What lies over the rest: help, choices, and whether one is sure.

use ratatui::style::Style;

use super::canvas::Canvas;
use super::paint::Paint;
use crate::top::happenings::SIGNALS;
use crate::top::keys::HELP;
use crate::top::rows::By;
use crate::top::screen::{Mode, Screen};

/// Draws it, if there is something.
pub fn draw(screen: &mut Screen, paint: &Paint, canvas: &mut Canvas<'_>) {
    match &screen.mode {
        Mode::Table | Mode::Filter(_) | Mode::Log => {}
        Mode::Help(from) => {
            let lines: Vec<(String, Style)> = HELP
                .iter()
                .map(|(key, words)| (format!("{key:<12}  {words}"), paint.plain()))
                .collect();
            paper(paint, canvas, "keys", &lines, *from, "any key closes");
        }
        Mode::Order => {
            let lines: Vec<(String, Style)> = By::ALL
                .iter()
                .map(|(by, key, word)| {
                    let style = match *by == screen.choice.by {
                        true => paint.strong(),
                        false => paint.plain(),
                    };
                    (format!("{key}  {word}"), style)
                })
                .collect();
            paper(paint, canvas, "order by", &lines, 0, "");
        }
        Mode::Signal(row, at) => {
            let lines: Vec<(String, Style)> = SIGNALS
                .iter()
                .enumerate()
                .map(|(number, (name, _))| {
                    let style = match number == *at {
                        true => paint.cursor(),
                        false => paint.plain(),
                    };
                    (format!("SIG{name:<6}"), style)
                })
                .collect();
            let title = match row.pid {
                Some(pid) => format!("signal to {pid}"),
                None => format!("signal to {}", row.watcher),
            };
            // the chosen one is always seen
            let room = usize::from(canvas.height().saturating_sub(2)).max(1);
            let from = (at + 1).saturating_sub(room);
            paper(paint, canvas, &title, &lines, from, "Enter sends");
        }
        Mode::Sure(call) => {
            let width = usize::from(canvas.width().saturating_sub(4)).clamp(1, 60);
            let mut lines: Vec<(String, Style)> = fold(&call.question, width)
                .into_iter()
                .map(|line| (line, paint.strong()))
                .collect();
            lines.push(("y yes   any other key no".to_string(), paint.plain()));
            paper(paint, canvas, "sure?", &lines, 0, "");
        }
    }
}

/// A sheet in the middle with these lines from the `from`th on.
fn paper(
    paint: &Paint,
    canvas: &mut Canvas<'_>,
    title: &str,
    lines: &[(String, Style)],
    from: usize,
    below: &str,
) {
    let longest = lines.iter().map(|(line, _)| line.chars().count()).max();
    let longest = longest
        .unwrap_or(0)
        .max(title.len() + 2)
        .max(below.len() + 2);
    let width = u16::try_from(longest + 4).unwrap_or(u16::MAX);
    let width = width.min(canvas.width());
    // without a frame where there is no room for one
    let frame = u16::from(canvas.height() >= 5);
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let height = height.saturating_add(2 * frame).min(canvas.height());
    let (x, y) = ((canvas.width() - width) / 2, (canvas.height() - height) / 2);
    let mut sheet = canvas.cut(x, y, width, height);
    sheet.clear();
    if frame > 0 {
        let across = paint.across().repeat(width.into());
        sheet.put(0, 0, &across, paint.faint());
        sheet.put(2, 0, &format!(" {title} "), paint.heading());
        sheet.put(0, height - 1, &across, paint.faint());
        if !below.is_empty() {
            sheet.put(2, height - 1, &format!(" {below} "), paint.faint());
        }
    }
    let room = height - 2 * frame;
    let from = from.min(lines.len().saturating_sub(room.into()));
    for (at, (line, style)) in (0..room).zip(lines.iter().skip(from)) {
        sheet.put_within(2, frame + at, line, width.saturating_sub(2), *style);
    }
}

/// A text in lines of so many characters at the most, broken at spaces.
fn fold(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}
