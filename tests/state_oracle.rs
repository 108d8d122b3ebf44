//! The real Circus as the judge of `circ state apply`: after an edit it reads the intended values, and every other
//! section as before, over generated configurations and desired states.
//!
//! `CIRC_ORACLE_SEED` replays one case, `CIRC_ORACLE_FILES` sets how many there are.

mod support;

#[path = "ini_oracle/config.rs"]
mod config;
#[path = "state/generated.rs"]
#[allow(dead_code)] // Other test programs use the rest.
mod generated;
#[path = "ini_oracle/oracle.rs"]
#[allow(dead_code)] // Other test programs use the rest.
mod oracle;
#[path = "ini_oracle/random.rs"]
#[allow(dead_code)] // Only its chance is used here.
mod random;
#[path = "ini_oracle/site.rs"]
#[allow(dead_code)] // Only its environment is used here.
mod site;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use circ::state::document::{self, Format};
use circ::state::{self, Settings};
use oracle::Oracle;
use random::Chance;

/// The seeds to run: one that was asked for, or all.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("CIRC_ORACLE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CIRC_ORACLE_FILES").unwrap_or(usual),
    }
}

/// A directory in memory where there is one: thousands of files are flushed.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a directory for the files")
}

#[test]
fn circus_reads_what_was_wanted_and_the_rest_as_before() {
    let mut oracle = Oracle::start();
    let (mut edited, mut same, mut refused) = (0, 0, 0);
    for seed in seeds(3600) {
        let mut chance = Chance::new(seed);
        let dir = directory();
        let main = generated::configuration(&mut chance, dir.path());
        let state = generated::desired(&mut chance);
        if main != "circus.ini" {
            // Circus reads no circus.toml.
            continue;
        }
        let ask = json!({"op": "config", "path": dir.path().join(main), "cwd": dir.path(), "environ": site::environ()});
        let before = oracle.ask(&ask);
        let settings = Settings {
            config: Some(PathBuf::from(main)),
            live: false,
            ..Settings::new(dir.path().to_path_buf(), site::environ())
        };
        let wanted = document::parse(state.to_string().as_bytes(), "desired.json", Format::Json)
            .unwrap_or_else(|error| panic!("the generated state is wrong: {error}\n{state:#}"));
        let report = state::apply(&wanted, &settings);
        if report.failed {
            refused += 1;
            continue;
        }
        match report.changed {
            true => edited += 1,
            false => same += 1,
        }
        let what = format!("seed {seed}\n{state:#}");
        // Both read the edited files alike, every section and every option.
        let both = config::same_config(&mut oracle, dir.path(), main, &what);
        assert!(both, "Circus does not accept it any more: {what}");
        let after = oracle.ask(&ask);
        let told = || format!("{what}\nbefore: {before:#}\nafter: {after:#}");
        assert_sections_stay(&before, &after, &state, &told);
        assert_wanted(&after, &state, &told);
    }
    println!("{edited} edited, {same} as wanted already, {refused} refused");
    assert!(
        edited > 2 * (refused + same) || seeds(3600).count() < 100,
        "{edited} edited, {same} as wanted already, {refused} refused"
    );
}

fn table<'a>(state: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    state[key].as_object().into_iter().flatten()
}

/// May the state change this section?
fn is_spoken_of(section: &str, state: &Value) -> bool {
    let named = |kind: &str, name: &str| {
        table(state, kind).any(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    match section.split_once(':') {
        Some(("watcher" | "env", name)) => named("watcher", name) || state["prune"] == true,
        Some((kind @ ("socket" | "plugin"), name)) => named(kind, name) || state["prune"] == true,
        _ => state[section].is_object(),
    }
}

/// No section is lost, none comes that nobody spoke of, and the others hold what they held.
fn assert_sections_stay(before: &Value, after: &Value, state: &Value, told: &dyn Fn() -> String) {
    let both = [before, after].map(|side| side["sections"].as_object().expect("its sections"));
    for (section, held) in both[0]
        .iter()
        .filter(|(name, _)| !is_spoken_of(name, state))
    {
        assert_eq!(both[1].get(section), Some(held), "[{section}]: {}", told());
    }
    for section in both[1].keys() {
        assert!(
            both[0].contains_key(section) || is_spoken_of(section, state),
            "[{section}] came: {}",
            told()
        );
    }
}

/// What Circus would run is what was wanted.
fn assert_wanted(after: &Value, state: &Value, told: &dyn Fn() -> String) {
    let watchers: Vec<&Value> = after["watchers"].as_array().into_iter().flatten().collect();
    for (name, wanted) in table(state, "watcher") {
        let found = watchers.iter().find(|made| {
            made["name"]
                .as_str()
                .is_some_and(|n| n.eq_ignore_ascii_case(name))
        });
        assert_eq!(
            found.is_some(),
            wanted["state"] != "absent",
            "{name}: {}",
            told()
        );
        let Some(made) = found.map(|found| &found["made"]) else {
            continue;
        };
        for (key, wanted) in wanted.as_object().into_iter().flatten() {
            let plain =
                wanted.is_number() || wanted.is_boolean() || key == "cmd" || key == "working_dir";
            if !plain || key == "stop_signal" {
                continue;
            }
            let found = &made[key.as_str()];
            let same = match wanted.is_number() {
                true => found.as_f64() == wanted.as_f64(),
                false => found == wanted,
            };
            assert!(same, "{name}: Circus reads {key} as {found}: {}", told());
        }
        for (variable, value) in table(wanted, "env") {
            let found = &made["env"][variable.as_str()];
            let expected = match value {
                // Another section may still give it.
                Value::Null => continue,
                // Which variables are replaced there, and which not, was compared above.
                Value::String(text) if text.contains("$(") => continue,
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(found, &json!(expected), "{name}: {variable}: {}", told());
        }
    }
}
