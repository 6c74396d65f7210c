//! What a server's driver does around the engine: inputs in, outputs out, and a look at each of them for
//! the checks before anybody else learns of it.

use paxos::{EntryKind, Message, NodeId, WalRecord};
use replica::engine::{self, Note};
use replica::{Input, Job, Output, Stop};

use super::World;
use crate::sim::check::{Verdict, Violation, ensure};
use crate::sim::event::{Event, TwinEvent};
use crate::sim::plan::MS;

impl World {
    pub(in crate::sim) fn is_alive(&self, replica: usize, life: u64) -> bool {
        self.replicas[replica].life == life && self.replicas[replica].process.is_some()
    }

    /// Puts an input into a replica's inbox and has it worked off soon, with what else arrives by then.
    pub(in crate::sim) fn deliver(&mut self, replica: usize, input: impl Into<Input>) {
        if let Some(process) = &mut self.replicas[replica].process {
            process.inbox.push(input.into());
            self.run_soon(replica);
        }
    }

    pub(super) fn run_soon(&mut self, replica: usize) {
        let target = &mut self.replicas[replica];
        let Some(process) = &mut target.process else {
            return;
        };
        if process.run_due || target.paused_until.is_some() {
            return;
        }
        process.run_due = true;
        let wait = if self.dice.permille(250) {
            self.dice.between(1, 300)
        } else {
            0
        };
        let life = target.life;
        let at_us = (self.now_us + wait).max(process.busy_until);
        self.agenda.add(at_us, Event::Run { replica, life });
    }

    pub(super) fn on_run(&mut self, replica: usize, life: u64) -> Verdict {
        if !self.is_alive(replica, life) {
            return Ok(());
        }
        if self.replicas[replica].paused_until.is_some() {
            self.replicas[replica]
                .process
                .as_mut()
                .expect("alive")
                .run_due = false;
            return Ok(());
        }
        self.keep_busy(replica);
        let calls = self.replicas[replica].disk.calls();
        let out = self.replicas[replica].run(self.now_us);
        self.add_calls(replica, calls);
        self.settle(replica, out)?;
        self.schedule_wake(replica);
        self.end_process(replica)
    }

    /// A turn takes time: what arrives meanwhile waits for the next one.
    fn keep_busy(&mut self, replica: usize) {
        let (turn, input) = self.plan.turn_us;
        if let Some(process) = &mut self.replicas[replica].process {
            process.busy_until = self.now_us + turn + input * process.inbox.len() as u64;
        }
    }

    /// So does each call of the disk in it: data files are written at once.
    fn add_calls(&mut self, replica: usize, before: u64) {
        let target = &mut self.replicas[replica];
        let calls = target.disk.calls() - before;
        if let Some(process) = &mut target.process {
            process.busy_until += calls * self.plan.file_us;
        }
    }

    pub(super) fn schedule_wake(&mut self, replica: usize) {
        let now_us = self.now_us;
        let target = &mut self.replicas[replica];
        let Some(process) = &mut target.process else {
            return;
        };
        let next = process.replica.next_wake();
        let at_us = target
            .clock
            .real(next.0.min(i64::MAX as u64 / 4) as i64)
            .max(now_us + 1);
        if process.wake_at.replace(at_us) == Some(at_us) {
            return;
        }
        process.wake += 1;
        let (life, wake) = (target.life, process.wake);
        self.agenda.add(
            at_us,
            Event::Wake {
                replica,
                life,
                wake,
            },
        );
    }

    pub(super) fn on_wake(&mut self, replica: usize, life: u64, wake: u64) {
        let target = &mut self.replicas[replica];
        if target.life == life
            && let Some(process) = &mut target.process
            && process.wake == wake
        {
            process.wake_at = None;
            self.run_soon(replica);
        }
    }

