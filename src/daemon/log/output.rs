//! Where the log can go, as `logoutput` spells it. Decides only: [`super::sink`] opens what is named here.

pub use crate::daemon::syslog::Address;
use crate::options::streams::FACILITIES;
use std::fmt;
use std::path::PathBuf;

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Standard error: what Circus's `-` and `stdout` really mean.
    Stderr,
    /// Standard output, which only a `loggerconfig` can name.
    Stdout,
    /// A file that is appended to, and opened again when it has been moved or removed.
    File(PathBuf),
    /// A syslog daemon.
    Syslog(Syslog),
    /// Nowhere, which only a `loggerconfig` can say.
    Nowhere,
}

/// A syslog daemon and what it is told to file the lines under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// Where it listens.
    pub address: Address,
    /// The number of the facility, 0 to 23 (RFC 5424, 6.2.1).
    pub facility: u8,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Output::Stderr => f.write_str("standard error"),
            Output::Stdout => f.write_str("standard output"),
            Output::File(path) => write!(f, "{}", path.display()),
            Output::Syslog(syslog) => syslog.address.fmt(f),
            Output::Nowhere => f.write_str("nowhere"),
        }
    }
}

/// The port of syslog over UDP.
const SYSLOG_PORT: u16 = 514;

/// The facility that Circus logs under if none is named, or one that does not exist.
const USER: u8 = 1;

/// The facilities that Python knows beside those of [`FACILITIES`].
const MORE_FACILITIES: &[(&str, u8)] = &[
    ("security", 4),
    ("ntp", 12),
    ("console", 14),
    ("solaris-cron", 15),
];

/// The number of a facility; `LOG_USER` is `user`.
pub(super) fn facility(name: &str) -> Option<u8> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("log_").unwrap_or(&name);
    let mut all = FACILITIES.iter().chain(MORE_FACILITIES);
    let found = all.find(|(known, _)| *known == name);
    found.map(|(_, number)| *number)
}

impl Output {
    /// The value of `--log-output` and of the option `logoutput`: `-` or `stdout` (standard error, as with circusd),
    /// `syslog://HOST[:PORT][?FACILITY]`, `syslog:///PATH[?FACILITY]`, or a file. With it a sentence about what in it
    /// has no meaning, if anything.
    ///
    /// # Errors
    /// A `syslog://` with no place in it, or with a port that is none.
    pub fn parse(text: &str) -> Result<(Output, Option<String>), String> {
        match text {
            "-" | "stdout" => Ok((Output::Stderr, None)),
            url if url.starts_with("syslog:") => syslog(url),
            path => Ok((Output::File(PathBuf::from(path)), None)),
        }
    }
}

fn syslog(url: &str) -> Result<(Output, Option<String>), String> {
    let wrong = |why: &str| {
        format!(
            "cannot log to {url}: {why}; give syslog://HOST[:PORT][?FACILITY] or syslog:///PATH[?FACILITY]"
        )
    };
    let rest = url
        .strip_prefix("syslog://")
        .ok_or_else(|| wrong("two slashes are missing"))?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let address = if place.starts_with('/') {
        Address::Unix(PathBuf::from(place))
    } else {
        let host = place.split('/').next().unwrap_or_default();
        let (host, port) = host_and_port(host).ok_or_else(|| wrong("that port is no port"))?;
        if host.is_empty() {
            return Err(wrong("no host and no path"));
        }
        Address::Udp(host.to_string(), port)
    };
    let warning = (!query.is_empty() && facility(query).is_none()).then(|| {
        format!(
            "{url}: there is no syslog facility '{query}'; the lines go to 'user', as with circusd"
        )
    });
    let facility = facility(query).unwrap_or(USER);
    Ok((Output::Syslog(Syslog { address, facility }), warning))
}

fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            (host, rest.strip_prefix(':').unwrap_or(rest))
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    match port {
        "" => Some((host, SYSLOG_PORT)),
        number => Some((host, number.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_circusd_takes() {
        let parse = |text: &str| Output::parse(text).unwrap().0;
        assert_eq!(parse("-"), Output::Stderr);
        assert_eq!(parse("stdout"), Output::Stderr);
        assert_eq!(parse("x.log"), Output::File("x.log".into()));
        let syslog = |address, facility| Output::Syslog(Syslog { address, facility });
        let unix = |path: &str| Address::Unix(path.into());
        let udp = |host: &str, port| Address::Udp(host.into(), port);
        for (text, expected) in [
            ("syslog:///dev/log", syslog(unix("/dev/log"), 1)),
            ("syslog:///dev/log?local3", syslog(unix("/dev/log"), 19)),
            ("syslog://logs", syslog(udp("logs", 514), 1)),
            ("syslog://logs:5140?daemon", syslog(udp("logs", 5140), 3)),
            ("syslog://logs/ignored?mail", syslog(udp("logs", 514), 2)),
            ("syslog://[::1]:1?AUTH", syslog(udp("::1", 1), 4)),
            ("syslog://[::1]", syslog(udp("::1", 514), 1)),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, reason) in [
            ("syslog://", "no host and no path"),
            ("syslog://?daemon", "no host and no path"),
            ("syslog://h:x", "no port"),
            ("syslog://h:70000", "no port"),
            ("syslog:/dev/log", "two slashes"),
        ] {
            let error = Output::parse(text).unwrap_err();
            assert!(error.contains(reason) && error.contains(text), "{error}");
        }
        let (output, warning) = Output::parse("syslog:///dev/log?nonsense").unwrap();
        assert!(matches!(output, Output::Syslog(Syslog { facility: 1, .. })));
        assert!(warning.unwrap().contains("'nonsense'"));
    }
}
