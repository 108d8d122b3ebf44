//! What is wanted of a watcher, as a caller told it: checked against the options table, not yet compared with anything.

use std::fmt;

use crate::options::{self, Key, Kind, OptionError, WatcherOptions};

/// What a caller asks of `ensure`, word for word.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The watcher's name.
    pub name: String,
    /// `--procs`, as text: a wrong number is a failed report, not a usage error.
    pub procs: Option<String>,
    /// `--cmd`.
    pub cmd: Option<String>,
    /// `--args`.
    pub args: Option<String>,
    /// `--set KEY=VALUE`, as given.
    pub set: Vec<String>,
    /// `--unset KEY`; `env.NAME` is a variable of the environment.
    pub unset: Vec<String>,
    /// `--env NAME=VALUE`, as given.
    pub env: Vec<String>,
    /// `--socket NAME=HOST:PORT` or `NAME=unix:PATH`, as given.
    pub socket: Vec<String>,
    /// `--running`, `--stopped`.
    pub running: Running,
    /// `--restart-on-change`.
    pub on_change: OnChange,
}

/// One wanted option, in the text form that a circus.ini holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The option's key, as in a watcher section.
    pub key: String,
    /// Its text.
    pub text: String,
}

/// Whether a watcher's workers are to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Running {
    /// They run, as many as `numprocesses` says.
    #[default]
    Yes,
    /// The watcher is stopped.
    No,
    /// Not managed: it is left as it is.
    Any,
}

/// What a change of options does to the workers that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnChange {
    /// What the option needs: nothing, or a graceful reload.
    #[default]
    Auto,
    /// No worker is replaced: an option that needs new workers waits in the file until somebody restarts them.
    Never,
    /// Any changed option but the number of workers restarts them.
    Always,
}

/// A watcher as it should be. An option that is not named here is not managed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// The watcher's name.
    pub name: String,
    /// It is there; false: it is not.
    pub present: bool,
    /// The options, each once, cmd and args first.
    pub options: Vec<Wanted>,
    /// Options that its section must not state.
    pub unset: Vec<String>,
    /// Variables of its environment; `None`: its own section `[env:NAME]` must not state it.
    pub env: Vec<(String, Option<String>)>,
    /// Its workers run, or not.
    pub running: Running,
    /// What a change of options does to running workers.
    pub on_change: OnChange,
    /// Variables of the section `[env]` that this run is about as well: the daemon's watcher is to have them.
    pub reached_by: Vec<String>,
    /// Only these variables are looked at; the watcher itself was not named.
    pub implicit: bool,
    /// It was read from the managed file itself: the daemon is to have every option as the file makes it, stated or not.
    pub whole: bool,
    /// With `present: false`: its section `[env:NAME]` goes too.
    pub with_env: bool,
    /// With `present: false`: the sockets that only it uses go too.
    pub with_socket: bool,
}

/// What a section other than a watcher's is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SectionKind {
    /// `[circus]`
    Circus,
    /// `[env]`: variables of all watchers.
    Env,
    /// `[socket:NAME]`
    Socket,
    /// `[plugin:NAME]`
    Plugin,
}

/// A section as it should be. A key that is not named here is not managed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredSection {
    /// What it is about.
    pub kind: SectionKind,
    /// The name behind the colon; empty for `[circus]` and `[env]`.
    pub name: String,
    /// It is there; false: it is not.
    pub present: bool,
    /// Its keys, each once.
    pub options: Vec<Wanted>,
    /// Keys that it must not state.
    pub unset: Vec<String>,
}

impl DesiredSection {
    /// The section's name in a circus.ini.
    pub fn section(&self) -> String {
        match self.kind {
            SectionKind::Circus => "circus".to_string(),
            SectionKind::Env => "env".to_string(),
            SectionKind::Socket => format!("socket:{}", self.name),
            SectionKind::Plugin => format!("plugin:{}", self.name),
        }
    }
}

