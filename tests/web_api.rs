//! The API against its own document: schemathesis makes requests of it, good and bad ones, and compares the answers.

#[path = "web/client.rs"]
mod client;
mod support;

use std::process::Command;

use client::Console;
use serde_json::json;
use support::{Program, TempSite, venv_of};

/// What a run checks. A server error is found as one that the document does not have.
const CHECKS: &str = "status_code_conformance,content_type_conformance,response_schema_conformance,\
     negative_data_rejection,unsupported_method,allow_header_conformance";

/// Streams never end, and these commands would change what the others find.
const LEFT_OUT: &str = "(events|stats|log|quit|add|set|rm)$";

#[test]
fn the_api_is_what_its_document_says() {
    let venv = venv_of("tests/requirements-web.txt");
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    let console = Console::start(&site, &["--endpoint", daemon.endpoint()]);
    let document = console.get("/api/v1/openapi.json").ok();
    assert_eq!(document["openapi"], "3.1.0");
    let url = format!("http://127.0.0.1:{}/api/v1/openapi.json", console.port);
    let output = Command::new(venv.program("st"))
        .args([
            "run",
            &url,
            "--phases",
            "coverage,fuzzing",
            "--max-examples",
            "2",
        ])
        .args([
            "--max-time",
            "20",
            "--seed",
            "1",
            "--generation-database",
            "none",
        ])
        .args([
            "--warnings",
            "off",
            "-c",
            CHECKS,
            "--exclude-path-regex",
            LEFT_OUT,
        ])
        .current_dir(site.dir())
        .output()
        .expect("schemathesis runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(told.contains("No issues found"), "{told}");
    assert_eq!(daemon.ok("numwatchers", json!({}))["numwatchers"], 1);
}
