//! The numbers of `circus.util.get_info`, which are psutil's, in Circus's format.

use super::names;
use super::pass::{Pass, ProcStat, read_file};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What Circus answers in place of the numbers of a process that is not there any more.
pub const GONE: &str = "No such process (stopped?)";

/// A CPU percentage needs some time between two looks: ticks are 10 ms long.
const SHORTEST: Duration = Duration::from_millis(100);
/// How long a command line and a user hold. Programs may change both while they run.
const KEEP: Duration = Duration::from_secs(5);
/// Memories of processes that nobody asked for during so many passes are dropped.
const FORGET: u64 = 64;

/// A process for ever: pids are used again.
type Identity = (i32, u64);

#[derive(Debug)]
struct Memory {
    /// CPU ticks of the process itself, and when that was.
    cpu: Option<(u64, Instant)>,
    face: Option<(Face, Instant)>,
    last_pass: u64,
}

/// What is costly to find out and seldom changes.
#[derive(Debug, Clone, PartialEq)]
struct Face {
    comm: String,
    cmdline: Value,
    username: Value,
}

/// Up to so many processes are looked at one by one; for more, one walk over `/proc` is cheaper.
const FEW: usize = 32;

/// Turns passes into replies. Keeps what CPU percentages are computed from, so use one and the same
/// for all requests. It may move to another thread.
#[derive(Debug)]
pub struct Sampler {
    memories: HashMap<Identity, Memory>,
    usernames: HashMap<u32, Value>,
    passes: u64,
    ticks: f64,
    page: u64,
    memory: u64,
}

/// What one process uses, without its children.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// CPU time so far, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub resident: u64,
    /// Virtual memory, in bytes.
    pub mapped: u64,
    /// Its threads.
    pub threads: u64,
    /// Its open files, if we may look at them.
    pub open_files: Option<usize>,
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler::new()
    }
}

impl Sampler {
    /// A sampler that has seen nothing yet.
    pub fn new() -> Sampler {
        use nix::unistd::{SysconfVar, sysconf};
        let value = |name, usual: i64| sysconf(name).ok().flatten().unwrap_or(usual);
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        Sampler {
            memories: HashMap::new(),
            usernames: HashMap::new(),
            passes: 0,
            ticks: value(SysconfVar::CLK_TCK, 100) as f64,
            page: value(SysconfVar::PAGE_SIZE, 4096) as u64,
            memory: total.unwrap_or(0) * 1024,
        }
    }

    /// The replies for these processes, in their order, from one walk over `/proc`: see
    /// [`Sampler::info`]. All are [`GONE`] if `/proc` cannot be read.
    pub fn sample(&mut self, pids: &[i32]) -> Vec<Value> {
        let few = (pids.len() <= FEW).then(|| Pass::of(pids)).flatten();
        let pass = few.unwrap_or_else(|| Pass::read().unwrap_or_default());
        self.begin();
        let boot = boot_time();
        pids.iter()
            .map(|pid| self.with_children(&pass, *pid, boot))
            .collect()
    }

    /// The reply for one process (Circus's `dstats` for the daemon itself): its children are left
    /// out, and no other process is looked at.
    pub fn sample_alone(&mut self, pid: i32) -> Value {
        self.begin();
        let stat = ProcStat::read(pid).filter(|stat| !stat.is_zombie());
        match stat {
            Some(stat) => Value::Object(self.info(&stat, boot_time())),
            None => GONE.into(),
        }
    }

    /// The replies for these processes without their children, in their order: what circusd-stats publishes. Those that
    /// are not there (any more) are left out.
    pub fn sample_each(&mut self, pids: &[i32]) -> Vec<(i32, Map<String, Value>)> {
        self.begin();
        let boot = boot_time();
        let stats = pids.iter().filter_map(|pid| ProcStat::read(*pid));
        let running: Vec<ProcStat> = stats.filter(|stat| !stat.is_zombie()).collect();
        let infos = running.iter().map(|stat| (stat.pid, self.info(stat, boot)));
        infos.collect()
    }

