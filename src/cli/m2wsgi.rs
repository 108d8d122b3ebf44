//! `circ m2wsgi`, and the program `m2wsgi`: a WSGI application as a handler of a Mongrel2 web server.
//!
//! Under both names the line may be that of m2wsgi 0.5 (`m2wsgi app tcp://HOST:9999 [tcp://HOST:9998]`), or say more.

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::sync::watch;

use crate::cli::chaussette::application::{
    self, ApplicationArgs, EXIT_FAILED, Failure, Signals, seconds,
};
use crate::cli::chaussette::ended;
use crate::wire::Endpoint;
use crate::wsgi::environ::Site;
use crate::wsgi::mongrel2::{Handler, Places, Uploads};
use crate::wsgi::pool::Pool;
use crate::wsgi::worker::{Patch, Setting};

/// The command line.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  circ m2wsgi --send tcp://127.0.0.1:9997 --recv tcp://127.0.0.1:9996 app:application\n  \
    circ m2wsgi app:application tcp://127.0.0.1:9997\n  circ m2wsgi --send ipc://run/req --recv ipc://run/rep --upload-dir /srv/m2/tmp app"
)]
pub struct Args {
    #[command(flatten)]
    application: ApplicationArgs,
    /// Where Mongrel2 hands out requests: its send_spec. Several servers: the option several times. May stand behind the
    /// application as well
    #[arg(long, value_name = "ENDPOINT")]
    send: Vec<Endpoint>,
    /// Where Mongrel2 takes answers: its recv_spec, one for each --send; default: the port below
    #[arg(long, value_name = "ENDPOINT")]
    recv: Vec<Endpoint>,
    /// The library that switches between requests: standard (none), gevent or eventlet
    #[arg(long, default_value = "standard", value_parser = ["standard", "gevent", "eventlet"], value_name = "NAME")]
    io: String,
    /// The directory of Mongrel2's upload.temp_store, as it is seen from here; without it large bodies are refused
    #[arg(long, value_name = "DIR")]
    upload_dir: Option<PathBuf>,
    /// Taken for m2wsgi's sake
    #[arg(long, hide = true, value_parser = ["", "Connection", "connection"])]
    conn_type: Option<String>,
}

/// Handles requests until a signal ends it.
pub fn run(args: &Args) -> ExitCode {
    ended("m2wsgi", attend(args))
}

impl Args {
    /// Where the servers are, and what is left of the words for the application.
    fn places(&self) -> Result<(Vec<Places>, Vec<String>), String> {
        let mut words = self.application.arguments.clone();
        let (mut send, mut recv) = (self.send.clone(), self.recv.clone());
        let mut word = || -> Result<Option<Endpoint>, String> {
            let next = words.first().filter(|word| word.contains("://"));
            let Some(next) = next else { return Ok(None) };
            let endpoint = spec(next)?;
            words.remove(0);
            Ok(Some(endpoint))
        };
        if send.is_empty() {
            send.extend(word()?);
            if recv.is_empty() {
                recv.extend(word()?);
            }
        }
        if send.is_empty() {
            return Err(
                "say where Mongrel2 hands out requests: --send tcp://HOST:PORT, its send_spec"
                    .to_string(),
            );
        }
        if recv.is_empty() {
            for endpoint in &send {
                recv.push(below(endpoint).ok_or_else(|| {
                    format!("say with --recv where Mongrel2 takes the answers to what comes from {endpoint}")
                })?);
            }
        }
        if send.len() != recv.len() {
            return Err(format!(
                "{} times --send and {} times --recv: each server needs one of each",
                send.len(),
                recv.len()
            ));
        }
        let places = send
            .into_iter()
            .zip(recv)
            .map(|(send, recv)| Places {
                send: send.reachable(),
                recv: recv.reachable(),
            })
            .collect();
        Ok((places, words))
    }
}

/// An endpoint as m2wsgi writes it: an identity before an `@` and `#connect` behind it mean nothing here.
fn spec(text: &str) -> Result<Endpoint, String> {
    let (rest, mode) = text.split_once('#').unwrap_or((text, "connect"));
    if mode != "connect" {
        return Err(format!(
            "{text}: Mongrel2 binds its sockets, a handler connects to them"
        ));
    }
    let plain = match (rest.split_once("://"), rest.split_once('@')) {
        (Some((transport, _)), Some((_, address))) => format!("{transport}://{address}"),
        _ => rest.to_string(),
    };
    plain.parse().map_err(|why| format!("{why}"))
}

/// The port below, where m2wsgi expects Mongrel2's recv_spec.
fn below(endpoint: &Endpoint) -> Option<Endpoint> {
    match endpoint {
        Endpoint::Tcp { host, port } if *port > 1 => Some(Endpoint::Tcp {
            host: host.clone(),
            port: port - 1,
        }),
        _ => None,
    }
}

