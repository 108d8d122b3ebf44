//! The sections of variables: which watcher can have one of its own. Pure.

use super::FilesError;

/// A watcher of this name has no `[env:NAME]` of its own: there, the name is read as a list of patterns.
fn is_shared(watcher: &str) -> bool {
    // A `[` is never closed: no name holds a `]`.
    watcher.contains(['*', '?', ','])
}

/// Refuses to touch variables that are not this watcher's alone, or never reach it.
pub(super) fn check_own(watcher: &str) -> Result<(), FilesError> {
    if !is_shared(watcher) {
        return Ok(());
    }
    Err(FilesError::Edit(format!(
        "this watcher cannot have variables of its own: [env:{watcher}] is about all watchers that match the pattern; \
         give the watcher a name without `*`, `?` and `,`"
    )))
}
