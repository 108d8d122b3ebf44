//! `circ events` and `circ listen`: the events of a daemon, printed, given to commands, or told to a listener that was written
//! for supervisor. A daemon that goes away is waited for, and what may have been missed is said.

pub mod exec;
mod feed;
mod filter;
mod line;
mod listener;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Map, Value};

use self::exec::{Pool, Program};
use self::feed::Heard;
use self::filter::Filter;
use self::line::Event;
use self::listener::mapping::{Known, Mapper};
use self::listener::rpc::Rpc;
use self::listener::{Listener, Words, protocol};
use super::connection::{self, seconds};
use super::status::asking::{call, now};
use super::{EXIT_USAGE, interrupts, output};
use crate::wire::Client;
use crate::wire::event::resource_name;

/// News that may wait for their turn; what comes after them waits in the connection.
const WAITING: usize = 1024;
/// From one look at the clock to the next, for a listener's sake.
const LOOK: Duration = Duration::from_millis(500);

const AFTER: &str = "Events of a daemon that goes away are missed; it is waited for, and circ.lost and circ.back (with the \
gap in seconds) stand among the events.\n\n\
A command that is run for an event finds it in CIRC_EVENT, CIRC_TOPIC, CIRC_WATCHER, CIRC_TIME, CIRC_PID, CIRC_EXIT_CODE or \
CIRC_SIGNAL, CIRC_HOOK and CIRC_ERROR, and as a line of JSON on its standard input.\n\n\
Examples:\n  circ events --watcher 'web*' --event reap,hook_failure\n  circ events watcher.web. --json\n  \
circ events --event reap,lost --exec '/usr/local/bin/alert --urgent'\n  \
circ events --eventlistener 'crashmail -a -m ops@example.com' --events PROCESS_STATE_EXITED";

/// Arguments of `circ events`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
#[group(skip)]
pub struct Args {
    /// Beginnings of the topics to follow, such as watcher.web.; everything without it
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Only of watchers of this name or pattern
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    watcher: Vec<String>,
    /// Only what happened: spawn, reap, kill, start, stop, reload, updated, add, remove, hook_success, hook_failure, lost, back
    #[arg(short, long, value_name = "EVENT", value_delimiter = ',', value_parser = filter::action)]
    event: Vec<String>,
    /// End after so many events
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Run this command for each event instead of printing it
    #[arg(
        short = 'x',
        long,
        value_name = "COMMAND",
        conflicts_with = "eventlistener"
    )]
    exec: Option<String>,
    /// The command is for /bin/sh; without it, it is words of which none is interpreted
    #[arg(long)]
    shell: bool,
    /// Run so many commands at a time; with 1 they run in the order of the events
    #[arg(long, value_name = "COUNT", default_value_t = 1, requires = "exec", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Seconds after which a command is ended
    #[arg(long, value_name = "SECONDS", default_value = "60", requires = "exec", value_parser = seconds)]
    exec_timeout: Duration,
    /// Run this event listener of supervisor, and tell it of the events in supervisor's protocol
    #[arg(short = 'l', long, value_name = "COMMAND")]
    eventlistener: Option<String>,
    /// The types of events that the listener wants, as in supervisor's option of this name
    #[arg(long, value_name = "TYPES", value_delimiter = ',', default_value = "EVENT", requires = "eventlistener", value_parser = protocol::kind)]
    events: Vec<String>,
    /// Events that may wait for the listener; of more the oldest are dropped
    #[arg(long, value_name = "COUNT", default_value_t = 10, requires = "eventlistener", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    buffer: u32,
    /// Seconds that a worker has to live to be RUNNING for the listener; one that ends before is in BACKOFF
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 1.0,
        requires = "eventlistener"
    )]
    startsecs: f64,
    /// Exit codes that are expected, for what the listener is told of an exit
    #[arg(
        long,
        value_name = "CODES",
        value_delimiter = ',',
        default_value = "0",
        requires = "eventlistener"
    )]
    exitcodes: Vec<i64>,
    #[command(flatten)]
    connection: connection::Args,
}

/// What the main thread hears.
enum News {
    Heard(Heard),
    Listener(Words),
    Signal,
}

impl From<Heard> for News {
    fn from(heard: Heard) -> Self {
        News::Heard(heard)
    }
}

impl From<Words> for News {
    fn from(words: Words) -> Self {
        News::Listener(words)
    }
}

