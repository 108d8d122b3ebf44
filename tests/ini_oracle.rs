//! circus.ini read by circ and by the real Circus: they must agree on every section and value of
//! every file, or both must refuse it; and after an edit by circ the real Circus must read exactly
//! the intended value, and everything else as before.
//!
//! `CIRC_ORACLE_SEED` replays one generated file, `CIRC_ORACLE_FILES` sets how many there are, and
//! `CIRC_CIRCUS_SOURCES` names a checkout of circus whose example and test files are compared too.

mod support;

#[path = "ini_oracle/config.rs"]
mod config;
#[path = "ini_oracle/convert.rs"]
mod convert;
#[path = "ini_oracle/oracle.rs"]
mod oracle;
#[path = "ini_oracle/random.rs"]
mod random;
#[path = "ini_oracle/site.rs"]
mod site;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use circ::config::convert::{ini_to_toml, toml_to_ini};
use circ::config::{Config, Document, pattern, shlex, worker_argv};
use oracle::Oracle;
use random::{Chance, PLAIN_VALUES};
use serde_json::{Map, Value, json};

/// The seeds to run: one that was asked for, or all.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("CIRC_ORACLE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CIRC_ORACLE_FILES").unwrap_or(usual),
    }
}

/// What circ reads, in the oracle's shape.
fn reading(document: &Document) -> Value {
    let mut sections = Map::new();
    for name in document.sections() {
        let keys: Map<String, Value> = document
            .entries(name)
            .into_iter()
            .flatten()
            .map(|(key, entry)| (key.clone(), Value::from(entry.value.as_str())))
            .collect();
        if name != "DEFAULT" || !keys.is_empty() {
            sections.insert(name.to_owned(), Value::Object(keys));
        }
    }
    Value::Object(sections)
}

/// Both read these bytes alike; gives circ's document where both accept them.
fn same_reading(oracle: &mut Oracle, bytes: &[u8], what: &str) -> Option<Document> {
    let shown = || format!("{what}:\n{:?}", String::from_utf8_lossy(bytes));
    match (Document::parse(bytes, what), oracle.read(bytes)) {
        (Ok(document), Ok(theirs)) => {
            assert_eq!(reading(&document), theirs, "{}", shown());
            assert_eq!(document.to_bytes(), bytes, "{}", shown());
            Some(document)
        }
        (Err(_), Err(_)) => None,
        (Ok(_), Err(error)) => panic!("Circus refuses with {error} {}", shown()),
        (Err(error), Ok(_)) => panic!("only circ refuses with {error} {}", shown()),
    }
}

#[test]
fn generated_files_read_alike_and_come_back_byte_for_byte() {
    let mut oracle = Oracle::start();
    let (mut accepted, mut refused) = (0, 0);
    for seed in seeds(6000) {
        let bytes = random::file(&mut Chance::new(seed));
        match same_reading(&mut oracle, &bytes, &format!("seed {seed}")) {
            Some(_) => accepted += 1,
            None => refused += 1,
        }
    }
    println!("{accepted} files accepted by both, {refused} refused by both");
    if seeds(6000).count() > 100 {
        // Otherwise the generator has become too tame or too wild to show anything.
        assert!(accepted > refused && refused * 20 > accepted);
    }
}

#[test]
fn generated_configurations_mean_the_same() {
    let mut oracle = Oracle::start();
    let (mut accepted, mut refused) = (0, 0);
    for seed in seeds(1500) {
        let dir = tempfile::tempdir().expect("a directory for the files");
        let dir = dir.path().canonicalize().expect("it is there");
        let main = site::write(&mut Chance::new(seed), &dir);
        if config::same_config(&mut oracle, &dir, main, &format!("seed {seed}")) {
            accepted += 1;
        } else {
            refused += 1;
        }
    }
    println!("{accepted} configurations accepted by both, {refused} refused");
    assert!(accepted > refused || seeds(1500).count() < 100);
}

