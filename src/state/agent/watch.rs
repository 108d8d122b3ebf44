//! Notices changes of files: the desired state, the managed configuration, the maintenance window.
//!
//! The kernel tells (inotify) that something happened in a directory; what happened is seen by comparing the files'
//! fingerprints before and after, so that files that are written in place, renamed over, replaced by another symbolic
//! link, removed or made anew are all one case. Where inotify cannot tell (network file systems, no watches left),
//! the fingerprints are compared every few seconds.
//!
//! A desired state is told of when it has been quiet for a moment and can be read: half-written files are waited out,
//! for a limited time.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::statfs::statfs;

/// So long nothing must happen to a desired state before it is read.
pub const QUIET: Duration = Duration::from_millis(200);
/// So long after its last change it is told of even if it cannot be read.
const GIVE_UP: Duration = Duration::from_secs(2);
/// How often files are looked at where nobody tells.
const POLL: Duration = Duration::from_secs(2);
/// Where a directory is busy with other things, it is looked at this often at most.
const BREATH: Duration = Duration::from_millis(10);
/// What a directory of desired states is read for.
const ENDINGS: [&str; 4] = ["toml", "json", "ini", "conf"];

/// Which file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A file of the desired state.
    Desired,
    /// The managed configuration.
    Config,
    /// The maintenance window.
    Window,
}

/// A change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Of what.
    pub kind: Kind,
    /// When it was first noticed.
    pub at: Instant,
}

/// What to watch: files, and directories whose files count.
#[derive(Debug, Clone, Default)]
pub struct Targets(pub Vec<(Kind, PathBuf)>);

/// Files that are watched from the moment this is made.
pub struct Watcher {
    current: Targets,
    source: Source,
    seen: BTreeMap<Kind, Prints>,
}

impl Watcher {
    /// Remembers how the files look now.
    pub fn new(targets: Targets) -> Watcher {
        Watcher {
            source: Source::open(&targets),
            seen: fingerprints(&targets),
            current: targets,
        }
    }

    /// Watches until the other end of `stop` is closed. `readable` tells whether the desired state can be read;
    /// `targets` is asked again after every change, because a document may name further files.
    pub fn run(
        mut self,
        stop: &UnixStream,
        targets: impl Fn() -> Targets,
        readable: impl Fn() -> bool,
        mut tell: impl FnMut(Change),
    ) {
        // First and last time that each was seen to change.
        let mut changing: BTreeMap<Kind, (Instant, Instant)> = BTreeMap::new();
        loop {
            let now = Instant::now();
            let wake = changing
                .values()
                .map(|(_, last)| (*last + QUIET).max(now + BREATH) - now)
                .chain(self.source.polls().then_some(POLL))
                .min();
            if !self.source.wait(stop.as_fd(), wake) {
                return;
            }
            let now = Instant::now();
            let found = fingerprints(&self.current);
            for (kind, prints) in &found {
                if self.seen.get(kind) != Some(prints) {
                    let first = changing.get(kind).map_or(now, |(first, _)| *first);
                    changing.insert(*kind, (first, now));
                }
            }
            let any = found != self.seen;
            self.seen = found;
            changing.retain(|kind, (first, last)| {
                let still = now.duration_since(*last);
                // What a person writes by hand is seen half-written.
                let done = match kind {
                    Kind::Desired => still >= QUIET && (readable() || still >= GIVE_UP),
                    Kind::Config => still >= QUIET,
                    Kind::Window => true,
                };
                if done {
                    tell(Change {
                        kind: *kind,
                        at: *first,
                    });
                }
                !done
            });
            if any {
                self.follow(targets());
            }
        }
    }

    /// Goes over to other targets. What is looked at for the first time has not changed by that.
    fn follow(&mut self, targets: Targets) {
        self.source.follow(&targets);
        for (kind, prints) in fingerprints(&targets) {
            let known = self.seen.entry(kind).or_default();
            known.retain(|path, _| targets.contains(kind, path));
            for (path, print) in prints {
                if !self.current.contains(kind, &path) {
                    known.insert(path, print);
                }
            }
        }
        self.current = targets;
    }
}

/// What a file looks like from outside; none if it is not there.
type Print = Option<(u64, u64, u64, i64, i64)>;
type Prints = BTreeMap<PathBuf, Print>;

impl Targets {
    fn contains(&self, kind: Kind, path: &Path) -> bool {
        self.0
            .iter()
            .any(|(of, target)| *of == kind && (path == target || path.parent() == Some(target)))
    }
}

