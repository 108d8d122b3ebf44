//! Desired-state documents: what they mean, in each of their formats, and what is said of wrong ones.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use circ::state::desired::{
    Desired, DesiredSection, DesiredState, OnChange, Running, SectionKind, Wanted,
};
use circ::state::document::{self, Format, Source};

const TOML: &str = r#"
schema = "circ.desired/1"
prune = true

[circus]
warmup_delay = 1
umask = "022"

[env]
LANG = "C.UTF-8"

[env."web*, other"]
PORT = 8080
BOTH = "pattern"

[watcher.web]
numprocesses = 4
cmd = "python3 worker.py"
args = ["--fd", "$(circus.sockets.web)", "a b"]
graceful_timeout = 1.5
copy_env = true
stop_signal = "QUIT"
rlimits.nofile = 4096
rlimit_core = -1
hooks.before_start = "m.f,True"
stdout_stream = { class = "FileStream", filename = "web.log", max_bytes = 1000 }
x_own = "kept"
unset = ["max_age", "stderr_stream.class"]
env = { TOKEN = "x", BOTH = "own" }
restart_on_change = "never"

[watcher.later]
cmd = "sleep 9"
autostart = false

[watcher.old]
state = "absent"
with_env = true

[watcher.off]
state = "stopped"

[socket.web]
host = "127.0.0.1"
port = 8000

[socket.gone]
state = "absent"

[plugin.flap]
use = "circus.plugins.flapping.Flapping"
retry_in = 3
"#;

const JSON: &str = r#"{
  "$schema": "https://example.com/desired.json",
  "prune": true,
  "circus": {"warmup_delay": 1, "umask": "022"},
  "env": {"LANG": "C.UTF-8", "web*, other": {"PORT": 8080, "BOTH": "pattern"}},
  "watcher": {
    "web": {
      "numprocesses": 4,
      "cmd": "python3 worker.py",
      "args": ["--fd", "$(circus.sockets.web)", "a b"],
      "graceful_timeout": 1.5, "copy_env": true, "stop_signal": "QUIT",
      "rlimits": {"nofile": 4096}, "rlimit_core": -1,
      "hooks": {"before_start": "m.f,True"},
      "stdout_stream": {"class": "FileStream", "filename": "web.log", "max_bytes": 1000},
      "x_own": "kept", "max_age": null, "stderr_stream": {"class": null},
      "env": {"TOKEN": "x", "BOTH": "own"},
      "restart_on_change": "never"
    },
    "later": {"cmd": "sleep 9", "autostart": false},
    "old": {"state": "absent", "with_env": true},
    "off": {"state": "stopped"}
  },
  "socket": {"web": {"host": "127.0.0.1", "port": 8000}, "gone": {"state": "absent"}},
  "plugin": {"flap": {"use": "circus.plugins.flapping.Flapping", "retry_in": 3}}
}"#;

fn parse(text: &str, format: Format) -> Result<DesiredState, String> {
    document::parse(text.as_bytes(), "doc", format).map_err(|error| error.to_string())
}

fn options(watcher: &Desired) -> Vec<(&str, &str)> {
    let pairs = watcher.options.iter();
    pairs.map(|w| (w.key.as_str(), w.text.as_str())).collect()
}

#[test]
fn toml_and_json_say_the_same() {
    let state = parse(TOML, Format::Toml).unwrap();
    assert_eq!(parse(JSON, Format::Json).unwrap(), state);
    assert!(state.prune);
    let web = &state.watchers[0];
    assert_eq!(
        options(web),
        [
            ("cmd", "python3 worker.py"),
            ("args", "--fd '$(circus.sockets.web)' 'a b'"),
            ("numprocesses", "4"),
            ("graceful_timeout", "1.5"),
            ("copy_env", "True"),
            ("stop_signal", "QUIT"),
            ("rlimit_nofile", "4096"),
            ("rlimit_core", "-1"),
            ("hooks.before_start", "m.f,True"),
            ("stdout_stream.class", "FileStream"),
            ("stdout_stream.filename", "web.log"),
            ("stdout_stream.max_bytes", "1000"),
            ("x_own", "kept"),
        ]
    );
    assert_eq!(web.unset, ["max_age", "stderr_stream.class"]);
    let env: Vec<(&str, Option<&str>)> = web
        .env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()))
        .collect();
    assert_eq!(
        env,
        [
            ("PORT", Some("8080")),
            ("BOTH", Some("own")),
            ("TOKEN", Some("x"))
        ]
    );
    assert_eq!(
        (web.running, web.on_change),
        (Running::Yes, OnChange::Never)
    );
    let [_, later, old, off] = &state.watchers[..] else {
        panic!("four watchers")
    };
    assert_eq!(later.running, Running::Any);
    assert!(!old.present && old.with_env && !old.with_socket);
    assert_eq!((off.present, off.running), (true, Running::No));
    let sections: Vec<(SectionKind, &str, bool, usize)> = state
        .sections
        .iter()
        .map(|s| (s.kind, s.name.as_str(), s.present, s.options.len()))
        .collect();
    assert_eq!(
        sections,
        [
            (SectionKind::Circus, "", true, 2),
            (SectionKind::Env, "", true, 1),
            (SectionKind::Socket, "web", true, 2),
            (SectionKind::Socket, "gone", false, 0),
            (SectionKind::Plugin, "flap", true, 2),
        ]
    );
}

