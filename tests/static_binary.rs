//! The product is one static file: no dynamic loader, no libraries, and it runs where nothing else is.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use support::{Process, Program, TempSite, need, skip};

const CIRC: &str = env!("CARGO_BIN_EXE_circ");

/// An ELF program header that asks for a dynamic loader.
const PT_INTERP: u32 = 3;

#[test]
fn the_binary_asks_for_no_dynamic_loader() {
    assert!(
        !asks_for_loader(Path::new(CIRC)),
        "{CIRC} asks for a dynamic loader"
    );
    // The same question must be answered with yes somewhere, or it proves nothing.
    if let Ok(shell) = fs::canonicalize("/bin/sh") {
        assert!(
            asks_for_loader(&shell),
            "{} is dynamic and was taken for static",
            shell.display()
        );
    }
    let Some(ldd) = need("ldd", "libc-bin") else {
        return;
    };
    let out = Command::new(ldd).arg(CIRC).output().expect("ldd runs");
    let told =
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(
        told.contains("statically linked") || told.contains("not a dynamic executable"),
        "ldd says: {told}"
    );
}

/// Reads the program headers of a 64-bit little-endian ELF file.
fn asks_for_loader(path: &Path) -> bool {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
    assert_eq!(
        &bytes[..6],
        b"\x7fELF\x02\x01",
        "{} is no 64-bit little-endian ELF file",
        path.display()
    );
    let number = |at: usize, size: usize| {
        bytes[at..at + size]
            .iter()
            .rev()
            .fold(0, |n, b| n << 8 | usize::from(*b))
    };
    let (table, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    (0..count).any(|i| number(table + i * size, 4) == PT_INTERP as usize)
}

/// circ and a static `sleep`, alone in an empty root: no libraries, no /dev, no /proc, no /etc.
#[test]
fn it_runs_in_an_empty_chroot_with_only_sleep_beside_it() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root may chroot");
    }
    let Some(chroot) = need("chroot", "coreutils") else {
        return;
    };
    let site = TempSite::ipc();
    if !static_sleep(&site.path("sleep")) {
        return skip(
            "no static sleep: neither busybox-static nor gcc with a static C library is there",
        );
    }
    fs::copy(CIRC, site.path("circ")).expect("circ can be copied");
    site.write(
        "circus.ini",
        "[circus]\nendpoint = ipc:///control\npubsub_endpoint = ipc:///events\n\n\
         [watcher:web]\ncmd = /sleep 1000\nnumprocesses = 2\n",
    );
    let mut command = Command::new(chroot);
    command
        .arg(site.dir())
        .args(["/circ", "daemon", "/circus.ini"])
        .env_clear();
    let daemon = site.spawn_command(Program::Circ, command);
    daemon.wait_ready();
    let pids = daemon.wait_pids("web", 2);
    for pid in &pids {
        let root = fs::read_link(format!("/proc/{pid}/root")).expect("the worker runs");
        assert_eq!(
            root,
            fs::canonicalize(site.dir()).expect("the site is there"),
            "the worker is outside"
        );
    }
    daemon.ok("incr", json!({"name": "web", "waiting": true}));
    let more = daemon.wait_pids("web", 3);
    daemon.ok("restart", json!({"name": "web", "waiting": true}));
    let new = daemon.wait_pids("web", 3);
    assert!(
        new.iter().all(|p| !more.contains(p)),
        "{more:?} became {new:?}"
    );
    let workers: Vec<Process> = new.iter().filter_map(|p| Process::find(*p)).collect();
    assert!(daemon.stop().success(), "SIGTERM ends it in order");
    assert!(workers.iter().all(|w| !w.is_running()), "workers still run");
}

/// Puts a statically linked sleep at `place`.
fn static_sleep(place: &PathBuf) -> bool {
    if let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"]
        .map(Path::new)
        .into_iter()
        .find(|p| p.is_file())
        && !asks_for_loader(busybox)
    {
        return fs::copy(busybox, place).is_ok();
    }
    let source = place.with_extension("c");
    let text = "#include <stdlib.h>\n#include <unistd.h>\nint main(int n, char **a) { return n > 1 ? (int)sleep(atoi(a[1])) : 1; }\n";
    fs::write(&source, text).is_ok()
        && Command::new("gcc")
            .arg("-static")
            .arg("-o")
            .arg(place)
            .arg(&source)
            .status()
            .is_ok_and(|s| s.success())
}
