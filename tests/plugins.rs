//! How plugins live beside a daemon: as watchers that are seen and ordered like others, in Python or native, changed by
//! `reloadconfig`, and harmless when they die. What each native plugin does is in `plugins_native.rs`.

mod support;

use std::fs;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use support::{Daemon, Program, TempSite, is_alive, venv, wait_for};

/// A plugin as a user would write it: it notes what it hears, and asks and orders.
const NOTES: &str = r#"
from circus.plugins import CircusPlugin

class Notes(CircusPlugin):
    name = 'notes'

    def __init__(self, *args, **config):
        super().__init__(*args, **config)
        self.path = config['filename']
        self.text = config.get('text', 'nothing')

    def note(self, *words):
        with open(self.path, 'a') as out:
            print(*words, file=out)

    def handle_init(self):
        self.note('init', self.text, self.config['name'])

    def handle_recv(self, data):
        watcher, action, message = self.split_data(data)
        fields = self.load_message(message)
        self.note(action, watcher, fields.get('process_pid'))
        if action == 'start' and watcher == 'web':
            self.note('status', self.call('status', name='web')['status'])
            self.cast('incr', name='other')
"#;

fn circ(site: &TempSite, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_circ"))
        .args(args)
        .current_dir(site.dir())
        .env("CIRCUSCTL_ENDPOINT", &site.endpoint)
        .stdin(Stdio::null())
        .output()
        .expect("circ can be run")
}

fn pid_of(daemon: &Daemon, watcher: &str) -> i32 {
    daemon.wait_pids(watcher, 1)[0]
}

fn notes(site: &TempSite) -> String {
    fs::read_to_string(site.path("notes")).unwrap_or_default()
}

/// A plugin shows up as Circus shows it: its watcher's name, its settings among the options, first in the order.
#[test]
fn a_plugin_is_a_watcher_as_in_circus() {
    let body = |port: u16| {
        format!(
            "[watcher:web]\ncmd = sleep 1000\n[plugin:dog]\nuse = circus.plugins.watchdog.WatchDog\nport = {port}\n\
             watchers_regex = \"^none$\"\n[plugin:flap]\nuse = circus.plugins.flapping.Flapping\nattempts = 3\n"
        )
    };
    let mut told = Vec::new();
    for program in [Program::Circusd, Program::Circ] {
        let site = TempSite::new();
        site.ini(&body(site.port()));
        let daemon = site.start(program);
        for watcher in ["plugin:dog", "plugin:flap", "web"] {
            pid_of(&daemon, watcher);
        }
        let mut options = daemon.ok("options", json!({"name": "plugin:flap"}))["options"].clone();
        let cmd = options["cmd"].as_str().unwrap_or_default().to_owned();
        for word in [
            &format!("--endpoint {}", site.endpoint),
            &format!("--pubsub {}", site.pubsub),
            "--config",
            "attempts:3:::name:plugin:flap",
        ] {
            assert!(cmd.contains(word), "{word} in {cmd}");
        }
        assert!(cmd.ends_with("circus.plugins.flapping.Flapping"), "{cmd}");
        // Wanted differences: the program, and that what a plugin says is not thrown away.
        for key in [
            "cmd",
            "executable",
            "env",
            "working_dir",
            "close_child_stdout",
            "close_child_stderr",
            "args",
            "stdout_stream_conf",
            "stderr_stream_conf",
            "warmup_delay",
            "on_demand",
        ] {
            options[key].take();
        }
        told.push((
            daemon.ok("list", json!({}))["watchers"].clone(),
            daemon.ok("status", json!({}))["statuses"].clone(),
            daemon.ok("numwatchers", json!({}))["numwatchers"].clone(),
            options,
        ));
    }
    assert_eq!(told[0], told[1]);
}

