//! The `[watcher:NAME]` sections: their keys, their environment and the rules that hold between
//! them. Source: `circus.config.get_config`, `circus.watcher.Watcher.__init__` and
//! `load_from_config`, `circus.util.parse_env_dict`.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;

use indexmap::IndexMap;

use super::document::NAME_KEY;
use super::error::{ProblemKind, quoted};
use super::expand::Variables;
use super::load::{Environ, Loader, variables_of};
use super::merged::Item;
use super::model::SocketConfig;
use super::{pattern, plugin_keys, pytext, virtualenv};
use crate::options::streams::StreamSpec;
use crate::options::{self, Key, Kind, ListenFds, Map, RLIMITS, Value, WatcherOptions};

/// A watcher section before its variables are replaced.
pub(super) struct Draft {
    pub section: String,
    name: String,
    items: IndexMap<String, Item>,
    pub env: Environ,
    copy_env: bool,
}

/// All watchers with the sections they come from, sorted by name. Problems go into the loader.
pub(super) fn build(
    loader: &mut Loader,
    sockets: &[SocketConfig],
) -> Vec<(String, WatcherOptions)> {
    let drafts = drafts(loader);
    check_names(loader, &drafts);
    drafts
        .into_iter()
        .map(|draft| {
            let options = watcher(loader, &draft, sockets);
            (draft.section, options)
        })
        .collect()
}

/// The watcher sections with their environments, sorted by the watchers' names.
pub(super) fn drafts(loader: &Loader) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = loader
        .sections("watcher:")
        .into_iter()
        .map(|section| draft(loader, section))
        .collect();
    drafts.sort_by(|a, b| a.name.cmp(&b.name));
    apply_env_sections(loader, &mut drafts);
    drafts
}

fn draft(loader: &Loader, section: String) -> Draft {
    let items = loader.merged.items(&section);
    let name = match items.get("name") {
        Some(item) => item.value.clone(),
        None => section
            .strip_prefix("watcher:")
            .unwrap_or(&section)
            .to_owned(),
    };
    let copy_env = match loader.text(&section, "copy_env") {
        // A value that is no truth value is reported where the key itself is taken.
        Some((text, _)) => options::to_bool(&text).unwrap_or(false),
        None => false,
    };
    let env = if copy_env {
        loader.global_env.clone()
    } else {
        loader.local_env.clone()
    };
    Draft {
        section,
        name,
        items,
        env,
        copy_env,
    }
}

fn check_names(loader: &mut Loader, drafts: &[Draft]) {
    let mut seen: HashMap<String, &Draft> = HashMap::new();
    for draft in drafts {
        if pytext::strip(&draft.name).is_empty() {
            let what = "a watcher needs a name: [watcher:NAME]";
            loader
                .problems
                .push(loader.merged.section_problem(&draft.section, what));
        }
        if let Some(first) = seen.insert(draft.name.to_lowercase(), draft) {
            let what = format!(
                "commands do not distinguish case, so {} collides with the watcher of [{}]; rename \
                 one of them",
                quoted(&draft.name),
                first.section
            );
            loader
                .problems
                .push(loader.merged.section_problem(&draft.section, what));
        }
    }
}

/// `[env:PATTERN,PATTERN…]`: each pattern adds the section's keys to the watchers it matches. What stands with its
/// watcher comes last.
fn apply_env_sections(loader: &Loader, drafts: &mut [Draft]) {
    let sections = || loader.merged.sections.iter();
    let patterns = sections().filter(|(_, own)| !own.of_watcher);
    let sections = patterns.chain(sections().filter(|(_, own)| own.of_watcher));
    for (section, patterns) in sections.filter_map(|(s, _)| Some((s, s.strip_prefix("env:")?))) {
        let values: Vec<(String, String)> = loader
            .merged
            .items(section)
            .into_iter()
            .map(|(key, item)| (key, item.value))
            .collect();
        for wanted in patterns.split(',').map(pytext::strip) {
            // They are sorted by name, and most sections name one of them.
            let fitting = if pattern::is_plain(wanted) {
                drafts.partition_point(|draft| draft.name.as_str() < wanted)
                    ..drafts.partition_point(|draft| draft.name.as_str() <= wanted)
            } else {
                0..drafts.len()
            };
            for draft in &mut drafts[fitting] {
                if pattern::matches(wanted, &draft.name) {
                    draft.env.extend(values.iter().cloned());
                }
            }
        }
    }
}

