//! Planning again in the middle of a run, when a daemon was looked at anew. Pure.

use crate::state::observed::{DaemonSide, FileSide, Observed};
use crate::state::plan::{self, FileEdit, Plan};
use crate::state::prepare::WatcherRun;
use crate::state::targets::align;

/// The plan for a daemon that was looked at again; the file has been written by now.
pub(super) fn plan_anew(
    run: &WatcherRun,
    file: Option<FileSide>,
    daemon: DaemonSide,
) -> Result<Plan, String> {
    let mut seen = Observed {
        file,
        daemon: Some(daemon),
    };
    align(&mut seen, &run.desired, &run.target);
    let mut plan = plan::plan(&run.desired, &run.target, &seen)?;
    plan.edits = Vec::new();
    Ok(plan)
}

/// The file's side after the edits of the plan.
pub(super) fn file_after(run: &WatcherRun) -> Option<FileSide> {
    let mut file = run.seen.file.clone()?;
    file.watcher = run.desired.present.then(|| run.target.clone());
    for edit in &run.plan.edits {
        match edit {
            FileEdit::Set { key, .. } if !file.stated.contains(key) => {
                file.stated.push(key.clone());
            }
            FileEdit::Unset { key } => file.stated.retain(|stated| stated != key),
            FileEdit::AddSection(options) => {
                file.stated = options.iter().map(|wanted| wanted.key.clone()).collect();
            }
            FileEdit::Env { name, text } => {
                let own = file.own_env.get_or_insert_default();
                own.retain(|known| known != name);
                if text.is_some() {
                    own.push(name.clone());
                }
            }
            FileEdit::RemoveEnv => file.own_env = None,
            FileEdit::Set { .. } | FileEdit::RemoveSection => {}
        }
    }
    Some(file)
}
