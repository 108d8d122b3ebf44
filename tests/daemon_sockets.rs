//! The `[socket:NAME]` sections: what is bound, how, what workers get of it, and that nobody who connects is let
//! down while workers come and go.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{Daemon, Process, Program, TempSite, asking_meanwhile, is_alive, skip, venv};

const BOTH: [Program; 2] = [Program::Circ, Program::Circusd];

/// A site with the small server; `@SERVE@` (a command line) and `@SITE@` in the body are filled in.
fn site(body: &str) -> TempSite {
    let site = TempSite::new();
    rewrite(&site, body);
    site
}

fn rewrite(site: &TempSite, body: &str) {
    let script = site.write("serve.py", include_str!("daemon_sockets/serve.py"));
    let serve = format!("{} -IS {}", venv().python().display(), script.display());
    let body = body.replace("@SERVE@", &serve);
    site.ini(&body.replace("@SITE@", &site.dir().to_string_lossy()));
}

/// What `listsockets` says of one socket.
#[track_caller]
fn info(daemon: &Daemon, name: &str) -> Value {
    let reply = daemon.ok("listsockets", json!({}));
    let list = reply["sockets"].as_array().cloned().unwrap_or_default();
    let found = list.into_iter().find(|s| s["name"] == name);
    found.unwrap_or_else(|| panic!("no socket {name} in {reply}"))
}

fn address(info: &Value) -> SocketAddr {
    let text = match info["host"].as_str() {
        Some(host) if host.contains(':') => format!("[{host}]:{}", info["port"]),
        host => format!("{}:{}", host.unwrap_or_default(), info["port"]),
    };
    text.parse().expect("an address")
}

/// One question and its answer.
fn ask(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"hello")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// What a descriptor of a process leads to.
#[track_caller]
fn link(pid: i32, fd: &Value) -> String {
    let link = fs::read_link(format!("/proc/{pid}/fd/{fd}"));
    link.expect("an open descriptor").to_string_lossy().into()
}

/// The flags a descriptor of a process was opened with.
#[track_caller]
fn nonblocking(pid: i32, fd: &Value) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).expect("a descriptor");
    let flags = text.lines().find_map(|l| l.strip_prefix("flags:"));
    let flags = i64::from_str_radix(flags.expect("flags").trim(), 8).expect("octal flags");
    flags & i64::from(nix::libc::O_NONBLOCK) != 0
}

/// Waits until the process has become what its command line asks for.
#[track_caller]
fn sleeping(daemon: &Daemon, name: &str) -> i32 {
    let pid = daemon.wait_pids(name, 1)[0];
    daemon.wait_for("sleep", || Process::find(pid).filter(|p| p.comm == "sleep"));
    pid
}

#[test]
fn hosts_ports_families_and_types() {
    let body = "
[socket:any]
host = 127.0.0.1
port = 0
[socket:six]
host = ::1
port = 0
family = AF_INET6
[socket:named]
host = localhost
port = 0
backlog = 77
[socket:udp]
host = 127.0.0.1
port = 0
type = SOCK_DGRAM
[socket:blocking]
host = 127.0.0.1
port = 0
blocking = True
[watcher:holder]
cmd = sleep 1000
use_sockets = True
";
    for program in BOTH {
        let site = site(body);
        let daemon = site.start(program);
        let pid = sleeping(&daemon, "holder");
        for name in ["any", "six", "named", "blocking"] {
            let info = info(&daemon, name);
            assert_ne!(info["port"], 0, "{program:?}: {info}");
            // A queue takes the connection although nobody accepts it.
            TcpStream::connect(address(&info))
                .unwrap_or_else(|e| panic!("{program:?} {info}: {e}"));
            assert_eq!(link(pid, &info["fd"]), link(daemon.pid(), &info["fd"]));
            assert_eq!(nonblocking(pid, &info["fd"]), name != "blocking", "{name}");
        }
        assert_eq!(info(&daemon, "named")["backlog"], 77);
        assert_eq!(info(&daemon, "any")["backlog"], 2048);
        let udp = info(&daemon, "udp");
        let client = UdpSocket::bind("127.0.0.1:0").expect("a socket of our own");
        client
            .send_to(b"x", address(&udp))
            .expect("somebody is bound there");
        let bound = UdpSocket::bind(address(&udp));
        assert!(bound.is_err(), "the daemon has that port");
    }
}

