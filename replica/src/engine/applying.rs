//! From the core's word to the clients' answers: what became of proposals, and the applying of what
//! was chosen.

use net::ResponseBody;
use paxos::{Entry, EntryKind, LeaderStart, MonoTime, Reject, Slot};
use statemachine::{Applied, At, ClusterTime, Effects, Event, FileOp, LeftQueueWhy, Settings};

use super::homes::loss;
use super::requests::{Carried, Key, Placed, Unanswered};
use super::{Effect, Engine, Note, Origin, Output};

/// Bytes read back from the log at once, however little memory is set aside for what waits: each
/// reading costs time, and with a few entries each the rest would grow faster than it shrinks.
const READ_BACK_BYTES_MIN: usize = 256 << 10;

/// Bytes of entries applied between two ticks, and one entry at least: heartbeats and votes wait no longer behind a
/// backlog. Keep-alives cost most: with a million locks an entry of 4,400 of them took 19 ms
/// (`docs/measurements/state-at-scale.md`), and a few such entries fit in.
pub(super) const APPLY_BYTES_PER_TICK: usize = 256 << 10;

/// Slots from one hash of the state to the next that replicas compare. The same for all, or they would have
/// no slot in common.
pub(super) const STATE_HASH_SLOTS: u64 = 64;

impl Engine {
    /// Which proposals stand in the log, and which came back.
    pub(super) fn on_proposals(&mut self, out: &mut Output) {
        for (id, slot, stamp_ms) in self.outbox.placed.drain(..) {
            self.requests.on_placed(id, slot, stamp_ms, self.ballot);
        }
        for (id, reject) in std::mem::take(&mut self.outbox.rejects) {
            let Some(carried) = self.requests.take_rejected(id) else {
                continue;
            };
            for origin in self.requests.origins(carried) {
                self.finish_request(origin, self.refusal(&reject), out);
            }
        }
        for (id, slot) in self.outbox.reads_ready.drain(..) {
            self.reads.on_ready(id, slot);
        }
        for (id, reject) in std::mem::take(&mut self.outbox.reads_failed) {
            for read in self.reads.on_failed(id) {
                self.finish_request(read.origin, self.read_refusal(&reject), out);
            }
        }
    }

    /// Takes over what was chosen and applies as much as may be: after a hiccup more may have been chosen than is
    /// applied within an election timeout, and a turn that long would bring about the next hiccup. The rest goes on
    /// with the next tick, which [`Engine::next_wake`] asks for at once.
    pub(super) fn apply_chosen(&mut self, now: MonoTime, out: &mut Output) {
        for chosen in self.outbox.chosen.drain(..) {
            if self.backlog.push(chosen.slot, chosen.entry) {
                out.notes.push(Note::BacklogSpilled { from: chosen.slot });
            }
        }
        if self.files_blocked {
            return;
        }
        while self.apply_bytes_left > 0
            && let Some((slot, entry)) = self.backlog.pop()
        {
            self.apply_bytes_left = self.apply_bytes_left.saturating_sub(entry.size_bytes());
            self.apply(now, slot, &entry, out);
        }
        if let Some(from) = self.backlog.ask(self.core.settled()) {
            let upto = self.core.settled();
            let max_bytes = self.options.limits.backlog_bytes.max(READ_BACK_BYTES_MIN);
            out.load_log.push(paxos::LoadLog {
                to: self.id(),
                from,
                upto,
                max_bytes,
            });
        }
    }

    fn apply(&mut self, now: MonoTime, slot: Slot, entry: &Entry, out: &mut Output) {
        assert_eq!(
            slot.0,
            self.applied.0 + 1,
            "entries are applied in slot order"
        );
        let moved = self.clock.observe(slot, entry);
        self.applied = slot;
        self.pacing.on_applied(entry.size_bytes(), now);
        let own = self.requests.take_placed(slot, entry.birth());
        let before = match entry.kind() {
            EntryKind::Settings => self.machine.settings().cloned(),
            _ => None,
        };
        let effects = apply_entry(&mut self.machine, slot, entry, moved);
        if entry.kind() == EntryKind::Settings {
            // A restart applies what is in the log again: that is no news.
            let is_new = slot > self.last_at_start && self.machine.settings() != before.as_ref();
            if is_new && self.role == paxos::Role::Leader {
                self.notes.push(Note::SettingsProposed);
            }
            self.compare_settings();
            out.notes.append(&mut self.notes);
        }
        for op in effects.files {
            if let FileOp::Write { data, .. } = &op {
                self.disk.on_written(data.len() as u64);
            }
            out.effects.push(Effect::File(op));
        }
        for event in &effects.events {
            if let Event::LeftQueue {
                session,
                seq,
                why: LeftQueueWhy::GivenUp,
                ..
            } = event
            {
                self.requests.give_up((*session, *seq), slot, out);
            }
        }
        let losses: Vec<_> = effects.events.iter().filter_map(loss).collect();
        let asked = own.as_ref().and_then(Placed::conn);
        out.events.extend(effects.events);
        self.answer(now, slot, own, moved.counts, effects.replies, out);
        for (session, refusal) in losses {
            self.requests.tell_loss(session, refusal, asked, slot, out);
        }
        self.disk
            .on_applied(now, matches!(entry.kind(), EntryKind::App));
        self.snapshots
            .on_applied(now, slot, &self.machine, &self.clock);
        if slot.0.is_multiple_of(STATE_HASH_SLOTS) {
            self.state_hashes.push((slot, self.machine.state_hash()));
        }
    }

