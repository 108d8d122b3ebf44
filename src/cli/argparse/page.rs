//! Usage lines and help pages in the layout of Python's argparse.

use std::env;

use super::{Kind, Opt};

/// Where the explanations begin, at most.
const HELP_COLUMN: usize = 24;

/// The width of a page: `COLUMNS`, or the terminal's, less two.
fn width() -> usize {
    let set = env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse::<usize>().ok())
        .filter(|columns| *columns > 0);
    let columns = set.or_else(|| terminal_size::terminal_size().map(|(width, _)| width.0.into()));
    columns.unwrap_or(80).saturating_sub(2).max(11)
}

/// `usage: PROGRAM [options] [word]`, broken into lines.
pub fn usage(program: &str, opts: &[Opt], words: &[&str]) -> String {
    usage_within(width(), program, opts, words)
}

fn usage_within(width: usize, program: &str, opts: &[Opt], words: &[&str]) -> String {
    const PREFIX: &str = "usage: ";
    let options: Vec<String> = opts
        .chunk_by(|one, next| one.group != 0 && one.group == next.group)
        .map(|opts| {
            let spelled: Vec<String> = opts.iter().map(|opt| opt.spelled(0)).collect();
            format!("[{}]", spelled.join(" | "))
        })
        .collect();
    let words: Vec<String> = words.iter().map(|word| format!("[{word}]")).collect();
    let all = [&[program.to_string()], options.as_slice(), &words].concat();
    let plain = format!("{PREFIX}{}", all.join(" "));
    if plain.len() <= width {
        return plain;
    }
    let beside = (PREFIX.len() + program.len()) * 4 <= width * 3;
    let mut lines = Vec::new();
    let indent = if beside {
        let indent = PREFIX.len() + program.len() + 1;
        let first = format!("{PREFIX}{program}");
        lines.extend(filled(width, indent, first, &options));
        lines.extend(filled(width, indent, String::new(), &words));
        indent
    } else {
        lines.push(format!("{PREFIX}{program}"));
        let indent = PREFIX.len();
        let parts = [options.as_slice(), &words].concat();
        let together: Vec<String> = filled(width, indent, String::new(), &parts).collect();
        if together.len() > 1 {
            lines.extend(filled(width, indent, String::new(), &options));
            lines.extend(filled(width, indent, String::new(), &words));
        } else {
            lines.extend(together);
        }
        indent
    };
    debug_assert!(indent > 0);
    lines.join("\n")
}

/// `parts` on lines of this width; the first one begins with `first` or is indented like the rest.
fn filled(
    width: usize,
    indent: usize,
    first: String,
    parts: &[String],
) -> impl Iterator<Item = String> + use<> {
    let margin = " ".repeat(indent);
    let mut lines = Vec::new();
    let mut line = first;
    for part in parts {
        let begun = if line.is_empty() {
            indent
        } else {
            line.len() + 1
        };
        if begun + part.len() > width && !line.trim().is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        if line.is_empty() {
            line.push_str(&margin);
        } else {
            line.push(' ');
        }
        line.push_str(part);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines.into_iter()
}

/// The rows of a section of options: how each is written, and its help.
pub fn option_rows(opts: &[Opt]) -> Vec<(String, String)> {
    opts.iter()
        .map(|opt| {
            let spelled: Vec<String> = (0..opt.strings.len()).map(|at| opt.spelled(at)).collect();
            (spelled.join(", "), opt.help.to_string())
        })
        .collect()
}

/// A whole page: usage, what the program does, and sections of rows.
pub fn help(usage: &str, about: &str, sections: &[(&str, Vec<(String, String)>)]) -> String {
    let width = width();
    let longest = sections
        .iter()
        .flat_map(|(_, rows)| rows.iter().map(|(left, _)| left.len() + 4))
        .max()
        .unwrap_or(HELP_COLUMN);
    let column = longest
        .min(HELP_COLUMN)
        .min(width.saturating_sub(20).max(4));
    let mut out = format!("{usage}\n\n{}", folded(about, width).join("\n"));
    for (heading, rows) in sections {
        out.push_str(&format!("\n\n{heading}:"));
        for (left, right) in rows {
            let mut explained = folded(right, width.saturating_sub(column).max(11)).into_iter();
            out.push_str("\n  ");
            out.push_str(left);
            if left.len() + 4 <= column
                && let Some(line) = explained.next()
            {
                out.push_str(&" ".repeat(column - 2 - left.len()));
                out.push_str(&line);
            }
            for line in explained {
                out.push('\n');
                out.push_str(&" ".repeat(column));
                out.push_str(&line);
            }
        }
    }
    out
}

/// `text` in lines that are not longer than `width` where words allow it.
fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

impl Opt {
    /// What its value is called in the help.
    pub fn value_name(&self) -> String {
        let name = self.metavar.unwrap_or_else(|| self.name());
        name.to_uppercase().replace('-', "_")
    }

    /// One spelling of this option with the name of its value.
    fn spelled(&self, at: usize) -> String {
        let string = self.strings.get(at).copied().unwrap_or_default();
        match self.kind {
            Kind::Text | Kind::Int | Kind::Number => {
                format!("{string} {}", self.value_name())
            }
            Kind::Choice(choices) => format!("{string} {{{}}}", choices.join(",")),
            Kind::Flag | Kind::Version | Kind::Help => string.to_string(),
        }
    }
}
