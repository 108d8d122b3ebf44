//! Numbers for statsd, as lines of its protocol. Source: `circus.plugins.statsd.StatsdClient`, but for the sample rate:
//! Circus sends everything and marks it as a sample, so that the server counts too much; and it marks gauges, which
//! cannot be sampled.

use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};

use serde_json::Number;

use crate::config::pytext::float_repr;

/// How long an address that was found is used, and how long none is looked for after it was not found; in seconds.
const FOUND: f64 = 300.0;
const NOT_FOUND: f64 = 30.0;

/// Where numbers go.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The host of the server.
    pub host: String,
    /// Its UDP port.
    pub port: u16,
    /// What all names begin with.
    pub prefix: String,
    /// The share of the counts and times that is sent, above 0 up to 1.
    pub sample_rate: f64,
}

/// A number with its name.
#[derive(Debug, Clone, PartialEq)]
pub enum Metric {
    /// Something has happened this many times.
    Count(String, i64),
    /// Something has this value.
    Gauge(String, Number),
    /// Something took this many milliseconds.
    Time(String, u64),
}

impl Metric {
    /// Something has happened once.
    pub fn one(name: impl Into<String>) -> Metric {
        Metric::Count(name.into(), 1)
    }

    /// The line that is sent. `chance` is a random number from 0 up to 1, for the sample rate; nothing is sent if it is
    /// not of the sample.
    pub fn line(&self, target: &Target, chance: f64) -> Option<String> {
        let rate = target.sample_rate;
        let (name, value, sampled) = match self {
            Metric::Count(name, number) => (name, format!("{number}|c"), true),
            Metric::Gauge(name, number) => (name, format!("{}|g", written(number)), false),
            Metric::Time(name, millis) => (name, format!("{millis}|ms"), true),
        };
        if sampled && rate < 1.0 {
            let mark = float_repr(rate);
            return (chance < rate).then(|| format!("{}.{name}:{value}|@{mark}", target.prefix));
        }
        Some(format!("{}.{name}:{value}", target.prefix))
    }
}

/// A number as Python prints it.
fn written(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float_repr(float),
        _ => number.to_string(),
    }
}

/// Sends the lines. A server that is away loses them, as with UDP everywhere.
#[derive(Debug)]
pub struct Sender {
    target: Target,
    address: Option<SocketAddr>,
    /// When the address is to be looked for again.
    look_again: f64,
    socket: Option<UdpSocket>,
}

impl Sender {
    /// Nothing is opened or looked up before the first number.
    pub fn new(target: Target) -> Self {
        Sender {
            target,
            address: None,
            look_again: 0.0,
            socket: None,
        }
    }

    /// Sends a number; see [`Metric::line`].
    ///
    /// # Errors
    /// The host was looked for and not found, or there can be no socket; told once in a while.
    pub fn send(&mut self, now: f64, metric: &Metric, chance: f64) -> Result<(), String> {
        let Some(line) = metric.line(&self.target, chance) else {
            return Ok(());
        };
        if now >= self.look_again {
            self.look(now)?;
        }
        if let (Some(socket), Some(address)) = (&self.socket, self.address) {
            // Nobody listens there at the moment, or the buffer is full.
            let _ = socket.send_to(line.as_bytes(), address);
        }
        Ok(())
    }

    fn look(&mut self, now: f64) -> Result<(), String> {
        let Target { host, port, .. } = &self.target;
        self.look_again = now + NOT_FOUND;
        let mut found: Vec<SocketAddr> = (host.as_str(), *port)
            .to_socket_addrs()
            .map_err(|why| format!("the statsd host {host} is not found: {why}"))?
            .collect();
        // Circus knows no other family, so the server listens to this one if it can.
        found.sort_by_key(SocketAddr::is_ipv6);
        let address = *found
            .first()
            .ok_or_else(|| format!("the statsd host {host} has no address"))?;
        let any = if address.is_ipv6() {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let socket = UdpSocket::bind(any)
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .map_err(|why| format!("there is no socket for statsd: {why}"))?;
        self.look_again = now + FOUND;
        self.address = Some(address);
        self.socket = Some(socket);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(sample_rate: f64) -> Target {
        Target {
            host: "h".to_owned(),
            port: 1,
            prefix: "circus.app.watcher".to_owned(),
            sample_rate,
        }
    }

    #[test]
    fn lines_of_the_protocol() {
        let gauge = |number: Number| Metric::Gauge("g".to_owned(), number);
        for (metric, line) in [
            (Metric::one("web.spawn"), "web.spawn:1|c"),
            (Metric::Time("t".to_owned(), 12), "t:12|ms"),
            (gauge(3.into()), "g:3|g"),
            (gauge(Number::from_f64(3.0).unwrap()), "g:3.0|g"),
            (gauge(Number::from_f64(0.25).unwrap()), "g:0.25|g"),
        ] {
            assert_eq!(
                metric.line(&target(1.0), 0.99),
                Some(format!("circus.app.watcher.{line}"))
            );
        }
    }

    #[test]
    fn a_sample_is_a_sample_and_says_so() {
        let one = Metric::one("x");
        let line = |metric: &Metric, chance| metric.line(&target(0.25), chance);
        assert_eq!(line(&one, 0.25), None);
        assert_eq!(
            line(&one, 0.24),
            Some("circus.app.watcher.x:1|c|@0.25".to_owned())
        );
        let gauge = Metric::Gauge("x".to_owned(), 1.into());
        assert_eq!(
            line(&gauge, 0.9),
            Some("circus.app.watcher.x:1|g".to_owned())
        );
    }
}
