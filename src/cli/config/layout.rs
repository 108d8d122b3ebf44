//! `circ config fmt`: one layout for configuration files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::editing::Edited;
use super::{opened, writing};
use crate::cli::output;
use crate::cli::state::current_directory;
use crate::config::Document;
use crate::state::report::Report;

/// Arguments of `circ config fmt`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The files; with - standard input is formatted to standard output
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write nothing; say what would change (exit code 2 if anything would)
    #[arg(long)]
    check: bool,
    /// Show what changes
    #[arg(long)]
    diff: bool,
    /// Show the values of [env] sections in the diff, which are masked otherwise
    #[arg(long)]
    show_secrets: bool,
    /// Print a report as JSON, one line for each file
    #[arg(long)]
    json: bool,
}

/// Runs `circ config fmt`; the worst of the files decides the exit code.
pub fn run(args: &Args) -> ExitCode {
    let mut codes = Vec::new();
    for file in &args.files {
        if opened::is_stdin(file) && !args.check && !args.diff {
            codes.push(filter());
            continue;
        }
        let name = file.display().to_string();
        let report = match format(file, args) {
            Ok(report) => report,
            Err(error) => Report::failure(&name, args.check, error),
        };
        writing::print(&report, args.json);
        codes.push(report.exit_code(false, false));
    }
    let worst = if codes.contains(&1) {
        1
    } else {
        codes.into_iter().max().unwrap_or_default()
    };
    ExitCode::from(worst)
}

/// From standard input to standard output.
fn filter() -> u8 {
    let source = Path::new("-");
    let text = opened::read(source).and_then(|bytes| laid_out(source, &bytes));
    match text {
        Ok(text) => {
            output::bytes(&text);
            0
        }
        Err(error) => {
            output::error(&error);
            1
        }
    }
}

fn format(file: &Path, args: &Args) -> Result<Report, String> {
    let stdin = opened::is_stdin(file);
    // Held until the end: nobody else writes between our reading and our writing.
    let _lock = if args.check || stdin {
        None
    } else {
        Some(writing::lock(file)?)
    };
    let before = opened::read(file)?;
    let after = laid_out(file, &before)?;
    let shown = opened::shown(file, &before);
    let mut report = Report::new(&shown.display().to_string(), args.check || stdin);
    report.changed = after != before;
    let files = [Edited {
        path: current_directory().join(&shown),
        shown: shown.clone(),
        before,
        after,
    }];
    report.msg = match (report.changed, report.check) {
        (false, _) => format!("{}: as it should be", shown.display()),
        (true, true) => format!("{}: would be laid out anew", shown.display()),
        (true, false) => format!("{}: laid out anew", shown.display()),
    };
    if !report.changed {
        return Ok(report);
    }
    if args.diff {
        report.diff = writing::diff(&files, args.show_secrets);
    }
    if !report.check {
        writing::write(&files, false, &mut report);
    }
    Ok(report)
}

fn laid_out(file: &Path, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let name = opened::shown(file, bytes).display().to_string();
    let document = Document::parse(bytes, &name)
        .and_then(|document| document.formatted())
        .map_err(|error| error.to_string())?;
    Ok(document.to_bytes())
}