/// The queue of waiting connections is as long as asked for.
#[test]
fn backlog() {
    let body = "\n[socket:short]\nhost = 127.0.0.1\nport = 0\nbacklog = 1\n[socket:long]\nhost = 127.0.0.1\nport = 0\nbacklog = 50\n";
    let site = site(body);
    let daemon = site.start(Program::Circ);
    let fill = |name: &str| -> Vec<TcpStream> {
        let to = address(&info(&daemon, name));
        let wait = Duration::from_millis(200);
        let tries = (0..6).map(|_| TcpStream::connect_timeout(&to, wait).ok());
        tries.flatten().collect()
    };
    assert_eq!(fill("long").len(), 6);
    let taken = fill("short").len();
    assert!((1..=3).contains(&taken), "{taken}");
}

#[test]
fn unix_sockets_and_their_files() {
    let body = "
[socket:plain]
path = @SITE@/plain.sock
[socket:closed]
path = @SITE@/closed.sock
umask = 63
[socket:stale]
path = @SITE@/stale.sock
replace = True
[watcher:server]
cmd = @SERVE@ $(circus.sockets.plain)
use_sockets = True
";
    for program in BOTH {
        let site = site(body);
        // A file that a dead program has left.
        drop(UnixListener::bind(site.path("stale.sock")).expect("a socket of our own"));
        let daemon = site.start(program);
        let mode = |name: &str| {
            let meta = fs::metadata(site.path(name)).expect("the socket's file");
            assert!(meta.file_type().is_socket());
            meta.permissions().mode() & 0o777
        };
        // 63 is decimal, as every number here: 0077. Without the key it is 8: 0010.
        assert_eq!(mode("closed.sock"), 0o700, "{program:?}");
        assert_eq!(mode("plain.sock"), 0o767, "{program:?}");
        let path = site.path("plain.sock");
        assert_eq!(info(&daemon, "plain")["path"], *path.to_string_lossy());
        for name in ["plain.sock", "stale.sock"] {
            UnixStream::connect(site.path(name)).expect("somebody listens");
        }
        let pid = daemon.wait_pids("server", 1)[0];
        let answer = daemon.wait_for("an answer", || {
            let mut stream = UnixStream::connect(&path).ok()?;
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .ok()?;
            stream.write_all(b"x").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer)
        });
        assert_eq!(answer, pid.to_string(), "{program:?}: {}", daemon.tail());
        daemon.signal(Signal::SIGTERM);
        daemon.wait_exit();
        for name in ["plain.sock", "closed.sock", "stale.sock"] {
            assert!(!site.path(name).exists(), "{program:?} has left {name}");
        }
    }
}

/// Without `replace` a file in the way is a mistake that the daemon tells of, and the file stays.
#[test]
fn a_file_in_the_way_is_named() {
    let site = site("\n[socket:web]\npath = @SITE@/web.sock\n");
    let listener = UnixListener::bind(site.path("web.sock")).expect("a socket of our own");
    let daemon = site.spawn(Program::Circ, |_| {});
    assert!(!daemon.wait_exit().success());
    let log = daemon.log();
    assert!(
        log.contains("socket web") && log.contains("web.sock") && log.contains("held by"),
        "{log}"
    );
    drop(listener);
    assert!(site.path("web.sock").exists());
}

#[test]
fn an_interface_binds_to_it() {
    if !nix::unistd::geteuid().is_root() {
        skip("binding to an interface needs root");
        return;
    }
    // Without circusd: 0.19 needs a module for this that Python 3 does not have.
    let good = site("\n[socket:web]\nhost = 127.0.0.1\nport = 0\ninterface = lo\n");
    let daemon = good.start(Program::Circ);
    TcpStream::connect(address(&info(&daemon, "web"))).expect("loopback is lo");
    let site = site("\n[socket:web]\nhost = 127.0.0.1\nport = 0\ninterface = nosuch0\n");
    let daemon = site.spawn(Program::Circ, |_| {});
    assert!(!daemon.wait_exit().success());
    assert!(daemon.log().contains("nosuch0"), "{}", daemon.log());
}

