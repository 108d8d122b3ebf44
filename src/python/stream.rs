//! The text that feeds an output stream class of the user's, and what it reads: its setup as a line of JSON, then frames,
//! each with its length (4 bytes, little end first), of a line of JSON about the data, and the data.

use crate::options::{Map, Value};
use serde_json::json;

/// The program.
pub const TEXT: &str = include_str!("stream.py");

/// What a new process is sent first. `options` are the keyword arguments of the class.
pub fn greeting(class: &str, options: &Map<String, Value>, paths: &[String]) -> String {
    let setup = json!({"class": class, "options": options, "paths": paths});
    format!("{}\n{setup}\n", json!(TEXT))
}

/// A frame without its length: what circus tells a stream beside the data, and the data.
pub fn entry(pid: i32, name: &str, timestamp: f64, data: &[u8]) -> Vec<u8> {
    let about = json!({"pid": pid, "name": name, "timestamp": timestamp}).to_string();
    [about.as_bytes(), b"\n", data].concat()
}
