//! What the options of a watcher do to its workers, as the workers see it. Where the real circusd does the same,
//! the same test asks it too.

mod support;

#[path = "daemon_options/seen.rs"]
mod seen;

use std::fs;

use seen::{Seen, all_seen, look, open_files, seen};
use serde_json::json;
use support::{Daemon, Program, TempSite, skip};

const BOTH: [Program; 2] = [Program::Circ, Program::Circusd];

/// A site with the looking worker; `@LOOK@` and `@SITE@` in the body are filled in.
fn site(body: &str) -> TempSite {
    let site = TempSite::new();
    let look = look(&site);
    let body = body.replace("@LOOK@", &look);
    site.ini(&body.replace("@SITE@", &site.dir().to_string_lossy()));
    site
}

/// Runs a body under both daemons, one after the other.
fn under_both(body: &str, check: impl Fn(&TempSite, &Daemon)) {
    for program in BOTH {
        let site = site(body);
        let daemon = site.start_with(program, |command| {
            command
                .env("OUTSIDE", "from outside")
                .env("PYTHONPATH", "/some/python/path")
                .env("PYTHONWARNINGS", "ignore");
        });
        eprintln!("--- {program:?}");
        check(&site, &daemon);
    }
}

#[test]
fn cmd_args_and_shell() {
    let body = "
[socket:web]
host = 127.0.0.1
port = 0
[watcher:plain]
cmd = @LOOK@ plain a 'b c'
args = d \"e f\" $HOME
[watcher:shell]
cmd = @LOOK@ shell $HOME 'a b' 'c;d'
args = 'e  f'
shell = True
[watcher:shellargs]
cmd = eval '@LOOK@ shellargs \"$0\" \"$1\"'
shell = True
shell_args = zero 'o ne'
";
    under_both(body, |site, daemon| {
        let see = |label| seen(site, daemon, label);
        assert_eq!(see("plain").args(), ["a", "b c", "d", "e f", "$HOME"]);
        // Every word is quoted for the shell: circus protects them too.
        assert_eq!(see("shell").args(), ["$HOME", "a b", "c;d", "e  f"]);
        assert_eq!(see("shellargs").args(), ["zero", "o ne"]);
    });
}

/// circusd 0.19 has it in its manual, reads it, and forgets it.
#[test]
fn an_executable_of_another_name() {
    let site = site(
        "\n[watcher:executable]\ncmd = a-pretty-name @LOOK@ executable x\nexecutable = /bin/sh\n",
    );
    let daemon = site.start(Program::Circ);
    let seen = seen(&site, &daemon, "executable");
    assert_eq!(seen.args(), ["x"]);
    assert_eq!(seen.lines("word")[0], "a-pretty-name");
}

#[test]
fn variables_in_commands() {
    let options = [
        "numprocesses",
        "warmup_delay",
        "working_dir",
        "uid",
        "gid",
        "send_hup",
        "stop_signal",
        "stop_children",
        "shell",
        "shell_args",
        "max_retry",
        "respawn",
        "graceful_timeout",
        "executable",
        "use_sockets",
        "priority",
        "copy_env",
        "singleton",
        "on_demand",
        "max_age",
        "max_age_variance",
        "close_child_stdin",
        "close_child_stdout",
        "close_child_stderr",
        "rlimits.nofile",
        "stdout_stream_conf.class",
    ];
    let every: String = options
        .iter()
        .map(|o| format!(" '{o} $(circus.{o})'"))
        .collect();
    let body = "
[socket:web]
host = 127.0.0.1
port = 0
[watcher:vars]
cmd = @LOOK@ vars $(circus.wid) ((circus.env.GREETING)) $(CIRCUS.WID) '$(circus.nothing)'
args = ((circus.sockets.web)) $(circus.sockets.WEB) $(circus.env.greeting)
use_sockets = True
numprocesses = 3
[watcher:every]
cmd = @LOOK@ every
args = @EVERY@
working_dir = @SITE@
priority = 7
rlimit_nofile = 333
stop_signal = QUIT
graceful_timeout = 3
max_age_variance = 9
[env:vars]
GREETING = hello
"
    .replace("@EVERY@", &every);
    let told = std::cell::RefCell::new(Vec::new());
    under_both(&body, |site, daemon| {
        let fd = daemon.ok("listsockets", json!({}))["sockets"][0]["fd"].to_string();
        let reports = all_seen(site, daemon, "vars", 3);
        let mut wids: Vec<&str> = reports.iter().map(|r| r.args()[0]).collect();
        wids.sort_unstable();
        assert_eq!(wids, ["1", "2", "3"]);
        for report in &reports {
            let args = report.args();
            assert_eq!(args[2], args[0]);
            assert_eq!(args[1], "hello");
            assert_eq!(args[3], "$(circus.nothing)");
            assert_eq!(args[4..], [&fd, &fd, "hello"]);
        }
        let report = seen(site, daemon, "every");
        let home = site.dir().to_string_lossy().into_owned();
        let args: Vec<String> = report
            .args()
            .iter()
            .map(|a| a.replace(&home, "HOME"))
            .collect();
        told.borrow_mut().push(args);
    });
    let told = told.into_inner();
    assert_eq!(told[0].len(), options.len());
    assert_eq!(told[0], told[1], "circ on the left, circusd on the right");
    assert!(
        told[0].contains(&"stop_signal 3".to_string()),
        "{:?}",
        told[0]
    );
}