/// Runs `circ events`.
pub fn run(args: Args, before: connection::Args) -> ExitCode {
    let connection = args.connection.or(before);
    let parsed = |text: &Option<String>| {
        let program = text.as_ref().map(|text| Program::parse(text, args.shell));
        program.transpose()
    };
    let programs = parsed(&args.exec).and_then(|exec| Ok((exec, parsed(&args.eventlistener)?)));
    let (exec, listener) = match programs {
        Ok(programs) => programs,
        Err(why) => {
            output::error(&why);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let filter = Filter {
        topics: args.topics,
        watchers: args.watcher,
        actions: args.event,
    };
    let endpoint = connection.endpoint_text();
    let (sender, news) = mpsc::sync_channel(WAITING);
    if exec.is_some() || listener.is_some() {
        let signals = sender.clone();
        let ends = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
        interrupts::hear(&ends, move |_| signals.send(News::Signal).is_ok());
    }
    feed::listen(connection.clone(), sender.clone());
    if let Some(program) = listener {
        let mapper = Mapper::new(args.startsecs, args.exitcodes);
        let mapper = Arc::new(Mutex::new(mapper));
        let rpc = match Rpc::open(connection.clone(), mapper.clone()) {
            Ok(rpc) => rpc,
            Err(error) => {
                output::error(&format!("cannot make the listener's socket: {error}"));
                return ExitCode::FAILURE;
            }
        };
        let room = args.buffer as usize;
        let variables = vec![
            ("CIRC_ENDPOINT".to_string(), endpoint),
            ("SUPERVISOR_SERVER_URL".to_string(), rpc.url()),
        ];
        let listener = Listener::new(program, args.events, room, variables, sender);
        return Telling {
            connection,
            filter,
            mapper,
            _rpc: rpc,
            names: BTreeMap::new(),
            asked_at: Instant::now(),
        }
        .run(listener, &news);
    }
    match exec {
        Some(program) => {
            let jobs = usize::from(args.jobs);
            let pool = Pool::new(program, jobs, args.exec_timeout, endpoint);
            run_commands(pool, &filter, args.count, &news)
        }
        None => print(&filter, args.count, connection.json, &news),
    }
}

/// Runs `circ listen`: as circusctl's, nothing but the daemon's own events is printed.
pub fn listen(topics: Vec<String>, connection: &connection::Args) -> ExitCode {
    let (sender, news) = mpsc::sync_channel(WAITING);
    feed::listen(connection.clone(), sender);
    let topics = match topics.is_empty() {
        true => vec!["watcher.".to_string()],
        false => topics,
    };
    let filter = Filter {
        topics,
        ..Filter::default()
    };
    print(&filter, None, connection.json, &news)
}

fn nobody(code: u8, why: &str) -> ExitCode {
    output::error(why);
    ExitCode::from(code)
}

/// Says on standard error what somebody who does not see it otherwise has to know.
fn warn_of_gaps(event: &Event) {
    if event.topic == "circ.lost" {
        let why = event.payload.get("reason").map(output::plain);
        let why = why.unwrap_or_default();
        output::plain_error(&format!(
            "lost the daemon: {why}; its events are missed until it is back"
        ));
    } else if event.topic == "circ.back" {
        let gap = event.payload.get("gap").and_then(Value::as_f64);
        let gap = gap.unwrap_or_default();
        output::plain_error(&format!(
            "the daemon is back; events of {gap:.1} s may have been missed"
        ));
    }
}

fn print(filter: &Filter, count: Option<u64>, json: bool, news: &Receiver<News>) -> ExitCode {
    let mut left = count;
    for one in news {
        match one {
            News::Heard(Heard::Event(event)) if filter.wants(&event) => {
                if !output::line(&event.line(json)) {
                    return ExitCode::SUCCESS;
                }
                left = left.map(|left| left - 1);
                if left == Some(0) {
                    return ExitCode::SUCCESS;
                }
            }
            News::Heard(Heard::Event(event)) => warn_of_gaps(&event),
            News::Heard(Heard::Nobody(code, why)) => return nobody(code, &why),
            _ => {}
        }
    }
    ExitCode::SUCCESS
}

fn run_commands(
    pool: Pool,
    filter: &Filter,
    count: Option<u64>,
    news: &Receiver<News>,
) -> ExitCode {
    let mut left = count;
    for one in news {
        match one {
            News::Heard(Heard::Event(event)) => {
                warn_of_gaps(&event);
                if filter.wants(&event) {
                    pool.submit(event);
                    left = left.map(|left| left - 1);
                    if left == Some(0) {
                        pool.drain();
                        return ExitCode::SUCCESS;
                    }
                }
            }
            News::Heard(Heard::Nobody(code, why)) => return nobody(code, &why),
            News::Signal => {
                pool.close();
                return ExitCode::SUCCESS;
            }
            News::Heard(Heard::Connected) | News::Listener(_) => {}
        }
    }
    ExitCode::SUCCESS
}

/// The daemon's side of a listener.
struct Telling {
    connection: connection::Args,
    filter: Filter,
    mapper: Arc<Mutex<Mapper>>,
    /// Held for its drop.
    _rpc: Rpc,
    /// Watchers by the names that topics have of them.
    names: BTreeMap<String, String>,
    /// When the daemon was last asked about those that got a signal.
    asked_at: Instant,
}

impl Telling {
    fn run(mut self, mut listener: Listener<News>, news: &Receiver<News>) -> ExitCode {
        loop {
            listener.submit(self.mapper().tick(now()));
            if self.asked_at.elapsed() >= LOOK {
                self.asked_at = Instant::now();
                let doubtful = self.mapper().doubtful();
                for watcher in doubtful {
                    let pids = self.pids(&watcher);
                    let said = pids.map(|pids| self.mapper().present(&watcher, &pids));
                    listener.submit(said.unwrap_or_default());
                }
            }
            listener.go_on();
            let due = listener.due().saturating_duration_since(Instant::now());
            let wait = match due.is_zero() {
                true => LOOK,
                false => due.min(LOOK),
            };
            match news.recv_timeout(wait) {
                Ok(News::Heard(Heard::Connected)) => {
                    let known = self.watchers();
                    listener.submit(self.mapper().connected(&known, now()));
                }
                Ok(News::Heard(Heard::Event(event))) => {
                    warn_of_gaps(&event);
                    let of_watcher = event.watcher().is_some();
                    if !of_watcher || self.filter.wants(&event) {
                        if let ("add" | "updated" | "start", Some(watcher)) =
                            (event.action(), event.watcher())
                            && let Some(wanted) = self.wanted(watcher)
                        {
                            self.mapper().wanted(watcher, wanted);
                        }
                        listener.submit(self.mapper().event(&event, now()));
                    }
                }
                Ok(News::Heard(Heard::Nobody(code, why))) => {
                    listener.close();
                    return nobody(code, &why);
                }
                Ok(News::Listener(words)) => listener.hear(words),
                Ok(News::Signal) | Err(RecvTimeoutError::Disconnected) => {
                    listener.close();
                    return ExitCode::SUCCESS;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn mapper(&self) -> MutexGuard<'_, Mapper> {
        // Each change of it is whole, whoever panicked with it in hand.
        self.mapper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, command: &str, properties: Map<String, Value>) -> Option<Map<String, Value>> {
        let route = self.connection.route().ok()?;
        let mut client = Client::connect(&route.endpoint, self.connection.timeout()).ok()?;
        call(&mut client, command, properties).ok()
    }

    /// What is asked about a watcher, by its name in topics.
    fn about(&self, watcher: &str) -> Map<String, Value> {
        let name = self.names.get(watcher).map_or(watcher, String::as_str);
        Map::from_iter([("name".to_string(), Value::from(name))])
    }

    fn pids(&self, watcher: &str) -> Option<Vec<i64>> {
        let reply = self.ask("list", self.about(watcher));
        // A watcher that is gone has none.
        let Some(reply) = reply else {
            return self.ask("numwatchers", Map::new()).map(|_| Vec::new());
        };
        let pids = reply.get("pids")?.as_array()?;
        Some(pids.iter().filter_map(Value::as_i64).collect())
    }

    fn wanted(&self, watcher: &str) -> Option<u64> {
        let mut asked = self.about(watcher);
        asked.insert("keys".to_string(), vec!["numprocesses"].into());
        self.ask("get", asked)?
            .get("options")?
            .get("numprocesses")?
            .as_u64()
    }

    /// The watchers that are there, with their pids and how many of them are wanted.
    fn watchers(&mut self) -> Vec<Known> {
        let reply = self.ask("status", Map::new()).unwrap_or_default();
        let statuses = reply.get("statuses").and_then(Value::as_object);
        let names: Vec<String> = statuses.into_iter().flat_map(Map::keys).cloned().collect();
        self.names = names
            .into_iter()
            .map(|name| (resource_name(&name), name))
            .collect();
        let known = |(group, watcher): (&String, &String)| {
            let pids = self.pids(group).unwrap_or_default();
            Known {
                group: group.clone(),
                watcher: watcher.clone(),
                wanted: self.wanted(group).unwrap_or(pids.len() as u64),
                pids,
            }
        };
        self.names.iter().map(known).collect()
    }
}
