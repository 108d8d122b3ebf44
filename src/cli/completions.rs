//! `circ completions SHELL`: prints the completion script of a shell.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::{Shell, generate};

use crate::cli::output;

/// The subcommand as clap sees it.
pub fn subcommand() -> Command {
    Command::new("completions")
        .about("Print the completion script for a shell")
        .long_about(
            "Print the completion script for a shell.\n\n\
             For bash: circ completions bash > /etc/bash_completion.d/circ",
        )
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(value_parser!(Shell)),
        )
}

/// Prints the script for the whole command line `circ`.
pub fn run(matches: &ArgMatches, mut circ: Command) -> ExitCode {
    if let Some(shell) = matches.get_one::<Shell>("shell") {
        let mut script = Vec::new();
        generate(*shell, &mut circ, "circ", &mut script);
        output::bytes(&script);
    }
    ExitCode::SUCCESS
}
