//! The arrows between the rooms of the house, checked from the source text.
//!
//! A room is a folder (or a file) directly under `src/`. It may name only rooms below it; a few may name even
//! less. The pure rooms name nothing of the outside world. The checker itself is tested at the end with sources
//! that break each rule.

#[path = "architecture/source.rs"]
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::{PathUse, Source};

/// The rooms from the top of the house to the bottom.
const ROOMS: [&str; 14] = [
    "cli",
    "console",
    "top",
    "state",
    "plugins",
    "wsgi",
    "daemon",
    "python",
    "stats",
    "supervisor",
    "wire",
    "config",
    "notify",
    "options",
];

/// Rooms that may name less than everything below them, and why.
const NARROWED: [(&str, &[&str], &str); 7] = [
    (
        "console",
        &["state", "wire", "config", "options"],
        "the console is a client of a daemon as any other",
    ),
    (
        "supervisor",
        &["options"],
        "the pure core knows watcher options and nothing else",
    ),
    (
        "state",
        &["wire", "config", "notify", "options"],
        "it reaches a daemon through the wire and a file through config",
    ),
    (
        "top",
        &["wire", "options"],
        "it is a client's view, and has no daemon of its own",
    ),
    (
        "plugins",
        &["wire", "config", "options"],
        "a plugin is a client of a daemon as any other",
    ),
    (
        "wsgi",
        &["daemon", "stats", "wire"],
        "it serves alone: of the daemon's room it takes the one call that adopts an inherited descriptor, and with it the \
         frames of ZeroMQ for Mongrel2, whose addresses are those of the wire; how its numbers are shown is said where they \
         are read",
    ),
    (
        "stats",
        &["config", "options"],
        "sampling /proc needs to know neither the core nor the protocol",
    ),
];

/// What a pure room may not name, as the beginning of a path, and why.
const OUTSIDE: [(&str, &str); 18] = [
    ("std::time::Instant", "a clock"),
    ("std::time::SystemTime", "a clock"),
    ("std::time::UNIX_EPOCH", "a clock"),
    ("Instant", "a clock"),
    ("SystemTime", "a clock"),
    ("tokio", "a runtime"),
    ("zeromq", "the network"),
    ("std::net", "the network"),
    ("std::fs", "files"),
    ("std::io", "files"),
    ("std::env", "the process's environment"),
    ("std::process", "processes"),
    ("std::os", "system calls"),
    ("nix", "system calls"),
    ("libc", "system calls"),
    ("std::thread", "threads"),
    ("std::sync::Mutex", "threads"),
    ("rand", "chance: the input decides"),
];

/// Methods that make a path or a name do I/O, whatever the type was imported as.
const IO_METHODS: [&str; 6] = [
    "canonicalize",
    "read_dir",
    "read_link",
    "symlink_metadata",
    "metadata",
    "try_exists",
];

/// Rooms that name nothing of the outside.
const PURE_ROOMS: [&str; 3] = ["supervisor", "options", "top"];

/// The one file that may say `unsafe`.
const UNSAFE_HOME: &str = "daemon/spawn.rs";

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = [
    "util", "utils", "helper", "helpers", "common", "misc", "shared", "stuff",
];

#[test]
fn the_arrows_between_the_rooms_go_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = rust_files(&root);
    assert!(
        files.len() > 8,
        "only {} source files found under {}",
        files.len(),
        root.display()
    );
    let mut broken = Vec::new();
    for file in &files {
        let name = file
            .strip_prefix(&root)
            .expect("a file under src/")
            .to_string_lossy()
            .replace('\\', "/");
        let text = fs::read_to_string(file)
            .unwrap_or_else(|e| panic!("cannot read {}: {e}", file.display()));
        broken.extend(violations(&name, &text));
    }
    assert!(
        broken.is_empty(),
        "{} broken rule(s) of the house:\n{}",
        broken.len(),
        broken.join("\n")
    );
}