/// What circusd 0.19 announces and then does not do, in the manual's meaning.
#[test]
fn the_older_spellings_wid_and_socket() {
    let site = site(
        "
[socket:web]
host = 127.0.0.1
port = 0
[watcher:old]
cmd = @LOOK@ old $WID ${socket:web}
args = a$WID ${socket:WEB}
use_sockets = True
",
    );
    let daemon = site.start(Program::Circ);
    let fd = daemon.ok("listsockets", json!({}))["sockets"][0]["fd"].to_string();
    assert_eq!(seen(&site, &daemon, "old").args(), ["1", &fd, "a1", &fd]);
}

#[test]
fn the_environment_is_what_was_asked_for() {
    let body = "
[watcher:bare]
cmd = @LOOK@ bare
[watcher:copied]
cmd = @LOOK@ copied
copy_env = True
[watcher:paths]
cmd = @LOOK@ paths
copy_env = True
copy_path = True
[watcher:other-1]
cmd = @LOOK@ other-1
[watcher:other-2]
cmd = @LOOK@ other-2
[env]
FOR_ALL = everybody
OVER = 1
[env:other-*,copied]
SOME = these and $OUTSIDE.
OVER = 2
[env:other-[!2]]
OVER = 3
MixedCase = kept
";
    under_both(body, |site, daemon| {
        let see = |label| seen(site, daemon, label);
        let own = |seen: &Seen| {
            let mut all: Vec<String> = seen.lines("env").iter().map(|l| l.to_string()).collect();
            // Circus's parser adds it to each section, and so it gets into the environment.
            all.retain(|l| !l.starts_with("__name__="));
            all.sort();
            all
        };
        assert_eq!(own(&see("bare")), ["FOR_ALL=everybody", "OVER=1"]);
        let seen = see("copied");
        assert_eq!(seen.env("OUTSIDE"), Some("from outside"));
        assert_eq!(seen.env("SOME"), Some("these and from outside."));
        assert_eq!(seen.env("OVER"), Some("2"));
        assert_eq!(seen.env("FOR_ALL"), Some("everybody"));
        let seen = see("paths");
        let path = seen.env("PYTHONPATH").expect("copy_path hands it on");
        assert!(
            path.split(':').any(|p| p == "/some/python/path"),
            "PYTHONPATH={path}"
        );
        assert_eq!(
            own(&see("other-1")),
            [
                "FOR_ALL=everybody",
                "MixedCase=kept",
                "OVER=3",
                "SOME=these and from outside."
            ]
        );
        assert_eq!(see("other-2").env("OVER"), Some("2"));
        assert_eq!(see("other-2").env("MixedCase"), None);
    });
}

#[test]
fn directory_umask_session_and_limits() {
    let body = "umask = 027
[watcher:here]
cmd = @LOOK@ here
[watcher:there]
cmd = @LOOK@ there
working_dir = @SITE@/seen
[watcher:limits]
cmd = @LOOK@ limits
rlimit_nofile = 123
rlimit_core = 0
rlimit_fsize = 4000000
rlimit_stack = 4194304
";
    under_both(body, |site, daemon| {
        let home = fs::canonicalize(site.dir()).expect("the site's directory");
        let seen_here = seen(site, daemon, "here");
        assert_eq!(seen_here.line("cwd"), home.to_string_lossy());
        assert_eq!(seen_here.line("umask"), "0027");
        assert_eq!(
            seen_here.family(),
            [daemon.pid(), seen_here.pid, seen_here.pid],
            "a child of the daemon that leads its own group and session"
        );
        let there = seen(site, daemon, "there");
        assert_eq!(there.line("cwd"), home.join("seen").to_string_lossy());
        let limits = seen(site, daemon, "limits");
        for (name, value) in [
            ("Max open files", "123"),
            ("Max core file size", "0"),
            ("Max file size", "4000000"),
            ("Max stack size", "4194304"),
        ] {
            assert_eq!(limits.limit(name), (value, value), "{name}");
        }
    });
}