fn watcher(loader: &mut Loader, draft: &Draft, sockets: &[SocketConfig]) -> WatcherOptions {
    let own = OwnVariables::new(&loader.global_env, &draft.env);
    let mut watcher = WatcherOptions::ini_defaults(&draft.name);
    for (key, item) in &draft.items {
        let result = match key.as_str() {
            "name" => Ok(()),
            "env" => {
                loader.warnings.push(format!(
                    "[{}] env: Circus does not read this key; write a section [env:{}]",
                    draft.section, draft.name
                ));
                Ok(())
            }
            _ => take(&mut watcher, key, item, &loader.variables, &own),
        };
        if let Err(what) = result {
            let problem =
                loader
                    .merged
                    .problem(ProblemKind::Value, &draft.section, key, item, what);
            loader.problems.push(problem);
        }
    }
    drop(own);
    let env = environment(loader, draft, &watcher);
    put(&mut watcher, "env", Value::Object(env));
    if watcher.working_dir().is_empty() {
        put(&mut watcher, "working_dir", loader.own_directory());
    }
    check_rules(loader, draft, &watcher, sockets);
    watcher
}

/// The variables of a watcher's environment, made only if a value asks for them: most files hold
/// many watchers and few variables.
pub(super) struct OwnVariables<'a> {
    global: &'a Environ,
    env: &'a Environ,
    made: OnceCell<Variables>,
}

impl<'a> OwnVariables<'a> {
    pub(super) fn new(global: &'a Environ, env: &'a Environ) -> Self {
        Self {
            global,
            env,
            made: OnceCell::new(),
        }
    }

    fn expand(&self, text: &str) -> String {
        if !Variables::may_be_in(text) {
            return text.to_owned();
        }
        let make = || {
            let mut all = self.global.clone();
            all.extend(self.env.iter().map(|(k, v)| (k.clone(), v.clone())));
            variables_of(&all)
        };
        self.made.get_or_init(make).expand(text)
    }
}

/// Stores a value whose kind fits by construction.
pub(super) fn put(watcher: &mut WatcherOptions, key: &str, value: Value) {
    let stored = watcher.put(key, value);
    debug_assert!(stored.is_ok(), "{stored:?}");
}

/// Takes one key. `global` are the variables of `[env]`, `own` those of the watcher's environment.
pub(super) fn take(
    watcher: &mut WatcherOptions,
    key: &str,
    item: &Item,
    global: &Variables,
    own: &OwnVariables,
) -> Result<(), String> {
    let entry_of = |stream: &str| key.starts_with(stream) && !key[stream.len()..].starts_with('.');
    if let Some(stream) = ["stdout_stream", "stderr_stream"]
        .into_iter()
        .find(|stream| entry_of(stream))
    {
        return Err(format!(
            "a stream is configured by keys like {stream}.class, there is none of this name"
        ));
    }
    let found = options::find(key);
    let text = expanded(key, &item.value, global, own);
    let text = match found {
        Some((spec, Key::Whole)) if matches!(spec.kind, Kind::Limits | Kind::Hooks) => {
            return Err(format!(
                "{} are given one by one, as in {}",
                spec.name,
                match spec.kind {
                    Kind::Limits => "rlimit_nofile = 1024",
                    _ => "hooks.before_start = module.function",
                }
            ));
        }
        Some((spec, Key::Entry(limit))) if spec.kind == Kind::Limits => {
            if !RLIMITS.contains(&limit.to_lowercase().as_str()) {
                return Err(format!(
                    "there is no resource limit {}; limits are {}",
                    quoted(limit),
                    RLIMITS.join(", ")
                ));
            }
            plain_number(&text)
        }
        Some((spec, _)) if matches!(spec.kind, Kind::Int | Kind::Count | Kind::Seconds) => {
            plain_number(&text)
        }
        Some((spec, _)) if matches!(spec.kind, Kind::Bool | Kind::Signal) => {
            pytext::strip(&text).to_owned()
        }
        _ => text,
    };
    watcher.set_ini(key, &text).map_err(|error| {
        // The problem names the key already.
        let reason = error
            .reason
            .strip_prefix(key)
            .and_then(|rest| rest.strip_prefix(": "));
        reason.unwrap_or(&error.reason).to_owned()
    })
}