    /// Does what the replica wants, in the order of the server's driver.
    pub(super) fn settle(&mut self, replica: usize, mut out: Output) -> Verdict {
        match out.stop.take() {
            None => {}
            Some(Stop::WriteFailed(why)) => return self.on_disk_error(replica, &why),
            Some(Stop::Damaged(_)) if self.is_old_copy(replica) => {
                let remembered = match out.remember.take() {
                    Some(remember) => self.remember(replica, remember)?,
                    None => true,
                };
                if remembered {
                    self.refuse_copy(replica);
                }
                return Ok(());
            }
            Some(Stop::Damaged(why)) => {
                return ensure(false, "fatal", || format!("replica {replica} stops: {why}"));
            }
        }
        self.watch(replica, &out)?;
        for note in &out.notes {
            self.on_note(replica, note)?;
        }
        for envelope in std::mem::take(&mut out.sends) {
            for peer in &envelope.to {
                self.send(replica, usize::from(peer.0) - 1, &envelope.message);
            }
        }
        let target = self.replicas[replica]
            .process
            .as_mut()
            .expect("it has just run");
        target.log_queue.extend(out.wal);
        if let Some(memories) = out.remember_later.take() {
            target
                .writer
                .note_peers_later(memories.encode())
                .expect("a few members fit");
        }
        if let Some(remember) = out.remember.take()
            && !self.remember(replica, remember)?
        {
            return Ok(());
        }
        self.start_log(replica);
        for (conn, response) in out.replies {
            self.reply(replica, conn, response);
        }
        for job in out.jobs {
            self.start_job(replica, job)?;
        }
        if let Some(release) = out.release {
            self.release(replica, release)?;
        }
        if let Some(next) = out.reclaimable {
            self.tell_reclaimable(replica, &next);
        }
        Ok(())
    }

    fn on_note(&mut self, replica: usize, note: &replica::Note) -> Verdict {
        self.trace
            .line(self.now_us, format_args!("r{replica} {note:?}"));
        match note {
            replica::Note::Engine(note) => self.on_engine_note(replica, note),
            replica::Note::Files(note) => return self.on_file_note(replica, note),
            replica::Note::Snapshot(_) => {}
            replica::Note::LowSpace(true) => self.marks.hit("log disk low"),
            replica::Note::LowSpace(false) => self.marks.hit("log disk has room again"),
        }
        Ok(())
    }

    fn on_engine_note(&mut self, replica: usize, note: &Note) {
        self.mark_note(note);
        match note {
            Note::Core(
                paxos::Note::ElectionStarted { .. } | paxos::Note::TransferStarted { .. },
            ) => self.changes.push(self.now_us),
            Note::Core(paxos::Note::FellBehind { .. }) if self.plan.log_cap_bytes < u64::MAX => {
                self.cut_off.insert(replica);
            }
            _ => {}
        }
    }

    /// Starts what the server has other threads do.
    fn start_job(&mut self, replica: usize, job: Job) -> Verdict {
        let life = self.replicas[replica].life;
        match job {
            Job::File(job) => {
                let takes = self.plan.file_us + self.dice.between(0, self.plan.disk_us.1);
                let job = Box::new(job);
                self.agenda
                    .add(self.now_us + takes, Event::FileJob { replica, life, job });
            }
            Job::Read(part) => self.deliver(replica, Input::Done(replica::Done::Read(part.run()))),
            Job::Load(wanted) => self.load(replica, wanted)?,
            Job::Snapshot { job, files } => {
                let target = self.replicas[replica]
                    .process
                    .as_mut()
                    .expect("it has just run");
                target.snapshot = Some((*job, files));
                let at_us = self.now_us + self.dice.between(MS, 200 * MS);
                self.agenda.add(at_us, Event::Snapshot { replica, life });
            }
            Job::Unlink(needless) => needless.unlink(),
            // Nothing damages a file here; a note of it has ended the run.
            Job::Mark(_) | Job::Rebuild { .. } => {}
        }
        Ok(())
    }

    fn load(&mut self, replica: usize, wanted: paxos::LoadLog) -> Verdict {
        let life = self.replicas[replica].life;
        let target = self.replicas[replica]
            .process
            .as_mut()
            .expect("it has just run");
        let input = replica::records::load(&target.writer.reader(), wanted);
        let input = input.map_err(|error| Violation {
            check: "R3",
            detail: format!("replica {replica}: {error}"),
        })?;
        let at_us = self.now_us + self.dice.between(50, 5 * MS);
        self.marks.hit("log read back");
        self.agenda.add(
            at_us,
            Event::Deliver {
                replica,
                life,
                input: input.into(),
            },
        );
        Ok(())
    }

