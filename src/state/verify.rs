//! Success means that the workers are there and stay, not that a command was accepted.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::live::{Condition, Live, LiveError, named};
use super::plan::Expectation;

/// How long between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A wrong number of workers, or none new, for this long (beyond the warm-up delays) is a failure: Circus itself looks
/// after its workers every 5 seconds at most by default.
const PATIENCE: Duration = Duration::from_secs(12);

/// The same, once the daemon has stopped the watcher or says what is wrong: nothing better is to come.
const HOPELESS: Duration = Duration::from_secs(2);

/// After a wrong number for this long it is asked, and again as often, whether somebody else wants another one.
const DOUBT: Duration = Duration::from_millis(250);

/// So many watchers are asked about one by one.
const FEW: usize = 4;

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
    /// The run was asked to end.
    #[error(
        "interrupted by {0} while its workers were waited for: whether they run is not known; what was done stays"
    )]
    Interrupted(String),
    /// Somebody else has given the daemon another order meanwhile; what.
    #[error("somebody else {0} while this run was under way; run again")]
    Overruled(String),
}

/// What a look at the watcher showed.
struct Look {
    condition: Condition,
    pids: Vec<i64>,
}

/// A watcher whose workers are waited for.
pub struct Awaited {
    /// Its name.
    pub name: String,
    /// How many must run.
    pub expect: Expectation,
    /// The daemon was told to run so many; false for a watcher that is to be stopped.
    pub active: bool,
    /// Nothing was changed by this run: workers that are old enough need no waiting.
    pub at_rest: bool,
}

/// Waits until exactly the expected numbers of workers run, and the same ones for `settle`: all watchers at the same
/// time. The results are in the order of the watchers.
pub fn wait_running(
    live: &mut Live,
    watchers: &[Awaited],
    settle: Duration,
) -> Vec<Result<(), VerifyError>> {
    let mut waits: Vec<Wait> = watchers.iter().map(Wait::new).collect();
    // One question about all is cheaper than one about each.
    if watchers.iter().filter(|watcher| watcher.at_rest).count() > FEW
        && let Ok(ages) = live.all_youngest()
    {
        for wait in &mut waits {
            wait.age = ages.get(&wait.of.name.to_lowercase()).copied();
        }
    }
    loop {
        let mut waiting = false;
        for wait in waits.iter_mut().filter(|wait| wait.result.is_none()) {
            if let Err(error) = wait.step(live, settle) {
                wait.result = Some(Err(match error {
                    // A question about a watcher is refused when there is none.
                    LiveError::Refused { .. } => VerifyError::Overruled("removed it".to_string()),
                    error => error.into(),
                }));
            }
            waiting |= wait.result.is_none();
        }
        if !waiting {
            break;
        }
        if let Err(LiveError::Interrupted(by)) = live.go_on() {
            for wait in waits.iter_mut().filter(|wait| wait.result.is_none()) {
                wait.result = Some(Err(VerifyError::Interrupted(by.clone())));
            }
            break;
        }
        std::thread::sleep(LOOK);
    }
    waits
        .into_iter()
        .map(|wait| wait.result.unwrap_or(Ok(())))
        .collect()
}

/// The wait for one watcher.
struct Wait<'a> {
    of: &'a Awaited,
    patience: Option<Duration>,
    /// How old its youngest worker was at the beginning, if that was asked.
    age: Option<f64>,
    /// All pids that were ever seen.
    seen: BTreeSet<i64>,
    stable: Option<(Vec<i64>, Instant)>,
    wrong_since: Instant,
    /// When it is asked what the daemon was told.
    doubt_at: Instant,
    /// The worker that had ended last when the wait began.
    last_exit: Option<Option<Map<String, Value>>>,
    /// The watcher was seen on its way down, where a worker that dies leaves it active.
    stopped: bool,
    /// Somebody else's restarts were waited out once.
    forgiven: bool,
    result: Option<Result<(), VerifyError>>,
}

