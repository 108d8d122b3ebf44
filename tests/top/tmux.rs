//! A terminal of its own, by tmux: what a person would see, and the keys he would press.

// Each test program uses another part of it.
#![allow(dead_code)]

use std::path::PathBuf;
use std::process::{Command, Output};

use super::support::{deadline, need, wait_for_within};

/// A tmux server with one window. Dropping it ends the server and what runs in it.
pub struct Tmux {
    program: PathBuf,
    dir: tempfile::TempDir,
}

impl Tmux {
    /// A shell in a window of so many columns and rows; `None` where there is no tmux.
    pub fn start(columns: u16, rows: u16) -> Option<Tmux> {
        let program = need("tmux", "tmux")?;
        let dir = tempfile::Builder::new().prefix("circ-tmux-").tempdir();
        let tmux = Tmux {
            program,
            dir: dir.expect("a temporary directory"),
        };
        let size = [columns.to_string(), rows.to_string()];
        let started = tmux.run(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &size[0],
            "-y",
            &size[1],
            "env",
            "PS1=$ ",
            "ENV=",
            "sh",
        ]);
        assert!(started.status.success(), "{started:?}");
        tmux.wait("a prompt", |screen| screen.contains('$'));
        Some(tmux)
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(&self.program)
            .arg("-u")
            .arg("-S")
            .arg(self.dir.path().join("s"))
            .args(args)
            .env_remove("TMUX")
            .env_remove("CIRCUSCTL_ENDPOINT")
            .env_remove("NO_COLOR")
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .output()
            .expect("tmux runs")
    }

    /// Types a text.
    pub fn text(&self, text: &str) {
        assert!(self.run(&["send-keys", "-l", "--", text]).status.success());
    }

    /// Presses keys by their names in tmux: `Enter`, `Escape`, `C-z`, `Up`.
    pub fn keys(&self, keys: &[&str]) {
        let args: Vec<&str> = ["send-keys"].iter().chain(keys).copied().collect();
        assert!(self.run(&args).status.success());
    }

    /// Types a command line for the shell.
    pub fn line(&self, line: &str) {
        self.text(line);
        self.keys(&["Enter"]);
    }

    /// Gives the window another size.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = [columns.to_string(), rows.to_string()];
        let resized = self.run(&["resize-window", "-x", &size[0], "-y", &size[1]]);
        assert!(resized.status.success(), "{resized:?}");
    }

    /// The process in the window: the shell, or what it has become.
    pub fn process(&self) -> i32 {
        let told = self.run(&["display-message", "-p", "#{pane_pid}"]);
        let told = String::from_utf8_lossy(&told.stdout).trim().to_string();
        told.parse().expect("tmux tells a number")
    }

    /// What is on the screen.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.run(&["capture-pane", "-p"]).stdout).into_owned()
    }

    /// The same with colours and the like.
    pub fn painted(&self) -> String {
        String::from_utf8_lossy(&self.run(&["capture-pane", "-p", "-e"]).stdout).into_owned()
    }

    /// Whether a program has the screen to itself, and has hidden the cursor.
    pub fn is_taken(&self) -> bool {
        let told = self.run(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        let told = String::from_utf8_lossy(&told.stdout).trim().to_string();
        assert!(told == "1 0" || told == "0 1", "{told:?}");
        told == "1 0"
    }

    /// Waits until the screen is to the liking of `probe`, and gives it.
    #[track_caller]
    pub fn wait(&self, what: &str, mut probe: impl FnMut(&str) -> bool) -> String {
        let found = wait_for_within(deadline(), || {
            let screen = self.screen();
            probe(&screen).then_some(screen)
        });
        found.unwrap_or_else(|| panic!("no {what} on the screen:\n{}", self.screen()))
    }

    /// Waits until the screen has all of these texts on it.
    #[track_caller]
    pub fn sees(&self, texts: &[&str]) -> String {
        self.wait(&format!("{texts:?}"), |screen| {
            texts.iter().all(|text| screen.contains(text))
        })
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.run(&["kill-server"]);
    }
}
