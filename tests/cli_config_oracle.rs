//! The real Circus on files that `circ config fmt` has laid out and `circ config render` has put together: it reads the
//! same values from them as from the originals.
//!
//! `CIRC_ORACLE_SEED` replays one generated file, `CIRC_ORACLE_FILES` sets how many there are.

mod support;

#[path = "ini_oracle/oracle.rs"]
mod oracle;
#[path = "ini_oracle/random.rs"]
#[allow(dead_code)]
mod random;
#[path = "ini_oracle/site.rs"]
mod site;

use std::collections::BTreeMap;
use std::path::Path;

use circ::config::render::{self, Rendering};
use circ::config::{Config, Document, Effective, convert};
use oracle::Oracle;
use random::Chance;
use serde_json::{Value, json};

fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("CIRC_ORACLE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CIRC_ORACLE_FILES").unwrap_or(usual),
    }
}

#[test]
fn a_formatted_file_reads_as_before() {
    let mut oracle = Oracle::start();
    let (mut same, mut changed) = (0, 0);
    for seed in seeds(4000) {
        let bytes = random::file(&mut Chance::new(seed));
        let Ok(document) = Document::parse(&bytes, "t.ini") else {
            continue;
        };
        let formatted = document.formatted().unwrap_or_else(|error| {
            panic!(
                "seed {seed}: {error}: {:?}",
                String::from_utf8_lossy(&bytes)
            )
        });
        let after = formatted.to_bytes();
        let again = formatted.formatted().map(|document| document.to_bytes());
        assert_eq!(again.as_ref(), Ok(&after), "seed {seed}: not at rest");
        let shown = || {
            format!(
                "seed {seed}:\n{:?}\n{:?}",
                String::from_utf8_lossy(&bytes),
                String::from_utf8_lossy(&after)
            )
        };
        assert_eq!(oracle.read(&bytes), oracle.read(&after), "{}", shown());
        if after == bytes {
            same += 1;
        } else {
            changed += 1;
        }
    }
    println!("{changed} files laid out anew, {same} as they were");
    assert!(changed > same || seeds(4000).count() < 100);
}

#[test]
fn a_rendering_means_what_the_files_mean() {
    let mut oracle = Oracle::start();
    let environ = site::environ();
    let (mut rendered, mut replaced) = (0, 0);
    for seed in seeds(600) {
        let dir = tempfile::tempdir().expect("a directory for the files");
        let dir = dir.path().canonicalize().expect("it is there");
        let main = dir.join(site::write(&mut Chance::new(seed), &dir));
        let Ok(config) = Config::load(&main, &environ, &dir) else {
            continue;
        };
        let effective = Effective::read(&main, &environ, &dir, &BTreeMap::new())
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for expand in [false, true] {
            for defaults in [false, true] {
                let how = Rendering {
                    expand,
                    origin: seed % 2 == 0,
                    defaults,
                };
                let text = render::ini(&effective, how)
                    .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                let one = dir.join("one.file");
                std::fs::write(&one, &text).expect("written");
                let again = Config::load(&one, &environ, &dir);
                let same = again
                    .as_ref()
                    .is_ok_and(|again| render::same(&config, again, defaults));
                if expand {
                    // Where replacing would change the meaning, the command leaves the variables alone.
                    replaced += usize::from(same);
                    continue;
                }
                assert!(
                    same,
                    "seed {seed} {how:?}:\n{text}\n{again:#?}\n{config:#?}"
                );
                let toml = convert::ini_to_toml(text.as_bytes(), "one")
                    .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"))
                    .text;
                let other = dir.join("one.toml");
                std::fs::write(&other, &toml).expect("written");
                let again = Config::load(&other, &environ, &dir);
                let same = again
                    .as_ref()
                    .is_ok_and(|again| render::same(&config, again, true));
                assert!(
                    same,
                    "seed {seed} {how:?}:\n{toml}\n{again:#?}\n{config:#?}"
                );
                if !defaults {
                    rendered += 1;
                    let before = meaning(&mut oracle, &main, &dir, &environ);
                    let after = meaning(&mut oracle, &one, &dir, &environ);
                    assert_eq!(before, after, "seed {seed}:\n{text}");
                }
            }
        }
    }
    println!(
        "{rendered} configurations rendered, {replaced} of {} with variables replaced",
        rendered * 2
    );
    assert!(rendered > 150 || seeds(600).count() < 500);
    assert!(
        replaced * 10 > rendered * 2 * 9,
        "{replaced} of {}",
        rendered * 2
    );
}

/// What circusd would run with a file.
fn meaning(
    oracle: &mut Oracle,
    path: &Path,
    dir: &Path,
    environ: &BTreeMap<String, String>,
) -> Value {
    let mut all =
        oracle.ask(&json!({"op": "config", "path": path, "cwd": dir, "environ": environ}));
    for watcher in all["watchers"].as_array_mut().into_iter().flatten() {
        assert!(watcher.get("error").is_none(), "{watcher}");
    }
    json!({
        "watchers": all["watchers"].take(),
        "hooks": all["hooks"].take(),
        "sockets": all["sockets"].take(),
        "plugins": all["plugins"].take(),
        "circus": all["circus"].take(),
        "error": all["error"].take(),
    })
}
