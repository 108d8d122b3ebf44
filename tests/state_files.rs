//! The file's side of `circ state ensure`, over generated files and wishes: a second run changes nothing and does not
//! touch a file; a failed run has touched none; other watchers read as before.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use circ::config::Config;
use circ::options::WatcherOptions;
use circ::state::desired::Request;
use circ::state::{Settings, ensure};

/// Texts that a circus.ini can hold, or cannot, or holds in a surprising way.
const TEXTS: &[&str] = &[
    "sleep 1",
    " sleep 1 ",
    "",
    "a;b",
    "a ;b",
    "a # b",
    "; a",
    "# a",
    "'a b' \"c\"",
    "50%",
    "%(x)s",
    "$(circus.env.HOME)/x",
    "$(circus.env.NOPE)",
    "((circus.wid))",
    "$WID",
    "[section]",
    "key = value",
    "a\tb",
    "a\nb",
    "a\n\nb",
    "é ü 漢",
    "\"\"",
    "rem ark",
];

const FILES: &[&str] = &[
    "[watcher:web]\ncmd = sleep 9\nnumprocesses = 2\n",
    "[watcher:web]\r\ncmd = sleep 9\r\nnumprocesses: 2   ; two\r\n\r\n",
    "[watcher:web]\ncmd = sleep 9",
    "; top\n\n[watcher:a]\ncmd=x\n\n[watcher:web]\ncmd =\n  sleep\n  9\n# end\n\n[plugin:p]\nuse = y\n",
    "[watcher:web]\ncmd = sleep 9\n[watcher:z]\ncmd = z\n[watcher:web]\nnumprocesses = 3\ncmd = shadowed\n",
    "[DEFAULT]\nnumprocesses = 4\n[watcher:web]\ncmd = sleep 9\n[watcher:z]\ncmd = z\n",
    "[circus]\ninclude = more.ini\n[watcher:a]\ncmd = a\n",
    "[circus]\ninclude = more.ini\n[watcher:web]\nnumprocesses = 5\n",
    "[env]\nHOME = /other\n[watcher:web]\ncmd = sleep 9\ncopy_env = 1\n[env:web]\nX = $(circus.env.HOME)\n",
    "[watcher:other]\ncmd = o\n",
    "\u{feff}[watcher:web]\ncmd = sleep 9\n",
];

/// The same in the other spelling.
const TOML_FILES: &[&str] = &[
    "[watcher.web]\ncmd = \"sleep 9\"\nnumprocesses = 2\n",
    "[watcher.web]\r\ncmd = 'sleep 9'\r\nnumprocesses= 2   # two\r\n\r\n",
    "[watcher.web]\ncmd = \"sleep 9\"",
    "# top\n\n[watcher.a]\ncmd=\"x\"\n\n[watcher.web]\ncmd = \"\"\"\nsleep\n9\"\"\"\n# end\n\n[plugin.p]\nuse = \"y\"\n",
    "[watcher.web]\ncmd = \"sleep\"\nargs = [\n  \"9\", # nine\n]\n[watcher.web.rlimits]\nnofile = 5\n[watcher.web.env]\nA = 1\n",
    "[DEFAULT]\nnumprocesses = 4\n[watcher]\nweb = { cmd = \"sleep 9\", shell = false }\nz.cmd = \"z\"\n",
    "[circus]\ninclude = [\"more.ini\"]\n[watcher.a]\ncmd = \"a\"\n",
    "[circus]\ninclude = \"more.ini\"\n[watcher.web]\nnumprocesses = 5\n",
    "[env]\nHOME = \"/other\"\n[watcher.web]\ncmd = \"sleep 9\"\ncopy_env = true\nenv.X = \"$(circus.env.HOME)\"\n",
    "watcher.web.cmd = \"sleep 9\"\nwatcher.web.stdout_stream = { class = \"x\" }\nwatcher.z.cmd = \"z\"\n",
    "[watcher.other]\ncmd = \"o\"\n",
    "[watcher.web]\ncmd = sleep 9\n",
];

fn any_file() -> impl Strategy<Value = (&'static str, &'static str)> {
    let named = |name: &'static str, files: &'static [&'static str]| {
        (Just(name), prop::sample::select(files))
    };
    prop_oneof![named("circus.ini", FILES), named("circus.toml", TOML_FILES)]
}

/// Included by some of the files.
const MORE: &str = "[watcher:web]\ncmd = sleep 8\nmax_age = 3\n\n[watcher:m]\ncmd = m\n";

