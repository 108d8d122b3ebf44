//! Ansible and circ: the collection `circ.circus`, the binary as a module, and the script that asks a host's own circ,
//! played by the real ansible-core against running daemons.

mod support;

#[path = "ansible/collection.rs"]
mod collection;
#[path = "ansible/fleet.rs"]
mod fleet;
#[path = "ansible/hammer.rs"]
mod hammer;
#[path = "ansible/hosts.rs"]
mod hosts;
#[path = "ansible/room.rs"]
mod room;
#[path = "state/run.rs"]
#[allow(dead_code)]
mod run;

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;

use room::{Form, play};
use run::fingerprint;
use support::{Program, TempSite};

/// The same scenario in each form.
macro_rules! in_each_form {
    ($($name:ident),* $(,)?) => {
        mod with_python_modules {
            $(#[test] fn $name() { super::$name(super::Form::Python); })*
        }
        mod with_the_binary {
            $(#[test] fn $name() { super::$name(super::Form::Binary); })*
        }
        mod with_the_script {
            $(#[test] fn $name() { super::$name(super::Form::Script); })*
        }
    };
}

in_each_form!(
    a_site_is_created_once,
    a_watcher_lives_from_task_to_task,
    mistakes_are_told,
);

/// A watcher that no task names, and that nothing may happen to.
const BODY: &str = "check_delay = 0.5\n\n; the site\n[watcher:other]\ncmd = sleep 2000\n";

/// The head of every playbook.
const HEAD: &str = "- hosts: all
  gather_facts: false
  vars:
    procs: 2
  tasks:
";

fn set(pids: Vec<i32>) -> BTreeSet<i32> {
    pids.into_iter().collect()
}

fn ini(site: &TempSite) -> String {
    fs::read_to_string(site.path("circus.ini")).expect("the file is there")
}

const SITE: &str = r#"
  - name: web
    MODULE(watcher):
      name: web
      cmd: sleep 1000
      procs: "{{ procs }}"
      options: {max_age: 4000, rlimit_nofile: "512"}
      env: {TOKEN: hunter2hunter2, DEBUG: 1}
      config: "{{ config }}"
      settle: 0.1
  - name: whole
    MODULE(state):
      desired:
        circus: {warmup_delay: 0}
        watcher:
          job: {cmd: sleep 300, state: stopped}
      config: "{{ config }}"
      settle: 0.1
"#;

/// `--check --diff` tells and changes nothing; the first run does it; the second changes nothing.
fn a_site_is_created_once(form: Form) {
    let site = TempSite::new();
    site.ini(BODY);
    let daemon = site.start(Program::Circ);
    let other = set(daemon.wait_pids("other", 1));
    let text = format!("{HEAD}{SITE}");
    let before = fingerprint(&site.path("circus.ini"));

    let told = play(&site, form, &text, &["--check", "--diff"]).fine();
    assert_eq!(told.changed(), 2, "{}", told.output);
    assert_eq!(fingerprint(&site.path("circus.ini")), before);
    assert_eq!(daemon.ok("list", json!({}))["watchers"], json!(["other"]));
    let web = told.result("web");
    assert_eq!(web["check"], true);
    assert_eq!(web["diff"][0]["before"], json!(ini(&site)));
    let after = web["diff"][0]["after"].as_str().unwrap_or_default();
    assert!(after.contains("[watcher:web]\ncmd = sleep 1000\n"), "{web}");
    let live = web["diff"][1]["prepared"].as_str().unwrap_or_default();
    assert!(live.contains("daemon: web added"), "{web}");

    let made = play(&site, form, &text, &[]).fine();
    assert_eq!(made.changed(), 2, "{}", made.output);
    let web = made.result("web");
    assert_eq!(
        (&web["name"], &web["state"]),
        (&json!("web"), &json!("started"))
    );
    assert_eq!(web["after"]["daemon"]["running"], 2, "{web}");
    assert!(!made.output.contains("hunter2"), "{}", made.output);
    let pids = set(daemon.wait_pids("web", 2));
    assert_eq!(
        daemon.call("status", json!({"name": "job"}))["status"],
        "stopped"
    );
    let options = daemon.ok("options", json!({"name": "web"}));
    assert_eq!(options["options"]["max_age"], 4000);
    let env = &options["options"]["env"];
    assert_eq!(
        (&env["TOKEN"], &env["DEBUG"]),
        (&json!("hunter2hunter2"), &json!("1"))
    );

    let made = fingerprint(&site.path("circus.ini"));
    let again = play(&site, form, &text, &["--diff"]).fine();
    assert_eq!(again.changed(), 0, "{}", again.output);
    assert_eq!(fingerprint(&site.path("circus.ini")), made);
    let checked = play(&site, form, &text, &["--check", "--diff", "-e", "procs=4"]).fine();
    assert_eq!(checked.changed(), 1, "{}", checked.output);
    let live = &checked.result("web")["diff"][1]["prepared"];
    assert_eq!(live, "daemon: web numprocesses 2 -> 4\n");
    assert_eq!(set(daemon.pids("web")), pids);
    assert_eq!(set(daemon.pids("other")), other);
}

const LIFE: &str = r#"
  - {name: create, MODULE(watcher): {name: web, cmd: sleep 1000, procs: 2}}
  - {name: scale, MODULE(watcher): {name: web, procs: 4}}
  - {name: scaled, MODULE(watcher): {name: web, procs: 4}}
  - {name: option, MODULE(watcher): {name: web, options: {graceful_timeout: 7}}, notify: reload web}
  - {name: same option, MODULE(watcher): {name: web, options: {graceful_timeout: "7.0"}}, notify: never}
  - meta: flush_handlers
  - {name: stop, MODULE(watcher): {name: web, state: stopped}}
  - {name: stopped, MODULE(watcher): {name: web, state: stopped}}
  - {name: present, MODULE(watcher): {name: web, state: present, procs: 3}}
  - {name: start, MODULE(watcher): {name: web, unset: [graceful_timeout]}}
  - {name: hup, MODULE(watcher): {name: web, state: signalled, signal: CONT}}
  - {name: restart, MODULE(watcher): {name: web, state: restarted}}
  - {name: remove, MODULE(watcher): {name: web, state: absent}}
  - {name: removed, MODULE(watcher): {name: web, state: absent}}
  handlers:
  - {name: reload web, MODULE(watcher): {name: web, state: reloaded}}
  - {name: never, MODULE(watcher): {name: web, state: restarted}}
"#;

/// Every state, one after the other, and a handler that runs for a change and only then.
fn a_watcher_lives_from_task_to_task(form: Form) {
    a_watcher_lives(form, Program::Circ);
}

#[test]
fn a_watcher_of_circusd_lives_from_task_to_task() {
    a_watcher_lives(Form::Script, Program::Circusd);
}

fn a_watcher_lives(form: Form, daemon: Program) {
    let site = TempSite::new();
    site.ini(BODY);
    let daemon = site.start(daemon);
    let other = set(daemon.wait_pids("other", 1));
    let untouched = ini(&site);
    let common = ", config: \"{{ config }}\", settle: 0.1}";
    let text = LIFE.replace("}}\n", &format!("{common}}}\n"));
    let text = text.replace("}, notify", &format!("{common}, notify"));
    let played = play(&site, form, &format!("{HEAD}{text}"), &[]).fine();
    let wanted = [
        ("create", true, "web: added"),
        ("scale", true, "web: numprocesses 2 -> 4"),
        ("scaled", false, "web: as desired, 4 running"),
        ("option", true, "web: graceful_timeout 30.0 -> 7.0"),
        ("same option", false, "web: as desired, 4 running"),
        ("reload web", true, "web: reloaded"),
        ("stop", true, "web: active -> stopped"),
        ("stopped", false, "web: as desired, 0 running"),
        ("present", true, "web: numprocesses 4 -> 3"),
        (
            "start",
            true,
            "web: graceful_timeout 7.0 -> 30.0, stopped -> started",
        ),
        ("hup", true, "web: signalled (CONT)"),
        ("restart", true, "web: restarted"),
        ("remove", true, "web: removed"),
        ("removed", false, "web: as desired"),
    ];
    let told: Vec<(&str, bool, &str)> = played
        .lines
        .iter()
        .map(|line| {
            let msg = line.result["msg"].as_str().unwrap_or_default();
            (line.task.as_str(), line.result["changed"] == true, msg)
        })
        .collect();
    assert_eq!(told, wanted, "{}", played.output);
    assert_eq!(played.result("present")["after"]["daemon"]["running"], 0);
    assert_eq!(played.result("start")["after"]["daemon"]["running"], 3);
    assert_eq!(ini(&site).trim_end(), untouched.trim_end());
    assert_eq!(daemon.ok("list", json!({}))["watchers"], json!(["other"]));
    assert_eq!(set(daemon.pids("other")), other);
}

const ORDERS: &str = r#"
  - {name: restart, MODULE(watcher): {name: other, state: restarted, config: "{{ config }}"}}
  - {name: reload, MODULE(watcher): {name: other, state: reloaded, config: "{{ config }}"}}
  - {name: signal, MODULE(watcher): {name: other, state: signalled, signal: KILL, config: "{{ config }}"}}
  - {name: remove, MODULE(watcher): {name: other, state: absent, config: "{{ config }}"}}
"#;

/// With `--check`, not even an order is sent.
#[test]
fn orders_are_not_sent_in_check_mode() {
    let site = TempSite::new();
    site.ini(BODY);
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("other", 1);
    let untouched = fingerprint(&site.path("circus.ini"));
    for form in [Form::Python, Form::Binary] {
        let text = format!("{HEAD}{ORDERS}");
        let told = play(&site, form, &text, &["--check", "--diff"]).fine();
        assert_eq!(told.changed(), 4, "{}", told.output);
        for (task, says) in [
            ("restart", "daemon: other restarted\n"),
            ("reload", "daemon: other reloaded\n"),
            ("signal", "daemon: other signalled (KILL)\n"),
        ] {
            assert_eq!(told.result(task)["diff"], json!([{"prepared": says}]));
        }
        assert_eq!(daemon.pids("other"), pids);
        assert_eq!(fingerprint(&site.path("circus.ini")), untouched);
    }
}

const MISTAKES: &str = r#"
  - {name: unknown option, MODULE(watcher): {name: other, options: {max_agee: 1}}}
  - {name: bad value, MODULE(watcher): {name: other, options: {max_age: soon, stop_signal: NOPE}}}
  - {name: below zero, MODULE(watcher): {name: other, procs: -1}}
  - {name: no command, MODULE(watcher): {name: nobody, procs: 1}}
  - {name: bad socket, MODULE(watcher): {name: other, sockets: {web: nowhere}}}
  - {name: order, MODULE(watcher): {name: other, state: restarted, procs: 3}}
  - {name: misspelt, MODULE(watcher): {name: othr, state: reloaded}}
  - {name: dies, MODULE(watcher): {name: short, cmd: "sh -c 'echo oh dear >&2; exit 7'", persist: false}}
  - {name: unknown key, MODULE(state): {desired: {watchers: {}}}}
"#;

/// What is wrong is told, the same in every form, and nothing was changed.
fn mistakes_are_told(form: Form) {
    let site = TempSite::new();
    site.ini(BODY);
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("other", 1);
    let untouched = fingerprint(&site.path("circus.ini"));
    site.write(
        "broken.ini",
        "[circus]\nendpoint = x\n[watcher:a]\ncmd = sleep 1\nnumprocesses = many\n",
    );
    let nobody = format!("tcp://127.0.0.1:{}", site.port());
    let mut text = MISTAKES.to_string();
    text.push_str("  - {name: bad ini, MODULE(watcher): {name: other, procs: 2, live: false}}\n");
    text.push_str("  - {name: down, MODULE(watcher): {name: other, procs: 2}}\n");
    let text: String = text
        .lines()
        .map(|line| {
            let config = if line.contains("bad ini") { "broken.ini" } else { "circus.ini" };
            let endpoint = if line.contains(": down,") { format!(", endpoint: \"{nobody}\"") } else { String::new() };
            let end = format!(
                ", config: {config}, settle: 0.1{endpoint}}}, ignore_errors: true, args: {{chdir: x}}}}\n"
            );
            let end = end.replace(", args: {chdir: x}", "");
            line.strip_suffix("}}").map_or(format!("{line}\n"), |line| format!("{line}{end}"))
        })
        .collect();
    let text = text
        .replace(
            "config: broken.ini",
            &format!("config: {}", site.path("broken.ini").display()),
        )
        .replace("config: circus.ini", "config: \"{{ config }}\"");
    let played = play(&site, form, &format!("{HEAD}{text}"), &[]).fine();
    let endpoint = nobody.as_str();
    for (task, says) in [
        (
            "unknown option",
            "other: max_agee: unknown option; did you mean max_age?",
        ),
        ("bad value", "max_age: \"soon\" is not a whole number"),
        ("bad value", "stop_signal: \"NOPE\" is not a signal"),
        (
            "below zero",
            "numprocesses: -1 is not a whole number from 0",
        ),
        ("no command", "cmd"),
        (
            "bad socket",
            "other: sockets: web=nowhere: NAME=HOST:PORT or NAME=unix:PATH is expected",
        ),
        ("order", "procs cannot be given with it"),
        ("misspelt", "did you mean other?"),
        ("dies", "oh dear"),
        (
            "unknown key",
            "watchers: unknown key; did you mean watcher?",
        ),
        ("bad ini", "numprocesses"),
        ("down", endpoint),
        ("down", "start_daemon: true"),
    ] {
        let result = played.result(task);
        let msg = result["msg"].as_str().unwrap_or_default();
        assert!(msg.contains(says), "{task}: {msg}");
        assert_eq!(
            (&result["failed"], &result["changed"]),
            // The watcher whose workers die was added, and stays.
            (&json!(true), &json!(task == "dies")),
            "{task}"
        );
    }
    assert_eq!(played.changed(), 1, "{}", played.output);
    assert_eq!(fingerprint(&site.path("circus.ini")), untouched);
    assert_eq!(daemon.pids("other"), pids);
    let watchers = daemon.ok("list", json!({}));
    assert_eq!(watchers["watchers"], json!(["other", "short"]));
}

const OTHERS: &str = r#"
  - {name: socket, MODULE(socket): {name: api, host: 127.0.0.1, port: "{{ port }}", settle: 0.1}}
  - {name: same socket, MODULE(socket): {name: api, host: 127.0.0.1, port: "{{ port | string }}", settle: 0.1}}
  - {name: config, MODULE(config): {section: circus, options: {warmup_delay: 0, umask: null}, unset: [debug]}}
  - {name: same config, MODULE(config): {section: circus, options: {warmup_delay: 0}}}
  - {name: misspelt, MODULE(config): {section: circus, options: {warmup_dealy: 0}}, ignore_errors: true}
  - {name: new section, MODULE(config): {section: "watcher:late", options: {cmd: sleep 3, numprocesses: 2}, backup: true}}
  - {name: info, MODULE(info): {names: [other]}}
  - {name: nobody, MODULE(info): {names: [othr]}, ignore_errors: true}
  - {name: no section, MODULE(config): {section: "watcher:late", state: absent}}
  - {name: text, MODULE(state): {desired: "{{ text }}", settle: 0.1}}
  - {name: same text, MODULE(state): {desired: "{{ text }}", settle: 0.1}}
  - {name: path, MODULE(state): {desired: "{{ path }}", prune: true, settle: 0.1}}
  - {name: same path, MODULE(state): {desired: "{{ path }}", prune: true, settle: 0.1}}
"#;

/// The modules beside that of watchers, with the defaults of their group.
fn every_module_does_its_part(form: Form) {
    let site = TempSite::new();
    site.ini(BODY);
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("other", 1);
    let port = site.port();
    let text = "[watcher:job]\ncmd = sleep 400\nnumprocesses = 2\n";
    let path = site.write(
        "desired.toml",
        "[watcher.other]\ncmd = \"sleep 2000\"\n[socket.api]\nhost = \"127.0.0.1\"\nport = PORT\n"
            .replace("PORT", &port.to_string()),
    );
    let defaults = match form {
        Form::Python => "{group/circ.circus.circus: {config: \"{{ config }}\"}}".to_string(),
        _ => {
            let each = ["socket", "config", "info", "state"]
                .map(|name| format!("circus_{name}: {{config: \"{{{{ config }}}}\"}}"));
            format!("{{{}}}", each.join(", "))
        }
    };
    let head = HEAD.replace(
        "  tasks:",
        &format!("  module_defaults: {defaults}\n  tasks:"),
    );
    let variables = json!({"port": port, "text": text, "path": path}).to_string();
    let played = play(&site, form, &format!("{head}{OTHERS}"), &["-e", &variables]).fine();
    for (task, changed, says) in [
        ("socket", true, "socket:api: added"),
        ("same socket", false, "as desired"),
        ("config", true, "warmup_delay unset -> 0"),
        ("same config", false, "as desired"),
        (
            "misspelt",
            false,
            "did you mean warmup_delay?; force: true writes it all the same",
        ),
        ("new section", true, "watcher:late"),
        ("nobody", false, "did you mean other?"),
        ("no section", true, "removed the section"),
        ("text", true, "job: added"),
        ("same text", false, "as desired"),
        ("path", true, "job: removed"),
        ("same path", false, "as desired"),
    ] {
        let result = played.result(task);
        let msg = result["msg"].as_str().unwrap_or_default();
        assert!(
            msg.contains(says) && result["changed"] == changed,
            "{task}: {result}"
        );
    }
    let info = played.result("info");
    assert_eq!(info["schema"], "circ.observed/1");
    assert_eq!(info["watchers"]["other"]["file"]["cmd"], "sleep 2000");
    assert_eq!(
        info["watchers"]["other"]["daemon"]["pids"],
        json!(daemon.pids("other"))
    );
    assert_eq!(info["sockets"][0]["port"], port);
    let backup = played.result("new section")["backups"][0]
        .as_str()
        .map(fs::read_to_string);
    let backup = backup.and_then(Result::ok).unwrap_or_default();
    assert!(
        backup.contains("[watcher:other]") && !backup.contains("late"),
        "{backup}"
    );
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert_eq!(daemon.ok("list", json!({}))["watchers"], json!(["other"]));
}

mod every_module {
    #[test]
    fn in_python() {
        super::every_module_does_its_part(super::Form::Python);
    }
    #[test]
    fn as_the_binary() {
        super::every_module_does_its_part(super::Form::Binary);
    }
}
