//! The argument list of a worker. Source: `circus.process.Process.format_args`, and for the first
//! pass over `cmd` `circus.watcher.Watcher.spawn_process`.
//!
//! One deliberate difference: circus 0.19 computes the replacement of `$WID` and then starts the
//! worker with the text as it was; here `$WID` is replaced, as Circus's manual has it.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::expand::Variables;
use super::{pytext, shlex};
use crate::options::{Kind, ListenFds, Value, WATCHER_OPTIONS, WatcherOptions};

/// The options that are variables under their own names, besides those with a rule of their own: what `options` lists,
/// and the limits.
fn plain_variables() -> impl Iterator<Item = &'static str> {
    WATCHER_OPTIONS
        .iter()
        .filter(|spec| (spec.listed && spec.kind != Kind::Stream) || spec.kind == Kind::Limits)
        .map(|spec| spec.name)
}

/// What to execute for one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The argument list, never empty. With `shell` it is `/bin/sh -c LINE` and the shell's arguments.
    pub argv: Vec<String>,
    /// The command runs through a shell.
    pub shell: bool,
    /// What was probably not meant.
    pub warnings: Vec<String>,
}

/// The argument list of the worker `wid` of a watcher; `sockets` are the file descriptors of the
/// sockets by their lower-case names.
///
/// # Errors
/// The command is empty or cannot be cut into words; the text says which.
pub fn worker_argv(
    options: &WatcherOptions,
    wid: u32,
    sockets: &BTreeMap<String, i32>,
) -> Result<WorkerCommand, String> {
    let variables = OnceCell::new();
    let variables = || variables.get_or_init(|| worker_variables(options, wid, sockets));
    let wid = wid.to_string();
    let mut warnings = Vec::new();
    let mut expand = |key: &str, text: &str| {
        // Most commands hold no variable, and a thousand workers are started in a second.
        if !Variables::may_be_in(text) {
            return text.replace("$WID", &wid);
        }
        let text = variables().expand(text).replace("$WID", &wid);
        for unknown in variables().unknown(&text) {
            warnings.push(format!(
                "{key}: nothing is known by the name {unknown}; it is passed on as it stands"
            ));
        }
        text
    };
    // The environment comes first: what it holds may name other variables.
    let mut environment = Variables::new();
    if let Some(env) = options
        .env()
        .filter(|_| Variables::may_be_in(options.cmd()))
    {
        environment.set_group("env", env.iter().map(|(k, v)| (k, pytext::text_of(v))));
    }
    let cmd = expand("cmd", &environment.expand(options.cmd()));
    let mut argv = shlex::split(&cmd).map_err(|why| format!("cmd: {why} in {cmd:?}"))?;
    argv.extend(words("args", options.args(), &mut expand)?);
    let shell = options.shell();
    let shell_args = options.shell_args();
    if argv.is_empty() {
        return Err("the command is empty; set cmd".to_owned());
    }
    if shell {
        let line: Vec<String> = argv.iter().map(|word| shlex::quote(word)).collect();
        argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), line.join(" ")];
        argv.extend(words("shell_args", shell_args, &mut expand)?);
    } else if shell_args.as_str().is_some_and(|text| !text.is_empty())
        || shell_args.as_array().is_some_and(|list| !list.is_empty())
    {
        warnings.push("shell_args has no effect without shell = True".to_owned());
    }
    Ok(WorkerCommand {
        argv,
        shell,
        warnings,
    })
}

/// Does the command of this watcher name the socket's file descriptor? A socket with `so_reuseport`
/// is bound anew for each worker whose command does.
pub fn names_socket(options: &WatcherOptions, socket: &str) -> bool {
    let mut before = Variables::new();
    before.set_group("sockets", [(socket, "\0")]);
    let names = |text: &str| before.expand(text).contains('\0');
    let listed = |value: &Value| match value {
        Value::String(text) => names(text),
        Value::Array(list) => list.iter().filter_map(Value::as_str).any(names),
        _ => false,
    };
    names(options.cmd()) || listed(options.args()) || listed(options.shell_args())
}

/// Does the command of this watcher name any socket?
pub fn names_sockets(options: &WatcherOptions) -> bool {
    let names = |text: &str| {
        let text = text.to_lowercase();
        text.contains("circus.sockets.") || text.contains("${socket:")
    };
    let listed = |value: &Value| match value {
        Value::String(text) => names(text),
        Value::Array(list) => list.iter().filter_map(Value::as_str).any(names),
        _ => false,
    };
    names(options.cmd()) || listed(options.args()) || listed(options.shell_args())
}

/// Are the workers of this watcher handed the socket as systemd does it (`listen_fds`)?
pub fn hands_over(options: &WatcherOptions, socket: &str) -> bool {
    match options.listen_fds() {
        ListenFds::None => false,
        ListenFds::Named(names) => names.iter().any(|name| name.eq_ignore_ascii_case(socket)),
        ListenFds::Used => names_socket(options, socket) || !names_sockets(options),
    }
}

/// Does the watcher say that its workers use this socket: by its command, as standard input, or by `listen_fds`?
pub fn uses_socket(options: &WatcherOptions, socket: &str) -> bool {
    names_socket(options, socket)
        || options.stdin_socket().eq_ignore_ascii_case(socket)
        || hands_over(options, socket)
}

/// A text is cut into words after its variables are replaced; the texts of a list are words already.
fn words(
    key: &str,
    value: &Value,
    expand: &mut impl FnMut(&str, &str) -> String,
) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => {
            let text = expand(key, text);
            shlex::split(&text).map_err(|why| format!("{key}: {why} in {text:?}"))
        }
        Value::Array(list) => list
            .iter()
            .map(|word| match word {
                Value::Array(_) | Value::Object(_) | Value::Null => {
                    Err(format!("{key}: {word} is not a text"))
                }
                word => Ok(expand(key, &pytext::text_of(word))),
            })
            .collect(),
        other => Err(format!("{key}: {other} is neither a text nor a list")),
    }
}

