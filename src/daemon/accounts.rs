//! Which user and groups a worker runs as: the rules of `circus.process.Process` and
//! `circus.util.to_uid`/`to_gid`, worked out before the worker is spawned.

use crate::options::Value;
use crate::stats::names;
use std::fmt;

/// The ids a worker gets; each `None` leaves what the daemon has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user to become.
    pub uid: Option<u32>,
    /// The group to become.
    pub gid: Option<u32>,
    /// The groups to be a member of.
    pub groups: Option<Vec<u32>>,
}

/// A user or group that does not exist, in Circus's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountError(String);

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AccountError {}

/// The ids for the watcher options `uid` and `gid` (`None`, null, 0 and "" mean: not set).
///
/// With a user and no group, the group is the user's default one. The supplementary groups come with
/// the user. Root as the user changes nothing by itself.
///
/// # Errors
/// A name or number that no user or group has.
pub fn credentials(uid: Option<&Value>, gid: Option<&Value>) -> Result<Credentials, AccountError> {
    let user = uid.filter(|value| is_set(value)).map(find_user);
    let user = user.transpose()?;
    let gid = gid.filter(|value| is_set(value)).map(to_gid).transpose()?;
    let gid = gid.or(user.as_ref().map(|user| user.gid));
    // Circus changes nothing for the number 0. A group 0 asked for beside another user is set here
    // all the same: otherwise that user would keep all the supplementary groups of the daemon.
    let unprivileged = user.as_ref().is_some_and(|user| user.uid != 0);
    let gid = gid.filter(|gid| *gid != 0 || unprivileged);
    let groups = match (&user, gid) {
        (Some(user), Some(gid)) => Some(names::groups_of(&user.name, gid)),
        _ => None,
    };
    Ok(Credentials {
        uid: user.map(|user| user.uid).filter(|uid| *uid != 0),
        gid,
        groups,
    })
}

/// The number of the user that a name or number stands for.
///
/// # Errors
/// No such user, in the words of `circus.util.to_uid`.
pub fn to_uid(value: &Value) -> Result<u32, AccountError> {
    find_user(value).map(|user| user.uid)
}

/// The number of the group that a name or number stands for.
///
/// # Errors
/// No such group, in the words of `circus.util.to_gid`.
pub fn to_gid(value: &Value) -> Result<u32, AccountError> {
    let group = match as_id(value)? {
        Id::Number(number) => u32::try_from(number).ok().and_then(names::group_by_gid),
        Id::Name(name) => names::group_by_name(name),
    };
    let unknown = || AccountError(format!("No such group: {}", repr(value)));
    group.map(|group| group.gid).ok_or_else(unknown)
}

fn find_user(value: &Value) -> Result<names::User, AccountError> {
    let (user, kind) = match as_id(value)? {
        Id::Number(number) => (
            u32::try_from(number).ok().and_then(names::user_by_uid),
            "id",
        ),
        Id::Name(name) => (names::user_by_name(name), "name"),
    };
    let unknown = || AccountError(format!("{} isn't a valid user {kind}", repr(value)));
    user.ok_or_else(unknown)
}

enum Id<'a> {
    Number(i64),
    Name(&'a str),
}

/// Text that Python's `int()` takes is a number, as in `to_uid`.
fn as_id(value: &Value) -> Result<Id<'_>, AccountError> {
    let id = match value {
        Value::Number(number) => number.as_i64().map(Id::Number),
        Value::String(text) => match text.trim().parse() {
            Ok(number) => Some(Id::Number(number)),
            Err(_) => Some(Id::Name(text)),
        },
        _ => None,
    };
    id.ok_or_else(|| {
        AccountError(format!(
            "{value} is neither a name nor a number of an account"
        ))
    })
}

/// Python's truth of a value.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        _ => true,
    }
}

/// The value as Python's `%r` prints it after `to_uid` has turned digits into a number.
fn repr(value: &Value) -> String {
    match as_id(value) {
        Ok(Id::Number(number)) => number.to_string(),
        Ok(Id::Name(name)) => format!("'{}'", name.replace('\\', "\\\\").replace('\'', "\\'")),
        Err(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(result: Result<u32, AccountError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn unknown_accounts_are_named_in_circus_words() {
        assert_eq!(
            text(to_uid(&json!("nosuchuser"))),
            "'nosuchuser' isn't a valid user name"
        );
        assert_eq!(
            text(to_uid(&json!(424_242))),
            "424242 isn't a valid user id"
        );
        assert_eq!(text(to_uid(&json!("-1"))), "-1 isn't a valid user id");
        assert_eq!(text(to_gid(&json!("x"))), "No such group: 'x'");
        assert_eq!(text(to_gid(&json!("424242"))), "No such group: 424242");
        assert!(to_uid(&json!(["root"])).is_err());
        assert_eq!(to_uid(&json!("0")), Ok(0));
        assert_eq!(to_gid(&json!("root")), Ok(0));
    }

    #[test]
    fn nothing_set_changes_nothing() {
        for unset in [None, Some(json!(null)), Some(json!(0)), Some(json!(""))] {
            let ids = credentials(unset.as_ref(), unset.as_ref()).unwrap();
            assert_eq!(ids, Credentials::default());
        }
        // Root without a group: Circus sets neither.
        assert_eq!(
            credentials(Some(&json!("root")), None).unwrap(),
            Credentials::default()
        );
    }

    #[test]
    fn a_user_brings_its_default_group_and_its_groups() {
        let Some(user) = names::user_by_name("nobody") else {
            eprintln!("SKIPPED: this system has no user nobody");
            return;
        };
        let ids = credentials(Some(&json!("nobody")), None).unwrap();
        assert_eq!((ids.uid, ids.gid), (Some(user.uid), Some(user.gid)));
        assert_eq!(ids.groups.unwrap()[0], user.gid);
        // Its group alone: the daemon's supplementary groups stay, as in Circus.
        let ids = credentials(None, Some(&json!(user.gid))).unwrap();
        assert_eq!((ids.gid, ids.groups), (Some(user.gid), None));
        // Group 0 asked for by name does not leave the daemon's groups to the user.
        let ids = credentials(Some(&json!("nobody")), Some(&json!("root"))).unwrap();
        assert_eq!(ids.groups.unwrap()[0], 0);
    }
}
