//! What programs that use Circus do with it, done by scripts with Circus's own client library: against circ as the
//! daemon, and against circusd, so that the scripts ask for nothing that circusd does not give.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use support::{Daemon, Program, TempSite, venv};

const BOTH: [Program; 2] = [Program::Circusd, Program::Circ];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/callers")
        .join(name)
}

/// Runs one of the scripts; its complaint is the test's.
#[track_caller]
fn play(daemon: &Daemon, script: &str, arguments: &[&str]) {
    let output = Command::new(venv().python())
        .arg("-B")
        .arg(file(script))
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{:?}: {}{}\n{}",
        daemon.program,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        daemon.tail()
    );
}

/// AiiDA runs its workers in its own virtualenv, with their output in a file, and asks over ipc.
#[test]
fn aiida_manages_its_daemon() {
    for program in BOTH {
        let site = TempSite::ipc();
        let sockets = site.path("sockets");
        std::fs::create_dir(&sockets).unwrap();
        let at = |name: &str| format!("ipc://{}/{name}", sockets.display());
        let python = venv().python();
        let home = python.parent().and_then(Path::parent).unwrap();
        site.write(
            "circus.ini",
            format!(
                "[circus]\nendpoint = {}\npubsub_endpoint = {}\nstats_endpoint = {}\nstatsd = True\n\
                 multicast_endpoint =\npidfile = {}\nlogoutput = -\nloglevel = INFO\ndebug = False\ncheck_delay = 0.5\n\
                 [watcher:aiida-main]\ncmd = python -u -c 'import time; print(\"up\"); time.sleep(1000)'\n\
                 numprocesses = 2\ncopy_env = True\nvirtualenv = {}\n\
                 stdout_stream.class = FileStream\nstdout_stream.filename = {log}\n\
                 stdout_stream.time_format = %Y-%m-%d %H:%M:%S\n\
                 stderr_stream.class = FileStream\nstderr_stream.filename = {log}\n\
                 stderr_stream.time_format = %Y-%m-%d %H:%M:%S\n\
                 [env:aiida-main]\nPYTHONUNBUFFERED = True\nAIIDA_PATH = {}\n",
                at("controller"),
                at("pubsub"),
                at("stats"),
                site.path("circus.pid").display(),
                home.display(),
                site.dir().display(),
                log = site.path("daemon.log").display(),
            ),
        );
        let mut command = match program {
            Program::Circusd => Command::new(venv().circusd()),
            Program::Circ => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
                command.arg("circusd");
                command
            }
        };
        command.arg(site.path("circus.ini")).current_dir(site.dir());
        let daemon = site.spawn_command(program, command);
        daemon.wait_for("the workers' output", || {
            let log = std::fs::read_to_string(site.path("daemon.log")).ok()?;
            (log.matches("up").count() == 2).then_some(())
        });
        play(
            &daemon,
            "aiida.py",
            &[
                &at("controller"),
                site.path("circus.pid").to_str().unwrap(),
                "aiida-main",
                sockets.to_str().unwrap(),
            ],
        );
        assert!(daemon.wait_exit().success());
    }
}

