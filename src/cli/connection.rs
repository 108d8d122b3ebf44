//! Which daemon a command talks to, for how long, and in which form it prints.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::ssh::{Server, Tunnel};
use crate::cli::{EXIT_UNREACHABLE, EXIT_USAGE};
use crate::config::{Config, Document};
use crate::wire::endpoint::{DEFAULT_CONTROL, Endpoint};

/// The variable that names the control endpoint, as for circusctl.
pub const ENDPOINT_VARIABLE: &str = "CIRCUSCTL_ENDPOINT";

/// Options of every command that talks to a daemon.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct Args {
    /// Control endpoint of the daemon: tcp://HOST:PORT or ipc://PATH
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,

    /// Take the endpoint from the [circus] section of this circus.ini
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Log in to this host with ssh and reach the endpoint from there
    #[arg(long, value_name = "USER@HOST[:PORT]")]
    ssh: Option<String>,

    /// Seconds to wait for an answer [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,

    /// Print the daemon's reply as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "a number of seconds above 0 was expected".to_string())
}

impl Args {
    /// These options, with those of `other` where they are missing.
    pub fn or(self, other: Self) -> Self {
        // An endpoint that stands nearer to the command beats a file that stands farther away.
        let (endpoint, config) = if self.endpoint.is_some() || self.config.is_some() {
            (self.endpoint, self.config)
        } else {
            (other.endpoint, other.config)
        };
        Self {
            endpoint,
            config,
            ssh: self.ssh.or(other.ssh),
            timeout: self.timeout.or(other.timeout),
            json: self.json || other.json,
        }
    }

    /// The first of these options that was given, with its dashes.
    pub fn first_given(&self) -> Option<&'static str> {
        [
            (self.endpoint.is_some(), "--endpoint"),
            (self.config.is_some(), "--config"),
            (self.ssh.is_some(), "--ssh"),
            (self.timeout.is_some(), "--timeout"),
            (self.json, "--json"),
        ]
        .into_iter()
        .find_map(|(given, name)| given.then_some(name))
    }

    /// The control endpoint as it was named, for those who are told of it; empty if it cannot be told.
    pub fn endpoint_text(&self) -> String {
        let endpoint = self.named_endpoint();
        endpoint.map_or(String::new(), |endpoint| endpoint.to_string())
    }

    /// Whether the daemon is reached through ssh, on another machine.
    pub fn is_remote(&self) -> bool {
        self.ssh.is_some()
    }

    /// The configuration that was named.
    pub fn config_file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// How long each call may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(5))
    }

    /// Whether the daemon is on another host.
    pub fn goes_through_ssh(&self) -> bool {
        self.ssh.is_some()
    }

    /// The other host, and the daemon's endpoint as it is seen there.
    ///
    /// # Errors
    /// What is wrong with the words.
    pub fn server(&self) -> Result<Option<(Server, Endpoint)>, String> {
        let Some(server) = &self.ssh else {
            return Ok(None);
        };
        let server = Server::parse(server, None)?;
        Ok(Some((server, self.named_endpoint()?)))
    }

    /// The way to the control endpoint, with a tunnel if `--ssh` asks for one.
    ///
    /// # Errors
    /// What is wrong with the words, or why there is no tunnel.
    pub fn route(&self) -> Result<Route, RouteError> {
        let endpoint = self.named_endpoint().map_err(RouteError::Usage)?;
        let Some(server) = &self.ssh else {
            return Ok(Route {
                endpoint,
                tunnel: None,
            });
        };
        let server = Server::parse(server, None).map_err(RouteError::Usage)?;
        let tunnel =
            Tunnel::open(&server, &endpoint, self.timeout()).map_err(RouteError::Unreachable)?;
        Ok(Route {
            endpoint: tunnel.endpoint(),
            tunnel: Some(tunnel),
        })
    }

    /// The control endpoint, for a command that works on this machine alone.
    ///
    /// # Errors
    /// As [`Args::route`], and `--ssh`.
    pub fn control_endpoint(&self) -> Result<Endpoint, String> {
        match &self.ssh {
            Some(_) => Err("--ssh is not for this command: it works on this machine".to_string()),
            None => self.named_endpoint(),
        }
    }

    /// The control endpoint as it was named: with `--ssh` as the other host sees it.
    ///
    /// # Errors
    /// A sentence that names where the unusable endpoint came from.
    pub fn address(&self) -> Result<Endpoint, String> {
        self.named_endpoint()
    }

    /// Where `--ssh` logs in, if it is given.
    pub fn remote_host(&self) -> Option<&str> {
        self.ssh.as_deref()
    }

    /// The control endpoint: `--endpoint`, else the file's, else the environment's, else the default.
    ///
    /// # Errors
    /// A sentence that names where the unusable endpoint came from.
    fn named_endpoint(&self) -> Result<Endpoint, String> {
        let (text, origin) = if let Some(text) = &self.endpoint {
            (text.clone(), "--endpoint".to_string())
        } else if let Some(path) = &self.config {
            (endpoint_of(path)?, path.display().to_string())
        } else if let Ok(text) = env::var(ENDPOINT_VARIABLE) {
            (text, ENDPOINT_VARIABLE.to_string())
        } else {
            (DEFAULT_CONTROL.to_string(), "the default".to_string())
        };
        text.parse()
            .map(Endpoint::reachable)
            .map_err(|error| format!("{origin}: {error}"))
    }
}

