//! The values of `[env]` sections are kept out of what is printed. Pure.

use similar::{ChangeTag, TextDiff};

/// What stands in the place of a secret.
pub const MASK: &str = "********";

/// The two texts of a diff with the values of their environment sections masked. A line that differs keeps differing.
pub fn masked(before: &str, after: &str) -> (String, String) {
    let (mut old, mut new) = (String::new(), String::new());
    let mut old_state = Lines::default();
    let mut new_state = Lines::default();
    for change in TextDiff::from_lines(before, after).iter_all_changes() {
        let line = change.value();
        match change.tag() {
            ChangeTag::Equal => {
                old.push_str(&old_state.next(line, ""));
                new.push_str(&new_state.next(line, ""));
            }
            ChangeTag::Delete => old.push_str(&old_state.next(line, " (old)")),
            ChangeTag::Insert => new.push_str(&new_state.next(line, " (new)")),
        }
    }
    (old, new)
}

/// What is known of the lines above.
#[derive(Default)]
struct Lines {
    in_env: bool,
}

impl Lines {
    /// The line as it may be shown; `mark` follows a mask.
    fn next(&mut self, line: &str, mark: &str) -> String {
        let text = line.trim_end_matches(['\n', '\r']);
        let eol = &line[text.len()..];
        if text.starts_with('[') && text.contains(']') {
            self.in_env = is_env(text);
            return line.to_owned();
        }
        if text.trim().is_empty() || text.starts_with(['#', ';']) {
            return line.to_owned();
        }
        let separator = text.find(['=', ':']);
        let key = separator.map(|at| text[..at].trim());
        if !self.in_env && key != Some("env") {
            return line.to_owned();
        }
        // A line that continues a value is secret as a whole.
        let shown = match separator.filter(|_| !text.starts_with([' ', '\t'])) {
            Some(at) => {
                let value = text[at + 1..].trim_start();
                &text[..text.len() - value.len()]
            }
            None => &text[..text.len() - text.trim_start().len()],
        };
        format!("{shown}{MASK}{mark}{eol}")
    }
}

/// `[env]`, `[env:web]`, and as TOML spells them `[env."web"]`, `["env:web"]`, `[watcher.web.env]`.
fn is_env(header: &str) -> bool {
    let name = &header[1..header.rfind(']').unwrap_or(header.len())];
    let name = name.trim_matches(['[', ']', '"', '\'', ' ']);
    name == "env" || name.starts_with("env:") || name.starts_with("env.") || name.ends_with(".env")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_left() {
        let before = "[watcher:a]\ncmd = x\n[env:a]\n# why\nTOKEN = old=1\n  secret two\nB: secret\n[socket:s]\nport = 1\n";
        let after = before.replace("old=1", "new=2");
        let (old, new) = masked(before, &after);
        assert_eq!(
            old,
            "[watcher:a]\ncmd = x\n[env:a]\n# why\nTOKEN = ******** (old)\n  ********\nB: ********\n[socket:s]\nport = 1\n"
        );
        assert_eq!(new, old.replace("(old)", "(new)"));
        let toml = "[watcher.a]\nenv = { A = \"secret\" }\n[watcher.a.env]\nB = \"secret\"\n[env.\"*\"]\nC = 'secret'\n";
        let (old, _) = masked(toml, toml);
        assert!(!old.contains("secret"), "{old}");
    }
}
