//! Whole configurations: includes, sources, rules, and messages that can be acted on.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Config, ConfigError, ProblemKind};
use crate::options::Value;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Writes the files and loads the first of them.
fn load(files: &[(&str, &str)]) -> Result<(Config, tempfile::TempDir), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        std::fs::write(path, text)?;
    }
    let environ = BTreeMap::from([("HOME".to_owned(), "/home/u".to_owned())]);
    let config = Config::load(Path::new(files[0].0), &environ, dir.path())?;
    Ok((config, dir))
}

/// The problems of a configuration that must not load.
fn refused(files: &[(&str, &str)]) -> Result<ConfigError, Box<dyn std::error::Error>> {
    match load(files) {
        Ok(_) => Err("it was accepted".into()),
        Err(error) => Ok(*error.downcast::<ConfigError>()?),
    }
}

#[test]
fn a_value_is_found_where_it_stands() -> Outcome {
    let main = "[circus]\ninclude = sub/*.ini\n[watcher:web]\ncmd = x\n";
    let included = "# c\n[watcher:web]\ncmd = never\nnumprocesses = 2\n[watcher:db]\ncmd = $(circus.env.home)\n";
    let (config, dir) = load(&[("main.ini", main), ("sub/a.ini", included)])?;
    let at = |section, key| {
        let (path, line) = config.source(section, key)?;
        Some((path.strip_prefix(dir.path()).ok()?.to_owned(), line))
    };
    assert_eq!(at("watcher:web", "cmd"), Some(("main.ini".into(), 4)));
    assert_eq!(
        at("watcher:web", "numprocesses"),
        Some(("sub/a.ini".into(), 4))
    );
    assert_eq!(at("watcher:web", "nope"), None);
    let (db, section) = config.watcher("DB").ok_or("no db")?;
    assert_eq!((db.cmd(), section), ("/home/u", "watcher:db"));
    assert_eq!(config.raw(section, "cmd"), Some("$(circus.env.home)"));
    assert_eq!(
        config.watcher("web").map(|(w, _)| w.numprocesses()),
        Some(2)
    );
    assert_eq!(config.files.len(), 2);
    Ok(())
}

#[test]
fn everything_wrong_is_told_at_once_with_file_line_and_key() -> Outcome {
    let text = "[circus]\ncheck_delay = soon\n[watcher:a]\nnumprocesses = x\n[watcher:A]\ncmd = y\n\
                copy_path = True\n[socket:s]\nport = 99999\n[watcher:b]\ncmd = z\nsingleton = 1\n\
                numprocesses = 2\nvirtualenv = /nope\nstdin_socket = t\nstdout_stream.x = 1\n\
                rlimit_hair = 1\nstdout_stream = 2\n";
    let error = refused(&[("bad.ini", text)])?;
    let shown = error.to_string();
    for wanted in [
        "bad.ini:2: [circus] check_delay: \"soon\" is not a number of seconds",
        "bad.ini:4: [watcher:a] numprocesses: ",
        "bad.ini:3: [watcher:a]: the watcher has no command to run",
        "[watcher:a]: commands do not distinguish case",
        "bad.ini:7: [watcher:A] copy_path: needs copy_env = True",
        "bad.ini:9: [socket:s] port: \"99999\" is not a port",
        "bad.ini:13: [watcher:b] numprocesses: ",
        "bad.ini:14: [watcher:b] virtualenv: needs copy_env",
        "bad.ini:15: [watcher:b] stdin_socket: there is no section [socket:t]",
        "bad.ini:17: [watcher:b] rlimit_hair: there is no resource limit",
        "bad.ini:18: [watcher:b] stdout_stream: a stream is configured by keys",
    ] {
        assert!(shown.contains(wanted), "{wanted:?} is not in:\n{shown}");
    }
    let main = "[circus]\ninclude = x.ini\n";
    let error = refused(&[("main.ini", main), ("x.ini", "[a]\nk = v\nfoo\nbar\n")])?;
    assert_eq!(error.problems.len(), 2);
    assert!(error.to_string().starts_with("x.ini:3: \"foo\" is neither"));
    Ok(())
}

#[test]
fn files_that_cannot_be_read() -> Outcome {
    let missing = Config::load(Path::new("no.ini"), &BTreeMap::new(), Path::new("/nowhere"));
    let error = missing.err().ok_or("it was accepted")?;
    assert_eq!(error.problems[0].kind, ProblemKind::Unreadable);
    assert!(error.to_string().starts_with("no.ini: cannot read"));
    let (config, _dir) = load(&[
        ("main.ini", "[circus]\ninclude = none.ini dir.ini\n"),
        ("dir.ini/x", ""),
    ])?;
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    Ok(())
}

