//! The whole: replicas, clients, network, faults and checks, driven by one agenda.
//!
//! Two phases. First faults strike while clients work. Then everything is healed and all replicas are
//! started; within a bounded time there must be one leader, equal state everywhere, and new work done.

use std::collections::BTreeMap;

use net::ResponseBody;
use node::engine::{ConnId, Effect, Input, Output};
use node::filestore::{CheckStep, FileError, ReadError};
use node::records;
use paxos::birth::BirthRecord;
use paxos::{DiskId, EntryKind, Message, NodeId, Role, Slot, WalRecord};

use super::check::beliefs::Beliefs;
use super::check::history::{Asked, History};
use super::check::sections;
use super::check::votes::Votes;
use super::check::{Verdict, Violation, ensure};
use super::client::{Act, Client};
use super::dice::Dice;
use super::event::{Agenda, Event};
use super::marks::Marks;
use super::network::{Network, ToClient};
use super::plan::{Fault, MS, Plan, SECOND};
use super::replica::{self, Clock, Replica};
use super::trace::Trace;

/// Connections that could stand are tried this often.
const MESH_EVERY_US: u64 = 30 * MS;

/// Everything there is. See the module.
#[derive(Debug)]
pub struct World {
    pub(super) now_us: u64,
    pub(super) plan: Plan,
    pub(super) agenda: Agenda,
    pub(super) dice: Dice,
    pub(super) replicas: Vec<Replica>,
    pub(super) network: Network,
    clients: Vec<(Client, Clock)>,
    client_wakes: Vec<u64>,
    /// The number of each client's connection to each replica.
    conns: BTreeMap<(usize, usize), u64>,
    conn_owners: BTreeMap<u64, usize>,
    next_conn: u64,
    /// Each attempt under way.
    asked: BTreeMap<u64, Asked>,
    /// What had been answered when each call was first made.
    floors: BTreeMap<(usize, u64), u64>,
    votes: Votes,
    history: History,
    beliefs: Beliefs,
    pub(super) marks: Marks,
    pub(super) trace: Trace,
    pub(super) healed: bool,
    probed: bool,
    done: bool,
}

impl World {
    /// The world of a plan, with a cluster just born.
    pub fn new(plan: Plan, verbose: bool) -> Result<World, Violation> {
        let mut dice = Dice::new(plan.seed, 3);
        let ppm = if plan.drift { 9_900 } else { 0 };
        let replicas = (0..usize::from(plan.replicas))
            .map(|index| {
                let clock = Clock::draw(&mut dice, ppm);
                Replica::new(index, clock, replica::config(index, &plan))
            })
            .collect();
        let clients = (0..plan.clients)
            .map(|index| (Client::new(index, &plan), Clock::draw(&mut dice, ppm)))
            .collect();
        let mut world = World {
            now_us: 0,
            agenda: Agenda::default(),
            dice,
            replicas,
            network: Network::new(&plan),
            clients,
            client_wakes: vec![0; plan.clients],
            conns: BTreeMap::new(),
            conn_owners: BTreeMap::new(),
            next_conn: 0,
            asked: BTreeMap::new(),
            floors: BTreeMap::new(),
            votes: Votes::new(usize::from(plan.replicas)),
            history: History::new(),
            beliefs: Beliefs::default(),
            marks: Marks::default(),
            trace: Trace::new(verbose),
            healed: false,
            probed: false,
            done: false,
            plan,
        };
        world.bear()?;
        world.prepare_agenda();
        Ok(world)
    }

    /// The birth protocol has its own tests: here every replica has its record from the start.
    fn bear(&mut self) -> Verdict {
        let refused = |refusal: node::boot::Refusal| Violation {
            check: "boot",
            detail: refusal.to_string(),
        };
        let mut members = Vec::new();
        for replica in &mut self.replicas {
            let disk = replica.format().map_err(refused)?;
            members.push((NodeId(replica.index as u16 + 1), DiskId(disk)));
        }
        let cluster = u128::from(self.dice.word()) | 1;
        let record = BirthRecord {
            cluster,
            name: "sim".to_owned(),
            members,
        };
        for replica in &mut self.replicas {
            replica.bear(&record).map_err(refused)?;
        }
        Ok(())
    }

