//! Everything Ansible needs, in a room of its own: programs, home, collection, modules, and the running of playbooks.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use crate::support::{TempSite, Venv, venv_of};

/// How a playbook reaches circ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The Python modules of the collection.
    Python,
    /// The binary itself, in `library/` under the modules' names.
    Binary,
    /// The script of the examples, which runs the circ of the host.
    Script,
}

impl Form {
    /// The name of a module in this form: `watcher`, `state`, …
    pub fn module(self, name: &str) -> String {
        match self {
            Form::Python => format!("circ.circus.circus_{name}"),
            Form::Binary => format!("circus_{name}"),
            // One module for watchers and whole states.
            Form::Script => "circus".to_string(),
        }
    }

    /// A playbook in this form: `MODULE(watcher)` in it is the module's name.
    pub fn playbook(self, text: &str) -> String {
        let mut parts = text.split("MODULE(");
        let mut out = parts.next().unwrap_or_default().to_string();
        for part in parts {
            let (name, rest) = part.split_once(')').expect("MODULE(name)");
            out.push_str(&self.module(name));
            out.push_str(rest);
        }
        out
    }
}

/// The Python environment with ansible-core in it.
pub fn venv() -> &'static Venv {
    static VENV: OnceLock<Venv> = OnceLock::new();
    VENV.get_or_init(|| venv_of("tests/requirements-ansible.txt"))
}

/// A path in the repository.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program of Ansible, with a home under `home` and nothing of the user's settings.
pub fn ansible(program: &str, home: &Path) -> Command {
    let mut command = Command::new(venv().program(program));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ANSIBLE_") {
            command.env_remove(name);
        }
    }
    let under = |name: &str| home.join(name);
    command
        .env("HOME", home)
        .env("PATH", venv().path())
        .env("LC_ALL", "C.UTF-8")
        .env("ANSIBLE_CONFIG", source("tests/ansible/ansible.cfg"))
        .env("ANSIBLE_HOME", under(".ansible"))
        .env("ANSIBLE_REMOTE_TEMP", under(".ansible/remote"))
        .env("ANSIBLE_LOCAL_TEMP", under(".ansible/local"))
        .env("ANSIBLE_PYTHON_INTERPRETER", venv().python())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("CIRCUSCTL_ENDPOINT")
        .stdin(Stdio::null());
    command
}

/// Runs a command that must succeed; its output.
#[track_caller]
pub fn done(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(
        output.status.success(),
        "{command:?}: {}\n{out}\n{err}",
        output.status
    );
    out
}

/// What the tests of one program share: the built collection, installed, and the binary as modules.
pub struct House {
    dir: PathBuf,
    /// Another run of the tests does not build it anew under us.
    _lock: Flock<File>,
}