#[test]
fn slips_are_warned_of() -> Outcome {
    let text = "[watcher:a]\ncmd = x $(circus.sockets.web) ${socket:db}\nnumproceses = 3\nmine = 1\n\
                [socket:web]\nport = 0\n";
    let (config, _dir) = load(&[("main.ini", text)])?;
    let shown = config.warnings.join("\n");
    assert!(shown.contains("did you mean numprocesses?"), "{shown}");
    assert!(shown.contains("${socket:db} names no"), "{shown}");
    assert!(shown.contains("without `use_sockets = True`"), "{shown}");
    assert_eq!(config.warnings.len(), 3, "{shown}");
    Ok(())
}

#[test]
fn a_virtualenv_goes_first_on_the_paths() -> Outcome {
    let text = "[watcher:a]\ncmd = x\ncopy_env = True\nvirtualenv = venv\n[env:a]\nPATH = /bin\n";
    let site = "venv/lib/python3.9/site-packages/";
    let link = format!("{site}x.pth");
    let (config, dir) = load(&[
        ("main.ini", text),
        ("venv/bin/python", ""),
        (&link, "# c\nimport os\nlinked\nmissing\n"),
        (&format!("{site}linked/m.py"), ""),
    ])?;
    let (watcher, _) = config.watcher("a").ok_or("no watcher")?;
    let env = |name| {
        watcher
            .env()
            .and_then(|env| env.get(name))
            .and_then(Value::as_str)
    };
    assert_eq!(env("PATH"), Some("venv/bin:/bin"));
    let linked = dir.path().join(site).join("linked");
    assert_eq!(
        env("PYTHONPATH"),
        Some(format!("{}:{}", linked.display(), site.trim_end_matches('/')).as_str())
    );
    Ok(())
}

#[test]
fn sections_are_taken_over_one_by_one() -> Outcome {
    let before = "[circus]\ncheck_delay = 1\n[env]\nX = old\n[watcher:a]\ncmd = a1\n[watcher:b]\ncmd = b1\n\
                  [socket:s]\nport = 1\n[env:a]\nK = first\n";
    let after = "[circus]\ncheck_delay = 2\n[env]\nX = new\n[env:*]\nK = second\n[watcher:b]\ncmd = b2\n\
                 [watcher:c]\ncmd = c1\nuse_sockets = True\nstdin_socket = t\n[socket:t]\nport = 2\n[env:a]\nK = first\n";
    let (old, dir) = load(&[("main.ini", before)])?;
    let (new, _) = load(&[("main.ini", after)])?;
    let environ = BTreeMap::new();
    let take = |names: &[&str]| {
        let names = names.iter().map(ToString::to_string).collect();
        old.taking(&names, &new, &environ, dir.path())
    };
    let cmds = |config: &Config| -> Vec<String> {
        let all = config.watchers.iter();
        all.map(|w| format!("{} {}", w.name, w.cmd())).collect()
    };
    assert_eq!(take(&[])?.watchers, old.watchers);
    assert_eq!(take(&["watcher:b"])?.circus, old.circus);
    assert_eq!(cmds(&take(&["watcher:b"])?), ["a a1", "b b2"]);
    assert_eq!(cmds(&take(&["watcher:a"])?), ["b b1"]);
    assert_eq!(take(&["circus"])?.circus.check_delay, 2.0);
    assert_eq!(cmds(&take(&["watcher:c", "socket:t"])?).len(), 3);
    let alone = take(&["watcher:c"]).err().ok_or("the socket is missing")?;
    assert!(alone.to_string().contains("stdin_socket"), "{alone}");
    // it stands before [env:a] there, which goes over it
    let env = |config: &Config, key: &str| {
        let (watcher, _) = config.watcher("a")?;
        Some(watcher.env()?.get(key)?.as_str()?.to_owned())
    };
    let taken = take(&["env:*", "env"])?;
    assert_eq!(env(&taken, "K").as_deref(), Some("first"));
    assert_eq!(env(&taken, "X").as_deref(), Some("new"));
    assert_eq!(env(&take(&["env:*"])?, "X").as_deref(), Some("old"));
    // as often as one likes
    let again = taken.taking(&["env:*".to_owned()].into(), &new, &environ, dir.path())?;
    assert_eq!(again.merged.files.len(), taken.merged.files.len());
    assert_eq!(taken.source("env:*", "K").map(|(_, line)| line), Some(6));
    Ok(())
}
