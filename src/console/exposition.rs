//! The text of `/metrics`, as Prometheus and as OpenMetrics have it: one table of families, from which documentation and
//! the check of the dashboard are made as well. Pure.

use super::snapshot::{Identity, Process, Snapshot, Usage, Watcher};
use serde_json::Value;
use std::fmt::Write;

/// What kind of number a family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It goes up only; its samples end in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It is 1; what it tells is in the labels.
    Info,
    /// Samples that end in `_bucket` (with the label `le` more), `_sum` and `_count`.
    Histogram,
}

/// A family of numbers.
#[derive(Debug)]
pub struct Family {
    /// The name, with `_total` or `_info` if its samples end so.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family {
        name,
        kind,
        labels,
        help,
    }
}

const DAEMON: &[&str] = &["daemon"];
const WATCHER: &[&str] = &["daemon", "watcher"];
const SOCKET: &[&str] = &["daemon", "socket"];
const PROCESS: &[&str] = &["daemon", "watcher", "wid", "pid"];

/// Every family, in the order in which they are written.
#[rustfmt::skip]
pub static FAMILIES: &[Family] = &[
    family("circ_up", Kind::Gauge, &["daemon", "endpoint"], "Whether the daemon answers"),
    family("circ_scrape_duration_seconds", Kind::Gauge, DAEMON, "How long the daemon took to answer this scrape"),
    family("circ_daemon_info", Kind::Info, &["daemon", "program", "version", "name"], "Who the daemon is"),
    family("circ_daemon_start_time_seconds", Kind::Gauge, DAEMON, "When the daemon was started, since the epoch"),
    family("circ_daemon_cpu_seconds_total", Kind::Counter, DAEMON, "Processor time of the daemon itself"),
    family("circ_daemon_resident_memory_bytes", Kind::Gauge, DAEMON, "Resident memory of the daemon itself"),
    family("circ_daemon_virtual_memory_bytes", Kind::Gauge, DAEMON, "Virtual memory of the daemon itself"),
    family("circ_daemon_threads", Kind::Gauge, DAEMON, "Threads of the daemon itself"),
    family("circ_daemon_open_fds", Kind::Gauge, DAEMON, "Open files of the daemon itself"),
    family("circ_commands_total", Kind::Counter, &["daemon", "command"], "Requests on the control socket by command"),
    family("circ_rejected_messages_total", Kind::Counter, DAEMON, "Messages on the control socket that were no request"),
    family("circ_events_dropped_total", Kind::Counter, DAEMON, "Events that subscribers were too slow for"),
    family("circ_stats_dropped_total", Kind::Counter, DAEMON, "Published statistics that subscribers were too slow for"),
    family("circ_watchers", Kind::Gauge, &["daemon", "status"], "Watchers by status"),
    family("circ_watcher_status", Kind::Gauge, &["daemon", "watcher", "status"], "1 for the status that the watcher has, 0 for the others"),
    family("circ_watcher_processes", Kind::Gauge, WATCHER, "Living workers"),
    family("circ_watcher_processes_wanted", Kind::Gauge, WATCHER, "Workers that should be there while the watcher is active"),
    family("circ_watcher_trouble", Kind::Gauge, WATCHER, "Whether workers cannot be started or do not stay"),
    family("circ_watcher_starts_total", Kind::Counter, WATCHER, "Workers that were started"),
    family("circ_watcher_start_failures_total", Kind::Counter, WATCHER, "Workers that could not be started"),
    family("circ_watcher_restarts_total", Kind::Counter, WATCHER, "Workers that were lost or could not be started, and that nobody had asked to go"),
    family("circ_watcher_exits_total", Kind::Counter, &["daemon", "watcher", "reason", "code"], "Ended workers by reason: exit with a code, or signal with its name"),
    family("circ_watcher_reloads_total", Kind::Counter, WATCHER, "Reloads"),
    family("circ_watcher_signals_total", Kind::Counter, WATCHER, "Signals sent to workers to stop them or on request"),
    family("circ_watcher_hook_failures_total", Kind::Counter, WATCHER, "Hooks that have failed"),
    family("circ_watcher_last_loss_time_seconds", Kind::Gauge, WATCHER, "When the watcher last lost a worker, since the epoch"),
    family("circ_watcher_resident_memory_bytes", Kind::Gauge, WATCHER, "Resident memory of all workers"),
    family("circ_process_cpu_seconds_total", Kind::Counter, PROCESS, "Processor time of a worker"),
    family("circ_process_cpu_percent", Kind::Gauge, PROCESS, "Per cent of one processor that a worker has used since the last look"),
    family("circ_process_resident_memory_bytes", Kind::Gauge, PROCESS, "Resident memory of a worker"),
    family("circ_process_virtual_memory_bytes", Kind::Gauge, PROCESS, "Virtual memory of a worker"),
    family("circ_process_threads", Kind::Gauge, PROCESS, "Threads of a worker"),
    family("circ_process_open_fds", Kind::Gauge, PROCESS, "Open files of a worker"),
    family("circ_process_start_time_seconds", Kind::Gauge, PROCESS, "When a worker was started, since the epoch"),
    family("circ_front_requests_total", Kind::Counter, &["daemon", "watcher", "class"], "Answered requests by the class of their status"),
    family("circ_front_refused_total", Kind::Counter, WATCHER, "Connections closed because what came was no proper request"),
    family("circ_front_request_duration_seconds", Kind::Histogram, WATCHER, "From the head of a request to the beginning of its answer"),
    family("circ_front_requests_in_flight", Kind::Gauge, WATCHER, "Requests that wait or are being handled"),
    family("circ_front_requests_queued", Kind::Gauge, WATCHER, "Requests that wait for a process"),
    family("circ_front_connections", Kind::Gauge, WATCHER, "Open connections"),
    family("circ_front_accepted_connections_total", Kind::Counter, WATCHER, "Accepted connections"),
    family("circ_front_received_bytes_total", Kind::Counter, WATCHER, "Bytes received from clients"),
    family("circ_front_sent_bytes_total", Kind::Counter, WATCHER, "Bytes sent to clients"),
    family("circ_front_workers", Kind::Gauge, WATCHER, "Processes of Python that are ready"),
    family("circ_front_worker_deaths_total", Kind::Counter, WATCHER, "Processes of Python that have died"),
    family("circ_front_python_seconds_total", Kind::Counter, WATCHER, "Time in which the application was at work, of all threads together"),
    family("circ_stream_bytes_total", Kind::Counter, &["daemon", "watcher", "stream"], "Bytes that workers have said"),
    family("circ_stream_dropped_bytes_total", Kind::Counter, &["daemon", "watcher", "stream"], "Bytes of them that were thrown away"),
    family("circ_socket_info", Kind::Info, &["daemon", "socket", "address"], "A socket that the daemon holds"),
    family("circ_socket_backlog_configured", Kind::Gauge, SOCKET, "Connections that may wait at a socket, as the configuration says"),
    family("circ_socket_backlog_limit", Kind::Gauge, SOCKET, "Connections that may wait at a socket, as the kernel has it"),
    family("circ_socket_backlog_waiting", Kind::Gauge, SOCKET, "Connections that wait at a socket to be accepted"),
    family("circ_socket_backlog_full", Kind::Gauge, SOCKET, "Whether the kernel takes no more connections for a socket"),
    family("circ_socket_reads_total", Kind::Counter, SOCKET, "Hundredths of a second in which there was something to read at a socket"),
    family("circ_agent_up", Kind::Gauge, DAEMON, "Whether an agent holds the daemon to a desired state"),
    family("circ_agent_drift", Kind::Gauge, DAEMON, "Whether the last run of the agent has left something that differs from the desired state"),
    family("circ_agent_last_run_time_seconds", Kind::Gauge, DAEMON, "When the last run of the agent began, since the epoch"),
    family("circ_agent_last_run_failed", Kind::Gauge, DAEMON, "Whether the last run of the agent has failed"),
    family("circ_agent_last_run_changed", Kind::Gauge, DAEMON, "Whether the last run of the agent has changed something"),
    family("circ_agent_runs_total", Kind::Counter, DAEMON, "Runs of the agent since it was started"),
];

