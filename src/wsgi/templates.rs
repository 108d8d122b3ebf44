//! The environs that a worker keeps, so that they need not be sent with every request.
//!
//! Clients choose their headers, so there is a bound. An environ gets a slot when it is seen for the second time: what
//! comes once costs the others nothing.

use hashbrown::HashMap;

/// Environs that a worker keeps.
const SLOTS: usize = 256;
/// Environs that are remembered as seen, those with a slot among them.
const SEEN: usize = 512;

#[derive(Debug)]
struct Entry {
    slot: Option<u32>,
    used: u64,
}

/// The environs of one worker.
#[derive(Debug, Default)]
pub struct Templates {
    entries: HashMap<Box<[u8]>, Entry>,
    free: Vec<u32>,
    slots: u32,
    clock: u64,
}

/// How an environ is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// The worker has it in this slot.
    Slot(u32),
    /// Whole, and the worker is to keep it in this slot.
    Keep(u32),
    /// Whole.
    Once,
}

impl Templates {
    /// How this environ is to be sent now.
    pub fn send(&mut self, environ: &[u8]) -> Sending {
        self.clock += 1;
        let clock = self.clock;
        if let Some(entry) = self.entries.get_mut(environ) {
            entry.used = clock;
            if let Some(slot) = entry.slot {
                return Sending::Slot(slot);
            }
            let slot = self.slot(environ);
            if let Some(entry) = self.entries.get_mut(environ) {
                entry.slot = slot;
            }
            return slot.map_or(Sending::Once, Sending::Keep);
        }
        if self.entries.len() >= SEEN {
            self.forget(|_, _| true);
        }
        let entry = Entry {
            slot: None,
            used: clock,
        };
        self.entries.insert(environ.into(), entry);
        Sending::Once
    }

    fn slot(&mut self, wanted_for: &[u8]) -> Option<u32> {
        if self.free.is_empty() && (self.slots as usize) < SLOTS {
            self.slots += 1;
            return Some(self.slots - 1);
        }
        if self.free.is_empty() {
            self.forget(|environ, entry| entry.slot.is_some() && environ != wanted_for);
        }
        self.free.pop()
    }

    /// Forgets the one among these that was not used for the longest time.
    fn forget(&mut self, among: impl Fn(&[u8], &Entry) -> bool) {
        let oldest = self
            .entries
            .iter()
            .filter(|(environ, entry)| among(environ, entry))
            .min_by_key(|(_, entry)| entry.used)
            .map(|(environ, _)| environ.clone());
        if let Some(environ) = oldest
            && let Some(entry) = self.entries.remove(&environ)
        {
            self.free.extend(entry.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_time_it_is_kept() {
        let mut templates = Templates::default();
        assert_eq!(templates.send(b"a"), Sending::Once);
        assert_eq!(templates.send(b"a"), Sending::Keep(0));
        assert_eq!(templates.send(b"a"), Sending::Slot(0));
        assert_eq!(templates.send(b"b"), Sending::Once);
        assert_eq!(templates.send(b"b"), Sending::Keep(1));
    }

    #[test]
    fn clients_cannot_make_it_grow() {
        let mut templates = Templates::default();
        let mut kept = HashMap::new();
        for n in 0..20_000u32 {
            let environ = (n / 2 % 1500).to_le_bytes();
            match templates.send(&environ) {
                Sending::Keep(slot) => {
                    assert!((slot as usize) < SLOTS);
                    kept.insert(slot, environ);
                }
                // what the worker has there is what was sent
                Sending::Slot(slot) => assert_eq!(kept.get(&slot), Some(&environ)),
                Sending::Once => {}
            }
            assert!(templates.entries.len() <= SEEN);
        }
    }
}