/// A plugin that dies is replaced; nobody else notices.
#[test]
fn a_plugin_that_dies_harms_nobody() {
    let site = TempSite::new();
    site.ini(
        "[watcher:web]\ncmd = sleep 1000\n[plugin:flap]\nuse = circus.plugins.flapping.Flapping\n\
         [plugin:bad]\nuse = circus.plugins.http_observer.HttpObserver\ncheck_url = gopher://h/\nrespawn = False\n",
    );
    let daemon = site.start(Program::Circ);
    let (web, plugin) = (pid_of(&daemon, "web"), pid_of(&daemon, "plugin:flap"));
    kill(Pid::from_raw(plugin), Signal::SIGKILL).expect("the plugin runs");
    daemon.wait_for("another plugin process", || {
        let pids = daemon.pids("plugin:flap");
        (pids.len() == 1 && pids[0] != plugin && is_alive(pids[0])).then_some(())
    });
    assert_eq!(daemon.pids("web"), [web]);
    let said = daemon.wait_for("the reason of the one that cannot run", || {
        let status = daemon.call("status", json!({"name": "plugin:bad"}));
        let said = status["last_exit"]["stderr"].to_string();
        said.contains("check_url").then_some(said)
    });
    assert!(
        said.contains("begins with neither http:// nor https://"),
        "{said}"
    );
}

/// A plugin that is left behind by a killed daemon ends, so that the next daemon's is alone.
#[test]
fn a_plugin_ends_with_its_daemon() {
    let site = TempSite::new();
    site.ini(
        "[plugin:flap]\nuse = circus.plugins.flapping.Flapping\n\
         [plugin:reload]\nuse = circus.plugins.command_reloader.CommandReloader\n",
    );
    let daemon = site.start(Program::Circ);
    let pids = ["plugin:flap", "plugin:reload"].map(|name| pid_of(&daemon, name));
    daemon.wait_for("the plugins to be connected", || {
        let log = daemon.log();
        (log.matches(" starts, for ").count() == 2).then_some(())
    });
    daemon.signal(Signal::SIGKILL);
    wait_for("the plugins to end", || {
        pids.iter().all(|pid| !is_alive(*pid)).then_some(())
    });
}

/// A changed section restarts its plugin and nothing else; new ones come and old ones go.
#[test]
fn reloadconfig_adds_changes_and_removes_plugins() {
    let site = TempSite::new();
    let port = site.port();
    let web = "[watcher:web]\ncmd = sleep 1000\n";
    let flap = "[plugin:flap]\nuse = circus.plugins.flapping.Flapping\n";
    let dog = format!(
        "[plugin:dog]\nuse = circus.plugins.watchdog.WatchDog\nport = {port}\nwatchers_regex = none\n"
    );
    site.ini(&format!("{web}{flap}{dog}"));
    let daemon = site.start(Program::Circ);
    let before = ["web", "plugin:flap", "plugin:dog"].map(|name| pid_of(&daemon, name));
    let bound = || daemon.log().matches("datagrams are received on").count();
    daemon.wait_for("the port", || (bound() == 1).then_some(()));

    let observer = "[plugin:red]\nuse = circus.plugins.redis_observer.RedisObserver\n";
    site.ini(&format!("{web}{flap}{dog}loop_rate = 5\n{observer}"));
    let plan = daemon.ok("reloadconfig", json!({"check": true}));
    assert_eq!(
        plan["plan"],
        json!([
            {"section": "plugin:dog", "action": "replace", "keys": plan["plan"][0]["keys"]},
            {"section": "plugin:red", "action": "add", "keys": []},
        ])
    );
    daemon.ok("reloadconfig", json!({"waiting": true}));
    pid_of(&daemon, "plugin:red");
    let dog_pid = pid_of(&daemon, "plugin:dog");
    assert_ne!(dog_pid, before[2]);
    // the new one gets the port that the old one had
    daemon.wait_for("the port again", || (bound() == 2).then_some(()));
    assert_eq!(pid_of(&daemon, "plugin:dog"), dog_pid);

    site.ini(&format!("{web}{observer}"));
    daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(
        daemon.ok("list", json!({}))["watchers"],
        json!(["plugin:red", "web"])
    );
    assert_eq!(daemon.pids("web"), [before[0]]);

    site.ini(&format!(
        "{web}[plugin:red]\nuse = circus.plugins.redis_observer.RedisObserver\ntimeout = x\n"
    ));
    let refused = daemon.call("reloadconfig", json!({"waiting": true}));
    assert!(
        refused["reason"]
            .as_str()
            .is_some_and(|why| why.contains("[plugin:red] timeout: \"x\" is not")),
        "{refused}"
    );
    assert!(is_alive(daemon.pids("plugin:red")[0]));
}

