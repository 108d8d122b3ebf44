//! `on_demand`: workers start at the first connection to a socket of theirs, and that connection is answered.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{Daemon, Program, TempSite, venv};

const BOTH: [Program; 2] = [Program::Circ, Program::Circusd];

/// A site with the small server; `@SERVE@` (a command line) and `@SITE@` in the body are filled in. circusd looks for
/// connections every tenth of a second.
fn site(body: &str) -> TempSite {
    let site = TempSite::new();
    let script = site.write("serve.py", include_str!("daemon_sockets/serve.py"));
    let serve = format!("{} -IS {}", venv().python().display(), script.display());
    let body = body.replace("@SERVE@", &serve);
    let body = body.replace("@SITE@", &site.dir().to_string_lossy());
    site.ini(&format!("check_delay = 0.1\n{body}"));
    site
}

#[track_caller]
fn address(daemon: &Daemon, name: &str) -> SocketAddr {
    let reply = daemon.ok("listsockets", json!({}));
    let list = reply["sockets"].as_array().cloned().unwrap_or_default();
    let port = list.iter().find(|s| s["name"] == name).expect("a socket")["port"].clone();
    format!("127.0.0.1:{port}").parse().expect("an address")
}

/// One question and its answer, however long nobody is there.
fn ask(to: SocketAddr) -> String {
    answer_of(TcpStream::connect(to).expect("a connection"))
}

