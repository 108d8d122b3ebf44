//! `[program:x]` and `[fcgi-program:x]` as watchers.

use std::collections::HashMap;

use super::Work;
use super::values::{self, Known};
use crate::config::pytext;
use crate::options;

/// The default of supervisord's `priority`; 0 here.
const USUAL_PRIORITY: i64 = 999;

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

/// What may differ from one process of a program to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Each {
    name: String,
    command: String,
    directory: Option<String>,
    environment: Pairs,
    stdout: Output,
    stderr: Output,
}

impl Each {
    /// The first key in which two processes of one program differ.
    fn differs(&self, other: &Self) -> Option<&'static str> {
        [
            ("command", self.command != other.command),
            ("directory", self.directory != other.directory),
            ("environment", self.environment != other.environment),
            ("stdout_logfile", self.stdout != other.stdout),
            ("stderr_logfile", self.stderr != other.stderr),
        ]
        .into_iter()
        .find_map(|(key, differs)| differs.then_some(key))
    }
}

/// Where one of the outputs goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Output {
    /// To a file of supervisord's own naming.
    Automatic,
    /// Nowhere.
    Closed,
    /// Where the daemon's own goes.
    Daemon,
    /// To a file.
    File {
        name: String,
        bytes: Option<i64>,
        backups: Option<i64>,
    },
}

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

    /// What `%(name)s` stands for in a program.
    fn name(
        &self,
        program: &Program,
        name: &str,
        number: &Known,
        count: i64,
        environment: &[(String, String)],
    ) -> Option<Known> {
        let text = |text: &str| Some(Known::Text(text.to_owned()));
        match name {
            "program_name" => text(&program.name),
            "group_name" => text(&program.group),
            "host_node_name" => text(self.around.host),
            "process_num" => Some(number.clone()),
            "numprocs" => Some(Known::Number(count)),
            name => {
                let variable = name.strip_prefix("ENV_")?;
                let known = environment.iter().rev().chain(self.global_env.iter().rev());
                let mut known = known.filter(|(name, _)| name == variable);
                Some(match known.next() {
                    Some((_, value)) => Known::Text(value.clone()),
                    None => values::later(variable),
                })
            }
        }
    }

    /// What one process of a program is; nothing if that is a problem.
    fn each(
        &mut self,
        program: &Program,
        process_name: &str,
        number: Known,
        count: i64,
    ) -> Option<Each> {
        let expand = |this: &mut Self, key: &str, text: &str, environment: &[(String, String)]| {
            let result = values::expand(text, &|name| {
                this.name(program, name, &number, count, environment)
            });
            match result {
                Ok(text) => Some(text),
                Err(error) => {
                    this.problem(&program.section, key, error);
                    None
                }
            }
        };
        let value = |this: &Self, key: &str| {
            this.source
                .get(&program.section, key)
                .map(|setting| setting.value.clone())
        };
        let mut environment = Vec::new();
        if let Some(text) = value(self, "environment") {
            let text = expand(self, "environment", &text, &[])?;
            match values::pairs(&text) {
                Ok(pairs) => environment = pairs,
                Err(error) => {
                    self.problem(&program.section, "environment", error);
                    return None;
                }
            }
        }
        let Some(command) = value(self, "command") else {
            self.problem(&program.section, "command", "the program has no command");
            return None;
        };
        let command = expand(self, "command", &command, &environment)?;
        let directory = match value(self, "directory") {
            Some(text) => Some(expand(self, "directory", &text, &environment)?),
            None => None,
        };
        let mut outputs = Vec::new();
        for stream in ["stdout", "stderr"] {
            let key = format!("{stream}_logfile");
            let file = match value(self, &key) {
                Some(text) => Some(expand(self, &key, &text, &environment)?),
                None => None,
            };
            outputs.push(self.output(program, stream, file));
        }
        let stderr = outputs.pop()?;
        let stdout = outputs.pop()?;
        let redirect = self.boolean(program, "redirect_stderr", false);
        Some(Each {
            name: expand(self, "process_name", process_name, &environment)?,
            command,
            directory,
            environment,
            stderr: if redirect { stdout.clone() } else { stderr },
            stdout,
        })
    }

    fn output(&mut self, program: &Program, stream: &str, file: Option<String>) -> Output {
        let Some(name) = file else {
            return Output::Automatic;
        };
        match name.to_lowercase().as_str() {
            "none" | "off" | "/dev/null" => Output::Closed,
            "syslog" => {
                let key = format!("{stream}_logfile");
                self.note(
                    &program.section,
                    Some(&key),
                    "output to syslog is not there yet",
                );
                Output::Automatic
            }
            "auto" => Output::Automatic,
            "/dev/stdout" | "/dev/stderr" | "/dev/fd/1" | "/dev/fd/2" => Output::Daemon,
            _ => {
                let bytes = self.setting(
                    program,
                    &format!("{stream}_logfile_maxbytes"),
                    "a size such as 50MB",
                    values::byte_size,
                );
                let backups = self.setting(
                    program,
                    &format!("{stream}_logfile_backups"),
                    "a whole number",
                    pytext::int,
                );
                Output::File {
                    name,
                    bytes,
                    backups,
                }
            }
        }
    }

    /// A converted value, if it is given.
    fn setting<T>(
        &mut self,
        program: &Program,
        key: &str,
        expected: &str,
        convert: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.source.get(&program.section, key)?.value.clone();
        // The names that stand in numbers and truth values are those of the environment, hardly ever.
        let converted = convert(&text);
        if converted.is_none() {
            self.problem(&program.section, key, format!("{text:?} is not {expected}"));
        }
        converted
    }

    fn integer(&mut self, program: &Program, key: &str, default: i64) -> i64 {
        self.setting(program, key, "a whole number", pytext::int)
            .unwrap_or(default)
    }

    fn boolean(&mut self, program: &Program, key: &str, default: bool) -> bool {
        self.setting(program, key, "a truth value", values::boolean)
            .unwrap_or(default)
    }

    /// The keys that are the same for all processes of a program.
    fn common(&mut self, program: &Program) -> Pairs {
        let section = program.section.as_str();
        let mut pairs: Pairs = Vec::new();
        let mut say = |key: &str, value: String| pairs.push((key.to_owned(), value));
        let user = self
            .source
            .get(section, "user")
            .map(|user| user.value.clone());
        if let Some(user) = user.or_else(|| self.daemon_text("user")) {
            say("uid", user);
        }
        let priority = self.integer(program, "priority", USUAL_PRIORITY);
        if priority != USUAL_PRIORITY {
            say("priority", (USUAL_PRIORITY - priority).to_string());
        }
        if !self.boolean(program, "autostart", true) {
            say("autostart", "False".into());
        }
        let restart = self
            .source
            .get(section, "autorestart")
            .map(|text| text.value.to_lowercase());
        match restart.as_deref() {
            None | Some("unexpected") => {}
            Some(text) => match values::boolean(text) {
                Some(true) => {}
                Some(false) => say("respawn", "False".into()),
                None => self.problem(
                    section,
                    "autorestart",
                    format!("{text:?} is not true, false or unexpected"),
                ),
            },
        }
        if let Some(retries) = self.setting(program, "startretries", "a whole number", pytext::int)
        {
            say("max_retry", retries.to_string());
        }
        let signal = self
            .source
            .get(section, "stopsignal")
            .map(|signal| signal.value.clone());
        if let Some(signal) = signal {
            match options::to_signum(&options::Value::from(signal.as_str())) {
                Ok(_) => say("stop_signal", signal.to_uppercase()),
                Err(_) => self.problem(section, "stopsignal", format!("{signal:?} is no signal")),
            }
        }
        say(
            "graceful_timeout",
            self.integer(program, "stopwaitsecs", 10).to_string(),
        );
        let stop_group = self.boolean(program, "stopasgroup", false);
        if stop_group {
            say("stop_children", "True".into());
        }
        if self.boolean(program, "killasgroup", stop_group) && !stop_group {
            self.note(
                section,
                Some("killasgroup"),
                "has no key of its own; stop_children = True sends both signals to the children",
            );
        }
        for (key, usual, what) in [
            (
                "startsecs",
                "1",
                "a worker counts as running at once; quick deaths are slowed down",
            ),
            (
                "exitcodes",
                "0",
                "no exit code is expected; respawn alone decides",
            ),
        ] {
            let given = self
                .source
                .get(section, key)
                .is_some_and(|setting| setting.value != usual);
            if given {
                self.note(section, Some(key), what);
            }
        }
        if self.source.get(section, "umask").is_some() {
            self.note(
                section,
                Some("umask"),
                "a watcher has no umask of its own; [circus] umask is that of all",
            );
        }
        pairs
    }

    fn watcher(
        &mut self,
        program: &Program,
        name: &str,
        count: i64,
        one: Each,
        common: &Pairs,
        socket: Option<&str>,
    ) {
        let section = program.section.as_str();
        let mut pairs: Pairs = vec![("cmd".to_owned(), values::as_variable(&one.command))];
        let mut say = |key: &str, value: String| pairs.push((key.to_owned(), value));
        if count != 1 {
            say("numprocesses", count.to_string());
        }
        let in_front = self
            .daemon_text("nodaemon")
            .is_some_and(|text| values::boolean(&text) == Some(true));
        // In the background supervisord changes its own directory, which its programs inherit.
        let daemon = self.daemon_text("directory").filter(|_| !in_front);
        if let Some(directory) = one.directory.as_deref().map(values::as_variable).or(daemon) {
            say("working_dir", directory);
        }
        say("copy_env", "True".into());
        for (key, value) in common {
            say(key, value.clone());
        }
        if let Some(socket) = socket {
            say("stdin_socket", socket.to_owned());
        }
        for (stream, output) in [("stdout", &one.stdout), ("stderr", &one.stderr)] {
            match output {
                Output::Automatic => {}
                Output::Closed => say(&format!("close_child_{stream}"), "True".into()),
                Output::Daemon => say(&format!("{stream}_stream.class"), "StdoutStream".into()),
                Output::File {
                    name,
                    bytes,
                    backups,
                } => {
                    say(&format!("{stream}_stream.class"), "FileStream".into());
                    say(
                        &format!("{stream}_stream.filename"),
                        values::as_variable(name),
                    );
                    let bytes = bytes.unwrap_or(50 << 20);
                    if bytes > 0 {
                        say(&format!("{stream}_stream.max_bytes"), bytes.to_string());
                        say(
                            &format!("{stream}_stream.backup_count"),
                            backups.unwrap_or(10).to_string(),
                        );
                    }
                }
            }
        }
        self.sections.push((format!("watcher:{name}"), pairs));
        if one.environment.is_empty() {
            return;
        }
        self.dollars(section, &one.environment);
        if name.contains(['*', '?', '[', ',']) {
            self.note(
                section,
                Some("environment"),
                format!("{name} would be a pattern in [env:{name}]"),
            );
            return;
        }
        let mut env = Vec::new();
        for (key, value) in one.environment {
            match values::as_dollar(&value) {
                Ok(value) => env.push((key, value)),
                Err(variable) => self.note(
                    section,
                    Some("environment"),
                    format!(
                        "{key} takes %(ENV_{variable})s, which an [env:…] section cannot spell here"
                    ),
                ),
            }
        }
        if !env.is_empty() {
            self.sections.push((format!("env:{name}"), env));
        }
    }

    /// The socket of a FastCGI program; its name.
    fn socket(&mut self, program: &Program) -> Option<String> {
        let section = program.section.as_str();
        let Some(text) = self
            .source
            .get(section, "socket")
            .map(|setting| setting.value.clone())
        else {
            self.problem(section, "socket", "a FastCGI program needs a socket");
            return None;
        };
        let names = |name: &str| self.name(program, name, &Known::Number(0), 1, &[]);
        let text = match values::expand(&text, &names) {
            Ok(text) => values::as_variable(&text),
            Err(error) => {
                self.problem(section, "socket", error);
                return None;
            }
        };
        let mut pairs: Pairs = Vec::new();
        if let Some(path) = text.strip_prefix("unix://") {
            pairs.push(("path".into(), path.to_owned()));
            pairs.push(("replace".into(), "True".into()));
            let mode = self
                .setting(program, "socket_mode", "an octal mode", pytext::octal)
                .unwrap_or(0o700);
            // The umask of a socket section is written in decimal digits.
            pairs.push(("umask".into(), (0o777 & !mode).to_string()));
            if self.source.get(section, "socket_owner").is_some() {
                self.note(
                    section,
                    Some("socket_owner"),
                    "the socket's file belongs to the daemon's user",
                );
            }
        } else if let Some((host, port)) = text
            .strip_prefix("tcp://")
            .and_then(|rest| rest.rsplit_once(':'))
        {
            pairs.push(("host".into(), host.to_lowercase()));
            pairs.push(("port".into(), port.to_owned()));
        } else {
            self.problem(
                section,
                "socket",
                format!("{text:?} is neither unix:///PATH nor tcp://HOST:PORT"),
            );
            return None;
        }
        if let Some(backlog) =
            self.setting(program, "socket_backlog", "a whole number", pytext::int)
        {
            pairs.push(("backlog".into(), backlog.to_string()));
        }
        let name = program.name.to_lowercase();
        self.sections.push((format!("socket:{name}"), pairs));
        Some(name)
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
