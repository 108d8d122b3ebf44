//! Conversions between circus.ini and circus.toml: circ reads the same configuration from both, and the real Circus
//! finds in what became of a circus.toml the values that circ finds in the circus.toml.

use std::fmt::Write as _;
use std::path::Path;

use circ::config::convert::{ini_to_toml, toml_to_ini};
use circ::config::{Config, ConfigError};

use crate::random::Chance;
use crate::site;

/// What two files of one directory mean must be the same; answers whether they mean anything.
pub fn same_meaning(dir: &Path, one: &str, other: &str, what: &str) -> bool {
    let load = |name: &str| Config::load(Path::new(name), &site::environ(), dir);
    match (load(one), load(other)) {
        (Ok(one), Ok(other)) => {
            let shown = || format!("{what}: {}", dir.display());
            assert_eq!(one.circus, other.circus, "{}", shown());
            assert_eq!(one.watchers, other.watchers, "{}", shown());
            assert_eq!(one.plugins, other.plugins, "{}", shown());
            // The raw text of a truth value is the one thing that has several spellings.
            let typed = |config: &Config| {
                let mut sockets = config.sockets.clone();
                let truths = ["replace", "so_reuseport", "blocking"];
                for socket in &mut sockets {
                    socket.raw.retain(|key, _| !truths.contains(&key.as_str()));
                    socket.raw.sort_keys();
                }
                sockets
            };
            assert_eq!(typed(&one), typed(&other), "{}", shown());
            let sections = |config: &Config| {
                let mut all: Vec<String> = config.sections().map(str::to_owned).collect();
                all.sort();
                all
            };
            assert_eq!(sections(&one), sections(&other), "{}", shown());
            true
        }
        (Err(one), Err(other)) => {
            let problems = |error: &ConfigError| {
                let mut all: Vec<String> = error
                    .problems
                    .iter()
                    .map(|p| format!("{:?} {:?} {}", p.section, p.key, plain(&p.what)))
                    .collect();
                all.sort();
                // A file that includes itself tells it twice.
                all.dedup();
                all
            };
            assert_eq!(problems(&one), problems(&other), "{what}");
            false
        }
        (one, other) => panic!(
            "{what}: only one is refused: {:?} {:?}",
            one.err(),
            other.err()
        ),
    }
}

/// A complaint without the place of another line, which a conversion may move.
fn plain(what: &str) -> &str {
    what.split("value that ").next().unwrap_or_default()
}

/// Converts a circus.ini of a directory to circus.toml and back, to `converted.toml` and `converted.ini` beside it. Both
/// must mean what it means. Answers how much could not be carried over.
pub fn there_and_back(dir: &Path, main: &str, what: &str) -> usize {
    let bytes = std::fs::read(dir.join(main)).expect("readable");
    let toml = ini_to_toml(&bytes, main).unwrap_or_else(|error| panic!("{what}: {error}"));
    let back = toml_to_ini(toml.text.as_bytes(), "t.toml")
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    for (name, text) in [
        ("converted.toml", &toml.text),
        ("converted.ini", &back.text),
    ] {
        std::fs::write(dir.join(name), text).expect("written");
        same_meaning(
            dir,
            main,
            name,
            &format!("{what}\n{}\n{}", toml.text, back.text),
        );
    }
    lost(&back.notes)
}

/// How many of the notes tell of what could not be carried over.
pub fn lost(notes: &[String]) -> usize {
    let lost = notes.iter().filter(|note| note.contains("made a comment"));
    lost.count()
}

