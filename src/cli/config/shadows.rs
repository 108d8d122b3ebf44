//! Lines that are not read because an earlier one counts, over all files of a configuration. Pure.

use std::path::PathBuf;

use super::opened::{OpenFile, Opened};

/// A line that is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// The section.
    pub section: String,
    /// The key.
    pub key: String,
    /// The file, as the user spelled it.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
}

/// Every such line, in the order of the files.
pub fn all(opened: &Opened) -> Vec<Shadow> {
    let mut found = Vec::new();
    for (at, file) in opened.files.iter().enumerate() {
        let mut here: Vec<Shadow> = file
            .document
            .shadowed()
            .into_iter()
            .map(|one| shadow(file, one.section, one.key, one.line))
            .collect();
        for section in file.document.sections() {
            for (key, entry) in file.document.entries(section).into_iter().flatten() {
                let earlier = |before: &OpenFile| before.document.get(section, key).is_some();
                if opened.files[..at].iter().any(earlier) {
                    here.push(shadow(file, section.to_owned(), key.clone(), entry.line));
                }
            }
        }
        here.sort_by_key(|shadow| shadow.line);
        found.append(&mut here);
    }
    found
}

fn shadow(file: &OpenFile, section: String, key: String, line: usize) -> Shadow {
    Shadow {
        section,
        key,
        file: file.shown.clone(),
        line,
    }
}
