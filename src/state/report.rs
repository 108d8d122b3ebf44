//! The state report (`circ.state/1`) and the exit codes: what Salt, Ansible and a shell script are told.
//!
//! The report is a contract: keys are added, never renamed or dropped. Its `schema` key is its version.

use serde_json::{Map, Value, json};

/// The version of the report's shape.
pub const SCHEMA: &str = "circ.state/1";

/// What became of one action of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionStatus {
    /// `--check`, or an earlier action failed before this one's turn.
    Planned,
    /// Carried out.
    Done,
    /// Tried and refused.
    Failed,
    /// Sent, and not done when the deadline passed; the daemon may still carry it out.
    Unfinished,
    /// Carried out, then taken back because a later action was refused.
    Undone,
}

impl ActionStatus {
    fn as_str(self) -> &'static str {
        match self {
            ActionStatus::Planned => "planned",
            ActionStatus::Done => "done",
            ActionStatus::Failed => "failed",
            ActionStatus::Unfinished => "unfinished",
            ActionStatus::Undone => "undone",
        }
    }
}

/// What became of a desired state as a whole: a run that failed and changed nothing has three meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// It is what file and daemon were brought to, whether or not its workers run as they should.
    #[default]
    InForce,
    /// It was refused, and nothing of it is there: it was found wrong, or the daemon or the disk did not take it and all
    /// was taken back.
    Refused,
    /// Whether it can be brought about is not known: the daemon was not reached, somebody else had the lock, the run was
    /// asked to end. Nothing of it is there.
    Untried,
}

/// Which of the two truths an action changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A configuration file.
    File,
    /// The running daemon.
    Daemon,
}

/// One line of the report's `actions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionLine {
    /// File or daemon.
    pub target: Target,
    /// `set`, `unset`, `add`, `remove`, `incr`, `decr`, `start`, `stop`, `restart`, `reload`, `rm`, `replace`.
    pub op: String,
    /// The option it is about, if it is about one.
    pub key: Option<String>,
    /// What became of it.
    pub status: ActionStatus,
    /// The resource it is about, where the report is about several.
    pub name: Option<String>,
}

impl ActionLine {
    fn to_json(&self) -> Value {
        let target = match self.target {
            Target::File => "file",
            Target::Daemon => "daemon",
        };
        let mut json = json!({"target": target, "op": self.op, "key": self.key, "status": self.status.as_str()});
        if let Some(name) = &self.name {
            json["name"] = Value::from(name.as_str());
        }
        json
    }
}

/// One entry of the report's `diff`, in the two shapes Ansible knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Diff {
    /// A file before and after.
    File {
        /// The file's name.
        path: String,
        /// Its whole text before.
        before: String,
        /// Its whole text after.
        after: String,
    },
    /// Prepared text, for what is not a file: the daemon.
    Prepared(String),
}

impl Diff {
    fn to_json(&self) -> Value {
        match self {
            Diff::File {
                path,
                before,
                after,
            } => {
                json!({"before_header": path, "after_header": path, "before": before, "after": after})
            }
            Diff::Prepared(text) => json!({"prepared": text}),
        }
    }
}

/// The result of one run over one resource, or over a whole desired state with one entry for each resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What it is about: `watcher`, `socket`, `plugin`, `circus`, `env`, or `state` for a whole desired state.
    pub resource: &'static str,
    /// The watcher's name.
    pub name: String,
    /// True with `--check`: nothing was changed, `changes` says what would be.
    pub check: bool,
    /// Something was changed (or would be, with `check`) and stays changed.
    pub changed: bool,
    /// The wanted state was not reached.
    pub failed: bool,
    /// One line for a person.
    pub msg: String,
    /// `key -> {"old": …, "new": …}`.
    pub changes: Map<String, Value>,
    /// Before and after texts; filled only on request.
    pub diff: Vec<Diff>,
    /// What was found: `{"file": {…}, "daemon": {…}}`, the managed options of each side that was looked at.
    pub before: Map<String, Value>,
    /// What is there now, in the same shape.
    pub after: Map<String, Value>,
    /// The daemon replaced running workers because of an option.
    pub restarted: bool,
    /// What was done, in order.
    pub actions: Vec<ActionLine>,
    /// What the caller should know but need not act on.
    pub warnings: Vec<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// It failed only because another resource of the run did. Not part of the JSON.
    pub in_consequence: bool,
    /// What became of the run as a whole. Not part of the JSON.
    pub standing: Standing,
    /// Copies that were kept of files before they were written (`--backup`).
    pub backups: Vec<String>,
    /// With `resource: state`: a report for each resource.
    pub resources: Vec<Report>,
}

