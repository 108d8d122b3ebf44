//! `circ config check`: everything that is wrong with a configuration, and everything that is probably not meant.

mod finding;
mod machine;
mod meaning;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

pub(in crate::cli) use self::finding::Severity;

use self::finding::Finding;
use super::opened::{self, Opened};
use crate::cli::output;
use crate::config::{CONSOLE, Config};

/// The version of the shape that --json prints.
const SCHEMA: &str = "circ.check/1";

/// Arguments of `circ config check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration files, each by itself; - for standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Warnings are failures, too
    #[arg(long)]
    strict: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    /// Print nothing if nothing is wrong
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

/// What was found in one configuration.
struct Checked {
    shown: PathBuf,
    findings: Vec<Finding>,
    config: Option<Config>,
}

impl Checked {
    fn count(&self, severity: Severity) -> usize {
        let of_it = |finding: &&Finding| finding.severity == severity;
        self.findings.iter().filter(of_it).count()
    }

    fn fails(&self, strict: bool) -> bool {
        self.count(Severity::Error) > 0 || strict && self.count(Severity::Warning) > 0
    }
}

/// Runs `circ config check`.
pub fn run(args: &Args) -> ExitCode {
    let checked: Vec<Checked> = args.files.iter().map(|file| check(file)).collect();
    let failed = checked.iter().any(|one| one.fails(args.strict));
    if args.json {
        output::line(&as_json(&checked, args.strict).to_string());
    } else {
        for one in &checked {
            if !args.quiet || !one.findings.is_empty() {
                output::text(&as_text(one));
            }
        }
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// What is found in one configuration, and the configuration if it can be loaded.
pub(in crate::cli) fn look(file: &Path) -> (Vec<Finding>, Option<Config>) {
    let checked = check(file);
    (checked.findings, checked.config)
}

fn check(file: &Path) -> Checked {
    let opened = match Opened::open(file) {
        Ok(opened) => opened,
        Err(error) => {
            let shown = if opened::is_stdin(file) {
                PathBuf::from(opened::STDIN_SHOWN)
            } else {
                file.to_owned()
            };
            let findings = match error {
                opened::OpenError::Config(error) => {
                    error.problems.into_iter().map(Finding::from).collect()
                }
                other => vec![Finding::error(&shown, other.to_string())],
            };
            return Checked {
                shown,
                findings,
                config: None,
            };
        }
    };
    let mut findings = Vec::new();
    let config = match opened.load() {
        Ok(config) => {
            findings.extend(
                config
                    .warnings
                    .iter()
                    .map(|text| finding::located(&opened, text)),
            );
            findings.extend(meaning::of_config(&opened, &config));
            findings.extend(machine::of_config(&opened, &config));
            Some(config)
        }
        Err(error) => {
            findings.extend(error.problems.into_iter().map(Finding::from));
            findings.extend(
                opened
                    .effective
                    .warnings()
                    .iter()
                    .map(|text| finding::located(&opened, text)),
            );
            None
        }
    };
    findings.extend(meaning::of_text(&opened));
    finding::sort(&mut findings, &opened);
    Checked {
        shown: opened.shown,
        findings,
        config,
    }
}

fn as_text(checked: &Checked) -> String {
    let mut lines: Vec<String> = checked.findings.iter().map(ToString::to_string).collect();
    let shown = checked.shown.display();
    let counted = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    let (errors, warnings) = (
        checked.count(Severity::Error),
        checked.count(Severity::Warning),
    );
    lines.push(match (&checked.config, errors, warnings) {
        (Some(config), 0, warnings) => {
            let mut parts = vec![counted(config.watchers.len(), "watcher")];
            for (count, word) in [
                (
                    config.sockets.iter().filter(|s| s.name != CONSOLE).count(),
                    "socket",
                ),
                (config.plugins.len(), "plugin"),
            ] {
                if count > 0 {
                    parts.push(counted(count, word));
                }
            }
            if config.files.len() > 1 {
                parts.push(format!("{} files", config.files.len()));
            }
            let parts = parts.join(", ");
            match warnings {
                0 => format!("{shown}: ok ({parts})"),
                some => format!("{shown}: ok with {} ({parts})", counted(some, "warning")),
            }
        }
        (_, errors, 0) => format!("{shown}: {}", counted(errors, "error")),
        (_, errors, warnings) => format!(
            "{shown}: {}, {}",
            counted(errors, "error"),
            counted(warnings, "warning")
        ),
    });
    lines.join("\n")
}

fn as_json(checked: &[Checked], strict: bool) -> Value {
    let files: Vec<Value> = checked
        .iter()
        .map(|one| {
            json!({
                "file": one.shown,
                "ok": !one.fails(strict),
                "errors": one.count(Severity::Error),
                "warnings": one.count(Severity::Warning),
                "findings": one.findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "schema": SCHEMA,
        "ok": !checked.iter().any(|one| one.fails(strict)),
        "files": files,
    })
}