#[test]
fn words_quotes_and_patterns_are_those_of_python() {
    let mut oracle = Oracle::start();
    let pieces = [
        "a", "b c", "'", "'", "\"", "\"", "\\", "\\\\", " ", "\t", "\n", "\r", "#", "$", "\u{a0}",
        "é", "''", "-x=1",
    ];
    for seed in seeds(1500) {
        let text = Chance::new(seed).some(&pieces, 9);
        let theirs = oracle.ask(&json!({"op": "words", "text": text}));
        match shlex::split(&text) {
            Ok(words) => assert_eq!(json!(words), theirs["words"], "{text:?}"),
            Err(error) => assert_eq!(theirs["error"], format!("ValueError: {error}"), "{text:?}"),
        }
        let theirs = oracle.ask(&json!({"op": "quoted", "text": text}));
        assert_eq!(json!(shlex::quote(&text)), theirs["quoted"], "{text:?}");
    }
    let pieces = [
        "a", "b", "*", "?", "[", "]", "!", "-", "[ab]", "[!a]", "[a-c]", "\\", ".", "^", "&&",
    ];
    for seed in seeds(3000) {
        let mut chance = Chance::new(seed);
        let wanted = chance.some(&pieces, 6);
        let name = chance.some(
            &["a", "b", "c", "-", "]", "[", "!", "\\", "^", "&", "\n"],
            5,
        );
        let theirs = oracle.ask(&json!({"op": "match", "pattern": wanted, "name": name}));
        let ours = pattern::matches(&wanted, &name);
        assert_eq!(json!(ours), theirs["match"], "{wanted:?} {name:?}");
    }
}

#[test]
fn workers_get_the_arguments_that_circus_gives_them() {
    let mut oracle = Oracle::start();
    let dir = tempfile::tempdir().expect("a directory for the files");
    let path = dir.path().join("circus.ini");
    let words = [
        "$(circus.wid)",
        "((CIRCUS.wid))",
        "$(circus.sockets.web)",
        "((circus.sockets.no))",
        "a",
        "'b c'",
        "\"",
        "$(circus.env.home)",
        "((circus.env.Two_Words))",
        "$(circus.numprocesses)",
        "$(circus.graceful_timeout)",
        "$(circus.shell)",
        "$(circus.uid)",
        "$(circus.name)",
        "$(circus.stop_signal)",
        "$(circus.rlimits.nofile)",
        "$(circus.warmup_delay)",
        "$(circus.args)",
        "$(circus.circus.wid)",
        "$(circus.my_own)",
        "$(circus.copy_env)",
        "$(circus.max_age)",
        "$(circus.shell_args)",
        "$(circus.hooks)",
        "$(circus.use_fds)",
        "$(circus.priority)",
        "--x=",
        "$(circus.env.nested)",
        "\\",
        "$(circus.working_dir)",
        "$(circus.stdout_stream_conf.x)",
    ];
    let sockets = BTreeMap::from([("web".to_owned(), 7)]);
    let mut alike = 0;
    for seed in seeds(600) {
        let mut chance = Chance::new(seed);
        let mut text = String::from("[watcher:w]\nworking_dir = /\n");
        let mut line = |key: &str| {
            let words: Vec<&str> = (0..=chance.below(5)).map(|_| chance.pick(&words)).collect();
            text += &format!("{key} = {}\n", words.join(chance.pick(&[" ", " ", ""])));
        };
        line("cmd");
        line("args");
        if seed % 3 == 0 {
            line("shell_args");
        }
        if seed % 4 == 0 {
            text += "shell = True\n";
        }
        if seed % 5 == 0 {
            text +=
                "rlimit_nofile = 10\nnumprocesses = 2\nmax_age = 1_0\nmy_own = x\npriority = 3\n";
        }
        text += "[env:w]\nHOME = /h\nTwo_Words = two words\nnested = <$(circus.wid)>\n";
        std::fs::write(&path, &text).expect("written");
        let request = json!({"op": "argv", "path": path, "wid": 3, "sockets": sockets});
        let theirs = oracle.ask(&request);
        let config = Config::load(&path, &BTreeMap::new(), Path::new("/"))
            .unwrap_or_else(|error| panic!("{error}"));
        match worker_argv(&config.watchers[0], 3, &sockets) {
            Ok(ours) => {
                // The shell itself is added by Python's subprocess.
                let argv = if ours.shell {
                    &ours.argv[2..]
                } else {
                    &ours.argv
                };
                assert_eq!(json!(argv), theirs["argv"], "{text}\n{theirs}");
                alike += 1;
            }
            Err(error) => {
                // Circus cuts args first, so where both are wrong it complains of the other one.
                let raised = theirs["error"].as_str().expect("only circ refuses");
                assert!(raised.starts_with("ValueError: No "), "{error}, {raised}");
            }
        }
    }
    assert!(alike * 2 > seeds(600).count() || seeds(600).count() < 100);
}

/// Files for circus that somebody else wrote.
fn shipped_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![support::venv().bin().join("../lib")];
    match std::env::var_os("CIRC_CIRCUS_SOURCES") {
        Some(sources) => dirs.push(sources.into()),
        None => eprintln!(
            "the example and test files of circus are compared only where CIRC_CIRCUS_SOURCES names a \
             checkout of its repository: the packages on PyPI do not hold them",
        ),
    }
    dirs.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"));
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "ini" || e == "cfg") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A file with all that is beside it, converted there and back in a place of its own.
fn converted_from_the_field(oracle: &mut Oracle, dir: &Path, main: &str) {
    let place = tempfile::tempdir().expect("a directory for the files");
    let place = place.path().canonicalize().expect("it is there");
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|e| e == "ini") {
            std::fs::copy(entry.path(), place.join(entry.file_name())).expect("copied");
        }
    }
    convert::there_and_back(&place, main, &dir.join(main).display().to_string());
    config::same_config(oracle, &place, "converted.ini", main);
}