fn answer_of(mut stream: TcpStream) -> String {
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a time limit");
    stream.write_all(b"hello").expect("a question");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[track_caller]
fn status(daemon: &Daemon, name: &str) -> Value {
    daemon.call("status", json!({"name": name}))["status"].clone()
}

const TWO: &str = "
[socket:web]
host = 127.0.0.1
port = 0
[watcher:web]
cmd = @SERVE@ $(circus.sockets.web)
use_sockets = True
on_demand = True
numprocesses = 2
";

/// As circusd does it: stopped until somebody connects, then all workers; a start alone changes nothing.
#[test]
fn the_first_connection_starts_the_workers_and_is_answered() {
    for program in BOTH {
        let site = site(TWO);
        let daemon = site.start(program);
        assert_eq!(status(&daemon, "web"), "stopped", "{program:?}");
        let reply = daemon.ok("start", json!({"name": "web", "waiting": true}));
        let info = &reply["info"];
        assert_eq!(info["started"], json!([]), "{program:?}: {reply}");
        assert_eq!(info["kept"], json!([]), "{program:?}: {reply}");
        assert_eq!(daemon.pids("web"), [0; 0], "{program:?}");
        let answer = ask(address(&daemon, "web"));
        let pids = daemon.wait_pids("web", 2);
        assert!(pids.iter().any(|p| p.to_string() == answer), "{program:?}");
        daemon.wait_for("active", || {
            (status(&daemon, "web") == "active").then_some(())
        });
    }
}

/// A worker that has gone comes back at the next connection; the others answer meanwhile.
#[test]
fn a_worker_that_has_gone_comes_back_at_the_next_connection() {
    for program in BOTH {
        let site = site(&TWO.replace("numprocesses = 2\n", ""));
        let daemon = site.start(program);
        let to = address(&daemon, "web");
        let first = ask(to);
        let pid = first.parse().expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("our own worker");
        daemon.wait_for("stopped again", || {
            (status(&daemon, "web") == "stopped" && daemon.pids("web").is_empty()).then_some(())
        });
        let second = ask(to);
        assert_ne!(first, second, "{program:?}");
        assert_eq!(
            daemon.wait_pids("web", 1)[0].to_string(),
            second,
            "{program:?}"
        );
    }
}

/// What a person stops stays stopped, and the connections wait; circusd would start it again at the next one.
#[test]
fn a_stop_stands_until_a_start() {
    let site = site(TWO);
    let daemon = site.start(Program::Circ);
    let to = address(&daemon, "web");
    daemon.ok("stop", json!({"name": "web", "waiting": true}));
    assert_eq!(
        daemon.call("status", json!({"name": "web"}))["waiting"],
        Value::from(false)
    );
    let early = TcpStream::connect(to).expect("the daemon listens all the same");
    daemon.ok("numwatchers", json!({}));
    assert_eq!(daemon.pids("web"), [0; 0]);
    daemon.ok("start", json!({"name": "web", "waiting": true}));
    let pids = daemon.wait_pids("web", 2);
    let answer = answer_of(early);
    assert!(pids.iter().any(|p| p.to_string() == answer));
    daemon.ok("stop", json!({"name": "web", "waiting": true}));
    drop(TcpStream::connect(to).expect("the daemon listens all the same"));
    daemon.ok("numwatchers", json!({}));
    assert_eq!(daemon.pids("web"), [0; 0]);
}

/// Each watcher waits for its own sockets, of any kind; circusd starts all of them, whoever is connected to.
#[test]
fn each_watcher_waits_for_its_own_sockets() {
    let site = site(
        "
[socket:tcp]
host = 127.0.0.1
port = 0
[socket:udp]
host = 127.0.0.1
port = 0
type = SOCK_DGRAM
[socket:unix]
path = @SITE@/unix.sock
[socket:stdin]
path = @SITE@/stdin.sock
[watcher:tcp]
cmd = @SERVE@ $(circus.sockets.tcp)
use_sockets = True
on_demand = True
[watcher:both]
cmd = sleep 1000
args = $(circus.sockets.TCP) $(circus.sockets.udp)
shell = True
use_sockets = True
on_demand = True
[watcher:unix]
cmd = @SERVE@ $(circus.sockets.unix)
use_sockets = True
on_demand = True
[watcher:stdin]
cmd = @SERVE@ 0
stdin_socket = stdin
on_demand = True
[watcher:any]
cmd = sleep 1000
on_demand = True
[watcher:manual]
cmd = sleep 1000
on_demand = True
autostart = False
",
    );
    let daemon = site.start(Program::Circ);
    let running = || -> Vec<String> {
        let all = ["tcp", "both", "unix", "stdin", "any", "manual"];
        let runs = |name: &&str| !daemon.pids(name).is_empty();
        all.into_iter().filter(runs).map(str::to_owned).collect()
    };
    assert_eq!(running(), [""; 0]);
    let unix = |name: &str| {
        let mut stream = UnixStream::connect(site.path(name)).expect("a connection");
        let wait = Some(Duration::from_secs(60));
        stream.set_read_timeout(wait).expect("a time limit");
        stream.write_all(b"x").expect("a question");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let answer = unix("stdin.sock");
    assert_eq!(daemon.wait_pids("stdin", 1)[0].to_string(), answer);
    daemon.wait_pids("any", 1);
    assert_eq!(running(), ["stdin", "any"]);
    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket of our own");
    client.send_to(b"x", address(&daemon, "udp")).expect("sent");
    daemon.wait_pids("both", 1);
    assert_eq!(running(), ["both", "stdin", "any"]);
    unix("unix.sock");
    ask(address(&daemon, "tcp"));
    assert_eq!(running(), ["tcp", "both", "unix", "stdin", "any"]);
}

/// With so_reuseport the connection that starts a worker is in the queue of that worker's socket.
#[test]
fn so_reuseport_hands_the_first_connection_to_the_worker() {
    let site = TempSite::new();
    let port = site.port();
    let script = site.write("serve.py", include_str!("daemon_sockets/serve.py"));
    let python = venv().python().display().to_string();
    site.ini(&format!(
        "\n[socket:web]\nhost = 127.0.0.1\nport = {port}\nso_reuseport = True\n[watcher:web]\ncmd = {python} -IS {} $(circus.sockets.web)\nuse_sockets = True\non_demand = True\nnumprocesses = 2\n",
        script.display()
    ));
    let daemon = site.start(Program::Circ);
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(daemon.pids("web"), [0; 0]);
    let first = ask(to);
    let pids = daemon.wait_pids("web", 2);
    assert!(pids.iter().any(|p| p.to_string() == first));
    for _ in 0..20 {
        ask(to);
    }
    daemon.ok("stop", json!({"name": "web", "waiting": true}));
    assert!(TcpStream::connect(to).is_err(), "nobody listens");
    daemon.ok("start", json!({"name": "web", "waiting": true}));
    let waiting = daemon.wait_for("a listener", || TcpStream::connect(to).ok());
    daemon.wait_pids("web", 2);
    answer_of(waiting);
    daemon.ok("stop", json!({"name": "web", "waiting": true}));
    daemon.ok("start", json!({"name": "web", "waiting": true}));
    daemon.ok("stop", json!({"name": "web", "waiting": true}));
    assert!(TcpStream::connect(to).is_err(), "nobody listens");
}

/// A changed socket is the one that is waited at.
#[test]
fn a_changed_socket_is_waited_at() {
    let site = site(TWO);
    let daemon = site.start(Program::Circ);
    let old = address(&daemon, "web");
    let port = site.port();
    let text = std::fs::read_to_string(site.path("circus.ini")).expect("the file");
    let text = text.replace("port = 0", &format!("port = {port}"));
    std::fs::write(site.path("circus.ini"), text).expect("written");
    daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(daemon.pids("web"), [0; 0]);
    assert!(TcpStream::connect(old).is_err(), "the old port is closed");
    ask(SocketAddr::from(([127, 0, 0, 1], port)));
    daemon.wait_pids("web", 2);
}

/// A person sees that it waits; `stopped` is circus's word on the wire.
#[test]
fn status_says_that_it_waits() {
    let site = site(TWO);
    let daemon = site.start(Program::Circ);
    let all = daemon.ok("status", json!({}));
    assert_eq!(all["statuses"], json!({"web": "stopped"}));
    assert_eq!(all["waiting"], json!(["web"]));
    let circ = |arguments: &[&str]| -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_circ"))
            .args(arguments)
            .env("CIRCUSCTL_ENDPOINT", daemon.endpoint())
            .output()
            .expect("circ runs");
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    };
    assert_eq!(circ(&["status"]), "web  waiting");
    assert_eq!(circ(&["status", "web"]), "waiting");
    assert_eq!(
        circ(&["circusctl", "--endpoint", daemon.endpoint(), "status"]),
        "web: stopped"
    );
    ask(address(&daemon, "web"));
    daemon.wait_for("active", || {
        (circ(&["status", "web"]) == "active").then_some(())
    });
}

/// Workers that die before they have accepted do not spin: the pauses between starts grow.
#[test]
fn a_connection_that_nobody_takes_does_not_spin() {
    let site = site(&TWO.replace("@SERVE@", "/bin/sh -c 'echo x >> @SITE@/starts; exit 1'"));
    let daemon = site.start(Program::Circ);
    let stream = TcpStream::connect(address(&daemon, "web")).expect("a connection");
    let starts = || std::fs::read_to_string(site.path("starts")).map_or(0, |text| text.len() / 2);
    daemon.wait_for("several starts", || (starts() >= 6).then_some(()));
    let clock = std::time::Instant::now();
    let before = starts();
    daemon.wait_for("another start", || (starts() > before).then_some(()));
    let more = starts() - before;
    assert!(more <= 4, "{more} starts in {:?}", clock.elapsed());
    assert!(starts() < 40);
    drop(stream);
}
