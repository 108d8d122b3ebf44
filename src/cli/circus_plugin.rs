//! The program `circus-plugin`: runs one plugin beside a daemon. A plugin of Circus's own runs natively, any other with
//! the user's Python and the circus library. Source: `circus.plugins.main`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::cli::argparse::{Kind, Opt, Parsed, Program, opt};
use crate::cli::output;
use crate::cli::ssh::{Server, Tunnel};
use crate::config::plugin_keys::{self, PluginSpec};
use crate::config::pytext;
use crate::daemon::{log, spawn};
use crate::plugins::shell::{Clock, Setup};
use crate::plugins::{self, Surroundings, parse_settings, shell};
use crate::wire::Endpoint;
use crate::wire::endpoint::{DEFAULT_CONTROL, DEFAULT_PUBSUB};

/// The command line of circus-plugin.
pub const PROGRAM: Program = Program {
    name: "circus-plugin",
    about: "Run a plugin beside a daemon",
    opts: OPTS,
    word: Some(("plugin", "the class of the plugin, with its module")),
    more: None,
};

const OPTS: &[Opt] = &[
    opt(&["-h", "--help"], Kind::Help, "print this help and exit"),
    opt(
        &["--endpoint"],
        Kind::Text,
        "the control endpoint of the daemon",
    ),
    opt(
        &["--pubsub"],
        Kind::Text,
        "where the daemon publishes events",
    ),
    opt(
        &["--config"],
        Kind::Text,
        "the settings of the plugin: KEY:VALUE:::KEY:VALUE",
    ),
    opt(&["--version"], Kind::Flag, "print the version and exit"),
    opt(
        &["--check-delay"],
        Kind::Number,
        "seconds within which the daemon notices that a worker is gone; 5 if not given",
    ),
    opt(&["--log-level"], Kind::Text, "how much to log").of("loglevel"),
    opt(
        &["--log-output"],
        Kind::Text,
        "where to log: a file, or - for the standard error stream, which is the default",
    )
    .of("logoutput"),
    opt(
        &["--ssh"],
        Kind::Text,
        "log in to USER@HOST[:PORT] with ssh and reach the daemon from there",
    ),
];

/// What a daemon puts on the command line of its own plugins: they end with it. What follows an equals sign is the form
/// of its log.
const WITH_DAEMON: &str = "--with-daemon";
/// What a daemon puts there if its configuration names the Python for plugins in Python.
const WITH_PYTHON: &str = "--with-python";
/// So long ssh tries to reach its host.
const GREETING: Duration = Duration::from_secs(10);
/// The Python that runs plugins in Python if nothing is said of it.
const PYTHON: &str = "python3";

/// A command line that was understood.
struct Line<'a> {
    parsed: &'a Parsed,
    with_daemon: bool,
    log_format: Option<String>,
    python: String,
}

impl Line<'_> {
    fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.parsed.value(name).unwrap_or(default)
    }

    fn endpoint(&self) -> &str {
        self.text("endpoint", DEFAULT_CONTROL)
    }

    fn pubsub(&self) -> &str {
        self.text("pubsub", DEFAULT_PUBSUB)
    }

    fn check_delay(&self) -> f64 {
        pytext::float(self.text("check-delay", "5")).unwrap_or(5.0)
    }

    fn log_level(&self) -> &str {
        self.text("log-level", "info")
    }

    fn log_output(&self) -> &str {
        self.text("log-output", "-")
    }
}

/// Runs under the name `circus-plugin` (`args[0]` is the program's name).
pub fn run(mut args: Vec<OsString>) -> ExitCode {
    let told = taken(&mut args, WITH_DAEMON);
    let python = taken(&mut args, WITH_PYTHON);
    let parsed = match PROGRAM.read(&args) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let Some(class) = parsed.words.first() else {
        output::line(&PROGRAM.usage());
        return ExitCode::SUCCESS;
    };
    let line = Line {
        parsed: &parsed,
        with_daemon: told.is_some(),
        log_format: told.filter(|told| !told.is_empty()),
        python: python.unwrap_or_else(|| PYTHON.to_owned()),
    };
    let outcome = match plugin_keys::native(class) {
        Some(spec) => native(&line, spec),
        None => Err(in_python(&line, class)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            output::plain_error(&format!("circus-plugin: {why}"));
            ExitCode::FAILURE
        }
    }
}

/// Takes an option that is a daemon's own from the line: what follows its equals sign.
fn taken(args: &mut Vec<OsString>, name: &str) -> Option<String> {
    let value = |arg: &OsString| {
        let rest = arg.to_str()?.strip_prefix(name)?;
        let value = rest.strip_prefix('=');
        value.or(rest.is_empty().then_some("")).map(str::to_owned)
    };
    let at = args.iter().position(|arg| value(arg).is_some())?;
    value(&args.remove(at))
}

fn told(name: &str, why: impl std::fmt::Display) -> String {
    format!("{name}: {why}")
}

