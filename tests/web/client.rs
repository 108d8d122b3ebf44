//! A console under test, and the little of HTTP that is needed to ask it: every byte that is sent is the test's own.

// Every test program compiles its own copy of this module and uses another part of it.
#![allow(dead_code)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{TempSite, deadline, wait_for};

/// A running `circ web`; it ends with the test.
pub struct Console {
    child: Child,
    pub port: u16,
}

impl Console {
    /// Starts one on a free port and waits until it answers.
    #[track_caller]
    pub fn start(site: &TempSite, arguments: &[&str]) -> Console {
        let port = site.port();
        let log = site.path(&format!("web-{port}.log"));
        let file = File::create(&log).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
        command
            .args(["web", "--port", &port.to_string()])
            .args(arguments)
            // what a daemon of the site leaves behind there is killed with it
            .current_dir("/")
            .env_remove("CIRCUSCTL_ENDPOINT")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log"))
            .stderr(file);
        let mut child = command.spawn().expect("circ starts");
        wait_for("the console to listen", || {
            if let Ok(Some(status)) = child.try_wait() {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("circ web ended with {status}: {log}");
            }
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Console { child, port }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    /// Sends JSON.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let json = ("Content-Type", "application/json");
        self.ask(method, path, &[json], &body.to_string())
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        ask(self.port, method, path, headers, body)
    }

    /// Opens a stream of events.
    #[track_caller]
    pub fn stream(&self, path: &str) -> Events {
        let mut stream =
            BufReader::new(send(self.port, "GET", path, &[], "").expect("a connection"));
        let head = head(&mut stream).expect("a head");
        assert_eq!(head.status, 200, "{path}: {head:?}");
        assert_eq!(
            head.header("content-type"),
            Some("text/event-stream"),
            "{path}"
        );
        Events {
            stream,
            left: 0,
            text: String::new(),
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        let _ = kill(Pid::from_raw(pid), signal);
    }

    pub fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the console to end", || child.try_wait().expect("a child"))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }

    /// The JSON of a request that was answered as it should.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        self.json()
    }

    /// What went wrong, which has to be this status.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let told = self.json();
        assert_eq!(told["status"], status);
        told["detail"].as_str().unwrap_or_default().to_owned()
    }
}

fn send(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(deadline()))?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        text.push_str(&format!("Host: 127.0.0.1:{port}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes())?;
    // it may have been answered and closed before all of it was read
    let _ = stream.write_all(body.as_bytes());
    Ok(stream)
}

fn head(stream: &mut impl BufRead) -> std::io::Result<Answer> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no status: {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    Ok(Answer {
        status,
        headers,
        body: String::new(),
    })
}

/// One request on a connection of its own.
#[track_caller]
pub fn ask(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    try_ask(port, method, path, headers, body)
        .unwrap_or_else(|why| panic!("{method} {path}: {why}"))
}

/// As [`ask`], for when it may fail.
pub fn try_ask(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<Answer> {
    let mut stream = BufReader::new(send(port, method, path, headers, body)?);
    let mut answer = head(&mut stream)?;
    let length = answer
        .header("content-length")
        .and_then(|length| length.parse().ok());
    let length = length.filter(|_| method != "HEAD");
    let mut bytes = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut bytes)?;
    answer.body = String::from_utf8_lossy(&bytes).into_owned();
    Ok(answer)
}

/// A stream of server-sent events.
pub struct Events {
    stream: BufReader<TcpStream>,
    /// Of the current chunk.
    left: usize,
    text: String,
}

impl Events {
    /// The next event that is called so; others are passed over.
    #[track_caller]
    pub fn next(&mut self, name: &str) -> Value {
        self.find(name, |_| true)
    }

    /// The next event that is called so and of which this is true.
    #[track_caller]
    pub fn find(&mut self, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + deadline();
        let mut seen = Vec::new();
        while Instant::now() < end {
            let Some((event, data)) = self.event() else {
                panic!("the stream ended before an event {name}; there were {seen:?}");
            };
            if event == name && is_it(&data) {
                return data;
            }
            seen.push((event, data));
            let many = seen.len().saturating_sub(20);
            seen.drain(..many);
        }
        panic!("no event {name}; there were {seen:?}");
    }

    /// The next event; `None` at the end.
    pub fn event(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let part = |key: &str| block.lines().find_map(|line| line.strip_prefix(key));
                let Some(name) = part("event: ") else {
                    continue;
                };
                let data = serde_json::from_str(part("data: ")?).ok()?;
                return Some((name.to_owned(), data));
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> Option<()> {
        if self.left == 0 {
            let mut line = String::new();
            self.stream.read_line(&mut line).ok()?;
            if line == "\r\n" {
                return Some(());
            }
            self.left = usize::from_str_radix(line.trim_end(), 16).ok()?;
            if self.left == 0 {
                return None;
            }
        }
        let mut bytes = vec![0; self.left];
        let read = self.stream.read(&mut bytes).ok().filter(|read| *read > 0)?;
        self.left -= read;
        self.text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        Some(())
    }
}

/// A command that ends with the test whatever happens.
pub fn circ(site: &TempSite, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    command
        .args(arguments)
        .current_dir(site.dir())
        .env_remove("CIRCUSCTL_ENDPOINT")
        .process_group(0)
        .stdin(Stdio::null());
    command.output().expect("circ runs")
}
