//! Generated configurations and desired states: what a person may have written, and what may be wanted of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::random::Chance;

/// Watchers that a file may have. The last one is only ever in an included file.
pub const WATCHERS: &[&str] = &["web", "api", "Job 1", "x.y", "late"];

/// Names that a state may speak of.
const WANTED: &[&str] = &["web", "api", "Job 1", "x.y", "late", "new", "new", "second"];

/// Texts of options, as people write them into an ini file.
const OPTIONS: &[(&str, &[&str])] = &[
    ("numprocesses", &["1", "2", " 3", "0"]),
    (
        "args",
        &["-v", "a  b", "--x='1 2'", "", "one\n  two", "$(circus.wid)"],
    ),
    ("max_age", &["0", "100", "3600"]),
    ("max_retry", &["5", "-1"]),
    ("graceful_timeout", &["30", "1.5", "1e1", "0"]),
    ("warmup_delay", &["0", "1"]),
    ("priority", &["0", "7", "-3"]),
    ("stop_signal", &["TERM", "9", "SIGQUIT", "int"]),
    ("shell", &["False", "no"]),
    ("copy_env", &["True", "yes", "False"]),
    ("send_hup", &["on", "0"]),
    ("use_sockets", &["True", "False"]),
    ("autostart", &["True", "false"]),
    ("respawn", &["1", "off"]),
    ("working_dir", &["/tmp", "/", "$(circus.env.HOME)"]),
    ("rlimit_nofile", &["500", "1024"]),
    ("stdout_stream.class", &["FileStream", "StdoutStream"]),
    ("stdout_stream.filename", &["/dev/null"]),
    ("my_own", &["text", "a ; b"]),
];

const VARIABLES: &[&str] = &["TOKEN", "LANG", "Path_Extra", "N"];

const VALUES: &[&str] = &[
    "x",
    "a b",
    "",
    "C.UTF-8",
    "1",
    "$(circus.env.HOME)/x",
    "50%",
    "a;b",
    "é",
];

/// Writes a configuration into a directory: `circus.ini` or `circus.toml`, with up to two included files. Answers the
/// main file's name.
pub fn configuration(chance: &mut Chance, directory: &Path) -> &'static str {
    let mut main = String::new();
    if chance.one_in(2) {
        main += chance.pick(&["# the site\n", "; by hand\n\n", "\n"]);
    }
    main += "[circus]\n";
    if chance.one_in(2) {
        main += chance.pick(&[
            "include = more.ini\n",
            "include_dir = conf.d\n",
            "include = *.inc conf.d/*.ini\n",
        ]);
    }
    if chance.one_in(3) {
        main += chance.pick(&[
            "warmup_delay = 1\n",
            "check_delay = 5\n",
            "umask = 022\n",
            "loglevel = info\n",
        ]);
    }
    sections(chance, 6, &WATCHERS[..WATCHERS.len() - 1], &mut main);
    let as_toml = chance.one_in(4);
    let name = if as_toml { "circus.toml" } else { "circus.ini" };
    save(chance, directory, name, main, as_toml);
    for name in ["more.ini", "conf.d/1.ini", "conf.d/2.ini", "x.inc"] {
        let mut text = String::from(chance.pick(&["# included\n", ""]));
        sections(chance, 2, WATCHERS, &mut text);
        save(chance, directory, name, text, false);
    }
    name
}

fn save(chance: &mut Chance, directory: &Path, name: &str, mut text: String, as_toml: bool) {
    if as_toml {
        // Whatever the other spelling cannot say stays away; the next configuration says it.
        text = circ::config::convert::ini_to_toml(text.as_bytes(), name)
            .map(|converted| converted.text)
            .unwrap_or_default();
    } else {
        if chance.one_in(4) {
            text = text.replace('\n', "\r\n");
        }
        if chance.one_in(5) {
            text.truncate(text.trim_end().len());
        }
        if chance.one_in(300) {
            text.insert(0, '\u{feff}');
        }
    }
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("made");
    std::fs::write(path, text).expect("written");
}

