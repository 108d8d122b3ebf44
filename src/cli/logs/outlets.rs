//! Where the output of each watcher goes: asked of the daemon, or read in the configuration when no daemon answers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::cli::{EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, connection, output};
use crate::config::Config;
use crate::options;
use crate::wire::{Client, Endpoint, Match, Selection, command};

/// An exit code and a sentence.
pub type Failure = (u8, String);

/// One of the two outputs of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}

impl Which {
    /// As it is spelled on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Which::Stdout => "stdout",
            Which::Stderr => "stderr",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Which::Stdout => "standard output",
            Which::Stderr => "standard error",
        }
    }
}

/// One output of a watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlet {
    /// The watcher, as the configuration spells it.
    pub watcher: String,
    /// Which of the two; `None` when both go to the same place.
    pub which: Option<Which>,
    /// The other watchers that write to the same file.
    pub others: Vec<String>,
    /// Where it goes.
    pub place: Place,
}

impl Outlet {
    /// `web's standard output`.
    pub fn sentence(&self) -> String {
        let words = self.which.map_or("output", Which::words);
        format!("{}'s {words}", self.watcher)
    }

    /// Another output that goes to the same file.
    pub fn shares(&mut self, other: &Outlet) {
        if other.watcher == self.watcher {
            self.which = None;
        } else if !self.others.contains(&other.watcher) {
            self.others.push(other.watcher.clone());
        }
    }
}

/// Where an output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Into this file.
    File(PathBuf),
    /// Through a stream of this class, of which the daemon remembers the end.
    Memory(String),
    /// Where it cannot be read from here, in words that follow "goes".
    Elsewhere(String),
}

/// Who is asked.
pub enum Asked {
    /// A daemon that answers.
    Daemon {
        /// The connection to it.
        client: Box<Client>,
        /// Its working directory, as far as it can be told from here.
        directory: Option<PathBuf>,
    },
    /// The configuration, and why not the daemon.
    File(Box<Config>, PathBuf),
}

impl Asked {
    /// The daemon, or without one the configuration if it was named.
    ///
    /// # Errors
    /// Neither can be had.
    pub fn new(connection: &connection::Args) -> Result<Asked, Failure> {
        let endpoint = connection.control_endpoint().map_err(|r| (EXIT_USAGE, r))?;
        let error = match Client::connect(&endpoint, connection.timeout()) {
            Ok(client) => return Ok(Asked::of(client)),
            Err(error) => error,
        };
        let Some(path) = connection.config_file() else {
            return Err((
                EXIT_UNREACHABLE,
                format!("{error}\nWithout a daemon, --config FILE tells where the output goes"),
            ));
        };
        let directory = std::env::current_dir()
            .map_err(|why| (EXIT_UNREACHABLE, format!("the working directory: {why}")))?;
        let environ: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let config = Config::load(path, &environ, &directory)
            .map_err(|why| (EXIT_UNREACHABLE, why.to_string()))?;
        Ok(Asked::File(Box::new(config), directory))
    }

    /// The daemon at the other end.
    pub fn of(client: Client) -> Asked {
        let mut client = Box::new(client);
        let directory = directory_of(&mut client);
        Asked::Daemon { client, directory }
    }

    /// The outputs of the watchers that these names or patterns mean, in the order of their names.
    ///
    /// # Errors
    /// A name that is none, or a daemon that does not answer any more.
    pub fn outlets(&mut self, names: &[String], which: &[Which]) -> Result<Vec<Outlet>, Failure> {
        let all = match self {
            Asked::Daemon { client, .. } => watchers(client)?,
            Asked::File(config, _) => config.watchers.iter().map(|w| w.name.clone()).collect(),
        };
        let mut outlets = Vec::new();
        for watcher in selected(&all, names)? {
            for which in which {
                let place = self.place(&watcher, *which)?;
                outlets.push(Outlet {
                    watcher: watcher.clone(),
                    which: Some(*which),
                    others: Vec::new(),
                    place,
                });
            }
        }
        Ok(outlets)
    }