/// A whole desired state: what one transaction brings about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DesiredState {
    /// Where it was read from, for messages.
    pub origin: String,
    /// The watchers, no name twice in any case.
    pub watchers: Vec<Desired>,
    /// The other sections, none twice.
    pub sections: Vec<DesiredSection>,
    /// Watchers, sockets and plugins that are not named go.
    pub prune: bool,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
}

impl DesiredState {
    /// A state of one watcher and nothing else.
    pub fn of_one(desired: Desired) -> DesiredState {
        DesiredState {
            origin: desired.name.clone(),
            watchers: vec![desired],
            ..DesiredState::default()
        }
    }
}

/// Everything that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DesiredError(Vec<String>);

impl fmt::Display for DesiredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl Desired {
    /// Reads a request: the watcher, and the sockets it names. All that is wrong with its keys is told at once; values
    /// are checked by [`Desired::applied_to`], when variables in them are known.
    pub fn new(request: &Request) -> Result<(Desired, Vec<DesiredSection>), DesiredError> {
        let mut problems = Vec::new();
        check_name(&request.name, &mut problems);
        let mut desired = Desired {
            name: request.name.clone(),
            present: true,
            running: request.running,
            on_change: request.on_change,
            ..Desired::default()
        };
        let named = [
            ("cmd", &request.cmd),
            ("args", &request.args),
            ("numprocesses", &request.procs),
        ];
        let named = named.into_iter().filter_map(|(key, text)| {
            let text = text.clone()?;
            Some((key.to_string(), text))
        });
        let mut pairs: Vec<(String, String)> = named.collect();
        for pair in &request.set {
            match pair.split_once('=') {
                Some((key, text)) => pairs.push((key.trim().to_string(), text.trim().to_string())),
                None => problems.push(format!("--set {pair}: KEY=VALUE is expected")),
            }
        }
        let mut sockets: Vec<DesiredSection> = Vec::new();
        for text in &request.socket {
            match socket(text) {
                Ok(socket) if sockets.iter().any(|known| known.name == socket.name) => {
                    problems.push(format!("--socket {text}: {} is wanted twice", socket.name));
                }
                Ok(socket) => sockets.push(socket),
                Err(problem) => problems.push(problem),
            }
        }
        let decided = pairs
            .iter()
            .any(|(key, _)| matches!(key.as_str(), "use_sockets" | "stdin_socket"));
        if !sockets.is_empty() && !decided {
            pairs.push(("use_sockets".to_string(), "True".to_string()));
        }
        for (key, text) in pairs {
            if let Some(name) = key.strip_prefix("env.") {
                add_variable(&mut desired, name, Some(text), &mut problems);
                continue;
            }
            if let Err(problem) = check_key(&key) {
                problems.push(problem);
                continue;
            }
            match desired.options.iter().find(|wanted| wanted.key == key) {
                Some(known) if known.text != text => problems.push(format!(
                    "{key} is wanted twice, as {:?} and as {text:?}",
                    known.text
                )),
                Some(_) => {}
                None => desired.options.push(Wanted { key, text }),
            }
        }
        for pair in &request.env {
            match pair.split_once('=') {
                Some((name, text)) => {
                    add_variable(&mut desired, name, Some(text.to_string()), &mut problems);
                }
                // It may be a value that lost its name, so it is not repeated.
                None => problems.push(
                    "--env: NAME=VALUE is expected; to take a variable away, give --unset env.NAME"
                        .to_string(),
                ),
            }
        }
        for key in &request.unset {
            match key.strip_prefix("env.") {
                Some(name) => add_variable(&mut desired, name, None, &mut problems),
                None => match check_key(key) {
                    Err(problem) => problems.push(problem),
                    Ok(()) if key == "cmd" => {
                        problems.push("cmd cannot be unset: a watcher needs a command".to_string());
                    }
                    Ok(()) if desired.wants(key) => {
                        problems.push(format!("{key} is to be set and unset at once"));
                    }
                    Ok(()) => desired.unset.push(key.clone()),
                },
            }
        }
        if problems.is_empty() {
            Ok((desired, sockets))
        } else {
            Err(DesiredError(problems))
        }
    }

