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

/// A configuration of one file, as a daemon with this environment reads it in `cwd`, or else where the file lies: for the
/// tests of this room's files.
pub(super) fn loaded(
    text: &str,
    environ: &[(&str, &str)],
    cwd: Option<&Path>,
) -> Result<Config, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = dir.path().join("circus.ini");
    std::fs::write(&path, text).map_err(|error| error.to_string())?;
    let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    let environ: BTreeMap<String, String> = environ.iter().map(owned).collect();
    Config::load(&path, &environ, cwd.unwrap_or(dir.path())).map_err(|error| error.to_string())
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

#[test]
fn circus_toml_means_what_circus_ini_means() -> Outcome {
    let ini = "[circus]\numask = 022\nwarmup_delay = 0.5\ndebug = True\ninclude = more.ini\n\
               [watcher:web]\ncmd = python3 -m http.server\nargs = --bind '$(circus.env.home)' 'a b'\n\
               numprocesses = 2\ncopy_env = True\nstop_signal = QUIT\nrlimit_nofile = 100\n\
               hooks.before_start = m.f,True\nstdout_stream.class = FileStream\n\
               stdout_stream.filename = /dev/null\nmine = 1\nuid = 0\n\
               [socket:s]\nport = 0\nso_reuseport = True\n[plugin:p]\nuse = x.Y\npriority = 3\nz = 1\n\
               [env]\nA = 1\n[env:w*]\nB = 2\nC = 2\n[env:web]\nC = 3\n";
    let toml = "[circus]\numask = 0o022\nwarmup_delay = 0.5\ndebug = true\ninclude = [\"more.ini\"]\n\
                [watcher.web]\ncmd = \"python3 -m http.server\"\n\
                args = [\"--bind\", \"$(circus.env.home)\", \"a b\"]\nnumprocesses = 2\ncopy_env = true\n\
                stop_signal = \"QUIT\"\nrlimits.nofile = 100\nmine = 1\nuid = 0\n\
                hooks.before_start = { call = \"m.f\", ignore_failure = true }\nenv.C = 3\n\
                [watcher.web.stdout_stream]\nclass = \"FileStream\"\nfilename = \"/dev/null\"\n\
                [socket.s]\nport = 0\nso_reuseport = true\n[plugin.p]\nuse = \"x.Y\"\npriority = 3\nz = 1\n\
                [env]\nA = 1\n[env.\"w*\"]\nB = 2\nC = 2\n";
    let more = ("more.ini", "[watcher:db]\ncmd = x\n");
    let (from_ini, dir_ini) = load(&[("main.ini", ini), more])?;
    let (from_toml, dir_toml) = load(&[("main.toml", toml), more])?;
    assert_eq!(from_ini.circus, from_toml.circus);
    assert_eq!(from_ini.sockets, from_toml.sockets);
    assert_eq!(from_ini.plugins, from_toml.plugins);
    assert_eq!(from_ini.warnings, from_toml.warnings);
    let text = |config: &Config, dir: &Path| {
        let watchers = format!("{:#?}", config.watchers);
        watchers.replace(&*dir.to_string_lossy(), "DIR")
    };
    assert_eq!(
        text(&from_ini, dir_ini.path()),
        text(&from_toml, dir_toml.path())
    );
    let env = |name| from_toml.watcher("web")?.0.env()?.get(name)?.as_str();
    assert_eq!((env("B"), env("C")), (Some("2"), Some("3")));
    assert_eq!(
        from_toml
            .source("watcher:web", "rlimit_nofile")
            .map(|(_, line)| line),
        Some(12)
    );
    Ok(())
}

#[test]
fn included_files_may_be_of_either_spelling() -> Outcome {
    let files = [
        (
            "d/2.ini",
            "[watcher:web]\ncmd = never\nmax_retry = 2\n[env:w*]\nA = pattern\n",
        ),
        ("d/1.toml", "[watcher.web]\ncmd = \"x\"\nenv.A = \"own\"\n"),
        ("d/3.toml", "[watcher.web]\nmax_retry = 3\nmax_age = 3\n"),
    ];
    let main = ("main.toml", "[circus]\ninclude_dir = \"d\"\n");
    let (config, _dir) = load(&[main, files[0], files[1], files[2]])?;
    let (web, section) = config.watcher("web").ok_or("no web")?;
    assert_eq!(
        (web.cmd(), web.max_retry(), web.max_age()),
        ("x", Some(2), 3)
    );
    let file = |key| {
        Some(
            config
                .source(section, key)?
                .0
                .file_name()?
                .to_string_lossy()
                .into_owned(),
        )
    };
    assert_eq!(file("cmd").as_deref(), Some("1.toml"));
    assert_eq!(file("max_retry").as_deref(), Some("2.ini"));
    // What stands with the watcher comes last, wherever the pattern stands.
    assert_eq!(
        web.env().and_then(|env| env.get("A")),
        Some(&Value::from("own"))
    );
    // Circus reads no TOML, so the directory of a circus.ini holds none for it.
    let (config, _dir) = load(&[
        ("main.ini", "[circus]\ninclude_dir = d\n"),
        files[0],
        files[1],
    ])?;
    assert_eq!(
        config.watcher("web").map(|(web, _)| web.cmd().to_owned()),
        Some("never".into())
    );
    let (config, _dir) = load(&[("main.ini", "[circus]\ninclude = d/1.toml\n"), files[1]])?;
    assert_eq!(
        config.watcher("web").map(|(web, _)| web.cmd().to_owned()),
        Some("x".into())
    );
    Ok(())
}

#[test]
fn slips_in_circus_toml_name_file_line_and_key() -> Outcome {
    let text = "[watcher.web]\ncmd = \"x\"\nnumprocesses = \"four\"\nmax_age = 1.5\n\n[socket.s]\nport = 99999\n\
                [circus]\nwarmup_delay = -1\n";
    let shown = refused(&[("bad.toml", text)])?.to_string();
    for wanted in [
        "bad.toml:3: [watcher.web] numprocesses: 'four' is not a whole number",
        "bad.toml:4: [watcher.web] max_age: '1.5' is not a whole number",
        "bad.toml:7: [socket.s] port: \"99999\" is not a port",
        "bad.toml:9: [circus] warmup_delay: \"-1\" is not a number of seconds",
    ] {
        assert!(shown.contains(wanted), "{wanted:?} is not in:\n{shown}");
    }
    Ok(())
}