/// Everything a file (named relative to `src/`) does against the rules.
fn violations(file: &str, text: &str) -> Vec<String> {
    let mut found = empty_name(file);
    let source = Source::parse(text);
    let paths = source.paths(&module_of(file));
    found.extend(unsafe_outside(file, &source));
    let Some(room) = room_of(file) else {
        return found;
    };
    if !ROOMS.contains(&room.as_str()) {
        found.push(format!(
            "src/{file}: a new room `{room}`: say in tests/architecture.rs where it stands"
        ));
        return found;
    }
    found.extend(paths.iter().filter_map(|p| forbidden_arrow(file, &room, p)));
    if PURE_ROOMS.contains(&room.as_str()) {
        found.extend(paths.iter().filter_map(|p| outside(file, p)));
        found.extend(
            source
                .methods()
                .filter(|(name, _)| IO_METHODS.contains(name))
                .map(|(name, line)| {
                    format!("src/{file}:{line}: a pure room calls .{name}(): files")
                }),
        );
    }
    found
}

/// The room a file belongs to; `lib.rs` and `main.rs` belong to none.
fn room_of(file: &str) -> Option<String> {
    let first = file.split('/').next().unwrap_or(file);
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (room != "lib" && room != "main").then(|| room.to_string())
}

/// The module path of a file: `daemon/mod.rs` is `daemon`, `daemon/spawn.rs` is `daemon::spawn`.
fn module_of(file: &str) -> Vec<String> {
    let mut parts: Vec<String> = file
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_string)
        .collect();
    if parts
        .last()
        .is_some_and(|l| l == "mod" || l == "lib" || l == "main")
    {
        parts.pop();
    }
    parts
}

fn forbidden_arrow(file: &str, room: &str, path: &PathUse) -> Option<String> {
    let [first, target, ..] = path.words.as_slice() else {
        return None;
    };
    let height = |r: &str| ROOMS.iter().position(|x| *x == r);
    let (from, to) = (height(room)?, height(target)?);
    if first != "crate" || from == to {
        return None;
    }
    let narrowed = NARROWED.iter().find(|(r, _, _)| *r == room);
    let why = match narrowed {
        Some((_, allowed, why)) if !allowed.contains(&target.as_str()) => (*why).to_string(),
        None if to < from => format!("{target} stands above {room}"),
        _ => return None,
    };
    Some(format!(
        "src/{file}:{}: {room} names {}: {why}",
        path.line,
        path.words.join("::")
    ))
}

fn outside(file: &str, path: &PathUse) -> Option<String> {
    // `core` and `alloc` are other names for parts of `std`.
    let first = path.words.first()?.as_str();
    let first = if matches!(first, "core" | "alloc") {
        "std"
    } else {
        first
    };
    let words: Vec<&str> = std::iter::once(first)
        .chain(path.words[1..].iter().map(String::as_str))
        .collect();
    let (name, why) = OUTSIDE.iter().find(|(start, _)| {
        let start: Vec<&str> = start.split("::").collect();
        // `use std::*` names everything there is.
        words.starts_with(&start)
            || (words.last() == Some(&"*") && start.starts_with(&words[..words.len() - 1]))
    })?;
    Some(format!(
        "src/{file}:{}: a pure room names {name}: {why}",
        path.line
    ))
}

fn unsafe_outside(file: &str, source: &Source) -> Vec<String> {
    let lines = source.word_lines("unsafe");
    if file == UNSAFE_HOME {
        return Vec::new();
    }
    lines
        .map(|line| format!("src/{file}:{line}: `unsafe` belongs into src/{UNSAFE_HOME} only"))
        .collect()
}

