//! Command lines read as Python's argparse reads them, with its error texts: what the programs of the
//! Circus family do under their own names.
//!
//! Scripts see these texts and exit codes, and rely on what argparse lets pass: options may be
//! shortened, `--opt=value` works, `-1` is a word, all words up to the first option belong
//! together and later ones are "unrecognized".

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::{output, programs};
use crate::wire::pytext;

mod page;

/// Exit code of a wrong command line, argparse's.
pub const EXIT_WRONG: u8 = 2;

/// A program of the family: what its command line holds.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its name, as its errors say it.
    pub name: &'static str,
    /// What it does, in one line without a full stop.
    pub about: &'static str,
    /// Its options, in the order of its usage line.
    pub opts: &'static [Opt],
    /// The one word it may be given: its name and what it is.
    pub word: Option<(&'static str, &'static str)>,
    /// The words that may follow that one.
    pub more: Option<(&'static str, &'static str)>,
}

impl Program {
    /// Reads a command line (`args[0]` is the program's name). Help and version are printed here, and so are errors.
    ///
    /// # Errors
    /// The exit code of a program that has nothing left to do.
    pub fn read(&self, args: &[OsString]) -> Result<Parsed, ExitCode> {
        match self.parse(args) {
            Ok(parsed) if parsed.has("version") => {
                output::line(programs::CIRCUS_VERSION);
                Err(ExitCode::SUCCESS)
            }
            Ok(parsed) => Ok(parsed),
            Err(stop) => Err(self.stop(stop)),
        }
    }

    /// Reads a command line and prints nothing.
    ///
    /// # Errors
    /// What there is to print instead.
    pub fn parse(&self, args: &[OsString]) -> Result<Parsed, Stop> {
        let words = match (self.word, self.more) {
            (None, _) => Words::None,
            (Some(_), None) => Words::One,
            (Some(_), Some(_)) => Words::Any,
        };
        texts(args)
            .and_then(|args| parse(self.opts, words, &args))
            .and_then(Parsed::known)
    }

    /// Prints why the parsing ended; the exit code for it.
    pub fn stop(&self, stop: Stop) -> ExitCode {
        match stop {
            Stop::Help | Stop::Version => {
                output::line(&self.help());
                ExitCode::SUCCESS
            }
            Stop::Error(text) => {
                let usage = self.usage();
                output::plain_error(&format!("{usage}\n{}: error: {text}", self.name));
                ExitCode::from(EXIT_WRONG)
            }
        }
    }

    /// The usage text, broken into lines as argparse does.
    pub fn usage(&self) -> String {
        let more = self.more.map(|(name, _)| format!("{name} ..."));
        let words: Vec<&str> = self
            .word
            .map(|(name, _)| name)
            .into_iter()
            .chain(more.as_deref())
            .collect();
        page::usage(self.name, self.opts, &words)
    }

    /// The page that `--help` prints, without the last line's end.
    pub fn help(&self) -> String {
        let words: Vec<(String, String)> = self
            .word
            .into_iter()
            .chain(self.more)
            .map(|(name, help)| (name.to_string(), help.to_string()))
            .collect();
        let mut sections = Vec::new();
        if !words.is_empty() {
            sections.push(("positional arguments", words));
        }
        sections.push(("options", option_rows(self.opts)));
        page::help(&self.usage(), self.about, &sections)
    }
}

pub use page::{help, option_rows, usage};

/// The arguments behind the program's name, as texts.
fn texts(args: &[OsString]) -> Result<Vec<String>, Stop> {
    args.iter()
        .skip(1)
        .map(|arg| {
            let text = arg.to_str().map(String::from);
            text.ok_or_else(|| Stop::Error(format!("{} is no UTF-8 text", arg.to_string_lossy())))
        })
        .collect()
}

/// One option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Opt {
    /// How it is written, such as `-h` and `--help`.
    pub strings: &'static [&'static str],
    /// What it takes and does.
    pub kind: Kind,
    /// What its value is called in the help, where that is not its own name.
    pub metavar: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
    /// At most one of the options with the same number may be given; 0 is no such number.
    pub group: u8,
}