    /// What one process uses, in plain numbers.
    pub fn usage(&self, stat: &ProcStat) -> Usage {
        let pid = stat.pid;
        let (size, resident) = statm(pid).unwrap_or((stat.vsize / self.page, stat.rss));
        let files = std::fs::read_dir(format!("/proc/{pid}/fd"));
        Usage {
            cpu_seconds: (stat.utime + stat.stime) as f64 / self.ticks,
            resident: resident * self.page,
            mapped: size * self.page,
            threads: stat.threads,
            open_files: files.ok().map(Iterator::count),
        }
    }

    fn begin(&mut self) {
        self.passes += 1;
        self.usernames.clear();
        if self.passes.is_multiple_of(FORGET) {
            let oldest = self.passes - FORGET;
            self.memories.retain(|_, memory| memory.last_pass >= oldest);
        }
    }

    fn with_children(&mut self, pass: &Pass, pid: i32, boot: f64) -> Value {
        let Some(stat) = pass.get(pid).filter(|stat| !stat.is_zombie()) else {
            return GONE.into();
        };
        let mut info = self.info(stat, boot);
        let children: Vec<Value> = pass
            .children(pid)
            .iter()
            .filter_map(|child| pass.get(*child))
            .map(|child| Value::Object(self.info(child, boot)))
            .collect();
        info.insert("children".into(), children.into());
        Value::Object(info)
    }

    /// `circus.util.get_info`: mem_info1, mem_info2, cpu, mem, ctime, pid, username, nice,
    /// create_time, age, cmdline, children (empty), in this order. Unlike psutil, the first look at
    /// a process already has a CPU percentage: the average of its life.
    fn info(&mut self, stat: &ProcStat, boot: f64) -> Map<String, Value> {
        let create_time = stat.starttime as f64 / self.ticks + boot;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let age = now.unwrap_or_default().as_secs_f64() - create_time;
        // Newer kernels sum up per-CPU counters for statm only: the same field of stat lags behind.
        let (size, resident) = statm(stat.pid).unwrap_or((stat.vsize / self.page, stat.rss));
        let rss = resident * self.page;
        let cpu = self.cpu(stat, age);
        let face = self.face(stat);
        let percent = match self.memory {
            0 => 0.0,
            total => rss as f64 / total as f64 * 100.0,
        };
        let mut info = Map::new();
        let mut put = |key: &str, value: Value| info.insert(key.to_owned(), value);
        put("mem_info1", human_bytes(rss).into());
        put("mem_info2", human_bytes(size * self.page).into());
        put("cpu", cpu.into());
        put("mem", round(percent, 3).into());
        put("ctime", self.ctime(stat).into());
        put("pid", stat.pid.into());
        put("username", face.username);
        put("nice", stat.nice.into());
        put("create_time", create_time.into());
        put("age", age.into());
        put("cmdline", face.cmdline);
        put("children", Value::Array(Vec::new()));
        info
    }

    fn memory_of(&mut self, stat: &ProcStat) -> &mut Memory {
        let pass = self.passes;
        let memory = self
            .memories
            .entry((stat.pid, stat.starttime))
            .or_insert(Memory {
                cpu: None,
                face: None,
                last_pass: pass,
            });
        memory.last_pass = pass;
        memory
    }

    /// Percent of one CPU since the last look; with one decimal, as psutil.
    fn cpu(&mut self, stat: &ProcStat, age: f64) -> f64 {
        let (ticks, now) = (self.ticks, Instant::now());
        let used = stat.utime + stat.stime;
        let memory = self.memory_of(stat);
        let (used_since, seconds) = match memory.cpu {
            Some((before, when)) => (
                used.saturating_sub(before),
                now.duration_since(when).as_secs_f64(),
            ),
            None => (used, age),
        };
        // Two looks in quick succession share their starting point.
        if memory
            .cpu
            .is_none_or(|(_, when)| now.duration_since(when) >= SHORTEST)
        {
            memory.cpu = Some((used, now));
        }
        if seconds <= 0.0 {
            return 0.0;
        }
        round(used_since as f64 / ticks / seconds * 100.0, 1)
    }

    /// CPU time in Circus's odd format: minutes of the hour, seconds, and the first two digits of the
    /// microseconds without their leading zeros. Children and disk waits count, as in psutil's sum.
    fn ctime(&self, stat: &ProcStat) -> String {
        let ticks = stat.utime + stat.stime + stat.cutime + stat.cstime + stat.blkio;
        let micros = (ticks as f64 / self.ticks * 1e6).round() as u64;
        let (seconds, micros) = (
            micros / 1_000_000 % 86_400,
            (micros % 1_000_000).to_string(),
        );
        let digits = micros.get(..2).unwrap_or(&micros);
        format!("{}:{:02}.{digits}", seconds / 60 % 60, seconds % 60)
    }

