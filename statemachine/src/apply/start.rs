//! Beginnings: of the cluster, whose settings are agreed once, and of a new leader.

use crate::apply::{Step, file};
use crate::deadline::Ending;
use crate::name::{DEFAULT_LOCK, Name};
use crate::state::State;
use crate::{ClusterTime, Event, FileId, SessionId, Settings};

/// Takes the first settings that come, and makes the first files. Of later ones only newer rules
/// count.
pub(crate) fn settle(state: &mut State, step: &mut Step, settings: Settings) {
    let sound = settings.check().is_ok();
    if let Some(agreed) = &state.settings {
        let adopted = sound && agreed.rules < settings.rules;
        step.event(Event::Settings { adopted });
        if adopted {
            state.settings = Some(agreed.clone().under_rules_of(&settings));
        }
        return;
    }
    step.event(Event::Settings { adopted: sound });
    if !sound {
        return;
    }
    for number in 0..settings.files {
        let name = format!("file_{number}");
        if !state.files().contains_key(name.as_str()) {
            file::make(
                state,
                step,
                FileId(step.slot.0, number),
                &name,
                DEFAULT_LOCK,
            );
        }
    }
    state.settings = Some(settings);
}

/// Leaves each session and lease at least `grace_ms`, or its own term if that is shorter: a
/// change of leader must cost no live client its lock. Waits are not extended.
pub(crate) fn lead(state: &mut State, step: &mut Step, grace_ms: u64) {
    let lifted = |term_ms: u64| state.time.after(term_ms.min(grace_ms));
    let mut sessions: Vec<(SessionId, ClusterTime)> = Vec::new();
    let mut leases: Vec<(Name, ClusterTime)> = Vec::new();
    // What is due has ended, whether it is cleared away or not.
    for due in state.dues().between(state.time, state.time.after(grace_ms)) {
        match &due.what {
            Ending::Session(id) => {
                let deadline = lifted(state.sessions()[id].ttl_ms);
                if due.at < deadline {
                    sessions.push((*id, deadline));
                }
            }
            Ending::Lease(_, lock) => {
                let holder = state.locks()[lock].holder.as_ref().expect("it has a lease");
                let deadline = lifted(holder.lease_ms);
                if due.at < deadline {
                    leases.push((lock.clone(), deadline));
                }
            }
            Ending::Wait(_) => {}
        }
    }
    let extended = (sessions.len() + leases.len()) as u64;
    for (id, deadline) in sessions {
        state.extend_session(id, deadline);
    }
    for (lock, deadline) in leases {
        state.set_lease(&lock, deadline);
    }
    step.event(Event::LeaderStarted { extended });
}