/// Every worker has a socket of its own on the same port, and each of them is served.
#[test]
fn so_reuseport_gives_each_worker_its_own() {
    for program in BOTH {
        let site = TempSite::new();
        let port = site.port();
        rewrite(
            &site,
            &format!(
                "\n[socket:web]\nhost = 127.0.0.1\nport = {port}\nso_reuseport = True\n[watcher:server]\ncmd = @SERVE@ $(circus.sockets.web)\nuse_sockets = True\nnumprocesses = 3\n"
            ),
        );
        let daemon = site.start(program);
        let pids = daemon.wait_pids("server", 3);
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        let mut answered = BTreeSet::new();
        daemon.wait_for("an answer of each of the three", || {
            let pid: i32 = ask(to).ok()?.parse().ok()?;
            answered.insert(pid);
            (answered.len() == 3).then_some(())
        });
        assert_eq!(answered, BTreeSet::from_iter(pids.iter().copied()));
        let sockets: BTreeSet<String> = pids
            .iter()
            .map(|pid| {
                let words = Process::find(*pid).expect("it runs").cmdline();
                let fd: Value = words.last().and_then(|w| w.parse().ok()).expect("a number");
                link(*pid, &fd)
            })
            .collect();
        assert_eq!(sockets.len(), 3, "three sockets: {sockets:?}");
    }
}

/// Clients ask all the time while workers are reloaded, restarted one by one, killed, and their number changes.
#[test]
fn no_request_fails_while_workers_are_replaced() {
    let site = site(
        "\n[socket:web]\nhost = 127.0.0.1\nport = 0\n[watcher:server]\ncmd = @SERVE@ $(circus.sockets.web)\nuse_sockets = True\nnumprocesses = 2\n",
    );
    let daemon = site.start(Program::Circ);
    let first = daemon.wait_pids("server", 2);
    let to = address(&info(&daemon, "web"));
    ask(to).expect("an answer");
    let client = |_: usize| {
        || {
            std::thread::sleep(Duration::from_millis(5));
            match ask(to) {
                Ok(answer) if !answer.is_empty() => Ok(true),
                other => Err(format!("{other:?}")),
            }
        }
    };
    let (count, failures) = asking_meanwhile(3, client, |_| {
        let waiting = |more: Value| {
            let mut all = json!({"name": "server", "waiting": true});
            for (key, value) in more.as_object().into_iter().flatten() {
                all[key] = value.clone();
            }
            all
        };
        daemon.ok("reload", waiting(json!({})));
        daemon.ok("reload", waiting(json!({"sequential": true})));
        daemon.ok("incr", waiting(json!({})));
        daemon.ok("decr", waiting(json!({})));
        daemon.ok("set", waiting(json!({"options": {"args": "again"}})));
        daemon.ok("restart", waiting(json!({})));
        ask(to).expect("an answer");
    });
    assert!(failures.is_empty(), "of {count}: {failures:?}");
    assert!(count >= 30, "{count}");
    let now = daemon.wait_pids("server", 2);
    assert!(now.iter().all(|p| !first.contains(p)));
    assert!(first.iter().all(|p| !is_alive(*p)));
}

