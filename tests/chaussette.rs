//! The program `chaussette` beside the real one, and what belongs to it: hooks, back ends, sockets of a service manager,
//! the application started anew when it changes.

#[path = "wsgi/client.rs"]
mod client;
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use client::Connection;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use support::{Running, TempSite, children, deadline, is_alive, venv, wait_for, wait_for_within};

const APP: &str = "\
import os

def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'version 1']

def before(args):
    open(os.environ['MARK'], 'a').write('before %s %s\\n' % (args.backend, args.application))

def after(args):
    open(os.environ['MARK'], 'a').write('after %s\\n' % args.port)
";

/// A server on a site, with a log of its own.
fn start(site: &TempSite, mut command: Command) -> Running {
    let number = fs::read_dir(site.dir()).unwrap().count();
    command
        .current_dir(site.dir())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONWARNINGS", "ignore")
        .env("MARK", site.path("mark"))
        .stdout(Stdio::null());
    Running::start(command, site.path(&format!("log-{number}")))
}

fn site() -> TempSite {
    let site = TempSite::new();
    site.write("app.py", APP);
    symlink(env!("CARGO_BIN_EXE_circ"), site.path("chaussette")).unwrap();
    site
}

/// circ under the name of Chaussette.
fn named(site: &TempSite) -> Command {
    Command::new(site.path("chaussette"))
}

fn get(port: u16) -> Option<String> {
    TcpStream::connect(("127.0.0.1", port)).ok()?;
    Some(Connection::open(port).ask("GET", "/", "", b"").text())
}

/// Lines of a log without what differs from run to run.
fn plain(log: &str) -> Vec<String> {
    let hex = regex::Regex::new("0x[0-9a-f]+").unwrap();
    let line = regex::Regex::new(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[\d+\] ").unwrap();
    let starts = log.lines().filter(|text| line.is_match(text));
    starts
        .map(|text| {
            hex.replace_all(&line.replace(text, "TIME [PID] "), "0x")
                .into_owned()
        })
        .collect()
}

#[test]
fn the_start_up_lines_are_those_of_chaussette() {
    for with_fd in [false, true] {
        let mut told = Vec::new();
        for ours in [false, true] {
            let site = site();
            let port = site.port();
            let program = if ours {
                site.path("chaussette")
            } else {
                venv().program("chaussette")
            };
            let mut command = Command::new("sh");
            let listener = with_fd.then(|| TcpListener::bind("127.0.0.1:0").unwrap());
            // the descriptor is standard input, from where it gets its number
            let script = if with_fd {
                "exec \"$0\" --fd 7 app.app 7<&0 0</dev/null"
            } else {
                "exec \"$0\" --host 127.0.0.1 --port \"$1\" app.app"
            };
            command
                .args(["-c", script])
                .arg(program)
                .arg("8080".replace("8080", &port.to_string()));
            match listener {
                Some(listener) => command.stdin(OwnedFd::from(listener)),
                None => command.stdin(Stdio::null()),
            };
            let server = start(&site, command);
            server.wait_log("as a backend");
            let lines = plain(&server.log()).into_iter();
            let lines: Vec<String> = lines
                .map(|line| line.replace(&port.to_string(), "PORT"))
                .collect();
            assert!(lines.len() >= 3, "{}", server.log());
            told.push(lines);
        }
        assert_eq!(told[0][..2], told[1][..2]);
        let start = "TIME [PID] [INFO] Using ";
        assert!(
            told.iter().all(|lines| lines[2].starts_with(start)),
            "{told:?}"
        );
    }
}

#[test]
fn without_an_application_it_says_hello() {
    let mut answers = Vec::new();
    for ours in [false, true] {
        let site = site();
        let port = site.port();
        let program = if ours {
            site.path("chaussette")
        } else {
            venv().program("chaussette")
        };
        let mut command = Command::new(program);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        let server = start(&site, command);
        let answer = server.wait_for("an answer", || {
            TcpStream::connect(("127.0.0.1", port)).ok()?;
            let mut connection = Connection::open(port);
            connection.send("GET / HTTP/1.0\r\nHost: x\r\n\r\n");
            connection.answer("GET")
        });
        let kind = answer.header("content-type").map(String::from);
        answers.push((answer.status, kind, answer.text()));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[1].2, "hello world");
}

#[test]
fn a_unix_socket_is_served_and_removed() {
    let site = site();
    let path = site.path("web.sock");
    let mut command = named(&site);
    command.args(["--host", &format!("unix:{}", path.display()), "app:app"]);
    let mut server = start(&site, command);
    let mut stream = server.wait_for("the socket", || UnixStream::connect(&path).ok());
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("version 1"), "{answer}");
    server.wait_log("Serving on unix:");
    assert!(server.end().success());
    assert!(!path.exists());
}