    fn prepare_agenda(&mut self) {
        for replica in 0..self.replicas.len() {
            let at_us = self.dice.between(0, 50 * MS);
            self.agenda.add(at_us, Event::Start { replica });
        }
        for client in 0..self.clients.len() {
            self.schedule_client(client, self.now_us);
        }
        self.agenda.add(MS, Event::Mesh);
        self.agenda.add(self.plan.safety_us, Event::Heal);
        if !self.plan.faults.is_empty() {
            self.agenda.add(300 * MS, Event::Nemesis);
        }
    }

    /// Runs to the end.
    pub fn run(&mut self) -> Verdict {
        while !self.done {
            let Some((at_us, event)) = self.agenda.next() else {
                break;
            };
            self.now_us = at_us;
            self.step(event)?;
        }
        ensure(self.done, "liveness", || {
            "nothing is left to happen".to_owned()
        })
    }

    fn step(&mut self, event: Event) -> Verdict {
        match event {
            Event::Deliver {
                replica,
                life,
                input,
            } => {
                if self.is_alive(replica, life) {
                    self.deliver(replica, input);
                }
                Ok(())
            }
            Event::Message {
                from,
                to,
                link,
                message,
            } => {
                self.on_message(from, to, link, message);
                Ok(())
            }
            Event::Run { replica, life } => self.on_run(replica, life),
            Event::Wake {
                replica,
                life,
                wake,
            } => {
                let counts = self.is_alive(replica, life)
                    && self.replicas[replica]
                        .process
                        .as_ref()
                        .is_some_and(|p| p.wake == wake);
                if counts {
                    self.run_soon(replica);
                }
                Ok(())
            }
            Event::LogDone { replica, life } => self.on_log_done(replica, life),
            Event::Snapshot { replica, life } => self.on_snapshot(replica, life),
            Event::RetryEffects { replica, life } => {
                if self.is_alive(replica, life) {
                    self.carry_out(replica)
                } else {
                    Ok(())
                }
            }
            Event::CheckFiles { replica, life } => self.on_check_files(replica, life),
            Event::Housekeep { replica, life } => self.on_housekeep(replica, life),
            Event::Start { replica } => self.on_start(replica),
            Event::Resume { replica, life } => {
                if self.is_alive(replica, life) {
                    self.replicas[replica].paused_until = None;
                    self.run_soon(replica);
                }
                Ok(())
            }
            Event::Room { replica } => {
                self.replicas[replica].disk.limit_room(None);
                Ok(())
            }
            Event::Mesh => {
                self.mesh();
                Ok(())
            }
            Event::Mend => {
                self.network.mend();
                Ok(())
            }
            Event::Request {
                replica,
                conn,
                request,
            } => {
                self.on_request(replica, conn, request);
                Ok(())
            }
            Event::ToClient { client, what } => self.on_to_client(client, what),
            Event::ClientWake { client, wake } => {
                if self.client_wakes[client] != wake {
                    return Ok(());
                }
                let now = self.clients[client].1.local(self.now_us);
                self.clients[client].0.wake(now);
                self.after_client(client)
            }
            Event::Nemesis => {
                self.strike();
                Ok(())
            }
            Event::Heal => {
                self.heal();
                Ok(())
            }
            Event::Judge => self.judge(),
        }
    }

    // ---- replicas

    pub(super) fn is_alive(&self, replica: usize, life: u64) -> bool {
        self.replicas[replica].life == life && self.replicas[replica].process.is_some()
    }

    /// Puts an input into a replica's inbox and has it worked off soon, with what else arrives by then.
    pub(super) fn deliver(&mut self, replica: usize, input: Input) {
        if let Some(process) = &mut self.replicas[replica].process {
            process.inbox.push(input);
            self.run_soon(replica);
        }
    }

    fn run_soon(&mut self, replica: usize) {
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
        self.agenda
            .add(self.now_us + wait, Event::Run { replica, life });
    }

