//! The web console and its API: a console beside daemons, asked as a browser or a program asks.

#[path = "web/client.rs"]
mod client;
mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use client::{Console, circ};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{Daemon, Program, TempSite, wait_for};

/// A console for one daemon, and what paths of it begin with.
fn console(site: &TempSite, daemon: &Daemon, more: &[&str]) -> (Console, String) {
    let arguments = [&["--endpoint", daemon.endpoint()], more].concat();
    let console = Console::start(site, &arguments);
    let id = site.endpoint.rsplit(':').next().unwrap_or_default();
    (console, format!("/api/v1/daemons/{id}"))
}

fn secret(site: &TempSite, name: &str, text: &str) -> String {
    let path = site.write(name, text);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("a mode");
    path.display().to_string()
}

fn watcher<'a>(told: &'a Value, name: &str) -> &'a Value {
    let watchers = told["watchers"].as_array();
    let mut watchers = watchers.into_iter().flatten();
    watchers
        .find(|watcher| watcher["name"] == name)
        .unwrap_or(&Value::Null)
}

#[test]
fn the_console_tells_and_does_what_the_daemon_does() {
    let site = TempSite::new();
    site.ini("[watcher:Web]\ncmd = sleep 1000\nnumprocesses = 2\n[env:Web]\nSECRET = hidden\n[socket:s]\nport = 0\n");
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    let (console, base) = console(&site, &daemon, &[]);

    let session = console.get("/api/v1/session").ok();
    assert_eq!(
        (&session["login"], &session["csrf"]),
        (&json!(false), &Value::Null)
    );
    let daemons = console.get("/api/v1/daemons").ok();
    assert_eq!(daemons["daemons"][0]["state"], "up");
    assert_eq!(daemons["daemons"][0]["pid"], daemon.pid());
    let told = console.get(&format!("{base}/watchers")).ok();
    let web = watcher(&told, "Web");
    assert_eq!(
        (&web["status"], &web["wanted"], &web["started"]),
        (&json!("active"), &json!(2), &json!(2))
    );
    assert_eq!(web["processes"][0]["pid"], pids[0]);
    assert!(web["rss"].as_u64() > Some(1000), "{web}");
    assert_eq!(told["sockets"][0]["name"], "s");
    assert_eq!(told["usage"]["fds"].as_u64().map(|fds| fds > 5), Some(true));
    let short = console
        .get(&format!("{base}/watchers?processes=false"))
        .ok();
    assert_eq!(watcher(&short, "Web").get("processes"), None);
    let one = console.get(&format!("{base}/watchers/WEB")).ok();
    assert_eq!(one["options"]["cmd"], "sleep 1000");
    assert!(!one.to_string().contains("hidden"), "{one}");

    let command =
        |name: &str, body: Value| console.send("POST", &format!("{base}/commands/{name}"), &body);
    let reply = command("incr", json!({"name": "web", "waiting": true})).ok();
    assert_eq!(
        (&reply["status"], &reply["numprocesses"]),
        (&json!("ok"), &json!(3))
    );
    daemon.wait_pids("web", 3);
    assert_eq!(command("list", json!({})).ok()["watchers"], json!(["web"]));
    assert!(
        command("incr", json!({"name": "nobody"}))
            .problem(422)
            .contains("nobody")
    );
    assert_eq!(
        command("incr", json!({"name": "nobody"})).json()["errno"],
        3
    );

    for (method, path, body, status) in [
        ("GET", format!("{base}/watchers/nobody"), "", 404),
        ("GET", format!("{base}/watchers/nobody/log"), "", 404),
        ("GET", "/api/v1/daemons/none/watchers".into(), "", 404),
        ("GET", "/api/v2".into(), "", 404),
        ("GET", format!("{base}/watchers?proceses=false"), "", 400),
        ("GET", format!("{base}/watchers?processes=no"), "", 400),
        ("DELETE", format!("{base}/watchers"), "", 405),
        ("POST", "/".into(), "", 405),
        ("POST", format!("{base}/commands/frobnicate"), "{}", 404),
        ("POST", format!("{base}/commands/listen"), "{}", 404),
        ("POST", format!("{base}/commands/incr"), "{}", 400),
        ("POST", format!("{base}/commands/incr"), "[]", 400),
        ("POST", format!("{base}/commands/incr"), "{", 400),
        (
            "POST",
            format!("{base}/commands/incr"),
            r#"{"name": "web", "nb": "2"}"#,
            400,
        ),
        (
            "POST",
            format!("{base}/commands/incr"),
            r#"{"name": "web", "n": 2}"#,
            400,
        ),
        ("POST", format!("{base}/commands/list?timeout=0"), "{}", 400),
        ("POST", "/api/v1/login".into(), r#"{"password": "x"}"#, 400),
    ] {
        let json = ("Content-Type", "application/json");
        let answer = console.ask(method, &path, &[json], body);
        assert!(!answer.problem(status).is_empty(), "{method} {path}");
    }
    let allowed = console.ask("DELETE", &format!("{base}/watchers"), &[], "");
    assert_eq!(allowed.header("allow"), Some("GET"));
    let plain = console.ask(
        "POST",
        &format!("{base}/commands/list"),
        &[("Content-Type", "text/plain")],
        "{}",
    );
    plain.problem(415);
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(1024 * 1024));
    let json = ("Content-Type", "application/json");
    console
        .ask("POST", &format!("{base}/commands/list"), &[json], &large)
        .problem(413);

    let page = console.get("/");
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-security-policy")
            .is_some_and(|policy| policy.starts_with("default-src 'none'; script-src 'self';"))
    );
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert!(
        !page.body.contains("<style")
            && !page.body.contains("onclick")
            && page.body.contains("<script type=\"module\" src=")
    );
    let head = console.ask("HEAD", "/", &[], "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(
        console
            .ask("HEAD", &format!("{base}/events"), &[], "")
            .status,
        200
    );
    assert_eq!(console.get("/healthz").body, "ok\n");
    assert_eq!(console.get("/readyz").status, 200);
}