/// A socket that changes in the file: its workers get the new one; what has not changed stays as it is.
#[test]
fn a_changed_socket_reaches_its_workers() {
    let site = TempSite::new();
    let (one, two, other) = (site.port(), site.port(), site.port());
    let body = |port: u16, more: &str| {
        format!(
            "\n[socket:web]\nhost = 127.0.0.1\nport = {port}\n{more}[socket:other]\nhost = 127.0.0.1\nport = {other}\n[watcher:server]\ncmd = @SERVE@ $(circus.sockets.web)\nuse_sockets = True\n[watcher:apart]\ncmd = @SERVE@ $(circus.sockets.other)\nuse_sockets = True\n"
        )
    };
    rewrite(&site, &body(one, ""));
    let daemon = site.start(Program::Circ);
    let (server, apart) = (daemon.wait_pids("server", 1), daemon.wait_pids("apart", 1));
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    ask(at(one)).expect("an answer");
    let fd = info(&daemon, "other")["fd"].clone();

    rewrite(&site, &body(two, ""));
    daemon.ok("reloadconfig", json!({"waiting": true}));
    let now = daemon.wait_pids("server", 1);
    assert_ne!(now, server);
    assert_eq!(ask(at(two)).expect("an answer"), now[0].to_string());
    assert!(ask(at(one)).is_err(), "the old port is closed");
    assert_eq!(daemon.pids("apart"), apart);
    assert_eq!(info(&daemon, "other")["fd"], fd);

    // The same address with another queue: the socket itself is changed, nobody needs a new one.
    rewrite(&site, &body(two, "backlog = 5\nblocking = True\n"));
    let web = info(&daemon, "web")["fd"].clone();
    daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(info(&daemon, "web")["backlog"], 5);
    assert_eq!(info(&daemon, "web")["fd"], web);
    assert!(!nonblocking(daemon.pid(), &web));
    assert_eq!(daemon.pids("server"), now);

    // The same address, but another socket.
    rewrite(&site, &body(two, "so_reuseport = True\n"));
    daemon.ok("reloadconfig", json!({"waiting": true}));
    let last = daemon.wait_pids("server", 1);
    assert_ne!(last, now);
    daemon.wait_for("the new socket's worker to answer", || {
        ask(at(two)).ok().filter(|a| *a == last[0].to_string())
    });
    let apart = daemon.wait_pids("apart", 1);

    // A port that is taken: nothing changes, and the answer says what is in the way.
    rewrite(&site, &body(other, ""));
    let reply = daemon.call("reloadconfig", json!({"waiting": true}));
    assert_eq!(reply["status"], "error", "{reply}");
    assert!(
        reply["reason"].as_str().is_some_and(|r| r.contains("web")),
        "{reply}"
    );
    assert_eq!(daemon.pids("server"), last);
    assert_eq!(ask(at(two)).expect("an answer"), last[0].to_string());
    assert_eq!(daemon.pids("apart"), apart);

    // The same with a restart: it is told, and everybody is back with what they had.
    let reply = daemon.call("restart", json!({"waiting": true}));
    assert_eq!(reply["status"], "error", "{reply}");
    let back = daemon.wait_pids("server", 1);
    assert_ne!(back, last);
    daemon.wait_for("an answer", || {
        ask(at(two)).ok().filter(|a| *a == back[0].to_string())
    });
}

/// What the kernel says of a socket that a worker has: family, type, and whether it listens.
const LOOK: &str = "import os, socket, sys, json
out = {}
for pair in sys.argv[2:]:
    name, number = pair.split('=')
    s = socket.socket(fileno=os.dup(int(number)))
    listens = s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    out[name] = [s.family.name, s.type.name, listens, s.proto, s.gettimeout() is None, os.get_inheritable(int(number))]
open(sys.argv[1] + '.part', 'w').write(json.dumps(out))
os.rename(sys.argv[1] + '.part', sys.argv[1])
import time
time.sleep(1000)
";

/// Families, types and protocols in every spelling: a worker of circ sees what a worker of circusd sees.
#[test]
fn families_types_and_protocols_are_those_of_circusd() {
    let sockets = [
        ("dual", "host = ::\nport = 0\nfamily = af_inet6\n"),
        ("proto", "host = 127.0.0.1\nport = 0\nproto = tcp\n"),
        (
            "dgram6",
            "host = ::1\nport = 0\nfamily = AF_INET6\ntype = sock_dgram\nproto = udp\n",
        ),
        (
            "packets",
            "path = @SITE@/packets.sock\ntype = SOCK_SEQPACKET\n",
        ),
        (
            "letters",
            "path = @SITE@/letters.sock\ntype = Sock_Dgram\nfamily = AF_UNIX\n",
        ),
        ("blocking", "path = @SITE@/blocking.sock\nblocking = yes\n"),
        ("wide", "host = 0.0.0.0\nport = 0\nbacklog = 3\n"),
    ];
    let mut body = String::new();
    let mut words = String::new();
    for (name, keys) in sockets {
        body.push_str(&format!("[socket:{name}]\n{keys}"));
        words.push_str(&format!(" {name}=$(circus.sockets.{name})"));
    }
    let look = |program: Program| -> Value {
        let site = TempSite::new();
        let script = site.write("look.py", LOOK);
        let python = venv().python();
        rewrite(
            &site,
            &format!(
                "\n{body}[watcher:look]\ncmd = {} -IS {} @SITE@/seen{words}\nuse_sockets = True\n",
                python.display(),
                script.display()
            ),
        );
        let daemon = site.start(program);
        let seen = daemon.wait_for("what the worker sees", || {
            serde_json::from_str(&fs::read_to_string(site.path("seen")).ok()?).ok()
        });
        // one socket for both families of addresses
        let port = info(&daemon, "dual")["port"].as_u64().expect("a port");
        let four = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).expect("a port")));
        TcpStream::connect(four).unwrap_or_else(|e| panic!("{program:?}: {e}"));
        seen
    };
    let ours = look(Program::Circ);
    assert_eq!(ours, look(Program::Circusd));
    assert_eq!(ours["packets"][1], "SOCK_SEQPACKET");
    assert_eq!(ours["packets"][2], 1, "it listens");
    assert_eq!(ours["letters"][2], 0, "nobody listens on datagrams");
}

