//! The console's page in a real Chromium: what a person does with it, and what a foreign page cannot do.
//!
//! `CIRC_PICTURES=1` writes the pictures that the README shows anew (docs/images/).

#[path = "web_page/browser.rs"]
mod browser;
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use browser::Browser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use support::{Daemon, Program, TempSite, wait_for};

const INI: &str = r#"
[watcher:web]
cmd = sleep 1000
numprocesses = 1

[watcher:busy]
cmd = sh -c 'i=0; while :; do i=$((i+1)); [ $((i % 20000)) -ne 0 ] || sleep 0.05; done'
numprocesses = 2

[watcher:chatty]
cmd = sh -c 'i=0; while :; do i=$((i+1)); echo "line $i of the log"; sleep 0.2; done'
stdout_stream.class = FileStream
stdout_stream.filename = @SITE@/chatty.log

[watcher:crash]
cmd = sh -c 'echo "no such table: users" >&2; sleep 0.05; exit 3'
max_retry = -1

[socket:http]
host = 127.0.0.1
port = 0
"#;

/// A console that runs beside a daemon. It ends with this value.
struct Console {
    child: Child,
    url: String,
}

impl Console {
    /// On a free port of the site; `with` is more of its command line.
    fn start(site: &TempSite, with: &[&str]) -> Console {
        let port = site.port();
        let child = Command::new(env!("CARGO_BIN_EXE_circ"))
            .args(["web", "--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["--endpoint", &site.endpoint])
            .args(with)
            .current_dir("/")
            .env_remove("CIRCUSCTL_ENDPOINT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(site.path("web.log")).unwrap())
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{port}");
        let agent = ureq::Agent::new_with_defaults();
        wait_for("the console answers", || {
            agent.get(format!("{url}/healthz")).call().ok()
        });
        Console { child, url }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn site() -> TempSite {
    let site = TempSite::ipc();
    site.ini(&INI.replace("@SITE@", site.dir().to_str().unwrap()));
    site
}

fn password(site: &TempSite, text: &str) -> String {
    let path = site.write("password", format!("{text}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_string()
}

fn row(name: &str) -> String {
    format!("[data-watcher={name}]")
}

/// The text of a cell of a watcher's row.
fn cell(name: &str, label: &str) -> String {
    format!("document.querySelector(`[data-watcher={name}] [data-label={label}]`)?.textContent")
}

/// For a picture a chart should have something to show.
fn grown(browser: &Browser, line: &str) {
    if std::env::var_os("CIRC_PICTURES").is_some() {
        browser.until(
            "there is something to see",
            &format!("document.querySelector('{line}').getAttribute('d').split('L').length > 30"),
        );
    }
}

fn picture(browser: &Browser, name: &str) {
    let png = browser.picture();
    assert!(png.starts_with(b"\x89PNG"), "{} bytes", png.len());
    if std::env::var_os("CIRC_PICTURES").is_some() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(name), png).unwrap();
    }
}

/// Nothing in the page is broken, and it asks for nothing that its policy forbids.
#[track_caller]
fn content(browser: &Browser, but: &[&str]) {
    let all = browser.complaints();
    let left: Vec<_> = all
        .iter()
        .filter(|line| !but.iter().any(|words| line.contains(words)))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// With the right password, once a guess may be made.
#[track_caller]
fn log_in(browser: &Browser) {
    browser.fill("#password", "correct horse");
    browser.until(
        "the next guess may be made",
        "!document.querySelector('form button.main').disabled",
    );
    browser.click("form button.main");
    browser.until("the watchers are there", &cell("web", "Processes"));
}

#[test]
fn a_person_logs_in_scales_up_and_watches() {
    let Some(browser) = Browser::start(1280, 900) else {
        return;
    };
    let site = site();
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let file = password(&site, "correct horse");
    let console = Console::start(&site, &["--password-file", &file]);

    browser.open(&console.url);
    browser.fill("#password", "wrong horse");
    browser.click("form button.main");
    browser.until(
        "a wrong password is told",
        "document.body.innerText.includes('That is not the password')",
    );
    log_in(&browser);
    let url = browser.run("return location.href");
    assert!(!url.as_str().unwrap().contains("horse"), "{url}");

    // one more process, in the page and in the daemon
    browser.until(
        "one of one",
        &format!("{} === '1 / 1'", cell("web", "Processes")),
    );
    browser.click(&format!("{} [title='One process more of']", row("web")));
    browser.until(
        "two of two",
        &format!("{} === '2 / 2'", cell("web", "Processes")),
    );
    let pids = daemon.wait_pids("web", 2);
    // what fails says why
    browser.until(
        "the crash is explained",
        "document.querySelector('[data-watcher=crash] small').textContent.includes('code 3')",
    );
    // the charts move
    let chart = "document.querySelector('[data-watcher=busy] .chart-line').getAttribute('d')";
    let before = browser.until(
        "a chart has two points",
        &format!("{chart}?.includes('L') && {chart}"),
    );
    browser.until("the chart goes on", &format!("{chart} !== {before}"));
    browser.until(
        "events are told",
        "document.querySelectorAll('.feed li').length > 0",
    );
    browser.until(
        "one can leave",
        "document.body.innerText.includes('Log out')",
    );
    if std::env::var_os("CIRC_PICTURES").is_some() {
        browser.until(
            "there is something to see",
            &format!("{chart}.split('L').length > 40"),
        );
    }
    picture(&browser, "console.png");

    // only what is in trouble; and who comes back from a watcher finds it so
    let shown =
        "[...document.querySelectorAll('[data-watcher]')].map((row) => row.dataset.watcher).join()";
    browser.click(".figure .link");
    browser.until("the crash alone", &format!("{shown} === 'crash'"));
    browser.click(&format!("{} a", row("crash")));
    browser.until(
        "its own page",
        "document.querySelector('h1 + .state') && document.activeElement.id === 'main'",
    );
    browser.click("[aria-label='Back to all watchers']");
    browser.until("the crash alone again", &format!("{shown} === 'crash'"));
    browser.click(".figure .link");
    browser.until(
        "all of them",
        &format!("{shown} === 'busy,chatty,crash,web'"),
    );

    browser.click(&format!("{} a", row("web")));
    for pid in pids {
        browser.until(
            "the process is listed",
            &format!("document.querySelector('[data-pid=\"{pid}\"]')"),
        );
    }
    content(&browser, &["401"]);
}

#[test]
fn a_log_is_followed_and_options_change_after_a_look_at_the_difference() {
    let Some(browser) = Browser::start(1280, 900) else {
        return;
    };
    let site = site();
    let daemon = site.start(Program::Circ);
    let console = Console::start(&site, &[]);

    browser.open(&console.url);
    browser.click(&format!("{} a", row("chatty")));
    browser.click("#tab-log");
    let lines = "document.querySelector('.log')?.textContent.match(/line \\d+ of the log/g)";
    let first = browser.until("the log is shown", &format!("{lines}?.at(-1)"));
    browser.until("new lines come", &format!("{lines}?.at(-1) !== {first}"));
    grown(&browser, ".charts .chart-line");
    picture(&browser, "console-log.png");

    browser.click("#tab-options");
    browser.click("[aria-label='Change graceful_timeout']");
    browser.fill("dialog [aria-label=Value]", "7");
    browser.click("dialog button.main");
    browser.until(
        "the difference is shown",
        "document.querySelector('dialog .diff')?.textContent.includes('graceful_timeout') && document.querySelector('dialog button.main').textContent === 'Apply'",
    );
    picture(&browser, "console-options.png");
    let ini = || fs::read_to_string(site.path("circus.ini")).unwrap();
    let timeout = |daemon: &Daemon| {
        daemon.ok(
            "get",
            json!({"name": "chatty", "keys": ["graceful_timeout"]}),
        )["options"]["graceful_timeout"]
            .as_f64()
    };
    assert!(
        !ini().contains("graceful_timeout"),
        "looking changes nothing"
    );
    assert_eq!(timeout(&daemon), Some(30.0));
    browser.click("dialog button.main");
    browser.until("it is applied", "!document.querySelector('dialog')");
    assert_eq!(timeout(&daemon), Some(7.0));
    assert!(ini().contains("graceful_timeout = 7"), "{}", ini());
    content(&browser, &[]);
}

#[test]
fn a_daemon_that_goes_away_is_told_and_comes_back() {
    let Some(browser) = Browser::start(1280, 900) else {
        return;
    };
    // a daemon's end ends what bears the name of its directory
    let site = TempSite::new();
    site.ini(&INI.replace("@SITE@", site.dir().to_str().unwrap()));
    let daemon = site.start(Program::Circ);
    let console = Console::start(&site, &[]);
    browser.open(&console.url);
    browser.until("the watchers are there", &cell("web", "Processes"));
    assert!(daemon.stop().success());
    browser.until("it is told", "!document.querySelector('[role=alert].notice').hidden && document.querySelector('main.stale')");
    let _daemon = site.start(Program::Circ);
    browser.until("it is back", "!document.querySelector('main.stale')");
    browser.until(
        "and watched",
        &format!("{} === '1 / 1'", cell("web", "Processes")),
    );
}

#[test]
fn many_processes_are_a_few_rows_and_a_phone_needs_no_sideways_scrolling() {
    let Some(browser) = Browser::start(360, 780) else {
        return;
    };
    let site = TempSite::ipc();
    site.ini("[watcher:many]\ncmd = sleep 1000\nnumprocesses = 300\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("many", 300);
    let console = Console::start(&site, &[]);
    browser.open(&console.url);
    let fits = "document.documentElement.scrollWidth <= innerWidth";
    browser.until(
        "all run",
        &format!("{} === '300 / 300'", cell("many", "Processes")),
    );
    assert_eq!(browser.run(&format!("return {fits}")), json!(true));
    grown(&browser, ".live .chart-line");
    picture(&browser, "console-phone.png");
    browser.click(&format!("{} a", row("many")));
    browser.until(
        "some are shown",
        "document.querySelectorAll('.process').length > 5",
    );
    assert_eq!(browser.run(&format!("return {fits}")), json!(true));
    let first = browser.run("return document.querySelector('.process').dataset.pid");
    let shown = browser.run("return document.querySelectorAll('.process').length");
    assert!(shown.as_u64() < Some(60), "{shown}");
    browser.run("document.querySelector('.long').scrollTop = 1e6");
    browser.until(
        "others are shown at the end",
        &format!("document.querySelector('.process').dataset.pid !== {first}"),
    );
    content(&browser, &[]);
}

#[test]
fn a_foreign_page_can_do_nothing() {
    let Some(browser) = Browser::start(900, 700) else {
        return;
    };
    let site = site();
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let file = password(&site, "correct horse");
    let console = Console::start(&site, &["--password-file", &file]);
    browser.open(&console.url);
    log_in(&browser);
    let daemon_id = browser.run_async(
        "const r = await fetch('/api/v1/daemons'); return (await r.json()).daemons[0].id",
    );
    let incr = format!(
        "{}/api/v1/daemons/{}/commands/incr",
        console.url,
        daemon_id.as_str().unwrap()
    );

    // with the cookie of the session, but from another place
    let (foreign, _page) = foreign_page();
    browser.open(&foreign);
    for (headers, mode) in [
        ("{'Content-Type': 'application/json'}", "cors"),
        ("{'Content-Type': 'text/plain'}", "no-cors"),
    ] {
        let told = browser.run_async(&format!(
            "const r = await fetch('{incr}', {{method: 'POST', mode: '{mode}', credentials: 'include', headers: {headers}, body: '{{\"name\": \"web\"}}'}}); return [r.type, r.ok]"
        ));
        assert_ne!(told, json!(["cors", true]), "{mode}: {told}");
        assert_ne!(told, json!(["basic", true]), "{mode}: {told}");
    }
    browser.run(&format!(
        "const f = document.createElement('form'); f.method = 'post'; f.action = '{incr}'; f.enctype = 'text/plain'; f.target = 'there'; f.innerHTML = `<input name='{{\"name\": \"web\", \"x' value='\": 1}}'><iframe name=there></iframe>`; document.body.append(f); f.submit()"
    ));
    browser.run(&format!("const i = document.createElement('iframe'); i.id = 'framed'; i.src = '{}/'; document.body.append(i)", console.url));
    browser.until("the frame was tried", "(() => { try { return document.getElementById('framed').contentDocument === null } catch { return true } })()");

    // the same page may, and does: so a refusal is not an accident
    browser.open(&console.url);
    browser.until("still logged in", &cell("web", "Processes"));
    assert_eq!(daemon.pids("web").len(), 1);
    browser.click(&format!("{} [title='One process more of']", row("web")));
    daemon.wait_pids("web", 2);
}

/// A page of another origin: its address, and what serves it.
fn foreign_page() -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // another name of this machine is another site for the browser
    let url = format!(
        "http://localhost:{}/",
        listener.local_addr().unwrap().port()
    );
    let thread = std::thread::spawn(move || {
        // it ends with the test program
        for mut connection in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = connection.read(&mut request);
            let page = "<!doctype html><title>foreign</title><body>hello";
            let _ = write!(
                connection,
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
                page.len()
            );
        }
    });
    (url, thread)
}

/// What waits at a socket, and what the web servers of a watcher have answered.
#[test]
fn sockets_and_web_servers_have_their_numbers() {
    let Some(browser) = Browser::start(1280, 900) else {
        return;
    };
    let site = TempSite::ipc();
    site.write("applications.py", include_str!("wsgi/applications.py"));
    site.ini(&format!(
        "[socket:web]\nhost = 127.0.0.1\nport = 0\n[socket:held]\npath = {dir}/held\nbacklog = 8\n\
         [watcher:web]\ncmd = {} chaussette --fd $(circus.sockets.web) applications:hello\nuse_sockets = True\n\
         copy_env = True\nworking_dir = {dir}\n[watcher:plain]\ncmd = sleep 1000\n",
        env!("CARGO_BIN_EXE_circ"),
        dir = site.dir().display(),
    ));
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let console = Console::start(&site, &[]);
    browser.open(&console.url);
    browser.until("the watchers are there", &cell("web", "Processes"));
    // nobody takes it: there is something to read all the time
    let held = UnixStream::connect(site.path("held")).unwrap();
    let of_held = |label: &str| {
        format!(
            "[...document.querySelectorAll('[aria-label=Sockets] tbody tr')].find((row) => \
             row.textContent.includes('held')).querySelector('[data-label=\"{label}\"]').textContent"
        )
    };
    browser.until("it waits", &format!("{} === '1 of 8'", of_held("Waiting")));
    let busy = format!("Number({}) > 10", of_held("Reads a second"));
    browser.until("its reads", &busy);
    let more = [(); 8].map(|()| UnixStream::connect(site.path("held")).unwrap());
    let full = format!("{} === '9 of 8, full'", of_held("Waiting"));
    browser.until("it is full", &full);
    drop((held, more));

    let sockets = daemon.ok("listsockets", json!({}));
    let sockets = sockets["sockets"].as_array().unwrap();
    let port = sockets
        .iter()
        .find_map(|socket| socket["port"].as_u64())
        .unwrap();
    let agent = ureq::Agent::new_with_defaults();
    for _ in 0..3 {
        let url = format!("http://127.0.0.1:{port}/");
        agent.get(url).call().unwrap();
    }
    browser.click(&format!("{} a", row("web")));
    browser.until(
        "the requests are told",
        "document.body.innerText.includes('3 requests answered; ')",
    );
    browser.until(
        "and the connections",
        "document.body.innerText.includes(' a second; 0 in flight, ')",
    );
    content(&browser, &[]);
}
