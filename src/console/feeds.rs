//! What many viewers watch: it is fetched once for all of them, by a task that is there while somebody watches.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// Messages that a viewer may be behind; then it misses some.
const BEHIND: usize = 256;

/// What viewers are told.
#[derive(Debug)]
pub enum Told<T> {
    /// The daemon answers, or not any more; why.
    State(Result<(), String>),
    /// News.
    Item(Arc<T>),
}

impl<T> Clone for Told<T> {
    fn clone(&self) -> Self {
        match self {
            Told::State(state) => Told::State(state.clone()),
            Told::Item(item) => Told::Item(item.clone()),
        }
    }
}

/// One thing to watch.
pub struct Feed<T> {
    now: Mutex<Now<T>>,
}

struct Now<T> {
    sender: Option<broadcast::Sender<Told<T>>>,
    state: Option<Result<(), String>>,
}

impl<T> Default for Feed<T> {
    fn default() -> Self {
        let now = Now {
            sender: None,
            state: None,
        };
        Feed {
            now: Mutex::new(now),
        }
    }
}

impl<T: Send + Sync + 'static> Feed<T> {
    fn now(&self) -> MutexGuard<'_, Now<T>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches. The first viewer has `fetch` run, which goes on until the last one has left.
    pub fn subscribe<F>(
        &self,
        fetch: impl FnOnce(broadcast::Sender<Told<T>>) -> F,
    ) -> broadcast::Receiver<Told<T>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut now = self.now();
        if let Some(sender) = &now.sender
            && sender.receiver_count() > 0
        {
            return sender.subscribe();
        }
        let (sender, receiver) = broadcast::channel(BEHIND);
        *now = Now {
            sender: Some(sender.clone()),
            state: None,
        };
        let fetching = fetch(sender.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = fetching => {}
                () = sender.closed() => {}
            }
        });
        receiver
    }

    /// Tells viewers how the daemon is, if that is news.
    pub fn tell_state(&self, sender: &broadcast::Sender<Told<T>>, state: Result<(), String>) {
        let mut now = self.now();
        if !now
            .sender
            .as_ref()
            .is_some_and(|own| own.same_channel(sender))
        {
            return;
        }
        if now.state.as_ref().map(Result::is_ok) != Some(state.is_ok()) {
            now.state = Some(state.clone());
            drop(now);
            // nobody listens any more: the end is near
            let _ = sender.send(Told::State(state));
        }
    }

    /// How the daemon is, as far as anybody watches.
    pub fn state(&self) -> Option<Result<(), String>> {
        let now = self.now();
        let watched = now
            .sender
            .as_ref()
            .is_some_and(|sender| sender.receiver_count() > 0);
        now.state.clone().filter(|_| watched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn one_fetches_for_all_while_somebody_watches() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let feed = Feed::<u32>::default();
            let running = Arc::new(AtomicUsize::new(0));
            let watch = || {
                let running = running.clone();
                feed.subscribe(|sender| async move {
                    running.fetch_add(1, Ordering::SeqCst);
                    let _there = scopeguard(&running);
                    let _ = sender.send(Told::Item(Arc::new(7)));
                    std::future::pending::<()>().await;
                })
            };
            let mut one = watch();
            let two = watch();
            assert!(matches!(one.recv().await, Ok(Told::Item(item)) if *item == 7));
            assert_eq!(running.load(Ordering::SeqCst), 1);
            drop((one, two));
            while running.load(Ordering::SeqCst) != 0 {
                tokio::task::yield_now().await;
            }
            let mut three = watch();
            assert!(matches!(three.recv().await, Ok(Told::Item(_))));
            assert_eq!(feed.state(), None);
        });
    }

    struct There(Arc<AtomicUsize>);
    impl Drop for There {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    fn scopeguard(count: &Arc<AtomicUsize>) -> There {
        There(count.clone())
    }
}
