//! What the daemon counts and tells by `metrics`, and what `circ metrics` makes of it.

#[path = "wsgi/client.rs"]
mod client;
mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use circ::console::exposition::FAMILIES;
use circ::stats::front;
use client::Connection;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{Program, TempSite, venv_of};

/// Starts, ends by reason, losses, reloads, signals and requests are counted from the start of the daemon on, and told
/// together with the state of every watcher.
#[test]
fn what_was_counted_is_told() {
    let site = TempSite::new();
    site.ini(
        "[watcher:Web]\ncmd = sleep 1000\nnumprocesses = 2\n[watcher:once]\ncmd = sh -c 'exit 7'\nrespawn = False\n\
         [watcher:never]\ncmd = /no/such/program\nmax_retry = 1\n",
    );
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    let metrics = |properties: Value| daemon.ok("metrics", properties);
    let told = daemon.wait_for("all ends to be counted", || {
        let told = metrics(json!({}));
        let watchers = &told["watchers"];
        let ended = watchers["once"]["exits"]["7"] == 1;
        (ended && watchers["never"]["not_started"].as_u64() >= Some(1)).then_some(told)
    });
    let web = &told["watchers"]["Web"];
    assert_eq!(web["status"], "active");
    assert_eq!(
        (&web["wanted"], &web["started"], &web["lost"]),
        (&json!(2), &json!(2), &json!(0))
    );
    let workers: Vec<i64> = web["workers"]
        .as_array()
        .map(|all| all.iter().filter_map(|one| one["pid"].as_i64()).collect())
        .unwrap_or_default();
    assert_eq!(
        workers,
        pids.iter().map(|pid| i64::from(*pid)).collect::<Vec<_>>()
    );
    assert_eq!(web["workers"][0].get("rss"), None);
    assert_eq!(told["watchers"]["once"]["lost"], 1);
    assert_eq!(told["watchers"]["once"]["last_exit"]["code"], 7);
    assert_eq!(told["watchers"]["never"]["started"], 0);

    daemon.ok(
        "signal",
        json!({"name": "web", "pid": pids[0], "signum": "KILL"}),
    );
    let told = daemon.wait_for("the lost worker to be replaced", || {
        let told = metrics(json!({"name": "web"}));
        (told["watchers"]["Web"]["started"] == 3).then_some(told)
    });
    let web = &told["watchers"]["Web"];
    assert_eq!((&web["exits"]["-9"], &web["lost"]), (&json!(1), &json!(1)));
    assert_eq!(told["watchers"].as_object().map(|all| all.len()), Some(1));

    // asked for: no loss
    daemon.ok("decr", json!({"name": "web", "waiting": true}));
    daemon.ok("reload", json!({"name": "web", "waiting": true}));
    daemon.call("nonsense", json!({}));
    let told = daemon.wait_for("the asked ends", || {
        let told = metrics(json!({"processes": true}));
        (told["watchers"]["Web"]["exits"]["-15"] == 2).then_some(told)
    });
    let web = &told["watchers"]["Web"];
    assert_eq!((&web["lost"], &web["reloads"]), (&json!(1), &json!(1)));
    assert!(web["kills"].as_u64() >= Some(2), "{web}");
    let worker = &web["workers"][0];
    for key in ["rss", "vms", "threads", "fds"] {
        assert!(worker[key].as_u64() >= Some(1), "{key}: {worker}");
        assert!(told["daemon"][key].as_u64() >= Some(1), "{key}: {told}");
    }
    assert!(worker["cpu_seconds"].is_f64(), "{worker}");
    let asked = &told["daemon"]["commands"];
    assert_eq!((&asked["decr"], &asked["reload"]), (&json!(1), &json!(1)));
    assert_eq!(told["daemon"]["rejected"], 1);
    assert_eq!(told["daemon"]["program"], "circ");

    let unknown = daemon.call("metrics", json!({"name": "other"}));
    assert_eq!(unknown["errno"], 3);
}