#[test]
fn a_circus_ini_is_a_desired_state_as_it_is_written() {
    let ini = "[circus]\nendpoint = tcp://127.0.0.1:5555\nwarmup_delay: 2 ; two\n\
        [DEFAULT]\nmax_retry = 3\n\
        [watcher:web]\ncmd = a $(circus.env.X)\n  b\nnumprocesses = 0_4\nmy_key = mine\nautostart = no\n\
        [watcher:web]\ncmd = shadowed\n\
        [watcher:named]\nname = other\ncmd = o\n\
        [env]\nA = 1\n[env:w*]\nB = 2\n[env:web,other]\nB = 3\n\
        [socket:s]\nbacklog = 5\n[loggers]\nkeys = root\n";
    let state = parse(ini, Format::Ini).unwrap();
    let web = &state.watchers[0];
    assert_eq!(
        options(web),
        [
            ("cmd", "a $(circus.env.X)\nb"),
            ("numprocesses", "4"),
            ("my_key", "mine"),
            ("autostart", "no"),
            ("max_retry", "3"),
        ]
    );
    assert_eq!(web.running, Running::Any);
    assert_eq!(state.watchers[1].name, "other");
    // DEFAULT stands in for missing keys everywhere, as in Circus.
    let b = ("B".to_string(), Some("3".to_string()));
    assert!(web.env.contains(&b) && state.watchers[1].env.contains(&b));
    assert!(state.sections.iter().any(|s| s.section() == "socket:s"));
    assert!(state.warnings.iter().any(|told| told.contains("[loggers]")));
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_key() {
    for (format, text, says) in [
        (
            Format::Toml,
            "watchers = 1",
            "doc:1: watchers: unknown key; did you mean watcher?",
        ),
        (
            Format::Toml,
            "\n[watcher.web]\nnumproceses = 4",
            "doc:3: watcher.web.numproceses: unknown option; did you mean numprocesses?",
        ),
        (
            Format::Toml,
            "[watcher.web]\nxyzzyplugh = 4",
            "begins with x_",
        ),
        (
            Format::Toml,
            "[watcher.web]\nnumprocesses = \"four\"",
            "doc:2: watcher.web.numprocesses: \"four\" is not a whole number",
        ),
        (
            Format::Json,
            "{\"watcher\": {\"web\":\n {\"numprocesses\": -1}}}",
            "doc:2: watcher.web.numprocesses: -1 is not a whole number from 0",
        ),
        (
            Format::Json,
            "{\"watcher\": {\"web\": {\"numprocesses\": 1.5}}}",
            "1.5 is not a whole number",
        ),
        (
            Format::Json,
            "{\"watcher\": {\"web\": {\"numprocesses\": true}}}",
            "true is not a whole number",
        ),
        (
            Format::Json,
            "{\"watcher\": {\"web\": {\"cmd\": 5}}}",
            "put it in quotes",
        ),
        (
            Format::Json,
            "{\"watcher\": {\"web\": {\"cmd\": \" \"}}}",
            "not text that is not empty",
        ),
        (
            Format::Json,
            "{\"watcher\": {\"web\": {\"cmd\": [\"a\"]}}}",
            "a list is not text",
        ),
        (
            Format::Json,
            "{\"watcher\": {\"web\": {}, \"WEB\": {}}}",
            "names do not distinguish case",
        ),
        (
            Format::Json,
            "{\"watcher\": {\"web\": {}, \"web\": {}}}",
            "twice",
        ),
        (
            Format::Toml,
            "[watcher.web]\n[watcher.web]\n",
            "doc:2: this is not TOML",
        ),
        (
            Format::Toml,
            "[watcher.web]\nstate = \"started\"",
            "is not one of running, stopped, present, absent",
        ),
        (
            Format::Toml,
            "[watcher.web]\nrestart_on_change = true",
            "is not one of auto, never, always",
        ),
        (
            Format::Toml,
            "[watcher.web]\nsingleton = true\nnumprocesses = 2",
            "doc:3: watcher.web.numprocesses: 2 workers are wanted of a singleton",
        ),
        (
            Format::Toml,
            "[watcher.web]\nstop_signal = \"NOPE\"",
            "a signal",
        ),
        (
            Format::Toml,
            "[watcher.web]\nrlimits.nofiles = 1",
            "limits are",
        ),
        (
            Format::Toml,
            "[watcher.web]\nrlimits.nofile = 1\nrlimit_nofile = 2",
            "already",
        ),
        (
            Format::Toml,
            "[watcher.web]\nhooks.before = \"x\"",
            "hooks are",
        ),
        (
            Format::Toml,
            "[watcher.web]\nhooks = \"x\"",
            "a table is expected",
        ),
        (
            Format::Toml,
            "[watcher.web]\nunset = [\"maxage\"]",
            "did you mean max_age",
        ),
        (
            Format::Toml,
            "[watcher.web]\nunset = [\"cmd\"]\ncmd = \"x\"",
            "already",
        ),
        (
            Format::Toml,
            "[watcher.web]\nwith_env = true",
            "it needs state = \"absent\"",
        ),
        (
            Format::Toml,
            "[watcher.web]\nworking_dir = 1979-05-27",
            "a date is not text",
        ),
        (
            Format::Toml,
            "[watcher.web]\ngraceful_timeout = inf",
            "is not a number of seconds",
        ),
        (Format::Toml, "[watcher.web]\nenv.\"A=B\" = \"x\"", "no '='"),
        (
            Format::Toml,
            "[watcher.web]\nenv.A = [1]",
            "a list is not text",
        ),
        (Format::Toml, "[watcher.\"a]b\"]\ncmd = \"x\"", "cannot be"),
        (
            Format::Toml,
            "[[watcher]]\nname = \"web\"",
            "a table is expected",
        ),
        (
            Format::Toml,
            "[socket.web]\nbacklog = 3",
            "a socket needs a path, or a host or a port",
        ),
        (
            Format::Toml,
            "[socket.web]\npath = \"/s\"\nhost = \"h\"",
            "not both",
        ),
        (
            Format::Toml,
            "[socket.web]\nport = 70000",
            "a whole number from 0 to 65535",
        ),
        (
            Format::Toml,
            "[socket.web]\nport = 1\nfamily = \"INET\"",
            "one of AF_INET, AF_INET6, AF_UNIX",
        ),
        (
            Format::Toml,
            "[socket.web]\nport = 1\nhots = \"x\"",
            "did you mean host?",
        ),
        (Format::Toml, "[plugin.p]\nx = 1", "needs `use`"),
        (
            Format::Toml,
            "[circus]\nendpiont = \"x\"",
            "did you mean endpoint?",
        ),
        (
            Format::Toml,
            "[circus]\nendpoint = 5555",
            "not an endpoint such as",
        ),
        (
            Format::Toml,
            "[circus]\nendpoint = \"localhost:5555\"",
            "not an endpoint such as",
        ),
        (Format::Toml, "[circus]\numask = 22", "octal digits"),
        (
            Format::Toml,
            "schema = \"circ.desired/2\"",
            "circ.desired/1",
        ),
        (Format::Toml, "prune = \"yes\"", "is not true or false"),
        (Format::Json, "[]", "a table is expected"),
        (
            Format::Json,
            "{\"watcher\": {\"web\": null}}",
            "null stands here",
        ),
        (Format::Json, "{\"watcher\": ", "doc:1: this is not JSON"),
        (
            Format::Ini,
            "[watcher:web]\nnumprocesses = four\n",
            "doc:2: [watcher:web] numprocesses: \"four\" is not a whole number",
        ),
        (Format::Ini, "[watcher:web]\ncmd\n", "doc:2:"),
        (Format::Ini, "[watcher:web]\ncmd =\n", "it is empty"),
        (
            Format::Ini,
            "[watcher:web]\nrlimit_nofiles = 1\n",
            "limits are",
        ),
        (
            Format::Ini,
            "[watcher:web]\ncmd = x\n[watcher:WEB]\ncmd = y\n",
            "names do not distinguish case",
        ),
    ] {
        match parse(text, format) {
            Err(told) => assert!(told.contains(says), "{text}\n{told}"),
            Ok(state) => panic!("{text}\nwas taken: {state:?}"),
        }
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let told = parse(
        "[watcher.a]\nnumprocesses = -1\nnope_nope = 1\n[socket.s]\nport = 1e9\n",
        Format::Toml,
    )
    .unwrap_err();
    assert_eq!(told.lines().count(), 3, "{told}");
    // Not UTF-8, and not a tree at all.
    let error = document::parse(b"[watcher.a]\ncmd = \"\xff\"", "doc", Format::Toml).unwrap_err();
    assert!(error.to_string().starts_with("doc:2: "), "{error}");
}

#[test]
fn a_format_is_told_by_the_text_when_no_name_tells_it() {
    for (text, format) in [
        ("{}", Format::Json),
        ("  \n{\"a\": 1}", Format::Json),
        ("[watcher:web]\ncmd = sleep 1\n", Format::Ini),
        ("[watcher.web]\ncmd = \"sleep 1\"\n", Format::Toml),
        ("[\"watcher:web\"]\ncmd = \"sleep 1\"\n", Format::Toml),
        ("[circus]\nendpoint = tcp://127.0.0.1:5555\n", Format::Ini),
        ("prune = true\n", Format::Toml),
        ("prune = = true\n", Format::Toml),
        ("", Format::Toml),
    ] {
        assert_eq!(Format::of_text(text), format, "{text}");
    }
}

fn read(source: &str, cwd: &Path) -> Result<DesiredState, String> {
    document::read(&Source::of_argument(Path::new(source)), cwd).map_err(|error| error.to_string())
}

#[test]
fn a_directory_is_one_document() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    put(
        "d/20-b.toml",
        "[watcher.b]\ncmd = \"b\"\n[env.\"*\"]\nX = 1\n",
    );
    put(
        "d/10-a.ini",
        "[watcher:a]\ncmd = a\n[circus]\nwarmup_delay = 1\n",
    );
    put(
        "d/30-c.json",
        "{\"watcher\": {\"c\": {\"cmd\": \"c\"}}, \"circus\": {\"warmup_delay\": 1}}",
    );
    put("d/.hidden.toml", "nonsense");
    put("d/note.txt", "nonsense");
    let state = read("d", dir.path()).unwrap();
    let names: Vec<&str> = state.watchers.iter().map(|w| w.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(state.watchers.iter().all(|w| w.env.len() == 1));
    assert_eq!(state.sections.len(), 1);

    put(
        "d/40-d.toml",
        "[watcher.A]\ncmd = \"d\"\n[circus]\nwarmup_delay = 2\n",
    );
    let told = read("d", dir.path()).unwrap_err();
    assert!(
        told.contains("d/40-d.toml:1: watcher.A: d/10-a.ini:1 has this watcher already"),
        "{told}"
    );
    assert!(
        told.contains("d/40-d.toml:4: circus.warmup_delay: d/10-a.ini:4 says otherwise"),
        "{told}"
    );

    fs::create_dir(dir.path().join("empty")).unwrap();
    let state = read("empty", dir.path()).unwrap();
    assert!(state.watchers.is_empty() && state.warnings.len() == 1);
    let told = read("nowhere.toml", dir.path()).unwrap_err();
    assert!(told.contains("nowhere.toml: cannot read"), "{told}");
}

#[test]
fn includes_are_read_and_the_first_file_wins() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    fs::create_dir_all(dir.path().join("etc/more")).unwrap();
    put(
        "etc/circus.toml",
        "[circus]\ninclude = \"more/a.ini more/*.toml\"\ninclude_dir = [\"more\"]\n[watcher.web]\ncmd = \"first\"\n",
    );
    put(
        "etc/more/a.ini",
        "[watcher:web]\ncmd = second\nmax_age = 3\n",
    );
    put("etc/more/b.toml", "[watcher.b]\ncmd = \"b\"\n");
    let state = read("etc/circus.toml", dir.path()).unwrap();
    assert_eq!(
        options(&state.watchers[0]),
        [("cmd", "first"), ("max_age", "3")]
    );
    assert_eq!(state.watchers[1].name, "b");
    // The files' names are the document's own business.
    assert!(state.sections.iter().all(|s| s.options.is_empty()));
    put("etc/circus.ini", "[circus]\ninclude = none.ini\n");
    let told = read("etc/circus.ini", dir.path()).unwrap_err();
    assert!(
        told.contains("etc/circus.ini:2: circus.include: \"none.ini\" leads to no file"),
        "{told}"
    );
}

/// Texts that are easy to lose on the way through a format.
const TEXTS: &[&str] = &[
    "sleep 1",
    "",
    " ",
    " padded ",
    "a;b",
    "a ; b",
    "a # b",
    "# a",
    "'''",
    "\"\"\"",
    "\\",
    "\\u0041",
    "a\tb",
    "a\nb",
    "a\n\nb",
    "\nb",
    "\r\n",
    "é 漢 \u{1f600}",
    "\u{7f}\u{85}",
    "[x]",
    "k = v",
    "true",
    "True",
    "4",
    "4.0",
    "-0",
    "1e3",
    "null",
    "1979-05-27",
    "$(circus.env.X)",
    "((circus.wid))",
    "{\"a\": 1}",
    "%(x)s",
    "rem x",
    "\"\"",
];
const NAMES: &[&str] = &[
    "web", "a b", "a.b", "x:y", "\"q\"", "'s'", "é", "A#", "-", "1", "true",
];
const NUMBERS: &[&str] = &["0", "1", "3", "1000", "$(circus.env.N)"];
const FRACTIONS: &[&str] = &["0", "2", "1.5", "30.0", "1e3", "0.1", "((circus.env.N))"];
const TRUTHS: &[&str] = &["True", "False", "yes", "OFF", "1", "$(circus.env.B)"];

/// The option's key with texts that it takes.
fn pool() -> Vec<(String, &'static [&'static str])> {
    use circ::options::{HOOKS, Kind, RLIMITS, WATCHER_OPTIONS};
    let mut pool: Vec<(String, &[&str])> = Vec::new();
    for spec in WATCHER_OPTIONS {
        let texts: &[&str] = match spec.kind {
            Kind::Int | Kind::Count => NUMBERS,
            Kind::Seconds => FRACTIONS,
            Kind::Bool => TRUTHS,
            Kind::Text | Kind::TextOrList => TEXTS,
            Kind::Sockets => &["True", "no", "web", "a, b", "$(circus.env.B)"],
            Kind::Account => &["www-data", "0", "1000", "$(circus.env.U)"],
            Kind::Signal => &["15", "QUIT", "sigterm", "RTMIN+1"],
            Kind::Env | Kind::Stream | Kind::Hooks | Kind::Limits => continue,
        };
        if spec.name != "cmd" && spec.name != "singleton" {
            pool.push((spec.name.to_string(), texts));
        }
    }
    pool.push((
        "cmd".into(),
        &["sleep 1", "a\nb", "'x' \"y\" \\", "$(circus.env.X)"],
    ));
    pool.extend(
        HOOKS
            .iter()
            .map(|hook| (format!("hooks.{hook}"), &["m.f", "m.f,True", "a , no"][..])),
    );
    pool.extend(
        RLIMITS
            .iter()
            .map(|limit| (format!("rlimit_{limit}"), &["-1", "0", "4096"][..])),
    );
    for stream in ["stdout_stream", "stderr_stream"] {
        for entry in ["class", "filename", "time_format", "my own", "a.b"] {
            pool.push((format!("{stream}.{entry}"), TEXTS));
        }
        pool.push((format!("{stream}.max_bytes"), &["0", "1000"]));
    }
    for own in ["x_a", "x-b", "my_key", "my key", "my.key", "é"] {
        pool.push((own.to_string(), TEXTS));
    }
    pool
}

