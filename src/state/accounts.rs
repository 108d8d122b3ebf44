//! Users and groups by name and by number: a daemon that was told `set uid nobody` answers `65534`, and means the same.

use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::values;
use crate::options::{self, Key, Kind};

/// As [`values::same`], and an account's name is the same as its number.
pub fn same_option(key: &str, a: Option<&Value>, b: Option<&Value>) -> bool {
    if values::same(key, a, b) {
        return true;
    }
    if !matches!(options::find(key), Some((spec, Key::Whole)) if spec.kind == Kind::Account) {
        return false;
    }
    let database = if key == "gid" { "group" } else { "passwd" };
    let number = |value: Option<&Value>| value.and_then(|value| id(database, value));
    matches!((number(a), number(b)), (Some(a), Some(b)) if a == b)
}

fn id(database: &str, account: &Value) -> Option<i64> {
    match account {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok().or_else(|| {
            let file = std::fs::read_to_string(format!("/etc/{database}")).unwrap_or_default();
            field(&file, text).or_else(|| field(&getent(database, text), text))
        }),
        _ => None,
    }
}

/// The number of `name` in lines of `name:password:number:…`.
fn field(lines: &str, name: &str) -> Option<i64> {
    lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

/// Accounts that are not in a file (LDAP and the like) are known to the system's own program: a static binary cannot
/// load the modules that know them.
fn getent(database: &str, name: &str) -> String {
    if name.starts_with('-') {
        return String::new();
    }
    let started = Command::new("getent")
        .args([database, name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = started else {
        return String::new();
    };
    let mut answer = Vec::new();
    if let Some(output) = child.stdout.as_mut()
        && output.read_to_end(&mut answer).is_err()
    {
        answer.clear();
    }
    // Inside the daemon, which waits for every child, it may be gone already; its answer is what counts.
    let _ = child.wait();
    String::from_utf8_lossy(&answer).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_is_its_number() {
        assert!(same_option("uid", Some(&json!("root")), Some(&json!(0))));
        assert!(same_option("gid", Some(&json!("root")), Some(&json!("0"))));
        assert!(!same_option("uid", Some(&json!("root")), Some(&json!(1))));
        assert!(!same_option(
            "uid",
            Some(&json!("no such user")),
            Some(&json!(0))
        ));
        assert!(!same_option("cmd", Some(&json!("root")), Some(&json!(0))));
    }
}