fn fingerprints(targets: &Targets) -> BTreeMap<Kind, Prints> {
    let mut found: BTreeMap<Kind, Prints> = BTreeMap::new();
    for (kind, target) in &targets.0 {
        let prints = found.entry(*kind).or_default();
        match std::fs::read_dir(target) {
            Ok(entries) => {
                let files = entries.flatten().map(|entry| entry.path());
                prints.extend(files.filter(|path| counts(path)).map(|path| {
                    let print = print(&path);
                    (path, print)
                }));
                // An empty directory and none at all are two things.
                prints.insert(target.clone(), Some((0, 0, 0, 0, 0)));
            }
            Err(_) => {
                prints.insert(target.clone(), print(target));
            }
        }
    }
    found
}

/// A file of a directory that is read. Editors' own files begin with a dot or end in something else.
fn counts(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let ending = path.extension().and_then(|ending| ending.to_str());
    name.is_some_and(|name| !name.starts_with('.'))
        && ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

fn print(path: &Path) -> Print {
    let metadata = std::fs::metadata(path).ok()?;
    Some((
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    ))
}

/// Who says that something happened.
struct Source {
    inotify: Option<Inotify>,
    /// Not all of it is told by the kernel.
    incomplete: bool,
}

impl Source {
    fn open(targets: &Targets) -> Source {
        let flags = InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC;
        let mut source = Source {
            inotify: Inotify::init(flags).ok(),
            incomplete: false,
        };
        source.follow(targets);
        source
    }

    fn polls(&self) -> bool {
        self.incomplete || self.inotify.is_none()
    }

    /// Watches the directories that matter. One that is watched already stays so; one that was replaced is watched anew.
    fn follow(&mut self, targets: &Targets) {
        let Some(inotify) = &self.inotify else { return };
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        self.incomplete = false;
        for directory in directories(targets) {
            let told = inotify.add_watch(&directory, flags).is_ok() && !is_remote(&directory);
            self.incomplete |= !told;
        }
    }

    /// Waits until something may have happened; false when it is to end.
    fn wait(&self, stop: BorrowedFd<'_>, limit: Option<Duration>) -> bool {
        let timeout = limit.map_or(PollTimeout::NONE, |limit| {
            PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)
        });
        let mut wanted = vec![PollFd::new(stop, PollFlags::POLLIN)];
        if let Some(inotify) = &self.inotify {
            wanted.push(PollFd::new(inotify.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut wanted, timeout) {
            Ok(0) | Err(Errno::EINTR) => return true,
            // There is nothing to wait on; better to end than to spin.
            Err(_) => return false,
            Ok(_) => {}
        }
        let ends = wanted.first().and_then(PollFd::any).unwrap_or(true);
        if ends {
            return false;
        }
        std::thread::sleep(BREATH);
        if let Some(inotify) = &self.inotify {
            while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        }
        true
    }
}

/// The directories in which a change of the targets shows: the directories themselves, those that hold them, and those
/// that symbolic links lead to. Of what is not there, the nearest that is.
fn directories(targets: &Targets) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut add = |path: Option<&Path>| {
        let existing = path.and_then(|path| {
            path.ancestors()
                .find(|path| path.is_dir())
                .map(Path::to_path_buf)
        });
        found.extend(existing.filter(|path| !path.as_os_str().is_empty()));
    };
    for (_, target) in &targets.0 {
        add(target.parent());
        let mut files = vec![target.clone()];
        if let Ok(entries) = std::fs::read_dir(target) {
            add(Some(target));
            files.extend(entries.flatten().map(|entry| entry.path()));
        }
        for file in files.iter().filter(|file| file.is_symlink()) {
            if let Ok(real) = file.canonicalize() {
                add(real.parent());
                add(Some(&real)
                    .filter(|real| real.is_dir())
                    .map(PathBuf::as_path));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// File systems whose files others change without this kernel's knowledge.
fn is_remote(directory: &Path) -> bool {
    // linux/magic.h: NFS, SMB, CIFS, SMB2, FUSE, 9P, AFS, Ceph, Coda, GFS2, OCFS2.
    const REMOTE: [u32; 11] = [
        0x6969,
        0x517B,
        0xFF53_4D42,
        0xFE53_4D42,
        0x6573_5546,
        0x0102_1997,
        0x5346_414F,
        0x00C3_6400,
        0x7375_7245,
        0x0116_1970,
        0x7461_636F,
    ];
    statfs(directory).is_ok_and(|found| {
        let magic = found.filesystem_type().0 as u32;
        REMOTE.contains(&magic)
    })
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
