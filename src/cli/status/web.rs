//! What the web servers of a watcher have counted, in words. Pure.

use serde_json::{Map, Value};

use super::page::Out;
use crate::cli::paint::{Tone, span};
use crate::stats::human_bytes;

/// The part of the page of a watcher whose workers are `circ chaussette`.
pub fn lines(front: &Value, out: &mut Out) {
    out.heading("Requests");
    let number = |key: &str| front.get(key).and_then(Value::as_u64).unwrap_or(0);
    let classes = front.get("requests_total").and_then(Value::as_object);
    let of_class = |class: &str| {
        let count = classes.and_then(|classes| classes.get(class)?.as_u64());
        count.unwrap_or(0)
    };
    let all: u64 = classes
        .into_iter()
        .flat_map(Map::values)
        .filter_map(Value::as_u64)
        .sum();
    let rate = front.get("requests_each_second").and_then(Value::as_f64);
    let mut facts = vec![format!("{all} answered")];
    facts.extend(rate.map(|rate| format!("{rate:.1} a second")));
    for class in ["4xx", "5xx"] {
        facts.extend(some(of_class(class), class));
    }
    facts.extend(some(number("refused_total"), "refused"));
    let tone = match of_class("5xx") {
        0 => Tone::Plain,
        _ => Tone::Bad,
    };
    out.line(tone, &format!("  {}", facts.join(", ")));
    if let Some(words) = times(front) {
        out.line(Tone::Plain, &format!("  {words}"));
    }
    let mut facts = vec![
        format!("{} in flight", number("requests_in_flight")),
        format!("{} wait for a process", number("requests_queued")),
        format!("{} connections", number("connections")),
        format!(
            "{} received, {} sent",
            human_bytes(number("received_bytes_total")),
            human_bytes(number("sent_bytes_total"))
        ),
    ];
    facts.extend(some(
        number("worker_deaths_total"),
        "processes of Python have died",
    ));
    out.line(Tone::Plain, &format!("  {}", facts.join(", ")));
}

fn some(count: u64, words: &str) -> Option<String> {
    (count > 0).then(|| format!("{count} {words}"))
}

/// How long answers took: on average, and the bounds under which half and nearly all of them were.
fn times(front: &Value) -> Option<String> {
    let told = front.get("request_duration_seconds")?;
    let count = told.get("count")?.as_f64().filter(|count| *count > 0.0)?;
    let average = told.get("sum")?.as_f64()? / count;
    let buckets = told.get("buckets")?.as_object()?;
    let within = |share: f64| {
        let first = buckets.iter().find(|(_, number)| {
            number
                .as_f64()
                .is_some_and(|number| number >= count * share)
        });
        let bound: f64 = first?.0.parse().ok()?;
        if bound.is_finite() {
            return Some(format!("within {}", milliseconds(bound)));
        }
        let bounds = buckets.keys().filter_map(|bound| bound.parse().ok());
        let longest = bounds.filter(|bound: &f64| bound.is_finite());
        Some(format!(
            "not within {}",
            milliseconds(longest.fold(0.0, f64::max))
        ))
    };
    Some(format!(
        "an answer began after {} on average, half {}, 99% {}",
        milliseconds(average),
        within(0.5)?,
        within(0.99)?
    ))
}

/// Short times in milliseconds.
fn milliseconds(seconds: f64) -> String {
    let text = match seconds * 1e3 {
        many @ 1000.0.. => return span(many / 1e3),
        some @ 10.0.. => format!("{some:.0}"),
        few => format!("{few:.1}"),
    };
    format!("{} ms", text.trim_end_matches(".0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::paint::Paint;
    use serde_json::json;

    fn told(front: &Value) -> Vec<String> {
        let mut out = Out::new(None, Paint::none());
        lines(front, &mut out);
        out.lines
    }

    #[test]
    fn a_person_is_told_what_matters() {
        let front = json!({
            "fronts": 2, "requests_each_second": 12.5, "requests_total": {"2xx": 95, "4xx": 3, "5xx": 2},
            "refused_total": 1, "requests_in_flight": 4, "requests_queued": 1, "connections": 9,
            "received_bytes_total": 2048, "sent_bytes_total": 0, "worker_deaths_total": 1,
            "request_duration_seconds": {"sum": 0.5, "count": 100, "buckets": {"0.0025": 60, "0.1": 99, "+Inf": 100}},
        });
        let expected = [
            "",
            "Requests",
            "  100 answered, 12.5 a second, 3 4xx, 2 5xx, 1 refused",
            "  an answer began after 5 ms on average, half within 2.5 ms, 99% within 100 ms",
            "  4 in flight, 1 wait for a process, 9 connections, 2.00K received, 0B sent, 1 processes of Python have died",
        ];
        assert_eq!(told(&front), expected);
    }

    #[test]
    fn nothing_was_asked_yet() {
        let front = json!({"requests_total": {"2xx": 0}, "requests_each_second": 0.0,
            "request_duration_seconds": {"sum": 0, "count": 0, "buckets": {}}});
        let expected = [
            "",
            "Requests",
            "  0 answered, 0.0 a second",
            "  0 in flight, 0 wait for a process, 0 connections, 0B received, 0B sent",
        ];
        assert_eq!(told(&front), expected);
        let slow = json!({"request_duration_seconds": {"sum": 90.0, "count": 1, "buckets": {"10": 0, "+Inf": 1}}});
        let words =
            "an answer began after 1m30s on average, half not within 10s, 99% not within 10s";
        assert_eq!(times(&slow).as_deref(), Some(words));
    }
}
