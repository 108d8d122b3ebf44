//! Idempotent, always: any apply followed by the same apply reports nothing changed, writes nothing and sends the daemon
//! nothing but queries. Over generated configurations and desired states, on files alone and with a running daemon.
//!
//! `CIRC_PROPERTY_SEED` replays one case, `CIRC_PROPERTY_CASES` sets how many there are.

mod support;

#[path = "state/generated.rs"]
mod generated;
#[path = "state/proxy.rs"]
mod proxy;
#[path = "ini_oracle/random.rs"]
#[allow(dead_code)] // Only its chance is used here.
mod random;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use circ::config::{Config, Document};
use circ::options::WatcherOptions;
use circ::state::document::{self, Format};
use circ::state::report::Report;
use circ::state::{self, Settings};
use circ::state::{export, looking};
use proxy::Proxy;
use random::Chance;
use support::{Daemon, Program, TempSite};

/// The seeds to run: one that was asked for, or all.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("CIRC_PROPERTY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CIRC_PROPERTY_CASES").unwrap_or(usual),
    }
}

/// A directory in memory where there is one: thousands of files are flushed.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a directory for the files")
}

/// All that tells whether a file was touched.
#[derive(Debug, Clone, PartialEq)]
struct Touch {
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    content: Vec<u8>,
}

fn look(directory: &Path) -> BTreeMap<PathBuf, Touch> {
    let mut all = BTreeMap::new();
    let mut left = vec![directory.to_path_buf()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(&at).expect("a directory").flatten() {
            let path = entry.path();
            let metadata = fs::symlink_metadata(&path).expect("it is there");
            if metadata.is_dir() {
                left.push(path);
                continue;
            }
            let touch = Touch {
                inode: metadata.ino(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
                content: fs::read(&path).unwrap_or_default(),
            };
            all.insert(path, touch);
        }
    }
    all
}

fn environ() -> BTreeMap<String, String> {
    BTreeMap::from([("HOME".to_string(), "/root".to_string())])
}

fn settings(directory: &Path, main: &str) -> Settings {
    Settings {
        config: Some(PathBuf::from(main)),
        live: false,
        ..Settings::new(directory.to_path_buf(), environ())
    }
}

fn apply(state: &Value, settings: &Settings) -> Report {
    match document::parse(state.to_string().as_bytes(), "desired.json", Format::Json) {
        Ok(state) => state::apply(&state, settings),
        Err(error) => panic!("the generated state is wrong: {error}\n{state:#}"),
    }
}

/// For messages: all files, and the state.
fn shown(files: &BTreeMap<PathBuf, Touch>, state: &Value, seed: u64) -> String {
    let mut text = format!("seed {seed}\n{state:#}\n");
    for (path, touch) in files {
        let content = String::from_utf8_lossy(&touch.content);
        let content = content.escape_debug().to_string().replace("\\n", "\n");
        text += &format!("--- {}\n{content}\n", path.display());
    }
    text
}

/// How the cases went.
#[derive(Debug, Default)]
struct Tally {
    changed: usize,
    same: usize,
    refused: BTreeMap<String, usize>,
}

impl Tally {
    fn refuse(&mut self, why: &str) {
        // Reasons without what they are about.
        let why = why.split(": ").last().unwrap_or_default();
        *self.refused.entry(why.to_string()).or_default() += 1;
    }
}

#[test]
fn a_second_apply_to_files_changes_nothing() {
    let all = seeds(3000);
    let halves: Vec<Tally> = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let seeds = all.clone().filter(move |seed| seed % 2 == half);
            scope.spawn(move || files_only(seeds))
        });
        halves
            .map(|half| {
                half.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .into()
    });
    let changed: usize = halves.iter().map(|tally| tally.changed).sum();
    let refused: usize = halves.iter().flat_map(|tally| tally.refused.values()).sum();
    println!("{halves:?}");
    assert!(changed > 2 * refused || all.count() < 100, "{halves:?}");
}