#[test]
fn events_and_samples_are_fetched_once_for_all_viewers() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let (console, base) = console(&site, &daemon, &[]);
    let asked = || {
        let told = daemon.ok("metrics", json!({}));
        told["daemon"]["commands"]["metrics"].as_u64().unwrap_or(0)
    };

    let mut events = console.stream(&format!("{base}/events"));
    assert_eq!(events.next("state"), json!({"state": "up", "reason": null}));
    let before = asked();
    let path = format!("{base}/stats?processes=false");
    let mut viewers: Vec<_> = (0..5).map(|_| console.stream(&path)).collect();
    for viewer in &mut viewers {
        assert_eq!(viewer.next("state")["state"], "up");
        for _ in 0..2 {
            let told = viewer.next("stats");
            assert_eq!(watcher(&told, "web")["status"], "active");
            assert_eq!(watcher(&told, "web").get("processes"), None);
        }
    }
    let questions = asked() - before - 1;
    assert!(
        (2..=9).contains(&questions),
        "{questions} questions for 10 samples"
    );
    let body = json!({"name": "web", "waiting": true});
    console
        .send("POST", &format!("{base}/commands/incr"), &body)
        .ok();
    let spawned = events.find("event", |event| event["action"] == "spawn");
    assert_eq!(spawned["topic"], "watcher.web.spawn");
    assert!(spawned["payload"]["process_pid"].is_i64());
    viewers[0].find("stats", |told| watcher(told, "web")["running"] == 2);

    drop((events, viewers));
    // who nobody watches is left alone: the console closes its subscription
    wait_for("the console to let go of the events", || {
        let sockets = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).ok()?;
        let connections = sockets.flatten().filter(|fd| {
            fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
        });
        let now = connections.count();
        daemon.ok("numwatchers", json!({}));
        let before = asked();
        (asked() == before + 1).then_some(now)
    });
}

