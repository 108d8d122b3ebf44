//! The agent's own socket: how it is asked and directed, and at the same time the lock that keeps a second agent away
//! from the daemon.
//!
//! A request is one line of JSON, `{"command": "status"}`, and so is its answer: `{"status": "ok", …}` or
//! `{"status": "error", "reason": …}`. `status` is for everybody; `pause` (with `for`, seconds), `resume` and `run-now`
//! are for the agent's own user and for root, as the kernel knows them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::{Value, json};

/// How long a peer may take to say what it wants, and to take the answer.
const PEER: Duration = Duration::from_secs(5);
/// The longest request.
const LONGEST: u64 = 4096;
/// So many may be connected at a time.
const MOST: usize = 32;

/// What somebody wants of the agent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Request {
    /// How it is.
    Status,
    /// No runs for so many seconds, or until told otherwise.
    Pause(Option<f64>),
    /// Runs again.
    Resume,
    /// A run, and its line.
    RunNow,
}

impl Request {
    /// As it goes over the socket.
    pub fn to_json(self) -> Value {
        match self {
            Request::Status => json!({"command": "status"}),
            Request::Pause(None) => json!({"command": "pause"}),
            Request::Pause(Some(seconds)) => json!({"command": "pause", "for": seconds}),
            Request::Resume => json!({"command": "resume"}),
            Request::RunNow => json!({"command": "run-now"}),
        }
    }

    fn from_json(line: &[u8]) -> Result<Request, String> {
        let value: Value = serde_json::from_slice(line)
            .map_err(|error| format!("a line of JSON is expected: {error}"))?;
        let seconds = match value.get("for") {
            None | Some(Value::Null) => None,
            Some(seconds) => match seconds.as_f64() {
                Some(seconds) if seconds > 0.0 => Some(seconds),
                _ => return Err(format!("for: {seconds} is not a number of seconds above 0")),
            },
        };
        match value.get("command").and_then(Value::as_str) {
            Some("status") => Ok(Request::Status),
            Some("pause") => Ok(Request::Pause(seconds)),
            Some("resume") => Ok(Request::Resume),
            Some("run-now") => Ok(Request::RunNow),
            _ => Err("command: status, pause, resume or run-now is expected".to_string()),
        }
    }
}

/// An error as an answer.
pub fn refusal(reason: impl Into<String>) -> Value {
    json!({"status": "error", "reason": reason.into()})
}

/// Why the agent has no socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another agent is there.
    #[error("{0}")]
    Taken(String),
    /// The kernel does not want it.
    #[error("cannot listen on {place}: {source}")]
    Listen {
        /// Where.
        place: String,
        /// Why not.
        source: io::Error,
    },
}

/// The listening sockets. Dropping it closes them: then another agent may start.
#[derive(Debug)]
pub struct Control {
    stop: Arc<AtomicBool>,
    doors: Vec<(SocketAddr, JoinHandle<()>)>,
    file: Option<PathBuf>,
}