fn keys_of(section: SectionKind) -> Vec<(String, &'static [&'static str])> {
    match section {
        SectionKind::Circus => vec![
            ("endpoint".into(), &["tcp://127.0.0.1:5555", "ipc:///x y"]),
            ("umask".into(), &["022", "0o77"]),
            ("check_delay".into(), &["-1", "0.5", "5.0"]),
            ("loglevel".into(), &["debug", "INFO"]),
            ("pidfile".into(), TEXTS),
            ("httpd_port".into(), NUMBERS),
            ("debug".into(), TRUTHS),
        ],
        SectionKind::Socket => vec![
            ("host".into(), TEXTS),
            ("port".into(), &["0", "8000", "$(circus.env.PORT)"]),
            ("backlog".into(), NUMBERS),
            ("family".into(), &["AF_INET6", "af_inet"]),
            ("replace".into(), TRUTHS),
            ("umask".into(), &["8", "22"]),
        ],
        SectionKind::Plugin => vec![
            ("use".into(), &["a.b.C"]),
            ("priority".into(), NUMBERS),
            ("my own".into(), TEXTS),
            ("loop_rate".into(), &["3", "1.5", "True"]),
        ],
        SectionKind::Env => NAMES
            .iter()
            .filter(|name| !name.contains(':'))
            .map(|name| (name.to_string(), TEXTS))
            .collect(),
    }
}

