use super::*;
use crate::top::screen::{Look, News};
use serde_json::json;

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn screen() -> Screen {
    let look = Look {
        colour: false,
        unicode: true,
        still: false,
        read_only: false,
        east: 0,
    };
    let mut screen = Screen::new("ipc:///run/circ".to_string(), look, 100.0);
    screen.hear(News::Here(None), 100.0);
    let status = json!({"statuses": {"web": "active", "Mail": "active"}});
    screen.hear(News::Status(map(status)), 100.0);
    let info = |cpu: f64| json!({"cpu": cpu, "mem": 0.1, "mem_info1": "1M", "age": 9.0});
    let stats = json!({"web": {"11": info(3.0), "12": info(2.0)}, "Mail": {"21": info(1.0)}});
    screen.hear(News::Stats(map(stats)), 100.0);
    screen
}

fn press(screen: &mut Screen, keys: &str) -> Option<Wish> {
    let mut wish = None;
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '\u{8}' => KeyCode::Backspace,
            '\t' => KeyCode::Tab,
            '↓' => KeyCode::Down,
            '→' => KeyCode::Right,
            '←' => KeyCode::Left,
            key => KeyCode::Char(key),
        };
        wish = screen.press(KeyEvent::new(code, KeyModifiers::NONE));
    }
    wish
}

