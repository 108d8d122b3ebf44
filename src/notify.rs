//! Tells a service manager how it is (`sd_notify`), if one listens: systemd with `Type=notify`, or a watcher.

use nix::time::ClockId;
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The way to the service manager.
#[derive(Debug)]
pub struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    /// To the socket that the variable `NOTIFY_SOCKET` names; without one nobody is told anything.
    pub fn new(address: Option<OsString>) -> Notifier {
        Notifier(address.and_then(|address| {
            let address = match address.as_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
                path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
            };
            let socket = UnixDatagram::unbound().ok()?;
            // A service manager that does not read must not hold anybody up.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address.ok()?))
        }))
    }

    /// Sends assignments, one a line. That nobody takes them is no matter of ours.
    pub fn tell(&self, assignments: &str) {
        if let Some((socket, address)) = &self.0 {
            let _ = socket.send_to_addr(assignments.as_bytes(), address);
        }
    }

    /// `RELOADING=1`, with the time that systemd compares with its own request (`Type=notify-reload`); `READY=1` ends it.
    pub fn reloading(&self) {
        let now = ClockId::CLOCK_MONOTONIC.now();
        let micros = now.map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// `STATUS=`, on one line.
    pub fn status(&self, text: &str) {
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        self.tell(&format!("STATUS={text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(Some(path.into()));
        notifier.tell("READY=1\nMAINPID=3");
        notifier.status("two\nlines");
        let mut buffer = [0; 100];
        let mut next = || {
            let length = listener.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        assert_eq!(next(), "READY=1\nMAINPID=3");
        assert_eq!(next(), "STATUS=two lines");
        Notifier::new(None).tell("READY=1");
        Notifier::new(Some("/no/such/socket".into())).tell("READY=1");
    }
}
