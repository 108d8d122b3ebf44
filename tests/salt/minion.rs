//! A masterless Salt minion in a test's directory: real Salt, nothing of it outside that directory.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use crate::support::{TempSite, Venv, venv_of};

/// The environment with the real Salt in it.
pub fn salt() -> &'static Venv {
    static VENV: OnceLock<Venv> = OnceLock::new();
    VENV.get_or_init(|| venv_of("tests/requirements-salt.txt"))
}

/// The Salt modules under test.
pub fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("modules/salt")
}

/// The binary under test.
pub fn circ() -> &'static str {
    env!("CARGO_BIN_EXE_circ")
}

/// Writes the configuration of a minion into a directory `conf` of the site, with `more` keys in it, and gives it.
///
/// JSON is YAML. Everything that Salt writes is below its root_dir.
pub fn configure(site: &TempSite, more: Value) -> PathBuf {
    let conf = site.path("conf");
    fs::create_dir_all(&conf).expect("a directory for the minion's configuration");
    let mut keys: Map<String, Value> = json!({
        "id": "alone",
        "root_dir": site.path("salt"),
        "file_client": "local",
        "file_roots": {"base": [site.path("states")]},
        "log_level": "warning",
        "log_level_logfile": "quiet",
        "fileserver_list_cache_time": 0,
    })
    .as_object()
    .cloned()
    .unwrap_or_default();
    keys.extend(more.as_object().cloned().unwrap_or_default());
    fs::create_dir_all(site.path("states")).expect("a directory for states");
    fs::write(conf.join("minion"), Value::from(keys).to_string())
        .expect("the minion's configuration");
    conf
}

/// Runs `salt-call --local` on a configuration; its result, and what it said on standard error.
#[track_caller]
pub fn salt_call(conf: &Path, words: &[&str]) -> (Value, String) {
    let out = Command::new(salt().program("salt-call"))
        .arg("-c")
        .arg(conf)
        .args(["--local", "--out=json", "--retcode-passthrough"])
        .args(words)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("CIRCUSCTL_ENDPOINT")
        .stdin(Stdio::null())
        .output()
        .expect("salt-call runs");
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    let text = String::from_utf8_lossy(&out.stdout);
    let answer: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("salt-call {words:?}: {e}: {text}\n{errors}"));
    (answer["local"].clone(), errors)
}

/// A minion that lives for many calls.
#[derive(Debug)]
pub struct Minion {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// Where its SLS files are, and how many this one has written.
    states: PathBuf,
    sls_files: usize,
}

impl Minion {
    /// A minion of this site whose settings name the binary under test and the site's circus.ini.
    pub fn of(site: &TempSite) -> Minion {
        Minion::with(
            site,
            json!({"bin": circ(), "config": site.path("circus.ini")}),
        )
    }

    /// A minion with these settings under `circus`.
    pub fn with(site: &TempSite, settings: Value) -> Minion {
        let conf = configure(
            site,
            json!({"module_dirs": [modules()], "circus": settings}),
        );
        let mut child = Command::new(salt().python())
            .arg("-B")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/salt/caller.py"))
            .arg(&conf)
            .env_remove("CIRCUSCTL_ENDPOINT")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Salt's Python starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        Minion {
            child,
            stdin,
            stdout,
            states: site.path("states"),
            sls_files: 0,
        }
    }

    /// Calls a function of Salt: its result, or the error that `salt-call` would print.
    #[track_caller]
    pub fn call(&mut self, fun: &str, args: Value, kwargs: Value) -> Result<Value, String> {
        let request = json!({"fun": fun, "args": args, "kwargs": kwargs});
        let stdin = self.stdin.as_mut().expect("the minion lives");
        writeln!(stdin, "{request}").expect("the minion takes a call");
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("the minion answers");
        let answer: Value = serde_json::from_str(&line)
            .unwrap_or_else(|e| panic!("the minion ended at {request}: {e}: {line:?}"));
        match answer["error"].as_str() {
            Some(error) => Err(error.to_string()),
            None => Ok(answer["return"].clone()),
        }
    }

    /// As [`Minion::call`], and it must not be an error.
    #[track_caller]
    pub fn ok(&mut self, fun: &str, args: Value, kwargs: Value) -> Value {
        self.call(fun, args.clone(), kwargs)
            .unwrap_or_else(|error| panic!("{fun} {args}: {error}"))
    }

    /// Runs one state, such as `circus.watcher` of the name `web`, and gives what it returned.
    #[track_caller]
    pub fn state(&mut self, fun: &str, name: &str, kwargs: Value, test: bool) -> Value {
        let mut kwargs = kwargs;
        kwargs["test"] = Value::from(test);
        kwargs["name"] = Value::from(name);
        let result = self.ok("state.single", json!([fun]), kwargs);
        let only = result.as_object().and_then(|map| map.values().next());
        only.unwrap_or_else(|| panic!("{fun} {name}: {result}"))
            .clone()
    }

    /// Runs the states of an SLS text; what each returned, by its ID.
    #[track_caller]
    pub fn sls(&mut self, text: &str, test: bool) -> Map<String, Value> {
        self.sls_files += 1;
        let name = format!("run{}", self.sls_files);
        fs::write(self.states.join(&name).with_extension("sls"), text).expect("the SLS file");
        let result = self.ok("state.apply", json!([name]), json!({"test": test}));
        by_id(&result)
    }
}

/// What each state of a run returned, by its ID; the reaction of one that listens as `listener_ID`.
#[track_caller]
pub fn by_id(result: &Value) -> Map<String, Value> {
    let states = result
        .as_object()
        .unwrap_or_else(|| panic!("no states ran: {result}"));
    let mut found = Map::new();
    for (tag, state) in states {
        let id = tag.split("_|-").nth(1).unwrap_or(tag);
        found.insert(id.to_string(), state.clone());
    }
    found
}

impl Drop for Minion {
    fn drop(&mut self) {
        // Without its input it ends by itself.
        self.stdin.take();
        let ended = crate::support::wait_for_within(std::time::Duration::from_secs(10), || {
            self.child.try_wait().ok().flatten()
        });
        if ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
