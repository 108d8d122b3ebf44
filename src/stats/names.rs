//! Users and groups: `/etc/passwd` and `/etc/group` read by ourselves.
//!
//! The binary is static, so the C library cannot load the modules that know users from LDAP and the
//! like. Where `/etc/nsswitch.conf` names such sources, `getent` is asked, with a time limit. Files are
//! read again when they have changed; what `getent` said is kept for a while, "unknown" too, because
//! the callers are on threads that have other things to do.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A line of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The group it has by default.
    pub gid: u32,
}

/// A line of the group database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The group's name.
    pub name: String,
    /// Its number.
    pub gid: u32,
    /// Login names of the users who have it as a supplementary group.
    pub members: Vec<String>,
}

/// How long an answer of `getent` holds.
const KEEP: Duration = Duration::from_secs(60);
/// How long `getent` may take: a directory server that is away must not hold up a start for long.
const LIMIT: Duration = Duration::from_secs(2);

/// The user with this number.
pub fn user_by_uid(uid: u32) -> Option<User> {
    let mut names = names();
    names.passwd.refresh();
    match names.passwd.entries.iter().find(|user| user.uid == uid) {
        Some(user) => Some(user.clone()),
        None => names.ask("passwd", &uid.to_string(), parse_user),
    }
}

/// The user with this name.
pub fn user_by_name(name: &str) -> Option<User> {
    let mut names = names();
    names.passwd.refresh();
    match names.passwd.entries.iter().find(|user| user.name == name) {
        Some(user) => Some(user.clone()),
        None => names.ask("passwd", name, parse_user),
    }
}

/// The group with this number.
pub fn group_by_gid(gid: u32) -> Option<Group> {
    let mut names = names();
    names.group.refresh();
    match names.group.entries.iter().find(|group| group.gid == gid) {
        Some(group) => Some(group.clone()),
        None => names.ask("group", &gid.to_string(), parse_group),
    }
}

/// The group with this name.
pub fn group_by_name(name: &str) -> Option<Group> {
    let mut names = names();
    names.group.refresh();
    match names.group.entries.iter().find(|group| group.name == name) {
        Some(group) => Some(group.clone()),
        None => names.ask("group", name, parse_group),
    }
}

/// All groups of a user, as `initgroups(3)` sets them: `gid` first, then those that list the user.
pub fn groups_of(user: &str, gid: u32) -> Vec<u32> {
    let mut names = names();
    names.group.refresh();
    let mut groups = vec![gid];
    let listed = names.group.entries.iter();
    let listed = listed.filter(|group| group.members.iter().any(|member| member == user));
    groups.extend(listed.map(|group| group.gid));
    if let Some(line) = names.ask("initgroups", user, |line| Some(line.to_owned())) {
        // "name  4 24 27": the numbers after the name.
        let numbers = line.split_whitespace().skip(1);
        groups.extend(numbers.filter_map(|number| number.parse::<u32>().ok()));
    }
    let mut seen = std::collections::HashSet::new();
    groups.retain(|gid| seen.insert(*gid));
    groups
}

fn parse_user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(User {
        name: name.to_owned(),
        uid,
        gid,
    })
}

fn parse_group(line: &str) -> Option<Group> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let gid = fields.nth(1)?.parse().ok()?;
    let members = fields.next().unwrap_or_default().trim_end().split(',');
    Some(Group {
        name: name.to_owned(),
        gid,
        members: members
            .map(|member| member.trim().to_owned())
            .filter(|member| !member.is_empty())
            .collect(),
    })
}

/// A file of lines, kept until it changes.
struct Lines<T> {
    path: &'static str,
    parse: fn(&str) -> Option<T>,
    stamp: Option<(u64, u64, i64, i64)>,
    entries: Vec<T>,
}

impl<T> Lines<T> {
    const fn new(path: &'static str, parse: fn(&str) -> Option<T>) -> Lines<T> {
        Lines {
            path,
            parse,
            stamp: None,
            entries: Vec::new(),
        }
    }

