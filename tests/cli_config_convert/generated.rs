//! Generated supervisord.conf files: what the real supervisor would run, and what circ would run of the conversion.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use circ::config::supervisord::{self, Supervisord, Surroundings};
use circ::config::{Config, worker_argv};
use serde_json::{Map, Value, json};

use crate::random::Chance;
use crate::support::venv;

/// The real supervisor, as a process that answers; it ends when it is dropped.
pub struct Referee {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Referee {
    pub fn start() -> Self {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli_config_convert/referee.py");
        let mut child = Command::new(venv().python())
            .arg(script)
            .env("PYTHONUTF8", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the referee's Python starts");
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        Self {
            child,
            requests,
            answers,
        }
    }

    fn ask(&mut self, path: &Path) -> Value {
        let request = json!({"path": path, "environ": environ()});
        let requests = self.requests.as_mut().expect("the referee is running");
        writeln!(requests, "{request}").expect("the referee reads its questions");
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("the referee answers");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("the referee died: {e}: {line:?}"))
    }
}

impl Drop for Referee {
    fn drop(&mut self) {
        // Without input it ends by itself.
        self.requests = None;
        let _ = self.child.wait();
    }
}

fn environ() -> BTreeMap<String, String> {
    [
        ("HOME", "/home/u"),
        ("PATH", "/bin:/usr/bin"),
        ("WORDS", "one two"),
        ("lower", "low"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// Keys of a program with values that suit them; the last value of each is wrong for most.
const PROGRAM: &[(&str, &[&str])] = &[
    ("numprocs", &["1", "2", "3", "x"]),
    ("numprocs_start", &["0", "1", "7", "x"]),
    (
        "directory",
        &["/tmp", "%(here)s", "/%(program_name)s", "%(nope)s"],
    ),
    ("autostart", &["true", "FALSE", "on", "perhaps"]),
    ("autorestart", &["true", "false", "unexpected", "sometimes"]),
    ("priority", &["1", "999", "2000", "-5", "high"]),
    ("stopsignal", &["TERM", "hup", "9", "SIGINT", "NOSUCH"]),
    ("stopwaitsecs", &["1", "60", "x"]),
    ("stopasgroup", &["true", "false", "si"]),
    ("startsecs", &["0", "5"]),
    ("startretries", &["3", "9", "x"]),
    ("exitcodes", &["0", "0,2"]),
    ("umask", &["022"]),
    ("colour", &["blue"]),
    ("redirect_stderr", &["true", "false", "?"]),
    (
        "stdout_logfile",
        &[
            "/tmp/%(program_name)s.log",
            "NONE",
            "AUTO",
            "/tmp/x%(process_num)02d",
            "/dev/stdout",
        ],
    ),
    ("stdout_logfile_maxbytes", &["0", "1MB", "10kb", "10XB"]),
    (
        "environment",
        &[
            "A=1",
            "A=\"x, y\",B='%(program_name)s'",
            "A=\"1\"\n  ,B=/x:y # c",
            "HOME=\"%(ENV_HOME)s/sub\"",
            "A=\"%(process_num)s\"",
            "A=\"100%%\",B=\"\"",
            "LONG=\"%(ENV_lower)s\"",
            "A=1,B",
        ],
    ),
];

const COMMANDS: &[&str] = &[
    "sleep 1",
    "sleep 1 ; comment",
    "sleep 1 # comment",
    "sh -c 'a; b;c'",
    "run \"two words\" x\\ y",
    "run --n %(process_num)02d --of %(numprocs)d",
    "run %(process_num)s",
    "run %(ENV_WORDS)s %(ENV_lower)s",
    "run\n   --on several\n   --lines",
    "%(here)s/run --%(group_name)s=%(program_name)s",
    "run 100%% #",
    "run --url=http://x/#y;z",
    "run %(ENV_A)s",
    "run %(ENV_NOT_SET)s",
    "run 100%",
    "run 'unclosed",
];

const DAEMON: &[(&str, &[&str])] = &[
    (
        "environment",
        &[
            "G=1",
            "G=\"a b\",PATH=\"/opt:%(ENV_PATH)s\"",
            "A=global",
            "G",
        ],
    ),
    ("logfile", &["/tmp/s.log"]),
    ("loglevel", &["debug", "warn", "blather", "loud"]),
    ("nodaemon", &["true", "true"]),
    ("minfds", &["100"]),
    ("umask", &["027", "9"]),
];

fn keys(chance: &mut Chance, from: &[(&str, &[&str])], most: usize, out: &mut String) {
    for _ in 0..chance.below(most + 1) {
        let (key, values) = from[chance.below(from.len())];
        let right = (values.len() - 1).max(1);
        let at = if chance.one_in(40) {
            values.len() - 1
        } else {
            chance.below(right)
        };
        let separator = chance.pick(&["=", " = ", ": ", "="]);
        let _ = writeln!(out, "{key}{separator}{}", values[at]);
    }
}

fn programs(chance: &mut Chance, names: &[&str], out: &mut String) {
    for _ in 0..=chance.below(2) {
        let name = chance.pick(names);
        let _ = writeln!(out, "[program:{name}]{}", chance.pick(&["", " ; c", ""]));
        let _ = writeln!(out, "command={}", chance.pick(COMMANDS));
        let _ = writeln!(out, "process_name=%(program_name)s-%(process_num)d");
        keys(chance, PROGRAM, 6, out);
    }
}

/// One generated file with what it includes; answers whether both daemons accept it.
pub fn same(referee: &mut Referee, seed: u64) -> bool {
    let chance = &mut Chance::new(seed);
    let dir = tempfile::tempdir().expect("a directory for the files");
    let dir = dir.path().canonicalize().expect("it is there");
    let mut text = String::from("[supervisord]\nnodaemon=true\n");
    keys(chance, DAEMON, 3, &mut text);
    programs(chance, &["a", "b", "c"], &mut text);
    let mut included = String::new();
    if chance.one_in(2) {
        text.push_str("[include]\nfiles = *.inc\n");
        programs(chance, &["b", "d"], &mut included);
        std::fs::write(dir.join("x.inc"), &included).expect("written");
    }
    if chance.one_in(4) && text.contains("[program:a]") {
        text.push_str("[group:g]\nprograms=a\n");
    }
    let path = dir.join("super.conf");
    std::fs::write(&path, &text).expect("written");
    let theirs = referee.ask(&path);
    let shown = || format!("seed {seed}:\n{text}\n--- x.inc\n{included}\n{theirs:#}");
    let mut source = Supervisord::default();
    let read = source.read(text.as_bytes(), &path, &dir).and_then(|()| {
        if source.includes().is_some() {
            source.read(included.as_bytes(), &dir.join("x.inc"), &dir)?;
        }
        let host = nix::unistd::gethostname().unwrap_or_default();
        let around = Surroundings {
            host: &host.to_string_lossy(),
            by_wid: false,
        };
        supervisord::convert(&source, around)
    });
    let converted = match (read, theirs["error"].as_str()) {
        (Ok(converted), None) => converted,
        // What only comes out when the configuration is read, such as a variable that is not set, may pass.
        (Ok(_) | Err(_), Some(_)) => return false,
        (Err(error), None) => panic!("only circ refuses: {error}\n{}", shown()),
    };
    let ini = dir.join("circus.ini");
    std::fs::write(&ini, converted.text(&path)).expect("written");
    let config = Config::load(&ini, &environ(), &dir)
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", converted.text(&path), shown()));
    // What is listed as lost need not be there.
    let unspelled: Vec<String> = converted
        .notes
        .iter()
        .filter(|note| note.what.contains("cannot spell"))
        .filter_map(|note| note.what.split(' ').next())
        .map(str::to_owned)
        .collect();
    let mut wanted: Vec<Value> = theirs["processes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|process| expected(process, &dir, &unspelled))
        .collect();
    let mut found: Vec<Value> = config.watchers.iter().flat_map(processes).collect();
    for list in [&mut wanted, &mut found] {
        list.sort_by_key(Value::to_string);
    }
    assert_eq!(
        json!(found),
        json!(wanted),
        "{}\n{}",
        converted.text(&path),
        shown()
    );
    true
}

/// A process of supervisor's, as circ would say it.
fn expected(process: &Value, dir: &Path, unspelled: &[String]) -> Value {
    let mut env: Map<String, Value> = environ()
        .into_iter()
        .map(|(name, value)| (name, Value::from(value)))
        .collect();
    let given = process["env"].as_object().into_iter().flatten();
    let given = given.filter(|(name, _)| !unspelled.contains(name));
    env.extend(given.map(|(name, value)| (name.clone(), value.clone())));
    let priority = process["priority"].as_i64().unwrap_or_default();
    json!({
        "argv": process["argv"],
        "directory": process["directory"].as_str().unwrap_or(&dir.to_string_lossy()),
        "env": env.into_iter().collect::<BTreeMap<_, _>>(),
        "autostart": process["autostart"],
        "respawn": process["respawn"],
        "stop_signal": process["stop_signal"],
        "graceful_timeout": process["graceful_timeout"],
        "stop_children": process["stop_children"],
        "priority": 999 - priority,
        "log": process["log"].as_str().filter(|file| *file != "/dev/stdout"),
    })
}

/// The processes of a watcher.
fn processes(watcher: &circ::options::WatcherOptions) -> Vec<Value> {
    (1..=watcher.numprocesses())
        .map(|wid| {
            let command = worker_argv(watcher, wid, &BTreeMap::new())
                .unwrap_or_else(|error| panic!("{}: {error}", watcher.name));
            let env: BTreeMap<String, Value> = watcher
                .env()
                .into_iter()
                .flatten()
                .filter(|(name, _)| *name != "__name__")
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            let log = watcher.stdout_stream();
            let log = log.and_then(|stream| stream.get("filename")).cloned();
            json!({
                "argv": command.argv,
                "directory": watcher.working_dir(),
                "env": env,
                "autostart": watcher.autostart(),
                "respawn": watcher.respawn(),
                "stop_signal": watcher.stop_signal(),
                "graceful_timeout": watcher.graceful_timeout() as i64,
                "stop_children": watcher.stop_children(),
                "priority": watcher.priority(),
                "log": log,
            })
        })
        .collect()
}
