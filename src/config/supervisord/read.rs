//! The dialect of supervisord.conf: Python's `configparser` as supervisor 4 sets it up (comments after white space with
//! `;` or `#`, the last value wins, keys without regard to case), and the lines that everything stands on. Pure.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::config::error::{ConfigError, Problem, ProblemKind, quoted};
use crate::config::pytext::{is_space, strip};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The text; `%(here)s` is replaced already.
    pub value: String,
    /// The file, as the user spelled it.
    pub file: PathBuf,
    /// The line of the key, counted from 1.
    pub line: usize,
}

/// One section of all files together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// The file of its first header.
    pub file: PathBuf,
    /// The line of that header, counted from 1.
    pub line: usize,
    /// The keys, in lower case.
    pub settings: IndexMap<String, Setting>,
}

/// A supervisord.conf with the files that were read into it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supervisord {
    /// In the order of their first headers.
    pub sections: IndexMap<String, Section>,
    /// The main file.
    pub main: PathBuf,
}

/// The lines of a value while they are collected.
struct Open {
    section: String,
    key: String,
}

impl Supervisord {
    /// Reads one more file on top of those read before. `shown` is what messages call it, `here` its directory.
    ///
    /// # Errors
    /// Every line that supervisor would refuse.
    pub fn read(&mut self, bytes: &[u8], shown: &Path, here: &Path) -> Result<(), ConfigError> {
        let problem =
            |line: usize, what: String| Problem::new(ProblemKind::Syntax, shown, what).at(line);
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let upto = &bytes[..error.valid_up_to()];
            let line = upto.iter().filter(|byte| **byte == b'\n').count() + 1;
            problem(line, "this is not UTF-8 text".to_owned())
        })?;
        if self.sections.is_empty() {
            self.main = shown.to_owned();
        }
        let mut problems = Vec::new();
        let mut section: Option<String> = None;
        let mut open: Option<Open> = None;
        let mut indent = 0;
        for (at, line) in text.lines().enumerate() {
            let number = at + 1;
            let comment = comment_start(line);
            let value = strip(&line[..comment.unwrap_or(line.len())]);
            if value.is_empty() {
                // An empty line belongs to the value above it, a comment does not.
                if comment.is_none() {
                    self.append(open.as_ref(), "");
                }
                continue;
            }
            let depth = line.chars().take_while(|c| is_space(*c)).count();
            if open.is_some() && depth > indent {
                self.append(open.as_ref(), value);
                continue;
            }
            indent = depth;
            if let Some(name) = header(value) {
                self.sections
                    .entry(name.to_owned())
                    .or_insert_with(|| Section {
                        file: shown.to_owned(),
                        line: number,
                        settings: IndexMap::new(),
                    });
                section = Some(name.to_owned());
                open = None;
                continue;
            }
            let Some(name) = &section else {
                let what = format!("{} stands before the first section", quoted(value));
                problems.push(problem(number, what));
                break;
            };
            match value.find(['=', ':']) {
                Some(end) if end > 0 => {
                    let key = value[..end].trim_end_matches(is_space).to_lowercase();
                    let setting = Setting {
                        value: strip(&value[end + 1..]).to_owned(),
                        file: shown.to_owned(),
                        line: number,
                    };
                    open = Some(Open {
                        section: name.clone(),
                        key: key.clone(),
                    });
                    if let Some(section) = self.sections.get_mut(name) {
                        section.settings.insert(key, setting);
                    }
                }
                _ => {
                    let what = format!("{} is neither `key=value` nor `[section]`", quoted(value));
                    problems.push(problem(number, what));
                }
            }
        }
        ConfigError::check(problems)?;
        let here = here.to_string_lossy();
        for setting in self.settings_mut().filter(|setting| setting.file == shown) {
            let trimmed = setting.value.trim_end_matches(is_space).len();
            setting.value.truncate(trimmed);
            if setting.value.contains("%(here)s") {
                setting.value = setting.value.replace("%(here)s", &here);
            }
        }
        Ok(())
    }

    fn settings_mut(&mut self) -> impl Iterator<Item = &mut Setting> {
        self.sections
            .values_mut()
            .flat_map(|section| section.settings.values_mut())
    }

    fn append(&mut self, open: Option<&Open>, text: &str) {
        let setting = open.and_then(|open| {
            self.sections
                .get_mut(&open.section)?
                .settings
                .get_mut(&open.key)
        });
        if let Some(setting) = setting {
            setting.value.push('\n');
            setting.value.push_str(text);
        }
    }

    /// A setting of a section, or else of `DEFAULT`.
    pub fn get(&self, section: &str, key: &str) -> Option<&Setting> {
        let own = self.sections.get(section)?.settings.get(key);
        own.or_else(|| self.sections.get("DEFAULT")?.settings.get(key))
    }

    /// The patterns of the files to be read after the main one, and where they are asked for.
    pub fn includes(&self) -> Option<(Vec<String>, &Setting)> {
        let setting = self.get("include", "files")?;
        let patterns = crate::config::pytext::words(&setting.value);
        Some((patterns.map(str::to_owned).collect(), setting))
    }
}

/// Where a comment begins, as a byte offset.
fn comment_start(line: &str) -> Option<usize> {
    if strip(line).starts_with(['#', ';']) {
        return Some(0);
    }
    let starts = |at: usize| at == 0 || line[..at].chars().next_back().is_some_and(is_space);
    // Python looks at the first `;` and the first `#`, then at the second of each, until one of them begins a comment.
    let mut semicolons = line.match_indices(';').map(|(at, _)| at);
    let mut hashes = line.match_indices('#').map(|(at, _)| at);
    loop {
        let round = [semicolons.next(), hashes.next()];
        if round == [None, None] {
            return None;
        }
        let first = round.into_iter().flatten().filter(|at| starts(*at)).min();
        if first.is_some() {
            return first;
        }
    }
}

fn header(value: &str) -> Option<&str> {
    let inner = value.strip_prefix('[')?;
    let name = &inner[..inner.rfind(']')?];
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dialect_in_small() {
        let text = "\
; comment
[program:x] ; why
command=a ;b
 ;c
  more
KEY : v;w # z
key2=1
key2=2

[supervisord]
 files = a
   b

[include]
files = %(here)s/*.conf
";
        let mut all = Supervisord::default();
        if let Err(error) = all.read(text.as_bytes(), Path::new("s.conf"), Path::new("/etc")) {
            panic!("{error}");
        }
        let get = |section: &str, key: &str| {
            let setting = all.get(section, key)?;
            Some((setting.value.as_str(), setting.line))
        };
        assert_eq!(get("program:x", "command"), Some(("a\nmore", 3)));
        assert_eq!(get("program:x", "key"), Some(("v;w", 6)));
        assert_eq!(get("program:x", "key2"), Some(("2", 8)));
        assert_eq!(get("supervisord", "files"), Some(("a\nb", 11)));
        assert_eq!(get("include", "files"), Some(("/etc/*.conf", 15)));
        let mut bad = Supervisord::default();
        let error = bad.read(b"[a]\nx\n= y\n", Path::new("s.conf"), Path::new("/"));
        let text = error.map_or_else(|error| error.to_string(), |()| String::new());
        assert!(
            text.contains("s.conf:2") && text.contains("s.conf:3"),
            "{text}"
        );
    }
}