/// A way to an endpoint; a tunnel closes when the last way through it is dropped.
#[derive(Debug)]
pub struct Route {
    /// Where to connect.
    pub endpoint: Endpoint,
    tunnel: Option<Tunnel>,
}

impl Route {
    /// The way to another endpoint of the same daemon, without another log-in.
    ///
    /// # Errors
    /// It cannot be reached this way; why.
    pub fn beside(&self, endpoint: Endpoint) -> Result<Route, String> {
        let Some(tunnel) = &self.tunnel else {
            return Ok(Route {
                endpoint,
                tunnel: None,
            });
        };
        let tunnel = tunnel.beside(&endpoint)?;
        Ok(Route {
            endpoint: tunnel.endpoint(),
            tunnel: Some(tunnel),
        })
    }

    /// The words for an error of a call on this way.
    pub fn explain(&self, error: &dyn std::fmt::Display) -> String {
        let text = error.to_string();
        match &self.tunnel {
            Some(tunnel) => tunnel.explain(&text),
            None => text,
        }
    }
}

/// Why there is no way to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteError {
    /// It was asked for in the wrong words.
    Usage(String),
    /// There is no tunnel.
    Unreachable(String),
}

impl RouteError {
    /// The exit code of a command that needs the way.
    pub fn code(&self) -> u8 {
        match self {
            RouteError::Usage(_) => EXIT_USAGE,
            RouteError::Unreachable(_) => EXIT_UNREACHABLE,
        }
    }
}

impl std::fmt::Display for RouteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RouteError::Usage(text) | RouteError::Unreachable(text) => f.write_str(text),
        }
    }
}

/// The control endpoint that the file gives to its daemon.
pub(super) fn endpoint_of(path: &Path) -> Result<String, String> {
    // Names and values that are no text cannot be written in a circus.ini either.
    let environ: BTreeMap<String, String> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let cwd = env::current_dir()
        .map_err(|error| format!("cannot tell the working directory: {error}"))?;
    match Config::load(path, &environ, &cwd) {
        Ok(config) => Ok(config.circus.endpoint),
        // A daemon goes on running while its file is being edited; a mistake elsewhere in the file
        // must not keep anybody from asking how it is.
        Err(error) => plain_endpoint_of(path).ok_or_else(|| error.to_string()),
    }
}

/// The endpoint if the file itself says it in plain text, whatever else is wrong with the file.
fn plain_endpoint_of(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let document = Document::parse(&bytes, &path.display().to_string()).ok()?;
    let endpoint = document.get("circus", "endpoint")?;
    (!endpoint.contains('(') && !endpoint.contains('{')).then(|| endpoint.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_option_wins() {
        let near = Args {
            config: Some("a.ini".into()),
            ..Args::default()
        };
        let far = Args {
            endpoint: Some("tcp://h:1".into()),
            timeout: Some(Duration::from_secs(9)),
            json: true,
            ..Args::default()
        };
        let both = near.or(far.clone());
        assert_eq!(both.endpoint, None);
        assert_eq!(both.timeout(), Duration::from_secs(9));
        assert!(both.json);
        assert_eq!(far.first_given(), Some("--endpoint"));
        assert_eq!(Args::default().first_given(), None);
    }

    #[test]
    fn a_file_gives_the_endpoint() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[circus]\nendpoint = tcp://0.0.0.0:6001\n").unwrap();
        let mut args = Args {
            config: Some(file.path().into()),
            ..Args::default()
        };
        let endpoint = args.control_endpoint().unwrap();
        assert_eq!(endpoint.to_string(), "tcp://127.0.0.1:6001");
        std::fs::write(
            file.path(),
            "[circus]\nendpoint = tcp://127.0.0.1:6002\n[watcher:x]\nnumprocesses = many\n",
        )
        .unwrap();
        let endpoint = args.control_endpoint().unwrap();
        assert_eq!(endpoint.to_string(), "tcp://127.0.0.1:6002");
        args.config = Some("/no/such/circus.ini".into());
        let error = args.control_endpoint().unwrap_err();
        assert!(error.contains("/no/such/circus.ini"), "{error}");
    }

    #[test]
    fn timeouts_are_positive_numbers() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "x", "nan", "inf", "1e300", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
