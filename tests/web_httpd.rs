//! `httpd = True`: the web console as a watcher of the daemon, on a socket of the daemon.

#[path = "web/client.rs"]
mod client;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use client::{ask, try_ask};
use serde_json::{Value, json};
use support::{Program, TempSite, wait_for};

/// The watcher and the socket are called as with Circus, the socket stays while the program is replaced, and no request is
/// refused meanwhile.
#[test]
fn a_reload_of_the_console_loses_no_page() {
    let site = TempSite::new();
    let port = site.port();
    site.ini(&format!(
        "httpd = True\nhttpd_host = 127.0.0.1\nhttpd_port = {port}\n[watcher:web]\ncmd = sleep 1000\n"
    ));
    let daemon = site.start(Program::Circ);
    let before = daemon.wait_pids("circushttpd", 1);
    assert_eq!(
        daemon.ok("list", json!({}))["watchers"],
        json!(["circushttpd", "web"])
    );
    let sockets = daemon.ok("listsockets", json!({}));
    assert_eq!(
        (
            &sockets["sockets"][0]["name"],
            &sockets["sockets"][0]["port"]
        ),
        (&json!("circushttpd"), &json!(port))
    );
    // who comes before the program has started waits for it
    let told = ask(port, "GET", "/api/v1/daemons", &[], "").ok();
    assert_eq!(told["daemons"][0]["endpoint"], site.endpoint);
    assert_eq!(told["daemons"][0]["pid"], daemon.pid());

    let (over, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let visitor = std::thread::spawn({
        let (over, asked) = (over.clone(), asked.clone());
        move || {
            let mut failures = Vec::new();
            while !over.load(Ordering::Relaxed) {
                match try_ask(port, "GET", "/", &[], "") {
                    Ok(answer) if answer.status == 200 => {}
                    other => failures.push(format!("{other:?}")),
                }
                asked.fetch_add(1, Ordering::Relaxed);
            }
            failures
        }
    });
    for _ in 0..3 {
        daemon.ok("reload", json!({"name": "circushttpd", "waiting": true}));
        let seen = asked.load(Ordering::Relaxed);
        wait_for("more visits", || {
            (asked.load(Ordering::Relaxed) > seen + 3).then_some(())
        });
    }
    over.store(true, Ordering::Relaxed);
    let failures = visitor.join().expect("a thread");
    assert!(failures.is_empty(), "{failures:?}");
    assert_ne!(daemon.wait_pids("circushttpd", 1), before);

    // it comes and goes with the file
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(daemon.ok("list", json!({}))["watchers"], json!(["web"]));
    assert_eq!(daemon.ok("listsockets", json!({}))["sockets"], json!([]));
    let password = site.write("password", "open sesame");
    std::fs::set_permissions(
        &password,
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .expect("a mode");
    site.ini(&format!(
        "httpd = True\nhttpd_port = {port}\nhttpd_host = 127.0.0.1\nhttpd_password_file = password\nhttpd_read_only = 1\n\
         [watcher:web]\ncmd = sleep 1000\n"
    ));
    daemon.ok("reloadconfig", json!({"waiting": true}));
    let session: Value = wait_for("the console to be back", || {
        try_ask(port, "GET", "/api/v1/session", &[], "").ok()
    })
    .ok();
    assert_eq!(
        (&session["login"], &session["authenticated"]),
        (&json!(true), &json!(false))
    );
}