impl House {
    /// Made at the first call.
    pub fn get() -> &'static House {
        static HOUSE: OnceLock<House> = OnceLock::new();
        HOUSE.get_or_init(House::build)
    }

    fn build() -> House {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ansible");
        fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).expect("a directory under target/");
        let lock = File::create(dir.with_extension("lock")).expect("a lock file under target/");
        let lock = Flock::lock(lock, FlockArg::LockExclusive)
            .unwrap_or_else(|(_, e)| panic!("cannot lock {}: {e}", dir.display()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a directory under target/");
        let house = House { dir, _lock: lock };
        done(
            ansible("ansible-galaxy", house.path())
                .args(["collection", "build", "--output-path"])
                .arg(house.path())
                .arg(source("modules/ansible")),
        );
        let version = env!("CARGO_PKG_VERSION");
        done(
            ansible("ansible-galaxy", house.path())
                .args(["collection", "install", "--offline", "-p"])
                .arg(house.collections())
                .arg(house.path().join(format!("circ-circus-{version}.tar.gz"))),
        );
        let bin = house.path().join("bin");
        fs::create_dir(&bin).expect("a directory");
        // Without its debugging information, as it is shipped: Ansible carries it to the host for each task.
        let circ = bin.join("circ");
        let stripped = Command::new("strip")
            .arg("-o")
            .arg(&circ)
            .arg(env!("CARGO_BIN_EXE_circ"))
            .status();
        if !stripped.is_ok_and(|status| status.success()) {
            fs::copy(env!("CARGO_BIN_EXE_circ"), &circ).expect("the binary can be copied");
        }
        let library = house.library(Form::Binary);
        fs::create_dir_all(&library).expect("a directory");
        for name in [
            "circus",
            "circus_watcher",
            "circus_socket",
            "circus_config",
            "circus_state",
            "circus_info",
        ] {
            fs::hard_link(&circ, library.join(name)).expect("the binary can be linked");
        }
        house
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The directory with the circ that hosts have on their `PATH`.
    pub fn bin(&self) -> PathBuf {
        self.path().join("bin")
    }

    /// Where the built collection is installed.
    pub fn collections(&self) -> PathBuf {
        self.path().join("collections")
    }

    fn library(&self, form: Form) -> PathBuf {
        match form {
            Form::Script => source("examples/ansible/library"),
            _ => self.path().join("library"),
        }
    }

    /// A program of Ansible that finds the modules in this form.
    pub fn ansible(&self, program: &str, form: Form, home: &Path) -> Command {
        let mut command = ansible(program, home);
        let path = format!("{}:{}", self.bin().display(), venv().path());
        command
            .env("PATH", path)
            .env("ANSIBLE_COLLECTIONS_PATH", self.collections());
        if form != Form::Python {
            // These hosts have no Python.
            command
                .env("ANSIBLE_LIBRARY", self.library(form))
                .env("ANSIBLE_PYTHON_INTERPRETER", "/nonexistent/python");
        }
        command
    }
}

/// One result of a task.
#[derive(Debug, Clone)]
pub struct Line {
    /// On which host.
    pub host: String,
    /// The task's name.
    pub task: String,
    /// `ok`, `failed`, `ignored`, `skipped`, `unreachable`.
    pub kind: String,
    /// What the module returned.
    pub result: Value,
}

/// What came of a playbook.
#[derive(Debug)]
pub struct Played {
    /// Every result, in order.
    pub lines: Vec<Line>,
    /// `{"ok", "changed", "failures", …}` of each host.
    pub recap: Vec<(String, Value)>,
    /// The whole output, for messages.
    pub output: String,
    /// It ended without a failure.
    pub success: bool,
}

impl Played {
    fn of(command: &mut Command) -> Played {
        let output = command
            .output()
            .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let (mut lines, mut recap) = (Vec::new(), Vec::new());
        for line in stdout.lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_string();
            if line.get("recap").is_some() {
                recap.push((text("recap"), line));
            } else {
                lines.push(Line {
                    host: text("host"),
                    task: text("task"),
                    kind: text("kind"),
                    result: line["result"].clone(),
                });
            }
        }
        Played {
            lines,
            recap,
            output: format!("{stdout}\n{}", String::from_utf8_lossy(&output.stderr)),
            success: output.status.success(),
        }
    }

    /// Nothing failed, on any host.
    #[track_caller]
    pub fn fine(self) -> Played {
        assert!(self.success && !self.recap.is_empty(), "{}", self.output);
        self
    }

    /// The result of the task of this name, on the only host.
    #[track_caller]
    pub fn result(&self, task: &str) -> &Value {
        let found = self.lines.iter().find(|line| line.task == task);
        match found {
            Some(line) => &line.result,
            None => panic!("no task {task}:\n{}", self.output),
        }
    }

    /// How many tasks changed something, on all hosts.
    pub fn changed(&self) -> i64 {
        self.recap
            .iter()
            .filter_map(|(_, recap)| recap["changed"].as_i64())
            .sum()
    }
}

/// Writes a playbook into the site and runs it on the host `here`, which is this machine.
#[track_caller]
pub fn play(site: &TempSite, form: Form, text: &str, more: &[&str]) -> Played {
    let text = form.playbook(text);
    let playbook = site.write("site.yml", text);
    let mut command = House::get().ansible("ansible-playbook", form, site.dir());
    command
        .args(["-i", "here,", "-c", "local"])
        .arg("-e")
        .arg(format!("config={}", site.path("circus.ini").display()))
        .args(more)
        .arg(playbook)
        .current_dir(site.dir());
    Played::of(&mut command)
}

/// As [`play`], on the hosts of an inventory.
#[track_caller]
pub fn play_on(
    site: &TempSite,
    form: Form,
    inventory: &Path,
    text: &str,
    environment: &[(&str, String)],
) -> Played {
    let playbook = site.write("site.yml", form.playbook(text));
    let mut command = House::get().ansible("ansible-playbook", form, site.dir());
    command
        .arg("-i")
        .arg(inventory)
        .envs(environment.iter().cloned())
        .arg(playbook)
        .current_dir(site.dir());
    Played::of(&mut command)
}

/// Writes a program.
pub fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode can be set");
}
