//! From a source to a draft: reads files, directories, standard input, and what `include` names.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::draft::{Draft, Include};
use super::{DocumentError, DocumentProblem, Format, Place, Source};
use crate::config::{Variables, pattern, quoted};

/// The draft of a source, and what to call it.
pub fn read(source: &Source, cwd: &Path) -> Result<(String, Draft), DocumentError> {
    match source {
        Source::Stdin(format) => {
            let mut bytes = Vec::new();
            let unreadable = |error| {
                let what = format!("cannot read standard input: {error}");
                DocumentError::one(whole("-"), what)
            };
            std::io::stdin()
                .read_to_end(&mut bytes)
                .map_err(unreadable)?;
            if bytes.iter().all(u8::is_ascii_whitespace) {
                let what = "standard input is empty: a desired state in TOML, JSON or as a circus.ini is expected";
                return Err(DocumentError::one(whole("-"), what));
            }
            let draft = Draft::of_bytes(&bytes, "-", *format)?;
            Ok(("-".to_string(), with_includes(draft, Path::new("-"), cwd)?))
        }
        Source::Path(path) => {
            let origin = path.to_string_lossy().into_owned();
            let draft = match cwd.join(path).is_dir() {
                true => directory(path, cwd)?,
                false => file(path, cwd)?,
            };
            Ok((origin, draft))
        }
    }
}

fn whole(file: &str) -> Place {
    Place {
        file: file.to_string(),
        line: None,
    }
}

/// One file with what it includes.
fn file(path: &Path, cwd: &Path) -> Result<Draft, DocumentError> {
    with_includes(alone(path, cwd)?, path, cwd)
}

fn alone(path: &Path, cwd: &Path) -> Result<Draft, DocumentError> {
    let name = path.to_string_lossy();
    let bytes = std::fs::read(cwd.join(path)).map_err(|error| {
        DocumentError::one(
            whole(&name),
            format!("cannot read the desired state: {error}"),
        )
    })?;
    Draft::of_bytes(&bytes, &name, Format::of_name(path))
}

/// All documents of a directory, sorted by name. Nothing may stand in two of them.
fn directory(dir: &Path, cwd: &Path) -> Result<Draft, DocumentError> {
    let unreadable = |error: std::io::Error| {
        let what = format!("cannot read the directory: {error}");
        DocumentError::one(whole(&dir.to_string_lossy()), what)
    };
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(cwd.join(dir)).map_err(unreadable)? {
        let name = PathBuf::from(entry.map_err(unreadable)?.file_name());
        let hidden = name.to_string_lossy().starts_with('.');
        if !hidden && Format::of_name(&name).is_some() && !cwd.join(dir).join(&name).is_dir() {
            names.push(name);
        }
    }
    names.sort();
    let mut all = Draft::default();
    let mut problems: Vec<DocumentProblem> = Vec::new();
    if names.is_empty() {
        all.warnings.push(format!(
            "{}: the directory holds no *.toml, *.json, *.ini or *.conf, so nothing is wanted",
            dir.display()
        ));
    }
    for name in names {
        match file(&dir.join(name), cwd) {
            Ok(draft) => all.join(draft, &mut problems),
            Err(error) => problems.extend(error.problems),
        }
    }
    DocumentError::check(problems)?;
    Ok(all)
}

/// Lays the files that a document includes under it. Those that they include themselves are not read, as in Circus.
fn with_includes(mut draft: Draft, main: &Path, cwd: &Path) -> Result<Draft, DocumentError> {
    let includes = std::mem::take(&mut draft.includes);
    if includes.is_empty() {
        return Ok(draft);
    }
    let mut environ = Variables::new();
    let pairs = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    environ.set_group("env", pairs);
    let dir = main.parent().unwrap_or(Path::new(""));
    let mut problems: Vec<DocumentProblem> = Vec::new();
    for include in includes {
        for path in included(
            &mut draft,
            &include,
            &environ,
            dir,
            main,
            cwd,
            &mut problems,
        ) {
            match alone(&path, cwd) {
                Ok(other) => draft.absorb(other),
                Err(error) => problems.extend(error.problems),
            }
        }
    }
    DocumentError::check(problems)?;
    Ok(draft)
}

fn included(
    draft: &mut Draft,
    include: &Include,
    environ: &Variables,
    dir: &Path,
    main: &Path,
    cwd: &Path,
    problems: &mut Vec<DocumentProblem>,
) -> Vec<PathBuf> {
    let asked = dir.join(environ.expand(&include.word));
    if include.directory {
        let suffixes: &[&str] = match Format::of_name(main) {
            Some(Format::Json) => &["*.ini", "*.toml", "*.json"],
            Some(Format::Toml) => &["*.ini", "*.toml"],
            _ => &["*.ini"],
        };
        let mut paths: Vec<PathBuf> = suffixes
            .iter()
            .flat_map(|suffix| pattern::glob(&asked.join(suffix), cwd))
            .collect();
        paths.sort();
        return paths;
    }
    let paths = pattern::glob(&asked, cwd);
    if paths.is_empty() {
        let what = format!("{} leads to no file", quoted(&include.word));
        if include.word.contains(['*', '?', '[']) {
            draft
                .warnings
                .push(format!("{}: include: {what}", include.place));
        } else {
            // What a missing file names would be taken for unwanted.
            problems.push(DocumentProblem {
                place: include.place.clone(),
                path: "circus.include".to_string(),
                what: format!("{what}; relative paths start from the directory of this file"),
            });
        }
    }
    paths
}
