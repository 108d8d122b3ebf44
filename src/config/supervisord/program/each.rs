//! What one process of a program is.

use super::{Pairs, Program};
use crate::config::pytext;
use crate::config::supervisord::Work;
use crate::config::supervisord::values::{self, Known};

/// What may differ from one process of a program to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Each {
    pub name: String,
    pub command: String,
    pub directory: Option<String>,
    pub environment: Pairs,
    pub stdout: Output,
    pub stderr: Output,
}

impl Each {
    /// The first key in which two processes of one program differ.
    pub(super) fn differs(&self, other: &Self) -> Option<&'static str> {
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
pub(super) enum Output {
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

impl Work<'_> {
    /// What `%(name)s` stands for in a program.
    pub(super) fn name(
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
    pub(super) fn each(
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

    pub(super) fn output(
        &mut self,
        program: &Program,
        stream: &str,
        file: Option<String>,
    ) -> Output {
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
}