/// A row of a list of options.
pub const fn opt(strings: &'static [&'static str], kind: Kind, help: &'static str) -> Opt {
    Opt {
        strings,
        kind,
        metavar: None,
        help,
        group: 0,
    }
}

impl Opt {
    /// The same option, with this name for its value in the help.
    pub const fn of(self, metavar: &'static str) -> Self {
        Self {
            metavar: Some(metavar),
            ..self
        }
    }

    /// The same option, as one of those of which only one may be given.
    pub const fn among(self, group: u8) -> Self {
        Self { group, ..self }
    }
}

/// What an option takes and does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: it is there or not.
    Flag,
    /// A text.
    Text,
    /// An integer.
    Int,
    /// A number.
    Number,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// Ends the parsing: the version is wanted.
    Version,
    /// Ends the parsing: help is wanted.
    Help,
}

/// Which words a command line may hold beside its options.
#[derive(Debug, Clone, Copy)]
pub enum Words {
    /// None.
    None,
    /// At most one.
    One,
    /// Any number of them.
    Any,
    /// A command, which takes the rest of the line.
    Command(&'static [&'static str]),
}

/// A parsed command line.
#[derive(Debug, Default, PartialEq)]
pub struct Parsed {
    /// Options with a value, by their long name without dashes.
    pub values: BTreeMap<&'static str, String>,
    /// Options without one.
    pub flags: Vec<&'static str>,
    /// The words; the command and everything behind it with [`Words::Command`].
    pub words: Vec<String>,
    /// What nobody knows.
    pub extras: Vec<String>,
    /// Options with a value, in the order in which they were given.
    pub given: Vec<&'static Opt>,
}

/// Why the parsing ended early.
#[derive(Debug, PartialEq)]
pub enum Stop {
    /// The version is wanted.
    Version,
    /// Help is wanted.
    Help,
    /// The line is wrong; the text is argparse's.
    Error(String),
}

enum Class<'a> {
    /// A word.
    Word,
    /// `--`: everything behind it is words.
    Dashes,
    /// An option, and the value after its equals sign.
    Option(&'static Opt, Option<&'a str>),
    /// Looks like an option but is none.
    Unknown,
}

/// Reads `args` (without the program's name).
///
/// # Errors
/// [`Stop`] when there is nothing left to do but print.
pub fn parse(opts: &'static [Opt], words: Words, args: &[String]) -> Result<Parsed, Stop> {
    let mut classes = Vec::with_capacity(args.len());
    let mut only_words = false;
    for arg in args {
        classes.push(if only_words {
            Class::Word
        } else if arg == "--" {
            only_words = true;
            Class::Dashes
        } else {
            classify(opts, arg)?
        });
    }
    let is_option = |at: usize| matches!(classes[at], Class::Option(..) | Class::Unknown);

    let mut parsed = Parsed::default();
    let mut words_done = matches!(words, Words::None);
    let mut at = 0;
    while at < args.len() {
        if !is_option(at) {
            let end = (at..args.len())
                .find(|&i| is_option(i))
                .unwrap_or(args.len());
            if words_done {
                parsed.extras.extend_from_slice(&args[at..end]);
                at = end;
                continue;
            }
            words_done = true;
            if let Words::Command(choices) = words {
                if !choices.contains(&args[at].as_str()) {
                    return Err(invalid_choice(&args[at], choices));
                }
                parsed.words = args[at..].to_vec();
                break;
            }
            // The first double dash only separates; a second one is a word.
            parsed.words = args[at..end].to_vec();
            if let Some(dashes) = parsed.words.iter().position(|word| word == "--") {
                parsed.words.remove(dashes);
            }
            if matches!(words, Words::One) && parsed.words.len() > 1 {
                parsed.extras.extend(parsed.words.drain(1..));
            }
            at = end;
            continue;
        }
        let Class::Option(opt, explicit) = classes[at] else {
            parsed.extras.push(args[at].clone());
            at += 1;
            continue;
        };
        at += 1;
        let next_word = args
            .get(at)
            .filter(|_| matches!(classes.get(at), Some(Class::Word)));
        if consume(opt, explicit, next_word, &mut parsed)? {
            at += 1;
        }
    }
    Ok(parsed)
}

