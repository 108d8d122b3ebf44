//! `X-Forwarded-*`: who is believed when he says for whom he speaks, and what he says.

use http::HeaderMap;
use std::net::{IpAddr, SocketAddr};

/// Peers that are believed when they say for whom they speak.
#[derive(Debug, Clone, Default)]
pub struct Trusted {
    /// Everybody.
    pub all: bool,
    /// Whoever connects through a Unix socket.
    pub unix: bool,
    /// These.
    pub addresses: Vec<IpAddr>,
    /// Those whose addresses begin with so many bits of this one.
    pub networks: Vec<(IpAddr, u8)>,
}

impl Trusted {
    /// Reads `*`, or addresses, networks (`10.0.0.0/8`) and `unix` with commas between.
    ///
    /// # Errors
    /// The word that is none of these.
    pub fn parse(text: &str) -> Result<Trusted, String> {
        let mut trusted = Trusted::default();
        for word in text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            match word {
                "*" => trusted.all = true,
                "unix" => trusted.unix = true,
                _ => {
                    let wrong =
                        || format!("{word:?} is neither an address, a network, `unix` nor `*`");
                    match word.split_once('/') {
                        Some((address, bits)) => {
                            let address: IpAddr = address.parse().map_err(|_| wrong())?;
                            let most = if address.is_ipv4() { 32 } else { 128 };
                            let bits = bits.parse().ok().filter(|bits| *bits <= most);
                            trusted.networks.push((address, bits.ok_or_else(wrong)?));
                        }
                        None => trusted.addresses.push(word.parse().map_err(|_| wrong())?),
                    }
                }
            }
        }
        Ok(trusted)
    }

    pub fn has(&self, address: Option<IpAddr>) -> bool {
        self.all
            || match address {
                None => self.unix,
                Some(address) => self.knows(address.to_canonical()),
            }
    }

    fn knows(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
            || self
                .networks
                .iter()
                .any(|(network, bits)| match (network, address) {
                    (IpAddr::V4(network), IpAddr::V4(address)) => {
                        let differ = network.to_bits() ^ address.to_bits();
                        differ.leading_zeros() >= u32::from(*bits)
                    }
                    (IpAddr::V6(network), IpAddr::V6(address)) => {
                        let differ = network.to_bits() ^ address.to_bits();
                        differ.leading_zeros() >= u32::from(*bits)
                    }
                    _ => false,
                })
    }
}

/// What a trusted peer says of whom it speaks for.
#[derive(Debug, Default)]
pub struct Forwarded {
    /// Its address.
    pub remote: Option<IpAddr>,
    /// It speaks TLS.
    pub https: bool,
}

impl Forwarded {
    pub fn of(headers: &HeaderMap, trusted: &Trusted) -> Forwarded {
        let mut forwarded = Forwarded::default();
        for value in headers.get_all("x-forwarded-proto") {
            forwarded.https = value.as_bytes().eq_ignore_ascii_case(b"https");
        }
        let all: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        // from the nearest to the farthest: the first who is not trusted is whom we talk to, and what stands before him may
        // be anything
        for word in all.iter().rev() {
            let Some(address) = address(word.trim()) else {
                break;
            };
            forwarded.remote = Some(address);
            if !trusted.has(Some(address)) {
                break;
            }
        }
        forwarded
    }
}

/// An address, as proxies write it: some with its port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn said(trusted: &str, words: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for word in words {
            headers.append("x-forwarded-for", HeaderValue::from_static(word));
        }
        let trusted = Trusted::parse(trusted).unwrap();
        let remote = Forwarded::of(&headers, &trusted).remote;
        remote.map(|address| address.to_string())
    }

    #[test]
    fn the_nearest_who_is_not_trusted_is_whom_we_talk_to() {
        let proxies = "127.0.0.1,10.0.0.0/8,fd00::/8";
        for (words, remote) in [
            (vec!["1.2.3.4"], Some("1.2.3.4")),
            (vec!["1.2.3.4, 10.9.9.9,127.0.0.1"], Some("1.2.3.4")),
            (vec!["6.6.6.6, 1.2.3.4, 10.9.9.9"], Some("1.2.3.4")),
            (vec!["6.6.6.6", "1.2.3.4", "10.9.9.9"], Some("1.2.3.4")),
            // what a client makes up does not hide it
            (vec!["nonsense, 1.2.3.4"], Some("1.2.3.4")),
            (vec!["unknown", "1.2.3.4, fd00::1"], Some("1.2.3.4")),
            (vec!["1.2.3.4, nonsense"], None),
            (vec!["10.1.1.1, 10.2.2.2"], Some("10.1.1.1")),
            (vec!["1.2.3.4:5678, [fd00::1]:80"], Some("1.2.3.4")),
            (vec!["[2001:db8::1], ::ffff:10.0.0.1"], Some("2001:db8::1")),
            (vec![""], None),
            (vec![], None),
        ] {
            assert_eq!(said(proxies, &words).as_deref(), remote, "{words:?}");
        }
        // with everybody trusted, the farthest
        let farthest = said("*", &["6.6.6.6, 1.2.3.4"]);
        assert_eq!(farthest.as_deref(), Some("6.6.6.6"));
    }

    #[test]
    fn networks_are_trusted_as_a_whole() {
        let trusted =
            Trusted::parse("10.0.0.0/8, 192.168.1.128/25, 2001:db8::/32, 0.0.0.0/32").unwrap();
        for (address, known) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.168.1.129", true),
            ("192.168.1.127", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
            ("::ffff:10.0.0.1", true),
        ] {
            assert_eq!(trusted.has(address.parse().ok()), known, "{address}");
        }
        assert!(!trusted.has(None));
        assert!(
            Trusted::parse("0.0.0.0/0")
                .unwrap()
                .has("9.9.9.9".parse().ok())
        );
        for wrong in ["10.0.0.0/33", "10.0.0.0/", "::/129", "10.0.0/8", "proxy"] {
            assert!(Trusted::parse(wrong).is_err(), "{wrong}");
        }
    }
}