#[test]
fn logs_are_followed_from_memory_and_from_files() {
    let site = TempSite::new();
    let said = site.path("said.log");
    let script = site.write(
        "say.sh",
        "n=0; while read line; do echo \"$line\"; done < \"$1\"\n",
    );
    let (pipe, filed) = (site.path("pipe"), site.path("filed"));
    for path in [&pipe, &filed] {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a fifo");
    }
    site.ini(&format!(
        "[watcher:memory]\ncmd = sh {script} {pipe}\nstdout_stream.class = QueueStream\n\
         [watcher:file]\ncmd = sh {script} {filed}\nstdout_stream.class = FileStream\nstdout_stream.filename = {said}\n\
         [watcher:none]\ncmd = sleep 1000\n",
        script = script.display(),
        pipe = pipe.display(),
        filed = filed.display(),
        said = said.display(),
    ));
    let daemon = site.start(Program::Circ);
    let open = |path| {
        fs::OpenOptions::new()
            .write(true)
            .open(path)
            .expect("a fifo")
    };
    let mut pipes = [open(&pipe), open(&filed)];
    let mut say = |at: usize, text: &str| {
        let pipe: &mut fs::File = &mut pipes[at];
        pipe.write_all(text.as_bytes())
            .expect("a worker that reads");
    };
    for at in [0, 1] {
        say(at, "one\ntwo\nthree é\n");
    }
    let (console, base) = console(&site, &daemon, &[]);
    daemon.wait_for("the lines to arrive", || {
        let end = daemon.ok("logtail", json!({"name": "memory"}))["end"] == 17;
        (end && fs::read_to_string(&said).is_ok_and(|text| text.len() == 17)).then_some(())
    });
    for (at, watcher) in ["memory", "file"].into_iter().enumerate() {
        let log = format!("{base}/watchers/{watcher}/log");
        let mut once = console.stream(&format!("{log}?tail=2&follow=false"));
        assert_eq!(once.next("log")["text"], "two\nthree é\n", "{watcher}");
        assert!(once.next("end")["reason"].is_string());
        assert_eq!(once.event(), None);
        let mut following = console.stream(&format!("{log}?tail=0"));
        assert_eq!(following.next("state")["state"], "up");
        // what comes before the end of the file was found is from before
        let mut more = String::new();
        for number in 0.. {
            say(at, &format!("line {number}\n"));
            if let Some((name, data)) = following.event().filter(|(name, _)| name == "log") {
                assert_eq!(name, "log");
                more.push_str(data["text"].as_str().unwrap_or_default());
                break;
            }
        }
        assert!(more.starts_with("line "), "{more}");
        assert!(
            console
                .get(&format!("{log}?stream=other"))
                .problem(400)
                .contains("stdout or stderr")
        );
    }
    let mut nowhere = console.stream(&format!("{base}/watchers/none/log"));
    let reason = nowhere.next("end")["reason"].to_string();
    assert!(
        reason.contains("stdout_stream.class = FileStream"),
        "{reason}"
    );
}

#[test]
fn a_daemon_that_goes_away_is_told_so_and_found_again() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let first = site.start(Program::Circ);
    let (console, base) = console(&site, &first, &[]);
    let mut stats = console.stream(&format!("{base}/stats"));
    let mut events = console.stream(&format!("{base}/events"));
    assert_eq!(stats.next("state")["state"], "up");
    assert_eq!(events.next("state")["state"], "up");
    first.stop();
    for stream in [&mut stats, &mut events] {
        let state = stream.next("state");
        assert_eq!(state["state"], "down");
        assert!(
            state["reason"]
                .as_str()
                .is_some_and(|reason| !reason.is_empty())
        );
    }
    let away = console.get("/api/v1/daemons").ok();
    assert_eq!(away["daemons"][0]["state"], "down");
    assert!(
        away["daemons"][0]["reason"]
            .as_str()
            .is_some_and(|why| why.contains("nobody listens")),
        "{away}"
    );
    assert!(
        console
            .get(&format!("{base}/watchers"))
            .problem(502)
            .contains("nobody listens")
    );
    assert_eq!(console.get("/readyz").status, 503);
    assert_eq!(console.get("/healthz").status, 200);
    let metrics = console.get("/metrics");
    assert!(
        metrics
            .body
            .lines()
            .any(|line| line.starts_with("circ_up{") && line.ends_with(" 0"))
    );
    let second = site.start(Program::Circ);
    for stream in [&mut stats, &mut events] {
        assert_eq!(stream.next("state")["state"], "up");
    }
    second.ok("incr", json!({"name": "web", "waiting": true}));
    events.find("event", |event| event["action"] == "spawn");
    stats.find("stats", |told| watcher(told, "web")["running"] == 2);
}

