//! A real salt-master and its minions on loopback, in a test's directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Map, Value, json};

use super::minion::{modules, salt};
use crate::support::{
    Process, TempSite, adopt_orphans, descendants, kill_tree, wait_for, wait_for_within,
};

/// How long a master or a minion may take to be there, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(180);

/// A program of Salt that runs until it is dropped.
struct Running {
    what: String,
    child: Child,
    home: PathBuf,
}

/// A master, the listener on its event bus, and minions.
pub struct Fleet<'a> {
    site: &'a TempSite,
    // Dropped in this order: minions, listener, master.
    minions: Vec<Running>,
    _listener: Running,
    _master: Running,
    extension: PathBuf,
    ports: (u16, u16),
}

impl<'a> Fleet<'a> {
    /// Starts a master whose file_roots is `states` of the site, and follows its event bus.
    pub fn start(site: &'a TempSite) -> Fleet<'a> {
        adopt_orphans();
        let ports = (site.port(), site.port());
        let conf = site.path("master");
        fs::create_dir_all(site.path("states")).expect("a directory for states");
        fs::create_dir_all(&conf).expect("a directory for the master");
        let keys = json!({
            "interface": "127.0.0.1",
            "publish_port": ports.0,
            "ret_port": ports.1,
            "root_dir": conf.join("root"),
            // Below its root_dir; short, because a socket's path is.
            "sock_dir": "/m",
            "file_roots": {"base": [site.path("states")]},
            "auto_accept": true,
            "worker_threads": 2,
            "user": "root",
            "fileserver_list_cache_time": 0,
            "log_level_logfile": "quiet",
        });
        fs::write(conf.join("master"), keys.to_string()).expect("the master's configuration");
        let extension = extension(site);
        let master = run(site, &extension, "salt-master", &conf, &["-l", "warning"]);
        let bus = conf.join("root/m/master_event_pub.ipc");
        wait_for_within(PATIENCE, || bus.exists().then_some(())).unwrap_or_else(|| {
            panic!("the master has no event bus\n{}", said(site, "salt-master"))
        });
        let listener = run(site, &extension, "salt-run", &conf, &["state.event"]);
        Fleet {
            site,
            minions: Vec::new(),
            _listener: listener,
            _master: master,
            extension,
            ports,
        }
    }

    /// Starts a minion with these keys in its configuration.
    pub fn minion(&mut self, id: &str, more: &Value) {
        let conf = self.site.path(&format!("minion-{id}"));
        fs::create_dir_all(&conf).expect("a directory for the minion");
        let mut keys: Map<String, Value> = json!({
            "id": id,
            "master": "127.0.0.1",
            "publish_port": self.ports.0,
            "master_port": self.ports.1,
            "root_dir": conf.join("root"),
            "sock_dir": "/s",
            "log_level_logfile": "quiet",
            "random_startup_delay": 0,
            "grains_cache": false,
            "acceptance_wait_time": 1,
        })
        .as_object()
        .cloned()
        .unwrap_or_default();
        keys.extend(more.as_object().cloned().unwrap_or_default());
        fs::write(conf.join("minion"), Value::from(keys).to_string()).expect("a configuration");
        let minion = run(
            self.site,
            &self.extension,
            "salt-minion",
            &conf,
            &["-l", "warning"],
        );
        self.minions.push(minion);
    }

    /// Calls a function on all minions; what each returned. Those that did not answer are missing.
    pub fn all(&self, words: &[&str]) -> Map<String, Value> {
        let out = Command::new(salt().program("salt"))
            .arg("-c")
            .arg(self.site.path("master"))
            .args(["--out=json", "--static", "--timeout=60", "*"])
            .args(words)
            .env("PYTHONPATH", &self.extension)
            .stdin(Stdio::null())
            .output()
            .expect("salt runs");
        let text = String::from_utf8_lossy(&out.stdout);
        match serde_json::from_str(&text) {
            Ok(Value::Object(answers)) => answers,
            _ => Map::new(),
        }
    }

    /// Waits until so many minions answer.
    pub fn wait(&self, count: usize) {
        let ready = wait_for_within(PATIENCE, || {
            (self
                .all(&["test.ping"])
                .values()
                .filter(|v| **v == true)
                .count()
                == count)
                .then_some(())
        });
        assert!(
            ready.is_some(),
            "not all minions came\n{}",
            said(self.site, "salt-minion")
        );
    }

    /// Waits for an event on the bus whose tag begins with `tag`, and gives its data.
    #[track_caller]
    pub fn event(&self, tag: &str) -> Value {
        wait_for(&format!("an event {tag}"), || {
            let told = fs::read_to_string(self.site.path("salt-run.log")).unwrap_or_default();
            let mut events = told.lines().filter_map(|line| line.split_once('\t'));
            let (_, data) = events.find(|(found, _)| found.starts_with(tag))?;
            serde_json::from_str(data).ok()
        })
    }
}

/// Installs the package of the modules into a directory of the site.
fn extension(site: &TempSite) -> PathBuf {
    // A build writes into its source.
    let (source, target) = (site.path("source"), site.path("extension"));
    copy(&modules(), &source);
    let out = Command::new(salt().python())
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
        ])
        .arg("--target")
        .arg(&target)
        .arg(&source)
        .output()
        .expect("pip runs");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    target
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory is read").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a file is copied");
        }
    }
}

/// Starts a program of Salt; what it says goes to `PROGRAM.log` in the site.
fn run(site: &TempSite, extension: &Path, program: &str, conf: &Path, words: &[&str]) -> Running {
    let log = site.path(&format!("{program}.log"));
    let out = File::options()
        .create(true)
        .append(true)
        .open(log)
        .expect("a log file");
    let errors = out.try_clone().expect("a log file can be duplicated");
    let child = Command::new(salt().program(program))
        .arg("-c")
        .arg(conf)
        .args(words)
        .env("PYTHONPATH", extension)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1")
        .env_remove("CIRCUSCTL_ENDPOINT")
        .current_dir(conf)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(errors)
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {program}: {e}"));
    Running {
        what: program.to_string(),
        child,
        home: conf.to_owned(),
    }
}

/// What a program of Salt has said.
pub fn said(site: &TempSite, program: &str) -> String {
    fs::read_to_string(site.path(&format!("{program}.log"))).unwrap_or_default()
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = self.child.id() as i32;
        let known: Vec<Process> = descendants(pid);
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let child = &mut self.child;
        if wait_for_within(Duration::from_secs(15), || child.try_wait().ok().flatten()).is_none() {
            eprintln!("{} did not end on SIGTERM", self.what);
            let _ = child.kill();
            let _ = child.wait();
        }
        kill_tree(known, &self.home, &[]);
    }
}
