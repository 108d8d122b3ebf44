//! Restarts a watcher whose workers use too much or too little. Source: `circus.plugins.resource_watcher`. Different
//! here: `min_mem` with a unit is a size (Circus takes it for percent); `process_children` signals the child that is
//! meant (Circus sends the signal to all workers); a watcher without workers passes no limit.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Surroundings;
use super::restarts::Restarts;
use super::settings::{BadSetting, Settings};
use super::statsd::Metric;
use super::step::{Beat, Call, Effect, Input, Plugin, Wants};
use crate::config::plugin_keys::{Amount, size};
use crate::wire::CallError;

/// The plugin.
pub struct ResourceWatcher {
    beat: Beat,
    watcher: String,
    limits: Limits,
    max_count: i64,
    children: bool,
    child_signal: i32,
    action: &'static str,
    /// How often in a row each limit was passed: by the workers (no pid), and by each child.
    counts: BTreeMap<Option<i64>, BTreeMap<&'static str, i64>>,
    restarts: Restarts,
}

struct Limits {
    max_cpu: f64,
    min_cpu: Option<f64>,
    max_mem: Option<Amount>,
    min_mem: Option<Amount>,
    health: f64,
}

/// What processes use: the most and the least of them.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Usage {
    cpu: (f64, f64),
    mem: (f64, f64),
    bytes: (f64, f64),
}

impl ResourceWatcher {
    pub(super) fn new(settings: &Settings<'_>, around: Surroundings) -> Result<Self, BadSetting> {
        let watcher = settings
            .filled("watcher")
            .or_else(|| settings.filled("service"))
            .ok_or(BadSetting::Missing {
                key: "watcher",
                what: "the watcher to look at",
            })?;
        Ok(ResourceWatcher {
            beat: Beat::new(around.now, settings.number("loop_rate")),
            watcher,
            limits: Limits {
                max_cpu: settings.number("max_cpu"),
                min_cpu: settings.number_if_any("min_cpu"),
                max_mem: settings.amount("max_mem"),
                min_mem: settings.amount("min_mem"),
                health: settings.number("health_threshold"),
            },
            max_count: settings.whole("max_count"),
            children: settings.boolean("process_children"),
            child_signal: settings.signal("child_signal").unwrap_or(15),
            action: match settings.text("action") {
                "reload" => "reload",
                _ => "restart",
            },
            counts: BTreeMap::new(),
            restarts: Restarts::default(),
        })
    }

    fn metric(&self, what: &str) -> Effect {
        let name = format!("_resource_watcher.{}.{what}", self.watcher);
        Effect::Metric(Metric::one(name))
    }

    fn measured(&mut self, info: &Map<String, Value>) -> Vec<Effect> {
        let workers: Vec<(i64, &Map<String, Value>)> = info
            .iter()
            .filter_map(|(pid, worker)| Some((pid.parse().ok()?, worker.as_object()?)))
            .collect();
        let mut effects = Vec::new();
        let all: Vec<&Map<String, Value>> = workers.iter().map(|(_, worker)| *worker).collect();
        if let Some(reason) = self.judge(None, usage(&all), &mut effects) {
            effects.push(self.restarts.ask(&self.watcher, self.action, reason));
        }
        let mut seen = vec![None];
        if self.children {
            for (pid, worker) in workers {
                let children = worker.get("children").and_then(Value::as_array);
                for child in children.into_iter().flatten().filter_map(Value::as_object) {
                    let Some(child_pid) = child.get("pid").and_then(Value::as_i64) else {
                        continue;
                    };
                    seen.push(Some(child_pid));
                    let used = usage(&[child]);
                    if let Some(reason) = self.judge(Some(child_pid), used, &mut effects) {
                        effects.push(Effect::info(format!(
                            "{}: signal {} to {child_pid}, a child of {pid}: {reason}",
                            self.watcher, self.child_signal
                        )));
                        let call = Call::about("signal", &self.watcher)
                            .with("signum", self.child_signal)
                            .with("pid", pid)
                            .with("childpid", child_pid);
                        effects.push(Effect::Call(call));
                    }
                }
            }
        }
        self.counts.retain(|index, _| seen.contains(index));
        effects
    }