    /// Everything that the checks want to know of a batch, before anybody else learns of it.
    pub(super) fn watch(&mut self, replica: usize, out: &Output) -> Verdict {
        let target = self.replicas[replica]
            .process
            .as_mut()
            .expect("it has just run");
        let status = target.replica.engine().core().status();
        self.votes.on_chosen_known(replica, status.chosen);
        for append in &out.wal {
            for record in &append.records {
                self.votes.on_submitted(replica, record)?;
                if let WalRecord::Accept { slot, entry, .. } | WalRecord::Chosen { slot, entry } =
                    record
                {
                    if entry.birth().node().0 as usize == replica + 1 {
                        self.history.on_stamped(self.now_us, *slot, entry);
                    }
                    target.submitted.insert(*slot, entry.clone());
                }
            }
        }
        for envelope in &out.sends {
            self.votes.on_sent(replica, &envelope.message)?;
        }
        check_order(replica, &status)?;
        let applied = target.replica.applied();
        let mut new = Vec::new();
        while target.seen < applied {
            target.seen = target.seen.next();
            let entry = target.submitted.remove(&target.seen);
            new.push((target.seen, entry));
        }
        for (slot, entry) in new {
            let entry = entry.ok_or_else(|| Violation {
                check: "R4",
                detail: format!("replica {replica} applied slot {slot}, never handed to its log"),
            })?;
            self.trace.mix(&[
                replica as u64,
                slot.0,
                entry.stamp_ms(),
                entry.birth().raw(),
            ]);
            self.trace.line(
                self.now_us,
                format_args!("r{replica} applied {slot} {:?}", Short(&entry)),
            );
            self.history.on_applied(&self.votes, slot, &entry)?;
            for (lock, token) in self.history.take_ended() {
                self.beliefs.on_ended(self.now_us, &lock, token)?;
            }
            let target = self.replicas[replica]
                .process
                .as_ref()
                .expect("it has just run");
            if slot == applied {
                self.history
                    .check_state(replica, slot, target.replica.engine().machine())?;
            }
        }
        for event in &out.events {
            self.mark_event(event);
        }
        Ok(())
    }

    pub(super) fn send(&mut self, from: usize, to: usize, message: &Message) {
        let Some(process) = &self.replicas[from].process else {
            return;
        };
        let Some(&link) = process.links.get(&to) else {
            return;
        };
        self.trace.line(
            self.now_us,
            format_args!("r{from} -> r{to} {}", message.name()),
        );
        let bytes = if self.network.is_narrow() {
            message.encode().len()
        } else {
            0
        };
        for at_us in self.network.peer_arrivals(self.now_us, from, to, bytes) {
            let message = if self.plan.encode {
                Message::decode(message.encode()).expect("what was encoded decodes")
            } else {
                message.clone()
            };
            self.agenda.add(
                at_us,
                Event::Message {
                    from,
                    to,
                    link,
                    message,
                },
            );
        }
    }

    pub(super) fn on_message(&mut self, from: usize, to: usize, link: u64, message: Message) {
        if !self.network.stands(from, to, link) && !self.network.straggles() {
            return;
        }
        let for_twin = self.is_for_twin(from, to, link);
        let from = NodeId(from as u16 + 1);
        let input = engine::Input::Peer {
            from,
            link,
            message,
        };
        if for_twin {
            let input = Some(Box::new(input.into()));
            self.agenda
                .add(self.now_us, Event::Twin(TwinEvent::Input(input)));
        } else {
            self.deliver(to, input);
        }
    }
}

/// R5: the log is one piece and nothing is ahead of what it follows from.
fn check_order(replica: usize, status: &paxos::Status) -> Verdict {
    let holds = status.applied <= status.chosen
        && status.first.0 <= status.applied.0 + 1
        && status.chosen <= status.last.max(status.chosen);
    ensure(holds, "R5", || format!("replica {replica}: {status:?}"))
}

/// An entry in a line of the trace.
struct Short<'a>(&'a paxos::Entry);

impl std::fmt::Debug for Short<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Short(entry) = self;
        write!(
            f,
            "{:?} birth {} stamp {}",
            entry.kind(),
            entry.birth(),
            entry.stamp_ms()
        )?;
        if entry.kind() == EntryKind::App {
            write!(f, " {:?}", statemachine::Command::decode(&entry.payload()))?;
        }
        Ok(())
    }
}
