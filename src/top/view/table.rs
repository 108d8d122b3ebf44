//! The table of watchers and processes.

use ratatui::style::{Modifier, Style};

use super::canvas::Canvas;
use super::columns::{Cell, Column, fitting};
use super::paint::Paint;
use crate::top::board::{Board, Process, Usage, Watcher};
use crate::top::history::History;
use crate::top::numbers;
use crate::top::rows::{By, Row};
use crate::top::screen::{Focus, Link, Screen};

/// A full column of a graph of processor use, in percent, unless there was more.
const FULL: f32 = 25.0;

/// Draws as much of the table as there is room for.
pub fn draw(screen: &mut Screen, paint: &Paint, canvas: &mut Canvas<'_>) {
    // a single line is better used for what it is about
    let head = u16::from(canvas.height() > 1);
    let room = canvas.height().saturating_sub(head);
    let (rows, cursor) = screen.window(room.into());
    let longest = screen
        .board
        .watchers
        .values()
        .map(|w| w.name.chars().count() + 2);
    let longest = u16::try_from(longest.max().unwrap_or(0)).unwrap_or(u16::MAX);
    let columns = fitting(canvas.width(), longest);
    if head > 0 {
        titles(screen, paint, &columns, canvas);
    }
    if rows.is_empty() {
        let words = match &screen.link {
            Link::Coming => "waiting for the daemon",
            _ if !screen.choice.filter.is_empty() => "nothing has this text in it",
            _ if screen.board.watchers.is_empty() => "there are no watchers",
            _ => "there are no processes",
        };
        canvas.put(2, head, words, paint.faint());
    }
    let focused = screen.focus == Focus::Table && !screen.look.still;
    for (at, row) in rows.iter().enumerate() {
        screen.work.lines += 1;
        let y = head + u16::try_from(at).unwrap_or(u16::MAX);
        line(screen, paint, &columns, row, &mut canvas.part((y, 1)));
        if focused && cursor == Some(at) {
            canvas.style_row(y, paint.cursor());
        }
    }
    let (from, all) = screen.place_of_window();
    if from + rows.len() < all && room > 0 && !screen.look.still {
        let more = format!(" {} more ", all - from - rows.len());
        let y = canvas.height() - 1;
        canvas.put_right(canvas.width(), y, &more, paint.warning());
    }
}

fn titles(screen: &Screen, paint: &Paint, columns: &[Column], canvas: &mut Canvas<'_>) {
    let mut x = 0;
    for column in columns {
        let mut style = paint.heading();
        if column.by == Some(screen.choice.by) {
            style = style.add_modifier(Modifier::UNDERLINED);
        }
        put(canvas, x, column, column.title, style);
        x += column.width + 1;
    }
}

fn put(canvas: &mut Canvas<'_>, x: u16, column: &Column, text: &str, style: Style) {
    match column.right {
        true => {
            let mut cell = canvas.cut(x, 0, column.width, 1);
            cell.put_right(column.width, 0, text, style);
        }
        false => {
            canvas.put_within(x, 0, text, column.width, style);
        }
    }
}

fn line(screen: &Screen, paint: &Paint, columns: &[Column], row: &Row, canvas: &mut Canvas<'_>) {
    let Some(watcher) = screen.board.watchers.get(&row.watcher.to_lowercase()) else {
        return;
    };
    let process = match row.pid {
        None => None,
        Some(pid) => match watcher.processes.get(&pid) {
            Some(process) => Some((pid, process)),
            None => return,
        },
    };
    let mut x = 0;
    for column in columns {
        let (text, style) = match process {
            None => of_watcher(screen, paint, column, watcher),
            Some((pid, process)) => of_process(screen, paint, column, watcher, pid, process),
        };
        put(canvas, x, column, &text, style);
        x += column.width + 1;
    }
}

