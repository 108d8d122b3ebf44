//! A page as data, and its two written forms: roff for `man`, Markdown for the reference.
//!
//! Text is plain, with `backticks` around what a user types; nothing else in it is markup.

use clap_mangen::roff::{Inline, Roff, bold, roman};

/// A part of a page.
#[derive(Debug, Clone)]
pub enum Block {
    /// A heading; in a man page in capitals, except what is between backticks.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// Lines that keep their form.
    Code(String),
    /// Terms and what they mean.
    Terms(Vec<(String, String)>),
    /// A table; the first cell of a row is its name.
    Table(&'static [&'static str], Vec<Vec<String>>),
}

/// A heading.
pub fn heading(text: impl Into<String>) -> Block {
    Block::Heading(text.into())
}

/// A paragraph.
pub fn text(text: impl Into<String>) -> Block {
    Block::Text(text.into())
}

/// Lines that keep their form.
pub fn code(text: impl Into<String>) -> Block {
    Block::Code(text.into())
}

/// Terms and what they mean.
pub fn terms<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Block {
    Block::Terms(
        pairs
            .into_iter()
            .map(|(term, meaning)| (term.to_owned(), meaning.to_owned()))
            .collect(),
    )
}

/// The text of a cell as something a user types; an empty one stays empty.
pub fn typed(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("`{text}`")
    }
}

/// The page as Markdown under the title.
pub fn markdown(title: &str, blocks: &[Block]) -> String {
    let mut out = format!(
        "<!-- Made from the tables in the source. `UPDATE=1 cargo test --test manual` writes it anew. -->\n\n# {title}\n"
    );
    for block in blocks {
        out.push('\n');
        match block {
            Block::Heading(text) => out.push_str(&format!("## {text}\n")),
            Block::Text(text) => out.push_str(&format!("{text}\n")),
            Block::Code(text) => out.push_str(&format!("```\n{text}\n```\n")),
            Block::Terms(pairs) => {
                for (term, meaning) in pairs {
                    out.push_str(&format!("- {term}: {meaning}\n"));
                }
            }
            Block::Table(header, rows) => {
                out.push_str(&row(header.iter().copied()));
                out.push_str(&row(header.iter().map(|_| "---")));
                for cells in rows {
                    out.push_str(&row(cells.iter().map(String::as_str)));
                }
            }
        }
    }
    out
}

fn row<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let mut line = String::from("|");
    for cell in cells {
        line.push(' ');
        line.push_str(&cell.replace('|', "\\|"));
        line.push_str(if cell.is_empty() { "|" } else { " |" });
    }
    line.push('\n');
    line
}

/// Adds the blocks to a man page.
pub fn roff(page: &mut Roff, blocks: &[Block]) {
    for block in blocks {
        match block {
            Block::Heading(text) => {
                page.control("SH", [capitals(text).as_str()]);
            }
            Block::Text(text) => {
                page.control("PP", []);
                page.text(inlines(text));
            }
            Block::Code(text) => {
                page.control("PP", []);
                page.control("RS", ["4"]);
                page.control("nf", []);
                for line in text.lines() {
                    page.text([roman(line)]);
                }
                page.control("fi", []);
                page.control("RE", []);
            }
            Block::Terms(pairs) => {
                for (term, meaning) in pairs {
                    entry(page, term, meaning);
                }
            }
            Block::Table(header, rows) => {
                for cells in rows {
                    let Some((name, facts)) = cells.split_first() else {
                        continue;
                    };
                    entry(page, name, &sentence(&header[1..], facts));
                }
            }
        }
    }
}

/// The cells of a row behind the name as one text: first what it means, then the facts with their names.
fn sentence(header: &[&str], cells: &[String]) -> String {
    let mut sentences = Vec::new();
    for (name, cell) in header
        .iter()
        .zip(cells)
        .filter(|(_, cell)| !cell.is_empty())
    {
        let stop = if cell.ends_with('.') { "" } else { "." };
        if *name == "Meaning" {
            sentences.insert(0, format!("{cell}{stop}"));
        } else {
            sentences.push(format!("{name}: {cell}{stop}"));
        }
    }
    sentences.join(" ")
}

fn entry(page: &mut Roff, term: &str, meaning: &str) {
    page.control("TP", []);
    page.text([bold(term.replace('`', ""))]);
    page.text(inlines(meaning));
}

/// The text in capitals, except what a user types: case counts there.
fn capitals(text: &str) -> String {
    text.split('`')
        .enumerate()
        .map(|(at, part)| {
            if at % 2 == 1 {
                part.to_owned()
            } else {
                part.to_uppercase()
            }
        })
        .collect()
}

/// Text with its `typed` parts in bold.
fn inlines(text: &str) -> Vec<Inline> {
    text.split('`')
        .enumerate()
        .filter(|(_, part)| !part.is_empty())
        .map(
            |(at, part)| {
                if at % 2 == 1 { bold(part) } else { roman(part) }
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let blocks = [
            heading("Keys of `[x]`"),
            text("Say `x | y`."),
            code(".a\n b"),
            Block::Table(
                &["Key", "Default", "Meaning"],
                vec![
                    vec!["`cmd`".into(), "`a|b`".into(), "What runs".into()],
                    vec!["`k`".into(), String::new(), "None.".into()],
                ],
            ),
        ];
        let page = markdown("T", &blocks);
        assert!(page.ends_with(
            "# T\n\n## Keys of `[x]`\n\nSay `x | y`.\n\n```\n.a\n b\n```\n\n\
             | Key | Default | Meaning |\n| --- | --- | --- |\n\
             | `cmd` | `a\\|b` | What runs |\n| `k` | | None. |\n"
        ));
        let mut page = Roff::new();
        roff(&mut page, &blocks);
        assert_eq!(
            page.to_roff(),
            ".SH \"KEYS OF [x]\"\n.PP\nSay \\fBx | y\\fR.\n.PP\n.RS 4\n.nf\n\\&.a\n b\n.fi\n.RE\n\
             .TP\n\\fBcmd\\fR\nWhat runs. Default: \\fBa|b\\fR.\n.TP\n\\fBk\\fR\nNone.\n"
        );
    }
}