    fn place(&mut self, watcher: &str, which: Which) -> Result<Place, Failure> {
        match self {
            Asked::Daemon { client, directory } => {
                if let Some(place) = told(client, watcher, which)? {
                    return Ok(place);
                }
                let reply = ask(client, "options", &[("name", Value::from(watcher))])?;
                let options = reply.get("options").and_then(Value::as_object);
                let conf = options.and_then(|o| o.get(&format!("{}_stream_conf", which.name())));
                let closed = options.and_then(|o| o.get(&format!("close_child_{}", which.name())));
                let directory = directory.as_deref();
                Ok(configured(
                    conf.and_then(Value::as_object),
                    closed == Some(&Value::Bool(true)),
                    directory.unwrap_or(Path::new("")),
                ))
            }
            Asked::File(config, directory) => {
                let Some((options, _)) = config.watcher(watcher) else {
                    return Ok(Place::Elsewhere("nowhere: it is gone".to_string()));
                };
                let (stream, closed) = match which {
                    Which::Stdout => (options.stdout_stream(), options.close_child_stdout()),
                    Which::Stderr => (options.stderr_stream(), options.close_child_stderr()),
                };
                Ok(configured(stream, closed, directory))
            }
        }
    }

    /// The `time_format` of the output's stream, if it has one and that can be told.
    pub fn time_format(&mut self, outlet: &Outlet) -> Option<String> {
        let which = outlet.which.unwrap_or(Which::Stdout);
        let format = |stream: &Map<String, Value>| {
            let format = stream.get("time_format").and_then(Value::as_str);
            format.map(str::to_string)
        };
        match self {
            Asked::Daemon { client, .. } => {
                let name = ("name", Value::from(outlet.watcher.as_str()));
                let reply = ask(client, "options", &[name]).ok()?;
                let pointer = format!("/options/{}_stream_conf", which.name());
                format(reply.pointer(&pointer)?.as_object()?)
            }
            Asked::File(config, _) => {
                let (options, _) = config.watcher(&outlet.watcher)?;
                format(match which {
                    Which::Stdout => options.stdout_stream(),
                    Which::Stderr => options.stderr_stream(),
                }?)
            }
        }
    }

    /// What the daemon remembers of this output beyond the first `after` bytes, and how many there were by now. `None`
    /// if it does not say.
    pub fn remembered(&mut self, outlet: &Outlet, after: u64) -> Option<(String, u64)> {
        let Asked::Daemon { client, .. } = self else {
            return None;
        };
        let which = outlet.which.unwrap_or(Which::Stdout);
        let properties = [
            ("name", Value::from(outlet.watcher.as_str())),
            ("stream", Value::from(which.name())),
            ("after", Value::from(after)),
        ];
        let reply = ask(client, "logtail", &properties).ok()?;
        let text = reply.get("text").and_then(Value::as_str)?.to_string();
        Some((text, reply.get("end").and_then(Value::as_u64)?))
    }
}

fn ask(client: &mut Client, name: &str, properties: &[(&str, Value)]) -> Result<Value, Failure> {
    let properties: Map<String, Value> = properties
        .iter()
        .map(|(key, value)| (key.to_string(), value.clone()))
        .collect();
    let reply = client
        .call(command::message(name, properties))
        .map_err(|error| (EXIT_UNREACHABLE, error.to_string()))?;
    if reply.get("status").and_then(Value::as_str) == Some("error") {
        return Err((EXIT_REFUSED, output::refusal(&reply)));
    }
    Ok(reply)
}

/// The names of all watchers, as the configuration spells them.
fn watchers(client: &mut Client) -> Result<Vec<String>, Failure> {
    let reply = ask(client, "status", &[])?;
    let statuses = reply.get("statuses").and_then(Value::as_object);
    let mut names: Vec<String> = statuses.into_iter().flat_map(Map::keys).cloned().collect();
    names.sort_by_key(|name| name.to_lowercase());
    Ok(names)
}

/// The watchers that are meant, each once.
fn selected(all: &[String], names: &[String]) -> Result<Vec<String>, Failure> {
    if names.is_empty() {
        return match all.is_empty() {
            true => Err((EXIT_REFUSED, "there are no watchers".to_string())),
            false => Ok(all.to_vec()),
        };
    }
    let mut found: Vec<String> = Vec::new();
    for name in names {
        let selection = Selection {
            name: Some(name.clone()),
            matching: Match::Glob,
        };
        let matcher = selection.matcher().map_err(|why| (EXIT_USAGE, why))?;
        let before = found.len();
        let mut meant = all
            .iter()
            .filter(|watcher| matcher.matches(watcher))
            .peekable();
        if meant.peek().is_none() {
            let near = options::nearest_of(name, all.iter().map(String::as_str));
            let hint = match near {
                Some(near) => format!("; did you mean {near}?"),
                None if all.is_empty() => String::new(),
                None => format!("; there are {}", all.join(", ")),
            };
            return Err((EXIT_REFUSED, format!("there is no watcher {name}{hint}")));
        }
        found.extend(meant.cloned());
        let (old, new) = found.split_at(before);
        let new: Vec<String> = new.iter().filter(|n| !old.contains(n)).cloned().collect();
        found.truncate(before);
        found.extend(new);
    }
    Ok(found)
}