    fn face(&mut self, stat: &ProcStat) -> Face {
        if let Some((face, when)) = &self.memory_of(stat).face
            && face.comm == stat.comm
            && when.elapsed() < KEEP
        {
            return face.clone();
        }
        let username = real_user(stat.pid).map_or(NOT_AVAILABLE.into(), |uid| self.username(uid));
        let face = Face {
            comm: stat.comm.clone(),
            cmdline: cmdline(stat.pid),
            username,
        };
        // Just between clone and exec there is no command line; look again next time.
        if face.cmdline != NOT_AVAILABLE {
            self.memory_of(stat).face = Some((face.clone(), Instant::now()));
        }
        face
    }

    /// The name of a user, or the number if it has none; looked up once a pass.
    fn username(&mut self, uid: u32) -> Value {
        let name = || match names::user_by_uid(uid) {
            Some(user) => user.name.into(),
            None => uid.to_string().into(),
        };
        self.usernames.entry(uid).or_insert_with(name).clone()
    }
}

const NOT_AVAILABLE: &str = "N/A";

/// Virtual and resident memory in pages.
fn statm(pid: i32) -> Option<(u64, u64)> {
    let bytes = read_file(pid, "statm")?;
    let mut fields = std::str::from_utf8(&bytes).ok()?.split_ascii_whitespace();
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Seconds since the epoch at which the machine was started.
fn boot_time() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let seconds = text
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .and_then(|seconds| seconds.trim().parse().ok());
    seconds.unwrap_or(0.0)
}

/// The real user of a process.
fn real_user(pid: i32) -> Option<u32> {
    let status = read_file(pid, "status").unwrap_or_default();
    let real = String::from_utf8_lossy(&status)
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().next()?.parse().ok());
    // The owner of the directory is the effective user; they differ in set-user-id programs only.
    real.or_else(|| {
        let directory = std::fs::metadata(format!("/proc/{pid}")).ok()?;
        Some(directory.uid())
    })
}

/// The last part of the path of the first word, as Circus shows it.
fn cmdline(pid: i32) -> Value {
    let bytes = read_file(pid, "cmdline").unwrap_or_default();
    match first_word(&String::from_utf8_lossy(&bytes)) {
        Some(word) => word.into(),
        None => NOT_AVAILABLE.into(),
    }
}

/// `basename(shlex.split(psutil's cmdline()[0])[0])`.
fn first_word(text: &str) -> Option<String> {
    let ended = text.strip_suffix('\0');
    // Programs that set their title often leave one string with spaces in it.
    let argument = match ended {
        Some(text) if text.contains('\0') => text.split('\0').next()?,
        Some(text) => text.split(' ').next()?,
        None => text.split(' ').next()?,
    };
    let word = unquote(argument).unwrap_or_else(|| argument.to_owned());
    let word = match word.is_empty() && argument.is_empty() {
        true => return None,
        false => word,
    };
    Some(word.rsplit('/').next().unwrap_or_default().to_owned())
}

/// The first word of `shlex.split`; `None` for text it refuses or finds nothing in.
fn unquote(text: &str) -> Option<String> {
    let mut word = String::new();
    let mut quoted = None;
    let mut any = false;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quoted, c) {
            (Some(quote), c) if c == quote => quoted = None,
            (Some('\''), c) => word.push(c),
            (Some(_), '\\') => match characters.next()? {
                escaped @ ('"' | '\\') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quoted, any) = (Some(c), true),
            (None, '\\') => {
                word.push(characters.next()?);
                any = true;
            }
            (None, c) if c.is_ascii_whitespace() => {
                if any {
                    break;
                }
            }
            (None, c) => {
                word.push(c);
                any = true;
            }
        }
    }
    (quoted.is_none() && any).then_some(word)
}