impl Wait<'_> {
    fn new(of: &Awaited) -> Wait<'_> {
        Wait {
            of,
            patience: None,
            age: None,
            seen: BTreeSet::new(),
            stable: None,
            wrong_since: Instant::now(),
            doubt_at: Instant::now() + DOUBT,
            last_exit: None,
            stopped: false,
            forgiven: false,
            result: (!of.expect.must_run).then_some(Ok(())),
        }
    }

    /// One look.
    fn step(&mut self, live: &mut Live, settle: Duration) -> Result<(), LiveError> {
        let Awaited {
            name,
            expect,
            at_rest,
            ..
        } = self.of;
        let patience = match self.patience {
            Some(patience) => patience,
            None => *self
                .patience
                .insert(PATIENCE + warm_up(live, name, expect.running)?),
        };
        let look = look(live, name)?;
        let now = Instant::now();
        let right = look.pids.len() as u64 == expect.running
            && (expect.running == 0 || look.condition.status == "active");
        self.seen.extend(&look.pids);
        self.last_exit
            .get_or_insert_with(|| look.condition.last_exit.clone());
        self.stopped |= look.condition.status == "stopping";
        if right {
            match &self.stable {
                Some((pids, since)) if *pids == look.pids => {
                    if now.duration_since(*since) >= settle {
                        self.result = Some(Ok(()));
                        return Ok(());
                    }
                    // Not at the first sight of them: one that dies at once may be seen alive now and then.
                    self.wrong_since = now;
                }
                _ => {
                    let old_enough = match (at_rest, self.age) {
                        (false, _) => false,
                        (true, Some(age)) => age >= settle.as_secs_f64(),
                        (true, None) => old_enough(live, name, settle)?,
                    };
                    if look.pids.is_empty() && expect.running == 0 || old_enough {
                        self.result = Some(Ok(()));
                        return Ok(());
                    }
                    self.stable = Some((look.pids.clone(), now));
                }
            }
            self.doubt_at = now + DOUBT;
        } else {
            self.stable = None;
            if now >= self.doubt_at {
                self.doubt_at = now + DOUBT;
                if let Some(what) = self.overruled(live, &look)? {
                    self.result = Some(Err(VerifyError::Overruled(what)));
                    return Ok(());
                }
            }
        }
        let gone = self.seen.len().saturating_sub(look.pids.len());
        let died = gone > expect.running as usize + DEATHS;
        let late = now >= live.deadline();
        let hopeless = look.condition.status == "stopped" || look.condition.trouble.is_some();
        let patience = if hopeless { HOPELESS } else { patience };
        let failed = died || (!right && now.duration_since(self.wrong_since) >= patience);
        if failed && !late && !hopeless && self.replaced_by_order(live, &look)? {
            self.begin_anew(&look, now);
        } else if late || failed {
            self.result = Some(Err(VerifyError::NotRunning(not_running(
                &look, *expect, gone, late,
            ))));
        }
        Ok(())
    }
}

impl Wait<'_> {
    /// The workers that are gone went because somebody had them restarted, as far as the daemon tells: circ's, that
    /// none has ended by itself; circusd, that the watcher was on its way down. That is no fault of theirs, once.
    fn replaced_by_order(&self, live: &mut Live, look: &Look) -> Result<bool, LiveError> {
        if self.forgiven {
            return Ok(false);
        }
        Ok(match live.identity()? {
            Some(_) => self.last_exit.as_ref() == Some(&look.condition.last_exit),
            None => self.stopped,
        })
    }

    /// As at the beginning of the wait, with the workers that are there now.
    fn begin_anew(&mut self, look: &Look, now: Instant) {
        self.forgiven = true;
        self.stopped = false;
        self.seen = look.pids.iter().copied().collect();
        self.stable = None;
        self.wrong_since = now;
        self.doubt_at = now + DOUBT;
    }

    /// What somebody else ordered since the daemon was told, if that is why the number is wrong: it is not waited for
    /// then.
    fn overruled(&self, live: &mut Live, look: &Look) -> Result<Option<String>, LiveError> {
        let status = look.condition.status.as_str();
        if !self.of.active {
            return Ok((status == "active").then(|| "started it".to_string()));
        }
        let reply = live.ask("options", named(&self.of.name))?;
        let count = reply
            .get("options")
            .and_then(|options| options.get("numprocesses"))
            .and_then(Value::as_u64);
        if let Some(count) = count.filter(|count| *count != self.of.expect.running) {
            return Ok(Some(format!("set numprocesses to {count}")));
        }
        // circ says so if it gave the watcher up itself. circusd does not.
        let by_order = status == "stopped"
            && look.condition.trouble.is_none()
            && self.last_exit.as_ref() == Some(&look.condition.last_exit);
        Ok((by_order && live.identity()?.is_some()).then(|| "stopped it".to_string()))
    }
}

fn look(live: &mut Live, name: &str) -> Result<Look, LiveError> {
    Ok(Look {
        condition: live.condition(name)?,
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
        look.condition.status
    );
    if let Some(trouble) = &look.condition.trouble {
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
    if let Some(last) = &look.condition.last_exit {
        text.push_str(&last_words(last, look.condition.trouble.is_some()));
    }
    text
}

/// How the last worker ended, unless that is told already, and what it said.
fn last_words(last: &Map<String, Value>, is_told: bool) -> String {
    let number = |key: &str| last.get(key).and_then(Value::as_i64);
    let mut text = match (number("pid"), number("code"), number("signal")) {
        _ if is_told => String::new(),
        (Some(pid), Some(code), _) => format!("; worker {pid} exited with {code}"),
        (Some(pid), None, Some(signal)) => format!("; worker {pid} was ended by signal {signal}"),
        _ => String::new(),
    };
    if let (false, Some(lived)) = (text.is_empty(), last.get("lived").and_then(Value::as_f64)) {
        text.push_str(&format!(" after {lived:.1} s"));
    }
    let lines: Vec<&str> = last
        .get("stderr")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !lines.is_empty() {
        text.push_str(&format!("; its last words:\n    {}", lines.join("\n    ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_words_of_a_worker_are_told() {
        let told = |value: Value| last_words(value.as_object().unwrap(), false);
        assert_eq!(
            told(json!({"pid": 7, "code": 3, "signal": null, "lived": 0.04, "stderr": ["a", "b"]})),
            "; worker 7 exited with 3 after 0.0 s; its last words:\n    a\n    b"
        );
        assert_eq!(
            told(json!({"pid": 7, "code": null, "signal": 9, "lived": 12.0, "stderr": []})),
            "; worker 7 was ended by signal 9 after 12.0 s"
        );
        assert_eq!(
            told(json!({"pid": null, "reason": "no such file", "stderr": []})),
            ""
        );
    }
}