/// The text of a watcher's key with the variables replaced that Circus replaces in this key. `global` are the variables
/// of `[env]`, `own` those of the watcher's environment.
pub(super) fn expanded(key: &str, text: &str, global: &Variables, own: &OwnVariables) -> String {
    match options::find(key) {
        Some((spec, _)) => match spec.kind {
            // Circus takes these as they are written.
            Kind::Signal | Kind::Limits | Kind::Hooks => text.to_owned(),
            _ if key == "executable" => own.expand(&global.expand(text)),
            Kind::Int | Kind::Count | Kind::Seconds | Kind::Bool
                if !matches!(key, "max_age" | "max_age_variance") =>
            {
                global.expand(text)
            }
            _ => own.expand(text),
        },
        None if key == "check_flapping" => global.expand(text),
        None => own.expand(text),
    }
}

/// A number that Python understands (`1_000`, ` +5`), in plain digits; anything else as it is.
fn plain_number(text: &str) -> String {
    if let Some(number) = pytext::int(text) {
        number.to_string()
    } else if let Some(number) = pytext::float(text) {
        pytext::float_repr(number)
    } else {
        text.to_owned()
    }
}

/// The complete environment of the workers.
fn environment(loader: &mut Loader, draft: &Draft, watcher: &WatcherOptions) -> Map<String, Value> {
    let mut env: Environ = if draft.copy_env {
        loader.environ.clone()
    } else {
        Environ::new()
    };
    for (name, value) in &draft.env {
        let value = with_dollar_names(value, &loader.environ);
        let (name, value) = (pytext::strip(name), pytext::strip(&value));
        // With copy_env nearly all of it is there already.
        if env.get(name).map(String::as_str) != Some(value) {
            env.insert(name.to_owned(), value.to_owned());
        }
    }
    if !watcher.virtualenv().is_empty() {
        let version = watcher.get("virtualenv_py_ver").and_then(Value::as_str);
        let outcome = if draft.copy_env {
            virtualenv::enter(watcher.virtualenv(), version, &loader.cwd, &mut env)
        } else {
            Err("needs copy_env = True as well".to_owned())
        };
        if let (Err(what), Some(item)) = (outcome, draft.items.get("virtualenv")) {
            let problem =
                loader
                    .merged
                    .problem(ProblemKind::Rule, &draft.section, "virtualenv", item, what);
            loader.problems.push(problem);
        }
    }
    env.into_iter()
        .map(|(name, value)| (name, Value::from(value)))
        .collect()
}

