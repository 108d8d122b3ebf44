//! `circ state schema`: JSON Schemas for editors and for other programs.

use std::io::Write;
use std::process::ExitCode;

use clap::ValueEnum;

use crate::state::schema;

/// Arguments of `circ state schema`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is described
    #[arg(long, value_enum, default_value_t = Resource::State)]
    resource: Resource,
}

/// What a schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Resource {
    /// A desired-state document, as circ state apply reads it
    State,
    /// One watcher of such a document
    Watcher,
    /// The report that every verb of circ state prints with --json
    Report,
}

/// Prints the schema; the result is the exit code.
pub fn run(args: &Args) -> ExitCode {
    let schema = match args.resource {
        Resource::State => schema::state(),
        Resource::Watcher => schema::watcher(),
        Resource::Report => schema::report(),
    };
    let mut stdout = std::io::stdout().lock();
    // A reader that went away has seen enough.
    let _ = writeln!(stdout, "{schema:#}");
    ExitCode::SUCCESS
}
