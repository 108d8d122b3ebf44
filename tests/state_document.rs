//! Desired-state documents: what they mean, in each of their formats, and what is said of wrong ones.

use std::fs;
use std::path::Path;

use circ::state::desired::{Desired, DesiredState, OnChange, Running, SectionKind};
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
