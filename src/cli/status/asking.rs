//! What is asked of the daemon for a picture: of circ's, and of a circusd with what that answers.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::page::Page;
use super::picture::{self, Watcher};
use crate::cli::output;
use crate::wire::{Client, ClientError, Endpoint, command};

/// A circusd needs a walk over /proc for each process: of more watchers than this only the names and states are asked.
const MANY: usize = 50;

/// Why there is no picture.
#[derive(Debug)]
pub enum Failure {
    /// The daemon is not reached, or does not answer.
    Unreachable(ClientError),
    /// It answers with an error: the reply.
    Refused(Value),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure::Unreachable(error)
    }
}

fn named(name: &str) -> Map<String, Value> {
    Map::from_iter([("name".to_string(), Value::from(name))])
}

/// The reply to a command.
///
/// # Errors
/// See [`Failure`].
pub fn call(
    client: &mut Client,
    command: &str,
    properties: Map<String, Value>,
) -> Result<Map<String, Value>, Failure> {
    match client.call(command::message(command, properties))? {
        Value::Object(reply) if reply.get("status") != Some(&Value::from("error")) => Ok(reply),
        refused => Err(Failure::Refused(refused)),
    }
}

/// What may be missing: a circusd under load does not answer everything.
fn maybe(
    client: &mut Client,
    command: &str,
    properties: Map<String, Value>,
) -> Option<Map<String, Value>> {
    call(client, command, properties).ok()
}

/// Seconds since the epoch.
pub fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// Every watcher, by name.
///
/// # Errors
/// See [`Failure`].
pub fn watchers(client: &mut Client) -> Result<Vec<Watcher>, Failure> {
    let details = Map::from_iter([("details".to_string(), Value::from(true))]);
    let reply = call(client, "status", details)?;
    let mut told: Vec<(String, Map<String, Value>)> = match reply.get("watchers") {
        Some(Value::Object(watchers)) => watchers
            .iter()
            .filter_map(|(name, told)| Some((name.clone(), told.as_object()?.clone())))
            .collect(),
        _ => of_circusd(client, &reply),
    };
    told.sort_by(|(a, _), (b, _)| a.cmp(b));
    let few = reply.contains_key("watchers") || told.len() <= MANY;
    let statistics = few.then(|| maybe(client, "stats", Map::new())).flatten();
    let infos = statistics
        .as_ref()
        .and_then(|reply| reply.get("infos")?.as_object());
    let of = |name: &str| {
        let same = |known: &&String| known.to_lowercase() == name.to_lowercase();
        let infos = infos?;
        infos
            .get(name)
            .or_else(|| infos.get(infos.keys().find(same)?))
    };
    let now = now();
    Ok(told
        .iter()
        .map(|(name, told)| picture::watcher(name, told, of(name), now))
        .collect())
}

/// The same keys from what a circusd answers.
fn of_circusd(
    client: &mut Client,
    reply: &Map<String, Value>,
) -> Vec<(String, Map<String, Value>)> {
    let statuses = reply.get("statuses").and_then(Value::as_object);
    let many = statuses.map_or(0, Map::len) > MANY;
    let mut all = Vec::new();
    for (name, status) in statuses.into_iter().flatten() {
        let mut told = Map::from_iter([("status".to_string(), status.clone())]);
        let keys = [("keys".to_string(), Value::from(vec!["numprocesses"]))];
        let asked: Map<String, Value> = named(name).into_iter().chain(keys).collect();
        let options = (!many).then(|| maybe(client, "get", asked)).flatten();
        let wanted = options.and_then(|reply| reply.get("options")?.get("numprocesses").cloned());
        told.extend(wanted.map(|wanted| ("numprocesses".to_string(), wanted)));
        all.push((name.clone(), told));
    }
    all
}

/// All about one watcher.
///
/// # Errors
/// See [`Failure`].
pub fn watcher(client: &mut Client, name: &str) -> Result<Page, Failure> {
    let mut asked = named(name);
    asked.insert("details".to_string(), Value::from(true));
    let mut told = call(client, "status", asked)?;
    let mut options = maybe(client, "options", named(name))
        .and_then(|mut reply| reply.remove("options")?.as_object().cloned())
        .unwrap_or_default();
    let home = maybe(client, "identity", Map::new()).and_then(|mut reply| reply.remove("cwd"));
    if home.is_some() && options.get("working_dir") == home.as_ref() {
        // The daemon's own, which nobody has asked for.
        options.remove("working_dir");
    }
    if let (None, Some(wanted)) = (told.get("numprocesses"), options.get("numprocesses")) {
        told.insert("numprocesses".to_string(), wanted.clone());
    }
    let statistics = maybe(client, "stats", named(name)).and_then(|mut reply| reply.remove("info"));
    let details = Map::from_iter([("details".to_string(), Value::from(true))]);
    let sockets = maybe(client, "listsockets", details)
        .and_then(|reply| reply.get("sockets")?.as_array().cloned())
        .unwrap_or_default();
    let mut asked = named(name);
    asked.insert("processes".to_string(), Value::from(true));
    let front = maybe(client, "metrics", asked).and_then(|reply| {
        let watchers = reply.get("watchers")?.as_object()?;
        watchers.values().next()?.get("front").cloned()
    });
    Ok(Page {
        name: name.to_string(),
        told,
        options,
        statistics,
        sockets,
        front,
        now: now(),
    })
}

/// Where the daemon publishes its events.
///
/// # Errors
/// Why that is not known, and whether it was refused.
pub fn publisher(client: &mut Client) -> Result<Endpoint, (bool, String)> {
    let option = Map::from_iter([("option".to_string(), Value::from("pubsub_endpoint"))]);
    let reply = call(client, "globaloptions", option).map_err(|failure| match failure {
        Failure::Unreachable(error) => (false, error.to_string()),
        Failure::Refused(reply) => (true, output::refusal(&reply)),
    })?;
    let text = reply
        .get("options")
        .and_then(|options| options.get("pubsub_endpoint")?.as_str());
    let text = text.ok_or_else(|| {
        let endpoint = client.endpoint();
        (
            true,
            format!("{endpoint} does not say where it publishes events"),
        )
    })?;
    let endpoint = text.parse::<Endpoint>().map(Endpoint::reachable);
    endpoint.map_err(|error| {
        let why = format!("the daemon publishes at an unusable address: {error}");
        (true, why)
    })
}
