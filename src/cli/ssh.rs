//! `--ssh USER@HOST`: a daemon on another host, through the ssh program and with its configuration, keys and questions.
//!
//! ssh forwards Unix sockets in a directory of our own, which nobody else can enter, to the daemon's endpoints as the host
//! sees them (see `line`). Small shell scripts stand between: they end ssh and remove the directory when this process ends,
//! however it ends.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

mod line;

use crate::wire::Endpoint;
use line::Line;
use std::sync::Arc;

/// Where to log in, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `USER@HOST` or `HOST`, or an alias of ssh's configuration.
    pub host: String,
    /// ssh's own default if not given.
    pub port: Option<u16>,
    /// A file with a private key, beside those that ssh knows.
    pub keyfile: Option<PathBuf>,
}

impl Server {
    /// Reads `USER@HOST`, `USER@HOST:PORT` or `USER@[ADDRESS]:PORT`.
    ///
    /// # Errors
    /// No host, or a port that is no number.
    pub fn parse(text: &str, keyfile: Option<PathBuf>) -> Result<Server, String> {
        let (host, port) = match text.rsplit_once(':') {
            // an IPv6 address without brackets has no port
            Some((host, _)) if host.contains(':') && !host.ends_with(']') => (text, None),
            Some((host, port)) => {
                let number = port.parse::<u16>();
                let number = number.map_err(|_| format!("--ssh: {port:?} is no port number"))?;
                (host, Some(number))
            }
            None => (text, None),
        };
        let host = host.replace(['[', ']'], "");
        // ssh would take it for an option
        if host.is_empty() || host.starts_with('-') || host.ends_with('@') {
            return Err(format!("--ssh: {text:?} names no host; write USER@HOST"));
        }
        Ok(Server {
            host,
            port,
            keyfile,
        })
    }

    /// An ssh under its keeper, without its last words: `--`, the host and what follows. The keeper ends it when the
    /// command's standard input is closed, and removes `dir`.
    fn command(&self, dir: &Path, timeout: Duration) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "sh"]).arg(dir).arg("ssh");
        command.args(["-T", "-x", "-a"]);
        let seconds = timeout.as_secs_f64().ceil().clamp(1.0, 3600.0);
        command.args(["-o", &format!("ConnectTimeout={seconds}")]);
        if let Some(port) = self.port {
            command.args(["-p", &port.to_string()]);
        }
        if let Some(keyfile) = &self.keyfile {
            command.arg("-i").arg(keyfile);
        }
        command.stdin(Stdio::piped());
        command
    }

    /// Runs a program over there, with the outputs of this process, to its end. The program ends when this process
    /// does, however that ends.
    ///
    /// # Errors
    /// ssh cannot be run.
    pub fn run(&self, words: &[String], timeout: Duration) -> Result<ExitStatus, String> {
        let dir =
            directory().map_err(|error| format!("--ssh: no directory of our own: {error}"))?;
        let mut command = self.command(&dir, timeout);
        // nothing of a connection that somebody else keeps open
        command.args(["-S", "none", "-o", "ControlMaster=no"]);
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        command.args(["--", &self.host, &words.join(" ")]);
        let ended = command.spawn().and_then(|mut child| {
            // Held until it has ended.
            let alive = child.stdin.take();
            let status = child.wait();
            drop(alive);
            status
        });
        // the keeper has done so already, unless it could not be run or was killed
        let _ = std::fs::remove_dir_all(&dir);
        ended.map_err(|error| format!("--ssh: cannot run sh: {error}"))
    }
}

/// A word for a shell of the Bourne kind.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// An endpoint of another host, through a line that may have others. The line closes with the last of them.
#[derive(Debug, Clone)]
pub struct Tunnel {
    line: Arc<Line>,
    /// What lies at its other end.
    target: Endpoint,
    local: Endpoint,
}

impl Tunnel {
    /// Logs in and forwards; ssh may ask for a password on the terminal. Where nobody answers, ssh gives up after `timeout`.
    /// An ssh that ends later is started again.
    ///
    /// # Errors
    /// An endpoint that cannot be reached this way, no ssh program, or what ssh says.
    pub fn open(server: &Server, target: &Endpoint, timeout: Duration) -> Result<Tunnel, String> {
        let (line, local) = Line::open(server, target, timeout)?;
        Ok(Tunnel {
            line: Arc::new(line),
            target: target.clone(),
            local,
        })
    }

    /// As [`Tunnel::open`], for one that goes on trying: what keeps it from coming about is told by [`Tunnel::explain`]. With
    /// `ask` ssh may ask for a password, and the first try is over when this returns.
    ///
    /// # Errors
    /// An endpoint that cannot be reached this way, or no directory or thread of our own.
    pub fn lasting(
        server: &Server,
        target: &Endpoint,
        timeout: Duration,
        ask: bool,
    ) -> Result<Tunnel, String> {
        let (line, local) = Line::lasting(server, target, timeout, ask)?;
        Ok(Tunnel {
            line: Arc::new(line),
            target: target.clone(),
            local,
        })
    }

    /// The way to another endpoint, through the same line. May take a moment.
    ///
    /// # Errors
    /// It cannot be reached this way, or what ssh says.
    pub fn beside(&self, target: &Endpoint) -> Result<Tunnel, String> {
        Ok(Tunnel {
            line: self.line.clone(),
            target: target.clone(),
            local: self.line.to(target)?,
        })
    }

    /// Where a client connects to.
    pub fn endpoint(&self) -> Endpoint {
        self.local.clone()
    }

    /// An error of a call through the tunnel, in terms of the other host. May take a moment.
    pub fn explain(&self, error: &str) -> String {
        self.line.explain(&self.target, error)
    }

    /// Why there is no line, if there is none.
    pub fn trouble(&self) -> Option<String> {
        self.line.trouble()
    }
}

/// Runs its arguments after the first, which is a directory; ends them at the end of its input, and removes the directory.
/// Signals of the terminal end the others, and with them its input.
const KEEPER: &str = r#"dir=$1
shift
trap : INT TERM HUP QUIT
exec 3<&0 </dev/null
"$@" 3<&- &
ssh=$!
{ cat >/dev/null; kill "$ssh"; } <&3 >/dev/null 2>&1 &
exec 3<&-
while :; do
    wait "$ssh"
    code=$?
    kill -0 "$ssh" 2>/dev/null || break
done
rm -rf "$dir"
exit "$code""#;

/// Removes its argument, a directory, at the end of its input.
const KEEPER_OF_A_DIRECTORY: &str = r#"trap '' INT TERM HUP QUIT
cat >/dev/null
rm -rf "$1" || { sleep 1; rm -rf "$1"; }"#;

/// A directory that nobody else can enter, with a short name: the path of a socket has little room.
fn directory() -> io::Result<PathBuf> {
    let base = std::env::temp_dir();
    let mut seed = std::process::id() as u64
        ^ std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64);
    for _ in 0..100 {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let dir = base.join(format!("circ-ssh-{:08x}", seed >> 32));
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| dir),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read() {
        let parse = |text: &str| Server::parse(text, None).map(|server| (server.host, server.port));
        assert_eq!(parse("me@host"), Ok(("me@host".into(), None)));
        assert_eq!(parse("me@host:22"), Ok(("me@host".into(), Some(22))));
        assert_eq!(parse("me@[::1]:22"), Ok(("me@::1".into(), Some(22))));
        assert_eq!(parse("me@fe80::1"), Ok(("me@fe80::1".into(), None)));
        assert_eq!(parse("alias"), Ok(("alias".into(), None)));
        for bad in ["", "me@", "host:x", "-oProxyCommand=x", ":22"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