impl Report {
    /// An empty report: nothing done, nothing wrong.
    pub fn new(name: &str, check: bool) -> Report {
        Report {
            resource: "watcher",
            name: name.to_string(),
            check,
            changed: false,
            failed: false,
            msg: String::new(),
            changes: Map::new(),
            diff: Vec::new(),
            before: Map::new(),
            after: Map::new(),
            restarted: false,
            actions: Vec::new(),
            warnings: Vec::new(),
            error: None,
            in_consequence: false,
            standing: Standing::default(),
            backups: Vec::new(),
            resources: Vec::new(),
        }
    }

    /// A report of a failure before anything was done.
    pub fn failure(name: &str, check: bool, error: impl Into<String>) -> Report {
        let mut report = Report::new(name, check);
        report.fail(error.into());
        report
    }

    /// Marks the report as failed for this reason.
    pub fn fail(&mut self, error: String) {
        self.failed = true;
        self.msg = format!("{}: {error}", self.name);
        self.error = Some(error);
    }

    /// The report as the JSON object of the contract. Ansible takes it as it is.
    pub fn to_json(&self) -> Value {
        let mut json = json!({
            "schema": SCHEMA,
            "resource": self.resource,
            "name": self.name,
            "check": self.check,
            "changed": self.changed,
            "failed": self.failed,
            "msg": self.msg,
            "comment": self.msg,
            "changes": self.changes,
            "diff": self.diff.iter().map(Diff::to_json).collect::<Vec<_>>(),
            "before": self.before,
            "after": self.after,
            "restarted": self.restarted,
            "actions": self.actions.iter().map(ActionLine::to_json).collect::<Vec<_>>(),
            "warnings": self.warnings,
            "error": self.error,
        });
        if !self.backups.is_empty() {
            json["backups"] = json!(self.backups);
        }
        if self.resource == "state" {
            json["resources"] = self.resources.iter().map(Report::to_json).collect();
        }
        json
    }

    /// The same as a Salt state returns it: `result` is false if failed, null if it would change, else true.
    /// `changed` is for Salt's `cmd.run` with `stateful`, which looks for it.
    pub fn to_salt(&self) -> Value {
        let result = if self.failed {
            Value::Bool(false)
        } else if self.check && self.changed {
            Value::Null
        } else {
            Value::Bool(true)
        };
        json!({
            "name": self.name,
            "result": result,
            "changed": self.changed,
            "changes": self.changes,
            "comment": self.msg,
            "warnings": self.warnings,
        })
    }

    /// The exit code of the contract's table.
    pub fn exit_code(&self, detailed: bool, check_exit_zero: bool) -> u8 {
        match (self.failed, self.check, self.changed) {
            (true, true, _) => 1,
            (true, false, true) if detailed => 6,
            (true, false, _) => 1,
            (false, true, true) if check_exit_zero => 0,
            (false, true, true) => 2,
            (false, false, true) if detailed => 2,
            (false, _, _) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(check: bool, changed: bool, failed: bool) -> Report {
        let mut report = Report::new("web", check);
        report.changed = changed;
        if failed {
            report.fail("why".into());
        }
        report
    }

    #[test]
    fn exit_codes_follow_the_table() {
        // (check, changed, failed, detailed, check_exit_zero) -> code
        for (check, changed, failed, detailed, zero, code) in [
            (false, false, false, false, false, 0),
            (false, true, false, false, false, 0),
            (false, true, true, false, false, 1),
            (false, false, true, false, false, 1),
            (true, false, false, false, false, 0),
            (true, true, false, false, false, 2),
            (true, true, false, true, false, 2),
            (true, true, false, false, true, 0),
            (true, false, true, false, true, 1),
            (true, true, true, true, false, 1),
            (false, false, false, true, false, 0),
            (false, true, false, true, false, 2),
            (false, false, true, true, false, 1),
            (false, true, true, true, false, 6),
        ] {
            assert_eq!(
                report(check, changed, failed).exit_code(detailed, zero),
                code,
                "check={check} changed={changed} failed={failed} detailed={detailed} zero={zero}"
            );
        }
    }

    #[test]
    fn the_report_has_the_contracts_keys_in_order() {
        let json = report(false, true, false).to_json();
        let keys: Vec<&str> = json
            .as_object()
            .map(|map| map.keys().map(String::as_str).collect())
            .unwrap_or_default();
        assert_eq!(
            keys,
            [
                "schema",
                "resource",
                "name",
                "check",
                "changed",
                "failed",
                "msg",
                "comment",
                "changes",
                "diff",
                "before",
                "after",
                "restarted",
                "actions",
                "warnings",
                "error"
            ]
        );
    }

    #[test]
    fn salt_is_told_null_for_drift_under_check() {
        assert_eq!(report(true, true, false).to_salt()["result"], Value::Null);
        assert_eq!(report(true, false, false).to_salt()["result"], true);
        assert_eq!(report(false, true, false).to_salt()["result"], true);
        assert_eq!(report(false, true, true).to_salt()["result"], false);
    }
}
