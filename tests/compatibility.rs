//! docs/compatibility.md is complete and honest: what the installed Circus has and what circ's tables have, has a row;
//! each row names tests that exist, or says why there is nothing to test.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use circ::config::keys::{CIRCUS_KEYS, SOCKET_KEYS};
use circ::options::streams::{STREAM_CLASSES, STREAM_KEYS};
use circ::options::{HOOKS, WATCHER_OPTIONS};
use circ::wire::COMMANDS;
use serde_json::Value;
use support::venv;

/// Sections of the page, and what of the installed Circus stands there.
const SECTIONS: &[(&str, &str)] = &[
    ("Options of `[circus]`", "circus"),
    ("Options of `[watcher:NAME]`", "watcher"),
    ("Options of `[socket:NAME]`", "socket"),
    ("Options of every `[plugin:NAME]`", "plugin"),
    ("Commands", "commands"),
    ("Events", "events"),
    ("Statistics of a process", "statistics"),
    ("Hooks", "hooks"),
    ("Stream classes and their options", "streams"),
    ("Plugins and their options", "plugins"),
    ("Programs and their flags", "flags"),
    ("Environment variables", "environment"),
];

/// One row of a table.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    name: String,
    /// Between the name and the verdict; only commands have it.
    properties: BTreeSet<String>,
    verdict: String,
    tests: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/compatibility.md")).unwrap()
}

/// The rows of each section.
fn rows(page: &str) -> BTreeMap<String, Vec<Row>> {
    let mut sections: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let mut section = String::new();
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.to_string();
        }
        let Some(cells) = line.strip_prefix("| `") else {
            continue;
        };
        let cells: Vec<&str> = cells.trim_end_matches(" |").split(" | ").collect();
        let [name, rest @ .., verdict, tests] = cells.as_slice() else {
            panic!("no row: {line}");
        };
        sections.entry(section.clone()).or_default().push(Row {
            name: name.trim_end_matches('`').to_string(),
            properties: rest.iter().flat_map(|cell| typed(cell)).collect(),
            verdict: verdict.to_string(),
            tests: typed(tests),
        });
    }
    sections
}

/// What stands between backticks.
fn typed(cell: &str) -> Vec<String> {
    let parts = cell.split('`').enumerate();
    parts
        .filter(|(at, _)| at % 2 == 1)
        .map(|(_, part)| part.to_string())
        .collect()
}

/// What the installed Circus has, as names of rows; commands with their properties.
fn circus() -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let output = Command::new(venv().python())
        .arg("-B")
        .arg(root().join("tests/compatibility/enumerate.py"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lists: BTreeMap<String, Value> = serde_json::from_slice(&output.stdout).unwrap();
    let texts = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(String::from))
            .collect()
    };
    lists
        .iter()
        .map(|(kind, list)| {
            let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for name in texts(list) {
                names.insert(name, BTreeSet::new());
            }
            for (name, parts) in list.as_object().into_iter().flatten() {
                names.insert(name.clone(), BTreeSet::new());
                match kind.as_str() {
                    "commands" => {
                        names.insert(name.clone(), texts(parts).into_iter().collect());
                    }
                    kind => {
                        let between = if kind == "flags" { " " } else { "." };
                        for part in texts(parts) {
                            names.insert(format!("{name}{between}{part}"), BTreeSet::new());
                        }
                    }
                }
            }
            (kind.clone(), names)
        })
        .collect()
}

/// What circ's own tables have, by the same kinds.
fn circ() -> BTreeMap<&'static str, BTreeSet<String>> {
    let owned = |names: &mut dyn Iterator<Item = &str>| names.map(String::from).collect();
    BTreeMap::from([
        ("circus", owned(&mut CIRCUS_KEYS.iter().map(|key| key.name))),
        ("socket", owned(&mut SOCKET_KEYS.iter().map(|key| key.name))),
        (
            "watcher",
            owned(&mut WATCHER_OPTIONS.iter().map(|spec| spec.name)),
        ),
        (
            "commands",
            owned(&mut COMMANDS.iter().map(|spec| spec.name)),
        ),
        ("hooks", owned(&mut HOOKS.iter().copied())),
        ("streams", streams()),
    ])
}