    /// The watcher is not to be there.
    pub fn absent(name: &str) -> Result<Desired, DesiredError> {
        let mut problems = Vec::new();
        check_name(name, &mut problems);
        if problems.is_empty() {
            Ok(Desired {
                name: name.to_string(),
                present: false,
                ..Desired::default()
            })
        } else {
            Err(DesiredError(problems))
        }
    }

    /// The wanted options laid over `base`; `expand` replaces the variables of a text.
    ///
    /// Fails on a value that is not of its option's type, and on a singleton of several workers.
    pub fn applied_to(
        &self,
        base: &WatcherOptions,
        expand: impl Fn(&str) -> String,
    ) -> Result<WatcherOptions, DesiredError> {
        let mut result = base.clone();
        let mut problems: Vec<String> = Vec::new();
        for wanted in &self.options {
            if let Err(error) = result.set_ini(&wanted.key, &expand(&wanted.text)) {
                problems.push(explain(&error));
            }
        }
        if problems.is_empty()
            && let Err(error) = result.check_rules()
        {
            problems.push(explain(&error));
        }
        if problems.is_empty() && result.cmd().trim().is_empty() && self.wants("cmd") {
            problems.push("cmd is empty: a command to run is expected".to_string());
        }
        if problems.is_empty() {
            Ok(result)
        } else {
            Err(DesiredError(problems))
        }
    }

    /// The option `key` is wanted.
    pub fn wants(&self, key: &str) -> bool {
        self.options.iter().any(|wanted| wanted.key == key)
    }
}

/// A variable of the environment, as the watcher's own section `[env:NAME]` can hold it.
fn add_variable(
    desired: &mut Desired,
    name: &str,
    text: Option<String>,
    problems: &mut Vec<String>,
) {
    let name = name.trim();
    if name.is_empty() || name.contains(['=', '\0', '\n']) {
        problems.push(format!("{name:?} cannot be the name of a variable"));
        return;
    }
    // A file holds no white space around a value.
    let text = text.map(|text| text.trim().to_string());
    match desired.env.iter().find(|(known, _)| known == name) {
        Some((_, known)) if *known != text => {
            problems.push(format!("the variable {name} is wanted twice, differently"));
        }
        Some(_) => {}
        None => desired.env.push((name.to_string(), text)),
    }
}

/// `NAME=HOST:PORT` or `NAME=unix:PATH`.
fn socket(text: &str) -> Result<DesiredSection, String> {
    let expected = || {
        format!(
            "--socket {text}: NAME=HOST:PORT or NAME=unix:PATH is expected, such as web=127.0.0.1:8000"
        )
    };
    let (name, address) = text.split_once('=').ok_or_else(expected)?;
    let mut problems = Vec::new();
    check_name(name, &mut problems);
    if !problems.is_empty() {
        return Err(format!("--socket {text}: {}", problems.join("; ")));
    }
    let wanted = |key: &str, text: &str| Wanted {
        key: key.to_string(),
        text: text.to_string(),
    };
    let (options, unset): (Vec<Wanted>, &[&str]) = match address.strip_prefix("unix:") {
        Some("") => return Err(expected()),
        Some(path) => (vec![wanted("path", path)], &["host", "port", "family"]),
        None => {
            let (host, port) = address.rsplit_once(':').ok_or_else(expected)?;
            let inner = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'));
            if port.parse::<u16>().is_err() || host.is_empty() {
                return Err(expected());
            }
            let mut options = vec![wanted("host", inner.unwrap_or(host)), wanted("port", port)];
            if inner.unwrap_or(host).contains(':') {
                options.push(wanted("family", "AF_INET6"));
            }
            (options, &["path"])
        }
    };
    Ok(DesiredSection {
        kind: SectionKind::Socket,
        name: name.to_string(),
        present: true,
        options,
        unset: unset.iter().map(|key| key.to_string()).collect(),
    })
}

fn explain(error: &OptionError) -> String {
    // Some reasons begin with the key already.
    let reason = error.reason.strip_prefix(&format!("{}: ", error.key));
    format!("{}: {}", error.key, reason.unwrap_or(&error.reason))
}

