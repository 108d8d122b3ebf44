//! One round of published statistics, in the messages of circusd-stats.
//!
//! Each process has a message under `stat.WATCHER.PID`, followed by one for all of its watcher under `stat.WATCHER`. The
//! daemon's own processes are under `stat.circus`, sockets under `stat.sockets.FD` and `stat.sockets`.

use super::sampler::Sampler;
use serde_json::{Map, Value};

/// What is looked at in one round.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// Watchers with their processes; the daemon's own processes under [`Round::CIRCUS`].
    pub groups: Vec<Group>,
    /// Sockets with what was counted since the last round.
    pub sockets: Vec<SocketReads>,
}

/// Processes that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The second part of the topic.
    pub name: String,
    /// Its processes.
    pub members: Vec<Member>,
}

/// A process to be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its process id.
    pub pid: i32,
    /// What it is called, if it has a name of its own: only those under [`Round::CIRCUS`] do.
    pub name: Option<&'static str>,
}

/// How often a socket was found readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketReads {
    /// Its descriptor in the daemon, as `listsockets` tells it.
    pub fd: i32,
    /// `HOST:PORT`, or the path.
    pub address: String,
    /// How often since the last round.
    pub reads: u64,
}

impl Round {
    /// The group of the daemon's own processes.
    pub const CIRCUS: &'static str = "circus";
    /// The second part of the topic of sockets.
    pub const SOCKETS: &'static str = "sockets";
    /// The beginning of every topic.
    pub const TOPIC: &'static str = "stat.";

    /// The topic for all of a group.
    pub fn topic(group: &str) -> String {
        format!("{}{group}", Round::TOPIC)
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.sockets.is_empty()
    }

    /// Measures all processes and tells every message: its topic and its payload. Processes that have gone are left out.
    pub fn tell(&self, sampler: &mut Sampler, mut message: impl FnMut(&str, &Value)) {
        let members = self.groups.iter().flat_map(|group| &group.members);
        let pids: Vec<i32> = members.map(|member| member.pid).collect();
        let mut infos = sampler.sample_each(&pids).into_iter().peekable();
        for group in &self.groups {
            let mut sum = Sum::default();
            for member in &group.members {
                // they come in the order of the members, without those that have gone
                let Some((pid, mut info)) = infos.next_if(|(pid, _)| *pid == member.pid) else {
                    continue;
                };
                sum.add(pid, &info);
                info.insert("subtopic".into(), pid.into());
                info.insert("name".into(), member.name.into());
                let topic = format!("{}.{pid}", Round::topic(&group.name));
                message(&topic, &Value::Object(info));
            }
            message(&Round::topic(&group.name), &sum.told());
        }
        self.tell_sockets(message);
    }

    fn tell_sockets(&self, mut message: impl FnMut(&str, &Value)) {
        if self.sockets.is_empty() {
            return;
        }
        let topic = Round::topic(Round::SOCKETS);
        for socket in &self.sockets {
            let info = serde_json::json!({"fd": socket.fd, "subtopic": socket.fd, "reads": socket.reads,
                                          "address": socket.address});
            message(&format!("{topic}.{}", socket.fd), &info);
        }
        let addresses: Vec<&str> = self.sockets.iter().map(|s| s.address.as_str()).collect();
        let reads: u64 = self.sockets.iter().map(|socket| socket.reads).sum();
        message(
            &topic,
            &serde_json::json!({"addresses": addresses, "reads": reads}),
        );
    }
}

/// A watcher as a whole: the average of the CPU percentages, the sum of the memory, the age of the oldest process.
#[derive(Default)]
struct Sum {
    pids: Vec<i32>,
    cpu: f64,
    mem: f64,
    age: Option<f64>,
}

impl Sum {
    fn add(&mut self, pid: i32, info: &Map<String, Value>) {
        let number = |key| info.get(key).and_then(Value::as_f64).unwrap_or_default();
        self.pids.push(pid);
        self.cpu += number("cpu");
        self.mem += number("mem");
        self.age = self.age.into_iter().chain([number("age")]).reduce(f64::max);
    }

