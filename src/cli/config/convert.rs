//! `circ config convert`: from one spelling of a configuration to another.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use nix::sys::stat::{Mode, umask};

use super::{opened, writing};
use crate::cli::output;
use crate::cli::state::current_directory;
use crate::config::convert::{self, Converted};
use crate::config::supervisord::{self, Note, Supervisord, Surroundings};
use crate::config::{ConfigError, Format, pattern};
use crate::state::store;

/// Arguments of `circ config convert`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to convert; - for standard input
    file: PathBuf,
    /// What the file is; found out from its name and content if left out
    #[arg(long, value_enum, value_name = "FORMAT")]
    from: Option<From>,
    /// What to write; if left out, the ending of OUT decides, else a circus.ini becomes a circus.toml, anything else a
    /// circus.ini
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: Option<To>,
    /// Write to this file; an existing one with another content is left alone
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Replace OUT if it exists
    #[arg(long, requires = "output")]
    force: bool,
    /// From a supervisord.conf: one watcher for all processes of a program, with $(circus.wid) for process_num
    #[arg(long)]
    by_wid: bool,
}

/// What can be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// A circus.ini
    Ini,
    /// A circus.toml
    Toml,
    /// A supervisord.conf
    Supervisord,
}

/// What can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum To {
    /// A circus.ini
    Ini,
    /// A circus.toml
    Toml,
}

/// Runs `circ config convert`.
pub fn run(args: &Args) -> ExitCode {
    let converted = convert(args).and_then(|(text, notes)| {
        match &args.output {
            Some(path) => store(&args.file, path, text.as_bytes(), args.force)?,
            None => {
                output::bytes(text.as_bytes());
            }
        }
        Ok(notes)
    });
    match converted {
        Ok(notes) => {
            for note in notes {
                output::plain_error(&format!("note: {note}"));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Writes the result to a file of its own, which nobody may read who may not read the source; nothing is written if it
/// holds the result already.
fn store(source: &Path, path: &Path, text: &[u8], force: bool) -> Result<(), String> {
    let _lock = writing::lock(path)?;
    let before = match std::fs::read(path) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    if before.as_deref() == Some(text) {
        return Ok(());
    }
    if before.is_some() && !force {
        return Err(format!(
            "{} exists and holds something else; give --force to replace it",
            path.display()
        ));
    }
    let change = store::Change {
        path,
        before: before.as_deref(),
        after: Some(text),
    };
    // There may be passwords in it. A file that exists keeps its own mode.
    let mode = std::fs::metadata(source).map_or(0o600, |metadata| metadata.permissions().mode());
    let usual = umask(Mode::empty());
    umask(usual | Mode::from_bits_truncate(!mode & 0o777));
    let stored = store::write(&[change], &store::Options::default());
    umask(usual);
    for file in stored.map_err(|error| error.to_string())? {
        for warning in file.warnings {
            output::plain_error(&format!("warning: {warning}"));
        }
    }
    Ok(())
}

/// The converted text, and what it does not say.
fn convert(args: &Args) -> Result<(String, Vec<String>), String> {
    let bytes = opened::read(&args.file)?;
    let shown = opened::shown(&args.file, &bytes).display().to_string();
    let from = args.from.unwrap_or_else(|| guess(&args.file, &bytes));
    let to = args
        .to
        .unwrap_or_else(|| target(from, args.output.as_deref()));
    let text = |error: ConfigError| error.to_string();
    let of = |converted: Converted| {
        let notes = converted.notes.into_iter();
        let placed = |note: String| match note
            .strip_prefix("line ")
            .and_then(|note| note.split_once(": "))
        {
            Some((line, what)) => format!("{shown}:{line}: {what}"),
            None => format!("{shown}: {note}"),
        };
        let notes = notes.map(placed).collect();
        (converted.text, notes)
    };
    match (from, to) {
        (From::Ini, To::Toml) => Ok(of(convert::ini_to_toml(&bytes, &shown).map_err(text)?)),
        (From::Toml, To::Ini) => Ok(of(convert::toml_to_ini(&bytes, &shown).map_err(text)?)),
        (From::Supervisord, to) => {
            let (ini, notes) = from_supervisord(args, &bytes)?;
            let notes = notes.iter().map(Note::to_string).collect();
            match to {
                To::Ini => Ok((ini, notes)),
                To::Toml => {
                    let toml = convert::ini_to_toml(ini.as_bytes(), &shown).map_err(text)?;
                    Ok((toml.text, notes))
                }
            }
        }
        (From::Ini, To::Ini) | (From::Toml, To::Toml) => Err(format!(
            "{shown} is spelled so already; `circ config fmt` lays a file out anew"
        )),
    }
}

/// What to write when nobody says so.
fn target(from: From, output: Option<&Path>) -> To {
    match (output.map(Format::of), from) {
        (Some(Format::Toml), _) | (None, From::Ini) => To::Toml,
        _ => To::Ini,
    }
}

/// What a file seems to be.
fn guess(file: &Path, bytes: &[u8]) -> From {
    if file
        .extension()
        .is_some_and(|extension| extension == "toml")
    {
        return From::Toml;
    }
    let text = String::from_utf8_lossy(bytes);
    let supervisord = text.lines().any(|line| {
        [
            "[supervisord]",
            "[program:",
            "[fcgi-program:",
            "[supervisorctl]",
        ]
        .iter()
        .any(|header| line.starts_with(header))
    });
    if supervisord {
        From::Supervisord
    } else {
        From::Ini
    }
}

fn from_supervisord(args: &Args, bytes: &[u8]) -> Result<(String, Vec<Note>), String> {
    let cwd = current_directory();
    let shown = opened::shown(&args.file, bytes);
    let directory = |file: &Path| {
        let path = cwd.join(file);
        path.parent().unwrap_or(Path::new("/")).to_owned()
    };
    let mut source = Supervisord::default();
    source
        .read(bytes, &shown, &directory(&args.file))
        .map_err(|error| error.to_string())?;
    let mut notes = Vec::new();
    let includes = source
        .includes()
        .map(|(patterns, setting)| (patterns, setting.clone()));
    if let Some((patterns, setting)) = includes {
        for wanted in patterns {
            let base = args.file.parent().unwrap_or(Path::new(""));
            let found = pattern::glob(&base.join(&wanted), &cwd);
            if found.is_empty() {
                notes.push(Note {
                    file: setting.file.clone(),
                    line: setting.line,
                    section: "include".to_owned(),
                    key: Some("files".to_owned()),
                    what: format!("{wanted} leads to no file"),
                });
            }
            for file in found {
                let bytes = opened::read(&file)?;
                source
                    .read(&bytes, &file, &directory(&file))
                    .map_err(|error| error.to_string())?;
            }
        }
    }
    let host = nix::unistd::gethostname().unwrap_or_default();
    let around = Surroundings {
        host: &host.to_string_lossy(),
        by_wid: args.by_wid,
    };
    let mut converted = supervisord::convert(&source, around).map_err(|error| error.to_string())?;
    notes.append(&mut converted.notes);
    converted.notes = notes.clone();
    Ok((converted.text(&shown), notes))
}
