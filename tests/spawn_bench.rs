//! How fast children are made and looked at. Not part of a normal run, because numbers depend on the
//! machine: `cargo test --release --test spawn_bench -- --ignored --nocapture --test-threads 1`.

use circ::daemon::spawn::{SpawnSpec, Stdio, spawn};
use circ::stats::{Pass, Sampler, descendants};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::time::Instant;

fn command(argv: &[&str]) -> SpawnSpec {
    SpawnSpec {
        argv: argv.iter().map(Into::into).collect(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        stdin: Stdio::Null,
        ..SpawnSpec::default()
    }
}

/// Best of five runs of `rounds` calls, as calls a second.
fn rate(rounds: u32, mut body: impl FnMut()) -> f64 {
    let run = |body: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..rounds).for_each(|_| body());
        f64::from(rounds) / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| run(&mut body)).fold(0.0, f64::max)
}

/// The bare loop: the standard library calls posix_spawn when nothing special is asked for.
fn posix_spawn() {
    let mut child = std::process::Command::new("/bin/true")
        .env_clear()
        .spawn()
        .unwrap();
    child.wait().unwrap();
}

#[test]
#[ignore = "a measurement"]
fn spawning_is_as_fast_as_a_bare_posix_spawn() {
    let spec = command(&["/bin/true"]);
    let ours = || {
        waitpid(Pid::from_raw(spawn(&spec).unwrap()), None).unwrap();
    };
    let bare = rate(500, posix_spawn);
    let quiet = rate(500, ours);
    // A daemon with a thousand workers has their pipes open.
    let open: Vec<_> = (0..2000)
        .map_while(|_| nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).ok())
        .collect();
    let bare_with_fds = rate(500, posix_spawn);
    let with_fds = rate(500, ours);
    eprintln!("posix_spawn {bare:.0}/s, spawn {quiet:.0}/s");
    let fds = open.len() * 2;
    eprintln!("with {fds} descriptors: posix_spawn {bare_with_fds:.0}/s, spawn {with_fds:.0}/s");
    assert!(quiet * 1.3 > bare, "{quiet} {bare}");
    assert!(with_fds * 1.3 > bare_with_fds, "{with_fds} {bare_with_fds}");
}

#[test]
#[ignore = "a measurement"]
fn a_thousand_workers_are_sampled_in_50_ms() {
    let spec = command(&["/bin/sleep", "1000"]);
    let start = Instant::now();
    let pids: Vec<i32> = (0..1000).map(|_| spawn(&spec).unwrap()).collect();
    eprintln!("1,000 started in {:?}", start.elapsed());
    let mut sampler = Sampler::new();
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let infos = sampler.sample(&pids);
        times.push(start.elapsed());
        assert!(infos.iter().all(serde_json::Value::is_object));
    }
    let start = Instant::now();
    let pass = Pass::read().unwrap();
    let walk = start.elapsed();
    assert!(pids.iter().all(|pid| pass.get(*pid).is_some()));
    let start = Instant::now();
    let children = descendants(&pids, true);
    eprintln!(
        "samples {times:?}, walk {walk:?}, descendants {:?}",
        start.elapsed()
    );
    for pid in &pids {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap();
        waitpid(Pid::from_raw(*pid), None).unwrap();
    }
    assert!(children.is_empty());
    if !cfg!(debug_assertions) {
        assert!(times.iter().all(|time| time.as_millis() < 50), "{times:?}");
    }
}
