//! Going back to follower, from any role.

use crate::ballot::Ballot;
use crate::core::{Core, Part};
use crate::outbox::{Note, Outbox, Reject, Why};

impl Core {
    /// Stops whatever this replica was after. A leader says of each placed proposal that its
    /// outcome is unknown, and of each read that it must be asked elsewhere.
    pub(crate) fn become_follower(&mut self, why: Why, out: &mut Outbox) {
        let part = std::mem::replace(&mut self.part, Part::Follower);
        self.excused = false;
        self.rearm_election();
        let Part::Leader(mut leadership) = part else {
            return;
        };
        let chosen = self.log.chosen();
        let open = leadership.placed.iter().filter(|(slot, _)| *slot > chosen);
        out.rejects.extend(open.map(|&(_, id)| (id, Reject::Lost)));
        let reads = leadership.reads.drain().into_iter();
        out.reads_failed
            .extend(reads.map(|id| (id, Reject::NotLeader { hint: None })));
        out.notes.push(Note::SteppedDown { why });
    }

    /// A ballot was met somewhere: the next own one will be above it. Seeing is not promising.
    pub(crate) fn see(&mut self, ballot: Ballot) {
        self.ballot_seen = self.ballot_seen.max(ballot);
    }
}
