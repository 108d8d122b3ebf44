//! The `[plugin:NAME]` sections, and the watcher that runs each: it has the section's name, one process, priority 1 and
//! the daemon's environment. Source: `circus.plugins.get_plugin_cmd` and the plugins in `circus.arbiter.Arbiter`.

use std::path::Path;

use indexmap::IndexMap;

use super::document::NAME_KEY;
use super::error::{ProblemKind, quoted};
use super::load::{Environ, Loader};
use super::merged::Item;
use super::model::{CircusOptions, PluginConfig};
use super::plugin_keys::{self, PluginSpec};
use super::watchers::{self, OwnVariables};
use super::{pytext, shlex, virtualenv};
use crate::options::{self, Map, Value, WatcherOptions, to_bool};

/// The program that runs plugins. It is this very program, whatever the file it came from has become.
pub const PLUGIN_PROGRAM: &str = "circus-plugin";
pub(super) const THIS_PROGRAM: &str = "/proc/self/exe";

/// What is between two settings on the command line of a plugin.
pub const BETWEEN: &str = ":::";

/// What the watcher of a plugin is; a section cannot change it.
const SETTLED: [&str; 6] = [
    "cmd",
    "args",
    "shell",
    "executable",
    "singleton",
    "numprocesses",
];

/// All plugins, sorted by name, and their watchers in the same order. Problems go into the loader.
pub(super) fn build(
    loader: &mut Loader,
    circus: &CircusOptions,
) -> (Vec<PluginConfig>, Vec<WatcherOptions>) {
    let mut all: Vec<(PluginConfig, WatcherOptions)> = loader
        .sections("plugin:")
        .into_iter()
        .map(|section| plugin(loader, circus, section))
        .collect();
    all.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    all.into_iter().unzip()
}

/// A watcher cannot have the name of a plugin's.
pub(super) fn check_names(
    loader: &mut Loader,
    plugins: &[PluginConfig],
    watchers: &[(String, WatcherOptions)],
) {
    for (at, plugin) in plugins.iter().enumerate() {
        let same = |name: &str| name.to_lowercase() == plugin.name.to_lowercase();
        let watcher = watchers.iter().find(|(_, watcher)| same(&watcher.name));
        let other = plugins[..at].iter().find(|other| same(&other.name));
        let other = other
            .map(|other| &other.name)
            .or(watcher.map(|(section, _)| section));
        if let Some(other) = other {
            let what = format!(
                "the watcher that runs it has the name of [{other}] (names do not distinguish case); rename one of them"
            );
            let problem = loader.merged.section_problem(&plugin.name, what);
            loader.problems.push(problem);
        }
    }
}

fn plugin(
    loader: &mut Loader,
    circus: &CircusOptions,
    section: String,
) -> (PluginConfig, WatcherOptions) {
    let raw = loader.expanded_items(&section);
    let convert = |text: &str| pytext::int(text).map(Some);
    let plugin = PluginConfig {
        priority: loader.converted(&section, "priority", None, convert, "a whole number"),
        class: raw.get("use").cloned(),
        settings: settings(&section, &raw),
        name: section,
        raw,
    };
    let native = plugin.class.as_deref().and_then(plugin_keys::native);
    check(loader, &plugin, native);
    let watcher = watcher(loader, circus, &plugin, native);
    (plugin, watcher)
}

/// What the plugin is given. Circus puts the values on a command line unquoted, so that quotes around a value, and
/// backslashes, are taken off on the way.
fn settings(section: &str, raw: &IndexMap<String, String>) -> IndexMap<String, String> {
    let mut settings: IndexMap<String, String> = raw
        .iter()
        .filter(|(key, _)| key.as_str() != "use")
        .map(|(key, value)| (key.clone(), unquoted(value)))
        .collect();
    settings.insert("name".to_owned(), section.to_owned());
    settings.sort_keys();
    settings
}

/// A value as one word of a command line; as it stands, if it is several.
fn unquoted(value: &str) -> String {
    let value = pytext::strip(value);
    match shlex::split(value) {
        Ok(mut words) if words.len() == 1 => words.remove(0),
        _ => value.to_owned(),
    }
}

