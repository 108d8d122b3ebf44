use super::*;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::io::Read;
use std::os::fd::AsRawFd;

/// Runs a child with stdout in a pipe; returns what it printed.
fn output(mut spec: SpawnSpec, close_range: bool) -> String {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    spec.stdout = Stdio::Fd(writer.as_raw_fd());
    let pid = spawn_with(&spec, close_range).unwrap();
    drop(writer);
    let mut text = String::new();
    std::fs::File::from(reader)
        .read_to_string(&mut text)
        .unwrap();
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
    text
}

#[test]
fn both_ways_of_closing_descriptors_close_all_but_the_kept() {
    let (kept, _other_end) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let (leaky, _its_other_end) = pipe2(OFlag::empty()).unwrap(); // as a careless library leaves it
    let link = |fd: RawFd| {
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        link.to_str().unwrap().to_owned()
    };
    let script = "for fd in /proc/$$/fd/*; do readlink $fd; done";
    for close_range in [true, false] {
        let spec = SpawnSpec {
            argv: ["/bin/sh", "-c", script].map(Into::into).into(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            stdin: Stdio::Null,
            stderr: Stdio::Null,
            keep_fds: vec![kept.as_raw_fd()],
            ..SpawnSpec::default()
        };
        let text = output(spec, close_range);
        assert!(
            text.contains(&link(kept.as_raw_fd())),
            "{close_range} {text}"
        );
        assert!(
            !text.contains(&link(leaky.as_raw_fd())),
            "{close_range} {text}"
        );
        // Three streams, the kept one, and nothing else.
        assert_eq!(text.lines().count(), 4, "{close_range} {text}");
    }
}

#[test]
fn a_process_with_threads_does_not_detach() {
    // The test harness itself runs threads.
    let error = fork_detach().unwrap_err();
    assert!(error.to_string().contains("threads"), "{error}");
}
