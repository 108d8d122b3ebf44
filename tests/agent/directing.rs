//! How it is told what to do, and what it tells: commands, signals, lines, reports, exit codes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::agent::{self, Agent, at_rest, circ, direct, run};
use crate::support::{self, Program, is_alive, wait_for};
use crate::{STATE, decr, replace, started};

#[test]
fn it_pauses_resumes_and_runs_when_told() {
    started(Program::Circ, |site, daemon| {
        let agent = Agent::start(site, &["--report-dir", "reports"]);
        at_rest(site, &agent);
        let answer = direct(site, &["run-now"]);
        assert_eq!(answer["line"]["trigger"], "run-now");
        assert_eq!(answer["line"]["report"]["failed"], false);
        let answer = direct(site, &["pause", "--for", "30m"]);
        let until: jiff::Timestamp = answer["paused_until"].as_str().unwrap().parse().unwrap();
        let left = until.duration_since(jiff::Timestamp::now()).as_secs();
        assert!((1_000..=1_800).contains(&left), "{left}");
        let seen = agent.lines().len();
        decr(daemon, "web");
        let (code, _, told) = run(site, &["agent", "run-now", "--config", "circus.ini"]);
        assert_eq!(code, 3, "{told}");
        assert!(told.contains("paused until"), "{told}");
        // A pause outlives the agent.
        assert!(agent.stop().success());
        let agent = Agent::start(site, &["--report-dir", "reports"]);
        let status = agent.wait_for("the next agent", || agent::status(site));
        assert_eq!(status["paused"], true, "{status}");
        assert_eq!(daemon.pids("web").len(), 1);
        assert!(agent.lines().is_empty() && seen > 0);
        assert_eq!(direct(site, &["resume"])["was_paused"], true);
        daemon.wait_pids("web", 2);
        assert_eq!(agent.first()["trigger"], "start");
        assert_eq!(direct(site, &["resume"])["was_paused"], false);
        // As a person reads it.
        let (code, text, _) = run(site, &["agent", "status", "--config", "circus.ini"]);
        assert_eq!(code, 0);
        for part in ["connected", "enforce", "last run", "state.toml"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // An end without `resume` at its time.
        direct(site, &["pause", "--for", "500ms"]);
        let seen = agent.lines().len();
        agent.line_after(seen, "the run after a pause", |line| {
            line["trigger"] == "resume"
        });
    });
}

#[test]
fn a_second_agent_is_refused() {
    started(Program::Circ, |site, _| {
        let agent = Agent::start(site, &[]);
        agent.first();
        let elsewhere = site.endpoint.replace("127.0.0.1", "localhost");
        for args in [
            vec!["--config", "circus.ini"],
            vec!["--endpoint", &elsewhere],
            vec!["--config", "circus.ini", "--once"],
        ] {
            let mut all = vec!["agent", "--desired", "state.toml"];
            all.extend(args);
            let (code, out, told) = run(site, &all);
            assert_eq!((code, out.as_str()), (1, ""), "{told}");
            for part in [
                format!("pid {}", agent.pid()),
                "since 20".into(),
                site.path("state.toml").display().to_string(),
            ] {
                assert!(told.contains(&part), "{part}: {told}");
            }
        }
        assert!(agent.stop().success());
        let (code, _, told) = run(site, &["agent", "status", "--config", "circus.ini"]);
        assert_eq!(code, 1);
        assert!(told.contains("no agent for tcp://"), "{told}");
        let agent = Agent::start(site, &[]);
        agent.first();
        // One that was killed leaves nothing in the way either.
        agent.signal(Signal::SIGKILL);
        let pid = agent.pid();
        drop(agent);
        wait_for("the killed agent's end", || (!is_alive(pid)).then_some(()));
        Agent::start(site, &[]).first();
    });
}

#[test]
fn signals_and_the_service_manager() {
    started(Program::Circ, |site, daemon| {
        let listener = UnixDatagram::bind(site.path("notify")).unwrap();
        listener
            .set_read_timeout(Some(support::deadline()))
            .unwrap();
        let told = || {
            let mut buffer = [0; 1000];
            let length = listener.recv(&mut buffer).expect("a notification");
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        let agent = Agent::start_with(site, &[], |command| {
            command.env("NOTIFY_SOCKET", site.path("notify"));
        });
        assert_eq!(told(), "READY=1");
        let status = told();
        assert!(status.starts_with("STATUS=run 1 (start): "), "{status}");
        at_rest(site, &agent);
        let seen = agent.lines().len();
        agent.signal(Signal::SIGHUP);
        agent.line_after(seen, "the run", |line| line["trigger"] == "run-now");
        // The run under way is finished first.
        replace(site, "state.toml", &STATE.replace("= 2\n", "= 5\n"));
        agent.wait_for("a run under way", || {
            (direct(site, &["status"])["running"] == true || daemon.pids("web").len() == 5)
                .then_some(())
        });
        agent.signal(Signal::SIGINT);
        let mut agent = agent;
        assert_eq!(agent.wait_exit().code(), Some(0));
        assert_eq!(daemon.pids("web").len(), 5);
        let last = agent.lines().pop().unwrap();
        assert_eq!(last["failed"], false, "{last}");
        assert!(std::iter::from_fn(|| Some(told())).any(|text| text == "STOPPING=1"));
    });
}

#[test]
fn a_socket_file_and_who_may_use_it() {
    started(Program::Circ, |site, _| {
        let agent = Agent::start(site, &["--listen", "unix:agent.sock"]);
        agent.first();
        let mode = fs::metadata(site.path("agent.sock"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let (code, out, _) = run(site, &["agent", "status", "--socket", "unix:agent.sock"]);
        assert_eq!(code, 0, "{out}");
        if nix::unistd::geteuid().is_root() {
            fs::set_permissions(site.dir(), fs::Permissions::from_mode(0o755)).unwrap();
            let nobody = |verb: &str| {
                let mut command = circ(site, &["agent", verb, "--endpoint", &site.endpoint]);
                command.uid(65_534).gid(65_534).stderr(Stdio::piped());
                // A checkout that only root can enter cannot be tested from outside.
                command.output().ok().map(|output| {
                    (
                        output.status.code(),
                        String::from_utf8_lossy(&output.stderr).into_owned(),
                    )
                })
            };
            match nobody("status") {
                None => support::skip("another user cannot run this build of circ"),
                Some((code, told)) => {
                    assert_eq!(code, Some(0), "{told}");
                    for verb in ["pause", "resume", "run-now"] {
                        let (code, told) = nobody(verb).unwrap();
                        assert_eq!(code, Some(3), "{verb}: {told}");
                        assert!(told.contains("only the agent's own user"), "{told}");
                    }
                }
            }
        } else {
            support::skip("only root can be another user");
        }
        assert!(agent.stop().success());
        assert!(!site.path("agent.sock").exists());
    });
}

#[test]
fn nobody_need_read_its_lines() {
    started(Program::Circ, |site, daemon| {
        // A pipe whose reader has gone away, and one that is never read.
        for closed in [true, false] {
            let (reader, writer) = std::io::pipe().unwrap();
            let kept = (!closed).then_some(reader);
            let agent = Agent::start_with(site, &[], |command| {
                command.stdout(writer);
            });
            agent.wait_for("an agent", || {
                let (code, ..) = run(site, &["agent", "status", "--config", "circus.ini"]);
                (code == 0).then_some(())
            });
            for _ in 0..40 {
                direct(site, &["run-now"]);
            }
            decr(daemon, "web");
            daemon.wait_pids("web", 2);
            assert!(agent.stop().success());
            drop(kept);
        }
    });
}

#[test]
fn once_has_the_exit_codes_of_circ_state() {
    started(Program::Circ, |site, daemon| {
        let once = |args: &[&str]| {
            let mut all = vec![
                "agent",
                "--desired",
                "state.toml",
                "--config",
                "circus.ini",
                "--once",
                "--settle",
                "0.2",
            ];
            all.extend(args);
            let (code, out, err) = run(site, &all);
            let line: Value =
                serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
            assert_eq!(line["trigger"], "start");
            (code, line)
        };
        assert_eq!(once(&[]).0, 0);
        assert_eq!(once(&["--detailed-exitcode"]).0, 0);
        decr(daemon, "web");
        assert_eq!(once(&["--mode", "audit"]).0, 2);
        assert_eq!(once(&["--mode", "audit", "--check-exit-zero"]).0, 0);
        assert_eq!(once(&["--detailed-exitcode"]).0, 2);
        decr(daemon, "web");
        let (code, line) = once(&[]);
        assert_eq!((code, &line["changed"]), (0, &json!(true)));
        site.write("state.toml", "nonsense");
        let (code, line) = once(&[]);
        assert_eq!((code, &line["failed"]), (1, &json!(true)));
        fs::remove_file(site.path("state.toml")).unwrap();
        let (code, line) = once(&[]);
        assert_eq!(code, 1);
        assert!(
            line["msg"]
                .as_str()
                .unwrap_or_default()
                .contains("state.toml"),
            "{line}"
        );
        // An empty directory, as one that is not mounted, removes nothing.
        fs::create_dir(site.path("state.d")).unwrap();
        let (code, out, _) = run(
            site,
            &[
                "agent",
                "--desired",
                "state.d",
                "--config",
                "circus.ini",
                "--once",
                "--prune",
            ],
        );
        assert_eq!(code, 1, "{out}");
        assert_eq!(daemon.pids("web").len(), 2);
        for bad in [
            &["agent", "--once"][..],
            &["agent", "--desired", "-", "--once"],
            &["agent", "--desired", "x", "--interval", "soon"],
            &["agent", "pause", "--for", "0"],
            &["agent", "--desired", "x", "pause"],
        ] {
            let (code, _, told) = run(site, bad);
            assert_eq!(code, 64, "{bad:?}: {told}");
        }
    });
}

#[test]
fn the_last_reports_are_kept_and_secrets_are_not() {
    started(Program::Circ, |site, _| {
        let secret = "xyzzy-plugh";
        let state = format!("{STATE}[watcher.other.env]\nTOKEN = \"{secret}\"\n");
        site.write("state.toml", &state);
        let agent = Agent::start(
            site,
            &["--report-dir", "reports", "--reports", "3", "--diff"],
        );
        agent.first();
        for _ in 0..4 {
            direct(site, &["run-now"]);
        }
        at_rest(site, &agent);
        let mut names: Vec<String> = fs::read_dir(site.path("reports"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), 4, "{names:?}");
        assert_eq!(names[3], "last.json");
        let read = |name: &String| -> Value {
            let text = fs::read_to_string(site.path("reports").join(name)).unwrap();
            serde_json::from_str(&text).unwrap()
        };
        let last = agent.lines().pop().unwrap();
        let kept = read(&names[3]);
        assert_eq!(kept, read(&names[2]));
        assert_eq!(agent::short(&kept), agent::short(&last));
        // The file has the whole report, the line what is not as desired.
        assert_eq!(
            kept["report"]["resources"].as_array().map(Vec::len),
            Some(2)
        );
        assert_eq!(last["report"]["resources"], json!([]));
        assert_eq!(last["report"]["as_desired"], 2);
        let status = direct(site, &["status"]).to_string();
        let all: String = agent.lines().iter().map(Value::to_string).collect();
        assert!(all.contains("TOKEN") || all.contains("env"), "{all}");
        for text in [all, agent.log(), status] {
            assert!(!text.contains(secret), "{text}");
        }
    });
}
