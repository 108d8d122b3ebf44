//! The system log and systemd's journal: one datagram for each line.

use super::format::frames;
use super::target::{Target, Trouble};
use crate::daemon::syslog::{Address, Sender};
use crate::options::streams::{StreamClass, StreamSpec};
use std::path::PathBuf;

/// Where the messages of a stream go: what its configuration says, or where the log usually is.
pub fn place_of(spec: &StreamSpec) -> Address {
    let usual = match spec.class {
        StreamClass::Journald => "/run/systemd/journal/socket",
        _ => "/dev/log",
    };
    let text = spec.address.as_deref().unwrap_or(usual);
    let network = text
        .strip_prefix("udp://")
        .and_then(|place| place.rsplit_once(':'))
        .and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)));
    match network {
        Some((host, port)) => Address::Udp(host.to_string(), port),
        None => Address::Unix(PathBuf::from(text)),
    }
}

/// As messages call it.
pub fn name(place: &Address) -> String {
    match place {
        Address::Unix(path) => path.display().to_string(),
        Address::Udp(host, port) | Address::Tcp(host, port) if host.contains(':') => {
            format!("udp://[{host}]:{port}")
        }
        Address::Udp(host, port) | Address::Tcp(host, port) => format!("udp://{host}:{port}"),
    }
}

/// True if the messages leave this host: then they name it.
pub fn leaves(spec: &StreamSpec) -> bool {
    !matches!(place_of(spec), Address::Unix(_))
}

/// The name of this host, up to the first dot.
pub fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy();
    name.split('.').next().unwrap_or("-").to_string()
}

/// A destination that takes one message at a time, and that workers wait for as long as it takes none.
pub struct Messages(Sender);

impl Messages {
    /// Nothing is opened yet.
    pub fn new(place: Address) -> Messages {
        Messages(Sender::new(place, None))
    }
}

impl Target for Messages {
    fn open(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let mut done = 0;
        for (message, end) in frames(bytes) {
            if let Err(error) = self.0.send(message) {
                let what = format!("cannot send to {}", name(self.0.address()));
                return Err(Trouble::new(done, &what, &error));
            }
            done = end;
        }
        Ok(())
    }

    fn reopen(&mut self) {
        self.0.close();
    }

    fn close(&mut self) {
        self.0.close();
    }
}
