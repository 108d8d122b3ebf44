//! The resource `Circ/Watcher` of Microsoft's DSC: this plays dsc's part, from the manifest alone. What dsc does was
//! read in its sources (`command_resource.rs`, version 3.4): the arguments and the input that it passes, which lines it
//! expects, that all of them must fit the resource's schema, and how it looks for errors.

mod support;

#[path = "state_schema/judge.rs"]
mod judge;

use std::cell::RefCell;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use judge::verdicts;
use support::{Program, TempSite};

/// The fields that dsc knows of a manifest; it refuses one with any other.
const FIELDS: &[&str] = &[
    "$schema",
    "type",
    "condition",
    "deprecationMessage",
    "kind",
    "version",
    "description",
    "tags",
    "get",
    "set",
    "whatIf",
    "test",
    "delete",
    "export",
    "resolve",
    "validate",
    "adapter",
    "exitCodes",
    "schema",
    "metadata",
];

fn manifest() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("circ.dsc.resource.json");
    serde_json::from_slice(&std::fs::read(path).expect("the manifest")).expect("JSON")
}

struct Outcome {
    code: i32,
    stdout: Vec<Value>,
    stderr: String,
}

/// Runs what the manifest says of an operation, as dsc does.
fn invoke(site: &TempSite, method: &Value, input: Option<&Value>, what_if: bool) -> Outcome {
    let bin = Path::new(env!("CARGO_BIN_EXE_circ"));
    assert_eq!(method["executable"], "circ");
    let mut args: Vec<String> = Vec::new();
    for arg in method["args"].as_array().expect("a list") {
        match arg {
            Value::String(text) => args.push(text.clone()),
            other => {
                let word = other["whatIfArg"]
                    .as_str()
                    .expect("the only kind of argument that is used");
                if what_if {
                    args.push(word.to_string());
                }
            }
        }
    }
    let stdin = match (input, method["input"].as_str()) {
        (Some(_), Some("stdin")) => Stdio::piped(),
        _ => Stdio::null(),
    };
    let mut child = Command::new(bin)
        .args(&args)
        .current_dir(site.dir())
        .env_remove("CIRCUSCTL_ENDPOINT")
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("circ runs");
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin
            .write_all(input.to_string().as_bytes())
            .expect("written");
    }
    let output = child.wait_with_output().expect("circ ends");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: text
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
            })
            .collect(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

struct Dsc<'a> {
    site: &'a TempSite,
    manifest: Value,
    schema: Value,
    /// Everything that went in and came out: all of it must fit the schema.
    seen: RefCell<Vec<Value>>,
}

/// Judged in one go, because the validator takes its time to start.
impl Drop for Dsc<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let seen = self.seen.take();
            assert!(!seen.is_empty());
            for (instance, verdict) in seen.iter().zip(verdicts(&self.schema, &seen)) {
                assert_eq!(verdict, None, "{instance}");
            }
        }
    }
}

impl<'a> Dsc<'a> {
    fn new(site: &'a TempSite) -> Dsc<'a> {
        let manifest = manifest();
        let told = invoke(site, &manifest["schema"]["command"], None, false);
        assert_eq!((told.code, told.stdout.len()), (0, 1), "{}", told.stderr);
        Dsc {
            site,
            schema: told.stdout[0].clone(),
            manifest,
            seen: RefCell::default(),
        }
    }

    fn fits(&self, instance: &Value) {
        self.seen.borrow_mut().push(instance.clone());
    }

    #[track_caller]
    fn run(&self, operation: &str, input: &Value, what_if: bool) -> Vec<Value> {
        self.fits(input);
        let told = invoke(self.site, &self.manifest[operation], Some(input), what_if);
        assert_eq!(told.code, 0, "{operation} {input}: {}", told.stderr);
        told.stdout
    }

    /// One line: the state, which must fit the schema.
    #[track_caller]
    fn get(&self, input: &Value) -> Value {
        let lines = self.run("get", input, false);
        assert_eq!(lines.len(), 1);
        self.fits(&lines[0]);
        lines[0].clone()
    }

    /// `return: stateAndDiff`: the state, and the names of properties.
    #[track_caller]
    fn two(&self, operation: &str, input: &Value, what_if: bool) -> (Value, Vec<String>) {
        assert_eq!(self.manifest[operation]["return"], "stateAndDiff");
        let lines = self.run(operation, input, what_if);
        assert_eq!(lines.len(), 2, "{lines:?}");
        self.fits(&lines[0]);
        let names: Vec<String> = serde_json::from_value(lines[1].clone()).expect("a list of names");
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len(), "{names:?}");
        (lines[0].clone(), names)
    }

