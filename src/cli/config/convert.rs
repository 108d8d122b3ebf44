//! `circ config convert`: from one spelling of a configuration to another.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;

use super::opened;
use crate::cli::output;
use crate::cli::state::current_directory;
use crate::config::pattern;
use crate::config::supervisord::{self, Note, Supervisord, Surroundings};

/// Arguments of `circ config convert`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to convert; - for standard input
    file: PathBuf,
    /// What the file is; found out from its name and content if left out
    #[arg(long, value_enum, value_name = "FORMAT")]
    from: Option<From>,
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

/// Runs `circ config convert`.
pub fn run(args: &Args) -> ExitCode {
    match convert(args) {
        Ok((text, notes)) => {
            for note in notes {
                output::plain_error(&format!("note: {note}"));
            }
            output::bytes(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// The converted text, and what it does not say.
fn convert(args: &Args) -> Result<(String, Vec<String>), String> {
    let bytes = opened::read(&args.file)?;
    match args.from.unwrap_or_else(|| guess(&args.file, &bytes)) {
        From::Supervisord => {
            let (text, notes) = from_supervisord(args, &bytes)?;
            Ok((text, notes.iter().map(Note::to_string).collect()))
        }
        From::Ini | From::Toml => Err("only a supervisord.conf can be converted yet".to_owned()),
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
    let shown = opened::shown(&args.file);
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
