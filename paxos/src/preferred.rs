//! The election policy for those who want the leader to be predictable: the lowest live,
//! caught-up id leads.
//!
//! Elections stay as they are, whoever can lead may; a leader that sees a lower id caught up and
//! healthy for a few heartbeats hands leadership to it. So the policy can delay nothing and break
//! nothing.

use std::collections::BTreeMap;

use crate::core::{Core, Part};
use crate::ident::NodeId;
use crate::outbox::Outbox;

/// Heartbeats in a row at which the preferred replica must be caught up and healthy.
const STEADY_HEARTBEATS: u32 = 3;

impl Core {
    /// Looks for a lower id that should lead, once per heartbeat.
    pub(crate) fn prefer_lowest(&mut self, out: &mut Outbox) {
        if !self.config.prefer_lowest_id {
            return;
        }
        let fit = self.fit_to_lead();
        let (own, now) = (self.own(), self.now);
        let Some(leadership) = self.leadership_mut() else {
            return;
        };
        for (node, stream) in &mut leadership.streams {
            let fit = fit.get(node).copied().unwrap_or(false);
            stream.steady = if fit {
                stream.steady.saturating_add(1)
            } else {
                0
            };
        }
        if now < leadership.prefer_at {
            return;
        }
        let steady = |(_, s): &(&NodeId, &crate::stream::Stream)| s.steady >= STEADY_HEARTBEATS;
        let lowest = leadership
            .streams
            .iter()
            .find(steady)
            .map(|(&node, _)| node);
        if let Some(to) = lowest.filter(|&to| to < own && self.may_be_handed(to)) {
            self.note_handed(to);
            self.begin_transfer(to, out);
        }
    }

    fn fit_to_lead(&self) -> BTreeMap<NodeId, bool> {
        let Part::Leader(leadership) = &self.part else {
            return BTreeMap::new();
        };
        let chosen = self.log.chosen();
        let fit = |(&node, stream): (&NodeId, &crate::stream::Stream)| {
            // Under load the last few slots are always on their way.
            let near = stream.durable >= chosen || stream.received >= chosen;
            (node, near && self.is_healthy(node, stream))
        };
        leadership.streams.iter().map(fit).collect()
    }
}
