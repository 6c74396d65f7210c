//! The second phase: everything is healed, and then the cluster must recover in time.

use std::collections::BTreeMap;

use paxos::{EntryKind, Role};

use super::{WATCH_EVERY_US, World};
use crate::sim::check::{Verdict, ensure, sections};
use crate::sim::event::Event;
use crate::sim::plan::{MS, SECOND};
use crate::sim::replica::Replica;

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
        self.agenda.add(
            self.now_us + 12 * self.plan.election_us + 300 * MS,
            Event::Judge,
        );
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

    /// First: one leader, and new work is begun. Then: the work is done, all is equal.
    pub(super) fn judge(&mut self) -> Verdict {
        let leaders: Vec<usize> = (0..self.replicas.len())
            .filter(|r| self.leads(*r))
            .collect();
        ensure(leaders.len() == 1, "liveness", || {
            format!("{leaders:?} lead: {}", self.describe())
        })?;
        if !self.probed {
            self.probed = true;
            for client in 0..self.clients.len() {
                let now = self.clients[client].1.local(self.now_us);
                self.clients[client].0.probe(now);
                self.after_client(client)?;
            }
            let terms = self.plan.term_ms.1 * MS * 2 + 2 * SECOND;
            self.agenda.add(self.now_us + terms, Event::Judge);
            return Ok(());
        }
        let busy = self
            .clients
            .iter()
            .position(|(client, _)| !client.is_idle());
        ensure(busy.is_none(), "liveness", || {
            format!("client {busy:?} still waits: {}", self.describe())
        })?;
        let last = self.history.last();
        let behind = self.replicas.iter().find(|replica| {
            // Snapshots are not sent yet: a replica that lacks what all others cut stays behind.
            !self.cut_off.contains(&replica.index)
                && replica
                    .process
                    .as_ref()
                    .is_none_or(|p| p.engine.applied().0 + 20 < last.0)
        });
        ensure(behind.is_none(), "liveness", || {
            format!(
                "replica {:?} is behind slot {last}: {}",
                behind.map(|r| r.index),
                self.describe()
            )
        })?;
        for replica in 0..self.replicas.len() {
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
        process.is_some_and(|process| process.engine.core().role() == Role::Leader)
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
                let status = process.engine.core().status();
                format!(
                    "r{} {:?} {} chosen {} last {} applied {} blocked {}",
                    replica.index,
                    status.role,
                    status.ballot,
                    status.chosen,
                    status.last,
                    process.engine.applied(),
                    process.blocked
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