/// The state module adds, changes and removes plugins of a running daemon.
#[test]
fn circ_state_apply_acts_on_plugins() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    let web = pid_of(&daemon, "web");
    let apply = |text: &str| {
        site.write("desired.toml", text);
        let args = ["state", "apply", "desired.toml", "--config", "circus.ini"];
        let output = circ(&site, &args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    };
    let plugin = "[plugin.flap]\nuse = \"circus.plugins.flapping.Flapping\"\n";
    let said = apply(plugin);
    assert!(said.contains("plugin:flap: added"), "{said}");
    let first = pid_of(&daemon, "plugin:flap");
    let said = apply(plugin);
    assert!(said.contains("ok  plugin:flap"), "{said}");
    assert_eq!(daemon.pids("plugin:flap"), [first]);
    apply(&format!("{plugin}attempts = 4\n"));
    daemon.wait_for("a plugin with the new setting", || {
        let pids = daemon.pids("plugin:flap");
        (pids.len() == 1 && pids[0] != first).then_some(())
    });
    apply("[plugin.flap]\nstate = \"absent\"\n");
    daemon.wait_for("the plugin to be gone", || {
        let names = daemon.ok("list", json!({}));
        (names["watchers"] == json!(["web"])).then_some(())
    });
    assert_eq!(daemon.pids("web"), [web]);
}

fn python_site(site: &TempSite, body: &str) {
    site.write("mine.py", NOTES);
    site.ini(&format!(
        "[watcher:web]\ncmd = sleep 1000\n[watcher:other]\ncmd = sleep 1000\n[plugin:notes]\nuse = mine.Notes\n\
         filename = {}\n{body}",
        site.path("notes").display()
    ));
}

/// A plugin in Python, on the circus library, does on circ what it does on circusd.
#[test]
fn a_plugin_in_python_runs_as_on_circusd() {
    let mut told: Vec<Vec<String>> = Vec::new();
    for program in [Program::Circusd, Program::Circ] {
        let site = TempSite::new();
        python_site(&site, "text = 'two words'\n");
        if program == Program::Circusd {
            // circusd cannot pass a value of several words
            python_site(&site, "text = one\n");
        }
        if program == Program::Circ {
            // the Python that has the library need not be the one on PATH
            let python = format!("python = {}\n", venv().python().display());
            let text = fs::read_to_string(site.path("circus.ini")).expect("a file");
            site.write(
                "circus.ini",
                text.replacen("[circus]\n", &format!("[circus]\n{python}"), 1),
            );
        }
        let daemon = site.start_with(program, |command| {
            command.env("PYTHONPATH", site.dir());
        });
        pid_of(&daemon, "web");
        daemon.wait_for("the plugin to be there", || {
            notes(&site).starts_with("init").then_some(())
        });
        // it hears from its connection on, which it does not tell
        let heard = daemon.wait_for("the plugin to hear", || {
            // circusd refuses while it does what the plugin ordered
            daemon.call("restart", json!({"name": "web", "waiting": true}));
            let notes = notes(&site);
            (notes.contains("kill web") && notes.contains("status")).then_some(notes)
        });
        daemon.wait_for("what it ordered", || {
            (daemon.pids("other").len() > 1).then_some(())
        });
        let first = heard.lines().next().unwrap_or_default();
        let wanted = match program {
            Program::Circ => "init two words plugin:notes",
            Program::Circusd => "init one plugin:notes",
        };
        assert_eq!(first, wanted);
        let mut actions: Vec<String> = heard
            .lines()
            .filter(|line| line.contains(" web "))
            .filter_map(|line| Some(line.split_once(' ')?.0.to_owned()))
            .collect();
        actions.sort();
        actions.dedup();
        told.push(actions);
        // circusd may be busy and not hear a SIGTERM; dropped, it is killed
        drop(daemon);
    }
    assert!(told[1].contains(&"reap".to_owned()), "{told:?}");
    assert_eq!(told[0], told[1]);
}

