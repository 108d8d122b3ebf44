//! A watcher as one JSON object: how Microsoft's DSC describes it to a resource and is told of it. Pure.
//!
//! The object holds the options of a watcher as a desired-state document does, its `name`, where it is (`config`,
//! `endpoint`), and the properties that DSC has a meaning for: `_exist` and `_inDesiredState`.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::desired::{Desired, DesiredState};
use super::document::{self, Format};
use super::report::Report;
use super::schema::{ADDRESS, DSC_ONLY};
use super::secrets;
use crate::options::{self, WatcherOptions};

/// An object as it came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// The watcher's name.
    pub name: String,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// The daemon's endpoint.
    pub endpoint: Option<String>,
    /// The daemon is asked and told.
    pub live: bool,
    /// A daemon is started on the configuration file if none runs.
    pub start_daemon: bool,
    /// The object itself, without secrets wrapped up.
    wanted: Map<String, Value>,
}

/// An object that is not a watcher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InstanceError(String);

impl Instance {
    /// Reads an object's keys that say which watcher it is about, and where.
    ///
    /// # Errors
    /// The text is no JSON object, or one of these keys is wrong; `name` is missing, if it is needed.
    pub fn parse(text: &str, needs_name: bool) -> Result<Instance, InstanceError> {
        let wrong = |what: String| Err(InstanceError(what));
        if text.trim().is_empty() && !needs_name {
            return Instance::parse("{}", false);
        }
        let mut wanted = match serde_json::from_str(text) {
            Ok(Value::Object(wanted)) => wanted,
            Ok(_) => {
                return wrong("the input is not a JSON object that describes a watcher".into());
            }
            Err(error) => {
                return wrong(format!(
                    "the input is not a JSON object that describes a watcher: {error}"
                ));
            }
        };
        wanted.values_mut().for_each(unwrap_secrets);
        let text = |key: &str| match wanted.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(other) => Err(InstanceError(format!(
                "{key}: {other} is not a text that says something"
            ))),
        };
        let flag = |key: &str, default: bool| match wanted.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(InstanceError(format!(
                "{key}: {other} is not true or false"
            ))),
        };
        let name = text("name")?;
        if name.is_none() && needs_name {
            return wrong("name: the name of the watcher is missing".into());
        }
        let instance = Instance {
            name: name.unwrap_or_default(),
            config: text("config")?.map(PathBuf::from),
            endpoint: text("endpoint")?,
            live: flag("live", true)?,
            start_daemon: flag("start_daemon", false)?,
            wanted: Map::new(),
        };
        flag("_exist", true)?;
        Ok(Instance { wanted, ..instance })
    }

    /// What is wanted of the watcher; `delete`: that it is not there.
    ///
    /// # Errors
    /// Everything that is wrong with its options.
    pub fn desired(&self, delete: bool) -> Result<DesiredState, InstanceError> {
        let mut table = self.wanted.clone();
        for key in ADDRESS.iter().chain(&DSC_ONLY) {
            table.shift_remove(*key);
        }
        if delete || self.wanted.get("_exist") == Some(&Value::Bool(false)) {
            table.insert("state".into(), Value::from("absent"));
        }
        let document = Value::Object(Map::from_iter([(
            "watcher".to_string(),
            Value::Object(Map::from_iter([(self.name.clone(), Value::Object(table))])),
        )]));
        let mut state = document::parse(document.to_string().as_bytes(), "input", Format::Json)
            .map_err(|error| {
                let told: Vec<String> = error
                    .problems
                    .iter()
                    .map(|problem| {
                        let path = problem
                            .path
                            .strip_prefix(&format!("watcher.{}.", self.name));
                        format!("{}: {}", path.unwrap_or(&problem.path), problem.what)
                    })
                    .collect();
                InstanceError(told.join("; "))
            })?;
        state.origin = self.name.clone();
        Ok(state)
    }

    /// The object that tells how the watcher is; `None`: it is not there.
    pub fn told(&self, actual: Option<&Desired>, show_secrets: bool) -> Map<String, Value> {
        let mut told = Map::new();
        told.insert("name".into(), Value::from(self.name.as_str()));
        for key in ["config", "endpoint"] {
            if let Some(value) = self.wanted.get(key).filter(|value| !value.is_null()) {
                told.insert(key.into(), value.clone());
            }
        }
        let Some(actual) = actual else {
            told.insert("_exist".into(), Value::Bool(false));
            return told;
        };
        told.insert("name".into(), Value::from(actual.name.as_str()));
        let mut table = document::watcher_table(actual);
        if !show_secrets && let Some(Value::Object(env)) = table.get_mut("env") {
            env.values_mut()
                .for_each(|value| *value = Value::from(secrets::MASK));
        }
        if self.wanted.contains_key("rlimits") {
            // As it was asked.
            let flat: Vec<String> = table
                .keys()
                .filter(|key| key.starts_with("rlimit_"))
                .cloned()
                .collect();
            let limits = flat.iter().filter_map(|key| {
                let value = table.shift_remove(key)?;
                Some((
                    key.strip_prefix("rlimit_").unwrap_or(key).to_string(),
                    value,
                ))
            });
            let limits: Map<String, Value> = limits.collect();
            table.insert("rlimits".into(), Value::Object(limits));
        }
        told.extend(table);
        // What was asked about and is not stated is at its default.
        let defaults = WatcherOptions::ini_defaults(&self.name);
        for key in self
            .wanted
            .keys()
            .filter(|key| options::spec(key).is_some_and(|spec| spec.name == key.as_str()))
        {
            let default = defaults
                .get(key)
                .filter(|default| !default.is_null() && !default.is_object() && *default != "");
            if let (false, Some(default)) = (told.contains_key(key), default) {
                told.insert(key.clone(), default.clone());
            }
        }
        let state = match actual.running {
            super::desired::Running::Yes => "running",
            _ => "stopped",
        };
        told.insert("state".into(), Value::from(state));
        told.insert("_exist".into(), Value::Bool(true));
        told
    }

    /// The properties of the object that a report says differ, or differed.
    pub fn properties_changed(&self, report: &Report) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for key in report.changes.keys() {
            let property = self.property_of(key);
            if !names.contains(&property) {
                names.push(property);
            }
        }
        // Workers that died, or are too many, are told of by the state.
        if names.is_empty() && report.changed {
            names.push("state".to_string());
        }
        names
    }

    fn property_of(&self, key: &str) -> String {
        let group = match key {
            "watcher" => return "_exist".to_string(),
            "status" | "running" => return "state".to_string(),
            // As the object spells it.
            key if self.wanted.contains_key(key) => return key.to_string(),
            key if key.starts_with("rlimit_") => "rlimits",
            key => match key.split_once('.') {
                Some((group, _)) => group,
                None if options::spec(key).is_none() => "extra",
                None => return key.to_string(),
            },
        };
        match self.wanted.contains_key(group)
            || matches!(group, "env" | "hooks" | "stdout_stream" | "stderr_stream")
        {
            true => group.to_string(),
            false => key.to_string(),
        }
    }

    /// The object that tells how the watcher would be after a change that is not made.
    pub fn expected(&self, actual: Option<&Desired>, desired: &DesiredState) -> Map<String, Value> {
        let Some(wanted) = desired.watchers.first().filter(|wanted| wanted.present) else {
            return self.told(None, false);
        };
        let mut after = actual.cloned().unwrap_or_else(|| Desired {
            name: self.name.clone(),
            present: true,
            ..Desired::default()
        });
        after
            .options
            .retain(|option| !wanted.wants(&option.key) && !wanted.unset.contains(&option.key));
        after.options.extend(wanted.options.iter().cloned());
        for (name, value) in &wanted.env {
            after.env.retain(|(known, _)| known != name);
            if value.is_some() {
                after.env.push((name.clone(), value.clone()));
            }
        }
        if wanted.running != super::desired::Running::Any {
            after.running = wanted.running;
        }
        self.told(Some(&after), false)
    }
}

/// DSC wraps a secret as `{"secureString": TEXT}`.
fn unwrap_secrets(value: &mut Value) {
    match value {
        Value::Object(map) => match map.get("secureString") {
            Some(Value::String(text)) if map.len() == 1 => *value = Value::from(text.as_str()),
            _ => map.values_mut().for_each(unwrap_secrets),
        },
        Value::Array(items) => items.iter_mut().for_each(unwrap_secrets),
        _ => {}
    }
}