fn check(loader: &mut Loader, plugin: &PluginConfig, native: Option<&PluginSpec>) {
    let section = &plugin.name;
    let items = loader.merged.items(section);
    match &plugin.class {
        None => {
            let what = "a plugin needs `use`, the name of its class";
            let problem = loader.merged.section_problem(section, what);
            loader.problems.push(problem);
        }
        Some(class) if native.is_none() && class.starts_with("circus.plugins.") => {
            let near = plugin_keys::nearest_class(class)
                .map_or(String::new(), |near| format!("; did you mean {near}?"));
            loader.warnings.push(format!(
                "[{section}] use: Circus has no plugin {}{near}",
                quoted(class)
            ));
        }
        Some(_) => {}
    }
    for (key, item) in items.iter().filter(|(key, _)| *key != NAME_KEY) {
        let passed = plugin.settings.get(key).map_or("", String::as_str);
        let lost = item.value.matches('\\').count() > passed.matches('\\').count();
        if key != "use" && lost {
            loader.warnings.push(format!(
                "[{section}] {key}: backslashes outside of quotes are taken off, as in Circus: put the value in single \
                 quotes"
            ));
        }
        if passed.contains(BETWEEN) {
            let what = "`:::` cannot be part of a plugin's value: it is what Circus puts between two of them";
            problem(loader, section, key, item, what);
        }
        if SETTLED.contains(&key.as_str()) {
            loader.warnings.push(format!(
                "[{section}] {key}: a plugin has no say in this; it is ignored"
            ));
        }
        let Some(native) = native else { continue };
        match native.key(key) {
            Some(spec) if !passed.is_empty() => {
                if let Some(expected) = plugin_keys::expected(spec, passed) {
                    let what = format!("{} is not {expected}", quoted(passed));
                    problem(loader, section, key, item, &what);
                }
            }
            None if !["use", "name", "priority"].contains(&key.as_str())
                && options::find(key).is_none() =>
            {
                let near = options::nearest_of(key, native.keys().map(|spec| spec.name))
                    .map_or(String::new(), |near| format!("; did you mean {near}?"));
                loader.warnings.push(format!(
                    "[{section}] {key}: {} has no such key; it is ignored{near}",
                    native.classes[0]
                ));
            }
            _ => {}
        }
    }
    let given = |key: &str| {
        plugin
            .settings
            .get(key)
            .is_some_and(|text| !text.is_empty())
    };
    if native.is_some_and(|native| native.name == "resource_watcher")
        && !given("watcher")
        && !given("service")
    {
        let what = "say with `watcher` which one to look at";
        let problem = loader.merged.section_problem(section, what);
        loader.problems.push(problem);
    }
}

fn problem(loader: &mut Loader, section: &str, key: &str, item: &Item, what: &str) {
    let problem = loader
        .merged
        .problem(ProblemKind::Value, section, key, item, what);
    loader.problems.push(problem);
}

/// The watcher of a plugin. What the section says of a watcher's options holds for it, unless it is a key of the plugin.
fn watcher(
    loader: &mut Loader,
    circus: &CircusOptions,
    plugin: &PluginConfig,
    native: Option<&PluginSpec>,
) -> WatcherOptions {
    let section = &plugin.name;
    let mut watcher = WatcherOptions::ini_defaults(section);
    let active = plugin.settings.get("active").map(|text| to_bool(text));
    let own: [(&str, Value); 7] = [
        ("cmd", command(circus, plugin, &loader.cwd).into()),
        ("executable", THIS_PROGRAM.into()),
        ("priority", 1.into()),
        ("singleton", true.into()),
        ("copy_env", true.into()),
        ("copy_path", true.into()),
        ("autostart", (active != Some(Ok(false))).into()),
    ];
    for (key, value) in own {
        watchers::put(&mut watcher, key, value);
    }
    let none = Environ::new();
    let variables = OwnVariables::new(&loader.global_env, &none);
    let mut problems = Vec::new();
    for (key, item) in loader.merged.items(section) {
        let of_plugin = native.is_some_and(|native| native.key(&key).is_some());
        if ["use", "name"].contains(&key.as_str()) || SETTLED.contains(&key.as_str()) {
            continue;
        }
        if options::find(&key).is_none() {
            // Kept and told by `options`, as the keys of any watcher.
            let text = plugin.raw.get(&key).cloned().unwrap_or_default();
            watchers::put(&mut watcher, &key, Value::from(text));
        } else if !of_plugin {
            let taken = watchers::take(&mut watcher, &key, &item, &loader.variables, &variables);
            if let Err(what) = taken {
                let kind = ProblemKind::Value;
                problems.push(loader.merged.problem(kind, section, &key, &item, what));
            }
        }
    }
    drop(variables);
    let mut env = loader.environ.clone();
    if !watcher.virtualenv().is_empty() {
        let version = watcher.get("virtualenv_py_ver").and_then(Value::as_str);
        let entered = virtualenv::enter(watcher.virtualenv(), version, &loader.cwd, &mut env);
        if let (Err(what), Some(item)) = (entered, loader.merged.get(section, "virtualenv")) {
            let kind = ProblemKind::Rule;
            let problem = loader
                .merged
                .problem(kind, section, "virtualenv", item, what);
            problems.push(problem);
        }
    }
    loader.problems.extend(problems);
    let env: Map<String, Value> = env
        .into_iter()
        .map(|(name, value)| (name, Value::from(value)))
        .collect();
    watchers::put(&mut watcher, "env", Value::Object(env));
    if watcher.working_dir().is_empty() {
        watchers::put(&mut watcher, "working_dir", loader.own_directory());
    }
    watcher
}

