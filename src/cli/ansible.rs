//! circ as an Ansible module: a task's arguments come as JSON, the report goes back as JSON.
//!
//! There are two doors. Ansible runs a binary in `library/` as `circus FILE`, where FILE holds the arguments: [`called`]
//! recognises that. The Python modules of the collection, and scripts, ask for `circ ansible --module NAME`, with the
//! arguments on standard input, so that no secret stands in a list of processes. Behind both doors is the same code:
//! what a task means and how it is refused does not depend on the door.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

mod arguments;
mod tasks;
mod words;

pub use arguments::Module;
use arguments::Task;

use super::output;
use super::state::interruption;
use crate::state::report;

/// No task has more to say; a larger file is none of Ansible's.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Arguments of `circ ansible`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The module
    #[arg(long, value_enum, default_value_t = Module::Circus)]
    module: Module,
    /// The task's arguments, a JSON object; - is standard input
    ///
    /// Its keys _ansible_check_mode and _ansible_diff ask for what Ansible's --check and --diff do. The report is one
    /// JSON object; the exit code is 0, or 1 if the task failed.
    #[arg(value_name = "FILE|-", default_value = "-")]
    file: PathBuf,
}

const EXAMPLES: &str = "Examples:
  echo '{\"name\": \"web\", \"procs\": 4, \"config\": \"/srv/web/circus.ini\"}' | circ ansible
  echo '{\"config\": \"/srv/web/circus.ini\"}' | circ ansible --module circus_info";

/// Runs `circ ansible`; the result is its exit code.
pub fn run(args: Args) -> ExitCode {
    let text = if args.file.as_os_str() == "-" {
        let mut text = String::new();
        let stdin = std::io::stdin().lock();
        let read = stdin.take(LARGEST).read_to_string(&mut text);
        read.map(|_| text)
            .map_err(|error| format!("cannot read standard input: {error}"))
    } else {
        std::fs::read_to_string(&args.file)
            .map_err(|error| format!("cannot read {}: {error}", args.file.display()))
    };
    let object = text.and_then(|text| match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("the arguments of a task are a JSON object".to_string()),
        Err(error) => Err(format!(
            "the arguments of a task are a JSON object: {error}"
        )),
    });
    match object {
        Ok(object) => {
            interruption::listen();
            finish(tasks::run(Task::new(args.module, object)))
        }
        Err(error) => finish(
            json!({"schema": report::SCHEMA, "changed": false, "failed": true, "msg": error}),
        ),
    }
}

/// What Ansible calls a binary module with.
#[derive(Debug)]
pub struct Called {
    module: Module,
    arguments: Map<String, Value>,
}

/// The program was called by Ansible: with one argument, the path of a file that holds a JSON object with Ansible's own
/// keys (`_ansible_check_mode`, …). Nobody else's command line looks like that.
pub fn called(args: &[OsString]) -> Option<Called> {
    let [program, file] = args else {
        return None;
    };
    let file = Path::new(file);
    // Ansible gives a path; a bare word is a command, whatever lies in the working directory.
    if file.components().count() < 2 {
        return None;
    }
    let metadata = std::fs::metadata(file).ok()?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return None;
    }
    let text = std::fs::read_to_string(file).ok()?;
    let Ok(Value::Object(arguments)) = serde_json::from_str(&text) else {
        return None;
    };
    if !arguments.keys().any(|key| key.starts_with("_ansible_")) {
        return None;
    }
    let told = arguments
        .get("_ansible_module_name")
        .and_then(Value::as_str);
    let named = Path::new(program)
        .file_name()
        .and_then(|name| name.to_str());
    let module = [told, named]
        .into_iter()
        .flatten()
        .find_map(Module::of_name)
        .unwrap_or(Module::Circus);
    Some(Called { module, arguments })
}

/// Does what Ansible called for; the result is the exit code.
pub fn run_called(called: Called) -> ExitCode {
    interruption::listen();
    finish(tasks::run(Task::new(called.module, called.arguments)))
}

/// Prints the report. Ansible reads `failed` in it; scripts read the exit code.
fn finish(report: Value) -> ExitCode {
    let failed = report["failed"] != false;
    output::line(&report.to_string());
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(program: &str, content: &str) -> Option<Called> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("args");
        std::fs::write(&file, content).unwrap();
        called(&[program.into(), file.into()])
    }

    #[test]
    fn a_call_by_ansible_is_told_from_everybody_elses() {
        let ansible = r#"{"name": "web", "_ansible_check_mode": true}"#;
        assert!(call("/tmp/x/circus", ansible).is_some());
        for other in [
            "",
            "{}",
            r#"{"name": "web"}"#,
            r#"["_ansible_check_mode"]"#,
            "[circus]\n_ansible_check_mode = 1\n",
        ] {
            assert!(call("circ", other).is_none(), "{other}");
        }
        for args in [
            &["circ"][..],
            &["circ", "status"],
            &["circ", "/"],
            &["circ", "/nowhere/args"],
        ] {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            assert!(called(&args).is_none(), "{args:?}");
        }
        let three = ["circ", "daemon", "/tmp/args"].map(OsString::from);
        assert!(called(&three).is_none());
    }

    #[test]
    fn the_modules_name_is_ansibles_or_the_files() {
        let named = |program: &str, name: &str| {
            let text = format!(r#"{{"_ansible_module_name": "{name}", "_ansible_diff": false}}"#);
            call(program, &text).map(|called| called.module)
        };
        assert_eq!(named("/t/circus_info", "x"), Some(Module::Info));
        assert_eq!(
            named("/t/x", "ansible.legacy.circus_socket"),
            Some(Module::Socket)
        );
        assert_eq!(named("/t/circus", "circus"), Some(Module::Circus));
        assert_eq!(named("/t/mine", "mine"), Some(Module::Circus));
    }
}