fn circ(site: &TempSite, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_circ"))
        .args(arguments)
        .current_dir(site.dir())
        .env_remove("CIRCUSCTL_ENDPOINT")
        .output()
        .expect("circ runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}

/// Reads every sample and says how many families there are.
const PARSE: &str = "
import sys
text = sys.stdin.read()
if sys.argv[1] == 'openmetrics':
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as read
else:
    from prometheus_client.parser import text_string_to_metric_families as read
families = list(read(text))
names = [family.name for family in families]
assert len(names) == len(set(names)), names
for family in families:
    assert family.documentation and family.type != 'unknown', family
    series = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
    assert series and len(series) == len(set(series)), series
print(len(families))
";

/// What a program that must like the text answers to it.
fn run(program: &mut Command, text: &str) -> String {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a program that reads");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("a reader");
    drop(stdin);
    let output = child.wait_with_output().expect("an answer");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}\n{text}");
    assert_eq!(errors, "", "{text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// promtool has nothing to say against it, where it is installed.
fn check_with_promtool(text: &str) {
    match Command::new("promtool").arg("--version").output() {
        Ok(_) => drop(run(
            Command::new("promtool").args(["check", "metrics"]),
            text,
        )),
        Err(_) => eprintln!(
            "promtool is not here (Debian's package prometheus has it): not checked with it"
        ),
    }
}

/// Prometheus's own parser reads both formats, and promtool if it is there.
#[test]
fn the_text_is_what_parsers_read() {
    let venv = venv_of("tests/requirements-web.txt");
    let site = TempSite::new();
    site.ini(
        "[watcher:a \"quoted\" one]\ncmd = sleep 1000\nnumprocesses = 2\n[watcher:once]\ncmd = sh -c 'exit 7'\n\
         respawn = False\nstdout_stream.class = QueueStream\n[socket:s]\nport = 0\n",
    );
    let daemon = site.start(Program::Circ);
    daemon.wait_for("the end of the one", || {
        let told = daemon.ok("metrics", json!({}));
        (told["watchers"]["once"]["exits"]["7"] == 1).then_some(())
    });
    for format in ["prometheus", "openmetrics"] {
        let arguments = [
            "metrics",
            "--format",
            format,
            "--endpoint",
            daemon.endpoint(),
        ];
        let (code, text) = circ(&site, &arguments);
        assert_eq!(code, Some(0));
        let mut python = Command::new(venv.python());
        let families = run(python.args(["-c", PARSE, format]), &text);
        assert!(
            families
                .trim()
                .parse::<usize>()
                .is_ok_and(|count| count > 30),
            "{families}"
        );
        if format == "prometheus" {
            check_with_promtool(&text);
        }
    }
}

#[test]
fn a_file_is_replaced_and_a_daemon_that_is_away_is_told_in_it() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let arguments = [
        "metrics",
        "--output",
        "circ.prom",
        "--endpoint",
        daemon.endpoint(),
    ];
    assert_eq!(circ(&site, &arguments), (Some(0), String::new()));
    let read = || std::fs::read_to_string(site.path("circ.prom")).expect("a file");
    assert!(
        read()
            .lines()
            .any(|line| line.starts_with("circ_watcher_processes{")
                && line.ends_with("watcher=\"web\"} 1"))
    );
    let (code, reply) = circ(
        &site,
        &["metrics", "--json", "--endpoint", daemon.endpoint()],
    );
    let reply: Value = serde_json::from_str(&reply).expect("JSON");
    assert_eq!(
        (code, &reply["watchers"]["web"]["wanted"]),
        (Some(0), &json!(1))
    );
    let endpoint = daemon.endpoint().to_owned();
    daemon.stop();
    assert_eq!(
        circ(
            &site,
            &["metrics", "--output", "circ.prom", "--endpoint", &endpoint]
        )
        .0,
        Some(1)
    );
    assert!(
        read()
            .lines()
            .any(|line| line.starts_with("circ_up{") && line.ends_with("} 0"))
    );
    let left: Vec<_> = std::fs::read_dir(site.dir())
        .expect("a directory")
        .flatten()
        .map(|file| file.file_name())
        .collect();
    assert_eq!(
        left.iter()
            .filter(|name| name.to_string_lossy().starts_with("circ.prom"))
            .count(),
        1,
        "{left:?}"
    );
    assert_eq!(
        circ(
            &site,
            &[
                "metrics",
                "--output",
                "no/such/file",
                "--endpoint",
                &endpoint
            ]
        )
        .0,
        Some(1)
    );
}

/// The samples of a text, by what stands before the number, without the labels of daemon and watcher.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (key, number) = line.rsplit_once(' ')?;
        let labels = key.split(['{', ',', '}']).filter(|part| {
            !part.is_empty() && !part.starts_with("daemon=") && !part.starts_with("watcher=")
        });
        Some((labels.collect::<Vec<_>>().join(" "), number.parse().ok()?))
    };
    lines.filter_map(sample).collect()
}

