//! Words of a shell line, as Python's `shlex.split` divides them.

/// Splits at white space; quotes group, a backslash keeps the next character.
///
/// # Errors
/// The text of Python's error when a quote is not closed or the line ends in a backslash.
pub fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err("No closing quotation"),
                        Some('\'') => break,
                        Some(c) => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err("No closing quotation"),
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            None => return Err("No escaped character"),
                            Some(c) => {
                                // Only these two lose their backslash between double quotes.
                                if !matches!(c, '"' | '\\') {
                                    word.push('\\');
                                }
                                word.push(c);
                            }
                        },
                        Some(c) => word.push(c),
                    }
                }
            }
            '\\' => match chars.next() {
                None => return Err("No escaped character"),
                Some(c) => word.get_or_insert_default().push(c),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words() {
        assert_eq!(
            split(r#" a 'b c' "d\"\e" f\ g '' h'i'"#),
            Ok(vec![
                "a".into(),
                "b c".into(),
                "d\"\\e".into(),
                "f g".into(),
                String::new(),
                "hi".into()
            ])
        );
        assert_eq!(split("'"), Err("No closing quotation"));
        assert_eq!(split("a\\"), Err("No escaped character"));
        assert_eq!(split(" "), Ok(vec![]));
    }
}
