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

#[test]
fn only_what_nobody_ever_wrote_to_is_given_back() {
    let maps = "\
7f0000000000-7f0000196000 r--p 00000000 fe:00 42                         /bin/circ
7f0000196000-7f000069c000 r-xp 00195000 fe:00 42                         /bin/circ
7f000069c000-7f00006d3000 r--p 0069a000 fe:00 42                         /bin/circ
7f00006d4000-7f00006d8000 rw-p 006d1000 fe:00 42                         /bin/circ
7f00006d8000-7f00006df000 rw-p 00000000 00:00 0                          [heap]
7f0000700000-7f0000701000 r-xp 00000000 00:00 0                          [vdso]
7f0000800000-7f0000801000 r-xp 00001000 fe:00 43                         /lib/other.so
";
    assert_eq!(
        super::code_of(maps, "/bin/circ"),
        [
            0x7f00_0000_0000..0x7f00_0019_6000,
            0x7f00_0019_6000..0x7f00_0069_c000
        ]
    );
    // And this program goes on afterwards.
    super::give_back_code();
    assert!(super::code_of(maps, "/bin/none").is_empty());
}