/// Applies one option; true when it took the next word as its value.
fn consume(
    opt: &'static Opt,
    explicit: Option<&str>,
    next_word: Option<&String>,
    parsed: &mut Parsed,
) -> Result<bool, Stop> {
    let name = opt.name();
    if !opt.takes_a_value() {
        if let Some(explicit) = explicit {
            return Err(opt.error(&format!(
                "ignored explicit argument {}",
                pytext::repr(explicit)
            )));
        }
        match opt.kind {
            Kind::Version => return Err(Stop::Version),
            Kind::Help => return Err(Stop::Help),
            _ => parsed.flags.push(name),
        }
        return Ok(false);
    }
    let value = match (explicit, next_word) {
        (Some(explicit), _) => explicit,
        (None, Some(word)) => word.as_str(),
        (None, None) => return Err(opt.error("expected one argument")),
    };
    let shown = || pytext::repr(value);
    match opt.kind {
        Kind::Int if pytext::int(value).is_none() => {
            return Err(opt.error(&format!("invalid int value: {}", shown())));
        }
        Kind::Number if value.trim().parse::<f64>().is_err() => {
            return Err(opt.error(&format!("invalid float value: {}", shown())));
        }
        Kind::Choice(choices) if !choices.contains(&value) => {
            let text = format!("invalid choice: {} {}", shown(), choose_from(choices));
            return Err(opt.error(&text));
        }
        _ => {}
    }
    let rival = |given: &&&Opt| given.group == opt.group && given.name() != name;
    if let Some(rival) = parsed.given.iter().find(rival).filter(|_| opt.group != 0) {
        let text = format!("not allowed with argument {}", rival.strings.join("/"));
        return Err(opt.error(&text));
    }
    parsed.given.push(opt);
    parsed.values.insert(name, value.to_string());
    Ok(explicit.is_none())
}

