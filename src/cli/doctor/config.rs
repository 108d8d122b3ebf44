//! What is dangerous in a configuration, or asks more of this machine than it has. Beside what `circ config check` finds. Looks, and
//! changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;

use super::finding::{Finding, Severity};
use crate::cli::events::exec;
use crate::config::{Config, SocketType};
use crate::daemon::holder;
use crate::options::WatcherOptions;
use crate::stats::human_bytes;
use crate::wire::Endpoint;

/// Less than this is little room for logs, in bytes.
const LITTLE_ROOM: u64 = 100 << 20;
/// How long a Python may take to say whether a module is there.
const PYTHON: Duration = Duration::from_secs(5);

/// What is to be looked at.
pub struct Looking<'a> {
    pub config: &'a Config,
    /// The directory that relative paths start from.
    pub cwd: &'a Path,
    /// The daemon that runs with it, if there is one on this machine.
    pub daemon: Option<u32>,
}

/// Everything that was found.
pub fn findings(looking: &Looking<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    looking.endpoints(&mut found);
    looking.files(&mut found);
    looking.pidfile(&mut found);
    looking.ports(&mut found);
    looking.outputs(&mut found);
    looking.limits(&mut found);
    looking.hooks(&mut found);
    found
}

impl Looking<'_> {
    /// `FILE:LINE` of a key, or of its section.
    fn place(&self, section: &str, key: &str) -> String {
        let source = self.config.source(section, key);
        match source.or_else(|| self.config.section_source(section)) {
            Some((file, line)) => format!("{}:{line}", file.display()),
            None => format!("[{section}] {key}"),
        }
    }

    /// Who can reach the daemon.
    fn endpoints(&self, found: &mut Vec<Finding>) {
        let circus = &self.config.circus;
        let mut all = vec![
            ("endpoint", circus.endpoint.as_str()),
            ("pubsub_endpoint", circus.pubsub_endpoint.as_str()),
        ];
        if circus.statsd {
            all.push(("stats_endpoint", circus.stats_endpoint.as_str()));
        }
        for (key, text) in all {
            match text.parse::<Endpoint>() {
                Ok(Endpoint::Tcp { host, .. }) if is_public(&host) => {
                    let (severity, why) = match key {
                        "endpoint" => (
                            Severity::Error,
                            "there is no password: whoever reaches this port runs any command as the daemon's user",
                        ),
                        _ => (
                            Severity::Warning,
                            "there is no password: whoever reaches this port reads what happens here",
                        ),
                    };
                    found.push(
                        Finding::new(severity, "endpoint-public", format!("{key} {text} is open to the network"))
                            .at(self.place("circus", key))
                            .because(why)
                            .fix("bind it to 127.0.0.1 or, better, an ipc:// path; reach it from elsewhere with --ssh"),
                    );
                }
                Ok(Endpoint::Tcp { .. }) if key == "endpoint" => found.push(
                    Finding::new(
                        Severity::Note,
                        "endpoint-tcp",
                        format!("{key} {text} is open to every user of this machine"),
                    )
                    .at(self.place("circus", key))
                    .because("each of them can run any command as the daemon's user")
                    .fix("an ipc:// endpoint is for its owner only (and endpoint_owner)"),
                ),
                Ok(Endpoint::Ipc(path)) => self.directory(key, &path, found),
                _ => {}
            }
        }
    }

    /// Who can put another socket in the place of ours.
    fn directory(&self, key: &str, path: &Path, found: &mut Vec<Finding>) {
        let path = self.cwd.join(path);
        let Some(parent) = path.parent() else { return };
        let Ok(metadata) = fs::metadata(parent) else {
            return;
        };
        let mode = metadata.permissions().mode();
        let (others, sticky) = (mode & 0o002 != 0, mode & 0o1000 != 0);
        let what = format!("anybody may write into {}", parent.display());
        let place = self.place("circus", key);
        if others && !sticky {
            found.push(
                Finding::new(Severity::Error, "directory-open", what)
                    .at(place)
                    .because("any user can put a socket of his own in the place of the daemon's, and hear your commands")
                    .fix(format!("chmod o-w {}, or choose another directory", parent.display())),
            );
        } else if others {
            found.push(
                Finding::new(Severity::Note, "directory-shared", what)
                    .at(place)
                    .because("while no daemon runs, any user can make a socket of this name first")
                    .fix("choose a directory of the daemon's own, such as one in /run"),
            );
        }
    }

    /// Who can change what the daemon runs.
    fn files(&self, found: &mut Vec<Finding>) {
        for file in &self.config.files {
            let Ok(metadata) = fs::metadata(file) else {
                continue;
            };
            let mode = metadata.permissions().mode();
            if mode & 0o002 != 0 {
                found.push(
                    Finding::new(Severity::Error, "file-open", "anybody may write into this file")
                        .at(file.display().to_string())
                        .because("who can change it runs any command as the daemon's user at the next reload")
                        .fix(format!("chmod o-w {}", file.display())),
                );
            }
            let (owner, me) = (metadata.uid(), nix::unistd::geteuid());
            if me.is_root() && owner != 0 {
                found.push(
                    Finding::new(
                        Severity::Warning,
                        "file-owner",
                        format!("this file belongs to user {owner}"),
                    )
                    .at(file.display().to_string())
                    .because("if the daemon runs as root, that user can have anything run as root")
                    .fix(format!("chown root {}", file.display())),
                );
            }
        }
    }

    fn pidfile(&self, found: &mut Vec<Finding>) {
        let Some(path) = &self.config.circus.pidfile else {
            return;
        };
        let path = self.cwd.join(path);
        let Ok(text) = fs::read_to_string(&path) else {
            return;
        };
        let place = path.display().to_string();
        let said: Option<u32> = text.trim().parse().ok();
        let lives = said.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists());
        match (said, self.daemon) {
            (Some(said), Some(daemon)) if said != daemon => found.push(
                Finding::new(Severity::Warning, "pidfile-other", format!("the pid file says {said}, the daemon is {daemon}"))
                    .at(place)
                    .because("scripts that use it signal another process")
                    .fix("another daemon has written it, or it was restored from somewhere: remove it and restart the daemon"),
            ),
            (Some(said), None) if !lives => found.push(
                Finding::new(Severity::Note, "pidfile-stale", format!("the pid file says {said}, and there is no such process"))
                    .at(place)
                    .because("the daemon went without an end in order")
                    .fix("nothing: the next daemon takes it over"),
            ),
            (None, _) => found.push(
                Finding::new(Severity::Warning, "pidfile-odd", "there is no pid in the pid file")
                    .at(place)
                    .because("a daemon writes nothing else there: it may be another program's file")
                    .fix("choose another pidfile"),
            ),
            _ => {}
        }
    }

    /// Ports that somebody else has. What the running daemon has bound is its own.
    fn ports(&self, found: &mut Vec<Finding>) {
        for socket in &self.config.sockets {
            let stream = socket.kind == SocketType::Stream && socket.path.is_none();
            if !stream || socket.port == 0 || socket.so_reuseport {
                continue;
            }
            let addresses = (socket.host.as_str(), socket.port).to_socket_addrs();
            let held = addresses.into_iter().flatten().find_map(holder::of_address);
            let Some(holder) = held.filter(|holder| !self.is_ours(holder.pid)) else {
                continue;
            };
            let section = format!("socket:{}", socket.name);
            found.push(
                Finding::new(
                    Severity::Error,
                    "port-taken",
                    format!("{}:{} is taken by {holder}", socket.host, socket.port),
                )
                .at(self.place(&section, "port"))
                .because("the daemon cannot bind it and does not start")
                .fix("end that program, or choose another port"),
            );
        }
    }

    /// The daemon or one of its descendants: workers inherit its sockets.
    fn is_ours(&self, pid: u32) -> bool {
        let Some(daemon) = self.daemon else {
            return false;
        };
        let mut pid = pid;
        while pid > 1 {
            if pid == daemon {
                return true;
            }
            let parent = fs::read_to_string(format!("/proc/{pid}/stat"))
                .ok()
                .and_then(|text| {
                    let (_, rest) = text.rsplit_once(')')?;
                    rest.split_whitespace().nth(1)?.parse::<u32>().ok()
                });
            match parent {
                Some(parent) => pid = parent,
                None => return false,
            }
        }
        false
    }

    /// Disks that are full or nearly so.
    fn outputs(&self, found: &mut Vec<Finding>) {
        let mut looked = BTreeSet::new();
        let mut look = |place: String, file: &str, found: &mut Vec<Finding>| {
            let path = self.cwd.join(file);
            let Some(parent) = path.parent().map(Path::to_path_buf) else {
                return;
            };
            let (Ok(disk), Ok(metadata)) = (statvfs(&parent), fs::metadata(&parent)) else {
                return;
            };
            if !looked.insert(metadata.dev()) {
                return;
            }
            let room = disk.blocks_available() * disk.fragment_size();
            let inodes_gone = disk.files() > 0 && disk.files_available() == 0;
            let disk = parent.display();
            if room == 0 || inodes_gone {
                found.push(
                    Finding::new(
                        Severity::Error,
                        "disk-full",
                        format!("the disk of {disk} is full"),
                    )
                    .at(place)
                    .because("what workers say is kept for a while and then dropped")
                    .fix("make room; max_bytes and backup_count keep a stream's files small"),
                );
            } else if room < LITTLE_ROOM {
                let what = format!("the disk of {disk} has only {} left", human_bytes(room));
                found.push(
                    Finding::new(Severity::Warning, "disk-little", what)
                        .at(place)
                        .because("when it is full, what workers say is dropped")
                        .fix("make room; max_bytes and backup_count keep a stream's files small"),
                );
            }
        };
        for (section, watcher) in self.config.watchers_by_section() {
            for (name, stream) in [
                ("stdout_stream", watcher.stdout_stream()),
                ("stderr_stream", watcher.stderr_stream()),
            ] {
                let file = stream.and_then(|stream| stream.get("filename")?.as_str());
                if let Some(file) = file.filter(|file| !file.contains("$(") && !file.contains("(("))
                {
                    let key = format!("{name}.filename");
                    look(self.place(section, &key), file, found);
                }
            }
        }
        if let Some(log) = &self.config.circus.logoutput
            && log != "-"
            && !log.contains("://")
        {
            look(self.place("circus", "logoutput"), log, found);
        }
    }

    /// Descriptors and processes.
    fn limits(&self, found: &mut Vec<Finding>) {
        let autostarted = |watcher: &&WatcherOptions| watcher.autostart();
        let workers: u64 = self
            .config
            .watchers
            .iter()
            .filter(autostarted)
            .map(|watcher| u64::from(watcher.numprocesses()))
            .sum();
        // A pipe for each stream, one pidfd or socket more in bad times, and what the daemon has itself.
        let piped = |watcher: &WatcherOptions| {
            let streams = [watcher.stdout_stream(), watcher.stderr_stream()];
            1 + streams.iter().flatten().count() as u64
        };
        let pipes: u64 = self
            .config
            .watchers
            .iter()
            .map(|watcher| u64::from(watcher.numprocesses()) * piped(watcher))
            .sum();
        let needed = pipes + self.config.sockets.len() as u64 + 64;
        let (files, processes) = match self.daemon.and_then(limits_of) {
            Some(limits) => limits,
            None => {
                let of = |resource| getrlimit(resource).map_or(u64::MAX, |(soft, _)| soft);
                (of(Resource::RLIMIT_NOFILE), of(Resource::RLIMIT_NPROC))
            }
        };
        let whose = match self.daemon {
            Some(pid) => format!("the daemon (pid {pid})"),
            None => "a daemon that is started from this shell".to_string(),
        };
        if files < needed {
            found.push(
                Finding::new(
                    Severity::Warning,
                    "limit-files",
                    format!("{whose} may open {files} files, and needs about {needed} for {workers} workers"),
                )
                .because("workers cannot be started when there are no descriptors left")
                .fix("raise it: ulimit -n, or LimitNOFILE= in its systemd unit"),
            );
        }
        if let Some(pid) = self.daemon {
            let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count) as u64;
            if open * 10 > files.saturating_mul(9) {
                found.push(
                    Finding::new(
                        Severity::Error,
                        "files-used-up",
                        format!("the daemon (pid {pid}) has {open} of {files} files open"),
                    )
                    .because("workers cannot be started when there are no descriptors left")
                    .fix("raise it: ulimit -n, or LimitNOFILE= in its systemd unit"),
                );
            }
        }
        // root is not held to it
        if processes < workers && !nix::unistd::geteuid().is_root() {
            found.push(
                Finding::new(
                    Severity::Warning,
                    "limit-processes",
                    format!(
                        "{whose} may have {processes} processes, and {workers} workers are wanted"
                    ),
                )
                .because("the last of them cannot be started")
                .fix("raise it: ulimit -u, or TasksMax= and LimitNPROC= in its systemd unit"),
            );
        }
    }

    /// Hooks whose program or module is not there.
    fn hooks(&self, found: &mut Vec<Finding>) {
        for (section, watcher) in self.config.watchers_by_section() {
            for name in crate::options::HOOKS {
                let Some(hook) = watcher.hook(name) else {
                    continue;
                };
                let problem = match hook.target.strip_prefix("exec:") {
                    Some(command) => self.program(watcher, command),
                    None => self.module(watcher, hook.target),
                };
                if let Some(problem) = problem {
                    found.push(
                        Finding::new(Severity::Error, "hook-missing", format!("{name}: {problem}"))
                            .at(self.place(section, &format!("hooks.{name}")))
                            .because("a hook that cannot be found is a refusal: the watcher does not start, or stops")
                            .fix("mend the name, or set [circus] python (or the watcher's virtualenv) to the Python that has the module"),
                    );
                }
            }
        }
    }

    fn home(&self, watcher: &WatcherOptions) -> PathBuf {
        self.cwd.join(watcher.working_dir())
    }

    fn program(&self, watcher: &WatcherOptions, command: &str) -> Option<String> {
        let words = crate::config::shlex::split(command).ok()?;
        let program = words.first()?;
        if !program.contains('/') {
            return None;
        }
        let path = self.home(watcher).join(program);
        match fs::metadata(&path) {
            Err(error) => Some(format!("{}: {error}", path.display())),
            Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => {
                Some(format!("{} is not executable", path.display()))
            }
            Ok(_) => None,
        }
    }

    /// Asks the Python that would run the hook whether it finds the module; nothing of the module is run but its packages'
    /// `__init__`.
    fn module(&self, watcher: &WatcherOptions, target: &str) -> Option<String> {
        let module = target.split(':').next()?;
        let module = match target.contains(':') {
            true => module,
            false => module.rsplit_once('.')?.0,
        };
        let top = module.split('.').next()?;
        let home = self.home(watcher);
        let here = [home.as_path(), self.cwd];
        let file = |dir: &&Path| dir.join(format!("{top}.py")).exists() || dir.join(top).is_dir();
        if here.iter().any(file) {
            return None;
        }
        let python = match (watcher.virtualenv(), &self.config.circus.python) {
            ("", Some(python)) => PathBuf::from(python),
            ("", None) => PathBuf::from("python3"),
            (env, _) => self.cwd.join(env).join("bin/python"),
        };
        let script =
            "import importlib.util, sys\nsys.exit(importlib.util.find_spec(sys.argv[1]) is None)";
        let mut child = std::process::Command::new(&python)
            .args(["-c", script, top])
            .current_dir(&home)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn();
        let child = match &mut child {
            Ok(child) => child,
            Err(error) => {
                return Some(format!(
                    "there is no {} to run it: {error}",
                    python.display()
                ));
            }
        };
        match exec::wait(child, PYTHON) {
            Ok(Some(status)) if status.code() == Some(1) => {
                Some(format!("{} finds no module {top}", python.display()))
            }
            Ok(Some(_)) => None,
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                None
            }
        }
    }
}

/// Whether an address is more than this machine's own.
fn is_public(host: &str) -> bool {
    match host {
        "*" => true,
        "localhost" => false,
        host => match host.parse::<IpAddr>() {
            Ok(address) => !address.is_loopback(),
            Err(_) => (host, 0)
                .to_socket_addrs()
                .is_ok_and(|mut all| all.any(|address: SocketAddr| !address.ip().is_loopback())),
        },
    }
}

/// Soft limits of a process: open files and processes.
fn limits_of(pid: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let soft = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        let word = line.get(name.len()..)?.split_whitespace().next()?;
        Some(word.parse().unwrap_or(u64::MAX))
    };
    Some((soft("Max open files")?, soft("Max processes")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_not_public() {
        for (host, public) in [
            ("*", true),
            ("0.0.0.0", true),
            ("::", true),
            ("192.0.2.1", true),
            ("127.0.0.1", false),
            ("127.3.2.1", false),
            ("::1", false),
            ("localhost", false),
        ] {
            assert_eq!(is_public(host), public, "{host}");
        }
    }

    #[test]
    fn the_limits_of_a_process_are_read() {
        let (files, _) = limits_of(std::process::id()).unwrap();
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(files, soft);
    }
}
