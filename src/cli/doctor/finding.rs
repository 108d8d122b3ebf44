//! Something that `circ doctor` has found: what, where, why it matters, and what to do. Pure.

use serde_json::{Value, json};

use crate::cli::paint::{Paint, Tone};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does not work.
    Error,
    /// It works, and may not tomorrow, or not safely.
    Warning,
    /// Good to know.
    Note,
}

impl Severity {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Severity::Error => Tone::Bad,
            Severity::Warning => Tone::Busy,
            Severity::Note => Tone::Faint,
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which kind of thing it is: a short name that stays the same, for programs.
    pub id: &'static str,
    /// What is so.
    pub what: String,
    /// Where: `FILE:LINE`, an endpoint, a watcher, a process.
    pub place: Option<String>,
    /// What it leads to.
    pub why: Option<String>,
    /// What to do.
    pub fix: Option<String>,
}

impl Finding {
    /// One of which only this much is said yet.
    pub fn new(severity: Severity, id: &'static str, what: impl Into<String>) -> Self {
        Finding {
            severity,
            id,
            what: what.into(),
            place: None,
            why: None,
            fix: None,
        }
    }

    /// Where it is.
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// What it leads to.
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// What to do.
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// As an object.
    pub fn to_json(&self) -> Value {
        json!({
            "severity": self.severity.as_str(),
            "id": self.id,
            "what": self.what,
            "where": self.place,
            "why": self.why,
            "fix": self.fix,
        })
    }

    /// As lines for a person.
    pub fn lines(&self, paint: Paint) -> Vec<String> {
        let severity = paint.tone(self.severity.tone(), self.severity.as_str());
        let place = self.place.as_ref().map_or(String::new(), |place| {
            format!("{}: ", paint.tone(Tone::Strong, place))
        });
        let mut lines = vec![format!("{severity}: {place}{}", self.what)];
        let more = [&self.why, &self.fix.as_ref().map(|fix| format!("-> {fix}"))];
        for text in more.into_iter().flatten() {
            lines.extend(text.lines().map(|line| format!("    {line}")));
        }
        lines
    }
}

/// What is said at the end.
pub fn summary(findings: &[Finding]) -> String {
    let count = |severity: Severity| {
        let all = findings.iter().filter(|one| one.severity == severity);
        (all.count(), severity.as_str())
    };
    let all = [Severity::Error, Severity::Warning, Severity::Note].map(count);
    let parts: Vec<String> = all
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| match count {
            1 => format!("1 {word}"),
            count => format!("{count} {word}s"),
        })
        .collect();
    match parts.is_empty() {
        true => "nothing is wrong".to_string(),
        false => parts.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_what_where_why_and_what_to_do() {
        let found = [
            Finding::new(Severity::Error, "flapping", "flapping: 5 failures in a row")
                .at("watcher web")
                .because("last exit 2s ago: exit code 3\n| no database")
                .fix("mend it"),
            Finding::new(Severity::Note, "version", "the daemon is circ 0.0.9"),
        ];
        let lines: Vec<String> = found
            .iter()
            .flat_map(|one| one.lines(Paint::none()))
            .collect();
        assert_eq!(
            lines,
            [
                "error: watcher web: flapping: 5 failures in a row",
                "    last exit 2s ago: exit code 3",
                "    | no database",
                "    -> mend it",
                "note: the daemon is circ 0.0.9"
            ]
        );
        assert_eq!(summary(&found), "1 error, 1 note");
        assert_eq!(summary(&[]), "nothing is wrong");
    }
}