type Pool = Vec<(String, &'static [&'static str])>;

/// Some keys of a pool: with a text, or to be unset.
fn stated(pool: Pool) -> impl Strategy<Value = (Vec<Wanted>, Vec<String>)> {
    let some = prop::sample::subsequence(pool.clone(), 0..=pool.len().min(9)).prop_shuffle();
    (
        some,
        prop::collection::vec((any::<u8>(), any::<prop::sample::Index>()), 9),
    )
        .prop_map(|(keys, dice)| {
            let mut options = Vec::new();
            let mut unset = Vec::new();
            for ((key, texts), (die, index)) in keys.into_iter().zip(dice) {
                if die < 40 {
                    unset.push(key);
                } else {
                    let text = index.get(texts).to_string();
                    options.push(Wanted { key, text });
                }
            }
            (options, unset)
        })
}

fn watcher() -> impl Strategy<Value = Desired> {
    let env = keys_of(SectionKind::Env);
    let choice = (any::<bool>(), 0..3u8, 0..3u8, any::<bool>(), any::<bool>());
    (stated(pool()), stated(env), choice).prop_map(|((options, unset), (env, no_env), choice)| {
        let (present, running, on_change, with_env, with_socket) = choice;
        if !present && running == 0 {
            return Desired {
                running: Running::Any,
                with_env,
                with_socket,
                ..Desired::default()
            };
        }
        let with = env
            .into_iter()
            .map(|wanted| (wanted.key, Some(wanted.text)));
        let without = no_env.into_iter().map(|name| (name, None));
        Desired {
            present: true,
            options,
            unset,
            env: with.chain(without).collect(),
            running: [Running::Yes, Running::No, Running::Any][running as usize],
            on_change: [OnChange::Auto, OnChange::Never, OnChange::Always][on_change as usize],
            ..Desired::default()
        }
    })
}

