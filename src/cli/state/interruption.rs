//! Signals that end a run: the first lets it take back what it did and print its report, the second leaves everything as
//! it is, the third ends the process.

use std::process;
use std::sync::{LazyLock, Once};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::output;
use crate::state::interrupt::{self, Asker, Interrupt};

static PAIR: LazyLock<(Asker, Interrupt)> = LazyLock::new(interrupt::pair);
static LISTENING: Once = Once::new();

/// The signals, by name and number.
const SIGNALS: [(&str, i32); 3] = [("SIGINT", 2), ("SIGTERM", 15), ("SIGHUP", 1)];

/// From now on signals ask [`current`] to end: to be called when what is wanted is known and the run begins. Where that
/// cannot be had they end the process, as ever.
pub(in crate::cli) fn listen() {
    LISTENING.call_once(|| {
        if let Err(error) = start() {
            output::plain_error(&format!("signals will end this at once: {error}"));
        }
    });
}

/// What the runs of this process listen to.
pub(in crate::cli) fn current() -> Interrupt {
    PAIR.1.clone()
}

fn start() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let ignored = ignored();
    let guard = runtime.enter();
    let mut signals: Vec<(&str, i32, Signal)> = Vec::new();
    for (name, number) in SIGNALS {
        // Who started this with nohup, or in the background, wants it to go on.
        if ignored & 1 << (number - 1) == 0 {
            let kind = SignalKind::from_raw(number);
            signals.push((name, number, signal(kind)?));
        }
    }
    drop(guard);
    let body = move || {
        runtime.block_on(async {
            for times in 1.. {
                let (name, number) = next(&mut signals).await;
                tell(&PAIR.0, times, name, number);
            }
        });
    };
    std::thread::Builder::new()
        .name("signals".into())
        .stack_size(128 * 1024)
        .spawn(body)?;
    Ok(())
}

async fn next(signals: &mut [(&'static str, i32, Signal)]) -> (&'static str, i32) {
    std::future::poll_fn(|context| {
        for (name, number, signal) in signals.iter_mut() {
            if signal.poll_recv(context).is_ready() {
                return std::task::Poll::Ready((*name, *number));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

fn tell(asker: &Asker, times: u32, name: &str, number: i32) {
    asker.ask(name);
    match times {
        1 => output::plain_error(&format!(
            "{name}: what was begun is finished or taken back; once more, and all is left as it is"
        )),
        2 => output::plain_error(&format!("{name}: all is left as it is")),
        _ => process::exit(128 + number),
    }
}

/// The signals that this process was started to ignore, as a mask. Where `/proc` cannot be read: none.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