fn files_only(seeds: impl Iterator<Item = u64>) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let mut chance = Chance::new(seed);
        let site = directory();
        let main = generated::configuration(&mut chance, site.path());
        let Ok(before) = Config::load(Path::new(main), &environ(), site.path()) else {
            tally.refuse("no configuration");
            continue;
        };
        let state = generated::desired(&mut chance);
        let start = look(site.path());
        let start_text = shown(&start, &state, seed);
        let settings = settings(site.path(), main);

        let preview = Settings {
            check: true,
            diff: true,
            ..settings.clone()
        };
        let preview = apply(&state, &preview);
        assert_eq!(look(site.path()), start, "a preview wrote: {start_text}");
        let first = apply(&state, &settings);
        let written = look(site.path());
        assert_eq!(
            (preview.failed, preview.changed, &preview.changes),
            (first.failed, first.changed, &first.changes),
            "the preview promised something else: {preview:?}\n{first:?}\n{start_text}"
        );
        if first.failed {
            assert_eq!(
                written, start,
                "a failed run wrote: {first:?}\n{start_text}"
            );
            assert!(!first.changed);
            tally.refuse(&first.error.unwrap_or_default());
            continue;
        }
        assert_eq!(first.changed, written != start, "{first:?}\n{start_text}");
        match first.changed {
            true => tally.changed += 1,
            false => tally.same += 1,
        }

        let told = || {
            let now = shown(&look(site.path()), &state, seed);
            format!("{now}\nbefore: {start_text}")
        };
        let second = apply(&state, &settings);
        assert!(
            !second.changed && !second.failed && second.changes.is_empty(),
            "the second run: {second:?}\n{}",
            told()
        );
        assert_eq!(
            look(site.path()),
            written,
            "the second run wrote: {}",
            told()
        );

        let after = Config::load(Path::new(main), &environ(), site.path())
            .unwrap_or_else(|error| panic!("no configuration any more: {error}\n{}", told()));
        assert_as_desired(&after, &state, &told);
        assert_others_stay(&before, &after, &state, &told);
    }
    tally
}

fn table<'a>(state: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    state[key].as_object().into_iter().flatten()
}

/// One of the files has this key in this very section, not as a default of all.
fn states(config: &Config, section: &str, key: &str) -> bool {
    config.files.iter().any(|path| {
        let bytes = fs::read(path).expect("it can be read");
        let document = Document::parse(&bytes, &path.to_string_lossy()).expect("it is one");
        document
            .entries(section)
            .is_some_and(|own| own.contains_key(key))
    })
}

/// Looks it up without the engine: the configuration says what the state says.
fn assert_as_desired(config: &Config, state: &Value, told: &dyn Fn() -> String) {
    for (name, wanted) in table(state, "watcher") {
        let found = config.watcher(name);
        if wanted["state"] == "absent" {
            assert!(found.is_none(), "{name} is still there: {}", told());
            continue;
        }
        let (watcher, section) = found.unwrap_or_else(|| panic!("{name} is not there: {}", told()));
        for (key, value) in wanted.as_object().into_iter().flatten() {
            assert_option(watcher, key, value, told);
        }
        for key in wanted["unset"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            assert!(
                !states(config, section, key),
                "{name} states {key}: {}",
                told()
            );
        }
    }
    if state["prune"] == true {
        for watcher in &config.watchers {
            let named =
                table(state, "watcher").any(|(name, _)| name.eq_ignore_ascii_case(&watcher.name));
            assert!(named, "{} was not pruned: {}", watcher.name, told());
        }
    }
    for (name, wanted) in table(state, "socket") {
        let there = config
            .sockets
            .iter()
            .any(|socket| socket.name.eq_ignore_ascii_case(name));
        assert_eq!(
            there,
            wanted["state"] != "absent",
            "socket {name}: {}",
            told()
        );
    }
    for (name, wanted) in table(state, "plugin") {
        let there = config
            .plugins
            .iter()
            .any(|plugin| plugin.name == format!("plugin:{name}") || plugin.name == *name);
        assert_eq!(
            there,
            wanted["state"] != "absent",
            "plugin {name}: {}",
            told()
        );
    }
}

fn assert_option(watcher: &WatcherOptions, key: &str, wanted: &Value, told: &dyn Fn() -> String) {
    let found = watcher.get(key).cloned().unwrap_or_default();
    let right = match (key, wanted) {
        ("state" | "unset" | "restart_on_change" | "env", _) => true,
        ("rlimits" | "stdout_stream", Value::Object(parts)) => parts.iter().all(|(part, value)| {
            let whole = watcher.get(if key == "rlimits" {
                "rlimits"
            } else {
                "stdout_stream_conf"
            });
            whole.is_some_and(|whole| whole[part] == *value)
        }),
        ("stop_signal", _) => {
            let number = match wanted.as_str() {
                Some("TERM") => 15,
                Some("SIGINT") => 2,
                _ => 9,
            };
            found.as_i64() == Some(number)
        }
        ("args", Value::Array(words)) => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            found
                .as_str()
                .is_some_and(|text| circ::config::shlex::split(text).is_ok_and(|cut| cut == words))
        }
        (_, Value::Number(number)) => found.as_f64() == number.as_f64(),
        _ => found == *wanted,
    };
    assert!(
        right,
        "{}: {key} is {found}, not {wanted}: {}",
        watcher.name,
        told()
    );
}

