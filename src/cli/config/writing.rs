//! What the verbs that change a file share: the lock, the write, the report.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::editing::Edited;
use super::opened::Opened;
use crate::cli::output;
use crate::cli::state::Format;
use crate::state::report::{Diff, Report};
use crate::state::{secrets, store};

/// How long to wait for another run that edits the same file.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Keeps others from writing this file, and all in its directory, as long as the lock is held. What killed runs left
/// there is removed.
///
/// # Errors
/// Another run holds it for too long, or the directory cannot be locked.
pub fn lock(file: &Path) -> Result<store::Locks, String> {
    let mut locks = store::Locks::default();
    lock_too(&mut locks, [file])?;
    Ok(locks)
}

/// As [`lock`] for further files, which may lie in other directories.
///
/// # Errors
/// As there.
pub fn lock_too<'a>(
    locks: &mut store::Locks,
    files: impl IntoIterator<Item = &'a Path>,
) -> Result<(), String> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    for file in files {
        locks
            .file(file, deadline)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Writes all files or none of them, and says so in the report.
pub fn write(files: &[Edited], backup: bool, report: &mut Report) {
    let changes: Vec<store::Change> = files
        .iter()
        .map(|file| store::Change {
            path: &file.path,
            before: Some(&file.before),
            after: Some(&file.after),
        })
        .collect();
    match store::write(&changes, &store::Options { backup }) {
        Ok(stored) => {
            for file in stored {
                report.warnings.extend(file.warnings);
                let backup = file.backup.map(|path| path.display().to_string());
                report.backups.extend(backup);
            }
        }
        Err(error) => {
            report.changed = false;
            report.fail(error.to_string());
        }
    }
}

/// An `include` pattern such as `conf.d/*` would make a backup part of the configuration: then all is put back.
pub fn leave_no_backup_that_is_read(opened: &Opened, files: &[Edited], report: &mut Report) {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    // What cannot be read any more could be read without them.
    let Some(backup) = report.backups.iter().find(|backup| {
        Opened::open(&opened.shown).map_or(true, |now| {
            let backup = real(Path::new(backup));
            now.files.iter().any(|file| real(&file.path) == backup)
        })
    }) else {
        return;
    };
    let mut reason = format!(
        "the backup {backup} would be read as part of the configuration, because an include pattern matches it: give no \
         --backup, or include *.ini only"
    );
    for file in files {
        let options = store::Options::default();
        if let Err(error) = store::replace(&file.path, &file.after, &file.before, &options) {
            report.fail(format!("{reason}; could not be undone: {error}"));
            return;
        }
    }
    for backup in std::mem::take(&mut report.backups) {
        // A copy of what is there again.
        if let Err(error) = std::fs::remove_file(&backup) {
            reason.push_str(&format!("; {backup} is left: {error}"));
        }
    }
    report.changed = false;
    report.fail(reason);
}

/// What changes in the files, for the report; the values of environment variables are masked unless `secrets` are to be
/// shown.
pub fn diff(files: &[Edited], show_secrets: bool) -> Vec<Diff> {
    files
        .iter()
        .map(|file| {
            let (before, after) = if show_secrets {
                (store::text(&file.before), store::text(&file.after))
            } else {
                secrets::masked_texts(&file.shown.to_string_lossy(), &file.before, &file.after)
            };
            Diff::File {
                path: file.path.display().to_string(),
                before,
                after,
            }
        })
        .collect()
}

/// Prints a report.
pub fn print(report: &Report, json: bool) {
    if json {
        let mut json = report.to_json();
        json["resource"] = Value::from("config");
        output::line(&json.to_string());
        return;
    }
    let mut stdout = std::io::stdout().lock();
    let coloured = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = output::state::render(report, Format::Text, coloured);
    // A reader that went away cannot be told; the exit code still says how it went.
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}
