//! The manual, made from what the program itself is made from: the clap commands, the table of
//! watcher options, the tables of keys of circus.ini and the table of wire commands.
//!
//! Nothing of this runs in the program: `tests/manual.rs` calls [`pages`] and holds the committed
//! files under `man/` and `docs/reference/` to it.

mod commands;
mod exit_codes;
mod ini;
mod options;
mod page;
mod programs;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::Roff;

use page::{Block, code, heading, text};

pub use commands::{REPLIES, ReplyForm, STATISTICS};

/// The name of the manual in the heading of its man pages.
const MANUAL: &str = "circ manual";
/// The program and version in the foot of its man pages.
const SOURCE: &str = concat!("circ ", env!("CARGO_PKG_VERSION"));
/// The date of a page. A page that is made anew by every build has none; the quotes keep its place.
const NO_DATE: &str = "\"\"";
/// What circ is, for the first page.
const ABOUT: &str = "One program for processes that have to stay up. The daemon runs the watchers of a \
                     circus.ini: each is a command and a number of workers, which are started, \
                     watched and replaced, and may share sockets. The other commands ask and direct \
                     a running daemon, of circ or of Circus 0.19. The command circ state brings file \
                     and daemon to a desired state.";

/// Every generated file: its path from the root of the project, and its text.
///
/// # Errors
/// A man page could not be written to memory.
pub fn pages() -> std::io::Result<Vec<(String, String)>> {
    let mut circ = super::command()
        .disable_help_subcommand(true)
        .name("circ")
        .display_name("circ");
    circ.build();
    let mut files = vec![
        ("man/circ.1".to_owned(), overview(&circ)?),
        ("man/circus.ini.5".to_owned(), ini::man_page()),
        (
            "docs/reference/options.md".to_owned(),
            page::markdown("Options of circus.ini", &options::blocks()),
        ),
        (
            "docs/reference/commands.md".to_owned(),
            page::markdown("Commands of the control socket", &commands::blocks()),
        ),
        (
            "docs/reference/exit-codes.md".to_owned(),
            page::markdown("Exit codes", &exit_codes::blocks()),
        ),
    ];
    for command in circ.get_subcommands() {
        add_command(&mut files, command)?;
    }
    for program in super::programs::PROGRAMS {
        let path = format!("man/{}.1", program.line.name);
        files.push((path, programs::man_page(program)));
    }
    files.sort();
    Ok(files)
}

/// The pages of a command and of the commands below it.
fn add_command(files: &mut Vec<(String, String)>, command: &Command) -> std::io::Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    files.push((format!("man/{name}.1"), command_page(command)?));
    for below in command.get_subcommands() {
        add_command(files, below)?;
    }
    Ok(())
}

/// `circ(1)`: what there is, in the groups of the help.
fn overview(circ: &Command) -> std::io::Result<String> {
    let mut blocks = Vec::new();
    for (group, names) in super::GROUPS {
        blocks.push(heading(format!("{group} commands")));
        blocks.push(Block::Terms(
            names
                .iter()
                .filter_map(|name| circ.find_subcommand(name))
                .map(|command| {
                    (
                        format!("`circ {}`", command.get_name()),
                        about(command) + ".",
                    )
                })
                .collect(),
        ));
    }
    blocks.extend([
        heading("Endpoint"),
        text(
            "The endpoint of a daemon is taken from `--endpoint`, the `[circus]` section of the file \
             given with `--config`, the variable `CIRCUSCTL_ENDPOINT`, or is `tcp://127.0.0.1:5555`, \
             in this order.",
        ),
        heading("Other names"),
        text(
            "Called by the name of a program of Circus (a symbolic link, or the first word after \
             `circ`), this is that program: it takes its options and prints its texts.",
        ),
        Block::Terms(
            super::programs::names()
                .map(|(name, about)| (format!("`{name}`"), format!("{about}.")))
                .collect(),
        ),
    ]);
    blocks.extend(exit_codes::of_control());
    blocks.extend([
        heading("Files"),
        text("The configuration of the daemon is described in `circus.ini`(5)."),
        heading("See also"),
        text("`circ-daemon`(1), `circ-state-ensure`(1), `circ-status`(1), `circus.ini`(5)"),
    ]);
    man_page(&circ.clone().long_about(ABOUT), &blocks)
}

fn command_page(command: &Command) -> std::io::Result<String> {
    let mut blocks = Vec::new();
    if command.has_subcommands() {
        blocks.push(heading("Commands"));
        blocks.push(Block::Terms(
            command
                .get_subcommands()
                .map(|below| {
                    let name = below.get_bin_name().unwrap_or_else(|| below.get_name());
                    (format!("`{name}`"), about(below) + ".")
                })
                .collect(),
        ));
    }
    let after = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let (notes, examples) = after.split_once("Examples:\n").unwrap_or((&after, ""));
    if !notes.trim().is_empty() {
        blocks.push(heading("Notes"));
        let notes = notes.trim().split("\n\n");
        blocks.extend(notes.map(|note| text(note.replace('\n', " "))));
    }
    if !examples.is_empty() {
        blocks.push(heading("Examples"));
        let lines: Vec<&str> = examples.lines().map(str::trim_start).collect();
        blocks.push(code(lines.join("\n")));
    }
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    let wire = crate::wire::command::find(command.get_name())
        .is_some_and(|spec| name == format!("circ-{}", spec.name));
    if wire || name == "circ-events" {
        blocks.extend(exit_codes::of_control());
    } else if name == "circ-doctor" {
        blocks.extend(exit_codes::of_doctor());
    } else if name.starts_with("circ-state") {
        blocks.extend(exit_codes::of_state());
    } else if name.starts_with("circ-config") {
        blocks.extend(exit_codes::of_config());
    } else if name.starts_with("circ-dsc") {
        blocks.extend(exit_codes::of_dsc());
    } else if name.starts_with("circ-agent") {
        blocks.extend(exit_codes::of_agent());
    } else if name == "circ-chaussette" || name == "circ-m2wsgi" {
        blocks.extend(exit_codes::of_wsgi());
    } else if name == "circ-daemon" {
        blocks.extend(ini::signals());
        blocks.extend(exit_codes::of_daemon());
    }
    blocks.push(heading("See also"));
    blocks.push(text("`circ`(1), `circus.ini`(5)"));
    man_page(command, &blocks)
}

/// What clap knows of a command, and the blocks after it.
fn man_page(command: &Command, blocks: &[Block]) -> std::io::Result<String> {
    // Texts after the help are laid out for a terminal; the blocks say the same in a page's form.
    let man = Man::new(command.clone().after_help("").after_long_help(""))
        .date(NO_DATE)
        .source(SOURCE)
        .manual(MANUAL);
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    let mut rest = Roff::new();
    page::roff(&mut rest, blocks);
    rest.to_writer(&mut out)?;
    let text = String::from_utf8(out).map_err(std::io::Error::other)?;
    Ok(tidied(&text))
}

/// One preamble instead of one for each part, and no white space at the ends of lines.
fn tidied(text: &str) -> String {
    let preamble = Roff::new().render();
    let body = text.replace(&preamble, "");
    let mut out = String::from(
        ".\\\" Made from the tables in the source; UPDATE=1 cargo test --test manual writes it anew.\n",
    );
    out.push_str(&preamble);
    for line in body.lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn about(command: &Command) -> String {
    command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default()
}