/// What nobody spoke of is as it was.
fn assert_others_stay(before: &Config, after: &Config, state: &Value, told: &dyn Fn() -> String) {
    if state["prune"] == true {
        return;
    }
    // A variable of all watchers, and a default of all, change those that were not named.
    let reaching = state["env"].is_object();
    for old in &before.watchers {
        if reaching || table(state, "watcher").any(|(name, _)| name.eq_ignore_ascii_case(&old.name))
        {
            continue;
        }
        let new = after.watcher(&old.name).map(|(watcher, _)| watcher);
        assert_eq!(new, Some(old), "{} has changed: {}", old.name, told());
    }
}

/// Commands that change nothing in a daemon.
const QUERIES: &[&str] = &[
    "list",
    "options",
    "get",
    "status",
    "stats",
    "numwatchers",
    "globaloptions",
    "listsockets",
    "identity",
];

/// How many walks there are at once, each with a daemon of its own: most of their time is waiting for workers.
const WALKS: u64 = 4;

/// One state after the other is wanted of a running daemon, with something done behind its back in between.
#[test]
fn a_second_apply_to_a_daemon_only_asks() {
    let all = seeds(400);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let walks: Vec<_> = (0..WALKS)
            .map(|walk| {
                let seeds = all.clone().filter(move |seed| seed % WALKS == walk);
                scope.spawn(move || walk_with_a_daemon(seeds))
            })
            .collect();
        walks
            .into_iter()
            .map(|walk| {
                walk.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    let changed: usize = tallies.iter().map(|tally| tally.changed).sum();
    let refused: usize = tallies
        .iter()
        .flat_map(|tally| tally.refused.values())
        .sum();
    println!("{tallies:?}");
    assert!(changed > 5 * refused || all.count() < 20, "{tallies:?}");
}

fn walk_with_a_daemon(seeds: impl Iterator<Item = u64>) -> Tally {
    let mut tally = Tally::default();
    let site = TempSite::new();
    site.ini("include = more.ini\n[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2 ; two\n");
    site.write(
        "more.ini",
        "# included\r\n[watcher:api]\r\ncmd = sleep 1000\r\nmax_age = 7\r\n",
    );
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    let proxy = Proxy::to(&site.endpoint, |_| {});
    let settings = Settings {
        endpoint: Some(proxy.endpoint()),
        live: true,
        settle: Duration::ZERO,
        ..settings(site.dir(), "circus.ini")
    };
    for seed in seeds {
        let mut chance = Chance::new(seed);
        let drift = drift(&mut chance, &daemon, &site);
        let state = generated::runnable_state(&mut chance);
        let start = files(&site);
        let told = || {
            format!(
                "after {drift}: {}\n{}",
                shown(&start, &state, seed),
                daemon.tail()
            )
        };
        let first = apply(&state, &settings);
        if first.failed {
            assert!(!first.changed, "{first:?}\n{}", told());
            assert_eq!(
                contents(&files(&site)),
                contents(&start),
                "{first:?}\n{}",
                told()
            );
            tally.refuse(&first.error.unwrap_or_default());
            continue;
        }
        match first.changed {
            true => tally.changed += 1,
            false => tally.same += 1,
        }
        assert_running(&daemon, &state, &told);

        let written = files(&site);
        let pids = all_pids(&daemon);
        proxy.commands();
        let second = apply(&state, &settings);
        let sent = proxy.commands();
        assert!(
            !second.changed && !second.failed && second.changes.is_empty(),
            "the second run: {second:?}\nthe first: {first:?}\n{}",
            told()
        );
        assert!(
            !sent.is_empty()
                && sent
                    .iter()
                    .all(|command| QUERIES.contains(&command.as_str())),
            "{sent:?}\n{}",
            told()
        );
        assert_eq!(files(&site), written, "the second run wrote: {}", told());
        assert_eq!(all_pids(&daemon), pids, "{}", told());
        if seed % 3 == 0 {
            assert_export_is_satisfied(&settings, &proxy, &daemon, &told);
        }
    }
    tally
}

/// What runs, written down and applied: the daemon is only asked, at most the file learns of what only the daemon had;
/// and then nothing is left to do.
fn assert_export_is_satisfied(
    settings: &Settings,
    proxy: &Proxy,
    daemon: &Daemon,
    told: &dyn Fn() -> String,
) {
    let seen = looking::look(&[], settings).expect("it can be looked at");
    let state = export::export(&seen, "export");
    let written = document::write(&state, Format::Toml).expect("it can be written");
    let state = document::parse(written.as_bytes(), "export.toml", Format::Toml)
        .unwrap_or_else(|error| panic!("{error}\n{written}\n{}", told()));
    let pids = all_pids(daemon);
    proxy.commands();
    let first = state::apply(&state, settings);
    let sent = proxy.commands();
    assert!(
        !first.failed
            && sent
                .iter()
                .all(|command| QUERIES.contains(&command.as_str())),
        "{sent:?} {first:?}\n{written}\n{}",
        told()
    );
    assert_eq!(all_pids(daemon), pids, "{written}\n{}", told());
    let second = state::apply(&state, settings);
    assert!(
        !second.failed && !second.changed,
        "{second:?}\n{written}\n{}",
        told()
    );
}

/// The files of the configuration.
fn files(site: &TempSite) -> BTreeMap<PathBuf, Touch> {
    let mut all = look(site.dir());
    all.retain(|path, _| path.extension().is_some_and(|end| end == "ini"));
    all
}

fn contents(files: &BTreeMap<PathBuf, Touch>) -> Vec<&Vec<u8>> {
    files.values().map(|touch| &touch.content).collect()
}

fn all_pids(daemon: &Daemon) -> Vec<(String, Vec<i32>)> {
    names(daemon)
        .into_iter()
        .map(|name| {
            let pids = daemon.pids(&name);
            (name, pids)
        })
        .collect()
}

fn names(daemon: &Daemon) -> Vec<String> {
    let reply = daemon.ok("list", json!({}));
    let names = reply["watchers"].as_array().into_iter().flatten();
    names
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

/// Somebody does something by hand; says what.
fn drift(chance: &mut Chance, daemon: &Daemon, site: &TempSite) -> String {
    let names = names(daemon);
    if names.is_empty() || chance.one_in(3) {
        return "nothing".to_owned();
    }
    let name = &names[chance.below(names.len())];
    let (command, properties) = match chance.below(7) {
        0 => ("incr", json!({"name": name, "nb": 1, "waiting": true})),
        1 => ("decr", json!({"name": name, "nb": 1, "waiting": true})),
        2 => ("stop", json!({"name": name, "waiting": true})),
        3 => (
            "set",
            json!({"name": name, "options": {"max_retry": 3}, "waiting": true}),
        ),
        4 => (
            "set",
            json!({"name": name, "options": {"max_age": 1234}, "waiting": true}),
        ),
        5 => ("rm", json!({"name": name, "waiting": true})),
        _ => {
            let path = site.path("circus.ini");
            let text = fs::read_to_string(&path).expect("it can be read");
            fs::write(&path, text.replace("max_age = ", "max_age = 1")).expect("written");
            return "max_age edited in the file".to_owned();
        }
    };
    daemon.ok(command, properties.clone());
    format!("{command} {properties}")
}

/// Looks it up without the engine: the daemon does what the state says.
fn assert_running(daemon: &Daemon, state: &Value, told: &dyn Fn() -> String) {
    let names = names(daemon);
    for (name, wanted) in table(state, "watcher") {
        let there = names.contains(&name.to_lowercase());
        assert_eq!(there, wanted["state"] != "absent", "{name}: {}", told());
        if !there {
            continue;
        }
        let options = daemon.ok("options", json!({"name": name}));
        let status = daemon.call("status", json!({"name": name}));
        match wanted["state"].as_str() {
            Some("stopped") => assert_eq!(status["status"], "stopped", "{name}: {}", told()),
            Some("present") => {}
            // Without workers it makes no difference.
            _ if options["options"]["numprocesses"] == 0 => {}
            _ => {
                assert_eq!(status["status"], "active", "{name}: {}", told());
                if let Some(count) = wanted["numprocesses"].as_u64() {
                    assert_eq!(daemon.pids(name).len() as u64, count, "{name}: {}", told());
                }
            }
        }
        if wanted["restart_on_change"] == "never" {
            continue;
        }
        for key in [
            "cmd",
            "numprocesses",
            "max_age",
            "max_retry",
            "graceful_timeout",
        ] {
            let (found, wanted) = (&options["options"][key], &wanted[key]);
            let same =
                found == wanted || found.as_f64().is_some() && found.as_f64() == wanted.as_f64();
            assert!(
                wanted.is_null() || same,
                "{name}: {key} is {found}: {}",
                told()
            );
        }
    }
    if state["prune"] == true {
        for name in &names {
            let named = table(state, "watcher").any(|(known, _)| known.to_lowercase() == *name);
            assert!(named, "{name} was not pruned: {}", told());
        }
    }
}