    /// Counts which limits are passed; the reason if it is once too often.
    fn judge(
        &mut self,
        index: Option<i64>,
        used: Option<Usage>,
        effects: &mut Vec<Effect>,
    ) -> Option<String> {
        let Some(used) = used else {
            // nobody runs, so nobody passes a limit
            self.counts.remove(&index);
            return None;
        };
        let passed = self.limits.passed(&used);
        let mut counts = self.counts.remove(&index).unwrap_or_default();
        counts.retain(|what, _| passed.iter().any(|(passed, _)| passed == what));
        let mut worst = None;
        for (what, told) in passed {
            effects.push(self.metric(what));
            let count = counts.entry(what).or_insert(0);
            *count += 1;
            if *count > self.max_count && worst.is_none() {
                worst = Some(format!("{told}, {count} times in a row"));
            }
        }
        if worst.is_some() {
            effects.push(self.metric("restarting"));
        } else {
            self.counts.insert(index, counts);
        }
        worst
    }
}

impl Limits {
    /// The limits that are passed: their names in statsd, and in words.
    fn passed(&self, used: &Usage) -> Vec<(&'static str, String)> {
        let mut passed = Vec::new();
        let mut check = |what, over: bool, told: &dyn Fn() -> String| {
            if over {
                passed.push((what, told()));
            }
        };
        let (cpu, mem, bytes) = (used.cpu, used.mem, used.bytes);
        check(
            "over_cpu",
            self.max_cpu != 0.0 && cpu.1 > self.max_cpu,
            &|| format!("cpu {}% is over max_cpu {}%", cpu.1, self.max_cpu),
        );
        if let Some(least) = self.min_cpu {
            check("under_cpu", cpu.0 <= least, &|| {
                format!("cpu {}% is not over min_cpu {least}%", cpu.0)
            });
        }
        match self.max_mem {
            Some(Amount::Percent(most)) => check("over_memory", mem.1 > most, &|| {
                format!("memory {}% is over max_mem {most}%", mem.1)
            }),
            Some(Amount::Bytes(most)) => check("over_memory", bytes.1 > most, &|| {
                format!("memory {} B is over max_mem {most} B", bytes.1)
            }),
            None => {}
        }
        match self.min_mem {
            Some(Amount::Percent(least)) => check("under_memory", mem.0 < least, &|| {
                format!("memory {}% is under min_mem {least}%", mem.0)
            }),
            Some(Amount::Bytes(least)) => check("under_memory", bytes.0 < least, &|| {
                format!("memory {} B is under min_mem {least} B", bytes.0)
            }),
            None => {}
        }
        let health = (cpu.1 + mem.1) / 2.0;
        check(
            "over_health",
            self.health != 0.0 && health > self.health,
            &|| {
                format!(
                    "cpu and memory are {health}% in the mean, over health_threshold {}%",
                    self.health
                )
            },
        );
        passed
    }
}

/// What these processes use; none without a process. As in Circus, a share that is not known counts as all.
fn usage(processes: &[&Map<String, Value>]) -> Option<Usage> {
    let range = |key: &str, unknown: f64| {
        processes
            .iter()
            .map(|process| match process.get(key) {
                Some(Value::Number(number)) => number.as_f64().unwrap_or(unknown),
                Some(Value::String(text)) => size(text).unwrap_or(unknown),
                _ => unknown,
            })
            .fold(None, |range: Option<(f64, f64)>, number| {
                let (least, most) = range.unwrap_or((number, number));
                Some((least.min(number), most.max(number)))
            })
    };
    Some(Usage {
        cpu: range("cpu", 100.0)?,
        mem: range("mem", 100.0)?,
        bytes: range("mem_info1", 0.0)?,
    })
}

impl Plugin for ResourceWatcher {
    fn wants(&self) -> Wants {
        Wants::default()
    }

    fn step(&mut self, now: f64, input: Input) -> Vec<Effect> {
        match input {
            Input::Tick if self.beat.is_due(now) => {
                vec![Effect::Call(Call::about("stats", &self.watcher))]
            }
            Input::Reply(call, reply) => {
                if let Some(effects) = self.restarts.reply(&call, &reply) {
                    return effects;
                }
                match (call.command, reply) {
                    ("stats", Ok(reply)) => match reply.get("info") {
                        Some(Value::Object(info)) => self.measured(info),
                        _ => Vec::new(),
                    },
                    ("stats", Err(CallError::Refused(why))) => {
                        vec![self.metric("error"), Effect::warning(why)]
                    }
                    (_, Err(why)) => vec![Effect::warning(why.to_string())],
                    _ => Vec::new(),
                }
            }
            _ => Vec::new(),
        }
    }

