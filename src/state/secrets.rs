//! Secrets stay out of reports: the values of environment variables are masked, in diffs too, unless the caller asks to
//! see them. Which variable holds a secret cannot be told from its name, so every one of them is masked. Pure.

use serde_json::{Map, Value, json};

use crate::config::Document;

/// What stands in place of a value.
pub const MASK: &str = "********";
/// The same for a value that is another one than before.
pub const MASK_CHANGED: &str = "******** (changed)";

/// The key of a report is about an environment variable.
pub fn is_secret(key: &str) -> bool {
    key == "env" || key.starts_with("env.")
}

/// A value as a report shows it.
pub fn masked(key: &str, value: Value) -> Value {
    if !is_secret(key) {
        return value;
    }
    match value {
        Value::Null => Value::Null,
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(name, _)| (name, Value::from(MASK)))
                .collect(),
        ),
        _ => Value::from(MASK),
    }
}

/// `{"old", "new"}` of a change as a report shows it.
pub fn masked_change(key: &str, change: &Value) -> Value {
    if !is_secret(key) {
        return change.clone();
    }
    let side = |which: &str| change.get(which).cloned().unwrap_or(Value::Null);
    let (old, new) = (side("old"), side("new"));
    let differ = old != new && !old.is_null() && !new.is_null();
    let old = masked(key, old);
    let new = if differ {
        Value::from(MASK_CHANGED)
    } else {
        masked(key, new)
    };
    json!({"old": old, "new": new})
}

/// All values of a mapping by the names of their keys.
pub fn masked_map(map: &Map<String, Value>) -> Map<String, Value> {
    map.iter()
        .map(|(key, value)| (key.clone(), masked(key, value.clone())))
        .collect()
}

/// The texts of a file before and after, with every variable of every `[env]` section masked; one that differs is
/// marked, so that a diff still shows where.
///
/// A text that does not read as a configuration is not shown at all.
pub fn masked_texts(name: &str, before: &[u8], after: &[u8]) -> (String, String) {
    let parse = |bytes: &[u8]| Document::parse(bytes, name).ok();
    let old = parse(before);
    let (Some(new), false) = (parse(after), old.is_none() && !before.is_empty()) else {
        return (MASK.to_string(), MASK_CHANGED.to_string());
    };
    let same = |section: &str, key: &str, value: &str| {
        old.as_ref()
            .is_none_or(|old| old.get(section, key).is_none_or(|before| before == value))
    };
    let before = old
        .as_ref()
        .map(|old| mask_document(old.clone(), |_, _, _| MASK))
        .unwrap_or_default();
    let after = mask_document(new, |section, key, value| {
        if same(section, key, value) {
            MASK
        } else {
            MASK_CHANGED
        }
    });
    (before, after)
}

fn mask_document(
    mut document: Document,
    mask: impl Fn(&str, &str, &str) -> &'static str,
) -> String {
    let found: Vec<(String, String, &'static str)> = document
        .sections()
        .filter(|section| *section == "env" || section.starts_with("env:"))
        .flat_map(|section| {
            document
                .entries(section)
                .into_iter()
                .flatten()
                .filter(|(_, entry)| !entry.value.is_empty())
                .map(|(key, entry)| {
                    (
                        section.to_string(),
                        key.clone(),
                        mask(section, key, &entry.value),
                    )
                })
                .collect::<Vec<_>>()
        })
        .collect();
    for (section, key, mask) in found {
        if document.set(&section, &key, mask).is_err() {
            return MASK.to_string();
        }
    }
    if document.name().ends_with(".toml") {
        return mask_rest(&document.to_string(), '=', |header| {
            header == "env" || header.starts_with("env.") || header.ends_with(".env")
        });
    }
    mask_rest(&document.to_string(), '[', |header| {
        header == "env" || header.starts_with("env:")
    })
}

/// Repetitions that do not count, lines that continue them, and settings that were commented out may hold older secrets:
/// what still shows a value in a section of variables is masked too.
fn mask_rest(text: &str, other_separator: char, is_env: impl Fn(&str) -> bool) -> String {
    let mut inside = false;
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let body = line.trim_end_matches(['\n', '\r']);
        let eol = &line[body.len()..];
        let header = body.strip_prefix('[').filter(|_| body.contains(']'));
        if let Some(header) = header {
            inside = header
                .rsplit_once(']')
                .is_some_and(|(name, _)| is_env(name.trim()));
        }
        let masked = if !inside || header.is_some() || body.contains(MASK) || body.trim().is_empty()
        {
            None
        } else {
            let separator = body.find(|c| c == '=' || c == ':' && other_separator != '=');
            match separator {
                Some(at) if !body[at + 1..].trim().is_empty() => {
                    Some(format!("{} {MASK}", &body[..=at]))
                }
                None if body.starts_with([' ', '\t']) => Some(format!("    {MASK}")),
                _ => None,
            }
        };
        match masked {
            Some(masked) => out.push_str(&masked),
            None => out.push_str(body),
        }
        out.push_str(eol);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_environment_are_masked_and_nothing_else() {
        assert_eq!(masked("env.A", json!("x")), MASK);
        assert_eq!(masked("env.A", Value::Null), Value::Null);
        assert_eq!(masked("cmd", json!("x")), "x");
        assert_eq!(masked("env", json!({"A": "x"})), json!({"A": MASK}));
        assert_eq!(
            masked_change("env.A", &json!({"old": "x", "new": "y"})),
            json!({"old": MASK, "new": MASK_CHANGED})
        );
        assert_eq!(
            masked_change("env.A", &json!({"old": null, "new": "y"})),
            json!({"old": null, "new": MASK})
        );
    }

    #[test]
    fn a_diff_shows_where_a_secret_changed_and_not_what_it_is() {
        let before = b"[env:web]\nA = one\n  more\nB = two\n[watcher:web]\ncmd = two\n";
        let after = b"[env:web]\nA = other\nB = two\nC = new\n[watcher:web]\ncmd = two\n";
        let (before, after) = masked_texts("t.ini", before, after);
        let old = b"[env]\nA = x\nA = old\n  older\n# B = oldest\n# a comment\n[b]\nA = y\n";
        assert_eq!(
            masked_texts("t.ini", old, old).0,
            "[env]\nA = ********\nA = ********\n# B = ********\n# a comment\n[b]\nA = y\n"
        );
        assert_eq!(
            before,
            "[env:web]\nA = ********\nB = ********\n[watcher:web]\ncmd = two\n"
        );
        assert_eq!(
            after,
            "[env:web]\nA = ******** (changed)\nB = ********\nC = ********\n[watcher:web]\ncmd = two\n"
        );
    }
}