fn lines(screen: &mut Screen) -> String {
    let word = |row: &Row| {
        row.pid
            .map_or(row.watcher.to_string(), |pid| pid.to_string())
    };
    screen.rows().iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_command_is_sent_only_when_somebody_is_sure() {
    for (keys, command, question) in [
        ("+y", "incr", "Run one more process of web? It has 2."),
        ("=y", "incr", "Run one more process of web? It has 2."),
        ("-Y", "decr", "Run one process of web less? It has 2."),
        ("sy", "start", "Start web?"),
        ("xy", "stop", "Stop web? Its 2 processes are ended."),
        (
            "ry",
            "restart",
            "Restart web? Its 2 processes are stopped and started.",
        ),
        (
            "Ry",
            "reload",
            "Reload web? Its 2 processes are replaced by new ones.",
        ),
    ] {
        let mut screen = screen();
        let Some(Wish::Call(call)) = press(&mut screen, keys) else {
            panic!("{keys:?} sends nothing");
        };
        assert_eq!((call.command, call.question.as_str()), (command, question));
        assert_eq!(call.words, format!("{command} web"));
        assert_eq!(Value::Object(call.properties), json!({"name": "web"}));
        assert_eq!(screen.mode, Mode::Table);
        let no = keys.replace(['y', 'Y'], "n");
        assert_eq!(press(&mut screen, &no), None);
        assert_eq!(screen.said(), Some(("nothing was done", Weight::Usual)));
        assert_eq!(screen.mode, Mode::Table);
        // a key that is held down does not answer by itself
        let again = keys.chars().next().unwrap();
        assert_eq!(press(&mut screen, &format!("{again}{again}")), None);
    }
}

#[test]
fn a_signal_goes_to_a_process_or_to_all_of_a_watcher() {
    let mut screen = screen();
    let Some(Wish::Call(call)) = press(&mut screen, "K\ny") else {
        panic!("nothing is sent");
    };
    assert_eq!(
        Value::Object(call.properties),
        json!({"name": "web", "signum": "hup"})
    );
    let Some(Wish::Call(call)) = press(&mut screen, "↓K↓jk↓\n").or_else(|| press(&mut screen, "y"))
    else {
        panic!("nothing is sent");
    };
    assert_eq!(
        Value::Object(call.properties),
        json!({"name": "web", "signum": "kill", "pid": 11})
    );
    assert_eq!(call.question, "Send SIGKILL to process 11 of web?");
    assert_eq!(press(&mut screen, "K\u{1b}"), None);
    assert_eq!(screen.mode, Mode::Table);
}

#[test]
fn nothing_is_sent_to_a_daemon_that_is_away_or_by_who_only_looks() {
    let mut away = screen();
    press(&mut away, "x");
    away.hear(News::Away("refused".to_string()), 101.0);
    // the question has become pointless
    assert_eq!(away.mode, Mode::Table);
    assert_eq!(press(&mut away, "xy"), None);
    assert_eq!(away.said().unwrap().0, "the daemon does not answer");
    let mut looking = screen();
    looking.look.read_only = true;
    for keys in ["xy", "K\ny", "+y"] {
        assert_eq!(press(&mut looking, keys), None);
        assert_eq!(looking.said().unwrap().0, "this is read-only");
    }
    assert!(matches!(press(&mut looking, "l"), Some(Wish::Follow(_))));
}

#[test]
fn lines_are_chosen_and_ordered_by_keys() {
    let mut screen = screen();
    assert_eq!(lines(&mut screen), "web 11 12 Mail 21");
    press(&mut screen, "on");
    assert_eq!(lines(&mut screen), "Mail 21 web 11 12");
    press(&mut screen, "O");
    assert_eq!(lines(&mut screen), "web 12 11 Mail 21");
    press(&mut screen, "oc");
    assert_eq!((screen.choice.by, screen.choice.reversed), (By::Cpu, false));
    press(&mut screen, "<");
    assert_eq!(screen.choice.by, By::Uptime);
    press(&mut screen, ">oq");
    assert_eq!((screen.choice.by, &screen.mode), (By::Cpu, &Mode::Table));
    press(&mut screen, "t");
    assert_eq!(lines(&mut screen), "11 12 21");
    press(&mut screen, "t/mx\u{8}a");
    assert_eq!(lines(&mut screen), "Mail 21");
    press(&mut screen, "\n");
    assert_eq!(screen.choice.filter, "ma");
    press(&mut screen, "/z\u{1b}");
    assert_eq!(screen.choice.filter, "ma");
    press(&mut screen, "\u{1b}");
    assert_eq!(lines(&mut screen), "web 11 12 Mail 21");
    // while it is typed, letters are letters
    assert_eq!(press(&mut screen, "/q"), None);
}

#[test]
fn watchers_are_folded_and_the_cursor_stays_with_its_line() {
    let mut screen = screen();
    press(&mut screen, "\n");
    assert_eq!(lines(&mut screen), "web Mail 21");
    press(&mut screen, "→→");
    assert_eq!(lines(&mut screen), "web 11 12 Mail 21");
    press(&mut screen, "↓←");
    // the process has gone under its watcher
    assert_eq!(lines(&mut screen), "web Mail 21");
    assert_eq!(screen.selected().unwrap().pid, None);
    press(&mut screen, "e");
    assert_eq!(lines(&mut screen), "web Mail");
    press(&mut screen, "eGk");
    assert_eq!(&*screen.selected().unwrap().watcher, "Mail");
    press(&mut screen, "on");
    assert_eq!(&*screen.selected().unwrap().watcher, "Mail");
    press(&mut screen, "gjjj");
    assert_eq!(screen.selected().unwrap().pid, Some(11));
    // another order, the same process
    press(&mut screen, "oc");
    assert_eq!(screen.selected().unwrap().pid, Some(11));
    press(&mut screen, "/nothing\n");
    assert_eq!(screen.selected(), None);
    assert_eq!(press(&mut screen, "x"), None);
}

#[test]
fn help_log_and_panes_come_and_go() {
    let mut screen = screen();
    press(&mut screen, "?jj");
    assert_eq!(screen.mode, Mode::Help(2));
    press(&mut screen, "q");
    assert_eq!(screen.mode, Mode::Table);
    // without sockets there is nothing to look at
    press(&mut screen, "\t");
    assert_eq!(screen.focus, Focus::Events);
    for number in 0..5 {
        let topic = b"watcher.web.spawn".to_vec();
        let payload = json!({"process_pid": 100 + number})
            .to_string()
            .into_bytes();
        screen.hear(News::Event(topic, payload), 101.0);
    }
    press(&mut screen, "jj");
    assert_eq!(screen.events_from, 2);
    let topic = b"watcher.web.stop".to_vec();
    screen.hear(News::Event(topic, b"{}".to_vec()), 101.0);
    // what is looked at stays
    assert_eq!(screen.events_from, 3);
    press(&mut screen, "g\u{1b}");
    assert_eq!((screen.events_from, screen.focus), (0, Focus::Table));
    let followed = press(&mut screen, "l");
    assert_eq!(followed, Some(Wish::Follow("web".into())));
    // letters that act elsewhere only move here
    assert_eq!(press(&mut screen, "xyrRK+"), None);
    assert_eq!(screen.mode, Mode::Log);
    assert_eq!(press(&mut screen, "q"), Some(Wish::Unfollow));
    assert_eq!(press(&mut screen, "q"), Some(Wish::Quit));
    let control = |key| KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL);
    for (key, wish) in [
        ('c', Wish::Quit),
        ('z', Wish::Suspend),
        ('l', Wish::Repaint),
    ] {
        assert_eq!(screen.press(control(key)), Some(wish));
    }
    let mut released = control('c');
    released.kind = KeyEventKind::Release;
    assert_eq!(screen.press(released), None);
}

#[test]
fn a_cursor_that_nobody_has_moved_stays_at_the_top() {
    let mut screen = screen();
    assert_eq!(&*screen.selected().unwrap().watcher, "web");
    press(&mut screen, "on");
    assert_eq!(&*screen.selected().unwrap().watcher, "Mail");
    // what is asked about a line holds it there
    press(&mut screen, "xn");
    press(&mut screen, "oc");
    assert_eq!(&*screen.selected().unwrap().watcher, "Mail");
}
