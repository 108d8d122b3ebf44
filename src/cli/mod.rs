//! The command line: one file a command family: parse, call, print.
//!
//! This file owns the dispatch. The binary is multi-call: under a name of `programs`
//! (a symlink, or as the first word: `circ circusctl …`) it is that program; under any other name
//! it is `circ`.
//!
//! Results go to standard output, everything said about them to standard error.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgMatches, Args, Command, FromArgMatches};

pub mod agent;
pub mod ansible;
mod argparse;
mod chaussette;
pub mod circus_plugin;
pub mod circus_top;
pub mod circusctl;
mod circusd;
mod circusd_stats;
mod completions;
pub mod config;
mod connection;
mod control;
pub mod daemon;
mod discover;
mod doctor;
mod events;
mod interrupts;
mod links;
pub mod logs;
mod m2wsgi;
pub mod manual;
mod metrics;
pub mod output;
mod paint;
mod programs;
mod ssh;
pub mod state;
mod status;
mod top;
mod web;

/// Exit code of a usage error (`EX_USAGE`); clap's own 2 means drift in `circ state`.
pub const EXIT_USAGE: u8 = 64;
/// Exit code when the daemon could not be reached or did not answer in time.
pub const EXIT_UNREACHABLE: u8 = 1;
/// Exit code when the daemon answered with an error.
pub const EXIT_REFUSED: u8 = 3;

/// Runs the program that `args[0]` names and returns its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args: Vec<OsString> = args.into_iter().collect();
    if let Some(called) = ansible::called(&args) {
        return ansible::run_called(called);
    }
    if let Some(program) = args.get(1).and_then(|word| programs::called(word))
        && !program.by_link
    {
        args.remove(0);
        return (program.run)(args);
    }
    if let Some(program) = args.first().and_then(|word| programs::called(word)) {
        return (program.run)(args);
    }
    if let Some(name) = args.first().and_then(|word| programs::command(word)) {
        args.splice(..1, ["circ".into(), name.into()]);
    }
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    dispatch(&matches).unwrap_or_else(|error| usage(&error))
}

/// The whole command line of `circ`, as clap sees it.
fn command() -> Command {
    // The doc comment of a derived argument list would become the help of its command, so each
    // command says what it is after its arguments are added.
    let about = |command: Command, text: &'static str| command.about(text).long_about(None);
    let command = Command::new("circ")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(about(
            daemon::Args::augment_args(Command::new("daemon")),
            "Run the daemon on a circus.ini",
        ))
        .subcommand(about(
            chaussette::Args::augment_args(Command::new("chaussette")),
            "Serve a WSGI application, on a socket of the daemon or alone",
        ))
        .subcommand(about(
            m2wsgi::Args::augment_args(Command::new("m2wsgi")),
            "Serve a WSGI application behind a Mongrel2",
        ))
        .subcommand(about(
            state::Args::augment_args(Command::new("state")),
            "Bring a watcher to a desired state, in file and daemon",
        ))
        .subcommand(about(
            agent::Args::augment_args(Command::new("agent")),
            "Bring the machine to a desired state and hold it there",
        ))
        .subcommand(about(
            state::dsc::Args::augment_args(Command::new("dsc")),
            "The resource that Microsoft's DSC drives: get, test, set, delete and export watchers",
        ))
        .subcommand(about(
            ansible::Args::augment_args(Command::new("ansible")),
            "Do the task of an Ansible module, its arguments as JSON",
        ))
        .subcommand(about(
            config::Args::augment_args(Command::new("config")),
            "Look at a configuration file, edit and check it",
        ))
        .subcommand(about(
            links::Args::augment_args(Command::new("install-links")),
            "Make links under the names of the Circus programs",
        ))
        .subcommand(about(
            logs::Args::augment_args(Command::new("logs")),
            "Show what the workers say, and follow it",
        ))
        .subcommand(about(
            top::Args::augment_args(Command::new("top")),
            "Watch watchers and processes on the terminal, and act on them",
        ))
        .subcommand(about(
            doctor::Args::augment_args(Command::new("doctor")),
            "Tell why the daemon cannot be reached, what is not well, and what is dangerous",
        ))
        .subcommand(about(
            events::Args::augment_args(Command::new("events")),
            "Follow the events of a daemon, and run commands or listeners for them",
        ))
        .subcommand(about(
            discover::Args::augment_args(Command::new("discover")),
            "Find the daemons on this machine and in its network",
        ))
        .subcommand(about(
            web::Args::augment_args(Command::new("web")),
            "Serve the web console: pages, an HTTP API and metrics of daemons",
        ))
        .subcommand(about(
            metrics::Args::augment_args(Command::new("metrics")),
            "Print the numbers of a daemon for Prometheus",
        ))
        .subcommands(control::subcommands())
        .subcommand(completions::subcommand());
    let overview = overview(&command);
    about(
        connection::Args::augment_args(command),
        "Runs and watches processes and the sockets they share",
    )
    .help_template("{about}\n\n{usage-heading} {usage}{after-help}\n\nOptions:\n{options}")
    .after_help(overview)
}