fn classify<'a>(opts: &'static [Opt], arg: &'a str) -> Result<Class<'a>, Stop> {
    if !arg.starts_with('-') || arg.len() == 1 {
        return Ok(Class::Word);
    }
    let exactly = |text: &str| opts.iter().find(|opt| opt.strings.contains(&text));
    if let Some(opt) = exactly(arg) {
        return Ok(Class::Option(opt, None));
    }
    let (head, explicit) = match arg.split_once('=') {
        Some((head, value)) => (head, Some(value)),
        None => (arg, None),
    };
    if let Some(opt) = exactly(head) {
        return Ok(Class::Option(opt, explicit));
    }
    if arg.starts_with("--") {
        let candidates: Vec<(&'static Opt, &str)> = opts
            .iter()
            .flat_map(|opt| opt.strings.iter().map(move |string| (opt, *string)))
            .filter(|(_, string)| string.starts_with(head))
            .collect();
        match candidates.as_slice() {
            [] => {}
            [(opt, _)] => return Ok(Class::Option(opt, explicit)),
            many => {
                let names: Vec<&str> = many.iter().map(|(_, string)| *string).collect();
                return Err(Stop::Error(format!(
                    "ambiguous option: {arg} could match {}",
                    names.join(", ")
                )));
            }
        }
    } else if let Some(opt) = arg.get(..2).and_then(exactly) {
        return Ok(Class::Option(opt, arg.get(2..)));
    }
    Ok(if is_negative_number(arg) || arg.contains(' ') {
        Class::Word
    } else {
        Class::Unknown
    })
}

/// `^-\d+$|^-\d*\.\d+$`
fn is_negative_number(arg: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(number) = arg.strip_prefix('-') else {
        return false;
    };
    match number.split_once('.') {
        Some((whole, part)) => digits(whole) && digits(part) && !part.is_empty(),
        None => digits(number) && !number.is_empty(),
    }
}

fn invalid_choice(choice: &str, choices: &[&str]) -> Stop {
    Stop::Error(format!(
        "argument command: invalid choice: {} {}",
        pytext::repr(choice),
        choose_from(choices)
    ))
}

fn choose_from(choices: &[&str]) -> String {
    let choices: Vec<String> = choices.iter().map(|choice| pytext::repr(choice)).collect();
    format!("(choose from {})", choices.join(", "))
}

impl Parsed {
    /// This line, if all of it was understood.
    ///
    /// # Errors
    /// The words and options that nobody knows.
    pub fn known(self) -> Result<Self, Stop> {
        if self.extras.is_empty() {
            return Ok(self);
        }
        Err(Stop::Error(format!(
            "unrecognized arguments: {}",
            self.extras.join(" ")
        )))
    }

    /// Whether this option without a value was given.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// The value of this option, if it was given.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

impl Opt {
    /// Its long name without dashes.
    pub fn name(&self) -> &'static str {
        self.strings
            .last()
            .map_or("", |string| string.trim_start_matches('-'))
    }

    fn error(&self, text: &str) -> Stop {
        Stop::Error(format!("argument {}: {text}", self.strings.join("/")))
    }

    fn takes_a_value(&self) -> bool {
        matches!(
            self.kind,
            Kind::Text | Kind::Int | Kind::Number | Kind::Choice(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTS: &[Opt] = &[
        opt(&["-h", "--help"], Kind::Help, ""),
        opt(&["--ssh"], Kind::Text, ""),
        opt(&["--ssh_keyfile"], Kind::Text, ""),
        opt(&["--json"], Kind::Flag, ""),
        opt(&["--timeout"], Kind::Int, ""),
    ];

    fn read(words: Words, line: &str) -> Result<Parsed, Stop> {
        let args: Vec<String> = line.split_whitespace().map(String::from).collect();
        parse(OPTS, words, &args)
    }

    #[test]
    fn lines_that_argparse_takes() {
        let parsed = read(Words::Any, "a b --json --time=7 --ssh x -1 c").unwrap();
        assert_eq!(parsed.words, ["a", "b"]);
        assert_eq!(parsed.extras, ["-1", "c"]);
        assert_eq!(parsed.flags, ["json"]);
        assert_eq!(parsed.values["timeout"], "7");
        assert_eq!(parsed.values["ssh"], "x");
        let parsed = read(Words::Any, "--json a -1 -- --json --").unwrap();
        assert_eq!(parsed.words, ["a", "-1", "--json", "--"]);
        let parsed = read(Words::Command(&["list"]), "--json list --nope -x web").unwrap();
        assert_eq!(parsed.words, ["list", "--nope", "-x", "web"]);
        let parsed = read(Words::None, "a -x --foo b").unwrap();
        assert_eq!(parsed.extras, ["a", "-x", "--foo", "b"]);
    }

    #[test]
    fn lines_that_argparse_refuses() {
        for (line, text) in [
            (
                "--ss x",
                "ambiguous option: --ss could match --ssh, --ssh_keyfile",
            ),
            ("--ssh", "argument --ssh: expected one argument"),
            ("--ssh --json", "argument --ssh: expected one argument"),
            ("--timeout x", "argument --timeout: invalid int value: 'x'"),
            ("--json=1", "argument --json: ignored explicit argument '1'"),
            (
                "nope",
                "argument command: invalid choice: 'nope' (choose from 'list', 'stop')",
            ),
        ] {
            assert_eq!(
                read(Words::Command(&["list", "stop"]), line),
                Err(Stop::Error(text.into())),
                "{line}"
            );
        }
        assert_eq!(read(Words::Any, "-h"), Err(Stop::Help));
    }

    #[test]
    fn one_word_may_stand_anywhere() {
        for line in ["a --json", "--json a", "--timeout 3 a --json"] {
            let parsed = read(Words::One, line).unwrap();
            assert_eq!(parsed.words, ["a"], "{line}");
            assert!(parsed.known().is_ok(), "{line}");
        }
        let parsed = read(Words::One, "a b --json c").unwrap();
        assert_eq!(parsed.extras, ["b", "c"]);
        assert_eq!(
            parsed.known(),
            Err(Stop::Error("unrecognized arguments: b c".into()))
        );
    }
}