    fn wake(&self) -> Option<f64> {
        Some(self.beat.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plugin_keys::native;
    use crate::plugins::parse_settings;
    use serde_json::json;

    fn plugin(settings: &str) -> Result<ResourceWatcher, BadSetting> {
        let spec = native("circus.plugins.resource_watcher.ResourceWatcher").unwrap();
        let settings = parse_settings(settings);
        let around = Surroundings {
            check_delay: 5.0,
            now: 0.0,
        };
        ResourceWatcher::new(&Settings::new(spec, &settings)?, around)
    }

    /// The names of the counts, and the commands.
    fn told(plugin: &mut ResourceWatcher, info: Value) -> Vec<String> {
        let mut reply = Map::new();
        reply.insert("info".into(), info);
        let call = Call::about("stats", "web");
        let effects = plugin.step(1.0, Input::Reply(call, Ok(reply)));
        let told = effects.into_iter().filter_map(|effect| match effect {
            Effect::Metric(Metric::Count(name, 1)) => name
                .strip_prefix("_resource_watcher.web.")
                .map(str::to_owned),
            Effect::Call(call) => {
                Some(format!("{} {}", call.command, Value::from(call.properties)))
            }
            _ => None,
        });
        told.collect()
    }

    fn worker(cpu: f64, mem: f64, bytes: &str) -> Value {
        json!({"cpu": cpu, "mem": mem, "mem_info1": bytes, "children": []})
    }

    #[test]
    fn each_limit_has_its_count() {
        for (settings, used, wanted) in [
            ("max_cpu:50", worker(51.0, 1.0, "1M"), "over_cpu"),
            ("min_cpu:0", worker(0.0, 1.0, "1M"), "under_cpu"),
            ("max_mem:10", worker(1.0, 11.0, "1M"), "over_memory"),
            ("max_mem:1M", worker(1.0, 1.0, "1.1M"), "over_memory"),
            ("min_mem:10", worker(1.0, 9.0, "1M"), "under_memory"),
            ("min_mem:10M", worker(1.0, 80.0, "9M"), "under_memory"),
            (
                "health_threshold:20",
                worker(30.0, 11.0, "1M"),
                "over_health",
            ),
        ] {
            let all = format!("watcher:web:::max_mem:95:::{settings}");
            let mut plugin = plugin(&all).unwrap();
            assert_eq!(
                told(&mut plugin, json!({"1": used})),
                [wanted],
                "{settings}"
            );
        }
        let mut calm = plugin("service:web:::max_cpu:0:::max_mem:99:::health_threshold:0").unwrap();
        let busy = json!({"1": worker(500.0, 90.0, "1M")});
        assert_eq!(told(&mut calm, busy), [] as [&str; 0]);
        assert!(plugin("max_cpu:1").is_err());
    }

    #[test]
    fn only_what_lasts_is_acted_on_and_then_counted_anew() {
        let mut plugin = plugin("watcher:web:::max_cpu:50:::max_count:2:::action:reload").unwrap();
        let busy =
            || json!({"1": worker(60.0, 1.0, "1M"), "2": worker(0.0, 1.0, "1M"), "spawn_count": 2});
        let calm = || json!({"1": worker(10.0, 1.0, "1M")});
        assert_eq!(told(&mut plugin, busy()), ["over_cpu"]);
        assert_eq!(told(&mut plugin, busy()), ["over_cpu"]);
        assert_eq!(told(&mut plugin, calm()), [] as [&str; 0]);
        for _ in 0..2 {
            assert_eq!(told(&mut plugin, busy()), ["over_cpu"]);
        }
        assert_eq!(
            told(&mut plugin, busy()),
            ["over_cpu", "restarting", r#"status {"name":"web"}"#]
        );
        assert_eq!(told(&mut plugin, busy()), ["over_cpu"]);
    }

    #[test]
    fn a_watcher_without_workers_passes_no_limit() {
        let mut plugin = plugin("watcher:web:::min_cpu:50:::min_mem:5:::max_count:0").unwrap();
        for _ in 0..5 {
            assert_eq!(told(&mut plugin, json!({})), [] as [&str; 0]);
        }
    }

    #[test]
    fn a_child_is_signalled_by_itself() {
        let mut plugin = plugin(
            "watcher:web:::max_cpu:50:::max_count:1:::process_children:1:::child_signal:KILL",
        )
        .unwrap();
        let mut one = worker(1.0, 1.0, "1M");
        one["children"] = json!([
            {"pid": 11, "cpu": 70.0, "mem": 1.0, "mem_info1": "1M"},
            {"pid": 12, "cpu": 0.0, "mem": 1.0, "mem_info1": "1M"},
        ]);
        let info = json!({"7": one});
        assert_eq!(told(&mut plugin, info.clone()), ["over_cpu"]);
        assert_eq!(
            told(&mut plugin, info),
            [
                "over_cpu",
                "restarting",
                r#"signal {"name":"web","signum":9,"pid":7,"childpid":11}"#
            ]
        );
    }
}