fn empty_name(file: &str) -> Vec<String> {
    file.split('/')
        .map(|part| part.trim_end_matches(".rs"))
        .filter(|part| EMPTY_NAMES.contains(part))
        .map(|part| format!("src/{file}: the name `{part}` says nothing about what is inside"))
        .collect()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(dir).unwrap_or_else(|e| panic!("cannot list {}: {e}", dir.display()));
    let mut found = Vec::new();
    for path in entries.flatten().map(|e| e.path()) {
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Each rule, broken once: a checker that finds nothing here would find nothing anywhere.
#[test]
fn the_checker_finds_what_it_is_there_for() {
    let bad = [
        (
            "wire/client.rs",
            "use crate::daemon::Reply;",
            "daemon stands above wire",
        ),
        (
            "wire/client.rs",
            "use crate::{options, state::plan};",
            "state stands above wire",
        ),
        (
            "config/model.rs",
            "fn f() { crate::wire::endpoint::parse(\"\"); }",
            "wire stands above config",
        ),
        (
            "config/deep/model.rs",
            "use super::super::super::daemon::x;",
            "daemon stands above config",
        ),
        (
            "config/model.rs",
            "mod tests { use super::super::super::wire; }",
            "wire stands above config",
        ),
        (
            "supervisor/mod.rs",
            "use crate::config::Config;",
            "the pure core knows",
        ),
        (
            "supervisor/mod.rs",
            "pub use crate::wire::{self, Command};",
            "the pure core knows",
        ),
        (
            "state/apply.rs",
            "use crate::daemon::sockets;",
            "it reaches a daemon through",
        ),
        (
            "state/apply.rs",
            "use crate::supervisor::Input;",
            "it reaches a daemon through",
        ),
        ("stats/mod.rs", "use crate::wire::reply;", "sampling /proc"),
        (
            "supervisor/step.rs",
            "use std::time::{Duration, Instant};",
            "a clock",
        ),
        (
            "supervisor/step.rs",
            "fn f() { let t = SystemTime::now(); }",
            "a clock",
        ),
        (
            "supervisor/step.rs",
            "fn f() { let t = std::time::Instant::now(); }",
            "a clock",
        ),
        ("supervisor/step.rs", "use std::time::*;", "a clock"),
        ("supervisor/step.rs", "use tokio::time::sleep;", "a runtime"),
        ("options.rs", "fn f() { std::fs::read(\"x\"); }", "files"),
        (
            "options.rs",
            "fn f(p: &Path) { p.canonicalize(); }",
            "files",
        ),
        ("options.rs", "use nix::unistd::getpid;", "system calls"),
        ("options.rs", "use std::{thread};", "threads"),
        ("options.rs", "fn f() { rand::random() }", "chance"),
        (
            "daemon/sockets.rs",
            "fn f() { unsafe { g() } }",
            "belongs into",
        ),
        ("cli/utils.rs", "", "says nothing"),
        ("daemon/common/mod.rs", "", "says nothing"),
        ("kitchen/mod.rs", "", "a new room"),
    ];
    for (file, text, why) in bad {
        let found = violations(file, text);
        assert!(
            found.iter().any(|f| f.contains(why)),
            "src/{file} with {text:?}: no {why:?} among {found:?}"
        );
    }
    let good = [
        (
            "cli/mod.rs",
            "use crate::{daemon::run, state, wire::client};",
        ),
        ("daemon/spawn.rs", "fn f() { unsafe { g() } }"),
        (
            "wire/mod.rs",
            "// as crate::daemon does\nuse crate::config::Config; /* crate::state */",
        ),
        (
            "config/mod.rs",
            "const A: &str = \"use crate::daemon::x; // {\"; const B: char = '\"'; use crate::options;",
        ),
        (
            "config/mod.rs",
            "const A: &str = r#\"unsafe \"crate::daemon\" \"#; fn f<'a>(x: &'a str) {}",
        ),
        (
            "supervisor/mod.rs",
            "use std::time::Duration; use crate::options::spec; fn instant() {}",
        ),
        (
            "supervisor/mod.rs",
            "mod watcher; use self::watcher::State; use super::supervisor::x;",
        ),
        (
            "main.rs",
            "fn main() { circ::cli::run(std::env::args_os()) }",
        ),
    ];
    for (file, text) in good {
        assert_eq!(
            violations(file, text),
            Vec::<String>::new(),
            "src/{file} with {text:?}"
        );
    }
}
