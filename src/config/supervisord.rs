//! From a supervisord.conf to a circus.ini. Source of the meanings: the manual and the source of supervisor 4.3.
//!
//! | supervisord.conf | circus.ini |
//! |---|---|
//! | `[program:x]` | `[watcher:x]`, with `copy_env = True`: supervisord hands its environment on |
//! | `[fcgi-program:x]` | `[watcher:x]` and `[socket:x]`, which the workers find at descriptor 0 |
//! | `environment` | `[env:x]`, that of `[supervisord]` is `[env]` |
//! | `numprocs` | `numprocesses`; a watcher for each process if `process_num` makes them differ |
//! | `priority`, lowest first | `priority`, highest first: 999, the default there, is 0 here |
//! | `stopwaitsecs`, `stopsignal`, `stopasgroup` | `graceful_timeout`, `stop_signal`, `stop_children` |
//! | `stdout_logfile` … | `stdout_stream.filename` … |
//! | `%(ENV_X)s` | `$(circus.env.X)`: replaced when the configuration is read, as there |
//!
//! What has no place in a circus.ini becomes a [`Note`] with its file and line; nothing is left out in silence. This file
//! and those below it are pure: they read and write no file.

mod daemon;
mod program;
mod read;
mod values;

use std::fmt;
use std::path::{Path, PathBuf};

use super::document::Document;
use super::error::{ConfigError, Problem, ProblemKind};

pub use read::{Section, Setting, Supervisord};

/// Something that is not carried over, or not quite as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The file, as the user spelled it.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// The section.
    pub section: String,
    /// The key, if it is about one.
    pub key: Option<String>,
    /// What becomes of it.
    pub what: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: [{}]",
            self.file.display(),
            self.line,
            self.section
        )?;
        if let Some(key) = &self.key {
            write!(f, " {key}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// A converted configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The circus.ini.
    pub document: Document,
    /// What it does not say.
    pub notes: Vec<Note>,
}

/// What a conversion depends on beside the files.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The name of this host, for `%(host_node_name)s`.
    pub host: &'a str,
    /// One watcher for all processes of a program, also if `process_num` makes their commands differ:
    /// `$(circus.wid)` takes its place, which counts from 1.
    pub by_wid: bool,
}

/// Converts what was read.
///
/// # Errors
/// Everything that supervisor would refuse, too.
pub fn convert(source: &Supervisord, around: Surroundings) -> Result<Converted, ConfigError> {
    let mut work = Work {
        source,
        around,
        sections: Vec::new(),
        notes: Vec::new(),
        problems: Vec::new(),
        global_env: Vec::new(),
    };
    work.daemon();
    work.programs();
    work.rest();
    ConfigError::check(work.problems)?;
    let mut document = Document::empty(&source.main.to_string_lossy());
    let mut notes = work.notes;
    for (section, pairs) in &work.sections {
        write(&mut document, source, section, pairs, &mut notes)?;
    }
    let place = |note: &Note| (note.file != source.main, note.file.clone(), note.line);
    notes.sort_by_cached_key(place);
    notes.dedup();
    Ok(Converted { document, notes })
}

/// Adds a section; a value that circus.ini has no spelling for is left out and noted.
fn write(
    document: &mut Document,
    source: &Supervisord,
    section: &str,
    pairs: &[(String, String)],
    notes: &mut Vec<Note>,
) -> Result<(), ConfigError> {
    let all: Vec<(&str, &str)> = pairs
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    if document.add_section(section, &all).is_ok() {
        return Ok(());
    }
    document.add_section(section, &[])?;
    for (key, value) in all {
        if let Err(error) = document.set(section, key, value) {
            notes.push(Note {
                file: source.main.clone(),
                line: 1,
                section: section.to_owned(),
                key: Some(key.to_owned()),
                what: error
                    .problems
                    .first()
                    .map_or(String::new(), |problem| problem.what.clone()),
            });
        }
    }
    Ok(())
}

impl Converted {
    /// The circus.ini, with the notes as comments at its top.
    pub fn text(&self, from: &Path) -> String {
        let mut out = format!("# Converted from {}.\n", from.display());
        if !self.notes.is_empty() {
            out.push_str("# What is not carried over, or not quite as it was:\n");
        }
        for note in &self.notes {
            out.push_str(&format!(
                "#   {}\n",
                note.to_string().replace(['\n', '\r'], " ")
            ));
        }
        out.push('\n');
        out.push_str(&self.document.to_string());
        out
    }
}

/// A conversion under way.
struct Work<'a> {
    source: &'a Supervisord,
    around: Surroundings<'a>,
    sections: Vec<(String, Vec<(String, String)>)>,
    notes: Vec<Note>,
    problems: Vec<Problem>,
    /// The environment of `[supervisord]`.
    global_env: Vec<(String, String)>,
}

impl Work<'_> {
    fn note(&mut self, section: &str, key: Option<&str>, what: impl Into<String>) {
        let place = key
            .and_then(|key| self.source.get(section, key))
            .map(|setting| (setting.file.clone(), setting.line))
            .or_else(|| {
                let section = self.source.sections.get(section)?;
                Some((section.file.clone(), section.line))
            });
        let (file, line) = place.unwrap_or_else(|| (self.source.main.clone(), 1));
        self.notes.push(Note {
            file,
            line,
            section: section.to_owned(),
            key: key.map(str::to_owned),
            what: what.into(),
        });
    }

    fn problem(&mut self, section: &str, key: &str, what: impl Into<String>) {
        let mut problem = match self.source.get(section, key) {
            Some(setting) => Problem::new(ProblemKind::Value, &setting.file, what).at(setting.line),
            None => match self.source.sections.get(section) {
                Some(own) => Problem::new(ProblemKind::Rule, &own.file, what).at(own.line),
                None => Problem::new(ProblemKind::Rule, &self.source.main, what),
            },
        };
        problem = problem.section(section);
        if self.source.get(section, key).is_some() {
            problem = problem.key(key);
        }
        self.problems.push(problem);
    }

    /// Sections that nothing here reads.
    fn rest(&mut self) {
        let names: Vec<String> = self.source.sections.keys().cloned().collect();
        for name in names {
            let (kind, _) = name.split_once(':').unwrap_or((&name, ""));
            let what = match kind {
                "supervisord" | "program" | "fcgi-program" | "include" | "unix_http_server"
                | "DEFAULT" => continue,
                "group" => {
                    let programs = self.source.get(&name, "programs");
                    let programs = programs.map_or(String::new(), |programs| programs.value.clone());
                    if self.source.get(&name, "priority").is_some() {
                        self.note(&name, Some("priority"), "groups have no order of their own");
                    }
                    format!("there are no groups; a command takes the watchers' names or a pattern ({programs})")
                }
                "eventlistener" => {
                    "supervisord's event protocol is not spoken; `circ listen` and the endpoint for events tell the same"
                        .to_owned()
                }
                "inet_http_server" => {
                    "there is no XML-RPC or web interface of supervisord; control goes through [circus] endpoint"
                        .to_owned()
                }
                "supervisorctl" => {
                    "`circ` takes the endpoint from --config, --endpoint or CIRCUSCTL_ENDPOINT".to_owned()
                }
                "rpcinterface" | "ctlplugin" => "plugins of supervisor are not run".to_owned(),
                _ => "nothing is known of this section".to_owned(),
            };
            self.note(&name, None, what);
        }
    }
}
