//! Names of files: changes that no sync of their folder has made durable yet.

use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Folder,
    File(u64),
}

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Link {
        path: String,
        target: Target,
    },
    Unlink {
        path: String,
    },
    Move {
        from: String,
        to: String,
        target: Target,
    },
}

impl NameChange {
    pub(super) fn path(&self) -> &str {
        match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => path,
            NameChange::Move { to, .. } => to,
        }
    }

    pub(super) fn target(&self) -> Option<Target> {
        match self {
            NameChange::Link { target, .. } | NameChange::Move { target, .. } => Some(*target),
            NameChange::Unlink { .. } => None,
        }
    }

    pub(super) fn concerns(&self, name: &str) -> bool {
        match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => path == name,
            NameChange::Move { from, to, .. } => from == name || to == name,
        }
    }

    pub(super) fn touches(&self, dir: &str) -> bool {
        match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => parent(path) == dir,
            NameChange::Move { from, to, .. } => parent(from) == dir || parent(to) == dir,
        }
    }

    /// The part of a change that a sync of `dir` makes durable, and the part that it leaves: of a move between folders
    /// the other one's name.
    pub(super) fn in_folder(self, dir: &str) -> (NameChange, Option<NameChange>) {
        match self {
            NameChange::Move { from, to, target } if parent(&from) != parent(&to) => {
                let gone = NameChange::Unlink { path: from.clone() };
                let made = NameChange::Link {
                    path: to.clone(),
                    target,
                };
                if parent(&to) == dir {
                    (made, Some(gone))
                } else {
                    (gone, Some(made))
                }
            }
            other => (other, None),
        }
    }

    pub(super) fn apply(&self, names: &mut BTreeMap<String, Target>) {
        match self {
            NameChange::Link { path, target } => {
                names.insert(path.clone(), *target);
            }
            NameChange::Unlink { path } => {
                names.remove(path);
            }
            NameChange::Move { from, to, target } => {
                if names.get(from) == Some(target) {
                    names.remove(from);
                }
                names.insert(to.clone(), *target);
            }
        }
    }
}

/// The folder of a path.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
