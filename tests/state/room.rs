//! A mount namespace of its own: full, read-only and oddly mounted file systems that nobody else sees. Needs root.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{need, skip};

/// The namespace; it goes with its only process when it is dropped.
pub struct Room {
    holder: Child,
    /// Where the commands run, as they see it.
    directory: PathBuf,
}

impl Room {
    /// Mounts what the shell script says; `$0` in it is the directory. `None`: the test should return, it is said why.
    pub fn new(directory: &Path, script: &str) -> Option<Room> {
        for (program, package) in [
            ("unshare", "util-linux"),
            ("nsenter", "util-linux"),
            ("mount", "mount"),
        ] {
            need(program, package)?;
        }
        if !nix::unistd::geteuid().is_root() {
            skip("only root can mount file systems");
            return None;
        }
        let script = format!("set -e\n{script}\necho ready\nexec cat");
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("its output is a pipe"))
            .read_line(&mut line)
            .expect("it can be read");
        let room = Room {
            holder,
            directory: directory.to_path_buf(),
        };
        if line != "ready\n" {
            skip("this root may not mount file systems (a container without CAP_SYS_ADMIN?)");
            return None;
        }
        Some(room)
    }

    /// A path of the directory as it is in the room, seen from here.
    pub fn path(&self, name: &str) -> PathBuf {
        let inside = self.directory.join(name);
        let inside = inside.strip_prefix("/").expect("absolute");
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside)
    }

    /// The command, to be run in the room and in its directory.
    pub fn command(&self, program: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.holder.id().to_string(), "--mount"])
            .args(["sh", "-c", "cd \"$0\" && exec \"$@\""])
            .arg(&self.directory)
            .arg(program.get_program())
            .args(program.get_args())
            .env_remove("CIRCUSCTL_ENDPOINT")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Without input it ends by itself.
        self.holder.stdin = None;
        let _ = self.holder.wait();
    }
}