fn section(kind: SectionKind) -> impl Strategy<Value = DesiredSection> {
    (stated(keys_of(kind)), 0..4u8).prop_map(move |((mut options, mut unset), die)| {
        let global = matches!(kind, SectionKind::Circus | SectionKind::Env);
        if die == 0 && !global {
            return DesiredSection {
                kind,
                name: String::new(),
                present: false,
                options: Vec::new(),
                unset: Vec::new(),
            };
        }
        let must = match kind {
            SectionKind::Socket => ("port", "8000"),
            _ => ("use", "a.b.C"),
        };
        if !global && !options.iter().any(|wanted| wanted.key == must.0) {
            unset.retain(|key| key != must.0);
            options.push(Wanted {
                key: must.0.into(),
                text: must.1.into(),
            });
        }
        DesiredSection {
            kind,
            name: String::new(),
            present: true,
            options,
            unset,
        }
    })
}

fn state() -> impl Strategy<Value = DesiredState> {
    let names = || prop::sample::subsequence(NAMES, 0..=3);
    let watchers = (names(), prop::collection::vec(watcher(), 3));
    let sockets = (
        names(),
        prop::collection::vec(section(SectionKind::Socket), 3),
    );
    let plugins = (
        names(),
        prop::collection::vec(section(SectionKind::Plugin), 3),
    );
    let global = (section(SectionKind::Circus), section(SectionKind::Env));
    (watchers, sockets, plugins, global, any::<bool>()).prop_map(
        |((names, watchers), sockets, plugins, (circus, env), prune)| {
            let named = |(names, sections): (Vec<&str>, Vec<DesiredSection>)| -> Vec<_> {
                let pairs = names.into_iter().zip(sections);
                let named = pairs.map(|(name, section)| DesiredSection {
                    name: name.to_string(),
                    ..section
                });
                named.collect()
            };
            let watchers = names.into_iter().zip(watchers);
            let global = [circus, env];
            let stated = |s: &DesiredSection| !s.options.is_empty() || !s.unset.is_empty();
            DesiredState {
                origin: "doc".to_string(),
                watchers: watchers
                    .map(|(name, watcher)| Desired {
                        name: name.to_string(),
                        ..watcher
                    })
                    .collect(),
                sections: global
                    .into_iter()
                    .filter(stated)
                    .chain(named(sockets))
                    .chain(named(plugins))
                    .collect(),
                prune,
                warnings: Vec::new(),
            }
        },
    )
}

