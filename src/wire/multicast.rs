//! Finding daemons: whoever sends anything to a multicast group is told by each daemon in it where that listens. What is
//! sent and where is `circus.controller`'s and `circus.util.create_udp_socket`'s; the name and the pid in the answer are
//! circ's own.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

use crate::config::DEFAULT_MULTICAST_ENDPOINT as DEFAULT_MULTICAST;
use serde_json::{Value, json};

/// Longest datagram that is read, as in circus.
pub const MAX_DATAGRAM: usize = 1024;

/// A group in which daemons are found: `udp://GROUP:PORT`, or `udp://INTERFACE;GROUP:PORT` to stay on the network that has
/// this address (the spelling of ZeroMQ's own multicast; circusd knows the first form only).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multicast {
    /// The group, from 224.0.0.0 to 239.255.255.255, and its port.
    pub group: SocketAddrV4,
    /// The address of the interface that alone is used.
    pub interface: Option<Ipv4Addr>,
}

/// A multicast endpoint that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "multicast endpoint {text:?} {reason}; write udp://GROUP:PORT, for example {DEFAULT_MULTICAST}"
)]
pub struct MulticastError {
    text: String,
    reason: &'static str,
}

impl FromStr for Multicast {
    type Err = MulticastError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason| MulticastError {
            text: text.chars().take(200).collect(),
            reason,
        };
        let address = text
            .trim()
            .strip_prefix("udp://")
            .ok_or_else(|| fail("does not begin with udp://"))?;
        let (interface, group) = match address.split_once(';') {
            Some((interface, group)) => {
                let interface = interface.parse();
                let interface =
                    interface.map_err(|_| fail("has an interface that is no IPv4 address"))?;
                (Some(interface), group)
            }
            None => (None, address),
        };
        let group: SocketAddrV4 = group
            .parse()
            .map_err(|_| fail("names no IPv4 address and port"))?;
        if !group.ip().is_multicast() {
            return Err(fail("has an address outside 224.0.0.0 to 239.255.255.255"));
        }
        Ok(Multicast { group, interface })
    }
}

impl fmt::Display for Multicast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.interface {
            Some(interface) => write!(f, "udp://{interface};{}", self.group),
            None => write!(f, "udp://{}", self.group),
        }
    }
}

/// What a daemon tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its control endpoint, as its configuration has it.
    pub endpoint: String,
    /// Its name in the network, `PREFIX@HOST`; circusd tells none.
    pub fqdn: Option<String>,
    /// Its pid; circusd tells none.
    pub pid: Option<u32>,
}

impl Answer {
    /// The datagram.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut told = json!({"endpoint": self.endpoint});
        if let Value::Object(told) = &mut told {
            told.extend(
                self.fqdn
                    .as_ref()
                    .map(|name| ("fqdn".to_string(), json!(name))),
            );
            told.extend(self.pid.map(|pid| ("pid".to_string(), json!(pid))));
        }
        told.to_string().into_bytes()
    }

    /// What a datagram says; `None` for what no daemon sends.
    pub fn parse(datagram: &[u8]) -> Option<Answer> {
        let told: Value = serde_json::from_slice(datagram).ok()?;
        let text = |key: &str| told.get(key).and_then(Value::as_str).map(String::from);
        let pid = told.get("pid").and_then(Value::as_u64);
        Some(Answer {
            endpoint: text("endpoint")?,
            fqdn: text("fqdn"),
            pid: pid.and_then(|pid| u32::try_from(pid).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_printed() {
        for text in [DEFAULT_MULTICAST, "udp://127.0.0.1;239.0.0.1:1"] {
            assert_eq!(text.parse::<Multicast>().unwrap().to_string(), text);
        }
        for (text, want) in [
            ("237.219.251.97:12027", "does not begin with udp://"),
            ("udp://host:1", "names no IPv4 address and port"),
            ("udp://237.219.251.97", "names no IPv4 address and port"),
            ("udp://127.0.0.1:1", "outside 224.0.0.0"),
            ("udp://eth0;239.0.0.1:1", "no IPv4 address"),
        ] {
            let error = text.parse::<Multicast>().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn answers_are_written_and_read() {
        let mut answer = Answer {
            endpoint: "tcp://127.0.0.1:5555".into(),
            fqdn: Some("site@host".into()),
            pid: Some(7),
        };
        assert_eq!(Answer::parse(&answer.to_bytes()), Some(answer.clone()));
        (answer.fqdn, answer.pid) = (None, None);
        let circusd = br#"{"endpoint": "tcp://127.0.0.1:5555"}"#;
        assert_eq!(Answer::parse(circusd), Some(answer));
        for other in [&b""[..], b"{}", b"[]", b"\xff", b"{\"endpoint\": 5}"] {
            assert_eq!(Answer::parse(other), None);
        }
    }
}
