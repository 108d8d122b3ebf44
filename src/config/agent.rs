//! The `agent_…` keys of `[circus]`: an agent inside the daemon, which brings the daemon to a desired state and holds it
//! there. They are circ's own; circusd does not know them and takes no notice.

use super::load::Loader;
use super::pytext;

/// The agent inside the daemon. Without `desired` there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentOptions {
    /// The desired state: a file or a directory, relative to the daemon's working directory.
    pub desired: Option<String>,
    /// Seconds from the end of a run to the next one.
    pub interval: f64,
    /// At most so many seconds are added by chance.
    pub splay: f64,
    /// Report drift and change nothing.
    pub audit: bool,
    /// What is not named goes.
    pub prune: bool,
    /// The directory of the last reports.
    pub report_dir: Option<String>,
    /// How many reports are kept.
    pub reports: usize,
    /// The file of maintenance windows.
    pub window: Option<String>,
}

impl Loader {
    pub(super) fn agent(&mut self) -> AgentOptions {
        const CIRCUS: &str = "circus";
        let filled = |loader: &Self, key: &str| {
            let text = loader.text(CIRCUS, key).map(|(value, _)| value);
            text.filter(|value| !value.is_empty())
        };
        let mode = |text: &str| match text {
            "enforce" => Some(false),
            "audit" => Some(true),
            _ => None,
        };
        let count = |text: &str| usize::try_from(pytext::int(text)?).ok();
        AgentOptions {
            desired: filled(self, "agent_desired"),
            interval: self.seconds(CIRCUS, "agent_interval", 60.0),
            splay: self.seconds(CIRCUS, "agent_splay", 10.0),
            audit: self.converted(CIRCUS, "agent_mode", false, mode, "enforce or audit"),
            prune: self.boolean(CIRCUS, "agent_prune", false),
            report_dir: filled(self, "agent_report_dir"),
            reports: self.converted(
                CIRCUS,
                "agent_reports",
                20,
                count,
                "a whole number from 0 up",
            ),
            window: filled(self, "agent_window"),
        }
    }
}
