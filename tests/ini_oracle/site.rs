//! Whole configurations for the oracle: a main file, included files, an environment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::random::Chance;

/// The environment every generated configuration is read in.
pub fn environ() -> BTreeMap<String, String> {
    [
        ("HOME", "/home/u"),
        ("PATH", "/bin:/usr/bin"),
        ("X", " x$HOME "),
        ("COUNT", "3"),
        ("YES", "yes"),
        ("lower", "low"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

const TEXTS: &[&str] = &[
    "plain",
    "$(circus.env.home)/x",
    "((circus.env.LOWER))",
    "$(circus.env.nope)",
    "$(circus.env.z)",
    "$HOME/$NOPE$X",
    "$home $1 $$HOME",
    "$(circus.wid)",
    "a ; comment",
    "\"\"",
    "",
    "one\n  two",
];
const WATCHERS: &[&str] = &["a", "b", "web 1", "Web", "x.y", "c:d"];
const PATTERNS: &[&str] = &[
    "a", "a,b", "*", "w*,  x.?", "[ab]", "[!a]*", "Web", "nobody", "?",
];

/// Option keys with values that suit them; the last value of each is wrong for most.
const OPTIONS: &[(&str, &[&str])] = &[
    (
        "numprocesses",
        &["1", "2", " 3", "1_0", "$(circus.env.COUNT)", "many"],
    ),
    ("warmup_delay", &["0", "5", "x"]),
    ("max_retry", &["-1", "7", "1.5"]),
    (
        "graceful_timeout",
        &["1", "0.5", "1e2", "$(circus.env.count)", "soon"],
    ),
    ("max_age", &["0", "100", "$(circus.env.count)", "old"]),
    ("max_age_variance", &["0", "5", "x"]),
    ("priority", &["-5", "0", "12", "high"]),
    (
        "stop_signal",
        &["9", "QUIT", "SIGINT", "sigusr1", "SIGRTMIN+1", "NOSUCH"],
    ),
    ("shell", &["True", "no", "$(circus.env.yes)", "maybe"]),
    ("send_hup", &["on", "off", "1", "0", ""]),
    ("copy_env", &["True", "True", "yes", "False", "si"]),
    ("copy_env", &["True", "True", "yes", "False"]),
    ("copy_path", &["False", "0", "True"]),
    ("use_sockets", &["True", "TRUE", "2"]),
    ("singleton", &["False", "False", "True"]),
    ("respawn", &["False", "true", "never"]),
    ("autostart", &["False", "Yes", "later"]),
    ("check_flapping", &["False", "True", "?"]),
    ("close_child_stdin", &["False", "x"]),
    ("close_child_stdout", &["True"]),
    ("stop_children", &["True", " yes "]),
    ("on_demand", &["False", "no"]),
    ("rlimit_nofile", &["500", "", "lots"]),
    ("rlimit_core", &["0", "-1", "1_000"]),
    ("stdout_stream.class", &["FileStream"]),
    ("stdout_stream.filename", &["/dev/null"]),
    ("stderr_stream.class", &["StdoutStream"]),
    (
        "hooks.before_start",
        &["m.f", "m.f, True", "m.f,0", "m.f,x"],
    ),
    ("uid", &["nobody", "0", "$(circus.env.x)"]),
    ("gid", &["nogroup"]),
    ("working_dir", &["/tmp", "$(circus.env.home)", ""]),
    ("stdin_socket", &["s"]),
    ("my_own", &["text", "$(circus.env.home)"]),
    ("shell_args", &["a b", ""]),
];

const CIRCUS: &[(&str, &[&str])] = &[
    ("check_delay", &["5", "0.5", "-1_0e-1x"]),
    (
        "endpoint",
        &["tcp://127.0.0.1:$(circus.env.COUNT)", "ipc:///x"],
    ),
    ("pubsub_endpoint", &["tcp://127.0.0.1:1"]),
    ("stats_endpoint", &["tcp://127.0.0.1:2"]),
    ("statsd", &["True", "off", "2"]),
    ("umask", &["022", "0o77", "", "9"]),
    ("warmup_delay", &["2", "x"]),
    ("httpd", &["False", "1"]),
    ("httpd_port", &["80", "+81", "8o"]),
    ("debug", &["True"]),
    ("pidfile", &["$(circus.env.home)/pid"]),
    ("loglevel", &["DEBUG"]),
    ("endpoint_owner", &["nobody"]),
    ("fqdn_prefix", &["p"]),
];

const SOCKET: &[(&str, &[&str])] = &[
    ("host", &["127.0.0.1", "$(circus.env.home)"]),
    ("port", &["0", "80", " 8_080", "http"]),
    ("path", &["/tmp/s"]),
    ("family", &["AF_INET", "af_inet6", "AF_X"]),
    ("type", &["SOCK_STREAM", "sock_dgram", "SOCK_X"]),
    ("backlog", &["5", "x"]),
    ("umask", &["022", "8", "0o2"]),
    ("replace", &["True", "no", "x"]),
    ("so_reuseport", &["True", "off", "x"]),
    ("blocking", &["True", "x"]),
    ("interface", &["lo"]),
    ("other", &["$(circus.env.X)"]),
];

/// Writes a configuration below `dir` and answers the main file's name.
pub fn write(chance: &mut Chance, dir: &Path) -> &'static str {
    let mut main = String::from("[circus]\n");
    if chance.one_in(3) {
        let _ = writeln!(
            main,
            "include = {}",
            chance.pick(&[
                "more.ini",
                "*.inc none.ini",
                "more.ini\n  x.inc",
                "/nowhere/*",
                "[mx]*"
            ])
        );
    }
    if chance.one_in(3) {
        let _ = writeln!(
            main,
            "include_dir = {}",
            chance.pick(&["conf.d", "conf*", "nope"])
        );
    }
    keys(chance, CIRCUS, 4, &mut main);
    sections(chance, 6, &mut main);
    save(dir, "main.ini", &main);
    for name in [
        "more.ini",
        "x.inc",
        "conf.d/1.ini",
        "conf.d/2.ini",
        "conf.d/.hidden.ini",
    ] {
        let mut text = String::from("# included\n");
        sections(chance, 2, &mut text);
        save(dir, name, &text);
    }
    "main.ini"
}

fn save(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("made");
    std::fs::write(path, text).expect("written");
}

fn sections(chance: &mut Chance, most: usize, out: &mut String) {
    for _ in 0..=chance.below(most) {
        match chance.below(12) {
            0..=5 => {
                let _ = writeln!(out, "[watcher:{}]", chance.pick(WATCHERS));
                if !chance.one_in(12) {
                    let _ = writeln!(
                        out,
                        "cmd = {}",
                        chance.pick(&["x", "y $WID", "$(circus.env.home)/z"])
                    );
                }
                if chance.one_in(3) {
                    let _ = writeln!(out, "args = {}", chance.pick(TEXTS));
                }
                if chance.one_in(25) {
                    let _ = writeln!(out, "name = {}", chance.pick(WATCHERS));
                }
                keys(chance, OPTIONS, 5, out);
            }
            6 | 7 => {
                let _ = writeln!(out, "[socket:{}]", chance.pick(&["s", "T", "u:v"]));
                keys(chance, SOCKET, 4, out);
            }
            8 => {
                out.push_str("[env]\n");
                variables(chance, out);
            }
            9 | 10 => {
                let _ = writeln!(out, "[env:{}]", chance.pick(PATTERNS));
                variables(chance, out);
            }
            _ if chance.one_in(3) => {
                out.push_str("[DEFAULT]\n");
                variables(chance, out);
            }
            _ => {
                let _ = writeln!(out, "[plugin:{}]", chance.pick(&["p", "q"]));
                let _ = writeln!(out, "use = {}", chance.pick(TEXTS));
                if chance.one_in(2) {
                    let _ = writeln!(out, "priority = {}", chance.pick(&["1", "-2", "3", "x"]));
                }
            }
        }
    }
}

fn variables(chance: &mut Chance, out: &mut String) {
    for _ in 0..chance.below(4) {
        let name = chance.pick(&["HOME", "Z", "z", "home", "NEW", "PATH", "COUNT"]);
        let _ = writeln!(out, "{name} = {}", chance.pick(TEXTS));
    }
}

fn keys(chance: &mut Chance, from: &[(&str, &[&str])], most: usize, out: &mut String) {
    for _ in 0..=chance.below(most) {
        let (key, values) = from[chance.below(from.len())];
        // The wrong value only now and then: one is enough to refuse everything.
        let right = (values.len() - 1).max(1);
        let at = if chance.one_in(30) {
            values.len() - 1
        } else {
            chance.below(right)
        };
        let _ = writeln!(out, "{key} = {}", values[at]);
    }
}
