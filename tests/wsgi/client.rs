//! A client that sends what it is told byte for byte, and a server to talk to.

#![allow(dead_code, reason = "each test program takes what it needs")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::{Running, TempSite, deadline};

/// One answer.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub reason: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body came to its proper end.
    pub whole: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let of_it = self.headers.iter().filter(|(key, _)| key == name);
        of_it.map(|(_, value)| value.as_str()).collect()
    }
}

/// A connection to a server.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    #[track_caller]
    pub fn open(port: u16) -> Connection {
        Connection::try_open(port).expect("the server listens")
    }

    pub fn try_open(port: u16) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream
            .set_read_timeout(Some(deadline()))
            .expect("a time limit");
        stream.set_nodelay(true).expect("no delay");
        Ok(Connection {
            stream: BufReader::new(stream),
        })
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // a server that refuses may have closed already
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
    }

    /// Reads the head of an answer; none if the server has closed the connection.
    pub fn head(&mut self) -> Option<Answer> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        let mut words = line.trim_end().splitn(3, ' ');
        let version = words.next().unwrap_or_default();
        assert!(version.starts_with("HTTP/1."), "{line:?}");
        let mut answer = Answer {
            status: words.next()?.parse().expect("a status"),
            reason: words.next().unwrap_or_default().to_string(),
            ..Answer::default()
        };
        loop {
            let mut line = Vec::new();
            self.stream.read_until(b'\n', &mut line).expect("a header");
            // one character a byte
            let line: String = line.iter().map(|byte| char::from(*byte)).collect();
            let line = line.trim_end();
            if line.is_empty() {
                return Some(answer);
            }
            let (name, value) = line.split_once(':').expect("a header");
            let pair = (name.to_lowercase(), value.trim().to_string());
            answer.headers.push(pair);
        }
    }

    /// Reads an answer to a request of this method.
    pub fn answer(&mut self, method: &str) -> Option<Answer> {
        let mut answer = self.head()?;
        while answer.status == 100 {
            answer = self.head()?;
        }
        if method == "HEAD" || matches!(answer.status, 204 | 304) {
            answer.whole = true;
            return Some(answer);
        }
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().expect("a length");
            let limited = &mut (&mut self.stream).take(length as u64);
            let _ = limited.read_to_end(&mut answer.body);
            answer.whole = answer.body.len() == length;
        } else if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                if chunk.is_empty() {
                    answer.whole = true;
                    break;
                }
                answer.body.extend(chunk);
            }
        } else {
            answer.whole = self.stream.read_to_end(&mut answer.body).is_ok();
        }
        Some(answer)
    }

    /// The next chunk of a chunked body; empty: the last; none: the connection has broken.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut bytes = vec![0; size + 2];
        self.stream.read_exact(&mut bytes).ok()?;
        bytes.truncate(size);
        Some(bytes)
    }

    /// A request and its answer.
    #[track_caller]
    pub fn ask(&mut self, method: &str, path: &str, more: &str, body: &[u8]) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: example.org\r\n{more}");
        if !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        self.send(request);
        self.send(body);
        self.answer(method).expect("an answer")
    }

    /// Fills the buffer with what comes next.
    #[track_caller]
    pub fn read(&mut self, into: &mut [u8]) {
        self.stream.read_exact(into).expect("so many bytes");
    }

    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

/// `circ chaussette` on one of the applications of `applications.py`.
pub struct Server {
    running: Running,
    pub port: u16,
}

impl Deref for Server {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}

impl Server {
    /// Starts it in the directory of the site.
    pub fn start(site: &TempSite, application: &str, args: &[&str]) -> Server {
        Server::with(site, application, args, |_| {})
    }

    pub fn with(
        site: &TempSite,
        application: &str,
        args: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Server {
        Server::command(
            site,
            Command::new(env!("CARGO_BIN_EXE_circ")),
            application,
            args,
            change,
        )
    }

    /// Starts it through a program that runs what follows its own arguments.
    pub fn through(site: &TempSite, before: &[&str], application: &str, args: &[&str]) -> Server {
        let mut command = Command::new(before[0]);
        command.args(&before[1..]).arg(env!("CARGO_BIN_EXE_circ"));
        Server::command(site, command, application, args, |_| {})
    }

    fn command(
        site: &TempSite,
        mut command: Command,
        application: &str,
        args: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Server {
        let port = site.port();
        let log = site.path(&format!("server-{port}.log"));
        let text = include_str!("applications.py");
        fs::write(site.path("applications.py"), text).expect("the applications");
        command
            .arg("chaussette")
            .args(["--port", &port.to_string(), "--host", "127.0.0.1"])
            .args(args)
            .arg(application)
            .current_dir(site.dir())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("MARK", site.path("mark"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        change(&mut command);
        let running = Running::start(command, log);
        let server = Server { running, port };
        server.wait_for("a server that listens", || {
            let listening = TcpStream::connect(("127.0.0.1", port)).is_ok();
            let ended = !Path::new(&format!("/proc/{}/stat", server.pid())).exists();
            (listening || ended).then_some(())
        });
        server
    }

    pub fn open(&self) -> Connection {
        Connection::open(self.port)
    }

    /// Two requests that reach the server at once; it knows already that such requests are quick.
    #[track_caller]
    pub fn at_once(&self, paths: [&str; 2]) -> [Connection; 2] {
        let mut connections = paths.map(|_| self.open());
        for _ in 0..20 {
            for connection in &mut connections {
                assert_eq!(connection.ask("GET", "/", "", b"").text(), "yes");
            }
        }
        self.signal(Signal::SIGSTOP);
        for (connection, path) in connections.iter_mut().zip(paths) {
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        }
        self.signal(Signal::SIGCONT);
        connections
    }

    /// A quick request and a slow one go to the same worker together; what is quick is answered before the slow is done,
    /// which waits for the file `seen`.
    #[track_caller]
    pub fn holds_up_no_answer(&self, seen: &Path) {
        let [mut quick, mut slow] = self.at_once(["/", "/slow"]);
        assert_eq!(quick.answer("GET").unwrap().text(), "yes");
        fs::write(seen, "").expect("a file");
        assert_eq!(slow.answer("GET").unwrap().text(), "yes");
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.open().ask("GET", path, "", b"")
    }
}

/// What a front or a handler counts, in the memory file that the daemon reads for `/metrics`.
pub fn numbers(pid: i32) -> String {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let shown = descriptors.map(|entry| entry.unwrap().path()).find(|path| {
        fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("memfd:circ-metrics"))
    });
    // it comes when the first process is ready
    shown
        .and_then(|path| fs::read_to_string(path).ok())
        .unwrap_or_default()
}
