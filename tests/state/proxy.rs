//! A TCP relay in front of a daemon that writes down which commands pass, and can do something between two of them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

type Hook = Box<dyn FnMut(&[String]) + Send>;

/// Listens on a free loopback port; its threads end with the connections and the test process.
pub struct Proxy {
    port: u16,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Proxy {
    /// Relays to `endpoint` (`tcp://127.0.0.1:PORT`). `hook` sees the commands so far before the last of them reaches
    /// the daemon.
    pub fn to(endpoint: &str, hook: impl FnMut(&[String]) + Send + 'static) -> Proxy {
        let hook: Arc<Mutex<Hook>> = Arc::new(Mutex::new(Box::new(hook)));
        let target = endpoint
            .strip_prefix("tcp://")
            .expect("a TCP endpoint")
            .to_string();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = seen.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&target) else {
                    continue;
                };
                relay(&client, &server, Some((record.clone(), hook.clone())));
                relay(&server, &client, None);
            }
        });
        Proxy { port, seen }
    }

    /// Where to connect.
    pub fn endpoint(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// The commands that passed since the last call, in order. Messages are JSON texts inside of ZeroMQ frames, so they
    /// can be found without knowing the frames.
    pub fn commands(&self) -> Vec<String> {
        commands_in(&std::mem::take(
            &mut *self.seen.lock().expect("no thread has panicked"),
        ))
    }
}

fn commands_in(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes)
        .split("\"command\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next().map(str::to_string))
        .collect()
}

type Record = (Arc<Mutex<Vec<u8>>>, Arc<Mutex<Hook>>);

fn relay(from: &TcpStream, to: &TcpStream, record: Option<Record>) {
    let mut from = from.try_clone().expect("a socket can be duplicated");
    let mut to = to.try_clone().expect("a socket can be duplicated");
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if let Some((record, hook)) = &record {
                // Before it is passed on: whoever has the answer finds the question recorded.
                let mut record = record.lock().expect("no thread has panicked");
                record.extend_from_slice(&buffer[..length]);
                let commands = commands_in(&record);
                drop(record);
                hook.lock().expect("no thread has panicked")(&commands);
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
