//! The children of processes, for signals that go to them.

use super::pass::Pass;
use std::collections::HashSet;

/// The children of these processes, or with `recursive` all their descendants, each once, in the
/// order psutil's `children()` gives them. The processes themselves are not among them.
///
/// Asks the kernel for the children of each process where it can tell (`CONFIG_PROC_CHILDREN`), which
/// costs the same however many processes the machine has; otherwise walks over `/proc`.
pub fn descendants(pids: &[i32], recursive: bool) -> Vec<i32> {
    let mut told = true;
    let found = walk(pids, recursive, |pid| {
        children_of(pid).unwrap_or_else(|| {
            told = false;
            Vec::new()
        })
    });
    if told {
        return found;
    }
    Pass::read().map_or(found, |pass| pass.descendants(pids, recursive))
}

/// psutil's order: each process's children in ascending order of pid, the last one's family first.
pub(super) fn walk(
    pids: &[i32],
    recursive: bool,
    mut children: impl FnMut(i32) -> Vec<i32>,
) -> Vec<i32> {
    let mut seen: HashSet<i32> = pids.iter().copied().collect();
    let mut found = Vec::new();
    for start in pids {
        let mut stack = vec![*start];
        while let Some(pid) = stack.pop() {
            for child in children(pid) {
                if seen.insert(child) {
                    found.push(child);
                    if recursive {
                        stack.push(child);
                    }
                }
            }
        }
    }
    found
}

/// The children of all threads of a process, ascending. `None` if the kernel does not list them; a
/// process that has gone has none.
pub(super) fn children_of(pid: i32) -> Option<Vec<i32>> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Some(Vec::new());
    };
    let mut children: Vec<i32> = Vec::new();
    for thread in threads.flatten() {
        match std::fs::read_to_string(thread.path().join("children")) {
            Ok(list) => children.extend(list.split_whitespace().filter_map(|child| {
                let child: Option<i32> = child.parse().ok();
                child
            })),
            // The thread has ended, or the kernel has no such file.
            Err(_) if thread.path().exists() => return None,
            Err(_) => {}
        }
    }
    children.sort_unstable();
    Some(children)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn a_family_is_walked_as_psutil_does() {
        let children = |pid| match pid {
            1 => vec![2, 3],
            2 => vec![4],
            3 => vec![5, 6],
            6 => vec![7, 1], // a loop, as a reused pid could make one
            _ => vec![],
        };
        assert_eq!(walk(&[1], false, children), [2, 3]);
        assert_eq!(walk(&[1], true, children), [2, 3, 5, 6, 7, 4]);
        assert_eq!(walk(&[2, 3], true, children), [4, 5, 6, 7, 1]);
        assert!(walk(&[9], true, children).is_empty());
    }

    #[test]
    fn real_grandchildren_are_found_both_ways() {
        // Says its child's pid; the child has a child of its own. All end when stdin is closed.
        let script = "sh -c 'cat & wait' & echo ready; wait";
        let mut shell = Command::new("sh")
            .args([
                "-c",
                &format!("exec 3<&0; {}", script.replace("cat", "cat <&3")),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let pid = i32::try_from(shell.id()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let mut all = Vec::new();
        while all.len() < 2 && std::time::Instant::now() < deadline {
            all = descendants(&[pid], true);
        }
        assert_eq!(all.len(), 2);
        assert_eq!(descendants(&[pid], false), all[..1]);
        let pass = Pass::read().unwrap();
        assert_eq!(pass.descendants(&[pid], true), all);
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(descendants(&[pid], true).is_empty());
    }
}