/// The statuses that a watcher may have.
const STATUSES: [&str; 4] = ["active", "starting", "stopping", "stopped"];

/// How the text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's own, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The type of the response.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The one that an `Accept` header asks for.
    pub fn accepted(accept: &str) -> Format {
        let wanted = accept
            .split(',')
            .any(|kind| kind.trim().starts_with("application/openmetrics-text"));
        if wanted {
            Format::OpenMetrics
        } else {
            Format::Prometheus
        }
    }
}

/// What was seen of one daemon.
#[derive(Debug)]
pub struct Seen {
    /// What it is called.
    pub daemon: String,
    /// Its endpoint.
    pub endpoint: String,
    /// Its watchers, or why it does not answer.
    pub snapshot: Result<Snapshot, String>,
    /// Seconds that it took.
    pub took: f64,
    /// The status of its agent, if there is one.
    pub agent: Option<Value>,
}

/// Samples of all families, in the order of the table.
struct Samples(Vec<String>);

impl Samples {
    /// Adds a sample; what is not known is left out.
    fn put(&mut self, name: &str, values: &[&str], number: Option<f64>) {
        self.line(name, "", values, None, number);
    }

    /// Adds a sample whose name has an ending, and perhaps a label, that are not in its family.
    fn line(
        &mut self,
        name: &str,
        ending: &str,
        values: &[&str],
        more: Option<(&str, &str)>,
        number: Option<f64>,
    ) {
        let Some(number) = number.filter(|number| number.is_finite()) else {
            return;
        };
        let found = FAMILIES
            .iter()
            .zip(&mut self.0)
            .find(|(family, _)| family.name == name);
        let Some((family, text)) = found else {
            debug_assert!(false, "{name} is in no row of the table");
            return;
        };
        debug_assert_eq!(family.labels.len(), values.len(), "{name}");
        text.extend([name, ending]);
        let labels = family.labels.iter().copied().zip(values.iter().copied());
        for (at, (label, value)) in labels.chain(more).enumerate() {
            text.push_str(if at == 0 { "{" } else { "," });
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            // writing to a text does not fail
            let _ = write!(text, "{label}=\"{value}\"");
        }
        if !family.labels.is_empty() || more.is_some() {
            text.push('}');
        }
        let _ = writeln!(text, " {number}");
    }
}

