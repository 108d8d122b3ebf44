//! The Python environments of the tests: each made once under `target/`, from a pinned list of requirements.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::fcntl::{Flock, FlockArg};

/// A ready Python environment.
#[derive(Debug, Clone)]
pub struct Venv {
    bin: PathBuf,
}

impl Venv {
    /// A program of the environment: `python`, `circusd`, `circusctl`, `chaussette` …
    pub fn program(&self, name: &str) -> PathBuf {
        let path = self.bin.join(name);
        assert!(
            path.exists(),
            "{} is not in the Python environment of the tests",
            path.display()
        );
        path
    }

    /// The environment's Python interpreter.
    pub fn python(&self) -> PathBuf {
        self.program("python")
    }

    /// The real circusd.
    pub fn circusd(&self) -> PathBuf {
        self.program("circusd")
    }

    /// The real circusctl.
    pub fn circusctl(&self) -> PathBuf {
        self.program("circusctl")
    }

    /// Its version: 11 for Python 3.11.
    pub fn minor_version(&self) -> u32 {
        let script = "import sys; print(sys.version_info[1])";
        let told = run(
            Command::new(self.python()).args(["-c", script]),
            "python must run",
        );
        told.trim().parse().expect("a version number")
    }

    /// The directory that holds the programs, for a `PATH`.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// `PATH` with the environment's programs first.
    pub fn path(&self) -> String {
        let old =
            std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_string());
        format!("{}:{old}", self.bin.display())
    }
}

/// The environment with the real Circus in it, made at the first call of all test programs of all runs.
pub fn venv() -> &'static Venv {
    static VENV: OnceLock<Venv> = OnceLock::new();
    VENV.get_or_init(|| venv_of("tests/requirements.txt"))
}

/// The environment of this list of requirements, a path in the repository.
///
/// A file lock makes parallel test programs wait for the one that builds it; the requirements' hash is part
/// of the directory's name and a stamp file is written last, so a half-built one is never used.
pub fn venv_of(requirements: &str) -> Venv {
    let list = requirements;
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join(list);
    let text =
        fs::read_to_string(&requirements).unwrap_or_else(|e| panic!("cannot read {list}: {e}"));
    let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(home).expect("the tests' own directory under target/ can be made");
    let version = run(
        Command::new("python3").arg("--version"),
        "python3 is needed",
    );
    let name = format!("venv-{:016x}", fnv1a(format!("{version}{text}").as_bytes()));
    let (dir, stamp) = (home.join(&name), home.join(format!("{name}.ready")));
    let venv = Venv {
        bin: dir.join("bin"),
    };

    let _lock = lock(&home.join(format!("{name}.lock")));
    if stamp.exists() {
        return venv;
    }
    eprintln!("making the tests' Python environment in {}", dir.display());
    let _ = fs::remove_dir_all(&dir);
    run(
        Command::new("python3").args(["-m", "venv"]).arg(&dir),
        "python3 and its venv module are needed (Debian: apt-get install python3-venv)",
    );
    run(
        Command::new(venv.bin.join("python"))
            .args(["-m", "pip", "install", "--quiet", "-r"])
            .arg(&requirements),
        &format!(
            "the packages of {list} must be installable with pip (network or a wheel directory)"
        ),
    );
    fs::write(&stamp, b"").expect("the stamp of the Python environment can be written");
    venv
}

/// Takes an exclusive lock on `path`, waiting for whoever holds it; dropping the result frees it.
fn lock(path: &Path) -> Flock<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .unwrap_or_else(|e| panic!("cannot open the lock {}: {e}", path.display()));
    Flock::lock(file, FlockArg::LockExclusive)
        .unwrap_or_else(|(_, e)| panic!("cannot lock {}: {e}", path.display()))
}

/// Runs a command that must succeed and gives what it printed.
fn run(command: &mut Command, advice: &str) -> String {
    let out = command
        .output()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}; {advice}"));
    assert!(
        out.status.success(),
        "{command:?} failed ({}); {advice}\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// FNV-1a: enough to tell two requirement files apart, and the same in every build.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    })
}
