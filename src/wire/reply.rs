//! Replies of the control socket: JSON objects with circus's keys, in circus's order.

use serde_json::{Map, Value};

/// The `errno` of an error reply (circus 0.19, `circus/commands/errors.py`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Errno {
    /// No error number applies.
    NotSpecified = 0,
    /// The message is not JSON.
    InvalidJson = 1,
    /// The command does not exist.
    UnknownCommand = 2,
    /// The command exists, its properties are wrong or name something unknown.
    Message = 3,
    /// The kernel refused what was asked.
    Os = 4,
    /// The command failed, or a property has a type the command cannot work with.
    Command = 5,
    /// The command failed while it ran (`server error`).
    BadData = 6,
}

impl Errno {
    /// The number on the wire.
    pub fn number(self) -> i32 {
        self as i32
    }
}

/// A successful reply: `status`, `time`, then `properties` (which may replace both), then `id`.
///
/// `time` is seconds since the epoch, as circus has it.
pub fn ok(id: &Value, time: f64, properties: Map<String, Value>) -> Value {
    let mut reply = Map::new();
    reply.insert("status".into(), Value::from("ok"));
    reply.insert("time".into(), Value::from(time));
    for (key, value) in properties {
        // `insert` keeps the place of a key that is there, as Python's dict.update does.
        reply.insert(key, value);
    }
    reply.insert("id".into(), id.clone());
    Value::Object(reply)
}

/// An error reply. circ never sends a traceback: `tb` is always null.
pub fn error(id: &Value, time: f64, errno: Errno, reason: &str) -> Value {
    let mut reply = Map::new();
    reply.insert("status".into(), Value::from("error"));
    reply.insert("reason".into(), Value::from(reason));
    reply.insert("tb".into(), Value::Null);
    reply.insert("time".into(), Value::from(time));
    reply.insert("errno".into(), Value::from(errno.number()));
    reply.insert("id".into(), id.clone());
    Value::Object(reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn key_order_is_circus_s() {
        let mut properties = Map::new();
        properties.insert("status".into(), json!("active"));
        properties.insert("extra".into(), json!(1));
        assert_eq!(
            ok(&json!("x"), 1.5, properties).to_string(),
            r#"{"status":"active","time":1.5,"extra":1,"id":"x"}"#
        );
        assert_eq!(
            error(&Value::Null, 1.5, Errno::Message, "no").to_string(),
            r#"{"status":"error","reason":"no","tb":null,"time":1.5,"errno":3,"id":null}"#
        );
    }
}