#[test]
fn standard_streams() {
    let body = "
[socket:input]
host = 127.0.0.1
port = 0
[watcher:usual]
cmd = @LOOK@ usual
[watcher:nulls]
cmd = @LOOK@ nulls
close_child_stdout = True
close_child_stderr = True
[watcher:socket]
cmd = @LOOK@ socket
stdin_socket = input
";
    under_both(body, |site, daemon| {
        let see = |label| seen(site, daemon, label);
        let null = "/dev/null";
        let usual = see("usual");
        assert_eq!(usual.end(0), null);
        for fd in [1, 2] {
            assert_ne!(usual.end(fd), null, "what a worker says goes somewhere");
        }
        let nulls = see("nulls");
        assert_eq!([0, 1, 2].map(|fd| nulls.end(fd)), [null; 3]);
        let socket = see("socket");
        assert!(socket.end(0).starts_with("socket:"), "{}", socket.end(0));
        let fd = &daemon.ok("listsockets", json!({}))["sockets"][0]["fd"];
        let of_daemon = fs::read_link(format!("/proc/{}/fd/{fd}", daemon.pid()));
        let of_daemon = of_daemon.expect("the daemon's socket");
        assert_eq!(socket.end(0), of_daemon.to_string_lossy());
    });
}

/// `close_child_stdin = False` hands on what the daemon has.
#[test]
fn an_open_standard_input_is_the_daemons() {
    let site = site("\n[watcher:open]\ncmd = @LOOK@ open\nclose_child_stdin = False\n");
    let file = site.write("input", "text");
    let path = site.path("circus.ini");
    let line = format!(
        "exec {} daemon {} < {}",
        env!("CARGO_BIN_EXE_circ"),
        path.display(),
        file.display()
    );
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", &line]).current_dir(site.dir());
    let daemon = site.spawn_command(Program::Circ, command);
    let file = fs::canonicalize(file).expect("our file");
    assert_eq!(seen(&site, &daemon, "open").end(0), file.to_string_lossy());
}

#[test]
fn only_what_is_meant_for_a_worker_is_open_in_it() {
    let body = "
[socket:web]
host = 127.0.0.1
port = 0
[socket:unix]
path = @SITE@/unix.sock
[watcher:with]
cmd = @LOOK@ with $(circus.sockets.web) $(circus.sockets.unix)
use_sockets = True
numprocesses = 2
[watcher:without]
cmd = @LOOK@ without $(circus.sockets.web)
";
    let site = site(body);
    let daemon = site.start(Program::Circ);
    // Connections of clients are the likeliest to leak: open some, and then have a worker made.
    for _ in 0..3 {
        daemon.driver().dealer(&site.endpoint);
    }
    daemon.ok("incr", json!({"name": "with", "waiting": true}));
    for report in all_seen(&site, &daemon, "with", 3) {
        let open = open_files(&daemon, report.pid);
        let mut wanted: Vec<i32> = report
            .args()
            .iter()
            .map(|a| a.parse().expect("a number"))
            .chain([0, 1, 2])
            .collect();
        wanted.sort_unstable();
        let numbers: Vec<i32> = open.iter().map(|(n, _)| *n).collect();
        assert_eq!(numbers, wanted, "{open:?}");
        for (number, to) in open.iter().filter(|(n, _)| *n > 2) {
            let of_daemon = fs::read_link(format!("/proc/{}/fd/{number}", daemon.pid()));
            let of_daemon = of_daemon.expect("the daemon has it under the same number");
            assert_eq!(*to, of_daemon.to_string_lossy());
        }
    }
    let report = seen(&site, &daemon, "without");
    let open = open_files(&daemon, report.pid);
    let numbers: Vec<i32> = open.iter().map(|(n, _)| *n).collect();
    assert_eq!(numbers, [0, 1, 2], "{open:?}");
}

