//! `--ssh USER@HOST`: a daemon on another host, through the ssh program and with its configuration, keys and questions.
//!
//! ssh forwards a Unix socket in a directory of our own, which nobody else can enter, to the daemon's endpoint as the host
//! sees it. A small shell script stands between: it ends ssh and removes the directory when this process ends, however it
//! ends.

use crate::wire::Endpoint;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

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
        // nothing of a connection that somebody else keeps open
        command.args(["-T", "-x", "-a", "-S", "none", "-o", "ControlMaster=no"]);
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

/// An open tunnel. Dropping it closes it.
#[derive(Debug)]
pub struct Tunnel {
    server: Server,
    /// What lies at its other end.
    target: Endpoint,
    keeper: Child,
    /// What ssh writes to its standard error; it can be read when the directory is gone already.
    errors: File,
    /// Closed with this process.
    _alive: Option<ChildStdin>,
    dir: PathBuf,
}

impl Tunnel {
    /// Logs in and forwards; ssh may ask for a password on the terminal. Where nobody answers, ssh gives up after `timeout`.
    ///
    /// # Errors
    /// An endpoint that cannot be reached this way, no ssh program, or what ssh says.
    pub fn open(server: &Server, target: &Endpoint, timeout: Duration) -> Result<Tunnel, String> {
        let remote = match target {
            Endpoint::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Endpoint::Tcp { host, port } => format!("{host}:{port}"),
            Endpoint::Ipc(path) if path.is_absolute() => path.display().to_string(),
            Endpoint::Ipc(path) => {
                return Err(format!(
                    "--ssh: the path of ipc://{} has to be absolute, it is on the other host",
                    path.display()
                ));
            }
        };
        let dir =
            directory().map_err(|error| format!("--ssh: no directory of our own: {error}"))?;
        let local = dir.join("s");
        let mut command = server.command(&dir, timeout);
        command.args(["-N", "-o", "ExitOnForwardFailure=no"]);
        command.args(["-o", "StreamLocalBindMask=0177"]);
        command
            .arg("-L")
            .arg(format!("{}:{remote}", local.display()));
        command.args(["--", &server.host]);
        command.stdout(Stdio::null());
        let mut options = File::options();
        let errors = options.read(true).append(true).create_new(true);
        let started = errors.open(dir.join("errors")).and_then(|errors| {
            let keeper = command.stderr(errors.try_clone()?).spawn()?;
            Ok((keeper, errors))
        });
        let (mut keeper, errors) = started.map_err(|error| {
            // it is empty but for our own file
            let _ = std::fs::remove_dir_all(&dir);
            format!("--ssh: cannot run sh: {error}")
        })?;
        let mut tunnel = Tunnel {
            server: server.clone(),
            target: target.clone(),
            _alive: keeper.stdin.take(),
            keeper,
            errors,
            dir,
        };
        tunnel.wait(&local)?;
        Ok(tunnel)
    }

    /// Until ssh listens, however long somebody takes to type a password.
    fn wait(&mut self, local: &Path) -> Result<(), String> {
        let mut said = String::new();
        loop {
            if local.exists() {
                return Ok(());
            }
            let ended = self.keeper.try_wait();
            said = self.says().unwrap_or(said);
            match ended {
                Ok(None) => std::thread::sleep(LOOK),
                Ok(Some(status)) => {
                    let why = match said.is_empty() {
                        false => said,
                        true if status.code() == Some(127) => "there is no ssh program".to_string(),
                        true => format!("it ended with {status}"),
                    };
                    return Err(format!("ssh {}: {why}", self.server.host));
                }
                Err(error) => return Err(format!("ssh {}: {error}", self.server.host)),
            }
        }
    }

    /// Where a client connects to.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Ipc(self.dir.join("s"))
    }

    /// What ssh has complained of.
    fn says(&self) -> Option<String> {
        let mut bytes = [0; 4096];
        let size = self.errors.read_at(&mut bytes, 0).ok()?;
        let text = String::from_utf8_lossy(bytes.get(..size)?).into_owned();
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let mut lines = lines;
        // each connection is complained of
        lines.dedup();
        Some(lines.join("; ")).filter(|text| !text.is_empty())
    }

    /// An error of a call through the tunnel, in terms of the other host.
    pub fn explain(&self, error: &str) -> String {
        // ssh tells on a thread of its own
        let end = Instant::now() + SOON;
        let mut said = self.says();
        while said.is_none() && Instant::now() < end {
            std::thread::sleep(LOOK);
            said = self.says();
        }
        let (host, target) = (&self.server.host, &self.target);
        let local = self.endpoint().to_string();
        match said {
            Some(said) => format!("{target} of {host} is not reached through ssh: {said}"),
            None => error.replace(&local, &format!("{target} of {host}")),
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // the keeper ends ssh at the end of its input, and then itself
        self._alive = None;
        let end = Instant::now() + Duration::from_secs(2);
        while matches!(self.keeper.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = self.keeper.kill();
                let _ = self.keeper.wait();
                break;
            }
            std::thread::sleep(LOOK);
        }
        // the keeper has done so already, unless it was killed
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(5);
/// So long ssh may take to say why it closed a connection.
const SOON: Duration = Duration::from_millis(300);

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