impl Control {
    /// Takes the name of the daemon's agent; `endpoint` is how the daemon is called in messages. Requests go to
    /// `serve`, which may take its time.
    ///
    /// # Errors
    /// [`ControlError::Taken`] if there is an agent for this daemon already.
    pub fn claim(
        name: &[u8],
        endpoint: &str,
        serve: impl Fn(Request, mpsc::Sender<Value>) + Send + Sync + 'static,
    ) -> Result<(Control, Door), ControlError> {
        let place = format!("@{}", String::from_utf8_lossy(name));
        let failed = |source| ControlError::Listen {
            place: place.clone(),
            source,
        };
        let address = SocketAddr::from_abstract_name(name).map_err(failed)?;
        let listener = match UnixListener::bind_addr(&address) {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(ControlError::Taken(who_is_there(&address, endpoint)));
            }
            Err(error) => return Err(failed(error)),
        };
        let mut control = Control {
            stop: Arc::default(),
            doors: Vec::new(),
            file: None,
        };
        let door = Door(Arc::new(serve));
        control.open(listener, address, &door).map_err(failed)?;
        Ok((control, door))
    }

    /// Listens at a file as well, which only its owner (and root) can use.
    ///
    /// # Errors
    /// Something else is there, or the file cannot be made.
    pub fn also_at(&mut self, path: &Path, door: &Door) -> Result<(), ControlError> {
        let failed = |source| ControlError::Listen {
            place: path.display().to_string(),
            source,
        };
        match std::fs::symlink_metadata(path) {
            Ok(there) if there.file_type().is_socket() => {
                if UnixStream::connect(path).is_ok() {
                    let text = format!("somebody listens on {} already", path.display());
                    return Err(ControlError::Taken(text));
                }
                std::fs::remove_file(path).map_err(failed)?;
            }
            Ok(_) => return Err(failed(io::Error::other("the file is not a socket"))),
            Err(_) => {}
        }
        // Under another name until nobody else can use it.
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        let listener = UnixListener::bind(&beside).map_err(failed)?;
        let placed = std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| std::fs::rename(&beside, path));
        if let Err(error) = placed {
            let _ = std::fs::remove_file(&beside);
            return Err(failed(error));
        }
        self.file = Some(path.to_path_buf());
        let address = SocketAddr::from_pathname(path).map_err(failed)?;
        self.open(listener, address, door).map_err(failed)
    }

    fn open(&mut self, listener: UnixListener, address: SocketAddr, door: &Door) -> io::Result<()> {
        let (stop, door) = (Arc::clone(&self.stop), door.clone());
        let thread = std::thread::Builder::new()
            .name("agent-control".into())
            .stack_size(128 * 1024)
            .spawn(move || accept(&listener, &stop, &door))?;
        self.doors.push((address, thread));
        Ok(())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for (address, thread) in self.doors.drain(..) {
            // A visitor makes it look at the flag.
            if UnixStream::connect_addr(&address).is_ok() {
                let _ = thread.join();
            }
        }
        if let Some(file) = self.file.take() {
            let _ = std::fs::remove_file(file);
        }
    }
}

type Serve = dyn Fn(Request, mpsc::Sender<Value>) + Send + Sync;

/// Where requests go.
#[derive(Clone)]
pub struct Door(Arc<Serve>);