/// Replaces `$NAME` (capital letters, digits, underscores) from the daemon's environment; an unknown
/// name becomes empty.
pub(super) fn with_dollar_names<'a>(text: &'a str, environ: &Environ) -> Cow<'a, str> {
    if !text.contains('$') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let length = if after.starts_with(|c: char| c.is_ascii_uppercase()) {
            let inside = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            after.find(|c| !inside(c)).unwrap_or(after.len())
        } else {
            0
        };
        if length == 0 {
            out.push('$');
        } else if let Some(value) = environ.get(&after[..length]) {
            out.push_str(value);
        }
        rest = &after[length..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// What must hold between the keys of a watcher.
fn check_rules(
    loader: &mut Loader,
    draft: &Draft,
    watcher: &WatcherOptions,
    sockets: &[SocketConfig],
) {
    let mut broken: Vec<(String, String)> = Vec::new();
    if pytext::strip(watcher.cmd()).is_empty() {
        broken.push((
            "cmd".to_owned(),
            "the watcher has no command to run; set cmd".to_owned(),
        ));
    }
    if watcher.copy_path() && !draft.copy_env {
        broken.push((
            "copy_path".to_owned(),
            "needs copy_env = True as well".to_owned(),
        ));
    }
    if let Err(error) = watcher.check_singleton() {
        broken.push(("numprocesses".to_owned(), error.reason));
    }
    let stdin = watcher.stdin_socket();
    if !stdin.is_empty() && !sockets.iter().any(|socket| socket.name == stdin) {
        let what = format!(
            "there is no section [socket:{stdin}] (socket names are compared in lower case)"
        );
        broken.push(("stdin_socket".to_owned(), what));
    }
    if let ListenFds::Named(names) = watcher.listen_fds() {
        let unknown = |name: &String| !sockets.iter().any(|socket| socket.name == *name);
        if let Some(name) = names.into_iter().find(unknown) {
            let what = format!(
                "there is no section [socket:{name}]; names of sockets, True or False are expected"
            );
            broken.push(("listen_fds".to_owned(), what));
        }
    }
    for (stream, conf) in [
        ("stdout_stream", watcher.stdout_stream()),
        ("stderr_stream", watcher.stderr_stream()),
    ] {
        let what_it_is = ["class", "filename", "stream"];
        if conf.is_some_and(|conf| !what_it_is.iter().any(|key| conf.contains_key(*key))) {
            let what = format!("{stream} needs {stream}.class or {stream}.filename");
            broken.push((stream.to_owned(), what));
        } else if let Some(Err(error)) = conf.map(StreamSpec::read) {
            let key = format!("{stream}.{}", error.key);
            let what = match draft.items.get(&key) {
                Some(_) => error.reason,
                None => format!("{key}: {}", error.reason),
            };
            broken.push((key, what));
        }
        for (key, doubt) in conf.map(StreamSpec::doubts).unwrap_or_default() {
            loader
                .warnings
                .push(format!("[{}] {stream}.{key}: {doubt}", draft.section));
        }
    }
    for (key, what) in broken {
        let key = key.as_str();
        let problem = match draft.items.get(key) {
            Some(item) => loader
                .merged
                .problem(ProblemKind::Rule, &draft.section, key, item, what),
            None => loader.merged.section_problem(&draft.section, what),
        };
        loader.problems.push(problem);
    }
    warn(loader, draft, watcher, sockets);
}

/// `flapping.KEY`: settings of the plugin Flapping for this watcher.
fn warn_of_flapping(loader: &mut Loader, draft: &Draft, watcher: &WatcherOptions) {
    let Some(flapping) = plugin_keys::PLUGINS.iter().find(|p| p.name == "flapping") else {
        return;
    };
    for (name, value) in watcher.extra() {
        let Some(key) = name.strip_prefix("flapping.") else {
            continue;
        };
        let text = value.as_str().unwrap_or_default();
        let what = match flapping.key(key) {
            None => {
                let near = options::nearest_of(key, flapping.keys().map(|spec| spec.name))
                    .map_or(String::new(), |near| {
                        format!("; did you mean flapping.{near}?")
                    });
                format!("the plugin has no such setting{near}")
            }
            Some(spec) => match plugin_keys::expected(spec, text) {
                Some(expected) => format!("{} is not {expected}; it has no effect", quoted(text)),
                None => continue,
            },
        };
        let section = &draft.section;
        loader.warnings.push(format!("[{section}] {name}: {what}"));
    }
}

/// What is allowed but probably not meant.
fn warn(loader: &mut Loader, draft: &Draft, watcher: &WatcherOptions, sockets: &[SocketConfig]) {
    let section = &draft.section;
    warn_of_flapping(loader, draft, watcher);
    for key in watcher.extra().keys().filter(|key| *key != NAME_KEY) {
        // A key of the user's own is kept in silence; one that looks like an option is a slip.
        if let Some(known) = options::nearest(key).filter(|_| draft.items.contains_key(key)) {
            loader.warnings.push(format!(
                "[{section}] {key}: no such option, kept as it is; did you mean {known}?"
            ));
        }
    }
    let texts = [watcher.get("cmd"), watcher.get("args")];
    let mut known = Variables::new();
    known.set_group("sockets", sockets.iter().map(|s| (s.name.as_str(), "")));
    let mut named = false;
    for text in texts.into_iter().flatten().filter_map(Value::as_str) {
        named |= Variables::may_be_in(text) && known.expand(text) != text;
        for unknown in known.unknown(text) {
            let lower = unknown.to_lowercase();
            if lower.contains("circus.sockets.") || lower.starts_with("${socket:") {
                loader.warnings.push(format!(
                    "[{section}] {unknown} names no [socket:NAME] section and is passed on as it \
                     stands"
                ));
            }
        }
    }
    if named && !watcher.use_sockets() && watcher.listen_fds() == ListenFds::None {
        loader.warnings.push(format!(
            "[{section}] names a socket in its command without `use_sockets = True`, so the socket \
             is closed in its workers"
        ));
    }
    if watcher.listen_fds() == ListenFds::Used && sockets.is_empty() {
        loader.warnings.push(format!(
            "[{section}] listen_fds = True without any [socket:NAME] section: no socket is handed over"
        ));
    }
    if watcher.on_demand() && sockets.is_empty() {
        loader.warnings.push(format!(
            "[{section}] on_demand = True without any [socket:NAME] section: nothing will ever start it"
        ));
    }
    if watcher.numprocesses() == 0 && !watcher.singleton() {
        loader.warnings.push(format!(
            "[{}] has numprocesses = 0 and will start no worker",
            draft.section
        ));
    }
}