fn sections(chance: &mut Chance, most: usize, watchers: &[&str], out: &mut String) {
    for _ in 0..=chance.below(most) {
        out.push_str(chance.pick(&["\n", "", "\n; next\n", "\n\n# ---\n"]));
        match chance.below(12) {
            0..=6 => {
                let _ = writeln!(out, "[watcher:{}]", chance.pick(watchers));
                if !chance.one_in(40) {
                    let command = chance.pick(&[
                        "sleep 1000",
                        "cat",
                        "sleep\n   1000",
                        "/bin/sleep 7 ; forever",
                    ]);
                    let _ = writeln!(out, "cmd = {command}");
                }
                for _ in 0..chance.below(5) {
                    option(chance, out);
                }
            }
            7 => {
                out.push_str("[env]\n");
                variables(chance, out);
            }
            8 | 9 => {
                let _ = writeln!(
                    out,
                    "[env:{}]",
                    chance.pick(&["web", "*", "api,web", "J*", "x.y", "web"])
                );
                variables(chance, out);
            }
            10 if chance.one_in(3) => {
                let _ = writeln!(
                    out,
                    "[DEFAULT]\n{}",
                    chance.pick(&["max_age = 50", "priority = 2", "X = y"])
                );
            }
            10 => {
                let _ = writeln!(
                    out,
                    "[plugin:{}]\nuse = a.b.C\nloop_rate = 5",
                    chance.pick(&["p", "q"])
                );
            }
            _ => {
                let _ = writeln!(
                    out,
                    "[socket:{}]\nhost = 127.0.0.1\nport = 0",
                    chance.pick(&["s", "T"])
                );
            }
        }
    }
}

fn option(chance: &mut Chance, out: &mut String) {
    let (key, texts) = OPTIONS[chance.below(OPTIONS.len())];
    let between = chance.pick(&[" = ", "=", ": ", " =  "]);
    let text = chance.pick(texts);
    let end = chance.pick(&["", "", "", "  ; note", " "]);
    let _ = writeln!(out, "{key}{between}{text}{end}");
    if chance.one_in(6) {
        out.push_str(chance.pick(&["# about the next\n", "\n", "rem old = 1\n"]));
    }
}

fn variables(chance: &mut Chance, out: &mut String) {
    for _ in 0..=chance.below(3) {
        let name = chance.pick(VARIABLES);
        let _ = writeln!(out, "{name} = {}", chance.pick(VALUES));
    }
}

/// A desired state, as JSON.
pub fn desired(chance: &mut Chance) -> Value {
    let mut state = json!({"watcher": {}});
    for _ in 0..=chance.below(4) {
        state["watcher"][chance.pick(WANTED)] = watcher(chance);
    }
    if chance.one_in(5) {
        state["env"] = environment(chance);
    }
    if chance.one_in(6) {
        state["circus"] = pick(
            chance,
            &[
                json!({"warmup_delay": 2}),
                json!({"check_delay": 3.5, "loglevel": "debug"}),
                json!({"umask": "027"}),
                json!({"warmup_delay": null}),
            ],
        );
    }
    if chance.one_in(5) {
        let socket = pick(
            chance,
            &[
                json!({"host": "127.0.0.1", "port": 0}),
                json!({"path": "s.sock", "replace": true}),
                json!({"state": "absent"}),
                json!({"backlog": 64, "port": 0}),
            ],
        );
        state["socket"][chance.pick(&["s", "u"])] = socket;
    }
    if chance.one_in(6) {
        let plugin = pick(
            chance,
            &[
                json!({"use": "a.b.C", "loop_rate": 7}),
                json!({"use": "a.b.D"}),
                json!({"state": "absent"}),
            ],
        );
        state["plugin"][chance.pick(&["p", "r"])] = plugin;
    }
    if chance.one_in(6) {
        state["prune"] = json!(true);
    }
    state
}

fn pick(chance: &mut Chance, from: &[Value]) -> Value {
    from[chance.below(from.len())].clone()
}

fn environment(chance: &mut Chance) -> Value {
    let mut all = Map::new();
    for _ in 0..=chance.below(2) {
        let value = match chance.below(4) {
            0 => Value::Null,
            1 => json!(chance.below(3)),
            _ => json!(chance.pick(VALUES)),
        };
        all.insert(chance.pick(VARIABLES).to_owned(), value);
    }
    Value::Object(all)
}