#[test]
fn files_from_the_field_read_alike() {
    let mut oracle = Oracle::start();
    let mut accepted = 0;
    let files = shipped_files();
    for path in &files {
        let bytes = std::fs::read(path).expect("readable");
        let name = path.display().to_string();
        let same = same_reading(&mut oracle, &bytes, &name);
        accepted += usize::from(same.is_some());
        if path.extension().is_some_and(|e| e == "ini") && same.is_some() {
            let dir = path.parent().expect("a file is in a directory");
            let main = path.file_name().expect("a name").to_string_lossy();
            config::same_config(&mut oracle, dir, &main, &name);
            converted_from_the_field(&mut oracle, dir, &main);
        }
    }
    println!("{accepted} of {} files accepted by both", files.len());
}

#[test]
fn generated_configurations_mean_the_same_as_toml_and_back() {
    let mut oracle = Oracle::start();
    let mut accepted = 0;
    for seed in seeds(600) {
        let dir = tempfile::tempdir().expect("a directory for the files");
        let dir = dir.path().canonicalize().expect("it is there");
        let main = site::write(&mut Chance::new(seed), &dir);
        let what = format!("seed {seed}");
        assert_eq!(convert::there_and_back(&dir, main, &what), 0, "{what}");
        accepted += usize::from(config::same_config(
            &mut oracle,
            &dir,
            "converted.ini",
            &what,
        ));
    }
    println!("{accepted} configurations accepted by both");
    assert!(accepted * 3 > seeds(600).count() || seeds(600).count() < 100);
}

#[test]
fn what_became_of_a_circus_toml_is_read_by_the_real_circus() {
    let mut oracle = Oracle::start();
    let mut accepted = 0;
    for seed in seeds(600) {
        let dir = tempfile::tempdir().expect("a directory for the files");
        let dir = dir.path().canonicalize().expect("it is there");
        let text = convert::toml(&mut Chance::new(seed));
        let what = format!("seed {seed}\n{text}");
        let main = dir.join("main.toml");
        std::fs::write(&main, &text).expect("written");
        std::fs::write(dir.join("more.ini"), "[watcher:more]\ncmd = x\n").expect("written");
        let made = match toml_to_ini(text.as_bytes(), "main.toml") {
            Ok(made) => made,
            Err(_) => {
                let load = Config::load(&main, &site::environ(), &dir);
                assert!(load.is_err(), "only the conversion refuses {what}");
                continue;
            }
        };
        std::fs::write(dir.join("main.ini"), &made.text).expect("written");
        let what = format!("{what}\n{}", made.text);
        // A space around a value is all that circus.ini cannot say here.
        assert!(convert::lost(&made.notes) <= 1, "{:?} {what}", made.notes);
        if convert::lost(&made.notes) == 0 {
            convert::same_meaning(&dir, "main.toml", "main.ini", &what);
        }
        accepted += usize::from(config::same_config(&mut oracle, &dir, "main.ini", &what));
    }
    println!("{accepted} configurations accepted by both");
    assert!(accepted * 3 > seeds(600).count() || seeds(600).count() < 100);
}

#[test]
fn nasty_files_survive_a_conversion() {
    let mut oracle = Oracle::start();
    let (mut same, mut noted) = (0, 0);
    for seed in seeds(2000) {
        let bytes = random::file(&mut Chance::new(seed));
        let Ok(document) = Document::parse(&bytes, "nasty.ini") else {
            assert!(ini_to_toml(&bytes, "nasty.ini").is_err());
            continue;
        };
        let made =
            ini_to_toml(&bytes, "nasty.ini").unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let back = toml_to_ini(made.text.as_bytes(), "nasty.toml")
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        if back.notes.is_empty() {
            let theirs = oracle.read(back.text.as_bytes());
            assert_eq!(
                theirs,
                Ok(full(reading(&document))),
                "seed {seed}\n{}",
                made.text
            );
            same += 1;
        } else {
            noted += 1;
        }
    }
    println!("{same} files came back, {noted} with notes");
    assert!(same > noted || seeds(2000).count() < 100);
}

