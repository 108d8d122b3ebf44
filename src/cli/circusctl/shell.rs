//! circusctl without a command: a prompt, and a command a line.
//!
//! Lines from a pipe or file are taken as the real one takes them, to the exit code; there a wrong command line ends
//! the shell. On a terminal it stays, lines can be edited and completed, and ctrl-C ends the command that runs and
//! not the shell.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::{Child, Command, ExitCode};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use rustyline::Editor;
use rustyline::config::{CompletionType, Config};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::completion::Completer;
use super::messages::{CTLS, NAMES};
use super::{Settings, VERSION, execute, own_help, read};
use crate::cli::argparse::Parsed;
use crate::cli::output;
use crate::config::shlex;

const PROMPT: &str = "(circusctl) ";
/// The width of the list of commands, as in the real one.
const LIST_WIDTH: usize = 79;

/// What one line asks for.
#[derive(Debug, PartialEq)]
enum Asked<'a> {
    /// The end.
    End,
    /// Help, on this if it is not empty.
    Help(&'a str),
    /// A command and the rest of its line.
    Command(&'static str, &'a str),
    /// Nothing that the shell knows.
    Unknown,
}

/// The lines so far: an empty one repeats the last.
#[derive(Debug, Default)]
struct Memory {
    last: String,
}

impl Memory {
    /// The line to run for this one, if any.
    fn resolve(&mut self, line: &str) -> Option<String> {
        let line = line.trim();
        if line.is_empty() {
            return Some(self.last.clone()).filter(|last| !last.is_empty());
        }
        // What cannot even be a command is not repeated.
        if !line.starts_with('!') {
            self.last = match line.strip_prefix('?') {
                Some(topic) => format!("help {topic}"),
                None => line.to_string(),
            };
        }
        Some(line.to_string())
    }
}

fn asked(line: &str) -> Asked<'_> {
    if let Some(topic) = line.strip_prefix('?') {
        return Asked::Help(topic.trim());
    }
    let end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let rest = rest.trim();
    match name {
        "EOF" => Asked::End,
        "help" => Asked::Help(rest),
        _ => match NAMES.iter().find(|known| **known == name) {
            Some(name) => Asked::Command(name, rest),
            None => Asked::Unknown,
        },
    }
}

/// Runs the shell until its end; the exit code is that of the program.
pub fn run(global: &Parsed, settings: &Settings) -> ExitCode {
    output::line(VERSION);
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        return on_a_terminal(global, settings);
    }
    let mut memory = Memory::default();
    if let Some(code) = run_here("status", "", settings) {
        return code;
    }
    let mut lines = io::stdin().lock().lines();
    loop {
        let mut out = io::stdout().lock();
        if out
            .write_all(PROMPT.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            return ExitCode::SUCCESS;
        }
        drop(out);
        let Some(Ok(line)) = lines.next() else {
            break;
        };
        let Some(line) = memory.resolve(&line) else {
            continue;
        };
        match asked(&line) {
            Asked::End => break,
            Asked::Help(topic) => help(topic),
            Asked::Unknown => unknown(&line),
            Asked::Command(name, rest) => {
                if let Some(code) = run_here(name, rest, settings) {
                    return code;
                }
            }
        }
    }
    output::line("");
    ExitCode::SUCCESS
}

/// Runs a command in this process; an exit code ends the shell, as a wrong line does in the real one.
fn run_here(name: &str, rest: &str, settings: &Settings) -> Option<ExitCode> {
    let mut args = vec![name.to_string()];
    match shlex::split(rest) {
        Ok(words) => args.extend(words),
        Err(reason) => {
            output::plain_error(&reason);
            return Some(ExitCode::FAILURE);
        }
    }
    match read(&args) {
        Ok(line) => {
            if let Some((ctl, own)) = &line.command {
                execute(ctl, own, &line.global, settings);
            }
            None
        }
        Err(code) => Some(code),
    }
}

struct Words {
    completer: Completer,
}

impl rustyline::Helper for Words {}
impl rustyline::highlight::Highlighter for Words {}
impl rustyline::validate::Validator for Words {}
impl rustyline::hint::Hinter for Words {
    type Hint = String;
}

impl rustyline::completion::Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.completer.complete(line.get(..at).unwrap_or(line)))
    }
}