    fn answer(
        &mut self,
        now: MonoTime,
        slot: Slot,
        own: Option<Placed>,
        counts: bool,
        replies: Vec<statemachine::Reply>,
        out: &mut Output,
    ) {
        if own.as_ref().is_some_and(Placed::is_gathered) {
            self.gather.on_applied();
        }
        match self.requests.answer(slot, own, counts, replies, out) {
            None => {}
            Some(Unanswered {
                stamp_ms,
                carried:
                    Carried::Command {
                        origin,
                        key,
                        joined,
                        ..
                    },
            }) => {
                self.wait(origin, key, stamp_ms, out);
                for later in joined {
                    self.wait(later, key, None, out);
                }
            }
            Some(Unanswered {
                carried: Carried::Health { origin, since },
                ..
            }) => {
                let commit_us = now.0.saturating_sub(since.0);
                self.finish_request(origin, ResponseBody::Health { commit_us }, out);
            }
            Some(Unanswered { carried, .. }) => {
                for origin in self.requests.origins(carried) {
                    let reason = "the command has no answer".to_owned();
                    self.finish_request(origin, ResponseBody::Bad { reason }, out);
                }
            }
        }
    }

    /// An attempt whose entry gave no answer: its acquire waits in the queue.
    fn wait(&mut self, origin: Origin, key: Key, stamp_ms: Option<u64>, out: &mut Output) {
        let position = match key {
            Key::Command(session, seq) => self.machine.waiting_position(session, seq),
            Key::Nonce(_) | Key::Settle(_) => None,
        };
        match (key, position) {
            (Key::Command(session, seq), Some(position)) => {
                if self.requests.attach((session, seq), origin, stamp_ms, out) {
                    out.reply(origin, ResponseBody::Waiting { position });
                }
            }
            _ => {
                let reason = "the command has no answer".to_owned();
                self.finish_request(origin, ResponseBody::Bad { reason }, out);
            }
        }
    }

    /// The cluster's settings are those of its first leader, whatever the flags here say. The rules
    /// and their limits follow the program and no flag, so they are left out.
    pub(super) fn compare_settings(&mut self) {
        let Some(agreed) = self.machine.settings() else {
            return;
        };
        let own = self.options.settings.clone().under_rules_of(agreed);
        let differ = (*agreed != own).then(|| settings_differ(agreed, &own));
        if differ.is_some() && differ != self.differ_told {
            self.notes.extend(differ.clone());
        }
        self.differ_told = differ;
    }

    fn refusal(&self, reject: &Reject) -> ResponseBody {
        match reject {
            Reject::NotLeader { hint } => self.redirect(*hint),
            Reject::Busy => ResponseBody::Unavailable {
                reason: "leader is overloaded or hands over; retry".to_owned(),
                retry_ms: 0,
            },
            Reject::Lost => ResponseBody::Unknown {
                reason: "leadership was lost before the command was known to be chosen".to_owned(),
            },
        }
    }

    /// A read changes nothing, so one that failed is certainly not done.
    fn read_refusal(&self, reject: &Reject) -> ResponseBody {
        match reject {
            Reject::Lost => self.not_leader(),
            other => self.refusal(other),
        }
    }
}

/// Applies one chosen entry to the machine: the one rule for the engine, the boot's replay and whoever
/// replays a log elsewhere. `moved` is what the cluster clock says of the entry.
pub fn apply_entry(
    machine: &mut statemachine::Machine,
    slot: Slot,
    entry: &Entry,
    moved: paxos::Moved,
) -> Effects {
    let at = At {
        slot: statemachine::Slot(slot.0),
        time: ClusterTime(moved.time_ms),
        wall_ms: entry.wall_ms(),
    };
    let payload = entry.payload();
    let what = match entry.kind() {
        EntryKind::App => Applied::Encoded(&payload),
        // What does not decode here decodes nowhere, so all replicas pass over it alike.
        EntryKind::Settings => match Settings::decode(&payload) {
            Ok(settings) => Applied::Settings(settings),
            Err(_) => Applied::Time,
        },
        EntryKind::LeaderStart if moved.counts => Applied::LeaderStart {
            grace_ms: LeaderStart::decode(entry).grace_ms,
        },
        EntryKind::LeaderStart | EntryKind::Config | EntryKind::Time | EntryKind::Noop => {
            Applied::Time
        }
    };
    machine.apply(at, what)
}

/// Only the settings that differ, each as `name: value`.
fn settings_differ(agreed: &Settings, own: &Settings) -> Note {
    let (agreed, own) = (format!("{agreed:?}"), format!("{own:?}"));
    let fields = |text: &str| -> Vec<String> {
        let inside = text.split_once('{').map_or("", |(_, inside)| inside);
        let fields = inside.trim_end_matches('}').split(',');
        fields.map(|field| field.trim().to_owned()).collect()
    };
    let (agreed, own): (Vec<_>, Vec<_>) = fields(&agreed)
        .into_iter()
        .zip(fields(&own))
        .filter(|(agreed, own)| agreed != own)
        .unzip();
    Note::SettingsDiffer {
        agreed: agreed.join(", "),
        own: own.join(", "),
    }
}
