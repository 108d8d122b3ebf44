//! Which statistics anybody wants: the beginnings of topics that subscribers asked for.

/// What all subscribers of one publisher want together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interest {
    prefixes: Vec<Vec<u8>>,
}

impl Interest {
    /// Whether somebody wants this topic or one that begins with it. `stat.web` is wanted by who subscribed to
    /// everything, to `stat.`, to `stat.web` or to `stat.web.4711`.
    pub fn in_or_under(&self, topic: &str) -> bool {
        let topic = topic.as_bytes();
        self.prefixes
            .iter()
            .any(|prefix| topic.starts_with(prefix) || prefix.starts_with(topic))
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Interest {
    fn from_iter<I: IntoIterator<Item = T>>(prefixes: I) -> Interest {
        let mut prefixes: Vec<Vec<u8>> = prefixes
            .into_iter()
            .map(|prefix| prefix.as_ref().to_vec())
            .collect();
        prefixes.sort_unstable();
        // what a shorter one covers says nothing new, and comes right after it or after its like
        prefixes.dedup_by(|later, earlier| later.starts_with(earlier));
        Interest { prefixes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interest(prefixes: &[&str]) -> Interest {
        prefixes.iter().collect()
    }

    #[test]
    fn a_topic_is_wanted_by_its_beginning_and_by_what_is_under_it() {
        let wanted = |prefixes: &[&str], topic: &str| interest(prefixes).in_or_under(topic);
        for prefix in ["", "s", "stat.", "stat.we", "stat.web", "stat.web.7"] {
            assert!(wanted(&[prefix], "stat.web"), "{prefix}");
        }
        for prefix in ["stat.api", "watcher.", "stat.x"] {
            assert!(!wanted(&[prefix], "stat.web"), "{prefix}");
        }
        assert!(!wanted(&[], "stat.web"));
        assert!(wanted(&["watcher.", "stat.api"], "stat.api"));
        assert!(wanted(&["stat.web.7"], "stat."));
    }

    #[test]
    fn what_is_covered_is_kept_once() {
        assert_eq!(
            interest(&["stat.b", "stat.", "stat.a", "stat."]),
            interest(&["stat."])
        );
        assert_eq!(interest(&["b", "a"]).prefixes.len(), 2);
        assert_eq!(interest(&["x", ""]), interest(&[""]));
    }
}
