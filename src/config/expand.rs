//! Variables in configuration texts: `$(circus.NAME)`, `((circus.NAME))` and, for sockets, the older
//! `${socket:NAME}`. Source: `circus.util.replace_gnu_args`.
//!
//! Names are compared without regard to case. A variable that is not known stays in the text as it
//! is: the same text is expanded several times, each time with more variables.

use std::collections::HashMap;

/// The variables known at one point: dotted names without regard to case, and their texts.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// Keys in lower case, with their `circus.`.
    texts: HashMap<String, String>,
}

impl Variables {
    /// No variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `circus.NAME`; a name that differs only in case is replaced.
    pub fn set(&mut self, name: &str, text: impl Into<String>) {
        self.texts
            .insert(format!("circus.{}", name.to_lowercase()), text.into());
    }

    /// Sets `circus.GROUP.NAME` for each pair.
    pub fn set_group<K: AsRef<str>, V: Into<String>>(
        &mut self,
        group: &str,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) {
        for (name, text) in pairs {
            self.set(&format!("{group}.{}", name.as_ref()), text);
        }
    }

    /// The text of `circus.NAME`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let full = format!("circus.{}", name.to_lowercase());
        self.texts.get(&full).map(String::as_str)
    }

    /// Does the text hold anything that could be a variable?
    pub fn may_be_in(text: &str) -> bool {
        ["$(", "((", "${socket:"]
            .iter()
            .any(|open| text.contains(open))
    }

    /// Replaces every known variable in `text`, once: what comes in is not expanded again.
    pub fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(['$', '(']) {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let Some((length, name)) = reference(rest) else {
                // Neither `$` nor `(` can be the second byte of a longer character.
                out.push_str(&rest[..1]);
                rest = &rest[1..];
                continue;
            };
            match self.texts.get(&name) {
                Some(text) => out.push_str(text),
                None => out.push_str(&rest[..length]),
            }
            rest = &rest[length..];
        }
        out.push_str(rest);
        out
    }

    /// The references in `text` that name nothing, as they are written.
    pub fn unknown<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut found = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['$', '(']) {
            rest = &rest[at..];
            let length = match reference(rest) {
                Some((length, name)) => {
                    if !self.texts.contains_key(&name) {
                        found.push(&rest[..length]);
                    }
                    length
                }
                None => 1,
            };
            rest = &rest[length..];
        }
        found
    }
}

/// The reference that `text` starts with: its length and the full lower-case name it asks for.
fn reference(text: &str) -> Option<(usize, String)> {
    if let Some(inner) = text.strip_prefix("${socket:") {
        let name = &inner[..inner.find('}')?];
        let length = text.len() - inner.len() + name.len() + 1;
        return (!name.is_empty())
            .then(|| (length, format!("circus.sockets.{}", name.to_lowercase())));
    }
    let (inner, close) = if let Some(inner) = text.strip_prefix("$(") {
        (inner, ")")
    } else {
        (text.strip_prefix("((")?, "))")
    };
    const PREFIX: &str = "circus.";
    let head = inner.get(..PREFIX.len())?;
    if !head.eq_ignore_ascii_case(PREFIX) {
        return None;
    }
    let tail = &inner[PREFIX.len()..];
    let in_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
    let name = &tail[..tail.find(|c| !in_name(c)).unwrap_or(tail.len())];
    if name.is_empty() || !tail[name.len()..].starts_with(close) {
        return None;
    }
    let length = text.len() - tail.len() + name.len() + close.len();
    let name = name.to_lowercase();
    // Circus adds its prefix only where the name does not begin with the prefix's letters already.
    let full = if name.starts_with("circus") {
        name
    } else {
        format!("{PREFIX}{name}")
    };
    Some((length, full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_replaced_and_the_unknown_stays() {
        let mut variables = Variables::new();
        variables.set("wid", "3");
        variables.set_group("env", [("HOME", "/root")]);
        variables.set_group("sockets", [("web", "7")]);
        for (text, want) in [
            ("$(circus.wid)", "3"),
            ("a((CIRCUS.WID))b", "a3b"),
            ("$(circus.env.Home)/x", "/root/x"),
            ("--fd ${socket:web} ${socket:Web}", "--fd 7 7"),
            ("${socket:db}", "${socket:db}"),
            ("$(circus.nope)", "$(circus.nope)"),
            ("$(circus.wid", "$(circus.wid"),
            ("((circus.wid)", "((circus.wid)"),
            ("(((circus.wid)))", "(3)"),
            ("$((circus.wid))", "$3"),
            ("$$(circus.wid)", "$3"),
            ("$(circus.circus.wid)", "3"),
            ("$(circus.circuswid)", "$(circus.circuswid)"),
            ("$(wid) $(circus.)", "$(wid) $(circus.)"),
            ("é$(circus.wid)é", "é3é"),
            ("$(circus.é", "$(circus.é"),
        ] {
            assert_eq!(variables.expand(text), want, "{text}");
        }
    }
}
