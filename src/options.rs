//! The table of watcher options.