fn native(line: &Line, spec: &'static PluginSpec) -> Result<(), String> {
    // The kernel names a process after the file it was read from, which is the daemon's.
    let _ = nix::sys::prctl::set_name(c"circus-plugin");
    let settings = parse_settings(line.text("config", ""));
    let name = settings.get("name").map_or(spec.name, String::as_str);
    let place = |what: &str, text: &str| -> Result<Endpoint, String> {
        let endpoint = text.parse::<Endpoint>();
        let endpoint = endpoint.map_err(|why| format!("{name}: {what}: {why}"))?;
        Ok(endpoint.reachable())
    };
    let clock = Clock::new();
    let around = Surroundings {
        check_delay: line.check_delay(),
        now: clock.now(),
    };
    let (endpoint, pubsub) = (
        place("--endpoint", line.endpoint())?,
        place("--pubsub", line.pubsub())?,
    );
    let server = line.parsed.value("ssh");
    if server.is_some() && spec.name == "command_reloader" {
        return Err(format!(
            "{name}: with --ssh it would look at the programs of this machine, not at those that the daemon runs"
        ));
    }
    let server = server.map(|text| Server::parse(text, None));
    let server = server.transpose().map_err(|why| told(name, why))?;
    let tunnel = |to: &Endpoint| {
        let tunnel = server.as_ref().map(|s| Tunnel::open(s, to, GREETING));
        tunnel.transpose().map_err(|why| told(name, why))
    };
    // They stay open as long as the plugin runs.
    let (to_control, to_events) = (tunnel(&endpoint)?, tunnel(&pubsub)?);
    let setup = Setup {
        name: name.to_owned(),
        endpoint: to_control.as_ref().map_or(endpoint, Tunnel::endpoint),
        pubsub: to_events.as_ref().map_or(pubsub, Tunnel::endpoint),
        statsd: plugins::statsd(spec, &settings).map_err(|why| told(name, why))?,
        with_parent: line.with_daemon,
    };
    let plugin = plugins::make(spec, &settings, around).map_err(|why| told(name, why))?;
    let wish = log::Wish {
        level: Some(line.log_level()),
        output: Some(line.log_output()),
        format: line.log_format.as_deref(),
        config: None,
    };
    let log = log::Setup::of(wish).map_err(|why| told(name, why))?;
    let (_log, _control) = log::start(log).map_err(|why| told(name, why))?;
    tracing::info!("{name}: {} starts, for {}", spec.classes[0], setup.endpoint);
    let ready = || {
        // Once: what the start needed is not needed any more.
        tokio::spawn(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            spawn::give_back();
        });
    };
    let outcome = shell::run(plugin, setup, clock, ready);
    match &outcome {
        Ok(()) => tracing::info!("{name}: stopping"),
        // Standard error is told as well, for whoever started this.
        Err(why) if !["-", "stdout"].contains(&line.log_output()) => {
            tracing::error!("{name}: {why}")
        }
        Err(_) => {}
    }
    outcome.map_err(|why| told(name, why))
}

/// What Python is to do. The class is the last word of the command line.
const SCRIPT: &str = "\
import os, sys
name = sys.argv[-1]
try:
    from circus import plugins
except ImportError as why:
    sys.exit('circus-plugin: %s is a plugin in Python and needs the circus library, which %s does not have (%s): '
             'install it there (pip install circus), or let virtualenv of the plugin name one that has it'
             % (name, sys.executable, why))
try:
    plugins.resolve_name(name)
except (ImportError, AttributeError) as why:
    sys.exit('circus-plugin: %s cannot be had in %s: %s; its module has to be on PYTHONPATH or in %s'
             % (name, sys.executable, why, os.getcwd()))
plugins.main()
";

/// Becomes a Python that runs the plugin; the reason if it cannot.
fn in_python(line: &Line, class: &str) -> String {
    let mut command = Command::new(&line.python);
    // An address that means every interface is none to connect to.
    let reachable = |text: &str| match text.parse::<Endpoint>() {
        Ok(endpoint) => endpoint.reachable().to_string(),
        Err(_) => text.to_owned(),
    };
    command
        .args(["-c", SCRIPT])
        .args(["--endpoint", &reachable(line.endpoint())])
        .args(["--pubsub", &reachable(line.pubsub())])
        .args(["--check-delay", &line.check_delay().to_string()])
        .args(["--log-level", &line.log_level().to_lowercase()])
        .args(["--log-output", line.log_output()]);
    if let Some(config) = line.parsed.value("config") {
        command.arg(format!("--config={config}"));
    }
    if let Some(server) = line.parsed.value("ssh") {
        command.args(["--ssh", server]);
    }
    let why = command.arg(class).exec();
    format!("{class} is a plugin in Python, and {PYTHON} cannot be run: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_daemon_says_is_taken_from_the_line() {
        let mut args: Vec<OsString> = [
            "p",
            "--with-python=/x y",
            "--with-daemon",
            "--with-daemonic",
            "a.B",
        ]
        .map(OsString::from)
        .to_vec();
        assert_eq!(taken(&mut args, WITH_DAEMON).as_deref(), Some(""));
        assert_eq!(taken(&mut args, WITH_PYTHON).as_deref(), Some("/x y"));
        assert_eq!(taken(&mut args, WITH_DAEMON), None);
        assert_eq!(args, ["p", "--with-daemonic", "a.B"]);
        let mut args = vec![OsString::from("--with-daemon=json")];
        assert_eq!(taken(&mut args, WITH_DAEMON).as_deref(), Some("json"));
    }
}