#[test]
fn options_are_previewed_and_changed_in_file_and_daemon() {
    let site = TempSite::new();
    let ini = site.ini("; mine\n[watcher:web]\ncmd = sleep 1000\nnumprocesses = 1\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let (console, base) = console(&site, &daemon, &[]);
    let before = fs::read_to_string(&ini).expect("circus.ini");
    let change = json!({"options": {"numprocesses": 2, "env": {"TOKEN": "hidden"}}});
    let preview = console
        .send("POST", &format!("{base}/watchers/web/preview"), &change)
        .ok();
    assert_eq!(
        (&preview["changed"], &preview["check"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        preview["changes"]["numprocesses"],
        json!({"old": 1, "new": 2})
    );
    let after = preview["diff"][0]["after"].as_str().unwrap_or_default();
    assert!(
        after.contains("numprocesses = 2") && after.contains("; mine"),
        "{after}"
    );
    assert!(!preview.to_string().contains("hidden"), "{preview}");
    assert_eq!(fs::read_to_string(&ini).expect("circus.ini"), before);
    assert_eq!(daemon.pids("web").len(), 1);

    let path = format!("{base}/watchers/web/options");
    let done = console.send("PUT", &path, &change).ok();
    assert_eq!(
        (&done["changed"], &done["check"]),
        (&json!(true), &json!(false))
    );
    daemon.wait_pids("web", 2);
    assert!(fs::read_to_string(&ini).is_ok_and(|text| text.contains("numprocesses = 2")));
    assert_eq!(console.send("PUT", &path, &change).ok()["changed"], false);
    let added = json!({"options": {"cmd": "sleep 2000"}});
    console
        .send("PUT", &format!("{base}/watchers/new/options"), &added)
        .ok();
    daemon.wait_pids("new", 1);

    for (body, status, want) in [
        (json!({"options": {"numproceses": 2}}), 422, "numprocesses"),
        (
            json!({"options": {"numprocesses": "many"}}),
            422,
            "numprocesses",
        ),
        (json!({"option": {}}), 400, "options and unset"),
    ] {
        let told = console.send("PUT", &path, &body).problem(status);
        assert!(told.contains(want), "{told}");
    }
    assert!(
        console
            .send("PUT", &format!("{base}/watchers/other/options"), &json!({}))
            .problem(422)
            .contains("cmd")
    );
}

#[test]
fn who_may_not_is_refused() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    let password = secret(&site, "password", "open sesame\n");
    let tokens = secret(
        &site,
        "tokens",
        "all-of-it-all-of-it\nonly-look-only-look read-only\n",
    );
    let (console, base) = console(
        &site,
        &daemon,
        &[
            "--password-file",
            &password,
            "--token-file",
            &tokens,
            "--allow-host",
            "Box.Example",
        ],
    );
    let daemons = "/api/v1/daemons";
    let get = |headers: &[(&str, &str)]| console.ask("GET", daemons, headers, "").status;

    // nobody
    let refused = console.get(daemons);
    refused.problem(401);
    assert!(
        refused
            .header("www-authenticate")
            .is_some_and(|how| how.starts_with("Bearer"))
    );
    assert_eq!(console.get("/api/v1/session").ok()["login"], true);
    assert_eq!(console.get("/metrics").status, 401);
    assert_eq!(
        (console.get("/").status, console.get("/healthz").status),
        (200, 200)
    );

    // tokens
    assert_eq!(get(&[("Authorization", "Bearer all-of-it-all-of-it")]), 200);
    assert_eq!(get(&[("Authorization", "Bearer all-of-it-all-of-iT")]), 401);
    let list = |token: &str, command: &str, body: &str| {
        let headers = [
            ("Authorization", token),
            ("Content-Type", "application/json"),
        ];
        console
            .ask(
                "POST",
                &format!("{base}/commands/{command}"),
                &headers,
                body,
            )
            .status
    };
    assert_eq!(list("Bearer only-look-only-look", "list", "{}"), 200);
    assert_eq!(
        list("Bearer only-look-only-look", "incr", r#"{"name": "web"}"#),
        403
    );
    assert_eq!(
        list("Bearer all-of-it-all-of-it", "incr", r#"{"name": "web"}"#),
        200
    );
    let look = [
        ("Authorization", "Bearer only-look-only-look"),
        ("Content-Type", "application/json"),
    ];
    console
        .ask("PUT", &format!("{base}/watchers/web/options"), &look, "{}")
        .problem(403);

    // a session
    let json = ("Content-Type", "application/json");
    let login = |password: &str| {
        let body = json!({"password": password}).to_string();
        console.ask("POST", "/api/v1/login", &[json], &body)
    };
    login("open sesam").problem(401);
    let answer = login("open sesame");
    let csrf = answer.ok()["csrf"].as_str().unwrap_or_default().to_owned();
    let set = answer.header("set-cookie").unwrap_or_default().to_owned();
    assert!(
        set.contains("; HttpOnly; SameSite=Strict") && set.contains("Path=/"),
        "{set}"
    );
    let cookie = set.split(';').next().unwrap_or_default();
    assert_eq!(get(&[("Cookie", cookie)]), 200);
    let session = console
        .ask("GET", "/api/v1/session", &[("Cookie", cookie)], "")
        .ok();
    assert_eq!(
        (&session["authenticated"], &session["csrf"]),
        (&json!(true), &json!(csrf))
    );
    let post = |more: &[(&str, &str)]| {
        let headers = [&[("Cookie", cookie), json], more].concat();
        console
            .ask(
                "POST",
                &format!("{base}/commands/numwatchers"),
                &headers,
                "{}",
            )
            .status
    };
    assert_eq!(
        (
            post(&[]),
            post(&[("X-Circ-Csrf", "x")]),
            post(&[("X-Circ-Csrf", &csrf)])
        ),
        (403, 403, 200)
    );
    let own = format!("http://127.0.0.1:{}", console.port);
    assert_eq!(
        post(&[
            ("X-Circ-Csrf", &csrf),
            ("Origin", &own),
            ("Sec-Fetch-Site", "same-origin")
        ]),
        200
    );
    assert_eq!(
        post(&[("X-Circ-Csrf", &csrf), ("Origin", "http://evil.example")]),
        403
    );
    assert_eq!(post(&[("X-Circ-Csrf", &csrf), ("Origin", "null")]), 403);
    assert_eq!(
        get(&[("Cookie", cookie), ("Sec-Fetch-Site", "cross-site")]),
        403
    );
    let forged = format!("{}0", &cookie[..cookie.len() - 1]);
    let forged = if forged == cookie {
        format!("{}1", &cookie[..cookie.len() - 1])
    } else {
        forged
    };
    assert_eq!(get(&[("Cookie", &forged)]), 401);
    let out = console.ask("POST", "/api/v1/logout", &[("Cookie", cookie)], "");
    assert!(
        out.header("set-cookie")
            .is_some_and(|set| set.contains("Max-Age=0"))
    );

    // names that are not ours
    let token = ("Authorization", "Bearer all-of-it-all-of-it");
    assert_eq!(get(&[token, ("Host", "evil.example")]), 403);
    assert_eq!(get(&[token, ("Host", "box.example:443")]), 200);
    assert_eq!(
        console
            .ask("GET", "/", &[("Host", "evil.example")], "")
            .status,
        403
    );

    // guesses
    let waits = wait_for("guesses to be slowed down", || {
        let answer = login("wrong");
        (answer.status == 429).then_some(answer)
    });
    assert!(
        waits
            .header("retry-after")
            .is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait >= 1))
    );
    login("open sesame").problem(429);
    assert_eq!(get(&[("Cookie", cookie)]), 200);

    // a console that is started anew knows its sessions, one with another password does not
    let port = console.port;
    drop(console);
    let other = secret(&site, "other", "another\n");
    for (file, status) in [(&password, 200), (&other, 401)] {
        let again = Console::start(
            &site,
            &["--endpoint", daemon.endpoint(), "--password-file", file],
        );
        let name = format!("circ_session_{port}=");
        let cookie = cookie.replace(&name, &format!("circ_session_{}=", again.port));
        assert_eq!(
            again.ask("GET", daemons, &[("Cookie", &cookie)], "").status,
            status,
            "{file}"
        );
    }
}

#[test]
fn a_console_that_only_shows_changes_nothing() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\n[env:web]\nTOKEN = hidden\n");
    let daemon = site.start(Program::Circ);
    let (console, base) = console(&site, &daemon, &["--read-only"]);
    assert_eq!(console.get("/api/v1/session").ok()["read_only"], true);
    let command =
        |name: &str, body: Value| console.send("POST", &format!("{base}/commands/{name}"), &body);
    for name in [
        "incr",
        "decr",
        "stop",
        "restart",
        "quit",
        "reloadconfig",
        "set",
        "kill",
        "signal",
        "add",
        "rm",
    ] {
        command(name, json!({})).problem(403);
    }
    let options = command("options", json!({"name": "web"})).ok();
    assert!(!options.to_string().contains("hidden"), "{options}");
    console
        .send("PUT", &format!("{base}/watchers/web/options"), &json!({}))
        .problem(403);
    let change = json!({"options": {"numprocesses": 3}});
    assert_eq!(
        console
            .send("POST", &format!("{base}/watchers/web/preview"), &change)
            .ok()["changed"],
        true
    );
    assert_eq!(daemon.pids("web").len(), 1);
}

#[test]
fn a_console_that_is_not_safe_does_not_start() {
    let site = TempSite::new();
    let port = site.port().to_string();
    let open = site.write("open", "long enough for a token");
    fs::set_permissions(&open, PermissionsExt::from_mode(0o644)).expect("a mode");
    let open = open.display().to_string();
    let short = secret(&site, "short", "short");
    let empty = secret(&site, "empty", "\n");
    for (arguments, code, want) in [
        (vec!["--host", "0.0.0.0"], 64, "--password-file"),
        (
            vec!["--host", "0.0.0.0", "--token-file", &open],
            1,
            "chmod 600",
        ),
        (vec!["--token-file", &short], 1, "fewer than 16"),
        (vec!["--password-file", &empty], 1, "the password is empty"),
        (
            vec!["--password-file", "/no/such"],
            1,
            "cannot read /no/such",
        ),
        (vec!["--endpoint", "http://x"], 64, "neither tcp nor ipc"),
        (vec!["--config", "/no/such.ini"], 64, "/no/such.ini"),
        (
            vec!["--host", "no.such.host.invalid"],
            1,
            "cannot listen on",
        ),
    ] {
        let arguments = [&["web", "--port", &port], &arguments[..]].concat();
        let output = circ(&site, &arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(want), "{arguments:?}: {told}");
    }
    let output = circ(&site, &["web", "--fd", "99"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--fd 99: there is no socket"));
}

#[test]
fn several_daemons_in_one_console_be_they_circ_s_or_circus_s() {
    let (site, other) = (TempSite::new(), TempSite::new());
    let body = "[watcher:Web]\ncmd = sleep 1000\nnumprocesses = 2\n";
    site.ini(body);
    other.ini(body);
    let ours = site.start(Program::Circ);
    let theirs = other.start(Program::Circusd);
    ours.wait_pids("web", 2);
    theirs.wait_pids("web", 2);
    let console = Console::start(
        &site,
        &[
            "--endpoint",
            ours.endpoint(),
            "--endpoint",
            theirs.endpoint(),
        ],
    );
    let told = console.get("/api/v1/daemons").ok();
    let programs: Vec<&Value> = told["daemons"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|daemon| &daemon["program"])
        .collect();
    assert_eq!(programs, ["circ", "circusd"]);
    let id = |at: usize| {
        told["daemons"][at]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let path = |at: usize| format!("/api/v1/daemons/{}", id(at));
    for at in [0, 1] {
        let told = console.get(&format!("{}/watchers", path(at))).ok();
        let web = watcher(&told, "Web");
        assert_eq!(
            (&web["status"], &web["wanted"], &web["running"]),
            (&json!("active"), &json!(2), &json!(2)),
            "{told}"
        );
        assert!(web["rss"].as_u64() > Some(10_000), "{told}");
    }
    assert_eq!(
        watcher(&console.get(&format!("{}/watchers", path(1))).ok(), "Web")["restarts"],
        Value::Null
    );
    let mut events = console.stream(&format!("{}/events", path(1)));
    assert_eq!(events.next("state")["state"], "up");
    console
        .send(
            "POST",
            &format!("{}/commands/incr", path(1)),
            &json!({"name": "Web"}),
        )
        .ok();
    assert_eq!(
        events.find("event", |event| event["action"] == "spawn")["watcher"],
        "web"
    );
    let metrics = console.get("/metrics").body;
    for at in [0, 1] {
        let line = format!(
            "circ_watcher_processes_wanted{{daemon=\"{}\",watcher=\"Web\"}}",
            id(at)
        );
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[test]
fn a_console_ends_when_it_is_told_and_its_streams_with_it() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    let (mut console, base) = console(&site, &daemon, &[]);
    let mut events = console.stream(&format!("{base}/events"));
    events.next("state");
    console.signal(Signal::SIGTERM);
    assert!(console.wait_exit().success());
    while events.event().is_some() {}
}