/// What circ's daemon says by `logtail`; `None` of a daemon that does not know that.
fn told(client: &mut Client, watcher: &str, which: Which) -> Result<Option<Place>, Failure> {
    let properties = [
        ("name", Value::from(watcher)),
        ("stream", Value::from(which.name())),
        ("bytes", Value::from(0)),
    ];
    let Ok(reply) = ask(client, "logtail", &properties) else {
        // a circusd; if it is gone, the next question says so
        return Ok(None);
    };
    if let Some(file) = reply.get("file").and_then(Value::as_str) {
        return Ok(Some(Place::File(PathBuf::from(file))));
    }
    Ok(match reply.get("class").and_then(Value::as_str) {
        Some(class) if reply.get("text").is_some() => Some(Place::Memory(class.to_string())),
        _ => None,
    })
}

/// Where a stream leads by its options.
fn configured(stream: Option<&Map<String, Value>>, closed: bool, directory: &Path) -> Place {
    if closed {
        return Place::Elsewhere("nowhere: it is closed (close_child_…)".to_string());
    }
    let text = |key: &str| stream.and_then(|map| map.get(key)).and_then(Value::as_str);
    match (text("filename"), text("class")) {
        (Some(file), _) if !file.is_empty() => Place::File(directory.join(file)),
        (_, Some(class)) if !class.ends_with("StdoutStream") => Place::Elsewhere(format!(
            "through a {class}: it can be read where that puts it"
        )),
        _ => Place::Elsewhere("where the daemon's own does".to_string()),
    }
}

/// The daemon's working directory, if it is a process of this machine that can be looked at: names of files that are
/// not absolute start there.
fn directory_of(client: &mut Client) -> Option<PathBuf> {
    match client.endpoint() {
        Endpoint::Ipc(_) => {}
        Endpoint::Tcp { host, .. } if host == "localhost" => {}
        Endpoint::Tcp { host, .. } => {
            let address: std::net::IpAddr = host.parse().ok()?;
            if !address.is_loopback() {
                return None;
            }
        }
    }
    let reply = ask(client, "dstats", &[]).ok()?;
    let pid = reply.pointer("/info/pid").and_then(Value::as_i64)?;
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| word.to_string()).collect()
    }

    #[test]
    fn names_and_patterns() {
        let all = names(&["Api", "web", "web2"]);
        let select = |words: &[&str]| selected(&all, &names(words));
        assert_eq!(select(&[]).unwrap(), all);
        assert_eq!(
            select(&["WEB", "api", "web*"]).unwrap(),
            names(&["web", "Api", "web2"])
        );
        assert_eq!(
            select(&["wbe"]).unwrap_err(),
            (
                EXIT_REFUSED,
                "there is no watcher wbe; did you mean web?".to_string()
            )
        );
        assert!(
            select(&["nothing"])
                .unwrap_err()
                .1
                .ends_with("there are Api, web, web2")
        );
        assert!(selected(&[], &[]).is_err());
    }

    #[test]
    fn where_a_stream_leads() {
        let place =
            |stream: Value, closed| configured(stream.as_object(), closed, Path::new("/srv"));
        assert_eq!(
            place(json!({"filename": "a.log"}), false),
            Place::File("/srv/a.log".into())
        );
        assert_eq!(
            place(json!({"filename": "/a.log"}), false),
            Place::File("/a.log".into())
        );
        let words = |place| match place {
            Place::Elsewhere(words) => words,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            words(place(json!({}), false)),
            "where the daemon's own does"
        );
        assert_eq!(
            words(place(json!({"class": "FancyStdoutStream"}), false)),
            "where the daemon's own does"
        );
        assert!(words(place(json!({"class": "mine.Stream"}), false)).contains("mine.Stream"));
        assert!(words(place(json!({"filename": "x"}), true)).starts_with("nowhere"));
    }
}