fn worker_variables(
    options: &WatcherOptions,
    wid: u32,
    sockets: &BTreeMap<String, i32>,
) -> Variables {
    let mut variables = Variables::new();
    let mut set = |name: &str, value: &Value| match value {
        Value::Object(map) => {
            variables.set_group(name, map.iter().map(|(k, v)| (k, pytext::text_of(v))));
        }
        other => variables.set(name, pytext::text_of(other)),
    };
    for name in plain_variables() {
        if let Some(value) = options.get(name) {
            set(name, value);
        }
    }
    set("wid", &Value::from(wid));
    set("use_fds", &Value::from(options.use_sockets()));
    for stream in ["stdout_stream", "stderr_stream"] {
        if let Some(value) = options.get(stream) {
            set(&format!("{stream}_conf"), value);
        }
    }
    variables.set_group(
        "sockets",
        sockets.iter().map(|(name, fd)| (name, fd.to_string())),
    );
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn watcher(pairs: &[(&str, Value)]) -> WatcherOptions {
        let mut options = WatcherOptions::ini_defaults("web");
        for (key, value) in pairs {
            options
                .put(key, value.clone())
                .unwrap_or_else(|error| panic!("{error}"));
        }
        options
    }

    fn argv(pairs: &[(&str, Value)]) -> Vec<String> {
        let sockets = BTreeMap::from([("web".to_owned(), 7)]);
        match worker_argv(&watcher(pairs), 3, &sockets) {
            Ok(command) => command.argv,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn variables_in_cmd_and_args() {
        let cmd = "x $(circus.wid) ((circus.WID)) $WID ${socket:web} $(circus.sockets.Web)";
        assert_eq!(
            argv(&[
                ("cmd", json!(cmd)),
                ("args", json!("'$(circus.env.home)' b"))
            ]),
            ["x", "3", "3", "3", "7", "7", "$(circus.env.home)", "b"]
        );
        let env = json!({"HOME": "/h $(circus.wid)"});
        assert_eq!(
            argv(&[
                ("cmd", json!("x $(circus.env.HOME)")),
                ("args", json!(["$(circus.env.home)", "a b", 5])),
                ("env", env)
            ]),
            ["x", "/h", "3", "/h $(circus.wid)", "a b", "5"]
        );
        let names = "x $(circus.shell) $(circus.uid) $(circus.graceful_timeout) \
                     $(circus.stop_signal) $(circus.rlimits.nofile) $(circus.stdout_stream_conf.class)";
        assert_eq!(
            argv(&[
                ("cmd", json!(names)),
                ("rlimit_nofile", json!(9)),
                ("stdout_stream.class", json!("FileStream"))
            ]),
            ["x", "False", "None", "30.0", "15", "9", "FileStream"]
        );
    }

    #[test]
    fn shells_get_one_quoted_line_and_their_own_arguments() {
        assert_eq!(
            argv(&[
                ("cmd", json!("echo 'a b' $HOME")),
                ("shell", json!(true)),
                ("shell_args", json!("x $(circus.wid)"))
            ]),
            ["/bin/sh", "-c", "echo 'a b' '$HOME'", "x", "3"]
        );
    }

    #[test]
    fn what_cannot_run_is_told() {
        let none = BTreeMap::new();
        let errors = |pairs: &[(&str, Value)]| worker_argv(&watcher(pairs), 1, &none).err();
        assert!(errors(&[]).is_some_and(|e| e.contains("empty")));
        assert!(
            errors(&[("cmd", json!("x 'y"))]).is_some_and(|e| e.contains("No closing quotation"))
        );
        let warned = worker_argv(
            &watcher(&[
                ("cmd", json!("x $(circus.sockets.nope)")),
                ("shell_args", json!("y")),
            ]),
            1,
            &none,
        );
        assert_eq!(warned.map(|command| command.warnings.len()), Ok(2));
    }

    #[test]
    fn commands_that_name_a_socket() {
        let cases = [
            ("cmd", json!("x $(circus.sockets.web)"), true),
            ("args", json!(["--fd", "((CIRCUS.SOCKETS.WEB))"]), true),
            ("args", json!("${socket:web}"), true),
            ("cmd", json!("x circus.sockets.web"), false),
        ];
        for (key, value, want) in cases {
            assert_eq!(names_socket(&watcher(&[(key, value)]), "web"), want);
        }
    }

    #[test]
    fn sockets_that_are_handed_over() {
        let cases = [
            (json!(false), "x $(circus.sockets.web)", false),
            (json!(true), "x $(circus.sockets.web)", true),
            (json!(true), "x $(circus.sockets.other)", false),
            (json!(true), "x", true),
            (json!("other, WEB"), "x", true),
            (json!("other web"), "x $(circus.sockets.other)", true),
            (json!("other"), "x $(circus.sockets.web)", false),
        ];
        for (listen, cmd, want) in cases {
            let pairs = [("listen_fds", listen.clone()), ("cmd", json!(cmd))];
            assert_eq!(hands_over(&watcher(&pairs), "web"), want, "{listen} {cmd}");
        }
        let mut text = WatcherOptions::ini_defaults("w");
        for (written, read) in [
            ("yes", json!(true)),
            ("", json!(false)),
            (" web ", json!("web")),
        ] {
            assert_eq!(text.set_ini("listen_fds", written), Ok(()));
            assert_eq!(text.get("listen_fds"), Some(&read));
        }
    }
}
