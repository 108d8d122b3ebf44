//! Answers whoever looks for daemons in the multicast group: see [`crate::wire::multicast`].

use crate::config::CircusOptions;
use crate::wire::multicast::{Answer, MAX_DATAGRAM, Multicast};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::Ipv4Addr;
use tokio::net::UdpSocket;

/// A socket in the group, before anybody answers. It can be made on any thread.
pub struct Joined {
    socket: Socket,
    answer: Answer,
}

impl Joined {
    /// Joins the group of `multicast_endpoint`, on the network that multicast is routed to and on this machine, or on the
    /// one interface that it names. `None` if there is none, or, with a warning, if that is not possible: a daemon does its
    /// work without being found.
    pub fn new(circus: &CircusOptions, name: &str) -> Option<Joined> {
        if circus.multicast_endpoint.is_empty() {
            return None;
        }
        let joined = circus
            .multicast_endpoint
            .parse()
            .map_err(|error| format!("{error}"))
            .and_then(|group| {
                let failed = |error| format!("cannot join {}: {error}", circus.multicast_endpoint);
                join(group).map_err(failed)
            });
        match joined {
            Ok(socket) => Some(Joined {
                socket,
                answer: Answer {
                    endpoint: circus.endpoint.clone(),
                    fqdn: Some(name.to_string()),
                    pid: Some(std::process::id()),
                },
            }),
            Err(reason) => {
                tracing::warn!(
                    "this daemon will not be found by `circ discover`: {reason}; `multicast_endpoint =` turns it off"
                );
                None
            }
        }
    }
}

/// The task that answers; dropping it leaves the group.
pub struct Discovery(tokio::task::JoinHandle<()>);

impl Discovery {
    /// Answers from now on, in the event loop in which this is called.
    ///
    /// # Errors
    /// The event loop does not take the socket.
    pub fn serve(joined: Joined) -> io::Result<Discovery> {
        let Joined { socket, answer } = joined;
        let socket = UdpSocket::from_std(socket.into())?;
        let answer = answer.to_bytes();
        Ok(Discovery(tokio::spawn(async move {
            let mut datagram = [0; MAX_DATAGRAM];
            loop {
                // whatever it says: it is a question
                let Ok((_, from)) = socket.recv_from(&mut datagram).await else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                // nobody waits for a queue that is full; who asked may ask again
                if let Err(error) = socket.try_send_to(&answer, from) {
                    tracing::debug!("cannot tell {from} where this daemon is: {error}");
                }
            }
        })))
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// After a question that could not be read.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

fn join(multicast: Multicast) -> io::Result<Socket> {
    let Multicast { group, interface } = multicast;
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // daemons share the port, circusd among them
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // questions that were sent to the group; not what others joined, and nothing that is sent to this host alone
    socket.set_multicast_all_v4(false)?;
    let join = |at: Ipv4Addr| {
        socket.join_multicast_v4_n(group.ip(), &InterfaceIndexOrAddress::Address(at))
    };
    match interface {
        Some(interface) => join(interface)?,
        None => {
            let here = join(Ipv4Addr::LOCALHOST);
            if let Err(error) = join(Ipv4Addr::UNSPECIFIED) {
                here?;
                tracing::info!(
                    "only this machine can find this daemon: no route for multicast ({error})"
                );
            }
        }
    }
    socket.bind(&SockAddr::from(group))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The name of a daemon in the network: the host's, with the prefix before it if there is one. May wait for a disk.
pub fn fqdn(prefix: Option<&str>) -> String {
    let host = nix::unistd::gethostname().map_or_else(
        |_| "localhost".to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    // as `socket.getfqdn` does, but for the name server, which may be away
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let host = full_name(&host, &hosts).unwrap_or(host);
    match prefix {
        Some(prefix) => format!("{prefix}@{host}"),
        None => host,
    }
}

/// The first name with a dot among those that /etc/hosts has for a host.
fn full_name(host: &str, hosts: &str) -> Option<String> {
    if host.contains('.') {
        return None;
    }
    hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .map(|line| line.split_whitespace().skip(1).collect::<Vec<&str>>())
        .find(|names| names.contains(&host))?
        .into_iter()
        .find(|name| name.contains('.'))
        .map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_host() {
        let hosts = "127.0.0.1 localhost # web.example\n::1 ip6\n10.0.0.1\tweb web.example.org web.example\n";
        assert_eq!(full_name("web", hosts).as_deref(), Some("web.example.org"));
        for host in ["web.example.org", "localhost", "other"] {
            assert_eq!(full_name(host, hosts), None, "{host}");
        }
        let plain = fqdn(None);
        assert!(!plain.is_empty());
        assert_eq!(fqdn(Some("a")), format!("a@{plain}"));
    }
}
