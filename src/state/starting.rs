//! `--start-daemon`: no daemon listens, so one is started on the configuration file.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::files::Files;
use super::live::Live;
use super::prepare;
use super::settings::Settings;

/// How often a daemon that is coming up is tried again.
const POLL: Duration = Duration::from_millis(50);

/// How much of what the daemon says is told when it does not come up.
const TOLD: usize = 2000;

/// Starts a daemon in the background and connects to it. Its own messages are in the error if it does not come up.
pub(super) fn start(
    settings: &Settings,
    files: Option<&Files>,
    deadline: Instant,
) -> Result<Live, String> {
    let Some(files) = files else {
        return Err("there is no configuration file to start a daemon on".to_string());
    };
    let program = std::env::current_exe()
        .map_err(|error| format!("cannot find this program to start a daemon: {error}"))?;
    // With --daemon it returns once everything is up, or says why not.
    let output = Command::new(&program)
        .arg("daemon")
        .arg("--daemon")
        .arg(files.shown())
        .current_dir(&settings.cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        let from = said.char_indices().rev().nth(TOLD).map_or(0, |(at, _)| at);
        return Err(format!(
            "the daemon did not start on {} ({}): {}",
            files.shown().display(),
            output.status,
            &said[from..]
        ));
    }
    let endpoint = prepare::endpoint(settings, Some(files))?;
    loop {
        match Live::connect(&endpoint, deadline, &settings.interrupt) {
            Ok(live) => return Ok(live),
            Err(error) if !error.nobody_listens() || Instant::now() + POLL >= deadline => {
                return Err(format!("the daemon was started, but: {error}"));
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}
