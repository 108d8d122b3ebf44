//! The collection as a whole: what it documents, its examples and its role, and what Ansible's own checks say of it.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use circ::cli::ansible::Module;

use crate::room::{self, Form, House, play};
use crate::support::{self, TempSite};
use crate::{HEAD, ini};

#[test]
fn the_documentation_names_the_arguments_that_circ_takes() {
    let modules = [
        Module::Watcher,
        Module::Socket,
        Module::Config,
        Module::State,
        Module::Info,
    ];
    let names = modules.map(|module| format!("circ.circus.{}", module.name()));
    let site = TempSite::ipc();
    let mut command = House::get().ansible("ansible-doc", Form::Python, site.dir());
    let told = room::done(command.args(["--json", "--type", "module"]).args(&names));
    let told: Value = serde_json::from_str(&told).expect("ansible-doc prints JSON");
    for (module, name) in modules.into_iter().zip(&names) {
        let options = told[name]["doc"]["options"].as_object();
        let documented: BTreeSet<&str> = options
            .into_iter()
            .flat_map(|options| options.keys().map(String::as_str))
            .collect();
        let taken: BTreeSet<&str> = module.arguments().into_iter().collect();
        assert_eq!(documented, taken, "{name}");
        for part in ["examples", "return"] {
            assert!(!told[name][part].is_null(), "{name} has no {part}");
        }
    }
}

#[test]
fn the_examples_are_sound() {
    let site = TempSite::ipc();
    let inventory = site.write("hosts", "[web]\nhere\n");
    for (form, example) in [(Form::Python, "site.yml"), (Form::Script, "binary.yml")] {
        let mut command = House::get().ansible("ansible-playbook", form, site.dir());
        let told = room::done(
            command
                .args(["--syntax-check", "-i"])
                .arg(&inventory)
                .arg(room::source("examples/ansible").join(example)),
        );
        assert!(told.contains(example), "{told}");
    }
}

/// A circ of another age, in the place of the real one.
#[test]
fn a_circ_of_another_age_is_told() {
    let site = TempSite::ipc();
    let mut tasks = String::new();
    for (name, schema) in [("older", "circ.state/0"), ("newer", "circ.state/2")] {
        let program = site.path(name);
        let report =
            json!({"schema": schema, "changed": true, "failed": false, "msg": "all is well"});
        room::program(&program, &format!("#!/bin/sh\necho '{report}'\n"));
        tasks.push_str(&format!(
            "  - {{name: {name}, circ.circus.circus_watcher: {{name: web, executable: {}}}, ignore_errors: true}}\n",
            program.display()
        ));
    }
    let played = play(&site, Form::Python, &format!("{HEAD}{tasks}"), &[]).fine();
    for (task, says) in [
        (
            "older",
            "is older than this collection: it reports in circ.state/0, the collection reads circ.state/1",
        ),
        (
            "newer",
            "is newer than this collection: it reports in circ.state/2, the collection reads circ.state/1",
        ),
    ] {
        let result = played.result(task);
        let msg = result["msg"].as_str().unwrap_or_default();
        assert!(msg.contains(says) && result["failed"] == true, "{result}");
    }
    assert_eq!(played.changed(), 0, "{}", played.output);
}

/// A daemon that a play has started; it ends with its test.
struct StartedByPlay(String);

impl Drop for StartedByPlay {
    fn drop(&mut self) {
        let circ = |args: &[&str]| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_circ"));
            command.args(["--endpoint", &self.0]).args(args).output()
        };
        let told = circ(&["identity", "--json"])
            .map(|output| output.stdout)
            .unwrap_or_default();
        let told: Value = serde_json::from_slice(&told).unwrap_or_default();
        let pid = told["pid"].as_i64().unwrap_or(0) as i32;
        let _ = circ(&["quit"]);
        support::wait_for_within(support::deadline(), || {
            (!support::is_alive(pid)).then_some(())
        });
    }
}

