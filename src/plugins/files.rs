//! The files that a watcher's command runs: found on the disk, and how they are recognized.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::shlex;

/// What a file is recognized by. Another file under its name, or another content, is another stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Seconds and nanoseconds of its last change.
    pub changed: (i64, i64),
    /// Its number.
    pub inode: u64,
    /// Its length.
    pub size: u64,
}

/// Files, by the path they really have.
pub type Stamps = BTreeMap<PathBuf, Stamp>;

/// A command as a watcher has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Command {
    /// The option `cmd`.
    pub cmd: String,
    /// The option `working_dir`; empty for that of the daemon.
    pub working_dir: String,
    /// `PATH` of the workers.
    pub path: String,
}

/// Programs whose first word is the program proper.
const INTERPRETERS: [&str; 9] = [
    "python", "pypy", "sh", "bash", "dash", "perl", "ruby", "node", "php",
];

/// The files of a command that are there: the program, and the script if the program is an interpreter.
pub fn look(command: &Command) -> Stamps {
    candidates(command)
        .into_iter()
        .filter_map(|path| {
            let path = path.canonicalize().ok()?;
            let found = path.metadata().ok().filter(|found| found.is_file())?;
            let stamp = Stamp {
                changed: (found.mtime(), found.mtime_nsec()),
                inode: found.ino(),
                size: found.size(),
            };
            Some((path, stamp))
        })
        .collect()
}

/// Where these files may be. Circus takes the whole of `cmd` as one path, and so do we first.
fn candidates(command: &Command) -> Vec<PathBuf> {
    let from = |word: &str| Path::new(&command.working_dir).join(word);
    let whole = from(&command.cmd);
    if whole.is_file() {
        return vec![whole];
    }
    let words = shlex::split(&command.cmd).unwrap_or_default();
    let Some(program) = words.first() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if program.contains('/') {
        found.push(from(program));
    } else {
        let places = command.path.split(':').filter(|place| !place.is_empty());
        let mut places = places.map(|place| from(place).join(program));
        found.extend(places.find(|path| path.is_file()));
    }
    if is_interpreter(program) {
        // `-m module` and `-c text` name no file
        let script = words[1..].iter().find(|word| !word.starts_with('-'));
        found.extend(script.map(|word| from(word)));
    }
    found
}

fn is_interpreter(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or(program);
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_command() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().canonicalize().unwrap().join(name);
        for name in ["worker", "app.py", "with space", "data"] {
            std::fs::write(at(name), name).unwrap();
        }
        std::fs::create_dir(at("bin")).unwrap();
        std::fs::write(at("bin/tool"), "x").unwrap();
        std::os::unix::fs::symlink(at("worker"), at("link")).unwrap();
        let found = |cmd: &str| -> Vec<PathBuf> {
            let command = Command {
                cmd: cmd.to_owned(),
                working_dir: dir.path().to_string_lossy().into_owned(),
                path: "/nowhere:bin".to_owned(),
            };
            look(&command).into_keys().collect()
        };
        assert_eq!(found("./worker --fast data"), [at("worker")]);
        assert_eq!(found("link"), [at("worker")]);
        assert_eq!(found("with space"), [at("with space")]);
        assert_eq!(found("tool data"), [at("bin/tool")]);
        assert_eq!(found("python3.11 -u app.py data"), [at("app.py")]);
        assert_eq!(found("./gone"), [] as [PathBuf; 0]);
        assert_eq!(found("bin"), [] as [PathBuf; 0]);
        assert_eq!(found("'open"), [] as [PathBuf; 0]);
    }
}