/// The classes of streams, those keys that are Circus's by class, and those that are circ's own.
fn streams() -> BTreeSet<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for spec in STREAM_CLASSES {
        names.insert(spec.name.to_string());
    }
    for key in STREAM_KEYS.iter().filter(|key| key.name != "class") {
        let mut takers = STREAM_CLASSES
            .iter()
            .filter(|spec| key.classes.is_empty() || key.classes.contains(&spec.class));
        if key.circus {
            let takers = takers.filter(|spec| spec.circus);
            names.extend(takers.map(|spec| format!("{}.{}", spec.name, key.name)));
        } else if let Some(spec) = takers.next() {
            // One row is enough for a key that several classes have in the same way.
            names.insert(format!("{}.{}", spec.name, key.name));
        }
    }
    names
}

#[test]
fn everything_has_a_row() {
    let (rows, circus, circ) = (rows(&page()), circus(), circ());
    let mut problems = Vec::new();
    for (title, kind) in SECTIONS {
        let rows = rows.get(*title).map(Vec::as_slice).unwrap_or_default();
        let theirs = &circus[*kind];
        assert!(!theirs.is_empty(), "Circus has no {kind}?");
        let nothing = BTreeSet::new();
        let ours = circ.get(kind).unwrap_or(&nothing);
        for (name, properties) in theirs {
            match rows.iter().find(|row| row.name == *name) {
                None => problems.push(format!("{title}: Circus has {name}")),
                Some(row) if !row.properties.is_superset(properties) => problems.push(format!(
                    "{title}: {name} has {properties:?}, the row says {:?}",
                    row.properties
                )),
                Some(row) if row.verdict.starts_with("added") => {
                    problems.push(format!("{title}: {name} was not added, Circus has it"));
                }
                Some(_) => {}
            }
        }
        for name in ours {
            if !rows.iter().any(|row| row.name == *name) {
                problems.push(format!("{title}: circ has {name}"));
            }
        }
        for row in rows {
            let known = theirs.contains_key(&row.name);
            if !known && !row.verdict.starts_with("added: ") {
                problems.push(format!("{title}: Circus has no {}; `added`?", row.name));
            }
            if !row.verdict.starts_with("not")
                && circ.contains_key(kind)
                && !ours.contains(&row.name)
            {
                // Keys that are only kept have no row of their own in circ's table.
                let kept = row.verdict.contains("nothing") || row.verdict.contains("no effect");
                if !kept {
                    problems.push(format!("{title}: circ has no {}", row.name));
                }
            }
        }
        let names: BTreeSet<&String> = rows.iter().map(|row| &row.name).collect();
        if names.len() != rows.len() {
            problems.push(format!("{title}: a name stands there twice"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The properties of circ's own commands, as its table of commands has them.
#[test]
fn the_properties_of_commands_are_those_of_the_table() {
    let rows = rows(&page());
    let mut problems = Vec::new();
    for row in &rows["Commands"] {
        let Some(spec) = COMMANDS.iter().find(|spec| spec.name == row.name) else {
            continue;
        };
        let words = spec.words.iter().map(|word| word.property);
        let switches = spec.switches.iter().map(|switch| switch.property);
        for property in words.chain(switches).chain(spec.required.iter().copied()) {
            if !row.properties.contains(property) {
                problems.push(format!("{} has {property}", row.name));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn verdicts_and_tests_are_what_they_should_be() {
    let mut problems = Vec::new();
    for (title, rows) in rows(&page()) {
        for row in rows {
            if let Some(problem) = problem_of(&row) {
                problems.push(format!("{title}: {}: {problem}", row.name));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// What is wrong with a row.
fn problem_of(row: &Row) -> Option<String> {
    let verdict = row.verdict.as_str();
    let reasoned = |start: &str| {
        verdict
            .strip_prefix(start)
            .is_some_and(|reason| reason.trim().len() > 10)
    };
    let is_same = verdict == "same"
        || (verdict.starts_with("same: ") || verdict.starts_with("same, "))
            && !verdict.starts_with("same, and better")
        || reasoned("same, and better: ");
    let is_not = reasoned("not: ");
    if !is_same && !is_not && !reasoned("added: ") {
        return Some(format!("no verdict: {verdict}"));
    }
    if row.tests.is_empty() && !is_not {
        return Some("names no test".to_string());
    }
    row.tests
        .iter()
        .find(|test| !exists(test))
        .map(|test| format!("there is no test {test}"))
}

/// Whether `FILE::TEST` is there: a test function, or a scenario of the differential test.
fn exists(test: &str) -> bool {
    let Some((file, name)) = test.split_once("::") else {
        return false;
    };
    let Ok(source) = fs::read_to_string(root().join(file)) else {
        return false;
    };
    let name = name.rsplit("::").next().unwrap_or(name);
    let function = source.contains(&format!("fn {name}("));
    let scenario = source
        .split_once("\nscenarios!(")
        .and_then(|(_, rest)| rest.split_once(");"))
        .is_some_and(|(list, _)| list.split(',').any(|word| word.trim() == name));
    (function && source.contains("#[test]")) || scenario
}

/// docs/circus-tests.md: each test of Circus's own has a test here, or a reason why not.
#[test]
fn the_tests_of_circus_have_tests_here() {
    let page = fs::read_to_string(root().join("docs/circus-tests.md")).unwrap();
    let problems = problems_of_tests(&page);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(page.lines().filter(|line| line.starts_with("| `")).count() >= 272);
}

fn problems_of_tests(page: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    let mut file = "";
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            file = title;
        }
        let Some((name, cell)) = line
            .strip_prefix("| `")
            .and_then(|row| row.split_once("` | "))
        else {
            continue;
        };
        if !seen.insert((file, name)) {
            problems.push(format!("{file} {name} stands there twice"));
        }
        let tests = typed(cell);
        let reasoned = cell.strip_prefix("not: ").is_some_and(|why| why.len() > 15);
        if tests.is_empty() && !reasoned {
            problems.push(format!("{file} {name}: neither a test nor a reason"));
        }
        let missing = tests.iter().filter(|test| !exists(test));
        problems.extend(missing.map(|test| format!("{file} {name}: there is no test {test}")));
    }
    problems
}

#[test]
fn a_wrong_row_of_tests_is_found() {
    let page = "## test_x\n| `A.a` | `tests/compatibility.rs::a_wrong_row_is_found` |\n| `A.b` | not: it |\n| `A.a` | not: a reason that can be read |\n\
                | `A.c` | `tests/compatibility.rs::nothing` |\n## test_y\n| `A.a` | not: a reason that can be read |\n";
    assert_eq!(problems_of_tests(page).len(), 3);
}

/// The checks find what they are there for.
#[test]
fn a_wrong_row_is_found() {
    let wrong = "## Commands\n\
        | `a` | `x`, `y` | same | `tests/compatibility.rs::a_wrong_row_is_found` |\n\
        | `b` |  | not: | - |\n\
        | `c` |  | same | - |\n\
        | `d` |  | same, and better: | `tests/compatibility.rs::a_wrong_row_is_found` |\n\
        | `e` |  | same | `tests/compatibility.rs::nowhere` |\n\
        | `f` |  | roughly | `tests/compatibility.rs::a_wrong_row_is_found` |\n\
        | `g` |  | same | `tests/nowhere.rs::a_wrong_row_is_found` |\n\
        | `h` |  | not: a reason that can be read | - |\n";
    let rows = &rows(wrong)["Commands"];
    assert_eq!(rows[0].properties.len(), 2);
    let wrong: Vec<&str> = rows
        .iter()
        .filter(|row| problem_of(row).is_some())
        .map(|row| row.name.as_str())
        .collect();
    assert_eq!(wrong, ["b", "c", "d", "e", "f", "g"]);
    assert!(exists("tests/differential.rs::reloads"));
    assert!(!exists("tests/differential.rs::nothing"));
}