/// What the web servers of a watcher count is told as one sum, which goes on when they are replaced, and when they are killed.
#[test]
fn web_servers_are_counted_over_their_ends() {
    let site = TempSite::new();
    site.write("applications.py", include_str!("wsgi/applications.py"));
    site.ini(&format!(
        "[socket:web]\nhost = 127.0.0.1\nport = 0\n\
         [watcher:web]\ncmd = {} chaussette --fd $(circus.sockets.web) applications:dying\nnumprocesses = 2\n\
         use_sockets = True\ncopy_env = True\nworking_dir = {}\n[watcher:other]\ncmd = sleep 1000\n",
        env!("CARGO_BIN_EXE_circ"),
        site.dir().display(),
    ));
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    let reply = daemon.ok("listsockets", json!({}));
    let port = reply["sockets"][0]["port"].as_u64().expect("a port") as u16;
    let scrape = |format: &str| {
        let endpoint = daemon.endpoint();
        let (code, text) = circ(
            &site,
            &["metrics", "--format", format, "--endpoint", endpoint],
        );
        assert_eq!(code, Some(0), "{text}");
        text
    };
    let numbers = || samples(&scrape("prometheus"));
    const ANSWERED: &str = "circ_front_requests_total class=\"2xx\"";
    let counted = |what: &str, wanted: f64| {
        let mut before = 0.0;
        daemon.wait_for(what, || {
            let all = numbers();
            let now = all.get(ANSWERED).copied().unwrap_or(0.0);
            assert!(now >= before, "{before} and then {now}");
            before = now;
            (now >= wanted).then_some(all)
        })
    };
    let ask = |times: usize| {
        for _ in 0..times {
            let mut connection = Connection::try_open(port).expect("a connection");
            assert_eq!(connection.ask("GET", "/", "", b"").status, 200);
        }
    };
    daemon.wait_for("both servers", || {
        (numbers().get("circ_front_workers") == Some(&2.0)).then_some(())
    });
    ask(7);
    let mut dying = Connection::try_open(port).expect("a connection");
    assert_eq!(dying.ask("GET", "/die", "", b"").status, 502);
    drop(dying);
    let all = counted("7 answers", 7.0);
    assert_eq!(all[ANSWERED], 7.0);
    daemon.wait_for("the failure, and the death", || {
        let all = numbers();
        let is = |key: &str| all.get(key).copied();
        (is("circ_front_requests_total class=\"5xx\"") == Some(1.0)
            && is("circ_front_worker_deaths_total") == Some(1.0)
            && is("circ_front_request_duration_seconds_count") == Some(8.0)
            && is("circ_front_request_duration_seconds_bucket le=\"+Inf\"") == Some(8.0)
            && is("circ_front_accepted_connections_total") == Some(8.0)
            && is("circ_front_connections") == Some(0.0))
        .then_some(())
    });

    // two generations between two looks: the last words of each are heard
    daemon.ok("reload", json!({"name": "web", "waiting": true}));
    daemon.wait_for("an answer of the second generation", || {
        let new = daemon.pids("web");
        (!new.is_empty() && new.iter().all(|pid| !pids.contains(pid))).then_some(())
    });
    ask(5);
    daemon.ok("reload", json!({"name": "web", "waiting": true}));
    ask(3);
    assert_eq!(counted("15 answers", 15.0)[ANSWERED], 15.0);

    // one that is killed has been seen
    let pids = daemon.pids("web");
    kill(Pid::from_raw(pids[0]), Signal::SIGKILL).expect("a process");
    daemon.wait_for("another one", || {
        (daemon.pids("web").len() == 2 && !daemon.pids("web").contains(&pids[0])).then_some(())
    });
    ask(2);
    let all = counted("17 answers", 17.0);
    assert_eq!(all[ANSWERED], 17.0);
    assert!(all["circ_front_sent_bytes_total"] > 17.0 * 40.0);
    assert!(all["circ_front_request_duration_seconds_sum"] > 0.0);
    let of_others = |text: String| {
        text.lines()
            .filter(|line| line.starts_with("circ_front") && line.contains("watcher=\"other\""))
            .count()
    };
    assert_eq!(of_others(scrape("prometheus")), 0);
    check_with_promtool(&scrape("prometheus"));
    let text = scrape("openmetrics");
    for line in [
        "# TYPE circ_front_request_duration_seconds histogram",
        "# UNIT circ_front_request_duration_seconds seconds",
        "# TYPE circ_front_received_bytes counter",
        "# UNIT circ_front_received_bytes bytes",
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\n{text}");
    }

    let arguments = [
        "status",
        "web",
        "--details",
        "--endpoint",
        daemon.endpoint(),
    ];
    let (_, page) = circ(&site, &arguments);
    assert!(
        page.contains("  18 answered, ") && page.contains("1 5xx"),
        "{page}"
    );
    assert!(page.contains("processes of Python have died"), "{page}");

    // removed and added: it begins anew
    let told = daemon.ok("metrics", json!({"processes": true}));
    assert_eq!(
        told["watchers"]["web"]["front"]["requests_total"]["2xx"],
        17
    );
    assert_eq!(told["watchers"]["other"].get("front"), None);
    daemon.ok("rm", json!({"name": "web", "waiting": true}));
    let told = daemon.ok("metrics", json!({"processes": true}));
    assert_eq!(told["watchers"].get("web"), None);
}