/// The order of keys means nothing.
fn sorted(mut state: DesiredState) -> DesiredState {
    for watcher in &mut state.watchers {
        watcher.options.sort_by(|a, b| a.key.cmp(&b.key));
        watcher.unset.sort();
        watcher.env.sort();
    }
    for section in &mut state.sections {
        section.options.sort_by(|a, b| a.key.cmp(&b.key));
        section.unset.sort();
    }
    state
        .sections
        .sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    state.watchers.sort_by(|a, b| a.name.cmp(&b.name));
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back(state in state()) {
        for format in [Format::Toml, Format::Json] {
            let text = document::write(&state, format).unwrap();
            let read = parse(&text, format);
            prop_assert_eq!(read.map(sorted), Ok(sorted(state.clone())), "{}", text);
        }
    }

    #[test]
    fn a_written_ini_reads_back_or_is_refused(mut state in state()) {
        // What a circus.ini may be unable to hold is in half of the states.
        let plain = std::mem::take(&mut state.prune);
        let hard = ["\n", "\r", ";", "\"\"", "\u{85}"];
        let hard = |text: &str| text != text.trim() || hard.iter().any(|hard| text.contains(hard));
        let keep = |text: &str| !plain || !hard(text);
        state.watchers.retain(|watcher| watcher.present);
        state.sections.retain(|section| section.present);
        for watcher in &mut state.watchers {
            watcher.unset.clear();
            watcher.env.retain(|(_, value)| value.as_deref().is_some_and(keep));
            watcher.options.retain(|wanted| keep(&wanted.text));
            watcher.on_change = OnChange::Auto;
            let off = |wanted: &Wanted| wanted.key == "autostart" && matches!(wanted.text.as_str(), "False" | "OFF");
            watcher.running = match watcher.options.iter().any(off) {
                true => Running::Any,
                false => Running::Yes,
            };
            // A section without a key is none.
            if !watcher.options.iter().any(|wanted| wanted.key == "cmd") {
                watcher.options.push(Wanted { key: "cmd".into(), text: "x".into() });
            }
        }
        for section in &mut state.sections {
            section.unset.clear();
            section.options.retain(|wanted| keep(&wanted.text));
        }
        state.sections.retain(|section| !section.options.is_empty());
        match document::write(&state, Format::Ini) {
            Ok(text) => {
                let read = parse(&text, Format::Ini);
                prop_assert_eq!(read.map(sorted), Ok(sorted(state)), "{}", text);
            }
            Err(error) => prop_assert!(!plain, "{}", error),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_takes_the_reader_down(
        text in "[\\[\\]{}\"'=:,.a-z0-9 \\n\\t\\\\#;é\u{0}-]{0,60}",
        noise in prop::collection::vec(any::<u8>(), 0..40),
        state in state(),
        cut in any::<prop::sample::Index>(),
    ) {
        for format in [Format::Toml, Format::Json, Format::Ini] {
            let _ = parse(&text, format);
            let _ = document::parse(&noise, "doc", format);
        }
        let _ = Format::of_text(&text);
        // Half a document, as somebody is still writing it.
        for format in [Format::Toml, Format::Json] {
            let whole = document::write(&state, format).unwrap();
            let mut half: Vec<u8> = whole.into_bytes();
            half.truncate(cut.index(half.len() + 1));
            if let Err(error) = document::parse(&half, "doc", format) {
                prop_assert!(error.problems.iter().all(|problem| problem.place.line.is_some()));
            }
        }
    }
}

#[test]
fn a_written_document_is_one_that_a_person_would_write() {
    let state = parse(TOML, Format::Toml).unwrap();
    insta::assert_snapshot!(
        "written.toml",
        document::write(&state, Format::Toml).unwrap()
    );
    insta::assert_snapshot!(
        "written.json",
        document::write(&state, Format::Json).unwrap()
    );
    let error = document::write(&state, Format::Ini)
        .unwrap_err()
        .to_string();
    for says in ["prune", "absent", "restart_on_change", "not stated"] {
        assert!(error.contains(says), "{error}");
    }
    let ini = "[watcher:web]\ncmd = a\n  b\nuid =\n[socket:s]\nbacklog = 3\n[socket:u]\npath = /s\nport = 3\n";
    let state = parse(ini, Format::Ini).unwrap();
    insta::assert_snapshot!(
        "written_of_ini.toml",
        document::write(&state, Format::Toml).unwrap()
    );
    insta::assert_snapshot!("written.ini", document::write(&state, Format::Ini).unwrap());
}

#[test]
fn a_circus_toml_is_read_as_the_daemon_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("circus.toml");
    let text = "\
[circus]\numask = 0o022\nhttpd_port = 1_000\n\
[DEFAULT]\nmax_retry = 7\n\
[env]\nTWO = 2\nB = true\n\
[env.\"w*\"]\nVERSION = 3.10\n\
[watcher.web]\r\ncmd = \"\"\"a\r\nb\"\"\"\nvirtualenv_py_ver = 3.10\nargs = [\"a b\", 1]\ngraceful_timeout = 2.50\n\
hooks.before_start = { call = \"m.f\", ignore_failure = true }\nrlimits.nofile = 0o17\nsingleton = 1\nx_float = 1e3\n\
[watcher.web.env]\nTWO = \"own\"\n\
[\"watcher:other\"]\ncmd = \"o\"\n\
[socket.S]\nport = 80\n";
    fs::write(&path, text).unwrap();
    let state = read("circus.toml", dir.path()).unwrap();
    let config = circ::config::Config::load(&path, &Default::default(), dir.path()).unwrap();
    for watcher in &state.watchers {
        let (_, section) = config.watcher(&watcher.name).unwrap();
        for wanted in &watcher.options {
            let theirs = config.raw(section, &wanted.key);
            assert_eq!(
                theirs,
                Some(wanted.text.as_str()),
                "{section} {}",
                wanted.key
            );
        }
    }
    for section in &state.sections {
        for wanted in &section.options {
            let theirs = config.raw(&section.section(), &wanted.key);
            assert_eq!(theirs, Some(wanted.text.as_str()), "{}", wanted.key);
        }
    }
    assert_eq!(state.watchers[0].options.len(), 9);
    // DEFAULT stands in for missing keys in [env:…] too, as in Circus.
    let env = [("VERSION", "3.10"), ("max_retry", "7"), ("TWO", "own")];
    let env = env.map(|(name, value)| (name.to_string(), Some(value.to_string())));
    assert_eq!(state.watchers[0].env, env);
}

/// The code blocks of the documentation of one language, in their order.
fn examples(language: &str) -> Vec<String> {
    let text = include_str!("../docs/desired-state.md");
    let opening = format!("```{language}\n");
    let parts = text.split(&opening).skip(1);
    parts
        .map(|part| part.split("```").next().unwrap_or_default().to_string())
        .collect()
}

#[test]
fn the_documents_of_the_documentation_are_read() {
    let toml = examples("toml");
    assert_eq!(toml.len(), 3);
    for example in &toml {
        let state = parse(example, Format::Toml).unwrap_or_else(|told| panic!("{example}\n{told}"));
        assert_eq!(
            parse(
                &document::write(&state, Format::Toml).unwrap(),
                Format::Toml
            )
            .map(sorted),
            Ok(sorted(state))
        );
    }
    let json = examples("json");
    assert_eq!(json.len(), 3);
    for example in &json[..2] {
        parse(example, Format::Json).unwrap_or_else(|told| panic!("{example}\n{told}"));
    }
    let configuration: serde_json::Value = serde_json::from_str(&json[2]).unwrap();
    for resource in configuration["resources"].as_array().unwrap() {
        assert_eq!(resource["type"], "Circ/Watcher");
        let instance =
            circ::state::instance::Instance::parse(&resource["properties"].to_string(), true)
                .unwrap();
        let state = instance.desired(false).unwrap();
        assert_eq!(state.watchers.len(), 1);
    }
    // The messages are those that such a document gets.
    let wrong = "[watcher.web]\ncmd = \"x\"\nnumproceses = 4\nmax_age = \"soon\"\n";
    let error = document::parse(wrong.as_bytes(), "desired.toml", Format::Toml).unwrap_err();
    assert_eq!(format!("{error}\n"), examples("text")[0]);
}

#[test]
fn the_first_example_of_the_documentation_runs() {
    let site = support::TempSite::new();
    let port = site.port().to_string();
    site.write("desired.toml", examples("toml")[0].replace("8000", &port));
    site.write("worker.py", "import time\ntime.sleep(1000)\n");
    site.ini("[watcher:old]\ncmd = sleep 1000\n");
    let daemon = site.start(support::Program::Circ);
    let commands = examples("sh").remove(0);
    let run = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("circ"), "{line}");
        let output = Command::new(env!("CARGO_BIN_EXE_circ"))
            .args(words)
            .current_dir(site.dir())
            .env_remove("CIRCUSCTL_ENDPOINT")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), told)
    };
    let lines: Vec<&str> = commands.lines().collect();
    let (code, told) = run(lines[0]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("+[watcher:web]"), "{told}");
    let (code, told) = run(lines[1]);
    assert_eq!(code, Some(0), "{told}");
    daemon.wait_pids("web", 4);
    assert_eq!(
        daemon.ok("list", serde_json::json!({}))["watchers"],
        serde_json::json!(["web"])
    );
    let (code, told) = run("circ state test desired.toml --config circus.ini");
    assert_eq!(code, Some(0), "{told}");
}