/// sd_listen_fds(3): the first descriptor is 3, and the variables are for one process alone.
#[test]
fn a_socket_of_a_service_manager_is_served() {
    let site = site();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let notices = UnixDatagram::bind(site.path("notify")).unwrap();
    notices.set_read_timeout(Some(deadline())).unwrap();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" app.app 3<&0 0</dev/null",
        ])
        .arg(site.path("chaussette"))
        .env("NOTIFY_SOCKET", site.path("notify"))
        .stdin(OwnedFd::from(listener));
    let mut server = start(&site, command);
    let mut text = [0; 100];
    let count = notices.recv(&mut text).expect("a notice");
    assert_eq!(&text[..count], b"READY=1");
    server.wait_log("Serving on fd://3");
    assert_eq!(get(port).as_deref(), Some("version 1"));
    assert!(server.end().success());
}

#[test]
fn hooks_run_before_and_after_in_the_applications_process() {
    for program in ["circ", "chaussette"] {
        let site = site();
        let port = site.port();
        let mut command = match program {
            "circ" => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
                command.arg("chaussette");
                command
            }
            _ => named(&site),
        };
        command.args(["--port", &port.to_string(), "--host", "127.0.0.1"]);
        command.args(["--pre-hook", "app.before", "--post-hook", "app.after"]);
        command.args(["--backend", "bjoern", "app.app"]);
        let mut server = start(&site, command);
        server.wait_for("an answer", || get(port));
        let mark = || fs::read_to_string(site.path("mark")).unwrap_or_default();
        assert_eq!(mark(), "before bjoern app.app\n");
        assert!(server.end().success(), "{}", server.log());
        assert_eq!(mark(), format!("before bjoern app.app\nafter {port}\n"));
        let log = server.log();
        assert!(
            log.contains("Running the pre-hook <function before at 0x"),
            "{log}"
        );
        assert!(
            log.contains("Running the post-hook <function after at 0x"),
            "{log}"
        );
    }
}

#[test]
fn every_back_end_of_chaussette_has_a_meaning() {
    let site = site();
    let names = [
        "bjoern",
        "eventlet",
        "fastgevent",
        "gevent",
        "geventwebsocket",
        "geventws4py",
        "meinheld",
        "socketio",
        "tornado",
        "waitress",
        "wsgiref",
    ];
    let servers = names.map(|name| {
        let port = site.port();
        let mut command = named(&site);
        // the libraries are not here; what they do is tested where they are
        command.args([
            "--backend",
            name,
            "--no-monkey",
            "--port",
            &port.to_string(),
        ]);
        command.args(["--host", "127.0.0.1", "app.app"]);
        (name, port, start(&site, command))
    });
    for (name, port, server) in servers {
        let answer = server.wait_for("an answer", || get(port));
        assert_eq!(answer, "version 1", "{name}");
        let said = format!("as a backend; \"{name}\" means 1 process of Python");
        server.wait_log(&said);
        assert_eq!(server.log().matches(&said).count(), 1, "{}", server.log());
    }
}

/// What is wrong is said, and the exit code tells a supervisor what kind of failure it is.
#[test]
fn failures_have_words_and_exit_codes() {
    let site = site();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = busy.local_addr().unwrap().port().to_string();
    let port = site.port().to_string();
    site.write("broken.py", "def app(:\n");
    for (words, code, said) in [
        (
            &["--port", &busy, "--host", "127.0.0.1", "app.app"] as &[&str],
            1,
            "cannot listen on",
        ),
        (
            &["--fd", "77", "app.app"],
            1,
            "descriptor 77 is not open here",
        ),
        (&["--fd", "1", "app.app"], 1, "descriptor 1 is no socket"),
        (
            &["--port", &port, "nowhere.app"],
            4,
            "No module named 'nowhere'",
        ),
        (&["--port", &port, "app.nothing"], 4, "nothing"),
        (&["--port", &port, "broken.app"], 4, "SyntaxError"),
        (
            &["--port", &port, "--backend", "gevent", "app.app"],
            4,
            "gevent is not installed for",
        ),
        (
            &["--port", &port, "--backend", "eventlet", "app.app"],
            4,
            "--no-monkey",
        ),
        (
            &["--port", &port, "--pre-hook", "app.none", "app.app"],
            4,
            "none",
        ),
        (&["--port", &port, "paste:none.ini"], 4, "PasteDeploy"),
        (&["--socket-type", "SOCK_DGRAM", "app.app"], 1, "SOCK_DGRAM"),
        (&["--port", "99999999", "app.app"], 2, "99999999"),
    ] {
        let mut command = named(&site);
        command
            .args(words)
            .env("VIRTUAL_ENV", venv().bin().parent().unwrap());
        let mut server = start(&site, command);
        let status = server.wait_exit();
        assert_eq!(status.code(), Some(code), "{words:?}\n{}", server.log());
        assert!(server.log().contains(said), "{words:?}\n{}", server.log());
    }
}