/// What waits at the sockets is what the kernel says, and somebody is told when no more are taken.
#[test]
fn connections_that_wait_at_sockets_are_told() {
    let site = TempSite::new();
    site.ini(&format!(
        "[socket:s]\nhost = 127.0.0.1\nport = 0\nbacklog = 1\n[socket:u]\npath = {}\nbacklog = 3\n\
         [socket:r]\nhost = 127.0.0.1\nport = {}\nso_reuseport = True\nbacklog = 8\n\
         [socket:d]\nhost = 127.0.0.1\nport = 0\ntype = SOCK_DGRAM\n\
         [watcher:web]\ncmd = sh -c 'exec sleep 1000' x $(circus.sockets.s) $(circus.sockets.r)\nuse_sockets = True\n\
         numprocesses = 2\n",
        site.path("u.sock").display(),
        site.port(),
    ));
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    let told = |details: bool| {
        let reply = daemon.ok("listsockets", json!({"details": details}));
        let sockets = reply["sockets"].as_array().expect("a list").clone();
        let named = |one: Value| (one["name"].as_str().unwrap_or_default().to_owned(), one);
        sockets
            .into_iter()
            .map(named)
            .collect::<BTreeMap<String, Value>>()
    };
    // as a circusd tells it, if nobody asks for more
    assert_eq!(told(false)["s"].get("waiting"), None);
    let port = |name: &str| told(false)[name]["port"].as_u64().expect("a port") as u16;
    let queue = |socket: &Value| {
        let number = |key: &str| socket.get(key).and_then(Value::as_u64);
        (
            number("waiting"),
            number("limit"),
            socket["full"] == json!(true),
        )
    };
    let all = told(true);
    assert_eq!(queue(&all["s"]), (Some(0), Some(1), false));
    assert_eq!(queue(&all["u"]), (Some(0), Some(3), false));
    // of both workers
    assert_eq!(queue(&all["r"]), (Some(0), Some(16), false));
    assert_eq!(queue(&all["d"]), (None, None, false));
    assert_eq!(all["r"].get("reads"), None);

    let connect = |port: u16| TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    let (s, r) = (port("s"), port("r"));
    let clients = [connect(s), connect(s), connect(r), connect(r), connect(r)];
    let client = UnixStream::connect(site.path("u.sock")).expect("a connection");
    let all = told(true);
    assert_eq!(queue(&all["s"]), (Some(2), Some(1), true));
    assert_eq!(queue(&all["u"]), (Some(1), Some(3), false));
    assert_eq!(queue(&all["r"]), (Some(3), Some(16), false));
    if let Ok(output) = Command::new("ss").arg("-Hltn").output() {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let address = format!("127.0.0.1:{s}");
        let lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = lines.filter(|line| line.get(3) == Some(&address.as_str()));
        let queues: Vec<_> = line.map(|line| (line[1], line[2])).collect();
        assert_eq!(queues, [("2", "1")], "{text}");
    }

    // the kernel takes no more: there is something to read all the time
    let metrics = || circ(&site, &["metrics", "--endpoint", daemon.endpoint()]).1;
    let reads = || {
        let text = metrics();
        let line = text
            .lines()
            .find(|line| line.starts_with("circ_socket_reads_total") && line.contains("\"s\""));
        let number = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        number.expect("the reads")
    };
    let first = reads();
    let mut last = first;
    daemon.wait_for("more reads", || {
        let now = reads();
        assert!(now >= last, "{last} and then {now}");
        last = now;
        (now > first + 2).then_some(())
    });
    let text = metrics();
    for (name, number) in [("configured", 1), ("limit", 1), ("waiting", 2), ("full", 1)] {
        let line = format!("circ_socket_backlog_{name}{{");
        let found = text
            .lines()
            .find(|have| have.starts_with(&line) && have.contains("socket=\"s\""));
        let end = format!("}} {number}");
        assert!(
            found.is_some_and(|found| found.ends_with(&end)),
            "{name}\n{text}"
        );
    }
    check_with_promtool(&text);
    let (_, page) = circ(
        &site,
        &[
            "status",
            "web",
            "--details",
            "--endpoint",
            daemon.endpoint(),
        ],
    );
    assert!(
        page.contains("2 of 1 waiting, full: no more are taken"),
        "{page}"
    );
    drop((clients, client));
}