#[test]
fn the_role_makes_a_host_that_the_modules_go_on_with() {
    let site = TempSite::ipc();
    let _daemon = StartedByPlay(site.endpoint.clone());
    let me = nix::unistd::User::from_uid(nix::unistd::Uid::effective());
    let me = me.ok().flatten().expect("the tests' user has a name").name;
    let text = "- hosts: all
  gather_facts: false
  roles:
  - role: circ.circus.daemon
  module_defaults:
    group/circ.circus.circus: {executable: \"{{ daemon_executable }}\"}
  tasks:
  - name: web
    circ.circus.circus_watcher: {name: web, cmd: sleep 1000, procs: 2, config: \"{{ config }}\", settle: 0.1, start_daemon: true}
";
    let variables = json!({
        "daemon_binary": House::get().bin().join("circ"),
        "daemon_executable": site.path("circ"),
        "daemon_config": site.path("circus.ini"),
        "daemon_endpoint": site.endpoint,
        "daemon_pubsub_endpoint": site.pubsub,
        "daemon_unit_directory": site.dir(),
        "daemon_service_manage": false,
        "daemon_user": me,
    })
    .to_string();
    let made = play(&site, Form::Python, text, &["-e", &variables]).fine();
    assert_eq!(
        made.result("web")["after"]["daemon"]["running"],
        2,
        "{}",
        made.output
    );
    let unit = fs::read_to_string(site.path("circ.service")).expect("a unit");
    let start = format!(
        "ExecStart={} daemon {}\n",
        site.path("circ").display(),
        site.path("circus.ini").display()
    );
    assert!(unit.contains(&start), "{unit}");
    let again = play(&site, Form::Python, text, &["-e", &variables]).fine();
    assert_eq!(again.changed(), 0, "{}", again.output);
    assert!(ini(&site).contains("[watcher:web]\ncmd = sleep 1000\n"));
}

/// `ansible-test` on a copy of the collection as it is built, outside of any repository: in one it would look at the files
/// that git tells it of. What it installs for itself is kept for the next run.
struct AnsibleTest {
    site: TempSite,
}

/// The pip that ansible-test wants, of ansible-core 2.17, 2.18 and 2.19, 2.20 and later.
const PIPS: [&str; 3] = ["23_1_2", "24_2", "25_2"];

impl AnsibleTest {
    fn new() -> AnsibleTest {
        let site = TempSite::ipc();
        room::done(
            std::process::Command::new("cp")
                .arg("-r")
                .arg(House::get().collections().join("ansible_collections"))
                .arg(site.dir()),
        );
        AnsibleTest { site }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.site.path("ansible_collections/circ/circus").join(name)
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let home = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("ansible-test");
        let cache = home.join(".ansible/test/cache");
        fs::create_dir_all(&cache).expect("a directory under target/");
        // Its environments get their pip from the index like everything else, not from a page on the web.
        for pip in PIPS {
            fs::copy(
                room::source("tests/ansible/get_pip.py"),
                cache.join(format!("get_pip_{pip}.py")),
            )
            .expect("a file under target/");
        }
        let mut command = room::ansible("ansible-test", &home);
        command
            .args(arguments)
            .args(["--requirements", "--color", "no", "--python"])
            .arg(format!("3.{}", room::venv().minor_version()))
            .env_remove("ANSIBLE_CONFIG")
            .env_remove("ANSIBLE_HOME")
            .current_dir(self.path(""));
        command
    }
}

#[test]
fn ansible_test_finds_nothing_and_its_unit_tests_pass() {
    let test = AnsibleTest::new();
    // It looks at our files: a broken one is found.
    let info = test.path("plugins/modules/circus_info.py");
    let fine = fs::read_to_string(&info).expect("a module");
    fs::write(&info, format!("{fine}import  os\n")).expect("a module");
    let found = test.command(&["sanity", "--test", "pep8"]).output();
    let found = found.expect("ansible-test runs");
    let told = String::from_utf8_lossy(&found.stdout);
    assert!(told.contains("plugins/modules/circus_info.py"), "{found:?}");
    fs::write(&info, fine).expect("a module");
    room::done(&mut test.command(&["sanity"]));
    // pytest leaves directories behind: they go with the site. ansible-test hands on no environment of ours.
    let root = json!(test.site.dir());
    let text = format!("import os\nos.environ[\"PYTEST_DEBUG_TEMPROOT\"] = {root}\n");
    fs::write(test.path("tests/unit/conftest.py"), text).expect("a file");
    room::done(&mut test.command(&["units"]));
}