fn accept(listener: &UnixListener, stop: &AtomicBool, door: &Door) {
    let inside = Arc::new(AtomicUsize::new(0));
    loop {
        let visitor = listener.accept();
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok((stream, _)) = visitor else {
            // Out of descriptors, most likely: others need a moment to give some back.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        if inside.fetch_add(1, Ordering::SeqCst) >= MOST {
            inside.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (door, count) = (door.clone(), Arc::clone(&inside));
        let started = std::thread::Builder::new()
            .name("agent-visitor".into())
            .stack_size(128 * 1024)
            .spawn(move || {
                // A visitor that does not speak or has gone away is no matter of ours.
                let _ = attend(stream, &door);
                count.fetch_sub(1, Ordering::SeqCst);
            });
        if started.is_err() {
            inside.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn attend(mut stream: UnixStream, door: &Door) -> io::Result<()> {
    stream.set_read_timeout(Some(PEER))?;
    stream.set_write_timeout(Some(PEER))?;
    let mut line = Vec::new();
    BufReader::new(Read::take(&stream, LONGEST)).read_until(b'\n', &mut line)?;
    let answer = match Request::from_json(&line) {
        Err(reason) => refusal(reason),
        Ok(request) if !may(&stream, request) => refusal(format!(
            "only the agent's own user ({}) and root may do that",
            nix::unistd::geteuid()
        )),
        Ok(request) => {
            let (sender, receiver) = mpsc::channel();
            (door.0)(request, sender);
            receiver
                .recv()
                .unwrap_or_else(|_| refusal("the agent has ended"))
        }
    };
    stream.write_all(format!("{answer}\n").as_bytes())
}

fn may(stream: &UnixStream, request: Request) -> bool {
    request == Request::Status
        || getsockopt(stream, PeerCredentials)
            .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw())
}

/// For the second agent: who the first is.
fn who_is_there(address: &SocketAddr, endpoint: &str) -> String {
    let asked = UnixStream::connect_addr(address).and_then(|stream| {
        let peer = getsockopt(&stream, PeerCredentials)?;
        let status = exchange(stream, Request::Status, Some(PEER)).unwrap_or_default();
        Ok((peer, status))
    });
    let Ok((peer, status)) = asked else {
        return format!("there is an agent for {endpoint} already, and it does not answer");
    };
    let text = |key: &str| status.get(key).and_then(Value::as_str);
    let since = text("since").map(|since| format!(", since {since}"));
    let desired = text("desired").map(|desired| format!(", desired state {desired}"));
    let home = text("home").map(|home| format!(", {home}"));
    format!(
        "there is an agent for {endpoint} already: pid {} of user {}{}{}{}; two would fight over the daemon",
        peer.pid(),
        peer.uid(),
        home.unwrap_or_default(),
        since.unwrap_or_default(),
        desired.unwrap_or_default(),
    )
}

/// Where an agent is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// By the name that its daemon's endpoint gives it.
    Name(Vec<u8>),
    /// At the file that it was told to listen on.
    File(PathBuf),
}

/// Asks an agent. Without a limit the answer is waited for as long as it takes.
///
/// # Errors
/// Nobody is there, or there is no answer.
pub fn ask(place: &Place, request: Request, limit: Option<Duration>) -> io::Result<Value> {
    let stream = match place {
        Place::Name(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        Place::File(path) => UnixStream::connect(path)?,
    };
    exchange(stream, request, limit)
}

fn exchange(
    mut stream: UnixStream,
    request: Request,
    limit: Option<Duration>,
) -> io::Result<Value> {
    stream.set_write_timeout(Some(PEER))?;
    stream.set_read_timeout(limit)?;
    stream.write_all(format!("{}\n", request.to_json()).as_bytes())?;
    let mut line = Vec::new();
    BufReader::new(stream).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the agent ended before it answered",
        ));
    }
    Ok(serde_json::from_slice(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(test: &str) -> Vec<u8> {
        format!("circ-agent-test/{}/{test}", std::process::id()).into_bytes()
    }

    fn claim(name: &[u8]) -> Result<(Control, Door), ControlError> {
        Control::claim(name, "tcp://h:1", |request, answer| {
            let value = json!({"status": "ok", "asked": request.to_json(), "since": "noon",
                "desired": "/etc/state.d"});
            let _ = answer.send(value);
        })
    }

    #[test]
    fn requests_are_answered_and_a_second_agent_is_refused() {
        let name = name("one");
        let (control, _door) = claim(&name).unwrap();
        let place = Place::Name(name.clone());
        for request in [
            Request::Status,
            Request::Pause(None),
            Request::Pause(Some(1.5)),
            Request::Resume,
            Request::RunNow,
        ] {
            let answer = ask(&place, request, Some(PEER)).unwrap();
            assert_eq!(answer["asked"], request.to_json());
        }
        let told = claim(&name).err().expect("refused").to_string();
        for part in [
            &format!("pid {}", std::process::id()),
            "tcp://h:1",
            "since noon",
            "/etc/state.d",
        ] {
            assert!(told.contains(part), "{told}");
        }
        drop(control);
        let error = ask(&place, Request::Status, Some(PEER)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        claim(&name).unwrap();
    }

    #[test]
    fn what_is_no_request_is_refused_with_a_reason() {
        for (line, reason) in [
            ("", "JSON"),
            ("{", "JSON"),
            ("{}", "status, pause, resume"),
            (r#"{"command": "quit"}"#, "status, pause, resume"),
            (r#"{"command": "pause", "for": -1}"#, "-1 is not"),
            (r#"{"command": "pause", "for": "x"}"#, "is not a number"),
        ] {
            let told = Request::from_json(line.as_bytes()).unwrap_err();
            assert!(told.contains(reason), "{line}: {told}");
        }
    }

    #[test]
    fn a_socket_file_is_its_owners_and_leaves_with_the_agent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let (mut control, door) = claim(&name("file")).unwrap();
        // One that a killed agent has left behind is in nobody's way.
        drop(UnixListener::bind(&path).unwrap());
        control.also_at(&path, &door).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let place = Place::File(path.clone());
        assert!(ask(&place, Request::Status, Some(PEER)).is_ok());
        let (mut other, other_door) = claim(&name("other")).unwrap();
        assert!(other.also_at(&path, &other_door).is_err());
        let plain = directory.path().join("plain");
        std::fs::write(&plain, "x").unwrap();
        assert!(other.also_at(&plain, &other_door).is_err());
        assert_eq!(std::fs::read_to_string(&plain).unwrap(), "x");
        drop(control);
        assert!(!path.exists());
    }
}
