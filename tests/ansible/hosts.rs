//! Hosts to log in to: sshd processes on loopback ports, each with a circ daemon of its own behind it.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::room::{House, done, venv};
use crate::support::{TempSite, need, skip, wait_for};

/// An sshd of the test's own. Dropping it ends it.
pub struct Sshd {
    child: Child,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// The keys, and where a user's sessions are let in.
pub struct Keys {
    dir: PathBuf,
}

impl Keys {
    /// Makes a host key and a user key in the site.
    pub fn make(site: &TempSite) -> Keys {
        let keys = Keys {
            dir: site.dir().to_owned(),
        };
        for name in ["host_key", "user_key"] {
            done(
                Command::new("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(keys.path(name)),
            );
        }
        keys
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What Ansible's ssh needs: nothing of the user's own files is read, no connection is left open.
    pub fn ssh_args(&self) -> String {
        format!(
            "-F /dev/null -o ControlMaster=no -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes \
             -o GlobalKnownHostsFile=/dev/null -o UserKnownHostsFile={}",
            self.path("known_hosts").display()
        )
    }
}

/// The programs that hosts need, or `None` if the test is to be skipped.
pub fn sshd_program() -> Option<PathBuf> {
    if !nix::unistd::Uid::effective().is_root() {
        skip("sshd with logins of its own needs root");
        return None;
    }
    need("unshare", "util-linux")?;
    need("ssh-keygen", "openssh-client")?;
    need("sshd", "openssh-server")
}

/// Starts an sshd whose sessions have the site as their home, and waits until it listens. The result has the host's line
/// of an inventory.
///
/// It runs in a mount namespace of its own, in which `/run` is empty: it wants `/run/sshd`, and the machine is not ours.
pub fn start(program: &Path, keys: &Keys, name: &str, site: &TempSite) -> (Sshd, String) {
    let port = site.port();
    let path = |name: &str| site.path(name).display().to_string();
    let key = keys.path("user_key.pub");
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nAuthorizedKeysFile {key}\nPidFile none\n\
         PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         UsePAM no\nStrictModes no\nPrintLastLog no\nPermitUserRC no\nMaxStartups 100\nSubsystem sftp internal-sftp\n\
         SetEnv HOME={home} PATH={bin}:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1\n",
        host_key = keys.path("host_key").display(),
        key = key.display(),
        home = path("home"),
        bin = House::get().bin().display(),
    );
    fs::create_dir_all(site.path("home")).expect("a home");
    // Not in the site: what names the site is ended with its daemon.
    let (config_file, log) = (
        keys.path(&format!("{name}.sshd_config")),
        keys.path(&format!("{name}.log")),
    );
    fs::write(&config_file, config).expect("a configuration");
    let errors = fs::File::create(&log).expect("a log");
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c"])
        .arg("mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec \"$0\" -D -e -f \"$1\"")
        .arg(program)
        .arg(config_file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run unshare: {e}"));
    let mut sshd = Sshd { child };
    wait_for("sshd to listen", || {
        if let Ok(Some(status)) = sshd.child.try_wait() {
            let log = fs::read_to_string(&log).unwrap_or_default();
            panic!("sshd ended at once ({status}): {log}");
        }
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    let host_key = fs::read_to_string(keys.path("host_key.pub")).expect("the host key is there");
    let known = keys.path("known_hosts");
    let mut lines = fs::read_to_string(&known).unwrap_or_default();
    lines.push_str(&format!("[127.0.0.1]:{port} {host_key}"));
    fs::write(known, lines).expect("the known hosts can be written");
    let line = format!(
        "{name} ansible_host=127.0.0.1 ansible_port={port} ansible_user=root ansible_connection=ssh \
         ansible_ssh_private_key_file={key} ansible_remote_tmp={tmp} ansible_python_interpreter={python} config={config}\n",
        key = keys.path("user_key").display(),
        tmp = path("home/.ansible"),
        python = venv().python().display(),
        config = path("circus.ini"),
    );
    (sshd, line)
}
