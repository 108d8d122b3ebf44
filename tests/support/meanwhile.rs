//! Clients that ask all the time while something is done to the servers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Has so many clients ask while `change` goes on. `client` makes each of them from its number; what it makes asks once
/// and says whether that counts as an answer, or what became of it. `change` sees how many were answered so far.
///
/// Returns how many were answered, and what was not. Each client asks at least once. A panic in `change` goes on when the
/// clients have ended.
pub fn asking_meanwhile<Ask, Failure>(
    clients: usize,
    client: impl Fn(usize) -> Ask + Sync,
    change: impl FnOnce(&AtomicUsize),
) -> (usize, Vec<Failure>)
where
    Ask: FnMut() -> Result<bool, Failure>,
    Failure: Send,
{
    let (enough, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let asking = |number: usize| {
        let (mut ask, mut failures) = (client(number), Vec::new());
        loop {
            match ask() {
                Ok(counts) => _ = answered.fetch_add(usize::from(counts), Ordering::Relaxed),
                Err(failure) => failures.push(failure),
            }
            if enough.load(Ordering::Relaxed) {
                return failures;
            }
        }
    };
    let failures = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|number| {
                let asking = &asking;
                scope.spawn(move || asking(number))
            })
            .collect();
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| change(&answered)));
        enough.store(true, Ordering::Relaxed);
        let ended = clients.into_iter();
        let failures = ended.flat_map(|client| client.join().expect("a client does not panic"));
        let failures = failures.collect();
        if let Err(panic) = changed {
            std::panic::resume_unwind(panic);
        }
        failures
    });
    (answered.load(Ordering::Relaxed), failures)
}