impl Family {
    /// Its unit, as OpenMetrics names it: the end of its name.
    fn unit(&self) -> Option<&'static str> {
        let name = self.name.trim_end_matches("_total");
        let has = |unit: &&str| {
            name.strip_suffix(*unit)
                .is_some_and(|rest| rest.ends_with('_'))
        };
        UNITS.into_iter().find(has)
    }
}

/// The units that names end in.
const UNITS: [&str; 3] = ["seconds", "bytes", "percent"];

/// The text.
pub fn render(seen: &[Seen], format: Format) -> String {
    let mut samples = Samples(vec![String::new(); FAMILIES.len()]);
    for one in seen {
        let daemon = one.daemon.as_str();
        let up = flag(one.snapshot.is_ok());
        samples.put("circ_up", &[daemon, &one.endpoint], up);
        samples.put("circ_scrape_duration_seconds", &[daemon], Some(one.took));
        if let Ok(snapshot) = &one.snapshot {
            of_daemon(&mut samples, daemon, snapshot);
        }
        if one.snapshot.is_ok() || one.agent.is_some() {
            of_agent(&mut samples, daemon, one.agent.as_ref());
        }
    }
    let mut text = String::new();
    for (family, samples) in FAMILIES.iter().zip(samples.0) {
        if samples.is_empty() {
            continue;
        }
        let (name, kind) = match (format, family.kind) {
            (Format::OpenMetrics, Kind::Counter) => {
                (family.name.trim_end_matches("_total"), "counter")
            }
            (Format::OpenMetrics, Kind::Info) => (family.name.trim_end_matches("_info"), "info"),
            (Format::Prometheus, Kind::Counter) => (family.name, "counter"),
            (_, Kind::Gauge | Kind::Info) => (family.name, "gauge"),
            (_, Kind::Histogram) => (family.name, "histogram"),
        };
        let _ = writeln!(text, "# HELP {name} {}.", family.help);
        let _ = writeln!(text, "# TYPE {name} {kind}");
        if let (Format::OpenMetrics, Some(unit)) = (format, family.unit()) {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        text.push_str(&samples);
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn flag(is: bool) -> Option<f64> {
    Some(f64::from(u8::from(is)))
}

fn count(number: Option<u64>) -> Option<f64> {
    number.map(|number| number as f64)
}

fn of_daemon(samples: &mut Samples, daemon: &str, snapshot: &Snapshot) {
    let Identity {
        program,
        version,
        name,
        started,
        ..
    } = &snapshot.identity;
    let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
    let (version, name) = (or_empty(version), or_empty(name));
    samples.put(
        "circ_daemon_info",
        &[daemon, program, &version, &name],
        Some(1.0),
    );
    let labels = &[daemon];
    let usage = &snapshot.usage;
    samples.put("circ_daemon_start_time_seconds", labels, *started);
    samples.put("circ_daemon_cpu_seconds_total", labels, usage.cpu_seconds);
    samples.put(
        "circ_daemon_resident_memory_bytes",
        labels,
        count(usage.rss),
    );
    samples.put("circ_daemon_virtual_memory_bytes", labels, count(usage.vms));
    samples.put("circ_daemon_threads", labels, count(usage.threads));
    samples.put("circ_daemon_open_fds", labels, count(usage.fds));
    let identity = &snapshot.identity;
    for (command, number) in &identity.commands {
        samples.put(
            "circ_commands_total",
            &[daemon, command],
            Some(*number as f64),
        );
    }
    samples.put(
        "circ_rejected_messages_total",
        labels,
        count(identity.rejected),
    );
    samples.put(
        "circ_events_dropped_total",
        labels,
        count(identity.events_dropped),
    );
    samples.put(
        "circ_stats_dropped_total",
        labels,
        count(identity.stats_dropped),
    );
    for status in STATUSES {
        let watchers = snapshot
            .watchers
            .iter()
            .filter(|watcher| watcher.status == status);
        samples.put(
            "circ_watchers",
            &[daemon, status],
            Some(watchers.count() as f64),
        );
    }
    for watcher in &snapshot.watchers {
        of_watcher(samples, daemon, watcher);
    }
    for socket in &snapshot.sockets {
        let text = |key: &str| socket.get(key).and_then(Value::as_str).unwrap_or_default();
        let address = match socket.get("port").and_then(Value::as_u64) {
            Some(port) => format!("{}:{port}", text("host")),
            None => text("path").to_owned(),
        };
        samples.put(
            "circ_socket_info",
            &[daemon, text("name"), &address],
            Some(1.0),
        );
        let labels = &[daemon, text("name")];
        let number = |key: &str| socket.get(key).and_then(Value::as_f64);
        let full = socket.get("full").and_then(Value::as_bool);
        for (name, value) in [
            ("circ_socket_backlog_configured", number("backlog")),
            ("circ_socket_backlog_limit", number("limit")),
            ("circ_socket_backlog_waiting", number("waiting")),
            ("circ_socket_backlog_full", full.and_then(flag)),
            ("circ_socket_reads_total", number("reads")),
        ] {
            samples.put(name, labels, value);
        }
    }
}

fn of_watcher(samples: &mut Samples, daemon: &str, watcher: &Watcher) {
    let name = watcher.name.as_str();
    let labels = &[daemon, name];
    for status in STATUSES {
        let labels = &[daemon, name, status];
        samples.put(
            "circ_watcher_status",
            labels,
            flag(watcher.status == status),
        );
    }
    let counts = &watcher.counts;
    samples.put(
        "circ_watcher_processes",
        labels,
        Some(watcher.running as f64),
    );
    let wanted = watcher.wanted.map(|wanted| wanted as f64);
    samples.put("circ_watcher_processes_wanted", labels, wanted);
    let known = counts.started.is_some();
    let trouble = flag(watcher.trouble.is_some()).filter(|_| known);
    samples.put("circ_watcher_trouble", labels, trouble);
    samples.put("circ_watcher_starts_total", labels, count(counts.started));
    samples.put(
        "circ_watcher_start_failures_total",
        labels,
        count(counts.not_started),
    );
    samples.put(
        "circ_watcher_restarts_total",
        labels,
        count(counts.restarts),
    );
    for (code, number) in &counts.exits {
        let (reason, code) = reason(code);
        let labels = &[daemon, name, reason, &code];
        samples.put("circ_watcher_exits_total", labels, Some(*number as f64));
    }
    samples.put("circ_watcher_reloads_total", labels, count(counts.reloads));
    samples.put("circ_watcher_signals_total", labels, count(counts.kills));
    samples.put(
        "circ_watcher_hook_failures_total",
        labels,
        count(counts.hook_failures),
    );
    let last = watcher.last_exit.as_ref().and_then(|last| last.get("time"));
    samples.put(
        "circ_watcher_last_loss_time_seconds",
        labels,
        last.and_then(Value::as_f64),
    );
    samples.put(
        "circ_watcher_resident_memory_bytes",
        labels,
        count(watcher.rss),
    );
    for process in watcher.processes.iter().flatten() {
        of_process(samples, labels, process);
    }
    if let Some(front) = &watcher.front {
        of_front(samples, labels, front);
    }
    for (stream, told) in &watcher.streams {
        let labels = &[daemon, name, stream.as_str()];
        let number = |key: &str| told.get(key).and_then(Value::as_f64);
        samples.put("circ_stream_bytes_total", labels, number("bytes"));
        samples.put("circ_stream_dropped_bytes_total", labels, number("dropped"));
    }
}

/// What the web servers of a watcher count: under the names of its families without `circ_front_`.
fn of_front(samples: &mut Samples, watcher: &[&str; 2], front: &Value) {
    let [daemon, name] = *watcher;
    for family in FAMILIES {
        let key = family.name.strip_prefix("circ_front_");
        let Some(told) = key.and_then(|key| front.get(key)) else {
            continue;
        };
        let part = |key: &str| told.get(key).and_then(Value::as_f64);
        match (family.kind, told) {
            (Kind::Histogram, _) => {
                let buckets = told.get("buckets").and_then(Value::as_object);
                for (bound, number) in buckets.into_iter().flatten() {
                    let bound = Some(("le", bound.as_str()));
                    samples.line(family.name, "_bucket", watcher, bound, number.as_f64());
                }
                for end in ["sum", "count"] {
                    samples.line(family.name, &format!("_{end}"), watcher, None, part(end));
                }
            }
            (_, Value::Object(by_label)) => {
                for (label, number) in by_label {
                    samples.put(family.name, &[daemon, name, label], number.as_f64());
                }
            }
            (_, number) => samples.put(family.name, watcher, number.as_f64()),
        }
    }
}

fn of_process(samples: &mut Samples, watcher: &[&str; 2], process: &Process) {
    let pid = process.pid.to_string();
    let wid = process.wid.map_or(String::new(), |wid| wid.to_string());
    let labels = &[watcher[0], watcher[1], &wid, &pid];
    let Usage {
        cpu,
        cpu_seconds,
        rss,
        vms,
        threads,
        fds,
    } = &process.usage;
    samples.put("circ_process_cpu_seconds_total", labels, *cpu_seconds);
    samples.put("circ_process_cpu_percent", labels, *cpu);
    samples.put("circ_process_resident_memory_bytes", labels, count(*rss));
    samples.put("circ_process_virtual_memory_bytes", labels, count(*vms));
    samples.put("circ_process_threads", labels, count(*threads));
    samples.put("circ_process_open_fds", labels, count(*fds));
    samples.put("circ_process_start_time_seconds", labels, process.started);
}

fn of_agent(samples: &mut Samples, daemon: &str, status: Option<&Value>) {
    let labels = &[daemon];
    samples.put("circ_agent_up", labels, flag(status.is_some()));
    let Some(status) = status else { return };
    let is = |value: Option<&Value>| value.and_then(Value::as_bool).and_then(flag);
    samples.put("circ_agent_drift", labels, is(status.get("drift")));
    let last = status.get("last");
    let part = |key: &str| last.and_then(|last| last.get(key));
    let began = part("time").and_then(moment);
    samples.put("circ_agent_last_run_time_seconds", labels, began);
    samples.put("circ_agent_last_run_failed", labels, is(part("failed")));
    samples.put("circ_agent_last_run_changed", labels, is(part("changed")));
    let runs = part("run").and_then(Value::as_f64);
    samples.put("circ_agent_runs_total", labels, runs);
}

/// A moment, be it a number or a text, in seconds since the epoch.
fn moment(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => {
            let moment: jiff::Timestamp = text.parse().ok()?;
            Some(moment.as_millisecond() as f64 / 1000.0)
        }
        other => other.as_f64(),
    }
}

/// Why a worker has ended: `exit` and the code, or `signal` and its name.
fn reason(code: &str) -> (&'static str, String) {
    match code.strip_prefix('-') {
        None => ("exit", code.to_owned()),
        Some(number) => {
            let number_of: Option<i32> = number.parse().ok();
            let signal = number_of.and_then(|n| nix::sys::signal::Signal::try_from(n).ok());
            let name = signal.map(|signal| signal.as_str().to_owned());
            ("signal", name.unwrap_or_else(|| number.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};
    use std::collections::{BTreeMap, BTreeSet};

    fn seen() -> Seen {
        let process = Process {
            pid: 7,
            wid: Some(1),
            usage: Usage {
                rss: Some(4096),
                cpu_seconds: Some(0.25),
                ..Usage::default()
            },
            ..Process::default()
        };
        let mut watcher = Watcher {
            name: "a \"b\"\\\n".into(),
            status: "active".into(),
            wanted: Some(2),
            running: 1,
            processes: Some(vec![process]),
            streams: Map::from_iter([("stdout".into(), json!({"bytes": 9, "dropped": 1}))]),
            ..Watcher::default()
        };
        watcher.front = Some(
            json!({"requests_total": {"2xx": 4}, "connections": 2, "request_duration_seconds":
            {"buckets": {"0.1": 3, "+Inf": 4}, "sum": 0.25, "count": 4}}),
        );
        watcher.counts.exits = BTreeMap::from([("-9".into(), 2), ("3".into(), 1)]);
        Seen {
            daemon: "5555".into(),
            endpoint: "tcp://127.0.0.1:5555".into(),
            snapshot: Ok(Snapshot {
                time: 1.0,
                usage: Usage::default(),
                identity: Identity::default(),
                watchers: vec![watcher],
                sockets: vec![
                    json!({"name": "web", "host": "::1", "port": 80, "backlog": 5, "limit": 4,
                    "waiting": 5, "full": true, "reads": 8}),
                ],
            }),
            took: 0.5,
            agent: Some(
                json!({"drift": true, "last": {"time": "1970-01-01T00:00:10Z", "failed": false}}),
            ),
        }
    }

    #[test]
    fn samples_in_both_formats() {
        let text = render(&[seen()], Format::Prometheus);
        for line in [
            "# TYPE circ_watcher_exits_total counter",
            r#"circ_up{daemon="5555",endpoint="tcp://127.0.0.1:5555"} 1"#,
            r#"circ_watcher_exits_total{daemon="5555",watcher="a \"b\"\\\n",reason="signal",code="SIGKILL"} 2"#,
            r#"circ_watcher_exits_total{daemon="5555",watcher="a \"b\"\\\n",reason="exit",code="3"} 1"#,
            r#"circ_process_cpu_seconds_total{daemon="5555",watcher="a \"b\"\\\n",wid="1",pid="7"} 0.25"#,
            r#"circ_socket_backlog_full{daemon="5555",socket="web"} 1"#,
            r#"circ_socket_backlog_waiting{daemon="5555",socket="web"} 5"#,
            r#"circ_socket_reads_total{daemon="5555",socket="web"} 8"#,
            r#"circ_socket_info{daemon="5555",socket="web",address="::1:80"} 1"#,
            r#"circ_front_requests_total{daemon="5555",watcher="a \"b\"\\\n",class="2xx"} 4"#,
            r#"circ_front_connections{daemon="5555",watcher="a \"b\"\\\n"} 2"#,
            "# TYPE circ_front_request_duration_seconds histogram",
            r#"circ_front_request_duration_seconds_bucket{daemon="5555",watcher="a \"b\"\\\n",le="+Inf"} 4"#,
            r#"circ_front_request_duration_seconds_sum{daemon="5555",watcher="a \"b\"\\\n"} 0.25"#,
            r#"circ_agent_drift{daemon="5555"} 1"#,
            r#"circ_agent_last_run_time_seconds{daemon="5555"} 10"#,
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
        assert!(!text.contains("# EOF") && !text.contains("circ_watcher_starts_total"));
        let text = render(&[seen()], Format::OpenMetrics);
        assert!(
            text.contains("# TYPE circ_watcher_exits counter\n"),
            "{text}"
        );
        assert!(text.contains("# TYPE circ_daemon info\n"), "{text}");
        for unit in [
            "circ_process_cpu_seconds seconds",
            "circ_stream_bytes bytes",
            "circ_front_request_duration_seconds seconds",
        ] {
            assert!(text.contains(&format!("# UNIT {unit}\n")), "{unit}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_daemon_that_is_away_is_told_so() {
        let away = Seen {
            snapshot: Err("away".into()),
            agent: None,
            ..seen()
        };
        let text = render(&[away], Format::Prometheus);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples.len(), 2, "{text}");
        assert!(samples[0].ends_with(" 0"), "{text}");
    }

    #[test]
    fn the_table_is_sound() {
        let mut names = BTreeSet::new();
        for family in FAMILIES {
            // OpenMetrics leaves these endings out of the names of families
            let name = family.name.trim_end_matches("_total");
            assert!(names.insert(name.trim_end_matches("_info")), "{name}");
            assert_eq!(
                family.name.ends_with("_total"),
                family.kind == Kind::Counter,
                "{}",
                family.name
            );
            assert_eq!(
                family.name.ends_with("_info"),
                family.kind == Kind::Info,
                "{}",
                family.name
            );
            assert_eq!(family.labels[0], "daemon");
        }
    }
}
