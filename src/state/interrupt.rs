//! A run that somebody asks to end before it is done: once, and it takes back what it did; twice, and it leaves it.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

/// Whether the run was asked to end. Clones hear of the same.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    by: Arc<OnceLock<String>>,
    again: Option<watch::Receiver<bool>>,
}

/// Asks the runs that hold the other end to end.
#[derive(Debug)]
pub struct Asker {
    by: Arc<OnceLock<String>>,
    again: watch::Sender<bool>,
}

/// Both ends. [`Interrupt::default`] is one that nobody asks.
pub fn pair() -> (Asker, Interrupt) {
    let (again, heard) = watch::channel(false);
    let by = Arc::new(OnceLock::new());
    let interrupt = Interrupt {
        by: by.clone(),
        again: Some(heard),
    };
    (Asker { by, again }, interrupt)
}

impl Asker {
    /// Asks, in the name of `by` (`SIGINT`). True the first time.
    pub fn ask(&self, by: &str) -> bool {
        let first = self.by.set(by.to_string()).is_ok();
        if !first {
            self.again.send_replace(true);
        }
        first
    }
}

impl Interrupt {
    /// Who asked, if anybody did.
    pub fn asked(&self) -> Option<&str> {
        self.by.get().map(String::as_str)
    }

    /// Becomes true when it is asked again: nothing is to be waited for any more.
    pub fn again(&self) -> Option<watch::Receiver<bool>> {
        self.again.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_once_and_again() {
        let (asker, interrupt) = pair();
        let again = interrupt.clone().again().unwrap();
        assert_eq!(interrupt.asked(), None);
        assert!(asker.ask("SIGINT"));
        assert_eq!(
            (interrupt.asked(), *again.borrow()),
            (Some("SIGINT"), false)
        );
        assert!(!asker.ask("SIGTERM"));
        assert_eq!((interrupt.asked(), *again.borrow()), (Some("SIGINT"), true));
        assert!(Interrupt::default().again().is_none());
    }
}
