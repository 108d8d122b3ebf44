//! Success means that the workers are there and stay, not that a command was accepted.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::live::{Live, LiveError, named};
use super::plan::Expectation;

/// How long between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A wrong number of workers, or none new, for this long (beyond the warm-up delays) is a failure: Circus itself looks
/// after its workers every 5 seconds at most by default.
const PATIENCE: Duration = Duration::from_secs(12);

/// The same, once the daemon has stopped the watcher or says what is wrong: nothing better is to come.
const HOPELESS: Duration = Duration::from_secs(2);

/// This many workers may die (beyond the wanted number) before the watcher counts as failing.
const DEATHS: usize = 2;

/// Why the workers are not there.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The daemon could not be asked.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// They are not there, or do not stay.
    #[error("{0}")]
    NotRunning(String),
}

/// What a look at the watcher showed.
struct Look {
    status: String,
    /// What is wrong, in the daemon's words.
    trouble: Option<String>,
    pids: Vec<i64>,
}

/// Waits until exactly the expected number of workers run, and the same ones for `settle`.
///
/// With `at_rest` (nothing was changed by this run) a set of workers that are old enough needs no waiting.
pub fn wait_running(
    live: &mut Live,
    name: &str,
    expect: Expectation,
    settle: Duration,
    at_rest: bool,
) -> Result<(), VerifyError> {
    if !expect.must_run {
        return Ok(());
    }
    let patience = PATIENCE + warm_up(live, name, expect.running)?;
    let mut seen: BTreeSet<i64> = BTreeSet::new();
    let mut stable: Option<(Vec<i64>, Instant)> = None;
    let mut wrong_since = Instant::now();
    loop {
        let look = look(live, name)?;
        let now = Instant::now();
        let right = look.pids.len() as u64 == expect.running
            && (expect.running == 0 || look.status == "active");
        seen.extend(&look.pids);
        if right {
            match &stable {
                Some((pids, since)) if *pids == look.pids => {
                    if now.duration_since(*since) >= settle {
                        return Ok(());
                    }
                }
                _ => {
                    if at_rest && (look.pids.is_empty() || old_enough(live, name, settle)?) {
                        return Ok(());
                    }
                    stable = Some((look.pids.clone(), now));
                }
            }
            wrong_since = now;
        } else {
            stable = None;
        }
        let gone = seen.len().saturating_sub(look.pids.len());
        let died = gone > expect.running as usize + DEATHS;
        let late = now >= live.deadline();
        let hopeless = look.status == "stopped" || look.trouble.is_some();
        let patience = if hopeless { HOPELESS } else { patience };
        if late || died || (!right && now.duration_since(wrong_since) >= patience) {
            return Err(VerifyError::NotRunning(not_running(
                &look, expect, gone, late,
            )));
        }
        std::thread::sleep(LOOK);
    }
}

fn look(live: &mut Live, name: &str) -> Result<Look, LiveError> {
    let (status, trouble) = live.condition(name)?;
    Ok(Look {
        status,
        trouble,
        pids: live.pids(name)?,
    })
}

/// The time the watcher's own warm-up delays take.
fn warm_up(live: &mut Live, name: &str, count: u64) -> Result<Duration, LiveError> {
    let reply = live.ask("options", named(name))?;
    let delay = reply
        .get("options")
        .and_then(|options| options.get("warmup_delay"))
        .and_then(Value::as_f64)
        .unwrap_or(0.0);
    Ok(Duration::try_from_secs_f64(delay.max(0.0) * count as f64).unwrap_or(Duration::ZERO))
}

fn old_enough(live: &mut Live, name: &str, settle: Duration) -> Result<bool, LiveError> {
    Ok(live
        .youngest(name)?
        .is_some_and(|age| age >= settle.as_secs_f64()))
}

fn not_running(look: &Look, expect: Expectation, gone: usize, late: bool) -> String {
    if look.pids.len() as u64 == expect.running && gone == 0 {
        return format!(
            "{} workers run, but not for long enough yet to tell that they stay: the deadline passed; give more \
             --timeout",
            expect.running
        );
    }
    let mut text = format!(
        "{} of {} workers run; the daemon says the watcher is {}",
        look.pids.len(),
        expect.running,
        look.status
    );
    if let Some(trouble) = &look.trouble {
        text.push_str(&format!(": {trouble}"));
    } else if gone > 0 {
        text.push_str(&format!(
            "; {gone} {} died or {} replaced while we looked: see the daemon's log, and try the command by hand",
            if gone == 1 { "worker" } else { "workers" },
            if gone == 1 { "was" } else { "were" },
        ));
    } else if late {
        text.push_str("; the deadline passed: give more --timeout if they need longer to start");
    } else {
        text.push_str(": see the daemon's log, and try the command by hand");
    }
    text
}
