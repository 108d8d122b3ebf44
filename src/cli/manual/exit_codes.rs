//! The exit codes, from the places in the code that decide them.

use super::page::{Block, heading, terms, text};
use crate::cli::chaussette::application::{EXIT_FAILED, EXIT_NO_APPLICATION};
use crate::cli::programs;
use crate::cli::{EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE};
use crate::state::report::Report;

/// The reference page.
pub fn blocks() -> Vec<Block> {
    let mut blocks = vec![text(
        "Results go to standard output, everything said about them to standard error.",
    )];
    for (title, part) in [
        ("Commands that talk to a daemon", of_control()),
        ("`circ doctor`", of_doctor()),
        ("`circ daemon`", of_daemon()),
        ("`circ state`", of_state()),
        ("`circ agent`", of_agent()),
        ("`circ config`", of_config()),
        ("`circ dsc`", of_dsc()),
        ("`circ chaussette` and `circ m2wsgi`", of_wsgi()),
    ] {
        blocks.push(heading(title));
        // The heading of a man page says nothing more here.
        blocks.extend(part.into_iter().skip(1));
    }
    blocks.push(heading("The names of Circus"));
    blocks.push(text(
        "Under these names the codes are those of Circus 0.19, so that scripts go on working.",
    ));
    blocks.push(Block::Table(
        &["Program", "Exit code", "When"],
        programs::PROGRAMS
            .iter()
            .flat_map(|program| {
                let name = format!("`{}`", program.line.name);
                let rows = program.codes.iter();
                rows.map(move |(code, when)| {
                    vec![name.clone(), code.to_string(), (*when).to_owned()]
                })
            })
            .collect(),
    ));
    blocks
}

/// Of the commands that send a message to a daemon.
pub fn of_control() -> Vec<Block> {
    vec![
        heading("Exit status"),
        terms([
            ("`0`", "Done."),
            (
                format!("`{EXIT_UNREACHABLE}`").as_str(),
                "The daemon could not be reached or did not answer in time.",
            ),
            (
                format!("`{EXIT_REFUSED}`").as_str(),
                "The daemon answered with an error; with `--json` the reply is still printed.",
            ),
            usage(&format!("`{EXIT_USAGE}`")),
        ]),
    ]
}

/// Of the doctor.
pub fn of_doctor() -> Vec<Block> {
    vec![
        heading("Exit status"),
        terms([
            (
                "`0`",
                "Nothing is wrong, or only what warnings and notes say.",
            ),
            (
                "`1`",
                "There are errors, one of which may be that the daemon is not reached; with `--strict`, or warnings.",
            ),
            usage(&format!("`{EXIT_USAGE}`")),
        ]),
    ]
}

/// Of the daemon.
pub fn of_daemon() -> Vec<Block> {
    vec![
        heading("Exit status"),
        terms([
            (
                "`0`",
                "The daemon ended as it was told; with `--daemon`, it is up and runs in the background.",
            ),
            (
                "`1`",
                "The daemon could not start: standard error says what was tried, and why it failed.",
            ),
            usage(&format!("`{EXIT_USAGE}`")),
        ]),
    ]
}

/// Of `circ state`, asked from the report itself.
pub fn of_state() -> Vec<Block> {
    let code = |check, changed, failed, detailed| {
        let mut report = Report::new("", check);
        report.changed = changed;
        report.failed = failed;
        report.exit_code(detailed, false).to_string()
    };
    let row = |what: &str, changed, failed| {
        vec![
            what.to_owned(),
            code(false, changed, failed, false),
            code(true, changed, failed, false),
            code(false, changed, failed, true),
        ]
    };
    let mut rows = vec![
        row("Nothing had to change", false, false),
        row("Changed (with `--check`: would change)", true, false),
        row("Failed, nothing changed", false, true),
        row("Failed after changing something", true, true),
    ];
    let usage = EXIT_USAGE.to_string();
    rows.push(vec![
        "The command line is not understood".into(),
        usage.clone(),
        usage.clone(),
        usage,
    ]);
    vec![
        heading("Exit status"),
        Block::Table(
            &[
                "Outcome",
                "Applied",
                "With `--check`",
                "With `--detailed-exitcode`",
            ],
            rows,
        ),
        text(
            "`--check-exit-zero` makes `--check` end with 0 also when something would change; the \
             report says so in `changed`.",
        ),
    ]
}

/// Of the commands that look at a configuration file or edit it.
pub fn of_config() -> Vec<Block> {
    vec![
        heading("Exit status"),
        terms([
            ("`0`", "Done, or found; nothing is wrong."),
            (
                "`1`",
                "It could not be done, what was asked for is not there, or something is wrong with the file.",
            ),
            (
                "`2`",
                "With `--check`: something would change. With `--detailed-exitcode`: something was changed.",
            ),
            usage(&format!("`{EXIT_USAGE}`")),
        ]),
    ]
}

/// Of what Microsoft's DSC calls, which takes any code but 0 for a failure.
pub fn of_dsc() -> Vec<Block> {
    vec![
        heading("Exit status"),
        terms([
            (
                "`0`",
                "Done; whether it is as desired stands in what is printed.",
            ),
            (
                "`1`",
                "The input is wrong, or the watcher could not be looked at or brought to the desired state.",
            ),
            usage(&format!("`{EXIT_USAGE}`")),
        ]),
    ]
}

/// Of what serves an application.
pub fn of_wsgi() -> Vec<Block> {
    vec![
        heading("Exit status"),
        terms([
            (
                "`0`",
                "A signal ended it, and the requests under way were answered.",
            ),
            (
                format!("`{EXIT_FAILED}`").as_str(),
                "It could not serve: a busy address, a descriptor that does not listen, no Python.",
            ),
            (
                format!("`{EXIT_NO_APPLICATION}`").as_str(),
                "The application cannot be imported; standard error has Python's traceback.",
            ),
            usage(&format!("`{EXIT_USAGE}`")),
        ]),
    ]
}

/// Of the agent and the commands that direct it.
pub fn of_agent() -> Vec<Block> {
    vec![
        heading("Exit status"),
        terms([
            (
                "`0`",
                "The agent ended as it was told; a command to it was obeyed, and the run it asked for did not fail.",
            ),
            (
                format!("`{EXIT_UNREACHABLE}`").as_str(),
                "The agent could not start (there is another one on the daemon), or its last run did not end in time; no \
                 agent could be reached, or the run that was asked for failed.",
            ),
            (
                format!("`{EXIT_REFUSED}`").as_str(),
                "The agent refused a command: it is paused, in a maintenance window, or of another user.",
            ),
            usage(&format!("`{EXIT_USAGE}`")),
        ]),
        text(
            "With `--once` the exit codes are those of `circ state`, with `--mode audit` in place of `--check`.",
        ),
    ]
}

fn usage(code: &str) -> (&str, &str) {
    (code, "The command line is not understood.")
}
