//! One walk over `/proc`: the `stat` file of every process, parsed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};

/// What `/proc/PID/stat` says. Times are in clock ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcStat {
    /// Process id.
    pub pid: i32,
    /// The parent's process id.
    pub ppid: i32,
    /// The state letter: `R`, `S`, `Z` …
    pub state: char,
    /// The name of the program, at most 15 bytes, any characters.
    pub comm: String,
    /// CPU time in user mode.
    pub utime: u64,
    /// CPU time in the kernel.
    pub stime: u64,
    /// User time of children that have been waited for.
    pub cutime: u64,
    /// Kernel time of children that have been waited for.
    pub cstime: u64,
    /// Niceness, -20 to 19.
    pub nice: i64,
    /// Its threads.
    pub threads: u64,
    /// When it started, in ticks after boot. With the pid it identifies a process for ever.
    pub starttime: u64,
    /// Virtual memory in bytes.
    pub vsize: u64,
    /// Resident memory in pages.
    pub rss: u64,
    /// Ticks spent waiting for block devices, where the kernel accounts them.
    pub blkio: u64,
}

impl ProcStat {
    /// Parses a `stat` file. The name in it may contain spaces, parentheses and line ends.
    pub fn parse(bytes: &[u8]) -> Option<ProcStat> {
        let open = bytes.iter().position(|byte| *byte == b'(')?;
        let close = bytes.iter().rposition(|byte| *byte == b')')?;
        let pid = std::str::from_utf8(bytes.get(..open)?).ok()?;
        let comm = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
        let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
        // Numbered as in proc(5): the state is field 3.
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let ppid = fields.next()?.parse().ok()?; // 4
        let utime = fields.nth(9)?.parse().ok()?; // 14
        let stime = fields.next()?.parse().ok()?;
        let cutime = fields.next()?.parse().ok()?;
        let cstime = fields.next()?.parse().ok()?; // 17
        let nice = fields.nth(1)?.parse().ok()?; // 19
        let threads = fields.next()?.parse().ok()?; // 20
        let starttime = fields.nth(1)?.parse().ok()?; // 22
        let vsize = fields.next()?.parse().ok()?;
        let rss = fields.next()?.parse::<i64>().ok()?; // 24, signed in the kernel
        let blkio = fields.nth(17).and_then(|ticks| ticks.parse().ok()); // 42
        Some(ProcStat {
            pid: pid.trim().parse().ok()?,
            ppid,
            state,
            comm,
            utime,
            stime,
            cutime,
            cstime,
            nice,
            threads,
            starttime,
            vsize,
            rss: u64::try_from(rss).unwrap_or(0),
            blkio: blkio.unwrap_or(0),
        })
    }

    /// Reads one process; `None` if there is none with this pid.
    pub fn read(pid: i32) -> Option<ProcStat> {
        ProcStat::parse(&read_file(pid, "stat")?)
    }

    /// Dead, but not waited for by its parent yet.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// A small file of a process. `None` if the process has gone, or is not ours to look at.
pub(super) fn read_file(pid: i32, name: &str) -> Option<Vec<u8>> {
    let mut file = File::open(format!("/proc/{pid}/{name}")).ok()?;
    // The kernel makes these files in one piece: a read that does not fill the buffer was the last.
    let mut bytes = vec![0; 1024];
    let mut length = 0;
    loop {
        match file.read(bytes.get_mut(length..)?) {
            Ok(0) => break,
            Ok(count) => {
                length += count;
                if length == bytes.len() {
                    bytes.resize(length * 2, 0);
                } else {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None, // ESRCH: it ended while we read
        }
    }
    bytes.truncate(length);
    Some(bytes)
}

/// The processes of the machine at one moment (as far as a walk is a moment).
#[derive(Debug, Clone, Default)]
pub struct Pass {
    processes: HashMap<i32, ProcStat>,
    /// Children of each parent, in ascending order of pid.
    children: HashMap<i32, Vec<i32>>,
}

impl Pass {
    /// Walks over `/proc`. Processes that end meanwhile are left out.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn read() -> io::Result<Pass> {
        let mut pids: Vec<i32> = std::fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        Ok(pids.into_iter().filter_map(ProcStat::read).collect())
    }

    /// These processes and their children only; `None` if the kernel does not list children.
    pub fn of(pids: &[i32]) -> Option<Pass> {
        let mut wanted: Vec<i32> = pids.to_vec();
        for pid in pids {
            wanted.extend(super::tree::children_of(*pid)?);
        }
        wanted.sort_unstable();
        wanted.dedup();
        Some(wanted.into_iter().filter_map(ProcStat::read).collect())
    }

    /// The process with this pid.
    pub fn get(&self, pid: i32) -> Option<&ProcStat> {
        self.processes.get(&pid)
    }

    /// The pids of its children, ascending.
    pub fn children(&self, pid: i32) -> &[i32] {
        self.children.get(&pid).map_or(&[], Vec::as_slice)
    }

    /// The children of these processes, or with `recursive` all their descendants, each once.
    pub fn descendants(&self, pids: &[i32], recursive: bool) -> Vec<i32> {
        super::tree::walk(pids, recursive, |pid| self.children(pid).to_vec())
    }
}

impl FromIterator<ProcStat> for Pass {
    fn from_iter<I: IntoIterator<Item = ProcStat>>(processes: I) -> Pass {
        let mut pass = Pass::default();
        for process in processes {
            pass.children
                .entry(process.ppid)
                .or_default()
                .push(process.pid);
            pass.processes.insert(process.pid, process);
        }
        pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "S 41 42 42 0 -1 4194560 1 2 3 4 50 60 7 8 20 -5 1 0 1000 8192 2 \
                        18446744073709551615 1 1 0 0 0 0 0 4096 81926 1 0 0 17 1 0 0 9 0 0";

    #[test]
    fn hostile_names_do_not_shift_the_fields() {
        for name in [
            "sh",
            "a b",
            "a) R 1 (b",
            "((",
            "))",
            "",
            "x\ny",
            ") S 1 2 3",
        ] {
            let line = format!("42 ({name}) {TAIL}\n");
            let stat = ProcStat::parse(line.as_bytes()).unwrap();
            assert_eq!(stat.comm, name);
            assert_eq!((stat.pid, stat.ppid, stat.state), (42, 41, 'S'));
            let times = (stat.utime, stat.stime, stat.cutime, stat.cstime, stat.blkio);
            assert_eq!(times, (50, 60, 7, 8, 9));
            let rest = (stat.nice, stat.starttime, stat.vsize, stat.rss);
            assert_eq!(rest, (-5, 1000, 8192, 2));
        }
        let bytes = [b"42 (\xff\xfe) ", TAIL.as_bytes()].concat();
        assert_eq!(ProcStat::parse(&bytes).unwrap().pid, 42);
    }

    #[test]
    fn cut_off_text_is_none() {
        let line = format!("42 (sh) {TAIL}");
        let needed = line.find(" 18446744073709551615").unwrap();
        for end in 0..needed - 2 {
            assert_eq!(ProcStat::parse(&line.as_bytes()[..end]), None, "{end}");
        }
        // Old kernels have fewer fields; the waiting for disks is the only one of ours among them.
        assert_eq!(
            ProcStat::parse(&line.as_bytes()[..needed]).unwrap().blkio,
            0
        );
    }

    #[test]
    fn the_walk_finds_this_process_under_its_parent() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let pass = Pass::read().unwrap();
        let own = pass.get(pid).unwrap();
        assert!(own.rss > 0 && own.vsize > 0);
        assert!(pass.children(own.ppid).contains(&pid));
    }
}