/// An endpoint of a daemon that runs in `cwd`, for a process that may run elsewhere.
pub(super) fn endpoint_from_anywhere(text: &str, cwd: &Path) -> String {
    match text.strip_prefix("ipc://") {
        Some(path) if !path.starts_with('@') => {
            format!("ipc://{}", cwd.join(path).display())
        }
        _ => text.to_owned(),
    }
}

/// Where a daemon that runs in `cwd` logs, for a process that may run elsewhere.
pub(super) fn output_from_anywhere(circus: &CircusOptions, cwd: &Path) -> Option<String> {
    circus.logoutput.as_deref().map(|text| match text {
        "-" | "stdout" => text.to_owned(),
        url if url.starts_with("syslog://") => url.to_owned(),
        path => cwd.join(path).to_string_lossy().into_owned(),
    })
}

/// The command line, with circus's options in circus's order. The plugin may have another working directory than the
/// daemon, whose directory is `cwd`.
fn command(circus: &CircusOptions, plugin: &PluginConfig, cwd: &Path) -> String {
    let (control, events) = (
        endpoint_from_anywhere(&circus.endpoint, cwd),
        endpoint_from_anywhere(&circus.pubsub_endpoint, cwd),
    );
    let output = output_from_anywhere(circus, cwd);
    let settings: Vec<String> = plugin
        .settings
        .iter()
        .map(|(key, value)| format!("{key}:{value}"))
        .collect();
    let settings = settings.join(BETWEEN);
    let mut words = vec![
        PLUGIN_PROGRAM,
        "--endpoint",
        &control,
        "--pubsub",
        &events,
        "--config",
        &settings,
    ];
    if circus.debug {
        words.extend(["--log-level", "DEBUG"]);
    } else if let Some(level) = &circus.loglevel {
        words.extend(["--log-level", level]);
    }
    if let Some(output) = &output {
        words.extend(["--log-output", output]);
    }
    let python = plugin.class.as_deref().filter(|class| {
        // Its virtualenv has a Python of its own.
        plugin_keys::native(class).is_none() && !plugin.raw.contains_key("virtualenv")
    });
    let python = python.and(circus.python.as_deref());
    let python = python.map(|program| format!("--with-python={program}"));
    words.extend(python.as_deref());
    words.push(match circus.log_format.as_deref() {
        Some("json") => "--with-daemon=json",
        _ => "--with-daemon",
    });
    words.push(plugin.class.as_deref().unwrap_or_default());
    let words: Vec<String> = words.into_iter().map(shlex::quote).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::{Config, tests::loaded};
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        loaded(text, &[("A", "1")], None)
    }

    #[test]
    fn a_plugin_is_a_watcher_as_circus_makes_it() {
        let config = load(
            "[circus]\nloglevel = debug\n[env]\nB = 2\n[plugin:Dog]\nuse = circus.plugins.watchdog.WatchDog\n\
             watchers_regex = \"^web$\"\nmsg_regex = '(?P<pid>\\d+) x'\ngraceful_timeout = 3\nmax_count = 2\n",
        )
        .unwrap();
        let services: Vec<(&str, &WatcherOptions)> = config.services_by_section().collect();
        let [(section, watcher)] = services[..] else {
            panic!("{services:?}");
        };
        assert_eq!(
            (section, watcher.name.as_str()),
            ("plugin:Dog", "plugin:Dog")
        );
        assert_eq!((watcher.priority(), watcher.numprocesses()), (1, 1));
        assert!(watcher.singleton() && watcher.autostart());
        assert_eq!(watcher.graceful_timeout(), 3.0);
        assert_eq!(watcher.get("max_count"), Some(&Value::from("2")));
        let env: Vec<&str> = watcher.env().unwrap().keys().map(String::as_str).collect();
        assert_eq!(env, ["A"]);
        let words = shlex::split(watcher.cmd()).unwrap();
        assert_eq!(words[0], "circus-plugin");
        let at = words.iter().position(|word| word == "--config").unwrap();
        assert_eq!(
            words[at + 1],
            "__name__:plugin:Dog:::graceful_timeout:3:::max_count:2:::msg_regex:(?P<pid>\\d+) x:::name:plugin:Dog\
             :::watchers_regex:^web$"
        );
        assert!(watcher.cmd().contains("--log-level debug"));
        assert_eq!(words.last().unwrap(), "circus.plugins.watchdog.WatchDog");
        assert_eq!(config.warnings, [] as [&str; 0]);
    }

    #[test]
    fn a_plugin_finds_the_daemon_from_any_directory() {
        let config = load(
            "[circus]\nendpoint = ipc://ctl\npubsub_endpoint = tcp://127.0.0.1:1\nlogoutput = sub/log\n\
             [plugin:a]\nuse = m.P\nworking_dir = /\n",
        )
        .unwrap();
        let dir = config.files[0].parent().unwrap().to_string_lossy();
        let cmd = config.plugin_watchers[0].cmd();
        for wanted in [
            format!("--endpoint ipc://{dir}/ctl --pubsub tcp://127.0.0.1:1 "),
            format!("--log-output {dir}/sub/log "),
        ] {
            assert!(cmd.contains(&wanted), "{wanted} in {cmd}");
        }
    }

    #[test]
    fn the_python_of_the_configuration_runs_plugins_in_python() {
        let config = load(
            "[circus]\npython = /opt/my python\nlog_format = json\n[plugin:a]\nuse = m.P\n\
             [plugin:b]\nuse = circus.plugins.flapping.Flapping\n",
        )
        .unwrap();
        let words = |at: usize| shlex::split(config.plugin_watchers[at].cmd()).unwrap();
        assert!(words(0).contains(&"--with-python=/opt/my python".to_owned()));
        assert!(!words(1).iter().any(|word| word.contains("python=")));
        assert!(words(1).contains(&"--with-daemon=json".to_owned()));
    }

    #[test]
    fn keys_of_a_plugin_are_not_options_of_its_watcher() {
        let config = load(
            "[plugin:f]\nuse = circus.plugins.flapping.Flapping\nmax_retry = -1\nactive = no\npriority = 7\n",
        )
        .unwrap();
        let watcher = &config.plugin_watchers[0];
        assert_eq!(watcher.max_retry(), Some(5));
        assert_eq!(watcher.priority(), 7);
        assert!(!watcher.autostart());
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let told = load(
            "[plugin:a]\nx = 1\n[plugin:b]\nuse = circus.plugins.flapping.Flapping\nattempts = many\n\
             [plugin:c]\nuse = circus.plugins.resource_watcher.ResourceWatcher\n[plugin:d]\nuse = m.P\nx = a:::b\n\
             [plugin:A]\nuse = m.P\n",
        )
        .unwrap_err();
        for wanted in [
            "circus.ini:1: [plugin:a]: a plugin needs `use`",
            "circus.ini:5: [plugin:b] attempts: \"many\" is not a whole number",
            "circus.ini:6: [plugin:c]: say with `watcher` which one",
            "circus.ini:10: [plugin:d] x: `:::` cannot be part",
            "[plugin:a]: the watcher that runs it has the name of [plugin:A]",
        ] {
            assert!(told.contains(wanted), "{wanted} in:\n{told}");
        }
    }

    #[test]
    fn what_is_probably_not_meant_is_warned_of() {
        let config = load(
            "[plugin:a]\nuse = circus.plugins.flaping.Flapping\n[plugin:b]\nuse = circus.plugins.statsd.FullStats\n\
             loop_rat = 3\ncmd = x\n[plugin:c]\nuse = circus.plugins.watchdog.WatchDog\n\
             msg_regex = (?P<pid>\\d+)\n[plugin:d]\nuse = mine.Own\nanything = goes\n[watcher:w]\ncmd = x\n\
             flapping.atempts = 3\nflapping.window = long\nflapping.retry_in = 3\n",
        )
        .unwrap();
        let told = config.warnings.join("\n");
        for wanted in [
            "[plugin:a] use: Circus has no plugin \"circus.plugins.flaping.Flapping\"; did you mean circus.plugins.flapping.F",
            "[plugin:b] loop_rat: circus.plugins.statsd.FullStats has no such key; it is ignored; did you mean loop_rate?",
            "[plugin:b] cmd: a plugin has no say in this",
            "[plugin:c] msg_regex: backslashes outside of quotes",
            "[watcher:w] flapping.atempts: the plugin has no such setting; did you mean flapping.attempts?",
            "[watcher:w] flapping.window: \"long\" is not a number of seconds",
        ] {
            assert!(told.contains(wanted), "{wanted} in:\n{told}");
        }
        assert_eq!(config.warnings.len(), 6, "{told}");
    }
}
