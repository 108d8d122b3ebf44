//! `[program:x]` and `[fcgi-program:x]`: which watchers they become.

mod each;
mod watcher;

use std::collections::HashMap;

use super::Work;
use super::values::{self, Known};
use crate::config::pytext;
use each::Each;

/// The keys that are taken over below.
const TAKEN: &[&str] = &[
    "command",
    "process_name",
    "numprocs",
    "numprocs_start",
    "priority",
    "autostart",
    "autorestart",
    "startsecs",
    "startretries",
    "exitcodes",
    "stopsignal",
    "stopwaitsecs",
    "stopasgroup",
    "killasgroup",
    "user",
    "redirect_stderr",
    "stdout_logfile",
    "stdout_logfile_maxbytes",
    "stdout_logfile_backups",
    "stderr_logfile",
    "stderr_logfile_maxbytes",
    "stderr_logfile_backups",
    "environment",
    "directory",
    "umask",
    "socket",
    "socket_backlog",
    "socket_owner",
    "socket_mode",
];

/// Keys that have no counterpart, and why.
const LEFT: &[(&str, &str)] = &[
    (
        "stdout_capture_maxbytes",
        "supervisord's event protocol is not spoken",
    ),
    (
        "stderr_capture_maxbytes",
        "supervisord's event protocol is not spoken",
    ),
    (
        "stdout_events_enabled",
        "supervisord's event protocol is not spoken",
    ),
    (
        "stderr_events_enabled",
        "supervisord's event protocol is not spoken",
    ),
    ("stdout_syslog", "output to syslog is not there yet"),
    ("stderr_syslog", "output to syslog is not there yet"),
    (
        "serverurl",
        "there is no XML-RPC; SUPERVISOR_SERVER_URL is not set",
    ),
];

type Pairs = Vec<(String, String)>;

/// A program being converted.
struct Program {
    section: String,
    name: String,
    group: String,
}

