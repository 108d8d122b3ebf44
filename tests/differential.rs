//! The real circusd is the referee: both daemons run the same circus.ini, get the same requests, and must give the
//! same replies and publish the same events. [`table::DIFFERENCES`] holds every difference that is wanted, and why;
//! an entry that no longer differs fails too.

#[path = "differential/asking.rs"]
mod asking;
#[path = "differential/changing.rs"]
mod changing;
#[path = "differential/compare.rs"]
mod compare;
#[path = "differential/masking.rs"]
mod masking;
#[path = "differential/options.rs"]
mod options;
#[path = "differential/run.rs"]
mod run;
#[path = "differential/running.rs"]
mod running;
#[path = "differential/scenarios.rs"]
mod scenarios;
mod support;
#[path = "differential/table.rs"]
mod table;

use support::Program;

/// How often a scenario is played again because circusd raced with itself.
const ATTEMPTS: usize = 4;

/// Plays a scenario against circusd and circ, and fails on every difference that the table does not name.
///
/// What circusd publishes depends at places on when its periodic check comes by. So a difference counts only if two
/// circusd, played at the same time, agree with each other and with the one that circ was compared with; otherwise the
/// comparison proves nothing and is made again.
#[track_caller]
fn agree(scenario: &str) {
    let scenario = scenarios::named(scenario);
    let mut told = String::new();
    for _ in 0..ATTEMPTS {
        let [circus, circ] = run::play(&scenario, [Program::Circusd, Program::Circ]);
        let problems = compare::unexpected(scenario.name, &circus, &circ, table::DIFFERENCES);
        if problems.is_empty() {
            return;
        }
        told = format!(
            "{}: {} of {} steps are not as they should be:\n\n{}",
            scenario.name,
            problems.len(),
            circus.len(),
            problems.join("\n\n")
        );
        let [one, other] = run::play(&scenario, [Program::Circusd, Program::Circusd]);
        let steady = [&one, &other]
            .iter()
            .all(|again| compare::unexpected(scenario.name, &circus, again, &[]).is_empty());
        assert!(!steady, "{told}");
        eprintln!("circusd raced with itself; once more: {told}");
    }
    panic!("{told}");
}

/// Two circusd must agree with each other (once in a few attempts), or the comparison above would prove nothing.
#[track_caller]
fn referee_is_steady(scenario: &str) {
    let scenario = scenarios::named(scenario);
    let mut told = String::new();
    for _ in 0..ATTEMPTS {
        let [one, other] = run::play(&scenario, [Program::Circusd, Program::Circusd]);
        let problems = compare::unexpected(scenario.name, &one, &other, &[]);
        if problems.is_empty() {
            return;
        }
        told = format!(
            "{}: circusd differs from itself:\n\n{}",
            scenario.name,
            problems.join("\n\n")
        );
        eprintln!("once more: {told}");
    }
    panic!("{told}");
}

/// Every option of a file and every command of Circus is in some scenario, or it is said why not.
#[test]
fn every_option_and_every_command_is_played() {
    let scenarios = scenarios::all();
    let files: String = scenarios.iter().map(|s| s.ini).collect();
    let steps = scenarios.iter().flat_map(|s| &s.steps);
    let asked: Vec<&str> = steps
        .filter_map(|step| match &step.does {
            scenarios::Does::Command(command, _) => Some(*command),
            _ => None,
        })
        .collect();
    for command in circ::wire::COMMANDS.iter().filter(|spec| spec.circus) {
        assert!(asked.contains(&command.name), "{}", command.name);
    }
    let is_there = |name: &str| {
        let name = name.replace("rlimits", "rlimit_nofile");
        files.lines().any(|line| {
            let key = line.split(['=', '.']).next().unwrap_or("").trim();
            key == name
        })
    };
    let options = circ::options::WATCHER_OPTIONS.iter().map(|spec| spec.name);
    let keys = circ::config::keys::CIRCUS_KEYS
        .iter()
        .chain(circ::config::keys::SOCKET_KEYS)
        .map(|key| key.name);
    let compatibility = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/compatibility.md");
    let compatibility = std::fs::read_to_string(compatibility).expect("the page is there");
    for name in options.chain(keys) {
        let elsewhere = options::ELSEWHERE.iter().any(|(other, _)| *other == name);
        // circusd keeps those as it keeps every key that it does not know.
        let ours = compatibility.contains(&format!("\n| `{name}` | added: "));
        // A site writes this one, and the environment has sections of its own.
        let written = name == "endpoint" || name == "env" && files.contains("[env:");
        assert!(
            written || ours || elsewhere != is_there(name),
            "{name} is in no scenario, or in one although it is said to be elsewhere"
        );
    }
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        mod circ_agrees_with_circusd {
            $(#[test] fn $name() { super::agree(stringify!($name)); })*
        }
        mod circusd_agrees_with_itself {
            $(#[test] fn $name() { super::referee_is_steady(stringify!($name)); })*
        }
        /// Every scenario has its tests, and together they send over a hundred requests.
        #[test]
        fn every_scenario_is_played() {
            let played = [$(stringify!($name)),*];
            let written: Vec<&str> = scenarios::all().iter().map(|s| s.name).collect();
            assert_eq!(written, played);
            let requests: usize = scenarios::all().iter().map(|s| s.steps.len()).sum();
            assert!(requests > 100, "only {requests} requests");
            table::check(&scenarios::all());
        }
    };
}

scenarios!(
    questions,
    malformed,
    counts,
    start_and_stop,
    restarts,
    reloads,
    signals,
    kills,
    families,
    adding,
    setting,
    configuration,
    every_option,
    quitting
);
