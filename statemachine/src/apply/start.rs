//! Beginnings: of the cluster, whose settings are agreed once, and of a new leader.

use crate::apply::{Step, file};
use crate::name::DEFAULT_LOCK;
use crate::state::State;
use crate::{Event, FileId, Settings};

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

/// Leaves all who live a moment: a change of leader must cost no live client its lock.
pub(crate) fn lead(state: &mut State, step: &mut Step, grace_ms: u64) {
    state.give(grace_ms);
    step.event(Event::LeaderStarted { grace_ms });
}