/// The commands in groups, with their one line each: clap itself knows no groups of subcommands.
const GROUPS: &[(&str, &[&str])] = &[
    ("Run", &["daemon", "chaussette", "m2wsgi"]),
    ("Desired state", &["state", "agent", "dsc", "ansible"]),
    ("Configuration files", &["config"]),
    (
        "Look",
        &[
            "discover",
            "doctor",
            "top",
            "status",
            "list",
            "stats",
            "dstats",
            "events",
            "listen",
            "logs",
            "options",
            "get",
            "globaloptions",
            "identity",
            "listsockets",
            "logtail",
            "metrics",
            "web",
            "numprocesses",
            "numwatchers",
        ],
    ),
    (
        "Control",
        &[
            "start",
            "stop",
            "restart",
            "reload",
            "incr",
            "decr",
            "set",
            "signal",
            "kill",
            "add",
            "rm",
            "reloadconfig",
            "reopenlogs",
            "quit",
            "ipython",
        ],
    ),
    ("Shell", &["completions", "install-links"]),
];

fn overview(command: &Command) -> String {
    let mut text = String::new();
    for (heading, names) in GROUPS {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("{heading}:\n"));
        for name in *names {
            let about = command
                .find_subcommand(name)
                .and_then(Command::get_about)
                .map(ToString::to_string)
                .unwrap_or_default();
            text.push_str(&format!("  {name:<14} {about}\n"));
        }
    }
    text.push_str(
        "\nPrograms of Circus (by a link of that name, or as the first word after circ):\n",
    );
    for program in programs::PROGRAMS {
        let line = &program.line;
        text.push_str(&format!("  {:<14} {}\n", line.name, line.about));
    }
    text.push_str(
        "\n\
         The endpoint of a daemon is taken from --endpoint, the [circus] section of --config,\n\
         the variable CIRCUSCTL_ENDPOINT, or is tcp://127.0.0.1:5555, in this order.\n\
         `circ COMMAND --help` says more.\n\n\
         Exit codes: 0 done, 1 daemon not reached or no answer in time, 3 the daemon refused,\n\
         64 usage error.",
    );
    text
}

fn dispatch(matches: &ArgMatches) -> Result<ExitCode, clap::Error> {
    let before = connection::Args::from_arg_matches(matches)?;
    let Some((name, matches)) = matches.subcommand() else {
        // clap requires a subcommand, so this is not reached.
        return Ok(ExitCode::from(EXIT_USAGE));
    };
    if let (
        "daemon" | "state" | "agent" | "dsc" | "ansible" | "config" | "completions"
        | "install-links" | "discover" | "chaussette" | "m2wsgi" | "web",
        Some(option),
    ) = (name, before.first_given())
    {
        return Err(command().error(
            clap::error::ErrorKind::UnknownArgument,
            format!("{option} belongs after `circ {name}`, if it takes it"),
        ));
    }
    Ok(match name {
        "daemon" => daemon::run(daemon::Args::from_arg_matches(matches)?),
        "chaussette" => chaussette::run(&chaussette::Args::from_arg_matches(matches)?),
        "m2wsgi" => m2wsgi::run(&m2wsgi::Args::from_arg_matches(matches)?),
        "agent" => agent::run(agent::Args::from_arg_matches(matches)?),
        "ansible" => ansible::run(ansible::Args::from_arg_matches(matches)?),
        "state" => state::run(state::Args::from_arg_matches(matches)?),
        "dsc" => state::dsc::run(&state::dsc::Args::from_arg_matches(matches)?),
        "config" => config::run(config::Args::from_arg_matches(matches)?),
        "logs" => logs::run(logs::Args::from_arg_matches(matches)?, before),
        "doctor" => doctor::run(doctor::Args::from_arg_matches(matches)?, before),
        "events" => events::run(events::Args::from_arg_matches(matches)?, before),
        "top" => top::run(top::Args::from_arg_matches(matches)?, before),
        "install-links" => links::run(&links::Args::from_arg_matches(matches)?),
        "discover" => discover::run(&discover::Args::from_arg_matches(matches)?),
        "web" => web::run(&web::Args::from_arg_matches(matches)?),
        "metrics" => metrics::run(metrics::Args::from_arg_matches(matches)?, before),
        "completions" => completions::run(matches, command()),
        _ => {
            let connection = connection::Args::from_arg_matches(matches)?.or(before);
            control::run(name, matches, &connection)
        }
    })
}

/// Prints what clap has to say: help and version are answers (0), all else a usage error (64).
fn usage(error: &clap::Error) -> ExitCode {
    // A closed stdout or stderr leaves nobody to tell.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(EXIT_USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn the_overview_names_every_command_once() {
        let command = command();
        let mut listed: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, names)| names.iter().copied())
            .collect();
        let mut defined: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        listed.sort_unstable();
        defined.sort_unstable();
        assert_eq!(listed, defined);
    }
}
