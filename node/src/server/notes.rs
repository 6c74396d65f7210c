//! The operator's log: what the replica found worth a line.

use paxos::{Note as Core, Why};

use replica::engine::Note as Engine;
use replica::{FileNote, Note, SnapshotNote};

/// Writes one line.
pub(crate) fn write(note: &Note) {
    match note {
        Note::Engine(note) => write_engine(note),
        Note::Files(note) => write_files(note),
        Note::Snapshot(note) => write_snapshot(note),
        Note::LowSpace(low) => tracing::warn!(low, "space for the log"),
    }
}

fn write_engine(note: &Engine) {
    match note {
        Engine::Core(note) => write_core(note),
        Engine::SettingsDiffer { agreed, own } => {
            tracing::warn!(
                agreed,
                own,
                "the cluster has agreed on other settings than the flags say; the agreed ones count"
            );
        }
        Engine::SettingsProposed => {
            tracing::info!("the cluster agreed on the settings that this leader proposed")
        }
        Engine::BacklogSpilled { from } => {
            tracing::warn!(
                from = from.0,
                "applying is far behind: the rest will be read back from the log"
            );
        }
        #[allow(unreachable_patterns, reason = "the engine may learn to say more")]
        other => tracing::info!(note = ?other, "engine"),
    }
}

fn write_files(note: &FileNote) {
    match note {
        FileNote::NoRoom { why } => tracing::error!(
            error = why,
            "no space for the data files: applying waits until there is"
        ),
        FileNote::RoomAgain => tracing::info!("there is space again: files are written"),
        FileNote::Damaged { told } => tracing::warn!("{told}"),
        FileNote::Rebuilt { file } => {
            tracing::info!(file, "written again from the log: it can be read again");
        }
        FileNote::NotRebuilt { file, why } => tracing::warn!(
            file,
            why,
            "not written again while the replica runs; the next start tries once more, or ends with 5 and says what to put back"
        ),
    }
}

fn write_snapshot(note: &SnapshotNote) {
    match note {
        SnapshotNote::Begun { slot } => tracing::info!(slot, "taking a snapshot"),
        SnapshotNote::Taken { slot, bytes } => tracing::info!(slot, bytes, "snapshot taken"),
        SnapshotNote::Failed { slot, why } => {
            tracing::error!(slot, why, "no snapshot was taken; another is tried later");
        }
    }
}

fn write_core(note: &Core) {
    match note {
        Core::PeerFellBehind { peer, needs, first } => tracing::error!(
            peer = peer.0,
            needs = needs.0,
            first_kept = first.0,
            "a replica has fallen behind what this log still holds; this version cannot send it a snapshot"
        ),
        Core::FellBehind { peer, first } => tracing::error!(
            peer = peer.0,
            first_kept = first.0,
            "this replica has fallen behind what the peer's log still holds; this version cannot fetch a snapshot"
        ),
        Core::Refused { peer, why } => tracing::error!(
            peer = peer.0,
            "a peer is refused, its votes do not count: {why}"
        ),
        Core::WatchdogFired { why } => tracing::warn!(?why, "no progress: giving leadership away"),
        Core::SteppedDown {
            why: why @ (Why::HigherBallot | Why::Asked),
        } => {
            tracing::info!(?why, "gave leadership up");
        }
        Core::SteppedDown { why } => tracing::warn!(?why, "gave leadership up"),
        Core::Paused { late_us } => tracing::warn!(late_us, "this process slept through a timer"),
        Core::Elected { ballot, reproposed } => tracing::info!(
            %ballot,
            reproposed,
            "elected; entries that the last leader left unfinished are proposed again"
        ),
        other => tracing::debug!(note = ?other, "agreement"),
    }
}
