//! An independent validator of JSON Schemas: the package jsonschema of PyPI.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::venv;

/// What the validator says of each document: null, or what is wrong with it.
pub fn verdicts(schema: &Value, documents: &[Value]) -> Vec<Option<String>> {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/state_schema/validate.py"
    );
    let mut python = Command::new(venv().python())
        .args(["-W", "ignore", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    let task = json!({"schema": schema, "documents": documents}).to_string();
    let mut stdin = python.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || stdin.write_all(task.as_bytes()));
    let output = python.wait_with_output().expect("python ends");
    writer.join().expect("no panic").expect("written");
    assert!(
        output.status.success(),
        "the validator refuses the schema itself"
    );
    serde_json::from_slice(&output.stdout).expect("a list of verdicts")
}