/// What is missing for a plugin in Python is said where one looks for it.
#[test]
fn a_plugin_in_python_that_cannot_run_says_why() {
    let site = TempSite::new();
    fs::create_dir(site.path("bin")).expect("a directory");
    let bare = site.write(
        "bin/python3",
        format!(
            "#!/bin/sh\nexec {} -I -S \"$@\"\n",
            venv().python().display()
        ),
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bare, mode).expect("a script can be run");
    python_site(
        &site,
        "respawn = False\n[plugin:gone]\nuse = mine.Gone\nrespawn = False\n",
    );
    let with_circus = venv().path();
    let without = format!("{}:/usr/bin:/bin", site.path("bin").display());
    for (path, watcher, wanted) in [
        (without, "plugin:notes", "needs the circus library"),
        (with_circus, "plugin:gone", "mine.Gone cannot be had"),
    ] {
        let daemon = site.start_with(Program::Circ, |command| {
            command.env("PATH", path).env("PYTHONPATH", site.dir());
        });
        let said = daemon.wait_for("the reason", || {
            let status = daemon.call("status", json!({"name": watcher}));
            let said = status["last_exit"]["stderr"].to_string();
            said.contains("circus-plugin: ").then_some(said)
        });
        assert!(said.contains(wanted), "{said}");
        assert!(daemon.log().contains(wanted), "{}", daemon.tail());
        pid_of(&daemon, "web");
        daemon.stop();
    }
}

/// The program as such; its options and texts are compared with the real one's in `programs.rs`.
#[test]
fn circus_plugin_tells_of_a_wrong_setting() {
    let run = |program: &mut Command, args: &[&str]| {
        let output = program.args(args).stdin(Stdio::null()).output();
        let output = output.expect("it can be run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let ours = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
        command.arg("circus-plugin");
        command
    };
    let (code, _, said) = run(
        &mut ours(),
        &["--config", "attempts:x", "circus.plugins.flapping.Flapping"],
    );
    assert_eq!(code, Some(1));
    assert!(
        said.contains("attempts: \"x\" is not a whole number"),
        "{said}"
    );
}

/// A native plugin on its own works against a real circusd, and finds it again when it comes back.
#[test]
fn a_native_plugin_works_beside_circusd() {
    let site = TempSite::new();
    site.ini("[watcher:bad]\ncmd = sleep 0.2\n[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circusd);
    let log = fs::File::create(site.path("plugin.log")).expect("a file");
    let mut plugin = Command::new(env!("CARGO_BIN_EXE_circ"))
        .args(["circus-plugin", "--endpoint", &site.endpoint])
        .args(["--pubsub", &site.pubsub, "--config"])
        .args([
            "attempts:1:::max_retry:0",
            "circus.plugins.flapping.Flapping",
        ])
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the plugin can be run");
    let stopped = |daemon: &Daemon| {
        daemon.wait_for("the watcher to be stopped", || {
            let status = daemon.call("status", json!({"name": "bad"}));
            (status["status"] == "stopped").then_some(())
        });
    };
    stopped(&daemon);
    pid_of(&daemon, "web");
    daemon.stop();
    let daemon = site.start(Program::Circusd);
    stopped(&daemon);
    assert!(plugin.try_wait().expect("it is ours").is_none());
    kill(Pid::from_raw(plugin.id() as i32), Signal::SIGINT).expect("it runs");
    let status = plugin.wait().expect("it is ours");
    assert_eq!(status.code(), Some(0));
    let said = fs::read_to_string(site.path("plugin.log")).unwrap_or_default();
    for wanted in [
        "reached max retry limit",
        "the daemon is not reached",
        "stopping",
    ] {
        assert!(said.contains(wanted), "{wanted} in {said}");
    }
}