/// BentoML's servers share sockets of the daemon; each worker is told its number.
#[test]
fn bentoml_serves_on_shared_sockets() {
    for program in BOTH {
        let site = TempSite::new();
        let port = site.port();
        let path = site.path("runner.sock");
        let python = venv().python();
        let (python, server) = (python.display(), file("server.py"));
        // Arguments and variables hold JSON; a plugin in Python has everything restarted when its file is there.
        let common = format!(
            "use_sockets = True\ncopy_env = True\nstop_children = True\ngraceful_timeout = 86400\nrespawn = True\n\
             working_dir = {}\nclose_child_stdin = True\n",
            site.dir().display()
        );
        let (sources, map) = (site.path("src"), r#"{"runner": "unix://runner.sock"}"#);
        std::fs::create_dir(&sources).unwrap();
        let changed = sources.join("changed");
        site.ini(&format!(
            "check_delay = 0.5\ndebug = False\n\
             [watcher:runner]\ncmd = '{python}'\n\
             args = -u {} $(CIRCUS.WID) $(circus.sockets.runner) --args '{map}'\n\
             numprocesses = 2\n{common}\
             [watcher:api_server]\ncmd = '{python}'\n\
             args = -u {} $(circus.wid) $(circus.sockets._api_1) --args '{map}'\n\
             numprocesses = 3\n{common}\
             [env:runner,api_server]\nRUNNER_MAP = {map}\n\
             [socket:runner]\npath = {}\nbacklog = 2048\n\
             [socket:_api_1]\nhost = 127.0.0.1\nport = {port}\nfamily = AF_INET\nbacklog = 2048\n\
             [plugin:reloader]\nuse = reloader.Reloader\nworking_dir = {}\n",
            server.display(),
            server.display(),
            path.display(),
            sources.display(),
        ));
        // Where the plugin is found.
        let daemon = site.start_with(program, |command| {
            let home = server.parent().unwrap_or(Path::new("/"));
            command.env("PYTHONPATH", home).env("PATH", venv().path());
        });
        play(
            &daemon,
            "bentoml.py",
            &[
                daemon.endpoint(),
                &port.to_string(),
                path.to_str().unwrap(),
                changed.to_str().unwrap(),
            ],
        );
        // Its workers end at the first signal, whatever their grace.
        daemon.signal(Signal::SIGTERM);
        daemon.wait_exit();
    }
}

/// Dynamo's controllers add and remove watchers at the same time. circusd says that it is busy, and they ask again;
/// circ never says so.
#[test]
fn dynamo_adds_and_removes_workers() {
    for (program, patience) in [(Program::Circusd, "400"), (Program::Circ, "0")] {
        let site = TempSite::new();
        // One that is there from the start writes to files of its own, a directory a worker.
        let logs = site.path("logs/dynamo_Planner");
        std::fs::create_dir_all(&logs).unwrap();
        let logs = logs.display();
        site.ini(&format!(
            "check_delay = 0.2\n[watcher:dynamo_Planner]\ncmd = sh\nargs = -c 'echo $0; exec sleep 1000' \
             '[{{\"CUDA_VISIBLE_DEVICES\": \"0\"}}]' --worker-id $(CIRCUS.WID)\n\
             copy_env = True\nstop_children = True\nuse_sockets = True\ngraceful_timeout = 86400\nrespawn = False\n\
             stdout_stream.class = FileStream\nstdout_stream.filename = {logs}/output.log\n\
             stdout_stream.backup_count = 10\n\
             stderr_stream.class = FileStream\nstderr_stream.filename = {logs}/error.log\n\
             stderr_stream.backup_count = 10\n",
        ));
        let daemon = site.start(program);
        daemon.wait_for("what the first worker says", || {
            let said = std::fs::read_to_string(site.path("logs/dynamo_Planner/output.log")).ok()?;
            said.contains(r#"[{"CUDA_VISIBLE_DEVICES": "0"}]"#)
                .then_some(())
        });
        play(
            &daemon,
            "dynamo.py",
            &[daemon.endpoint(), site.dir().to_str().unwrap(), patience],
        );
    }
}

/// Circus's other clients: the asynchronous one, the consumer of events, the program that measures.
#[test]
fn the_other_clients_of_circus() {
    for program in BOTH {
        let site = TempSite::new();
        site.ini("check_delay = 0.5\n[watcher:web]\ncmd = sleep 1000\n");
        let daemon = site.start(program);
        daemon.wait_pids("web", 1);
        let stats = venv().python().with_file_name("circusd-stats");
        play(
            &daemon,
            "clients.py",
            &[
                daemon.endpoint(),
                &site.pubsub,
                &site.stats,
                stats.to_str().unwrap(),
            ],
        );
    }
}
