//! Another host: an sshd of the test's own on loopback.

use crate::support::{Process, TempSite, descendants, need, skip, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// An sshd, and a directory with an `ssh` that knows its key and no file of the user's. Dropping it ends the sshd.
pub struct Host {
    sshd: Option<Child>,
    program: PathBuf,
    config: PathBuf,
    pub port: u16,
    pub bin: PathBuf,
    pub tmp: PathBuf,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Host {
    pub fn start(desk: &TempSite) -> Option<Host> {
        if !nix::unistd::Uid::effective().is_root() {
            skip("sshd with logins of its own needs root");
            return None;
        }
        need("unshare", "util-linux")?;
        let ssh = need("ssh", "openssh-client")?;
        need("ssh-keygen", "openssh-client")?;
        let sshd = need("sshd", "openssh-server")?;
        for name in ["host_key", "user_key"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(desk.path(name))
                .status();
            assert!(made.expect("ssh-keygen runs").success());
        }
        let port = desk.port();
        let shown = |name: &str| desk.path(name).display().to_string();
        let config = desk.write(
            "sshd_config",
            format!(
                "Port {port}\nSetEnv PATH={}:/usr/bin:/bin\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
                 PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 UsePAM no\nStrictModes no\nAllowUsers root\n",
                shown("there"),
                shown("host_key"),
                shown("user_key.pub")
            ),
        );
        let key = fs::read_to_string(desk.path("host_key.pub")).expect("the key");
        desk.write("known_hosts", format!("[127.0.0.1]:{port} {key}"));
        let own = desk.write(
            "ssh_config",
            format!(
                "IdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\n\
                 StrictHostKeyChecking yes\nBatchMode yes\n",
                shown("user_key"),
                shown("known_hosts")
            ),
        );
        let (bin, tmp) = (desk.path("bin"), desk.path("tmp"));
        for dir in [&bin, &tmp, &desk.path("there")] {
            fs::create_dir(dir).expect("our own directory");
        }
        let wrapper = format!(
            "#!/bin/sh\nexec {} -F {} \"$@\"\n",
            ssh.display(),
            own.display()
        );
        fs::write(bin.join("ssh"), wrapper).expect("our own directory");
        fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).expect("ours");
        let mut host = Host {
            sshd: None,
            program: sshd,
            config,
            port,
            bin,
            tmp,
        };
        host.listen();
        Some(host)
    }

    /// Starts the sshd (again).
    pub fn listen(&mut self) {
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c"])
            .arg("mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec \"$0\" -D -e -f \"$1\"")
            .arg(&self.program)
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.sshd = Some(child.expect("unshare runs"));
        wait_for("sshd to listen", || {
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    /// Ends the sshd; connections that there are stay.
    pub fn stop(&mut self) {
        if let Some(mut sshd) = self.sshd.take() {
            let pid = Pid::from_raw(sshd.id() as i32);
            let _ = kill(pid, Signal::SIGTERM);
            let _ = sshd.wait();
        }
    }

    /// Ends the ssh programs that `of` has started, as a network that breaks would; how many they were.
    pub fn cut(&self, of: i32) -> usize {
        let mut count = 0;
        for Process { pid, .. } in descendants(of) {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains("ssh_config") && line.contains(" -N ") && !line.starts_with("sh ") {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                count += 1;
            }
        }
        count
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .args(args)
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .env("TMPDIR", &self.tmp)
            .env_remove("CIRCUSCTL_ENDPOINT")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("circ runs")
    }

    /// How the host is named.
    pub fn name(&self) -> String {
        format!("root@127.0.0.1:{}", self.port)
    }

    /// Waits until nothing is left of any tunnel: no directory, and no ssh of ours.
    pub fn assert_clean(&self) {
        let bin = self.bin.parent().expect("the desk").join("ssh_config");
        wait_for("the tunnels to be gone", || {
            let left = fs::read_dir(&self.tmp).expect("ours").count();
            (left == 0 && !mentioned(&bin)).then_some(())
        });
    }
}

/// Whether any process has this path in its command line.
fn mentioned(path: &Path) -> bool {
    let path = path.to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(&path))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
