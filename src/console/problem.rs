//! What goes wrong, as RFC 9457 has it: `application/problem+json`.

use http::StatusCode;
use serde_json::{Map, Value, json};

/// An error that a client is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The status of the response.
    pub status: StatusCode,
    /// A sentence: what was wrong, and what to do.
    pub detail: String,
    /// Further members of the object.
    pub more: Map<String, Value>,
    /// Seconds until another attempt makes sense.
    pub retry_after: Option<u64>,
}

impl Problem {
    /// A problem with this status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            status,
            detail: detail.into(),
            more: Map::new(),
            retry_after: None,
        }
    }

    /// 400.
    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 403.
    pub fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    /// 422: understood, and refused.
    pub fn refused(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// With a further member.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Problem {
        self.more.insert(key.to_owned(), value.into());
        self
    }

    /// The object.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("type".into(), json!("about:blank"));
        let title = self.status.canonical_reason().unwrap_or("Error");
        object.insert("title".into(), json!(title));
        object.insert("status".into(), json!(self.status.as_u16()));
        object.insert("detail".into(), json!(self.detail));
        for (key, value) in &self.more {
            object.entry(key.clone()).or_insert(value.clone());
        }
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_the_rfc_asks_for() {
        let problem = Problem::refused("no").with("errno", 3).with("status", 1);
        assert_eq!(
            problem.to_json(),
            json!({"type": "about:blank", "title": "Unprocessable Entity", "status": 422, "detail": "no", "errno": 3})
        );
    }
}