    fn refresh(&mut self) {
        let stamp = std::fs::metadata(self.path)
            .ok()
            .map(|file| (file.ino(), file.size(), file.mtime(), file.mtime_nsec()));
        if stamp == self.stamp {
            return;
        }
        // A file that is absent or not readable knows nobody, as with the C library.
        let text = std::fs::read(self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        self.entries = text
            .lines()
            .filter(|line| !line.starts_with(['#', '+', '-']))
            .filter_map(self.parse)
            .collect();
        self.stamp = stamp;
    }
}

/// Database and key.
type Question = (&'static str, String);
/// When it was asked, and the line that came.
type Answer = (Instant, Option<String>);

struct Names {
    passwd: Lines<User>,
    group: Lines<Group>,
    sources: Lines<(String, bool)>,
    asked: Option<HashMap<Question, Answer>>,
}

static NAMES: Mutex<Names> = Mutex::new(Names {
    passwd: Lines::new("/etc/passwd", parse_user),
    group: Lines::new("/etc/group", parse_group),
    sources: Lines::new("/etc/nsswitch.conf", parse_source),
    asked: None,
});

fn names() -> std::sync::MutexGuard<'static, Names> {
    // What is cached is valid even if a thread died while it held the lock.
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line of nsswitch.conf: the database, and whether it has sources other than files. `systemd`
/// (users made up by units) is known to `getent` only, but lists nobody's supplementary groups.
fn parse_source(line: &str) -> Option<(String, bool)> {
    let line = line.split('#').next().unwrap_or_default();
    let (database, sources) = line.split_once(':')?;
    let database = database.trim();
    let other = sources.split_whitespace().any(|source| match source {
        "files" | "compat" => false,
        "systemd" => database == "passwd",
        action => !action.starts_with('['),
    });
    Some((database.to_owned(), other))
}

impl Names {
    /// Asks `getent`, if the database has sources that only it knows.
    fn ask<T>(
        &mut self,
        database: &'static str,
        key: &str,
        parse: fn(&str) -> Option<T>,
    ) -> Option<T> {
        self.sources.refresh();
        let source = if database == "initgroups" {
            "group"
        } else {
            database
        };
        if !self
            .sources
            .entries
            .iter()
            .any(|(name, other)| name == source && *other)
        {
            return None;
        }
        // A key that looks like an option, or holds a separator, names nobody.
        if key.is_empty() || key.starts_with('-') || key.contains([':', '\n', '\0']) {
            return None;
        }
        let asked = self.asked.get_or_insert_with(HashMap::new);
        let entry = (database, key.to_owned());
        let fresh = asked
            .get(&entry)
            .filter(|(when, _)| when.elapsed() < KEEP)
            .map(|(_, line)| line.clone());
        let line = match fresh {
            Some(line) => line,
            None => {
                asked.retain(|_, (when, _)| when.elapsed() < KEEP);
                let line = getent(database, key);
                asked.insert(entry, (Instant::now(), line.clone()));
                line
            }
        };
        parse(&line?)
    }
}

/// The first line that `getent DATABASE KEY` prints within the time limit.
fn getent(database: &str, key: &str) -> Option<String> {
    let mut child = Command::new("getent")
        .args([database, key])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let text = read_within(&mut child, LIMIT);
    if text.is_none() {
        let _ = child.kill(); // it may have ended by itself
    }
    // The daemon's reaper may have been faster; the answer is in the pipe, not in the exit code.
    let _ = child.wait();
    text?.lines().next().map(str::to_owned)
}

/// All that a child prints until it closes its output; `None` if that takes too long.
fn read_within(child: &mut Child, limit: Duration) -> Option<String> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut output = child.stdout.take()?;
    let deadline = Instant::now() + limit;
    let mut bytes = Vec::new();
    let mut chunk = [0u8; 4096];
    loop {
        let left = deadline.checked_duration_since(Instant::now())?;
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) => return None,
            Ok(_) => match output.read(&mut chunk).ok()? {
                0 => return String::from_utf8(bytes).ok(),
                count => bytes.extend_from_slice(chunk.get(..count)?),
            },
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_both_ways() {
        let root = user_by_uid(0).unwrap();
        assert_eq!((root.name.as_str(), root.gid), ("root", 0));
        assert_eq!(user_by_name("root"), Some(root));
        assert_eq!(group_by_gid(0), group_by_name("root"));
        assert_eq!(user_by_name("no-such-user-here"), None);
        assert_eq!(user_by_name("--help"), None);
    }

    #[test]
    fn lines_are_parsed_and_bad_ones_passed_over() {
        let user = parse_user("web:x:33:34:www:/var/www:/bin/sh").unwrap();
        assert_eq!((user.name.as_str(), user.uid, user.gid), ("web", 33, 34));
        assert_eq!(parse_user("web:x:abc:33"), None);
        assert_eq!(parse_user("web"), None);
        assert_eq!(parse_user(":x:1:1"), None);
        let group = parse_group("adm:x:4:a, b,").unwrap();
        assert_eq!(group.members, ["a", "b"]);
        assert!(parse_group("g:x:5:").unwrap().members.is_empty());
        assert!(parse_group("g:x:5").is_some());
    }

    #[test]
    fn other_sources_are_seen_in_nsswitch() {
        let other = |line: &str| parse_source(line).unwrap().1;
        assert!(!other("passwd: files # ldap"));
        assert!(!other("group: files systemd"));
        assert!(!other("group: files [SUCCESS=merge]"));
        assert!(other("passwd:files systemd"));
        assert!(other("group: files sss"));
        assert!(parse_source("# nothing").is_none());
    }

    #[test]
    fn getent_answers_or_is_given_up() {
        // getent is part of every glibc system; without it the lookup is just empty.
        if let Some(line) = getent("passwd", "root") {
            assert!(line.starts_with("root:"), "{line}");
        }
        let mut child = Command::new("sleep")
            .arg("60")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(read_within(&mut child, Duration::from_millis(10)), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
