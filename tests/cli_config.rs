//! `circ config`: the editor on its own. What a person sees, what a script gets, and that nothing else is touched.

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::TempSite;

struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e}: {:?} {:?}", self.stdout, self.stderr))
    }
}

fn circ(site: &TempSite, verb: &str, args: &[&str], stdin: &str) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_circ"))
        .args(["config", verb])
        .args(args)
        .current_dir(site.dir())
        .env("GREETING", "hello")
        .env_remove("NOT_THERE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("circ can be run");
    let mut input = child.stdin.take().expect("a pipe");
    // A command that reads no standard input may have ended already.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    let output = child.wait_with_output().expect("circ ends");
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[track_caller]
fn ok(site: &TempSite, verb: &str, args: &[&str]) -> String {
    let run = circ(site, verb, args, "");
    assert_eq!(run.code, 0, "{args:?}: {}{}", run.stdout, run.stderr);
    run.stdout
}

#[track_caller]
fn fails(site: &TempSite, verb: &str, args: &[&str], why: &str) {
    let run = circ(site, verb, args, "");
    let text = format!("{}{}", run.stdout, run.stderr);
    assert_eq!(run.code, 1, "{args:?}: {text}");
    assert!(text.contains(why), "{args:?}: {text}");
}

/// Inode, time of the last change, bytes.
fn fingerprint(path: &Path) -> (u64, i64, i64, Vec<u8>) {
    let metadata = fs::metadata(path).expect("the file is there");
    let bytes = fs::read(path).expect("the file can be read");
    (
        metadata.ino(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        bytes,
    )
}

const MAIN: &str = "\
# the main file
[circus]
include = conf.d/*.ini

[DEFAULT]
graceful_timeout = 7

[watcher:web]
cmd = sleep $(circus.env.GREETING)   ; why
numprocesses = 2
numprocesses = 3

[socket:web]
port = 8000
[socket:db]
port = 8001

[env:web]
TOKEN = s3cret
";

const INCLUDED: &str =
    "[watcher:web]\nmax_age = 5\n\n[watcher:cron]\ncmd = sleep 9\nargs =\n    a\n    b\n";

fn site() -> TempSite {
    let site = TempSite::ipc();
    site.write("circus.ini", MAIN);
    fs::create_dir(site.path("conf.d")).expect("a directory");
    site.write("conf.d/more.ini", INCLUDED);
    site
}

#[test]
fn get_answers_what_counts() {
    let site = site();
    let get = |args: &[&str]| {
        let mut all = vec!["circus.ini"];
        all.extend(args);
        ok(&site, "get", &all)
    };
    assert_eq!(get(&["watcher:web", "numprocesses"]), "2\n");
    assert_eq!(get(&["watcher.web", "numprocesses"]), "2\n");
    // Only a watcher has this key, and only that section holds the other.
    assert_eq!(get(&["web", "numprocesses"]), "2\n");
    assert_eq!(get(&["web", "TOKEN"]), "s3cret\n");
    assert_eq!(get(&["db", "port"]), "8001\n");
    assert_eq!(get(&["cron", "graceful_timeout"]), "7\n");
    assert_eq!(
        get(&["cron", "graceful_timeout", "--origin"]),
        "circus.ini:6\t7\n"
    );
    assert_eq!(get(&["cron", "args"]), "\na\nb\n");
    assert_eq!(
        get(&["web", "max_age", "--origin"]),
        "conf.d/more.ini:2\t5\n"
    );
    assert_eq!(
        get(&["watcher:web", "cmd"]),
        "sleep $(circus.env.GREETING)\n"
    );
    assert_eq!(get(&["watcher:web", "cmd", "--expand"]), "sleep hello\n");
    assert_eq!(get(&["cron", "nope", "--default", "x"]), "x\n");
    assert_eq!(
        get(&["nope", "nope", "--default", "x", "--json"]),
        "\"x\"\n"
    );
    assert_eq!(
        get(&["watcher:cron"]),
        "graceful_timeout = 7\ncmd = sleep 9\nargs =\n    a\n    b\n"
    );
    let run = circ(
        &site,
        "get",
        &["circus.ini", "db", "--json", "--origin"],
        "",
    );
    assert_eq!(
        run.json()["port"],
        json!({"value": "8001", "file": site.path("circus.ini"), "line": 16})
    );
    let run = circ(&site, "get", &["circus.ini", "--json"], "");
    assert_eq!(run.json()["watcher:web"]["max_age"], "5");
    let run = circ(
        &site,
        "get",
        &["-", "circus", "endpoint"],
        "[circus]\nendpoint = x\n",
    );
    assert_eq!((run.code, run.stdout.as_str()), (0, "x\n"));
    // A value of the wrong type can be looked at.
    site.write("bad.ini", "[watcher:x]\ncmd = y\nnumprocesses = many\n");
    assert_eq!(
        ok(&site, "get", &["bad.ini", "x", "numprocesses"]),
        "many\n"
    );
}

#[test]
fn what_is_missing_is_told_with_what_is_near() {
    let site = site();
    for (args, why) in [
        (
            &["circus.ini", "watcher:wen"][..],
            "did you mean watcher:web?",
        ),
        (&["circus.ini", "corn"], "did you mean watcher:cron?"),
        (&["circus.ini", "web"], "watcher:web, socket:web, env:web"),
        (
            &["circus.ini", "cron", "numproceses"],
            "[watcher:cron] has no key numproceses; did you mean numprocesses?",
        ),
        (&["circus.ini", "cron", "max_retry"], "without it, it is 5"),
        (&["nope.ini", "cron"], "nope.ini"),
    ] {
        fails(&site, "get", args, why);
    }
}

#[test]
fn set_edits_the_value_that_counts_and_nothing_else() {
    let site = site();
    let main = site.path("circus.ini");
    let included = site.path("conf.d/more.ini");
    let before = (fingerprint(&main), fingerprint(&included));
    // As it is already: nothing is written.
    for args in [
        &["circus.ini", "web", "numprocesses", "2"][..],
        &["circus.ini", "cron", "graceful_timeout", "7"],
        &["circus.ini", "cron", "args", "\na\nb"],
    ] {
        assert!(ok(&site, "set", args).starts_with("ok  "));
    }
    // Only looked at: 2 says that something would change.
    let run = circ(
        &site,
        "set",
        &[
            "circus.ini",
            "web",
            "numprocesses",
            "4",
            "--check",
            "--diff",
        ],
        "",
    );
    assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
    assert!(
        run.stdout
            .contains("-numprocesses = 2\n+numprocesses = 4\n")
    );
    assert!(
        run.stdout
            .contains("circus.ini:11: [watcher:web] numprocesses stands here too")
    );
    assert_eq!(before, (fingerprint(&main), fingerprint(&included)));

    ok(&site, "set", &["circus.ini", "web", "numprocesses", "4"]);
    assert_eq!(
        fs::read_to_string(&main).expect("the file"),
        MAIN.replace("numprocesses = 2", "numprocesses = 4")
    );
    assert_eq!(before.1, fingerprint(&included));
    // The file that holds the value is the one that is edited; several keys at once.
    ok(
        &site,
        "set",
        &["circus.ini", "cron", "args", "x", "numprocesses", "0"],
    );
    assert_eq!(
        fs::read_to_string(&included).expect("the file"),
        INCLUDED.replace("args =\n    a\n    b\n", "args = x\nnumprocesses = 0\n")
    );
    let run = circ(
        &site,
        "set",
        &[
            "circus.ini",
            "cron",
            "numprocesses",
            "3",
            "--json",
            "--detailed-exitcode",
        ],
        "",
    );
    assert_eq!(run.code, 2);
    let report = run.json();
    assert_eq!(report["schema"], "circ.state/1");
    assert_eq!(report["resource"], "config");
    assert_eq!(report["changed"], true);
    assert_eq!(
        report["changes"],
        json!({"numprocesses": {"old": "0", "new": "3"}})
    );
}

#[test]
fn what_would_break_the_configuration_is_refused() {
    let site = site();
    let before = fingerprint(&site.path("circus.ini"));
    for (args, why) in [
        (
            &["watcher:web", "numproceses", "4"][..],
            "did you mean numprocesses?",
        ),
        (
            &["web", "numprocesses", "four"],
            "'four' is not a whole number",
        ),
        (&["web", "numprocesses", "-1"], "from 0 upwards"),
        (&["watcher:web", "env", "A=1"], "set env:web NAME VALUE"),
        (&["watcher:web", "hooks.befor_start", "m.f"], "no such key"),
        (&["watcher:web", "cmd", ""], "no command"),
        (&["watcher:web", "cmd", "a ; b"], "starts a comment"),
        (&["circus", "endpont", "x"], "did you mean endpoint?"),
        (&["socket:db", "port", "70000"], "a port from 0 to 65535"),
        (&["watcher:new", "cmd", "x"], "give --create"),
        (
            &["watchers:new", "cmd", "x", "--create"],
            "nothing reads a section",
        ),
        (
            &["watcher:new", "numprocesses", "2", "--create"],
            "no command",
        ),
    ] {
        let mut all = vec!["circus.ini"];
        all.extend(args);
        fails(&site, "set", &all, why);
    }
    fails(&site, "unset", &["circus.ini", "cron", "cmd"], "no command");
    assert_eq!(before, fingerprint(&site.path("circus.ini")));
    assert_eq!(
        fs::read_dir(site.dir()).expect("the directory").count(),
        2,
        "a file was left behind"
    );
    let run = circ(
        &site,
        "set",
        &["circus.ini", "cron", "cmd", "x", "args"],
        "",
    );
    assert_eq!(run.code, 64);
    // Who insists gets an unknown key.
    ok(
        &site,
        "set",
        &["circus.ini", "cron", "my_key", "1", "--force"],
    );
}

#[test]
fn a_broken_file_can_be_put_right_step_by_step() {
    let site = TempSite::ipc();
    site.write(
        "circus.ini",
        "[watcher:a]\ncmd = x\nnumprocesses = many\n[watcher:b]\ncmd = y\nmax_age = old\n",
    );
    let shown = ok(&site, "set", &["circus.ini", "a", "numprocesses", "3"]);
    assert!(
        shown.contains("still wrong: circus.ini:6: [watcher:b] max_age"),
        "{shown}"
    );
    fails(
        &site,
        "set",
        &["circus.ini", "a", "priority", "high"],
        "'high'",
    );
    let shown = ok(&site, "set", &["circus.ini", "b", "max_age", "4"]);
    assert!(!shown.contains("still wrong"), "{shown}");
    ok(&site, "check", &["circus.ini", "-q"]);
}

#[test]
fn sections_are_added_and_removed() {
    let site = site();
    ok(
        &site,
        "set",
        &[
            "circus.ini",
            "watcher.new",
            "cmd",
            "sleep 1",
            "numprocesses",
            "2",
            "--create",
        ],
    );
    let text = fs::read_to_string(site.path("circus.ini")).expect("the file");
    assert_eq!(
        text,
        MAIN.replace(
            "\n[socket:web]",
            "\n[watcher:new]\ncmd = sleep 1\nnumprocesses = 2\n\n[socket:web]"
        )
    );
    assert!(ok(&site, "unset", &["circus.ini", "new"]).contains("removed the section"));
    assert!(ok(&site, "unset", &["circus.ini", "new"]).starts_with("ok  "));
    assert_eq!(
        fs::read_to_string(site.path("circus.ini")).expect("the file"),
        MAIN
    );
    // Every line that gives the key a value goes.
    site.write(
        "conf.d/more.ini",
        format!("{INCLUDED}[watcher:web]\nnumprocesses = 8\n"),
    );
    ok(
        &site,
        "unset",
        &["circus.ini", "watcher:web", "numprocesses"],
    );
    fails(
        &site,
        "get",
        &["circus.ini", "watcher:web", "numprocesses"],
        "without it, it is 1",
    );
    let shown = ok(&site, "unset", &["circus.ini", "cron", "graceful_timeout"]);
    assert!(
        shown.contains("[DEFAULT] graceful_timeout gives [watcher:cron] a value"),
        "{shown}"
    );
}

#[test]
fn secrets_are_masked() {
    let site = site();
    let args = ["circus.ini", "env:web", "TOKEN", "n3w", "--check", "--diff"];
    for (more, shown) in [
        (None, false),
        (Some("--json"), false),
        (Some("--show-secrets"), true),
    ] {
        let mut all = args.to_vec();
        all.extend(more);
        let run = circ(&site, "set", &all, "");
        assert_eq!(run.code, 2);
        let text = format!("{}{}", run.stdout, run.stderr);
        assert_eq!(text.contains("s3cret"), shown, "{text}");
        assert_eq!(text.contains("n3w"), shown, "{text}");
    }
}

#[test]
fn check_finds_what_is_there_to_find() {
    let site = TempSite::ipc();
    site.write(
        "circus.ini",
        "\
[circus]
endpont = tcp://127.0.0.1:1
debug = True
include = conf.d/*.ini nowhere/*.ini
pidfile = nowhere/pid

[watcher:web]
cmd = no-such-program-anywhere --fd ${socket:web} # comment
numprocesses = 2
numprocesses = 3
use_sockets = True
working_dir = ~/src
stdout_stream.filename = nowhere/log
numproces = 3

[socket:web]
port = 8000
[socket:db]
port = 8001
[env:wbe]
A = $HOME/$NOT_THERE
[watchers:x]
a = 1
[watcher:web]
args = $(circus.env.NOT_THERE)
check_flapping = True
",
    );
    fs::create_dir(site.path("conf.d")).expect("a directory");
    site.write("conf.d/a.ini", "[watcher:web]\nmax_age = 5\n");
    let run = circ(&site, "check", &["circus.ini", "--json"], "");
    let report = run.json();
    assert_eq!((run.code, &report["ok"]), (0, &json!(true)), "{report:#}");
    let findings = report["files"][0]["findings"]
        .as_array()
        .expect("a list")
        .clone();
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| {
            format!(
                "{}:{} {}",
                finding["file"].as_str().unwrap_or("?"),
                finding["line"],
                finding["message"].as_str().unwrap_or("?")
            )
        })
        .collect();
    for wanted in [
        "circus.ini:2 there is no such key here; it is ignored; did you mean endpoint?",
        "circus.ini:3 is checked and kept, and has no effect yet",
        "circus.ini:4 \"nowhere/*.ini\" leads to no file",
        "circus.ini:5 there is no directory",
        "circus.ini:8 ${socket:NAME} is the old spelling",
        "circus.ini:8 ` #` begins no comment",
        "circus.ini:8 no-such-program-anywhere is not found",
        "circus.ini:10 is not read, because circus.ini:9 comes first",
        "circus.ini:12 there is no directory",
        "circus.ini:13 there is no directory",
        "circus.ini:14 no such option, kept as it is; did you mean numprocesses?",
        "circus.ini:18 no watcher uses this socket",
        "circus.ini:20 no watcher is called wbe; did you mean web?",
        "circus.ini:21 $NOT_THERE is not set in this environment and becomes empty",
        "circus.ini:22 nothing reads this section; did you mean [watcher:x]?",
        "circus.ini:24 goes on with the section of line 7",
        "circus.ini:26 has no effect any more; remove it",
        "circus.ini:25 $(circus.env.NOT_THERE) is not set in this environment",
        "conf.d/a.ini:1 goes on with the section of circus.ini:7",
    ] {
        let count = lines.iter().filter(|line| line.starts_with(wanted)).count();
        assert_eq!(count, 1, "{wanted}\nin\n{}", lines.join("\n"));
    }
    assert_eq!(lines.len(), 19, "{}", lines.join("\n"));
    assert_eq!(
        circ(&site, "check", &["circus.ini", "--strict"], "").code,
        1
    );
}

#[test]
fn check_tells_every_error() {
    let site = TempSite::ipc();
    site.write(
        "circus.ini",
        "[watcher:a]\nnumprocesses = many\n[watcher:b]\ncmd = 'x\nuid = no-such-user\n",
    );
    site.write("syntax.ini", "[watcher:a]\nnonsense\n");
    site.write("good.ini", "[watcher:a]\ncmd = sleep 1\n");
    let run = circ(
        &site,
        "check",
        &["circus.ini", "syntax.ini", "good.ini"],
        "",
    );
    assert_eq!(run.code, 1);
    for wanted in [
        "circus.ini:1: error: [watcher:a]: the watcher has no command to run; set cmd\n",
        "circus.ini:2: error: [watcher:a] numprocesses: 'many' is not a whole number\n",
        "circus.ini: 2 errors\n",
        "syntax.ini:2: error: \"nonsense\" is neither",
        "good.ini: ok (1 watcher)\n",
    ] {
        assert!(run.stdout.contains(wanted), "{wanted} in {}", run.stdout);
    }
    let fixed =
        "[watcher:b]\ncmd = 'x\nuid = no-such-user\n[socket:a]\nport = 1\n[socket:b]\nport = 1\n";
    let run = circ(&site, "check", &["-"], fixed);
    assert_eq!(run.code, 1);
    for wanted in [
        "<stdin>:2: error: [watcher:b] cmd: No closing quotation",
        "<stdin>:3: error: [watcher:b] uid: 'no-such-user' isn't a valid user name\n",
        "localhost:1 is taken by [socket:a] already",
    ] {
        assert!(run.stdout.contains(wanted), "{wanted} in {}", run.stdout);
    }
}

#[test]
fn render_is_the_whole_configuration_in_one_file() {
    let site = site();
    let text = ok(&site, "render", &["circus.ini", "--origin"]);
    for part in [
        "[watcher:web]\n# from circus.ini:6\ngraceful_timeout = 7\n# from circus.ini:9\ncmd = sleep hello\n",
        "# from conf.d/more.ini:2\nmax_age = 5\n",
        "[watcher:cron]\n",
        "args =\n    a\n    b\n",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.starts_with("[watcher:web]\n"), "{text}");
    // Rendered again it says the same.
    let plain = ok(&site, "render", &["circus.ini"]);
    site.write("one.ini", &plain);
    assert_eq!(ok(&site, "render", &["one.ini"]), plain);
    // What would be, with edits that are not written.
    let before = fingerprint(&site.path("circus.ini"));
    let edited = ok(
        &site,
        "render",
        &[
            "circus.ini",
            "--no-expand",
            "--set",
            "watcher.web.numprocesses=4",
            "--set",
            "cron.hooks.before_start=m.f",
            "--set",
            "socket:new.port=0",
            "--create",
        ],
    );
    for part in [
        "numprocesses = 4\n",
        "hooks.before_start = m.f\n",
        "[socket:new]\nport = 0\n",
        "cmd = sleep $(circus.env.GREETING)\n",
    ] {
        assert!(edited.contains(part), "{part} in {edited}");
    }
    assert_eq!(before, fingerprint(&site.path("circus.ini")));
    fails(
        &site,
        "render",
        &["circus.ini", "--set", "web.numprocesses=x"],
        "'x'",
    );
    fails(
        &site,
        "render",
        &["circus.ini", "--set", "numprocesses"],
        "SECTION.KEY=VALUE",
    );
    let json = circ(
        &site,
        "render",
        &["circus.ini", "--format", "json", "--defaults"],
        "",
    )
    .json();
    assert_eq!(json["watcher"]["web"]["numprocesses"], 2);
    assert_eq!(json["watcher"]["web"]["max_retry"], 5);
    assert_eq!(json["env"]["web"]["TOKEN"], "s3cret");
}

#[test]
fn fmt_changes_the_layout_only() {
    let site = TempSite::ipc();
    let untidy =
        "[watcher:a]\ncmd=sleep 1   \n\n\n# of b\n[watcher:b]\n\ncmd : x ; why\n[env:b]\nT=s3cret";
    let tidy =
        "[watcher:a]\ncmd = sleep 1\n\n# of b\n[watcher:b]\ncmd = x ; why\n\n[env:b]\nT = s3cret\n";
    site.write("a.ini", untidy);
    site.write("b.ini", tidy);
    site.write("c.toml", "[watcher.a]\ncmd='x'\n\n\n\nnumprocesses=2");
    let before = fingerprint(&site.path("a.ini"));
    let run = circ(&site, "fmt", &["a.ini", "b.ini", "--check", "--diff"], "");
    assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
    assert!(
        run.stdout
            .contains("drift  a.ini: would be laid out anew\n"),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout.contains("ok  b.ini: as it should be\n"),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout.contains("-cmd : x ; why\n") && !run.stdout.contains("s3cret"),
        "{}",
        run.stdout
    );
    assert_eq!(before, fingerprint(&site.path("a.ini")));
    let unchanged = fingerprint(&site.path("b.ini"));
    ok(&site, "fmt", &["a.ini", "b.ini", "c.toml"]);
    assert_eq!(
        fs::read_to_string(site.path("a.ini")).expect("the file"),
        tidy
    );
    assert_eq!(unchanged, fingerprint(&site.path("b.ini")));
    assert_eq!(
        fs::read_to_string(site.path("c.toml")).expect("the file"),
        "[watcher.a]\ncmd = 'x'\n\nnumprocesses = 2\n"
    );
    ok(&site, "fmt", &["a.ini", "b.ini", "c.toml", "--check"]);
    assert_eq!(circ(&site, "fmt", &["-"], untidy).stdout, tidy);
    site.write("bad.ini", "[watcher:a]\nnonsense\n");
    let run = circ(&site, "fmt", &["bad.ini", "a.ini", "--check"], "");
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("bad.ini:2: "), "{}", run.stdout);
}

#[test]
fn a_toml_file_is_edited_in_its_own_types() {
    let site = TempSite::ipc();
    let text = "# top\n[watcher.web]  # the site\ncmd = \"sleep 9\"\nnumprocesses = 2 # two\ncopy_env = true\n";
    let path = site.write("circus.toml", text);
    let get = |key: &str| ok(&site, "get", &["circus.toml", "web", key]);
    assert_eq!(
        (get("numprocesses"), get("copy_env")),
        ("2\n".into(), "True\n".into())
    );
    let before = fingerprint(&path);
    assert!(ok(&site, "set", &["circus.toml", "web", "copy_env", "true"]).starts_with("ok  "));
    assert_eq!(before, fingerprint(&path));
    ok(
        &site,
        "set",
        &["circus.toml", "web", "numprocesses", "4", "copy_env", "no"],
    );
    ok(
        &site,
        "set",
        &["circus.toml", "socket:s", "port", "0", "--create"],
    );
    let edited = fs::read_to_string(&path).expect("the file");
    assert_eq!(
        edited,
        text.replace("= 2", "= 4")
            .replace("copy_env = true", "copy_env = false")
            + "\n[socket.s]\nport = 0\n"
    );
    ok(&site, "unset", &["circus.toml", "s"]);
    fails(
        &site,
        "set",
        &["circus.toml", "web", "numprocesses", "four"],
        "circus.toml:4",
    );
    let rendered = ok(&site, "render", &["circus.toml"]);
    assert!(
        rendered.contains("[watcher:web]\ncmd = sleep 9\nnumprocesses = 4\n"),
        "{rendered}"
    );
    let rendered = ok(&site, "render", &["circus.toml", "--format", "toml"]);
    assert!(rendered.contains("numprocesses = 4\n"), "{rendered}");
    ok(&site, "check", &["circus.toml"]);
    let run = circ(&site, "get", &["-", "web", "numprocesses"], &edited);
    assert_eq!((run.code, run.stdout.as_str()), (0, "4\n"));
    assert_eq!(
        circ(&site, "fmt", &["-"], "[circus]\nhttpd=true").stdout,
        "[circus]\nhttpd = true\n"
    );
}

#[test]
fn a_watchers_own_variables_have_the_last_word_in_a_rendering() {
    let site = TempSite::ipc();
    site.write(
        "circus.toml",
        "[circus]\ninclude = [\"more.ini\"]\n[watcher.web]\ncmd = \"sleep 1\"\n[watcher.web.env]\nA = \"1\"\n",
    );
    site.write("more.ini", "[env:*]\nA = 2\nB = 3\n");
    let text = ok(&site, "render", &["circus.toml"]);
    assert!(
        text.ends_with("[env:*]\nA = 2\nB = 3\n\n[env:web]\nA = 1\n"),
        "{text}"
    );
    ok(&site, "render", &["circus.toml", "--format", "toml"]);
}

#[test]
fn a_backup_is_kept_when_asked_for() {
    let site = site();
    let run = circ(
        &site,
        "set",
        &[
            "circus.ini",
            "cron",
            "numprocesses",
            "3",
            "--backup",
            "--json",
        ],
        "",
    );
    let report = run.json();
    let kept = report["backups"][0].as_str().expect("a name");
    assert!(
        kept.starts_with(&*site.path("conf.d/more.ini.").to_string_lossy()),
        "{kept}"
    );
    assert_eq!(fs::read_to_string(kept).expect("the copy"), INCLUDED);
}

#[test]
fn a_backup_that_would_be_read_is_not_made() {
    let site = TempSite::new();
    fs::create_dir(site.path("conf.d")).expect("ours");
    let included = "[watcher:cron]\ncmd = sleep 1\n";
    site.write("conf.d/cron.ini", included);
    site.write(
        "circus.ini",
        "[circus]\ninclude = conf.d/*\n[watcher:web]\ncmd = sleep 1\n",
    );
    let set = |more: &[&str]| {
        let mut args = vec!["circus.ini", "cron", "numprocesses", "3", "--json"];
        args.extend(more);
        circ(&site, "set", &args, "").json()
    };
    let report = set(&["--backup"]);
    assert_eq!(
        (&report["failed"], &report["changed"]),
        (&json!(true), &json!(false)),
        "{report}"
    );
    let error = report["error"].as_str().unwrap_or_default();
    assert!(error.contains("an include pattern matches it"), "{error}");
    assert_eq!(
        fs::read_to_string(site.path("conf.d/cron.ini")).expect("it is there"),
        included
    );
    let names = fs::read_dir(site.path("conf.d")).expect("ours").count();
    assert_eq!(names, 1, "the backup is gone");
    assert_eq!(set(&[])["failed"], json!(false));
}

#[test]
fn both_spellings_convert_into_each_other() {
    let site = site();
    let toml = ok(&site, "convert", &["circus.ini"]);
    assert!(toml.contains("[watcher.web]\n"), "{toml}");
    ok(&site, "convert", &["circus.ini", "-o", "circus.toml"]);
    let written = fingerprint(&site.path("circus.toml"));
    assert_eq!(String::from_utf8_lossy(&written.3), toml);
    // The same once more: nothing is written. Something else: not without being told.
    ok(&site, "convert", &["circus.ini", "-o", "circus.toml"]);
    assert_eq!(written, fingerprint(&site.path("circus.toml")));
    site.write("small.ini", "[watcher:a]\ncmd = x\n");
    fails(
        &site,
        "convert",
        &["small.ini", "-o", "circus.toml"],
        "--force",
    );
    assert_eq!(written, fingerprint(&site.path("circus.toml")));
    // Who may not read the one may not read the other.
    let private = site.write(
        "private.ini",
        "[watcher:a]\ncmd = x\n[env:a]\nTOKEN = s3cret\n",
    );
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).expect("its mode");
    ok(&site, "convert", &["private.ini", "-o", "private.toml"]);
    let mode = fs::metadata(site.path("private.toml"))
        .expect("it is there")
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // Both mean the same.
    let ini = ok(&site, "render", &["circus.ini", "--format", "json"]);
    assert_eq!(
        ok(&site, "render", &["circus.toml", "--format", "json"]),
        ini
    );
    let run = circ(&site, "convert", &["circus.ini"], "");
    assert!(
        run.stderr.contains("note: circus.ini:11: "),
        "{}",
        run.stderr
    );
    let back = ok(&site, "convert", &["circus.toml"]);
    site.write("back.ini", back);
    assert_eq!(ok(&site, "render", &["back.ini", "--format", "json"]), ini);
    fails(
        &site,
        "convert",
        &["circus.ini", "--to", "ini"],
        "circ config fmt",
    );
}