/// Python's parser keeps an empty section, unless it is DEFAULT.
fn full(mut reading: Value) -> Value {
    if reading["DEFAULT"].as_object().is_some_and(Map::is_empty) {
        reading.as_object_mut().map(|all| all.remove("DEFAULT"));
    }
    reading
}

#[test]
fn after_an_edit_the_real_circus_reads_what_was_meant() {
    let mut oracle = Oracle::start();
    let (mut done, mut impossible) = (0, 0);
    for seed in seeds(4000) {
        let mut chance = Chance::new(seed);
        let bytes = random::file(&mut chance);
        let Ok(mut document) = Document::parse(&bytes, "edited.ini") else {
            continue;
        };
        for _ in 0..3 {
            let before = document.to_bytes();
            let mut wanted = reading(&document);
            let edit = Edit::random(&mut chance, &document);
            let outcome = edit.apply(&mut document, &mut wanted);
            let shown = format!(
                "seed {seed}, {edit:?}\n{:?}\n{:?}",
                String::from_utf8_lossy(&before),
                document.to_string()
            );
            match outcome {
                Ok(()) => {
                    done += 1;
                    if wanted["DEFAULT"]
                        .as_object()
                        .is_some_and(serde_json::Map::is_empty)
                    {
                        // An empty DEFAULT is no section to Python's parser.
                        wanted.as_object_mut().map(|all| all.remove("DEFAULT"));
                    }
                    let theirs = oracle.read(&document.to_bytes());
                    assert_eq!(theirs, Ok(wanted.clone()), "{shown}");
                    assert_eq!(reading(&document), wanted, "{shown}");
                }
                Err(error) => {
                    impossible += 1;
                    assert_eq!(document.to_bytes(), before, "{shown}");
                    assert!(!edit.is_plain(&document), "{error}: {shown}");
                }
            }
        }
    }
    println!("{done} edits, {impossible} refused");
    assert!(done > impossible || seeds(4000).count() < 100);
}

/// A change to a file.
#[derive(Debug)]
enum Edit {
    Set(String, String, String),
    Unset(String, String),
    Add(String, Vec<(String, String)>),
    Remove(String),
}

impl Edit {
    fn random(chance: &mut Chance, document: &Document) -> Self {
        let known: Vec<&str> = document.sections().collect();
        let section = if known.is_empty() || chance.one_in(10) {
            random::section(chance)
        } else {
            chance.pick(&known).to_owned()
        };
        let keys: Vec<&str> = document
            .entries(&section)
            .into_iter()
            .flatten()
            .map(|(key, _)| key.as_str())
            .collect();
        let key = if keys.is_empty() || chance.one_in(3) {
            random::key(chance)
        } else {
            chance.pick(&keys).to_owned()
        };
        match chance.below(10) {
            0 => Self::Unset(section, key),
            1 => Self::Remove(section),
            2 => Self::Add(
                random::section(chance),
                vec![
                    ("cmd".to_owned(), random::value(chance)),
                    ("args".to_owned(), chance.pick(PLAIN_VALUES).to_owned()),
                ],
            ),
            _ => Self::Set(section, key, random::value(chance)),
        }
    }

    /// An edit that must always succeed.
    fn is_plain(&self, document: &Document) -> bool {
        match self {
            Self::Set(section, key, value) => {
                document.has_section(section)
                    && PLAIN_VALUES.contains(&value.as_str())
                    && ["new", "numprocesses", "x.y", "k", "cmd"].contains(&key.as_str())
            }
            // Without a key of no name an indented key below it can become part of the value above.
            Self::Unset(_, key) => !key.is_empty(),
            Self::Remove(_) => true,
            Self::Add(..) => false,
        }
    }

    /// Does it to the document, and to the reading that is then expected.
    fn apply(&self, document: &mut Document, wanted: &mut Value) -> Result<(), String> {
        let done = match self {
            Self::Set(section, key, value) => {
                if document.has_section(section) {
                    wanted[section][key] = json!(value);
                }
                document.set(section, key, value).map(drop)
            }
            Self::Unset(section, key) => {
                if let Some(keys) = wanted.get_mut(section).and_then(Value::as_object_mut) {
                    keys.remove(key);
                }
                document.unset(section, key).map(drop)
            }
            Self::Remove(section) => {
                wanted.as_object_mut().map(|all| all.remove(section));
                document.remove_section(section).map(drop)
            }
            Self::Add(section, options) => {
                let pairs: Vec<(&str, &str)> = options
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_str()))
                    .collect();
                wanted[section] = options
                    .iter()
                    .map(|(key, value)| (key.clone(), json!(value)))
                    .collect::<Map<_, _>>()
                    .into();
                document.add_section(section, &pairs)
            }
        };
        done.map_err(|error| error.to_string())
    }
}