fn settings(directory: &Path, main: &str) -> Settings {
    Settings {
        config: Some(PathBuf::from(main)),
        live: false,
        settle: Duration::ZERO,
        ..Settings::new(
            directory.to_path_buf(),
            BTreeMap::from([("HOME".to_string(), "/root".to_string())]),
        )
    }
}

/// Inode and bytes of each file.
fn files(directory: &Path, main: &str) -> Vec<(u64, Vec<u8>)> {
    [main, "more.ini"]
        .map(|name| directory.join(name))
        .iter()
        .map(|path| {
            (
                fs::metadata(path).expect("the file is there").ino(),
                fs::read(path).expect("the file can be read"),
            )
        })
        .collect()
}

fn others(directory: &Path, settings: &Settings) -> Option<Vec<WatcherOptions>> {
    let main = settings.config.as_deref()?;
    let config = Config::load(main, &settings.environ, directory).ok()?;
    Some(
        config
            .watchers
            .into_iter()
            .filter(|watcher| watcher.name != "web")
            .collect(),
    )
}

fn wish() -> impl Strategy<Value = (String, String)> {
    prop_oneof![
        (
            prop::sample::select(vec![
                "cmd",
                "args",
                "working_dir",
                "executable",
                "stdout_stream.class"
            ]),
            prop::sample::select(TEXTS)
        ),
        (
            prop::sample::select(vec!["numprocesses", "max_age", "priority", "rlimit_nofile"]),
            prop::sample::select(vec![
                "0",
                "3",
                " 4",
                "1_000",
                "+5",
                "-1",
                "x",
                "$(circus.env.HOME)",
                ""
            ])
        ),
        (
            prop::sample::select(vec!["shell", "send_hup", "autostart"]),
            prop::sample::select(vec!["yes", "NO", "1", "maybe", ""])
        ),
        (
            Just("stop_signal"),
            prop::sample::select(vec!["INT", "sigterm", "9", "NOPE"])
        ),
        (
            Just("graceful_timeout"),
            prop::sample::select(vec!["1", "2.50", "1e2", "nan", "-1"])
        ),
    ]
    .prop_map(|(key, text)| (key.to_string(), text.to_string()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_second_run_changes_nothing(
        (main, file) in any_file(),
        wishes in prop::collection::btree_map(prop::sample::select(vec![0, 1, 2, 3]), wish(), 0..4),
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join(main), file).expect("a file");
        fs::write(directory.path().join("more.ini"), MORE).expect("a file");
        let named: BTreeMap<String, String> = wishes.into_values().collect();
        let request = Request {
            name: "web".into(),
            set: named.iter().map(|(key, text)| format!("{key}={text}")).collect(),
            ..Request::default()
        };
        let settings = settings(directory.path(), main);
        let start = files(directory.path(), main);
        let before = others(directory.path(), &settings);

        // A preview promises exactly what the run does.
        let preview = ensure(&request, &Settings { check: true, diff: true, ..settings.clone() });
        prop_assert_eq!(&files(directory.path(), main), &start);

        let first = ensure(&request, &settings);
        let written = files(directory.path(), main);
        prop_assert_eq!((preview.failed, preview.changed, &preview.changes), (first.failed, first.changed, &first.changes));
        prop_assert_eq!(&others(directory.path(), &settings), &before);
        if first.failed || !first.changed {
            prop_assert_eq!(&written, &start, "{:?}", first);
        } else {
            prop_assert_ne!(&written, &start, "{:?}", first);
        }
        let second = ensure(&request, &settings);
        prop_assert_eq!((second.changed, second.failed, &second.error), (false, first.failed, &first.error));
        prop_assert_eq!(files(directory.path(), main), written);
        if !first.failed {
            let config = Config::load(Path::new(main), &settings.environ, directory.path())
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert!(config.watcher("web").is_some());
        }
    }
}

#[test]
fn an_empty_variable_is_one_that_is_there() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(
        directory.path().join("circus.ini"),
        "[watcher:web]\ncmd = sleep 9\n",
    )
    .expect("a file");
    let request = Request {
        name: "web".into(),
        env: vec!["TOKEN=".into()],
        ..Request::default()
    };
    let settings = settings(directory.path(), "circus.ini");
    for changed in [true, false] {
        let report = ensure(&request, &settings);
        assert_eq!((report.failed, report.changed), (false, changed));
        let config = Config::load(Path::new("circus.ini"), &settings.environ, directory.path());
        let config = config.expect("a configuration");
        let (watcher, _) = config.watcher("web").expect("it is there");
        let token = watcher.env().and_then(|env| env.get("TOKEN"));
        assert_eq!(token.and_then(|value| value.as_str()), Some(""));
    }
}