/// An old line can be made a better one: what circ has beyond Chaussette is taken under the old name.
#[test]
fn options_of_circ_are_taken_under_the_old_name() {
    let site = site();
    let port = site.port();
    let mut command = named(&site);
    command.args([
        "--port",
        &port.to_string(),
        "--host=127.0.0.1",
        "--workers",
        "2",
        "--threads=3",
        "app.app",
    ]);
    let server = start(&site, command);
    server.wait_for("an answer", || get(port));
    let said = "2 processes of Python, 3 threads in each";
    server.wait_log(said);
}

/// ctrl-C in a terminal reaches all processes: those of Python leave it to the front.
#[test]
fn a_signal_to_all_processes_ends_it_in_order() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let site = site();
        let port = site.port();
        let mut command = named(&site);
        command.args([
            "--port",
            &port.to_string(),
            "--host",
            "127.0.0.1",
            "app.app",
        ]);
        command.process_group(0);
        let mut server = start(&site, command);
        server.wait_for("an answer", || get(port));
        let python = children(server.pid());
        assert_eq!(python.len(), 1);
        killpg(Pid::from_raw(server.pid()), signal).unwrap();
        assert_eq!(server.wait_exit().code(), Some(0), "{}", server.log());
        let log = server.log();
        assert!(
            !log.contains("ERROR") && !log.contains("Traceback"),
            "{log}"
        );
        wait_for("Python to end", || (!is_alive(python[0].pid)).then_some(()));
    }
}

const FORKS: &str = "\
import multiprocessing, time

def work(pipe):
    pipe.send('begun')
    time.sleep(600)

def app(environ, start_response):
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context('fork').Process(target=work, args=(there,))
    child.start()
    here.recv()
    child.terminate()
    child.join()
    start_response('200 OK', [])
    return [b'%d' % child.exitcode]
";

/// What an application forks is ended by the usual signal, though its own process leaves signals to the front.
#[test]
fn what_an_application_forks_can_be_ended() {
    let site = site();
    let port = site.port();
    site.write("forks.py", FORKS);
    let mut command = named(&site);
    command.args([
        "--port",
        &port.to_string(),
        "--host",
        "127.0.0.1",
        "forks.app",
    ]);
    let mut server = start(&site, command);
    let answer = server.wait_for("an answer", || get(port));
    assert_eq!(answer, "-15");
    assert!(server.end().success());
}

/// Writes a file in one step, as editors do.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

#[test]
fn a_changed_module_starts_the_application_anew() {
    let site = site();
    let port = site.port();
    // what the application imports counts as well, also when that is late
    let app = "\
def app(environ, start_response):
    import part
    start_response('200 OK', [])
    return [part.TEXT]
";
    let part = |text: &str| format!("TEXT = b'{text}'\n");
    let (app_file, part_file) = (
        site.write("live.py", app),
        site.write("part.py", part("one")),
    );
    let mut command = named(&site);
    command.args([
        "--use-reloader",
        "--port",
        &port.to_string(),
        "--host",
        "127.0.0.1",
        "live.app",
    ]);
    let mut server = start(&site, command);
    let wait_answer = |text: &str| {
        server.wait_for(text, || get(port).filter(|answer| answer == text));
    };
    wait_answer("one");
    // It is known from the second look on: until then a change may be missed, as with any reloader.
    let mut texts = (0..).map(|count| format!("two {count}"));
    server.wait_for("the change to be seen", || {
        replace(&part_file, &part(&texts.next()?));
        let seen = || server.log().contains("part.py has changed").then_some(());
        wait_for_within(std::time::Duration::from_secs(1), seen)
    });
    let now = fs::read_to_string(&part_file).unwrap();
    wait_answer(now.split('\'').nth(1).unwrap());
    // A mistake is said, and the next change heals it; meanwhile the application before it goes on.
    replace(&app_file, "def app(:\n");
    server.wait_log("SyntaxError");
    server.wait_log("waiting for a change of its files; the one before goes on serving");
    assert!(get(port).unwrap().starts_with("two"));
    replace(
        &app_file,
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'healed']\n",
    );
    wait_answer("healed");
    server.wait_log("live.py has changed");
    // a module that is not there may come
    replace(
        &app_file,
        "import coming\n\ndef app(environ, start_response):\n    start_response('200 OK', [])\n    return [coming.TEXT]\n",
    );
    server.wait_log("No module named 'coming'");
    replace(&site.path("coming.py"), "TEXT = b'come'\n");
    wait_answer("come");
    server.wait_for("those from before to go", || {
        (children(server.pid()).len() == 1).then_some(())
    });
    assert!(server.end().success());
}

#[test]
fn an_application_that_never_came_up_is_waited_for() {
    let site = site();
    let port = site.port();
    let file = site.write("late.py", "raise RuntimeError('not yet')\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    command.args([
        "chaussette",
        "--reload",
        "--port",
        &port.to_string(),
        "--host",
        "127.0.0.1",
        "late:app",
    ]);
    let mut server = start(&site, command);
    server.wait_log("waiting for a change of its files");
    server.wait_log("RuntimeError: not yet");
    replace(&file, APP);
    server.wait_for("the application", || {
        get(port).filter(|answer| answer == "version 1")
    });
    assert!(server.end().success());
}