/// Lines for the table of a watcher; the last column is wrong.
const OPTIONS: &[&[&str]] = &[
    &[
        "args = [\"-x\", 'a b', \"$(circus.env.home)\", 7]",
        "args = ['']",
        "args = \"--y 'z w'\"",
        "args = \"\"",
        "args = 1",
    ],
    &[
        "numprocesses = 2",
        "numprocesses = 1_0",
        "numprocesses = \"$(circus.env.COUNT)\"",
        "numprocesses = \"many\"",
    ],
    &[
        "copy_env = true",
        "copy_env = \"no\"",
        "copy_env = false",
        "copy_env = \"si\"",
    ],
    &[
        "graceful_timeout = 0.50",
        "graceful_timeout = 1e2",
        "graceful_timeout = 7",
        "graceful_timeout = \"soon\"",
    ],
    &[
        "hooks.before_start = \"m.f\"",
        "hooks = { after_stop = { call = \"m.g\", ignore_failure = true } }",
        "hooks.before_stop = \"m.f,maybe\"",
    ],
    &[
        "rlimits = { nofile = 0x20, core = 0 }",
        "rlimit_as = 1_000",
        "rlimits.nofile = \"lots\"",
    ],
    &[
        "stdout_stream = { class = \"FileStream\", filename = \"/dev/null\" }",
        "stderr_stream.class = \"StdoutStream\"",
        "stdout_stream.x = 1",
    ],
    &[
        "env.HOME = \"/h\"",
        "env = { X = \"$HOME\", Z = 1.10 }",
        "env.\"q.r\" = true",
        "env = \"A=1\"",
    ],
    &[
        "stop_signal = \"QUIT\"",
        "stop_signal = 9",
        "stop_signal = \"NOSUCH\"",
    ],
    &[
        "mine = \"\"\"\none\ntwo\"\"\"",
        "mine = [] # a comment",
        "max_age = 1.5",
    ],
    &[
        "uid = 0",
        "gid = \"nogroup\"",
        "virtualenv_py_ver = 3.10",
        "shell = 2",
    ],
    &[
        "priority = -5 # first",
        "priority = +3",
        "priority = \"high\"",
    ],
];

/// Writes a circus.toml as a person would.
pub fn toml(chance: &mut Chance) -> String {
    let mut text = String::from("# made by chance\n[circus]\n");
    for line in [
        "umask = 0o022",
        "warmup_delay = 5 # s",
        "debug = true",
        "include = [\"more.ini\",\n  \"none.ini\"]",
        "check_delay = 7",
    ] {
        if chance.one_in(3) {
            let _ = writeln!(text, "{line}");
        }
    }
    for name in ["a", "\"web 1\"", "\"x.y\"", "'c:d'"] {
        if chance.one_in(3) {
            continue;
        }
        let _ = writeln!(
            text,
            "\n# the watcher {name}\n[watcher.{name}]\ncmd = {}",
            chance.pick(&["\"x\"", "'y $WID'", "\"$(circus.env.home)/z\""])
        );
        let first = chance.below(OPTIONS.len());
        for at in 0..chance.below(5) {
            // Neighbours, so that no key comes twice.
            let choices = OPTIONS[(first + at) % OPTIONS.len()];
            let right = choices.len() - usize::from(!chance.one_in(60));
            let _ = writeln!(text, "{}", choices[chance.below(right)]);
        }
    }
    for (table, lines) in [
        ("socket.s", "port = 0\nso_reuseport = true\n"),
        ("socket.T", "path = \"/tmp/s\" # here\numask = 8\n"),
        (
            "plugin.p",
            "use = \"x.Y\"\npriority = 1\nown.key = \"\"\"\nx\ny\"\"\" # two lines\n",
        ),
        ("plugin.q", "use = 'x.Z'\nown.key = -0.5\n"),
        ("env", "Z = \" x$HOME \"\nN = 1\n"),
        ("env.\"*\"", "HOME = \"all\"\nW = \"w\"\n"),
        ("env.\"w*, a\"", "HOME = \"some\"\n"),
        (
            "\"watcher:Late\"",
            "cmd = \"x ${socket:s}\"\nuse_sockets = true\n",
        ),
    ] {
        if chance.one_in(2) {
            let _ = write!(text, "\n[{table}]\n{lines}");
        }
    }
    text
}
