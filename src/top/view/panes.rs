//! Sockets, events and the log of a watcher.

use super::canvas::Canvas;
use super::paint::Paint;
use crate::top::log::Voice;
use crate::top::numbers;
use crate::top::screen::{Focus, Screen};

/// A line across with a title; what is looked at stands out.
fn title(paint: &Paint, canvas: &mut Canvas<'_>, words: &str, focused: bool) {
    let width = usize::from(canvas.width());
    canvas.put(0, 0, &paint.across().repeat(width), paint.faint());
    let style = match focused {
        true => paint.cursor(),
        false => paint.heading(),
    };
    canvas.put(2, 0, &format!(" {words} "), style);
}

/// The sockets that the daemon holds.
pub fn sockets(screen: &mut Screen, paint: &Paint, canvas: &mut Canvas<'_>) {
    if canvas.height() == 0 {
        return;
    }
    let focused = screen.focus == Focus::Sockets;
    title(paint, canvas, "sockets", focused);
    let width = canvas.width();
    // name, address, and the numbers at the right
    let numbers = if width >= 40 { 20 } else { 0 };
    let name = (width.saturating_sub(numbers) / 3).clamp(6, 24);
    let address = width.saturating_sub(numbers + name + 2);
    let right = name + 1 + address.min(50);
    canvas.put_within(0, 1, "NAME", name, paint.heading());
    canvas.put_within(name + 1, 1, "ADDRESS", address, paint.heading());
    if numbers > 0 {
        canvas.put_right(right + 7, 1, "READS", paint.heading());
        canvas.put_right(right + 18, 1, "QUEUE", paint.heading());
    }
    let room = canvas.height().saturating_sub(2);
    screen.sockets_from = screen
        .sockets_from
        .min(screen.board.sockets.len().saturating_sub(room.into()));
    let seen = screen.board.sockets.iter().skip(screen.sockets_from);
    for (y, socket) in (2..canvas.height()).zip(seen) {
        screen.work.lines += 1;
        canvas.put_within(0, y, &socket.name, name, paint.strong());
        canvas.put_within(name + 1, y, &socket.address, address.min(50), paint.plain());
        if numbers == 0 {
            continue;
        }
        let reads = socket
            .reads
            .map_or("-".to_string(), |reads| reads.to_string());
        let style = match socket.reads {
            Some(90..) => paint.warning(),
            _ => paint.plain(),
        };
        canvas.put_right(right + 7, y, &reads, style);
        let most = socket
            .backlog
            .map_or("?".to_string(), |most| most.to_string());
        let (queue, style) = match socket.waiting {
            None => (format!("-/{most}"), paint.plain()),
            Some(0) => (format!("0/{most}"), paint.plain()),
            Some(waiting) => (format!("{waiting}/{most}"), paint.warning()),
        };
        canvas.put_right(right + 18, y, &queue, style);
    }
    let hidden = screen.board.sockets.len().saturating_sub(room.into());
    if hidden > 0 {
        let words = format!(" {} of {} ", room, screen.board.sockets.len());
        canvas.put_right(width.saturating_sub(2), 0, &words, paint.faint());
    }
}

/// The last events, the newest at the top.
pub fn events(screen: &mut Screen, paint: &Paint, canvas: &mut Canvas<'_>) {
    if canvas.height() == 0 {
        return;
    }
    let focused = screen.focus == Focus::Events;
    title(paint, canvas, "events", focused);
    if screen.happenings.is_empty() {
        let words = match screen.deaf {
            None => "none since this was opened",
            Some(_) => "not heard yet",
        };
        canvas.put(2, 1, words, paint.faint());
    }
    let seen = screen.happenings.newest().skip(screen.events_from);
    for (y, event) in (1..canvas.height()).zip(seen) {
        screen.work.lines += 1;
        let time = numbers::clock(event.time, screen.look.east);
        let x = canvas.put(0, y, &time, paint.faint());
        let x = match event.watcher.is_empty() {
            true => x,
            false => canvas.put_within(x + 1, y, &event.watcher, 32, paint.strong()),
        };
        canvas.put(x + 1, y, &event.words, paint.weight(event.weight));
    }
}

/// What the processes of a watcher say.
pub fn log(screen: &mut Screen, paint: &Paint, canvas: &mut Canvas<'_>) {
    let Some(log) = &screen.log else { return };
    let room = canvas.height().saturating_sub(1);
    screen.page = usize::from(room).max(1);
    let words = match log.below {
        0 => format!("log of {}", log.watcher),
        below => format!("log of {}: {below} lines below", log.watcher),
    };
    title(paint, canvas, &words, false);
    if log.is_empty() {
        canvas.put(2, 1, "nothing yet", paint.faint());
    }
    for (y, (voice, line)) in (1..canvas.height()).zip(log.seen(room.into())) {
        screen.work.lines += 1;
        let style = match voice {
            Voice::Out => paint.plain(),
            Voice::Err => paint.warning(),
            Voice::Note => paint.faint(),
        };
        canvas.put(0, y, line, style);
    }
}
