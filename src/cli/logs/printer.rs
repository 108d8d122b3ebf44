//! Lines of several outputs on one screen: each with the name of its watcher, in its colour, or as JSON.

use std::io::IsTerminal;

use serde_json::json;

use super::outlets::{Outlet, Place, Which};
use crate::cli::output;

/// Colours of names: those that can be read on dark and on light.
const COLOURS: [&str; 6] = ["36", "33", "32", "35", "34", "31"];

/// The longest line that is held back until its end is there, in bytes; a longer one is shown in pieces.
const LONGEST: usize = 1 << 20;

/// Writes to standard output.
pub struct Printer {
    outputs: Vec<Output>,
    json: bool,
    /// Whether lines have names before them; bytes pass as they are if not.
    named: bool,
}

struct Output {
    watcher: String,
    stream: Option<&'static str>,
    file: Option<String>,
    label: String,
    /// The beginning of a line whose end has not come.
    pending: Vec<u8>,
}

impl Printer {
    /// For these outputs, which are from now on meant by their index.
    pub fn new<'a>(outlets: impl Iterator<Item = &'a Outlet>, json: bool, bare: bool) -> Printer {
        let outlets: Vec<&Outlet> = outlets.collect();
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| value != "0");
        let terminal = std::io::stdout().is_terminal() || is_set("CLICOLOR_FORCE");
        let colour = terminal && std::env::var_os("NO_COLOR").is_none();
        let labels = labels(&outlets);
        let width = labels.iter().map(|l| l.chars().count()).max().unwrap_or(0);
        let mut seen: Vec<&str> = Vec::new();
        let mut outputs = Vec::new();
        for (outlet, label) in outlets.iter().zip(labels) {
            let number = seen.iter().position(|name| *name == outlet.watcher);
            let number = number.unwrap_or_else(|| {
                seen.push(&outlet.watcher);
                seen.len() - 1
            });
            let label = format!("{label:<width$} |");
            outputs.push(Output {
                watcher: outlet.watcher.clone(),
                stream: outlet.which.map(Which::name),
                file: match &outlet.place {
                    Place::File(path) => Some(path.display().to_string()),
                    _ => None,
                },
                label: match colour {
                    true => format!("\x1b[{}m{label}\x1b[0m ", COLOURS[number % COLOURS.len()]),
                    false => format!("{label} "),
                },
                pending: Vec::new(),
            });
        }
        let named = outputs.len() > 1 && !bare;
        Printer {
            outputs,
            json,
            named,
        }
    }

    /// More of an output; false when nobody reads.
    pub fn put(&mut self, index: usize, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        if !self.json && !self.named && self.outputs.len() == 1 {
            return output::bytes(bytes);
        }
        let Some(from) = self.outputs.get_mut(index) else {
            return true;
        };
        from.pending.extend_from_slice(bytes);
        let end = match from.pending.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if from.pending.len() > LONGEST => from.pending.len(),
            None => return true,
        };
        let rest = from.pending.split_off(end);
        let lines = std::mem::replace(&mut from.pending, rest);
        self.lines(index, &lines)
    }

    /// The output has ended for now: what is left of it is a line; false when nobody reads.
    pub fn end(&mut self, index: usize) -> bool {
        let Some(from) = self.outputs.get_mut(index) else {
            return true;
        };
        let left = std::mem::take(&mut from.pending);
        left.is_empty() || self.lines(index, &left)
    }

    /// All outputs have ended.
    pub fn finish(&mut self) {
        for index in 0..self.outputs.len() {
            self.end(index);
        }
    }

    fn lines(&self, index: usize, bytes: &[u8]) -> bool {
        let Some(from) = self.outputs.get(index) else {
            return true;
        };
        let mut text = Vec::with_capacity(bytes.len() + 64);
        for line in bytes
            .strip_suffix(b"\n")
            .unwrap_or(bytes)
            .split(|byte| *byte == b'\n')
        {
            if self.json {
                let line = String::from_utf8_lossy(line);
                let object = json!({
                    "watcher": from.watcher, "stream": from.stream, "file": from.file, "line": line,
                });
                text.extend_from_slice(object.to_string().as_bytes());
            } else {
                if self.named {
                    text.extend_from_slice(from.label.as_bytes());
                }
                text.extend_from_slice(line);
            }
            text.push(b'\n');
        }
        output::bytes(&text)
    }
}

/// A short name for each output: the watcher's, with `err` behind it if it has its own place for errors; all names of
/// those that share a file.
fn labels(outlets: &[&Outlet]) -> Vec<String> {
    let label = |outlet: &&Outlet| {
        let mut label = outlet.watcher.clone();
        let apart = outlets
            .iter()
            .filter(|o| o.watcher == outlet.watcher)
            .count()
            > 1;
        if apart && outlet.which == Some(Which::Stderr) {
            label.push_str(" err");
        }
        for other in &outlet.others {
            label.push_str(&format!("+{other}"));
        }
        label
    };
    outlets.iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_have_short_names() {
        let outlet = |watcher: &str, which, others: &[&str]| Outlet {
            watcher: watcher.into(),
            which,
            others: others.iter().map(|o| o.to_string()).collect(),
            place: Place::Memory("x".into()),
        };
        let all = [
            outlet("web", Some(Which::Stdout), &[]),
            outlet("web", Some(Which::Stderr), &[]),
            outlet("api", Some(Which::Stderr), &[]),
            outlet("db", None, &["cache"]),
        ];
        let all: Vec<&Outlet> = all.iter().collect();
        assert_eq!(labels(&all), ["web", "web err", "api", "db+cache"]);
    }
}