fn of_watcher(
    screen: &Screen,
    paint: &Paint,
    column: &Column,
    watcher: &Watcher,
) -> (String, Style) {
    let usage = watcher.usage();
    match column.cell {
        Cell::Name => {
            let fold = match watcher.processes.is_empty() {
                true => "  ",
                false => paint.fold(screen.choice.is_unfolded(&watcher.name)),
            };
            let style = match watcher.trouble {
                Some(_) => paint.bad().add_modifier(Modifier::BOLD),
                None => paint.strong(),
            };
            (format!("{fold}{}", watcher.name), style)
        }
        Cell::State => (watcher.state.clone(), paint.state(&watcher.state)),
        Cell::Count => {
            let there = watcher.processes.len();
            match watcher.wanted {
                None => (there.to_string(), paint.plain()),
                Some(wanted) => {
                    let short = watcher.state == "active" && there as i64 != wanted;
                    let style = if short {
                        paint.warning()
                    } else {
                        paint.plain()
                    };
                    (format!("{there}/{wanted}"), style)
                }
            }
        }
        Cell::Restarts => match (watcher.counted, watcher.restarts) {
            (_, 0) => ("0".to_string(), paint.plain()),
            (true, restarts) => (restarts.to_string(), paint.warning()),
            // a circusd does not count: since this was watched
            (false, restarts) => (format!("+{restarts}"), paint.warning()),
        },
        Cell::Uptime => (
            numbers::span(watcher.born().map(|born| screen.now() - born)),
            paint.plain(),
        ),
        Cell::CpuGraph => graph(paint, column, &watcher.cpu, FULL),
        Cell::MemGraph => graph(paint, column, &watcher.memory, 0.0),
        Cell::Note => match (&watcher.trouble, &watcher.last_exit) {
            (Some(trouble), _) => (trouble.clone(), paint.bad()),
            (None, Some(exit)) => {
                let ago = numbers::span(Some(screen.now() - exit.time));
                (format!("last {}, {ago} ago", exit.words), paint.faint())
            }
            (None, None) => (String::new(), paint.plain()),
        },
        Cell::Cpu | Cell::Mem | Cell::Rss => used(paint, column, usage),
    }
}

fn of_process(
    screen: &Screen,
    paint: &Paint,
    column: &Column,
    watcher: &Watcher,
    pid: i32,
    process: &Process,
) -> (String, Style) {
    match column.cell {
        Cell::Name => match screen.choice.flat {
            true => (format!("  {}", watcher.name), paint.plain()),
            false => (format!("    {pid}"), paint.plain()),
        },
        Cell::State => match process.leaving {
            true => ("ending".to_string(), paint.warning()),
            false => (String::new(), paint.plain()),
        },
        Cell::Count => match (screen.choice.flat, process.wid) {
            (true, _) => (pid.to_string(), paint.plain()),
            (false, Some(wid)) => (format!("#{wid}"), paint.faint()),
            (false, None) => (String::new(), paint.plain()),
        },
        Cell::Restarts => (String::new(), paint.plain()),
        Cell::Uptime => (
            numbers::span(process.born.map(|born| screen.now() - born)),
            paint.plain(),
        ),
        Cell::CpuGraph => graph(paint, column, &process.cpu, FULL),
        Cell::MemGraph => (String::new(), paint.plain()),
        Cell::Note => {
            let words = match process.user.is_empty() {
                true => process.command.clone(),
                false => format!("{} {}", process.user, process.command),
            };
            (words, paint.faint())
        }
        Cell::Cpu | Cell::Mem | Cell::Rss => used(paint, column, process.usage),
    }
}

fn used(paint: &Paint, column: &Column, usage: Usage) -> (String, Style) {
    match column.cell {
        Cell::Cpu => {
            let style = match usage.cpu {
                Some(90.0..) => paint.bad(),
                Some(50.0..) => paint.warning(),
                _ => paint.plain(),
            };
            (numbers::percent(usage.cpu), style)
        }
        Cell::Mem => (numbers::percent(usage.mem), paint.plain()),
        _ => (numbers::bytes(usage.rss), paint.plain()),
    }
}

fn graph(paint: &Paint, column: &Column, history: &History, full: f32) -> (String, Style) {
    let spark = paint.spark(history, column.width.into(), full);
    (spark, paint.graph())
}

/// What the table is ordered by, in a word.
pub fn order(by: By, reversed: bool) -> String {
    let word = By::ALL
        .iter()
        .find(|(other, ..)| *other == by)
        .map_or("", |(.., word)| *word);
    match reversed {
        true => format!("{word}, reversed"),
        false => word.to_string(),
    }
}

/// How many watchers and processes there are, in words.
pub fn counts(board: &Board) -> String {
    let some = |count: usize, one: &str, many: &str| match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {many}"),
    };
    format!(
        "{}, {}",
        some(board.watchers.len(), "watcher", "watchers"),
        some(board.count(), "process", "processes")
    )
}
