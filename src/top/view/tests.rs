use super::*;
use crate::top::log::Voice;
use crate::top::screen::{Look, News, Source};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;
use serde_json::{Map, Value, json};

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn look() -> Look {
    Look {
        colour: true,
        unicode: true,
        still: false,
        read_only: false,
        east: 3600,
    }
}

fn info(cpu: f64, rss: &str, age: f64) -> Value {
    json!({"cpu": cpu, "mem": 0.5, "mem_info1": rss, "age": age, "username": "www", "cmdline": "python3"})
}

/// A daemon with a bit of everything.
fn screen(look: Look) -> Screen {
    let mut screen = Screen::new("tcp://127.0.0.1:5555".to_string(), look, 1000.0);
    let identity = json!({"program": "circ", "version": "0.1.0", "pid": 4711});
    screen.hear(News::Here(Some(map(identity))), 1000.0);
    screen.hear(News::Deaf(None), 1000.0);
    let worker = |pid: i32, wid: i32| json!({"pid": pid, "wid": wid, "leaving": pid == 503});
    let exit = json!({"code": 3, "signal": null, "time": 940.0});
    let status = json!({
        "statuses": {"web": "active", "mail": "stopped", "crash": "active"},
        "watchers": {
            "web": {"numprocesses": 3, "restarts": 0,
                    "workers": [worker(501, 1), worker(502, 2), worker(503, 3)]},
            "mail": {"numprocesses": 1, "restarts": 0, "workers": []},
            "crash": {"numprocesses": 2, "restarts": 17, "last_exit": exit, "workers": [worker(600, 1)],
                      "trouble": "worker 2 exited with code 3 after 0.2 s, 9 times in a row"},
        },
    });
    screen.hear(News::Status(map(status)), 1000.0);
    screen.hear(News::Daemon(map(info(0.3, "1.90M", 90_061.0))), 1000.0);
    let sockets = vec![
        json!({"fd": 5, "name": "web", "backlog": 2048, "host": "127.0.0.1", "port": 8000}),
        json!({"fd": 6, "name": "admin", "backlog": 64, "path": "/run/admin.sock"}),
    ];
    screen.hear(News::Sockets(sockets), 1000.0);
    screen.hear(News::Waiting(5, Some(3)), 1000.0);
    for second in 0..30 {
        let wave = f64::from(second % 10) * 8.0;
        let stats = json!({
            "web": {"501": info(wave, "20.50M", 3723.0), "502": info(4.2, "21M", 3700.0),
                    "503": info(95.0, "1.5G", 12.0)},
            "mail": {}, "crash": {"600": info(0.0, "900K", 1.0)},
        });
        screen.hear(News::Stats(map(stats)), 1000.0 + f64::from(second));
        screen.tick(1000.0 + f64::from(second));
    }
    for (topic, payload) in [
        (
            "watcher.web.spawn",
            json!({"process_pid": 503, "time": 1010.0}),
        ),
        (
            "watcher.crash.reap",
            json!({"process_pid": 601, "time": 1020.0, "exit_code": 3}),
        ),
        ("watcher.web.updated", json!({"time": 1025.0})),
    ] {
        let payload = payload.to_string().into_bytes();
        screen.hear(News::Event(topic.into(), payload), 1029.0);
    }
    screen
}

fn press(screen: &mut Screen, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            key => KeyCode::Char(key),
        };
        screen.press(KeyEvent::new(code, KeyModifiers::NONE));
    }
}

fn terminal(screen: &mut Screen, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(screen, frame.area(), frame.buffer_mut()))
        .unwrap();
    terminal
}

/// The screen as text.
fn text(screen: &mut Screen, width: u16, height: u16) -> String {
    terminal(screen, width, height).backend().to_string()
}

#[test]
fn a_usual_terminal() {
    insta::assert_snapshot!(text(&mut screen(look()), 80, 24));
}

#[test]
fn a_wide_terminal() {
    let mut screen = screen(look());
    screen.hear(News::Source(Source::Asked), 1029.0);
    insta::assert_snapshot!(text(&mut screen, 150, 30));
}

#[test]
fn a_tiny_terminal() {
    insta::assert_snapshot!(text(&mut screen(look()), 20, 5));
}

#[test]
fn without_unicode_everything_is_ascii() {
    let mut screen = screen(Look {
        unicode: false,
        ..look()
    });
    for keys in ["", "?", "K", "\n", "q"] {
        press(&mut screen, keys);
        let mut terminal = terminal(&mut screen, 120, 30);
        let cells = &terminal.backend_mut().buffer().content;
        assert!(cells.iter().all(|cell| cell.symbol().is_ascii()), "{keys}");
    }
    insta::assert_snapshot!(text(&mut screen, 80, 16));
}

#[test]
fn what_is_asked_lies_over_the_rest() {
    let mut screen = screen(look());
    press(&mut screen, "r");
    let sure = text(&mut screen, 80, 24);
    press(&mut screen, "nK");
    let signals = text(&mut screen, 80, 24);
    press(&mut screen, "qo");
    let order = text(&mut screen, 80, 24);
    press(&mut screen, "c?");
    let help = text(&mut screen, 80, 40);
    insta::assert_snapshot!(format!("{sure}\n{signals}\n{order}\n{help}"));
}

#[test]
fn a_log_takes_the_place_of_the_table() {
    let mut screen = screen(look());
    press(&mut screen, "l");
    let lines = (0..40).map(|number| (Voice::Out, format!("GET /{number}")));
    let mut lines: Vec<(Voice, String)> = lines.collect();
    lines.push((Voice::Err, "\u{1b}[31moops\u{1b}[0m".to_string()));
    screen.hear(News::Said(lines), 1029.0);
    insta::assert_snapshot!(text(&mut screen, 60, 12));
}