fn on_a_terminal(global: &Parsed, settings: &Settings) -> ExitCode {
    let mut commands = match Commands::new(global) {
        Ok(commands) => commands,
        Err(error) => {
            output::plain_error(&format!("circusctl: cannot listen to signals: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .auto_add_history(true)
        .build();
    let editor =
        Editor::<Words, MemHistory>::with_history(config.clone(), MemHistory::with_config(&config));
    let mut editor = match editor {
        Ok(editor) => editor,
        Err(error) => {
            output::plain_error(&format!("circusctl: cannot use this terminal: {error}"));
            return ExitCode::FAILURE;
        }
    };
    editor.set_helper(Some(Words {
        completer: Completer::new(settings),
    }));
    commands.run("status", "");
    let mut memory = Memory::default();
    loop {
        let line = match editor.readline(PROMPT) {
            Ok(line) => line,
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => break,
            Err(error) => {
                output::plain_error(&format!("circusctl: {error}"));
                return ExitCode::FAILURE;
            }
        };
        let Some(line) = memory.resolve(&line) else {
            continue;
        };
        match asked(&line) {
            Asked::End => break,
            Asked::Help(topic) => help(topic),
            Asked::Unknown => unknown(&line),
            Asked::Command(name, rest) => commands.run(name, rest),
        }
    }
    output::line("");
    ExitCode::SUCCESS
}

/// Runs each command in a process of its own, so that ctrl-C ends it alone.
struct Commands<'a> {
    global: &'a Parsed,
    runtime: Runtime,
    /// Where these are listened to, they do not end this process.
    interrupts: Signal,
    children: Signal,
}

impl<'a> Commands<'a> {
    fn new(global: &'a Parsed) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let inside = runtime.enter();
        let interrupts = signal(SignalKind::interrupt())?;
        let children = signal(SignalKind::child())?;
        drop(inside);
        Ok(Self {
            global,
            runtime,
            interrupts,
            children,
        })
    }

    fn run(&mut self, name: &str, rest: &str) {
        let words = match shlex::split(rest) {
            Ok(words) => words,
            Err(reason) => {
                output::plain_error(&reason);
                return;
            }
        };
        let mut command = Command::new("/proc/self/exe");
        command.arg("circusctl");
        for (option, value) in &self.global.values {
            command.arg(format!("--{option}={value}"));
        }
        for flag in &self.global.flags {
            command.arg(format!("--{flag}"));
        }
        command.arg(name).args(words);
        // Its exit code is told by what it prints.
        let outcome = command.spawn().and_then(|child| self.wait(child));
        if let Err(error) = outcome {
            output::plain_error(&format!("circusctl: cannot run {name}: {error}"));
        }
    }

    /// Waits for the end of a command. A ctrl-C reaches it through the terminal, unless it was pressed before the
    /// command was there.
    fn wait(&mut self, mut child: Child) -> io::Result<()> {
        let Self {
            runtime,
            interrupts,
            children,
            ..
        } = self;
        runtime.block_on(async {
            while child.try_wait()?.is_none() {
                tokio::select! {
                    _ = children.recv() => {}
                    _ = interrupts.recv() => {
                        if let Ok(pid) = i32::try_from(child.id()) {
                            // It has not been waited for, so the pid is still its own.
                            let _ = kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGINT);
                        }
                    }
                }
            }
            Ok(())
        })
    }
}

fn unknown(line: &str) {
    output::line(&format!("*** Unknown syntax: {line}"));
}

/// The list of commands, or the page of one.
fn help(topic: &str) {
    if let Some(ctl) = CTLS.iter().find(|ctl| ctl.name == topic) {
        output::line(&own_help(ctl));
    } else if topic == "help" {
        output::line("help lists the commands; help COMMAND explains one.");
    } else if !topic.is_empty() {
        output::line(&format!("*** No help on {topic}"));
    } else {
        let mut names = NAMES.to_vec();
        names.push("help");
        names.sort_unstable();
        output::line("");
        section("Documented commands (type help <topic>):", &names);
        section("Undocumented commands:", &["EOF"]);
    }
}

fn section(heading: &str, names: &[&str]) {
    output::line(heading);
    output::line(&"=".repeat(heading.len()));
    for line in in_columns(names) {
        output::line(&line);
    }
    output::line("");
}

/// The names in as few lines as the width allows, from top to bottom.
fn in_columns(names: &[&str]) -> Vec<String> {
    let widths = |rows: usize| -> Vec<usize> {
        names
            .chunks(rows)
            .map(|column| column.iter().map(|name| name.len()).max().unwrap_or(0))
            .collect()
    };
    let fits = |rows: &usize| {
        let widths = widths(*rows);
        widths.iter().sum::<usize>() + 2 * (widths.len() - 1) <= LIST_WIDTH
    };
    let rows = (1..names.len()).find(fits).unwrap_or(names.len().max(1));
    let widths = widths(rows);
    (0..rows)
        .map(|row| {
            let cells: Vec<String> = names
                .chunks(rows)
                .zip(&widths)
                .filter_map(|(column, width)| column.get(row).map(|name| format!("{name:<width$}")))
                .collect();
            cells.join("  ")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(asked("status"), Asked::Command("status", ""));
        assert_eq!(asked("list  web"), Asked::Command("list", "web"));
        assert_eq!(asked("list-web"), Asked::Command("list", "-web"));
        assert_eq!(asked("?"), Asked::Help(""));
        assert_eq!(asked("? list"), Asked::Help("list"));
        assert_eq!(asked("help list"), Asked::Help("list"));
        assert_eq!(asked("EOF"), Asked::End);
        for line in ["nonsense", "!ls", "-x", "STATUS"] {
            assert_eq!(asked(line), Asked::Unknown, "{line}");
        }
    }

    #[test]
    fn an_empty_line_repeats() {
        let mut memory = Memory::default();
        assert_eq!(memory.resolve(" "), None);
        assert_eq!(memory.resolve(" list web "), Some("list web".into()));
        assert_eq!(memory.resolve(""), Some("list web".into()));
        assert_eq!(memory.resolve("!ls"), Some("!ls".into()));
        assert_eq!(memory.resolve(""), Some("list web".into()));
        assert_eq!(memory.resolve("?list"), Some("?list".into()));
        assert_eq!(memory.resolve(""), Some("help list".into()));
    }

    #[test]
    fn columns() {
        assert_eq!(in_columns(&["EOF"]), ["EOF"]);
        let long = "x".repeat(40);
        assert_eq!(in_columns(&[&long, "b", "c"]), [format!("{long}  b  c")]);
        assert_eq!(
            in_columns(&[&long, &long, "c"]),
            [format!("{long}  c"), long.clone()]
        );
    }
}