pub(super) fn check_name(name: &str, problems: &mut Vec<String>) {
    if name.trim().is_empty() {
        problems.push("the watcher's name is empty".to_string());
    } else if name != name.trim() || name.chars().any(|c| c.is_control() || c == ']') {
        problems.push(format!(
            "{name:?} cannot be a watcher's name: no ']', no control characters and no white space at its ends"
        ));
    }
}

fn check_key(key: &str) -> Result<(), String> {
    match options::find(key) {
        None => Err(match options::nearest(key) {
            Some(nearest) => format!("unknown option {key}; did you mean {nearest}?"),
            None => format!("unknown option {key}"),
        }),
        Some((spec, Key::Whole)) => match spec.kind {
            Kind::Env => Err(
                "env is not an option of a watcher section: the environment stands in [env] and [env:NAME]; give \
                 --env NAME=VALUE"
                    .to_string(),
            ),
            Kind::Stream | Kind::Hooks | Kind::Limits => Err(format!(
                "{key} is a group of settings; name one of them, such as {}",
                match spec.kind {
                    Kind::Limits => "rlimit_nofile".to_string(),
                    Kind::Hooks => "hooks.before_start".to_string(),
                    _ => format!("{}.class", spec.name),
                }
            )),
            _ => Ok(()),
        },
        Some((spec, Key::Entry(entry))) => match spec.kind {
            Kind::Limits if !options::RLIMITS.contains(&entry) => Err(format!(
                "{key}: no such limit; limits are {}",
                options::RLIMITS.join(", ")
            )),
            Kind::Hooks if !options::HOOKS.contains(&entry) => Err(format!(
                "{key}: no such hook; hooks are {}",
                options::HOOKS.join(", ")
            )),
            _ if entry.is_empty() => Err(format!("{key}: a name after the dot is expected")),
            _ => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(procs: &str, set: &[&str]) -> Request {
        Request {
            name: "web".into(),
            procs: Some(procs.into()),
            set: set.iter().map(|pair| pair.to_string()).collect(),
            ..Request::default()
        }
    }

    fn refusal(procs: &str, set: &[&str]) -> String {
        match Desired::new(&request(procs, set)) {
            Err(error) => error.to_string(),
            Ok((desired, _)) => desired
                .applied_to(&WatcherOptions::ini_defaults("web"), str::to_string)
                .map_or_else(|error| error.to_string(), |_| "accepted".to_string()),
        }
    }

    #[test]
    fn bad_requests_say_what_was_expected() {
        for (procs, set, says) in [
            ("4", &["max_agee=1"][..], "did you mean max_age?"),
            ("4", &["xyzzyplugh=1"], "unknown option xyzzyplugh"),
            ("many", &[], "numprocesses"),
            ("-1", &[], "-1 is not allowed"),
            ("4", &["shell=perhaps"], "shell"),
            ("4", &["shell"], "KEY=VALUE is expected"),
            ("4", &["numprocesses=5"], "wanted twice"),
            ("2", &["singleton=true"], "singleton"),
            ("4", &["env=A=1"], "[env:NAME]"),
            ("4", &["hooks=a:b"], "hooks.before_start"),
            ("4", &["rlimit_nofiles=1"], "limits are"),
            ("4", &["hooks.before=1"], "hooks are"),
            ("4", &["stop_signal=SIGNOPE"], "stop_signal"),
            ("4", &["cmd="], "cmd is empty"),
        ] {
            let told = refusal(procs, set);
            assert!(told.contains(says), "{procs} {set:?}: {told}");
        }
        assert_eq!(refusal("4", &["max_age=3", "shell=yes"]), "accepted");
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let told = refusal("4", &["nope_a=1", "maxage=2"]);
        assert!(
            told.contains("nope_a") && told.contains("max_age"),
            "{told}"
        );
    }

    #[test]
    fn names_that_no_section_can_carry_are_refused() {
        for name in ["", "  ", "a]b", "a\nb", " a"] {
            let request = Request {
                name: name.into(),
                ..Request::default()
            };
            assert!(Desired::new(&request).is_err(), "{name:?}");
        }
    }
}