/// What the daemon's own parent forgot to close stays with the daemon.
#[test]
fn what_the_daemon_inherits_stays_with_it() {
    let site = site(
        "
[socket:web]
host = 127.0.0.1
port = 0
[watcher:with]
cmd = @LOOK@ with
use_sockets = True
[watcher:without]
cmd = @LOOK@ without
",
    );
    let secret = site.write("secret", "for the daemon only");
    let line = format!(
        "exec {} daemon {} 9<{}",
        env!("CARGO_BIN_EXE_circ"),
        site.path("circus.ini").display(),
        secret.display()
    );
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", &line]).current_dir(site.dir());
    let daemon = site.spawn_command(Program::Circ, command);
    for (label, count) in [("with", 4), ("without", 3)] {
        let report = seen(&site, &daemon, label);
        let open = open_files(&daemon, report.pid);
        assert_eq!(open.len(), count, "{open:?}");
        assert!(
            !open.iter().any(|(_, to)| to.ends_with("/secret")),
            "{open:?}"
        );
    }
    assert!(
        fs::read_link(format!("/proc/{}/fd/9", daemon.pid())).is_ok_and(|l| l.ends_with("secret"))
    );
}

#[test]
fn user_group_and_supplementary_groups() {
    if !nix::unistd::geteuid().is_root() {
        skip("changing user and group needs root");
        return;
    }
    let Some(user) = user_with_groups() else {
        skip("this system has no plain user");
        return;
    };
    let other = "tty";
    let other_gid = group_lines()
        .into_iter()
        .find_map(|(name, gid, _)| (name == other).then_some(gid))
        .expect("every system has a group tty");
    let body = format!(
        "
[watcher:byname]
cmd = @LOOK@ byname
uid = {name}
[watcher:bynumber]
cmd = @LOOK@ bynumber
uid = {uid}
gid = {other}
[watcher:grouponly]
cmd = @LOOK@ grouponly
gid = {other}
",
        name = user.name,
        uid = user.uid
    );
    let expected = |gid: u32| {
        let lines = group_lines().into_iter();
        let of_user = lines
            .filter(|(_, _, members)| members.contains(&user.name))
            .map(|(_, gid, _)| gid);
        let mut groups: Vec<u32> = of_user.chain([gid]).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    };
    under_both(&body, |site, daemon| {
        let see = |label| seen(site, daemon, label);
        let groups = |seen: &Seen| {
            let mut groups = seen.ids("Groups");
            groups.sort_unstable();
            groups.dedup();
            groups
        };
        let (uid, gid) = (user.uid, user.gid);
        let report = see("byname");
        assert_eq!(report.ids("Uid"), [uid; 4]);
        assert_eq!(report.ids("Gid"), [gid; 4]);
        assert_eq!(groups(&report), expected(user.gid));
        let report = see("bynumber");
        assert_eq!(report.ids("Uid"), [uid; 4]);
        assert_eq!(report.ids("Gid"), [other_gid; 4]);
        assert_eq!(groups(&report), expected(other_gid));
        let report = see("grouponly");
        assert_eq!(report.ids("Uid"), [0; 4]);
        assert_eq!(report.ids("Gid"), [other_gid; 4]);
    });
}

/// A user of `/etc/passwd`.
struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

/// Name, number and members of each group. The files are read here by hand: the system's own functions load
/// libraries, which does not go well in the static program that a test is.
fn group_lines() -> Vec<(String, u32, Vec<String>)> {
    let text = fs::read_to_string("/etc/group").unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let members = fields.get(3)?.split(',').map(String::from).collect();
        Some((fields[0].to_string(), fields[2].parse().ok()?, members))
    });
    lines.collect()
}

/// A user that is in more than its own group, if there is one, else `nobody`.
fn user_with_groups() -> Option<Account> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    let find = |name: &str| {
        let line = text.lines().find(|l| l.split(':').next() == Some(name))?;
        let fields: Vec<&str> = line.split(':').collect();
        let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        (uid != 0).then(|| Account {
            name: name.to_string(),
            uid,
            gid,
        })
    };
    let members = group_lines().into_iter().flat_map(|(_, _, m)| m);
    members
        .chain(["nobody".to_string()])
        .find_map(|name| find(&name))
}

/// A shell keeps symbolic links in `PWD`. Circus means to tell them, and its real daemon does not: it tells the real place.
#[test]
fn a_working_directory_is_told_without_symbolic_links() {
    for program in BOTH {
        let site = TempSite::ipc();
        site.ini("[watcher:web]\ncmd = sleep 1000\n");
        let real = fs::canonicalize(site.dir()).expect("ours");
        let link = site.path("link");
        std::os::unix::fs::symlink(&real, &link).expect("ours");
        let daemon = site.start_with(program, |command| {
            command.current_dir(&link).env("PWD", &link);
        });
        let reply = daemon.ok("get", json!({"name": "web", "keys": ["working_dir"]}));
        assert_eq!(reply["options"]["working_dir"], json!(real), "{program:?}");
    }
}
