//! A command line that circus.ini would cut short, spelled so that it does not: ` ;` starts a comment there, in quotes
//! or not.

use super::super::shlex;

/// The same words with another spelling of the first `;`, if it follows a space. `None` if there is none to be found
/// that is read as the same words (or, with `shell`, by a shell as the same commands).
pub(super) fn respelled(line: &str, shell: bool) -> Option<String> {
    let at = line.find(';')?;
    let (before, after) = line.split_at(at);
    let spelled = match open_quote(before) {
        // The quotes are closed and opened again between the space and it.
        Some(quote) => format!("{before}{quote}{quote}{after}"),
        // It ends a command, with or without the space.
        None if shell => format!("{}{after}", before.trim_end()),
        None => format!("{before}';'{}", &after[1..]),
    };
    let same = shell || shlex::split(line).is_ok_and(|words| shlex::split(&spelled) == Ok(words));
    same.then_some(spelled)
}

/// The quote that is open at the end of this text.
fn open_quote(text: &str) -> Option<char> {
    let mut open = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (open, c) {
            (None | Some('"'), '\\') => {
                chars.next();
            }
            (None, '\'' | '"') => open = Some(c),
            (Some(quote), c) if c == quote => open = None,
            _ => {}
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_stay() {
        for (line, shell, want) in [
            ("sh -c 'a ; b'", false, Some("sh -c 'a ''; b'")),
            (
                "sh -c \"a ; b ; c\"",
                false,
                Some("sh -c \"a \"\"; b ; c\""),
            ),
            ("a ; b", false, Some("a ';' b")),
            ("a ; b", true, Some("a; b")),
            ("a 'x ; y' ; b", true, Some("a 'x ''; y' ; b")),
            ("a \\' ; b", false, Some("a \\' ';' b")),
            ("a", false, None),
            ("a 'b ; c", false, None),
        ] {
            assert_eq!(respelled(line, shell).as_deref(), want, "{line}");
        }
    }
}
