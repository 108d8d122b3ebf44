//! Why a daemon cannot be reached: looks at the address, at who has it, and at who else there is.

use std::fs;
use std::net::ToSocketAddrs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::finding::{Finding, Severity};
use crate::daemon::holder::{self, Holder, command_of};
use crate::wire::{ClientError, Endpoint};

/// What keeps `error` from being a reply, as far as this machine shows it.
pub fn unreachable(endpoint: &Endpoint, error: &ClientError, remote: bool) -> Vec<Finding> {
    let place = endpoint.to_string();
    let found = |id, what: String| Finding::new(Severity::Error, id, what).at(place.clone());
    let holder = match remote {
        true => None,
        false => who_has(endpoint),
    };
    let mut all = vec![match error {
        ClientError::Unreachable { source, .. } if !remote => nobody(endpoint, source, holder.as_ref(), &found),
        ClientError::Unreachable { source, .. } => {
            found("nobody-listens", format!("nobody listens: {source}")).fix(
                "start the daemon there, or give its endpoint with --endpoint or --config",
            )
        }
        ClientError::Forbidden { source, .. } => forbidden(endpoint, source, &found),
        ClientError::NotZeroMq { detail, .. } => {
            let who = holder
                .as_ref()
                .map_or("another program".to_string(), ToString::to_string);
            found("other-program", format!("{who} has this address: {detail}"))
                .because("it speaks, but not ZeroMQ's protocol: this is no daemon of Circus")
                .fix("give the daemon's own endpoint, or give the daemon an address that is free")
        }
        ClientError::Silent { seconds, .. } => {
            silent(holder.as_ref(), *seconds, "accepts connections and says nothing", &found)
        }
        ClientError::NoAnswer { seconds, .. } => {
            silent(holder.as_ref(), *seconds, "is connected and does not answer", &found)
        }
        ClientError::Abandoned { .. } | ClientError::StillRunning { .. } => {
            found("busy", "the daemon is busy with this".to_string())
        }
        ClientError::Closed { .. } => found(
            "closed",
            "the connection was closed before there was an answer".to_string(),
        )
        .because("the daemon ended just now, or this is an event or statistics endpoint, where nobody answers")
        .fix("give the control endpoint: `endpoint` of the [circus] section"),
        ClientError::BadReply { detail, .. } => {
            found("bad-reply", format!("it answered something that is no reply: {detail}"))
                .because("this is a ZeroMQ socket, but not that of a daemon of Circus")
                .fix("give the daemon's own endpoint")
        }
        ClientError::Local { detail, .. } => found("local", detail.clone()),
    }];
    if !remote && holder.is_none() {
        all.extend(others(endpoint));
    }
    all
}

fn who_has(endpoint: &Endpoint) -> Option<Holder> {
    match endpoint {
        Endpoint::Ipc(path) => holder::of_path(path),
        Endpoint::Tcp { host, port } => (host.as_str(), *port)
            .to_socket_addrs()
            .ok()?
            .find_map(holder::of_address),
    }
}

fn nobody(
    endpoint: &Endpoint,
    source: &std::io::Error,
    holder: Option<&Holder>,
    found: &impl Fn(&'static str, String) -> Finding,
) -> Finding {
    let path = match endpoint {
        Endpoint::Ipc(path) => path,
        Endpoint::Tcp { host, .. } => {
            let known = source.kind() == std::io::ErrorKind::ConnectionRefused;
            return match known {
                true => found("nobody-listens", format!("nobody listens: {source}"))
                    .because("no program on that host has this port open")
                    .fix("start the daemon, or give its endpoint with --endpoint or --config"),
                false => found("no-way", format!("{host} cannot be reached: {source}"))
                    .fix("check the name of the host, the network, and a firewall in between"),
            };
        }
    };
    let seen = fs::symlink_metadata(path);
    if let (Err(_), Some(holder)) = (&seen, holder) {
        let pid = holder.pid;
        return found(
            "endpoint-removed",
            format!("the socket file was removed; {holder} still listens, where nobody can come"),
        )
        .because("its workers run on, and it can be told nothing any more")
        .fix(format!(
            "kill {pid} ends it and its workers in order; start it again with the file where nobody cleans up, as in /run"
        ));
    }
    match seen {
        Err(_) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            match parent.filter(|parent| !parent.exists()) {
                Some(parent) => found(
                    "endpoint-missing",
                    format!("there is no directory {}", parent.display()),
                )
                .because("the daemon could not have made its socket there: it has another endpoint, or did not start")
                .fix("start the daemon, or give its endpoint with --endpoint or --config"),
                None => found("endpoint-missing", "there is no such socket file".to_string())
                    .because("no daemon runs with this endpoint, or somebody has removed the file")
                    .fix("start the daemon, or give its endpoint with --endpoint or --config"),
            }
        }
        Ok(metadata) if !metadata.file_type().is_socket() => {
            found("endpoint-no-socket", "this is no socket".to_string())
                .fix("give the daemon's endpoint; a daemon does not start on this one")
        }
        Ok(_) => found("endpoint-stale", "the socket file is there, and nobody listens on it".to_string())
            .because("the daemon that made it is gone without an end in order: killed, or the machine lost power")
            .fix("start the daemon again: it takes the file over. Its log, or the journal, may say why it went"),
    }
}

