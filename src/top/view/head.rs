//! The lines at the top and at the bottom.

use super::canvas::Canvas;
use super::paint::Paint;
use super::table;
use crate::top::happenings::Weight;
use crate::top::numbers;
use crate::top::screen::{Link, Mode, Screen, Source};

/// A full column of the graph of all processor use, in percent, unless there was more.
const FULL: f32 = 50.0;

/// The daemon, and what all of its watchers use.
pub fn draw(screen: &mut Screen, paint: &Paint, canvas: &mut Canvas<'_>) {
    let dot = match screen.link {
        Link::Here => paint.good(),
        Link::Coming => paint.warning(),
        Link::Away(..) => paint.bad(),
    };
    let x = canvas.put(0, 0, paint.dot(), dot);
    let x = canvas.put(x + 1, 0, "circ top", paint.heading());
    let x = canvas.put(x + 2, 0, &screen.address, paint.strong());
    let daemon = &screen.board.daemon;
    let mut words = vec![table::counts(&screen.board)];
    if !daemon.program.is_empty() {
        words.push(daemon.program.clone());
    }
    if let Some(born) = daemon.born {
        words.push(format!("up {}", numbers::span(Some(screen.now() - born))));
    }
    if let Some(pid) = daemon.pid {
        words.push(format!("pid {pid}"));
    }
    if let Some(cpu) = daemon.usage.cpu {
        words.push(format!(
            "itself {cpu:.1}% {}",
            numbers::bytes(daemon.usage.rss)
        ));
    }
    let mut x = x + 2;
    for (at, word) in words.iter().enumerate() {
        let length = u16::try_from(word.chars().count()).unwrap_or(u16::MAX);
        // a whole word, or none
        if x.saturating_add(length).saturating_add(3) > canvas.width() {
            break;
        }
        if at > 0 {
            x = canvas.put(x, 0, paint.between(), paint.faint());
        }
        x = canvas.put(x, 0, word, paint.plain());
    }
    if canvas.height() < 2 {
        return;
    }
    let usage = screen.board.usage();
    let half = canvas.width() / 2;
    let graphs = [
        (
            "CPU",
            numbers::percent(usage.cpu) + "%",
            &screen.board.cpu,
            FULL,
        ),
        ("MEM", numbers::bytes(usage.rss), &screen.board.memory, 0.0),
    ];
    for (at, (title, number, history, full)) in graphs.into_iter().enumerate() {
        let from = half * u16::try_from(at).unwrap_or(0);
        let x = canvas.put(from, 1, title, paint.heading());
        let x = canvas.put(x + 1, 1, &format!("{number:>7}"), paint.strong());
        let width = (from + half).saturating_sub(x + 3);
        let spark = paint.spark(history, width.into(), full);
        canvas.put_within(x + 1, 1, &spark, width, paint.graph());
    }
}

/// What is asked or has been answered, what is wrong, or what the keys are.
pub fn foot(screen: &mut Screen, paint: &Paint, canvas: &mut Canvas<'_>) {
    if canvas.height() == 0 {
        return;
    }
    if let Mode::Filter(_) = screen.mode {
        let x = canvas.put(0, 0, "/", paint.heading());
        let x = canvas.put(x, 0, &screen.choice.filter, paint.strong());
        canvas.put(x, 0, " ", paint.cursor());
        return;
    }
    if let Link::Away(why, since) = &screen.link {
        let ago = numbers::span(Some(screen.now() - since));
        let words = format!("away for {ago}, trying again: {why}");
        canvas.put(0, 0, &words, paint.bad());
        return;
    }
    if let Some((words, weight)) = screen.said() {
        canvas.put(0, 0, words, paint.weight(weight));
        return;
    }
    let mut words: Vec<(String, Weight)> = Vec::new();
    let mut say = |word: String, weight| words.push((word, weight));
    if !screen.choice.filter.is_empty() {
        say(format!("only {:?}", screen.choice.filter), Weight::Good);
    }
    if let (Some(why), Link::Here) = (&screen.deaf, &screen.link) {
        say(format!("no events: {why}"), Weight::Bad);
    }
    if screen.mode == Mode::Log {
        say("Esc back  arrows move  G end".to_string(), Weight::Usual);
    } else {
        say("? help  q quit".to_string(), Weight::Usual);
        let order = table::order(screen.choice.by, screen.choice.reversed);
        say(format!("by {order}"), Weight::Usual);
        if screen.source == Source::Asked {
            let why = "statistics asked every second, statsd is off";
            say(why.to_string(), Weight::Usual);
        }
        let keys = match screen.look.read_only {
            true => "/ filter  o order  l log",
            false => "/ filter  o order  l log  + - s x r R K act",
        };
        say(keys.to_string(), Weight::Usual);
    }
    let mut x = 0;
    for (at, (word, weight)) in words.iter().enumerate() {
        if at > 0 {
            x = canvas.put(x, 0, paint.between(), paint.faint());
        }
        x = canvas.put(x, 0, word, paint.weight(*weight));
    }
}