/// Names without a file, as Linux has them; circ's own.
#[test]
fn abstract_unix_sockets_have_no_file() {
    use std::os::linux::net::SocketAddrExt;
    let site = TempSite::new();
    let name = format!("circ-test-{}", site.port());
    rewrite(
        &site,
        &format!(
            "\n[socket:web]\npath = @{name}\n[watcher:server]\ncmd = @SERVE@ $(circus.sockets.web)\nuse_sockets = True\n"
        ),
    );
    let daemon = site.start(Program::Circ);
    let pid = daemon.wait_pids("server", 1)[0];
    assert_eq!(info(&daemon, "web")["path"], format!("@{name}"));
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let mut stream = UnixStream::connect_addr(&address).expect("somebody listens");
    stream.write_all(b"x").expect("a question");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, pid.to_string());
    assert!(!site.path(&format!("@{name}")).exists());
}

/// While workers with sockets of their own are replaced, there is always one that listens. (Who is in the queue of one that
/// goes is lost with it, whoever supervises.)
#[test]
fn so_reuseport_refuses_nobody_while_workers_are_replaced() {
    let site = TempSite::new();
    let port = site.port();
    rewrite(
        &site,
        &format!(
            "\n[socket:web]\nhost = 127.0.0.1\nport = {port}\nso_reuseport = True\n[watcher:server]\ncmd = @SERVE@ $(circus.sockets.web)\nuse_sockets = True\nnumprocesses = 3\n"
        ),
    );
    let daemon = site.start(Program::Circ);
    let first = daemon.wait_pids("server", 3);
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    ask(to).expect("an answer");
    let client = |_: usize| {
        || match ask(to) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Err(error),
            Err(_) => Ok(false),
        }
    };
    let (answered, refused) = asking_meanwhile(1, client, |_| {
        for _ in 0..3 {
            daemon.ok("reload", json!({"name": "server", "waiting": true}));
        }
    });
    assert!(refused.is_empty(), "{refused:?} of {answered}");
    assert!(answered > 10, "{answered}");
    let last = daemon.wait_pids("server", 3);
    assert!(last.iter().all(|pid| !first.contains(pid)));
}

/// A place that cannot be bound is named, with the reason.
#[test]
fn a_place_that_cannot_be_had_is_named() {
    for (keys, words) in [
        (
            "path = @SITE@/nowhere/web.sock\n",
            ["nowhere/web.sock", "No such file"],
        ),
        (
            "host = 192.0.2.1\nport = 1\n",
            ["192.0.2.1:1", "Cannot assign"],
        ),
        ("host = ::1\nport = 1\n", ["::1", "AF_INET"]),
        (
            "host = 127.0.0.1\nport = 0\nproto = nope\n",
            ["nope", "protocol"],
        ),
    ] {
        let site = site(&format!("\n[socket:web]\n{keys}"));
        let daemon = site.spawn(Program::Circ, |_| {});
        assert!(!daemon.wait_exit().success(), "{keys}");
        let log = daemon.log();
        assert!(
            log.contains("socket web") && words.iter().all(|word| log.contains(word)),
            "{keys}: {log}"
        );
    }
}