impl Work<'_> {
    pub(super) fn programs(&mut self) {
        let groups = self.groups();
        let names: Vec<String> = self.source.sections.keys().cloned().collect();
        let mut taken: HashMap<String, String> = HashMap::new();
        for section in names {
            let Some((kind @ ("program" | "fcgi-program"), name)) = section.split_once(':') else {
                continue;
            };
            let name = pytext::strip(name).to_owned();
            if name.is_empty() || name.contains([' ', ':', '/']) {
                self.problem(&section, "", format!("{name:?} is no name of a program"));
                continue;
            }
            let program = Program {
                group: groups.get(&name).cloned().unwrap_or_else(|| name.clone()),
                section: section.clone(),
                name,
            };
            let fcgi = kind == "fcgi-program";
            self.program(&program, fcgi, &mut taken);
        }
        self.general_notes();
    }

    /// The group of each program that is in one.
    fn groups(&mut self) -> HashMap<String, String> {
        let mut groups = HashMap::new();
        let sections: Vec<String> = self.source.sections.keys().cloned().collect();
        for section in sections {
            let Some(group) = section.strip_prefix("group:") else {
                continue;
            };
            let programs = self.source.get(&section, "programs");
            let Some(programs) = programs.map(|programs| programs.value.clone()) else {
                continue;
            };
            for program in programs.split(',').map(pytext::strip) {
                let known = |kind: &str| {
                    self.source
                        .sections
                        .contains_key(&format!("{kind}:{program}"))
                };
                if !known("program") && !known("fcgi-program") {
                    self.problem(
                        &section,
                        "programs",
                        format!("there is no program {program:?}"),
                    );
                }
                groups.insert(program.to_owned(), group.to_owned());
            }
        }
        groups
    }

    /// What holds for every program and would be tedious to read for each.
    fn general_notes(&mut self) {
        let is_program =
            |name: &&String| name.starts_with("program:") || name.starts_with("fcgi-program:");
        let programs: Vec<String> = self
            .source
            .sections
            .keys()
            .filter(is_program)
            .cloned()
            .collect();
        let unexpected: Vec<&str> = programs
            .iter()
            .filter(|section| {
                self.source
                    .get(section, "autorestart")
                    .is_none_or(|setting| setting.value.eq_ignore_ascii_case("unexpected"))
            })
            .filter_map(|section| Some(section.split_once(':')?.1))
            .collect();
        let unnamed: Vec<&str> = programs
            .iter()
            .filter(|section| {
                self.source
                    .get(section, "stdout_logfile")
                    .is_none_or(|setting| setting.value.eq_ignore_ascii_case("auto"))
            })
            .filter_map(|section| Some(section.split_once(':')?.1))
            .collect();
        let Some(first) = programs.first() else {
            return;
        };
        let mut general = Vec::new();
        if !unexpected.is_empty() {
            general.push(format!(
                "autorestart=unexpected, the default, leaves a program alone that ends with an expected code; here \
                 it is started again: {}",
                unexpected.join(", ")
            ));
        }
        if !unnamed.is_empty() {
            general.push(format!(
                "without stdout_logfile the output goes where the daemon's own goes, not to a file in childlogdir: {}",
                unnamed.join(", ")
            ));
        }
        general.push(
            "the variables SUPERVISOR_… are not set in the environment of the workers".to_owned(),
        );
        for what in general {
            self.note(first, None, what);
        }
    }

    fn program(&mut self, program: &Program, fcgi: bool, taken: &mut HashMap<String, String>) {
        let section = &program.section;
        let keys: Vec<String> = self
            .source
            .sections
            .get(section)
            .map_or(Vec::new(), |own| own.settings.keys().cloned().collect());
        for key in &keys {
            if let Some((_, why)) = LEFT.iter().find(|(name, _)| name == key) {
                self.note(section, Some(key), *why);
            } else if !TAKEN.contains(&key.as_str()) {
                self.note(section, Some(key), "nothing is known of this key");
            }
        }
        let count = self.integer(program, "numprocs", 1).max(0);
        let start = self.integer(program, "numprocs_start", 0);
        let process_name = self
            .source
            .get(section, "process_name")
            .map_or("%(program_name)s".to_owned(), |setting| {
                setting.value.clone()
            });
        if count > 1 && !process_name.contains("%(process_num)") {
            self.problem(
                section,
                "numprocs",
                "with several processes, process_name must hold %(process_num)d",
            );
            return;
        }
        let mut each = Vec::new();
        for number in start..start.saturating_add(count) {
            match self.each(program, &process_name, Known::Number(number), count) {
                Some(one) => each.push(one),
                None => return,
            }
        }
        let Some(first) = each.first().cloned() else {
            self.note(section, Some("numprocs"), "runs nothing");
            return;
        };
        let common = self.common(program);
        let socket = fcgi.then(|| self.socket(program)).flatten();
        let differing = each.iter().find_map(|one| first.differs(one));
        let watchers: Vec<(String, i64, Each)> = match differing {
            None => vec![(program.name.clone(), count, first)],
            Some("command") if start == 1 || self.around.by_wid => {
                match self.by_wid(program, &process_name, start, count) {
                    Some(one) => vec![(program.name.clone(), count, one)],
                    None => each
                        .into_iter()
                        .map(|one| (one.name.clone(), 1, one))
                        .collect(),
                }
            }
            Some(key) => {
                self.note(
                    section,
                    Some("numprocs"),
                    format!(
                        "each process is a watcher of its own, because {key} differs by process_num"
                    ),
                );
                each.into_iter()
                    .map(|one| (one.name.clone(), 1, one))
                    .collect()
            }
        };
        for (name, count, one) in watchers {
            if let Some(first) = taken.insert(name.to_lowercase(), section.clone()) {
                self.problem(
                    section,
                    "",
                    format!(
                        "[{first}] makes a watcher {name:?} already (names do not distinguish case)"
                    ),
                );
                return;
            }
            self.watcher(program, &name, count, one, &common, socket.as_deref());
        }
    }

    /// One watcher for all, with `$(circus.wid)` for the number; nothing if more than the command depends on it.
    fn by_wid(
        &mut self,
        program: &Program,
        process_name: &str,
        start: i64,
        count: i64,
    ) -> Option<Each> {
        let before = self.problems.len();
        let wid = Known::Later("$(circus.wid)".to_owned());
        let one = self.each(program, process_name, wid, count);
        // A number with leading zeros cannot be left for later; by_wid takes it without them.
        let one = match one {
            None if self.around.by_wid => {
                self.problems.truncate(before);
                self.note(
                    &program.section,
                    Some("command"),
                    "$(circus.wid) has no leading zeros",
                );
                let plain = self.source.get(&program.section, "command")?.value.clone();
                let mut one = self.each(program, process_name, Known::Number(start), count)?;
                let names = |name: &str| match name {
                    "process_num" => Some(Known::Text("$(circus.wid)".to_owned())),
                    name => self.name(
                        program,
                        name,
                        &Known::Number(start),
                        count,
                        &one.environment,
                    ),
                };
                one.command = values::expand(&digits_as_text(&plain), &names).ok()?;
                Some(one)
            }
            one => one,
        };
        self.problems.truncate(before);
        let one = one?;
        let text = format!(
            "{:?}{:?}{:?}{:?}",
            one.directory, one.environment, one.stdout, one.stderr
        );
        if text.contains("$(circus.wid)") {
            return None;
        }
        if start != 1 {
            self.note(
                &program.section,
                Some("command"),
                format!("process_num counts from {start}, $(circus.wid) in its place from 1"),
            );
        }
        Some(one)
    }
}

/// `%(process_num)02d` as `%(process_num)s`.
fn digits_as_text(text: &str) -> String {
    const NAME: &str = "%(process_num)";
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(NAME) {
        out.push_str(before);
        out.push_str(NAME);
        out.push('s');
        let letter = after.find(|c: char| c.is_ascii_alphabetic());
        rest = letter.map_or("", |at| &after[at + 1..]);
    }
    out.push_str(rest);
    out
}
