//! Addresses of a daemon's sockets.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the control socket is when nobody says otherwise.
pub const DEFAULT_CONTROL: &str = "tcp://127.0.0.1:5555";
/// Where events are published when nobody says otherwise.
pub const DEFAULT_PUBSUB: &str = "tcp://127.0.0.1:5556";
/// Where statistics are published when nobody says otherwise.
pub const DEFAULT_STATS: &str = "tcp://127.0.0.1:5557";

/// A ZeroMQ address, of the two transports that are used with circus.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `tcp://host:port`. The host may be a name, an address, `[v6]`, or (to bind) `*`.
    Tcp {
        /// Without the brackets of an IPv6 address.
        host: String,
        /// 0 asks for any free port when binding.
        port: u16,
    },
    /// `ipc://path`: a unix socket, relative to the working directory unless it starts with `/`.
    Ipc(PathBuf),
}

impl Endpoint {
    /// Where a client connects to reach what is bound here: an address that means every interface
    /// is reached over loopback.
    pub fn reachable(self) -> Self {
        match self {
            Endpoint::Tcp { host, port } => Endpoint::Tcp {
                host: match host.as_str() {
                    "*" | "0.0.0.0" => "127.0.0.1".to_string(),
                    "::" => "::1".to_string(),
                    _ => host,
                },
                port,
            },
            ipc => ipc,
        }
    }
}

/// An address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("endpoint {text:?} {reason}; write tcp://HOST:PORT or ipc://PATH")]
pub struct EndpointError {
    text: String,
    reason: &'static str,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason| EndpointError {
            text: text.chars().take(200).collect(),
            reason,
        };
        let trimmed = text.trim();
        if let Some(path) = trimmed.strip_prefix("ipc://") {
            if path.is_empty() {
                return Err(fail("names no path"));
            }
            return Ok(Endpoint::Ipc(PathBuf::from(path)));
        }
        let Some(address) = trimmed.strip_prefix("tcp://") else {
            return Err(fail("is neither tcp nor ipc"));
        };
        let (host, port) = address
            .rsplit_once(':')
            .ok_or_else(|| fail("names no port"))?;
        let port = match port {
            "*" => 0,
            number => number
                .parse()
                .map_err(|_| fail("has a port that is no number from 0 to 65535"))?,
        };
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() {
            return Err(fail("names no host"));
        }
        Ok(Endpoint::Tcp {
            host: host.to_string(),
            port,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } if host.contains(':') => {
                write!(f, "tcp://[{host}]:{port}")
            }
            Endpoint::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Endpoint::Ipc(path) => write!(f, "ipc://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_print() {
        for text in [
            DEFAULT_CONTROL,
            DEFAULT_PUBSUB,
            DEFAULT_STATS,
            "ipc:///run/circ.sock",
            "ipc://rel/ctl",
            "tcp://[::1]:5555",
            "tcp://localhost:1",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!(
            "tcp://*:*".parse::<Endpoint>().unwrap(),
            Endpoint::Tcp {
                host: "*".into(),
                port: 0
            }
        );
    }

    #[test]
    fn a_bad_address_says_what_is_wrong() {
        for (text, want) in [
            ("", "is neither tcp nor ipc"),
            ("127.0.0.1:5555", "is neither tcp nor ipc"),
            ("tcp://localhost", "names no port"),
            ("tcp://:5555", "names no host"),
            ("tcp://a:70000", "no number from 0 to 65535"),
            ("ipc://", "names no path"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
