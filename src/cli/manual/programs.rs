//! The pages of the programs of the Circus family, from their own command lines.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::page::{self, Block, heading, text};
use super::{MANUAL, NO_DATE, SOURCE};
use crate::cli::argparse::{Kind, Opt};
use crate::cli::programs::Name;

/// The manual page of one program.
pub fn man_page(program: &Name) -> String {
    let line = &program.line;
    let mut roff = Roff::new();
    roff.control("TH", [line.name, "1", NO_DATE, SOURCE, MANUAL]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{} - {}", line.name, line.about))]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text(synopsis(program));
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(format!(
        "{}. This is circ by another name: it takes the options of the {} of {}, \
         and ends with its exit codes.",
        line.about, line.name, program.of
    ))]);
    page::roff(
        &mut roff,
        &program
            .notes
            .iter()
            .map(|note| text(*note))
            .collect::<Vec<_>>(),
    );
    roff.control("SH", ["OPTIONS"]);
    for opt in line.opts {
        roff.control("TP", []);
        let mut term = Vec::new();
        for (at, string) in opt.strings.iter().enumerate() {
            if at > 0 {
                term.push(roman(", "));
            }
            term.push(bold(*string));
        }
        term.extend(value(opt));
        roff.text(term);
        roff.text([roman(opt.help)]);
    }
    for (name, help) in line.word.into_iter().chain(line.more) {
        roff.control("TP", []);
        roff.text([italic(name)]);
        roff.text([roman(help)]);
    }
    page::roff(&mut roff, &codes(program));
    super::tidied(&roff.render())
}

fn synopsis(program: &Name) -> Vec<Inline> {
    let line = &program.line;
    let mut parts = vec![bold(line.name)];
    for opt in line.opts {
        parts.push(roman(" ["));
        parts.push(bold(opt.strings.first().copied().unwrap_or_default()));
        parts.extend(value(opt));
        parts.push(roman("]"));
    }
    if let Some((name, _)) = line.word {
        parts.extend([roman(" ["), italic(name), roman("]")]);
    }
    if let Some((name, _)) = line.more {
        parts.extend([roman(" ["), italic(name), roman(" ...]")]);
    }
    parts.push(roman(program.rest));
    parts
}

fn value(opt: &Opt) -> Vec<Inline> {
    match opt.kind {
        Kind::Text | Kind::Int | Kind::Number | Kind::Choice(_) => {
            vec![roman(" "), italic(opt.value_name())]
        }
        Kind::Flag | Kind::Version | Kind::Help => Vec::new(),
    }
}

fn codes(program: &Name) -> Vec<Block> {
    let rows = program.codes.iter();
    vec![
        heading("Exit status"),
        Block::Terms(
            rows.map(|(code, when)| (format!("`{code}`"), format!("{when}.")))
                .collect(),
        ),
        heading("See also"),
        text("`circ`(1), `circus.ini`(5)"),
    ]
}