/// `circus.util.bytes2human`: `512B`, `1.50K`, `3.25M` …
pub fn human_bytes(bytes: u64) -> String {
    const SYMBOLS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];
    for (power, symbol) in SYMBOLS.iter().enumerate().rev() {
        let unit = 1u64 << (10 * (power + 1));
        if bytes >= unit {
            return format!("{:.2}{symbol}", bytes as f64 / unit as f64);
        }
    }
    format!("{bytes}B")
}

/// Python's `round(value, digits)`: through the decimal text, which rounds correctly.
fn round(value: f64, digits: usize) -> f64 {
    format!("{value:.digits$}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_pid() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn keys_come_in_circus_order() {
        let mut sampler = Sampler::new();
        let infos = sampler.sample(&[own_pid(), i32::MAX]);
        let info = infos[0].as_object().unwrap();
        let keys: Vec<&String> = info.keys().collect();
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
        ];
        assert_eq!(keys, expected);
        assert_eq!(infos[1], GONE);
        assert_eq!(sampler.sample_alone(own_pid())["pid"], own_pid());
        assert_eq!(sampler.sample_alone(i32::MAX), GONE);
    }

    #[test]
    fn cpu_percent_is_that_of_the_time_between_two_looks() {
        let mut sampler = Sampler::new();
        let stat = |used| ProcStat {
            utime: used,
            stime: 0,
            ..ProcStat::read(own_pid()).unwrap()
        };
        assert_eq!(sampler.cpu(&stat(50), 1.0), 50.0); // half of its life
        let started = Instant::now();
        while started.elapsed() < SHORTEST {
            std::thread::yield_now();
        }
        let most = 10.0 / SHORTEST.as_secs_f64(); // 10 ticks in at least that time
        let busy = sampler.cpu(&stat(60), 1.0);
        assert!(busy > 0.0 && busy <= most, "{busy}");
        // Less than before can only be another process's number: never negative.
        assert_eq!(sampler.cpu(&stat(0), 1.0), 0.0);
    }

    #[test]
    fn ctime_has_circus_format() {
        let sampler = Sampler::new();
        let ctime = |utime| {
            let own = ProcStat::read(own_pid()).unwrap();
            let (stime, cutime, cstime, blkio) = (0, 0, 0, 0);
            sampler.ctime(&ProcStat {
                utime,
                stime,
                cutime,
                cstime,
                blkio,
                ..own
            })
        };
        assert_eq!(sampler.ticks, 100.0);
        assert_eq!(ctime(0), "0:00.0");
        assert_eq!(ctime(5), "0:00.50"); // sic: Circus drops the leading zero
        assert_eq!(ctime(12), "0:00.12");
        assert_eq!(ctime(6_112), "1:01.12");
        assert_eq!(ctime(360_000), "0:00.0"); // sic: no hours
    }

    #[test]
    fn the_command_is_the_first_word() {
        let word = |text: &str| first_word(text);
        assert_eq!(word("/usr/bin/python\0-m\0x\0").as_deref(), Some("python"));
        assert_eq!(
            word("nginx: master process /x\0").as_deref(),
            Some("nginx:")
        );
        assert_eq!(word("gunicorn: worker").as_deref(), Some("gunicorn:"));
        assert_eq!(word("/opt/my prog\0x\0").as_deref(), Some("my"));
        assert_eq!(word("it's\0x\0").as_deref(), Some("it's"));
        assert_eq!(word("\"a b/c d\"\0x\0").as_deref(), Some("c d"));
        assert_eq!(word(""), None);
        assert_eq!(word("\0"), None);
    }

    #[test]
    fn bytes_are_written_as_circus_does() {
        assert_eq!(human_bytes(0), "0B");
        assert_eq!(human_bytes(1023), "1023B");
        assert_eq!(human_bytes(1536), "1.50K");
        assert_eq!(human_bytes(5_242_880), "5.00M");
        assert_eq!(human_bytes(u64::MAX), "16.00E");
    }

    #[test]
    fn a_sampler_may_live_on_another_thread_and_forgets() {
        fn is_send<T: Send>(_: &T) {}
        let mut sampler = Sampler::new();
        is_send(&sampler);
        sampler.sample_alone(own_pid());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        sampler.sample_alone(i32::try_from(child.id()).unwrap());
        child.wait().unwrap();
        for _ in 0..2 * FORGET {
            sampler.sample_alone(own_pid());
        }
        assert_eq!(sampler.memories.len(), 1);
    }
}
