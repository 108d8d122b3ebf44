//! `circ install-links`: symbolic links under the names of the Circus programs.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::{output, programs};

/// Exit code of `--check` when something would change, as for `circ state`.
const EXIT_DRIFT: u8 = 2;

/// Arguments of `circ install-links`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  circ install-links /usr/local/bin\n  circ install-links --check ~/venv/bin\n\n\
    A link in the directory that holds the program itself is relative, so that the directory may be moved."
)]
pub struct Args {
    /// The directory for the links, such as /usr/local/bin
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Replace what is not a link of circ: the programs of a Circus that was installed before
    #[arg(long)]
    force: bool,
    /// Change nothing: tell what would be done, and exit with 2 if that is anything
    #[arg(long)]
    check: bool,
}

/// What stands where a link shall be.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Nothing.
    Nothing,
    /// The link that is wanted.
    Ours,
    /// A link to another place of the same program.
    Older(PathBuf),
    /// Something that circ did not make; what it is.
    Foreign(String),
    /// A directory, which is never replaced.
    Directory,
}

/// Makes the links, all of them or none.
pub fn run(args: &Args) -> ExitCode {
    match install(args) {
        Ok(code) => code,
        Err(reason) => {
            output::plain_error(&format!("circ install-links: {reason}"));
            ExitCode::FAILURE
        }
    }
}

fn install(args: &Args) -> Result<ExitCode, String> {
    let dir = fs::canonicalize(&args.dir)
        .ok()
        .filter(|dir| dir.is_dir())
        .ok_or_else(|| format!("{} is no directory; make it first", args.dir.display()))?;
    let target = target(&dir)?;
    let found: Vec<(&str, PathBuf, Found)> = programs::names()
        .map(|(name, _)| {
            let link = dir.join(name);
            let found = look(&link, &target);
            (name, link, found)
        })
        .collect();
    let blocked: Vec<String> = found
        .iter()
        .filter_map(|(_, link, found)| match found {
            Found::Foreign(what) if !args.force => Some(format!(
                "{} is {what}, not a link of circ; --force replaces it",
                link.display()
            )),
            Found::Directory => Some(format!(
                "{} is a directory; it has to be moved away by hand",
                link.display()
            )),
            _ => None,
        })
        .collect();
    if !blocked.is_empty() {
        return Err(format!("nothing was changed: {}", blocked.join("\n  ")));
    }
    let mut changed = false;
    for (name, link, found) in &found {
        if *found == Found::Ours {
            output::line(&format!("ok       {}", link.display()));
            continue;
        }
        changed = true;
        let was = match found {
            Found::Older(old) => format!(" (was a link to {})", old.display()),
            Found::Foreign(what) => format!(" (was {what})"),
            _ => String::new(),
        };
        if !args.check {
            place(&dir, name, &target)
                .map_err(|error| format!("cannot make the link {}: {error}", link.display()))?;
        }
        let done = if args.check { "missing " } else { "linked  " };
        output::line(&format!(
            "{done} {} -> {}{was}",
            link.display(),
            target.display()
        ));
    }
    if let Some(hint) = shadows(&dir) {
        output::plain_error(&hint);
    }
    Ok(if args.check && changed {
        ExitCode::from(EXIT_DRIFT)
    } else {
        ExitCode::SUCCESS
    })
}

/// What a link in `dir` says: the program's name if it stands there too, else its path.
fn target(dir: &Path) -> Result<PathBuf, String> {
    let program = env::current_exe()
        .and_then(fs::canonicalize)
        .map_err(|error| format!("cannot tell where this program stands: {error}"))?;
    Ok(match program.file_name() {
        Some(name) if program.parent() == Some(dir) => PathBuf::from(name),
        _ => program,
    })
}

fn look(link: &Path, target: &Path) -> Found {
    let Ok(status) = fs::symlink_metadata(link) else {
        return Found::Nothing;
    };
    if status.is_dir() {
        return Found::Directory;
    }
    match fs::read_link(link) {
        Ok(there) if there == target => Found::Ours,
        // An older version may stand elsewhere, or be gone.
        Ok(there) if there.file_name() == target.file_name() => Found::Older(there),
        Ok(there) => Found::Foreign(format!("a link to {}", there.display())),
        Err(_) => Found::Foreign("a file".to_string()),
    }
}

/// Puts the link in its place in one step, so that the name is never missing.
fn place(dir: &Path, name: &str, target: &Path) -> io::Result<()> {
    let beside = dir.join(format!(".{name}.circ-{}", std::process::id()));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, &beside)?;
    fs::rename(&beside, dir.join(name)).inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

/// Says so if a shell would not find the links, or would find other programs first.
fn shadows(dir: &Path) -> Option<String> {
    let path = env::var_os("PATH")?;
    let mut before = Vec::new();
    for place in env::split_paths(&path) {
        if fs::canonicalize(&place).is_ok_and(|place| place == dir) {
            return (!before.is_empty()).then(|| {
                format!(
                    "note: on the PATH these come before {}: {}",
                    dir.display(),
                    before.join(", ")
                )
            });
        }
        for (name, _) in programs::names() {
            let other = place.join(name);
            if other.exists() {
                before.push(other.display().to_string());
            }
        }
    }
    Some(format!("note: {} is not on the PATH", dir.display()))
}