    fn told(self) -> Value {
        let count = self.pids.len().max(1) as f64;
        let mem = match self.pids.is_empty() {
            true => Value::from(0),
            false => Value::from(self.mem),
        };
        let age = self.age.map_or_else(|| Value::from("N/A"), Value::from);
        serde_json::json!({"pid": self.pids, "cpu": self.cpu / count, "mem": mem, "age": age})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(round: &Round) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        round.tell(&mut Sampler::new(), |topic, payload| {
            all.push((topic.to_string(), payload.clone()));
        });
        all
    }

    fn group(name: &str, pids: &[i32], called: Option<&'static str>) -> Group {
        let member = |pid: &i32| Member {
            pid: *pid,
            name: called,
        };
        Group {
            name: name.to_string(),
            members: pids.iter().map(member).collect(),
        }
    }

    #[test]
    fn each_process_is_told_and_then_all_together() {
        let own = i32::try_from(std::process::id()).unwrap();
        let parent = nix::unistd::getppid().as_raw();
        let round = Round {
            groups: vec![
                group("my app", &[own, i32::MAX, parent], None),
                group("circus", &[own], Some("circusd")),
            ],
            sockets: Vec::new(),
        };
        let all = told(&round);
        let topics: Vec<&str> = all.iter().map(|(topic, _)| topic.as_str()).collect();
        let expected = [
            &*format!("stat.my app.{own}"),
            &*format!("stat.my app.{parent}"),
            "stat.my app",
            &*format!("stat.circus.{own}"),
            "stat.circus",
        ];
        assert_eq!(topics, expected);
        let keys: Vec<&String> = all[0].1.as_object().unwrap().keys().collect();
        let expected = [
            "mem_info1",
            "mem_info2",
            "cpu",
            "mem",
            "ctime",
            "pid",
            "username",
            "nice",
            "create_time",
            "age",
            "cmdline",
            "children",
            "subtopic",
            "name",
        ];
        assert_eq!(keys, expected);
        assert_eq!(
            (&all[0].1["subtopic"], &all[0].1["name"]),
            (&own.into(), &Value::Null)
        );
        assert_eq!(all[3].1["name"], "circusd");
        let number = |at: usize, key: &str| all[at].1[key].as_f64().unwrap();
        assert_eq!(all[2].1["pid"], serde_json::json!([own, parent]));
        assert_eq!(number(2, "mem"), number(0, "mem") + number(1, "mem"));
        assert_eq!(
            number(2, "cpu"),
            (number(0, "cpu") + number(1, "cpu")) / 2.0
        );
        assert_eq!(number(2, "age"), number(0, "age").max(number(1, "age")));
    }

    #[test]
    fn a_watcher_whose_processes_have_gone_says_so_as_circus_does() {
        let round = Round {
            groups: vec![group("web", &[i32::MAX], None)],
            sockets: Vec::new(),
        };
        let (topic, payload) = told(&round).pop().unwrap();
        assert_eq!(topic, "stat.web");
        assert_eq!(
            payload.to_string(),
            r#"{"pid":[],"cpu":0.0,"mem":0,"age":"N/A"}"#
        );
    }

    #[test]
    fn sockets_are_told_one_by_one_and_together() {
        let socket = |fd, address: &str, reads| SocketReads {
            fd,
            address: address.to_string(),
            reads,
        };
        let round = Round {
            groups: Vec::new(),
            sockets: vec![socket(5, "127.0.0.1:80", 3), socket(6, "/run/x", 4)],
        };
        let all = told(&round);
        let lines: Vec<String> = all.iter().map(|(t, p)| format!("{t} {p}")).collect();
        assert_eq!(
            lines,
            [
                r#"stat.sockets.5 {"fd":5,"subtopic":5,"reads":3,"address":"127.0.0.1:80"}"#,
                r#"stat.sockets.6 {"fd":6,"subtopic":6,"reads":4,"address":"/run/x"}"#,
                r#"stat.sockets {"addresses":["127.0.0.1:80","/run/x"],"reads":7}"#
            ]
        );
        assert!(told(&Round::default()).is_empty());
    }
}
