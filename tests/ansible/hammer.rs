//! A client that asks and asks, and counts what fails.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::deadline;

/// What a client has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests that were answered whole.
    pub answered: usize,
    /// What became of the others.
    pub failed: Vec<String>,
}

/// A thread that asks the ports in turn until it is told to stop.
pub struct Hammer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Hammer {
    /// Starts asking.
    pub fn start(ports: Vec<u16>) -> Hammer {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            for port in ports.iter().cycle() {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                match ask(*port) {
                    Ok(_) => seen.answered += 1,
                    Err(error) => seen.failed.push(format!("port {port}: {error}")),
                }
                // The play wants some of the machine, too.
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        });
        Hammer { stop, thread }
    }

    /// Stops asking; what was seen.
    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the client does not panic")
    }
}

/// One request on a connection of its own; the body of the answer.
pub fn ask(port: u16) -> Result<String, String> {
    let text = |what: &str, error: std::io::Error| format!("{what}: {error}");
    let mut stream =
        TcpStream::connect(("127.0.0.1", port)).map_err(|e| text("cannot connect", e))?;
    let timeout: Option<Duration> = Some(deadline());
    stream
        .set_read_timeout(timeout)
        .map_err(|e| text("timeout", e))?;
    stream
        .write_all(b"GET / HTTP/1.0\r\n\r\n")
        .map_err(|e| text("cannot ask", e))?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .map_err(|e| text("no answer", e))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.0 200") && body.ends_with('\n') => {
            Ok(body.trim_end().to_string())
        }
        _ => Err(format!("half an answer: {answer:?}")),
    }
}