    fn on_run(&mut self, replica: usize, life: u64) -> Verdict {
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
        let out = self.replicas[replica].run(self.now_us);
        self.settle(replica, out)?;
        self.schedule_wake(replica);
        self.end_process(replica)
    }

    fn schedule_wake(&mut self, replica: usize) {
        let now_us = self.now_us;
        let target = &mut self.replicas[replica];
        let Some(process) = &mut target.process else {
            return;
        };
        let next = process.engine.next_wake();
        let at_us = target
            .clock
            .real(next.0.min(i64::MAX as u64 / 4) as i64)
            .max(now_us + 1);
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

    /// Does what the engine wants, in the order of the server's driver.
    fn settle(&mut self, replica: usize, mut out: Output) -> Verdict {
        if let Some(why) = out.fatal.take() {
            return ensure(false, "fatal", || format!("replica {replica} stops: {why}"));
        }
        self.watch(replica, &out)?;
        for note in &out.notes {
            self.mark_note(note);
            self.trace
                .line(self.now_us, format_args!("r{replica} {note:?}"));
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
        target.effects.extend(out.effects);
        self.start_log(replica);
        let life = self.replicas[replica].life;
        self.carry_out(replica)?;
        if !self.is_alive(replica, life) {
            return Ok(());
        }
        for wanted in out.load_log {
            let target = self.replicas[replica]
                .process
                .as_mut()
                .expect("it has just run");
            let input =
                records::load(&target.writer.reader(), wanted).map_err(|error| Violation {
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
                    input,
                },
            );
        }
        if let Some(job) = out.snapshot {
            let target = self.replicas[replica]
                .process
                .as_mut()
                .expect("it has just run");
            target.snapshot = Some(job);
            let at_us = self.now_us + self.dice.between(MS, 200 * MS);
            self.agenda.add(at_us, Event::Snapshot { replica, life });
        }
        if let Some(release) = out.release_log {
            self.release(replica, release)?;
        }
        Ok(())
    }

    /// Everything that the checks want to know of a batch, before anybody else learns of it.
    fn watch(&mut self, replica: usize, out: &Output) -> Verdict {
        let target = self.replicas[replica]
            .process
            .as_mut()
            .expect("it has just run");
        let status = target.engine.core().status();
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
        let applied = target.engine.applied();
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
            let target = self.replicas[replica]
                .process
                .as_ref()
                .expect("it has just run");
            if slot == applied {
                self.history
                    .check_state(replica, slot, target.engine.machine())?;
            }
        }
        for event in &out.events {
            self.mark_event(event);
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: usize, message: &Message) {
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
        for at_us in self.network.peer_arrivals(self.now_us, from, to) {
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

    fn on_message(&mut self, from: usize, to: usize, link: u64, message: Message) {
        if !self.network.stands(from, to, link) && !self.network.straggles() {
            return;
        }
        let from = NodeId(from as u16 + 1);
        self.deliver(
            to,
            Input::Peer {
                from,
                link,
                message,
            },
        );
    }

    fn start_log(&mut self, replica: usize) {
        let target = &mut self.replicas[replica];
        let Some(process) = &mut target.process else {
            return;
        };
        if process.log_busy.is_some() || process.log_queue.is_empty() {
            return;
        }
        // Everything that waits, or at times only a part.
        let most = if self.dice.permille(100) {
            1
        } else {
            process.log_queue.len()
        };
        process.log_busy = Some(process.log_queue.drain(..most).collect());
        let takes = self.dice.between(self.plan.disk_us.0, self.plan.disk_us.1);
        let at_us = (self.now_us + takes).max(target.stalled_until + takes);
        let life = target.life;
        self.agenda.add(at_us, Event::LogDone { replica, life });
    }

    fn on_log_done(&mut self, replica: usize, life: u64) -> Verdict {
        if !self.is_alive(replica, life) {
            return Ok(());
        }
        let idle = self.dice.permille(400);
        let target = &mut self.replicas[replica];
        if target.stalled_until > self.now_us {
            let at_us = target.stalled_until;
            self.agenda.add(at_us, Event::LogDone { replica, life });
            return Ok(());
        }
        if target.fails_writing {
            self.marks.hit("power failed while writing");
            self.crash(replica, true);
            return Ok(());
        }
        let process = target.process.as_mut().expect("alive");
        let Some(group) = process.log_busy.take() else {
            return Ok(());
        };
        if let Err(error) = process.commit(group.clone()) {
            if matches!(error, wal::Error::NoSpace { .. }) {
                self.marks.hit("log waits for room");
                process.log_busy = Some(group);
                self.agenda
                    .add(self.now_us + 50 * MS, Event::LogDone { replica, life });
                return Ok(());
            }
            return self.on_disk_error(replica, &error.to_string());
        }
        if idle && process.log_queue.is_empty() {
            let _ = process.writer.idle_marker();
        }
        let seq = group.last().map_or(paxos::WalSeq(0), |append| append.seq);
        for record in group.iter().flat_map(|append| &append.records) {
            self.votes.on_durable(replica, record)?;
        }
        self.deliver(replica, Input::Durable { seq });
        self.start_log(replica);
        Ok(())
    }

    /// What the server's log thread does in idle moments, and the watch over the disk's space.
    fn on_housekeep(&mut self, replica: usize, life: u64) -> Verdict {
        if !self.is_alive(replica, life) {
            return Ok(());
        }
        self.agenda
            .add(self.now_us + 100 * MS, Event::Housekeep { replica, life });
        let hint = self.dice.permille(100);
        let process = self.replicas[replica].process.as_mut().expect("alive");
        if process.log_busy.is_some() {
            return Ok(());
        }
        let mut kept = process.writer.prepare_ahead();
        if hint && kept.is_ok() {
            kept = process.writer.durable_hint();
        }
        let low = process.writer.low_space();
        let changed = std::mem::replace(&mut process.low, low) != low;
        if let Err(error) = kept
            && !matches!(error, wal::Error::NoSpace { .. })
        {
            return self.on_disk_error(replica, &error.to_string());
        }
        if changed {
            self.marks.hit(if low {
                "log disk low"
            } else {
                "log disk has room again"
            });
            self.deliver(replica, Input::DiskLow(low));
        }
        Ok(())
    }

    /// A write or sync failed: the process ends with exit code 6 and is started again.
    fn on_disk_error(&mut self, replica: usize, error: &str) -> Verdict {
        ensure(
            self.plan.has(Fault::SyncError) || self.plan.has(Fault::Full),
            "disk",
            || format!("replica {replica}: the disk failed without an order to: {error}"),
        )?;
        self.trace
            .line(self.now_us, format_args!("r{replica} disk error: {error}"));
        self.marks.hit("process ended by a disk error");
        self.crash(replica, false);
        Ok(())
    }

    /// Carries out effects in order, as far as there is room.
    fn carry_out(&mut self, replica: usize) -> Verdict {
        loop {
            let Some(process) = &mut self.replicas[replica].process else {
                return Ok(());
            };
            let Some(effect) = process.effects.pop_front() else {
                break;
            };
            match effect {
                Effect::Reply { conn, response } => self.reply(replica, conn, response),
                Effect::File(op) => match process.files.apply(&op) {
                    Ok(()) => {}
                    Err(FileError::Full { .. }) => {
                        process.effects.push_front(Effect::File(op));
                        return self.block(replica);
                    }
                    Err(error) => return self.on_disk_error(replica, &error.to_string()),
                },
                Effect::ReadFile(read) => match process.files.read(&read) {
                    Ok(data) => self.reply(replica, read.origin.conn, read.answer(data)),
                    Err(ReadError::Unchecked) => {
                        self.marks.hit("read waits for a check");
                        process.effects.push_front(Effect::ReadFile(read));
                        return self.block(replica);
                    }
                    Err(ReadError::Failed(error)) => {
                        return ensure(false, "S6", || {
                            format!("replica {replica}: {error:?} on {read:?}")
                        });
                    }
                },
            }
        }
        let Some(process) = &mut self.replicas[replica].process else {
            return Ok(());
        };
        if process.blocked {
            process.blocked = false;
            self.deliver(replica, Input::FilesBlocked(false));
        }
        Ok(())
    }

    fn block(&mut self, replica: usize) -> Verdict {
        let life = self.replicas[replica].life;
        self.agenda
            .add(self.now_us + 20 * MS, Event::RetryEffects { replica, life });
        let Some(process) = &mut self.replicas[replica].process else {
            return Ok(());
        };
        if !process.blocked {
            process.blocked = true;
            self.marks.hit("effects wait");
            self.deliver(replica, Input::FilesBlocked(true));
        }
        Ok(())
    }

    fn on_snapshot(&mut self, replica: usize, life: u64) -> Verdict {
        if !self.is_alive(replica, life) {
            return Ok(());
        }
        let disk = self.replicas[replica].disk.clone();
        let process = self.replicas[replica].process.as_mut().expect("alive");
        if !process.effects.is_empty() {
            // The files are behind the state that the snapshot was taken of.
            self.agenda
                .add(self.now_us + 20 * MS, Event::Snapshot { replica, life });
            return Ok(());
        }
        let Some(job) = process.snapshot.take() else {
            return Ok(());
        };
        match process.save_snapshot(&disk, &job) {
            Ok(saved) => {
                self.marks.hit("snapshot saved");
                self.deliver(replica, saved);
                Ok(())
            }
            Err(error) => {
                if self.plan.has(Fault::Full) && !self.plan.has(Fault::SyncError) {
                    self.marks.hit("snapshot failed");
                    self.deliver(replica, Input::SnapshotFailed);
                    return Ok(());
                }
                self.on_disk_error(replica, &error)
            }
        }
    }

    fn release(&mut self, replica: usize, release: paxos::ReleaseLog) -> Verdict {
        let process = self.replicas[replica]
            .process
            .as_mut()
            .expect("it has just run");
        let removed = process
            .writer
            .remove_prefix(release.snapshot.0, release.needed.0, 1 << 40);
        match removed {
            Ok(removed) if removed.segments > 0 => {
                self.marks.hit("log cut");
                self.deliver(
                    replica,
                    Input::LogTrimmed {
                        first: Slot(removed.first_slot),
                    },
                );
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => self.on_disk_error(replica, &error.to_string()),
        }
    }

    fn on_check_files(&mut self, replica: usize, life: u64) -> Verdict {
        if !self.is_alive(replica, life) {
            return Ok(());
        }
        let process = self.replicas[replica].process.as_mut().expect("alive");
        match process.files.check_slice(10_000) {
            CheckStep::Idle => return Ok(()),
            CheckStep::Damaged(why) => {
                return ensure(false, "S6", || format!("replica {replica}: {why}"));
            }
            CheckStep::Working | CheckStep::Checked(_) => {}
        }
        self.agenda
            .add(self.now_us + 10 * MS, Event::CheckFiles { replica, life });
        Ok(())
    }

    // ---- lives of replicas

    fn on_start(&mut self, replica: usize) -> Verdict {
        if self.replicas[replica].process.is_some() {
            return Ok(());
        }
        let interrupted = !self.healed && self.plan.has(Fault::Crash) && self.dice.permille(100);
        if interrupted {
            let disk = &self.replicas[replica].disk;
            disk.halt_at(disk.calls() + self.dice.between(1, 40));
        }
        let found = match self.replicas[replica].start(self.now_us) {
            Ok(found) => found,
            Err(_) if interrupted && self.replicas[replica].disk.is_halted() => {
                self.marks.hit("died while starting");
                self.crash(replica, true);
                return Ok(());
            }
            Err(refusal) => return self.on_refusal(replica, &refusal),
        };
        if interrupted && self.replicas[replica].disk.is_halted() {
            self.crash(replica, true);
            return Ok(());
        }
        self.replicas[replica].disk.halt_at(u64::MAX);
        let life = self.replicas[replica].life;
        self.trace.mix(&[
            90,
            replica as u64,
            life,
            found.chosen.0,
            found.accepted.len() as u64,
        ]);
        self.trace.line(
            self.now_us,
            format_args!(
                "r{replica} starts: applied {}, {} above",
                found.chosen,
                found.accepted.len()
            ),
        );
        self.mark_start(&found);
        self.votes
            .on_restart(replica, life, found.promised, found.chosen, &found.accepted)?;
        self.check_restored(replica, found.chosen)?;
        self.agenda
            .add(self.now_us + MS, Event::CheckFiles { replica, life });
        self.agenda
            .add(self.now_us + MS, Event::Housekeep { replica, life });
        self.run_soon(replica);
        Ok(())
    }

    fn on_refusal(&mut self, replica: usize, refusal: &node::boot::Refusal) -> Verdict {
        let excused = (self.plan.has(Fault::Full) || self.plan.has(Fault::SyncError))
            && refusal.exit == 6
            && !self.healed;
        ensure(excused, "boot", || {
            format!("replica {replica} does not start: {refusal}")
        })?;
        self.crash(replica, false);
        Ok(())
    }

    /// S1 and S6 right after a replay.
    fn check_restored(&mut self, replica: usize, applied: Slot) -> Verdict {
        // Chosen and applied nowhere yet, as when all that knew of it wait for room.
        while self.history.last() < applied {
            let slot = self.history.last().next();
            let entry = self.votes.chosen(slot).cloned().ok_or_else(|| Violation {
                check: "R4",
                detail: format!("replica {replica} replayed slot {slot}, which is not chosen"),
            })?;
            self.history.on_applied(&self.votes, slot, &entry)?;
        }
        let process = self.replicas[replica]
            .process
            .as_ref()
            .expect("it has just started");
        self.history
            .check_state(replica, applied, process.engine.machine())?;
        self.check_files(replica)
    }

    /// S6: the bytes on the disk, read past the file store.
    fn check_files(&self, replica: usize) -> Verdict {
        use wal::storage::Disk as _;
        let target = &self.replicas[replica];
        let process = target.process.as_ref().expect("it runs");
        self.history
            .check_files(replica, process.engine.applied(), |name, length| {
                let file = target
                    .disk
                    .open_read(&format!("files/{name}"))
                    .map_err(|error| format!("replica {replica}: file {name}: {error}"))?;
                let mut bytes = vec![0; length as usize];
                let read = file
                    .read_at(&mut bytes, 0)
                    .map_err(|error| error.to_string())?;
                bytes.truncate(read);
                Ok((bytes, file.len().map_err(|error| error.to_string())?))
            })
    }

    /// A process ends and is started again later; its peers and clients learn of it, or do not.
    pub(super) fn crash(&mut self, replica: usize, power_fails: bool) {
        self.trace.mix(&[91, replica as u64]);
        self.trace.line(
            self.now_us,
            format_args!("r{replica} dies, power fails: {power_fails}"),
        );
        let mut dice = Dice::new(self.dice.word(), 7);
        self.replicas[replica].crash(&mut dice, power_fails);
        for peer in 0..self.replicas.len() {
            if peer != replica && self.network.disconnect(replica, peer) {
                self.tell_down(peer, replica, true);
            }
        }
        let conns: Vec<(usize, usize)> = self
            .conns
            .keys()
            .filter(|(_, at)| *at == replica)
            .copied()
            .collect();
        for key in conns {
            self.conns.remove(&key);
        }
        let longest = if self.healed { 100 * MS } else { 1_500 * MS };
        let at_us = self.now_us + self.dice.between(5 * MS, longest);
        self.agenda.add(at_us, Event::Start { replica });
    }

    /// One end of a broken connection learns of it.
    pub(super) fn tell_down(&mut self, at: usize, peer: usize, reset: bool) {
        let Some(process) = &mut self.replicas[at].process else {
            return;
        };
        let Some(link) = process.links.remove(&peer) else {
            return;
        };
        let life = self.replicas[at].life;
        let lost = !self.network.passes(peer, at);
        let wait = if lost {
            self.dice.between(50 * MS, SECOND)
        } else {
            self.network.latency()
        };
        let input = Input::PeerDown {
            peer: NodeId(peer as u16 + 1),
            link,
            reset: reset && !lost,
        };
        self.agenda.add(
            self.now_us + wait,
            Event::Deliver {
                replica: at,
                life,
                input,
            },
        );
    }

    fn mesh(&mut self) {
        self.agenda.add(self.now_us + MESH_EVERY_US, Event::Mesh);
        for low in 0..self.replicas.len() {
            for high in low + 1..self.replicas.len() {
                self.connect(low, high);
            }
        }
    }

    fn connect(&mut self, low: usize, high: usize) {
        let ready = |replica: &Replica| replica.process.is_some() && replica.paused_until.is_none();
        if !ready(&self.replicas[low]) || !ready(&self.replicas[high]) {
            return;
        }
        let Some((link, at_low, at_high)) = self.network.connect(self.now_us, low, high) else {
            return;
        };
        for (at, peer, at_us) in [(low, high, at_low), (high, low, at_high)] {
            let process = self.replicas[peer].process.as_ref().expect("both run");
            let hello = process.engine.core().hello(NodeId(at as u16 + 1));
            let peer_id = NodeId(peer as u16 + 1);
            let life = self.replicas[at].life;
            self.replicas[at]
                .process
                .as_mut()
                .expect("both run")
                .links
                .insert(peer, link);
            let input = Input::PeerUp {
                peer: peer_id,
                link,
                hello,
            };
            self.agenda.add(
                at_us,
                Event::Deliver {
                    replica: at,
                    life,
                    input,
                },
            );
        }
    }

    /// A process that was asked to end does so once it is drained.
    fn end_process(&mut self, replica: usize) -> Verdict {
        let now = self.replicas[replica].now(self.now_us);
        let Some(process) = &self.replicas[replica].process else {
            return Ok(());
        };
        if !process.ending || !process.engine.is_drained(now.mono) {
            return Ok(());
        }
        self.marks.hit("ended in order");
        if process.log_busy.is_none()
            && process.log_queue.is_empty()
            && let Some(process) = self.replicas[replica].process.take()
        {
            let _ = process.writer.close();
        }
        self.crash(replica, false);
        Ok(())
    }

    // ---- clients

    fn schedule_client(&mut self, client: usize, now_us: u64) {
        let (model, clock) = &self.clients[client];
        let next = model.next_wake();
        if next == i64::MAX {
            return;
        }
        let at_us = clock.real(next).max(now_us + 1);
        self.client_wakes[client] += 1;
        let wake = self.client_wakes[client];
        self.agenda.add(at_us, Event::ClientWake { client, wake });
    }

    fn after_client(&mut self, client: usize) -> Verdict {
        for act in self.clients[client].0.take_acts() {
            match act {
                Act::Send {
                    replica,
                    request,
                    call,
                    what,
                } => {
                    let answered = self.history.answered();
                    let floor = *self.floors.entry(call).or_insert(answered);
                    self.trace.line(
                        self.now_us,
                        format_args!("c{client} -> r{replica} {:x} {what:?}", request.id),
                    );
                    self.asked.insert(request.id, Asked { what, floor });
                    let conn = self.conn(client, replica);
                    for at_us in self.network.client_arrivals(self.now_us) {
                        let request = request.clone();
                        self.agenda.add(
                            at_us,
                            Event::Request {
                                replica,
                                conn,
                                request,
                            },
                        );
                    }
                }
                Act::Believe {
                    lock,
                    token,
                    until_us,
                } => {
                    let until = until_us.map(|until| self.clients[client].1.real(until));
                    self.trace.line(
                        self.now_us,
                        format_args!("c{client} believes in {lock} token {token} until {until:?}"),
                    );
                    self.marks.hit("belief");
                    self.beliefs
                        .on_belief(self.now_us, &lock, (client, token), until)?;
                }
            }
        }
        self.schedule_client(client, self.now_us);
        Ok(())
    }

    fn conn(&mut self, client: usize, replica: usize) -> u64 {
        let next = &mut self.next_conn;
        let conn = *self.conns.entry((client, replica)).or_insert_with(|| {
            *next += 1;
            *next
        });
        self.conn_owners.insert(conn, client);
        conn
    }

    /// A client's connection breaks.
    pub(super) fn reset_client(&mut self, client: usize) {
        for replica in 0..self.replicas.len() {
            if let Some(conn) = self.conns.remove(&(client, replica)) {
                let life = self.replicas[replica].life;
                let input = Input::ClientGone { conn: ConnId(conn) };
                let at_us = self.now_us + self.network.latency();
                self.agenda.add(
                    at_us,
                    Event::Deliver {
                        replica,
                        life,
                        input,
                    },
                );
            }
        }
    }

    /// A client does nothing for a while.
    pub(super) fn pause_client(&mut self, client: usize, for_us: u64) {
        let until = self.clients[client].1.local(self.now_us + for_us);
        self.clients[client].0.pause(until);
        self.schedule_client(client, self.now_us);
    }

    fn on_request(&mut self, replica: usize, conn: u64, request: net::Request) {
        let client = self.conn_owners[&conn];
        if self.replicas[replica].process.is_none() {
            let what = ToClient::Broken(request.id);
            let at_us = self.now_us + self.network.latency();
            self.agenda.add(at_us, Event::ToClient { client, what });
            return;
        }
        self.deliver(
            replica,
            Input::Client {
                conn: ConnId(conn),
                request,
            },
        );
    }

    fn reply(&mut self, replica: usize, conn: ConnId, response: net::Response) {
        let client = self.conn_owners[&conn.0];
        self.trace.line(
            self.now_us,
            format_args!(
                "r{replica} -> c{client} {:x} {}",
                response.id,
                name_of(&response.body)
            ),
        );
        for at_us in self.network.client_arrivals(self.now_us) {
            let what = ToClient::Response(response.clone());
            self.agenda.add(at_us, Event::ToClient { client, what });
        }
    }

    fn on_to_client(&mut self, client: usize, what: ToClient) -> Verdict {
        let now = self.clients[client].1.local(self.now_us);
        let (model, _) = &mut self.clients[client];
        if now < model.paused_until() {
            let at_us = self.clients[client]
                .1
                .real(self.clients[client].0.paused_until());
            self.agenda.add(at_us, Event::ToClient { client, what });
            return Ok(());
        }
        match what {
            ToClient::Broken(request) => model.on_broken(now, request),
            ToClient::Response(response) => {
                if let Some(asked) = self.asked.get(&response.id) {
                    self.history.on_answer(asked, &response.body)?;
                }
                self.trace
                    .mix(&[92, client as u64, response.id, self.now_us]);
                self.mark_answer(&response.body);
                self.clients[client]
                    .0
                    .on_response(now, response.id, response.body);
            }
        }
        self.after_client(client)
    }

    // ---- the second phase

    fn heal(&mut self) {
        self.healed = true;
        self.network.heal();
        self.plan.disk_us = (50, 300);
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

    /// First: one leader, and new work is begun. Then: the work is done, all is equal.
    fn judge(&mut self) -> Verdict {
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
            replica
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

    pub(super) fn leads(&self, replica: usize) -> bool {
        let process = self.replicas[replica].process.as_ref();
        process.is_some_and(|process| process.engine.core().role() == Role::Leader)
    }

    fn check_sections(&self) -> Verdict {
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
    fn describe(&self) -> String {
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
    pub fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    /// How many clients there are.
    pub(super) fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// Slots that were chosen.
    pub fn slots(&self) -> u64 {
        self.history.last().0
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

fn name_of(body: &ResponseBody) -> String {
    match body {
        ResponseBody::Outcome {
            slot,
            stamp_ms,
            bytes,
        } => {
            format!(
                "outcome at {slot} L {stamp_ms:?} {:?}",
                statemachine::Outcome::decode(bytes)
            )
        }
        other => {
            let mut text = format!("{other:?}");
            text.truncate(120);
            text
        }
    }
}