async fn attend(args: &Args) -> Result<(), Failure> {
    let app = &args.application;
    let fail = |why: String| (EXIT_FAILED, why);
    let _log = app.log()?;
    let mut signals = Signals::new()?;
    let (places, words) = args.places().map_err(|why| (super::EXIT_USAGE, why))?;
    let patch = app.patch(match args.io.as_str() {
        "gevent" => Some(Patch::Gevent),
        "eventlet" => Some(Patch::Eventlet),
        _ => None,
    });
    let threads = app.threads(patch, None);
    let workers = usize::from(app.workers);
    let list = |of: fn(&Places) -> &Endpoint| {
        let endpoints = places.iter().map(|place| of(place).to_string());
        Setting::List(endpoints.collect())
    };
    let told = vec![
        ("send", list(|place| &place.send)),
        ("recv", list(|place| &place.recv)),
        ("io", Setting::Text(args.io.clone())),
    ];
    let mut settings = app.settings("m2wsgi", patch, threads, told);
    settings.arguments = words;
    let pool = Pool::new(settings, workers);
    let site = Site {
        multithread: threads > 1,
        // a handler is seldom alone
        multiprocess: true,
        trusted: app.forwarded_allow_ips.clone(),
        ..Site::default()
    };
    let uploads = match &args.upload_dir {
        Some(directory) if !directory.is_dir() => {
            let text = format!(
                "--upload-dir {}: there is no such directory",
                directory.display()
            );
            return Err(fail(text));
        }
        directory => directory.clone().map(Uploads::new),
    };
    if !application::ready(app, &pool, &mut signals).await? {
        return Ok(());
    }
    tracing::info!(
        "Using circ {} as a handler of Mongrel2, {workers} process{} of Python with {threads} request{} at once",
        env!("CARGO_PKG_VERSION"),
        if workers == 1 { "" } else { "es" },
        if threads == 1 { "" } else { "s" },
    );
    let handler = Handler::new(pool.clone(), site, app.limits(), uploads);
    let (end, ending) = watch::channel(false);
    let connected = |place: &Places| {
        tracing::info!(
            "Handling requests from {}, answering to {}",
            place.send,
            place.recv
        );
        application::tell_ready();
    };
    let serving = handler.serve(&places, ending, seconds(app.graceful_timeout), connected);
    application::attend(&pool, &mut signals, &end, serving).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};

    /// The places, each with its two addresses, and the words after the options.
    type Line = (Vec<(String, String)>, Vec<String>);

    fn read(line: &[&str]) -> Result<Line, String> {
        let command = <Args as clap::Args>::augment_args(Command::new("m2wsgi"));
        let matches = command.no_binary_name(true).try_get_matches_from(line);
        let matches = matches.map_err(|why| why.to_string())?;
        let args = Args::from_arg_matches(&matches).map_err(|why| why.to_string())?;
        let (places, words) = args.places()?;
        let texts = |place: &Places| (place.send.to_string(), place.recv.to_string());
        Ok((places.iter().map(texts).collect(), words))
    }

    fn pair(send: &str, recv: &str) -> (String, String) {
        (send.to_string(), recv.to_string())
    }

    #[test]
    fn both_ways_of_naming_a_server_are_read() {
        let places = vec![pair("tcp://127.0.0.1:9997", "tcp://127.0.0.1:9996")];
        for line in [
            &["app", "tcp://127.0.0.1:9997"] as &[&str],
            &[
                "app",
                "tcp://ID@127.0.0.1:9997#connect",
                "tcp://127.0.0.1:9996",
            ],
            &["--num-threads=5", "app", "tcp://*:9997"],
            &["--send", "tcp://127.0.0.1:9997", "app"],
            &[
                "--send=tcp://0.0.0.0:9997",
                "--recv=tcp://127.0.0.1:9996",
                "app",
            ],
        ] {
            assert_eq!(read(line), Ok((places.clone(), vec![])), "{line:?}");
        }
        let two = read(&[
            "--send=ipc://a",
            "--recv=ipc://b",
            "--send=ipc://c",
            "--recv=ipc://d",
            "app",
            "word",
        ]);
        let places = vec![pair("ipc://a", "ipc://b"), pair("ipc://c", "ipc://d")];
        assert_eq!(two, Ok((places, vec!["word".to_string()])));
    }

    #[test]
    fn what_is_missing_is_said() {
        for (line, word) in [
            (&["app"] as &[&str], "--send"),
            (&["app", "ipc://a"], "--recv"),
            (
                &["--send=ipc://a", "--recv=ipc://b", "--recv=ipc://c", "app"],
                "2 times --recv",
            ),
            (&["app", "tcp://127.0.0.1:9997#bind"], "Mongrel2 binds"),
            (&["app", "udp://x:1"], "udp://x:1"),
        ] {
            let why = read(line).unwrap_err();
            assert!(why.contains(word), "{line:?}: {why}");
        }
    }
}
