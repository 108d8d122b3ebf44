//! Command lines cut into words and put together again, as Python's `shlex.split` (POSIX mode) and
//! `shlex.quote` do.

/// `shlex.split(line)`.
///
/// # Errors
/// A quotation that is not closed, or a backslash at the end.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word = String::new();
    // A word was begun; '' begins one too.
    let mut inside = false;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => {
                if inside {
                    words.push(std::mem::take(&mut word));
                    inside = false;
                }
            }
            '\\' => {
                word.push(chars.next().ok_or("No escaped character")?);
                inside = true;
            }
            '\'' | '"' => {
                quotation(c, &mut chars, &mut word)?;
                inside = true;
            }
            _ => {
                word.push(c);
                inside = true;
            }
        }
    }
    if inside {
        words.push(word);
    }
    Ok(words)
}

/// Reads up to the closing quote. Between double quotes a backslash escapes only `"` and itself.
fn quotation(quote: char, chars: &mut std::str::Chars, word: &mut String) -> Result<(), String> {
    while let Some(c) = chars.next() {
        if c == quote {
            return Ok(());
        }
        if c != '\\' || quote == '\'' {
            word.push(c);
            continue;
        }
        let escaped = chars.next().ok_or("No escaped character")?;
        if escaped != '\\' && escaped != quote {
            word.push('\\');
        }
        word.push(escaped);
    }
    Err("No closing quotation".to_owned())
}

/// `shlex.quote(word)`: the word as a POSIX shell reads it back.
pub fn quote(word: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if word.is_empty() {
        "''".to_owned()
    } else if word.chars().all(safe) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\"'\"'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_python_cuts_them() {
        for (line, want) in [
            ("", vec![]),
            (" a  b\t'c d' ", vec!["a", "b", "c d"]),
            ("a'b'\"c\"", vec!["abc"]),
            ("'' \"\"", vec!["", ""]),
            (r#""\a\"\\" \a"#, vec![r#"\a"\"#, "a"]),
            (r"'\a'", vec![r"\a"]),
            ("a#b # c", vec!["a#b", "#", "c"]),
            ("a\u{a0}b\u{b}c", vec!["a\u{a0}b\u{b}c"]),
        ] {
            assert_eq!(
                split(line),
                Ok(want.into_iter().map(str::to_owned).collect()),
                "{line:?}"
            );
        }
        assert_eq!(split("a 'b").unwrap_err(), "No closing quotation");
        assert_eq!(split("a \\").unwrap_err(), "No escaped character");
        assert_eq!(split("\"\\").unwrap_err(), "No escaped character");
    }

    #[test]
    fn quoting_survives_a_shell() {
        assert_eq!(quote(""), "''");
        assert_eq!(quote("a/b-1"), "a/b-1");
        assert_eq!(quote("it's"), "'it'\"'\"'s'");
        assert_eq!(quote("é"), "'é'");
    }
}
