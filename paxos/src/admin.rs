//! What operators and the driver ask for beside commands and reads.

use crate::core::{Core, Part};
use crate::input::Admin;
use crate::outbox::{Outbox, Why};

impl Core {
    /// An operator's wish.
    pub(crate) fn on_admin(&mut self, admin: Admin, out: &mut Outbox) {
        let leads = matches!(self.part, Part::Leader(_));
        match admin {
            Admin::Transfer { to } if leads => self.begin_transfer(to, out),
            Admin::TransferAny if leads => {
                if let Some(to) = self.healthiest() {
                    self.begin_transfer(to, out);
                }
            }
            Admin::StepDown if leads => {
                self.become_follower(Why::Asked, out);
                // The others go first.
                self.election_at = self.election_at.after(self.config.election_us);
            }
            Admin::Campaign if !leads => self.on_leader_lost(out),
            _ => {}
        }
    }
}