#[test]
fn a_daemon_that_is_away_leaves_its_last_picture_in_grey() {
    let mut screen = screen(look());
    screen.hear(News::Away("nobody listens".to_string()), 1030.0);
    screen.tick(1042.0);
    let terminal = terminal(&mut screen, 80, 24);
    let buffer = terminal.backend().buffer();
    let colours = |y: u16| {
        let cells = (0..80).filter_map(|x| buffer.cell((x, y)));
        let cells = cells.filter(|cell| cell.symbol() != " ");
        cells.map(|cell| cell.fg).collect::<Vec<Color>>()
    };
    let grey = |y: u16| colours(y).iter().all(|colour| *colour == Color::DarkGray);
    assert!((0..23).all(grey));
    assert!(colours(23).iter().all(|colour| *colour == Color::Red));
    let shown = terminal.backend().to_string();
    assert!(
        shown.contains("away for 0:12, trying again: nobody listens"),
        "{shown}"
    );
    assert!(shown.contains("web"), "{shown}");
    // nothing moves while nobody answers
    assert!(shown.contains("the daemon does not answer"), "{shown}");
}

#[test]
fn without_colours_there_are_none() {
    let mut screen = screen(Look {
        colour: false,
        ..look()
    });
    for keys in ["", "?", "qK", "q", "x"] {
        press(&mut screen, keys);
        let terminal = terminal(&mut screen, 120, 30);
        let mut cells = terminal.backend().buffer().content.iter();
        assert!(cells.all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    }
}

#[test]
fn every_size_has_a_screen() {
    let mut screen = screen(look());
    press(&mut screen, "l");
    screen.hear(News::Said(vec![(Voice::Out, "一二三".repeat(50))]), 1029.0);
    for keys in ["", "q", "?", "qo", "cK", "q+", "n/ü", "\n\t", "\t", "\t/\n"] {
        press(&mut screen, keys);
        for height in (0..20).chain([24, 60]) {
            for width in (0..24).chain([40, 80, 81, 200]) {
                let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
                draw(&mut screen, Rect::new(0, 0, width, height), &mut buffer);
            }
        }
    }
    // an area that is not all in the buffer
    let mut buffer = Buffer::empty(Rect::new(3, 3, 10, 3));
    draw(&mut screen, Rect::new(0, 0, 90, 90), &mut buffer);
}

#[test]
fn nothing_that_comes_from_a_daemon_can_paint() {
    let mut screen = screen(look());
    let name = "\u{1b}[2Jx\u{7}\n";
    let status = json!({"statuses": {name: "act\u{1b}ive"}, "troubles": {name: "a\u{9b}b"}});
    screen.hear(News::Status(map(status)), 1029.0);
    let topic = format!("watcher.{name}.\u{1b}c").into_bytes();
    screen.hear(News::Event(topic, b"{}".to_vec()), 1029.0);
    screen.hear(News::Away("\u{1b}]0;title\u{7}".to_string()), 1029.0);
    let mut terminal = terminal(&mut screen, 150, 24);
    let mut cells = terminal.backend_mut().buffer().content.iter();
    assert!(cells.all(|cell| !cell.symbol().contains(char::is_control)));
}

/// A daemon with so many processes.
fn crowd(processes: usize) -> Screen {
    let mut screen = Screen::new("ipc:///run/circ".to_string(), look(), 1000.0);
    screen.hear(News::Here(None), 1000.0);
    let workers: Vec<Value> = (0..processes)
        .map(|number| json!({"pid": 10_000 + number, "wid": number}))
        .collect();
    let status = json!({"statuses": {"web": "active"}, "watchers": {"web": {"workers": workers}}});
    screen.hear(News::Status(map(status)), 1000.0);
    screen
}

#[test]
fn two_thousand_processes_cost_a_frame_no_more_than_thirty() {
    let mut work = Vec::new();
    for processes in [30, 2000] {
        let mut screen = crowd(processes);
        text(&mut screen, 80, 24);
        let before = screen.work;
        // frames without news: only what is seen is made, and nothing is put in order again
        for _ in 0..5 {
            press(&mut screen, "j");
            text(&mut screen, 80, 24);
        }
        assert_eq!(screen.work.arranged, before.arranged);
        work.push(screen.work.lines - before.lines);
        // a whole round of statistics puts them in order once
        for number in 0..processes {
            let pid = 10_000 + number;
            let mut payload = info(1.0, "1M", 1.0);
            payload["pid"] = pid.into();
            let topic = format!("stat.web.{pid}").into_bytes();
            let payload = payload.to_string().into_bytes();
            screen.hear(News::Published(topic, payload), 1001.0);
        }
        text(&mut screen, 80, 24);
        assert_eq!(screen.work.arranged, before.arranged + 1);
        press(&mut screen, "G");
        assert!(text(&mut screen, 80, 24).contains(&(10_000 + processes - 1).to_string()));
    }
    assert_eq!(work[0], work[1]);
    assert!(work[0] <= 5 * 24, "{work:?}");
}

#[test]
fn a_whole_screen_has_every_line() {
    let mut screen = crowd(300);
    screen.look.still = true;
    let height = full_height(&mut screen);
    let shown = text(&mut screen, 80, height);
    assert_eq!(shown.matches("    10").count(), 300);
    assert!(!shown.contains("more"), "{shown}");
}