/// The circus.ini files below a directory.
fn shipped(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            shipped(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "ini") {
            found.push(path);
        }
    }
}

#[test]
fn a_circus_ini_that_a_daemon_takes_is_a_desired_state() {
    let mut files = Vec::new();
    shipped(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"),
        &mut files,
    );
    // A checkout of circus has many more: its examples and tests.
    if let Some(sources) = std::env::var_os("CIRC_CIRCUS_SOURCES") {
        shipped(Path::new(&sources), &mut files);
    }
    let mut read = 0;
    for path in &files {
        let dir = path.parent().unwrap();
        let environ = std::env::vars().collect();
        let Ok(config) = circ::config::Config::load(path, &environ, dir) else {
            continue;
        };
        let state = document::read(&Source::Path(path.clone()), dir)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(
            state.watchers.len(),
            config.watchers.len(),
            "{}",
            path.display()
        );
        for watcher in &state.watchers {
            let (_, section) = config.watcher(&watcher.name).expect("the same watchers");
            let unread = ["__name__", "name", "env"];
            let stated: Vec<(String, String)> = config
                .raw_items(section)
                .into_iter()
                .filter(|(key, text)| {
                    let unset = text.is_empty() && matches!(key.as_str(), "uid" | "gid");
                    !unset && !unread.contains(&key.as_str())
                })
                .collect();
            assert_eq!(
                watcher.options.len(),
                stated.len(),
                "{}: {section}",
                path.display()
            );
            for (key, text) in stated {
                let wanted = watcher
                    .options
                    .iter()
                    .find(|wanted| wanted.key == key)
                    .expect(&key);
                let number = |text: &str| text.trim().replace('_', "").parse::<f64>().ok();
                let same = wanted.text == text
                    || number(&wanted.text) == number(&text) && number(&text).is_some();
                assert!(
                    same || wanted.text == text.trim(),
                    "{}: {section} {key}: {text:?}",
                    path.display()
                );
            }
        }
        let sockets = state
            .sections
            .iter()
            .filter(|s| s.kind == SectionKind::Socket)
            .count();
        assert_eq!(sockets, config.sockets.len(), "{}", path.display());
        read += 1;
    }
    println!("{read} of {} files", files.len());
    assert!(read > 0);
}

#[test]
fn a_long_document_is_read_in_a_time_that_grows_with_its_length() {
    // Ten times the watchers may take ten times as long, not a hundred times; the rest is left to chance.
    let document = |watchers: usize| {
        let table = |at: usize| {
            format!("[watcher.w{at}]\ncmd = \"sleep {at}\"\nnumprocesses = 2\nenv.A = \"{at}\"\n")
        };
        (0..watchers).map(table).collect::<String>()
    };
    let time = |text: &str| {
        let state = parse(text, Format::Toml).unwrap();
        let json = document::write(&state, Format::Json).unwrap();
        let best = |format, text: &str| {
            let once = || {
                let start = std::time::Instant::now();
                parse(text, format).unwrap();
                start.elapsed()
            };
            (0..5).map(|_| once()).min().unwrap()
        };
        best(Format::Toml, text) + best(Format::Json, &json)
    };
    let (short, long) = (time(&document(400)), time(&document(4000)));
    println!("400 watchers {short:?}, 4000 watchers {long:?}");
    assert!(long < short * 50, "{short:?} {long:?}");
}
