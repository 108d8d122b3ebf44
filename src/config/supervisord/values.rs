//! What the values of a supervisord.conf mean, as `supervisor.datatypes` has it, and the replacing of `%(name)s`. Pure.

use crate::config::pytext;

/// What a name in `%(name)s` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// Something that is known only when circ reads the configuration, as circ spells it.
    Later(String),
}

/// Stands for an environment variable until it is known where the text goes; made of letters that supervisor takes for
/// parts of a word.
pub fn later(name: &str) -> Known {
    Known::Later(format!("{LATER}{name})"))
}

const LATER: &str = "(circ-later:";

/// Replaces what [`later`] has put in: with `$(circus.env.NAME)`.
pub fn as_variable(text: &str) -> String {
    each_later(text, |name, _| Some(format!("$(circus.env.{name})"))).unwrap_or_default()
}

/// Replaces what [`later`] has put in with `$NAME`, the spelling of `[env:…]` sections; the name that cannot be spelled
/// so is the error.
pub fn as_dollar(text: &str) -> Result<String, String> {
    let inside = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    each_later(text, |name, after| {
        let fits = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(inside)
            && !after.starts_with(inside);
        fits.then(|| format!("${name}"))
    })
}

fn each_later(text: &str, spell: impl Fn(&str, &str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, (name, after))) = rest
        .split_once(LATER)
        .and_then(|(before, tail)| Some((before, tail.split_once(')')?)))
    {
        out.push_str(before);
        out.push_str(&spell(name, after).ok_or_else(|| name.to_owned())?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// `text % names`.
///
/// # Errors
/// An unknown name, or a form that Python would refuse or that cannot be kept for later.
pub fn expand(text: &str, names: &dyn Fn(&str) -> Option<Known>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (name, after) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
            .ok_or("a % stands alone; write %% for one")?;
        let length = after
            .find(|c: char| c.is_ascii_alphabetic())
            .ok_or_else(|| format!("%({name}) lacks its letter, as in %({name})s"))?;
        let (form, letter) = (&after[..length], &after[length..length + 1]);
        let known = names(name).ok_or_else(|| format!("%({name})s is not known"))?;
        out.push_str(&formatted(name, &known, form, letter)?);
        rest = &after[length + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn formatted(name: &str, known: &Known, form: &str, letter: &str) -> Result<String, String> {
    let bad = || format!("%({name}){form}{letter} is not a form that can be replaced");
    let text = match (known, letter) {
        (Known::Text(text), "s") => text.clone(),
        (Known::Number(number), "s" | "d" | "i" | "u") => number.to_string(),
        (Known::Number(number), "x") => format!("{number:x}"),
        (Known::Later(text), "s" | "d" | "i") if form.is_empty() => return Ok(text.clone()),
        _ => return Err(bad()),
    };
    let digits = form.trim_start_matches(['0', '-', '+', ' ', '#']);
    let flags = &form[..form.len() - digits.len()];
    let width: usize = match digits {
        "" => 0,
        digits => digits.parse().map_err(|_| bad())?,
    };
    let text = if flags.contains('+') && letter != "s" {
        format!("+{text}")
    } else {
        text
    };
    Ok(if flags.contains('-') {
        format!("{text:<width$}")
    } else if flags.contains('0') && letter != "s" {
        format!("{text:0>width$}")
    } else {
        format!("{text:>width$}")
    })
}

/// `boolean`.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Some(true),
        "no" | "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// `byte_size`: `50MB`, `1kb`, `1024`.
pub fn byte_size(text: &str) -> Option<i64> {
    let lower = text.to_lowercase();
    for (suffix, factor) in [("kb", 1 << 10), ("mb", 1 << 20), ("gb", 1 << 30)] {
        if let Some(number) = lower.strip_suffix(suffix) {
            return pytext::int(number)?.checked_mul(factor);
        }
    }
    pytext::int(&lower)
}

/// `dict_of_key_value_pairs`: `A="1",B=2`.
///
/// # Errors
/// What is wrong with it; the values, which may be secrets, are not repeated.
pub fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let tokens = tokens(text)?;
    let mut pairs: Vec<(String, String)> = Vec::new();
    for piece in tokens.chunks(4) {
        let [name, equals, value, ..] = piece else {
            return Err("it ends in the middle of NAME=VALUE".to_owned());
        };
        if equals != "=" {
            return Err("it is not NAME=VALUE,NAME=VALUE".to_owned());
        }
        let value = value.trim_matches(['\'', '"']).to_owned();
        match pairs.iter_mut().find(|(known, _)| known == name) {
            Some(pair) => pair.1 = value,
            None => pairs.push((name.clone(), value)),
        }
    }
    Ok(pairs)
}

/// The words of Python's `shlex.shlex(text)` in its plain mode, with the further letters that supervisor gives it.
fn tokens(text: &str) -> Result<Vec<String>, String> {
    let in_word = |c: char| c.is_ascii_alphanumeric() || "_/.+-():".contains(c);
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(&c) = rest.peek() {
        if c.is_ascii_whitespace() {
            rest.next();
        } else if c == '#' {
            while rest.next_if(|c| *c != '\n').is_some() {}
        } else if c == '"' || c == '\'' {
            let mut token = String::from(c);
            rest.next();
            loop {
                match rest.next() {
                    Some(next) => token.push(next),
                    None => return Err("a quotation is not closed".to_owned()),
                }
                if token.ends_with(c) {
                    break;
                }
            }
            tokens.push(token);
        } else if in_word(c) {
            let mut token = String::new();
            while let Some(next) = rest.next_if(|c| in_word(*c) || *c == '"' || *c == '\'') {
                token.push(next);
            }
            tokens.push(token);
        } else {
            rest.next();
            tokens.push(c.to_string());
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_as_python_does() {
        let names = |name: &str| match name {
            "program_name" => Some(Known::Text("web".to_owned())),
            "process_num" => Some(Known::Number(3)),
            "ENV_HOME" => Some(Known::Later("$(circus.env.HOME)".to_owned())),
            _ => None,
        };
        for (text, want) in [
            ("%(program_name)s_%(process_num)02d", Some("web_03")),
            ("100%%", Some("100%")),
            ("%(process_num)d%(process_num)3d|", Some("3  3|")),
            ("%(process_num)-3d|", Some("3  |")),
            ("%(ENV_HOME)s/x", Some("$(circus.env.HOME)/x")),
            ("%(ENV_HOME)9s", None),
            ("%(nope)s", None),
            ("100%", None),
            ("%(program_name)d", None),
            ("%(program_name)", None),
        ] {
            assert_eq!(expand(text, &names).ok().as_deref(), want, "{text}");
        }
    }

    #[test]
    fn the_environment_is_left_for_later() {
        let names = |name: &str| Some(later(name.strip_prefix("ENV_")?));
        let text = expand("/x:%(ENV_PATH)s:%(ENV_home)s", &names).unwrap_or_default();
        assert_eq!(
            as_variable(&text),
            "/x:$(circus.env.PATH):$(circus.env.home)"
        );
        assert_eq!(as_dollar(&text), Err("home".to_owned()));
        let text = expand("/x:%(ENV_PATH)s:", &names).unwrap_or_default();
        assert_eq!(as_dollar(&text), Ok("/x:$PATH:".to_owned()));
        let text = expand("%(ENV_PATH)sX", &names).unwrap_or_default();
        assert_eq!(as_dollar(&text), Err("PATH".to_owned()));
        let one = vec![("A".to_owned(), text.clone())];
        assert_eq!(pairs(&format!("A={text}")), Ok(one));
    }

    #[test]
    fn sizes_and_pairs() {
        assert_eq!(byte_size("50MB"), Some(50 << 20));
        assert_eq!(byte_size("1kb"), Some(1024));
        assert_eq!(byte_size("7"), Some(7));
        assert_eq!(byte_size("x"), None);
        let got = |text: &str| pairs(text).ok();
        let want = |all: &[(&str, &str)]| {
            let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
            Some(all.iter().map(owned).collect::<Vec<_>>())
        };
        assert_eq!(
            got("A=\"1, 2\",B=/x:y, C='z'\n,D=\"\""),
            want(&[("A", "1, 2"), ("B", "/x:y"), ("C", "z"), ("D", "")])
        );
        assert_eq!(got(""), want(&[]));
        // Supervisor cuts this one off as well.
        assert_eq!(got("A=$x"), want(&[("A", "$")]));
        for bad in ["A", "A=", "A=\"x"] {
            assert_eq!(got(bad), None, "{bad}");
        }
    }
}