fn forbidden(
    endpoint: &Endpoint,
    source: &std::io::Error,
    found: &impl Fn(&'static str, String) -> Finding,
) -> Finding {
    let me = nix::unistd::geteuid();
    let name = |uid: u32| {
        let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
        user.map_or_else(|| uid.to_string(), |user| user.name)
    };
    let mut what = format!("this user may not connect: {source}");
    if let Endpoint::Ipc(path) = endpoint {
        let closed = path
            .ancestors()
            .skip(1)
            .filter(|dir| dir.is_dir())
            .find(|dir| nix::unistd::access(*dir, nix::unistd::AccessFlags::X_OK).is_err());
        if let Some(dir) = closed {
            what = format!("this user may not enter {}", dir.display());
        } else if let Ok(metadata) = fs::metadata(path) {
            what = format!(
                "the socket belongs to {} (mode {:o}), and this is {}",
                name(metadata.uid()),
                metadata.permissions().mode() & 0o777,
                name(me.as_raw())
            );
        }
    }
    found("permission", what)
        .because(
            "who can connect can run commands as the daemon's user; so it is only for its owner",
        )
        .fix("use sudo, run as the daemon's user, or set endpoint_owner in its [circus] section")
}

fn silent(
    holder: Option<&Holder>,
    seconds: f64,
    how: &str,
    found: &impl Fn(&'static str, String) -> Finding,
) -> Finding {
    let Some(holder) = holder else {
        return found("timeout", format!("{how} within {seconds} s"))
            .because("the daemon is stopped or stuck, or this is no ZeroMQ socket")
            .fix("look at the process that has this address; a longer --timeout helps a busy one");
    };
    let state = process_state(holder.pid);
    let (why, fix) = match state {
        Some('T' | 't') => (
            format!(
                "process {} is stopped (by SIGSTOP, ctrl-Z or a debugger)",
                holder.pid
            ),
            format!("kill -CONT {}", holder.pid),
        ),
        Some('D') => (
            format!(
                "process {} waits for a disk or a network file system",
                holder.pid
            ),
            "look at what it waits for: mount, dmesg".to_string(),
        ),
        _ => (
            "it is busy or stuck: a circusd does not answer while it does something slow"
                .to_string(),
            "try again with a longer --timeout".to_string(),
        ),
    };
    found("timeout", format!("{holder} {how} within {seconds} s"))
        .because(why)
        .fix(fix)
}

/// `R`, `S`, `T` … as in `/proc/PID/stat`.
fn process_state(pid: u32) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.trim_start().chars().next()
}

/// The daemons that run on this machine, as far as their command lines show it.
fn others(endpoint: &Endpoint) -> Option<Finding> {
    let mut running = Vec::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(bytes) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let words: Vec<String> = bytes
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        if is_daemon(&words) {
            running.push(format!("{pid} ({})", command_of(pid).unwrap_or_default()));
        }
    }
    let list = running.join(", ");
    (!running.is_empty()).then(|| {
        Finding::new(
            Severity::Note,
            "other-daemons",
            format!("these daemons run on this machine: {list}"),
        )
        .because(format!("none of them has {endpoint}"))
        .fix("give the file of the one you mean with --config; `circ discover` asks them where they are")
    })
}

fn is_daemon(words: &[String]) -> bool {
    let named = |word: Option<&String>, name: &str| {
        word.is_some_and(|word| Path::new(word).file_name().is_some_and(|file| file == name))
    };
    let script = named(words.first(), "circusd") || named(words.get(1), "circusd");
    script
        || named(words.first(), "circ")
            && words
                .get(1)
                .is_some_and(|word| word == "daemon" || word == "circusd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_are_told_by_their_command_lines() {
        let is = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_string).collect();
            is_daemon(&words)
        };
        for line in [
            "circusd a.ini",
            "/usr/bin/python3 /usr/local/bin/circusd a.ini",
            "/opt/circ daemon a.ini",
        ] {
            assert!(is(line), "{line}");
        }
        for line in ["circ status", "vim circusd.ini", "daemon"] {
            assert!(!is(line), "{line}");
        }
    }
}
