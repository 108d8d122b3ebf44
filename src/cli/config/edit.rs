//! `circ config set` and `circ config unset`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::editing::{self, Leave, Outcome, Wish};
use super::keys;
use super::opened::{self, Opened};
use super::writing;
use crate::cli::EXIT_USAGE;
use crate::cli::output;
use crate::state::report::{ActionLine, ActionStatus, Report, Target};
use crate::state::secrets::MASK;

/// Arguments of `circ config set`.
#[derive(Debug, clap::Args)]
pub struct SetArgs {
    /// The configuration file
    file: PathBuf,
    /// The section, such as circus or watcher:web; watcher.web means the same, and web where nothing else is called so
    section: String,
    /// The key
    key: String,
    /// Its value, as the file is to say it
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Further keys and values of the section
    #[arg(value_name = "KEY VALUE", allow_negative_numbers = true)]
    more: Vec<String>,
    /// Add the section if it does not exist
    #[arg(long)]
    create: bool,
    /// Write keys and sections that nobody reads, too
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    run: Run,
}

/// Arguments of `circ config unset`.
#[derive(Debug, clap::Args)]
pub struct UnsetArgs {
    /// The configuration file
    file: PathBuf,
    /// The section, such as circus or watcher:web; watcher.web means the same, and web where nothing else is called so
    section: String,
    /// The keys; the whole section if left out
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    run: Run,
}

/// What both take.
#[derive(Debug, Default, clap::Args)]
pub struct Run {
    /// Write nothing; say what would change (exit code 2 if anything would)
    #[arg(long)]
    pub check: bool,
    /// Show what changes in the file
    #[arg(long)]
    pub diff: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Keep the old version beside the new one, as FILE.2026-01-31T12-00-00~
    #[arg(long)]
    pub backup: bool,
    /// Show the values of [env] sections, which are masked otherwise
    #[arg(long)]
    pub show_secrets: bool,
    /// Exit with 0 if nothing changed, 2 if something did
    #[arg(long)]
    pub detailed_exitcode: bool,
}

/// Runs `circ config set`.
pub fn set(args: SetArgs) -> ExitCode {
    if args.more.len() % 2 == 1 {
        output::error("a key is without a value: keys and values come in pairs");
        return ExitCode::from(EXIT_USAGE);
    }
    let mut pairs = vec![(args.key, args.value)];
    pairs.extend(
        args.more
            .chunks_exact(2)
            .map(|pair| (pair[0].clone(), pair[1].clone())),
    );
    let leave = Leave {
        create: args.create,
        force: args.force,
    };
    run(
        &args.file,
        &args.section,
        &Wish::Set(pairs),
        leave,
        &args.run,
    )
}

/// Runs `circ config unset`.
pub fn unset(args: UnsetArgs) -> ExitCode {
    let wish = if args.keys.is_empty() {
        Wish::Remove
    } else {
        Wish::Unset(args.keys)
    };
    run(
        &args.file,
        &args.section,
        &wish,
        Leave::default(),
        &args.run,
    )
}

fn run(file: &Path, section: &str, wish: &Wish, leave: Leave, run: &Run) -> ExitCode {
    let report = report(file, section, wish, leave, run);
    writing::print(&report, run.json);
    ExitCode::from(report.exit_code(run.detailed_exitcode, false))
}

/// Does an edit. Whatever goes wrong is in the report.
pub fn report(file: &Path, section: &str, wish: &Wish, leave: Leave, run: &Run) -> Report {
    let report = match work(file, section, wish, leave, run) {
        Ok(report) => report,
        Err(error) => Report::failure(section, run.check, error),
    };
    Report {
        resource: "config",
        ..report
    }
}

fn work(
    file: &Path,
    section: &str,
    wish: &Wish,
    leave: Leave,
    run: &Run,
) -> Result<Report, String> {
    if opened::is_stdin(file) {
        return Err("standard input cannot be edited; `circ config render - --set …` prints what it would be".into());
    }
    // Held until the end: nobody else writes between our reading and our writing.
    let mut locks = if run.check {
        None
    } else {
        Some(writing::lock(file)?)
    };
    let opened = Opened::open(file)?;
    if let Some(locks) = &mut locks {
        writing::lock_too(locks, opened.files.iter().map(|file| file.path.as_path()))?;
    }
    let outcome = editing::edit(&opened, section, wish, leave)?;
    let mut report = describe(&opened, &outcome, run);
    if run.check || outcome.files.is_empty() {
        return Ok(report);
    }
    writing::write(&outcome.files, run.backup, &mut report);
    if !report.failed {
        writing::leave_no_backup_that_is_read(&opened, &outcome.files, &mut report);
    }
    if !report.failed {
        for action in &mut report.actions {
            action.status = ActionStatus::Done;
        }
    }
    Ok(report)
}

/// What a person and a program are told.
fn describe(opened: &Opened, outcome: &Outcome, run: &Run) -> Report {
    let section = &outcome.section;
    let secret = keys::secret(section) && !run.show_secrets;
    let shown = |value: &Option<String>| match value {
        None => Value::Null,
        Some(_) if secret => Value::from(MASK),
        Some(value) => Value::from(value.as_str()),
    };
    let mut report = Report::new(section, run.check);
    report.changed = !outcome.files.is_empty();
    report.warnings = outcome.warnings.clone();
    for change in &outcome.changes {
        report.changes.insert(
            change.key.clone(),
            json!({"old": shown(&change.old), "new": shown(&change.new)}),
        );
    }
    report.before = side(opened, section, secret);
    report.after = side(&outcome.after, section, secret);
    report.msg = message(outcome, &report, secret);
    report.actions = outcome
        .changes
        .iter()
        .map(|change| ActionLine {
            target: Target::File,
            op: if change.new.is_some() { "set" } else { "unset" }.to_owned(),
            key: Some(change.key.clone()),
            status: ActionStatus::Planned,
            name: None,
        })
        .collect();
    if run.diff {
        report.diff = writing::diff(&outcome.files, run.show_secrets);
    }
    report
}

/// The section as the file has it, for the report.
fn side(opened: &Opened, section: &str, secret: bool) -> Map<String, Value> {
    let items: BTreeMap<String, String> = opened
        .effective
        .items(section)
        .into_iter()
        .map(|(key, stated)| {
            let value = if secret {
                MASK.to_owned()
            } else {
                stated.value
            };
            (key, value)
        })
        .collect();
    Map::from_iter([("file".to_owned(), json!(items))])
}

fn message(outcome: &Outcome, report: &Report, secret: bool) -> String {
    let section = &outcome.section;
    if !report.changed {
        return format!("{section}: as desired");
    }
    if outcome.removed {
        let removed = if report.check {
            "would remove the section"
        } else {
            "removed the section"
        };
        return format!("{section}: {removed}");
    }
    let parts: Vec<String> = outcome
        .changes
        .iter()
        .map(|change| {
            let text = |value: &Option<String>| match value {
                None => "unset".to_owned(),
                Some(_) if secret => MASK.to_owned(),
                Some(value) => value.replace('\n', "\\n"),
            };
            format!(
                "{} {} -> {}",
                change.key,
                text(&change.old),
                text(&change.new)
            )
        })
        .collect();
    let what = if parts.is_empty() {
        "lines that are not read".to_owned()
    } else {
        parts.join(", ")
    };
    let verb = match (outcome.created, report.check) {
        (true, true) => "would add the section: ",
        (true, false) => "added the section: ",
        (false, true) => "would change: ",
        (false, false) => "",
    };
    format!("{section}: {verb}{what}")
}