/// One watcher as it is wanted.
pub fn watcher(chance: &mut Chance) -> Value {
    if chance.one_in(8) {
        return json!({"state": "absent"});
    }
    let mut wanted = Map::new();
    if !chance.one_in(12) {
        wanted.insert(
            "cmd".into(),
            json!(chance.pick(&["sleep 1000", "sleep 2000", "cat", "/bin/sleep 7"])),
        );
    }
    let values: &[(&str, &[Value])] = &[
        ("numprocesses", &[json!(1), json!(2), json!(4), json!(0)]),
        (
            "args",
            &[
                json!("-v"),
                json!(["a", "b c"]),
                json!("one two"),
                json!("$(circus.wid)"),
            ],
        ),
        ("max_age", &[json!(0), json!(100), json!(7200)]),
        ("max_retry", &[json!(5), json!(9), json!(-1)]),
        ("graceful_timeout", &[json!(30), json!(1.5), json!(2)]),
        ("warmup_delay", &[json!(0), json!(1)]),
        ("priority", &[json!(0), json!(3)]),
        ("stop_signal", &[json!("TERM"), json!("SIGINT"), json!(9)]),
        ("copy_env", &[json!(true), json!(false)]),
        ("send_hup", &[json!(true), json!(false)]),
        ("use_sockets", &[json!(true), json!(false)]),
        ("autostart", &[json!(true), json!(false)]),
        ("respawn", &[json!(true), json!(false)]),
        ("working_dir", &[json!("/tmp"), json!("/")]),
        (
            "rlimits",
            &[json!({"nofile": 600}), json!({"nofile": 1024, "core": 0})],
        ),
        (
            "stdout_stream",
            &[json!({"class": "FileStream", "filename": "/dev/null"})],
        ),
        (
            "state",
            &[json!("running"), json!("stopped"), json!("present")],
        ),
        (
            "restart_on_change",
            &[json!("auto"), json!("never"), json!("always")],
        ),
    ];
    for _ in 0..chance.below(5) {
        let (key, from) = values[chance.below(values.len())];
        wanted.insert(key.to_owned(), pick(chance, from));
    }
    if chance.one_in(3) {
        wanted.insert("env".into(), environment(chance));
    }
    let mut unset = BTreeSet::new();
    for _ in 0..chance.below(3) {
        let key = chance.pick(&[
            "max_age",
            "args",
            "priority",
            "graceful_timeout",
            "numprocesses",
            "my_own",
            "rlimit_nofile",
        ]);
        let as_part = key == "rlimit_nofile" && wanted.contains_key("rlimits");
        if !wanted.contains_key(key) && !as_part {
            unset.insert(key);
        }
    }
    if !unset.is_empty() {
        wanted.insert("unset".into(), json!(unset));
    }
    Value::Object(wanted)
}

/// A watcher whose workers can run and stay, with options that a daemon takes at once, with a reload, or only anew.
pub fn runnable(chance: &mut Chance) -> Value {
    if chance.one_in(7) {
        return json!({"state": "absent"});
    }
    let mut wanted = Map::new();
    wanted.insert(
        "cmd".into(),
        json!(chance.pick(&["sleep 1000", "sleep 1000", "sleep 2000"])),
    );
    let values: &[(&str, &[Value])] = &[
        ("numprocesses", &[json!(1), json!(2), json!(3), json!(0)]),
        ("max_age", &[json!(0), json!(5000), json!(7200)]),
        ("max_retry", &[json!(5), json!(9), json!(-1)]),
        ("graceful_timeout", &[json!(30), json!(1.5), json!(2)]),
        ("priority", &[json!(0), json!(3)]),
        ("stop_signal", &[json!("TERM"), json!("SIGINT"), json!(9)]),
        ("copy_env", &[json!(true), json!(false)]),
        ("send_hup", &[json!(false)]),
        ("autostart", &[json!(true)]),
        ("working_dir", &[json!("/tmp"), json!("/")]),
        (
            "rlimits",
            &[json!({"nofile": 600}), json!({"nofile": 1024, "core": 0})],
        ),
        (
            "state",
            &[json!("running"), json!("stopped"), json!("present")],
        ),
        (
            "restart_on_change",
            &[json!("auto"), json!("never"), json!("always")],
        ),
    ];
    for _ in 0..chance.below(5) {
        let (key, from) = values[chance.below(values.len())];
        wanted.insert(key.to_owned(), pick(chance, from));
    }
    if chance.one_in(3) {
        wanted.insert("env".into(), environment(chance));
    }
    if chance.one_in(4) {
        let key = chance.pick(&["max_age", "priority", "graceful_timeout", "numprocesses"]);
        if !wanted.contains_key(key) {
            wanted.insert("unset".into(), json!([key]));
        }
    }
    Value::Object(wanted)
}

/// A state of such watchers, with what may stand beside them.
pub fn runnable_state(chance: &mut Chance) -> Value {
    let mut state = json!({"watcher": {}});
    for _ in 0..=chance.below(3) {
        state["watcher"][chance.pick(&["web", "api", "Job 1", "new"])] = runnable(chance);
    }
    if chance.one_in(6) {
        state["env"] = environment(chance);
    }
    if chance.one_in(6) {
        let socket = pick(
            chance,
            &[
                json!({"path": "s.sock"}),
                json!({"path": "s.sock", "backlog": 64}),
                json!({"state": "absent"}),
            ],
        );
        state["socket"]["s"] = socket;
    }
    if chance.one_in(5) {
        state["prune"] = json!(true);
    }
    state
}
