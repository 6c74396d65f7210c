//! The whole: replicas, clients, network, faults and checks, driven by one agenda.
//!
//! Two phases. First faults strike while clients work. Then everything is healed and all replicas are
//! started; within a bounded time there must be one leader, equal state everywhere, and new work done.

mod birth;
mod copies;
mod drive;
mod judge;
mod lives;
mod storage;
mod talk;
mod twin;

use std::collections::{BTreeMap, BTreeSet};

use copies::Copy;
use paxos::Slot;
use paxos::birth::BirthRecord;
use twin::Twin;

use super::check::beliefs::Beliefs;
use super::check::history::{Asked, History};
use super::check::votes::Votes;
use super::check::{Verdict, Violation, ensure};
use super::client::Client;
use super::dice::Dice;
use super::event::{Agenda, Event};
use super::marks::Marks;
use super::network::Network;
use super::plan::{MS, Plan};
use super::replica::{self, Clock, Replica};
use super::trace::Trace;

/// How often it is looked at whether commits go on.
const WATCH_EVERY_US: u64 = 50 * MS;

/// Everything there is. See the module.
#[derive(Debug)]
pub(crate) struct World {
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
    /// When the replica learns of the end of a connection.
    gone_conns: BTreeMap<u64, u64>,
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
    /// Replicas that said that they fell behind everybody's log, where logs are capped.
    cut_off: BTreeSet<usize>,
    /// The highest slot applied anywhere, and when it was first seen.
    progress: (Slot, u64),
    /// Replicas that were stopped for good.
    out_of_service: BTreeSet<usize>,
    /// The record with which the cluster was born.
    record: Option<BirthRecord>,
    /// The folder that is replaced.
    copy: Copy,
    /// A second process on a copy of a replica's folder.
    twin: Option<Twin>,
    /// When candidacies and hand-overs began.
    changes: Vec<u64>,
    probed: bool,
    /// When the cluster must have recovered.
    judge_by: u64,
    /// From when on there must be one leader, and always the same.
    lead_by: u64,
    /// Who leads since then, and when that was last seen.
    leader: Option<(usize, u64)>,
    /// How far behind any replica was when the end was last put off for it.
    was_behind: u64,
    done: bool,
}

impl World {
    /// The world of a plan, with a cluster just born.
    pub(crate) fn new(plan: Plan, trace_lines: usize) -> Result<World, Violation> {
        let mut dice = Dice::new(plan.seed, 3);
        let ppm = if plan.drift { 9_900 } else { 0 };
        let replicas = (0..usize::from(plan.replicas))
            .map(|index| {
                let clock = Clock::draw(&mut dice, ppm);
                let config = replica::config(index, &plan);
                Replica::new(index, clock, config, plan.log_cap_bytes)
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
            gone_conns: BTreeMap::new(),
            next_conn: 0,
            asked: BTreeMap::new(),
            floors: BTreeMap::new(),
            votes: Votes::new(usize::from(plan.replicas)),
            history: History::default(),
            beliefs: Beliefs::default(),
            marks: Marks::default(),
            trace: Trace::new(trace_lines),
            healed: false,
            cut_off: BTreeSet::new(),
            progress: (Slot(0), 0),
            out_of_service: BTreeSet::new(),
            record: None,
            copy: Copy::default(),
            twin: None,
            changes: Vec::new(),
            probed: false,
            judge_by: 0,
            lead_by: u64::MAX,
            leader: None,
            was_behind: u64::MAX,
            done: false,
            plan,
        };
        world.bear()?;
        world.prepare_agenda();
        Ok(world)
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
        self.plan_copies();
        self.plan_twin();
        if !self.plan.victims.is_empty() {
            self.agenda.add(WATCH_EVERY_US, Event::Watch);
        }
        if !self.plan.faults.is_empty() {
            self.agenda.add(300 * MS, Event::Nemesis);
        }
    }

    /// Runs to the end.
    pub(crate) fn run(&mut self) -> Verdict {
        while !self.done {
            let Some((at_us, event)) = self.agenda.next() else {
                break;
            };
            self.now_us = at_us;
            self.step(event)?;
            self.watch_leader()?;
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
                self.on_wake(replica, life, wake);
                Ok(())
            }
            Event::LogDone { replica, life } => self.on_log_done(replica, life),
            Event::Snapshot { replica, life } => self.on_snapshot(replica, life),
            Event::FileJob { replica, life, job } => {
                if self.is_alive(replica, life) {
                    self.on_file_job(replica, *job);
                }
                Ok(())
            }
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
            Event::CopyFolder | Event::RememberCopied | Event::PutBack | Event::CheckCopy => {
                self.on_copy_event(&event)
            }
            Event::Twin(event) => self.on_twin_event(event),
            Event::Watch => self.watch_progress(),
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
}
