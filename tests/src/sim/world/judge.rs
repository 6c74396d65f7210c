//! The second phase: everything is healed, and then the cluster must recover in time and stay well.

use std::collections::BTreeMap;

use paxos::{EntryKind, Role, Slot};

use super::{WATCH_EVERY_US, World};
use crate::sim::check::{Verdict, Violation, ensure, sections};
use crate::sim::event::Event;
use crate::sim::plan::{MS, SECOND};
use crate::sim::replica::Replica;

/// How often it is looked at whether the cluster has recovered.
const JUDGE_EVERY_US: u64 = 50 * MS;

/// Slots by which whoever is behind comes nearer in a second: a single entry at a time over the slowest
/// link takes 20 ms, and the others do little meanwhile.
const CAUGHT_UP_A_SECOND: u64 = 20;

impl World {
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.network.heal();
        self.plan.disk_us = (50, 300);
        (self.plan.turn_us, self.plan.file_us) = ((0, 0), 0);
        self.trace.line(self.now_us, format_args!("healed"));
        for replica in 0..self.replicas.len() {
            let target = &mut self.replicas[replica];
            target.disk.heal();
            target.stalled_until = 0;
            target.fails_writing = false;
            if target.paused_until.take().is_some() {
                self.run_soon(replica);
            }
            let at_us = self.now_us + self.dice.between(0, 20 * MS);
            self.agenda.add(at_us, Event::Start { replica });
        }
        for client in 0..self.clients.len() {
            self.clients[client].0.stop();
            self.schedule_client(client, self.now_us);
        }
        // Six election timeouts, each of up to 2E, after everything has restarted.
        self.judge_by = self.now_us + 12 * self.plan.election_us + 300 * MS;
        self.lead_by = self.judge_by;
        self.agenda.add(self.now_us + JUDGE_EVERY_US, Event::Judge);
    }

    /// Commits go on while faults strike a minority only.
    pub(super) fn watch_progress(&mut self) -> Verdict {
        if self.healed {
            return Ok(());
        }
        let last = self.history.last();
        if last > self.progress.0 {
            self.progress = (last, self.now_us);
        }
        let since = self.progress.1;
        ensure(
            self.now_us - since <= self.plan.patience_us(),
            "progress",
            || {
                format!(
                    "nothing was committed since {since} us although only {:?} had faults: {}",
                    self.plan.victims,
                    self.describe()
                )
            },
        )?;
        self.marks.hit("progress watched");
        self.agenda.add(self.now_us + WATCH_EVERY_US, Event::Watch);
        Ok(())
    }

    /// A client that renews as the library does asked in vain from `asked_us` at the latest until its lock was
    /// lost. Where a majority is healthy that takes more than the loss of one leader.
    pub(super) fn on_lost_lease(
        &mut self,
        client: usize,
        lock: &str,
        asked_us: u64,
        until_us: u64,
    ) -> Verdict {
        let Some(outage_us) = self.plan.outage_us() else {
            return Ok(());
        };
        let since_us = asked_us.saturating_sub(outage_us);
        let changes = self.changes.iter().filter(|at_us| **at_us >= since_us);
        let one_change_at_most = changes.count() <= 1;
        self.marks.hit("healthy holder lost its lease");
        if self.healed || until_us <= asked_us + outage_us || !one_change_at_most {
            return Ok(());
        }
        ensure(false, "lease", || {
            format!(
                "client {client} lost {lock}, for which it had asked since {asked_us} us, at {until_us} us; an outage lasts \
                 {outage_us} us at most while only {:?} have faults: {}",
                self.plan.victims,
                self.describe()
            )
        })
    }

    /// First: one leader, and new work is begun. Then: the work is done, all is equal. Most runs end as soon
    /// as that is so; some are watched to the end of the time allowed, and their leader must last.
    pub(super) fn judge(&mut self) -> Verdict {
        let is_late = self.now_us >= self.judge_by;
        let recovered = match self.probed {
            false => self.has_a_leader(is_late)?,
            true => self.has_done_its_work(is_late)?,
        };
        if !recovered || !(is_late || self.plan.ends_early) {
            self.agenda.add(self.now_us + JUDGE_EVERY_US, Event::Judge);
            return Ok(());
        }
        if self.probed {
            return self.conclude();
        }
        self.probed = true;
        for client in 0..self.clients.len() {
            let now = self.clients[client].1.local(self.now_us);
            self.clients[client].0.probe(now);
            self.after_client(client)?;
        }
        self.judge_by = self.now_us + self.plan.term_ms.1 * MS * 2 + 2 * SECOND;
        self.agenda.add(self.now_us + JUDGE_EVERY_US, Event::Judge);
        Ok(())
    }

    /// From the time by which there must be one leader, one leads at every moment to the end of the run, and it
    /// is always the same. Where the lowest id is preferred, a leader may hand over to a lower id, which takes an
    /// election at most.
    pub(super) fn watch_leader(&mut self) -> Verdict {
        if self.now_us < self.lead_by {
            return Ok(());
        }
        let leaders: Vec<usize> = (0..self.replicas.len())
            .filter(|r| self.leads(*r))
            .collect();
        let hands_over = self.plan.prefer_lowest;
        if let [leader] = leaders[..] {
            let before = self.leader.replace((leader, self.now_us));
            return ensure(
                before.is_none_or(|(before, _)| leader == before || hands_over && leader < before),
                "one leader",
                || {
                    format!(
                        "replica {leader} leads after {before:?}, although nothing is amiss: {}",
                        self.describe()
                    )
                },
            );
        }
        ensure(self.may_be_handing_over(), "one leader", || {
            format!(
                "{leaders:?} lead, and the one before is {:?}, although nothing is amiss: {}",
                self.leader,
                self.describe()
            )
        })
    }

    /// Whether the leader may just be handing over to a lower id, so that for the time of an election nobody leads.
    fn may_be_handing_over(&self) -> bool {
        let since = self.leader.map_or(self.lead_by, |(_, at_us)| at_us);
        self.plan.prefer_lowest && self.now_us.saturating_sub(since) <= 2 * self.plan.election_us
    }

    /// Whether there is one leader, as there must be in time.
    fn has_a_leader(&self, is_late: bool) -> Result<bool, Violation> {
        let leaders: Vec<usize> = (0..self.replicas.len())
            .filter(|r| self.leads(*r))
            .collect();
        let excused = !is_late || leaders.is_empty() && self.may_be_handing_over();
        ensure(leaders.len() == 1 || excused, "liveness", || {
            format!("{leaders:?} lead: {}", self.describe())
        })?;
        Ok(leaders.len() == 1)
    }

    /// Whether every client is answered and every replica equal, as they must be in time.
    fn has_done_its_work(&mut self, is_late: bool) -> Result<bool, Violation> {
        let one_leads = self.has_a_leader(is_late || !self.plan.ends_early)?;
        let busy = self
            .clients
            .iter()
            .position(|(client, _)| !client.is_idle());
        let (_, gap) = self.farthest_behind(self.history.last());
        let carried_out = self.replicas.iter().all(|replica| {
            let process = replica.process.as_ref();
            process.is_none_or(|process| process.replica.effects_waiting() == 0)
        });
        ensure(carried_out || !is_late, "liveness", || {
            format!("files are still to be changed: {}", self.describe())
        })?;
        let (slowest, left) = self.farthest_behind(self.last_taken());
        if is_late && left > 20 && (gap > 20 || busy.is_some()) {
            self.must_come_nearer(slowest, left)?;
            return Ok(false);
        }
        ensure(busy.is_none() || !is_late, "liveness", || {
            format!("client {busy:?} still waits: {}", self.describe())
        })?;
        Ok(one_leads && busy.is_none() && carried_out && (is_late || gap == 0))
    }

    /// The last slot that the leader took a command into, or that anybody applied.
    fn last_taken(&self) -> Slot {
        let led = (0..self.replicas.len()).filter(|r| self.leads(*r));
        let last = led.filter_map(|leader| self.replicas[leader].process.as_ref());
        let last = last
            .map(|process| process.replica.engine().core().status().last)
            .max();
        self.history.last().max(last.unwrap_or_default())
    }

    /// The replica that has applied least of everything up to `last`, and how much it lacks.
    fn farthest_behind(&self, last: Slot) -> (usize, u64) {
        // Snapshots are not sent yet: a replica that lacks what all others cut stays behind.
        self.replicas
            .iter()
            .filter(|replica| {
                !self.cut_off.contains(&replica.index)
                    && !self.out_of_service.contains(&replica.index)
            })
            .map(|replica| {
                let applied = replica.process.as_ref().map(|p| p.replica.applied());
                (replica.index, last.0 - applied.map_or(0, |slot| slot.0))
            })
            .max_by_key(|(_, gap)| *gap)
            .unwrap_or((0, 0))
    }

    /// A replica that takes a single entry at a time, as the tightest window lets it, is given the time it
    /// needs, as long as it comes nearer in every second. So is a leader for what it took while the faults lasted:
    /// with that window and disks of up to 0.2 s it commits 7 a second, and clients wait behind the hundreds that
    /// it took. Retries that grow faster than they drain bring it no nearer.
    fn must_come_nearer(&mut self, index: usize, gap: u64) -> Verdict {
        let nearer = gap.saturating_add(CAUGHT_UP_A_SECOND) <= self.was_behind;
        ensure(nearer, "liveness", || {
            format!(
                "replica {index} is {gap} slots behind; a second ago one was {} behind: {}",
                self.was_behind,
                self.describe()
            )
        })?;
        self.was_behind = gap;
        self.judge_by = self.now_us + SECOND;
        self.marks.hit("still catching up");
        Ok(())
    }

    /// The last checks of a run.
    fn conclude(&mut self) -> Verdict {
        for replica in 0..self.replicas.len() {
            if self.out_of_service.contains(&replica) {
                continue;
            }
            self.check_files(replica)?;
        }
        self.check_sections()?;
        self.marks
            .hit(if self.history.count(EntryKind::LeaderStart) > 1 {
                "leader changed"
            } else {
                "one leader all along"
            });
        self.done = true;
        Ok(())
    }

    pub(in crate::sim) fn leads(&self, replica: usize) -> bool {
        let process = self.replicas[replica].process.as_ref();
        process.is_some_and(|process| process.replica.engine().core().role() == Role::Leader)
    }

    pub(super) fn check_sections(&self) -> Verdict {
        let sections: Vec<_> = self
            .clients
            .iter()
            .flat_map(|(client, _)| client.sections())
            .cloned()
            .collect();
        let files: BTreeMap<String, Vec<u8>> = self
            .history
            .files()
            .map(|(name, content)| (name, content.to_vec()))
            .collect();
        sections::check(&sections, &files, |file| file.starts_with("temp_"))
    }

    /// How the replicas stand, for a failure's report.
    pub(super) fn describe(&self) -> String {
        let line = |replica: &Replica| match &replica.process {
            None => format!("r{} down", replica.index),
            Some(process) => {
                let status = process.replica.engine().core().status();
                format!(
                    "r{} {:?} {} chosen {} last {} applied {} waiting {}",
                    replica.index,
                    status.role,
                    status.ballot,
                    status.chosen,
                    status.last,
                    process.replica.applied(),
                    process.replica.effects_waiting()
                )
            }
        };
        self.replicas
            .iter()
            .map(line)
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// The hash of everything that happened.
    pub(crate) fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    /// How many clients there are.
    pub(in crate::sim) fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// Slots that were chosen.
    pub(crate) fn slots(&self) -> u64 {
        self.history.last().0
    }
}
