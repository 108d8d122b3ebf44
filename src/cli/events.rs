//! `circ listen`: follows the events of a daemon, one line each.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::cli::connection::RouteError;
use crate::cli::{EXIT_REFUSED, EXIT_UNREACHABLE, connection, output};
use crate::wire::client::Patience;
use crate::wire::{Client, ClientError, Endpoint, Subscriber, command, pytext};

/// Prints events until it is interrupted or nobody reads any more.
pub fn run(topics: Vec<String>, connection: &connection::Args) -> ExitCode {
    let refused = |error: RouteError| {
        output::error(&error.to_string());
        ExitCode::from(error.code())
    };
    let control = match connection.route() {
        Ok(route) => route,
        Err(error) => return refused(error),
    };
    let publisher = match publisher(&control.endpoint, connection) {
        Ok(Ok(endpoint)) => endpoint,
        Ok(Err(reason)) => {
            output::error(&reason);
            return ExitCode::from(EXIT_REFUSED);
        }
        Err(error) => {
            output::error(&control.explain(&error));
            return ExitCode::from(EXIT_UNREACHABLE);
        }
    };
    drop(control);
    let publisher = match connection.route_to(publisher) {
        Ok(route) => route,
        Err(error) => return refused(error),
    };
    let topics = if topics.is_empty() {
        vec![String::new()]
    } else {
        topics
    };
    let patience = Patience::FailAtOnce;
    let mut subscriber =
        match Subscriber::connect(&publisher.endpoint, &topics, connection.timeout(), patience) {
            Ok(subscriber) => subscriber,
            Err(error) => {
                output::error(&publisher.explain(&error));
                return ExitCode::from(EXIT_UNREACHABLE);
            }
        };
    loop {
        let (topic, payload) = subscriber.next_event();
        let line = event_line(&topic, &payload, connection.json);
        if !output::line(&line) {
            return ExitCode::SUCCESS;
        }
    }
}

/// Asks the daemon where it publishes: the outer error is of the call, the inner of the answer.
fn publisher(
    control: &Endpoint,
    connection: &connection::Args,
) -> Result<Result<Endpoint, String>, ClientError> {
    let mut client = Client::connect(control, connection.timeout())?;
    let mut properties = Map::new();
    properties.insert("option".into(), Value::from("pubsub_endpoint"));
    let reply = client.call(command::message("globaloptions", properties))?;
    if reply.get("status").and_then(Value::as_str) == Some("error") {
        return Ok(Err(output::refusal(&reply)));
    }
    Ok(reply
        .pointer("/options/pubsub_endpoint")
        .and_then(Value::as_str)
        .ok_or_else(|| format!("{control} does not say where it publishes events"))
        .and_then(|text| {
            text.parse::<Endpoint>()
                .map(Endpoint::reachable)
                .map_err(|error| format!("the daemon publishes at an unusable address: {error}"))
        }))
}

/// One event as a line: `TOPIC key=value …`, or a JSON object with topic and payload.
fn event_line(topic: &[u8], payload: &[u8], json: bool) -> String {
    let topic = String::from_utf8_lossy(topic);
    let payload: Value = serde_json::from_slice(payload)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(payload)));
    if json {
        return json!({"topic": topic, "payload": payload}).to_string();
    }
    let Value::Object(payload) = payload else {
        return format!("{topic} {}", output::plain(&payload));
    };
    let mut line = match payload.get("time").and_then(Value::as_f64) {
        Some(time) => format!("{} {topic}", output::utc(time)),
        None => topic.into_owned(),
    };
    for (key, value) in payload.iter().filter(|(key, _)| *key != "time") {
        line.push_str(&format!(" {key}={}", pytext::text_of(value)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_as_lines() {
        let payload = br#"{"process_pid": 7, "time": 1795247906.519413, "exit_code": -9}"#;
        assert_eq!(
            event_line(b"watcher.web.reap", payload, false),
            "2026-11-21T07:58:26.519Z watcher.web.reap process_pid=7 exit_code=-9"
        );
        assert_eq!(
            event_line(b"watcher.web.reap", br#"{"time":1.5}"#, true),
            r#"{"topic":"watcher.web.reap","payload":{"time":1.5}}"#
        );
        assert_eq!(event_line(b"t", b"not json", false), "t not json");
    }
}
