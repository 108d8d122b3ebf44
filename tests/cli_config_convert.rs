//! `circ config convert` from a supervisord.conf, with the real supervisord as the referee: what it runs, circ runs on
//! the converted file.

mod support;

#[path = "cli_config_convert/generated.rs"]
mod generated;
#[path = "ini_oracle/random.rs"]
#[allow(dead_code)]
mod random;

use std::fs;
use std::process::Command;

use support::{Daemon, Program, TempSite, children, venv};

/// A process as a supervisor made it: command, directory, environment.
type Seen = (Vec<String>, String, Vec<String>);

/// What runs under a daemon, sorted; what each of them adds to the environment by itself is left out.
fn running(daemon: &Daemon) -> Vec<Seen> {
    let mut all: Vec<Seen> = children(daemon.pid())
        .iter()
        .map(|process| {
            let mut environment: Vec<String> = process
                .environ()
                .into_iter()
                .filter(|pair| !pair.starts_with("SUPERVISOR_") && !pair.starts_with("__name__="))
                .collect();
            environment.sort();
            let cwd = process.cwd().unwrap_or_default();
            (process.cmdline(), cwd.display().to_string(), environment)
        })
        .collect();
    all.sort();
    all
}

fn convert(site: &TempSite, args: &[&str]) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_circ"))
        .args(["config", "convert"])
        .args(args)
        .current_dir(site.dir())
        .output()
        .expect("circ can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

const MAIN: &str = r#"; a supervisord.conf as people write them
[unix_http_server]
file=%(here)s/super.sock   ; (the path to the socket file)

[supervisord]
nodaemon=true
logfile=%(here)s/super.log
pidfile=%(here)s/super.pid
environment=COMMON="a, b",EXTRA_PATH="/opt/x:%(ENV_PATH)s"

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://%(here)s/super.sock

[program:web]
command=sleep 10%(process_num)02d   # a comment
process_name=%(program_name)s_%(process_num)02d
numprocs=3
directory=%(here)s/work
environment=A="1",B="%(program_name)s %(group_name)s",C=/x:y,D="%(ENV_GREETING)s, you"
stopwaitsecs=5
stopasgroup=true
priority=10
autorestart=true
stdout_logfile=%(here)s/web.log
redirect_stderr=true

[program:plain]
command=sleep
    2000
process_name=plain-%(process_num)d
numprocs=2
stopsignal=INT
startretries=7
stdout_logfile=NONE
environment=KEY="it's; fine"

[program:variable]
command=sleep %(ENV_SECONDS)s

[program:off]
command=sleep 4000
autostart=false

[fcgi-program:fast]
command=sleep 5000
socket=unix://%(here)s/fast.sock
socket_mode=0770

[group:both]
programs=web,plain

[include]
files=conf.d/*.conf
"#;

const INCLUDED: &str =
    "[program:included]\ncommand=sh -c \"cd '%(here)s'; exec sleep 6%(numprocs)d00\"\n";

#[test]
fn circ_runs_what_supervisord_runs() {
    let site = TempSite::ipc();
    for directory in ["work", "conf.d"] {
        fs::create_dir(site.path(directory)).expect("a directory");
    }
    site.write("super.conf", MAIN);
    site.write("conf.d/more.conf", INCLUDED);
    let (text, notes) = convert(&site, &["super.conf"]);
    assert_eq!(
        notes.lines().count(),
        text.lines().filter(|line| line.starts_with("#   ")).count(),
        "{notes}{text}"
    );
    let converted = site.write("circus.ini", &text);
    let surroundings = |command: &mut Command| {
        command.env("GREETING", "hello").env("SECONDS", "3000");
    };
    let theirs = {
        let mut command = Command::new(venv().program("supervisord"));
        command
            .args(["-n", "-c"])
            .arg(site.path("super.conf"))
            .current_dir(site.dir())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        surroundings(&mut command);
        let daemon = site.spawn_command(Program::Circusd, command);
        daemon.wait_for("the eight programs of supervisord", || {
            let running = running(&daemon);
            let sleeping = |seen: &Seen| seen.0.first().is_some_and(|word| word == "sleep");
            (running.len() == 8 && running.iter().all(sleeping)).then_some(running)
        })
    };
    assert!(theirs.iter().any(|(_, cwd, _)| cwd.ends_with("/work")));
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    command
        .arg("daemon")
        .arg(&converted)
        .current_dir(site.dir())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    surroundings(&mut command);
    let daemon = site.spawn_command(Program::Circ, command);
    let mut last = Vec::new();
    let same = support::wait_for_within(support::deadline(), || {
        last = running(&daemon);
        (last == theirs).then_some(())
    });
    assert!(
        same.is_some(),
        "supervisord:\n{theirs:#?}\ncirc:\n{last:#?}\n{}\n{text}",
        daemon.log()
    );
}

/// Over generated files: supervisor's own reading of them, and circ's of the conversion.
#[test]
fn generated_files_run_the_same() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds: std::ops::Range<u64> = match number("CIRC_ORACLE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CIRC_ORACLE_FILES").unwrap_or(1000),
    };
    let mut referee = generated::Referee::start();
    let count = seeds.clone().count();
    let accepted = seeds
        .filter(|seed| generated::same(&mut referee, *seed))
        .count();
    println!("{accepted} of {count} files accepted by both");
    assert!(accepted * 4 > count || count < 100, "{accepted} of {count}");
}

#[test]
fn what_has_no_place_is_listed() {
    let site = TempSite::ipc();
    site.write(
        "super.conf",
        "\
[supervisord]
minfds=2048
user=nobody
[program:a]
command=sleep 1
startsecs=10
exitcodes=0,2
umask=077
stdout_syslog=true
colour=blue
priority=1
autorestart=false
stopsignal=QUIT
[group:g]
programs=a
[eventlistener:e]
command=cat
events=TICK_5
[inet_http_server]
port=127.0.0.1:9001
[cron:x]
a=1
[include]
files=nowhere/*.conf
",
    );
    let (text, notes) = convert(&site, &["super.conf"]);
    for line in [2, 3, 6, 7, 8, 9, 10, 14, 16, 19, 21, 24] {
        let place = format!("super.conf:{line}: ");
        assert!(
            notes.contains(&format!("note: {place}")),
            "{place} in {notes}"
        );
        assert!(text.contains(&format!("#   {place}")), "{place} in {text}");
    }
    let watcher = "[watcher:a]\ncmd = sleep 1\ncopy_env = True\nuid = nobody\npriority = 998\nrespawn = False\n\
                   stop_signal = QUIT\ngraceful_timeout = 10\n";
    assert!(text.contains(watcher), "{text}");
}

#[test]
fn processes_that_differ_become_watchers_of_their_own() {
    let site = TempSite::ipc();
    let program = |more: &str| {
        format!(
            "[program:a]\ncommand=sleep 1%(process_num)02d\nprocess_name=a%(process_num)d\nnumprocs=2\n{more}"
        )
    };
    site.write("super.conf", program(""));
    let (text, _) = convert(&site, &["super.conf"]);
    assert!(text.contains("[watcher:a0]\ncmd = sleep 100\n"), "{text}");
    assert!(text.contains("[watcher:a1]\ncmd = sleep 101\n"), "{text}");
    let (text, notes) = convert(&site, &["super.conf", "--by-wid"]);
    assert!(
        text.contains("[watcher:a]\ncmd = sleep 1$(circus.wid)\nnumprocesses = 2\n"),
        "{text}"
    );
    assert!(
        notes.contains("no leading zeros") && notes.contains("counts from 0"),
        "{notes}"
    );
    // From 1 on, without zeros: the worker's number is the process's.
    site.write(
        "super.conf",
        program("numprocs_start=1\n").replace("02d", "d"),
    );
    let (text, _) = convert(&site, &["super.conf"]);
    assert!(
        text.contains("[watcher:a]\ncmd = sleep 1$(circus.wid)\nnumprocesses = 2\n"),
        "{text}"
    );
}

#[test]
fn what_supervisord_refuses_is_refused() {
    let site = TempSite::ipc();
    site.write(
        "super.conf",
        "[program:a]\ncommand=sleep %(nope)s\nautostart=perhaps\n[program:b]\nnumprocs=x\n[program:c]\ncommand=x\n\
         stopsignal=NONE\nenvironment=A\nstdout_logfile_maxbytes=9\nnumprocs=2\n",
    );
    let output = Command::new(env!("CARGO_BIN_EXE_circ"))
        .args(["config", "convert", "super.conf"])
        .current_dir(site.dir())
        .output()
        .expect("circ can be run");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    for line in [2, 5, 11] {
        assert!(
            text.contains(&format!("super.conf:{line}: ")),
            "{line} in {text}"
        );
    }
}