    /// Whether it is in the desired state, and which properties are not.
    #[track_caller]
    fn test(&self, input: &Value) -> (bool, Vec<String>) {
        let (state, names) = self.two("test", input, false);
        let verdict = state["_inDesiredState"].as_bool().expect("a verdict");
        assert_eq!(verdict, names.is_empty());
        (verdict, names)
    }

    /// As dsc does a set: it looks first, and its own test is left out (`implementsPretest`).
    #[track_caller]
    fn set(&self, input: &Value, what_if: bool) -> (Value, Vec<String>) {
        assert_eq!(self.manifest["set"]["implementsPretest"], true);
        self.get(input);
        self.two("set", input, what_if)
    }
}

#[test]
fn dsc_can_read_the_manifest() {
    let manifest = manifest();
    for (key, value) in manifest.as_object().expect("an object") {
        assert!(FIELDS.contains(&key.as_str()), "{key}");
        assert!(!value.is_null(), "{key}");
    }
    assert_eq!(manifest["type"], "Circ/Watcher");
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        manifest["$schema"],
        "https://aka.ms/dsc/schemas/v3/bundled/resource/manifest.json"
    );
    for method in ["get", "set", "test", "delete", "export"] {
        assert_eq!(manifest[method]["executable"], "circ", "{method}");
        assert_eq!(manifest[method]["input"], "stdin", "{method}");
    }
    for (code, text) in manifest["exitCodes"].as_object().expect("an object") {
        assert!(code.parse::<i32>().is_ok() && text.is_string(), "{code}");
    }
}

#[test]
fn a_watcher_comes_changes_and_goes() {
    let site = TempSite::new();
    let config = site.ini("[watcher:other]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    let dsc = Dsc::new(&site);
    let at = |properties: Value| {
        let mut instance = json!({"name": "web", "config": config});
        for (key, value) in properties.as_object().expect("an object") {
            instance[key] = value.clone();
        }
        instance
    };
    let absent = dsc.get(&at(json!({})));
    assert_eq!(
        absent,
        json!({"name": "web", "config": config, "_exist": false})
    );

    let web = at(json!({
        "cmd": "sleep 1000", "numprocesses": 2, "graceful_timeout": 5, "stop_signal": "INT",
        "env": {"TOKEN": {"secureString": "hush"}}, "rlimits": {"nofile": 200}, "copy_env": false, "_exist": true,
    }));
    // The order is that of the report.
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names.join(" ")
    };
    let all = "_exist cmd copy_env env graceful_timeout numprocesses rlimits stop_signal";
    let (verdict, names) = dsc.test(&web);
    assert_eq!((verdict, sorted(names).as_str()), (false, all));
    let before = std::fs::read(&config).expect("the file");
    let (expected, names) = dsc.set(&web, true);
    assert_eq!(
        (expected["numprocesses"].as_i64(), sorted(names).as_str()),
        (Some(2), all)
    );
    assert_eq!(std::fs::read(&config).expect("the file"), before);
    let (state, names) = dsc.set(&web, false);
    assert_eq!(sorted(names), all);
    assert_eq!(state["state"], "running");
    assert_eq!(state["env"], json!({"TOKEN": "********"}));
    assert!(
        std::fs::read_to_string(&config)
            .expect("the file")
            .contains("TOKEN = hush")
    );
    let pids = daemon.wait_pids("web", 2);

    // Again: nothing.
    assert_eq!(dsc.test(&web), (true, vec![]));
    let (_, names) = dsc.set(&web, false);
    assert!(names.is_empty(), "{names:?}");
    let told = dsc.get(&web);
    assert_eq!(
        told["copy_env"], false,
        "what was asked about is told at its default too"
    );
    assert_eq!(told["rlimits"], json!({"nofile": 200}), "as it was asked");
    assert_eq!(daemon.wait_pids("web", 2), pids);

    // Somebody drifts.
    daemon.ok("decr", json!({"name": "web", "waiting": true}));
    assert_eq!(dsc.test(&web), (false, vec!["numprocesses".to_string()]));
    let (state, names) = dsc.set(&web, false);
    assert_eq!(
        (state["numprocesses"].as_i64(), names),
        (Some(2), vec!["numprocesses".to_string()])
    );
    daemon.wait_pids("web", 2);

    let stopped = at(json!({"state": "stopped", "hooks": {}}));
    let (_, names) = dsc.set(&stopped, false);
    assert_eq!(names, ["state"]);
    assert_eq!(dsc.get(&stopped)["state"], "stopped");

    // All of them, one a line, as instances that fit.
    let lines = dsc.export(Some(&json!({"config": config})));
    let names: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["name"].as_str())
        .collect();
    assert_eq!(names, ["other", "web"]);
    assert_eq!(lines[1]["env"], json!({"TOKEN": "hush"}));
    for line in &lines {
        assert_eq!(dsc.test(line), (true, vec![]), "{line}");
    }
    assert_eq!(
        dsc.export(Some(&json!({"config": config, "name": "w*"})))
            .len(),
        1
    );

    // It goes, by _exist or by delete.
    let gone = at(json!({"_exist": false}));
    assert_eq!(dsc.test(&gone), (false, vec!["_exist".to_string()]));
    let what = dsc.run("delete", &gone, true);
    assert!(what[0]["_metadata"]["whatIf"][0].is_string(), "{what:?}");
    let (state, names) = dsc.set(&gone, false);
    assert_eq!(
        (state["_exist"].as_bool(), names),
        (Some(false), vec!["_exist".to_string()])
    );
    assert_eq!(dsc.test(&gone), (true, vec![]));
    assert!(
        dsc.run("delete", &at(json!({"with_env": true})), false)
            .is_empty()
    );
    assert!(
        !std::fs::read_to_string(&config)
            .expect("the file")
            .contains("TOKEN")
    );
}