/// What a web server counts is what the metrics show of it.
#[test]
fn the_families_of_web_servers_are_those_of_the_metrics() {
    for family in front::FAMILIES {
        let shown = FAMILIES.iter().find(|shown| shown.name == family.name);
        let shown = shown.unwrap_or_else(|| panic!("{} is not shown", family.name));
        assert_eq!(format!("{:?}", shown.kind), format!("{:?}", family.kind));
        assert_eq!(
            shown.labels,
            [&["daemon", "watcher"], family.labels].concat()
        );
        assert_eq!(shown.help, family.help);
    }
    let shown = FAMILIES
        .iter()
        .filter(|family| family.name.starts_with("circ_front_"));
    assert_eq!(shown.count(), front::FAMILIES.len());
}

/// Every name in the dashboard's expressions, and every row of the page, is one of the table; and every one of the table has
/// its row.
#[test]
fn the_dashboard_and_the_page_name_what_there_is() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let dashboard =
        std::fs::read_to_string(root.join("examples/grafana/circ.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let mut named = 0;
    let known = |name: &str| {
        let name = name.trim_end_matches("_bucket");
        FAMILIES.iter().any(|family| family.name == name)
    };
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap_or_default();
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words.filter(|word| word.starts_with("circ_")) {
                assert!(known(word), "{word} in {expression}");
                named += 1;
            }
        }
    }
    assert!(named > 20, "{named}");
    let page = std::fs::read_to_string(root.join("docs/metrics.md")).expect("the page");
    for family in FAMILIES {
        let kind = format!("{:?}", family.kind).to_lowercase();
        let row = format!(
            "| `{}` | {kind} | {} | {} |",
            family.name,
            family.labels.join(", "),
            family.help
        );
        assert!(page.lines().any(|line| line == row), "{row}");
    }
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `circ_"))
        .count();
    assert_eq!(rows, FAMILIES.len());
}