impl Dsc<'_> {
    #[track_caller]
    fn export(&self, input: Option<&Value>) -> Vec<Value> {
        if let Some(input) = input {
            let schema = &self.manifest["export"]["schema"]["embedded"];
            assert_eq!(
                verdicts(schema, std::slice::from_ref(input)),
                [None],
                "{input}"
            );
        }
        let told = invoke(self.site, &self.manifest["export"], input, false);
        assert_eq!(told.code, 0, "{}", told.stderr);
        told.stdout.iter().for_each(|line| self.fits(line));
        told.stdout
    }
}

#[test]
fn a_file_alone_will_do() {
    let site = TempSite::new();
    let config = site.ini("[watcher:web]\ncmd = sleep 1000\nmy_key = x\n");
    let dsc = Dsc::new(&site);
    let web = json!({"name": "web", "config": config, "numprocesses": 3, "live": false});
    assert_eq!(dsc.test(&web), (false, vec!["numprocesses".to_string()]));
    let (state, names) = dsc.set(&web, false);
    assert_eq!(
        (state["numprocesses"].as_i64(), names),
        (Some(3), vec!["numprocesses".to_string()])
    );
    assert_eq!(state["extra"], json!({"my_key": "x"}));
    assert_eq!(dsc.test(&web), (true, vec![]));
    // What only the file has is there too.
    let other = TempSite::new();
    let both = other.ini("");
    let _daemon = other.start(Program::Circ);
    let dsc_there = Dsc::new(&other);
    let text = std::fs::read_to_string(&both).expect("the file");
    std::fs::write(&both, format!("{text}\n[watcher:late]\ncmd = sleep 1000\n")).expect("written");
    let late = json!({"name": "late", "config": both});
    let told = dsc_there.get(&late);
    assert_eq!(
        (&told["_exist"], &told["state"]),
        (&json!(true), &json!("stopped"))
    );
    assert!(!dsc_there.test(&late).0);
    // With a daemon that does not run, the file tells what there is, and that nothing runs.
    let told = dsc.get(&json!({"name": "web", "config": config}));
    assert_eq!(
        (&told["state"], &told["cmd"]),
        (&json!("stopped"), &json!("sleep 1000"))
    );
}

#[test]
fn what_is_wrong_is_told_in_dscs_own_log() {
    let site = TempSite::new();
    let config = site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let manifest = manifest();
    for (operation, input, says) in [
        ("get", json!({}), "name"),
        ("get", json!([]), "not a JSON object"),
        (
            "test",
            json!({"name": "web", "config": config, "numprocesses": -1, "live": false}),
            "numprocesses",
        ),
        (
            "set",
            json!({"name": "web", "config": config, "numproceses": 1, "live": false}),
            "did you mean numprocesses?",
        ),
        (
            "set",
            json!({"name": "web", "config": config, "_exist": "no", "live": false}),
            "_exist",
        ),
        (
            "set",
            json!({"name": "web", "config": "/no/such/circus.ini"}),
            "cannot find /no/such",
        ),
        ("set", json!({"name": "web", "config": config}), "listens"),
        (
            "export",
            json!({"config": "/no/such/circus.ini"}),
            "/no/such/circus.ini",
        ),
        ("delete", json!({"name": "web", "config": 5}), "config"),
    ] {
        let told = invoke(&site, &manifest[operation], Some(&input), false);
        assert_eq!(
            (told.code, told.stdout.len()),
            (1, 0),
            "{operation} {input}: {}",
            told.stderr
        );
        assert!(manifest["exitCodes"]["1"].is_string());
        let last = told.stderr.lines().last().unwrap_or_default();
        let line: Value =
            serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {}", told.stderr));
        let error = line["error"].as_str().unwrap_or_default();
        assert!(error.contains(says), "{operation} {input}: {error}");
    }
    let told = invoke(&site, &manifest["get"], None, false);
    assert_eq!(told.code, 1, "{}", told.stderr);
}
